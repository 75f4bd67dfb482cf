// SPDX-License-Identifier: Apache-2.0
// A head, fed whole and byte by byte: both must come to the same result, and every offset must lie
// in it. The first byte chooses the direction: bit 0 a response, bit 1 one to HEAD.
#include "wire/http1.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
    enum ch_http1_verdict verdict;
    struct ch_http1_head head;
    struct ch_http1_error error;
};

static void init(struct ch_http1_head_parser *parser, uint8_t choice)
{
    if (choice & 1)
        ch_http1_response_init(parser, choice & 2);
    else
        ch_http1_request_init(parser);
}

static void parse_in_steps(uint8_t choice, struct ch_span bytes, size_t step, struct result *result)
{
    struct ch_http1_head_parser parser;
    init(&parser, choice);
    result->verdict = CH_HTTP1_MORE;
    for (size_t size = 0; result->verdict == CH_HTTP1_MORE && size < bytes.len;) {
        size = bytes.len - size < step ? bytes.len : size + step;
        result->verdict = ch_http1_head_parse(&parser, (struct ch_span){bytes.ptr, size},
                                              &result->head, &result->error);
    }
}

static void check_field(const char *base, const struct ch_http1_head *head,
                        const struct ch_http1_field *field)
{
    CH_ASSERT(field->name_len > 0 && field->name_at + field->name_len < field->value_at);
    CH_ASSERT(field->value_at + field->value_len <= head->size - 4);
    CH_ASSERT(field->id == ch_field_lookup(ch_http1_name(base, field)));
    struct ch_span value = ch_http1_value(base, field);
    CH_ASSERT(ch_span_eq(value, ch_span_trim(value)));
    CH_ASSERT(value.len == 0 ||
              (!memchr(value.ptr, '\r', value.len) && !memchr(value.ptr, '\n', value.len) &&
               !memchr(value.ptr, '\0', value.len)));
    ch_http1_is_connection_option(head, base, ch_http1_name(base, field));
}

static void check_head(const char *base, size_t size, const struct ch_http1_head *head)
{
    CH_ASSERT(head->size <= size && head->size <= CH_HTTP1_HEAD_MAX);
    CH_ASSERT(head->field_count <= CH_HTTP1_FIELDS_MAX);
    CH_ASSERT(head->target_at + head->target_len <= head->size);
    CH_ASSERT(head->content_length >= 0);
    for (uint32_t i = 0; i < head->field_count; i++)
        check_field(base, head, &head->fields[i]);
}

static void check_same(const struct result *a, const struct result *b)
{
    CH_ASSERT(a->verdict == b->verdict);
    if (a->verdict == CH_HTTP1_ERROR)
        CH_ASSERT(a->error.status == b->error.status && a->error.text == b->error.text);
    if (a->verdict != CH_HTTP1_DONE)
        return;
    CH_ASSERT(memcmp(&a->head, &b->head, offsetof(struct ch_http1_head, fields)) == 0);
    CH_ASSERT(a->head.size == b->head.size);
    CH_ASSERT(
        memcmp(a->head.fields, b->head.fields, a->head.field_count * sizeof *a->head.fields) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct result whole, bytewise, pieces;
    if (size < 2)
        return 0;
    struct ch_span bytes = {(const char *)data + 1, size - 1};
    parse_in_steps(data[0], bytes, bytes.len, &whole);
    parse_in_steps(data[0], bytes, 1, &bytewise);
    parse_in_steps(data[0], bytes, 7, &pieces);
    check_same(&whole, &bytewise);
    check_same(&whole, &pieces);
    if (whole.verdict == CH_HTTP1_DONE)
        check_head(bytes.ptr, bytes.len, &whole.head);
    return 0;
}
