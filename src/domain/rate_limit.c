// SPDX-License-Identifier: Apache-2.0
#include "domain/rate_limit.h"

#define MS_NS              INT64_C(1000000)
#define WINDOW_NS          INT64_C(60000000000) // limits are per minute
#define DEBT_MAX_NS        (24 * 60 * WINDOW_NS)
#define NEVER              (-1)

#define IN_FLIGHT_RETRY_MS 1000

const char *ch_rate_kind_name(enum ch_rate_kind kind)
{
    static const char *const names[CH_RATE_KINDS] = {"rpm", "tpm", "concurrency"};
    return names[kind];
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t divide_up(int64_t value, int64_t by)
{
    return value / by + (value % by > 0);
}

// The time in which the bucket refills by `amount`, at most a day. Rounded down, so that the limit
// can always be taken in one burst; a call gains less than a nanosecond by it.
static int64_t refill_ns(int64_t limit, int64_t amount)
{
    int64_t product;
    if (!__builtin_mul_overflow(amount, WINDOW_NS, &product))
        return smaller(product / limit, DEBT_MAX_NS);
    __int128 wide = (__int128)amount * WINDOW_NS / limit;
    return wide > DEBT_MAX_NS ? DEBT_MAX_NS : (int64_t)wide;
}

// ---- One bucket

// Gives the wait in ns until it would fit: 0 when it was taken, NEVER when it is larger than the
// bucket.
static int64_t take(_Atomic int64_t *full_at_ns, int64_t limit, int64_t amount, int64_t now_ns)
{
    if (amount > limit)
        return NEVER;
    int64_t cost_ns = refill_ns(limit, amount);
    int64_t full_at = atomic_load_explicit(full_at_ns, memory_order_relaxed), next;
    do {
        next = larger(full_at, now_ns) + cost_ns;
        if (next - now_ns > WINDOW_NS)
            return next - now_ns - WINDOW_NS;
    } while (!atomic_compare_exchange_weak(full_at_ns, &full_at, next));
    return 0;
}

// Below empty too: these have been used already.
static void take_anyway(_Atomic int64_t *full_at_ns, int64_t limit, int64_t amount, int64_t now_ns)
{
    int64_t cost_ns = refill_ns(limit, amount);
    int64_t full_at = atomic_load_explicit(full_at_ns, memory_order_relaxed), next;
    do
        next = smaller(larger(full_at, now_ns) + cost_ns, now_ns + DEBT_MAX_NS);
    while (!atomic_compare_exchange_weak(full_at_ns, &full_at, next));
}

// An instant that falls into the past is a full bucket, not an overfull one.
static void give_back_ns(_Atomic int64_t *full_at_ns, int64_t ns)
{
    atomic_fetch_sub(full_at_ns, ns);
}

// ---- One place in flight

static bool enter(_Atomic int64_t *in_flight, int64_t limit)
{
    int64_t inside = atomic_load_explicit(in_flight, memory_order_relaxed);
    do {
        if (limit > 0 && inside >= limit)
            return false;
    } while (!atomic_compare_exchange_weak(in_flight, &inside, inside + 1));
    return true;
}

static void leave(_Atomic int64_t *in_flight)
{
    int64_t before = atomic_fetch_sub(in_flight, 1);
    CH_ASSERT(before > 0);
}

// ---- Claims

static int64_t amount_of(const struct ch_rate_claim *claim, enum ch_rate_kind kind)
{
    return kind == CH_RATE_REQUESTS ? 1 : claim->tokens;
}

static void undo(struct ch_rate_claim *claim, enum ch_rate_kind kind)
{
    int64_t limit = claim->limits.limit[kind];
    if (kind == CH_RATE_IN_FLIGHT)
        leave(&claim->counters->in_flight);
    else if (limit > 0)
        give_back_ns(&claim->counters->full_at_ns[kind], refill_ns(limit, amount_of(claim, kind)));
}

static void undo_all(struct ch_rate_claim *claim)
{
    for (unsigned kind = CH_RATE_KINDS; kind-- > 0;)
        undo(claim, (enum ch_rate_kind)kind);
}

static bool try_kind(struct ch_rate_claim *claim, enum ch_rate_kind kind,
                     struct ch_rate_refusal *refusal)
{
    int64_t limit = claim->limits.limit[kind], wait_ns;
    refusal->kind = kind;
    if (kind == CH_RATE_IN_FLIGHT) {
        refusal->retry_after_ms = IN_FLIGHT_RETRY_MS;
        return enter(&claim->counters->in_flight, limit);
    }
    if (limit <= 0)
        return true;
    wait_ns =
        take(&claim->counters->full_at_ns[kind], limit, amount_of(claim, kind), claim->taken_ns);
    refusal->retry_after_ms = wait_ns == NEVER ? NEVER : divide_up(wait_ns, MS_NS);
    return wait_ns == 0;
}

static bool try_claim(struct ch_rate_claim *claim, struct ch_rate_refusal *refusal)
{
    for (unsigned kind = 0; kind < CH_RATE_KINDS; kind++) {
        if (try_kind(claim, (enum ch_rate_kind)kind, refusal))
            continue;
        while (kind-- > 0)
            undo(claim, (enum ch_rate_kind)kind);
        return false;
    }
    return true;
}

enum ch_err ch_rate_limit_admit(struct ch_rate_claim *claims, size_t count, int64_t tokens,
                                int64_t now_ns, struct ch_rate_refusal *refusal_out)
{
    struct ch_rate_refusal refusal;
    size_t taken = 0;
    for (; taken < count; taken++) {
        claims[taken].tokens = larger(tokens, 0);
        claims[taken].taken_ns = now_ns;
        if (!try_claim(&claims[taken], &refusal))
            break;
    }
    if (taken == count)
        return CH_OK;
    refusal.claim = taken;
    *refusal_out = refusal;
    while (taken > 0)
        undo_all(&claims[--taken]);
    for (size_t i = 0; i < count; i++)
        claims[i].counters = NULL;
    return CH_ERR_LIMIT;
}

static void correct_tokens(struct ch_rate_claim *claim, int64_t tokens, int64_t now_ns)
{
    int64_t limit = claim->limits.limit[CH_RATE_TOKENS];
    _Atomic int64_t *full_at_ns = &claim->counters->full_at_ns[CH_RATE_TOKENS];
    if (limit <= 0)
        return;
    if (tokens > claim->tokens)
        take_anyway(full_at_ns, limit, tokens - claim->tokens, now_ns);
    else if (now_ns - claim->taken_ns < WINDOW_NS)
        give_back_ns(full_at_ns, refill_ns(limit, claim->tokens) - refill_ns(limit, tokens));
}

void ch_rate_limit_settle(struct ch_rate_claim *claim, int64_t tokens, int64_t now_ns)
{
    if (!claim->counters)
        return;
    correct_tokens(claim, larger(tokens, 0), now_ns);
    leave(&claim->counters->in_flight);
    claim->counters = NULL;
}

// ---- What clients are told

bool ch_rate_limits_are_set(const struct ch_rate_limits *limits)
{
    bool any = false;
    for (int kind = 0; kind < CH_RATE_KINDS; kind++)
        any |= limits->limit[kind] > 0;
    return any;
}

struct ch_rate_view ch_rate_limit_look(const struct ch_rate_counters *counters,
                                       const struct ch_rate_limits *limits, enum ch_rate_kind kind,
                                       int64_t now_ns)
{
    struct ch_rate_view view = {.limit = limits->limit[kind]};
    if (kind == CH_RATE_IN_FLIGHT) {
        view.remaining = larger(view.limit - atomic_load(&counters->in_flight), 0);
        return view;
    }
    int64_t wait_ns = larger(atomic_load(&counters->full_at_ns[kind]) - now_ns, 0);
    view.reset_ms = divide_up(wait_ns, MS_NS);
    if (wait_ns < WINDOW_NS)
        view.remaining = (int64_t)((__int128)view.limit * (WINDOW_NS - wait_ns) / WINDOW_NS);
    return view;
}

#define RETRY_AFTER_MAX_S 60

int64_t ch_rate_retry_after_s(int64_t retry_after_ms)
{
    if (retry_after_ms < 0)
        return RETRY_AFTER_MAX_S;
    return smaller(larger(divide_up(retry_after_ms, 1000), 1), RETRY_AFTER_MAX_S);
}
