// SPDX-License-Identifier: Apache-2.0
#include "domain/media.h"

#define BYTES_PER_TOKEN 4 // of English text (wire.md §4.2)

// Estimates. Speech is uploaded at 64 kbit/s at least; audio is 10 tokens a second when it is heard
// and 21 when it is spoken (gpt-4o-mini-tts: 0.00025 USD a second at 0.000012 a token), and 15
// characters are spoken in a second. People say at most 3 tokens of text a second.
#define UPLOAD_BYTES_PER_SECOND  8000
#define HEARD_TOKENS_PER_SECOND  10
#define SPOKEN_TOKENS_PER_SECOND 21
#define CHARACTERS_PER_SECOND    15
#define TEXT_TOKENS_PER_SECOND   3
#define MS_PER_SECOND            1000

// OpenAI's guide on image generation: tokens of a square of 1024 pixels by quality; other sizes in
// proportion. The two above "high" are not published.
#define SQUARE_PIXELS (1024 * 1024)
static const int64_t square_tokens[CH_IMAGE_QUALITIES] = {
    [CH_IMAGE_AUTO] = 4160,  [CH_IMAGE_STANDARD] = 1056, [CH_IMAGE_HD] = 4160,
    [CH_IMAGE_LOW] = 272,    [CH_IMAGE_MEDIUM] = 1056,   [CH_IMAGE_HIGH] = 4160,
    [CH_IMAGE_XHIGH] = 8320, [CH_IMAGE_MAX] = 16640,
};
// Where no size was said the model may choose the largest of the usual ones.
#define AUTO_PIXELS (1024 * 1536)

#define SIDE_MAX    65536 // pixels; a longer one is nonsense

void ch_media_ask_init(struct ch_media_ask *ask)
{
    *ask = (struct ch_media_ask){.images = 1};
}

static void take_size(struct ch_media_ask *ask, struct ch_span value)
{
    int64_t width, height;
    const char *times = value.len ? memchr(value.ptr, 'x', value.len) : NULL;
    if (!times)
        return;
    struct ch_span left = {value.ptr, (size_t)(times - value.ptr)};
    if (ch_span_to_int64(left, &width) ||
        ch_span_to_int64(ch_span_sub(value, left.len + 1), &height) || width < 1 || height < 1 ||
        width > SIDE_MAX || height > SIDE_MAX)
        return;
    ask->image_width = (int32_t)width;
    ask->image_height = (int32_t)height;
}

static void take_images(struct ch_media_ask *ask, struct ch_span value)
{
    int64_t images;
    if (ch_span_eq(value, CH_SPAN("null")))
        return;
    ask->is_bad |= ch_span_to_int64(value, &images) || images < 1 || images > CH_MEDIA_IMAGES_MAX;
    ask->images = ask->is_bad ? CH_MEDIA_IMAGES_MAX : images;
}

void ch_media_ask_take(struct ch_media_ask *ask, struct ch_span name, struct ch_span value)
{
    if (ch_span_eq(name, CH_SPAN("n")))
        take_images(ask, value);
    else if (ch_span_eq(name, CH_SPAN("size")))
        take_size(ask, value);
    else if (ch_span_eq(name, CH_SPAN("quality")))
        ask->image_quality = ch_image_quality_parse(value);
}

static bool is_low_surrogate(struct ch_span raw, size_t at)
{
    return raw.len - at >= 6 && raw.ptr[at] == '\\' && raw.ptr[at + 1] == 'u' &&
           (raw.ptr[at + 2] | 0x20) == 'd' && strchr("cdefCDEF", raw.ptr[at + 3]) != NULL &&
           raw.ptr[at + 3] != '\0';
}

int64_t ch_media_json_characters(struct ch_span raw)
{
    int64_t count = 0;
    for (size_t at = 0; at < raw.len;) {
        unsigned char c = (unsigned char)raw.ptr[at];
        if (c == '\\' && raw.len - at >= 2) {
            bool is_unicode = raw.ptr[at + 1] == 'u';
            count += !is_unicode || !is_low_surrogate(raw, at);
            at += is_unicode ? 6 : 2;
        } else {
            count += (c & 0xC0) != 0x80; // not a continuation byte of UTF-8
            at++;
        }
    }
    return count;
}

