// SPDX-License-Identifier: Apache-2.0
// The request goes upstream: head rewritten, credential opened and wiped, body spliced, bytes
// written.
#include "shared.h"

#include "base/secret.h"

#define SLICE_BYTES (256 * 1024) // of a large body, given to the kernel at a time
#define RESERVE_MAX (256 * 1024) // bytes of an announced body for which room is made at once

// ---- holding what is borrowed

// Points everything that was borrowed at the copy of the head.
static void rebase(struct exchange *x)
{
    size_t suffix_at = x->suffix.ptr ? (size_t)(x->suffix.ptr - x->head_base) : 0;
    x->head_base = x->request.ptr;
    x->target =
        ch_target_split((struct ch_span){x->head_base + x->head.target_at, x->head.target_len});
    if (x->suffix.ptr)
        x->suffix.ptr = x->head_base + suffix_at;
}

enum ch_err forward_hold_body(struct exchange *x, struct ch_span payload)
{
    enum ch_err err = CH_OK;
    if (x->request.len == 0) {
        // What is announced but has not come costs nothing yet; the buffer doubles as it comes.
        size_t expected = payload.len;
        if (x->head.framing == CH_FRAMING_LENGTH && x->head.content_length < RESERVE_MAX)
            expected = (size_t)x->head.content_length;
        err = ch_buf_reserve(&x->request, x->head.size + expected);
        if (!err)
            err = ch_buf_append(&x->request, x->head_base, x->head.size);
    }
    if (!err && payload.ptr == x->request.ptr + x->request.len)
        x->request.len += payload.len; // read in place
    else if (!err)
        err = ch_buf_append_span(&x->request, payload);
    if (!err)
        rebase(x);
    return err;
}

void forward_hold_request(struct exchange *x)
{
    struct ch_span body = x->body;
    if (x->sent_ns || x->request.len || x->is_settled)
        return;
    if (forward_hold_body(x, body) != CH_OK) {
        respond_denial(x,
                       &(struct denial){.status = 503,
                                        .code = "out_of_memory",
                                        .message = "Out of memory.",
                                        .retry_after_s = 1,
                                        .closes = true},
                       CH_END_DENIED);
        return;
    }
    x->body = (struct ch_span){x->request.ptr + x->head.size, body.len};
}

// ---- the splice that asks for usage

static size_t skip_blanks(struct ch_span text, size_t at)
{
    while (at < text.len && strchr(" \t\r\n", text.ptr[at]))
        at++;
    return at;
}

// Keeps them in the order of the body; they never overlap.
static void add_splice(struct exchange *x, size_t at, size_t end, struct ch_span insert)
{
    unsigned i = x->splice_count++;
    CH_ASSERT(x->splice_count <= SPLICES_MAX);
    for (; i > 0 && x->splices[i - 1].at > at; i--)
        x->splices[i] = x->splices[i - 1];
    x->splices[i] = (struct splice){at, end, insert};
}

// The model that the key maps to takes the place of the one that was asked for.
static void send_mapped_model(struct exchange *x)
{
    struct ch_span model = policy_model_sent(x);
    if (x->policy.model_sent_len == 0 || x->route->model_place == CH_MODEL_IN_PATH)
        return;
    x->quoted_model[0] = '"';
    memcpy(x->quoted_model + 1, model.ptr, model.len);
    x->quoted_model[model.len + 1] = '"';
    struct ch_span quoted = {x->quoted_model, model.len + 2};
    add_splice(x, x->facts.model_at, x->facts.model_end, x->body_is_form ? model : quoted);
}

static void splice(struct exchange *x, size_t at, size_t end, struct ch_span insert)
{
    add_splice(x, at, end, insert);
    x->drops_usage_event = true;
}

