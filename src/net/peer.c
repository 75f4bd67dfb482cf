// SPDX-License-Identifier: Apache-2.0
#include "net/peer.h"

#include "loop_private.h"
#include "transport.h"

#include "base/clock.h"
#include "base/secret.h"
#include "net/tls.h"

#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

//   CONNECTING ──> HANDSHAKING ──> OPEN ──> LINGERING
//        └──────── plain ───────────^
enum phase {
    CONNECTING,
    HANDSHAKING,
    OPEN,
    LINGERING, // all is written, our side is shut; input is thrown away for a moment
};

#define IN_MAX       (2 * CH_PEER_READ_MAX)
#define OUT_MAX      (CH_PEER_WRITE_HIGH + 1024 * 1024)
#define LINGER_MS    1000
#define LINGER_BYTES (256 * 1024)
#define PARTS_MAX    16 // iovec parts of one write

const char *ch_peer_end_name(enum ch_peer_end end)
{
    static const char *const names[] = {
        [CH_PEER_EOF] = "eof",         [CH_PEER_RESET] = "reset",     [CH_PEER_TIMEOUT] = "timeout",
        [CH_PEER_STALLED] = "stalled", [CH_PEER_TLS] = "tls_refused", [CH_PEER_REFUSED] = "refused",
        [CH_PEER_CLOSED] = "closed"};
    return names[end];
}

static void on_peer_readable(evutil_socket_t fd, short what, void *arg);
static void on_peer_writable(evutil_socket_t fd, short what, void *arg);

static void sweep_list_add(struct ch_peer *peer)
{
    struct ch_loop *loop = peer->loop;
    peer->sweep_prev = NULL;
    peer->sweep_next = loop->peers;
    if (loop->peers)
        loop->peers->sweep_prev = peer;
    loop->peers = peer;
    atomic_fetch_add_explicit(&loop->peer_count, 1, memory_order_relaxed);
}

static void sweep_list_remove(struct ch_peer *peer)
{
    if (peer->sweep_prev)
        peer->sweep_prev->sweep_next = peer->sweep_next;
    else
        peer->loop->peers = peer->sweep_next;
    if (peer->sweep_next)
        peer->sweep_next->sweep_prev = peer->sweep_prev;
    atomic_fetch_sub_explicit(&peer->loop->peer_count, 1, memory_order_relaxed);
}

static enum ch_err want_write(struct ch_peer *peer)
{
    if (!peer->write_event) {
        peer->write_event =
            event_new(peer->loop->base, peer->fd, EV_WRITE | EV_PERSIST, on_peer_writable, peer);
        if (!peer->write_event)
            return CH_ERR_NOMEM;
    }
    return event_add(peer->write_event, NULL) ? CH_ERR_NOMEM : CH_OK;
}

static void set_socket_options(int fd)
{
    // Interactive traffic, and both sides may be silent for minutes (wire.md §5): no Nagle,
    // keep-alive at 60 s.
    int on = 1, idle_s = 60;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
}

enum ch_err ch_peer_open(struct ch_peer *peer, struct ch_loop *loop, int fd, struct ssl_st *tls,
                         bool is_connecting, const struct ch_peer_handler *handler, void *arg)
{
    *peer = (struct ch_peer){.loop = loop, .handler = handler, .arg = arg, .fd = fd, .tls = tls};
    ch_buf_init(&peer->in, IN_MAX);
    ch_buf_init(&peer->out, OUT_MAX);
    peer->phase = is_connecting ? CONNECTING : tls ? HANDSHAKING : OPEN;
    peer->read_event = event_new(loop->base, fd, EV_READ | EV_PERSIST, on_peer_readable, peer);
    if (!peer->read_event)
        goto fail_peer;
    if (tls && !SSL_set_fd(tls, fd))
        goto fail_read_event;
    if (is_connecting ? want_write(peer) != CH_OK : event_add(peer->read_event, NULL) != 0)
        goto fail_read_event;
    if (tls && !is_connecting)
        event_active(peer->read_event, EV_READ, 0); // a client speaks first: start the handshake
    set_socket_options(fd);
    sweep_list_add(peer);
    return CH_OK;

fail_read_event:
    event_free(peer->read_event);
    if (peer->write_event)
        event_free(peer->write_event);
fail_peer:
    peer->fd = -1;
    return CH_ERR_NOMEM;
}

