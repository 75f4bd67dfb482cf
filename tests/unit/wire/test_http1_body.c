// SPDX-License-Identifier: Apache-2.0
#include "wire/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct ch_http1_body body;
static struct ch_http1_error error;
static size_t consumed;
static struct ch_span payload;

static void begin(enum ch_http1_framing framing, int64_t length)
{
    struct ch_http1_head head = {.framing = framing, .content_length = length};
    ch_http1_body_init(&body, &head);
    error = (struct ch_http1_error){0};
}

static enum ch_http1_verdict step(struct ch_span bytes)
{
    return ch_http1_body_step(&body, bytes, &consumed, &payload, &error);
}

#define STEP(literal) step(CH_SPAN(literal))

static void assert_step(size_t wanted_consumed, const char *wanted_payload)
{
    assert_int_equal(consumed, wanted_consumed);
    assert_true(ch_span_eq(payload, ch_span_of(wanted_payload)));
}

static void test_none_is_over_at_once(void **state)
{
    (void)state;
    begin(CH_FRAMING_NONE, 0);
    assert_true(ch_http1_body_is_empty(&body));
    assert_int_equal(STEP("GET /"), CH_HTTP1_DONE);
    assert_step(0, "");
    assert_int_equal(step((struct ch_span){NULL, 0}), CH_HTTP1_DONE);
}

static void test_length(void **state)
{
    (void)state;
    static const char bytes[] = "hello GET /";
    begin(CH_FRAMING_LENGTH, 8);
    assert_false(ch_http1_body_is_empty(&body));
    assert_int_equal(step((struct ch_span){NULL, 0}), CH_HTTP1_MORE);
    assert_int_equal(step((struct ch_span){bytes, 5}), CH_HTTP1_MORE);
    assert_step(5, "hello");
    assert_ptr_equal(payload.ptr, bytes); // borrowed, not copied
    assert_int_equal(step((struct ch_span){bytes + 5, 6}), CH_HTTP1_DONE);
    assert_step(3, " GE");
    assert_int_equal(STEP("T /"), CH_HTTP1_DONE);
    assert_step(0, "");
}

static void test_length_zero(void **state)
{
    (void)state;
    begin(CH_FRAMING_LENGTH, 0);
    assert_true(ch_http1_body_is_empty(&body));
    assert_int_equal(STEP("GET /"), CH_HTTP1_DONE);
    assert_step(0, "");
}

static void test_length_of_a_head_request(void **state)
{
    (void)state;
    struct ch_http1_head head = {
        .framing = CH_FRAMING_NONE, .has_length = true, .content_length = 500, .status = 200};
    ch_http1_body_init(&body, &head);
    assert_int_equal(STEP("HTTP/1.1"), CH_HTTP1_DONE);
    assert_step(0, "");
}

static void test_to_close_never_ends(void **state)
{
    (void)state;
    begin(CH_FRAMING_TO_CLOSE, 0);
    assert_false(ch_http1_body_is_empty(&body));
    assert_int_equal(STEP("hello"), CH_HTTP1_MORE);
    assert_step(5, "hello");
    assert_int_equal(step((struct ch_span){NULL, 0}), CH_HTTP1_MORE);
    assert_step(0, "");
}

static void test_chunks_give_one_span_a_step(void **state)
{
    (void)state;
    struct ch_span bytes = CH_SPAN("5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\nGET /");
    begin(CH_FRAMING_CHUNKED, 0);
    assert_false(ch_http1_body_is_empty(&body));
    assert_int_equal(step(bytes), CH_HTTP1_MORE);
    assert_step(12, "hello");
    assert_ptr_equal(payload.ptr, bytes.ptr + 7);
    bytes = ch_span_sub(bytes, consumed);
    assert_int_equal(step(bytes), CH_HTTP1_MORE);
    assert_step(6, "!");
    bytes = ch_span_sub(bytes, consumed);
    assert_int_equal(step(bytes), CH_HTTP1_DONE);
    assert_step(13, "");
    assert_true(ch_span_eq(ch_span_sub(bytes, consumed), CH_SPAN("GET /")));
    assert_int_equal(STEP("GET /"), CH_HTTP1_DONE);
    assert_step(0, "");
}

