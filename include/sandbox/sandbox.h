// SPDX-License-Identifier: Apache-2.0
// The sandbox provider: a stand-in upstream that speaks the three dialects, plain and streamed,
// with deterministic content and usage, and faults by model name (docs/sandbox.md). Teams point CI
// and demos at it and spend nothing; the benchmarks use it as their upstream. Main thread.
#ifndef CH_SANDBOX_SANDBOX_H
#define CH_SANDBOX_SANDBOX_H

#include "base/err.h"

struct ch_sandbox_options {
    const char *listen;      // "127.0.0.1:8090" or "unix:PATH"; port 0 picks one
    unsigned threads;        // 0: one; at most 64; on a Unix socket always one
    const char *api_key;     // the only credential it accepts; NULL: any, or none
    const char *record_path; // appended to: every answer as a JSON line with its usage; NULL: none
};
// Prints "listening on http://ADDRESS" on stdout when ready; runs until SIGTERM or SIGINT, which it
// blocks and waits for. After ch_secret_process_init and ch_net_process_init.
enum ch_err ch_sandbox_run(const struct ch_sandbox_options *options,
                           struct ch_why *why) CH_MUST_USE;

#endif
