// SPDX-License-Identifier: Apache-2.0
#define PCRE2_CODE_UNIT_WIDTH 8
#include "scrub_private.h"

#include "base/secret.h"

#include <pcre2.h>

// PCRE2 interprets; its compiler to machine code (JIT) is never asked for: it needs memory that is
// writable and executable, which the service's sandbox forbids, and its limits are coarser.

#define PARENTHESES_MAX 50  // nested in one pattern
#define MESSAGE_MAX     128 // bytes of PCRE2's own words
#define ECHO_MAX        40  // bytes of the operator's pattern repeated in a sentence

struct ch_scrub_patterns {
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    size_t count;
    pcre2_code *codes[CH_SCRUB_PATTERNS_MAX];
};

// ---- Compiling

static void *allocate(size_t size, void *arg)
{
    (void)arg;
    return ch_zmalloc(size);
}

static void release(void *ptr, void *arg)
{
    (void)arg;
    ch_zfree(ptr);
}

static enum ch_err refuse(struct ch_why *why, size_t number, struct ch_span pattern, int code,
                          size_t offset)
{
    PCRE2_UCHAR message[MESSAGE_MAX];
    if (pcre2_get_error_message(code, message, sizeof message) < 0)
        message[0] = '\0';
    int shown = (int)(pattern.len < ECHO_MAX ? pattern.len : ECHO_MAX);
    return ch_why_set(why, CH_ERR_INVALID, "pattern %zu (%.*s%s): at offset %zu: %s", number, shown,
                      pattern.ptr, pattern.len > ECHO_MAX ? "..." : "", offset,
                      (const char *)message);
}

static enum ch_err compile(struct ch_scrub_patterns *patterns, pcre2_compile_context *context,
                           struct ch_span pattern, struct ch_why *why)
{
    size_t number = patterns->count + 1;
    int code = 0;
    PCRE2_SIZE offset = 0;
    if (pattern.len == 0)
        return ch_why_set(why, CH_ERR_INVALID, "pattern %zu is empty", number);
    if (pattern.len > CH_SCRUB_PATTERN_MAX)
        return ch_why_set(why, CH_ERR_LIMIT, "pattern %zu is longer than %d bytes: at offset %d",
                          number, CH_SCRUB_PATTERN_MAX, CH_SCRUB_PATTERN_MAX);
    pcre2_code *compiled = pcre2_compile(
        (PCRE2_SPTR)pattern.ptr, pattern.len,
        PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C, &code, &offset, context);
    if (!compiled)
        return refuse(why, number, pattern, code, offset);
    patterns->codes[patterns->count++] = compiled;
    return CH_OK;
}

static enum ch_err compile_all(struct ch_scrub_patterns *patterns, const struct ch_span *texts,
                               size_t count, struct ch_why *why)
{
    pcre2_compile_context *context = pcre2_compile_context_create(patterns->memory);
    if (!context)
        return ch_why_set(why, CH_ERR_NOMEM, "no memory for patterns");
    pcre2_set_parens_nest_limit(context, PARENTHESES_MAX);
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < count && !err; i++)
        err = compile(patterns, context, texts[i], why);
    pcre2_compile_context_free(context);
    return err;
}

static enum ch_err set_limits(struct ch_scrub_patterns *patterns)
{
    patterns->memory = pcre2_general_context_create(allocate, release, NULL);
    if (!patterns->memory)
        return CH_ERR_NOMEM;
    patterns->limits = pcre2_match_context_create(patterns->memory);
    if (!patterns->limits)
        return CH_ERR_NOMEM;
    pcre2_set_match_limit(patterns->limits, CH_SCRUB_MATCH_LIMIT);
    pcre2_set_depth_limit(patterns->limits, CH_SCRUB_DEPTH_LIMIT);
    pcre2_set_heap_limit(patterns->limits, CH_SCRUB_HEAP_LIMIT_KIB);
    return CH_OK;
}

