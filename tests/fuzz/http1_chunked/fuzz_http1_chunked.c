// SPDX-License-Identifier: Apache-2.0
// A chunked body, decoded whole and in pieces whose size is the first byte: same verdict, same
// payload, same place of the end.
#include "wire/http1.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
    enum ch_http1_verdict verdict;
    size_t consumed;
    char *payload;
    size_t payload_len;
    struct ch_http1_error error;
};

static void take(struct ch_http1_body *body, struct ch_span piece, struct result *result)
{
    size_t consumed;
    struct ch_span payload;
    do {
        result->verdict = ch_http1_body_step(body, piece, &consumed, &payload, &result->error);
        CH_ASSERT(consumed <= piece.len && payload.len <= consumed);
        CH_ASSERT(consumed > 0 || result->verdict != CH_HTTP1_MORE || piece.len == 0);
        CH_ASSERT(payload.len == 0 ||
                  (payload.ptr >= piece.ptr && payload.ptr + payload.len <= piece.ptr + consumed));
        if (payload.len > 0)
            memcpy(result->payload + result->payload_len, payload.ptr, payload.len);
        result->payload_len += payload.len;
        result->consumed += consumed;
        piece = ch_span_sub(piece, consumed);
    } while (result->verdict == CH_HTTP1_MORE && piece.len > 0);
}

static struct result decode(struct ch_span bytes, size_t step)
{
    struct ch_http1_head head = {.framing = CH_FRAMING_CHUNKED};
    struct ch_http1_body body;
    struct result result = {.verdict = CH_HTTP1_MORE, .payload = malloc(bytes.len)};
    CH_ASSERT(result.payload);
    ch_http1_body_init(&body, &head);
    while (result.verdict == CH_HTTP1_MORE && bytes.len > 0) {
        struct ch_span piece = {bytes.ptr, bytes.len < step ? bytes.len : step};
        take(&body, piece, &result);
        bytes = ch_span_sub(bytes, piece.len);
    }
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct ch_span bytes = {(const char *)data + 1, size - 1};
    struct result whole = decode(bytes, bytes.len);
    struct result pieces = decode(bytes, data[0] ? data[0] : 1);
    CH_ASSERT(whole.verdict == pieces.verdict);
    CH_ASSERT(whole.error.text == pieces.error.text);
    CH_ASSERT(ch_span_eq((struct ch_span){whole.payload, whole.payload_len},
                         (struct ch_span){pieces.payload, pieces.payload_len}));
    if (whole.verdict == CH_HTTP1_DONE)
        CH_ASSERT(whole.consumed == pieces.consumed);
    free(whole.payload);
    free(pieces.payload);
    return 0;
}
