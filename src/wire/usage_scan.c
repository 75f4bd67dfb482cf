// SPDX-License-Identifier: Apache-2.0
#include "wire/usage_scan.h"

#include "base/money.h"
#include "base/secret.h"

// Above it a count is nonsense: a million times the largest context window of today. Sums and
// products of counts below it cannot overflow.
#define TOKENS_MAX INT64_C(1000000000000)

// xAI counts money in ticks of 1e-10 USD (docs.x.ai, "Cost Tracking").
#define TICKS_PER_NANO 10

// What stands at a path.
enum meaning {
    MEANS_COUNT,    // of the rule's slot
    MEANS_SUM,      // the same, to which Anthropic's compactions are added
    MEANS_USAGE,    // the usage object
    MEANS_X_USAGE,  // a usage object beside the regular one
    MEANS_COST,     // in USD
    MEANS_TICKS,    // in TICKS_PER_NANO
    MEANS_UPSTREAM, // in USD, what the caller's own upstream account was charged
    MEANS_BYOK,
    MEANS_MODEL,
    MEANS_ID,
    MEANS_TIER,
    MEANS_TRAFFIC, // Vertex' word for the tier
    MEANS_SPEED,
    MEANS_GEO,
    MEANS_TYPE,   // of the event
    MEANS_STATUS, // of a Responses object
    MEANS_FINISH, // why the model stopped
    MEANS_CHOICES,
    MEANS_CHOICE,
    MEANS_CONTENT, // generated, unless empty
    MEANS_ERROR,
    MEANS_EVENT,      // an element of a streamed array
    MEANS_MODALITIES, // a list; the rule's slot takes audio, the next one images
    MEANS_MODALITY_ENTRY,
    MEANS_MODALITY,
    MEANS_MODALITY_COUNT,
    MEANS_QUERY, // one web search
    MEANS_ITERATIONS,
    MEANS_ITERATION,
    MEANS_ITERATION_TYPE,
    MEANS_ITERATION_COUNT,
};

struct rule {
    const char *path;
    enum meaning meaning;
    enum ch_usage_slot slot;
};

#define TEXT(path_, meaning_)                                                                      \
    {                                                                                              \
        .path = (path_), .meaning = (meaning_)                                                     \
    }
#define COUNT(path_, slot_)                                                                        \
    {                                                                                              \
        .path = (path_), .meaning = MEANS_COUNT, .slot = (slot_)                                   \
    }
#define AT(path_, what_, slot_)                                                                    \
    {                                                                                              \
        .path = (path_), .meaning = (what_), .slot = (slot_)                                       \
    }

