// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include <sqlite3.h>

extern const char ch_sql_0001[]; // the first schema, as it is embedded

static struct ch_why why;

static sqlite3 *open_raw(const char *name)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(fixture_path(name), &db), SQLITE_OK);
    return db;
}

static void run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
}

static void run_in(const char *name, const char *sql)
{
    sqlite3 *db = open_raw(name);
    run(db, sql);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void query(const char *name, const char *sql, char out[16384])
{
    sqlite3 *db = open_raw(name);
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    const char *text = (const char *)sqlite3_column_text(stmt, 0);
    snprintf(out, 16384, "%s", text ? text : "");
    sqlite3_finalize(stmt);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void assert_gives(const char *name, const char *sql, const char *expected)
{
    static char text[16384];
    query(name, sql, text);
    assert_string_equal(text, expected);
}

// b.db: the first schema with a provider, two keys and an hour of usage, under the same secrets as
// a.db.
static void make_version_1(void)
{
    ch_store_close(fixture_open("a.db"));
    sqlite3 *db = open_raw("b.db");
    run(db, ch_sql_0001);
    char *attach = sqlite3_mprintf("ATTACH %Q AS a", fixture_path("a.db"));
    run(db, attach);
    sqlite3_free(attach);
    run(db, "INSERT INTO vault_values SELECT * FROM a.vault_values "
            "WHERE kind IN ('sentinel', 'pepper');"
            "INSERT INTO providers VALUES (7, 'openai', 'openai', 'https://api.openai.com/v1', 1, "
            "1, 1, x'00', '', 1, 1, NULL);"
            "INSERT INTO attributions VALUES (3, 'search', 'ranking', '', '', '');"
            "INSERT INTO wrapped_keys VALUES (1, 'aaaaaaaaaaaa', 'one', 'one', zeroblob(16), "
            "zeroblob(32), 'active', '', 0, 'gpt-*', 3, 5, 5), (2, 'bbbbbbbbbbbb', 'two', 'two', "
            "zeroblob(16), zeroblob(32), 'active', '', 0, '', 3, 6, 6);"
            "INSERT INTO key_providers VALUES (1, 0, 7);"
            "INSERT INTO usage_hourly VALUES (497208, 1, 3, 7, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "
            "0, 0, 0, 1234);");
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_gives("b.db", "PRAGMA user_version", "1");
}

static const char schema[] = "SELECT group_concat(name || sql, char(10)) FROM "
                             "(SELECT name, sql FROM sqlite_schema ORDER BY name)";

struct keys {
    int count;
    struct ch_key_row rows[2];
};

static enum ch_err take_key(void *arg, const struct ch_key_row *row)
{
    struct keys *keys = arg;
    assert_true(keys->count < 2);
    keys->rows[keys->count++] = *row;
    return CH_OK;
}

static enum ch_err each_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_key_each(db, take_key, arg, reason);
}

static enum ch_err get_provider_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_provider_get(db, "openai", arg, reason);
}

static void assert_data_is_there(struct ch_store *store)
{
    struct keys *keys = calloc(1, sizeof *keys);
    struct ch_provider_row provider;
    assert_int_equal(ch_store_read(store, each_in, keys, &why), CH_OK);
    assert_int_equal(keys->count, 2);
    assert_string_equal(keys->rows[0].name, "one");
    assert_string_equal(keys->rows[0].models, "gpt-*");
    assert_string_equal(keys->rows[0].team, "search");
    assert_string_equal(keys->rows[0].deny_models, "");
    assert_string_equal(keys->rows[0].provider_names[0], "openai");
    assert_int_equal(keys->rows[0].limits.limit[CH_RATE_REQUESTS], 0);
    assert_int_equal(keys->rows[1].previous_expires_at_ms, 0);
    free(keys);
    assert_int_equal(ch_store_read(store, get_provider_in, &provider, &why), CH_OK);
    assert_int_equal(provider.id, 7);
    assert_int_equal(provider.unknown_model.choice, CH_UNKNOWN_MODEL_DEFAULT);
}

static void brings_the_first_schema_with_its_data_to_the_newest(void **state)
{
    (void)state;
    static char fresh[16384], migrated[16384], version[16384];
    make_version_1();
    struct ch_store *store;
    enum ch_err err = fixture_try_open("b.db", 1, false, &store, &why);
    if (err)
        fail_msg("%s", why.text);
    assert_data_is_there(store);
    ch_store_close(store);
    assert_gives("b.db", "SELECT cost_nano_usd FROM usage_hourly", "1234");
    query("a.db", schema, fresh);
    query("b.db", schema, migrated);
    assert_true(strstr(fresh, "CREATE TABLE budgets") != NULL);
    assert_string_equal(migrated, fresh);
    query("a.db", "PRAGMA user_version", version);
    assert_gives("b.db", "PRAGMA user_version", version);
    assert_gives("b.db", "PRAGMA integrity_check", "ok");
    assert_gives("b.db", "SELECT count(*) FROM pragma_foreign_key_check", "0");
}

static void a_failing_statement_leaves_the_version_before(void **state)
{
    (void)state;
    static char before[16384];
    make_version_1();
    // In the way of a statement in the middle of the second file.
    run_in("b.db", "CREATE TABLE team_limits (team)");
    query("b.db", schema, before);
    struct ch_store *store;
    assert_int_not_equal(fixture_try_open("b.db", 1, false, &store, &why), CH_OK);
    assert_non_null(strstr(why.text, "team_limits"));
    assert_gives("b.db", "PRAGMA user_version", "1");
    assert_gives("b.db", schema, before);
    run_in("b.db", "DROP TABLE team_limits");
    assert_int_equal(fixture_try_open("b.db", 1, false, &store, &why), CH_OK);
    assert_data_is_there(store);
    ch_store_close(store);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_make_dir, fixture_remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(brings_the_first_schema_with_its_data_to_the_newest),
        TEST(a_failing_statement_leaves_the_version_before),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
