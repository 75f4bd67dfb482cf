// SPDX-License-Identifier: Apache-2.0
#include "wire/multipart.h"

#include "base/err.h"
#include "chars.h"

//   PREAMBLE ──> DELIMITER ──> HEAD ──> DATA ──> DELIMITER ──> … ──> LAST
enum state {
    PREAMBLE,
    DELIMITER,      // behind a boundary
    DELIMITER_DASH, // one dash behind it
    DELIMITER_CR,
    HEAD,
    HEAD_CR,
    DATA,
    LAST, // behind the last delimiter, whose line end may be missing
    LAST_CR,
    LAST_LF,
};

#define DASHES 2
#define CRLF   2

const char *ch_multipart_error_text(enum ch_multipart_error error)
{
    static const char *const texts[CH_MULTIPART_ERRORS] = {
        [CH_MULTIPART_OK] = "The form is well-formed.",
        [CH_MULTIPART_NOT_A_FORM] = "The body must be multipart/form-data.",
        [CH_MULTIPART_BAD_BOUNDARY] =
            "The Content-Type names no boundary of 1 to 70 plain characters.",
        [CH_MULTIPART_TWO_BOUNDARIES] = "The Content-Type names two boundaries.",
        [CH_MULTIPART_BAD_PARAMETER] =
            "The Content-Type of a form takes a boundary and charset=utf-8, nothing else.",
        [CH_MULTIPART_LONG_PREAMBLE] = "Too many bytes stand before the form's first part.",
        [CH_MULTIPART_BAD_LINE_END] = "A line of the form does not end with CR LF.",
        [CH_MULTIPART_BAD_DELIMITER] = "The form's boundary stands where no delimiter can be.",
        [CH_MULTIPART_TOO_MANY_PARTS] = "The form has too many parts.",
        [CH_MULTIPART_LONG_HEAD] = "The header of a form part is too long.",
        [CH_MULTIPART_MANY_FIELDS] = "A form part has too many header fields.",
        [CH_MULTIPART_BAD_FIELD] = "A header field of a form part is malformed or stands twice.",
        [CH_MULTIPART_BAD_DISPOSITION] = "A form part has no plain Content-Disposition.",
        [CH_MULTIPART_BAD_NAME] =
            "The name of a form part must be 1 to 64 letters, digits or one of . _ - [ ].",
        [CH_MULTIPART_NESTED] = "A form part is itself multipart.",
        [CH_MULTIPART_BAD_ENCODING] = "A form part has a Content-Transfer-Encoding.",
        [CH_MULTIPART_BAD_LENGTH] = "The Content-Length of a form part is not its length.",
        [CH_MULTIPART_AMBIGUOUS_NAME] =
            "A form part's name differs from a known one only in case or by brackets.",
        [CH_MULTIPART_DUPLICATE] = "A form field that may stand once stands twice.",
        [CH_MULTIPART_NOT_PLAIN] =
            "A form field must be plain text: no filename, charset or encoding.",
        [CH_MULTIPART_LONG_VALUE] = "The value of a form field is too long.",
        [CH_MULTIPART_TRAILING] = "Bytes stand behind the form's last delimiter.",
        [CH_MULTIPART_INCOMPLETE] = "The form has no last delimiter.",
    };
    return texts[error];
}

// ---- parameters: `; name=value; name="value"`

enum next {
    NEXT_NONE,
    NEXT_FOUND,
    NEXT_BAD,
};

struct parameter {
    struct ch_span name, value;
    bool is_quoted;
};

// Cuts the value off `rest`. A backslash in a quoted one is an escape to some readers and a byte to
// others, so there may be none.
static bool take_value(struct ch_span *rest, struct parameter *parameter)
{
    const char *end = rest->ptr + rest->len, *close;
    parameter->is_quoted = rest->len > 0 && rest->ptr[0] == '"';
    if (parameter->is_quoted) {
        const char *open = rest->ptr + 1;
        close = memchr(open, '"', rest->len - 1);
        if (!close || memchr(open, '\\', (size_t)(close - open)))
            return false;
        parameter->value = (struct ch_span){open, (size_t)(close - open)};
        close++;
    } else {
        close = ch_chars_skip(rest->ptr, end, CH_CHAR_TOKEN);
        parameter->value = (struct ch_span){rest->ptr, (size_t)(close - rest->ptr)};
    }
    *rest = (struct ch_span){close, (size_t)(end - close)};
    return parameter->is_quoted || parameter->value.len > 0;
}