// wire.md §2.1; with the additions of DeepSeek, OpenRouter, Groq and xAI, §2.6.
static const struct rule chat_rules[] = {
    TEXT("id", MEANS_ID),
    TEXT("model", MEANS_MODEL),
    TEXT("service_tier", MEANS_TIER),
    TEXT("error", MEANS_ERROR),
    TEXT("choices", MEANS_CHOICES),
    TEXT("choices[]", MEANS_CHOICE),
    TEXT("choices[].finish_reason", MEANS_FINISH),
    TEXT("choices[].text", MEANS_CONTENT),
    TEXT("choices[].delta.content", MEANS_CONTENT),
    TEXT("choices[].delta.reasoning_content", MEANS_CONTENT),
    TEXT("choices[].delta.reasoning", MEANS_CONTENT),
    TEXT("choices[].delta.refusal", MEANS_CONTENT),
    TEXT("choices[].delta.tool_calls[]", MEANS_CONTENT),
    TEXT("choices[].delta.function_call", MEANS_CONTENT),
    TEXT("choices[].delta.audio", MEANS_CONTENT),
    TEXT("usage", MEANS_USAGE),
    COUNT("usage.prompt_tokens", CH_SLOT_INPUT),
    COUNT("usage.completion_tokens", CH_SLOT_OUTPUT),
    COUNT("usage.total_tokens", CH_SLOT_TOTAL),
    COUNT("usage.prompt_tokens_details.cached_tokens", CH_SLOT_CACHED),
    COUNT("usage.prompt_tokens_details.cache_write_tokens", CH_SLOT_CACHE_WRITE),
    COUNT("usage.prompt_tokens_details.audio_tokens", CH_SLOT_AUDIO_IN),
    COUNT("usage.prompt_tokens_details.image_tokens", CH_SLOT_IMAGE_IN),
    COUNT("usage.completion_tokens_details.reasoning_tokens", CH_SLOT_REASONING),
    COUNT("usage.completion_tokens_details.audio_tokens", CH_SLOT_AUDIO_OUT),
    COUNT("usage.completion_tokens_details.image_tokens", CH_SLOT_IMAGE_OUT),
    COUNT("usage.prompt_cache_hit_tokens", CH_SLOT_CACHE_HIT),
    TEXT("usage.cost", MEANS_COST),
    TEXT("usage.is_byok", MEANS_BYOK),
    TEXT("usage.cost_details.upstream_inference_cost", MEANS_UPSTREAM),
    TEXT("usage.cost_in_usd_ticks", MEANS_TICKS),
    TEXT("x_groq.usage", MEANS_X_USAGE),
    COUNT("x_groq.usage.prompt_tokens", CH_SLOT_INPUT),
    COUNT("x_groq.usage.completion_tokens", CH_SLOT_OUTPUT),
    COUNT("x_groq.usage.total_tokens", CH_SLOT_TOTAL),
    COUNT("x_groq.usage.prompt_tokens_details.cached_tokens", CH_SLOT_CACHED),
    COUNT("x_groq.usage.completion_tokens_details.reasoning_tokens", CH_SLOT_REASONING),
};

// wire.md §2.2: the object as a plain body, or inside an event.
#define RESPONSE_OBJECT(p)                                                                         \
    TEXT(p "id", MEANS_ID), TEXT(p "model", MEANS_MODEL), TEXT(p "service_tier", MEANS_TIER),      \
        TEXT(p "status", MEANS_STATUS), TEXT(p "error", MEANS_ERROR),                              \
        TEXT(p "usage", MEANS_USAGE), COUNT(p "usage.input_tokens", CH_SLOT_INPUT),                \
        COUNT(p "usage.output_tokens", CH_SLOT_OUTPUT),                                            \
        COUNT(p "usage.total_tokens", CH_SLOT_TOTAL),                                              \
        COUNT(p "usage.input_tokens_details.cached_tokens", CH_SLOT_CACHED),                       \
        COUNT(p "usage.input_tokens_details.cache_write_tokens", CH_SLOT_CACHE_WRITE),             \
        COUNT(p "usage.output_tokens_details.reasoning_tokens", CH_SLOT_REASONING),                \
        COUNT(p "tool_usage.web_search.num_requests", CH_SLOT_SEARCHES),                           \
        TEXT(p "usage.cost", MEANS_COST), TEXT(p "usage.is_byok", MEANS_BYOK),                     \
        TEXT(p "usage.cost_details.upstream_inference_cost", MEANS_UPSTREAM),                      \
        TEXT(p "usage.cost_in_usd_ticks", MEANS_TICKS)

static const struct rule responses_rules[] = {
    TEXT("type", MEANS_TYPE),
    RESPONSE_OBJECT(""),
    RESPONSE_OBJECT("response."),
};

// wire.md §2.3
static const struct rule embeddings_rules[] = {
    TEXT("model", MEANS_MODEL),
    TEXT("error", MEANS_ERROR),
    TEXT("usage", MEANS_USAGE),
    COUNT("usage.prompt_tokens", CH_SLOT_INPUT),
    COUNT("usage.total_tokens", CH_SLOT_TOTAL),
    TEXT("usage.cost", MEANS_COST),
};

