// SPDX-License-Identifier: Apache-2.0
#include "store/db.h"

#include "base/secret.h"

#include <errno.h>
#include <malloc.h>
#include <sqlite3.h>

// Distinct statements a connection may hold; the floor has about fifty.
#define STATEMENTS_MAX 128

// How long a connection waits for a lock that a foreign process holds, in milliseconds. Our own
// never collide.
#define BUSY_MS 2000

struct statement {
    const char *sql; // the key: an address
    sqlite3_stmt *handle;
};

struct ch_db {
    sqlite3 *handle;
    enum ch_db_mode mode;
    bool is_broken;
    struct ch_audit *audit;
    struct statement statements[STATEMENTS_MAX]; // open addressing by the address of the text
};

static void *allocate(int size)
{
    return ch_zmalloc((size_t)size);
}

static void *reallocate(void *ptr, int size)
{
    return ch_zrealloc(ptr, (size_t)size);
}

// ch_zmalloc is malloc that forgets, so malloc's own measure holds.
static int allocated_size(void *ptr)
{
    return ptr ? (int)malloc_usable_size(ptr) : 0;
}

static int round_up(int size)
{
    return (size + 7) & ~7;
}

static int start_allocator(void *unused)
{
    (void)unused;
    return SQLITE_OK;
}

static void stop_allocator(void *unused)
{
    (void)unused;
}

enum ch_err ch_db_process_init(struct ch_why *why)
{
    static const sqlite3_mem_methods zeroing = {
        .xMalloc = allocate,
        .xFree = ch_zfree,
        .xRealloc = reallocate,
        .xSize = allocated_size,
        .xRoundup = round_up,
        .xInit = start_allocator,
        .xShutdown = stop_allocator,
    };
    // Without the memory statistics, which put a global mutex around every allocation.
    if (sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) != SQLITE_OK ||
        sqlite3_config(SQLITE_CONFIG_MALLOC, &zeroing) != SQLITE_OK ||
        sqlite3_initialize() != SQLITE_OK)
        return ch_why_set(why, CH_ERR_IO, "SQLite could not be initialised");
    return CH_OK;
}

// Whether nothing that was written can be relied on any more. SQLite knows ENOSPC as a full disk; a
// quota and a limit of the file's size are no different, and all of them pass. A failed fsync does
// not, whatever its errno `number`: the kernel drops what it could not write.
static bool is_lasting(int code, int number)
{
    if ((code & 0xff) != SQLITE_IOERR || code == SQLITE_IOERR_NOMEM)
        return false;
    bool is_sync = code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC;
    return is_sync || (number != ENOSPC && number != EDQUOT && number != EFBIG);
}

static enum ch_err err_of(int code)
{
    if (code == SQLITE_IOERR_NOMEM)
        return CH_ERR_NOMEM;
    switch (code & 0xff) { // the primary code; the rest says which kind
    case SQLITE_NOMEM:
        return CH_ERR_NOMEM;
    case SQLITE_CONSTRAINT:
        return CH_ERR_CONFLICT;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return CH_ERR_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return CH_ERR_UNAVAILABLE;
    case SQLITE_AUTH:
    case SQLITE_PERM:
        return CH_ERR_DENIED;
    default: // SQLite's own numbers, open-ended
        return CH_ERR_IO;
    }
}

static enum ch_err fail(struct ch_db *db, struct ch_why *why)
{
    // sqlite3_system_errno says nothing of a commit; errno is still that of the call that failed.
    int number = errno, code = sqlite3_extended_errcode(db->handle);
    db->is_broken |= is_lasting(code, number);
    return ch_why_set(why, err_of(code), "database: %s", sqlite3_errmsg(db->handle));
}

bool ch_db_is_broken(const struct ch_db *db)
{
    return db->is_broken;
}

// ---- sum_capped

