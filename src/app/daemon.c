// SPDX-License-Identifier: Apache-2.0
#include "app/daemon.h"

#include "app/capture.h"
#include "app/config_file.h"
#include "app/confine.h"
#include "app/passed.h"
#include "app/prices.h"
#include "app/version.h"
#include "app/watchdog.h"

#include "admin/admin.h"
#include "base/clock.h"
#include "base/secret.h"
#include "net/listener.h"
#include "proxy/proxy.h"
#include "store/usage_writer.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LOOPS_MAX        64
#define RESOLVER_THREADS 2
#define DRAIN_POLL_MS    20
#define LOCK_WAIT_MS     5000
#define LOCK_POLL_MS     50
#define RELOAD_WAIT_S    30 // a loop that takes longer for one turn is stuck
#define STATE_TEXT       64 // bytes of what systemd is told

struct daemon;

// A listening address of one loop.
struct door {
    struct ch_listener *listener;
    struct lane *lane;
    struct ch_tls *tls; // shared by the doors of one address
};

// One loop and what runs on it.
struct lane {
    struct daemon *daemon;
    struct ch_loop *loop;
    struct ch_proxy_loop *proxy;
    struct door doors[CH_CONFIG_LISTENERS_MAX];
    pthread_t thread;
    bool is_running;
    _Atomic int64_t asked_ns; // when the watchdog's question was posted; 0: it is answered
};

// What a reload replaces, as one. Immutable.
struct settings {
    struct ch_config config;
    struct ch_tls *upstream_tls;
    struct ch_tls *server_tls[CH_CONFIG_LISTENERS_MAX];
    struct ch_capture_plan *capture; // NULL once the capturer has it
    struct ch_tls *admin_tls;        // NULL: the admin listener speaks plainly, or there is none
};

struct daemon {
    const struct ch_config *config; // of the start: for what a reload does not change
    const char *config_path;
    bool config_is_found;
    struct ch_passed passed;             // each is taken by whoever listens on it
    unsigned next_lane;                  // for a connection of a passed socket; the first loop's
    struct settings *settings;           // in force
    const struct settings *new_settings; // on their way into the loops
    pthread_mutex_t reload_lock;         // held by the one reload that runs
    pthread_mutex_t settings_lock;       // guards `settings` and lanes_left
    pthread_cond_t lanes_done;
    char catalogue_at_start[64]; // its version; a command may change it at once
    unsigned lanes_left;
    _Atomic unsigned lanes_closed, lanes_draining; // how many have taken that step of the stop
    struct ch_watchdog watchdog;
    enum ch_health health;
    enum ch_confinement confinement; // set before the admin thread starts
    int64_t started_ns;
    struct ch_store *store;
    bool is_start_recorded;
    struct ch_usage_journal *journal;
    struct ch_registry *registry;
    struct ch_alerts *alerts;
    struct ch_resolver *resolver;
    struct ch_capture_queue *captures;
    struct ch_capturer *capturer;
    struct ch_proxy *proxy;
    unsigned lane_count;
    struct lane lanes[LOOPS_MAX];
    struct ch_loop *loops[LOOPS_MAX];
    struct ch_admin admin;
    struct ch_admin_server *admin_server;
};

// ---- the store and what is loaded from it

// Into the audit log. A daemon whose start cannot be recorded does not start.
static enum ch_err record(struct daemon *d, const char *action, struct ch_why *why)
{
    struct ch_audit_actor self;
    ch_audit_actor_of(geteuid(), &self);
    json_t *state = json_pack("{s:s, s:i}", "version", CH_VERSION, "pid", (int)getpid());
    const struct ch_audit_entry entry = {
        .actor = &self, .action = action, .object_kind = "daemon", .after = state};
    enum ch_err err = state ? ch_audit_record(d->store, &entry, why)
                            : ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    json_decref(state);
    return err;
}

