// SPDX-License-Identifier: Apache-2.0
#include "domain/media.h"

#include "domain/catalogue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct ch_media_ask asked(const char *name, const char *value)
{
    struct ch_media_ask ask;
    ch_media_ask_init(&ask);
    ch_media_ask_take(&ask, ch_span_of(name), ch_span_of(value));
    return ask;
}

static void the_number_of_images_is_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        int64_t images;
        bool is_bad;
    } cases[] = {
        {"1", 1, false},
        {"10", 10, false},
        {"null", 1, false},
        {"0", 10, true},
        {"11", 10, true},
        {"-1", 10, true},
        {"1.5", 10, true},
        {"1e9", 10, true},
        {"", 10, true},
        {"two", 10, true},
        {"99999999999999999999", 10, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_media_ask ask = asked("n", cases[i].value);
        assert_int_equal(ask.images, cases[i].images);
        assert_int_equal(ask.is_bad, cases[i].is_bad);
    }
    struct ch_media_ask ask;
    ch_media_ask_init(&ask);
    assert_int_equal(ask.images, 1);
}

static void sizes_are_read_or_left_open(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        int32_t width, height;
    } cases[] = {
        {"1024x1792", 1024, 1792}, {"1x1", 1, 1},   {"auto", 0, 0},       {"1024", 0, 0},
        {"x1024", 0, 0},           {"1024x", 0, 0}, {"-1x5", 0, 0},       {"0x5", 0, 0},
        {"1024X1024", 0, 0},       {"", 0, 0},      {"99999999x1", 0, 0}, {"1x2x3", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_media_ask ask = asked("size", cases[i].value);
        assert_int_equal(ask.image_width, cases[i].width);
        assert_int_equal(ask.image_height, cases[i].height);
    }
    assert_int_equal(asked("quality", "hd").image_quality, CH_IMAGE_HD);
    assert_int_equal(asked("quality", "auto").image_quality, CH_IMAGE_AUTO);
    assert_int_equal(asked("quality", "finest").image_quality, CH_IMAGE_AUTO);
    assert_int_equal(asked("prompt", "hd").image_quality, CH_IMAGE_AUTO);
    for (int i = 0; i < CH_IMAGE_QUALITIES; i++)
        assert_int_equal(
            ch_image_quality_parse(ch_span_of(ch_image_quality_name((enum ch_image_quality)i))), i);
}

