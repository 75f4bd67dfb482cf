// SPDX-License-Identifier: Apache-2.0
#include "store/usage_writer.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/db.h"
#include "store_internal.h"
#include "usage_insert.h"

#include <assert.h>
#include <stdatomic.h>
#include <time.h>

#define IDLE_MS      150   // between two looks at the journal; rows are promised within 200 ms
#define RETRY_MS     1000  // after a failed commit
#define RELEASE_MS   5000  // without a row or a job, until the memory that only serves speed goes
#define FLUSH_MS     2000  // the longest that a flush waits
#define LOG_EVERY_MS 60000 // failing commits are logged this often
// Rows after which a batch looks whether a write waits: about 50 ms of work.
#define BATCH_STEP 4096
static_assert(CH_USAGE_BATCH % BATCH_STEP == 0, "a batch ends at a step");

// A ch_store_write, on the stack of the thread that waits for it.
struct job {
    ch_store_write_fn fn;
    void *arg;
    struct ch_why *why;
    enum ch_err err;
    bool is_done;
    struct job *next;
};

struct ch_usage_writer {
    struct ch_store *store;
    struct ch_usage_journal *journal;
    struct ch_usage_insert *insert; // the thread's own
    unsigned first_loop;    // the ring that the next batch begins with, so that all get their turn
    int64_t logged_at_ns;   // 0: nothing is wrong
    int64_t worked_at_ns;   // the last round that had something to do
    bool has_released;      // what memory it could, since then
    _Atomic uint64_t turns; // rounds begun
    pthread_t thread;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t wake;   // for the thread: a job, a flush, the stop
    pthread_cond_t done;   // for the callers: a job or a flush is done
    struct job *jobs, **jobs_end;
    uint64_t flush_wanted, flush_done; // tickets
    bool is_stopping;
};

// ---- a batch

// Whether the batch at hand ends here. One that keeps a ch_store_write waiting ends early.
static bool is_full(struct ch_usage_writer *writer, int64_t rows)
{
    if (rows == 0 || rows % BATCH_STEP)
        return false;
    pthread_mutex_lock(&writer->mutex);
    bool is_waited_for = writer->jobs != NULL;
    pthread_mutex_unlock(&writer->mutex);
    return is_waited_for || rows == CH_USAGE_BATCH;
}

// Peeks a batch and adds its rows. `drained_out`: every ring was seen empty.
static enum ch_err add_batch(struct ch_usage_writer *writer, bool *drained_out, struct ch_why *why)
{
    unsigned loops = ch_usage_journal_loops(writer->journal);
    int64_t rows = 0;
    bool is_over = false;
    enum ch_err err = CH_OK;
    for (unsigned i = 0; i < loops && !err; i++) {
        unsigned loop = (writer->first_loop + i) % loops;
        struct ch_usage_record record;
        while (!err && !is_over && !ch_usage_journal_peek(writer->journal, loop, &record)) {
            err = ch_usage_insert_add(writer->insert, writer->store->writer_db, &record, why);
            is_over = is_full(writer, ++rows);
        }
    }
    *drained_out = !is_over;
    return err;
}

static enum ch_err commit_batch(struct ch_usage_writer *writer, struct ch_why *why)
{
    struct ch_store *store = writer->store;
    enum ch_err err = ch_usage_insert_finish(writer->insert, store->writer_db, why);
    return err ? err : ch_store_commit(store, why);
}

static void end_batch(struct ch_usage_writer *writer, bool is_committed)
{
    unsigned loops = ch_usage_journal_loops(writer->journal);
    for (unsigned loop = 0; loop < loops; loop++)
        if (is_committed)
            ch_usage_journal_advance(writer->journal, loop);
        else
            ch_usage_journal_rewind(writer->journal, loop);
    writer->first_loop = (writer->first_loop + 1) % loops;
}

// There is a row or a job: what SQLite reads for it stays at hand for a while.
static void note_work(struct ch_usage_writer *writer)
{
    writer->worked_at_ns = ch_clock_mono_ns();
    writer->has_released = false;
}

// An idle daemon stays small (design.md §9).
static void release_when_idle(struct ch_usage_writer *writer)
{
    if (writer->has_released ||
        ch_clock_mono_ns() - writer->worked_at_ns < RELEASE_MS * CH_NS_PER_MS)
        return;
    ch_db_release_memory(writer->store->writer_db);
    writer->has_released = true;
}

// One transaction: what waits in the journal, up to a batch. Only when it is in SQLite do the tails
// move.
static enum ch_err move_batch(struct ch_usage_writer *writer, bool *drained_out, struct ch_why *why)
{
    if (ch_usage_journal_backlog(writer->journal) == 0) {
        release_when_idle(writer);
        *drained_out = true;
        return CH_OK;
    }
    note_work(writer);
    enum ch_err err = ch_store_begin(writer->store, why);
    if (!err)
        err = add_batch(writer, drained_out, why);
    if (!err)
        err = commit_batch(writer, why);
    if (err) {
        ch_store_rollback(writer->store);
        ch_usage_insert_reset(writer->insert);
    }
    if (err == CH_ERR_CORRUPT) // a repetition would meet the same page
        ch_store_fail(writer->store);
    end_batch(writer, !err);
    return err;
}

