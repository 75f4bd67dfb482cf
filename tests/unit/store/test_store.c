// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include "../sanitizer.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void assert_says(const struct ch_why *why, const char *part)
{
    if (!strstr(why->text, part))
        fail_msg("\"%s\" does not say \"%s\"", why->text, part);
}

static void creates_private_files_and_opens_them_again(void **state)
{
    (void)state;
    static const char *const names[] = {"a.db", "a.db-wal", "a.db-shm", "a.db.lock"};
    struct ch_store *store = fixture_open("a.db");
    struct stat info;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(stat(fixture_path(names[i]), &info), 0);
        assert_int_equal(info.st_mode & 0777, 0600);
    }
    char pepper[CH_WRAPPED_KEY_PEPPER];
    assert_int_equal(ch_secret_reveal(ch_store_pepper(store)).len, sizeof pepper);
    memcpy(pepper, ch_secret_reveal(ch_store_pepper(store)).ptr, sizeof pepper);
    ch_store_close(store);

    struct ch_why why;
    assert_int_equal(fixture_try_open("a.db", 1, false, &store, &why), CH_OK);
    assert_memory_equal(ch_secret_reveal(ch_store_pepper(store)).ptr, pepper, sizeof pepper);
    ch_store_close(store);
}

static void says_that_a_file_is_missing(void **state)
{
    (void)state;
    struct ch_store *store;
    struct ch_why why;
    assert_int_equal(fixture_try_open("a.db", 1, false, &store, &why), CH_ERR_NOT_FOUND);
    assert_says(&why, "does not exist");
    assert_int_not_equal(access(fixture_path("a.db.lock"), F_OK), 0);
}

static void refuses_a_wrong_master_key(void **state)
{
    (void)state;
    struct ch_store *store = fixture_open("a.db");
    struct ch_why why;
    ch_store_close(store);
    assert_int_equal(fixture_try_open("a.db", 2, false, &store, &why), CH_ERR_DENIED);
    assert_says(&why, "master key");
    assert_int_equal(fixture_try_open("a.db", 1, false, &store, &why), CH_OK); // nothing was harmed
    ch_store_close(store);
}

static void refuses_a_second_opener(void **state)
{
    (void)state;
    struct ch_store *store = fixture_open("a.db"), *second;
    struct ch_why why;
    assert_int_equal(fixture_try_open("a.db", 1, false, &second, &why), CH_ERR_CONFLICT);
    assert_says(&why, "in use");
    ch_store_close(store);
    store = fixture_open("a.db");
    ch_store_close(store);
}

// In a process of its own, as another daemon would: closing a file drops its process's locks on it.
static enum ch_err try_open_elsewhere(const char *name)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct ch_store *store;
        struct ch_why why;
        _exit((int)fixture_try_open(name, 1, false, &store, &why));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return (enum ch_err)WEXITSTATUS(status);
}

static void refuses_a_second_name_of_an_open_database(void **state)
{
    (void)state;
    struct ch_store *store = fixture_open("a.db");
    assert_int_equal(symlink("a.db", fixture_path("link.db")), 0);
    assert_int_equal(try_open_elsewhere("link.db"), CH_ERR_CONFLICT);
    assert_int_equal(link(fixture_path("a.db"), fixture_path("b.db")), 0);
    assert_int_equal(try_open_elsewhere("b.db"), CH_ERR_CONFLICT);
    ch_store_close(store);
    unlink(fixture_path("b.db"));
    struct ch_why why;
    assert_int_equal(fixture_try_open("link.db", 1, false, &store, &why), CH_OK);
    assert_int_equal(try_open_elsewhere("a.db"), CH_ERR_CONFLICT);
    ch_store_close(store);
}

static void keeps_sqlites_locks(void **state)
{
    (void)state;
    struct ch_store *store = fixture_open("a.db");
    assert_int_equal(try_open_elsewhere("a.db"), CH_ERR_CONFLICT);
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0x40000002, .l_len = 510};
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { // may not have the bytes of which an open WAL database holds one
        int fd = open(fixture_path("a.db"), O_RDWR);
        _exit(fcntl(fd, F_SETLK, &lock) == 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 0);
    ch_store_close(store);
}

