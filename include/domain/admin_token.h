// SPDX-License-Identifier: Apache-2.0
// The admin token: cha_<name>_<secret:32><check:6>, what a caller of the admin listener shows.
//
// Pure; any thread. The name stands in the token, so that it is found without a search and a
// scanner can say whose it is; what the token may do stands in its row alone. Never logs, never
// stores a token.
#ifndef CH_DOMAIN_ADMIN_TOKEN_H
#define CH_DOMAIN_ADMIN_TOKEN_H

#include "base/err.h"
#include "base/str.h"

#define CH_ADMIN_TOKEN_NAME_MAX 64
#define CH_ADMIN_TOKEN_SECRET   32 // base62 digits: 190 bits
#define CH_ADMIN_TOKEN_CHECK    6  // base62 digits of the CRC-32 of all before
#define CH_ADMIN_TOKEN_MAX      (4 + CH_ADMIN_TOKEN_NAME_MAX + 1 + 38) // bytes without NUL
#define CH_ADMIN_TOKEN_SALT     16
#define CH_ADMIN_TOKEN_HASH     32
#define CH_ADMIN_TOKEN_PEPPER   32

// Each may do what those before it may.
enum ch_admin_role {
    CH_ADMIN_VIEWER,   // reads
    CH_ADMIN_OPERATOR, // keys, budgets and limits
    CH_ADMIN_ADMIN,    // everything
};
#define CH_ADMIN_ROLES "viewer operator admin"
enum ch_err ch_admin_role_parse(struct ch_span name, enum ch_admin_role *role_out) CH_MUST_USE;
const char *ch_admin_role_name(enum ch_admin_role role);

// Shape, alphabet and checksum; no look-up. `name_out` borrows the token. CH_ERR_INVALID.
enum ch_err ch_admin_token_parse(struct ch_span token, struct ch_span *name_out) CH_MUST_USE;
// Makes a new random token for `name` ([A-Za-z0-9._-]{1,64}), NUL-terminated. The caller wipes it.
enum ch_err ch_admin_token_mint(struct ch_span name,
                                char token_out[CH_ADMIN_TOKEN_MAX + 1]) CH_MUST_USE;

// What the hash vouches for beside the token itself, so that a row edited by other hands fits no
// token any more.
struct ch_admin_token_rights {
    enum ch_admin_role role;
    const char *team;      // "": all teams
    int64_t expires_at_ms; // 0: never
};
// BLAKE2b-256 keyed with the pepper over salt, rights and token.
void ch_admin_token_hash(const unsigned char pepper[CH_ADMIN_TOKEN_PEPPER],
                         const unsigned char salt[CH_ADMIN_TOKEN_SALT],
                         const struct ch_admin_token_rights *rights, struct ch_span token,
                         unsigned char hash_out[CH_ADMIN_TOKEN_HASH]);

#endif
