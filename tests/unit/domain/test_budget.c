// SPDX-License-Identifier: Apache-2.0
// The zones are files of the fuzz corpus of time_zone, so no test hangs on the machine's own.
#include "domain/budget.h"

#include "base/clock.h"
#include "base/money.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define ZONE_DIR CH_SOURCE_DIR "/tests/fuzz/time_zone/corpus/"
#define USD      CH_NANO_PER_USD
#define HOUR_MS  INT64_C(3600000)
#define DAY_MS   (24 * HOUR_MS)

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static int64_t random_below(uint64_t *seed, int64_t below)
{
    return (int64_t)(random_next(seed) % (uint64_t)below);
}

static struct ch_time_zone *load(const char *name)
{
    static char bytes[CH_TIME_ZONE_FILE_MAX];
    char path[512];
    struct ch_time_zone *zone = NULL;
    snprintf(path, sizeof path, ZONE_DIR "%s", name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_int_equal(ch_time_zone_parse((struct ch_span){bytes, size}, &zone), CH_OK);
    return zone;
}

static int64_t utc_ms(int year, int month, int day, int hour, int minute)
{
    return ch_civil_day(year, month, day) * DAY_MS + hour * HOUR_MS + minute * INT64_C(60000);
}

// A fixed instant in the middle of a UTC day.
#define NOW utc_ms(2026, 7, 29, 12, 0)

static struct ch_budget *new_budget(enum ch_budget_period period, int64_t cap,
                                    enum ch_budget_mode mode)
{
    struct ch_budget *budget;
    struct ch_budget_terms terms = {.cap_nano_usd = cap, .mode = mode};
    assert_int_equal(ch_budget_new(period, NULL, &terms, NOW, &budget), CH_OK);
    return budget;
}

static bool reserve(struct ch_budget *budget, int64_t worst, int64_t likely, int64_t now_ms,
                    struct ch_budget_hold *hold_out)
{
    struct ch_budget_estimate estimate = {worst, likely};
    size_t refused = 99;
    *hold_out = (struct ch_budget_hold){.budget = budget};
    bool has_room = ch_budget_has_room(budget, &estimate, now_ms);
    bool ok = ch_budget_reserve(hold_out, 1, &estimate, now_ms, &refused) == CH_OK;
    assert_int_equal(ok, has_room);
    assert_int_equal(refused, ok ? 99 : 0);
    return ok;
}

static void expect_money(const struct ch_budget *budget, int64_t now_ms, int64_t spent,
                         int64_t reserved)
{
    struct ch_budget_view view = ch_budget_look(budget, now_ms);
    assert_int_equal(view.spent_nano_usd, spent);
    assert_int_equal(view.reserved_nano_usd, reserved);
}

// ---- Words

static void amounts_and_periods_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t cap;
        enum ch_budget_period period;
    } good[] = {
        {"100/day", 100 * USD, CH_BUDGET_DAY},
        {"0.5/month", USD / 2, CH_BUDGET_MONTH},
        {"1000/total", 1000 * USD, CH_BUDGET_TOTAL},
        {"0/week", 0, CH_BUDGET_WEEK},
        {"0.000000001/day", 1, CH_BUDGET_DAY},
        {"9223372036.854775807/total", INT64_MAX, CH_BUDGET_TOTAL},
    };
    static const char *const bad[] = {"",         "100",      "/day",     "100/",
                                      "100/year", "-1/day",   "+1/day",   "1e3/day",
                                      "$100/day", "100 /day", "100/day ", "1.0000000001/day",
                                      "1,5/day",  "100/Day",  "./day"};
    int64_t cap = 7;
    enum ch_budget_period period = CH_BUDGET_WEEK;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (ch_budget_parse(ch_span_of(bad[i]), &cap, &period) != CH_ERR_INVALID)
            fail_msg("accepted: %s", bad[i]);
    assert_int_equal(ch_budget_parse((struct ch_span){0}, &cap, &period), CH_ERR_INVALID);
    assert_int_equal(ch_budget_parse(CH_SPAN("9223372036.854775808/day"), &cap, &period),
                     CH_ERR_LIMIT);
    assert_int_equal(cap, 7);
    assert_int_equal(period, CH_BUDGET_WEEK);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(ch_budget_parse(ch_span_of(good[i].text), &cap, &period), CH_OK);
        assert_int_equal(cap, good[i].cap);
        assert_int_equal(period, good[i].period);
    }
}

static void names_come_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CH_BUDGET_PERIODS; i++) {
        enum ch_budget_period period;
        const char *name = ch_budget_period_name((enum ch_budget_period)i);
        assert_int_equal(ch_budget_period_parse(ch_span_of(name), &period), CH_OK);
        assert_int_equal(period, i);
    }
    for (unsigned i = 0; i < CH_BUDGET_SCOPES; i++) {
        enum ch_budget_scope scope;
        const char *name = ch_budget_scope_name((enum ch_budget_scope)i);
        assert_int_equal(ch_budget_scope_parse(ch_span_of(name), &scope), CH_OK);
        assert_int_equal(scope, i);
        assert_int_equal(ch_budget_scope_parse(CH_SPAN("keys"), &scope), CH_ERR_INVALID);
    }
    for (unsigned i = 0; i < CH_BUDGET_MODES; i++) {
        enum ch_budget_mode mode;
        const char *name = ch_budget_mode_name((enum ch_budget_mode)i);
        assert_int_equal(ch_budget_mode_parse(ch_span_of(name), &mode), CH_OK);
        assert_int_equal(mode, i);
        assert_int_equal(ch_budget_mode_parse(CH_SPAN(""), &mode), CH_ERR_INVALID);
    }
}

