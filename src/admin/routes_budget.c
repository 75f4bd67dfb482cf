// SPDX-License-Identifier: Apache-2.0
#include "budgets.h"

#include "store/usage_writer.h"

#define LIST_DEFAULT   1000   // budgets of one answer unless --limit says otherwise
#define LIST_MAX       100000 // about 50 MB of JSON
#define ALERTS_DEFAULT 50     // alerts of one answer unless --limit says otherwise
#define ALERTS_MAX     10000

static enum ch_err out_of_memory(struct ch_why *why)
{
    return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
}

static void need_scope(struct ch_input *input, enum ch_budget_scope *scope, char *subject)
{
    if (!ch_input_scope(input, "scope", scope, subject))
        ch_input_fail(input, "SCOPE is missing: key:NAME, team:NAME, project:NAME, provider:NAME "
                             "or all");
}

// ---- set

struct set_job {
    struct ch_budget_edit edit;
    struct ch_budget_row row;
};

static void read_zone(struct ch_input *input, struct ch_budget_edit *edit)
{
    struct ch_time_zone *zone = NULL;
    struct ch_why reason = {""};
    const char *name = ch_input_string(input, "tz", false);
    if (!name)
        return;
    if (!ch_span_copy(ch_span_of(name), edit->time_zone, sizeof edit->time_zone) ||
        ch_registry_load_zone(edit->time_zone, &zone, &reason))
        ch_input_fail(input, "--tz: %s", *reason.text ? reason.text : "that is no time zone");
    ch_time_zone_free(zone);
    edit->has_zone = true;
}

static void read_alerts(struct ch_input *input, struct ch_budget_edit *edit)
{
    struct ch_why reason = {""};
    const char *text = ch_input_string(input, "alert", false);
    if (!text)
        return;
    if (ch_budget_thresholds_parse(ch_span_of(text), &edit->thresholds, &reason))
        ch_input_fail(input, "--alert: %s", reason.text);
    edit->has_thresholds = true;
}

static void read_set(struct ch_input *input, struct ch_budget_edit *edit)
{
    unsigned choice = 0;
    need_scope(input, &edit->scope, edit->subject);
    const char *budget = ch_input_string(input, "budget", true);
    if (budget)
        ch_budget_read(input, "the budget", budget, edit);
    ch_budget_read_mode(input, "mode", edit);
    read_zone(input, edit);
    read_alerts(input, edit);
    edit->has_cuts = ch_input_words(input, "on_exhausted", "finish cut", &choice);
    edit->cuts_streams = choice == 2;
    if (edit->has_cuts && choice != 1 && choice != 2)
        ch_input_fail(input, "--on-exhausted is finish or cut");
    edit->has_shadow = ch_input_has(input, "shadow");
    edit->is_shadow = ch_input_bool(input, "shadow", false);
}

static enum ch_err set_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct set_job *job = arg;
    return ch_budget_store(db, &job->edit, &job->row, why);
}

struct show_job {
    struct ch_admin *admin;
    const struct ch_budget_row *row;
    json_t *json;
};

static enum ch_err show_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct show_job *job = arg;
    return ch_budget_to_json(job->admin, db, job->row, &job->json, why);
}

static enum ch_err give_budget(struct ch_admin *admin, const struct ch_budget_row *row,
                               json_t **result_out, struct ch_why *why)
{
    struct show_job job = {.admin = admin, .row = row};
    enum ch_err err = ch_store_read(admin->store, show_in_store, &job, why);
    if (err)
        return err;
    if (json_object_set_new(job.json, "schema", json_string("chaperone.budget/1"))) {
        json_decref(job.json);
        return out_of_memory(why);
    }
    return ch_route_give(job.json, result_out, why);
}

enum ch_err ch_route_budget_set(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct set_job job = {.edit = {.cap_nano_usd = 0}};
    ch_input_init(&input, arguments, why);
    read_set(&input, &job.edit);
    if (input.err)
        return input.err;
    enum ch_err err = ch_route_write(admin, set_in_store, &job, why);
    if (!err)
        err = ch_budget_put_in_force(admin, &job.row, why);
    return err ? err : give_budget(admin, &job.row, result_out, why);
}

// ---- list and show

struct list_job {
    struct ch_admin *admin;
    bool has_scope, has_subject;
    enum ch_budget_scope scope;
    char subject[CH_NAME_MAX + 1];
    int64_t limit;
    json_t *items;
    bool is_truncated;
    struct ch_db *db;
    struct ch_why *why;
};

static enum ch_err append_budget(void *arg, const struct ch_budget_row *row)
{
    struct list_job *job = arg;
    json_t *item;
    if ((job->has_scope && row->scope != job->scope) ||
        (job->has_subject && strcmp(row->subject, job->subject) != 0))
        return CH_OK;
    if ((int64_t)json_array_size(job->items) == job->limit) {
        job->is_truncated = true;
        return CH_ERR_AGAIN; // ends the walk
    }
    enum ch_err err = ch_budget_to_json(job->admin, job->db, row, &item, job->why);
    return !err && json_array_append_new(job->items, item) ? CH_ERR_NOMEM : err;
}

static enum ch_err list_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct list_job *job = arg;
    job->db = db;
    job->why = why;
    enum ch_err err = ch_budget_each(db, append_budget, job, why);
    return job->is_truncated ? CH_OK : err;
}

