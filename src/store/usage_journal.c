// SPDX-License-Identifier: Apache-2.0
#include "store/usage_journal.h"

#include "journal_file.h"
#include "store/usage_record.h"

#include "base/secret.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#define ALIGNMENT    8                   // bytes: where a frame may begin
#define POSITION_MAX (UINT64_C(1) << 62) // bytes; centuries of writing at memory speed
#define FRAME_BYTES  sizeof(struct ch_journal_frame)
#define FRAME_MAX    (FRAME_BYTES + (CH_RECORD_ENCODED_MAX + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)
static_assert(FRAME_MAX <= CH_RECORD_MAX, "what a claim reserves holds any record");

// A slot whose record is on its way to disk.
struct settled {
    uint32_t slot;
    uint64_t ticket;
};

struct loop_state {
    // The loop's own; `inflight` is read by others.
    alignas(64) struct ch_journal_control *control;
    struct ch_journal_slot *slots;
    char *ring;
    uint64_t head;
    uint64_t tail_seen; // the tail when last looked at: looking costs a cache line of the writer's
    _Atomic uint32_t inflight;
    uint32_t fresh; // slots from here on were never used; so the file is touched as far as needed
    uint32_t free_count;
    uint32_t *free_slots; // a stack, so that the slots in use stay few and warm
    // With durability only: a queue of the settled slots, a place for each there is.
    struct settled *settled;
    uint32_t settled_first, settled_count;
    uint64_t ticket;
    // The writer's own.
    alignas(64) uint64_t peeked;
};

struct ch_usage_journal {
    char path[PATH_MAX];
    struct ch_journal_file file;
    struct ch_journal_geometry wanted; // the file's own may differ until the replay
    bool is_ready;                     // no replay is due
    int64_t refused;
    struct loop_state *loops;
    struct ch_journal_sync *sync; // NULL: nothing waits for the disk
};

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

// Finds what a crash or a disk has damaged, and what an earlier layout of the file left behind; the
// file is as private as the database, so no forger has to be kept out. Sixteen bytes a step by one
// wide multiplication: a loop does this twice an exchange, where SipHash took eight times as long.
static uint64_t checksum_of(const struct ch_journal_file *file, const void *bytes, size_t size)
{
    uint64_t key[2], word[2], sum = size;
    const unsigned char *at = bytes;
    static_assert(sizeof key == CH_JOURNAL_KEY, "the whole key");
    memcpy(key, file->key, sizeof key);
    for (; size >= sizeof word; at += sizeof word, size -= sizeof word) {
        memcpy(word, at, sizeof word);
        sum = fold(word[0] ^ key[0] ^ sum, word[1] ^ key[1]);
    }
    memset(word, 0, sizeof word);
    memcpy(word, at, size);
    sum = fold(word[0] ^ key[0] ^ sum, word[1] ^ key[1]);
    return fold(sum ^ key[1], key[0] | 1);
}

// Where the frame at or behind `position` begins.
static uint64_t skip_end(const struct ch_journal_file *file, uint64_t position)
{
    uint64_t left = file->geometry.ring_bytes - position % file->geometry.ring_bytes;
    return left < CH_RECORD_MAX ? position + left : position;
}

static struct ch_journal_frame *frame_at(const struct ch_journal_file *file, char *ring,
                                         uint64_t position)
{
    return (struct ch_journal_frame *)(void *)(ring + position % file->geometry.ring_bytes);
}

