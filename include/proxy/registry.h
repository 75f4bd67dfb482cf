// SPDX-License-Identifier: Apache-2.0
// The registry: keys, providers and the catalogue in memory, as the loops see them.
//
// Records are immutable and replaced whole. A loop looks a record up inside one turn and takes a
// reference when it keeps it longer. A change swaps a pointer, then sends a barrier through every
// loop and waits: when the call returns, no loop can still decide by the old record, and the old
// one can be released. Lookups: loop threads. Changes: one thread at a time (admin), never a loop
// thread.
#ifndef CH_PROXY_REGISTRY_H
#define CH_PROXY_REGISTRY_H

#include "domain/catalogue.h"
#include "net/loop.h"
#include "store/key_store.h"

struct ch_registry;

// `pepper` is borrowed for the registry's life. `catalogue` is taken.
enum ch_err ch_registry_new(const struct ch_secret *pepper, struct ch_catalogue *catalogue,
                            struct ch_registry **registry_out) CH_MUST_USE;
void ch_registry_free(struct ch_registry *registry); // after the loops have stopped

// The loops that a change has to pass through. Before they run.
void ch_registry_set_loops(struct ch_registry *registry, struct ch_loop *const *loops,
                           unsigned count);
// Loads every provider and key.
enum ch_err ch_registry_load(struct ch_registry *registry, struct ch_store *store,
                             struct ch_why *why) CH_MUST_USE;

// Inserts or replaces; in force on every loop on return.
enum ch_err ch_registry_put_key(struct ch_registry *registry,
                                const struct ch_key_row *row) CH_MUST_USE;
enum ch_err ch_registry_put_provider(struct ch_registry *registry,
                                     const struct ch_provider_row *row) CH_MUST_USE;
void ch_registry_drop_provider(struct ch_registry *registry, int64_t provider_id);
void ch_registry_set_catalogue(struct ch_registry *registry,
                               struct ch_catalogue *catalogue); // takes

// The catalogue in force; for the admin thread, valid until its next change.
const struct ch_catalogue *ch_registry_catalogue(const struct ch_registry *registry);
size_t ch_registry_key_count(const struct ch_registry *registry);

#endif
