// SPDX-License-Identifier: Apache-2.0
// The audit log, and what `audit verify` finds when somebody with a shell edits the database.
#include "fixture.h"

#include "store/audit.h"

#include "base/log.h"

#include "../sanitizer.h"

#include <fcntl.h>
#include <sodium.h>
#include <sqlite3.h>
#include <sys/stat.h>

static struct ch_store *store;
static const struct ch_audit_actor alice = {"alice", 1001};

// ---- a log with a few rows

static enum ch_err create_provider(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct ch_provider_row row = {
        .type = CH_PROVIDER_OPENAI, .enabled = true, .injects_usage = true};
    ch_span_copy(ch_span_of(arg), row.name, sizeof row.name);
    strcpy(row.base_url, "https://api.openai.com/v1");
    return ch_provider_create(db, ch_store_vault(store), &row,
                              CH_SPAN("sk-proj-CANARY-in-no-audit-row-0123456789"), why);
}

static enum ch_err disable_provider(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct ch_provider_row row;
    return ch_provider_set_enabled(db, arg, false, &row, why);
}

static enum ch_err create_key(struct ch_db *db, void *arg, struct ch_why *why)
{
    char token[CH_WRAPPED_KEY_MAX + 1];
    struct ch_key_row row = {.provider_count = 1};
    ch_span_copy(ch_span_of(arg), row.name, sizeof row.name);
    strcpy(row.provider_names[0], "openai");
    return ch_key_create(db, ch_store_pepper(store), &row, token, why);
}

static enum ch_err revoke_key(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct ch_key_row row;
    return ch_key_set_status(db, arg, CH_KEY_REVOKED, "leaked", &row, why);
}

static enum ch_err try_change(const char *action, const char *kind, const char *name,
                              ch_store_write_fn fn, struct ch_why *why)
{
    const struct ch_audit_change change = {.actor = &alice,
                                           .action = action,
                                           .object_kind = kind,
                                           .object = name,
                                           .reason = "a reason"};
    return ch_audit_change(store, &change, fn, (void *)(uintptr_t)name, why);
}

static void change(const char *action, const char *kind, const char *name, ch_store_write_fn fn)
{
    struct ch_why why = {""};
    enum ch_err err = try_change(action, kind, name, fn, &why);
    if (err)
        fail_msg("%s %s: %s", action, name, why.text);
}

// Rows 1 (init) to 5.
static int make_log(void **state)
{
    if (fixture_make_dir(state))
        return -1;
    ch_log_set_level(CH_LOG_ERROR);
    store = fixture_open("a.db");
    change("provider.create", "provider", "openai", create_provider);
    change("key.create", "key", "web", create_key);
    change("key.revoke", "key", "web", revoke_key);
    change("provider.disable", "provider", "openai", disable_provider);
    return 0;
}

static int drop_log(void **state)
{
    ch_store_close(store);
    store = NULL;
    return fixture_remove_dir(state);
}

// ---- somebody with a shell

static sqlite3 *open_shell(const char *name)
{
    static const char setup[] = "PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0;"
                                "PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF;";
    sqlite3 *shell;
    assert_int_equal(sqlite3_open(fixture_path(name), &shell), SQLITE_OK);
    assert_int_equal(sqlite3_exec(shell, setup, NULL, NULL, NULL), SQLITE_OK);
    return shell;
}