static void test_a_chunk_comes_in_parts(void **state)
{
    (void)state;
    begin(CH_FRAMING_CHUNKED, 0);
    assert_int_equal(STEP("1"), CH_HTTP1_MORE);
    assert_int_equal(STEP("0\r"), CH_HTTP1_MORE);
    assert_int_equal(STEP("\nabc"), CH_HTTP1_MORE);
    assert_step(4, "abc");
    assert_int_equal(body.remaining, 13);
    assert_int_equal(STEP("defghijklmnop\r"), CH_HTTP1_MORE);
    assert_step(13, "defghijklmnop");
    assert_int_equal(STEP("\r\n0"), CH_HTTP1_MORE);
    assert_int_equal(STEP("0"), CH_HTTP1_MORE);
    assert_int_equal(STEP("\r\n\r"), CH_HTTP1_MORE);
    assert_int_equal(STEP("\nX"), CH_HTTP1_DONE);
    assert_step(1, "");
}

static void test_error_is_final_and_gives_nothing(void **state)
{
    (void)state;
    begin(CH_FRAMING_CHUNKED, 0);
    assert_int_equal(STEP("2\r\nab"), CH_HTTP1_MORE);
    assert_int_equal(STEP("cd\r\n0\r\n\r\n"), CH_HTTP1_ERROR);
    assert_int_equal(payload.len, 0);
    assert_int_equal(error.status, 400);
    assert_string_equal(error.text, "chunk longer than its size");
    assert_int_equal(STEP("\r\n0\r\n\r\n"), CH_HTTP1_ERROR);
    assert_int_equal(payload.len, 0);
}

static void test_extensions_are_counted_by_chunk(void **state)
{
    (void)state;
    char chunk[300];
    int size = snprintf(chunk, sizeof chunk, "1;%0250d\r\nx\r\n", 0);
    begin(CH_FRAMING_CHUNKED, 0);
    for (int i = 0; i < 100; i++) {
        struct ch_span bytes = {chunk, (size_t)size};
        while (bytes.len > 0) {
            assert_int_equal(step(bytes), CH_HTTP1_MORE);
            bytes = ch_span_sub(bytes, consumed);
        }
    }
}

// Case 55: the work is two steps a chunk at most, whatever their number, and no step looks back.
#define CHUNKS 1000000

static void test_a_million_chunks(void **state)
{
    (void)state;
    static const char chunk[] = "1\r\nx\r\n", last[] = "0\r\n\r\n";
    size_t size = CHUNKS * (sizeof chunk - 1) + sizeof last - 1;
    char *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < CHUNKS; i++)
        memcpy(bytes + i * (sizeof chunk - 1), chunk, sizeof chunk - 1);
    memcpy(bytes + CHUNKS * (sizeof chunk - 1), last, sizeof last - 1);

    size_t at = 0, steps = 0, total = 0;
    enum ch_http1_verdict verdict = CH_HTTP1_MORE;
    begin(CH_FRAMING_CHUNKED, 0);
    while (verdict == CH_HTTP1_MORE) {
        size_t read = size - at < 1001 ? size - at : 1001;
        verdict = step((struct ch_span){bytes + at, read});
        at += consumed;
        total += payload.len;
        steps++;
    }
    free(bytes);
    assert_int_equal(verdict, CH_HTTP1_DONE);
    assert_int_equal(at, size);
    assert_int_equal(total, CHUNKS);
    assert_true(steps <= 2 * CHUNKS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none_is_over_at_once),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_length_zero),
        cmocka_unit_test(test_length_of_a_head_request),
        cmocka_unit_test(test_to_close_never_ends),
        cmocka_unit_test(test_chunks_give_one_span_a_step),
        cmocka_unit_test(test_a_chunk_comes_in_parts),
        cmocka_unit_test(test_error_is_final_and_gives_nothing),
        cmocka_unit_test(test_extensions_are_counted_by_chunk),
        cmocka_unit_test(test_a_million_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
