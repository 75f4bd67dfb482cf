// SPDX-License-Identifier: Apache-2.0
// Decisions from tests/table/model_rule.tsv, maps from tests/table/model_map.tsv, then what tables
// cannot say.
#include "domain/model_rule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

static void model_names_have_one_alphabet_and_a_length(void **state)
{
    (void)state;
    static const char *const good[] = {"gpt-4o", "a", "models/gemini-2.5:x@y_z",
                                       "ft:gpt-4o:acme::7", "GPT-4O"};
    static const char *const bad[] = {"",     "gpt 4o", "gpt-4o ", " gpt-4o", "gpt-*",
                                      "a,b",  "a\tb",   "a\nb",    "a\"b",    "gpt－4o",
                                      "a\\b", "a%2Fb",  "a;b"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(ch_model_name_is_valid(ch_span_of(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(ch_model_name_is_valid(ch_span_of(bad[i])));
    assert_false(ch_model_name_is_valid((struct ch_span){"a\0b", 3}));
    assert_false(ch_model_name_is_valid((struct ch_span){0}));
    char longest[CH_MODEL_NAME_MAX + 1];
    memset(longest, 'm', sizeof longest);
    assert_true(ch_model_name_is_valid((struct ch_span){longest, CH_MODEL_NAME_MAX}));
    assert_false(ch_model_name_is_valid((struct ch_span){longest, CH_MODEL_NAME_MAX + 1}));
}

static void lists_are_normalised(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"   ", ""},
        {"gpt-4o-mini", "gpt-4o-mini"},
        {" gpt-4o-mini ,\tclaude-* ", "gpt-4o-mini,claude-*"},
        {",,gpt-4o,,o3,", "gpt-4o,o3"},
        {"*", "*"},
        {"*-mini, gpt-*-preview", "*-mini,gpt-*-preview"},
        {"a*b*c*d*e", "a*b*c*d*e"},
        {"*a*b*c*", "*a*b*c*"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_buf out;
        struct ch_why why;
        ch_buf_init(&out, 256);
        assert_int_equal(ch_model_rule_parse(ch_span_of(cases[i][0]), &out, &why), CH_OK);
        assert_true(ch_span_eq(ch_buf_span(&out), ch_span_of(cases[i][1])));
        ch_buf_fini(&out);
    }
}

static void wrong_lists_are_refused_whole(void **state)
{
    (void)state;
    static const char *const cases[] = {"gpt 4o", "a**", "**", "*a**", "gpt-?", "a*b*c*d*e*",
                                        "gpt-4o,\"o3\"",
                                        // an empty list allows everything, so these must not be one
                                        ",", " , ,"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_buf out;
        struct ch_why why = {""};
        ch_buf_init(&out, 256);
        assert_int_equal(ch_model_rule_parse(ch_span_of(cases[i]), &out, &why), CH_ERR_INVALID);
        assert_int_equal(out.len, 0);
        assert_true(why.text[0]);
        ch_buf_fini(&out);
    }
    struct ch_buf out;
    ch_buf_init(&out, 4);
    assert_int_equal(ch_model_rule_parse(CH_SPAN("gpt-4o"), &out, NULL), CH_ERR_LIMIT);
    assert_int_equal(out.len, 0);
    ch_buf_fini(&out);
}

static void reasons_name_the_entry(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"gpt-4o,gpt 5", "\"gpt 5\" is neither a model name ([A-Za-z0-9._:/@-]) nor a pattern of "
                         "it with stars"},
        {"o3,a**", "\"a**\" holds two stars in a row; one says the same"},
        {"o3,a*b*c*d*e*", "\"a*b*c*d*e*\" holds more than 4 stars"},
        {",", "the list of models holds commas but no model"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_buf out;
        struct ch_why why = {""};
        ch_buf_init(&out, 256);
        assert_int_equal(ch_model_rule_parse(ch_span_of(cases[i][0]), &out, &why), CH_ERR_INVALID);
        assert_string_equal(why.text, cases[i][1]);
        ch_buf_fini(&out);
    }
}

static void a_pattern_has_a_length(void **state)
{
    (void)state;
    char pattern[CH_MODEL_NAME_MAX + 3];
    struct ch_buf out;
    ch_buf_init(&out, 256);
    memset(pattern, 'm', sizeof pattern);
    pattern[0] = pattern[CH_MODEL_NAME_MAX + 1] = '*';
    assert_int_equal(
        ch_model_rule_parse((struct ch_span){pattern, CH_MODEL_NAME_MAX + 2}, &out, NULL), CH_OK);
    assert_int_equal(
        ch_model_rule_parse((struct ch_span){pattern, CH_MODEL_NAME_MAX + 3}, &out, NULL),
        CH_ERR_INVALID);
    ch_buf_fini(&out);
}

// ---- Decisions

typedef void (*check_row_fn)(struct ch_span cells[], const char *line);

static int check_table(const char *path, int columns, check_row_fn check_row)
{
    char line[1024], cut[sizeof line];
    struct ch_span cells[5];
    int rows = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        char *save = NULL, *rest = memcpy(cut, line, sizeof line);
        if (line[0] == '#')
            continue;
        for (int i = 0; i < columns; i++, rest = NULL) {
            const char *text = strtok_r(rest, "\t\n", &save);
            assert_non_null(text);
            cells[i] = ch_span_of(strcmp(text, "-") == 0 ? "" : text);
        }
        check_row(cells, line);
        rows++;
    }
    fclose(file);
    return rows;
}

// Parses what is normalised already and must stay so, then compares the decision.
static void check_decision(struct ch_span cells[], const char *line)
{
    static const char *const names[] = {"allowed", "not_on_list", "denied"};
    struct ch_span pattern = CH_SPAN("unset");
    for (int i = 0; i < 2; i++) {
        struct ch_buf out;
        ch_buf_init(&out, 256);
        if (ch_model_rule_parse(cells[i], &out, NULL) || !ch_span_eq(ch_buf_span(&out), cells[i]))
            fail_msg("the list is not normalised: %s", line);
        ch_buf_fini(&out);
    }
    enum ch_model_decision decision = ch_model_rule_decide(cells[0], cells[1], cells[2], &pattern);
    if (!ch_span_eq(ch_span_of(names[decision]), cells[3]) || !ch_span_eq(pattern, cells[4]))
        fail_msg("%s by \"%.*s\": %s", names[decision], CH_SPAN_ARG(pattern), line);
    assert_int_equal(ch_model_rule_decide(cells[0], cells[1], cells[2], NULL), decision);
    if (cells[1].len == 0)
        assert_int_equal(ch_model_rule_allows(cells[0], cells[2]), decision == CH_MODEL_ALLOWED);
}

static void decisions_follow_the_table(void **state)
{
    (void)state;
    assert_true(check_table(CH_TABLE_DIR "/model_rule.tsv", 5, check_decision) >= 50);
}

static void no_name_fits_only_what_needs_none(void **state)
{
    (void)state;
    const struct ch_span none = {NULL, 0};
    assert_true(ch_model_rule_allows(CH_SPAN("*"), none));
    assert_false(ch_model_rule_allows(CH_SPAN("gpt-4o"), none));
    assert_false(ch_model_rule_allows(CH_SPAN("*-*"), none));
    assert_false(ch_model_rule_allows(CH_SPAN("*m"), none));
    assert_true(ch_model_rule_allows(none, none));
}

// The obvious matcher, slow and surely right.
static bool fits_slowly(const char *pattern, const char *text)
{
    if (*pattern == '\0')
        return *text == '\0';
    if (*pattern == '*')
        return fits_slowly(pattern + 1, text) || (*text && fits_slowly(pattern, text + 1));
    return *pattern == *text && fits_slowly(pattern + 1, text + 1);
}

static unsigned random_below(unsigned *seed, unsigned below)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % below;
}

