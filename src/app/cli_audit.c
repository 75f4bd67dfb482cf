// SPDX-License-Identifier: Apache-2.0
// `chaperone audit verify` and `chaperone audit export`.
#include "app/cli_run.h"

#include "app/cli_output.h"
#include "store/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADS_MAX                                                                                  \
    ((size_t)4 * 1024 * 1024) // bytes of a file of heads, its end; the socket takes 8 MiB
#define HASH_TEXT    ((size_t)2 * CH_AUDIT_HASH)
#define READ_STEP    ((size_t)64 * 1024)
#define EXPORT_BATCH 500 // rows of one call
#define EXPORT_MAX   ((size_t)64 * 1024 * 1024)

// ---- verify

static bool is_hash(const char *text)
{
    return strlen(text) == HASH_TEXT && strspn(text, "0123456789abcdefABCDEF") == HASH_TEXT;
}

static enum ch_err read_to_end(int fd, struct ch_buf *out)
{
    for (;;) {
        enum ch_err err = ch_buf_reserve(out, READ_STEP);
        ssize_t got = err ? 0 : read(fd, out->ptr + out->len, READ_STEP);
        if (got < 0 && errno == EINTR)
            continue;
        if (err || got <= 0)
            return err ? err : got < 0 ? CH_ERR_IO : CH_OK;
        out->len += (size_t)got;
    }
}

// Of a long file the end will do, from its first whole line: a head vouches for all before it.
static enum ch_err read_heads(const char *path, struct ch_buf *out, struct ch_why *why)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        enum ch_err err = errno == ENOENT ? CH_ERR_NOT_FOUND : CH_ERR_IO;
        ch_why_set(why, err, "--head %s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return err;
    }
    bool is_cut =
        info.st_size > (off_t)HEADS_MAX && lseek(fd, info.st_size - (off_t)HEADS_MAX, SEEK_SET) > 0;
    enum ch_err err = read_to_end(fd, out);
    if (err)
        ch_why_set(why, err, "--head %s: %s", path,
                   err == CH_ERR_LIMIT ? "is too long" : strerror(errno));
    close(fd);
    const char *first = is_cut && !err ? memchr(out->ptr, '\n', out->len) : NULL;
    if (first)
        ch_buf_consume(out, (size_t)(first + 1 - out->ptr));
    return err;
}

static enum ch_err add_heads(const struct ch_cli_call *call, json_t *arguments, struct ch_why *why)
{
    const char *head = ch_cli_value(call, "head");
    struct ch_buf text;
    if (!head)
        return CH_OK;
    ch_buf_init(&text, 2 * HEADS_MAX);
    enum ch_err err =
        is_hash(head) ? ch_buf_append_span(&text, ch_span_of(head)) : read_heads(head, &text, why);
    json_t *heads = err ? NULL : json_stringn(text.ptr ? text.ptr : "", text.len);
    if (!err && (!heads || text.len == 0))
        err = ch_why_set(why, CH_ERR_INVALID, "--head %s holds no heads", head);
    if (!err && json_object_set(arguments, "heads", heads))
        err = ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    json_decref(heads);
    ch_buf_fini(&text);
    return err;
}

static void say_verdict(struct ch_cli *cli, const struct ch_cli_call *call, const json_t *report)
{
    long long count = json_integer_value(json_object_get(report, "finding_count"));
    ch_cli_say(cli, call, "%lld rows, signed by %s. Head: row %lld, %s.",
               (long long)json_integer_value(json_object_get(report, "rows")),
               json_string_value(json_object_get(report, "public_key")),
               (long long)json_integer_value(json_object_get(report, "head_seq")),
               json_string_value(json_object_get(report, "head_hash")));
    if (count == 0)
        ch_cli_say(cli, call, "The log is whole, and the database is as it says.");
    else
        ch_cli_say(cli, call, "%lld findings.", count);
    if (count > (long long)json_array_size(json_object_get(report, "items")))
        ch_cli_say(cli, call, "Not all of them are shown.");
}

int ch_cli_run_audit_verify(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_why why = {""};
    json_t *arguments = NULL, *report = NULL;
    enum ch_err err = ch_cli_arguments(call, &arguments, &why);
    if (!err)
        err = add_heads(call, arguments, &why);
    if (!err)
        err = ch_cli_ask(cli, call, call->command->operation, arguments, &report, &why);
    json_decref(arguments);
    if (err)
        return ch_cli_fail(cli, err, &why);
    bool is_good = json_is_true(json_object_get(report, "ok"));
    int code = ch_cli_show(cli, call, report);
    say_verdict(cli, call, report);
    json_decref(report);
    return code == CH_EXIT_OK && !is_good ? CH_EXIT_FINDINGS : code;
}

// ---- export

static int write_lines(struct ch_cli *cli, const json_t *items, struct ch_why *why)
{
    struct ch_buf text;
    size_t index;
    json_t *item;
    enum ch_err err = CH_OK;
    ch_buf_init(&text, EXPORT_MAX);
    json_array_foreach(items, index, item)
    {
        if (!err)
            err = ch_cli_render_line(&text, item);
    }
    if (err)
        ch_why_set(why, err, "out of memory");
    int code = err ? ch_cli_fail(cli, err, why) : ch_cli_write(cli, ch_buf_span(&text));
    ch_buf_fini(&text);
    return code;
}

// One batch; `after` moves on to its last row. `count_out`: how many rows it had.
static int export_batch(struct ch_cli *cli, const struct ch_cli_call *call, json_t *arguments,
                        size_t *count_out)
{
    struct ch_why why = {""};
    json_t *answer = NULL;
    enum ch_err err = ch_cli_ask(cli, call, call->command->operation, arguments, &answer, &why);
    if (err)
        return ch_cli_fail(cli, err, &why);
    json_t *items = json_object_get(answer, "items");
    *count_out = json_array_size(items);
    int code = write_lines(cli, items, &why);
    json_t *last = *count_out ? json_array_get(items, *count_out - 1) : NULL;
    if (last && json_object_set(arguments, "after", json_object_get(last, "seq")))
        code = CH_EXIT_FAILED;
    json_decref(answer);
    return code;
}

int ch_cli_run_audit_export(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_why why = {""};
    json_t *arguments = NULL;
    size_t count = EXPORT_BATCH;
    enum ch_err err = ch_cli_arguments(call, &arguments, &why);
    if (!err && (json_object_set_new(arguments, "after", json_integer(0)) ||
                 json_object_set_new(arguments, "limit", json_integer(EXPORT_BATCH))))
        err = ch_why_set(&why, CH_ERR_NOMEM, "out of memory");
    int code = err ? ch_cli_fail(cli, err, &why) : CH_EXIT_OK;
    while (code == CH_EXIT_OK && count == EXPORT_BATCH)
        code = export_batch(cli, call, arguments, &count);
    json_decref(arguments);
    return code;
}
