// SPDX-License-Identifier: Apache-2.0
#include "domain/admin_token.h"

#include "base/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static const char *const names[] = {
    "a", "ci-7", "night_shift", "A.b_c-d",
    "0123456789012345678901234567890123456789012345678901234567890123"};

static void what_is_minted_parses(void **state)
{
    (void)state;
    char token[CH_ADMIN_TOKEN_MAX + 1], other[CH_ADMIN_TOKEN_MAX + 1];
    struct ch_span name;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(ch_admin_token_mint(ch_span_of(names[i]), token), CH_OK);
        assert_int_equal(ch_admin_token_mint(ch_span_of(names[i]), other), CH_OK);
        assert_string_not_equal(token, other);
        assert_int_equal(ch_admin_token_parse(ch_span_of(token), &name), CH_OK);
        assert_true(ch_span_eq(name, ch_span_of(names[i])));
    }
}

static void other_names_are_refused(void **state)
{
    (void)state;
    char token[CH_ADMIN_TOKEN_MAX + 1];
    static const char *const bad[] = {
        "",         "a b", "a/b",
        "\xc3\xa4", "a\n", "01234567890123456789012345678901234567890123456789012345678901234"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ch_admin_token_mint(ch_span_of(bad[i]), token), CH_ERR_INVALID);
}

// Every byte counts: no changed, cut or lengthened token passes as one.
static void damage_is_seen(void **state)
{
    (void)state;
    char token[CH_ADMIN_TOKEN_MAX + 1];
    struct ch_span name;
    assert_int_equal(ch_admin_token_mint(CH_SPAN("ci-7"), token), CH_OK);
    size_t len = strlen(token);
    for (size_t i = 0; i < len; i++) {
        char kept = token[i];
        for (int bit = 0; bit < 8; bit++) {
            token[i] = (char)(kept ^ (1 << bit));
            assert_int_equal(ch_admin_token_parse((struct ch_span){token, len}, &name),
                             CH_ERR_INVALID);
        }
        token[i] = kept;
        assert_int_equal(ch_admin_token_parse((struct ch_span){token, i}, &name), CH_ERR_INVALID);
    }
    token[len] = '0';
    assert_int_equal(ch_admin_token_parse((struct ch_span){token, len + 1}, &name), CH_ERR_INVALID);
}

static void the_hash_covers_salt_rights_and_token(void **state)
{
    (void)state;
    const unsigned char pepper[CH_ADMIN_TOKEN_PEPPER] = {1}, salt[CH_ADMIN_TOKEN_SALT] = {2};
    const unsigned char pepper2[CH_ADMIN_TOKEN_PEPPER] = {9}, salt2[CH_ADMIN_TOKEN_SALT] = {9};
    const struct ch_span token = CH_SPAN("cha_x_y");
    const struct ch_admin_token_rights rights = {CH_ADMIN_VIEWER, "blue", 7};
    const struct {
        const unsigned char *pepper, *salt;
        struct ch_admin_token_rights rights;
        struct ch_span token;
    } others[] = {
        {pepper2, salt, rights, token},
        {pepper, salt2, rights, token},
        {pepper, salt, {CH_ADMIN_ADMIN, "blue", 7}, token},
        {pepper, salt, {CH_ADMIN_VIEWER, "", 7}, token},
        {pepper, salt, {CH_ADMIN_VIEWER, "blue", 0}, token},
        {pepper, salt, rights, CH_SPAN("cha_x_z")},
    };
    unsigned char hash[CH_ADMIN_TOKEN_HASH], again[CH_ADMIN_TOKEN_HASH];
    ch_admin_token_hash(pepper, salt, &rights, token, hash);
    ch_admin_token_hash(pepper, salt, &rights, token, again);
    assert_memory_equal(hash, again, sizeof hash);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        ch_admin_token_hash(others[i].pepper, others[i].salt, &others[i].rights, others[i].token,
                            again);
        assert_memory_not_equal(hash, again, sizeof hash);
    }
}

static void roles_have_names(void **state)
{
    (void)state;
    enum ch_admin_role role;
    for (int i = CH_ADMIN_VIEWER; i <= CH_ADMIN_ADMIN; i++) {
        const char *name = ch_admin_role_name((enum ch_admin_role)i);
        assert_int_equal(ch_admin_role_parse(ch_span_of(name), &role), CH_OK);
        assert_int_equal(role, i);
    }
    assert_int_equal(ch_admin_role_parse(CH_SPAN("Admin"), &role), CH_ERR_INVALID);
    assert_int_equal(ch_admin_role_parse(CH_SPAN(""), &role), CH_ERR_INVALID);
}

int main(void)
{
    struct ch_why why;
    if (ch_secret_process_init(&why))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_minted_parses),
        cmocka_unit_test(other_names_are_refused),
        cmocka_unit_test(damage_is_seen),
        cmocka_unit_test(the_hash_covers_salt_rights_and_token),
        cmocka_unit_test(roles_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
