// SPDX-License-Identifier: Apache-2.0
#include "app/cli_run.h"

#include "app/cli_help.h"
#include "app/cli_output.h"
#include "app/daemon.h"
#include "app/init.h"
#include "base/clock.h"
#include "sandbox/sandbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE_MAX ((size_t)1024 * 1024) // bytes of a document or script

static int out_of_memory(struct ch_cli *cli)
{
    return ch_cli_fail(cli, CH_ERR_NOMEM, &(struct ch_why){"out of memory"});
}

// Shows a small object of the command's own making; releases it.
static int show_own(struct ch_cli *cli, const struct ch_cli_call *call, json_t *answer)
{
    if (!answer)
        return out_of_memory(cli);
    int code = ch_cli_show(cli, call, answer);
    json_decref(answer);
    return code;
}

// ---- init

// Asks for one setting; an empty answer keeps `otherwise`.
static const char *ask(struct ch_cli *cli, const char *question, const char *otherwise, char *out,
                       size_t size)
{
    dprintf(cli->err, "%s [%s]: ", question, otherwise);
    ssize_t got = read(cli->in, out, size - 1);
    struct ch_span text = {out, got > 0 ? (size_t)got : 0};
    text.len = text.len
                   ? (size_t)((char *)memchr(out, '\n', text.len) ?: out + text.len) - (size_t)out
                   : 0;
    out[text.len] = '\0';
    return text.len ? out : otherwise;
}

static void say_next_steps(struct ch_cli *cli, const struct ch_cli_call *call, const char *dir)
{
    bool here = strcmp(dir, ".") == 0;
    char *whole = realpath(dir, NULL);
    ch_cli_say(cli, call,
               "Ready: %s/chaperone.yaml, %s/master.key, %s/chaperone.db\n"
               "Keep a copy of master.key away from the database: without it the provider keys "
               "stored there cannot be opened.\n",
               dir, dir, dir);
    ch_cli_say(cli, call, "Next:");
    if (!here)
        ch_cli_say(cli, call, "  export CHAPERONE_CONFIG=%s/chaperone.yaml", whole ? whole : dir);
    free(whole);
    ch_cli_say(cli, call,
               "  chaperone serve &\n"
               "  chaperone provider create openai --type openai\n"
               "  chaperone key create my-app --provider openai");
}

int ch_cli_run_init(struct ch_cli *cli, const struct ch_cli_call *call)
{
    char dir_text[CH_CONFIG_PATH], listen_text[CH_CONFIG_PATH];
    struct ch_why why = {""};
    const char *dir = ch_cli_value(call, "dir"), *listen = ch_cli_value(call, "listen");
    bool asks = cli->in_is_terminal && !ch_cli_has(call, "no-input");
    if (!dir)
        dir = asks ? ask(cli, "Folder", ".", dir_text, sizeof dir_text) : ".";
    if (!listen)
        listen = asks ? ask(cli, "Address applications connect to", "127.0.0.1:8080", listen_text,
                            sizeof listen_text)
                      : "127.0.0.1:8080";
    enum ch_err err = ch_init_run(&(struct ch_init_options){.dir = dir, .listen = listen}, &why);
    if (err)
        return ch_cli_fail(cli, err, &why);
    say_next_steps(cli, call, dir);
    if (call->output == CH_CLI_AUTO)
        return CH_EXIT_OK;
    return show_own(
        cli, call,
        json_pack("{s:s, s:s, s:s}", "schema", "chaperone.init/1", "dir", dir, "listen", listen));
}

// ---- serve, check, version

int ch_cli_run_serve(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_why why = {""};
    enum ch_err err = ch_cli_load_config(cli, call, &why);
    if (!err)
        err = ch_daemon_run(&cli->config, cli->config_path, cli->config_is_found, &why);
    return err ? ch_cli_fail(cli, err, &why) : CH_EXIT_OK;
}

// The report as {"schema","ok","items":[{"check":line}]}.
static json_t *report_to_json(struct ch_span report, bool ok)
{
    json_t *items = json_array();
    while (items && report.len) {
        const char *end = memchr(report.ptr, '\n', report.len);
        size_t len = end ? (size_t)(end - report.ptr) : report.len;
        json_t *line = json_stringn(report.ptr, len);
        if (json_array_append_new(items, json_pack("{s:o}", "check", line))) {
            json_decref(items);
            return NULL;
        }
        report = ch_span_sub(report, end ? len + 1 : len);
    }
    return json_pack("{s:s, s:b, s:o}", "schema", "chaperone.check/1", "ok", ok, "items", items);
}

