// SPDX-License-Identifier: Apache-2.0
// Rate limits of teams (`team_limits`); those of a key stand in its row. Functions run inside
// ch_store_write or ch_store_read.
#ifndef CH_STORE_LIMIT_STORE_H
#define CH_STORE_LIMIT_STORE_H

#include "domain/rate_limit.h"
#include "store/provider_store.h"

struct ch_team_limits_row {
    char team[CH_NAME_MAX + 1];
    struct ch_rate_limits limits;
    bool is_shadow; // refuses nothing, only records what it would have refused
    int64_t created_at_ms, updated_at_ms;
};

// CH_ERR_INVALID, naming the limit that is negative.
enum ch_err ch_limits_check(const struct ch_rate_limits *limits, struct ch_why *why) CH_MUST_USE;

// Inserts the row or edits that of its team; fills the times. CH_ERR_INVALID for a name that can be
// none and for a negative limit.
enum ch_err ch_team_limits_put(struct ch_db *db, struct ch_team_limits_row *row,
                               struct ch_why *why) CH_MUST_USE;
enum ch_err ch_team_limits_get(struct ch_db *db, const char *team,
                               struct ch_team_limits_row *row_out, struct ch_why *why) CH_MUST_USE;
// In order of team.
enum ch_err ch_team_limits_each(struct ch_db *db,
                                enum ch_err (*each)(void *arg,
                                                    const struct ch_team_limits_row *row),
                                void *arg, struct ch_why *why) CH_MUST_USE;
enum ch_err ch_team_limits_delete(struct ch_db *db, const char *team,
                                  struct ch_why *why) CH_MUST_USE;

#endif