static enum next next_parameter(struct ch_span *rest, struct parameter *parameter)
{
    *rest = ch_span_trim(*rest);
    if (rest->len == 0)
        return NEXT_NONE;
    if (rest->ptr[0] != ';')
        return NEXT_BAD;
    *rest = ch_span_trim(ch_span_sub(*rest, 1));
    const char *end = rest->ptr + rest->len;
    const char *equals = ch_chars_skip(rest->ptr, end, CH_CHAR_TOKEN);
    if (equals == rest->ptr || equals == end || *equals != '=')
        return NEXT_BAD;
    parameter->name = (struct ch_span){rest->ptr, (size_t)(equals - rest->ptr)};
    *rest = (struct ch_span){equals + 1, (size_t)(end - equals - 1)};
    return take_value(rest, parameter) ? NEXT_FOUND : NEXT_BAD;
}

// ---- the Content-Type

static bool take_form_type(struct ch_span *type)
{
    struct ch_span form = CH_SPAN("multipart/form-data");
    *type = ch_span_trim(*type);
    if (type->len < form.len || !ch_span_ieq((struct ch_span){type->ptr, form.len}, form))
        return false;
    *type = ch_span_sub(*type, form.len);
    return type->len == 0 || type->ptr[0] == ';' || ch_char_is(type->ptr[0], CH_CHAR_BLANK);
}

bool ch_multipart_is_form(struct ch_span content_type)
{
    return take_form_type(&content_type);
}

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// RFC 2046 §5.1.1 without the space, which some readers trim.
static bool is_boundary(const struct parameter *parameter)
{
    for (size_t i = 0; i < parameter->value.len; i++) {
        char c = parameter->value.ptr[i];
        if (!is_alnum(c) && (c == '\0' || !strchr("'()+_,-./:=?", c)))
            return false;
    }
    return parameter->value.len > 0 && parameter->value.len <= CH_MULTIPART_BOUNDARY_MAX;
}

enum ch_multipart_error ch_multipart_boundary(struct ch_span content_type,
                                              struct ch_span *boundary_out)
{
    struct parameter parameter;
    struct ch_span boundary = {0};
    bool has_charset = false;
    enum next next;
    if (!take_form_type(&content_type))
        return CH_MULTIPART_NOT_A_FORM;
    while ((next = next_parameter(&content_type, &parameter)) == NEXT_FOUND) {
        if (ch_span_ieq(parameter.name, CH_SPAN("boundary"))) {
            if (boundary.len)
                return CH_MULTIPART_TWO_BOUNDARIES;
            if (!is_boundary(&parameter))
                return CH_MULTIPART_BAD_BOUNDARY;
            boundary = parameter.value;
        } else if (has_charset || !ch_span_ieq(parameter.name, CH_SPAN("charset")) ||
                   !ch_span_ieq(parameter.value, CH_SPAN("utf-8"))) {
            return CH_MULTIPART_BAD_PARAMETER;
        } else {
            has_charset = true;
        }
    }
    if (next == NEXT_BAD || boundary.len == 0)
        return CH_MULTIPART_BAD_BOUNDARY;
    *boundary_out = boundary;
    return CH_MULTIPART_OK;
}

// ---- the search for the boundary

// The longest border of every prefix of the needle, so that a search never looks back.
static void find_borders(struct ch_multipart *form)
{
    uint8_t border = 0;
    form->failure[0] = 0;
    for (uint8_t i = 1; i < form->needle_len; i++) {
        while (border && form->needle[i] != form->needle[border])
            border = form->failure[border - 1];
        border += form->needle[i] == form->needle[border];
        form->failure[i] = border;
    }
}

// One byte of the search. True: the needle ends here.
static bool match_byte(struct ch_multipart *form, char c)
{
    while (form->matched && form->needle[form->matched] != c)
        form->matched = form->failure[form->matched - 1];
    form->matched += form->needle[form->matched] == c;
    if (form->matched < form->needle_len)
        return false;
    form->matched = 0;
    return true;
}