// wire.md §2.4: a plain body and message_delta, or message_start.
#define ANTHROPIC_USAGE(p)                                                                         \
    AT(p "input_tokens", MEANS_SUM, CH_SLOT_INPUT),                                                \
        AT(p "output_tokens", MEANS_SUM, CH_SLOT_OUTPUT),                                          \
        AT(p "cache_read_input_tokens", MEANS_SUM, CH_SLOT_CACHED),                                \
        AT(p "cache_creation_input_tokens", MEANS_SUM, CH_SLOT_CACHE_WRITE),                       \
        COUNT(p "cache_creation.ephemeral_5m_input_tokens", CH_SLOT_CACHE_WRITE_5M),               \
        COUNT(p "cache_creation.ephemeral_1h_input_tokens", CH_SLOT_CACHE_WRITE_1H),               \
        COUNT(p "output_tokens_details.thinking_tokens", CH_SLOT_REASONING),                       \
        COUNT(p "server_tool_use.web_search_requests", CH_SLOT_SEARCHES),                          \
        TEXT(p "service_tier", MEANS_TIER), TEXT(p "speed", MEANS_SPEED),                          \
        TEXT(p "inference_geo", MEANS_GEO)

static const struct rule anthropic_rules[] = {
    TEXT("type", MEANS_TYPE),
    TEXT("error", MEANS_ERROR),
    TEXT("id", MEANS_ID),
    TEXT("model", MEANS_MODEL),
    TEXT("message.id", MEANS_ID),
    TEXT("message.model", MEANS_MODEL),
    TEXT("delta.stop_reason", MEANS_FINISH),
    TEXT("usage", MEANS_USAGE), // not message_start's, whose output is a placeholder
    ANTHROPIC_USAGE("usage."),
    ANTHROPIC_USAGE("message.usage."),
    TEXT("usage.iterations", MEANS_ITERATIONS),
    TEXT("usage.iterations[]", MEANS_ITERATION),
    TEXT("usage.iterations[].type", MEANS_ITERATION_TYPE),
    AT("usage.iterations[].input_tokens", MEANS_ITERATION_COUNT, CH_SLOT_INPUT),
    AT("usage.iterations[].output_tokens", MEANS_ITERATION_COUNT, CH_SLOT_OUTPUT),
    AT("usage.iterations[].cache_read_input_tokens", MEANS_ITERATION_COUNT, CH_SLOT_CACHED),
    AT("usage.iterations[].cache_creation_input_tokens", MEANS_ITERATION_COUNT,
       CH_SLOT_CACHE_WRITE),
};

// wire.md §2.5: a plain body or an event, or an element of the array that streams without alt=sse.
#define MODALITIES(p, audio_slot)                                                                  \
    AT(p, MEANS_MODALITIES, audio_slot), TEXT(p "[]", MEANS_MODALITY_ENTRY),                       \
        TEXT(p "[].modality", MEANS_MODALITY), TEXT(p "[].tokenCount", MEANS_MODALITY_COUNT)

#define GEMINI_OBJECT(p)                                                                           \
    TEXT(p "modelVersion", MEANS_MODEL), TEXT(p "responseId", MEANS_ID),                           \
        TEXT(p "error", MEANS_ERROR), TEXT(p "candidates[].finishReason", MEANS_FINISH),           \
        TEXT(p "promptFeedback.blockReason", MEANS_FINISH),                                        \
        TEXT(p "candidates[].content.parts[]", MEANS_CONTENT),                                     \
        TEXT(p "candidates[].groundingMetadata.webSearchQueries[]", MEANS_QUERY),                  \
        TEXT(p "usageMetadata", MEANS_USAGE),                                                      \
        COUNT(p "usageMetadata.promptTokenCount", CH_SLOT_INPUT),                                  \
        COUNT(p "usageMetadata.candidatesTokenCount", CH_SLOT_OUTPUT),                             \
        COUNT(p "usageMetadata.totalTokenCount", CH_SLOT_TOTAL),                                   \
        COUNT(p "usageMetadata.cachedContentTokenCount", CH_SLOT_CACHED),                          \
        COUNT(p "usageMetadata.thoughtsTokenCount", CH_SLOT_REASONING),                            \
        COUNT(p "usageMetadata.toolUsePromptTokenCount", CH_SLOT_TOOL_PROMPT),                     \
        TEXT(p "usageMetadata.serviceTier", MEANS_TIER),                                           \
        TEXT(p "usageMetadata.trafficType", MEANS_TRAFFIC),                                        \
        MODALITIES(p "usageMetadata.promptTokensDetails", CH_SLOT_AUDIO_IN),                       \
        MODALITIES(p "usageMetadata.cacheTokensDetails", CH_SLOT_AUDIO_CACHED),                    \
        MODALITIES(p "usageMetadata.candidatesTokensDetails", CH_SLOT_AUDIO_OUT)

