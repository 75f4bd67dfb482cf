// SPDX-License-Identifier: Apache-2.0
// Captured events at rest: one file a UTC day (`capture-2026-11-21.jsonl`, mode 0600), one line an
// event, and the lines' places in the table `capture_index`.
//
// Apart from the database, so that old days are dropped whole. Nothing is made before the first
// event comes. What is captured is no accounting: a line is not synced, and one whose place was not
// stored when the process died stays in the file and is not found by its id. Writing and dropping:
// one thread; reading: any.
#ifndef CH_STORE_CAPTURE_STORE_H
#define CH_STORE_CAPTURE_STORE_H

#include "store/store.h"

#include <jansson.h>

#define CH_CAPTURE_LINE_MAX ((size_t)32 * 1024 * 1024) // bytes of one line
#define CH_CAPTURE_BATCH    64 // lines that may wait for their places to be stored

struct ch_capture_file; // opaque

enum ch_err ch_capture_file_new(const char *directory,
                                struct ch_capture_file **file_out) CH_MUST_USE;
void ch_capture_file_free(struct ch_capture_file *file); // NULL is fine

// Appends the line of exchange `id` to the file of the day of `now_ms`. An error leaves the file as
// it was. CH_ERR_LIMIT: the line is too long, or a batch waits; CH_ERR_INVALID: a line end in it.
enum ch_err ch_capture_file_append(struct ch_capture_file *file, int64_t now_ms, int64_t id,
                                   struct ch_span line, struct ch_why *why) CH_MUST_USE;
// Stores the places of what was appended since. After an error they wait for the next call.
enum ch_err ch_capture_file_commit(struct ch_capture_file *file, struct ch_store *store,
                                   struct ch_why *why) CH_MUST_USE;
// Removes the files whose last moment is `retention_ms` ago, and their lines' places.
enum ch_err ch_capture_file_expire(struct ch_capture_file *file, struct ch_store *store,
                                   int64_t now_ms, int64_t retention_ms, int64_t *files_out,
                                   struct ch_why *why) CH_MUST_USE;

// The event of exchange `id`. CH_ERR_NOT_FOUND: none was kept, or not any more.
enum ch_err ch_capture_read(const char *directory, struct ch_store *store, int64_t id,
                            json_t **event_out, struct ch_why *why) CH_MUST_USE;

#endif