// SQLite hands out the state zeroed.
static void add_capped(sqlite3_context *context, int count, sqlite3_value **values)
{
    sqlite3_int64 *sum = sqlite3_aggregate_context(context, sizeof *sum);
    if (!sum) {
        sqlite3_result_error_nomem(context);
        return;
    }
    for (int i = 0; i < count; i++)
        if (__builtin_add_overflow(*sum, sqlite3_value_int64(values[i]), sum))
            *sum = INT64_MAX; // counts and costs are never negative
}

static void give_capped(sqlite3_context *context)
{
    const sqlite3_int64 *sum = sqlite3_aggregate_context(context, 0);
    sqlite3_result_int64(context, sum ? *sum : 0); // 0: no rows
}

static bool add_functions(const struct ch_db *db)
{
    return sqlite3_create_function_v2(db->handle, "sum_capped", -1,
                                      SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL, NULL, add_capped,
                                      give_capped, NULL) == SQLITE_OK;
}

// ---- opening

// A file system that cannot share memory keeps the old journal mode without an error.
static enum ch_err require_wal(struct ch_db *db, struct ch_why *why)
{
    static const char sql[] = "PRAGMA journal_mode";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err || (err = ch_db_step(db, stmt, why)))
        return err;
    if (!ch_span_eq(ch_db_text(stmt, 0), CH_SPAN("wal")))
        err = ch_why_set(why, CH_ERR_IO, "the file system of the database cannot hold a WAL");
    ch_db_reset(stmt);
    return err;
}

static bool set_option(sqlite3 *handle, int option, int on)
{
    return sqlite3_db_config(handle, option, on, NULL) == SQLITE_OK;
}

static bool harden(const struct ch_db *db)
{
    return set_option(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1) &&
           set_option(db->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0) &&
           set_option(db->handle, SQLITE_DBCONFIG_ENABLE_FKEY, 1) &&
           set_option(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, db->mode == CH_DB_READER) &&
           sqlite3_busy_timeout(db->handle, BUSY_MS) == SQLITE_OK;
}

// Temporary tables stay in memory: nothing of the database may land in a file of another name.
static const char reader_setup[] = "PRAGMA temp_store = MEMORY;"
                                   "PRAGMA query_only = ON;";
// A checkpoint each 16 MiB of log: batches of the writer then share its fsync, and the log stays
// small. A cache of up to 8 MiB: an idle daemon stays small (design.md §9), at the price of
// re-reading the hour's sums when many thousands of keys are in use at once.
static const char writer_setup[] = "PRAGMA temp_store = MEMORY;"
                                   "PRAGMA journal_mode = WAL;"
                                   "PRAGMA synchronous = FULL;"
                                   "PRAGMA secure_delete = ON;"
                                   "PRAGMA cache_size = -8192;"
                                   "PRAGMA wal_autocheckpoint = 4096;"
                                   "PRAGMA journal_size_limit = 67108864;";

