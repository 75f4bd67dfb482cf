// SPDX-License-Identifier: Apache-2.0
// The catalogue: a versioned, immutable price list, and the cost of a usage by it.
//
// Loaded from `conf/prices.json` (schema chaperone.prices/1: source, date, licence notice, models), built by
// `chaperone price import` from LiteLLM's model_prices_and_context_window.json. Keys are parsed by the
// grammar of wire.md §4.1; prices are integer femto-USD per unit. After load it is shared by threads
// without a lock. Cost is the same function for an estimate and for settlement.
#ifndef CH_DOMAIN_CATALOGUE_H
#define CH_DOMAIN_CATALOGUE_H

#include "base/err.h"
#include "base/money.h"
#include "base/str.h"
#include "domain/usage.h"

struct ch_catalogue;
struct ch_price; // one model's prices; lives as long as its catalogue

// Parses a chaperone.prices/1 document. The reason names the model and key at fault.
enum ch_err ch_catalogue_load(struct ch_span json, struct ch_catalogue **catalogue_out,
                              struct ch_why *why) CH_MUST_USE;
void ch_catalogue_free(struct ch_catalogue *catalogue);
const char *ch_catalogue_version(const struct ch_catalogue *catalogue); // "2026-08-01-3f2a91c0": date, content hash
size_t ch_catalogue_size(const struct ch_catalogue *catalogue);

// Looks `model` up as wire.md §4.1 orders: prefix+model, then without a dated suffix (-YYYY-MM-DD,
// -YYYYMMDD), then, when model itself begins with a known prefix, as it stands. NULL: unpriced. No allocation.
const struct ch_price *ch_catalogue_find(const struct ch_catalogue *catalogue, struct ch_span prefix,
                                         struct ch_span model);
const char *ch_price_model(const struct ch_price *price); // the catalogue's key
int64_t ch_price_max_output_tokens(const struct ch_price *price); // 0: not known

struct ch_cost {
    int64_t nano_usd;
    bool fallback; // a class had no price of its own and a documented fallback was used
};
// Exact integer cost (wire.md §4.2): threshold, tier with fall-back to the plain key, multipliers, one
// rounding. A stated cost wins over the arithmetic.
struct ch_cost ch_price_cost(const struct ch_price *price, const struct ch_usage *usage);

// Makes a chaperone.prices/1 document from LiteLLM's: models of OpenAI, Anthropic, Gemini (API key),
// Azure, Mistral, Groq, DeepSeek, xAI and OpenRouter. Refuses per-token prices above 0.01 USD and lists
// them, and every cost key it does not know, in `notes_out` (one line each).
enum ch_err ch_catalogue_import(struct ch_span litellm_json, struct ch_span date,
                                struct ch_buf *json_out, struct ch_buf *notes_out,
                                struct ch_why *why) CH_MUST_USE;

// For listing: calls `each` in key order with the model and its prices as a JSON object text.
enum ch_err ch_catalogue_each(const struct ch_catalogue *catalogue,
                              void (*each)(void *arg, const char *model, struct ch_span prices_json),
                              void *arg) CH_MUST_USE;

#endif
