// SPDX-License-Identifier: Apache-2.0
#include "app/cli_parse.h"

#include "domain/provider.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define WORDS_MAX 32

// Splits at blanks; '~' stands for a blank inside a word.
static enum ch_err parse(const char *line, struct ch_cli_call *call, struct ch_why *why)
{
    static char text[1024];
    char *words[WORDS_MAX] = {text}, *rest = text;
    int count = 0;
    snprintf(text, sizeof text, "chaperone %s", line);
    for (char *word; (word = strsep(&rest, " ")) && count < WORDS_MAX;) {
        if (*word)
            words[count++] = word;
        for (; *word; word++)
            *word = *word == '~' ? ' ' : *word;
    }
    why->text[0] = '\0';
    return ch_cli_parse(count, words, call, why);
}

static void lines_are_understood(void **state)
{
    static const struct {
        const char *line, *noun, *verb, *first;
    } cases[] = {
        {"", NULL, NULL, NULL},
        {"serve", "serve", NULL, NULL},
        {"key", "key", NULL, NULL},
        {"key list", "key", "list", NULL},
        {"--config x key list", "key", "list", NULL},
        {"key --config=x list", "key", "list", NULL},
        {"key create web --provider a --provider b", "key", "create", "web"},
        {"key create --provider=a -- --web", "key", "create", "--web"},
        {"provider create p --type openai --secret-stdin", "provider", "create", "p"},
        {"price list", "price", "list", NULL},
        {"price import -", "price", "import", "-"},
        {"completion zsh", "completion", NULL, "zsh"},
        {"key create --help", "key", "create", NULL},
        {"key create -h", "key", "create", NULL},
        {"--version", "version", NULL, NULL},
        {"key list -V", "version", NULL, NULL},
    };
    struct ch_cli_call call;
    struct ch_why why;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum ch_err err = parse(cases[i].line, &call, &why);
        print_message("%s -> %s\n", cases[i].line, why.text);
        assert_int_equal(err, CH_OK);
        if (!cases[i].noun) {
            assert_null(call.noun);
            continue;
        }
        assert_string_equal(call.noun, cases[i].noun);
        if (cases[i].verb)
            assert_string_equal(call.command->verb, cases[i].verb);
        if (cases[i].first)
            assert_string_equal(call.positionals[0], cases[i].first);
        else
            assert_null(call.positionals[0]);
    }
}

static void mistakes_name_what_would_work(void **state)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"kye list", "did you mean key?"},
        {"provder list", "did you mean provider?"},
        {"frobnicate", "no command `frobnicate`"},
        {"key lst", "did you mean key list?"},
        {"key crate web", "did you mean key create?"},
        {"key create", "needs NAME"},
        {"key create web", "needs --provider NAME"},
        {"key create web --provder x", "did you mean --provider?"},
        {"key create web --provider", "--provider needs a value: NAME"},
        {"key create web --provider=", "--provider is empty"},
        {"key create web other --provider x", "word too many: other"},
        {"key create web --provider x --models a --models b", "--models was given twice"},
        {"key create web --provider x --tag novalue", "--tag takes KEY=VALUE"},
        {"key create web --provider x --tag =v", "--tag takes KEY=VALUE"},
        {"key list --limit ten", "--limit takes a whole number"},
        {"key list --limit -1", "--limit takes a whole number"},
        {"key list --quiet=yes", "--quiet takes no value"},
        {"key list --status activ", "did you mean active?"},
        {"key list -x", "no option -x"},
        {"key list -qo", "no option -qo"},
        {"key list -o yaml", "--output takes one of: table tsv json"},
        {"completion ksh", "SHELL takes one of: bash zsh fish"},
        {"provider create p", "needs --type TYPE: openai"},
        {"provider create p --type opnai", "did you mean openai?"},
        {"env web", "needs --for SDK"},
        {"serve now", "word too many: now"},
        {"key show web --reason x", "no option --reason"},
        {"budget set key:web", "needs AMOUNT/PERIOD"},
        {"budget set key:web 1/day --mode hard", "--mode takes one of: strict learned soft"},
        {"budget delete key:web year", "PERIOD takes one of: day week month total"},
        {"key create web --provider x --models=", "--models is empty"},
        {"key update web --rpm ten", "--rpm takes a whole number"},
        {"key explain web", "needs --model MODEL"},
        {"price set gpt-4o --output 1 --output 2", "--output was given twice"},
    };
    struct ch_cli_call call;
    struct ch_why why;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum ch_err err = parse(cases[i].line, &call, &why);
        print_message("%s -> %s\n", cases[i].line, why.text);
        assert_int_equal(err, CH_ERR_INVALID);
        assert_non_null(strstr(why.text, cases[i].says));
    }
}