static enum ch_err start_store(struct daemon *d, struct ch_why *why)
{
    struct ch_secret *master_key;
    enum ch_err err = ch_config_master_key(d->config, &master_key, why);
    if (err)
        return err;
    int64_t deadline_ns = ch_clock_mono_ns() + LOCK_WAIT_MS * CH_NS_PER_MS;
    // A command in direct mode, or the daemon that this one follows, may hold the lock for a
    // moment.
    while ((err = ch_store_open(d->config->database, master_key, false, &d->store, why)) ==
               CH_ERR_CONFLICT &&
           ch_clock_mono_ns() < deadline_ns)
        usleep(LOCK_POLL_MS * 1000);
    ch_secret_free(master_key); // the vault holds what it derived from it
    if (err)
        return err;
    err = record(d, "daemon.start", why);
    d->is_start_recorded = err == CH_OK;
    return err;
}

static void stop_store(struct daemon *d)
{
    struct ch_why why = {""};
    if (d->is_start_recorded && record(d, "daemon.stop", &why))
        CH_LOG(CH_LOG_ERROR, "stop_not_recorded", ch_log_text("err", why.text));
    ch_store_close(d->store);
}

static enum ch_err start_journal(struct daemon *d, struct ch_why *why)
{
    enum ch_err err = ch_usage_journal_open(d->config->journal, d->lane_count,
                                            (size_t)d->config->limits.journal_bytes,
                                            (unsigned)d->config->limits.inflight, &d->journal, why);
    if (!err)
        err = ch_usage_writer_recover(d->store, d->journal, why);
    if (!err && d->config->durability == CH_CONFIG_DURABILITY_POWER)
        err = ch_usage_journal_make_durable(d->journal, NULL, NULL, why);
    return err;
}

static void stop_journal(struct daemon *d)
{
    ch_usage_journal_close(d->journal);
}

static enum ch_err start_registry(struct daemon *d, struct ch_why *why)
{
    struct ch_catalogue *catalogue;
    enum ch_err err = ch_prices_load(d->config, d->store, &catalogue, why);
    if (err)
        return err;
    err = ch_registry_new(ch_store_pepper(d->store), catalogue, &d->registry);
    if (err) {
        ch_catalogue_free(catalogue);
        return ch_why_set(why, err, "out of memory");
    }
    err = ch_registry_keep_objects(d->registry, (size_t)d->config->limits.objects);
    if (err)
        return ch_why_set(why, err, "out of memory");
    snprintf(d->catalogue_at_start, sizeof d->catalogue_at_start, "%s",
             ch_catalogue_version(catalogue));
    return ch_registry_load(d->registry, d->store, why);
}

static void stop_registry(struct daemon *d)
{
    ch_registry_free(d->registry);
}

static enum ch_err start_alerts(struct daemon *d, struct ch_why *why)
{
    return ch_alerts_new(d->registry, d->store, &d->alerts, why);
}

static void stop_alerts(struct daemon *d)
{
    ch_alerts_free(d->alerts);
}

static enum ch_err start_writer(struct daemon *d, struct ch_why *why)
{
    return ch_usage_writer_start(d->store, d->journal, why);
}

static void stop_writer(struct daemon *d)
{
    ch_usage_writer_stop(d->store);
}

// ---- settings

static void free_settings(struct settings *settings)
{
    if (!settings)
        return;
    ch_capture_plan_unref(settings->capture);
    ch_tls_free(settings->upstream_tls);
    for (unsigned i = 0; i < CH_CONFIG_LISTENERS_MAX; i++)
        ch_tls_free(settings->server_tls[i]);
    ch_tls_free(settings->admin_tls);
    ch_zfree(settings);
}

// NULL for a listener without TLS.
static enum ch_err open_listener_tls(const struct ch_config_listener *listener,
                                     struct ch_tls **tls_out, struct ch_why *why)
{
    const struct ch_tls_server_options options = {.certificate = listener->tls_certificate,
                                                  .key = listener->tls_key,
                                                  .client_ca = listener->tls_client_ca,
                                                  .requires_client = listener->tls_client_auth ==
                                                                     CH_CONFIG_CLIENT_AUTH_REQUIRE};
    if (listener->tls_certificate[0])
        return ch_tls_server_new(&options, tls_out, why);
    *tls_out = NULL;
    return CH_OK;
}

