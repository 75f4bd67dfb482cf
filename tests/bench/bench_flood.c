// SPDX-License-Identifier: Apache-2.0
// Malformed keys at a steady rate: bench_flood PORT RATE SECONDS
//
// Sends RATE requests a second over 16 pipelined connections, each with a key of another wrong
// shape, and prints "sent", "answered" (the end of a head was seen) and "seconds_us", one a line.
#include "http.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS    16
#define BATCH          25  // requests of one write
#define UNANSWERED_MAX 500 // requests without an answer on one connection
#define HEAD_END       "\r\n\r\n"

// Every one fails at another place of the check; none is looked up.
static const char *const keys[] = {
    "ch_x",
    "sk-proj-00000000000000000000000000000000",
    "ch_web_sk_00000000000000000000000000000000000000000000000000",
    "ch_WEB_sk_00000000000000000000000000000000000000000000000000",
    "ch_web_sk_0000000000000000000000000000000000000000000000000'",
};
#define KEYS (sizeof keys / sizeof *keys)

struct flood {
    int fd;
    size_t open, matched; // requests under way; bytes of HEAD_END seen last
};

static size_t make_batch(char *out, size_t size)
{
    size_t at = 0;
    for (size_t i = 0; i < BATCH; i++)
        at += (size_t)snprintf(
            out + at, size - at,
            "GET /v1/models HTTP/1.1\r\nHost: p\r\nAuthorization: Bearer %s\r\n\r\n",
            keys[i % KEYS]);
    return at;
}

static void start(struct flood *flood, uint16_t port)
{
    *flood = (struct flood){.fd = bench_connect(port)};
    if (fcntl(flood->fd, F_SETFL, O_NONBLOCK) != 0)
        bench_fail("fcntl");
}

static size_t count_answers(struct flood *flood, const char *bytes, size_t size)
{
    size_t answers = 0;
    for (size_t i = 0; i < size; i++) {
        flood->matched = bytes[i] == HEAD_END[flood->matched] ? flood->matched + 1
                         : bytes[i] == '\r'                   ? 1
                                                              : 0;
        if (flood->matched == sizeof HEAD_END - 1) {
            answers++;
            flood->matched = 0;
        }
    }
    return answers;
}

static size_t drain(struct flood *flood, uint16_t port)
{
    static char scrap[64 * 1024];
    size_t answers = 0;
    ssize_t got;
    while ((got = recv(flood->fd, scrap, sizeof scrap, 0)) > 0)
        answers += count_answers(flood, scrap, (size_t)got);
    flood->open -= answers < flood->open ? answers : flood->open;
    if (got == 0 || errno != EAGAIN) { // it was closed: go on with another
        close(flood->fd);
        start(flood, port);
    }
    return answers;
}

// A short write would cut a request; what is left of it is given to the kernel while it drains.
static bool send_batch(struct flood *flood, uint16_t port, const char *batch, size_t size,
                       size_t *answers)
{
    for (size_t at = 0; at < size;) {
        ssize_t put = send(flood->fd, batch + at, size - at, MSG_NOSIGNAL);
        if (put > 0) {
            at += (size_t)put;
            continue;
        }
        int before = flood->fd;
        *answers += drain(flood, port);
        if (flood->fd != before || errno == EPIPE || errno == ECONNRESET)
            return false;
        poll(&(struct pollfd){.fd = flood->fd, .events = POLLIN | POLLOUT}, 1, 10);
    }
    flood->open += BATCH;
    return true;
}

int main(int argc, char **argv)
{
    static char batch[BATCH * 160];
    static struct flood floods[CONNECTIONS];
    if (argc != 4)
        return 2;
    uint16_t port = (uint16_t)bench_number(argv[1], 1, 65535);
    int64_t rate = bench_number(argv[2], 1, 10000000);
    int64_t limit_ns = bench_number(argv[3], 1, 3600) * 1000000000;
    size_t size = make_batch(batch, sizeof batch), sent = 0, answered = 0, next = 0;
    for (size_t i = 0; i < CONNECTIONS; i++)
        start(&floods[i], port);
    int64_t start_ns = bench_now_ns(), passed_ns;
    while ((passed_ns = bench_now_ns() - start_ns) < limit_ns) {
        size_t due = (size_t)((double)passed_ns * 1e-9 * (double)rate);
        for (size_t i = 0; i < CONNECTIONS && sent + BATCH <= due; i++) {
            struct flood *flood = &floods[next++ % CONNECTIONS];
            if (flood->open < UNANSWERED_MAX && send_batch(flood, port, batch, size, &answered))
                sent += BATCH;
        }
        for (size_t i = 0; i < CONNECTIONS; i++)
            answered += drain(&floods[i], port);
        poll(NULL, 0, 1);
    }
    printf("sent\t%zu\nanswered\t%zu\nseconds_us\t%lld\n", sent, answered,
           (long long)(passed_ns / 1000));
    return 0;
}
