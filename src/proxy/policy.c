// SPDX-License-Identifier: Apache-2.0
// What an exchange may spend: model rules, budgets and rate limits, from admission to settlement.
//
// Budgets are asked before rate limits although both must agree: a budget's hold can be given back
// without a trace, a request taken from a rate cannot (docs/design/004-admission-order.md).
#include "shared.h"

#include "domain/model_rule.h"

#include <stdio.h>

// ---- refusing

CH_COLD static bool deny(struct exchange *x, int status, const char *code, const char *message)
{
    respond_denial(x, &(struct denial){.status = status, .code = code, .message = message},
                   CH_END_DENIED);
    return false;
}

void policy_note_shadow(struct exchange *x, const char *rule)
{
    if (!x->rule)
        x->rule = rule;
}

// ---- the model

static struct ch_span asked_model(const struct exchange *x)
{
    return (struct ch_span){x->facts.model, x->facts.model_len};
}

struct ch_span policy_model_sent(const struct exchange *x)
{
    if (x->facts.model_is_bad)
        return CH_SPAN("");
    return x->policy.model_sent_len
               ? (struct ch_span){x->policy.model_sent, x->policy.model_sent_len}
               : asked_model(x);
}

static enum ch_model_decision decide(const struct key_record *key, struct ch_span model)
{
    struct ch_span deny_list = key->policy ? key->policy->deny_models : CH_SPAN("");
    return ch_model_rule_decide(key_record_models(key), deny_list, model, NULL);
}

bool policy_allows_model(const struct key_record *key, struct ch_span model)
{
    return decide(key, model) == CH_MODEL_ALLOWED;
}

bool policy_has_model_lists(const struct key_record *key)
{
    return key->models_len || (key->policy && key->policy->deny_models.len);
}

static bool models_are_shadow(const struct key_record *key)
{
    return key->policy && key->policy->models_are_shadow;
}

CH_COLD static bool refuse_model(struct exchange *x, const struct key_record *key,
                                 struct ch_span model)
{
    char message[2 * CH_MODEL_TEXT + 160];
    if (models_are_shadow(key)) {
        policy_note_shadow(x, "shadow:model_not_allowed");
        return true;
    }
    bool is_mapped = x->policy.model_sent_len && ch_span_eq(model, policy_model_sent(x));
    snprintf(
        message, sizeof message,
        "Model %.*s%s%s%s is not allowed for this key. Ask whoever issued the key to allow it.",
        CH_SPAN_ARG(model), is_mapped ? " (asked for as " : "", is_mapped ? x->facts.model : "",
        is_mapped ? ")" : "");
    return deny(x, 403, "model_not_allowed", message);
}

CH_COLD static bool refuse_model_list(struct exchange *x, const struct key_record *key)
{
    if (models_are_shadow(key)) {
        policy_note_shadow(x, "shadow:model_list_not_allowed");
        return true;
    }
    return deny(x, 403, "model_list_not_allowed",
                "This key has a list of models, so a request may name one model only.");
}

static void map_model(struct exchange *x, const struct key_record *key)
{
    struct ch_span sent;
    if (!key->policy || key->policy->model_map.len == 0 ||
        !ch_model_map_apply(key->policy->model_map, asked_model(x), &sent))
        return;
    x->policy.model_sent_len = (uint8_t)sent.len;
    ch_span_copy(sent, x->policy.model_sent, sizeof x->policy.model_sent);
}

bool policy_check_model(struct exchange *x, const struct key_record *key)
{
    x->policy.drains = key->policy && key->policy->drains_on_abort;
    map_model(x, key);
    if (x->policy.model_sent_len && x->facts.repeats_model)
        return deny(x, 400, "model_map_unsupported",
                    "This key maps the model to another one, which a body that repeats the model "
                    "cannot follow: leave the model out of the body.");
    if (!policy_allows_model(key, policy_model_sent(x)))
        return refuse_model(x, key, policy_model_sent(x));
    if (x->facts.has_fallback_models && policy_has_model_lists(key))
        return refuse_model_list(x, key);
    if (x->facts.nested_model_len) // found while scanning, against the same lists
        return refuse_model(x, key,
                            (struct ch_span){x->facts.nested_model, x->facts.nested_model_len});
    return true;
}

