// SPDX-License-Identifier: Apache-2.0
// The answer comes back: its head filtered (answer_head.c), its body given on as it arrives, while
// observers read along.
#include "shared.h"

#include "domain/error_body.h"

#define INTERIM_MAX 16    // 1xx answers skipped before a final one (security.md §4.22)
#define DRAINS_MAX  64    // exchanges of a loop that go on without their clients
#define DRAIN_MS    30000 // and for how long at most
#define DRAIN_BYTES (16 * 1024 * 1024) // and up to which size of the answer
#define EVENT_MAX   4096               // bytes of an event of our own
#define PARTS_MAX   12                 // body spans gathered into one write, beside framing

// ---- refusing what came

CH_COLD static void refuse_answer(struct exchange *x, int status, const char *code,
                                  const char *message, enum ch_end_reason reason)
{
    exchange_warn(x, code, message);
    if (x->head_is_out) { // too late for words: a cut stream must not look finished
        if (x->out_framing == OUT_TO_CLOSE)
            ch_peer_reset(&x->client->peer);
        exchange_end(x, reason, false);
    } else {
        respond_denial(x, &(struct denial){.status = status, .code = code, .message = message},
                       reason);
    }
}

// The client cannot be given what it should get: it is gone, or memory is.
CH_COLD static void abort_client(struct exchange *x)
{
    ch_peer_close(&x->client->peer);
    exchange_end(x, CH_END_CLIENT_GONE, false);
}

// ---- the head

// Answers that are the operator's business, not the caller's. True when it was one (the exchange is
// over).
static bool refuse_by_status(struct exchange *x)
{
    int status = x->response_head.status;
    if (status == 401) {
        refuse_answer(x, 502, "provider_credential_rejected",
                      "The provider rejected the credential that chaperone holds for it.",
                      CH_END_DONE);
        return true;
    }
    if (status >= 300 && status < 400) { // a redirect is never followed: the credential stays here
        refuse_answer(x, 502, "upstream_redirect", "The provider answered with a redirect.",
                      CH_END_UPSTREAM_INVALID);
        return true;
    }
    if (status == 101) {
        refuse_answer(x, 502, "upstream_invalid", "The provider switched protocols unasked.",
                      CH_END_UPSTREAM_INVALID);
        return true;
    }
    return false;
}

// ---- the body

// One write towards the client: head, spans of payload, framing.
struct gather {
    struct iovec parts[PARTS_MAX + 3]; // [0] head or size line, the last one CRLF
    int count;
    size_t payload;
};

static void gather_init(struct gather *g)
{
    g->count = 2; // places for the head and the size line
    g->payload = 0;
}

// Writes what was gathered. `head` may be empty; `is_last` adds the last chunk. False: the client
// is gone, its end is on the way.
static bool gather_flush(struct exchange *x, struct gather *g, struct ch_span head, bool is_last)
{
    if (x->is_drained) {
        x->head_is_out = true;
        gather_init(g);
        return true;
    }
    char size_line[20];
    struct ch_span tail = CH_SPAN("\r\n0\r\n\r\n");
    int first = 2;
    if (x->out_framing == OUT_CHUNKED && g->payload) {
        int len = 0;
        char digits[16];
        for (size_t value = g->payload; value; value >>= 4)
            digits[len++] = "0123456789abcdef"[value & 15];
        for (int i = 0; i < len; i++)
            size_line[i] = digits[len - 1 - i];
        memcpy(size_line + len, "\r\n", 2);
        g->parts[--first] = (struct iovec){size_line, (size_t)len + 2};
    } else {
        tail = ch_span_sub(tail, 2);
    }
    if (x->out_framing == OUT_CHUNKED && (g->payload || is_last))
        g->parts[g->count++] = (struct iovec){(void *)(uintptr_t)tail.ptr, is_last ? tail.len : 2};
    if (head.len)
        g->parts[--first] = (struct iovec){(void *)(uintptr_t)head.ptr, head.len};
    enum ch_err err = CH_OK;
    if (g->count > first)
        err = durable_write(x, g->parts + first, g->count - first);
    x->head_is_out |= head.len && !err && !x->durable.withholds;
    gather_init(g);
    return err == CH_OK;
}

// Events that came in one read lie side by side, and go out as one part.
static bool joins_last(const struct gather *g, struct ch_span payload)
{
    const struct iovec *last = &g->parts[g->count - 1];
    return g->count > 2 && (const char *)last->iov_base + last->iov_len == payload.ptr;
}

