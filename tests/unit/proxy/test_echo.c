// SPDX-License-Identifier: Apache-2.0
// The echo guard: no byte of a credential gets through, however the stream is cut, and nothing else
// changes.
#include "echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define KEY "sk-proj-0123456789abcdefghij"

static void pass_all(struct echo_guard *guard, struct ch_span text, size_t cut_a, size_t cut_b,
                     struct ch_buf *out)
{
    size_t cuts[4] = {0, cut_a, cut_b, text.len};
    for (int i = 0; i < 3; i++) {
        struct ch_span pass, piece = {text.ptr + cuts[i], cuts[i + 1] - cuts[i]};
        assert_int_equal(echo_guard_filter(guard, piece, i == 2, &pass), CH_OK);
        assert_int_equal(ch_buf_append_span(out, pass), CH_OK);
    }
}

static void check_at_every_cut(const char *text, const char *expected)
{
    struct ch_span whole = ch_span_of(text);
    for (size_t a = 0; a <= whole.len; a++) {
        for (size_t b = a; b <= whole.len; b++) {
            struct echo_guard guard;
            struct ch_buf out;
            ch_buf_init(&out, 4096);
            echo_guard_init(&guard, CH_SPAN(KEY), echo_digest(CH_SPAN(KEY)));
            pass_all(&guard, whole, a, b, &out);
            assert_int_equal(out.len, strlen(expected));
            assert_memory_equal(out.ptr, expected, out.len);
            ch_buf_fini(&out);
            echo_guard_fini(&guard);
        }
    }
}

static void masks_at_every_cut(void **state)
{
    (void)state;
    check_at_every_cut("{\"error\":\"bad key " KEY "!\"}",
                       "{\"error\":\"bad key ****************************!\"}");
    check_at_every_cut(KEY KEY "x", "********************************************************x");
    check_at_every_cut("ends in " KEY, "ends in ****************************");
}

static void leaves_the_rest(void **state)
{
    (void)state;
    check_at_every_cut("sk-proj-0123456789abcdefghiX and sk-",
                       "sk-proj-0123456789abcdefghiX and sk-");
    check_at_every_cut("sssssk-sk-sk-proj-", "sssssk-sk-sk-proj-");
}

static void copies_nothing_when_nothing_is_found(void **state)
{
    (void)state;
    struct echo_guard guard;
    struct ch_span pass, text = CH_SPAN("an ordinary answer without any credential in it");
    echo_guard_init(&guard, CH_SPAN(KEY), echo_digest(CH_SPAN(KEY)));
    assert_int_equal(echo_guard_filter(&guard, text, false, &pass), CH_OK);
    assert_ptr_equal(pass.ptr, text.ptr);
    assert_int_equal(pass.len, text.len);
    assert_null(guard.buf.ptr);
    echo_guard_fini(&guard);
}

static void short_credentials_are_not_guarded(void **state)
{
    (void)state;
    struct echo_guard guard;
    struct ch_span pass, text = CH_SPAN("test test test");
    echo_guard_init(&guard, CH_SPAN("test"), echo_digest(CH_SPAN("test")));
    assert_int_equal(echo_guard_filter(&guard, text, true, &pass), CH_OK);
    assert_true(ch_span_eq(pass, text));
    echo_guard_fini(&guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_at_every_cut),
        cmocka_unit_test(leaves_the_rest),
        cmocka_unit_test(copies_nothing_when_nothing_is_found),
        cmocka_unit_test(short_credentials_are_not_guarded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
