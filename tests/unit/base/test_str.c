// SPDX-License-Identifier: Apache-2.0
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const struct ch_span none; // NULL and no length: an empty span like any other

static void spans_compare(void **state)
{
    (void)state;
    assert_true(ch_span_eq(CH_SPAN("abc"), ch_span_of("abc")));
    assert_false(ch_span_eq(CH_SPAN("abc"), CH_SPAN("abd")));
    assert_false(ch_span_eq(CH_SPAN("abc"), CH_SPAN("ab")));
    assert_true(ch_span_eq(none, CH_SPAN("")));
    assert_true(ch_span_eq(none, ch_span_of(NULL)));
    assert_true(ch_span_ieq(CH_SPAN("Content-Length"), CH_SPAN("content-length")));
    assert_false(ch_span_ieq(CH_SPAN("a[c"), CH_SPAN("a{c"))); // differ in the same bit as a case
    assert_true(ch_span_ieq(none, CH_SPAN("")));
    assert_true(ch_span_starts(CH_SPAN("Bearer x"), CH_SPAN("Bearer ")));
    assert_false(ch_span_starts(CH_SPAN("Bear"), CH_SPAN("Bearer")));
    assert_true(ch_span_ends(CH_SPAN("a.json"), CH_SPAN(".json")));
    assert_false(ch_span_ends(CH_SPAN("json"), CH_SPAN(".json")));
    assert_true(ch_span_starts(CH_SPAN("x"), CH_SPAN("")));
    assert_true(ch_span_ends(CH_SPAN("x"), CH_SPAN("")));
}

static void spans_are_cut_and_trimmed(void **state)
{
    (void)state;
    assert_true(ch_span_eq(ch_span_sub(CH_SPAN("abc"), 1), CH_SPAN("bc")));
    assert_true(ch_span_eq(ch_span_sub(CH_SPAN("abc"), 3), CH_SPAN("")));
    assert_true(ch_span_eq(ch_span_trim(CH_SPAN(" \ta b\t ")), CH_SPAN("a b")));
    assert_true(ch_span_eq(ch_span_trim(CH_SPAN(" \t ")), CH_SPAN("")));
    assert_true(ch_span_eq(ch_span_trim(CH_SPAN("\na\r")), CH_SPAN("\na\r")));
    assert_true(ch_span_eq(ch_span_trim(none), none));
}

static void numbers_are_digits_and_nothing_else(void **state)
{
    (void)state;
    int64_t value;
    assert_int_equal(ch_span_to_int64(CH_SPAN("0"), &value), CH_OK);
    assert_int_equal(value, 0);
    assert_int_equal(ch_span_to_int64(CH_SPAN("999999999999999999"), &value), CH_OK);
    assert_true(value == INT64_C(999999999999999999));
    static const char *const bad[] = {
        "", "-1", "+1", " 1", "1 ", "0x1", "1.0", "1e", "a", "1_", "1000000000000000000"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ch_span_to_int64(ch_span_of(bad[i]), &value), CH_ERR_INVALID);
    assert_int_equal(ch_span_to_int64(none, &value), CH_ERR_INVALID);
}

static void copies_are_cut_and_say_so(void **state)
{
    (void)state;
    char out[4];
    assert_true(ch_span_copy(CH_SPAN("abc"), out, sizeof out));
    assert_string_equal(out, "abc");
    assert_false(ch_span_copy(CH_SPAN("abcd"), out, sizeof out));
    assert_string_equal(out, "abc");
    assert_true(ch_span_copy(none, out, sizeof out));
    assert_string_equal(out, "");
}

