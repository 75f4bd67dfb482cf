// SPDX-License-Identifier: Apache-2.0
// What the files of this floor share about a loop.
#ifndef CH_NET_LOOP_PRIVATE_H
#define CH_NET_LOOP_PRIVATE_H

#include "outbox.h"

#include "net/loop.h"
#include "net/peer.h"

#include <pthread.h>
#include <stdatomic.h>

struct letter {
    ch_loop_fn fn;
    void *arg;
};

// Priorities of events; libevent gives the middle one where nothing is said.
enum {
    CH_LOOP_FIRST, // nobody's yet
    CH_LOOP_NORMAL,
    CH_LOOP_BEHIND,
    CH_LOOP_RANKS,
};

struct ch_loop {
    struct event_base *base;
    unsigned index;
    _Atomic bool is_stopping;
    int64_t now_ns; // 0: not read in this turn

    struct ch_deferred *deferred_first, **deferred_end;

    pthread_mutex_t letters_lock; // guards letters; never held across a system call
    struct ch_buf letters;        // struct letter[]
    int wake_fd;                  // eventfd
    struct event *wake_event;

    // A pass of libevent goes on while a peer that stands behind waits for the others. Made active
    // by the first of them to be served, this ends the turn when the pass is over.
    struct event *turn_event;
    bool turn_ends;
    unsigned behind_count; // peers that stand behind

    struct event *tick_event; // deadlines, every 100 ms
    struct ch_peer *peers;    // the sweep list
    _Atomic int64_t peer_count;
    int64_t write_stall_ns;

    // One read lands here first, and only what is left unconsumed is copied to its peer.
    char *scratch;        // CH_PEER_READ_MAX bytes
    size_t scratch_dirty; // bytes to wipe at the next tick

    struct ch_outbox outbox;
};

// Ends the peers whose deadline has passed or whose output makes no progress.
void ch_peer_sweep(struct ch_loop *loop);
// Gives the kernel what it takes and keeps the rest. A failure is noted as the peer's end.
void ch_peer_send(struct ch_peer *peer, const struct iovec *parts, int count);

#endif
