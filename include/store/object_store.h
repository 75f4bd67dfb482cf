// SPDX-License-Identifier: Apache-2.0
// Rows of `objects`: whose the things are that a provider keeps for its account.
//
// An object is known by a keyed 64-bit hash of provider and id (proxy/object_table.h makes it), so
// that no id stands in the database. The first owner stays the owner until the object is
// forgotten. docs/design/008-object-owners.md has the reasons.
#ifndef CH_STORE_OBJECT_STORE_H
#define CH_STORE_OBJECT_STORE_H

#include "store/store.h"
#include "store/usage_journal.h"

// An object is known for so long after it was first seen. OpenAI keeps responses for 30 days.
#define CH_OBJECT_DAYS 30
#define CH_OBJECT_MS   (CH_OBJECT_DAYS * INT64_C(86400000))

struct ch_object_row {
    uint64_t hash;
    int64_t key_id, attribution_id;
    struct ch_span team, project; // of the attribution; borrowed until the callback returns
    int64_t seen_at_ms;
};

// Inside a write: what the record's answer named belongs to the record's key.
enum ch_err ch_object_add(struct ch_db *db, const struct ch_usage_record *record,
                          struct ch_why *why) CH_MUST_USE;
// Inside a read: the newest `limit` ones seen since, the oldest of them first.
enum ch_err ch_object_each(struct ch_db *db, int64_t since_ms, int64_t limit,
                           enum ch_err (*each)(void *arg, const struct ch_object_row *row),
                           void *arg, struct ch_why *why) CH_MUST_USE;
// Forgets those seen before, and all but the newest `limit`.
enum ch_err ch_object_drop(struct ch_store *store, int64_t before_ms, int64_t limit,
                           struct ch_why *why) CH_MUST_USE;

#endif
