// SPDX-License-Identifier: Apache-2.0
#include "store/budget_store.h"

#include "base/clock.h"
#include "store/db.h"

#include <stdio.h>

// ---- thresholds

// One bit for each percentage: sorted and without doubles by itself.
struct percent_set {
    bool has[UINT8_MAX + 1];
};

static unsigned list_percents(const struct percent_set *set, struct ch_budget_thresholds *out)
{
    unsigned count = 0;
    *out = (struct ch_budget_thresholds){{0}};
    for (unsigned percent = 1; percent <= UINT8_MAX; percent++)
        if (set->has[percent] && count++ < CH_BUDGET_THRESHOLDS)
            out->percent[count - 1] = (uint8_t)percent;
    return count;
}

enum ch_err ch_budget_thresholds_parse(struct ch_span text, struct ch_budget_thresholds *out,
                                       struct ch_why *why)
{
    struct percent_set set = {{false}};
    struct ch_budget_thresholds thresholds;
    struct ch_span rest = ch_span_trim(text);
    while (rest.len) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        struct ch_span entry = {rest.ptr, comma ? (size_t)(comma - rest.ptr) : rest.len};
        bool is_last = !comma;
        rest = ch_span_sub(rest, is_last ? entry.len : entry.len + 1);
        int64_t percent;
        if (ch_span_to_int64(ch_span_trim(entry), &percent) || percent < 1 || percent > UINT8_MAX ||
            (!is_last && rest.len == 0))
            return ch_why_set(why, CH_ERR_INVALID,
                              "thresholds are percentages from 1 to %d, separated by commas",
                              UINT8_MAX);
        set.has[percent] = true;
    }
    if (list_percents(&set, &thresholds) > CH_BUDGET_THRESHOLDS)
        return ch_why_set(why, CH_ERR_LIMIT, "a budget has at most %d thresholds",
                          CH_BUDGET_THRESHOLDS);
    *out = thresholds;
    return CH_OK;
}

void ch_budget_thresholds_format(const struct ch_budget_thresholds *thresholds,
                                 char out[CH_BUDGET_THRESHOLDS_TEXT])
{
    struct percent_set set = {{false}};
    struct ch_budget_thresholds sorted;
    size_t used = 0;
    for (unsigned i = 0; i < CH_BUDGET_THRESHOLDS; i++)
        set.has[thresholds->percent[i]] = true;
    list_percents(&set, &sorted);
    out[0] = '\0';
    for (unsigned i = 0; i < CH_BUDGET_THRESHOLDS && sorted.percent[i]; i++)
        used += (size_t)snprintf(out + used, CH_BUDGET_THRESHOLDS_TEXT - used, "%s%u", i ? "," : "",
                                 sorted.percent[i]);
}

// ---- rows

// Names are those of today. Budgets of deleted providers are left out.
#define COLUMNS                                                                                    \
    "b.id, b.scope, b.subject_id, "                                                                \
    "CASE b.scope WHEN 'key' THEN k.name WHEN 'provider' THEN p.name ELSE b.subject END, "         \
    "b.period, b.cap_nano_usd, b.mode, b.time_zone, b.thresholds, b.is_shadow, b.cuts_streams, "   \
    "b.created_at_ms, b.updated_at_ms "
#define COLUMN_COUNT 13
#define NAMES                                                                                      \
    "LEFT JOIN wrapped_keys k ON b.scope = 'key' AND k.id = b.subject_id "                         \
    "LEFT JOIN providers p ON b.scope = 'provider' AND p.id = b.subject_id "                       \
    "AND p.deleted_at_ms IS NULL "                                                                 \
    "WHERE (b.scope <> 'provider' OR p.id IS NOT NULL) "
#define SELECT_BUDGETS "SELECT " COLUMNS "FROM budgets b " NAMES

