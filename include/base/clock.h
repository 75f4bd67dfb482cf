// SPDX-License-Identifier: Apache-2.0
// The two clocks. Deadlines and latencies use the monotonic one, records the wall clock.
// Pure modules take times as arguments and never call these.
#ifndef CH_BASE_CLOCK_H
#define CH_BASE_CLOCK_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

int64_t ch_clock_mono_ns(void); // CLOCK_MONOTONIC
int64_t ch_clock_wall_ms(void); // milliseconds since 1970-01-01T00:00:00Z

// A condition whose deadlines are of the monotonic clock, so that a step of the wall clock ends no
// wait.
void ch_clock_condition_init(pthread_cond_t *condition);

#define CH_NS_PER_MS INT64_C(1000000)
#define CH_NS_PER_US INT64_C(1000)

// "2026-11-21T20:05:00.123Z", NUL-terminated, into `out` of at least 25 bytes.
void ch_clock_format_utc(int64_t wall_ms, char out[25]);

#endif
