// SPDX-License-Identifier: Apache-2.0
// Scopes: the keys, teams, projects and providers that budgets and rate limits hang on, and the
// one that is all of them.
//
// A scope lives as long as the registry, so that its counters survive every edit; what applies to
// it (its terms) is an immutable record that is swapped. Loops come by pointers from the records of
// keys and providers; finding and making is the business of the one thread that changes the
// registry.
#ifndef CH_PROXY_SCOPE_H
#define CH_PROXY_SCOPE_H

#include "domain/budget.h"
#include "domain/rate_limit.h"
#include "domain/time_zone.h"

#include <stdatomic.h>

// One budget. Lives as long as the registry too: exchanges in flight hold parts of it after it was
// deleted.
struct scope_budget {
    struct scope_budget *next; // of all
    struct ch_budget *budget;
    struct ch_time_zone *zone; // NULL: UTC
    char zone_name[CH_TIME_ZONE_NAME_MAX + 1];
    struct scope *owner;
    int64_t id; // its row
    enum ch_budget_scope scope;
    enum ch_budget_period period;
    _Atomic bool is_shadow;
    _Atomic bool cuts_streams;
    _Atomic enum ch_budget_mode mode; // as set; a shadow's counter is kept as `soft`
    // Exchanges with lower ids began before loops knew of it; what they were charged with is
    // counted apart, so that it can be told from what the usage rows say (registry_budget.c).
    _Atomic int64_t since_id;
    _Atomic int64_t early_nano_usd;
};

// Immutable; one budget a period.
struct scope_terms {
    struct ch_rate_limits limits;
    bool limits_are_shadow;
    uint8_t budget_count;
    struct scope_budget *budgets[CH_BUDGET_PERIODS];
};

struct scope {
    struct scope *next; // in its bucket
    enum ch_budget_scope kind;
    int64_t subject_id; // of a key or a provider
    struct ch_rate_counters counters;
    _Atomic bool is_captured;            // its exchanges' bodies, see registry_capture.c
    _Atomic(struct scope_terms *) terms; // NULL: nothing applies
    char subject[];                      // of a team or a project
};

// Who pays: what a row of `attributions` means to the gate.
struct attribution {
    int64_t id;
    struct scope *team, *project; // NULL where the key has none
};

static inline const struct scope_terms *scope_terms(const struct scope *scope)
{
    return scope ? atomic_load_explicit(&scope->terms, memory_order_acquire) : NULL;
}

// ---- the changing thread's side

struct scopes;

enum ch_err scopes_new(struct scopes **scopes_out) CH_MUST_USE;
void scopes_free(struct scopes *scopes); // with everything in it

// `subject_id` counts for keys and providers, `subject` for teams and projects. NULL: there is
// none, or (make) no memory.
struct scope *scopes_find(const struct scopes *scopes, enum ch_budget_scope kind,
                          int64_t subject_id, struct ch_span subject);
struct scope *scopes_make(struct scopes *scopes, enum ch_budget_scope kind, int64_t subject_id,
                          struct ch_span subject);
// NULL: no memory.
const struct attribution *scopes_attribution(struct scopes *scopes, int64_t id, struct ch_span team,
                                             struct ch_span project);

// Keeps a budget until the end. Takes it.
void scopes_keep(struct scopes *scopes, struct scope_budget *budget);
// The one with that row, deleted ones left out; NULL.
struct scope_budget *scopes_budget(const struct scopes *scopes, int64_t id);

#endif
