// SPDX-License-Identifier: Apache-2.0
// What the files of this floor share: a client connection, the exchange on it, and a loop's
// equipment.
//
// The path of one exchange reads in the order of the files: client.c (bytes in), gate.c (who, what,
// may it; facts.c says what a body holds, policy.c what may be spent, rates.c how fast), forward.c
// (the request goes upstream), relay.c (the answer comes back), meter.c (what it cost), exchange.c
// (begin and end). respond.c writes the answers that are our own.
#ifndef CH_PROXY_SHARED_H
#define CH_PROXY_SHARED_H

#include "proxy/capture.h"
#include "proxy/proxy.h"

#include "crowd.h"
#include "echo.h"
#include "registry_private.h"

#include "base/clock.h"
#include "base/id.h"
#include "domain/media.h"
#include "domain/model_rule.h"
#include "domain/route.h"
#include "net/listener.h"
#include "net/upstream_pool.h"
#include "store/usage_journal.h"
#include "wire/http1.h"
#include "wire/json_scan.h"
#include "wire/multipart.h"
#include "wire/sse.h"
#include "wire/url.h"
#include "wire/usage_scan.h"

#include <sodium.h>
#include <stdatomic.h>

#define HEAD_OUT_MAX                                                                               \
    (CH_HTTP1_HEAD_MAX + 8 * 1024) // bytes of a head we write: theirs and our additions
#define HELD_MAX (64 * 1024) // bytes of an event held back until it is known not to be ours to drop

// What the body said. Offsets are into the decoded body.
struct request_facts {
    // for the estimate; looked for only where a budget or a limit asks
    int64_t max_output; // 1 + the most tokens asked for; 0: not said
    int64_t choices, prompts;
    bool refers_to_content, has_tools, may_search;
    bool has_reference; // to what the provider keeps, or an item with an id that may be one
    bool has_thread;    // Anthropic holds the conversation
    bool is_unstored;   // store is false: the response and its items are not kept
    uint8_t tier_len;
    char tier[16];

    // of images, transcriptions and speech
    struct ch_media_ask ask;
    uint64_t input_at, input_end; // of the text to be spoken, quotes included
    unsigned media_seen;          // bit per member of theirs
    bool streams_speech;

    bool repeats_model;           // beside the path
    uint64_t model_at, model_end; // of the value of model, in JSON with its quotes
    uint8_t nested_model_len;     // of a model further inside that the key may not use; 0: none
    char nested_model[CH_MODEL_TEXT + 1];
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

#define CLAIMS_MAX 2 // keys and teams have rate limits
#define HOLDS_MAX  (SCOPES_MAX * CH_BUDGET_PERIODS)

// What an exchange was admitted with; policy.c and rates.c alone change it. The arrays are not
// initialised.
struct policy_state {
    const struct attribution *attribution; // at admission: whose budgets it falls under
    unsigned epoch;                        // likewise, of the budgets
    uint8_t hold_count, claim_count;
    bool is_estimated, is_limited, cuts;
    bool drains;                            // goes on without its client, to learn what it used
    uint8_t model_sent_len;                 // 0: the one that was asked for
    char model_sent[CH_MODEL_NAME_MAX + 3]; // without quotes
    struct ch_unknown_model_rule ceiling;   // by which a model without a price is priced
    uint64_t model;                         // as ch_learned_model names the one sent
    int64_t choices, tokens, reserved_nano_usd;
    struct ch_rate_claim claims[CLAIMS_MAX];
    struct ch_budget_hold holds[HOLDS_MAX];
    struct scope_budget *held[HOLDS_MAX]; // what each hold is of
};

enum durable_wait {
    DURABLE_NO_WAIT,
    DURABLE_FOR_ADMISSION,
    DURABLE_FOR_SETTLEMENT,
};

// Of an exchange under `durability: power`; durable.c alone changes it.
struct durable_state {
    enum durable_wait wait;
    uint64_t ticket;              // of what it waits for
    struct exchange *prev, *next; // that wait on this loop
    int64_t since_ns, waited_ns;  // the latter for admission
    bool withholds;               // `withheld` takes what would go to the client
    struct ch_buf withheld;       // only then
};

// A place in the body where other bytes go upstream.
struct splice {
    size_t at, end; // of what is replaced
    struct ch_span insert;
};
#define SPLICES_MAX 2 // the model, and the asking for usage

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
    bool body_is_json, body_is_form, body_failed;
    struct splice splices[SPLICES_MAX]; // in the order of the body, apart from each other
    unsigned splice_count;
    char quoted_model[CH_MODEL_NAME_MAX + 3]; // what a splice inserts for the model
    size_t path_model_at, path_model_len;     // in `suffix`, where the model stands in the path
    size_t upstream_sent, upstream_total;     // body bytes with the splices

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
    bool filters_list;  // the answer is a list of models that the key sees a part of
    bool ends_at_event; // what was given on so far ends where an event ends
    bool observes, is_sse, drops_usage_event, event_is_released, was_dropped;
    struct ch_sse sse;
    struct ch_buf held; // the front of an event that may be ours to drop
    int64_t response_bytes;
    struct echo_guard echo;
    char upstream_id[CH_RECORD_UPSTREAM_ID + 1];
    char user_agent[CH_RECORD_AGENT + 1];

