// SPDX-License-Identifier: Apache-2.0
#include "app/watchdog.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS CH_NS_PER_MS

static void loops_that_answer_are_well(void **state)
{
    (void)state;
    struct ch_watchdog watchdog;
    ch_watchdog_init(&watchdog, 7, 1000 * MS);
    assert_int_equal(ch_watchdog_judge(&watchdog, 0, 8, 1100 * MS), CH_HEALTH_GOOD);
    assert_int_equal(ch_watchdog_judge(&watchdog, 999 * MS, 9, 1200 * MS), CH_HEALTH_GOOD);
    assert_int_equal(ch_watchdog_judge(&watchdog, 1000 * MS, 9, 1300 * MS), CH_HEALTH_GOOD);
}

static void a_loop_that_does_not_answer_is_stuck(void **state)
{
    (void)state;
    struct ch_watchdog watchdog;
    ch_watchdog_init(&watchdog, 7, 0);
    assert_int_equal(ch_watchdog_judge(&watchdog, 1001 * MS, 8, 2000 * MS), CH_HEALTH_LOOP_STUCK);
    assert_int_equal(ch_watchdog_judge(&watchdog, 5000 * MS, 9, 6000 * MS), CH_HEALTH_LOOP_STUCK);
    assert_int_equal(ch_watchdog_judge(&watchdog, 10 * MS, 10, 6100 * MS), CH_HEALTH_GOOD);
}

static void a_writer_may_take_its_time_but_not_for_ever(void **state)
{
    (void)state;
    struct ch_watchdog watchdog;
    ch_watchdog_init(&watchdog, 7, 0);
    assert_int_equal(ch_watchdog_judge(&watchdog, 0, 7, 60000 * MS), CH_HEALTH_GOOD);
    assert_int_equal(ch_watchdog_judge(&watchdog, 0, 7, 60001 * MS), CH_HEALTH_WRITER_STUCK);
    assert_int_equal(ch_watchdog_judge(&watchdog, 0, 7, 90000 * MS), CH_HEALTH_WRITER_STUCK);
    // It goes on after all, and the time counts from there.
    assert_int_equal(ch_watchdog_judge(&watchdog, 0, 8, 90100 * MS), CH_HEALTH_GOOD);
    assert_int_equal(ch_watchdog_judge(&watchdog, 0, 8, 150100 * MS), CH_HEALTH_GOOD);
    assert_int_equal(ch_watchdog_judge(&watchdog, 0, 8, 150101 * MS), CH_HEALTH_WRITER_STUCK);
}

static void a_writer_is_watched_while_a_loop_is_stuck(void **state)
{
    (void)state;
    struct ch_watchdog watchdog;
    ch_watchdog_init(&watchdog, 1, 0);
    assert_int_equal(ch_watchdog_judge(&watchdog, 2000 * MS, 2, 59000 * MS), CH_HEALTH_LOOP_STUCK);
    assert_int_equal(ch_watchdog_judge(&watchdog, 0, 2, 100000 * MS), CH_HEALTH_GOOD);
}

static void systemd_says_how_often(void **state)
{
    (void)state;
    assert_int_equal(ch_watchdog_period_ms("15000000", NULL, 42), 1000); // never less often
    assert_int_equal(ch_watchdog_period_ms("2000000", "42", 42), 500); // four times in its patience
    assert_int_equal(ch_watchdog_period_ms("1", "42", 42), 50);
    assert_int_equal(ch_watchdog_period_ms("2000000", "43", 42), 0); // meant for another process
    assert_int_equal(ch_watchdog_period_ms("2000000", "x", 42), 0);
    assert_int_equal(ch_watchdog_period_ms(NULL, NULL, 42), 0);
    assert_int_equal(ch_watchdog_period_ms("0", NULL, 42), 0);
    assert_int_equal(ch_watchdog_period_ms("soon", NULL, 42), 0);
    assert_int_equal(ch_watchdog_period_ms("-5", NULL, 42), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loops_that_answer_are_well),
        cmocka_unit_test(a_loop_that_does_not_answer_is_stuck),
        cmocka_unit_test(a_writer_may_take_its_time_but_not_for_ever),
        cmocka_unit_test(a_writer_is_watched_while_a_loop_is_stuck),
        cmocka_unit_test(systemd_says_how_often),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
