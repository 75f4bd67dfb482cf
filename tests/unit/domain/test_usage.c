// SPDX-License-Identifier: Apache-2.0
#include "domain/usage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct ch_usage normalise(enum ch_usage_form form, const struct ch_usage_raw *raw)
{
    struct ch_usage usage;
    ch_usage_normalise(form, raw, false, &usage);
    return usage;
}

static void tier_names_round_trip_and_unknown_ones_are_standard(void **state)
{
    (void)state;
    for (int i = 0; i < CH_TIERS; i++)
        assert_int_equal(ch_tier_parse(ch_span_of(ch_tier_name((enum ch_tier)i))), i);
    assert_int_equal(ch_tier_parse(CH_SPAN("fast")), CH_TIER_PRIORITY);
    assert_int_equal(ch_tier_parse(CH_SPAN("FLEX")), CH_TIER_FLEX);
    static const char *const plain[] = {"default", "auto", "scale", "unspecified", "flexible", ""};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        assert_int_equal(ch_tier_parse(ch_span_of(plain[i])), CH_TIER_STANDARD);
    assert_int_equal(ch_tier_parse((struct ch_span){0}), CH_TIER_STANDARD);
}

static void class_names_are_the_columns(void **state)
{
    (void)state;
    assert_string_equal(ch_token_class_name(CH_TOKENS_INPUT), "input");
    assert_string_equal(ch_token_class_name(CH_TOKENS_CACHE_WRITE_1H), "cache_write_1h");
    assert_string_equal(ch_token_class_name(CH_TOKENS_IMAGE_OUT), "image_out");
}

static void nothing_seen_is_empty_and_a_stated_zero_is_not(void **state)
{
    (void)state;
    struct ch_usage_raw raw;
    ch_usage_raw_init(&raw);
    assert_true(ch_usage_raw_is_empty(&raw));
    raw.slot[CH_SLOT_TOTAL] = 7;
    assert_true(ch_usage_raw_is_empty(&raw));
    raw.slot[CH_SLOT_OUTPUT] = 0;
    assert_false(ch_usage_raw_is_empty(&raw));
    ch_usage_raw_init(&raw);
    raw.stated_cost_nano = 0;
    assert_false(ch_usage_raw_is_empty(&raw));
}

static void openai_slices_stand_inside_the_totals(void **state)
{
    (void)state;
    struct ch_usage_raw raw;
    ch_usage_raw_init(&raw);
    raw.slot[CH_SLOT_INPUT] = 1000;
    raw.slot[CH_SLOT_CACHED] = 300;
    raw.slot[CH_SLOT_CACHE_WRITE] = 100;
    raw.slot[CH_SLOT_AUDIO_IN] = 50;
    raw.slot[CH_SLOT_IMAGE_IN] = 20;
    raw.slot[CH_SLOT_OUTPUT] = 400;
    raw.slot[CH_SLOT_REASONING] = 250;
    raw.slot[CH_SLOT_AUDIO_OUT] = 30;
    raw.slot[CH_SLOT_SEARCHES] = 2;
    struct ch_usage usage = normalise(CH_USAGE_OPENAI_CHAT, &raw);
    assert_int_equal(usage.tokens[CH_TOKENS_INPUT], 530);
    assert_int_equal(usage.tokens[CH_TOKENS_CACHE_READ], 300);
    assert_int_equal(usage.tokens[CH_TOKENS_CACHE_WRITE_5M], 100);
    assert_int_equal(usage.tokens[CH_TOKENS_AUDIO_IN], 50);
    assert_int_equal(usage.tokens[CH_TOKENS_IMAGE_IN], 20);
    assert_int_equal(usage.tokens[CH_TOKENS_OUTPUT], 120);
    assert_int_equal(usage.tokens[CH_TOKENS_REASONING], 250);
    assert_int_equal(usage.tokens[CH_TOKENS_AUDIO_OUT], 30);
    assert_int_equal(usage.searches, 2);
    assert_int_equal(ch_usage_total_input(&usage), 1000);
    assert_int_equal(ch_usage_total_output(&usage), 400);
    assert_int_equal(usage.threshold_tokens, 1000);
    assert_int_equal(usage.stated_cost_nano, -1);
}

