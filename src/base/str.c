// SPDX-License-Identifier: Apache-2.0
#include "base/str.h"

#include "base/secret.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

bool ch_span_ieq(struct ch_span a, struct ch_span b)
{
    return a.len == b.len && (a.len == 0 || strncasecmp(a.ptr, b.ptr, a.len) == 0);
}

bool ch_span_starts(struct ch_span text, struct ch_span prefix)
{
    return text.len >= prefix.len &&
           (prefix.len == 0 || memcmp(text.ptr, prefix.ptr, prefix.len) == 0);
}

size_t ch_span_place(struct ch_span name, const char *const *names, size_t count)
{
    size_t i = 0;
    while (i < count && !ch_span_eq(name, ch_span_of(names[i])))
        i++;
    return i;
}

bool ch_span_ends(struct ch_span text, struct ch_span suffix)
{
    return text.len >= suffix.len && (suffix.len == 0 || memcmp(text.ptr + text.len - suffix.len,
                                                                suffix.ptr, suffix.len) == 0);
}

struct ch_span ch_span_sub(struct ch_span text, size_t from)
{
    return from ? (struct ch_span){text.ptr + from, text.len - from} : text;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct ch_span ch_span_trim(struct ch_span text)
{
    while (text.len && is_blank(text.ptr[0]))
        text = ch_span_sub(text, 1);
    while (text.len && is_blank(text.ptr[text.len - 1]))
        text.len--;
    return text;
}

enum ch_err ch_span_to_int64(struct ch_span text, int64_t *value_out)
{
    int64_t value = 0;
    if (text.len == 0 || text.len > 18)
        return CH_ERR_INVALID;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return CH_ERR_INVALID;
        value = value * 10 + (text.ptr[i] - '0');
    }
    *value_out = value;
    return CH_OK;
}

bool ch_span_copy(struct ch_span text, char *out, size_t size)
{
    size_t len = text.len < size ? text.len : size - 1;
    if (len)
        memcpy(out, text.ptr, len);
    out[len] = '\0';
    return len == text.len;
}

void ch_buf_init(struct ch_buf *buf, size_t max)
{
    *buf = (struct ch_buf){.max = max};
}

void ch_buf_fini(struct ch_buf *buf)
{
    ch_zfree(buf->ptr);
    *buf = (struct ch_buf){.max = buf->max};
}

enum ch_err ch_buf_reserve(struct ch_buf *buf, size_t more)
{
    if (more <= buf->cap - buf->len)
        return CH_OK;
    if (more > buf->max - buf->len)
        return CH_ERR_LIMIT;
    size_t cap = buf->cap ? buf->cap : 256;
    while (cap < buf->len + more)
        cap *= 2;
    if (cap > buf->max)
        cap = buf->max;
    char *ptr = ch_zrealloc(buf->ptr, cap);
    if (!ptr)
        return CH_ERR_NOMEM;
    buf->ptr = ptr;
    buf->cap = cap;
    return CH_OK;
}

enum ch_err ch_buf_append(struct ch_buf *buf, const void *bytes, size_t size)
{
    enum ch_err err = ch_buf_reserve(buf, size);
    if (err)
        return err;
    if (size)
        memcpy(buf->ptr + buf->len, bytes, size);
    buf->len += size;
    return CH_OK;
}

enum ch_err ch_buf_append_span(struct ch_buf *buf, struct ch_span text)
{
    return ch_buf_append(buf, text.ptr, text.len);
}

enum ch_err ch_buf_append_format(struct ch_buf *buf, const char *format, ...)
{
    size_t room = buf->cap - buf->len; // most texts fit into what is there
    for (;;) {
        va_list args;
        va_start(args, format);
        int len = vsnprintf(room ? buf->ptr + buf->len : NULL, room, format, args);
        va_end(args);
        if (len < 0)
            return CH_ERR_INVALID;
        if ((size_t)len < room) {
            buf->len += (size_t)len;
            return CH_OK;
        }
        enum ch_err err = ch_buf_reserve(buf, (size_t)len + 1); // vsnprintf writes a NUL behind
        if (err)
            return err;
        room = buf->cap - buf->len;
    }
}

struct ch_span ch_uint_digits(uint64_t value, char digits[CH_UINT_DIGITS])
{
    size_t at = CH_UINT_DIGITS;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    return (struct ch_span){digits + at, CH_UINT_DIGITS - at};
}

enum ch_err ch_buf_append_uint(struct ch_buf *buf, uint64_t value)
{
    char digits[CH_UINT_DIGITS];
    return ch_buf_append_span(buf, ch_uint_digits(value, digits));
}

// The length of the UTF-8 sequence at the front of `text` (RFC 3629), 0 when it is not one.
static size_t utf8_sequence(struct ch_span text)
{
    const unsigned char *p = (const unsigned char *)text.ptr;
    size_t len = p[0] < 0x80   ? 1
                 : p[0] < 0xC2 ? 0
                 : p[0] < 0xE0 ? 2
                 : p[0] < 0xF0 ? 3
                 : p[0] < 0xF5 ? 4
                               : 0;
    if (len == 0 || len > text.len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    if (len == 3 && ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F)))
        return 0; // overlong, or a surrogate
    if (len == 4 && ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F)))
        return 0; // overlong, or past U+10FFFF
    return len;
}

static enum ch_err append_json_char(struct ch_buf *buf, char c)
{
    static const char *const short_forms[] = {
        ['"'] = "\\\"", ['\\'] = "\\\\", ['\n'] = "\\n", ['\r'] = "\\r", ['\t'] = "\\t"};
    unsigned char u = (unsigned char)c;
    if (u < sizeof short_forms / sizeof *short_forms && short_forms[u])
        return ch_buf_append(buf, short_forms[u], 2);
    if (u < 0x20 || u == 0x7F)
        return ch_buf_append_format(buf, "\\u%04x", u);
    return ch_buf_append(buf, &c, 1);
}

enum ch_err ch_buf_append_json(struct ch_buf *buf, struct ch_span text)
{
    enum ch_err err = CH_OK;
    while (text.len && !err) {
        size_t len = utf8_sequence(text);
        if (len == 0)
            err = ch_buf_append(buf, "\xEF\xBF\xBD", 3);
        else if (len == 1)
            err = append_json_char(buf, text.ptr[0]);
        else
            err = ch_buf_append(buf, text.ptr, len);
        text = ch_span_sub(text, len ? len : 1);
    }
    return err;
}

void ch_buf_consume(struct ch_buf *buf, size_t size)
{
    CH_ASSERT(size <= buf->len);
    buf->len -= size;
    if (buf->len)
        memmove(buf->ptr, buf->ptr + size, buf->len);
}
