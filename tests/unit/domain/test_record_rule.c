// SPDX-License-Identifier: Apache-2.0
#include "domain/record_rule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define MEMBERS 16

// An event in a few strings.
struct event {
    struct member {
        const char *field;
        char value[128];
        bool is_there;
    } members[MEMBERS];
    bool refuses; // `set` fails
};

static struct member *find(struct event *event, struct ch_span field)
{
    for (size_t i = 0; i < MEMBERS; i++)
        if (event->members[i].field && ch_span_eq(field, ch_span_of(event->members[i].field)))
            return &event->members[i];
    return NULL;
}

static bool event_get(void *arg, struct ch_span field, struct ch_span *value_out)
{
    struct member *member = find(arg, field);
    if (!member || !member->is_there)
        return false;
    *value_out = ch_span_of(member->value);
    return true;
}

static enum ch_err event_set(void *arg, struct ch_span field, struct ch_span value)
{
    struct event *event = arg;
    struct member *member = find(event, field);
    assert_non_null(member);
    if (event->refuses)
        return CH_ERR_NOMEM;
    assert_true(ch_span_copy(value, member->value, sizeof member->value));
    return CH_OK;
}

static void event_strip(void *arg, struct ch_span field)
{
    struct member *member = find(arg, field);
    assert_non_null(member);
    member->is_there = false;
}

static struct event sample(void)
{
    return (struct event){.members = {
                              {"key", "web", true},
                              {"team", "growth", true},
                              {"env", "prod", true},
                              {"model_sent", "internal-llama", true},
                              {"status", "200", true},
                              {"client_address", "10.0.0.7", true},
                              {"user_agent", "curl/8", true},
                              {"request_body", "{\"q\":\"salary of \\\"Bo\\\"\"}", true},
                              {"response_body", "{\"a\":1}", true},
                              {"rule", "", false},
                          }};
}

static const unsigned char key[CH_RECORD_RULE_KEY] = "a key of thirty-two bytes ......";

static enum ch_err apply(struct event *event, const char *const *rules, size_t count, bool *keep)
{
    struct ch_span texts[CH_RECORD_RULES_MAX];
    struct ch_record_rules *parsed;
    struct ch_why why = {""};
    for (size_t i = 0; i < count; i++)
        texts[i] = ch_span_of(rules[i]);
    if (ch_record_rules_new(texts, count, &parsed, &why))
        fail_msg("%s", why.text);
    const struct ch_record_event face = {event, event_get, event_set, event_strip};
    enum ch_err err = ch_record_rules_apply(parsed, key, &face, keep);
    ch_record_rules_free(parsed);
    return err;
}

static bool keeps(struct event *event, const char *rule)
{
    bool keep = false;
    assert_int_equal(apply(event, &rule, 1, &keep), CH_OK);
    return keep;
}

