// SPDX-License-Identifier: Apache-2.0
#include "record_fixture.h"

#include "store/db.h"
#include "store/object_store.h"

#define START INT64_C(1790000000000)

static struct ch_store *store;
static struct ch_why why;

static enum ch_err add_attributions(struct ch_db *db, void *arg, struct ch_why *reason)
{
    (void)arg;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db,
                                    "INSERT INTO attributions (id, team, project, env, service, "
                                    "tags) VALUES (1, 'blue', '', '', '', ''), (2, '', 'p', '', "
                                    "'', '')",
                                    &stmt, reason);
    return err ? err : ch_db_run(db, stmt, reason);
}

static int start(void **state)
{
    int result = fixture_make_dir(state);
    store = result ? NULL : fixture_open("a.db");
    return result ? result : (int)ch_store_write(store, add_attributions, NULL, &why);
}

static int stop(void **state)
{
    ch_store_close(store);
    return fixture_remove_dir(state);
}

static enum ch_err add_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_object_add(db, arg, reason);
}

static void add(const uint64_t *hashes, size_t count, int64_t key_id, int64_t at_ms)
{
    struct ch_usage_record record = {
        .id = 1,
        .key_id = key_id,
        .attribution_id = key_id,
        .started_at_ms = at_ms,
        .objects = {(const char *)hashes, count * sizeof *hashes},
    };
    assert_int_equal(ch_store_write(store, add_in, &record, &why), CH_OK);
}

struct listing {
    int64_t since_ms, limit;
    size_t count;
    uint64_t hashes[16];
    int64_t keys[16];
};

static enum ch_err take(void *arg, const struct ch_object_row *row)
{
    struct listing *listing = arg;
    assert_int_equal(row->attribution_id, row->key_id);
    assert_true(ch_span_eq(row->team, row->key_id == 1 ? CH_SPAN("blue") : CH_SPAN("")));
    assert_true(ch_span_eq(row->project, row->key_id == 1 ? CH_SPAN("") : CH_SPAN("p")));
    listing->hashes[listing->count] = row->hash;
    listing->keys[listing->count++] = row->key_id;
    return CH_OK;
}

static enum ch_err list_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct listing *listing = arg;
    return ch_object_each(db, listing->since_ms, listing->limit, take, listing, reason);
}

static struct listing list(int64_t since_ms, int64_t limit)
{
    struct listing listing = {.since_ms = since_ms, .limit = limit};
    assert_int_equal(ch_store_read(store, list_in, &listing, &why), CH_OK);
    return listing;
}

static void the_first_owner_stays(void **state)
{
    (void)state;
    const uint64_t hashes[] = {1, UINT64_MAX, UINT64_C(1) << 63};
    add(hashes, 3, 1, START);
    add(hashes, 2, 2, START + CH_OBJECT_MS); // a replay, or another account's answer
    struct listing all = list(0, 16);
    assert_int_equal(all.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_true(all.hashes[i] == hashes[i]);
        assert_int_equal(all.keys[i], 1);
    }
    add(hashes, 1, 2, START + CH_OBJECT_MS + 1); // forgotten by then
    assert_int_equal(list(0, 16).keys[0], 2);
}

static void the_newest_are_given_and_kept(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 10; i++)
        add(&i, 1, 1, START + (int64_t)i);
    struct listing some = list(START + 6, 3);
    assert_int_equal(some.count, 3);
    assert_true(some.hashes[0] == 8 && some.hashes[2] == 10);
    assert_int_equal(list(START + 9, 16).count, 2);

    assert_int_equal(ch_object_drop(store, START + 4, 100, &why), CH_OK);
    assert_true(list(0, 16).count == 7 && list(0, 16).hashes[0] == 4);
    assert_int_equal(ch_object_drop(store, 0, 2, &why), CH_OK);
    assert_true(list(0, 16).count == 2 && list(0, 16).hashes[0] == 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_owner_stays, start, stop),
        cmocka_unit_test_setup_teardown(the_newest_are_given_and_kept, start, stop),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
