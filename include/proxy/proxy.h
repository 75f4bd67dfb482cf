// SPDX-License-Identifier: Apache-2.0
// The data plane: accepts clients on every loop, relays their exchanges, accounts for them.
#ifndef CH_PROXY_PROXY_H
#define CH_PROXY_PROXY_H

#include "domain/config.h"
#include "net/tls.h"
#include "net/upstream_pool.h"
#include "proxy/capture.h"
#include "proxy/registry.h"
#include "store/usage_journal.h"
#include "wire/usage_scan.h"

struct ch_proxy; // shared by the loops, immutable while they run
struct ch_proxy_loop;

// Everything is borrowed for the proxy's life.
struct ch_proxy_options {
    const struct ch_config *config; // of the start; ch_proxy_loop_configure replaces it
    struct ch_registry *registry;
    struct ch_usage_journal *journal;
    const struct ch_store *store; // asked only whether it is healthy
    const struct ch_vault *vault;
    struct ch_capture_queue *captures; // NULL: nothing is captured
    struct ch_resolver *resolver;
    struct ch_tls *upstream_tls;
    int64_t highest_id; // of the usage rows recorded so far
};

enum ch_err ch_proxy_new(const struct ch_proxy_options *options,
                         struct ch_proxy **proxy_out) CH_MUST_USE;
void ch_proxy_free(struct ch_proxy *proxy);

// One loop's share. Before the loop runs, and after it has stopped.
enum ch_err ch_proxy_loop_new(struct ch_proxy *proxy, struct ch_loop *loop,
                              struct ch_proxy_loop **pl_out, struct ch_why *why) CH_MUST_USE;
void ch_proxy_loop_free(struct ch_proxy_loop *pl);

// On the loop's thread: what it does from now on it does by `config` and `upstream_tls`, which are
// borrowed until the next ones. Exchanges in flight go on.
void ch_proxy_loop_configure(struct ch_proxy_loop *pl, const struct ch_config *config,
                             struct ch_tls *upstream_tls);

// On the loop's thread: a client has connected (`tls`: the listener's, NULL for plaintext).
void ch_proxy_accept(struct ch_proxy_loop *pl, int fd, struct ch_tls *tls, const char *address);
// On the loop's thread: exchanges in flight go on; a request that is on its way on a connection that
// is open is served, too, and its answer is the connection's last; connections that stay idle close.
void ch_proxy_drain(struct ch_proxy_loop *pl);
// On the loop's thread: what is still in flight ends with CH_END_SHUTDOWN.
void ch_proxy_abort(struct ch_proxy_loop *pl);

// Whether the admin socket accepts too: until then, and while the daemon stops, /readyz says 503. Any thread.
void ch_proxy_set_ready(struct ch_proxy *proxy, bool is_ready);

// Connections of clients that are still open, with an exchange, with output waiting, or idle. Any thread.
int64_t ch_proxy_client_count(const struct ch_proxy *proxy);

struct ch_proxy_counters {
    int64_t exchanges, denied, connections;
    int64_t refused; // connections, by a limit on their number
};
// Any thread.
void ch_proxy_loop_counters(const struct ch_proxy_loop *pl, struct ch_proxy_counters *counters_out);

#endif
