// SPDX-License-Identifier: Apache-2.0
#include "domain/rate_limit.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define S  INT64_C(1000000000)
#define MS INT64_C(1000000)
#define T0 (12345 * S) // some instant of the monotonic clock

static uint64_t random_below(uint64_t *seed, uint64_t below)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed % below;
}

static struct ch_rate_limits limits_of(int64_t rpm, int64_t tpm, int64_t concurrency)
{
    return (struct ch_rate_limits){{rpm, tpm, concurrency}};
}

static bool admit(struct ch_rate_counters *counters, struct ch_rate_limits limits, int64_t tokens,
                  int64_t now_ns, struct ch_rate_claim *claim_out, struct ch_rate_refusal *refusal)
{
    *claim_out = (struct ch_rate_claim){.counters = counters, .limits = limits};
    return ch_rate_limit_admit(claim_out, 1, tokens, now_ns, refusal) == CH_OK;
}

// Admits, and ends at once with exactly the tokens that were reserved.
static bool call(struct ch_rate_counters *counters, struct ch_rate_limits limits, int64_t tokens,
                 int64_t now_ns)
{
    struct ch_rate_claim claim;
    struct ch_rate_refusal refusal;
    if (!admit(counters, limits, tokens, now_ns, &claim, &refusal))
        return false;
    ch_rate_limit_settle(&claim, tokens, now_ns);
    return true;
}

static int calls_that_pass(struct ch_rate_counters *counters, struct ch_rate_limits limits,
                           int tries, int64_t now_ns)
{
    int passed = 0;
    for (int i = 0; i < tries; i++)
        passed += call(counters, limits, 1, now_ns);
    return passed;
}

static void expect_view(struct ch_rate_counters *counters, struct ch_rate_limits limits,
                        enum ch_rate_kind kind, int64_t now_ns, int64_t remaining, int64_t reset_ms)
{
    struct ch_rate_view view = ch_rate_limit_look(counters, &limits, kind, now_ns);
    assert_int_equal(view.limit, limits.limit[kind]);
    assert_int_equal(view.remaining, remaining);
    assert_int_equal(view.reset_ms, reset_ms);
}

// ----

static void a_burst_is_the_limit_and_not_one_more(void **state)
{
    (void)state;
    for (int limit = 1; limit < 2000; limit += limit < 70 ? 1 : 61) {
        struct ch_rate_counters counters = {0};
        assert_int_equal(calls_that_pass(&counters, limits_of(limit, 0, 0), limit + 5, T0), limit);
        expect_view(&counters, limits_of(limit, 0, 0), CH_RATE_REQUESTS, T0, 0, 60000);
    }
}

static void no_window_has_an_edge(void **state)
{
    (void)state;
    struct ch_rate_counters counters = {0};
    struct ch_rate_limits limits = limits_of(60, 0, 0);
    // Where a minute of the wall clock would end and a fixed window would begin anew.
    assert_int_equal(calls_that_pass(&counters, limits, 100, 60 * S - 1), 60);
    assert_int_equal(calls_that_pass(&counters, limits, 100, 60 * S), 0);
    assert_int_equal(calls_that_pass(&counters, limits, 100, 61 * S), 1);
    assert_int_equal(calls_that_pass(&counters, limits, 100, 71 * S), 10);
    assert_int_equal(calls_that_pass(&counters, limits, 100, 131 * S), 60);
}

static void a_refused_call_costs_nothing(void **state)
{
    (void)state;
    struct ch_rate_counters counters = {0};
    struct ch_rate_limits limits = limits_of(60, 0, 0);
    calls_that_pass(&counters, limits, 60, T0);
    for (int64_t ns = T0; ns < T0 + S; ns += MS)
        assert_false(call(&counters, limits, 1, ns));
    assert_true(call(&counters, limits, 1, T0 + S));
}

static void the_wait_is_the_least_that_helps(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 20000; round++) {
        struct ch_rate_counters counters = {0};
        struct ch_rate_limits limits = limits_of(1 + (int64_t)random_below(&seed, 100),
                                                 1 + (int64_t)random_below(&seed, 1000000), 0);
        struct ch_rate_claim claim;
        struct ch_rate_refusal refusal = {.retry_after_ms = 0};
        int64_t tokens = 1 + (int64_t)random_below(&seed, (uint64_t)limits.limit[CH_RATE_TOKENS]);
        while (admit(&counters, limits, tokens, T0, &claim, &refusal))
            ;
        int64_t wait_ms = refusal.retry_after_ms;
        assert_in_range(wait_ms, 1, 60000);
        assert_false(call(&counters, limits, tokens, T0 + (wait_ms - 1) * MS));
        assert_true(call(&counters, limits, tokens, T0 + wait_ms * MS));
    }
}