// A streamed chat states its usage only when asked (wire.md §2.1). We ask when the client did not,
// by an edit at a known offset, and take the one event that this adds out of the answer again.
static void ask_for_usage(struct exchange *x)
{
    const struct request_facts *facts = &x->facts;
    if (!x->is_stream || !x->route->takes_include_usage || !x->provider->row.injects_usage ||
        facts->includes_usage)
        return;
    if (!facts->has_options) {
        size_t at = skip_blanks(x->body, 0) + 1;
        splice(x, at, at, CH_SPAN("\"stream_options\":{\"include_usage\":true},"));
    } else if (!facts->options_is_object) {
        splice(x, facts->options_at, facts->options_end, CH_SPAN("{\"include_usage\":true}"));
    } else if (facts->has_include) {
        splice(x, facts->include_at, facts->include_end, CH_SPAN("true"));
    } else {
        size_t at = facts->options_at + 1;
        bool is_empty = x->body.ptr[skip_blanks(x->body, at)] == '}';
        splice(x, at, at,
               is_empty ? CH_SPAN("\"include_usage\":true") : CH_SPAN("\"include_usage\":true,"));
    }
}

// ---- the head

static bool has_underscore(struct ch_span name)
{
    return memchr(name.ptr, '_', name.len) != NULL;
}

// Whether a client's field goes upstream as it is. Credentials, hop-by-hop fields and everything
// that names another account or another proxy stay here (design.md §4.6, security.md §4.16–17).
static bool passes(const struct exchange *x, const struct ch_http1_field *field)
{
    struct ch_span name = ch_http1_name(x->head_base, field);
    switch (field->id) {
    case CH_FIELD_HOST:
    case CH_FIELD_CONTENT_LENGTH:
    case CH_FIELD_CONTENT_ENCODING:
    case CH_FIELD_TRANSFER_ENCODING:
    case CH_FIELD_CONNECTION:
    case CH_FIELD_EXPECT:
    case CH_FIELD_ACCEPT_ENCODING:
    case CH_FIELD_HOP_BY_HOP:
    case CH_FIELD_AUTHORIZATION:
    case CH_FIELD_X_API_KEY:
    case CH_FIELD_X_GOOG_API_KEY:
    case CH_FIELD_API_KEY:
    case CH_FIELD_SEC_WEBSOCKET_PROTOCOL:
    case CH_FIELD_COOKIE:
    case CH_FIELD_FORWARDING:
    case CH_FIELD_ACCOUNT:
    case CH_FIELD_OTHER_GATEWAY:
    case CH_FIELD_OVERRIDE:
    case CH_FIELD_CHAPERONE:
    case CH_FIELD_IDEMPOTENCY_KEY: // written anew, below
        return false;
    case CH_FIELD_CONTENT_TYPE:
    case CH_FIELD_USER_AGENT:
    case CH_FIELD_LOCATION:
    case CH_FIELD_ANTHROPIC_VERSION:
    case CH_FIELD_REQUEST_ID:
    case CH_FIELD_X_GOOG_UPLOAD_URL:
    case CH_FIELD_OTHER:
        return !has_underscore(name) &&
               !ch_http1_is_connection_option(&x->head, x->head_base, name);
    }
    return false;
}

static enum ch_err append_suffix(const struct exchange *x, struct ch_buf *out)
{
    struct ch_span suffix = x->suffix;
    if (x->policy.model_sent_len == 0 || x->route->model_place != CH_MODEL_IN_PATH)
        return ch_buf_append_span(out, suffix);
    enum ch_err err = ch_buf_append(out, suffix.ptr, x->path_model_at);
    if (!err)
        err = ch_buf_append_span(out, policy_model_sent(x));
    return err ? err
               : ch_buf_append_span(out, ch_span_sub(suffix, x->path_model_at + x->path_model_len));
}

static enum ch_err append_target(const struct exchange *x, struct ch_buf *out)
{
    struct ch_span value, whole, query = x->target.query;
    enum ch_err err = ch_buf_append_span(out, x->provider->base_path);
    if (!err)
        err = ch_buf_append_span(out, ch_route_upstream_infix(x->provider->row.type, x->route));
    if (!err)
        err = append_suffix(x, out);
    if (err || !query.ptr)
        return err;
    err = ch_buf_append(out, "?", 1);
    size_t query_at = out->len;
    // The client's key is cut out wherever it stands, as often as it stands.
    while (!err && ch_query_find(query, CH_SPAN("key"), &value, &whole)) {
        err = ch_buf_append(out, query.ptr, (size_t)(whole.ptr - query.ptr));
        query = ch_span_sub(query, (size_t)(whole.ptr + whole.len - query.ptr));
    }
    if (!err)
        err = ch_buf_append_span(out, query);
    if (!err && out->len == query_at)
        out->len--; // nothing is left behind the '?'
    return err;
}