static bool gather_add(struct exchange *x, struct gather *g, struct ch_span payload,
                       struct ch_span *head)
{
    if (payload.len == 0)
        return true;
    bool joins = joins_last(g, payload);
    if (!joins && g->count - 2 == PARTS_MAX) {
        if (!gather_flush(x, g, *head, false))
            return false;
        head->len = 0;
    }
    if (joins)
        g->parts[g->count - 1].iov_len += payload.len;
    else
        g->parts[g->count++] = (struct iovec){(void *)(uintptr_t)payload.ptr, payload.len};
    g->payload += payload.len;
    x->response_bytes += (int64_t)payload.len;
    if (x->capture)
        capture_answer_bytes(x, payload);
    return true;
}

static void on_sse_data(void *arg, struct ch_span piece)
{
    struct exchange *x = arg;
    x->block_has_data = true;
    if (x->observes)
        ch_usage_scan_feed(&x->usage, piece);
}

static void on_sse_event(void *arg, struct ch_span name)
{
    struct exchange *x = arg;
    if (x->observes)
        ch_usage_scan_end_document(&x->usage, name);
}

static const struct ch_sse_handler sse_handler = {.on_data = on_sse_data, .on_event = on_sse_event};

static bool is_our_usage_event(const struct exchange *x)
{
    return !x->was_dropped && x->usage.has_choices && !x->usage.has_choice &&
           x->usage.usage_is_object;
}

// Rare: the front of an event that came in several reads.
static bool release_held(struct exchange *x, struct gather *g, struct ch_span *head)
{
    if (x->held.len == 0)
        return true;
    if (!gather_add(x, g, ch_buf_span(&x->held), head) || !gather_flush(x, g, *head, false))
        return false;
    head->len = 0;
    ch_buf_clear(&x->held);
    return true;
}

// The stream ended without the empty line that ends an event: what is held may still be ours to
// drop.
static bool release_last(struct exchange *x, struct gather *g, struct ch_span *head)
{
    bool is_block_end;
    ch_sse_feed(&x->sse, CH_SPAN("\n\n"), &sse_handler, x, &is_block_end);
    if (!x->event_is_released && is_our_usage_event(x))
        ch_buf_clear(&x->held);
    return release_held(x, g, head);
}

// The last event ended with a CR, and its LF may come with the next read: it shares that event's
// fate.
static bool relay_due_lf(struct exchange *x, struct gather *g, struct ch_span *bytes,
                         struct ch_span *head)
{
    bool is_block_end, drops = x->last_was_dropped;
    if (!x->lf_is_due || bytes->len == 0)
        return true;
    x->lf_is_due = false;
    if (bytes->ptr[0] != '\n')
        return true;
    struct ch_span lf = {bytes->ptr, 1};
    ch_sse_feed(&x->sse, lf, &sse_handler, x, &is_block_end);
    *bytes = ch_span_sub(*bytes, 1);
    return drops || gather_add(x, g, lf, head);
}

// Gives on all but the one event that our own include_usage produced. The front of an event is held
// back only until its `choices` turn out not to be empty; everything before and behind passes byte
// for byte.
static bool relay_events_but_ours(struct exchange *x, struct gather *g, struct ch_span bytes,
                                  struct ch_span *head)
{
    if (!relay_due_lf(x, g, &bytes, head))
        return false;
    while (bytes.len) {
        bool is_block_end;
        size_t used = ch_sse_feed(&x->sse, bytes, &sse_handler, x, &is_block_end);
        struct ch_span piece = {bytes.ptr, used};
        bytes = ch_span_sub(bytes, used);
        bool drops = is_block_end && !x->event_is_released && is_our_usage_event(x);
        bool releases = is_block_end || x->event_is_released || x->usage.has_choice ||
                        x->held.len + piece.len > HELD_MAX;
        // A comment line that stands alone (": keep-alive") is not the front of anything.
        bool is_comment = x->held.len == 0 && !x->block_has_data && piece.len &&
                          piece.ptr[0] == ':' && piece.ptr[piece.len - 1] == '\n';
        if (drops) {
            ch_buf_clear(&x->held);
            x->was_dropped = true;
        } else if (!releases && !is_comment) {
            if (ch_buf_append_span(&x->held, piece))
                return false;
        } else {
            if (!release_held(x, g, head) || !gather_add(x, g, piece, head))
                return false;
        }
        x->event_is_released = !is_block_end && releases;
        x->block_has_data &= !is_block_end;
        x->last_was_dropped = drops;
        x->lf_is_due = is_block_end && piece.ptr[piece.len - 1] == '\r';
        if (is_block_end)
            x->usage.has_choices = x->usage.has_choice = x->usage.usage_is_object = false;
    }
    return true;
}

