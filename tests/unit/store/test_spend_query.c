// SPDX-License-Identifier: Apache-2.0
#include "record_fixture.h"

#include "store/price_store.h"
#include "store/spend_query.h"
#include "store/usage_writer.h"

#include "base/id.h"

#define MS_PER_HOUR INT64_C(3600000)
#define MIDNIGHT    INT64_C(1789948800000) // 2026-09-21 in UTC
#define ROWS        700
#define HOURS       30

static struct ch_store *store;
static struct ch_usage_journal *journal;
static struct ch_why why;

// What is known of a row without the database.
struct truth {
    int64_t id, started_at_ms, cost_nano_usd; // 0: also without a price
    int key;                                  // 1–4
};
static struct truth truths[ROWS];
static struct ch_key_row keys[5]; // by number

// Keys 1 to 4: teams a, a, b, b; projects x, y, x, y; so four attributions.
static enum ch_err create_keys(struct ch_db *db, void *arg, struct ch_why *reason)
{
    char token[CH_WRAPPED_KEY_MAX + 1];
    enum ch_err err = CH_OK;
    (void)arg;
    for (int i = 1; !err && i <= 4; i++) {
        keys[i] = (struct ch_key_row){.id = 0};
        snprintf(keys[i].name, sizeof keys[i].name, "key-%d", i);
        strcpy(keys[i].team, i <= 2 ? "a" : "b");
        strcpy(keys[i].project, i % 2 ? "x" : "y");
        err = ch_key_create(db, ch_store_pepper(store), &keys[i], token, reason);
    }
    return err;
}

static uint64_t random_state;
static int64_t random_below(int64_t end)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int64_t)((random_state >> 33) % (uint64_t)end);
}

static void append(int number, int64_t id, int64_t started_at_ms, int key, bool is_priced)
{
    struct fixture_texts texts;
    struct ch_usage_record record = fixture_record(number + 1, &texts);
    record.id = id;
    record.started_at_ms = started_at_ms;
    record.key_id = keys[key].id;
    record.attribution_id = keys[key].attribution_id;
    record.provider_id = key % 2 + 1;
    record.is_priced = is_priced;
    record.cost_nano_usd = 1000 + number;
    truths[number] = (struct truth){id, started_at_ms, is_priced ? 1000 + number : 0, key};
    enum ch_err err = ch_usage_journal_append(journal, 0, &record);
    if (err == CH_ERR_UNAVAILABLE) { // the ring is full
        ch_usage_writer_flush(store);
        err = ch_usage_journal_append(journal, 0, &record);
    }
    assert_int_equal(err, CH_OK);
}

// Many rows stand on an edge of an hour or of half an hour, or next to one; some have an id of
// another time than theirs, in both directions; some have no price.
static void append_all(void)
{
    static const int64_t near[] = {0, 0, 1, -1, 9999, 10000, 10001};
    for (int i = 0; i < ROWS; i++) {
        int64_t started_at_ms = MIDNIGHT + random_below(HOURS * MS_PER_HOUR), id_ms;
        if (i % 2)
            started_at_ms = MIDNIGHT + random_below(HOURS * 2) * MS_PER_HOUR / 2 +
                            near[random_below(sizeof near / sizeof *near)];
        id_ms = started_at_ms;
        if (i % 7 == 0)
            id_ms += random_below(8 * MS_PER_HOUR) - 4 * MS_PER_HOUR;
        else if (i % 5 == 0)
            id_ms += random_below(10001);
        append(i, ch_id_floor(id_ms) + i, started_at_ms, (int)random_below(4) + 1,
               random_below(9) != 0);
    }
    ch_usage_writer_flush(store);
}

static int start(void **state)
{
    if (fixture_make_dir(state))
        return -1;
    random_state = 20261121;
    store = fixture_open("a.db");
    assert_int_equal(ch_store_write(store, create_keys, NULL, &why), CH_OK);
    assert_int_equal(
        ch_usage_journal_open(fixture_path("journal"), 1, 256 << 10, 16, &journal, &why), CH_OK);
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    append_all();
    return 0;
}

static int stop(void **state)
{
    ch_usage_writer_stop(store);
    ch_usage_journal_close(journal);
    ch_store_close(store);
    return fixture_remove_dir(state);
}

struct question {
    enum ch_budget_scope scope;
    int64_t id;
    const char *name;
    int64_t from_ms, before_id; // 0: any id
    int64_t spent_nano_usd;
};

static enum ch_err ask_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct question *q = arg;
    return q->before_id ? ch_spend_since_before(db, q->scope, q->id, q->name, q->from_ms,
                                                q->before_id, &q->spent_nano_usd, reason)
                        : ch_spend_since(db, q->scope, q->id, q->name, q->from_ms,
                                         &q->spent_nano_usd, reason);
}

static bool is_in_scope(const struct question *q, const struct truth *truth)
{
    switch (q->scope) {
    case CH_BUDGET_OF_KEY:
        return keys[truth->key].id == q->id;
    case CH_BUDGET_OF_TEAM:
        return strcmp(keys[truth->key].team, q->name) == 0;
    case CH_BUDGET_OF_PROJECT:
        return strcmp(keys[truth->key].project, q->name) == 0;
    case CH_BUDGET_OF_PROVIDER:
        return truth->key % 2 + 1 == q->id;
    case CH_BUDGET_OF_ALL:
        return true;
    }
    return false;
}

