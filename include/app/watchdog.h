// SPDX-License-Identifier: Apache-2.0
// Whether the daemon is well enough to tell systemd so (WatchdogSec). Pure: the caller measures.
//
// A loop that does not get through a turn serves nobody, and a writer that stands still loses no
// row yet, but will: both are cured by a restart, which the journal survives. What a restart does
// not cure (a locked or full database) is no reason: the writer that tries again and again is
// alive.
#ifndef CH_APP_WATCHDOG_H
#define CH_APP_WATCHDOG_H

#include <stdint.h>

#define CH_WATCHDOG_LOOP_MS   1000  // a turn takes less than 1 ms
#define CH_WATCHDOG_WRITER_MS 60000 // longer than any one transaction takes

struct ch_watchdog {
    uint64_t writer_turns; // as last seen
    int64_t writer_ns;     // when they last changed
};

enum ch_health {
    CH_HEALTH_GOOD,
    CH_HEALTH_LOOP_STUCK,
    CH_HEALTH_WRITER_STUCK,
};
const char *ch_health_name(enum ch_health health);

void ch_watchdog_init(struct ch_watchdog *watchdog, uint64_t writer_turns, int64_t now_ns);
// `loop_wait_ns`: for how long the loop that has waited longest has not answered; 0: all did.
enum ch_health ch_watchdog_judge(struct ch_watchdog *watchdog, int64_t loop_wait_ns,
                                 uint64_t writer_turns, int64_t now_ns);

// How often systemd is to be told, in ms; 0: it does not want to be. `usec` and `pid`: the values
// of $WATCHDOG_USEC and $WATCHDOG_PID, NULL where they are not set (sd_watchdog_enabled(3)).
int64_t ch_watchdog_period_ms(const char *usec, const char *pid, int64_t own_pid);

#endif