// What others must not read: sealed provider keys, and who spent what on which model. (A master key
// that they can read is refused, here as at the start.)
static enum ch_err warn_if_open(struct ch_buf *report, const char *what, const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0 || !(info.st_mode & (S_IRWXG | S_IRWXO)))
        return CH_OK;
    return ch_buf_append_format(report,
                                "warn  %-10s %s is open to other users (mode %04o); run: chmod "
                                "600 %s\n",
                                what, path, (unsigned)info.st_mode & 07777, path);
}

static enum ch_err check_all(struct ch_cli *cli, struct ch_buf *report, struct ch_why *why)
{
    enum ch_err err = ch_daemon_check(&cli->config, report, why);
    bool failed = warn_if_open(report, "store", cli->config.database) ||
                  warn_if_open(report, "journal", cli->config.journal);
    return !err && failed ? ch_why_set(why, CH_ERR_NOMEM, "out of memory") : err;
}

int ch_cli_run_check(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_why why = {""};
    struct ch_buf report;
    ch_buf_init(&report, PAGE_MAX);
    enum ch_err err = ch_cli_load_config(cli, call, &why);
    if (!err)
        err = check_all(cli, &report, &why);
    int code = CH_EXIT_OK;
    if (call->output == CH_CLI_JSON)
        code = show_own(cli, call, report_to_json(ch_buf_span(&report), err == CH_OK));
    else
        code = ch_cli_write(cli, ch_buf_span(&report));
    ch_buf_fini(&report);
    return err ? ch_cli_fail(cli, err, &why) : code;
}

int ch_cli_run_version(struct ch_cli *cli, const struct ch_cli_call *call)
{
    if (call->output == CH_CLI_JSON)
        return show_own(
            cli, call,
            json_pack("{s:s, s:s}", "schema", "chaperone.version/1", "version", CH_VERSION));
    const struct ch_span line = CH_SPAN("chaperone " CH_VERSION "\n");
    return ch_cli_write(cli, line);
}

// ---- key create, key rotate, key explain, key verify, provider test

static bool is_rotation(const struct ch_cli_call *call)
{
    return strcmp(call->command->verb, "rotate") == 0;
}

static void say_created(struct ch_cli *cli, const struct ch_cli_call *call, const json_t *key)
{
    const char *name = json_string_value(json_object_get(key, "name"));
    const char *models = json_string_value(json_object_get(key, "models"));
    const char *expires = json_string_value(json_object_get(key, "expires_at"));
    ch_cli_say(cli, call,
               "Key %s: models %s, expires %s. It is shown this once and cannot be read back.",
               name, models && *models ? models : "all", expires ? expires : "never");
    const char *grace = json_string_value(json_object_get(key, "previous_secret_until"));
    if (grace)
        ch_cli_say(cli, call, "The old secret works until %s.", grace);
    else if (is_rotation(call))
        ch_cli_say(cli, call, "The old secret is refused from now on.");
    ch_cli_say(cli, call, "What an application needs beside it: chaperone env %s --for openai",
               name);
}

// Without a format asked for, stdout carries the key and nothing else, so that $(…) and > work.
static int print_key(struct ch_cli *cli, const struct ch_cli_call *call, const json_t *answer)
{
    struct ch_buf line;
    if (call->output != CH_CLI_AUTO && !call->is_quiet)
        return ch_cli_show(cli, call, answer);
    ch_buf_init(&line, 256);
    enum ch_err err =
        ch_buf_append_format(&line, "%s\n", json_string_value(json_object_get(answer, "key")));
    int code = err ? out_of_memory(cli) : ch_cli_write(cli, ch_buf_span(&line));
    ch_buf_fini(&line);
    return code;
}

int ch_cli_run_key_create(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_why why = {""};
    json_t *arguments = NULL, *answer = NULL;
    enum ch_err err = ch_cli_gather(cli, call, &arguments, &why);
    if (!err)
        err = ch_cli_ask(cli, call, call->command->operation, arguments, &answer, &why);
    json_decref(arguments);
    if (err)
        return ch_cli_fail(cli, err, &why);
    say_created(cli, call, answer);
    int code = print_key(cli, call, answer);
    json_decref(answer);
    return code;
}

// An amount without the zeros that cents do not need.
struct amount {
    char text[32];
};

static struct amount amount_of(const json_t *answer, const char *member)
{
    struct amount amount;
    const char *text = json_string_value(json_object_get(answer, member));
    ch_span_copy(ch_span_of(text ? text : ""), amount.text, sizeof amount.text);
    const char *point = strchr(amount.text, '.');
    size_t len = strlen(amount.text);
    size_t least = point ? (size_t)(point - amount.text) + 3 : len;
    while (len > least && amount.text[len - 1] == '0')
        amount.text[--len] = '\0';
    return amount;
}

