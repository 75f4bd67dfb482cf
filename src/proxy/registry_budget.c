// SPDX-License-Identifier: Apache-2.0
// Budgets and limits in the registry: coming, changing, going, and how a new budget learns what was
// spent before it came.
#include "registry_state.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/secret.h"
#include "store/spend_query.h"
#include "store/usage_writer.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define ZONE_DIR   "/usr/share/zoneinfo"

#define AHEAD_MS   20 // a new budget's first id lies this far ahead, so that no loop is there yet
#define COUNT_MAX  50 // times that its first sum is taken again because old exchanges were settled
#define COUNT_WAIT 20 // ms between two of them

// ---- terms

void registry_set_terms(struct ch_registry *registry, struct scope *scope,
                        struct scope_terms *terms)
{
    struct scope_terms *old = atomic_exchange_explicit(&scope->terms, terms, memory_order_acq_rel);
    atomic_fetch_add_explicit(&registry->budget_epoch, 1, memory_order_release);
    registry_wait_for_loops(registry);
    ch_zfree(old);
}

// A copy to edit; of nothing, empty terms.
static struct scope_terms *copy_terms(const struct scope *scope)
{
    const struct scope_terms *terms = scope_terms(scope);
    struct scope_terms *copy = ch_zcalloc(1, sizeof *copy);
    if (copy && terms)
        *copy = *terms;
    return copy;
}

static bool is_empty(const struct scope_terms *terms)
{
    return terms->budget_count == 0 && !ch_rate_limits_are_set(&terms->limits);
}

static void put_terms(struct ch_registry *registry, struct scope *scope, struct scope_terms *terms)
{
    if (is_empty(terms)) {
        ch_zfree(terms);
        terms = NULL;
    }
    if (terms || scope_terms(scope))
        registry_set_terms(registry, scope, terms);
}

enum ch_err registry_set_limits(struct ch_registry *registry, struct scope *scope,
                                const struct ch_rate_limits *limits, bool is_shadow)
{
    struct scope_terms *terms = copy_terms(scope);
    if (!terms)
        return CH_ERR_NOMEM;
    terms->limits = *limits;
    terms->limits_are_shadow = is_shadow;
    put_terms(registry, scope, terms);
    return CH_OK;
}

enum ch_err ch_registry_put_team_limits(struct ch_registry *registry,
                                        const struct ch_team_limits_row *row)
{
    struct scope *scope =
        scopes_make(registry->scopes, CH_BUDGET_OF_TEAM, 0, ch_span_of(row->team));
    return scope ? registry_set_limits(registry, scope, &row->limits, row->is_shadow)
                 : CH_ERR_NOMEM;
}

// ---- time zones

static enum ch_err read_zone(const char *path, struct ch_buf *out)
{
    char piece[4096];
    ssize_t got = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return CH_ERR_NOT_FOUND;
    enum ch_err err = CH_OK;
    while (!err && (got = read(fd, piece, sizeof piece)) > 0)
        err = ch_buf_append(out, piece, (size_t)got);
    close(fd);
    return got < 0 ? CH_ERR_NOT_FOUND : err;
}

enum ch_err ch_registry_load_zone(const char *name, struct ch_time_zone **zone_out,
                                  struct ch_why *why)
{
    char path[sizeof ZONE_DIR + 1 + CH_TIME_ZONE_NAME_MAX + 1];
    struct ch_buf bytes;
    *zone_out = NULL;
    if (strcmp(name, "UTC") == 0)
        return CH_OK;
    enum ch_err err = CH_ERR_NOT_FOUND;
    ch_buf_init(&bytes, CH_TIME_ZONE_FILE_MAX);
    if (ch_time_zone_name_is_valid(ch_span_of(name))) {
        snprintf(path, sizeof path, ZONE_DIR "/%s", name);
        err = read_zone(path, &bytes);
        if (!err)
            err = ch_time_zone_parse(ch_buf_span(&bytes), zone_out);
    }
    ch_buf_fini(&bytes);
    if (err == CH_ERR_NOMEM)
        return ch_why_set(why, err, "out of memory");
    return err ? ch_why_set(why, CH_ERR_NOT_FOUND,
                            "%s is no time zone that this system knows (package tzdata, names as "
                            "Europe/Berlin)",
                            name)
               : CH_OK;
}

// ---- one budget

static struct scope *scope_of(struct ch_registry *registry, const struct ch_budget_row *row)
{
    bool has_id = row->scope == CH_BUDGET_OF_KEY || row->scope == CH_BUDGET_OF_PROVIDER;
    bool has_name = row->scope == CH_BUDGET_OF_TEAM || row->scope == CH_BUDGET_OF_PROJECT;
    return scopes_make(registry->scopes, row->scope, has_id ? row->subject_id : 0,
                       has_name ? ch_span_of(row->subject) : CH_SPAN(""));
}

