// SPDX-License-Identifier: Apache-2.0
#include "domain/catalogue.h"
#include "domain/model_rule.h"
#include "catalogue_key.h"

#include "base/secret.h"

#include <stdio.h>
#include <stdlib.h>

// ---- the grammar of keys

static bool cut_suffix(struct ch_span *name, struct ch_span suffix)
{
    if (!ch_span_ends(*name, suffix))
        return false;
    name->len -= suffix.len;
    return true;
}

static enum ch_tier cut_tier(struct ch_span *name)
{
    static const struct {
        struct ch_span suffix;
        enum ch_tier tier;
    } tiers[] = {
        {{"_flex", 5}, CH_TIER_FLEX},
        {{"_priority", 9}, CH_TIER_PRIORITY},
        {{"_batches", 8}, CH_TIER_BATCH},
        {{"_ultrafast", 10}, CH_TIER_ULTRAFAST},
    };
    for (size_t i = 0; i < sizeof tiers / sizeof *tiers; i++)
        if (cut_suffix(name, tiers[i].suffix))
            return tiers[i].tier;
    return CH_TIER_STANDARD;
}

// Takes "_above_<N>k_tokens" off the end and gives N thousand; 0 where there is none.
static int64_t cut_threshold(struct ch_span *name)
{
    const struct ch_span above = CH_SPAN("_above_");
    struct ch_span rest = *name;
    if (!cut_suffix(&rest, CH_SPAN("k_tokens")))
        return 0;
    size_t digits = 0;
    while (digits < rest.len && rest.ptr[rest.len - 1 - digits] >= '0' &&
           rest.ptr[rest.len - 1 - digits] <= '9')
        digits++;
    int64_t thousands;
    if (digits > 6 || ch_span_to_int64(ch_span_sub(rest, rest.len - digits), &thousands) ||
        thousands == 0)
        return 0;
    rest.len -= digits;
    if (!cut_suffix(&rest, above))
        return 0;
    *name = rest;
    return thousands * 1000;
}

static bool is_token_stem(struct ch_span stem, unsigned *rate_out)
{
    static const char *const stems[CH_RATES] = {
        [CH_TOKENS_INPUT] = "input_cost_per_token",
        [CH_TOKENS_CACHE_READ] = "cache_read_input_token_cost",
        [CH_TOKENS_CACHE_WRITE_5M] = "cache_creation_input_token_cost",
        [CH_TOKENS_CACHE_WRITE_1H] = "cache_creation_input_token_cost_above_1hr",
        [CH_TOKENS_AUDIO_IN] = "input_cost_per_audio_token",
        [CH_TOKENS_IMAGE_IN] = "input_cost_per_image_token",
        [CH_TOKENS_OUTPUT] = "output_cost_per_token",
        [CH_TOKENS_REASONING] = "output_cost_per_reasoning_token",
        [CH_TOKENS_AUDIO_OUT] = "output_cost_per_audio_token",
        [CH_TOKENS_IMAGE_OUT] = "output_cost_per_image_token",
        [CH_TOKEN_CLASSES + CH_PART_CACHE_READ_AUDIO] = "cache_read_input_audio_token_cost",
        [CH_TOKEN_CLASSES + CH_PART_CACHE_READ_IMAGE] = "cache_read_input_image_token_cost",
        [CH_TOKEN_CLASSES + CH_PART_VIDEO_IN] = "input_cost_per_video_token",
        [CH_TOKEN_CLASSES + CH_PART_VIDEO_OUT] = "output_cost_per_video_token",
    };
    for (unsigned i = 0; i < CH_RATES; i++) {
        if (ch_span_eq(stem, ch_span_of(stems[i]))) {
            *rate_out = i;
            return true;
        }
    }
    return false;
}

