// SPDX-License-Identifier: Apache-2.0
// The catalogue: a versioned, immutable price list, and the cost of a usage by it.
//
// Loaded from `conf/prices.json` (schema chaperone.prices/1: source, date, licence notice, models),
// built by `chaperone price import` from LiteLLM's model_prices_and_context_window.json. Keys are
// parsed by the grammar of wire.md §4.1; values are decimal strings in USD per unit, held as
// integer femto-USD. Contract prices lie over the list (ch_catalogue_with_overrides). After load it
// is shared by threads without a lock. Cost is the same function for an estimate and for
// settlement.
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
// "2026-08-01-3f2a91c0": date, content hash; with contract prices "2026-08-01-3f2a91c0+o2".
const char *ch_catalogue_version(const struct ch_catalogue *catalogue);
size_t ch_catalogue_size(const struct ch_catalogue *catalogue); // models of the list

// Looks `model` up in the list as wire.md §4.1 orders: prefix+model, then without a dated suffix
// (-YYYY-MM-DD, -YYYYMMDD), then a fine-tuned model by its base (ft:BASE:…), then, when model
// itself begins with a known prefix, the same without `prefix`. NULL: unpriced. No allocation.
// Contract prices are not looked at: this is the list.
const struct ch_price *ch_catalogue_find(const struct ch_catalogue *catalogue,
                                         struct ch_span prefix, struct ch_span model);

// Who pays, and when: what contract prices depend on.
struct ch_price_query {
    struct ch_span prefix; // of the provider, "azure/"
    int64_t provider_id;
    int64_t at_ms; // when the exchange began; its price does not change under it
};
// The price of an exchange: a contract price of this provider, else of every provider, the latest
// that is valid, under any name that the list would be searched by, dates and fine-tuning left off;
// else the list's. Images that are not billed by the token are looked up by quality and size first
// ("hd/1024-x-1024/dall-e-3"). `usage` may be NULL. NULL: unpriced. No allocation.
const struct ch_price *ch_catalogue_find_for(const struct ch_catalogue *catalogue,
                                             const struct ch_price_query *query,
                                             struct ch_span model, const struct ch_usage *usage);
const char *ch_price_model(const struct ch_price *price); // the catalogue's key
bool ch_price_is_contract(const struct ch_price *price);
int64_t ch_price_max_input_tokens(const struct ch_price *price);  // 0: not known
int64_t ch_price_max_output_tokens(const struct ch_price *price); // 0: not known
// Whether the model is billed by the token; else by images, seconds or characters, if at all. The
// usage of a speech endpoint, whose plain answer states nothing, is exact where this is false.
bool ch_price_takes_tokens(const struct ch_price *price);

struct ch_cost {
    int64_t nano_usd;
    bool fallback; // an estimate: a price was missing and a documented fallback stood in
};
// Exact integer cost (wire.md §4.2): threshold, tier with fall-back to the plain key, multipliers,
// one rounding, INT64_MAX on overflow. A stated cost wins over the arithmetic (and then `price` may
// be NULL). A model that has prices per token is billed by them; one that has none by the units
// that were used: images (by the image, else by their pixels), seconds of audio to the millisecond,
// characters. A price that stands for input and output of one unit is charged once. Fallbacks, all
// marked: another tier than served at the plain price; cache reads and five-minute writes at the
// input price, one-hour writes at twice that; cached audio at the price of cached text; audio at
// the text price, image and video output at the output price; an image of a size that has no price
// of its own; a search at 0.01 USD; 0 where nothing is known. Not marked, since the providers bill
// so: reasoning at the output price, images and video read at the input price, cached images as
// cached text. Prices per page, session and query are kept for listing.
struct ch_cost ch_price_cost(const struct ch_price *price, const struct ch_usage *usage);

// ---- contract prices

#define CH_PRICE_OVERRIDES_MAX 4096

struct ch_price_override {
    int64_t provider_id;   // 0: every provider
    struct ch_span prefix; // of that provider; the list's price that is written over is found by it
    struct ch_span model;  // with the prefix or without
    // A JSON object with the keys of chaperone.prices/1. What it does not name stays as the list
    // has it, null takes a price away. A model that is not in the list needs no more than this.
    struct ch_span prices_json;
    int64_t valid_from_ms;
};
// A catalogue of its own with the list of `base` and these contract prices instead of any that base
// has. `revision` is the caller's number of this set of prices and stands in the version, so that a
// row tells both. Overrides are borrowed for the call. The reason names the model and key at fault;
// CH_ERR_CONFLICT for two of one provider, model and instant, CH_ERR_LIMIT for too many.
enum ch_err ch_catalogue_with_overrides(const struct ch_catalogue *base,
                                        const struct ch_price_override *overrides, size_t count,
                                        int64_t revision, struct ch_catalogue **catalogue_out,
                                        struct ch_why *why) CH_MUST_USE;

// ---- import

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

enum ch_price_change_kind {
    CH_PRICE_ADDED,   // a model that the old catalogue does not have
    CH_PRICE_REMOVED, // one that the new catalogue does not have
    CH_PRICE_CHANGED, // one member of a model
};
// What a list has where another has something else. All texts are borrowed for the call.
struct ch_price_change {
    enum ch_price_change_kind kind;
    const char *model;
    const char *key;         // of the member; "" for a model
    struct ch_span old, new; // JSON values; empty: the member is not there. Of a model: its object
};
struct ch_catalogue_changes {
    size_t added, removed, changed; // models
    size_t jumps;                   // prices that change by more than CH_PRICE_JUMP
};
// Compares the lists of two catalogues (contract prices do not count) and calls `each`, which may
// be NULL, by model in key order, and within a model by key. `old` may be NULL: everything is
// added.
enum ch_err ch_catalogue_diff(const struct ch_catalogue *old, const struct ch_catalogue *new,
                              void (*each)(void *arg, const struct ch_price_change *change),
                              void *arg, struct ch_catalogue_changes *changes_out) CH_MUST_USE;

#define CH_PRICE_JUMP 10 // a price times or divided by more than this is suspicious
// Whether a list may replace another without a word from the operator. CH_ERR_DENIED with a reason
// that names the first: a price that changes by more than CH_PRICE_JUMP times or to zero, or fewer
// than half of the models. A price that was zero may rise: previews end.
enum ch_err ch_catalogue_check(const struct ch_catalogue *old, const struct ch_catalogue *new,
                               struct ch_why *why) CH_MUST_USE;

// For listing: calls `each` in key order with the model and its prices as a JSON object text.
enum ch_err ch_catalogue_each(const struct ch_catalogue *catalogue,
                              void (*each)(void *arg, const char *model,
                                           struct ch_span prices_json),
                              void *arg) CH_MUST_USE;

#endif