// Searches on in a piece. `used_out`: up to the needle's end, or all of it.
static bool find_needle(struct ch_multipart *form, struct ch_span piece, size_t *used_out)
{
    size_t at = 0;
    while (at < piece.len && form->matched) {
        if (match_byte(form, piece.ptr[at++])) {
            *used_out = at;
            return true;
        }
    }
    struct ch_span rest = ch_span_sub(piece, at);
    const char *found =
        rest.len ? memmem(rest.ptr, rest.len, form->needle, form->needle_len) : NULL;
    if (found) {
        *used_out = (size_t)(found - piece.ptr) + form->needle_len;
        return true;
    }
    if (rest.len >= form->needle_len) // its beginning may stand at the end
        at = piece.len - form->needle_len + 1;
    for (; at < piece.len; at++)
        (void)match_byte(form, piece.ptr[at]);
    *used_out = piece.len;
    return false;
}

// Keeps as much of the data as may stand before the end of a needle: it, and a line end.
static void remember(struct ch_multipart *form, struct ch_span piece)
{
    size_t most = (size_t)form->needle_len + CRLF;
    if (piece.len > most)
        piece = ch_span_sub(piece, piece.len - most);
    size_t kept = most - piece.len < form->recent_len ? most - piece.len : form->recent_len;
    memmove(form->recent, form->recent + form->recent_len - kept, kept);
    if (piece.len)
        memcpy(form->recent + kept, piece.ptr, piece.len);
    form->recent_len = (uint8_t)(kept + piece.len);
}

// Whether a needle that ends with what was remembered begins a line.
static bool begins_a_line(const struct ch_multipart *form)
{
    size_t most = (size_t)form->needle_len + CRLF;
    return form->recent_len == most && memcmp(form->recent, "\r\n", CRLF) == 0;
}

// ---- the head of a part

static void begin_head(struct ch_multipart *form)
{
    form->state = HEAD;
    form->is_file = form->is_typed = form->is_disposed = form->is_encoded = false;
    form->has_odd_field = form->is_plain_type = false;
    form->field = -1;
    form->field_count = form->head_bytes = 0;
    form->stated_length = -1;
    form->line_len = 0;
}

static bool is_name(struct ch_span name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!is_alnum(name.ptr[i]) && (name.ptr[i] == '\0' || !strchr("_.-[]", name.ptr[i])))
            return false;
    // RFC 7578 §4.6: a field of this name would change how the others read.
    return name.len > 0 && name.len <= CH_MULTIPART_NAME_MAX &&
           !ch_span_ieq(name, CH_SPAN("_charset_"));
}

// "model[]" and "model[0]" are `model` to some frameworks, and "Model" to others.
static struct ch_span without_brackets(struct ch_span name)
{
    const char *bracket = memchr(name.ptr, '[', name.len);
    return bracket ? (struct ch_span){name.ptr, (size_t)(bracket - name.ptr)} : name;
}

static enum ch_multipart_error take_name(struct ch_multipart *form, struct ch_span name)
{
    if (!is_name(name))
        return CH_MULTIPART_BAD_NAME;
    for (size_t i = 0; i < form->wanted_count; i++) {
        struct ch_span wanted = ch_span_of(form->wanted[i]);
        if (ch_span_eq(name, wanted))
            form->field = (int)i;
        else if (ch_span_ieq(without_brackets(name), wanted))
            return CH_MULTIPART_AMBIGUOUS_NAME;
    }
    return CH_MULTIPART_OK;
}

// A reader that splits at semicolons without minding quotes would find another name in this.
static bool is_filename(struct ch_span filename)
{
    bool has_name = false;
    for (size_t i = 0; i + 4 <= filename.len; i++)
        has_name |= ch_span_ieq((struct ch_span){filename.ptr + i, 4}, CH_SPAN("name"));
    return !has_name || filename.len == 0 || !memchr(filename.ptr, ';', filename.len);
}

