// SPDX-License-Identifier: Apache-2.0
// `chaperone usage show`: one exchange, its bodies as they are read.
#include "app/cli_run.h"

#include "app/cli_output.h"
#include "store/capture_store.h"

static bool is_hostile(unsigned char c)
{
    return (c < ' ' && c != '\n' && c != '\t') || c == 0x7F;
}

// Line ends and tabs are the body's own; other controls could steer a terminal, C1 ones (U+0080 to
// U+009F) too.
static enum ch_err append_readable(struct ch_buf *out, struct ch_span text)
{
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < text.len && !err; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        bool is_c1 = c == 0xC2 && i + 1 < text.len && (unsigned char)text.ptr[i + 1] <= 0x9F;
        err = is_c1 || is_hostile(c) ? ch_buf_append(out, "?", 1) : ch_buf_append(out, &c, 1);
        i += is_c1;
    }
    return err;
}

static int print_body(struct ch_cli *cli, const char *title, const json_t *body, bool is_cut)
{
    struct ch_buf out;
    if (!json_is_string(body))
        return CH_EXIT_OK;
    ch_buf_init(&out, 2 * CH_CAPTURE_LINE_MAX);
    struct ch_span text = {json_string_value(body), json_string_length(body)};
    enum ch_err err =
        ch_buf_append_format(&out, "\n--- %s%s ---\n", title, is_cut ? ", its front" : "");
    if (!err)
        err = append_readable(&out, text);
    if (!err && !ch_span_ends(text, CH_SPAN("\n")))
        err = ch_buf_append(&out, "\n", 1);
    struct ch_why why = {"the body is too large"};
    int code = err ? ch_cli_fail(cli, err, &why) : ch_cli_write(cli, ch_buf_span(&out));
    ch_buf_fini(&out);
    return code;
}

// A table has no room for bodies: they follow it.
static int print_for_people(struct ch_cli *cli, const struct ch_cli_call *call, json_t *answer)
{
    json_t *request = json_incref(json_object_get(answer, "request_body"));
    json_t *response = json_incref(json_object_get(answer, "response_body"));
    bool request_is_cut = json_is_true(json_object_get(answer, "request_body_is_cut"));
    bool response_is_cut = json_is_true(json_object_get(answer, "response_body_is_cut"));
    json_object_del(answer, "request_body");
    json_object_del(answer, "response_body");
    int code = ch_cli_show(cli, call, answer);
    if (code == CH_EXIT_OK)
        code = print_body(cli, "request", request, request_is_cut);
    if (code == CH_EXIT_OK)
        code = print_body(cli, "response", response, response_is_cut);
    json_decref(request);
    json_decref(response);
    return code;
}

int ch_cli_run_usage_show(struct ch_cli *cli, const struct ch_cli_call *call)
{
    struct ch_why why = {""};
    json_t *arguments = NULL, *answer = NULL;
    bool is_table =
        call->output == CH_CLI_TABLE || (call->output == CH_CLI_AUTO && cli->out_is_terminal);
    enum ch_err err = ch_cli_gather(cli, call, &arguments, &why);
    if (!err)
        err = ch_cli_ask(cli, call, call->command->operation, arguments, &answer, &why);
    json_decref(arguments);
    if (err)
        return ch_cli_fail(cli, err, &why);
    int code = is_table && !call->is_quiet ? print_for_people(cli, call, answer)
                                           : ch_cli_show(cli, call, answer);
    json_decref(answer);
    return code;
}
