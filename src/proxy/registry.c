// SPDX-License-Identifier: Apache-2.0
#include "proxy/registry.h"

#include "registry_state.h"

#include "base/clock.h"
#include "base/secret.h"
#include "wire/url.h"

#include <stdio.h>
#include <time.h>

#define TABLE_MIN      1024 // slots of the key table, a power of two
#define BOUND_PROBES   8    // places looked at for one price
#define BARRIER_WAIT_S 30   // a loop that takes longer for one turn is stuck

struct key_table {
    size_t size;         // a power of two
    _Atomic size_t used; // at most half; read by any thread for the count
    _Atomic(struct key_record *) slots[];
};

// ---- the barrier

// Its deadline is one of the monotonic clock: a wall clock that is set meanwhile makes no loop
// stuck.
static void init_barrier(struct ch_registry *registry)
{
    pthread_mutex_init(&registry->barrier_lock, NULL);
    ch_clock_condition_init(&registry->barrier_passed);
}

static void pass_barrier(void *arg)
{
    struct ch_registry *registry = arg;
    pthread_mutex_lock(&registry->barrier_lock);
    if (--registry->barrier_left == 0)
        pthread_cond_signal(&registry->barrier_passed);
    pthread_mutex_unlock(&registry->barrier_lock);
}

// Records are only used within a turn, and letters are read between callbacks of a turn that began
// after the post: when every loop has answered, none holds a record it found before.
void registry_wait_for_loops(struct ch_registry *registry)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += BARRIER_WAIT_S;
    pthread_mutex_lock(&registry->barrier_lock);
    registry->barrier_left = registry->loop_count;
    pthread_mutex_unlock(&registry->barrier_lock);
    for (unsigned i = 0; i < registry->loop_count; i++)
        CH_ASSERT(ch_loop_post(registry->loops[i], pass_barrier, registry) == CH_OK);
    pthread_mutex_lock(&registry->barrier_lock);
    while (registry->barrier_left)
        CH_ASSERT(pthread_cond_timedwait(&registry->barrier_passed, &registry->barrier_lock,
                                         &deadline) == 0);
    pthread_mutex_unlock(&registry->barrier_lock);
}

// ---- keys

static size_t slot_of(const struct key_table *table, const char *public_id)
{
    // Ids of stored keys are uniformly random, so a multiplicative mix of eight of their bytes
    // spreads them; look-ups of made-up ids end at the first free slot, and at most half are used.
    uint64_t mixed;
    memcpy(&mixed, public_id + CH_WRAPPED_KEY_ID - sizeof mixed, sizeof mixed);
    mixed *= UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(mixed >> 32) & (table->size - 1);
}

static struct key_table *new_table(size_t size)
{
    struct key_table *table =
        ch_zcalloc(1, sizeof *table + size * sizeof(_Atomic(struct key_record *)));
    if (table)
        table->size = size;
    return table;
}

static _Atomic(struct key_record *) *find_slot(struct key_table *table, const char *public_id)
{
    for (size_t i = slot_of(table, public_id);; i = (i + 1) & (table->size - 1)) {
        struct key_record *key = atomic_load_explicit(&table->slots[i], memory_order_acquire);
        if (!key || memcmp(key->public_id, public_id, CH_WRAPPED_KEY_ID) == 0)
            return &table->slots[i];
    }
}

const struct key_record *registry_find(const struct ch_registry *registry, struct ch_span public_id)
{
    struct key_table *table = atomic_load_explicit(&registry->keys, memory_order_acquire);
    CH_ASSERT(public_id.len == CH_WRAPPED_KEY_ID);
    return atomic_load_explicit(find_slot(table, public_id.ptr), memory_order_acquire);
}

// The secret that a rotation replaced counts until its grace is over. Only a key that was rotated
// costs a second hash: whether one was is no secret.
static bool is_previous(const struct ch_registry *registry, const struct key_record *key,
                        struct ch_span token)
{
    const struct key_policy *policy = key ? key->policy : NULL;
    unsigned char hash[CH_WRAPPED_KEY_HASH];
    if (!policy || ch_clock_wall_ms() >= policy->previous_expires_at_ms)
        return false;
    ch_wrapped_key_hash((const unsigned char *)ch_secret_reveal(registry->pepper).ptr,
                        policy->previous_salt, token, hash);
    return ch_secret_equal(hash, policy->previous_hash, sizeof hash);
}

