// SPDX-License-Identifier: Apache-2.0
// What an exchange cost: usage, grade, price, one row.
#include "shared.h"

#define BYTES_PER_TOKEN 4 // of English text, the estimate of wire.md §4.2

static int64_t tokens_of_bytes(int64_t bytes)
{
    return (bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
}

bool meter_states_output(enum ch_usage_form form)
{
    return form != CH_USAGE_OPENAI_EMBEDDINGS && form != CH_USAGE_GEMINI_EMBEDDINGS;
}

// The most that the request let the provider write, where it said so: what is only estimated never
// passes it, and so never what was reserved.
static int64_t most_output(const struct exchange *x)
{
    int64_t most;
    if (!x->policy.is_estimated || x->facts.max_output < 1 ||
        __builtin_mul_overflow(x->facts.max_output - 1, x->policy.choices, &most))
        return INT64_MAX;
    return most;
}

// What the provider did not state: the input by the request's bytes, the output by what was seen of
// it.
static void estimate(const struct exchange *x, struct ch_usage_raw *raw)
{
    int64_t seen = x->observes ? x->usage.delta_events : 0;
    if (raw->slot[CH_SLOT_INPUT] < 0)
        raw->slot[CH_SLOT_INPUT] = tokens_of_bytes((int64_t)x->body_got);
    if (!meter_states_output(x->route->usage_form))
        return;
    if (seen == 0 && !x->is_sse)
        seen = tokens_of_bytes(x->response_bytes);
    if (seen > most_output(x))
        seen = most_output(x);
    if (raw->slot[CH_SLOT_OUTPUT] < seen)
        raw->slot[CH_SLOT_OUTPUT] = seen;
}

// Whether the provider may have worked for an answer of which nothing came back.
static bool may_have_worked(const struct exchange *x, enum ch_end_reason reason)
{
    return x->sent_ns &&
           (reason == CH_END_CLIENT_GONE || reason == CH_END_TIMEOUT || reason == CH_END_SHUTDOWN);
}

static const struct ch_price *find_price(const struct exchange *x,
                                         const struct ch_usage_record *record)
{
    const struct ch_price *price = policy_find_price(x, record->model_served, &record->usage);
    return price ? price : policy_find_price(x, record->model_sent, &record->usage);
}

static void normalise(const struct exchange *x, enum ch_usage_form form, struct ch_usage_raw raw,
                      struct ch_usage *usage)
{
    raw.us_region |= x->provider->us_region;
    raw.eu_region |= x->provider->eu_region;
    ch_usage_normalise(form, &raw, x->provider->reasoning_is_outside, usage);
}

// Whether a usage is what the model is billed by. Where no price says so, tokens are.
static bool is_billable(const struct exchange *x, const struct ch_usage_record *record)
{
    const struct ch_price *price = find_price(x, record);
    return record->usage.stated_cost_nano >= 0 ||
           (price ? ch_media_is_billable(price, &record->usage)
                  : ch_usage_has_tokens(&record->usage));
}

// Images, transcriptions and speech: the request says what the answer leaves out. Speech that is
// billed by the character is billed as soon as the provider has accepted it.
static bool measure_media(const struct exchange *x, bool is_stated, struct ch_usage_raw *raw,
                          struct ch_usage_record *record)
{
    enum ch_usage_form form = x->route->usage_form;
    const struct ch_media_ask *ask = &x->facts.ask;
    is_stated |= form == CH_USAGE_OPENAI_SPEECH && x->upstream_status;
    ch_media_complete(form, ask, raw);
    normalise(x, form, *raw, &record->usage);
    if (is_stated && is_billable(x, record))
        return true;
    ch_media_estimate(form, ask, (int64_t)x->body_got - ask->file_bytes, x->response_bytes, raw);
    normalise(x, form, *raw, &record->usage);
    return false;
}

// Fills usage and grade of an exchange that went upstream; the models are known.
static void measure(const struct exchange *x, enum ch_end_reason reason,
                    struct ch_usage_record *record)
{
    struct ch_usage_raw raw;
    bool is_good = x->upstream_status >= 200 && x->upstream_status < 300;
    record->grade = CH_GRADE_NONE;
    if (x->route->usage_form == CH_USAGE_NONE || (x->upstream_status && !is_good) ||
        (!x->upstream_status && !may_have_worked(x, reason)))
        return; // free, or the provider refused: nothing it could bill
    ch_usage_raw_init(&raw);
    if (x->observes)
        raw = x->usage.raw;
    // A plain document that arrived whole states its final usage, whatever else it lacks.
    bool is_whole = reason == CH_END_DONE && !x->is_sse && x->observes && x->usage.has_seen_usage;
    bool is_stated =
        x->observes && (x->usage.is_complete || is_whole) && !ch_usage_raw_is_empty(&raw);
    if (facts_are_of_media(x)) {
        is_stated = measure_media(x, is_stated, &raw, record);
    } else {
        if (!is_stated)
            estimate(x, &raw);
        normalise(x, x->route->usage_form, raw, &record->usage);
    }
    record->grade = is_stated               ? CH_GRADE_EXACT
                    : reason == CH_END_DONE ? CH_GRADE_ESTIMATED
                                            : CH_GRADE_PARTIAL;
}

// By its price, else by the key's ceiling; -1: neither is known. `is_guess_out` is set where a
// fallback stood in for a price.
static int64_t cost_of(const struct exchange *x, const struct ch_price *price,
                       const struct ch_usage *usage, bool *is_guess_out)
{
    if (!price)
        return x->policy.ceiling.choice == CH_UNKNOWN_MODEL_CEILING
                   ? policy_ceiling_cost(&x->policy.ceiling, usage)
                   : -1;
    struct ch_cost cost = ch_price_cost(price, usage);
    *is_guess_out |= cost.fallback;
    return cost.nano_usd;
}

// Other models that worked for the exchange, each at its own price. Where that is not known, the
// price of the one that served stands in.
static void add_sides(const struct exchange *x, const struct ch_price *served,
                      struct ch_usage_record *record, bool *is_guess)
{
    *is_guess |= x->usage.has_lost_sides;
    for (unsigned i = 0; i < x->usage.side_count; i++) {
        const struct ch_usage_side *side = &x->usage.sides[i];
        struct ch_usage usage;
        normalise(x, side->form, side->raw, &usage);
        const struct ch_price *price = policy_find_price(x, ch_span_of(side->model), &usage);
        *is_guess |= !price;
        int64_t cost = cost_of(x, price ? price : served, &usage, is_guess), sum;
        bool is_over = __builtin_add_overflow(record->side_cost_nano_usd, cost, &sum);
        record->side_cost_nano_usd = is_over ? INT64_MAX : sum;
    }
}

static void set_price(const struct exchange *x, struct ch_usage_record *record)
{
    const struct ch_catalogue *catalogue = ch_registry_catalogue(x->pl->proxy->options.registry);
    bool is_guess = false;
    record->is_priced = true;
    if (record->grade == CH_GRADE_NONE)
        return;
    record->catalogue = ch_span_of(ch_catalogue_version(catalogue));
    if (record->usage.stated_cost_nano >= 0) { // of the whole, other models included
        record->cost_nano_usd = record->usage.stated_cost_nano;
        return;
    }
    const struct ch_price *price = find_price(x, record);
    int64_t cost = cost_of(x, price, &record->usage, &is_guess);
    record->is_priced = cost >= 0;
    if (!record->is_priced)
        return;
    if (!price)
        record->catalogue = CH_SPAN("ceiling");
    if (x->observes)
        add_sides(x, price, record, &is_guess);
    if (__builtin_add_overflow(cost, record->side_cost_nano_usd, &record->cost_nano_usd))
        record->cost_nano_usd = INT64_MAX;
    if (is_guess && record->grade == CH_GRADE_EXACT)
        record->grade = CH_GRADE_ESTIMATED;
}

int64_t meter_cost_so_far(const struct exchange *x)
{
    struct ch_usage_record record = {.model_sent = policy_model_sent(x),
                                     .model_served = CH_SPAN(""),
                                     .usage.stated_cost_nano = -1};
    measure(x, CH_END_CLIENT_GONE, &record);
    set_price(x, &record);
    return record.is_priced ? record.cost_nano_usd : 0;
}

// Our own share of the time: what passed while neither the provider nor its connection was waited
// for.
static int64_t added_us(const struct exchange *x, int64_t now_ns)
{
    int64_t added_ns = now_ns - x->start_ns;
    if (x->sent_ns) {
        added_ns = x->sent_ns - x->ready_ns + (x->complete_ns - x->start_ns);
        added_ns += x->durable.waited_ns;
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
        .end_reason =
            (uint8_t)(x->is_drained && reason == CH_END_DONE ? CH_END_CLIENT_GONE : reason),
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
        .model_sent = x->has_slot ? policy_model_sent(x) : CH_SPAN(""),
        .upstream_id = ch_span_of(x->upstream_id),
        .user_agent = ch_span_of(x->user_agent),
        .client_address =
            x->pl->config->record_client_address ? ch_span_of(x->client->address) : CH_SPAN(""),
        .rule = ch_span_of(x->rule ? x->rule : ""),
        .catalogue = CH_SPAN(""),
        .model_served = CH_SPAN(""),
        .objects = {(const char *)x->objects, x->object_count * sizeof x->objects[0]},
    };
    record->usage.stated_cost_nano = -1;
}

void meter_settle(struct exchange *x, enum ch_end_reason reason)
{
    struct ch_usage_record record;
    struct ch_usage_journal *journal = x->pl->proxy->options.journal;
    if (x->is_settled)
        return;
    // Strangers and requests that stopped before they were whole leave no row.
    if (x->key_id == 0 || (!x->has_slot && !x->was_refused)) {
        policy_cancel(x);
        return;
    }
    x->is_settled = true;
    fill_record(x, reason, &record);
    if (x->has_slot) {
        if (x->observes) {
            record.model_served = ch_span_of(x->usage.model_served);
            if (!x->upstream_id[0])
                record.upstream_id = ch_span_of(x->usage.response_id);
        }
        measure(x, reason, &record);
        set_price(x, &record);
        ch_usage_journal_settle(journal, x->pl->index, x->slot, &record);
        policy_settle(x, &record);
    } else if (policy_cancel(x), ch_usage_journal_append(journal, x->pl->index, &record) != CH_OK) {
        // The answer is out and nothing was spent; an operator learns of it by the warning.
        exchange_warn(x, "denial_not_recorded", "the usage journal is full");
    }
    atomic_fetch_add_explicit(&x->pl->exchange_count, 1, memory_order_relaxed);
}