void ch_peer_close(struct ch_peer *peer)
{
    if (peer->fd < 0)
        return;
    if (peer->is_posted)
        ch_outbox_flush(peer->loop);
    peer->loop->behind_count -= peer->is_behind;
    peer->is_behind = false;
    sweep_list_remove(peer);
    event_free(peer->read_event);
    if (peer->write_event)
        event_free(peer->write_event);
    if (peer->tls) {
        if (peer->phase == OPEN && !peer->end_is_noted)
            SSL_shutdown(peer->tls); // one try: a close_notify, as RFC 8446 §6.1 asks
        SSL_free(peer->tls);
        peer->tls = NULL;
    }
    close(peer->fd);
    peer->fd = -1;
    ch_buf_fini(&peer->in);
    ch_buf_fini(&peer->out);
}

CH_COLD static void end_now(struct ch_peer *peer, enum ch_peer_end end)
{
    if (peer->end_is_noted)
        return;
    if (peer->wants_close) {
        ch_peer_close(peer);
        end = CH_PEER_CLOSED;
    } else if (end == CH_PEER_TIMEOUT) {
        ch_peer_pause(peer);
    } else if (end != CH_PEER_EOF) {
        event_del(peer->read_event);
    }
    peer->handler->on_end(peer->arg, end);
}

void ch_peer_reset(struct ch_peer *peer)
{
    struct linger now = {.l_onoff = 1};
    if (peer->fd >= 0)
        setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    ch_peer_close(peer);
}

static void report_end(void *arg)
{
    struct ch_peer *peer = arg;
    peer->end_is_noted = false;
    if (peer->fd >= 0)
        end_now(peer, peer->end);
}

// Ends found where no callback may run are reported when the turn's callbacks are over.
static void note_end(struct ch_peer *peer, enum ch_peer_end end)
{
    if (peer->end_is_noted)
        return;
    peer->end_is_noted = true;
    peer->end = end;
    ch_loop_defer(peer->loop, &peer->end_note, report_end, peer);
}

// ---- reading

// Gives bytes to the owner; returns how many it left, SIZE_MAX when the peer is gone.
static size_t deliver(struct ch_peer *peer, struct ch_span bytes)
{
    size_t consumed = peer->handler->on_bytes(peer->arg, bytes);
    if (peer->fd < 0)
        return SIZE_MAX;
    CH_ASSERT(consumed <= bytes.len);
    return bytes.len - consumed;
}

static void stop_when_full(struct ch_peer *peer)
{
    if (peer->in.len >= CH_PEER_READ_MAX && !peer->is_full) {
        peer->is_full = true;
        peer->is_replaying = false; // deleting the event takes its activation back
        event_del(peer->read_event);
    }
}

static void deliver_kept(struct ch_peer *peer)
{
    // Taken out for the call: what is being consumed no longer counts as kept, for whoever asks
    // meanwhile.
    struct ch_buf kept = peer->in;
    ch_buf_init(&peer->in, IN_MAX);
    size_t left = deliver(peer, ch_buf_span(&kept));
    if (left == SIZE_MAX || left == 0) {
        ch_buf_fini(&kept);
        return;
    }
    ch_buf_consume(&kept, kept.len - left);
    peer->in = kept;
    stop_when_full(peer);
}

// The usual case: nothing kept, the read lands in the loop's scratch and is consumed whole.
static enum ch_read read_fresh(struct ch_peer *peer)
{
    struct ch_loop *loop = peer->loop;
    size_t got = 0;
    enum ch_read result =
        ch_transport_read(peer->fd, peer->tls, loop->scratch, CH_PEER_READ_MAX, &got);
    if (result != CH_READ_SOME)
        return result;
    if (got > loop->scratch_dirty)
        loop->scratch_dirty = got;
    if (got > CH_OUTBOX_POST_MAX)
        ch_outbox_flush(loop); // what is posted does not wait for much work
    size_t left = deliver(peer, (struct ch_span){loop->scratch, got});
    if (left == SIZE_MAX || left == 0)
        return CH_READ_SOME;
    if (ch_buf_append(&peer->in, loop->scratch + got - left, left))
        return CH_READ_FAILED;
    stop_when_full(peer);
    return CH_READ_SOME;
}

static enum ch_read read_behind_kept(struct ch_peer *peer)
{
    size_t got = 0;
    size_t room =
        IN_MAX - peer->in.len < CH_PEER_READ_MAX ? IN_MAX - peer->in.len : CH_PEER_READ_MAX;
    if (ch_buf_reserve(&peer->in, room))
        return CH_READ_FAILED;
    enum ch_read result =
        ch_transport_read(peer->fd, peer->tls, peer->in.ptr + peer->in.len, room, &got);
    if (result == CH_READ_SOME) {
        peer->in.len += got;
        deliver_kept(peer);
    }
    return result;
}

