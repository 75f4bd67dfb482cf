// SPDX-License-Identifier: Apache-2.0
#include "store/usage_record.h"

#include "domain/route.h"

#include <assert.h>

enum flag {
    FLAG_STREAM = 1,
    FLAG_PRICED = 2,
    FLAG_US_REGION = 4,
    FLAG_EU_REGION = 8,
    FLAG_FAST = 16,
    FLAG_RARE = 32,    // a rare part follows
    FLAG_OBJECTS = 64, // what is left behind the texts is objects
};

// The order in which texts follow the fixed part.
static const struct text_field {
    size_t offset; // of the span in struct ch_usage_record
    size_t max;
} text_fields[CH_RECORD_TEXTS] = {
    {offsetof(struct ch_usage_record, model_asked), CH_RECORD_MODEL},
    {offsetof(struct ch_usage_record, model_sent), CH_RECORD_MODEL},
    {offsetof(struct ch_usage_record, model_served), CH_RECORD_MODEL},
    {offsetof(struct ch_usage_record, upstream_id), CH_RECORD_UPSTREAM_ID},
    {offsetof(struct ch_usage_record, user_agent), CH_RECORD_AGENT},
    {offsetof(struct ch_usage_record, client_address), CH_RECORD_ADDRESS},
    {offsetof(struct ch_usage_record, rule), CH_RECORD_RULE},
    {offsetof(struct ch_usage_record, catalogue), CH_RECORD_CATALOGUE},
};

struct fixed_part {
    int64_t id, started_at_ms, key_id, attribution_id, provider_id;
    int64_t tokens[CH_TOKEN_CLASSES];
    int64_t searches, threshold_tokens, stated_cost_nano;
    int64_t cost_nano_usd, latency_us, first_byte_us, added_us, request_bytes, response_bytes;
    uint16_t status;
    uint8_t dialect, endpoint, grade, end_reason, tier, flags;
    uint8_t text_size[CH_RECORD_TEXTS];
};
static_assert(sizeof(struct fixed_part) == CH_RECORD_FIXED, "no padding, and a known size");

// What most records have nothing of.
struct rare_part {
    int64_t parts[CH_TOKEN_PARTS];
    int64_t audio_ms, characters, images, side_cost_nano_usd;
    int32_t image_width, image_height;
    uint8_t image_quality, unused[7];
};
static_assert(sizeof(struct rare_part) == CH_RECORD_RARE, "no padding, and a known size");

const char *ch_grade_name(enum ch_grade grade)
{
    static const char *const names[] = {
        [CH_GRADE_EXACT] = "exact",
        [CH_GRADE_PARTIAL] = "partial",
        [CH_GRADE_ESTIMATED] = "estimated",
        [CH_GRADE_NONE] = "none",
    };
    return names[grade];
}

const char *ch_end_reason_name(enum ch_end_reason reason)
{
    static const char *const names[] = {
        [CH_END_DONE] = "done",
        [CH_END_DENIED] = "denied",
        [CH_END_CLIENT_GONE] = "client_gone",
        [CH_END_UPSTREAM_CUT] = "upstream_cut",
        [CH_END_UPSTREAM_REFUSED] = "upstream_refused",
        [CH_END_UPSTREAM_INVALID] = "upstream_invalid",
        [CH_END_TIMEOUT] = "timeout",
        [CH_END_SHUTDOWN] = "shutdown",
        [CH_END_BUDGET] = "budget_cut",
        [CH_END_CRASH] = "crash",
    };
    return names[reason];
}

static struct fixed_part pack(const struct ch_usage_record *record)
{
    const struct ch_usage *usage = &record->usage;
    struct fixed_part fixed = {
        .id = record->id,
        .started_at_ms = record->started_at_ms,
        .key_id = record->key_id,
        .attribution_id = record->attribution_id,
        .provider_id = record->provider_id,
        .searches = usage->searches,
        .threshold_tokens = usage->threshold_tokens,
        .stated_cost_nano = usage->stated_cost_nano,
        .cost_nano_usd = record->cost_nano_usd,
        .latency_us = record->latency_us,
        .first_byte_us = record->first_byte_us,
        .added_us = record->added_us,
        .request_bytes = record->request_bytes,
        .response_bytes = record->response_bytes,
        .status = record->status,
        .dialect = record->dialect,
        .endpoint = record->endpoint,
        .grade = record->grade,
        .end_reason = record->end_reason,
        .tier = (uint8_t)usage->tier,
        .flags =
            (uint8_t)((record->is_stream ? FLAG_STREAM : 0) |
                      (record->is_priced ? FLAG_PRICED : 0) |
                      (usage->us_region ? FLAG_US_REGION : 0) |
                      (usage->eu_region ? FLAG_EU_REGION : 0) | (usage->is_fast ? FLAG_FAST : 0)),
    };
    memcpy(fixed.tokens, usage->tokens, sizeof fixed.tokens);
    return fixed;
}

static struct rare_part pack_rare(const struct ch_usage_record *record)
{
    const struct ch_usage *usage = &record->usage;
    struct rare_part rare = {
        .audio_ms = usage->audio_ms,
        .characters = usage->characters,
        .images = usage->images,
        .side_cost_nano_usd = record->side_cost_nano_usd,
        .image_width = usage->image_width,
        .image_height = usage->image_height,
        .image_quality = (uint8_t)usage->image_quality,
    };
    memcpy(rare.parts, usage->parts, sizeof rare.parts);
    return rare;
}

