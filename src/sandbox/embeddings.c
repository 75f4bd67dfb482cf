// SPDX-License-Identifier: Apache-2.0
#include "answer.h"

#define STEPS 16 // distinct components, each exact as a float and as a decimal of five digits

// Component `at` of vector `item`: deterministic, different from item to item.
static unsigned component_step(int64_t item, int64_t at)
{
    return (unsigned)((item * 3 + at * 7) % STEPS);
}

static enum ch_err append_decimals(int64_t item, int64_t dimensions, struct ch_buf *out)
{
    static const char *const decimals[STEPS] = {
        "-0.25000", "-0.21875", "-0.18750", "-0.15625", "-0.12500", "-0.09375",
        "-0.06250", "-0.03125", "0.00000",  "0.03125",  "0.06250",  "0.09375",
        "0.12500",  "0.15625",  "0.18750",  "0.21875",
    };
    enum ch_err err = ch_buf_append(out, "[", 1);
    for (int64_t at = 0; at < dimensions && !err; at++) {
        if (at)
            err = ch_buf_append(out, ",", 1);
        if (!err)
            err = ch_buf_append_span(out, ch_span_of(decimals[component_step(item, at)]));
    }
    return err ? err : ch_buf_append(out, "]", 1);
}

// Byte `at` of the vector as little-endian IEEE 754 single precision.
static unsigned vector_byte(int64_t item, int64_t at)
{
    float component = (float)((int)component_step(item, at / 4) - STEPS / 2) / 32;
    uint32_t bits;
    memcpy(&bits, &component, sizeof bits);
    return bits >> (at % 4 * 8) & 0xff;
}

static enum ch_err append_base64(int64_t item, int64_t dimensions, struct ch_buf *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int64_t size = dimensions * 4;
    enum ch_err err = ch_buf_append(out, "\"", 1);
    for (int64_t at = 0; at < size && !err; at += 3) {
        unsigned a = vector_byte(item, at);
        unsigned b = at + 1 < size ? vector_byte(item, at + 1) : 0;
        unsigned c = at + 2 < size ? vector_byte(item, at + 2) : 0;
        char quad[4] = {digits[a >> 2], digits[(a & 3) << 4 | b >> 4],
                        at + 1 < size ? digits[(b & 15) << 2 | c >> 6] : '=',
                        at + 2 < size ? digits[c & 63] : '='};
        err = ch_buf_append(out, quad, sizeof quad);
    }
    return err ? err : ch_buf_append(out, "\"", 1);
}

static enum ch_err append_openai(const struct ch_sandbox_request *request, int64_t item,
                                 struct ch_buf *out)
{
    enum ch_err err = ch_buf_append_span(out, CH_SPAN("{\"object\":\"embedding\",\"embedding\":"));
    if (!err)
        err = request->wants_base64 ? append_base64(item, request->dimensions, out)
                                    : append_decimals(item, request->dimensions, out);
    return err ? err : ch_buf_append_format(out, ",\"index\":%d}", (int)item);
}

static enum ch_err append_gemini(const struct ch_sandbox_request *request, int64_t item,
                                 struct ch_buf *out)
{
    enum ch_err err = ch_buf_append_span(out, CH_SPAN("{\"values\":"));
    if (!err)
        err = append_decimals(item, request->dimensions, out);
    return err ? err : ch_buf_append(out, "}", 1);
}

enum ch_err ch_sandbox_embeddings_append(const struct ch_sandbox_request *request,
                                         struct ch_buf *out)
{
    enum ch_err err = CH_OK;
    for (int64_t item = 0; item < request->items && !err; item++) {
        if (item)
            err = ch_buf_append(out, ",", 1);
        if (!err)
            err = request->dialect == CH_DIALECT_GEMINI ? append_gemini(request, item, out)
                                                        : append_openai(request, item, out);
    }
    return err;
}
