// SPDX-License-Identifier: Apache-2.0
#include "admin/when.h"

#define MS_PER_SECOND INT64_C(1000)
#define MS_PER_DAY    (INT64_C(86400) * MS_PER_SECOND)
#define DURATION_MAX  (INT64_C(36500) * MS_PER_DAY) // a century: beyond it a typing error

static int64_t unit_ms(char unit)
{
    switch (unit) {
    case 's':
        return MS_PER_SECOND;
    case 'm':
        return 60 * MS_PER_SECOND;
    case 'h':
        return 3600 * MS_PER_SECOND;
    case 'd':
        return MS_PER_DAY;
    case 'w':
        return 7 * MS_PER_DAY;
    default:
        return 0;
    }
}

static enum ch_err parse_duration(struct ch_span text, int64_t *ms_out)
{
    int64_t count;
    if (text.len < 2)
        return CH_ERR_INVALID;
    int64_t unit = unit_ms(text.ptr[text.len - 1]);
    text.len--;
    if (unit == 0 || ch_span_to_int64(text, &count) || count == 0 || count > DURATION_MAX / unit)
        return CH_ERR_INVALID;
    *ms_out = count * unit;
    return CH_OK;
}

// `width` digits at `at`; -1 when they are not digits.
static int64_t digits(struct ch_span text, size_t at, size_t width)
{
    int64_t value;
    if (at + width > text.len || ch_span_to_int64((struct ch_span){text.ptr + at, width}, &value))
        return -1;
    return value;
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int64_t days_in_month(int64_t year, int64_t month)
{
    static const int64_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap(year));
}

// Days from 1970-01-01 (proleptic Gregorian), by counting: the range is small and the code plain.
static int64_t days_since_epoch(int64_t year, int64_t month, int64_t day)
{
    int64_t days = day - 1;
    for (int64_t y = 1970; y < year; y++)
        days += 365 + is_leap(y);
    for (int64_t m = 1; m < month; m++)
        days += days_in_month(year, m);
    return days;
}

static enum ch_err parse_date(struct ch_span text, int64_t *ms_out)
{
    int64_t year = digits(text, 0, 4), month = digits(text, 5, 2), day = digits(text, 8, 2);
    if (year < 1970 || year > 2999 || text.ptr[4] != '-' || month < 1 || month > 12 ||
        text.ptr[7] != '-' || day < 1 || day > days_in_month(year, month))
        return CH_ERR_INVALID;
    *ms_out = days_since_epoch(year, month, day) * MS_PER_DAY;
    return CH_OK;
}

// "HH:MMZ" or "HH:MM:SSZ".
static enum ch_err parse_time_of_day(struct ch_span text, int64_t *ms_out)
{
    bool has_seconds = text.len == 9;
    if (!has_seconds && text.len != 6)
        return CH_ERR_INVALID;
    int64_t hour = digits(text, 0, 2), minute = digits(text, 3, 2);
    int64_t second = has_seconds ? digits(text, 6, 2) : 0;
    if (hour < 0 || hour > 23 || text.ptr[2] != ':' || minute < 0 || minute > 59 || second < 0 ||
        second > 59 || (has_seconds && text.ptr[5] != ':') || text.ptr[text.len - 1] != 'Z')
        return CH_ERR_INVALID;
    *ms_out = ((hour * 60 + minute) * 60 + second) * MS_PER_SECOND;
    return CH_OK;
}

static enum ch_err parse_timestamp(struct ch_span text, int64_t *ms_out)
{
    int64_t date_ms, time_ms = 0;
    if (text.len < 10 || parse_date((struct ch_span){text.ptr, 10}, &date_ms))
        return CH_ERR_INVALID;
    if (text.len > 10 &&
        (text.ptr[10] != 'T' || parse_time_of_day(ch_span_sub(text, 11), &time_ms)))
        return CH_ERR_INVALID;
    *ms_out = date_ms + time_ms;
    return CH_OK;
}

static bool parse_word(struct ch_span text, int64_t now_ms, int64_t *ms_out)
{
    int64_t today = now_ms - now_ms % MS_PER_DAY;
    if (ch_span_eq(text, CH_SPAN("now")))
        *ms_out = now_ms;
    else if (ch_span_eq(text, CH_SPAN("today")))
        *ms_out = today;
    else if (ch_span_eq(text, CH_SPAN("yesterday")))
        *ms_out = today - MS_PER_DAY;
    else
        return false;
    return true;
}

enum ch_err ch_when_parse(struct ch_span text, enum ch_when_direction direction, int64_t now_ms,
                          int64_t *ms_out)
{
    int64_t duration_ms;
    if (parse_word(text, now_ms, ms_out))
        return CH_OK;
    if (parse_duration(text, &duration_ms))
        return parse_timestamp(text, ms_out);
    *ms_out = direction == CH_WHEN_AHEAD ? now_ms + duration_ms : now_ms - duration_ms;
    return CH_OK;
}