// Prices of other things than tokens; those of UNIT_NONE are kept for listing.
static bool is_unit_stem(struct ch_span stem, enum ch_price_unit *unit_out)
{
    static const struct {
        const char *stem;
        enum ch_price_unit unit;
    } stems[] = {
        {"input_cost_per_image", CH_UNIT_IMAGE_IN},
        {"output_cost_per_image", CH_UNIT_IMAGE_OUT},
        {"input_cost_per_pixel", CH_UNIT_PIXEL_IN},
        {"output_cost_per_pixel", CH_UNIT_PIXEL_OUT},
        {"input_cost_per_second", CH_UNIT_SECOND_IN},
        {"output_cost_per_second", CH_UNIT_SECOND_OUT},
        {"input_cost_per_character", CH_UNIT_CHARACTER_IN},
        {"output_cost_per_character", CH_UNIT_CHARACTER_OUT},
        {"input_cost_per_query", CH_UNIT_NONE},
        {"input_cost_per_request", CH_UNIT_NONE},
        {"input_cost_per_audio_per_second", CH_UNIT_NONE},
        {"input_cost_per_video_per_second", CH_UNIT_NONE},
        {"output_cost_per_video_per_second", CH_UNIT_NONE},
        {"citation_cost_per_token", CH_UNIT_NONE},
        {"ocr_cost_per_page", CH_UNIT_NONE},
        {"annotation_cost_per_page", CH_UNIT_NONE},
        {"code_interpreter_cost_per_session", CH_UNIT_NONE},
        {"google_maps_grounding_cost_per_query", CH_UNIT_NONE},
    };
    for (size_t i = 0; i < sizeof stems / sizeof *stems; i++) {
        if (ch_span_eq(stem, ch_span_of(stems[i].stem))) {
            *unit_out = stems[i].unit;
            return true;
        }
    }
    return false;
}

bool ch_price_key_parse(struct ch_span name, struct ch_price_key *key_out)
{
    struct ch_price_key key = {0};
    key.tier = cut_tier(&name); // each cuts the end that it understands: the order matters
    key.above_tokens = cut_threshold(&name);
    key.is_token = is_token_stem(name, &key.rate);
    if (!key.is_token && !is_unit_stem(name, &key.unit))
        return false;
    if (key.above_tokens || key.tier != CH_TIER_STANDARD)
        key.unit = CH_UNIT_NONE;
    *key_out = key;
    return true;
}

// ---- values

enum ch_err ch_price_parse_json(struct ch_span json, size_t flags, json_t **root_out,
                                struct ch_why *why)
{
    if (json.len > CH_CATALOGUE_MAX_BYTES)
        return ch_why_set(why, CH_ERR_LIMIT, "prices: the document is longer than %u bytes",
                          CH_CATALOGUE_MAX_BYTES);
    json_error_t at;
    json_t *root = json_loadb(json.len ? json.ptr : "", json.len, flags, &at);
    if (!root)
        return ch_why_set(why, CH_ERR_INVALID, "prices: line %d: %s", at.line, at.text);
    *root_out = root;
    return CH_OK;
}

enum ch_err ch_price_read(const json_t *value, int64_t *femto_usd_out)
{
    char text[32];
    if (json_is_string(value))
        return ch_money_parse_femto(
            (struct ch_span){json_string_value(value), json_string_length(value)}, femto_usd_out);
    if (!json_is_number(value))
        return CH_ERR_INVALID;
    // Seventeen digits carry the double whole; the rounding to 1e-13 USD takes its noise away.
    snprintf(text, sizeof text, "%.17g", json_number_value(value));
    return ch_money_parse_femto(ch_span_of(text), femto_usd_out);
}

enum ch_err ch_price_read_count(const json_t *value, int64_t *count_out)
{
    char text[32];
    if (!json_is_number(value))
        return CH_ERR_INVALID;
    // A whole number is written without its fraction by this format, any other is refused below.
    snprintf(text, sizeof text, "%.17g", json_number_value(value));
    return ch_span_to_int64(ch_span_of(text), count_out);
}

enum ch_err ch_price_read_multiplier(const json_t *value, int64_t *permille_out)
{
    const int64_t femto_per_permille = CH_FEMTO_PER_USD / CH_PERMILLE;
    int64_t femto;
    if (ch_price_read(value, &femto) || femto % femto_per_permille != 0 ||
        femto > 10 * CH_FEMTO_PER_USD)
        return CH_ERR_INVALID;
    *permille_out = femto / femto_per_permille;
    return CH_OK;
}

