// SPDX-License-Identifier: Apache-2.0
#include "domain/catalogue.h"
#include "domain/model_rule.h"
#include "catalogue_key.h"

#include "base/id.h"
#include "base/secret.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

// The catalogue of 2026-08-01 needs 6 for its richest model.
#define RATE_CARDS_MAX 32
// OpenAI's and Anthropic's price of a web search (wire.md §4.2); the gpt-5 rows lack it.
#define SEARCH_DEFAULT_FEMTO (CH_FEMTO_PER_USD / 100)
// What a sum saturates at: the largest amount, in femto-USD.
#define FEMTO_CAP ((ch_femto_sum)INT64_MAX * CH_FEMTO_PER_NANO)

// The prices of one tier above one size of input. Absent ones are -1.
struct rate_card {
    int64_t above_tokens;
    enum ch_tier tier;
    int64_t femto[CH_TOKEN_CLASSES];
};

struct ch_price {
    char *model;
    size_t model_len;
    struct rate_card *cards; // largest threshold first, in it the plain tier last
    size_t card_count;
    int64_t max_output_tokens;
    int64_t search_femto;             // -1: not known
    bool is_search_per_prompt;        // any number of searches of an exchange costs one
    bool is_threshold_inclusive;      // xAI: a threshold is reached, not passed
    int64_t geo_us, fast;             // thousandths, on tokens
    int64_t regional_us, regional_eu; // thousandths, on everything
};

struct slot {
    uint64_t hash;
    const struct ch_price *price; // NULL: free
};

struct ch_catalogue {
    char version[24]; // date, '-', eight hex digits
    char *text;       // the document, for listing
    size_t text_len;
    struct ch_price *prices; // sorted by model
    size_t price_count;
    struct slot *slots; // open addressing, at most half full
    size_t slot_mask;
};

// ---- load: one model

struct loading {
    const char *model, *key; // named in the reason
    struct rate_card cards[RATE_CARDS_MAX];
    size_t card_count;
    struct ch_price *price;
    struct ch_why *why;
};

static enum ch_err fail(const struct loading *l, const char *what)
{
    return ch_why_set(l->why, CH_ERR_INVALID, "prices: model \"%s\": \"%s\" %s", l->model, l->key,
                      what);
}

static struct rate_card *card_of(struct loading *l, const struct ch_price_key *key)
{
    for (size_t i = 0; i < l->card_count; i++)
        if (l->cards[i].above_tokens == key->above_tokens && l->cards[i].tier == key->tier)
            return &l->cards[i];
    if (l->card_count == RATE_CARDS_MAX)
        return NULL;
    struct rate_card *card = &l->cards[l->card_count++];
    *card = (struct rate_card){.above_tokens = key->above_tokens, .tier = key->tier};
    for (int i = 0; i < CH_TOKEN_CLASSES; i++)
        card->femto[i] = -1;
    return card;
}

static enum ch_err read_rate(struct loading *l, const json_t *value)
{
    struct ch_price_key key;
    int64_t femto;
    if (!ch_price_key_parse(ch_span_of(l->key), &key))
        return fail(l, "is not a known key");
    if (ch_price_read(value, &femto))
        return fail(l, "is not a price: write USD per unit, as in \"0.0000025\"");
    if (!key.is_token)
        return CH_OK;
    if (femto > CH_PRICE_TOKEN_MAX_FEMTO)
        return fail(l, "is above 0.01 USD per token");
    struct rate_card *card = card_of(l, &key);
    if (!card)
        return fail(l, "is one threshold or tier too many");
    card->femto[key.token_class] = femto;
    return CH_OK;
}

// The medium size stands for all, since a request seldom names one (wire.md §4.2).
static enum ch_err read_searches(struct loading *l, const json_t *value)
{
    const json_t *medium = json_object_get(value, "search_context_size_medium");
    if (!medium || ch_price_read(medium, &l->price->search_femto))
        return fail(l, "does not hold a price \"search_context_size_medium\"");
    return CH_OK;
}

