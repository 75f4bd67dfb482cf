// SPDX-License-Identifier: Apache-2.0
#include "app/cli_run.h"

// clang-format keeps one row a line badly; these tables read better by hand.
// clang-format off

const struct ch_cli_option ch_cli_globals[] = {
    {.name = "config", .type = CH_CLI_FILE, .value = "FILE", .help = "configuration file; else $CHAPERONE_CONFIG, else ./chaperone.yaml or /etc/chaperone/chaperone.yaml if only you or root can write it"},
    {.name = "output", .letter = 'o', .type = CH_CLI_CHOICE, .value = "FORMAT", .choices = "table tsv json", .help = "how to print; default: table on a terminal, tsv elsewhere"},
    {.name = "quiet", .letter = 'q', .help = "print names or ids only, and no notes"},
    {.name = "daemon-only", .help = "fail rather than open the database when no daemon answers"},
    {.name = "version", .letter = 'V', .help = "print the version"},
    {.name = "help", .letter = 'h', .help = "print help for the command"},
    {0},
};

#define SECRET_OPTIONS \
    {.name = "secret-stdin", .is_secret = true, .help = "read it from standard input"}, \
    {.name = "secret-file", .type = CH_CLI_FILE, .value = "FILE", .is_secret = true, .help = "read it from a file that only you can read (mode 0600)"}, \
    {.name = "secret-env", .type = CH_CLI_TEXT, .value = "NAME", .is_secret = true, .help = "read it from an environment variable"}

#define YES_OPTION {.name = "yes", .letter = 'y', .is_local = true, .help = "do not ask"}

#define PROVIDER_NAME {.name = "NAME", .type = CH_CLI_PROVIDER, .member = "name", .help = "the provider's name"}
#define KEY_NAME {.name = "NAME", .type = CH_CLI_KEY, .member = "name", .help = "the key's name"}

// ---- init, sandbox, env, help

static const struct ch_cli_option init_options[] = {
    {.name = "dir", .type = CH_CLI_DIR, .value = "DIR", .is_local = true, .help = "folder to make ready; default: the current one"},
    {.name = "listen", .type = CH_CLI_TEXT, .value = "ADDRESS", .is_local = true, .help = "where applications connect; default 127.0.0.1:8080"},
    {.name = "no-input", .is_local = true, .help = "ask nothing, take the defaults"},
    {0},
};

static const struct ch_cli_option sandbox_options[] = {
    {.name = "listen", .type = CH_CLI_TEXT, .value = "ADDRESS", .is_local = true, .help = "default 127.0.0.1:8090; port 0 picks a free one"},
    {.name = "threads", .type = CH_CLI_INT, .value = "N", .is_local = true, .help = "default 1"},
    {.name = "api-key", .type = CH_CLI_TEXT, .value = "KEY", .is_local = true, .help = "the only key it accepts, a made-up one; default: any"},
    {.name = "record", .type = CH_CLI_FILE, .value = "FILE", .is_local = true, .help = "write every answered request and its usage as a JSON line"},
    {0},
};

static const struct ch_cli_option env_options[] = {
    {.name = "for", .type = CH_CLI_CHOICE, .value = "SDK", .choices = "openai anthropic gemini vercel-openai vercel-anthropic", .is_required = true, .is_local = true, .help = "whose settings to print"},
    {0},
};

static const struct ch_cli_option help_options[] = {
    {.name = "markdown", .is_local = true, .help = "print the whole reference as Markdown (docs/cli.md)"},
    {0},
};

static const struct ch_cli_column status_columns[] = {
    {.member = "version", .title = "Version"},
    {.member = "pid", .title = "Process", .is_id = true},
    {.member = "uptime_s", .title = "Uptime", .format = CH_CLI_AS_SECONDS},
    {.member = "loops", .title = "Loops", .format = CH_CLI_AS_COUNT},
    {.member = "connections", .title = "Connections", .format = CH_CLI_AS_COUNT},
    {.member = "in_flight", .title = "In flight", .format = CH_CLI_AS_COUNT},
    {.member = "exchanges", .title = "Exchanges", .format = CH_CLI_AS_COUNT},
    {.member = "denied", .title = "Denied", .format = CH_CLI_AS_COUNT},
    {.member = "keys", .title = "Keys", .format = CH_CLI_AS_COUNT},
    {.member = "providers", .title = "Providers", .format = CH_CLI_AS_COUNT},
    {.member = "journal_backlog_bytes", .title = "Journal backlog", .format = CH_CLI_AS_BYTES},
    {.member = "catalogue", .title = "Catalogue"},
    {.member = "database", .title = "Database"},
    {0},
};

