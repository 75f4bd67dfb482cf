// SPDX-License-Identifier: Apache-2.0
// Latency at one connection: bench_latency DIRECTIVES REQUESTS PORT TOKEN [PORT TOKEN]…
//
// Sends one chat request after the other over one connection to each target and prints a line for
// each: p50 and p99 in nanoseconds, and how many answers were no 200. The targets take turns of a
// few milliseconds, so that what slows the machine slows them alike.
#include "http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define WARM_UP     10 // of a turn, and not counted
#define TURN        50
#define TARGETS_MAX 8
#define ANSWER_MAX  (64 * 1024)

static char answer[ANSWER_MAX + 1];

// The size of the whole answer, or 0 while its head is not complete.
static size_t answer_size(void)
{
    const char *end = strstr(answer, "\r\n\r\n");
    if (!end)
        return 0;
    const char *length = strcasestr(answer, "\r\nContent-Length:");
    if (!length || length > end)
        bench_fail("an answer without Content-Length");
    return (size_t)(end + 4 - answer) + strtoul(length + 17, NULL, 10);
}

// Returns the status.
static int read_answer(int fd)
{
    size_t got = 0, whole = 0;
    while (!whole || got < whole) {
        ssize_t size = recv(fd, answer + got, ANSWER_MAX - got, 0);
        if (size <= 0)
            bench_fail("the connection was closed");
        got += (size_t)size;
        answer[got] = '\0';
        if (!whole)
            whole = answer_size();
    }
    return got == whole && strncmp(answer, "HTTP/1.1 ", 9) == 0 ? atoi(answer + 9) : 0;
}

struct target {
    int fd;
    char request[BENCH_REQUEST_MAX];
    size_t size, taken, errors;
    int64_t *took_ns;
};

static void ask(struct target *t, bool is_counted)
{
    int64_t start_ns = bench_now_ns();
    bench_send(t->fd, t->request, t->size);
    bool is_good = read_answer(t->fd) == 200;
    int64_t took_ns = bench_now_ns() - start_ns;
    t->errors += !is_good;
    if (is_counted)
        t->took_ns[t->taken++] = took_ns;
}

int main(int argc, char **argv)
{
    int count = (argc - 3) / 2;
    if (count < 1 || count > TARGETS_MAX || argc != 3 + 2 * count)
        return 2;
    static struct target targets[TARGETS_MAX];
    size_t requests = (size_t)bench_number(argv[2], 1, 10000000);
    for (int i = 0; i < count; i++) {
        struct target *t = &targets[i];
        t->fd = bench_connect((uint16_t)bench_number(argv[3 + 2 * i], 1, 65535));
        t->size = bench_request(argv[4 + 2 * i], false, argv[1], t->request);
        t->took_ns = calloc(requests, sizeof *t->took_ns);
        if (!t->took_ns)
            bench_fail("memory");
    }
    while (targets[count - 1].taken < requests)
        for (int i = 0; i < count; i++)
            for (int n = 0; n < WARM_UP + TURN; n++)
                ask(&targets[i], n >= WARM_UP && targets[i].taken < requests);
    for (int i = 0; i < count; i++) {
        struct target *t = &targets[i];
        bench_sort(t->took_ns, t->taken);
        printf("%lld\t%lld\t%zu\n", (long long)bench_percentile(t->took_ns, t->taken, 50),
               (long long)bench_percentile(t->took_ns, t->taken, 99), t->errors);
        free(t->took_ns);
    }
    return 0;
}