static enum ch_err give_list(struct list_job *job, ch_store_write_fn read, json_t **result_out,
                             struct ch_why *why)
{
    ch_usage_writer_flush(job->admin->store);
    job->items = json_array();
    if (!job->items)
        return out_of_memory(why);
    enum ch_err err = ch_store_read(job->admin->store, read, job, why);
    if (err) {
        json_decref(job->items);
        return err;
    }
    return ch_route_give(json_pack("{s:s, s:o, s:b}", "schema", "chaperone.budget_list/1", "items",
                                   job->items, "truncated", job->is_truncated),
                         result_out, why);
}

// A kind alone ("key") means all of its budgets.
static void read_filter(struct ch_input *input, struct list_job *job)
{
    const char *scope = ch_input_string(input, "scope", false);
    if (!scope)
        return;
    job->has_scope = true;
    if (ch_budget_scope_parse(ch_span_of(scope), &job->scope))
        job->has_subject = ch_input_scope(input, "scope", &job->scope, job->subject);
}

enum ch_err ch_route_budget_list(struct ch_admin *admin, const json_t *arguments,
                                 json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct list_job job = {.admin = admin};
    ch_input_init(&input, arguments, why);
    read_filter(&input, &job);
    job.limit = ch_input_int(&input, "limit", 1, LIST_MAX, LIST_DEFAULT);
    return input.err ? input.err : give_list(&job, list_in_store, result_out, why);
}

static enum ch_err scope_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct list_job *job = arg;
    char scope[CH_SCOPE_TEXT];
    enum ch_err err = ch_budgets_of(job->admin, db, job->scope, job->subject, job->items, why);
    if (err || json_array_size(job->items))
        return err;
    ch_budget_scope_format(job->scope, job->subject, scope);
    return ch_why_set(why, CH_ERR_NOT_FOUND, "%s has no budget", scope);
}

enum ch_err ch_route_budget_show(struct ch_admin *admin, const json_t *arguments,
                                 json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct list_job job = {.admin = admin};
    ch_input_init(&input, arguments, why);
    need_scope(&input, &job.scope, job.subject);
    return input.err ? input.err : give_list(&job, scope_in_store, result_out, why);
}

// ---- delete

struct delete_job {
    enum ch_budget_scope scope;
    char subject[CH_NAME_MAX + 1];
    enum ch_budget_period period;
    int64_t id;
};

static enum ch_err delete_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct delete_job *job = arg;
    return ch_budget_delete(db, job->scope, job->subject, job->period, &job->id, why);
}

enum ch_err ch_route_budget_delete(struct ch_admin *admin, const json_t *arguments,
                                   json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct delete_job job = {.id = 0};
    char scope[CH_SCOPE_TEXT];
    ch_input_init(&input, arguments, why);
    need_scope(&input, &job.scope, job.subject);
    const char *period = ch_input_string(&input, "period", true);
    if (period && ch_budget_period_parse(ch_span_of(period), &job.period))
        ch_input_fail(&input, "the period of a budget is one of day, week, month and total");
    if (input.err)
        return input.err;
    enum ch_err err = ch_route_write(admin, delete_in_store, &job, why);
    if (err)
        return err;
    if (admin->registry)
        ch_registry_drop_budget(admin->registry, job.id);
    ch_budget_scope_format(job.scope, job.subject, scope);
    return ch_route_give(json_pack("{s:s, s:s, s:s, s:b}", "schema", "chaperone.budget_deleted/1",
                                   "scope", scope, "period", ch_budget_period_name(job.period),
                                   "deleted", true),
                         result_out, why);
}

// ---- alerts

struct alerts_job {
    int64_t limit;
    json_t *items;
};

static enum ch_err append_alert(void *arg, const struct ch_budget_alert *alert,
                                const struct ch_budget_row *budget)
{
    struct alerts_job *job = arg;
    char scope[CH_SCOPE_TEXT];
    ch_budget_scope_format(budget->scope, budget->subject, scope);
    int64_t start_ms = budget->period == CH_BUDGET_TOTAL ? 0 : alert->period_start_ms;
    json_t *item =
        json_pack("{s:o, s:s, s:s, s:i, s:o}", "at", ch_route_time(alert->fired_at_ms), "scope",
                  scope, "period", ch_budget_period_name(budget->period), "percent",
                  (int)alert->percent, "period_start", ch_route_time(start_ms));
    if (!item || !ch_put_money(item, "spent", alert->spent_nano_usd) ||
        !ch_put_money(item, "cap", alert->cap_nano_usd)) {
        json_decref(item);
        return CH_ERR_NOMEM;
    }
    return json_array_append_new(job->items, item) ? CH_ERR_NOMEM : CH_OK;
}

static enum ch_err alerts_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct alerts_job *job = arg;
    return ch_budget_alerts_each(db, job->limit, append_alert, job, why);
}

enum ch_err ch_route_budget_alerts(struct ch_admin *admin, const json_t *arguments,
                                   json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    ch_input_init(&input, arguments, why);
    struct alerts_job job = {.limit = ch_input_int(&input, "limit", 1, ALERTS_MAX, ALERTS_DEFAULT)};
    if (input.err)
        return input.err;
    job.items = json_array();
    if (!job.items)
        return out_of_memory(why);
    enum ch_err err = ch_store_read(admin->store, alerts_in_store, &job, why);
    if (err) {
        json_decref(job.items);
        return err;
    }
    return ch_route_give(
        json_pack("{s:s, s:o}", "schema", "chaperone.budget_alerts/1", "items", job.items),
        result_out, why);
}