static const struct rule gemini_rules[] = {
    TEXT("[]", MEANS_EVENT),
    GEMINI_OBJECT(""),
    GEMINI_OBJECT("[]."),
};

_Static_assert(CH_SLOT_IMAGE_IN == CH_SLOT_AUDIO_IN + 1, "images follow audio");
_Static_assert(CH_SLOT_IMAGE_CACHED == CH_SLOT_AUDIO_CACHED + 1, "images follow audio");
_Static_assert(CH_SLOT_IMAGE_OUT == CH_SLOT_AUDIO_OUT + 1, "images follow audio");

static const struct rule gemini_embeddings_rules[] = {
    TEXT("error", MEANS_ERROR),
};

#define RULES(rules_)                                                                              \
    {                                                                                              \
        (rules_), sizeof(rules_) / sizeof(rules_)[0]                                               \
    }
static const struct {
    const struct rule *rules;
    size_t count;
} forms[CH_USAGE_FORMS] = {
    [CH_USAGE_NONE] = {0},
    [CH_USAGE_OPENAI_CHAT] = RULES(chat_rules),
    [CH_USAGE_OPENAI_RESPONSES] = RULES(responses_rules),
    [CH_USAGE_OPENAI_EMBEDDINGS] = RULES(embeddings_rules),
    [CH_USAGE_ANTHROPIC] = RULES(anthropic_rules),
    [CH_USAGE_GEMINI] = RULES(gemini_rules),
    [CH_USAGE_GEMINI_EMBEDDINGS] = RULES(gemini_embeddings_rules),
};

// --- plans -----------------------------------------------------------------------------------

struct ch_usage_plans {
    struct ch_json_plan *plan[CH_USAGE_FORMS]; // NULL for a form without rules
};

static enum ch_err compile(enum ch_usage_form form, struct ch_json_plan **plan_out)
{
    const char *paths[CH_JSON_PATHS_MAX];
    size_t count = forms[form].count;
    CH_ASSERT(count <= CH_JSON_PATHS_MAX);
    for (size_t i = 0; i < count; i++)
        paths[i] = forms[form].rules[i].path;
    return count ? ch_json_plan_new(paths, count, plan_out) : CH_OK;
}

enum ch_err ch_usage_plans_new(struct ch_usage_plans **plans_out)
{
    struct ch_usage_plans *plans = ch_zcalloc(1, sizeof *plans);
    if (!plans)
        return CH_ERR_NOMEM;
    enum ch_err err = CH_OK;
    for (int form = 0; form < CH_USAGE_FORMS && !err; form++)
        err = compile((enum ch_usage_form)form, &plans->plan[form]);
    if (err)
        ch_usage_plans_free(plans);
    else
        *plans_out = plans;
    return err;
}

void ch_usage_plans_free(struct ch_usage_plans *plans)
{
    if (!plans)
        return;
    for (int form = 0; form < CH_USAGE_FORMS; form++)
        ch_json_plan_free(plans->plan[form]);
    ch_zfree(plans);
}

// --- values ----------------------------------------------------------------------------------

