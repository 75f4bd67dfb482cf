// SPDX-License-Identifier: Apache-2.0
// Any bytes are a zone or they are not: in an accepted one every day has a first instant, days do
// not begin before the one before them, and the local clock shows that day or a later one from
// there on, but not a second earlier.
#include "domain/time_zone.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_day(const struct ch_time_zone *zone, int64_t day)
{
    int64_t start_ms = ch_time_zone_midnight_ms(zone, day);
    CH_ASSERT(start_ms <= ch_time_zone_midnight_ms(zone, day + 1));
    CH_ASSERT(ch_time_zone_civil(zone, start_ms).day >= day);
    CH_ASSERT(ch_time_zone_civil(zone, start_ms - 1).day < day);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ch_span input = {(const char *)data, size};
    struct ch_time_zone *zone;
    (void)ch_time_zone_name_is_valid(input);
    if (ch_time_zone_parse(input, &zone))
        return 0;
    for (int64_t year = 1900; year < 2120; year += 5)
        for (int month = 1; month <= 12; month++)
            check_day(zone, ch_civil_day(year, month, 1));
    check_day(zone, ch_civil_day(2, 1, 1));
    check_day(zone, ch_civil_day(9999, 12, 1));
    (void)ch_time_zone_civil(zone, INT64_MIN);
    (void)ch_time_zone_civil(zone, INT64_MAX);
    (void)ch_time_zone_midnight_ms(zone, INT64_MIN);
    (void)ch_time_zone_midnight_ms(zone, INT64_MAX);
    ch_time_zone_free(zone);
    return 0;
}
