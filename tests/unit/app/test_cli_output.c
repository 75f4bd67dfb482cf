// SPDX-License-Identifier: Apache-2.0
#include "app/cli_output.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct ch_cli_column columns[] = {
    {.member = "name", .title = "Name", .is_id = true},
    {.member = "count", .title = "Count", .format = CH_CLI_AS_COUNT},
    {.member = "cost_usd", .title = "Cost", .format = CH_CLI_AS_USD},
    {.member = "at", .title = "Time", .format = CH_CLI_AS_TIME},
    {.member = "extra", .title = "Extra", .is_detail = true},
    {0},
};

static const char list[] =
    "{\"schema\":\"x/1\",\"items\":["
    "{\"name\":\"a\",\"count\":1234567,\"cost_usd\":\"0.005615000\","
    "\"at\":\"2026-11-21T20:05:00.123Z\",\"extra\":[\"p\",\"q\"]},"
    "{\"name\":\"longer\",\"count\":5,\"cost_usd\":null,\"at\":null,\"extra\":{\"k\":\"v\"}}]}";

static void expect(const char *json, const struct ch_cli_view *view, const char *expected)
{
    struct ch_buf out;
    json_t *answer = json_loads(json, 0, NULL);
    assert_non_null(answer);
    ch_buf_init(&out, 64 * 1024);
    assert_int_equal(ch_cli_render(&out, answer, view), CH_OK);
    assert_int_equal(ch_buf_append(&out, "", 1), CH_OK);
    assert_string_equal(out.ptr, expected);
    ch_buf_fini(&out);
    json_decref(answer);
}

static void a_list_as_a_table(void **state)
{
    (void)state;
    expect(list, &(struct ch_cli_view){.columns = columns, .output = CH_CLI_TABLE},
           "Name        Count      Cost  Time\n"
           "a       1,234,567  0.005615  2026-11-21 20:05:00\n"
           "longer          5  unpriced  never\n");
}

static void a_list_as_tsv(void **state)
{
    (void)state;
    expect(list, &(struct ch_cli_view){.columns = columns, .output = CH_CLI_TSV},
           "name\tcount\tcost_usd\tat\textra\n"
           "a\t1234567\t0.005615000\t2026-11-21T20:05:00.123Z\tp,q\n"
           "longer\t5\t\t\tk=v\n");
    expect("{\"items\":[]}", &(struct ch_cli_view){.columns = columns, .output = CH_CLI_TSV},
           "name\tcount\tcost_usd\tat\textra\n");
    expect("{\"items\":[]}", &(struct ch_cli_view){.columns = columns, .output = CH_CLI_TABLE}, "");
}

static void budgets_in_a_few_words(void **state)
{
    static const struct ch_cli_column one[] = {
        {.member = "budgets", .title = "Budgets", .format = CH_CLI_AS_BUDGETS}, {0}};
    (void)state;
    expect("{\"budgets\":[{\"cap_usd\":\"100.000000000\",\"period\":\"day\",\"mode\":\"strict\","
           "\"spent_usd\":\"0.125000000\"},{\"cap_usd\":\"0.500000000\",\"period\":\"total\","
           "\"mode\":\"soft\",\"spent_usd\":\"0.000000000\"}]}",
           &(struct ch_cli_view){.columns = one, .output = CH_CLI_TABLE},
           "Budgets:  100.00/day strict, 0.125 spent; 0.50/total soft, 0.00 spent\n");
    expect("{\"budgets\":[]}", &(struct ch_cli_view){.columns = one, .output = CH_CLI_TABLE}, "");
}

static void ids_only(void **state)
{
    (void)state;
    expect(list,
           &(struct ch_cli_view){.columns = columns, .output = CH_CLI_TABLE, .ids_only = true},
           "a\nlonger\n");
    expect("{\"name\":\"x\"}",
           &(struct ch_cli_view){.columns = columns, .output = CH_CLI_TSV, .ids_only = true},
           "x\n");
}

static void one_object(void **state)
{
    (void)state;
    expect("{\"schema\":\"x/1\",\"name\":\"a\",\"count\":7,\"cost_usd\":\"12.000000000\"}",
           &(struct ch_cli_view){.columns = columns, .output = CH_CLI_TABLE},
           "Name:   a\nCount:  7\nCost:   12.00\n");
    expect("{\"schema\":\"x/1\",\"name\":\"a\",\"b\":true}",
           &(struct ch_cli_view){.output = CH_CLI_TSV}, "name\tb\na\ttrue\n");
}

