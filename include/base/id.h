// SPDX-License-Identifier: Apache-2.0
// Base62 text and the identifiers of exchanges.
#ifndef CH_BASE_ID_H
#define CH_BASE_ID_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

// Digits, capitals, small letters: the order of values 0–61.
extern const char ch_base62_digits[63];
// -1 for a byte that is no base62 digit.
int ch_base62_value(char digit);
// Writes exactly `width` digits, most significant first; the value must fit.
void ch_base62_encode(uint64_t value, char *out, size_t width);
// Fills `width` digits with uniform random ones.
void ch_base62_random(char *out, size_t width);

// CRC-32 (ISO-HDLC, the one of zlib and PNG).
uint32_t ch_crc32(struct ch_span bytes);

// Exchange ids are positive, unique on one installation and grow with time, so that they serve as
// the primary key of usage rows: 41 bits of milliseconds since 2025-01-01T00:00:00Z, 8 bits of
// loop, 14 bits of counter. One generator per loop thread; it never goes back when the clock does.
struct ch_id_source {
    int64_t last;
    unsigned loop; // 0–255
};

// `floor`: the highest id recorded so far (0: none); ids of this source are above it.
void ch_id_source_init(struct ch_id_source *source, unsigned loop, int64_t floor);
int64_t ch_id_next(struct ch_id_source *source, int64_t wall_ms);
// The lowest id of a millisecond: 0 before ids began, INT64_MAX after they end.
int64_t ch_id_floor(int64_t wall_ms);

#define CH_REQUEST_ID_TEXT 16
// "req_" and 11 base62 digits, NUL-terminated: how an exchange id is shown.
void ch_id_format(int64_t id, char out[CH_REQUEST_ID_TEXT]);
enum ch_err ch_id_parse(struct ch_span text, int64_t *id_out) CH_MUST_USE;

#endif
