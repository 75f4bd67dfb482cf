// SPDX-License-Identifier: Apache-2.0
// Usage: what an exchange consumed, as the provider states it and in disjoint classes.
//
// `struct ch_usage_raw` holds the provider's own numbers under neutral names, last value wins;
// ch_usage_normalise turns them into disjoint classes by the rules of the dialect (wire.md §2,
// §4.2). Pure; any thread; tokens are int64_t and never negative.
#ifndef CH_DOMAIN_USAGE_H
#define CH_DOMAIN_USAGE_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

// Where usage stands in a response, one per family of endpoints.
enum ch_usage_form {
    CH_USAGE_NONE,             // free endpoint
    CH_USAGE_OPENAI_CHAT,      // chat completions, completions; also compatible servers
    CH_USAGE_OPENAI_RESPONSES, // plain and `response.*` events
    CH_USAGE_OPENAI_EMBEDDINGS,
    CH_USAGE_ANTHROPIC,            // messages
    CH_USAGE_GEMINI,               // generateContent, streamGenerateContent (SSE and array)
    CH_USAGE_GEMINI_EMBEDDINGS,    // states nothing
    CH_USAGE_OPENAI_IMAGES,        // generations, edits, variations; their streams
    CH_USAGE_OPENAI_TRANSCRIPTION, // also translations; tokens or seconds
    CH_USAGE_OPENAI_SPEECH,        // its event stream; a plain answer is audio and states nothing
    CH_USAGE_OPENAI_REALTIME,      // one document a server event; responses add up
    CH_USAGE_GEMINI_INTERACTIONS,
};
#define CH_USAGE_FORMS 12

// Disjoint: each token of an exchange is counted in exactly one class.
enum ch_token_class {
    CH_TOKENS_INPUT, // uncached text input
    CH_TOKENS_CACHE_READ,
    CH_TOKENS_CACHE_WRITE_5M, // also OpenAI's cache writes
    CH_TOKENS_CACHE_WRITE_1H,
    CH_TOKENS_AUDIO_IN,
    CH_TOKENS_IMAGE_IN, // and video
    CH_TOKENS_OUTPUT,   // text output without reasoning
    CH_TOKENS_REASONING,
    CH_TOKENS_AUDIO_OUT,
    CH_TOKENS_IMAGE_OUT,
};
#define CH_TOKEN_CLASSES 10
// "input", "cache_read", …: the columns of usage rows without their "_tokens".
const char *ch_token_class_name(enum ch_token_class token_class);

// Slices of a class that some models have a price of their own for. A token of a slice is counted
// in its class as well.
enum ch_token_part {
    CH_PART_CACHE_READ_AUDIO,
    CH_PART_CACHE_READ_IMAGE,
    CH_PART_VIDEO_IN, // of CH_TOKENS_IMAGE_IN
    CH_PART_VIDEO_OUT,
};
#define CH_TOKEN_PARTS 4
enum ch_token_class ch_token_part_class(enum ch_token_part part);

// What was asked of an image, which decides the price where a model is billed by the image.
enum ch_image_quality {
    CH_IMAGE_AUTO, // not said
    CH_IMAGE_STANDARD,
    CH_IMAGE_HD,
    CH_IMAGE_LOW,
    CH_IMAGE_MEDIUM,
    CH_IMAGE_HIGH,
    CH_IMAGE_XHIGH,
    CH_IMAGE_MAX,
};
#define CH_IMAGE_QUALITIES 8
const char *ch_image_quality_name(enum ch_image_quality quality);
enum ch_image_quality ch_image_quality_parse(struct ch_span name); // unknown: AUTO

// The service tier as served; decides the price suffix.
enum ch_tier {
    CH_TIER_STANDARD,
    CH_TIER_FLEX,
    CH_TIER_PRIORITY, // also "fast" as a tier; Anthropic's `speed` is the field is_fast below
    CH_TIER_BATCH,
    CH_TIER_ULTRAFAST,
};
#define CH_TIERS 5
const char *ch_tier_name(enum ch_tier tier);
enum ch_tier ch_tier_parse(struct ch_span name); // unknown and default-like names are STANDARD

