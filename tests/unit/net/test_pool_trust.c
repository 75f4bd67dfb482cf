// SPDX-License-Identifier: Apache-2.0
// The pool against names that lie and addresses that are silent: what is connected to, how soon,
// and what is never connected to. Two loopback addresses play the world: 127.0.0.2 is allowed and
// stands for a public one, 127.0.0.1 is not.
#include "net/upstream_pool.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define TICK_MS     10
#define TICKS_MAX   500 // 5 s: a test that hangs fails instead
#define CONNECT_MS  2000
#define FILLERS_MAX 16
#define ANSWERS_MAX 8

// ---- a name service of the test's own, in the place of getaddrinfo (-Wl,--wrap)

struct answer {
    struct addrinfo info;
    struct sockaddr_in6 address;
};

static struct {
    const char *addresses[ANSWERS_MAX];
    unsigned count;
} service;

int __wrap_getaddrinfo(const char *node, const char *name, const struct addrinfo *hints,
                       struct addrinfo **list_out);
void __wrap_freeaddrinfo(struct addrinfo *list);

static void fill(struct answer *answer, const char *text)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&answer->address;
    bool is_v6 = inet_pton(AF_INET6, text, &answer->address.sin6_addr) == 1;
    if (!is_v6)
        assert_int_equal(inet_pton(AF_INET, text, &v4->sin_addr), 1);
    answer->address.sin6_family = is_v6 ? AF_INET6 : AF_INET;
    answer->info.ai_family = is_v6 ? AF_INET6 : AF_INET;
    answer->info.ai_addr = (struct sockaddr *)&answer->address;
    answer->info.ai_addrlen = is_v6 ? sizeof answer->address : sizeof *v4;
}

int __wrap_getaddrinfo(const char *node, const char *name, const struct addrinfo *hints,
                       struct addrinfo **list_out)
{
    (void)node;
    (void)name;
    (void)hints;
    struct answer *answers = calloc(ANSWERS_MAX, sizeof *answers);
    assert_non_null(answers);
    for (unsigned i = 0; i < service.count; i++) {
        fill(&answers[i], service.addresses[i]);
        if (i > 0)
            answers[i - 1].info.ai_next = &answers[i].info;
    }
    *list_out = &answers[0].info;
    return 0;
}

void __wrap_freeaddrinfo(struct addrinfo *list)
{
    free(list);
}

static void answer_with(const char *first, const char *second)
{
    service.addresses[0] = first;
    service.addresses[1] = second;
    service.count = second ? 2 : 1;
}

// ---- the fixture

struct fixture {
    struct ch_loop *loop;
    struct ch_resolver *resolver;
    struct ch_upstream_pool *pool;
    struct ch_cidr_list allowed;
    struct ch_timer timer;
    struct ch_upstream_target target;
    struct ch_upstream *upstream;
    int allowed_listener, refused_listener; // 127.0.0.2 and 127.0.0.1, same port
    int fillers[FILLERS_MAX];
    unsigned filler_count;
    unsigned readies, ends, ticks;
    enum ch_peer_end last_end;
    enum ch_upstream_fault fault;
    enum ch_address_class refused_class;
};

static void on_ready(void *arg)
{
    struct fixture *f = arg;
    f->readies++;
    ch_loop_stop(f->loop);
}

static size_t on_bytes(void *arg, struct ch_span bytes)
{
    (void)arg;
    return bytes.len;
}

static void on_writable(void *arg)
{
    (void)arg;
}

static void on_end(void *arg, enum ch_peer_end end)
{
    struct fixture *f = arg;
    f->ends++;
    f->last_end = end;
    f->fault = f->upstream->fault;
    f->refused_class = f->upstream->refused_class;
    ch_upstream_release(f->upstream, false);
    f->upstream = NULL;
    ch_loop_stop(f->loop);
}

static const struct ch_peer_handler handler = {on_ready, on_bytes, on_writable, on_end};