enum ch_err ch_db_open(const char *path, enum ch_db_mode mode, struct ch_db **db_out,
                       struct ch_why *why)
{
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
                (mode == CH_DB_READER ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
    struct ch_db *db = ch_zcalloc(1, sizeof *db);
    if (!db)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    db->mode = mode;
    enum ch_err err = CH_OK;
    if (sqlite3_open_v2(path, &db->handle, flags, NULL) != SQLITE_OK)
        err = db->handle ? fail(db, why) : ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    else if (!harden(db) || !add_functions(db))
        err = fail(db, why);
    else
        err = ch_db_script(db, mode == CH_DB_READER ? reader_setup : writer_setup, why);
    if (!err && mode == CH_DB_WRITER)
        err = require_wal(db, why);
    if (err)
        ch_db_close(db);
    else
        *db_out = db;
    return err;
}

void ch_db_close(struct ch_db *db)
{
    if (!db)
        return;
    for (size_t i = 0; i < STATEMENTS_MAX; i++)
        sqlite3_finalize(db->statements[i].handle);
    CH_ASSERT(sqlite3_close(db->handle) == SQLITE_OK); // busy: a statement outside the cache
    ch_zfree(db);
}

static int authorize(void *unused, int action, const char *a, const char *b, const char *c,
                     const char *d)
{
    (void)unused, (void)b, (void)c, (void)d;
    switch (action) {
    case SQLITE_UPDATE: // `a` is the table
    case SQLITE_DELETE:
        return strcmp(a, "audit") == 0 || strcmp(a, "audit_keys") == 0 ? SQLITE_DENY : SQLITE_OK;
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_INSERT:
    case SQLITE_FUNCTION:
    case SQLITE_TRANSACTION:
    case SQLITE_RECURSIVE:
        return SQLITE_OK;
    default: // everything else, also what a later SQLite invents
        return SQLITE_DENY;
    }
}

void ch_db_restrict(struct ch_db *db)
{
    sqlite3_set_authorizer(db->handle, authorize, NULL);
}

void ch_db_set_audit(struct ch_db *db, struct ch_audit *audit)
{
    db->audit = audit;
}

struct ch_audit *ch_db_audit(const struct ch_db *db)
{
    return db->audit;
}

static enum ch_err run_constant(struct ch_db *db, const char *sql, struct ch_why *why)
{
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    return err ? err : ch_db_run(db, stmt, why);
}

enum ch_err ch_db_begin(struct ch_db *db, struct ch_why *why)
{
    static const char write[] = "BEGIN IMMEDIATE", read[] = "BEGIN";
    ch_db_rollback(db); // one that had failed for want of memory
    return run_constant(db, db->mode == CH_DB_WRITER ? write : read, why);
}

enum ch_err ch_db_commit(struct ch_db *db, struct ch_why *why)
{
    static const char sql[] = "COMMIT";
    return run_constant(db, sql, why);
}

void ch_db_rollback(struct ch_db *db)
{
    static const char sql[] = "ROLLBACK";
    if (sqlite3_get_autocommit(db->handle))
        return; // no transaction, or the failure has rolled it back by itself
    enum ch_err err = run_constant(db, sql, NULL);
    (void)err; // the next begin tries again
}

enum ch_err ch_db_script(struct ch_db *db, const char *sql, struct ch_why *why)
{
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? CH_OK : fail(db, why);
}

static struct statement *find_statement(struct ch_db *db, const char *sql)
{
    size_t at = (size_t)((uintptr_t)sql * UINT64_C(0x9E3779B97F4A7C15) >> 32);
    for (size_t i = 0; i < STATEMENTS_MAX; i++) {
        struct statement *statement = &db->statements[(at + i) % STATEMENTS_MAX];
        if (!statement->sql || statement->sql == sql)
            return statement;
    }
    CH_ASSERT(!"more statements than STATEMENTS_MAX");
    return NULL;
}

enum ch_err ch_db_prepare(struct ch_db *db, const char *sql, struct sqlite3_stmt **stmt_out,
                          struct ch_why *why)
{
    struct statement *statement = find_statement(db, sql);
    if (!statement->handle) {
        sqlite3_stmt *handle;
        if (sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &handle, NULL) !=
            SQLITE_OK)
            return fail(db, why);
        *statement = (struct statement){sql, handle};
    }
    CH_ASSERT(!sqlite3_stmt_busy(statement->handle));
    *stmt_out = statement->handle;
    return CH_OK;
}

// Static bindings allocate nothing, so only a wrong index can fail: a bug.
void ch_db_bind_int(struct sqlite3_stmt *stmt, int index, int64_t value)
{
    CH_ASSERT(sqlite3_bind_int64(stmt, index, value) == SQLITE_OK);
}

void ch_db_bind_text(struct sqlite3_stmt *stmt, int index, struct ch_span text)
{
    const char *ptr = text.ptr ? text.ptr : ""; // a null pointer would bind NULL
    CH_ASSERT(sqlite3_bind_text64(stmt, index, ptr, text.len, SQLITE_STATIC, SQLITE_UTF8) ==
              SQLITE_OK);
}

