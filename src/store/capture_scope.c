// SPDX-License-Identifier: Apache-2.0
#include "store/capture_scope.h"

#include "base/clock.h"
#include "store/db.h"

// Finds the key, or sees that the team's name can be one.
static enum ch_err resolve(struct ch_db *db, struct ch_capture_scope *scope, struct ch_why *why)
{
    static const char sql[] = "SELECT id FROM wrapped_keys WHERE name = ?";
    struct sqlite3_stmt *stmt;
    scope->key_id = 0;
    if (scope->scope != CH_BUDGET_OF_KEY && scope->scope != CH_BUDGET_OF_TEAM)
        return ch_why_set(why, CH_ERR_INVALID, "bodies are captured of keys and of teams");
    if (!ch_name_is_valid(ch_span_of(scope->subject)))
        return ch_why_set(why, CH_ERR_INVALID,
                          "a name has 1 to %d letters, digits, dots, hyphens or underscores",
                          CH_NAME_MAX);
    if (scope->scope == CH_BUDGET_OF_TEAM)
        return CH_OK;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(scope->subject));
    err = ch_db_step(db, stmt, why);
    if (err == CH_ERR_NOT_FOUND)
        return ch_why_set(why, err, "there is no key %s", scope->subject);
    if (err)
        return err;
    scope->key_id = ch_db_int(stmt, 0);
    ch_db_reset(stmt);
    return CH_OK;
}

static void bind(struct sqlite3_stmt *stmt, const struct ch_capture_scope *scope)
{
    bool is_key = scope->scope == CH_BUDGET_OF_KEY;
    ch_db_bind_text(stmt, 1, ch_span_of(ch_budget_scope_name(scope->scope)));
    ch_db_bind_int(stmt, 2, scope->key_id);
    ch_db_bind_text(stmt, 3, is_key ? CH_SPAN("") : ch_span_of(scope->subject));
}

enum ch_err ch_capture_scope_put(struct ch_db *db, struct ch_capture_scope *scope,
                                 struct ch_why *why)
{
    // An update that changes nothing, so that the row there comes back.
    static const char sql[] =
        "INSERT INTO capture_scopes (scope, subject_id, subject, created_at_ms) "
        "VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET subject = subject "
        "RETURNING created_at_ms";
    struct sqlite3_stmt *stmt;
    enum ch_err err = resolve(db, scope, why);
    if (!err)
        err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    bind(stmt, scope);
    ch_db_bind_int(stmt, 4, ch_clock_wall_ms());
    return ch_db_step_int(db, stmt, &scope->created_at_ms, why);
}

enum ch_err ch_capture_scope_delete(struct ch_db *db, struct ch_capture_scope *scope,
                                    struct ch_why *why)
{
    static const char sql[] =
        "DELETE FROM capture_scopes WHERE scope = ?1 AND subject_id = ?2 AND subject = ?3";
    struct sqlite3_stmt *stmt;
    enum ch_err err = resolve(db, scope, why);
    if (!err)
        err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    bind(stmt, scope);
    err = ch_db_run(db, stmt, why);
    if (!err && ch_db_changes(db) == 0)
        err = ch_why_set(why, CH_ERR_NOT_FOUND, "%s:%s is not captured",
                         ch_budget_scope_name(scope->scope), scope->subject);
    return err;
}

static enum ch_err read_row(struct sqlite3_stmt *stmt, struct ch_capture_scope *scope,
                            struct ch_why *why)
{
    *scope = (struct ch_capture_scope){.key_id = ch_db_int(stmt, 1),
                                       .created_at_ms = ch_db_int(stmt, 3)};
    return !ch_budget_scope_parse(ch_db_text(stmt, 0), &scope->scope) &&
                   ch_db_copy_text(stmt, 2, scope->subject, sizeof scope->subject)
               ? CH_OK
               : ch_why_set(why, CH_ERR_CORRUPT, "a row of capture_scopes is damaged");
}

enum ch_err ch_capture_scope_each(struct ch_db *db,
                                  enum ch_err (*each)(void *arg,
                                                      const struct ch_capture_scope *scope),
                                  void *arg, struct ch_why *why)
{
    static const char sql[] =
        "SELECT c.scope, c.subject_id, coalesce(k.name, c.subject) AS name, c.created_at_ms "
        "FROM capture_scopes c LEFT JOIN wrapped_keys k ON c.scope = 'key' AND k.id = c.subject_id "
        "ORDER BY c.scope, name";
    struct ch_capture_scope scope;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    while (!(err = ch_db_step(db, stmt, why))) {
        err = read_row(stmt, &scope, why);
        if (!err)
            err = each(arg, &scope);
        if (err) {
            ch_db_reset(stmt);
            return err;
        }
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}