// ---- prices of the unknown

static bool has_budget(struct scope *const *scopes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct scope_terms *terms = scope_terms(scopes[i]);
        for (unsigned b = 0; terms && b < terms->budget_count; b++)
            if (!atomic_load_explicit(&terms->budgets[b]->is_shadow, memory_order_relaxed))
                return true;
    }
    return false;
}

static const struct ch_unknown_model_rule *own_rule(const struct key_record *key,
                                                    const struct provider_record *provider)
{
    bool is_of_key = key->policy && key->policy->unknown_model.choice != CH_UNKNOWN_MODEL_DEFAULT;
    return is_of_key ? &key->policy->unknown_model : &provider->row.unknown_model;
}

struct ch_unknown_model_rule policy_unknown_model(const struct key_record *key,
                                                  const struct provider_record *provider,
                                                  struct scope *const *scopes, unsigned count)
{
    struct ch_unknown_model_rule rule = *own_rule(key, provider);
    if (rule.choice == CH_UNKNOWN_MODEL_DEFAULT)
        rule.choice = has_budget(scopes, count) ? CH_UNKNOWN_MODEL_DENY : CH_UNKNOWN_MODEL_FLAG;
    return rule;
}

// A model without a price: refused, priced by the operator's ceiling, or let through and marked.
static bool check_unknown_model(struct exchange *x, const struct key_record *key,
                                struct scope *const *scopes, unsigned count)
{
    struct ch_unknown_model_rule rule = policy_unknown_model(key, x->provider, scopes, count);
    char message[CH_MODEL_TEXT + 200];
    if (rule.choice == CH_UNKNOWN_MODEL_CEILING)
        x->policy.ceiling = rule;
    if (rule.choice != CH_UNKNOWN_MODEL_DENY)
        return true;
    snprintf(message, sizeof message,
             "Model %.*s has no price, so a budget cannot count it. Ask whoever issued the key to "
             "set a price or a ceiling for it.",
             CH_SPAN_ARG(policy_model_sent(x)));
    return deny(x, 403, "model_unpriced", message);
}

const struct ch_price *policy_find_price(const struct exchange *x, struct ch_span model,
                                         const struct ch_usage *usage)
{
    const struct ch_registry *registry = x->pl->proxy->options.registry;
    const struct ch_price_query query = {.prefix = x->provider->price_prefix,
                                         .provider_id = x->provider->row.id,
                                         .at_ms = x->started_at_ms};
    // Gemini answers and asks with a resource name at times; the catalogue knows the bare one.
    if (ch_span_starts(model, CH_SPAN("models/")))
        model = ch_span_sub(model, 7);
    return model.len ? ch_catalogue_find_for(ch_registry_catalogue(registry), &query, model, usage)
                     : NULL;
}

// Prices are a million tokens'; rounded up, as a ceiling is.
static int64_t ceiling_of(int64_t tokens, int64_t nano_usd)
{
    __int128 cost = ((__int128)tokens * nano_usd + 999999) / 1000000;
    return cost > INT64_MAX ? INT64_MAX : (int64_t)cost;
}