const struct key_record *registry_verify(const struct ch_registry *registry,
                                         struct ch_span public_id, struct ch_span token,
                                         bool *is_previous_out)
{
    static const unsigned char no_salt[CH_WRAPPED_KEY_SALT], no_hash[CH_WRAPPED_KEY_HASH];
    const struct key_record *key = registry_find(registry, public_id);
    unsigned char hash[CH_WRAPPED_KEY_HASH];
    const unsigned char *pepper = (const unsigned char *)ch_secret_reveal(registry->pepper).ptr;
    ch_wrapped_key_hash(pepper, key ? key->salt : no_salt, token, hash);
    int is_equal = ch_secret_equal(hash, key ? key->hash : no_hash, sizeof hash);
    *is_previous_out = !(key && is_equal) && is_previous(registry, key, token);
    return (key && is_equal) || *is_previous_out ? key : NULL;
}

static char *put_span(char *at, struct ch_span *span, const char *text)
{
    size_t len = strlen(text);
    memcpy(at, text, len);
    *span = (struct ch_span){at, len};
    return at + len;
}

static bool has_policy(const struct ch_key_row *row)
{
    return row->deny_models[0] || row->model_map[0] || row->allow_cidrs[0] || row->models_shadow ||
           row->budget_status || row->on_client_abort != CH_ON_CLIENT_ABORT_CANCEL ||
           row->unknown_model.choice != CH_UNKNOWN_MODEL_DEFAULT || row->previous_expires_at_ms;
}

static enum ch_err parse_cidrs(const struct ch_key_row *row, struct ch_cidr_list **list_out)
{
    struct ch_why why;
    struct ch_cidr_list *list = ch_zmalloc(sizeof *list);
    enum ch_err err =
        list ? ch_cidr_list_parse(ch_span_of(row->allow_cidrs), list, &why) : CH_ERR_NOMEM;
    // Few keys have many networks: only those that there are stay.
    struct ch_cidr_list *kept =
        err ? NULL
            : ch_zmalloc(sizeof *kept - (CH_CIDR_MAX - list->count) * sizeof *kept->networks);
    if (kept) {
        kept->count = list->count;
        memcpy(kept->networks, list->networks, list->count * sizeof *kept->networks);
    }
    ch_zfree(list);
    *list_out = kept;
    return err ? err : kept ? CH_OK : CH_ERR_NOMEM;
}

static void free_policy(struct key_policy *policy)
{
    if (policy)
        ch_zfree(policy->allow_cidrs);
    ch_zfree(policy);
}

static enum ch_err make_policy(const struct ch_key_row *row, struct key_policy **policy_out)
{
    *policy_out = NULL;
    if (!has_policy(row))
        return CH_OK;
    size_t texts = strlen(row->deny_models) + strlen(row->model_map);
    struct key_policy *policy = ch_zmalloc(sizeof *policy + texts);
    if (!policy)
        return CH_ERR_NOMEM;
    *policy = (struct key_policy){
        .models_are_shadow = row->models_shadow,
        .drains_on_abort = row->on_client_abort == CH_ON_CLIENT_ABORT_DRAIN,
        .budget_status = row->budget_status,
        .unknown_model = row->unknown_model,
        .previous_expires_at_ms = row->previous_expires_at_ms,
    };
    memcpy(policy->previous_salt, row->previous_salt, sizeof policy->previous_salt);
    memcpy(policy->previous_hash, row->previous_hash, sizeof policy->previous_hash);
    char *at = put_span(policy->texts, &policy->deny_models, row->deny_models);
    put_span(at, &policy->model_map, row->model_map);
    enum ch_err err = row->allow_cidrs[0] ? parse_cidrs(row, &policy->allow_cidrs) : CH_OK;
    if (err)
        free_policy(policy);
    else
        *policy_out = policy;
    return err;
}

static void free_key(struct key_record *key)
{
    if (key)
        free_policy(key->policy);
    ch_zfree(key);
}

// A key that has limits of its own has a scope; one that has budgets got it when they came.
static struct scope *scope_of(struct ch_registry *registry, const struct ch_key_row *row)
{
    return ch_rate_limits_are_set(&row->limits)
               ? scopes_make(registry->scopes, CH_BUDGET_OF_KEY, row->id, CH_SPAN(""))
               : scopes_find(registry->scopes, CH_BUDGET_OF_KEY, row->id, CH_SPAN(""));
}

