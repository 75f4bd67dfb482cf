// SPDX-License-Identifier: Apache-2.0
#include "net/listener.h"

#include "loop_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG        4096
#define ACCEPTS_A_TURN 64 // then the other events of the loop have their say
#define LOG_EVERY_NS   (INT64_C(10000) * CH_NS_PER_MS)
#define PAUSE_MS       100 // how long accepting rests when descriptors are exhausted

struct ch_listener {
    struct ch_loop *loop;
    int fd;
    int reserve_fd; // given up to turn one client away when no descriptor is left
    struct event *event, *resume_event;
    ch_accept_fn on_accept;
    void *arg;
    int64_t logged_ns; // when the last pause was logged; 0: never
    int port;
    char unix_path[sizeof((struct sockaddr_un *)0)->sun_path];
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
};

static enum ch_err parse_inet(const char *text, union address *address, socklen_t *size)
{
    char host[INET6_ADDRSTRLEN + 1];
    const char *colon = strrchr(text, ':');
    if (!colon)
        return CH_ERR_INVALID;
    struct ch_span name = {text, (size_t)(colon - text)};
    int64_t port;
    if (ch_span_to_int64(ch_span_of(colon + 1), &port) || port > 65535)
        return CH_ERR_INVALID;
    if (name.len >= 2 && name.ptr[0] == '[' && name.ptr[name.len - 1] == ']')
        name = (struct ch_span){name.ptr + 1, name.len - 2};
    if (ch_span_eq(name, CH_SPAN("localhost")))
        name = CH_SPAN("127.0.0.1");
    if (!ch_span_copy(name, host, sizeof host))
        return CH_ERR_INVALID;
    if (inet_pton(AF_INET, host, &address->v4.sin_addr) == 1) {
        address->v4.sin_family = AF_INET;
        address->v4.sin_port = htons((uint16_t)port);
        *size = sizeof address->v4;
        return CH_OK;
    }
    if (inet_pton(AF_INET6, host, &address->v6.sin6_addr) == 1) {
        address->v6.sin6_family = AF_INET6;
        address->v6.sin6_port = htons((uint16_t)port);
        *size = sizeof address->v6;
        return CH_OK;
    }
    return CH_ERR_INVALID;
}

static bool is_unix(const char *text)
{
    return strncmp(text, "unix:", 5) == 0;
}

static enum ch_err parse_address(const char *text, union address *address, socklen_t *size)
{
    memset(address, 0, sizeof *address);
    if (!is_unix(text))
        return parse_inet(text, address, size);
    address->local.sun_family = AF_UNIX;
    *size = sizeof address->local;
    return ch_span_copy(ch_span_of(text + 5), address->local.sun_path,
                        sizeof address->local.sun_path)
               ? CH_OK
               : CH_ERR_INVALID;
}

// A socket file nobody listens on is left over from a killed process; a live one is not ours to
// take.
static enum ch_err remove_stale_socket(const union address *address)
{
    struct stat status;
    if (lstat(address->local.sun_path, &status) != 0)
        return CH_OK;
    if (!S_ISSOCK(status.st_mode))
        return CH_ERR_CONFLICT;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return CH_ERR_IO;
    int alive = connect(fd, &address->any, sizeof address->local) == 0;
    close(fd);
    if (alive)
        return CH_ERR_CONFLICT;
    return unlink(address->local.sun_path) == 0 ? CH_OK : CH_ERR_IO;
}

// SO_REUSEPORT lets any process of the same user share the port, another daemon included. The first
// loop therefore asks once without it whether the port is free.
static enum ch_err check_port_is_free(const union address *address, socklen_t size)
{
    int on = 1;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return CH_ERR_IO;
    enum ch_err err = CH_OK;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) || bind(fd, &address->any, size) ||
        listen(fd, 1))
        err = errno == EADDRINUSE ? CH_ERR_CONFLICT : CH_ERR_IO;
    close(fd);
    return err;
}

static int port_of(const union address *address)
{
    return ntohs(address->any.sa_family == AF_INET ? address->v4.sin_port : address->v6.sin6_port);
}

