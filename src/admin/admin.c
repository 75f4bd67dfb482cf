// SPDX-License-Identifier: Apache-2.0
#include "admin/admin.h"

#include "key_options.h"

#include "base/clock.h"

#include <stdio.h>
#include <unistd.h>

#define ACCEPTS_MAX 1024 // bytes of the names of an operation's arguments

struct route {
    const char *operation;
    const char *accepts; // members of the arguments, separated by blanks
    bool needs_store;
    ch_route_fn run;
    // The kind of object it changes, for the audit log, where the operation's name is the action;
    // NULL: it only reads. A changing operation also takes a reason.
    const char *changes;
};

#define USAGE_FILTER "from to key team project env model provider"

static const struct route routes[] = {
    {"status", "", false, ch_route_status, NULL},
    {"reload", "", false, ch_route_reload, "daemon"},

    {"provider.create", "name type base_url credential injects_usage unknown_model objects", true,
     ch_route_provider_create, "provider"},
    {"provider.update", "name unknown_model objects", true, ch_route_provider_update, "provider"},
    {"provider.list", "", true, ch_route_provider_list, NULL},
    {"provider.show", "name", true, ch_route_provider_show, NULL},
    {"provider.test", "name", true, ch_route_provider_test, NULL},
    {"provider.enable", "name", true, ch_route_provider_enable, "provider"},
    {"provider.disable", "name", true, ch_route_provider_disable, "provider"},
    {"provider.delete", "name", true, ch_route_provider_delete, "provider"},

    {"key.create", "name " CH_KEY_OPTIONS, true, ch_route_key_create, "key"},
    {"key.update", "name " CH_KEY_OPTIONS, true, ch_route_key_update, "key"},
    {"key.rotate", "name grace", true, ch_route_key_rotate, "key"},
    {"key.explain", "name model input_tokens output_tokens", true, ch_route_key_explain, NULL},
    {"key.list", "status provider team project env service limit", true, ch_route_key_list, NULL},
    {"key.show", "name", true, ch_route_key_show, NULL},
    {"key.enable", "name", true, ch_route_key_enable, "key"},
    {"key.disable", "name", true, ch_route_key_disable, "key"},
    {"key.revoke", "name", true, ch_route_key_revoke, "key"},
    {"key.verify", "token", true, ch_route_key_verify, NULL},

    {"budget.set", "scope budget mode tz alert on_exhausted shadow", true, ch_route_budget_set,
     "budget"},
    {"budget.list", "scope limit", true, ch_route_budget_list, NULL},
    {"budget.show", "scope", true, ch_route_budget_show, NULL},
    {"budget.delete", "scope period", true, ch_route_budget_delete, "budget"},
    {"budget.alerts", "limit", true, ch_route_budget_alerts, NULL},

    {"team.list", "", true, ch_route_team_list, NULL},
    {"team.show", "name", true, ch_route_team_show, NULL},
    {"team.set", "name rpm tpm concurrency shadow", true, ch_route_team_set, "team"},
    {"project.list", "", true, ch_route_project_list, NULL},
    {"project.show", "name", true, ch_route_project_show, NULL},

    {"usage.summary", "by " USAGE_FILTER, true, ch_route_usage_summary, NULL},
    {"usage.list", "after limit denied shadow " USAGE_FILTER, true, ch_route_usage_list, NULL},
    {"usage.show", "id", true, ch_route_usage_show, NULL},
    {"usage.reprice", "from to model dry_run", true, ch_route_usage_reprice, "usage"},

    {"capture.enable", "scope", true, ch_route_capture_enable, "capture"},
    {"capture.disable", "scope", true, ch_route_capture_disable, "capture"},
    {"capture.list", "", true, ch_route_capture_list, NULL},

    {"price.list", "pattern overrides", false, ch_route_price_list, NULL},
    {"price.show", "model provider", false, ch_route_price_show, NULL},
    {"price.import", "document date dry_run force", false, ch_route_price_import, "catalogue"},
    {"price.unpriced", "", true, ch_route_price_unpriced, NULL},
    {"price.set",
     "model provider from input output cache_read cache_write cache_write_1h reasoning audio_input "
     "audio_output price",
     true, ch_route_price_set, "price"},
    {"price.unset", "model provider from", true, ch_route_price_unset, "price"},

    {"audit.list", "actor action object from to after limit", true, ch_route_audit_list, NULL},
    {"audit.verify", "heads", true, ch_route_audit_verify, NULL},
    {"vault.rekey", "new_key", true, ch_route_vault_rekey, "vault"},

    {"token.create", "name role team expires", true, ch_route_token_create, "token"},
    {"token.list", "", true, ch_route_token_list, NULL},
    {"token.revoke", "name", true, ch_route_token_revoke, "token"},
};

