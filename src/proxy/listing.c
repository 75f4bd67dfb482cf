// SPDX-License-Identifier: Apache-2.0
// Lists of models, shown to a key only as far as it may use them.
#include "shared.h"

#include <jansson.h>

#define LISTING_MAX (4 * 1024 * 1024) // bytes of a provider's list; a longer one is cut off

bool listing_is_filtered(const struct exchange *x, const struct key_record *key)
{
    return x->route->endpoint == CH_ENDPOINT_MODELS && policy_has_model_lists(key) &&
           !(key->policy && key->policy->models_are_shadow);
}

// What the key would send for a model of that name decides, as it does for a request.
static bool may_use(const struct key_record *key, struct ch_span model)
{
    struct ch_span sent = model;
    if (key->policy && key->policy->model_map.len)
        (void)ch_model_map_apply(key->policy->model_map, model, &sent);
    return policy_allows_model(key, sent);
}

bool listing_shows(const struct key_record *key, struct ch_span model)
{
    if (ch_span_starts(model, CH_SPAN("models/")))
        model = ch_span_sub(model, 7);
    return ch_model_name_is_valid(model) && may_use(key, model);
}

// OpenAI and Anthropic name a model by "id", Gemini by "name" with "models/" in front.
static bool is_shown(const struct key_record *key, const json_t *item)
{
    const json_t *name = json_object_get(item, "id");
    if (!name)
        name = json_object_get(item, "name");
    return json_is_string(name) &&
           listing_shows(key, (struct ch_span){json_string_value(name), json_string_length(name)});
}

static void filter(const struct key_record *key, json_t *list)
{
    for (size_t i = json_array_size(list); i-- > 0;)
        if (!is_shown(key, json_array_get(list, i)))
            json_array_remove(list, i);
}

enum ch_err listing_add(struct exchange *x, struct ch_span bytes)
{
    if (x->held.max < LISTING_MAX) {
        ch_buf_fini(&x->held);
        ch_buf_init(&x->held, LISTING_MAX);
    }
    return ch_buf_append_span(&x->held, bytes);
}

static int append_piece(const char *bytes, size_t size, void *arg)
{
    return ch_buf_append(arg, bytes, size) == CH_OK ? 0 : -1;
}

enum ch_err listing_finish(struct exchange *x)
{
    const struct key_record *key = registry_find(
        x->pl->proxy->options.registry, (struct ch_span){x->public_id, sizeof x->public_id});
    if (!key || x->response_head.status != 200)
        return key ? CH_OK : CH_ERR_NOT_FOUND; // an error of the provider's names no models
    json_t *document = json_loadb(x->held.ptr ? x->held.ptr : "", x->held.len, 0, NULL);
    json_t *list = json_object_get(document, "data");
    if (!list)
        list = json_object_get(document, "models");
    ch_buf_clear(&x->held);
    enum ch_err err = CH_OK;
    if (json_is_array(list)) {
        filter(key, list);
        if (json_dump_callback(document, append_piece, &x->held, JSON_COMPACT))
            err = CH_ERR_LIMIT;
    } else { // not as we know it: what cannot be filtered is not shown
        exchange_warn(x, "model_list_unreadable", "an empty list was shown");
        err = ch_buf_append_span(&x->held, x->dialect == CH_DIALECT_GEMINI
                                               ? CH_SPAN("{\"models\":[]}")
                                               : CH_SPAN("{\"object\":\"list\",\"data\":[]}"));
    }
    json_decref(document);
    return err;
}
