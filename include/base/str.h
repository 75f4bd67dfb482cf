// SPDX-License-Identifier: Apache-2.0
// Spans (borrowed bytes) and bounded buffers (owned bytes).
//
// A span is a pointer and a length; it owns nothing and is not NUL-terminated. A buffer grows up to
// the limit given at init and then refuses, so that nothing in the program grows with its input.
// Buffers live in zeroing memory. Not thread-safe.
#ifndef CH_BASE_STR_H
#define CH_BASE_STR_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct ch_span {
    const char *ptr;
    size_t len;
};

#define CH_SPAN(literal)  ((struct ch_span){(literal), sizeof(literal) - 1})
#define CH_SPAN_ARG(span) (int)(span).len, (span).ptr // for "%.*s"

static inline struct ch_span ch_span_of(const char *text)
{
    return (struct ch_span){text, text ? strlen(text) : 0};
}

static inline bool ch_span_eq(struct ch_span a, struct ch_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool ch_span_ieq(struct ch_span a, struct ch_span b); // ASCII letters compare without case
bool ch_span_starts(struct ch_span text, struct ch_span prefix);
bool ch_span_ends(struct ch_span text, struct ch_span suffix);
// The place of `name` among `names`; `count` when it is none of them.
size_t ch_span_place(struct ch_span name, const char *const *names, size_t count);
struct ch_span ch_span_sub(struct ch_span text, size_t from); // from ≤ len
struct ch_span ch_span_trim(struct ch_span text);             // spaces and tabs, both ends
// A decimal number of 1–18 digits and nothing else.
enum ch_err ch_span_to_int64(struct ch_span text, int64_t *value_out) CH_MUST_USE;
// Copies at most size-1 bytes and a NUL into `out`; returns false when it had to cut.
bool ch_span_copy(struct ch_span text, char *out, size_t size);

struct ch_buf {
    char *ptr; // NULL while nothing is held
    size_t len, cap;
    size_t max; // the limit in bytes
};

void ch_buf_init(struct ch_buf *buf, size_t max);
void ch_buf_fini(struct ch_buf *buf); // frees the bytes; the buffer is empty and usable after it
// Makes room for `more` bytes past len. CH_ERR_LIMIT past max, CH_ERR_NOMEM.
enum ch_err ch_buf_reserve(struct ch_buf *buf, size_t more) CH_MUST_USE;
enum ch_err ch_buf_append(struct ch_buf *buf, const void *bytes, size_t size) CH_MUST_USE;
enum ch_err ch_buf_append_span(struct ch_buf *buf, struct ch_span text) CH_MUST_USE;
enum ch_err ch_buf_append_format(struct ch_buf *buf, const char *format, ...)
    CH_PRINTF(2, 3) CH_MUST_USE;
// The value's decimal digits, which stand somewhere in `digits`.
#define CH_UINT_DIGITS 20
struct ch_span ch_uint_digits(uint64_t value, char digits[CH_UINT_DIGITS]);
enum ch_err ch_buf_append_uint(struct ch_buf *buf, uint64_t value) CH_MUST_USE; // decimal digits
// Appends `text` as the inside of a JSON string: quotes, backslashes and controls escaped, bytes
// that are not UTF-8 replaced by U+FFFD.
enum ch_err ch_buf_append_json(struct ch_buf *buf, struct ch_span text) CH_MUST_USE;
void ch_buf_consume(struct ch_buf *buf, size_t size); // drops from the front
static inline void ch_buf_clear(struct ch_buf *buf)
{
    buf->len = 0;
}
static inline struct ch_span ch_buf_span(const struct ch_buf *buf)
{
    return (struct ch_span){buf->ptr, buf->len};
}

#endif