// The sentence of the step that decided against it.
static const char *reason_of(const json_t *answer)
{
    size_t index;
    json_t *step;
    json_array_foreach(json_object_get(answer, "items"), index, step)
    {
        const char *verdict = json_string_value(json_object_get(step, "verdict"));
        if (verdict && strcmp(verdict, "refuses") == 0)
            return json_string_value(json_object_get(step, "because"));
    }
    return NULL;
}

static void say_explanation(struct ch_cli *cli, const struct ch_cli_call *call,
                            const json_t *answer)
{
    const char *model = json_string_value(json_object_get(answer, "model_sent"));
    const char *provider = json_string_value(json_object_get(answer, "provider"));
    const char *rule = json_string_value(json_object_get(answer, "rule"));
    const char *reason = reason_of(answer);
    if (json_is_true(json_object_get(answer, "allowed")))
        ch_cli_say(cli, call, "Allowed: %s is sent to %s.", model ? model : "", provider);
    else
        ch_cli_say(cli, call, "Refused by rule \"%s\": %s", rule ? rule : "", reason ? reason : "");
    if (json_is_true(json_object_get(answer, "priced")))
        ch_cli_say(cli, call, "It would cost about %s USD, at most %s USD.",
                   amount_of(answer, "likely_cost_usd").text,
                   amount_of(answer, "worst_cost_usd").text);
    else
        ch_cli_say(cli, call, "What it would cost is not known.");
}

// A refusal is the answer; it shows in the exit code.
int ch_cli_run_key_explain(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_why why = {""};
    json_t *arguments = NULL, *answer = NULL;
    enum ch_err err = ch_cli_gather(cli, call, &arguments, &why);
    if (!err)
        err = ch_cli_ask(cli, call, call->command->operation, arguments, &answer, &why);
    json_decref(arguments);
    if (err)
        return ch_cli_fail(cli, err, &why);
    int code = ch_cli_show(cli, call, answer);
    say_explanation(cli, call, answer);
    bool is_allowed = json_is_true(json_object_get(answer, "allowed"));
    json_decref(answer);
    return code == CH_EXIT_OK && !is_allowed ? CH_EXIT_NOT_ALLOWED : code;
}

// A verdict is the answer; a bad one shows in the exit code.
int ch_cli_run_verdict(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_why why = {""};
    json_t *arguments = NULL, *answer = NULL;
    enum ch_err err = ch_cli_gather(cli, call, &arguments, &why);
    if (!err)
        err = ch_cli_ask(cli, call, call->command->operation, arguments, &answer, &why);
    json_decref(arguments);
    if (err)
        return ch_cli_fail(cli, err, &why);
    bool good = json_is_true(json_object_get(answer, "ok")) ||
                json_is_true(json_object_get(answer, "valid"));
    int code = ch_cli_show(cli, call, answer);
    json_decref(answer);
    return code == CH_EXIT_OK && !good ? CH_EXIT_FINDINGS : code;
}

// ---- usage tail

#define TAIL_PAUSE_MS 500
#define TAIL_BATCH    1000 // exchanges of one look

struct tail {
    json_t *arguments;
    bool has_header;
    size_t widths[CH_CLI_COLUMNS_MAX];
};

static json_t *reversed(json_t *answer)
{
    json_t *items = json_object_get(answer, "items");
    json_t *turned = json_array();
    for (size_t i = json_array_size(items); turned && i > 0; i--)
        json_array_append(turned, json_array_get(items, i - 1));
    return turned;
}

static int print_items(struct ch_cli *cli, const struct ch_cli_call *call, struct tail *tail,
                       json_t *items)
{
    struct ch_buf text;
    enum ch_err err = CH_OK;
    const struct ch_cli_view view = {
        .columns = call->command->columns,
        .output = call->output != CH_CLI_AUTO ? call->output
                  : cli->out_is_terminal      ? CH_CLI_TABLE
                                              : CH_CLI_TSV,
        .ids_only = call->is_quiet,
        .no_header = tail->has_header,
        .widths = tail->widths,
    };
    ch_buf_init(&text, (size_t)64 * 1024 * 1024);
    json_t *answer = json_pack("{s:O}", "items", items);
    if (view.output == CH_CLI_JSON)
        for (size_t i = 0; i < json_array_size(items) && !err; i++)
            err = ch_cli_render_line(&text, json_array_get(items, i));
    else if (answer && (json_array_size(items) || view.output == CH_CLI_TSV)) {
        err = ch_cli_render(&text, answer, &view);
        tail->has_header = true;
    }
    json_decref(answer);
    int code = err ? out_of_memory(cli) : ch_cli_write(cli, ch_buf_span(&text));
    ch_buf_fini(&text);
    return code;
}

