// SPDX-License-Identifier: Apache-2.0
// Rows of `wrapped_keys` and of their attributions. Functions run inside ch_store_write or
// ch_store_read.
#ifndef CH_STORE_KEY_STORE_H
#define CH_STORE_KEY_STORE_H

#include "domain/wrapped_key.h"
#include "store/provider_store.h"

#define CH_KEY_PROVIDERS_MAX 8
#define CH_KEY_MODELS_MAX    2048 // bytes of a normalised model list
#define CH_TAGS_MAX          1024 // bytes of "k=v,k=v"

enum ch_key_status {
    CH_KEY_ACTIVE,
    CH_KEY_DISABLED,
    CH_KEY_REVOKED, // for good
};
const char *ch_key_status_name(enum ch_key_status status);

struct ch_key_row {
    int64_t id;
    char public_id[CH_WRAPPED_KEY_ID + 1];
    char name[CH_NAME_MAX + 1];
    char slug[CH_WRAPPED_KEY_SLUG_MAX + 1];
    unsigned char salt[CH_WRAPPED_KEY_SALT], hash[CH_WRAPPED_KEY_HASH];
    enum ch_key_status status;
    char revoke_reason[256]; // why it has its status; "" for an active key
    int64_t expires_at_ms;   // 0: never
    int64_t provider_ids[CH_KEY_PROVIDERS_MAX];
    // The same order; on create these are looked up.
    char provider_names[CH_KEY_PROVIDERS_MAX][CH_NAME_MAX + 1];
    unsigned provider_count;
    char models[CH_KEY_MODELS_MAX + 1]; // normalised allowlist, "" = all
    // Attribution: immutable rows shared by keys, so that a usage row names what held when it was
    // spent.
    int64_t attribution_id;
    char team[CH_NAME_MAX + 1], project[CH_NAME_MAX + 1], env[CH_NAME_MAX + 1],
        service[CH_NAME_MAX + 1];
    char tags[CH_TAGS_MAX + 1]; // "k=v,k=v", sorted by k
    int64_t created_at_ms, updated_at_ms;
};

// Mints a token for row->name's slug, inserts the row with its salted hash and fills the ids.
// `token_out` is the only time the token exists in the clear; the caller wipes it. CH_ERR_CONFLICT
// for a taken name, CH_ERR_NOT_FOUND for an unknown provider.
enum ch_err ch_key_create(struct ch_db *db, const struct ch_secret *pepper, struct ch_key_row *row,
                          char token_out[CH_WRAPPED_KEY_MAX + 1], struct ch_why *why) CH_MUST_USE;
enum ch_err ch_key_get(struct ch_db *db, const char *name, struct ch_key_row *row_out,
                       struct ch_why *why) CH_MUST_USE;
enum ch_err ch_key_get_by_public_id(struct ch_db *db, struct ch_span public_id,
                                    struct ch_key_row *row_out, struct ch_why *why) CH_MUST_USE;
// `reason` (NULL: none) is kept for a key that is disabled or revoked; making it active again
// forgets it. CH_ERR_CONFLICT when the key is revoked: that is final.
enum ch_err ch_key_set_status(struct ch_db *db, const char *name, enum ch_key_status status,
                              const char *reason, struct ch_key_row *row_out,
                              struct ch_why *why) CH_MUST_USE;
// Every key, in order of id; one million rows in at most three seconds.
enum ch_err ch_key_each(struct ch_db *db,
                        enum ch_err (*each)(void *arg, const struct ch_key_row *row), void *arg,
                        struct ch_why *why) CH_MUST_USE;

#endif