bool ch_price_date_is_valid(struct ch_span date)
{
    const char pattern[] = "dddd-dd-dd";
    if (date.len != sizeof pattern - 1)
        return false;
    for (size_t i = 0; i < date.len; i++) {
        bool is_digit = date.ptr[i] >= '0' && date.ptr[i] <= '9';
        if (pattern[i] == 'd' ? !is_digit : date.ptr[i] != pattern[i])
            return false;
    }
    return true;
}

static int append_piece(const char *bytes, size_t size, void *buf)
{
    return ch_buf_append(buf, bytes, size) ? -1 : 0;
}

enum ch_err ch_price_dump_json(const json_t *value, size_t flags, struct ch_buf *out)
{
    return json_dump_callback(value, append_piece, out, flags) ? CH_ERR_LIMIT : CH_OK;
}

// ---- which models

// LiteLLM's provider and the prefix of its models. Bare names of the prefixed ones belong to other
// providers of the same model (wire.md §4.1: a bare gemini-… is Vertex).
static const struct {
    const char *provider;
    struct ch_span prefix;
} sources[] = {
    {"openai", {"", 0}},           {"text-completion-openai", {"", 0}},
    {"anthropic", {"", 0}},        {"azure", {"azure/", 6}},
    {"azure_text", {"azure/", 6}}, {"deepseek", {"deepseek/", 9}},
    {"gemini", {"gemini/", 7}},    {"groq", {"groq/", 5}},
    {"mistral", {"mistral/", 8}},  {"openrouter", {"openrouter/", 11}},
    {"xai", {"xai/", 4}},
};
#define SOURCES (sizeof sources / sizeof *sources)

bool ch_price_has_prefix(struct ch_span model)
{
    for (size_t i = 0; i < SOURCES; i++)
        if (sources[i].prefix.len && ch_span_starts(model, sources[i].prefix))
            return true;
    return false;
}

// The two reserved keys of the document have no provider of ours and fall out here.
static bool is_wanted(const char *model, const json_t *members)
{
    const char *provider = json_string_value(json_object_get(members, "litellm_provider"));
    for (size_t i = 0; provider && i < SOURCES; i++)
        if (strcmp(provider, sources[i].provider) == 0)
            return ch_span_starts(ch_span_of(model), sources[i].prefix);
    return false;
}

// ---- one model

struct import {
    const char *model;
    json_t *from;       // LiteLLM's members of the model
    json_t *to;         // ours
    bool is_refused;    // the model is left out
    bool has_threshold; // some price depends on the size of the input
    json_t *unknown;    // cost keys that are not known, each with the first model that has it
    struct ch_buf *notes;
};

static enum ch_err put(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) ? CH_ERR_NOMEM : CH_OK;
}

static enum ch_err put_decimal(json_t *object, const char *key, int64_t femto_usd)
{
    char text[CH_MONEY_TEXT];
    ch_money_format_femto(femto_usd, text);
    return put(object, key, json_string(text));
}

// Names come from the document: they are escaped before a person reads them.
static enum ch_err append_note(struct ch_buf *notes, const char *what, const char *name,
                               const char *comment)
{
    enum ch_err err = ch_buf_append_span(notes, ch_span_of(what));
    if (!err)
        err = ch_buf_append_json(notes, ch_span_of(name));
    if (!err)
        err = ch_buf_append_span(notes, ch_span_of(comment));
    return err;
}

static enum ch_err refuse(struct import *im, const char *key, const char *reason)
{
    im->is_refused = true;
    enum ch_err err = append_note(im->notes, "left out: ", im->model, ": ");
    if (!err)
        err = append_note(im->notes, "", key, " ");
    if (!err)
        err = append_note(im->notes, "", reason, "\n");
    return err;
}

static enum ch_err note_unknown(struct import *im, const char *key)
{
    return json_object_get(im->unknown, key) ? CH_OK
                                             : put(im->unknown, key, json_string(im->model));
}