// Decoded bytes, or a close_notify, that the TLS layer holds: the socket itself will not tell of
// them again.
static bool tls_has_more(const struct ch_peer *peer)
{
    return peer->tls &&
           (SSL_pending(peer->tls) || SSL_get_shutdown(peer->tls) & SSL_RECEIVED_SHUTDOWN);
}

void ch_peer_read_into(struct ch_peer *peer, char *into, size_t size)
{
    peer->into = (struct ch_span){into, size};
}

static enum ch_read read_in_place(struct ch_peer *peer)
{
    size_t got = 0;
    char *at = (char *)(uintptr_t)peer->into.ptr;
    enum ch_read result = ch_transport_read(peer->fd, peer->tls, at, peer->into.len, &got);
    if (result != CH_READ_SOME)
        return result;
    peer->into = ch_span_sub(peer->into, got);
    size_t left = deliver(peer, (struct ch_span){at, got});
    CH_ASSERT(left == 0 || left == SIZE_MAX);
    return CH_READ_SOME;
}

static enum ch_read read_where_wanted(struct ch_peer *peer)
{
    if (peer->in.len)
        return read_behind_kept(peer);
    return peer->into.len ? read_in_place(peer) : read_fresh(peer);
}

static void read_once(struct ch_peer *peer)
{
    enum ch_read result = read_where_wanted(peer);
    if (peer->fd < 0)
        return;
    switch (result) {
    case CH_READ_SOME:
        if (!peer->is_paused && !peer->is_full && tls_has_more(peer)) {
            event_active(peer->read_event, EV_READ, 0);
            event_base_loopbreak(peer->loop->base); // or the turn would last as long as this
        }
        return;
    case CH_READ_NOTHING:
        return;
    case CH_READ_EOF:
        peer->saw_eof = true;
        event_del(peer->read_event);
        end_now(peer, CH_PEER_EOF);
        return;
    case CH_READ_FAILED:
        end_now(peer, CH_PEER_RESET);
        return;
    }
}

// What still comes is thrown away as it is: no session need decode it.
static void drain(struct ch_peer *peer)
{
    size_t got = 0;
    enum ch_read result =
        ch_transport_read(peer->fd, NULL, peer->loop->scratch, CH_PEER_READ_MAX, &got);
    peer->drained += got;
    if (got > peer->loop->scratch_dirty)
        peer->loop->scratch_dirty = got;
    if (result == CH_READ_EOF || result == CH_READ_FAILED || peer->drained > LINGER_BYTES)
        end_now(peer, CH_PEER_CLOSED);
}

// ---- connecting

static void become_ready(struct ch_peer *peer)
{
    peer->phase = OPEN;
    if (peer->write_event)
        event_del(peer->write_event);
    event_add(peer->read_event, NULL);
    peer->handler->on_ready(peer->arg);
    if (peer->fd >= 0 && ch_peer_pending(peer) && want_write(peer))
        note_end(peer, CH_PEER_RESET);
}

static void handshake(struct ch_peer *peer)
{
    ch_outbox_flush(peer->loop); // what is posted does not wait for much work
    ERR_clear_error();
    int done = SSL_do_handshake(peer->tls);
    if (done == 1) {
        become_ready(peer);
        // The other side's first bytes may have come with its last handshake message.
        if (peer->fd >= 0 && !peer->is_paused)
            event_active(peer->read_event, EV_READ, 0);
        return;
    }
    switch (SSL_get_error(peer->tls, done)) {
    case SSL_ERROR_WANT_READ:
        if (peer->write_event)
            event_del(peer->write_event);
        event_add(peer->read_event, NULL);
        return;
    case SSL_ERROR_WANT_WRITE:
        if (want_write(peer))
            end_now(peer, CH_PEER_RESET);
        return;
    default: // OpenSSL's own ints: everything else is a failure
        end_now(peer, CH_PEER_TLS);
        return;
    }
}

static void take_turn(struct ch_peer *peer)
{
    if (peer->end_is_noted)
        return;
    if (peer->phase == LINGERING) {
        drain(peer);
        return;
    }
    if (peer->phase == HANDSHAKING) {
        handshake(peer);
        return;
    }
    if (peer->is_replaying) {
        peer->is_replaying = false;
        if (peer->in.len)
            deliver_kept(peer);
        if (peer->fd < 0 || !peer->tls)
            return; // a plain socket that holds more says so itself
    }
    if (!peer->is_paused && !peer->is_full && !peer->saw_eof && !peer->wants_close)
        read_once(peer);
}

