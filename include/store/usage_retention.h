// SPDX-License-Identifier: Apache-2.0
// Old usage rows go, their hourly sums stay. Not on a loop thread.
#ifndef CH_STORE_USAGE_RETENTION_H
#define CH_STORE_USAGE_RETENTION_H

#include "store/store.h"

#define CH_USAGE_DROP_BATCH 2000 // rows of one transaction

// Deletes at most a batch of rows of exchanges that began before `before_ms`, but never the newest
// row: ids go on from it. A full batch means that there may be more.
enum ch_err ch_usage_drop_before(struct ch_store *store, int64_t before_ms, int64_t *dropped_out,
                                 struct ch_why *why) CH_MUST_USE;

#endif