static enum ch_err open_admin_tls(const struct ch_config *config, struct ch_tls **tls_out,
                                  struct ch_why *why)
{
    const struct ch_tls_server_options options = {.certificate = config->admin_tls_certificate,
                                                  .key = config->admin_tls_key,
                                                  .client_ca = ""};
    if (config->admin_tls_certificate[0])
        return ch_tls_server_new(&options, tls_out, why);
    *tls_out = NULL;
    return CH_OK;
}

// Reads what the configuration points to.
static enum ch_err make_settings(const struct ch_config *config, struct settings **settings_out,
                                 struct ch_why *why)
{
    struct settings *settings = ch_zcalloc(1, sizeof *settings);
    if (!settings)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    settings->config = *config;
    enum ch_err err = ch_capture_plan_new(config, &settings->capture, why);
    if (!err)
        err = ch_tls_client_new(config->upstream_ca, &settings->upstream_tls, why);
    for (unsigned i = 0; i < config->listener_count && !err; i++)
        err = open_listener_tls(&config->listeners[i], &settings->server_tls[i], why);
    if (!err)
        err = open_admin_tls(config, &settings->admin_tls, why);
    if (err) {
        free_settings(settings);
        return err;
    }
    *settings_out = settings;
    return CH_OK;
}

// ---- the network

static enum ch_err start_network(struct daemon *d, struct ch_why *why)
{
    if (ch_resolver_start(RESOLVER_THREADS, &d->resolver) != CH_OK)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "the resolver threads could not be started");
    return make_settings(d->config, &d->settings, why);
}

static void stop_network(struct daemon *d)
{
    ch_resolver_stop(d->resolver);
    free_settings(d->settings);
}

// ---- captures

static enum ch_err start_captures(struct daemon *d, struct ch_why *why)
{
    enum ch_err err =
        ch_capture_queue_new(CH_CAPTURE_QUEUE_BYTES, CH_CAPTURE_QUEUE_COUNT, &d->captures);
    if (err)
        return ch_why_set(why, err, "out of memory");
    err = ch_capturer_start(d->store, d->captures, d->config->capture.directory,
                            d->settings->capture, &d->capturer, why);
    if (!err)
        d->settings->capture = NULL;
    return err;
}

static void stop_captures(struct daemon *d)
{
    ch_capturer_stop(d->capturer);
    ch_capture_queue_free(d->captures);
}

// ---- the loops

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

static enum ch_err start_loops(struct daemon *d, struct ch_why *why)
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

static void stop_loops(struct daemon *d)
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

// ---- reload

static void configure_lane(void *arg)
{
    struct lane *lane = arg;
    struct daemon *d = lane->daemon;
    const struct settings *settings = d->new_settings;
    for (unsigned i = 0; i < CH_CONFIG_LISTENERS_MAX; i++)
        lane->doors[i].tls = settings->server_tls[i];
    ch_proxy_loop_configure(lane->proxy, &settings->config, settings->upstream_tls);
    pthread_mutex_lock(&d->settings_lock);
    if (--d->lanes_left == 0)
        pthread_cond_signal(&d->lanes_done);
    pthread_mutex_unlock(&d->settings_lock);
}

// A process that has given up executing programs cannot take up a hook.
static enum ch_err check_hook(const struct daemon *d, const struct ch_config *config,
                              struct ch_why *why)
{
    if (d->confinement != CH_CONFINEMENT_FULL || !config->capture.hook_program[0])
        return CH_OK;
    return ch_why_set(why, CH_ERR_CONFLICT,
                      "%s: capture.hook.program: the daemon started without one and has given up "
                      "executing programs; it needs a restart; nothing was changed",
                      d->config_path);
}

