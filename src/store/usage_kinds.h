// SPDX-License-Identifier: Apache-2.0
// What usage rows have in common is stored once: texts (table `texts`), and kinds of rows (table
// `usage_kinds`), of which most are seen again and again. By the owner of the write connection.
// Private to this floor.
#ifndef CH_STORE_USAGE_KINDS_H
#define CH_STORE_USAGE_KINDS_H

#include "store/db.h"
#include "store/usage_journal.h"

struct ch_usage_kinds; // opaque: those seen lately

enum ch_err ch_usage_kinds_new(struct ch_usage_kinds **kinds_out) CH_MUST_USE;
void ch_usage_kinds_free(struct ch_usage_kinds *kinds);

// Inside a transaction: the ids of the record's kind and of the model that was sent.
enum ch_err ch_usage_kinds_find(struct ch_usage_kinds *kinds, struct ch_db *db,
                                const struct ch_usage_record *record, int64_t *kind_id_out,
                                int64_t *model_sent_out, struct ch_why *why) CH_MUST_USE;
// After a rollback, which took back what it had added.
void ch_usage_kinds_forget(struct ch_usage_kinds *kinds);

// Peers choose these bytes: what is not printable ASCII becomes '?', so that rows print anywhere.
struct ch_span ch_usage_clean(struct ch_span text, char out[CH_RECORD_MODEL]);

#endif
