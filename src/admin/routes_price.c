// SPDX-License-Identifier: Apache-2.0
#include "input.h"
#include "routes.h"

#include "base/clock.h"
#include "domain/catalogue.h"
#include "store/price_store.h"
#include "store/usage_query.h"

#include <stdio.h>
#include <strings.h>

#define SCHEMA      "chaperone.prices/1"
#define CHANGES_MAX 20  // changes shown in full; all are counted
#define NOTES_MAX   200 // lines of an import's notes that are passed on
#define NEAR_MAX    5   // models named when one is not found
#define PATTERN_MAX 128 // bytes
#define DATE_TEXT   11  // "2026-11-21" and a NUL

static enum ch_err out_of_memory(struct ch_why *why)
{
    return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
}

// ---- list and show

struct listing {
    const char *pattern; // part of a model's name, without regard to case; NULL: every model
    const char *exact;   // one model; NULL: every model
    json_t *items;
    bool failed;
};

static void append_model(void *arg, const char *model, struct ch_span prices_json)
{
    struct listing *listing = arg;
    if ((listing->pattern && !strcasestr(model, listing->pattern)) ||
        (listing->exact && strcmp(model, listing->exact) != 0))
        return;
    json_t *item = json_pack("{s:s}", "model", model);
    json_t *prices = json_loadb(prices_json.ptr, prices_json.len, 0, NULL);
    listing->failed |= !item || !prices || json_object_update(item, prices) != 0;
    json_decref(prices);
    listing->failed |= json_array_append_new(listing->items, item) != 0;
}

static enum ch_err collect(const struct ch_catalogue *catalogue, struct listing *listing,
                           struct ch_why *why)
{
    listing->items = json_array();
    if (!listing->items)
        return out_of_memory(why);
    if (ch_catalogue_each(catalogue, append_model, listing) || listing->failed) {
        json_decref(listing->items);
        return out_of_memory(why);
    }
    return CH_OK;
}

enum ch_err ch_route_price_list(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct listing listing = {0};
    const struct ch_catalogue *catalogue = ch_admin_catalogue(admin);
    ch_input_init(&input, arguments, why);
    listing.pattern = ch_input_text(&input, "pattern", PATTERN_MAX);
    enum ch_err err = input.err ? input.err : collect(catalogue, &listing, why);
    if (err)
        return err;
    return ch_route_give(json_pack("{s:s, s:s, s:o}", "schema", "chaperone.price_list/1",
                                   "catalogue", ch_catalogue_version(catalogue), "items",
                                   listing.items),
                         result_out, why);
}

struct prefix_job {
    const char *name;
    struct ch_provider_row row;
};

static enum ch_err get_provider(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct prefix_job *job = arg;
    return ch_provider_get(db, job->name, &job->row, why);
}

// How the catalogue names the models of the provider that was asked for.
static enum ch_err find_prefix(struct ch_admin *admin, const char *provider,
                               const char **prefix_out, struct ch_why *why)
{
    struct prefix_job job = {.name = provider};
    *prefix_out = "";
    if (!provider)
        return CH_OK;
    if (!admin->store)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "the store is not open");
    enum ch_err err = ch_store_read(admin->store, get_provider, &job, why);
    if (!err)
        *prefix_out = ch_provider_price_prefix(job.row.type, ch_span_of(job.row.base_url));
    return err;
}

struct nearness {
    const char *model;
    char text[320];
    size_t at, count;
};

static void append_near(void *arg, const char *model, struct ch_span prices_json)
{
    struct nearness *near = arg;
    (void)prices_json;
    if (near->count == NEAR_MAX || !strcasestr(model, near->model))
        return;
    int len = snprintf(near->text + near->at, sizeof near->text - near->at, "%s%s",
                       near->count ? ", " : "; there is ", model);
    if (len > 0 && (size_t)len < sizeof near->text - near->at) {
        near->at += (size_t)len;
        near->count++;
    }
    near->text[near->at] = '\0';
}

static enum ch_err not_priced(const struct ch_catalogue *catalogue, const char *model,
                              struct ch_why *why)
{
    struct nearness near = {.model = model};
    if (ch_catalogue_each(catalogue, append_near, &near))
        return out_of_memory(why);
    return ch_why_set(why, CH_ERR_NOT_FOUND, "the catalogue has no price for %s%s", model,
                      near.text);
}

