// SPDX-License-Identifier: Apache-2.0
#include "domain/catalogue.h"

#include "base/clock.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct ch_span no_prefix = {"", 0};
static struct ch_catalogue *shipped; // conf/prices.json

static void read_file(const char *path, struct ch_buf *out)
{
    char bytes[65536];
    size_t got;
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    while ((got = fread(bytes, 1, sizeof bytes, file)) > 0)
        assert_int_equal(ch_buf_append(out, bytes, got), CH_OK);
    fclose(file);
}

static int load_shipped(void **state)
{
    (void)state;
    struct ch_buf text;
    struct ch_why why = {""};
    ch_buf_init(&text, CH_CATALOGUE_MAX_BYTES);
    read_file(CH_SOURCE_DIR "/conf/prices.json", &text);
    enum ch_err err = ch_catalogue_load(ch_buf_span(&text), &shipped, &why);
    ch_buf_fini(&text);
    if (err)
        print_error("%s\n", why.text);
    return err;
}

static int free_shipped(void **state)
{
    (void)state;
    ch_catalogue_free(shipped);
    return 0;
}

// Loads a document that holds these models.
static enum ch_err load(const char *models, struct ch_catalogue **catalogue_out, struct ch_why *why)
{
    struct ch_buf text;
    ch_buf_init(&text, 65536);
    assert_int_equal(ch_buf_append_format(&text,
                                          "{\"schema\":\"chaperone.prices/1\","
                                          "\"date\":\"2026-08-01\",\"models\":{%s}}",
                                          models),
                     CH_OK);
    enum ch_err err = ch_catalogue_load(ch_buf_span(&text), catalogue_out, why);
    ch_buf_fini(&text);
    return err;
}

static struct ch_catalogue *must_load(const char *models)
{
    struct ch_catalogue *catalogue;
    struct ch_why why = {""};
    if (load(models, &catalogue, &why) != CH_OK)
        fail_msg("%s", why.text);
    return catalogue;
}

static const struct ch_price *must_find(const struct ch_catalogue *catalogue, const char *model)
{
    const struct ch_price *price = ch_catalogue_find(catalogue, no_prefix, ch_span_of(model));
    if (!price)
        fail_msg("no price for %s", model);
    return price;
}

static struct ch_usage nothing_used(void)
{
    return (struct ch_usage){.stated_cost_nano = -1};
}

// ---- the arithmetic, one rule each

#define INPUT_OUTPUT "\"input_cost_per_token\":\"0.000001\",\"output_cost_per_token\":\"0.000002\""

static void assert_cost(const struct ch_price *price, const struct ch_usage *usage, int64_t nano,
                        bool fallback)
{
    struct ch_cost cost = ch_price_cost(price, usage);
    assert_int_equal(cost.nano_usd, nano);
    assert_int_equal(cost.fallback, fallback);
}

static void a_threshold_is_passed_not_reached_but_for_xai(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load("\"strict\":{\"input_cost_per_token\":\"0.000001\","
                                       "\"input_cost_per_token_above_200k_tokens\":\"0.000003\"},"
                                       "\"xai/inclusive\":{\"threshold_inclusive\":true,"
                                       "\"input_cost_per_token\":\"0.000001\","
                                       "\"input_cost_per_token_above_200k_tokens\":\"0.000003\"}");
    struct ch_usage usage = nothing_used();
    usage.tokens[CH_TOKENS_INPUT] = 1000;
    usage.threshold_tokens = 200000;
    assert_cost(must_find(c, "strict"), &usage, 1000000, false);
    assert_cost(must_find(c, "xai/inclusive"), &usage, 3000000, false);
    usage.threshold_tokens = 200001;
    assert_cost(must_find(c, "strict"), &usage, 3000000, false);
    usage.threshold_tokens = 199999;
    assert_cost(must_find(c, "xai/inclusive"), &usage, 1000000, false);
    ch_catalogue_free(c);
}

static void the_largest_threshold_passed_counts(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load("\"m\":{\"input_cost_per_token\":\"0.000001\","
                                       "\"input_cost_per_token_above_32k_tokens\":\"0.000002\","
                                       "\"input_cost_per_token_above_128k_tokens\":\"0.000003\","
                                       "\"output_cost_per_token\":\"0.00001\","
                                       "\"output_cost_per_token_above_32k_tokens\":\"0.00002\"}");
    struct ch_usage usage = nothing_used();
    usage.tokens[CH_TOKENS_INPUT] = usage.tokens[CH_TOKENS_OUTPUT] = 1;
    usage.threshold_tokens = 500000; // the output has no price at 128k: the next lower one counts
    assert_cost(must_find(c, "m"), &usage, 3000 + 20000, false);
    usage.threshold_tokens = 128000;
    assert_cost(must_find(c, "m"), &usage, 2000 + 20000, false);
    ch_catalogue_free(c);
}

