// SPDX-License-Identifier: Apache-2.0
#include "domain/model_rule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
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
    static const char *const cases[] = {"gpt 4o", "gpt-4o,*-mini", "a**", "**", "gpt-?", "a*b",
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

static void rules_are_anchored_and_exact(void **state)
{
    (void)state;
    static const struct {
        const char *list, *model;
        bool allowed;
    } cases[] = {
        {"", "anything", true},
        {"gpt-4o", "gpt-4o", true},
        {"gpt-4o", "gpt-4o-mini", false},
        {"gpt-4o", "gpt-4", false},
        {"gpt-4o", "GPT-4o", false},
        {"gpt-4o", "x-gpt-4o", false},
        {"gpt-4o", "", false},
        {"gpt-4o,claude-*", "claude-opus-5", true},
        {"gpt-4o,claude-*", "claude-", true},
        {"gpt-4o,claude-*", "claude", false},
        {"gpt-4o,claude-*", "my-claude-1", false},
        {"claude-*,gpt-4o", "gpt-4o", true},
        {"claude-*,gpt-4o", "gpt-4o,claude-*", false},
        {"gpt-4o*", "gpt-4o", true},
        {"*", "anything", true},
        {"*", "", true},
        {"a,b", "a,b", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(
            ch_model_rule_allows(ch_span_of(cases[i].list), ch_span_of(cases[i].model)),
            cases[i].allowed);
}

static void spans_need_no_nul(void **state)
{
    (void)state;
    const struct ch_span list = {"gpt-4o,claude-*,o3", 15}; // without the last entry
    assert_true(ch_model_rule_allows(list, (struct ch_span){"gpt-4o-mini", 6}));
    assert_true(ch_model_rule_allows(list, CH_SPAN("claude-x")));
    assert_false(ch_model_rule_allows(list, CH_SPAN("o3")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_names_have_one_alphabet_and_a_length),
        cmocka_unit_test(lists_are_normalised),
        cmocka_unit_test(wrong_lists_are_refused_whole),
        cmocka_unit_test(rules_are_anchored_and_exact),
        cmocka_unit_test(spans_need_no_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