static struct key_record *make_key(struct ch_registry *registry, const struct ch_key_row *row)
{
    size_t name_len = strlen(row->name), models_len = strlen(row->models);
    size_t ids = row->provider_count * sizeof(int64_t);
    struct key_record *key = ch_zmalloc(sizeof *key + ids + name_len + models_len);
    if (!key)
        return NULL;
    *key = (struct key_record){
        .id = row->id,
        .attribution = scopes_attribution(registry->scopes, row->attribution_id,
                                          ch_span_of(row->team), ch_span_of(row->project)),
        .scope = scope_of(registry, row),
        .expires_at_ms = row->expires_at_ms,
        .status = (uint8_t)row->status,
        .provider_count = (uint8_t)row->provider_count,
        .name_len = (uint8_t)name_len,
        .models_len = (uint16_t)models_len};
    memcpy(key->public_id, row->public_id, sizeof key->public_id);
    memcpy(key->salt, row->salt, sizeof key->salt);
    memcpy(key->hash, row->hash, sizeof key->hash);
    memcpy(key->data, row->provider_ids, ids);
    memcpy(key->data + ids, row->name, name_len);
    memcpy(key->data + ids + name_len, row->models, models_len);
    if (!key->attribution || make_policy(row, &key->policy)) {
        ch_zfree(key);
        return NULL;
    }
    return key;
}

static enum ch_err grow(struct ch_registry *registry)
{
    struct key_table *old = atomic_load_explicit(&registry->keys, memory_order_relaxed);
    struct key_table *table = new_table(old->size * 2);
    if (!table)
        return CH_ERR_NOMEM;
    for (size_t i = 0; i < old->size; i++) {
        struct key_record *key = atomic_load_explicit(&old->slots[i], memory_order_relaxed);
        if (key)
            atomic_store_explicit(find_slot(table, key->public_id), key, memory_order_relaxed);
    }
    atomic_store(&table->used, atomic_load(&old->used));
    atomic_store_explicit(&registry->keys, table, memory_order_release);
    registry_wait_for_loops(registry);
    ch_zfree(old);
    return CH_OK;
}

enum ch_err ch_registry_put_key(struct ch_registry *registry, const struct ch_key_row *row)
{
    struct key_table *table = atomic_load_explicit(&registry->keys, memory_order_relaxed);
    if ((atomic_load(&table->used) + 1) * 2 > table->size) {
        enum ch_err err = grow(registry);
        if (err)
            return err;
        table = atomic_load_explicit(&registry->keys, memory_order_relaxed);
    }
    struct key_record *key = make_key(registry, row);
    if (!key)
        return CH_ERR_NOMEM;
    if (key->scope && registry_set_limits(registry, key->scope, &row->limits, row->limits_shadow)) {
        free_key(key);
        return CH_ERR_NOMEM;
    }
    registry_note_tenant(registry, key);
    _Atomic(struct key_record *) *slot = find_slot(table, row->public_id);
    struct key_record *old = atomic_exchange_explicit(slot, key, memory_order_acq_rel);
    atomic_fetch_add(&table->used, !old);
    registry_wait_for_loops(registry);
    free_key(old);
    return CH_OK;
}

static size_t size_of(const struct key_record *key)
{
    return sizeof *key + key->provider_count * sizeof(int64_t) + key->name_len + key->models_len;
}

enum ch_err registry_link_key(struct ch_registry *registry, struct scope *scope)
{
    struct key_table *table = atomic_load_explicit(&registry->keys, memory_order_relaxed);
    for (size_t i = 0; i < table->size; i++) {
        struct key_record *old = atomic_load_explicit(&table->slots[i], memory_order_relaxed);
        if (!old || old->id != scope->subject_id || old->scope == scope)
            continue;
        struct key_record *key = ch_zmalloc(size_of(old));
        if (!key)
            return CH_ERR_NOMEM;
        memcpy(key, old, size_of(old)); // the policy moves with it
        key->scope = scope;
        atomic_store_explicit(&table->slots[i], key, memory_order_release);
        registry_wait_for_loops(registry);
        ch_zfree(old);
        break;
    }
    return CH_OK;
}

size_t ch_registry_key_count(const struct ch_registry *registry)
{
    return atomic_load(&atomic_load_explicit(&registry->keys, memory_order_acquire)->used);
}

// ---- providers

void provider_ref(struct provider_record *provider)
{
    atomic_fetch_add_explicit(&provider->refs, 1, memory_order_relaxed);
}

void provider_unref(struct provider_record *provider)
{
    if (provider && atomic_fetch_sub_explicit(&provider->refs, 1, memory_order_acq_rel) == 1)
        ch_zfree(provider);
}

struct provider_record *registry_provider(const struct ch_registry *registry, int64_t id)
{
    int count = atomic_load_explicit(&registry->provider_count, memory_order_acquire);
    for (int i = 0; i < count; i++) {
        struct provider_record *provider =
            atomic_load_explicit(&registry->providers[i], memory_order_acquire);
        if (provider && provider->row.id == id)
            return provider;
    }
    return NULL;
}

