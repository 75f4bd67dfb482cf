// SPDX-License-Identifier: Apache-2.0
// Thresholds of budgets that were reached, on their way from the loops into the log and the store.
//
// Loops put events into a bounded queue, under a mutex that is held for the copy of one event; the
// admin thread is woken by a descriptor and takes them out. An event that finds the queue full is
// counted and logged at the next look, and lost to the record, not to the budget.
#ifndef CH_ADMIN_ALERTS_H
#define CH_ADMIN_ALERTS_H

#include "proxy/registry.h"

struct ch_alerts;

// Borrows both for its life. Registers itself with the registry: before the loops run.
enum ch_err ch_alerts_new(struct ch_registry *registry, struct ch_store *store,
                          struct ch_alerts **alerts_out, struct ch_why *why) CH_MUST_USE;
// After the loops have stopped. What is left is recorded first. NULL is fine.
void ch_alerts_free(struct ch_alerts *alerts);

// Readable while something waits.
int ch_alerts_fd(const struct ch_alerts *alerts);
// Records what waits, a log line each. One thread at a time, never a loop thread.
void ch_alerts_drain(struct ch_alerts *alerts);

#endif