static void cached_audio_is_not_billed_twice(void **state)
{
    (void)state;
    struct ch_usage_raw raw;
    ch_usage_raw_init(&raw);
    raw.slot[CH_SLOT_INPUT] = 100;
    raw.slot[CH_SLOT_CACHED] = 80;
    raw.slot[CH_SLOT_AUDIO_IN] = 60; // at least 40 of them were cached, the provider does not say
    struct ch_usage usage = normalise(CH_USAGE_OPENAI_CHAT, &raw);
    assert_int_equal(usage.tokens[CH_TOKENS_AUDIO_IN], 20);
    assert_int_equal(usage.tokens[CH_TOKENS_INPUT], 0);
    raw.slot[CH_SLOT_AUDIO_CACHED] = 55; // now it says
    usage = normalise(CH_USAGE_OPENAI_CHAT, &raw);
    assert_int_equal(usage.tokens[CH_TOKENS_AUDIO_IN], 5);
    assert_int_equal(usage.tokens[CH_TOKENS_INPUT], 15);
    assert_int_equal(ch_usage_total_input(&usage), 100);
}

static void reasoning_beside_the_output_is_added(void **state)
{
    (void)state;
    struct ch_usage_raw raw;
    struct ch_usage usage;
    ch_usage_raw_init(&raw);
    raw.slot[CH_SLOT_OUTPUT] = 100;
    raw.slot[CH_SLOT_REASONING] = 70;
    ch_usage_normalise(CH_USAGE_OPENAI_CHAT, &raw, true, &usage);
    assert_int_equal(ch_usage_total_output(&usage), 170);
    ch_usage_normalise(CH_USAGE_OPENAI_CHAT, &raw, false, &usage);
    assert_int_equal(ch_usage_total_output(&usage), 100);
}

static void deepseek_hits_are_cache_reads(void **state)
{
    (void)state;
    struct ch_usage_raw raw;
    ch_usage_raw_init(&raw);
    raw.slot[CH_SLOT_INPUT] = 1234;
    raw.slot[CH_SLOT_CACHE_HIT] = 512;
    struct ch_usage usage = normalise(CH_USAGE_OPENAI_CHAT, &raw);
    assert_int_equal(usage.tokens[CH_TOKENS_CACHE_READ], 512);
    assert_int_equal(usage.tokens[CH_TOKENS_INPUT], 722);
    raw.slot[CH_SLOT_CACHED] = 512; // both names at once are one count
    usage = normalise(CH_USAGE_OPENAI_CHAT, &raw);
    assert_int_equal(usage.tokens[CH_TOKENS_CACHE_READ], 512);
}

static void anthropic_counts_are_disjoint(void **state)
{
    (void)state;
    struct ch_usage_raw raw;
    ch_usage_raw_init(&raw);
    raw.slot[CH_SLOT_INPUT] = 50;
    raw.slot[CH_SLOT_CACHED] = 20000;
    raw.slot[CH_SLOT_CACHE_WRITE] = 4500;
    struct ch_usage usage = normalise(CH_USAGE_ANTHROPIC, &raw);
    assert_int_equal(usage.tokens[CH_TOKENS_CACHE_WRITE_5M], 4500); // no split stated
    raw.slot[CH_SLOT_CACHE_WRITE_5M] = 1500;
    raw.slot[CH_SLOT_CACHE_WRITE_1H] = 2000; // the total is larger: the excess counts as 5m
    usage = normalise(CH_USAGE_ANTHROPIC, &raw);
    assert_int_equal(usage.tokens[CH_TOKENS_INPUT], 50);
    assert_int_equal(usage.tokens[CH_TOKENS_CACHE_WRITE_5M], 2500);
    assert_int_equal(usage.tokens[CH_TOKENS_CACHE_WRITE_1H], 2000);
    assert_int_equal(usage.threshold_tokens, 24550);
}

static void gemini_tools_and_thoughts_stand_outside(void **state)
{
    (void)state;
    struct ch_usage_raw raw;
    ch_usage_raw_init(&raw);
    raw.slot[CH_SLOT_INPUT] = 1200;
    raw.slot[CH_SLOT_CACHED] = 400;
    raw.slot[CH_SLOT_AUDIO_IN] = 200;
    raw.slot[CH_SLOT_TOOL_PROMPT] = 30;
    raw.slot[CH_SLOT_OUTPUT] = 150;
    raw.slot[CH_SLOT_REASONING] = 50;
    struct ch_usage usage = normalise(CH_USAGE_GEMINI, &raw);
    assert_int_equal(usage.tokens[CH_TOKENS_INPUT], 630);
    assert_int_equal(usage.tokens[CH_TOKENS_AUDIO_IN], 200);
    assert_int_equal(usage.tokens[CH_TOKENS_OUTPUT], 150);
    assert_int_equal(usage.tokens[CH_TOKENS_REASONING], 50);
    assert_int_equal(ch_usage_total_input(&usage) + ch_usage_total_output(&usage), 1430);
}

