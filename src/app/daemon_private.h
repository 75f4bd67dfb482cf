// SPDX-License-Identifier: Apache-2.0
// The daemon's state, shared by the files that run it: daemon.c starts and stops everything in
// order, lanes.c has the loops and their doors, settings.c what a reload replaces. Private to this
// floor.
#ifndef CH_APP_DAEMON_PRIVATE_H
#define CH_APP_DAEMON_PRIVATE_H

#include "app/confine.h"
#include "app/passed.h"
#include "app/watchdog.h"

#include "admin/admin.h"
#include "net/listener.h"
#include "proxy/proxy.h"

#include <pthread.h>
#include <stdatomic.h>

#define LOOPS_MAX 64

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

// NULL for a listener without TLS.
enum ch_err settings_open_listener_tls(const struct ch_config_listener *listener,
                                       struct ch_tls **tls_out, struct ch_why *why);
enum ch_err settings_open_admin_tls(const struct ch_config *config, struct ch_tls **tls_out,
                                    struct ch_why *why);
// Reads what the configuration points to.
enum ch_err settings_make(const struct ch_config *config, struct settings **settings_out,
                          struct ch_why *why);
void settings_free(struct settings *settings);
// The functions of struct ch_admin, with the daemon as argument. From the admin thread and, for
// SIGHUP, settings_reload from the main thread.
enum ch_err settings_reload(void *arg, struct ch_why *why);
void settings_copy_config(void *arg, struct ch_config *config_out);
enum ch_err settings_open_admin_session(void *arg, struct ssl_st **session_out);

// Stages of the start and the stop. lanes_stop lets exchanges finish first.
enum ch_err lanes_start(struct daemon *d, struct ch_why *why);
void lanes_stop(struct daemon *d);
// The watchdog's question: asks the loops that have answered, and says for how long the slowest of
// the others has not, in nanoseconds.
int64_t lanes_ask(struct daemon *d);

#endif
