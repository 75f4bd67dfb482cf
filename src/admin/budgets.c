// SPDX-License-Identifier: Apache-2.0
#include "budgets.h"

#include "base/clock.h"
#include "base/money.h"
#include "store/spend_query.h"

#include <stdio.h>

#define ALERT_DEFAULT 80 // percent

// ---- reading

void ch_budget_read(struct ch_input *input, const char *flag, const char *text,
                    struct ch_budget_edit *edit)
{
    if (input->err)
        return;
    enum ch_err err = ch_budget_parse(ch_span_of(text), &edit->cap_nano_usd, &edit->period);
    if (err == CH_ERR_LIMIT)
        ch_input_fail(input, "%s: that is more money than can be counted", flag);
    else if (err)
        ch_input_fail(input,
                      "%s takes AMOUNT/PERIOD: USD with at most nine decimals, and day, week, "
                      "month or total, such as 100/day",
                      flag);
}

void ch_budget_read_mode(struct ch_input *input, const char *member, struct ch_budget_edit *edit)
{
    const char *mode = ch_input_string(input, member, false);
    if (!mode)
        return;
    if (ch_budget_mode_parse(ch_span_of(mode), &edit->mode))
        ch_input_fail(input, "the mode of a budget is one of strict, learned and soft");
    edit->has_mode = true;
}

// ---- storing

static void set_defaults(const struct ch_budget_edit *edit, struct ch_budget_row *row)
{
    *row = (struct ch_budget_row){.scope = edit->scope,
                                  .period = edit->period,
                                  .mode = CH_BUDGET_LEARNED,
                                  .thresholds = {{ALERT_DEFAULT}}};
    memcpy(row->subject, edit->subject, sizeof row->subject);
}

static void apply(const struct ch_budget_edit *edit, struct ch_budget_row *row)
{
    row->cap_nano_usd = edit->cap_nano_usd;
    if (edit->has_mode)
        row->mode = edit->mode;
    if (edit->has_zone)
        memcpy(row->time_zone, edit->time_zone, sizeof row->time_zone);
    if (edit->has_thresholds)
        row->thresholds = edit->thresholds;
    if (edit->has_shadow)
        row->is_shadow = edit->is_shadow;
    if (edit->has_cuts)
        row->cuts_streams = edit->cuts_streams;
}

enum ch_err ch_budget_store(struct ch_db *db, const struct ch_budget_edit *edit,
                            struct ch_budget_row *row_out, struct ch_why *why)
{
    // A subject that is none says so when the row is put.
    enum ch_err err = ch_budget_get(db, edit->scope, edit->subject, edit->period, row_out, why);
    if (err && err != CH_ERR_NOT_FOUND)
        return err;
    if (err)
        set_defaults(edit, row_out);
    apply(edit, row_out);
    return ch_budget_put(db, row_out, why);
}

enum ch_err ch_budget_put_in_force(struct ch_admin *admin, const struct ch_budget_row *row,
                                   struct ch_why *why)
{
    struct ch_why reason = {""};
    enum ch_err err = admin->registry
                          ? ch_registry_put_budget(admin->registry, admin->store, row, &reason)
                          : CH_OK;
    return err ? ch_why_set(why, err,
                            "the budget is stored, but not yet in force (%.200s): restart the "
                            "daemon",
                            reason.text)
               : CH_OK;
}

// ---- showing

void ch_budget_scope_format(enum ch_budget_scope scope, const char *subject,
                            char out[CH_SCOPE_TEXT])
{
    snprintf(out, CH_SCOPE_TEXT, "%s%s%s", ch_budget_scope_name(scope), *subject ? ":" : "",
             subject);
}

bool ch_put_money(json_t *object, const char *name, int64_t nano_usd)
{
    char member[32], text[CH_MONEY_TEXT];
    ch_money_format(nano_usd, text);
    snprintf(member, sizeof member, "%s_usd", name);
    bool done = json_object_set_new(object, member, json_string(text)) == 0;
    snprintf(member, sizeof member, "%s_nano_usd", name);
    return done && json_object_set_new(object, member, json_integer(nano_usd)) == 0;
}

