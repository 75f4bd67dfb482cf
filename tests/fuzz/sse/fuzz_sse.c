// SPDX-License-Identifier: Apache-2.0
// Any bytes as an event stream: cut anywhere, the observer says the same and consumes everything.
// The first byte is the size of the pieces.
#include "wire/sse.h"

// FNV-1a over the events; data pieces may be cut differently, their bytes not.
struct digest {
    uint64_t hash;
};

static void add(struct digest *digest, struct ch_span bytes, char kind)
{
    for (size_t i = 0; i < bytes.len; i++)
        digest->hash = (digest->hash ^ (uint8_t)bytes.ptr[i]) * UINT64_C(0x100000001B3);
    digest->hash = (digest->hash ^ (uint8_t)kind) * UINT64_C(0x100000001B3);
}

static void on_data(void *arg, struct ch_span piece)
{
    CH_ASSERT(piece.len > 0);
    for (size_t i = 0; i < piece.len; i++)
        add(arg, (struct ch_span){piece.ptr + i, 1}, 'd');
}

static void on_event(void *arg, struct ch_span name)
{
    CH_ASSERT(name.len <= CH_SSE_NAME_MAX);
    add(arg, name, 'e');
}

static uint64_t observe_in_pieces(struct ch_span stream, size_t size)
{
    static const struct ch_sse_handler handler = {on_data, on_event};
    struct digest digest = {UINT64_C(0xCBF29CE484222325)};
    struct ch_sse sse;
    ch_sse_init(&sse);
    for (size_t at = 0, len; at < stream.len; at += len) {
        bool block_end;
        size_t left = stream.len - at;
        size_t room = left < size ? left : size;
        len = ch_sse_feed(&sse, (struct ch_span){stream.ptr + at, room}, &handler, &digest,
                          &block_end);
        CH_ASSERT(len > 0 && len <= room && (block_end || len == room));
        if (block_end)
            add(&digest, CH_SPAN(""), 'b');
    }
    return digest.hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct ch_span stream = {(const char *)data + 1, size - 1};
    uint64_t whole = observe_in_pieces(stream, size);
    CH_ASSERT(observe_in_pieces(stream, data[0] ? data[0] : 1) == whole);
    CH_ASSERT(observe_in_pieces(stream, 1) == whole);
    return 0;
}