// A secret in the wrong place is answered with the right place, and not repeated.
static void secrets_are_not_repeated(void **state)
{
    static const char *const lines[] = {
        "key verify ch_web_sk_SECRET",
        "key show ch_web_sk_SECRET",
        "key revoke ch_web_sk_SECRET --yes",
        "key create ch_web_sk_SECRET --provider p",
        "key create -- ch_web_sk_SECRET",
        "usage list --key ch_web_sk_SECRET",
        "usage list --key=ch_web_sk_SECRET",
        "env ch_web_sk_SECRET --for openai",
        "key verify --secret-env ch_web_sk_SECRET",
        "provider create p sk-SECRET --type openai",
        "provider create p --type openai --api-key sk-SECRET",
        "provider create p --type openai --token=sk-SECRET",
        "provider create p --type openai --secret=sk-SECRET",
    };
    struct ch_cli_call call;
    struct ch_why why;
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        assert_int_equal(parse(lines[i], &call, &why), CH_ERR_INVALID);
        print_message("%s -> %s\n", lines[i], why.text);
        assert_null(strstr(why.text, "SECRET"));
        assert_non_null(strstr(why.text, "--secret-stdin"));
    }
}

static void expect_arguments(const char *line, const char *json)
{
    struct ch_cli_call call;
    struct ch_why why;
    json_t *arguments = NULL, *expected = json_loads(json, 0, NULL);
    assert_int_equal(parse(line, &call, &why), CH_OK);
    assert_int_equal(ch_cli_arguments(&call, &arguments, &why), CH_OK);
    char *dump = json_dumps(arguments, JSON_SORT_KEYS);
    print_message("%s -> %s\n", line, dump);
    free(dump);
    assert_true(json_equal(arguments, expected));
    json_decref(arguments);
    json_decref(expected);
}

static void options_become_arguments(void **state)
{
    (void)state;
    expect_arguments("key list -o json --config x -q", "{}");
    expect_arguments("key create web --provider a --provider b --models x,y --tag k=v --tag l=a=b",
                     "{\"name\":\"web\",\"provider\":[\"a\",\"b\"],\"models\":\"x,y\","
                     "\"tag\":{\"k\":\"v\",\"l\":\"a=b\"}}");
    expect_arguments("provider create p --type openai --base-url https://x --no-include-usage "
                     "--secret-env E",
                     "{\"name\":\"p\",\"type\":\"openai\",\"base_url\":\"https://x\","
                     "\"injects_usage\":false}");
    expect_arguments("usage list --limit 7 --from 7d", "{\"limit\":7,\"from\":\"7d\"}");
    expect_arguments("provider delete p --yes", "{\"name\":\"p\"}");
    expect_arguments("price import f --dry-run --out x --date 2026-01-01",
                     "{\"date\":\"2026-01-01\"}");
}

static void arguments_are_checked(void **state)
{
    struct ch_cli_call call;
    struct ch_why why;
    json_t *arguments = NULL;
    (void)state;
    assert_int_equal(parse("key create w --provider p --tag a=1 --tag a=2", &call, &why), CH_OK);
    assert_int_equal(ch_cli_arguments(&call, &arguments, &why), CH_ERR_INVALID);
    assert_int_equal(parse("key create w --provider p --team \xFF", &call, &why), CH_OK);
    assert_int_equal(ch_cli_arguments(&call, &arguments, &why), CH_ERR_INVALID);
    assert_non_null(strstr(why.text, "--team is not UTF-8"));
    assert_null(arguments);
}

// More options than a call can hold are refused, not written past the end.
static void many_options(void **state)
{
    char *words[3 + 2 * (CH_CLI_VALUES_MAX + 1)];
    static char program[] = "chaperone", noun[] = "key", verb[] = "create", option[] = "--provider",
                value[] = "p";
    struct ch_cli_call call;
    struct ch_why why = {""};
    int count = 0;
    (void)state;
    words[count++] = program;
    words[count++] = noun;
    words[count++] = verb;
    for (int i = 0; i <= CH_CLI_VALUES_MAX; i++) {
        words[count++] = option;
        words[count++] = value;
    }
    assert_int_equal(ch_cli_parse(count, words, &call, &why), CH_ERR_INVALID);
    assert_non_null(strstr(why.text, "more than"));
}

