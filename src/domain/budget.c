// SPDX-License-Identifier: Apache-2.0
#include "domain/budget.h"

#include "base/money.h"
#include "base/secret.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

// ---- Words

static const char *const period_names[CH_BUDGET_PERIODS] = {"day", "week", "month", "total"};
static const char *const scope_names[CH_BUDGET_SCOPES] = {"key", "team", "project", "provider",
                                                          "all"};
static const char *const mode_names[CH_BUDGET_MODES] = {"strict", "learned", "soft"};

const char *ch_budget_period_name(enum ch_budget_period period)
{
    return period_names[period];
}

const char *ch_budget_scope_name(enum ch_budget_scope scope)
{
    return scope_names[scope];
}

const char *ch_budget_mode_name(enum ch_budget_mode mode)
{
    return mode_names[mode];
}

enum ch_err ch_budget_period_parse(struct ch_span name, enum ch_budget_period *out)
{
    size_t i = ch_span_place(name, period_names, CH_BUDGET_PERIODS);
    if (i == CH_BUDGET_PERIODS)
        return CH_ERR_INVALID;
    *out = (enum ch_budget_period)i;
    return CH_OK;
}

enum ch_err ch_budget_scope_parse(struct ch_span name, enum ch_budget_scope *out)
{
    size_t i = ch_span_place(name, scope_names, CH_BUDGET_SCOPES);
    if (i == CH_BUDGET_SCOPES)
        return CH_ERR_INVALID;
    *out = (enum ch_budget_scope)i;
    return CH_OK;
}

enum ch_err ch_budget_mode_parse(struct ch_span name, enum ch_budget_mode *out)
{
    size_t i = ch_span_place(name, mode_names, CH_BUDGET_MODES);
    if (i == CH_BUDGET_MODES)
        return CH_ERR_INVALID;
    *out = (enum ch_budget_mode)i;
    return CH_OK;
}

// Exponents are for prices; people write amounts out.
static bool is_plain_decimal(struct ch_span text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((text.ptr[i] < '0' || text.ptr[i] > '9') && text.ptr[i] != '.')
            return false;
    return true;
}

enum ch_err ch_budget_parse(struct ch_span text, int64_t *cap_nano_usd_out,
                            enum ch_budget_period *period_out)
{
    const char *slash = text.len ? memchr(text.ptr, '/', text.len) : NULL;
    if (!slash)
        return CH_ERR_INVALID;
    struct ch_span amount = {text.ptr, (size_t)(slash - text.ptr)};
    enum ch_budget_period period;
    int64_t cap;
    if (!is_plain_decimal(amount) ||
        ch_budget_period_parse(ch_span_sub(text, amount.len + 1), &period))
        return CH_ERR_INVALID;
    enum ch_err err = ch_money_parse_nano(amount, &cap);
    if (err)
        return err;
    *cap_nano_usd_out = cap;
    *period_out = period;
    return CH_OK;
}

void ch_budget_message(enum ch_budget_scope scope, enum ch_budget_period period,
                       int64_t cap_nano_usd, int64_t spent_nano_usd, char out[CH_BUDGET_MESSAGE])
{
    static const char *const whose[CH_BUDGET_SCOPES] = {"this key", "this team", "this project",
                                                        "this provider", "all keys"};
    static const char *const spans[CH_BUDGET_PERIODS] = {"Daily", "Weekly", "Monthly", "Total"};
    const uint64_t nano_per_cent = CH_NANO_PER_USD / 100;
    uint64_t cap = ((uint64_t)cap_nano_usd + nano_per_cent / 2) / nano_per_cent;
    uint64_t spent = ((uint64_t)spent_nano_usd + nano_per_cent / 2) / nano_per_cent;
    snprintf(out, CH_BUDGET_MESSAGE,
             "Budget limit exceeded for %s. %s limit: $%" PRIu64 ".%02" PRIu64
             ", current spend: $%" PRIu64 ".%02" PRIu64 ".",
             whose[scope], spans[period], cap / 100, cap % 100, spent / 100, spent % 100);
}

// ---- Periods

// The first day of the period that holds the day.
static int64_t first_day(enum ch_budget_period period, int64_t day)
{
    switch (period) {
    case CH_BUDGET_DAY:
    case CH_BUDGET_TOTAL:
        break;
    case CH_BUDGET_WEEK:
        return day - ch_civil_weekday(day);
    case CH_BUDGET_MONTH:
        return day - ch_civil_date(day).day + 1;
    }
    return day;
}

