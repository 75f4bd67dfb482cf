// SPDX-License-Identifier: Apache-2.0
// Help, reference and completion scripts, all made from the table.
#ifndef CH_APP_CLI_HELP_H
#define CH_APP_CLI_HELP_H

#include "app/cli.h"

// `chaperone --help`.
enum ch_err ch_cli_help_overview(struct ch_buf *out) CH_MUST_USE;
// `chaperone key`: the verbs of a noun.
enum ch_err ch_cli_help_noun(struct ch_buf *out, const char *noun) CH_MUST_USE;
// `chaperone key create --help`.
enum ch_err ch_cli_help_command(struct ch_buf *out, const struct ch_cli_command *command) CH_MUST_USE;
// docs/cli.md.
enum ch_err ch_cli_help_markdown(struct ch_buf *out) CH_MUST_USE;

// "bash", "zsh" or "fish"; CH_ERR_NOT_FOUND for another shell.
enum ch_err ch_cli_completion(struct ch_buf *out, const char *shell) CH_MUST_USE;

#endif
