// SPDX-License-Identifier: Apache-2.0
// The registry: keys, providers, budgets, limits and the catalogue in memory, as the loops see
// them.
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
#include "store/budget_store.h"
#include "store/capture_scope.h"
#include "store/key_store.h"
#include "store/limit_store.h"

struct ch_registry;

// `pepper` is borrowed for the registry's life. `catalogue` is taken.
enum ch_err ch_registry_new(const struct ch_secret *pepper, struct ch_catalogue *catalogue,
                            struct ch_registry **registry_out) CH_MUST_USE;
void ch_registry_free(struct ch_registry *registry); // after the loops have stopped

// Owners of stored objects are kept, at most `limit` of them. Before the load; without it no
// reference to an object is checked.
enum ch_err ch_registry_keep_objects(struct ch_registry *registry, size_t limit) CH_MUST_USE;
// How many the limit cost since the start, each before its days were over. Any thread.
int64_t ch_registry_objects_forgotten(const struct ch_registry *registry);

// The loops that a change has to pass through. Before they run.
void ch_registry_set_loops(struct ch_registry *registry, struct ch_loop *const *loops,
                           unsigned count);
// Loads every budget, limit, provider and key. Before the loops run, after the journal's replay.
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

// Inserts or edits a budget. A new one counts from what the usage rows say of its present period,
// and misses or doubles no exchange that is in flight meanwhile; that takes about a tenth of a
// second. An edit keeps the counters, but for one of the time zone, which counts anew.
// CH_ERR_NOT_FOUND: this system does not know the time zone.
enum ch_err ch_registry_put_budget(struct ch_registry *registry, struct ch_store *store,
                                   const struct ch_budget_row *row, struct ch_why *why) CH_MUST_USE;
void ch_registry_drop_budget(struct ch_registry *registry, int64_t budget_id);

// A usage row that is written already costs another amount than it did.
struct ch_spend_correction {
    int64_t started_at_ms, key_id, provider_id;
    struct ch_span team, project; // "": none
    int64_t difference_nano_usd;
};
// The counters of every budget that the row counts for take the difference, those of past periods
// excepted.
void ch_registry_correct_spend(struct ch_registry *registry,
                               const struct ch_spend_correction *correction);
// Limits of zero: none. The limits of a key come with its row.
enum ch_err ch_registry_put_team_limits(struct ch_registry *registry,
                                        const struct ch_team_limits_row *row) CH_MUST_USE;
// Whether the bodies of a key's or a team's exchanges are captured although the configuration does
// not ask for everybody's.
enum ch_err ch_registry_set_capture(struct ch_registry *registry,
                                    const struct ch_capture_scope *row, bool is_on) CH_MUST_USE;
// The budget's counters as they are now; false: there is no such budget in force. The changing
// thread only.
bool ch_registry_look_budget(const struct ch_registry *registry, int64_t budget_id,
                             struct ch_budget_view *view_out);
// Reads a zone of the system's database by its IANA name; "UTC" gives NULL, which is UTC.
enum ch_err ch_registry_load_zone(const char *name, struct ch_time_zone **zone_out,
                                  struct ch_why *why) CH_MUST_USE;

// A threshold of a budget that settlement was the first of its period to reach. `on_alert` runs on
// loop threads, must not block, and is set before they run.
struct ch_budget_event {
    int64_t budget_id, period_start_ms, at_ms;
    int64_t spent_nano_usd, cap_nano_usd;
    unsigned percent;
};
typedef void (*ch_budget_alert_fn)(void *arg, const struct ch_budget_event *event);
void ch_registry_on_alert(struct ch_registry *registry, ch_budget_alert_fn on_alert, void *arg);

// The catalogue in force; for the admin thread, valid until its next change.
const struct ch_catalogue *ch_registry_catalogue(const struct ch_registry *registry);
size_t ch_registry_key_count(const struct ch_registry *registry);

#endif
