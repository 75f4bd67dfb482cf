// SPDX-License-Identifier: Apache-2.0
// Rate limits of an exchange: claimed at admission, settled with what it used, and told to the
// client in its dialect's own fields.
#include "shared.h"

#include <stdio.h>

static const char *const rate_codes[CH_RATE_KINDS] = {
    [CH_RATE_REQUESTS] = "rate_limit_exceeded",
    [CH_RATE_TOKENS] = "rate_limit_exceeded",
    [CH_RATE_IN_FLIGHT] = "concurrency_limit_exceeded",
};
static const char *const shadow_rate_codes[CH_RATE_KINDS] = {
    [CH_RATE_REQUESTS] = "shadow:rate_limit_exceeded",
    [CH_RATE_TOKENS] = "shadow:rate_limit_exceeded",
    [CH_RATE_IN_FLIGHT] = "shadow:concurrency_limit_exceeded",
};
static const char *const rate_units[CH_RATE_KINDS] = {
    [CH_RATE_REQUESTS] = "requests per minute",
    [CH_RATE_TOKENS] = "tokens per minute",
    [CH_RATE_IN_FLIGHT] = "requests at a time",
};

// Names of the rate-limit fields of a dialect (wire.md §3.4), with what stands between two values.
struct rate_fields {
    struct ch_span limit, remaining, reset, end;
};
#define RATE_FIELDS(limit, remaining, reset, end)                                                  \
    {                                                                                              \
        CH_SPAN(limit ": "), CH_SPAN("\r\n" remaining ": "), CH_SPAN("\r\n" reset ": "),           \
            CH_SPAN(end "\r\n")                                                                    \
    }
static const struct rate_fields openai_rate_fields[] = {
    [CH_RATE_REQUESTS] = RATE_FIELDS("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
                                     "x-ratelimit-reset-requests", "ms"),
    [CH_RATE_TOKENS] = RATE_FIELDS("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens",
                                   "x-ratelimit-reset-tokens", "ms"),
};
static const struct rate_fields anthropic_rate_fields[] = {
    [CH_RATE_REQUESTS] =
        RATE_FIELDS("anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining",
                    "anthropic-ratelimit-requests-reset", ""),
    [CH_RATE_TOKENS] =
        RATE_FIELDS("anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining",
                    "anthropic-ratelimit-tokens-reset", ""),
};

// Three lines of a kind; the longest name has 38 characters.
#define RATE_LINES 256

static char *put(char *at, struct ch_span text)
{
    memcpy(at, text.ptr, text.len);
    return at + text.len;
}

static char *put_uint(char *at, int64_t value)
{
    char digits[CH_UINT_DIGITS];
    return put(at, ch_uint_digits((uint64_t)value, digits));
}

// By hand: each answer of a key with limits carries six such lines.
static char *put_rate_lines(char *at, enum ch_dialect dialect, enum ch_rate_kind kind,
                            const struct ch_rate_view *view)
{
    bool is_openai = dialect == CH_DIALECT_OPENAI;
    const struct rate_fields *fields =
        is_openai ? &openai_rate_fields[kind] : &anthropic_rate_fields[kind];
    at = put_uint(put(at, fields->limit), view->limit);
    at = put_uint(put(at, fields->remaining), view->remaining);
    at = put(at, fields->reset);
    if (is_openai) {
        at = put_uint(at, view->reset_ms);
    } else {
        char time[25];
        ch_clock_format_utc(ch_clock_wall_ms() + view->reset_ms, time);
        at = put(at, ch_span_of(time));
    }
    return put(at, fields->end);
}

// The scope's own numbers in the caller's dialect.
static enum ch_err append_fields(enum ch_dialect dialect, const struct ch_rate_counters *counters,
                                 const struct ch_rate_limits *limits, int64_t now_ns,
                                 struct ch_buf *out)
{
    if (dialect == CH_DIALECT_GEMINI)
        return CH_OK; // has no such fields
    char lines[2 * RATE_LINES], *at = lines;
    for (enum ch_rate_kind kind = CH_RATE_REQUESTS; kind <= CH_RATE_TOKENS; kind++)
        if (limits->limit[kind] > 0) {
            struct ch_rate_view view = ch_rate_limit_look(counters, limits, kind, now_ns);
            at = put_rate_lines(at, dialect, kind, &view);
        }
    return ch_buf_append(out, lines, (size_t)(at - lines));
}

