// SPDX-License-Identifier: Apache-2.0
// What an exchange cost: usage, grade, price, one row.
#include "shared.h"

#define BYTES_PER_TOKEN 4 // of English text, the estimate of wire.md §4.2

static int64_t tokens_of_bytes(int64_t bytes)
{
    return (bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
}

static bool states_output(enum ch_usage_form form)
{
    return form != CH_USAGE_OPENAI_EMBEDDINGS && form != CH_USAGE_GEMINI_EMBEDDINGS;
}

// What the provider did not state: the input by the request's bytes, the output by what was seen of
// it.
static void estimate(const struct exchange *x, struct ch_usage_raw *raw)
{
    int64_t seen = x->observes ? x->usage.delta_events : 0;
    if (raw->slot[CH_SLOT_INPUT] < 0)
        raw->slot[CH_SLOT_INPUT] = tokens_of_bytes((int64_t)x->body_got);
    if (!states_output(x->route->usage_form))
        return;
    if (seen == 0 && !x->is_sse)
        seen = tokens_of_bytes(x->response_bytes);
    if (raw->slot[CH_SLOT_OUTPUT] < seen)
        raw->slot[CH_SLOT_OUTPUT] = seen;
}

// Whether the provider may have worked for an answer of which nothing came back.
static bool may_have_worked(const struct exchange *x, enum ch_end_reason reason)
{
    return x->sent_ns &&
           (reason == CH_END_CLIENT_GONE || reason == CH_END_TIMEOUT || reason == CH_END_SHUTDOWN);
}

// Fills usage and grade of an exchange that went upstream.
static enum ch_grade measure(const struct exchange *x, enum ch_end_reason reason,
                             struct ch_usage *usage)
{
    struct ch_usage_raw raw;
    enum ch_grade grade = CH_GRADE_EXACT;
    bool is_good = x->upstream_status >= 200 && x->upstream_status < 300;
    if (x->route->usage_form == CH_USAGE_NONE || (x->upstream_status && !is_good) ||
        (!x->upstream_status && !may_have_worked(x, reason)))
        return CH_GRADE_NONE; // free, or the provider refused: nothing it could bill
    ch_usage_raw_init(&raw);
    if (x->observes)
        raw = x->usage.raw;
    // A plain document that arrived whole states its final usage, whatever else it lacks.
    bool is_whole = reason == CH_END_DONE && !x->is_sse && x->observes && x->usage.has_seen_usage;
    if (!x->observes || !(x->usage.is_complete || is_whole) || ch_usage_raw_is_empty(&raw)) {
        grade = reason == CH_END_DONE ? CH_GRADE_ESTIMATED : CH_GRADE_PARTIAL;
        estimate(x, &raw);
    }
    raw.us_region |= x->provider->us_region;
    raw.eu_region |= x->provider->eu_region;
    ch_usage_normalise(x->route->usage_form, &raw, x->provider->reasoning_is_outside, usage);
    return grade;
}

static void set_price(const struct exchange *x, struct ch_usage_record *record)
{
    const struct ch_catalogue *catalogue = ch_registry_catalogue(x->pl->proxy->options.registry);
    struct ch_span served = record->model_served;
    const struct ch_price *price = NULL;
    record->is_priced = true;
    if (record->grade == CH_GRADE_NONE)
        return;
    // Gemini answers and asks with a resource name at times; the catalogue knows the bare one.
    if (ch_span_starts(served, CH_SPAN("models/")))
        served = ch_span_sub(served, 7);
    if (served.len)
        price = ch_catalogue_find(catalogue, x->provider->price_prefix, served);
    if (!price)
        price = ch_catalogue_find(catalogue, x->provider->price_prefix, record->model_sent);
    record->catalogue = ch_span_of(ch_catalogue_version(catalogue));
    if (record->usage.stated_cost_nano >= 0) {
        record->cost_nano_usd = record->usage.stated_cost_nano;
        return;
    }
    record->is_priced = price != NULL;
    if (price)
        record->cost_nano_usd = ch_price_cost(price, &record->usage).nano_usd;
}

// Our own share of the time: what passed while neither the provider nor its connection was waited
// for.
static int64_t added_us(const struct exchange *x, int64_t now_ns)
{
    int64_t added_ns = now_ns - x->start_ns;
    if (x->sent_ns) {
        added_ns = x->sent_ns - x->ready_ns + (x->complete_ns - x->start_ns);
        if (x->last_read_ns)
            added_ns += now_ns - x->last_read_ns;
    }
    return added_ns / CH_NS_PER_US;
}

static void fill_record(struct exchange *x, enum ch_end_reason reason,
                        struct ch_usage_record *record)
{
    int64_t now_ns = ch_clock_mono_ns();
    struct ch_span model = {x->facts.model, x->facts.model_is_bad ? 0 : x->facts.model_len};
    *record = (struct ch_usage_record){
        .id = x->id,
        .started_at_ms = x->started_at_ms,
        .key_id = x->key_id,
        .attribution_id = x->attribution_id,
        .provider_id = x->provider ? x->provider->row.id : 0,
        .dialect = (uint8_t)x->dialect,
        .endpoint = x->route ? (uint8_t)x->route->endpoint : CH_ENDPOINT_NONE,
        .end_reason = (uint8_t)reason,
        .grade = CH_GRADE_NONE,
        .is_stream = x->is_stream,
        .is_priced = true,
        .status = (uint16_t)x->status,
        .latency_us = (now_ns - x->start_ns) / CH_NS_PER_US,
        .first_byte_us = x->first_byte_ns ? (x->first_byte_ns - x->start_ns) / CH_NS_PER_US : -1,
        .added_us = added_us(x, now_ns),
        .request_bytes = (int64_t)x->body_got,
        .response_bytes = x->response_bytes,
        .model_asked = model,
        .model_sent = x->has_slot ? model : CH_SPAN(""),
        .upstream_id = ch_span_of(x->upstream_id),
        .user_agent = ch_span_of(x->user_agent),
        .client_address = x->pl->proxy->options.config->record_client_address
                              ? ch_span_of(x->client->address)
                              : CH_SPAN(""),
        .rule = ch_span_of(x->rule ? x->rule : ""),
        .catalogue = CH_SPAN(""),
        .model_served = CH_SPAN(""),
    };
    record->usage.stated_cost_nano = -1;
}

void meter_settle(struct exchange *x, enum ch_end_reason reason)
{
    struct ch_usage_record record;
    struct ch_usage_journal *journal = x->pl->proxy->options.journal;
    // Strangers and requests that stopped before they were whole leave no row.
    if (x->is_settled || x->key_id == 0 || (!x->has_slot && !x->rule))
        return;
    x->is_settled = true;
    fill_record(x, reason, &record);
    if (x->has_slot) {
        record.grade = (uint8_t)measure(x, reason, &record.usage);
        if (x->observes) {
            record.model_served = ch_span_of(x->usage.model_served);
            if (!x->upstream_id[0])
                record.upstream_id = ch_span_of(x->usage.response_id);
        }
        set_price(x, &record);
        ch_usage_journal_settle(journal, x->pl->index, x->slot, &record);
    } else if (ch_usage_journal_append(journal, x->pl->index, &record) != CH_OK) {
        // The answer is out and nothing was spent; an operator learns of it by the warning.
        exchange_warn(x, "denial_not_recorded", "the usage journal is full");
    }
    atomic_fetch_add_explicit(&x->pl->exchange_count, 1, memory_order_relaxed);
}
