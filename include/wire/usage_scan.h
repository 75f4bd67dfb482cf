// SPDX-License-Identifier: Apache-2.0
// Reads usage off a response: drives json_scan with the paths of a usage form and fills struct
// ch_usage_raw.
//
// One scan accompanies one response: a plain JSON body is one document, an SSE stream one document
// per event, a streamed JSON array (Gemini) one document whose elements count as events. Numbers
// are kept by "last non-null wins" over the whole response (wire.md §2), never added; what is
// negative, fractional or absurdly large is ignored and the document that said it is not taken for
// final. Broken JSON in an event is counted and skipped: the observer never stops a stream. No
// allocation after the plans are built.
#ifndef CH_WIRE_USAGE_SCAN_H
#define CH_WIRE_USAGE_SCAN_H

#include "domain/usage.h"
#include "wire/json_scan.h"

// The compiled paths of all forms; built once at start, shared by threads.
struct ch_usage_plans;
enum ch_err ch_usage_plans_new(struct ch_usage_plans **plans_out) CH_MUST_USE;
void ch_usage_plans_free(struct ch_usage_plans *plans);

#define CH_MODEL_TEXT      128
#define CH_RESPONSE_ID_MAX 80

// Private: what was seen of the current event, which is a document or an element of a streamed
// array.
struct ch_usage_event {
    bool has_usage, has_bad_count, has_content, has_type, closes_stream;
    int64_t queries; // web searches it names
};

// Private: Gemini's list of tokens by modality that is being read.
struct ch_usage_modalities {
    int64_t audio_tokens, image_tokens;
    int64_t count; // of the element being read
    bool is_audio, is_image;
};

// Private: Anthropic's list of iterations. Those of type compaction are not in the totals.
struct ch_usage_iterations {
    bool is_compaction;
    int64_t current[CH_SLOT_CACHE_WRITE + 1]; // the element being read, by slot
    int64_t sum[CH_SLOT_CACHE_WRITE + 1];     // of the compactions of this list
    int64_t added[CH_SLOT_CACHE_WRITE + 1];   // what raw.slot holds of them already
};

struct ch_usage_scan {
    enum ch_usage_form form;
    struct ch_usage_raw raw;
    char model_served[CH_MODEL_TEXT + 1];     // "" until seen; a longer name is ignored
    char response_id[CH_RESPONSE_ID_MAX + 1]; // body `id`, `responseId`; "" until seen
    int64_t delta_events; // stream events that carried generated content (≈ output tokens when no
                          // usage comes)
    int64_t broken_documents;
    bool has_seen_usage; // the last usage that was stated is well-formed
    bool is_complete; // the provider's final usage was seen (terminal event, last chunk, plain
                      // body)
    bool is_error;    // a document was an error object (`error` member, `"type":"error"`)

    // Facts of the current document, valid between its end and the next feed. The one event that
    // our own include_usage produced has usage_is_object, has_choices and not has_choice (wire.md
    // §2.1).
    bool has_choice;  // `choices` has an element
    bool has_choices; // `choices` is an array
    bool usage_is_object;

    // private
    const struct ch_json_plan *plan;   // NULL: a form that states nothing
    const struct ch_usage_rule *rules; // what stands at each of its paths
    struct ch_json_scan json;
    bool in_document, is_broken;
    uint8_t head_len;
    char head[8]; // the document's first bytes, to tell "[DONE]"
    struct ch_usage_event event;
    bool has_finished;
    // OpenRouter: what it charged, and what the caller's own upstream account was charged beside it
    bool is_byok;
    int64_t cost_nano, upstream_cost_nano; // -1: not stated
    struct ch_usage_modalities list;
    struct ch_usage_iterations iterations;
};

void ch_usage_scan_init(struct ch_usage_scan *scan, const struct ch_usage_plans *plans,
                        enum ch_usage_form form);
void ch_usage_scan_feed(struct ch_usage_scan *scan, struct ch_span piece);
// The document is over (end of body, end of event); the next feed begins another. `event_name`: the
// SSE name, "" for plain bodies. "[DONE]" is no document and is not broken.
void ch_usage_scan_end_document(struct ch_usage_scan *scan, struct ch_span event_name);

#endif