#define MONTH_DAYS_MAX 31
static int64_t next_first_day(enum ch_budget_period period, int64_t first)
{
    switch (period) {
    case CH_BUDGET_DAY:
    case CH_BUDGET_TOTAL:
        break;
    case CH_BUDGET_WEEK:
        return first + 7;
    case CH_BUDGET_MONTH:
        return first_day(period, first + MONTH_DAYS_MAX);
    }
    return first + 1;
}

#define DAYS_BACK_MAX 3 // the widest step between two offsets that a zone may have is 51 hours

struct ch_budget_interval ch_budget_interval(enum ch_budget_period period,
                                             const struct ch_time_zone *zone, int64_t now_ms)
{
    if (period == CH_BUDGET_TOTAL)
        return (struct ch_budget_interval){INT64_MIN, INT64_MAX};
    int64_t day = first_day(period, ch_time_zone_civil(zone, now_ms).day);
    int64_t next = next_first_day(period, day);
    struct ch_budget_interval interval = {ch_time_zone_midnight_ms(zone, day),
                                          ch_time_zone_midnight_ms(zone, next)};
    // Where the clock goes back over midnight, the local date falls back too, but a period that has
    // begun stays begun.
    for (int i = 0; i < DAYS_BACK_MAX && interval.end_ms <= now_ms; i++) {
        next = next_first_day(period, next);
        interval.start_ms = interval.end_ms;
        interval.end_ms = ch_time_zone_midnight_ms(zone, next);
    }
    if (interval.end_ms <= now_ms)
        interval.end_ms = INT64_MAX; // past the year 9999
    return interval;
}

// ---- The cell: money of a period, and which period, exchanged as one

// One 16-byte compare-and-swap (cmpxchg16b, casp) is what makes a roll-over safe: an addition meant
// for one period can never meet the counter of another. Rejected: a few bits of period beside the
// money in 64 bits, because money then ends at some million USD and a tag comes round again.
struct cell_value {
    int64_t end_ms; // of the period; it names the period, and only grows
    int64_t nano_usd;
};

union cell {
    unsigned __int128 bits;
    struct {
        _Atomic int64_t end_ms, nano_usd;
    } half;
};

// Read between two equal ends, the money is of that period, because ends only grow.
static struct cell_value cell_load(const union cell *cell)
{
    struct cell_value value;
    int64_t end_ms = atomic_load_explicit(&cell->half.end_ms, memory_order_acquire);
    do {
        value.end_ms = end_ms;
        value.nano_usd = atomic_load_explicit(&cell->half.nano_usd, memory_order_acquire);
        end_ms = atomic_load_explicit(&cell->half.end_ms, memory_order_acquire);
    } while (end_ms != value.end_ms);
    return value;
}

#if defined(__x86_64__)
// Every x86-64 since 2006 has the instruction, the baseline has not. Inlined into functions of the
// baseline, clang would turn it into a library call.
#define CELL_SWAP __attribute__((target("cx16"), noinline))
#else
#define CELL_SWAP
#endif

CELL_SWAP static bool cell_swap(union cell *cell, struct cell_value from, struct cell_value to)
{
    unsigned __int128 old_bits, new_bits;
    memcpy(&old_bits, &from, sizeof old_bits);
    memcpy(&new_bits, &to, sizeof new_bits);
    return __sync_bool_compare_and_swap(&cell->bits, old_bits, new_bits);
}

// ---- One budget

struct ch_budget {
    union cell held;        // spent and reserved: what admission looks at
    union cell spent;       // settled alone, for people; an older period's value counts as 0
    _Atomic uint64_t fired; // the period's end in seconds << 8 | the highest percentage that fired
    _Atomic int64_t cap;    // nano-USD
    _Atomic uint64_t percent; // struct ch_budget_thresholds, ascending, zeros last
    _Atomic enum ch_budget_mode mode;
    enum ch_budget_period period;
    const struct ch_time_zone *zone;
};
_Static_assert(sizeof(struct ch_budget_thresholds) == sizeof(uint64_t), "loaded as one word");

// The counter stays there for the rest of the period and every admission is refused (security.md
// R18), so no cap reaches it.
#define SATURATED INT64_MAX