// A shadow refuses nothing, so that its counter runs as that of a soft one does.
static struct ch_budget_terms terms_of(const struct ch_budget_row *row)
{
    return (struct ch_budget_terms){.cap_nano_usd = row->cap_nano_usd,
                                    .mode = row->is_shadow ? CH_BUDGET_SOFT : row->mode,
                                    .thresholds = row->thresholds};
}

static void edit(struct scope_budget *budget, const struct ch_budget_row *row)
{
    struct ch_budget_terms terms = terms_of(row);
    atomic_store(&budget->is_shadow, row->is_shadow);
    atomic_store(&budget->cuts_streams, row->cuts_streams);
    atomic_store(&budget->mode, row->mode);
    ch_budget_set_terms(budget->budget, &terms);
}

static enum ch_err make_budget(struct scope *scope, const struct ch_budget_row *row, int64_t now_ms,
                               struct scope_budget **budget_out, struct ch_why *why)
{
    struct ch_budget_terms terms = terms_of(row);
    struct scope_budget *budget = ch_zcalloc(1, sizeof *budget);
    if (!budget)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    budget->owner = scope;
    budget->id = row->id;
    memcpy(budget->zone_name, row->time_zone, sizeof budget->zone_name);
    budget->scope = row->scope;
    budget->period = row->period;
    enum ch_err err = ch_registry_load_zone(row->time_zone, &budget->zone, why);
    if (!err && (err = ch_budget_new(row->period, budget->zone, &terms, now_ms, &budget->budget)))
        ch_why_set(why, err, "out of memory");
    if (err) {
        ch_time_zone_free(budget->zone);
        ch_zfree(budget);
        return err;
    }
    edit(budget, row);
    *budget_out = budget;
    return CH_OK;
}

// What the rows say of its period, and the alerts of it.
struct history {
    const struct ch_budget_row *row;
    int64_t from_ms, before_id; // before_id 0: all rows
    int64_t spent_nano_usd;
    unsigned fired_percent;
};

static enum ch_err read_history(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct history *h = arg;
    const struct ch_budget_row *row = h->row;
    enum ch_err err = h->before_id
                          ? ch_spend_since_before(db, row->scope, row->subject_id, row->subject,
                                                  h->from_ms, h->before_id, &h->spent_nano_usd, why)
                          : ch_spend_since(db, row->scope, row->subject_id, row->subject,
                                           h->from_ms, &h->spent_nano_usd, why);
    return err ? err : ch_budget_highest_alert(db, row->id, h->from_ms, &h->fired_percent, why);
}

static struct history history_of(const struct ch_budget_row *row, const struct scope_budget *budget,
                                 int64_t now_ms)
{
    return (struct history){
        .row = row, .from_ms = ch_budget_interval(row->period, budget->zone, now_ms).start_ms};
}

// Puts a budget among the terms of its scope, in the place of the one of its period.
static enum ch_err publish(struct ch_registry *registry, struct scope *scope,
                           struct scope_budget *budget)
{
    struct scope_terms *terms = copy_terms(scope);
    if (!terms)
        return CH_ERR_NOMEM;
    unsigned at = 0;
    while (at < terms->budget_count && terms->budgets[at]->period != budget->period)
        at++;
    terms->budgets[at] = budget;
    if (at == terms->budget_count)
        terms->budget_count++;
    registry_set_terms(registry, scope, terms);
    return scope->kind == CH_BUDGET_OF_KEY ? registry_link_key(registry, scope) : CH_OK;
}

// An id that no exchange has reached when this returns, set as the budget's first.
static int64_t set_first_id(struct scope_budget *budget)
{
    int64_t first_ms;
    do {
        first_ms = ch_clock_wall_ms() + AHEAD_MS;
        atomic_store(&budget->since_id, ch_id_floor(first_ms));
    } while (ch_clock_wall_ms() >= first_ms - 1);
    struct timespec until_then = {.tv_nsec = (AHEAD_MS + 1) * CH_NS_PER_MS};
    nanosleep(&until_then, NULL);
    return ch_id_floor(first_ms);
}

