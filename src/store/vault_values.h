// SPDX-License-Identifier: Apache-2.0
// Values sealed by the vault that are no credentials: the rows of vault_values. Functions run
// inside a transaction.
#ifndef CH_STORE_VAULT_VALUES_H
#define CH_STORE_VAULT_VALUES_H

#include "store/db.h"
#include "store/vault.h"

// CH_ERR_CONFLICT: there is one of this kind.
enum ch_err ch_vault_value_put(struct ch_db *db, const struct ch_vault *vault, struct ch_span kind,
                               struct ch_span plain, struct ch_why *why) CH_MUST_USE;
// The caller wipes `plain_out`. CH_ERR_NOT_FOUND: no such value; CH_ERR_CORRUPT: it does not open.
enum ch_err ch_vault_value_open(struct ch_db *db, struct ch_vault_reader *reader,
                                struct ch_span kind, unsigned char plain_out[CH_VAULT_PLAIN_MAX],
                                size_t *size_out, struct ch_why *why) CH_MUST_USE;
// Which key sealed it. CH_ERR_NOT_FOUND; CH_ERR_CORRUPT: it was not sealed at all.
enum ch_err ch_vault_value_fingerprint(struct ch_db *db, struct ch_span kind,
                                       char out[CH_VAULT_FINGERPRINT + 1],
                                       struct ch_why *why) CH_MUST_USE;
// Seals every value anew: what `reader` opens, by `vault`.
enum ch_err ch_vault_values_reseal(struct ch_db *db, struct ch_vault_reader *reader,
                                   const struct ch_vault *vault, struct ch_why *why) CH_MUST_USE;

#endif