// Takes `settings`. They hold on every loop on return; the old ones are used by nobody then.
// Sessions and connections that were made by them go on.
static void put_in_force(struct daemon *d, struct settings *settings)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline); // a step of the wall clock must not end the wait
    deadline.tv_sec += RELOAD_WAIT_S;
    d->new_settings = settings;
    pthread_mutex_lock(&d->settings_lock);
    d->lanes_left = d->lane_count;
    pthread_mutex_unlock(&d->settings_lock);
    for (unsigned i = 0; i < d->lane_count; i++)
        CH_ASSERT(ch_loop_post(d->lanes[i].loop, configure_lane, &d->lanes[i]) == CH_OK);
    pthread_mutex_lock(&d->settings_lock);
    while (d->lanes_left)
        CH_ASSERT(pthread_cond_timedwait(&d->lanes_done, &d->settings_lock, &deadline) == 0);
    struct settings *old = d->settings;
    d->settings = settings;
    pthread_mutex_unlock(&d->settings_lock);
    ch_log_set_level(settings->config.log_level);
    ch_capturer_set_plan(d->capturer, settings->capture);
    settings->capture = NULL;
    free_settings(old);
}

// The file, whole and valid, with nothing changed that has to stay.
static enum ch_err load_settings(struct daemon *d, struct settings **settings_out,
                                 struct ch_why *why)
{
    struct ch_config *config = ch_zcalloc(1, sizeof *config);
    if (!config)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    enum ch_err err = d->config_is_found ? ch_config_file_load_found(d->config_path, config, why)
                                         : ch_config_file_load(d->config_path, config, why);
    const char *change = err ? NULL : ch_config_fixed_change(d->config, config);
    if (change)
        err = ch_why_set(why, CH_ERR_CONFLICT,
                         "%s: a change of %s needs a restart; nothing was changed", d->config_path,
                         change);
    if (!err)
        err = check_hook(d, config, why);
    if (!err)
        err = make_settings(config, settings_out, why);
    ch_zfree(config);
    return err;
}

// From the admin thread and, for SIGHUP, from the main thread.
static enum ch_err reload(void *arg, struct ch_why *why)
{
    struct daemon *d = arg;
    struct settings *settings;
    pthread_mutex_lock(&d->reload_lock);
    enum ch_err err = load_settings(d, &settings, why);
    if (!err)
        put_in_force(d, settings);
    pthread_mutex_unlock(&d->reload_lock);
    if (err)
        CH_LOG(CH_LOG_ERROR, "reload_refused", ch_log_text("err", why->text));
    else
        CH_LOG(CH_LOG_INFO, "reloaded", ch_log_text("config", d->config_path));
    return err;
}

static void copy_config(void *arg, struct ch_config *config_out)
{
    struct daemon *d = arg;
    pthread_mutex_lock(&d->settings_lock);
    *config_out = d->settings->config;
    pthread_mutex_unlock(&d->settings_lock);
}

// ---- the admin socket

static json_t *capture_status(const struct daemon *d)
{
    struct ch_capturer_counts counts;
    ch_capturer_counts(d->capturer, &counts);
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "stored", (json_int_t)counts.stored, "left_out",
                     (json_int_t)counts.left_out, "dropped", (json_int_t)counts.dropped, "waiting",
                     (json_int_t)counts.waiting, "tripped", (json_int_t)counts.tripped);
}