static void tiers_fall_back_to_the_plain_price(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load(
        "\"m\":{\"input_cost_per_token\":\"0.000001\",\"input_cost_per_token_flex\":\"0.0000005\","
        "\"input_cost_per_token_priority\":\"0.000004\",\"input_cost_per_token_batches\":"
        "\"0.0000002\",\"input_cost_per_token_ultrafast\":\"0.000009\","
        "\"input_cost_per_token_above_272k_tokens\":\"0.000002\","
        "\"input_cost_per_token_above_272k_tokens_priority\":\"0.000008\","
        "\"output_cost_per_token\":\"0.00001\"}");
    const struct ch_price *price = must_find(c, "m");
    static const struct {
        enum ch_tier tier;
        int64_t nano, nano_above;
        bool fallback_above;
    } cases[] = {
        {CH_TIER_STANDARD, 1000, 2000, false}, {CH_TIER_FLEX, 500, 2000, true},
        {CH_TIER_PRIORITY, 4000, 8000, false}, {CH_TIER_BATCH, 200, 2000, true},
        {CH_TIER_ULTRAFAST, 9000, 2000, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_usage usage = nothing_used();
        usage.tier = cases[i].tier;
        usage.tokens[CH_TOKENS_INPUT] = 1;
        assert_cost(price, &usage, cases[i].nano, false);
        usage.threshold_tokens = 272001;
        assert_cost(price, &usage, cases[i].nano_above, cases[i].fallback_above);
    }
    struct ch_usage usage = nothing_used();
    usage.tier = CH_TIER_FLEX;
    usage.tokens[CH_TOKENS_OUTPUT] = 1;
    assert_cost(price, &usage, 10000, true);
    ch_catalogue_free(c);
}

static void a_class_without_a_price_falls_back_as_documented(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load("\"m\":{" INPUT_OUTPUT "},\"free\":{}");
    static const struct {
        enum ch_token_class token_class;
        int64_t nano;
        bool fallback;
    } cases[] = {
        {CH_TOKENS_INPUT, 1000, false},         {CH_TOKENS_CACHE_READ, 1000, true},
        {CH_TOKENS_CACHE_WRITE_5M, 1000, true}, {CH_TOKENS_CACHE_WRITE_1H, 2000, true},
        {CH_TOKENS_AUDIO_IN, 1000, true},       {CH_TOKENS_IMAGE_IN, 1000, false},
        {CH_TOKENS_OUTPUT, 2000, false},        {CH_TOKENS_REASONING, 2000, false},
        {CH_TOKENS_AUDIO_OUT, 2000, true},      {CH_TOKENS_IMAGE_OUT, 2000, true},
    };
    for (size_t i = 0; i < CH_TOKEN_CLASSES; i++) {
        struct ch_usage usage = nothing_used();
        usage.tokens[cases[i].token_class] = 1;
        assert_cost(must_find(c, "m"), &usage, cases[i].nano, cases[i].fallback);
        assert_cost(must_find(c, "free"), &usage, 0, true);
    }
    ch_catalogue_free(c);
}

static void an_explicit_zero_is_a_price(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load("\"m\":{\"input_cost_per_token\":\"0.000001\","
                                       "\"cache_read_input_token_cost\":\"0\"}");
    struct ch_usage usage = nothing_used();
    usage.tokens[CH_TOKENS_CACHE_READ] = 1000;
    assert_cost(must_find(c, "m"), &usage, 0, false);
    ch_catalogue_free(c);
}

static void searches_cost_the_medium_size(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load(
        "\"per_query\":{\"search_context_cost_per_query\":{\"search_context_size_low\":\"0.03\","
        "\"search_context_size_medium\":\"0.035\",\"search_context_size_high\":\"0.05\"}},"
        "\"per_prompt\":{\"web_search_billing_unit\":\"per_prompt\","
        "\"search_context_cost_per_query\":{\"search_context_size_medium\":\"0.035\"}},"
        "\"gpt-5\":{" INPUT_OUTPUT "}");
    struct ch_usage usage = nothing_used();
    usage.searches = 3;
    assert_cost(must_find(c, "per_query"), &usage, 105000000, false);
    assert_cost(must_find(c, "per_prompt"), &usage, 35000000, false);
    assert_cost(must_find(c, "gpt-5"), &usage, 30000000, true); // 0.01 USD each by default
    ch_catalogue_free(c);
}

static void multipliers_apply_to_what_they_name(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load(
        "\"claude\":{\"inference_geo_us_multiplier\":\"1.1\",\"speed_fast_multiplier\":\"6\","
        "\"search_context_cost_per_query\":{\"search_context_size_medium\":\"0.01\"}," INPUT_OUTPUT
        "},\"gpt\":{\"regional_processing_uplift_multiplier_us\":\"1.1\","
        "\"regional_processing_uplift_multiplier_eu\":\"1.2\","
        "\"search_context_cost_per_query\":{\"search_context_size_medium\":\"0.01\"}," INPUT_OUTPUT
        "}");
    struct ch_usage usage = nothing_used();
    usage.tokens[CH_TOKENS_INPUT] = 10000; // 0.01 USD
    usage.searches = 1;                    // 0.01 USD
    usage.us_region = true;
    assert_cost(must_find(c, "claude"), &usage, 21000000, false);
    assert_cost(must_find(c, "gpt"), &usage, 22000000, false);
    usage.is_fast = true;
    assert_cost(must_find(c, "claude"), &usage, 76000000, false);
    assert_cost(must_find(c, "gpt"), &usage, 22000000, false);
    usage.us_region = usage.is_fast = false;
    usage.eu_region = true;
    assert_cost(must_find(c, "claude"), &usage, 20000000, false);
    assert_cost(must_find(c, "gpt"), &usage, 24000000, false);
    ch_catalogue_free(c);
}

static void the_sum_is_rounded_once_half_up(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load("\"m\":{\"input_cost_per_token\":\"0.0000000004\","
                                       "\"output_cost_per_token\":\"0.0000000001\","
                                       "\"inference_geo_us_multiplier\":\"1.25\"}");
    struct ch_usage usage = nothing_used();
    usage.tokens[CH_TOKENS_INPUT] = 1; // 0.4 nano-USD
    assert_cost(must_find(c, "m"), &usage, 0, false);
    usage.us_region = true; // 0.5
    assert_cost(must_find(c, "m"), &usage, 1, false);
    usage.us_region = false;
    usage.tokens[CH_TOKENS_OUTPUT] = 1; // 0.4 + 0.1: rounded apart they would vanish
    assert_cost(must_find(c, "m"), &usage, 1, false);
    ch_catalogue_free(c);
}

static void overflow_saturates(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load(
        "\"m\":{\"input_cost_per_token\":\"0.01\",\"output_cost_per_token\":\"0.01\","
        "\"cache_read_input_token_cost\":\"0.01\",\"inference_geo_us_multiplier\":\"10\","
        "\"speed_fast_multiplier\":\"10\",\"regional_processing_uplift_multiplier_us\":\"10\","
        "\"search_context_cost_per_query\":{\"search_context_size_medium\":\"9000\"}}");
    struct ch_usage usage = nothing_used();
    for (int i = 0; i < CH_TOKEN_CLASSES; i++)
        usage.tokens[i] = INT64_MAX;
    usage.searches = usage.threshold_tokens = INT64_MAX;
    usage.us_region = usage.is_fast = true;
    struct ch_cost cost = ch_price_cost(must_find(c, "m"), &usage);
    assert_true(cost.nano_usd == INT64_MAX);
    usage = nothing_used();
    usage.searches = INT64_MAX;
    assert_true(ch_price_cost(must_find(c, "m"), &usage).nano_usd == INT64_MAX);
    for (int i = 0; i < CH_TOKEN_CLASSES; i++)
        usage.tokens[i] = INT64_MIN; // never happens, never pays anybody either
    usage.searches = INT64_MIN;
    assert_cost(must_find(c, "m"), &usage, 0, false);
    ch_catalogue_free(c);
}

static void a_stated_cost_wins(void **state)
{
    (void)state;
    struct ch_usage usage = nothing_used();
    usage.tokens[CH_TOKENS_INPUT] = 1000000;
    usage.stated_cost_nano = 12345;
    assert_cost(must_find(shipped, "gpt-4o"), &usage, 12345, false);
    assert_cost(NULL, &usage, 12345, false);
    usage.stated_cost_nano = 0;
    assert_cost(must_find(shipped, "gpt-4o"), &usage, 0, false);
}

// ---- parts and units

static void a_part_has_its_own_price_or_its_class(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load(
        "\"own\":{" INPUT_OUTPUT ",\"cache_read_input_token_cost\":\"0.0000001\","
        "\"cache_read_input_audio_token_cost\":\"0.0000003\","
        "\"cache_read_input_image_token_cost\":\"0.0000004\","
        "\"input_cost_per_image_token\":\"0.000005\",\"input_cost_per_video_token\":\"0.000006\","
        "\"output_cost_per_image_token\":\"0.000007\",\"output_cost_per_video_token\":\"0.000008\"}"
        ","
        "\"plain\":{" INPUT_OUTPUT ",\"cache_read_input_token_cost\":\"0.0000001\","
        "\"input_cost_per_image_token\":\"0.000005\",\"output_cost_per_image_token\":\"0.000007\"},"
        "\"bare\":{" INPUT_OUTPUT "}");
    static const struct {
        enum ch_token_part part;
        int64_t own, plain, bare;
        bool plain_fallback, bare_fallback;
    } cases[] = {
        {CH_PART_CACHE_READ_AUDIO, 300, 100, 1000, true, true},
        {CH_PART_CACHE_READ_IMAGE, 400, 100, 1000, false, true},
        {CH_PART_VIDEO_IN, 6000, 1000, 1000, false, false}, // the text price, not the images'
        {CH_PART_VIDEO_OUT, 8000, 2000, 2000, true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_usage usage = nothing_used();
        usage.tokens[ch_token_part_class(cases[i].part)] = 1;
        usage.parts[cases[i].part] = 1;
        assert_cost(must_find(c, "own"), &usage, cases[i].own, false);
        assert_cost(must_find(c, "plain"), &usage, cases[i].plain, cases[i].plain_fallback);
        assert_cost(must_find(c, "bare"), &usage, cases[i].bare, cases[i].bare_fallback);
        usage.parts[cases[i].part] = 5; // never more than the class has
        assert_cost(must_find(c, "own"), &usage, cases[i].own, false);
    }
    struct ch_usage usage = nothing_used();
    usage.tokens[CH_TOKENS_CACHE_READ] = 10; // 5 text, 3 audio, 2 images
    usage.parts[CH_PART_CACHE_READ_AUDIO] = 3;
    usage.parts[CH_PART_CACHE_READ_IMAGE] = 2;
    assert_cost(must_find(c, "own"), &usage, 5 * 100 + 3 * 300 + 2 * 400, false);
    ch_catalogue_free(c);
}

static void units_are_charged_once_and_to_the_millisecond(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load(
        "\"same\":{\"input_cost_per_second\":\"0.0001\",\"output_cost_per_second\":\"0.0001\"},"
        "\"zero\":{\"input_cost_per_second\":\"0.0001\",\"output_cost_per_second\":\"0\"},"
        "\"out\":{\"output_cost_per_second\":\"0.0000000001\"},"
        "\"letters\":{\"input_cost_per_character\":\"0.000015\"},"
        "\"regional\":{\"input_cost_per_character\":\"0.000015\",\"speed_fast_multiplier\":\"6\","
        "\"regional_processing_uplift_multiplier_eu\":\"1.1\"}");
    struct ch_usage usage = nothing_used();
    usage.audio_ms = 1001;
    assert_cost(must_find(c, "same"), &usage, 100100, false);
    assert_cost(must_find(c, "zero"), &usage, 100100, false);
    usage.audio_ms = 4999; // 0.4999 nano-USD
    assert_cost(must_find(c, "out"), &usage, 0, false);
    usage.audio_ms = 5000;
    assert_cost(must_find(c, "out"), &usage, 1, false);
    usage = nothing_used();
    usage.characters = 120;
    assert_cost(must_find(c, "letters"), &usage, 1800000, false);
    usage.eu_region = usage.is_fast = true;
    assert_cost(must_find(c, "regional"), &usage, 1980000, false);
    assert_cost(must_find(c, "same"), &usage, 0, true); // it has no price for characters
    ch_catalogue_free(c);
}

static void tokens_win_where_a_model_is_billed_by_them(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load(
        "\"tokens\":{" INPUT_OUTPUT ",\"output_cost_per_second\":\"1\","
        "\"output_cost_per_image\":\"1\"},"
        "\"units\":{\"input_cost_per_character\":\"0.00001\",\"output_cost_per_token\":\"0\"},"
        "\"nothing\":{}");
    struct ch_usage usage = nothing_used();
    usage.tokens[CH_TOKENS_INPUT] = 1;
    usage.audio_ms = usage.characters = usage.images = 1000;
    assert_cost(must_find(c, "tokens"), &usage, 1000, false);
    assert_cost(must_find(c, "nothing"), &usage, 0, true);
    assert_true(ch_price_takes_tokens(must_find(c, "tokens")));
    assert_false(ch_price_takes_tokens(must_find(c, "units")));
    assert_false(ch_price_takes_tokens(must_find(c, "nothing")));
    usage.audio_ms = usage.images = 0;
    assert_cost(must_find(c, "units"), &usage, 10000000, false);
    usage.tokens[CH_TOKENS_INPUT] = usage.characters = 0;
    usage.images = 2; // no tokens were stated: the price for images stands
    assert_cost(must_find(c, "tokens"), &usage, 2000000000, false);
    ch_catalogue_free(c);
}

static void images_by_pixels_come_out_at_the_price_that_is_meant(void **state)
{
    (void)state;
    struct ch_catalogue *c =
        must_load("\"1024-x-1024/near\":{\"input_cost_per_pixel\":\"0.000000019\"},"    // 0.0199
                  "\"1024-x-1024/far\":{\"input_cost_per_pixel\":\"0.0000000020751\"}," // 0.002176
                  "\"1024-x-1024/free\":{\"input_cost_per_pixel\":\"0\"},"
                  "\"512-x-512/near\":{\"output_cost_per_pixel\":\"0.0000000686\"}");
    struct ch_usage usage = nothing_used();
    usage.images = 3;
    assert_cost(must_find(c, "1024-x-1024/near"), &usage, 60000000, false);
    // 2175900057600 femto-USD an image, which no price of a tenth of a cent is near to.
    assert_cost(must_find(c, "1024-x-1024/far"), &usage, 6527700, false);
    assert_cost(must_find(c, "1024-x-1024/free"), &usage, 0, false);
    usage.image_width = usage.image_height = 512;
    assert_cost(must_find(c, "512-x-512/near"), &usage, 54000000, false);
    ch_catalogue_free(c);
}

static void units_saturate_too(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load(
        "\"m\":{\"input_cost_per_second\":\"9000\",\"input_cost_per_character\":\"9000\","
        "\"output_cost_per_image\":\"9000\",\"regional_processing_uplift_multiplier_eu\":\"10\"},"
        "\"p\":{\"input_cost_per_pixel\":\"9000\"}");
    struct ch_usage usage = nothing_used();
    usage.audio_ms = usage.characters = usage.images = INT64_MAX;
    usage.image_width = usage.image_height = INT32_MAX;
    usage.eu_region = true;
    assert_true(ch_price_cost(must_find(c, "m"), &usage).nano_usd == INT64_MAX);
    assert_true(ch_price_cost(must_find(c, "p"), &usage).nano_usd == INT64_MAX);
    usage.audio_ms = usage.characters = usage.images = INT64_MIN;
    assert_cost(must_find(c, "m"), &usage, 0, false);
    ch_catalogue_free(c);
}

// ---- contract prices

struct contract {
    int64_t provider_id;
    const char *prefix, *model, *prices;
    int64_t valid_from_ms;
};

static enum ch_err overlay(const struct ch_catalogue *base, const struct contract *contracts,
                           size_t count, struct ch_catalogue **out, struct ch_why *why)
{
    struct ch_price_override overrides[16];
    assert_true(count <= 16);
    for (size_t i = 0; i < count; i++)
        overrides[i] = (struct ch_price_override){.provider_id = contracts[i].provider_id,
                                                  .prefix = ch_span_of(contracts[i].prefix),
                                                  .model = ch_span_of(contracts[i].model),
                                                  .prices_json = ch_span_of(contracts[i].prices),
                                                  .valid_from_ms = contracts[i].valid_from_ms};
    return ch_catalogue_with_overrides(base, overrides, count, 2, out, why);
}

#define IN(price) "{\"input_cost_per_token\":\"" price "\"}"

// The price of a million input tokens in micro-USD, -1: unpriced.
static int64_t price_at(const struct ch_catalogue *c, int64_t provider_id, const char *prefix,
                        const char *model, int64_t at_ms)
{
    struct ch_price_query query = {ch_span_of(prefix), provider_id, at_ms};
    const struct ch_price *price = ch_catalogue_find_for(c, &query, ch_span_of(model), NULL);
    struct ch_usage usage = nothing_used();
    usage.tokens[CH_TOKENS_INPUT] = 1000000;
    return price ? ch_price_cost(price, &usage).nano_usd / 1000 : -1;
}

static void contract_prices_win_from_their_instant_on(void **state)
{
    (void)state;
    static const struct contract contracts[] = {
        {5, "", "gpt-4o", IN("0.000002"), 1000},
        {5, "", "gpt-4o", IN("0.000001"), 2000},
        {0, "", "gpt-4o", IN("0.0000015"), 1500},
        {0, "", "house-model", IN("0.000009"), 0},
        {7, "azure/", "gpt-4o", IN("0.0000007"), 0},
        {8, "azure/", "azure/gpt-4o", IN("0.0000008"), 0},
        {0, "", "gpt-4o-mini-2031-01-01", IN("0.0000001"), 0},
    };
    struct ch_catalogue *c;
    struct ch_why why = {""};
    if (overlay(shipped, contracts, sizeof contracts / sizeof *contracts, &c, &why))
        fail_msg("%s", why.text);
    static const struct {
        int64_t provider_id;
        const char *prefix, *model;
        int64_t at_ms, price;
    } cases[] = {
        {5, "", "gpt-4o", 999, 2500000}, // not yet: the list
        {5, "", "gpt-4o", 1000, 2000000},
        {5, "", "gpt-4o", 1999, 2000000}, // this provider's own wins over every provider's
        {5, "", "gpt-4o", 2000, 1000000},
        {6, "", "gpt-4o", 1499, 2500000},
        {6, "", "gpt-4o", 1500, 1500000},
        {5, "", "gpt-4o-2024-08-06", 2000, 1000000}, // though the list has that name
        {5, "", "gpt-4o-20310102", 2000, 1000000},
        {5, "", "gpt-4o-mini", 2000, 150000},
        {1, "", "gpt-4o-mini-2031-01-01", 0, 100000},
        {1, "", "house-model", 0, 9000000},
        {1, "", "house", 0, -1},
        {7, "azure/", "gpt-4o", 0, 700000},
        {8, "azure/", "gpt-4o", 0, 800000},
        {9, "azure/", "gpt-4o", 0, 2500000},
        {9, "azure/", "gpt-4o", 1500, 1500000}, // every provider's
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t price =
            price_at(c, cases[i].provider_id, cases[i].prefix, cases[i].model, cases[i].at_ms);
        if (price != cases[i].price)
            fail_msg("provider %d, %s%s at %d: %d, expected %d", (int)cases[i].provider_id,
                     cases[i].prefix, cases[i].model, (int)cases[i].at_ms, (int)price,
                     (int)cases[i].price);
    }
    // The list itself is as it was.
    assert_int_equal(ch_catalogue_size(c), ch_catalogue_size(shipped));
    assert_false(ch_price_is_contract(must_find(c, "gpt-4o")));
    assert_null(ch_catalogue_find(c, no_prefix, CH_SPAN("house-model")));
    ch_catalogue_free(c);
}

static void a_contract_keeps_what_it_does_not_name(void **state)
{
    (void)state;
    static const struct contract contracts[] = {
        {0, "", "gpt-4o",
         "{\"input_cost_per_token\":\"0.000002\",\"input_cost_per_token_batches\":null,"
         "\"max_output_tokens\":99}",
         0},
        {0, "gemini/", "gemini-2.5-flash", IN("0.0000002"), 0},
        {0, "", "hd/1024-x-1024/dall-e-3", "{\"input_cost_per_image\":\"0.07\"}", 0},
    };
    struct ch_catalogue *c;
    struct ch_why why = {""};
    if (overlay(shipped, contracts, 3, &c, &why))
        fail_msg("%s", why.text);
    struct ch_price_query query = {0};
    const struct ch_price *price = ch_catalogue_find_for(c, &query, CH_SPAN("gpt-4o"), NULL);
    assert_true(ch_price_is_contract(price));
    assert_int_equal(ch_price_max_output_tokens(price), 99);
    struct ch_usage usage = nothing_used();
    usage.tokens[CH_TOKENS_OUTPUT] = 1; // of the list
    assert_cost(price, &usage, 10000, false);
    usage = nothing_used();
    usage.tokens[CH_TOKENS_INPUT] = 1;
    usage.tier = CH_TIER_BATCH; // taken away: the plain price stands in
    assert_cost(price, &usage, 2000, true);
    query.prefix = CH_SPAN("gemini/");
    price = ch_catalogue_find_for(c, &query, CH_SPAN("gemini-2.5-flash"), NULL);
    usage = nothing_used();
    usage.tokens[CH_TOKENS_AUDIO_IN] = 1;
    assert_cost(price, &usage, 1000, false);
    query.prefix = no_prefix;
    usage = nothing_used();
    usage.images = 2;
    usage.image_quality = CH_IMAGE_HD;
    price = ch_catalogue_find_for(c, &query, CH_SPAN("dall-e-3"), &usage);
    assert_true(ch_price_is_contract(price));
    assert_cost(price, &usage, 140000000, false);
    ch_catalogue_free(c);
}

static void the_version_names_list_and_contracts(void **state)
{
    (void)state;
    static const struct contract contract = {0, "", "gpt-4o", IN("0.000002"), 0};
    struct ch_catalogue *c, *again, *none;
    char expected[64];
    assert_int_equal(overlay(shipped, &contract, 1, &c, NULL), CH_OK);
    snprintf(expected, sizeof expected, "%s+o2", ch_catalogue_version(shipped));
    assert_string_equal(ch_catalogue_version(c), expected);
    // Over an overlay: its contract prices are gone, its list is the same.
    assert_int_equal(ch_catalogue_with_overrides(c, NULL, 0, 3, &again, NULL), CH_OK);
    snprintf(expected, sizeof expected, "%s+o3", ch_catalogue_version(shipped));
    assert_string_equal(ch_catalogue_version(again), expected);
    assert_int_equal(price_at(again, 0, "", "gpt-4o", 0), 2500000);
    assert_int_equal(ch_catalogue_with_overrides(shipped, NULL, 0, INT64_MAX, &none, NULL), CH_OK);
    assert_true(
        ch_span_ends(ch_span_of(ch_catalogue_version(none)), CH_SPAN("+o9223372036854775807")));
    ch_catalogue_free(c);
    ch_catalogue_free(again);
    ch_catalogue_free(none);
}

static void contract_prices_are_checked(void **state)
{
    (void)state;
    static const struct {
        struct contract contracts[2];
        size_t count;
        enum ch_err err;
        const char *word;
    } cases[] = {
        {{{0, "", "gpt-4o", "[]", 0}}, 1, CH_ERR_INVALID, "object"},
        {{{0, "", "gpt-4o", "{}", 0}}, 1, CH_ERR_INVALID, "object"},
        {{{0, "", "gpt-4o", "{", 0}}, 1, CH_ERR_INVALID, "object"},
        {{{0, "", "gpt-4o", "", 0}}, 1, CH_ERR_INVALID, "object"},
        {{{0, "", "gpt-4o", IN("1"), 0}}, 1, CH_ERR_INVALID, "0.01 USD per token"},
        {{{0, "", "gpt-4o", IN("-0.1"), 0}}, 1, CH_ERR_INVALID, "not a price"},
        {{{0, "", "gpt-4o", "{\"input_cost_per_tokne\":\"0\"}", 0}}, 1, CH_ERR_INVALID, "tokne"},
        {{{0, "", "a b", IN("0"), 0}}, 1, CH_ERR_INVALID, "name"},
        {{{0, "", "", IN("0"), 0}}, 1, CH_ERR_INVALID, "name"},
        {{{3, "", "m", IN("0"), 5}, {3, "", "m", IN("0.001"), 5}}, 2, CH_ERR_CONFLICT, "twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_catalogue *c;
        struct ch_why why = {""};
        enum ch_err err = overlay(shipped, cases[i].contracts, cases[i].count, &c, &why);
        if (err != cases[i].err || !strstr(why.text, cases[i].word))
            fail_msg("case %zu: %s: %s", i, ch_err_name(err), why.text);
    }
    struct ch_catalogue *c;
    assert_int_equal(
        ch_catalogue_with_overrides(shipped, NULL, CH_PRICE_OVERRIDES_MAX + 1, 1, &c, NULL),
        CH_ERR_LIMIT);
}

// ---- one list against another

static void tell_change(void *arg, const struct ch_price_change *change)
{
    static const char signs[] = "+-~";
    assert_int_equal(ch_buf_append_format(arg, "%c%s %s %.*s>%.*s\n", signs[change->kind],
                                          change->model, change->key, CH_SPAN_ARG(change->old),
                                          CH_SPAN_ARG(change->new)),
                     CH_OK);
}

static void a_diff_tells_every_change_in_order(void **state)
{
    (void)state;
    struct ch_catalogue *old = must_load("\"same\":" IN("0.000001") ",\"gone\":" IN(
        "0.000001") ",\"b\":{\"input_cost_per_token\":\"0.000001\",\"max_output_tokens\":10,"
                    "\"output_cost_per_token\":\"0.000002\"}");
    struct ch_catalogue *new = must_load("\"b\":{\"output_cost_per_token\":\"0.000003\","
                                         "\"input_cost_per_token\":\"0.000001\",\"mode\":\"chat\"},"
                                         "\"a\":" IN("0.000001") ",\"same\":" IN("0.000001"));
    struct ch_buf story;
    struct ch_catalogue_changes changes;
    ch_buf_init(&story, 4096);
    assert_int_equal(ch_catalogue_diff(old, new, tell_change, &story, &changes), CH_OK);
    assert_true(ch_span_eq(ch_buf_span(&story),
                           CH_SPAN("+a  >{\"input_cost_per_token\":\"0.000001\"}\n"
                                   "~b max_output_tokens 10>\n"
                                   "~b mode >\"chat\"\n"
                                   "~b output_cost_per_token \"0.000002\">\"0.000003\"\n"
                                   "-gone  {\"input_cost_per_token\":\"0.000001\"}>\n")));
    assert_int_equal(changes.added, 1);
    assert_int_equal(changes.removed, 1);
    assert_int_equal(changes.changed, 1);
    assert_int_equal(changes.jumps, 0);
    assert_int_equal(ch_catalogue_diff(new, new, tell_change, NULL, &changes), CH_OK);
    assert_int_equal(changes.added + changes.removed + changes.changed, 0);
    assert_int_equal(ch_catalogue_diff(NULL, new, NULL, NULL, &changes), CH_OK);
    assert_int_equal(changes.added, 3);
    ch_buf_fini(&story);
    ch_catalogue_free(old);
    ch_catalogue_free(new);
}

static void a_jump_needs_a_word_from_the_operator(void **state)
{
    (void)state;
    static const struct {
        const char *old, *new;
        bool is_jump;
    } cases[] = {
        {IN("0.000001"), IN("0.00001"), false}, // ten times is not more than ten times
        {IN("0.000001"), IN("0.0000100001"), true},
        {IN("0.00001"), IN("0.000001"), false},
        {IN("0.00001"), IN("0.0000009999"), true},
        {IN("0.000001"), IN("0"), true},
        {IN("0"), IN("0.000001"), false},
        {IN("0"), IN("0"), false},
        {"{\"output_cost_per_image\":\"0.01\"}", "{\"output_cost_per_image\":\"1\"}", true},
        {"{\"max_output_tokens\":1}", "{\"max_output_tokens\":100000}", false},
        {"{\"search_context_cost_per_query\":{\"search_context_size_medium\":\"0.01\"}}",
         "{\"search_context_cost_per_query\":{\"search_context_size_medium\":\"0.5\"}}", true},
        {IN("0.000001"), "{\"output_cost_per_token\":\"0.009\"}", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[400];
        struct ch_why why = {""};
        struct ch_catalogue_changes changes;
        snprintf(text, sizeof text, "\"m\":%s", cases[i].old);
        struct ch_catalogue *old = must_load(text);
        snprintf(text, sizeof text, "\"m\":%s", cases[i].new);
        struct ch_catalogue *new = must_load(text);
        assert_int_equal(ch_catalogue_diff(old, new, NULL, NULL, &changes), CH_OK);
        assert_int_equal(changes.jumps, cases[i].is_jump);
        enum ch_err err = ch_catalogue_check(old, new, &why);
        if (err != (cases[i].is_jump ? CH_ERR_DENIED : CH_OK))
            fail_msg("case %zu: %s", i, why.text);
        assert_true(!cases[i].is_jump || strstr(why.text, "\"m\""));
        ch_catalogue_free(old);
        ch_catalogue_free(new);
    }
}

static void a_list_that_lost_its_models_is_refused(void **state)
{
    (void)state;
    struct ch_catalogue *three = must_load("\"a\":{},\"b\":{},\"c\":{}"),
                        *two = must_load("\"a\":{},\"b\":{}"), *one = must_load("\"a\":{}"),
                        *none = must_load("");
    struct ch_why why = {""};
    assert_int_equal(ch_catalogue_check(three, two, &why), CH_OK);
    assert_int_equal(ch_catalogue_check(three, one, &why), CH_ERR_DENIED);
    assert_non_null(strstr(why.text, "1 models"));
    assert_int_equal(ch_catalogue_check(two, one, &why), CH_OK); // half
    assert_int_equal(ch_catalogue_check(one, none, &why), CH_ERR_DENIED);
    assert_int_equal(ch_catalogue_check(none, three, &why), CH_OK);
    assert_int_equal(ch_catalogue_check(shipped, shipped, &why), CH_OK);
    ch_catalogue_free(three);
    ch_catalogue_free(two);
    ch_catalogue_free(one);
    ch_catalogue_free(none);
}

// ---- look-up

static const char *found(const char *prefix, const char *model)
{
    const struct ch_price *price =
        ch_catalogue_find(shipped, ch_span_of(prefix), ch_span_of(model));
    return price ? ch_price_model(price) : "";
}

static void look_up_follows_the_documented_order(void **state)
{
    (void)state;
    static const struct {
        const char *prefix, *model, *found;
    } cases[] = {
        {"", "gpt-4o", "gpt-4o"},
        {"", "gpt-4o-2024-08-06", "gpt-4o-2024-08-06"},
        {"", "gpt-4o-2031-01-02", "gpt-4o"},
        {"", "gpt-4o-20310102", "gpt-4o"},
        {"", "gpt-4o-2031-01-0", ""},
        {"", "gpt-4o-2031-01-021", ""},
        {"", "-2031-01-02", ""},
        {"", "gpt-4", "gpt-4"},
        {"", "gpt-4o ", ""},
        {"", "GPT-4o", ""},
        {"", "claude-opus-5-20991231", "claude-opus-5"},
        {"", "ft:gpt-4o-2024-08-06:acme::Bx7", "ft:gpt-4o-2024-08-06"},
        {"", "ft:gpt-4o-2024-08-06", "ft:gpt-4o-2024-08-06"},
        {"", "ft:", ""},
        {"gemini/", "gemini-2.5-flash", "gemini/gemini-2.5-flash"},
        {"gemini/", "gemini/gemini-2.5-flash", "gemini/gemini-2.5-flash"},
        {"", "gemini-2.5-flash", ""}, // a bare gemini-… would be Vertex
        {"", "gemini/gemini-2.5-flash", "gemini/gemini-2.5-flash"},
        {"azure/", "gpt-4o", "azure/gpt-4o"},
        {"azure/", "gpt-4o-2031-01-02", "azure/gpt-4o"},
        {"azure/", "claude-opus-5", ""}, // never by another provider's price
        {"groq/", "azure/gpt-4o-2031-01-02", "azure/gpt-4o"},
        {"deepseek/", "deepseek-chat", "deepseek/deepseek-chat"},
        {"", "", ""},
        {"gemini/", "", ""},
        {"", "sample_spec", ""},
        {"", "fallback_generalizations", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(found(cases[i].prefix, cases[i].model), cases[i].found);
    char longest[400];
    memset(longest, 'm', sizeof longest);
    assert_null(ch_catalogue_find(shipped, no_prefix, (struct ch_span){longest, sizeof longest}));
}

static void look_up_needs_no_nul_and_reads_no_further(void **state)
{
    (void)state;
    static const char name[] = {'g', 'p', 't', '-', '4', 'o'};
    char *heap = malloc(sizeof name); // exact, so that the sanitizer sees a read past it
    assert_non_null(heap);
    memcpy(heap, name, sizeof name);
    const struct ch_price *price =
        ch_catalogue_find(shipped, (struct ch_span){0}, (struct ch_span){heap, sizeof name});
    assert_non_null(price);
    assert_string_equal(ch_price_model(price), "gpt-4o");
    assert_int_equal(ch_price_max_output_tokens(price), 16384);
    assert_int_equal(ch_price_max_input_tokens(price), 128000);
    free(heap);
}

static void every_model_is_found_under_its_name(void *arg, const char *model,
                                                struct ch_span prices_json)
{
    struct {
        size_t count;
        char last[256];
    } *seen = arg;
    const struct ch_price *price = ch_catalogue_find(shipped, no_prefix, ch_span_of(model));
    assert_non_null(price);
    assert_string_equal(ch_price_model(price), model);
    assert_true(strcmp(seen->last, model) < 0); // key order
    assert_true(ch_span_copy(ch_span_of(model), seen->last, sizeof seen->last));
    assert_true(prices_json.ptr[0] == '{' && prices_json.ptr[prices_json.len - 1] == '}');
    seen->count++;
}

static void listing_gives_every_model_in_order(void **state)
{
    (void)state;
    struct {
        size_t count;
        char last[256];
    } seen = {0};
    assert_int_equal(ch_catalogue_each(shipped, every_model_is_found_under_its_name, &seen), CH_OK);
    assert_int_equal(seen.count, ch_catalogue_size(shipped));
    assert_true(seen.count > 700);
}

static void copy_prices(void *arg, const char *model, struct ch_span prices_json)
{
    if (strcmp(model, "m") == 0)
        assert_int_equal(ch_buf_append_span(arg, prices_json), CH_OK);
}

static void listing_keeps_prices_that_are_not_computed(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load("\"m\":{\"output_cost_per_second\":\"0.0001\"}");
    struct ch_buf json;
    ch_buf_init(&json, 1000);
    assert_int_equal(ch_catalogue_each(c, copy_prices, &json), CH_OK);
    assert_true(ch_span_eq(ch_buf_span(&json), CH_SPAN("{\"output_cost_per_second\":\"0.0001\"}")));
    ch_buf_fini(&json);
    ch_catalogue_free(c);
}

static void version_is_the_date_and_a_hash_of_the_content(void **state)
{
    (void)state;
    struct ch_catalogue *a = must_load("\"m\":{" INPUT_OUTPUT "}"),
                        *b = must_load("\"m\":{" INPUT_OUTPUT "}"),
                        *other = must_load("\"n\":{" INPUT_OUTPUT "}");
    assert_int_equal(strlen(ch_catalogue_version(a)), 19);
    assert_true(ch_span_starts(ch_span_of(ch_catalogue_version(a)), CH_SPAN("2026-08-01-")));
    assert_string_equal(ch_catalogue_version(a), ch_catalogue_version(b));
    assert_string_not_equal(ch_catalogue_version(a), ch_catalogue_version(other));
    ch_catalogue_free(a);
    ch_catalogue_free(b);
    ch_catalogue_free(other);
    ch_catalogue_free(NULL);
}

// ---- refusals

static void load_names_the_model_and_the_key_at_fault(void **state)
{
    (void)state;
    static const struct {
        const char *models, *word, *other_word;
    } cases[] = {
        {"\"m\":{\"input_cost_per_tokne\":\"1\"}", "\"m\"", "input_cost_per_tokne"},
        {"\"m\":{\"input_cost_per_token\":\"a lot\"}", "\"m\"", "input_cost_per_token"},
        {"\"m\":{\"input_cost_per_token\":\"-0.1\"}", "\"m\"", "input_cost_per_token"},
        {"\"m\":{\"input_cost_per_token\":null}", "\"m\"", "input_cost_per_token"},
        {"\"m\":{\"input_cost_per_token\":\"0.54\"}", "\"m\"", "0.01 USD per token"},
        {"\"m\":{\"input_cost_per_token_above_k_tokens\":\"0\"}", "\"m\"", "_above_k"},
        {"\"m\":{\"input_cost_per_token_above_0k_tokens\":\"0\"}", "\"m\"", "_above_0k"},
        {"\"m\":{\"input_cost_per_token_flex_above_9k_tokens\":\"0\"}", "\"m\"", "_flex_above"},
        {"\"m\":{\"output_cost_per_token_above_1hr\":\"0\"}", "\"m\"", "_above_1hr"},
        {"\"m\":{\"search_context_cost_per_query\":{}}", "\"m\"", "search_context_size_medium"},
        {"\"m\":{\"speed_fast_multiplier\":\"11\"}", "\"m\"", "speed_fast_multiplier"},
        {"\"m\":{\"speed_fast_multiplier\":\"1.0001\"}", "\"m\"", "speed_fast_multiplier"},
        {"\"m\":{\"max_output_tokens\":-1}", "\"m\"", "max_output_tokens"},
        {"\"m\":{\"max_input_tokens\":\"many\"}", "\"m\"", "max_input_tokens"},
        {"\"m\":{\"cache_read_input_audio_token_cost\":\"0.54\"}", "\"m\"", "0.01 USD"},
        {"\"m\":{\"threshold_inclusive\":1}", "\"m\"", "threshold_inclusive"},
        {"\"m\":{\"web_search_billing_unit\":\"per_year\"}", "\"m\"", "per_query"},
        {"\"m\":{\"mode\":3}", "\"m\"", "mode"},
        {"\"m\":7", "\"m\"", "object"},
        {"\"a b\":{}", "a b", "name"},
        {"\"m\":{},\"m\":{}", "line 1", "duplicate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_catalogue *c;
        struct ch_why why = {""};
        if (load(cases[i].models, &c, &why) != CH_ERR_INVALID)
            fail_msg("accepted: %s", cases[i].models);
        if (!strstr(why.text, cases[i].word) || !strstr(why.text, cases[i].other_word))
            fail_msg("%s gave: %s", cases[i].models, why.text);
    }
}

static void load_refuses_what_is_no_catalogue(void **state)
{
    (void)state;
    static const char *const documents[] = {
        "",
        "{}",
        "[]",
        "null",
        "{\"schema\":\"chaperone.prices/2\",\"date\":\"2026-08-01\",\"models\":{}}",
        "{\"schema\":\"chaperone.prices/1\",\"date\":\"yesterday\",\"models\":{}}",
        "{\"schema\":\"chaperone.prices/1\",\"date\":\"2026-08-01\",\"models\":[]}",
        "{\"schema\":\"chaperone.prices/1\",\"models\":{}}",
        "{\"schema\":\"chaperone.prices/1\",\"date\":\"2026-08-01\",\"models\":{}",
    };
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
        struct ch_catalogue *c;
        struct ch_why why = {""};
        assert_int_equal(ch_catalogue_load(ch_span_of(documents[i]), &c, &why), CH_ERR_INVALID);
        assert_true(why.text[0]);
    }
    struct ch_catalogue *c;
    char *big = calloc(1, CH_CATALOGUE_MAX_BYTES + 1);
    assert_non_null(big);
    assert_int_equal(ch_catalogue_load((struct ch_span){big, CH_CATALOGUE_MAX_BYTES + 1}, &c, NULL),
                     CH_ERR_LIMIT);
    free(big);
}

// ---- import

struct imported {
    struct ch_buf json, notes;
};

static enum ch_err import(const char *litellm, struct imported *out, struct ch_why *why)
{
    ch_buf_init(&out->json, 1 << 20);
    ch_buf_init(&out->notes, 1 << 16);
    return ch_catalogue_import(ch_span_of(litellm), CH_SPAN("2026-08-01"), &out->json, &out->notes,
                               why);
}

static void imported_fini(struct imported *imported)
{
    ch_buf_fini(&imported->json);
    ch_buf_fini(&imported->notes);
}

static void assert_holds(const struct ch_buf *buf, const char *text)
{
    if (!memmem(buf->ptr, buf->len, text, strlen(text)))
        fail_msg("\"%s\" is missing in: %.*s", text, (int)buf->len, buf->ptr);
}

static void assert_lacks(const struct ch_buf *buf, const char *text)
{
    if (buf->len && memmem(buf->ptr, buf->len, text, strlen(text)))
        fail_msg("\"%s\" is in: %.*s", text, (int)buf->len, buf->ptr);
}

static const char litellm_sample[] =
    "{\"sample_spec\":{\"litellm_provider\":\"one of …\",\"input_cost_per_token\":0},"
    "\"fallback_generalizations\":{\"rules\":[]},"
    "\"zeta\":{\"litellm_provider\":\"openai\",\"mode\":\"chat\",\"input_cost_per_token\":"
    "2.0000000000000003e-07,\"output_cost_per_token\":3e-06,\"max_output_tokens\":2000000.0,"
    "\"max_input_tokens\":1000,"
    "\"supports_vision\":true,\"mystery_cost_per_wish\":3,\"off_peak_pricing\":{},"
    "\"regional_processing_uplift_multiplier_eu\":1.1},"
    "\"gpt-alpha\":{\"litellm_provider\":\"openai\",\"input_cost_per_token\":1e-6,"
    "\"input_cost_per_token_flex\":null,\"mystery_cost_per_wish\":4},"
    "\"claude-x\":{\"litellm_provider\":\"anthropic\",\"input_cost_per_token\":1e-6,"
    "\"provider_specific_entry\":{\"us\":1.1,\"fast\":6.0}},"
    "\"gpt-wrong\":{\"litellm_provider\":\"openai\",\"output_cost_per_token\":0.54,"
    "\"input_cost_per_token\":0.27},"
    "\"gpt-negative\":{\"litellm_provider\":\"openai\",\"output_cost_per_token\":-1},"
    "\"gpt odd\":{\"litellm_provider\":\"openai\",\"output_cost_per_token\":0},"
    "\"gemini-v\":{\"litellm_provider\":\"gemini\",\"input_cost_per_token\":1e-6},"
    "\"gemini/g\":{\"litellm_provider\":\"gemini\",\"input_cost_per_token\":1e-6,"
    "\"search_context_cost_per_query\":{\"search_context_size_low\":0.035,"
    "\"search_context_size_medium\":0.035,\"search_context_size_high\":0.035}},"
    "\"gemini/q\":{\"litellm_provider\":\"gemini\",\"web_search_billing_unit\":\"per_query\","
    "\"search_context_cost_per_query\":{\"search_context_size_low\":0.014,"
    "\"search_context_size_medium\":0.014,\"search_context_size_high\":0.014}},"
    "\"deepseek/d\":{\"litellm_provider\":\"deepseek\",\"input_cost_per_token\":2.8e-7,"
    "\"input_cost_per_token_cache_hit\":2.8e-8},"
    "\"deepseek/e\":{\"litellm_provider\":\"deepseek\",\"cache_read_input_token_cost\":2e-8,"
    "\"input_cost_per_token_cache_hit\":1e-8},"
    "\"xai/x\":{\"litellm_provider\":\"xai\",\"input_cost_per_token\":1e-6,"
    "\"input_cost_per_token_above_128k_tokens\":2e-6},"
    "\"xai/flat\":{\"litellm_provider\":\"xai\",\"input_cost_per_token\":1e-6},"
    "\"mistral/t\":{\"litellm_provider\":\"mistral\",\"tiered_pricing\":["
    "{\"range\":[0,32000.0],\"input_cost_per_token\":1e-6,\"output_cost_per_token\":2e-6},"
    "{\"range\":[32000.0,256000.0],\"input_cost_per_token\":3e-6,\"output_cost_per_token\":4e-6}"
    "]},"
    "\"mistral/u\":{\"litellm_provider\":\"mistral\",\"tiered_pricing\":[{\"range\":[0.5,9]}]},"
    "\"vertex_ai/v\":{\"litellm_provider\":\"vertex_ai\",\"input_cost_per_token\":1e-6}}";

static void import_gives_one_sorted_line_a_model(void **state)
{
    (void)state;
    struct imported out;
    struct ch_why why = {""};
    if (import(litellm_sample, &out, &why))
        fail_msg("%s", why.text);
    assert_holds(&out.json, "\"schema\":\"chaperone.prices/1\"");
    assert_holds(&out.json, "\"date\":\"2026-08-01\"");
    assert_holds(&out.json, "Copyright (c) 2023 Berri AI");
    assert_holds(&out.json, "\n\"gpt-alpha\":{\"input_cost_per_token\":\"0.000001\"},\n");
    assert_holds(&out.json,
                 "\n\"zeta\":{\"input_cost_per_token\":\"0.0000002\",\"max_input_tokens\":1000,"
                 "\"max_output_tokens\":2000000,"
                 "\"mode\":\"chat\",\"output_cost_per_token\":\"0.000003\","
                 "\"regional_processing_uplift_multiplier_eu\":\"1.1\"}\n}}\n");
    assert_holds(&out.json, "\"inference_geo_us_multiplier\":\"1.1\"");
    assert_holds(&out.json, "\"speed_fast_multiplier\":\"6\"");
    imported_fini(&out);
}

static void import_applies_the_providers_rules(void **state)
{
    (void)state;
    struct imported out;
    assert_int_equal(import(litellm_sample, &out, NULL), CH_OK);
    assert_holds(&out.json, "\"deepseek/d\":{\"cache_read_input_token_cost\":\"0.000000028\","
                            "\"input_cost_per_token\":\"0.00000028\"}");
    assert_holds(&out.json, "\"deepseek/e\":{\"cache_read_input_token_cost\":\"0.00000002\"}");
    assert_holds(&out.json, "\"web_search_billing_unit\":\"per_prompt\"}");
    assert_holds(&out.json, "\"web_search_billing_unit\":\"per_query\"}");
    assert_holds(&out.json, "\"threshold_inclusive\":true");
    assert_holds(&out.json, "\"xai/flat\":{\"input_cost_per_token\":\"0.000001\"}");
    assert_holds(&out.json, "\"input_cost_per_token_above_32k_tokens\":\"0.000003\"");
    static const char *const left_out[] = {"gpt-wrong", "gpt-negative", "gpt odd",
                                           "gemini-v",  "vertex_ai",    "mistral/u",
                                           "sample",    "fallback_gen", "supports_vision"};
    for (size_t i = 0; i < sizeof left_out / sizeof *left_out; i++)
        assert_lacks(&out.json, left_out[i]);
    struct ch_catalogue *c;
    struct ch_why why = {""};
    if (ch_catalogue_load(ch_buf_span(&out.json), &c, &why))
        fail_msg("%s", why.text);
    assert_int_equal(ch_catalogue_size(c), 10);
    struct ch_usage usage = nothing_used();
    usage.tokens[CH_TOKENS_INPUT] = 1;
    usage.threshold_tokens = 32000; // (0, 32000] is the first range
    assert_cost(must_find(c, "mistral/t"), &usage, 1000, false);
    usage.threshold_tokens = 32001;
    assert_cost(must_find(c, "mistral/t"), &usage, 3000, false);
    ch_catalogue_free(c);
    imported_fini(&out);
}

static void import_notes_what_it_left_out_once_each(void **state)
{
    (void)state;
    struct imported out;
    assert_int_equal(import(litellm_sample, &out, NULL), CH_OK);
    assert_holds(&out.notes,
                 "left out: gpt-wrong: output_cost_per_token is above 0.01 USD per token\n");
    assert_holds(&out.notes, "left out: gpt-negative: output_cost_per_token is not a price\n");
    assert_holds(&out.notes, "left out: mistral/u: tiered_pricing");
    assert_holds(&out.notes, "not known: mystery_cost_per_wish (first at zeta)\n");
    assert_holds(&out.notes, "not known: off_peak_pricing (first at zeta)\n");
    size_t lines = 0;
    for (size_t i = 0; i < out.notes.len; i++)
        lines += out.notes.ptr[i] == '\n';
    assert_int_equal(lines, 6);
    imported_fini(&out);
}

static void import_gives_the_same_bytes_again(void **state)
{
    (void)state;
    struct imported a, b;
    assert_int_equal(import(litellm_sample, &a, NULL), CH_OK);
    assert_int_equal(import(litellm_sample, &b, NULL), CH_OK);
    assert_true(ch_span_eq(ch_buf_span(&a.json), ch_buf_span(&b.json)));
    imported_fini(&a);
    imported_fini(&b);
}

static void import_refuses_and_leaves_nothing_behind(void **state)
{
    (void)state;
    static const char *const documents[] = {"", "[]", "{}", "{\"m\":1}", "{\"m\":{}}", "{\"m\""};
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
        struct imported out;
        struct ch_why why = {""};
        assert_int_equal(import(documents[i], &out, &why), CH_ERR_INVALID);
        assert_int_equal(out.json.len, 0);
        assert_true(why.text[0]);
        imported_fini(&out);
    }
    struct ch_buf json, notes;
    ch_buf_init(&json, 2000); // too small: the licence fits, the models do not
    ch_buf_init(&notes, 1 << 16);
    assert_int_equal(
        ch_catalogue_import(ch_span_of(litellm_sample), CH_SPAN("2026-08-01"), &json, &notes, NULL),
        CH_ERR_LIMIT);
    assert_int_equal(json.len, 0);
    assert_int_equal(
        ch_catalogue_import(ch_span_of(litellm_sample), CH_SPAN("today"), &json, &notes, NULL),
        CH_ERR_INVALID);
    ch_buf_fini(&json);
    ch_buf_fini(&notes);
}

// ---- speed: generous bounds, so that only a change of kind fails (sanitizers cost a factor)

static void look_up_and_load_are_quick(void **state)
{
    (void)state;
    enum { ROUNDS = 200000 };
    int64_t start = ch_clock_mono_ns();
    size_t hits = 0;
    for (int i = 0; i < ROUNDS; i++)
        hits += ch_catalogue_find(shipped, CH_SPAN("azure/"), CH_SPAN("gpt-4o-2031-01-02")) != NULL;
    int64_t find_ns = (ch_clock_mono_ns() - start) / ROUNDS;
    assert_int_equal(hits, ROUNDS);

    struct ch_buf text;
    struct ch_catalogue *c;
    ch_buf_init(&text, CH_CATALOGUE_MAX_BYTES);
    read_file(CH_SOURCE_DIR "/conf/prices.json", &text);
    start = ch_clock_mono_ns();
    assert_int_equal(ch_catalogue_load(ch_buf_span(&text), &c, NULL), CH_OK);
    int64_t load_ms = (ch_clock_mono_ns() - start) / CH_NS_PER_MS;
    assert_true(load_ms < 5000);
    print_message("look-up %d ns, load %d ms\n", (int)find_ns, (int)load_ms);
    ch_catalogue_free(c);
    ch_buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_threshold_is_passed_not_reached_but_for_xai),
        cmocka_unit_test(the_largest_threshold_passed_counts),
        cmocka_unit_test(tiers_fall_back_to_the_plain_price),
        cmocka_unit_test(a_class_without_a_price_falls_back_as_documented),
        cmocka_unit_test(an_explicit_zero_is_a_price),
        cmocka_unit_test(searches_cost_the_medium_size),
        cmocka_unit_test(multipliers_apply_to_what_they_name),
        cmocka_unit_test(the_sum_is_rounded_once_half_up),
        cmocka_unit_test(overflow_saturates),
        cmocka_unit_test(a_stated_cost_wins),
        cmocka_unit_test(a_part_has_its_own_price_or_its_class),
        cmocka_unit_test(units_are_charged_once_and_to_the_millisecond),
        cmocka_unit_test(tokens_win_where_a_model_is_billed_by_them),
        cmocka_unit_test(images_by_pixels_come_out_at_the_price_that_is_meant),
        cmocka_unit_test(units_saturate_too),
        cmocka_unit_test(contract_prices_win_from_their_instant_on),
        cmocka_unit_test(a_contract_keeps_what_it_does_not_name),
        cmocka_unit_test(the_version_names_list_and_contracts),
        cmocka_unit_test(contract_prices_are_checked),
        cmocka_unit_test(a_diff_tells_every_change_in_order),
        cmocka_unit_test(a_jump_needs_a_word_from_the_operator),
        cmocka_unit_test(a_list_that_lost_its_models_is_refused),
        cmocka_unit_test(look_up_follows_the_documented_order),
        cmocka_unit_test(look_up_needs_no_nul_and_reads_no_further),
        cmocka_unit_test(listing_gives_every_model_in_order),
        cmocka_unit_test(listing_keeps_prices_that_are_not_computed),
        cmocka_unit_test(version_is_the_date_and_a_hash_of_the_content),
        cmocka_unit_test(load_names_the_model_and_the_key_at_fault),
        cmocka_unit_test(load_refuses_what_is_no_catalogue),
        cmocka_unit_test(import_gives_one_sorted_line_a_model),
        cmocka_unit_test(import_applies_the_providers_rules),
        cmocka_unit_test(import_notes_what_it_left_out_once_each),
        cmocka_unit_test(import_gives_the_same_bytes_again),
        cmocka_unit_test(import_refuses_and_leaves_nothing_behind),
        cmocka_unit_test(look_up_and_load_are_quick),
    };
    return cmocka_run_group_tests(tests, load_shipped, free_shipped);
}
