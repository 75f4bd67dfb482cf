// SPDX-License-Identifier: Apache-2.0
// A call that runs on a thread of its own, so that a slow one holds no other up. Only for
// operations that are safe beside others (ch_admin_is_slow). Used by the admin thread, and by the
// thread that stops it once it has ended.
#ifndef CH_ADMIN_ERRAND_H
#define CH_ADMIN_ERRAND_H

#include "admin/admin.h"

struct ch_errand;

// Borrows `admin`. Takes `arguments` on success. `done` is an eventfd that is added to when the
// errand is done.
enum ch_err ch_errand_start(struct ch_admin *admin, const char *operation, json_t *arguments,
                            int done, struct ch_errand **errand_out) CH_MUST_USE;
bool ch_errand_is_done(const struct ch_errand *errand);
// What the call gave; frees the errand, which is done.
enum ch_err ch_errand_end(struct ch_errand *errand, json_t **result_out,
                          struct ch_why *why) CH_MUST_USE;
// Waits for it (the call has a time-out of its own) and frees it.
void ch_errand_abandon(struct ch_errand *errand);

#endif