static enum ch_err read_billing_unit(struct loading *l, const json_t *value)
{
    const char *unit = json_string_value(value);
    if (!unit || (strcmp(unit, "per_query") != 0 && strcmp(unit, "per_prompt") != 0))
        return fail(l, "is neither \"per_query\" nor \"per_prompt\"");
    l->price->is_search_per_prompt = strcmp(unit, "per_prompt") == 0;
    return CH_OK;
}

static enum ch_err read_max_output(struct loading *l, const json_t *value)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return fail(l, "is not a whole number");
    l->price->max_output_tokens = json_integer_value(value);
    return CH_OK;
}

static enum ch_err read_inclusive(struct loading *l, const json_t *value)
{
    if (!json_is_boolean(value))
        return fail(l, "is neither true nor false");
    l->price->is_threshold_inclusive = json_is_true(value);
    return CH_OK;
}

static enum ch_err read_multiplier(struct loading *l, const json_t *value, int64_t *permille_out)
{
    return ch_price_read_multiplier(value, permille_out)
               ? fail(l, "is not a multiplier: 0 to 10, three decimals")
               : CH_OK;
}

static enum ch_err read_geo_us(struct loading *l, const json_t *value)
{
    return read_multiplier(l, value, &l->price->geo_us);
}

static enum ch_err read_fast(struct loading *l, const json_t *value)
{
    return read_multiplier(l, value, &l->price->fast);
}

static enum ch_err read_regional_us(struct loading *l, const json_t *value)
{
    return read_multiplier(l, value, &l->price->regional_us);
}

static enum ch_err read_regional_eu(struct loading *l, const json_t *value)
{
    return read_multiplier(l, value, &l->price->regional_eu);
}

static enum ch_err read_mode(struct loading *l, const json_t *value)
{
    return json_is_string(value) ? CH_OK : fail(l, "is not a string");
}

typedef enum ch_err (*read_fn)(struct loading *l, const json_t *value);

// Every member that is not a price key.
static read_fn reader_of(const char *key)
{
    static const struct {
        const char *key;
        read_fn read;
    } readers[] = {
        {"mode", read_mode},
        {"max_output_tokens", read_max_output},
        {"threshold_inclusive", read_inclusive},
        {"search_context_cost_per_query", read_searches},
        {"web_search_billing_unit", read_billing_unit},
        {"inference_geo_us_multiplier", read_geo_us},
        {"speed_fast_multiplier", read_fast},
        {"regional_processing_uplift_multiplier_us", read_regional_us},
        {"regional_processing_uplift_multiplier_eu", read_regional_eu},
    };
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
        if (strcmp(readers[i].key, key) == 0)
            return readers[i].read;
    return read_rate;
}

static int compare_cards(const void *a, const void *b)
{
    const struct rate_card *x = a, *y = b;
    if (x->above_tokens != y->above_tokens)
        return x->above_tokens < y->above_tokens ? 1 : -1;
    return (int)y->tier - (int)x->tier;
}

static enum ch_err keep_cards(struct loading *l)
{
    qsort(l->cards, l->card_count, sizeof *l->cards, compare_cards);
    l->price->cards = ch_zcalloc(l->card_count, sizeof *l->cards);
    if (!l->price->cards)
        return CH_ERR_NOMEM;
    memcpy(l->price->cards, l->cards, l->card_count * sizeof *l->cards);
    l->price->card_count = l->card_count;
    return CH_OK;
}

static enum ch_err read_model(const char *model, json_t *members, struct ch_price *price,
                              struct ch_why *why)
{
    if (!ch_model_name_is_valid(ch_span_of(model)) || !json_is_object(members))
        return ch_why_set(why, CH_ERR_INVALID,
                          "prices: model \"%.64s\" is not a name and an object", model);
    price->model_len = strlen(model);
    price->search_femto = -1;
    price->geo_us = price->fast = price->regional_us = price->regional_eu = CH_PERMILLE;
    price->model = ch_zstrdup(model);
    if (!price->model)
        return CH_ERR_NOMEM;
    struct loading l = {.model = model, .price = price, .why = why};
    json_t *value;
    json_object_foreach(members, l.key, value)
    {
        enum ch_err err = reader_of(l.key)(&l, value);
        if (err)
            return err;
    }
    return keep_cards(&l);
}

