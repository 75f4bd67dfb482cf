// SPDX-License-Identifier: Apache-2.0
// The journal's file: its layout on disk, how it is made, mapped and proved. Used by
// usage_journal.c only.
//
//   header (one page) | a control block per loop | slots per loop | a ring per loop
//
// Positions in a ring count bytes since the file was made and never start over; the place in the
// ring is the position modulo its size. A frame carries its position under its checksum, so that
// bytes of an earlier lap are never taken for a record. A frame does not cross the ring's end:
// where fewer than CH_RECORD_MAX bytes are left, both sides go on at the front.
#ifndef CH_STORE_JOURNAL_FILE_H
#define CH_STORE_JOURNAL_FILE_H

#include "base/err.h"
#include "base/str.h"
#include "store/usage_journal.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

struct ch_journal_geometry {
    uint32_t loops;
    uint32_t slots;      // a loop
    uint64_t ring_bytes; // a loop; whole pages
};

#define CH_JOURNAL_KEY 16 // bytes: crypto_shorthash_KEYBYTES

// Two cache lines: the loop writes one, the writer thread the other.
struct ch_journal_control {
    alignas(64) _Atomic uint64_t head; // position behind the last record; the loop's
    alignas(64) _Atomic uint64_t tail; // position before which all is in SQLite; the writer's
};

struct ch_journal_frame {
    uint64_t checksum; // under the file's key, of everything behind it
    uint64_t position;
    uint64_t size;          // bytes of `record`
    unsigned char record[]; // as usage_record.h encodes it
};

#define CH_JOURNAL_SLOT_TEXTS (2 * CH_RECORD_MODEL)

// An exchange in flight. `id` is written last at a claim and cleared first at a release: 0 is a
// free slot.
struct ch_journal_slot {
    alignas(64) _Atomic int64_t id;
    _Atomic uint64_t
        settled_at;    // 1 + position of its record, set before the head moves; 0: none yet
    uint64_t checksum; // likewise
    uint64_t index;    // of the slot, over all loops
    int64_t exchange_id;
    int64_t started_at_ms, key_id, attribution_id, provider_id, request_bytes;
    int64_t reserved_nano_usd; // 0: nothing
    uint8_t dialect, endpoint, is_stream;
    uint8_t asked_size, sent_size;
    uint8_t unused[3];
    unsigned char texts[CH_JOURNAL_SLOT_TEXTS];
};

struct ch_journal_file {
    int fd;
    char *map; // NULL: nothing is laid out yet
    size_t size;
    struct ch_journal_geometry geometry;
    unsigned char key[CH_JOURNAL_KEY];
};

// Opens or creates the file and takes its lock. Maps it when it holds a journal, of whatever
// geometry. CH_ERR_CONFLICT: another process has it; CH_ERR_CORRUPT: it is no journal.
enum ch_err ch_journal_file_open(const char *path, struct ch_journal_file *file_out,
                                 struct ch_why *why) CH_MUST_USE;
// Throws away what the file holds, lays it out and maps it. Every byte is allocated on disk.
enum ch_err ch_journal_file_lay_out(struct ch_journal_file *file,
                                    const struct ch_journal_geometry *geometry,
                                    struct ch_why *why) CH_MUST_USE;
// Takes the file's pages out of the process's memory, which keeps what they hold; the replay has
// touched all.
void ch_journal_file_forget_pages(const struct ch_journal_file *file);
// Brings to disk what it holds and, in case it is new, its name. On CH_ERR_IO errno says why.
enum ch_err ch_journal_file_sync(const struct ch_journal_file *file, const char *path) CH_MUST_USE;
void ch_journal_file_close(struct ch_journal_file *file);

struct ch_journal_control *ch_journal_file_control(const struct ch_journal_file *file,
                                                   unsigned loop);
struct ch_journal_slot *ch_journal_file_slots(const struct ch_journal_file *file, unsigned loop);
char *ch_journal_file_ring(const struct ch_journal_file *file, unsigned loop);

#endif