static void expect_message(enum ch_budget_scope scope, enum ch_budget_period period, int64_t cap,
                           int64_t spent, const char *expected)
{
    char text[CH_BUDGET_MESSAGE];
    ch_budget_message(scope, period, cap, spent, text);
    assert_string_equal(text, expected);
}

static void the_message_says_limit_and_spend(void **state)
{
    (void)state;
    expect_message(
        CH_BUDGET_OF_KEY, CH_BUDGET_DAY, 100 * USD, 100 * USD + 20000000,
        "Budget limit exceeded for this key. Daily limit: $100.00, current spend: $100.02.");
    expect_message(
        CH_BUDGET_OF_TEAM, CH_BUDGET_WEEK, USD / 2, 4999999,
        "Budget limit exceeded for this team. Weekly limit: $0.50, current spend: $0.00.");
    expect_message(
        CH_BUDGET_OF_PROJECT, CH_BUDGET_MONTH, 1234 * USD, 5000000,
        "Budget limit exceeded for this project. Monthly limit: $1234.00, current spend: $0.01.");
    expect_message(
        CH_BUDGET_OF_PROVIDER, CH_BUDGET_TOTAL, 0, 0,
        "Budget limit exceeded for this provider. Total limit: $0.00, current spend: $0.00.");
    expect_message(
        CH_BUDGET_OF_ALL, CH_BUDGET_DAY, INT64_MAX, INT64_MAX,
        "Budget limit exceeded for all keys. Daily limit: $9223372036.85, current spend: "
        "$9223372036.85.");
}

// ---- Periods

static void expect_interval(enum ch_budget_period period, const struct ch_time_zone *zone,
                            int64_t now_ms, const char *start, const char *end)
{
    struct ch_budget_interval interval = ch_budget_interval(period, zone, now_ms);
    char text[25];
    ch_clock_format_utc(interval.start_ms, text);
    assert_string_equal(text, start);
    ch_clock_format_utc(interval.end_ms, text);
    assert_string_equal(text, end);
}

// Asks at both ends of the interval.
static void expect_period(enum ch_budget_period period, const struct ch_time_zone *zone,
                          const char *start, const char *end, int64_t start_ms, int64_t hours)
{
    expect_interval(period, zone, start_ms, start, end);
    expect_interval(period, zone, start_ms + hours * HOUR_MS - 1, start, end);
    assert_int_equal(ch_budget_interval(period, zone, start_ms - 1).end_ms, start_ms);
    assert_int_equal(ch_budget_interval(period, zone, start_ms + hours * HOUR_MS).start_ms,
                     start_ms + hours * HOUR_MS);
}

static void periods_in_new_york(void **state)
{
    (void)state;
    struct ch_time_zone *zone = load("America-New_York");
    expect_period(CH_BUDGET_DAY, zone, "2026-03-08T05:00:00.000Z", "2026-03-09T04:00:00.000Z",
                  utc_ms(2026, 3, 8, 5, 0), 23);
    expect_period(CH_BUDGET_DAY, zone, "2026-11-01T04:00:00.000Z", "2026-11-02T05:00:00.000Z",
                  utc_ms(2026, 11, 1, 4, 0), 25);
    expect_period(CH_BUDGET_WEEK, zone, "2026-03-02T05:00:00.000Z", "2026-03-09T04:00:00.000Z",
                  utc_ms(2026, 3, 2, 5, 0), 7 * 24 - 1);
    expect_period(CH_BUDGET_MONTH, zone, "2026-11-01T04:00:00.000Z", "2026-12-01T05:00:00.000Z",
                  utc_ms(2026, 11, 1, 4, 0), 30 * 24 + 1);
    expect_period(CH_BUDGET_MONTH, zone, "2028-02-01T05:00:00.000Z", "2028-03-01T05:00:00.000Z",
                  utc_ms(2028, 2, 1, 5, 0), 29 * 24);
    expect_period(CH_BUDGET_MONTH, zone, "2026-12-01T05:00:00.000Z", "2027-01-01T05:00:00.000Z",
                  utc_ms(2026, 12, 1, 5, 0), 31 * 24);
    ch_time_zone_free(zone);
}

static void periods_in_kolkata(void **state)
{
    (void)state;
    struct ch_time_zone *zone = load("Asia-Kolkata");
    expect_period(CH_BUDGET_DAY, zone, "2026-02-27T18:30:00.000Z", "2026-02-28T18:30:00.000Z",
                  utc_ms(2026, 2, 27, 18, 30), 24);
    expect_period(CH_BUDGET_WEEK, zone, "2026-07-26T18:30:00.000Z", "2026-08-02T18:30:00.000Z",
                  utc_ms(2026, 7, 26, 18, 30), 7 * 24);
    expect_period(CH_BUDGET_MONTH, zone, "2026-01-31T18:30:00.000Z", "2026-02-28T18:30:00.000Z",
                  utc_ms(2026, 1, 31, 18, 30), 28 * 24);
    ch_time_zone_free(zone);
}

