// SPDX-License-Identifier: Apache-2.0
// `chaperone serve`: everything started in order from one table and stopped in reverse.
#ifndef CH_APP_DAEMON_H
#define CH_APP_DAEMON_H

#include "domain/config.h"

// Serves until SIGTERM or SIGINT, then drains and returns. SIGHUP and the operation `reload` read the file
// anew (`is_found`: as one that nobody named). On an error the sentence in `why` is for the operator.
enum ch_err ch_daemon_run(const struct ch_config *config, const char *config_path, bool is_found,
                          struct ch_why *why) CH_MUST_USE;
// `chaperone check`: opens and proves everything `serve` would need, without listening or writing. One line per
// thing checked goes to `report_out`.
enum ch_err ch_daemon_check(const struct ch_config *config, struct ch_buf *report_out,
                            struct ch_why *why) CH_MUST_USE;

#endif
