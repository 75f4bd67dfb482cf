// SPDX-License-Identifier: Apache-2.0
// The cost of a usage by a price (wire.md §4.2).
#include "catalogue_private.h"

// OpenAI's and Anthropic's price of a web search (wire.md §4.2); the gpt-5 rows lack it.
#define SEARCH_DEFAULT_FEMTO (CH_FEMTO_PER_USD / 100)
// What a sum saturates at: the largest amount, in femto-USD.
#define FEMTO_CAP ((ch_femto_sum)INT64_MAX * CH_FEMTO_PER_NANO)
// Units are summed in thousandths of a femto-USD, since a second is priced and a millisecond
// counted.
#define MILLI 1000

static ch_femto_sum cap(ch_femto_sum femto)
{
    return femto < FEMTO_CAP ? femto : FEMTO_CAP;
}

static ch_femto_sum cap_milli(ch_femto_sum milli_femto)
{
    return milli_femto < FEMTO_CAP * MILLI ? milli_femto : FEMTO_CAP * MILLI;
}

// ---- tokens

static bool is_above(const struct ch_price *price, int64_t tokens, int64_t threshold)
{
    return threshold == 0 || tokens > threshold ||
           (price->is_threshold_inclusive && tokens == threshold);
}

// The rate's own price: at the largest threshold passed, there in the tier served, else the plain
// one; then at the next threshold. -1: none. `other_tier_out` is set when the plain price had to
// stand for the tier served.
static int64_t own_rate(const struct ch_price *price, const struct ch_usage *usage, unsigned rate,
                        bool *other_tier_out)
{
    for (size_t i = 0; i < price->card_count; i++) {
        const struct ch_rate_card *card = &price->cards[i];
        bool applies = card->tier == usage->tier || card->tier == CH_TIER_STANDARD;
        if (!applies || card->femto[rate] < 0 ||
            !is_above(price, usage->threshold_tokens, card->above_tokens))
            continue;
        *other_tier_out = card->tier != usage->tier;
        return card->femto[rate];
    }
    return -1;
}

#define PART(part) (CH_TOKEN_CLASSES + (part))

// What stands in for a rate without a price of its own; see ch_price_cost in the header.
static const struct {
    unsigned instead; // itself: nothing does
    int factor;
    bool is_billed_so;
} stand_ins[CH_RATES] = {
    [CH_TOKENS_INPUT] = {CH_TOKENS_INPUT, 1, false},
    [CH_TOKENS_CACHE_READ] = {CH_TOKENS_INPUT, 1, false},
    [CH_TOKENS_CACHE_WRITE_5M] = {CH_TOKENS_INPUT, 1, false},
    [CH_TOKENS_CACHE_WRITE_1H] = {CH_TOKENS_INPUT, 2, false},
    [CH_TOKENS_AUDIO_IN] = {CH_TOKENS_INPUT, 1, false},
    [CH_TOKENS_IMAGE_IN] = {CH_TOKENS_INPUT, 1, true},
    [CH_TOKENS_OUTPUT] = {CH_TOKENS_OUTPUT, 1, false},
    [CH_TOKENS_REASONING] = {CH_TOKENS_OUTPUT, 1, true},
    [CH_TOKENS_AUDIO_OUT] = {CH_TOKENS_OUTPUT, 1, false},
    [CH_TOKENS_IMAGE_OUT] = {CH_TOKENS_OUTPUT, 1, false},
    [PART(CH_PART_CACHE_READ_AUDIO)] = {CH_TOKENS_CACHE_READ, 1, false},
    [PART(CH_PART_CACHE_READ_IMAGE)] = {CH_TOKENS_CACHE_READ, 1, true},
    [PART(CH_PART_VIDEO_IN)] = {CH_TOKENS_INPUT, 1, true},
    [PART(CH_PART_VIDEO_OUT)] = {CH_TOKENS_OUTPUT, 1, false},
};

