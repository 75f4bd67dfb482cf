// SPDX-License-Identifier: Apache-2.0
#include "key_options.h"

#include "base/secret.h"
#include "net/address_guard.h"
#include "proxy/probe.h"
#include "wire/url.h"

#include <stdio.h>

static json_t *provider_to_json(const struct ch_provider_row *row)
{
    char hint[sizeof row->key_hint + 4] = "";
    if (row->key_hint[0])
        snprintf(hint, sizeof hint, "…%s", row->key_hint);
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:o, s:s, s:s, s:I, s:o, s:o}", "schema",
                     "chaperone.provider/1", "name", row->name, "type",
                     ch_provider_type_name(row->type), "base_url", row->base_url, "enabled",
                     row->enabled, "injects_usage", row->injects_usage, "unknown_model",
                     ch_unknown_model_to_json(&row->unknown_model), "objects",
                     ch_objects_name(row->objects), "key_hint", hint, "key_version",
                     (json_int_t)row->key_version, "created_at", ch_route_time(row->created_at_ms),
                     "updated_at", ch_route_time(row->updated_at_ms));
}

static enum ch_err get_config(struct ch_admin *admin, struct ch_config **config_out,
                              struct ch_why *why)
{
    struct ch_config *config = ch_zcalloc(1, sizeof *config);
    if (!config)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    if (admin->config)
        admin->config(admin->config_arg, config);
    *config_out = config;
    return CH_OK;
}

// ---- create

struct create_job {
    struct ch_admin *admin;
    struct ch_provider_row row;
    struct ch_span credential;
};

static void read_type(struct ch_input *input, struct ch_provider_row *row)
{
    const char *type = ch_input_string(input, "type", true);
    if (type && ch_provider_type_parse(ch_span_of(type), &row->type))
        ch_input_fail(input,
                      "--type must be one of openai, anthropic, gemini, azure, openai-compatible");
}

static void check_url(struct ch_input *input, const char *text)
{
    struct ch_url url;
    struct ch_why reason = {""};
    if (!ch_input_text_is_clean(ch_span_of(text)))
        ch_input_fail(input, "--base-url contains a control character");
    else if (ch_url_parse(ch_span_of(text), &url, &reason))
        ch_input_fail(input, "--base-url: %s", reason.text);
    else if (!url.tls && !ch_url_host_is_loopback(url.host))
        ch_input_fail(input, "--base-url must begin with https://; http:// is only for localhost, "
                             "127.0.0.0/8 and [::1]");
}

// False: not given.
static bool read_objects(struct ch_input *input, enum ch_objects *objects)
{
    const char *text = ch_input_string(input, "objects", false);
    if (text && ch_objects_parse(ch_span_of(text), objects))
        ch_input_fail(input, "--objects must be one of project, team, key, shared");
    return text != NULL;
}

// The type's own address unless the operator gives one; without a final slash, so that one address
// has one spelling.
static void read_base_url(struct ch_input *input, struct ch_provider_row *row)
{
    const char *given = ch_input_string(input, "base_url", false);
    if (input->err)
        return;
    const char *text = given ? given : ch_provider_type_base_url(row->type);
    if (!text) {
        ch_input_fail(input, "--base-url is needed for --type %s, e.g. --base-url %s",
                      ch_provider_type_name(row->type),
                      row->type == CH_PROVIDER_AZURE ? "https://NAME.openai.azure.com"
                                                     : "https://api.example.com/v1");
        return;
    }
    struct ch_span url = ch_span_of(text);
    while (url.len && url.ptr[url.len - 1] == '/')
        url.len--;
    if (!ch_span_copy(url, row->base_url, sizeof row->base_url))
        ch_input_fail(input, "--base-url is longer than %d bytes", CH_BASE_URL_MAX);
    else
        check_url(input, row->base_url);
}

