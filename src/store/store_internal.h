// SPDX-License-Identifier: Apache-2.0
// What store.c and usage_writer.c share of an open store.
#ifndef CH_STORE_INTERNAL_H
#define CH_STORE_INTERNAL_H

#include "store/store.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

struct ch_usage_writer;

struct ch_store {
    char path[PATH_MAX]; // of the database, without symbolic links
    int lock_fd;         // holds the exclusive lock of `<path>.lock`
    int inode_fd;        // holds the lock of the database file itself
    dev_t device;        // of that file, as it was opened
    ino_t inode;
    atomic_bool is_failed; // see ch_store_is_healthy
    struct ch_db *writer_db;
    struct ch_db *reader_db;
    pthread_mutex_t write_mutex; // guards writer_db while no writer thread runs
    pthread_mutex_t read_mutex;  // guards reader_db
    struct ch_vault *vault;
    struct ch_secret *pepper;
    struct ch_audit *audit; // of writer_db; read by others where audit_internal.h says so
    struct ch_usage_writer *usage_writer; // set while the thread runs: it owns writer_db then
};

// Transactions of the write connection; by its owner of the moment. After a failure of any of them
// or of what lies between, the rollback is due. A commit counts only when the file that took it
// still has its name.
enum ch_err ch_store_begin(struct ch_store *store, struct ch_why *why) CH_MUST_USE;
enum ch_err ch_store_commit(struct ch_store *store, struct ch_why *why) CH_MUST_USE;
void ch_store_rollback(struct ch_store *store);
// Nothing is written any more (ch_store_is_healthy). Logs it, once.
void ch_store_fail(struct ch_store *store);
// All of it around `fn`.
enum ch_err ch_store_transact(struct ch_store *store, ch_store_write_fn fn, void *arg,
                              struct ch_why *why) CH_MUST_USE;
// Has the writer thread run it and waits.
enum ch_err ch_usage_writer_run(struct ch_usage_writer *writer, ch_store_write_fn fn, void *arg,
                                struct ch_why *why) CH_MUST_USE;

#endif