CH_COLD static bool refuse_rate(struct exchange *x, const struct scope *scope,
                                const struct ch_rate_limits *limits,
                                const struct ch_rate_refusal *refusal)
{
    char message[240];
    struct ch_buf fields;
    int64_t limit = limits->limit[refusal->kind];
    bool is_hopeless = refusal->retry_after_ms < 0;
    ch_buf_init(&fields, 1024);
    enum ch_err err =
        append_fields(x->dialect, &scope->counters, limits, ch_loop_now_ns(x->pl->loop), &fields);
    if (!err)
        err = is_hopeless ? ch_buf_append_span(&fields, CH_SPAN("x-should-retry: false\r\n"))
                          : ch_buf_append_format(&fields, "retry-after-ms: %lld\r\n",
                                                 (long long)refusal->retry_after_ms);
    if (!err)
        err = ch_buf_append(&fields, "", 1);
    snprintf(message, sizeof message, "%s for this %s: %lld %s.%s",
             refusal->kind == CH_RATE_IN_FLIGHT ? "Too many requests at a time"
                                                : "Rate limit exceeded",
             ch_budget_scope_name(scope->kind), (long long)limit, rate_units[refusal->kind],
             is_hopeless ? " This request alone is larger than the limit." : "");
    respond_denial(
        x,
        &(struct denial){.status = 429,
                         .code = rate_codes[refusal->kind],
                         .message = message,
                         .fields = err ? NULL : fields.ptr,
                         .retry_after_ms = is_hopeless ? 0 : refusal->retry_after_ms,
                         .retry_after_s =
                             is_hopeless ? 0 : (int)ch_rate_retry_after_s(refusal->retry_after_ms)},
        CH_END_DENIED);
    ch_buf_fini(&fields);
    return false;
}

// A shadow's claim is tried alone: what it would refuse passes without it.
static void claim_shadow(struct exchange *x, struct ch_rate_claim *claim, int64_t now_ns)
{
    struct ch_rate_refusal refusal;
    if (ch_rate_limit_admit(claim, 1, x->policy.tokens, now_ns, &refusal))
        policy_note_shadow(x, shadow_rate_codes[refusal.kind]);
}

bool rates_claim(struct exchange *x, struct scope *const *scopes, unsigned count)
{
    struct policy_state *state = &x->policy;
    struct scope *real[CLAIMS_MAX] = {NULL};
    struct ch_rate_claim claims[CLAIMS_MAX], shadows[CLAIMS_MAX];
    unsigned real_count = 0, shadow_count = 0;
    int64_t now_ns = ch_loop_now_ns(x->pl->loop);
    for (unsigned i = 0; i < count; i++) {
        const struct scope_terms *terms = scope_terms(scopes[i]);
        if (!terms || !ch_rate_limits_are_set(&terms->limits))
            continue;
        CH_ASSERT(real_count + shadow_count < CLAIMS_MAX); // keys and teams have limits
        struct ch_rate_claim claim = {.counters = &scopes[i]->counters, .limits = terms->limits};
        if (terms->limits_are_shadow) {
            shadows[shadow_count++] = claim;
        } else {
            real[real_count] = scopes[i];
            claims[real_count++] = claim;
        }
    }
    struct ch_rate_refusal refusal;
    const struct ch_rate_limits limits = real_count ? claims[0].limits : (struct ch_rate_limits){0};
    const struct ch_rate_limits second = real_count > 1 ? claims[1].limits : limits;
    if (real_count && ch_rate_limit_admit(claims, real_count, state->tokens, now_ns, &refusal))
        return refuse_rate(x, real[refusal.claim], refusal.claim ? &second : &limits, &refusal);
    for (unsigned i = 0; i < real_count; i++)
        state->claims[state->claim_count++] = claims[i];
    state->is_limited = real_count > 0;
    for (unsigned i = 0; i < shadow_count; i++) {
        claim_shadow(x, &shadows[i], now_ns);
        state->claims[state->claim_count++] = shadows[i];
    }
    return true;
}

void rates_settle(struct exchange *x, const struct ch_usage *usage)
{
    struct policy_state *state = &x->policy;
    if (state->claim_count == 0)
        return;
    int64_t now_ns = ch_loop_now_ns(x->pl->loop), tokens = usage ? policy_all_tokens(usage) : 0;
    for (unsigned i = 0; i < state->claim_count; i++)
        ch_rate_limit_settle(&state->claims[i], tokens, now_ns);
    state->claim_count = 0;
}

enum ch_err rates_append_fields(const struct exchange *x, struct ch_buf *out)
{
    const struct policy_state *state = &x->policy;
    return state->is_limited
               ? append_fields(x->dialect, state->claims[0].counters, &state->claims[0].limits,
                               ch_loop_now_ns(x->pl->loop), out)
               : CH_OK;
}