static void observe(struct exchange *x, struct ch_span bytes)
{
    if (!x->observes)
        return;
    if (!x->is_sse) {
        ch_usage_scan_feed(&x->usage, bytes);
        return;
    }
    while (bytes.len) {
        bool is_block_end;
        bytes = ch_span_sub(bytes, ch_sse_feed(&x->sse, bytes, &sse_handler, x, &is_block_end));
    }
}

static bool ends_an_event(struct ch_span bytes)
{
    struct ch_span ends[] = {CH_SPAN("\n\n"), CH_SPAN("\r\n\r\n"), CH_SPAN("\r\r")};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ch_span_ends(bytes, ends[i]))
            return true;
    return false;
}

// The client waits for the whole list: nothing of it is the client's before all of it was read.
static bool relay_list(struct exchange *x, struct gather *g, struct ch_span bytes, bool is_last,
                       struct ch_span *head)
{
    if (listing_add(x, bytes) != CH_OK)
        return false;
    if (!is_last)
        return true;
    enum ch_err err = listing_finish(x);
    if (err) {
        exchange_warn(x, "model_list_unreadable", ch_err_name(err));
        return false;
    }
    return gather_add(x, g, ch_buf_span(&x->held), head);
}

static bool relay_payload(struct exchange *x, struct gather *g, struct ch_span payload,
                          bool is_last, struct ch_span *head)
{
    struct ch_span pass;
    if (echo_guard_filter(&x->echo, payload, is_last, &pass) != CH_OK)
        return false;
    if (x->filters_list)
        return relay_list(x, g, pass, is_last, head);
    if (x->drops_usage_event) {
        if (!relay_events_but_ours(x, g, pass, head) || (is_last && !release_last(x, g, head)))
            return false;
    } else {
        observe(x, pass);
        if (!gather_add(x, g, pass, head))
            return false;
    }
    if (x->policy.cuts && pass.len)
        x->ends_at_event = x->held.len == 0 && ends_an_event(pass);
    if (pass.ptr != payload.ptr &&
        pass.len) { // it stands in the guard's buffer, which is used again
        if (!gather_flush(x, g, *head, false))
            return false;
        head->len = 0;
    }
    return true;
}

// The whole answer is here: it is accounted for before its last byte goes out, so that a client
// never holds an answer that a crash could leave unrecorded.
static void settle_answer(struct exchange *x)
{
    bool is_block_end;
    if (x->observes && x->is_sse) // an event that the end of the stream cut short still counts
        ch_sse_feed(&x->sse, CH_SPAN("\n\n"), &sse_handler, x, &is_block_end);
    else if (x->observes)
        ch_usage_scan_end_document(&x->usage, CH_SPAN(""));
    x->response_state = RESPONSE_DONE;
    meter_settle(x, CH_END_DONE);
}

// ---- a budget that cuts

// Between two events, once a budget of the exchange is spent.
static bool is_to_be_cut(const struct exchange *x)
{
    return x->policy.cuts && x->is_sse && x->head_is_out && x->ends_at_event &&
           policy_is_exhausted(x, meter_cost_so_far(x));
}

// The stream ends with the dialect's own error event (wire.md §3.1). What the provider would still
// have sent is cancelled with its connection.
static void cut_stream(struct exchange *x)
{
    struct gather g;
    struct ch_buf event;
    char id[CH_REQUEST_ID_TEXT];
    ch_id_format(x->id, id);
    struct ch_error_body error = {.status = 429,
                                  .code = "budget_exceeded",
                                  .message = CH_SPAN("Budget limit reached while the answer was "
                                                     "being streamed: it ends here."),
                                  .request_id = id,
                                  .is_spend_limit = true};
    ch_buf_init(&event, EVENT_MAX);
    enum ch_err err = x->dialect == CH_DIALECT_ANTHROPIC
                          ? ch_buf_append_span(&event, CH_SPAN("event: error\n"))
                          : CH_OK;
    if (!err)
        err = ch_buf_append_span(&event, CH_SPAN("data: "));
    if (!err)
        err = ch_error_body_append(x->dialect, &error, &event);
    if (!err)
        err = ch_buf_append_span(&event, CH_SPAN("\n\n"));
    gather_init(&g);
    struct ch_span none = {0};
    x->rule = "budget_exceeded";
    durable_withhold(x);
    meter_settle(x, CH_END_BUDGET);
    bool is_out =
        !err && gather_add(x, &g, ch_buf_span(&event), &none) && gather_flush(x, &g, none, true);
    ch_buf_fini(&event);
    if (is_out)
        durable_finish(x, CH_END_BUDGET);
    else
        abort_client(x);
}

