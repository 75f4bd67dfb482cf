// SPDX-License-Identifier: Apache-2.0
#include "store/spend_query.h"

#include "base/id.h"
#include "store/db.h"

#define MS_PER_HOUR INT64_C(3600000)
#define TIME_MAX    INT64_C(253402300799999) // usage_insert.c lets no row start later
#define HOUR_END    (TIME_MAX / MS_PER_HOUR + 1)

// How far the id of a row that is not astray may run ahead of its time: see 0001_initial.sql.
#define ID_AHEAD_MS 10000

struct scope {
    enum ch_budget_scope kind;
    int64_t id;
    const char *name;
};

// ---- whole hours

// The hourly sums of attributions, which a CROSS JOIN looks up one after another by their index.
#define SUM_OF_ATTRIBUTIONS                                                                        \
    "SELECT sum_capped(h.cost_nano_usd) FROM attributions a "                                      \
    "CROSS JOIN usage_hourly h ON h.attribution_id = a.id AND h.hour >= ?1 AND h.hour < ?2 "

// Of the hours in [first, end).
static enum ch_err sum_hours(struct ch_db *db, const struct scope *scope, int64_t first,
                             int64_t end, int64_t *nano_usd_out, struct ch_why *why)
{
    static const char of_key[] = "SELECT sum_capped(cost_nano_usd) FROM usage_hourly "
                                 "WHERE hour >= ?1 AND hour < ?2 AND key_id = ?3";
    static const char of_team[] = SUM_OF_ATTRIBUTIONS "WHERE a.team = ?3";
    static const char of_project[] = SUM_OF_ATTRIBUTIONS "WHERE a.project = ?3";
    static const char of_provider[] = "SELECT sum_capped(cost_nano_usd) FROM usage_hourly "
                                      "WHERE hour >= ?1 AND hour < ?2 AND provider_id = ?3";
    static const char of_all[] = "SELECT sum_capped(cost_nano_usd) FROM usage_hourly "
                                 "WHERE hour >= ?1 AND hour < ?2";
    static const char *const by_scope[CH_BUDGET_SCOPES] = {
        [CH_BUDGET_OF_KEY] = of_key,         [CH_BUDGET_OF_TEAM] = of_team,
        [CH_BUDGET_OF_PROJECT] = of_project, [CH_BUDGET_OF_PROVIDER] = of_provider,
        [CH_BUDGET_OF_ALL] = of_all,
    };
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, by_scope[scope->kind], &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, first);
    ch_db_bind_int(stmt, 2, end);
    if (scope->kind == CH_BUDGET_OF_TEAM || scope->kind == CH_BUDGET_OF_PROJECT)
        ch_db_bind_text(stmt, 3, ch_span_of(scope->name));
    else if (scope->kind != CH_BUDGET_OF_ALL)
        ch_db_bind_int(stmt, 3, scope->id);
    return ch_db_step_int(db, stmt, nano_usd_out, why);
}

// ---- rows

// The parameters ?1 to ?3 of both queries of rows: the scope's kind, id and name.
#define FILTER                                                                                     \
    "CASE ?1 WHEN 'key' THEN u.key_id = ?2 "                                                       \
    "WHEN 'team' THEN u.attribution_id IN (SELECT id FROM attributions WHERE team = ?3) "          \
    "WHEN 'project' THEN u.attribution_id IN (SELECT id FROM attributions WHERE project = ?3) "    \
    "WHEN 'provider' THEN u.provider_id = ?2 ELSE 1 END "
#define COST                                                                                       \
    "coalesce((SELECT c.cost_after_nano_usd FROM usage_corrections c WHERE c.usage_id = u.id "     \
    "ORDER BY c.id DESC LIMIT 1), u.cost_nano_usd, 0) "
// The condition of the index usage_astray, word for word.
#define IS_ASTRAY "(u.id >> 22) - u.started_at_ms NOT BETWEEN -1735689600000 AND -1735689590000 "

static void bind_scope(struct sqlite3_stmt *stmt, const struct scope *scope)
{
    ch_db_bind_text(stmt, 1, ch_span_of(ch_budget_scope_name(scope->kind)));
    ch_db_bind_int(stmt, 2, scope->id);
    ch_db_bind_text(stmt, 3, ch_span_of(scope->name));
}