static int64_t rate_of(const struct ch_price *price, const struct ch_usage *usage, unsigned rate,
                       bool *fallback)
{
    int factor = 1;
    bool other_tier = false;
    int64_t femto = own_rate(price, usage, rate, &other_tier);
    while (femto < 0 && stand_ins[rate].instead != rate) {
        factor *= stand_ins[rate].factor;
        *fallback |= !stand_ins[rate].is_billed_so;
        rate = stand_ins[rate].instead;
        femto = own_rate(price, usage, rate, &other_tier);
    }
    *fallback |= femto < 0 || other_tier;
    return femto > 0 ? femto * factor : 0;
}

static ch_femto_sum token_cost(const struct ch_price *price, const struct ch_usage *usage,
                               bool *fallback)
{
    int64_t tokens[CH_RATES];
    ch_femto_sum sum = 0;
    for (unsigned i = 0; i < CH_TOKEN_CLASSES; i++)
        tokens[i] = usage->tokens[i];
    for (unsigned i = 0; i < CH_TOKEN_PARTS; i++) {
        int64_t *whole = &tokens[ch_token_part_class((enum ch_token_part)i)];
        int64_t part = usage->parts[i] < *whole ? usage->parts[i] : *whole;
        tokens[PART(i)] = part > 0 ? part : 0;
        *whole -= tokens[PART(i)];
    }
    for (unsigned i = 0; i < CH_RATES; i++)
        if (tokens[i] > 0)
            sum = cap(sum + (ch_femto_sum)tokens[i] * rate_of(price, usage, i, fallback));
    return sum;
}

bool ch_price_is_contract(const struct ch_price *price)
{
    return price->is_contract;
}

bool ch_price_takes_tokens(const struct ch_price *price)
{
    for (size_t i = 0; i < price->card_count; i++)
        for (unsigned rate = 0; rate < CH_RATES; rate++)
            if (price->cards[i].femto[rate] > 0)
                return true;
    return false;
}

// ---- units

// OpenAI's prices of images are whole thousandths of a dollar; the catalogue divides some of them
// by pixels and rounds. A product that is within half a percent of such a price means it.
#define MILL_FEMTO  (CH_FEMTO_PER_USD / 1000)
#define MEANT_PARTS 200
static ch_femto_sum image_by_pixels(int64_t pixel_femto, const struct ch_usage *usage)
{
    int64_t width = usage->image_width ? usage->image_width : CH_IMAGE_DEFAULT_SIDE;
    int64_t height = usage->image_height ? usage->image_height : CH_IMAGE_DEFAULT_SIDE;
    ch_femto_sum exact = cap((ch_femto_sum)pixel_femto * width * height);
    ch_femto_sum whole = (exact + MILL_FEMTO / 2) / MILL_FEMTO * MILL_FEMTO;
    ch_femto_sum apart = whole > exact ? whole - exact : exact - whole;
    ch_femto_sum meant = apart * MEANT_PARTS <= exact ? whole : exact;
    return meant < INT64_MAX ? meant : INT64_MAX;
}

// The price of one image in femto-USD; -1: not known.
static ch_femto_sum image_price(const struct ch_price *price, const struct ch_usage *usage,
                                bool *fallback)
{
    static const enum ch_price_unit by_image[] = {CH_UNIT_IMAGE_OUT, CH_UNIT_IMAGE_IN};
    static const enum ch_price_unit by_pixel[] = {CH_UNIT_PIXEL_IN, CH_UNIT_PIXEL_OUT};
    for (size_t i = 0; i < 2; i++) {
        if (price->unit_femto[by_image[i]] < 0)
            continue;
        // A price for any size stands for this one.
        *fallback |= !price->is_sized && usage->image_width > 0;
        return price->unit_femto[by_image[i]];
    }
    for (size_t i = 0; i < 2; i++)
        if (price->unit_femto[by_pixel[i]] >= 0)
            return image_by_pixels(price->unit_femto[by_pixel[i]], usage);
    return -1;
}