// ---- load: the document

// FNV-1a, 64 bits. The table never changes after load, so a flood of chosen names costs nothing.
static uint64_t hash_more(uint64_t hash, struct ch_span text)
{
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)text.ptr[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t hash_name(struct ch_span prefix, struct ch_span model)
{
    return hash_more(hash_more(UINT64_C(0xcbf29ce484222325), prefix), model);
}

static enum ch_err build_index(struct ch_catalogue *c)
{
    size_t slots = 16;
    while (slots < 2 * c->price_count)
        slots *= 2;
    c->slots = ch_zcalloc(slots, sizeof *c->slots);
    if (!c->slots)
        return CH_ERR_NOMEM;
    c->slot_mask = slots - 1;
    for (size_t i = 0; i < c->price_count; i++) {
        const struct ch_price *price = &c->prices[i];
        uint64_t hash =
            hash_name((struct ch_span){0}, (struct ch_span){price->model, price->model_len});
        size_t at = hash & c->slot_mask;
        while (c->slots[at].price)
            at = (at + 1) & c->slot_mask;
        c->slots[at] = (struct slot){hash, price};
    }
    return CH_OK;
}

static int compare_prices(const void *a, const void *b)
{
    const struct ch_price *x = a, *y = b;
    return strcmp(x->model, y->model);
}

static enum ch_err read_models(struct ch_catalogue *c, json_t *models, struct ch_why *why)
{
    c->prices = ch_zcalloc(json_object_size(models), sizeof *c->prices);
    if (!c->prices)
        return CH_ERR_NOMEM;
    const char *model;
    json_t *members;
    json_object_foreach(models, model, members)
    {
        enum ch_err err = read_model(model, members, &c->prices[c->price_count++], why);
        if (err)
            return err;
    }
    qsort(c->prices, c->price_count, sizeof *c->prices, compare_prices);
    return build_index(c);
}

static enum ch_err read_document(struct ch_catalogue *c, json_t *root, struct ch_why *why)
{
    const char *schema = json_string_value(json_object_get(root, "schema"));
    const char *date = json_string_value(json_object_get(root, "date"));
    json_t *models = json_object_get(root, "models");
    if (!schema || strcmp(schema, CH_PRICE_SCHEMA) != 0)
        return ch_why_set(why, CH_ERR_INVALID, "prices: \"schema\" is not \"%s\"", CH_PRICE_SCHEMA);
    if (!date || !ch_price_date_is_valid(ch_span_of(date)))
        return ch_why_set(why, CH_ERR_INVALID, "prices: \"date\" is not a date (YYYY-MM-DD)");
    if (!json_is_object(models))
        return ch_why_set(why, CH_ERR_INVALID, "prices: \"models\" is not an object");
    snprintf(c->version, sizeof c->version, "%.10s-%08" PRIx32, date,
             ch_crc32((struct ch_span){c->text, c->text_len}));
    return read_models(c, models, why);
}

enum ch_err ch_catalogue_load(struct ch_span json, struct ch_catalogue **catalogue_out,
                              struct ch_why *why)
{
    json_t *root;
    enum ch_err err = ch_price_parse_json(json, JSON_REJECT_DUPLICATES, &root, why);
    if (err)
        return err;
    struct ch_catalogue *c = ch_zcalloc(1, sizeof *c);
    if (c)
        c->text = ch_zmalloc(json.len);
    if (c && c->text) {
        memcpy(c->text, json.ptr, json.len);
        c->text_len = json.len;
        err = read_document(c, root, why);
    } else {
        err = CH_ERR_NOMEM;
    }
    json_decref(root);
    if (err)
        ch_catalogue_free(c);
    else
        *catalogue_out = c;
    return err == CH_ERR_NOMEM ? ch_why_set(why, err, "prices: out of memory") : err;
}

void ch_catalogue_free(struct ch_catalogue *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->price_count; i++) {
        ch_zfree(c->prices[i].model);
        ch_zfree(c->prices[i].cards);
    }
    ch_zfree(c->prices);
    ch_zfree(c->slots);
    ch_zfree(c->text);
    ch_zfree(c);
}

