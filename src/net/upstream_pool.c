// SPDX-License-Identifier: Apache-2.0
#include "net/upstream_pool.h"

#include "dial.h"
#include "loop_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "net/address_guard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <sodium.h>
#include <sys/socket.h>
#include <unistd.h>

// Providers close idle connections after a minute or more; ours go first, so that a request seldom
// meets a connection that is being closed.
#define IDLE_MS         INT64_C(50000)

#define FRESH_NS        (INT64_C(10) * CH_NS_PER_MS)
#define RESOLVE_TICK_MS 250 // how often waits for a name are checked against their deadline

#define NOTED_MAX       8 // providers whose last refusal is remembered
#define NOTE_EVERY_NS   (INT64_C(60000) * CH_NS_PER_MS)
#define PIN_TEXT        sodium_base64_ENCODED_LEN(CH_TLS_PIN, sodium_base64_VARIANT_ORIGINAL)

// A refusal that was logged, so that a provider is named once a minute and not once a request.
struct noted {
    int64_t group;
    enum ch_upstream_fault fault;
    int64_t at_ns;
};

struct ch_upstream_pool {
    struct ch_loop *loop;
    struct ch_upstream
        *resolving; // waiting for addresses; they have no peer whose deadline could fire
    struct ch_timer resolve_timer; // runs while somebody waits
    struct ch_resolver *resolver;
    struct ch_upstream_settings settings;
    unsigned settings_version;
    struct ch_upstream *idle; // most recently used first
    unsigned idle_count;
    struct noted noted[NOTED_MAX];
    unsigned next_noted;
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
    upstream->target = NULL; // its owner may let go of it
    upstream->peer.handler = upstream->user;
    upstream->peer.arg = upstream->user_arg;
    ch_peer_set_deadline(&upstream->peer, 0);
}

CH_COLD static void fail(struct ch_upstream *upstream, enum ch_peer_end end)
{
    upstream->user->on_end(upstream->user_arg, end);
}

// Whether the refusal is to be logged now.
static bool note(struct ch_upstream_pool *pool, int64_t group, enum ch_upstream_fault fault)
{
    int64_t now_ns = ch_loop_now_ns(pool->loop);
    struct noted *noted = NULL;
    for (size_t i = 0; i < NOTED_MAX; i++)
        if (pool->noted[i].fault == fault && pool->noted[i].group == group)
            noted = &pool->noted[i];
    if (noted && now_ns - noted->at_ns < NOTE_EVERY_NS)
        return false;
    if (!noted)
        noted = &pool->noted[pool->next_noted++ % NOTED_MAX];
    *noted = (struct noted){group, fault, now_ns};
    return true;
}

static void log_refused_address(const struct ch_upstream *upstream,
                                const struct sockaddr_in6 *address)
{
    char text[INET6_ADDRSTRLEN] = "";
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
    if (!note(upstream->pool, upstream->target_group, CH_UPSTREAM_ADDRESS_REFUSED))
        return;
    if (address->sin6_family == AF_INET)
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    else
        inet_ntop(AF_INET6, &address->sin6_addr, text, sizeof text);
    CH_LOG(CH_LOG_WARN, "provider_address_refused", ch_log_text("provider", upstream->target->name),
           ch_log_text("host", upstream->host), ch_log_text("address", text),
           ch_log_text("class", ch_address_class_name(upstream->refused_class)),
           ch_log_text("hint", "upstream.allow_addresses names what may be connected to"));
}

static bool may_connect(void *arg, const struct sockaddr_in6 *address)
{
    struct ch_upstream *upstream = arg;
    enum ch_address_class address_class =
        ch_address_guard(address, upstream->host, upstream->pool->settings.allowed);
    if (address_class == CH_ADDRESS_PUBLIC) {
        upstream->has_tried = true;
        return true;
    }
    upstream->refused_class = address_class;
    log_refused_address(upstream, address);
    return false;
}

