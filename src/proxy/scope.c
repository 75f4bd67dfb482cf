// SPDX-License-Identifier: Apache-2.0
#include "scope.h"

#include "base/secret.h"

#include <string.h>

#define BUCKETS_MIN 256 // a power of two

struct scopes {
    struct scope **buckets;
    size_t bucket_count, scope_count;
    struct attribution **attributions; // by id; open addressing, at most half full
    size_t attribution_places, attribution_count;
    struct scope_budget *budgets; // all that ever were
};

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 32;
}

static uint64_t hash_of(enum ch_budget_scope kind, int64_t subject_id, struct ch_span subject)
{
    uint64_t hash = mix((uint64_t)kind, (uint64_t)subject_id);
    for (size_t i = 0; i < subject.len; i++)
        hash = mix(hash, (unsigned char)subject.ptr[i]);
    return hash;
}

enum ch_err scopes_new(struct scopes **scopes_out)
{
    struct scopes *scopes = ch_zcalloc(1, sizeof *scopes);
    if (!scopes)
        return CH_ERR_NOMEM;
    scopes->bucket_count = scopes->attribution_places = BUCKETS_MIN;
    scopes->buckets = ch_zcalloc(BUCKETS_MIN, sizeof(struct scope *));
    scopes->attributions = ch_zcalloc(BUCKETS_MIN, sizeof(struct attribution *));
    if (!scopes->buckets || !scopes->attributions) {
        scopes_free(scopes);
        return CH_ERR_NOMEM;
    }
    *scopes_out = scopes;
    return CH_OK;
}

static void free_budgets(struct scope_budget *budget)
{
    while (budget) {
        struct scope_budget *next = budget->next;
        ch_budget_free(budget->budget);
        ch_time_zone_free(budget->zone);
        ch_zfree(budget);
        budget = next;
    }
}

void scopes_free(struct scopes *scopes)
{
    if (!scopes)
        return;
    for (size_t i = 0; scopes->buckets && i < scopes->bucket_count; i++)
        for (struct scope *scope = scopes->buckets[i], *next; scope; scope = next) {
            next = scope->next;
            ch_zfree(atomic_load(&scope->terms));
            ch_zfree(scope);
        }
    for (size_t i = 0; scopes->attributions && i < scopes->attribution_places; i++)
        ch_zfree(scopes->attributions[i]);
    free_budgets(scopes->budgets);
    ch_zfree(scopes->buckets);
    ch_zfree(scopes->attributions);
    ch_zfree(scopes);
}

// ---- scopes

static bool is_subject(const struct scope *scope, enum ch_budget_scope kind, int64_t subject_id,
                       struct ch_span subject)
{
    return scope->kind == kind && scope->subject_id == subject_id &&
           ch_span_eq(ch_span_of(scope->subject), subject);
}

struct scope *scopes_find(const struct scopes *scopes, enum ch_budget_scope kind,
                          int64_t subject_id, struct ch_span subject)
{
    size_t place = hash_of(kind, subject_id, subject) & (scopes->bucket_count - 1);
    struct scope *scope = scopes->buckets[place];
    while (scope && !is_subject(scope, kind, subject_id, subject))
        scope = scope->next;
    return scope;
}

static void put(struct scope **buckets, size_t count, struct scope *scope)
{
    size_t place =
        hash_of(scope->kind, scope->subject_id, ch_span_of(scope->subject)) & (count - 1);
    scope->next = buckets[place];
    buckets[place] = scope;
}

// Without memory the chains only grow longer.
static void grow(struct scopes *scopes)
{
    size_t count = scopes->bucket_count * 2;
    struct scope **buckets = ch_zcalloc(count, sizeof *buckets);
    if (!buckets)
        return;
    for (size_t i = 0; i < scopes->bucket_count; i++)
        for (struct scope *scope = scopes->buckets[i], *next; scope; scope = next) {
            next = scope->next;
            put(buckets, count, scope);
        }
    ch_zfree(scopes->buckets);
    scopes->buckets = buckets;
    scopes->bucket_count = count;
}

struct scope *scopes_make(struct scopes *scopes, enum ch_budget_scope kind, int64_t subject_id,
                          struct ch_span subject)
{
    struct scope *scope = scopes_find(scopes, kind, subject_id, subject);
    if (scope)
        return scope;
    scope = ch_zcalloc(1, sizeof *scope + subject.len + 1);
    if (!scope)
        return NULL;
    scope->kind = kind;
    scope->subject_id = subject_id;
    if (subject.len)
        memcpy(scope->subject, subject.ptr, subject.len);
    if (scopes->scope_count++ >= scopes->bucket_count)
        grow(scopes);
    put(scopes->buckets, scopes->bucket_count, scope);
    return scope;
}

// ---- attributions

static struct attribution **attribution_place(struct attribution **table, size_t places, int64_t id)
{
    size_t place = mix(0, (uint64_t)id) & (places - 1);
    while (table[place] && table[place]->id != id)
        place = (place + 1) & (places - 1);
    return &table[place];
}

static enum ch_err grow_attributions(struct scopes *scopes)
{
    size_t places = scopes->attribution_places * 2;
    struct attribution **table = ch_zcalloc(places, sizeof(struct attribution *));
    if (!table)
        return CH_ERR_NOMEM;
    for (size_t i = 0; i < scopes->attribution_places; i++)
        if (scopes->attributions[i])
            *attribution_place(table, places, scopes->attributions[i]->id) =
                scopes->attributions[i];
    ch_zfree(scopes->attributions);
    scopes->attributions = table;
    scopes->attribution_places = places;
    return CH_OK;
}

static enum ch_err fill(struct scopes *scopes, struct attribution *attribution, struct ch_span team,
                        struct ch_span project)
{
    if (team.len && !(attribution->team = scopes_make(scopes, CH_BUDGET_OF_TEAM, 0, team)))
        return CH_ERR_NOMEM;
    if (project.len &&
        !(attribution->project = scopes_make(scopes, CH_BUDGET_OF_PROJECT, 0, project)))
        return CH_ERR_NOMEM;
    return CH_OK;
}

const struct attribution *scopes_attribution(struct scopes *scopes, int64_t id, struct ch_span team,
                                             struct ch_span project)
{
    struct attribution **place =
        attribution_place(scopes->attributions, scopes->attribution_places, id);
    if (*place)
        return *place;
    if (scopes->attribution_count * 2 >= scopes->attribution_places) {
        if (grow_attributions(scopes))
            return NULL;
        place = attribution_place(scopes->attributions, scopes->attribution_places, id);
    }
    struct attribution *attribution = ch_zcalloc(1, sizeof *attribution);
    if (!attribution || fill(scopes, attribution, team, project)) {
        ch_zfree(attribution);
        return NULL;
    }
    attribution->id = id;
    scopes->attribution_count++;
    *place = attribution;
    return attribution;
}

// ---- budgets

void scopes_keep(struct scopes *scopes, struct scope_budget *budget)
{
    budget->next = scopes->budgets;
    scopes->budgets = budget;
}

struct scope_budget *scopes_budget(const struct scopes *scopes, int64_t id)
{
    struct scope_budget *budget = scopes->budgets;
    while (budget && budget->id != id)
        budget = budget->next;
    return budget;
}
