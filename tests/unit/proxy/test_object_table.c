// SPDX-License-Identifier: Apache-2.0
// The table of owners: bounded, the first owner stays, the oldest goes, and loops may use it at
// once.
#include "object_table.h"

#include "store/object_store.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define NOW    INT64_C(1790000000000)
#define LIMIT  100
#define ROUNDS 20000
#define LOOPS  4

static const unsigned char key[OBJECT_KEY] = "0123456789abcde";

static struct object_table *make(size_t limit)
{
    struct object_table *table;
    assert_int_equal(object_table_new(limit, key, &table), CH_OK);
    return table;
}

static struct object_owner owner_of(int64_t key_id)
{
    return (struct object_owner){.key_id = key_id};
}

static int64_t find(struct object_table *table, uint64_t hash, int64_t now_ms)
{
    struct object_owner owner;
    return object_table_find(table, hash, now_ms, &owner) ? owner.key_id : 0;
}

static void add(struct object_table *table, uint64_t hash, int64_t key_id, int64_t at_ms)
{
    struct object_owner owner = owner_of(key_id);
    (void)object_table_add(table, hash, &owner, at_ms);
}

static void the_first_owner_stays_until_it_is_forgotten(void **state)
{
    (void)state;
    struct object_table *table = make(LIMIT);
    uint64_t hash = object_table_hash(table, 1, CH_SPAN("resp_1"));
    assert_int_equal(find(table, hash, NOW), 0);
    add(table, hash, 7, NOW);
    add(table, hash, 8, NOW + 1);
    assert_int_equal(find(table, hash, NOW + 1), 7);
    assert_int_equal(find(table, hash, NOW + CH_OBJECT_MS), 7);
    assert_int_equal(find(table, hash, NOW + CH_OBJECT_MS + 1), 0);
    add(table, hash, 8, NOW + CH_OBJECT_MS + 1);
    assert_int_equal(find(table, hash, NOW + CH_OBJECT_MS + 1), 8);
    object_table_free(table);
}

static void an_id_is_one_of_its_provider(void **state)
{
    (void)state;
    struct object_table *table = make(LIMIT);
    uint64_t hash = object_table_hash(table, 1, CH_SPAN("resp_1"));
    assert_true(hash == object_table_hash(table, 1, CH_SPAN("resp_1")));
    assert_true(hash != object_table_hash(table, 2, CH_SPAN("resp_1")));
    assert_true(hash != object_table_hash(table, 1, CH_SPAN("resp_2")));
    object_table_free(table);
}

// Hashes that collide in the index in runs, wrapped round its end too; the newest LIMIT are there
// at every moment, and no other.
static void keeps_the_newest(void **state)
{
    (void)state;
    struct object_table *table = make(LIMIT);
    static uint64_t hashes[ROUNDS];
    for (size_t i = 0; i < ROUNDS; i++) {
        hashes[i] = (uint64_t)i << 32 | (uint64_t)(rand() % 3 ? 250 + rand() % 12 : rand() % 256);
        add(table, hashes[i], (int64_t)i + 1, NOW);
        size_t oldest = i < LIMIT ? 0 : i - LIMIT + 1;
        size_t step = i % 100 == 0 ? 1 : 37;
        for (size_t j = oldest; j <= i; j += step)
            assert_int_equal(find(table, hashes[j], NOW), j + 1);
        if (oldest)
            assert_int_equal(find(table, hashes[oldest - 1], NOW), 0);
    }
    object_table_free(table);
}

static void holds_one(void **state)
{
    (void)state;
    struct object_table *table = make(1);
    for (int64_t i = 1; i < 50; i++) {
        add(table, (uint64_t)i * 3, i, NOW);
        assert_int_equal(find(table, (uint64_t)i * 3, NOW), i);
        assert_int_equal(find(table, (uint64_t)(i - 1) * 3, NOW), 0);
    }
    object_table_free(table);
}

// What goes in its time is no loss.
static void what_the_bound_costs_is_counted(void **state)
{
    (void)state;
    struct object_table *table = make(2);
    struct object_owner owner = owner_of(1);
    assert_false(object_table_add(table, 1, &owner, NOW));
    assert_false(object_table_add(table, 2, &owner, NOW + 1));
    assert_false(object_table_add(table, 2, &owner, NOW + 1));
    assert_false(object_table_add(table, 3, &owner, NOW + CH_OBJECT_MS + 1));
    assert_int_equal(object_table_forgotten(table), 0);
    assert_true(object_table_add(table, 4, &owner, NOW + CH_OBJECT_MS + 1));
    assert_int_equal(object_table_forgotten(table), 1);
    assert_false(object_table_add(table, 5, &owner, NOW + CH_OBJECT_MS + 1));
    assert_int_equal(object_table_forgotten(table), 2);
    object_table_free(table);
}

struct worker {
    struct object_table *table;
    int64_t key_id;
    bool has_failed;
};

// What a loop learns is its own as long as it stays, whatever the others learn.
static void *work(void *arg)
{
    struct worker *worker = arg;
    for (uint64_t i = 1; i < ROUNDS; i++) {
        uint64_t own = (i << 8 | (uint64_t)worker->key_id) * UINT64_C(0x9E3779B97F4A7C15);
        add(worker->table, own, worker->key_id, NOW);
        worker->has_failed |= find(worker->table, own, NOW) != worker->key_id;
        int64_t other = find(worker->table, (i << 8 | 1) * UINT64_C(0x9E3779B97F4A7C15), NOW);
        worker->has_failed |= other != 0 && other != 1;
    }
    return NULL;
}

static void loops_share_it(void **state)
{
    (void)state;
    // What one has just added stays, however long the others have the processors.
    struct object_table *table = make((LOOPS - 1) * ROUNDS);
    struct worker workers[LOOPS];
    pthread_t threads[LOOPS];
    for (int i = 0; i < LOOPS; i++) {
        workers[i] = (struct worker){table, i + 1, false};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < LOOPS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < LOOPS; i++)
        assert_false(workers[i].has_failed);
    object_table_free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_owner_stays_until_it_is_forgotten),
        cmocka_unit_test(an_id_is_one_of_its_provider),
        cmocka_unit_test(keeps_the_newest),
        cmocka_unit_test(holds_one),
        cmocka_unit_test(what_the_bound_costs_is_counted),
        cmocka_unit_test(loops_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
