// SPDX-License-Identifier: Apache-2.0
#include "record_fixture.h"

#include "store/usage_writer.h"

#include "base/clock.h"
#include "base/log.h"

#include "../sanitizer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define RING  (256u << 10)
#define SLOTS 64u

static struct ch_store *store;
static struct ch_usage_journal *journal;
static struct ch_why why;

static void open_all(unsigned loops)
{
    store = fixture_open("a.db");
    assert_int_equal(
        ch_usage_journal_open(fixture_path("journal"), loops, RING, SLOTS, &journal, &why), CH_OK);
}

static void close_all(void)
{
    ch_usage_journal_close(journal);
    ch_store_close(store);
}

static int start(void **state)
{
    int result = fixture_make_dir(state);
    if (!result)
        open_all(2);
    return result;
}

static int stop(void **state)
{
    close_all();
    return fixture_remove_dir(state);
}

static enum ch_err append_record(unsigned loop, const struct ch_usage_record *record)
{
    return ch_usage_journal_append(journal, loop, record);
}

static void append(unsigned loop, int64_t id)
{
    struct fixture_texts texts;
    struct ch_usage_record record = fixture_record(id, &texts);
    assert_int_equal(append_record(loop, &record), CH_OK);
}

struct number {
    const char *sql;
    int64_t value;
};

static enum ch_err read_number(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct number *number = arg;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, number->sql, &stmt, reason);
    if (err || (err = ch_db_step(db, stmt, reason)))
        return err;
    number->value = ch_db_int(stmt, 0);
    ch_db_reset(stmt);
    return CH_OK;
}

// The first column of the first row of `sql`, a string constant.
static int64_t query(const char *sql)
{
    struct number number = {.sql = sql};
    enum ch_err err = ch_store_read(store, read_number, &number, &why);
    if (err)
        fail_msg("%s: %s", sql, why.text);
    return number.value;
}

// That the rollups say what the rows say.
static void assert_sums_agree(void)
{
    assert_int_equal(query("SELECT count(*) FROM usage"),
                     query("SELECT coalesce(sum(requests), 0) FROM usage_hourly"));
    assert_int_equal(query("SELECT count(*) FROM (SELECT started_at_ms / 3600000 AS hour, key_id, "
                           "attribution_id, provider_id, model_sent, count(*), sum(input_tokens), "
                           "sum(image_out_tokens), sum(searches), "
                           "coalesce(sum(cost_nano_usd), 0), sum(cost_nano_usd IS NULL) "
                           "FROM usage_named GROUP BY 1, 2, 3, 4, 5 "
                           "EXCEPT SELECT hour, key_id, attribution_id, provider_id, model, "
                           "requests, input_tokens, image_out_tokens, searches, cost_nano_usd, "
                           "unpriced FROM usage_hourly)"),
                     0);
}

static void commits_what_is_appended_within_200_ms(void **state)
{
    (void)state;
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    usleep(20000); // somewhere inside its sleep
    append(1, 7);
    int64_t appended_at = ch_clock_mono_ns();
    while (query("SELECT count(*) FROM usage") == 0 &&
           ch_clock_mono_ns() - appended_at < 5000 * CH_NS_PER_MS)
        usleep(2000);
    int64_t waited_ms = (ch_clock_mono_ns() - appended_at) / CH_NS_PER_MS;
    assert_in_range(waited_ms, 0, 1000); // 200 on a quiet machine
    ch_usage_writer_stop(store);
}

