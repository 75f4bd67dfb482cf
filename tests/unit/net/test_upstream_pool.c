// SPDX-License-Identifier: Apache-2.0
// The pool against a listening socket: which idle connections are used again, and how a connection
// that cannot be had ends.
//
// A timer plays the loop's other callbacks. What the provider does inside such a callback the loop
// cannot have heard of when the same callback asks for a connection: the pool has to look itself.
#include "net/upstream_pool.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "names.h"

#define TICK_MS    10
#define TICKS_MAX  500 // 5 s: a test that hangs fails instead
#define CONNECT_MS 300
#define IDLE_TICKS 4 // well above the 10 ms for which an idle connection is not looked at

struct fixture {
    struct ch_loop *loop;
    struct ch_resolver *resolver;
    struct ch_upstream_pool *pool;
    struct ch_timer timer;
    struct ch_upstream_target target;
    struct ch_upstream *upstream;
    int listener, provider; // the provider's end of the first connection
    int first_fd;
    unsigned readies, ends, ticks, idle_ticks;
    enum ch_peer_end last_end;
    int64_t began_ns, ended_ns;
    void (*on_tick)(struct fixture *f);
    void (*meanwhile)(struct fixture *f); // what happens to the idle connection
};

static void give_back(struct fixture *f, bool is_clean)
{
    ch_upstream_release(f->upstream, is_clean);
    f->upstream = NULL;
}

static void on_ready(void *arg)
{
    struct fixture *f = arg;
    f->readies++;
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
    f->ended_ns = ch_clock_mono_ns();
    give_back(f, false);
}

static const struct ch_peer_handler handler = {on_ready, on_bytes, on_writable, on_end};

static enum ch_err acquire(struct fixture *f)
{
    return ch_upstream_acquire(f->pool, &f->target, &handler, f, &f->upstream);
}

static void tick(void *arg)
{
    struct fixture *f = arg;
    if (++f->ticks > TICKS_MAX)
        ch_loop_stop(f->loop);
    f->on_tick(f);
}

static void run(struct fixture *f, void (*on_tick)(struct fixture *f))
{
    f->on_tick = on_tick;
    ch_loop_run(f->loop);
    assert_true(f->ticks <= TICKS_MAX);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    names_reset();
    f->provider = -1;
    f->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(f->listener, 8), 0);
    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&address, &size), 0);
    f->target = (struct ch_upstream_target){
        .id = 1, .group = 1, .host = "127.0.0.1", .port = ntohs(address.sin_port)};
    assert_int_equal(ch_loop_new(0, &f->loop), CH_OK);
    assert_int_equal(ch_resolver_start(1, &f->resolver), CH_OK);
    const struct ch_upstream_settings settings = {.idle_max = 2, .connect_ms = CONNECT_MS};
    assert_int_equal(ch_upstream_pool_new(f->loop, f->resolver, &settings, &f->pool), CH_OK);
    assert_int_equal(ch_timer_start(f->loop, &f->timer, TICK_MS, tick, f), CH_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->upstream)
        give_back(f, false);
    ch_timer_stop(&f->timer);
    ch_resolver_stop(f->resolver);
    ch_loop_settle(f->loop);
    ch_upstream_pool_free(f->pool);
    ch_loop_free(f->loop);
    if (f->listener >= 0)
        close(f->listener);
    if (f->provider >= 0)
        close(f->provider);
    names_open();
    while (names_hanging())
        usleep(1000);
    free(f);
    return 0;
}

// ---- idle connections

// Acquires, gives back clean, and acquires again when the connection has been idle for a while and
// the thing under test has happened to it.
static void use_twice(struct fixture *f)
{
    if (f->readies == 1 && f->upstream) {
        f->provider = accept(f->listener, NULL, NULL);
        f->first_fd = f->upstream->peer.fd;
        give_back(f, true);
        return;
    }
    if (f->readies != 1 || ++f->idle_ticks < IDLE_TICKS)
        return;
    f->meanwhile(f);
    assert_int_equal(acquire(f), CH_OK);
    ch_loop_stop(f->loop);
}

static void wait_until_readable(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, 2000), 1);
}

static void nothing(struct fixture *f)
{
    assert_int_equal(ch_upstream_pool_idle(f->pool), 1);
}

static void provider_closes(struct fixture *f)
{
    assert_int_equal(ch_upstream_pool_idle(f->pool), 1);
    close(f->provider);
    f->provider = -1;
    wait_until_readable(f->first_fd);
}

static void provider_speaks(struct fixture *f)
{
    assert_int_equal(ch_upstream_pool_idle(f->pool), 1);
    assert_int_equal(write(f->provider, "HTTP/1.1 200 OK\r\n\r\n", 19), 19);
    wait_until_readable(f->first_fd);
}

