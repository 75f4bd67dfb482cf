// SPDX-License-Identifier: Apache-2.0
// Image, transcription and speech endpoints: what a request asks of them that decides the bill, and
// what stands in for usage that their answers do not state.
//
// The gate gathers the facts while it reads a request, whether a form or JSON; the meter completes
// the raw usage with them, and a reservation is made from the same numbers. Pure; any thread.
#ifndef CH_DOMAIN_MEDIA_H
#define CH_DOMAIN_MEDIA_H

#include "domain/catalogue.h"

#define CH_MEDIA_IMAGES_MAX 10 // of one request; OpenAI refuses more

struct ch_media_ask {
    int64_t images;                    // `n`; 1 when not said
    int64_t characters;                // of `input`, the text to be spoken
    int64_t file_bytes;                // uploaded
    int32_t image_width, image_height; // `size`; 0: not said, or "auto"
    enum ch_image_quality image_quality;
    bool is_bad; // `n` is no number from 1 to CH_MEDIA_IMAGES_MAX: the caller should refuse
};

void ch_media_ask_init(struct ch_media_ask *ask);
// Takes a field of a form, or a scalar member of a JSON body without its quotes: n, size, quality.
// Others, and values that say nothing ("auto", "null"), change nothing.
void ch_media_ask_take(struct ch_media_ask *ask, struct ch_span name, struct ch_span value);
// Unicode characters of a JSON string, as it stands between its quotes: an escape is one, a
// surrogate pair too. What is billed of a text to be spoken.
int64_t ch_media_json_characters(struct ch_span raw);

// Adds what only the request says: characters, the size and quality of images, and how many there
// are where the answer does not say.
void ch_media_complete(enum ch_usage_form form, const struct ch_media_ask *ask,
                       struct ch_usage_raw *raw);
// Fills what an answer left out, by rules that docs/accounting.md lists: an estimate. False: not a
// form of this module. `prompt_bytes`: of the request without its files. `answer_bytes`: of the
// answer, -1 before it came, for a reservation, which takes the largest plausible output.
bool ch_media_estimate(enum ch_usage_form form, const struct ch_media_ask *ask,
                       int64_t prompt_bytes, int64_t answer_bytes, struct ch_usage_raw *raw);
// Whether a usage holds what a model of this price is billed by: tokens where it has prices per
// token, else images, characters or seconds. False: an estimate is needed, or there is no price.
bool ch_media_is_billable(const struct ch_price *price, const struct ch_usage *usage);

#endif
