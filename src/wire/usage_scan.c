// SPDX-License-Identifier: Apache-2.0
#include "wire/usage_scan.h"

#include "base/money.h"
#include "base/secret.h"
#include "usage_rules.h"

// Above it a count is nonsense: 100,000 times the largest context window of today.
#define TOKENS_MAX INT64_C(1000000000000)

// xAI counts money in ticks of 1e-10 USD (docs.x.ai, "Cost Tracking").
#define TICKS_PER_NANO 10

// --- plans -----------------------------------------------------------------------------------

struct ch_usage_plans {
    struct ch_json_plan *plan[CH_USAGE_FORMS]; // NULL for a form without rules
};

static enum ch_err compile(enum ch_usage_form form, struct ch_json_plan **plan_out)
{
    const char *paths[CH_JSON_PATHS_MAX];
    struct ch_usage_rules rules = ch_usage_rules_of(form);
    CH_ASSERT(rules.count <= CH_JSON_PATHS_MAX);
    for (size_t i = 0; i < rules.count; i++)
        paths[i] = rules.rule[i].path;
    return rules.count ? ch_json_plan_new(paths, rules.count, plan_out) : CH_OK;
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

static void apply_type(struct ch_usage_scan *scan, struct ch_span type)
{
    scan->event.has_type = true;
    scan->is_error |= ch_span_eq(type, CH_SPAN("error"));
    if (scan->form == CH_USAGE_OPENAI_RESPONSES)
        apply_response_type(scan, type);
    if (scan->form == CH_USAGE_ANTHROPIC)
        apply_anthropic_type(scan, type);
}

static void read_type(struct ch_usage_scan *scan, const struct reading *r)
{
    if (is_type(r, CH_JSON_STRING))
        apply_type(scan, r->value->raw);
}

// --- lists -----------------------------------------------------------------------------------

// A list may be of any length: its sum stays a count.
static int64_t sum_tokens(int64_t a, int64_t b)
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
}

static void read_modality_entry(struct ch_usage_scan *scan, const struct reading *r)
{
    struct ch_usage_modalities *list = &scan->list;
    if (is_type(r, CH_JSON_OBJECT)) {
        list->count = 0;
        list->is_audio = list->is_image = false;
    }
    if (!is_type(r, CH_JSON_OBJECT_END))
        return;
    if (list->is_audio)
        list->audio_tokens = sum_tokens(list->audio_tokens, list->count);
    if (list->is_image)
        list->image_tokens = sum_tokens(list->image_tokens, list->count);
}

static void read_modality(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->list.is_audio = is_text(r, "AUDIO");
    scan->list.is_image = is_text(r, "IMAGE") || is_text(r, "VIDEO");
}

static void read_modality_count(struct ch_usage_scan *scan, const struct reading *r)
{
    take_count(scan, r, &scan->list.count);
}

static void read_query(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->event.queries += is_type(r, CH_JSON_STRING);
}

// The list is cumulative as the totals are: a later one replaces what an earlier one added.
static void read_iterations(struct ch_usage_scan *scan, const struct reading *r)
{
    struct ch_usage_iterations *list = &scan->iterations;
    if (is_type(r, CH_JSON_ARRAY))
        memset(list->sum, 0, sizeof list->sum);
    if (!is_type(r, CH_JSON_ARRAY_END))
        return;
    for (int i = 0; i <= CH_SLOT_CACHE_WRITE; i++) {
        int64_t more = list->sum[i] - list->added[i];
        if (more != 0)
            scan->raw.slot[i] = more + (scan->raw.slot[i] > 0 ? scan->raw.slot[i] : 0);
        list->added[i] = list->sum[i];
    }
}

static void read_iteration(struct ch_usage_scan *scan, const struct reading *r)
{
    struct ch_usage_iterations *list = &scan->iterations;
    if (is_type(r, CH_JSON_OBJECT)) {
        memset(list->current, 0, sizeof list->current);
        list->is_compaction = false;
    }
    if (!is_type(r, CH_JSON_OBJECT_END) || !list->is_compaction)
        return;
    for (int i = 0; i <= CH_SLOT_CACHE_WRITE; i++)
        list->sum[i] = sum_tokens(list->sum[i], list->current[i]);
}

static void read_iteration_type(struct ch_usage_scan *scan, const struct reading *r)
{
    scan->iterations.is_compaction = is_text(r, "compaction");
}

static void read_iteration_count(struct ch_usage_scan *scan, const struct reading *r)
{
    take_count(scan, r, &scan->iterations.current[r->slot]);
}

// --- events ----------------------------------------------------------------------------------

// Beside what it charged itself, OpenRouter says what the caller's own key was charged upstream.
static void settle_cost(struct ch_usage_scan *scan)
{
    if (scan->cost_nano < 0 || (scan->is_byok && scan->upstream_cost_nano < 0))
        return;
    scan->raw.stated_cost_nano = scan->cost_nano + (scan->is_byok ? scan->upstream_cost_nano : 0);
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
    if (scan->event.queries > 0 && scan->event.queries > scan->raw.slot[CH_SLOT_SEARCHES])
        scan->raw.slot[CH_SLOT_SEARCHES] = scan->event.queries;
    scan->event = (struct ch_usage_event){0};
}

static void read_event(struct ch_usage_scan *scan, const struct reading *r)
{
    if (is_end(r))
        end_event(scan);
}

typedef void (*read_fn)(struct ch_usage_scan *scan, const struct reading *r);

static const read_fn readers[] = {
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
};

static bool on_value(void *arg, const struct ch_json_value *value)
{
    struct ch_usage_scan *scan = arg;
    const struct ch_usage_rule *rule = &scan->rules[value->path];
    readers[rule->meaning](scan, &(struct reading){value, rule->slot});
    return true;
}

// --- documents -------------------------------------------------------------------------------

void ch_usage_scan_init(struct ch_usage_scan *scan, const struct ch_usage_plans *plans,
                        enum ch_usage_form form)
{
    *scan = (struct ch_usage_scan){
        .form = form,
        .plan = plans->plan[form],
        .rules = ch_usage_rules_of(form).rule,
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

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// Keeps what follows the leading blanks; none when there is nothing but blanks.
static void keep_head(struct ch_usage_scan *scan, struct ch_span piece)
{
    for (size_t i = 0; i < piece.len && scan->head_len <= sizeof scan->head; i++) {
        if (scan->head_len == 0 && is_blank(piece.ptr[i]))
            continue;
        if (scan->head_len < sizeof scan->head)
            scan->head[scan->head_len] = piece.ptr[i];
        scan->head_len++; // one past the room: the document is longer
    }
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

// The stream's last word is no document.
static bool is_done(const struct ch_usage_scan *scan)
{
    struct ch_span head = {scan->head, scan->head_len};
    return head.len <= sizeof scan->head && ch_span_eq(ch_span_trim(head), CH_SPAN("[DONE]"));
}

static void judge_broken(struct ch_usage_scan *scan)
{
    scan->event.closes_stream |= is_done(scan);
    scan->broken_documents += scan->head_len > 0 && !scan->event.closes_stream;
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
