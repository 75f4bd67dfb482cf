// SPDX-License-Identifier: Apache-2.0
// Usage records whose every field follows from their id, so that a reader can tell whether one is
// whole.
#ifndef CH_TEST_STORE_RECORD_FIXTURE_H
#define CH_TEST_STORE_RECORD_FIXTURE_H

#include "fixture.h"

#include "domain/route.h"
#include "store/usage_journal.h"

struct fixture_texts {
    char model[64], agent[CH_RECORD_AGENT + 1], upstream_id[48];
};

// The record borrows `texts`.
static inline struct ch_usage_record fixture_record(int64_t id, struct fixture_texts *texts)
{
    snprintf(texts->model, sizeof texts->model, "model-%lld", (long long)(id % 11));
    snprintf(texts->upstream_id, sizeof texts->upstream_id, "chatcmpl-%lld", (long long)id);
    memset(texts->agent, 'a' + (int)(id % 26), sizeof texts->agent);
    struct ch_usage_record record = {
        .id = id,
        .started_at_ms = INT64_C(1790000000000) + id * 1000,
        .key_id = id % 5 + 1,
        .attribution_id = id % 3 + 1,
        .provider_id = id % 2 + 1,
        .dialect = CH_DIALECT_ANTHROPIC,
        .endpoint = CH_ENDPOINT_MESSAGES,
        .grade = CH_GRADE_EXACT,
        .end_reason = CH_END_DONE,
        .is_stream = id % 2,
        .is_priced = true,
        .status = 200,
        .usage = {.searches = id % 4, .tier = CH_TIER_FLEX, .stated_cost_nano = -1},
        .cost_nano_usd = id * 1000,
        .latency_us = id * 7,
        .first_byte_us = id * 3,
        .added_us = id,
        .request_bytes = id + 1,
        .response_bytes = id + 2,
        .model_asked = ch_span_of(texts->model),
        .model_sent = ch_span_of(texts->model),
        .model_served = ch_span_of(texts->model),
        .upstream_id = ch_span_of(texts->upstream_id),
        // Of every length, so that frames of every size pass every place of a ring.
        .user_agent = {texts->agent, (size_t)(id % (CH_RECORD_AGENT + 1))},
        .client_address = CH_SPAN("2001:db8::1"),
        .rule = CH_SPAN(""),
        .catalogue = CH_SPAN("2026-08-01-3f2a91c0"),
    };
    for (int i = 0; i < CH_TOKEN_CLASSES; i++)
        record.usage.tokens[i] = id + i;
    if (id % 3 == 0) // most records have none of these
        return record;
    for (int i = 0; i < CH_TOKEN_PARTS; i++)
        record.usage.parts[i] = id + 20 + i;
    record.usage.audio_ms = id + 24;
    record.usage.characters = id + 25;
    record.usage.images = id + 26;
    record.usage.image_width = (int32_t)id + 27;
    record.usage.image_height = (int32_t)id + 28;
    record.usage.image_quality = (enum ch_image_quality)(id % CH_IMAGE_QUALITIES);
    record.side_cost_nano_usd = id * 10;
    return record;
}

static inline struct ch_inflight fixture_inflight(const struct ch_usage_record *record)
{
    return (struct ch_inflight){
        .id = record->id,
        .started_at_ms = record->started_at_ms,
        .key_id = record->key_id,
        .attribution_id = record->attribution_id,
        .provider_id = record->provider_id,
        .dialect = record->dialect,
        .endpoint = record->endpoint,
        .is_stream = record->is_stream,
        .request_bytes = record->request_bytes,
        .model_asked = record->model_asked,
        .model_sent = record->model_sent,
    };
}

static inline bool fixture_is_same(const struct ch_usage_record *a, const struct ch_usage_record *b)
{
    return a->id == b->id && a->started_at_ms == b->started_at_ms && a->key_id == b->key_id &&
           a->attribution_id == b->attribution_id && a->provider_id == b->provider_id &&
           a->dialect == b->dialect && a->endpoint == b->endpoint && a->grade == b->grade &&
           a->end_reason == b->end_reason && a->is_stream == b->is_stream &&
           a->is_priced == b->is_priced && a->status == b->status &&
           memcmp(a->usage.tokens, b->usage.tokens, sizeof a->usage.tokens) == 0 &&
           memcmp(a->usage.parts, b->usage.parts, sizeof a->usage.parts) == 0 &&
           a->usage.searches == b->usage.searches && a->usage.audio_ms == b->usage.audio_ms &&
           a->usage.characters == b->usage.characters && a->usage.images == b->usage.images &&
           a->usage.image_width == b->usage.image_width &&
           a->usage.image_height == b->usage.image_height &&
           a->usage.image_quality == b->usage.image_quality &&
           a->side_cost_nano_usd == b->side_cost_nano_usd &&
           a->usage.threshold_tokens == b->usage.threshold_tokens &&
           a->usage.tier == b->usage.tier && a->usage.us_region == b->usage.us_region &&
           a->usage.eu_region == b->usage.eu_region && a->usage.is_fast == b->usage.is_fast &&
           a->usage.stated_cost_nano == b->usage.stated_cost_nano &&
           a->cost_nano_usd == b->cost_nano_usd && a->latency_us == b->latency_us &&
           a->first_byte_us == b->first_byte_us && a->added_us == b->added_us &&
           a->request_bytes == b->request_bytes && a->response_bytes == b->response_bytes &&
           ch_span_eq(a->model_asked, b->model_asked) && ch_span_eq(a->model_sent, b->model_sent) &&
           ch_span_eq(a->model_served, b->model_served) &&
           ch_span_eq(a->upstream_id, b->upstream_id) && ch_span_eq(a->user_agent, b->user_agent) &&
           ch_span_eq(a->client_address, b->client_address) && ch_span_eq(a->rule, b->rule) &&
           ch_span_eq(a->catalogue, b->catalogue);
}

// Whether it is the record of its id, whole.
static inline bool fixture_is_whole(const struct ch_usage_record *record)
{
    struct fixture_texts texts;
    struct ch_usage_record expected = fixture_record(record->id, &texts);
    return fixture_is_same(record, &expected);
}

#endif
