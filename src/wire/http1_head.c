// SPDX-License-Identifier: Apache-2.0
#include "wire/http1.h"

#include "chars.h"
#include "wire/url.h"

// Bytes are taken strictly in order and each handler leaves the parser able to go on at any byte,
// so the verdict cannot depend on how the head was cut into reads.
//
//   request:  START -> (EMPTY_LINE ->) METHOD -> TARGET -> VERSION ---.
//   response: START -> VERSION -> STATUS -> REASON -------------------+-> LINE_END
//   LINE_END -> FIELD -> NAME -> BLANK -> VALUE -> VALUE_END -> FIELD …   FIELD -> END -> OVER
enum state {
    ST_START,
    ST_EMPTY_LINE, // the LF of the one tolerated before a request line
    ST_METHOD,
    ST_TARGET,
    ST_VERSION,
    ST_STATUS,
    ST_REASON,
    ST_LINE_END, // the LF of the start line
    ST_FIELD,    // the first byte of a field line, or the CR of the final empty line
    ST_NAME,
    ST_BLANK, // before a value
    ST_VALUE,
    ST_VALUE_END, // the LF of a field line
    ST_END,       // the LF of the final empty line
    ST_OVER,
    ST_FAILED,
};

// One call's view: what has arrived, cut at the limit of a head.
struct input {
    struct ch_http1_head_parser *parser;
    struct ch_http1_head *head;
    struct ch_http1_error *error;
    const char *base, *end;
};

// A handler, st_x(), is called with at least one byte to look at. It gives the place to go on from,
// NULL when the head is refused. The place is no member of `in`, so that it stays in a register.

CH_COLD static bool refuse(struct input *in, int status, const char *text)
{
    in->parser->state = ST_FAILED;
    *in->error = (struct ch_http1_error){in->parser->is_response ? 502 : status, text};
    return false;
}

CH_COLD static const char *fail(struct input *in, int status, const char *text)
{
    refuse(in, status, text);
    return NULL;
}

CH_COLD static const char *fail_byte(struct input *in, char byte, const char *text)
{
    if (byte == '\n')
        return fail(in, 400, "bare LF in head");
    if (byte == '\0')
        return fail(in, 400, "NUL in head");
    return fail(in, 400, text);
}

static const char *go(struct input *in, enum state state, const char *at)
{
    in->parser->state = (uint8_t)state;
    return at;
}

// Goes straight on with the next handler when it has a byte to look at.
static inline const char *then(struct input *in, enum state state,
                               const char *(*handler)(struct input *, const char *), const char *at)
{
    in->parser->state = (uint8_t)state;
    return at < in->end ? handler(in, at) : at;
}

static uint32_t offset(const struct input *in, const char *at)
{
    return (uint32_t)(at - in->base);
}

static struct ch_span between(const struct input *in, uint32_t from, const char *to)
{
    return (struct ch_span){in->base + from, (size_t)(to - in->base) - from};
}

// A run longer than its limit is refused before the byte that ended it is looked at: the same head
// cut otherwise would have been refused there too.
static bool is_longer(const struct input *in, uint32_t from, const char *at, uint32_t limit)
{
    return offset(in, at) - from > limit;
}

static const char *take_lf(struct input *in, const char *at, enum state next)
{
    return *at == '\n' ? go(in, next, at + 1) : fail(in, 400, "bare CR in head");
}

// Start lines

static const char *st_start(struct input *in, const char *at)
{
    struct ch_http1_head_parser *parser = in->parser;
    parser->line_at = parser->token_at = offset(in, at);
    if (parser->is_response)
        return go(in, ST_VERSION, at);
    if (*at == '\r' && at == in->base)
        return go(in, ST_EMPTY_LINE, at + 1);
    return go(in, ST_METHOD, at);
}

static const char *st_method(struct input *in, const char *at)
{
    struct ch_http1_head_parser *parser = in->parser;
    at = ch_chars_skip(at, in->end, CH_CHAR_TOKEN);
    // RFC 9112 §3: a method longer than any implemented.
    if (is_longer(in, parser->line_at, at, CH_HTTP1_METHOD_MAX))
        return fail(in, 501, "method too long");
    if (at == in->end)
        return at;
    struct ch_span name = between(in, parser->line_at, at);
    if (*at != ' ' || name.len == 0)
        return fail_byte(in, *at, "malformed method");
    if (ch_span_eq(name, CH_SPAN("CONNECT")))
        return fail(in, 405, "CONNECT is not served");
    in->head->method = ch_http1_method_lookup(name);
    parser->token_at = offset(in, at + 1);
    return go(in, ST_TARGET, at + 1);
}

