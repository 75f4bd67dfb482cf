// SPDX-License-Identifier: Apache-2.0
#include "domain/estimate.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct ch_span no_prefix = {"", 0};
static struct ch_catalogue *shipped; // conf/prices.json

// ---- Prices and numbers

static int load_shipped(void **state)
{
    (void)state;
    char bytes[65536];
    struct ch_buf text;
    struct ch_why why = {""};
    size_t got;
    FILE *file = fopen(CH_SOURCE_DIR "/conf/prices.json", "rb");
    if (!file)
        return 1;
    ch_buf_init(&text, CH_CATALOGUE_MAX_BYTES);
    enum ch_err err = CH_OK;
    while (!err && (got = fread(bytes, 1, sizeof bytes, file)) > 0)
        err = ch_buf_append(&text, bytes, got);
    fclose(file);
    if (!err)
        err = ch_catalogue_load(ch_buf_span(&text), &shipped, &why);
    ch_buf_fini(&text);
    return err != CH_OK;
}

static int free_shipped(void **state)
{
    (void)state;
    ch_catalogue_free(shipped);
    return 0;
}

static struct ch_catalogue *must_load(const char *members)
{
    struct ch_buf text;
    struct ch_why why = {""};
    struct ch_catalogue *catalogue;
    ch_buf_init(&text, 65536);
    assert_int_equal(ch_buf_append_format(&text,
                                          "{\"schema\":\"chaperone.prices/1\","
                                          "\"date\":\"2026-08-01\",\"models\":{\"m\":{%s}}}",
                                          members),
                     CH_OK);
    if (ch_catalogue_load(ch_buf_span(&text), &catalogue, &why))
        fail_msg("%s", why.text);
    ch_buf_fini(&text);
    return catalogue;
}

static struct ch_price_bound bound_of(const struct ch_catalogue *catalogue, const char *model)
{
    struct ch_price_bound bound;
    const struct ch_price *price = ch_catalogue_find(catalogue, no_prefix, ch_span_of(model));
    assert_non_null(price);
    assert_int_equal(ch_price_bound_init(&bound, price), CH_OK);
    return bound;
}

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static int64_t random_below(uint64_t *seed, int64_t below)
{
    return (int64_t)(random_next(seed) % (uint64_t)below);
}

// From all orders of magnitude below 2^bits.
static int64_t random_size(uint64_t *seed, int bits)
{
    return (int64_t)(random_next(seed) >> 1 >> (63 - random_below(seed, bits + 1)));
}

static struct ch_estimate_request plain_request(void)
{
    return (struct ch_estimate_request){.key_id = 1,
                                        .model = ch_learned_model(CH_SPAN("m")),
                                        .body_bytes = 4000,
                                        .max_output_tokens = 500,
                                        .choices = 1,
                                        .tier = ch_tier_request_parse(CH_SPAN("default"))};
}

static struct ch_estimate estimate(const struct ch_estimate_request *request,
                                   const struct ch_price_bound *bound,
                                   const struct ch_learned *learned)
{
    struct ch_estimate made;
    ch_estimate_make(request, bound, learned, &made);
    return made;
}

static struct ch_learned *new_learned(void)
{
    struct ch_learned *learned;
    assert_int_equal(ch_learned_new(&learned), CH_OK);
    return learned;
}

static struct ch_learned_sample sample_of(const struct ch_estimate_request *request,
                                          int64_t input_tokens, int64_t output_tokens)
{
    return (struct ch_learned_sample){.key_id = request->key_id,
                                      .model = request->model,
                                      .body_bytes = request->body_bytes,
                                      .choices = request->choices,
                                      .input_tokens = input_tokens,
                                      .output_tokens = output_tokens};
}

// ---- Tokens