static void periods_in_auckland(void **state)
{
    (void)state;
    struct ch_time_zone *zone = load("Pacific-Auckland");
    expect_period(CH_BUDGET_DAY, zone, "2026-04-04T11:00:00.000Z", "2026-04-05T12:00:00.000Z",
                  utc_ms(2026, 4, 4, 11, 0), 25);
    expect_period(CH_BUDGET_DAY, zone, "2026-09-26T12:00:00.000Z", "2026-09-27T11:00:00.000Z",
                  utc_ms(2026, 9, 26, 12, 0), 23);
    expect_period(CH_BUDGET_MONTH, zone, "2026-08-31T12:00:00.000Z", "2026-09-30T11:00:00.000Z",
                  utc_ms(2026, 8, 31, 12, 0), 30 * 24 - 1);
    expect_period(CH_BUDGET_MONTH, zone, "2026-12-31T11:00:00.000Z", "2027-01-31T11:00:00.000Z",
                  utc_ms(2026, 12, 31, 11, 0), 31 * 24);
    ch_time_zone_free(zone);
}

static void a_total_never_ends(void **state)
{
    (void)state;
    struct ch_budget_interval interval = ch_budget_interval(CH_BUDGET_TOTAL, NULL, NOW);
    assert_true(interval.start_ms == INT64_MIN && interval.end_ms == INT64_MAX);
    interval = ch_budget_interval(CH_BUDGET_DAY, NULL, INT64_MAX);
    assert_true(interval.end_ms == INT64_MAX);
}

// Also where midnight is skipped, comes twice, or a whole date is missing.
static void periods_meet_in_every_zone(void **state)
{
    (void)state;
    static const char *const zones[] = {"America-New_York", "America-Sao_Paulo",
                                        "America-Havana",   "America-St_Johns",
                                        "Pacific-Apia",     "Africa-Casablanca"};
    for (size_t i = 0; i < sizeof zones / sizeof *zones; i++) {
        struct ch_time_zone *zone = load(zones[i]);
        for (unsigned period = CH_BUDGET_DAY; period < CH_BUDGET_TOTAL; period++) {
            struct ch_budget_interval now, next;
            now = ch_budget_interval((enum ch_budget_period)period, zone, utc_ms(2005, 6, 1, 0, 0));
            while (now.end_ms < utc_ms(2028, 1, 1, 0, 0)) {
                assert_true(now.start_ms < now.end_ms);
                for (int64_t ms = now.end_ms - 26 * HOUR_MS; ms < now.end_ms; ms += HOUR_MS / 4) {
                    if (ms < now.start_ms)
                        continue;
                    next = ch_budget_interval((enum ch_budget_period)period, zone, ms);
                    assert_int_equal(next.start_ms, now.start_ms);
                    assert_int_equal(next.end_ms, now.end_ms);
                }
                next = ch_budget_interval((enum ch_budget_period)period, zone, now.end_ms);
                assert_int_equal(next.start_ms, now.end_ms);
                now = next;
            }
        }
        ch_time_zone_free(zone);
    }
}

// ---- One budget

static void a_cap_holds_to_the_nano(void **state)
{
    (void)state;
    struct ch_budget_hold hold, second;
    struct ch_budget *budget = new_budget(CH_BUDGET_DAY, 1000, CH_BUDGET_STRICT);
    assert_false(reserve(budget, 1001, 1, NOW, &hold));
    assert_null(hold.budget);
    assert_true(reserve(budget, 1000, 1, NOW, &hold));
    expect_money(budget, NOW, 0, 1000);
    assert_false(reserve(budget, 1, 1, NOW, &second));
    assert_true(reserve(budget, 0, 0, NOW, &second)); // what is free needs no room
    ch_budget_settle(&second, 0);
    ch_budget_settle(&hold, 1000);
    ch_budget_settle(&hold, 1000); // once is once
    expect_money(budget, NOW, 1000, 0);
    assert_false(reserve(budget, 1, 1, NOW, &hold));
    ch_budget_free(budget);

    budget = new_budget(CH_BUDGET_TOTAL, 0, CH_BUDGET_LEARNED);
    assert_false(reserve(budget, 1, 1, NOW, &hold));
    assert_true(reserve(budget, 0, 0, NOW, &hold));
    ch_budget_settle(&hold, 0);
    expect_money(budget, NOW, 0, 0);
    ch_budget_free(budget);
}