// Exchanges from the first id on are charged by settlement alone. Of those before it, settlement
// charges the ones that end from now on (`early`), the rows have these and all others: the
// difference is what is missing. It is exact when nothing early was settled while it was taken;
// the loops are waited for because settlement writes the row first and counts it after that.
static enum ch_err add_missing(struct ch_registry *registry, struct ch_store *store,
                               const struct ch_budget_row *row, struct scope_budget *budget,
                               int64_t counted, struct ch_why *why)
{
    struct history h = history_of(row, budget, ch_clock_wall_ms());
    struct timespec pause = {.tv_nsec = COUNT_WAIT * CH_NS_PER_MS};
    int64_t early = 0;
    h.before_id = set_first_id(budget);
    for (int i = 0; i < COUNT_MAX; i++) {
        early = atomic_load(&budget->early_nano_usd);
        ch_usage_writer_flush(store);
        enum ch_err err = ch_store_read(store, read_history, &h, why);
        if (err)
            return err;
        registry_wait_for_loops(registry);
        if (early == atomic_load(&budget->early_nano_usd))
            break;
        nanosleep(&pause, NULL);
    }
    if (h.spent_nano_usd - early > counted) {
        int64_t now_ms = ch_clock_wall_ms();
        struct ch_budget_thresholds fired =
            ch_budget_charge(budget->budget, now_ms, h.spent_nano_usd - early - counted);
        registry_tell(registry, budget, &fired, now_ms);
    }
    return CH_OK;
}

static enum ch_err add_budget(struct ch_registry *registry, struct ch_store *store,
                              struct scope *scope, const struct ch_budget_row *row,
                              struct ch_why *why)
{
    struct scope_budget *budget;
    int64_t now_ms = ch_clock_wall_ms();
    enum ch_err err = make_budget(scope, row, now_ms, &budget, why);
    if (err)
        return err;
    scopes_keep(registry->scopes, budget);
    atomic_store(&budget->since_id, INT64_MAX);
    struct history h = history_of(row, budget, now_ms);
    ch_usage_writer_flush(store);
    err = ch_store_read(store, read_history, &h, why);
    if (err)
        return err;
    ch_budget_restore(budget->budget, now_ms, h.spent_nano_usd, h.fired_percent);
    if ((err = publish(registry, scope, budget)))
        return ch_why_set(why, err, "out of memory");
    return add_missing(registry, store, row, budget, h.spent_nano_usd, why);
}

static struct scope_budget *budget_of_period(const struct scope *scope,
                                             enum ch_budget_period period)
{
    const struct scope_terms *terms = scope_terms(scope);
    for (unsigned i = 0; terms && i < terms->budget_count; i++)
        if (terms->budgets[i]->period == period)
            return terms->budgets[i];
    return NULL;
}

// Whether the row only edits `budget`. Its zone is fixed for its life: another one counts anew.
static bool is_edit(const struct scope_budget *budget, const struct ch_budget_row *row)
{
    return budget && budget->id == row->id && strcmp(budget->zone_name, row->time_zone) == 0;
}

enum ch_err ch_registry_put_budget(struct ch_registry *registry, struct ch_store *store,
                                   const struct ch_budget_row *row, struct ch_why *why)
{
    struct scope *scope = scope_of(registry, row);
    if (!scope)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    struct scope_budget *budget = budget_of_period(scope, row->period);
    if (!is_edit(budget, row))
        return add_budget(registry, store, scope, row, why);
    edit(budget, row);
    int64_t now_ms = ch_clock_wall_ms();
    struct ch_budget_thresholds fired = ch_budget_check(budget->budget, now_ms);
    registry_tell(registry, budget, &fired, now_ms);
    return CH_OK;
}

static void remove_from(struct ch_registry *registry, struct scope *scope,
                        const struct scope_budget *budget)
{
    struct scope_terms *terms = copy_terms(scope);
    CH_ASSERT(terms); // a deleted budget must not go on refusing
    unsigned kept = 0;
    for (unsigned i = 0; i < terms->budget_count; i++)
        if (terms->budgets[i] != budget)
            terms->budgets[kept++] = terms->budgets[i];
    terms->budget_count = (uint8_t)kept;
    put_terms(registry, scope, terms);
}

void ch_registry_drop_budget(struct ch_registry *registry, int64_t budget_id)
{
    struct scope_budget *budget = scopes_budget(registry->scopes, budget_id);
    if (budget)
        remove_from(registry, budget->owner, budget);
}

static void correct_scope(const struct ch_registry *registry, enum ch_budget_scope kind,
                          int64_t subject_id, struct ch_span subject,
                          const struct ch_spend_correction *correction)
{
    const struct scope_terms *terms =
        scope_terms(scopes_find(registry->scopes, kind, subject_id, subject));
    for (unsigned i = 0; terms && i < terms->budget_count; i++) {
        const struct scope_budget *budget = terms->budgets[i];
        struct ch_budget_thresholds fired = ch_budget_correct(
            budget->budget, correction->started_at_ms, correction->difference_nano_usd);
        registry_tell(registry, budget, &fired, correction->started_at_ms);
    }
}