static void tokens_without_history(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        int64_t bytes;
        bool refers, tools;
        int64_t asked, choices, max_input, max_output;
        int64_t worst_input, worst_output, likely_input, likely_output;
    } cases[] = {
        {"plain", 4000, 0, 0, 500, 1, 0, 0, 4000, 500, 1000, 500},
        {"a byte is a token at most", 3, 0, 0, 500, 1, 0, 0, 3, 500, 1, 500},
        {"no body", 0, 0, 0, 500, 1, 0, 0, 0, 500, 0, 500},
        {"a negative size is none", -5, 0, 0, 500, 1, 0, 0, 0, 500, 0, 500},
        {"asked for more than the model gives", 4, 0, 0, 9000, 1, 0, 4096, 4, 4096, 1, 1024},
        {"asked for less", 4, 0, 0, 90, 1, 0, 4096, 4, 90, 1, 90},
        {"nothing asked, model known", 4, 0, 0, -1, 1, 0, 4096, 4, 4096, 1, 1024},
        {"nothing asked, small model", 4, 0, 0, -1, 1, 0, 256, 4, 256, 1, 256},
        {"nothing asked, model unknown", 4, 0, 0, -1, 1, 0, 0, 4, 131072, 1, 1024},
        {"asked for much, model unknown", 4, 0, 0, 999999, 1, 0, 0, 4, 999999, 1, 1024},
        {"no output", 4, 0, 0, 0, 1, 0, 4096, 4, 0, 1, 0},
        {"choices", 4, 0, 0, 2000, 3, 0, 0, 4, 6000, 1, 3072},
        {"choices below one", 4, 0, 0, 2000, 0, 0, 0, 4, 2000, 1, 1024},
        {"content elsewhere, model known", 400, 1, 0, 5, 1, 8192, 0, 8192, 5, 100, 5},
        {"content elsewhere, larger body", 40000, 1, 0, 5, 1, 8192, 0, 40000, 5, 10000, 5},
        {"content elsewhere, model unknown", 400, 1, 0, 5, 1, 0, 0, 2097152, 5, 100, 5},
        {"a context is no bound of bytes", 40000, 0, 0, 5, 1, 8192, 0, 40000, 5, 10000, 5},
        {"tools", 400, 0, 1, 5, 1, 8192, 0, 2960, 5, 100, 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_estimate_request r = plain_request();
        r.body_bytes = cases[i].bytes;
        r.refers_to_content = cases[i].refers;
        r.has_tools = cases[i].tools;
        r.max_output_tokens = cases[i].asked;
        r.choices = cases[i].choices;
        r.model_max_input = cases[i].max_input;
        r.model_max_output = cases[i].max_output;
        struct ch_estimate e = estimate(&r, NULL, NULL);
        const int64_t got[] = {ch_usage_total_input(&e.worst), ch_usage_total_output(&e.worst),
                               ch_usage_total_input(&e.likely), ch_usage_total_output(&e.likely)};
        if (memcmp(got, &cases[i].worst_input, sizeof got) != 0)
            fail_msg("%s: %lld %lld %lld %lld", cases[i].what, (long long)got[0], (long long)got[1],
                     (long long)got[2], (long long)got[3]);
        assert_int_equal(e.cost.worst_nano_usd, 0); // no price
        assert_int_equal(e.cost.likely_nano_usd, 0);
    }
}

static void sizes_saturate(void **state)
{
    (void)state;
    struct ch_estimate_request r = plain_request();
    struct ch_price_bound bound = bound_of(shipped, "gpt-4o");
    r.body_bytes = r.max_output_tokens = r.choices = r.searches = INT64_MAX;
    r.has_tools = r.refers_to_content = true;
    struct ch_estimate e = estimate(&r, &bound, NULL);
    assert_true(ch_usage_total_input(&e.worst) == INT64_MAX);
    assert_true(ch_usage_total_output(&e.worst) == INT64_MAX);
    assert_true(ch_usage_total_input(&e.likely) == INT64_MAX / 65536);
    assert_true(e.cost.worst_nano_usd == INT64_MAX);
    assert_true(e.cost.likely_nano_usd == INT64_MAX);
}

// ---- Money

static void usual_prices(void **state)
{
    (void)state;
    struct ch_estimate_request r = plain_request();
    struct ch_price_bound bound = bound_of(shipped, "gpt-4o");
    struct ch_estimate e = estimate(&r, &bound, NULL);
    // 4,000 × 2.5e-6 + 500 × 1e-5, and 1,000 × 2.5e-6 + 500 × 1e-5
    assert_int_equal(e.cost.worst_nano_usd, 15000000);
    assert_int_equal(e.cost.likely_nano_usd, 7500000);
    assert_int_equal(ch_price_cost(bound.price, &e.worst).nano_usd, e.cost.worst_nano_usd);
    assert_int_equal(ch_price_cost(bound.price, &e.likely).nano_usd, e.cost.likely_nano_usd);
    assert_false(ch_price_cost(bound.price, &e.worst).fallback);
}