// A credential goes into a header field: visible ASCII only, no blanks (RFC 9110 §5.5).
static struct ch_span read_credential(struct ch_input *input)
{
    const char *text = ch_input_string(input, "credential", true);
    struct ch_span credential = ch_span_of(text);
    if (text && (credential.len == 0 || credential.len > CH_VAULT_PLAIN_MAX))
        ch_input_fail(input, "the provider key must be 1-%d bytes long", CH_VAULT_PLAIN_MAX);
    for (size_t i = 0; i < credential.len; i++)
        if (credential.ptr[i] <= ' ' || credential.ptr[i] > '~')
            ch_input_fail(input, "the provider key contains a blank or a character that is not "
                                 "visible ASCII; nothing was stored");
    return credential;
}

static enum ch_err create_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct create_job *job = arg;
    return ch_provider_create(db, ch_store_vault(job->admin->store), &job->row, job->credential,
                              why);
}

// Makes a stored row hold on every loop.
static enum ch_err put_in_force(struct ch_admin *admin, const struct ch_provider_row *row,
                                struct ch_why *why)
{
    enum ch_err err = admin->registry ? ch_registry_put_provider(admin->registry, row) : CH_OK;
    return err ? ch_why_set(why, err,
                            "provider %s is stored, but not yet in force: restart the daemon",
                            row->name)
               : CH_OK;
}

// A literal address that no request will reach is worth a word now, not at the first 502.
static enum ch_err add_warning(struct ch_admin *admin, const struct ch_provider_row *row,
                               json_t *result, struct ch_why *why)
{
    struct ch_url url;
    struct ch_config *config;
    enum ch_err err = ch_url_parse(ch_span_of(row->base_url), &url, why);
    if (!err)
        err = get_config(admin, &config, why);
    if (err)
        return err;
    enum ch_address_class address_class = ch_address_guard_host(url.host, &config->allow_addresses);
    ch_zfree(config);
    if (address_class == CH_ADDRESS_PUBLIC)
        return CH_OK;
    json_t *warning = json_sprintf("%.*s is a %s address and will not be connected to unless "
                                   "upstream.allow_addresses in the configuration names it",
                                   CH_SPAN_ARG(url.host), ch_address_class_name(address_class));
    return json_object_set_new(result, "warning", warning)
               ? ch_why_set(why, CH_ERR_NOMEM, "out of memory")
               : CH_OK;
}

static enum ch_err give_created(struct ch_admin *admin, const struct ch_provider_row *row,
                                json_t **result_out, struct ch_why *why)
{
    json_t *result = provider_to_json(row);
    enum ch_err err = result ? add_warning(admin, row, result, why) : CH_OK;
    if (!err)
        return ch_route_give(result, result_out, why);
    json_decref(result);
    return err;
}

enum ch_err ch_route_provider_create(struct ch_admin *admin, const json_t *arguments,
                                     json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct create_job job = {.admin = admin, .row = {.enabled = true}};
    ch_input_init(&input, arguments, why);
    const char *name = ch_input_name(&input, "name", true);
    read_type(&input, &job.row);
    read_base_url(&input, &job.row);
    job.row.injects_usage = ch_input_bool(&input, "injects_usage", true);
    ch_input_unknown_model(&input, "unknown_model", &job.row.unknown_model);
    read_objects(&input, &job.row.objects);
    job.credential = read_credential(&input);
    if (input.err)
        return input.err;

    ch_span_copy(ch_span_of(name), job.row.name, sizeof job.row.name);
    enum ch_err err = ch_route_write(admin, create_in_store, &job, why);
    if (!err)
        err = put_in_force(admin, &job.row, why);
    return err ? err : give_created(admin, &job.row, result_out, why);
}

// ---- the verbs that take a name

struct row_job {
    const char *name;
    bool enabled;
    bool sets_unknown_model, sets_objects;
    struct ch_unknown_model_rule unknown_model;
    enum ch_objects objects;
    int64_t id;
    struct ch_provider_row row;
    int64_t budgets[CH_BUDGET_PERIODS]; // that go with a deleted one
    unsigned budget_count;
};