static int64_t add_saturating(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? SATURATED : sum;
}

static int64_t at_least_zero(int64_t value)
{
    return value < 0 ? 0 : value;
}

static struct ch_budget_thresholds load_thresholds(const struct ch_budget *budget)
{
    uint64_t word = atomic_load_explicit(&budget->percent, memory_order_relaxed);
    struct ch_budget_thresholds thresholds;
    memcpy(&thresholds, &word, sizeof word);
    return thresholds;
}

// Ascending, zeros last.
static struct ch_budget_thresholds sorted(const struct ch_budget_thresholds *given)
{
    struct ch_budget_thresholds result = {{0}};
    size_t count = 0;
    for (size_t i = 0; i < CH_BUDGET_THRESHOLDS; i++) {
        uint8_t percent = given->percent[i];
        size_t at = count;
        if (percent == 0)
            continue;
        for (; at > 0 && result.percent[at - 1] > percent; at--)
            result.percent[at] = result.percent[at - 1];
        result.percent[at] = percent;
        count++;
    }
    return result;
}

void ch_budget_set_terms(struct ch_budget *budget, const struct ch_budget_terms *terms)
{
    struct ch_budget_thresholds thresholds = sorted(&terms->thresholds);
    uint64_t word;
    memcpy(&word, &thresholds, sizeof word);
    int64_t cap = at_least_zero(terms->cap_nano_usd);
    atomic_store(&budget->percent, word);
    atomic_store(&budget->mode, terms->mode);
    atomic_store(&budget->cap, cap == SATURATED ? SATURATED - 1 : cap);
}

static uint64_t fired_word(int64_t end_ms, unsigned percent)
{
    return (uint64_t)(end_ms / 1000) << 8 | percent;
}

void ch_budget_restore(struct ch_budget *budget, int64_t now_ms, int64_t spent_nano_usd,
                       unsigned fired_percent)
{
    struct cell_value value = {ch_budget_interval(budget->period, budget->zone, now_ms).end_ms,
                               at_least_zero(spent_nano_usd)};
    memcpy(&budget->held.bits, &value, sizeof value);
    memcpy(&budget->spent.bits, &value, sizeof value);
    atomic_store(&budget->fired,
                 fired_word(value.end_ms, fired_percent > UINT8_MAX ? UINT8_MAX : fired_percent));
}

enum ch_err ch_budget_new(enum ch_budget_period period, const struct ch_time_zone *zone,
                          const struct ch_budget_terms *terms, int64_t now_ms,
                          struct ch_budget **budget_out)
{
    struct ch_budget *budget = ch_zcalloc(1, sizeof *budget);
    if (!budget)
        return CH_ERR_NOMEM;
    budget->period = period;
    budget->zone = zone;
    ch_budget_set_terms(budget, terms);
    ch_budget_restore(budget, now_ms, 0, 0);
    *budget_out = budget;
    return CH_OK;
}

void ch_budget_free(struct ch_budget *budget)
{
    ch_zfree(budget);
}

// The held money as of `now_ms`: none yet when the period in the cell is over.
static struct cell_value held_now(const struct ch_budget *budget, struct cell_value held,
                                  int64_t now_ms)
{
    if (now_ms < held.end_ms || held.end_ms == INT64_MAX)
        return held;
    return (struct cell_value){ch_budget_interval(budget->period, budget->zone, now_ms).end_ms, 0};
}

// How much of the budget an admission takes, or -1: there is no room.
static int64_t amount_to_hold(const struct ch_budget *budget,
                              const struct ch_budget_estimate *estimate, int64_t held)
{
    // A change of terms that is seen half is a change of the one half first.
    int64_t cap = atomic_load_explicit(&budget->cap, memory_order_relaxed);
    enum ch_budget_mode mode = atomic_load_explicit(&budget->mode, memory_order_relaxed);
    int64_t amount = at_least_zero(mode == CH_BUDGET_STRICT ? estimate->worst_nano_usd
                                                            : estimate->likely_nano_usd);
    if (mode != CH_BUDGET_SOFT)
        return amount <= cap - held ? amount : -1;
    // An absurd estimate must not bring the counter near saturation: less is held, and settled
    // right.
    int64_t most = (SATURATED - held) / 2;
    return amount < most ? amount : most;
}

