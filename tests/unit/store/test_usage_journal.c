// SPDX-License-Identifier: Apache-2.0
#include "record_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define RING  (64u << 10)
#define SLOTS 40u

static struct ch_why why;

static struct ch_usage_journal *open_journal(unsigned loops, size_t ring, unsigned slots)
{
    struct ch_usage_journal *journal = NULL;
    enum ch_err err =
        ch_usage_journal_open(fixture_path("journal"), loops, ring, slots, &journal, &why);
    if (err)
        fail_msg("open: %s: %s", ch_err_name(err), why.text);
    return journal;
}

static enum ch_err claim(struct ch_usage_journal *journal, unsigned loop, int64_t id,
                         uint32_t *slot_out)
{
    struct fixture_texts texts;
    struct ch_usage_record record = fixture_record(id, &texts);
    struct ch_inflight inflight = fixture_inflight(&record);
    return ch_usage_journal_claim(journal, loop, &inflight, slot_out);
}

static void settle(struct ch_usage_journal *journal, unsigned loop, uint32_t slot, int64_t id)
{
    struct fixture_texts texts;
    struct ch_usage_record record = fixture_record(id, &texts);
    ch_usage_journal_settle(journal, loop, slot, &record);
}

static enum ch_err append(struct ch_usage_journal *journal, unsigned loop, int64_t id)
{
    struct fixture_texts texts;
    struct ch_usage_record record = fixture_record(id, &texts);
    return ch_usage_journal_append(journal, loop, &record);
}

// What a replay gave.
enum { IDS = 2000 };
struct given {
    int64_t count, crashes, ends;
    int64_t last_id;
    unsigned char records[IDS + 1], crash[IDS + 1]; // times each id came
    enum ch_err fail_at_end;
};

static enum ch_err take(void *arg, const struct ch_usage_record *record)
{
    struct given *given = arg;
    if (!record) {
        given->ends++;
        return given->fail_at_end;
    }
    assert_true(record->id >= 1 && record->id <= IDS);
    given->count++;
    given->last_id = record->id;
    if (record->end_reason != CH_END_CRASH) {
        assert_true(fixture_is_whole(record));
        given->records[record->id]++;
        return CH_OK;
    }
    struct fixture_texts texts;
    struct ch_usage_record whole = fixture_record(record->id, &texts);
    assert_int_equal(record->grade, CH_GRADE_PARTIAL);
    assert_int_equal(record->started_at_ms, whole.started_at_ms);
    assert_int_equal(record->key_id, whole.key_id);
    assert_int_equal(record->request_bytes, whole.request_bytes);
    assert_true(ch_span_eq(record->model_sent, whole.model_sent));
    assert_false(record->is_priced);
    given->crashes++;
    given->crash[record->id]++;
    return CH_OK;
}

static void replay(struct ch_usage_journal *journal, struct given *given)
{
    int64_t replayed = -1;
    *given = (struct given){0};
    assert_int_equal(ch_usage_journal_replay(journal, take, given, &replayed), CH_OK);
    assert_int_equal(replayed, given->count);
    assert_int_equal(given->ends, 1);
}