    struct ch_capture *capture; // of its bodies; NULL: they are not captured
    unsigned object_count;      // of `objects`

    struct durable_state durable;

    // accounting
    bool has_slot, is_settled;
    bool is_drained; // the client is gone, the answer is read for its usage alone
    int64_t drain_until_ns;
    uint32_t slot;
    const char *rule;  // the code of a denial or failure, or "shadow:" and what would have been one
    bool was_refused;  // `rule` is the former
    int interim_count; // 1xx answers skipped

    // Large and initialised by their own functions: everything above is zeroed at begin, of the
    // policy what stands before its arrays.
    struct policy_state policy;
    union {
        struct ch_json_scan json; // of the request, as body_is_json and body_is_form say
        struct ch_multipart form;
    };
    uint64_t objects[CH_RECORD_OBJECTS]; // that the answer named, hashed; the first ones
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
    bool is_previous; // by the secret that a rotation replaced
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
    struct crowd_place *place;
    bool has_partial_head, is_half_closed, is_closing;
    int64_t doubted_ns; // when the last bad key came
    char address[48];
};

#define REQUEST_PLANS 5 // shapes of bodies that facts.c tells apart

struct ch_proxy {
    struct ch_proxy_options options;
    struct ch_json_plan *request_plans[REQUEST_PLANS]; // what every request of a shape is asked for
    struct ch_json_plan *estimate_plan;                // and beyond it what an estimate needs
    struct ch_json_plan *media_plan;                   // and beyond it what media are billed by
    struct ch_json_plan *reference_plan;
    struct ch_usage_plans *usage_plans;
    unsigned char digest_key[crypto_shorthash_siphashx24_KEYBYTES]; // of remembered keys
    _Atomic bool is_ready;                                          // as /readyz tells it
    _Atomic int64_t client_count; // connections of clients, all loops
    struct crowd *crowd;          // and by address
    int64_t half_of_descriptors;  // what one address may hold unless configured
};

// Of lines that may come too often: when the last one was written, and how many were not since.
struct log_pace {
    int64_t written_ns, left_out;
};

struct ch_proxy_loop {
    struct ch_proxy *proxy;
    struct ch_loop *loop;
    const struct ch_config *config; // in force here: a reload replaces it between two turns
    unsigned index;
    struct ch_upstream_pool *pool;
    struct ch_vault_reader *vault;
    struct ch_id_source ids;
    struct client *clients;
    struct exchange *free_exchanges;
    unsigned free_count;
    unsigned drain_count;   // exchanges that go on without their client
    struct ch_buf head_out; // a head being built; wiped after every use
    bool is_draining;       // the daemon stops: what comes is served, then its connection closes
    bool is_over;           // nothing is served any more
    struct log_pace warnings, refusals;
    _Atomic int64_t exchange_count, denied_count, refused_count;

    bool is_durable;                               // durability: power
    struct exchange *waiting_first, *waiting_last; // for the disk, in order of their tickets
};