static json_t *status(void *arg)
{
    struct daemon *d = arg;
    struct ch_proxy_counters sum = {0}, one;
    for (unsigned i = 0; i < d->lane_count; i++) {
        ch_proxy_loop_counters(d->lanes[i].proxy, &one);
        sum.connections += one.connections;
        sum.exchanges += one.exchanges;
        sum.denied += one.denied;
        sum.refused += one.refused;
    }
    return json_pack(
        "{s:s, s:s, s:i, s:I, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:o}",
        "schema", "chaperone.status/1", "version", CH_VERSION, "pid", (int)getpid(), "uptime_s",
        (json_int_t)((ch_clock_mono_ns() - d->started_ns) / 1000000000), "loops",
        (int)d->lane_count, "connections", (json_int_t)sum.connections, "in_flight",
        (json_int_t)ch_usage_journal_inflight(d->journal), "exchanges", (json_int_t)sum.exchanges,
        "denied", (json_int_t)sum.denied, "refused", (json_int_t)sum.refused, "keys",
        (json_int_t)ch_registry_key_count(d->registry), "journal_backlog_bytes",
        (json_int_t)ch_usage_journal_backlog(d->journal), "objects_forgotten",
        (json_int_t)ch_registry_objects_forgotten(d->registry), "catalogue",
        ch_catalogue_version(ch_registry_catalogue(d->registry)), "database", d->config->database,
        "confinement", ch_confinement_name(d->confinement), "capture", capture_status(d));
}

// For a connection of the admin listener.
static enum ch_err open_admin_session(void *arg, struct ssl_st **session_out)
{
    struct daemon *d = arg;
    *session_out = NULL;
    pthread_mutex_lock(&d->settings_lock);
    struct ch_tls *tls = d->settings->admin_tls;
    enum ch_err err = tls ? ch_tls_session_new(tls, NULL, session_out) : CH_OK;
    pthread_mutex_unlock(&d->settings_lock);
    return err;
}

// A kernel or a container that refuses is no reason not to serve.
static void confine(struct daemon *d)
{
    struct ch_why why = {""};
    bool has_hook = d->config->capture.hook_program[0] != '\0';
    if (ch_confine(has_hook, &why) != CH_OK) {
        CH_LOG(CH_LOG_WARN, "not_confined", ch_log_text("err", why.text));
        return;
    }
    d->confinement = has_hook ? CH_CONFINEMENT_PROGRAMS : CH_CONFINEMENT_FULL;
    CH_LOG(CH_LOG_INFO, "confined",
           ch_log_text("confinement", ch_confinement_name(d->confinement)));
}

static enum ch_err start_admin(struct daemon *d, struct ch_why *why)
{
    confine(d); // all else is open, and who asks through the socket finds it in force
    d->admin = (struct ch_admin){.store = d->store,
                                 .registry = d->registry,
                                 .alerts = d->alerts,
                                 .config = copy_config,
                                 .config_arg = d,
                                 .reload = reload,
                                 .status = status,
                                 .status_arg = d,
                                 .listen = d->config->admin_listen,
                                 .session = open_admin_session,
                                 .session_arg = d,
                                 .passed_socket = d->passed.admin_socket,
                                 .passed_listen = d->passed.admin_listen};
    enum ch_err err =
        ch_admin_server_start(&d->admin, d->config->admin_socket, &d->admin_server, why);
    ch_proxy_set_ready(d->proxy, !err);
    return err;
}

static void stop_admin(struct daemon *d)
{
    ch_proxy_set_ready(d->proxy, false);
    ch_admin_server_stop(d->admin_server);
}

// ---- start and stop in order

static const struct stage {
    const char *name;
    enum ch_err (*start)(struct daemon *d, struct ch_why *why);
    void (*stop)(struct daemon *d); // also after a start that failed half-way
} stages[] = {
    {"store", start_store, stop_store},          {"journal", start_journal, stop_journal},
    {"registry", start_registry, stop_registry}, {"alerts", start_alerts, stop_alerts},
    {"writer", start_writer, stop_writer},       {"network", start_network, stop_network},
    {"captures", start_captures, stop_captures}, {"loops", start_loops, stop_loops},
    {"admin", start_admin, stop_admin},
};
#define STAGES (sizeof stages / sizeof *stages)

static unsigned loop_count(const struct ch_config *config)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned count = config->threads ? config->threads : cores > 0 ? (unsigned)cores : 1;
    return count < LOOPS_MAX ? count : LOOPS_MAX;
}

