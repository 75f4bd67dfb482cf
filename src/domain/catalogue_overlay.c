// SPDX-License-Identifier: Apache-2.0
// Contract prices over a list.
#include "catalogue_private.h"

#include "domain/model_rule.h"

#include "base/secret.h"

#include <inttypes.h>
#include <stdio.h>

struct overlay {
    struct ch_catalogue *catalogue;
    json_t *models; // of the list's document
    struct ch_why *why;
};

static enum ch_err fail(const struct overlay *o, enum ch_err err,
                        const struct ch_price_override *override, const char *what)
{
    struct ch_span model = override->model;
    if (model.len > CH_MODEL_NAME_MAX || !ch_model_name_is_valid(model))
        model = CH_SPAN("?");
    return ch_why_set(o->why, err, "contract price of \"%.*s\": %s", CH_SPAN_ARG(model), what);
}

// What the list has for the model, to be written over; an empty object where it has nothing.
static json_t *listed_members(const struct overlay *o, const struct ch_price_override *override)
{
    const struct ch_price *price =
        ch_catalogue_find(o->catalogue, override->prefix, override->model);
    return price ? json_deep_copy(json_object_get(o->models, price->model)) : json_object();
}

static enum ch_err write_over(json_t *members, json_t *prices)
{
    const char *key;
    json_t *value;
    json_object_foreach(prices, key, value)
    {
        if (json_is_null(value))
            json_object_del(members, key);
        else if (json_object_set(members, key, value))
            return CH_ERR_NOMEM;
    }
    return CH_OK;
}

static enum ch_err read_price(const struct overlay *o, const struct ch_price_override *override,
                              json_t *members, struct ch_price *price)
{
    char name[CH_MODEL_NAME_MAX + 1];
    if (!ch_span_copy(override->model, name, sizeof name) ||
        !ch_model_name_is_valid(override->model))
        return fail(o, CH_ERR_INVALID, override, "that is no model name");
    enum ch_err err = ch_price_read_model(name, members, price, o->why);
    price->provider_id = override->provider_id;
    price->valid_from_ms = override->valid_from_ms;
    price->is_contract = true;
    return err;
}

static enum ch_err read_override(const struct overlay *o, const struct ch_price_override *override,
                                 struct ch_price *price)
{
    json_t *prices = NULL, *members = NULL;
    enum ch_err err =
        ch_price_parse_json(override->prices_json, JSON_REJECT_DUPLICATES, &prices, NULL);
    if (err)
        return fail(o, err, override, "the prices are not a JSON object");
    members = listed_members(o, override);
    if (!json_is_object(prices) || json_object_size(prices) == 0)
        err = fail(o, CH_ERR_INVALID, override, "the prices are not a JSON object");
    else if (!members)
        err = CH_ERR_NOMEM;
    else
        err = write_over(members, prices);
    if (!err)
        err = read_price(o, override, members, price);
    json_decref(members);
    json_decref(prices);
    return err;
}

static bool is_same(const struct ch_price_override *a, const struct ch_price_override *b)
{
    return a->provider_id == b->provider_id && a->valid_from_ms == b->valid_from_ms &&
           ch_span_eq(a->model, b->model);
}

static enum ch_err read_overrides(const struct overlay *o,
                                  const struct ch_price_override *overrides, size_t count)
{
    struct ch_price_index *contracts = &o->catalogue->contracts;
    contracts->prices = ch_zcalloc(count, sizeof *contracts->prices);
    if (!contracts->prices)
        return CH_ERR_NOMEM;
    for (size_t i = 0; i < count; i++) {
        for (size_t earlier = 0; earlier < i; earlier++)
            if (is_same(&overrides[i], &overrides[earlier]))
                return fail(o, CH_ERR_CONFLICT, &overrides[i],
                            "it stands twice for one provider and instant");
        enum ch_err err = read_override(o, &overrides[i], &contracts->prices[contracts->count++]);
        if (err)
            return err;
    }
    return ch_price_index_build(contracts);
}

static void set_version(struct ch_catalogue *catalogue, int64_t revision)
{
    size_t len = strlen(catalogue->version);
    snprintf(catalogue->version + len, sizeof catalogue->version - len, "+o%" PRId64, revision);
}

enum ch_err ch_catalogue_with_overrides(const struct ch_catalogue *base,
                                        const struct ch_price_override *overrides, size_t count,
                                        int64_t revision, struct ch_catalogue **catalogue_out,
                                        struct ch_why *why)
{
    struct ch_span text = {base->text, base->text_len};
    struct overlay o = {.why = why};
    json_t *root = NULL;
    if (count > CH_PRICE_OVERRIDES_MAX)
        return ch_why_set(why, CH_ERR_LIMIT, "there are more than %d contract prices",
                          CH_PRICE_OVERRIDES_MAX);
    // Reading the list again is what makes the two independent of each other; it happens when an
    // operator changes a price.
    enum ch_err err = ch_catalogue_load(text, &o.catalogue, why);
    if (err)
        return err;
    err = ch_price_parse_json(text, 0, &root, why);
    if (!err && count > 0) {
        o.models = json_object_get(root, "models");
        err = read_overrides(&o, overrides, count);
    }
    json_decref(root);
    if (err) {
        ch_catalogue_free(o.catalogue);
        return err == CH_ERR_NOMEM ? ch_why_set(why, err, "prices: out of memory") : err;
    }
    set_version(o.catalogue, revision);
    *catalogue_out = o.catalogue;
    return CH_OK;
}
