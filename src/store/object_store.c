// SPDX-License-Identifier: Apache-2.0
#include "store/object_store.h"

#include "store/db.h"
#include "store/usage_record.h"

// SQLite's integers are signed.
static int64_t to_column(uint64_t hash)
{
    int64_t column;
    memcpy(&column, &hash, sizeof column);
    return column;
}

static uint64_t from_column(int64_t column)
{
    uint64_t hash;
    memcpy(&hash, &column, sizeof hash);
    return hash;
}

enum ch_err ch_object_add(struct ch_db *db, const struct ch_usage_record *record,
                          struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO objects (hash, key_id, attribution_id, seen_at_ms) VALUES (?1, ?2, ?3, ?4) "
        "ON CONFLICT (hash) DO UPDATE SET key_id = ?2, attribution_id = ?3, seen_at_ms = ?4 "
        "WHERE seen_at_ms < ?5";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    for (size_t at = 0; !err && at + CH_RECORD_OBJECT <= record->objects.len;
         at += CH_RECORD_OBJECT) {
        uint64_t hash;
        memcpy(&hash, record->objects.ptr + at, sizeof hash);
        ch_db_bind_int(stmt, 1, to_column(hash));
        ch_db_bind_int(stmt, 2, record->key_id);
        ch_db_bind_int(stmt, 3, record->attribution_id);
        ch_db_bind_int(stmt, 4, record->started_at_ms);
        ch_db_bind_int(stmt, 5, record->started_at_ms - CH_OBJECT_MS);
        err = ch_db_run(db, stmt, why);
    }
    return err;
}

enum ch_err ch_object_each(struct ch_db *db, int64_t since_ms, int64_t limit,
                           enum ch_err (*each)(void *arg, const struct ch_object_row *row),
                           void *arg, struct ch_why *why)
{
    static const char sql[] =
        "SELECT o.hash, o.key_id, o.attribution_id, a.team, a.project, o.seen_at_ms FROM objects o "
        "JOIN attributions a ON a.id = o.attribution_id WHERE o.seen_at_ms >= ?1 AND "
        "o.id > (SELECT ifnull(max(id), 0) FROM objects) - ?2 ORDER BY o.id";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, since_ms);
    ch_db_bind_int(stmt, 2, limit);
    while (!(err = ch_db_step(db, stmt, why))) {
        struct ch_object_row row = {
            .hash = from_column(ch_db_int(stmt, 0)),
            .key_id = ch_db_int(stmt, 1),
            .attribution_id = ch_db_int(stmt, 2),
            .team = ch_db_text(stmt, 3),
            .project = ch_db_text(stmt, 4),
            .seen_at_ms = ch_db_int(stmt, 5),
        };
        err = each(arg, &row);
        if (err) {
            ch_db_reset(stmt);
            return ch_why_set(why, err, "the owners of stored objects could not be loaded");
        }
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

struct drop {
    int64_t before_ms, limit;
};

static enum ch_err drop_rows(struct ch_db *db, void *arg, struct ch_why *why)
{
    // Rows stand in the order of time, but for a clock that was set back.
    static const char sql[] =
        "DELETE FROM objects WHERE id <= (SELECT ifnull(max(id), 0) FROM objects) - ?1 OR "
        "id < (SELECT min(id) FROM objects WHERE seen_at_ms >= ?2)";
    const struct drop *drop = arg;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, drop->limit);
    ch_db_bind_int(stmt, 2, drop->before_ms);
    return ch_db_run(db, stmt, why);
}

enum ch_err ch_object_drop(struct ch_store *store, int64_t before_ms, int64_t limit,
                           struct ch_why *why)
{
    struct drop drop = {before_ms, limit};
    return ch_store_write(store, drop_rows, &drop, why);
}
