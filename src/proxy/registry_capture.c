// SPDX-License-Identifier: Apache-2.0
// Whose bodies are captured: a mark at the scope of a key or a team.
#include "registry_state.h"

#include "store/capture_scope.h"

static enum ch_err set(struct ch_registry *registry, const struct ch_capture_scope *row, bool is_on)
{
    bool is_key = row->scope == CH_BUDGET_OF_KEY;
    struct ch_span subject = is_key ? CH_SPAN("") : ch_span_of(row->subject);
    struct scope *scope = is_on ? scopes_make(registry->scopes, row->scope, row->key_id, subject)
                                : scopes_find(registry->scopes, row->scope, row->key_id, subject);
    if (!scope)
        return is_on ? CH_ERR_NOMEM : CH_OK;
    if (atomic_exchange(&scope->is_captured, is_on) != is_on)
        atomic_fetch_add(&registry->captured_count, is_on ? 1 : -1);
    return is_on && is_key ? registry_link_key(registry, scope) : CH_OK;
}

enum ch_err ch_registry_set_capture(struct ch_registry *registry,
                                    const struct ch_capture_scope *row, bool is_on)
{
    enum ch_err err = set(registry, row, is_on);
    registry_wait_for_loops(registry);
    return err;
}

static enum ch_err load(void *arg, const struct ch_capture_scope *row)
{
    return set(arg, row, true);
}

enum ch_err registry_load_captures(struct ch_registry *registry, struct ch_db *db,
                                   struct ch_why *why)
{
    return ch_capture_scope_each(db, load, registry, why);
}

bool registry_captures_any(const struct ch_registry *registry)
{
    return atomic_load_explicit(&registry->captured_count, memory_order_relaxed) > 0;
}

static bool is_captured(const struct scope *scope)
{
    return scope && atomic_load_explicit(&scope->is_captured, memory_order_relaxed);
}

bool registry_captures(const struct key_record *key)
{
    return is_captured(key->scope) || is_captured(key->attribution->team);
}
