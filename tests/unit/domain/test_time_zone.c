// SPDX-License-Identifier: Apache-2.0
// The zones are files of the fuzz corpus (copies from tzdata), so no test hangs on the machine's
// own.
#include "domain/time_zone.h"

#include "base/clock.h"

#include "../sanitizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define ZONE_DIR CH_SOURCE_DIR "/tests/fuzz/time_zone/corpus/"
#define HOUR_MS  INT64_C(3600000)
#define DAY_MS   (24 * HOUR_MS)

static size_t read_zone(const char *name, char bytes[CH_TIME_ZONE_FILE_MAX])
{
    char path[512];
    snprintf(path, sizeof path, ZONE_DIR "%s", name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, CH_TIME_ZONE_FILE_MAX, file);
    fclose(file);
    return size;
}

static struct ch_time_zone *load(const char *name)
{
    static char bytes[CH_TIME_ZONE_FILE_MAX];
    struct ch_time_zone *zone = NULL;
    size_t size = read_zone(name, bytes);
    assert_int_equal(ch_time_zone_parse((struct ch_span){bytes, size}, &zone), CH_OK);
    return zone;
}

// A file of one type and no change: what the footer says holds always.
static enum ch_err parse_footer(const char *footer, struct ch_time_zone **zone_out)
{
    static const char header[44] =
        "TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        "\0\0\0\0\1\0\0\0\4";
    static const char block[10] = "\0\0\0\0\0\0LMT";
    char bytes[512];
    char *end = bytes;
    for (int i = 0; i < 2; i++) {
        end = mempcpy(end, header, sizeof header);
        end = mempcpy(end, block, sizeof block);
    }
    end += sprintf(end, "\n%s\n", footer);
    return ch_time_zone_parse((struct ch_span){bytes, (size_t)(end - bytes)}, zone_out);
}

static void expect_midnight(const struct ch_time_zone *zone, int year, int month, int day,
                            const char *utc)
{
    char text[25];
    ch_clock_format_utc(ch_time_zone_midnight_ms(zone, ch_civil_day(year, month, day)), text);
    assert_string_equal(text, utc);
}

// ----

static void civil_days_count_like_the_c_library(void **state)
{
    (void)state;
    for (int64_t day = -719162; day <= 2932896; day += day > -1000 && day < 40000 ? 1 : 97) {
        time_t at = (time_t)(day * 86400);
        struct tm tm;
        assert_non_null(gmtime_r(&at, &tm));
        struct ch_civil_date date = ch_civil_date(day);
        assert_int_equal(date.year, tm.tm_year + 1900);
        assert_int_equal(date.month, tm.tm_mon + 1);
        assert_int_equal(date.day, tm.tm_mday);
        assert_int_equal(ch_civil_day(date.year, date.month, date.day), day);
        assert_int_equal(ch_civil_weekday(day), (tm.tm_wday + 6) % 7);
    }
    assert_int_equal(ch_civil_day(2024, 2, 31), ch_civil_day(2024, 3, 2));
}

static const char *const zones[] = {
    "America-New_York", "Asia-Kolkata",     "Pacific-Auckland",    "America-Sao_Paulo",
    "America-Havana",   "America-St_Johns", "Pacific-Apia",        "Africa-Casablanca",
    "Europe-Dublin",    "Asia-Gaza",        "Australia-Lord_Howe", "America-Scoresbysund",
};
#define ZONES (sizeof zones / sizeof *zones)

static void use_zone_of_c_library(const char *name)
{
    char variable[512];
    snprintf(variable, sizeof variable, ":" ZONE_DIR "%s", name);
    setenv("TZ", variable, 1);
    tzset();
}

static void check_instant(const struct ch_time_zone *zone, int64_t at_s)
{
    time_t at = (time_t)at_s;
    struct tm tm;
    assert_non_null(localtime_r(&at, &tm));
    struct ch_civil_time time = ch_time_zone_civil(zone, at_s * 1000 + 999);
    struct ch_civil_date date = ch_civil_date(time.day);
    if (time.offset_s != tm.tm_gmtoff)
        fail_msg("at %lld: offset %d, not %ld", (long long)at_s, time.offset_s, tm.tm_gmtoff);
    assert_int_equal(date.year, tm.tm_year + 1900);
    assert_int_equal(date.month, tm.tm_mon + 1);
    assert_int_equal(date.day, tm.tm_mday);
    assert_int_equal(time.hour, tm.tm_hour);
    assert_int_equal(time.minute, tm.tm_min);
    assert_int_equal(time.second, tm.tm_sec);
}

