// SPDX-License-Identifier: Apache-2.0
#include "base/id.h"

#include "base/secret.h"

#include <zlib.h>

#define EPOCH_MS     INT64_C(1735689600000) // 2025-01-01T00:00:00Z
#define COUNTER_BITS 14
#define LOOP_BITS    8
#define LOOP_SHIFT   COUNTER_BITS
#define MS_SHIFT     (COUNTER_BITS + LOOP_BITS)
#define MS_MAX       ((INT64_C(1) << 40) - 1) // the year 2059: half the range is left to count on

const char ch_base62_digits[63] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

int ch_base62_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'A' && digit <= 'Z')
        return digit - 'A' + 10;
    if (digit >= 'a' && digit <= 'z')
        return digit - 'a' + 36;
    return -1;
}

void ch_base62_encode(uint64_t value, char *out, size_t width)
{
    while (width--) {
        out[width] = ch_base62_digits[value % 62];
        value /= 62;
    }
    CH_ASSERT(value == 0);
}

void ch_base62_random(char *out, size_t width)
{
    for (size_t i = 0; i < width;) {
        unsigned char byte;
        ch_random(&byte, 1);
        if (byte < 248) // 4 × 62: an even share of bytes for each digit
            out[i++] = ch_base62_digits[byte % 62];
    }
}

uint32_t ch_crc32(struct ch_span bytes)
{
    return (uint32_t)crc32_z(0, (const unsigned char *)bytes.ptr, bytes.len);
}

void ch_id_source_init(struct ch_id_source *source, unsigned loop, int64_t floor)
{
    *source = (struct ch_id_source){.last = floor, .loop = loop};
}

int64_t ch_id_next(struct ch_id_source *source, int64_t wall_ms)
{
    int64_t last_ms = source->last >> MS_SHIFT;
    int64_t ms = wall_ms - EPOCH_MS;
    int64_t id;
    if (ms > MS_MAX) // a clock that is off by decades must not make ids negative
        ms = MS_MAX;
    if (ms > last_ms) {
        id = ms << MS_SHIFT | (int64_t)source->loop << LOOP_SHIFT;
    } else {
        int64_t counter = (source->last & ((1 << COUNTER_BITS) - 1)) + 1;
        bool other_loop = ((source->last >> LOOP_SHIFT) & ((1 << LOOP_BITS) - 1)) != source->loop;
        if (other_loop || counter >> COUNTER_BITS) { // the floor's loop, or the millisecond is full
            last_ms++;
            counter = 0;
        }
        id = last_ms << MS_SHIFT | (int64_t)source->loop << LOOP_SHIFT | counter;
    }
    source->last = id;
    return id;
}

int64_t ch_id_floor(int64_t wall_ms)
{
    if (wall_ms <= EPOCH_MS)
        return 0;
    int64_t ms = wall_ms - EPOCH_MS;
    return ms > INT64_MAX >> MS_SHIFT ? INT64_MAX : ms << MS_SHIFT;
}

void ch_id_format(int64_t id, char out[CH_REQUEST_ID_TEXT])
{
    memcpy(out, "req_", 4);
    ch_base62_encode((uint64_t)id, out + 4, 11);
    out[15] = '\0';
}

enum ch_err ch_id_parse(struct ch_span text, int64_t *id_out)
{
    uint64_t value = 0;
    if (text.len != 15 || !ch_span_starts(text, CH_SPAN("req_")))
        return CH_ERR_INVALID;
    for (size_t i = 4; i < text.len; i++) {
        int digit = ch_base62_value(text.ptr[i]);
        if (digit < 0 || __builtin_mul_overflow(value, 62, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value))
            return CH_ERR_INVALID;
    }
    if (value > INT64_MAX)
        return CH_ERR_INVALID;
    *id_out = (int64_t)value;
    return CH_OK;
}