static int64_t count_truth(const struct question *q)
{
    int64_t sum = 0;
    for (int i = 0; i < ROWS; i++)
        if (is_in_scope(q, &truths[i]) && truths[i].started_at_ms >= q->from_ms &&
            (!q->before_id || truths[i].id < q->before_id))
            sum += truths[i].cost_nano_usd;
    return sum;
}

static void assert_exact_since(int64_t from_ms, int64_t before_id)
{
    const struct question questions[] = {
        {.scope = CH_BUDGET_OF_KEY, .id = keys[1].id, .name = ""},
        {.scope = CH_BUDGET_OF_KEY, .id = keys[4].id, .name = ""},
        {.scope = CH_BUDGET_OF_KEY, .id = 99, .name = ""},
        {.scope = CH_BUDGET_OF_TEAM, .name = "a"},
        {.scope = CH_BUDGET_OF_TEAM, .name = "b"},
        {.scope = CH_BUDGET_OF_TEAM, .name = "nobody"},
        {.scope = CH_BUDGET_OF_PROJECT, .name = "y"},
        {.scope = CH_BUDGET_OF_PROVIDER, .id = 2, .name = ""},
        {.scope = CH_BUDGET_OF_ALL, .name = ""},
    };
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++) {
        struct question q = questions[i];
        q.from_ms = from_ms;
        q.before_id = before_id;
        assert_int_equal(ch_store_read(store, ask_in, &q, &why), CH_OK);
        if (q.spent_nano_usd != count_truth(&q))
            fail_msg("%s %lld%s since %lld before %lld: %lld, not %lld",
                     ch_budget_scope_name(q.scope), (long long)q.id, q.name, (long long)from_ms,
                     (long long)before_id, (long long)q.spent_nano_usd, (long long)count_truth(&q));
    }
}

static void assert_exact_everywhere(void)
{
    static const int64_t near[] = {0, 1, -1};
    assert_exact_since(INT64_MIN, 0);
    assert_exact_since(0, 0);
    assert_exact_since(INT64_MAX, 0);
    // Each edge of an hour, and the half hours at which a day of Asia/Kolkata begins.
    for (int64_t half = 0; half <= 2 * HOURS; half++)
        for (int i = 0; i < 3; i++)
            assert_exact_since(MIDNIGHT + half * MS_PER_HOUR / 2 + near[i], 0);
    for (int i = 0; i < 100; i++)
        assert_exact_since(MIDNIGHT + random_below(HOURS * MS_PER_HOUR), 0);
}

static void is_exact_since_any_instant(void **state)
{
    (void)state;
    assert_exact_everywhere();
}

static void is_exact_before_an_id(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        assert_exact_since(MIDNIGHT + random_below(2 * HOURS) * MS_PER_HOUR / 2,
                           truths[random_below(ROWS)].id);
    assert_exact_since(INT64_MIN, truths[0].id);
    assert_exact_since(INT64_MIN, INT64_MAX);
}

static enum ch_err correct_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    const struct truth *truth = arg;
    return ch_usage_correct(db, truth->id, truth->cost_nano_usd, "2026-09-22-00000000", reason);
}

static void counts_corrections(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS / 2; i++) {
        struct truth *truth = &truths[random_below(ROWS)]; // some of them twice
        truth->cost_nano_usd = random_below(3) ? random_below(5000) : 0;
        assert_int_equal(ch_store_write(store, correct_in, truth, &why), CH_OK);
    }
    assert_exact_everywhere();
    assert_exact_since(MIDNIGHT + MS_PER_HOUR / 2, truths[ROWS / 2].id);
}

static void keeps_the_team_that_held(void **state)
{
    (void)state;
    struct question before = {.scope = CH_BUDGET_OF_TEAM, .name = "a", .from_ms = MIDNIGHT};
    assert_int_equal(ch_store_read(store, ask_in, &before, &why), CH_OK);
    assert_true(before.spent_nano_usd > 0);
    // Key 1 goes on under the attribution of key 3, of team b.
    keys[1].attribution_id = keys[3].attribution_id;
    int64_t started_at_ms = MIDNIGHT + HOURS * MS_PER_HOUR;
    append(0, ch_id_floor(started_at_ms), started_at_ms, 1, true);
    ch_usage_writer_flush(store);
    struct question after = before, other = before, key = before;
    assert_int_equal(ch_store_read(store, ask_in, &after, &why), CH_OK);
    assert_int_equal(after.spent_nano_usd, before.spent_nano_usd);
    other.name = "b";
    other.from_ms = started_at_ms;
    assert_int_equal(ch_store_read(store, ask_in, &other, &why), CH_OK);
    assert_int_equal(other.spent_nano_usd, 1000);
    key = (struct question){
        .scope = CH_BUDGET_OF_KEY, .id = keys[1].id, .name = "", .from_ms = started_at_ms};
    assert_int_equal(ch_store_read(store, ask_in, &key, &why), CH_OK);
    assert_int_equal(key.spent_nano_usd, 1000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(is_exact_since_any_instant),
        TEST(is_exact_before_an_id),
        TEST(counts_corrections),
        TEST(keeps_the_team_that_held),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
