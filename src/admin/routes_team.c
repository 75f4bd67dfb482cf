// SPDX-License-Identifier: Apache-2.0
// Teams and projects: who they are follows from keys, budgets and limits that name them.
#include "budgets.h"

#include "base/clock.h"
#include "store/limit_store.h"
#include "store/spend_query.h"
#include "store/usage_writer.h"

#include <stdlib.h>

#define GROUPS_MAX 100000 // teams or projects of one answer; about 60 MB of JSON
#define KEYS_MAX   1000   // names of keys of one answer

static enum ch_err out_of_memory(struct ch_why *why)
{
    return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
}

// One kind of group, and what is gathered of it.
struct job {
    struct ch_admin *admin;
    enum ch_budget_scope scope;       // CH_BUDGET_OF_TEAM or CH_BUDGET_OF_PROJECT
    const char *name;                 // the only one wanted; NULL: all
    json_t *groups;                   // by name, in the order of names
    json_t *keys;                     // names of the keys of `name`; NULL: not wanted
    struct ch_team_limits_row limits; // of `team set`
    bool has_limit[CH_RATE_KINDS], has_shadow;
};

// The group of this name, made where it is new; NULL when memory ran out.
static json_t *group_of(const struct job *job, const char *name)
{
    json_t *group = json_object_get(job->groups, name);
    if (group)
        return group;
    group = job->scope == CH_BUDGET_OF_TEAM
                ? json_pack("{s:s, s:i, s:n, s:n, s:n, s:b}", "name", name, "keys", 0, "rpm", "tpm",
                            "concurrency", "shadow", 0)
                : json_pack("{s:s, s:i}", "name", name, "keys", 0);
    return json_object_set_new(job->groups, name, group) ? NULL : group;
}

static bool is_wanted(const struct job *job, const char *name)
{
    return *name && (!job->name || strcmp(job->name, name) == 0);
}

static enum ch_err count_key(void *arg, const struct ch_key_row *row)
{
    struct job *job = arg;
    const char *name = job->scope == CH_BUDGET_OF_TEAM ? row->team : row->project;
    if (!is_wanted(job, name))
        return CH_OK;
    json_t *group = group_of(job, name);
    json_t *count = json_object_get(group, "keys");
    if (!group || json_integer_set(count, json_integer_value(count) + 1))
        return CH_ERR_NOMEM;
    if (!job->keys || json_array_size(job->keys) >= KEYS_MAX)
        return CH_OK;
    return json_array_append_new(job->keys, json_string(row->name)) ? CH_ERR_NOMEM : CH_OK;
}

static enum ch_err note_budget(void *arg, const struct ch_budget_row *row)
{
    const struct job *job = arg;
    if (row->scope != job->scope || !is_wanted(job, row->subject))
        return CH_OK;
    return group_of(job, row->subject) ? CH_OK : CH_ERR_NOMEM;
}

static enum ch_err note_limits(void *arg, const struct ch_team_limits_row *row)
{
    const struct job *job = arg;
    if (!is_wanted(job, row->team))
        return CH_OK;
    json_t *group = group_of(job, row->team);
    bool failed = !group;
    for (int kind = 0; kind < CH_RATE_KINDS && !failed; kind++)
        if (row->limits.limit[kind])
            failed = json_object_set_new(group, ch_rate_kind_name((enum ch_rate_kind)kind),
                                         json_integer(row->limits.limit[kind])) != 0;
    return failed || json_object_set_new(group, "shadow", json_boolean(row->is_shadow))
               ? CH_ERR_NOMEM
               : CH_OK;
}

// Since the first of the month, UTC, and the budgets as they stand.
static enum ch_err add_money(struct job *job, struct ch_db *db, const char *name, json_t *group,
                             struct ch_why *why)
{
    int64_t spent = 0;
    json_t *budgets = json_array();
    struct ch_budget_interval month = ch_budget_interval(CH_BUDGET_MONTH, NULL, ch_clock_wall_ms());
    if (json_object_set_new(group, "budgets", budgets))
        return out_of_memory(why);
    enum ch_err err = ch_spend_since(db, job->scope, 0, name, month.start_ms, &spent, why);
    if (!err && !ch_put_money(group, "spent_this_month", spent))
        err = out_of_memory(why);
    return err ? err : ch_budgets_of(job->admin, db, job->scope, name, budgets, why);
}