static bool reserve(struct ch_budget_hold *hold, const struct ch_budget_estimate *estimate,
                    int64_t now_ms)
{
    struct ch_budget *budget = hold->budget;
    struct cell_value from, to;
    int64_t amount;
    do {
        from = cell_load(&budget->held);
        to = held_now(budget, from, now_ms);
        amount = amount_to_hold(budget, estimate, to.nano_usd);
        if (amount < 0)
            return false;
        to.nano_usd += amount;
    } while (!cell_swap(&budget->held, from, to));
    hold->period_end_ms = to.end_ms;
    hold->nano_usd = amount;
    return true;
}

// Turns the reservation into cost. Nothing is left to do where the period has gone. A charge can be
// the first that its period sees.
static void release(const struct ch_budget_hold *hold, int64_t cost)
{
    struct cell_value from, to;
    int64_t held;
    do {
        from = cell_load(&hold->budget->held);
        held = from.end_ms < hold->period_end_ms ? 0 : from.nano_usd;
        if (from.end_ms > hold->period_end_ms || held == SATURATED)
            return;
        to.end_ms = hold->period_end_ms;
        to.nano_usd = add_saturating(held - hold->nano_usd, cost);
    } while (!cell_swap(&hold->budget->held, from, to));
    CH_ASSERT(held >= hold->nano_usd);
}

// Gives the spend of the hold's period after it, or -1 when that period has gone.
static int64_t spend(const struct ch_budget_hold *hold, int64_t cost)
{
    struct cell_value from, to;
    do {
        from = cell_load(&hold->budget->spent);
        if (from.end_ms > hold->period_end_ms)
            return -1;
        to.end_ms = hold->period_end_ms;
        to.nano_usd = add_saturating(from.end_ms == to.end_ms ? from.nano_usd : 0, cost);
    } while (!cell_swap(&hold->budget->spent, from, to));
    return to.nano_usd;
}

// ---- Thresholds

// The highest threshold that the spend has reached; 0: none. Spending nothing reaches nothing.
static unsigned highest_reached(struct ch_budget_thresholds thresholds, int64_t cap, int64_t spent)
{
    unsigned highest = 0;
    for (size_t i = 0; i < CH_BUDGET_THRESHOLDS && thresholds.percent[i] > 0; i++) {
        if (spent == 0 || (__int128)spent * 100 < (__int128)cap * thresholds.percent[i])
            break;
        highest = thresholds.percent[i];
    }
    return highest;
}

// Exactly one of the threads that see a threshold reached moves the mark past it and tells of it.
static struct ch_budget_thresholds fire(struct ch_budget *budget, int64_t end_ms, int64_t spent)
{
    struct ch_budget_thresholds thresholds = load_thresholds(budget), fired = {{0}};
    int64_t cap = atomic_load_explicit(&budget->cap, memory_order_relaxed);
    unsigned highest = highest_reached(thresholds, cap, spent), before;
    if (highest == 0)
        return fired;
    uint64_t mark = fired_word(end_ms, highest), last = atomic_load(&budget->fired);
    do {
        if (last >= mark) // already, or the period has gone
            return fired;
        before = last >> 8 == mark >> 8 ? last & UINT8_MAX : 0;
    } while (!atomic_compare_exchange_weak(&budget->fired, &last, mark));
    size_t count = 0;
    for (size_t i = 0; i < CH_BUDGET_THRESHOLDS; i++)
        if (thresholds.percent[i] > before && thresholds.percent[i] <= highest)
            fired.percent[count++] = thresholds.percent[i];
    return fired;
}

// ---- Admission and settlement

enum ch_err ch_budget_reserve(struct ch_budget_hold *holds, size_t count,
                              const struct ch_budget_estimate *estimate, int64_t now_ms,
                              size_t *refused_out)
{
    size_t taken = 0;
    while (taken < count && reserve(&holds[taken], estimate, now_ms))
        taken++;
    if (taken == count)
        return CH_OK;
    *refused_out = taken;
    while (taken > 0)
        release(&holds[--taken], 0);
    for (size_t i = 0; i < count; i++)
        holds[i].budget = NULL;
    return CH_ERR_LIMIT;
}