static void provider_resets(struct fixture *f)
{
    struct linger now = {.l_onoff = 1};
    assert_int_equal(ch_upstream_pool_idle(f->pool), 1);
    assert_int_equal(setsockopt(f->provider, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    provider_closes(f);
}

static void key_is_replaced(struct fixture *f)
{
    f->target.id = 2; // same provider, a newer version
}

static void a_silent_connection_is_used_again(void **state)
{
    struct fixture *f = *state;
    f->meanwhile = nothing;
    assert_int_equal(acquire(f), CH_OK);
    run(f, use_twice);
    assert_true(f->upstream->is_ready);
    assert_int_equal(f->upstream->peer.fd, f->first_fd);
    assert_int_equal(ch_upstream_pool_idle(f->pool), 0);
}

static void expect_a_new_connection(struct fixture *f)
{
    assert_int_equal(acquire(f), CH_OK);
    run(f, use_twice);
    assert_false(f->upstream->is_ready);
    assert_false(f->upstream->was_reused);
    assert_int_equal(ch_upstream_pool_idle(f->pool), 0);
    assert_int_equal(ch_loop_peer_count(f->loop),
                     0); // the old one is closed, the new one on its way
}

static void a_connection_that_the_provider_closed_is_not_used(void **state)
{
    struct fixture *f = *state;
    f->meanwhile = provider_closes;
    expect_a_new_connection(f);
}

static void a_connection_with_stray_bytes_is_not_used(void **state)
{
    struct fixture *f = *state;
    f->meanwhile = provider_speaks;
    expect_a_new_connection(f);
}

static void a_connection_that_was_reset_is_not_used(void **state)
{
    struct fixture *f = *state;
    f->meanwhile = provider_resets;
    expect_a_new_connection(f);
}

static void a_connection_of_an_older_version_is_closed(void **state)
{
    struct fixture *f = *state;
    f->meanwhile = key_is_replaced;
    expect_a_new_connection(f);
}

static void a_dirty_connection_is_not_kept(void **state)
{
    struct fixture *f = *state;
    f->meanwhile = nothing;
    assert_int_equal(acquire(f), CH_OK);
    give_back(f, false);
    assert_int_equal(ch_upstream_pool_idle(f->pool), 0);
    assert_int_equal(ch_loop_peer_count(f->loop), 0);
}

// ---- connections that cannot be had

static void stop_when_ended(struct fixture *f)
{
    if (f->ends)
        ch_loop_stop(f->loop);
}

static void a_refused_connection_ends_from_the_loop(void **state)
{
    struct fixture *f = *state;
    close(f->listener);
    f->listener = -1;
    assert_int_equal(acquire(f), CH_OK);
    assert_int_equal(f->ends, 0);
    run(f, stop_when_ended);
    assert_int_equal(f->last_end, CH_PEER_REFUSED);
}

static void name_target(struct fixture *f, const char *host)
{
    ch_span_copy(ch_span_of(host), f->target.host, sizeof f->target.host);
}

static void a_name_that_does_not_exist_is_a_refusal(void **state)
{
    struct fixture *f = *state;
    name_target(f, "bad.example");
    assert_int_equal(acquire(f), CH_OK);
    run(f, stop_when_ended);
    assert_int_equal(f->last_end, CH_PEER_REFUSED);
}

// Goes on after the deadline until the late answer has come.
static void open_late(struct fixture *f)
{
    if (f->ends)
        names_open();
    if (f->ends && ++f->idle_ticks > 20)
        ch_loop_stop(f->loop);
}

static void a_name_that_hangs_ends_at_the_deadline(void **state)
{
    struct fixture *f = *state;
    name_target(f, "slow.example");
    f->began_ns = ch_clock_mono_ns();
    assert_int_equal(acquire(f), CH_OK);
    run(f, open_late);
    assert_int_equal(f->ends, 1); // the late answer finds nobody
    assert_int_equal(f->last_end, CH_PEER_TIMEOUT);
    int64_t took_ms = (f->ended_ns - f->began_ns) / CH_NS_PER_MS;
    assert_in_range(took_ms, CONNECT_MS, CONNECT_MS + 1500);
    assert_int_equal(f->readies, 0);
}

static void give_up_then_open(struct fixture *f)
{
    if (f->ticks == 3)
        give_back(f, false);
    if (f->ticks == 5)
        names_open();
    if (f->ticks == 20)
        ch_loop_stop(f->loop);
}

static void a_wait_that_is_given_up_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    name_target(f, "slow.example");
    assert_int_equal(acquire(f), CH_OK);
    run(f, give_up_then_open);
    assert_int_equal(f->ends + f->readies, 0);
    assert_int_equal(ch_loop_peer_count(f->loop), 0);
}

// ---- memory

static bool memory_is_out;

static void *allocate(size_t size)
{
    return memory_is_out ? NULL : malloc(size);
}

static void *reallocate(void *old, size_t size)
{
    return memory_is_out ? NULL : realloc(old, size);
}

static void open_and_stop(struct fixture *f)
{
    if (f->ticks == 3)
        names_open();
    if (f->ticks == 20)
        ch_loop_stop(f->loop);
}

static void no_memory_for_the_wait_is_told_at_once(void **state)
{
    struct fixture *f = *state;
    name_target(f, "slow.example");
    memory_is_out = true; // for libevent, which the timer of the wait comes from
    enum ch_err err = acquire(f);
    memory_is_out = false;
    assert_int_equal(err, CH_ERR_NOMEM);
    run(f, open_and_stop); // the look-up under way answers into what must still be there
    assert_int_equal(f->ends + f->readies, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_silent_connection_is_used_again),
        TEST(a_connection_that_the_provider_closed_is_not_used),
        TEST(a_connection_with_stray_bytes_is_not_used),
        TEST(a_connection_that_was_reset_is_not_used),
        TEST(a_connection_of_an_older_version_is_closed),
        TEST(a_dirty_connection_is_not_kept),
        TEST(a_refused_connection_ends_from_the_loop),
        TEST(a_name_that_does_not_exist_is_a_refusal),
        TEST(a_name_that_hangs_ends_at_the_deadline),
        TEST(a_wait_that_is_given_up_leaves_nothing),
        TEST(no_memory_for_the_wait_is_told_at_once),
    };
    event_set_mem_functions(allocate, reallocate, free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