static void on_peer_readable(evutil_socket_t fd, short what, void *arg)
{
    struct ch_peer *peer = arg;
    (void)fd;
    (void)what;
    struct ch_loop *loop = peer->loop;
    bool was_behind = peer->is_behind;
    if (loop->behind_count && !loop->turn_ends) {
        loop->turn_ends = true;
        event_active(loop->turn_event, 0, 0);
    }
    take_turn(peer);
    bool yields = peer->yields && peer->fd >= 0;
    if (yields) {
        peer->yields = false;
        if (!peer->is_paused)
            ch_peer_resume(peer);
    }
    if (yields || was_behind)
        event_base_loopbreak(loop->base); // the turn ends: the others are looked at again
}

void ch_peer_yield(struct ch_peer *peer)
{
    peer->yields = true;
}

void ch_peer_stand_behind(struct ch_peer *peer, bool is_behind)
{
    // Refused while the event waits for its turn already: it goes on as before.
    if (peer->fd >= 0 && peer->is_behind != is_behind &&
        event_priority_set(peer->read_event, is_behind ? CH_LOOP_BEHIND : CH_LOOP_NORMAL) == 0) {
        peer->is_behind = is_behind;
        peer->loop->behind_count += is_behind ? 1 : -1u;
    }
}

void ch_peer_pause(struct ch_peer *peer)
{
    if (peer->fd < 0 || peer->is_paused)
        return;
    peer->is_paused = true;
    peer->is_replaying = false;
    if (!peer->saw_eof)
        event_del(peer->read_event);
}

void ch_peer_resume(struct ch_peer *peer)
{
    if (peer->fd < 0)
        return;
    bool was_stopped = peer->is_paused || peer->is_full;
    peer->is_paused = peer->is_full = false;
    if (was_stopped && !peer->saw_eof)
        event_add(peer->read_event, NULL);
    bool has_pending = was_stopped && !peer->saw_eof && tls_has_more(peer);
    if ((peer->in.len || has_pending) && !peer->is_replaying) {
        peer->is_replaying = true;
        event_active(peer->read_event, EV_READ, 0);
    }
}

// ---- writing

size_t ch_peer_pending(const struct ch_peer *peer)
{
    return peer->out.len - peer->out_at;
}

static size_t parts_size(const struct iovec *parts, int count)
{
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    return size;
}

static enum ch_err keep_rest(struct ch_peer *peer, const struct iovec *parts, int count,
                             size_t skip)
{
    for (int i = 0; i < count; i++) {
        if (skip >= parts[i].iov_len) {
            skip -= parts[i].iov_len;
            continue;
        }
        enum ch_err err = ch_buf_append(&peer->out, (const char *)parts[i].iov_base + skip,
                                        parts[i].iov_len - skip);
        if (err)
            return err;
        skip = 0;
    }
    peer->is_blocked = ch_peer_pending(peer) > CH_PEER_WRITE_HIGH;
    return want_write(peer);
}

// Bytes are missing from here on: none of what follows may go out, and no end look like a good one.
CH_COLD static void break_off(struct ch_peer *peer)
{
    peer->is_broken = true;
    note_end(peer, CH_PEER_RESET);
}

void ch_peer_send(struct ch_peer *peer, const struct iovec *parts, int count)
{
    size_t sent = 0;
    if (peer->is_broken)
        return;
    if (ch_peer_pending(peer) == 0 && peer->phase == OPEN) {
        ssize_t taken = ch_transport_send(peer->fd, peer->tls, parts, count);
        if (taken < 0) {
            break_off(peer);
            return;
        }
        sent = (size_t)taken;
        peer->progress_ns = ch_loop_now_ns(peer->loop);
    }
    if (sent < parts_size(parts, count) && keep_rest(peer, parts, count, sent))
        break_off(peer);
}

enum ch_err ch_peer_write(struct ch_peer *peer, const struct iovec *parts, int count)
{
    CH_ASSERT(count <= PARTS_MAX);
    if (peer->fd < 0 || peer->end_is_noted || peer->wants_close)
        return CH_ERR_IO;
    if (peer->phase == OPEN && ch_peer_pending(peer) == 0 &&
        ch_outbox_take(peer->loop, peer, parts, count, parts_size(parts, count)))
        return CH_OK;
    ch_peer_send(peer, parts, count);
    return peer->end_is_noted ? CH_ERR_IO : CH_OK;
}