// Remembers where to go on: behind the last exchange shown. While there was none, everything is
// new.
static int advance(struct ch_cli *cli, struct tail *tail, const json_t *items)
{
    size_t count = json_array_size(items);
    json_t *last = count ? json_object_get(json_array_get(items, count - 1), "id") : NULL;
    if ((last && json_object_set(tail->arguments, "after", last)) ||
        json_object_set_new(tail->arguments, "limit", json_integer(TAIL_BATCH)))
        return out_of_memory(cli);
    return CH_EXIT_OK;
}

// One look: the newest ones first (newest first, so turned), then whatever came after the last.
static int look(struct ch_cli *cli, const struct ch_cli_call *call, struct tail *tail)
{
    struct ch_why why = {""};
    json_t *answer = NULL;
    bool follows = json_object_get(tail->arguments, "after") != NULL;
    enum ch_err err =
        ch_cli_ask(cli, call, call->command->operation, tail->arguments, &answer, &why);
    if (err)
        return ch_cli_fail(cli, err, &why);
    json_t *items = follows ? json_incref(json_object_get(answer, "items")) : reversed(answer);
    int code = print_items(cli, call, tail, items);
    if (code == CH_EXIT_OK)
        code = advance(cli, tail, items);
    json_decref(items);
    json_decref(answer);
    return code;
}

// The daemon alone is asked: in direct mode nothing could happen, and the lock would keep a daemon
// out.
int ch_cli_run_usage_tail(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_cli_call daemon_call = *call;
    struct ch_why why = {""};
    struct tail tail = {0};
    const struct timespec pause = {.tv_nsec = TAIL_PAUSE_MS * CH_NS_PER_MS};
    int64_t lines = ch_cli_value_int(call, "lines", 10);
    daemon_call.is_daemon_only = true;
    enum ch_err err = ch_cli_arguments(call, &tail.arguments, &why);
    if (!err && json_object_set_new(tail.arguments, "limit", json_integer(lines ? lines : 1)))
        err = ch_why_set(&why, CH_ERR_NOMEM, "out of memory");
    int code = err ? ch_cli_fail(cli, err, &why) : CH_EXIT_OK;
    while (code == CH_EXIT_OK) {
        code = look(cli, &daemon_call, &tail);
        if (code == CH_EXIT_OK)
            nanosleep(&pause, NULL);
    }
    json_decref(tail.arguments);
    return code;
}

// ---- completion, help, sandbox

static int print_buffer(struct ch_cli *cli, enum ch_err err, struct ch_buf *text)
{
    int code = err ? out_of_memory(cli) : ch_cli_write(cli, ch_buf_span(text));
    ch_buf_fini(text);
    return code;
}

int ch_cli_run_completion(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_buf text;
    ch_buf_init(&text, PAGE_MAX);
    return print_buffer(cli, ch_cli_completion(&text, call->positionals[0]), &text);
}

// `help key create` is `key create --help`.
int ch_cli_run_help(struct ch_cli *cli, const struct ch_cli_call *call)
{
    char program[] = "chaperone", help[] = "--help";
    char *words[5] = {program};
    int count = 1;
    struct ch_buf text;
    ch_buf_init(&text, PAGE_MAX);
    if (ch_cli_has(call, "markdown"))
        return print_buffer(cli, ch_cli_help_markdown(&text), &text);
    for (size_t i = 0; i < CH_CLI_POSITIONALS_MAX && call->positionals[i]; i++)
        words[count++] = (char *)(uintptr_t)call->positionals[i]; // ch_cli_main changes no word
    words[count++] = help;
    return ch_cli_main(count, words);
}

int ch_cli_run_sandbox(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_why why = {""};
    const char *listen = ch_cli_value(call, "listen");
    const struct ch_sandbox_options options = {
        .listen = listen ? listen : "127.0.0.1:8090",
        .threads = (unsigned)ch_cli_value_int(call, "threads", 0),
        .api_key = ch_cli_value(call, "api-key"),
        .record_path = ch_cli_value(call, "record"),
    };
    enum ch_err err = ch_sandbox_run(&options, &why);
    return err ? ch_cli_fail(cli, err, &why) : CH_EXIT_OK;
}
