// SPDX-License-Identifier: Apache-2.0
#include "daemon_private.h"

#include "base/clock.h"
#include "base/secret.h"
#include "store/usage_writer.h"

#include <netinet/in.h>
#include <unistd.h>

#define DRAIN_POLL_MS 20

// ---- doors

static void on_door_accept(void *arg, int fd, const char *address)
{
    struct door *door = arg;
    ch_proxy_accept(door->lane->proxy, fd, door->tls, address);
}

// A connection on its way from the loop that accepted it to the one that serves it.
struct arrival {
    struct door *door; // of the loop that serves it
    int fd;
    char address[INET6_ADDRSTRLEN];
};

static void take_arrival(void *arg)
{
    struct arrival *arrival = arg;
    on_door_accept(arrival->door, arrival->fd, arrival->address);
    ch_zfree(arrival);
}

static enum ch_err send_arrival(struct door *door, int fd, const char *address)
{
    struct arrival *arrival = ch_zmalloc(sizeof *arrival);
    if (!arrival)
        return CH_ERR_NOMEM;
    *arrival = (struct arrival){.door = door, .fd = fd};
    ch_span_copy(ch_span_of(address), arrival->address, sizeof arrival->address);
    enum ch_err err = ch_loop_post(door->lane->loop, take_arrival, arrival);
    if (err)
        ch_zfree(arrival);
    return err;
}

// A passed socket is one queue, where SO_REUSEPORT has one for each loop. If all loops waited on
// it, each connection would wake them all, and of those that sleep the kernel always wakes the same
// one first: clients that come one by one, and stay, would all be its. So the first loop accepts
// and deals them out in turn, which spreads them as evenly as they can be.
static void on_passed_accept(void *arg, int fd, const char *address)
{
    struct door *door = arg;
    struct daemon *d = door->lane->daemon;
    struct lane *lane = &d->lanes[d->next_lane++ % d->lane_count];
    if (lane == door->lane || send_arrival(&lane->doors[door - door->lane->doors], fd, address))
        on_door_accept(door, fd, address);
}

static bool is_unix(const char *address)
{
    return strncmp(address, "unix:", 5) == 0;
}

static enum ch_err open_doors(struct lane *lane, struct ch_why *why)
{
    const struct ch_config *config = lane->daemon->config;
    for (unsigned i = 0; i < config->listener_count; i++) {
        struct door *door = &lane->doors[i];
        *door = (struct door){.lane = lane, .tls = lane->daemon->settings->server_tls[i]};
        int passed = lane->daemon->passed.data[i];
        if ((passed || is_unix(config->listeners[i].address)) && ch_loop_index(lane->loop) > 0)
            continue; // a path has one socket; SO_REUSEPORT is for ports
        enum ch_err err = passed ? ch_listener_adopt(lane->loop, passed, on_passed_accept, door,
                                                     &door->listener, why)
                                 : ch_listener_open(lane->loop, config->listeners[i].address,
                                                    on_door_accept, door, &door->listener, why);
        if (err)
            return err;
    }
    return CH_OK;
}

static void close_doors(struct lane *lane)
{
    for (unsigned i = 0; i < CH_CONFIG_LISTENERS_MAX; i++) {
        ch_listener_close(lane->doors[i].listener);
        lane->doors[i].listener = NULL;
    }
}

// ---- start

static void *run_lane(void *arg)
{
    struct lane *lane = arg;
    ch_loop_run(lane->loop);
    return NULL;
}

static enum ch_err start_lane(struct daemon *d, unsigned i, struct ch_why *why)
{
    struct lane *lane = &d->lanes[i];
    lane->daemon = d;
    enum ch_err err = ch_loop_new(i, &lane->loop);
    if (err)
        return ch_why_set(why, err, "loop %u could not be made", i);
    d->loops[i] = lane->loop;
    err = ch_proxy_loop_new(d->proxy, lane->loop, &lane->proxy, why);
    return err ? err : open_doors(lane, why);
}

static enum ch_err start_threads(struct daemon *d, struct ch_why *why)
{
    for (unsigned i = 0; i < d->lane_count; i++) {
        if (pthread_create(&d->lanes[i].thread, NULL, run_lane, &d->lanes[i]) != 0)
            return ch_why_set(why, CH_ERR_UNAVAILABLE, "loop thread %u could not be started", i);
        d->lanes[i].is_running = true;
    }
    ch_registry_set_loops(d->registry, d->loops, d->lane_count);
    return CH_OK;
}