static void groups_come_first_and_totals_last(void **state)
{
    (void)state;
    expect(
        "{\"by\":[\"team\"],\"items\":[{\"team\":\"t\",\"count\":1},{\"team\":\"u\",\"count\":2}],"
        "\"total\":{\"count\":3}}",
        &(struct ch_cli_view){.columns = columns + 1, .output = CH_CLI_TSV},
        "team\tcount\tcost_usd\tat\textra\nt\t1\t\t\t\nu\t2\t\t\t\n");
    const struct ch_cli_column count[] = {columns[1], {0}};
    expect(
        "{\"by\":[\"team\"],\"items\":[{\"team\":\"t\",\"count\":1},{\"team\":\"u\",\"count\":2}],"
        "\"total\":{\"count\":3}}",
        &(struct ch_cli_view){.columns = count, .output = CH_CLI_TABLE},
        "team  Count\nt         1\nu         2\n          3\n");
}

// What a client sent must not steer the terminal of whoever lists it, nor forge a row.
static void hostile_text_is_tamed(void **state)
{
    static const char hostile[] =
        "{\"items\":[{\"name\":\"a\\u001b[31m\\tb\\nc\\u007f\\u009b\\u202ed\\u2066\xC3\xA4\"}]}";
    static const struct ch_cli_column name[] = {{.member = "name", .title = "Name"}, {0}};
    (void)state;
    expect(hostile, &(struct ch_cli_view){.columns = name, .output = CH_CLI_TSV},
           "name\na?[31m?b?c???d?\xC3\xA4\n");
    expect(hostile, &(struct ch_cli_view){.columns = name, .output = CH_CLI_TABLE},
           "Name\na?[31m?b?c???d?\xC3\xA4\n");
    expect("{\"name\":\"\\u001b\\u009b\"}", &(struct ch_cli_view){.output = CH_CLI_JSON},
           "{\n  \"name\": \"\\u001B\\u009B\"\n}\n");
}

static void values_for_people(void **state)
{
    static const struct {
        enum ch_cli_format format;
        const char *json, *shown;
    } cases[] = {
        {CH_CLI_AS_COUNT, "0", "0"},
        {CH_CLI_AS_COUNT, "999", "999"},
        {CH_CLI_AS_COUNT, "1000", "1,000"},
        {CH_CLI_AS_COUNT, "-123456", "-123,456"},
        {CH_CLI_AS_PRICE, "\"0.0000025\"", "2.5"},
        {CH_CLI_AS_PRICE, "\"0.00000015\"", "0.15"},
        {CH_CLI_AS_PRICE, "\"0.00001\"", "10"},
        {CH_CLI_AS_PRICE, "\"0.000000075\"", "0.075"},
        {CH_CLI_AS_PRICE, "\"0\"", "0"},
        {CH_CLI_AS_PRICE, "\"1\"", "1000000"},
        {CH_CLI_AS_PRICE, "\"12.5\"", "12500000"},
        {CH_CLI_AS_PRICE, "\"0.04\"", "40000"},
        {CH_CLI_AS_PRICE, "null", "-"},
        {CH_CLI_AS_PRICE, "\"free\"", "free"},
        {CH_CLI_AS_USD, "\"100.000000000\"", "100.00"},
        {CH_CLI_AS_USD, "\"0.000000001\"", "0.000000001"},
        {CH_CLI_AS_US, "12345", "12.34 ms"},
        {CH_CLI_AS_US, "123456", "123 ms"},
        {CH_CLI_AS_US, "12345678", "12.3 s"},
        {CH_CLI_AS_US, "-1", "-"},
        {CH_CLI_AS_SECONDS, "59", "0m 59s"},
        {CH_CLI_AS_SECONDS, "3700", "1h 1m"},
        {CH_CLI_AS_SECONDS, "90000", "1d 1h"},
        {CH_CLI_AS_BYTES, "1023", "1023 B"},
        {CH_CLI_AS_BYTES, "1536", "1.5 KiB"},
        {CH_CLI_AS_BYTES, "16777216", "16.0 MiB"},
        {CH_CLI_AS_YESNO, "true", "yes"},
        {CH_CLI_AS_YESNO, "false", "no"},
        {CH_CLI_AS_TEXT, "1.5", "1.5"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[128], expected[128];
        const struct ch_cli_column column[] = {
            {.member = "v", .title = "V", .format = cases[i].format}, {0}};
        snprintf(json, sizeof json, "{\"v\":%s}", cases[i].json);
        snprintf(expected, sizeof expected, "V:  %s\n", cases[i].shown);
        print_message("%s\n", cases[i].json);
        expect(json, &(struct ch_cli_view){.columns = column, .output = CH_CLI_TABLE}, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_as_a_table),
        cmocka_unit_test(a_list_as_tsv),
        cmocka_unit_test(budgets_in_a_few_words),
        cmocka_unit_test(ids_only),
        cmocka_unit_test(one_object),
        cmocka_unit_test(groups_come_first_and_totals_last),
        cmocka_unit_test(hostile_text_is_tamed),
        cmocka_unit_test(values_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