const char *ch_catalogue_version(const struct ch_catalogue *c)
{
    return c->version;
}

size_t ch_catalogue_size(const struct ch_catalogue *c)
{
    return c->price_count;
}

// ---- look-up

static bool is_named(const struct ch_price *price, struct ch_span prefix, struct ch_span model)
{
    return price->model_len == prefix.len + model.len &&
           (prefix.len == 0 || memcmp(price->model, prefix.ptr, prefix.len) == 0) &&
           (model.len == 0 || memcmp(price->model + prefix.len, model.ptr, model.len) == 0);
}

static const struct ch_price *find_exact(const struct ch_catalogue *c, struct ch_span prefix,
                                         struct ch_span model)
{
    uint64_t hash = hash_name(prefix, model);
    for (size_t at = hash & c->slot_mask; c->slots[at].price; at = (at + 1) & c->slot_mask)
        if (c->slots[at].hash == hash && is_named(c->slots[at].price, prefix, model))
            return c->slots[at].price;
    return NULL;
}

// Whether `text` ends in a date of this pattern, d standing for a digit.
static bool ends_in(struct ch_span text, const char *pattern, size_t len)
{
    if (text.len <= len)
        return false;
    const char *end = text.ptr + text.len - len;
    for (size_t i = 0; i < len; i++) {
        bool is_digit = end[i] >= '0' && end[i] <= '9';
        if (pattern[i] == 'd' ? !is_digit : end[i] != pattern[i])
            return false;
    }
    return true;
}

static struct ch_span without_date(struct ch_span model)
{
    static const struct ch_span patterns[] = {{"-dddd-dd-dd", 11}, {"-dddddddd", 9}};
    for (size_t i = 0; i < 2; i++)
        if (ends_in(model, patterns[i].ptr, patterns[i].len))
            return (struct ch_span){model.ptr, model.len - patterns[i].len};
    return model;
}

// ft:gpt-4o-mini-2024-07-18:acme::Bx7 is priced as ft:gpt-4o-mini-2024-07-18.
static struct ch_span without_tuning(struct ch_span model)
{
    if (!ch_span_starts(model, CH_SPAN("ft:")))
        return model;
    const char *colon = memchr(model.ptr + 3, ':', model.len - 3);
    return colon ? (struct ch_span){model.ptr, (size_t)(colon - model.ptr)} : model;
}

static const struct ch_price *find_under(const struct ch_catalogue *c, struct ch_span prefix,
                                         struct ch_span model)
{
    const struct ch_price *price = find_exact(c, prefix, model);
    struct ch_span shorter = without_date(model);
    if (!price && shorter.len < model.len)
        price = find_exact(c, prefix, shorter);
    shorter = without_tuning(model);
    if (!price && shorter.len < model.len)
        price = find_exact(c, prefix, shorter);
    return price;
}

const struct ch_price *ch_catalogue_find(const struct ch_catalogue *c, struct ch_span prefix,
                                         struct ch_span model)
{
    if (model.len == 0 || model.len > CH_MODEL_NAME_MAX)
        return NULL;
    const struct ch_price *price = find_under(c, prefix, model);
    if (!price && prefix.len > 0 && ch_price_has_prefix(model))
        price = find_under(c, (struct ch_span){0}, model);
    return price;
}

const char *ch_price_model(const struct ch_price *price)
{
    return price->model;
}

int64_t ch_price_max_output_tokens(const struct ch_price *price)
{
    return price->max_output_tokens;
}

enum ch_err
ch_catalogue_each(const struct ch_catalogue *c,
                  void (*each)(void *arg, const char *model, struct ch_span prices_json), void *arg)
{
    // Listing is rare: parsing again is cheaper than keeping a tree of the document for good.
    json_t *root;
    enum ch_err err = ch_price_parse_json((struct ch_span){c->text, c->text_len}, 0, &root, NULL);
    if (err)
        return CH_ERR_NOMEM; // it parsed before
    const json_t *models = json_object_get(root, "models");
    struct ch_buf line;
    ch_buf_init(&line, CH_CATALOGUE_MAX_BYTES);
    for (size_t i = 0; i < c->price_count && !err; i++) {
        const char *model = c->prices[i].model;
        ch_buf_clear(&line);
        err = ch_price_dump_json(json_object_get(models, model), JSON_COMPACT, &line);
        if (!err)
            each(arg, model, ch_buf_span(&line));
    }
    ch_buf_fini(&line);
    json_decref(root);
    return err;
}

