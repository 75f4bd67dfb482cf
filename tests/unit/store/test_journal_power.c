// SPDX-License-Identifier: Apache-2.0
// What a cut of power may leave of the journal, image by image.
//
// The file is looked at after every step of the work. Whatever was there when the last reported
// sync began is on disk; of what came later each page, each sector of 512 bytes and each line of 64
// may be there in any of its versions, independently of the others: dropped, torn, in another
// order.
#include "record_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

enum {
    RING = 16 << 10,
    SLOTS = 24, // 384 bytes each: they lie across pages
    IDS = 4000,
    VERSIONS = 48, // seen since the last sync at most
    STEPS = 2500,
    IMAGES = 4, // of each step
    IN_FLIGHT = 12,
};

static struct ch_why why;

// What has really happened.
struct truth {
    bool claimed[IDS], claim_is_synced[IDS];
    bool settled[IDS], settlement_is_synced[IDS];
    bool committed[IDS]; // to SQLite
};

// A sync in two halves, so that the work goes on between them.
struct gate {
    sem_t begun, may_end, told;
    int error;
};

static int sync_gate(void *arg)
{
    struct gate *gate = arg;
    sem_post(&gate->begun);
    sem_wait(&gate->may_end);
    return gate->error;
}

static enum ch_err hear(void *arg)
{
    struct gate *gate = arg;
    sem_post(&gate->told);
    return CH_OK;
}

struct world {
    struct ch_usage_journal *journal;
    struct gate gate;
    bool is_syncing;
    struct truth now, at_begin; // the latter: when the sync under way began
    const unsigned char *file;
    size_t size;
    unsigned char *versions[VERSIONS]; // [0]: what is surely on disk
    unsigned count, begun_at;          // the version that the sync under way began with
    int64_t ids[IN_FLIGHT];
    uint32_t slots[IN_FLIGHT];
    int64_t next_id;
    uint32_t seed;
    int64_t images, refused, crashes, records;
};

static uint32_t pick(struct world *world, uint32_t below)
{
    world->seed = world->seed * 1664525 + 1013904223;
    return (world->seed >> 8) % below;
}

// ---- the work

static void look(struct world *world)
{
    unsigned last = world->count - 1;
    if (world->count && memcmp(world->versions[last], world->file, world->size) == 0)
        return;
    assert_true(world->count < VERSIONS);
    memcpy(world->versions[world->count++], world->file, world->size);
}

// The thread takes up a wish at once, and stands in the gate.
static void begin_sync(struct world *world)
{
    if (world->is_syncing)
        return;
    assert_int_equal(sem_wait(&world->gate.begun), 0);
    world->is_syncing = true;
    world->at_begin = world->now;
    world->begun_at = world->count - 1;
}

static void mark_synced(struct world *world)
{
    for (int id = 0; id < IDS; id++) {
        world->now.claim_is_synced[id] |= world->at_begin.claimed[id];
        world->now.settlement_is_synced[id] |= world->at_begin.settled[id];
    }
}

static void forget_versions_before(struct world *world, unsigned first)
{
    for (unsigned i = 0; i + first < world->count; i++) {
        unsigned char *older = world->versions[i];
        world->versions[i] = world->versions[i + first];
        world->versions[i + first] = older;
    }
    world->count -= first;
}

// The sync ends; wishes made meanwhile have the next one begin at once.
static void end_sync(struct world *world)
{
    if (!world->is_syncing)
        return;
    uint64_t wished = ch_usage_journal_ticket(world->journal, 0);
    sem_post(&world->gate.may_end);
    assert_int_equal(sem_wait(&world->gate.told), 0);
    world->is_syncing = false;
    forget_versions_before(world, world->begun_at);
    mark_synced(world);
    uint64_t done = ch_usage_journal_synced(world->journal, 0);
    look(world);
    if (wished > done)
        begin_sync(world);
}

static void claim_one(struct world *world, unsigned at)
{
    struct fixture_texts texts;
    if (world->next_id == IDS)
        return;
    struct ch_usage_record record = fixture_record(world->next_id, &texts);
    struct ch_inflight inflight = fixture_inflight(&record);
    if (ch_usage_journal_claim(world->journal, 0, &inflight, &world->slots[at]))
        return;
    world->now.claimed[world->next_id] = true;
    world->ids[at] = world->next_id++;
    look(world);
    begin_sync(world);
}