static void gives_what_was_appended_in_order(void **state)
{
    (void)state;
    struct ch_usage_journal *journal = open_journal(2, RING, SLOTS);
    struct ch_usage_record record;
    struct stat info;
    assert_int_equal(stat(fixture_path("journal"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_true(info.st_blocks * 512 >= info.st_size); // no holes: a full disk cannot hurt later
    assert_int_equal(ch_usage_journal_peek(journal, 0, &record), CH_ERR_AGAIN);
    for (int64_t id = 1; id <= 20; id++) // far more than a ring in all
        for (int n = 0; n < 50; n++) {
            assert_int_equal(append(journal, n % 2, id), CH_OK);
            assert_int_equal(ch_usage_journal_peek(journal, n % 2, &record), CH_OK);
            assert_int_equal(record.id, id);
            assert_true(fixture_is_whole(&record));
            assert_true(ch_usage_journal_backlog(journal) > 0);
            ch_usage_journal_advance(journal, n % 2);
            assert_int_equal(ch_usage_journal_backlog(journal), 0);
        }
    ch_usage_journal_close(journal);
}

static void peeks_on_and_rewinds(void **state)
{
    (void)state;
    struct ch_usage_journal *journal = open_journal(1, RING, SLOTS);
    struct ch_usage_record record;
    for (int64_t id = 1; id <= 4; id++)
        assert_int_equal(append(journal, 0, id), CH_OK);
    for (int round = 0; round < 3; round++) {
        for (int64_t id = 1; id <= 4; id++) {
            assert_int_equal(ch_usage_journal_peek(journal, 0, &record), CH_OK);
            assert_int_equal(record.id, id);
        }
        assert_int_equal(ch_usage_journal_peek(journal, 0, &record), CH_ERR_AGAIN);
        ch_usage_journal_rewind(journal, 0);
    }
    assert_int_equal(ch_usage_journal_peek(journal, 0, &record), CH_OK);
    ch_usage_journal_advance(journal, 0);
    ch_usage_journal_rewind(journal, 0);
    assert_int_equal(ch_usage_journal_peek(journal, 0, &record), CH_OK);
    assert_int_equal(record.id, 2);
    ch_usage_journal_close(journal);
}

static void refuses_claims_when_slots_are_out(void **state)
{
    (void)state;
    struct ch_usage_journal *journal = open_journal(2, RING, SLOTS);
    uint32_t slots[SLOTS + 1];
    for (unsigned i = 0; i < SLOTS; i++) {
        assert_int_equal(claim(journal, 0, i + 1, &slots[i]), CH_OK);
        assert_int_equal(ch_usage_journal_inflight(journal), i + 1);
    }
    assert_int_equal(claim(journal, 0, 100, &slots[SLOTS]), CH_ERR_UNAVAILABLE);
    assert_int_equal(claim(journal, 1, 101, &slots[SLOTS]), CH_OK); // the other loop has its own
    settle(journal, 0, slots[7], 8);
    uint32_t slot;
    assert_int_equal(claim(journal, 0, 102, &slot), CH_OK);
    assert_int_equal(slot, slots[7]); // the one freed last, so that few pages are touched
    assert_int_equal(ch_usage_journal_inflight(journal), SLOTS + 1);
    ch_usage_journal_close(journal);
}

// A record of the largest size there is.
static struct ch_usage_record make_largest(int64_t id)
{
    static const char text[CH_RECORD_MODEL] = {'x'};
    struct ch_span longest = {text, sizeof text};
    return (struct ch_usage_record){.id = id,
                                    .model_asked = longest,
                                    .model_sent = longest,
                                    .model_served = longest,
                                    .upstream_id = longest,
                                    .user_agent = longest,
                                    .client_address = longest,
                                    .rule = longest,
                                    .catalogue = longest};
}

static void settles_every_claim_however_full_the_ring(void **state)
{
    (void)state;
    struct ch_usage_journal *journal = open_journal(1, 16 << 10, SLOTS);
    int64_t id = 0, refused = 0;
    for (int round = 0; round < 400; round++) {
        uint32_t slots[SLOTS];
        unsigned count = 0, denials = 0;
        struct ch_usage_record record = make_largest(1);
        while (count < (unsigned)round % SLOTS && !claim(journal, 0, id + count + 1, &slots[count]))
            count++;
        while (!ch_usage_journal_append(journal, 0, &record)) // denials take what they may take
            denials++;
        refused += count < (unsigned)round % SLOTS;
        for (unsigned i = 0; i < count; i++) {
            record = make_largest(id + i + 1);
            ch_usage_journal_settle(journal, 0, slots[i], &record);
        }
        for (unsigned i = 0; i < denials + count; i++) { // nothing was written over
            assert_int_equal(ch_usage_journal_peek(journal, 0, &record), CH_OK);
            assert_int_equal(record.id, i < denials ? 1 : id + i - denials + 1);
        }
        assert_int_equal(ch_usage_journal_peek(journal, 0, &record), CH_ERR_AGAIN);
        ch_usage_journal_advance(journal, 0);
        id += count;
    }
    assert_true(refused > 0);
    assert_int_equal(ch_usage_journal_inflight(journal), 0);
    ch_usage_journal_close(journal);
}

static void replays_what_was_left(void **state)
{
    (void)state;
    struct ch_usage_journal *journal = open_journal(2, RING, SLOTS);
    struct ch_usage_record record;
    struct given given;
    uint32_t slot;
    for (int64_t id = 1; id <= 10; id++)
        assert_int_equal(append(journal, (unsigned)id % 2, id), CH_OK);
    assert_int_equal(ch_usage_journal_peek(journal, 1, &record), CH_OK); // 1 is committed
    ch_usage_journal_advance(journal, 1);
    assert_int_equal(ch_usage_journal_peek(journal, 1, &record), CH_OK); // 3 is not
    assert_int_equal(claim(journal, 0, 11, &slot), CH_OK);
    assert_int_equal(claim(journal, 1, 12, &slot), CH_OK);
    settle(journal, 1, slot, 12);
    ch_usage_journal_close(journal); // as a kill would leave it

    journal = open_journal(2, RING, SLOTS);
    int64_t replayed;
    given = (struct given){.fail_at_end = CH_ERR_IO};
    assert_int_equal(ch_usage_journal_replay(journal, take, &given, &replayed), CH_ERR_IO);
    ch_usage_journal_close(journal); // the commit failed: everything is still there

    journal = open_journal(2, RING, SLOTS);
    replay(journal, &given);
    assert_int_equal(given.count, 11);
    assert_int_equal(given.records[1], 0);
    for (int64_t id = 2; id <= 10; id++)
        assert_int_equal(given.records[id], 1);
    assert_int_equal(given.records[12], 1);
    assert_int_equal(given.crash[11], 1);
    assert_int_equal(given.crashes, 1);
    assert_int_equal(ch_usage_journal_refused(journal), 0);
    assert_int_equal(append(journal, 0, 5), CH_OK); // ready for work
    assert_int_equal(ch_usage_journal_peek(journal, 0, &record), CH_OK);
    assert_int_equal(record.id, 5);
    ch_usage_journal_advance(journal, 0);
    ch_usage_journal_close(journal);

    journal = open_journal(2, RING, SLOTS);
    replay(journal, &given);
    assert_int_equal(given.count, 0);
    ch_usage_journal_close(journal);
}

static void takes_a_new_geometry_after_the_replay(void **state)
{
    (void)state;
    struct ch_usage_journal *journal = open_journal(3, RING, SLOTS);
    struct given given;
    uint32_t slot;
    for (unsigned loop = 0; loop < 3; loop++)
        assert_int_equal(append(journal, loop, loop + 1), CH_OK);
    assert_int_equal(claim(journal, 2, 9, &slot), CH_OK);
    ch_usage_journal_close(journal);
    journal = open_journal(1, 2 * RING, 7);
    replay(journal, &given);
    assert_int_equal(given.count, 4);
    assert_int_equal(given.crash[9], 1);
    for (int i = 0; i < 7; i++)
        assert_int_equal(claim(journal, 0, i + 1, &slot), CH_OK);
    assert_int_equal(claim(journal, 0, 8, &slot), CH_ERR_UNAVAILABLE);
    ch_usage_journal_close(journal);
}

static void refuses_a_second_opener_and_foreign_files(void **state)
{
    (void)state;
    struct ch_usage_journal *journal = open_journal(1, RING, SLOTS), *second;
    assert_int_equal(ch_usage_journal_open(fixture_path("journal"), 1, RING, SLOTS, &second, &why),
                     CH_ERR_CONFLICT);
    ch_usage_journal_close(journal);
    FILE *file = fopen(fixture_path("journal"), "w");
    fputs("not a journal, but somebody's notes that must not be overwritten", file);
    fclose(file);
    assert_int_equal(ch_usage_journal_open(fixture_path("journal"), 1, RING, SLOTS, &second, &why),
                     CH_ERR_CORRUPT);
    assert_int_equal(ch_usage_journal_open(fixture_path("truth"), 0, RING, SLOTS, &second, &why),
                     CH_ERR_INVALID);
}

// Flips a byte of the file behind the journal's back.
static void flip_byte(size_t at)
{
    unsigned char byte;
    int fd = open(fixture_path("journal"), O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

static size_t ring_start(void)
{
    struct stat info;
    assert_int_equal(stat(fixture_path("journal"), &info), 0);
    return (size_t)info.st_size - RING; // one loop: the ring is the file's end
}

static void a_torn_record_costs_itself_only(void **state)
{
    (void)state;
    enum { RECORDS = 6 };
    size_t ends[RECORDS + 1] = {0};
    struct ch_usage_journal *journal = open_journal(1, RING, SLOTS);
    for (int64_t id = 1; id <= RECORDS; id++) {
        assert_int_equal(append(journal, 0, id), CH_OK);
        ends[id] = (size_t)ch_usage_journal_backlog(journal);
    }
    ch_usage_journal_close(journal);
    size_t ring = ring_start();
    for (size_t at = ends[2]; at < ends[3] - 8;
         at++) { // every byte of record 3, without its padding
        struct given given = {.fail_at_end = CH_ERR_IO}; // so that the journal stays as it is
        int64_t replayed;
        flip_byte(ring + at);
        journal = open_journal(1, RING, SLOTS);
        assert_int_equal(ch_usage_journal_replay(journal, take, &given, &replayed), CH_ERR_IO);
        assert_int_equal(ch_usage_journal_refused(journal), 1);
        assert_int_equal(given.count, RECORDS - 1);
        assert_int_equal(given.records[3], 0);
        ch_usage_journal_close(journal);
        flip_byte(ring + at);
    }
}

static void records_past_an_old_head_are_found(void **state)
{
    (void)state;
    unsigned char control[4096];
    struct ch_usage_journal *journal = open_journal(1, RING, SLOTS);
    assert_int_equal(append(journal, 0, 1), CH_OK);
    int fd = open(fixture_path("journal"), O_RDWR);
    assert_int_equal(pread(fd, control, sizeof control, 4096), sizeof control);
    assert_int_equal(append(journal, 0, 2), CH_OK);
    assert_int_equal(append(journal, 0, 3), CH_OK);
    // After a loss of power the page with the head may be older than the pages of the ring.
    assert_int_equal(pwrite(fd, control, sizeof control, 4096), sizeof control);
    close(fd);
    ch_usage_journal_close(journal);
    struct given given;
    struct ch_usage_record record;
    journal = open_journal(1, RING, SLOTS);
    replay(journal, &given);
    assert_int_equal(given.count, 3);
    assert_int_equal(append(journal, 0, 4), CH_OK);
    ch_usage_journal_close(journal);
    journal = open_journal(1, RING, SLOTS);
    replay(journal, &given);
    assert_int_equal(given.count, 1);
    assert_int_equal(given.records[4], 1);
    assert_int_equal(ch_usage_journal_peek(journal, 0, &record), CH_ERR_AGAIN);
    ch_usage_journal_close(journal);
}

static void write_control(uint64_t head, uint64_t tail)
{
    int fd = open(fixture_path("journal"), O_RDWR);
    assert_int_equal(pwrite(fd, &head, sizeof head, 4096), sizeof head);
    assert_int_equal(pwrite(fd, &tail, sizeof tail, 4096 + 64), sizeof tail);
    close(fd);
}

// Appends and takes out `done` records, then leaves three and one in flight; the ids begin at 1.
static void leave_three(int64_t done)
{
    uint32_t slot;
    struct ch_usage_record record;
    struct ch_usage_journal *journal = open_journal(1, RING, SLOTS);
    for (int64_t id = 1; id <= done + 3; id++) {
        assert_int_equal(append(journal, 0, id), CH_OK);
        if (id > done)
            continue;
        assert_int_equal(ch_usage_journal_peek(journal, 0, &record), CH_OK);
        ch_usage_journal_advance(journal, 0);
    }
    assert_int_equal(claim(journal, 0, done + 4, &slot), CH_OK);
    ch_usage_journal_close(journal);
}

static void finds_damaged_positions_again(void **state)
{
    static const struct {
        int64_t done;
        uint64_t head, tail;
    } cases[] = {
        {0, UINT64_MAX, 0},
        {0, 8, 16},
        {50, 3, 1},
        {50, UINT64_C(1) << 61, 0},
        {1000, 0, UINT64_C(1) << 40}, // several laps
        {1001, UINT64_MAX, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct given given;
        struct ch_usage_record record;
        int64_t done = cases[i].done;
        leave_three(done);
        write_control(cases[i].head, cases[i].tail);
        struct ch_usage_journal *journal = open_journal(1, RING, SLOTS);
        replay(journal, &given);
        assert_int_equal(given.last_id, done + 4); // the one in flight
        assert_int_equal(given.crash[done + 4], 1);
        for (int64_t id = 1; id <= done + 3; id++)
            assert_in_range(given.records[id], id > done, 1);
        assert_true(ch_usage_journal_refused(journal) > 0);
        // The positions go on behind those of the records that are still in the ring.
        assert_int_equal(ch_usage_journal_peek(journal, 0, &record), CH_ERR_AGAIN);
        assert_int_equal(append(journal, 0, 1900), CH_OK);
        ch_usage_journal_close(journal);
        journal = open_journal(1, RING, SLOTS);
        replay(journal, &given);
        assert_int_equal(given.count, 1);
        assert_int_equal(given.records[1900], 1);
        ch_usage_journal_close(journal);
        fixture_remove_dir(state);
        fixture_make_dir(state);
    }
}

static void refuses_a_damaged_slot(void **state)
{
    (void)state;
    struct ch_usage_journal *journal = open_journal(1, RING, SLOTS);
    uint32_t slot;
    assert_int_equal(claim(journal, 0, 1, &slot), CH_OK);
    ch_usage_journal_close(journal);
    struct given given = {.fail_at_end = CH_ERR_IO};
    int64_t replayed;
    for (size_t at = 0; at < 8; at++) {
        flip_byte(8192 + 32 + at); // in the slot's copy of the id
        journal = open_journal(1, RING, SLOTS);
        assert_int_equal(ch_usage_journal_replay(journal, take, &given, &replayed), CH_ERR_IO);
        assert_int_equal(given.count, 0);
        ch_usage_journal_close(journal);
        flip_byte(8192 + 32 + at);
    }
    journal = open_journal(1, RING, SLOTS);
    replay(journal, &given);
    assert_int_equal(given.crash[1], 1);
    ch_usage_journal_close(journal);
}

static void a_slot_behind_a_committed_record_is_no_crash(void **state)
{
    (void)state;
    unsigned char id[8];
    struct ch_usage_journal *journal = open_journal(1, RING, SLOTS);
    struct ch_usage_record record;
    struct given given;
    uint32_t slot;
    int fd = open(fixture_path("journal"), O_RDWR);
    assert_int_equal(claim(journal, 0, 1, &slot), CH_OK);
    assert_int_equal(pread(fd, id, sizeof id, 8192), sizeof id);
    settle(journal, 0, slot, 1);
    assert_int_equal(ch_usage_journal_peek(journal, 0, &record), CH_OK);
    ch_usage_journal_advance(journal, 0);
    // As if the loop had been killed before it could clear the slot.
    assert_int_equal(pwrite(fd, id, sizeof id, 8192), sizeof id);
    close(fd);
    ch_usage_journal_close(journal);
    journal = open_journal(1, RING, SLOTS);
    replay(journal, &given);
    assert_int_equal(given.count, 0);
    ch_usage_journal_close(journal);
}

// ---- threads

enum { LOOPS = 2 };

struct shared {
    struct ch_usage_journal *journal;
    atomic_int loops_done;
    int64_t last_id;
};

struct loop_thread {
    struct shared *shared;
    unsigned loop;
    pthread_t thread;
};

// Keeps up to eight exchanges in flight and settles them out of order.
static void *run_loop(void *arg)
{
    struct loop_thread *thread = arg;
    struct ch_usage_journal *journal = thread->shared->journal;
    int64_t ids[8] = {0}, id = 0;
    uint32_t slots[8];
    for (unsigned turn = 0; id < thread->shared->last_id || turn % 8; turn++) {
        unsigned at = turn * 5 % 8;
        if (ids[at])
            settle(journal, thread->loop, slots[at], ids[at]);
        ids[at] = 0;
        if (id < thread->shared->last_id && !claim(journal, thread->loop, id + 1, &slots[at]))
            ids[at] = ++id;
    }
    for (int at = 0; at < 8; at++)
        if (ids[at])
            settle(journal, thread->loop, slots[at], ids[at]);
    atomic_fetch_add(&thread->shared->loops_done, 1);
    return NULL;
}

static void loses_nothing_between_threads(void **state)
{
    (void)state;
    struct shared shared = {.journal = open_journal(LOOPS, 16 << 10, SLOTS), .last_id = IDS};
    struct loop_thread threads[LOOPS];
    static unsigned char seen[LOOPS][IDS + 1];
    memset(seen, 0, sizeof seen);
    for (unsigned i = 0; i < LOOPS; i++) {
        threads[i] = (struct loop_thread){.shared = &shared, .loop = i};
        assert_int_equal(pthread_create(&threads[i].thread, NULL, run_loop, &threads[i]), 0);
    }
    bool is_over = false;
    while (!is_over) {
        is_over = atomic_load(&shared.loops_done) == LOOPS; // then this turn sees all that is left
        for (unsigned loop = 0; loop < LOOPS; loop++) {
            struct ch_usage_record record;
            while (!ch_usage_journal_peek(shared.journal, loop, &record)) {
                assert_true(fixture_is_whole(&record));
                seen[loop][record.id]++;
            }
            ch_usage_journal_advance(shared.journal, loop);
        }
        assert_in_range(ch_usage_journal_inflight(shared.journal), 0, LOOPS * 8);
        assert_true(ch_usage_journal_backlog(shared.journal) >= 0);
    }
    for (unsigned i = 0; i < LOOPS; i++)
        pthread_join(threads[i].thread, NULL);
    for (unsigned loop = 0; loop < LOOPS; loop++)
        for (int64_t id = 1; id <= IDS; id++)
            assert_int_equal(seen[loop][id], 1);
    assert_int_equal(ch_usage_journal_inflight(shared.journal), 0);
    ch_usage_journal_close(shared.journal);
}

// ---- killed at every instruction

enum { STEP_CLAIMING, STEP_CLAIMED, STEP_SETTLED, STEP_DONE };

// Record 1 is there; 2 is claimed, settled, and another follows. It stops itself between the steps.
static void run_stepped(void)
{
    uint32_t slot;
    struct ch_usage_journal *journal = open_journal(1, 16 << 10, 4);
    prctl(PR_SET_DUMPABLE, 1); // or nobody may trace it
    if (append(journal, 0, 1) || ptrace(PTRACE_TRACEME, 0, NULL, NULL))
        _exit(1);
    raise(SIGSTOP);
    if (claim(journal, 0, 2, &slot))
        _exit(1);
    raise(SIGSTOP);
    settle(journal, 0, slot, 2);
    raise(SIGSTOP);
    _exit(append(journal, 0, 3) ? 1 : 0);
}

// Replays a copy of the file as it is at this instant, which is what a kill would leave.
static void judge_instant(int step, const char *bytes, size_t size)
{
    struct given given;
    int fd = open(fixture_path("truth"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
    struct ch_usage_journal *journal = NULL;
    assert_int_equal(ch_usage_journal_open(fixture_path("truth"), 1, 16 << 10, 4, &journal, &why),
                     CH_OK);
    replay(journal, &given);
    ch_usage_journal_close(journal);
    assert_int_equal(given.records[1], 1);
    assert_int_equal(given.crash[1], 0);
    if (step == STEP_CLAIMING)
        assert_true(given.records[2] == 0 && given.crash[2] <= 1);
    else if (step == STEP_CLAIMED)
        assert_int_equal(given.records[2] + given.crash[2], 1); // one of the two, at any instant
    else
        assert_true(given.records[2] == 1 && given.crash[2] == 0);
}

// One instruction of the child, of which a stop of its own making is the end of a step.
static bool is_step_over(pid_t child, int *status_out)
{
    assert_int_equal(waitpid(child, status_out, 0), child);
    return WIFEXITED(*status_out) || (WIFSTOPPED(*status_out) && WSTOPSIG(*status_out) == SIGSTOP);
}

static void loses_nothing_at_any_instruction(void **state)
{
    (void)state;
    int status, step = STEP_CLAIMING;
    int64_t instants = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        run_stepped();
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    if (!WIFSTOPPED(status) || ptrace(PTRACE_SINGLESTEP, child, NULL, NULL)) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        skip(); // no tracing here, as in a container without it
    }
    struct stat info;
    int fd = open(fixture_path("journal"), O_RDONLY);
    assert_int_equal(fstat(fd, &info), 0);
    size_t size = (size_t)info.st_size;
    const char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    char *seen = calloc(1, size);
    assert_true(map != MAP_FAILED && seen);
    while (step < STEP_DONE) {
        if (is_step_over(child, &status))
            step++;
        if (memcmp(seen, map, size) != 0) {
            memcpy(seen, map, size);
            judge_instant(step, seen, size);
            instants++;
        }
        if (!WIFEXITED(status))
            assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(instants > 50); // every store of the three calls was seen
    free(seen);
    munmap((void *)(uintptr_t)map, size);
    close(fd);
}

// ---- kill -9

// What really happened, in memory that outlives the child. Each id is written by one loop only.
struct truth {
    atomic_bool started;
    atomic_uchar claiming[IDS + 1];  // set before the claim
    atomic_uchar claimed[IDS + 1];   // set after it
    atomic_uchar settled[IDS + 1];   // set after the settlement
    atomic_uchar committed[IDS + 1]; // set by the writer before it advances
};

struct victim {
    struct truth *truth;
    struct ch_usage_journal *journal;
    unsigned loop;
};

static void *run_victim_loop(void *arg)
{
    struct victim *victim = arg;
    uint32_t slots[4] = {0};
    int64_t ids[4] = {0};
    for (int64_t id = victim->loop + 1, turn = 0; id <= IDS; turn++) {
        int64_t *held = &ids[turn % 4];
        if (*held) {
            settle(victim->journal, victim->loop, slots[turn % 4], *held);
            atomic_store(&victim->truth->settled[*held], 1);
            *held = 0;
        }
        atomic_store(&victim->truth->claiming[id], 1);
        if (claim(victim->journal, victim->loop, id, &slots[turn % 4]))
            continue;
        atomic_store(&victim->truth->claimed[id], 1);
        *held = id;
        id += LOOPS;
    }
    return NULL; // the last four stay in flight
}

// Never returns: it is killed.
static void run_victim(struct truth *truth)
{
    struct victim victims[LOOPS];
    struct ch_usage_journal *journal = open_journal(LOOPS, 16 << 10, SLOTS);
    struct given ignored = {0};
    int64_t replayed;
    if (ch_usage_journal_replay(journal, take, &ignored, &replayed))
        _exit(1);
    for (unsigned i = 0; i < LOOPS; i++) {
        pthread_t thread;
        victims[i] = (struct victim){truth, journal, i};
        if (pthread_create(&thread, NULL, run_victim_loop, &victims[i]))
            _exit(1);
    }
    atomic_store(&truth->started, true);
    for (;;)
        for (unsigned loop = 0; loop < LOOPS; loop++) {
            struct ch_usage_record record;
            while (!ch_usage_journal_peek(journal, loop, &record))
                atomic_store(&truth->committed[record.id], 1);
            ch_usage_journal_advance(journal, loop);
        }
}

static void judge(const struct truth *truth, const struct given *given)
{
    for (int64_t id = 1; id <= IDS; id++) {
        bool has_record = given->records[id] || truth->committed[id];
        assert_true(given->records[id] <= 1 && given->crash[id] <= 1); // nothing doubled
        assert_false(given->crash[id] && has_record);
        if (truth->settled[id])
            assert_true(has_record); // nothing settled is lost
        if (truth->claimed[id])
            assert_true(has_record || given->crash[id]); // nothing in flight is forgotten
        if (has_record || given->crash[id])
            assert_true(truth->claiming[id]); // nothing made up
    }
}

static void loses_nothing_to_kill_9(void **state)
{
    (void)state;
    enum { ROUNDS = 60 };
    int64_t records = 0, crashes = 0;
    size_t size = sizeof(struct truth);
    struct truth *truth =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(truth != MAP_FAILED);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t delay_us;
        memset(truth, 0, size);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            run_victim(truth);
        for (int i = 0; i < 10000 && !atomic_load(&truth->started); i++)
            usleep(1000);
        ch_random(&delay_us, sizeof delay_us);
        usleep(delay_us % 3000);
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status)); // it did not end by itself

        struct given given;
        struct ch_usage_journal *journal = open_journal(LOOPS, 16 << 10, SLOTS);
        replay(journal, &given);
        judge(truth, &given);
        assert_int_equal(ch_usage_journal_refused(journal), 0);
        records += given.count - given.crashes;
        crashes += given.crashes;
        ch_usage_journal_close(journal);
    }
    assert_true(records > 0 && crashes > 0); // the kills did hit the work
    munmap(truth, size);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_make_dir, fixture_remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(gives_what_was_appended_in_order),
        TEST(peeks_on_and_rewinds),
        TEST(refuses_claims_when_slots_are_out),
        TEST(settles_every_claim_however_full_the_ring),
        TEST(replays_what_was_left),
        TEST(takes_a_new_geometry_after_the_replay),
        TEST(refuses_a_second_opener_and_foreign_files),
        TEST(a_torn_record_costs_itself_only),
        TEST(records_past_an_old_head_are_found),
        TEST(finds_damaged_positions_again),
        TEST(refuses_a_damaged_slot),
        TEST(a_slot_behind_a_committed_record_is_no_crash),
        TEST(loses_nothing_between_threads),
        TEST(loses_nothing_at_any_instruction),
        TEST(loses_nothing_to_kill_9),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
