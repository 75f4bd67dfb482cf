// SPDX-License-Identifier: Apache-2.0
// Byte classes and list splitting shared by the HTTP parsers. Private to the wire floor.
#ifndef CH_SRC_WIRE_CHARS_H
#define CH_SRC_WIRE_CHARS_H

#include "base/str.h"
#include "wire/http1.h"

#include <endian.h>

enum {
    CH_CHAR_TOKEN = 1 << 0,  // tchar, RFC 9110 §5.6.2
    CH_CHAR_VALUE = 1 << 1,  // field value: HTAB, SP, VCHAR, obs-text (RFC 9110 §5.5)
    CH_CHAR_TARGET = 1 << 2, // visible ASCII without '#', which no request target may hold
    CH_CHAR_PATH = 1 << 3,   // pchar without '%', and '/' (RFC 3986 §3.3)
    CH_CHAR_HOST = 1 << 4,   // letters, digits, '.', '-', '_'
    CH_CHAR_DIGIT = 1 << 5,
    CH_CHAR_HEX = 1 << 6,
    CH_CHAR_BLANK = 1 << 7, // SP, HTAB
};
extern const uint8_t ch_char_class[256];

static inline bool ch_char_is(char c, unsigned class)
{
    return ch_char_class[(uint8_t)c] & class;
}

// The value of a hexadecimal digit (CH_CHAR_HEX).
static inline unsigned ch_char_hex(char digit)
{
    return ch_char_is(digit, CH_CHAR_DIGIT) ? (unsigned)(digit - '0')
                                            : (unsigned)((digit | 0x20) - 'a') + 10;
}

// The first byte in [at, end) outside the class, or `end`.
static inline const char *ch_chars_skip(const char *at, const char *end, unsigned class)
{
    while (at < end && ch_char_is(*at, class))
        at++;
    return at;
}

static inline bool ch_chars_all(struct ch_span text, unsigned class)
{
    return ch_chars_skip(text.ptr, text.ptr + text.len, class) == text.ptr + text.len;
}

// The same for CH_CHAR_VALUE, eight bytes at a time: values are most of a head. A borrow out of a
// byte can only mark bytes above a true hit, so the lowest mark is exact.
static inline const char *ch_chars_skip_value(const char *at, const char *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        word = le64toh(word);
        uint64_t del = word ^ (ones * 0x7F);
        uint64_t hit = (((word - ones * 0x20) & ~word) | ((del - ones) & ~del)) & (ones * 0x80);
        if (hit) {
            at += __builtin_ctzll(hit) / 8;
            break; // mostly the CR; a tab goes on below, byte by byte
        }
        at += 8;
    }
    return ch_chars_skip(at, end, CH_CHAR_VALUE);
}

// Splits a comma-separated list (RFC 9110 §5.6.1): gives the next element without blanks, empty
// ones too. `rest` starts as the whole list; false when it is exhausted.
bool ch_list_next(struct ch_span *rest, struct ch_span *element_out);

// OTHER for a token that is none of ours. Case matters (RFC 9110 §9.1).
enum ch_http1_method ch_http1_method_lookup(struct ch_span name);

#endif