static size_t frame_bytes(size_t record_size)
{
    return FRAME_BYTES + (record_size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static uint64_t frame_checksum(const struct ch_journal_file *file,
                               const struct ch_journal_frame *frame)
{
    return checksum_of(file, &frame->position, FRAME_BYTES - sizeof frame->checksum + frame->size);
}

static uint64_t slot_checksum(const struct ch_journal_file *file,
                              const struct ch_journal_slot *slot)
{
    size_t end = offsetof(struct ch_journal_slot, texts) + slot->asked_size + slot->sent_size;
    return checksum_of(file, &slot->index, end - offsetof(struct ch_journal_slot, index));
}

// ---- open and close

static void free_loops(struct ch_usage_journal *journal)
{
    for (unsigned i = 0; journal->loops && i < journal->wanted.loops; i++)
        ch_zfree(journal->loops[i].free_slots);
    for (unsigned i = 0; journal->loops && i < journal->wanted.loops; i++)
        ch_zfree(journal->loops[i].settled);
    free(journal->loops);
    journal->loops = NULL;
    journal->is_ready = false;
}

static enum ch_err start_loops(struct ch_usage_journal *journal)
{
    size_t size = journal->wanted.loops * sizeof *journal->loops;
    journal->loops = aligned_alloc(alignof(struct loop_state), size);
    if (!journal->loops)
        return CH_ERR_NOMEM;
    memset(journal->loops, 0, size);
    for (unsigned i = 0; i < journal->wanted.loops; i++) {
        struct loop_state *loop = &journal->loops[i];
        loop->control = ch_journal_file_control(&journal->file, i);
        loop->slots = ch_journal_file_slots(&journal->file, i);
        loop->ring = ch_journal_file_ring(&journal->file, i);
        loop->head = loop->tail_seen = loop->peeked = atomic_load(&loop->control->head);
        loop->free_slots = ch_zmalloc(journal->wanted.slots * sizeof *loop->free_slots);
        if (!loop->free_slots)
            return CH_ERR_NOMEM;
    }
    journal->is_ready = true;
    return CH_OK;
}

static bool is_wanted_geometry(const struct ch_usage_journal *journal)
{
    const struct ch_journal_geometry *a = &journal->file.geometry, *b = &journal->wanted;
    return a->loops == b->loops && a->slots == b->slots && a->ring_bytes == b->ring_bytes;
}

enum ch_err ch_usage_journal_open(const char *path, unsigned loops, size_t ring_bytes,
                                  unsigned slots, struct ch_usage_journal **journal_out,
                                  struct ch_why *why)
{
    struct ch_usage_journal *journal = ch_zcalloc(1, sizeof *journal);
    if (!journal)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    if (!ch_span_copy(ch_span_of(path), journal->path, sizeof journal->path)) {
        ch_zfree(journal);
        return ch_why_set(why, CH_ERR_INVALID, "the path of the journal is too long");
    }
    journal->wanted = (struct ch_journal_geometry){loops, slots, (ring_bytes + 4095) / 4096 * 4096};
    enum ch_err err = ch_journal_file_open(path, &journal->file, why);
    if (err) {
        ch_zfree(journal);
        return err;
    }
    if (!journal->file.map) {
        err = ch_journal_file_lay_out(&journal->file, &journal->wanted, why);
        if (!err && (err = start_loops(journal)))
            ch_why_set(why, err, "out of memory");
    }
    if (err)
        ch_usage_journal_close(journal);
    else
        *journal_out = journal;
    return err;
}

void ch_usage_journal_close(struct ch_usage_journal *journal)
{
    if (!journal)
        return;
    ch_journal_sync_free(journal->sync);
    free_loops(journal);
    ch_journal_file_close(&journal->file);
    ch_zfree(journal);
}

const char *ch_usage_journal_path(const struct ch_usage_journal *journal)
{
    return journal->path;
}

// ---- the loops' side

static bool has_room(struct loop_state *loop, const struct ch_journal_file *file, uint32_t records)
{
    // One more than the records: the unused bytes before the ring's end, met once a lap at most.
    uint64_t needed = ((uint64_t)records + 1) * CH_RECORD_MAX;
    if (file->geometry.ring_bytes - (loop->head - loop->tail_seen) >= needed)
        return true;
    loop->tail_seen = atomic_load_explicit(&loop->control->tail, memory_order_acquire);
    return file->geometry.ring_bytes - (loop->head - loop->tail_seen) >= needed;
}

static uint32_t inflight_of(const struct loop_state *loop)
{
    return atomic_load_explicit(&loop->inflight, memory_order_relaxed);
}

static void set_inflight(struct loop_state *loop, uint32_t count)
{
    atomic_store_explicit(&loop->inflight, count, memory_order_relaxed);
}

static size_t put_text(unsigned char *at, struct ch_span text)
{
    size_t size = text.len < CH_RECORD_MODEL ? text.len : CH_RECORD_MODEL;
    if (size)
        memcpy(at, text.ptr, size);
    return size;
}

static void fill_slot(struct ch_journal_slot *slot, uint64_t index,
                      const struct ch_inflight *inflight)
{
    atomic_store_explicit(&slot->settled_at, 0, memory_order_relaxed);
    slot->index = index;
    slot->exchange_id = inflight->id;
    slot->started_at_ms = inflight->started_at_ms;
    slot->key_id = inflight->key_id;
    slot->attribution_id = inflight->attribution_id;
    slot->provider_id = inflight->provider_id;
    slot->request_bytes = inflight->request_bytes;
    slot->reserved_nano_usd = inflight->reserved_nano_usd;
    slot->dialect = inflight->dialect;
    slot->endpoint = inflight->endpoint;
    slot->is_stream = inflight->is_stream;
    slot->asked_size = (uint8_t)put_text(slot->texts, inflight->model_asked);
    slot->sent_size = (uint8_t)put_text(slot->texts + slot->asked_size, inflight->model_sent);
}

enum ch_err ch_usage_journal_claim(struct ch_usage_journal *journal, unsigned loop_index,
                                   const struct ch_inflight *inflight, uint32_t *slot_out)
{
    CH_ASSERT(journal->is_ready && inflight->id > 0);
    struct loop_state *loop = &journal->loops[loop_index];
    bool has_slot = loop->free_count || loop->fresh < journal->wanted.slots;
    if (!has_slot || !has_room(loop, &journal->file, inflight_of(loop) + 1) ||
        ch_usage_journal_has_failed(journal))
        return CH_ERR_UNAVAILABLE;
    uint32_t index = loop->free_count ? loop->free_slots[--loop->free_count] : loop->fresh++;
    struct ch_journal_slot *slot = &loop->slots[index];
    fill_slot(slot, (uint64_t)loop_index * journal->wanted.slots + index, inflight);
    slot->checksum = slot_checksum(&journal->file, slot);
    // From here on a crash leaves a row behind.
    atomic_store_explicit(&slot->id, inflight->id, memory_order_release);
    set_inflight(loop, inflight_of(loop) + 1);
    if (journal->sync)
        loop->ticket = ch_journal_sync_wish(journal->sync, loop_index);
    *slot_out = index;
    return CH_OK;
}

// Writes the frame at the head and gives the head behind it; the caller publishes.
static uint64_t write_frame(const struct ch_journal_file *file, struct loop_state *loop,
                            uint64_t position, const struct ch_usage_record *record)
{
    CH_ASSERT(record->id > 0);
    struct ch_journal_frame *frame = frame_at(file, loop->ring, position);
    frame->position = position;
    frame->size = ch_usage_record_encode(record, frame->record);
    frame->checksum = frame_checksum(file, frame);
    return position + frame_bytes(frame->size);
}

static void publish(struct loop_state *loop, uint64_t head)
{
    loop->head = head;
    atomic_store_explicit(&loop->control->head, head, memory_order_release);
}

static void let_go(struct loop_state *loop, uint32_t slot)
{
    atomic_store_explicit(&loop->slots[slot].id, 0, memory_order_release);
    loop->free_slots[loop->free_count++] = slot;
}

static void keep_settled(struct ch_usage_journal *journal, unsigned loop_index, uint32_t slot)
{
    struct loop_state *loop = &journal->loops[loop_index];
    uint32_t last = (loop->settled_first + loop->settled_count++) % journal->wanted.slots;
    loop->ticket = ch_journal_sync_wish(journal->sync, loop_index);
    loop->settled[last] = (struct settled){slot, loop->ticket};
}

void ch_usage_journal_settle(struct ch_usage_journal *journal, unsigned loop_index,
                             uint32_t slot_index, const struct ch_usage_record *record)
{
    struct loop_state *loop = &journal->loops[loop_index];
    struct ch_journal_slot *slot = &loop->slots[slot_index];
    CH_ASSERT(slot_index < loop->fresh &&
              atomic_load_explicit(&slot->id, memory_order_relaxed) == record->id);
    uint64_t position = skip_end(&journal->file, loop->head);
    uint64_t head = write_frame(&journal->file, loop, position, record);
    // In this order: a process killed between any two of these lines leaves the slot, the record or
    // both, and the replay can tell that they belong together.
    atomic_store_explicit(&slot->settled_at, position + 1, memory_order_release);
    publish(loop, head);
    set_inflight(loop, inflight_of(loop) - 1);
    if (journal->sync)
        keep_settled(journal, loop_index, slot_index);
    else
        let_go(loop, slot_index);
}

enum ch_err ch_usage_journal_append(struct ch_usage_journal *journal, unsigned loop_index,
                                    const struct ch_usage_record *record)
{
    CH_ASSERT(journal->is_ready);
    struct loop_state *loop = &journal->loops[loop_index];
    if (!has_room(loop, &journal->file, inflight_of(loop) + 1))
        return CH_ERR_UNAVAILABLE;
    uint64_t position = skip_end(&journal->file, loop->head);
    publish(loop, write_frame(&journal->file, loop, position, record));
    return CH_OK;
}

// ---- the disk

static int sync_file(void *arg)
{
    const struct ch_usage_journal *journal = arg;
    return fdatasync(journal->file.fd) == 0 ? 0 : errno;
}

static enum ch_err make_queues(struct ch_usage_journal *journal)
{
    for (unsigned i = 0; i < journal->wanted.loops; i++) {
        struct loop_state *loop = &journal->loops[i];
        loop->settled = ch_zmalloc(journal->wanted.slots * sizeof *loop->settled);
        if (!loop->settled)
            return CH_ERR_NOMEM;
    }
    return CH_OK;
}

enum ch_err ch_usage_journal_make_durable(struct ch_usage_journal *journal, ch_journal_sync_fn sync,
                                          void *arg, struct ch_why *why)
{
    CH_ASSERT(journal->is_ready && !journal->sync);
    if (ch_journal_file_sync(&journal->file, journal->path) != CH_OK)
        return ch_why_set(why, CH_ERR_IO, "%s cannot be brought to disk: %s", journal->path,
                          strerror(errno));
    enum ch_err err = make_queues(journal);
    if (!err)
        err = ch_journal_sync_start(journal->wanted.loops, sync ? sync : sync_file,
                                    sync ? arg : journal, &journal->sync);
    return err ? ch_why_set(why, err, "the journal's thread could not be started") : CH_OK;
}

void ch_usage_journal_stop_syncing(struct ch_usage_journal *journal)
{
    if (journal->sync)
        ch_journal_sync_stop(journal->sync);
}

bool ch_usage_journal_is_durable(const struct ch_usage_journal *journal)
{
    return journal->sync != NULL;
}

bool ch_usage_journal_has_failed(const struct ch_usage_journal *journal)
{
    return journal->sync && ch_journal_sync_has_failed(journal->sync);
}

void ch_usage_journal_listen(struct ch_usage_journal *journal, unsigned loop,
                             ch_journal_synced_fn fn, void *arg)
{
    ch_journal_sync_listen(journal->sync, loop, fn, arg);
}

uint64_t ch_usage_journal_ticket(const struct ch_usage_journal *journal, unsigned loop)
{
    return journal->loops[loop].ticket;
}

uint64_t ch_usage_journal_synced(struct ch_usage_journal *journal, unsigned loop_index)
{
    struct loop_state *loop = &journal->loops[loop_index];
    uint64_t done = ch_journal_sync_done(journal->sync);
    while (loop->settled_count) {
        const struct settled *first = &loop->settled[loop->settled_first];
        if (first->ticket == 0 || first->ticket > done) // 0: its sync never came
            break;
        let_go(loop, first->slot);
        loop->settled_first = (loop->settled_first + 1) % journal->wanted.slots;
        loop->settled_count--;
    }
    return done;
}

// ---- the writer's side

enum ch_err ch_usage_journal_peek(struct ch_usage_journal *journal, unsigned loop_index,
                                  struct ch_usage_record *record_out)
{
    CH_ASSERT(journal->is_ready);
    struct loop_state *loop = &journal->loops[loop_index];
    uint64_t head = atomic_load_explicit(&loop->control->head, memory_order_acquire);
    if (loop->peeked == head)
        return CH_ERR_AGAIN;
    uint64_t position = skip_end(&journal->file, loop->peeked);
    // Written by this process: what does not decode here is a bug, not damage. The checksum is for
    // the replay.
    const struct ch_journal_frame *frame = frame_at(&journal->file, loop->ring, position);
    struct ch_span bytes = {(const char *)frame->record, frame->size};
    enum ch_err err = ch_usage_record_decode(bytes, record_out);
    CH_ASSERT(!err && bytes.len <= CH_RECORD_ENCODED_MAX);
    loop->peeked = position + frame_bytes(bytes.len);
    return CH_OK;
}

void ch_usage_journal_advance(struct ch_usage_journal *journal, unsigned loop_index)
{
    struct loop_state *loop = &journal->loops[loop_index];
    atomic_store_explicit(&loop->control->tail, loop->peeked, memory_order_release);
}

void ch_usage_journal_rewind(struct ch_usage_journal *journal, unsigned loop_index)
{
    struct loop_state *loop = &journal->loops[loop_index];
    loop->peeked = atomic_load_explicit(&loop->control->tail, memory_order_relaxed);
}

unsigned ch_usage_journal_loops(const struct ch_usage_journal *journal)
{
    return journal->wanted.loops;
}

int64_t ch_usage_journal_backlog(const struct ch_usage_journal *journal)
{
    int64_t bytes = 0;
    for (unsigned i = 0; i < journal->wanted.loops; i++) {
        // The tail first: read the other way round it could be ahead of the head that was seen.
        const struct ch_journal_control *control = journal->loops[i].control;
        uint64_t tail = atomic_load_explicit(&control->tail, memory_order_acquire);
        bytes += (int64_t)(atomic_load_explicit(&control->head, memory_order_acquire) - tail);
    }
    return bytes;
}

int64_t ch_usage_journal_refused(const struct ch_usage_journal *journal)
{
    return journal->refused;
}

int64_t ch_usage_journal_inflight(const struct ch_usage_journal *journal)
{
    int64_t count = 0;
    for (unsigned i = 0; i < journal->wanted.loops; i++)
        count += inflight_of(&journal->loops[i]);
    return count;
}

// ---- the replay

struct replay {
    struct ch_usage_journal *journal;
    enum ch_err (*each)(void *arg, const struct ch_usage_record *record);
    void *arg;
    int64_t given;
    uint64_t tail;      // of the ring at hand: what lies before it is in SQLite
    int64_t *in_flight; // ids of the loop's slots in use, in order
    bool *is_recorded;  // whether the ring has their records
    uint32_t in_flight_count;
};

static enum ch_err give(struct replay *replay, const struct ch_usage_record *record)
{
    replay->given++;
    return replay->each(replay->arg, record);
}

static int compare_ids(const void *a, const void *b)
{
    int64_t first = *(const int64_t *)a, second = *(const int64_t *)b;
    return (first > second) - (first < second);
}

static void free_in_flight(struct replay *replay)
{
    ch_zfree(replay->in_flight);
    ch_zfree(replay->is_recorded);
    replay->in_flight = NULL;
    replay->is_recorded = NULL;
}

// Pages come to the disk in any order, so any of these may have its record in the ring as well.
static enum ch_err list_in_flight(struct replay *replay, unsigned loop)
{
    const struct ch_journal_file *file = &replay->journal->file;
    const struct ch_journal_slot *slots = ch_journal_file_slots(file, loop);
    uint32_t count = 0;
    for (uint32_t i = 0; i < file->geometry.slots; i++)
        count += atomic_load_explicit(&slots[i].id, memory_order_relaxed) != 0;
    replay->in_flight = ch_zmalloc((count + 1) * sizeof *replay->in_flight);
    replay->is_recorded = ch_zcalloc(count + 1, sizeof *replay->is_recorded);
    if (!replay->in_flight || !replay->is_recorded) {
        free_in_flight(replay);
        return CH_ERR_NOMEM;
    }
    replay->in_flight_count = 0;
    for (uint32_t i = 0; i < file->geometry.slots; i++) {
        int64_t id = atomic_load_explicit(&slots[i].id, memory_order_relaxed);
        if (id)
            replay->in_flight[replay->in_flight_count++] = id;
    }
    qsort(replay->in_flight, replay->in_flight_count, sizeof *replay->in_flight, compare_ids);
    return CH_OK;
}

static bool *find_in_flight(const struct replay *replay, int64_t id)
{
    const int64_t *found = bsearch(&id, replay->in_flight, replay->in_flight_count,
                                   sizeof *replay->in_flight, compare_ids);
    return found ? &replay->is_recorded[found - replay->in_flight] : NULL;
}

static bool read_frame(const struct ch_journal_file *file, char *ring, uint64_t position,
                       struct ch_usage_record *record_out, uint64_t *next_out)
{
    const struct ch_journal_frame *frame = frame_at(file, ring, position);
    if (frame->position != position || frame->size > CH_RECORD_ENCODED_MAX ||
        frame->checksum != frame_checksum(file, frame))
        return false;
    struct ch_span bytes = {(const char *)frame->record, frame->size};
    if (ch_usage_record_decode(bytes, record_out))
        return false;
    *next_out = position + frame_bytes(frame->size);
    return true;
}

static bool are_positions_sane(const struct ch_journal_file *file, uint64_t head, uint64_t tail)
{
    return head <= POSITION_MAX && tail <= head && head - tail <= file->geometry.ring_bytes &&
           (head | tail) % ALIGNMENT == 0;
}

// Finds the head again: the end of the record with the highest position in the ring. All that can
// be whole lies within one lap before it, the saved records too, which the replay may repeat.
static void restore_positions(const struct ch_journal_file *file,
                              struct ch_journal_control *control, char *ring)
{
    uint64_t head = 0, ring_bytes = file->geometry.ring_bytes, next;
    struct ch_usage_record record;
    for (uint64_t at = 0; at + CH_RECORD_MAX <= ring_bytes; at += ALIGNMENT) {
        uint64_t position = frame_at(file, ring, at)->position;
        if (position % ring_bytes == at && position <= POSITION_MAX && position >= head &&
            read_frame(file, ring, position, &record, &next))
            head = next;
    }
    atomic_store(&control->tail, head > ring_bytes ? head - ring_bytes : 0);
    atomic_store(&control->head, head);
}

// Gives every whole record from the tail on: up to the head whatever lies between, so that a torn
// record costs itself only, and past the head while records go on, as the head's page may be older
// than theirs after a loss of power.
static enum ch_err replay_ring(struct replay *replay, unsigned loop)
{
    const struct ch_journal_file *file = &replay->journal->file;
    struct ch_journal_control *control = ch_journal_file_control(file, loop);
    char *ring = ch_journal_file_ring(file, loop);
    if (!are_positions_sane(file, atomic_load(&control->head), atomic_load(&control->tail))) {
        restore_positions(file, control, ring);
        replay->journal->refused++;
    }
    uint64_t head = atomic_load(&control->head), tail = atomic_load(&control->tail);
    uint64_t position = skip_end(file, tail), end = tail + file->geometry.ring_bytes;
    bool is_torn = false; // a run of bytes that are no record counts once
    replay->tail = tail;
    while (position < end) {
        struct ch_usage_record record;
        uint64_t next = position + ALIGNMENT;
        if (read_frame(file, ring, position, &record, &next)) {
            enum ch_err err = give(replay, &record);
            if (err)
                return err;
            bool *is_recorded = find_in_flight(replay, record.id);
            if (is_recorded)
                *is_recorded = true;
            is_torn = false;
        } else if (position >= head) {
            break;
        } else {
            replay->journal->refused += !is_torn;
            is_torn = true;
        }
        position = skip_end(file, next);
    }
    if (position > head) // so that nothing is written over records that were found past the head
        atomic_store(&control->head, position);
    return CH_OK;
}

static bool is_in_flight(const struct replay *replay, const struct ch_journal_slot *slot,
                         uint64_t index)
{
    int64_t id = atomic_load(&slot->id);
    uint64_t settled_at = atomic_load(&slot->settled_at);
    if (id <= 0 || id != slot->exchange_id || index != slot->index ||
        slot->asked_size > CH_RECORD_MODEL || slot->sent_size > CH_RECORD_MODEL ||
        slot->checksum != slot_checksum(&replay->journal->file, slot))
        return false;
    // A settlement may leave its slot behind: either its record is still in the ring, or the writer
    // had time to take it out.
    const bool *is_recorded = find_in_flight(replay, id);
    return !*is_recorded && !(settled_at && settled_at <= replay->tail);
}

static enum ch_err replay_slots(struct replay *replay, unsigned loop)
{
    const struct ch_journal_file *file = &replay->journal->file;
    const struct ch_journal_slot *slots = ch_journal_file_slots(file, loop);
    enum ch_err err = CH_OK;
    for (uint32_t i = 0; !err && i < file->geometry.slots; i++) {
        const struct ch_journal_slot *slot = &slots[i];
        if (!is_in_flight(replay, slot, (uint64_t)loop * file->geometry.slots + i))
            continue;
        const char *texts = (const char *)slot->texts;
        struct ch_usage_record record = {
            .id = slot->exchange_id,
            .started_at_ms = slot->started_at_ms,
            .key_id = slot->key_id,
            .attribution_id = slot->attribution_id,
            .provider_id = slot->provider_id,
            .dialect = slot->dialect,
            .endpoint = slot->endpoint,
            .is_stream = slot->is_stream,
            .grade = slot->reserved_nano_usd ? CH_GRADE_ESTIMATED : CH_GRADE_PARTIAL,
            .end_reason = CH_END_CRASH,
            .is_priced = slot->reserved_nano_usd > 0,
            .cost_nano_usd = slot->reserved_nano_usd,
            .usage.stated_cost_nano = -1,
            .first_byte_us = -1,
            .request_bytes = slot->request_bytes,
            .model_asked = {texts, slot->asked_size},
            .model_sent = {texts + slot->asked_size, slot->sent_size},
        };
        err = give(replay, &record);
    }
    return err;
}

// After everything was committed. Each step may be the last one before a crash: the replay is
// idempotent.
static enum ch_err empty(struct ch_usage_journal *journal)
{
    if (!is_wanted_geometry(journal))
        return ch_journal_file_lay_out(&journal->file, &journal->wanted, NULL);
    const struct ch_journal_file *file = &journal->file;
    for (unsigned loop = 0; loop < file->geometry.loops; loop++) {
        struct ch_journal_control *control = ch_journal_file_control(file, loop);
        struct ch_journal_slot *slots = ch_journal_file_slots(file, loop);
        for (uint32_t i = 0; i < file->geometry.slots; i++)
            if (atomic_load_explicit(&slots[i].id, memory_order_relaxed))
                atomic_store(&slots[i].id, 0);
        atomic_store(&control->tail, atomic_load(&control->head));
    }
    ch_journal_file_forget_pages(file);
    return CH_OK;
}

enum ch_err ch_usage_journal_replay(struct ch_usage_journal *journal,
                                    enum ch_err (*each)(void *arg,
                                                        const struct ch_usage_record *record),
                                    void *arg, int64_t *replayed_out)
{
    struct replay replay = {.journal = journal, .each = each, .arg = arg};
    enum ch_err err = CH_OK;
    journal->refused = 0;
    for (unsigned loop = 0; !err && loop < journal->file.geometry.loops; loop++) {
        err = list_in_flight(&replay, loop);
        if (!err)
            err = replay_ring(&replay, loop);
        if (!err)
            err = replay_slots(&replay, loop);
        free_in_flight(&replay);
    }
    if (!err)
        err = each(arg, NULL);
    if (!err)
        err = empty(journal);
    free_loops(journal);
    if (!err)
        err = start_loops(journal);
    if (!err)
        *replayed_out = replay.given;
    return err;
}
