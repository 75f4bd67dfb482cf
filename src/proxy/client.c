// SPDX-License-Identifier: Apache-2.0
// A client's connection: requests come in one after the other, each becomes an exchange.
#include "shared.h"

#include "base/log.h"
#include "base/secret.h"

#include <unistd.h>

// A client that shuts its sending side together with its request still waits for the answer
// (security.md §3.62); one that does so later has hung up (wire.md §5: SDKs close the socket when
// an application stops a call).
#define HALF_CLOSE_GRACE_NS (INT64_C(50) * CH_NS_PER_MS)
#define HANDSHAKE_MS        INT64_C(5000) // for a client's TLS handshake, at most (security.md R13)

// Requests of one connection that are answered in one turn of the loop: a pipeline of refused ones
// must not hold the others up.
#define TURN_REQUESTS        4
#define TURN_REQUESTS_BEHIND 2
// A connection whose bad keys come closer together than this waits behind the others.
#define DOUBT_NS (INT64_C(100) * CH_NS_PER_MS)
// While the daemon stops, for a request that was on its way already: the client's round trip.
#define LAST_HEAD_MS   INT64_C(500)
#define REFUSAL_LOG_NS (INT64_C(1000) * CH_NS_PER_MS)

static void set_deadline(struct client *c, int64_t after_ms)
{
    ch_peer_set_deadline(&c->peer, ch_loop_now_ns(c->pl->loop) + after_ms * CH_NS_PER_MS);
}

static const struct ch_config *config_of(const struct client *c)
{
    return c->pl->config;
}

static void set_head_deadline(struct client *c, int64_t after_ms)
{
    set_deadline(c, c->pl->is_draining && after_ms > LAST_HEAD_MS ? LAST_HEAD_MS : after_ms);
}

static void unlink_client(struct client *c)
{
    if (c->prev)
        c->prev->next = c->next;
    else
        c->pl->clients = c->next;
    if (c->next)
        c->next->prev = c->prev;
}

static void free_client(void *arg)
{
    ch_zfree(arg);
}

void client_abandon(struct client *c)
{
    CH_ASSERT(!c->x);
    ch_peer_close(&c->peer);
    unlink_client(c);
    crowd_leave(c->pl->proxy->crowd, c->place);
    atomic_fetch_sub_explicit(&c->pl->proxy->client_count, 1, memory_order_relaxed);
    ch_loop_defer(c->pl->loop, &c->freeing, free_client, c);
}

static void close_politely(struct client *c)
{
    c->is_closing = true;
    ch_peer_close_after_write(&c->peer); // on_end(CH_PEER_CLOSED) frees
}

// The client is gone, or as good as gone: whatever was under way for it ends.
static void drop(struct client *c)
{
    ch_peer_close(&c->peer);
    if (c->x && relay_drains(c->x))
        return;
    if (c->x)
        exchange_end(c->x, CH_END_CLIENT_GONE, false);
    else
        client_abandon(c);
}

void client_retire(struct client *c)
{
    set_head_deadline(c, LAST_HEAD_MS);
}

static void expect_next_request(struct client *c)
{
    c->state = REQUEST_HEAD;
    c->has_partial_head = false;
    ch_http1_request_init(&c->parser);
    set_head_deadline(c, config_of(c)->timeouts.idle);
}

void client_exchange_over(struct client *c, bool keep_alive)
{
    c->x = NULL;
    ch_peer_read_into(&c->peer, NULL, 0); // its buffer is gone
    if (!ch_peer_is_open(&c->peer)) {
        if (c->peer.fd < 0)
            client_abandon(c);
        return;
    }
    // What was promised to go on before the drain began is not closed under the next request.
    if (!keep_alive || c->is_half_closed) {
        close_politely(c);
        return;
    }
    expect_next_request(c);
    ch_peer_resume(&c->peer); // a pipelined request may be waiting
}

void client_doubt(struct client *c)
{
    int64_t now_ns = ch_loop_now_ns(c->pl->loop);
    ch_peer_stand_behind(&c->peer, now_ns - c->doubted_ns < DOUBT_NS);
    c->doubted_ns = now_ns;
}

