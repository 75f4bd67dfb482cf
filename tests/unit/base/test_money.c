// SPDX-License-Identifier: Apache-2.0
#include "base/money.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void rounding_is_half_up_and_saturates(void **state)
{
    (void)state;
    assert_int_equal(ch_money_round(0), 0);
    assert_int_equal(ch_money_round(499999), 0);
    assert_int_equal(ch_money_round(500000), 1);
    assert_int_equal(ch_money_round(1499999), 1);
    assert_int_equal(ch_money_round(1500000), 2);
    ch_femto_sum largest = (ch_femto_sum)INT64_MAX * CH_FEMTO_PER_NANO;
    assert_true(ch_money_round(largest) == INT64_MAX);
    assert_true(ch_money_round(largest + CH_FEMTO_PER_NANO) == INT64_MAX);
    assert_true(ch_money_round(largest * 1000) == INT64_MAX);
}

static void prices_are_read_exactly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t femto;
    } cases[] = {
        {"0", 0},
        {"0.0", 0},
        {"1", CH_FEMTO_PER_USD},
        {"0.01", CH_FEMTO_PER_USD / 100},
        {".5", CH_FEMTO_PER_USD / 2},
        {"2.5e-06", INT64_C(2500000000)},
        {"2.5E-6", INT64_C(2500000000)},
        {"1e+2", 100 * CH_FEMTO_PER_USD},
        {"1e2", 100 * CH_FEMTO_PER_USD},
        {"2.0000000000000003e-07", INT64_C(200000000)}, // float noise, both ways
        {"1.9999999999999999e-07", INT64_C(200000000)},
        {"0.00000000000005", 100}, // 5e-14 rounds up to 1e-13
        {"0.000000000000049", 0},
        {"1e-40", 0},
        {"9223.3", INT64_C(9223300000000000000)},
        {"000000000000000000001", CH_FEMTO_PER_USD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t femto = -1;
        assert_int_equal(ch_money_parse_femto(ch_span_of(cases[i].text), &femto), CH_OK);
        assert_true(femto == cases[i].femto);
    }
}

static void prices_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      ".",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1.",
                                      "1..2",
                                      "1.2.3",
                                      "1e",
                                      "e5",
                                      "1e-",
                                      "1e+-5",
                                      "1e1.5",
                                      "0x10",
                                      "1,5",
                                      "1_0",
                                      "nan",
                                      "inf",
                                      "1e999",
                                      "1e41",
                                      "1e-41",
                                      "1e99999999999999999999",
                                      "1111111111111111111111111111111"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t femto = 7;
        if (ch_money_parse_femto(ch_span_of(bad[i]), &femto) != CH_ERR_INVALID)
            fail_msg("accepted \"%s\"", bad[i]);
        assert_int_equal(femto, 7);
    }
    static const char *const large[] = {"9224", "1e10", "1e40", "99999999999999999999999999999"};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        int64_t femto;
        assert_int_equal(ch_money_parse_femto(ch_span_of(large[i]), &femto), CH_ERR_LIMIT);
    }
}

static void amounts_have_at_most_nine_decimals(void **state)
{
    (void)state;
    int64_t nano;
    assert_int_equal(ch_money_parse_nano(CH_SPAN("100"), &nano), CH_OK);
    assert_true(nano == 100 * CH_NANO_PER_USD);
    assert_int_equal(ch_money_parse_nano(CH_SPAN("0.25"), &nano), CH_OK);
    assert_int_equal(nano, CH_NANO_PER_USD / 4);
    assert_int_equal(ch_money_parse_nano(CH_SPAN("0.000000001"), &nano), CH_OK);
    assert_int_equal(nano, 1);
    assert_int_equal(ch_money_parse_nano(CH_SPAN("9223372036.854775807"), &nano), CH_OK);
    assert_true(nano == INT64_MAX);
    assert_int_equal(ch_money_parse_nano(CH_SPAN("9223372036.854775808"), &nano), CH_ERR_LIMIT);
    assert_int_equal(ch_money_parse_nano(CH_SPAN("0.0000000001"), &nano), CH_ERR_INVALID);
    assert_int_equal(ch_money_parse_nano(CH_SPAN("-1"), &nano), CH_ERR_INVALID);
    assert_int_equal(ch_money_parse_nano(CH_SPAN("$1"), &nano), CH_ERR_INVALID);
    assert_int_equal(ch_money_parse_nano((struct ch_span){0}, &nano), CH_ERR_INVALID);
}

static void amounts_are_written_with_nine_decimals(void **state)
{
    (void)state;
    char text[CH_MONEY_TEXT];
    static const struct {
        int64_t nano;
        const char *text;
    } cases[] = {
        {0, "0.000000000"},
        {1, "0.000000001"},
        {5615000, "0.005615000"},
        {100 * CH_NANO_PER_USD, "100.000000000"},
        {-1, "-0.000000001"},
        {-1500000000, "-1.500000000"},
        {INT64_MAX, "9223372036.854775807"},
        {INT64_MIN, "-9223372036.854775808"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ch_money_format(cases[i].nano, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void prices_are_written_as_short_as_they_are(void **state)
{
    (void)state;
    static const char *const texts[] = {"0", "1", "0.0000025", "100", "0.0000000000001", "9223.3"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int64_t femto;
        char text[CH_MONEY_TEXT];
        assert_int_equal(ch_money_parse_femto(ch_span_of(texts[i]), &femto), CH_OK);
        ch_money_format_femto(femto, text);
        assert_string_equal(text, texts[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding_is_half_up_and_saturates),
        cmocka_unit_test(prices_are_read_exactly),
        cmocka_unit_test(prices_that_are_none_are_refused),
        cmocka_unit_test(amounts_have_at_most_nine_decimals),
        cmocka_unit_test(amounts_are_written_with_nine_decimals),
        cmocka_unit_test(prices_are_written_as_short_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
