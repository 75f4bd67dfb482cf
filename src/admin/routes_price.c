// SPDX-License-Identifier: Apache-2.0
#include "input.h"
#include "routes.h"

#include "admin/contracts.h"
#include "base/clock.h"
#include "domain/catalogue.h"
#include "store/price_store.h"
#include "store/usage_query.h"

#include <stdio.h>
#include <strings.h>

#define SCHEMA      "chaperone.prices/1"
#define CHANGES_MAX 500 // changes shown in full; all are counted
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
    bool is_of_contracts = ch_input_bool(&input, "overrides", false);
    if (is_of_contracts && listing.pattern)
        ch_input_fail(&input, "--overrides lists every contract price; leave the pattern out");
    if (!input.err && is_of_contracts)
        return ch_contract_list(admin, result_out, why);
    enum ch_err err = input.err ? input.err : collect(catalogue, &listing, why);
    if (err)
        return err;
    return ch_route_give(json_pack("{s:s, s:s, s:o}", "schema", "chaperone.price_list/1",
                                   "catalogue", ch_catalogue_version(catalogue), "items",
                                   listing.items),
                         result_out, why);
}

// Who is charged, as far as the price of a model depends on it.
struct payer {
    const char *provider; // NULL: not said
    struct ch_provider_row row;
    const char *prefix; // of the catalogue's names for this provider's models
    const struct ch_price *price;
};

static enum ch_err get_provider(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct payer *payer = arg;
    return ch_provider_get(db, payer->provider, &payer->row, why);
}

static enum ch_err find_price(struct ch_admin *admin, const char *model, struct payer *payer,
                              struct ch_why *why)
{
    enum ch_err err = CH_OK;
    if (payer->provider && !admin->store)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "the store is not open");
    if (payer->provider)
        err = ch_store_read(admin->store, get_provider, payer, why);
    if (err)
        return err;
    payer->prefix = payer->provider
                        ? ch_provider_price_prefix(payer->row.type, ch_span_of(payer->row.base_url))
                        : "";
    const struct ch_price_query query = {.prefix = ch_span_of(payer->prefix),
                                         .provider_id = payer->row.id,
                                         .at_ms = ch_clock_wall_ms()};
    payer->price =
        ch_catalogue_find_for(ch_admin_catalogue(admin), &query, ch_span_of(model), NULL);
    return CH_OK;
}

// Of the rows of the model the price was found under: the latest that is valid, of the provider
// before that of every provider.
struct contract_search {
    const struct payer *payer;
    int64_t at_ms;
    json_t *row;
};

static enum ch_err look_at_contract(void *arg, const struct ch_price_override_row *row)
{
    struct contract_search *search = arg;
    const struct payer *payer = search->payer;
    if (strcmp(row->model, ch_price_model(payer->price)) != 0 ||
        row->valid_from_ms > search->at_ms ||
        (row->provider_id && row->provider_id != payer->row.id))
        return CH_OK;
    // They come by provider, the general ones first, and by instant.
    json_decref(search->row);
    search->row = json_pack("{s:s, s:o, s:o}", "provider", row->provider, "from",
                            ch_route_time(row->valid_from_ms), "prices",
                            json_loadb(row->prices_json.ptr, row->prices_json.len, 0, NULL));
    return search->row ? CH_OK : CH_ERR_NOMEM;
}

