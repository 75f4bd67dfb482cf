// SPDX-License-Identifier: Apache-2.0
// Preloaded into the daemon: counts every step and preparation of an SQL statement, on any thread,
// in the eight bytes of the file that $COUNT_SQL names.
#include "shared_page.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>

struct sqlite3;
struct sqlite3_stmt;

static _Atomic int64_t *counter;

__attribute__((constructor)) static void open_counter(void)
{
    counter = map_shared_page("COUNT_SQL", sizeof *counter);
}

int sqlite3_step(struct sqlite3_stmt *statement)
{
    int (*next)(struct sqlite3_stmt *) = dlsym(RTLD_NEXT, "sqlite3_step");
    atomic_fetch_add(counter, 1);
    return next(statement);
}

int sqlite3_prepare_v3(struct sqlite3 *db, const char *sql, int size, unsigned flags,
                       struct sqlite3_stmt **statement, const char **tail)
{
    int (*next)(struct sqlite3 *, const char *, int, unsigned, struct sqlite3_stmt **,
                const char **) = dlsym(RTLD_NEXT, "sqlite3_prepare_v3");
    atomic_fetch_add(counter, 1);
    return next(db, sql, size, flags, statement, tail);
}

int sqlite3_exec(struct sqlite3 *db, const char *sql, int (*each)(void *, int, char **, char **),
                 void *arg, char **error)
{
    int (*next)(struct sqlite3 *, const char *, int (*)(void *, int, char **, char **), void *,
                char **) = dlsym(RTLD_NEXT, "sqlite3_exec");
    atomic_fetch_add(counter, 1);
    return next(db, sql, each, arg, error);
}
