// SPDX-License-Identifier: Apache-2.0
#include "dial.h"

#include "loop_private.h"

#include "base/clock.h"
#include "base/secret.h"

#include <errno.h>
#include <event2/event.h>
#include <sys/socket.h>
#include <unistd.h>

#define STAGGER_NS (INT64_C(250) * CH_NS_PER_MS) // RFC 8305 §5, "Connection Attempt Delay"
#define TICK_MS    50                            // how exactly stagger and deadline are kept

struct attempt {
    struct ch_dial *dial;
    struct event *event;
    int fd; // -1: not under way
    unsigned at;
};

struct ch_dial {
    struct ch_loop *loop;
    const struct ch_addresses *addresses;
    const struct ch_dial_handler *handler;
    void *arg;
    int64_t deadline_ns;
    int64_t next_ns; // when the next address has its turn
    unsigned next;
    unsigned running;
    struct attempt attempts[CH_ADDRESSES_MAX];
    struct ch_timer timer;
    struct ch_deferred freeing;
};

static void on_attempt_writable(evutil_socket_t fd, short what, void *arg);

static void free_dial(void *arg)
{
    ch_zfree(arg);
}

// Forgets an attempt; its descriptor is the caller's.
static int take_attempt(struct attempt *attempt)
{
    int fd = attempt->fd;
    event_free(attempt->event);
    attempt->event = NULL;
    attempt->fd = -1;
    attempt->dial->running--;
    return fd;
}

void ch_dial_stop(struct ch_dial *dial)
{
    for (unsigned i = 0; i < CH_ADDRESSES_MAX; i++)
        if (dial->attempts[i].fd >= 0)
            close(take_attempt(&dial->attempts[i]));
    ch_timer_stop(&dial->timer);
    ch_loop_defer(dial->loop, &dial->freeing, free_dial, dial); // a callback may stand on it
}

static void finish(struct ch_dial *dial, int fd, unsigned at, enum ch_peer_end end)
{
    const struct ch_dial_handler *handler = dial->handler;
    void *arg = dial->arg;
    ch_dial_stop(dial);
    handler->on_dialled(arg, fd, at, end);
}

static enum ch_err watch(struct attempt *attempt, int fd)
{
    attempt->event =
        event_new(attempt->dial->loop->base, fd, EV_WRITE, on_attempt_writable, attempt);
    if (!attempt->event)
        return CH_ERR_NOMEM;
    if (event_add(attempt->event, NULL)) {
        event_free(attempt->event);
        attempt->event = NULL;
        return CH_ERR_NOMEM;
    }
    return CH_OK;
}

// The one place that connects to a provider.
static enum ch_err open_socket(const struct sockaddr_in6 *address, int *fd_out)
{
    socklen_t size =
        address->sin6_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    int fd = socket(address->sin6_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return CH_ERR_IO;
    if (connect(fd, (const struct sockaddr *)address, size) != 0 && errno != EINPROGRESS) {
        close(fd);
        return CH_ERR_IO;
    }
    *fd_out = fd;
    return CH_OK;
}

static enum ch_err start_attempt(struct ch_dial *dial, unsigned at)
{
    struct attempt *attempt = &dial->attempts[at];
    const struct sockaddr_in6 *address = &dial->addresses->address[at];
    int fd;
    if (!dial->handler->may_connect(dial->arg, address))
        return CH_ERR_DENIED;
    enum ch_err err = open_socket(address, &fd);
    if (err)
        return err;
    err = watch(attempt, fd);
    if (err) {
        close(fd);
        return err;
    }
    attempt->fd = fd;
    dial->running++;
    return CH_OK;
}

// Gives addresses their turn until one takes the attempt.
static void start_next(struct ch_dial *dial)
{
    enum ch_err err = CH_ERR_UNAVAILABLE;
    while (err && dial->next < dial->addresses->count)
        err = start_attempt(dial, dial->next++);
    dial->next_ns = ch_loop_now_ns(dial->loop) + STAGGER_NS;
}

static void on_attempt_writable(evutil_socket_t fd, short what, void *arg)
{
    struct attempt *attempt = arg;
    struct ch_dial *dial = attempt->dial;
    int error = 0;
    socklen_t size = sizeof error;
    (void)what;
    bool failed = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0;
    take_attempt(attempt);
    if (!failed) {
        finish(dial, fd, attempt->at, CH_PEER_EOF);
        return;
    }
    close(fd);
    start_next(dial);
    if (dial->running == 0)
        finish(dial, -1, 0, CH_PEER_REFUSED);
}

static void on_dial_tick(void *arg)
{
    struct ch_dial *dial = arg;
    int64_t now_ns = ch_loop_now_ns(dial->loop);
    if (now_ns >= dial->deadline_ns)
        finish(dial, -1, 0, CH_PEER_TIMEOUT);
    else if (now_ns >= dial->next_ns && dial->next < dial->addresses->count)
        start_next(dial);
}

enum ch_err ch_dial_start(struct ch_loop *loop, const struct ch_addresses *addresses,
                          int64_t deadline_ns, const struct ch_dial_handler *handler, void *arg,
                          struct ch_dial **dial_out)
{
    struct ch_dial *dial = ch_zcalloc(1, sizeof *dial);
    if (!dial)
        return CH_ERR_NOMEM;
    *dial = (struct ch_dial){.loop = loop,
                             .addresses = addresses,
                             .handler = handler,
                             .arg = arg,
                             .deadline_ns = deadline_ns};
    for (unsigned i = 0; i < CH_ADDRESSES_MAX; i++)
        dial->attempts[i] = (struct attempt){.dial = dial, .fd = -1, .at = i};
    start_next(dial);
    if (dial->running && ch_timer_start(loop, &dial->timer, TICK_MS, on_dial_tick, dial) == CH_OK) {
        *dial_out = dial;
        return CH_OK;
    }
    ch_dial_stop(dial);
    return CH_ERR_UNAVAILABLE;
}
