// SPDX-License-Identifier: Apache-2.0
// What a relay adds to a stream: bench_stream PORT EVENTS GAP_US ROUNDS TARGET…
//
// Is upstream and client at once, so that every event's way is timed from the upstream's write to
// the client's read on one clock. Listens on PORT as the upstream of the relays; a TARGET is
// PORT:TOKEN, and PORT itself may be one: the direct way. Every round streams EVENTS events, GAP_US
// apart, through each target in turn and prints
// "ROUND TARGET_INDEX FIRST_BYTE_NS EVENT_P50_NS EVENT_P99_NS".
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX      10000
#define TARGETS_MAX     16
#define CONNECTIONS_MAX 64
#define CHUNK_MAX       512
#define READ_MAX        (64 * 1024)

static const char stream_head[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char event_text[] =
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
    "\"model\":\"gpt-4o-mini\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_bench\","
    "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"logprobs\":null,"
    "\"finish_reason\":null}],\"usage\":null}\n\n";
static const char trail_text[] =
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
    "\"model\":\"gpt-4o-mini\",\"choices\":[],\"usage\":{\"prompt_tokens\":30,"
    "\"completion_tokens\":100,\"total_tokens\":130}}\n\ndata: [DONE]\n\n";

// Written by the upstream before an event goes out, read by the client when it came in.
static _Atomic int64_t sent_ns[EVENTS_MAX];

// ---- the upstream

struct connection {
    size_t len;
    char request[BENCH_REQUEST_MAX + 1];
};

struct upstream {
    struct pollfd fds[CONNECTIONS_MAX]; // [0] listens
    struct connection connections[CONNECTIONS_MAX];
    nfds_t count;
    size_t events;
    int64_t gap_ns;
};

static bool request_is_complete(const struct connection *c)
{
    const char *end = strstr(c->request, "\r\n\r\n");
    const char *length = strcasestr(c->request, "\r\nContent-Length:");
    if (!end)
        return false;
    size_t body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
    return c->len >= (size_t)(end + 4 - c->request) + body;
}

static size_t put_chunk(char *out, const char *text)
{
    return (size_t)snprintf(out, CHUNK_MAX, "%zx\r\n%s\r\n", strlen(text), text);
}

static void wait_until(int64_t due_ns)
{
    struct timespec due = {.tv_sec = due_ns / 1000000000, .tv_nsec = due_ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
        continue;
}

// The head goes first and alone, as with providers, whose first token takes its time.
static void answer_stream(const struct upstream *u, int fd)
{
    char chunk[CHUNK_MAX];
    size_t size = put_chunk(chunk, event_text);
    int64_t start_ns = bench_now_ns();
    bench_send(fd, stream_head, sizeof stream_head - 1);
    for (size_t i = 0; i < u->events; i++) {
        if (u->gap_ns)
            wait_until(start_ns + (int64_t)(i + 1) * u->gap_ns);
        atomic_store(&sent_ns[i], bench_now_ns());
        bench_send(fd, chunk, size);
    }
    size = put_chunk(chunk, trail_text);
    bench_send(fd, chunk, size);
    bench_send(fd, "0\r\n\r\n", 5);
}

static void accept_connection(struct upstream *u)
{
    int fd = accept(u->fds[0].fd, NULL, NULL);
    if (fd < 0 || u->count == CONNECTIONS_MAX)
        bench_fail("accept");
    u->fds[u->count] = (struct pollfd){.fd = fd, .events = POLLIN};
    u->connections[u->count++].len = 0;
}

static void forget_connection(struct upstream *u, nfds_t i)
{
    close(u->fds[i].fd);
    u->count--;
    u->fds[i] = u->fds[u->count];
    u->connections[i] = u->connections[u->count];
}

// False: the connection is over.
static bool read_request(struct upstream *u, nfds_t i)
{
    struct connection *c = &u->connections[i];
    ssize_t got = recv(u->fds[i].fd, c->request + c->len, BENCH_REQUEST_MAX - c->len, 0);
    if (got <= 0)
        return false;
    c->len += (size_t)got;
    c->request[c->len] = '\0';
    if (request_is_complete(c)) {
        c->len = 0;
        answer_stream(u, u->fds[i].fd);
    }
    return true;
}

static void *run_upstream(void *arg)
{
    struct upstream *u = arg;
    for (;;) {
        if (poll(u->fds, u->count, -1) < 0)
            bench_fail("poll");
        for (nfds_t i = u->count; i-- > 1;)
            if (u->fds[i].revents && !read_request(u, i))
                forget_connection(u, i);
        if (u->fds[0].revents)
            accept_connection(u);
    }
    return NULL;
}

static void listen_on(struct upstream *u, uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) || listen(fd, 64))
        bench_fail("listen");
    u->fds[0] = (struct pollfd){.fd = fd, .events = POLLIN};
    u->count = 1;
}

// ---- the client

