// SPDX-License-Identifier: Apache-2.0
#include "domain/time_zone.h"

#include "base/secret.h"

#include <limits.h>

#define DAY_S  INT64_C(86400)
#define HOUR_S 3600

// ---- The calendar

// Floor, not truncation: instants before 1970 are negative.
static int64_t floor_div(int64_t value, int64_t by)
{
    return value / by - (value % by < 0);
}

// Both ways after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin with
// March, so that the leap day is the last of its year, and are grouped in eras of 400.
#define ERA_DAYS   146097
#define ERA_OFFSET 719468 // days from 0000-03-01 to 1970-01-01

struct ch_civil_date ch_civil_date(int64_t day)
{
    int64_t z = day + ERA_OFFSET;
    int64_t era = floor_div(z, ERA_DAYS);
    int64_t doe = z - era * ERA_DAYS; // day of the era
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153; // month, March is 0
    struct ch_civil_date date = {
        .year = yoe + era * 400 + (mp >= 10),
        .month = (int)(mp < 10 ? mp + 3 : mp - 9),
        .day = (int)(doy - (153 * mp + 2) / 5 + 1),
    };
    return date;
}

int64_t ch_civil_day(int64_t year, int month, int day_of_month)
{
    int64_t y = year - (month <= 2);
    int64_t era = floor_div(y, 400);
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5;
    return era * ERA_DAYS + yoe * 365 + yoe / 4 - yoe / 100 + doy - ERA_OFFSET + day_of_month - 1;
}

int ch_civil_weekday(int64_t day)
{
    int64_t since_monday = (day + 3) % 7;
    return (int)(since_monday < 0 ? since_monday + 7 : since_monday);
}

// ---- The zone

// RFC 8536 §3.2: utoff SHOULD lie between −24:59:59 and +25:59:59. Here it must.
#define OFFSET_MIN_S (-25 * HOUR_S + 1)
#define OFFSET_MAX_S (26 * HOUR_S - 1)

enum rule_form {
    RULE_JULIAN,   // Jn: 1–365, the leap day is never counted
    RULE_YEAR_DAY, // n: 0–365, the leap day is counted
    RULE_MONTH,    // Mm.w.d
};

// The local instant of a yearly change (RFC 8536 §3.3.1, POSIX.1-2017 §8.3).
struct rule {
    enum rule_form form;
    int month, week, day; // `week` 5: the last; `day` of the week 0: Sunday, else of the year
    int time_s;           // since midnight; −167 h to 167 h
};

// The footer: what holds after the last listed change.
struct footer {
    bool is_present, has_summer;
    int standard_s, summer_s; // offsets
    struct rule begin, end;   // of summer time
};

struct change {
    int64_t at_s;
    int offset_s; // from then on
};

struct ch_time_zone {
    struct footer footer;
    int first_offset_s; // before the first change
    size_t count;
    struct change changes[]; // ascending
};

// A stretch of constant offset that begins at or before the instant asked for.
struct stretch {
    int64_t end_s; // INT64_MAX: for ever
    int offset_s;
};

static int64_t rule_day(const struct rule *rule, int64_t year)
{
    int64_t first = ch_civil_day(year, 1, 1);
    switch (rule->form) {
    case RULE_JULIAN: {
        bool is_leap = ch_civil_day(year + 1, 1, 1) - first == 366;
        return first + rule->day - 1 + (is_leap && rule->day >= 60); // 60: the 1st of March
    }
    case RULE_YEAR_DAY:
        return first + rule->day;
    case RULE_MONTH:
        break;
    }
    int64_t month = ch_civil_day(year, rule->month, 1);
    int64_t next =
        rule->month == 12 ? ch_civil_day(year + 1, 1, 1) : ch_civil_day(year, rule->month + 1, 1);
    int sunday_based = (ch_civil_weekday(month) + 1) % 7;
    int64_t day = month + (rule->day - sunday_based + 7) % 7 + 7 * (rule->week - 1);
    return day < next ? day : day - 7;
}

// Sorted insertion; of two changes at one instant the later inserted one wins.
static void insert_change(struct change *list, size_t *count, struct change change)
{
    size_t i = (*count)++;
    for (; i > 0 && list[i - 1].at_s > change.at_s; i--)
        list[i] = list[i - 1];
    list[i] = change;
}