// Of the rows that started in [from, to).
static enum ch_err sum_rows(struct ch_db *db, const struct scope *scope, int64_t from, int64_t to,
                            int64_t *nano_usd_out, struct ch_why *why)
{
    static const char sql[] =
        "SELECT sum_capped(cost) FROM ("
        "SELECT " COST "AS cost FROM usage u WHERE u.id BETWEEN ?6 AND ?7 "
        "AND u.started_at_ms >= ?4 AND u.started_at_ms < ?5 AND NOT (" IS_ASTRAY ") AND " FILTER
        "UNION ALL "
        "SELECT " COST "FROM usage u WHERE u.started_at_ms >= ?4 AND u.started_at_ms < ?5 "
        "AND " IS_ASTRAY "AND " FILTER ")";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    bind_scope(stmt, scope);
    ch_db_bind_int(stmt, 4, from);
    ch_db_bind_int(stmt, 5, to);
    ch_db_bind_int(stmt, 6, ch_id_floor(from));
    ch_db_bind_int(stmt, 7, ch_id_floor(to + ID_AHEAD_MS));
    return ch_db_step_int(db, stmt, nano_usd_out, why);
}

static enum ch_err sum_rows_from_id(struct ch_db *db, const struct scope *scope, int64_t from,
                                    int64_t first_id, int64_t *nano_usd_out, struct ch_why *why)
{
    static const char sql[] = "SELECT sum_capped(" COST ") FROM usage u "
                              "WHERE u.id >= ?4 AND u.started_at_ms >= ?5 AND " FILTER;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    bind_scope(stmt, scope);
    ch_db_bind_int(stmt, 4, first_id);
    ch_db_bind_int(stmt, 5, from);
    return ch_db_step_int(db, stmt, nano_usd_out, why);
}

// ---- both

static int64_t clamp(int64_t value, int64_t max)
{
    return value < 0 ? 0 : value < max ? value : max;
}

static int64_t add_saturated(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

// Of the part of an hour from `from` on. The hour's sum tells cheaply when there is nothing to
// read.
static enum ch_err sum_part(struct ch_db *db, const struct scope *scope, int64_t from,
                            int64_t *nano_usd_out, struct ch_why *why)
{
    int64_t hour = from / MS_PER_HOUR;
    enum ch_err err = sum_hours(db, scope, hour, hour + 1, nano_usd_out, why);
    if (err || *nano_usd_out == 0)
        return err;
    return sum_rows(db, scope, from, (hour + 1) * MS_PER_HOUR, nano_usd_out, why);
}

static enum ch_err sum_since(struct ch_db *db, const struct scope *scope, int64_t from_ms,
                             int64_t *nano_usd_out, struct ch_why *why)
{
    int64_t from = clamp(from_ms, TIME_MAX + 1), part = 0, rest = 0;
    bool is_inside = from % MS_PER_HOUR != 0;
    enum ch_err err = sum_hours(db, scope, from / MS_PER_HOUR + is_inside, HOUR_END, &rest, why);
    if (!err && is_inside)
        err = sum_part(db, scope, from, &part, why);
    if (!err)
        *nano_usd_out = add_saturated(part, rest);
    return err;
}

enum ch_err ch_spend_since(struct ch_db *db, enum ch_budget_scope scope, int64_t subject_id,
                           const char *subject, int64_t from_ms, int64_t *nano_usd_out,
                           struct ch_why *why)
{
    struct scope of = {scope, subject_id, subject};
    return sum_since(db, &of, from_ms, nano_usd_out, why);
}

enum ch_err ch_spend_since_before(struct ch_db *db, enum ch_budget_scope scope, int64_t subject_id,
                                  const char *subject, int64_t from_ms, int64_t before_id,
                                  int64_t *nano_usd_out, struct ch_why *why)
{
    struct scope of = {scope, subject_id, subject};
    int64_t all = 0, later = 0;
    enum ch_err err = sum_since(db, &of, from_ms, &all, why);
    if (!err)
        err = sum_rows_from_id(db, &of, from_ms, before_id, &later, why);
    if (!err)
        *nano_usd_out = all > later ? all - later : 0;
    return err;
}