static enum ch_err gather(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct job *job = arg;
    const char *name;
    json_t *group;
    enum ch_err err = ch_key_each(db, count_key, job, why);
    if (!err)
        err = ch_budget_each(db, note_budget, job, why);
    if (!err && job->scope == CH_BUDGET_OF_TEAM)
        err = ch_team_limits_each(db, note_limits, job, why);
    if (!err && json_object_size(job->groups) > GROUPS_MAX)
        err = ch_why_set(why, CH_ERR_LIMIT, "there are more than %d: show them one by one",
                         GROUPS_MAX);
    if (err)
        return err;
    json_object_foreach(job->groups, name, group)
    {
        err = add_money(job, db, name, group, why);
        if (err)
            return err;
    }
    return CH_OK;
}

static enum ch_err run(struct job *job, struct ch_why *why)
{
    ch_usage_writer_flush(job->admin->store);
    job->groups = json_object();
    return job->groups ? ch_store_read(job->admin->store, gather, job, why) : out_of_memory(why);
}

// ---- list

static int compare_names(const void *a, const void *b)
{
    return strcmp(json_string_value(json_object_get(*(json_t *const *)a, "name")),
                  json_string_value(json_object_get(*(json_t *const *)b, "name")));
}

// The values of the object in the order of their names.
static json_t *sorted(json_t *groups)
{
    size_t count = json_object_size(groups), at = 0;
    const char *name;
    json_t *group, *items = json_array();
    json_t **places = ch_zcalloc(count + 1, sizeof *places);
    json_object_foreach(groups, name, group)
    {
        if (places)
            places[at++] = group;
    }
    if (places)
        qsort(places, at, sizeof *places, compare_names);
    bool failed = !places || !items;
    for (size_t i = 0; i < at && !failed; i++)
        failed = json_array_append(items, places[i]) != 0;
    ch_zfree(places);
    if (!failed)
        return items;
    json_decref(items);
    return NULL;
}

static enum ch_err list(struct ch_admin *admin, enum ch_budget_scope scope, const char *schema,
                        json_t **result_out, struct ch_why *why)
{
    struct job job = {.admin = admin, .scope = scope};
    enum ch_err err = run(&job, why);
    json_t *items = err ? NULL : sorted(job.groups);
    json_decref(job.groups);
    return err ? err
               : ch_route_give(json_pack("{s:s, s:o}", "schema", schema, "items", items),
                               result_out, why);
}

enum ch_err ch_route_team_list(struct ch_admin *admin, const json_t *arguments, json_t **result_out,
                               struct ch_why *why)
{
    (void)arguments;
    return list(admin, CH_BUDGET_OF_TEAM, "chaperone.team_list/1", result_out, why);
}

enum ch_err ch_route_project_list(struct ch_admin *admin, const json_t *arguments,
                                  json_t **result_out, struct ch_why *why)
{
    (void)arguments;
    return list(admin, CH_BUDGET_OF_PROJECT, "chaperone.project_list/1", result_out, why);
}

// ---- show

static enum ch_err give_group(struct job *job, const char *schema, json_t **result_out,
                              struct ch_why *why)
{
    job->keys = json_array();
    if (!job->keys)
        return out_of_memory(why);
    enum ch_err err = run(job, why);
    json_t *group = err ? NULL : json_object_get(job->groups, job->name);
    if (!err && !group)
        err = ch_why_set(why, CH_ERR_NOT_FOUND, "no key, budget or limit names %s %s",
                         ch_budget_scope_name(job->scope), job->name);
    if (!err && (json_object_set_new(group, "schema", json_string(schema)) ||
                 json_object_set(group, "key_names", job->keys)))
        err = out_of_memory(why);
    if (!err)
        err = ch_route_give(json_incref(group), result_out, why);
    json_decref(job->groups);
    json_decref(job->keys);
    return err;
}

