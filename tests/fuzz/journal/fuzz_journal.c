// SPDX-License-Identifier: Apache-2.0
// Opens and replays a journal file that was damaged anywhere, and goes on working with it.
//
// The input is a list of edits, five bytes each: a little-endian offset into a sound journal
// (modulo its size) and a byte to XOR there. An input that begins with 'R' is instead decoded as
// the bytes of a record, which in the file only a matching checksum lets through.
#include "base/secret.h"
#include "store/usage_journal.h"
#include "store/usage_record.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOPS 2
#define RING  (16u << 10)
#define SLOTS 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned char *sound; // a journal with records and exchanges in flight
static size_t sound_size;

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void read_span(struct ch_span text, unsigned *sum)
{
    for (size_t i = 0; i < text.len; i++)
        *sum += (unsigned char)text.ptr[i];
}

static enum ch_err read_record(void *arg, const struct ch_usage_record *record)
{
    if (!record)
        return CH_OK;
    must(record->id > 0 && record->grade <= CH_GRADE_NONE && record->end_reason <= CH_END_CRASH);
    read_span(record->model_asked, arg);
    read_span(record->model_sent, arg);
    read_span(record->model_served, arg);
    read_span(record->upstream_id, arg);
    read_span(record->user_agent, arg);
    read_span(record->client_address, arg);
    read_span(record->rule, arg);
    read_span(record->catalogue, arg);
    return CH_OK;
}

static void work(struct ch_usage_journal *journal, int64_t id)
{
    struct ch_usage_record record = {.id = id,
                                     .model_asked = CH_SPAN("gpt-4o-mini"),
                                     .model_sent = CH_SPAN("gpt-4o-mini"),
                                     .user_agent = CH_SPAN("OpenAI/Python 1.99.1")};
    struct ch_inflight inflight = {.id = id, .model_asked = record.model_asked};
    for (unsigned loop = 0; loop < LOOPS; loop++) {
        uint32_t slot;
        must(!ch_usage_journal_claim(journal, loop, &inflight, &slot));
        ch_usage_journal_settle(journal, loop, slot, &record);
        must(!ch_usage_journal_append(journal, loop, &record));
        inflight.id = id + 1;
        must(!ch_usage_journal_claim(journal, loop, &inflight, &slot)); // stays in flight
        inflight.id = id;
    }
}

static struct ch_usage_journal *open_fd(int fd)
{
    char path[64];
    struct ch_usage_journal *journal = NULL;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (ch_usage_journal_open(path, LOOPS, RING, SLOTS, &journal, NULL))
        return NULL;
    return journal;
}

static void make_sound(void)
{
    struct stat info;
    int fd = memfd_create("sound", 0);
    must(fd >= 0 && !ch_secret_process_init(NULL));
    struct ch_usage_journal *journal = open_fd(fd);
    must(journal != NULL);
    work(journal, 1);
    ch_usage_journal_close(journal);
    must(fstat(fd, &info) == 0);
    sound_size = (size_t)info.st_size;
    sound = malloc(sound_size);
    must(sound && pread(fd, sound, sound_size, 0) == info.st_size);
    close(fd);
}

static void run_edits(const uint8_t *data, size_t size)
{
    int fd = memfd_create("journal", 0);
    must(fd >= 0 && pwrite(fd, sound, sound_size, 0) == (ssize_t)sound_size);
    for (; size >= 5; data += 5, size -= 5) {
        uint32_t at = data[0] | data[1] << 8 | data[2] << 16 | (uint32_t)data[3] << 24;
        unsigned char byte = sound[at % sound_size] ^ data[4];
        must(pwrite(fd, &byte, 1, at % sound_size) == 1);
    }
    for (int round = 0; round < 2; round++) {
        unsigned sum = 0;
        int64_t replayed;
        struct ch_usage_journal *journal = open_fd(fd);
        if (journal && !ch_usage_journal_replay(journal, read_record, &sum, &replayed))
            work(journal, 100);
        ch_usage_journal_close(journal);
    }
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ch_usage_record record;
    unsigned sum = 0;
    if (!sound)
        make_sound();
    if (size && data[0] == 'R') {
        if (!ch_usage_record_decode((struct ch_span){(const char *)data + 1, size - 1}, &record))
            must(!read_record(&sum, &record));
    } else {
        run_edits(data, size);
    }
    return 0;
}