static void modes_reserve_what_they_say(void **state)
{
    (void)state;
    struct ch_budget_hold hold;
    struct ch_budget *budget = new_budget(CH_BUDGET_DAY, 100, CH_BUDGET_STRICT);
    assert_true(reserve(budget, 90, 30, NOW, &hold));
    expect_money(budget, NOW, 0, 90);
    ch_budget_settle(&hold, 20);
    expect_money(budget, NOW, 20, 0);
    ch_budget_set_terms(budget, &(struct ch_budget_terms){100, CH_BUDGET_LEARNED, {{0}}});
    assert_true(reserve(budget, 90, 80, NOW, &hold));
    expect_money(budget, NOW, 20, 80);
    ch_budget_settle(&hold, 90);
    expect_money(budget, NOW, 110, 0);
    assert_false(reserve(budget, 1, 1, NOW, &hold));
    ch_budget_set_terms(budget, &(struct ch_budget_terms){100, CH_BUDGET_SOFT, {{0}}});
    assert_true(reserve(budget, 1000, 500, NOW, &hold));
    expect_money(budget, NOW, 110, 500);
    ch_budget_settle(&hold, -5);
    expect_money(budget, NOW, 110, 0);
    ch_budget_free(budget);
}

static void a_new_cap_holds_at_once(void **state)
{
    (void)state;
    struct ch_budget_hold first, second;
    struct ch_budget *budget = new_budget(CH_BUDGET_DAY, 100, CH_BUDGET_STRICT);
    assert_true(reserve(budget, 100, 0, NOW, &first));
    assert_false(reserve(budget, 1, 0, NOW, &second));
    ch_budget_set_terms(budget, &(struct ch_budget_terms){150, CH_BUDGET_STRICT, {{0}}});
    assert_true(reserve(budget, 50, 0, NOW, &second));
    ch_budget_set_terms(budget, &(struct ch_budget_terms){10, CH_BUDGET_STRICT, {{0}}});
    ch_budget_settle(&second, 5);
    ch_budget_settle(&first, 6);
    expect_money(budget, NOW, 11, 0);
    assert_false(reserve(budget, 1, 0, NOW, &first));
    ch_budget_set_terms(budget, &(struct ch_budget_terms){-3, CH_BUDGET_STRICT, {{0}}});
    assert_int_equal(ch_budget_look(budget, NOW).terms.cap_nano_usd, 0);
    ch_budget_free(budget);
}

static void all_budgets_or_none(void **state)
{
    (void)state;
    struct ch_budget *budgets[] = {new_budget(CH_BUDGET_DAY, 100, CH_BUDGET_STRICT),
                                   new_budget(CH_BUDGET_MONTH, 1000, CH_BUDGET_LEARNED),
                                   new_budget(CH_BUDGET_TOTAL, 40, CH_BUDGET_STRICT),
                                   new_budget(CH_BUDGET_WEEK, 1, CH_BUDGET_SOFT)};
    struct ch_budget_estimate estimate = {30, 10};
    struct ch_budget_hold holds[2][4];
    size_t refused;
    for (int n = 0; n < 2; n++)
        for (int i = 0; i < 4; i++)
            holds[n][i] = (struct ch_budget_hold){.budget = budgets[i]};
    assert_int_equal(ch_budget_reserve(holds[0], 4, &estimate, NOW, &refused), CH_OK);
    assert_int_equal(ch_budget_reserve(holds[1], 4, &estimate, NOW, &refused), CH_ERR_LIMIT);
    assert_int_equal(refused, 2);
    for (int i = 0; i < 4; i++) {
        ch_budget_settle(&holds[1][i], 1000); // empty: nothing happens
        expect_money(budgets[i], NOW, 0, i % 2 ? 10 : 30);
        ch_budget_settle(&holds[0][i], 25);
        expect_money(budgets[i], NOW, 25, 0);
        ch_budget_free(budgets[i]);
    }
    assert_int_equal(ch_budget_reserve(NULL, 0, &estimate, NOW, &refused), CH_OK);
}

static void a_correction_takes_back_what_was_spent(void **state)
{
    (void)state;
    struct ch_budget_hold hold;
    struct ch_budget *budget = new_budget(CH_BUDGET_MONTH, 100, CH_BUDGET_STRICT);
    assert_true(reserve(budget, 30, 0, NOW, &hold));
    ch_budget_charge(budget, NOW, 70);
    assert_false(reserve(budget, 1, 0, NOW, &(struct ch_budget_hold){0}));
    ch_budget_correct(budget, NOW, -20);
    expect_money(budget, NOW, 50, 30);
    ch_budget_correct(budget, NOW, 5);
    expect_money(budget, NOW, 55, 30);
    ch_budget_correct(budget, utc_ms(2026, 1, 1, 0, 0), -20); // of a period that has gone
    expect_money(budget, NOW, 55, 30);
    ch_budget_correct(budget, NOW, -1000); // never below nothing
    expect_money(budget, NOW, 0, 30);
    ch_budget_settle(&hold, 30);
    expect_money(budget, NOW, 30, 0);
    ch_budget_free(budget);
}

// No admission has moved the counters on yet: what is charged takes room all the same.
static void a_charge_can_be_the_first_of_its_period(void **state)
{
    (void)state;
    const int64_t next_month = utc_ms(2026, 8, 1, 0, 0);
    struct ch_budget_hold old, new;
    struct ch_budget *budget = new_budget(CH_BUDGET_MONTH, 100, CH_BUDGET_STRICT);
    assert_true(reserve(budget, 80, 0, next_month - 1, &old));
    ch_budget_charge(budget, next_month, 60);
    expect_money(budget, next_month, 60, 0);
    assert_false(reserve(budget, 41, 0, next_month, &new));
    assert_true(reserve(budget, 40, 0, next_month, &new));
    ch_budget_settle(&old, 80);
    ch_budget_charge(budget, next_month - 1, 70);
    ch_budget_settle(&new, 40);
    expect_money(budget, next_month, 100, 0);
    ch_budget_free(budget);
}