// Relays what one read brought. Returns how many bytes it consumed.
static size_t relay_body(struct exchange *x, struct ch_span bytes, struct ch_span head)
{
    struct gather g;
    size_t total = 0;
    enum ch_http1_verdict verdict = CH_HTTP1_MORE;
    gather_init(&g);
    bool has_body = !ch_http1_body_is_empty(&x->response_framing);
    while (has_body && verdict == CH_HTTP1_MORE && total < bytes.len) {
        size_t used;
        struct ch_span payload;
        struct ch_http1_error error;
        verdict = ch_http1_body_step(&x->response_framing, ch_span_sub(bytes, total), &used,
                                     &payload, &error);
        total += used;
        if (verdict == CH_HTTP1_ERROR) {
            refuse_answer(x, 502, "upstream_invalid", error.text, CH_END_UPSTREAM_INVALID);
            return bytes.len;
        }
        bool is_last = verdict == CH_HTTP1_DONE;
        if (is_last)
            durable_withhold(x);
        if ((payload.len || is_last) && !relay_payload(x, &g, payload, is_last, &head)) {
            abort_client(x);
            return bytes.len;
        }
    }
    bool is_done = !has_body || verdict == CH_HTTP1_DONE;
    if (is_done) {
        durable_withhold(x);
        if (total < bytes.len) // more than it should have said: never to be used again
            x->upstream_keeps_alive = false;
        settle_answer(x);
    }
    if (!gather_flush(x, &g, head, is_done)) {
        abort_client(x);
        return bytes.len;
    }
    if (is_done) {
        durable_finish(x, CH_END_DONE);
        return total;
    }
    if (is_to_be_cut(x)) {
        cut_stream(x);
        return bytes.len;
    }
    if (!x->is_drained && ch_peer_is_blocked(&x->client->peer))
        ch_peer_pause(&x->upstream->peer); // a slow reader stops the reading of its upstream
    return total;
}

static size_t relay_head(struct exchange *x, struct ch_span bytes)
{
    struct ch_http1_error error;
    switch (ch_http1_head_parse(&x->response_parser, bytes, &x->response_head, &error)) {
    case CH_HTTP1_MORE:
        return 0;
    case CH_HTTP1_ERROR:
        refuse_answer(x, 502, "upstream_invalid", error.text, CH_END_UPSTREAM_INVALID);
        return bytes.len;
    case CH_HTTP1_DONE:
        break;
    }
    size_t size = x->response_head.size;
    if (x->response_head.status < 200 && x->response_head.status != 101) {
        if (++x->interim_count > INTERIM_MAX) {
            refuse_answer(x, 502, "upstream_invalid", "The provider sent too many interim answers.",
                          CH_END_UPSTREAM_INVALID);
            return bytes.len;
        }
        ch_http1_response_init(&x->response_parser, false);
        return size;
    }
    x->upstream_status = x->response_head.status;
    x->first_byte_ns = ch_loop_now_ns(x->pl->loop);
    if (refuse_by_status(x))
        return bytes.len;
    if (answer_head_pass(x, bytes.ptr, &x->pl->head_out) != CH_OK) {
        refuse_answer(x, 502, "upstream_invalid", "The provider's response head is too large.",
                      CH_END_UPSTREAM_INVALID);
        return bytes.len;
    }
    x->upstream_keeps_alive = x->response_head.keep_alive;
    x->response_state = RESPONSE_BODY;
    x->status = x->upstream_status;
    ch_http1_body_init(&x->response_framing, &x->response_head);
    return size + relay_body(x, ch_span_sub(bytes, size), ch_buf_span(&x->pl->head_out));
}