static void the_table_is_sound(void **state)
{
    (void)state;
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++) {
        print_message("%s %s\n", c->noun, c->verb ? c->verb : "");
        assert_non_null(c->summary);
        assert_true(c->run || c->operation);
        assert_true(c->summary[strlen(c->summary) - 1] != '.');
        for (const struct ch_cli_command *d = c + 1; d->noun; d++) {
            bool same_noun = strcmp(c->noun, d->noun) == 0;
            assert_false(same_noun && (!c->verb || !d->verb || strcmp(c->verb, d->verb) == 0));
        }
        for (const struct ch_cli_option *o = c->options; o && o->name; o++) {
            assert_true((o->type == CH_CLI_FLAG) == (o->value == NULL));
            assert_true((o->type == CH_CLI_CHOICE) == (o->choices != NULL));
            assert_non_null(o->help);
            // The price of output is the one option with a global one's name.
            bool is_price = strcmp(c->noun, "price") == 0 && strcmp(o->name, "output") == 0;
            for (const struct ch_cli_option *g = ch_cli_globals; g->name && !is_price; g++)
                assert_string_not_equal(o->name, g->name);
            if (o->is_secret)
                assert_non_null(c->secret_member);
        }
        for (size_t i = 0; i < CH_CLI_POSITIONALS_MAX && c->positionals[i].name; i++)
            assert_true(c->positionals[i].is_local || c->positionals[i].member);
    }
}

static void an_empty_value_clears(void **state)
{
    char words[][20] = {
        "chaperone", "key", "update",       "web", "--models",          "", "--rpm=",
        "--tag",     "",    "--allow-cidr", "",    "--on-client-abort", ""};
    enum { WORDS = sizeof words / sizeof *words };
    char *argv[WORDS];
    for (int i = 0; i < WORDS; i++)
        argv[i] = words[i];
    struct ch_cli_call call;
    struct ch_why why;
    json_t *arguments, *expected;
    (void)state;
    assert_int_equal(ch_cli_parse(WORDS, argv, &call, &why), CH_OK);
    assert_int_equal(ch_cli_arguments(&call, &arguments, &why), CH_OK);
    expected = json_loads("{\"name\":\"web\",\"models\":\"\",\"rpm\":\"\",\"tag\":{},"
                          "\"allow_cidr\":[\"\"],\"on_client_abort\":\"\"}",
                          0, NULL);
    assert_true(json_equal(arguments, expected));
    json_decref(arguments);
    json_decref(expected);
}

static void the_price_of_output_is_not_the_form_of_the_answer(void **state)
{
    struct ch_cli_call call;
    struct ch_why why;
    json_t *arguments;
    (void)state;
    assert_int_equal(parse("price set gpt-4o --output 8.50 -o json", &call, &why), CH_OK);
    assert_int_equal(call.output, CH_CLI_JSON);
    assert_int_equal(ch_cli_arguments(&call, &arguments, &why), CH_OK);
    assert_string_equal(json_string_value(json_object_get(arguments, "output")), "8.50");
    json_decref(arguments);
    assert_int_equal(parse("price set gpt-4o --output 8.50", &call, &why), CH_OK);
    assert_int_equal(call.output, CH_CLI_AUTO);
}

static void provider_types_are_those_of_the_domain(void **state)
{
    struct ch_cli_call call;
    struct ch_why why;
    char line[128];
    (void)state;
    for (int type = 0; type < CH_PROVIDER_TYPES; type++) {
        snprintf(line, sizeof line, "provider create p --type %s",
                 ch_provider_type_name((enum ch_provider_type)type));
        assert_int_equal(parse(line, &call, &why), CH_OK);
    }
}

static void exit_codes(void **state)
{
    (void)state;
    assert_int_equal(ch_cli_exit_code(CH_OK), 0);
    assert_int_equal(ch_cli_exit_code(CH_ERR_IO), 1);
    assert_int_equal(ch_cli_exit_code(CH_ERR_INVALID), 2);
    assert_int_equal(ch_cli_exit_code(CH_ERR_NOT_FOUND), 3);
    assert_int_equal(ch_cli_exit_code(CH_ERR_DENIED), 4);
    assert_int_equal(ch_cli_exit_code(CH_ERR_CONFLICT), 5);
    assert_int_equal(ch_cli_exit_code(CH_ERR_UNAVAILABLE), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_understood),
        cmocka_unit_test(mistakes_name_what_would_work),
        cmocka_unit_test(secrets_are_not_repeated),
        cmocka_unit_test(options_become_arguments),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(many_options),
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(an_empty_value_clears),
        cmocka_unit_test(the_price_of_output_is_not_the_form_of_the_answer),
        cmocka_unit_test(provider_types_are_those_of_the_domain),
        cmocka_unit_test(exit_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