static int64_t add(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

int64_t policy_all_tokens(const struct ch_usage *usage)
{
    return add(ch_usage_total_input(usage), ch_usage_total_output(usage));
}

int64_t policy_ceiling_cost(const struct ch_unknown_model_rule *rule, const struct ch_usage *usage)
{
    return add(ceiling_of(ch_usage_total_input(usage), rule->input_nano_usd),
               ceiling_of(ch_usage_total_output(usage), rule->output_nano_usd));
}

// ---- the estimate

static int64_t at_least_one(int64_t count)
{
    return count < 1 ? 1 : count;
}

// Both are the caller's numbers: what overflows stays at the largest one.
static int64_t multiply(int64_t a, int64_t b)
{
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

// Images, transcriptions and speech: what is asked for is what it will cost, at worst too.
static void guess_media(const struct exchange *x, struct ch_usage *usage)
{
    enum ch_usage_form form = x->route->usage_form;
    const struct ch_media_ask *ask = &x->facts.ask;
    struct ch_usage_raw raw;
    ch_usage_raw_init(&raw);
    ch_media_complete(form, ask, &raw);
    ch_media_estimate(form, ask, (int64_t)x->body_got - ask->file_bytes, -1, &raw);
    raw.us_region = x->provider->us_region;
    raw.eu_region = x->provider->eu_region;
    ch_usage_normalise(form, &raw, x->provider->reasoning_is_outside, usage);
}

static void estimate_media(const struct exchange *x, const struct ch_price *price,
                           struct ch_estimate *estimate)
{
    struct ch_usage usage;
    guess_media(x, &usage);
    int64_t cost = price ? ch_price_cost(price, &usage).nano_usd : 0;
    *estimate = (struct ch_estimate){.worst = usage, .likely = usage, .cost = {cost, cost}};
}

// The price of what will be sent. That of an image can depend on its size and quality.
static const struct ch_price *find_sent_price(const struct exchange *x)
{
    struct ch_usage usage;
    bool is_media = facts_are_of_media(x);
    if (is_media)
        guess_media(x, &usage);
    return policy_find_price(x, policy_model_sent(x), is_media ? &usage : NULL);
}

static void estimate_tokens(struct exchange *x, const struct key_record *key,
                            const struct ch_price *price, struct ch_estimate *estimate)
{
    const struct ch_registry *registry = x->pl->proxy->options.registry;
    const struct request_facts *facts = &x->facts;
    struct policy_state *state = &x->policy;
    state->model = ch_learned_model(policy_model_sent(x));
    state->choices = multiply(at_least_one(facts->choices), at_least_one(facts->prompts));
    bool has_output = meter_states_output(x->route->usage_form);
    struct ch_estimate_request request = {
        .key_id = key->id,
        .model = state->model,
        .body_bytes = (int64_t)x->body_got,
        .refers_to_content = facts->refers_to_content,
        .has_tools = facts->has_tools,
        .max_output_tokens = has_output ? facts->max_output - 1 : 0,
        .choices = state->choices,
        .searches = facts->may_search ? -1 : 0,
        .tier = ch_tier_request_parse((struct ch_span){facts->tier, facts->tier_len}),
        .model_max_input = price ? ch_price_max_input_tokens(price) : 0,
        .model_max_output = price ? ch_price_max_output_tokens(price) : 0,
        .us_region = x->provider->us_region,
        .eu_region = x->provider->eu_region,
    };
    const struct ch_price_bound *bound = price ? registry_price_bound(registry, price) : NULL;
    ch_estimate_make(&request, bound, registry_learned(registry), estimate);
    state->is_estimated = true;
}

static void make_estimate(struct exchange *x, const struct key_record *key,
                          const struct ch_price *price, struct ch_estimate *estimate)
{
    struct policy_state *state = &x->policy;
    if (facts_are_of_media(x))
        estimate_media(x, price, estimate);
    else
        estimate_tokens(x, key, price, estimate);
    state->tokens = policy_all_tokens(&estimate->likely);
    if (state->ceiling.choice == CH_UNKNOWN_MODEL_CEILING)
        estimate->cost = (struct ch_budget_estimate){
            .worst_nano_usd = policy_ceiling_cost(&state->ceiling, &estimate->worst),
            .likely_nano_usd = policy_ceiling_cost(&state->ceiling, &estimate->likely)};
}

// ---- budgets

static void add_holds(struct policy_state *state, struct scope *const *scopes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct scope_terms *terms = scope_terms(scopes[i]);
        for (unsigned b = 0; terms && b < terms->budget_count; b++) {
            struct scope_budget *budget = terms->budgets[b];
            state->held[state->hold_count] = budget;
            state->holds[state->hold_count++] = (struct ch_budget_hold){.budget = budget->budget};
            state->cuts |= atomic_load_explicit(&budget->cuts_streams, memory_order_relaxed);
        }
    }
}

static void watch_shadows(struct exchange *x, const struct ch_budget_estimate *estimate,
                          int64_t now_ms)
{
    const struct policy_state *state = &x->policy;
    for (unsigned i = 0; i < state->hold_count; i++) {
        const struct scope_budget *budget = state->held[i];
        if (!atomic_load_explicit(&budget->is_shadow, memory_order_relaxed))
            continue;
        enum ch_budget_mode mode = atomic_load_explicit(&budget->mode, memory_order_relaxed);
        struct ch_budget_view view = ch_budget_look(budget->budget, now_ms);
        int64_t wanted =
            mode == CH_BUDGET_STRICT ? estimate->worst_nano_usd : estimate->likely_nano_usd;
        int64_t free = view.terms.cap_nano_usd - view.spent_nano_usd - view.reserved_nano_usd;
        if (mode != CH_BUDGET_SOFT && wanted > free)
            policy_note_shadow(x, "shadow:budget_exceeded");
    }
}

static void append_usd(struct ch_buf *out, const char *before, int64_t nano_usd)
{
    char text[CH_MONEY_TEXT];
    ch_money_format(nano_usd, text);
    enum ch_err err = ch_buf_append_format(out, "%s$%s", before, text);
    (void)err; // the message ends there then
}

CH_COLD static bool refuse_budget(struct exchange *x, const struct key_record *key,
                                  const struct scope_budget *budget,
                                  const struct ch_budget_estimate *estimate)
{
    char head[CH_BUDGET_MESSAGE], reset[25], fields[160], text[512];
    struct ch_budget_view view = ch_budget_look(budget->budget, ch_clock_wall_ms());
    struct ch_buf message;
    ch_buf_init(&message, sizeof text - 1);
    ch_budget_message(budget->scope, budget->period, view.terms.cap_nano_usd, view.spent_nano_usd,
                      head);
    int len = snprintf(fields, sizeof fields, "x-should-retry: false\r\n");
    enum ch_err err = ch_buf_append_span(&message, ch_span_of(head));
    if (view.reserved_nano_usd)
        append_usd(&message, " Held by requests in flight: ", view.reserved_nano_usd);
    append_usd(&message, view.reserved_nano_usd ? ", needed for this one: " : " Needed: ",
               view.terms.mode == CH_BUDGET_STRICT ? estimate->worst_nano_usd
                                                   : estimate->likely_nano_usd);
    if (budget->period != CH_BUDGET_TOTAL) {
        ch_clock_format_utc(view.interval.end_ms, reset);
        if (!err)
            err = ch_buf_append_format(&message, ". It resets at %s.", reset);
        snprintf(fields + len, sizeof fields - (size_t)len, "x-chaperone-budget-reset: %s\r\n",
                 reset);
    } else if (!err) {
        err = ch_buf_append_span(&message, CH_SPAN(". It does not reset."));
    }
    ch_span_copy(ch_buf_span(&message), text, sizeof text);
    ch_buf_fini(&message);
    int status = key->policy && key->policy->budget_status ? key->policy->budget_status
                                                           : x->pl->config->budget_status;
    respond_denial(x,
                   &(struct denial){.status = status,
                                    .code = "budget_exceeded",
                                    .message = err ? head : text,
                                    .fields = fields,
                                    .is_spend_limit = true},
                   CH_END_DENIED);
    return false;
}

static void cancel_holds(struct policy_state *state)
{
    for (unsigned i = 0; i < state->hold_count; i++)
        ch_budget_settle(&state->holds[i], 0);
    state->hold_count = 0;
}

static bool reserve(struct exchange *x, const struct key_record *key, struct scope *const *scopes,
                    unsigned count, const struct ch_budget_estimate *estimate)
{
    struct policy_state *state = &x->policy;
    size_t refused = 0;
    int64_t now_ms = x->started_at_ms;
    add_holds(state, scopes, count);
    if (state->hold_count == 0)
        return true;
    watch_shadows(x, estimate, now_ms);
    if (ch_budget_reserve(state->holds, state->hold_count, estimate, now_ms, &refused)) {
        state->hold_count = 0;
        return refuse_budget(x, key, state->held[refused], estimate);
    }
    for (unsigned i = 0; i < state->hold_count; i++)
        if (state->holds[i].nano_usd > state->reserved_nano_usd)
            state->reserved_nano_usd = state->holds[i].nano_usd;
    return true;
}

// ---- admission

bool policy_needs_facts(const struct exchange *x, const struct key_record *key)
{
    struct scope *scopes[SCOPES_MAX];
    return x->route->usage_form != CH_USAGE_NONE &&
           registry_scopes(x->pl->proxy->options.registry, key, key->attribution, x->provider,
                           scopes) > 0;
}

static bool watches_unknown(const struct exchange *x, const struct key_record *key)
{
    return own_rule(key, x->provider)->choice != CH_UNKNOWN_MODEL_DEFAULT;
}

bool policy_admit(struct exchange *x, const struct key_record *key)
{
    struct scope *scopes[SCOPES_MAX];
    struct ch_registry *registry = x->pl->proxy->options.registry;
    struct ch_estimate estimate = {0};
    // Before the scopes are read: a budget that comes now is charged at the end as one that came
    // later.
    x->policy.epoch = registry_budget_epoch(registry);
    // The row names those whose budgets are charged, also where the key moved during the upload.
    x->attribution_id = key->attribution->id;
    x->policy.attribution = key->attribution;
    if (x->route->usage_form == CH_USAGE_NONE)
        return true; // free: nothing to reserve, nothing to count
    unsigned count = registry_scopes(registry, key, key->attribution, x->provider, scopes);
    if (count == 0 && !watches_unknown(x, key))
        return true;
    const struct ch_price *price = find_sent_price(x);
    if (!price && !check_unknown_model(x, key, scopes, count))
        return false;
    if (count == 0)
        return true;
    make_estimate(x, key, price, &estimate);
    if (!reserve(x, key, scopes, count, &estimate.cost))
        return false;
    if (rates_claim(x, scopes, count))
        return true;
    return false; // respond_denial has settled, and so cancelled, the holds
}

// ---- settlement

static void note_early(const struct exchange *x, struct scope_budget *budget, int64_t cost)
{
    if (x->id < atomic_load_explicit(&budget->since_id, memory_order_acquire))
        atomic_fetch_add(&budget->early_nano_usd, cost);
}

static bool holds(const struct policy_state *state, const struct scope_budget *budget)
{
    for (unsigned i = 0; i < state->hold_count; i++)
        if (state->held[i] == budget)
            return true;
    return false;
}

// Budgets that came while the exchange was in flight.
static void charge_newcomers(struct exchange *x, int64_t cost)
{
    struct scope *scopes[SCOPES_MAX];
    const struct ch_registry *registry = x->pl->proxy->options.registry;
    const struct key_record *key =
        registry_find(registry, (struct ch_span){x->public_id, sizeof x->public_id});
    if (!key)
        return;
    unsigned count = registry_scopes(registry, key, x->policy.attribution, x->provider, scopes);
    for (unsigned i = 0; i < count; i++) {
        const struct scope_terms *terms = scope_terms(scopes[i]);
        for (unsigned b = 0; terms && b < terms->budget_count; b++) {
            struct scope_budget *budget = terms->budgets[b];
            if (holds(&x->policy, budget))
                continue;
            note_early(x, budget, cost);
            struct ch_budget_thresholds fired =
                ch_budget_charge(budget->budget, x->started_at_ms, cost);
            registry_tell(registry, budget, &fired, x->started_at_ms);
        }
    }
}

static void learn(const struct exchange *x, const struct ch_usage_record *record)
{
    if (record->grade != CH_GRADE_EXACT || !x->policy.is_estimated)
        return;
    ch_learned_observe(registry_learned(x->pl->proxy->options.registry),
                       &(struct ch_learned_sample){
                           .key_id = x->key_id,
                           .model = x->policy.model,
                           .body_bytes = (int64_t)x->body_got,
                           .refers_to_content = x->facts.refers_to_content,
                           .choices = x->policy.choices,
                           .input_tokens = ch_usage_total_input(&record->usage),
                           .output_tokens = ch_usage_total_output(&record->usage),
                       });
}

void policy_settle(struct exchange *x, const struct ch_usage_record *record)
{
    struct policy_state *state = &x->policy;
    const struct ch_registry *registry = x->pl->proxy->options.registry;
    int64_t cost = record->is_priced ? record->cost_nano_usd : 0;
    if (cost && state->epoch != registry_budget_epoch(registry))
        charge_newcomers(x, cost);
    for (unsigned i = 0; i < state->hold_count; i++) {
        note_early(x, state->held[i], cost);
        struct ch_budget_thresholds fired = ch_budget_settle(&state->holds[i], cost);
        registry_tell(registry, state->held[i], &fired, x->started_at_ms);
    }
    state->hold_count = 0;
    rates_settle(x, &record->usage);
    learn(x, record);
}

void policy_cancel(struct exchange *x)
{
    cancel_holds(&x->policy);
    rates_settle(x, NULL);
}

// ---- on the way

bool policy_is_exhausted(const struct exchange *x, int64_t cost_so_far)
{
    const struct policy_state *state = &x->policy;
    int64_t now_ms = ch_clock_wall_ms();
    for (unsigned i = 0; i < state->hold_count; i++) {
        const struct scope_budget *budget = state->held[i];
        if (!atomic_load_explicit(&budget->cuts_streams, memory_order_relaxed) ||
            atomic_load_explicit(&budget->is_shadow, memory_order_relaxed))
            continue;
        struct ch_budget_view view = ch_budget_look(budget->budget, now_ms);
        if (view.terms.cap_nano_usd - view.spent_nano_usd <= cost_so_far)
            return true;
    }
    return false;
}

static enum ch_err append_warning(const struct exchange *x, struct ch_buf *out)
{
    const struct policy_state *state = &x->policy;
    const struct scope_budget *nearest = NULL;
    unsigned highest = 0;
    for (unsigned i = 0; i < state->hold_count; i++) {
        unsigned reached = ch_budget_reached(state->held[i]->budget, x->started_at_ms);
        if (reached > highest) {
            nearest = state->held[i];
            highest = reached;
        }
    }
    if (!nearest)
        return CH_OK;
    struct ch_budget_view view = ch_budget_look(nearest->budget, x->started_at_ms);
    char spent[CH_MONEY_TEXT], cap[CH_MONEY_TEXT];
    ch_money_format(view.spent_nano_usd, spent);
    ch_money_format(view.terms.cap_nano_usd, cap);
    return ch_buf_append_format(out,
                                "x-chaperone-budget-warning: %s %s budget: $%s of $%s spent "
                                "(%u%% reached)\r\n",
                                ch_budget_scope_name(nearest->scope),
                                ch_budget_period_name(nearest->period), spent, cap,
                                view.reached_percent);
}

enum ch_err policy_append_fields(const struct exchange *x, struct ch_buf *out)
{
    enum ch_err err = append_warning(x, out);
    return err ? err : rates_append_fields(x, out);
}
