// SPDX-License-Identifier: Apache-2.0
#include "json_char.h"
#include "json_plan.h"

static bool read_unit(struct ch_span text, unsigned *unit_out)
{
    if (text.len < 6 || text.ptr[0] != '\\' || text.ptr[1] != 'u')
        return false;
    unsigned unit = 0;
    for (int i = 2; i < 6; i++) {
        int digit = ch_json_hex_value(text.ptr[i]);
        if (digit < 0)
            return false;
        unit = unit << 4 | (unsigned)digit;
    }
    *unit_out = unit;
    return true;
}

// Reads \uXXXX, or a pair of them, at the front of `text`. Returns the bytes read, 0 if broken.
static size_t read_code_point(struct ch_span text, unsigned *code_out)
{
    unsigned high, low;
    if (!read_unit(text, &high) || ch_json_is_low_surrogate(high))
        return 0;
    *code_out = high;
    if (!ch_json_is_high_surrogate(high))
        return 6;
    if (!read_unit(ch_span_sub(text, 6), &low) || !ch_json_is_low_surrogate(low))
        return 0;
    *code_out = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    return 12;
}

static size_t encode_utf8(unsigned code, char out[4])
{
    size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0x00, 0xC0, 0xE0, 0xF0};
    for (size_t i = len - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)(lead[len] | code);
    return len;
}

static size_t read_short_escape(struct ch_span text, unsigned *code_out)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *name = text.len < 2 || text.ptr[1] == '\0' ? NULL : strchr(names, text.ptr[1]);
    if (!name)
        return 0;
    *code_out = (unsigned char)values[name - names];
    return 2;
}

static enum ch_err unescape(struct ch_span raw, bool nul_allowed, char *out, size_t size,
                            size_t *len_out)
{
    *len_out = 0;
    while (raw.len) {
        char bytes[4] = {raw.ptr[0]};
        size_t read = 1, len = 1;
        if (raw.ptr[0] == '\\') {
            unsigned code;
            bool is_long = raw.len > 1 && raw.ptr[1] == 'u';
            read = is_long ? read_code_point(raw, &code) : read_short_escape(raw, &code);
            if (read == 0 || (code == 0 && !nul_allowed))
                return CH_ERR_INVALID;
            len = encode_utf8(code, bytes);
        }
        if (len > size - *len_out)
            return CH_ERR_LIMIT;
        memcpy(out + *len_out, bytes, len);
        *len_out += len;
        raw = ch_span_sub(raw, read);
    }
    return CH_OK;
}

enum ch_err ch_json_unescape_any(struct ch_span raw, char *out, size_t size, size_t *len_out)
{
    return unescape(raw, true, out, size, len_out);
}

enum ch_err ch_json_unescape(struct ch_span raw, char *out, size_t size, size_t *len_out)
{
    size_t len;
    enum ch_err err = unescape(raw, false, out, size, &len);
    if (!err)
        *len_out = len;
    return err;
}

enum ch_err ch_json_to_count(struct ch_span raw, int64_t *count_out)
{
    int64_t count = 0;
    for (size_t i = 0; i < raw.len; i++) {
        if (!ch_json_is_digit(raw.ptr[i]) || __builtin_mul_overflow(count, 10, &count) ||
            __builtin_add_overflow(count, raw.ptr[i] - '0', &count))
            return CH_ERR_INVALID;
    }
    if (raw.len == 0)
        return CH_ERR_INVALID;
    *count_out = count;
    return CH_OK;
}
