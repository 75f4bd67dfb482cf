// SPDX-License-Identifier: Apache-2.0
// Contract prices over a price list: what the catalogue in force is made of, at the start and after
// each change.
#ifndef CH_ADMIN_CONTRACTS_H
#define CH_ADMIN_CONTRACTS_H

#include "domain/catalogue.h"
#include "store/store.h"

// Gives the list of `base` with the contract prices of the store over it, instead of any that base
// has; NULL where no contract price was ever set, and then `base` is in force as it is. The reason
// names a contract price that cannot be understood.
enum ch_err ch_contracts_apply(struct ch_store *store, const struct ch_catalogue *base,
                               struct ch_catalogue **catalogue_out, struct ch_why *why) CH_MUST_USE;
// The same inside ch_store_write or ch_store_read.
enum ch_err ch_contracts_apply_in(struct ch_db *db, const struct ch_catalogue *base,
                                  struct ch_catalogue **catalogue_out,
                                  struct ch_why *why) CH_MUST_USE;

#endif
