// SPDX-License-Identifier: Apache-2.0
#include "proxy/explain.h"

#include "shared.h"

#include <stdarg.h>
#include <stdio.h>

__attribute__((format(printf, 5, 6))) static void add_step(struct ch_explanation *e,
                                                           const char *rule, const char *code,
                                                           bool is_shadow, const char *format, ...)
{
    va_list arguments;
    if (code && !is_shadow)
        e->is_allowed = false;
    if (e->step_count == CH_EXPLAIN_STEPS)
        return;
    struct ch_explain_step *step = &e->steps[e->step_count++];
    *step = (struct ch_explain_step){.rule = rule, .code = code, .is_shadow = is_shadow};
    va_start(arguments, format);
    vsnprintf(step->text, sizeof step->text, format, arguments);
    va_end(arguments);
}

// ---- the steps, in the gate's order

static void explain_key(struct ch_explanation *e, const struct key_record *key)
{
    bool is_expired = key->expires_at_ms && ch_clock_wall_ms() >= key->expires_at_ms;
    if (key->status != CH_KEY_ACTIVE)
        add_step(e, "key", "invalid_api_key", false, "The key is %s.",
                 ch_key_status_name((enum ch_key_status)key->status));
    else if (is_expired)
        add_step(e, "key", "invalid_api_key", false, "The key has expired.");
    else
        add_step(e, "key", NULL, false, "The key is active.");
}

// The first of the key's providers that is enabled, as no path says which dialect is meant; one
// that has a price for the model goes before one that has none.
static const struct provider_record *choose_provider(const struct ch_registry *registry,
                                                     const struct key_record *key,
                                                     struct ch_span model)
{
    const struct provider_record *first = NULL;
    for (unsigned i = 0; i < key->provider_count; i++) {
        const struct provider_record *provider =
            registry_provider(registry, key_record_provider(key, i));
        if (!provider || !provider->enabled)
            continue;
        if (!first)
            first = provider;
        const struct ch_price_query query = {.prefix = provider->price_prefix,
                                             .provider_id = provider->row.id,
                                             .at_ms = ch_clock_wall_ms()};
        if (ch_catalogue_find_for(ch_registry_catalogue(registry), &query, model, NULL))
            return provider;
    }
    return first;
}

static void explain_provider(struct ch_explanation *e, const struct provider_record *provider)
{
    if (!provider) {
        add_step(e, "provider", "invalid_api_key", false,
                 "None of the key's providers is there and enabled.");
        return;
    }
    e->provider_id = provider->row.id;
    add_step(e, "provider", NULL, false, "Provider %s serves it.", provider->row.name);
}

static void explain_model(struct ch_explanation *e, const struct key_record *key,
                          struct ch_span asked, struct ch_span sent)
{
    static const char *const words[] = {[CH_MODEL_ALLOWED] = "is allowed",
                                        [CH_MODEL_NOT_ON_LIST] = "is not on the key's list",
                                        [CH_MODEL_DENIED] = "is denied by the key's list"};
    struct ch_span pattern = CH_SPAN("");
    struct ch_span deny = key->policy ? key->policy->deny_models : CH_SPAN("");
    bool is_shadow = key->policy && key->policy->models_are_shadow;
    if (!ch_span_eq(asked, sent))
        add_step(e, "model", NULL, false, "%.*s is mapped to %.*s.", CH_SPAN_ARG(asked),
                 CH_SPAN_ARG(sent));
    enum ch_model_decision decision =
        ch_model_rule_decide(key_record_models(key), deny, sent, &pattern);
    add_step(e, "model", decision == CH_MODEL_ALLOWED ? NULL : "model_not_allowed", is_shadow,
             "%.*s %s%s%.*s.", CH_SPAN_ARG(sent), words[decision], pattern.len ? ": " : "",
             CH_SPAN_ARG(pattern));
}

static void explain_price(struct ch_explanation *e, const struct ch_price *price,
                          const struct ch_unknown_model_rule *rule)
{
    e->is_priced = price || rule->choice == CH_UNKNOWN_MODEL_CEILING;
    if (price)
        add_step(e, "price", NULL, false, "Priced as %s%s.", ch_price_model(price),
                 ch_price_is_contract(price) ? " by a contract price" : "");
    else
        add_step(e, "price", rule->choice == CH_UNKNOWN_MODEL_DENY ? "model_unpriced" : NULL, false,
                 "The model has no price: %s.",
                 rule->choice == CH_UNKNOWN_MODEL_DENY      ? "refused"
                 : rule->choice == CH_UNKNOWN_MODEL_CEILING ? "charged by the ceiling price"
                                                            : "let through and marked");
}

// The tokens that were said take the place of the estimate's.
static void estimate(const struct ch_registry *registry, const struct ch_explain_request *request,
                     const struct key_record *key, const struct provider_record *provider,
                     const struct ch_price *price, const struct ch_unknown_model_rule *rule,
                     struct ch_estimate *estimate)
{
    struct ch_span model = request->model;
    struct ch_estimate_request ask = {
        .key_id = key->id,
        .model = ch_learned_model(model),
        .body_bytes = request->input_tokens > 0 ? request->input_tokens : 0,
        .max_output_tokens = request->output_tokens,
        .choices = 1,
        .tier = ch_tier_request_parse(CH_SPAN("")),
        .model_max_input = price ? ch_price_max_input_tokens(price) : 0,
        .model_max_output = price ? ch_price_max_output_tokens(price) : 0,
        .us_region = provider->us_region,
        .eu_region = provider->eu_region,
    };
    ch_estimate_make(&ask, price ? registry_price_bound(registry, price) : NULL,
                     registry_learned(registry), estimate);
    if (request->input_tokens >= 0) {
        estimate->likely.tokens[CH_TOKENS_INPUT] = request->input_tokens;
        estimate->likely.threshold_tokens = request->input_tokens;
    }
    if (request->output_tokens >= 0)
        estimate->likely.tokens[CH_TOKENS_OUTPUT] = request->output_tokens;
    if (price && (request->input_tokens >= 0 || request->output_tokens >= 0)) {
        estimate->cost.likely_nano_usd = ch_price_cost(price, &estimate->likely).nano_usd;
        if (estimate->cost.worst_nano_usd < estimate->cost.likely_nano_usd)
            estimate->cost.worst_nano_usd = estimate->cost.likely_nano_usd;
    }
    if (!price && rule->choice == CH_UNKNOWN_MODEL_CEILING)
        estimate->cost = (struct ch_budget_estimate){
            .worst_nano_usd = policy_ceiling_cost(rule, &estimate->worst),
            .likely_nano_usd = policy_ceiling_cost(rule, &estimate->likely)};
}

