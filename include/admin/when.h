// SPDX-License-Identifier: Apache-2.0
// Points in time as an operator types them. Pure; any thread.
#ifndef CH_ADMIN_WHEN_H
#define CH_ADMIN_WHEN_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

enum ch_when_direction {
    CH_WHEN_AHEAD, // "90d" is 90 days from now (expiry)
    CH_WHEN_BACK,  // "7d" is 7 days ago (reports)
};

// "90d", "12h", "30m", "45s", "2w"; "2027-01-31" (its first instant, UTC); "2027-01-31T12:00Z" and
// "2027-01-31T12:00:00Z"; "now", "today", "yesterday" (UTC). Gives milliseconds since 1970.
// CH_ERR_INVALID for anything else, for a day that does not exist and for a year outside 1970–2999.
enum ch_err ch_when_parse(struct ch_span text, enum ch_when_direction direction, int64_t now_ms,
                          int64_t *ms_out) CH_MUST_USE;

#endif