static enum ch_err read_row(struct sqlite3_stmt *stmt, struct ch_budget_row *row,
                            struct ch_why *why)
{
    *row = (struct ch_budget_row){
        .id = ch_db_int(stmt, 0),
        .subject_id = ch_db_int(stmt, 2),
        .cap_nano_usd = ch_db_int(stmt, 5),
        .is_shadow = ch_db_int(stmt, 9) != 0,
        .cuts_streams = ch_db_int(stmt, 10) != 0,
        .created_at_ms = ch_db_int(stmt, 11),
        .updated_at_ms = ch_db_int(stmt, 12),
    };
    if (ch_budget_scope_parse(ch_db_text(stmt, 1), &row->scope) ||
        !ch_db_copy_text(stmt, 3, row->subject, sizeof row->subject) ||
        ch_budget_period_parse(ch_db_text(stmt, 4), &row->period) ||
        ch_budget_mode_parse(ch_db_text(stmt, 6), &row->mode) ||
        !ch_db_copy_text(stmt, 7, row->time_zone, sizeof row->time_zone) ||
        ch_budget_thresholds_parse(ch_db_text(stmt, 8), &row->thresholds, NULL))
        return ch_why_set(why, CH_ERR_CORRUPT, "the row of budget %lld is damaged",
                          (long long)row->id);
    return CH_OK;
}

static enum ch_err not_found(enum ch_budget_scope scope, const char *subject,
                             enum ch_budget_period period, struct ch_why *why)
{
    return ch_why_set(why, CH_ERR_NOT_FOUND, "there is no budget of %s%s%s for %s%s",
                      ch_budget_scope_name(scope), *subject ? " " : "", subject,
                      period == CH_BUDGET_TOTAL ? "the " : "a ", ch_budget_period_name(period));
}

static enum ch_err find_id(struct ch_db *db, const char *sql, const char *name, int64_t *id_out,
                           struct ch_why *why)
{
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(name));
    return ch_db_step_int(db, stmt, id_out, why);
}

// The id of a key or a provider; 0 for scopes that go by their name.
static enum ch_err find_subject(struct ch_db *db, enum ch_budget_scope scope, const char *name,
                                int64_t *id_out, struct ch_why *why)
{
    static const char key[] = "SELECT id FROM wrapped_keys WHERE name = ?";
    static const char provider[] =
        "SELECT id FROM providers WHERE name = ? AND deleted_at_ms IS NULL";
    enum ch_err err = CH_OK;
    *id_out = 0;
    if (scope == CH_BUDGET_OF_ALL)
        return *name ? ch_why_set(why, CH_ERR_INVALID, "a budget of all has no name") : CH_OK;
    if (!ch_name_is_valid(ch_span_of(name)))
        return ch_why_set(why, CH_ERR_INVALID,
                          "a name has 1 to %d letters, digits, dots, hyphens or underscores",
                          CH_NAME_MAX);
    if (scope == CH_BUDGET_OF_KEY)
        err = find_id(db, key, name, id_out, why);
    if (scope == CH_BUDGET_OF_PROVIDER)
        err = find_id(db, provider, name, id_out, why);
    return err == CH_ERR_NOT_FOUND
               ? ch_why_set(why, err, "there is no %s named %s", ch_budget_scope_name(scope), name)
               : err;
}

static const char *name_of(enum ch_budget_scope scope, const char *subject)
{
    return scope == CH_BUDGET_OF_TEAM || scope == CH_BUDGET_OF_PROJECT ? subject : "";
}

static enum ch_err get(struct ch_db *db, enum ch_budget_scope scope, int64_t subject_id,
                       const char *subject, enum ch_budget_period period,
                       struct ch_budget_row *row_out, struct ch_why *why)
{
    static const char sql[] =
        SELECT_BUDGETS "AND b.scope = ? AND b.subject_id = ? AND b.subject = ? AND b.period = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(ch_budget_scope_name(scope)));
    ch_db_bind_int(stmt, 2, subject_id);
    ch_db_bind_text(stmt, 3, ch_span_of(name_of(scope, subject)));
    ch_db_bind_text(stmt, 4, ch_span_of(ch_budget_period_name(period)));
    err = ch_db_step(db, stmt, why);
    if (err == CH_ERR_NOT_FOUND)
        return not_found(scope, subject, period, why);
    if (err)
        return err;
    err = read_row(stmt, row_out, why);
    ch_db_reset(stmt);
    return err;
}