struct target {
    int fd;
    size_t request_size;
    char request[BENCH_REQUEST_MAX];
};

static void open_target(struct target *target, char *text)
{
    char *colon = strchr(text, ':');
    if (!colon)
        bench_fail("a target is PORT:TOKEN");
    *colon = '\0';
    target->fd = bench_connect((uint16_t)bench_number(text, 1, 65535));
    target->request_size = bench_request(colon + 1, true, "none", target->request);
}

// Follows a chunked answer (RFC 9112 §7.1) and counts the ends of its events ("\n\n").
struct reader {
    enum { IN_HEAD, IN_SIZE, IN_DATA, BEHIND_DATA, BEHIND_LAST, AT_END } state;
    size_t events, left; // bytes of the chunk
    char tail[4];        // the last bytes of the head
    char last;           // of the data
};

static void read_head_byte(struct reader *r, char byte)
{
    memmove(r->tail, r->tail + 1, sizeof r->tail - 1);
    r->tail[3] = byte;
    if (memcmp(r->tail, "\r\n\r\n", 4) == 0)
        r->state = IN_SIZE;
}

static void read_size_byte(struct reader *r, char byte)
{
    static const char digits[] = "0123456789abcdef";
    const char *digit = memchr(digits, byte | 0x20, 16);
    if (digit)
        r->left = r->left << 4 | (size_t)(digit - digits);
    else if (byte == '\n')
        r->state = r->left ? IN_DATA : BEHIND_LAST;
}

static void read_byte(struct reader *r, char byte)
{
    switch (r->state) {
    case IN_HEAD:
        read_head_byte(r, byte);
        break;
    case IN_SIZE:
        read_size_byte(r, byte);
        break;
    case IN_DATA:
        r->events += byte == '\n' && r->last == '\n';
        r->last = byte;
        if (--r->left == 0)
            r->state = BEHIND_DATA;
        break;
    case BEHIND_DATA:
        if (byte == '\n')
            r->state = IN_SIZE;
        break;
    case BEHIND_LAST: // the empty line
        if (byte == '\n')
            r->state = AT_END;
        break;
    case AT_END:
        bench_fail("bytes behind the answer");
    }
}

// One stream; the way of each event goes into `delays_ns`. Returns the time to the first byte.
static int64_t time_stream(struct target *target, size_t events, int64_t *delays_ns)
{
    static char bytes[READ_MAX];
    struct reader reader = {.state = IN_HEAD};
    int64_t first_ns = 0, start_ns = bench_now_ns();
    bench_send(target->fd, target->request, target->request_size);
    while (reader.state != AT_END) {
        ssize_t got = recv(target->fd, bytes, sizeof bytes, 0);
        int64_t now_ns = bench_now_ns();
        size_t had = reader.events;
        if (got <= 0)
            bench_fail("the stream was cut");
        if (!first_ns && strncmp(bytes, "HTTP/1.1 200", 12) != 0)
            bench_fail("the stream was refused");
        if (!first_ns)
            first_ns = now_ns;
        for (ssize_t i = 0; i < got; i++)
            read_byte(&reader, bytes[i]);
        for (size_t i = had; i < reader.events && i < events; i++)
            delays_ns[i] = now_ns - atomic_load(&sent_ns[i]);
    }
    if (reader.events != events + 2) // and the usage, and [DONE]
        bench_fail("the stream was not complete");
    return first_ns - start_ns;
}

int main(int argc, char **argv)
{
    static struct upstream upstream;
    static struct target targets[TARGETS_MAX];
    static int64_t delays_ns[EVENTS_MAX];
    pthread_t thread;
    if (argc < 6 || argc - 5 > TARGETS_MAX)
        return 2;
    upstream.events = (size_t)bench_number(argv[2], 2, EVENTS_MAX);
    upstream.gap_ns = bench_number(argv[3], 0, 1000000) * 1000;
    int64_t rounds = bench_number(argv[4], 1, 1000);
    listen_on(&upstream, (uint16_t)bench_number(argv[1], 1, 65535));
    if (pthread_create(&thread, NULL, run_upstream, &upstream))
        bench_fail("thread");
    for (int i = 5; i < argc; i++) {
        open_target(&targets[i - 5], argv[i]);
        time_stream(&targets[i - 5], upstream.events, delays_ns); // opens the relay's connection
    }
    for (int64_t round = 0; round < rounds; round++) {
        for (int i = 0; i < argc - 5; i++) {
            int64_t first_byte_ns = time_stream(&targets[i], upstream.events, delays_ns);
            bench_sort(delays_ns, upstream.events);
            printf("%lld %d %lld %lld %lld\n", (long long)round, i, (long long)first_byte_ns,
                   (long long)bench_percentile(delays_ns, upstream.events, 50),
                   (long long)bench_percentile(delays_ns, upstream.events, 99));
        }
    }
    return 0;
}