// ---- cost

static bool is_above(const struct ch_price *price, int64_t tokens, int64_t threshold)
{
    return threshold == 0 || tokens > threshold ||
           (price->is_threshold_inclusive && tokens == threshold);
}

// The class's own price: at the largest threshold passed, there in the tier served, else the plain
// one; then at the next threshold. -1: none. `other_tier_out` is set when the plain price had to
// stand for the tier served.
static int64_t own_rate(const struct ch_price *price, const struct ch_usage *usage,
                        enum ch_token_class token_class, bool *other_tier_out)
{
    for (size_t i = 0; i < price->card_count; i++) {
        const struct rate_card *card = &price->cards[i];
        bool applies = card->tier == usage->tier || card->tier == CH_TIER_STANDARD;
        if (!applies || card->femto[token_class] < 0 ||
            !is_above(price, usage->threshold_tokens, card->above_tokens))
            continue;
        *other_tier_out = card->tier != usage->tier;
        return card->femto[token_class];
    }
    return -1;
}

// What stands in for a class without a price of its own; see ch_price_cost in the header.
static const struct {
    enum ch_token_class instead; // itself: nothing does
    int factor;
    bool is_billed_so;
} stand_ins[CH_TOKEN_CLASSES] = {
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
};

static int64_t rate_of(const struct ch_price *price, const struct ch_usage *usage,
                       enum ch_token_class token_class, bool *fallback)
{
    bool other_tier = false;
    int64_t femto = own_rate(price, usage, token_class, &other_tier);
    if (femto < 0) {
        femto = own_rate(price, usage, stand_ins[token_class].instead, &other_tier);
        *fallback |= femto < 0 || !stand_ins[token_class].is_billed_so;
        femto *= stand_ins[token_class].factor;
    }
    *fallback |= other_tier;
    return femto > 0 ? femto : 0;
}

static ch_femto_sum cap(ch_femto_sum femto)
{
    return femto < FEMTO_CAP ? femto : FEMTO_CAP;
}

static ch_femto_sum token_cost(const struct ch_price *price, const struct ch_usage *usage,
                               bool *fallback)
{
    ch_femto_sum sum = 0;
    for (int i = 0; i < CH_TOKEN_CLASSES; i++)
        if (usage->tokens[i] > 0)
            sum = cap(sum + (ch_femto_sum)usage->tokens[i] *
                                rate_of(price, usage, (enum ch_token_class)i, fallback));
    return sum;
}

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

struct ch_cost ch_price_cost(const struct ch_price *price, const struct ch_usage *usage)
{
    struct ch_cost cost = {.nano_usd = usage->stated_cost_nano};
    if (usage->stated_cost_nano >= 0)
        return cost;
    ch_femto_sum tokens = token_cost(price, usage, &cost.fallback);
    ch_femto_sum searches = search_cost(price, usage, &cost.fallback);
    int64_t on_tokens = (usage->us_region ? price->geo_us : CH_PERMILLE) *
                        (usage->is_fast ? price->fast : CH_PERMILLE);
    int64_t on_all = usage->us_region   ? price->regional_us
                     : usage->eu_region ? price->regional_eu
                                        : CH_PERMILLE;
    // Less than 2^125: two capped sums, multipliers of at most 10 each. The one division drops
    // parts of a femto-USD, which cannot change the rounding to nano-USD.
    const ch_femto_sum token_scale = CH_PERMILLE * CH_PERMILLE;
    ch_femto_sum sum = (tokens * on_tokens + searches * token_scale) * on_all;
    cost.nano_usd = ch_money_round(sum / (token_scale * CH_PERMILLE));
    return cost;
}