static enum ch_err get_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct row_job *job = arg;
    return ch_provider_get(db, job->name, &job->row, why);
}

static enum ch_err read_row(struct ch_admin *admin, const json_t *arguments, struct row_job *job,
                            struct ch_why *why)
{
    struct ch_input input;
    ch_input_init(&input, arguments, why);
    job->name = ch_input_name(&input, "name", true);
    return input.err ? input.err : ch_store_read(admin->store, get_in_store, job, why);
}

enum ch_err ch_route_provider_show(struct ch_admin *admin, const json_t *arguments,
                                   json_t **result_out, struct ch_why *why)
{
    struct row_job job;
    enum ch_err err = read_row(admin, arguments, &job, why);
    return err ? err : ch_route_give(provider_to_json(&job.row), result_out, why);
}

// A provider that refuses is what the caller wanted to know, not a failed call.
enum ch_err ch_route_provider_test(struct ch_admin *admin, const json_t *arguments,
                                   json_t **result_out, struct ch_why *why)
{
    struct row_job job;
    struct ch_probe_result probe = {0};
    struct ch_why reason = {""};
    struct ch_config *config;
    enum ch_err err = read_row(admin, arguments, &job, why);
    if (!err)
        err = get_config(admin, &config, why);
    if (err)
        return err;
    err = ch_probe_provider(ch_store_vault(admin->store), &job.row, config, CH_ADMIN_PROBE_MS,
                            &probe, &reason);
    ch_zfree(config);
    if (err == CH_ERR_NOMEM)
        return ch_why_set(why, err, "out of memory");
    json_t *result =
        json_pack("{s:s, s:s, s:b, s:s, s:I, s:I, s:s}", "schema", "chaperone.provider_test/1",
                  "name", job.row.name, "ok", err == CH_OK, "code", ch_err_name(err), "status",
                  (json_int_t)probe.status, "latency_us", (json_int_t)probe.latency_us, "message",
                  err ? reason.text : "the provider accepts the key");
    return ch_route_give(result, result_out, why);
}

static enum ch_err set_enabled_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct row_job *job = arg;
    return ch_provider_set_enabled(db, job->name, job->enabled, &job->row, why);
}

// Puts a refusal in force before it is stored. Whatever keeps this from happening shows again, with
// its sentence, when it is stored.
static bool refuse_first(struct ch_admin *admin, const struct row_job *job)
{
    struct row_job now = {.name = job->name};
    if (!admin->registry || job->enabled || ch_store_read(admin->store, get_in_store, &now, NULL))
        return false;
    now.row.enabled = false;
    return ch_registry_put_provider(admin->registry, &now.row) == CH_OK;
}

static enum ch_err set_enabled(struct ch_admin *admin, const json_t *arguments, bool enabled,
                               json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct row_job job = {.enabled = enabled};
    struct ch_why reason = {""};
    ch_input_init(&input, arguments, why);
    job.name = ch_input_name(&input, "name", true);
    if (input.err)
        return input.err;
    bool is_in_force = refuse_first(admin, &job);
    enum ch_err err = ch_route_write(admin, set_enabled_in_store, &job, &reason);
    if (err)
        return is_in_force ? ch_route_not_stored("provider", job.name, &reason, why)
                           : ch_why_set(why, err, "%s", reason.text);
    if (!is_in_force)
        err = put_in_force(admin, &job.row, why);
    return err ? err : ch_route_give(provider_to_json(&job.row), result_out, why);
}

enum ch_err ch_route_provider_enable(struct ch_admin *admin, const json_t *arguments,
                                     json_t **result_out, struct ch_why *why)
{
    return set_enabled(admin, arguments, true, result_out, why);
}

