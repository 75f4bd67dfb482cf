// SPDX-License-Identifier: Apache-2.0
// Another master key for a database that is in use: every sealed value is opened and sealed anew in
// one transaction, so that at each moment exactly one master key opens all of it.
//
// The order, on the admin thread: start (from now on both keys open), reseal inside the audited
// write, settle, put the re-sealed providers in force, retire. Traffic goes on all the while.
#ifndef CH_STORE_REKEY_H
#define CH_STORE_REKEY_H

#include "store/store.h"

struct ch_rekey;

// CH_ERR_CONFLICT: it is the master key in use.
enum ch_err ch_rekey_start(struct ch_store *store, const struct ch_secret *new_key,
                           struct ch_rekey **rekey_out, struct ch_why *why) CH_MUST_USE;
// A ch_store_write_fn; `rekey` is the argument.
enum ch_err ch_rekey_reseal(struct ch_db *db, void *rekey, struct ch_why *why) CH_MUST_USE;
// The write is over: what is sealed from now on is sealed by the new key, or by the old one again.
void ch_rekey_settle(struct ch_rekey *rekey, bool is_committed);
// No record in memory is sealed by the former key any more: forgets it.
void ch_rekey_retire(struct ch_rekey *rekey);
void ch_rekey_free(struct ch_rekey *rekey);

// The fingerprints of the two keys, and how many credentials were sealed anew.
const char *ch_rekey_from(const struct ch_rekey *rekey);
const char *ch_rekey_to(const struct ch_rekey *rekey);
int64_t ch_rekey_count(const struct ch_rekey *rekey);

#endif
