// SPDX-License-Identifier: Apache-2.0
#include "app/cli_run.h"

#include "admin/admin.h"
#include "app/cli_help.h"
#include "app/cli_output.h"
#include "app/cli_secret.h"
#include "app/config_file.h"
#include "app/prices.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "domain/admin_token.h"
#include "domain/catalogue.h"
#include "store/store.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PAGE_MAX      ((size_t)256 * 1024)        // bytes of a help page
#define OUTPUT_MAX    ((size_t)512 * 1024 * 1024) // bytes of a rendered answer

#define START_WAIT_MS 5000 // for a daemon that holds the store and does not answer yet
#define START_STEP_MS 100

struct ch_cli_direct {
    struct ch_store *store;
    struct ch_catalogue *catalogue;
    struct ch_admin admin;
};

int ch_cli_exit_code(enum ch_err err)
{
    switch (err) {
    case CH_OK:
        return CH_EXIT_OK;
    case CH_ERR_INVALID:
        return CH_EXIT_USAGE;
    case CH_ERR_NOT_FOUND:
        return CH_EXIT_NOT_FOUND;
    case CH_ERR_DENIED:
        return CH_EXIT_NOT_ALLOWED;
    case CH_ERR_CONFLICT:
        return CH_EXIT_CONFLICT;
    case CH_ERR_UNAVAILABLE:
        return CH_EXIT_UNREACHABLE;
    case CH_ERR_NOMEM:
    case CH_ERR_IO:
    case CH_ERR_LIMIT:
    case CH_ERR_CORRUPT:
    case CH_ERR_TIMEOUT:
    case CH_ERR_AGAIN:
        return CH_EXIT_FAILED;
    }
    return CH_EXIT_FAILED;
}

// ---- talking

void ch_cli_say(const struct ch_cli *cli, const struct ch_cli_call *call, const char *format, ...)
{
    if (call->is_quiet)
        return;
    va_list args;
    va_start(args, format);
    vdprintf(cli->err, format, args);
    va_end(args);
    dprintf(cli->err, "\n");
}

int ch_cli_fail(const struct ch_cli *cli, enum ch_err err, const struct ch_why *why)
{
    dprintf(cli->err, "chaperone: %s\n", why->text[0] ? why->text : ch_err_name(err));
    return ch_cli_exit_code(err);
}

// A reader that has seen enough (`| head`) is no failure to report.
int ch_cli_write(const struct ch_cli *cli, struct ch_span bytes)
{
    while (bytes.len) {
        ssize_t put = write(cli->out, bytes.ptr, bytes.len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            if (errno != EPIPE)
                dprintf(cli->err, "chaperone: standard output: %s\n", strerror(errno));
            return CH_EXIT_FAILED;
        }
        bytes = ch_span_sub(bytes, (size_t)put);
    }
    return CH_EXIT_OK;
}

// ---- configuration and direct mode

enum ch_err ch_cli_load_config(struct ch_cli *cli, const struct ch_cli_call *call,
                               struct ch_why *why)
{
    if (cli->has_config)
        return CH_OK;
    bool is_named;
    enum ch_err err = ch_config_file_find(call->config, cli->config_path, &is_named, why);
    if (!err)
        err = is_named ? ch_config_file_load(cli->config_path, &cli->config, why)
                       : ch_config_file_load_found(cli->config_path, &cli->config, why);
    cli->has_config = err == CH_OK;
    cli->config_is_found = !err && !is_named;
    return err;
}

static void close_direct(struct ch_cli_direct *direct)
{
    if (!direct)
        return;
    ch_catalogue_free(direct->catalogue);
    ch_store_close(direct->store);
    ch_zfree(direct);
}

static void copy_config(void *arg, struct ch_config *config_out)
{
    const struct ch_cli *cli = arg;
    *config_out = cli->config;
}

static void forget_master_key(struct ch_cli *cli)
{
    ch_secret_free(cli->master_key);
    cli->master_key = NULL;
}