enum ch_err ch_route_price_show(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct listing listing = {0};
    const char *prefix;
    const struct ch_catalogue *catalogue = ch_admin_catalogue(admin);
    ch_input_init(&input, arguments, why);
    const char *model = ch_input_text(&input, "model", PATTERN_MAX);
    const char *provider = ch_input_name(&input, "provider", false);
    if (!model)
        ch_input_fail(&input, "the model's name is missing");
    enum ch_err err = input.err ? input.err : find_prefix(admin, provider, &prefix, why);
    if (err)
        return err;
    const struct ch_price *price =
        ch_catalogue_find(catalogue, ch_span_of(prefix), ch_span_of(model));
    if (!price)
        return not_priced(catalogue, model, why);
    listing.exact = ch_price_model(price);
    err = collect(catalogue, &listing, why);
    if (err)
        return err;
    json_t *result = json_pack("{s:s, s:s}", "schema", "chaperone.price/1", "catalogue",
                               ch_catalogue_version(catalogue));
    if (!result || json_object_update(result, json_array_get(listing.items, 0))) {
        json_decref(result);
        result = NULL;
    }
    json_decref(listing.items);
    return ch_route_give(result, result_out, why);
}

enum ch_err ch_route_price_unpriced(struct ch_admin *admin, const json_t *arguments,
                                    json_t **result_out, struct ch_why *why)
{
    (void)arguments;
    return ch_usage_unpriced(admin->store, result_out, why);
}

// ---- import

struct import {
    struct ch_admin *admin;
    struct ch_buf document; // chaperone.prices/1
    struct ch_buf notes;
    struct ch_catalogue *catalogue; // of the document
};

static bool is_ours(struct ch_span text)
{
    json_t *root = json_loadb(text.ptr, text.len, 0, NULL);
    const char *schema = json_string_value(json_object_get(root, "schema"));
    bool ours = schema && strcmp(schema, SCHEMA) == 0;
    json_decref(root);
    return ours;
}

static enum ch_err convert(struct import *import, struct ch_span text, const char *date,
                           struct ch_why *why)
{
    char now[25], today[DATE_TEXT];
    if (is_ours(text))
        return ch_buf_append_span(&import->document, text);
    ch_clock_format_utc(ch_clock_wall_ms(), now);
    ch_span_copy(ch_span_of(now), today, sizeof today);
    return ch_catalogue_import(text, ch_span_of(date ? date : today), &import->document,
                               &import->notes, why);
}

static void collect_prices(void *arg, const char *model, struct ch_span prices_json)
{
    struct listing *listing = arg;
    json_t *prices = json_loadb(prices_json.ptr, prices_json.len, 0, NULL);
    listing->failed |= json_object_set_new(listing->items, model, prices) != 0;
}

// Every model's prices by name.
static enum ch_err prices_of(const struct ch_catalogue *catalogue, json_t **prices_out,
                             struct ch_why *why)
{
    struct listing listing = {.items = json_object()};
    if (!listing.items ||
        (catalogue && ch_catalogue_each(catalogue, collect_prices, &listing) != CH_OK) ||
        listing.failed) {
        json_decref(listing.items);
        return out_of_memory(why);
    }
    *prices_out = listing.items;
    return CH_OK;
}

struct diff {
    json_t *changes;
    int64_t added, removed, changed;
    bool failed;
};

static void note_change(struct diff *diff, const char *model, const char *change, const char *price,
                        const json_t *from, const json_t *to)
{
    if (json_array_size(diff->changes) >= CHANGES_MAX)
        return;
    json_t *item = json_pack("{s:s, s:s, s:s, s:O?, s:O?}", "model", model, "change", change,
                             "price", price, "from", from, "to", to);
    diff->failed |= json_array_append_new(diff->changes, item) != 0;
}

static void note_differences(struct diff *diff, const char *model, json_t *old, json_t *new)
{
    const char *key;
    json_t *value;
    json_object_foreach(new, key, value)
    {
        if (!json_equal(json_object_get(old, key), value))
            note_change(diff, model, "changed", key, json_object_get(old, key), value);
    }
    json_object_foreach(old, key, value)
    {
        if (!json_object_get(new, key))
            note_change(diff, model, "changed", key, value, NULL);
    }
}

static void compare(struct diff *diff, json_t *old, json_t *new)
{
    const char *model;
    json_t *prices;
    json_object_foreach(new, model, prices)
    {
        json_t *before = json_object_get(old, model);
        if (!before) {
            diff->added++;
            note_change(diff, model, "added", "", NULL, NULL);
        } else if (!json_equal(before, prices)) {
            diff->changed++;
            note_differences(diff, model, before, prices);
        }
    }
    json_object_foreach(old, model, prices)
    {
        if (json_object_get(new, model))
            continue;
        diff->removed++;
        note_change(diff, model, "removed", "", NULL, NULL);
    }
}