static enum ch_err bind_and_listen(struct ch_listener *listener, const union address *address,
                                   socklen_t size)
{
    int on = 1;
    if (address->any.sa_family == AF_UNIX) {
        enum ch_err err = remove_stale_socket(address);
        if (err)
            return err;
    } else if (setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
               setsockopt(listener->fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on)) {
        return CH_ERR_IO;
    }
    // The mode of the descriptor becomes the mode of a Unix socket's file: it is never wider, not
    // even for a moment.
    if (address->any.sa_family == AF_UNIX && fchmod(listener->fd, 0660) != 0)
        return CH_ERR_IO;
    if (bind(listener->fd, &address->any, size) || listen(listener->fd, BACKLOG))
        return errno == EADDRINUSE ? CH_ERR_CONFLICT : CH_ERR_IO;
    if (address->any.sa_family == AF_UNIX) {
        ch_span_copy(ch_span_of(address->local.sun_path), listener->unix_path,
                     sizeof listener->unix_path);
        return CH_OK;
    }
    union address bound;
    socklen_t bound_size = sizeof bound;
    if (getsockname(listener->fd, &bound.any, &bound_size))
        return CH_ERR_IO;
    listener->port = port_of(&bound);
    return CH_OK;
}

static int open_reserve(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

// No descriptor is left: one client is turned away through the reserve instead of spinning on a
// readiness that cannot be served, and accepting rests.
static void pause_accepting(struct ch_listener *listener)
{
    struct timeval pause = {.tv_usec = PAUSE_MS * 1000};
    if (listener->reserve_fd >= 0) {
        close(listener->reserve_fd);
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            close(fd);
        listener->reserve_fd = open_reserve();
    }
    event_del(listener->event);
    event_add(listener->resume_event, &pause);
    int64_t now_ns = ch_loop_now_ns(listener->loop);
    if (listener->logged_ns && now_ns - listener->logged_ns < LOG_EVERY_NS)
        return;
    listener->logged_ns = now_ns;
    CH_LOG(CH_LOG_WARN, "accept_paused", ch_log_text("reason", "no descriptor left"),
           ch_log_int("loop", ch_loop_index(listener->loop)));
}

static void on_accept_resume(evutil_socket_t fd, short what, void *arg)
{
    struct ch_listener *listener = arg;
    (void)fd;
    (void)what;
    if (listener->reserve_fd < 0)
        listener->reserve_fd = open_reserve();
    event_add(listener->event, NULL);
}

static void format_address(const union address *address, char out[INET6_ADDRSTRLEN])
{
    out[0] = '\0';
    if (address->any.sa_family == AF_INET)
        inet_ntop(AF_INET, &address->v4.sin_addr, out, INET6_ADDRSTRLEN);
    else if (address->any.sa_family == AF_INET6)
        inet_ntop(AF_INET6, &address->v6.sin6_addr, out, INET6_ADDRSTRLEN);
}

static void on_listener_readable(evutil_socket_t listen_fd, short what, void *arg)
{
    struct ch_listener *listener = arg;
    (void)what;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        union address from;
        socklen_t size = sizeof from;
        char text[INET6_ADDRSTRLEN];
        int fd = accept4(listen_fd, &from.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                pause_accepting(listener);
            return; // EAGAIN, or a client that has left already
        }
        format_address(&from, text);
        listener->on_accept(listener->arg, fd, text);
    }
}

static enum ch_err watch(struct ch_listener *listener)
{
    listener->reserve_fd = open_reserve();
    listener->event = event_new(listener->loop->base, listener->fd, EV_READ | EV_PERSIST,
                                on_listener_readable, listener);
    listener->resume_event = evtimer_new(listener->loop->base, on_accept_resume, listener);
    if (!listener->event || !listener->resume_event || event_add(listener->event, NULL))
        return CH_ERR_NOMEM;
    return CH_OK;
}

static enum ch_err open_listener(struct ch_listener *listener, const char *text)
{
    union address address;
    socklen_t size;
    enum ch_err err = parse_address(text, &address, &size);
    if (err)
        return err;
    if (!is_unix(text) && ch_loop_index(listener->loop) == 0)
        err = check_port_is_free(&address, size);
    if (err)
        return err;
    listener->fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->fd < 0)
        return CH_ERR_IO;
    err = bind_and_listen(listener, &address, size);
    return err ? err : watch(listener);
}

