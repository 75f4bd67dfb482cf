// SPDX-License-Identifier: Apache-2.0
// Finds the next byte that matters, 16 bytes at a time where the machine has SSE2.
//
// Private to the wire floor: the JSON scanner and the SSE observer spend their time here. Pure.
#ifndef CH_WIRE_FIND_H
#define CH_WIRE_FIND_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

static inline bool ch_is_plain_text(char byte)
{
    return (signed char)byte >= 0x20 && byte != '"' && byte != '\\'; // non-ASCII is negative
}

// The first byte of a JSON string's inside that needs a look: quote, backslash, control, non-ASCII.
static inline const char *ch_find_text_stop(const char *p, const char *end)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\');
    const __m128i space = _mm_set1_epi8(' ');
    for (; end - p >= 16; p += 16) {
        __m128i text = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(text, quote), _mm_cmpeq_epi8(text, backslash));
        // The comparison is signed, so that controls and non-ASCII bytes are caught at once.
        stop = _mm_or_si128(stop, _mm_cmplt_epi8(text, space));
        int mask = _mm_movemask_epi8(stop);
        if (mask)
            return p + __builtin_ctz((unsigned)mask);
    }
#endif
    while (p < end && ch_is_plain_text(*p))
        p++;
    return p;
}

// What may stand alone behind a backslash (RFC 8259 §7).
static inline bool ch_is_short_escape(char byte)
{
    static const bool short_escape[256] = {['"'] = true, ['\\'] = true, ['/'] = true, ['b'] = true,
                                           ['f'] = true, ['n'] = true,  ['r'] = true, ['t'] = true};
    return short_escape[(unsigned char)byte];
}

#ifdef __SSE2__
// A bit for each of 16 bytes that ch_find_text_stop would stop at.
static inline uint64_t ch_text_stops(const char *p)
{
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\');
    __m128i text = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(text, quote), _mm_cmpeq_epi8(text, backslash));
    stop = _mm_or_si128(stop, _mm_cmplt_epi8(text, _mm_set1_epi8(' ')));
    return (uint64_t)(unsigned)_mm_movemask_epi8(stop);
}
#endif

// The first byte of 32 that ch_find_text_stop would stop at; NULL: none, or this machine cannot
// tell at once.
#define CH_SHORT_TEXT 32 // bytes that must be there
static inline const char *ch_find_short_stop(const char *p)
{
#ifdef __SSE2__
    uint64_t stops = ch_text_stops(p) | ch_text_stops(p + 16) << 16;
    return stops ? p + __builtin_ctzll(stops) : NULL;
#else
    (void)p;
    return NULL;
#endif
}

// Skips plain text and short escapes; long prompts are full of them.
static inline const char *ch_skip_text(const char *p, const char *end, bool *escaped)
{
#ifdef __SSE2__
    if (end - p >= 16) { // most strings are short
        uint64_t stops = ch_text_stops(p);
        if (stops)
            return p + __builtin_ctzll(stops);
        p += 16;
    }
    while (end - p > 64) {
        uint64_t stops = ch_text_stops(p) | ch_text_stops(p + 16) << 16 |
                         ch_text_stops(p + 32) << 32 | ch_text_stops(p + 48) << 48;
        unsigned at = 64;
        while (stops) {
            unsigned stop = (unsigned)__builtin_ctzll(stops);
            if (p[stop] != '\\' || !ch_is_short_escape(p[stop + 1]))
                return p + stop;
            *escaped = true;
            at = stop == 63 ? 65 : 64;
            stops &= ~(UINT64_C(3) << stop);
        }
        p += at;
    }
#endif
    return ch_find_text_stop(p, end);
}

// The first CR or LF.
static inline const char *ch_find_line_end(const char *p, const char *end)
{
#ifdef __SSE2__
    const __m128i cr = _mm_set1_epi8('\r'), lf = _mm_set1_epi8('\n');
    for (; end - p >= 16; p += 16) {
        __m128i text = _mm_loadu_si128((const __m128i *)(const void *)p);
        int mask =
            _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(text, cr), _mm_cmpeq_epi8(text, lf)));
        if (mask)
            return p + __builtin_ctz((unsigned)mask);
    }
#endif
    while (p < end && *p != '\r' && *p != '\n')
        p++;
    return p;
}

#endif