static enum ch_multipart_error read_disposition(struct ch_multipart *form, struct ch_span value)
{
    struct ch_span type = CH_SPAN("form-data");
    struct parameter parameter;
    bool has_name = false, has_filename = false, has_extended = false;
    enum next next;
    if (form->is_disposed || !ch_span_starts(value, type))
        return CH_MULTIPART_BAD_DISPOSITION;
    form->is_disposed = true;
    value = ch_span_sub(value, type.len);
    while ((next = next_parameter(&value, &parameter)) == NEXT_FOUND) {
        bool *seen = ch_span_eq(parameter.name, CH_SPAN("name"))        ? &has_name
                     : ch_span_eq(parameter.name, CH_SPAN("filename"))  ? &has_filename
                     : ch_span_eq(parameter.name, CH_SPAN("filename*")) ? &has_extended
                                                                        : NULL;
        if (!seen || *seen || (seen != &has_name && !is_filename(parameter.value)))
            return CH_MULTIPART_BAD_DISPOSITION;
        *seen = true;
        enum ch_multipart_error error =
            seen == &has_name ? take_name(form, parameter.value) : CH_MULTIPART_OK;
        if (error)
            return error;
    }
    form->is_file = has_filename || has_extended;
    return next == NEXT_BAD || !has_name ? CH_MULTIPART_BAD_DISPOSITION : CH_MULTIPART_OK;
}

static enum ch_multipart_error read_type(struct ch_multipart *form, struct ch_span value)
{
    struct ch_span multipart = CH_SPAN("multipart/");
    if (form->is_typed)
        return CH_MULTIPART_BAD_FIELD;
    form->is_typed = true;
    form->is_plain_type = ch_span_ieq(value, CH_SPAN("text/plain"));
    bool is_nested = value.len >= multipart.len &&
                     ch_span_ieq((struct ch_span){value.ptr, multipart.len}, multipart);
    return is_nested ? CH_MULTIPART_NESTED : CH_MULTIPART_OK;
}

// RFC 7578 §4.7 deprecates the field; the three that change nothing are sent with files still.
static enum ch_multipart_error read_encoding(struct ch_multipart *form, struct ch_span value)
{
    bool is_identity = ch_span_ieq(value, CH_SPAN("binary")) ||
                       ch_span_ieq(value, CH_SPAN("8bit")) || ch_span_ieq(value, CH_SPAN("7bit"));
    if (form->is_encoded)
        return CH_MULTIPART_BAD_FIELD;
    form->is_encoded = true;
    return is_identity ? CH_MULTIPART_OK : CH_MULTIPART_BAD_ENCODING;
}

static enum ch_multipart_error read_length(struct ch_multipart *form, struct ch_span value)
{
    if (form->stated_length >= 0)
        return CH_MULTIPART_BAD_FIELD;
    return ch_span_to_int64(value, &form->stated_length) ? CH_MULTIPART_BAD_LENGTH
                                                         : CH_MULTIPART_OK;
}

static enum ch_multipart_error read_field(struct ch_multipart *form)
{
    static const struct {
        struct ch_span name;
        enum ch_multipart_error (*read)(struct ch_multipart *form, struct ch_span value);
    } readers[] = {{{"content-disposition", 19}, read_disposition},
                   {{"content-type", 12}, read_type},
                   {{"content-transfer-encoding", 25}, read_encoding},
                   {{"content-length", 14}, read_length}};
    const char *end = form->line + form->line_len;
    const char *colon = ch_chars_skip(form->line, end, CH_CHAR_TOKEN);
    if (++form->field_count > CH_MULTIPART_FIELDS_MAX)
        return CH_MULTIPART_MANY_FIELDS;
    if (colon == form->line || colon == end || *colon != ':')
        return CH_MULTIPART_BAD_FIELD; // also a line that is folded into the one before
    struct ch_span name = {form->line, (size_t)(colon - form->line)};
    struct ch_span value = ch_span_trim((struct ch_span){colon + 1, (size_t)(end - colon - 1)});
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
        if (ch_span_ieq(name, readers[i].name))
            return readers[i].read(form, value);
    form->has_odd_field = true;
    return CH_MULTIPART_OK;
}

