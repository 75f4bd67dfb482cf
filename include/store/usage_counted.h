// SPDX-License-Identifier: Apache-2.0
// Usage rows as they were counted, to be priced anew (`usage reprice`). Runs inside ch_store_read
// or ch_store_write.
#ifndef CH_STORE_USAGE_COUNTED_H
#define CH_STORE_USAGE_COUNTED_H

#include "domain/provider.h"
#include "domain/usage.h"
#include "store/store.h"

// A row as far as its price depends on it. Texts are borrowed for the call.
struct ch_usage_counted {
    int64_t id, started_at_ms, provider_id;
    enum ch_provider_type provider_type;
    struct ch_span base_url, model_sent, model_served;
    struct ch_usage usage;      // all of it
    int64_t side_cost_nano_usd; // of other models, whose usage a row does not hold: it stays
    bool is_priced;
    int64_t cost_nano_usd; // as corrected, with the sides; 0 where there is none
    int64_t key_id;
    struct ch_span team, project; // "": none
};
struct ch_usage_span {
    int64_t from_ms, to_ms; // half-open [from, to); to_ms 0: open
    const char *model;      // sent or served; NULL: any
    int64_t after_id;       // only rows with a greater id
    int64_t limit;
};
// Rows that consumed something and whose cost the provider did not state, lowest id first. Without
// what a crash cut off, of which nothing is known.
enum ch_err ch_usage_counted_each(struct ch_db *db, const struct ch_usage_span *span,
                                  enum ch_err (*each)(void *arg,
                                                      const struct ch_usage_counted *row),
                                  void *arg, struct ch_why *why) CH_MUST_USE;

#endif
