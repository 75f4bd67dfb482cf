// SPDX-License-Identifier: Apache-2.0
// argv -> struct ch_cli_call, by the table. Pure but for reading the table; borrows argv.
#ifndef CH_APP_CLI_PARSE_H
#define CH_APP_CLI_PARSE_H

#include "app/cli.h"

#define CH_CLI_VALUES_MAX 128 // options of one call

enum ch_cli_output {
    CH_CLI_AUTO, // a table on a terminal, TSV otherwise
    CH_CLI_TABLE,
    CH_CLI_TSV,
    CH_CLI_JSON,
};

struct ch_cli_value {
    const struct ch_cli_option *option;
    const char *text; // NULL for a flag
};

struct ch_cli_call {
    const char *noun;                     // NULL: a bare `chaperone`
    const struct ch_cli_command *command; // NULL: none yet, or only the noun was given
    const char *positionals[CH_CLI_POSITIONALS_MAX];
    struct ch_cli_value values[CH_CLI_VALUES_MAX];
    size_t value_count;
    const char *config; // --config
    const char *admin, *admin_token_file, *admin_ca;
    enum ch_cli_output output;
    bool wants_help, is_quiet, is_daemon_only;
};

// CH_ERR_INVALID with a sentence that names the word at fault and the nearest known one. call_out holds what
// was understood so far also then, so that the caller can point to the right help.
enum ch_err ch_cli_parse(int argc, char *const *argv, struct ch_cli_call *call_out,
                         struct ch_why *why) CH_MUST_USE;

// The value of an option, or NULL; of a repeatable one the first.
const char *ch_cli_value(const struct ch_cli_call *call, const char *option);
bool ch_cli_has(const struct ch_cli_call *call, const char *option);
int64_t ch_cli_value_int(const struct ch_cli_call *call, const char *option, int64_t otherwise);

// The arguments of the command's operation: every option and positional that is not local.
enum ch_err ch_cli_arguments(const struct ch_cli_call *call, json_t **arguments_out,
                             struct ch_why *why) CH_MUST_USE;

// The name of `words` (separated by blanks) nearest to `word`, into `out`; false when none is near.
bool ch_cli_nearest(const char *words, const char *word, char *out, size_t size);

#endif