void ch_registry_correct_spend(struct ch_registry *registry,
                               const struct ch_spend_correction *correction)
{
    const struct ch_span none = CH_SPAN("");
    correct_scope(registry, CH_BUDGET_OF_KEY, correction->key_id, none, correction);
    correct_scope(registry, CH_BUDGET_OF_PROVIDER, correction->provider_id, none, correction);
    if (correction->team.len)
        correct_scope(registry, CH_BUDGET_OF_TEAM, 0, correction->team, correction);
    if (correction->project.len)
        correct_scope(registry, CH_BUDGET_OF_PROJECT, 0, correction->project, correction);
    correct_scope(registry, CH_BUDGET_OF_ALL, 0, none, correction);
}

bool ch_registry_look_budget(const struct ch_registry *registry, int64_t budget_id,
                             struct ch_budget_view *view_out)
{
    const struct scope_budget *budget = scopes_budget(registry->scopes, budget_id);
    if (!budget || budget_of_period(budget->owner, budget->period) != budget)
        return false;
    *view_out = ch_budget_look(budget->budget, ch_clock_wall_ms());
    view_out->terms.mode = atomic_load(&budget->mode);
    return true;
}

// ---- loading

struct loading {
    struct ch_registry *registry;
    struct ch_db *db;
    struct ch_why *why;
};

// A zone that the system no longer knows stops the start: to count in another one would let money
// through.
static enum ch_err load_budget(void *arg, const struct ch_budget_row *row)
{
    struct loading *loading = arg;
    struct scope_budget *budget;
    int64_t now_ms = ch_clock_wall_ms();
    struct scope *scope = scope_of(loading->registry, row);
    if (!scope)
        return CH_ERR_NOMEM;
    enum ch_err err = make_budget(scope, row, now_ms, &budget, loading->why);
    if (err)
        return err;
    scopes_keep(loading->registry->scopes, budget);
    struct history h = history_of(row, budget, now_ms);
    err = read_history(loading->db, &h, loading->why);
    if (err)
        return err;
    ch_budget_restore(budget->budget, now_ms, h.spent_nano_usd, h.fired_percent);
    return publish(loading->registry, scope, budget);
}

static enum ch_err load_limits(void *arg, const struct ch_team_limits_row *row)
{
    const struct loading *loading = arg;
    return ch_registry_put_team_limits(loading->registry, row);
}

enum ch_err registry_load_budgets(struct ch_registry *registry, struct ch_db *db,
                                  struct ch_why *why)
{
    struct loading loading = {registry, db, why};
    enum ch_err err = ch_budget_each(db, load_budget, &loading, why);
    return err ? err : ch_team_limits_each(db, load_limits, &loading, why);
}

// ---- the loops' side

unsigned registry_scopes(const struct ch_registry *registry, const struct key_record *key,
                         const struct attribution *attribution,
                         const struct provider_record *provider, struct scope *out[SCOPES_MAX])
{
    struct scope *scopes[SCOPES_MAX] = {key->scope, attribution->team, attribution->project,
                                        provider->scope, registry->all};
    unsigned count = 0;
    for (unsigned i = 0; i < SCOPES_MAX; i++)
        if (scope_terms(scopes[i]))
            out[count++] = scopes[i];
    return count;
}

struct ch_learned *registry_learned(const struct ch_registry *registry)
{
    return registry->learned;
}

unsigned registry_budget_epoch(const struct ch_registry *registry)
{
    return atomic_load_explicit(&registry->budget_epoch, memory_order_acquire);
}

void ch_registry_on_alert(struct ch_registry *registry, ch_budget_alert_fn on_alert, void *arg)
{
    registry->on_alert = on_alert;
    registry->on_alert_arg = arg;
}

void registry_tell(const struct ch_registry *registry, const struct scope_budget *budget,
                   const struct ch_budget_thresholds *fired, int64_t admitted_ms)
{
    if (!fired->percent[0] || !registry->on_alert)
        return;
    struct ch_budget_view view = ch_budget_look(budget->budget, admitted_ms);
    struct ch_budget_event event = {.budget_id = budget->id,
                                    .period_start_ms = view.interval.start_ms,
                                    .at_ms = ch_clock_wall_ms(),
                                    .spent_nano_usd = view.spent_nano_usd,
                                    .cap_nano_usd = view.terms.cap_nano_usd};
    for (int i = 0; i < CH_BUDGET_THRESHOLDS && fired->percent[i]; i++) {
        event.percent = fired->percent[i];
        registry->on_alert(registry->on_alert_arg, &event);
    }
}
