// SPDX-License-Identifier: Apache-2.0
#include "app/watchdog.h"

#include "base/clock.h"
#include "base/str.h"

#define PERIOD_MIN_MS 50
#define PERIOD_MAX_MS 1000
#define TELLINGS      4 // in the time after which systemd loses patience

const char *ch_health_name(enum ch_health health)
{
    static const char *const names[] = {[CH_HEALTH_GOOD] = "good",
                                        [CH_HEALTH_LOOP_STUCK] = "loop_stuck",
                                        [CH_HEALTH_WRITER_STUCK] = "writer_stuck"};
    return names[health];
}

void ch_watchdog_init(struct ch_watchdog *watchdog, uint64_t writer_turns, int64_t now_ns)
{
    *watchdog = (struct ch_watchdog){.writer_turns = writer_turns, .writer_ns = now_ns};
}

enum ch_health ch_watchdog_judge(struct ch_watchdog *watchdog, int64_t loop_wait_ns,
                                 uint64_t writer_turns, int64_t now_ns)
{
    if (watchdog->writer_turns != writer_turns)
        ch_watchdog_init(watchdog, writer_turns, now_ns);
    if (loop_wait_ns > CH_WATCHDOG_LOOP_MS * CH_NS_PER_MS)
        return CH_HEALTH_LOOP_STUCK;
    if (now_ns - watchdog->writer_ns > CH_WATCHDOG_WRITER_MS * CH_NS_PER_MS)
        return CH_HEALTH_WRITER_STUCK;
    return CH_HEALTH_GOOD;
}

int64_t ch_watchdog_period_ms(const char *usec, const char *pid, int64_t own_pid)
{
    int64_t number;
    if (pid && (ch_span_to_int64(ch_span_of(pid), &number) || number != own_pid))
        return 0;
    if (!usec || ch_span_to_int64(ch_span_of(usec), &number) || number == 0)
        return 0;
    int64_t period_ms = number / 1000 / TELLINGS;
    if (period_ms < PERIOD_MIN_MS)
        return PERIOD_MIN_MS;
    return period_ms < PERIOD_MAX_MS ? period_ms : PERIOD_MAX_MS;
}
