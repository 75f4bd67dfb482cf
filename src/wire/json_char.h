// SPDX-License-Identifier: Apache-2.0
// What single characters and UTF-16 units mean in JSON. Private to the scanner. Pure.
#ifndef CH_WIRE_JSON_CHAR_H
#define CH_WIRE_JSON_CHAR_H

#include <stdbool.h>

static inline bool ch_json_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline int ch_json_hex_value(char c)
{
    if (ch_json_is_digit(c))
        return c - '0';
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static inline bool ch_json_is_high_surrogate(unsigned unit)
{
    return unit >= 0xD800 && unit <= 0xDBFF;
}

static inline bool ch_json_is_low_surrogate(unsigned unit)
{
    return unit >= 0xDC00 && unit <= 0xDFFF;
}

#endif