// From 1900 to 2100, so the listed changes and the footer's rule are both met.
static void local_times_agree_with_the_c_library(void **state)
{
    (void)state;
    for (size_t i = 0; i < ZONES; i++) {
        struct ch_time_zone *zone = load(zones[i]);
        use_zone_of_c_library(zones[i]);
        for (int64_t at_s = INT64_C(-2208988800); at_s < INT64_C(4102444800);
             at_s += CH_TSAN_SHARE * 7 * 3600 - 1)
            check_instant(zone, at_s);
        ch_time_zone_free(zone);
    }
}

static void check_midnight(const struct ch_time_zone *zone, int64_t day)
{
    int64_t start_ms = ch_time_zone_midnight_ms(zone, day);
    assert_true(ch_time_zone_civil(zone, start_ms).day >= day);
    for (int64_t ms = start_ms - 1; ms > start_ms - 26 * HOUR_MS; ms -= HOUR_MS / 2)
        assert_true(ch_time_zone_civil(zone, ms).day < day);
}

static void a_day_begins_when_its_date_is_first_reached(void **state)
{
    (void)state;
    for (size_t i = 0; i < ZONES; i++) {
        struct ch_time_zone *zone = load(zones[i]);
        for (int64_t day = ch_civil_day(2005, 1, 1); day < ch_civil_day(2045, 1, 1);
             day += CH_TSAN_SHARE)
            check_midnight(zone, day);
        ch_time_zone_free(zone);
    }
}

static void days_of_daylight_saving_have_the_hours_they_have(void **state)
{
    (void)state;
    struct ch_time_zone *zone = load("America-New_York");
    expect_midnight(zone, 2026, 3, 8, "2026-03-08T05:00:00.000Z"); // 23 hours
    expect_midnight(zone, 2026, 3, 9, "2026-03-09T04:00:00.000Z");
    expect_midnight(zone, 2026, 11, 1, "2026-11-01T04:00:00.000Z"); // 25 hours
    expect_midnight(zone, 2026, 11, 2, "2026-11-02T05:00:00.000Z");
    ch_time_zone_free(zone);

    zone = load("Pacific-Auckland");
    expect_midnight(zone, 2026, 4, 5, "2026-04-04T11:00:00.000Z"); // 25 hours
    expect_midnight(zone, 2026, 4, 6, "2026-04-05T12:00:00.000Z");
    expect_midnight(zone, 2026, 9, 27, "2026-09-26T12:00:00.000Z"); // 23 hours
    expect_midnight(zone, 2026, 9, 28, "2026-09-27T11:00:00.000Z");
    expect_midnight(zone, 2027, 1, 1, "2026-12-31T11:00:00.000Z");
    ch_time_zone_free(zone);

    zone = load("Asia-Kolkata");
    expect_midnight(zone, 2026, 2, 28, "2026-02-27T18:30:00.000Z");
    expect_midnight(zone, 2026, 3, 1, "2026-02-28T18:30:00.000Z");
    ch_time_zone_free(zone);
}

static void odd_midnights_have_one_answer(void **state)
{
    (void)state;
    struct ch_time_zone *zone = load("America-Sao_Paulo");
    // The clock skips 00:00–01:00: the day begins at 01:00 −02.
    expect_midnight(zone, 2018, 11, 4, "2018-11-04T03:00:00.000Z");
    // At 24:00 the clock goes back to 23:00, so midnight is reached once, an hour later.
    expect_midnight(zone, 2018, 2, 18, "2018-02-18T03:00:00.000Z");
    ch_time_zone_free(zone);

    zone = load("America-Havana"); // 01:00 goes back to 00:00: the first of two midnights
    expect_midnight(zone, 2026, 11, 1, "2026-11-01T04:00:00.000Z");
    ch_time_zone_free(zone);

    zone = load("America-St_Johns"); // 00:01 went back to 23:01 of the day before
    expect_midnight(zone, 2010, 11, 7, "2010-11-07T02:30:00.000Z");
    ch_time_zone_free(zone);

    zone = load("Pacific-Apia"); // 2011-12-30 did not exist
    expect_midnight(zone, 2011, 12, 30, "2011-12-30T10:00:00.000Z");
    expect_midnight(zone, 2011, 12, 31, "2011-12-30T10:00:00.000Z");
    ch_time_zone_free(zone);
}

