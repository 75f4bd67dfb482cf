// SPDX-License-Identifier: Apache-2.0
// The writer thread: journal → SQLite in batches, rollups in the same transaction, only then the
// tail moves. It also runs every ch_store_write while it lives.
#ifndef CH_STORE_USAGE_WRITER_H
#define CH_STORE_USAGE_WRITER_H

#include "store/store.h"
#include "store/usage_journal.h"

// Replays what the last process left (ch_usage_journal_replay) into the store; logs how much.
enum ch_err ch_usage_writer_recover(struct ch_store *store, struct ch_usage_journal *journal,
                                    struct ch_why *why) CH_MUST_USE;

// Starts the thread. Rows are committed at most 200 ms after they were appended. A failing commit
// is retried for ever with a pause, logged once a minute, and loses nothing; the journal fills
// meanwhile.
enum ch_err ch_usage_writer_start(struct ch_store *store, struct ch_usage_journal *journal,
                                  struct ch_why *why) CH_MUST_USE;
// Drains the journal, then ends the thread. The loops have stopped, and no other thread is in
// ch_store_write or will be. When the database fails at that moment, the rest stays in the journal
// for the next start.
void ch_usage_writer_stop(struct ch_store *store);
// Returns when everything appended before the call is committed (usage queries call it), or after 2
// s.
void ch_usage_writer_flush(struct ch_store *store);

// How often the thread has begun a round: at least once a second while it lives, unless one
// transaction takes longer. For the watchdog; any thread.
uint64_t ch_usage_writer_turns(const struct ch_store *store);

// The highest exchange id recorded, for ch_id_source_init.
enum ch_err ch_usage_highest_id(struct ch_store *store, int64_t *id_out,
                                struct ch_why *why) CH_MUST_USE;

#endif