enum ch_err lanes_start(struct daemon *d, struct ch_why *why)
{
    int64_t highest;
    enum ch_err err = ch_usage_highest_id(d->store, &highest, why);
    if (err)
        return err;
    struct ch_proxy_options options = {.config = &d->settings->config,
                                       .registry = d->registry,
                                       .journal = d->journal,
                                       .store = d->store,
                                       .vault = ch_store_vault(d->store),
                                       .captures = d->captures,
                                       .resolver = d->resolver,
                                       .upstream_tls = d->settings->upstream_tls,
                                       .highest_id = highest};
    err = ch_proxy_new(&options, &d->proxy);
    if (err)
        return ch_why_set(why, err, "out of memory");
    for (unsigned i = 0; i < d->lane_count && !err; i++)
        err = start_lane(d, i, why);
    return err ? err : start_threads(d, why);
}

// ---- stop

static void close_lane(void *arg)
{
    struct lane *lane = arg;
    close_doors(lane);
    atomic_fetch_add_explicit(&lane->daemon->lanes_closed, 1, memory_order_release);
}

static void drain_lane(void *arg)
{
    struct lane *lane = arg;
    ch_proxy_drain(lane->proxy);
    atomic_fetch_add_explicit(&lane->daemon->lanes_draining, 1, memory_order_release);
}

static void abort_lane(void *arg)
{
    struct lane *lane = arg;
    ch_proxy_abort(lane->proxy);
    ch_loop_stop(lane->loop);
}

// Returns how many will hear of it.
static unsigned tell_lanes(struct daemon *d, ch_loop_fn fn)
{
    unsigned told = 0;
    for (unsigned i = 0; i < d->lane_count; i++) {
        if (!d->lanes[i].is_running)
            continue;
        if (ch_loop_post(d->lanes[i].loop, fn, &d->lanes[i]) == CH_OK)
            told++;
        else
            ch_loop_stop(d->lanes[i].loop); // its letterbox is full: it ends without manners
    }
    return told;
}

// Exchanges may finish and their answers reach the client; what is still running at the deadline is
// cut and settled as such. No loop is asked whether it has clients before the last one has stopped
// accepting and every accepted connection counts as one.
static void drain(struct daemon *d)
{
    int64_t shutdown_ms = d->settings->config.timeouts.shutdown;
    int64_t deadline_ns = ch_clock_mono_ns() + shutdown_ms * CH_NS_PER_MS;
    unsigned told = tell_lanes(d, close_lane);
    while (atomic_load(&d->lanes_closed) < told && ch_clock_mono_ns() < deadline_ns)
        usleep(DRAIN_POLL_MS * 1000);
    told = tell_lanes(d, drain_lane);
    while ((atomic_load(&d->lanes_draining) < told || ch_proxy_client_count(d->proxy) > 0) &&
           ch_clock_mono_ns() < deadline_ns)
        usleep(DRAIN_POLL_MS * 1000);
    tell_lanes(d, abort_lane);
}

void lanes_stop(struct daemon *d)
{
    bool is_running = d->lane_count > 0 && d->lanes[0].is_running;
    if (is_running)
        drain(d);
    for (unsigned i = 0; i < d->lane_count; i++)
        if (d->lanes[i].is_running)
            pthread_join(d->lanes[i].thread, NULL);
    if (d->registry)
        ch_registry_set_loops(d->registry, NULL, 0);
    // Resolver threads post into the loops until they are stopped.
    ch_resolver_stop(d->resolver);
    d->resolver = NULL;
    ch_usage_journal_stop_syncing(d->journal); // likewise
    for (unsigned i = 0; i < d->lane_count; i++) {
        close_doors(&d->lanes[i]);
        if (d->lanes[i].loop)
            ch_loop_settle(d->lanes[i].loop);
        ch_proxy_loop_free(d->lanes[i].proxy);
        ch_loop_free(d->lanes[i].loop);
    }
    ch_proxy_free(d->proxy);
}

// ---- the watchdog's question

static void answer_watchdog(void *arg)
{
    struct lane *lane = arg;
    atomic_store_explicit(&lane->asked_ns, 0, memory_order_release);
}

int64_t lanes_ask(struct daemon *d)
{
    int64_t now_ns = ch_clock_mono_ns(), longest_ns = 0;
    for (unsigned i = 0; i < d->lane_count; i++) {
        struct lane *lane = &d->lanes[i];
        int64_t asked_ns = atomic_load_explicit(&lane->asked_ns, memory_order_acquire);
        if (asked_ns && now_ns - asked_ns > longest_ns)
            longest_ns = now_ns - asked_ns;
        if (asked_ns)
            continue;
        atomic_store_explicit(&lane->asked_ns, now_ns, memory_order_release);
        // A letterbox that is full belongs to a loop that is stuck: the question stays open.
        enum ch_err err = ch_loop_post(lane->loop, answer_watchdog, lane);
        (void)err;
    }
    return longest_ns;
}