static void money_belongs_to_the_period_of_its_admission(void **state)
{
    (void)state;
    const int64_t next_month = utc_ms(2026, 8, 1, 0, 0);
    struct ch_budget_hold old, other, new;
    struct ch_budget *budget = new_budget(CH_BUDGET_MONTH, 100, CH_BUDGET_STRICT);
    assert_true(reserve(budget, 60, 0, next_month - 1, &old));
    assert_true(reserve(budget, 40, 0, next_month - 1, &other));
    assert_false(reserve(budget, 1, 0, next_month - 1, &new));
    assert_int_equal(ch_budget_look(budget, next_month - 1).interval.end_ms, next_month);

    // The new month is empty before anybody wrote it, and stays so when the old one is settled.
    expect_money(budget, next_month, 0, 0);
    ch_budget_settle(&other, 30);
    expect_money(budget, next_month - 1, 30, 60);
    assert_true(reserve(budget, 100, 0, next_month, &new));
    ch_budget_settle(&old, 60);
    expect_money(budget, next_month, 0, 100);
    ch_budget_settle(&new, 70);
    expect_money(budget, next_month, 70, 0);
    assert_int_equal(ch_budget_look(budget, next_month).interval.start_ms, next_month);
    ch_budget_free(budget);
}

static void a_clock_that_steps_back_reopens_nothing(void **state)
{
    (void)state;
    struct ch_budget_hold hold;
    struct ch_budget *budget = new_budget(CH_BUDGET_DAY, 100, CH_BUDGET_STRICT);
    assert_true(reserve(budget, 100, 0, NOW, &hold));
    ch_budget_settle(&hold, 100);
    assert_true(reserve(budget, 90, 0, NOW + DAY_MS, &hold));
    ch_budget_settle(&hold, 90);
    for (int days = -40; days <= 1; days++) {
        assert_false(reserve(budget, 11, 0, NOW + days * DAY_MS, &hold));
        expect_money(budget, NOW + days * DAY_MS, 90, 0);
    }
    assert_true(reserve(budget, 10, 0, NOW - DAY_MS, &hold));
    ch_budget_settle(&hold, 10);
    expect_money(budget, NOW + DAY_MS, 100, 0);
    assert_true(reserve(budget, 100, 0, NOW + 2 * DAY_MS, &hold));
    ch_budget_settle(&hold, 0);
    // The way back after the clock had run ahead.
    ch_budget_restore(budget, NOW, 55, 0);
    expect_money(budget, NOW, 55, 0);
    assert_int_equal(ch_budget_look(budget, NOW).interval.end_ms, utc_ms(2026, 7, 30, 0, 0));
    ch_budget_free(budget);
}

// A stepped clock in a zone with daylight saving: each local day has its own full cap.
static void days_reset_at_local_midnight(void **state)
{
    (void)state;
    static const char *const zones[] = {"America-New_York", "Asia-Kolkata", "Pacific-Auckland"};
    struct ch_budget_terms terms = {.cap_nano_usd = 100, .mode = CH_BUDGET_STRICT};
    for (size_t i = 0; i < 3; i++) {
        struct ch_time_zone *zone = load(zones[i]);
        struct ch_budget *budget;
        int64_t day = ch_civil_day(2026, 1, 1), last = ch_civil_day(2027, 12, 31);
        int64_t start_ms = ch_time_zone_midnight_ms(zone, day);
        assert_int_equal(ch_budget_new(CH_BUDGET_DAY, zone, &terms, start_ms, &budget), CH_OK);
        for (; day < last; day++) {
            struct ch_budget_hold hold;
            int64_t end_ms = ch_time_zone_midnight_ms(zone, day + 1);
            assert_true(reserve(budget, 60, 0, start_ms, &hold));
            ch_budget_settle(&hold, 60);
            assert_false(reserve(budget, 41, 0, end_ms - 1, &hold));
            assert_true(reserve(budget, 40, 0, end_ms - 1, &hold));
            ch_budget_settle(&hold, 40);
            assert_false(reserve(budget, 1, 0, start_ms - DAY_MS, &hold));
            start_ms = end_ms;
        }
        ch_budget_free(budget);
        ch_time_zone_free(zone);
    }
}

