// SPDX-License-Identifier: Apache-2.0
// Usage records into rows and hourly sums, a batch at a time. By the owner of the write connection.
#ifndef CH_STORE_USAGE_INSERT_H
#define CH_STORE_USAGE_INSERT_H

#include "store/db.h"
#include "store/usage_journal.h"

// Rows in one transaction, at most. A larger batch merges more of the hours' sums of many keys in
// memory, but its tables stay resident in an idle daemon.
#define CH_USAGE_BATCH 8192

struct ch_usage_insert; // opaque: sums of the batch at hand, and the ids of texts seen lately

enum ch_err ch_usage_insert_new(struct ch_usage_insert **insert_out) CH_MUST_USE;
void ch_usage_insert_free(struct ch_usage_insert *insert);

// Inside a transaction: adds a row, and at most CH_USAGE_BATCH of them; the last few are written
// by the finish. A row whose id is there already changes nothing, its sums neither.
enum ch_err ch_usage_insert_add(struct ch_usage_insert *insert, struct ch_db *db,
                                const struct ch_usage_record *record,
                                struct ch_why *why) CH_MUST_USE;
// Before the commit: writes the rest of the rows and the sums.
enum ch_err ch_usage_insert_finish(struct ch_usage_insert *insert, struct ch_db *db,
                                   struct ch_why *why) CH_MUST_USE;
// After a rollback: forgets the sums, and the texts that were rolled back.
void ch_usage_insert_reset(struct ch_usage_insert *insert);

#endif
