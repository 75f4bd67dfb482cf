// SPDX-License-Identifier: Apache-2.0
// The command line. One const table (src/app/cli_table.c) drives parsing, help, docs and completion: a new
// command is a row there, and most rows need no code, because the default handler sends the options as
// the arguments of an admin operation and renders the answer by the row's columns.
//
// Data goes to stdout, talk to stderr. Main thread only.
#ifndef CH_APP_CLI_H
#define CH_APP_CLI_H

#include "base/err.h"
#include "base/str.h"

#include <jansson.h>

enum ch_cli_type {
    CH_CLI_FLAG, // takes no value
    CH_CLI_TEXT,
    CH_CLI_INT,
    CH_CLI_CHOICE, // one of `choices`
    CH_CLI_PAIR,   // KEY=VALUE
    CH_CLI_FILE,
    CH_CLI_DIR,
    CH_CLI_KEY,      // the name of a wrapped key: completed from the daemon
    CH_CLI_PROVIDER, // the name of a provider: likewise
};

struct ch_cli_option {
    const char *name; // without "--"; NULL ends an array
    char letter;      // its short form, or 0
    enum ch_cli_type type;
    const char *value; // what help calls the value; NULL for a flag
    const char *help;
    const char *choices; // CH_CLI_CHOICE: words separated by blanks
    const char *member;  // member of the operation's arguments; NULL: the name with '_' for '-'
    bool is_required;
    bool is_repeatable; // becomes an array (pairs: an object)
    bool is_secret;     // one of the ways to give the command's secret
    bool is_local;      // for the command itself, not for the operation
    bool is_negation;   // a flag that sets its member to false
    bool can_be_empty;  // an empty value clears what was set before
};

#define CH_CLI_POSITIONALS_MAX 2
struct ch_cli_positional {
    const char *name; // "NAME"; NULL: none
    enum ch_cli_type type;
    const char *help;
    const char *choices;
    const char *member;
    bool is_optional, is_local;
};

enum ch_cli_format {
    CH_CLI_AS_TEXT,  // strings, lists and objects as they are
    CH_CLI_AS_COUNT, // 12,345
    CH_CLI_AS_USD,   // a decimal string; null: "unpriced"
    CH_CLI_AS_PRICE, // USD a unit, shown per million
    CH_CLI_AS_TIME,  // RFC 3339, shown without fraction; null: "never"
    CH_CLI_AS_US,    // microseconds, shown as ms; negative: none
    CH_CLI_AS_SECONDS, // a duration, shown as "3d 4h"
    CH_CLI_AS_BYTES,
    CH_CLI_AS_YESNO,
    CH_CLI_AS_BUDGETS, // a list of them, in a few words each
};

// How one member of an answer is shown. TSV has every column under its member's name; a table leaves out the
// detailed ones.
struct ch_cli_column {
    const char *member; // may be a path: "prices.input_cost_per_token"; NULL ends an array
    const char *title;
    enum ch_cli_format format;
    bool is_detail;
    bool is_id; // what -q prints
};

struct ch_cli;
struct ch_cli_call;
typedef int (*ch_cli_fn)(struct ch_cli *cli, const struct ch_cli_call *call); // gives the exit code

struct ch_cli_command {
    const char *noun, *verb; // verb NULL: the noun is the whole command
    const char *summary;     // one line, no full stop
    const char *about;       // more, or NULL
    const char *example;     // lines without indentation, or NULL
    struct ch_cli_positional positionals[CH_CLI_POSITIONALS_MAX];
    const struct ch_cli_option *options;
    const char *operation; // "key.create", or NULL
    ch_cli_fn run;         // NULL: ask for the operation and render its answer
    const struct ch_cli_column *columns; // NULL: every member
    const char *secret_member, *secret_prompt;
    const char *confirm; // asked on a terminal before anything happens; %s is the first positional
    const char *done;    // said on stderr afterwards; likewise
    const char *empty;   // said on stderr instead of an empty table
};

extern const struct ch_cli_command ch_cli_commands[]; // ends with noun NULL
extern const struct ch_cli_option ch_cli_globals[];   // options of every command

enum ch_cli_exit {
    CH_EXIT_OK = 0,
    CH_EXIT_FAILED = 1,
    CH_EXIT_USAGE = 2,
    CH_EXIT_NOT_FOUND = 3,
    CH_EXIT_NOT_ALLOWED = 4,
    CH_EXIT_CONFLICT = 5,
    CH_EXIT_FINDINGS = 6,
    CH_EXIT_UNREACHABLE = 7,
};
int ch_cli_exit_code(enum ch_err err);

// The whole command line: parses, runs, gives the exit code. The process was initialised (main.c).
int ch_cli_main(int argc, char **argv);

#endif