static enum ch_err take_price(struct import *im, const char *key, json_t *value)
{
    struct ch_price_key parsed;
    int64_t femto;
    if (!ch_price_key_parse(ch_span_of(key), &parsed))
        return note_unknown(im, key);
    if (ch_price_read(value, &femto))
        return refuse(im, key, "is not a price");
    if (parsed.is_token && femto > CH_PRICE_TOKEN_MAX_FEMTO)
        return refuse(im, key, "is above 0.01 USD per token");
    im->has_threshold |= parsed.above_tokens > 0;
    return put_decimal(im->to, key, femto);
}

// Misnamed or doubled keys: they stand for the right one where the model does not have that itself.
static enum ch_err take_price_or_alias(struct import *im, const char *key, json_t *value)
{
    static const char *const aliases[][2] = {
        {"input_cost_per_token_cache_hit", "cache_read_input_token_cost"},              // DeepSeek
        {"cache_creation_input_audio_token_cost", "cache_read_input_audio_token_cost"}, // realtime
    };
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcmp(key, aliases[i][0]) == 0)
            return json_object_get(im->from, aliases[i][1]) ? CH_OK
                                                            : take_price(im, aliases[i][1], value);
    return take_price(im, key, value);
}

static enum ch_err take_searches(struct import *im, const char *key, json_t *value)
{
    static const char *const sizes[] = {"search_context_size_low", "search_context_size_medium",
                                        "search_context_size_high"};
    if (!json_object_get(value, sizes[1]))
        return refuse(im, key, "has no medium size");
    json_t *prices = json_object();
    enum ch_err err = put(im->to, key, prices);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !err; i++) {
        const json_t *price = json_object_get(value, sizes[i]);
        int64_t femto;
        if (price && ch_price_read(price, &femto))
            return refuse(im, sizes[i], "is not a price");
        if (price)
            err = put_decimal(prices, sizes[i], femto);
    }
    return err;
}

static enum ch_err take_multiplier(struct import *im, const char *key, json_t *value)
{
    int64_t permille;
    if (ch_price_read_multiplier(value, &permille))
        return refuse(im, key, "is not a multiplier: 0 to 10, three decimals");
    return put_decimal(im->to, key, permille * (CH_FEMTO_PER_USD / CH_PERMILLE));
}

// Anthropic's {"us": 1.1, "fast": 6.0}: the first for inference_geo, the second for speed.
static enum ch_err take_multipliers(struct import *im, const char *key, json_t *value)
{
    const char *name;
    json_t *multiplier;
    enum ch_err err = CH_OK;
    json_object_foreach(value, name, multiplier)
    {
        if (strcmp(name, "us") == 0)
            err = take_multiplier(im, "inference_geo_us_multiplier", multiplier);
        else if (strcmp(name, "fast") == 0)
            err = take_multiplier(im, "speed_fast_multiplier", multiplier);
        else
            err = note_unknown(im, key);
        if (err)
            return err;
    }
    return CH_OK;
}

#define THRESHOLD_MAX 999999000 // tokens: six digits of thousands, as the grammar of keys has them

// One element of tiered_pricing: the prices of an input in (lo, hi]. It says the same as keys with
// the threshold lo, so it becomes such keys.
static enum ch_err take_range(struct import *im, json_t *element)
{
    json_t *range = json_object_get(element, "range"), *value;
    int64_t lo;
    if (ch_price_read_count(json_array_get(range, 0), &lo) || lo % 1000 != 0 || lo > THRESHOLD_MAX)
        return refuse(im, "tiered_pricing", "has a range that does not begin at whole thousands");
    const char *name;
    enum ch_err err = CH_OK;
    json_object_foreach(element, name, value)
    {
        char key[128] = "";
        if (strcmp(name, "range") == 0)
            continue;
        if (lo)
            snprintf(key, sizeof key, "%.96s_above_%dk_tokens", name, (int)(lo / 1000));
        err = take_price(im, lo ? key : name, value);
        if (err)
            return err;
    }
    return CH_OK;
}

