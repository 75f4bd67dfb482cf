// SPDX-License-Identifier: Apache-2.0
// Any bytes as a JSON document: cut anywhere, the scanner reports the same, within the document.
// The first byte is the size of the pieces.
#include "wire/json_scan.h"

// FNV-1a over everything that was reported.
struct digest {
    uint64_t hash;
    const uint8_t *document;
    size_t size;
};

static void add(struct digest *digest, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < size; i++)
        digest->hash = (digest->hash ^ p[i]) * UINT64_C(0x100000001B3);
}

static void check_text(const struct ch_json_value *value)
{
    char text[CH_JSON_VALUE_MAX];
    size_t len;
    int64_t count;
    if (value->type == CH_JSON_STRING && !ch_json_unescape(value->raw, text, sizeof text, &len))
        CH_ASSERT(len <= value->raw.len && !memchr(text, '\0', len));
    if (value->type == CH_JSON_NUMBER && !ch_json_to_count(value->raw, &count))
        CH_ASSERT(count >= 0);
}

static bool on_value(void *arg, const struct ch_json_value *value)
{
    struct digest *digest = arg;
    size_t quote = value->type == CH_JSON_STRING;
    CH_ASSERT(value->at < value->end && value->end <= digest->size);
    CH_ASSERT(value->raw.len <= CH_JSON_VALUE_MAX);
    if (value->raw.len)
        CH_ASSERT(memcmp(digest->document + value->at + quote, value->raw.ptr, value->raw.len) ==
                  0);
    check_text(value);
    add(digest, &value->path, sizeof value->path);
    add(digest, &value->type, sizeof value->type);
    add(digest, &value->at, sizeof value->at);
    add(digest, &value->end, sizeof value->end);
    add(digest, value->raw.ptr, value->raw.len);
    add(digest, &value->cut, sizeof value->cut);
    add(digest, &value->escaped, sizeof value->escaped);
    return true;
}

static uint64_t scan_in_pieces(const struct ch_json_plan *plan, const uint8_t *data, size_t size,
                               size_t piece)
{
    struct digest digest = {UINT64_C(0xCBF29CE484222325), data, size};
    struct ch_json_scan scan;
    ch_json_scan_init(&scan, plan, on_value, &digest);
    enum ch_err err = CH_OK;
    for (size_t at = 0; at < size && !err; at += piece) {
        size_t len = size - at < piece ? size - at : piece;
        err = ch_json_scan_feed(&scan, (struct ch_span){(const char *)data + at, len});
    }
    if (!err)
        err = ch_json_scan_finish(&scan);
    bool is_ambiguous = ch_json_scan_is_ambiguous(&scan);
    add(&digest, &err, sizeof err);
    add(&digest, &scan.offset, sizeof scan.offset);
    add(&digest, &is_ambiguous, sizeof is_ambiguous);
    return digest.hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const paths[] = {"",   "model", "stream", "messages[].role", "a.b", "a.b.c",
                                        "[]", "[].x",  "a[][]"};
    static struct ch_json_plan *plan;
    if (!plan)
        CH_ASSERT(!ch_json_plan_new(paths, sizeof paths / sizeof *paths, &plan));
    if (size < 2)
        return 0;
    size_t piece = data[0] ? data[0] : 1;
    uint64_t whole = scan_in_pieces(plan, data + 1, size - 1, size);
    CH_ASSERT(scan_in_pieces(plan, data + 1, size - 1, piece) == whole);
    CH_ASSERT(scan_in_pieces(plan, data + 1, size - 1, 1) == whole);
    return 0;
}
