// SPDX-License-Identifier: Apache-2.0
// Connections to providers: one pool per loop, keep-alive, keyed by target, last used first.
//
// A connection goes back only when its exchange says it is clean (response parsed to its end,
// nothing left over); everything else is closed, so one tenant can never see another's bytes.
// A connection is made only to an address that may be connected to (net/address_guard), and is
// ready only when the server's certificate, and its pin if there is one, fit. Belongs to its loop's
// thread.
#ifndef CH_NET_UPSTREAM_POOL_H
#define CH_NET_UPSTREAM_POOL_H

#include "domain/config.h"
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
    char name[CH_CONFIG_PROVIDER_MAX + 1]; // the provider's, for its pins and for the log
    char host[254];                        // name or literal address, without brackets
    uint16_t port;
    bool tls;
};

// What the pool makes its connections by. Everything is borrowed until it is replaced.
struct ch_upstream_settings {
    struct ch_tls *tls;
    unsigned idle_max; // idle connections kept a target
    int64_t connect_ms;
    const struct ch_cidr_list *allowed; // addresses that are not public; NULL or empty: none
    const struct ch_config_pins *pins;
    unsigned pinned_count;
};

struct ch_upstream_settings ch_upstream_settings_of(const struct ch_config *config,
                                                    struct ch_tls *tls);

// Why a connection was not made although there was somebody to talk to.
enum ch_upstream_fault {
    CH_UPSTREAM_NO_FAULT,
    CH_UPSTREAM_ADDRESS_REFUSED, // no address of the host may be connected to
    CH_UPSTREAM_PIN_MISMATCH,    // the server's keys are not among the provider's pins
};

struct ch_upstream_pool;
struct ch_dial;

struct ch_upstream {
    struct ch_peer peer;
    int64_t target_id, target_group;
    bool is_ready;                       // connected and verified: it may be written
    enum ch_upstream_fault fault;        // says more than the end that on_end told
    enum ch_address_class refused_class; // of CH_UPSTREAM_ADDRESS_REFUSED
    // private
    struct ch_upstream_pool *pool;
    struct ch_upstream *next;
    struct ch_deferred freeing;
    const struct ch_upstream_target *target; // while it is being connected
    struct ch_dial *dial;
    struct ch_addresses addresses; // that have not been tried
    unsigned settings_version;     // that it was connected by
    char host[254];
    bool tls;
    bool is_resolving, is_refusing, is_abandoned, is_idle;
    bool has_tried; // an address may be connected to, whatever came of it
    bool was_reused;
    const struct ch_peer_handler *user;
    void *user_arg;
    int64_t connect_deadline_ns, idle_since_ns;
};

enum ch_err ch_upstream_pool_new(struct ch_loop *loop, struct ch_resolver *resolver,
                                 const struct ch_upstream_settings *settings,
                                 struct ch_upstream_pool **pool_out) CH_MUST_USE;
// From now on; connections made by older settings end with the exchange they are used by.
void ch_upstream_pool_set(struct ch_upstream_pool *pool,
                          const struct ch_upstream_settings *settings);
void ch_upstream_pool_free(struct ch_upstream_pool *pool); // the loop has stopped

// Gives a connection to `target`: an idle one (is_ready at once), or a new one whose on_ready or
// on_end (CH_PEER_REFUSED: resolution or every address failed; CH_PEER_TLS; CH_PEER_TIMEOUT; see
// also `fault`) follows from the loop. The addresses of a host are raced (RFC 8305): one that is
// silent does not hide the next.
enum ch_err ch_upstream_acquire(struct ch_upstream_pool *pool,
                                const struct ch_upstream_target *target,
                                const struct ch_peer_handler *handler, void *arg,
                                struct ch_upstream **upstream_out) CH_MUST_USE;
// Gives it back; the caller forgets it. No callback follows.
void ch_upstream_release(struct ch_upstream *upstream, bool is_clean);
int64_t ch_upstream_pool_idle(const struct ch_upstream_pool *pool);

#endif