enum ch_err ch_budget_get(struct ch_db *db, enum ch_budget_scope scope, const char *subject,
                          enum ch_budget_period period, struct ch_budget_row *row_out,
                          struct ch_why *why)
{
    int64_t subject_id;
    enum ch_err err = find_subject(db, scope, subject, &subject_id, why);
    return err ? err : get(db, scope, subject_id, subject, period, row_out, why);
}

static enum ch_err check(struct ch_budget_row *row, struct ch_why *why)
{
    if (row->cap_nano_usd < 0)
        return ch_why_set(why, CH_ERR_INVALID, "a budget is not negative");
    if (!*row->time_zone)
        ch_span_copy(CH_SPAN("UTC"), row->time_zone, sizeof row->time_zone);
    if (!ch_time_zone_name_is_valid(ch_span_of(row->time_zone)))
        return ch_why_set(why, CH_ERR_INVALID, "\"%.64s\" is no name of a time zone",
                          row->time_zone);
    return CH_OK;
}

static enum ch_err upsert(struct ch_db *db, const struct ch_budget_row *row, struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO budgets (scope, subject_id, subject, period, cap_nano_usd, mode, time_zone, "
        "thresholds, is_shadow, cuts_streams, created_at_ms, updated_at_ms) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11) "
        "ON CONFLICT (scope, subject_id, subject, period) DO UPDATE SET "
        "cap_nano_usd = excluded.cap_nano_usd, mode = excluded.mode, "
        "time_zone = excluded.time_zone, thresholds = excluded.thresholds, "
        "is_shadow = excluded.is_shadow, cuts_streams = excluded.cuts_streams, "
        "updated_at_ms = excluded.updated_at_ms";
    char thresholds[CH_BUDGET_THRESHOLDS_TEXT];
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_budget_thresholds_format(&row->thresholds, thresholds);
    ch_db_bind_text(stmt, 1, ch_span_of(ch_budget_scope_name(row->scope)));
    ch_db_bind_int(stmt, 2, row->subject_id);
    ch_db_bind_text(stmt, 3, ch_span_of(name_of(row->scope, row->subject)));
    ch_db_bind_text(stmt, 4, ch_span_of(ch_budget_period_name(row->period)));
    ch_db_bind_int(stmt, 5, row->cap_nano_usd);
    ch_db_bind_text(stmt, 6, ch_span_of(ch_budget_mode_name(row->mode)));
    ch_db_bind_text(stmt, 7, ch_span_of(row->time_zone));
    ch_db_bind_text(stmt, 8, ch_span_of(thresholds));
    ch_db_bind_int(stmt, 9, row->is_shadow);
    ch_db_bind_int(stmt, 10, row->cuts_streams);
    ch_db_bind_int(stmt, 11, ch_clock_wall_ms());
    return ch_db_run(db, stmt, why);
}

enum ch_err ch_budget_put(struct ch_db *db, struct ch_budget_row *row, struct ch_why *why)
{
    struct ch_budget_row stored;
    enum ch_err err = check(row, why);
    if (!err)
        err = find_subject(db, row->scope, row->subject, &row->subject_id, why);
    if (!err)
        err = upsert(db, row, why);
    if (!err)
        err = get(db, row->scope, row->subject_id, row->subject, row->period, &stored, why);
    if (!err)
        *row = stored;
    return err;
}

enum ch_err ch_budget_each(struct ch_db *db,
                           enum ch_err (*each)(void *arg, const struct ch_budget_row *row),
                           void *arg, struct ch_why *why)
{
    static const char sql[] = SELECT_BUDGETS "ORDER BY b.id";
    struct ch_budget_row row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    while (!(err = ch_db_step(db, stmt, why))) {
        err = read_row(stmt, &row, why);
        if (!err)
            err = each(arg, &row);
        if (err) {
            ch_db_reset(stmt);
            return err;
        }
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

enum ch_err ch_budget_delete(struct ch_db *db, enum ch_budget_scope scope, const char *subject,
                             enum ch_budget_period period, int64_t *id_out, struct ch_why *why)
{
    static const char sql[] = "DELETE FROM budgets WHERE id = ?";
    struct ch_budget_row row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_budget_get(db, scope, subject, period, &row, why);
    if (err || (err = ch_db_prepare(db, sql, &stmt, why)))
        return err;
    ch_db_bind_int(stmt, 1, row.id);
    err = ch_db_run(db, stmt, why);
    if (!err)
        *id_out = row.id;
    return err;
}

// ---- alerts

enum ch_err ch_budget_note_alert(struct ch_db *db, const struct ch_budget_alert *alert,
                                 bool *is_new_out, struct ch_why *why)
{
    static const char sql[] = "INSERT OR IGNORE INTO budget_alerts (budget_id, period_start_ms, "
                              "percent, fired_at_ms, spent_nano_usd, cap_nano_usd) "
                              "SELECT id, ?2, ?3, ?4, ?5, ?6 FROM budgets WHERE id = ?1";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, alert->budget_id);
    ch_db_bind_int(stmt, 2, alert->period_start_ms);
    ch_db_bind_int(stmt, 3, alert->percent);
    ch_db_bind_int(stmt, 4, alert->fired_at_ms);
    ch_db_bind_int(stmt, 5, alert->spent_nano_usd);
    ch_db_bind_int(stmt, 6, alert->cap_nano_usd);
    err = ch_db_run(db, stmt, why);
    if (!err)
        *is_new_out = ch_db_changes(db) > 0;
    return err;
}

enum ch_err ch_budget_highest_alert(struct ch_db *db, int64_t budget_id, int64_t period_start_ms,
                                    unsigned *percent_out, struct ch_why *why)
{
    static const char sql[] = "SELECT ifnull(max(percent), 0) FROM budget_alerts "
                              "WHERE budget_id = ? AND period_start_ms = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, budget_id);
    ch_db_bind_int(stmt, 2, period_start_ms);
    err = ch_db_step(db, stmt, why);
    if (err)
        return err;
    *percent_out = (unsigned)ch_db_int(stmt, 0);
    ch_db_reset(stmt);
    return CH_OK;
}

static struct ch_budget_alert read_alert(struct sqlite3_stmt *stmt)
{
    return (struct ch_budget_alert){
        .budget_id = ch_db_int(stmt, 0),
        .period_start_ms = ch_db_int(stmt, COLUMN_COUNT),
        .percent = (unsigned)ch_db_int(stmt, COLUMN_COUNT + 1),
        .fired_at_ms = ch_db_int(stmt, COLUMN_COUNT + 2),
        .spent_nano_usd = ch_db_int(stmt, COLUMN_COUNT + 3),
        .cap_nano_usd = ch_db_int(stmt, COLUMN_COUNT + 4),
    };
}

enum ch_err ch_budget_alerts_each(struct ch_db *db, int64_t limit,
                                  enum ch_err (*each)(void *arg,
                                                      const struct ch_budget_alert *alert,
                                                      const struct ch_budget_row *budget),
                                  void *arg, struct ch_why *why)
{
    // CROSS JOIN keeps the order of the tables, so that the newest alerts come from their index.
    static const char sql[] =
        "SELECT " COLUMNS ", a.period_start_ms, a.percent, a.fired_at_ms, a.spent_nano_usd, "
        "a.cap_nano_usd FROM budget_alerts a CROSS JOIN budgets b ON b.id = a.budget_id " NAMES
        "ORDER BY a.fired_at_ms DESC, a.budget_id, a.percent DESC LIMIT ?";
    struct ch_budget_row budget;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, limit);
    while (!(err = ch_db_step(db, stmt, why))) {
        struct ch_budget_alert alert = read_alert(stmt);
        err = read_row(stmt, &budget, why);
        if (!err)
            err = each(arg, &alert, &budget);
        if (err) {
            ch_db_reset(stmt);
            return err;
        }
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}
