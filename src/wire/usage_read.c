// SPDX-License-Identifier: Apache-2.0
#include "usage_read.h"

#include "base/money.h"
#include "usage_rules.h"

// Above it a count is nonsense: 100,000 times the largest context window of today.
#define TOKENS_MAX  INT64_C(1000000000000)

#define SECONDS_MAX (TOKENS_MAX / 1000) // of audio

// xAI counts money in ticks of 1e-10 USD (docs.x.ai, "Cost Tracking").
#define TICKS_PER_NANO 10

// --- values ----------------------------------------------------------------------------------

// A value at a path of the rules, and the slot that its rule names.
struct reading {
    const struct ch_json_value *value;
    enum ch_usage_slot slot;
};

static bool is_type(const struct reading *r, enum ch_json_type type)
{
    return r->value->type == type;
}

static bool is_text(const struct reading *r, const char *text)
{
    return is_type(r, CH_JSON_STRING) && ch_span_eq(r->value->raw, ch_span_of(text));
}

static bool is_end(const struct reading *r)
{
    return is_type(r, CH_JSON_OBJECT_END) || is_type(r, CH_JSON_ARRAY_END);
}

// Null changes nothing; what is no count spoils the event it stands in.
static void take_count(struct ch_usage_scan *scan, const struct reading *r, int64_t *count)
{
    int64_t read;
    if (is_type(r, CH_JSON_NULL))
        return;
    if (is_type(r, CH_JSON_NUMBER) && !ch_json_to_count(r->value->raw, &read) && read <= TOKENS_MAX)
        *count = read;
    else
        scan->event.has_bad_count = true;
}

static void read_count(struct ch_usage_scan *scan, const struct reading *r)
{
    take_count(scan, r, &scan->raw.slot[r->slot]);
}

