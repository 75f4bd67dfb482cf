// SPDX-License-Identifier: Apache-2.0
// admin-token create: the token alone on standard output.
#include "app/cli_run.h"

static void say_created(struct ch_cli *cli, const struct ch_cli_call *call, const json_t *token)
{
    const char *team = json_string_value(json_object_get(token, "team"));
    const char *expires = json_string_value(json_object_get(token, "expires_at"));
    ch_cli_say(cli, call,
               "Admin token %s: role %s, %s%s, expires %s. It is shown this once and cannot be "
               "read back.",
               json_string_value(json_object_get(token, "name")),
               json_string_value(json_object_get(token, "role")),
               team && *team ? "team " : "all teams", team ? team : "",
               expires ? expires : "never");
}

static int print_token(struct ch_cli *cli, const struct ch_cli_call *call, const json_t *answer)
{
    const char *token = json_string_value(json_object_get(answer, "token"));
    if (call->output != CH_CLI_AUTO && !call->is_quiet)
        return ch_cli_show(cli, call, answer);
    int code = ch_cli_write(cli, ch_span_of(token));
    return code == CH_EXIT_OK ? ch_cli_write(cli, CH_SPAN("\n")) : code;
}

int ch_cli_run_token_create(struct ch_cli *cli, const struct ch_cli_call *call)
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
    int code = print_token(cli, call, answer);
    json_decref(answer);
    return code;
}