// CH_ERR_CONFLICT: somebody else holds the store.
static enum ch_err open_direct(struct ch_cli *cli, struct ch_why *why)
{
    struct ch_cli_direct *direct = ch_zcalloc(1, sizeof *direct);
    if (!direct)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    enum ch_err err =
        cli->master_key ? CH_OK : ch_config_master_key(&cli->config, &cli->master_key, why);
    if (!err)
        err = ch_store_open(cli->config.database, cli->master_key, false, &direct->store, why);
    if (err != CH_ERR_CONFLICT)
        forget_master_key(cli);
    if (!err)
        err = ch_prices_load(&cli->config, direct->store, &direct->catalogue, why);
    if (err) {
        close_direct(direct);
        return err;
    }
    direct->admin = (struct ch_admin){.store = direct->store,
                                      .base_catalogue = direct->catalogue,
                                      .config = copy_config,
                                      .config_arg = cli};
    cli->direct = direct;
    return CH_OK;
}

void ch_cli_fini(struct ch_cli *cli)
{
    forget_master_key(cli);
    ch_secret_free(cli->admin_token);
    cli->admin_token = NULL;
    close_direct(cli->direct);
    cli->direct = NULL;
}

// ---- the daemon of another machine

static enum ch_err read_token(struct ch_cli *cli, const struct ch_cli_call *call,
                              struct ch_why *why)
{
    struct ch_buf token;
    const struct ch_cli_secret_source source = {
        .file = call->admin_token_file,
        .file_option = "--admin-token-file",
        .environment = call->admin_token_file ? NULL : "CHAPERONE_ADMIN_TOKEN",
        .err = cli->err,
    };
    struct ch_span name;
    if (!source.file && !getenv(source.environment))
        return ch_why_set(why, CH_ERR_INVALID,
                          "--admin needs a token: --admin-token-file or CHAPERONE_ADMIN_TOKEN");
    ch_buf_init(&token, CH_CLI_SECRET_MAX);
    enum ch_err err = ch_cli_secret_read(&source, &token, why);
    if (!err && ch_admin_token_parse(ch_buf_span(&token), &name))
        err = ch_why_set(why, CH_ERR_INVALID, "that is no admin token, or it was cut off");
    if (!err && ch_secret_new(token.ptr, token.len, &cli->admin_token))
        err = ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    ch_buf_fini(&token);
    return err;
}

// It has its own database: the one of this machine is never opened instead.
static enum ch_err ask_remote(struct ch_cli *cli, const struct ch_cli_call *call, const char *url,
                              const char *operation, const json_t *arguments, json_t **result_out,
                              struct ch_why *why)
{
    enum ch_err err = cli->admin_token ? CH_OK : read_token(cli, call, why);
    const struct ch_admin_remote remote = {
        .url = url, .ca = call->admin_ca ? call->admin_ca : "", .token = cli->admin_token};
    return err ? err : ch_admin_remote_call(&remote, operation, arguments, result_out, why);
}

// With neither daemon nor store the caller learns about both.
static enum ch_err explain_both(const struct ch_why *daemon, const struct ch_why *store,
                                struct ch_why *why)
{
    return ch_why_set(why, CH_ERR_UNAVAILABLE, "%.200s, and without it: %.280s", daemon->text,
                      store->text);
}

enum ch_err ch_cli_ask(struct ch_cli *cli, const struct ch_cli_call *call, const char *operation,
                       const json_t *arguments, json_t **result_out, struct ch_why *why)
{
    struct ch_why store_why = {""}, daemon_why = {""};
    const char *remote = call->admin ? call->admin : getenv("CHAPERONE_ADMIN");
    if (remote && *remote)
        return ask_remote(cli, call, remote, operation, arguments, result_out, why);
    enum ch_err err = ch_cli_load_config(cli, call, why);
    if (err)
        return err;
    int64_t deadline_ns = ch_clock_mono_ns() + START_WAIT_MS * CH_NS_PER_MS;
    while (!cli->direct) {
        err = ch_admin_client_call(cli->config.admin_socket, cli->config.database, operation,
                                   arguments, result_out, &daemon_why);
        if (err != CH_ERR_UNAVAILABLE || call->is_daemon_only || strcmp(operation, "status") == 0 ||
            strcmp(operation, "reload") == 0) {
            *why = daemon_why;
            return err;
        }
        err = open_direct(cli, &store_why);
        if (err && (err != CH_ERR_CONFLICT || ch_clock_mono_ns() >= deadline_ns))
            return explain_both(&daemon_why, &store_why, why);
        if (err)
            usleep(START_STEP_MS * 1000);
    }
    return ch_admin_call(&cli->direct->admin, operation, arguments, result_out, why);
}