static void run(sqlite3 *shell, const char *sql)
{
    char *message = NULL;
    if (sqlite3_exec(shell, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
}

static void drop_triggers(sqlite3 *shell)
{
    run(shell, "DROP TRIGGER audit_update; DROP TRIGGER audit_delete; DROP TRIGGER audit_insert;"
               "DROP TRIGGER audit_keys_update; DROP TRIGGER audit_keys_delete;"
               "DROP TRIGGER audit_keys_insert");
}

// ---- verifying

static json_t *verify(struct ch_span heads)
{
    struct ch_why why = {""};
    json_t *report = NULL;
    enum ch_err err = ch_audit_verify(store, heads, &report, &why);
    if (err)
        fail_msg("verify: %s: %s", ch_err_name(err), why.text);
    return report;
}

static void assert_whole(void)
{
    json_t *report = verify(CH_SPAN(""));
    if (!json_is_true(json_object_get(report, "ok"))) {
        json_dumpf(report, stderr, JSON_INDENT(1));
        fail_msg("there are findings");
    }
    json_decref(report);
}

// At least one finding, and one of them is about row `seq` (0: any) and says `part`.
static void assert_found_in(struct ch_span heads, int64_t seq, const char *part)
{
    json_t *report = verify(heads), *item;
    size_t index;
    bool found = false;
    json_array_foreach(json_object_get(report, "items"), index, item)
    {
        found |= (seq == 0 || json_integer_value(json_object_get(item, "seq")) == seq) &&
                 strstr(json_string_value(json_object_get(item, "finding")), part);
    }
    if (!found || json_is_true(json_object_get(report, "ok"))) {
        json_dumpf(report, stderr, JSON_INDENT(1));
        fail_msg("no finding about row %lld says \"%s\"", (long long)seq, part);
    }
    json_decref(report);
}

static void assert_found(int64_t seq, const char *part)
{
    assert_found_in(CH_SPAN(""), seq, part);
}

// ---- tests: what is written

static json_t *rows(struct ch_audit_filter filter)
{
    struct ch_why why = {""};
    json_t *items = json_array();
    filter.limit = 100;
    assert_int_equal(ch_audit_list(store, &filter, items, &why), CH_OK);
    return items;
}

static const char *text_of(const json_t *items, size_t index, const char *member)
{
    return json_string_value(json_object_get(json_array_get(items, index), member));
}

static void writes_one_row_for_each_change(void **state)
{
    (void)state;
    static const char *const actions[] = {"provider.disable", "key.revoke", "key.create",
                                          "provider.create", "init"};
    json_t *items = rows((struct ch_audit_filter){.after = -1});
    assert_int_equal(json_array_size(items), 5);
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(text_of(items, i, "action"), actions[i]);
        assert_int_equal(json_integer_value(json_object_get(json_array_get(items, i), "seq")),
                         5 - i);
    }
    assert_string_equal(text_of(items, 1, "actor"), "alice");
    assert_string_equal(text_of(items, 1, "object"), "key:web");
    assert_string_equal(text_of(items, 1, "reason"), "a reason");
    json_t *row = json_array_get(items, 1);
    json_t *before = json_object_get(row, "before"), *after = json_object_get(row, "after");
    assert_string_equal(json_string_value(json_object_get(before, "status")), "active");
    assert_string_equal(json_string_value(json_object_get(after, "status")), "revoked");
    assert_true(json_is_null(json_object_get(json_array_get(items, 3), "before")));
    json_decref(items);
    assert_whole();
}

static void filters_rows(void **state)
{
    (void)state;
    static const struct {
        struct ch_audit_filter filter;
        size_t count;
    } cases[] = {
        {{.after = -1, .actor = "alice"}, 4},   {{.after = -1, .actor = "mallory"}, 0},
        {{.after = -1, .action = "key"}, 2},    {{.after = -1, .action = "key.revoke"}, 1},
        {{.after = -1, .action = "ke"}, 0},     {{.after = -1, .object = "key:web"}, 2},
        {{.after = -1, .object = "openai"}, 2}, {{.after = 3}, 2},
        {{.after = -1, .from_ms = 1}, 5},       {{.after = -1, .to_ms = 1}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *items = rows(cases[i].filter);
        assert_int_equal(json_array_size(items), cases[i].count);
        json_decref(items);
    }
}

// A changed secret is seen, the secret is not.
static void shows_secrets_as_macs(void **state)
{
    (void)state;
    json_t *items = rows((struct ch_audit_filter){.after = -1});
    char *text = json_dumps(items, JSON_COMPACT);
    assert_null(strstr(text, "CANARY"));
    json_t *created = json_object_get(json_array_get(items, 3), "after");
    json_t *disabled = json_object_get(json_array_get(items, 0), "after");
    const char *mac = json_string_value(json_object_get(created, "credential"));
    assert_int_equal(strncmp(mac, "hmac:", 5), 0);
    assert_string_equal(json_string_value(json_object_get(disabled, "credential")), mac);
    assert_null(json_object_get(created, "sealed"));
    json_t *key = json_object_get(json_array_get(items, 2), "after");
    assert_int_equal(strncmp(json_string_value(json_object_get(key, "hash")), "hmac:", 5), 0);
    free(text);
    json_decref(items);
}

static enum ch_err fail_late(struct ch_db *db, void *arg, struct ch_why *why)
{
    enum ch_err err = create_provider(db, arg, why);
    return err ? err : ch_why_set(why, CH_ERR_LIMIT, "too late");
}

static void records_nothing_that_did_not_happen(void **state)
{
    (void)state;
    struct ch_why why;
    assert_int_equal(try_change("provider.create", "provider", "late", fail_late, &why),
                     CH_ERR_LIMIT);
    json_t *items = rows((struct ch_audit_filter){.after = -1});
    assert_int_equal(json_array_size(items), 5);
    json_decref(items);
    change("provider.create", "provider", "late", create_provider); // row 6 follows row 5
    assert_whole();
}

static enum ch_err find_provider(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct ch_provider_row row;
    return ch_provider_get(db, arg, &row, why);
}

static void refuses_what_it_cannot_record(void **state)
{
    (void)state;
    struct ch_why why;
    sqlite3 *shell = open_shell("a.db");
    run(shell, "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'full'); END");
    assert_int_equal(try_change("provider.create", "provider", "new", create_provider, &why),
                     CH_ERR_IO);
    assert_non_null(strstr(why.text, "cannot be recorded in the audit log"));
    static char name[] = "new";
    assert_int_equal(ch_store_read(store, find_provider, name, &why), CH_ERR_NOT_FOUND);
    run(shell, "DROP TRIGGER full");
    sqlite3_close(shell);
    change("provider.create", "provider", "new", create_provider);
    assert_whole();
}

static void only_grows(void **state)
{
    (void)state;
    static const char *const statements[] = {
        "UPDATE audit SET reason = '' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 5",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 2",
        ("INSERT INTO audit SELECT seq + 7, at_ms, actor, uid, action, object_kind, object, "
         "before, after, reason, prev, hash, signature FROM audit WHERE seq = 5"),
        "UPDATE audit_keys SET public_key = zeroblob(32)",
        "DELETE FROM audit_keys",
        "INSERT OR REPLACE INTO audit_keys SELECT * FROM audit_keys",
    };
    sqlite3 *shell = open_shell("a.db");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        assert_int_equal(sqlite3_exec(shell, statements[i], NULL, NULL, NULL), SQLITE_CONSTRAINT);
    sqlite3_close(shell);
    assert_whole();
}

static enum ch_err run_sql(struct ch_db *db, void *sql, struct ch_why *why)
{
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    return err ? err : ch_db_run(db, stmt, why);
}

// Even without the triggers: the program's own connection may not.
static void cannot_be_edited_by_the_program(void **state)
{
    (void)state;
    static char statements[][64] = {
        "UPDATE audit SET reason = ''",  "DELETE FROM audit",      "DROP TRIGGER audit_update",
        "UPDATE audit_keys SET id = 1",  "DELETE FROM audit_keys", "DROP TABLE audit",
        "ALTER TABLE audit RENAME TO b", "ATTACH 'b.db' AS b",     "PRAGMA recursive_triggers = 1",
    };
    struct ch_why why;
    sqlite3 *shell = open_shell("a.db");
    drop_triggers(shell);
    sqlite3_close(shell);
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        assert_int_not_equal(ch_store_write(store, run_sql, statements[i], &why), CH_OK);
    assert_whole();
}

// ---- tests: every bit

typedef void (*find_fn)(int64_t row);

static void find_row(int64_t row)
{
    assert_found(row, "");
}

static void find_any(int64_t row)
{
    (void)row;
    assert_found(0, "");
}

// False: another row has this value.
static bool write_int(sqlite3 *shell, const char *table, const char *column, const char *id,
                      int64_t value, int64_t key)
{
    char sql[160];
    sqlite3_stmt *stmt;
    snprintf(sql, sizeof sql, "UPDATE %s SET %s = ? WHERE %s = ?", table, column, id);
    assert_int_equal(sqlite3_prepare_v2(shell, sql, -1, &stmt, NULL), SQLITE_OK);
    sqlite3_bind_int64(stmt, 1, value);
    sqlite3_bind_int64(stmt, 2, key);
    int code = sqlite3_step(stmt);
    assert_true(code == SQLITE_DONE || code == SQLITE_CONSTRAINT);
    sqlite3_finalize(stmt);
    return code == SQLITE_DONE;
}

// An id that is itself flipped is found again by its new value.
static void flip_int(sqlite3 *shell, const char *table, const char *column, const char *id,
                     int64_t key, int64_t value, find_fn find)
{
    bool is_id = strcmp(column, id) == 0;
    for (unsigned bit = 0; bit < 64; bit += CH_TSAN_SHARE) {
        int64_t flipped = (int64_t)((uint64_t)value ^ UINT64_C(1) << bit);
        if (!write_int(shell, table, column, id, flipped, key))
            continue;
        find(key);
        assert_true(write_int(shell, table, column, id, value, is_id ? flipped : key));
    }
}

static void write_bytes(sqlite3 *shell, const char *table, const char *column, const char *id,
                        int64_t key, const char *bytes, int size, bool is_text)
{
    char sql[160];
    sqlite3_stmt *stmt;
    snprintf(sql, sizeof sql, "UPDATE %s SET %s = ? WHERE %s = ?", table, column, id);
    assert_int_equal(sqlite3_prepare_v2(shell, sql, -1, &stmt, NULL), SQLITE_OK);
    if (is_text)
        sqlite3_bind_text(stmt, 1, bytes, size, SQLITE_STATIC);
    else
        sqlite3_bind_blob(stmt, 1, bytes, size, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 2, key);
    assert_int_equal(sqlite3_step(stmt), SQLITE_DONE);
    assert_int_equal(sqlite3_changes(shell), 1);
    sqlite3_finalize(stmt);
}

// Every bit of a short value; of a long one every bit of every 32nd byte, shifted from row to row.
#define LONG_VALUE 64
#define LONG_STEP  32

static void flip_bytes(sqlite3 *shell, const char *table, const char *column, const char *id,
                       int64_t key, const char *value, int size, bool is_text, find_fn find)
{
    char bytes[4096];
    assert_true(size <= (int)sizeof bytes);
    memcpy(bytes, value, (size_t)size);
    int step = size > LONG_VALUE ? LONG_STEP : 1;
    for (int at = step > 1 ? (int)(key % step) : 0; at < size; at += step)
        for (unsigned bit = 0; bit < 8; bit += CH_TSAN_SHARE) {
            bytes[at] = (char)(bytes[at] ^ (char)(1u << bit));
            write_bytes(shell, table, column, id, key, bytes, size, is_text);
            find(key);
            bytes[at] = (char)(bytes[at] ^ (char)(1u << bit));
        }
    write_bytes(shell, table, column, id, key, bytes, size - 1, is_text); // and one byte less
    find(key);
    write_bytes(shell, table, column, id, key, bytes, size, is_text);
}

static void flip_every_column(sqlite3 *shell, const char *table, const char *id, int64_t key,
                              find_fn find)
{
    char sql[80];
    sqlite3_stmt *row;
    snprintf(sql, sizeof sql, "SELECT * FROM %s WHERE %s = %lld", table, id, (long long)key);
    assert_int_equal(sqlite3_prepare_v2(shell, sql, -1, &row, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(row), SQLITE_ROW);
    int columns = sqlite3_column_count(row);
    for (int i = 0; i < columns; i++) {
        char name[64], bytes[4096];
        snprintf(name, sizeof name, "%s", sqlite3_column_name(row, i));
        int type = sqlite3_column_type(row, i), size = sqlite3_column_bytes(row, i);
        int64_t number = sqlite3_column_int64(row, i);
        if (type == SQLITE_BLOB || type == SQLITE_TEXT)
            memcpy(bytes,
                   type == SQLITE_BLOB ? sqlite3_column_blob(row, i)
                                       : (const void *)sqlite3_column_text(row, i),
                   (size_t)size);
        sqlite3_reset(row);
        if (type == SQLITE_INTEGER)
            flip_int(shell, table, name, id, key, number, find);
        else if (size > 0)
            flip_bytes(shell, table, name, id, key, bytes, size, type == SQLITE_TEXT, find);
        assert_int_equal(sqlite3_step(row), SQLITE_ROW);
    }
    sqlite3_finalize(row);
}

static void finds_every_flipped_bit_of_a_row(void **state)
{
    (void)state;
    sqlite3 *shell = open_shell("a.db");
    drop_triggers(shell);
    flip_every_column(shell, "audit", "seq", 4, find_row);
    assert_whole(); // every flip was undone
    sqlite3_close(shell);
}

static void finds_every_flipped_bit_of_a_provider(void **state)
{
    (void)state;
    sqlite3 *shell = open_shell("a.db");
    flip_every_column(shell, "providers", "id", 1, find_any);
    assert_whole();
    sqlite3_close(shell);
}

static void finds_every_flipped_bit_of_a_sealed_value(void **state)
{
    (void)state;
    sqlite3 *shell = open_shell("a.db");
    // The table is WITHOUT ROWID, its key a text: flips run on a copy that has numbers.
    run(shell,
        "CREATE TABLE copy (n INTEGER PRIMARY KEY, kind TEXT, key_version INTEGER, sealed BLOB);"
        "INSERT INTO copy SELECT row_number() OVER (ORDER BY kind), * FROM vault_values;"
        "CREATE TRIGGER through AFTER UPDATE ON copy BEGIN DELETE FROM vault_values;"
        "INSERT INTO vault_values SELECT kind, key_version, sealed FROM copy; END");
    sqlite3_stmt *row;
    for (int64_t n = 1; n <= 3; n++) {
        assert_int_equal(
            sqlite3_prepare_v2(shell, "SELECT kind, key_version, sealed FROM copy WHERE n = ?", -1,
                               &row, NULL),
            SQLITE_OK);
        sqlite3_bind_int64(row, 1, n);
        assert_int_equal(sqlite3_step(row), SQLITE_ROW);
        char kind[16], sealed[512];
        int kind_size = sqlite3_column_bytes(row, 0), size = sqlite3_column_bytes(row, 2);
        int64_t version = sqlite3_column_int64(row, 1);
        memcpy(kind, sqlite3_column_text(row, 0), (size_t)kind_size);
        memcpy(sealed, sqlite3_column_blob(row, 2), (size_t)size);
        sqlite3_finalize(row);
        flip_bytes(shell, "copy", "kind", "n", n, kind, kind_size, true, find_any);
        flip_int(shell, "copy", "key_version", "n", n, version, find_any);
        flip_bytes(shell, "copy", "sealed", "n", n, sealed, size, false, find_any);
    }
    assert_whole();
    sqlite3_close(shell);
}

// ---- tests: rows and heads

static void finds_missing_moved_and_foreign_rows(void **state)
{
    (void)state;
    sqlite3 *shell = open_shell("a.db");
    drop_triggers(shell);
    run(shell, "CREATE TABLE kept AS SELECT * FROM audit");
    run(shell, "DELETE FROM audit WHERE seq = 3");
    assert_found(3, "missing");
    run(shell, "UPDATE audit SET seq = seq - 1 WHERE seq > 3"); // and closed up
    assert_found(3, "");
    run(shell, "DELETE FROM audit; INSERT INTO audit SELECT * FROM kept");
    run(shell, "UPDATE audit SET seq = 99 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 4;"
               "UPDATE audit SET seq = 4 WHERE seq = 99"); // two swapped
    assert_found(3, "changed");
    assert_found(4, "changed");
    run(shell, "DELETE FROM audit; INSERT INTO audit SELECT * FROM kept");
    run(shell,
        "INSERT INTO audit SELECT 6, at_ms, actor, uid, action, object_kind, object, before, "
        "after, reason, hash, hash, signature FROM audit WHERE seq = 5"); // one put behind
    assert_found(6, "changed");
    run(shell, "DELETE FROM audit WHERE seq = 6");
    assert_whole();
    sqlite3_close(shell);
}

static void finds_a_log_that_was_cut_off(void **state)
{
    (void)state;
    sqlite3 *shell = open_shell("a.db");
    drop_triggers(shell);
    run(shell, "DELETE FROM audit WHERE seq = 5");
    assert_found(5, "cut off or rolled back");
    run(shell, "DELETE FROM audit WHERE seq > 1");
    assert_found(2, "cut off or rolled back");
    assert_found(5, "cut off or rolled back");
    sqlite3_close(shell);
}

static size_t read_file(const char *name, char *out, size_t size)
{
    int fd = open(fixture_path(name), O_RDONLY);
    assert_true(fd >= 0);
    ssize_t got = read(fd, out, size);
    close(fd);
    assert_true(got > 0 && (size_t)got < size);
    return (size_t)got;
}

static void write_file(const char *name, const char *bytes, size_t size)
{
    int fd = open(fixture_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    close(fd);
}

// The whole database put back, and its heads file with it: only a head from elsewhere tells.
static void finds_a_rollback_by_a_head_from_elsewhere(void **state)
{
    (void)state;
    char heads[8192], older[8192];
    size_t size = read_file("a.db.audit-heads", heads, sizeof heads);
    sqlite3 *shell = open_shell("a.db");
    drop_triggers(shell);
    run(shell, "DELETE FROM audit WHERE seq = 5; UPDATE providers SET enabled = 1, updated_at_ms = "
               "(SELECT json_extract(after, '$.updated_at_ms') FROM audit WHERE seq = 2)");
    sqlite3_close(shell);
    size_t older_size = (size_t)((char *)memrchr(heads, '\n', size - 1) + 1 - heads);
    memcpy(older, heads, older_size);
    write_file("a.db.audit-heads", older, older_size);
    assert_whole(); // nothing here can tell
    assert_found_in((struct ch_span){heads, size}, 5, "cut off or rolled back");
    char hash[65] = "", line[160];
    const char *last = heads + older_size;
    memcpy(hash, strchr(last, ' ') + 1, 64);
    assert_found_in(ch_span_of(hash), 0, "no row has the hash");
    snprintf(line, sizeof line,
             "Nov 21 host chaperone[1]: level=info event=audit_head seq=5 hash=\"%s\"", hash);
    assert_found_in(ch_span_of(line), 5, "cut off or rolled back");
}

static void finds_a_log_that_was_rewritten(void **state)
{
    (void)state;
    char heads[8192];
    size_t size = read_file("a.db.audit-heads", heads, sizeof heads);
    sqlite3 *shell = open_shell("a.db");
    drop_triggers(shell);
    run(shell, "UPDATE audit SET hash = zeroblob(32) WHERE seq = 4");
    assert_found_in((struct ch_span){heads, size}, 4, "rewritten");
    sqlite3_close(shell);
}

static void checks_the_heads_file_itself(void **state)
{
    (void)state;
    char heads[8192];
    size_t size = read_file("a.db.audit-heads", heads, sizeof heads);
    struct stat info;
    assert_int_equal(stat(fixture_path("a.db.audit-heads"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    for (size_t at = 0; at < size; at += 7) {
        heads[at] ^= 1;
        write_file("a.db.audit-heads", heads, size);
        assert_found(0, "");
        heads[at] ^= 1;
    }
    unlink(fixture_path("a.db.audit-heads"));
    assert_found(0, "missing or empty");
    write_file("a.db.audit-heads", heads, size);
    assert_whole();
    struct ch_why why;
    json_t *report;
    assert_int_equal(ch_audit_verify(store, CH_SPAN("no head\n"), &report, &why), CH_ERR_INVALID);
}

static void finds_rows_signed_by_another_key(void **state)
{
    (void)state;
    unsigned char public_key[32], secret[64], hash[32], signature[64];
    sqlite3 *shell = open_shell("a.db");
    sqlite3_stmt *stmt;
    drop_triggers(shell);
    crypto_sign_keypair(public_key, secret);
    assert_int_equal(
        sqlite3_prepare_v2(shell, "SELECT hash FROM audit WHERE seq = 5", -1, &stmt, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    memcpy(hash, sqlite3_column_blob(stmt, 0), sizeof hash);
    sqlite3_finalize(stmt);
    crypto_sign_detached(signature, NULL, hash, sizeof hash, secret);
    write_bytes(shell, "audit", "signature", "seq", 5, (char *)signature, 64, false);
    write_bytes(shell, "audit_keys", "public_key", "id", 1, (char *)public_key, 32, false);
    assert_found(5, "not signed");
    assert_found(0, "not the one that signs");
    sqlite3_close(shell);
    ch_store_close(store);
    store = NULL;
    struct ch_why why = {""};
    assert_int_equal(fixture_try_open("a.db", 1, false, &store, &why), CH_ERR_CORRUPT);
    assert_non_null(strstr(why.text, "public key"));
}

static void does_not_build_on_a_log_that_was_cut_meanwhile(void **state)
{
    (void)state;
    struct ch_why why;
    sqlite3 *shell = open_shell("a.db");
    drop_triggers(shell);
    run(shell, "CREATE TABLE kept AS SELECT * FROM audit; DELETE FROM audit WHERE seq = 5");
    assert_int_equal(try_change("provider.create", "provider", "new", create_provider, &why),
                     CH_ERR_CORRUPT);
    assert_non_null(strstr(why.text, "does not end where"));
    run(shell, "DELETE FROM audit; INSERT INTO audit SELECT * FROM kept");
    sqlite3_close(shell);
    change("provider.create", "provider", "new", create_provider);
    assert_whole();
}

// ---- tests: the rows that the log speaks of

static enum ch_err raise_version(struct ch_db *db, void *arg, struct ch_why *why)
{
    static char sql[] = "UPDATE providers SET key_version = 2, sealed = x'' WHERE name = 'openai'";
    (void)arg;
    return run_sql(db, sql, why);
}

static void finds_a_provider_that_was_rolled_back(void **state)
{
    (void)state;
    sqlite3 *shell = open_shell("a.db");
    run(shell, "CREATE TABLE kept AS SELECT * FROM providers");
    change("provider.rotate", "provider", "openai", raise_version);
    assert_whole();
    run(shell, "DELETE FROM providers; INSERT INTO providers SELECT * FROM kept");
    assert_found(6, "key_version is 1, and row 6 of the log says 2");
    sqlite3_close(shell);
}

static void finds_rows_that_came_and_went_by_another_hand(void **state)
{
    (void)state;
    sqlite3 *shell = open_shell("a.db");
    run(shell, "UPDATE wrapped_keys SET status = 'active'");
    assert_found(4, "status is \"active\", and row 4 of the log says \"revoked\"");
    run(shell, "UPDATE wrapped_keys SET status = 'revoked', name = 'other'");
    assert_found(4, "is gone");
    assert_found(0, "by another hand");
    run(shell, "UPDATE wrapped_keys SET name = 'web'");
    run(shell, "UPDATE providers SET base_url = 'https://evil.example/v1'");
    assert_found(5, "base_url is \"https://evil.example/v1\"");
    assert_found(5, "credential is \"unreadable\"");
    run(shell, "UPDATE providers SET base_url = 'https://api.openai.com/v1'");
    assert_whole();
    sqlite3_close(shell);
}

// ---- tests: opening again

static void goes_on_after_a_restart(void **state)
{
    (void)state;
    ch_store_close(store);
    store = fixture_open("a.db");
    change("provider.create", "provider", "new", create_provider);
    json_t *items = rows((struct ch_audit_filter){.after = -1});
    assert_int_equal(json_array_size(items), 6);
    json_decref(items);
    assert_whole();
}

// As a process killed between the commit and its head leaves it.
static void makes_a_head_good_that_was_not_written(void **state)
{
    (void)state;
    char heads[8192], now[8192];
    size_t size = read_file("a.db.audit-heads", heads, sizeof heads);
    ch_store_close(store);
    size_t older_size = (size_t)((char *)memrchr(heads, '\n', size - 1) + 1 - heads);
    write_file("a.db.audit-heads", heads, older_size);
    store = fixture_open("a.db");
    assert_int_equal(read_file("a.db.audit-heads", now, sizeof now), size);
    assert_memory_equal(now, heads, size);
    assert_whole();
}

// What was cut off is not made good: the heads stay as they are, and go on to say so.
static void keeps_heads_that_the_log_contradicts(void **state)
{
    (void)state;
    sqlite3 *shell = open_shell("a.db");
    drop_triggers(shell);
    run(shell, "DELETE FROM audit WHERE seq = 5");
    sqlite3_close(shell);
    ch_store_close(store);
    store = fixture_open("a.db");
    assert_found(5, "cut off");
    change("provider.create", "provider", "new", create_provider); // a new row 5
    assert_found(5, "rewritten");
}

static void refuses_a_log_without_its_key(void **state)
{
    (void)state;
    static const char *const edits[] = {
        "DELETE FROM vault_values WHERE kind = 'audit'",
        "DELETE FROM vault_values WHERE kind = 'audit'; DELETE FROM audit",
        "DELETE FROM audit",
    };
    struct ch_why why;
    ch_store_close(store);
    store = NULL;
    sqlite3 *shell = open_shell("a.db");
    drop_triggers(shell);
    run(shell, "CREATE TABLE kept_values AS SELECT * FROM vault_values;"
               "CREATE TABLE kept AS SELECT * FROM audit");
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        run(shell, edits[i]);
        assert_int_equal(fixture_try_open("a.db", 1, true, &store, &why), CH_ERR_CORRUPT);
        assert_non_null(strstr(why.text, "audit log"));
        run(shell, "DELETE FROM vault_values; INSERT INTO vault_values SELECT * FROM kept_values;"
                   "DELETE FROM audit; INSERT INTO audit SELECT * FROM kept");
    }
    sqlite3_close(shell);
    store = fixture_open("a.db");
    assert_whole();
}

static void names_users(void **state)
{
    (void)state;
    struct ch_audit_actor actor;
    ch_audit_actor_of(0, &actor);
    assert_string_equal(actor.name, "root");
    assert_int_equal(actor.uid, 0);
    ch_audit_actor_of(3999999999, &actor);
    assert_string_equal(actor.name, "uid:3999999999");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_log, drop_log)
    const struct CMUnitTest tests[] = {
        TEST(writes_one_row_for_each_change),
        TEST(filters_rows),
        TEST(shows_secrets_as_macs),
        TEST(records_nothing_that_did_not_happen),
        TEST(refuses_what_it_cannot_record),
        TEST(only_grows),
        TEST(cannot_be_edited_by_the_program),
        TEST(finds_every_flipped_bit_of_a_row),
        TEST(finds_every_flipped_bit_of_a_provider),
        TEST(finds_every_flipped_bit_of_a_sealed_value),
        TEST(finds_missing_moved_and_foreign_rows),
        TEST(finds_a_log_that_was_cut_off),
        TEST(finds_a_rollback_by_a_head_from_elsewhere),
        TEST(finds_a_log_that_was_rewritten),
        TEST(checks_the_heads_file_itself),
        TEST(finds_rows_signed_by_another_key),
        TEST(does_not_build_on_a_log_that_was_cut_meanwhile),
        TEST(finds_a_provider_that_was_rolled_back),
        TEST(finds_rows_that_came_and_went_by_another_hand),
        TEST(goes_on_after_a_restart),
        TEST(makes_a_head_good_that_was_not_written),
        TEST(keeps_heads_that_the_log_contradicts),
        TEST(refuses_a_log_without_its_key),
        cmocka_unit_test(names_users),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
