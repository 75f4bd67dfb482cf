// SPDX-License-Identifier: Apache-2.0
// `durability: power`: where an exchange waits for the disk.
//
//   FOR_ADMISSION   its slot is on its way to disk, and nothing was sent to the provider
//   FOR_SETTLEMENT  its record is; the end of the answer lies in `withheld`
//
// The loop keeps its waiting exchanges in a list, in the order of their tickets. What ends an
// exchange meanwhile takes it off the list, so the news of a sync, which names no exchange, never
// finds one that is gone.
#include "shared.h"

#define WITHHELD_MAX (1024 * 1024) // bytes: more than what one read and its head can become

static struct ch_usage_journal *journal_of(const struct ch_proxy_loop *pl)
{
    return pl->proxy->options.journal;
}

// ---- the list

static void wait_for(struct exchange *x, enum durable_wait wait)
{
    struct ch_proxy_loop *pl = x->pl;
    struct durable_state *d = &x->durable;
    d->wait = wait;
    d->ticket = ch_usage_journal_ticket(journal_of(pl), pl->index);
    d->since_ns = ch_loop_now_ns(pl->loop);
    d->prev = pl->waiting_last;
    d->next = NULL;
    if (d->prev)
        d->prev->durable.next = x;
    else
        pl->waiting_first = x;
    pl->waiting_last = x;
    ch_peer_set_deadline(&x->client->peer, d->since_ns + pl->config->timeouts.disk * CH_NS_PER_MS);
}

static void stop_waiting(struct exchange *x)
{
    struct ch_proxy_loop *pl = x->pl;
    struct durable_state *d = &x->durable;
    if (d->prev)
        d->prev->durable.next = d->next;
    else
        pl->waiting_first = d->next;
    if (d->next)
        d->next->durable.prev = d->prev;
    else
        pl->waiting_last = d->prev;
    d->wait = DURABLE_NO_WAIT;
    ch_peer_set_deadline(&x->client->peer, 0);
}

static void drop_withheld(struct exchange *x)
{
    if (x->durable.withholds)
        ch_buf_fini(&x->durable.withheld);
    x->durable.withholds = false;
}

void durable_forget(struct exchange *x)
{
    if (x->durable.wait)
        stop_waiting(x);
    drop_withheld(x);
}

// ---- going on

// What the disk has no record of, the client is not given.
CH_COLD static void refuse(struct exchange *x, bool closes)
{
    drop_withheld(x);
    if (!x->head_is_out) {
        respond_unaccounted(x, closes);
        return;
    }
    exchange_warn(x, "accounting_unavailable", "the record of an answer did not reach the disk");
    if (x->out_framing == OUT_TO_CLOSE)
        ch_peer_reset(&x->client->peer);
    exchange_end(x, CH_END_DENIED, false);
}

static void give_withheld(struct exchange *x)
{
    struct ch_buf *withheld = &x->durable.withheld;
    struct iovec part = {withheld->ptr, withheld->len};
    // Empty: there was no memory to keep it, and a client that got nothing must not wait for it.
    bool keeps_alive = withheld->len > 0 && x->wants_keep_alive;
    if (withheld->len && ch_peer_write(&x->client->peer, &part, 1) != CH_OK)
        ch_peer_close(&x->client->peer);
    exchange_end(x, CH_END_DONE, keeps_alive);
}

static void go_on(struct exchange *x)
{
    enum durable_wait wait = x->durable.wait;
    stop_waiting(x);
    if (wait == DURABLE_FOR_SETTLEMENT) {
        give_withheld(x);
        return;
    }
    x->durable.waited_ns = ch_loop_now_ns(x->pl->loop) - x->durable.since_ns;
    forward_admitted(x);
}

static void give_up(struct exchange *x, bool closes)
{
    stop_waiting(x);
    refuse(x, closes);
}

static void on_disk_news(void *arg)
{
    struct ch_proxy_loop *pl = arg;
    uint64_t done = ch_usage_journal_synced(journal_of(pl), pl->index);
    // One that goes on may end others or itself, but what it adds stands at the end and waits for
    // a later ticket.
    while (pl->waiting_first && pl->waiting_first->durable.ticket <= done)
        go_on(pl->waiting_first);
    while (pl->waiting_first && ch_usage_journal_has_failed(journal_of(pl)))
        give_up(pl->waiting_first, false);
}

// On the journal's thread.
static enum ch_err post_disk_news(void *arg)
{
    struct ch_proxy_loop *pl = arg;
    return ch_loop_post(pl->loop, on_disk_news, pl);
}

void durable_open(struct ch_proxy_loop *pl)
{
    struct ch_usage_journal *journal = journal_of(pl);
    pl->is_durable = ch_usage_journal_is_durable(journal);
    if (pl->is_durable)
        ch_usage_journal_listen(journal, pl->index, post_disk_news, pl);
}

void durable_admit(struct exchange *x)
{
    if (ch_usage_journal_ticket(journal_of(x->pl), x->pl->index))
        wait_for(x, DURABLE_FOR_ADMISSION);
    else
        refuse(x, false);
}

// ---- the end of an answer

// Something may have been spent, and somebody waits for the answer.
static bool must_wait(const struct exchange *x)
{
    return x->pl->is_durable && x->ready_ns && !x->is_settled && !x->is_drained;
}

void durable_withhold(struct exchange *x)
{
    if (x->durable.withholds || !must_wait(x))
        return;
    x->durable.withholds = true;
    ch_buf_init(&x->durable.withheld, WITHHELD_MAX);
}

enum ch_err durable_write(struct exchange *x, const struct iovec *parts, int count)
{
    enum ch_err err = CH_OK;
    if (!x->durable.withholds)
        return ch_peer_write(&x->client->peer, parts, count);
    for (int i = 0; i < count && !err; i++)
        err = ch_buf_append(&x->durable.withheld, parts[i].iov_base, parts[i].iov_len);
    if (err) // no piece of it must look like a whole
        ch_buf_clear(&x->durable.withheld);
    return err;
}

void durable_finish(struct exchange *x, enum ch_end_reason reason)
{
    if (!x->durable.withholds) {
        exchange_end(x, reason, x->wants_keep_alive);
        return;
    }
    meter_settle(x, reason);
    exchange_release_upstream(x, reason);
    if (ch_usage_journal_ticket(journal_of(x->pl), x->pl->index))
        wait_for(x, DURABLE_FOR_SETTLEMENT);
    else
        refuse(x, false);
}

void durable_timeout(struct exchange *x)
{
    if (x->durable.wait)
        give_up(x, true); // the peer's reading ended with its deadline
}
