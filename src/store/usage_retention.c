// SPDX-License-Identifier: Apache-2.0
#include "store/usage_retention.h"

#include "base/id.h"
#include "store/db.h"

struct drop {
    int64_t before_ms, dropped;
};

static enum ch_err run(struct ch_db *db, const char *sql, int64_t bound, struct drop *drop,
                       struct ch_why *why)
{
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, bound);
    ch_db_bind_int(stmt, 2, CH_USAGE_DROP_BATCH - drop->dropped);
    err = ch_db_run(db, stmt, why);
    if (!err)
        drop->dropped += ch_db_changes(db);
    return err;
}

// The condition of the index usage_astray, word for word: rows whose id tells another time than
// that of their start.
#define IS_ASTRAY "(id >> 22) - started_at_ms NOT BETWEEN -1735689600000 AND -1735689590000"

static enum ch_err drop_rows(struct ch_db *db, void *arg, struct ch_why *why)
{
    static const char by_id[] =
        "DELETE FROM usage WHERE id IN (SELECT id FROM usage WHERE id < ?1 AND NOT (" IS_ASTRAY
        ") AND id < (SELECT max(id) FROM usage) ORDER BY id LIMIT ?2)";
    static const char astray[] =
        "DELETE FROM usage WHERE id IN (SELECT id FROM usage WHERE " IS_ASTRAY
        " AND started_at_ms < ?1 AND id < (SELECT max(id) FROM usage) LIMIT ?2)";
    struct drop *drop = arg;
    enum ch_err err = run(db, by_id, ch_id_floor(drop->before_ms), drop, why);
    return err ? err : run(db, astray, drop->before_ms, drop, why);
}

enum ch_err ch_usage_drop_before(struct ch_store *store, int64_t before_ms, int64_t *dropped_out,
                                 struct ch_why *why)
{
    struct drop drop = {.before_ms = before_ms};
    enum ch_err err = ch_store_write(store, drop_rows, &drop, why);
    if (!err)
        *dropped_out = drop.dropped;
    return err;
}
