// SPDX-License-Identifier: Apache-2.0
// Contract prices: `price set`, `price unset`, `price list --overrides`.
#include "input.h"
#include "routes.h"

#include "admin/contracts.h"
#include "base/clock.h"
#include "base/money.h"
#include "domain/model_rule.h"
#include "store/price_store.h"

#include <stdlib.h>

#define TOKENS_PER_MILLION INT64_C(1000000)
// Prices of a token are held to 1e-13 USD, so those of a million to seven decimals.
#define MILLION_STEP_FEMTO (CH_FEMTO_PER_USD / 10000000)
// The cheapest models cost ten times as much: below it, somebody typed the price of one token.
#define MILLION_MIN_FEMTO (CH_FEMTO_PER_USD / 1000)

static enum ch_err out_of_memory(struct ch_why *why)
{
    return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
}

// ---- showing

static json_t *contract_to_json(const struct ch_price_override_row *row)
{
    json_t *json =
        json_pack("{s:I, s:s, s:s, s:o, s:o}", "id", (json_int_t)row->id, "provider", row->provider,
                  "model", row->model, "from", ch_route_time(row->valid_from_ms), "created_at",
                  ch_route_time(row->created_at_ms));
    json_t *prices = json_loadb(row->prices_json.ptr, row->prices_json.len, 0, NULL);
    if (!json || !prices || json_object_update_missing(json, prices)) {
        json_decref(json);
        json = NULL;
    }
    json_decref(prices);
    return json;
}

static enum ch_err append_contract(void *arg, const struct ch_price_override_row *row)
{
    return json_array_append_new(arg, contract_to_json(row)) ? CH_ERR_NOMEM : CH_OK;
}

static enum ch_err list_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    return ch_price_override_each(db, append_contract, arg, why);
}

enum ch_err ch_contract_list(struct ch_admin *admin, json_t **result_out, struct ch_why *why)
{
    json_t *items = json_array();
    if (!items)
        return out_of_memory(why);
    enum ch_err err = admin->store ? ch_store_read(admin->store, list_in_store, items, why)
                                   : ch_why_set(why, CH_ERR_UNAVAILABLE, "the store is not open");
    if (err) {
        json_decref(items);
        return err;
    }
    return ch_route_give(json_pack("{s:s, s:s, s:o}", "schema", "chaperone.price_overrides/1",
                                   "catalogue", ch_catalogue_version(ch_admin_catalogue(admin)),
                                   "items", items),
                         result_out, why);
}

// ---- what both changes do

struct change_job {
    const struct ch_catalogue *base;
    struct ch_price_override_row row; // provider and model of both; the rest of `price set`
    bool has_from;
    json_int_t removed;
};

static void read_subject(struct ch_input *input, struct change_job *job)
{
    const char *model = ch_input_string(input, "model", true);
    const char *provider = ch_input_name(input, "provider", false);
    if (model && !ch_model_name_is_valid(ch_span_of(model)))
        ch_input_fail(input, "that is no name of a model");
    if (input->err)
        return;
    ch_span_copy(ch_span_of(model), job->row.model, sizeof job->row.model);
    ch_span_copy(ch_span_of(provider ? provider : ""), job->row.provider, sizeof job->row.provider);
    job->has_from = ch_input_has(input, "from");
    job->row.valid_from_ms = ch_input_when(input, "from", CH_WHEN_BACK);
}

// A set of contract prices that could not be put in force is not stored.
static enum ch_err prove(struct ch_db *db, const struct ch_catalogue *base, struct ch_why *why)
{
    struct ch_catalogue *catalogue;
    enum ch_err err = ch_contracts_apply_in(db, base, &catalogue, why);
    if (!err)
        ch_catalogue_free(catalogue);
    return err;
}

static enum ch_err put_in_force(struct ch_admin *admin, struct ch_why *why)
{
    struct ch_why reason = {""};
    struct ch_catalogue *catalogue;
    if (!admin->registry)
        return CH_OK;
    enum ch_err err =
        ch_contracts_apply(admin->store, ch_admin_catalogue(admin), &catalogue, &reason);
    if (err)
        return ch_why_set(why, err,
                          "the contract price is stored, but not yet in force (%.200s): restart "
                          "the daemon",
                          reason.text);
    ch_registry_set_catalogue(admin->registry, catalogue);
    return CH_OK;
}

// ---- set

static const struct {
    const char *member, *key;
} prices[] = {
    {"input", "input_cost_per_token"},
    {"output", "output_cost_per_token"},
    {"cache_read", "cache_read_input_token_cost"},
    {"cache_write", "cache_creation_input_token_cost"},
    {"cache_write_1h", "cache_creation_input_token_cost_above_1hr"},
    {"reasoning", "output_cost_per_reasoning_token"},
    {"audio_input", "input_cost_per_audio_token"},
    {"audio_output", "output_cost_per_audio_token"},
};
#define PRICES (sizeof prices / sizeof *prices)

// USD for a million tokens, as the catalogue's decimal for one.
static json_t *read_price(struct ch_input *input, const char *member)
{
    int64_t femto;
    char text[CH_MONEY_TEXT];
    const char *decimal = ch_input_string(input, member, false);
    if (!decimal)
        return NULL;
    if (ch_money_parse_femto(ch_span_of(decimal), &femto) || femto % MILLION_STEP_FEMTO != 0) {
        ch_input_fail(input,
                      "a price is USD for a million tokens, with at most seven decimals, such as "
                      "2.50");
        return NULL;
    }
    if (femto && femto < MILLION_MIN_FEMTO) {
        ch_input_fail(input,
                      "%s USD for a million tokens? Prices are for a million; one that small is "
                      "given by --price KEY=USD, for a single token",
                      decimal);
        return NULL;
    }
    ch_money_format_femto(femto / TOKENS_PER_MILLION, text);
    return json_string(text);
}