// ---- provider

static const struct ch_cli_option provider_create_options[] = {
    {.name = "type", .type = CH_CLI_CHOICE, .value = "TYPE", .choices = "openai anthropic gemini azure openai-compatible", .is_required = true, .help = "what the account speaks"},
    {.name = "base-url", .type = CH_CLI_TEXT, .value = "URL", .help = "what the provider's own SDK would take; needed for azure and openai-compatible"},
    {.name = "no-include-usage", .member = "injects_usage", .is_negation = true, .help = "do not ask for usage in streams (for servers that refuse unknown fields)"},
    SECRET_OPTIONS,
    {0},
};
static const struct ch_cli_option provider_delete_options[] = {YES_OPTION, {0}};

static const struct ch_cli_column provider_columns[] = {
    {.member = "name", .title = "Name", .is_id = true},
    {.member = "type", .title = "Type"},
    {.member = "base_url", .title = "Base URL"},
    {.member = "enabled", .title = "Enabled", .format = CH_CLI_AS_YESNO},
    {.member = "key_hint", .title = "Key"},
    {.member = "injects_usage", .title = "Asks for usage", .format = CH_CLI_AS_YESNO, .is_detail = true},
    {.member = "key_version", .title = "Key version", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "created_at", .title = "Created", .format = CH_CLI_AS_TIME},
    {.member = "updated_at", .title = "Changed", .format = CH_CLI_AS_TIME, .is_detail = true},
    {0},
};
static const struct ch_cli_column provider_test_columns[] = {
    {.member = "name", .title = "Name", .is_id = true},
    {.member = "ok", .title = "Works", .format = CH_CLI_AS_YESNO},
    {.member = "status", .title = "HTTP status"},
    {.member = "latency_us", .title = "Latency", .format = CH_CLI_AS_US},
    {.member = "code", .title = "Code", .is_detail = true},
    {.member = "message", .title = "Message"},
    {0},
};
static const struct ch_cli_column deleted_columns[] = {
    {.member = "name", .title = "Name", .is_id = true},
    {.member = "deleted", .title = "Deleted", .format = CH_CLI_AS_YESNO},
    {0},
};

// ---- key

static const struct ch_cli_option key_create_options[] = {
    {.name = "provider", .type = CH_CLI_PROVIDER, .value = "NAME", .is_required = true, .is_repeatable = true, .help = "a provider it may use, in the order of preference"},
    {.name = "models", .type = CH_CLI_TEXT, .value = "LIST", .help = "models it may use: exact names and PREFIX*, by commas; default: all"},
    {.name = "expires", .type = CH_CLI_TEXT, .value = "WHEN", .help = "a span (90d, 12h) or a time (2027-01-31 is its first instant, UTC); default: never"},
    {.name = "team", .type = CH_CLI_TEXT, .value = "NAME", .help = "who answers for its spend"},
    {.name = "project", .type = CH_CLI_TEXT, .value = "NAME", .help = "likewise"},
    {.name = "env", .type = CH_CLI_TEXT, .value = "NAME", .help = "such as prod or dev"},
    {.name = "service", .type = CH_CLI_TEXT, .value = "NAME", .help = "the application that uses it"},
    {.name = "tag", .type = CH_CLI_PAIR, .value = "KEY=VALUE", .is_repeatable = true, .help = "anything else to group its spend by"},
    {0},
};
static const struct ch_cli_option key_list_options[] = {
    {.name = "status", .type = CH_CLI_CHOICE, .value = "STATUS", .choices = "active disabled revoked expired", .help = "only keys in this state"},
    {.name = "provider", .type = CH_CLI_PROVIDER, .value = "NAME", .help = "only keys that may use it"},
    {.name = "team", .type = CH_CLI_TEXT, .value = "NAME", .help = "only this team's"},
    {.name = "project", .type = CH_CLI_TEXT, .value = "NAME", .help = "only this project's"},
    {.name = "env", .type = CH_CLI_TEXT, .value = "NAME", .help = "only this environment's"},
    {.name = "service", .type = CH_CLI_TEXT, .value = "NAME", .help = "only this service's"},
    {.name = "limit", .type = CH_CLI_INT, .value = "N", .help = "at most this many; default 1000"},
    {0},
};
static const struct ch_cli_option key_revoke_options[] = {
    {.name = "reason", .type = CH_CLI_TEXT, .value = "TEXT", .help = "kept with the key"},
    YES_OPTION,
    {0},
};
static const struct ch_cli_option key_verify_options[] = {SECRET_OPTIONS, {0}};

