// SPDX-License-Identifier: Apache-2.0
// The registry as the loops use it.
#ifndef CH_PROXY_REGISTRY_PRIVATE_H
#define CH_PROXY_REGISTRY_PRIVATE_H

#include "net/upstream_pool.h"
#include "proxy/registry.h"
#include "object_table.h"
#include "scope.h"

#include "domain/cidr.h"
#include "domain/estimate.h"

#include <stdatomic.h>

// Immutable. Kept by exchanges beyond one turn, therefore counted.
struct provider_record {
    struct scope *scope;
    struct tenancy *tenancy; // of the registry; outlives the record
    _Atomic int refs;
    bool enabled;
    struct ch_provider_row row;
    struct ch_upstream_target target;
    struct ch_span base_path;  // of row.base_url: "" or "/…"
    struct ch_span host_field; // host[:port] as it stands in base_url
    struct ch_span price_prefix;
    bool us_region, eu_region; // hosts that OpenAI bills with a regional uplift (wire.md §4.1)
    // Set once the sealed credential has been opened with its MAC, which nothing here can spoil any
    // more; `echo_digest` is known from then on.
    _Atomic bool is_proven;
    _Atomic uint64_t echo_digest;
    bool reasoning_is_outside; // xAI counts reasoning beside the output (wire.md §2)
};

// What few keys have; goes with its record. The texts are normalised and stand behind it.
struct key_policy {
    struct ch_span deny_models, model_map;
    struct ch_cidr_list *allow_cidrs; // NULL: from everywhere
    bool models_are_shadow, drains_on_abort;
    int budget_status; // 0: as configured
    struct ch_unknown_model_rule unknown_model;
    int64_t previous_expires_at_ms; // of the secret that a rotation replaced; 0: none
    unsigned char previous_salt[CH_WRAPPED_KEY_SALT], previous_hash[CH_WRAPPED_KEY_HASH];
    char texts[];
};

// Immutable; used within one turn of a loop. One allocation; `data` holds the providers' ids, the
// name and the model list, so that a million keys fit (design.md §9).
struct key_record {
    int64_t id, expires_at_ms;
    const struct attribution *attribution;
    struct scope *scope;       // NULL: no budget or limit was ever set for this key
    struct key_policy *policy; // NULL: it has nothing of this kind
    char public_id[CH_WRAPPED_KEY_ID];
    unsigned char salt[CH_WRAPPED_KEY_SALT], hash[CH_WRAPPED_KEY_HASH];
    uint8_t status, provider_count, name_len;
    uint16_t models_len;
    char data[] __attribute__((aligned(8)));
};

static inline int64_t key_record_provider(const struct key_record *key, unsigned i)
{
    int64_t id;
    memcpy(&id, key->data + i * sizeof id, sizeof id);
    return id;
}
static inline struct ch_span key_record_name(const struct key_record *key)
{
    return (struct ch_span){key->data + key->provider_count * sizeof(int64_t), key->name_len};
}
static inline struct ch_span key_record_models(const struct key_record *key)
{
    struct ch_span name = key_record_name(key);
    return (struct ch_span){name.ptr + name.len, key->models_len};
}

// The scopes that an exchange of this key with this provider falls under, most special first.
// `attribution`: the key's own, or the one that the exchange was admitted with.
#define SCOPES_MAX CH_BUDGET_SCOPES
unsigned registry_scopes(const struct ch_registry *registry, const struct key_record *key,
                         const struct attribution *attribution,
                         const struct provider_record *provider, struct scope *out[SCOPES_MAX]);
struct ch_learned *registry_learned(const struct ch_registry *registry);
// Counts the changes of budgets: equal at both ends of an exchange, none has come or gone.
unsigned registry_budget_epoch(const struct ch_registry *registry);
// Tells of thresholds that were reached by an exchange admitted then.
void registry_tell(const struct ch_registry *registry, const struct scope_budget *budget,
                   const struct ch_budget_thresholds *fired, int64_t admitted_ms);
// The dearest way in which `price` of the catalogue in force can bill; made at the first call for
// it. NULL: it has none, or there is no memory.
const struct ch_price_bound *registry_price_bound(const struct ch_registry *registry,
                                                  const struct ch_price *price);

// Whether bodies are captured of any key or team, and of this key.
bool registry_captures_any(const struct ch_registry *registry);
bool registry_captures(const struct key_record *key);

// NULL: owners are not kept.
struct object_table *registry_objects(const struct ch_registry *registry);
// Whether what belongs to `owner` is `other`'s too. A key keeps what it made wherever it is moved.
bool registry_is_owner(enum ch_objects choice, const struct object_owner *owner,
                       const struct object_owner *other);
// Whether the provider's account is used by more owners than one.
bool registry_has_tenants(const struct provider_record *provider);

// Finds by public id and compares the salted hash of `token` in constant time; an unknown id costs
// the same work. NULL unless both fit. Says nothing about status or expiry. `is_previous_out`: by
// the secret that a rotation replaced, whose grace is not over.
const struct key_record *registry_verify(const struct ch_registry *registry,
                                         struct ch_span public_id, struct ch_span token,
                                         bool *is_previous_out);
const struct key_record *registry_find(const struct ch_registry *registry,
                                       struct ch_span public_id);
// NULL when there is none with that id. Borrowed for the turn.
struct provider_record *registry_provider(const struct ch_registry *registry, int64_t id);
void provider_ref(struct provider_record *provider);
void provider_unref(struct provider_record *provider); // NULL is fine

#endif
