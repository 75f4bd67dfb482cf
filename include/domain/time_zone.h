// SPDX-License-Identifier: Apache-2.0
// Time zones for calendar periods, without the process-global TZ of the C library.
//
// A zone is made from the bytes of a TZif file (RFC 8536; the caller reads it from the system's
// zoneinfo directory) and is immutable after that: any thread may use it. NULL is UTC wherever a
// zone is taken. Only making a zone allocates. Time is POSIX time, without leap seconds.
//
// Civil days are counted from 1970-01-01 (day 0, a Thursday) in the proleptic Gregorian calendar.
// Instants outside the years 1–9999 count as the nearest inside.
#ifndef CH_DOMAIN_TIME_ZONE_H
#define CH_DOMAIN_TIME_ZONE_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

struct ch_time_zone; // opaque

#define CH_TIME_ZONE_FILE_MAX (64 * 1024) // bytes; the largest of the 2025 database has 3.6 KB
#define CH_TIME_ZONE_NAME_MAX 64          // bytes; the longest of the 2025 database has 32

// Whether `name` is shaped as a zone's name, so that zoneinfo/NAME stays inside its directory:
// letters, digits, '_', '+', '-', and single slashes between them. No look-up.
bool ch_time_zone_name_is_valid(struct ch_span name);

// Version 2 or later with its POSIX footer; what follows the last listed change comes from the
// footer. CH_ERR_INVALID for anything else, for zones that count leap seconds ("right/…") and for
// offsets outside the RFC's −24:59:59 to +25:59:59; CH_ERR_LIMIT for too many bytes; CH_ERR_NOMEM.
// Gives the zone.
enum ch_err ch_time_zone_parse(struct ch_span tzif, struct ch_time_zone **zone_out) CH_MUST_USE;
void ch_time_zone_free(struct ch_time_zone *zone);

struct ch_civil_date {
    int64_t year;
    int month, day; // 1–12, 1–31
};
struct ch_civil_date ch_civil_date(int64_t day);
// `month` 1–12; `day_of_month` may lie outside the month and then counts on from it.
int64_t ch_civil_day(int64_t year, int month, int day_of_month);
int ch_civil_weekday(int64_t day); // 0: Monday … 6: Sunday

struct ch_civil_time {
    int64_t day;
    int hour, minute, second; // of the local clock
    int offset_s;             // seconds that the local clock is ahead of UTC
};
struct ch_civil_time ch_time_zone_civil(const struct ch_time_zone *zone, int64_t utc_ms);

// The first instant at which the local clock shows `day` 00:00 or later: the first instant that
// exists where the clock skips midnight, the first occurrence where midnight comes twice. It never
// decreases with `day`; a day that the zone skips begins with the one after it.
int64_t ch_time_zone_midnight_ms(const struct ch_time_zone *zone, int64_t day);

#endif
