// SPDX-License-Identifier: Apache-2.0
// A form gives the same values and the same verdict however it is cut; values lie where they are
// said to lie, and a wanted field comes once. The first byte is the size of the pieces; the next
// line is the Content-Type, the rest the body.
#include "wire/multipart.h"

#include "base/err.h"

#define WANTED 3

struct seen {
    struct ch_span body;
    int count;
    uint64_t at[WANTED], end[WANTED];
};

static void on_value(void *arg, const struct ch_multipart_value *value)
{
    struct seen *seen = arg;
    CH_ASSERT(seen->count < WANTED && value->field < WANTED);
    CH_ASSERT(value->at <= value->end && value->end < seen->body.len);
    CH_ASSERT(value->text.len <= CH_MULTIPART_VALUE_MAX);
    struct ch_span there = {seen->body.ptr + value->at, (size_t)(value->end - value->at)};
    CH_ASSERT(ch_span_eq(there, value->text));
    seen->at[seen->count] = value->at;
    seen->end[seen->count++] = value->end;
}

static enum ch_multipart_error parse(struct ch_multipart *form, struct ch_span boundary,
                                     struct seen *seen, size_t size)
{
    static const char *const wanted[WANTED] = {"model", "stream", "n"};
    ch_multipart_init(form, boundary, wanted, WANTED, on_value, seen);
    for (size_t at = 0; at < seen->body.len; at += size) {
        size_t len = seen->body.len - at < size ? seen->body.len - at : size;
        if (ch_multipart_feed(form, (struct ch_span){seen->body.ptr + at, len}))
            break;
    }
    return ch_multipart_finish(form);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ch_multipart whole_form, cut_form;
    struct ch_span input = {(const char *)data, size}, boundary;
    const char *line_end = size ? memchr(data, '\n', size) : NULL;
    if (!line_end)
        return 0;
    size_t head = (size_t)(line_end - input.ptr);
    struct ch_span type = {input.ptr + (head > 0), head - (head > 0)};
    struct seen whole = {.body = ch_span_sub(input, head + 1)}, cut = {.body = whole.body};
    if (ch_multipart_boundary(type, &boundary) != CH_MULTIPART_OK)
        return 0;
    CH_ASSERT(ch_multipart_is_form(type));
    enum ch_multipart_error error =
        parse(&whole_form, boundary, &whole, whole.body.len ? whole.body.len : 1);
    CH_ASSERT(parse(&cut_form, boundary, &cut, data[0] ? data[0] : 1) == error);
    CH_ASSERT(whole.count == cut.count && whole_form.file_bytes == cut_form.file_bytes);
    CH_ASSERT(memcmp(whole.at, cut.at, sizeof whole.at) == 0);
    CH_ASSERT(memcmp(whole.end, cut.end, sizeof whole.end) == 0);
    CH_ASSERT(error || whole_form.offset == whole.body.len);
    return 0;
}
