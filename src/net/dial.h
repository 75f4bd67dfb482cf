// SPDX-License-Identifier: Apache-2.0
// Connecting to one of several addresses: the attempts begin one after the other, a quarter of a
// second apart, and the first to answer wins (RFC 8305 §5), so that an address that swallows
// packets does not hide the next one. Private to the floor; belongs to its loop's thread.
#ifndef CH_NET_DIAL_H
#define CH_NET_DIAL_H

#include "net/peer.h"
#include "net/resolver.h"

struct ch_dial;

struct ch_dial_handler {
    // Asked immediately before an address is connected to.
    bool (*may_connect)(void *arg, const struct sockaddr_in6 *address);
    // The dial is over, and gone. `fd`: connected, and the callee's, by addresses->address[at]; or
    // -1, and then `end` is CH_PEER_REFUSED or CH_PEER_TIMEOUT.
    void (*on_dialled)(void *arg, int fd, unsigned at, enum ch_peer_end end);
};

// Borrows `addresses` until it is over. CH_ERR_UNAVAILABLE: no address could so much as be tried;
// no callback follows.
enum ch_err ch_dial_start(struct ch_loop *loop, const struct ch_addresses *addresses,
                          int64_t deadline_ns, const struct ch_dial_handler *handler, void *arg,
                          struct ch_dial **dial_out) CH_MUST_USE;
// Gives up. No callback follows.
void ch_dial_stop(struct ch_dial *dial);

#endif
