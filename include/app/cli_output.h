// SPDX-License-Identifier: Apache-2.0
// Answers as people and programs read them: table, TSV, JSON, bare names.
//
// Text in an answer may come from a client (a user agent, a model name): bytes that could steer a terminal
// are replaced in every form but JSON, which escapes them.
#ifndef CH_APP_CLI_OUTPUT_H
#define CH_APP_CLI_OUTPUT_H

#include "app/cli.h"
#include "app/cli_parse.h"

#define CH_CLI_COLUMNS_MAX 64

struct ch_cli_view {
    const struct ch_cli_column *columns; // NULL: every member of a single object
    enum ch_cli_output output;           // not CH_CLI_AUTO
    bool ids_only;
    bool no_header; // continues an earlier answer
    size_t *widths; // of CH_CLI_COLUMNS_MAX columns: a table that continues keeps to them; may be NULL
};

// Renders an answer: a list when it has "items" (its "by" members become the first columns, its "total" the last
// row of a table), else one object (a table: a line a member).
enum ch_err ch_cli_render(struct ch_buf *out, const json_t *answer,
                          const struct ch_cli_view *view) CH_MUST_USE;
// One compact JSON line.
enum ch_err ch_cli_render_line(struct ch_buf *out, const json_t *value) CH_MUST_USE;

#endif