enum ch_err ch_scrub_patterns_new(const struct ch_span *texts, size_t count,
                                  struct ch_scrub_patterns **patterns_out, struct ch_why *why)
{
    if (count > CH_SCRUB_PATTERNS_MAX)
        return ch_why_set(why, CH_ERR_LIMIT, "%zu patterns are more than %d", count,
                          CH_SCRUB_PATTERNS_MAX);
    struct ch_scrub_patterns *patterns = ch_zcalloc(1, sizeof *patterns);
    if (!patterns)
        return ch_why_set(why, CH_ERR_NOMEM, "no memory for patterns");
    enum ch_err err = set_limits(patterns);
    if (err)
        err = ch_why_set(why, err, "no memory for patterns");
    else
        err = compile_all(patterns, texts, count, why);
    if (err)
        ch_scrub_patterns_free(patterns);
    else
        *patterns_out = patterns;
    return err;
}

void ch_scrub_patterns_free(struct ch_scrub_patterns *patterns)
{
    if (!patterns)
        return;
    for (size_t i = 0; i < patterns->count; i++)
        pcre2_code_free(patterns->codes[i]);
    pcre2_match_context_free(patterns->limits);
    pcre2_general_context_free(patterns->memory);
    ch_zfree(patterns);
}

// ---- Matching

enum { KEPT, REDACTED, REDACTED_QUOTED };

// One text being searched.
struct search {
    const struct ch_scrub_patterns *patterns;
    pcre2_match_data *match;
    struct ch_span text;
    unsigned char *fate; // of each byte of the text
    char *decoded;       // the subject, when it is not the text itself
    uint32_t *origin;    // where in the text each of its bytes comes from, and its end
    struct ch_scrub_report *report;
};

// What the patterns see at once. `origin` NULL: it stands in the text at `at` as it is.
struct subject {
    struct ch_span bytes;
    const uint32_t *origin;
    size_t at;
    bool is_bare; // a number or word of JSON: redacted whole, with quotes
};

static void redact(struct search *search, const struct subject *subject, size_t from, size_t to)
{
    size_t first = subject->origin ? subject->origin[from] : subject->at + from;
    size_t end = subject->origin ? subject->origin[to] : subject->at + to;
    if (subject->is_bare)
        memset(search->fate + subject->at, REDACTED_QUOTED, subject->bytes.len);
    else
        memset(search->fate + first, REDACTED, end - first);
    search->report->matches++;
}

// Finds every match in the subject's window [at, at + len). CH_ERR_LIMIT when the pattern gave up.
static enum ch_err match_window(struct search *search, const pcre2_code *code,
                                const struct subject *subject, size_t at, size_t len)
{
    PCRE2_SPTR window = (PCRE2_SPTR)subject->bytes.ptr + at;
    uint32_t options = PCRE2_NOTEMPTY | (at ? PCRE2_NOTBOL : 0) |
                       (at + len < subject->bytes.len ? PCRE2_NOTEOL : 0);
    for (PCRE2_SIZE from = 0; from < len;) {
        int found =
            pcre2_match(code, window, len, from, options, search->match, search->patterns->limits);
        if (found == PCRE2_ERROR_NOMATCH)
            return CH_OK;
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(search->match);
        // \K in a look-around can turn the ends around: nothing sensible is left to do.
        if (found < 0 || range[0] >= range[1] || range[1] <= from)
            return CH_ERR_LIMIT;
        redact(search, subject, at + range[0], at + range[1]);
        from = range[1];
    }
    return CH_OK;
}

// In windows, because the time of an innocent pattern such as `\w+@` grows with the square of a
// run's length without a step that the limits count.
static enum ch_err match_one(struct search *search, const pcre2_code *code,
                             const struct subject *subject)
{
    enum ch_err err = CH_OK;
    for (size_t at = 0; at < subject->bytes.len && !err;) {
        size_t left = subject->bytes.len - at;
        bool is_last = left <= CH_SCRUB_WINDOW;
        err = match_window(search, code, subject, at, is_last ? left : CH_SCRUB_WINDOW);
        at += is_last ? left : CH_SCRUB_WINDOW - CH_SCRUB_MATCH_MAX;
    }
    return err;
}

static enum ch_err match_all(struct search *search, const struct subject *subject)
{
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < search->patterns->count && !err; i++)
        err = match_one(search, search->patterns->codes[i], subject);
    return err;
}