static enum ch_err append_field(struct ch_buf *out, struct ch_span name, struct ch_span value)
{
    enum ch_err err = ch_buf_reserve(out, name.len + value.len + 4);
    if (err)
        return err;
    char *at = out->ptr + out->len;
    memcpy(at, name.ptr, name.len);
    memcpy(at + name.len, ": ", 2);
    memcpy(at + name.len + 2, value.ptr, value.len);
    memcpy(at + name.len + 2 + value.len, "\r\n", 2);
    out->len += name.len + value.len + 4;
    return CH_OK;
}

// Tenants share the provider's account, so equal keys of two tenants must not meet there
// (security.md T29).
static enum ch_err append_idempotency_key(const struct exchange *x, struct ch_buf *out)
{
    const struct ch_http1_field *field = ch_http1_find(&x->head, CH_FIELD_IDEMPOTENCY_KEY);
    if (!field)
        return CH_OK;
    struct ch_span value = ch_http1_value(x->head_base, field);
    return ch_buf_append_format(out, "Idempotency-Key: %.*s-%.*s\r\n", (int)sizeof x->public_id,
                                x->public_id, CH_SPAN_ARG(value));
}

// Dates compare as text.
static bool anthropic_takes_bearer(const struct exchange *x)
{
    const struct ch_http1_field *version = ch_http1_find(&x->head, CH_FIELD_ANTHROPIC_VERSION);
    struct ch_span oldest = CH_SPAN("2023-06-01");
    if (!version)
        return false;
    struct ch_span value = ch_http1_value(x->head_base, version);
    return value.len == oldest.len && memcmp(value.ptr, oldest.ptr, oldest.len) > 0;
}

// The first opening of a record checks its MAC; the record is immutable after that.
static enum ch_err open_record(struct exchange *x, struct provider_record *provider,
                               unsigned char plain[CH_VAULT_PLAIN_MAX], size_t *size_out)
{
    struct ch_vault_binding binding;
    struct ch_span sealed = {(const char *)provider->row.sealed, provider->row.sealed_size};
    if (atomic_load_explicit(&provider->is_proven, memory_order_acquire))
        return ch_vault_open_again(x->pl->vault, sealed, plain, size_out);
    ch_provider_binding(&provider->row, &binding);
    enum ch_err err = ch_vault_open(x->pl->vault, &binding, sealed, plain, size_out);
    if (err)
        return err;
    atomic_store_explicit(&provider->echo_digest,
                          echo_digest((struct ch_span){(const char *)plain, *size_out}),
                          memory_order_relaxed);
    atomic_store_explicit(&provider->is_proven, true, memory_order_release);
    return CH_OK;
}

// The exchange may hold a record that `vault rekey` has replaced since: its successor is sealed by
// the key in use. A successor that leads elsewhere is no successor.
static enum ch_err open_credential(struct exchange *x, unsigned char plain[CH_VAULT_PLAIN_MAX],
                                   size_t *size_out)
{
    struct provider_record *own = x->provider, *now;
    enum ch_err err = open_record(x, own, plain, size_out);
    if (err != CH_ERR_CORRUPT)
        return err;
    now = registry_provider(x->pl->proxy->options.registry, own->row.id);
    if (!now || now == own || now->row.type != own->row.type ||
        strcmp(now->row.base_url, own->row.base_url) != 0)
        return err;
    err = open_record(x, now, plain, size_out);
    if (!err)
        atomic_store_explicit(&own->echo_digest,
                              atomic_load_explicit(&now->echo_digest, memory_order_relaxed),
                              memory_order_relaxed);
    return err;
}

// Opens the credential for this one request. What it leaves on the stack is wiped here; the head
// that holds it is wiped as soon as it is written.
static enum ch_err append_credential(struct exchange *x, struct ch_buf *out)
{
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    size_t size = 0;
    enum ch_err err = open_credential(x, plain, &size);
    if (err)
        return err;
    struct ch_span credential = {(const char *)plain, size};
    echo_guard_init(&x->echo, credential,
                    atomic_load_explicit(&x->provider->echo_digest, memory_order_relaxed));
    err = ch_buf_append_span(
        out, ch_provider_credential_field(x->provider->row.type, anthropic_takes_bearer(x)));
    if (!err)
        err = ch_buf_append_span(out, credential);
    if (!err)
        err = ch_buf_append(out, "\r\n", 2);
    ch_wipe(plain, size);
    return err;
}