// ---- the request's body

// Takes one span of decoded body: borrowed when it is the whole body, else copied behind the head.
static bool take_body(struct exchange *x, struct ch_span payload, bool is_whole)
{
    const struct ch_config *config = config_of(x->client);
    x->body_got += payload.len;
    if (x->body_got > (size_t)config->limits.body_bytes) {
        respond_denial(x,
                       &(struct denial){.status = 413,
                                        .code = "body_too_large",
                                        .message = "The request body is too large.",
                                        .closes = true},
                       CH_END_DENIED);
        return false;
    }
    facts_take(x, payload);
    if (is_whole && x->request.len == 0) {
        x->body = payload;
        return true;
    }
    if (forward_hold_body(x, payload) != CH_OK) {
        respond_denial(x,
                       &(struct denial){.status = 503,
                                        .code = "out_of_memory",
                                        .message = "Out of memory.",
                                        .retry_after_s = 1,
                                        .closes = true},
                       CH_END_DENIED);
        return false;
    }
    return true;
}

// Lets the rest of a body of known length land behind what has come of it.
static void read_in_place(struct client *c)
{
    const struct exchange *x = c->x;
    const struct ch_buf *request = &x->request;
    size_t left = (size_t)x->body_framing.remaining;
    if (x->body_framing.framing == CH_FRAMING_LENGTH && request->len &&
        request->cap - request->len >= left)
        ch_peer_read_into(&c->peer, request->ptr + request->len, left);
}

static void complete_request(struct client *c)
{
    struct exchange *x = c->x;
    c->state = REQUEST_COMPLETE;
    ch_peer_set_deadline(&c->peer, 0);
    x->complete_ns = ch_loop_now_ns(c->pl->loop);
    if (x->request.len)
        x->body = ch_span_sub(ch_buf_span(&x->request), x->head.size);
    if (gate_request(x))
        forward_start(x);
}

// Progress moves the deadline, but never past a rate of 1 KiB/s overall (security.md R13): a
// trickle does not last.
static void set_body_deadline(struct client *c)
{
    const struct exchange *x = c->x;
    int64_t body_ms = config_of(c)->timeouts.body;
    int64_t now_ns = ch_loop_now_ns(c->pl->loop);
    int64_t latest_ns = x->start_ns + (body_ms + (int64_t)x->body_got) * CH_NS_PER_MS;
    int64_t next_ns = now_ns + body_ms * CH_NS_PER_MS;
    ch_peer_set_deadline(&c->peer, next_ns < latest_ns ? next_ns : latest_ns);
}

static size_t step_body(struct client *c, struct ch_span bytes)
{
    struct exchange *x = c->x;
    size_t total = 0, used;
    for (;;) {
        struct ch_span payload;
        struct ch_http1_error error;
        enum ch_http1_verdict verdict = ch_http1_body_step(
            &x->body_framing, ch_span_sub(bytes, total), &used, &payload, &error);
        total += used;
        if (verdict == CH_HTTP1_ERROR) {
            respond_denial(x,
                           &(struct denial){.status = error.status,
                                            .code = "invalid_framing",
                                            .message = error.text,
                                            .closes = true},
                           CH_END_DENIED);
            return bytes.len;
        }
        bool is_done = verdict == CH_HTTP1_DONE;
        if (payload.len && !take_body(x, payload, is_done && x->body_got == 0))
            return bytes.len;
        if (is_done) {
            complete_request(c);
            return total;
        }
        if (total == bytes.len) {
            set_body_deadline(c);
            return total;
        }
    }
}

// ---- the request's head

static void answer_expectation(struct client *c)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec part = {(void *)(uintptr_t)interim, sizeof interim - 1};
    if (ch_peer_write(&c->peer, &part, 1) != CH_OK)
        return; // on_end follows
}