// A rule's time may reach a week into the neighbouring years, so the changes around an instant
// stand within two years of its own.
#define YEARS_AROUND 2

static struct stretch footer_stretch(const struct footer *footer, int64_t at_s)
{
    if (!footer->has_summer)
        return (struct stretch){INT64_MAX, footer->standard_s};
    struct change list[2 * (2 * YEARS_AROUND + 1)];
    size_t count = 0;
    int64_t year = ch_civil_date(floor_div(at_s, DAY_S)).year;
    // Ends go in before begins: where they coincide, it is summer for the whole year.
    for (int64_t y = year - YEARS_AROUND; y <= year + YEARS_AROUND; y++) {
        int64_t end = rule_day(&footer->end, y) * DAY_S + footer->end.time_s - footer->summer_s;
        insert_change(list, &count, (struct change){end, footer->standard_s});
    }
    for (int64_t y = year - YEARS_AROUND; y <= year + YEARS_AROUND; y++) {
        int64_t begin =
            rule_day(&footer->begin, y) * DAY_S + footer->begin.time_s - footer->standard_s;
        insert_change(list, &count, (struct change){begin, footer->summer_s});
    }
    size_t i = 0;
    while (list[i].at_s <= at_s)
        i++;
    return (struct stretch){list[i].at_s, list[i - 1].offset_s};
}

// The number of changes at or before the instant.
static size_t changes_until(const struct ch_time_zone *zone, int64_t at_s)
{
    size_t low = 0, high = zone->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->changes[middle].at_s <= at_s)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct stretch stretch_at(const struct ch_time_zone *zone, int64_t at_s)
{
    if (!zone)
        return (struct stretch){INT64_MAX, 0};
    size_t passed = changes_until(zone, at_s);
    if (passed == zone->count && zone->footer.is_present)
        return footer_stretch(&zone->footer, at_s);
    return (struct stretch){
        .end_s = passed < zone->count ? zone->changes[passed].at_s : INT64_MAX,
        .offset_s = passed > 0 ? zone->changes[passed - 1].offset_s : zone->first_offset_s,
    };
}

// ---- Questions

#define INSTANT_MIN_S (-62135596800) // 0001-01-01T00:00:00Z
#define INSTANT_MAX_S 253402300799   // 9999-12-31T23:59:59Z

static int64_t clamp(int64_t value, int64_t min, int64_t max)
{
    return value < min ? min : value > max ? max : value;
}

struct ch_civil_time ch_time_zone_civil(const struct ch_time_zone *zone, int64_t utc_ms)
{
    int64_t at_s = clamp(floor_div(utc_ms, 1000), INSTANT_MIN_S, INSTANT_MAX_S);
    int offset_s = stretch_at(zone, at_s).offset_s;
    int64_t day = floor_div(at_s + offset_s, DAY_S);
    int second_of_day = (int)(at_s + offset_s - day * DAY_S);
    return (struct ch_civil_time){
        .day = day,
        .hour = second_of_day / HOUR_S,
        .minute = second_of_day / 60 % 60,
        .second = second_of_day % 60,
        .offset_s = offset_s,
    };
}

int64_t ch_time_zone_midnight_ms(const struct ch_time_zone *zone, int64_t day)
{
    // A margin of days lets a period that began inside the supported years end outside.
    day = clamp(day, INSTANT_MIN_S / DAY_S - 400, INSTANT_MAX_S / DAY_S + 400);
    int64_t local_s = day * DAY_S;
    // Every instant before this one shows an earlier local time, whatever the offset.
    int64_t at_s = local_s - OFFSET_MAX_S;
    for (;;) {
        struct stretch stretch = stretch_at(zone, at_s);
        int64_t wanted_s = local_s - stretch.offset_s;
        if (wanted_s < at_s)
            wanted_s = at_s; // the clock jumped over midnight into this stretch
        if (wanted_s < stretch.end_s)
            return wanted_s * 1000;
        at_s = stretch.end_s;
    }
}

// ---- Reading the footer

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool take(struct ch_span *text, char c)
{
    if (text->len == 0 || *text->ptr != c)
        return false;
    *text = ch_span_sub(*text, 1);
    return true;
}