static void tick(void *arg)
{
    struct fixture *f = arg;
    if (++f->ticks > TICKS_MAX)
        ch_loop_stop(f->loop);
}

static struct sockaddr_in loopback(uint32_t host, uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(host)}};
}

static int try_listen(uint32_t host, uint16_t port, int backlog)
{
    struct sockaddr_in address = loopback(host, port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, backlog) == 0)
        return fd;
    close(fd);
    return -1;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    return ntohs(address.sin_port);
}

static void open_listeners(struct fixture *f)
{
    f->refused_listener = -1;
    for (int i = 0; i < 20 && f->refused_listener < 0; i++) { // a port that is free on both
        f->allowed_listener = try_listen(0x7F000002, 0, 8);
        assert_true(f->allowed_listener >= 0);
        f->target.port = port_of(f->allowed_listener);
        f->refused_listener = try_listen(0x7F000001, f->target.port, 8);
        if (f->refused_listener < 0)
            close(f->allowed_listener);
    }
    assert_true(f->refused_listener >= 0);
}

// A loop runs once, so a pool that is to begin anew gets a new one.
static void open_pool(struct fixture *f)
{
    assert_int_equal(ch_loop_new(0, &f->loop), CH_OK);
    assert_int_equal(ch_timer_start(f->loop, &f->timer, TICK_MS, tick, f), CH_OK);
    const struct ch_upstream_settings settings = {
        .idle_max = 2, .connect_ms = CONNECT_MS, .allowed = &f->allowed};
    assert_int_equal(ch_resolver_start(1, &f->resolver), CH_OK);
    assert_int_equal(ch_upstream_pool_new(f->loop, f->resolver, &settings, &f->pool), CH_OK);
}

static void close_pool(struct fixture *f)
{
    if (f->upstream)
        ch_upstream_release(f->upstream, false);
    f->upstream = NULL;
    ch_resolver_stop(f->resolver);
    ch_loop_settle(f->loop);
    ch_upstream_pool_free(f->pool);
    ch_timer_stop(&f->timer);
    ch_loop_free(f->loop);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->target = (struct ch_upstream_target){
        .id = 1, .group = 1, .name = "provider", .host = "api.example.com"};
    assert_int_equal(ch_cidr_list_parse(CH_SPAN("127.0.0.2"), &f->allowed, NULL), CH_OK);
    open_listeners(f);
    open_pool(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close_pool(f);
    for (unsigned i = 0; i < f->filler_count; i++)
        close(f->fillers[i]);
    if (f->allowed_listener >= 0)
        close(f->allowed_listener);
    if (f->refused_listener >= 0)
        close(f->refused_listener);
    free(f);
    return 0;
}

// One connection from scratch; gives the milliseconds until it was ready or had failed.
static int64_t connect_anew(struct fixture *f)
{
    int64_t began_ns = ch_clock_mono_ns();
    assert_null(f->upstream);
    f->readies = f->ends = f->ticks = 0;
    f->fault = CH_UPSTREAM_NO_FAULT;
    assert_int_equal(ch_upstream_acquire(f->pool, &f->target, &handler, f, &f->upstream), CH_OK);
    ch_loop_run(f->loop);
    assert_true(f->ticks <= TICKS_MAX);
    return (ch_clock_mono_ns() - began_ns) / CH_NS_PER_MS;
}

static unsigned accepted(int listener)
{
    unsigned count = 0;
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0; count++)
        close(fd);
    return count;
}

static void assert_refused(struct fixture *f, enum ch_address_class address_class)
{
    assert_int_equal(f->ends, 1);
    assert_int_equal(f->readies, 0);
    assert_int_equal(f->last_end, CH_PEER_REFUSED);
    assert_int_equal(f->fault, CH_UPSTREAM_ADDRESS_REFUSED);
    assert_int_equal(f->refused_class, address_class);
}

// ---- names that lead inside