#define KEY_COLUMNS \
    {.member = "name", .title = "Name", .is_id = true}, \
    {.member = "id", .title = "Id"}, \
    {.member = "status", .title = "Status"}, \
    {.member = "revoke_reason", .title = "Reason", .is_detail = true}, \
    {.member = "providers", .title = "Providers"}, \
    {.member = "models", .title = "Models"}, \
    {.member = "team", .title = "Team"}, \
    {.member = "project", .title = "Project"}, \
    {.member = "env", .title = "Env"}, \
    {.member = "service", .title = "Service", .is_detail = true}, \
    {.member = "tags", .title = "Tags", .is_detail = true}, \
    {.member = "expires_at", .title = "Expires", .format = CH_CLI_AS_TIME}, \
    {.member = "created_at", .title = "Created", .format = CH_CLI_AS_TIME, .is_detail = true}, \
    {.member = "updated_at", .title = "Changed", .format = CH_CLI_AS_TIME, .is_detail = true}

static const struct ch_cli_column key_columns[] = {KEY_COLUMNS, {0}};
static const struct ch_cli_column key_created_columns[] = {{.member = "key", .title = "Key"}, KEY_COLUMNS, {0}};
static const struct ch_cli_column key_verdict_columns[] = {
    {.member = "valid", .title = "Valid now", .format = CH_CLI_AS_YESNO},
    {.member = "reason", .title = "Because"},
    KEY_COLUMNS,
    {0},
};

// ---- usage

#define USAGE_FILTER_OPTIONS \
    {.name = "from", .type = CH_CLI_TEXT, .value = "WHEN", .help = "since then: 7d (ago), 2026-11-01, today, yesterday"}, \
    {.name = "to", .type = CH_CLI_TEXT, .value = "WHEN", .help = "until then, exclusive"}, \
    {.name = "key", .type = CH_CLI_KEY, .value = "NAME", .help = "only this key's"}, \
    {.name = "team", .type = CH_CLI_TEXT, .value = "NAME", .help = "only this team's"}, \
    {.name = "project", .type = CH_CLI_TEXT, .value = "NAME", .help = "only this project's"}, \
    {.name = "env", .type = CH_CLI_TEXT, .value = "NAME", .help = "only this environment's"}, \
    {.name = "model", .type = CH_CLI_TEXT, .value = "MODEL", .help = "only this model's"}, \
    {.name = "provider", .type = CH_CLI_PROVIDER, .value = "NAME", .help = "only this provider's"}

static const struct ch_cli_option usage_summary_options[] = {
    {.name = "by", .type = CH_CLI_TEXT, .value = "LIST", .help = "up to three of key,team,project,env,service,model,provider,day,hour; default key"},
    USAGE_FILTER_OPTIONS,
    {0},
};
static const struct ch_cli_option usage_list_options[] = {
    USAGE_FILTER_OPTIONS,
    {.name = "after", .type = CH_CLI_TEXT, .value = "ID", .help = "only exchanges after this one, oldest first"},
    {.name = "limit", .type = CH_CLI_INT, .value = "N", .help = "at most this many; default 50, at most 10000"},
    {0},
};
static const struct ch_cli_option usage_tail_options[] = {
    {.name = "key", .type = CH_CLI_KEY, .value = "NAME", .help = "only this key's"},
    {.name = "team", .type = CH_CLI_TEXT, .value = "NAME", .help = "only this team's"},
    {.name = "project", .type = CH_CLI_TEXT, .value = "NAME", .help = "only this project's"},
    {.name = "env", .type = CH_CLI_TEXT, .value = "NAME", .help = "only this environment's"},
    {.name = "model", .type = CH_CLI_TEXT, .value = "MODEL", .help = "only this model's"},
    {.name = "provider", .type = CH_CLI_PROVIDER, .value = "NAME", .help = "only this provider's"},
    {.name = "lines", .letter = 'n', .type = CH_CLI_INT, .value = "N", .is_local = true, .help = "begin with the last N exchanges; default 10"},
    {0},
};