// ---- the default handler

static enum ch_err add_secret(struct ch_cli *cli, const struct ch_cli_call *call, json_t *arguments,
                              struct ch_why *why)
{
    struct ch_buf secret;
    const struct ch_cli_secret_source source = {
        .from_stdin = ch_cli_has(call, "secret-stdin"),
        .file = ch_cli_value(call, "secret-file") ? ch_cli_value(call, "secret-file")
                                                  : ch_cli_value(call, "new-key-file"),
        .environment = ch_cli_value(call, "secret-env"),
        .prompt = call->command->secret_prompt,
        .in = cli->in,
        .err = cli->err,
    };
    ch_buf_init(&secret, CH_CLI_SECRET_MAX);
    enum ch_err err = ch_cli_secret_read(&source, &secret, why);
    json_t *text = err ? NULL : json_stringn(secret.ptr, secret.len);
    if (!err && !text)
        err = ch_why_set(why, CH_ERR_INVALID, "the secret is not UTF-8 text");
    if (!err && json_object_set_new(arguments, call->command->secret_member, text))
        err = ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    ch_buf_fini(&secret);
    return err;
}

enum ch_err ch_cli_gather(struct ch_cli *cli, const struct ch_cli_call *call,
                          json_t **arguments_out, struct ch_why *why)
{
    json_t *arguments = NULL;
    enum ch_err err = ch_cli_arguments(call, &arguments, why);
    if (!err && call->command->secret_member)
        err = add_secret(cli, call, arguments, why);
    if (!err)
        *arguments_out = arguments;
    else
        json_decref(arguments);
    return err;
}

static enum ch_cli_output output_of(const struct ch_cli *cli, const struct ch_cli_call *call)
{
    if (call->output != CH_CLI_AUTO)
        return call->output;
    return cli->out_is_terminal ? CH_CLI_TABLE : CH_CLI_TSV;
}

int ch_cli_show(struct ch_cli *cli, const struct ch_cli_call *call, const json_t *answer)
{
    struct ch_buf text;
    const struct ch_cli_command *command = call->command;
    const json_t *items = json_object_get(answer, "items");
    const struct ch_cli_view view = {
        .columns = command->columns,
        .output = output_of(cli, call),
        .ids_only = call->is_quiet,
    };
    ch_buf_init(&text, OUTPUT_MAX);
    enum ch_err err = ch_cli_render(&text, answer, &view);
    struct ch_why why = {"the answer is too large to show; narrow it"};
    int code = err ? ch_cli_fail(cli, CH_ERR_LIMIT, &why) : ch_cli_write(cli, ch_buf_span(&text));
    ch_buf_fini(&text);
    if (items && json_array_size(items) == 0 && command->empty && view.output != CH_CLI_JSON)
        ch_cli_say(cli, call, "%s", command->empty);
    if (json_is_true(json_object_get(answer, "truncated")))
        ch_cli_say(cli, call, "There are more; narrow the list or raise --limit.");
    return code;
}

// Talk from the table: "%s" stands for the name the command was given.
static void say_about(const struct ch_cli *cli, const char *text, const char *name)
{
    const char *hole = strstr(text, "%s");
    if (hole)
        dprintf(cli->err, "%.*s%s%s", (int)(hole - text), text, name, hole + 2);
    else
        dprintf(cli->err, "%s", text);
}

// Only a person at a terminal is asked; a script has decided already.
static bool is_confirmed(struct ch_cli *cli, const struct ch_cli_call *call)
{
    char answer[8] = "";
    if (!call->command->confirm || ch_cli_has(call, "yes") || !cli->in_is_terminal)
        return true;
    say_about(cli, call->command->confirm, call->positionals[0]);
    dprintf(cli->err, " [y/N] ");
    ssize_t got = read(cli->in, answer, sizeof answer - 1);
    return got > 0 && (answer[0] == 'y' || answer[0] == 'Y');
}

