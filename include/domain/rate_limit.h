// SPDX-License-Identifier: Apache-2.0
// Rate limits: requests and tokens per minute, and exchanges at a time, of a key or a team.
//
// Requests and tokens are a bucket each, kept as GCRA (the generic cell rate algorithm of ATM,
// I.371): one 64-bit instant, the time at which the bucket is full again. A bucket holds one
// minute's limit and refills steadily, so at no instant can more than the limit be taken at once,
// and in w seconds no more than limit × (1 + w/60): there is no window with an edge to wait for.
// A refused call writes nothing: it costs nothing and lengthens no block.
//
// All loop threads count without locks. Times are arguments (monotonic clock, ns, not negative);
// nothing allocates. Zeroed counters are full buckets.
#ifndef CH_DOMAIN_RATE_LIMIT_H
#define CH_DOMAIN_RATE_LIMIT_H

#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ch_rate_kind {
    CH_RATE_REQUESTS, // per minute
    CH_RATE_TOKENS,   // per minute, input and output
    CH_RATE_IN_FLIGHT,
};
#define CH_RATE_KINDS 3
// "rpm", "tpm", "concurrency".
const char *ch_rate_kind_name(enum ch_rate_kind kind);

struct ch_rate_limits {
    int64_t limit[CH_RATE_KINDS]; // 0: none
};
bool ch_rate_limits_are_set(const struct ch_rate_limits *limits); // any of them

// Live beside the record, outlive every edit of it: an edit keeps the time to the full bucket.
struct ch_rate_counters {
    _Atomic int64_t full_at_ns[CH_RATE_IN_FLIGHT]; // of requests and of tokens
    _Atomic int64_t in_flight;
};

// What a client is told of one limit, as the dialects' rate-limit header fields do.
struct ch_rate_view {
    int64_t limit;
    int64_t remaining; // whole requests or tokens that could be taken now
    int64_t reset_ms;  // until all of them could; 0 for exchanges in flight, which nobody foresees
};
struct ch_rate_view ch_rate_limit_look(const struct ch_rate_counters *counters,
                                       const struct ch_rate_limits *limits, enum ch_rate_kind kind,
                                       int64_t now_ns);

// What one exchange takes of one subject. The caller sets counters and limits; the rest is private.
// The limits are copied, so an edit in between does not unsettle it. One thread at a time.
struct ch_rate_claim {
    struct ch_rate_counters *counters; // NULL: empty
    struct ch_rate_limits limits;
    int64_t tokens;
    int64_t taken_ns;
};

struct ch_rate_refusal {
    size_t claim; // the index
    enum ch_rate_kind kind;
    // Until the same request would fit if nobody else came; -1: never, it is larger than the limit.
    // For exchanges in flight a guess of one second.
    int64_t retry_after_ms;
};

// Takes a request, `tokens` (negative counts as 0) and a place in flight from every claim or from
// none. CH_ERR_LIMIT: refused, all claims are empty; what was taken for a moment can have refused
// another exchange meanwhile, never admitted one. CH_OK: every claim must be settled.
enum ch_err ch_rate_limit_admit(struct ch_rate_claim *claims, size_t count, int64_t tokens,
                                int64_t now_ns, struct ch_rate_refusal *refusal_out) CH_MUST_USE;

// Leaves the place in flight and corrects the tokens: more are taken now, which may go below empty
// by up to a day's worth; fewer are given back, if the exchange was admitted less than a minute ago
// (after that the bucket has had time to refill by itself, and giving back would let old
// reservations be hoarded for one burst). The claim is empty after it and a second call does
// nothing.
void ch_rate_limit_settle(struct ch_rate_claim *claim, int64_t tokens, int64_t now_ns);

// The value of a Retry-After field: whole seconds, 1 to 60; 60 for never. SDKs sleep for longer
// ones, or give up.
int64_t ch_rate_retry_after_s(int64_t retry_after_ms);

#endif
