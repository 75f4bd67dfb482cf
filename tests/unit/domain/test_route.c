// SPDX-License-Identifier: Apache-2.0
// Routes and upstream paths, from tests/table/routes.tsv: method, path, then what is expected.
#include "domain/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

// Dialects that know the path, as letters ("oa": OpenAI and Anthropic).
static void find_all(struct ch_span path, bool is_post, char *letters, struct ch_route_match *last)
{
    enum ch_dialect pinned;
    struct ch_span rest = path;
    bool is_pinned = ch_route_prefix(path, &pinned, &rest);
    int count = 0;
    for (int d = CH_DIALECT_OPENAI; d <= CH_DIALECT_GEMINI; d++) {
        struct ch_route_match match;
        if (is_pinned && pinned != (enum ch_dialect)d)
            continue;
        if (ch_route_find((enum ch_dialect)d, rest, is_post, &match) == CH_ROUTE_FOUND) {
            letters[count++] = "oag"[d];
            *last = match;
        }
    }
    letters[count] = '\0';
}

static void check_row(char *line)
{
    char *save = NULL, letters[4];
    const char *method = strtok_r(line, "\t\n", &save);
    const char *path = strtok_r(NULL, "\t\n", &save);
    const char *dialects = strtok_r(NULL, "\t\n", &save);
    const char *endpoint = strtok_r(NULL, "\t\n", &save);
    const char *model = strtok_r(NULL, "\t\n", &save);
    const char *suffix = strtok_r(NULL, "\t\n", &save);
    struct ch_route_match match = {0};
    assert_non_null(dialects);
    find_all(ch_span_of(path), strcmp(method, "POST") == 0, letters, &match);
    if (strcmp(letters, dialects[0] == '-' ? "" : dialects) != 0)
        fail_msg("%s %s: dialects '%s', expected '%s'", method, path, letters, dialects);
    if (dialects[0] == '-')
        return;
    assert_non_null(suffix);
    assert_string_equal(ch_endpoint_name(match.route->endpoint), endpoint);
    assert_true(ch_span_eq(match.model, ch_span_of(model[0] == '-' ? "" : model)));
    assert_true(ch_span_eq(match.suffix, ch_span_of(suffix)));
}

static void table_holds(void **state)
{
    (void)state;
    char line[1024];
    int rows = 0;
    FILE *file = fopen(CH_TABLE_DIR "/routes.tsv", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#' || line[0] == '\n')
            continue;
        check_row(line);
        rows++;
    }
    fclose(file);
    assert_true(rows >= 90);
}

static void wrong_method_is_told_apart(void **state)
{
    (void)state;
    struct ch_route_match match;
    assert_int_equal(
        ch_route_find(CH_DIALECT_OPENAI, CH_SPAN("/v1/chat/completions"), false, &match),
        CH_ROUTE_WRONG_METHOD);
    assert_int_equal(ch_route_find(CH_DIALECT_OPENAI, CH_SPAN("/v1/files"), false, &match),
                     CH_ROUTE_UNKNOWN);
}

// A route that takes a body says what kind, and a form has its model in it or in the path.
static void bodies_are_json_or_forms(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        bool takes_json, takes_form;
        enum ch_model_place place;
    } cases[] = {
        {"/v1/chat/completions", true, false, CH_MODEL_IN_BODY},
        {"/v1/responses/compact", true, false, CH_MODEL_IN_BODY},
        {"/v1/images/generations", true, false, CH_MODEL_IN_BODY},
        {"/v1/images/edits", true, true, CH_MODEL_IN_FORM},
        {"/v1/images/variations", false, true, CH_MODEL_IN_FORM},
        {"/v1/audio/transcriptions", false, true, CH_MODEL_IN_FORM},
        {"/v1/audio/translations", false, true, CH_MODEL_IN_FORM},
        {"/v1/audio/speech", true, false, CH_MODEL_IN_BODY},
        {"/deployments/d/images/edits", true, true, CH_MODEL_IN_PATH},
        {"/deployments/d/audio/transcriptions", false, true, CH_MODEL_IN_PATH},
        {"/deployments/d/audio/speech", true, false, CH_MODEL_IN_PATH},
    };
    struct ch_route_match match;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(ch_route_find(CH_DIALECT_OPENAI, ch_span_of(cases[i].path), true, &match),
                         CH_ROUTE_FOUND);
        assert_int_equal(match.route->takes_json, cases[i].takes_json);
        assert_int_equal(match.route->takes_form, cases[i].takes_form);
        assert_int_equal(match.route->model_place, cases[i].place);
        assert_true(match.route->usage_form != CH_USAGE_NONE);
    }
    ch_route_find(CH_DIALECT_OPENAI, CH_SPAN("/v1/models"), false, &match);
    assert_false(match.route->takes_json || match.route->takes_form);
    ch_route_find(CH_DIALECT_ANTHROPIC, CH_SPAN("/v1/messages"), true, &match);
    assert_true(match.route->takes_json && !match.route->takes_form);
    ch_route_find(CH_DIALECT_GEMINI, CH_SPAN("/v1beta/models/m:generateContent"), true, &match);
    assert_true(match.route->takes_json && !match.route->takes_form);
}

static void infix_depends_on_type(void **state)
{
    (void)state;
    struct ch_route_match match;
    ch_route_find(CH_DIALECT_OPENAI, CH_SPAN("/deployments/d/chat/completions"), true, &match);
    assert_true(match.route->is_deployment);
    assert_true(
        ch_span_eq(ch_route_upstream_infix(CH_PROVIDER_AZURE, match.route), CH_SPAN("/openai")));
    ch_route_find(CH_DIALECT_OPENAI, CH_SPAN("/v1/responses"), true, &match);
    assert_true(
        ch_span_eq(ch_route_upstream_infix(CH_PROVIDER_AZURE, match.route), CH_SPAN("/openai/v1")));
    assert_true(ch_span_eq(ch_route_upstream_infix(CH_PROVIDER_OPENAI, match.route), CH_SPAN("")));
    ch_route_find(CH_DIALECT_ANTHROPIC, CH_SPAN("/messages"), true, &match);
    assert_true(
        ch_span_eq(ch_route_upstream_infix(CH_PROVIDER_ANTHROPIC, match.route), CH_SPAN("/v1")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_holds),
        cmocka_unit_test(wrong_method_is_told_apart),
        cmocka_unit_test(bodies_are_json_or_forms),
        cmocka_unit_test(infix_depends_on_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