static void what_never_fits_is_said_to(void **state)
{
    (void)state;
    struct ch_rate_counters counters = {0};
    struct ch_rate_claim claim;
    struct ch_rate_refusal refusal;
    assert_false(admit(&counters, limits_of(10, 1000, 0), 1001, T0, &claim, &refusal));
    assert_int_equal(refusal.kind, CH_RATE_TOKENS);
    assert_int_equal(refusal.retry_after_ms, -1);
    assert_null(claim.counters);
    expect_view(&counters, limits_of(10, 1000, 0), CH_RATE_REQUESTS, T0, 10, 0);
    assert_true(call(&counters, limits_of(10, 1000, 0), 1000, T0));
}

static void tokens_are_corrected_both_ways(void **state)
{
    (void)state;
    struct ch_rate_counters counters = {0};
    struct ch_rate_limits limits = limits_of(0, 6000, 0);
    struct ch_rate_claim claim;
    struct ch_rate_refusal refusal;
    assert_true(admit(&counters, limits, 4000, T0, &claim, &refusal));
    expect_view(&counters, limits, CH_RATE_TOKENS, T0, 2000, 40000);
    ch_rate_limit_settle(&claim, 1000, T0 + S);
    expect_view(&counters, limits, CH_RATE_TOKENS, T0 + S, 5100, 9000);
    ch_rate_limit_settle(&claim, 0, T0 + S); // once is once
    expect_view(&counters, limits, CH_RATE_TOKENS, T0 + S, 5100, 9000);

    assert_true(admit(&counters, limits, 1000, T0 + S, &claim, &refusal));
    ch_rate_limit_settle(&claim, 9000, T0 + 2 * S);
    expect_view(&counters, limits, CH_RATE_TOKENS, T0 + 2 * S, 0, 98000);
    assert_false(admit(&counters, limits, 1, T0 + 2 * S, &claim, &refusal));
    assert_int_equal(refusal.retry_after_ms, 38010);
    assert_int_equal(ch_rate_retry_after_s(refusal.retry_after_ms), 39);
}

static void an_old_reservation_is_not_given_back(void **state)
{
    (void)state;
    struct ch_rate_counters counters = {0};
    struct ch_rate_limits limits = limits_of(0, 6000, 0);
    struct ch_rate_claim old;
    struct ch_rate_refusal refusal;
    assert_true(admit(&counters, limits, 6000, T0, &old, &refusal));
    assert_true(call(&counters, limits, 6000, T0 + 60 * S)); // full again, taken whole
    ch_rate_limit_settle(&old, 0, T0 + 60 * S);
    expect_view(&counters, limits, CH_RATE_TOKENS, T0 + 60 * S, 0, 60000);
}

static void absurd_numbers_end_at_a_day(void **state)
{
    (void)state;
    struct ch_rate_counters counters = {0};
    struct ch_rate_limits limits = limits_of(0, 1, 0);
    struct ch_rate_claim claim;
    struct ch_rate_refusal refusal;
    for (int i = 0; i < 3; i++) {
        claim = (struct ch_rate_claim){.counters = &counters, .limits = limits};
        assert_int_equal(ch_rate_limit_admit(&claim, 1, -5, T0 + i * 86400 * S, &refusal), CH_OK);
        ch_rate_limit_settle(&claim, INT64_MAX, T0 + i * 86400 * S);
        // A second one on top, which was in flight beside it.
        claim = (struct ch_rate_claim){.counters = &counters, .limits = limits};
        atomic_fetch_add(&counters.in_flight, 1);
        ch_rate_limit_settle(&claim, INT64_MAX, T0 + i * 86400 * S);
        expect_view(&counters, limits, CH_RATE_TOKENS, T0 + i * 86400 * S, 0, 86400000);
        assert_false(admit(&counters, limits, 1, T0 + i * 86400 * S, &claim, &refusal));
        claim = (struct ch_rate_claim){.counters = &counters, .limits = limits};
        // Nothing is refused that takes nothing, once the bucket is no worse than empty.
        assert_int_equal(
            ch_rate_limit_admit(&claim, 1, 0, T0 + (i + 1) * 86400 * S - 60 * S, &refusal), CH_OK);
        ch_rate_limit_settle(&claim, 0, T0 + (i + 1) * 86400 * S - 60 * S);
    }
    assert_false(admit(&counters, limits, INT64_MAX, T0, &claim, &refusal));
    assert_true(call(&(struct ch_rate_counters){0}, limits_of(INT64_MAX, INT64_MAX, INT64_MAX),
                     INT64_MAX, T0));
    assert_int_equal(ch_rate_retry_after_s(INT64_MAX), 60);
    assert_int_equal(ch_rate_retry_after_s(-1), 60);
    assert_int_equal(ch_rate_retry_after_s(0), 1);
}

