// SPDX-License-Identifier: Apache-2.0
// Connections to providers: one pool per loop, keep-alive, keyed by target, last used first.
//
// A connection goes back only when its exchange says it is clean (response parsed to its end,
// nothing left over); everything else is closed, so one tenant can never see another's bytes.
// Belongs to its loop's thread.
#ifndef CH_NET_UPSTREAM_POOL_H
#define CH_NET_UPSTREAM_POOL_H

#include "net/peer.h"
#include "net/resolver.h"
#include "net/tls.h"

// Where to connect. Immutable and shared; the owner keeps it alive while connections to it are in
// use.
struct ch_upstream_target {
    int64_t id; // a number of its own for every version of every provider: connections of an older
                // address or key are never used again
    int64_t
        group; // the provider: idle connections of its older versions are closed when they are met
    char host[254]; // name or literal address, without brackets
    uint16_t port;
    bool tls;
};

struct ch_upstream_pool;

struct ch_upstream {
    struct ch_peer peer;
    int64_t target_id, target_group;
    bool is_ready; // connected and verified: it may be written
    // private
    struct ch_upstream_pool *pool;
    struct ch_upstream *next;
    struct ch_deferred freeing;
    struct ch_addresses addresses;
    unsigned address_at;
    char host[254];
    bool tls;
    bool is_resolving, is_refusing, is_abandoned, is_idle;
    bool was_reused;
    const struct ch_peer_handler *user;
    void *user_arg;
    int64_t connect_deadline_ns, idle_since_ns;
};

// `idle_max`: idle connections kept a target.
enum ch_err ch_upstream_pool_new(struct ch_loop *loop, struct ch_resolver *resolver,
                                 struct ch_tls *tls, unsigned idle_max, int64_t connect_ms,
                                 struct ch_upstream_pool **pool_out) CH_MUST_USE;
void ch_upstream_pool_free(struct ch_upstream_pool *pool); // the loop has stopped

// Gives a connection to `target`: an idle one (is_ready at once), or a new one whose on_ready or
// on_end (CH_PEER_REFUSED: resolution or every address failed; CH_PEER_TLS; CH_PEER_TIMEOUT)
// follows from the loop.
enum ch_err ch_upstream_acquire(struct ch_upstream_pool *pool,
                                const struct ch_upstream_target *target,
                                const struct ch_peer_handler *handler, void *arg,
                                struct ch_upstream **upstream_out) CH_MUST_USE;
// Gives it back; the caller forgets it. No callback follows.
void ch_upstream_release(struct ch_upstream *upstream, bool is_clean);
int64_t ch_upstream_pool_idle(const struct ch_upstream_pool *pool);

#endif