// Every connection needs a descriptor: take what the system gives.
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            CH_LOG(CH_LOG_WARN, "descriptor_limit_kept",
                   ch_log_int("limit", (int64_t)limit.rlim_cur));
    }
}

// sd_notify(3) by hand: one datagram to the socket that systemd names.
static void notify_systemd(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || !ch_span_copy(ch_span_of(path), address.sun_path, sizeof address.sun_path))
        return;
    size_t size = offsetof(struct sockaddr_un, sun_path) + strlen(path);
    if (address.sun_path[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
               (socklen_t)size) < 0)
        CH_LOG(CH_LOG_WARN, "notify_failed", ch_log_text("socket", path));
    close(fd);
}

static void log_ready(const struct daemon *d)
{
    for (unsigned i = 0; i < d->config->listener_count; i++)
        CH_LOG(CH_LOG_INFO, "listening", ch_log_text("address", d->config->listeners[i].address),
               ch_log_text("tls", d->config->listeners[i].tls_certificate[0] ? "1.3" : "none"),
               ch_log_text("socket", d->passed.data[i] ? "passed" : "own"));
    if (d->config->admin_listen[0])
        CH_LOG(CH_LOG_INFO, "admin_listening", ch_log_text("address", d->config->admin_listen),
               ch_log_text("tls", d->config->admin_tls_certificate[0] ? "1.3" : "none"));
    CH_LOG(CH_LOG_INFO, "ready", ch_log_text("version", CH_VERSION),
           ch_log_int("loops", d->lane_count),
           ch_log_int("keys", (int64_t)ch_registry_key_count(d->registry)),
           ch_log_text("catalogue", d->catalogue_at_start));
}

// As systemd wants it of a Type=notify-reload service, and other types do not mind.
static void reload_on_signal(struct daemon *d)
{
    struct ch_why why = {""};
    char state[STATE_TEXT];
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
             ch_clock_mono_ns() / CH_NS_PER_US);
    notify_systemd(state);
    enum ch_err err = record(d, "reload", &why);
    if (!err)
        err = reload(d, &why);
    else
        CH_LOG(CH_LOG_ERROR, "reload_refused", ch_log_text("err", why.text));
    notify_systemd(err ? "READY=1\nSTATUS=The last reload was refused." : "READY=1\nSTATUS=");
}

// ---- the watchdog

static void answer_watchdog(void *arg)
{
    struct lane *lane = arg;
    atomic_store_explicit(&lane->asked_ns, 0, memory_order_release);
}

// Asks the loops that have answered, and says for how long the slowest of the others has not.
static int64_t ask_lanes(struct daemon *d)
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

static void feed_watchdog(struct daemon *d)
{
    enum ch_health health = ch_watchdog_judge(&d->watchdog, ask_lanes(d),
                                              ch_usage_writer_turns(d->store), ch_clock_mono_ns());
    if (health == CH_HEALTH_GOOD)
        notify_systemd("WATCHDOG=1");
    if (health != d->health)
        CH_LOG(health == CH_HEALTH_GOOD ? CH_LOG_INFO : CH_LOG_ERROR, "watchdog",
               ch_log_text("health", ch_health_name(health)));
    d->health = health;
}