static void stores_every_field(void **state)
{
    (void)state;
    struct fixture_texts texts;
    struct ch_usage_record record = fixture_record(29, &texts);
    record.usage.tokens[CH_TOKENS_OUTPUT] = 1001;
    record.usage.eu_region = record.usage.is_fast = true;
    record.usage.stated_cost_nano = 28000;
    assert_int_equal(append_record(0, &record), CH_OK);
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    ch_usage_writer_flush(store);
    assert_int_equal(
        query("SELECT count(*) FROM usage_named u, texts d, texts e, texts g, texts r, texts t, texts m, "
              "texts a, texts c WHERE d.id = dialect AND d.text = 'anthropic' AND e.id = endpoint "
              "AND e.text = 'messages' AND g.id = grade AND g.text = 'exact' "
              "AND r.id = end_reason AND r.text = 'done' AND t.id = tier AND t.text = 'flex' "
              "AND m.id = model_asked AND m.text = 'model-7' AND model_asked = model_sent "
              "AND model_sent = model_served AND a.id = user_agent "
              "AND a.text = 'ddddddddddddddddddddddddddddd' AND c.id = catalogue "
              "AND c.text = '2026-08-01-3f2a91c0' AND rule = 0 "
              "AND u.id = 29 AND started_at_ms = 1790000029000 AND key_id = 5 "
              "AND attribution_id = 3 AND provider_id = 2 AND status = 200 AND is_stream = 1 "
              "AND us_region = 0 AND eu_region = 1 AND is_fast = 1 "
              "AND stated_cost_nano_usd = 28000 "
              "AND input_tokens = 29 AND cache_read_tokens = 30 AND cache_write_5m_tokens = 31 "
              "AND cache_write_1h_tokens = 32 AND audio_in_tokens = 33 AND image_in_tokens = 34 "
              "AND output_tokens = 1001 AND reasoning_tokens = 36 AND audio_out_tokens = 37 "
              "AND image_out_tokens = 38 AND searches = 1 AND cost_nano_usd = 29000 "
              "AND cache_read_audio_tokens = 49 AND cache_read_image_tokens = 50 "
              "AND video_in_tokens = 51 AND video_out_tokens = 52 AND audio_ms = 53 "
              "AND characters = 54 AND images = 55 AND image_width = 56 AND image_height = 57 "
              "AND image_quality = 'high' AND side_cost_nano_usd = 290 "
              "AND latency_us = 203 AND first_byte_us = 87 AND added_us = 29 "
              "AND request_bytes = 30 AND response_bytes = 31 AND upstream_id = 'chatcmpl-29' "
              "AND client_address = '2001:db8::1'"),
        1);
    ch_usage_writer_stop(store);
}

static void takes_every_tier(void **state)
{
    (void)state;
    struct fixture_texts texts;
    for (int tier = 0; tier < CH_TIERS; tier++) {
        struct ch_usage_record record = fixture_record(tier + 1, &texts);
        record.usage.tier = (enum ch_tier)tier;
        assert_int_equal(append_record(0, &record), CH_OK);
    }
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    ch_usage_writer_stop(store);
    assert_int_equal(query("SELECT count(DISTINCT tier_name) FROM usage_named"), CH_TIERS);
}

static void counts_a_repeated_row_once(void **state)
{
    (void)state;
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    for (int round = 0; round < 3; round++) {
        for (int64_t id = 1; id <= 100; id++)
            append((unsigned)id % 2, id);
        append(0, 100); // twice in one batch
        ch_usage_writer_flush(store);
        assert_int_equal(query("SELECT count(*) FROM usage"), 100);
        assert_sums_agree();
    }
    ch_usage_writer_stop(store);
    assert_int_equal(ch_usage_journal_backlog(journal), 0);
}

// Rows go in several at a time: whichever of them are there already, the others are counted.
static void counts_what_is_new_beside_what_is_not(void **state)
{
    (void)state;
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    int64_t rows = 0;
    for (unsigned known = 0; known < 256; known += 5, rows += 8) { // of eight in a row
        for (int i = 0; i < 8; i++)
            if (known >> i & 1)
                append(0, rows + i + 1);
        ch_usage_writer_flush(store);
        for (int i = 0; i < 8; i++)
            append(0, rows + i + 1);
        append(0, rows + 3);
        ch_usage_writer_flush(store);
    }
    ch_usage_writer_stop(store);
    assert_int_equal(query("SELECT count(*) FROM usage"), rows);
    assert_int_equal(query("SELECT max(id) FROM usage"), rows);
    assert_sums_agree();
}

