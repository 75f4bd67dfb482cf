// SPDX-License-Identifier: Apache-2.0
// Any bytes load as a catalogue or are refused with a reason; what is loaded can be listed, is
// found under its own names and never costs less than nothing. Any bytes that can be imported make
// a document that loads.
#include "domain/catalogue.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_cost(const struct ch_price *price)
{
    static const int64_t sizes[] = {0, 1, 200000, 272001, INT64_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int tier = 0; tier < CH_TIERS; tier++) {
            struct ch_usage usage = {.searches = sizes[i],
                                     .threshold_tokens = sizes[i],
                                     .tier = (enum ch_tier)tier,
                                     .us_region = tier % 2,
                                     .eu_region = i % 2,
                                     .is_fast = i % 3 == 0,
                                     .stated_cost_nano = -1};
            for (int c = 0; c < CH_TOKEN_CLASSES; c++)
                usage.tokens[c] = i % 2 ? 0 : sizes[i];
            for (int part = 0; part < CH_TOKEN_PARTS; part++)
                usage.parts[part] = sizes[i] / 2;
            usage.audio_ms = usage.characters = usage.images = sizes[i];
            usage.image_width = usage.image_height = (int32_t)i * 512;
            struct ch_cost cost = ch_price_cost(price, &usage);
            CH_ASSERT(cost.nano_usd >= 0 && (sizes[i] > 0 || cost.nano_usd == 0));
        }
    }
}

static void check_model(void *arg, const char *model, struct ch_span prices_json)
{
    const struct ch_price *price = ch_catalogue_find(arg, CH_SPAN(""), ch_span_of(model));
    CH_ASSERT(price && strcmp(ch_price_model(price), model) == 0);
    CH_ASSERT(ch_price_max_output_tokens(price) >= 0 && prices_json.len >= 2);
    check_cost(price);
}

// A list is like itself, and contract prices of any text either load or say why.
static void check_overlay(const struct ch_catalogue *catalogue, struct ch_span prices)
{
    struct ch_catalogue_changes changes;
    struct ch_catalogue *overlay;
    struct ch_why why = {""};
    struct ch_price_query query = {.at_ms = 5};
    struct ch_usage usage = {.images = 1, .image_quality = CH_IMAGE_HD, .stated_cost_nano = -1};
    struct ch_price_override override = {
        .model = CH_SPAN("dall-e-3"), .prices_json = prices, .valid_from_ms = 5};
    CH_ASSERT(ch_catalogue_diff(catalogue, catalogue, NULL, NULL, &changes) == CH_OK);
    CH_ASSERT(changes.added + changes.removed + changes.changed + changes.jumps == 0);
    CH_ASSERT(ch_catalogue_check(catalogue, catalogue, NULL) == CH_OK);
    if (ch_catalogue_with_overrides(catalogue, &override, 1, 1, &overlay, &why)) {
        CH_ASSERT(why.text[0]);
        return;
    }
    const struct ch_price *price =
        ch_catalogue_find_for(overlay, &query, CH_SPAN("dall-e-3"), &usage);
    CH_ASSERT(price && ch_price_is_contract(price));
    check_cost(price);
    ch_catalogue_free(overlay);
}

static bool loads(struct ch_span json)
{
    struct ch_catalogue *catalogue;
    struct ch_why why = {""};
    enum ch_err err = ch_catalogue_load(json, &catalogue, &why);
    if (err) {
        CH_ASSERT(why.text[0]);
        return false;
    }
    CH_ASSERT(ch_catalogue_each(catalogue, check_model, catalogue) == CH_OK);
    (void)ch_catalogue_find(catalogue, CH_SPAN("gemini/"), json);
    check_overlay(catalogue, json);
    check_overlay(catalogue, CH_SPAN("{\"output_cost_per_image\":\"0.05\"}"));
    ch_catalogue_free(catalogue);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ch_span input = {(const char *)data, size};
    struct ch_buf json, notes;
    struct ch_why why = {""};
    ch_buf_init(&json, 1 << 20);
    ch_buf_init(&notes, 1 << 20);
    (void)loads(input);
    if (ch_catalogue_import(input, CH_SPAN("2026-08-01"), &json, &notes, &why) == CH_OK)
        CH_ASSERT(loads(ch_buf_span(&json)));
    else
        CH_ASSERT(why.text[0] && json.len == 0);
    ch_buf_fini(&json);
    ch_buf_fini(&notes);
    return 0;
}
