// SPDX-License-Identifier: Apache-2.0
// The head of an answer: who reads its body along, how that is framed, and what the client gets.
#include "shared.h"

// The provider's numbers are those of an account that many keys share; a key that has limits of its
// own is told its own.
static bool is_rate_field(struct ch_span name)
{
    struct ch_span prefixes[] = {CH_SPAN("x-ratelimit-"), CH_SPAN("anthropic-ratelimit-")};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (name.len > prefixes[i].len &&
            ch_span_ieq((struct ch_span){name.ptr, prefixes[i].len}, prefixes[i]))
            return true;
    return false;
}

static bool passes(const struct exchange *x, const char *base, const struct ch_http1_field *field)
{
    struct ch_span name = ch_http1_name(base, field);
    switch (field->id) {
    case CH_FIELD_CONTENT_LENGTH:
    case CH_FIELD_TRANSFER_ENCODING:
    case CH_FIELD_CONNECTION:
    case CH_FIELD_HOP_BY_HOP:
    case CH_FIELD_COOKIE:
    case CH_FIELD_ACCOUNT:
    case CH_FIELD_CHAPERONE:
    case CH_FIELD_LOCATION:
        return false;
    case CH_FIELD_HOST:
    case CH_FIELD_CONTENT_TYPE:
    case CH_FIELD_CONTENT_ENCODING:
    case CH_FIELD_EXPECT:
    case CH_FIELD_ACCEPT_ENCODING:
    case CH_FIELD_USER_AGENT:
    case CH_FIELD_AUTHORIZATION:
    case CH_FIELD_X_API_KEY:
    case CH_FIELD_X_GOOG_API_KEY:
    case CH_FIELD_API_KEY:
    case CH_FIELD_SEC_WEBSOCKET_PROTOCOL:
    case CH_FIELD_FORWARDING:
    case CH_FIELD_OTHER_GATEWAY:
    case CH_FIELD_OVERRIDE:
    case CH_FIELD_ANTHROPIC_VERSION:
    case CH_FIELD_REQUEST_ID:
    case CH_FIELD_IDEMPOTENCY_KEY:
    case CH_FIELD_X_GOOG_UPLOAD_URL:
    case CH_FIELD_OTHER:
        return !ch_http1_is_connection_option(&x->response_head, base, name) &&
               !(x->policy.is_limited && is_rate_field(name));
    }
    return false;
}

static enum ch_err append_status_line(const struct exchange *x, struct ch_buf *out)
{
    // The reason phrase is free text that no SDK reads; ours stands for the code.
    enum ch_err err = ch_buf_append_span(out, CH_SPAN("HTTP/1.1 "));
    if (!err)
        err = ch_buf_append_uint(out, (uint64_t)x->response_head.status);
    if (!err)
        err = ch_buf_append(out, " ", 1);
    if (!err)
        err = ch_buf_append_span(out, ch_span_of(ch_http1_reason(x->response_head.status)));
    return err ? err : ch_buf_append(out, "\r\n", 2);
}

static enum ch_err append_length(const struct exchange *x, struct ch_buf *out)
{
    enum ch_err err = ch_buf_append_span(out, CH_SPAN("Content-Length: "));
    if (!err)
        err = ch_buf_append_uint(out, (uint64_t)x->response_head.content_length);
    return err ? err : ch_buf_append(out, "\r\n", 2);
}

static enum ch_err append_framing(const struct exchange *x, struct ch_buf *out)
{
    enum ch_err err = CH_OK;
    const struct ch_http1_head *head = &x->response_head;
    if (x->out_framing == OUT_CHUNKED)
        err = ch_buf_append_span(out, CH_SPAN("Transfer-Encoding: chunked\r\n"));
    else if (x->out_framing == OUT_LENGTH && head->has_length)
        err = append_length(x, out);
    if (err)
        return err;
    if (!x->wants_keep_alive)
        return ch_buf_append_span(out, CH_SPAN("Connection: close\r\n"));
    if (x->is_http10)
        return ch_buf_append_span(out, CH_SPAN("Connection: keep-alive\r\n"));
    return CH_OK;
}