static enum ch_err find_contract(struct ch_db *db, void *arg, struct ch_why *why)
{
    return ch_price_override_each(db, look_at_contract, arg, why);
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

// The members of the list's price of this name; an empty object where it has none.
static enum ch_err listed_prices(const struct ch_catalogue *catalogue, const struct ch_price *price,
                                 json_t **prices_out, struct ch_why *why)
{
    struct listing listing = {.exact = price ? ch_price_model(price) : ""};
    enum ch_err err = collect(catalogue, &listing, why);
    if (err)
        return err;
    json_t *prices = json_array_get(listing.items, 0);
    *prices_out = prices ? json_incref(prices) : json_object();
    json_decref(listing.items);
    return *prices_out ? CH_OK : out_of_memory(why);
}

// Writes a contract price over what the list has, as the catalogue does.
static enum ch_err write_over(json_t *prices, const json_t *contract, struct ch_why *why)
{
    const char *key;
    json_t *value;
    bool failed =
        json_object_set(prices, "contract_provider", json_object_get(contract, "provider")) ||
        json_object_set(prices, "contract_from", json_object_get(contract, "from"));
    json_object_foreach(json_object_get(contract, "prices"), key, value)
    {
        if (json_is_null(value))
            json_object_del(prices, key);
        else
            failed |= json_object_set(prices, key, value) != 0;
    }
    return failed ? out_of_memory(why) : CH_OK;
}

static enum ch_err describe_price(struct ch_admin *admin, const struct payer *payer,
                                  const char *model, json_t *result, struct ch_why *why)
{
    const struct ch_catalogue *catalogue = ch_admin_catalogue(admin);
    struct contract_search search = {.payer = payer, .at_ms = ch_clock_wall_ms()};
    const struct ch_price *listed = payer->price;
    json_t *prices;
    enum ch_err err = CH_OK;
    if (ch_price_is_contract(payer->price)) {
        listed = ch_catalogue_find(catalogue, ch_span_of(payer->prefix), ch_span_of(model));
        err = admin->store ? ch_store_read(admin->store, find_contract, &search, why) : CH_OK;
    }
    if (!err)
        err = listed_prices(catalogue, listed, &prices, why);
    if (err) {
        json_decref(search.row);
        return err;
    }
    if (search.row)
        err = write_over(prices, search.row, why);
    if (!err && (json_object_set_new(result, "model", json_string(ch_price_model(payer->price))) ||
                 json_object_update_missing(result, prices)))
        err = out_of_memory(why);
    json_decref(search.row);
    json_decref(prices);
    return err;
}

enum ch_err ch_route_price_show(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    const struct ch_catalogue *catalogue = ch_admin_catalogue(admin);
    ch_input_init(&input, arguments, why);
    const char *model = ch_input_text(&input, "model", PATTERN_MAX);
    struct payer payer = {.provider = ch_input_name(&input, "provider", false)};
    if (!model)
        ch_input_fail(&input, "the model's name is missing");
    enum ch_err err = input.err ? input.err : find_price(admin, model, &payer, why);
    if (err)
        return err;
    if (!payer.price)
        return not_priced(catalogue, model, why);
    json_t *result = json_pack("{s:s, s:s}", "schema", "chaperone.price/1", "catalogue",
                               ch_catalogue_version(catalogue));
    err = result ? describe_price(admin, &payer, model, result, why) : out_of_memory(why);
    if (!err)
        return ch_route_give(result, result_out, why);
    json_decref(result);
    return err;
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
    struct ch_catalogue *with_contracts;
    struct ch_why suspicion; // why the list looks wrong; "" where it does not
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

struct diff {
    json_t *changes;
    bool failed;
};

// A price as it stands in the list; JSON null where it is not there.
static json_t *value_of(struct ch_span json)
{
    return json.len ? json_loadb(json.ptr, json.len, JSON_DECODE_ANY, NULL) : json_null();
}

static void note_change(void *arg, const struct ch_price_change *change)
{
    static const char *const words[] = {
        [CH_PRICE_ADDED] = "added", [CH_PRICE_REMOVED] = "removed", [CH_PRICE_CHANGED] = "changed"};
    struct diff *diff = arg;
    bool is_member = change->kind == CH_PRICE_CHANGED;
    if (json_array_size(diff->changes) >= CHANGES_MAX)
        return;
    json_t *item = json_pack("{s:s, s:s, s:s, s:o, s:o}", "model", change->model, "change",
                             words[change->kind], "price", change->key, "from",
                             is_member ? value_of(change->old) : json_null(), "to",
                             is_member ? value_of(change->new) : json_null());
    diff->failed |= json_array_append_new(diff->changes, item) != 0;
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
    struct ch_catalogue_changes changes;
    struct diff diff = {.changes = json_array()};
    const struct ch_catalogue *in_force = ch_admin_catalogue(import->admin);
    if (!diff.changes ||
        ch_catalogue_diff(in_force, import->catalogue, note_change, &diff, &changes) ||
        diff.failed) {
        json_decref(diff.changes);
        return out_of_memory(why);
    }
    return ch_route_give(
        json_pack("{s:s, s:s, s:s?, s:I, s:I, s:I, s:I, s:I, s:s, s:o, s:o}", "schema",
                  "chaperone.price_import/1", "version", ch_catalogue_version(import->catalogue),
                  "previous", in_force ? ch_catalogue_version(in_force) : NULL, "models",
                  (json_int_t)ch_catalogue_size(import->catalogue), "added",
                  (json_int_t)changes.added, "removed", (json_int_t)changes.removed, "changed",
                  (json_int_t)changes.changed, "jumps", (json_int_t)changes.jumps, "suspicion",
                  import->suspicion.text, "items", diff.changes, "notes",
                  notes_to_json(&import->notes)),
        result_out, why);
}

// With the contract prices over it at once: a list that they cannot be written over is not stored.
static enum ch_err put_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct import *import = arg;
    enum ch_err err = ch_price_store_put(db, ch_catalogue_version(import->catalogue),
                                         ch_buf_span(&import->document), why);
    return err ? err : ch_contracts_apply_in(db, import->catalogue, &import->with_contracts, why);
}

// Whether the list in force is this one; contract prices stand behind a '+' in its version.
static bool is_in_force(const struct import *import)
{
    const struct ch_catalogue *catalogue = ch_admin_catalogue(import->admin);
    const char *version = catalogue ? ch_catalogue_version(catalogue) : "";
    return ch_span_eq((struct ch_span){version, strcspn(version, "+")},
                      ch_span_of(ch_catalogue_version(import->catalogue)));
}

static enum ch_err put_in_force(struct import *import, struct ch_why *why)
{
    if (is_in_force(import))
        return CH_OK; // nothing changes
    if (!import->admin->store)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "the store is not open");
    enum ch_err err = ch_route_write(import->admin, put_in_store, import, why);
    if (err || !import->admin->registry)
        return err;
    if (!import->with_contracts) {
        import->with_contracts = import->catalogue;
        import->catalogue = NULL;
    }
    ch_registry_set_catalogue(import->admin->registry, import->with_contracts);
    import->with_contracts = NULL; // taken
    return CH_OK;
}

// Nonsense would charge every request wrongly, so it takes a word from the operator.
static enum ch_err check(struct import *import, bool is_forced, bool is_dry, struct ch_why *why)
{
    const struct ch_catalogue *in_force = ch_admin_catalogue(import->admin);
    enum ch_err err =
        in_force ? ch_catalogue_check(in_force, import->catalogue, &import->suspicion) : CH_OK;
    if (err == CH_OK || (err == CH_ERR_DENIED && (is_forced || is_dry)))
        return CH_OK;
    return ch_why_set(why, err,
                      err == CH_ERR_DENIED ? "%.400s; --dry-run shows what would change, "
                                             "--force puts it in force all the same"
                                           : "%s",
                      import->suspicion.text);
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
    bool is_forced = ch_input_bool(&input, "force", false);
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
        err = check(&import, is_forced, is_dry, why);
    if (!err)
        err = finish(&import, is_dry, result_out, why);
    ch_catalogue_free(import.with_contracts);
    ch_catalogue_free(import.catalogue);
    ch_buf_fini(&import.notes);
    ch_buf_fini(&import.document);
    return err;
}