static enum ch_err show(struct ch_admin *admin, const json_t *arguments, enum ch_budget_scope scope,
                        const char *schema, json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct job job = {.admin = admin, .scope = scope};
    ch_input_init(&input, arguments, why);
    job.name = ch_input_name(&input, "name", true);
    return input.err ? input.err : give_group(&job, schema, result_out, why);
}

enum ch_err ch_route_team_show(struct ch_admin *admin, const json_t *arguments, json_t **result_out,
                               struct ch_why *why)
{
    return show(admin, arguments, CH_BUDGET_OF_TEAM, "chaperone.team/1", result_out, why);
}

enum ch_err ch_route_project_show(struct ch_admin *admin, const json_t *arguments,
                                  json_t **result_out, struct ch_why *why)
{
    return show(admin, arguments, CH_BUDGET_OF_PROJECT, "chaperone.project/1", result_out, why);
}

// ---- set

// What is not said stays. A team without any limit has no row.
static enum ch_err set_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct job *job = arg;
    struct ch_team_limits_row row = {.is_shadow = false};
    enum ch_err found = ch_team_limits_get(db, job->name, &row, why);
    if (found && found != CH_ERR_NOT_FOUND)
        return found;
    ch_span_copy(ch_span_of(job->name), row.team, sizeof row.team);
    for (int kind = 0; kind < CH_RATE_KINDS; kind++)
        if (job->has_limit[kind])
            row.limits.limit[kind] = job->limits.limits.limit[kind];
    if (job->has_shadow)
        row.is_shadow = job->limits.is_shadow;
    job->limits = row;
    if (ch_rate_limits_are_set(&row.limits))
        return ch_team_limits_put(db, &job->limits, why);
    return found ? CH_OK : ch_team_limits_delete(db, job->name, why);
}

static void read_set(struct ch_input *input, struct job *job)
{
    bool says_any = false;
    job->name = ch_input_name(input, "name", true);
    for (int kind = 0; kind < CH_RATE_KINDS; kind++) {
        job->has_limit[kind] = ch_input_limit(input, ch_rate_kind_name((enum ch_rate_kind)kind),
                                              &job->limits.limits.limit[kind]);
        says_any |= job->has_limit[kind];
    }
    job->has_shadow = ch_input_has(input, "shadow");
    job->limits.is_shadow = ch_input_bool(input, "shadow", false);
    if (!says_any && !job->has_shadow)
        ch_input_fail(input, "there is nothing to set: give --rpm, --tpm, --concurrency or "
                             "--shadow");
}

// What the team has now; a team that only had limits, and has none any more, is still shown.
static enum ch_err give_team(struct job *job, json_t **result_out, struct ch_why *why)
{
    const char *name = job->name;
    enum ch_err err = give_group(job, "chaperone.team/1", result_out, why);
    if (err != CH_ERR_NOT_FOUND)
        return err;
    return ch_route_give(json_pack("{s:s, s:s, s:i, s:n, s:n, s:n, s:b, s:[], s:[]}", "schema",
                                   "chaperone.team/1", "name", name, "keys", 0, "rpm", "tpm",
                                   "concurrency", "shadow", 0, "budgets", "key_names"),
                         result_out, why);
}

enum ch_err ch_route_team_set(struct ch_admin *admin, const json_t *arguments, json_t **result_out,
                              struct ch_why *why)
{
    struct ch_input input;
    struct job job = {.admin = admin, .scope = CH_BUDGET_OF_TEAM};
    ch_input_init(&input, arguments, why);
    read_set(&input, &job);
    if (input.err)
        return input.err;
    enum ch_err err = ch_route_write(admin, set_in_store, &job, why);
    if (err)
        return err;
    if (admin->registry && (err = ch_registry_put_team_limits(admin->registry, &job.limits)))
        return ch_why_set(why, err,
                          "the limits are stored, but not yet in force: restart the "
                          "daemon");
    return give_team(&job, result_out, why);
}
