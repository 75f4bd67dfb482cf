// SPDX-License-Identifier: Apache-2.0
// Rows of `providers`. Functions run inside ch_store_write or ch_store_read.
#ifndef CH_STORE_PROVIDER_STORE_H
#define CH_STORE_PROVIDER_STORE_H

#include "domain/provider.h"
#include "store/store.h"

#define CH_NAME_MAX     64 // names of providers, keys, teams …: [A-Za-z0-9._-]{1,64}
#define CH_BASE_URL_MAX 512

// What happens to a request for a model without a price. A key's rule goes before that of its
// provider.
enum ch_unknown_model {
    CH_UNKNOWN_MODEL_DEFAULT, // nothing was chosen here
    CH_UNKNOWN_MODEL_DENY,
    CH_UNKNOWN_MODEL_CEILING, // priced by the two prices below
    CH_UNKNOWN_MODEL_FLAG,    // allowed, and its rows are unpriced
};
#define CH_UNKNOWN_MODELS 4
// "", "deny", "ceiling", "flag".
const char *ch_unknown_model_name(enum ch_unknown_model choice);
enum ch_err ch_unknown_model_parse(struct ch_span name, enum ch_unknown_model *out) CH_MUST_USE;

struct ch_unknown_model_rule {
    enum ch_unknown_model choice;
    // Ceiling prices of a million tokens, in nano-USD; 0: none.
    int64_t input_nano_usd, output_nano_usd;
};

// Among whom the objects are shared that the provider keeps for its account (responses, items,
// files …): docs/design/008-object-owners.md.
enum ch_objects {
    CH_OBJECTS_PROJECT, // the keys of a project of one team; without one, of a team; without both,
                        // the key alone
    CH_OBJECTS_TEAM, // the keys of a team; without one, of a project; without both, the key alone
    CH_OBJECTS_KEY,
    CH_OBJECTS_SHARED, // whoever may use the provider
};
#define CH_OBJECTS_CHOICES 4
// "project", "team", "key", "shared".
const char *ch_objects_name(enum ch_objects choice);
enum ch_err ch_objects_parse(struct ch_span name, enum ch_objects *out) CH_MUST_USE;

struct ch_provider_row {
    int64_t id;
    char name[CH_NAME_MAX + 1];
    enum ch_provider_type type;
    char base_url[CH_BASE_URL_MAX + 1];
    bool enabled;
    // Ask for stream usage by include_usage (off for servers that refuse unknown fields).
    bool injects_usage;
    int64_t key_version;
    unsigned char sealed[CH_VAULT_SEALED_MAX]; // the credential, bound to this row
    size_t sealed_size;
    // Last 4 characters of the credential, for people ("…x9Qa"); "" when it is shorter than 20.
    char key_hint[8];
    struct ch_unknown_model_rule unknown_model;
    enum ch_objects objects;
    int64_t created_at_ms, updated_at_ms;
};

// Checks [A-Za-z0-9._-]{1,64}.
bool ch_name_is_valid(struct ch_span name);
// The binding of a row's sealed credential; spans borrow the row.
void ch_provider_binding(const struct ch_provider_row *row, struct ch_vault_binding *binding_out);

// Inserts row (id, sealed, key_hint and times are filled in) and seals `credential`.
// CH_ERR_CONFLICT when the name is taken.
enum ch_err ch_provider_create(struct ch_db *db, const struct ch_vault *vault,
                               struct ch_provider_row *row, struct ch_span credential,
                               struct ch_why *why) CH_MUST_USE;
enum ch_err ch_provider_get(struct ch_db *db, const char *name, struct ch_provider_row *row_out,
                            struct ch_why *why) CH_MUST_USE;
enum ch_err ch_provider_set_enabled(struct ch_db *db, const char *name, bool enabled,
                                    struct ch_provider_row *row_out,
                                    struct ch_why *why) CH_MUST_USE;
// CH_ERR_INVALID for a negative price.
enum ch_err ch_provider_set_unknown_model(struct ch_db *db, const char *name,
                                          const struct ch_unknown_model_rule *rule,
                                          struct ch_provider_row *row_out,
                                          struct ch_why *why) CH_MUST_USE;
enum ch_err ch_provider_set_objects(struct ch_db *db, const char *name, enum ch_objects objects,
                                    struct ch_provider_row *row_out,
                                    struct ch_why *why) CH_MUST_USE;
// Of a rule that comes from outside.
enum ch_err ch_unknown_model_check(const struct ch_unknown_model_rule *rule,
                                   struct ch_why *why) CH_MUST_USE;
// CH_ERR_CONFLICT while an active key uses it (the reason names up to five of them).
enum ch_err ch_provider_delete(struct ch_db *db, const char *name, int64_t *id_out,
                               struct ch_why *why) CH_MUST_USE;
// In order of name.
enum ch_err ch_provider_each(struct ch_db *db,
                             enum ch_err (*each)(void *arg, const struct ch_provider_row *row),
                             void *arg, struct ch_why *why) CH_MUST_USE;

#endif