static void worst_takes_the_dearest_classes_the_price_has(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        int64_t worst; // of 4,000 and 500 tokens
        enum ch_token_class input, output;
    } cases[] = {
        {"claude-opus-5", 4000 * 10000 + 500 * 25000, CH_TOKENS_CACHE_WRITE_1H, CH_TOKENS_OUTPUT},
        {"gpt-5.6-terra", 4000 * 2500 + 500 * 12000, CH_TOKENS_CACHE_WRITE_5M, CH_TOKENS_OUTPUT},
        {"gpt-realtime", 4000 * 32000 + 500 * 64000, CH_TOKENS_AUDIO_IN, CH_TOKENS_AUDIO_OUT},
        {"gpt-image-1.5", 4000 * 8000 + 500 * 32000, CH_TOKENS_IMAGE_IN, CH_TOKENS_IMAGE_OUT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_estimate_request r = plain_request();
        struct ch_price_bound bound = bound_of(shipped, cases[i].model);
        struct ch_estimate e = estimate(&r, &bound, NULL);
        if (e.cost.worst_nano_usd != cases[i].worst || e.worst.tokens[cases[i].input] != 4000 ||
            e.worst.tokens[cases[i].output] != 500)
            fail_msg("%s: %lld", cases[i].model, (long long)e.cost.worst_nano_usd);
        assert_int_equal(e.likely.tokens[CH_TOKENS_INPUT], 1000);
        assert_int_equal(e.likely.tokens[CH_TOKENS_OUTPUT], 500);
    }
}

// Parts of a class can have prices of their own, video here.
static void worst_takes_the_dearest_part_too(void **state)
{
    (void)state;
    struct ch_estimate_request r = plain_request();
    struct ch_price_bound bound = bound_of(shipped, "gemini/gemini-omni-flash-preview");
    struct ch_estimate e = estimate(&r, &bound, NULL);
    assert_int_equal(e.worst.tokens[CH_TOKENS_IMAGE_OUT], 500);
    assert_int_equal(e.worst.parts[CH_PART_VIDEO_OUT], 500);
    assert_int_equal(e.cost.worst_nano_usd, 4000 * 1500 + 500 * 17500);
}