static bool is_text(const struct ch_json_value *value, const char *text)
{
    return value->type == CH_JSON_STRING && ch_span_eq(value->raw, ch_span_of(text));
}

static bool opens(const struct ch_json_value *value)
{
    return value->type == CH_JSON_OBJECT || value->type == CH_JSON_ARRAY;
}

static bool closes(const struct ch_json_value *value)
{
    return value->type == CH_JSON_OBJECT_END || value->type == CH_JSON_ARRAY_END;
}

// Null changes nothing; what is no count spoils the event it stands in.
static void read_count(struct ch_usage_scan *scan, const struct ch_json_value *value,
                       int64_t *count)
{
    int64_t read;
    if (value->type == CH_JSON_NULL)
        return;
    if (value->type == CH_JSON_NUMBER && !ch_json_to_count(value->raw, &read) && read <= TOKENS_MAX)
        *count = read;
    else
        scan->event.has_bad_count = true;
}

static void read_sum(struct ch_usage_scan *scan, const struct ch_json_value *value,
                     enum ch_usage_slot slot)
{
    int64_t count = -1;
    read_count(scan, value, &count);
    if (count >= 0)
        scan->raw.slot[slot] = count + scan->iterations.added[slot];
}

static void read_name(const struct ch_json_value *value, char *out, size_t size)
{
    char plain[CH_JSON_VALUE_MAX];
    struct ch_span name = value->raw;
    if (value->type != CH_JSON_STRING || value->cut)
        return;
    if (value->escaped) {
        size_t len;
        if (ch_json_unescape(name, plain, sizeof plain, &len))
            return;
        name = (struct ch_span){plain, len};
    }
    if (name.len > 0 && name.len < size)
        (void)ch_span_copy(name, out, size);
}

static void read_usd(const struct ch_json_value *value, int64_t *nano)
{
    int64_t femto;
    if (value->type == CH_JSON_NUMBER && !ch_money_parse_femto(value->raw, &femto))
        *nano = ch_money_round(femto);
}

static void read_ticks(const struct ch_json_value *value, int64_t *nano)
{
    int64_t ticks;
    if (value->type == CH_JSON_NUMBER && !ch_json_to_count(value->raw, &ticks) &&
        ticks <= INT64_MAX - TICKS_PER_NANO)
        *nano = (ticks + TICKS_PER_NANO / 2) / TICKS_PER_NANO;
}

static void read_tier(struct ch_usage_scan *scan, const struct ch_json_value *value)
{
    if (value->type == CH_JSON_STRING)
        scan->raw.tier = ch_tier_parse(value->raw);
}

// ON_DEMAND_PRIORITY, ON_DEMAND_FLEX; the others cost the standard price (wire.md §2.5).
static void read_traffic(struct ch_usage_scan *scan, const struct ch_json_value *value)
{
    struct ch_span prefix = CH_SPAN("ON_DEMAND_");
    if (value->type == CH_JSON_STRING && ch_span_starts(value->raw, prefix))
        scan->raw.tier = ch_tier_parse(ch_span_sub(value->raw, prefix.len));
}

static void read_usage(struct ch_usage_scan *scan, const struct ch_json_value *value,
                       bool is_regular)
{
    if (value->type != CH_JSON_OBJECT)
        return;
    scan->event.has_usage = true;
    scan->usage_is_object |= is_regular;
}

static void read_finish(struct ch_usage_scan *scan, const struct ch_json_value *value)
{
    scan->has_finished |= value->type == CH_JSON_STRING && value->raw.len > 0;
}

static void read_status(struct ch_usage_scan *scan, const struct ch_json_value *value)
{
    scan->has_finished |= is_text(value, "completed") || is_text(value, "incomplete") ||
                          is_text(value, "failed") || is_text(value, "cancelled");
}

static void read_content(struct ch_usage_scan *scan, const struct ch_json_value *value)
{
    scan->event.has_content |=
        opens(value) || (value->type == CH_JSON_STRING && value->raw.len > 0);
}