static void a_limit_can_be_edited_at_any_time(void **state)
{
    (void)state;
    struct ch_rate_counters counters = {0};
    struct ch_rate_claim claim;
    struct ch_rate_refusal refusal;
    assert_true(admit(&counters, limits_of(0, 1000, 0), 1000, T0, &claim, &refusal));
    assert_false(call(&counters, limits_of(0, 10, 0), 1, T0));
    // Given back at the rate at which it was taken.
    ch_rate_limit_settle(&claim, 500, T0);
    expect_view(&counters, limits_of(0, 10, 0), CH_RATE_TOKENS, T0, 5, 30000);
    expect_view(&counters, limits_of(0, 1000, 0), CH_RATE_TOKENS, T0, 500, 30000);
    // A limit that comes while exchanges are in flight counts them.
    assert_true(admit(&counters, limits_of(0, 0, 0), 0, T0, &claim, &refusal));
    assert_false(call(&counters, limits_of(0, 0, 1), 0, T0));
    ch_rate_limit_settle(&claim, 0, T0);
    assert_true(call(&counters, limits_of(0, 0, 1), 0, T0));
}

static void places_in_flight_are_counted(void **state)
{
    (void)state;
    struct ch_rate_counters counters = {0};
    struct ch_rate_limits limits = limits_of(0, 0, 2);
    struct ch_rate_claim a, b, c;
    struct ch_rate_refusal refusal;
    assert_true(admit(&counters, limits, 0, T0, &a, &refusal));
    assert_true(admit(&counters, limits, 0, T0, &b, &refusal));
    expect_view(&counters, limits, CH_RATE_IN_FLIGHT, T0, 0, 0);
    assert_false(admit(&counters, limits, 0, T0, &c, &refusal));
    assert_int_equal(refusal.kind, CH_RATE_IN_FLIGHT);
    assert_int_equal(refusal.retry_after_ms, 1000);
    ch_rate_limit_settle(&a, 0, T0);
    ch_rate_limit_settle(&a, 0, T0);
    expect_view(&counters, limits, CH_RATE_IN_FLIGHT, T0, 1, 0);
    assert_true(admit(&counters, limits, 0, T0, &c, &refusal));
    ch_rate_limit_settle(&b, 0, T0);
    ch_rate_limit_settle(&c, 0, T0);
    expect_view(&counters, limits, CH_RATE_IN_FLIGHT, T0, 2, 0);
}

static void all_limits_of_all_subjects_or_none(void **state)
{
    (void)state;
    struct ch_rate_counters key = {0}, team = {0};
    struct ch_rate_limits key_limits = limits_of(10, 1000, 5), team_limits = limits_of(10, 1000, 1);
    struct ch_rate_claim first, claims[2];
    struct ch_rate_refusal refusal;
    assert_true(admit(&team, team_limits, 0, T0, &first, &refusal));
    claims[0] = (struct ch_rate_claim){.counters = &key, .limits = key_limits};
    claims[1] = (struct ch_rate_claim){.counters = &team, .limits = team_limits};
    assert_int_equal(ch_rate_limit_admit(claims, 2, 100, T0, &refusal), CH_ERR_LIMIT);
    assert_int_equal(refusal.claim, 1);
    assert_int_equal(refusal.kind, CH_RATE_IN_FLIGHT);
    assert_string_equal(ch_rate_kind_name(refusal.kind), "concurrency");
    expect_view(&key, key_limits, CH_RATE_REQUESTS, T0, 10, 0);
    expect_view(&key, key_limits, CH_RATE_TOKENS, T0, 1000, 0);
    expect_view(&key, key_limits, CH_RATE_IN_FLIGHT, T0, 5, 0);
    expect_view(&team, team_limits, CH_RATE_REQUESTS, T0, 9, 6000);
    expect_view(&team, team_limits, CH_RATE_TOKENS, T0, 1000, 0);
    for (int i = 0; i < 2; i++)
        ch_rate_limit_settle(&claims[i], 1000000, T0); // empty: nothing happens
    ch_rate_limit_settle(&first, 0, T0);
    expect_view(&team, team_limits, CH_RATE_IN_FLIGHT, T0, 1, 0);
}