// The bytes of "http://" or "https://" at the front of an absolute-form target; 0: it has another
// form.
static size_t scheme_size(struct ch_span target)
{
    static const struct ch_span schemes[] = {{"http://", 7}, {"https://", 8}};
    for (size_t i = 0; i < 2; i++)
        if (target.len >= schemes[i].len &&
            ch_span_ieq((struct ch_span){target.ptr, schemes[i].len}, schemes[i]))
            return schemes[i].len;
    return 0;
}

static bool has_known_form(struct ch_span target, enum ch_http1_method method)
{
    if (target.len == 0)
        return false;
    if (target.ptr[0] == '/')
        return true;
    if (method == CH_METHOD_OPTIONS && ch_span_eq(target, CH_SPAN("*")))
        return true;
    return scheme_size(target) > 0;
}

static const char *st_target(struct input *in, const char *at)
{
    struct ch_http1_head_parser *parser = in->parser;
    at = ch_chars_skip(at, in->end, CH_CHAR_TARGET);
    if (is_longer(in, parser->token_at, at, CH_HTTP1_TARGET_MAX))
        return fail(in, 414, "target too long");
    if (at == in->end)
        return at;
    struct ch_span target = between(in, parser->token_at, at);
    if (*at != ' ')
        return fail_byte(in, *at, "malformed request target");
    if (!has_known_form(target, in->head->method))
        return fail(in, 400, "request target of no known form");
    in->head->target_at = parser->token_at;
    in->head->target_len = (uint32_t)target.len;
    parser->token_at = offset(in, at + 1);
    return go(in, ST_VERSION, at + 1);
}

// Takes "HTTP/d.d" and the byte behind it.
static const char *st_version(struct input *in, const char *at)
{
    static const char form[] = "HTTP/1.1";
    enum { MAJOR = 5, MINOR = 7, SIZE = 8 };
    struct ch_http1_head_parser *parser = in->parser;
    const char *version = in->base + parser->token_at;
    for (; at < in->end && at < version + SIZE; at++) {
        long i = at - version;
        bool fits = i == MAJOR || i == MINOR ? ch_char_is(*at, CH_CHAR_DIGIT) : *at == form[i];
        if (!fits)
            return fail_byte(in, *at, "malformed HTTP version");
    }
    if (at == in->end)
        return at;
    if (*at != (parser->is_response ? ' ' : '\r'))
        return fail_byte(in, *at, "malformed HTTP version");
    if (version[MAJOR] != '1' || version[MINOR] > '1')
        return fail(in, 505, "HTTP version not supported");
    in->head->minor_version = version[MINOR] - '0';
    parser->token_at = offset(in, at + 1);
    return go(in, parser->is_response ? ST_STATUS : ST_LINE_END, at + 1);
}

// Takes three digits and a blank, which stands even when no reason follows (RFC 9112 §4).
static const char *st_status(struct input *in, const char *at)
{
    struct ch_http1_head *head = in->head;
    if (offset(in, at) - in->parser->token_at < 3) {
        if (!ch_char_is(*at, CH_CHAR_DIGIT))
            return fail_byte(in, *at, "malformed status code");
        head->status = head->status * 10 + (*at - '0');
        return at + 1;
    }
    if (*at != ' ')
        return fail_byte(in, *at, "malformed status code");
    if (head->status < 100 || head->status > 599) // RFC 9110 §15
        return fail(in, 502, "status code out of range");
    return go(in, ST_REASON, at + 1);
}

static const char *st_reason(struct input *in, const char *at)
{
    at = ch_chars_skip_value(at, in->end);
    if (is_longer(in, in->parser->line_at, at, CH_HTTP1_FIELD_MAX))
        return fail(in, 502, "status line too long");
    if (at == in->end)
        return at;
    if (*at != '\r')
        return fail_byte(in, *at, "control byte in reason phrase");
    return go(in, ST_LINE_END, at + 1);
}