static void conditions_decide_on_a_field(void **state)
{
    (void)state;
    static const struct {
        const char *rule;
        bool is_dropped;
    } cases[] = {
        {"drop", true},
        {"drop if team equals growth", true},
        {"drop if team equals grow", false},
        {"drop if team equals Growth", false},
        {"drop if model_sent prefix internal-", true},
        {"drop if model_sent prefix llama", false},
        {"drop if model_sent contains llama", true},
        {"drop if model_sent contains \"\"", true},
        {"drop if request_body contains \"salary of \\\\\\\"Bo\"", true},
        {"drop if request_body contains \"salary  of\"", false},
        {"drop if status equals 200", true},
        {"drop if key present", true},
        {"drop if rule present", false},
        {"drop if rule equals \"\"", false},
        {"drop if tags contains x", false},
        {"  drop\tif  env equals \"prod\" ", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct event event = sample();
        if (keeps(&event, cases[i].rule) == cases[i].is_dropped)
            fail_msg("%s", cases[i].rule);
    }
}

static void actions_change_the_named_fields_alone(void **state)
{
    (void)state;
    struct event event = sample(), untouched = sample();
    assert_true(keeps(&event, "strip request_body , response_body, tags, status"));
    assert_false(find(&event, CH_SPAN("request_body"))->is_there);
    assert_false(find(&event, CH_SPAN("response_body"))->is_there);
    assert_false(find(&event, CH_SPAN("status"))->is_there);
    assert_true(keeps(&event, "replace client_address with \"a \\\"b\\\" \\\\ c\" if env present"));
    assert_string_equal(find(&event, CH_SPAN("client_address"))->value, "a \"b\" \\ c");
    assert_true(keeps(&event, "replace user_agent with \"\""));
    assert_string_equal(find(&event, CH_SPAN("user_agent"))->value, "");
    assert_true(keeps(&event, "replace team with x if env equals dev"));
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(event.members[i].value, untouched.members[i].value);
}

static void hashes_are_keyed_and_equal_for_equal_values(void **state)
{
    (void)state;
    // BLAKE2b-256 of "10.0.0.7" under `key`, computed with Python's hashlib.
    static const char expected[] =
        "b8baa1618cb669e0124f1d39b8f9f8212d62a9d20537305db877a5d3c7ad420d";
    struct event event = sample();
    assert_true(keeps(&event, "hash client_address, rule"));
    assert_string_equal(find(&event, CH_SPAN("client_address"))->value, expected);
    assert_false(find(&event, CH_SPAN("rule"))->is_there);
}

static void rules_run_in_order_and_see_what_is_left(void **state)
{
    (void)state;
    static const char *const kept[] = {"replace team with hidden", "drop if team equals growth"};
    static const char *const dropped[] = {"replace team with hidden", "drop if team equals hidden",
                                          "strip key"};
    struct event event = sample();
    bool keep = false;
    assert_int_equal(apply(&event, kept, 2, &keep), CH_OK);
    assert_true(keep);
    event = sample();
    assert_int_equal(apply(&event, dropped, 3, &keep), CH_OK);
    assert_false(keep);
    assert_true(find(&event, CH_SPAN("key"))->is_there); // nothing runs behind a drop
    assert_int_equal(apply(&event, NULL, 0, &keep), CH_OK);
    assert_true(keep);
}

static void a_field_that_cannot_be_set_is_an_error(void **state)
{
    (void)state;
    static const char *const rules[] = {"hash team", "strip key"};
    struct event event = sample();
    bool keep = true;
    event.refuses = true;
    assert_int_equal(apply(&event, rules, 2, &keep), CH_ERR_NOMEM);
    assert_true(keep); // out-pointers are set only on success
    assert_true(find(&event, CH_SPAN("key"))->is_there);
}

static void errors_name_the_rule_and_the_word(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *word, *fault;
    } cases[] = {
        {"", "ends", "drop, strip, hash or replace"},
        {"delete key", "\"delete\"", "drop, strip, hash or replace"},
        {"Drop", "\"Drop\"", "drop, strip, hash or replace"},
        {"strip", "ends", "name a field"},
        {"strip keys", "\"keys\"", "name a field"},
        {"strip key team", "\"team\"", "end, or say if"},
        {"strip key,", "ends", "name a field"},
        {"strip ,key", "\",\"", "name a field"},
        {"strip id", "\"id\"", "ties the event"},
        {"hash input_tokens", "\"input_tokens\"", "field of text"},
        {"replace status with 1", "\"status\"", "field of text"},
        {"replace team", "ends", "say with and a value"},
        {"replace team by x", "\"by\"", "say with and a value"},
        {"replace team with", "ends", "have a value"},
        {"replace team with \"x", "\"\"x\"", "closing quote"},
        {"replace team with \"x\\\"", "\"\"x\\\"\"", "closing quote"},
        {"drop key", "\"key\"", "end, or say if"},
        {"drop if", "ends", "name a field"},
        {"drop if model equals x", "\"model\"", "name a field"},
        {"drop if team is x", "\"is\"", "equals, prefix, contains or present"},
        {"drop if team \"\"", "\"\"\"\"", "equals, prefix, contains or present"},
        {"drop if team equals", "ends", "have a value"},
        {"drop if team present x", "\"x\"", "end, or say if"},
        {"drop if team equals a b", "\"b\"", "end, or say if"},
        {"drop if team equals a if key present", "\"if\"", "end, or say if"},
        {"drop if team equals a \"\"", "\"\"\"\"", "end, or say if"},
        {"strip k\x01y", "\"k?y\"", "name a field"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct ch_span texts[] = {CH_SPAN("drop"), ch_span_of(cases[i].rule)};
        struct ch_record_rules *rules = NULL;
        struct ch_why why = {""};
        assert_int_equal(ch_record_rules_new(texts, 2, &rules, &why), CH_ERR_INVALID);
        assert_null(rules);
        if (strncmp(why.text, "rule 2: ", 8) != 0 || !strstr(why.text, cases[i].word) ||
            !strstr(why.text, cases[i].fault))
            fail_msg("%s: %s", cases[i].rule, why.text);
    }
}

static void rules_are_limited(void **state)
{
    (void)state;
    static char longest[CH_RECORD_RULE_MAX + 2] = "replace team with ";
    struct ch_span texts[CH_RECORD_RULES_MAX + 1];
    struct ch_record_rules *rules;
    struct ch_why why = {""};
    for (size_t i = 0; i < CH_RECORD_RULES_MAX + 1; i++)
        texts[i] = CH_SPAN("drop");
    assert_int_equal(ch_record_rules_new(texts, CH_RECORD_RULES_MAX + 1, &rules, &why),
                     CH_ERR_LIMIT);
    assert_int_equal(ch_record_rules_new(texts, CH_RECORD_RULES_MAX, &rules, &why), CH_OK);
    ch_record_rules_free(rules);
    memset(longest + strlen(longest), 'x', CH_RECORD_RULE_MAX + 1 - strlen(longest));
    texts[1] = ch_span_of(longest);
    assert_int_equal(ch_record_rules_new(texts, 2, &rules, &why), CH_ERR_LIMIT);
    assert_non_null(strstr(why.text, "rule 2 "));
    texts[1].len--;
    assert_int_equal(ch_record_rules_new(texts, 2, &rules, &why), CH_OK);
    ch_record_rules_free(rules);
}

static void every_field_has_a_name_of_its_own(void **state)
{
    (void)state;
    size_t count;
    const char *const *fields = ch_record_fields(&count);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(fields[i], fields[j]);
    for (size_t i = 0; i < count; i++) {
        char rule[128];
        struct ch_span text = {
            rule, (size_t)snprintf(rule, sizeof rule, "drop if %s present", fields[i])};
        struct ch_record_rules *rules;
        assert_int_equal(ch_record_rules_new(&text, 1, &rules, NULL), CH_OK);
        ch_record_rules_free(rules);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conditions_decide_on_a_field),
        cmocka_unit_test(actions_change_the_named_fields_alone),
        cmocka_unit_test(hashes_are_keyed_and_equal_for_equal_values),
        cmocka_unit_test(rules_run_in_order_and_see_what_is_left),
        cmocka_unit_test(a_field_that_cannot_be_set_is_an_error),
        cmocka_unit_test(errors_name_the_rule_and_the_word),
        cmocka_unit_test(rules_are_limited),
        cmocka_unit_test(every_field_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
