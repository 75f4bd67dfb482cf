// SPDX-License-Identifier: Apache-2.0
// Reads usage off a response: drives json_scan with the paths of a usage form and fills struct ch_usage_raw.
//
// One scan accompanies one response: a plain JSON body is one document, an SSE stream one document per event.
// Numbers are kept by "last non-null wins" over the whole response (wire.md §2); Anthropic's cumulative
// deltas and their rules are handled here. Broken JSON in an event is counted and skipped: the observer never
// stops a stream. No allocation after the plans are built.
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

struct ch_usage_scan {
    enum ch_usage_form form;
    struct ch_usage_raw raw;
    char model_served[CH_MODEL_TEXT + 1];      // "" until seen
    char response_id[CH_RESPONSE_ID_MAX + 1];  // body `id`, `responseId`; "" until seen
    int64_t delta_events; // stream events that carried generated content (≈ output tokens when no usage comes)
    int64_t broken_documents;
    bool is_complete; // the provider's final usage was seen (terminal event, last chunk, plain body)
    bool is_error;    // the document was an error object (`error` member, `type":"error"`)

    // Facts of the current document, for the one event that our own include_usage produced (wire.md §2.1).
    bool has_choice;   // `choices` has an element
    bool has_choices;  // `choices` is an array
    bool usage_is_object;
    // private
    struct ch_json_scan json;
    bool document_broken;
    int64_t element_count; // of the modality entry being read
    int element_modality;
    bool counts_delta;
};

void ch_usage_scan_init(struct ch_usage_scan *scan, const struct ch_usage_plans *plans,
                        enum ch_usage_form form);
void ch_usage_scan_feed(struct ch_usage_scan *scan, struct ch_span piece);
// The document is over (end of body, end of event); the next feed begins another. `event_name`: the SSE
// name, "" for plain bodies. "[DONE]" is no document and is not broken.
void ch_usage_scan_end_document(struct ch_usage_scan *scan, struct ch_span event_name);

#endif
