// SPDX-License-Identifier: Apache-2.0
#include "net/resolver.h"

#include "base/clock.h"
#include "base/secret.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>

#define HOST_MAX      254 // bytes of a name with its NUL (RFC 1035 §2.3.4)
#define CACHE_ENTRIES 64  // distinct upstream hosts; more simply resolve more often
#define FRESH_NS      (INT64_C(30000) * CH_NS_PER_MS)

// Who waits for a look-up.
struct waiter {
    struct waiter *next;
    struct ch_loop *loop;
    ch_resolver_fn fn;
    void *arg;
    uint16_t port;
    struct ch_addresses found;
};

// One host being looked up, however many wait for it: a dead name costs one thread.
struct lookup {
    struct lookup *next;
    struct waiter *waiters;
    bool is_running;
    char host[HOST_MAX];
};

struct cached {
    char host[HOST_MAX]; // "" : free
    int64_t resolved_ns;
    struct ch_addresses found; // ports are zero
};

struct ch_resolver {
    pthread_mutex_t lock; // guards everything below; never held across getaddrinfo
    pthread_cond_t wake;
    struct lookup *lookups; // waiting and running
    bool is_stopping;
    unsigned refs; // the owner and every thread: one that hangs in getaddrinfo outlives its owner
    unsigned answering; // threads that are posting answers to loops
    pthread_cond_t answered;
    struct cached cache[CACHE_ENTRIES];
    unsigned next_victim;
};

static void set_port(struct ch_addresses *addresses, uint16_t port)
{
    for (unsigned i = 0; i < addresses->count; i++)
        addresses->address[i].sin6_port = htons(port); // both families keep the port at this place
}

static bool parse_literal(const char *host, uint16_t port, struct ch_addresses *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&out->address[0];
    memset(out, 0, sizeof *out);
    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1)
        v4->sin_family = AF_INET;
    else if (inet_pton(AF_INET6, host, &out->address[0].sin6_addr) == 1)
        out->address[0].sin6_family = AF_INET6;
    else
        return false;
    out->count = 1;
    set_port(out, port);
    return true;
}

static struct cached *find_cached(struct ch_resolver *resolver, const char *host)
{
    for (size_t i = 0; i < CACHE_ENTRIES; i++)
        if (strcmp(resolver->cache[i].host, host) == 0)
            return &resolver->cache[i];
    return NULL;
}

static void resolve(const char *host, struct ch_addresses *out)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
    *out = (struct ch_addresses){0};
    if (getaddrinfo(host, NULL, &hints, &list) != 0)
        return;
    for (struct addrinfo *i = list; i && out->count < CH_ADDRESSES_MAX; i = i->ai_next) {
        if (i->ai_family != AF_INET && i->ai_family != AF_INET6)
            continue;
        memcpy(&out->address[out->count++], i->ai_addr, i->ai_addrlen);
    }
    freeaddrinfo(list);
}

// Keeps a good answer; replaces a bad one by the last good one.
static void reconcile(struct ch_resolver *resolver, const char *host, struct ch_addresses *found)
{
    struct cached *cached = find_cached(resolver, host);
    if (found->count == 0) {
        if (cached)
            *found = cached->found;
        return;
    }
    if (!cached) {
        cached = &resolver->cache[resolver->next_victim++ % CACHE_ENTRIES];
        ch_span_copy(ch_span_of(host), cached->host, sizeof cached->host);
    }
    cached->found = *found;
    cached->resolved_ns = ch_clock_mono_ns();
}

static void deliver(void *arg)
{
    struct waiter *waiter = arg;
    waiter->fn(waiter->arg, &waiter->found);
    ch_zfree(waiter);
}

static struct lookup *next_waiting(const struct ch_resolver *resolver)
{
    struct lookup *i = resolver->lookups;
    while (i && i->is_running)
        i = i->next;
    return i;
}

static struct lookup *take_next(struct ch_resolver *resolver)
{
    struct lookup *lookup;
    while (!(lookup = next_waiting(resolver)) && !resolver->is_stopping)
        pthread_cond_wait(&resolver->wake, &resolver->lock);
    if (resolver->is_stopping)
        return NULL;
    lookup->is_running = true;
    return lookup;
}

static void unlink_lookup(struct ch_resolver *resolver, struct lookup *lookup)
{
    struct lookup **at = &resolver->lookups;
    while (*at != lookup)
        at = &(*at)->next;
    *at = lookup->next;
}

// A loop whose letterbox is full does not get its answer; the deadline of the wait ends it.
static void answer_waiters(struct lookup *lookup, const struct ch_addresses *found)
{
    for (struct waiter *i = lookup->waiters, *next; i; i = next) {
        next = i->next;
        i->found = *found;
        set_port(&i->found, i->port);
        if (ch_loop_post(i->loop, deliver, i) != CH_OK)
            ch_zfree(i);
    }
    ch_zfree(lookup);
}

static void unref_locked(struct ch_resolver *resolver)
{
    bool is_last = --resolver->refs == 0;
    pthread_mutex_unlock(&resolver->lock);
    if (!is_last)
        return;
    pthread_cond_destroy(&resolver->wake);
    pthread_cond_destroy(&resolver->answered);
    pthread_mutex_destroy(&resolver->lock);
    ch_zfree(resolver);
}

