// SPDX-License-Identifier: Apache-2.0
// What the files of this floor share: a client connection, the exchange on it, and a loop's
// equipment.
//
// The path of one exchange reads in the order of the files: client.c (bytes in), gate.c (who, what,
// may it), forward.c (the request goes upstream), relay.c (the answer comes back), meter.c (what it
// cost), exchange.c (begin and end). respond.c writes the answers that are our own.
#ifndef CH_PROXY_SHARED_H
#define CH_PROXY_SHARED_H

#include "proxy/proxy.h"

#include "echo.h"
#include "registry_private.h"

#include "base/clock.h"
#include "base/id.h"
#include "domain/route.h"
#include "net/listener.h"
#include "net/upstream_pool.h"
#include "store/usage_journal.h"
#include "wire/http1.h"
#include "wire/json_scan.h"
#include "wire/sse.h"
#include "wire/url.h"
#include "wire/usage_scan.h"

#include <sodium.h>
#include <stdatomic.h>

#define HEAD_OUT_MAX                                                                               \
    (CH_HTTP1_HEAD_MAX + 8 * 1024) // bytes of a head we write: theirs and our additions
#define HELD_MAX (64 * 1024) // bytes of an event held back until it is known not to be ours to drop

// Paths looked for in a request body; the order is the index the scanner reports.
enum request_path {
    PATH_MODEL,
    PATH_STREAM,
    PATH_SERVICE_TIER,
    PATH_STREAM_OPTIONS,
    PATH_INCLUDE_USAGE,
    PATH_MODELS,         // OpenRouter's list of fallbacks
    PATH_BACKGROUND,     // a response that is paid for later
    PATH_REQUESTS_MODEL, // Gemini batchEmbedContents repeats the path's model
    REQUEST_PATHS,
};

// What the body said. Offsets are into the decoded body.
struct request_facts {
    char model[CH_MODEL_TEXT + 1];
    size_t model_len;
    bool has_model, model_is_bad;
    bool has_stream, is_stream, has_tier;
    bool has_duplicate, contradicts_path, has_fallback_models, is_background;
    bool has_options, options_is_object;
    bool includes_usage;
    uint64_t options_at, options_end; // of the value of stream_options
    uint64_t include_at, include_end; // of the value of include_usage
    bool has_include;
};

//   HEAD ──> BODY ──> COMPLETE        (the client's request)
enum request_state {
    REQUEST_HEAD,
    REQUEST_BODY,
    REQUEST_COMPLETE,
};

//   NONE ──> CONNECTING ──> HEAD ──> BODY ──> DONE      (the provider's answer)
enum response_state {
    RESPONSE_NONE,
    RESPONSE_CONNECTING,
    RESPONSE_HEAD,
    RESPONSE_BODY,
    RESPONSE_DONE,
};

struct client;
struct exchange;

// How body bytes are framed towards the client.
enum out_framing {
    OUT_LENGTH, // also: no body at all
    OUT_CHUNKED,
    OUT_TO_CLOSE,
};

struct exchange {
    struct client *client;
    struct ch_proxy_loop *pl;
    struct exchange *next_free;

    int64_t id, started_at_ms;
    int64_t start_ns, complete_ns; // head complete, request complete
    int64_t ready_ns;              // the upstream could be written
    int64_t sent_ns;               // the request was written
    int64_t first_byte_ns;         // first byte of the answer; 0: none
    int64_t last_read_ns;

    // who and what
    int64_t key_id, attribution_id;   // 0: not authenticated
    struct provider_record *provider; // a reference
    enum ch_dialect dialect;          // decides the shape of errors, known early
    const struct ch_route *route;
    char public_id[CH_WRAPPED_KEY_ID];
    struct request_facts facts;
    bool is_stream, wants_keep_alive, is_http10, is_head_method;

    // request: spans borrow the client's bytes until hold_request copies them
    const char *head_base;
    struct ch_target target;
    struct ch_span suffix; // of the target's path, behind the provider's base
    struct ch_http1_body body_framing;
    struct ch_buf
        request; // [head][decoded body] when they did not come, or could not go, in one piece
    struct ch_span body;
    size_t body_got;
    bool body_is_json, body_failed;
    // splice: `insert` replaces body[splice_at, splice_end)
    size_t splice_at, splice_end;
    struct ch_span insert;
    size_t upstream_sent, upstream_total; // body bytes with the splice

    // response
    enum response_state response_state;
    struct ch_upstream *upstream;
    struct ch_http1_head_parser response_parser;
    struct ch_http1_body response_framing;
    enum out_framing out_framing;
    int status;          // answered to the client; 0: nothing yet
    int upstream_status; // of the provider's answer; 0: none came
    bool upstream_keeps_alive, head_is_out;
    bool block_has_data; // the event being read has data
    bool lf_is_due;      // the last event ended with a CR; its LF may still come
    bool last_was_dropped;
    bool observes, is_sse, drops_usage_event, event_is_released, was_dropped;
    struct ch_sse sse;
    struct ch_buf held; // the front of an event that may be ours to drop
    int64_t response_bytes;
    struct echo_guard echo;
    char upstream_id[CH_RECORD_UPSTREAM_ID + 1];
    char user_agent[CH_RECORD_AGENT + 1];

