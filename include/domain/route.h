// SPDX-License-Identifier: Apache-2.0
// Routes: which request paths are served, where the model stands, what they cost, where usage
// stands.
//
// One table per dialect (wire.md §1.2). A path that is in no table is refused: what cannot be
// metered is not forwarded. Path bytes are compared and forwarded as they came. Pure; any thread;
// spans borrow the path.
#ifndef CH_DOMAIN_ROUTE_H
#define CH_DOMAIN_ROUTE_H

#include "domain/provider.h"
#include "domain/usage.h"

enum ch_endpoint { // stored in usage rows by name
    CH_ENDPOINT_NONE,
    CH_ENDPOINT_CHAT_COMPLETIONS,
    CH_ENDPOINT_COMPLETIONS,
    CH_ENDPOINT_RESPONSES,
    CH_ENDPOINT_RESPONSES_INPUT_TOKENS,
    CH_ENDPOINT_EMBEDDINGS,
    CH_ENDPOINT_MODERATIONS,
    CH_ENDPOINT_MODELS,
    CH_ENDPOINT_MESSAGES,
    CH_ENDPOINT_COUNT_TOKENS,
    CH_ENDPOINT_GENERATE_CONTENT,
    CH_ENDPOINT_STREAM_GENERATE_CONTENT,
    CH_ENDPOINT_EMBED_CONTENT,
    CH_ENDPOINT_BATCH_EMBED_CONTENTS,
    CH_ENDPOINT_RESPONSES_COMPACT,
    CH_ENDPOINT_IMAGES_GENERATIONS,
    CH_ENDPOINT_IMAGES_EDITS,
    CH_ENDPOINT_IMAGES_VARIATIONS,
    CH_ENDPOINT_AUDIO_TRANSCRIPTIONS,
    CH_ENDPOINT_AUDIO_TRANSLATIONS,
    CH_ENDPOINT_AUDIO_SPEECH,
};
#define CH_ENDPOINTS 21
const char *ch_endpoint_name(enum ch_endpoint endpoint); // "chat_completions" …

enum ch_model_place {
    CH_MODEL_NOWHERE, // listings: no model rule applies
    CH_MODEL_IN_BODY, // top-level JSON member `model`
    CH_MODEL_IN_PATH,
    CH_MODEL_IN_FORM, // field `model` of a form; the JSON member where the body is JSON
                      // (takes_json)
};

enum ch_stream_sign { // what makes a request a streamed one
    CH_STREAM_NEVER,
    CH_STREAM_BY_BODY,   // `"stream": true`, or the form's field
    CH_STREAM_ALWAYS,    // the path says so
    CH_STREAM_BY_FORMAT, // `"stream_format": "sse"`
};

struct ch_route {
    enum ch_dialect dialect;
    enum ch_endpoint endpoint;
    bool is_post; // else GET
    enum ch_model_place model_place;
    enum ch_stream_sign stream_sign;
    enum ch_usage_form usage_form; // CH_USAGE_NONE: free
    bool takes_include_usage;      // `stream_options.include_usage` makes its stream state usage
    bool is_deployment;            // Azure's /deployments/{D}/…: served by azure providers only
    // What a POST may carry; the Content-Type says which of them it is.
    bool takes_json, takes_form;
};

struct ch_route_match {
    const struct ch_route *route;
    struct ch_span model; // with CH_MODEL_IN_PATH, as it stands in the path
    struct ch_span
        suffix; // what follows the provider's base (and its version, where the type has one)
};

// Takes /openai, /anthropic or /gemini off the front of the path; they pin the dialect. False: none
// there.
bool ch_route_prefix(struct ch_span path, enum ch_dialect *dialect_out, struct ch_span *rest_out);

enum ch_route_result {
    CH_ROUTE_FOUND,
    CH_ROUTE_WRONG_METHOD, // the path exists: 405
    CH_ROUTE_UNKNOWN,
};
// Looks the path (without dialect prefix) up in one dialect's table.
enum ch_route_result ch_route_find(enum ch_dialect dialect, struct ch_span path, bool is_post,
                                   struct ch_route_match *match_out);

// What stands between the provider's base URL and the suffix: "" , or "/openai/v1" and "/openai"
// for azure.
struct ch_span ch_route_upstream_infix(enum ch_provider_type type, const struct ch_route *route);

#endif
