// SPDX-License-Identifier: Apache-2.0
// Reads usage off a response: drives json_scan with the paths of a usage form and fills struct
// ch_usage_raw.
//
// One scan accompanies one response: a plain JSON body is one document, an SSE stream one document
// per event, a streamed JSON array (Gemini) one document whose elements count as events. Numbers
// are kept by "last non-null wins" over the whole response (wire.md §2), never added; only a
// realtime session, a document a server event, adds the usage of its responses up. What is
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

// Usage of another model than the one that served, billed at that model's price beside the
// response's own: Anthropic's advisor, the images that a Responses tool made, the writer of an SVG,
// the transcriber of a realtime session.
struct ch_usage_side {
    char model[CH_MODEL_TEXT + 1]; // "": not said
    enum ch_usage_form form;       // to normalise it by
    struct ch_usage_raw raw;
};
#define CH_USAGE_SIDES_MAX 4 // models beside the one that served

// Private: what was seen of the current event, which is a document or an element of a streamed
// array.
struct ch_usage_event {
    bool has_usage, has_bad_count, has_content, has_type, closes_stream;
    bool has_side, adds_response, adds_side;
    int64_t queries; // web searches it names
};

// Private: Gemini's list of tokens by modality that is being read.
struct ch_usage_modalities {
    int64_t audio_tokens, image_tokens, video_tokens;
    int64_t count; // of the element being read
    bool is_audio, is_image, is_video;
};

// Private: Gemini's list of grounding tools.
struct ch_usage_tools {
    bool is_search;
    int64_t count; // of the element being read
};

// Private: Anthropic's list of iterations. Those of type compaction are not in the totals, nor are
// those of an advisor, which are another model's.
#define CH_ITERATION_SLOTS (CH_SLOT_CACHE_WRITE_1H + 1)
struct ch_usage_iterations {
    bool is_compaction, is_advisor;
    int64_t current[CH_ITERATION_SLOTS]; // the element being read, by slot
    int64_t sum[CH_ITERATION_SLOTS];     // of the compactions of this list
    int64_t added[CH_ITERATION_SLOTS];   // what raw.slot holds of them already
};

// The id of something that the provider keeps for its account and that a later request can refer
// to, as often as it stands: a response, an item of its output, a container. Borrowed until the
// call returns.
typedef void (*ch_usage_object_fn)(void *arg, struct ch_span id);

struct ch_usage_scan {
    enum ch_usage_form form;
    struct ch_usage_raw raw;
    char model_served[CH_MODEL_TEXT + 1];     // "" until seen; a longer name is ignored
    char response_id[CH_RESPONSE_ID_MAX + 1]; // body `id`, `responseId`; "" until seen
    int64_t delta_events; // stream events that carried generated content (≈ output tokens when no
                          // usage comes)
    int64_t broken_documents;
    bool has_seen_usage; // the last usage that was stated is well-formed
    bool is_complete;    // the provider's final usage was seen (terminal event, last chunk, plain
                         // body)
    bool is_error;       // a document was an error object (`error` member, `"type":"error"`)
    // Billed beside the raw usage, unless that states a cost, which is the whole.
    unsigned side_count;          // of `sides`, at the end
    bool has_lost_sides;          // there were more of them: the cost is not whole
    ch_usage_object_fn on_object; // set after init; NULL: nobody wants to know
    void *object_arg;
    bool is_kept; // set after init: the provider keeps the answer, so its id and its items' count

    // Facts of the current document, valid between its end and the next feed. The one event that
    // our own include_usage produced has usage_is_object, has_choices and not has_choice (wire.md
    // §2.1).
    bool has_choice;  // `choices` has an element
    bool has_choices; // `choices` is an array
    bool usage_is_object;

    // private
    const struct ch_json_plan *plan;   // NULL: a form that states nothing
    const struct ch_usage_rule *rules; // what stands at each of its paths
    bool in_document, is_broken;
    uint8_t head_len;
    char head[8]; // the document's first bytes, to tell "[DONE]"
    struct ch_usage_event event;
    bool has_finished;
    // OpenRouter: what it charged, and what the caller's own upstream account was charged beside it
    bool is_byok;
    int64_t cost_nano, upstream_cost_nano; // -1: not stated
    struct ch_usage_modalities list;
    struct ch_usage_tools tools;
    struct ch_usage_iterations iterations;
    struct ch_usage_side side; // the one being read

    // Not cleared: each is written before it is read, and most exchanges need neither the first nor
    // the last.
    int64_t session[CH_USAGE_SLOTS]; // of a realtime session: what its responses add up to
    struct ch_json_scan json;
    struct ch_usage_side sides[CH_USAGE_SIDES_MAX];
};

void ch_usage_scan_init(struct ch_usage_scan *scan, const struct ch_usage_plans *plans,
                        enum ch_usage_form form);
void ch_usage_scan_feed(struct ch_usage_scan *scan, struct ch_span piece);
// The document is over (end of body, end of event); the next feed begins another. `event_name`: the
// SSE name, "" for plain bodies. "[DONE]" is no document and is not broken.
void ch_usage_scan_end_document(struct ch_usage_scan *scan, struct ch_span event_name);

#endif
