// SPDX-License-Identifier: Apache-2.0
#include "base/money.h"

#include <inttypes.h>
#include <stdio.h>

int64_t ch_money_round(ch_femto_sum femto_usd)
{
    ch_femto_sum nano = (femto_usd + CH_FEMTO_PER_NANO / 2) / CH_FEMTO_PER_NANO;
    return nano > INT64_MAX ? INT64_MAX : (int64_t)nano;
}

struct decimal {
    unsigned __int128 digits; // all digits read, without the point
    int scale;                // value = digits × 10^-scale
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// Reads digits, one optional point and an optional exponent; at most 30 significant digits.
static enum ch_err read_decimal(struct ch_span text, struct decimal *out)
{
    struct decimal d = {0};
    size_t i = 0, digits = 0;
    bool point = false;
    for (; i < text.len && (is_digit(text.ptr[i]) || (text.ptr[i] == '.' && !point)); i++) {
        if (text.ptr[i] == '.') {
            point = true;
            continue;
        }
        if (++digits > 30)
            return CH_ERR_INVALID;
        d.digits = d.digits * 10 + (unsigned)(text.ptr[i] - '0');
        d.scale += point;
    }
    if (digits == 0 || (i > 0 && text.ptr[i - 1] == '.'))
        return CH_ERR_INVALID;
    if (i < text.len && (text.ptr[i] == 'e' || text.ptr[i] == 'E')) {
        bool minus = i + 1 < text.len && text.ptr[i + 1] == '-';
        bool sign = minus || (i + 1 < text.len && text.ptr[i + 1] == '+');
        int64_t exponent;
        if (ch_span_to_int64(ch_span_sub(text, i + 1 + sign), &exponent) || exponent > 40)
            return CH_ERR_INVALID;
        d.scale += minus ? (int)exponent : -(int)exponent;
        i = text.len;
    }
    if (i != text.len)
        return CH_ERR_INVALID;
    *out = d;
    return CH_OK;
}

// digits × 10^-scale in units of 10^-places, rounded half up.
static enum ch_err scale_to(struct decimal d, int places, int64_t *value_out)
{
    for (; d.scale < places; d.scale++) {
        if (d.digits > (unsigned __int128)INT64_MAX)
            return CH_ERR_LIMIT;
        d.digits *= 10;
    }
    unsigned round_digit = 0;
    for (; d.scale > places; d.scale--) {
        round_digit = (unsigned)(d.digits % 10);
        d.digits /= 10;
    }
    d.digits += round_digit >= 5;
    if (d.digits > (unsigned __int128)INT64_MAX)
        return CH_ERR_LIMIT;
    *value_out = (int64_t)d.digits;
    return CH_OK;
}

enum ch_err ch_money_parse_femto(struct ch_span decimal, int64_t *femto_usd_out)
{
    struct decimal d;
    int64_t units_1e13;
    enum ch_err err = read_decimal(decimal, &d);
    if (!err)
        err = scale_to(d, 13, &units_1e13);
    if (!err && units_1e13 > INT64_MAX / 100)
        err = CH_ERR_LIMIT;
    if (!err)
        *femto_usd_out = units_1e13 * 100;
    return err;
}

enum ch_err ch_money_parse_nano(struct ch_span text, int64_t *nano_usd_out)
{
    struct decimal d;
    enum ch_err err = read_decimal(text, &d);
    if (!err && (d.scale < 0 || d.scale > 9))
        err = CH_ERR_INVALID;
    return err ? err : scale_to(d, 9, nano_usd_out);
}

void ch_money_format(int64_t nano_usd, char out[CH_MONEY_TEXT])
{
    uint64_t magnitude = nano_usd < 0 ? 0 - (uint64_t)nano_usd : (uint64_t)nano_usd;
    snprintf(out, CH_MONEY_TEXT, "%s%" PRIu64 ".%09" PRIu64, nano_usd < 0 ? "-" : "",
             magnitude / CH_NANO_PER_USD, magnitude % CH_NANO_PER_USD);
}

void ch_money_format_femto(int64_t femto_usd, char out[CH_MONEY_TEXT])
{
    int len = snprintf(out, CH_MONEY_TEXT, "%" PRId64 ".%015" PRId64, femto_usd / CH_FEMTO_PER_USD,
                       femto_usd % CH_FEMTO_PER_USD);
    while (out[len - 1] == '0')
        out[--len] = '\0';
    if (out[len - 1] == '.')
        out[len - 1] = '\0';
}