static const struct ch_cli_column usage_summary_columns[] = {
    {.member = "requests", .title = "Requests", .format = CH_CLI_AS_COUNT},
    {.member = "errors", .title = "Errors", .format = CH_CLI_AS_COUNT},
    {.member = "input_tokens", .title = "Input", .format = CH_CLI_AS_COUNT},
    {.member = "cached_tokens", .title = "Cached", .format = CH_CLI_AS_COUNT},
    {.member = "output_tokens", .title = "Output", .format = CH_CLI_AS_COUNT},
    {.member = "cost_usd", .title = "Cost USD", .format = CH_CLI_AS_USD},
    {.member = "cost_nano_usd", .title = "Cost nano-USD", .is_detail = true},
    {.member = "unpriced_requests", .title = "Unpriced", .format = CH_CLI_AS_COUNT},
    {0},
};
static const struct ch_cli_column usage_columns[] = {
    {.member = "id", .title = "Id", .is_id = true, .is_detail = true},
    {.member = "at", .title = "Time", .format = CH_CLI_AS_TIME},
    {.member = "key", .title = "Key"},
    {.member = "team", .title = "Team", .is_detail = true},
    {.member = "project", .title = "Project", .is_detail = true},
    {.member = "env", .title = "Env", .is_detail = true},
    {.member = "service", .title = "Service", .is_detail = true},
    {.member = "tags", .title = "Tags", .is_detail = true},
    {.member = "provider", .title = "Provider"},
    {.member = "dialect", .title = "Dialect", .is_detail = true},
    {.member = "endpoint", .title = "Endpoint"},
    {.member = "model_asked", .title = "Model"},
    {.member = "model_sent", .title = "Sent", .is_detail = true},
    {.member = "model_served", .title = "Served", .is_detail = true},
    {.member = "status", .title = "Status"},
    {.member = "is_stream", .title = "Stream", .format = CH_CLI_AS_YESNO, .is_detail = true},
    {.member = "end_reason", .title = "End", .is_detail = true},
    {.member = "grade", .title = "Grade"},
    {.member = "input_tokens", .title = "Input", .format = CH_CLI_AS_COUNT},
    {.member = "cache_read_tokens", .title = "Cached", .format = CH_CLI_AS_COUNT},
    {.member = "cache_write_5m_tokens", .title = "Cache write 5m", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "cache_write_1h_tokens", .title = "Cache write 1h", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "audio_in_tokens", .title = "Audio in", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "image_in_tokens", .title = "Image in", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "output_tokens", .title = "Output", .format = CH_CLI_AS_COUNT},
    {.member = "reasoning_tokens", .title = "Reasoning", .format = CH_CLI_AS_COUNT},
    {.member = "audio_out_tokens", .title = "Audio out", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "image_out_tokens", .title = "Image out", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "searches", .title = "Searches", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "tier", .title = "Tier", .is_detail = true},
    {.member = "cost_usd", .title = "Cost USD", .format = CH_CLI_AS_USD},
    {.member = "cost_nano_usd", .title = "Cost nano-USD", .is_detail = true},
    {.member = "catalogue", .title = "Catalogue", .is_detail = true},
    {.member = "first_byte_us", .title = "First byte", .format = CH_CLI_AS_US, .is_detail = true},
    {.member = "latency_us", .title = "Total", .format = CH_CLI_AS_US},
    {.member = "added_us", .title = "Added", .format = CH_CLI_AS_US},
    {.member = "tokens_per_second", .title = "Tokens/s", .is_detail = true},
    {.member = "request_bytes", .title = "Request bytes", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "response_bytes", .title = "Response bytes", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "upstream_id", .title = "Provider's id", .is_detail = true},
    {.member = "user_agent", .title = "User agent", .is_detail = true},
    {.member = "client_address", .title = "Client", .is_detail = true},
    {.member = "rule", .title = "Rule", .is_detail = true},
    {0},
};

