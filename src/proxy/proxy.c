// SPDX-License-Identifier: Apache-2.0
#include "shared.h"

#include "base/secret.h"

#include <sys/resource.h>

// An exchange takes two descriptors, the client's and the provider's, so whoever has half of them
// is served in full, and nobody alone keeps the others out.
static int64_t half_of_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT64_MAX)
        return INT64_MAX;
    return limit.rlim_cur > 2 ? (int64_t)(limit.rlim_cur / 2) : 1;
}

enum ch_err ch_proxy_new(const struct ch_proxy_options *options, struct ch_proxy **proxy_out)
{
    struct ch_proxy *proxy = ch_zcalloc(1, sizeof *proxy);
    if (!proxy)
        return CH_ERR_NOMEM;
    proxy->options = *options;
    ch_random(proxy->digest_key, sizeof proxy->digest_key);
    proxy->half_of_descriptors = half_of_descriptors();
    enum ch_err err = crowd_new(&proxy->crowd);
    if (!err)
        err = facts_plans_new(proxy);
    if (!err)
        err = ch_usage_plans_new(&proxy->usage_plans);
    if (err) {
        ch_proxy_free(proxy);
        return err;
    }
    *proxy_out = proxy;
    return CH_OK;
}

void ch_proxy_free(struct ch_proxy *proxy)
{
    if (!proxy)
        return;
    for (unsigned i = 0; i < REQUEST_PLANS; i++)
        ch_json_plan_free(proxy->request_plans[i]);
    ch_json_plan_free(proxy->estimate_plan);
    ch_json_plan_free(proxy->media_plan);
    ch_json_plan_free(proxy->reference_plan);
    ch_usage_plans_free(proxy->usage_plans);
    crowd_free(proxy->crowd);
    ch_zfree(proxy);
}

enum ch_err ch_proxy_loop_new(struct ch_proxy *proxy, struct ch_loop *loop,
                              struct ch_proxy_loop **pl_out, struct ch_why *why)
{
    const struct ch_config *config = proxy->options.config;
    const struct ch_upstream_settings settings =
        ch_upstream_settings_of(config, proxy->options.upstream_tls);
    struct ch_proxy_loop *pl = ch_zcalloc(1, sizeof *pl);
    if (!pl)
        return CH_ERR_NOMEM;
    pl->proxy = proxy;
    pl->loop = loop;
    pl->config = config;
    pl->index = ch_loop_index(loop);
    ch_buf_init(&pl->head_out, HEAD_OUT_MAX);
    ch_id_source_init(&pl->ids, pl->index, proxy->options.highest_id);
    ch_loop_set_write_stall_ms(loop, config->timeouts.write_stall);
    enum ch_err err = ch_vault_reader_new(proxy->options.vault, &pl->vault);
    if (!err)
        err = ch_upstream_pool_new(loop, proxy->options.resolver, &settings, &pl->pool);
    if (err) {
        ch_proxy_loop_free(pl);
        return ch_why_set(why, err, "loop %u: out of memory", ch_loop_index(loop));
    }
    durable_open(pl);
    *pl_out = pl;
    return CH_OK;
}

void ch_proxy_loop_free(struct ch_proxy_loop *pl)
{
    if (!pl)
        return;
    while (pl->free_exchanges) {
        struct exchange *x = pl->free_exchanges;
        pl->free_exchanges = x->next_free;
        ch_zfree(x);
    }
    ch_upstream_pool_free(pl->pool);
    ch_vault_reader_free(pl->vault);
    ch_buf_fini(&pl->head_out);
    ch_zfree(pl);
}

void ch_proxy_loop_configure(struct ch_proxy_loop *pl, const struct ch_config *config,
                             struct ch_tls *upstream_tls)
{
    const struct ch_upstream_settings settings = ch_upstream_settings_of(config, upstream_tls);
    pl->config = config;
    ch_loop_set_write_stall_ms(pl->loop, config->timeouts.write_stall);
    ch_upstream_pool_set(pl->pool, &settings);
}

void ch_proxy_accept(struct ch_proxy_loop *pl, int fd, struct ch_tls *tls, const char *address)
{
    client_accept(pl, fd, tls, address);
}

void ch_proxy_drain(struct ch_proxy_loop *pl)
{
    pl->is_draining = true;
    for (struct client *c = pl->clients; c; c = c->next)
        if (c->state == REQUEST_HEAD && !c->is_closing)
            client_retire(c);
}

void ch_proxy_abort(struct ch_proxy_loop *pl)
{
    pl->is_draining = pl->is_over = true;
    for (struct client *c = pl->clients, *next; c; c = next) {
        next = c->next;
        ch_peer_close(&c->peer); // without an end that could be taken for one
        if (c->x)
            exchange_end(c->x, CH_END_SHUTDOWN, false);
        else
            client_abandon(c);
    }
}

void ch_proxy_set_ready(struct ch_proxy *proxy, bool is_ready)
{
    atomic_store_explicit(&proxy->is_ready, is_ready, memory_order_release);
}

int64_t ch_proxy_client_count(const struct ch_proxy *proxy)
{
    return atomic_load_explicit(&proxy->client_count, memory_order_relaxed);
}

void ch_proxy_loop_counters(const struct ch_proxy_loop *pl, struct ch_proxy_counters *counters_out)
{
    *counters_out = (struct ch_proxy_counters){
        .exchanges = atomic_load_explicit(&pl->exchange_count, memory_order_relaxed),
        .denied = atomic_load_explicit(&pl->denied_count, memory_order_relaxed),
        .refused = atomic_load_explicit(&pl->refused_count, memory_order_relaxed),
        .connections = ch_loop_peer_count(pl->loop)};
}
