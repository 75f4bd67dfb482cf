// SPDX-License-Identifier: Apache-2.0
// A peer: one connected socket, plain or TLS, client or upstream.
//
// Reads and writes the socket itself: a write goes to the kernel at once and the write event is
// armed only when the kernel says "would block"; libevent serves readiness. An idle peer holds no
// buffer. Belongs to its loop's thread. The owner embeds it, and frees it only through
// ch_loop_defer after ch_peer_close.
#ifndef CH_NET_PEER_H
#define CH_NET_PEER_H

#include "base/str.h"
#include "net/loop.h"

#include <sys/uio.h>

#define CH_PEER_READ_MAX   (64 * 1024)  // bytes of one read, and of input kept unconsumed
#define CH_PEER_WRITE_HIGH (256 * 1024) // output waiting: above it the source must be paused
#define CH_PEER_WRITE_LOW  (64 * 1024)  // below it again: on_writable

enum ch_peer_end {
    CH_PEER_EOF,     // the other side will send no more; writing may still work
    CH_PEER_RESET,   // the connection is gone
    CH_PEER_TIMEOUT, // the deadline passed
    CH_PEER_STALLED, // output made no progress for the write-stall limit
    CH_PEER_TLS,     // the TLS layer refused: handshake, certificate or name
    CH_PEER_REFUSED, // connecting failed
    CH_PEER_CLOSED,  // what ch_peer_close_after_write asked for is over
};
const char *ch_peer_end_name(enum ch_peer_end end);

struct ch_peer_handler {
    // Connected and, with TLS, verified. Only for peers that were connecting or handshaking.
    void (*on_ready)(void *arg);
    // Bytes arrived: `bytes` is everything not yet consumed, contiguous. Returns how many it
    // consumed; the rest is given again with what follows. Keeping more than CH_PEER_READ_MAX stops
    // the reading until ch_peer_resume. May close the peer (then the return value is ignored).
    size_t (*on_bytes)(void *arg, struct ch_span bytes);
    // Output fell below CH_PEER_WRITE_LOW after it had been above CH_PEER_WRITE_HIGH, or ran empty
    // after having been blocked.
    void (*on_writable)(void *arg);
    // Nothing more will come. After CH_PEER_EOF the peer can still be written; after
    // CH_PEER_TIMEOUT it is paused, and goes on with ch_peer_resume and a new deadline; after the
    // others it is dead. The handler closes the peer (after CH_PEER_CLOSED it is closed already).
    void (*on_end)(void *arg, enum ch_peer_end end);
};

struct ssl_st;
struct event;

struct ch_peer {
    struct ch_loop *loop;
    const struct ch_peer_handler *handler;
    void *arg;
    // private
    int fd; // -1: closed
    struct ssl_st *tls;
    struct event *read_event, *write_event;
    struct ch_buf in, out; // empty, and then without memory, most of the time
    struct ch_span into;   // where the next bytes are to land; len 0: the loop's scratch
    size_t out_at;         // bytes of `out` written already
    size_t drained;        // bytes thrown away while lingering
    int64_t deadline_ns;
    int64_t progress_ns;                     // when output last moved
    struct ch_peer *sweep_prev, *sweep_next; // the loop's list for deadlines
    struct ch_deferred end_note;             // reports an end found outside a callback
    enum ch_peer_end end;
    uint8_t phase;
    bool is_paused, is_full, is_blocked, is_replaying, saw_eof, wants_close, end_is_noted;
    bool yields, is_behind, is_posted, is_broken;
};

// Takes `fd` (non-blocking, connected or connecting) and `tls` (NULL: plain; already set to accept
// or connect state) on success. `is_connecting`: on_ready follows when the socket connects. A TLS
// peer always reports on_ready.
enum ch_err ch_peer_open(struct ch_peer *peer, struct ch_loop *loop, int fd, struct ssl_st *tls,
                         bool is_connecting, const struct ch_peer_handler *handler,
                         void *arg) CH_MUST_USE;
// Closes at once, pending output unsent. Safe inside callbacks and twice. No callback follows.
void ch_peer_close(struct ch_peer *peer);
// Closes with a reset: the other side cannot take what it got for something complete.
void ch_peer_reset(struct ch_peer *peer);
// Closes after the output waiting was written (bounded by the write-stall limit) and the other side
// has had a moment to read it (RFC 9112 §9.6); input is thrown away meanwhile. The one callback
// that follows is on_end(CH_PEER_CLOSED), from the loop, never from inside the call.
void ch_peer_close_after_write(struct ch_peer *peer);
static inline bool ch_peer_is_open(const struct ch_peer *peer)
{
    return peer->fd >= 0 && !peer->wants_close;
}

// Writes as much as the kernel takes and keeps a copy of the rest; a short write waits for the end
// of the turn. CH_ERR_IO: the peer is dead, on_end follows in this turn, as it does when a write
// that waited fails. Never calls a handler from inside. The caller watches ch_peer_is_blocked.
enum ch_err ch_peer_write(struct ch_peer *peer, const struct iovec *parts, int count) CH_MUST_USE;
size_t ch_peer_pending(const struct ch_peer *peer); // output bytes waiting
static inline bool ch_peer_is_blocked(const struct ch_peer *peer)
{
    return peer->is_blocked; // above CH_PEER_WRITE_HIGH
}
// The next `size` bytes are read straight to `into` (large bodies, without a copy through the
// loop's scratch) and then given to on_bytes from there, which consumes them all. Size 0 takes it
// back; closing does too.
void ch_peer_read_into(struct ch_peer *peer, char *into, size_t size);
// Stops and goes on reading. Resume also gives again what was kept, from the loop, never from
// inside the call.
void ch_peer_pause(struct ch_peer *peer);
void ch_peer_resume(struct ch_peer *peer);
// For on_bytes: what it leaves is given again at the next turn of the loop, after the others.
void ch_peer_yield(struct ch_peer *peer);
// Reads of a peer that stands behind wait until no other peer of the loop has anything to do.
void ch_peer_stand_behind(struct ch_peer *peer, bool is_behind);
// Absolute time by which something must have replaced the deadline (0: none); checked every 100 ms.
static inline void ch_peer_set_deadline(struct ch_peer *peer, int64_t deadline_ns)
{
    peer->deadline_ns = deadline_ns;
}

#endif
