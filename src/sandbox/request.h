// SPDX-License-Identifier: Apache-2.0
// What the sandbox needs to know of a request, gathered while it arrives. Private to sandbox/.
// Pure: no sockets; nothing is kept of a body but these facts.
#ifndef CH_SANDBOX_REQUEST_H
#define CH_SANDBOX_REQUEST_H

#include "domain/media.h"
#include "domain/model_rule.h"
#include "domain/route.h"
#include "wire/http1.h"
#include "wire/json_scan.h"
#include "wire/multipart.h"

#define CH_DIALECTS               3
#define CH_SANDBOX_CREDENTIAL_MAX 512
#define CH_SANDBOX_TIER_MAX       32
#define CH_SANDBOX_WORD_MAX       16
#define CH_SANDBOX_SIZE_MAX       (INT64_C(64) << 20) // bytes of content one answer may be asked for
#define CH_SANDBOX_EVENTS_MAX     INT64_C(10000000)
#define CH_SANDBOX_DELAY_MAX_MS   INT64_C(3600000)

// How an answer departs from the ordinary one (docs/sandbox.md). Asked for by a model called
// "sandbox-WORD[.WORD…]", or by the field `x-sandbox: WORD, …` with any model.
struct ch_sandbox_directives {
    int64_t status; // 0: answer
    int64_t slow_ms, drip_ms;
    int64_t events, size; // -1: not asked for
    bool cached, thinking, cache_write, no_usage;
    bool cut, reset, garbage, redirect, echo_key, echo_content;
};

struct ch_sandbox_request {
    enum ch_dialect dialect;
    enum ch_endpoint endpoint; // CH_ENDPOINT_NONE: the fault says why
    int fault;                 // a status that the request itself earns; 0: none
    const char *fault_text;    // constant
    bool keep_alive, is_http10;
    bool is_authorized;
    bool is_stream, include_usage;
    bool is_event_stream; // Gemini's alt=sse
    bool wants_base64;
    bool has_tool_result, refuses_tools;
    bool has_body_model; // the body must name it
    bool is_form;        // else JSON
    int64_t body_bytes;
    int64_t max_tokens; // 0: not said
    int64_t items, dimensions;
    struct ch_media_ask ask;
    size_t model_len, tool_len, tier_len, credential_len, boundary_len;
    const char *carrier;           // the field that brought the credential; ""
    char model[CH_MODEL_NAME_MAX]; // as it may stand in a JSON string
    char tool[CH_MODEL_NAME_MAX];  // the first tool's name, likewise
    char tier[CH_SANDBOX_TIER_MAX];
    char format[CH_SANDBOX_WORD_MAX]; // `response_format`, where it is a word; ""
    char boundary[CH_MULTIPART_BOUNDARY_MAX];
    char credential[CH_SANDBOX_CREDENTIAL_MAX]; // as it came, to be echoed
    struct ch_sandbox_directives directives;
};

// The members of a body that ch_sandbox_request_take_value wants.
enum ch_err ch_sandbox_request_plan_new(struct ch_json_plan **plan_out) CH_MUST_USE;

// Starts a request from its head, whose bytes are at `base`. `api_key`: the only credential that
// counts; empty: any does, and none too.
void ch_sandbox_request_begin(struct ch_sandbox_request *request, const struct ch_http1_head *head,
                              const char *base, struct ch_span api_key);
// A ch_json_value_fn; `arg` is the request.
bool ch_sandbox_request_take_value(void *arg, const struct ch_json_value *value);
// The fields of a form that ch_sandbox_request_take_field wants.
#define CH_SANDBOX_FORM_FIELDS 6
extern const char *const ch_sandbox_form_fields[CH_SANDBOX_FORM_FIELDS];
// A ch_multipart_value_fn; `arg` is the request.
void ch_sandbox_request_take_field(void *arg, const struct ch_multipart_value *value);
// The body is over: settles what depends on all of it. `is_whole`: it was one JSON document, or a
// form from its first delimiter to its last.
void ch_sandbox_request_finish(struct ch_sandbox_request *request, bool is_whole);

// Reads one word ("slow-200ms"); unknown ones change nothing.
void ch_sandbox_directive_read(struct ch_sandbox_directives *directives, struct ch_span word);

static inline struct ch_span ch_sandbox_request_model(const struct ch_sandbox_request *request)
{
    return (struct ch_span){request->model, request->model_len};
}

#endif
