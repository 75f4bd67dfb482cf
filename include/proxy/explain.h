// SPDX-License-Identifier: Apache-2.0
// What the gate would decide on a request, and why: `key explain`, without sending or reserving
// anything.
//
// Runs the gate's own functions on the changing thread (admin), step by step in their order, and
// goes on behind a refusal, so that all reasons are seen at once.
#ifndef CH_PROXY_EXPLAIN_H
#define CH_PROXY_EXPLAIN_H

#include "domain/model_rule.h"
#include "domain/wrapped_key.h"
#include "proxy/registry.h"

struct ch_explain_request {
    struct ch_span public_id; // of the key
    struct ch_span model;     // as a client would name it; valid
    int64_t input_tokens;     // -1: not said
    int64_t output_tokens;    // the most that is asked for; -1: not said
};

struct ch_explain_step {
    const char *rule;  // "key", "provider", "model", "price", "budget", "rate": constant words
    const char *code;  // of the refusal, as clients see it; NULL: this step allows
    bool is_shadow;    // it would refuse, but only watches
    char text[256];    // one sentence: what was compared with what
};

#define CH_EXPLAIN_STEPS 48
struct ch_explanation {
    bool is_allowed;
    int64_t provider_id; // 0: none serves it
    char model_sent[CH_MODEL_NAME_MAX + 1];
    bool is_priced;
    // By the request's tokens where they were said, else as the gate would estimate.
    int64_t likely_nano_usd, worst_nano_usd;
    unsigned step_count;
    struct ch_explain_step steps[CH_EXPLAIN_STEPS];
};

// CH_ERR_NOT_FOUND: no such key in force.
enum ch_err ch_registry_explain(const struct ch_registry *registry,
                                const struct ch_explain_request *request,
                                struct ch_explanation *explanation_out) CH_MUST_USE;

#endif