static void begin(struct client *c, const struct ch_http1_head *head, const char *base)
{
    struct exchange *x = c->x;
    exchange_start_clock(x);
    x->head_base = base;
    x->target = ch_target_split((struct ch_span){base + head->target_at, head->target_len});
    x->wants_keep_alive = head->keep_alive && !c->pl->is_draining;
    x->is_http10 = head->minor_version == 0;
    x->is_head_method = head->method == CH_METHOD_HEAD;
    ch_http1_body_init(&x->body_framing, head);
    c->state = REQUEST_BODY;
}

static size_t step_head(struct client *c, struct ch_span bytes)
{
    struct ch_http1_error error;
    if (!c->x && !(c->x = exchange_begin(c))) {
        client_abandon(c);
        return bytes.len;
    }
    struct exchange *x = c->x;
    switch (ch_http1_head_parse(&c->parser, bytes, &x->head, &error)) {
    case CH_HTTP1_MORE:
        if (!c->has_partial_head) {
            c->has_partial_head = true;
            // Absolute: a trickle does not move it.
            set_head_deadline(c, config_of(c)->timeouts.head);
        }
        return 0;
    case CH_HTTP1_ERROR:
        respond_parse_error(c, &error);
        return bytes.len;
    case CH_HTTP1_DONE:
        break;
    }
    size_t size = x->head.size;
    begin(c, &x->head, bytes.ptr);
    if (!gate_head(x))
        return size;
    if (ch_http1_body_is_empty(&x->body_framing)) {
        complete_request(c);
        return size;
    }
    if (x->head.expect_continue && bytes.len == size)
        answer_expectation(c);
    set_deadline(c, config_of(c)->timeouts.body);
    return size;
}

static size_t on_client_bytes(void *arg, struct ch_span bytes)
{
    struct client *c = arg;
    size_t used = 0;
    unsigned heads = 0;
    while (used < bytes.len && ch_peer_is_open(&c->peer)) {
        struct ch_span rest = ch_span_sub(bytes, used);
        if (c->state == REQUEST_HEAD &&
            heads++ == (c->peer.is_behind ? TURN_REQUESTS_BEHIND : TURN_REQUESTS)) {
            ch_peer_yield(&c->peer);
            break;
        }
        if (c->state == REQUEST_COMPLETE)
            break; // pipelined: it waits its turn in the peer's buffer
        size_t step = c->state == REQUEST_HEAD ? step_head(c, rest) : step_body(c, rest);
        if (step == 0)
            break;
        used += step;
    }
    // What is borrowed from `bytes` must not outlive this call.
    if (c->x && ch_peer_is_open(&c->peer) && c->state != REQUEST_HEAD)
        forward_hold_request(c->x);
    if (c->x && ch_peer_is_open(&c->peer) && c->state == REQUEST_BODY)
        read_in_place(c);
    return used;
}

// ---- the connection

static void on_client_ready(void *arg)
{
    struct client *c = arg;
    set_head_deadline(c, config_of(c)->timeouts.head); // TLS is up, the head may take its time now
}

static void on_client_writable(void *arg)
{
    struct client *c = arg;
    if (c->x)
        relay_client_writable(c->x);
}

static void on_client_timeout(struct client *c)
{
    if (c->state == REQUEST_HEAD && !c->has_partial_head && c->pl->is_draining) {
        close_politely(c); // what crosses the end on its way is thrown away, not reset
    } else if (c->state == REQUEST_HEAD && !c->has_partial_head && ch_peer_pending(&c->peer)) {
        set_deadline(c, config_of(c)->timeouts.idle); // still reading its last answer: not idle yet
        ch_peer_resume(&c->peer);
    } else if (c->state == REQUEST_HEAD && !c->has_partial_head) {
        drop(c); // idle between requests: closing says enough
    } else if (c->state == REQUEST_HEAD) {
        respond_parse_error(c, &(struct ch_http1_error){408, "the request head took too long"});
    } else if (c->state == REQUEST_BODY) {
        respond_denial(c->x,
                       &(struct denial){.status = 408,
                                        .code = "request_timeout",
                                        .message = "The request body took too long.",
                                        .closes = true},
                       CH_END_TIMEOUT);
    } else if (c->x) {
        durable_timeout(c->x);
    }
}

