// SPDX-License-Identifier: Apache-2.0
// Prices: imported catalogues, of which the newest is in force over the embedded one; contract
// prices, which go before a catalogue; corrections of what usage rows were priced at. Functions run
// inside ch_store_write or ch_store_read.
#ifndef CH_STORE_PRICE_STORE_H
#define CH_STORE_PRICE_STORE_H

#include "domain/model_rule.h"
#include "store/provider_store.h"

enum ch_err ch_price_store_put(struct ch_db *db, const char *version, struct ch_span prices_json,
                               struct ch_why *why) CH_MUST_USE;
// The newest document, or CH_ERR_NOT_FOUND.
enum ch_err ch_price_store_newest(struct ch_db *db, struct ch_buf *prices_json_out,
                                  struct ch_why *why) CH_MUST_USE;

// ---- Contract prices

#define CH_PRICE_OVERRIDE_MAX (16 * 1024) // bytes of one JSON object

struct ch_price_override_row {
    int64_t id;
    int64_t provider_id;            // 0: every provider
    char provider[CH_NAME_MAX + 1]; // its name; "": every provider
    char model[CH_MODEL_NAME_MAX + 1];
    struct ch_span prices_json; // in the shape of an entry of conf/prices.json; borrowed
    int64_t valid_from_ms;      // until another of the same provider and model is valid
    int64_t created_at_ms;
};

// Inserts it, or replaces the prices of this provider, model and instant; fills ids and time. That
// the prices can be understood is the caller's care. CH_ERR_NOT_FOUND: no such provider;
// CH_ERR_INVALID: no name of a model; CH_ERR_LIMIT: prices without end.
enum ch_err ch_price_override_put(struct ch_db *db, struct ch_price_override_row *row,
                                  struct ch_why *why) CH_MUST_USE;
// In order of provider id, model and instant, without those of deleted providers.
enum ch_err ch_price_override_each(struct ch_db *db,
                                   enum ch_err (*each)(void *arg,
                                                       const struct ch_price_override_row *row),
                                   void *arg, struct ch_why *why) CH_MUST_USE;
enum ch_err ch_price_override_delete(struct ch_db *db, int64_t id, struct ch_why *why) CH_MUST_USE;
// A number that grows with each change of contract prices: that of the newest row of the audit log
// about one; 0: none.
enum ch_err ch_price_override_revision(struct ch_db *db, int64_t *revision_out,
                                       struct ch_why *why) CH_MUST_USE;

// ---- Corrections

// A usage row's cost is that of its newest correction, where it has one; this appends one and adds
// the difference to the hourly sums. The row itself stays as it is. Does nothing when the cost is
// this one already. CH_ERR_NOT_FOUND: no such row; CH_ERR_INVALID: a cost that can be none;
// CH_ERR_CORRUPT: the row has no hourly sum.
enum ch_err ch_usage_correct(struct ch_db *db, int64_t usage_id, int64_t cost_after_nano_usd,
                             const char *catalogue, struct ch_why *why) CH_MUST_USE;

#endif
