// SPDX-License-Identifier: Apache-2.0
#include "net/upstream_pool.h"

#include "loop_private.h"

#include "base/clock.h"
#include "base/secret.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

// Providers close idle connections after a minute or more; ours go first, so that a request seldom
// meets a connection that is being closed.
#define IDLE_MS         INT64_C(50000)

#define FRESH_NS        (INT64_C(10) * CH_NS_PER_MS)
#define RESOLVE_TICK_MS 250 // how often waits for a name are checked against their deadline

struct ch_upstream_pool {
    struct ch_loop *loop;
    struct ch_upstream
        *resolving; // waiting for addresses; they have no peer whose deadline could fire
    struct ch_timer resolve_timer; // runs while somebody waits
    struct ch_resolver *resolver;
    struct ch_tls *tls;
    struct ch_upstream *idle; // most recently used first
    unsigned idle_count, idle_max;
    int64_t connect_ns;
};

static const struct ch_peer_handler connecting_handler, idle_handler;

static void free_upstream(void *arg)
{
    ch_zfree(arg);
}

static void discard(struct ch_upstream *upstream)
{
    ch_peer_close(&upstream->peer);
    ch_loop_defer(upstream->pool->loop, &upstream->freeing, free_upstream, upstream);
}

static void unlink_idle(struct ch_upstream *upstream)
{
    struct ch_upstream **at = &upstream->pool->idle;
    while (*at != upstream)
        at = &(*at)->next;
    *at = upstream->next;
    upstream->is_idle = false;
    upstream->pool->idle_count--;
}

static void drop_idle(struct ch_upstream *upstream)
{
    unlink_idle(upstream);
    discard(upstream);
}

// ---- idle: anything that happens ends it

static size_t on_idle_bytes(void *arg, struct ch_span bytes)
{
    drop_idle(arg);
    return bytes.len;
}

static void on_idle_end(void *arg, enum ch_peer_end end)
{
    (void)end;
    drop_idle(arg);
}

static void on_idle_writable(void *arg)
{
    (void)arg; // a clean connection had written everything
}

static const struct ch_peer_handler idle_handler = {
    .on_bytes = on_idle_bytes, .on_writable = on_idle_writable, .on_end = on_idle_end};

// ---- connecting

static void hand_over(struct ch_upstream *upstream)
{
    upstream->is_ready = true;
    upstream->peer.handler = upstream->user;
    upstream->peer.arg = upstream->user_arg;
    ch_peer_set_deadline(&upstream->peer, 0);
}

static void fail(struct ch_upstream *upstream, enum ch_peer_end end)
{
    upstream->user->on_end(upstream->user_arg, end);
}

