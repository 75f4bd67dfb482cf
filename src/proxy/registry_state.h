// SPDX-License-Identifier: Apache-2.0
// What the files of the registry share: registry.c (records), registry_budget.c (budgets, limits).
#ifndef CH_PROXY_REGISTRY_STATE_H
#define CH_PROXY_REGISTRY_STATE_H

#include "registry_private.h"

#include <pthread.h>

#define PROVIDERS_MAX 1024 // providers of one installation

// Whether the keys of a provider are of more owners than one. `many` has a bit per enum ch_objects,
// and never loses one while the provider is there.
struct tenancy {
    int64_t provider_id;       // 0: free
    struct object_owner first; // of the keys seen; no attribution: there is none
    _Atomic unsigned many;
};

struct key_table;

// The dearest ways to bill, by the address of the price; for one catalogue.
#define BOUND_PLACES 1024 // a power of two; a price that finds no place near its own is made anew
struct price_bounds {
    _Atomic(struct ch_price_bound *) places[BOUND_PLACES];
};

struct ch_registry {
    const struct ch_secret *pepper;
    _Atomic(struct key_table *) keys;
    _Atomic(struct provider_record *) providers[PROVIDERS_MAX]; // by place; ids are looked up
    _Atomic int provider_count;
    _Atomic(struct ch_catalogue *) catalogue;
    _Atomic(struct price_bounds *) bounds; // of that catalogue
    int64_t next_target_id;
    struct object_table *objects; // NULL: owners are not kept
    size_t object_limit;
    struct tenancy tenancies[PROVIDERS_MAX]; // of providers that exist or were named
    unsigned tenancy_count;                  // places that were ever in use
    bool is_loaded;                          // what comes now is news

    struct scopes *scopes;
    struct scope *all; // the scope of CH_BUDGET_OF_ALL
    struct ch_learned *learned;
    _Atomic unsigned budget_epoch;
    _Atomic int captured_count; // scopes whose bodies are captured
    ch_budget_alert_fn on_alert;
    void *on_alert_arg;

    struct ch_loop *const *loops;
    unsigned loop_count;
    pthread_mutex_t barrier_lock; // guards barrier_left
    pthread_cond_t barrier_passed;
    unsigned barrier_left;
};

// Returns when no loop holds a record any more that it found before the call.
void registry_wait_for_loops(struct ch_registry *registry);
// Gives the record of a key, wherever it stands, its scope, and puts the new record in force. Not
// found: CH_OK, the scope waits for the key.
enum ch_err registry_link_key(struct ch_registry *registry, struct scope *scope) CH_MUST_USE;
// Sets what applies to a scope. Takes `terms`; NULL: nothing.
void registry_set_terms(struct ch_registry *registry, struct scope *scope,
                        struct scope_terms *terms);
// Sets the limits of a scope, which keeps its budgets.
enum ch_err registry_set_limits(struct ch_registry *registry, struct scope *scope,
                                const struct ch_rate_limits *limits, bool is_shadow) CH_MUST_USE;
// Before the loops run.
enum ch_err registry_load_budgets(struct ch_registry *registry, struct ch_db *db,
                                  struct ch_why *why) CH_MUST_USE;
enum ch_err registry_load_captures(struct ch_registry *registry, struct ch_db *db,
                                   struct ch_why *why) CH_MUST_USE;

// What is known of the provider's tenants; made at the first call. NULL: no room.
struct tenancy *registry_tenancy(struct ch_registry *registry, int64_t provider_id);
// The provider is gone, and no key names it. After the barrier: who still holds its record asks for
// no owner any more.
void registry_drop_tenancy(struct ch_registry *registry, int64_t provider_id);
// The key is about to be in force.
void registry_note_tenant(struct ch_registry *registry, const struct key_record *key);
enum ch_err registry_load_objects(struct ch_registry *registry, struct ch_db *db,
                                  struct ch_why *why) CH_MUST_USE;

#endif