static void explain_budget(struct ch_explanation *e, const struct scope_budget *budget)
{
    struct ch_budget_view view = ch_budget_look(budget->budget, ch_clock_wall_ms());
    enum ch_budget_mode mode = atomic_load(&budget->mode);
    char cap[CH_MONEY_TEXT], spent[CH_MONEY_TEXT], reserved[CH_MONEY_TEXT], wanted[CH_MONEY_TEXT];
    int64_t amount = mode == CH_BUDGET_STRICT ? e->worst_nano_usd : e->likely_nano_usd;
    int64_t free = view.terms.cap_nano_usd - view.spent_nano_usd - view.reserved_nano_usd;
    ch_money_format(view.terms.cap_nano_usd, cap);
    ch_money_format(view.spent_nano_usd, spent);
    ch_money_format(view.reserved_nano_usd, reserved);
    ch_money_format(amount, wanted);
    bool is_refused = mode != CH_BUDGET_SOFT && amount > free;
    add_step(e, "budget", is_refused ? "budget_exceeded" : NULL, atomic_load(&budget->is_shadow),
             "%s %s, %s: $%s of $%s spent, $%s held, $%s needed.",
             ch_budget_scope_name(budget->scope), ch_budget_period_name(budget->period),
             ch_budget_mode_name(mode), spent, cap, reserved, wanted);
}

static void explain_rate(struct ch_explanation *e, const struct scope *scope,
                         const struct scope_terms *terms, enum ch_rate_kind kind, int64_t tokens)
{
    if (terms->limits.limit[kind] <= 0)
        return;
    struct ch_rate_view view =
        ch_rate_limit_look(&scope->counters, &terms->limits, kind, ch_clock_mono_ns());
    int64_t wanted = kind == CH_RATE_TOKENS ? tokens : 1;
    const char *code =
        kind == CH_RATE_IN_FLIGHT ? "concurrency_limit_exceeded" : "rate_limit_exceeded";
    add_step(e, "rate", wanted > view.remaining ? code : NULL, terms->limits_are_shadow,
             "%s %s: %lld of %lld left, %lld needed.", ch_budget_scope_name(scope->kind),
             ch_rate_kind_name(kind), (long long)view.remaining, (long long)view.limit,
             (long long)wanted);
}

static void explain_scopes(struct ch_explanation *e, struct scope *const *scopes, unsigned count,
                           int64_t tokens)
{
    for (unsigned i = 0; i < count; i++) {
        const struct scope_terms *terms = scope_terms(scopes[i]);
        for (unsigned b = 0; terms && b < terms->budget_count; b++)
            explain_budget(e, terms->budgets[b]);
    }
    for (unsigned i = 0; i < count; i++) {
        const struct scope_terms *terms = scope_terms(scopes[i]);
        for (int kind = 0; terms && kind < CH_RATE_KINDS; kind++)
            explain_rate(e, scopes[i], terms, (enum ch_rate_kind)kind, tokens);
    }
}

enum ch_err ch_registry_explain(const struct ch_registry *registry,
                                const struct ch_explain_request *request, struct ch_explanation *e)
{
    const struct key_record *key = registry_find(registry, request->public_id);
    struct ch_span sent = request->model;
    struct scope *scopes[SCOPES_MAX];
    struct ch_estimate guess = {0};
    if (!key)
        return CH_ERR_NOT_FOUND;
    *e = (struct ch_explanation){.is_allowed = true};
    explain_key(e, key);
    if (key->policy && key->policy->model_map.len)
        (void)ch_model_map_apply(key->policy->model_map, request->model, &sent);
    ch_span_copy(sent, e->model_sent, sizeof e->model_sent);
    const struct provider_record *provider = choose_provider(registry, key, sent);
    explain_provider(e, provider);
    explain_model(e, key, request->model, sent);
    if (!provider)
        return CH_OK;
    unsigned count = registry_scopes(registry, key, key->attribution, provider, scopes);
    const struct ch_price_query query = {.prefix = provider->price_prefix,
                                         .provider_id = provider->row.id,
                                         .at_ms = ch_clock_wall_ms()};
    const struct ch_price *price =
        ch_catalogue_find_for(ch_registry_catalogue(registry), &query, sent, NULL);
    struct ch_unknown_model_rule rule = policy_unknown_model(key, provider, scopes, count);
    explain_price(e, price, &rule);
    struct ch_explain_request ask = *request;
    ask.model = sent;
    estimate(registry, &ask, key, provider, price, &rule, &guess);
    e->likely_nano_usd = guess.cost.likely_nano_usd;
    e->worst_nano_usd = guess.cost.worst_nano_usd;
    explain_scopes(e, scopes, count, policy_all_tokens(&guess.likely));
    return CH_OK;
}
