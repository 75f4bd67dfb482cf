// SPDX-License-Identifier: Apache-2.0
// What the sandbox says on each endpoint: the providers' documents and event sequences as templates
// (wire.md §1.2, §2, §3.1). Private to sandbox/. Pure data: script_<dialect>.c holds the texts.
#ifndef CH_SANDBOX_SCRIPT_H
#define CH_SANDBOX_SCRIPT_H

#include "domain/route.h"
#include "request.h"
#include "template.h"

#define CH_SCRIPT_STEPS_MAX 8

// One transparent pixel, in base64.
#define CH_SANDBOX_PNG                                                                             \
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg" \
    "gg=="

// The text of one script, as written.
struct ch_script_text {
    const char *id_prefix; // "chatcmpl-"
    const char *plain;     // the whole document
    const char *usage;     // the usage object as the answer states it; NULL: none
    // A stream: every lead, the piece once for each piece of content, every trail. A text that
    // comes out empty is no event. NULL: the endpoint has no stream.
    const char *lead[CH_SCRIPT_STEPS_MAX];
    const char *piece;
    const char *trail[CH_SCRIPT_STEPS_MAX];
};

// The endpoint's texts; with `calls_tool` those that end in a tool call. NULL: not an endpoint of
// that dialect.
const struct ch_script_text *ch_script_openai(enum ch_endpoint endpoint, bool calls_tool);
const struct ch_script_text *ch_script_media(enum ch_endpoint endpoint); // OpenAI's
const struct ch_script_text *ch_script_anthropic(enum ch_endpoint endpoint, bool calls_tool);
const struct ch_script_text *ch_script_gemini(enum ch_endpoint endpoint, bool calls_tool);

// One script, compiled.
struct ch_script {
    struct ch_span id_prefix;
    struct ch_sandbox_template *plain, *usage, *piece;
    struct ch_sandbox_template *lead[CH_SCRIPT_STEPS_MAX], *trail[CH_SCRIPT_STEPS_MAX];
    size_t lead_count, trail_count;
};

// All of them; made at start, shared by threads.
struct ch_script_book {
    struct ch_script scripts[CH_DIALECTS][CH_ENDPOINTS][2]; // the last index: calls_tool
    struct ch_sandbox_template *errors[CH_DIALECTS];
    struct ch_sandbox_template *document_head, *stream_head, *record;
};
enum ch_err ch_script_book_new(struct ch_script_book **book_out) CH_MUST_USE;
void ch_script_book_free(struct ch_script_book *book);

#endif