static struct ch_listener *new_listener(struct ch_loop *loop, ch_accept_fn on_accept, void *arg)
{
    struct ch_listener *listener = ch_zcalloc(1, sizeof *listener);
    if (listener)
        *listener = (struct ch_listener){
            .loop = loop, .fd = -1, .reserve_fd = -1, .on_accept = on_accept, .arg = arg};
    return listener;
}

enum ch_err ch_listener_open(struct ch_loop *loop, const char *address, ch_accept_fn on_accept,
                             void *arg, struct ch_listener **listener_out, struct ch_why *why)
{
    struct ch_listener *listener = new_listener(loop, on_accept, arg);
    if (!listener)
        return CH_ERR_NOMEM;
    enum ch_err err = open_listener(listener, address);
    if (err) {
        const char *reason = err == CH_ERR_INVALID    ? "that is no address"
                             : err == CH_ERR_CONFLICT ? "the address is in use"
                                                      : strerror(errno);
        ch_why_set(why, err, "cannot listen on %s: %s", address, reason);
        ch_listener_close(listener);
        return err;
    }
    *listener_out = listener;
    return CH_OK;
}

// ---- sockets that somebody else opened

enum ch_err ch_listener_adopt(struct ch_loop *loop, int fd, ch_accept_fn on_accept, void *arg,
                              struct ch_listener **listener_out, struct ch_why *why)
{
    struct ch_listener *listener = new_listener(loop, on_accept, arg);
    if (!listener)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    listener->fd = fd;
    enum ch_err err = watch(listener);
    if (err) {
        listener->fd = -1;
        ch_listener_close(listener);
        return ch_why_set(why, err, "out of memory");
    }
    *listener_out = listener;
    return CH_OK;
}

// The address of a Unix socket ends with the size that the kernel gives; an unnamed one is all
// zeros.
static bool get_address(int fd, union address *address)
{
    socklen_t size = sizeof *address;
    memset(address, 0, sizeof *address);
    return getsockname(fd, &address->any, &size) == 0 && size <= sizeof *address;
}

bool ch_listener_is_at(int fd, const char *address)
{
    union address wanted, bound;
    socklen_t size;
    if (parse_address(address, &wanted, &size) || !get_address(fd, &bound) ||
        wanted.any.sa_family != bound.any.sa_family)
        return false;
    if (is_unix(address))
        return memcmp(wanted.local.sun_path, bound.local.sun_path, sizeof bound.local.sun_path) ==
               0;
    if (port_of(&wanted) != port_of(&bound))
        return false;
    return bound.any.sa_family == AF_INET
               ? wanted.v4.sin_addr.s_addr == bound.v4.sin_addr.s_addr
               : memcmp(&wanted.v6.sin6_addr, &bound.v6.sin6_addr, sizeof bound.v6.sin6_addr) == 0;
}

void ch_listener_name(int fd, char out[CH_LISTENER_NAME])
{
    union address address;
    char host[INET6_ADDRSTRLEN];
    if (!get_address(fd, &address)) {
        snprintf(out, CH_LISTENER_NAME, "an unknown address");
        return;
    }
    format_address(&address, host);
    if (address.any.sa_family == AF_UNIX)
        snprintf(out, CH_LISTENER_NAME, "unix:%.*s", (int)sizeof address.local.sun_path,
                 address.local.sun_path);
    else
        snprintf(out, CH_LISTENER_NAME, address.any.sa_family == AF_INET6 ? "[%s]:%d" : "%s:%d",
                 host, port_of(&address));
}

int ch_listener_port(const struct ch_listener *listener)
{
    return listener->port;
}

void ch_listener_close(struct ch_listener *listener)
{
    if (!listener)
        return;
    if (listener->event)
        event_free(listener->event);
    if (listener->resume_event)
        event_free(listener->resume_event);
    if (listener->fd >= 0)
        close(listener->fd);
    if (listener->reserve_fd >= 0)
        close(listener->reserve_fd);
    if (listener->unix_path[0])
        unlink(listener->unix_path);
    ch_zfree(listener);
}
