// SPDX-License-Identifier: Apache-2.0
// `chaperone price list`, and `price import`: reads the list, shows what changes, and puts it in
// force or writes it to a file.
#include "app/cli_run.h"

#include "admin/admin.h"
#include "app/prices.h"
#include "domain/catalogue.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define FILE_MAX                                                                                   \
    (6 * 1024 * 1024) // bytes of a price list; the admin socket takes 8 MiB with escapes
#define READ_STEP ((size_t)256 * 1024)

static enum ch_err read_all(int fd, const char *path, struct ch_buf *out, struct ch_why *why)
{
    for (;;) {
        if (ch_buf_reserve(out, READ_STEP))
            return ch_why_set(why, CH_ERR_INVALID, "%s is larger than %d MiB", path,
                              FILE_MAX / 1024 / 1024);
        ssize_t got = read(fd, out->ptr + out->len, READ_STEP);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return ch_why_set(why, CH_ERR_IO, "%s: %s", path, strerror(errno));
        if (got == 0)
            return CH_OK;
        out->len += (size_t)got;
    }
}

static enum ch_err read_list(const struct ch_cli *cli, const char *path, struct ch_buf *out,
                             struct ch_why *why)
{
    if (strcmp(path, "-") == 0)
        return read_all(cli->in, "standard input", out, why);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ch_why_set(why, errno == ENOENT ? CH_ERR_NOT_FOUND : CH_ERR_IO, "%s: %s", path,
                          strerror(errno));
    enum ch_err err = read_all(fd, path, out, why);
    close(fd);
    return err;
}

static enum ch_err write_out(const char *path, struct ch_span text, struct ch_why *why)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    enum ch_err err = CH_OK;
    while (fd >= 0 && text.len && !err) {
        ssize_t put = write(fd, text.ptr, text.len);
        if (put < 0 && errno != EINTR)
            err = CH_ERR_IO;
        else if (put > 0)
            text = ch_span_sub(text, (size_t)put);
    }
    if (fd < 0 || err)
        err = ch_why_set(why, CH_ERR_IO, "--out %s: %s", path, strerror(errno));
    if (fd >= 0 && close(fd) != 0 && !err)
        err = ch_why_set(why, CH_ERR_IO, "--out %s: %s", path, strerror(errno));
    return err;
}

// With --out the same handler runs here, against the built-in catalogue: no daemon, no store.
static enum ch_err convert(const json_t *arguments, json_t **answer_out, struct ch_why *why)
{
    struct ch_catalogue *built_in;
    enum ch_err err = ch_catalogue_load(ch_prices_embedded(), &built_in, why);
    if (err)
        return err;
    struct ch_admin admin = {.base_catalogue = built_in};
    err = ch_admin_call(&admin, "price.import", arguments, answer_out, why);
    ch_catalogue_free(built_in);
    return err;
}

static enum ch_err make_arguments(struct ch_cli *cli, const struct ch_cli_call *call, bool is_dry,
                                  json_t **arguments_out, struct ch_why *why)
{
    struct ch_buf list;
    json_t *arguments = NULL;
    ch_buf_init(&list, FILE_MAX + READ_STEP);
    enum ch_err err = read_list(cli, call->positionals[0], &list, why);
    if (!err)
        err = ch_cli_arguments(call, &arguments, why);
    json_t *text = err ? NULL : json_stringn(list.ptr ? list.ptr : "", list.len);
    if (!err && !text)
        err = ch_why_set(why, CH_ERR_INVALID, "%s is not UTF-8 text", call->positionals[0]);
    if (!err && (json_object_set_new(arguments, "document", text) ||
                 json_object_set_new(arguments, "dry_run", json_boolean(is_dry))))
        err = ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    ch_buf_fini(&list);
    if (!err)
        *arguments_out = arguments;
    else
        json_decref(arguments);
    return err;
}

static long long count_of(const json_t *answer, const char *member)
{
    return json_integer_value(json_object_get(answer, member));
}