static void keeps_each_row_of_a_group_apart(void **state)
{
    (void)state;
    for (int64_t id = 1; id <= 100; id++)
        append((unsigned)id % 2, id);
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    ch_usage_writer_stop(store);
    assert_int_equal(query("SELECT count(*) FROM usage_named WHERE key_id = id % 5 + 1 "
                           "AND started_at_ms = 1790000000000 + id * 1000 "
                           "AND input_tokens = id AND image_out_tokens = id + 9 "
                           "AND cost_nano_usd = id * 1000 AND latency_us = id * 7 "
                           "AND stated_cost_nano_usd IS NULL AND response_bytes = id + 2 "
                           "AND model_sent_name = 'model-' || (id % 11) "
                           "AND upstream_id = 'chatcmpl-' || id "
                           "AND length(user_agent_name) = id % 97 "
                           "AND client_address = '2001:db8::1'"),
                     100);
    assert_sums_agree();
}

static void drains_at_the_stop(void **state)
{
    (void)state;
    for (int64_t id = 1; id <= 300; id++)
        append((unsigned)id % 2, id);
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    ch_usage_writer_stop(store);
    assert_int_equal(query("SELECT count(*) FROM usage"), 300);
    int64_t highest = 0;
    assert_int_equal(ch_usage_highest_id(store, &highest, &why), CH_OK);
    assert_int_equal(highest, 300);
}

static void grades_decide_what_is_unpriced_and_what_is_an_error(void **state)
{
    (void)state;
    struct fixture_texts texts;
    struct ch_usage_record record = fixture_record(1, &texts);
    record.is_priced = false; // an unknown model: unknown cost, not zero
    assert_int_equal(append_record(0, &record), CH_OK);
    record = fixture_record(2, &texts);
    record.is_priced = false; // refused: nothing was consumed
    record.grade = CH_GRADE_NONE;
    record.end_reason = CH_END_DENIED;
    record.status = 429;
    assert_int_equal(append_record(0, &record), CH_OK);
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    ch_usage_writer_stop(store);
    assert_int_equal(query("SELECT cost_nano_usd IS NULL FROM usage WHERE id = 1"), 1);
    assert_int_equal(query("SELECT cost_nano_usd = 0 FROM usage WHERE id = 2"), 1);
    assert_int_equal(query("SELECT sum(unpriced) FROM usage_hourly"), 1);
    assert_int_equal(query("SELECT sum(errors) FROM usage_hourly"), 1);
    assert_sums_agree();
}

static void hostile_numbers_and_bytes_do_not_stop_it(void **state)
{
    (void)state;
    struct fixture_texts texts;
    for (int64_t id = 1; id <= 40; id++) {
        struct ch_usage_record record = fixture_record(id, &texts);
        for (int i = 0; i < CH_TOKEN_CLASSES; i++)
            record.usage.tokens[i] = id % 2 ? INT64_MAX : INT64_MIN;
        record.cost_nano_usd = id % 2 ? INT64_MAX : -1;
        record.latency_us = record.request_bytes = INT64_MIN;
        record.started_at_ms = id % 3 ? INT64_MAX : -5;
        record.model_sent = CH_SPAN("a\0b\xff\xc3\xa9\r\n\x1b[31m'\"");
        record.upstream_id = record.user_agent = record.model_sent;
        assert_int_equal(append_record(0, &record), CH_OK);
    }
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    ch_usage_writer_stop(store);
    assert_int_equal(query("SELECT count(*) FROM usage"), 40);
    assert_int_equal(query("SELECT count(*) FROM usage_named, texts t WHERE t.id = model_sent "
                           "AND t.text = 'a?b??????[31m''\"' AND upstream_id = t.text"),
                     40);
    assert_int_equal(query("SELECT min(cost_nano_usd) FROM usage"), 0);
    assert_sums_agree();
}