static size_t encode_utf8(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

// The unit of "\uXXXX" at the front, or -1.
static int32_t read_unit(struct ch_span text)
{
    int32_t unit = 0;
    if (text.len < 6 || text.ptr[0] != '\\' || text.ptr[1] != 'u')
        return -1;
    for (size_t i = 2; i < 6; i++) {
        char c = text.ptr[i], lower = (char)(c | 0x20);
        bool is_digit = c >= '0' && c <= '9';
        if (!is_digit && !(lower >= 'a' && lower <= 'f'))
            return -1;
        unit = unit << 4 | (is_digit ? c - '0' : lower - 'a' + 10);
    }
    return unit;
}

// Reads the escape at the front; gives its length. What is no escape is its own first byte.
static size_t read_escape(struct ch_span text, uint32_t *code_out)
{
    static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    int32_t unit = read_unit(text);
    if (unit >= 0xD800 && unit <= 0xDBFF) {
        int32_t low = read_unit(ch_span_sub(text, 6));
        bool is_pair = low >= 0xDC00 && low <= 0xDFFF;
        *code_out = is_pair ? 0x10000 + ((uint32_t)(unit - 0xD800) << 10 | (uint32_t)(low - 0xDC00))
                            : 0xFFFD;
        return is_pair ? 12 : 6;
    }
    if (unit >= 0) {
        *code_out = unit >= 0xDC00 && unit <= 0xDFFF ? 0xFFFD : (uint32_t)unit;
        return 6;
    }
    const char *letter = text.len > 1 && text.ptr[1] ? strchr(letters, text.ptr[1]) : NULL;
    bool is_itself = text.len > 1 && text.ptr[1] && strchr("\"\\/", text.ptr[1]);
    *code_out = letter      ? (uint32_t)meanings[letter - letters]
                : is_itself ? (uint32_t)text.ptr[1]
                            : '\\';
    return letter || is_itself ? 2 : 1;
}

// Decodes the inside of a string that stands at `at`. An escape is never shorter than what it
// means.
static struct subject decode(struct search *search, size_t at, size_t end)
{
    size_t len = 0;
    while (at < end) {
        uint32_t code;
        struct ch_span rest = {search->text.ptr + at, end - at};
        size_t size = 1, from = len;
        if (*rest.ptr == '\\') {
            size = read_escape(rest, &code);
            len += encode_utf8(code, search->decoded + len);
        } else {
            search->decoded[len++] = *rest.ptr;
        }
        for (; from < len; from++)
            search->origin[from] = (uint32_t)at;
        at += size;
    }
    search->origin[len] = (uint32_t)end;
    return (struct subject){.bytes = {search->decoded, len}, .origin = search->origin};
}

static bool is_line_end(char c)
{
    return c == '\n' || c == '\r';
}

// Where the string that begins at `at`, behind its quote, has its closing one; else the end.
static size_t string_end(struct ch_span text, size_t at)
{
    while (at < text.len && text.ptr[at] != '"')
        at += text.ptr[at] == '\\' ? 2 : 1;
    return at < text.len ? at : text.len;
}

static size_t word_end(struct ch_span text, size_t at)
{
    while (at < text.len && !strchr("{}[]:, \t\n\r\"", text.ptr[at]))
        at++;
    return at;
}

// Shows the patterns every string and every number of text[at, end).
static enum ch_err search_json(struct search *search, size_t at, size_t end)
{
    struct ch_span text = {search->text.ptr, end};
    enum ch_err err = CH_OK;
    while (at < end && !err) {
        size_t stop = word_end(text, at);
        if (text.ptr[at] == '"') {
            stop = string_end(text, at + 1);
            struct subject subject = decode(search, at + 1, stop);
            err = match_all(search, &subject);
            stop++;
        } else if (stop > at) {
            struct subject subject = {
                .bytes = {text.ptr + at, stop - at}, .at = at, .is_bare = true};
            err = match_all(search, &subject);
        } else {
            stop++; // punctuation
        }
        at = stop;
    }
    return err;
}

static enum ch_err search_plain(struct search *search, size_t at, size_t end)
{
    struct subject subject = {.bytes = {search->text.ptr + at, end - at}, .at = at};
    return match_all(search, &subject);
}

// One line without its end; a field's value without the field.
static enum ch_err search_line(struct search *search, size_t at, size_t end)
{
    struct ch_scrub_lines lines = {.mode = CH_SCRUB_SSE};
    size_t value_at = at;
    bool is_json = false;
    while (value_at < end && lines.part != CH_SCRUB_LINE_TEXT && !is_json)
        is_json = ch_scrub_lines_take(&lines, search->text.ptr[value_at++]);
    if (is_json)
        return search_json(search, value_at - 1, end);
    return search_plain(search, lines.part == CH_SCRUB_LINE_TEXT ? value_at - 1 : at, end);
}

static enum ch_err search_sse(struct search *search)
{
    struct ch_span text = search->text;
    enum ch_err err = CH_OK;
    for (size_t at = 0, end; at < text.len && !err; at = end + 1) {
        for (end = at; end < text.len && !is_line_end(text.ptr[end]);)
            end++;
        err = search_line(search, at, end);
    }
    return err;
}

// A mark stays one: what is redacted beside it, or finds its letters, becomes part of it.
static void keep_marks(struct search *search)
{
    const size_t len = sizeof CH_SCRUB_MARK - 1;
    const char *at = search->text.ptr, *end = at + search->text.len;
    while (at < end && (at = memmem(at, (size_t)(end - at), CH_SCRUB_MARK, len))) {
        memset(search->fate + (at - search->text.ptr), REDACTED, len);
        at += len;
    }
}

static enum ch_err put_mark(struct ch_buf *out, unsigned fate)
{
    return ch_buf_append_span(out, fate == REDACTED ? CH_SPAN(CH_SCRUB_MARK)
                                                    : CH_SPAN("\"" CH_SCRUB_MARK "\""));
}

static enum ch_err put_text(const struct search *search, struct ch_buf *out)
{
    enum ch_err err = CH_OK;
    for (size_t at = 0, end; at < search->text.len && !err; at = end) {
        unsigned char fate = search->fate[at];
        for (end = at; end < search->text.len && search->fate[end] == fate;)
            end++;
        err = fate == KEPT ? ch_buf_append(out, search->text.ptr + at, end - at)
                           : put_mark(out, fate);
    }
    return err;
}

// Nothing of the text is given out, in a form that its readers can still parse.
static enum ch_err withhold(enum ch_scrub_mode mode, struct ch_buf *out,
                            struct ch_scrub_report *report)
{
    static const struct ch_span withheld[] = {
        [CH_SCRUB_PLAIN] = {CH_SCRUB_MARK, sizeof CH_SCRUB_MARK - 1},
        [CH_SCRUB_JSON] = {"\"" CH_SCRUB_MARK "\"", sizeof CH_SCRUB_MARK + 1},
        [CH_SCRUB_SSE] = {"data: \"" CH_SCRUB_MARK "\"\n\n", sizeof CH_SCRUB_MARK + 9},
    };
    report->is_withheld = true;
    return ch_buf_append_span(out, withheld[mode]);
}

static enum ch_err search_text(struct search *search, enum ch_scrub_mode mode, struct ch_buf *out)
{
    enum ch_err err = CH_OK;
    keep_marks(search);
    if (mode == CH_SCRUB_SSE)
        err = search_sse(search);
    else if (mode == CH_SCRUB_JSON)
        err = search_json(search, 0, search->text.len);
    else
        err = search_plain(search, 0, search->text.len);
    return err ? withhold(mode, out, search->report) : put_text(search, out);
}

enum ch_err ch_scrub_patterns_apply(const struct ch_scrub_patterns *patterns,
                                    enum ch_scrub_mode mode, struct ch_span text,
                                    struct ch_buf *out, struct ch_scrub_report *report)
{
    if (patterns->count == 0 || text.len == 0)
        return ch_buf_append_span(out, text);
    if (text.len > out->max || text.len >= UINT32_MAX)
        return CH_ERR_LIMIT;
    struct search search = {
        .patterns = patterns,
        .match = pcre2_match_data_create(1, patterns->memory),
        .text = text,
        .fate = ch_zcalloc(text.len, 1),
        .decoded = mode == CH_SCRUB_PLAIN ? NULL : ch_zmalloc(text.len),
        .origin = mode == CH_SCRUB_PLAIN ? NULL : ch_zcalloc(text.len + 1, sizeof(uint32_t)),
        .report = report,
    };
    bool has_memory = search.match && search.fate &&
                      (mode == CH_SCRUB_PLAIN || (search.decoded && search.origin));
    enum ch_err err = has_memory ? search_text(&search, mode, out) : CH_ERR_NOMEM;
    pcre2_match_data_free(search.match);
    ch_zfree(search.fate);
    ch_zfree(search.decoded);
    ch_zfree(search.origin);
    return err;
}
