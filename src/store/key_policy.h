// SPDX-License-Identifier: Apache-2.0
// The policy of a key, which stands in a table of its own: rows of `key_policies` from and to the
// fields of struct ch_key_row. Private to key_store.c.
#ifndef CH_STORE_KEY_POLICY_H
#define CH_STORE_KEY_POLICY_H

#include "store/db.h"
#include "store/key_store.h"

// CH_ERR_INVALID for a field that cannot be.
enum ch_err ch_key_policy_check(const struct ch_key_row *row, struct ch_why *why) CH_MUST_USE;

// Fills the policy of row->id; the defaults where it has none.
enum ch_err ch_key_policy_get(struct ch_db *db, struct ch_key_row *row,
                              struct ch_why *why) CH_MUST_USE;
// Stores it, or that there is none.
enum ch_err ch_key_policy_put(struct ch_db *db, const struct ch_key_row *row,
                              struct ch_why *why) CH_MUST_USE;

// All policies beside a walk through all keys, both in order of id. A start that fails needs no
// stop.
struct ch_key_policy_walk {
    struct sqlite3_stmt *stmt;
    bool has_row; // one stands ready
};
enum ch_err ch_key_policy_start(struct ch_db *db, struct ch_key_policy_walk *walk,
                                struct ch_why *why) CH_MUST_USE;
// As ch_key_policy_get; ids grow from call to call.
enum ch_err ch_key_policy_next(struct ch_db *db, struct ch_key_policy_walk *walk,
                               struct ch_key_row *row, struct ch_why *why) CH_MUST_USE;
void ch_key_policy_stop(struct ch_key_policy_walk *walk);

#endif
