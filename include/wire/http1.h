// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 heads and body framing, both directions, strict (RFC 9112; security.md §3).
//
// Pure push parsers: bytes in, structs out, no I/O and no allocation. The caller keeps the bytes of
// a head contiguous from its first byte until it has done with it (fields are offsets into them, so
// the bytes may move between calls). Anything RFC 9112 lets a recipient repair is refused instead:
// the two sides of a proxy must never disagree on where a message ends.
#ifndef CH_WIRE_HTTP1_H
#define CH_WIRE_HTTP1_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

#define CH_HTTP1_HEAD_MAX            (32 * 1024) // bytes of a head, start line included
#define CH_HTTP1_FIELDS_MAX          100
#define CH_HTTP1_FIELD_MAX           (16 * 1024) // bytes of a field or status line without CRLF
#define CH_HTTP1_TARGET_MAX          (8 * 1024)
#define CH_HTTP1_METHOD_MAX          32         // the longest registered method has 17 (IANA)
#define CH_HTTP1_OPTIONS_MAX         32         // Connection options: each meets every field name
#define CH_HTTP1_CHUNK_EXTENSION_MAX 256        // bytes a chunk
#define CH_HTTP1_TRAILERS_MAX        (8 * 1024) // bytes of all trailer lines

enum ch_http1_method {
    CH_METHOD_GET,
    CH_METHOD_HEAD,
    CH_METHOD_POST,
    CH_METHOD_PUT,
    CH_METHOD_PATCH,
    CH_METHOD_DELETE,
    CH_METHOD_OPTIONS,
    CH_METHOD_OTHER, // a well-formed token we do not serve: the caller answers 405
};
const char *ch_http1_method_name(enum ch_http1_method method); // "GET"; "?" for OTHER

// Fields the proxy treats specially; every other name is CH_FIELD_OTHER and passes unchanged.
// The lookup ignores case (RFC 9110 §5.1); a name is a token.
enum ch_field {
    CH_FIELD_OTHER,
    CH_FIELD_HOST,
    CH_FIELD_CONTENT_LENGTH,
    CH_FIELD_CONTENT_TYPE,
    CH_FIELD_CONTENT_ENCODING,
    CH_FIELD_TRANSFER_ENCODING,
    CH_FIELD_CONNECTION,
    CH_FIELD_EXPECT,
    CH_FIELD_ACCEPT_ENCODING,
    CH_FIELD_USER_AGENT,
    CH_FIELD_LOCATION,
    CH_FIELD_HOP_BY_HOP, // Keep-Alive Proxy-* TE Trailer Upgrade HTTP2-Settings
    CH_FIELD_AUTHORIZATION,
    CH_FIELD_X_API_KEY,
    CH_FIELD_X_GOOG_API_KEY,
    CH_FIELD_API_KEY,
    CH_FIELD_SEC_WEBSOCKET_PROTOCOL,
    CH_FIELD_COOKIE,        // Cookie, Set-Cookie, Set-Cookie2
    CH_FIELD_FORWARDING,    // Forwarded Via X-Forwarded-* X-Real-IP X-Client-IP True-Client-IP
                            // CF-Connecting-IP
    CH_FIELD_ACCOUNT,       // names a provider account: OpenAI-Organization OpenAI-Project
                            // Anthropic-Organization-Id Anthropic-Workspace-Id X-Goog-User-Project
    CH_FIELD_OVERRIDE,      // changes what is asked, or leaves usage out: X-HTTP-Method-Override
                            // X-Goog-FieldMask
    CH_FIELD_OTHER_GATEWAY, // x-portkey-* x-litellm-* helicone-*
    CH_FIELD_CHAPERONE,     // x-chaperone-*
    CH_FIELD_ANTHROPIC_VERSION,
    CH_FIELD_REQUEST_ID, // x-request-id, request-id
    CH_FIELD_IDEMPOTENCY_KEY,
    CH_FIELD_X_GOOG_UPLOAD_URL,
};
enum ch_field ch_field_lookup(struct ch_span name);

struct ch_http1_field {
    enum ch_field id;
    uint32_t name_at, name_len;   // offsets into the head's bytes
    uint32_t value_at, value_len; // without surrounding blanks
};

enum ch_http1_framing {
    CH_FRAMING_NONE,   // no body
    CH_FRAMING_LENGTH, // content_length bytes
    CH_FRAMING_CHUNKED,
    CH_FRAMING_TO_CLOSE, // responses only
};