static void unpack_rare(const struct rare_part *rare, struct ch_usage_record *record)
{
    struct ch_usage *usage = &record->usage;
    usage->audio_ms = rare->audio_ms;
    usage->characters = rare->characters;
    usage->images = rare->images;
    usage->image_width = rare->image_width;
    usage->image_height = rare->image_height;
    usage->image_quality = (enum ch_image_quality)rare->image_quality;
    record->side_cost_nano_usd = rare->side_cost_nano_usd;
    memcpy(usage->parts, rare->parts, sizeof usage->parts);
}

// The first ones, as many as there is room for.
static size_t put_objects(struct ch_span objects, unsigned char *at, size_t room)
{
    size_t size = objects.len < room ? objects.len : room;
    size -= size % CH_RECORD_OBJECT;
    memcpy(at, objects.ptr, size);
    return size;
}

size_t ch_usage_record_encode(const struct ch_usage_record *record,
                              unsigned char out[CH_RECORD_ENCODED_MAX])
{
    static const struct rare_part nothing;
    struct fixed_part fixed = pack(record);
    struct rare_part rare = pack_rare(record);
    unsigned char *at = out + sizeof fixed;
    if (memcmp(&rare, &nothing, sizeof rare) != 0) {
        fixed.flags |= FLAG_RARE;
        memcpy(at, &rare, sizeof rare);
        at += sizeof rare;
    }
    for (size_t i = 0; i < CH_RECORD_TEXTS; i++) {
        const struct text_field *field = &text_fields[i];
        const struct ch_span *text =
            (const struct ch_span *)(const void *)((const char *)record + field->offset);
        size_t size = text->len < field->max ? text->len : field->max;
        if (size)
            memcpy(at, text->ptr, size);
        fixed.text_size[i] = (uint8_t)size;
        at += size;
    }
    if (record->objects.len) {
        fixed.flags |= FLAG_OBJECTS;
        at += put_objects(record->objects, at, CH_RECORD_ENCODED_MAX - (size_t)(at - out));
    }
    memcpy(out, &fixed, sizeof fixed);
    return (size_t)(at - out);
}

static bool is_in_range(const struct fixed_part *fixed)
{
    return fixed->id > 0 && fixed->dialect <= CH_DIALECT_GEMINI && fixed->endpoint < CH_ENDPOINTS &&
           fixed->grade <= CH_GRADE_NONE && fixed->end_reason <= CH_END_CRASH &&
           fixed->tier < CH_TIERS;
}

static struct ch_usage_record unpack(const struct fixed_part *fixed)
{
    struct ch_usage_record record = {
        .id = fixed->id,
        .started_at_ms = fixed->started_at_ms,
        .key_id = fixed->key_id,
        .attribution_id = fixed->attribution_id,
        .provider_id = fixed->provider_id,
        .dialect = fixed->dialect,
        .endpoint = fixed->endpoint,
        .grade = fixed->grade,
        .end_reason = fixed->end_reason,
        .is_stream = fixed->flags & FLAG_STREAM,
        .is_priced = fixed->flags & FLAG_PRICED,
        .status = fixed->status,
        .usage =
            {
                .searches = fixed->searches,
                .threshold_tokens = fixed->threshold_tokens,
                .tier = (enum ch_tier)fixed->tier,
                .us_region = fixed->flags & FLAG_US_REGION,
                .eu_region = fixed->flags & FLAG_EU_REGION,
                .is_fast = fixed->flags & FLAG_FAST,
                .stated_cost_nano = fixed->stated_cost_nano,
            },
        .cost_nano_usd = fixed->cost_nano_usd,
        .latency_us = fixed->latency_us,
        .first_byte_us = fixed->first_byte_us,
        .added_us = fixed->added_us,
        .request_bytes = fixed->request_bytes,
        .response_bytes = fixed->response_bytes,
    };
    memcpy(record.usage.tokens, fixed->tokens, sizeof fixed->tokens);
    return record;
}

enum ch_err ch_usage_record_decode(struct ch_span bytes, struct ch_usage_record *record_out)
{
    struct fixed_part fixed;
    if (bytes.len < sizeof fixed)
        return CH_ERR_CORRUPT;
    memcpy(&fixed, bytes.ptr, sizeof fixed);
    if (!is_in_range(&fixed))
        return CH_ERR_CORRUPT;
    struct ch_usage_record record = unpack(&fixed);
    struct ch_span rest = ch_span_sub(bytes, sizeof fixed);
    if (fixed.flags & FLAG_RARE) {
        struct rare_part rare;
        if (rest.len < sizeof rare)
            return CH_ERR_CORRUPT;
        memcpy(&rare, rest.ptr, sizeof rare);
        if (rare.image_quality >= CH_IMAGE_QUALITIES)
            return CH_ERR_CORRUPT;
        unpack_rare(&rare, &record);
        rest = ch_span_sub(rest, sizeof rare);
    }
    for (size_t i = 0; i < CH_RECORD_TEXTS; i++) {
        size_t size = fixed.text_size[i];
        if (size > rest.len || size > text_fields[i].max)
            return CH_ERR_CORRUPT;
        struct ch_span *text = (struct ch_span *)(void *)((char *)&record + text_fields[i].offset);
        *text = (struct ch_span){rest.ptr, size};
        rest = ch_span_sub(rest, size);
    }
    if (rest.len && (!(fixed.flags & FLAG_OBJECTS) || rest.len % CH_RECORD_OBJECT))
        return CH_ERR_CORRUPT;
    record.objects = rest;
    *record_out = record;
    return CH_OK;
}