// No connection will be made. An address that was refused is the reason only where no other was
// tried.
CH_COLD static void give_up(struct ch_upstream *upstream, enum ch_peer_end end)
{
    if (!upstream->has_tried && upstream->refused_class != CH_ADDRESS_PUBLIC)
        upstream->fault = CH_UPSTREAM_ADDRESS_REFUSED;
    fail(upstream, end);
}

static const struct ch_dial_handler dial_handler;

// Tries what addresses are left.
static enum ch_err connect_rest(struct ch_upstream *upstream)
{
    return ch_dial_start(upstream->pool->loop, &upstream->addresses, upstream->connect_deadline_ns,
                         &dial_handler, upstream, &upstream->dial);
}

static enum ch_err open_peer(struct ch_upstream *upstream, int fd)
{
    struct ssl_st *tls = NULL;
    enum ch_err err = CH_OK;
    if (upstream->tls)
        err = ch_tls_session_new(upstream->pool->settings.tls, upstream->host, &tls);
    if (!err)
        err = ch_peer_open(&upstream->peer, upstream->pool->loop, fd, tls, false,
                           &connecting_handler, upstream);
    if (err) {
        ch_tls_session_free(tls);
        close(fd);
        return err;
    }
    ch_peer_set_deadline(&upstream->peer, upstream->connect_deadline_ns);
    return CH_OK;
}

static const struct ch_config_pins *pins_of(const struct ch_upstream *upstream)
{
    const struct ch_upstream_settings *settings = &upstream->pool->settings;
    for (unsigned i = 0; i < settings->pinned_count; i++)
        if (strcmp(settings->pins[i].provider, upstream->target->name) == 0)
            return &settings->pins[i];
    return NULL;
}

static bool has_its_pin(struct ch_upstream *upstream)
{
    unsigned char presented[CH_TLS_PIN];
    char text[PIN_TEXT];
    const struct ch_config_pins *pins = upstream->tls ? pins_of(upstream) : NULL;
    if (!pins ||
        ch_tls_session_has_pin(upstream->peer.tls, (const unsigned char(*)[CH_TLS_PIN])pins->pin,
                               pins->count, presented))
        return true;
    if (!note(upstream->pool, upstream->target_group, CH_UPSTREAM_PIN_MISMATCH))
        return false;
    sodium_bin2base64(text, sizeof text, presented, sizeof presented,
                      sodium_base64_VARIANT_ORIGINAL);
    CH_LOG(CH_LOG_WARN, "provider_pin_mismatch", ch_log_text("provider", upstream->target->name),
           ch_log_text("host", upstream->host), ch_log_text("presented", text));
    return false;
}

static void on_connect_ready(void *arg)
{
    struct ch_upstream *upstream = arg;
    if (!has_its_pin(upstream)) {
        ch_peer_close(&upstream->peer);
        upstream->fault = CH_UPSTREAM_PIN_MISMATCH;
        fail(upstream, CH_PEER_TLS);
        return;
    }
    hand_over(upstream);
    upstream->user->on_ready(upstream->user_arg);
}

static void forget_address(struct ch_addresses *addresses, unsigned at)
{
    addresses->count--;
    memmove(&addresses->address[at], &addresses->address[at + 1],
            (addresses->count - at) * sizeof addresses->address[0]);
}

static void on_dialled(void *arg, int fd, unsigned at, enum ch_peer_end end)
{
    struct ch_upstream *upstream = arg;
    upstream->dial = NULL;
    if (fd < 0) {
        give_up(upstream, end);
        return;
    }
    forget_address(&upstream->addresses, at);
    if (open_peer(upstream, fd))
        give_up(upstream, CH_PEER_REFUSED);
    else if (!upstream->tls)
        on_connect_ready(upstream);
}

static const struct ch_dial_handler dial_handler = {.may_connect = may_connect,
                                                    .on_dialled = on_dialled};

static void on_connect_end(void *arg, enum ch_peer_end end)
{
    struct ch_upstream *upstream = arg;
    ch_peer_close(&upstream->peer);
    bool may_try_next = end == CH_PEER_RESET || end == CH_PEER_EOF;
    if (may_try_next && connect_rest(upstream) == CH_OK)
        return;
    give_up(upstream, end == CH_PEER_TLS || end == CH_PEER_TIMEOUT ? end : CH_PEER_REFUSED);
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
    if (connect_rest(upstream))
        give_up(upstream, CH_PEER_REFUSED);
}

