// SPDX-License-Identifier: Apache-2.0
// Group commit: a thread of its own that brings a file to disk on behalf of all loops.
//
// A loop wishes and goes on with other work; one sync covers every wish made before it began, and
// the loops that wished are told when it is over. The callers of a wish keep what waits for it, so
// that whatever ends meanwhile is simply no longer there when the news comes. No loop ever waits
// in here: the lock is not held across a sync. A sync that failed is never repeated, as the kernel
// may have dropped the pages it could not write and call the next one a success; everything that
// waits, and every later wish, is told so instead.
#ifndef CH_STORE_JOURNAL_SYNC_H
#define CH_STORE_JOURNAL_SYNC_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct ch_journal_sync;

// Brings to disk what was written before the call; 0, or an errno. On the thread.
typedef int (*ch_journal_sync_fn)(void *arg);
// A loop's news, on the thread: a sync that it wished for is over, or has failed. Anything but
// CH_OK: it could not be told, and is tried again in a moment.
typedef enum ch_err (*ch_journal_synced_fn)(void *arg);

enum ch_err ch_journal_sync_start(unsigned loops, ch_journal_sync_fn sync, void *arg,
                                  struct ch_journal_sync **sync_out) CH_MUST_USE;
// Waits for a sync under way; nobody is told of anything after the return, but what was told can
// still be looked at. Also twice.
void ch_journal_sync_stop(struct ch_journal_sync *sync);
void ch_journal_sync_free(struct ch_journal_sync *sync); // stops; NULL is fine

// Whom to tell of the loop's wishes; before its first one.
void ch_journal_sync_listen(struct ch_journal_sync *sync, unsigned loop, ch_journal_synced_fn fn,
                            void *arg);
// Wishes for what this thread has written. It is on disk once ch_journal_sync_done has reached the
// ticket. 0: syncing has failed, and no news will come.
uint64_t ch_journal_sync_wish(struct ch_journal_sync *sync, unsigned loop);
uint64_t ch_journal_sync_done(const struct ch_journal_sync *sync);   // any thread
bool ch_journal_sync_has_failed(const struct ch_journal_sync *sync); // for good; any thread

#endif
