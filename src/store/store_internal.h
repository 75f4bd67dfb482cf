// SPDX-License-Identifier: Apache-2.0
// What store.c and usage_writer.c share of an open store.
#ifndef CH_STORE_INTERNAL_H
#define CH_STORE_INTERNAL_H

#include "store/store.h"

#include <pthread.h>

struct ch_usage_writer;

struct ch_store {
    int lock_fd; // holds the exclusive lock of `<database>.lock`
    struct ch_db *writer_db;
    struct ch_db *reader_db;
    pthread_mutex_t write_mutex; // guards writer_db while no writer thread runs
    pthread_mutex_t read_mutex;  // guards reader_db
    struct ch_vault *vault;
    struct ch_secret *pepper;
    struct ch_usage_writer *usage_writer; // set while the thread runs: it owns writer_db then
};

// One transaction on the write connection; by its owner of the moment.
enum ch_err ch_store_transact(struct ch_db *db, ch_store_write_fn fn, void *arg,
                              struct ch_why *why) CH_MUST_USE;
// Has the writer thread run it and waits.
enum ch_err ch_usage_writer_run(struct ch_usage_writer *writer, ch_store_write_fn fn, void *arg,
                                struct ch_why *why) CH_MUST_USE;

#endif