struct ch_http1_head {
    // request
    enum ch_http1_method method;
    uint32_t target_at, target_len; // origin form as sent; an absolute form is reduced to it after
                                    // its authority was found equal to Host (RFC 9112 §3.2.2)
    // response
    int status;
    // both
    int minor_version; // HTTP/1.minor: 0 or 1
    enum ch_http1_framing framing;
    int64_t content_length; // with has_length, else 0; ≤ 18 digits: the real limit is the caller's
    bool has_length;        // a Content-Length stood in the head (a response to HEAD keeps it)
    bool keep_alive;        // this side allows another message on the connection
    bool expect_continue;   // a request with a body waits for 100 (RFC 9110 §10.1.1)
    uint32_t field_count;
    struct ch_http1_field fields[CH_HTTP1_FIELDS_MAX];
    uint32_t size; // bytes of the whole head, final empty line included
};

// All private; it holds no pointer.
struct ch_http1_head_parser {
    uint32_t at;       // bytes consumed so far: the next call goes on here
    uint32_t line_at;  // where the current line starts
    uint32_t token_at; // where the current version, target, status or value starts
    uint16_t host;     // 1 + index of the Host field
    uint8_t options;   // Connection options seen
    uint8_t state;
    bool is_response, answers_head;
    bool says_close, says_keep_alive; // Connection options
    bool expects;                     // Expect: 100-continue
};

// The outcome of a step. After ERROR nothing more is parsed and the connection is closed.
enum ch_http1_verdict {
    CH_HTTP1_MORE, // incomplete and well-formed so far
    CH_HTTP1_DONE,
    CH_HTTP1_ERROR,
};

struct ch_http1_error {
    int status; // for the client: 400, 405, 413, 414, 417, 431, 501, 505; always 502 for a response
    const char *text; // constant English phrase that names the fault, e.g. "bare LF in head"
};

// `answers_head`: the response belongs to a HEAD request, so it has no body whatever it says.
void ch_http1_request_init(struct ch_http1_head_parser *parser);
void ch_http1_response_init(struct ch_http1_head_parser *parser, bool answers_head);

// Parses from `bytes`, which starts at the head's first byte and holds all that has arrived. Call
// it again with the longer span and the same `head` after more has come; work already done is not
// repeated. On DONE `head` is complete and head->size bytes belong to it, an empty line tolerated
// before a request line included. A CONNECT is refused here (405). Faults show at the earliest byte
// that proves them, so that the verdict does not depend on segmentation. A response that is 1xx is
// reported DONE like any other (framing NONE): the caller skips it and inits again.
enum ch_http1_verdict ch_http1_head_parse(struct ch_http1_head_parser *parser, struct ch_span bytes,
                                          struct ch_http1_head *head, struct ch_http1_error *error);

static inline struct ch_span ch_http1_name(const char *base, const struct ch_http1_field *field)
{
    return (struct ch_span){base + field->name_at, field->name_len};
}
static inline struct ch_span ch_http1_value(const char *base, const struct ch_http1_field *field)
{
    return (struct ch_span){base + field->value_at, field->value_len};
}
// The first field with that id (not OTHER), or NULL.
const struct ch_http1_field *ch_http1_find(const struct ch_http1_head *head, enum ch_field id);
// Whether Connection lists this field name as hop-by-hop (RFC 9110 §7.6.1). `base`: the head's
// bytes.
bool ch_http1_is_connection_option(const struct ch_http1_head *head, const char *base,
                                   struct ch_span name);

// Body framing, decoded in place: no copy, spans of payload borrow the caller's bytes.
struct ch_http1_body {
    enum ch_http1_framing framing;
    int64_t remaining; // of the length, or of the current chunk
    uint32_t aux;      // private: digits, extension or trailer bytes seen
    uint8_t state;     // private
    bool is_response;
};
void ch_http1_body_init(struct ch_http1_body *body, const struct ch_http1_head *head);
// Consumes a front part of `bytes` and gives at most one span of payload (len 0: none this time);
// DONE may come with payload, ERROR never does. Call again with the rest until it returns MORE with
// everything consumed, DONE, or ERROR. DONE leaves the bytes behind the message unconsumed. Chunk
// extensions and trailers are checked and dropped. TO_CLOSE never says DONE.
enum ch_http1_verdict ch_http1_body_step(struct ch_http1_body *body, struct ch_span bytes,
                                         size_t *consumed_out, struct ch_span *payload_out,
                                         struct ch_http1_error *error);
static inline bool ch_http1_body_is_empty(const struct ch_http1_body *body)
{
    return body->framing == CH_FRAMING_NONE ||
           (body->framing == CH_FRAMING_LENGTH && body->remaining == 0);
}

// The standard phrase of a status code ("Too Many Requests"), "Status" for an unknown one.
const char *ch_http1_reason(int status);

#endif