static enum ch_err open_socket(struct ch_upstream *upstream, const struct sockaddr_in6 *address)
{
    socklen_t size =
        address->sin6_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    int fd = socket(address->sin6_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return CH_ERR_IO;
    struct ssl_st *tls = NULL;
    if (connect(fd, (const struct sockaddr *)address, size) != 0 && errno != EINPROGRESS)
        goto fail_fd;
    if (upstream->tls && ch_tls_session_new(upstream->pool->tls, upstream->host, &tls))
        goto fail_fd;
    if (ch_peer_open(&upstream->peer, upstream->pool->loop, fd, tls, true, &connecting_handler,
                     upstream))
        goto fail_tls;
    ch_peer_set_deadline(&upstream->peer, upstream->connect_deadline_ns);
    return CH_OK;

fail_tls:
    SSL_free(tls);
fail_fd:
    close(fd);
    return CH_ERR_IO;
}

// Tries the addresses in the resolver's order until one takes the connection attempt.
static enum ch_err connect_next(struct ch_upstream *upstream)
{
    while (upstream->address_at < upstream->addresses.count)
        if (open_socket(upstream, &upstream->addresses.address[upstream->address_at++]) == CH_OK)
            return CH_OK;
    return CH_ERR_UNAVAILABLE;
}

static void on_connect_ready(void *arg)
{
    struct ch_upstream *upstream = arg;
    hand_over(upstream);
    upstream->user->on_ready(upstream->user_arg);
}

static void on_connect_end(void *arg, enum ch_peer_end end)
{
    struct ch_upstream *upstream = arg;
    ch_peer_close(&upstream->peer);
    bool may_try_next = end == CH_PEER_REFUSED || end == CH_PEER_RESET || end == CH_PEER_EOF;
    if (may_try_next && connect_next(upstream) == CH_OK)
        return;
    fail(upstream, end == CH_PEER_TLS || end == CH_PEER_TIMEOUT ? end : CH_PEER_REFUSED);
}

static size_t on_connect_bytes(void *arg, struct ch_span bytes)
{
    (void)arg;
    return bytes.len; // unreachable: nothing is read before on_ready
}

static const struct ch_peer_handler connecting_handler = {.on_ready = on_connect_ready,
                                                          .on_bytes = on_connect_bytes,
                                                          .on_writable = on_idle_writable,
                                                          .on_end = on_connect_end};

static void unlink_resolving(struct ch_upstream *upstream)
{
    struct ch_upstream **at = &upstream->pool->resolving;
    while (*at && *at != upstream)
        at = &(*at)->next;
    if (*at)
        *at = upstream->next;
    upstream->is_resolving = false;
    if (!upstream->pool->resolving)
        ch_timer_stop(&upstream->pool->resolve_timer);
}

static void on_resolve_tick(void *arg)
{
    struct ch_upstream_pool *pool = arg;
    int64_t now_ns = ch_loop_now_ns(pool->loop);
    for (struct ch_upstream *i = pool->resolving, *next; i; i = next) {
        next = i->next;
        if (!i->is_abandoned && now_ns >= i->connect_deadline_ns)
            fail(i, CH_PEER_TIMEOUT);
    }
}

static enum ch_err wait_for_addresses(struct ch_upstream *upstream)
{
    struct ch_upstream_pool *pool = upstream->pool;
    upstream->is_resolving = true;
    upstream->next = pool->resolving;
    pool->resolving = upstream;
    if (pool->resolve_timer.event)
        return CH_OK;
    return ch_timer_start(pool->loop, &pool->resolve_timer, RESOLVE_TICK_MS, on_resolve_tick, pool);
}

static void resolved(void *arg, const struct ch_addresses *addresses)
{
    struct ch_upstream *upstream = arg;
    unlink_resolving(upstream);
    if (upstream->is_abandoned) {
        ch_zfree(upstream);
        return;
    }
    upstream->addresses = *addresses;
    if (connect_next(upstream))
        fail(upstream, CH_PEER_REFUSED);
}

static void refuse(void *arg)
{
    struct ch_upstream *upstream = arg;
    upstream->is_refusing = false;
    if (upstream->is_abandoned)
        ch_zfree(upstream);
    else
        fail(upstream, CH_PEER_REFUSED);
}

static enum ch_err start_connecting(struct ch_upstream *upstream,
                                    const struct ch_upstream_target *target)
{
    struct ch_upstream_pool *pool = upstream->pool;
    upstream->connect_deadline_ns = ch_loop_now_ns(pool->loop) + pool->connect_ns;
    enum ch_err err = ch_resolver_lookup(pool->resolver, pool->loop, target->host, target->port,
                                         resolved, upstream, &upstream->addresses);
    if (err == CH_ERR_AGAIN)
        return wait_for_addresses(upstream);
    if (err)
        return err;
    if (connect_next(upstream)) { // a refusal known at once is reported like a late one
        upstream->is_refusing = true;
        ch_loop_defer(pool->loop, &upstream->freeing, refuse, upstream);
    }
    return CH_OK;
}

// ---- the pool

enum ch_err ch_upstream_pool_new(struct ch_loop *loop, struct ch_resolver *resolver,
                                 struct ch_tls *tls, unsigned idle_max, int64_t connect_ms,
                                 struct ch_upstream_pool **pool_out)
{
    struct ch_upstream_pool *pool = ch_zcalloc(1, sizeof *pool);
    if (!pool)
        return CH_ERR_NOMEM;
    *pool = (struct ch_upstream_pool){.loop = loop,
                                      .resolver = resolver,
                                      .tls = tls,
                                      .idle_max = idle_max,
                                      .connect_ns = connect_ms * CH_NS_PER_MS};
    *pool_out = pool;
    return CH_OK;
}

void ch_upstream_pool_free(struct ch_upstream_pool *pool)
{
    if (!pool)
        return;
    while (pool->idle) {
        struct ch_upstream *upstream = pool->idle;
        unlink_idle(upstream);
        ch_peer_close(&upstream->peer);
        ch_zfree(upstream);
    }
    ch_timer_stop(&pool->resolve_timer);
    while (pool->resolving) { // the resolver has stopped: nobody answers any more
        struct ch_upstream *upstream = pool->resolving;
        pool->resolving = upstream->next;
        ch_zfree(upstream);
    }
    ch_zfree(pool);
}

// Something that came while nobody had asked (a late answer, a FIN) must not become the next
// tenant's answer: the socket is looked at, not only what the loop has heard of it so far. A
// connection that was busy a moment ago is spared the system call: what a provider says unasked, it
// says to connections that have been idle for long.
static bool is_silent(const struct ch_upstream *upstream)
{
    char byte;
    if (ch_loop_now_ns(upstream->pool->loop) - upstream->idle_since_ns < FRESH_NS)
        return true;
    if (upstream->tls && SSL_has_pending(upstream->peer.tls))
        return false;
    return recv(upstream->peer.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static struct ch_upstream *find_idle(struct ch_upstream_pool *pool,
                                     const struct ch_upstream_target *target)
{
    for (struct ch_upstream *i = pool->idle, *next; i; i = next) {
        next = i->next;
        if (i->target_id == target->id && !i->peer.end_is_noted && is_silent(i))
            return i;
        if (i->target_group == target->group)
            drop_idle(i);
    }
    return NULL;
}

enum ch_err ch_upstream_acquire(struct ch_upstream_pool *pool,
                                const struct ch_upstream_target *target,
                                const struct ch_peer_handler *handler, void *arg,
                                struct ch_upstream **upstream_out)
{
    struct ch_upstream *upstream = find_idle(pool, target);
    if (upstream) {
        unlink_idle(upstream);
        upstream->user = handler;
        upstream->user_arg = arg;
        upstream->was_reused = true;
        hand_over(upstream);
        *upstream_out = upstream;
        return CH_OK;
    }
    upstream = ch_zcalloc(1, sizeof *upstream);
    if (!upstream)
        return CH_ERR_NOMEM;
    upstream->pool = pool;
    upstream->peer.fd = -1;
    upstream->target_id = target->id;
    upstream->target_group = target->group;
    upstream->tls = target->tls;
    upstream->user = handler;
    upstream->user_arg = arg;
    memcpy(upstream->host, target->host, sizeof upstream->host);
    enum ch_err err = start_connecting(upstream, target);
    if (err) {
        ch_zfree(upstream);
        return err;
    }
    *upstream_out = upstream;
    return CH_OK;
}

// Whether the target has its full number of idle connections; the list is walked only when it
// could.
static bool is_full(const struct ch_upstream_pool *pool, int64_t target_id)
{
    unsigned count = 0;
    if (pool->idle_count < pool->idle_max)
        return false;
    for (const struct ch_upstream *i = pool->idle; i; i = i->next)
        count += i->target_id == target_id;
    return count >= pool->idle_max;
}

static bool may_idle(const struct ch_upstream *upstream)
{
    const struct ch_peer *peer = &upstream->peer;
    return upstream->is_ready && ch_peer_is_open(peer) && !peer->saw_eof && !peer->end_is_noted &&
           peer->in.len == 0 && ch_peer_pending(peer) == 0 &&
           !is_full(upstream->pool, upstream->target_id);
}

void ch_upstream_release(struct ch_upstream *upstream, bool is_clean)
{
    struct ch_upstream_pool *pool = upstream->pool;
    if (upstream->is_resolving || upstream->is_refusing) {
        upstream->is_abandoned = true; // freed when the look-up answers, or the refusal is due
        return;
    }
    if (!is_clean || !may_idle(upstream)) {
        discard(upstream);
        return;
    }
    upstream->peer.handler = &idle_handler;
    upstream->peer.arg = upstream;
    ch_peer_resume(&upstream->peer);
    ch_peer_set_deadline(&upstream->peer, ch_loop_now_ns(pool->loop) + IDLE_MS * CH_NS_PER_MS);
    upstream->is_idle = true;
    upstream->idle_since_ns = ch_loop_now_ns(pool->loop);
    upstream->next = pool->idle;
    pool->idle = upstream;
    pool->idle_count++;
}

int64_t ch_upstream_pool_idle(const struct ch_upstream_pool *pool)
{
    return pool->idle_count;
}
