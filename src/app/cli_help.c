// SPDX-License-Identifier: Apache-2.0
#include "app/cli_help.h"

#include <stdio.h>

#define HELP_COLUMN 26 // where explanations begin
#define WIDTH       96 // explanations are broken here

// The first failing append sticks, so that a page is written as one text.
struct page {
    struct ch_buf *out;
    enum ch_err err;
};

static void add(struct page *page, const char *text)
{
    if (!page->err)
        page->err = ch_buf_append_span(page->out, ch_span_of(text));
}

static void add_span(struct page *page, struct ch_span text)
{
    if (!page->err)
        page->err = ch_buf_append_span(page->out, text);
}

#define addf(page, ...)                                                                            \
    do {                                                                                           \
        if (!(page)->err)                                                                          \
            (page)->err = ch_buf_append_format((page)->out, __VA_ARGS__);                          \
    } while (0)

struct text {
    char text[160];
};

static struct text title_of(const struct ch_cli_command *command)
{
    struct text title;
    snprintf(title.text, sizeof title.text, "%s%s%s", command->noun, command->verb ? " " : "",
             command->verb ? command->verb : "");
    return title;
}

// "  -o, --output FORMAT"
static struct text option_title(const struct ch_cli_option *option)
{
    struct text title;
    char letter[6] = "";
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    snprintf(title.text, sizeof title.text, "%s--%s%s%s", letter, option->name,
             option->value ? " " : "", option->value ? option->value : "");
    return title;
}

// ---- plain text

// Adds `text` from column `at` on, broken at blanks before WIDTH; later lines begin at `indent`.
static void add_wrapped(struct page *page, const char *text, size_t at, size_t indent)
{
    for (bool is_first = true; *text; is_first = false) {
        size_t len = strcspn(text, " ");
        if (!is_first && at + 1 + len > WIDTH) {
            addf(page, "\n%*s", (int)indent, "");
            at = indent;
        } else if (!is_first) {
            add(page, " ");
            at++;
        }
        add_span(page, (struct ch_span){text, len});
        at += len;
        text += len + (text[len] == ' ');
    }
    add(page, "\n");
}

static void add_entry(struct page *page, const char *title, const char *help)
{
    size_t at = 2 + strlen(title);
    addf(page, "  %s", title);
    if (at + 2 > HELP_COLUMN) {
        add(page, "\n");
        at = 0;
    }
    addf(page, "%*s", (int)(HELP_COLUMN - at), "");
    add_wrapped(page, help, HELP_COLUMN, HELP_COLUMN);
}

static void add_option(struct page *page, const struct ch_cli_option *option)
{
    char help[320];
    snprintf(help, sizeof help, "%s%s%s%s%s", option->help, option->choices ? ": " : "",
             option->choices ? option->choices : "", option->is_required ? " (required)" : "",
             option->is_repeatable ? " (repeatable)" : "");
    add_entry(page, option_title(option).text, help);
}

static void add_options(struct page *page, const struct ch_cli_option *options, bool secret)
{
    for (; options && options->name; options++)
        if (options->is_secret == secret)
            add_option(page, options);
}

static bool has_options(const struct ch_cli_option *options, bool secret)
{
    for (; options && options->name; options++)
        if (options->is_secret == secret)
            return true;
    return false;
}

static void add_usage(struct page *page, const struct ch_cli_command *command)
{
    addf(page, "chaperone %s", title_of(command).text);
    for (size_t i = 0; i < CH_CLI_POSITIONALS_MAX && command->positionals[i].name; i++)
        addf(page, command->positionals[i].is_optional ? " [%s]" : " %s",
             command->positionals[i].name);
    for (const struct ch_cli_option *o = command->options; o && o->name; o++)
        if (o->is_required)
            addf(page, " --%s %s", o->name, o->value);
    add(page, " [options]\n");
}

static void add_lines(struct page *page, const char *lines, const char *before)
{
    while (*lines) {
        size_t len = strcspn(lines, "\n");
        addf(page, "%s%.*s\n", before, (int)len, lines);
        lines += len + (lines[len] == '\n');
    }
}

// A summary as a sentence.
static void add_sentence(struct page *page, const char *summary)
{
    addf(page, "%c%s.\n",
         summary[0] >= 'a' && summary[0] <= 'z' ? summary[0] - 'a' + 'A' : summary[0], summary + 1);
}

enum ch_err ch_cli_help_command(struct ch_buf *out, const struct ch_cli_command *command)
{
    struct page page = {.out = out};
    add_sentence(&page, command->summary);
    add(&page, "\nUsage: ");
    add_usage(&page, command);
    if (command->about) {
        add(&page, "\n");
        add_wrapped(&page, command->about, 0, 0);
    }
    if (command->positionals[0].name)
        add(&page, "\n");
    for (size_t i = 0; i < CH_CLI_POSITIONALS_MAX && command->positionals[i].name; i++)
        add_entry(&page, command->positionals[i].name, command->positionals[i].help);
    if (has_options(command->options, false))
        add(&page, "\nOptions:\n");
    add_options(&page, command->options, false);
    if (command->secret_member)
        add(&page, "\nThe secret (asked for on a terminal unless one of these is given):\n");
    add_options(&page, command->options, true);
    add(&page, "\nEverywhere:\n");
    add_options(&page, ch_cli_globals, false);
    if (command->example) {
        add(&page, "\nFor example:\n");
        add_lines(&page, command->example, "  ");
    }
    return page.err;
}