static enum ch_err fill_target(struct provider_record *provider, int64_t target_id)
{
    struct ch_url url;
    struct ch_span text = ch_span_of(provider->row.base_url);
    enum ch_err err = ch_url_parse(text, &url, NULL);
    if (err)
        return err;
    provider->target = (struct ch_upstream_target){
        .id = target_id, .group = provider->row.id, .port = url.port, .tls = url.tls};
    if (!ch_span_copy(url.host, provider->target.host, sizeof provider->target.host))
        return CH_ERR_INVALID;
    ch_span_copy(ch_span_of(provider->row.name), provider->target.name,
                 sizeof provider->target.name);
    provider->base_path = url.path;
    const char *authority = strstr(text.ptr, "://") + 3;
    provider->host_field = (struct ch_span){authority, strcspn(authority, "/")};
    provider->price_prefix = ch_span_of(ch_provider_price_prefix(provider->row.type, text));
    provider->us_region = ch_span_ieq(url.host, CH_SPAN("us.api.openai.com"));
    provider->eu_region = ch_span_ieq(url.host, CH_SPAN("eu.api.openai.com"));
    provider->reasoning_is_outside = ch_span_eq(provider->price_prefix, CH_SPAN("xai/"));
    return CH_OK;
}

enum ch_err ch_registry_put_provider(struct ch_registry *registry,
                                     const struct ch_provider_row *row)
{
    struct provider_record *provider = ch_zcalloc(1, sizeof *provider);
    if (!provider)
        return CH_ERR_NOMEM;
    provider->refs = 1;
    provider->enabled = row->enabled;
    provider->row = *row;
    provider->scope = scopes_make(registry->scopes, CH_BUDGET_OF_PROVIDER, row->id, CH_SPAN(""));
    provider->tenancy = registry_tenancy(registry, row->id);
    enum ch_err err = !provider->scope ? CH_ERR_NOMEM : provider->tenancy ? CH_OK : CH_ERR_LIMIT;
    if (!err)
        err = fill_target(provider, ++registry->next_target_id);
    int place = 0, count = atomic_load_explicit(&registry->provider_count, memory_order_relaxed);
    struct provider_record *old = NULL;
    for (; place < count; place++) {
        old = atomic_load_explicit(&registry->providers[place], memory_order_relaxed);
        if (!old || old->row.id == row->id)
            break;
    }
    if (!err && place == PROVIDERS_MAX)
        err = CH_ERR_LIMIT;
    if (err) {
        ch_zfree(provider);
        return err;
    }
    old = atomic_exchange_explicit(&registry->providers[place], provider, memory_order_acq_rel);
    if (place == count)
        atomic_store_explicit(&registry->provider_count, count + 1, memory_order_release);
    registry_wait_for_loops(registry);
    provider_unref(old);
    return CH_OK;
}

void ch_registry_drop_provider(struct ch_registry *registry, int64_t provider_id)
{
    int count = atomic_load_explicit(&registry->provider_count, memory_order_relaxed);
    for (int i = 0; i < count; i++) {
        struct provider_record *provider =
            atomic_load_explicit(&registry->providers[i], memory_order_relaxed);
        if (!provider || provider->row.id != provider_id)
            continue;
        atomic_store_explicit(&registry->providers[i], NULL, memory_order_release);
        registry_wait_for_loops(registry);
        registry_drop_tenancy(registry, provider_id);
        provider_unref(provider);
        return;
    }
}

// ---- the whole

static void free_bounds(struct price_bounds *bounds)
{
    for (size_t i = 0; bounds && i < BOUND_PLACES; i++)
        ch_zfree(atomic_load_explicit(&bounds->places[i], memory_order_relaxed));
    ch_zfree(bounds);
}

// Without memory for the new bounds there are none: they are then made for each exchange.
void ch_registry_set_catalogue(struct ch_registry *registry, struct ch_catalogue *catalogue)
{
    struct price_bounds *bounds = ch_zcalloc(1, sizeof *bounds);
    struct ch_catalogue *old =
        atomic_exchange_explicit(&registry->catalogue, catalogue, memory_order_acq_rel);
    struct price_bounds *old_bounds =
        atomic_exchange_explicit(&registry->bounds, bounds, memory_order_acq_rel);
    registry_wait_for_loops(registry);
    ch_catalogue_free(old);
    free_bounds(old_bounds);
}

