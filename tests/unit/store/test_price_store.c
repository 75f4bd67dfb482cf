// SPDX-License-Identifier: Apache-2.0
#include "record_fixture.h"

#include "store/price_store.h"
#include "store/usage_writer.h"

#include <sqlite3.h>

static struct ch_why why;

struct document {
    const char *version, *text;
};

static enum ch_err put_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct document *document = arg;
    return ch_price_store_put(db, document->version, ch_span_of(document->text), reason);
}

static enum ch_err newest_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_price_store_newest(db, arg, reason);
}

static void put(struct ch_store *store, const char *version, const char *text)
{
    struct document document = {version, text};
    assert_int_equal(ch_store_write(store, put_in, &document, &why), CH_OK);
}

static void assert_newest(struct ch_store *store, const char *text)
{
    struct ch_buf buf;
    ch_buf_init(&buf, 1 << 20);
    assert_int_equal(ch_store_read(store, newest_in, &buf, &why), CH_OK);
    assert_true(ch_span_eq(ch_buf_span(&buf), ch_span_of(text)));
    ch_buf_fini(&buf);
}

static void gives_the_newest_document(void **state)
{
    (void)state;
    struct ch_store *store = fixture_open("a.db");
    struct ch_buf buf;
    ch_buf_init(&buf, 4);
    assert_int_equal(ch_store_read(store, newest_in, &buf, &why), CH_ERR_NOT_FOUND);
    put(store, "2026-01", "{\"january\":1}");
    put(store, "2026-02", "{\"february\":2}");
    assert_newest(store, "{\"february\":2}");
    put(store, "2026-01", "{\"january\":3}"); // imported again: in force again
    assert_newest(store, "{\"january\":3}");
    assert_int_equal(ch_store_read(store, newest_in, &buf, &why), CH_ERR_LIMIT);
    ch_buf_fini(&buf);
    ch_store_close(store);
}

// ---- contract prices

static struct ch_store *shared; // of the tests below

static enum ch_err create_provider_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct ch_provider_row row = {.type = CH_PROVIDER_OPENAI, .enabled = true};
    strcpy(row.name, arg);
    strcpy(row.base_url, "https://api.openai.com/v1");
    return ch_provider_create(db, ch_store_vault(shared), &row, CH_SPAN("sk-0123456789"), reason);
}

static int start(void **state)
{
    static char openai[] = "openai";
    if (fixture_make_dir(state))
        return -1;
    shared = fixture_open("a.db");
    assert_int_equal(ch_store_write(shared, create_provider_in, openai, &why), CH_OK);
    return 0;
}

static int stop(void **state)
{
    ch_store_close(shared);
    return fixture_remove_dir(state);
}

static enum ch_err put_override_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_price_override_put(db, arg, reason);
}

static enum ch_err put_override(const char *provider, const char *model, const char *prices,
                                int64_t valid_from_ms, int64_t *id_out)
{
    struct ch_price_override_row row = {.prices_json = ch_span_of(prices),
                                        .valid_from_ms = valid_from_ms};
    strcpy(row.provider, provider);
    ch_span_copy(ch_span_of(model), row.model, sizeof row.model);
    enum ch_err err = ch_store_write(shared, put_override_in, &row, &why);
    if (!err)
        *id_out = row.id;
    return err;
}

static enum ch_err take_override(void *arg, const struct ch_price_override_row *row)
{
    char *list = arg;
    assert_true(row->id > 0 && row->created_at_ms > 0);
    assert_int_equal(row->provider_id != 0, *row->provider != '\0');
    sprintf(list + strlen(list), "%s/%s@%lld=%.*s ", row->provider, row->model,
            (long long)row->valid_from_ms, CH_SPAN_ARG(row->prices_json));
    return strcmp(row->model, "stop") == 0 ? CH_ERR_LIMIT : CH_OK;
}

static enum ch_err each_override_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_price_override_each(db, take_override, arg, reason);
}

static enum ch_err delete_override_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_price_override_delete(db, *(int64_t *)arg, reason);
}

static enum ch_err delete_provider_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    int64_t id;
    return ch_provider_delete(db, arg, &id, reason);
}

static void assert_overrides(const char *expected)
{
    char list[256] = "";
    assert_int_equal(ch_store_read(shared, each_override_in, list, &why), CH_OK);
    assert_string_equal(list, expected);
}

static void keeps_contract_prices_by_provider_model_and_instant(void **state)
{
    (void)state;
    static char openai[] = "openai";
    int64_t first, again, later, everywhere;
    assert_int_equal(put_override("openai", "gpt-4o", "{1}", 1000, &first), CH_OK);
    assert_int_equal(put_override("openai", "gpt-4o", "{2}", 2000, &later), CH_OK);
    assert_int_equal(put_override("", "gpt-4o", "{3}", 1000, &everywhere), CH_OK);
    assert_overrides("/gpt-4o@1000={3} openai/gpt-4o@1000={1} openai/gpt-4o@2000={2} ");
    assert_int_equal(put_override("openai", "gpt-4o", "{4}", 1000, &again), CH_OK);
    assert_int_equal(again, first);
    assert_int_equal(ch_store_write(shared, delete_override_in, &later, &why), CH_OK);
    assert_int_equal(ch_store_write(shared, delete_override_in, &later, &why), CH_ERR_NOT_FOUND);
    assert_overrides("/gpt-4o@1000={3} openai/gpt-4o@1000={4} ");
    assert_int_equal(ch_store_write(shared, delete_provider_in, openai, &why), CH_OK);
    assert_overrides("/gpt-4o@1000={3} ");
}