// ---- price

static const struct ch_cli_option price_show_options[] = {
    {.name = "provider", .type = CH_CLI_PROVIDER, .value = "NAME", .help = "as this provider would be charged"},
    {0},
};
static const struct ch_cli_option price_import_options[] = {
    {.name = "date", .type = CH_CLI_TEXT, .value = "DAY", .help = "the day of the list, like 2026-08-01; default: today"},
    {.name = "dry-run", .is_local = true, .help = "show what would change and change nothing"},
    {.name = "out", .type = CH_CLI_FILE, .value = "FILE", .is_local = true, .help = "write the catalogue there (- is standard output) instead of putting it in force"},
    {0},
};

static const struct ch_cli_column price_columns[] = {
    {.member = "model", .title = "Model", .is_id = true},
    {.member = "mode", .title = "Mode", .is_detail = true},
    {.member = "input_cost_per_token", .title = "Input /1M", .format = CH_CLI_AS_PRICE},
    {.member = "cache_read_input_token_cost", .title = "Cached /1M", .format = CH_CLI_AS_PRICE},
    {.member = "cache_creation_input_token_cost", .title = "Cache write /1M", .format = CH_CLI_AS_PRICE},
    {.member = "output_cost_per_token", .title = "Output /1M", .format = CH_CLI_AS_PRICE},
    {.member = "max_output_tokens", .title = "Max output", .format = CH_CLI_AS_COUNT},
    {0},
};
static const struct ch_cli_column price_import_columns[] = {
    {.member = "model", .title = "Model", .is_id = true},
    {.member = "change", .title = "Change"},
    {.member = "price", .title = "Price"},
    {.member = "from", .title = "From"},
    {.member = "to", .title = "To"},
    {0},
};
static const struct ch_cli_column unpriced_columns[] = {
    {.member = "provider", .title = "Provider"},
    {.member = "model", .title = "Model", .is_id = true},
    {.member = "requests", .title = "Requests", .format = CH_CLI_AS_COUNT},
    {.member = "first_at", .title = "First", .format = CH_CLI_AS_TIME},
    {.member = "last_at", .title = "Last", .format = CH_CLI_AS_TIME},
    {0},
};

// ---- the table