// In any stretch of a random history the passed calls stay under limit × (1 + w/60).
static void no_stretch_of_time_holds_more_than_it_may(void **state)
{
    (void)state;
    enum { CALLS = 600 };
    uint64_t seed = 11;
    for (int round = 0; round < 60; round++) {
        struct ch_rate_counters counters = {0};
        int64_t limit = 1 + (int64_t)random_below(&seed, 200), now = T0, at[CALLS];
        for (int passed = 0; passed < CALLS;) {
            if (random_below(&seed, 3) == 0)
                now += (int64_t)random_below(&seed, (uint64_t)(90 * S / limit));
            if (call(&counters, limits_of(limit, 0, 0), 1, now))
                at[passed++] = now;
        }
        for (int i = 0; i < CALLS; i++)
            for (int j = i; j < CALLS; j++)
                assert_true((__int128)(j - i + 1) * 60 * S <=
                            (__int128)limit * (60 * S + at[j] - at[i] + CALLS));
    }
}

// ---- Threads

#define THREADS 4
#define ROUNDS  200000

struct shared {
    struct ch_rate_counters key, team;
    struct ch_rate_limits limits;
    size_t count; // 1: the key alone
    _Atomic int64_t inside, passed;
    _Atomic int ready;
};

static void *hammer(void *arg)
{
    struct shared *shared = arg;
    static _Atomic uint64_t seeds = 1;
    uint64_t seed = atomic_fetch_add(&seeds, 1) * 0x9E3779B97F4A7C15u;
    atomic_fetch_add(&shared->ready, 1);
    while (atomic_load(&shared->ready) < THREADS)
        sched_yield();
    for (int i = 0; i < ROUNDS; i++) {
        struct ch_rate_claim claims[2] = {{.counters = &shared->key, .limits = shared->limits},
                                          {.counters = &shared->team, .limits = shared->limits}};
        struct ch_rate_refusal refusal;
        int64_t tokens = (int64_t)random_below(&seed, 50);
        if (ch_rate_limit_admit(claims, shared->count, tokens, T0, &refusal))
            continue;
        int64_t most = shared->limits.limit[CH_RATE_IN_FLIGHT];
        if (atomic_fetch_add(&shared->inside, 1) >= most && most > 0)
            abort();
        atomic_fetch_add(&shared->passed, 1);
        atomic_fetch_sub(&shared->inside, 1);
        for (size_t k = 0; k < shared->count; k++)
            ch_rate_limit_settle(&claims[k], tokens, T0);
    }
    return NULL;
}

static int64_t divide_up(int64_t value, int64_t by)
{
    return (value + by - 1) / by;
}

static int64_t run_threads(struct shared *shared)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, shared), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&shared->key.in_flight), 0);
    assert_int_equal(atomic_load(&shared->team.in_flight), 0);
    return atomic_load(&shared->passed);
}

static void threads_never_take_more_than_the_limit(void **state)
{
    (void)state;
    struct shared shared;
    // Fewer than are tried: exactly the limit passes.
    for (int i = 0; i < 4; i++) {
        shared = (struct shared){.limits = limits_of(600000, 0, 0), .count = 1};
        assert_int_equal(run_threads(&shared), 600000);
        expect_view(&shared.key, shared.limits, CH_RATE_REQUESTS, T0, 0, 60000);

        shared = (struct shared){.limits = limits_of(0, 0, 2), .count = 1};
        assert_true(run_threads(&shared) > 0);
    }

    // What a refusal by the one undoes on the other leaves nothing behind.
    shared = (struct shared){.limits = limits_of(600000, 6000000, 1), .count = 2};
    int64_t passed = run_threads(&shared);
    expect_view(&shared.key, shared.limits, CH_RATE_REQUESTS, T0, 600000 - passed,
                divide_up(passed, 10));
    expect_view(&shared.team, shared.limits, CH_RATE_REQUESTS, T0, 600000 - passed,
                divide_up(passed, 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_is_the_limit_and_not_one_more),
        cmocka_unit_test(no_window_has_an_edge),
        cmocka_unit_test(a_refused_call_costs_nothing),
        cmocka_unit_test(the_wait_is_the_least_that_helps),
        cmocka_unit_test(what_never_fits_is_said_to),
        cmocka_unit_test(tokens_are_corrected_both_ways),
        cmocka_unit_test(an_old_reservation_is_not_given_back),
        cmocka_unit_test(absurd_numbers_end_at_a_day),
        cmocka_unit_test(a_limit_can_be_edited_at_any_time),
        cmocka_unit_test(places_in_flight_are_counted),
        cmocka_unit_test(all_limits_of_all_subjects_or_none),
        cmocka_unit_test(no_stretch_of_time_holds_more_than_it_may),
        cmocka_unit_test(threads_never_take_more_than_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
