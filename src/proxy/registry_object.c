// SPDX-License-Identifier: Apache-2.0
// Whose the objects are that providers keep, and whether an account has more owners than one:
// docs/design/008-object-owners.md.
#include "registry_state.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "store/object_store.h"

#include <assert.h>
#include <sodium.h>

static bool same_scope(const struct scope *a, const struct scope *b)
{
    return a && a == b;
}

// By the name that was chosen; where neither key has one, by the other. Names of projects are not
// unique: a project is one of its team.
static bool share(const struct attribution *a, const struct attribution *b, bool by_team)
{
    if (by_team && (a->team || b->team))
        return same_scope(a->team, b->team);
    if (a->project || b->project)
        return same_scope(a->project, b->project) && a->team == b->team;
    return same_scope(a->team, b->team);
}

static bool are_one(enum ch_objects choice, const struct object_owner *a,
                    const struct object_owner *b)
{
    switch (choice) {
    case CH_OBJECTS_SHARED:
        return true;
    case CH_OBJECTS_KEY:
        return a->key_id == b->key_id;
    case CH_OBJECTS_TEAM:
    case CH_OBJECTS_PROJECT:
        return share(a->attribution, b->attribution, choice == CH_OBJECTS_TEAM);
    }
    return false;
}

bool registry_is_owner(enum ch_objects choice, const struct object_owner *owner,
                       const struct object_owner *other)
{
    return owner->key_id == other->key_id || are_one(choice, owner, other);
}

static struct tenancy *find_tenancy(struct ch_registry *registry, int64_t provider_id)
{
    for (unsigned i = 0; i < registry->tenancy_count; i++)
        if (registry->tenancies[i].provider_id == provider_id)
            return &registry->tenancies[i];
    return NULL;
}

struct tenancy *registry_tenancy(struct ch_registry *registry, int64_t provider_id)
{
    struct tenancy *tenancy = find_tenancy(registry, provider_id);
    if (!tenancy && !(tenancy = find_tenancy(registry, 0))) {
        if (registry->tenancy_count == PROVIDERS_MAX)
            return NULL;
        tenancy = &registry->tenancies[registry->tenancy_count++];
    }
    tenancy->provider_id = provider_id;
    return tenancy;
}

void registry_drop_tenancy(struct ch_registry *registry, int64_t provider_id)
{
    struct tenancy *tenancy = find_tenancy(registry, provider_id);
    if (!tenancy)
        return;
    tenancy->provider_id = 0;
    tenancy->first = (struct object_owner){0};
    atomic_store_explicit(&tenancy->many, 0, memory_order_relaxed);
}

static void note_owner(struct tenancy *tenancy, const struct object_owner *owner)
{
    unsigned many = atomic_load_explicit(&tenancy->many, memory_order_relaxed);
    bool is_alone = !(many & 1u << CH_OBJECTS_KEY) && tenancy->first.key_id == owner->key_id;
    if (!tenancy->first.attribution || is_alone) {
        tenancy->first = *owner;
        return;
    }
    for (unsigned choice = 0; choice < CH_OBJECTS_CHOICES; choice++)
        if (!are_one((enum ch_objects)choice, &tenancy->first, owner))
            many |= 1u << choice;
    atomic_store_explicit(&tenancy->many, many, memory_order_relaxed);
}

static bool is_shared(const struct tenancy *tenancy, enum ch_objects choice)
{
    return atomic_load_explicit(&tenancy->many, memory_order_relaxed) & 1u << choice;
}

// What worked until now may fail from now on.
static void tell_of_second_owner(const struct provider_record *provider)
{
    CH_LOG(CH_LOG_WARN, "objects_have_owners", ch_log_text("provider", provider->row.name),
           ch_log_text("objects", ch_objects_name(provider->row.objects)),
           ch_log_text("what", "keys of a second owner use this account: a request that refers to "
                               "an object which nobody is known to have made is a 404 from now "
                               "on; provider update NAME --objects shared turns that off"));
}

static void note_provider(struct ch_registry *registry, int64_t id,
                          const struct object_owner *owner)
{
    struct tenancy *tenancy = registry_tenancy(registry, id);
    const struct provider_record *provider = registry_provider(registry, id);
    if (!tenancy)
        return;
    bool was_shared = provider && is_shared(tenancy, provider->row.objects);
    note_owner(tenancy, owner);
    if (registry->is_loaded && provider && !was_shared && is_shared(tenancy, provider->row.objects))
        tell_of_second_owner(provider);
}

void registry_note_tenant(struct ch_registry *registry, const struct key_record *key)
{
    const struct object_owner owner = {key->id, key->attribution};
    if (key->status == CH_KEY_REVOKED ||
        (key->expires_at_ms && key->expires_at_ms <= ch_clock_wall_ms()))
        return;
    for (unsigned i = 0; i < key->provider_count; i++)
        note_provider(registry, key_record_provider(key, i), &owner);
}

bool registry_has_tenants(const struct provider_record *provider)
{
    return is_shared(provider->tenancy, provider->row.objects);
}

// ---- the table

// Derived from the pepper, so that hashes outlive the process and a stolen database alone tells
// nothing of the ids.
enum ch_err ch_registry_keep_objects(struct ch_registry *registry, size_t limit)
{
    static const char purpose[] = "chaperone objects";
    unsigned char key[OBJECT_KEY];
    struct ch_span pepper = ch_secret_reveal(registry->pepper);
    CH_ASSERT(!registry->objects);
    crypto_generichash(key, sizeof key, (const unsigned char *)purpose, sizeof purpose - 1,
                       (const unsigned char *)pepper.ptr, pepper.len);
    enum ch_err err = object_table_new(limit, key, &registry->objects);
    ch_wipe(key, sizeof key);
    if (!err)
        registry->object_limit = limit;
    return err;
}

int64_t ch_registry_objects_forgotten(const struct ch_registry *registry)
{
    return registry->objects ? object_table_forgotten(registry->objects) : 0;
}

struct object_table *registry_objects(const struct ch_registry *registry)
{
    return registry->objects;
}

static enum ch_err load_object(void *arg, const struct ch_object_row *row)
{
    struct ch_registry *registry = arg;
    struct object_owner owner = {
        .key_id = row->key_id,
        .attribution =
            scopes_attribution(registry->scopes, row->attribution_id, row->team, row->project)};
    if (!owner.attribution)
        return CH_ERR_NOMEM;
    if (row->seen_at_ms > 0)
        (void)object_table_add(registry->objects, row->hash, &owner, row->seen_at_ms);
    return CH_OK;
}

enum ch_err registry_load_objects(struct ch_registry *registry, struct ch_db *db,
                                  struct ch_why *why)
{
    if (!registry->objects)
        return CH_OK;
    return ch_object_each(db, ch_clock_wall_ms() - CH_OBJECT_MS, (int64_t)registry->object_limit,
                          load_object, registry, why);
}