// What the fields of framing, routing and persistence say

static bool admit_host(struct input *in, struct ch_span value)
{
    struct ch_authority authority;
    if (in->parser->is_response)
        return true;
    if (in->parser->host)
        return refuse(in, 400, "more than one Host");
    if (ch_authority_parse(value, &authority))
        return refuse(in, 400, "malformed Host");
    in->parser->host = (uint16_t)in->head->field_count;
    return true;
}

static bool admit_content_length(struct input *in, struct ch_span value)
{
    struct ch_http1_head *head = in->head;
    if (head->has_length)
        return refuse(in, 400, "more than one Content-Length");
    if (head->framing == CH_FRAMING_CHUNKED)
        return refuse(in, 400, "Content-Length beside Transfer-Encoding");
    if (value.len == 0 || !ch_chars_all(value, CH_CHAR_DIGIT))
        return refuse(in, 400, "malformed Content-Length");
    if (value.ptr[0] == '0' && value.len > 1)
        return refuse(in, 400, "Content-Length with leading zeros");
    if (ch_span_to_int64(value, &head->content_length))
        return refuse(in, 413, "Content-Length too large");
    head->has_length = true;
    head->framing = CH_FRAMING_LENGTH;
    return true;
}

// Only "chunked" alone is served. Any other well-formed list is 501, unless no reading of RFC 9112
// §6.1 allows it: chunked must be last and single, and "identity" was never one coding among
// others.
CH_COLD static bool refuse_codings(struct input *in, struct ch_span list)
{
    const char *const malformed = "malformed Transfer-Encoding";
    struct ch_span coding;
    size_t count = 0;
    bool has_identity = false, has_chunked = false;
    while (ch_list_next(&list, &coding)) {
        if (coding.len == 0 || !ch_chars_all(coding, CH_CHAR_TOKEN) || has_chunked)
            return refuse(in, 400, malformed);
        has_chunked = ch_span_ieq(coding, CH_SPAN("chunked"));
        has_identity |= ch_span_ieq(coding, CH_SPAN("identity"));
        count++;
    }
    if (has_identity && count > 1)
        return refuse(in, 400, malformed);
    return refuse(in, 501, "unknown Transfer-Encoding");
}

static bool admit_transfer_encoding(struct input *in, struct ch_span value)
{
    struct ch_http1_head *head = in->head;
    if (head->has_length)
        return refuse(in, 400, "Content-Length beside Transfer-Encoding");
    if (head->framing == CH_FRAMING_CHUNKED)
        return refuse(in, 400, "more than one Transfer-Encoding");
    if (head->minor_version == 0)
        return refuse(in, 400, "Transfer-Encoding in HTTP/1.0");
    if (!ch_span_ieq(value, CH_SPAN("chunked")))
        return refuse_codings(in, value);
    head->framing = CH_FRAMING_CHUNKED;
    return true;
}

static bool admit_connection(struct input *in, struct ch_span value)
{
    struct ch_http1_head_parser *parser = in->parser;
    struct ch_span option;
    while (ch_list_next(&value, &option)) {
        if (parser->options++ == CH_HTTP1_OPTIONS_MAX)
            return refuse(in, 400, "too many Connection options");
        parser->says_close |= ch_span_ieq(option, CH_SPAN("close"));
        parser->says_keep_alive |= ch_span_ieq(option, CH_SPAN("keep-alive"));
    }
    return true;
}

static bool admit_expect(struct input *in, struct ch_span value)
{
    if (in->parser->is_response)
        return true;
    if (!ch_span_ieq(value, CH_SPAN("100-continue")))
        return refuse(in, 417, "unknown expectation");
    in->parser->expects = true;
    return true;
}

static bool admit_field(struct input *in, const struct ch_http1_field *field)
{
    struct ch_span value = ch_http1_value(in->base, field);
    if (field->id == CH_FIELD_HOST)
        return admit_host(in, value);
    if (field->id == CH_FIELD_CONTENT_LENGTH)
        return admit_content_length(in, value);
    if (field->id == CH_FIELD_TRANSFER_ENCODING)
        return admit_transfer_encoding(in, value);
    if (field->id == CH_FIELD_CONNECTION)
        return admit_connection(in, value);
    if (field->id == CH_FIELD_EXPECT)
        return admit_expect(in, value);
    return true;
}