static json_t *thresholds_to_json(const struct ch_budget_thresholds *thresholds)
{
    json_t *percents = json_array();
    bool failed = !percents;
    for (unsigned i = 0; i < CH_BUDGET_THRESHOLDS && !failed; i++)
        if (thresholds->percent[i])
            failed = json_array_append_new(percents, json_integer(thresholds->percent[i])) != 0;
    if (!failed)
        return percents;
    json_decref(percents);
    return NULL;
}

// The counters: those in force, else by the usage rows.
static enum ch_err look(struct ch_admin *admin, struct ch_db *db, const struct ch_budget_row *row,
                        struct ch_budget_view *view, struct ch_why *why)
{
    struct ch_time_zone *zone;
    if (admin->registry && ch_registry_look_budget(admin->registry, row->id, view))
        return CH_OK;
    *view = (struct ch_budget_view){.reserved_nano_usd = 0};
    enum ch_err err = ch_registry_load_zone(row->time_zone, &zone, why);
    if (err)
        return err;
    view->interval = ch_budget_interval(row->period, zone, ch_clock_wall_ms());
    ch_time_zone_free(zone);
    return ch_spend_since(db, row->scope, row->subject_id, row->subject, view->interval.start_ms,
                          &view->spent_nano_usd, why);
}

// Of the cap, rounded down. Nothing of nothing is all of it.
static int64_t percent_of(int64_t spent_nano_usd, int64_t cap_nano_usd)
{
    if (cap_nano_usd == 0)
        return 100;
    __int128 percent = (__int128)spent_nano_usd * 100 / cap_nano_usd;
    return percent > INT64_MAX ? INT64_MAX : (int64_t)percent;
}

enum ch_err ch_budget_to_json(struct ch_admin *admin, struct ch_db *db,
                              const struct ch_budget_row *row, json_t **json_out,
                              struct ch_why *why)
{
    struct ch_budget_view view;
    char scope[CH_SCOPE_TEXT];
    enum ch_err err = look(admin, db, row, &view, why);
    if (err)
        return err;
    ch_budget_scope_format(row->scope, row->subject, scope);
    int64_t end_ms = row->period == CH_BUDGET_TOTAL ? 0 : view.interval.end_ms;
    json_t *json = json_pack(
        "{s:s, s:s, s:I, s:o, s:s, s:s, s:o, s:s, s:b, s:o, s:o}", "scope", scope, "period",
        ch_budget_period_name(row->period), "percent",
        (json_int_t)percent_of(view.spent_nano_usd, row->cap_nano_usd), "resets_at",
        ch_route_time(end_ms), "mode", ch_budget_mode_name(row->mode), "time_zone", row->time_zone,
        "alerts", thresholds_to_json(&row->thresholds), "on_exhausted",
        row->cuts_streams ? "cut" : "finish", "shadow", row->is_shadow, "created_at",
        ch_route_time(row->created_at_ms), "updated_at", ch_route_time(row->updated_at_ms));
    if (!json || !ch_put_money(json, "cap", row->cap_nano_usd) ||
        !ch_put_money(json, "spent", view.spent_nano_usd) ||
        !ch_put_money(json, "reserved", view.reserved_nano_usd)) {
        json_decref(json);
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    }
    *json_out = json;
    return CH_OK;
}

enum ch_err ch_budgets_of(struct ch_admin *admin, struct ch_db *db, enum ch_budget_scope scope,
                          const char *subject, json_t *items, struct ch_why *why)
{
    for (int period = 0; period < CH_BUDGET_PERIODS; period++) {
        struct ch_budget_row row;
        json_t *item;
        enum ch_err err =
            ch_budget_get(db, scope, subject, (enum ch_budget_period)period, &row, NULL);
        if (err == CH_ERR_NOT_FOUND)
            continue;
        if (!err)
            err = ch_budget_to_json(admin, db, &row, &item, why);
        if (!err && json_array_append_new(items, item))
            err = ch_why_set(why, CH_ERR_NOMEM, "out of memory");
        if (err)
            return err;
    }
    return CH_OK;
}