static enum ch_err take_ranges(struct import *im, const char *key, json_t *value)
{
    size_t i;
    json_t *element;
    (void)key;
    json_array_foreach(value, i, element)
    {
        enum ch_err err = take_range(im, element);
        if (err)
            return err;
    }
    return CH_OK;
}

#define COUNT_MAX INT64_C(1000000000000) // of tokens; more is nonsense

static enum ch_err take_text(struct import *im, const char *key, json_t *value)
{
    return json_is_string(value) ? put(im->to, key, json_string(json_string_value(value))) : CH_OK;
}

static enum ch_err take_count(struct import *im, const char *key, json_t *value)
{
    int64_t count;
    bool is_known = ch_price_read_count(value, &count) == CH_OK && count > 0 && count < COUNT_MAX;
    return is_known ? put(im->to, key, json_integer(count)) : CH_OK;
}

static enum ch_err take_unknown(struct import *im, const char *key, json_t *value)
{
    (void)value;
    return strstr(key, "pricing") || strstr(key, "multiplier") ? note_unknown(im, key) : CH_OK;
}

typedef enum ch_err (*take_fn)(struct import *im, const char *key, json_t *value);

static take_fn taker_of(const char *key)
{
    static const struct {
        const char *key;
        take_fn take;
    } takers[] = {
        {"mode", take_text},
        {"web_search_billing_unit", take_text},
        {"max_input_tokens", take_count},
        {"max_output_tokens", take_count},
        {"search_context_cost_per_query", take_searches},
        {"provider_specific_entry", take_multipliers},
        {"regional_processing_uplift_multiplier_us", take_multiplier},
        {"regional_processing_uplift_multiplier_eu", take_multiplier},
        {"tiered_pricing", take_ranges},
    };
    for (size_t i = 0; i < sizeof takers / sizeof *takers; i++)
        if (strcmp(takers[i].key, key) == 0)
            return takers[i].take;
    return strstr(key, "cost") ? take_price_or_alias : take_unknown;
}

// What LiteLLM knows by the provider's name and not by a key (wire.md §4.1, §4.2).
static enum ch_err add_provider_rules(struct import *im)
{
    struct ch_span model = ch_span_of(im->model);
    enum ch_err err = CH_OK;
    if (im->has_threshold && ch_span_starts(model, CH_SPAN("xai/")))
        err = put(im->to, "threshold_inclusive", json_true());
    if (!err && ch_span_starts(model, CH_SPAN("gemini/")) &&
        json_object_get(im->to, "search_context_cost_per_query") &&
        !json_object_get(im->to, "web_search_billing_unit"))
        err = put(im->to, "web_search_billing_unit", json_string("per_prompt"));
    return err;
}

static enum ch_err convert_model(struct import *im)
{
    const char *key;
    json_t *value;
    if (!ch_model_name_is_valid(ch_span_of(im->model)))
        return refuse(im, "the name", "has characters that no model name has");
    json_object_foreach(im->from, key, value)
    {
        enum ch_err err = json_is_null(value) ? CH_OK : taker_of(key)(im, key, value);
        if (err || im->is_refused)
            return err;
    }
    return add_provider_rules(im);
}

static enum ch_err append_unknown(struct ch_buf *notes, json_t *unknown)
{
    const char *key;
    json_t *model;
    json_object_foreach(unknown, key, model)
    {
        enum ch_err err = append_note(notes, "not known: ", key, " (first at ");
        if (!err)
            err = append_note(notes, "", json_string_value(model), ")\n");
        if (err)
            return err;
    }
    return CH_OK;
}

static enum ch_err convert_models(json_t *litellm, json_t *models, struct ch_buf *notes)
{
    struct import im = {.notes = notes, .unknown = json_object()};
    enum ch_err err = im.unknown ? CH_OK : CH_ERR_NOMEM;
    json_object_foreach(litellm, im.model, im.from)
    {
        if (err)
            break;
        if (!is_wanted(im.model, im.from))
            continue;
        im.is_refused = im.has_threshold = false;
        im.to = json_object();
        err = im.to ? convert_model(&im) : CH_ERR_NOMEM;
        if (!err && !im.is_refused)
            err = put(models, im.model, json_incref(im.to));
        json_decref(im.to);
    }
    if (!err)
        err = append_unknown(notes, im.unknown);
    json_decref(im.unknown);
    return err;
}