static void tiers_are_those_the_request_allows(void **state)
{
    (void)state;
    // plain 1 and 2, flex half, priority threefold: USD per million tokens
    struct ch_catalogue *c = must_load("\"input_cost_per_token\":\"0.000001\","
                                       "\"output_cost_per_token\":\"0.000002\","
                                       "\"input_cost_per_token_flex\":\"0.0000005\","
                                       "\"output_cost_per_token_flex\":\"0.000001\","
                                       "\"input_cost_per_token_priority\":\"0.000003\","
                                       "\"output_cost_per_token_priority\":\"0.000006\"");
    struct ch_price_bound bound = bound_of(c, "m");
    static const struct {
        const char *service_tier;
        int64_t worst, likely; // of 4,000 or 1,000, and 500 tokens
    } cases[] = {
        {"", 15000000, 2000000},          {"auto", 15000000, 2000000},
        {"default", 5000000, 2000000},    {"standard_only", 5000000, 2000000},
        {"flex", 5000000, 1000000},       {"priority", 15000000, 6000000},
        {"Priority", 15000000, 6000000},  {"fast", 15000000, 6000000},
        {"batch", 5000000, 2000000},      {"something-new", 15000000, 2000000},
        {"ultrafast", 15000000, 2000000}, {"scale", 5000000, 2000000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_estimate_request r = plain_request();
        r.tier = ch_tier_request_parse(ch_span_of(cases[i].service_tier));
        struct ch_estimate e = estimate(&r, &bound, NULL);
        if (e.cost.worst_nano_usd != cases[i].worst || e.cost.likely_nano_usd != cases[i].likely)
            fail_msg("\"%s\": %lld %lld", cases[i].service_tier, (long long)e.cost.worst_nano_usd,
                     (long long)e.cost.likely_nano_usd);
    }
    ch_catalogue_free(c);
}

// The plain price above 272k may be lower than the priority price below it, and the provider may
// count fewer tokens than there are bytes.
static void a_lower_size_may_be_the_dearer_one(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load("\"input_cost_per_token\":\"0.000001\","
                                       "\"input_cost_per_token_above_272k_tokens\":\"0.000002\","
                                       "\"input_cost_per_token_priority\":\"0.000003\","
                                       "\"output_cost_per_token\":\"0.000002\"");
    struct ch_price_bound bound = bound_of(c, "m");
    assert_int_equal(bound.count, 3);
    struct ch_estimate_request r = plain_request();
    r.max_output_tokens = 0;
    r.body_bytes = 300000;
    assert_int_equal(estimate(&r, &bound, NULL).cost.worst_nano_usd, 600000000);
    r.body_bytes = 271999;
    assert_int_equal(estimate(&r, &bound, NULL).cost.worst_nano_usd, 271999000);
    r.tier = ch_tier_request_parse(CH_SPAN("auto"));
    r.body_bytes = 300000;
    assert_int_equal(estimate(&r, &bound, NULL).cost.worst_nano_usd, 900000000);
    ch_catalogue_free(c);
}

static void multipliers_and_searches_count(void **state)
{
    (void)state;
    struct ch_estimate_request r = plain_request();
    struct ch_price_bound bound = bound_of(shipped, "claude-opus-5");
    int64_t plain = estimate(&r, &bound, NULL).cost.worst_nano_usd;
    r.us_region = true;
    assert_int_equal(estimate(&r, &bound, NULL).cost.worst_nano_usd, plain * 11 / 10);
    r.us_region = false;
    r.searches = 3; // 0.01 USD each
    struct ch_estimate e = estimate(&r, &bound, NULL);
    assert_int_equal(e.cost.worst_nano_usd, plain + 30000000);
    assert_int_equal(e.likely.searches, 1);
    r.searches = -1;
    assert_int_equal(estimate(&r, &bound, NULL).cost.worst_nano_usd,
                     plain + CH_ESTIMATE_SEARCHES * 10000000);
}

static void thresholds_are_found_wherever_they_are(void **state)
{
    (void)state;
    struct ch_catalogue *c = must_load("\"input_cost_per_token\":\"0.000001\","
                                       "\"output_cost_per_token\":\"0.000002\","
                                       "\"input_cost_per_token_above_1k_tokens\":\"0.000002\","
                                       "\"input_cost_per_token_above_77k_tokens\":\"0.000003\","
                                       "\"input_cost_per_token_above_78k_tokens\":\"0.000004\","
                                       "\"input_cost_per_token_above_4000k_tokens\":\"0.000005\"");
    struct ch_price_bound bound = bound_of(c, "m");
    static const int64_t from[] = {0, 1000, 77000, 78000, 4000000};
    assert_int_equal(bound.count, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(bound.rows[i].from_tokens, from[i]);
        assert_int_equal(bound.rows[i].input_nano_per_mega, (i + 1) * CH_NANO_PER_USD);
    }
    ch_catalogue_free(c);
}

static void more_rows_than_fit_are_an_error(void **state)
{
    (void)state;
    char members[4096];
    size_t used =
        (size_t)snprintf(members, sizeof members, "\"input_cost_per_token\":\"0.000001\"");
    for (int i = 1; i <= CH_PRICE_BOUND_ROWS; i++)
        used += (size_t)snprintf(members + used, sizeof members - used,
                                 ",\"input_cost_per_token_above_%dk_tokens\":\"0.0001%02d\"", i, i);
    struct ch_catalogue *c = must_load(members);
    struct ch_price_bound bound;
    assert_int_equal(ch_price_bound_init(&bound, ch_catalogue_find(c, no_prefix, CH_SPAN("m"))),
                     CH_ERR_LIMIT);
    ch_catalogue_free(c);
}

// ---- Properties, over the shipped prices

// `part`: of that class, or -1.
static bool has_own_price(const struct ch_price *price, const struct ch_usage *usage, int class,
                          int part)
{
    struct ch_usage one = {.threshold_tokens = usage->threshold_tokens,
                           .tier = CH_TIER_STANDARD,
                           .stated_cost_nano = -1};
    one.tokens[class] = 1;
    if (part >= 0)
        one.parts[part] = 1;
    bool is_plain = !ch_price_cost(price, &one).fallback;
    one.tier = usage->tier;
    return is_plain || !ch_price_cost(price, &one).fallback;
}

// An exchange within the request's bounds, in classes that the price knows.
static struct ch_usage random_usage(uint64_t *seed, const struct ch_estimate_request *r,
                                    const struct ch_price *price, const struct ch_estimate *e)
{
    struct ch_usage usage = {.us_region = r->us_region,
                             .eu_region = r->eu_region,
                             .is_fast = r->is_fast,
                             .stated_cost_nano = -1};
    int64_t left_in = ch_usage_total_input(&e->worst) - random_below(seed, 3);
    int64_t left_out = ch_usage_total_output(&e->worst);
    do
        usage.tier = (enum ch_tier)random_below(seed, CH_TIERS);
    while (!(r->tier.allowed & 1u << usage.tier));
    if (random_next(seed) % 4 == 0)
        left_in = random_below(seed, left_in > 0 ? left_in : 1);
    left_in = left_in > 0 ? left_in : 0;
    usage.threshold_tokens = left_in;
    for (int class = CH_TOKEN_CLASSES - 1; class >= 0; class --) {
        int64_t *left = class >= CH_TOKENS_OUTPUT ? &left_out : &left_in;
        bool takes_all = class == CH_TOKENS_OUTPUT || class == CH_TOKENS_INPUT;
        if (!takes_all && (random_next(seed) % 3 == 0 || !has_own_price(price, &usage, class, -1)))
            continue;
        usage.tokens[class] = takes_all ? *left : random_size(seed, 40);
        usage.tokens[class] = usage.tokens[class] < *left ? usage.tokens[class] : *left;
        *left -= usage.tokens[class];
    }
    for (int part = 0; part < CH_TOKEN_PARTS; part++) {
        int class = (int)ch_token_part_class((enum ch_token_part)part);
        if (random_next(seed) % 2 && has_own_price(price, &usage, class, part))
            usage.parts[part] = usage.tokens[class];
    }
    return usage;
}

static struct ch_estimate_request random_request(uint64_t *seed)
{
    static const char *const tiers[] = {"", "auto", "default", "flex", "priority", "batch", "new"};
    return (struct ch_estimate_request){
        .key_id = random_below(seed, 3),
        .model = ch_learned_model(CH_SPAN("m")) + random_next(seed) % 3,
        .body_bytes = random_size(seed, 22),
        .refers_to_content = random_next(seed) % 8 == 0,
        .has_tools = random_next(seed) % 8 == 0,
        .max_output_tokens = random_size(seed, 18) - 1,
        .choices = 1 + random_below(seed, 3),
        .searches = random_below(seed, 3) - 1,
        .tier = ch_tier_request_parse(ch_span_of(tiers[random_below(seed, 7)])),
        .model_max_input = random_size(seed, 21),
        .model_max_output = random_size(seed, 18),
        .us_region = random_next(seed) % 4 == 0,
        .eu_region = random_next(seed) % 4 == 0,
        .is_fast = random_next(seed) % 4 == 0,
    };
}

struct property_run {
    uint64_t seed;
    struct ch_learned *learned;
    int models;
    size_t most_rows;
};

static void check_bounds_hold(struct property_run *run, const char *model,
                              const struct ch_price_bound *bound)
{
    struct ch_estimate_request r = random_request(&run->seed);
    struct ch_estimate e = estimate(&r, bound, run->learned);
    if (e.cost.likely_nano_usd > e.cost.worst_nano_usd || e.cost.likely_nano_usd < 0 ||
        ch_usage_total_input(&e.likely) > ch_usage_total_input(&e.worst) ||
        ch_usage_total_output(&e.likely) > ch_usage_total_output(&e.worst))
        fail_msg("%s: likely %lld is above worst %lld", model, (long long)e.cost.likely_nano_usd,
                 (long long)e.cost.worst_nano_usd);
    assert_int_equal(e.cost.likely_nano_usd, ch_price_cost(bound->price, &e.likely).nano_usd);
    struct ch_usage usage = random_usage(&run->seed, &r, bound->price, &e);
    int64_t cost = ch_price_cost(bound->price, &usage).nano_usd;
    if (cost > e.cost.worst_nano_usd)
        fail_msg("%s: an exchange costs %lld, its worst case %lld", model, (long long)cost,
                 (long long)e.cost.worst_nano_usd);
}

static void check_worst_is_monotone(struct property_run *run, const char *model,
                                    const struct ch_price_bound *bound)
{
    struct ch_estimate_request r = random_request(&run->seed), more = r;
    if (r.max_output_tokens < 0) // not the same as little
        r.max_output_tokens = more.max_output_tokens = 0;
    more.body_bytes += random_size(&run->seed, 20) * (random_next(&run->seed) % 2 == 0);
    more.max_output_tokens += random_size(&run->seed, 16) * (random_next(&run->seed) % 2 == 0);
    int64_t cost = estimate(&r, bound, run->learned).cost.worst_nano_usd;
    int64_t more_cost = estimate(&more, bound, run->learned).cost.worst_nano_usd;
    if (more_cost < cost)
        fail_msg("%s: %lld bytes and %lld tokens cost more than %lld and %lld", model,
                 (long long)r.body_bytes, (long long)r.max_output_tokens,
                 (long long)more.body_bytes, (long long)more.max_output_tokens);
}

#define ROUNDS_PER_MODEL 60

static void check_model(void *arg, const char *model, struct ch_span prices_json)
{
    struct property_run *run = arg;
    struct ch_price_bound bound = bound_of(shipped, model);
    (void)prices_json;
    for (int i = 0; i < ROUNDS_PER_MODEL; i++) {
        check_bounds_hold(run, model, &bound);
        check_worst_is_monotone(run, model, &bound);
    }
    run->models++;
    run->most_rows = bound.count > run->most_rows ? bound.count : run->most_rows;
}

static void bounds_hold_for_every_model(void **state)
{
    (void)state;
    struct property_run run = {.seed = 42, .learned = new_learned()};
    for (int i = 0; i < 2000; i++) {
        struct ch_estimate_request r = random_request(&run.seed);
        struct ch_learned_sample sample =
            sample_of(&r, random_size(&run.seed, 22), random_size(&run.seed, 18));
        ch_learned_observe(run.learned, &sample);
    }
    assert_int_equal(ch_catalogue_each(shipped, check_model, &run), CH_OK);
    ch_learned_free(run.learned);
    assert_true(run.models > 700);
    assert_true(run.most_rows > 2 && run.most_rows <= CH_PRICE_BOUND_ROWS / 2);
}

// ---- Learning

static int64_t likely_output(const struct ch_estimate_request *r, const struct ch_learned *learned)
{
    struct ch_estimate e = estimate(r, NULL, learned);
    return ch_usage_total_output(&e.likely);
}

static int64_t likely_input(const struct ch_estimate_request *r, const struct ch_learned *learned)
{
    struct ch_estimate e = estimate(r, NULL, learned);
    return ch_usage_total_input(&e.likely);
}

static struct ch_estimate_request open_request(void)
{
    struct ch_estimate_request r = plain_request();
    r.max_output_tokens = -1;
    return r;
}

static void observe(struct ch_learned *learned, const struct ch_estimate_request *r, int times,
                    int64_t input_tokens, int64_t output_tokens)
{
    struct ch_learned_sample sample = sample_of(r, input_tokens, output_tokens);
    for (int i = 0; i < times; i++)
        ch_learned_observe(learned, &sample);
}

static void output_is_learned_by_key_then_by_model(void **state)
{
    (void)state;
    struct ch_learned *learned = new_learned();
    struct ch_estimate_request r = open_request(), other_key = r, other_model = r;
    other_key.key_id = 2;
    other_model.model = ch_learned_model(CH_SPAN("another"));
    observe(learned, &r, 15, 1000, 100);
    assert_int_equal(likely_output(&r, learned), CH_ESTIMATE_LIKELY_OUTPUT); // too few
    observe(learned, &r, 1, 1000, 100);
    assert_int_equal(likely_output(&r, learned), 111); // the bucket 96–111
    assert_int_equal(likely_output(&other_key, learned), 111);
    assert_int_equal(likely_output(&other_model, learned), CH_ESTIMATE_LIKELY_OUTPUT);
    observe(learned, &other_key, 16, 1000, 3000);
    assert_int_equal(likely_output(&other_key, learned), 3071);
    assert_int_equal(likely_output(&r, learned), 111);
    r.max_output_tokens = 50; // the request bounds it
    assert_int_equal(likely_output(&r, learned), 50);
    ch_learned_free(learned);
}

static void output_is_learned_per_choice(void **state)
{
    (void)state;
    struct ch_learned *learned = new_learned();
    struct ch_estimate_request r = open_request();
    r.choices = 4;
    observe(learned, &r, 20, 1000, 397); // 100 each, rounded up
    assert_int_equal(likely_output(&r, learned), 4 * 111);
    r.choices = 1;
    assert_int_equal(likely_output(&r, learned), 111);
    ch_learned_free(learned);
}

static void sizes_past_the_last_bucket_are_the_worst_case(void **state)
{
    (void)state;
    struct ch_learned *learned = new_learned();
    struct ch_estimate_request r = open_request();
    r.model_max_output = 400000;
    observe(learned, &r, 20, 1000, 114687);
    assert_int_equal(likely_output(&r, learned), 114687);
    observe(learned, &r, 20, 1000, 114688);
    assert_int_equal(likely_output(&r, learned), 400000);
    observe(learned, &r, 20, 1000, INT64_MAX);
    assert_int_equal(likely_output(&r, learned), 400000);
    ch_learned_free(learned);
}

static int compare_sizes(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

#define SAMPLES 960 // all are kept: fewer than a window

static void p95_is_within_one_bucket(void **state)
{
    (void)state;
    uint64_t seed = 5;
    for (int bits = 1; bits <= 16; bits++) {
        struct ch_learned *learned = new_learned();
        struct ch_estimate_request r = open_request();
        int64_t sizes[SAMPLES];
        for (int i = 0; i < SAMPLES; i++) {
            sizes[i] = bits % 2 ? random_size(&seed, bits) : random_below(&seed, 1 << bits);
            observe(learned, &r, 1, 1000, sizes[i]);
        }
        qsort(sizes, SAMPLES, sizeof *sizes, compare_sizes);
        int64_t p95 = sizes[SAMPLES * 95 / 100 - 1], got = likely_output(&r, learned);
        if (got < p95 || got > p95 + p95 / 4) // a bucket is a quarter of its lower bound wide
            fail_msg("%d bits: p95 is %lld, learned %lld", bits, (long long)p95, (long long)got);
        ch_learned_free(learned);
    }
}

static void old_sizes_are_forgotten(void **state)
{
    (void)state;
    struct ch_learned *learned = new_learned();
    struct ch_estimate_request r = open_request();
    observe(learned, &r, 100000, 1000, 50000);
    assert_int_equal(likely_output(&r, learned), 57343);
    observe(learned, &r, 3000, 1000, 20); // a few windows
    assert_int_equal(likely_output(&r, learned), 23);
    observe(learned, &r, 1, 1000, 50000); // and one outlier is not one in twenty
    assert_int_equal(likely_output(&r, learned), 23);
    ch_learned_free(learned);
}

static void input_follows_the_ratio_of_the_model(void **state)
{
    (void)state;
    struct ch_learned *learned = new_learned();
    struct ch_estimate_request r = open_request(), other_key = r;
    other_key.key_id = 2;
    assert_int_equal(likely_input(&r, learned), 1000);
    observe(learned, &r, 1, 2000, 10); // half a token per byte: a sixteenth of the way there
    assert_in_range(likely_input(&r, learned), 1062, 1063);
    observe(learned, &r, 200, 2000, 10);
    assert_in_range(likely_input(&r, learned), 1990, 2000);
    assert_in_range(likely_input(&other_key, learned), 1990, 2000);
    observe(learned, &r, 300, 9000000, 10); // more tokens than bytes are none of its bytes
    assert_in_range(likely_input(&r, learned), 3990, 4000);
    observe(learned, &r, 300, 0, 10);
    assert_in_range(likely_input(&r, learned), 62, 64);
    ch_learned_free(learned);
}

static void bytes_that_name_content_teach_nothing(void **state)
{
    (void)state;
    struct ch_learned *learned = new_learned();
    struct ch_estimate_request r = open_request();
    struct ch_learned_sample sample = sample_of(&r, 100000, 100);
    sample.refers_to_content = true;
    for (int i = 0; i < 100; i++)
        ch_learned_observe(learned, &sample);
    assert_int_equal(likely_input(&r, learned), 1000);
    assert_int_equal(likely_output(&r, learned), 111); // but about the output they do
    ch_learned_free(learned);
}

static void senseless_samples_are_dropped(void **state)
{
    (void)state;
    struct ch_learned *learned = new_learned();
    struct ch_estimate_request r = open_request();
    for (int i = 0; i < 100; i++) {
        struct ch_learned_sample sample = sample_of(&r, 1000, 100);
        sample.body_bytes = i % 3 == 0 ? 0 : sample.body_bytes;
        sample.input_tokens = i % 3 == 1 ? -1 : sample.input_tokens;
        sample.output_tokens = i % 3 == 2 ? -1 : sample.output_tokens;
        ch_learned_observe(learned, &sample);
    }
    assert_int_equal(likely_output(&r, learned), CH_ESTIMATE_LIKELY_OUTPUT);
    ch_learned_free(learned);
}

static void a_full_table_falls_back(void **state)
{
    (void)state;
    struct ch_learned *learned = new_learned();
    struct ch_estimate_request r = open_request();
    char name[24];
    int own = 0;
    for (int i = 0; i < 3 * CH_LEARNED_PAIRS; i++) {
        r.key_id = i;
        observe(learned, &r, 16, 1000, 10);
    }
    observe(learned, &r, 2000, 1000, 2000); // now the model has 2,047 as its p95
    for (r.key_id = 0; r.key_id < 3 * CH_LEARNED_PAIRS; r.key_id++) {
        int64_t output = likely_output(&r, learned);
        assert_true(output == 11 || output == 2047);
        own += output == 11;
    }
    assert_in_range(own, CH_LEARNED_PAIRS * 3 / 4, CH_LEARNED_PAIRS);
    r.key_id = 3 * CH_LEARNED_PAIRS + 1;
    own = 0;
    for (int i = 0; i < 3 * CH_LEARNED_MODELS; i++) {
        snprintf(name, sizeof name, "model-%d", i);
        r.model = ch_learned_model(ch_span_of(name));
        observe(learned, &r, 16, 1000, 10);
        int64_t output = likely_output(&r, learned);
        assert_true(output == 11 || output == CH_ESTIMATE_LIKELY_OUTPUT);
        own += output == 11;
    }
    assert_in_range(own, CH_LEARNED_MODELS * 3 / 4, 3 * CH_LEARNED_MODELS - 1);
    ch_learned_free(learned);
}

static void the_table_has_the_size_it_says(void **state)
{
    (void)state;
    assert_in_range(ch_learned_bytes(), 660000, 670000); // "about 666 KB"
}

static void models_have_different_names(void **state)
{
    (void)state;
    assert_true(ch_learned_model(CH_SPAN("gpt-4o")) != ch_learned_model(CH_SPAN("gpt-4o-mini")));
    assert_true(ch_learned_model(CH_SPAN("gpt-4o")) == ch_learned_model(CH_SPAN("gpt-4o")));
    assert_true(ch_learned_model((struct ch_span){NULL, 0}) != 0);
}

// ---- Threads

#define THREADS 4
#define STEPS   40000

struct worker {
    struct ch_learned *learned;
    uint64_t seed;
    int64_t wrong;
};

// Outputs are 100 or 1,000 tokens, one in two; so a p95 is 1,023 or, before anything is known, the
// default. Few keys, so that all threads meet in the same places; many, so that they claim at once.
static void *work(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < STEPS; i++) {
        struct ch_estimate_request r = open_request();
        r.key_id = random_below(&w->seed, i % 2 ? 3 : 2 * CH_LEARNED_PAIRS);
        observe(w->learned, &r, 1, 2000, random_next(&w->seed) % 2 ? 100 : 1000);
        int64_t output = likely_output(&r, w->learned), input = likely_input(&r, w->learned);
        bool is_output = output == 1023 || output == 111 || output == CH_ESTIMATE_LIKELY_OUTPUT;
        w->wrong += !is_output || input < 1000 || input > 2000;
    }
    return NULL;
}

static void threads_learn_together(void **state)
{
    (void)state;
    struct ch_learned *learned = new_learned();
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){learned, (uint64_t)i + 99, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].wrong, 0);
    }
    struct ch_estimate_request r = open_request();
    for (r.key_id = 0; r.key_id < 3; r.key_id++)
        assert_int_equal(likely_output(&r, learned), 1023);
    observe(learned, &r, 3000, 2000, 10); // the counters still turn over
    assert_int_equal(likely_output(&r, learned), 11);
    ch_learned_free(learned);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_without_history),
        cmocka_unit_test(sizes_saturate),
        cmocka_unit_test(usual_prices),
        cmocka_unit_test(worst_takes_the_dearest_classes_the_price_has),
        cmocka_unit_test(worst_takes_the_dearest_part_too),
        cmocka_unit_test(tiers_are_those_the_request_allows),
        cmocka_unit_test(a_lower_size_may_be_the_dearer_one),
        cmocka_unit_test(multipliers_and_searches_count),
        cmocka_unit_test(thresholds_are_found_wherever_they_are),
        cmocka_unit_test(more_rows_than_fit_are_an_error),
        cmocka_unit_test(bounds_hold_for_every_model),
        cmocka_unit_test(output_is_learned_by_key_then_by_model),
        cmocka_unit_test(output_is_learned_per_choice),
        cmocka_unit_test(sizes_past_the_last_bucket_are_the_worst_case),
        cmocka_unit_test(p95_is_within_one_bucket),
        cmocka_unit_test(old_sizes_are_forgotten),
        cmocka_unit_test(input_follows_the_ratio_of_the_model),
        cmocka_unit_test(bytes_that_name_content_teach_nothing),
        cmocka_unit_test(senseless_samples_are_dropped),
        cmocka_unit_test(a_full_table_falls_back),
        cmocka_unit_test(the_table_has_the_size_it_says),
        cmocka_unit_test(models_have_different_names),
        cmocka_unit_test(threads_learn_together),
    };
    return cmocka_run_group_tests(tests, load_shipped, free_shipped);
}