bool relay_drains(struct exchange *x)
{
    struct ch_proxy_loop *pl = x->pl;
    if (!x->policy.drains || !x->sent_ns || x->response_state == RESPONSE_DONE || x->is_settled ||
        pl->drain_count >= DRAINS_MAX)
        return false;
    x->is_drained = true;
    pl->drain_count++;
    x->drain_until_ns = ch_loop_now_ns(pl->loop) + DRAIN_MS * CH_NS_PER_MS;
    ch_peer_set_deadline(&x->upstream->peer, x->drain_until_ns);
    ch_peer_resume(&x->upstream->peer); // it may have waited for the client
    return true;
}

static bool is_drained_enough(const struct exchange *x)
{
    return x->is_drained &&
           (x->last_read_ns >= x->drain_until_ns || x->response_bytes > DRAIN_BYTES);
}

size_t relay_bytes(struct exchange *x, struct ch_span bytes)
{
    x->last_read_ns = ch_loop_now_ns(x->pl->loop);
    if (is_drained_enough(x)) {
        exchange_end(x, CH_END_CLIENT_GONE, false);
        return bytes.len;
    }
    ch_peer_set_deadline(&x->upstream->peer,
                         x->is_drained ? x->drain_until_ns
                                       : x->last_read_ns +
                                             x->pl->config->timeouts.upstream_idle * CH_NS_PER_MS);
    if (x->response_state == RESPONSE_BODY)
        return relay_body(x, bytes, (struct ch_span){0});
    size_t total = 0, used = 1;
    struct ch_peer *peer = &x->upstream->peer;
    // 1xx answers are skipped; whatever ends the exchange consumes all or releases the peer.
    while (total < bytes.len && used) {
        used = relay_head(x, ch_span_sub(bytes, total));
        total += used;
        if (!ch_peer_is_open(peer) || peer->arg != x || x->response_state != RESPONSE_HEAD)
            break;
    }
    return total < bytes.len ? total : bytes.len;
}

void relay_client_writable(struct exchange *x)
{
    if (x->upstream && x->upstream->is_ready)
        ch_peer_resume(&x->upstream->peer);
}

// ---- the upstream ends

static void finish_at_close(struct exchange *x)
{
    struct gather g;
    struct ch_span none = {0};
    gather_init(&g);
    durable_withhold(x);
    if (!relay_payload(x, &g, none, true, &none)) {
        abort_client(x);
        return;
    }
    settle_answer(x);
    if (gather_flush(x, &g, none, true))
        durable_finish(x, CH_END_DONE);
    else
        abort_client(x);
}

// What the operator has to decide on was logged where it was found, once a minute. True when it was
// such a thing (the exchange is over).
CH_COLD static bool refuse_by_fault(struct exchange *x)
{
    struct denial denial = {.status = 502};
    switch (x->upstream->fault) {
    case CH_UPSTREAM_NO_FAULT:
        return false;
    case CH_UPSTREAM_ADDRESS_REFUSED:
        denial.code = "provider_address_refused";
        denial.message = "The provider's address is not one that may be connected to.";
        break;
    case CH_UPSTREAM_PIN_MISMATCH:
        denial.code = "provider_pin_mismatch";
        denial.message = "The provider's server does not have the public key that it must have.";
        break;
    }
    respond_denial(x, &denial, CH_END_UPSTREAM_REFUSED);
    return true;
}

void relay_upstream_end(struct exchange *x, enum ch_peer_end end)
{
    bool has_answer = x->head_is_out;
    switch (end) {
    case CH_PEER_EOF:
    case CH_PEER_RESET:
    case CH_PEER_CLOSED:
        if (has_answer && end == CH_PEER_EOF && x->response_framing.framing == CH_FRAMING_TO_CLOSE)
            finish_at_close(x);
        else
            refuse_answer(x, 502, "upstream_cut",
                          "The provider closed the connection before its answer was complete.",
                          CH_END_UPSTREAM_CUT);
        return;
    case CH_PEER_STALLED:
    case CH_PEER_TIMEOUT:
        refuse_answer(x, 504, "upstream_timeout", "The provider did not answer in time.",
                      CH_END_TIMEOUT);
        return;
    case CH_PEER_TLS:
        if (refuse_by_fault(x))
            return;
        refuse_answer(x, 502, "upstream_tls_failed",
                      "No trusted TLS connection to the provider could be made.",
                      CH_END_UPSTREAM_REFUSED);
        return;
    case CH_PEER_REFUSED:
        if (refuse_by_fault(x))
            return;
        refuse_answer(x, 502, "upstream_unreachable", "The provider cannot be reached.",
                      CH_END_UPSTREAM_REFUSED);
        return;
    }
}
