// SPDX-License-Identifier: Apache-2.0
// The wrapped key: ch_<slug>_sk_<id:12><secret:32><check:6> (design.md §6).
//
// Pure; any thread. The slug is a label: nothing is decided from it. Never logs, never stores a
// token.
#ifndef CH_DOMAIN_WRAPPED_KEY_H
#define CH_DOMAIN_WRAPPED_KEY_H

#include "base/err.h"
#include "base/str.h"

#define CH_WRAPPED_KEY_SLUG_MAX 48
#define CH_WRAPPED_KEY_ID       12 // base62 digits of the public id
#define CH_WRAPPED_KEY_SECRET   32
#define CH_WRAPPED_KEY_CHECK    6
#define CH_WRAPPED_KEY_MAX      (3 + CH_WRAPPED_KEY_SLUG_MAX + 4 + 50) // bytes without NUL
#define CH_WRAPPED_KEY_SALT     16
#define CH_WRAPPED_KEY_HASH     32
#define CH_WRAPPED_KEY_PEPPER   32

struct ch_wrapped_key {
    struct ch_span slug, id, secret; // borrow the token
};

// Shape, alphabet and checksum; no look-up. CH_ERR_INVALID.
enum ch_err ch_wrapped_key_parse(struct ch_span token, struct ch_wrapped_key *key_out) CH_MUST_USE;

// Makes a new random token for `slug` ([a-z0-9_]{1,48}), NUL-terminated. The caller wipes it.
enum ch_err ch_wrapped_key_mint(struct ch_span slug,
                                char token_out[CH_WRAPPED_KEY_MAX + 1]) CH_MUST_USE;

// Turns a free name into a slug: lower case, other characters to '_', cut at 48, "key" when empty.
void ch_wrapped_key_slug(struct ch_span name, char slug_out[CH_WRAPPED_KEY_SLUG_MAX + 1]);

// BLAKE2b-256 keyed with the pepper over salt ‖ token.
void ch_wrapped_key_hash(const unsigned char pepper[CH_WRAPPED_KEY_PEPPER],
                         const unsigned char salt[CH_WRAPPED_KEY_SALT], struct ch_span token,
                         unsigned char hash_out[CH_WRAPPED_KEY_HASH]);

#endif
