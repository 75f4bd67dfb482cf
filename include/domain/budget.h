// SPDX-License-Identifier: Apache-2.0
// Budgets: limits in money over a calendar period, counted by all loop threads without locks.
//
// The gate reserves an estimate on every budget that applies, or on none; settlement releases it
// and adds what the exchange cost. Both are one atomic exchange of (period, money) per budget, so
// admission and accounting look at the same number. Money belongs to the period in which its
// exchange was admitted: what is settled after that period ended changes no counter any more (the
// usage row keeps it). Periods only move on: a clock that steps back neither reopens one nor resets
// the current one, which then lasts until its own end.
//
// Every function may run on any thread at any time, except where it says otherwise. Times are
// arguments (wall clock, ms); only ch_budget_new allocates.
#ifndef CH_DOMAIN_BUDGET_H
#define CH_DOMAIN_BUDGET_H

#include "domain/time_zone.h"

// ---- Words

enum ch_budget_period {
    CH_BUDGET_DAY,
    CH_BUDGET_WEEK, // begins on Monday (ISO 8601)
    CH_BUDGET_MONTH,
    CH_BUDGET_TOTAL, // one period, for ever
};
#define CH_BUDGET_PERIODS 4

enum ch_budget_scope {
    CH_BUDGET_OF_KEY,
    CH_BUDGET_OF_TEAM,
    CH_BUDGET_OF_PROJECT,
    CH_BUDGET_OF_PROVIDER,
    CH_BUDGET_OF_ALL,
};
#define CH_BUDGET_SCOPES 5

// What is reserved, and so by how much the cap can be passed once everything is settled:
//   strict   the worst case. Not at all, as long as no exchange costs more than its worst case.
//   learned  the likely cost. By at most the sum of (cost − likely cost), where positive, of the
//            exchanges in flight when the last one was admitted; so by at most
//            (exchanges in flight) × (worst case − likely cost).
//   soft     the likely cost. Without bound: it never refuses.
enum ch_budget_mode {
    CH_BUDGET_STRICT,
    CH_BUDGET_LEARNED,
    CH_BUDGET_SOFT,
};
#define CH_BUDGET_MODES 3

// "day", "key", "strict", …: as commands, database and documents write them.
const char *ch_budget_period_name(enum ch_budget_period period);
const char *ch_budget_scope_name(enum ch_budget_scope scope);
const char *ch_budget_mode_name(enum ch_budget_mode mode);
enum ch_err ch_budget_period_parse(struct ch_span name, enum ch_budget_period *out) CH_MUST_USE;
enum ch_err ch_budget_scope_parse(struct ch_span name, enum ch_budget_scope *out) CH_MUST_USE;
enum ch_err ch_budget_mode_parse(struct ch_span name, enum ch_budget_mode *out) CH_MUST_USE;

// "100/day", "0.5/month", "1000/total": an amount with at most nine decimals, and a period.
// CH_ERR_INVALID; CH_ERR_LIMIT past 9,223,372,036 USD.
enum ch_err ch_budget_parse(struct ch_span text, int64_t *cap_nano_usd_out,
                            enum ch_budget_period *period_out) CH_MUST_USE;

// The period that holds an instant: [start, end). Periods of a zone meet without gap or overlap,
// also where the clock changes at midnight. CH_BUDGET_TOTAL: [INT64_MIN, INT64_MAX).
struct ch_budget_interval {
    int64_t start_ms, end_ms;
};
struct ch_budget_interval ch_budget_interval(enum ch_budget_period period,
                                             const struct ch_time_zone *zone, int64_t now_ms);

// ---- One budget

struct ch_budget; // opaque; period and zone are fixed for its life

// Percentages of the cap at which to tell somebody, 1–255; 0 is none. Order does not matter.
#define CH_BUDGET_THRESHOLDS 8
struct ch_budget_thresholds {
    uint8_t percent[CH_BUDGET_THRESHOLDS];
};

// What can be edited while exchanges are in flight.
struct ch_budget_terms {
    int64_t cap_nano_usd; // negative counts as 0
    enum ch_budget_mode mode;
    struct ch_budget_thresholds thresholds;
};