static void without_a_zone_it_is_utc(void **state)
{
    (void)state;
    expect_midnight(NULL, 2026, 7, 29, "2026-07-29T00:00:00.000Z");
    expect_midnight(NULL, 1969, 12, 31, "1969-12-31T00:00:00.000Z");
    assert_int_equal(ch_time_zone_civil(NULL, -1).day, -1);
    assert_int_equal(ch_time_zone_civil(NULL, -1).second, 59);
}

static void instants_out_of_range_count_as_the_nearest(void **state)
{
    (void)state;
    struct ch_time_zone *zone = load("America-New_York");
    struct ch_civil_time last = ch_time_zone_civil(zone, INT64_MAX);
    assert_int_equal(ch_civil_date(last.day).year, 9999);
    assert_int_equal(ch_civil_date(ch_time_zone_civil(zone, INT64_MIN).day).year, 0);
    assert_true(ch_time_zone_midnight_ms(zone, INT64_MAX) > ch_time_zone_midnight_ms(zone, 0));
    assert_true(ch_time_zone_midnight_ms(zone, INT64_MIN) < ch_time_zone_midnight_ms(zone, 0));
    ch_time_zone_free(zone);
}

static void check_footer(const char *footer, int64_t utc_s, int offset_s)
{
    struct ch_time_zone *zone;
    if (parse_footer(footer, &zone))
        fail_msg("refused: %s", footer);
    int found_s = ch_time_zone_civil(zone, utc_s * 1000).offset_s;
    if (found_s != offset_s)
        fail_msg("%s at %lld: %d", footer, (long long)utc_s, found_s);
    ch_time_zone_free(zone);
}

static void footers_say_what_posix_says(void **state)
{
    (void)state;
    const int64_t january = ch_civil_day(2026, 1, 15) * 86400;
    const int64_t july = ch_civil_day(2026, 7, 15) * 86400;
    check_footer("", july, 0); // the listed type
    check_footer("UTC0", july, 0);
    check_footer("IST-5:30", july, 19800);
    check_footer("<+0545>-5:45", july, 20700);
    check_footer("<-00>1:02:03", july, -3723);
    check_footer("EST5EDT,M3.2.0,M11.1.0", january, -18000);
    check_footer("EST5EDT,M3.2.0,M11.1.0", july, -14400);
    check_footer("NZST-12NZDT,M9.5.0,M4.1.0/3", january, 46800);
    check_footer("NZST-12NZDT,M9.5.0,M4.1.0/3", july, 43200);
    check_footer("IST-1GMT0,M10.5.0,M3.5.0/1", january, 0); // Dublin's "negative summer"
    check_footer("IST-1GMT0,M10.5.0,M3.5.0/1", july, 3600);
    check_footer("XXX3EDT4,0/0,J365/23", january, -14400); // summer for ever (RFC 8536 §3.3.1)
    check_footer("XXX3EDT4,0/0,J365/23", ch_civil_day(2026, 1, 1) * 86400 + 3 * 3600, -14400);
    check_footer("XXX3EDT4,0/0,J365/23", ch_civil_day(2026, 1, 1) * 86400 + 3 * 3600 - 1, -14400);
    check_footer("<-03>3<-02>,M3.5.0/-2,M10.5.0/-1", july, -7200);
    check_footer("EET-2EEST,M3.4.4/50,M10.4.4/50", july, 10800);
    // Both changes of a year stand in the next one.
    check_footer("AAA0BBB,J364/100,J365/167", ch_civil_day(2026, 1, 1) * 86400, 0);
    check_footer("AAA0BBB,J364/100,J365/167", ch_civil_day(2026, 1, 4) * 86400, 3600);
    check_footer("AAA0BBB,J364/100,J365/167", ch_civil_day(2026, 1, 7) * 86400, 0);
    // Day 60 of Jn is the 1st of March in every year, of n it is the 29th of February or not.
    const int64_t first_march = ch_civil_day(2024, 3, 1) * 86400;
    check_footer("AAA0BBB,J60/0,J300", first_march - 1, 0);
    check_footer("AAA0BBB,J60/0,J300", first_march, 3600);
    check_footer("AAA0BBB,59/0,300", first_march - 86400 - 1, 0);
    check_footer("AAA0BBB,59/0,300", first_march - 86400, 3600);
}