static void a_name_for_loopback_is_refused(void **state)
{
    struct fixture *f = *state;
    answer_with("127.0.0.1", NULL);
    connect_anew(f);
    assert_refused(f, CH_ADDRESS_LOOPBACK);
    assert_int_equal(accepted(f->refused_listener), 0);
}

static void a_mapped_address_is_what_it_maps(void **state)
{
    struct fixture *f = *state;
    answer_with("::ffff:127.0.0.1", NULL);
    connect_anew(f);
    assert_refused(f, CH_ADDRESS_LOOPBACK);
    assert_int_equal(accepted(f->refused_listener), 0);
}

static void every_address_of_an_answer_is_judged(void **state)
{
    struct fixture *f = *state;
    service.addresses[0] = "10.0.0.1";
    service.addresses[1] = "169.254.169.254";
    service.addresses[2] = "fe80::1";
    service.addresses[3] = "127.0.0.1";
    service.addresses[4] = "0.0.0.0";
    service.count = 5;
    connect_anew(f);
    assert_refused(f, CH_ADDRESS_UNSPECIFIED); // the last one
    assert_int_equal(accepted(f->refused_listener), 0);
}

static void a_good_address_beside_a_bad_one_is_used(void **state)
{
    struct fixture *f = *state;
    answer_with("127.0.0.1", "127.0.0.2");
    connect_anew(f);
    assert_int_equal(f->readies, 1);
    assert_int_equal(accepted(f->refused_listener), 0);
    assert_int_equal(accepted(f->allowed_listener), 1);
}

static void a_typed_loopback_address_needs_no_permission(void **state)
{
    struct fixture *f = *state;
    strcpy(f->target.host, "127.0.0.1");
    connect_anew(f);
    assert_int_equal(f->readies, 1);
    assert_int_equal(accepted(f->refused_listener), 1);
}

// security.md T9, DNS rebinding: what a name was a moment ago says nothing about what it is now.
static void an_alternating_name_reaches_nothing_inside(void **state)
{
    struct fixture *f = *state;
    unsigned reached = 0;
    for (int i = 0; i < 10; i++) {
        answer_with(i % 2 ? "127.0.0.1" : "127.0.0.2", NULL);
        connect_anew(f);
        reached += f->readies;
        if (i % 2)
            assert_refused(f, CH_ADDRESS_LOOPBACK);
        close_pool(f); // and with it what is known of the name
        open_pool(f);
    }
    assert_int_equal(reached, 5);
    assert_int_equal(accepted(f->allowed_listener), 5);
    assert_int_equal(accepted(f->refused_listener), 0);
}

static void a_dead_address_that_is_allowed_is_no_refusal(void **state)
{
    struct fixture *f = *state;
    close(f->allowed_listener);
    f->allowed_listener = -1;
    answer_with("127.0.0.1", "127.0.0.2");
    connect_anew(f);
    assert_int_equal(f->ends, 1);
    assert_int_equal(f->last_end, CH_PEER_REFUSED);
    assert_int_equal(f->fault, CH_UPSTREAM_NO_FAULT);
}

// ---- addresses that are silent

// Fills the queue of connections nobody accepts: the kernel drops every further SYN, as a host does
// that swallows packets.
static void make_silent(struct fixture *f, uint32_t host, int *listener)
{
    struct sockaddr_in address = loopback(host, f->target.port);
    close(*listener);
    *listener = try_listen(host, f->target.port, 0);
    assert_true(*listener >= 0);
    for (int i = 0; i < 4; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        f->fillers[f->filler_count++] = fd;
        if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
            assert_int_equal(errno, EINPROGRESS);
        usleep(20000);
    }
    struct pollfd last = {.fd = f->fillers[f->filler_count - 1], .events = POLLOUT};
    assert_int_equal(poll(&last, 1, 50), 0); // it is silent indeed
}

