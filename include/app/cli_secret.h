// SPDX-License-Identifier: Apache-2.0
// Reading a secret: by prompt with the echo off, from standard input, a private file or the environment, never
// from argv. The bytes only ever stand in zeroing memory.
#ifndef CH_APP_CLI_SECRET_H
#define CH_APP_CLI_SECRET_H

#include "base/err.h"
#include "base/str.h"

#define CH_CLI_SECRET_MAX 4096 // bytes read; what a secret may be is the handler's to say

struct ch_cli_secret_source {
    bool from_stdin;
    const char *file;        // 0600 or stricter, or a pipe
    const char *file_option; // what a fault calls it; NULL: --secret-file
    const char *environment; // the variable is wiped and unset after reading
    const char *prompt;      // used when none of the others is set
    int in, err;             // descriptors
};

// Fills `secret_out` (the caller's, empty; wiped by its ch_buf_fini) without the final line break.
enum ch_err ch_cli_secret_read(const struct ch_cli_secret_source *source, struct ch_buf *secret_out,
                               struct ch_why *why) CH_MUST_USE;

#endif
