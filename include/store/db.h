// SPDX-License-Identifier: Apache-2.0
// One SQLite connection: statements prepared once, errors in words. Private to the store floor.
//
// Beside SQL's own functions every connection has sum_capped(a, b, …): the sum over all rows and
// all arguments, which stops at the largest integer where sum() would fail.
//
// A thin layer, so that SQLite's own interface appears in db.c only. A connection belongs to one
// thread at a time; who that is, is the caller's care. Every statement is a constant of the
// program: nothing here formats SQL, and after ch_db_restrict the connection refuses to change the
// schema, attach files or set pragmas.
#ifndef CH_STORE_DB_H
#define CH_STORE_DB_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

struct ch_db;
struct sqlite3_stmt;

enum ch_db_mode {
    CH_DB_WRITER, // exactly one in the world (security.md §0.2): writes and checkpoints
    CH_DB_READER, // never writes, never checkpoints
};

// Once per process, before any other call: SQLite allocates through zeroing functions from then on.
enum ch_err ch_db_process_init(struct ch_why *why) CH_MUST_USE;

// Opens an existing file and sets the connection up (design.md §6). The first statement may still
// fail with CH_ERR_CORRUPT: SQLite reads lazily.
enum ch_err ch_db_open(const char *path, enum ch_db_mode mode, struct ch_db **db_out,
                       struct ch_why *why) CH_MUST_USE;
void ch_db_close(struct ch_db *db); // NULL is fine
// From here on only SELECT, INSERT, UPDATE, DELETE and transactions are prepared, and of the audit
// log's tables neither UPDATE nor DELETE: their triggers cannot be dropped, and need not be
// trusted.
void ch_db_restrict(struct ch_db *db);

// The audit log that ch_audit_append writes (store/audit.h); NULL where there is none. Borrowed.
struct ch_audit;
void ch_db_set_audit(struct ch_db *db, struct ch_audit *audit);
struct ch_audit *ch_db_audit(const struct ch_db *db);

// True after an input/output error: what a repeated statement seems to have stored may not be on
// the disk (after a failed fsync the kernel forgets what was not written). A full disk, a lock and
// a lack of memory do not count: they pass.
bool ch_db_is_broken(const struct ch_db *db);

// The writer's begin takes the write lock.
enum ch_err ch_db_begin(struct ch_db *db, struct ch_why *why) CH_MUST_USE;
enum ch_err ch_db_commit(struct ch_db *db, struct ch_why *why) CH_MUST_USE;
void ch_db_rollback(struct ch_db *db);

// Runs several statements without results: a migration or set-up.
enum ch_err ch_db_script(struct ch_db *db, const char *sql, struct ch_why *why) CH_MUST_USE;

// Gives the statement of `sql`, ready to be bound, prepared at its first use on this connection.
// `sql` is static: its address is the cache's key. It must not be in use already (a bug).
enum ch_err ch_db_prepare(struct ch_db *db, const char *sql, struct sqlite3_stmt **stmt_out,
                          struct ch_why *why) CH_MUST_USE;

// Parameters count from 1. Texts and blobs are borrowed until the statement is reset; an empty one
// is '' or x'', never NULL.
void ch_db_bind_int(struct sqlite3_stmt *stmt, int index, int64_t value);
void ch_db_bind_text(struct sqlite3_stmt *stmt, int index, struct ch_span text);
void ch_db_bind_blob(struct sqlite3_stmt *stmt, int index, struct ch_span bytes);
void ch_db_bind_null(struct sqlite3_stmt *stmt, int index);

// CH_OK: a row stands ready. CH_ERR_NOT_FOUND: there is none (more). Except after CH_OK the
// statement is reset. CH_ERR_CONFLICT: a constraint refused it.
enum ch_err ch_db_step(struct ch_db *db, struct sqlite3_stmt *stmt, struct ch_why *why) CH_MUST_USE;
// Steps a statement that gives no row to its end.
enum ch_err ch_db_run(struct ch_db *db, struct sqlite3_stmt *stmt, struct ch_why *why) CH_MUST_USE;
// Steps a query for one number, in the first column of its first row, and resets it. `*value_out`
// is set for CH_OK alone.
enum ch_err ch_db_step_int(struct ch_db *db, struct sqlite3_stmt *stmt, int64_t *value_out,
                           struct ch_why *why) CH_MUST_USE;
void ch_db_reset(struct sqlite3_stmt *stmt); // when rows are left unread

// Columns count from 0; what they give is borrowed until the next step or reset.
int64_t ch_db_int(struct sqlite3_stmt *stmt, int column);
struct ch_span ch_db_text(struct sqlite3_stmt *stmt, int column);
struct ch_span ch_db_blob(struct sqlite3_stmt *stmt, int column);
bool ch_db_is_null(struct sqlite3_stmt *stmt, int column);
// What `SELECT *` found: for code that writes down rows whose columns it need not know.
enum ch_db_type { CH_DB_NULL, CH_DB_INT, CH_DB_TEXT, CH_DB_BLOB };
int ch_db_columns(struct sqlite3_stmt *stmt);
const char *ch_db_column_name(struct sqlite3_stmt *stmt, int column);
enum ch_db_type ch_db_column_type(struct sqlite3_stmt *stmt, int column);
// Copies a text; false when it does not fit (the file was edited by other hands).
bool ch_db_copy_text(struct sqlite3_stmt *stmt, int column, char *out, size_t size);

int64_t ch_db_last_id(struct ch_db *db); // of the last insert
// Gives back the memory that the connection keeps for speed alone; the next work fetches its pages
// again.
void ch_db_release_memory(struct ch_db *db);
int64_t ch_db_changes(struct ch_db *db); // rows changed by the last statement

#endif