static void read_error(struct ch_usage_scan *scan, const struct ch_json_value *value)
{
    scan->is_error |= value->type == CH_JSON_OBJECT || value->type == CH_JSON_STRING;
}

static void apply_response_type(struct ch_usage_scan *scan, struct ch_span type)
{
    bool is_terminal = ch_span_eq(type, CH_SPAN("response.completed")) ||
                       ch_span_eq(type, CH_SPAN("response.incomplete")) ||
                       ch_span_eq(type, CH_SPAN("response.failed"));
    scan->has_finished |= is_terminal;
    scan->event.has_content |= ch_span_ends(type, CH_SPAN(".delta"));
}

static void apply_anthropic_type(struct ch_usage_scan *scan, struct ch_span type)
{
    scan->has_finished |= ch_span_eq(type, CH_SPAN("message"));
    scan->event.closes_stream |= ch_span_eq(type, CH_SPAN("message_stop"));
    scan->event.has_content |= ch_span_eq(type, CH_SPAN("content_block_delta"));
}

static void apply_type(struct ch_usage_scan *scan, struct ch_span type)
{
    scan->event.has_type = true;
    scan->is_error |= ch_span_eq(type, CH_SPAN("error"));
    if (scan->form == CH_USAGE_OPENAI_RESPONSES)
        apply_response_type(scan, type);
    if (scan->form == CH_USAGE_ANTHROPIC)
        apply_anthropic_type(scan, type);
}

// --- lists -----------------------------------------------------------------------------------

static void read_modalities(struct ch_usage_scan *scan, const struct ch_json_value *value,
                            enum ch_usage_slot audio_slot)
{
    if (value->type == CH_JSON_ARRAY)
        scan->list = (struct ch_usage_modalities){0};
    if (value->type != CH_JSON_ARRAY_END)
        return;
    scan->raw.slot[audio_slot] = scan->list.audio_tokens;
    scan->raw.slot[audio_slot + 1] = scan->list.image_tokens;
}

static void read_modality_entry(struct ch_usage_scan *scan, const struct ch_json_value *value)
{
    struct ch_usage_modalities *list = &scan->list;
    if (value->type == CH_JSON_OBJECT) {
        list->count = 0;
        list->is_audio = list->is_image = false;
    }
    if (value->type != CH_JSON_OBJECT_END)
        return;
    list->audio_tokens += list->is_audio ? list->count : 0;
    list->image_tokens += list->is_image ? list->count : 0;
}

static void read_modality(struct ch_usage_scan *scan, const struct ch_json_value *value)
{
    scan->list.is_audio = is_text(value, "AUDIO");
    scan->list.is_image = is_text(value, "IMAGE") || is_text(value, "VIDEO");
}

// The list is cumulative as the totals are: a later one replaces what an earlier one added.
static void read_iterations(struct ch_usage_scan *scan, const struct ch_json_value *value)
{
    struct ch_usage_iterations *list = &scan->iterations;
    if (value->type == CH_JSON_ARRAY)
        memset(list->sum, 0, sizeof list->sum);
    if (value->type != CH_JSON_ARRAY_END)
        return;
    for (int i = 0; i <= CH_SLOT_CACHE_WRITE; i++) {
        int64_t more = list->sum[i] - list->added[i];
        if (more != 0)
            scan->raw.slot[i] = more + (scan->raw.slot[i] > 0 ? scan->raw.slot[i] : 0);
        list->added[i] = list->sum[i];
    }
}

static void read_iteration(struct ch_usage_scan *scan, const struct ch_json_value *value)
{
    struct ch_usage_iterations *list = &scan->iterations;
    if (value->type == CH_JSON_OBJECT) {
        memset(list->current, 0, sizeof list->current);
        list->is_compaction = false;
    }
    if (value->type != CH_JSON_OBJECT_END || !list->is_compaction)
        return;
    for (int i = 0; i <= CH_SLOT_CACHE_WRITE; i++)
        list->sum[i] += list->current[i];
}