const struct ch_cli_command ch_cli_commands[] = {
    {
        .noun = "init", .summary = "make a folder ready: configuration, master key, database",
        .about = "Writes chaperone.yaml, master.key (mode 0600) and chaperone.db. Nothing that exists is ever overwritten.",
        .example = "chaperone init --dir ~/chaperone",
        .options = init_options, .run = ch_cli_run_init,
    },
    {
        .noun = "serve", .summary = "run the proxy until SIGTERM or SIGINT",
        .example = "chaperone serve --config ~/chaperone/chaperone.yaml",
        .run = ch_cli_run_serve,
    },
    {
        .noun = "check", .summary = "prove everything that serve would need, and change nothing",
        .run = ch_cli_run_check,
    },
    {
        .noun = "status", .summary = "what the running daemon is doing",
        .operation = "status", .columns = status_columns,
    },
    {
        .noun = "provider", .verb = "create", .summary = "add an upstream account and seal its key",
        .about = "The provider's key is asked for, or read from where --secret-… says. It is sealed before it is stored, never shown again, and never taken from the command line.",
        .example = "chaperone provider create openai-prod --type openai\n"
                   "chaperone provider create groq --type openai-compatible --base-url https://api.groq.com/openai/v1 --secret-env GROQ_API_KEY",
        .positionals = {{.name = "NAME", .member = "name", .type = CH_CLI_TEXT, .help = "what to call it: 1-64 of letters, digits, '.', '_' and '-'"}},
        .options = provider_create_options, .operation = "provider.create", .columns = provider_columns,
        .secret_member = "credential", .secret_prompt = "Provider key: ",
        .done = "Created. Try it: chaperone provider test %s",
    },
    {
        .noun = "provider", .verb = "list", .summary = "all providers",
        .operation = "provider.list", .columns = provider_columns,
        .empty = "There is no provider yet. Add one: chaperone provider create openai --type openai",
    },
    {
        .noun = "provider", .verb = "show", .summary = "one provider",
        .positionals = {PROVIDER_NAME}, .operation = "provider.show", .columns = provider_columns,
    },
    {
        .noun = "provider", .verb = "test", .summary = "ask the provider whether it accepts its key",
        .about = "Sends one free request (the list of models) and waits up to 5 s. Exit code 6 when the provider cannot be used.",
        .positionals = {PROVIDER_NAME}, .operation = "provider.test", .run = ch_cli_run_verdict, .columns = provider_test_columns,
    },
    {
        .noun = "provider", .verb = "disable", .summary = "refuse every request that would go there",
        .about = "In force at once, also when it cannot be stored; exit code 1 then, and the daemon must not be restarted before it could.",
        .positionals = {PROVIDER_NAME}, .operation = "provider.disable", .columns = provider_columns,
    },
    {
        .noun = "provider", .verb = "enable", .summary = "use it again",
        .positionals = {PROVIDER_NAME}, .operation = "provider.enable", .columns = provider_columns,
    },
    {
        .noun = "provider", .verb = "delete", .summary = "remove it and its sealed key for good",
        .about = "Refused while an active key uses it.",
        .positionals = {PROVIDER_NAME}, .options = provider_delete_options, .operation = "provider.delete", .columns = deleted_columns,
        .confirm = "Delete provider %s and its sealed key for good?",
    },
    {
        .noun = "key", .verb = "create", .summary = "issue a wrapped key",
        .about = "The key is printed once, alone, on standard output; notes go to standard error. It is stored only as a salted hash.",
        .example = "chaperone key create web --provider openai-prod --models 'gpt-4o-mini,gpt-4.1*' --team search --env prod --expires 90d\n"
                   "KEY=$(chaperone key create ci --provider sandbox)",
        .positionals = {{.name = "NAME", .member = "name", .type = CH_CLI_TEXT, .help = "what to call it: 1-64 of letters, digits, '.', '_' and '-'"}},
        .options = key_create_options, .operation = "key.create", .run = ch_cli_run_key_create, .columns = key_created_columns,
    },
    {
        .noun = "key", .verb = "list", .summary = "all wrapped keys",
        .options = key_list_options, .operation = "key.list", .columns = key_columns,
        .empty = "There is no such key. Issue one: chaperone key create NAME --provider NAME",
    },
    {
        .noun = "key", .verb = "show", .summary = "one wrapped key",
        .positionals = {KEY_NAME}, .operation = "key.show", .columns = key_columns,
    },
    {
        .noun = "key", .verb = "disable", .summary = "refuse it until it is enabled again",
        .about = "In force at once, also when it cannot be stored; exit code 1 then, and the daemon must not be restarted before it could.",
        .positionals = {KEY_NAME}, .operation = "key.disable", .columns = key_columns,
    },
    {
        .noun = "key", .verb = "enable", .summary = "accept it again",
        .positionals = {KEY_NAME}, .operation = "key.enable", .columns = key_columns,
    },
    {
        .noun = "key", .verb = "revoke", .summary = "refuse it for good, from the next request on",
        .about = "In force at once, also when it cannot be stored; exit code 1 then, and the daemon must not be restarted before it could.",
        .positionals = {KEY_NAME}, .options = key_revoke_options, .operation = "key.revoke", .columns = key_columns,
        .confirm = "Revoke key %s for good?",
    },
    {
        .noun = "key", .verb = "verify", .summary = "say which key a token is, and whether it works now",
        .about = "The token is asked for, or read from where --secret-… says. Exit code 6 when it does not work.",
        .example = "chaperone key verify --secret-env OPENAI_API_KEY",
        .options = key_verify_options, .operation = "key.verify", .run = ch_cli_run_verdict, .columns = key_verdict_columns,
        .secret_member = "token", .secret_prompt = "Wrapped key: ",
    },
    {
        .noun = "usage", .verb = "summary", .summary = "requests, tokens and cost, summed",
        .example = "chaperone usage summary --by team,model --from 30d",
        .options = usage_summary_options, .operation = "usage.summary", .columns = usage_summary_columns,
        .empty = "Nothing was used in this time.",
    },
    {
        .noun = "usage", .verb = "list", .summary = "single exchanges, newest first",
        .example = "chaperone usage list --key web --from today\nchaperone usage list -o json | jq '.items[].cost_usd'",
        .options = usage_list_options, .operation = "usage.list", .columns = usage_columns,
        .empty = "Nothing was used in this time.",
    },
    {
        .noun = "usage", .verb = "tail", .summary = "exchanges as they happen",
        .about = "Needs the daemon. With -o json every exchange is one line.",
        .options = usage_tail_options, .operation = "usage.list", .run = ch_cli_run_usage_tail, .columns = usage_columns,
    },
    {
        .noun = "price", .verb = "list", .summary = "the catalogue in force",
        .example = "chaperone price list gpt-4o",
        .positionals = {{.name = "PATTERN", .member = "pattern", .type = CH_CLI_TEXT, .is_optional = true, .help = "part of a model's name"}},
        .operation = "price.list", .columns = price_columns,
        .empty = "No model in the catalogue is called so.",
    },
    {
        .noun = "price", .verb = "show", .summary = "every price of one model, in USD a unit",
        .positionals = {{.name = "MODEL", .member = "model", .type = CH_CLI_TEXT, .help = "a model's name"}},
        .options = price_show_options, .operation = "price.show",
    },
    {
        .noun = "price", .verb = "import", .summary = "put a new price list in force",
        .about = "FILE is LiteLLM's model_prices_and_context_window.json or a catalogue (schema chaperone.prices/1). Shows what changes. With --out neither daemon nor database is needed.",
        .example = "chaperone price import model_prices_and_context_window.json --dry-run\n"
                   "chaperone price import prices.json --date 2026-08-01 --out conf/prices.json",
        .positionals = {{.name = "FILE", .type = CH_CLI_FILE, .is_local = true, .help = "the price list; - is standard input"}},
        .options = price_import_options, .operation = "price.import", .run = ch_cli_run_price_import, .columns = price_import_columns,
    },
    {
        .noun = "price", .verb = "unpriced", .summary = "models that were used and have no price",
        .operation = "price.unpriced", .columns = unpriced_columns,
        .empty = "Every model that was used has a price.",
    },
    {
        .noun = "env", .summary = "print the two settings that point an SDK here",
        .about = "Prints the base URL and a placeholder for the key: a key is never stored, so put in what `key create` printed.",
        .example = "chaperone env web --for openai",
        .positionals = {{.name = "KEYNAME", .type = CH_CLI_KEY, .is_local = true, .help = "the key's name"}},
        .options = env_options, .operation = "key.show", .run = ch_cli_run_env,
    },
    {
        .noun = "sandbox", .summary = "run a stand-in provider that costs nothing",
        .about = "Speaks the three dialects, plain and streamed, with deterministic answers and usage, and faults by model name: sandbox-429, sandbox-500, sandbox-cut, sandbox-slow-200ms, sandbox-no-usage.",
        .example = "chaperone sandbox --listen 127.0.0.1:8090",
        .options = sandbox_options, .run = ch_cli_run_sandbox,
    },
    {
        .noun = "completion", .summary = "print a completion script for your shell",
        .example = "chaperone completion bash > ~/.local/share/bash-completion/completions/chaperone\n"
                   "chaperone completion zsh > \"${fpath[1]}/_chaperone\"\n"
                   "chaperone completion fish > ~/.config/fish/completions/chaperone.fish",
        .positionals = {{.name = "SHELL", .type = CH_CLI_CHOICE, .choices = "bash zsh fish", .is_local = true, .help = "bash, zsh or fish"}},
        .run = ch_cli_run_completion,
    },
    {
        .noun = "version", .summary = "print the version",
        .run = ch_cli_run_version,
    },
    {
        .noun = "help", .summary = "explain a command",
        .positionals = {{.name = "NOUN", .type = CH_CLI_TEXT, .is_optional = true, .is_local = true, .help = "a command or its noun"},
                        {.name = "VERB", .type = CH_CLI_TEXT, .is_optional = true, .is_local = true, .help = "its verb"}},
        .options = help_options, .run = ch_cli_run_help,
    },
    {0},
};
// clang-format on