// ---- client.c
void client_accept(struct ch_proxy_loop *pl, int fd, struct ch_tls *tls, const char *address);
// A bad key came: who sends many of them is served when nobody else waits.
void client_doubt(struct client *c);
// The exchange is over: the next request, or the end of the connection.
void client_exchange_over(struct client *c, bool keep_alive);
void client_abandon(struct client *c); // close at once, without another byte
// The loop drains: a client between requests may send the one that is on its way.
void client_retire(struct client *c);

// ---- exchange.c
struct exchange *exchange_begin(struct client *c);
// The head is complete: identity and clocks.
void exchange_start_clock(struct exchange *x);
// The one end of an exchange; idempotent by construction: it frees it. `keep_alive`: the client's
// connection can carry another request.
void exchange_end(struct exchange *x, enum ch_end_reason reason, bool keep_alive);
// The answer is read, or given up: its connection goes back, or is closed.
void exchange_release_upstream(struct exchange *x, enum ch_end_reason reason);
// Whether a line may be written; else it is counted. Whoever writes it tells `left_out` and clears
// that.
bool log_is_due(struct log_pace *pace, int64_t now_ns, int64_t every_ns);
CH_COLD void exchange_warn(struct exchange *x, const char *event, const char *detail);

// ---- gate.c: each returns false after it has answered the client
bool gate_head(struct exchange *x);
bool gate_request(struct exchange *x);
// The valid key of a request to one of our own paths, or NULL (not answered).
const struct key_record *gate_own_key(struct exchange *x);

// ---- facts.c
enum ch_err facts_plans_new(struct ch_proxy *proxy) CH_MUST_USE;
// Looks for facts in the body from here on: JSON, or a form.
void facts_begin(struct exchange *x, bool for_estimate);
void facts_begin_form(struct exchange *x, struct ch_span boundary);
void facts_take(struct exchange *x, struct ch_span piece); // an error shows in body_failed
void facts_finish(struct exchange *x);                     // the body is whole and well-formed
bool facts_are_of_media(const struct exchange *x);         // an image, transcription or speech

// ---- objects.c
enum ch_err objects_plan_new(struct ch_json_plan **plan_out) CH_MUST_USE;
// The answer named something that the provider keeps: it belongs to the key. A ch_usage_object_fn.
void objects_learn(void *arg, struct ch_span id);
// Of a request that has a reference: false after it has answered the client, because it refers to
// what is not its key's.
bool objects_check(struct exchange *x, const struct key_record *key);

// ---- policy.c: those that give a bool return false after they have answered the client
bool policy_needs_facts(const struct exchange *x, const struct key_record *key);
// Maps the model and checks the one that will be sent.
bool policy_check_model(struct exchange *x, const struct key_record *key);
bool policy_allows_model(const struct key_record *key, struct ch_span model);
bool policy_has_model_lists(const struct key_record *key);
struct ch_span policy_model_sent(const struct exchange *x); // "" where there is none
// Reserves on every budget and takes from every limit, or refuses.
bool policy_admit(struct exchange *x, const struct key_record *key);
void policy_settle(struct exchange *x, const struct ch_usage_record *record);
void policy_cancel(struct exchange *x); // nothing was sent
// `usage` may be NULL. NULL: no price is known.
const struct ch_price *policy_find_price(const struct exchange *x, struct ch_span model,
                                         const struct ch_usage *usage);
// Input and output; a sum that overflows stays at the largest number.
int64_t policy_all_tokens(const struct ch_usage *usage);
// What happens to a model without a price: by the key's rule, its provider's, or, where neither has
// one, by whether a budget applies. Never CH_UNKNOWN_MODEL_DEFAULT.
struct ch_unknown_model_rule policy_unknown_model(const struct key_record *key,
                                                  const struct provider_record *provider,
                                                  struct scope *const *scopes, unsigned count);
int64_t policy_ceiling_cost(const struct ch_unknown_model_rule *rule, const struct ch_usage *usage);
// Whether a budget that cuts streams is spent, with what this exchange has cost so far.
bool policy_is_exhausted(const struct exchange *x, int64_t cost_so_far);
// Fields of the answer: a budget that is nearly spent, the key's own rate limits.
enum ch_err policy_append_fields(const struct exchange *x, struct ch_buf *out) CH_MUST_USE;
// Of a rule that only watches: the first that would have refused is named in the usage row.
void policy_note_shadow(struct exchange *x, const char *rule);

