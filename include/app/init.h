// SPDX-License-Identifier: Apache-2.0
// `chaperone init`: a ready installation in one folder: chaperone.yaml, master.key (0600), chaperone.db.
#ifndef CH_APP_INIT_H
#define CH_APP_INIT_H

#include "base/err.h"

#include <stdbool.h>

struct ch_init_options {
    const char *dir;    // created (0700) when missing
    const char *listen; // "127.0.0.1:8080"
};
// CH_ERR_CONFLICT when any of the files is there already: nothing is ever overwritten.
enum ch_err ch_init_run(const struct ch_init_options *options, struct ch_why *why) CH_MUST_USE;

#endif