static enum ch_err append_length(const struct exchange *x, struct ch_buf *out)
{
    if (!x->route->is_post)
        return CH_OK;
    enum ch_err err = ch_buf_append_span(out, CH_SPAN("Content-Length: "));
    if (!err)
        err = ch_buf_append_uint(out, x->upstream_total);
    if (!err)
        err = ch_buf_append(out, "\r\n", 2);
    return err;
}

static enum ch_err build_head(struct exchange *x, struct ch_buf *out)
{
    ch_buf_clear(out);
    enum ch_err err =
        ch_buf_append_span(out, x->route->is_post ? CH_SPAN("POST ") : CH_SPAN("GET "));
    if (!err)
        err = append_target(x, out);
    if (!err)
        err = ch_buf_append_span(out, CH_SPAN(" HTTP/1.1\r\n"));
    if (!err)
        err = append_field(out, CH_SPAN("Host"), x->provider->host_field);
    for (uint32_t i = 0; i < x->head.field_count && !err; i++) {
        const struct ch_http1_field *field = &x->head.fields[i];
        if (passes(x, field))
            err = append_field(out, ch_http1_name(x->head_base, field),
                               ch_http1_value(x->head_base, field));
    }
    if (!err)
        err = append_idempotency_key(x, out);
    if (!err) // the meter reads along, so the answer must come uncompressed
        err = append_field(out, CH_SPAN("Accept-Encoding"), CH_SPAN("identity"));
    if (!err)
        err = append_length(x, out);
    if (!err)
        err = append_credential(x, out);
    if (!err)
        err = ch_buf_append(out, "\r\n", 2);
    return err;
}

// ---- writing

// Adds the part of `segment` that lies in the window [*skip, …) of at most *room bytes.
static int add_part(struct iovec *parts, int count, struct ch_span segment, size_t *skip,
                    size_t *room)
{
    if (*skip >= segment.len) {
        *skip -= segment.len;
        return count;
    }
    struct ch_span rest = ch_span_sub(segment, *skip);
    *skip = 0;
    if (rest.len > *room)
        rest.len = *room;
    *room -= rest.len;
    if (rest.len)
        parts[count++] = (struct iovec){(void *)(uintptr_t)rest.ptr, rest.len};
    return count;
}

// The body as it goes upstream: what stands before each splice, its insertion, the rest.
static int body_parts(const struct exchange *x, struct iovec *parts, int count, size_t room)
{
    size_t skip = x->upstream_sent, at = 0;
    for (unsigned i = 0; i < x->splice_count; i++) {
        const struct splice *splice = &x->splices[i];
        struct ch_span before = {x->body.ptr + at, splice->at - at};
        count = add_part(parts, count, before, &skip, &room);
        count = add_part(parts, count, splice->insert, &skip, &room);
        at = splice->end;
    }
    struct ch_span rest = x->body.ptr ? ch_span_sub(x->body, at) : x->body;
    return add_part(parts, count, rest, &skip, &room);
}

static void finish_sending(struct exchange *x)
{
    x->sent_ns = ch_clock_mono_ns();
    ch_buf_fini(&x->request);
    x->body = x->suffix = (struct ch_span){0};
    ch_peer_set_deadline(&x->upstream->peer, ch_loop_now_ns(x->pl->loop) +
                                                 x->pl->config->timeouts.first_byte * CH_NS_PER_MS);
}

// Writes slices until everything is out or the peer is blocked. `head`: empty after the first call.
static void send_more(struct exchange *x, struct ch_span head)
{
    struct ch_peer *peer = &x->upstream->peer;
    do {
        struct iovec parts[2 + 2 * SPLICES_MAX]; // the head, and the body around its splices
        int count = 0;
        if (head.len)
            parts[count++] = (struct iovec){(void *)(uintptr_t)head.ptr, head.len};
        size_t left = x->upstream_total - x->upstream_sent;
        size_t slice = left < SLICE_BYTES ? left : SLICE_BYTES;
        count = body_parts(x, parts, count, slice);
        if (ch_peer_write(peer, parts, count) != CH_OK)
            return; // on_end follows in this turn
        head.len = 0;
        x->upstream_sent += slice;
    } while (x->upstream_sent < x->upstream_total && !ch_peer_is_blocked(peer));
    if (x->upstream_sent == x->upstream_total)
        finish_sending(x);
}