// --- events ----------------------------------------------------------------------------------

// Beside what it charged itself, OpenRouter says what the caller's own key was charged upstream.
static void settle_cost(struct ch_usage_scan *scan)
{
    bool is_known = scan->cost_nano >= 0 && (!scan->is_byok || scan->upstream_cost_nano >= 0);
    if (is_known)
        scan->raw.stated_cost_nano =
            scan->cost_nano + (scan->is_byok ? scan->upstream_cost_nano : 0);
}

static void settle_completeness(struct ch_usage_scan *scan)
{
    const struct ch_usage_event *event = &scan->event;
    bool is_good = event->has_usage && !event->has_bad_count && !scan->is_broken;
    if (event->has_usage)
        scan->has_seen_usage = is_good;
    if (scan->form == CH_USAGE_OPENAI_CHAT && is_good && !scan->has_choice)
        scan->has_finished = true; // the chunk of include_usage
    scan->is_complete |=
        (is_good && scan->has_finished) || (event->closes_stream && scan->has_seen_usage);
}

static void end_event(struct ch_usage_scan *scan)
{
    settle_cost(scan);
    settle_completeness(scan);
    scan->delta_events += scan->event.has_content;
    // Chunks may repeat the queries of those before them: the most that one named counts.
    if (scan->event.queries > scan->raw.slot[CH_SLOT_SEARCHES])
        scan->raw.slot[CH_SLOT_SEARCHES] = scan->event.queries;
    scan->event = (struct ch_usage_event){0};
}

static void take_value(struct ch_usage_scan *scan, const struct rule *rule,
                       const struct ch_json_value *value)
{
    switch (rule->meaning) {
    case MEANS_COUNT:
        read_count(scan, value, &scan->raw.slot[rule->slot]);
        break;
    case MEANS_SUM:
        read_sum(scan, value, rule->slot);
        break;
    case MEANS_USAGE:
        read_usage(scan, value, true);
        break;
    case MEANS_X_USAGE:
        read_usage(scan, value, false);
        break;
    case MEANS_COST:
        read_usd(value, &scan->cost_nano);
        break;
    case MEANS_TICKS:
        read_ticks(value, &scan->cost_nano);
        break;
    case MEANS_UPSTREAM:
        read_usd(value, &scan->upstream_cost_nano);
        break;
    case MEANS_BYOK:
        scan->is_byok = value->type == CH_JSON_TRUE;
        break;
    case MEANS_MODEL:
        read_name(value, scan->model_served, sizeof scan->model_served);
        break;
    case MEANS_ID:
        read_name(value, scan->response_id, sizeof scan->response_id);
        break;
    case MEANS_TIER:
        read_tier(scan, value);
        break;
    case MEANS_TRAFFIC:
        read_traffic(scan, value);
        break;
    case MEANS_SPEED:
        scan->raw.is_fast |= is_text(value, "fast");
        break;
    case MEANS_GEO:
        scan->raw.us_region |= is_text(value, "us");
        break;
    case MEANS_TYPE:
        if (value->type == CH_JSON_STRING)
            apply_type(scan, value->raw);
        break;
    case MEANS_STATUS:
        read_status(scan, value);
        break;
    case MEANS_FINISH:
        read_finish(scan, value);
        break;
    case MEANS_CHOICES:
        scan->has_choices |= value->type == CH_JSON_ARRAY;
        break;
    case MEANS_CHOICE:
        scan->has_choice = true;
        break;
    case MEANS_CONTENT:
        read_content(scan, value);
        break;
    case MEANS_ERROR:
        read_error(scan, value);
        break;
    case MEANS_EVENT:
        if (closes(value))
            end_event(scan);
        break;
    case MEANS_MODALITIES:
        read_modalities(scan, value, rule->slot);
        break;
    case MEANS_MODALITY_ENTRY:
        read_modality_entry(scan, value);
        break;
    case MEANS_MODALITY:
        read_modality(scan, value);
        break;
    case MEANS_MODALITY_COUNT:
        read_count(scan, value, &scan->list.count);
        break;
    case MEANS_QUERY:
        scan->event.queries += value->type == CH_JSON_STRING;
        break;
    case MEANS_ITERATIONS:
        read_iterations(scan, value);
        break;
    case MEANS_ITERATION:
        read_iteration(scan, value);
        break;
    case MEANS_ITERATION_TYPE:
        scan->iterations.is_compaction = is_text(value, "compaction");
        break;
    case MEANS_ITERATION_COUNT:
        read_count(scan, value, &scan->iterations.current[rule->slot]);
        break;
    }
}