static void *run(void *arg)
{
    struct ch_resolver *resolver = arg;
    struct lookup *lookup;
    pthread_mutex_lock(&resolver->lock);
    while ((lookup = take_next(resolver))) {
        struct ch_addresses found;
        pthread_mutex_unlock(&resolver->lock);
        resolve(lookup->host, &found);
        pthread_mutex_lock(&resolver->lock);
        reconcile(resolver, lookup->host, &found);
        unlink_lookup(resolver, lookup);
        resolver->answering++;
        pthread_mutex_unlock(&resolver->lock);
        answer_waiters(lookup, &found);
        pthread_mutex_lock(&resolver->lock);
        resolver->answering--;
        pthread_cond_signal(&resolver->answered);
    }
    unref_locked(resolver);
    return NULL;
}

static int start_thread(struct ch_resolver *resolver)
{
    pthread_t thread;
    pthread_mutex_lock(&resolver->lock);
    int error = pthread_create(&thread, NULL, run, resolver);
    if (!error) {
        pthread_detach(thread);
        resolver->refs++;
    }
    pthread_mutex_unlock(&resolver->lock);
    return error;
}

enum ch_err ch_resolver_start(unsigned threads, struct ch_resolver **resolver_out)
{
    struct ch_resolver *resolver = ch_zcalloc(1, sizeof *resolver);
    if (!resolver)
        return CH_ERR_NOMEM;
    pthread_mutex_init(&resolver->lock, NULL);
    pthread_cond_init(&resolver->wake, NULL);
    pthread_cond_init(&resolver->answered, NULL);
    resolver->refs = 1;
    // Signals belong to the thread that waits for them.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    unsigned started = 0;
    while (started < threads && start_thread(resolver) == 0)
        started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started == 0) {
        ch_resolver_stop(resolver);
        return CH_ERR_UNAVAILABLE;
    }
    *resolver_out = resolver;
    return CH_OK;
}

static void free_waiters(struct lookup *lookup)
{
    while (lookup->waiters) {
        struct waiter *waiter = lookup->waiters;
        lookup->waiters = waiter->next;
        ch_zfree(waiter);
    }
}

// Nobody waits any more, and what no thread is looking up is dropped.
static void drop_lookups(struct ch_resolver *resolver)
{
    for (struct lookup **at = &resolver->lookups; *at;) {
        struct lookup *lookup = *at;
        free_waiters(lookup);
        if (lookup->is_running) {
            at = &lookup->next;
        } else {
            *at = lookup->next;
            ch_zfree(lookup);
        }
    }
}

void ch_resolver_stop(struct ch_resolver *resolver)
{
    if (!resolver)
        return;
    pthread_mutex_lock(&resolver->lock);
    resolver->is_stopping = true;
    drop_lookups(resolver);
    pthread_cond_broadcast(&resolver->wake);
    while (resolver->answering)
        pthread_cond_wait(&resolver->answered, &resolver->lock);
    unref_locked(resolver);
}

static struct lookup *find_lookup(const struct ch_resolver *resolver, const char *host)
{
    struct lookup *i = resolver->lookups;
    while (i && strcmp(i->host, host) != 0)
        i = i->next;
    return i;
}

// Joins the look-up of that host or starts one. `waiter` may be NULL: a refresh nobody waits for.
static enum ch_err want(struct ch_resolver *resolver, const char *host, struct waiter *waiter)
{
    struct lookup *lookup = find_lookup(resolver, host);
    if (!lookup) {
        lookup = ch_zcalloc(1, sizeof *lookup);
        if (!lookup)
            return CH_ERR_NOMEM;
        ch_span_copy(ch_span_of(host), lookup->host, sizeof lookup->host);
        lookup->next = resolver->lookups;
        resolver->lookups = lookup;
        pthread_cond_signal(&resolver->wake);
    }
    if (waiter) {
        waiter->next = lookup->waiters;
        lookup->waiters = waiter;
    }
    return CH_OK;
}

// A known host answers at once; when its answer has aged, it is refreshed behind the caller's back.
static bool find_known(struct ch_resolver *resolver, const char *host, struct ch_addresses *out)
{
    const struct cached *cached = find_cached(resolver, host);
    if (!cached)
        return false;
    *out = cached->found;
    if (ch_clock_mono_ns() - cached->resolved_ns <= FRESH_NS)
        return true;
    return want(resolver, host, NULL) == CH_OK;
}

enum ch_err ch_resolver_lookup(struct ch_resolver *resolver, struct ch_loop *loop, const char *host,
                               uint16_t port, ch_resolver_fn fn, void *arg,
                               struct ch_addresses *addresses_out)
{
    if (parse_literal(host, port, addresses_out))
        return CH_OK;
    if (strlen(host) >= HOST_MAX)
        return CH_ERR_INVALID;
    struct waiter *waiter = ch_zcalloc(1, sizeof *waiter);
    if (!waiter)
        return CH_ERR_NOMEM;
    *waiter = (struct waiter){.loop = loop, .fn = fn, .arg = arg, .port = port};
    pthread_mutex_lock(&resolver->lock);
    bool is_known = find_known(resolver, host, addresses_out);
    enum ch_err err = is_known ? CH_OK : want(resolver, host, waiter);
    pthread_mutex_unlock(&resolver->lock);
    if (is_known || err) {
        ch_zfree(waiter);
        set_port(addresses_out, port);
        return err;
    }
    return CH_ERR_AGAIN;
}