static enum ch_err saturate_hours(struct ch_db *db, void *arg, struct ch_why *reason)
{
    static const char sql[] = "UPDATE usage_hourly SET cost_nano_usd = 1152921504606846000, "
                              "input_tokens = 9223372036854775807"; // of an older version
    struct sqlite3_stmt *stmt;
    (void)arg;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, reason);
    return err ? err : ch_db_run(db, stmt, reason);
}

static void sums_stop_at_the_largest_number(void **state)
{
    (void)state;
    append(0, 100);
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    ch_usage_writer_flush(store);
    assert_int_equal(ch_store_write(store, saturate_hours, NULL, &why), CH_OK);
    append(0, 100 + 330); // the same hour, key, attribution, provider and model
    ch_usage_writer_flush(store);
    assert_int_equal(query("SELECT count(*) FROM usage_hourly"), 1);
    assert_int_equal(query("SELECT max(cost_nano_usd) FROM usage_hourly"), INT64_C(1) << 60);
    assert_int_equal(query("SELECT max(input_tokens) FROM usage_hourly"), INT64_C(1) << 60);
    ch_usage_writer_stop(store);
}

// ---- writes beside the rows

static enum ch_err insert_text(struct ch_db *db, void *arg, struct ch_why *reason)
{
    static const char sql[] = "INSERT INTO texts (text) VALUES (?)";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, reason);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(arg));
    return ch_db_run(db, stmt, reason);
}

static void *write_texts(void *arg)
{
    int *first = arg;
    for (int i = 0; i < 20; i++) {
        char text[32];
        struct ch_why reason;
        snprintf(text, sizeof text, "text-%d", *first + i);
        *first += ch_store_write(store, insert_text, text, &reason) ? 1000 : 0;
    }
    return NULL;
}

static void runs_writes_of_several_threads(void **state)
{
    (void)state;
    int firsts[4] = {0, 100, 200, 300};
    pthread_t threads[4];
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_texts, &firsts[i]), 0);
    for (int64_t id = 1; id <= 200; id++)
        append(0, id);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    char taken[] = "text-0";
    assert_int_equal(ch_store_write(store, insert_text, taken, &why), CH_ERR_CONFLICT);
    ch_usage_writer_stop(store);
    assert_int_equal(query("SELECT count(*) FROM texts WHERE text LIKE 'text-%'"), 80);
    assert_int_equal(query("SELECT count(*) FROM usage"), 200);
}

// ---- a database that refuses for a while

static atomic_int releases; // of the memory that only serves speed

void __real_ch_db_release_memory(struct ch_db *);
void __wrap_ch_db_release_memory(struct ch_db *);
void __wrap_ch_db_release_memory(struct ch_db *db)
{
    __real_ch_db_release_memory(db);
    atomic_fetch_add(&releases, 1);
}

static enum ch_err write_nothing(struct ch_db *db, void *arg, struct ch_why *reason)
{
    (void)db, (void)arg, (void)reason;
    return CH_OK;
}

// Administration alone fills the writer's page cache as well as rows do.
static void releases_memory_after_a_change_too(void **state)
{
    (void)state;
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    assert_int_equal(ch_store_write(store, write_nothing, NULL, &why), CH_OK);
    int before = atomic_load(&releases);
    for (int i = 0; i < 1000 && atomic_load(&releases) == before; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&releases), before + 1);
    ch_usage_writer_stop(store);
}

static void *hold_lock(void *arg)
{
    sqlite3 *db = arg;
    usleep(2500000); // longer than a connection waits for a lock
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return NULL;
}

