// SPDX-License-Identifier: Apache-2.0
// What the tests of this floor share: a folder of their own, and stores in it.
#ifndef CH_TEST_STORE_FIXTURE_H
#define CH_TEST_STORE_FIXTURE_H

#include "store/db.h"
#include "store/key_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char fixture_dir[64];

// A path in the test's folder; four may be in use at once.
static inline const char *fixture_path(const char *name)
{
    static char paths[4][192];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", fixture_dir, name);
    return path;
}

static inline int fixture_make_dir(void **state)
{
    (void)state;
    strcpy(fixture_dir, "store-test-XXXXXX");
    return mkdtemp(fixture_dir) ? 0 : -1;
}

static inline int fixture_remove_dir(void **state)
{
    static const char *const names[] = {"a.db",    "a.db-wal",  "a.db-shm", "a.db.lock",
                                        "b.db",    "b.db.lock", "b.db-wal", "b.db-shm",
                                        "journal", "truth",     "link.db",
                                        "a.db.audit-heads", "b.db.audit-heads"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(fixture_path(names[i]));
    return rmdir(fixture_dir);
}

static inline struct ch_secret *fixture_master_key(unsigned char first)
{
    unsigned char bytes[CH_VAULT_MASTER_KEY] = {first, 2, 3};
    struct ch_secret *key;
    assert_int_equal(ch_secret_new(bytes, sizeof bytes, &key), CH_OK);
    return key;
}

static inline enum ch_err fixture_try_open(const char *name, unsigned char key, bool create,
                                           struct ch_store **store_out, struct ch_why *why)
{
    struct ch_secret *master_key = fixture_master_key(key);
    enum ch_err err = ch_store_open(fixture_path(name), master_key, create, store_out, why);
    ch_secret_free(master_key);
    return err;
}

static inline struct ch_store *fixture_open(const char *name)
{
    struct ch_store *store = NULL;
    struct ch_why why = {""};
    enum ch_err err = fixture_try_open(name, 1, true, &store, &why);
    if (err)
        fail_msg("open: %s: %s", ch_err_name(err), why.text);
    return store;
}

static inline void fixture_init_process(void)
{
    struct ch_why why;
    if (ch_secret_process_init(&why) || ch_store_process_init(&why))
        abort();
}

#endif