// `zone`: borrowed, must outlive the budget; NULL is UTC. Starts with nothing spent in the period
// of `now_ms`. CH_ERR_NOMEM. Gives the budget.
enum ch_err ch_budget_new(enum ch_budget_period period, const struct ch_time_zone *zone,
                          const struct ch_budget_terms *terms, int64_t now_ms,
                          struct ch_budget **budget_out) CH_MUST_USE;
// No reservation may be open any more.
void ch_budget_free(struct ch_budget *budget);

// Puts back what the store remembers of the period of `now_ms`: money spent, and the highest
// threshold that has fired (0: none). Before the budget is shared; also the one way to set a period
// back after the clock had run ahead.
void ch_budget_restore(struct ch_budget *budget, int64_t now_ms, int64_t spent_nano_usd,
                       unsigned fired_percent);

// In force for every admission that begins after the return. Spend and reservations stay.
void ch_budget_set_terms(struct ch_budget *budget, const struct ch_budget_terms *terms);

// ---- Admission and settlement

struct ch_budget_estimate {
    int64_t worst_nano_usd, likely_nano_usd; // negative counts as 0
};

// The part of one budget that one exchange holds. The caller sets `budget`; the rest is private.
// One thread at a time.
struct ch_budget_hold {
    struct ch_budget *budget; // NULL: empty
    int64_t period_end_ms;
    int64_t nano_usd;
};

// Reserves on all budgets of `holds` or on none. CH_ERR_LIMIT: refused by the budget at
// `refused_out`, and all holds are empty; what was taken for a moment on the budgets before it can
// have refused another exchange meanwhile, never admitted one. CH_OK: every hold must be settled.
enum ch_err ch_budget_reserve(struct ch_budget_hold *holds, size_t count,
                              const struct ch_budget_estimate *estimate, int64_t now_ms,
                              size_t *refused_out) CH_MUST_USE;

// Releases the reservation and adds the cost (0: nothing was consumed); the hold is empty after it
// and a second call does nothing. Gives the thresholds that this settlement was the first of its
// period to reach, ascending, then zeros. Each fires once per period: an edit of the terms never
// repeats one, and one below the highest that fired stays silent.
struct ch_budget_thresholds ch_budget_settle(struct ch_budget_hold *hold, int64_t cost_nano_usd);

// Adds the cost of an exchange that began before this budget was made and so holds nothing of it.
// Counts when the period of `admitted_ms` is still the present one. Gives what settlement gives.
struct ch_budget_thresholds ch_budget_charge(struct ch_budget *budget, int64_t admitted_ms,
                                             int64_t cost_nano_usd);

// The thresholds that the spend of the present period has reached by an edit of the terms, without
// another settlement. Gives what settlement gives.
struct ch_budget_thresholds ch_budget_check(struct ch_budget *budget, int64_t now_ms);

// The cost of an exchange that was counted already turned out to be another one: adds the
// difference, or takes it back. Counts, and gives, as ch_budget_charge does.
struct ch_budget_thresholds ch_budget_correct(struct ch_budget *budget, int64_t admitted_ms,
                                              int64_t difference_nano_usd);

// ---- Looking

struct ch_budget_view {
    struct ch_budget_terms terms;
    enum ch_budget_period period;
    struct ch_budget_interval interval;
    int64_t spent_nano_usd;    // settled in this period
    int64_t reserved_nano_usd; // held by exchanges of this period in flight
    unsigned reached_percent;  // the highest threshold that the spend has reached; 0: none
};
// The numbers are each right at some instant of the call, not all at the same one.
struct ch_budget_view ch_budget_look(const struct ch_budget *budget, int64_t now_ms);
// reached_percent of the view, without the calendar: a few nanoseconds.
unsigned ch_budget_reached(const struct ch_budget *budget, int64_t now_ms);
// Whether the estimate would be admitted now. Holds nothing.
bool ch_budget_has_room(const struct ch_budget *budget, const struct ch_budget_estimate *estimate,
                        int64_t now_ms);

// "Budget limit exceeded for this key. Daily limit: $100.00, current spend: $100.02.": cents,
// rounded half up, in this text only. NUL-terminated.
#define CH_BUDGET_MESSAGE 160
void ch_budget_message(enum ch_budget_scope scope, enum ch_budget_period period,
                       int64_t cap_nano_usd, int64_t spent_nano_usd, char out[CH_BUDGET_MESSAGE]);

#endif
