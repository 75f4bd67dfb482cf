// SPDX-License-Identifier: Apache-2.0
// Copies what an exchange says, where its bodies are to be captured. An exchange that is not
// captured pays for the question alone.
#include "shared.h"

static struct ch_capture_queue *queue_of(const struct exchange *x)
{
    return x->pl->proxy->options.captures;
}

static void give_up(struct exchange *x)
{
    ch_capture_drop(queue_of(x), x->capture);
    x->capture = NULL;
}

static void start(struct exchange *x, const struct key_record *key, bool is_kept)
{
    size_t max = (size_t)x->pl->config->capture.max_body;
    struct ch_capture *capture = ch_capture_begin(queue_of(x), x->id, max, is_kept ? max : 0);
    x->capture = capture;
    if (!capture)
        return;
    capture->is_kept = is_kept;
    capture->has_request = x->body_is_json;
    ch_span_copy(key_record_name(key), capture->key, sizeof capture->key);
    if (x->body_is_json && !ch_capture_add_request(queue_of(x), capture, x->body))
        give_up(x);
}

void capture_begin(struct exchange *x)
{
    const struct ch_config *config = x->pl->config;
    const struct ch_registry *registry = x->pl->proxy->options.registry;
    if (!config->capture.bodies && !config->capture.tripwire && !registry_captures_any(registry))
        return;
    if (!queue_of(x) || !x->route->is_post || x->route->usage_form == CH_USAGE_NONE)
        return;
    const struct key_record *key =
        registry_find(registry, (struct ch_span){x->public_id, sizeof x->public_id});
    bool is_kept = config->capture.bodies || (key && registry_captures(key));
    if (key && (is_kept || (config->capture.tripwire && x->body_is_json)))
        start(x, key, is_kept);
}

static bool is_of_type(struct ch_span value, struct ch_span type)
{
    return value.len >= type.len && ch_span_ieq((struct ch_span){value.ptr, type.len}, type);
}

void capture_answer_head(struct exchange *x, const char *base)
{
    const struct ch_http1_field *type = ch_http1_find(&x->response_head, CH_FIELD_CONTENT_TYPE);
    const struct ch_http1_field *coding =
        ch_http1_find(&x->response_head, CH_FIELD_CONTENT_ENCODING);
    struct ch_capture *capture = x->capture;
    struct ch_span value = type ? ch_http1_value(base, type) : CH_SPAN("");
    if (!capture->is_kept ||
        (coding && !ch_span_ieq(ch_http1_value(base, coding), CH_SPAN("identity"))))
        return;
    capture->has_response = true;
    if (is_of_type(value, CH_SPAN("text/event-stream")))
        capture->response_mode = CH_SCRUB_SSE;
    else if (is_of_type(value, CH_SPAN("application/json")))
        capture->response_mode = CH_SCRUB_JSON;
    else if (is_of_type(value, CH_SPAN("text/")))
        capture->response_mode = CH_SCRUB_PLAIN;
    else
        capture->has_response = false; // audio, pictures
}

void capture_answer_bytes(struct exchange *x, struct ch_span bytes)
{
    if (x->capture->has_response && !ch_capture_add_response(queue_of(x), x->capture, bytes))
        give_up(x);
}

void capture_end(struct exchange *x)
{
    struct ch_capture *capture = x->capture;
    x->capture = NULL;
    if (!x->is_settled) { // it leaves no usage row, so there is nothing to keep it with
        ch_capture_free(queue_of(x), capture);
        return;
    }
    capture->response_is_cut |= x->response_state != RESPONSE_DONE;
    ch_capture_push(queue_of(x), capture);
}
