// SPDX-License-Identifier: Apache-2.0
#include "record_fixture.h"

#include "base/id.h"
#include "store/usage_query.h"
#include "store/usage_retention.h"
#include "store/usage_writer.h"

#define DAY   INT64_C(86400000)
#define START INT64_C(1790000000000)

static struct ch_store *store;
static struct ch_usage_journal *journal;
static struct ch_why why;

static int start(void **state)
{
    int result = fixture_make_dir(state);
    store = result ? NULL : fixture_open("a.db");
    return result ? result
                  : (int)ch_usage_journal_open(fixture_path("journal"), 1, (size_t)4 << 20, 16,
                                               &journal, &why) ||
                        ch_usage_writer_recover(store, journal, &why) ||
                        ch_usage_writer_start(store, journal, &why);
}

static int stop(void **state)
{
    ch_usage_writer_stop(store);
    ch_usage_journal_close(journal);
    ch_store_close(store);
    return fixture_remove_dir(state);
}

// A row whose id tells the time of its start, or another one.
static int64_t add(int64_t started_at_ms, int64_t id_ms)
{
    static int64_t serial;
    struct fixture_texts texts;
    struct ch_usage_record record = fixture_record(1, &texts);
    record.id = ch_id_floor(id_ms) + ++serial;
    record.started_at_ms = started_at_ms;
    assert_int_equal(ch_usage_journal_append(journal, 0, &record), CH_OK);
    return record.id;
}

static bool is_there(int64_t id)
{
    json_t *row = NULL;
    enum ch_err err = ch_usage_find(store, id, &row, &why);
    assert_true(err == CH_OK || err == CH_ERR_NOT_FOUND);
    json_decref(row);
    return err == CH_OK;
}

static int64_t drop(int64_t before_ms)
{
    int64_t dropped = -1;
    assert_int_equal(ch_usage_drop_before(store, before_ms, &dropped, &why), CH_OK);
    return dropped;
}

static int64_t requests(void)
{
    json_t *sums = NULL;
    const struct ch_usage_filter all = {0};
    assert_int_equal(ch_usage_summary(store, &all, "key", &sums, &why), CH_OK);
    int64_t count = json_integer_value(json_object_get(json_object_get(sums, "total"), "requests"));
    json_decref(sums);
    return count;
}

static void old_rows_go_and_sums_stay(void **state)
{
    (void)state;
    int64_t old = add(START, START), border = add(START + DAY, START + DAY);
    int64_t astray = add(START, START + 5 * DAY); // the clock had gone back
    int64_t young = add(START + 2 * DAY, START + 2 * DAY), newest = add(START, START + 9 * DAY);
    ch_usage_writer_flush(store);
    assert_int_equal(drop(START), 0);
    assert_int_equal(drop(START + DAY), 2);
    assert_false(is_there(old));
    assert_false(is_there(astray));
    assert_true(is_there(border) && is_there(young) && is_there(newest));
    assert_int_equal(requests(), 5);
    assert_int_equal(drop(START + 20 * DAY), 2);
    assert_true(is_there(newest)); // ids go on from it
    assert_int_equal(drop(START + 20 * DAY), 0);
    assert_int_equal(requests(), 5);
}

static void a_batch_is_bounded(void **state)
{
    (void)state;
    for (int i = 0; i < CH_USAGE_DROP_BATCH + 10; i++)
        add(START, START);
    ch_usage_writer_flush(store);
    assert_int_equal(drop(START + DAY), CH_USAGE_DROP_BATCH);
    assert_int_equal(drop(START + DAY), 9);
    assert_int_equal(drop(START + DAY), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(old_rows_go_and_sums_stay, start, stop),
        cmocka_unit_test_setup_teardown(a_batch_is_bounded, start, stop),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