static enum ch_err build_head(struct exchange *x, const char *base, struct ch_buf *out)
{
    const struct ch_http1_head *head = &x->response_head;
    char id[CH_REQUEST_ID_TEXT];
    ch_id_format(x->id, id);
    ch_buf_clear(out);
    enum ch_err err = append_status_line(x, out);
    for (uint32_t i = 0; i < head->field_count && !err; i++) {
        const struct ch_http1_field *field = &head->fields[i];
        if (!passes(x, base, field))
            continue;
        err = ch_buf_append(out, base + field->name_at, field->name_len);
        if (!err)
            err = ch_buf_append(out, ": ", 2);
        if (!err)
            err = ch_buf_append(out, base + field->value_at, field->value_len);
        if (!err)
            err = ch_buf_append(out, "\r\n", 2);
    }
    if (!err)
        err = append_framing(x, out);
    if (!err)
        err = policy_append_fields(x, out);
    if (!err)
        err = ch_buf_append_span(out, CH_SPAN("x-chaperone-request-id: "));
    if (!err)
        err = ch_buf_append(out, id, CH_REQUEST_ID_TEXT - 1);
    if (!err)
        err = ch_buf_append_span(out, CH_SPAN("\r\n\r\n"));
    if (!err)
        echo_guard_mask(&x->echo, out->ptr, out->len);
    return err;
}

static bool starts_with_type(struct ch_span value, struct ch_span type)
{
    return value.len >= type.len && ch_span_ieq((struct ch_span){value.ptr, type.len}, type);
}

// The id goes into the usage row, so an echo of the credential is masked here as well, before it is
// cut to fit.
static void note_upstream_id(struct exchange *x, struct ch_span value)
{
    char text[1024];
    if (value.len > sizeof text)
        return;
    memcpy(text, value.ptr, value.len);
    echo_guard_mask(&x->echo, text, value.len);
    ch_span_copy((struct ch_span){text, value.len}, x->upstream_id, sizeof x->upstream_id);
}

// Decides who reads along. Only good answers of metered routes, in a form we can read.
static void choose_observers(struct exchange *x, const char *base)
{
    const struct ch_http1_head *head = &x->response_head;
    const struct ch_http1_field *type = ch_http1_find(head, CH_FIELD_CONTENT_TYPE);
    const struct ch_http1_field *coding = ch_http1_find(head, CH_FIELD_CONTENT_ENCODING);
    const struct ch_http1_field *id = ch_http1_find(head, CH_FIELD_REQUEST_ID);
    if (id)
        note_upstream_id(x, ch_http1_value(base, id));
    bool is_plain = !coding || ch_span_ieq(ch_http1_value(base, coding), CH_SPAN("identity"));
    struct ch_span value = type ? ch_http1_value(base, type) : CH_SPAN("");
    x->is_sse = starts_with_type(value, CH_SPAN("text/event-stream"));
    x->observes = x->route->usage_form != CH_USAGE_NONE && is_plain && head->status < 300 &&
                  (x->is_sse || starts_with_type(value, CH_SPAN("application/json")));
    x->drops_usage_event = x->drops_usage_event && x->observes && x->is_sse;
    if (x->observes) {
        ch_usage_scan_init(&x->usage, x->pl->proxy->usage_plans, x->route->usage_form);
        x->usage.on_object = objects_learn;
        x->usage.object_arg = x;
        x->usage.is_kept =
            x->facts.has_thread ||
            (x->route->usage_form == CH_USAGE_OPENAI_RESPONSES && !x->facts.is_unstored);
    }
    if (x->is_sse)
        ch_sse_init(&x->sse);
}

static void choose_framing(struct exchange *x)
{
    const struct ch_http1_head *head = &x->response_head;
    bool has_known_length =
        head->framing == CH_FRAMING_NONE ||
        (head->framing == CH_FRAMING_LENGTH && !x->drops_usage_event && !x->filters_list);
    if (has_known_length)
        x->out_framing = OUT_LENGTH;
    else
        x->out_framing = x->is_http10 ? OUT_TO_CLOSE : OUT_CHUNKED;
    if (x->out_framing == OUT_TO_CLOSE)
        x->wants_keep_alive = false;
    if (x->client->is_half_closed || x->pl->is_draining)
        x->wants_keep_alive = false;
}

enum ch_err answer_head_pass(struct exchange *x, const char *base, struct ch_buf *out)
{
    choose_observers(x, base);
    if (x->capture)
        capture_answer_head(x, base);
    choose_framing(x);
    return build_head(x, base, out);
}
