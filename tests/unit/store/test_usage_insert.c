// SPDX-License-Identifier: Apache-2.0
#include "usage_insert.h"

#include "record_fixture.h"

#include <malloc.h>
#include <sqlite3.h>
#include <sys/mman.h>

#define KEYS 300

static struct ch_usage_insert *usage_insert;
static struct ch_why why;

// Pages of the inserter that it has touched.
static size_t resident(void)
{
    static unsigned char pages[4096];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = 0;
    size_t extent = malloc_usable_size(usage_insert) / page - 1; // whole ones
    uintptr_t first = ((uintptr_t)usage_insert + page - 1) / page * page;
    assert_in_range(extent, 1, sizeof pages);
    assert_int_equal(mincore((void *)first, extent * page, pages), 0);
    for (size_t i = 0; i < extent; i++)
        count += pages[i] & 1;
    return count;
}

// One record of each key from `first` to `last`, so many a batch.
struct batches {
    int64_t first, last, rows;
};

static enum ch_err insert_batches(struct ch_db *db, void *arg, struct ch_why *reason)
{
    const struct batches *batches = arg;
    enum ch_err err = CH_OK;
    for (int64_t i = batches->first; !err && i <= batches->last; i++) {
        struct fixture_texts texts;
        struct ch_usage_record record = fixture_record(i, &texts);
        record.key_id = i;
        err = ch_usage_insert_add(usage_insert, db, &record, reason);
        if (!err && (i - batches->first + 1) % batches->rows == 0)
            err = ch_usage_insert_finish(usage_insert, db, reason);
    }
    return err;
}

static void insert(struct ch_store *store, int64_t first, int64_t last, int64_t rows)
{
    struct batches batches = {first, last, rows};
    assert_int_equal(ch_store_write(store, insert_batches, &batches, &why), CH_OK);
}

static enum ch_err count_keys(struct ch_db *db, void *arg, struct ch_why *reason)
{
    static const char sql[] = "SELECT count(DISTINCT key_id) FROM usage_hourly WHERE requests = 1";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, reason);
    if (err || (err = ch_db_step(db, stmt, reason)))
        return err;
    *(int64_t *)arg = ch_db_int(stmt, 0);
    ch_db_reset(stmt);
    return CH_OK;
}

// A key, a model or an hour that is new costs no page of its own in the process: what its sums took
// is the next batch's.
static void keys_that_come_and_go_leave_no_memory_behind(void **state)
{
    (void)state;
    int64_t found = 0;
    struct ch_store *store = fixture_open("a.db");
    assert_int_equal(ch_usage_insert_new(&usage_insert), CH_OK);
    insert(store, 1, 40, 40);
    size_t before = resident();
    insert(store, 41, KEYS, 1);
    // Some for the texts and kinds that are remembered, and for the table that finds a sum.
    if (resident() > before + KEYS / 6)
        fail_msg("%zu pages, then %zu", before, resident());
    assert_int_equal(ch_store_read(store, count_keys, &found, &why), CH_OK);
    assert_int_equal(found, KEYS);
    ch_usage_insert_free(usage_insert);
    ch_store_close(store);
}

// As many sums as a batch can hold, twice: the second batch begins with an empty table.
static void a_batch_can_be_of_as_many_keys_as_it_has_rows(void **state)
{
    (void)state;
    int64_t found = 0;
    struct ch_store *store = fixture_open("a.db");
    assert_int_equal(ch_usage_insert_new(&usage_insert), CH_OK);
    insert(store, 1, 2 * CH_USAGE_BATCH, CH_USAGE_BATCH);
    assert_int_equal(ch_store_read(store, count_keys, &found, &why), CH_OK);
    assert_int_equal(found, 2 * CH_USAGE_BATCH);
    ch_usage_insert_free(usage_insert);
    ch_store_close(store);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_make_dir, fixture_remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(keys_that_come_and_go_leave_no_memory_behind), // first: its memory is fresh
        TEST(a_batch_can_be_of_as_many_keys_as_it_has_rows),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
