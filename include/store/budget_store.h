// SPDX-License-Identifier: Apache-2.0
// Rows of `budgets` and of the alerts that fired. Functions run inside ch_store_write or
// ch_store_read. What was spent on a budget is not here: see store/spend_query.h.
#ifndef CH_STORE_BUDGET_STORE_H
#define CH_STORE_BUDGET_STORE_H

#include "domain/budget.h"
#include "store/provider_store.h"

struct ch_budget_row {
    int64_t id;
    enum ch_budget_scope scope;
    int64_t subject_id; // of the key or the provider; 0 for other scopes
    // The name of the key, team, project or provider, as it is now; "" for CH_BUDGET_OF_ALL.
    char subject[CH_NAME_MAX + 1];
    enum ch_budget_period period;
    int64_t cap_nano_usd;
    enum ch_budget_mode mode;
    char time_zone[CH_TIME_ZONE_NAME_MAX + 1]; // an IANA name
    struct ch_budget_thresholds thresholds;
    bool is_shadow;    // refuses nothing, only records what it would have refused
    bool cuts_streams; // when exhausted, also ends exchanges in flight
    int64_t created_at_ms, updated_at_ms;
};

// "80", "50,80,100": at most CH_BUDGET_THRESHOLDS different whole numbers of 1–255, in any order,
// blanks around them; "" is none. CH_ERR_INVALID; CH_ERR_LIMIT for too many.
enum ch_err ch_budget_thresholds_parse(struct ch_span text, struct ch_budget_thresholds *out,
                                       struct ch_why *why) CH_MUST_USE;
// Ascending, each once.
#define CH_BUDGET_THRESHOLDS_TEXT (4 * CH_BUDGET_THRESHOLDS)
void ch_budget_thresholds_format(const struct ch_budget_thresholds *thresholds,
                                 char out[CH_BUDGET_THRESHOLDS_TEXT]);

// Inserts the row, or edits the one of this scope, subject and period, which keeps its id, its
// creation and its alerts. The subject is looked up by its name. Time zone "": UTC; whether the
// system knows the zone is the caller's care. The row is given back as stored, thresholds in order.
// CH_ERR_NOT_FOUND: no such key or provider; CH_ERR_INVALID: a name, cap or zone that can be none.
enum ch_err ch_budget_put(struct ch_db *db, struct ch_budget_row *row,
                          struct ch_why *why) CH_MUST_USE;
// `subject` as in the row. CH_ERR_NOT_FOUND.
enum ch_err ch_budget_get(struct ch_db *db, enum ch_budget_scope scope, const char *subject,
                          enum ch_budget_period period, struct ch_budget_row *row_out,
                          struct ch_why *why) CH_MUST_USE;
// In order of id, without those of deleted providers.
enum ch_err ch_budget_each(struct ch_db *db,
                           enum ch_err (*each)(void *arg, const struct ch_budget_row *row),
                           void *arg, struct ch_why *why) CH_MUST_USE;
// With its alerts. CH_ERR_NOT_FOUND.
enum ch_err ch_budget_delete(struct ch_db *db, enum ch_budget_scope scope, const char *subject,
                             enum ch_budget_period period, int64_t *id_out,
                             struct ch_why *why) CH_MUST_USE;

// ---- Alerts: a threshold that was reached, once per period

struct ch_budget_alert {
    int64_t budget_id;
    int64_t period_start_ms; // INT64_MIN of CH_BUDGET_TOTAL, as ch_budget_interval gives it
    unsigned percent;
    int64_t fired_at_ms;
    int64_t spent_nano_usd, cap_nano_usd; // of that moment
};

// Inserts it unless this threshold has fired in this period, or the budget has been deleted
// meanwhile: then `is_new_out` is false.
enum ch_err ch_budget_note_alert(struct ch_db *db, const struct ch_budget_alert *alert,
                                 bool *is_new_out, struct ch_why *why) CH_MUST_USE;
// The highest threshold that has fired in the period; 0: none.
enum ch_err ch_budget_highest_alert(struct ch_db *db, int64_t budget_id, int64_t period_start_ms,
                                    unsigned *percent_out, struct ch_why *why) CH_MUST_USE;
// The newest first, at most `limit`; with the budget as it is now.
enum ch_err ch_budget_alerts_each(struct ch_db *db, int64_t limit,
                                  enum ch_err (*each)(void *arg,
                                                      const struct ch_budget_alert *alert,
                                                      const struct ch_budget_row *budget),
                                  void *arg, struct ch_why *why) CH_MUST_USE;

#endif