void ch_db_bind_blob(struct sqlite3_stmt *stmt, int index, struct ch_span bytes)
{
    const char *ptr = bytes.ptr ? bytes.ptr : "";
    CH_ASSERT(sqlite3_bind_blob64(stmt, index, ptr, bytes.len, SQLITE_STATIC) == SQLITE_OK);
}

void ch_db_bind_null(struct sqlite3_stmt *stmt, int index)
{
    CH_ASSERT(sqlite3_bind_null(stmt, index) == SQLITE_OK);
}

enum ch_err ch_db_step(struct ch_db *db, struct sqlite3_stmt *stmt, struct ch_why *why)
{
    int code = sqlite3_step(stmt);
    if (code == SQLITE_ROW)
        return CH_OK;
    enum ch_err err = code == SQLITE_DONE ? CH_ERR_NOT_FOUND : fail(db, why);
    sqlite3_reset(stmt);
    return err;
}

enum ch_err ch_db_run(struct ch_db *db, struct sqlite3_stmt *stmt, struct ch_why *why)
{
    enum ch_err err = ch_db_step(db, stmt, why);
    CH_ASSERT(err); // a row: not a statement for this function
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

enum ch_err ch_db_step_int(struct ch_db *db, struct sqlite3_stmt *stmt, int64_t *value_out,
                           struct ch_why *why)
{
    enum ch_err err = ch_db_step(db, stmt, why);
    if (err)
        return err;
    *value_out = ch_db_int(stmt, 0);
    ch_db_reset(stmt);
    return CH_OK;
}

void ch_db_reset(struct sqlite3_stmt *stmt)
{
    sqlite3_reset(stmt);
}

int64_t ch_db_int(struct sqlite3_stmt *stmt, int column)
{
    return sqlite3_column_int64(stmt, column);
}

struct ch_span ch_db_text(struct sqlite3_stmt *stmt, int column)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    return (struct ch_span){text, (size_t)sqlite3_column_bytes(stmt, column)};
}

struct ch_span ch_db_blob(struct sqlite3_stmt *stmt, int column)
{
    const char *bytes = sqlite3_column_blob(stmt, column);
    return (struct ch_span){bytes, (size_t)sqlite3_column_bytes(stmt, column)};
}

bool ch_db_is_null(struct sqlite3_stmt *stmt, int column)
{
    return sqlite3_column_type(stmt, column) == SQLITE_NULL;
}

int ch_db_columns(struct sqlite3_stmt *stmt)
{
    return sqlite3_column_count(stmt);
}

const char *ch_db_column_name(struct sqlite3_stmt *stmt, int column)
{
    const char *name = sqlite3_column_name(stmt, column);
    return name ? name : ""; // no memory for it
}

enum ch_db_type ch_db_column_type(struct sqlite3_stmt *stmt, int column)
{
    switch (sqlite3_column_type(stmt, column)) {
    case SQLITE_INTEGER:
        return CH_DB_INT;
    case SQLITE_BLOB:
        return CH_DB_BLOB;
    case SQLITE_NULL:
        return CH_DB_NULL;
    default: // the schema's tables are STRICT and have no REAL column
        return CH_DB_TEXT;
    }
}

bool ch_db_copy_text(struct sqlite3_stmt *stmt, int column, char *out, size_t size)
{
    return ch_span_copy(ch_db_text(stmt, column), out, size);
}

void ch_db_release_memory(struct ch_db *db)
{
    sqlite3_db_release_memory(db->handle);
    malloc_trim(0);
}

int64_t ch_db_last_id(struct ch_db *db)
{
    return sqlite3_last_insert_rowid(db->handle);
}

int64_t ch_db_changes(struct ch_db *db)
{
    return sqlite3_changes64(db->handle);
}