static void free_forms_hold_no_tokens(void **state)
{
    (void)state;
    struct ch_usage_raw raw;
    ch_usage_raw_init(&raw);
    raw.slot[CH_SLOT_INPUT] = 12;
    struct ch_usage usage = normalise(CH_USAGE_NONE, &raw);
    assert_int_equal(ch_usage_total_input(&usage), 0);
    usage = normalise(CH_USAGE_GEMINI_EMBEDDINGS, &raw);
    assert_int_equal(ch_usage_total_input(&usage), 0);
    usage = normalise(CH_USAGE_OPENAI_EMBEDDINGS, &raw);
    assert_int_equal(ch_usage_total_input(&usage), 12);
}

static void contradictions_are_clamped_and_sums_saturate(void **state)
{
    (void)state;
    for (int form = 0; form < CH_USAGE_FORMS; form++) {
        struct ch_usage_raw raw;
        ch_usage_raw_init(&raw);
        for (int i = 0; i < CH_USAGE_SLOTS; i++)
            raw.slot[i] = INT64_MAX;
        struct ch_usage usage = normalise((enum ch_usage_form)form, &raw);
        for (int i = 0; i < CH_TOKEN_CLASSES; i++)
            assert_true(usage.tokens[i] >= 0);
        for (int i = 0; i < CH_USAGE_SLOTS; i++)
            raw.slot[i] = INT64_MIN;
        usage = normalise((enum ch_usage_form)form, &raw);
        assert_int_equal(ch_usage_total_input(&usage) + ch_usage_total_output(&usage), 0);
    }
    struct ch_usage_raw raw;
    ch_usage_raw_init(&raw);
    raw.slot[CH_SLOT_INPUT] = 10;
    raw.slot[CH_SLOT_CACHED] = 25; // more than the whole
    raw.slot[CH_SLOT_OUTPUT] = 5;
    raw.slot[CH_SLOT_REASONING] = 9;
    struct ch_usage usage = normalise(CH_USAGE_OPENAI_RESPONSES, &raw);
    assert_int_equal(usage.tokens[CH_TOKENS_INPUT], 0);
    assert_int_equal(usage.tokens[CH_TOKENS_CACHE_READ], 25);
    assert_int_equal(usage.tokens[CH_TOKENS_OUTPUT], 0);
    assert_int_equal(usage.tokens[CH_TOKENS_REASONING], 9);
}

static void facts_beside_the_tokens_are_kept(void **state)
{
    (void)state;
    struct ch_usage_raw raw;
    ch_usage_raw_init(&raw);
    raw.tier = CH_TIER_FLEX;
    raw.us_region = raw.eu_region = raw.is_fast = true;
    raw.stated_cost_nano = 42;
    struct ch_usage usage = normalise(CH_USAGE_ANTHROPIC, &raw);
    assert_int_equal(usage.tier, CH_TIER_FLEX);
    assert_true(usage.us_region && usage.eu_region && usage.is_fast);
    assert_int_equal(usage.stated_cost_nano, 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tier_names_round_trip_and_unknown_ones_are_standard),
        cmocka_unit_test(class_names_are_the_columns),
        cmocka_unit_test(nothing_seen_is_empty_and_a_stated_zero_is_not),
        cmocka_unit_test(openai_slices_stand_inside_the_totals),
        cmocka_unit_test(cached_audio_is_not_billed_twice),
        cmocka_unit_test(reasoning_beside_the_output_is_added),
        cmocka_unit_test(deepseek_hits_are_cache_reads),
        cmocka_unit_test(anthropic_counts_are_disjoint),
        cmocka_unit_test(gemini_tools_and_thoughts_stand_outside),
        cmocka_unit_test(free_forms_hold_no_tokens),
        cmocka_unit_test(contradictions_are_clamped_and_sums_saturate),
        cmocka_unit_test(facts_beside_the_tokens_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
