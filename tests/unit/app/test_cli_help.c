// SPDX-License-Identifier: Apache-2.0
#include "app/cli_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define PAGE_MAX ((size_t)1024 * 1024)

static char *text_of(struct ch_buf *page)
{
    assert_int_equal(ch_buf_append(page, "", 1), CH_OK);
    return page->ptr;
}

static void every_command_and_option_is_explained(void **state)
{
    struct ch_buf page;
    char words[96];
    (void)state;
    ch_buf_init(&page, PAGE_MAX);
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++) {
        ch_buf_clear(&page);
        assert_int_equal(ch_cli_help_command(&page, c), CH_OK);
        const char *text = text_of(&page);
        for (const struct ch_cli_option *o = c->options; o && o->name; o++) {
            snprintf(words, sizeof words, "--%s", o->name);
            assert_non_null(strstr(text, words));
        }
        assert_non_null(strstr(text, "--help"));
    }
    ch_buf_clear(&page);
    assert_int_equal(ch_cli_help_overview(&page), CH_OK);
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++) {
        snprintf(words, sizeof words, "  %s%s%s ", c->noun, c->verb ? " " : "",
                 c->verb ? c->verb : "");
        assert_non_null(strstr(text_of(&page), words));
        page.len--;
    }
    ch_buf_fini(&page);
}

// docs/cli.md is this page: whoever changes the table writes it anew with `chaperone help
// --markdown`.
static void the_reference_is_up_to_date(void **state)
{
    struct ch_buf page;
    (void)state;
    char *held = calloc(1, PAGE_MAX);
    FILE *file = fopen(CH_SOURCE_DIR "/docs/cli.md", "r");
    assert_non_null(held);
    assert_non_null(file);
    size_t len = fread(held, 1, PAGE_MAX - 1, file);
    fclose(file);
    ch_buf_init(&page, PAGE_MAX);
    assert_int_equal(ch_cli_help_markdown(&page), CH_OK);
    assert_int_equal(page.len, len);
    assert_memory_equal(page.ptr, held, len);
    ch_buf_fini(&page);
    free(held);
}

static void completion_knows_every_option(void **state)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    struct ch_buf page;
    char words[64];
    (void)state;
    ch_buf_init(&page, PAGE_MAX);
    for (size_t i = 0; i < 3; i++) {
        ch_buf_clear(&page);
        assert_int_equal(ch_cli_completion(&page, shells[i]), CH_OK);
        const char *text = text_of(&page);
        for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++)
            for (const struct ch_cli_option *o = c->options; o && o->name; o++) {
                snprintf(words, sizeof words, i == 2 ? "-l %s" : "--%s", o->name);
                assert_non_null(strstr(text, words));
            }
    }
    assert_int_equal(ch_cli_completion(&page, "ksh"), CH_ERR_NOT_FOUND);
    ch_buf_fini(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_and_option_is_explained),
        cmocka_unit_test(the_reference_is_up_to_date),
        cmocka_unit_test(completion_knows_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
