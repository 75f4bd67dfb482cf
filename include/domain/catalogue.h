// SPDX-License-Identifier: Apache-2.0
// The catalogue: a versioned, immutable price list, and the cost of a usage by it.
//
// Loaded from `conf/prices.json` (schema chaperone.prices/1: source, date, licence notice, models),
// built by `chaperone price import` from LiteLLM's model_prices_and_context_window.json. Keys are
// parsed by the grammar of wire.md §4.1; values are decimal strings in USD per unit, held as
// integer femto-USD. After load it is shared by threads without a lock. Cost is the same function
// for an estimate and for settlement.
#ifndef CH_DOMAIN_CATALOGUE_H
#define CH_DOMAIN_CATALOGUE_H

#include "base/err.h"
#include "base/money.h"
#include "base/str.h"
#include "domain/usage.h"

struct ch_catalogue;
struct ch_price; // one model's prices; lives as long as its catalogue

// Parses a chaperone.prices/1 document. The reason names the model and key at fault: a key that is
// not known is an error here, since a price that is not understood would be charged wrongly.
enum ch_err ch_catalogue_load(struct ch_span json, struct ch_catalogue **catalogue_out,
                              struct ch_why *why) CH_MUST_USE;
void ch_catalogue_free(struct ch_catalogue *catalogue);
// "2026-08-01-3f2a91c0": date, content hash.
const char *ch_catalogue_version(const struct ch_catalogue *catalogue);
size_t ch_catalogue_size(const struct ch_catalogue *catalogue);

// Looks `model` up as wire.md §4.1 orders: prefix+model, then without a dated suffix (-YYYY-MM-DD,
// -YYYYMMDD), then a fine-tuned model by its base (ft:BASE:…), then, when model itself begins with
// a known prefix, the same without `prefix`. NULL: unpriced. No allocation.
const struct ch_price *ch_catalogue_find(const struct ch_catalogue *catalogue,
                                         struct ch_span prefix, struct ch_span model);
const char *ch_price_model(const struct ch_price *price);         // the catalogue's key
int64_t ch_price_max_output_tokens(const struct ch_price *price); // 0: not known

struct ch_cost {
    int64_t nano_usd;
    bool fallback; // an estimate: a price was missing and a documented fallback stood in
};
// Exact integer cost (wire.md §4.2): threshold, tier with fall-back to the plain key, multipliers,
// one rounding, INT64_MAX on overflow. A stated cost wins over the arithmetic (and then `price` may
// be NULL). Fallbacks, all marked: another tier than served at the plain price; cache reads and
// five-minute writes at the input price, one-hour writes at twice that; audio at the text price,
// image output at the output price; a search at 0.01 USD; 0 where nothing is known. Not marked,
// since the providers bill so: reasoning at the output price, images and video read at the input
// price. Only tokens and searches are priced; the catalogue keeps prices per second, character,
// image, page and request for listing.
struct ch_cost ch_price_cost(const struct ch_price *price, const struct ch_usage *usage);

#define CH_CATALOGUE_MAX_BYTES (16u << 20) // a longer document is refused, LiteLLM's has 1.4 MB

// Makes a chaperone.prices/1 document from LiteLLM's: models of OpenAI, Anthropic, Gemini (API
// key), Azure, Mistral, Groq, DeepSeek, xAI and OpenRouter; one model a line, sorted, the same
// bytes for the same input. `date` (YYYY-MM-DD) is that of the snapshot. A model with a per-token
// price above 0.01 USD, or with a price that is none, is left out (unpriced is safer than wrong).
// `notes_out` gets one line for each such model and for each cost key that is not known; `json_out`
// is appended to.
enum ch_err ch_catalogue_import(struct ch_span litellm_json, struct ch_span date,
                                struct ch_buf *json_out, struct ch_buf *notes_out,
                                struct ch_why *why) CH_MUST_USE;

// For listing: calls `each` in key order with the model and its prices as a JSON object text.
enum ch_err ch_catalogue_each(const struct ch_catalogue *catalogue,
                              void (*each)(void *arg, const char *model,
                                           struct ch_span prices_json),
                              void *arg) CH_MUST_USE;

#endif
