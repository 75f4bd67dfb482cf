// SPDX-License-Identifier: Apache-2.0
// What was spent on a budget's scope since an instant, from the usage rows: what a budget's counter
// begins with at a start, and when the budget is made or changes its time zone.
//
// Exact: whole hours come from the hourly sums, the part of an hour in front of them from the rows.
// Corrections count, rows without a price count 0, and an exchange counts at the instant at which
// it started. What still waits in the journal does not count: ch_usage_writer_flush first.
// Functions run inside ch_store_read.
//
// Cost: the hourly sums of the key or of the attributions of the team or project, by an index
// (about 1 µs each); of a provider and of all, every hourly sum since the instant. Where the
// instant is inside an hour in which the scope spent something, all rows of the rest of that hour
// as well.
#ifndef CH_STORE_SPEND_QUERY_H
#define CH_STORE_SPEND_QUERY_H

#include "domain/budget.h"
#include "store/store.h"

// `subject_id` is read for keys and providers, `subject` for teams and projects. `from_ms` is
// inclusive; anything before 1970 (INT64_MIN of CH_BUDGET_TOTAL) is from the beginning on.
enum ch_err ch_spend_since(struct ch_db *db, enum ch_budget_scope scope, int64_t subject_id,
                           const char *subject, int64_t from_ms, int64_t *nano_usd_out,
                           struct ch_why *why) CH_MUST_USE;

// The same of the rows with an id below `before_id` only. Reads all rows from that id on: meant for
// an id that is seconds or minutes old.
enum ch_err ch_spend_since_before(struct ch_db *db, enum ch_budget_scope scope, int64_t subject_id,
                                  const char *subject, int64_t from_ms, int64_t before_id,
                                  int64_t *nano_usd_out, struct ch_why *why) CH_MUST_USE;

#endif
