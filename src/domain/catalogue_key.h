// SPDX-License-Identifier: Apache-2.0
// What the loader and the importer of the catalogue share: the grammar of its keys and the reading
// of one price. Private to this folder; pure; any thread.
#ifndef CH_DOMAIN_CATALOGUE_KEY_H
#define CH_DOMAIN_CATALOGUE_KEY_H

#include "base/err.h"
#include "base/str.h"
#include "domain/usage.h"

#include <jansson.h>

#define CH_PRICE_SCHEMA "chaperone.prices/1"

// What a price per token is for: a token class, or behind the classes a part of one.
#define CH_RATES (CH_TOKEN_CLASSES + CH_TOKEN_PARTS)
static inline unsigned ch_rate_of_part(enum ch_token_part part)
{
    return CH_TOKEN_CLASSES + (unsigned)part;
}

// What other prices are for, as far as they are computed.
enum ch_price_unit {
    CH_UNIT_NONE, // kept for listing only
    CH_UNIT_IMAGE_OUT,
    CH_UNIT_IMAGE_IN,
    CH_UNIT_PIXEL_OUT,
    CH_UNIT_PIXEL_IN,
    CH_UNIT_SECOND_IN,
    CH_UNIT_SECOND_OUT,
    CH_UNIT_CHARACTER_IN,
    CH_UNIT_CHARACTER_OUT,
};
#define CH_PRICE_UNITS 9

// <stem>[_above_1hr][_above_<N>k_tokens][_flex|_priority|_batches|_ultrafast] (wire.md §4.1).
struct ch_price_key {
    bool is_token;
    unsigned rate;           // with is_token
    enum ch_price_unit unit; // without; NONE too where a threshold or a tier is named
    int64_t above_tokens;    // 0: no threshold
    enum ch_tier tier;
};
// False: the key is not known.
bool ch_price_key_parse(struct ch_span name, struct ch_price_key *key_out);

// Per-token prices above 0.01 USD are wrong by 1e6 (wire.md §4.1, data hygiene).
#define CH_PRICE_TOKEN_MAX_FEMTO (CH_FEMTO_PER_USD / 100)

// Parses JSON of a bounded size; `flags` are jansson's. The reason names the line.
enum ch_err ch_price_parse_json(struct ch_span json, size_t flags, json_t **root_out,
                                struct ch_why *why) CH_MUST_USE;

// Reads a price as a decimal string or a JSON number (LiteLLM's carry float noise, which the
// rounding to 1e-13 USD removes).
enum ch_err ch_price_read(const json_t *value, int64_t *femto_usd_out) CH_MUST_USE;

// A whole number of a JSON document, also where it is written 2000000.0.
enum ch_err ch_price_read_count(const json_t *value, int64_t *count_out) CH_MUST_USE;

// A multiplier ("1.1") in thousandths, at most 10, exact.
#define CH_PERMILLE INT64_C(1000)
enum ch_err ch_price_read_multiplier(const json_t *value, int64_t *permille_out) CH_MUST_USE;

// "YYYY-MM-DD".
bool ch_price_date_is_valid(struct ch_span date);

// The prefixes by which the catalogue tells providers apart; OpenAI's and Anthropic's models have
// none.
bool ch_price_has_prefix(struct ch_span model);

// Writes a compact dump into `out`; CH_ERR_LIMIT or CH_ERR_NOMEM.
enum ch_err ch_price_dump_json(const json_t *value, size_t flags, struct ch_buf *out) CH_MUST_USE;

#endif
