// SPDX-License-Identifier: Apache-2.0
// Whose bodies are captured although the configuration does not ask for everybody's: keys and teams
// (`capture_scopes`). Functions run inside ch_store_write or ch_store_read.
#ifndef CH_STORE_CAPTURE_SCOPE_H
#define CH_STORE_CAPTURE_SCOPE_H

#include "domain/budget.h"
#include "store/provider_store.h"

struct ch_capture_scope {
    enum ch_budget_scope scope;    // CH_BUDGET_OF_KEY or CH_BUDGET_OF_TEAM
    int64_t key_id;                // of a key
    char subject[CH_NAME_MAX + 1]; // the key's name, or the team's
    int64_t created_at_ms;
};

// Inserts it, or leaves the one that is there; fills `key_id` and the time. CH_ERR_NOT_FOUND: there
// is no such key. CH_ERR_INVALID: another scope, or a name that can be none.
enum ch_err ch_capture_scope_put(struct ch_db *db, struct ch_capture_scope *scope,
                                 struct ch_why *why) CH_MUST_USE;
// Deletes it; fills `key_id`. CH_ERR_NOT_FOUND: there is no such key, or it was not there.
enum ch_err ch_capture_scope_delete(struct ch_db *db, struct ch_capture_scope *scope,
                                    struct ch_why *why) CH_MUST_USE;
// Keys before teams, in order of name.
enum ch_err ch_capture_scope_each(struct ch_db *db,
                                  enum ch_err (*each)(void *arg,
                                                      const struct ch_capture_scope *scope),
                                  void *arg, struct ch_why *why) CH_MUST_USE;

#endif