static void say_summary(struct ch_cli *cli, const struct ch_cli_call *call, const json_t *answer,
                        const char *out, bool is_dry)
{
    size_t index;
    json_t *line;
    json_array_foreach(json_object_get(answer, "notes"), index, line)
    {
        ch_cli_say(cli, call, "note: %s", json_string_value(line));
    }
    ch_cli_say(cli, call, "Catalogue %s: %lld models; %lld added, %lld removed, %lld changed.",
               json_string_value(json_object_get(answer, "version")), count_of(answer, "models"),
               count_of(answer, "added"), count_of(answer, "removed"), count_of(answer, "changed"));
    if (count_of(answer, "added") + count_of(answer, "removed") + count_of(answer, "changed") >
        (long long)json_array_size(json_object_get(answer, "items")))
        ch_cli_say(cli, call, "Not all changes are shown.");
    const char *suspicion = json_string_value(json_object_get(answer, "suspicion"));
    if (suspicion && *suspicion)
        ch_cli_say(cli, call, "Suspicious: %s.%s", suspicion,
                   is_dry && !out ? " It is refused without --force." : "");
    if (out)
        ch_cli_say(cli, call, "Written to %s.", strcmp(out, "-") == 0 ? "standard output" : out);
    else
        ch_cli_say(cli, call, is_dry ? "Nothing was changed (--dry-run)." : "It is in force.");
}

static int finish(struct ch_cli *cli, const struct ch_cli_call *call, json_t *answer,
                  const char *out, bool is_dry)
{
    struct ch_why why = {""};
    int code = CH_EXIT_OK;
    enum ch_err err = CH_OK;
    json_t *document = json_object_get(answer, "document");
    struct ch_span text = {json_string_value(document), json_string_length(document)};
    if (out && strcmp(out, "-") == 0)
        code = ch_cli_write(cli, text);
    else if (out)
        err = write_out(out, text, &why);
    if (err)
        return ch_cli_fail(cli, err, &why);
    json_object_del(answer, "document");
    say_summary(cli, call, answer, out, is_dry);
    if (code == CH_EXIT_OK && (!out || strcmp(out, "-") != 0))
        code = ch_cli_show(cli, call, answer);
    return code;
}

// ---- list

static const struct ch_cli_column contract_columns[] = {
    {.member = "id", .title = "Id", .is_detail = true},
    {.member = "provider", .title = "Provider"},
    {.member = "model", .title = "Model", .is_id = true},
    {.member = "from", .title = "From", .format = CH_CLI_AS_TIME},
    {.member = "input_cost_per_token", .title = "Input /1M", .format = CH_CLI_AS_PRICE},
    {.member = "cache_read_input_token_cost", .title = "Cached /1M", .format = CH_CLI_AS_PRICE},
    {.member = "cache_creation_input_token_cost",
     .title = "Cache write /1M",
     .format = CH_CLI_AS_PRICE},
    {.member = "output_cost_per_token", .title = "Output /1M", .format = CH_CLI_AS_PRICE},
    {0},
};

// Contract prices have columns of their own.
int ch_cli_run_price_list(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_cli_call asked = *call;
    struct ch_cli_command command = *call->command;
    if (ch_cli_has(call, "overrides")) {
        command.columns = contract_columns;
        command.empty =
            "There is no contract price. Set one: chaperone price set MODEL --input USD "
            "--output USD";
        asked.command = &command;
    }
    return ch_cli_run_operation(cli, &asked);
}

// ---- the whole import

int ch_cli_run_price_import(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_why why = {""};
    json_t *arguments = NULL, *answer = NULL;
    const char *out = ch_cli_value(call, "out");
    bool is_dry = out || ch_cli_has(call, "dry-run");
    enum ch_err err = make_arguments(cli, call, is_dry, &arguments, &why);
    if (!err)
        err = out ? convert(arguments, &answer, &why)
                  : ch_cli_ask(cli, call, call->command->operation, arguments, &answer, &why);
    json_decref(arguments);
    if (err)
        return ch_cli_fail(cli, err, &why);
    int code = finish(cli, call, answer, out, is_dry);
    json_decref(answer);
    return code;
}
