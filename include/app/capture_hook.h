// SPDX-License-Identifier: Apache-2.0
// The operator's program that every captured event passes: one JSON line in, one JSON line out.
//
// It runs as a child of the daemon with nothing of it: an environment of PATH alone, no descriptors
// but its three (stderr leads nowhere), a process group of its own, and it is killed with the
// thread that started it. It is started when the first event comes. Whatever goes wrong (no answer
// in time, an end, an answer nobody asked for) kills it, with all of its group, and it is started
// again after a pause that doubles from 1 s to 60 s and is forgotten once it answers well. One
// thread; SIGPIPE must be ignored.
#ifndef CH_APP_CAPTURE_HOOK_H
#define CH_APP_CAPTURE_HOOK_H

#include "base/err.h"
#include "base/str.h"

#include <stdatomic.h>

struct ch_capture_hook; // opaque

// `is_stopping` is borrowed: once it is set, nothing takes longer than half a second.
enum ch_err ch_capture_hook_new(const char *program, int64_t timeout_ms,
                                const atomic_bool *is_stopping,
                                struct ch_capture_hook **hook_out) CH_MUST_USE;
void ch_capture_hook_free(struct ch_capture_hook *hook); // kills it; NULL is fine

// Gives the program the line (without its end) and waits for its answer, which is borrowed until
// the next call. CH_ERR_TIMEOUT, CH_ERR_IO (it ended), CH_ERR_LIMIT (the answer is too long),
// CH_ERR_INVALID (it spoke out of turn): it was killed. CH_ERR_UNAVAILABLE: it could not be
// started, or the pause is not over.
enum ch_err ch_capture_hook_ask(struct ch_capture_hook *hook, struct ch_span line,
                                struct ch_span *answer_out) CH_MUST_USE;
// The answer was good, or it made no sense: then the program is killed too.
void ch_capture_hook_judge(struct ch_capture_hook *hook, bool is_good);
// The process id while it runs, else 0.
int ch_capture_hook_pid(const struct ch_capture_hook *hook);

#endif