static enum ch_multipart_error end_head(struct ch_multipart *form)
{
    if (!form->is_disposed)
        return CH_MULTIPART_BAD_DISPOSITION;
    if (++form->part_count > CH_MULTIPART_PARTS_MAX)
        return CH_MULTIPART_TOO_MANY_PARTS;
    if (form->field >= 0) {
        uint32_t bit = UINT32_C(1) << form->field;
        if (form->is_file || form->is_encoded || form->has_odd_field ||
            (form->is_typed && !form->is_plain_type))
            return CH_MULTIPART_NOT_PLAIN;
        if (form->seen & bit)
            return CH_MULTIPART_DUPLICATE;
        form->seen |= bit;
    }
    form->state = DATA;
    form->data_at = form->offset;
    form->matched = form->recent_len = 0;
    form->value_len = 0;
    return CH_MULTIPART_OK;
}

static enum ch_multipart_error read_head_byte(struct ch_multipart *form, char c)
{
    if (++form->head_bytes > CH_MULTIPART_HEAD_MAX)
        return CH_MULTIPART_LONG_HEAD;
    if (c == '\n')
        return CH_MULTIPART_BAD_LINE_END;
    if (c == '\r') {
        form->state = HEAD_CR;
        return CH_MULTIPART_OK;
    }
    if (!ch_char_is(c, CH_CHAR_VALUE))
        return CH_MULTIPART_BAD_FIELD;
    if (form->line_len == CH_MULTIPART_LINE_MAX)
        return CH_MULTIPART_LONG_HEAD;
    form->line[form->line_len++] = c;
    return CH_MULTIPART_OK;
}

static enum ch_multipart_error end_head_line(struct ch_multipart *form, char c)
{
    if (c != '\n')
        return CH_MULTIPART_BAD_LINE_END;
    form->head_bytes++;
    form->state = HEAD;
    if (form->line_len == 0)
        return end_head(form);
    enum ch_multipart_error error = read_field(form);
    form->line_len = 0;
    return error;
}

// ---- data

// The data with their delimiter, as far as they came, must fit: the value is what stands before it.
static enum ch_multipart_error keep_value(struct ch_multipart *form, struct ch_span piece)
{
    size_t most = CH_MULTIPART_VALUE_MAX + CRLF + form->needle_len;
    if (form->field < 0)
        return CH_MULTIPART_OK;
    if (piece.len > most - form->value_len)
        return CH_MULTIPART_LONG_VALUE;
    if (piece.len)
        memcpy(form->value + form->value_len, piece.ptr, piece.len);
    form->value_len = (uint16_t)(form->value_len + piece.len);
    return CH_MULTIPART_OK;
}

static enum ch_multipart_error end_data(struct ch_multipart *form)
{
    uint64_t end = form->offset - form->needle_len - CRLF, len = end - form->data_at;
    if (!begins_a_line(form))
        return CH_MULTIPART_BAD_DELIMITER;
    if (form->stated_length >= 0 && (uint64_t)form->stated_length != len)
        return CH_MULTIPART_BAD_LENGTH;
    if (form->is_file)
        form->file_bytes += len;
    if (form->field >= 0)
        form->on_value(form->arg, &(struct ch_multipart_value){.field = (size_t)form->field,
                                                               .text = {form->value, (size_t)len},
                                                               .at = form->data_at,
                                                               .end = end});
    form->state = DELIMITER;
    return CH_MULTIPART_OK;
}

static enum ch_multipart_error read_data(struct ch_multipart *form, struct ch_span *piece)
{
    size_t used;
    bool is_found = find_needle(form, *piece, &used);
    struct ch_span data = {piece->ptr, used};
    *piece = ch_span_sub(*piece, used);
    form->offset += used;
    remember(form, data);
    enum ch_multipart_error error = keep_value(form, data);
    return error || !is_found ? error : end_data(form);
}

// ---- before and between the parts