// Runs SQL past the store, as somebody with a shell would.
static void tamper(const char *name, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(fixture_path(name), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void refuses_a_newer_schema(void **state)
{
    (void)state;
    struct ch_store *store = fixture_open("a.db");
    struct ch_why why;
    ch_store_close(store);
    tamper("a.db", "PRAGMA user_version = 999");
    assert_int_equal(fixture_try_open("a.db", 1, true, &store, &why), CH_ERR_INVALID);
    assert_says(&why, "newer");
}

static void refuses_a_database_of_another_program(void **state)
{
    (void)state;
    struct ch_store *store;
    struct ch_why why;
    tamper("a.db", "CREATE TABLE notes (text)");
    assert_int_equal(fixture_try_open("a.db", 1, true, &store, &why), CH_ERR_INVALID);
    assert_says(&why, "not a database of chaperone");
    FILE *file = fopen(fixture_path("b.db"), "w");
    fputs("This is no database at all, but it is long enough to be looked at as if it were one, "
          "page header and all: the format wants a hundred bytes.",
          file);
    fclose(file);
    assert_int_equal(fixture_try_open("b.db", 1, true, &store, &why), CH_ERR_CORRUPT);
}

static void refuses_swapped_or_missing_sealed_values(void **state)
{
    (void)state;
    struct ch_store *store = fixture_open("a.db");
    struct ch_why why;
    ch_store_close(store);
    tamper("a.db", "UPDATE vault_values SET sealed = (SELECT sealed FROM vault_values "
                   "WHERE kind = 'sentinel') WHERE kind = 'pepper'");
    assert_int_equal(fixture_try_open("a.db", 1, false, &store, &why), CH_ERR_CORRUPT);
    assert_says(&why, "pepper");
    tamper("a.db", "DELETE FROM vault_values WHERE kind = 'pepper'");
    assert_int_equal(fixture_try_open("a.db", 1, false, &store, &why), CH_ERR_CORRUPT);
    // A lost sentinel must not let any key in: a new one would be sealed beside the old pepper.
    store = fixture_open("b.db");
    ch_store_close(store);
    tamper("b.db", "DELETE FROM vault_values WHERE kind = 'sentinel'");
    assert_int_equal(fixture_try_open("b.db", 2, false, &store, &why), CH_ERR_CORRUPT);
    assert_says(&why, "sentinel");
}

static void makes_nothing_anew_unless_it_creates(void **state)
{
    (void)state;
    struct ch_store *store;
    struct ch_why why;
    fclose(fopen(fixture_path("a.db"), "w")); // an empty file
    assert_int_equal(fixture_try_open("a.db", 1, false, &store, &why), CH_ERR_CORRUPT);
    assert_says(&why, "is empty");
    tamper("a.db", "PRAGMA journal_mode = WAL"); // a database without a schema
    assert_int_equal(fixture_try_open("a.db", 1, false, &store, &why), CH_ERR_CORRUPT);
    assert_says(&why, "chaperone init");
    store = fixture_open("b.db");
    ch_store_close(store);
    tamper("b.db", "DELETE FROM vault_values"); // a wrong key must not become the right one
    assert_int_equal(fixture_try_open("b.db", 2, false, &store, &why), CH_ERR_CORRUPT);
    assert_says(&why, "sentinel");
    assert_int_equal(fixture_try_open("b.db", 1, false, &store, &why), CH_ERR_CORRUPT);
}

static enum ch_err check(const char *name, unsigned char key, struct ch_why *why)
{
    struct ch_secret *master_key = fixture_master_key(key);
    enum ch_err err = ch_store_check(fixture_path(name), master_key, why);
    ch_secret_free(master_key);
    return err;
}

static void checks_beside_a_running_daemon(void **state)
{
    (void)state;
    struct ch_why why = {""};
    struct ch_store *store = fixture_open("a.db");
    assert_int_equal(check("a.db", 1, &why), CH_OK);
    assert_int_equal(check("a.db", 2, &why), CH_ERR_DENIED);
    assert_says(&why, "master key");
    assert_int_equal(try_open_elsewhere("a.db"), CH_ERR_CONFLICT); // no lock was lost
    ch_store_close(store);
    assert_int_equal(unlink(fixture_path("a.db.lock")), 0);
    assert_int_equal(check("a.db", 1, &why), CH_OK);
    assert_int_not_equal(access(fixture_path("a.db.lock"), F_OK), 0);
    store = fixture_open("a.db");
    ch_store_close(store);
}

static void checks_what_an_opening_would_refuse(void **state)
{
    (void)state;
    struct ch_why why;
    assert_int_equal(check("a.db", 1, &why), CH_ERR_NOT_FOUND);
    fclose(fopen(fixture_path("a.db"), "w"));
    assert_int_equal(check("a.db", 1, &why), CH_ERR_CORRUPT);
    tamper("a.db", "CREATE TABLE notes (text)");
    assert_int_equal(check("a.db", 1, &why), CH_ERR_INVALID);
    assert_says(&why, "not a database of chaperone");
    ch_store_close(fixture_open("b.db"));
    tamper("b.db", "PRAGMA user_version = 0");
    assert_int_equal(check("b.db", 1, &why), CH_ERR_CORRUPT);
    tamper("b.db", "PRAGMA user_version = 999");
    assert_int_equal(check("b.db", 1, &why), CH_ERR_INVALID);
    tamper("b.db", "PRAGMA user_version = 1; DELETE FROM vault_values WHERE kind = 'sentinel'");
    assert_int_equal(check("b.db", 1, &why), CH_ERR_CORRUPT);
    assert_says(&why, "sentinel");
    tamper("b.db", "UPDATE vault_values SET sealed = x'00'");
    assert_int_equal(check("b.db", 1, &why), CH_ERR_CORRUPT);
}

static enum ch_err insert_two(struct ch_db *db, void *arg, struct ch_why *why)
{
    static const char sql[] = "INSERT INTO texts (text) VALUES (?)";
    struct sqlite3_stmt *stmt;
    for (int i = 0; i < 2; i++) {
        enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
        if (err)
            return err;
        ch_db_bind_text(stmt, 1, i ? CH_SPAN("two") : CH_SPAN("one"));
        err = ch_db_run(db, stmt, why);
        if (err)
            return err;
    }
    return *(enum ch_err *)arg;
}

static enum ch_err count_texts(struct ch_db *db, void *arg, struct ch_why *why)
{
    static const char sql[] = "SELECT count(*) FROM texts WHERE text <> ''";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err || (err = ch_db_step(db, stmt, why)))
        return err;
    *(int64_t *)arg = ch_db_int(stmt, 0);
    ch_db_reset(stmt);
    return CH_OK;
}

static void rolls_a_failed_write_back(void **state)
{
    (void)state;
    struct ch_store *store = fixture_open("a.db");
    struct ch_why why;
    enum ch_err outcome = CH_ERR_LIMIT;
    int64_t count = -1;
    assert_int_equal(ch_store_write(store, insert_two, &outcome, &why), CH_ERR_LIMIT);
    assert_int_equal(ch_store_read(store, count_texts, &count, &why), CH_OK);
    assert_int_equal(count, 0);
    outcome = CH_OK;
    assert_int_equal(ch_store_write(store, insert_two, &outcome, &why), CH_OK);
    assert_int_equal(ch_store_read(store, count_texts, &count, &why), CH_OK);
    assert_int_equal(count, 2);
    assert_int_equal(ch_store_write(store, insert_two, &outcome, &why), CH_ERR_CONFLICT); // UNIQUE
    ch_store_close(store);
}

static enum ch_err prepare(struct ch_db *db, void *sql, struct ch_why *why)
{
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    return err ? err : ch_db_run(db, stmt, why);
}

static void refuses_to_change_the_schema_at_run_time(void **state)
{
    (void)state;
    static char statements[][80] = {
        "DROP TABLE usage",
        "CREATE TABLE t (a)",
        "CREATE TEMP TABLE t (a)",
        "ALTER TABLE usage ADD COLUMN c INTEGER",
        "ATTACH DATABASE ':memory:' AS other",
        "PRAGMA synchronous = OFF",
        "PRAGMA writable_schema = ON",
        "DELETE FROM sqlite_schema",
        "VACUUM",
    };
    struct ch_store *store = fixture_open("a.db");
    struct ch_why why;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        assert_int_not_equal(ch_store_write(store, prepare, statements[i], &why), CH_OK);
    static char write[] = "INSERT INTO texts (text) VALUES ('x')";
    assert_int_not_equal(ch_store_read(store, prepare, write, &why), CH_OK);
    assert_int_equal(ch_store_write(store, prepare, write, &why), CH_OK);
    ch_store_close(store);
}

static void flip_byte(const char *path, off_t at)
{
    unsigned char byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0xff;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

// Reads all there is, as a start does; what it gives does not matter, only that it ends.
static enum ch_err ignore_key(void *arg, const struct ch_key_row *row)
{
    (void)arg, (void)row;
    return CH_OK;
}
static enum ch_err read_keys(struct ch_db *db, void *arg, struct ch_why *why)
{
    return ch_key_each(db, ignore_key, arg, why);
}

static enum ch_err create_some_keys(struct ch_db *db, void *arg, struct ch_why *why)
{
    char token[CH_WRAPPED_KEY_MAX + 1];
    enum ch_err err = CH_OK;
    for (int i = 0; !err && i < 20; i++) {
        struct ch_key_row key = {.name = ""};
        snprintf(key.name, sizeof key.name, "key-%d", i);
        err = ch_key_create(db, arg, &key, token, why);
    }
    return err;
}

static void survives_a_flipped_byte_anywhere(void **state)
{
    (void)state;
    struct ch_store *store = fixture_open("a.db");
    struct ch_why why;
    struct stat info;
    void *pepper = (void *)(uintptr_t)ch_store_pepper(store);
    assert_int_equal(ch_store_write(store, create_some_keys, pepper, &why), CH_OK);
    ch_store_close(store);
    assert_int_equal(stat(fixture_path("a.db"), &info), 0);
    int refused = 0;
    for (int i = 0; i < 250 / CH_TSAN_SHARE; i++) {
        off_t at = (off_t)((uint64_t)i * 2654435761u % (uint64_t)info.st_size);
        flip_byte(fixture_path("a.db"), at);
        enum ch_err err = fixture_try_open("a.db", 1, false, &store, &why);
        if (!err) {
            err = ch_store_read(store, read_keys, NULL, &why);
            ch_store_close(store);
        }
        refused += err != CH_OK;
        flip_byte(fixture_path("a.db"), at);
    }
    assert_true(refused > 0);
    store = fixture_open("a.db"); // every flip was undone, and no opening wrote over the damage
    ch_store_close(store);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_make_dir, fixture_remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(creates_private_files_and_opens_them_again),
        TEST(says_that_a_file_is_missing),
        TEST(refuses_a_wrong_master_key),
        TEST(refuses_a_second_opener),
        TEST(refuses_a_second_name_of_an_open_database),
        TEST(keeps_sqlites_locks),
        TEST(makes_nothing_anew_unless_it_creates),
        TEST(checks_beside_a_running_daemon),
        TEST(checks_what_an_opening_would_refuse),
        TEST(refuses_a_newer_schema),
        TEST(refuses_a_database_of_another_program),
        TEST(refuses_swapped_or_missing_sealed_values),
        TEST(rolls_a_failed_write_back),
        TEST(refuses_to_change_the_schema_at_run_time),
        TEST(survives_a_flipped_byte_anywhere),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