static const struct route *find_route(const char *operation)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(routes[i].operation, operation) == 0)
            return &routes[i];
    return NULL;
}

const char *ch_admin_operation(size_t index, const char **changes_out)
{
    if (index >= sizeof routes / sizeof *routes)
        return NULL;
    *changes_out = routes[index].changes;
    return routes[index].operation;
}

// ---- changes

// The argument that names what is changed. A handler checks it before it writes.
static const char *object_of(const json_t *arguments)
{
    static const char *const members[] = {"name", "scope", "model", "team"};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const char *name = json_string_value(json_object_get(arguments, members[i]));
        if (name)
            return name;
    }
    return "";
}

enum ch_err ch_route_write(struct ch_admin *admin, ch_store_write_fn fn, void *arg,
                           struct ch_why *why)
{
    if (!admin->change)
        return ch_why_set(why, CH_ERR_DENIED, "an operation that only reads may change nothing");
    return ch_audit_change(admin->store, admin->change, fn, arg, why);
}

// What changes no row of the database has no transaction that could fail with its record, so it is
// recorded before it happens.
static enum ch_err record_first(struct ch_admin *admin, const struct ch_audit_change *change,
                                struct ch_why *why)
{
    if (!admin->store || ch_audit_knows(change->object_kind))
        return CH_OK;
    return ch_audit_record(admin->store,
                           &(struct ch_audit_entry){.actor = change->actor,
                                                    .action = change->action,
                                                    .object_kind = change->object_kind,
                                                    .object = change->object,
                                                    .reason = change->reason},
                           why);
}

static enum ch_err run_change(struct ch_admin *admin, const struct ch_audit_actor *actor,
                              const struct route *route, struct ch_input *input,
                              json_t **result_out)
{
    struct ch_admin called = *admin;
    bool is_dry = json_is_true(json_object_get(input->arguments, "dry_run"));
    const struct ch_audit_change change = {
        .actor = actor,
        .action = route->operation,
        .object_kind = route->changes,
        .object = object_of(input->arguments),
        .reason = ch_input_text(input, "reason", CH_LABEL_MAX),
    };
    called.change =
        is_dry ? NULL : &change; // a dry run cannot write, so there is nothing to record
    enum ch_err err = input->err || is_dry ? input->err : record_first(admin, &change, input->why);
    return err ? err : route->run(&called, input->arguments, result_out, input->why);
}

// ---- calls

enum ch_err ch_admin_call_as(struct ch_admin *admin, const struct ch_audit_actor *actor,
                             const char *operation, const json_t *arguments, json_t **result_out,
                             struct ch_why *why)
{
    const struct route *route = find_route(operation);
    if (!route)
        return ch_why_set(why, CH_ERR_NOT_FOUND, "there is no such operation");
    if (route->needs_store && !admin->store)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "the store is not open");

    struct ch_why local;
    struct ch_input input;
    char accepts[ACCEPTS_MAX];
    int len = snprintf(accepts, sizeof accepts, "%s%s", route->accepts,
                       !route->changes   ? ""
                       : *route->accepts ? " reason"
                                         : "reason");
    CH_ASSERT(len >= 0 && (size_t)len < sizeof accepts);
    ch_input_init(&input, arguments, why ? why : &local);
    ch_input_only(&input, accepts);
    if (input.err)
        return input.err;
    return route->changes ? run_change(admin, actor, route, &input, result_out)
                          : route->run(admin, arguments, result_out, input.why);
}

enum ch_err ch_admin_call(struct ch_admin *admin, const char *operation, const json_t *arguments,
                          json_t **result_out, struct ch_why *why)
{
    struct ch_audit_actor self;
    ch_audit_actor_of(geteuid(), &self);
    return ch_admin_call_as(admin, &self, operation, arguments, result_out, why);
}

bool ch_admin_is_slow(const char *operation)
{
    return strcmp(operation, "provider.test") == 0 || strcmp(operation, "audit.verify") == 0;
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
    if (admin->store && !json_object_get(status, "audit")) {
        char fingerprint[CH_VAULT_FINGERPRINT + 1];
        ch_vault_fingerprint(ch_store_vault(admin->store), fingerprint);
        failed |= json_object_set_new(status, "audit", ch_audit_head(admin->store)) != 0;
        failed |= json_object_set_new(status, "master_key", json_string(fingerprint)) != 0;
    }
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
