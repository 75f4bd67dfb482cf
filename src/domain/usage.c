// SPDX-License-Identifier: Apache-2.0
#include "domain/usage.h"

const char *ch_token_class_name(enum ch_token_class token_class)
{
    static const char *const names[CH_TOKEN_CLASSES] = {
        [CH_TOKENS_INPUT] = "input",
        [CH_TOKENS_CACHE_READ] = "cache_read",
        [CH_TOKENS_CACHE_WRITE_5M] = "cache_write_5m",
        [CH_TOKENS_CACHE_WRITE_1H] = "cache_write_1h",
        [CH_TOKENS_AUDIO_IN] = "audio_in",
        [CH_TOKENS_IMAGE_IN] = "image_in",
        [CH_TOKENS_OUTPUT] = "output",
        [CH_TOKENS_REASONING] = "reasoning",
        [CH_TOKENS_AUDIO_OUT] = "audio_out",
        [CH_TOKENS_IMAGE_OUT] = "image_out",
    };
    return names[token_class];
}

enum ch_token_class ch_token_part_class(enum ch_token_part part)
{
    static const enum ch_token_class classes[CH_TOKEN_PARTS] = {
        [CH_PART_CACHE_READ_AUDIO] = CH_TOKENS_CACHE_READ,
        [CH_PART_CACHE_READ_IMAGE] = CH_TOKENS_CACHE_READ,
        [CH_PART_VIDEO_IN] = CH_TOKENS_IMAGE_IN,
        [CH_PART_VIDEO_OUT] = CH_TOKENS_IMAGE_OUT,
    };
    return classes[part];
}

const char *ch_image_quality_name(enum ch_image_quality quality)
{
    static const char *const names[CH_IMAGE_QUALITIES] = {
        [CH_IMAGE_AUTO] = "auto",   [CH_IMAGE_STANDARD] = "standard", [CH_IMAGE_HD] = "hd",
        [CH_IMAGE_LOW] = "low",     [CH_IMAGE_MEDIUM] = "medium",     [CH_IMAGE_HIGH] = "high",
        [CH_IMAGE_XHIGH] = "xhigh", [CH_IMAGE_MAX] = "max",
    };
    return names[quality];
}

enum ch_image_quality ch_image_quality_parse(struct ch_span name)
{
    for (int i = 0; i < CH_IMAGE_QUALITIES; i++)
        if (ch_span_eq(name, ch_span_of(ch_image_quality_name((enum ch_image_quality)i))))
            return (enum ch_image_quality)i;
    return CH_IMAGE_AUTO;
}

const char *ch_tier_name(enum ch_tier tier)
{
    static const char *const names[CH_TIERS] = {
        [CH_TIER_STANDARD] = "standard",   [CH_TIER_FLEX] = "flex",
        [CH_TIER_PRIORITY] = "priority",   [CH_TIER_BATCH] = "batch",
        [CH_TIER_ULTRAFAST] = "ultrafast",
    };
    return names[tier];
}

enum ch_tier ch_tier_parse(struct ch_span name)
{
    for (int tier = 0; tier < CH_TIERS; tier++)
        if (ch_span_ieq(name, ch_span_of(ch_tier_name((enum ch_tier)tier))))
            return (enum ch_tier)tier;
    return ch_span_ieq(name, CH_SPAN("fast")) ? CH_TIER_PRIORITY : CH_TIER_STANDARD;
}

void ch_usage_raw_init(struct ch_usage_raw *raw)
{
    *raw = (struct ch_usage_raw){.tier = CH_TIER_STANDARD, .stated_cost_nano = -1};
    for (int i = 0; i < CH_USAGE_SLOTS; i++)
        raw->slot[i] = -1;
}

bool ch_usage_raw_is_empty(const struct ch_usage_raw *raw)
{
    for (int i = 0; i < CH_USAGE_SLOTS; i++)
        if (i != CH_SLOT_TOTAL && raw->slot[i] >= 0) // a total alone has no price
            return false;
    return raw->stated_cost_nano < 0;
}

static int64_t seen(const struct ch_usage_raw *raw, enum ch_usage_slot slot)
{
    return raw->slot[slot] > 0 ? raw->slot[slot] : 0;
}