// The price where it is named for the input, else for the output. Where both are, they are the same
// price named twice (whisper-1, wire.md §4.1), or the second is zero.
static int64_t either(const struct ch_price *price, enum ch_price_unit in, enum ch_price_unit out)
{
    return price->unit_femto[in] >= 0 ? price->unit_femto[in] : price->unit_femto[out];
}

static ch_femto_sum priced(ch_femto_sum femto, int64_t count, bool *is_known, bool *fallback)
{
    *is_known |= femto >= 0;
    *fallback |= femto < 0;
    return femto < 0 ? 0 : cap(femto * count);
}

// In thousandths of a femto-USD. `is_known_out`: one of the units has a price.
static ch_femto_sum unit_cost(const struct ch_price *price, const struct ch_usage *usage,
                              bool *is_known_out, bool *fallback)
{
    ch_femto_sum sum = 0;
    int64_t second = either(price, CH_UNIT_SECOND_IN, CH_UNIT_SECOND_OUT);
    int64_t character = either(price, CH_UNIT_CHARACTER_IN, CH_UNIT_CHARACTER_OUT);
    *is_known_out = false;
    if (usage->images > 0)
        sum += MILLI *
               priced(image_price(price, usage, fallback), usage->images, is_known_out, fallback);
    if (usage->characters > 0)
        sum += MILLI * priced(character, usage->characters, is_known_out, fallback);
    if (usage->audio_ms > 0 && second >= 0)
        sum += cap_milli((ch_femto_sum)second * usage->audio_ms);
    if (usage->audio_ms > 0)
        (void)priced(second, 0, is_known_out, fallback);
    return cap_milli(sum);
}

// ---- the whole

static ch_femto_sum search_cost(const struct ch_price *price, const struct ch_usage *usage,
                                bool *fallback)
{
    if (usage->searches <= 0)
        return 0;
    int64_t billed = price->is_search_per_prompt ? 1 : usage->searches;
    bool is_known = price->search_femto >= 0;
    *fallback |= !is_known;
    return cap((ch_femto_sum)billed * (is_known ? price->search_femto : SEARCH_DEFAULT_FEMTO));
}

// A model is billed by tokens or by units. Tokens win where it has a price for them, since what is
// counted in units beside them is the same work.
static bool bills_units(const struct ch_price *price, const struct ch_usage *usage)
{
    bool is_known, fallback = false;
    if (usage->images <= 0 && usage->characters <= 0 && usage->audio_ms <= 0)
        return false;
    if (!ch_usage_has_tokens(usage))
        return true;
    (void)unit_cost(price, usage, &is_known, &fallback);
    return is_known && !ch_price_takes_tokens(price);
}

struct ch_cost ch_price_cost(const struct ch_price *price, const struct ch_usage *usage)
{
    struct ch_cost cost = {.nano_usd = usage->stated_cost_nano};
    if (usage->stated_cost_nano >= 0)
        return cost;
    bool is_known;
    ch_femto_sum tokens = 0, units = 0;
    if (bills_units(price, usage))
        units = unit_cost(price, usage, &is_known, &cost.fallback);
    else
        tokens = token_cost(price, usage, &cost.fallback);
    ch_femto_sum searches = search_cost(price, usage, &cost.fallback);
    int64_t on_tokens = (usage->us_region ? price->geo_us : CH_PERMILLE) *
                        (usage->is_fast ? price->fast : CH_PERMILLE);
    int64_t on_all = usage->us_region   ? price->regional_us
                     : usage->eu_region ? price->regional_eu
                                        : CH_PERMILLE;
    // Less than 2^125: three capped sums, multipliers of at most 10 each. The one division drops
    // parts of a femto-USD, which cannot change the rounding to nano-USD.
    const ch_femto_sum token_scale = CH_PERMILLE * CH_PERMILLE;
    ch_femto_sum sum =
        (tokens * on_tokens + searches * token_scale + units * (token_scale / MILLI)) * on_all;
    cost.nano_usd = ch_money_round(sum / (token_scale * CH_PERMILLE));
    return cost;
}