static void a_silent_address_does_not_hide_the_next(void **state)
{
    struct fixture *f = *state;
    f->allowed = (struct ch_cidr_list){.count = 0};
    assert_int_equal(ch_cidr_list_parse(CH_SPAN("127.0.0.0/8"), &f->allowed, NULL), CH_OK);
    make_silent(f, 0x7F000002, &f->allowed_listener);
    answer_with("127.0.0.2", "127.0.0.1");
    int64_t took_ms = connect_anew(f);
    assert_int_equal(f->readies, 1);
    assert_in_range(took_ms, 200, 1000); // a quarter of a second, not the connect time-out
    assert_int_equal(accepted(f->refused_listener), 1);
}

static void a_dead_address_costs_no_wait(void **state)
{
    struct fixture *f = *state;
    close(f->allowed_listener);
    f->allowed_listener = -1;
    assert_int_equal(ch_cidr_list_parse(CH_SPAN("127.0.0.0/8"), &f->allowed, NULL), CH_OK);
    answer_with("127.0.0.2", "127.0.0.1");
    int64_t took_ms = connect_anew(f);
    assert_int_equal(f->readies, 1);
    assert_in_range(took_ms, 0, 200);
}

static void silence_everywhere_ends_at_the_deadline(void **state)
{
    struct fixture *f = *state;
    make_silent(f, 0x7F000002, &f->allowed_listener);
    answer_with("127.0.0.2", NULL);
    int64_t took_ms = connect_anew(f);
    assert_int_equal(f->ends, 1);
    assert_int_equal(f->last_end, CH_PEER_TIMEOUT);
    assert_in_range(took_ms, CONNECT_MS, CONNECT_MS + 1000);
}

static void giving_up_in_the_middle_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    make_silent(f, 0x7F000002, &f->allowed_listener);
    strcpy(f->target.host, "127.0.0.2");
    assert_int_equal(ch_upstream_acquire(f->pool, &f->target, &handler, f, &f->upstream), CH_OK);
    assert_non_null(f->upstream->dial);
    ch_upstream_release(f->upstream, false);
    f->upstream = NULL;
    ch_loop_settle(f->loop);
    assert_int_equal(f->readies + f->ends, 0);
}

// ---- settings that change

static void new_settings_close_what_is_idle(void **state)
{
    struct fixture *f = *state;
    const struct ch_upstream_settings settings = {.idle_max = 2, .connect_ms = CONNECT_MS};
    strcpy(f->target.host, "127.0.0.1");
    connect_anew(f);
    ch_upstream_release(f->upstream, true);
    f->upstream = NULL;
    assert_int_equal(ch_upstream_pool_idle(f->pool), 1);
    ch_upstream_pool_set(f->pool, &settings);
    assert_int_equal(ch_upstream_pool_idle(f->pool), 0);
}

static void a_connection_of_older_settings_is_not_kept(void **state)
{
    struct fixture *f = *state;
    const struct ch_upstream_settings settings = {.idle_max = 2, .connect_ms = CONNECT_MS};
    strcpy(f->target.host, "127.0.0.1");
    connect_anew(f);
    ch_upstream_pool_set(f->pool, &settings);
    assert_true(f->upstream->is_ready); // its exchange goes on
    ch_upstream_release(f->upstream, true);
    f->upstream = NULL;
    assert_int_equal(ch_upstream_pool_idle(f->pool), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_name_for_loopback_is_refused),
        TEST(a_mapped_address_is_what_it_maps),
        TEST(every_address_of_an_answer_is_judged),
        TEST(a_good_address_beside_a_bad_one_is_used),
        TEST(a_typed_loopback_address_needs_no_permission),
        TEST(an_alternating_name_reaches_nothing_inside),
        TEST(a_dead_address_that_is_allowed_is_no_refusal),
        TEST(a_silent_address_does_not_hide_the_next),
        TEST(a_dead_address_costs_no_wait),
        TEST(silence_everywhere_ends_at_the_deadline),
        TEST(giving_up_in_the_middle_leaves_nothing),
        TEST(new_settings_close_what_is_idle),
        TEST(a_connection_of_older_settings_is_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
