// SPDX-License-Identifier: Apache-2.0
#include "domain/wrapped_key.h"

#include "base/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

// ---- tests/table/wrapped_key.tsv

#define LINE_MAX_BYTES 1024
#define COLUMNS        4

static size_t split(char *line, char *columns[COLUMNS])
{
    size_t count = 0;
    line[strcspn(line, "\n")] = '\0';
    for (char *rest = line; rest && count < COLUMNS; count++)
        columns[count] = strsep(&rest, "\t");
    for (size_t i = count; i < COLUMNS; i++)
        columns[i] = line + strlen(line);
    return count;
}

// Decodes \xNN in place.
static struct ch_span unescape(char *text)
{
    size_t len = 0;
    for (const char *from = text; *from; len++) {
        char hex[3] = "";
        if (from[0] == '\\' && from[1] == 'x') {
            memcpy(hex, from + 2, 2);
            text[len] = (char)strtol(hex, NULL, 16);
            from += 4;
        } else {
            text[len] = *from++;
        }
    }
    return (struct ch_span){text, len};
}

static void check_row(char *columns[COLUMNS])
{
    struct ch_span token = unescape(columns[1]);
    char *exact = malloc(token.len + 1); // the sanitizer sees a read past the token
    struct ch_wrapped_key key;
    assert_non_null(exact);
    memcpy(exact, token.ptr, token.len);
    bool ok = ch_wrapped_key_parse((struct ch_span){exact, token.len}, &key) == CH_OK;
    if (ok != (strcmp(columns[0], "ok") == 0))
        fail_msg("%s: %s", columns[2], ok ? "accepted" : "refused");
    if (ok) {
        assert_true(ch_span_eq(key.slug, ch_span_of(columns[2])));
        assert_true(ch_span_eq(key.id, ch_span_of(columns[3])));
        assert_ptr_equal(key.secret.ptr, key.id.ptr + key.id.len);
        assert_int_equal(key.secret.len, CH_WRAPPED_KEY_SECRET);
    }
    free(exact);
}

static void tokens_are_told_apart_as_the_table_says(void **state)
{
    (void)state;
    char line[LINE_MAX_BYTES], *columns[COLUMNS];
    size_t rows = 0;
    FILE *table = fopen(CH_TABLE_DIR "/wrapped_key.tsv", "r");
    assert_non_null(table);
    while (fgets(line, sizeof line, table)) {
        if (line[0] == '#')
            continue;
        assert_true(split(line, columns) >= 3);
        check_row(columns);
        rows++;
    }
    fclose(table);
    assert_true(rows > 40);
}

// ----

static void mint(const char *slug, char token[CH_WRAPPED_KEY_MAX + 1])
{
    assert_int_equal(ch_wrapped_key_mint(ch_span_of(slug), token), CH_OK);
}

static void a_minted_token_parses_and_none_is_like_another(void **state)
{
    (void)state;
    char first[CH_WRAPPED_KEY_MAX + 1], second[CH_WRAPPED_KEY_MAX + 1];
    struct ch_wrapped_key a, b;
    mint("payments_prod", first);
    mint("payments_prod", second);
    assert_int_equal(ch_wrapped_key_parse(ch_span_of(first), &a), CH_OK);
    assert_int_equal(ch_wrapped_key_parse(ch_span_of(second), &b), CH_OK);
    assert_true(ch_span_eq(a.slug, CH_SPAN("payments_prod")));
    assert_false(ch_span_eq(a.id, b.id));
    assert_false(ch_span_eq(a.secret, b.secret));
    mint("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", first);
    assert_int_equal(strlen(first), CH_WRAPPED_KEY_MAX);
}