// Loops read the two pointers one after the other, so a bound may be made for a price of the
// catalogue that is just leaving; the price is compared, and both stay until the loops have moved
// on.
const struct ch_price_bound *registry_price_bound(const struct ch_registry *registry,
                                                  const struct ch_price *price)
{
    struct price_bounds *bounds = atomic_load_explicit(&registry->bounds, memory_order_acquire);
    size_t first = ((uintptr_t)price * UINT64_C(0x9E3779B97F4A7C15)) >> 40;
    struct ch_price_bound *made = NULL;
    for (size_t i = 0; bounds && i < BOUND_PROBES; i++) {
        _Atomic(struct ch_price_bound *) *place = &bounds->places[(first + i) & (BOUND_PLACES - 1)];
        struct ch_price_bound *bound = atomic_load_explicit(place, memory_order_acquire);
        if (!bound) {
            if (!made &&
                (!(made = ch_zcalloc(1, sizeof *made)) || ch_price_bound_init(made, price)))
                break;
            if (atomic_compare_exchange_strong(place, &bound, made))
                return made;
        }
        if (bound->price == price) {
            ch_zfree(made);
            return bound;
        }
    }
    ch_zfree(made);
    return NULL;
}

const struct ch_catalogue *ch_registry_catalogue(const struct ch_registry *registry)
{
    return atomic_load_explicit(&registry->catalogue, memory_order_acquire);
}

enum ch_err ch_registry_new(const struct ch_secret *pepper, struct ch_catalogue *catalogue,
                            struct ch_registry **registry_out)
{
    struct ch_registry *registry = ch_zcalloc(1, sizeof *registry);
    if (!registry)
        return CH_ERR_NOMEM;
    struct key_table *table = new_table(TABLE_MIN);
    struct price_bounds *bounds = ch_zcalloc(1, sizeof *bounds);
    registry->pepper = pepper;
    atomic_init(&registry->keys, table);
    atomic_init(&registry->bounds, bounds);
    init_barrier(registry);
    enum ch_err err = table && bounds ? scopes_new(&registry->scopes) : CH_ERR_NOMEM;
    if (!err)
        err = ch_learned_new(&registry->learned);
    if (!err) {
        registry->all = scopes_make(registry->scopes, CH_BUDGET_OF_ALL, 0, CH_SPAN(""));
        err = registry->all ? CH_OK : CH_ERR_NOMEM;
    }
    if (err) {
        ch_registry_free(registry);
        return err;
    }
    atomic_init(&registry->catalogue, catalogue);
    *registry_out = registry;
    return CH_OK;
}

void ch_registry_free(struct ch_registry *registry)
{
    if (!registry)
        return;
    struct key_table *table = atomic_load_explicit(&registry->keys, memory_order_acquire);
    for (size_t i = 0; table && i < table->size; i++)
        free_key(atomic_load_explicit(&table->slots[i], memory_order_relaxed));
    ch_zfree(table);
    for (int i = 0; i < atomic_load(&registry->provider_count); i++)
        provider_unref(atomic_load(&registry->providers[i]));
    ch_catalogue_free(atomic_load(&registry->catalogue));
    free_bounds(atomic_load(&registry->bounds));
    ch_learned_free(registry->learned);
    object_table_free(registry->objects);
    scopes_free(registry->scopes);
    pthread_cond_destroy(&registry->barrier_passed);
    pthread_mutex_destroy(&registry->barrier_lock);
    ch_zfree(registry);
}

void ch_registry_set_loops(struct ch_registry *registry, struct ch_loop *const *loops,
                           unsigned count)
{
    registry->loops = loops;
    registry->loop_count = count;
}

static enum ch_err load_provider(void *arg, const struct ch_provider_row *row)
{
    return ch_registry_put_provider(arg, row);
}

static enum ch_err load_key(void *arg, const struct ch_key_row *row)
{
    return ch_registry_put_key(arg, row);
}

// Budgets and captures first: a key finds the scope that they made.
static enum ch_err load_rows(struct ch_db *db, void *arg, struct ch_why *why)
{
    enum ch_err err = registry_load_budgets(arg, db, why);
    if (!err)
        err = registry_load_captures(arg, db, why);
    if (!err)
        err = ch_provider_each(db, load_provider, arg, why);
    if (!err)
        err = ch_key_each(db, load_key, arg, why);
    return err ? err : registry_load_objects(arg, db, why);
}

enum ch_err ch_registry_load(struct ch_registry *registry, struct ch_store *store,
                             struct ch_why *why)
{
    enum ch_err err = ch_store_read(store, load_rows, registry, why);
    registry->is_loaded = !err;
    return err;
}