    // accounting
    bool has_slot, is_settled;
    uint32_t slot;
    const char *rule;  // the code of a denial or failure, NULL: none
    int interim_count; // 1xx answers skipped

    // Large and initialised by their own functions: everything above is zeroed at begin.
    struct ch_json_scan json;
    struct ch_usage_scan usage;
    struct ch_http1_head head;
    struct ch_http1_head response_head;
};

#define REMEMBERED_DIGEST crypto_shorthash_siphashx24_BYTES

// The key that this connection was verified with last.
struct remembered_key {
    bool is_set;
    unsigned char digest[REMEMBERED_DIGEST];
    char public_id[CH_WRAPPED_KEY_ID];
    unsigned char hash[CH_WRAPPED_KEY_HASH];
};

struct client {
    struct ch_peer peer;
    struct remembered_key remembered;
    struct ch_proxy_loop *pl;
    struct client *prev, *next; // all of the loop
    struct exchange *x;         // NULL between requests
    enum request_state state;
    struct ch_http1_head_parser parser;
    struct ch_deferred freeing;
    bool has_partial_head, is_half_closed, is_closing;
    char address[48];
};

struct ch_proxy {
    struct ch_proxy_options options;
    struct ch_json_plan *request_plan;
    struct ch_usage_plans *usage_plans;
    unsigned char digest_key[crypto_shorthash_siphashx24_KEYBYTES]; // of remembered keys
    _Atomic int64_t client_count; // connections of clients, all loops
};

struct ch_proxy_loop {
    struct ch_proxy *proxy;
    struct ch_loop *loop;
    unsigned index;
    struct ch_upstream_pool *pool;
    struct ch_vault_reader *vault;
    struct ch_id_source ids;
    struct client *clients;
    struct exchange *free_exchanges;
    unsigned free_count;
    struct ch_buf head_out; // a head being built; wiped after every use
    bool is_draining;
    int64_t last_warn_ns, warns_dropped;
    _Atomic int64_t exchange_count, denied_count;
};

// ---- client.c
void client_accept(struct ch_proxy_loop *pl, int fd, struct ch_tls *tls, const char *address);
// The exchange is over: the next request, or the end of the connection.
void client_exchange_over(struct client *c, bool keep_alive);
void client_abandon(struct client *c); // close at once, without another byte
void client_retire(struct client *c);  // between requests: close when everything is written

// ---- exchange.c
struct exchange *exchange_begin(struct client *c);
// The head is complete: identity and clocks.
void exchange_start_clock(struct exchange *x);
// The one end of an exchange; idempotent by construction: it frees it. `keep_alive`: the client's
// connection can carry another request.
void exchange_end(struct exchange *x, enum ch_end_reason reason, bool keep_alive);
void exchange_warn(struct exchange *x, const char *event, const char *detail);

// ---- gate.c: each returns false after it has answered the client
bool gate_head(struct exchange *x);
bool gate_request(struct exchange *x);
bool gate_scan_value(void *arg, const struct ch_json_value *value);
// The valid key of a request to one of our own paths, or NULL (not answered).
const struct key_record *gate_own_key(struct exchange *x);

// ---- forward.c
void forward_start(struct exchange *x);
// Copies what is still borrowed from the client's bytes and needed later. Failing ends the
// exchange.
void forward_hold_request(struct exchange *x);
// Copies one more piece of body behind the head.
enum ch_err forward_hold_body(struct exchange *x, struct ch_span payload) CH_MUST_USE;
extern const struct ch_peer_handler forward_handler;

// ---- relay.c
size_t relay_bytes(struct exchange *x, struct ch_span bytes);
void relay_upstream_end(struct exchange *x, enum ch_peer_end end);
void relay_client_writable(struct exchange *x);

// ---- meter.c
void meter_settle(struct exchange *x, enum ch_end_reason reason);

// ---- respond.c
struct denial {
    int status;
    const char *code;
    const char *message;
    int retry_after_s; // 0: none
    bool closes;       // the connection cannot be trusted, or holds an unread body
};
// Answers and ends the exchange with `reason`.
void respond_denial(struct exchange *x, const struct denial *denial, enum ch_end_reason reason);
// The parser's verdict on a broken head: there is no exchange yet.
void respond_parse_error(struct client *c, const struct ch_http1_error *error);
// healthz, readyz, /chaperone/v1/…; true when the path was one of them (answered).
bool respond_own_path(struct exchange *x);

#endif
