// SPDX-License-Identifier: Apache-2.0
#include "catalogue_private.h"

#include "domain/model_rule.h"

#include "base/id.h"
#include "base/secret.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

// The catalogue of 2026-08-01 needs 6 for its richest model.
#define RATE_CARDS_MAX 32
// ---- load: one model

struct loading {
    const char *model, *key; // named in the reason
    struct ch_rate_card cards[RATE_CARDS_MAX];
    size_t card_count;
    struct ch_price *price;
    struct ch_why *why;
};

static enum ch_err fail(const struct loading *l, const char *what)
{
    return ch_why_set(l->why, CH_ERR_INVALID, "prices: model \"%s\": \"%s\" %s", l->model, l->key,
                      what);
}

static struct ch_rate_card *card_of(struct loading *l, const struct ch_price_key *key)
{
    for (size_t i = 0; i < l->card_count; i++)
        if (l->cards[i].above_tokens == key->above_tokens && l->cards[i].tier == key->tier)
            return &l->cards[i];
    if (l->card_count == RATE_CARDS_MAX)
        return NULL;
    struct ch_rate_card *card = &l->cards[l->card_count++];
    *card = (struct ch_rate_card){.above_tokens = key->above_tokens, .tier = key->tier};
    for (unsigned i = 0; i < CH_RATES; i++)
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
    if (!key.is_token) {
        l->price->unit_femto[key.unit] = femto;
        return CH_OK;
    }
    if (femto > CH_PRICE_TOKEN_MAX_FEMTO)
        return fail(l, "is above 0.01 USD per token");
    struct ch_rate_card *card = card_of(l, &key);
    if (!card)
        return fail(l, "is one threshold or tier too many");
    card->femto[key.rate] = femto;
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

static enum ch_err read_max(struct loading *l, const json_t *value, int64_t *tokens_out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return fail(l, "is not a whole number");
    *tokens_out = json_integer_value(value);
    return CH_OK;
}

static enum ch_err read_max_input(struct loading *l, const json_t *value)
{
    return read_max(l, value, &l->price->max_input_tokens);
}

static enum ch_err read_max_output(struct loading *l, const json_t *value)
{
    return read_max(l, value, &l->price->max_output_tokens);
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
        {"max_input_tokens", read_max_input},
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
    const struct ch_rate_card *x = a, *y = b;
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

enum ch_err ch_price_read_model(const char *model, json_t *members, struct ch_price *price,
                                struct ch_why *why)
{
    if (!ch_model_name_is_valid(ch_span_of(model)) || !json_is_object(members))
        return ch_why_set(why, CH_ERR_INVALID,
                          "prices: model \"%.64s\" is not a name and an object", model);
    price->model_len = strlen(model);
    price->is_sized = strstr(model, "-x-") != NULL;
    price->search_femto = -1;
    for (int i = 0; i < CH_PRICE_UNITS; i++)
        price->unit_femto[i] = -1;
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

static int compare_prices(const void *a, const void *b)
{
    const struct ch_price *x = a, *y = b;
    return strcmp(x->model, y->model);
}

enum ch_err ch_price_index_build(struct ch_price_index *index)
{
    size_t slots = 16;
    qsort(index->prices, index->count, sizeof *index->prices, compare_prices);
    while (slots < 2 * index->count)
        slots *= 2;
    index->slots = ch_zcalloc(slots, sizeof *index->slots);
    if (!index->slots)
        return CH_ERR_NOMEM;
    index->slot_mask = slots - 1;
    for (size_t i = 0; i < index->count; i++) {
        const struct ch_price *price = &index->prices[i];
        uint64_t hash =
            hash_name((struct ch_span){0}, (struct ch_span){price->model, price->model_len});
        size_t at = hash & index->slot_mask;
        while (index->slots[at].price)
            at = (at + 1) & index->slot_mask;
        index->slots[at] = (struct ch_price_slot){hash, price};
    }
    return CH_OK;
}

static enum ch_err read_models(struct ch_catalogue *c, json_t *models, struct ch_why *why)
{
    c->list.prices = ch_zcalloc(json_object_size(models), sizeof *c->list.prices);
    if (!c->list.prices)
        return CH_ERR_NOMEM;
    const char *model;
    json_t *members;
    json_object_foreach(models, model, members)
    {
        enum ch_err err =
            ch_price_read_model(model, members, &c->list.prices[c->list.count++], why);
        if (err)
            return err;
    }
    return ch_price_index_build(&c->list);
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

static void fini_index(struct ch_price_index *index)
{
    for (size_t i = 0; i < index->count; i++) {
        ch_zfree(index->prices[i].model);
        ch_zfree(index->prices[i].cards);
    }
    ch_zfree(index->prices);
    ch_zfree(index->slots);
}

void ch_catalogue_free(struct ch_catalogue *c)
{
    if (!c)
        return;
    fini_index(&c->list);
    fini_index(&c->contracts);
    ch_zfree(c->text);
    ch_zfree(c);
}

const char *ch_catalogue_version(const struct ch_catalogue *c)
{
    return c->version;
}

size_t ch_catalogue_size(const struct ch_catalogue *c)
{
    return c->list.count;
}

// ---- look-up

static bool is_named(const struct ch_price *price, struct ch_span prefix, struct ch_span model)
{
    return price->model_len == prefix.len + model.len &&
           (prefix.len == 0 || memcmp(price->model, prefix.ptr, prefix.len) == 0) &&
           (model.len == 0 || memcmp(price->model + prefix.len, model.ptr, model.len) == 0);
}

// What a look-up is for: the list, or the contract prices of a provider at an instant.
struct search {
    const struct ch_price_index *index;
    int64_t provider_id, at_ms;
};

// The narrower price wins: this provider's own over every provider's, then the later one.
static bool is_better(const struct ch_price *price, const struct ch_price *than)
{
    if (!than)
        return true;
    if ((price->provider_id == 0) != (than->provider_id == 0))
        return price->provider_id != 0;
    return price->valid_from_ms > than->valid_from_ms;
}

static bool is_valid_for(const struct ch_price *price, const struct search *search)
{
    return (price->provider_id == 0 || price->provider_id == search->provider_id) &&
           price->valid_from_ms <= search->at_ms;
}

static const struct ch_price *find_exact(const struct search *search, struct ch_span prefix,
                                         struct ch_span model)
{
    const struct ch_price_index *index = search->index;
    const struct ch_price *best = NULL;
    uint64_t hash = hash_name(prefix, model);
    if (index->count == 0)
        return NULL;
    for (size_t at = hash & index->slot_mask; index->slots[at].price;
         at = (at + 1) & index->slot_mask) {
        const struct ch_price *price = index->slots[at].price;
        if (index->slots[at].hash == hash && is_named(price, prefix, model) &&
            is_valid_for(price, search) && is_better(price, best))
            best = price;
    }
    return best;
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

static const struct ch_price *find_under(const struct search *search, struct ch_span prefix,
                                         struct ch_span model)
{
    const struct ch_price *price = find_exact(search, prefix, model);
    struct ch_span shorter = without_date(model);
    if (!price && shorter.len < model.len)
        price = find_exact(search, prefix, shorter);
    shorter = without_tuning(model);
    if (!price && shorter.len < model.len)
        price = find_exact(search, prefix, shorter);
    return price;
}

static const struct ch_price *find_listed(const struct ch_catalogue *c, struct ch_span prefix,
                                          struct ch_span model)
{
    const struct search list = {.index = &c->list};
    const struct ch_price *price = find_under(&list, prefix, model);
    if (!price && prefix.len > 0 && ch_price_has_prefix(model))
        price = find_under(&list, (struct ch_span){0}, model);
    return price;
}

// A contract may name a model with the provider's prefix or without.
static const struct ch_price *find_contract(const struct ch_catalogue *c,
                                            const struct ch_price_query *query,
                                            struct ch_span prefix, struct ch_span model)
{
    const struct search search = {&c->contracts, query->provider_id, query->at_ms};
    const struct ch_price *price = find_under(&search, prefix, model);
    struct ch_span sizes = ch_span_sub(prefix, query->prefix.len); // "hd/1024-x-1024/", mostly ""
    return price || query->prefix.len == 0 ? price : find_under(&search, sizes, model);
}

static const struct ch_price *find_in(const struct ch_catalogue *c,
                                      const struct ch_price_query *query, bool is_contract,
                                      struct ch_span prefix, struct ch_span model)
{
    return is_contract ? find_contract(c, query, prefix, model) : find_listed(c, prefix, model);
}

const struct ch_price *ch_catalogue_find(const struct ch_catalogue *c, struct ch_span prefix,
                                         struct ch_span model)
{
    if (model.len == 0 || model.len > CH_MODEL_NAME_MAX)
        return NULL;
    return find_listed(c, prefix, model);
}

// ---- look-up of images, whose prices are kept by quality and size

#define SIZED_PREFIX_MAX 96 // bytes: the longest prefix, quality and two sides

// "azure/" → "azure/hd/1024-x-1024/"; without a quality "azure/1024-x-1024/".
static const struct ch_price *find_sized(const struct ch_catalogue *c,
                                         const struct ch_price_query *query, bool is_contract,
                                         struct ch_span model, const struct ch_usage *usage,
                                         const char *quality)
{
    char text[SIZED_PREFIX_MAX];
    int len = snprintf(text, sizeof text, "%.*s%s%s%d-x-%d/", CH_SPAN_ARG(query->prefix), quality,
                       quality[0] ? "/" : "",
                       usage->image_width ? usage->image_width : CH_IMAGE_DEFAULT_SIDE,
                       usage->image_height ? usage->image_height : CH_IMAGE_DEFAULT_SIDE);
    if (len < 0 || (size_t)len >= sizeof text)
        return NULL;
    return find_in(c, query, is_contract, (struct ch_span){text, (size_t)len}, model);
}

// Where no quality was said the dearer one is taken; DALL·E 3, which has no "high", makes standard
// ones then, and DALL·E 2 knows none.
static const struct ch_price *find_image(const struct ch_catalogue *c,
                                         const struct ch_price_query *query, bool is_contract,
                                         struct ch_span model, const struct ch_usage *usage)
{
    bool is_auto = usage->image_quality == CH_IMAGE_AUTO;
    const char *const qualities[] = {
        is_auto ? "high" : ch_image_quality_name(usage->image_quality),
        is_auto ? "standard" : "",
        "",
    };
    const struct ch_price *price = NULL;
    for (size_t i = 0; i < sizeof qualities / sizeof *qualities && !price; i++)
        price = find_sized(c, query, is_contract, model, usage, qualities[i]);
    return price;
}

const struct ch_price *ch_catalogue_find_for(const struct ch_catalogue *c,
                                             const struct ch_price_query *query,
                                             struct ch_span model, const struct ch_usage *usage)
{
    if (model.len == 0 || model.len > CH_MODEL_NAME_MAX)
        return NULL;
    for (int is_contract = 1; is_contract >= 0; is_contract--) {
        const struct ch_price *sized = NULL;
        const struct ch_price *plain = find_in(c, query, is_contract, query->prefix, model);
        if (usage && usage->images > 0 &&
            !(plain && ch_price_takes_tokens(plain) && ch_usage_has_tokens(usage)))
            sized = find_image(c, query, is_contract, model, usage);
        if (sized || plain)
            return sized ? sized : plain;
    }
    return NULL;
}

const char *ch_price_model(const struct ch_price *price)
{
    return price->model;
}

int64_t ch_price_max_input_tokens(const struct ch_price *price)
{
    return price->max_input_tokens;
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
    for (size_t i = 0; i < c->list.count && !err; i++) {
        const char *model = c->list.prices[i].model;
        ch_buf_clear(&line);
        err = ch_price_dump_json(json_object_get(models, model), JSON_COMPACT, &line);
        if (!err)
            each(arg, model, ch_buf_span(&line));
    }
    ch_buf_fini(&line);
    json_decref(root);
    return err;
}