static void read_sum(struct ch_usage_scan *scan, const struct reading *r)
{
    int64_t count = -1;
    take_count(scan, r, &count);
    if (count >= 0)
        scan->raw.slot[r->slot] = count + scan->iterations.added[r->slot];
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// Seconds with a fraction, as milliseconds, half up. An exponent or a sign is no duration that
// anybody writes.
static bool parse_ms(struct ch_span raw, int64_t *ms_out)
{
    size_t whole = 0, at;
    int64_t seconds, ms = 0;
    while (whole < raw.len && is_digit(raw.ptr[whole]))
        whole++;
    if (ch_span_to_int64((struct ch_span){raw.ptr, whole}, &seconds) || seconds > SECONDS_MAX)
        return false;
    for (at = whole + 1; at < raw.len; at++) {
        if (raw.ptr[whole] != '.' || !is_digit(raw.ptr[at]))
            return false;
        if (at <= whole + 3)
            ms = ms * 10 + (raw.ptr[at] - '0');
    }
    for (size_t digits = at - whole; digits <= 3; digits++)
        ms *= 10;
    if (raw.len == whole)
        ms = 0;
    else if (raw.len == whole + 1)
        return false;
    bool rounds_up = raw.len > whole + 4 && raw.ptr[whole + 4] >= '5';
    *ms_out = seconds * 1000 + ms + rounds_up;
    return true;
}

static void take_seconds(struct ch_usage_scan *scan, const struct reading *r, int64_t *ms)
{
    if (is_type(r, CH_JSON_NULL))
        return;
    if (!is_type(r, CH_JSON_NUMBER) || !parse_ms(r->value->raw, ms))
        scan->event.has_bad_count = true;
}

static void read_seconds(struct ch_usage_scan *scan, const struct reading *r)
{
    take_seconds(scan, r, &scan->raw.slot[CH_SLOT_AUDIO_MS]);
}

// What is billed may be rounded: the usage wins wherever it stands.
static void read_duration(struct ch_usage_scan *scan, const struct reading *r)
{
    if (is_type(r, CH_JSON_NUMBER) && scan->raw.slot[CH_SLOT_AUDIO_MS] < 0)
        (void)parse_ms(r->value->raw, &scan->raw.slot[CH_SLOT_AUDIO_MS]);
}

static void take_name(const struct reading *r, char *out, size_t size)
{
    char plain[CH_JSON_VALUE_MAX];
    struct ch_span name = r->value->raw;
    if (!is_type(r, CH_JSON_STRING) || r->value->cut)
        return;
    if (r->value->escaped) {
        size_t len;
        if (ch_json_unescape(name, plain, sizeof plain, &len))
            return;
        name = (struct ch_span){plain, len};
    }
    if (name.len > 0 && name.len < size)
        (void)ch_span_copy(name, out, size);
}

static void read_model(struct ch_usage_scan *scan, const struct reading *r)
{
    take_name(r, scan->model_served, sizeof scan->model_served);
}

static void read_id(struct ch_usage_scan *scan, const struct reading *r)
{
    take_name(r, scan->response_id, sizeof scan->response_id);
}

static void read_object(struct ch_usage_scan *scan, const struct reading *r)
{
    if (scan->on_object && is_type(r, CH_JSON_STRING) && !r->value->cut && !r->value->escaped)
        scan->on_object(scan->object_arg, r->value->raw);
}

static void read_item(struct ch_usage_scan *scan, const struct reading *r)
{
    if (scan->is_kept)
        read_object(scan, r);
}

static void read_stored_id(struct ch_usage_scan *scan, const struct reading *r)
{
    read_id(scan, r);
    read_item(scan, r);
}

static void take_usd(const struct reading *r, int64_t *nano)
{
    int64_t femto;
    if (is_type(r, CH_JSON_NUMBER) && !ch_money_parse_femto(r->value->raw, &femto))
        *nano = ch_money_round(femto);
}

static void read_cost(struct ch_usage_scan *scan, const struct reading *r)
{
    take_usd(r, &scan->cost_nano);
}

static void read_upstream_cost(struct ch_usage_scan *scan, const struct reading *r)
{
    take_usd(r, &scan->upstream_cost_nano);
}

static void read_byok(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->is_byok = is_type(r, CH_JSON_TRUE);
}

static void read_ticks(struct ch_usage_scan *scan, const struct reading *r)
{
    int64_t ticks;
    if (is_type(r, CH_JSON_NUMBER) && !ch_json_to_count(r->value->raw, &ticks) &&
        ticks <= INT64_MAX - TICKS_PER_NANO)
        scan->cost_nano = (ticks + TICKS_PER_NANO / 2) / TICKS_PER_NANO;
}

static void read_tier(struct ch_usage_scan *scan, const struct reading *r)
{
    if (is_type(r, CH_JSON_STRING))
        scan->raw.tier = ch_tier_parse(r->value->raw);
}

// ON_DEMAND_PRIORITY, ON_DEMAND_FLEX; the others cost the standard price (wire.md §2.5).
static void read_traffic(struct ch_usage_scan *scan, const struct reading *r)
{
    struct ch_span prefix = CH_SPAN("ON_DEMAND_");
    if (is_type(r, CH_JSON_STRING) && ch_span_starts(r->value->raw, prefix))
        scan->raw.tier = ch_tier_parse(ch_span_sub(r->value->raw, prefix.len));
}

static void read_speed(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->raw.is_fast |= is_text(r, "fast");
}

static void read_geo(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->raw.us_region |= is_text(r, "us");
}

static void read_x_usage(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->event.has_usage |= is_type(r, CH_JSON_OBJECT);
}

static void read_usage(struct ch_usage_scan *scan, const struct reading *r)
{
    read_x_usage(scan, r);
    scan->usage_is_object |= is_type(r, CH_JSON_OBJECT);
}

static void read_choices(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->has_choices |= is_type(r, CH_JSON_ARRAY);
}

static void read_choice(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->has_choice |= !is_end(r);
}

static void read_finish(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->has_finished |= is_type(r, CH_JSON_STRING) && r->value->raw.len > 0;
}

static void read_status(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->has_finished |= is_text(r, "completed") || is_text(r, "incomplete") ||
                          is_text(r, "failed") || is_text(r, "cancelled");
    if (scan->form == CH_USAGE_GEMINI_INTERACTIONS)
        scan->has_finished |= is_text(r, "requires_action") || is_text(r, "budget_exceeded") ||
                              is_text(r, "requires_continuation");
}

static void read_content(struct ch_usage_scan *scan, const struct reading *r)
{
    bool is_filled = is_type(r, CH_JSON_STRING) && r->value->raw.len > 0;
    scan->event.has_content |= is_filled || is_type(r, CH_JSON_OBJECT) || is_type(r, CH_JSON_ARRAY);
}

static void read_error(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->is_error |= is_type(r, CH_JSON_OBJECT) || is_type(r, CH_JSON_STRING);
}

static void apply_response_type(struct ch_usage_scan *scan, struct ch_span type)
{
    scan->has_finished |= ch_span_eq(type, CH_SPAN("response.completed")) ||
                          ch_span_eq(type, CH_SPAN("response.incomplete")) ||
                          ch_span_eq(type, CH_SPAN("response.failed"));
    scan->event.has_content |= ch_span_ends(type, CH_SPAN(".delta"));
}

static void apply_anthropic_type(struct ch_usage_scan *scan, struct ch_span type)
{
    scan->has_finished |= ch_span_eq(type, CH_SPAN("message"));
    scan->event.closes_stream |= ch_span_eq(type, CH_SPAN("message_stop"));
    scan->event.has_content |= ch_span_eq(type, CH_SPAN("content_block_delta"));
}

static void apply_images_type(struct ch_usage_scan *scan, struct ch_span type)
{
    int64_t *images = &scan->raw.slot[CH_SLOT_IMAGES];
    if (ch_span_ends(type, CH_SPAN(".completed")))
        *images = *images < 0 ? 1 : *images + 1;
}

// Every response of a session is complete for itself.
static void apply_realtime_type(struct ch_usage_scan *scan, struct ch_span type)
{
    if (ch_span_eq(type, CH_SPAN("response.created")))
        scan->has_finished = scan->is_complete = false;
    scan->event.adds_response = ch_span_eq(type, CH_SPAN("response.done"));
    scan->has_finished |= scan->event.adds_response;
    scan->event.adds_side =
        ch_span_eq(type, CH_SPAN("conversation.item.input_audio_transcription.completed"));
    scan->event.has_content |= ch_span_ends(type, CH_SPAN(".delta"));
}

void ch_usage_apply_type(struct ch_usage_scan *scan, struct ch_span type)
{
    scan->event.has_type = true;
    scan->is_error |= ch_span_eq(type, CH_SPAN("error"));
    switch (scan->form) {
    case CH_USAGE_OPENAI_RESPONSES:
        apply_response_type(scan, type);
        break;
    case CH_USAGE_ANTHROPIC:
        apply_anthropic_type(scan, type);
        break;
    case CH_USAGE_OPENAI_IMAGES:
        apply_images_type(scan, type);
        break;
    case CH_USAGE_OPENAI_REALTIME:
        apply_realtime_type(scan, type);
        break;
    case CH_USAGE_OPENAI_TRANSCRIPTION:
    case CH_USAGE_OPENAI_SPEECH:
    case CH_USAGE_GEMINI_INTERACTIONS:
        scan->event.has_content |= ch_span_ends(type, CH_SPAN(".delta"));
        break;
    case CH_USAGE_NONE:
    case CH_USAGE_OPENAI_CHAT:
    case CH_USAGE_OPENAI_EMBEDDINGS:
    case CH_USAGE_GEMINI:
    case CH_USAGE_GEMINI_EMBEDDINGS:
        break;
    }
}

static void read_type(struct ch_usage_scan *scan, const struct reading *r)
{
    if (is_type(r, CH_JSON_STRING))
        ch_usage_apply_type(scan, r->value->raw);
}

// --- lists -----------------------------------------------------------------------------------

// A list may be of any length: its sum stays a count.
int64_t ch_usage_sum(int64_t a, int64_t b)
{
    return a + b < TOKENS_MAX ? a + b : TOKENS_MAX;
}

static void read_modalities(struct ch_usage_scan *scan, const struct reading *r)
{
    if (is_type(r, CH_JSON_ARRAY))
        scan->list = (struct ch_usage_modalities){0};
    if (!is_type(r, CH_JSON_ARRAY_END))
        return;
    scan->raw.slot[r->slot] = scan->list.audio_tokens;
    scan->raw.slot[r->slot + 1] = scan->list.image_tokens;
    scan->raw.slot[r->slot + 2] = scan->list.video_tokens;
}

static void read_modality_entry(struct ch_usage_scan *scan, const struct reading *r)
{
    struct ch_usage_modalities *list = &scan->list;
    if (is_type(r, CH_JSON_OBJECT)) {
        list->count = 0;
        list->is_audio = list->is_image = list->is_video = false;
    }
    if (!is_type(r, CH_JSON_OBJECT_END))
        return;
    if (list->is_audio)
        list->audio_tokens = ch_usage_sum(list->audio_tokens, list->count);
    if (list->is_image)
        list->image_tokens = ch_usage_sum(list->image_tokens, list->count);
    if (list->is_video)
        list->video_tokens = ch_usage_sum(list->video_tokens, list->count);
}

// Upper case in generateContent, lower in Interactions.
static bool is_word(const struct reading *r, const char *word)
{
    return is_type(r, CH_JSON_STRING) && ch_span_ieq(r->value->raw, ch_span_of(word));
}

static void read_modality(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->list.is_audio = is_word(r, "audio");
    scan->list.is_image = is_word(r, "image");
    scan->list.is_video = is_word(r, "video");
}

static void read_modality_count(struct ch_usage_scan *scan, const struct reading *r)
{
    take_count(scan, r, &scan->list.count);
}

static void read_query(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->event.queries += is_type(r, CH_JSON_STRING);
}

// The whole list is stated again with every usage: its searches replace the earlier ones.
static void read_tool(struct ch_usage_scan *scan, const struct reading *r)
{
    if (is_type(r, CH_JSON_OBJECT))
        scan->tools = (struct ch_usage_tools){0};
    if (is_type(r, CH_JSON_OBJECT_END) && scan->tools.is_search)
        scan->event.queries = ch_usage_sum(scan->event.queries, scan->tools.count);
}

static void read_tool_type(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->tools.is_search = is_text(r, "google_search");
}

static void read_tool_count(struct ch_usage_scan *scan, const struct reading *r)
{
    take_count(scan, r, &scan->tools.count);
}

// Images that were made are what is billed where nothing else is stated.
static void read_images(struct ch_usage_scan *scan, const struct reading *r)
{
    if (is_type(r, CH_JSON_ARRAY))
        scan->raw.slot[CH_SLOT_IMAGES] = 0;
    if (is_type(r, CH_JSON_ARRAY_END))
        scan->event.has_usage |= scan->raw.slot[CH_SLOT_IMAGES] > 0;
}

static void read_image(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->raw.slot[CH_SLOT_IMAGES] += is_type(r, CH_JSON_OBJECT);
}

// --- other models ----------------------------------------------------------------------------

static enum ch_usage_form side_form(enum ch_usage_form form)
{
    if (form == CH_USAGE_ANTHROPIC)
        return CH_USAGE_ANTHROPIC;
    if (form == CH_USAGE_OPENAI_REALTIME)
        return CH_USAGE_OPENAI_TRANSCRIPTION;
    // A Responses tool makes images; an image endpoint lets a text model write an SVG.
    return form == CH_USAGE_OPENAI_IMAGES ? CH_USAGE_OPENAI_RESPONSES : CH_USAGE_OPENAI_IMAGES;
}

static void begin_side(struct ch_usage_scan *scan)
{
    for (int i = 0; i < CH_USAGE_SLOTS; i++)
        scan->side.raw.slot[i] = -1;
}

// Adds what was read to the side of its model. Nothing used is no side.
static void add_side(struct ch_usage_scan *scan)
{
    const struct ch_usage_side *side = &scan->side;
    unsigned at = 0;
    bool is_used = false;
    for (int i = 0; i < CH_USAGE_SLOTS; i++)
        is_used |= side->raw.slot[i] > 0;
    if (!is_used)
        return;
    while (at < scan->side_count && strcmp(scan->sides[at].model, side->model) != 0)
        at++;
    scan->has_lost_sides |= at == CH_USAGE_SIDES_MAX;
    if (at == CH_USAGE_SIDES_MAX)
        return;
    if (at == scan->side_count) {
        ch_usage_raw_init(&scan->sides[at].raw);
        memcpy(scan->sides[at].model, side->model, sizeof side->model);
        scan->sides[at].form = side_form(scan->form);
        scan->side_count++;
    }
    int64_t *sum = scan->sides[at].raw.slot;
    for (int i = 0; i < CH_USAGE_SLOTS; i++)
        if (side->raw.slot[i] >= 0)
            sum[i] = ch_usage_sum(sum[i] > 0 ? sum[i] : 0, side->raw.slot[i]);
}

static void read_side(struct ch_usage_scan *scan, const struct reading *r)
{
    if (is_type(r, CH_JSON_OBJECT))
        begin_side(scan);
    scan->event.has_side |= is_type(r, CH_JSON_OBJECT_END);
}

static void read_side_count(struct ch_usage_scan *scan, const struct reading *r)
{
    take_count(scan, r, &scan->side.raw.slot[r->slot]);
}

static void read_side_seconds(struct ch_usage_scan *scan, const struct reading *r)
{
    take_seconds(scan, r, &scan->side.raw.slot[CH_SLOT_AUDIO_MS]);
}

static void read_side_model(struct ch_usage_scan *scan, const struct reading *r)
{
    take_name(r, scan->side.model, sizeof scan->side.model);
}

// The name may stand behind the counts, so a side is settled when the event is over. In a session
// sides add up; elsewhere the last statement counts.
void ch_usage_settle_side(struct ch_usage_scan *scan)
{
    bool is_session = scan->form == CH_USAGE_OPENAI_REALTIME;
    if (!scan->event.has_side || scan->is_broken || (is_session && !scan->event.adds_side))
        return;
    if (!is_session)
        scan->side_count = 0;
    add_side(scan);
}

// --- Anthropic's iterations ------------------------------------------------------------------

// The list is cumulative as the totals are: a later one replaces what an earlier one added.
static void read_iterations(struct ch_usage_scan *scan, const struct reading *r)
{
    struct ch_usage_iterations *list = &scan->iterations;
    if (is_type(r, CH_JSON_ARRAY)) {
        memset(list->sum, 0, sizeof list->sum);
        scan->side_count = 0;
    }
    if (!is_type(r, CH_JSON_ARRAY_END))
        return;
    for (int i = 0; i < CH_ITERATION_SLOTS; i++) {
        int64_t more = list->sum[i] - list->added[i];
        if (more != 0)
            scan->raw.slot[i] = more + (scan->raw.slot[i] > 0 ? scan->raw.slot[i] : 0);
        list->added[i] = list->sum[i];
    }
}

static void end_iteration(struct ch_usage_scan *scan)
{
    struct ch_usage_iterations *list = &scan->iterations;
    for (int i = 0; i < CH_ITERATION_SLOTS && list->is_compaction; i++)
        list->sum[i] = ch_usage_sum(list->sum[i], list->current[i]);
    if (!list->is_advisor)
        return;
    begin_side(scan);
    memcpy(scan->side.raw.slot, list->current, sizeof list->current);
    add_side(scan);
}

static void read_iteration(struct ch_usage_scan *scan, const struct reading *r)
{
    struct ch_usage_iterations *list = &scan->iterations;
    if (is_type(r, CH_JSON_OBJECT)) {
        memset(list->current, 0, sizeof list->current);
        list->is_compaction = list->is_advisor = false;
        scan->side.model[0] = '\0';
    }
    if (is_type(r, CH_JSON_OBJECT_END))
        end_iteration(scan);
}

static void read_iteration_type(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->iterations.is_compaction = is_text(r, "compaction");
    scan->iterations.is_advisor = is_text(r, "advisor_message");
}

static void read_iteration_count(struct ch_usage_scan *scan, const struct reading *r)
{
    take_count(scan, r, &scan->iterations.current[r->slot]);
}

// --- the table ---------------------------------------------------------------------------------

static void read_event(struct ch_usage_scan *scan, const struct reading *r)
{
    if (is_end(r))
        ch_usage_end_event(scan);
}

typedef void (*read_fn)(struct ch_usage_scan *scan, const struct reading *r);

static const read_fn readers[CH_USAGE_MEANINGS] = {
    [CH_MEANS_COUNT] = read_count,
    [CH_MEANS_SUM] = read_sum,
    [CH_MEANS_USAGE] = read_usage,
    [CH_MEANS_X_USAGE] = read_x_usage,
    [CH_MEANS_COST] = read_cost,
    [CH_MEANS_TICKS] = read_ticks,
    [CH_MEANS_UPSTREAM] = read_upstream_cost,
    [CH_MEANS_BYOK] = read_byok,
    [CH_MEANS_MODEL] = read_model,
    [CH_MEANS_ID] = read_id,
    [CH_MEANS_STORED_ID] = read_stored_id,
    [CH_MEANS_ITEM] = read_item,
    [CH_MEANS_OBJECT] = read_object,
    [CH_MEANS_TIER] = read_tier,
    [CH_MEANS_TRAFFIC] = read_traffic,
    [CH_MEANS_SPEED] = read_speed,
    [CH_MEANS_GEO] = read_geo,
    [CH_MEANS_TYPE] = read_type,
    [CH_MEANS_STATUS] = read_status,
    [CH_MEANS_FINISH] = read_finish,
    [CH_MEANS_CHOICES] = read_choices,
    [CH_MEANS_CHOICE] = read_choice,
    [CH_MEANS_CONTENT] = read_content,
    [CH_MEANS_ERROR] = read_error,
    [CH_MEANS_EVENT] = read_event,
    [CH_MEANS_MODALITIES] = read_modalities,
    [CH_MEANS_MODALITY_ENTRY] = read_modality_entry,
    [CH_MEANS_MODALITY] = read_modality,
    [CH_MEANS_MODALITY_COUNT] = read_modality_count,
    [CH_MEANS_QUERY] = read_query,
    [CH_MEANS_ITERATIONS] = read_iterations,
    [CH_MEANS_ITERATION] = read_iteration,
    [CH_MEANS_ITERATION_TYPE] = read_iteration_type,
    [CH_MEANS_ITERATION_COUNT] = read_iteration_count,
    [CH_MEANS_SECONDS] = read_seconds,
    [CH_MEANS_DURATION] = read_duration,
    [CH_MEANS_IMAGES] = read_images,
    [CH_MEANS_IMAGE] = read_image,
    [CH_MEANS_SIDE] = read_side,
    [CH_MEANS_SIDE_COUNT] = read_side_count,
    [CH_MEANS_SIDE_SECONDS] = read_side_seconds,
    [CH_MEANS_SIDE_MODEL] = read_side_model,
    [CH_MEANS_TOOL] = read_tool,
    [CH_MEANS_TOOL_TYPE] = read_tool_type,
    [CH_MEANS_TOOL_COUNT] = read_tool_count,
};

bool ch_usage_read_value(void *arg, const struct ch_json_value *value)
{
    struct ch_usage_scan *scan = arg;
    const struct ch_usage_rule *rule = &scan->rules[value->path];
    readers[rule->meaning](scan, &(struct reading){value, rule->slot});
    return true;
}
