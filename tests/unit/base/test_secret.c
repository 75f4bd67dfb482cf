// SPDX-License-Identifier: Apache-2.0
#include "base/secret.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <cmocka.h>

// The sanitizers' allocators abort on an overflow where the C library answers NULL.
const char *__asan_default_options(void);
const char *__tsan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static bool is_zero(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i])
            return false;
    return true;
}

static void wipe_clears_every_byte_and_no_other(void **state)
{
    (void)state;
    unsigned char bytes[64];
    memset(bytes, 0xAA, sizeof bytes);
    ch_wipe(bytes + 8, 48);
    assert_true(is_zero(bytes + 8, 48));
    assert_int_equal(bytes[7], 0xAA);
    assert_int_equal(bytes[56], 0xAA);
}

static void allocations_hold_what_was_asked(void **state)
{
    (void)state;
    assert_null(ch_zcalloc(SIZE_MAX / 2, 3)); // the product overflows
    void *empty = ch_zmalloc(0);
    assert_non_null(empty);
    ch_zfree(empty);
    ch_zfree(NULL);
    unsigned char *zeroed = ch_zcalloc(100, 10);
    assert_non_null(zeroed);
    assert_true(is_zero(zeroed, 1000));
    ch_zfree(zeroed);
    char *copy = ch_zstrdup("sk-provider");
    assert_string_equal(copy, "sk-provider");
    ch_zfree(copy);
}

static void realloc_keeps_the_bytes_over_every_change_of_size(void **state)
{
    (void)state;
    unsigned char *bytes = ch_zrealloc(NULL, 1);
    assert_non_null(bytes);
    bytes[0] = 1;
    for (size_t size = 2; size < 5000; size += 7) {
        bytes = ch_zrealloc(bytes, size);
        assert_non_null(bytes);
        assert_int_equal(bytes[0], 1);
        memset(bytes + 1, 0xCC, size - 1);
    }
    bytes = ch_zrealloc(bytes, 20);
    assert_non_null(bytes);
    assert_int_equal(bytes[0], 1);
    for (size_t i = 1; i < 20; i++)
        assert_int_equal(bytes[i], 0xCC);
    ch_zfree(bytes);
}

static void a_secret_is_a_copy(void **state)
{
    (void)state;
    char key[] = "sk-provider-key";
    struct ch_secret *secret;
    assert_int_equal(ch_secret_new(key, strlen(key), &secret), CH_OK);
    ch_wipe(key, sizeof key);
    assert_true(ch_span_eq(ch_secret_reveal(secret), CH_SPAN("sk-provider-key")));
    ch_secret_free(secret);
    assert_int_equal(ch_secret_new("", 0, &secret), CH_OK);
    assert_int_equal(ch_secret_reveal(secret).len, 0);
    ch_secret_free(secret);
    ch_secret_free(NULL);
}

static void comparison_sees_every_byte(void **state)
{
    (void)state;
    unsigned char a[32], b[32];
    ch_random(a, sizeof a);
    memcpy(b, a, sizeof b);
    assert_true(ch_secret_equal(a, b, sizeof a));
    for (size_t i = 0; i < sizeof b; i++) {
        b[i] ^= 0x80;
        assert_false(ch_secret_equal(a, b, sizeof a));
        b[i] ^= 0x80;
    }
    assert_true(ch_secret_equal(a, b, 0));
}

static void random_fills_all_of_it(void **state)
{
    (void)state;
    unsigned char a[64] = {0}, b[64] = {0};
    ch_random(a, sizeof a);
    ch_random(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    assert_false(is_zero(a + 48, 16)); // once in 2^128
}

static void the_process_leaves_no_core(void **state)
{
    (void)state;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_CORE, &limit), 0);
    assert_int_equal(limit.rlim_cur, 0);
    assert_int_equal(limit.rlim_max, 0);
    assert_int_equal(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
}

static int start(void **state)
{
    (void)state;
    struct ch_why why;
    return ch_secret_process_init(&why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wipe_clears_every_byte_and_no_other),
        cmocka_unit_test(allocations_hold_what_was_asked),
        cmocka_unit_test(realloc_keeps_the_bytes_over_every_change_of_size),
        cmocka_unit_test(a_secret_is_a_copy),
        cmocka_unit_test(comparison_sees_every_byte),
        cmocka_unit_test(random_fills_all_of_it),
        cmocka_unit_test(the_process_leaves_no_core),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