static void settle_one(struct world *world, unsigned at)
{
    struct fixture_texts texts;
    struct ch_usage_record record = fixture_record(world->ids[at], &texts);
    ch_usage_journal_settle(world->journal, 0, world->slots[at], &record);
    world->now.settled[world->ids[at]] = true;
    world->ids[at] = 0;
    look(world);
    begin_sync(world);
}

static void commit_some(struct world *world)
{
    struct ch_usage_record record;
    for (uint32_t left = pick(world, 8) + 1; left; left--) {
        if (ch_usage_journal_peek(world->journal, 0, &record))
            break;
        world->now.committed[record.id] = true;
    }
    ch_usage_journal_advance(world->journal, 0);
    look(world);
}

static void step(struct world *world)
{
    unsigned at = pick(world, IN_FLIGHT);
    uint32_t what = pick(world, 10);
    if (world->count > VERSIONS - 4)
        end_sync(world);
    if (what < 6 && world->ids[at])
        settle_one(world, at);
    else if (what < 6)
        claim_one(world, at);
    else if (what < 7)
        commit_some(world);
    else
        end_sync(world);
}

// ---- the images

static void mix(struct world *world, unsigned char *image, size_t grain)
{
    for (size_t at = 0; at < world->size; at += grain)
        memcpy(image + at, world->versions[pick(world, world->count)] + at, grain);
}

static void make_image(struct world *world, unsigned char *image)
{
    static const size_t grains[] = {4096, 512, 64};
    mix(world, image, grains[world->images % 3]);
    int fd = open(fixture_path("truth"), O_RDWR | O_CREAT, 0600);
    assert_int_equal(pwrite(fd, image, world->size, 0), world->size);
    close(fd);
}

struct given {
    unsigned char records[IDS], crashes[IDS];
};

static enum ch_err take(void *arg, const struct ch_usage_record *record)
{
    struct given *given = arg;
    if (!record)
        return CH_OK;
    assert_in_range(record->id, 1, IDS - 1);
    if (record->end_reason == CH_END_CRASH) {
        struct fixture_texts texts;
        struct ch_usage_record whole = fixture_record(record->id, &texts);
        assert_int_equal(record->started_at_ms, whole.started_at_ms);
        assert_int_equal(record->request_bytes, whole.request_bytes);
        assert_true(ch_span_eq(record->model_sent, whole.model_sent));
        given->crashes[record->id]++;
    } else {
        assert_true(fixture_is_whole(record));
        given->records[record->id]++;
    }
    return CH_OK;
}

// What SQLite has already, a repetition does not change.
static void judge(const struct world *world, const struct given *given)
{
    const struct truth *truth = &world->now;
    for (int id = 1; id < IDS; id++) {
        bool has_record = truth->committed[id] || given->records[id];
        assert_true(given->records[id] + given->crashes[id] <= 1); // nothing doubled
        if (given->records[id])
            assert_true(truth->settled[id]); // nothing made up
        if (given->crashes[id])
            assert_true(truth->claimed[id]);
        if (truth->claim_is_synced[id])
            assert_true(has_record || given->crashes[id]); // what went upstream left a trace
        if (truth->settlement_is_synced[id])
            assert_true(has_record); // what was answered is there, exactly
    }
}

static void replay_image(struct world *world, unsigned char *image)
{
    static struct given given;
    struct ch_usage_journal *journal = NULL;
    int64_t replayed;
    memset(&given, 0, sizeof given);
    make_image(world, image);
    enum ch_err err = ch_usage_journal_open(fixture_path("truth"), 1, RING, SLOTS, &journal, &why);
    if (err)
        fail_msg("open: %s: %s", ch_err_name(err), why.text);
    assert_int_equal(ch_usage_journal_replay(journal, take, &given, &replayed), CH_OK);
    world->refused += ch_usage_journal_refused(journal) > 0;
    ch_usage_journal_close(journal);
    judge(world, &given);
    world->images++;
    for (int id = 1; id < IDS; id++) {
        world->records += given.records[id];
        world->crashes += given.crashes[id];
    }
}

// ---- the tests

