// SPDX-License-Identifier: Apache-2.0
// `usage reprice`: what rows cost by the catalogue in force, as corrections behind them.
#include "budgets.h"

#include "admin/contracts.h"
#include "domain/catalogue.h"
#include "domain/model_rule.h"
#include "store/price_store.h"
#include "store/usage_counted.h"
#include "store/usage_writer.h"

#define BATCH 5000 // rows of one look, and corrections of one transaction at most: some 0.1 s

struct correction {
    int64_t usage_id, started_at_ms, key_id, provider_id;
    int64_t before_nano_usd, cost_nano_usd;
    char team[CH_NAME_MAX + 1], project[CH_NAME_MAX + 1];
};

struct reprice {
    struct ch_admin *admin;
    const struct ch_catalogue *catalogue;
    struct ch_usage_span span;
    bool is_dry;
    char model[CH_MODEL_NAME_MAX + 1];
    // of the batch
    struct correction corrections[BATCH];
    size_t count, seen;
    // of all
    int64_t rows, corrected, unpriced, kept;
    int64_t before_nano_usd, after_nano_usd;
};

static int64_t add_saturated(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

// As settlement does: by the model that was served, else by the one that was sent.
static const struct ch_price *find_price(const struct reprice *reprice,
                                         const struct ch_usage_counted *row)
{
    const struct ch_price_query query = {
        .prefix = ch_span_of(ch_provider_price_prefix(row->provider_type, row->base_url)),
        .provider_id = row->provider_id,
        .at_ms = row->started_at_ms,
    };
    const struct ch_span models[] = {row->model_served, row->model_sent};
    const struct ch_price *price = NULL;
    for (int i = 0; i < 2 && !price; i++) {
        struct ch_span model = models[i];
        if (ch_span_starts(model, CH_SPAN("models/")))
            model = ch_span_sub(model, 7);
        if (model.len)
            price = ch_catalogue_find_for(reprice->catalogue, &query, model, &row->usage);
    }
    return price;
}

// Rows of an older version hold tokens only: what was billed by images, seconds or characters then
// cannot be recomputed.
static bool counts_nothing(const struct ch_usage *usage)
{
    return !ch_usage_has_tokens(usage) && usage->searches == 0 && usage->audio_ms == 0 &&
           usage->characters == 0 && usage->images == 0;
}

static enum ch_err look_at_row(void *arg, const struct ch_usage_counted *row)
{
    struct reprice *reprice = arg;
    reprice->span.after_id = row->id;
    reprice->seen++;
    const struct ch_price *price = find_price(reprice, row);
    if (!price) {
        reprice->unpriced++;
        return CH_OK;
    }
    if (counts_nothing(&row->usage)) {
        reprice->kept++;
        return CH_OK;
    }
    int64_t cost =
        add_saturated(ch_price_cost(price, &row->usage).nano_usd, row->side_cost_nano_usd);
    if (row->is_priced && row->cost_nano_usd == cost)
        return CH_OK;
    CH_ASSERT(reprice->count < BATCH);
    struct correction *correction = &reprice->corrections[reprice->count++];
    *correction = (struct correction){.usage_id = row->id,
                                      .started_at_ms = row->started_at_ms,
                                      .key_id = row->key_id,
                                      .provider_id = row->provider_id,
                                      .before_nano_usd = row->cost_nano_usd,
                                      .cost_nano_usd = cost};
    ch_span_copy(row->team, correction->team, sizeof correction->team);
    ch_span_copy(row->project, correction->project, sizeof correction->project);
    reprice->before_nano_usd = add_saturated(reprice->before_nano_usd, row->cost_nano_usd);
    reprice->after_nano_usd = add_saturated(reprice->after_nano_usd, cost);
    return CH_OK;
}

static enum ch_err read_batch(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct reprice *reprice = arg;
    return ch_usage_counted_each(db, &reprice->span, look_at_row, reprice, why);
}

static enum ch_err correct_batch(struct ch_db *db, void *arg, struct ch_why *why)
{
    const struct reprice *reprice = arg;
    const char *version = ch_catalogue_version(reprice->catalogue);
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < reprice->count && !err; i++)
        err = ch_usage_correct(db, reprice->corrections[i].usage_id,
                               reprice->corrections[i].cost_nano_usd, version, why);
    return err;
}