static void on_client_end(void *arg, enum ch_peer_end end)
{
    struct client *c = arg;
    bool is_early = c->x && c->state == REQUEST_COMPLETE &&
                    ch_loop_now_ns(c->pl->loop) - c->x->complete_ns < HALF_CLOSE_GRACE_NS;
    switch (end) {
    case CH_PEER_EOF:
        if (is_early)
            c->is_half_closed = true;
        else
            drop(c);
        return;
    case CH_PEER_TIMEOUT:
        on_client_timeout(c);
        return;
    case CH_PEER_STALLED:
    case CH_PEER_RESET:
    case CH_PEER_TLS:
    case CH_PEER_REFUSED:
    case CH_PEER_CLOSED:
        drop(c);
        return;
    }
}

static const struct ch_peer_handler client_handler = {.on_ready = on_client_ready,
                                                      .on_bytes = on_client_bytes,
                                                      .on_writable = on_client_writable,
                                                      .on_end = on_client_end};

static bool is_full(const struct ch_proxy_loop *pl)
{
    int64_t max = pl->config->limits.connections;
    return max && atomic_load_explicit(&pl->proxy->client_count, memory_order_relaxed) >= max;
}

static int64_t max_per_address(const struct ch_proxy_loop *pl)
{
    int64_t max = pl->config->limits.per_address;
    return max ? max : pl->proxy->half_of_descriptors;
}

// By a limit on the number of connections: counted, and told once a second at most.
CH_COLD static void refuse(struct ch_proxy_loop *pl, const char *limit, const char *address)
{
    atomic_fetch_add_explicit(&pl->refused_count, 1, memory_order_relaxed);
    if (!log_is_due(&pl->refusals, ch_loop_now_ns(pl->loop), REFUSAL_LOG_NS))
        return;
    CH_LOG(CH_LOG_WARN, "connection_refused", ch_log_text("limit", limit),
           ch_log_text("address", address), ch_log_int("more_like_it", pl->refusals.left_out));
    pl->refusals.left_out = 0;
}

// Whether there is room for one more, whose place is then taken.
static bool admit(struct ch_proxy_loop *pl, const char *address, struct crowd_place **place_out)
{
    *place_out = NULL;
    if (pl->is_over)
        return false;
    if (is_full(pl)) {
        refuse(pl, "limits.connections", address);
        return false;
    }
    enum ch_err err = crowd_enter(pl->proxy->crowd, address, max_per_address(pl), place_out);
    if (err == CH_ERR_LIMIT)
        refuse(pl, "limits.connections_per_address", address);
    return !err;
}

void client_accept(struct ch_proxy_loop *pl, int fd, struct ch_tls *tls, const char *address)
{
    struct ssl_st *session = NULL;
    struct crowd_place *place;
    struct client *c = NULL;
    if (!admit(pl, address, &place))
        goto fail;
    if (!(c = ch_zcalloc(1, sizeof *c)))
        goto fail_admitted;
    c->pl = pl;
    c->place = place;
    if (tls && ch_tls_session_new(tls, NULL, &session))
        goto fail_admitted;
    if (ch_peer_open(&c->peer, pl->loop, fd, session, false, &client_handler, c)) {
        ch_tls_session_free(session);
        goto fail_admitted;
    }
    ch_span_copy(ch_span_of(address), c->address, sizeof c->address);
    c->next = pl->clients;
    if (pl->clients)
        pl->clients->prev = c;
    pl->clients = c;
    atomic_fetch_add_explicit(&pl->proxy->client_count, 1, memory_order_relaxed);
    expect_next_request(c);
    int64_t head_ms = config_of(c)->timeouts.head;
    if (tls) // the handshake counts as part of the head
        set_head_deadline(c, head_ms < HANDSHAKE_MS ? head_ms : HANDSHAKE_MS);
    return;

fail_admitted:
    crowd_leave(pl->proxy->crowd, place);
fail:
    close(fd);
    ch_zfree(c);
}
