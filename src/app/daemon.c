// SPDX-License-Identifier: Apache-2.0
#include "app/daemon.h"

#include "daemon_private.h"

#include "app/capture.h"
#include "app/config_file.h"
#include "app/prices.h"
#include "app/version.h"

#include "base/clock.h"
#include "base/secret.h"
#include "store/usage_writer.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define RESOLVER_THREADS 2
#define LOCK_WAIT_MS     5000
#define LOCK_POLL_MS     50
#define STATE_TEXT       64 // bytes of what systemd is told

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

// ---- the network

static enum ch_err start_network(struct daemon *d, struct ch_why *why)
{
    if (ch_resolver_start(RESOLVER_THREADS, &d->resolver) != CH_OK)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "the resolver threads could not be started");
    return settings_make(d->config, &d->settings, why);
}

static void stop_network(struct daemon *d)
{
    ch_resolver_stop(d->resolver);
    settings_free(d->settings);
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
                                 .config = settings_copy_config,
                                 .config_arg = d,
                                 .reload = settings_reload,
                                 .status = status,
                                 .status_arg = d,
                                 .listen = d->config->admin_listen,
                                 .session = settings_open_admin_session,
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
    {"captures", start_captures, stop_captures}, {"loops", lanes_start, lanes_stop},
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
        err = settings_reload(d, &why);
    else
        CH_LOG(CH_LOG_ERROR, "reload_refused", ch_log_text("err", why.text));
    notify_systemd(err ? "READY=1\nSTATUS=The last reload was refused." : "READY=1\nSTATUS=");
}

// ---- the watchdog

static void feed_watchdog(struct daemon *d)
{
    enum ch_health health = ch_watchdog_judge(&d->watchdog, lanes_ask(d),
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
