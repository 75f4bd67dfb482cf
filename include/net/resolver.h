// SPDX-License-Identifier: Apache-2.0
// Host names to addresses: a few threads that run getaddrinfo, and a cache, so that no loop ever
// waits for DNS.
#ifndef CH_NET_RESOLVER_H
#define CH_NET_RESOLVER_H

#include "net/loop.h"

#include <netinet/in.h>
#include <stdbool.h>

#define CH_ADDRESSES_MAX 8

struct ch_addresses {
    unsigned count;
    struct sockaddr_in6
        address[CH_ADDRESSES_MAX]; // large enough for either family; see sin6_family
};

struct ch_resolver;

enum ch_err ch_resolver_start(unsigned threads, struct ch_resolver **resolver_out) CH_MUST_USE;
// The loops have stopped. Look-ups under way are dropped; a thread that hangs in the system's
// resolver is left to itself. No loop is posted to after the return.
void ch_resolver_stop(struct ch_resolver *resolver);

// Any loop thread. Literal addresses and names known already answer at once: CH_OK with
// *addresses_out; what is older than 30 s is refreshed meanwhile. Otherwise CH_ERR_AGAIN, and `fn`
// runs on `loop` later with the outcome (count 0: it failed). A failing name keeps its last good
// addresses.
typedef void (*ch_resolver_fn)(void *arg, const struct ch_addresses *addresses);
enum ch_err ch_resolver_lookup(struct ch_resolver *resolver, struct ch_loop *loop, const char *host,
                               uint16_t port, ch_resolver_fn fn, void *arg,
                               struct ch_addresses *addresses_out) CH_MUST_USE;

#endif