static bool take_number(struct ch_span *text, int min, int max, int *number_out)
{
    int number = 0;
    size_t len = 0;
    for (; len < text->len && len < 3 && is_digit(text->ptr[len]); len++)
        number = number * 10 + (text->ptr[len] - '0');
    if (len == 0 || number < min || number > max)
        return false;
    *text = ch_span_sub(*text, len);
    *number_out = number;
    return true;
}

// "EST" or "<+0545>": at least three characters, which nobody needs here.
static bool take_name(struct ch_span *text)
{
    bool is_quoted = take(text, '<');
    size_t len = 0;
    for (; len < text->len; len++) {
        char c = text->ptr[len];
        if (!is_letter(c) && !(is_quoted && (is_digit(c) || c == '+' || c == '-')))
            break;
    }
    *text = ch_span_sub(*text, len);
    return len >= 3 && (!is_quoted || take(text, '>'));
}

// [+-]hh[:mm[:ss]]
static bool take_time(struct ch_span *text, int max_hours, int *seconds_out)
{
    bool is_negative = take(text, '-');
    if (!is_negative)
        (void)take(text, '+');
    int hours, minutes = 0, seconds = 0;
    if (!take_number(text, 0, max_hours, &hours))
        return false;
    if (take(text, ':')) {
        if (!take_number(text, 0, 59, &minutes))
            return false;
        if (take(text, ':') && !take_number(text, 0, 59, &seconds))
            return false;
    }
    int total = hours * HOUR_S + minutes * 60 + seconds;
    *seconds_out = is_negative ? -total : total;
    return true;
}

#define OFFSET_HOURS 24  // POSIX.1-2017 §8.3
#define RULE_HOURS   167 // RFC 8536 §3.3.1; POSIX has 24

static bool take_rule(struct ch_span *text, struct rule *rule)
{
    if (!take(text, ','))
        return false;
    bool ok;
    if (take(text, 'M')) {
        rule->form = RULE_MONTH;
        ok = take_number(text, 1, 12, &rule->month) && take(text, '.') &&
             take_number(text, 1, 5, &rule->week) && take(text, '.') &&
             take_number(text, 0, 6, &rule->day);
    } else if (take(text, 'J')) {
        rule->form = RULE_JULIAN;
        ok = take_number(text, 1, 365, &rule->day);
    } else {
        rule->form = RULE_YEAR_DAY;
        ok = take_number(text, 0, 365, &rule->day);
    }
    rule->time_s = 2 * HOUR_S;
    return ok && (!take(text, '/') || take_time(text, RULE_HOURS, &rule->time_s));
}

static enum ch_err read_footer(struct ch_span text, struct footer *footer)
{
    if (text.len == 0)
        return CH_OK;
    int west_s; // POSIX counts west of Greenwich
    if (!take_name(&text) || !take_time(&text, OFFSET_HOURS, &west_s))
        return CH_ERR_INVALID;
    footer->is_present = true;
    footer->standard_s = -west_s;
    if (text.len == 0)
        return CH_OK;
    footer->has_summer = true;
    footer->summer_s = footer->standard_s + HOUR_S;
    if (!take_name(&text))
        return CH_ERR_INVALID;
    if (text.len > 0 && *text.ptr != ',') {
        if (!take_time(&text, OFFSET_HOURS, &west_s))
            return CH_ERR_INVALID;
        footer->summer_s = -west_s;
    }
    bool ok = take_rule(&text, &footer->begin) && take_rule(&text, &footer->end);
    return ok && text.len == 0 ? CH_OK : CH_ERR_INVALID;
}

// ---- Reading TZif (RFC 8536 §3.1, §3.2)

#define HEADER 44 // bytes

struct header {
    char version;
    uint32_t ut_count, standard_count, leap_count, change_count, type_count, name_bytes;
};

static uint64_t big_endian(const char *ptr, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | (unsigned char)ptr[i];
    return value;
}

