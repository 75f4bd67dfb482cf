// SPDX-License-Identifier: Apache-2.0
// `chaperone init`: a ready installation in one folder: chaperone.yaml, master.key (0600),
// chaperone.db. Main thread, after ch_store_process_init.
#ifndef CH_APP_INIT_H
#define CH_APP_INIT_H

#include "base/err.h"

struct ch_init_options {
    const char *dir;    // created (0700) when missing; its parent must be there
    const char *listen; // "127.0.0.1:8080"; NULL: that
};
// CH_ERR_CONFLICT when any of the files is there already: nothing is ever overwritten. On any other
// failure what was made is removed again.
enum ch_err ch_init_run(const struct ch_init_options *options, struct ch_why *why) CH_MUST_USE;

#endif