static void retries_until_the_database_takes_the_rows(void **state)
{
    (void)state;
    sqlite3 *db;
    pthread_t thread;
    ch_log_set_level(CH_LOG_ERROR + 1); // the failure is meant
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    assert_int_equal(sqlite3_open(fixture_path("a.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    for (int64_t id = 1; id <= 50; id++)
        append(0, id);
    assert_int_equal(pthread_create(&thread, NULL, hold_lock, db), 0);
    int64_t start_ns = ch_clock_mono_ns();
    ch_usage_writer_flush(store); // gives up: nothing can be committed
    assert_in_range((ch_clock_mono_ns() - start_ns) / CH_NS_PER_MS, 1900, 4000);
    assert_int_equal(query("SELECT count(*) FROM usage"), 0);
    pthread_join(thread, NULL);
    sqlite3_close(db);
    for (int i = 0; i < 100 && query("SELECT count(*) FROM usage") < 50; i++)
        usleep(100000);
    assert_int_equal(query("SELECT count(*) FROM usage"), 50);
    assert_sums_agree();
    ch_usage_writer_stop(store);
    ch_log_set_level(CH_LOG_INFO);
}

// No file may grow past its first page, as on a full disk. The journal is a mapping, which is not
// asked.
static void limit_files(bool limited)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = limited ? 4096 : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void loses_nothing_when_the_disk_is_full(void **state)
{
    (void)state;
    ch_log_set_level(CH_LOG_ERROR + 1); // the failure is meant
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    append(0, 1);
    ch_usage_writer_flush(store);
    limit_files(true);
    for (int64_t id = 2; id <= 30; id++)
        append(1, id);
    ch_usage_writer_flush(store); // gives up
    limit_files(false);
    assert_int_equal(query("SELECT count(*) FROM usage"), 1);
    for (int i = 0; i < 100 && query("SELECT count(*) FROM usage") < 30; i++)
        usleep(100000);
    assert_int_equal(query("SELECT count(*) FROM usage"), 30);
    // The texts of the batch that was rolled back were not taken for stored.
    assert_int_equal(query("SELECT count(*) FROM usage_named WHERE model_sent_name LIKE 'model-%' "
                           "AND upstream_id = 'chatcmpl-' || id AND grade_name = 'exact'"),
                     30);
    assert_sums_agree();
    ch_usage_writer_stop(store);
    ch_log_set_level(CH_LOG_INFO);
}

// ---- a database that is taken away

static void waits_for_rows(int64_t count)
{
    for (int i = 0; i < 100 && query("SELECT count(*) FROM usage") < count; i++)
        usleep(100000);
    assert_int_equal(query("SELECT count(*) FROM usage"), count);
}

static void assert_unavailable(const char *part)
{
    char text[] = "some text";
    assert_int_equal(ch_store_write(store, insert_text, text, &why), CH_ERR_UNAVAILABLE);
    if (!strstr(why.text, part))
        fail_msg("\"%s\" does not say \"%s\"", why.text, part);
}

static void keeps_the_journal_while_the_file_is_away(void **state)
{
    (void)state;
    ch_log_set_level(CH_LOG_ERROR + 1); // the failure is meant
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    append(0, 1);
    ch_usage_writer_flush(store);
    assert_int_equal(rename(fixture_path("a.db"), fixture_path("b.db")), 0);
    append(0, 2);
    ch_usage_writer_flush(store); // gives up
    assert_true(ch_usage_journal_backlog(journal) > 0);
    assert_unavailable("removed or replaced");
    fclose(fopen(fixture_path("a.db"), "w")); // another file of its name
    append(0, 3);
    ch_usage_writer_flush(store);
    assert_unavailable("removed or replaced");
    assert_true(ch_store_is_healthy(store)); // it may come back
    assert_int_equal(query("SELECT count(*) FROM usage"), 1);
    assert_int_equal(rename(fixture_path("b.db"), fixture_path("a.db")), 0);
    waits_for_rows(3);
    assert_sums_agree();
    ch_usage_writer_stop(store);
    assert_int_equal(ch_usage_journal_backlog(journal), 0);
    ch_log_set_level(CH_LOG_INFO);
}

// SQLite's calls come here: the program's functions go before the C library's.
static atomic_int sync_errno;
static atomic_int syncs_failed;

static int sync_or_fail(long call, int fd)
{
    errno = atomic_load(&sync_errno);
    if (errno) {
        atomic_fetch_add(&syncs_failed, 1);
        return -1;
    }
    return (int)syscall(call, fd);
}

int fsync(int fd)
{
    return sync_or_fail(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return sync_or_fail(SYS_fdatasync, fd);
}

static void writes_no_more_after_a_failed_sync(void **state)
{
    (void)state;
    ch_log_set_level(CH_LOG_ERROR + 1); // the failure is meant
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    append(0, 1);
    ch_usage_writer_flush(store);
    assert_true(ch_store_is_healthy(store));
    atomic_store(&syncs_failed, 0);
    atomic_store(&sync_errno, EIO);
    append(0, 2);
    ch_usage_writer_flush(store); // gives up
    atomic_store(&sync_errno, 0); // the next sync would say that all is well
    assert_int_equal(atomic_load(&syncs_failed), 1);
    assert_false(ch_store_is_healthy(store));
    append(0, 3);
    ch_usage_writer_flush(store);
    assert_unavailable("restarted");
    assert_true(ch_usage_journal_backlog(journal) > 0);
    ch_usage_writer_stop(store);
    close_all();
    open_all(2); // the restart
    assert_true(ch_store_is_healthy(store));
    assert_int_equal(ch_usage_writer_recover(store, journal, &why), CH_OK);
    assert_int_equal(query("SELECT count(*) FROM usage"), 3);
    assert_sums_agree();
    ch_log_set_level(CH_LOG_INFO);
}

static void names_the_journal_that_cannot_be_emptied(void **state)
{
    (void)state;
    append(0, 1);
    ch_usage_journal_close(journal);
    // Another geometry, for which there is no room.
    assert_int_equal(
        ch_usage_journal_open(fixture_path("journal"), 1, 1 << 20, SLOTS, &journal, &why), CH_OK);
    signal(SIGXFSZ, SIG_IGN);
    ch_store_close(store);
    store = fixture_open("a.db");
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 700 << 10; // more than the database, less than the journal
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    enum ch_err err = ch_usage_writer_recover(store, journal, &why);
    limit_files(false);
    assert_int_equal(err, CH_ERR_IO);
    assert_non_null(strstr(why.text, ch_usage_journal_path(journal)));
    assert_non_null(strstr(why.text, "move it aside"));
    assert_int_equal(query("SELECT count(*) FROM usage"), 1);
}

// ---- kill -9

enum { LOOPS = 2, IDS = 4000 };

struct truth {
    atomic_uchar claimed[IDS + 1], settled[IDS + 1];
    atomic_bool started;
};

struct victim {
    struct truth *truth;
    unsigned loop;
};

static void *run_victim_loop(void *arg)
{
    struct victim *victim = arg;
    for (int64_t id = victim->loop + 1; id <= IDS; id += LOOPS) {
        struct fixture_texts texts;
        struct ch_usage_record record = fixture_record(id, &texts);
        struct ch_inflight inflight = fixture_inflight(&record);
        uint32_t slot;
        while (ch_usage_journal_claim(journal, victim->loop, &inflight, &slot))
            usleep(100);
        atomic_store(&victim->truth->claimed[id], 1);
        ch_usage_journal_settle(journal, victim->loop, slot, &record);
        atomic_store(&victim->truth->settled[id], 1);
        if (id % 64 <= 1)
            usleep(500); // spread over several batches
    }
    return NULL;
}

// Never returns: it is killed.
static void run_victim(struct truth *truth)
{
    struct victim victims[LOOPS];
    pthread_t thread;
    open_all(LOOPS);
    if (ch_usage_writer_recover(store, journal, &why) ||
        ch_usage_writer_start(store, journal, &why))
        _exit(1);
    for (unsigned i = 0; i < LOOPS; i++) {
        victims[i] = (struct victim){truth, i};
        if (pthread_create(&thread, NULL, run_victim_loop, &victims[i]))
            _exit(1);
    }
    atomic_store(&truth->started, true);
    for (;;)
        ch_usage_writer_flush(store);
}

static void assert_nothing_lost(const struct truth *truth)
{
    static unsigned char rows[IDS + 1];
    sqlite3 *db;
    sqlite3_stmt *stmt;
    memset(rows, 0, sizeof rows);
    assert_int_equal(sqlite3_open(fixture_path("a.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db,
                                        "SELECT u.id, t.text <> 'crash' FROM usage_named u "
                                        "JOIN texts t ON t.id = u.end_reason",
                                        -1, &stmt, NULL),
                     SQLITE_OK);
    while (sqlite3_step(stmt) == SQLITE_ROW)
        rows[sqlite3_column_int(stmt, 0)] = (unsigned char)(1 + sqlite3_column_int(stmt, 1));
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    for (int id = 1; id <= IDS; id++) {
        if (truth->settled[id])
            assert_int_equal(rows[id], 2); // as it was settled, not as a crash
        else if (truth->claimed[id])
            assert_true(rows[id] > 0);
    }
}

static void a_killed_process_loses_nothing(void **state)
{
    enum { ROUNDS = CH_TSAN_SHARE > 1 ? 4 : 12 }; // it is no race that a kill finds
    size_t size = sizeof(struct truth);
    struct truth *truth =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(truth != MAP_FAILED);
    ch_log_set_level(CH_LOG_ERROR); // replays are expected
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t delay_us;
        int status;
        assert_int_equal(fixture_make_dir(state), 0);
        memset(truth, 0, size);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            run_victim(truth);
        for (int i = 0; i < 10000 && !atomic_load(&truth->started); i++)
            usleep(1000);
        ch_random(&delay_us, sizeof delay_us);
        usleep(delay_us % 60000);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        open_all(LOOPS);
        assert_int_equal(ch_usage_writer_recover(store, journal, &why), CH_OK);
        assert_sums_agree();
        assert_int_equal(ch_usage_writer_recover(store, journal, &why), CH_OK);
        assert_sums_agree(); // a second replay changes nothing
        close_all();
        assert_nothing_lost(truth);
        fixture_remove_dir(state);
    }
    munmap(truth, size);
    ch_log_set_level(CH_LOG_INFO);
}

// ---- killed between a commit and the end of its replay

enum { MANY = 2 * 8192 + 616 }; // three batches, of either the writer or the replay

// Counts down with each commit and each tail moved; at zero the process is gone. Never where it is
// not armed.
static atomic_int instants_left = -1;

static void pass_instant(void)
{
    if (atomic_fetch_sub(&instants_left, 1) == 1)
        kill(getpid(), SIGKILL);
}

enum ch_err __real_ch_store_commit(struct ch_store *, struct ch_why *);
enum ch_err __wrap_ch_store_commit(struct ch_store *, struct ch_why *);
enum ch_err __wrap_ch_store_commit(struct ch_store *committed, struct ch_why *reason)
{
    enum ch_err err = __real_ch_store_commit(committed, reason);
    pass_instant();
    return err;
}

void __real_ch_usage_journal_advance(struct ch_usage_journal *, unsigned);
void __wrap_ch_usage_journal_advance(struct ch_usage_journal *, unsigned);
void __wrap_ch_usage_journal_advance(struct ch_usage_journal *advanced, unsigned loop)
{
    __real_ch_usage_journal_advance(advanced, loop);
    pass_instant();
}

static void open_large(void)
{
    store = fixture_open("a.db");
    assert_int_equal(
        ch_usage_journal_open(fixture_path("journal"), LOOPS, 4u << 20, SLOTS, &journal, &why),
        CH_OK);
}

static void fill_journal(int64_t count)
{
    assert_int_equal(ch_usage_writer_recover(store, journal, &why), CH_OK); // makes it ready
    for (int64_t id = 1; id <= count; id++)
        append((unsigned)id % LOOPS, id);
}

// In a process of its own, which dies at that instant.
static void die_at(int instant, void (*work)(void))
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        open_large();
        atomic_store(&instants_left, instant);
        work();
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void write_many(void)
{
    int instant = atomic_exchange(&instants_left, -1);
    fill_journal(MANY);
    atomic_store(&instants_left, instant);
    if (!ch_usage_writer_start(store, journal, &why))
        ch_usage_writer_stop(store);
}

static void recover_many(void)
{
    if (ch_usage_writer_recover(store, journal, &why))
        _exit(1);
}

static void assert_exactly_once(void)
{
    assert_int_equal(query("SELECT count(*) FROM usage"), MANY);
    assert_int_equal(query("SELECT min(id) FROM usage"), 1);
    assert_int_equal(query("SELECT max(id) FROM usage"), MANY);
    assert_int_equal(query("SELECT sum(requests) FROM usage_hourly"), MANY);
    assert_sums_agree();
}

// The writer is killed in the midst of a large journal, then its replay is: whatever was committed
// comes again, and counts once.
static void a_large_journal_is_replayed_exactly_once(void **state)
{
    // A batch is a commit and the move of two tails: no tail has moved at the first instant, one of
    // the two at the second.
    enum { INSTANTS = 2 };
    ch_log_set_level(CH_LOG_ERROR); // replays are expected
    for (int instant = 1; instant <= INSTANTS; instant += CH_TSAN_SHARE) {
        assert_int_equal(fixture_make_dir(state), 0);
        die_at(instant, write_many);
        die_at(1, recover_many);
        open_large();
        assert_in_range(query("SELECT count(*) FROM usage"), 1, MANY - 1); // not all was committed
        recover_many();
        assert_exactly_once();
        recover_many(); // what is replayed is gone
        assert_exactly_once();
        close_all();
        fixture_remove_dir(state);
    }
    ch_log_set_level(CH_LOG_INFO);
}

// Gives the processor's time.
static int64_t time_of_replay(void **state, int64_t count)
{
    struct timespec began, ended;
    assert_int_equal(fixture_make_dir(state), 0);
    open_large();
    fill_journal(count);
    ch_usage_journal_close(journal);
    ch_store_close(store);
    open_large();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &began);
    recover_many();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ended);
    assert_int_equal(query("SELECT count(*) FROM usage"), count);
    close_all();
    fixture_remove_dir(state);
    return (ended.tv_sec - began.tv_sec) * 1000000000 + ended.tv_nsec - began.tv_nsec;
}

// Eight times the records take eight times as long, were it quadratic sixty-four times: with room
// for noise. How long a million take is for a benchmark to say.
static void a_replay_takes_time_in_proportion(void **state)
{
    ch_log_set_level(CH_LOG_ERROR);
    int64_t count = 2000 / CH_TSAN_SHARE;
    int64_t short_ns = time_of_replay(state, count), long_ns = time_of_replay(state, 8 * count);
    ch_log_set_level(CH_LOG_INFO);
    if (long_ns > 8 * 3 * short_ns)
        fail_msg("%lld and %lld ns", (long long)short_ns, (long long)long_ns);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(commits_what_is_appended_within_200_ms),
        TEST(stores_every_field),
        TEST(takes_every_tier),
        TEST(counts_a_repeated_row_once),
        TEST(counts_what_is_new_beside_what_is_not),
        TEST(keeps_each_row_of_a_group_apart),
        TEST(drains_at_the_stop),
        TEST(grades_decide_what_is_unpriced_and_what_is_an_error),
        TEST(hostile_numbers_and_bytes_do_not_stop_it),
        TEST(sums_stop_at_the_largest_number),
        TEST(runs_writes_of_several_threads),
        TEST(releases_memory_after_a_change_too),
        TEST(retries_until_the_database_takes_the_rows),
        TEST(loses_nothing_when_the_disk_is_full),
        TEST(keeps_the_journal_while_the_file_is_away),
        TEST(writes_no_more_after_a_failed_sync),
        TEST(names_the_journal_that_cannot_be_emptied),
        cmocka_unit_test(a_killed_process_loses_nothing),
        cmocka_unit_test(a_large_journal_is_replayed_exactly_once),
        cmocka_unit_test(a_replay_takes_time_in_proportion),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
