// SPDX-License-Identifier: Apache-2.0
// The estimate of an exchange before it runs: what it can cost at worst and what it will likely
// cost. docs/estimates.md is the rule in words.
//
// The gate estimates on admission, on any loop thread, and budgets and token limits reserve by it;
// settlement tells what the exchange really used, and the likely side learns from that. Both sides
// are a `struct ch_usage`, priced by ch_price_cost, the function of settlement. Integers only,
// saturating; nothing but ch_learned_new allocates; nothing locks.
#ifndef CH_DOMAIN_ESTIMATE_H
#define CH_DOMAIN_ESTIMATE_H

#include "domain/budget.h"
#include "domain/catalogue.h"

// ---- What has been learned

// Output sizes per (key, model) and per model, and tokens per request byte per model. Fixed memory:
// about 666 KB, touched as it fills. A pair that finds no place (4,096 pairs, 512 models) is
// estimated by its model, a model that finds none by the defaults. Nothing leaves before the
// process ends. Shared by threads without a lock: counts are approximate, values never torn.
struct ch_learned;

#define CH_LEARNED_PAIRS  4096
#define CH_LEARNED_MODELS 512

enum ch_err ch_learned_new(struct ch_learned **learned_out) CH_MUST_USE;
void ch_learned_free(struct ch_learned *learned); // no other thread may be inside a call
size_t ch_learned_bytes(void);                    // what ch_learned_new allocates

// The name under which a model is learned: hashed once per exchange, used for both calls.
uint64_t ch_learned_model(struct ch_span model);

// How an exchange went whose usage the provider stated in full (grade `exact`); others would teach
// what is not so. One without bytes, or negative tokens, is dropped.
struct ch_learned_sample {
    int64_t key_id;
    uint64_t model; // ch_learned_model of the model sent
    int64_t body_bytes;
    bool refers_to_content; // as in the request; then its bytes teach nothing about its tokens
    int64_t choices;        // as in the request: output is learned per choice
    int64_t input_tokens, output_tokens; // totals over all classes
};
void ch_learned_observe(struct ch_learned *learned, const struct ch_learned_sample *sample);

// ---- The tiers a request allows

struct ch_tier_request {
    unsigned allowed;    // bits 1 << enum ch_tier: what it may be served and billed as
    enum ch_tier likely; // what it asks for
};
// By the request's `service_tier`, empty where absent. Absent is "auto" to the providers, and
// "auto" may be served as priority, by the settings of the provider's account. Every request may be
// served as standard. An unknown name allows every tier.
struct ch_tier_request ch_tier_request_parse(struct ch_span service_tier);

// ---- The dearest way a price can bill

// Made once per price, beside which it lives; ch_price_cost is its only source. A row is a tier
// and a size of input from which on its dearest classes cost more than those of the rows before it.
#define CH_PRICE_BOUND_ROWS 16
struct ch_price_bound {
    const struct ch_price *price;
    size_t count;
    struct ch_price_bound_row {
        int64_t from_tokens;         // total input
        int64_t input_nano_per_mega; // nano-USD per million tokens
        int64_t output_nano_per_mega;
        unsigned char tier;
        // enum ch_token_class, or CH_TOKEN_CLASSES and an enum ch_token_part
        unsigned char input_rate, output_rate;
    } rows[CH_PRICE_BOUND_ROWS];
};
// Takes some 30 µs, so not per exchange. What counts are the classes and parts that the price has a
// price of its own for. CH_ERR_LIMIT: more distinct tiers and thresholds than rows; treat the model
// as one without a price.
enum ch_err ch_price_bound_init(struct ch_price_bound *bound,
                                const struct ch_price *price) CH_MUST_USE;

// ---- The estimate

// What stands in where neither the request nor the catalogue knows, in tokens but for the last.
#define CH_ESTIMATE_MAX_INPUT     INT64_C(2097152) // the largest context on offer
#define CH_ESTIMATE_MAX_OUTPUT    INT64_C(131072)  // the largest answer on offer
#define CH_ESTIMATE_LIKELY_OUTPUT INT64_C(1024)    // of a choice, until something is learned
// What a provider adds for tools: Anthropic's prompt and its definitions of computer, editor and
// shell, which a request names in a few bytes, come to about 2,200.
#define CH_ESTIMATE_TOOL_TOKENS INT64_C(2560)
#define CH_ESTIMATE_SEARCHES    INT64_C(10) // where they are allowed without a number

struct ch_estimate_request {
    int64_t key_id;
    uint64_t model; // ch_learned_model of the model that will be sent
    int64_t body_bytes;
    // The body names content instead of holding it (URLs and ids of images, files, audio and
    // caches, previous_response_id, conversation, a stored prompt), or lets the provider fetch some
    // (web search, file search, code, MCP): its input can have more tokens than it has bytes.
    bool refers_to_content;
    bool has_tools;            // tools of any kind
    int64_t max_output_tokens; // asked for; 0 where there is no output (embeddings); -1: not said
    int64_t choices;           // n, best_of, candidateCount, times prompts of a list; at least 1
    int64_t searches;          // web searches it may cause; 0: none, -1: some
    struct ch_tier_request tier;
    // ch_price_max_input_tokens, ch_price_max_output_tokens; 0: not known.
    int64_t model_max_input, model_max_output;
    bool us_region, eu_region, is_fast; // multipliers, as in struct ch_usage
};

struct ch_estimate {
    struct ch_usage worst, likely; // likely is never above worst, neither in tokens nor in money
    struct ch_budget_estimate cost;
};
// For endpoints that are billed by the token. Images, transcription and speech are estimated by
// ch_media_estimate. `bound` NULL: a model without a price; tokens are estimated, the cost is 0 and
// the caller's policy for such models decides. `learned` NULL: the defaults.
void ch_estimate_make(const struct ch_estimate_request *request, const struct ch_price_bound *bound,
                      const struct ch_learned *learned, struct ch_estimate *estimate_out);

#endif
