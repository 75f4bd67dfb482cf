// SPDX-License-Identifier: Apache-2.0
// The error bodies that a client's SDK expects, per dialect (wire.md §3.1). Pure; any thread.
#ifndef CH_DOMAIN_ERROR_BODY_H
#define CH_DOMAIN_ERROR_BODY_H

#include "domain/provider.h"

struct ch_error_body {
    int status;              // HTTP status, decides the dialect's error type
    const char *code;        // our own constant word: "model_not_allowed"
    struct ch_span message;  // one or two sentences; escaped here
    const char *request_id;  // "req_…"
    bool is_spend_limit;     // the dialect's words for a limit in money stand in for type and code
    int64_t retry_after_ms;  // 0: not said; Gemini has it in the body
};

// The dialect's own word for a status: OpenAI's and Anthropic's error type, Gemini's status.
const char *ch_error_type(enum ch_dialect dialect, int status);
// Appends the JSON document. The only failures are the buffer's.
enum ch_err ch_error_body_append(enum ch_dialect dialect, const struct ch_error_body *error,
                                 struct ch_buf *out) CH_MUST_USE;

#endif
