// SPDX-License-Identifier: Apache-2.0
// What the handlers of commands share: the streams, the configuration, and the way to the admin operations,
// through the daemon's socket or, when none answers, through the store under its lock.
#ifndef CH_APP_CLI_RUN_H
#define CH_APP_CLI_RUN_H

#include "app/cli_parse.h"
#include "domain/config.h"

struct ch_cli_direct; // the open store of direct mode

struct ch_cli {
    int in, out, err; // descriptors
    bool in_is_terminal, out_is_terminal, err_is_terminal;
    // private
    bool has_config, config_is_found; // found: nobody named it
    struct ch_config config;
    char config_path[CH_CONFIG_PATH];
    struct ch_secret *master_key; // read, and not used yet: a variable that held it is gone
    struct ch_secret *admin_token; // of --admin, once it was read
    struct ch_cli_direct *direct; // NULL while the daemon is used
};

void ch_cli_fini(struct ch_cli *cli);

// Talk, on stderr, with a line break added. Nothing when the call is quiet.
void ch_cli_say(const struct ch_cli *cli, const struct ch_cli_call *call, const char *format, ...)
    CH_PRINTF(3, 4);
// An error sentence on stderr; gives the exit code of `err`.
int ch_cli_fail(const struct ch_cli *cli, enum ch_err err, const struct ch_why *why);
// Writes to stdout. CH_EXIT_OK or CH_EXIT_FAILED.
int ch_cli_write(const struct ch_cli *cli, struct ch_span bytes);

// Loads the configuration once; its path is then in cli->config_path.
enum ch_err ch_cli_load_config(struct ch_cli *cli, const struct ch_cli_call *call,
                               struct ch_why *why) CH_MUST_USE;
// One admin operation. CH_ERR_UNAVAILABLE: neither the daemon nor the store can be reached; while somebody holds
// the store, which may be a daemon that is starting, both are tried for some seconds.
enum ch_err ch_cli_ask(struct ch_cli *cli, const struct ch_cli_call *call, const char *operation,
                       const json_t *arguments, json_t **result_out, struct ch_why *why) CH_MUST_USE;
// The arguments of the call with its secret read and put in.
enum ch_err ch_cli_gather(struct ch_cli *cli, const struct ch_cli_call *call, json_t **arguments_out,
                          struct ch_why *why) CH_MUST_USE;
// Shows an answer the way the call asks for; gives the exit code.
int ch_cli_show(struct ch_cli *cli, const struct ch_cli_call *call, const json_t *answer);

// The default handler: gather, ask, show.
int ch_cli_run_operation(struct ch_cli *cli, const struct ch_cli_call *call);

// The handlers with code of their own (src/app/cli_commands.c, cli_price.c, cli_audit.c).
int ch_cli_run_init(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_serve(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_check(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_version(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_key_create(struct ch_cli *cli, const struct ch_cli_call *call); // and key rotate
int ch_cli_run_key_explain(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_verdict(struct ch_cli *cli, const struct ch_cli_call *call); // key verify, provider test
int ch_cli_run_usage_show(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_usage_tail(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_price_list(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_price_import(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_audit_verify(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_audit_export(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_token_create(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_env(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_completion(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_sandbox(struct ch_cli *cli, const struct ch_cli_call *call);
int ch_cli_run_help(struct ch_cli *cli, const struct ch_cli_call *call);

#endif
