// SPDX-License-Identifier: Apache-2.0
// Finds the next byte that matters, 16 bytes at a time where the machine has SSE2.
//
// Private to the wire floor: the JSON scanner and the SSE observer spend their time here. Pure.
#ifndef CH_WIRE_FIND_H
#define CH_WIRE_FIND_H

#include <stdbool.h>

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