static void random_text(unsigned *seed, const char *alphabet, unsigned max, char *out)
{
    unsigned len = random_below(seed, max + 1);
    for (unsigned i = 0; i < len; i++)
        out[i] = alphabet[random_below(seed, (unsigned)strlen(alphabet))];
    out[len] = '\0';
}

static void fitting_is_what_the_slow_matcher_says(void **state)
{
    (void)state;
    unsigned seed = 7;
    int fitting = 0;
    for (int i = 0; i < 200000; i++) {
        char pattern[12], text[12];
        random_text(&seed, "ab*", 8, pattern);
        random_text(&seed, "ab", 8, text);
        if (pattern[0] == '\0') // no entry at all
            continue;
        bool expected = fits_slowly(pattern, text);
        if (ch_model_rule_allows(ch_span_of(pattern), ch_span_of(text)) != expected)
            fail_msg("\"%s\" on \"%s\": not %d", pattern, text, expected);
        fitting += expected;
    }
    assert_true(fitting > 20000);
}

// Millions of steps each, were every star to try every place again.
static void no_pattern_is_slow(void **state)
{
    (void)state;
    char model[CH_MODEL_NAME_MAX + 1] = "", pattern[CH_MODEL_NAME_MAX + 5] = "*";
    memset(model, 'a', CH_MODEL_NAME_MAX);
    for (int i = 0; i < 3; i++)
        strcat(pattern, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa*");
    strcat(pattern, "b");
    struct ch_buf out;
    ch_buf_init(&out, 256);
    assert_int_equal(ch_model_rule_parse(ch_span_of(pattern), &out, NULL), CH_OK);
    ch_buf_fini(&out);
    clock_t start = clock();
    for (int i = 0; i < 1000; i++)
        assert_false(ch_model_rule_allows(ch_span_of(pattern), ch_span_of(model)));
    assert_true(clock() - start < CLOCKS_PER_SEC);
}

static void spans_need_no_nul(void **state)
{
    (void)state;
    const struct ch_span list = {"gpt-4o,claude-*,o3", 15}; // without the last entry
    assert_true(ch_model_rule_allows(list, (struct ch_span){"gpt-4o-mini", 6}));
    assert_true(ch_model_rule_allows(list, CH_SPAN("claude-x")));
    assert_false(ch_model_rule_allows(list, CH_SPAN("o3")));
}

static void the_deciding_pattern_is_a_part_of_its_list(void **state)
{
    (void)state;
    const struct ch_span allow = CH_SPAN("gpt-*,o3"), deny = CH_SPAN("o1,*-pro");
    struct ch_span pattern;
    assert_int_equal(ch_model_rule_decide(allow, deny, CH_SPAN("o3"), &pattern), CH_MODEL_ALLOWED);
    assert_ptr_equal(pattern.ptr, allow.ptr + 6);
    assert_int_equal(ch_model_rule_decide(allow, deny, CH_SPAN("o3-pro"), &pattern),
                     CH_MODEL_DENIED);
    assert_ptr_equal(pattern.ptr, deny.ptr + 3);
}

// ---- Maps

static void check_map(struct ch_span cells[], const char *line)
{
    struct ch_buf out;
    struct ch_why why = {""};
    struct ch_span sent;
    ch_buf_init(&out, 256);
    assert_int_equal(ch_buf_append(&out, "kept", 4), CH_OK);
    enum ch_err err = ch_model_map_parse(cells[0], &out, &why);
    assert_memory_equal(out.ptr, "kept", 4);
    struct ch_span map = ch_span_sub(ch_buf_span(&out), 4);
    if (ch_span_starts(cells[1], CH_SPAN("!"))) {
        assert_int_equal(err, CH_ERR_INVALID);
        assert_int_equal(map.len, 0);
        if (!memmem(why.text, strlen(why.text), cells[1].ptr + 1, cells[1].len - 1))
            fail_msg("\"%s\": %s", why.text, line);
    } else {
        if (err || !ch_span_eq(map, cells[1]))
            fail_msg("\"%.*s\" %s: %s", CH_SPAN_ARG(map), why.text, line);
        bool is_other = ch_model_map_apply(map, cells[2], &sent);
        if (!ch_span_eq(sent, cells[3]) || is_other == ch_span_eq(cells[2], cells[3]))
            fail_msg("\"%.*s\": %s", CH_SPAN_ARG(sent), line);
    }
    ch_buf_fini(&out);
}

static void maps_follow_the_table(void **state)
{
    (void)state;
    assert_true(check_table(CH_TABLE_DIR "/model_map.tsv", 4, check_map) >= 30);
}

static void a_map_has_limits(void **state)
{
    (void)state;
    char text[(CH_MODEL_MAP_MAX + 1) * 8] = "";
    struct ch_buf out;
    struct ch_why why = {""};
    size_t used = 0;
    for (int i = 0; i < CH_MODEL_MAP_MAX; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "m%d=x,", i);
    ch_buf_init(&out, sizeof text);
    assert_int_equal(ch_model_map_parse(ch_span_of(text), &out, &why), CH_OK);
    assert_int_equal(out.len, used - 1);
    ch_buf_clear(&out);
    snprintf(text + used, sizeof text - used, "n=x");
    assert_int_equal(ch_model_map_parse(ch_span_of(text), &out, &why), CH_ERR_LIMIT);
    assert_int_equal(out.len, 0);
    assert_string_equal(why.text, "the map holds more than 64 entries");
    ch_buf_fini(&out);
    ch_buf_init(&out, 7);
    assert_int_equal(ch_model_map_parse(CH_SPAN("a=b,c=de"), &out, &why), CH_ERR_LIMIT);
    assert_int_equal(out.len, 0);
    assert_string_equal(why.text, "the map of models is too long");
    ch_buf_fini(&out);
}

// Whatever map is accepted, what it sends is never sent on.
static void an_accepted_map_has_no_chain(void **state)
{
    (void)state;
    unsigned seed = 11;
    int accepted = 0;
    for (int i = 0; i < 50000; i++) {
        char text[64] = "", side[4];
        struct ch_buf out;
        for (int entry = 0; entry < 3; entry++) {
            random_text(&seed, "abc*", 2, side);
            strcat(strcat(strcat(text, "a"), side), "=");
            random_text(&seed, "abcd", 2, side);
            strcat(strcat(strcat(text, "a"), side), ",");
        }
        ch_buf_init(&out, sizeof text);
        if (ch_model_map_parse(ch_span_of(text), &out, NULL) == CH_OK) {
            struct ch_span once, twice;
            random_text(&seed, "abcd", 3, side);
            ch_model_map_apply(ch_buf_span(&out), ch_span_of(side), &once);
            if (ch_model_map_apply(ch_buf_span(&out), once, &twice))
                fail_msg("%s: %s is sent on", text, side);
            accepted++;
        }
        ch_buf_fini(&out);
    }
    assert_true(accepted > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_names_have_one_alphabet_and_a_length),
        cmocka_unit_test(lists_are_normalised),
        cmocka_unit_test(wrong_lists_are_refused_whole),
        cmocka_unit_test(reasons_name_the_entry),
        cmocka_unit_test(a_pattern_has_a_length),
        cmocka_unit_test(decisions_follow_the_table),
        cmocka_unit_test(no_name_fits_only_what_needs_none),
        cmocka_unit_test(fitting_is_what_the_slow_matcher_says),
        cmocka_unit_test(no_pattern_is_slow),
        cmocka_unit_test(spans_need_no_nul),
        cmocka_unit_test(the_deciding_pattern_is_a_part_of_its_list),
        cmocka_unit_test(maps_follow_the_table),
        cmocka_unit_test(a_map_has_limits),
        cmocka_unit_test(an_accepted_map_has_no_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