static void mint_refuses_what_is_no_slug(void **state)
{
    (void)state;
    char token[CH_WRAPPED_KEY_MAX + 1];
    static const char *const slugs[] = {"", "A", "a-b", "é",
                                        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"};
    for (size_t i = 0; i < sizeof slugs / sizeof *slugs; i++)
        assert_int_equal(ch_wrapped_key_mint(ch_span_of(slugs[i]), token), CH_ERR_INVALID);
}

// A CRC of 32 bits sees every change of one character.
static void every_change_of_one_character_is_seen(void **state)
{
    (void)state;
    char token[CH_WRAPPED_KEY_MAX + 1];
    struct ch_wrapped_key key;
    mint("team_7", token);
    for (size_t i = 0; token[i]; i++) {
        char was = token[i];
        for (int c = 0; c < 256; c++) {
            token[i] = (char)c;
            bool ok = ch_wrapped_key_parse((struct ch_span){token, strlen("ch_team_7_sk_") + 50},
                                           &key) == CH_OK;
            assert_int_equal(ok, (char)c == was);
        }
        token[i] = was;
    }
}

static void names_become_slugs(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"payments_prod", "payments_prod"},
        {"Payments Prod", "payments_prod"},
        {"team/ops-7", "team_ops_7"},
        {"Zürich", "z__rich"},
        {"", "key"},
        {"___", "___"},
        {"0123456789012345678901234567890123456789012345678901234567890123456789",
         "012345678901234567890123456789012345678901234567"},
    };
    char slug[CH_WRAPPED_KEY_SLUG_MAX + 1], token[CH_WRAPPED_KEY_MAX + 1];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ch_wrapped_key_slug(ch_span_of(cases[i][0]), slug);
        assert_string_equal(slug, cases[i][1]);
        mint(slug, token);
    }
}

static void hash_is_keyed_salted_blake2b(void **state)
{
    (void)state;
    unsigned char pepper[CH_WRAPPED_KEY_PEPPER], salt[CH_WRAPPED_KEY_SALT];
    unsigned char hash[CH_WRAPPED_KEY_HASH], other[CH_WRAPPED_KEY_HASH];
    for (size_t i = 0; i < sizeof pepper; i++)
        pepper[i] = (unsigned char)i;
    for (size_t i = 0; i < sizeof salt; i++)
        salt[i] = (unsigned char)(0xA0 + i);
    // From Python: hashlib.blake2b(salt + token, key=pepper, digest_size=32).
    static const unsigned char expected[CH_WRAPPED_KEY_HASH] = {
        0x6d, 0x5e, 0x60, 0x14, 0x64, 0xf8, 0xb4, 0xa9, 0x02, 0x33, 0xc6,
        0xd6, 0xf0, 0x1b, 0x69, 0xfd, 0xe8, 0x7b, 0x31, 0xc1, 0xd6, 0x2c,
        0x55, 0x4f, 0xef, 0xe6, 0xd3, 0xa6, 0x42, 0x52, 0xe8, 0xd3};
    const struct ch_span token = CH_SPAN("ch_a_sk_token");
    ch_wrapped_key_hash(pepper, salt, token, hash);
    assert_memory_equal(hash, expected, sizeof expected);

    salt[15] ^= 1;
    ch_wrapped_key_hash(pepper, salt, token, other);
    assert_memory_not_equal(hash, other, sizeof hash);
    salt[15] ^= 1;
    pepper[0] ^= 1;
    ch_wrapped_key_hash(pepper, salt, token, other);
    assert_memory_not_equal(hash, other, sizeof hash);
    pepper[0] ^= 1;
    ch_wrapped_key_hash(pepper, salt, CH_SPAN("ch_a_sk_tokem"), other);
    assert_memory_not_equal(hash, other, sizeof hash);
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
        cmocka_unit_test(tokens_are_told_apart_as_the_table_says),
        cmocka_unit_test(a_minted_token_parses_and_none_is_like_another),
        cmocka_unit_test(mint_refuses_what_is_no_slug),
        cmocka_unit_test(every_change_of_one_character_is_seen),
        cmocka_unit_test(names_become_slugs),
        cmocka_unit_test(hash_is_keyed_salted_blake2b),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