// Field lines, last part first: each handler goes straight on to the next when it has a byte for
// it, which a turn through step() would cost a tenth of the time.

static const char *st_value_end(struct input *in, const char *at)
{
    at = take_lf(in, at, ST_FIELD);
    return at && admit_field(in, &in->head->fields[in->head->field_count++]) ? at : NULL;
}

static const char *st_value(struct input *in, const char *at)
{
    struct ch_http1_field *field = &in->head->fields[in->head->field_count];
    at = ch_chars_skip_value(at, in->end);
    if (is_longer(in, in->parser->line_at, at, CH_HTTP1_FIELD_MAX))
        return fail(in, 431, "field line too long");
    if (at == in->end)
        return at;
    if (*at != '\r')
        return fail_byte(in, *at, "control byte in field value");
    const char *value = in->base + in->parser->token_at, *value_end = at;
    while (value_end > value && ch_char_is(value_end[-1], CH_CHAR_BLANK))
        value_end--;
    field->value_at = in->parser->token_at;
    field->value_len = (uint32_t)(value_end - value);
    return then(in, ST_VALUE_END, st_value_end, at + 1);
}

static const char *st_blank(struct input *in, const char *at)
{
    at = ch_chars_skip(at, in->end, CH_CHAR_BLANK);
    if (is_longer(in, in->parser->line_at, at, CH_HTTP1_FIELD_MAX))
        return fail(in, 431, "field line too long");
    if (at == in->end)
        return at;
    in->parser->token_at = offset(in, at);
    return then(in, ST_VALUE, st_value, at);
}

static const char *st_name(struct input *in, const char *at)
{
    uint32_t name_at = in->parser->line_at;
    at = ch_chars_skip(at, in->end, CH_CHAR_TOKEN);
    if (is_longer(in, name_at, at, CH_HTTP1_FIELD_MAX))
        return fail(in, 431, "field line too long");
    if (at == in->end)
        return at;
    struct ch_span name = between(in, name_at, at);
    if (*at != ':')
        return fail_byte(in, *at, "malformed field name");
    if (name.len == 0)
        return fail(in, 400, "empty field name");
    struct ch_http1_field *field = &in->head->fields[in->head->field_count];
    field->id = ch_field_lookup(name);
    field->name_at = name_at;
    field->name_len = (uint32_t)name.len;
    return then(in, ST_BLANK, st_blank, at + 1);
}

static const char *st_field(struct input *in, const char *at)
{
    if (*at == '\r')
        return go(in, ST_END, at + 1);
    if (ch_char_is(*at, CH_CHAR_BLANK))
        return fail(in, 400, "field line that begins with a blank"); // obs-fold, RFC 9112 §5.2
    if (in->head->field_count == CH_HTTP1_FIELDS_MAX)
        return fail(in, 431, "too many fields");
    in->parser->line_at = offset(in, at);
    return then(in, ST_NAME, st_name, at);
}

// The whole head

// Cuts an absolute-form target down to its path (RFC 9112 §3.2.2).
static bool reduce_target(struct input *in)
{
    struct ch_http1_head *head = in->head;
    struct ch_span target = {in->base + head->target_at, head->target_len};
    size_t scheme = target.ptr[0] == '/' ? 0 : scheme_size(target);
    if (scheme == 0)
        return true;
    const char *path = memchr(target.ptr + scheme, '/', target.len - scheme);
    if (!path)
        return refuse(in, 400, "absolute target without a path");
    struct ch_span authority = {target.ptr + scheme, (size_t)(path - target.ptr) - scheme};
    if (!in->parser->host ||
        !ch_span_ieq(authority, ch_http1_value(in->base, &head->fields[in->parser->host - 1])))
        return refuse(in, 400, "absolute target for another host");
    head->target_at += (uint32_t)(path - target.ptr);
    head->target_len -= (uint32_t)(path - target.ptr);
    return true;
}