static void refuses_contract_prices_of_nothing(void **state)
{
    (void)state;
    static char long_prices[CH_PRICE_OVERRIDE_MAX + 2], list[256];
    int64_t id;
    memset(long_prices, ' ', sizeof long_prices - 1);
    assert_int_equal(put_override("nobody", "gpt-4o", "{}", 0, &id), CH_ERR_NOT_FOUND);
    assert_int_equal(put_override("openai", "", "{}", 0, &id), CH_ERR_INVALID);
    assert_int_equal(put_override("openai", "gpt 4o", "{}", 0, &id), CH_ERR_INVALID);
    assert_int_equal(put_override("openai", "gpt-4o", long_prices, 0, &id), CH_ERR_LIMIT);
    assert_overrides("");
    assert_int_equal(put_override("", "stop", "{}", 0, &id), CH_OK);
    assert_int_equal(put_override("", "z", "{}", 0, &id), CH_OK);
    assert_int_equal(ch_store_read(shared, each_override_in, list, &why), CH_ERR_LIMIT);
    assert_string_equal(list, "/stop@0={} ");
}

// ---- corrections

// Rows 1 to 3 of record_fixture.h in one hour, of one key and model; row 3 has no price.
static void append_usage(void)
{
    struct ch_usage_journal *journal;
    assert_int_equal(
        ch_usage_journal_open(fixture_path("journal"), 1, 64 << 10, 16, &journal, &why), CH_OK);
    assert_int_equal(ch_usage_writer_start(shared, journal, &why), CH_OK);
    for (int64_t id = 1; id <= 3; id++) {
        struct fixture_texts texts;
        struct ch_usage_record record = fixture_record(id, &texts);
        record.started_at_ms = INT64_C(1789948800000) + id;
        record.key_id = record.attribution_id = record.provider_id = 1;
        record.model_sent = CH_SPAN("gpt-4o");
        record.is_priced = id != 3;
        assert_int_equal(ch_usage_journal_append(journal, 0, &record), CH_OK);
    }
    ch_usage_writer_flush(shared);
    ch_usage_writer_stop(shared);
    ch_usage_journal_close(journal);
}

struct correction {
    int64_t usage_id, cost_nano_usd;
};

static enum ch_err correct_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    const struct correction *c = arg;
    return ch_usage_correct(db, c->usage_id, c->cost_nano_usd, "2026-09-22-00000000", reason);
}

static enum ch_err correct(int64_t usage_id, int64_t cost_nano_usd)
{
    struct correction correction = {usage_id, cost_nano_usd};
    return ch_store_write(shared, correct_in, &correction, &why);
}

static void assert_gives(const char *sql, const char *expected)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_open(fixture_path("a.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    const char *text = (const char *)sqlite3_column_text(stmt, 0);
    assert_string_equal(text ? text : "", expected);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
}

static const char sums[] = "SELECT cost_nano_usd || ' ' || unpriced FROM usage_hourly";
static const char corrections[] =
    "SELECT group_concat(usage_id || ':' || ifnull(cost_before_nano_usd, '-') || '>' || "
    "cost_after_nano_usd || ' ' || catalogue, ', ') FROM usage_corrections";

static void appends_corrections_and_moves_the_sums(void **state)
{
    (void)state;
    append_usage();
    assert_gives(sums, "3000 1");
    assert_int_equal(correct(1, 1000), CH_OK); // as it is
    assert_gives("SELECT count(*) FROM usage_corrections", "0");
    assert_int_equal(correct(1, 400), CH_OK);
    assert_gives(sums, "2400 1");
    assert_int_equal(correct(1, 700), CH_OK);
    assert_gives(sums, "2700 1");
    assert_int_equal(correct(3, 50), CH_OK);
    assert_gives(sums, "2750 0");
    assert_int_equal(correct(3, 0), CH_OK);
    assert_gives(sums, "2700 0");
    assert_gives(corrections, "1:1000>400 2026-09-22-00000000, 1:400>700 2026-09-22-00000000, "
                              "3:->50 2026-09-22-00000000, 3:50>0 2026-09-22-00000000");
    assert_gives("SELECT group_concat(ifnull(cost_nano_usd, '-'), ' ') FROM usage", "1000 2000 -");
}

static enum ch_err run_in(struct ch_db *db, void *sql, struct ch_why *reason)
{
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, reason);
    return err ? err : ch_db_run(db, stmt, reason);
}

static void refuses_corrections_that_cannot_be(void **state)
{
    (void)state;
    static char update[] = "UPDATE usage_corrections SET cost_after_nano_usd = 1";
    static char delete[] = "DELETE FROM usage_corrections";
    static char lose[] = "DELETE FROM usage_hourly";
    append_usage();
    assert_int_equal(correct(9, 5), CH_ERR_NOT_FOUND);
    assert_int_equal(correct(1, -1), CH_ERR_INVALID);
    assert_int_equal(correct(1, INT64_MAX), CH_ERR_INVALID);
    assert_int_equal(correct(1, 5), CH_OK);
    assert_int_equal(ch_store_write(shared, run_in, update, &why), CH_ERR_CONFLICT);
    assert_int_equal(ch_store_write(shared, run_in, delete, &why), CH_ERR_CONFLICT);
    assert_int_equal(ch_store_write(shared, run_in, lose, &why), CH_OK);
    assert_int_equal(correct(2, 5), CH_ERR_CORRUPT); // and rolled back
    assert_gives(corrections, "1:1000>5 2026-09-22-00000000");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gives_the_newest_document, fixture_make_dir,
                                        fixture_remove_dir),
        TEST(keeps_contract_prices_by_provider_model_and_instant),
        TEST(refuses_contract_prices_of_nothing),
        TEST(appends_corrections_and_moves_the_sums),
        TEST(refuses_corrections_that_cannot_be),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