struct ch_budget_thresholds ch_budget_settle(struct ch_budget_hold *hold, int64_t cost_nano_usd)
{
    struct ch_budget_thresholds none = {{0}};
    struct ch_budget *budget = hold->budget;
    int64_t cost = at_least_zero(cost_nano_usd);
    if (!budget)
        return none;
    release(hold, cost);
    int64_t spent = cost > 0 ? spend(hold, cost) : -1;
    hold->budget = NULL;
    return spent < 0 ? none : fire(budget, hold->period_end_ms, spent);
}

struct ch_budget_thresholds ch_budget_charge(struct ch_budget *budget, int64_t admitted_ms,
                                             int64_t cost_nano_usd)
{
    struct ch_budget_hold hold = {
        .budget = budget,
        .period_end_ms = ch_budget_interval(budget->period, budget->zone, admitted_ms).end_ms};
    return ch_budget_settle(&hold, cost_nano_usd);
}

struct ch_budget_thresholds ch_budget_check(struct ch_budget *budget, int64_t now_ms)
{
    struct cell_value spent = cell_load(&budget->spent);
    if (spent.end_ms != ch_budget_interval(budget->period, budget->zone, now_ms).end_ms)
        return (struct ch_budget_thresholds){{0}};
    return fire(budget, spent.end_ms, spent.nano_usd);
}

// The spend goes first: between the two, what is held never lies below it. Gives what was there to
// take.
static int64_t take_back_spent(struct ch_budget *budget, int64_t end_ms, int64_t amount)
{
    struct cell_value from, to;
    do {
        from = cell_load(&budget->spent);
        if (from.end_ms != end_ms || from.nano_usd == SATURATED)
            return 0;
        if (amount > from.nano_usd)
            amount = from.nano_usd;
        to = (struct cell_value){.end_ms = end_ms, .nano_usd = from.nano_usd - amount};
    } while (!cell_swap(&budget->spent, from, to));
    return amount;
}

struct ch_budget_thresholds ch_budget_correct(struct ch_budget *budget, int64_t admitted_ms,
                                              int64_t difference_nano_usd)
{
    if (difference_nano_usd >= 0)
        return ch_budget_charge(budget, admitted_ms, difference_nano_usd);
    int64_t end_ms = ch_budget_interval(budget->period, budget->zone, admitted_ms).end_ms;
    int64_t taken = take_back_spent(budget, end_ms, -difference_nano_usd);
    struct cell_value from, to;
    do {
        from = to = cell_load(&budget->held);
        if (from.end_ms != end_ms || from.nano_usd == SATURATED)
            break;
        to.nano_usd -= taken;
    } while (!cell_swap(&budget->held, from, to));
    return (struct ch_budget_thresholds){{0}};
}

// ---- Looking

struct ch_budget_view ch_budget_look(const struct ch_budget *budget, int64_t now_ms)
{
    struct cell_value held = held_now(budget, cell_load(&budget->held), now_ms);
    struct cell_value spent = cell_load(&budget->spent);
    if (spent.end_ms != held.end_ms)
        spent.nano_usd = 0;
    struct ch_budget_view view = {
        .terms = {.cap_nano_usd = atomic_load(&budget->cap),
                  .mode = atomic_load(&budget->mode),
                  .thresholds = load_thresholds(budget)},
        .period = budget->period,
        .interval = ch_budget_interval(budget->period, budget->zone, held.end_ms - 1),
        .spent_nano_usd = spent.nano_usd,
        .reserved_nano_usd = at_least_zero(held.nano_usd - spent.nano_usd),
    };
    view.reached_percent =
        highest_reached(view.terms.thresholds, view.terms.cap_nano_usd, spent.nano_usd);
    return view;
}

unsigned ch_budget_reached(const struct ch_budget *budget, int64_t now_ms)
{
    struct cell_value held = cell_load(&budget->held), spent = cell_load(&budget->spent);
    bool is_over = held.end_ms != INT64_MAX && now_ms >= held.end_ms;
    if (is_over || spent.end_ms != held.end_ms)
        return 0;
    return highest_reached(load_thresholds(budget), atomic_load(&budget->cap), spent.nano_usd);
}

bool ch_budget_has_room(const struct ch_budget *budget, const struct ch_budget_estimate *estimate,
                        int64_t now_ms)
{
    struct cell_value held = held_now(budget, cell_load(&budget->held), now_ms);
    return amount_to_hold(budget, estimate, held.nano_usd) >= 0;
}