enum ch_err ch_route_provider_disable(struct ch_admin *admin, const json_t *arguments,
                                      json_t **result_out, struct ch_why *why)
{
    return set_enabled(admin, arguments, false, result_out, why);
}

static enum ch_err update_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct row_job *job = arg;
    enum ch_err err = CH_OK;
    if (job->sets_unknown_model)
        err = ch_provider_set_unknown_model(db, job->name, &job->unknown_model, &job->row, why);
    if (!err && job->sets_objects)
        err = ch_provider_set_objects(db, job->name, job->objects, &job->row, why);
    return err;
}

enum ch_err ch_route_provider_update(struct ch_admin *admin, const json_t *arguments,
                                     json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct row_job job = {.name = NULL};
    ch_input_init(&input, arguments, why);
    job.name = ch_input_name(&input, "name", true);
    job.sets_unknown_model = ch_input_unknown_model(&input, "unknown_model", &job.unknown_model);
    job.sets_objects = read_objects(&input, &job.objects);
    if (!job.sets_unknown_model && !job.sets_objects)
        ch_input_fail(&input, "there is nothing to change: give --unknown-model or --objects");
    if (input.err)
        return input.err;
    enum ch_err err = ch_route_write(admin, update_in_store, &job, why);
    if (!err)
        err = put_in_force(admin, &job.row, why);
    return err ? err : ch_route_give(provider_to_json(&job.row), result_out, why);
}

static enum ch_err collect_budgets(struct ch_db *db, struct row_job *job, struct ch_why *why)
{
    struct ch_budget_row row;
    for (int period = 0; period < CH_BUDGET_PERIODS; period++) {
        enum ch_err err = ch_budget_get(db, CH_BUDGET_OF_PROVIDER, job->name,
                                        (enum ch_budget_period)period, &row, why);
        if (err && err != CH_ERR_NOT_FOUND)
            return err;
        if (!err)
            job->budgets[job->budget_count++] = row.id;
    }
    return CH_OK;
}

static enum ch_err delete_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct row_job *job = arg;
    enum ch_err err = collect_budgets(db, job, why);
    return err ? err : ch_provider_delete(db, job->name, &job->id, why);
}

enum ch_err ch_route_provider_delete(struct ch_admin *admin, const json_t *arguments,
                                     json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct row_job job = {0};
    ch_input_init(&input, arguments, why);
    job.name = ch_input_name(&input, "name", true);
    if (input.err)
        return input.err;
    enum ch_err err = ch_route_write(admin, delete_in_store, &job, why);
    if (err)
        return err;
    if (admin->registry)
        ch_registry_drop_provider(admin->registry, job.id);
    for (unsigned i = 0; admin->registry && i < job.budget_count; i++)
        ch_registry_drop_budget(admin->registry, job.budgets[i]);
    return ch_route_give(json_pack("{s:s, s:s, s:b}", "schema", "chaperone.provider_deleted/1",
                                   "name", job.name, "deleted", true),
                         result_out, why);
}

// ---- list

static enum ch_err append_row(void *arg, const struct ch_provider_row *row)
{
    json_t *item = provider_to_json(row);
    if (!item)
        return CH_ERR_NOMEM;
    json_object_del(item, "schema");
    return json_array_append_new(arg, item) ? CH_ERR_NOMEM : CH_OK;
}

static enum ch_err list_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    return ch_provider_each(db, append_row, arg, why);
}

enum ch_err ch_route_provider_list(struct ch_admin *admin, const json_t *arguments,
                                   json_t **result_out, struct ch_why *why)
{
    (void)arguments;
    json_t *items = json_array();
    if (!items)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    enum ch_err err = ch_store_read(admin->store, list_in_store, items, why);
    if (err) {
        json_decref(items);
        return err;
    }
    return ch_route_give(
        json_pack("{s:s, s:o}", "schema", "chaperone.provider_list/1", "items", items), result_out,
        why);
}
