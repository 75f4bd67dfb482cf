// SPDX-License-Identifier: Apache-2.0
// Preloaded into a daemon under test: the journal's thread meets the disk that the test wants, and
// leaves the times of its syncs (CLOCK_MONOTONIC, ns) in the page they share. All other syncs are
// as ever.
#define _GNU_SOURCE
#include "shared_page.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#define SYNCS 4096

struct disk {
    _Atomic int64_t delay_us;
    _Atomic int64_t holds; // 1: a sync goes on when this is 0 again
    _Atomic int64_t error; // an errno; 0: none
    _Atomic int64_t begun, done;
    struct {
        _Atomic int64_t begun_ns, done_ns;
    } log[SYNCS];
};

static struct disk *disk;

__attribute__((constructor)) static void map_disk(void)
{
    disk = map_shared_page("SLOW_DISK", sizeof *disk);
}

static int64_t now_ns(void)
{
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void pause_us(int64_t us)
{
    struct timespec pause = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&pause, NULL);
}

static bool is_journal_thread(void)
{
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    return strcmp(name, "journal-sync") == 0;
}

static int sync_slowly(int fd)
{
    int64_t number = atomic_fetch_add(&disk->begun, 1);
    atomic_store(&disk->log[number % SYNCS].begun_ns, now_ns());
    pause_us(atomic_load(&disk->delay_us));
    while (atomic_load(&disk->holds))
        pause_us(1000);
    int error = (int)atomic_load(&disk->error);
    int result = error ? -1 : (int)syscall(SYS_fdatasync, fd);
    atomic_store(&disk->log[number % SYNCS].done_ns, now_ns());
    atomic_fetch_add(&disk->done, 1);
    if (error)
        errno = error;
    return result;
}

int fdatasync(int fd)
{
    return is_journal_thread() ? sync_slowly(fd) : (int)syscall(SYS_fdatasync, fd);
}
