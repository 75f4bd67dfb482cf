// SPDX-License-Identifier: Apache-2.0
// What a catalogue is made of. Private to the files that load it, look things up in it and compute
// a cost by it. Immutable after load.
#ifndef CH_DOMAIN_CATALOGUE_PRIVATE_H
#define CH_DOMAIN_CATALOGUE_PRIVATE_H

#include "domain/catalogue.h"
#include "catalogue_key.h"

#define CH_IMAGE_DEFAULT_SIDE 1024 // pixels: OpenAI's size where none is said

// The prices of one tier above one size of input. Absent ones are -1.
struct ch_rate_card {
    int64_t above_tokens;
    enum ch_tier tier;
    int64_t femto[CH_RATES];
};

struct ch_price {
    char *model;
    size_t model_len;
    struct ch_rate_card *cards; // largest threshold first, in it the plain tier last
    size_t card_count;
    int64_t max_input_tokens, max_output_tokens;
    int64_t unit_femto[CH_PRICE_UNITS]; // -1: not known
    int64_t search_femto;               // -1: not known
    bool is_search_per_prompt;          // any number of searches of an exchange costs one
    bool is_threshold_inclusive;        // xAI: a threshold is reached, not passed
    bool is_contract;
    bool is_sized;                      // "1024-x-1024/dall-e-2": an image of that size
    int64_t geo_us, fast;               // thousandths, on tokens
    int64_t regional_us, regional_eu;   // thousandths, on everything
    int64_t provider_id, valid_from_ms; // of a contract price; 0: every provider, since ever
};

struct ch_price_slot {
    uint64_t hash;
    const struct ch_price *price; // NULL: free
};

// Prices by name: open addressing, at most half full. Contract prices may share a name.
struct ch_price_index {
    struct ch_price *prices; // sorted by model
    size_t count;
    struct ch_price_slot *slots;
    size_t slot_mask;
};

struct ch_catalogue {
    char version[48]; // date, '-', eight hex digits; with contract prices "+o" and their revision
    char *text;       // the document, for listing and for another overlay
    size_t text_len;
    struct ch_price_index list, contracts;
};

// Reads one model's members. The name is copied.
enum ch_err ch_price_read_model(const char *model, json_t *members, struct ch_price *price,
                                struct ch_why *why) CH_MUST_USE;
// Sorts the prices and builds the table over them.
enum ch_err ch_price_index_build(struct ch_price_index *index) CH_MUST_USE;

#endif
