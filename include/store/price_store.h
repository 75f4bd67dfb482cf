// SPDX-License-Identifier: Apache-2.0
// Imported catalogues: the newest one is in force over the embedded one.
#ifndef CH_STORE_PRICE_STORE_H
#define CH_STORE_PRICE_STORE_H

#include "store/store.h"

enum ch_err ch_price_store_put(struct ch_db *db, const char *version, struct ch_span prices_json,
                               struct ch_why *why) CH_MUST_USE;
// The newest document, or CH_ERR_NOT_FOUND.
enum ch_err ch_price_store_newest(struct ch_db *db, struct ch_buf *prices_json_out,
                                  struct ch_why *why) CH_MUST_USE;

#endif
