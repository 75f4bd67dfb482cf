// SPDX-License-Identifier: Apache-2.0
// Preloaded into the daemon: counts every step and preparation of an SQL statement, on any thread,
// in the eight bytes of the file that $COUNT_SQL names.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct sqlite3;
struct sqlite3_stmt;

static _Atomic int64_t *counter;

__attribute__((constructor)) static void open_counter(void)
{
    const char *path = getenv("COUNT_SQL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *memory = fd < 0 ? MAP_FAILED
                          : mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        abort(); // a count of nothing would prove nothing
    counter = memory;
    close(fd);
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
