// SPDX-License-Identifier: Apache-2.0
#include "migrate.h"

#include <limits.h>

extern const char ch_sql_0001[];
extern const char ch_sql_0002[];
extern const char ch_sql_0003[];
extern const char ch_sql_0004[];
extern const char ch_sql_0005[];
extern const char ch_sql_0006[];

// In order; a file's place in the table is its version, which its last statement sets.
static const char *const migrations[] = {
    ch_sql_0001,
    ch_sql_0002,
    ch_sql_0003,
    ch_sql_0004,
    ch_sql_0005,
    ch_sql_0006,
};

#define SCHEMA_VERSION (int64_t)(sizeof migrations / sizeof *migrations)
#define APPLICATION_ID INT64_C(1667785072) // "chap", as 0001_initial.sql sets it

// quick_check takes about a second for 128 MiB (measured). A larger file would hold up the start:
// there only the tables without which nothing works are checked, and SQLite reports damage
// elsewhere when it reads it.
#define SMALL_FILE_BYTES (INT64_C(128) << 20)

static enum ch_err get_int(struct ch_db *db, const char *sql, int64_t *value_out,
                           struct ch_why *why)
{
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    return err ? err : ch_db_step_int(db, stmt, value_out, why);
}

static enum ch_err apply(struct ch_db *db, int64_t version, struct ch_why *why)
{
    int64_t reached = 0;
    enum ch_err err = ch_db_begin(db, why);
    if (err)
        return err;
    err = ch_db_script(db, migrations[version - 1], why);
    if (!err)
        err = get_int(db, "PRAGMA user_version", &reached, why);
    CH_ASSERT(err || reached == version);
    if (!err)
        err = ch_db_commit(db, why);
    if (err)
        ch_db_rollback(db);
    return err;
}

static enum ch_err judge(struct ch_db *db, const char *path, bool may_be_new, int64_t *version_out,
                         struct ch_why *why)
{
    int64_t version = 0, application = 0, tables = 0;
    enum ch_err err = get_int(db, "PRAGMA user_version", &version, why);
    if (!err)
        err = get_int(db, "PRAGMA application_id", &application, why);
    if (!err)
        err = get_int(db, "SELECT count(*) FROM sqlite_schema", &tables, why);
    if (err)
        return err;
    if (application != APPLICATION_ID && (application || version || tables))
        return ch_why_set(why, CH_ERR_INVALID, "%s is not a database of chaperone", path);
    if (version > SCHEMA_VERSION)
        return ch_why_set(why, CH_ERR_INVALID,
                          "%s has schema version %lld, this program knows up to %lld: it was "
                          "written by a newer chaperone",
                          path, (long long)version, (long long)SCHEMA_VERSION);
    if (version < 0)
        return ch_why_set(why, CH_ERR_CORRUPT, "%s has the schema version %lld", path,
                          (long long)version);
    if (version == 0 && !may_be_new)
        return ch_why_set(why, CH_ERR_CORRUPT,
                          "%s holds no data of chaperone: restore it from a backup, or remove it "
                          "and run `chaperone init`",
                          path);
    *version_out = version;
    return CH_OK;
}

enum ch_err ch_migrate_judge(struct ch_db *db, const char *path, bool may_be_new,
                             struct ch_why *why)
{
    int64_t version;
    return judge(db, path, may_be_new, &version, why);
}

enum ch_err ch_migrate(struct ch_db *db, const char *path, bool may_be_new, struct ch_why *why)
{
    int64_t version = 0;
    enum ch_err err = judge(db, path, may_be_new, &version, why);
    while (!err && version < SCHEMA_VERSION)
        err = apply(db, ++version, why);
    return err;
}

static enum ch_err check(struct ch_db *db, const char *sql, const char *path, struct ch_why *why)
{
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err || (err = ch_db_step(db, stmt, why)))
        return err;
    struct ch_span verdict = ch_db_text(stmt, 0);
    if (!ch_span_eq(verdict, CH_SPAN("ok")))
        err = ch_why_set(why, CH_ERR_CORRUPT,
                         "%s is damaged: %.*s. Restore it from a backup; the journal beside it is "
                         "replayed at the next start",
                         path, (int)(verdict.len < 200 ? verdict.len : 200), verdict.ptr);
    ch_db_reset(stmt);
    return err;
}

enum ch_err ch_migrate_check(struct ch_db *db, const char *path, struct ch_why *why)
{
    static const char *const by_table[] = {
        "PRAGMA quick_check('vault_values')",
        "PRAGMA quick_check('providers')",
        "PRAGMA quick_check('attributions')",
        "PRAGMA quick_check('catalogues')",
    };
    int64_t pages = 0, page_bytes = 0;
    enum ch_err err = get_int(db, "PRAGMA page_count", &pages, why);
    if (!err)
        err = get_int(db, "PRAGMA page_size", &page_bytes, why);
    if (!err && pages * page_bytes <= SMALL_FILE_BYTES)
        return check(db, "PRAGMA quick_check(1)", path, why);
    for (size_t i = 0; !err && i < sizeof by_table / sizeof *by_table; i++)
        err = check(db, by_table[i], path, why);
    return err;
}