static enum ch_multipart_error read_preamble_byte(struct ch_multipart *form, char c)
{
    size_t used;
    char last = form->recent[form->recent_len - 1];
    if ((c == '\n') != (last == '\r'))
        return CH_MULTIPART_BAD_LINE_END;
    bool is_found = find_needle(form, (struct ch_span){&c, 1}, &used);
    remember(form, (struct ch_span){&c, 1});
    if (!is_found)
        return form->offset >= CH_MULTIPART_PREAMBLE_MAX + CRLF + (uint64_t)form->needle_len
                   ? CH_MULTIPART_LONG_PREAMBLE
                   : CH_MULTIPART_OK;
    form->state = DELIMITER;
    return begins_a_line(form) ? CH_MULTIPART_OK : CH_MULTIPART_BAD_DELIMITER;
}

// Blanks behind a boundary are padding to RFC 2046 and part of the line to some readers.
static enum ch_multipart_error read_delimiter_byte(struct ch_multipart *form, char c)
{
    if (c == '\n')
        return CH_MULTIPART_BAD_LINE_END;
    if (c != '-' && c != '\r')
        return CH_MULTIPART_BAD_DELIMITER;
    form->state = c == '-' ? DELIMITER_DASH : DELIMITER_CR;
    return CH_MULTIPART_OK;
}

static enum ch_multipart_error read_byte(struct ch_multipart *form, char c)
{
    form->offset++;
    switch ((enum state)form->state) {
    case PREAMBLE:
        return read_preamble_byte(form, c);
    case DELIMITER:
        return read_delimiter_byte(form, c);
    case DELIMITER_DASH:
        form->state = LAST;
        return c == '-' ? CH_MULTIPART_OK : CH_MULTIPART_BAD_DELIMITER;
    case DELIMITER_CR:
        begin_head(form);
        return c == '\n' ? CH_MULTIPART_OK : CH_MULTIPART_BAD_LINE_END;
    case HEAD:
        return read_head_byte(form, c);
    case HEAD_CR:
        return end_head_line(form, c);
    case LAST:
        form->state = LAST_CR;
        return c == '\r' ? CH_MULTIPART_OK : CH_MULTIPART_TRAILING;
    case LAST_CR:
        form->state = LAST_LF;
        return c == '\n' ? CH_MULTIPART_OK : CH_MULTIPART_TRAILING;
    case LAST_LF:
        return CH_MULTIPART_TRAILING;
    case DATA: // read_data takes these in pieces
        break;
    }
    return CH_MULTIPART_OK;
}

// ---- the parser

void ch_multipart_init(struct ch_multipart *form, struct ch_span boundary,
                       const char *const *wanted, size_t wanted_count,
                       ch_multipart_value_fn on_value, void *arg)
{
    CH_ASSERT(boundary.len > 0 && boundary.len <= CH_MULTIPART_BOUNDARY_MAX);
    CH_ASSERT(wanted_count <= CH_MULTIPART_WANTED_MAX);
    // Not the buffers: they are long, and their lengths say what of them counts.
    form->offset = form->file_bytes = form->data_at = 0;
    form->wanted = wanted;
    form->wanted_count = wanted_count;
    form->on_value = on_value;
    form->arg = arg;
    form->error = CH_MULTIPART_OK;
    form->seen = form->part_count = 0;
    form->matched = 0;
    form->value_len = 0;
    begin_head(form);
    form->state = PREAMBLE;
    memcpy(form->needle, "--", DASHES);
    memcpy(form->needle + DASHES, boundary.ptr, boundary.len);
    form->needle_len = (uint8_t)(boundary.len + DASHES);
    find_borders(form);
    memcpy(form->recent, "\r\n", CRLF); // the body begins a line
    form->recent_len = CRLF;
}

enum ch_multipart_error ch_multipart_feed(struct ch_multipart *form, struct ch_span piece)
{
    while (piece.len && !form->error) {
        if (form->state == DATA) {
            form->error = read_data(form, &piece);
        } else {
            form->error = read_byte(form, piece.ptr[0]);
            piece = ch_span_sub(piece, 1);
        }
    }
    return form->error;
}

enum ch_multipart_error ch_multipart_finish(struct ch_multipart *form)
{
    if (!form->error && form->state == LAST_CR)
        form->error = CH_MULTIPART_TRAILING;
    else if (!form->error && form->state != LAST && form->state != LAST_LF)
        form->error = CH_MULTIPART_INCOMPLETE;
    return form->error;
}