static void log_outcome(struct ch_usage_writer *writer, enum ch_err err, const struct ch_why *why)
{
    int64_t now = ch_clock_mono_ns();
    if (!err && writer->logged_at_ns)
        CH_LOG(CH_LOG_INFO, "usage_writes_again",
               ch_log_int("journal_bytes", ch_usage_journal_backlog(writer->journal)));
    if (!err)
        writer->logged_at_ns = 0;
    else if (!writer->logged_at_ns || now - writer->logged_at_ns > LOG_EVERY_MS * CH_NS_PER_MS) {
        writer->logged_at_ns = now;
        CH_LOG(CH_LOG_ERROR, "usage_write_failed", ch_log_text("err", why->text),
               ch_log_int("journal_bytes", ch_usage_journal_backlog(writer->journal)));
    }
}

// ---- the thread

static struct timespec after_ms(int64_t ms)
{
    int64_t ns = ch_clock_mono_ns() + ms * CH_NS_PER_MS;
    return (struct timespec){ns / 1000000000, ns % 1000000000};
}

static void run_jobs(struct ch_usage_writer *writer, struct job *jobs)
{
    if (jobs)
        note_work(writer);
    while (jobs) {
        struct job *job = jobs;
        jobs = job->next;
        enum ch_err err = ch_store_transact(writer->store, job->fn, job->arg, job->why);
        pthread_mutex_lock(&writer->mutex);
        job->err = err;
        job->is_done = true; // from here on it belongs to its thread again
        pthread_cond_broadcast(&writer->done);
        pthread_mutex_unlock(&writer->mutex);
    }
}

static struct job *take_jobs(struct ch_usage_writer *writer)
{
    struct job *jobs = writer->jobs;
    writer->jobs = NULL;
    writer->jobs_end = &writer->jobs;
    return jobs;
}

static bool is_wanted(const struct ch_usage_writer *writer)
{
    return writer->jobs || writer->is_stopping || writer->flush_wanted != writer->flush_done;
}

// Sleeps until there may be something to do. After a failure only a job cuts the pause short.
static void wait_for_work(struct ch_usage_writer *writer, bool failed)
{
    struct timespec until = after_ms(failed ? RETRY_MS : IDLE_MS);
    bool is_over = false;
    while (!is_over && !(failed ? writer->jobs || writer->is_stopping : is_wanted(writer)))
        is_over = pthread_cond_timedwait(&writer->wake, &writer->mutex, &until) != 0;
}

static void *run(void *arg)
{
    struct ch_usage_writer *writer = arg;
    bool is_drained = true, is_stopping = false;
    enum ch_err err = CH_OK;
    pthread_mutex_lock(&writer->mutex);
    // A failure at the stop is final: the journal keeps what is left for the next start.
    while (!is_stopping || (!is_drained && !err) || writer->jobs) {
        atomic_fetch_add_explicit(&writer->turns, 1, memory_order_relaxed);
        if (is_drained || err)
            wait_for_work(writer, err != CH_OK);
        struct job *jobs = take_jobs(writer);
        uint64_t ticket = writer->flush_wanted;
        is_stopping = writer->is_stopping;
        pthread_mutex_unlock(&writer->mutex);

        struct ch_why why = {""};
        run_jobs(writer, jobs);
        is_drained = false;
        err = move_batch(writer, &is_drained, &why);
        log_outcome(writer, err, &why);

        pthread_mutex_lock(&writer->mutex);
        if (!err && is_drained) {
            writer->flush_done = ticket;
            pthread_cond_broadcast(&writer->done);
        }
    }
    pthread_mutex_unlock(&writer->mutex);
    return NULL;
}

enum ch_err ch_usage_writer_run(struct ch_usage_writer *writer, ch_store_write_fn fn, void *arg,
                                struct ch_why *why)
{
    struct job job = {.fn = fn, .arg = arg, .why = why};
    pthread_mutex_lock(&writer->mutex);
    if (writer->is_stopping) {
        pthread_mutex_unlock(&writer->mutex);
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "the store is stopping");
    }
    *writer->jobs_end = &job;
    writer->jobs_end = &job.next;
    pthread_cond_signal(&writer->wake);
    while (!job.is_done)
        pthread_cond_wait(&writer->done, &writer->mutex);
    pthread_mutex_unlock(&writer->mutex);
    return job.err;
}

