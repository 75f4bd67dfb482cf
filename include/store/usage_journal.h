// SPDX-License-Identifier: Apache-2.0
// The usage journal: the file that is the queue between the loops and the writer (design.md §6).
//
// A preallocated, memory-mapped file (mode 0600) with one single-producer ring per loop and a table
// of slots for exchanges in flight. A loop claims a slot before the first byte goes upstream and,
// at settlement, appends one framed, checksummed record and clears the slot: a process killed
// between the two leaves both, and the exchange id (primary key of the usage row) makes the replay
// idempotent. Claiming also reserves ring room for the record, so settlement cannot fail. No lock,
// no system call on the loop's side.
#ifndef CH_STORE_USAGE_JOURNAL_H
#define CH_STORE_USAGE_JOURNAL_H

#include "base/err.h"
#include "domain/usage.h"
#include "store/journal_sync.h"

#include <stdint.h>

enum ch_grade {
    CH_GRADE_EXACT,     // the provider's own final usage
    CH_GRADE_PARTIAL,   // ended early: what was seen
    CH_GRADE_ESTIMATED, // the provider stated none: counted from bytes and events
    CH_GRADE_NONE,      // nothing was consumed: refused, failed, or a free endpoint
};
const char *ch_grade_name(enum ch_grade grade);

enum ch_end_reason {
    CH_END_DONE,
    CH_END_DENIED, // refused by us before anything went upstream
    CH_END_CLIENT_GONE,
    CH_END_UPSTREAM_CUT,     // closed before its answer was complete
    CH_END_UPSTREAM_REFUSED, // connect, TLS or resolution failed
    CH_END_UPSTREAM_INVALID, // its answer was not HTTP as we accept it
    CH_END_TIMEOUT,
    CH_END_SHUTDOWN,
    CH_END_BUDGET, // a stream that a budget ended (on_exhausted: cut)
    CH_END_CRASH, // written by the replay for a slot left in flight
};
const char *ch_end_reason_name(enum ch_end_reason reason);

#define CH_RECORD_MODEL       128
#define CH_RECORD_AGENT       96
#define CH_RECORD_UPSTREAM_ID 80
#define CH_RECORD_OBJECTS     64 // of which a record keeps as many as it has room for, one at least
#define CH_RECORD_MAX         1024 // bytes of a framed record

// One exchange, complete. Spans are copied by the append; a read gives spans into the ring.
struct ch_usage_record {
    int64_t id;            // exchange id: the row's primary key
    int64_t started_at_ms; // wall clock
    int64_t key_id, attribution_id;
    int64_t provider_id; // 0: none was chosen
    uint8_t dialect;     // enum ch_dialect
    uint8_t endpoint;    // enum ch_endpoint
    uint8_t grade;       // enum ch_grade
    uint8_t end_reason;  // enum ch_end_reason
    bool is_stream;
    bool is_priced;  // false: cost_nano_usd is unknown, not zero
    uint16_t status; // what the client was answered; 0: nothing
    struct ch_usage usage;
    int64_t cost_nano_usd;
    int64_t side_cost_nano_usd; // of it: what other models cost that worked for the exchange
    int64_t latency_us;         // head complete to last byte
    int64_t first_byte_us;      // head complete to first answer byte; -1: none came
    int64_t added_us;           // our own share: total less the time spent waiting for the provider
    int64_t request_bytes, response_bytes; // bodies
    // ≤ CH_RECORD_MODEL each, longer ones are cut
    struct ch_span model_asked, model_sent, model_served;
    struct ch_span upstream_id; // the provider's request or response id
    struct ch_span user_agent;
    struct ch_span client_address; // "" unless configured
    struct ch_span rule;           // for a denial: the error code
    struct ch_span catalogue;      // catalogue version that priced it
    // Stored objects that the answer named, as object_store.h hashes them: eight bytes each, not
    // aligned.
    struct ch_span objects;
};

struct ch_usage_journal;

// What is known of an exchange while it is in flight; becomes a `partial` row after a crash.
struct ch_inflight {
    int64_t id, started_at_ms, key_id, attribution_id, provider_id;
    uint8_t dialect, endpoint;
    bool is_stream;
    int64_t request_bytes;
    int64_t reserved_nano_usd;              // what budgets hold for it; 0: nothing
    struct ch_span model_asked, model_sent; // ≤ CH_RECORD_MODEL
};

// Opens or creates. An existing file of another geometry is read to its end first (replay, below)
// and then laid out anew. `ring_bytes` and `slots` are per loop.
enum ch_err ch_usage_journal_open(const char *path, unsigned loops, size_t ring_bytes,
                                  unsigned slots, struct ch_usage_journal **journal_out,
                                  struct ch_why *why) CH_MUST_USE;
