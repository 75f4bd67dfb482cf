// SPDX-License-Identifier: Apache-2.0
#include "base/id.h"

#include "base/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#define NOW_MS INT64_C(1795000000000) // in November 2026

static void base62_digits_and_values_agree(void **state)
{
    (void)state;
    int digits = 0;
    for (int c = 0; c < 256; c++) {
        int value = ch_base62_value((char)c);
        if (value < 0)
            continue;
        assert_int_equal(ch_base62_digits[value], c);
        digits++;
    }
    assert_int_equal(digits, 62);
}

static void base62_is_written_most_significant_first(void **state)
{
    (void)state;
    char text[12] = "";
    ch_base62_encode(0, text, 3);
    assert_string_equal(text, "000");
    ch_base62_encode(61, text, 3);
    assert_string_equal(text, "00z");
    ch_base62_encode(62, text, 3);
    assert_string_equal(text, "010");
    ch_base62_encode(UINT64_MAX, text, 11);
    assert_string_equal(text, "LygHa16AHYF");
}

static void random_digits_use_the_whole_alphabet_evenly(void **state)
{
    (void)state;
    enum { DIGITS = 62 * 1000 };
    static char digits[DIGITS];
    int counts[62] = {0};
    ch_base62_random(digits, sizeof digits);
    for (size_t i = 0; i < sizeof digits; i++)
        counts[ch_base62_value(digits[i])]++;
    // 1000 each is expected with a deviation of 31; 200 is more than six of them.
    for (size_t i = 0; i < 62; i++)
        assert_in_range(counts[i], 800, 1200);
}

static void crc_is_the_one_of_zlib(void **state)
{
    (void)state;
    assert_int_equal(ch_crc32(CH_SPAN("123456789")), 0xCBF43926); // the check value of ISO-HDLC
    assert_int_equal(ch_crc32(CH_SPAN("")), 0);
}

static void ids_grow_while_the_clock_stands_or_goes_back(void **state)
{
    (void)state;
    struct ch_id_source source;
    ch_id_source_init(&source, 3, 0);
    int64_t last = ch_id_next(&source, NOW_MS);
    assert_true(last > 0);
    for (int i = 0; i < 100000; i++) { // far more than one millisecond holds
        int64_t id = ch_id_next(&source, i % 3 ? NOW_MS : NOW_MS - 5000);
        assert_true(id > last);
        last = id;
    }
    assert_true(ch_id_next(&source, NOW_MS + 60000) > last);
}

static void a_floor_parts_the_ids_of_two_milliseconds(void **state)
{
    (void)state;
    struct ch_id_source first, last;
    ch_id_source_init(&first, 0, 0);
    ch_id_source_init(&last, 255, 0);
    int64_t id = ch_id_next(&last, NOW_MS - 1);
    for (int i = 1; i < 1 << 14; i++) // all that a millisecond holds
        id = ch_id_next(&last, NOW_MS - 1);
    assert_true(id < ch_id_floor(NOW_MS));
    assert_true(ch_id_next(&last, NOW_MS - 1) >= ch_id_floor(NOW_MS));
    assert_int_equal(ch_id_next(&first, NOW_MS), ch_id_floor(NOW_MS));
    assert_int_equal(ch_id_floor(INT64_MIN), 0);
    assert_int_equal(ch_id_floor(INT64_C(1735689600001)), 1 << 22); // the first one
    assert_int_equal(ch_id_floor(INT64_C(1735689600000) + (INT64_C(1) << 41) - 1),
                     INT64_MAX - ((1 << 22) - 1)); // the last one
    assert_int_equal(ch_id_floor(INT64_C(1735689600000) + (INT64_C(1) << 41)), INT64_MAX);
    assert_int_equal(ch_id_floor(INT64_MAX), INT64_MAX);
}

static void ids_of_two_loops_never_meet(void **state)
{
    (void)state;
    enum { IDS = 40000 };
    struct ch_id_source a, b;
    ch_id_source_init(&a, 0, 0);
    ch_id_source_init(&b, 255, 0);
    int64_t x = ch_id_next(&a, NOW_MS), y = ch_id_next(&b, NOW_MS);
    for (int i = 0; i < IDS; i++) { // a merge of two growing rows
        assert_true(x != y);
        if (x < y)
            x = ch_id_next(&a, NOW_MS);
        else
            y = ch_id_next(&b, NOW_MS);
    }
}

static void ids_start_above_the_floor(void **state)
{
    (void)state;
    struct ch_id_source first, restarted;
    ch_id_source_init(&first, 7, 0);
    int64_t floor = ch_id_next(&first, NOW_MS);
    for (unsigned loop = 0; loop < 16; loop++) { // the clock was set back before the restart
        ch_id_source_init(&restarted, loop, floor);
        assert_true(ch_id_next(&restarted, NOW_MS - 86400000) > floor);
    }
}

static void ids_are_shown_and_read_back(void **state)
{
    (void)state;
    static const int64_t ids[] = {1, 62, INT64_C(4503599627370496), INT64_MAX};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        char text[CH_REQUEST_ID_TEXT];
        int64_t id = 0;
        ch_id_format(ids[i], text);
        assert_int_equal(strlen(text), CH_REQUEST_ID_TEXT - 1);
        assert_int_equal(ch_id_parse(ch_span_of(text), &id), CH_OK);
        assert_true(id == ids[i]);
    }
}

static void texts_that_are_no_id_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "req_",
                                      "req_0000000000",
                                      "req_000000000001",
                                      "Req_00000000001",
                                      "req-00000000001",
                                      "req_0000000000-",
                                      "req_0000000000 ",
                                      "req_zzzzzzzzzzz",  // past 64 bits
                                      "req_B0000000000"}; // past 63 bits
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t id;
        assert_int_equal(ch_id_parse(ch_span_of(bad[i]), &id), CH_ERR_INVALID);
    }
}

static int start(void **state)
{
    (void)state;
    struct ch_why why;
    return ch_secret_process_init(&why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base62_digits_and_values_agree),
        cmocka_unit_test(base62_is_written_most_significant_first),
        cmocka_unit_test(random_digits_use_the_whole_alphabet_evenly),
        cmocka_unit_test(crc_is_the_one_of_zlib),
        cmocka_unit_test(ids_grow_while_the_clock_stands_or_goes_back),
        cmocka_unit_test(a_floor_parts_the_ids_of_two_milliseconds),
        cmocka_unit_test(ids_of_two_loops_never_meet),
        cmocka_unit_test(ids_start_above_the_floor),
        cmocka_unit_test(ids_are_shown_and_read_back),
        cmocka_unit_test(texts_that_are_no_id_are_refused),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
