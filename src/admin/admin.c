// SPDX-License-Identifier: Apache-2.0
#include "admin/admin.h"

#include "input.h"
#include "routes.h"

#include "base/clock.h"

struct route {
    const char *operation;
    const char *accepts; // members of the arguments, separated by blanks
    bool needs_store;
    ch_route_fn run;
};

#define USAGE_FILTER "from to key team project env model provider"

static const struct route routes[] = {
    {"status", "", false, ch_route_status},

    {"provider.create", "name type base_url credential injects_usage", true,
     ch_route_provider_create},
    {"provider.list", "", true, ch_route_provider_list},
    {"provider.show", "name", true, ch_route_provider_show},
    {"provider.test", "name", true, ch_route_provider_test},
    {"provider.enable", "name", true, ch_route_provider_enable},
    {"provider.disable", "name", true, ch_route_provider_disable},
    {"provider.delete", "name", true, ch_route_provider_delete},

    {"key.create", "name provider models expires team project env service tag", true,
     ch_route_key_create},
    {"key.list", "status provider team project env service limit", true, ch_route_key_list},
    {"key.show", "name", true, ch_route_key_show},
    {"key.enable", "name", true, ch_route_key_enable},
    {"key.disable", "name", true, ch_route_key_disable},
    {"key.revoke", "name reason", true, ch_route_key_revoke},
    {"key.verify", "token", true, ch_route_key_verify},

    {"usage.summary", "by " USAGE_FILTER, true, ch_route_usage_summary},
    {"usage.list", "after limit " USAGE_FILTER, true, ch_route_usage_list},

    {"price.list", "pattern", false, ch_route_price_list},
    {"price.show", "model provider", false, ch_route_price_show},
    {"price.import", "document date dry_run", false, ch_route_price_import},
    {"price.unpriced", "", true, ch_route_price_unpriced},
};

static const struct route *find_route(const char *operation)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(routes[i].operation, operation) == 0)
            return &routes[i];
    return NULL;
}

enum ch_err ch_admin_call(struct ch_admin *admin, const char *operation, const json_t *arguments,
                          json_t **result_out, struct ch_why *why)
{
    const struct route *route = find_route(operation);
    if (!route)
        return ch_why_set(why, CH_ERR_NOT_FOUND, "there is no such operation");
    if (route->needs_store && !admin->store)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "the store is not open");

    struct ch_why local;
    struct ch_input input;
    ch_input_init(&input, arguments, why ? why : &local);
    ch_input_only(&input, route->accepts);
    return input.err ? input.err : route->run(admin, arguments, result_out, input.why);
}

bool ch_admin_is_slow(const char *operation)
{
    return strcmp(operation, "provider.test") == 0;
}

const struct ch_catalogue *ch_admin_catalogue(const struct ch_admin *admin)
{
    return admin->registry ? ch_registry_catalogue(admin->registry) : admin->base_catalogue;
}

enum ch_err ch_route_give(json_t *result, json_t **result_out, struct ch_why *why)
{
    if (!result)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    *result_out = result;
    return CH_OK;
}

// A failed call all the same: the next start would forget what was asked for.
enum ch_err ch_route_not_stored(const char *what, const char *name, const struct ch_why *reason,
                                struct ch_why *why)
{
    return ch_why_set(why, CH_ERR_IO,
                      "%s %s is refused from now on, until the daemon restarts: that could not be "
                      "stored (%.200s); repeat it when it can be",
                      what, name, reason->text);
}

json_t *ch_route_time(int64_t wall_ms)
{
    char text[25];
    if (wall_ms == 0)
        return json_null();
    ch_clock_format_utc(wall_ms, text);
    return json_string(text);
}

static enum ch_err count_provider(void *arg, const struct ch_provider_row *row)
{
    (void)row;
    ++*(int64_t *)arg;
    return CH_OK;
}

static enum ch_err count_providers(struct ch_db *db, void *arg, struct ch_why *why)
{
    return ch_provider_each(db, count_provider, arg, why);
}

// Adds what the daemon did not state itself.
static enum ch_err add_status_facts(struct ch_admin *admin, json_t *status, struct ch_why *why)
{
    int64_t providers = 0;
    bool failed = false;
    if (admin->store && !json_object_get(status, "providers")) {
        enum ch_err err = ch_store_read(admin->store, count_providers, &providers, why);
        if (err)
            return err;
        failed |= json_object_set_new(status, "providers", json_integer(providers)) != 0;
    }
    if (admin->registry && !json_object_get(status, "keys"))
        failed |= json_object_set_new(
                      status, "keys",
                      json_integer((json_int_t)ch_registry_key_count(admin->registry))) != 0;
    const struct ch_catalogue *catalogue = ch_admin_catalogue(admin);
    if (catalogue && !json_object_get(status, "catalogue"))
        failed |= json_object_set_new(status, "catalogue",
                                      json_string(ch_catalogue_version(catalogue))) != 0;
    return failed ? ch_why_set(why, CH_ERR_NOMEM, "out of memory") : CH_OK;
}

enum ch_err ch_route_status(struct ch_admin *admin, const json_t *arguments, json_t **result_out,
                            struct ch_why *why)
{
    (void)arguments;
    if (!admin->status)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "no daemon is running");
    json_t *status = admin->status(admin->status_arg);
    enum ch_err err = status ? add_status_facts(admin, status, why)
                             : ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    if (!err && !json_object_get(status, "schema") &&
        json_object_set_new(status, "schema", json_string("chaperone.status/1")) != 0)
        err = ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    if (!err)
        *result_out = status;
    else
        json_decref(status);
    return err;
}