static bool on_value(void *arg, const struct ch_json_value *value)
{
    struct ch_usage_scan *scan = arg;
    take_value(scan, &forms[scan->form].rules[value->path], value);
    return true;
}

// --- documents -------------------------------------------------------------------------------

void ch_usage_scan_init(struct ch_usage_scan *scan, const struct ch_usage_plans *plans,
                        enum ch_usage_form form)
{
    *scan = (struct ch_usage_scan){
        .form = form,
        .plan = plans->plan[form],
        .has_finished = form == CH_USAGE_OPENAI_EMBEDDINGS, // no stream, no reason to stop
        .cost_nano = -1,
        .upstream_cost_nano = -1,
    };
    ch_usage_raw_init(&scan->raw);
}

static void begin_document(struct ch_usage_scan *scan)
{
    ch_json_scan_init(&scan->json, scan->plan, on_value, scan);
    // A model that cuts an emoji in two must not cost the usage that follows.
    scan->json.lax_text = true;
    scan->in_document = true;
    scan->is_broken = false;
    scan->head_len = 0;
    scan->has_choice = scan->has_choices = scan->usage_is_object = false;
    scan->event = (struct ch_usage_event){0};
}

static void keep_head(struct ch_usage_scan *scan, struct ch_span piece)
{
    for (size_t i = 0; i < piece.len && scan->head_len <= sizeof scan->head; i++) {
        if (scan->head_len < sizeof scan->head)
            scan->head[scan->head_len] = piece.ptr[i];
        scan->head_len++; // one past the room: the document is longer
    }
}

static struct ch_span trimmed_head(const struct ch_usage_scan *scan)
{
    size_t len = scan->head_len < sizeof scan->head ? scan->head_len : sizeof scan->head;
    return ch_span_trim((struct ch_span){scan->head, len});
}

void ch_usage_scan_feed(struct ch_usage_scan *scan, struct ch_span piece)
{
    if (piece.len == 0 || !scan->plan)
        return;
    if (!scan->in_document)
        begin_document(scan);
    keep_head(scan, piece);
    if (!scan->is_broken)
        scan->is_broken = ch_json_scan_feed(&scan->json, piece) != CH_OK;
}

// No document may be broken but the two that are none.
static void judge_broken(struct ch_usage_scan *scan)
{
    struct ch_span head = trimmed_head(scan);
    bool is_whole = scan->head_len <= sizeof scan->head;
    scan->event.closes_stream |= is_whole && ch_span_eq(head, CH_SPAN("[DONE]"));
    bool is_none = is_whole && (head.len == 0 || scan->event.closes_stream);
    scan->broken_documents += !is_none;
    scan->has_choice = scan->has_choices = scan->usage_is_object = false;
}

void ch_usage_scan_end_document(struct ch_usage_scan *scan, struct ch_span event_name)
{
    if (!scan->in_document)
        return;
    if (!scan->is_broken)
        scan->is_broken = ch_json_scan_finish(&scan->json) != CH_OK;
    if (scan->is_broken)
        judge_broken(scan);
    if (!scan->event.has_type)
        apply_type(scan, event_name);
    end_event(scan);
    scan->in_document = false;
}