void ch_media_complete(enum ch_usage_form form, const struct ch_media_ask *ask,
                       struct ch_usage_raw *raw)
{
    if (form == CH_USAGE_OPENAI_SPEECH)
        raw->slot[CH_SLOT_CHARACTERS] = ask->characters;
    if (form != CH_USAGE_OPENAI_IMAGES)
        return;
    if (raw->slot[CH_SLOT_IMAGES] < 0)
        raw->slot[CH_SLOT_IMAGES] = ask->images;
    raw->image_width = ask->image_width;
    raw->image_height = ask->image_height;
    raw->image_quality = ask->image_quality;
}

static int64_t divide_up(int64_t value, int64_t by)
{
    return value / by + (value % by > 0);
}

static void set_missing(struct ch_usage_raw *raw, enum ch_usage_slot slot, int64_t value)
{
    if (raw->slot[slot] < 0)
        raw->slot[slot] = value;
}

// An image that is edited is read first; its tokens are a guess of the same kind.
static void estimate_images(const struct ch_media_ask *ask, int64_t prompt_bytes,
                            struct ch_usage_raw *raw)
{
    int64_t pixels = (int64_t)ask->image_width * ask->image_height;
    int64_t each = divide_up(square_tokens[ask->image_quality] * (pixels ? pixels : AUTO_PIXELS),
                             SQUARE_PIXELS);
    int64_t read = ask->file_bytes > 0 ? square_tokens[CH_IMAGE_MEDIUM] : 0;
    set_missing(raw, CH_SLOT_IMAGE_IN, read);
    set_missing(raw, CH_SLOT_INPUT, divide_up(prompt_bytes, BYTES_PER_TOKEN) + read);
    set_missing(raw, CH_SLOT_OUTPUT, each * ask->images);
}

static void estimate_transcription(const struct ch_media_ask *ask, int64_t prompt_bytes,
                                   int64_t answer_bytes, struct ch_usage_raw *raw)
{
    int64_t seconds = divide_up(ask->file_bytes, UPLOAD_BYTES_PER_SECOND);
    if (raw->slot[CH_SLOT_AUDIO_MS] >= 0)
        seconds = divide_up(raw->slot[CH_SLOT_AUDIO_MS], MS_PER_SECOND);
    set_missing(raw, CH_SLOT_AUDIO_MS, seconds * MS_PER_SECOND);
    set_missing(raw, CH_SLOT_AUDIO_IN, seconds * HEARD_TOKENS_PER_SECOND);
    set_missing(raw, CH_SLOT_INPUT,
                raw->slot[CH_SLOT_AUDIO_IN] + divide_up(prompt_bytes, BYTES_PER_TOKEN));
    set_missing(raw, CH_SLOT_OUTPUT,
                answer_bytes < 0 ? seconds * TEXT_TOKENS_PER_SECOND
                                 : divide_up(answer_bytes, BYTES_PER_TOKEN));
}

static void estimate_speech(const struct ch_media_ask *ask, struct ch_usage_raw *raw)
{
    set_missing(raw, CH_SLOT_INPUT, divide_up(ask->characters, BYTES_PER_TOKEN));
    set_missing(raw, CH_SLOT_OUTPUT,
                divide_up(ask->characters * SPOKEN_TOKENS_PER_SECOND, CHARACTERS_PER_SECOND));
}

bool ch_media_estimate(enum ch_usage_form form, const struct ch_media_ask *ask,
                       int64_t prompt_bytes, int64_t answer_bytes, struct ch_usage_raw *raw)
{
    if (form == CH_USAGE_OPENAI_IMAGES)
        estimate_images(ask, prompt_bytes, raw);
    else if (form == CH_USAGE_OPENAI_TRANSCRIPTION)
        estimate_transcription(ask, prompt_bytes, answer_bytes, raw);
    else if (form == CH_USAGE_OPENAI_SPEECH)
        estimate_speech(ask, raw);
    else
        return false;
    return true;
}

bool ch_media_is_billable(const struct ch_price *price, const struct ch_usage *usage)
{
    bool has_units = usage->images > 0 || usage->characters > 0 || usage->audio_ms > 0;
    if (!price)
        return false;
    return ch_usage_has_tokens(usage) || (has_units && !ch_price_takes_tokens(price));
}