static void money_saturates_to_deny(void **state)
{
    (void)state;
    struct ch_budget_hold hold, open;
    struct ch_budget *budget = new_budget(CH_BUDGET_DAY, INT64_MAX, CH_BUDGET_STRICT);
    assert_false(reserve(budget, INT64_MAX, 0, NOW, &hold));
    assert_true(reserve(budget, INT64_MAX - 1, 0, NOW, &hold));
    assert_false(reserve(budget, 1, 0, NOW, &open));
    ch_budget_settle(&hold, 0);
    assert_true(reserve(budget, 10, 0, NOW, &open));
    assert_true(reserve(budget, 10, 0, NOW, &hold));
    ch_budget_settle(&hold, INT64_MAX);
    ch_budget_settle(&open, 10);
    assert_false(reserve(budget, 1, 0, NOW, &hold)); // for the rest of the period
    expect_money(budget, NOW, INT64_MAX, 0);
    assert_true(reserve(budget, 1, 0, NOW + DAY_MS, &hold));
    ch_budget_settle(&hold, 1);
    ch_budget_free(budget);

    budget = new_budget(CH_BUDGET_DAY, 1, CH_BUDGET_SOFT);
    assert_true(reserve(budget, 0, INT64_MAX, NOW, &open));
    assert_true(reserve(budget, 0, INT64_MAX, NOW, &hold));
    ch_budget_settle(&hold, 7);
    ch_budget_settle(&open, 8);
    expect_money(budget, NOW, 15, 0);
    ch_budget_free(budget);
}

// The bound that the header states for `learned`, by a random history on one thread.
static void learned_overshoots_by_those_in_flight_at_most(void **state)
{
    (void)state;
    enum { OPEN = 8 };
    uint64_t seed = 99;
    bool has_overshot = false;
    for (int round = 0; round < 20000; round++) {
        struct ch_budget_hold holds[OPEN] = {{0}};
        int64_t likely[OPEN], costs[OPEN], spent = 0, bound = 0;
        struct ch_budget *budget = new_budget(CH_BUDGET_DAY, 100, CH_BUDGET_LEARNED);
        for (int step = 0; step < 40; step++) {
            int i = (int)random_below(&seed, OPEN);
            if (holds[i].budget) {
                ch_budget_settle(&holds[i], costs[i]);
                spent += costs[i];
                continue;
            }
            likely[i] = 1 + random_below(&seed, 20);
            costs[i] = random_below(&seed, 2 * likely[i]);
            if (!reserve(budget, 40, likely[i], NOW, &holds[i]))
                continue;
            bound = 100;
            for (int k = 0; k < OPEN; k++)
                bound += holds[k].budget && costs[k] > likely[k] ? costs[k] - likely[k] : 0;
        }
        for (int i = 0; i < OPEN; i++) {
            spent += holds[i].budget ? costs[i] : 0;
            ch_budget_settle(&holds[i], costs[i]);
        }
        expect_money(budget, NOW, spent, 0);
        assert_true(spent <= bound);
        has_overshot |= spent > 100;
        ch_budget_free(budget);
    }
    assert_true(has_overshot);
}

// ---- Thresholds

static struct ch_budget_thresholds spend(struct ch_budget *budget, int64_t cost, int64_t now_ms)
{
    struct ch_budget_hold hold = {.budget = budget};
    struct ch_budget_estimate estimate = {0, 0};
    size_t refused;
    assert_int_equal(ch_budget_reserve(&hold, 1, &estimate, now_ms, &refused), CH_OK);
    return ch_budget_settle(&hold, cost);
}

static void expect_fired(struct ch_budget *budget, int64_t cost, int64_t now_ms, unsigned first,
                         unsigned second)
{
    struct ch_budget_thresholds fired = spend(budget, cost, now_ms);
    assert_int_equal(fired.percent[0], first);
    assert_int_equal(fired.percent[1], second);
    assert_int_equal(fired.percent[2], 0);
}

static void thresholds_fire_once_in_a_period(void **state)
{
    (void)state;
    struct ch_budget_terms terms = {1000, CH_BUDGET_SOFT, {{100, 0, 80, 50}}};
    struct ch_budget *budget = new_budget(CH_BUDGET_DAY, 1000, CH_BUDGET_SOFT);
    ch_budget_set_terms(budget, &terms);
    expect_fired(budget, 0, NOW, 0, 0);
    expect_fired(budget, 499, NOW, 0, 0);
    assert_int_equal(ch_budget_look(budget, NOW).reached_percent, 0);
    assert_int_equal(ch_budget_reached(budget, NOW), 0);
    expect_fired(budget, 1, NOW, 50, 0);
    expect_fired(budget, 1, NOW, 0, 0);
    expect_fired(budget, 499, NOW, 80, 100);
    expect_fired(budget, 5000, NOW, 0, 0);
    assert_int_equal(ch_budget_look(budget, NOW).reached_percent, 100);
    assert_int_equal(ch_budget_reached(budget, NOW), 100);
    expect_fired(budget, 800, NOW + DAY_MS, 50, 80); // a new day
    assert_int_equal(ch_budget_look(budget, NOW + DAY_MS).reached_percent, 80);
    assert_int_equal(ch_budget_reached(budget, NOW + DAY_MS), 80);
    terms.cap_nano_usd = 10000; // an edit repeats nothing
    ch_budget_set_terms(budget, &terms);
    expect_fired(budget, 8000, NOW + DAY_MS, 0, 0);
    terms.cap_nano_usd = 1;
    ch_budget_set_terms(budget, &terms);
    expect_fired(budget, 1, NOW + DAY_MS, 100, 0);
    ch_budget_restore(budget, NOW + DAY_MS, 0, 80); // a restart neither
    terms.cap_nano_usd = 100;
    ch_budget_set_terms(budget, &terms);
    expect_fired(budget, 99, NOW + DAY_MS, 0, 0);
    expect_fired(budget, 1, NOW + DAY_MS, 100, 0);
    ch_budget_free(budget);
}