// The counters of the budgets in force, once the rows say the same.
static void correct_counters(struct reprice *reprice)
{
    for (size_t i = 0; i < reprice->count; i++) {
        const struct correction *c = &reprice->corrections[i];
        ch_registry_correct_spend(
            reprice->admin->registry,
            &(struct ch_spend_correction){.started_at_ms = c->started_at_ms,
                                          .key_id = c->key_id,
                                          .provider_id = c->provider_id,
                                          .team = ch_span_of(c->team),
                                          .project = ch_span_of(c->project),
                                          .difference_nano_usd =
                                              c->cost_nano_usd - c->before_nano_usd});
    }
}

static enum ch_err run_batch(struct reprice *reprice, struct ch_why *why)
{
    reprice->count = reprice->seen = 0;
    enum ch_err err = ch_store_read(reprice->admin->store, read_batch, reprice, why);
    if (!err && reprice->count && !reprice->is_dry)
        err = ch_route_write(reprice->admin, correct_batch, reprice, why);
    if (err)
        return err;
    if (!reprice->is_dry && reprice->admin->registry)
        correct_counters(reprice);
    reprice->rows += (int64_t)reprice->seen;
    reprice->corrected += (int64_t)reprice->count;
    return CH_OK;
}

static enum ch_err run(struct reprice *reprice, struct ch_why *why)
{
    struct ch_why reason = {""};
    enum ch_err err;
    ch_usage_writer_flush(reprice->admin->store);
    do
        err = run_batch(reprice, &reason);
    while (!err && reprice->seen == BATCH);
    return err ? ch_why_set(why, err,
                            "%lld rows were corrected, then: %.300s; what was corrected stays so, "
                            "repeat the command for the rest",
                            (long long)reprice->corrected, reason.text)
               : CH_OK;
}

static json_t *reprice_to_json(const struct reprice *reprice)
{
    json_t *json =
        json_pack("{s:s, s:s, s:b, s:I, s:I, s:I, s:I}", "schema", "chaperone.usage_reprice/1",
                  "catalogue", ch_catalogue_version(reprice->catalogue), "dry_run", reprice->is_dry,
                  "rows", (json_int_t)reprice->rows, "corrected", (json_int_t)reprice->corrected,
                  "unpriced", (json_int_t)reprice->unpriced, "kept", (json_int_t)reprice->kept);
    if (json && ch_put_money(json, "before", reprice->before_nano_usd) &&
        ch_put_money(json, "after", reprice->after_nano_usd) &&
        ch_put_money(json, "difference", reprice->after_nano_usd - reprice->before_nano_usd))
        return json;
    json_decref(json);
    return NULL;
}

static void read_reprice(struct ch_input *input, struct reprice *reprice)
{
    struct ch_usage_span *span = &reprice->span;
    const char *model = ch_input_text(input, "model", CH_MODEL_NAME_MAX);
    span->from_ms = ch_input_when(input, "from", CH_WHEN_BACK);
    span->to_ms = ch_input_when(input, "to", CH_WHEN_BACK);
    span->limit = BATCH;
    reprice->is_dry = ch_input_bool(input, "dry_run", false);
    if (!span->from_ms)
        ch_input_fail(input, "--from is missing: since when rows are to be priced anew");
    if (span->to_ms && span->from_ms >= span->to_ms)
        ch_input_fail(input, "--from must lie before --to");
    if (model)
        ch_span_copy(ch_span_of(model), reprice->model, sizeof reprice->model);
    span->model = model ? reprice->model : NULL;
}

static enum ch_err reprice_with(struct ch_admin *admin, struct reprice *reprice,
                                json_t **result_out, struct ch_why *why)
{
    struct ch_catalogue *applied = NULL;
    reprice->catalogue = ch_admin_catalogue(admin);
    // Direct mode may have changed contract prices since it was opened.
    enum ch_err err = admin->registry
                          ? CH_OK
                          : ch_contracts_apply(admin->store, reprice->catalogue, &applied, why);
    if (applied)
        reprice->catalogue = applied;
    if (!err)
        err = run(reprice, why);
    if (!err)
        err = ch_route_give(reprice_to_json(reprice), result_out, why);
    ch_catalogue_free(applied);
    return err;
}

enum ch_err ch_route_usage_reprice(struct ch_admin *admin, const json_t *arguments,
                                   json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct reprice *reprice = ch_zcalloc(1, sizeof *reprice);
    if (!reprice)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    reprice->admin = admin;
    ch_input_init(&input, arguments, why);
    read_reprice(&input, reprice);
    enum ch_err err = input.err ? input.err : reprice_with(admin, reprice, result_out, why);
    ch_zfree(reprice);
    return err;
}
