// SPDX-License-Identifier: Apache-2.0
// Names to addresses without waiting: one look-up a name however many want it, and a name that
// hangs holds up nobody but those who asked for it.
#include "net/resolver.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "names.h"

#define WAITERS   20
#define TICK_MS   10
#define TICKS_MAX 500 // 5 s: a test that hangs fails instead

struct fixture;

struct wait {
    struct fixture *f;
    unsigned answers, count; // how often it was answered, and with how many addresses
    uint16_t port;
};

struct fixture {
    struct ch_loop *loop;
    struct ch_resolver *resolver;
    struct ch_timer timer;
    struct wait waits[WAITERS];
    unsigned answers, ticks, step;
    void (*on_tick)(struct fixture *f);
};

static void on_resolved(void *arg, const struct ch_addresses *addresses)
{
    struct wait *wait = arg;
    wait->answers++;
    wait->count = addresses->count;
    wait->port = ntohs(addresses->address[0].sin6_port);
    wait->f->answers++;
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

static enum ch_err look_up(struct fixture *f, unsigned at, const char *host)
{
    struct ch_addresses addresses;
    f->waits[at].f = f;
    return ch_resolver_lookup(f->resolver, f->loop, host, (uint16_t)(1000 + at), on_resolved,
                              &f->waits[at], &addresses);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    names_reset();
    assert_int_equal(ch_loop_new(0, &f->loop), CH_OK);
    assert_int_equal(ch_resolver_start(2, &f->resolver), CH_OK);
    assert_int_equal(ch_timer_start(f->loop, &f->timer, TICK_MS, tick, f), CH_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ch_timer_stop(&f->timer);
    ch_resolver_stop(f->resolver);
    ch_loop_settle(f->loop);
    ch_loop_free(f->loop);
    names_open();
    while (names_hanging())
        usleep(1000);
    free(f);
    return 0;
}

static void literal_addresses_ask_nobody(void **state)
{
    struct fixture *f = *state;
    struct ch_addresses found;
    static const char *const hosts[] = {"127.0.0.1", "::1", "localhost"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        assert_int_equal(
            ch_resolver_lookup(f->resolver, f->loop, hosts[i], 443, on_resolved, NULL, &found),
            CH_OK);
        assert_int_equal(found.count, 1);
        assert_int_equal(ntohs(found.address[0].sin6_port), 443);
    }
    assert_int_equal(names_asked(), 0);
}

static void stop_when_all_answered(struct fixture *f)
{
    if (f->ticks == 5)
        names_open();
    if (f->answers >= WAITERS)
        ch_loop_stop(f->loop);
}

static void waits_for_one_name_share_one_look_up(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < WAITERS; i++)
        assert_int_equal(look_up(f, i, "slow.example"), CH_ERR_AGAIN);
    run(f, stop_when_all_answered);
    assert_int_equal(names_asked(), 1);
    for (unsigned i = 0; i < WAITERS; i++) {
        assert_int_equal(f->waits[i].answers, 1);
        assert_int_equal(f->waits[i].count, 1);
        assert_int_equal(f->waits[i].port, 1000 + i);
    }
}

static void join_late_then_open(struct fixture *f)
{
    if (f->ticks == 5)
        assert_int_equal(look_up(f, 1, "slow.example"), CH_ERR_AGAIN);
    if (f->ticks == 10)
        names_open();
    if (f->answers == 2)
        ch_loop_stop(f->loop);
}

static void a_look_up_under_way_is_joined(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(look_up(f, 0, "slow.example"), CH_ERR_AGAIN);
    run(f, join_late_then_open);
    assert_int_equal(names_asked(), 1);
}

static void stop_when_the_quick_ones_answered(struct fixture *f)
{
    if (f->answers == 2)
        ch_loop_stop(f->loop);
}

static void a_hanging_name_holds_up_no_other(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 10; i++) // of one name: they keep one of the two threads
        assert_int_equal(look_up(f, i, "slow.example"), CH_ERR_AGAIN);
    assert_int_equal(look_up(f, 10, "one.example"), CH_ERR_AGAIN);
    assert_int_equal(look_up(f, 11, "two.example"), CH_ERR_AGAIN);
    run(f, stop_when_the_quick_ones_answered);
    assert_int_equal(f->waits[10].count, 1);
    assert_int_equal(f->waits[11].count, 1);
    assert_int_equal(f->waits[0].answers, 0);
}

static void ask_again_when_answered(struct fixture *f)
{
    if (f->answers == 0)
        return;
    assert_int_equal(look_up(f, 1, "one.example"), CH_OK);
    assert_int_equal(look_up(f, 2, "one.example"), CH_OK);
    ch_loop_stop(f->loop);
}

static void a_known_name_answers_at_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(look_up(f, 0, "one.example"), CH_ERR_AGAIN);
    run(f, ask_again_when_answered);
    assert_int_equal(names_asked(), 1);
    assert_int_equal(f->answers, 1);
}

static void ask_again_when_failed(struct fixture *f)
{
    if (f->answers == 1 && f->step++ == 0)
        assert_int_equal(look_up(f, 1, "bad.example"), CH_ERR_AGAIN);
    if (f->answers == 2)
        ch_loop_stop(f->loop);
}

static void a_failure_is_told_and_not_remembered(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(look_up(f, 0, "bad.example"), CH_ERR_AGAIN);
    run(f, ask_again_when_failed);
    assert_int_equal(f->waits[0].count, 0);
    assert_int_equal(f->waits[1].count, 0);
    assert_int_equal(names_asked(), 2);
}

static void stop_resolver_while_it_hangs(struct fixture *f)
{
    if (!names_hanging())
        return;
    int64_t began_ns = ch_clock_mono_ns();
    ch_resolver_stop(f->resolver);
    f->resolver = NULL;
    assert_true(ch_clock_mono_ns() - began_ns < 1000 * CH_NS_PER_MS);
    ch_loop_stop(f->loop);
}

static void stopping_does_not_wait_for_a_hanging_name(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(look_up(f, 0, "slow.example"), CH_ERR_AGAIN);
    run(f, stop_resolver_while_it_hangs);
    assert_int_equal(f->answers, 0);
}

static void names_too_long_are_refused(void **state)
{
    struct fixture *f = *state;
    char host[300];
    memset(host, 'a', sizeof host);
    host[sizeof host - 1] = '\0';
    assert_int_equal(look_up(f, 0, host), CH_ERR_INVALID);
    assert_int_equal(names_asked(), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(literal_addresses_ask_nobody),
        TEST(waits_for_one_name_share_one_look_up),
        TEST(a_look_up_under_way_is_joined),
        TEST(a_hanging_name_holds_up_no_other),
        TEST(a_known_name_answers_at_once),
        TEST(a_failure_is_told_and_not_remembered),
        TEST(stopping_does_not_wait_for_a_hanging_name),
        TEST(names_too_long_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