// The import's notes as lines, at most NOTES_MAX.
static json_t *notes_to_json(const struct ch_buf *notes)
{
    json_t *lines = json_array();
    struct ch_span rest = ch_buf_span(notes);
    while (lines && rest.len && json_array_size(lines) < NOTES_MAX) {
        const char *end = memchr(rest.ptr, '\n', rest.len);
        size_t len = end ? (size_t)(end - rest.ptr) : rest.len;
        json_array_append_new(lines, json_stringn(rest.ptr, len));
        rest = ch_span_sub(rest, end ? len + 1 : len);
    }
    return lines;
}

static enum ch_err describe(struct import *import, json_t **result_out, struct ch_why *why)
{
    struct diff diff = {.changes = json_array()};
    json_t *old = NULL, *new = NULL;
    const struct ch_catalogue *in_force = ch_admin_catalogue(import->admin);
    enum ch_err err = prices_of(in_force, &old, why);
    if (!err)
        err = prices_of(import->catalogue, &new, why);
    if (!err)
        compare(&diff, old, new);
    json_decref(old);
    json_decref(new);
    if (err || !diff.changes || diff.failed) {
        json_decref(diff.changes);
        return err ? err : out_of_memory(why);
    }
    return ch_route_give(
        json_pack("{s:s, s:s, s:s?, s:I, s:I, s:I, s:I, s:o, s:o}", "schema",
                  "chaperone.price_import/1", "version", ch_catalogue_version(import->catalogue),
                  "previous", in_force ? ch_catalogue_version(in_force) : NULL, "models",
                  (json_int_t)ch_catalogue_size(import->catalogue), "added", (json_int_t)diff.added,
                  "removed", (json_int_t)diff.removed, "changed", (json_int_t)diff.changed, "items",
                  diff.changes, "notes", notes_to_json(&import->notes)),
        result_out, why);
}

static enum ch_err put_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct import *import = arg;
    return ch_price_store_put(db, ch_catalogue_version(import->catalogue),
                              ch_buf_span(&import->document), why);
}

static enum ch_err put_in_force(struct import *import, struct ch_why *why)
{
    const struct ch_catalogue *in_force = ch_admin_catalogue(import->admin);
    if (in_force &&
        strcmp(ch_catalogue_version(in_force), ch_catalogue_version(import->catalogue)) == 0)
        return CH_OK; // nothing changes
    if (!import->admin->store)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "the store is not open");
    enum ch_err err = ch_store_write(import->admin->store, put_in_store, import, why);
    if (err || !import->admin->registry)
        return err;
    ch_registry_set_catalogue(import->admin->registry, import->catalogue);
    import->catalogue = NULL; // taken
    return CH_OK;
}

static enum ch_err finish(struct import *import, bool is_dry, json_t **result_out,
                          struct ch_why *why)
{
    json_t *result = NULL;
    enum ch_err err = describe(import, &result, why);
    if (!err && is_dry &&
        json_object_set_new(result, "document",
                            json_stringn(import->document.ptr, import->document.len)))
        err = out_of_memory(why);
    if (!err && !is_dry)
        err = put_in_force(import, why);
    if (!err)
        *result_out = result;
    else
        json_decref(result);
    return err;
}

enum ch_err ch_route_price_import(struct ch_admin *admin, const json_t *arguments,
                                  json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct import import = {.admin = admin};
    ch_input_init(&input, arguments, why);
    const char *text = ch_input_string(&input, "document", true);
    const char *date = ch_input_string(&input, "date", false);
    bool is_dry = ch_input_bool(&input, "dry_run", false);
    int64_t ignored;
    if (date && (strlen(date) != DATE_TEXT - 1 ||
                 ch_when_parse(ch_span_of(date), CH_WHEN_BACK, 0, &ignored)))
        ch_input_fail(&input, "--date takes the day of the price list, like 2026-08-01");
    if (input.err)
        return input.err;

    ch_buf_init(&import.document, CH_CATALOGUE_MAX_BYTES);
    ch_buf_init(&import.notes, CH_CATALOGUE_MAX_BYTES);
    enum ch_err err = convert(&import, ch_span_of(text), date, why);
    if (!err)
        err = ch_catalogue_load(ch_buf_span(&import.document), &import.catalogue, why);
    if (!err)
        err = finish(&import, is_dry, result_out, why);
    ch_catalogue_free(import.catalogue);
    ch_buf_fini(&import.notes);
    ch_buf_fini(&import.document);
    return err;
}
