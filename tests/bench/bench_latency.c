// SPDX-License-Identifier: Apache-2.0
// Latency at one connection: bench_latency PORT TOKEN REQUESTS DIRECTIVES
//
// Sends one chat request after the other and prints "p50_ns", "p99_ns" and "errors" (answers other
// than 200), one a line.
#include "http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define WARM_UP    100
#define ANSWER_MAX (64 * 1024)

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

int main(int argc, char **argv)
{
    char request[BENCH_REQUEST_MAX];
    if (argc != 5)
        return 2;
    int fd = bench_connect((uint16_t)bench_number(argv[1], 1, 65535));
    size_t count = (size_t)bench_number(argv[3], 1, 10000000), errors = 0;
    size_t size = bench_request(argv[2], false, argv[4], request);
    int64_t *took_ns = calloc(count, sizeof *took_ns);
    if (!took_ns)
        bench_fail("memory");
    for (size_t i = 0; i < count + WARM_UP; i++) {
        int64_t start_ns = bench_now_ns();
        bench_send(fd, request, size);
        errors += read_answer(fd) != 200;
        if (i >= WARM_UP)
            took_ns[i - WARM_UP] = bench_now_ns() - start_ns;
    }
    bench_sort(took_ns, count);
    printf("p50_ns\t%lld\np99_ns\t%lld\nerrors\t%zu\n",
           (long long)bench_percentile(took_ns, count, 50),
           (long long)bench_percentile(took_ns, count, 99), errors);
    free(took_ns);
    return 0;
}