void ch_usage_writer_flush(struct ch_store *store)
{
    struct ch_usage_writer *writer = store->usage_writer;
    if (!writer)
        return;
    struct timespec until = after_ms(FLUSH_MS);
    pthread_mutex_lock(&writer->mutex);
    uint64_t ticket = ++writer->flush_wanted;
    pthread_cond_signal(&writer->wake);
    bool is_over = false;
    while (!is_over && writer->flush_done < ticket)
        is_over = pthread_cond_timedwait(&writer->done, &writer->mutex, &until) != 0;
    pthread_mutex_unlock(&writer->mutex);
}

uint64_t ch_usage_writer_turns(const struct ch_store *store)
{
    const struct ch_usage_writer *writer = store->usage_writer;
    return writer ? atomic_load_explicit(&writer->turns, memory_order_relaxed) : 0;
}

// ---- start and stop

static void free_writer(struct ch_usage_writer *writer)
{
    pthread_cond_destroy(&writer->done);
    pthread_cond_destroy(&writer->wake);
    pthread_mutex_destroy(&writer->mutex);
    ch_usage_insert_free(writer->insert);
    ch_zfree(writer);
}

enum ch_err ch_usage_writer_start(struct ch_store *store, struct ch_usage_journal *journal,
                                  struct ch_why *why)
{
    CH_ASSERT(!store->usage_writer);
    struct ch_usage_writer *writer = ch_zcalloc(1, sizeof *writer);
    if (!writer)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    writer->store = store;
    writer->journal = journal;
    writer->jobs_end = &writer->jobs;
    pthread_mutex_init(&writer->mutex, NULL);
    ch_clock_condition_init(&writer->wake);
    ch_clock_condition_init(&writer->done);
    enum ch_err err = ch_usage_insert_new(&writer->insert);
    if (!err && pthread_create(&writer->thread, NULL, run, writer) != 0)
        err = CH_ERR_UNAVAILABLE;
    if (err) {
        free_writer(writer);
        return ch_why_set(why, err, "the writer thread could not be started");
    }
    pthread_setname_np(writer->thread, "usage-writer");
    store->usage_writer = writer;
    return CH_OK;
}

void ch_usage_writer_stop(struct ch_store *store)
{
    struct ch_usage_writer *writer = store->usage_writer;
    if (!writer)
        return;
    pthread_mutex_lock(&writer->mutex);
    writer->is_stopping = true;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->mutex);
    pthread_join(writer->thread, NULL);
    store->usage_writer = NULL;
    free_writer(writer);
}

// ---- recovery

struct recovery {
    struct ch_store *store;
    struct ch_usage_insert *insert;
    unsigned rows; // in the open transaction
    struct ch_why *why;
};

static enum ch_err commit_recovered(struct recovery *recovery)
{
    enum ch_err err = CH_OK;
    if (recovery->rows)
        err = ch_usage_insert_finish(recovery->insert, recovery->store->writer_db, recovery->why);
    if (!err && recovery->rows)
        err = ch_store_commit(recovery->store, recovery->why);
    recovery->rows = 0;
    return err;
}

static enum ch_err recover_record(void *arg, const struct ch_usage_record *record)
{
    struct recovery *recovery = arg;
    enum ch_err err = CH_OK;
    if (!record || recovery->rows == CH_USAGE_BATCH)
        err = commit_recovered(recovery);
    if (err || !record)
        return err;
    if (recovery->rows++ == 0)
        err = ch_store_begin(recovery->store, recovery->why);
    return err ? err
               : ch_usage_insert_add(recovery->insert, recovery->store->writer_db, record,
                                     recovery->why);
}

enum ch_err ch_usage_writer_recover(struct ch_store *store, struct ch_usage_journal *journal,
                                    struct ch_why *why)
{
    struct recovery recovery = {.store = store, .why = why};
    int64_t replayed = 0;
    CH_ASSERT(!store->usage_writer);
    enum ch_err err = ch_usage_insert_new(&recovery.insert);
    if (err)
        return ch_why_set(why, err, "out of memory");
    // Unless a row fails, which says why itself.
    ch_why_set(why, CH_OK,
               "the journal %s could not be emptied or laid out anew: make room, or move it aside, "
               "which loses its unsaved records",
               ch_usage_journal_path(journal));
    err = ch_usage_journal_replay(journal, recover_record, &recovery, &replayed);
    if (err)
        ch_store_rollback(store);
    ch_usage_insert_free(recovery.insert);
    if (!err && (replayed || ch_usage_journal_refused(journal)))
        CH_LOG(CH_LOG_WARN, "usage_replayed",
               ch_log_text("journal", ch_usage_journal_path(journal)),
               ch_log_int("records", replayed),
               ch_log_int("refused", ch_usage_journal_refused(journal)));
    return err;
}

static enum ch_err read_highest_id(struct ch_db *db, void *arg, struct ch_why *why)
{
    static const char sql[] = "SELECT coalesce(max(id), 0) FROM usage";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    return err ? err : ch_db_step_int(db, stmt, arg, why);
}

enum ch_err ch_usage_highest_id(struct ch_store *store, int64_t *id_out, struct ch_why *why)
{
    return ch_store_read(store, read_highest_id, id_out, why);
}
