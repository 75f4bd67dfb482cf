// SPDX-License-Identifier: Apache-2.0
#include "wire/usage_scan.h"

#include "base/secret.h"
#include "usage_read.h"
#include "usage_rules.h"

#include <stddef.h>

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

// The usage of a response that is done is added to those before it; any other event leaves the
// session as it was.
static void settle_session(struct ch_usage_scan *scan)
{
    const struct ch_usage_event *event = &scan->event;
    if (scan->form != CH_USAGE_OPENAI_REALTIME)
        return;
    bool is_good = event->has_usage && !event->has_bad_count && !scan->is_broken;
    for (int i = 0; i < CH_USAGE_SLOTS && is_good && event->adds_response; i++)
        if (scan->raw.slot[i] >= 0)
            scan->session[i] =
                ch_usage_sum(scan->session[i] > 0 ? scan->session[i] : 0, scan->raw.slot[i]);
    memcpy(scan->raw.slot, scan->session, sizeof scan->session);
}

void ch_usage_end_event(struct ch_usage_scan *scan)
{
    settle_cost(scan);
    settle_completeness(scan);
    ch_usage_settle_side(scan);
    settle_session(scan);
    scan->delta_events += scan->event.has_content;
    // Chunks may repeat the queries of those before them: the most that one named counts.
    if (scan->event.queries > 0 && scan->event.queries > scan->raw.slot[CH_SLOT_SEARCHES])
        scan->raw.slot[CH_SLOT_SEARCHES] = scan->event.queries;
    scan->event = (struct ch_usage_event){0};
}

// --- documents -------------------------------------------------------------------------------

// Where usage stands it is final: nothing says why the model stopped.
static bool states_usage_once(enum ch_usage_form form)
{
    return form == CH_USAGE_OPENAI_EMBEDDINGS || form == CH_USAGE_OPENAI_IMAGES ||
           form == CH_USAGE_OPENAI_TRANSCRIPTION || form == CH_USAGE_OPENAI_SPEECH;
}

void ch_usage_scan_init(struct ch_usage_scan *scan, const struct ch_usage_plans *plans,
                        enum ch_usage_form form)
{
    memset(scan, 0, offsetof(struct ch_usage_scan, session));
    scan->form = form;
    scan->plan = plans->plan[form];
    scan->rules = ch_usage_rules_of(form).rule;
    scan->has_finished = states_usage_once(form);
    scan->cost_nano = scan->upstream_cost_nano = -1;
    ch_usage_raw_init(&scan->raw);
    ch_usage_raw_init(&scan->side.raw);
    if (form == CH_USAGE_OPENAI_REALTIME)
        memcpy(scan->session, scan->raw.slot, sizeof scan->session);
}

static void begin_document(struct ch_usage_scan *scan)
{
    ch_json_scan_init(&scan->json, scan->plan, ch_usage_read_value, scan);
    // A model that cuts an emoji in two must not cost the usage that follows.
    scan->json.lax_text = true;
    scan->in_document = true;
    scan->is_broken = false;
    scan->head_len = 0;
    scan->has_choice = scan->has_choices = scan->usage_is_object = false;
    scan->event = (struct ch_usage_event){0};
    for (int i = 0; i < CH_USAGE_SLOTS && scan->form == CH_USAGE_OPENAI_REALTIME; i++)
        scan->raw.slot[i] = -1; // settle_session puts the session's back
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
        ch_usage_apply_type(scan, event_name);
    ch_usage_end_event(scan);
    scan->in_document = false;
}