static void footers_that_say_nothing_are_refused(void **state)
{
    (void)state;
    static const char *const footers[] = {
        "A0",
        "AA0",
        "UTC",
        "UTC+",
        "UTC25",
        "UTC0 ",
        "UTC0:60",
        "UTC0:0:60",
        "UTC0000",
        "<UTC0",
        "<U*C>0",
        "EST5EDT",
        "EST5EDT,",
        "EST5EDT4",
        "EST5EDT,M3.2.0",
        "EST5EDT,M3.2.0,M11.1",
        "EST5EDT,M13.2.0,M11.1.0",
        "EST5EDT,M3.6.0,M11.1.0",
        "EST5EDT,M3.0.0,M11.1.0",
        "EST5EDT,M3.2.7,M11.1.0",
        "EST5EDT,J0,J300",
        "EST5EDT,J1,J366",
        "EST5EDT,0,366",
        "EST5EDT,M3.2.0/168,M11.1.0",
        "EST5EDT,M3.2.0,M11.1.0,",
        "EST5ED,M3.2.0,M11.1.0",
    };
    struct ch_time_zone *zone;
    for (size_t i = 0; i < sizeof footers / sizeof *footers; i++)
        if (parse_footer(footers[i], &zone) != CH_ERR_INVALID)
            fail_msg("accepted: %s", footers[i]);
}

static void broken_files_are_refused(void **state)
{
    (void)state;
    static char bytes[CH_TIME_ZONE_FILE_MAX + 1];
    struct ch_time_zone *zone;
    size_t size = read_zone("Asia-Kolkata", bytes);
    for (size_t cut = 0; cut < size; cut++)
        assert_int_equal(ch_time_zone_parse((struct ch_span){bytes, cut}, &zone), CH_ERR_INVALID);
    assert_int_equal(ch_time_zone_parse((struct ch_span){bytes, size + 1}, &zone), CH_ERR_INVALID);
    assert_int_equal(ch_time_zone_parse((struct ch_span){bytes, sizeof bytes}, &zone),
                     CH_ERR_LIMIT);
    // Of the first header: the magic, the version, then each count's highest byte.
    static const size_t places[] = {0, 3, 4, 20, 24, 28, 32, 36, 40};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char was = bytes[places[i]];
        bytes[places[i]] = (char)(was == 0 ? 0x7f : 1);
        assert_int_equal(ch_time_zone_parse((struct ch_span){bytes, size}, &zone), CH_ERR_INVALID);
        bytes[places[i]] = was;
    }
    assert_int_equal(ch_time_zone_parse((struct ch_span){bytes, size}, &zone), CH_OK);
    ch_time_zone_free(zone);
}

static void files_of_other_shapes_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {
        "version_1",         "leap_seconds",        "no_types",       "times_descend",
        "type_out_of_range", "offset_out_of_range", "counts_overflow"};
    static char bytes[CH_TIME_ZONE_FILE_MAX];
    struct ch_time_zone *zone;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t size = read_zone(names[i], bytes);
        if (ch_time_zone_parse((struct ch_span){bytes, size}, &zone) != CH_ERR_INVALID)
            fail_msg("accepted: %s", names[i]);
    }
}

static void names_stay_inside_their_directory(void **state)
{
    (void)state;
    static const char *const good[] = {"UTC", "Asia/Kolkata", "Etc/GMT+5", "America/Port-au-Prince",
                                       "America/Argentina/ComodRivadavia"};
    static const char *const bad[] = {
        "",
        "/UTC",
        "UTC/",
        "Asia//Kolkata",
        "../UTC",
        "Asia/../../etc/shadow",
        "a.b",
        "tzdata.zi",
        "Asia\\Kolkata",
        "A B",
        "Zürich",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(ch_time_zone_name_is_valid(ch_span_of(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(ch_time_zone_name_is_valid(ch_span_of(bad[i])));
    assert_false(ch_time_zone_name_is_valid(CH_SPAN("UTC\0")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(civil_days_count_like_the_c_library),
        cmocka_unit_test(local_times_agree_with_the_c_library),
        cmocka_unit_test(a_day_begins_when_its_date_is_first_reached),
        cmocka_unit_test(days_of_daylight_saving_have_the_hours_they_have),
        cmocka_unit_test(odd_midnights_have_one_answer),
        cmocka_unit_test(without_a_zone_it_is_utc),
        cmocka_unit_test(instants_out_of_range_count_as_the_nearest),
        cmocka_unit_test(footers_say_what_posix_says),
        cmocka_unit_test(footers_that_say_nothing_are_refused),
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(files_of_other_shapes_are_refused),
        cmocka_unit_test(names_stay_inside_their_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
