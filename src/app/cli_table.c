// SPDX-License-Identifier: Apache-2.0
#include "app/cli_run.h"

// clang-format keeps one row a line badly; these tables read better by hand.
// clang-format off

const struct ch_cli_option ch_cli_globals[] = {
    {.name = "config", .type = CH_CLI_FILE, .value = "FILE", .help = "configuration file; else $CHAPERONE_CONFIG, else ./chaperone.yaml or /etc/chaperone/chaperone.yaml if only you or root can write it"},
    {.name = "output", .letter = 'o', .type = CH_CLI_CHOICE, .value = "FORMAT", .choices = "table tsv json", .help = "how to print; default: table on a terminal, tsv elsewhere"},
    {.name = "quiet", .letter = 'q', .help = "print names or ids only, and no notes"},
    {.name = "daemon-only", .help = "fail rather than open the database when no daemon answers"},
    {.name = "admin", .type = CH_CLI_TEXT, .value = "URL", .help = "ask the daemon of another machine, https://HOST:PORT; else $CHAPERONE_ADMIN"},
    {.name = "admin-token-file", .type = CH_CLI_FILE, .value = "FILE", .help = "with --admin: the admin token, in a file that only you can read; else $CHAPERONE_ADMIN_TOKEN"},
    {.name = "admin-ca", .type = CH_CLI_FILE, .value = "FILE", .help = "with --admin: PEM bundle that the daemon is verified with; default: the system's"},
    {.name = "version", .letter = 'V', .help = "print the version"},
    {.name = "help", .letter = 'h', .help = "print help for the command"},
    {0},
};

#define SECRET_OPTIONS \
    {.name = "secret-stdin", .is_secret = true, .help = "read it from standard input"}, \
    {.name = "secret-file", .type = CH_CLI_FILE, .value = "FILE", .is_secret = true, .help = "read it from a file that only you can read (mode 0600)"}, \
    {.name = "secret-env", .type = CH_CLI_TEXT, .value = "NAME", .is_secret = true, .help = "read it from an environment variable"}

#define YES_OPTION {.name = "yes", .letter = 'y', .is_local = true, .help = "do not ask"}

// Of every command that changes something: it stands in the audit log.
#define REASON_OPTION {.name = "reason", .type = CH_CLI_TEXT, .value = "TEXT", .help = "why; kept in the audit log"}

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

static const struct ch_cli_option change_options[] = {REASON_OPTION, {0}};

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
    {.member = "refused", .title = "Connections refused", .format = CH_CLI_AS_COUNT},
    {.member = "keys", .title = "Keys", .format = CH_CLI_AS_COUNT},
    {.member = "providers", .title = "Providers", .format = CH_CLI_AS_COUNT},
    {.member = "journal_backlog_bytes", .title = "Journal backlog", .format = CH_CLI_AS_BYTES},
    {.member = "objects_forgotten", .title = "Owners forgotten", .format = CH_CLI_AS_COUNT},
    {.member = "catalogue", .title = "Catalogue"},
    {.member = "database", .title = "Database"},
    {.member = "master_key", .title = "Master key"},
    {.member = "confinement", .title = "Confinement"},
    {.member = "capture.stored", .title = "Bodies captured", .format = CH_CLI_AS_COUNT},
    {.member = "capture.dropped", .title = "Captures dropped", .format = CH_CLI_AS_COUNT},
    {.member = "audit.seq", .title = "Audit rows", .format = CH_CLI_AS_COUNT},
    {.member = "audit.hash", .title = "Audit head", .is_detail = true},
    {.member = "audit.public_key", .title = "Audit key"},
    {0},
};

static const struct ch_cli_column reload_columns[] = {
    {.member = "reloaded", .title = "Reloaded", .format = CH_CLI_AS_YESNO},
    {0},
};

// ---- provider

#define UNKNOWN_MODEL_OPTION {.name = "unknown-model", .type = CH_CLI_TEXT, .value = "CHOICE", .can_be_empty = true, .help = "what a model without a price does: deny, flag, or ceiling:IN/OUT (USD for a million tokens); default: deny where there is a budget, else flag"}

#define OBJECTS_OPTION {.name = "objects", .type = CH_CLI_CHOICE, .value = "OWNERS", .choices = "project team key shared", .help = "among whose keys the objects are shared that the provider keeps (responses, conversations, files): those of a project (of one team), of a team, each key alone, or all; default project. Another provider of the same upstream account knows nothing of these owners"}

static const struct ch_cli_option provider_create_options[] = {
    {.name = "type", .type = CH_CLI_CHOICE, .value = "TYPE", .choices = "openai anthropic gemini azure openai-compatible", .is_required = true, .help = "what the account speaks"},
    {.name = "base-url", .type = CH_CLI_TEXT, .value = "URL", .help = "what the provider's own SDK would take; needed for azure and openai-compatible"},
    {.name = "no-include-usage", .member = "injects_usage", .is_negation = true, .help = "do not ask for usage in streams (for servers that refuse unknown fields)"},
    UNKNOWN_MODEL_OPTION,
    OBJECTS_OPTION,
    REASON_OPTION,
    SECRET_OPTIONS,
    {0},
};
static const struct ch_cli_option provider_update_options[] = {UNKNOWN_MODEL_OPTION, OBJECTS_OPTION, REASON_OPTION, {0}};
static const struct ch_cli_option provider_delete_options[] = {REASON_OPTION, YES_OPTION, {0}};

