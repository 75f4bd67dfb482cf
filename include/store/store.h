// SPDX-License-Identifier: Apache-2.0
// The store: one SQLite file, one process that writes it, one connection that writes.
//
// Opening follows symbolic links to the file itself, locks both its real name (a lock file beside
// it) and its inode, migrates it (sql/, embedded), runs quick_check, proves the master key against
// the sealed sentinel and unseals the pepper. Exactly one connection writes and checkpoints
// (Debian's SQLite has the WAL-reset bug, security.md §0.2); all others are read-only. A wrong
// master key, a newer schema and a held lock each have their own sentence in `why`.
//
// A write whose database file was removed or replaced meanwhile fails with CH_ERR_UNAVAILABLE.
// After an input/output error, or when usage meets damage, the write connection is not used again:
// every later write fails with CH_ERR_UNAVAILABLE, the journal keeps the usage, and only a restart
// helps.
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

// Opens; makes the file (mode 0600), its schema and its secrets where they are missing when
// `create`, and never else. CH_ERR_NOT_FOUND, _CONFLICT (locked by another process), _DENIED (wrong
// master key), _CORRUPT (also an empty file and missing secrets), _INVALID (newer schema).
enum ch_err ch_store_open(const char *path, const struct ch_secret *master_key, bool create,
                          struct ch_store **store_out, struct ch_why *why) CH_MUST_USE;
void ch_store_close(struct ch_store *store);

// Proves a database without opening it for work: schema, structure, master key and pepper. Takes no
// lock, changes nothing and migrates nothing, so a daemon may be running on it. Errors as above,
// without _CONFLICT.
enum ch_err ch_store_check(const char *path, const struct ch_secret *master_key,
                           struct ch_why *why) CH_MUST_USE;

// False once no write can succeed any more, for good. Any thread.
bool ch_store_is_healthy(const struct ch_store *store);

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