static void add_command_entry(struct page *page, const struct ch_cli_command *command)
{
    add_entry(page, title_of(command).text, command->summary);
}

enum ch_err ch_cli_help_noun(struct ch_buf *out, const char *noun)
{
    struct page page = {.out = out};
    addf(&page, "Usage: chaperone %s COMMAND [options]\n\n", noun);
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++)
        if (strcmp(c->noun, noun) == 0)
            add_command_entry(&page, c);
    addf(&page, "\nMore about one of them: chaperone %s COMMAND --help\n", noun);
    return page.err;
}

static const char first_steps[] =
    "chaperone init --dir ~/chaperone && cd ~/chaperone\n"
    "chaperone serve &\n"
    "chaperone provider create openai --type openai     # asks for the key, echo off\n"
    "chaperone key create my-app --provider openai      # prints ch_..., once\n"
    "chaperone env my-app --for openai                  # the two settings your app needs\n";

static const char exit_codes[] = "0 ok, 1 failed, 2 usage, 3 not found, 4 not allowed, 5 conflict, "
                                 "6 finished with findings, 7 daemon unreachable";

enum ch_err ch_cli_help_overview(struct ch_buf *out)
{
    struct page page = {.out = out};
    add(&page,
        "chaperone issues wrapped keys for LLM APIs. The provider's key never leaves it, and "
        "every\ntoken is accounted to the wrapped key that spent it.\n\n"
        "Usage: chaperone COMMAND [options]\n\nStart here:\n");
    add_lines(&page, first_steps, "  ");
    add(&page, "\nCommands:\n");
    const char *noun = ch_cli_commands[0].noun;
    bool has_verbs = false;
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++) {
        if (strcmp(noun, c->noun) != 0 && (has_verbs || c->verb))
            add(&page, "\n");
        noun = c->noun;
        has_verbs = c->verb != NULL;
        add_command_entry(&page, c);
    }
    add(&page, "\nEverywhere:\n");
    add_options(&page, ch_cli_globals, false);
    add(&page, "\nExit codes: ");
    add_wrapped(&page, exit_codes, 12, 12);
    add(&page, "More about one of them: chaperone COMMAND --help\n");
    return page.err;
}

// ---- Markdown

// Pipes would end a table's cell.
static void add_cell(struct page *page, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            add(page, "\\");
        add_span(page, (struct ch_span){text, 1});
    }
}

static void add_option_row(struct page *page, const struct ch_cli_option *option)
{
    addf(page, "| `%s` | ", option_title(option).text);
    add_cell(page, option->help);
    if (option->choices)
        addf(page, ": `%s`", option->choices);
    addf(page, "%s%s |\n", option->is_required ? "; required" : "",
         option->is_repeatable ? "; repeatable" : "");
}

static void add_option_table(struct page *page, const struct ch_cli_option *options)
{
    add(page, "\n| option | what it does |\n|---|---|\n");
    for (; options->name; options++)
        add_option_row(page, options);
}

static void add_column_table(struct page *page, const struct ch_cli_column *columns)
{
    add(page, "\nColumns of its TSV, and members of its JSON: ");
    for (size_t i = 0; columns[i].member; i++)
        addf(page, "%s`%s`", i ? ", " : "", columns[i].member);
    add(page, ".\n");
}

static void add_section(struct page *page, const struct ch_cli_command *command)
{
    addf(page, "\n## chaperone %s\n\n", title_of(command).text);
    add_sentence(page, command->summary);
    if (command->about)
        addf(page, "%s\n", command->about);
    add(page, "\n```\n");
    add_usage(page, command);
    add(page, "```\n");
    for (size_t i = 0; i < CH_CLI_POSITIONALS_MAX && command->positionals[i].name; i++)
        addf(page, "\n- `%s`: %s", command->positionals[i].name, command->positionals[i].help);
    if (command->positionals[0].name)
        add(page, "\n");
    if (command->options)
        add_option_table(page, command->options);
    if (command->columns)
        add_column_table(page, command->columns);
    if (command->example) {
        add(page, "\n```sh\n");
        add_lines(page, command->example, "");
        add(page, "```\n");
    }
}

enum ch_err ch_cli_help_markdown(struct ch_buf *out)
{
    struct page page = {.out = out};
    add(&page,
        "# The command line\n\n"
        "Made by `chaperone help --markdown` from the table that also drives parsing, help and "
        "completion.\n\nData goes to standard output, talk to standard error. Answers are a "
        "table on a terminal, TSV with a header row elsewhere, and JSON with a versioned "
        "`schema` member by `-o json`. Commands speak to the daemon over its admin socket; "
        "when none answers they open the database themselves, under its lock.\n\n"
        "## First steps\n\n```sh\n");
    add_lines(&page, first_steps, "");
    addf(&page, "```\n\n## Exit codes\n\n%s.\n\n## Options of every command\n", exit_codes);
    add_option_table(&page, ch_cli_globals);
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++)
        add_section(&page, c);
    return page.err;
}