static bool take_header(struct ch_span *bytes, struct header *out)
{
    if (bytes->len < HEADER || !ch_span_starts(*bytes, CH_SPAN("TZif")))
        return false;
    const char *p = bytes->ptr;
    out->version = p[4];
    out->ut_count = (uint32_t)big_endian(p + 20, 4);
    out->standard_count = (uint32_t)big_endian(p + 24, 4);
    out->leap_count = (uint32_t)big_endian(p + 28, 4);
    out->change_count = (uint32_t)big_endian(p + 32, 4);
    out->type_count = (uint32_t)big_endian(p + 36, 4);
    out->name_bytes = (uint32_t)big_endian(p + 40, 4);
    *bytes = ch_span_sub(*bytes, HEADER);
    return true;
}

#define TYPE 6 // bytes: offset, is-summer, index of the name

static uint64_t block_size(const struct header *header, unsigned time_bytes)
{
    return (uint64_t)header->change_count * (time_bytes + 1) + (uint64_t)header->type_count * TYPE +
           header->name_bytes + (uint64_t)header->leap_count * (time_bytes + 4) +
           header->standard_count + header->ut_count;
}

static bool read_offset(const char *types, size_t index, int *offset_out)
{
    int32_t offset_s = (int32_t)(uint32_t)big_endian(types + index * TYPE, 4);
    *offset_out = offset_s;
    return offset_s >= OFFSET_MIN_S && offset_s <= OFFSET_MAX_S;
}

// `block`: change times, their types' indices, the types.
static bool read_changes(const char *block, const struct header *header, struct ch_time_zone *zone)
{
    const char *indices = block + (size_t)header->change_count * 8;
    const char *types = indices + header->change_count;
    if (!read_offset(types, 0, &zone->first_offset_s))
        return false;
    for (size_t i = 0; i < zone->count; i++) {
        struct change *change = &zone->changes[i];
        change->at_s = (int64_t)big_endian(block + i * 8, 8);
        size_t type = (unsigned char)indices[i];
        if ((i > 0 && change->at_s <= zone->changes[i - 1].at_s) || type >= header->type_count ||
            !read_offset(types, type, &change->offset_s))
            return false;
    }
    return true;
}

// The second header and its block with 64-bit times, and the footer; the first block repeats them
// for readers of version 1.
static bool split_file(struct ch_span bytes, struct header *header, const char **block_out,
                       struct ch_span *footer_out)
{
    if (!take_header(&bytes, header) || header->version < '2' || block_size(header, 4) > bytes.len)
        return false;
    bytes = ch_span_sub(bytes, block_size(header, 4));
    if (!take_header(&bytes, header) || header->version < '2' || block_size(header, 8) > bytes.len)
        return false;
    *block_out = bytes.ptr;
    bytes = ch_span_sub(bytes, block_size(header, 8));
    if (bytes.len < 2 || bytes.ptr[0] != '\n' || bytes.ptr[bytes.len - 1] != '\n')
        return false;
    *footer_out = (struct ch_span){bytes.ptr + 1, bytes.len - 2};
    return header->type_count > 0 && header->leap_count == 0;
}

enum ch_err ch_time_zone_parse(struct ch_span tzif, struct ch_time_zone **zone_out)
{
    struct header header;
    const char *block;
    struct ch_span footer;
    if (tzif.len > CH_TIME_ZONE_FILE_MAX)
        return CH_ERR_LIMIT;
    if (!split_file(tzif, &header, &block, &footer))
        return CH_ERR_INVALID;
    struct ch_time_zone *zone =
        ch_zcalloc(1, sizeof *zone + header.change_count * sizeof *zone->changes);
    if (!zone)
        return CH_ERR_NOMEM;
    zone->count = header.change_count;
    if (!read_changes(block, &header, zone) || read_footer(footer, &zone->footer)) {
        ch_time_zone_free(zone);
        return CH_ERR_INVALID;
    }
    *zone_out = zone;
    return CH_OK;
}

void ch_time_zone_free(struct ch_time_zone *zone)
{
    ch_zfree(zone);
}

bool ch_time_zone_name_is_valid(struct ch_span name)
{
    bool was_slash = true;
    if (name.len == 0 || name.len > CH_TIME_ZONE_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool is_slash = c == '/';
        bool is_sign = c == '_' || c == '+' || c == '-';
        if (is_slash ? was_slash : !is_letter(c) && !is_digit(c) && !is_sign)
            return false;
        was_slash = is_slash;
    }
    return !was_slash;
}