// What the catalogue's reader will check: prices by the catalogue's own keys, a unit each.
static void read_keys(struct ch_input *input, json_t *object)
{
    const char *key;
    json_t *value, *pairs = json_object_get(input->arguments, "price");
    if (pairs && !json_is_object(pairs))
        ch_input_fail(input, "--price takes KEY=USD");
    json_object_foreach(pairs, key, value)
    {
        bool takes_away = json_is_string(value) && json_string_length(value) == 0;
        if (json_object_get(object, key))
            ch_input_fail(input, "--price %.80s: there is an option for that too", key);
        else if (json_object_set_new(object, key, takes_away ? json_null() : json_incref(value)))
            ch_input_fail(input, "--price takes KEY=USD");
    }
}

// Gives the prices as text; the caller frees it.
static char *read_prices(struct ch_input *input)
{
    json_t *object = json_object();
    for (size_t i = 0; i < PRICES && object; i++) {
        json_t *price = read_price(input, prices[i].member);
        if (price && json_object_set_new(object, prices[i].key, price))
            ch_input_fail(input, "a price could not be read");
    }
    if (!input->err)
        read_keys(input, object);
    if (!input->err && json_object_size(object) == 0)
        ch_input_fail(input, "there is no price: give --input, --output or another one");
    char *text = input->err ? NULL : json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(object);
    return text;
}

static enum ch_err set_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct change_job *job = arg;
    enum ch_err err = ch_price_override_put(db, &job->row, why);
    return err ? err : prove(db, job->base, why);
}

static enum ch_err give_set(struct ch_admin *admin, const struct ch_price_override_row *row,
                            json_t **result_out, struct ch_why *why)
{
    json_t *json = contract_to_json(row);
    if (json &&
        (json_object_set_new(json, "schema", json_string("chaperone.price_override/1")) ||
         json_object_set_new(json, "catalogue",
                             json_string(ch_catalogue_version(ch_admin_catalogue(admin)))))) {
        json_decref(json);
        json = NULL;
    }
    return ch_route_give(json, result_out, why);
}

enum ch_err ch_route_price_set(struct ch_admin *admin, const json_t *arguments, json_t **result_out,
                               struct ch_why *why)
{
    struct ch_input input;
    struct change_job job = {.base = ch_admin_catalogue(admin)};
    ch_input_init(&input, arguments, why);
    read_subject(&input, &job);
    char *text = read_prices(&input);
    if (!input.err && !text)
        return out_of_memory(why);
    if (input.err)
        return input.err;
    if (!job.has_from)
        job.row.valid_from_ms = ch_clock_wall_ms();
    job.row.prices_json = ch_span_of(text);
    enum ch_err err = ch_route_write(admin, set_in_store, &job, why);
    if (!err)
        err = put_in_force(admin, why);
    if (!err)
        err = give_set(admin, &job.row, result_out, why);
    free(text);
    return err;
}

// ---- unset

// The row's ids are collected before any is deleted.
struct removal {
    const struct change_job *job;
    int64_t ids[CH_PRICE_OVERRIDES_MAX];
    size_t count;
};

static enum ch_err collect(void *arg, const struct ch_price_override_row *row)
{
    struct removal *removal = arg;
    const struct ch_price_override_row *wanted = &removal->job->row;
    if (strcmp(row->model, wanted->model) == 0 && strcmp(row->provider, wanted->provider) == 0 &&
        (!removal->job->has_from || row->valid_from_ms == wanted->valid_from_ms) &&
        removal->count < CH_PRICE_OVERRIDES_MAX)
        removal->ids[removal->count++] = row->id;
    return CH_OK;
}

static enum ch_err unset_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct change_job *job = arg;
    struct removal removal = {.job = job};
    enum ch_err err = ch_price_override_each(db, collect, &removal, why);
    for (size_t i = 0; i < removal.count && !err; i++)
        err = ch_price_override_delete(db, removal.ids[i], why);
    job->removed = (json_int_t)removal.count;
    if (!err && removal.count == 0)
        err = ch_why_set(why, CH_ERR_NOT_FOUND, "there is no such contract price of %s%s%s%s",
                         job->row.model, *job->row.provider ? " for provider " : "",
                         job->row.provider, *job->row.provider ? "" : " for every provider");
    return err ? err : prove(db, job->base, why);
}

enum ch_err ch_route_price_unset(struct ch_admin *admin, const json_t *arguments,
                                 json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct change_job job = {.base = ch_admin_catalogue(admin)};
    ch_input_init(&input, arguments, why);
    read_subject(&input, &job);
    if (input.err)
        return input.err;
    enum ch_err err = ch_route_write(admin, unset_in_store, &job, why);
    if (!err)
        err = put_in_force(admin, why);
    return err ? err
               : ch_route_give(json_pack("{s:s, s:s, s:s, s:I, s:s}", "schema",
                                         "chaperone.price_unset/1", "model", job.row.model,
                                         "provider", job.row.provider, "removed", job.removed,
                                         "catalogue",
                                         ch_catalogue_version(ch_admin_catalogue(admin))),
                               result_out, why);
}
