// SPDX-License-Identifier: Apache-2.0
#include "wire/http1.h"

#include "chars.h"

// Chunked framing (RFC 9112 §7.1). Like the head, it can stop and go on at any byte.
//
//   SIZE -> (EXTENSION ->) SIZE_END -> DATA -> DATA_CR -> DATA_LF -> SIZE …
//   SIZE_END of a chunk of size 0 -> TRAILER -> (NAME -> VALUE -> VALUE_END -> TRAILER)* -> END ->
//   OVER
enum state {
    ST_SIZE,
    ST_EXTENSION,
    ST_SIZE_END, // the LF of the size line
    ST_DATA,
    ST_DATA_CR,
    ST_DATA_LF,
    ST_TRAILER, // the first byte of a trailer line, or the CR of the final empty line
    ST_NAME,
    ST_VALUE,
    ST_VALUE_END, // the LF of a trailer line
    ST_END,       // the LF of the final empty line
    ST_OVER,
    ST_FAILED,
};

#define SIZE_DIGITS_MAX 16 // of 4 bits each; leading zeros count

struct input {
    struct ch_http1_body *body;
    struct ch_http1_error *error;
    const char *at, *end;
    struct ch_span payload;
};

static enum ch_http1_verdict fail(struct input *in, int status, const char *text)
{
    in->body->state = ST_FAILED;
    *in->error = (struct ch_http1_error){in->body->is_response ? 502 : status, text};
    return CH_HTTP1_ERROR;
}

static enum ch_http1_verdict go(struct input *in, enum state state)
{
    in->body->state = (uint8_t)state;
    return CH_HTTP1_MORE;
}

// Takes the one byte that must stand here.
static enum ch_http1_verdict expect(struct input *in, char byte, enum state next, const char *text)
{
    if (*in->at != byte)
        return fail(in, 400, text);
    in->at++;
    return go(in, next);
}

static enum ch_http1_verdict st_size(struct input *in)
{
    struct ch_http1_body *body = in->body;
    for (; in->at < in->end && ch_char_is(*in->at, CH_CHAR_HEX); in->at++) {
        if (body->aux++ == SIZE_DIGITS_MAX || body->remaining > INT64_MAX >> 4)
            return fail(in, 400, "chunk size too large");
        body->remaining = body->remaining << 4 | ch_char_hex(*in->at);
    }
    if (in->at == in->end)
        return CH_HTTP1_MORE;
    if (body->aux == 0 || (*in->at != '\r' && *in->at != ';'))
        return fail(in, 400, "malformed chunk size");
    body->aux = 0;
    return *in->at++ == ';' ? go(in, ST_EXTENSION) : go(in, ST_SIZE_END);
}

// Counts a run that has just been passed over. A run longer than the limit is refused before the
// byte that ended it is looked at: the same bytes cut otherwise would have been refused there too.
static bool is_too_much(struct input *in, const char *from, uint32_t limit)
{
    size_t size = (size_t)(in->at - from);
    if (in->body->aux + size > limit)
        return true;
    in->body->aux += (uint32_t)size;
    return false;
}

static enum ch_http1_verdict st_extension(struct input *in)
{
    const char *from = in->at;
    in->at = ch_chars_skip_value(in->at, in->end);
    if (is_too_much(in, from, CH_HTTP1_CHUNK_EXTENSION_MAX))
        return fail(in, 400, "chunk extension too long");
    if (in->at == in->end)
        return CH_HTTP1_MORE;
    return expect(in, '\r', ST_SIZE_END, "control byte in chunk extension");
}

static enum ch_http1_verdict st_size_end(struct input *in)
{
    in->body->aux = 0;
    return expect(in, '\n', in->body->remaining > 0 ? ST_DATA : ST_TRAILER,
                  "chunk size line without CRLF");
}

static void take_payload(struct input *in)
{
    size_t size = (size_t)(in->end - in->at);
    if ((uint64_t)in->body->remaining < size)
        size = (size_t)in->body->remaining;
    in->payload = (struct ch_span){in->at, size};
    in->at += size;
    in->body->remaining -= (int64_t)size;
}

static enum ch_http1_verdict st_data(struct input *in)
{
    take_payload(in);
    return go(in, in->body->remaining > 0 ? ST_DATA : ST_DATA_CR);
}

