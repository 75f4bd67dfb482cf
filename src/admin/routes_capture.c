// SPDX-License-Identifier: Apache-2.0
// Whose bodies are captured, and what was captured of one exchange.
#include "input.h"
#include "routes.h"

#include "base/id.h"
#include "base/secret.h"
#include "store/capture_scope.h"
#include "store/capture_store.h"
#include "store/usage_query.h"
#include "store/usage_writer.h"

#include <stdio.h>

static enum ch_err out_of_memory(struct ch_why *why)
{
    return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
}

// NULL: no memory. All defaults where nobody knows the configuration.
static struct ch_config *copy_config(const struct ch_admin *admin)
{
    struct ch_config *config = ch_zcalloc(1, sizeof *config);
    if (config && admin->config)
        admin->config(admin->config_arg, config);
    return config;
}

// ---- enable, disable, list

static json_t *scope_to_json(const struct ch_capture_scope *scope)
{
    char text[CH_NAME_MAX + sizeof "team:"];
    snprintf(text, sizeof text, "%s:%s", ch_budget_scope_name(scope->scope), scope->subject);
    return json_pack("{s:s, s:o}", "scope", text, "since", ch_route_time(scope->created_at_ms));
}

static void read_scope(struct ch_input *input, struct ch_capture_scope *scope)
{
    bool is_there = ch_input_scope(input, "scope", &scope->scope, scope->subject);
    bool is_known =
        is_there && (scope->scope == CH_BUDGET_OF_KEY || scope->scope == CH_BUDGET_OF_TEAM);
    if (!is_known)
        ch_input_fail(input, "SCOPE must be key:NAME or team:NAME; bodies of every exchange are "
                             "captured with capture.bodies in the configuration");
}

static enum ch_err enable_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    return ch_capture_scope_put(db, arg, why);
}

static enum ch_err disable_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    return ch_capture_scope_delete(db, arg, why);
}

static enum ch_err set(struct ch_admin *admin, const json_t *arguments, bool is_on,
                       json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct ch_capture_scope scope = {.key_id = 0};
    ch_input_init(&input, arguments, why);
    read_scope(&input, &scope);
    if (input.err)
        return input.err;
    enum ch_err err =
        ch_route_write(admin, is_on ? enable_in_store : disable_in_store, &scope, why);
    if (!err && admin->registry && ch_registry_set_capture(admin->registry, &scope, is_on))
        err = out_of_memory(why);
    if (err)
        return err;
    json_t *result = scope_to_json(&scope);
    if (result && (json_object_set_new(result, "schema", json_string("chaperone.capture/1")) ||
                   json_object_set_new(result, "captured", json_boolean(is_on)))) {
        json_decref(result);
        result = NULL;
    }
    return ch_route_give(result, result_out, why);
}

enum ch_err ch_route_capture_enable(struct ch_admin *admin, const json_t *arguments,
                                    json_t **result_out, struct ch_why *why)
{
    return set(admin, arguments, true, result_out, why);
}

enum ch_err ch_route_capture_disable(struct ch_admin *admin, const json_t *arguments,
                                     json_t **result_out, struct ch_why *why)
{
    return set(admin, arguments, false, result_out, why);
}

static enum ch_err append_scope(void *arg, const struct ch_capture_scope *scope)
{
    return json_array_append_new(arg, scope_to_json(scope)) ? CH_ERR_NOMEM : CH_OK;
}

static enum ch_err list_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    return ch_capture_scope_each(db, append_scope, arg, why);
}

enum ch_err ch_route_capture_list(struct ch_admin *admin, const json_t *arguments,
                                  json_t **result_out, struct ch_why *why)
{
    (void)arguments;
    struct ch_config *config = copy_config(admin);
    json_t *items = json_array();
    if (!config || !items) {
        ch_zfree(config);
        json_decref(items);
        return out_of_memory(why);
    }
    bool is_everything = config->capture.bodies;
    ch_zfree(config);
    enum ch_err err = ch_store_read(admin->store, list_in_store, items, why);
    if (err) {
        json_decref(items);
        return err;
    }
    return ch_route_give(json_pack("{s:s, s:b, s:o}", "schema", "chaperone.captures/1",
                                   "everything", is_everything, "items", items),
                         result_out, why);
}

// ---- usage show

static enum ch_err add_event(const json_t *event, json_t *result, struct ch_why *why)
{
    static const char *const members[] = {"request_body", "request_body_is_cut", "response_body",
                                          "response_body_is_cut", "prompt_carries_key"};
    bool failed = json_object_set_new(result, "is_captured", json_boolean(event != NULL)) != 0;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        json_t *value = json_object_get(event, members[i]);
        bool is_body = i % 2 == 0 && i < 4;
        json_t *shown = value ? json_incref(value) : is_body ? json_null() : json_false();
        failed |= json_object_set_new(result, members[i], shown) != 0;
    }
    return failed ? out_of_memory(why) : CH_OK;
}

static enum ch_err read_event(struct ch_admin *admin, int64_t id, json_t **event_out,
                              struct ch_why *why)
{
    struct ch_config *config = copy_config(admin);
    if (!config)
        return out_of_memory(why);
    *event_out = NULL;
    enum ch_err err = ch_capture_read(config->capture.directory, admin->store, id, event_out, why);
    ch_zfree(config);
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

enum ch_err ch_route_usage_show(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    int64_t id = 0;
    json_t *row = NULL, *event = NULL;
    ch_input_init(&input, arguments, why);
    const char *text = ch_input_string(&input, "id", true);
    if (text && ch_id_parse(ch_span_of(text), &id))
        ch_input_fail(&input, "ID is a request id like req_0Bd8YqJ3xZa");
    if (input.err)
        return input.err;
    ch_usage_writer_flush(admin->store);
    enum ch_err err = ch_usage_find(admin->store, id, &row, why);
    if (!err)
        err = read_event(admin, id, &event, why);
    if (!err)
        err = add_event(event, row, why);
    if (!err && json_object_set_new(row, "schema", json_string("chaperone.exchange/1")))
        err = out_of_memory(why);
    json_decref(event);
    if (err)
        json_decref(row);
    else
        *result_out = row;
    return err;
}
