// SPDX-License-Identifier: Apache-2.0
// Budgets as the operations of several nouns read, store and show them. Private to the floor.
#ifndef CH_ADMIN_BUDGETS_H
#define CH_ADMIN_BUDGETS_H

#include "input.h"
#include "routes.h"

// What to make of a budget. What is not said stays as it is, or has its default in a new one.
struct ch_budget_edit {
    enum ch_budget_scope scope;
    char subject[CH_NAME_MAX + 1];
    enum ch_budget_period period;
    int64_t cap_nano_usd;
    bool has_mode, has_zone, has_thresholds, has_shadow, has_cuts;
    enum ch_budget_mode mode;
    char time_zone[CH_TIME_ZONE_NAME_MAX + 1]; // one that this system knows
    struct ch_budget_thresholds thresholds;
    bool is_shadow, cuts_streams;
};

// "100/day" of `text`, named `flag` in a fault.
void ch_budget_read(struct ch_input *input, const char *flag, const char *text,
                    struct ch_budget_edit *edit);
void ch_budget_read_mode(struct ch_input *input, const char *member, struct ch_budget_edit *edit);

// Inside ch_route_write.
enum ch_err ch_budget_store(struct ch_db *db, const struct ch_budget_edit *edit,
                            struct ch_budget_row *row_out, struct ch_why *why) CH_MUST_USE;
// Makes a stored row hold on every loop.
enum ch_err ch_budget_put_in_force(struct ch_admin *admin, const struct ch_budget_row *row,
                                   struct ch_why *why) CH_MUST_USE;

// "key:web", "all".
#define CH_SCOPE_TEXT (10 + CH_NAME_MAX)
void ch_budget_scope_format(enum ch_budget_scope scope, const char *subject,
                            char out[CH_SCOPE_TEXT]);
// Nano-USD as the members NAME_usd and NAME_nano_usd of `object`; false when memory ran out.
bool ch_put_money(json_t *object, const char *name, int64_t nano_usd);

// With what was spent and is reserved now. Inside ch_store_read.
enum ch_err ch_budget_to_json(struct ch_admin *admin, struct ch_db *db,
                              const struct ch_budget_row *row, json_t **json_out,
                              struct ch_why *why) CH_MUST_USE;
// The budgets of one scope, shortest period first, appended to the array `items`. Inside
// ch_store_read.
enum ch_err ch_budgets_of(struct ch_admin *admin, struct ch_db *db, enum ch_budget_scope scope,
                          const char *subject, json_t *items, struct ch_why *why) CH_MUST_USE;

#endif