void ch_usage_journal_close(struct ch_usage_journal *journal);
const char *ch_usage_journal_path(const struct ch_usage_journal *journal);

// After open and before the loops start: gives every record left by the last process, then one
// CH_END_CRASH record for each slot in flight that has no record, then empties the journal. That
// record has no usage; it costs what was reserved for it (grade estimated), or is unpriced (grade
// partial) where nothing was. Where a loop's positions are damaged they are found again in its ring, and
// records saved before may come a second time. `each` commits what it was given before it returns
// from the call with record NULL (the end).
enum ch_err ch_usage_journal_replay(struct ch_usage_journal *journal,
                                    enum ch_err (*each)(void *arg,
                                                        const struct ch_usage_record *record),
                                    void *arg, int64_t *replayed_out) CH_MUST_USE;

// `durability: power`, after the replay and before the loops start: a claim and a settlement wish
// to be on disk, and a thread of its own sees to it (store/journal_sync.h).
//
// What a loop stores into the mapping is there before it wishes, and the sync begins after the
// wish. On Linux a shared mapping is the page cache itself: a store marks its page dirty, at the
// latest when the page is taken up for writing, and fdatasync(2) of the file writes every dirty
// page of it and waits, whichever way it became dirty; msync(MS_SYNC) is the same call by another
// name. The file's size never changes and its blocks are allocated, so fdatasync leaves out nothing
// that reading them back needs.
//
// Pages reach the disk in any order, though, and unasked. So a settled slot is kept until its
// record is on disk: a cut of power finds one of the two. The replay tells a slot whose record is
// there.
//
// After a sync that failed nothing is claimed any more; only a restart helps. `sync` NULL:
// fdatasync.
enum ch_err ch_usage_journal_make_durable(struct ch_usage_journal *journal, ch_journal_sync_fn sync,
                                          void *arg, struct ch_why *why) CH_MUST_USE;
// The loops have stopped. What they were told until now still holds.
void ch_usage_journal_stop_syncing(struct ch_usage_journal *journal);
bool ch_usage_journal_is_durable(const struct ch_usage_journal *journal);
// Whether syncing has failed; any thread.
bool ch_usage_journal_has_failed(const struct ch_usage_journal *journal);
// Before the loop's first claim: whom to tell, from another thread, that ch_usage_journal_synced
// may have moved, or that syncing has failed.
void ch_usage_journal_listen(struct ch_usage_journal *journal, unsigned loop,
                             ch_journal_synced_fn fn, void *arg);
// Loop side. The ticket of the loop's last claim or settlement: it is on disk once
// ch_usage_journal_synced gives as much. 0: syncing has failed.
uint64_t ch_usage_journal_ticket(const struct ch_usage_journal *journal, unsigned loop);
// Loop side, at the news: also lets go of the slots whose records are on disk.
uint64_t ch_usage_journal_synced(struct ch_usage_journal *journal, unsigned loop);

// Loop side; `loop` is the caller's own index. CH_ERR_UNAVAILABLE: slots or ring are full, or
// syncing has failed (503).
enum ch_err ch_usage_journal_claim(struct ch_usage_journal *journal, unsigned loop,
                                   const struct ch_inflight *inflight,
                                   uint32_t *slot_out) CH_MUST_USE;
void ch_usage_journal_settle(struct ch_usage_journal *journal, unsigned loop, uint32_t slot,
                             const struct ch_usage_record *record);
// For an exchange that never went upstream (a denial): a record without a slot.
enum ch_err ch_usage_journal_append(struct ch_usage_journal *journal, unsigned loop,
                                    const struct ch_usage_record *record) CH_MUST_USE;

// Writer side, one thread. Peek gives the next record of a loop's ring (CH_ERR_AGAIN: none), valid
// until advance; consecutive peeks go on behind the last one. Advance frees everything peeked so
// far.
enum ch_err ch_usage_journal_peek(struct ch_usage_journal *journal, unsigned loop,
                                  struct ch_usage_record *record_out) CH_MUST_USE;
void ch_usage_journal_advance(struct ch_usage_journal *journal, unsigned loop);
// Forgets the peeks since the last advance: the next one gives the oldest record again (a commit
// failed).
void ch_usage_journal_rewind(struct ch_usage_journal *journal, unsigned loop);
unsigned ch_usage_journal_loops(const struct ch_usage_journal *journal);
// Bytes waiting in all rings; any thread.
int64_t ch_usage_journal_backlog(const struct ch_usage_journal *journal);
// Damage that the replay met: records that it left out, and positions that it had to find again.
int64_t ch_usage_journal_refused(const struct ch_usage_journal *journal);
// Exchanges in flight, all loops; any thread.
int64_t ch_usage_journal_inflight(const struct ch_usage_journal *journal);

#endif