static int64_t plus(int64_t a, int64_t b)
{
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

static int64_t minus(int64_t a, int64_t b)
{
    return a > b ? a - b : 0;
}

static int64_t lesser(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t greater(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

// Tokens of a modality that were not cached, as far as anything is left of `*uncached`.
static int64_t take_modality(const struct ch_usage_raw *raw, enum ch_usage_slot slot,
                             enum ch_usage_slot cached_slot, int64_t *uncached)
{
    int64_t tokens = lesser(minus(seen(raw, slot), seen(raw, cached_slot)), *uncached);
    *uncached -= tokens;
    return tokens;
}

// Shares the tokens that were neither read from nor written to the cache out among text, audio,
// images and video. Where the provider does not say how much of a modality was cached, its full
// count may exceed what is left (the overlap rule).
static void split_uncached(const struct ch_usage_raw *raw, int64_t uncached, struct ch_usage *usage)
{
    int64_t audio = take_modality(raw, CH_SLOT_AUDIO_IN, CH_SLOT_AUDIO_CACHED, &uncached);
    int64_t image = take_modality(raw, CH_SLOT_IMAGE_IN, CH_SLOT_IMAGE_CACHED, &uncached);
    int64_t video = take_modality(raw, CH_SLOT_VIDEO_IN, CH_SLOT_VIDEO_CACHED, &uncached);
    usage->tokens[CH_TOKENS_AUDIO_IN] = audio;
    usage->tokens[CH_TOKENS_IMAGE_IN] = image + video;
    usage->tokens[CH_TOKENS_INPUT] = uncached;
    usage->parts[CH_PART_VIDEO_IN] = video;
}

static void set_cache_read(const struct ch_usage_raw *raw, int64_t cached, struct ch_usage *usage)
{
    int64_t audio = lesser(seen(raw, CH_SLOT_AUDIO_CACHED), cached);
    usage->tokens[CH_TOKENS_CACHE_READ] = cached;
    usage->parts[CH_PART_CACHE_READ_AUDIO] = audio;
    usage->parts[CH_PART_CACHE_READ_IMAGE] =
        lesser(seen(raw, CH_SLOT_IMAGE_CACHED), cached - audio);
}

static void split_output(const struct ch_usage_raw *raw, bool reasoning_is_outside,
                         struct ch_usage *usage)
{
    int64_t reasoning = seen(raw, CH_SLOT_REASONING);
    int64_t audio = seen(raw, CH_SLOT_AUDIO_OUT);
    int64_t image = seen(raw, CH_SLOT_IMAGE_OUT);
    int64_t video = seen(raw, CH_SLOT_VIDEO_OUT);
    int64_t text = minus(minus(minus(seen(raw, CH_SLOT_OUTPUT), audio), image), video);
    usage->tokens[CH_TOKENS_OUTPUT] = reasoning_is_outside ? text : minus(text, reasoning);
    usage->tokens[CH_TOKENS_REASONING] = reasoning;
    usage->tokens[CH_TOKENS_AUDIO_OUT] = audio;
    usage->tokens[CH_TOKENS_IMAGE_OUT] = plus(image, video);
    usage->parts[CH_PART_VIDEO_OUT] = video;
}

// Cached and written tokens stand inside the input (wire.md §2).
static void normalise_openai(const struct ch_usage_raw *raw, bool reasoning_is_outside,
                             struct ch_usage *usage)
{
    int64_t cached = greater(seen(raw, CH_SLOT_CACHED), seen(raw, CH_SLOT_CACHE_HIT));
    int64_t written = seen(raw, CH_SLOT_CACHE_WRITE);
    set_cache_read(raw, cached, usage);
    usage->tokens[CH_TOKENS_CACHE_WRITE_5M] = written;
    split_uncached(raw, minus(minus(seen(raw, CH_SLOT_INPUT), cached), written), usage);
    split_output(raw, reasoning_is_outside, usage);
}

// Input, cache reads and cache writes are disjoint. What the total of the writes holds beyond the
// stated split (which only the first event of a stream carries) counts as five-minute writes
// (wire.md §2.4).
static void normalise_anthropic(const struct ch_usage_raw *raw, struct ch_usage *usage)
{
    int64_t five_minutes = seen(raw, CH_SLOT_CACHE_WRITE_5M);
    int64_t one_hour = seen(raw, CH_SLOT_CACHE_WRITE_1H);
    int64_t excess = minus(seen(raw, CH_SLOT_CACHE_WRITE), plus(five_minutes, one_hour));
    usage->tokens[CH_TOKENS_INPUT] = seen(raw, CH_SLOT_INPUT);
    usage->tokens[CH_TOKENS_CACHE_READ] = seen(raw, CH_SLOT_CACHED);
    usage->tokens[CH_TOKENS_CACHE_WRITE_5M] = plus(five_minutes, excess);
    usage->tokens[CH_TOKENS_CACHE_WRITE_1H] = one_hour;
    split_output(raw, false, usage);
}

// Cached tokens stand inside the prompt; the prompt of tools and the thoughts stand beside the
// other counts.
static void normalise_gemini(const struct ch_usage_raw *raw, struct ch_usage *usage)
{
    int64_t cached = seen(raw, CH_SLOT_CACHED);
    set_cache_read(raw, cached, usage);
    split_uncached(raw, minus(seen(raw, CH_SLOT_INPUT), cached), usage);
    usage->tokens[CH_TOKENS_INPUT] =
        plus(usage->tokens[CH_TOKENS_INPUT], seen(raw, CH_SLOT_TOOL_PROMPT));
    split_output(raw, true, usage);
}

// The output is all of one kind, unless the provider splits it up itself.
static void normalise_media(const struct ch_usage_raw *raw, enum ch_usage_slot output_slot,
                            struct ch_usage *usage)
{
    struct ch_usage_raw told = *raw;
    if (told.slot[output_slot] < 0)
        told.slot[output_slot] = told.slot[CH_SLOT_OUTPUT];
    normalise_openai(&told, false, usage);
}

void ch_usage_normalise(enum ch_usage_form form, const struct ch_usage_raw *raw,
                        bool reasoning_is_outside, struct ch_usage *usage_out)
{
    *usage_out = (struct ch_usage){.searches = seen(raw, CH_SLOT_SEARCHES),
                                   .audio_ms = seen(raw, CH_SLOT_AUDIO_MS),
                                   .characters = seen(raw, CH_SLOT_CHARACTERS),
                                   .images = seen(raw, CH_SLOT_IMAGES),
                                   .image_width = raw->image_width,
                                   .image_height = raw->image_height,
                                   .image_quality = raw->image_quality,
                                   .tier = raw->tier,
                                   .us_region = raw->us_region,
                                   .eu_region = raw->eu_region,
                                   .is_fast = raw->is_fast,
                                   .stated_cost_nano = raw->stated_cost_nano};
    switch (form) {
    case CH_USAGE_OPENAI_CHAT:
    case CH_USAGE_OPENAI_RESPONSES:
    case CH_USAGE_OPENAI_EMBEDDINGS:
    case CH_USAGE_OPENAI_TRANSCRIPTION:
    case CH_USAGE_OPENAI_REALTIME:
        normalise_openai(raw, reasoning_is_outside, usage_out);
        break;
    case CH_USAGE_ANTHROPIC:
        normalise_anthropic(raw, usage_out);
        break;
    case CH_USAGE_OPENAI_IMAGES:
        normalise_media(raw, CH_SLOT_IMAGE_OUT, usage_out);
        break;
    case CH_USAGE_OPENAI_SPEECH:
        normalise_media(raw, CH_SLOT_AUDIO_OUT, usage_out);
        break;
    case CH_USAGE_GEMINI:
    case CH_USAGE_GEMINI_INTERACTIONS:
        normalise_gemini(raw, usage_out);
        break;
    case CH_USAGE_NONE:
    case CH_USAGE_GEMINI_EMBEDDINGS:
        break;
    }
    usage_out->threshold_tokens = ch_usage_total_input(usage_out);
}

static int64_t sum_classes(const struct ch_usage *usage, int first, int last)
{
    int64_t sum = 0;
    for (int i = first; i <= last; i++)
        sum = plus(sum, usage->tokens[i]);
    return sum;
}

bool ch_usage_has_tokens(const struct ch_usage *usage)
{
    return sum_classes(usage, 0, CH_TOKEN_CLASSES - 1) > 0;
}

int64_t ch_usage_total_input(const struct ch_usage *usage)
{
    return sum_classes(usage, CH_TOKENS_INPUT, CH_TOKENS_IMAGE_IN);
}

int64_t ch_usage_total_output(const struct ch_usage *usage)
{
    return sum_classes(usage, CH_TOKENS_OUTPUT, CH_TOKENS_IMAGE_OUT);
}
