// SPDX-License-Identifier: Apache-2.0
// The beginning and the one end of an exchange.
#include "shared.h"

#include "base/log.h"
#include "base/secret.h"

#define FREE_MAX      256                           // exchanges kept for reuse, a loop
#define WARN_EVERY_NS (INT64_C(100) * CH_NS_PER_MS) // at most ten warnings a second and loop

struct exchange *exchange_begin(struct client *c)
{
    struct ch_proxy_loop *pl = c->pl;
    struct exchange *x = pl->free_exchanges;
    if (x) {
        pl->free_exchanges = x->next_free;
        pl->free_count--;
    } else {
        x = ch_zmalloc(sizeof *x);
        if (!x)
            return NULL;
    }
    memset(x, 0, offsetof(struct exchange, policy) + offsetof(struct policy_state, claims));
    x->client = c;
    x->pl = pl;
    // Room for the head beside the largest body, so that holding a request cannot pass the limit.
    ch_buf_init(&x->request, (size_t)pl->config->limits.body_bytes + CH_HTTP1_HEAD_MAX);
    ch_buf_init(&x->held, HELD_MAX);
    return x;
}

void exchange_start_clock(struct exchange *x)
{
    x->started_at_ms = ch_clock_wall_ms();
    x->id = ch_id_next(&x->pl->ids, x->started_at_ms);
    x->start_ns = ch_loop_now_ns(x->pl->loop);
}

static void recycle(struct exchange *x)
{
    struct ch_proxy_loop *pl = x->pl;
    ch_buf_fini(&x->request);
    ch_buf_fini(&x->held);
    echo_guard_fini(&x->echo);
    if (pl->free_count >= FREE_MAX) {
        ch_zfree(x);
        return;
    }
    x->next_free = pl->free_exchanges;
    pl->free_exchanges = x;
    pl->free_count++;
}

// Only an answer read to its end, on a request written to its end, leaves a connection clean.
static bool upstream_is_clean(const struct exchange *x)
{
    return x->response_state == RESPONSE_DONE && x->upstream_keeps_alive && x->sent_ns &&
           x->response_framing.framing != CH_FRAMING_TO_CLOSE;
}

void exchange_release_upstream(struct exchange *x, enum ch_end_reason reason)
{
    if (x->upstream)
        ch_upstream_release(x->upstream, reason == CH_END_DONE && upstream_is_clean(x));
    x->upstream = NULL;
}

void exchange_end(struct exchange *x, enum ch_end_reason reason, bool keep_alive)
{
    struct client *c = x->client;
    meter_settle(x, reason);
    if (c->pl->is_durable)
        durable_forget(x);
    if (x->capture)
        capture_end(x);
    c->pl->drain_count -= x->is_drained;
    exchange_release_upstream(x, reason);
    provider_unref(x->provider);
    recycle(x);
    client_exchange_over(c, keep_alive);
}

bool log_is_due(struct log_pace *pace, int64_t now_ns, int64_t every_ns)
{
    if (pace->written_ns && now_ns - pace->written_ns < every_ns) {
        pace->left_out++;
        return false;
    }
    pace->written_ns = now_ns;
    return true;
}

void exchange_warn(struct exchange *x, const char *event, const char *detail)
{
    struct ch_proxy_loop *pl = x->pl;
    char id[CH_REQUEST_ID_TEXT];
    if (!log_is_due(&pl->warnings, ch_loop_now_ns(pl->loop), WARN_EVERY_NS))
        return;
    ch_id_format(x->id, id);
    CH_LOG(CH_LOG_WARN, event, ch_log_text("request", id),
           ch_log_text("provider", x->provider ? x->provider->row.name : ""),
           ch_log_text("detail", detail), ch_log_int("more_like_it", pl->warnings.left_out));
    pl->warnings.left_out = 0;
}