static const struct ch_cli_column provider_columns[] = {
    {.member = "name", .title = "Name", .is_id = true},
    {.member = "type", .title = "Type"},
    {.member = "base_url", .title = "Base URL"},
    {.member = "enabled", .title = "Enabled", .format = CH_CLI_AS_YESNO},
    {.member = "key_hint", .title = "Key"},
    {.member = "injects_usage", .title = "Asks for usage", .format = CH_CLI_AS_YESNO, .is_detail = true},
    {.member = "unknown_model", .title = "Unknown models", .is_detail = true},
    {.member = "objects", .title = "Objects of", .is_detail = true},
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

#define LIMIT_OPTIONS(clears) \
    {.name = "rpm", .type = CH_CLI_INT, .value = "N", .can_be_empty = clears, .help = "requests a minute; 0 is no limit"}, \
    {.name = "tpm", .type = CH_CLI_INT, .value = "N", .can_be_empty = clears, .help = "tokens a minute, input and output; 0 is no limit"}, \
    {.name = "concurrency", .type = CH_CLI_INT, .value = "N", .can_be_empty = clears, .help = "requests at a time; 0 is no limit"}

// Of a new key and, where an empty value clears, of one that is there.
#define KEY_OPTIONS(clears) \
    {.name = "models", .type = CH_CLI_TEXT, .value = "LIST", .can_be_empty = clears, .help = "models it may use, by commas; * stands for any characters; default: all"}, \
    {.name = "deny-models", .type = CH_CLI_TEXT, .value = "LIST", .can_be_empty = clears, .help = "models it may not use, whatever --models says"}, \
    {.name = "map", .type = CH_CLI_TEXT, .value = "FROM=TO", .is_repeatable = true, .can_be_empty = clears, .help = "send TO where a request names FROM; the lists decide on TO"}, \
    {.name = "budget", .type = CH_CLI_TEXT, .value = "AMOUNT/PERIOD", .is_repeatable = true, .help = "USD for a day, week, month or in total, such as 100/day"}, \
    {.name = "budget-mode", .type = CH_CLI_CHOICE, .value = "MODE", .choices = "strict learned soft", .help = "of these budgets; default learned"}, \
    LIMIT_OPTIONS(clears), \
    {.name = "unknown-model", .type = CH_CLI_TEXT, .value = "CHOICE", .can_be_empty = clears, .help = "what a model without a price does: deny, flag, or ceiling:IN/OUT (USD for a million tokens); default: as the provider says"}, \
    {.name = "expires", .type = CH_CLI_TEXT, .value = "WHEN", .can_be_empty = clears, .help = "a span (90d, 12h) or a time (2027-01-31 is its first instant, UTC); default: never"}, \
    {.name = "allow-cidr", .type = CH_CLI_TEXT, .value = "NETWORK", .is_repeatable = true, .can_be_empty = clears, .help = "where it may be used from, such as 10.0.0.0/8; default: everywhere"}, \
    {.name = "team", .type = CH_CLI_TEXT, .value = "NAME", .can_be_empty = clears, .help = "who answers for its spend"}, \
    {.name = "project", .type = CH_CLI_TEXT, .value = "NAME", .can_be_empty = clears, .help = "likewise"}, \
    {.name = "env", .type = CH_CLI_TEXT, .value = "NAME", .can_be_empty = clears, .help = "such as prod or dev"}, \
    {.name = "service", .type = CH_CLI_TEXT, .value = "NAME", .can_be_empty = clears, .help = "the application that uses it"}, \
    {.name = "tag", .type = CH_CLI_PAIR, .value = "KEY=VALUE", .is_repeatable = true, .can_be_empty = clears, .help = "anything else to group its spend by"}, \
    {.name = "label", .type = CH_CLI_TEXT, .value = "TEXT", .can_be_empty = clears, .help = "a word about it for people"}, \
    {.name = "on-client-abort", .type = CH_CLI_CHOICE, .value = "CHOICE", .choices = "cancel drain", .can_be_empty = clears, .help = "when the application hangs up: leave the provider at once, or read on to learn the exact usage; default cancel"}, \
    {.name = "budget-status", .type = CH_CLI_CHOICE, .value = "STATUS", .choices = "402 403 429", .can_be_empty = clears, .help = "HTTP status of a refusal by a budget; default: as configured"}, \
    {.name = "shadow", .type = CH_CLI_TEXT, .value = "LIST", .can_be_empty = clears, .help = "rules that only record what they would have refused: models, limits"}, \
    REASON_OPTION

static const struct ch_cli_option key_create_options[] = {
    {.name = "provider", .type = CH_CLI_PROVIDER, .value = "NAME", .is_required = true, .is_repeatable = true, .help = "a provider it may use, in the order of preference"},
    KEY_OPTIONS(false),
    {0},
};
static const struct ch_cli_option key_update_options[] = {
    {.name = "provider", .type = CH_CLI_PROVIDER, .value = "NAME", .is_repeatable = true, .help = "the providers it may use from now on, in the order of preference"},
    KEY_OPTIONS(true),
    {0},
};
static const struct ch_cli_option key_rotate_options[] = {
    {.name = "grace", .type = CH_CLI_TEXT, .value = "SPAN", .help = "how long the old secret goes on working, such as 24h; default: not at all"},
    REASON_OPTION,
    {0},
};
static const struct ch_cli_option key_explain_options[] = {
    {.name = "model", .type = CH_CLI_TEXT, .value = "MODEL", .is_required = true, .help = "as the application would name it"},
    {.name = "input-tokens", .type = CH_CLI_INT, .value = "N", .help = "of the request; default: what a small one has"},
    {.name = "output-tokens", .type = CH_CLI_INT, .value = "N", .help = "the most that the request asks for; default: it does not say"},
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
    {.name = "reason", .type = CH_CLI_TEXT, .value = "TEXT", .help = "why; kept with the key and in the audit log"},
    YES_OPTION,
    {0},
};
static const struct ch_cli_option key_disable_options[] = {
    {.name = "reason", .type = CH_CLI_TEXT, .value = "TEXT", .help = "why; kept with the key and in the audit log"},
    {0},
};
static const struct ch_cli_option key_verify_options[] = {SECRET_OPTIONS, {0}};

#define LIMIT_COLUMNS \
    {.member = "rpm", .title = "Requests/min", .format = CH_CLI_AS_COUNT, .is_detail = true}, \
    {.member = "tpm", .title = "Tokens/min", .format = CH_CLI_AS_COUNT, .is_detail = true}, \
    {.member = "concurrency", .title = "At a time", .format = CH_CLI_AS_COUNT, .is_detail = true}

#define KEY_COLUMNS \
    {.member = "name", .title = "Name", .is_id = true}, \
    {.member = "id", .title = "Id"}, \
    {.member = "status", .title = "Status"}, \
    {.member = "revoke_reason", .title = "Reason", .is_detail = true}, \
    {.member = "providers", .title = "Providers"}, \
    {.member = "models", .title = "Models"}, \
    {.member = "deny_models", .title = "Denied models", .is_detail = true}, \
    {.member = "model_map", .title = "Model map", .is_detail = true}, \
    {.member = "unknown_model", .title = "Unknown models", .is_detail = true}, \
    {.member = "budgets", .title = "Budgets", .format = CH_CLI_AS_BUDGETS, .is_detail = true}, \
    {.member = "budget_status", .title = "Budget status", .is_detail = true}, \
    LIMIT_COLUMNS, \
    {.member = "shadow", .title = "Only watched", .is_detail = true}, \
    {.member = "allow_cidrs", .title = "Networks", .is_detail = true}, \
    {.member = "on_client_abort", .title = "On abort", .is_detail = true}, \
    {.member = "label", .title = "Label", .is_detail = true}, \
    {.member = "team", .title = "Team"}, \
    {.member = "project", .title = "Project"}, \
    {.member = "env", .title = "Env"}, \
    {.member = "service", .title = "Service", .is_detail = true}, \
    {.member = "tags", .title = "Tags", .is_detail = true}, \
    {.member = "expires_at", .title = "Expires", .format = CH_CLI_AS_TIME}, \
    {.member = "previous_secret_until", .title = "Old secret until", .is_detail = true}, \
    {.member = "created_at", .title = "Created", .format = CH_CLI_AS_TIME, .is_detail = true}, \
    {.member = "updated_at", .title = "Changed", .format = CH_CLI_AS_TIME, .is_detail = true}

static const struct ch_cli_column key_columns[] = {KEY_COLUMNS, {0}};
static const struct ch_cli_column key_created_columns[] = {{.member = "key", .title = "Key"}, KEY_COLUMNS, {0}};
static const struct ch_cli_column key_verdict_columns[] = {
    {.member = "valid", .title = "Valid now", .format = CH_CLI_AS_YESNO},
    {.member = "reason", .title = "Because"},
    {.member = "is_previous_secret", .title = "Rotated away", .format = CH_CLI_AS_YESNO},
    KEY_COLUMNS,
    {0},
};
static const struct ch_cli_column explain_columns[] = {
    {.member = "rule", .title = "Rule", .is_id = true},
    {.member = "verdict", .title = "Verdict"},
    {.member = "code", .title = "Code", .is_detail = true},
    {.member = "because", .title = "Because"},
    {0},
};

// ---- budget, team, project

#define SCOPE {.name = "SCOPE", .type = CH_CLI_TEXT, .member = "scope", .help = "key:NAME, team:NAME, project:NAME, provider:NAME or all"}

static const struct ch_cli_option budget_set_options[] = {
    {.name = "mode", .type = CH_CLI_CHOICE, .value = "MODE", .choices = "strict learned soft", .help = "hold the worst case, hold the likely cost, or only warn; default learned"},
    {.name = "tz", .type = CH_CLI_TEXT, .value = "ZONE", .help = "whose calendar the period follows, such as Europe/Berlin; default UTC"},
    {.name = "alert", .type = CH_CLI_TEXT, .value = "LIST", .can_be_empty = true, .help = "percentages of the amount at which to tell, by commas; default 80"},
    {.name = "on-exhausted", .type = CH_CLI_CHOICE, .value = "CHOICE", .choices = "finish cut", .help = "what happens to streams when it is spent: they finish, or they are cut; default finish"},
    {.name = "shadow", .help = "refuse nothing, only record what would have been refused"},
    {.name = "no-shadow", .member = "shadow", .is_negation = true, .help = "refuse again"},
    REASON_OPTION,
    {0},
};
static const struct ch_cli_option budget_list_options[] = {
    {.name = "scope", .type = CH_CLI_TEXT, .value = "SCOPE", .help = "only this scope's (team:search), or only of this kind (team)"},
    {.name = "limit", .type = CH_CLI_INT, .value = "N", .help = "at most this many; default 1000"},
    {0},
};
static const struct ch_cli_option budget_delete_options[] = {REASON_OPTION, YES_OPTION, {0}};
static const struct ch_cli_option budget_alerts_options[] = {
    {.name = "limit", .type = CH_CLI_INT, .value = "N", .help = "at most this many; default 50, at most 10000"},
    {0},
};
static const struct ch_cli_option team_set_options[] = {
    LIMIT_OPTIONS(true),
    {.name = "shadow", .help = "refuse nothing, only record what would have been refused"},
    {.name = "no-shadow", .member = "shadow", .is_negation = true, .help = "refuse again"},
    REASON_OPTION,
    {0},
};

static const struct ch_cli_column budget_columns[] = {
    {.member = "scope", .title = "Scope", .is_id = true},
    {.member = "period", .title = "Period"},
    {.member = "cap_usd", .title = "Budget USD", .format = CH_CLI_AS_USD},
    {.member = "cap_nano_usd", .title = "Budget nano-USD", .is_detail = true},
    {.member = "spent_usd", .title = "Spent USD", .format = CH_CLI_AS_USD},
    {.member = "spent_nano_usd", .title = "Spent nano-USD", .is_detail = true},
    {.member = "reserved_usd", .title = "Reserved USD", .format = CH_CLI_AS_USD},
    {.member = "reserved_nano_usd", .title = "Reserved nano-USD", .is_detail = true},
    {.member = "percent", .title = "Spent %", .format = CH_CLI_AS_COUNT},
    {.member = "resets_at", .title = "Resets (UTC)", .format = CH_CLI_AS_TIME},
    {.member = "mode", .title = "Mode"},
    {.member = "shadow", .title = "Only watches", .format = CH_CLI_AS_YESNO},
    {.member = "time_zone", .title = "Time zone", .is_detail = true},
    {.member = "alerts", .title = "Alerts at %", .is_detail = true},
    {.member = "on_exhausted", .title = "On exhausted", .is_detail = true},
    {.member = "created_at", .title = "Created", .format = CH_CLI_AS_TIME, .is_detail = true},
    {.member = "updated_at", .title = "Changed", .format = CH_CLI_AS_TIME, .is_detail = true},
    {0},
};
static const struct ch_cli_column budget_deleted_columns[] = {
    {.member = "scope", .title = "Scope", .is_id = true},
    {.member = "period", .title = "Period"},
    {.member = "deleted", .title = "Deleted", .format = CH_CLI_AS_YESNO},
    {0},
};
static const struct ch_cli_column budget_alert_columns[] = {
    {.member = "at", .title = "Time", .format = CH_CLI_AS_TIME},
    {.member = "scope", .title = "Scope", .is_id = true},
    {.member = "period", .title = "Period"},
    {.member = "percent", .title = "Reached %", .format = CH_CLI_AS_COUNT},
    {.member = "spent_usd", .title = "Spent USD", .format = CH_CLI_AS_USD},
    {.member = "spent_nano_usd", .title = "Spent nano-USD", .is_detail = true},
    {.member = "cap_usd", .title = "Budget USD", .format = CH_CLI_AS_USD},
    {.member = "cap_nano_usd", .title = "Budget nano-USD", .is_detail = true},
    {.member = "period_start", .title = "Period from", .is_detail = true},
    {0},
};

#define GROUP_COLUMNS \
    {.member = "name", .title = "Name", .is_id = true}, \
    {.member = "keys", .title = "Keys", .format = CH_CLI_AS_COUNT}, \
    {.member = "spent_this_month_usd", .title = "This month USD", .format = CH_CLI_AS_USD}, \
    {.member = "spent_this_month_nano_usd", .title = "This month nano-USD", .is_detail = true}, \
    {.member = "budgets", .title = "Budgets", .format = CH_CLI_AS_BUDGETS}
#define TEAM_COLUMNS \
    GROUP_COLUMNS, \
    {.member = "rpm", .title = "Requests/min", .format = CH_CLI_AS_COUNT}, \
    {.member = "tpm", .title = "Tokens/min", .format = CH_CLI_AS_COUNT}, \
    {.member = "concurrency", .title = "At a time", .format = CH_CLI_AS_COUNT}, \
    {.member = "shadow", .title = "Only watched", .format = CH_CLI_AS_YESNO, .is_detail = true}

static const struct ch_cli_column team_columns[] = {TEAM_COLUMNS, {0}};
static const struct ch_cli_column team_shown_columns[] = {TEAM_COLUMNS, {.member = "key_names", .title = "Names of keys"}, {0}};
static const struct ch_cli_column project_columns[] = {GROUP_COLUMNS, {0}};
static const struct ch_cli_column project_shown_columns[] = {GROUP_COLUMNS, {.member = "key_names", .title = "Names of keys"}, {0}};

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
    {.name = "denied", .help = "only what was refused, and by which rule"},
    {.name = "shadow", .help = "only what a rule would have refused that only watches; with --denied both"},
    {.name = "after", .type = CH_CLI_TEXT, .value = "ID", .help = "only exchanges after this one, oldest first"},
    {.name = "limit", .type = CH_CLI_INT, .value = "N", .help = "at most this many; default 50, at most 10000"},
    {0},
};
static const struct ch_cli_option usage_reprice_options[] = {
    {.name = "from", .type = CH_CLI_TEXT, .value = "WHEN", .is_required = true, .help = "since then: 7d (ago), 2026-11-01, today, yesterday"},
    {.name = "to", .type = CH_CLI_TEXT, .value = "WHEN", .help = "until then, exclusive"},
    {.name = "model", .type = CH_CLI_TEXT, .value = "MODEL", .help = "only this model, sent or served"},
    {.name = "dry-run", .help = "say what would change and change nothing"},
    REASON_OPTION,
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

// ---- capture

#define CAPTURE_SCOPE {.name = "SCOPE", .type = CH_CLI_TEXT, .member = "scope", .help = "key:NAME or team:NAME"}

static const struct ch_cli_column capture_columns[] = {
    {.member = "scope", .title = "Scope", .is_id = true},
    {.member = "since", .title = "Captured since", .format = CH_CLI_AS_TIME},
    {0},
};
static const struct ch_cli_column capture_set_columns[] = {
    {.member = "scope", .title = "Scope", .is_id = true},
    {.member = "captured", .title = "Captured", .format = CH_CLI_AS_YESNO},
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
    {.member = "cache_read_audio_tokens", .title = "Cached audio", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "cache_read_image_tokens", .title = "Cached image", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "video_in_tokens", .title = "Video in", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "video_out_tokens", .title = "Video out", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "audio_ms", .title = "Audio ms", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "characters", .title = "Characters", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "images", .title = "Images", .format = CH_CLI_AS_COUNT, .is_detail = true},
    {.member = "image_width", .title = "Image width", .is_detail = true},
    {.member = "image_height", .title = "Image height", .is_detail = true},
    {.member = "image_quality", .title = "Image quality", .is_detail = true},
    {.member = "side_cost_nano_usd", .title = "Side cost nano-USD", .is_detail = true},
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
    {.member = "rule", .title = "Rule"},
    {.member = "is_corrected", .title = "Corrected", .format = CH_CLI_AS_YESNO, .is_detail = true},
    {0},
};
static const struct ch_cli_column usage_reprice_columns[] = {
    {.member = "catalogue", .title = "Catalogue"},
    {.member = "dry_run", .title = "Dry run", .format = CH_CLI_AS_YESNO},
    {.member = "rows", .title = "Rows", .format = CH_CLI_AS_COUNT},
    {.member = "corrected", .title = "Corrected", .format = CH_CLI_AS_COUNT, .is_id = true},
    {.member = "unpriced", .title = "Without a price", .format = CH_CLI_AS_COUNT},
    {.member = "kept", .title = "Nothing to count", .format = CH_CLI_AS_COUNT},
    {.member = "before_usd", .title = "Before USD", .format = CH_CLI_AS_USD},
    {.member = "before_nano_usd", .title = "Before nano-USD", .is_detail = true},
    {.member = "after_usd", .title = "After USD", .format = CH_CLI_AS_USD},
    {.member = "after_nano_usd", .title = "After nano-USD", .is_detail = true},
    {.member = "difference_usd", .title = "Difference USD", .format = CH_CLI_AS_USD},
    {.member = "difference_nano_usd", .title = "Difference nano-USD", .is_detail = true},
    {0},
};

// ---- price

static const struct ch_cli_option price_show_options[] = {
    {.name = "provider", .type = CH_CLI_PROVIDER, .value = "NAME", .help = "as this provider would be charged"},
    {0},
};
static const struct ch_cli_option price_list_options[] = {
    {.name = "overrides", .help = "the contract prices instead"},
    {0},
};

#define CONTRACT_OPTIONS(from_help) \
    {.name = "provider", .type = CH_CLI_PROVIDER, .value = "NAME", .help = "only for this provider; default: every provider"}, \
    {.name = "from", .type = CH_CLI_TEXT, .value = "WHEN", .help = from_help}

static const struct ch_cli_option price_set_options[] = {
    {.name = "input", .type = CH_CLI_TEXT, .value = "USD", .help = "for a million tokens of input"},
    {.name = "output", .type = CH_CLI_TEXT, .value = "USD", .help = "for a million tokens of output"},
    {.name = "cache-read", .type = CH_CLI_TEXT, .value = "USD", .help = "for a million cached tokens of input"},
    {.name = "cache-write", .type = CH_CLI_TEXT, .value = "USD", .help = "for a million tokens written to the cache for five minutes"},
    {.name = "cache-write-1h", .type = CH_CLI_TEXT, .value = "USD", .help = "for a million tokens written to the cache for an hour"},
    {.name = "reasoning", .type = CH_CLI_TEXT, .value = "USD", .help = "for a million tokens of reasoning, where they have a price of their own"},
    {.name = "audio-input", .type = CH_CLI_TEXT, .value = "USD", .help = "for a million tokens of audio input"},
    {.name = "audio-output", .type = CH_CLI_TEXT, .value = "USD", .help = "for a million tokens of audio output"},
    {.name = "price", .type = CH_CLI_PAIR, .value = "KEY=USD", .is_repeatable = true, .help = "any price by its key in the catalogue, for one unit; KEY= takes the list's price away"},
    CONTRACT_OPTIONS("since when it holds, also in the future; default: now"),
    REASON_OPTION,
    {0},
};
static const struct ch_cli_option price_unset_options[] = {CONTRACT_OPTIONS("only the one that holds since then; default: all of the model's"), REASON_OPTION, {0}};

static const struct ch_cli_option price_import_options[] = {
    {.name = "date", .type = CH_CLI_TEXT, .value = "DAY", .help = "the day of the list, like 2026-08-01; default: today"},
    {.name = "dry-run", .is_local = true, .help = "show what would change and change nothing"},
    {.name = "force", .help = "also a list that looks wrong: prices that change more than tenfold or to zero, half of the models gone"},
    REASON_OPTION,
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
static const struct ch_cli_column price_set_columns[] = {
    {.member = "id", .title = "Id"},
    {.member = "provider", .title = "Provider"},
    {.member = "model", .title = "Model", .is_id = true},
    {.member = "from", .title = "From", .format = CH_CLI_AS_TIME},
    {.member = "input_cost_per_token", .title = "Input /1M", .format = CH_CLI_AS_PRICE},
    {.member = "output_cost_per_token", .title = "Output /1M", .format = CH_CLI_AS_PRICE},
    {.member = "catalogue", .title = "Catalogue"},
    {0},
};
static const struct ch_cli_column price_unset_columns[] = {
    {.member = "model", .title = "Model", .is_id = true},
    {.member = "provider", .title = "Provider"},
    {.member = "removed", .title = "Removed", .format = CH_CLI_AS_COUNT},
    {.member = "catalogue", .title = "Catalogue"},
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

// ---- admin tokens

static const struct ch_cli_option token_create_options[] = {
    {.name = "role", .type = CH_CLI_CHOICE, .value = "ROLE", .choices = "viewer operator admin", .is_required = true, .help = "what it may do: read; also keys, budgets and limits; everything"},
    {.name = "team", .type = CH_CLI_TEXT, .value = "NAME", .help = "only keys and budgets of this team"},
    {.name = "expires", .type = CH_CLI_TEXT, .value = "WHEN", .help = "a span (30d, 12h) or a time (2027-01-31 is its first instant, UTC); default: never"},
    REASON_OPTION,
    {0},
};
static const struct ch_cli_option token_revoke_options[] = {REASON_OPTION, YES_OPTION, {0}};

#define TOKEN_COLUMNS \
    {.member = "name", .title = "Name", .is_id = true}, \
    {.member = "role", .title = "Role"}, \
    {.member = "team", .title = "Team"}, \
    {.member = "status", .title = "Status"}, \
    {.member = "expires_at", .title = "Expires", .format = CH_CLI_AS_TIME}, \
    {.member = "created_at", .title = "Created", .format = CH_CLI_AS_TIME, .is_detail = true}, \
    {.member = "revoked_at", .title = "Revoked", .format = CH_CLI_AS_TIME, .is_detail = true}

static const struct ch_cli_column token_columns[] = {TOKEN_COLUMNS, {0}};
static const struct ch_cli_column token_created_columns[] = {{.member = "token", .title = "Token"}, TOKEN_COLUMNS, {0}};

// ---- audit, vault

static const struct ch_cli_option audit_list_options[] = {
    {.name = "actor", .type = CH_CLI_TEXT, .value = "NAME", .help = "only what this one did"},
    {.name = "action", .type = CH_CLI_TEXT, .value = "ACTION", .help = "only this, such as key.revoke, or key for all of them"},
    {.name = "object", .type = CH_CLI_TEXT, .value = "OBJECT", .help = "only to this, such as key:web or provider:openai"},
    {.name = "from", .type = CH_CLI_TEXT, .value = "WHEN", .help = "since then: 7d (ago), 2026-11-01, today, yesterday"},
    {.name = "to", .type = CH_CLI_TEXT, .value = "WHEN", .help = "until then, exclusive"},
    {.name = "limit", .type = CH_CLI_INT, .value = "N", .help = "at most this many; default 50, at most 10000"},
    {0},
};
static const struct ch_cli_option audit_verify_options[] = {
    {.name = "head", .type = CH_CLI_FILE, .value = "FILE|HASH", .is_local = true, .help = "a head that was kept elsewhere: a file of heads or of log lines, or one hash"},
    {0},
};
static const struct ch_cli_option audit_export_options[] = {
    {.name = "from", .type = CH_CLI_TEXT, .value = "WHEN", .help = "since then: 7d (ago), 2026-11-01, today, yesterday"},
    {.name = "to", .type = CH_CLI_TEXT, .value = "WHEN", .help = "until then, exclusive"},
    {0},
};
static const struct ch_cli_option vault_rekey_options[] = {
    {.name = "new-key-file", .type = CH_CLI_FILE, .value = "FILE", .is_secret = true, .help = "the new master key, in a file that only you can read; the same as --secret-file"},
    REASON_OPTION,
    SECRET_OPTIONS,
    {0},
};

static const struct ch_cli_column audit_columns[] = {
    {.member = "seq", .title = "Row", .is_id = true},
    {.member = "at", .title = "Time", .format = CH_CLI_AS_TIME},
    {.member = "actor", .title = "Actor"},
    {.member = "uid", .title = "Uid", .is_detail = true},
    {.member = "action", .title = "Action"},
    {.member = "object", .title = "Object"},
    {.member = "reason", .title = "Reason"},
    {.member = "before", .title = "Before", .is_detail = true},
    {.member = "after", .title = "After", .is_detail = true},
    {.member = "prev", .title = "Previous hash", .is_detail = true},
    {.member = "hash", .title = "Hash", .is_detail = true},
    {.member = "signature", .title = "Signature", .is_detail = true},
    {0},
};
static const struct ch_cli_column finding_columns[] = {
    {.member = "seq", .title = "Row"},
    {.member = "object", .title = "Object"},
    {.member = "finding", .title = "Finding"},
    {0},
};
static const struct ch_cli_column rekey_columns[] = {
    {.member = "from", .title = "Former master key"},
    {.member = "to", .title = "Master key", .is_id = true},
    {.member = "credentials", .title = "Credentials", .format = CH_CLI_AS_COUNT},
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
        .noun = "reload", .summary = "read the configuration file anew, without a restart",
        .about = "Certificates, limits, time-outs, allowed addresses, pins and the log level change at once, on every thread; connections that are open go on. A file with an error, or with a change that needs a restart, is refused whole and the old settings stay in force. SIGHUP does the same; the log says what came of it.",
        .options = change_options, .operation = "reload", .columns = reload_columns,
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
        .noun = "provider", .verb = "update", .summary = "change what a model without a price does, and whose stored objects are",
        .about = "A key's own choice of what a model without a price does goes before that of its provider. An empty value goes back to the default.",
        .example = "chaperone provider update openai-prod --unknown-model ceiling:15/75\nchaperone provider update openai-prod --unknown-model ''\nchaperone provider update openai-prod --objects shared",
        .positionals = {PROVIDER_NAME}, .options = provider_update_options, .operation = "provider.update", .columns = provider_columns,
    },
    {
        .noun = "provider", .verb = "test", .summary = "ask the provider whether it accepts its key",
        .about = "Sends one free request (the list of models) and waits up to 5 s. Exit code 6 when the provider cannot be used.",
        .positionals = {PROVIDER_NAME}, .operation = "provider.test", .run = ch_cli_run_verdict, .columns = provider_test_columns,
    },
    {
        .noun = "provider", .verb = "disable", .summary = "refuse every request that would go there",
        .about = "In force at once, also when it cannot be stored; exit code 1 then, and the daemon must not be restarted before it could.",
        .positionals = {PROVIDER_NAME}, .options = change_options, .operation = "provider.disable", .columns = provider_columns,
    },
    {
        .noun = "provider", .verb = "enable", .summary = "use it again",
        .positionals = {PROVIDER_NAME}, .options = change_options, .operation = "provider.enable", .columns = provider_columns,
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
                   "chaperone key create batch --provider openai-prod --budget 100/day --budget 1000/month --rpm 600 --map 'gpt-4o=gpt-4o-mini'\n"
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
        .noun = "key", .verb = "update", .summary = "change what a key may do",
        .about = "What is not given stays; an empty value clears. In force when the command returns. Usage rows keep the team and project they were counted for. --budget sets budgets as `budget set` does.",
        .example = "chaperone key update web --models 'gpt-4o-mini,o4-mini' --rpm 120\nchaperone key update web --deny-models '' --allow-cidr 10.0.0.0/8 --allow-cidr 192.0.2.7",
        .positionals = {KEY_NAME}, .options = key_update_options, .operation = "key.update", .columns = key_columns,
    },
    {
        .noun = "key", .verb = "rotate", .summary = "give a key a new secret",
        .about = "The new key is printed once, alone, on standard output. Name, policies, budgets and what was spent stay. With --grace the old secret goes on working for so long; without, it is refused at once.",
        .example = "KEY=$(chaperone key rotate web --grace 24h)",
        .positionals = {KEY_NAME}, .options = key_rotate_options, .operation = "key.rotate", .run = ch_cli_run_key_create, .columns = key_created_columns,
    },
    {
        .noun = "key", .verb = "explain", .summary = "say what would become of a request, and why",
        .about = "Runs the checks of a real request in their order, without sending or reserving anything, and goes on behind the one that refuses. Exit code 4 when it would be refused.",
        .example = "chaperone key explain web --model gpt-4o --input-tokens 20000 --output-tokens 1000",
        .positionals = {KEY_NAME}, .options = key_explain_options, .operation = "key.explain", .run = ch_cli_run_key_explain, .columns = explain_columns,
    },
    {
        .noun = "key", .verb = "disable", .summary = "refuse it until it is enabled again",
        .about = "In force at once, also when it cannot be stored; exit code 1 then, and the daemon must not be restarted before it could.",
        .positionals = {KEY_NAME}, .options = key_disable_options, .operation = "key.disable", .columns = key_columns,
    },
    {
        .noun = "key", .verb = "enable", .summary = "accept it again",
        .positionals = {KEY_NAME}, .options = change_options, .operation = "key.enable", .columns = key_columns,
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
        .noun = "budget", .verb = "set", .summary = "limit what may be spent in a period",
        .about = "Makes the budget of this scope and period, or edits it: what is not given stays then, and so does what was spent. Raised or lowered, it holds when the command returns.",
        .example = "chaperone budget set key:web 100/day --tz Europe/Berlin\nchaperone budget set team:search 2000/month --mode strict --alert 50,80,100\nchaperone budget set all 10000/month --shadow",
        .positionals = {SCOPE, {.name = "AMOUNT/PERIOD", .type = CH_CLI_TEXT, .member = "budget", .help = "USD for a day, week, month or in total, such as 100/day"}},
        .options = budget_set_options, .operation = "budget.set", .columns = budget_columns,
    },
    {
        .noun = "budget", .verb = "list", .summary = "all budgets, with what is spent and held of them",
        .example = "chaperone budget list --scope team",
        .options = budget_list_options, .operation = "budget.list", .columns = budget_columns,
        .empty = "There is no such budget. Set one: chaperone budget set all 1000/month",
    },
    {
        .noun = "budget", .verb = "show", .summary = "the budgets of one scope",
        .example = "chaperone budget show key:web",
        .positionals = {SCOPE}, .operation = "budget.show", .columns = budget_columns,
    },
    {
        .noun = "budget", .verb = "delete", .summary = "remove a budget and the record of its alerts",
        .example = "chaperone budget delete key:web day",
        .positionals = {SCOPE, {.name = "PERIOD", .type = CH_CLI_CHOICE, .choices = "day week month total", .member = "period", .help = "which of its budgets"}},
        .options = budget_delete_options, .operation = "budget.delete", .columns = budget_deleted_columns,
        .confirm = "Delete this budget of %s?",
    },
    {
        .noun = "budget", .verb = "alerts", .summary = "thresholds that were reached, newest first",
        .example = "chaperone budget alerts --limit 10",
        .options = budget_alerts_options, .operation = "budget.alerts", .columns = budget_alert_columns,
        .empty = "No budget has reached a threshold.",
    },
    {
        .noun = "team", .verb = "list", .summary = "all teams: keys, spend this month (UTC), budgets, limits",
        .about = "A team is a name that keys, budgets or limits give; nothing has to be created first.",
        .example = "chaperone team list",
        .operation = "team.list", .columns = team_columns,
        .empty = "No key names a team.",
    },
    {
        .noun = "team", .verb = "show", .summary = "one team, and the names of its keys",
        .example = "chaperone team show search -o json",
        .positionals = {{.name = "NAME", .type = CH_CLI_TEXT, .member = "name", .help = "the team's name"}},
        .operation = "team.show", .columns = team_shown_columns,
    },
    {
        .noun = "team", .verb = "set", .summary = "limit the rate of all keys of a team together",
        .about = "What is not given stays; 0 or an empty value is no limit. Keys keep their own limits beside it. In force when the command returns.",
        .example = "chaperone team set search --rpm 600 --tpm 500000 --concurrency 40",
        .positionals = {{.name = "NAME", .type = CH_CLI_TEXT, .member = "name", .help = "the team's name"}},
        .options = team_set_options, .operation = "team.set", .columns = team_shown_columns,
    },
    {
        .noun = "project", .verb = "list", .summary = "all projects: keys, spend this month (UTC), budgets",
        .example = "chaperone project list",
        .operation = "project.list", .columns = project_columns,
        .empty = "No key names a project.",
    },
    {
        .noun = "project", .verb = "show", .summary = "one project, and the names of its keys",
        .example = "chaperone project show chat",
        .positionals = {{.name = "NAME", .type = CH_CLI_TEXT, .member = "name", .help = "the project's name"}},
        .operation = "project.show", .columns = project_shown_columns,
    },
    {
        .noun = "usage", .verb = "summary", .summary = "requests, tokens and cost, summed",
        .example = "chaperone usage summary --by team,model --from 30d",
        .options = usage_summary_options, .operation = "usage.summary", .columns = usage_summary_columns,
        .empty = "Nothing was used in this time.",
    },
    {
        .noun = "usage", .verb = "list", .summary = "single exchanges, newest first",
        .about = "A cost that was corrected is shown as it is now. Refused requests stand here too, with the rule that refused them.",
        .example = "chaperone usage list --key web --from today\nchaperone usage list --denied --from 1d\nchaperone usage list -o json | jq '.items[].cost_usd'",
        .options = usage_list_options, .operation = "usage.list", .columns = usage_columns,
        .empty = "Nothing was used in this time.",
    },
    {
        .noun = "usage", .verb = "show", .summary = "one exchange, and its bodies where they were captured",
        .about = "Bodies were scrubbed before they were stored. The id is what x-chaperone-request-id told the client.",
        .example = "chaperone usage show req_0Bd8YqJ3xZa -o json | jq -r .request_body",
        .positionals = {{.name = "ID", .type = CH_CLI_TEXT, .member = "id", .help = "the request id, req_…"}},
        .operation = "usage.show", .run = ch_cli_run_usage_show,
    },
    {
        .noun = "usage", .verb = "tail", .summary = "exchanges as they happen",
        .about = "Needs the daemon. With -o json every exchange is one line.",
        .options = usage_tail_options, .operation = "usage.list", .run = ch_cli_run_usage_tail, .columns = usage_columns,
    },
    {
        .noun = "usage", .verb = "reprice", .summary = "price rows anew by the catalogue in force",
        .about = "Recomputes rows from the tokens they hold and the prices that held when they began, and puts a correction behind each one whose cost differs; a row itself is never edited. Lists, sums and later reports show the corrected cost. Costs that a provider stated stay, and so does what other models cost that worked for an exchange (a search, a fallback).",
        .example = "chaperone usage reprice --from 2026-11-01 --model gpt-4o --dry-run\nchaperone usage reprice --from 30d --reason 'contract of November'",
        .options = usage_reprice_options, .operation = "usage.reprice", .columns = usage_reprice_columns,
    },
    {
        .noun = "capture", .verb = "enable", .summary = "keep the bodies of a key's or a team's exchanges, scrubbed",
        .about = "In force from the next exchange on. The configuration's `capture.bodies: on` keeps those of every exchange. `usage show` displays them; docs/capture.md says what is never kept.",
        .example = "chaperone capture enable key:web --reason 'support case'",
        .positionals = {CAPTURE_SCOPE}, .options = change_options, .operation = "capture.enable", .columns = capture_set_columns,
    },
    {
        .noun = "capture", .verb = "disable", .summary = "stop keeping them; what is kept stays until its retention is over",
        .positionals = {CAPTURE_SCOPE}, .options = change_options, .operation = "capture.disable", .columns = capture_set_columns,
    },
    {
        .noun = "capture", .verb = "list", .summary = "whose bodies are kept",
        .operation = "capture.list", .columns = capture_columns,
        .empty = "No key's or team's bodies are kept on their own account.",
    },
    {
        .noun = "price", .verb = "list", .summary = "the catalogue in force",
        .example = "chaperone price list gpt-4o\nchaperone price list --overrides",
        .positionals = {{.name = "PATTERN", .member = "pattern", .type = CH_CLI_TEXT, .is_optional = true, .help = "part of a model's name"}},
        .options = price_list_options, .operation = "price.list", .run = ch_cli_run_price_list, .columns = price_columns,
        .empty = "No model in the catalogue is called so.",
    },
    {
        .noun = "price", .verb = "show", .summary = "every price of one model, in USD a unit",
        .positionals = {{.name = "MODEL", .member = "model", .type = CH_CLI_TEXT, .help = "a model's name"}},
        .options = price_show_options, .operation = "price.show",
    },
    {
        .noun = "price", .verb = "set", .summary = "put a contract price over the list",
        .about = "What is not given stays as the list has it. Prices are USD for a million tokens. A contract price for one provider goes before one for every provider, and a later one before an earlier one; requests are charged by the one that holds when they begin. Rows from before it was set are corrected by `usage reprice`.",
        .example = "chaperone price set gpt-4o --provider openai-prod --input 2.00 --output 8.00 --cache-read 1.00 --from 2026-12-01\n"
                   "chaperone price set my-own-model --input 0.20 --output 0.60\n"
                   "chaperone price set dall-e-3 --price output_cost_per_image=0.035",
        .positionals = {{.name = "MODEL", .member = "model", .type = CH_CLI_TEXT, .help = "a model's name, with the provider's prefix or without"}},
        .options = price_set_options, .operation = "price.set", .columns = price_set_columns,
    },
    {
        .noun = "price", .verb = "unset", .summary = "take contract prices away again",
        .example = "chaperone price unset gpt-4o --provider openai-prod",
        .positionals = {{.name = "MODEL", .member = "model", .type = CH_CLI_TEXT, .help = "a model's name, as it was set"}},
        .options = price_unset_options, .operation = "price.unset", .columns = price_unset_columns,
    },
    {
        .noun = "price", .verb = "import", .summary = "put a new price list in force",
        .about = "FILE is LiteLLM's model_prices_and_context_window.json or a catalogue (schema chaperone.prices/1). Shows what changes, and refuses a list that looks wrong. Contract prices stay over it. With --out neither daemon nor database is needed.",
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
        .noun = "audit", .verb = "list", .summary = "who changed what, newest first",
        .example = "chaperone audit list --action key.revoke --from 30d\nchaperone audit list --object provider:openai -o json",
        .options = audit_list_options, .operation = "audit.list", .columns = audit_columns,
        .empty = "Nothing of the kind is recorded.",
    },
    {
        .noun = "audit", .verb = "verify", .summary = "prove that the audit log is whole, and the database as it says",
        .about = "Checks every row's number, hash, link and signature, the heads beside the database, and that providers and keys are as the log left them. With --head also against what was kept elsewhere, which alone detects that database and heads file were rolled back together. Exit code 6 with findings.",
        .example = "chaperone audit verify --head /mnt/elsewhere/chaperone.db.audit-heads\njournalctl -u chaperone | grep audit_head | tail -1 > head && chaperone audit verify --head head",
        .options = audit_verify_options, .operation = "audit.verify", .run = ch_cli_run_audit_verify, .columns = finding_columns,
    },
    {
        .noun = "audit", .verb = "export", .summary = "every row, oldest first, as JSON lines",
        .example = "chaperone audit export > audit.jsonl",
        .options = audit_export_options, .operation = "audit.list", .run = ch_cli_run_audit_export, .columns = audit_columns,
    },
    {
        .noun = "vault", .verb = "rekey", .summary = "seal every secret anew, under another master key",
        .about = "In one transaction, while the daemon serves. Afterwards the database needs the new key: put it where the configuration says before the next start (docs/operations.md). Until you have, keep both.",
        .example = "(umask 077 && openssl rand -hex 32 > new.key)\nchaperone vault rekey --new-key-file new.key && mv new.key master.key",
        .options = vault_rekey_options, .operation = "vault.rekey", .columns = rekey_columns,
        .secret_member = "new_key", .secret_prompt = "New master key: ",
        .done = "Done. Put the new key where the configuration says: the next start needs it.",
    },
    {
        .noun = "admin-token", .verb = "create", .summary = "let another machine manage this daemon",
        .about = "The token is printed once, alone, on standard output, and stored only as a salted hash. It is for the admin listener (admin.listen in the configuration), never for applications.",
        .example = "(umask 077 && chaperone admin-token create ci --role operator --team search --expires 30d > token)\n"
                   "chaperone key list --admin https://gateway.example:8081 --admin-token-file token",
        .positionals = {{.name = "NAME", .member = "name", .type = CH_CLI_TEXT, .help = "what to call it: 1-64 of letters, digits, '.', '_' and '-'; stands in the audit log"}},
        .options = token_create_options, .operation = "token.create", .run = ch_cli_run_token_create, .columns = token_created_columns,
    },
    {
        .noun = "admin-token", .verb = "list", .summary = "all admin tokens",
        .operation = "token.list", .columns = token_columns,
        .empty = "There is no admin token.",
    },
    {
        .noun = "admin-token", .verb = "revoke", .summary = "refuse it for good, from the next call on",
        .positionals = {{.name = "NAME", .member = "name", .type = CH_CLI_TEXT, .help = "the token's name"}},
        .options = token_revoke_options, .operation = "token.revoke", .columns = token_columns,
        .confirm = "Revoke admin token %s for good?",
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
