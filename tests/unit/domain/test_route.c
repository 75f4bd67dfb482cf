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
    assert_true(rows >= 40);
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
        cmocka_unit_test(infix_depends_on_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
