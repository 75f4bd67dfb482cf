// SPDX-License-Identifier: Apache-2.0
// The store: one SQLite file, one process that writes it, one connection that writes.
//
// Opening takes an exclusive lock file beside the database, migrates it (sql/, embedded), runs
// quick_check, proves the master key against the sealed sentinel and unseals the pepper. Exactly
// one connection writes and checkpoints (Debian's SQLite has the WAL-reset bug, security.md §0.2);
// all others are read-only. A wrong master key, a newer schema and a held lock each have their own
// sentence in `why`.
#ifndef CH_STORE_STORE_H
#define CH_STORE_STORE_H

#include "base/err.h"
#include "base/secret.h"
#include "store/vault.h"

#include <stdint.h>

struct ch_db;    // one SQLite connection (store/db.h, private to the floor)
struct ch_store; // opaque

// SQLite allocates through zeroing functions from here on. Once per process, before any other call.
enum ch_err ch_store_process_init(struct ch_why *why) CH_MUST_USE;

// Opens, creating the file (mode 0600) when `create`. CH_ERR_NOT_FOUND, _CONFLICT (locked by
// another process), _DENIED (wrong master key), _CORRUPT, _INVALID (newer schema).
enum ch_err ch_store_open(const char *path, const struct ch_secret *master_key, bool create,
                          struct ch_store **store_out, struct ch_why *why) CH_MUST_USE;
void ch_store_close(struct ch_store *store);

struct ch_vault *ch_store_vault(struct ch_store *store);
// The pepper of wrapped-key hashes, CH_WRAPPED_KEY_PEPPER bytes; lives as long as the store.
const struct ch_secret *ch_store_pepper(const struct ch_store *store);

// Runs `fn` in one transaction on the write connection: on the writer thread while one runs (the
// caller waits), else right here. Anything but CH_OK rolls back and is returned. Never called from
// a loop thread.
typedef enum ch_err (*ch_store_write_fn)(struct ch_db *db, void *arg, struct ch_why *why);
enum ch_err ch_store_write(struct ch_store *store, ch_store_write_fn fn, void *arg,
                           struct ch_why *why) CH_MUST_USE;
// Runs `fn` on the read-only connection, one caller at a time.
enum ch_err ch_store_read(struct ch_store *store, ch_store_write_fn fn, void *arg,
                          struct ch_why *why) CH_MUST_USE;

#endif