static bool finish_request(struct input *in)
{
    struct ch_http1_head *head = in->head;
    // Health checks of load balancers speak HTTP/1.0, which knows no Host.
    if (!in->parser->host && head->minor_version > 0)
        return refuse(in, 400, "no Host");
    bool has_body = head->framing == CH_FRAMING_CHUNKED || head->content_length > 0;
    // RFC 9110 §10.1.1: an expectation in HTTP/1.0 is ignored.
    head->expect_continue = in->parser->expects && head->minor_version > 0 && has_body;
    return reduce_target(in);
}

// RFC 9112 §6.3, points 1–8.
static bool finish_response(struct input *in)
{
    struct ch_http1_head *head = in->head;
    bool is_bare = head->status < 200 || head->status == 204;
    if (is_bare && (head->framing == CH_FRAMING_CHUNKED || head->content_length > 0))
        return refuse(in, 502, "body announced where none can be");
    if (is_bare || head->status == 304 || in->parser->answers_head)
        head->framing = CH_FRAMING_NONE;
    else if (head->framing == CH_FRAMING_NONE)
        head->framing = CH_FRAMING_TO_CLOSE;
    return true;
}

static const char *st_end(struct input *in, const char *at)
{
    struct ch_http1_head_parser *parser = in->parser;
    struct ch_http1_head *head = in->head;
    at = take_lf(in, at, ST_OVER);
    if (!at || !(parser->is_response ? finish_response(in) : finish_request(in)))
        return NULL;
    head->size = offset(in, at);
    head->keep_alive = !parser->says_close && head->framing != CH_FRAMING_TO_CLOSE &&
                       (head->minor_version > 0 || parser->says_keep_alive);
    return at;
}

static const char *step(struct input *in, const char *at)
{
    switch ((enum state)in->parser->state) {
    case ST_START:
        return st_start(in, at);
    case ST_EMPTY_LINE:
        return take_lf(in, at, ST_START);
    case ST_METHOD:
        return st_method(in, at);
    case ST_TARGET:
        return st_target(in, at);
    case ST_VERSION:
        return st_version(in, at);
    case ST_STATUS:
        return st_status(in, at);
    case ST_REASON:
        return st_reason(in, at);
    case ST_LINE_END:
        return take_lf(in, at, ST_FIELD);
    case ST_FIELD:
        return st_field(in, at);
    case ST_NAME:
        return st_name(in, at);
    case ST_BLANK:
        return st_blank(in, at);
    case ST_VALUE:
        return st_value(in, at);
    case ST_VALUE_END:
        return st_value_end(in, at);
    case ST_END:
        return st_end(in, at);
    case ST_OVER:
    case ST_FAILED:
        break;
    }
    return fail(in, 400, "parsed on after the end");
}

// Everything but the array, which field_count governs.
static void reset_head(struct ch_http1_head *head)
{
    memset(head, 0, offsetof(struct ch_http1_head, fields));
    head->size = 0;
}

void ch_http1_request_init(struct ch_http1_head_parser *parser)
{
    *parser = (struct ch_http1_head_parser){.state = ST_START};
}

void ch_http1_response_init(struct ch_http1_head_parser *parser, bool answers_head)
{
    *parser = (struct ch_http1_head_parser){
        .state = ST_START, .is_response = true, .answers_head = answers_head};
}

enum ch_http1_verdict ch_http1_head_parse(struct ch_http1_head_parser *parser, struct ch_span bytes,
                                          struct ch_http1_head *head, struct ch_http1_error *error)
{
    if (bytes.len == 0)
        return CH_HTTP1_MORE;
    size_t size = bytes.len < CH_HTTP1_HEAD_MAX ? bytes.len : CH_HTTP1_HEAD_MAX;
    struct input in = {parser, head, error, bytes.ptr, bytes.ptr + size};
    if (parser->at == 0)
        reset_head(head);
    const char *at = in.base + parser->at;
    while (at && at < in.end && parser->state != ST_OVER)
        at = step(&in, at);
    if (!at)
        return CH_HTTP1_ERROR;
    parser->at = offset(&in, at);
    if (parser->state == ST_OVER)
        return CH_HTTP1_DONE;
    if (parser->at < CH_HTTP1_HEAD_MAX)
        return CH_HTTP1_MORE;
    fail(&in, 431, "head too large");
    return CH_HTTP1_ERROR;
}