static void characters_are_counted_not_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *raw;
        int64_t count;
    } cases[] = {
        {"", 0},
        {"hello", 5},
        {"h\xC3\xA9llo", 5},
        {"\xE2\x82\xAC", 1},
        {"\xF0\x9F\x98\x80", 1},
        {"\\n\\t\\\"\\\\\\/", 5},
        {"\\u00e9", 1},
        {"a\\u00e9b", 3},
        {"\\ud83d\\ude00", 1},
        {"\\uD83D\\uDE00x", 2},
        {"\\", 1}, // never in JSON; never read past either
        {"\\u12", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(ch_media_json_characters(ch_span_of(cases[i].raw)), cases[i].count);
}

static void the_request_completes_what_the_answer_leaves_out(void **state)
{
    (void)state;
    struct ch_usage_raw raw;
    struct ch_media_ask ask = asked("n", "3");
    ask.characters = 7;
    ask.image_quality = CH_IMAGE_LOW;
    ch_usage_raw_init(&raw);
    ch_media_complete(CH_USAGE_OPENAI_IMAGES, &ask, &raw);
    assert_int_equal(raw.slot[CH_SLOT_IMAGES], 3);
    assert_int_equal(raw.image_quality, CH_IMAGE_LOW);
    assert_int_equal(raw.slot[CH_SLOT_CHARACTERS], -1);
    raw.slot[CH_SLOT_IMAGES] = 2; // what came counts
    ch_media_complete(CH_USAGE_OPENAI_IMAGES, &ask, &raw);
    assert_int_equal(raw.slot[CH_SLOT_IMAGES], 2);
    ch_usage_raw_init(&raw);
    ch_media_complete(CH_USAGE_OPENAI_SPEECH, &ask, &raw);
    assert_int_equal(raw.slot[CH_SLOT_CHARACTERS], 7);
    ch_usage_raw_init(&raw);
    ch_media_complete(CH_USAGE_OPENAI_CHAT, &ask, &raw);
    assert_true(ch_usage_raw_is_empty(&raw));
}

static struct ch_usage estimated(enum ch_usage_form form, const struct ch_media_ask *ask,
                                 int64_t prompt_bytes, int64_t answer_bytes)
{
    struct ch_usage_raw raw;
    struct ch_usage usage;
    ch_usage_raw_init(&raw);
    assert_true(ch_media_estimate(form, ask, prompt_bytes, answer_bytes, &raw));
    ch_media_complete(form, ask, &raw);
    ch_usage_normalise(form, &raw, false, &usage);
    return usage;
}

static void images_are_estimated_by_quality_and_size(void **state)
{
    (void)state;
    struct ch_media_ask ask = asked("size", "1024x1024");
    ask.image_quality = CH_IMAGE_LOW;
    ask.images = 2;
    struct ch_usage usage = estimated(CH_USAGE_OPENAI_IMAGES, &ask, 41, -1);
    assert_int_equal(usage.tokens[CH_TOKENS_INPUT], 11);
    assert_int_equal(usage.tokens[CH_TOKENS_IMAGE_OUT], 2 * 272);
    assert_int_equal(usage.images, 2);
    ask.image_quality = CH_IMAGE_HIGH;
    ask.image_height = 1536;
    assert_int_equal(estimated(CH_USAGE_OPENAI_IMAGES, &ask, 0, -1).tokens[CH_TOKENS_IMAGE_OUT],
                     2 * 6240);
    ch_media_ask_init(&ask); // nothing was said: the dearest of what is usual
    assert_int_equal(estimated(CH_USAGE_OPENAI_IMAGES, &ask, 0, -1).tokens[CH_TOKENS_IMAGE_OUT],
                     6240);
    ask.file_bytes = 1;
    usage = estimated(CH_USAGE_OPENAI_IMAGES, &ask, 4, -1);
    assert_int_equal(usage.tokens[CH_TOKENS_IMAGE_IN], 1056);
    assert_int_equal(usage.tokens[CH_TOKENS_INPUT], 1);
}

static void recordings_are_estimated_by_their_bytes(void **state)
{
    (void)state;
    struct ch_media_ask ask;
    ch_media_ask_init(&ask);
    ask.file_bytes = 80001; // 10.0001 s at 64 kbit/s
    struct ch_usage usage = estimated(CH_USAGE_OPENAI_TRANSCRIPTION, &ask, 8, -1);
    assert_int_equal(usage.audio_ms, 11000);
    assert_int_equal(usage.tokens[CH_TOKENS_AUDIO_IN], 110);
    assert_int_equal(usage.tokens[CH_TOKENS_INPUT], 2);
    assert_int_equal(usage.tokens[CH_TOKENS_OUTPUT], 33);
    usage = estimated(CH_USAGE_OPENAI_TRANSCRIPTION, &ask, 0, 41);
    assert_int_equal(usage.tokens[CH_TOKENS_OUTPUT], 11);
    // A duration that the answer tells is better than bytes.
    struct ch_usage_raw raw;
    ch_usage_raw_init(&raw);
    raw.slot[CH_SLOT_AUDIO_MS] = 2500;
    assert_true(ch_media_estimate(CH_USAGE_OPENAI_TRANSCRIPTION, &ask, 0, 4, &raw));
    assert_int_equal(raw.slot[CH_SLOT_AUDIO_MS], 2500);
    assert_int_equal(raw.slot[CH_SLOT_AUDIO_IN], 30);
}

static void speech_is_estimated_by_its_characters(void **state)
{
    (void)state;
    struct ch_media_ask ask;
    ch_media_ask_init(&ask);
    ask.characters = 150; // ten seconds
    struct ch_usage usage = estimated(CH_USAGE_OPENAI_SPEECH, &ask, 9999, 9999);
    assert_int_equal(usage.characters, 150);
    assert_int_equal(usage.tokens[CH_TOKENS_INPUT], 38);
    assert_int_equal(usage.tokens[CH_TOKENS_AUDIO_OUT], 210);
}

static void what_was_stated_is_never_estimated(void **state)
{
    (void)state;
    static const enum ch_usage_form forms[] = {
        CH_USAGE_OPENAI_IMAGES, CH_USAGE_OPENAI_TRANSCRIPTION, CH_USAGE_OPENAI_SPEECH};
    struct ch_media_ask ask = asked("n", "5");
    ask.characters = ask.file_bytes = 1000000;
    for (size_t i = 0; i < 3; i++) {
        struct ch_usage_raw raw;
        ch_usage_raw_init(&raw);
        for (int slot = 0; slot < CH_USAGE_SLOTS; slot++)
            raw.slot[slot] = 0;
        assert_true(ch_media_estimate(forms[i], &ask, 1000, 1000, &raw));
        for (int slot = 0; slot < CH_USAGE_SLOTS; slot++)
            assert_int_equal(raw.slot[slot], 0);
    }
    struct ch_usage_raw raw;
    ch_usage_raw_init(&raw);
    assert_false(ch_media_estimate(CH_USAGE_OPENAI_CHAT, &ask, 1, 1, &raw));
    assert_true(ch_usage_raw_is_empty(&raw));
}

static void units_settle_what_a_model_is_billed_by(void **state)
{
    (void)state;
    struct ch_catalogue *c;
    const char document[] =
        "{\"schema\":\"chaperone.prices/1\",\"date\":\"2026-08-01\",\"models\":{"
        "\"letters\":{\"input_cost_per_character\":\"0.00001\"},"
        "\"tokens\":{\"input_cost_per_token\":\"0.00001\"},"
        "\"free\":{\"input_cost_per_token\":\"0\"}}}";
    assert_int_equal(ch_catalogue_load(CH_SPAN(document), &c, NULL), CH_OK);
    struct ch_usage by_letter = {.characters = 5}, by_token = {0}, nothing = {0};
    by_token.tokens[CH_TOKENS_INPUT] = 1;
    const struct ch_price *letters = ch_catalogue_find(c, CH_SPAN(""), CH_SPAN("letters"));
    const struct ch_price *tokens = ch_catalogue_find(c, CH_SPAN(""), CH_SPAN("tokens"));
    const struct ch_price *free = ch_catalogue_find(c, CH_SPAN(""), CH_SPAN("free"));
    assert_true(ch_media_is_billable(letters, &by_letter));
    assert_false(ch_media_is_billable(letters, &nothing));
    assert_false(ch_media_is_billable(tokens, &by_letter));
    assert_true(ch_media_is_billable(tokens, &by_token));
    assert_true(ch_media_is_billable(free, &by_token));
    assert_false(ch_media_is_billable(NULL, &by_token));
    ch_catalogue_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_number_of_images_is_bounded),
        cmocka_unit_test(sizes_are_read_or_left_open),
        cmocka_unit_test(characters_are_counted_not_bytes),
        cmocka_unit_test(the_request_completes_what_the_answer_leaves_out),
        cmocka_unit_test(images_are_estimated_by_quality_and_size),
        cmocka_unit_test(recordings_are_estimated_by_their_bytes),
        cmocka_unit_test(speech_is_estimated_by_its_characters),
        cmocka_unit_test(what_was_stated_is_never_estimated),
        cmocka_unit_test(units_settle_what_a_model_is_billed_by),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