static void refuse(void *arg)
{
    struct ch_upstream *upstream = arg;
    upstream->is_refusing = false;
    if (upstream->is_abandoned)
        ch_zfree(upstream);
    else
        give_up(upstream, CH_PEER_REFUSED);
}

static enum ch_err start_connecting(struct ch_upstream *upstream,
                                    const struct ch_upstream_target *target)
{
    struct ch_upstream_pool *pool = upstream->pool;
    upstream->connect_deadline_ns =
        ch_loop_now_ns(pool->loop) + pool->settings.connect_ms * CH_NS_PER_MS;
    enum ch_err err = ch_resolver_lookup(pool->resolver, pool->loop, target->host, target->port,
                                         resolved, upstream, &upstream->addresses);
    if (err == CH_ERR_AGAIN)
        return wait_for_addresses(upstream);
    if (err)
        return err;
    if (connect_rest(upstream)) { // a refusal known at once is reported like a late one
        upstream->is_refusing = true;
        ch_loop_defer(pool->loop, &upstream->freeing, refuse, upstream);
    }
    return CH_OK;
}

// ---- the pool

struct ch_upstream_settings ch_upstream_settings_of(const struct ch_config *config,
                                                    struct ch_tls *tls)
{
    return (struct ch_upstream_settings){.tls = tls,
                                         .idle_max = (unsigned)config->limits.upstream_idle,
                                         .connect_ms = config->timeouts.connect,
                                         .allowed = &config->allow_addresses,
                                         .pins = config->pins,
                                         .pinned_count = config->pinned_count};
}

enum ch_err ch_upstream_pool_new(struct ch_loop *loop, struct ch_resolver *resolver,
                                 const struct ch_upstream_settings *settings,
                                 struct ch_upstream_pool **pool_out)
{
    struct ch_upstream_pool *pool = ch_zcalloc(1, sizeof *pool);
    if (!pool)
        return CH_ERR_NOMEM;
    *pool = (struct ch_upstream_pool){.loop = loop, .resolver = resolver, .settings = *settings};
    *pool_out = pool;
    return CH_OK;
}

void ch_upstream_pool_set(struct ch_upstream_pool *pool,
                          const struct ch_upstream_settings *settings)
{
    pool->settings = *settings;
    pool->settings_version++;
    while (pool->idle)
        drop_idle(pool->idle);
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
    upstream->target = target;
    upstream->settings_version = pool->settings_version;
    upstream->tls = target->tls;
    upstream->user = handler;
    upstream->user_arg = arg;
    memcpy(upstream->host, target->host, sizeof upstream->host);
    enum ch_err err = start_connecting(upstream, target);
    if (err) {
        ch_upstream_release(upstream, false); // a look-up under way may still point to it
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
    if (pool->idle_count < pool->settings.idle_max)
        return false;
    for (const struct ch_upstream *i = pool->idle; i; i = i->next)
        count += i->target_id == target_id;
    return count >= pool->settings.idle_max;
}

static bool may_idle(const struct ch_upstream *upstream)
{
    const struct ch_peer *peer = &upstream->peer;
    return upstream->is_ready && ch_peer_is_open(peer) && !peer->saw_eof && !peer->end_is_noted &&
           upstream->settings_version == upstream->pool->settings_version && peer->in.len == 0 &&
           ch_peer_pending(peer) == 0 && !peer->is_posted &&
           !is_full(upstream->pool, upstream->target_id);
}

void ch_upstream_release(struct ch_upstream *upstream, bool is_clean)
{
    struct ch_upstream_pool *pool = upstream->pool;
    if (upstream->is_resolving || upstream->is_refusing) {
        upstream->is_abandoned = true; // freed when the look-up answers, or the refusal is due
        return;
    }
    if (upstream->dial)
        ch_dial_stop(upstream->dial);
    upstream->dial = NULL;
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
