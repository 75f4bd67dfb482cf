// SPDX-License-Identifier: Apache-2.0
#include "admin/when.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#define DAY INT64_C(86400000)
#define NOW (20000 * DAY + 5 * 3600000) // 2024-10-04T05:00:00Z

static void parses(void **state)
{
    static const struct {
        const char *text;
        int64_t ahead, back;
    } cases[] = {
        {"90d", NOW + 90 * DAY, NOW - 90 * DAY},
        {"12h", NOW + DAY / 2, NOW - DAY / 2},
        {"30m", NOW + 1800000, NOW - 1800000},
        {"1s", NOW + 1000, NOW - 1000},
        {"2w", NOW + 14 * DAY, NOW - 14 * DAY},
        {"36500d", NOW + 36500 * DAY, NOW - 36500 * DAY},
        {"now", NOW, NOW},
        {"today", 20000 * DAY, 20000 * DAY},
        {"yesterday", 19999 * DAY, 19999 * DAY},
        {"1970-01-01", 0, 0},
        {"2024-10-04", 20000 * DAY, 20000 * DAY},
        {"2024-02-29", 19782 * DAY, 19782 * DAY},
        {"2000-03-01", 11017 * DAY, 11017 * DAY},
        {"2027-01-31", 20849 * DAY, 20849 * DAY},
        {"2027-01-31T12:30Z", 20849 * DAY + 45000000, 20849 * DAY + 45000000},
        {"2027-01-31T23:59:59Z", 20850 * DAY - 1000, 20850 * DAY - 1000},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ms = -1;
        print_message("%s\n", cases[i].text);
        assert_int_equal(ch_when_parse(ch_span_of(cases[i].text), CH_WHEN_AHEAD, NOW, &ms), CH_OK);
        assert_true(ms == cases[i].ahead);
        assert_int_equal(ch_when_parse(ch_span_of(cases[i].text), CH_WHEN_BACK, NOW, &ms), CH_OK);
        assert_true(ms == cases[i].back);
    }
}

static void refuses(void **state)
{
    static const char *const cases[] = {
        "",
        "d",
        "0d",
        "-1d",
        "+1d",
        "1.5d",
        "1y",
        "90",
        "90 d",
        "36501d",
        "99999999999999999d",
        "2023-02-29",
        "2100-02-29",
        "2024-13-01",
        "2024-00-10",
        "2024-04-31",
        "2024-04-00",
        "1969-12-31",
        "3000-01-01",
        "2024-4-1",
        "24-04-01",
        "2024/04/01",
        "2024-04-01 12:00Z",
        "2024-04-01T24:00Z",
        "2024-04-01T12:60Z",
        "2024-04-01T12:00",
        "2024-04-01T12:00:60Z",
        "2024-04-01T1:00Z",
        "2024-04-01T12:00+01:00",
        "2024-04-01T",
        "tomorrow",
        "soon",
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ms = 42;
        print_message("%s\n", cases[i]);
        assert_int_equal(ch_when_parse(ch_span_of(cases[i]), CH_WHEN_AHEAD, NOW, &ms),
                         CH_ERR_INVALID);
        assert_true(ms == 42);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
