// SPDX-License-Identifier: Apache-2.0
// Holds streams open: bench_hold PORT TOKEN COUNT DIRECTIVES
//
// Opens COUNT streams, prints "open" when each has had its first byte, reads on until standard
// input ends, then prints how many had ended early and how many bytes came, one a line.
#include "http.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define WINDOW     64 // streams opened before their first bytes are waited for
#define EVENTS_MAX 256
#define WAIT_MS    20000 // nothing at all for so long while opening: the relay is stuck

struct holder {
    int epoll;
    bool *has_begun; // by descriptor
    size_t begun, ended, bytes;
};

static void read_stream(struct holder *h, int fd)
{
    char bytes[16384];
    ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    if (got <= 0) {
        h->ended++;
        close(fd);
        return;
    }
    if (!h->has_begun[fd]) {
        if (got < 12 || strncmp(bytes, "HTTP/1.1 200", 12) != 0)
            bench_fail("a stream was refused");
        h->has_begun[fd] = true;
        h->begun++;
    }
    h->bytes += (size_t)got;
}

static int read_streams(struct holder *h, int wait_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(h->epoll, events, EVENTS_MAX, wait_ms);
    for (int i = 0; i < count; i++)
        if (events[i].data.fd != STDIN_FILENO)
            read_stream(h, events[i].data.fd);
    return count;
}

static void add(struct holder *h, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(h->epoll, EPOLL_CTL_ADD, fd, &event))
        bench_fail("epoll_ctl");
}

static void open_streams(struct holder *h, uint16_t port, size_t count, const char *request,
                         size_t size)
{
    for (size_t opened = 0; opened < count;) {
        for (size_t i = 0; i < WINDOW && opened < count; i++, opened++) {
            int fd = bench_connect(port);
            bench_send(fd, request, size);
            add(h, fd);
        }
        while (h->begun < opened && !h->ended)
            if (read_streams(h, WAIT_MS) == 0)
                bench_fail("a stream did not begin");
    }
}

static bool stdin_has_ended(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&input, 1, 0) != 0;
}

int main(int argc, char **argv)
{
    char request[BENCH_REQUEST_MAX];
    struct rlimit limit;
    if (argc != 5 || getrlimit(RLIMIT_NOFILE, &limit))
        return 2;
    limit.rlim_cur = limit.rlim_max;
    struct holder holder = {.epoll = epoll_create1(EPOLL_CLOEXEC),
                            .has_begun = calloc(limit.rlim_max, sizeof(bool))};
    size_t size = bench_request(argv[2], true, argv[4], request);
    if (setrlimit(RLIMIT_NOFILE, &limit) || holder.epoll < 0 || !holder.has_begun)
        bench_fail("set-up");
    open_streams(&holder, (uint16_t)bench_number(argv[1], 1, 65535),
                 (size_t)bench_number(argv[3], 1, 1000000), request, size);
    printf("open\n");
    fflush(stdout);
    while (!stdin_has_ended())
        read_streams(&holder, 100);
    printf("ended\t%zu\nbytes\t%zu\n", holder.ended, holder.bytes);
    free(holder.has_begun);
    return 0;
}