struct ch_usage {
    int64_t tokens[CH_TOKEN_CLASSES];
    int64_t parts[CH_TOKEN_PARTS];
    int64_t searches; // billable web searches
    // Units of models that are not, or not only, billed by the token (see ch_price_cost).
    int64_t audio_ms;                  // of the input
    int64_t characters;                // of the text to be spoken
    int64_t images;                    // made
    int32_t image_width, image_height; // pixels of each; 0: not known
    enum ch_image_quality image_quality;
    int64_t threshold_tokens; // the size that long-context prices look at (wire.md §4.2, T)
    enum ch_tier tier;
    bool us_region; // Anthropic inference_geo "us", or a provider host that OpenAI bills as US
    bool eu_region; // a provider host that OpenAI bills as EU
    bool is_fast;   // Anthropic `speed` "fast": a multiplier, no tier
    int64_t stated_cost_nano; // what the provider says it charged (OpenRouter usage.cost) or -1
};

// The provider's numbers as read off the wire. -1: never seen.
enum ch_usage_slot {
    CH_SLOT_INPUT,  // prompt_tokens, input_tokens, promptTokenCount
    CH_SLOT_OUTPUT, // completion_tokens, output_tokens, candidatesTokenCount
    CH_SLOT_TOTAL,
    CH_SLOT_CACHED,      // cached_tokens, cache_read_input_tokens, cachedContentTokenCount
    CH_SLOT_CACHE_WRITE, // cache_write_tokens, cache_creation_input_tokens
    CH_SLOT_CACHE_WRITE_5M,
    CH_SLOT_CACHE_WRITE_1H,
    CH_SLOT_REASONING, // reasoning_tokens, thinking_tokens, thoughtsTokenCount
    CH_SLOT_AUDIO_IN,
    CH_SLOT_IMAGE_IN,
    CH_SLOT_VIDEO_IN,
    CH_SLOT_AUDIO_CACHED, // those tokens inside CACHED, where stated
    CH_SLOT_IMAGE_CACHED,
    CH_SLOT_VIDEO_CACHED,
    CH_SLOT_AUDIO_OUT,
    CH_SLOT_IMAGE_OUT,
    CH_SLOT_VIDEO_OUT,
    CH_SLOT_TOOL_PROMPT, // Gemini toolUsePromptTokenCount
    CH_SLOT_CACHE_HIT,   // DeepSeek prompt_cache_hit_tokens
    CH_SLOT_SEARCHES,
    CH_SLOT_AUDIO_MS,   // seconds as stated, in milliseconds
    CH_SLOT_CHARACTERS, // no answer states them: see domain/media.h
    CH_SLOT_IMAGES,     // elements of `data`, or completed images of a stream
};
#define CH_USAGE_SLOTS 23

struct ch_usage_raw {
    int64_t slot[CH_USAGE_SLOTS];
    enum ch_tier tier;
    bool us_region, eu_region, is_fast;
    int32_t image_width, image_height; // as asked (domain/media.h); 0: not known
    enum ch_image_quality image_quality;
    int64_t stated_cost_nano; // -1: not stated
};

void ch_usage_raw_init(struct ch_usage_raw *raw);
// True when nothing that can be billed was seen. A stated zero was seen, a bare total was not.
bool ch_usage_raw_is_empty(const struct ch_usage_raw *raw);
// Disjoint classes by the form's rules; differences are clamped at zero, and tokens of a modality
// that may also stand in the cached ones are never billed twice (wire.md §4.2).
// `reasoning_is_outside`: the provider counts reasoning beside the output (xAI chat), not inside
// it. Anthropic's thinking is split off the output here, for the record; it costs the same. What an
// image endpoint puts out is images unless it says otherwise, what a speech endpoint puts out is
// audio. The threshold size is the whole input.
void ch_usage_normalise(enum ch_usage_form form, const struct ch_usage_raw *raw,
                        bool reasoning_is_outside, struct ch_usage *usage_out);
bool ch_usage_has_tokens(const struct ch_usage *usage); // of any class
int64_t ch_usage_total_input(const struct ch_usage *usage);
int64_t ch_usage_total_output(const struct ch_usage *usage);

#endif