static void a_closed_period_fires_nothing(void **state)
{
    (void)state;
    struct ch_budget_terms terms = {100, CH_BUDGET_SOFT, {{80}}};
    struct ch_budget_hold old;
    struct ch_budget *budget = new_budget(CH_BUDGET_DAY, 100, CH_BUDGET_SOFT);
    ch_budget_set_terms(budget, &terms);
    assert_true(reserve(budget, 0, 0, NOW, &old));
    expect_fired(budget, 1, NOW + DAY_MS, 0, 0);
    assert_int_equal(ch_budget_settle(&old, 100).percent[0], 0);
    expect_fired(budget, 79, NOW + DAY_MS, 80, 0);
    terms.cap_nano_usd = 0; // nothing is reached by spending nothing
    ch_budget_set_terms(budget, &terms);
    expect_fired(budget, 0, NOW + 2 * DAY_MS, 0, 0);
    expect_fired(budget, 1, NOW + 2 * DAY_MS, 80, 0);
    ch_budget_free(budget);
}

// ---- Threads

// One random schedule each. The thread sanitizer looks for races, and these show early.
#if defined(__SANITIZE_THREAD__)
#define ROUNDS 50000
#else
#define ROUNDS 1000000
#endif

#define THREADS 4
#define STEPS   6
#define DAYS    3 // that the clocks of a round jump about in
#define BUDGETS 2

// A round: fresh counters and caps, random steps on all threads, then the sums must be exact.
struct round {
    struct ch_budget *budgets[BUDGETS];
    int64_t caps[BUDGETS];
    bool is_learned;
    int64_t worst;                          // of a cost above its estimate, in learned mode
    _Atomic int64_t cost[BUDGETS][DAYS];    // settled, by the day of admission
    _Atomic int64_t overrun[BUDGETS][DAYS]; // cost above the estimate
    _Atomic unsigned fired[BUDGETS][DAYS];
    _Atomic unsigned arrived, generation;
    _Atomic bool is_wrong;
    uint64_t seed;
};

static void begin_round(struct round *round)
{
    round->is_learned = random_next(&round->seed) % 2;
    for (int i = 0; i < BUDGETS; i++) {
        round->caps[i] = random_below(&round->seed, 60);
        struct ch_budget_terms terms = {
            round->caps[i], round->is_learned ? CH_BUDGET_LEARNED : CH_BUDGET_STRICT, {{80}}};
        ch_budget_restore(round->budgets[i], NOW, 0, 0);
        ch_budget_set_terms(round->budgets[i], &terms);
        for (int day = 0; day < DAYS; day++) {
            atomic_store(&round->cost[i][day], 0);
            atomic_store(&round->overrun[i][day], 0);
            atomic_store(&round->fired[i][day], 0);
        }
    }
}

static void expect(struct round *round, bool is_true)
{
    if (!is_true)
        atomic_store(&round->is_wrong, true);
}

static void end_round(struct round *round)
{
    for (int i = 0; i < BUDGETS; i++) {
        struct ch_budget_view view = ch_budget_look(round->budgets[i], 0);
        int last = (int)((view.interval.start_ms - utc_ms(2026, 7, 29, 0, 0)) / DAY_MS);
        expect(round, view.reserved_nano_usd == 0);
        expect(round, view.spent_nano_usd == atomic_load(&round->cost[i][last]));
        for (int day = 0; day < DAYS; day++) {
            int64_t cost = atomic_load(&round->cost[i][day]);
            expect(round, cost <= round->caps[i] + atomic_load(&round->overrun[i][day]));
            unsigned fired = atomic_load(&round->fired[i][day]);
            bool is_reached = cost > 0 && cost * 100 >= round->caps[i] * 80;
            expect(round, day == last ? fired == is_reached : fired <= is_reached);
        }
    }
}

// The last thread to arrive checks the round and prepares the next one.
static void meet(struct round *round)
{
    unsigned generation = atomic_load(&round->generation);
    if (atomic_fetch_add(&round->arrived, 1) + 1 == THREADS) {
        end_round(round);
        begin_round(round);
        atomic_store(&round->arrived, 0);
        atomic_fetch_add(&round->generation, 1);
    }
    while (atomic_load(&round->generation) == generation)
        sched_yield();
}

static void settle(struct round *round, struct ch_budget_hold *holds, int64_t estimate,
                   uint64_t *seed)
{
    int64_t most = round->is_learned ? 2 * estimate : estimate;
    int64_t cost = random_next(seed) % 4 ? random_below(seed, most + 1) : 0;
    for (int i = 0; i < BUDGETS; i++) {
        int day = (int)((holds[i].period_end_ms - utc_ms(2026, 7, 30, 0, 0)) / DAY_MS);
        if (cost > estimate)
            atomic_fetch_add(&round->overrun[i][day], cost - estimate);
        atomic_fetch_add(&round->cost[i][day], cost);
        if (ch_budget_settle(&holds[i], cost).percent[0])
            atomic_fetch_add(&round->fired[i][day], 1);
    }
}