// ---- rates.c
// All limits of the scopes or none. False after the client was refused.
bool rates_claim(struct exchange *x, struct scope *const *scopes, unsigned count);
void rates_settle(struct exchange *x, const struct ch_usage *usage); // NULL: nothing was used
enum ch_err rates_append_fields(const struct exchange *x, struct ch_buf *out) CH_MUST_USE;

// ---- listing.c
bool listing_is_filtered(const struct exchange *x, const struct key_record *key);
bool listing_shows(const struct key_record *key, struct ch_span model);
// Gathers the provider's list in `held`, which listing_finish replaces by what the key may see.
enum ch_err listing_add(struct exchange *x, struct ch_span bytes) CH_MUST_USE;
enum ch_err listing_finish(struct exchange *x) CH_MUST_USE;

// ---- forward.c
void forward_start(struct exchange *x);
// Goes on where the exchange waited for its slot to be on disk.
void forward_admitted(struct exchange *x);
// Copies what is still borrowed from the client's bytes and needed later. Failing ends the
// exchange.
void forward_hold_request(struct exchange *x);
// Copies one more piece of body behind the head.
enum ch_err forward_hold_body(struct exchange *x, struct ch_span payload) CH_MUST_USE;
extern const struct ch_peer_handler forward_handler;

// ---- answer_head.c
// From the parsed head of an answer, whose bytes begin at `base`, to the client's, which replaces
// what `out` held. Decides on observers and framing.
enum ch_err answer_head_pass(struct exchange *x, const char *base, struct ch_buf *out) CH_MUST_USE;

// ---- relay.c
size_t relay_bytes(struct exchange *x, struct ch_span bytes);
void relay_upstream_end(struct exchange *x, enum ch_peer_end end);
void relay_client_writable(struct exchange *x);
// The client has gone. True: the answer is read on without it, and the exchange ends by itself.
bool relay_drains(struct exchange *x);

// ---- durable.c
void durable_open(struct ch_proxy_loop *pl);
// The slot was claimed just now: forward_admitted follows, or the exchange's end. Only on a loop
// that is_durable.
void durable_admit(struct exchange *x);
// From here on what would be written to the client is kept, where the end of the answer must wait.
void durable_withhold(struct exchange *x);
// Writes to the client, or keeps what is withheld.
enum ch_err durable_write(struct exchange *x, const struct iovec *parts, int count) CH_MUST_USE;
// Everything was given. What is withheld is settled, and reaches the client when the record is on
// disk; else the exchange ends.
void durable_finish(struct exchange *x, enum ch_end_reason reason);
void durable_timeout(struct exchange *x); // the client's deadline has passed
void durable_forget(struct exchange *x);  // the exchange ends

// ---- capture.c: all but the first are for an exchange that is captured
void capture_begin(struct exchange *x); // the request is whole and goes upstream
void capture_answer_head(struct exchange *x, const char *base);
void capture_answer_bytes(struct exchange *x, struct ch_span bytes); // on their way to the client
void capture_end(struct exchange *x);                                // after settlement

// ---- meter.c
bool meter_states_output(enum ch_usage_form form);   // else it has input alone
int64_t meter_cost_so_far(const struct exchange *x); // of what was seen until now
void meter_settle(struct exchange *x, enum ch_end_reason reason);

// ---- respond.c
struct denial {
    int status;
    const char *code;
    const char *message;
    int retry_after_s;      // 0: none
    int64_t retry_after_ms; // 0: none; for a dialect that has it in the body
    const char *fields;     // more lines of the head, each with its CRLF; NULL: none
    bool is_spend_limit;    // the dialect's words for it
    bool closes;            // the connection cannot be trusted, or holds an unread body
};
// Answers and ends the exchange with `reason`.
CH_COLD void respond_denial(struct exchange *x, const struct denial *denial,
                            enum ch_end_reason reason);
CH_COLD void respond_unaccounted(struct exchange *x, bool closes); // 503: its usage has no place
// The parser's verdict on a broken head: there is no exchange yet.
CH_COLD void respond_parse_error(struct client *c, const struct ch_http1_error *error);
// healthz, readyz, /chaperone/v1/…; true when the path was one of them (answered).
bool respond_own_path(struct exchange *x);

#endif
