// SPDX-License-Identifier: Apache-2.0
// What the peers of a loop write in one turn, sent when the turn is over. A write in the midst of a
// turn has the kernel's code and ours drive each other out of the caches, again for each exchange;
// one after the other they cost less (a small exchange under load: 0.92 × the CPU), and what one
// peer wrote in two pieces leaves as one. Private to this floor; the loop's thread only.
#ifndef CH_NET_OUTBOX_H
#define CH_NET_OUTBOX_H

#include "net/peer.h"

// Both bound how long the first write of a turn waits for the last: some 16 exchanges' work.
#define CH_OUTBOX_POSTS 16
#define CH_OUTBOX_BYTES (16 * 1024)
// What is longer is worth a system call at once, and not worth a copy.
#define CH_OUTBOX_POST_MAX 4096

struct ch_post {
    struct ch_peer *peer;
    size_t size; // its bytes follow those of the post before
};

struct ch_outbox {
    int count;
    size_t used;
    struct ch_post posts[CH_OUTBOX_POSTS];
    char bytes[CH_OUTBOX_BYTES]; // wiped when sent: heads of requests carry credentials
};

// Takes `size` bytes from `parts` for a peer that has nothing pending. False: they must go now;
// what the peer had posted before has been sent, so that the order stays.
bool ch_outbox_take(struct ch_loop *loop, struct ch_peer *peer, const struct iovec *parts,
                    int count, size_t size);
// Sends everything. Ends of peers are noted, never reported from inside.
void ch_outbox_flush(struct ch_loop *loop);

#endif
