// SPDX-License-Identifier: Apache-2.0
// A loop: one thread's libevent base, its clock, its tick and its letterbox.
//
// All functions belong to the loop's own thread, but ch_loop_post and ch_loop_stop, which any
// thread may call.
#ifndef CH_NET_LOOP_H
#define CH_NET_LOOP_H

#include "base/err.h"

#include <stdint.h>

struct ch_loop;

// libevent and OpenSSL allocate through zeroing functions from here on; SIGPIPE is ignored. Once
// per process, before any other call of this floor.
enum ch_err ch_net_process_init(struct ch_why *why) CH_MUST_USE;

enum ch_err ch_loop_new(unsigned index, struct ch_loop **loop_out) CH_MUST_USE;
void ch_loop_free(struct ch_loop *loop);
void ch_loop_run(struct ch_loop *loop); // until ch_loop_stop
void ch_loop_stop(struct ch_loop *loop);
// After the last run: runs what was posted and deferred meanwhile, so that nobody's argument is lost.
void ch_loop_settle(struct ch_loop *loop);

unsigned ch_loop_index(const struct ch_loop *loop);
// The monotonic clock, read once a turn.
int64_t ch_loop_now_ns(struct ch_loop *loop);

// How long output may make no progress before its peer is ended with CH_PEER_TIMEOUT. Default 120
// s.
void ch_loop_set_write_stall_ms(struct ch_loop *loop, int64_t stall_ms);
// Peers open on this loop; any thread may read it.
int64_t ch_loop_peer_count(const struct ch_loop *loop);

// Runs `fn(arg)` on the loop's thread soon; the order of posts is kept.
typedef void (*ch_loop_fn)(void *arg);
enum ch_err ch_loop_post(struct ch_loop *loop, ch_loop_fn fn, void *arg) CH_MUST_USE;

// Runs `fn(arg)` when the current turn's callbacks are over: the place to free what a callback
// still stands on. The node is embedded in the object and must not be queued twice.
struct ch_deferred {
    struct ch_deferred *next;
    ch_loop_fn fn;
    void *arg;
};
void ch_loop_defer(struct ch_loop *loop, struct ch_deferred *deferred, ch_loop_fn fn, void *arg);

// A repeating timer embedded in its owner.
struct ch_timer {
    struct event *event;
    ch_loop_fn fn;
    void *arg;
};
enum ch_err ch_timer_start(struct ch_loop *loop, struct ch_timer *timer, int64_t every_ms,
                           ch_loop_fn fn, void *arg) CH_MUST_USE;
void ch_timer_stop(struct ch_timer *timer); // also before start, and twice

#endif