int ch_cli_run_operation(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_why why = {""};
    json_t *arguments = NULL, *answer = NULL;
    if (!is_confirmed(cli, call)) {
        ch_cli_say(cli, call, "Nothing was changed.");
        return CH_EXIT_FAILED;
    }
    enum ch_err err = ch_cli_gather(cli, call, &arguments, &why);
    if (!err)
        err = ch_cli_ask(cli, call, call->command->operation, arguments, &answer, &why);
    json_decref(arguments);
    if (err)
        return ch_cli_fail(cli, err, &why);
    int code = ch_cli_show(cli, call, answer);
    const char *warning = json_string_value(json_object_get(answer, "warning"));
    if (warning)
        ch_cli_say(cli, call, "Warning: %s", warning);
    if (code == CH_EXIT_OK && call->command->done && cli->err_is_terminal && !call->is_quiet) {
        say_about(cli, call->command->done, call->positionals[0]);
        dprintf(cli->err, "\n");
    }
    json_decref(answer);
    return code;
}

// ---- the whole command line

static int print_page(struct ch_cli *cli, enum ch_err (*make)(struct ch_buf *, const void *),
                      const void *arg)
{
    struct ch_buf page;
    ch_buf_init(&page, PAGE_MAX);
    int code = make(&page, arg) ? CH_EXIT_FAILED : ch_cli_write(cli, ch_buf_span(&page));
    ch_buf_fini(&page);
    return code;
}

static enum ch_err make_overview(struct ch_buf *page, const void *arg)
{
    (void)arg;
    return ch_cli_help_overview(page);
}

static enum ch_err make_noun(struct ch_buf *page, const void *arg)
{
    return ch_cli_help_noun(page, arg);
}

static enum ch_err make_command(struct ch_buf *page, const void *arg)
{
    return ch_cli_help_command(page, arg);
}

// Help that was asked for is data and goes to stdout; help instead of a result goes to stderr.
static int explain_noun(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_cli talk = *cli;
    talk.out = cli->err;
    if (call->wants_help)
        return print_page(cli, make_noun, call->noun);
    print_page(&talk, make_noun, call->noun);
    return CH_EXIT_USAGE;
}

static int reject(struct ch_cli *cli, const struct ch_cli_call *call, const struct ch_why *why)
{
    const struct ch_cli_command *command = call->command;
    dprintf(cli->err, "chaperone: %s\n", why->text);
    if (command)
        dprintf(cli->err, "Help: chaperone %s%s%s --help\n", command->noun,
                command->verb ? " " : "", command->verb ? command->verb : "");
    else
        dprintf(cli->err, "Help: chaperone %s%s--help\n", call->noun ? call->noun : "",
                call->noun ? " " : "");
    return CH_EXIT_USAGE;
}

static int dispatch(struct ch_cli *cli, const struct ch_cli_call *call)
{
    if (!call->noun)
        return print_page(cli, make_overview, NULL);
    if (!call->command)
        return explain_noun(cli, call);
    if (call->wants_help)
        return print_page(cli, make_command, call->command);
    return call->command->run ? call->command->run(cli, call) : ch_cli_run_operation(cli, call);
}

int ch_cli_main(int argc, char **argv)
{
    struct ch_cli_call call;
    struct ch_why why = {""};
    ch_log_set_level(CH_LOG_WARN); // a command talks by itself; the daemon sets its own level
    struct ch_cli cli = {
        .in = STDIN_FILENO,
        .out = STDOUT_FILENO,
        .err = STDERR_FILENO,
        .in_is_terminal = isatty(STDIN_FILENO),
        .out_is_terminal = isatty(STDOUT_FILENO),
        .err_is_terminal = isatty(STDERR_FILENO),
    };
    if (ch_cli_parse(argc, argv, &call, &why) && !call.wants_help)
        return reject(&cli, &call, &why);
    int code = dispatch(&cli, &call);
    ch_cli_fini(&cli);
    return code;
}