// ---- the document

// The licence of LiteLLM's catalogue asks that this notice goes with what is made from it.
static const char head[] =
    "{\n"
    "\"schema\":\"" CH_PRICE_SCHEMA "\",\n"
    "\"source\":\"LiteLLM, model_prices_and_context_window.json\",\n"
    "\"date\":\"%.*s\",\n"
    "\"unit\":\"USD per token, search or what the key names; decimal strings\",\n"
    "\"licence\":\"MIT License\\n\\nCopyright (c) 2023 Berri AI\\n\\n"
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software "
    "and associated documentation files (the \\\"Software\\\"), to deal in the Software without "
    "restriction, including without limitation the rights to use, copy, modify, merge, publish, "
    "distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the "
    "Software is furnished to do so, subject to the following conditions:\\n\\n"
    "The above copyright notice and this permission notice shall be included in all copies or "
    "substantial portions of the Software.\\n\\n"
    "THE SOFTWARE IS PROVIDED \\\"AS IS\\\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, "
    "INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR "
    "PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR "
    "ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, "
    "ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE "
    "SOFTWARE.\",\n"
    "\"models\":{\n";

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum ch_err append_model(struct ch_buf *out, const char *model, const json_t *members)
{
    // The names are checked: nothing in them needs an escape.
    enum ch_err err = ch_buf_append_format(out, "\"%s\":", model);
    return err ? err : ch_price_dump_json(members, JSON_COMPACT | JSON_SORT_KEYS, out);
}

static enum ch_err append_models(struct ch_buf *out, json_t *models)
{
    size_t count = 0;
    const char **names = ch_zcalloc(json_object_size(models), sizeof *names);
    if (!names)
        return CH_ERR_NOMEM;
    json_t *members;
    const char *name;
    json_object_foreach(models, name, members)
    {
        names[count++] = name;
    }
    qsort(names, count, sizeof *names, compare_names);
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < count && !err; i++) {
        err = append_model(out, names[i], json_object_get(models, names[i]));
        if (!err)
            err = ch_buf_append_span(out, i + 1 < count ? CH_SPAN(",\n") : CH_SPAN("\n"));
    }
    ch_zfree(names);
    return err;
}

static enum ch_err append_document(struct ch_buf *out, struct ch_span date, json_t *models)
{
    enum ch_err err = ch_buf_append_format(out, head, CH_SPAN_ARG(date));
    if (!err)
        err = append_models(out, models);
    return err ? err : ch_buf_append_span(out, CH_SPAN("}}\n"));
}

enum ch_err ch_catalogue_import(struct ch_span litellm_json, struct ch_span date,
                                struct ch_buf *json_out, struct ch_buf *notes_out,
                                struct ch_why *why)
{
    json_t *litellm;
    if (!ch_price_date_is_valid(date))
        return ch_why_set(why, CH_ERR_INVALID, "the date of the price list is not YYYY-MM-DD");
    enum ch_err err = ch_price_parse_json(litellm_json, 0, &litellm, why);
    if (err)
        return err;
    size_t start = json_out->len;
    json_t *models = json_object();
    err = models ? convert_models(litellm, models, notes_out) : CH_ERR_NOMEM;
    if (!err && json_object_size(models) == 0)
        err = ch_why_set(why, CH_ERR_INVALID, "the price list holds no model of a known provider");
    else if (!err)
        err = append_document(json_out, date, models);
    json_decref(models);
    json_decref(litellm);
    if (err)
        json_out->len = start;
    return err == CH_ERR_NOMEM || err == CH_ERR_LIMIT
               ? ch_why_set(why, err, "the price list does not fit into memory")
               : err;
}
