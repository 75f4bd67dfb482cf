// SPDX-License-Identifier: Apache-2.0
// Rows of `wrapped_keys` and of their attributions. Functions run inside ch_store_write or
// ch_store_read.
#ifndef CH_STORE_KEY_STORE_H
#define CH_STORE_KEY_STORE_H

#include "domain/rate_limit.h"
#include "domain/wrapped_key.h"
#include "store/provider_store.h"

#define CH_KEY_PROVIDERS_MAX 8
#define CH_KEY_MODELS_MAX    2048 // bytes of a normalised model list, and of a model map
#define CH_KEY_CIDRS_MAX     1024 // bytes of a normalised list of networks
#define CH_KEY_LABEL_MAX     128
#define CH_TAGS_MAX          1024 // bytes of "k=v,k=v"
#define CH_KEY_GRACE_MAX_MS  (INT64_C(366) * 24 * 60 * 60 * 1000)

enum ch_key_status {
    CH_KEY_ACTIVE,
    CH_KEY_DISABLED,
    CH_KEY_REVOKED, // for good
};
const char *ch_key_status_name(enum ch_key_status status);

// When the client hangs up: leave the provider at once, or read on to learn the usage.
enum ch_on_client_abort {
    CH_ON_CLIENT_ABORT_CANCEL,
    CH_ON_CLIENT_ABORT_DRAIN,
};
// "cancel", "drain".
const char *ch_on_client_abort_name(enum ch_on_client_abort choice);
enum ch_err ch_on_client_abort_parse(struct ch_span name, enum ch_on_client_abort *out) CH_MUST_USE;

// Zeroed, everything beyond name and providers has its default. The lists of models and networks
// and the map are the caller's to check and to normalise.
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
    // The policy: what few keys have (`key_policies`).
    char label[CH_KEY_LABEL_MAX + 1];        // free text without controls
    char deny_models[CH_KEY_MODELS_MAX + 1]; // normalised like the allowlist, "" = none
    char model_map[CH_KEY_MODELS_MAX + 1];   // normalised "from=to,from=to"
    bool models_shadow;                      // the lists only record what they would have refused
    struct ch_unknown_model_rule unknown_model;
    char allow_cidrs[CH_KEY_CIDRS_MAX + 1]; // normalised, "" = from everywhere
    enum ch_on_client_abort on_client_abort;
    int budget_status; // of a refusal by a budget: 402, 403, 429; 0: as configured
    struct ch_rate_limits limits;
    bool limits_shadow;
    // The secret that the last rotation replaced. It works while the time is before its end.
    int64_t previous_expires_at_ms; // 0: there is none
    unsigned char previous_salt[CH_WRAPPED_KEY_SALT], previous_hash[CH_WRAPPED_KEY_HASH];
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
// for a taken name, CH_ERR_NOT_FOUND for an unknown provider, CH_ERR_INVALID for a field that
// cannot be, CH_ERR_LIMIT for too many providers.
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
// What to change of a key; NULL leaves a field as it is. Texts are as in the row, "" is none.
struct ch_key_patch {
    const char *label, *team, *project, *env, *service, *tags;
    const char *models, *deny_models, *model_map, *allow_cidrs;
    const char *const *provider_names; // all of them, in order of preference
    unsigned provider_count;
    const int64_t *expires_at_ms;        // 0: never
    const int64_t *limit[CH_RATE_KINDS]; // 0: none
    const bool *limits_shadow, *models_shadow;
    const struct ch_unknown_model_rule *unknown_model;
    const enum ch_on_client_abort *on_client_abort;
    const int *budget_status;
};
// All or nothing. A key that moves to another team (project, …) points at another attribution from
// now on; its usage rows keep theirs. CH_ERR_NOT_FOUND for an unknown key or provider,
// CH_ERR_CONFLICT for a revoked key, CH_ERR_INVALID for a field that cannot be, CH_ERR_LIMIT for
// one that is too long and for too many providers.
enum ch_err ch_key_update(struct ch_db *db, const char *name, const struct ch_key_patch *patch,
                          struct ch_key_row *row_out, struct ch_why *why) CH_MUST_USE;

// Mints a new secret under the same public id and slug. The old one works for another `grace_ms`
// (0: not any more; at most CH_KEY_GRACE_MAX_MS, else CH_ERR_INVALID); one that was still in its
// grace from a rotation before ends now. `token_out` as for ch_key_create. CH_ERR_CONFLICT for a
// revoked key.
enum ch_err ch_key_rotate(struct ch_db *db, const struct ch_secret *pepper, const char *name,
                          int64_t grace_ms, struct ch_key_row *row_out,
                          char token_out[CH_WRAPPED_KEY_MAX + 1], struct ch_why *why) CH_MUST_USE;

// Every key, in order of id; one million rows in at most three seconds.
enum ch_err ch_key_each(struct ch_db *db,
                        enum ch_err (*each)(void *arg, const struct ch_key_row *row), void *arg,
                        struct ch_why *why) CH_MUST_USE;

#endif