CH_COLD static void fail_unsent(struct exchange *x, enum ch_err err)
{
    exchange_warn(x, "forward_failed", ch_err_name(err));
    if (err == CH_ERR_CORRUPT)
        respond_denial(x,
                       &(struct denial){.status = 502,
                                        .code = "credential_unreadable",
                                        .message = "The provider's credential cannot be opened."},
                       CH_END_DENIED);
    else if (err == CH_ERR_LIMIT)
        respond_denial(x,
                       &(struct denial){.status = 431,
                                        .code = "head_too_large",
                                        .message = "The request head is too large."},
                       CH_END_DENIED);
    else
        respond_denial(x,
                       &(struct denial){.status = 503,
                                        .code = "out_of_memory",
                                        .message = "Out of memory.",
                                        .retry_after_s = 1},
                       CH_END_DENIED);
}

static void send_request(struct exchange *x)
{
    struct ch_buf *head = &x->pl->head_out;
    x->response_state = RESPONSE_HEAD;
    x->ready_ns = ch_loop_now_ns(x->pl->loop);
    ch_http1_response_init(&x->response_parser, false);
    enum ch_err err = build_head(x, head);
    if (err) {
        ch_wipe(head->ptr, head->cap); // an answer is built there next
        fail_unsent(x, err);
        return;
    }
    send_more(x, ch_buf_span(head));
    ch_wipe(head->ptr, head->len);
}

// ---- the upstream's side of the conversation

static void on_upstream_ready(void *arg)
{
    send_request(arg);
}

static size_t on_upstream_bytes(void *arg, struct ch_span bytes)
{
    return relay_bytes(arg, bytes);
}

static void on_upstream_writable(void *arg)
{
    struct exchange *x = arg;
    if (!x->sent_ns)
        send_more(x, (struct ch_span){0});
}

static void on_upstream_end(void *arg, enum ch_peer_end end)
{
    relay_upstream_end(arg, end);
}

const struct ch_peer_handler forward_handler = {.on_ready = on_upstream_ready,
                                                .on_bytes = on_upstream_bytes,
                                                .on_writable = on_upstream_writable,
                                                .on_end = on_upstream_end};

// ---- start

static enum ch_err claim_slot(struct exchange *x)
{
    struct ch_span model = {x->facts.model, x->facts.model_len};
    struct ch_inflight inflight = {.id = x->id,
                                   .started_at_ms = x->started_at_ms,
                                   .key_id = x->key_id,
                                   .attribution_id = x->attribution_id,
                                   .provider_id = x->provider->row.id,
                                   .dialect = (uint8_t)x->dialect,
                                   .endpoint = (uint8_t)x->route->endpoint,
                                   .is_stream = x->is_stream,
                                   .request_bytes = (int64_t)x->body_got,
                                   .reserved_nano_usd = x->policy.reserved_nano_usd,
                                   .model_asked = model,
                                   .model_sent = policy_model_sent(x)};
    enum ch_err err =
        ch_usage_journal_claim(x->pl->proxy->options.journal, x->pl->index, &inflight, &x->slot);
    x->has_slot = err == CH_OK;
    return err;
}

// Accounting comes first: what cannot be recorded is not forwarded.
void forward_start(struct exchange *x)
{
    send_mapped_model(x);
    ask_for_usage(x);
    x->upstream_total = x->body.len;
    for (unsigned i = 0; i < x->splice_count; i++)
        x->upstream_total += x->splices[i].insert.len - (x->splices[i].end - x->splices[i].at);
    if (!ch_store_is_healthy(x->pl->proxy->options.store) || claim_slot(x) != CH_OK) {
        respond_unaccounted(x, false);
        return;
    }
    if (x->pl->is_durable)
        durable_admit(x);
    else
        forward_admitted(x);
}

void forward_admitted(struct exchange *x)
{
    capture_begin(x);
    x->response_state = RESPONSE_CONNECTING;
    enum ch_err err =
        ch_upstream_acquire(x->pl->pool, &x->provider->target, &forward_handler, x, &x->upstream);
    if (err)
        fail_unsent(x, err);
    else if (x->upstream->is_ready)
        send_request(x);
}