static enum ch_http1_verdict st_trailer(struct input *in)
{
    if (*in->at == '\r') {
        in->at++;
        return go(in, ST_END);
    }
    if (!ch_char_is(*in->at, CH_CHAR_TOKEN))
        return fail(in, 400, "malformed trailer");
    in->body->aux += 3; // its colon and CRLF
    return go(in, ST_NAME);
}

static enum ch_http1_verdict st_name(struct input *in)
{
    const char *from = in->at;
    in->at = ch_chars_skip(in->at, in->end, CH_CHAR_TOKEN);
    if (is_too_much(in, from, CH_HTTP1_TRAILERS_MAX))
        return fail(in, 431, "trailers too large");
    if (in->at == in->end)
        return CH_HTTP1_MORE;
    return expect(in, ':', ST_VALUE, "malformed trailer");
}

static enum ch_http1_verdict st_value(struct input *in)
{
    const char *from = in->at;
    in->at = ch_chars_skip_value(in->at, in->end);
    if (is_too_much(in, from, CH_HTTP1_TRAILERS_MAX))
        return fail(in, 431, "trailers too large");
    if (in->at == in->end)
        return CH_HTTP1_MORE;
    return expect(in, '\r', ST_VALUE_END, "control byte in trailer");
}

static enum ch_http1_verdict st_end(struct input *in)
{
    if (*in->at != '\n')
        return fail(in, 400, "trailers without CRLF");
    in->at++;
    in->body->state = ST_OVER;
    return CH_HTTP1_DONE;
}

static enum ch_http1_verdict step_chunked(struct input *in)
{
    switch ((enum state)in->body->state) {
    case ST_SIZE:
        return st_size(in);
    case ST_EXTENSION:
        return st_extension(in);
    case ST_SIZE_END:
        return st_size_end(in);
    case ST_DATA:
        return st_data(in);
    case ST_DATA_CR:
        return expect(in, '\r', ST_DATA_LF, "chunk longer than its size");
    case ST_DATA_LF:
        return expect(in, '\n', ST_SIZE, "chunk without CRLF");
    case ST_TRAILER:
        return st_trailer(in);
    case ST_NAME:
        return st_name(in);
    case ST_VALUE:
        return st_value(in);
    case ST_VALUE_END:
        return expect(in, '\n', ST_TRAILER, "trailer without CRLF");
    case ST_END:
        return st_end(in);
    case ST_OVER:
        return CH_HTTP1_DONE;
    case ST_FAILED:
        break;
    }
    return fail(in, 400, "parsed on after an error");
}

static enum ch_http1_verdict run_chunked(struct input *in)
{
    enum ch_http1_verdict verdict = CH_HTTP1_MORE;
    while (verdict == CH_HTTP1_MORE && in->at < in->end && in->payload.len == 0)
        verdict = step_chunked(in);
    return verdict;
}

static enum ch_http1_verdict run(struct input *in)
{
    switch (in->body->framing) {
    case CH_FRAMING_NONE:
        return CH_HTTP1_DONE;
    case CH_FRAMING_LENGTH:
        take_payload(in);
        return in->body->remaining > 0 ? CH_HTTP1_MORE : CH_HTTP1_DONE;
    case CH_FRAMING_CHUNKED:
        return run_chunked(in);
    case CH_FRAMING_TO_CLOSE:
        in->payload = (struct ch_span){in->at, (size_t)(in->end - in->at)};
        in->at = in->end;
        return CH_HTTP1_MORE;
    }
    return fail(in, 400, "no such framing");
}

void ch_http1_body_init(struct ch_http1_body *body, const struct ch_http1_head *head)
{
    *body = (struct ch_http1_body){
        .framing = head->framing,
        .remaining = head->framing == CH_FRAMING_LENGTH ? head->content_length : 0,
        .state = ST_SIZE,
        .is_response = head->status != 0,
    };
}

enum ch_http1_verdict ch_http1_body_step(struct ch_http1_body *body, struct ch_span bytes,
                                         size_t *consumed_out, struct ch_span *payload_out,
                                         struct ch_http1_error *error)
{
    const char *from = bytes.len > 0 ? bytes.ptr : ""; // NULL takes no arithmetic
    struct input in = {body, error, from, from + bytes.len, {NULL, 0}};
    enum ch_http1_verdict verdict = run(&in);
    *consumed_out = (size_t)(in.at - from);
    *payload_out = in.payload;
    return verdict;
}