// Until SIGTERM or SIGINT.
static void wait_for_signal(struct daemon *d, const sigset_t *signals)
{
    int64_t period_ms =
        ch_watchdog_period_ms(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"), getpid());
    const struct timespec period = {period_ms / 1000, period_ms % 1000 * 1000000};
    int number = 0;
    ch_watchdog_init(&d->watchdog, ch_usage_writer_turns(d->store), ch_clock_mono_ns());
    while (number != SIGTERM && number != SIGINT) {
        number = period_ms ? sigtimedwait(signals, NULL, &period) : sigwaitinfo(signals, NULL);
        if (number == SIGHUP)
            reload_on_signal(d);
        if (period_ms)
            feed_watchdog(d);
    }
    CH_LOG(CH_LOG_INFO, "stopping", ch_log_text("signal", number == SIGTERM ? "TERM" : "INT"));
}

enum ch_err ch_daemon_run(const struct ch_config *config, const char *config_path, bool is_found,
                          struct ch_why *why)
{
    static struct daemon d; // one a process, and large
    sigset_t signals;
    size_t started = 0;
    enum ch_err err = CH_OK;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); // before any thread, so that they all inherit it
    ch_log_set_level(config->log_level);
    CH_LOG(CH_LOG_INFO, "starting", ch_log_text("config", config_path));
    raise_descriptor_limit();
    d = (struct daemon){.config = config,
                        .config_path = config_path,
                        .config_is_found = is_found,
                        .reload_lock = PTHREAD_MUTEX_INITIALIZER,
                        .settings_lock = PTHREAD_MUTEX_INITIALIZER,
                        .started_ns = ch_clock_mono_ns(),
                        .lane_count = loop_count(config)};
    ch_clock_condition_init(&d.lanes_done);
    err = ch_passed_take(config, &d.passed, why);
    while (started < STAGES && !err)
        err = stages[started++].start(&d, why);
    if (!err) {
        log_ready(&d);
        notify_systemd("READY=1");
        wait_for_signal(&d, &signals);
        notify_systemd("STOPPING=1");
    }
    while (started > 0)
        stages[--started].stop(&d);
    CH_LOG(CH_LOG_INFO, "stopped", ch_log_text("reason", err ? "start failed" : "signal"));
    return err;
}

// ---- check

static enum ch_err report(struct ch_buf *out, const char *what, const char *detail)
{
    return ch_buf_append_format(out, "ok    %-10s %s\n", what, detail);
}

static enum ch_err check_tls(const struct ch_config *config, struct ch_buf *out, struct ch_why *why)
{
    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct ch_config_listener *listener = &config->listeners[i];
        struct ch_tls *tls;
        if (!listener->tls_certificate[0])
            continue;
        enum ch_err err = open_listener_tls(listener, &tls, why);
        if (!err)
            ch_tls_free(tls);
        if (!err)
            err = report(out, "tls", listener->tls_certificate);
        if (err)
            return err;
    }
    return CH_OK;
}

static enum ch_err check_admin_tls(const struct ch_config *config, struct ch_buf *out,
                                   struct ch_why *why)
{
    struct ch_tls *tls;
    enum ch_err err = open_admin_tls(config, &tls, why);
    if (err || !tls)
        return err;
    ch_tls_free(tls);
    return report(out, "admin tls", config->admin_tls_certificate);
}

static enum ch_err check_store(const struct ch_config *config, struct ch_why *why)
{
    struct ch_secret *master_key;
    enum ch_err err = ch_config_master_key(config, &master_key, why);
    if (err)
        return err;
    err = ch_store_check(config->database, master_key, why);
    ch_secret_free(master_key);
    return err;
}

// Its patterns, its rules and its program.
static enum ch_err check_captures(const struct ch_config *config, struct ch_why *why)
{
    struct ch_capture_plan *plan = NULL;
    enum ch_err err = ch_capture_plan_new(config, &plan, why);
    ch_capture_plan_unref(plan);
    return err;
}

enum ch_err ch_daemon_check(const struct ch_config *config, struct ch_buf *report_out,
                            struct ch_why *why)
{
    struct ch_catalogue *catalogue = NULL;
    enum ch_err err = check_captures(config, why);
    if (!err)
        err = report(report_out, "config", "valid");
    if (!err)
        err = check_tls(config, report_out, why);
    if (!err)
        err = check_admin_tls(config, report_out, why);
    if (!err)
        err = check_store(config, why);
    if (!err)
        err = report(report_out, "store", config->database);
    if (!err)
        err = report(report_out, "master key", "opens the vault");
    if (!err)
        err = ch_prices_load(config, NULL, &catalogue, why);
    if (!err)
        err = report(report_out, "catalogue", ch_catalogue_version(catalogue));
    ch_catalogue_free(catalogue);
    return err;
}