static void play(struct round *round, uint64_t *seed)
{
    struct ch_budget_hold holds[STEPS][BUDGETS];
    int64_t estimates[STEPS];
    int open = 0;
    for (int step = 0; step < STEPS; step++) {
        uint64_t dice = random_next(seed);
        if (dice % 16 == 0)
            sched_yield();
        if (open > 0 && dice / 16 % 3 == 0) {
            open--;
            settle(round, holds[open], estimates[open], seed);
            continue;
        }
        for (int i = 0; i < BUDGETS; i++)
            holds[open][i] = (struct ch_budget_hold){.budget = round->budgets[i]};
        estimates[open] = random_below(seed, 30);
        struct ch_budget_estimate estimate = {estimates[open], estimates[open]};
        size_t refused;
        int64_t now_ms = NOW + random_below(seed, DAYS) * (dice / 64 % 8 == 0) * DAY_MS;
        open += ch_budget_reserve(holds[open], BUDGETS, &estimate, now_ms, &refused) == CH_OK;
        if (!round->is_learned) {
            struct ch_budget_view view = ch_budget_look(round->budgets[0], now_ms);
            expect(round, view.spent_nano_usd <= round->caps[0]);
        }
    }
    while (open > 0) {
        open--;
        settle(round, holds[open], estimates[open], seed);
    }
}

struct player {
    struct round *round;
    uint64_t seed;
};

static void *play_all(void *arg)
{
    struct player *player = arg;
    for (int i = 0; i < ROUNDS; i++) {
        meet(player->round);
        play(player->round, &player->seed);
    }
    meet(player->round);
    return NULL;
}

static void no_schedule_passes_the_cap_or_leaves_a_hold(void **state)
{
    (void)state;
    static struct round round = {.seed = 42};
    pthread_t threads[THREADS];
    struct player players[THREADS];
    for (int i = 0; i < BUDGETS; i++)
        round.budgets[i] = new_budget(CH_BUDGET_DAY, 0, CH_BUDGET_STRICT);
    begin_round(&round);
    for (int i = 0; i < THREADS; i++) {
        players[i] = (struct player){&round, 0x9E3779B97F4A7C15u * (unsigned)(i + 1)};
        assert_int_equal(pthread_create(&threads[i], NULL, play_all, &players[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_false(atomic_load(&round.is_wrong));
    for (int i = 0; i < BUDGETS; i++)
        ch_budget_free(round.budgets[i]);
}

struct crowd {
    struct ch_budget *budget;
    _Atomic int forwarded;
};

#define CROWD 1000
static void *spend_one(void *arg)
{
    struct crowd *crowd = arg;
    struct ch_budget_estimate estimate = {7, 7};
    for (int i = 0; i < CROWD / THREADS; i++) {
        struct ch_budget_hold hold = {.budget = crowd->budget};
        size_t refused;
        if (ch_budget_reserve(&hold, 1, &estimate, NOW, &refused) == CH_OK) {
            atomic_fetch_add(&crowd->forwarded, 1);
            ch_budget_settle(&hold, 7);
        }
    }
    return NULL;
}

static void room_for_ten_lets_ten_of_a_thousand_through(void **state)
{
    (void)state;
    for (int round = 0; round < 100; round++) {
        struct crowd crowd = {.budget = new_budget(CH_BUDGET_DAY, 76, CH_BUDGET_STRICT)};
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, spend_one, &crowd), 0);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        assert_int_equal(atomic_load(&crowd.forwarded), 10);
        expect_money(crowd.budget, NOW, 70, 0);
        ch_budget_free(crowd.budget);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(amounts_and_periods_are_read),
        cmocka_unit_test(names_come_back),
        cmocka_unit_test(the_message_says_limit_and_spend),
        cmocka_unit_test(periods_in_new_york),
        cmocka_unit_test(periods_in_kolkata),
        cmocka_unit_test(periods_in_auckland),
        cmocka_unit_test(a_total_never_ends),
        cmocka_unit_test(periods_meet_in_every_zone),
        cmocka_unit_test(a_cap_holds_to_the_nano),
        cmocka_unit_test(modes_reserve_what_they_say),
        cmocka_unit_test(a_new_cap_holds_at_once),
        cmocka_unit_test(all_budgets_or_none),
        cmocka_unit_test(money_belongs_to_the_period_of_its_admission),
        cmocka_unit_test(a_charge_can_be_the_first_of_its_period),
        cmocka_unit_test(a_correction_takes_back_what_was_spent),
        cmocka_unit_test(a_clock_that_steps_back_reopens_nothing),
        cmocka_unit_test(days_reset_at_local_midnight),
        cmocka_unit_test(money_saturates_to_deny),
        cmocka_unit_test(learned_overshoots_by_those_in_flight_at_most),
        cmocka_unit_test(thresholds_fire_once_in_a_period),
        cmocka_unit_test(a_closed_period_fires_nothing),
        cmocka_unit_test(no_schedule_passes_the_cap_or_leaves_a_hold),
        cmocka_unit_test(room_for_ten_lets_ten_of_a_thousand_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