static void start_lingering(struct ch_peer *peer)
{
    if (peer->saw_eof) {
        end_now(peer, CH_PEER_CLOSED);
        return;
    }
    if (peer->tls)
        SSL_shutdown(peer->tls);
    shutdown(peer->fd, SHUT_WR);
    peer->phase = LINGERING;
    peer->deadline_ns = ch_loop_now_ns(peer->loop) + LINGER_MS * CH_NS_PER_MS;
    if (peer->write_event)
        event_del(peer->write_event);
    event_add(peer->read_event, NULL);
}

// The kernel takes output again. False: the peer is gone or dying.
static bool flush(struct ch_peer *peer)
{
    struct iovec rest = {peer->out.ptr + peer->out_at, ch_peer_pending(peer)};
    ssize_t sent = ch_transport_send(peer->fd, peer->tls, &rest, 1);
    if (sent < 0) {
        end_now(peer, CH_PEER_RESET);
        return false;
    }
    if (sent > 0)
        peer->progress_ns = ch_loop_now_ns(peer->loop);
    peer->out_at += (size_t)sent;
    if (ch_peer_pending(peer) == 0) {
        ch_buf_fini(&peer->out);
        peer->out_at = 0;
        event_del(peer->write_event);
    } else if (peer->out_at > peer->out.len / 2) {
        ch_buf_consume(&peer->out, peer->out_at);
        peer->out_at = 0;
    }
    return true;
}

static void finish_connecting(struct ch_peer *peer)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(peer->fd, SOL_SOCKET, SO_ERROR, &error, &size) || error) {
        end_now(peer, CH_PEER_REFUSED);
        return;
    }
    event_del(peer->write_event);
    if (peer->tls) {
        peer->phase = HANDSHAKING;
        handshake(peer);
        return;
    }
    become_ready(peer);
}

static void on_peer_writable(evutil_socket_t fd, short what, void *arg)
{
    struct ch_peer *peer = arg;
    (void)fd;
    (void)what;
    if (peer->end_is_noted)
        return;
    if (peer->phase == CONNECTING) {
        finish_connecting(peer);
        return;
    }
    if (peer->phase == HANDSHAKING) {
        handshake(peer);
        return;
    }
    if (!flush(peer))
        return;
    bool is_empty = ch_peer_pending(peer) == 0;
    if (peer->wants_close) {
        if (is_empty)
            start_lingering(peer);
        return;
    }
    if (is_empty || (peer->is_blocked && ch_peer_pending(peer) < CH_PEER_WRITE_LOW)) {
        peer->is_blocked = false;
        peer->handler->on_writable(peer->arg);
    }
}

static void close_when_flushed(void *arg)
{
    struct ch_peer *peer = arg;
    peer->end_is_noted = false;
    if (peer->fd < 0)
        return;
    if (peer->is_broken) {
        ch_peer_reset(peer);
        end_now(peer, CH_PEER_RESET);
    } else if (ch_peer_pending(peer) == 0)
        start_lingering(peer);
}

void ch_peer_close_after_write(struct ch_peer *peer)
{
    if (peer->fd < 0 || peer->wants_close)
        return;
    peer->wants_close = true;
    event_del(peer->read_event);
    if (peer->end_is_noted) // dead already: its report becomes the close
        return;
    if (ch_peer_pending(peer) == 0) {
        peer->end_is_noted = true;
        ch_loop_defer(peer->loop, &peer->end_note, close_when_flushed, peer);
    }
}

// ---- deadlines

static bool is_late(const struct ch_peer *peer, int64_t now_ns)
{
    return peer->deadline_ns && now_ns >= peer->deadline_ns;
}

static bool is_stalled(const struct ch_peer *peer, int64_t now_ns)
{
    return ch_peer_pending(peer) && now_ns - peer->progress_ns > peer->loop->write_stall_ns;
}

void ch_peer_sweep(struct ch_loop *loop)
{
    int64_t now_ns = ch_loop_now_ns(loop);
    for (struct ch_peer *peer = loop->peers; peer; peer = peer->sweep_next) {
        bool stalled = is_stalled(peer, now_ns);
        if (peer->end_is_noted || !(stalled || is_late(peer, now_ns)))
            continue;
        peer->deadline_ns = 0;
        note_end(peer, stalled ? CH_PEER_STALLED : CH_PEER_TIMEOUT);
    }
}
