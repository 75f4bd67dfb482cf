// SPDX-License-Identifier: Apache-2.0
// The capture thread: takes what the loops copied, looks for keys in it, scrubs it, applies the
// rules and the operator's program, and keeps what is left in the day files. It also drops what is
// older than its retention, day files and usage rows.
//
// Whatever fails here drops the one captured event, counted and logged once a minute; neither
// accounting nor traffic knows of it. An unscrubbed byte is written nowhere.
#ifndef CH_APP_CAPTURE_H
#define CH_APP_CAPTURE_H

#include "domain/config.h"
#include "proxy/capture.h"
#include "store/store.h"

// Room of the queue between the loops and this thread.
#define CH_CAPTURE_QUEUE_BYTES ((size_t)64 * 1024 * 1024)
#define CH_CAPTURE_QUEUE_COUNT 16384

// What the configuration says, compiled. Immutable.
struct ch_capture_plan;
// The sentence names the pattern or the rule at fault, or the program that cannot be run.
enum ch_err ch_capture_plan_new(const struct ch_config *config, struct ch_capture_plan **plan_out,
                                struct ch_why *why) CH_MUST_USE;
void ch_capture_plan_unref(struct ch_capture_plan *plan); // NULL is fine

struct ch_capturer;
// Takes `plan` on success; borrows the others. After the writer thread has started.
enum ch_err ch_capturer_start(struct ch_store *store, struct ch_capture_queue *queue,
                              const char *directory, struct ch_capture_plan *plan,
                              struct ch_capturer **capturer_out, struct ch_why *why) CH_MUST_USE;
// Takes `plan`: events that are begun from now on follow it.
void ch_capturer_set_plan(struct ch_capturer *capturer, struct ch_capture_plan *plan);
// After the loops have stopped, before the writer does. What waits is kept where that takes no
// longer than 5 s. NULL is fine.
void ch_capturer_stop(struct ch_capturer *capturer);

struct ch_capturer_counts {
    int64_t stored;   // events
    int64_t left_out; // by a rule or by the program's choice
    int64_t dropped;  // by lack of room or by a failure
    int64_t waiting;
    int64_t tripped; // prompts that carried a key
};
void ch_capturer_counts(const struct ch_capturer *capturer,
                        struct ch_capturer_counts *counts_out); // any thread

#endif