static void open_world(struct world *world, uint32_t seed)
{
    struct stat info;
    memset(world, 0, sizeof *world);
    world->seed = seed;
    world->next_id = 1;
    sem_init(&world->gate.begun, 0, 0);
    sem_init(&world->gate.may_end, 0, 0);
    sem_init(&world->gate.told, 0, 0);
    enum ch_err err =
        ch_usage_journal_open(fixture_path("journal"), 1, RING, SLOTS, &world->journal, &why);
    if (!err)
        err = ch_usage_journal_make_durable(world->journal, sync_gate, &world->gate, &why);
    if (err)
        fail_msg("open: %s: %s", ch_err_name(err), why.text);
    ch_usage_journal_listen(world->journal, 0, hear, &world->gate);
    int fd = open(fixture_path("journal"), O_RDONLY);
    assert_int_equal(fstat(fd, &info), 0);
    world->size = (size_t)info.st_size;
    world->file = mmap(NULL, world->size, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(world->file != MAP_FAILED);
    close(fd);
    for (unsigned i = 0; i < VERSIONS; i++)
        assert_non_null(world->versions[i] = malloc(world->size));
    look(world);
}

static void close_world(struct world *world)
{
    sem_post(&world->gate.may_end); // of the last sync, and of one that follows it
    sem_post(&world->gate.may_end);
    ch_usage_journal_close(world->journal);
    munmap((void *)(uintptr_t)world->file, world->size);
    for (unsigned i = 0; i < VERSIONS; i++)
        free(world->versions[i]);
}

static void every_image_of_a_cut_is_sound(void **state)
{
    static struct world world;
    (void)state;
    open_world(&world, 20261);
    unsigned char *image = malloc(world.size);
    assert_non_null(image);
    for (int i = 0; i < STEPS; i++) {
        step(&world);
        for (int n = 0; n < IMAGES; n++)
            replay_image(&world, image);
    }
    assert_true(world.next_id > 300 && world.images == (int64_t)STEPS * IMAGES);
    assert_true(world.records > 1000 && world.crashes > 1000 && world.refused > 100);
    free(image);
    close_world(&world);
}

// A slot is free again only when the record that settled it is on disk.
static void a_settled_slot_is_kept_until_its_record_is_on_disk(void **state)
{
    static struct world world;
    (void)state;
    open_world(&world, 1);
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        claim_one(&world, i);
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        settle_one(&world, i);
    assert_int_equal(ch_usage_journal_inflight(world.journal), 0);
    while (ch_usage_journal_backlog(world.journal))
        commit_some(&world); // so that the ring is not what is full
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        claim_one(&world, i);
    uint32_t slot;
    struct ch_inflight inflight = {.id = IDS};
    assert_int_equal(ch_usage_journal_claim(world.journal, 0, &inflight, &slot),
                     CH_ERR_UNAVAILABLE);
    end_sync(&world); // that began with the first claim
    assert_int_equal(ch_usage_journal_claim(world.journal, 0, &inflight, &slot),
                     CH_ERR_UNAVAILABLE);
    end_sync(&world);
    assert_int_equal(ch_usage_journal_claim(world.journal, 0, &inflight, &slot), CH_OK);
    close_world(&world);
}

static void claims_nothing_after_a_failed_sync(void **state)
{
    static struct world world;
    (void)state;
    open_world(&world, 1);
    world.gate.error = EIO;
    claim_one(&world, 0);
    uint64_t ticket = ch_usage_journal_ticket(world.journal, 0);
    assert_false(ch_usage_journal_has_failed(world.journal));
    sem_post(&world.gate.may_end);
    assert_int_equal(sem_wait(&world.gate.told), 0);
    assert_true(ch_usage_journal_has_failed(world.journal));
    assert_true(ch_usage_journal_synced(world.journal, 0) < ticket);
    uint32_t slot;
    struct ch_inflight inflight = {.id = IDS};
    assert_int_equal(ch_usage_journal_claim(world.journal, 0, &inflight, &slot),
                     CH_ERR_UNAVAILABLE);
    struct fixture_texts texts; // what is in flight still finds its place, for the writer
    struct ch_usage_record record = fixture_record(world.ids[0], &texts);
    ch_usage_journal_settle(world.journal, 0, world.slots[0], &record);
    assert_int_equal(ch_usage_journal_ticket(world.journal, 0), 0);
    assert_int_equal(ch_usage_journal_peek(world.journal, 0, &record), CH_OK);
    assert_true(fixture_is_whole(&record));
    close_world(&world);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_make_dir, fixture_remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(every_image_of_a_cut_is_sound),
        TEST(a_settled_slot_is_kept_until_its_record_is_on_disk),
        TEST(claims_nothing_after_a_failed_sync),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
