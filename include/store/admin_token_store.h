// SPDX-License-Identifier: Apache-2.0
// The tokens of the admin listener (`admin_tokens`). Functions run inside ch_store_write or
// ch_store_read.
#ifndef CH_STORE_ADMIN_TOKEN_STORE_H
#define CH_STORE_ADMIN_TOKEN_STORE_H

#include "domain/admin_token.h"
#include "store/provider_store.h"

struct ch_admin_token_row {
    char name[CH_NAME_MAX + 1];
    enum ch_admin_role role;
    char team[CH_NAME_MAX + 1]; // "": all teams
    unsigned char salt[CH_ADMIN_TOKEN_SALT], hash[CH_ADMIN_TOKEN_HASH];
    int64_t created_at_ms;
    int64_t expires_at_ms; // 0: never
    int64_t revoked_at_ms; // 0: it is not
};

// Inserts `row` (name, role, team, expiry) and fills the rest of it; the token is made here and
// stored only as its hash. The caller wipes it. CH_ERR_CONFLICT: the name is taken, revoked or not.
enum ch_err ch_admin_token_create(struct ch_db *db, const struct ch_secret *pepper,
                                  struct ch_admin_token_row *row,
                                  char token_out[CH_ADMIN_TOKEN_MAX + 1],
                                  struct ch_why *why) CH_MUST_USE;
enum ch_err ch_admin_token_get(struct ch_db *db, struct ch_span name,
                               struct ch_admin_token_row *row_out, struct ch_why *why) CH_MUST_USE;
// In order of name.
enum ch_err ch_admin_token_each(struct ch_db *db,
                                enum ch_err (*each)(void *arg,
                                                    const struct ch_admin_token_row *row),
                                void *arg, struct ch_why *why) CH_MUST_USE;
// For good; again is fine and changes nothing.
enum ch_err ch_admin_token_revoke(struct ch_db *db, const char *name,
                                  struct ch_admin_token_row *row_out,
                                  struct ch_why *why) CH_MUST_USE;

// Whether `token` is the row's, in constant time. Says nothing about expiry and revocation.
bool ch_admin_token_fits(const struct ch_admin_token_row *row, const struct ch_secret *pepper,
                         struct ch_span token);

#endif
