// SPDX-License-Identifier: Apache-2.0
// What an operator can say of a wrapped key, at its creation and later. Private to the floor.
#ifndef CH_ADMIN_KEY_OPTIONS_H
#define CH_ADMIN_KEY_OPTIONS_H

#include "budgets.h"

// Their members of the arguments, as `ch_input_only` takes them.
#define CH_KEY_OPTIONS                                                                             \
    "provider models deny_models map expires team project env service tag label allow_cidr rpm "   \
    "tpm concurrency unknown_model on_client_abort budget_status shadow budget budget_mode"

// `patch` points into the struct, which therefore stays where it was filled.
struct ch_key_options {
    struct ch_key_patch patch;
    const char *providers[CH_KEY_PROVIDERS_MAX];
    char models[CH_KEY_MODELS_MAX + 1], deny_models[CH_KEY_MODELS_MAX + 1],
        model_map[CH_KEY_MODELS_MAX + 1], allow_cidrs[CH_KEY_CIDRS_MAX + 1];
    char tags[CH_TAGS_MAX + 1];
    int64_t expires_at_ms, limits[CH_RATE_KINDS];
    struct ch_unknown_model_rule unknown_model;
    enum ch_on_client_abort on_client_abort;
    int budget_status;
    bool models_shadow, limits_shadow;
    struct ch_budget_edit budgets[CH_BUDGET_PERIODS];
    unsigned budget_count;
};

// `is_new`: an empty value, which clears an option of an existing key, is a fault.
void ch_key_options_read(struct ch_input *input, bool is_new, struct ch_key_options *options);
// Into the row of a key that is to be created.
void ch_key_options_apply(const struct ch_key_options *options, struct ch_key_row *row);

// Stores the budgets of the key `name`, each with a row in the audit log. Inside ch_route_write.
enum ch_err ch_key_options_store_budgets(struct ch_admin *admin, struct ch_db *db,
                                         const struct ch_key_options *options, const char *name,
                                         struct ch_budget_row rows_out[CH_BUDGET_PERIODS],
                                         struct ch_why *why) CH_MUST_USE;

// ---- showing

// "active", "disabled", "revoked", "expired": what the key is right now.
const char *ch_key_current_status(const struct ch_key_row *row);
json_t *ch_key_to_json(const struct ch_key_row *row);
// "", "deny", "flag", "ceiling:15/75".
json_t *ch_unknown_model_to_json(const struct ch_unknown_model_rule *rule);

#endif
