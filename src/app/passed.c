// SPDX-License-Identifier: Apache-2.0
#include "app/passed.h"

#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define FD_FIRST    3                             // SD_LISTEN_FDS_START
#define SOCKETS_MAX (CH_CONFIG_LISTENERS_MAX + 2) // the admin socket and the admin listener

// ---- the variables

// How many sockets are meant for this process.
static enum ch_err count_sockets(unsigned *count_out, struct ch_why *why)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    int64_t number;
    *count_out = 0;
    if (!pid || !fds || ch_span_to_int64(ch_span_of(pid), &number) || number != getpid())
        return CH_OK;
    if (ch_span_to_int64(ch_span_of(fds), &number) || number > SOCKETS_MAX)
        return ch_why_set(why, CH_ERR_INVALID, "LISTEN_FDS: %d sockets may be passed at most",
                          SOCKETS_MAX);
    *count_out = (unsigned)number;
    return CH_OK;
}

// The next of the names, which colons part.
static struct ch_span take_name(const char **names)
{
    struct ch_span name = {*names, strcspn(*names, ":")};
    *names += name.len + ((*names)[name.len] == ':');
    return name;
}

static unsigned count_names(const char *names)
{
    unsigned count = 1;
    for (; *names; names++)
        count += *names == ':';
    return count;
}

// ---- one socket

static int option_of(int fd, int option)
{
    int value = -1;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

static enum ch_err prepare(int fd, struct ch_why *why)
{
    int domain = option_of(fd, SO_DOMAIN), flags = fcntl(fd, F_GETFL);
    if (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX)
        return ch_why_set(why, CH_ERR_INVALID,
                          "the passed descriptor %d is no TCP and no Unix socket", fd);
    if (option_of(fd, SO_TYPE) != SOCK_STREAM || option_of(fd, SO_ACCEPTCONN) != 1)
        return ch_why_set(why, CH_ERR_INVALID,
                          "the passed socket %d is no stream socket that listens "
                          "(ListenStream= with Accept=no makes one)",
                          fd);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return ch_why_set(why, CH_ERR_IO, "the passed socket %d: %s", fd, strerror(errno));
    return CH_OK;
}

// ---- what each is for

static enum ch_err place_data(int fd, const struct ch_config *config, struct ch_passed *passed,
                              struct ch_why *why)
{
    char name[CH_LISTENER_NAME];
    for (unsigned i = 0; i < config->listener_count; i++) {
        if (passed->data[i] || !ch_listener_is_at(fd, config->listeners[i].address))
            continue;
        passed->data[i] = fd;
        return CH_OK;
    }
    ch_listener_name(fd, name);
    return ch_why_set(why, CH_ERR_INVALID,
                      "the passed socket %d (data) is bound to %s, which no entry of `listen` "
                      "says, or another socket has it already",
                      fd, name);
}

static enum ch_err place_admin(int fd, const struct ch_config *config, struct ch_passed *passed,
                               struct ch_why *why)
{
    char name[CH_LISTENER_NAME], path[CH_CONFIG_PATH + 5];
    snprintf(path, sizeof path, "unix:%s", config->admin_socket);
    if (!passed->admin_socket && ch_listener_is_at(fd, path)) {
        passed->admin_socket = fd;
        return CH_OK;
    }
    if (!passed->admin_listen && config->admin_listen[0] &&
        ch_listener_is_at(fd, config->admin_listen)) {
        passed->admin_listen = fd;
        return CH_OK;
    }
    ch_listener_name(fd, name);
    return ch_why_set(why, CH_ERR_INVALID,
                      "the passed socket %d (admin) is bound to %s, which neither admin.socket "
                      "nor admin.listen says, or another socket has it already",
                      fd, name);
}

// One listener that is opened anew at each start would refuse connections meanwhile, unnoticed.
static enum ch_err check_is_whole(const struct ch_config *config, const struct ch_passed *passed,
                                  struct ch_why *why)
{
    const char *missing = NULL;
    bool has_data = false;
    for (unsigned i = 0; i < config->listener_count; i++) {
        has_data = has_data || passed->data[i];
        if (!passed->data[i])
            missing = config->listeners[i].address;
    }
    if (!has_data || !missing)
        return CH_OK;
    return ch_why_set(why, CH_ERR_INVALID,
                      "`listen` says %s, but no passed socket is bound to it; pass one for each "
                      "entry, or none",
                      missing);
}

static enum ch_err place(int fd, struct ch_span name, const struct ch_config *config,
                         struct ch_passed *passed, struct ch_why *why)
{
    enum ch_err err = prepare(fd, why);
    if (err)
        return err;
    if (ch_span_eq(name, CH_SPAN("data")))
        return place_data(fd, config, passed, why);
    if (ch_span_eq(name, CH_SPAN("admin")))
        return place_admin(fd, config, passed, why);
    return ch_why_set(why, CH_ERR_INVALID,
                      "the passed socket %d is named neither data nor admin "
                      "(FileDescriptorName=): %.*s",
                      fd, CH_SPAN_ARG(name));
}

static enum ch_err place_all(const struct ch_config *config, struct ch_passed *passed,
                             struct ch_why *why)
{
    const char *names = getenv("LISTEN_FDNAMES");
    unsigned count;
    enum ch_err err = count_sockets(&count, why);
    if (err || count == 0)
        return err;
    if (names && count_names(names) != count)
        return ch_why_set(why, CH_ERR_INVALID,
                          "LISTEN_FDNAMES names %u sockets, LISTEN_FDS says %u", count_names(names),
                          count);
    for (unsigned i = 0; i < count && !err; i++)
        err = place(FD_FIRST + (int)i, names ? take_name(&names) : CH_SPAN("data"), config, passed,
                    why);
    return err ? err : check_is_whole(config, passed, why);
}

enum ch_err ch_passed_take(const struct ch_config *config, struct ch_passed *passed_out,
                           struct ch_why *why)
{
    struct ch_passed passed = {.admin_socket = 0};
    enum ch_err err = place_all(config, &passed, why);
    // No child of this process may take them for its own.
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (!err)
        *passed_out = passed;
    return err;
}
