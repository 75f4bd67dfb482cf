// SPDX-License-Identifier: Apache-2.0
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

_Noreturn void bench_fail(const char *what)
{
    fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

int64_t bench_number(const char *text, int64_t least, int64_t most)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (*end || end == text || errno || number < least || number > most) {
        errno = EINVAL;
        bench_fail(text);
    }
    return number;
}

int64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int bench_connect(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        bench_fail("socket");
    if (connect(fd, (const struct sockaddr *)&address, sizeof address))
        bench_fail("connect");
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on))
        bench_fail("TCP_NODELAY");
    return fd;
}

void bench_send(int fd, const char *bytes, size_t size)
{
    while (size) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0)
            bench_fail("send");
        bytes += sent;
        size -= (size_t)sent;
    }
}

size_t bench_request(const char *token, bool is_stream, const char *directives,
                     char out[BENCH_REQUEST_MAX])
{
    static const char stream[] = "\"stream\":true,\"stream_options\":{\"include_usage\":true},";
    char body[512];
    int size = snprintf(body, sizeof body,
                        "{\"model\":\"gpt-4o-mini\",%s\"temperature\":0.2,\"max_tokens\":256,"
                        "\"messages\":[{\"role\":\"system\",\"content\":\"Answer in one "
                        "sentence.\"},{\"role\":\"user\",\"content\":\"Why does a benchmark need a "
                        "control, and what would it be worth without one?\"}]}",
                        is_stream ? stream : "");
    size = snprintf(out, BENCH_REQUEST_MAX,
                    "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                    "Authorization: Bearer %s\r\nContent-Type: application/json\r\n"
                    "User-Agent: chaperone-bench\r\nx-sandbox: %s\r\nContent-Length: %d\r\n\r\n%s",
                    token, directives, size, body);
    if (size >= BENCH_REQUEST_MAX) {
        errno = E2BIG;
        bench_fail("request");
    }
    return (size_t)size;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

void bench_sort(int64_t *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
}

int64_t bench_percentile(const int64_t *sorted, size_t count, unsigned percent)
{
    return count ? sorted[(count - 1) * percent / 100] : 0;
}
