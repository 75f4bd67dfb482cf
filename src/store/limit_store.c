// SPDX-License-Identifier: Apache-2.0
#include "store/limit_store.h"

#include "base/clock.h"
#include "store/db.h"

enum ch_err ch_limits_check(const struct ch_rate_limits *limits, struct ch_why *why)
{
    for (unsigned kind = 0; kind < CH_RATE_KINDS; kind++)
        if (limits->limit[kind] < 0)
            return ch_why_set(why, CH_ERR_INVALID, "%s is negative",
                              ch_rate_kind_name((enum ch_rate_kind)kind));
    return CH_OK;
}

#define COLUMNS "team, rpm, tpm, concurrency, is_shadow, created_at_ms, updated_at_ms"

static enum ch_err read_row(struct sqlite3_stmt *stmt, struct ch_team_limits_row *row,
                            struct ch_why *why)
{
    *row = (struct ch_team_limits_row){
        .limits = {{
            [CH_RATE_REQUESTS] = ch_db_int(stmt, 1),
            [CH_RATE_TOKENS] = ch_db_int(stmt, 2),
            [CH_RATE_IN_FLIGHT] = ch_db_int(stmt, 3),
        }},
        .is_shadow = ch_db_int(stmt, 4) != 0,
        .created_at_ms = ch_db_int(stmt, 5),
        .updated_at_ms = ch_db_int(stmt, 6),
    };
    return ch_db_copy_text(stmt, 0, row->team, sizeof row->team)
               ? CH_OK
               : ch_why_set(why, CH_ERR_CORRUPT, "the limits of a team are damaged");
}

static enum ch_err upsert(struct ch_db *db, const struct ch_team_limits_row *row,
                          struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO team_limits (" COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) "
        "ON CONFLICT DO UPDATE SET rpm = excluded.rpm, tpm = excluded.tpm, "
        "concurrency = excluded.concurrency, is_shadow = excluded.is_shadow, "
        "updated_at_ms = excluded.updated_at_ms";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(row->team));
    ch_db_bind_int(stmt, 2, row->limits.limit[CH_RATE_REQUESTS]);
    ch_db_bind_int(stmt, 3, row->limits.limit[CH_RATE_TOKENS]);
    ch_db_bind_int(stmt, 4, row->limits.limit[CH_RATE_IN_FLIGHT]);
    ch_db_bind_int(stmt, 5, row->is_shadow);
    ch_db_bind_int(stmt, 6, ch_clock_wall_ms());
    return ch_db_run(db, stmt, why);
}

enum ch_err ch_team_limits_put(struct ch_db *db, struct ch_team_limits_row *row, struct ch_why *why)
{
    struct ch_team_limits_row stored;
    if (!ch_name_is_valid(ch_span_of(row->team)))
        return ch_why_set(why, CH_ERR_INVALID,
                          "a name has 1 to %d letters, digits, dots, hyphens or underscores",
                          CH_NAME_MAX);
    enum ch_err err = ch_limits_check(&row->limits, why);
    if (!err)
        err = upsert(db, row, why);
    if (!err)
        err = ch_team_limits_get(db, row->team, &stored, why);
    if (!err)
        *row = stored;
    return err;
}

enum ch_err ch_team_limits_get(struct ch_db *db, const char *team,
                               struct ch_team_limits_row *row_out, struct ch_why *why)
{
    static const char sql[] = "SELECT " COLUMNS " FROM team_limits WHERE team = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(team));
    err = ch_db_step(db, stmt, why);
    if (err == CH_ERR_NOT_FOUND)
        return ch_why_set(why, err, "team %s has no limits", team);
    if (err)
        return err;
    err = read_row(stmt, row_out, why);
    ch_db_reset(stmt);
    return err;
}

enum ch_err ch_team_limits_each(struct ch_db *db,
                                enum ch_err (*each)(void *arg,
                                                    const struct ch_team_limits_row *row),
                                void *arg, struct ch_why *why)
{
    static const char sql[] = "SELECT " COLUMNS " FROM team_limits ORDER BY team";
    struct ch_team_limits_row row;
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

enum ch_err ch_team_limits_delete(struct ch_db *db, const char *team, struct ch_why *why)
{
    static const char sql[] = "DELETE FROM team_limits WHERE team = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(team));
    err = ch_db_run(db, stmt, why);
    if (!err && ch_db_changes(db) == 0)
        err = ch_why_set(why, CH_ERR_NOT_FOUND, "team %s has no limits", team);
    return err;
}
