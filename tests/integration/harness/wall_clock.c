// SPDX-License-Identifier: Apache-2.0
// Preloaded into a daemon under test: its wall clock is the machine's plus an offset that the test
// keeps in a file of eight bytes (nanoseconds, native order). The monotonic clock stays as it is.
#define _GNU_SOURCE
#include "shared_page.h"

#include <stdint.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

static const volatile int64_t *offset_ns;

__attribute__((constructor)) static void map_offset(void)
{
    offset_ns = map_shared_page("WALL_CLOCK", sizeof *offset_ns);
}

// The kernel is asked itself, so that no sanitizer's own wrapper comes round again.
int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) || !offset_ns)
        return result;
    int64_t ns = now->tv_nsec + *offset_ns % NS_PER_S;
    now->tv_sec += *offset_ns / NS_PER_S + (ns >= NS_PER_S) - (ns < 0);
    now->tv_nsec = (ns + NS_PER_S) % NS_PER_S;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    *now = (struct timeval){exact.tv_sec, exact.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *out)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out)
        *out = exact.tv_sec;
    return exact.tv_sec;
}