static void a_buffer_grows_to_its_limit_and_then_refuses(void **state)
{
    (void)state;
    struct ch_buf buf;
    ch_buf_init(&buf, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(ch_buf_append(&buf, "x", 1), CH_OK);
    assert_int_equal(ch_buf_append(&buf, "x", 1), CH_ERR_LIMIT);
    assert_int_equal(ch_buf_reserve(&buf, SIZE_MAX), CH_ERR_LIMIT);
    assert_int_equal(buf.len, 1000);
    assert_true(buf.cap <= 1000);
    ch_buf_consume(&buf, 400);
    assert_int_equal(ch_buf_append(&buf, "y", 1), CH_OK);
    assert_int_equal(buf.len, 601);
    assert_int_equal(buf.ptr[600], 'y');
    ch_buf_consume(&buf, 601);
    assert_int_equal(buf.len, 0);
    ch_buf_fini(&buf);
    assert_null(buf.ptr);
    assert_int_equal(ch_buf_append_span(&buf, CH_SPAN("again")), CH_OK);
    assert_true(ch_span_eq(ch_buf_span(&buf), CH_SPAN("again")));
    ch_buf_clear(&buf);
    assert_int_equal(ch_buf_append_span(&buf, none), CH_OK);
    assert_int_equal(buf.len, 0);
    ch_buf_fini(&buf);
    ch_buf_fini(&buf);
}

static void a_format_is_appended_whole_or_not_at_all(void **state)
{
    (void)state;
    struct ch_buf buf;
    ch_buf_init(&buf, 12);
    assert_int_equal(ch_buf_append_format(&buf, "%s-%d", "abc", 42), CH_OK);
    assert_int_equal(ch_buf_append_format(&buf, "%s", "too long for it"), CH_ERR_LIMIT);
    assert_true(ch_span_eq(ch_buf_span(&buf), CH_SPAN("abc-42")));
    ch_buf_fini(&buf);
}

static void assert_json(struct ch_span text, const char *expected)
{
    struct ch_buf buf;
    ch_buf_init(&buf, 4096);
    assert_int_equal(ch_buf_append_json(&buf, text), CH_OK);
    if (!ch_span_eq(ch_buf_span(&buf), ch_span_of(expected)))
        fail_msg("%.*s is not %s", CH_SPAN_ARG(ch_buf_span(&buf)), expected);
    ch_buf_fini(&buf);
}

static void json_is_escaped(void **state)
{
    (void)state;
    assert_json(none, "");
    assert_json(CH_SPAN("plain ~text/"), "plain ~text/");
    assert_json(CH_SPAN("\"\\\n\r\t"), "\\\"\\\\\\n\\r\\t");
    assert_json(CH_SPAN("a\0b\x1b[2J\x7f"), "a\\u0000b\\u001b[2J\\u007f");
    assert_json(CH_SPAN("Zürich €  \xf0\x9f\x94\x91"), "Zürich €  \xf0\x9f\x94\x91");
}

#define REPLACED "\xEF\xBF\xBD" // U+FFFD

static void broken_utf8_is_replaced(void **state)
{
    (void)state;
    assert_json(CH_SPAN("a\xff"), "a" REPLACED);
    assert_json(CH_SPAN("\xc3"), REPLACED);                           // cut at the end
    assert_json(CH_SPAN("\xc0\xaf"), REPLACED REPLACED);              // overlong '/'
    assert_json(CH_SPAN("\xe0\x80\xaf"), REPLACED REPLACED REPLACED); // overlong
    assert_json(CH_SPAN("\xed\xa0\x80"), REPLACED REPLACED REPLACED); // a surrogate
    assert_json(CH_SPAN("\xf4\x90\x80\x80"), REPLACED REPLACED REPLACED REPLACED);
    assert_json(CH_SPAN("\xe2\x82"
                        "x"),
                REPLACED REPLACED "x"); // the broken sequence eats nothing of what follows
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_compare),
        cmocka_unit_test(spans_are_cut_and_trimmed),
        cmocka_unit_test(numbers_are_digits_and_nothing_else),
        cmocka_unit_test(copies_are_cut_and_say_so),
        cmocka_unit_test(a_buffer_grows_to_its_limit_and_then_refuses),
        cmocka_unit_test(a_format_is_appended_whole_or_not_at_all),
        cmocka_unit_test(json_is_escaped),
        cmocka_unit_test(broken_utf8_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
