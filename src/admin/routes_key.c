// SPDX-License-Identifier: Apache-2.0
#include "input.h"
#include "routes.h"

#include "base/clock.h"
#include "base/log.h"
#include "domain/model_rule.h"
#include "domain/wrapped_key.h"

#include <stdio.h>

#define LIST_DEFAULT 1000   // keys of one answer unless --limit says otherwise
#define LIST_MAX     100000 // about 60 MB of JSON

static bool is_expired(const struct ch_key_row *row)
{
    return row->expires_at_ms != 0 && row->expires_at_ms <= ch_clock_wall_ms();
}

// What the key is right now: its stored status, or that its time is over.
static const char *current_status(const struct ch_key_row *row)
{
    if (row->status == CH_KEY_ACTIVE && is_expired(row))
        return "expired";
    return ch_key_status_name(row->status);
}

static json_t *providers_to_json(const struct ch_key_row *row)
{
    json_t *names = json_array();
    for (unsigned i = 0; names && i < row->provider_count; i++)
        if (json_array_append_new(names, json_string(row->provider_names[i]))) {
            json_decref(names);
            names = NULL;
        }
    return names;
}

// "k=v,k=v" as an object.
static json_t *tags_to_json(const char *tags)
{
    json_t *object = json_object();
    while (object && *tags) {
        size_t key_len = strcspn(tags, "="), len = strcspn(tags, ",");
        char key[CH_NAME_MAX + 1];
        ch_span_copy((struct ch_span){tags, key_len}, key, sizeof key);
        if (key_len >= len ||
            json_object_set_new(object, key, json_stringn(tags + key_len + 1, len - key_len - 1))) {
            json_decref(object);
            return NULL;
        }
        tags += len + (tags[len] == ',');
    }
    return object;
}

static json_t *key_to_json(const struct ch_key_row *row)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}",
                     "schema", "chaperone.key/1", "name", row->name, "id", row->public_id, "status",
                     current_status(row), "revoke_reason", row->revoke_reason, "providers",
                     providers_to_json(row), "models", row->models, "team", row->team, "project",
                     row->project, "env", row->env, "service", row->service, "tags",
                     tags_to_json(row->tags), "expires_at", ch_route_time(row->expires_at_ms),
                     "created_at", ch_route_time(row->created_at_ms), "updated_at",
                     ch_route_time(row->updated_at_ms));
}

// Makes a stored row hold on every loop.
static enum ch_err put_in_force(struct ch_admin *admin, const struct ch_key_row *row,
                                struct ch_why *why)
{
    enum ch_err err = admin->registry ? ch_registry_put_key(admin->registry, row) : CH_OK;
    return err ? ch_why_set(why, err, "key %s is stored, but not yet in force: restart the daemon",
                            row->name)
               : CH_OK;
}

// ---- create

struct create_job {
    struct ch_admin *admin;
    struct ch_key_row row;
    char token[CH_WRAPPED_KEY_MAX + 1];
};

static void read_providers(struct ch_input *input, struct ch_key_row *row)
{
    size_t index;
    json_t *value;
    json_t *names = input->err ? NULL : json_object_get(input->arguments, "provider");
    if (!json_is_array(names) || json_array_size(names) == 0) {
        ch_input_fail(input, "--provider is needed: the name of a provider this key may use");
        return;
    }
    if (json_array_size(names) > CH_KEY_PROVIDERS_MAX) {
        ch_input_fail(input, "--provider: at most %d providers a key", CH_KEY_PROVIDERS_MAX);
        return;
    }
    json_array_foreach(names, index, value)
    {
        struct ch_span name = {json_string_value(value), json_string_length(value)};
        if (!json_is_string(value) || !ch_name_is_valid(name)) {
            ch_input_fail(input, "--provider takes a provider's name");
            return;
        }
        for (size_t i = 0; i < index; i++)
            if (ch_span_eq(name, ch_span_of(row->provider_names[i])))
                ch_input_fail(input, "--provider %s stands twice", row->provider_names[i]);
        ch_span_copy(name, row->provider_names[index], sizeof row->provider_names[index]);
    }
    row->provider_count = (unsigned)json_array_size(names);
}

static void read_models(struct ch_input *input, struct ch_key_row *row)
{
    struct ch_buf list;
    struct ch_why reason = {""};
    const char *text = ch_input_string(input, "models", false);
    if (!text)
        return;
    ch_buf_init(&list, CH_KEY_MODELS_MAX);
    enum ch_err err = ch_model_rule_parse(ch_span_of(text), &list, &reason);
    if (err == CH_ERR_LIMIT)
        ch_input_fail(input, "--models: the list is longer than %d bytes", CH_KEY_MODELS_MAX);
    else if (err)
        ch_input_fail(input, "--models: %s", reason.text);
    else if (list.len == 0)
        ch_input_fail(input, "--models is empty; leave it out to allow every model");
    else
        ch_span_copy(ch_buf_span(&list), row->models, sizeof row->models);
    ch_buf_fini(&list);
}

static void read_name_into(struct ch_input *input, const char *member, char out[CH_NAME_MAX + 1])
{
    const char *name = ch_input_name(input, member, false);
    if (name)
        ch_span_copy(ch_span_of(name), out, CH_NAME_MAX + 1);
}

static void read_create(struct ch_input *input, struct ch_key_row *row)
{
    const char *name = ch_input_name(input, "name", true);
    if (name)
        ch_span_copy(ch_span_of(name), row->name, sizeof row->name);
    read_providers(input, row);
    read_models(input, row);
    row->expires_at_ms = ch_input_when(input, "expires", CH_WHEN_AHEAD);
    if (row->expires_at_ms && is_expired(row))
        ch_input_fail(input, "--expires lies in the past");
    read_name_into(input, "team", row->team);
    read_name_into(input, "project", row->project);
    read_name_into(input, "env", row->env);
    read_name_into(input, "service", row->service);
    ch_input_tags(input, "tag", row->tags);
}

static enum ch_err create_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct create_job *job = arg;
    return ch_key_create(db, ch_store_pepper(job->admin->store), &job->row, job->token, why);
}

// The key's JSON with the token in front: the only answer that ever holds one.
static json_t *created_to_json(const struct create_job *job)
{
    json_t *result = json_pack("{s:s, s:s}", "schema", "chaperone.key/1", "key", job->token);
    json_t *rest = key_to_json(&job->row);
    if (!result || !rest || json_object_update_missing(result, rest)) {
        json_decref(result);
        result = NULL;
    }
    json_decref(rest);
    return result;
}

static enum ch_err revoke_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct create_job *job = arg;
    return ch_key_set_status(db, job->row.name, CH_KEY_REVOKED, "never handed out", &job->row, why);
}

// A stored key whose token nobody got must not come to life, now or at the next start. The registry
// may never have taken it, and then it need not take its end.
static enum ch_err withdraw(struct create_job *job, enum ch_err err, struct ch_why *why)
{
    struct ch_why reason = {""};
    struct ch_registry *registry = job->admin->registry;
    if (ch_store_write(job->admin->store, revoke_in_store, job, &reason))
        return ch_why_set(why, err,
                          "key %s could not be put in force, and nobody has seen it: revoke it "
                          "(%.200s)",
                          job->row.name, reason.text);
    if (registry && ch_registry_put_key(registry, &job->row))
        CH_LOG(CH_LOG_DEBUG, "withdrawn_key_not_held", ch_log_text("key", job->row.name));
    return ch_why_set(why, err,
                      "key %s could not be put in force and was revoked before anybody saw it: "
                      "create one of another name",
                      job->row.name);
}

enum ch_err ch_route_key_create(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct create_job job = {.admin = admin};
    ch_input_init(&input, arguments, why);
    read_create(&input, &job.row);
    if (input.err)
        return input.err;
    enum ch_err err = ch_store_write(admin->store, create_in_store, &job, why);
    if (!err) {
        err = put_in_force(admin, &job.row, why);
        if (!err)
            err = ch_route_give(created_to_json(&job), result_out, why);
        if (err)
            err = withdraw(&job, err, why);
    }
    ch_wipe(job.token, sizeof job.token);
    return err;
}

// ---- show, enable, disable, revoke

struct row_job {
    const char *name;
    const char *reason;
    enum ch_key_status status;
    struct ch_key_row row;
};

static enum ch_err get_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct row_job *job = arg;
    return ch_key_get(db, job->name, &job->row, why);
}

enum ch_err ch_route_key_show(struct ch_admin *admin, const json_t *arguments, json_t **result_out,
                              struct ch_why *why)
{
    struct ch_input input;
    struct row_job job = {0};
    ch_input_init(&input, arguments, why);
    job.name = ch_input_name(&input, "name", true);
    if (input.err)
        return input.err;
    enum ch_err err = ch_store_read(admin->store, get_in_store, &job, why);
    return err ? err : ch_route_give(key_to_json(&job.row), result_out, why);
}

static enum ch_err set_status_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct row_job *job = arg;
    return ch_key_set_status(db, job->name, job->status, job->reason, &job->row, why);
}

// Puts a refusal in force before it is stored. Whatever keeps this from happening shows again, with
// its sentence, when it is stored.
static bool refuse_first(struct ch_admin *admin, const struct row_job *job)
{
    struct row_job now = {.name = job->name};
    if (!admin->registry || job->status == CH_KEY_ACTIVE ||
        ch_store_read(admin->store, get_in_store, &now, NULL) || now.row.status == CH_KEY_REVOKED)
        return false;
    now.row.status = job->status;
    return ch_registry_put_key(admin->registry, &now.row) == CH_OK;
}

static enum ch_err set_status(struct ch_admin *admin, const json_t *arguments,
                              enum ch_key_status status, json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct row_job job = {.status = status};
    struct ch_why reason = {""};
    ch_input_init(&input, arguments, why);
    job.name = ch_input_name(&input, "name", true);
    job.reason = ch_input_text(&input, "reason", CH_LABEL_MAX);
    if (input.err)
        return input.err;
    if (!job.reason)
        job.reason = "";
    bool is_in_force = refuse_first(admin, &job);
    enum ch_err err = ch_store_write(admin->store, set_status_in_store, &job, &reason);
    if (err)
        return is_in_force ? ch_route_not_stored("key", job.name, &reason, why)
                           : ch_why_set(why, err, "%s", reason.text);
    if (!is_in_force)
        err = put_in_force(admin, &job.row, why);
    return err ? err : ch_route_give(key_to_json(&job.row), result_out, why);
}

enum ch_err ch_route_key_enable(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    return set_status(admin, arguments, CH_KEY_ACTIVE, result_out, why);
}

enum ch_err ch_route_key_disable(struct ch_admin *admin, const json_t *arguments,
                                 json_t **result_out, struct ch_why *why)
{
    return set_status(admin, arguments, CH_KEY_DISABLED, result_out, why);
}

enum ch_err ch_route_key_revoke(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    return set_status(admin, arguments, CH_KEY_REVOKED, result_out, why);
}

// ---- verify

struct verify_job {
    struct ch_admin *admin;
    struct ch_span token, public_id;
    struct ch_key_row row;
    bool has_row;
    unsigned active_providers;
    const char *fault; // why the token does not work; NULL: it does
};

static enum ch_err count_active_providers(struct ch_db *db, struct verify_job *job)
{
    struct ch_provider_row provider;
    for (unsigned i = 0; i < job->row.provider_count; i++) {
        enum ch_err err = ch_provider_get(db, job->row.provider_names[i], &provider, NULL);
        if (err && err != CH_ERR_NOT_FOUND)
            return err;
        job->active_providers += !err && provider.enabled;
    }
    return CH_OK;
}

static bool token_matches(const struct verify_job *job)
{
    unsigned char hash[CH_WRAPPED_KEY_HASH];
    const char *pepper = ch_secret_reveal(ch_store_pepper(job->admin->store)).ptr;
    ch_wrapped_key_hash((const unsigned char *)pepper, job->row.salt, job->token, hash);
    bool matches = ch_secret_equal(hash, job->row.hash, sizeof hash);
    ch_wipe(hash, sizeof hash);
    return matches;
}

static const char *fault_of(const struct verify_job *job)
{
    if (job->row.status == CH_KEY_REVOKED)
        return "revoked";
    if (job->row.status == CH_KEY_DISABLED)
        return "disabled";
    if (is_expired(&job->row))
        return "expired";
    return job->active_providers ? NULL : "provider_inactive";
}

static enum ch_err verify_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct verify_job *job = arg;
    enum ch_err err = ch_key_get_by_public_id(db, job->public_id, &job->row, why);
    if (err == CH_ERR_NOT_FOUND) {
        job->fault = "unknown";
        return CH_OK;
    }
    if (err)
        return err;
    if (!token_matches(job)) {
        job->fault = "wrong_secret";
        return CH_OK;
    }
    job->has_row = true;
    err = count_active_providers(db, job);
    job->fault = fault_of(job);
    return err;
}

static json_t *verdict_to_json(const struct verify_job *job)
{
    json_t *result = json_pack("{s:s, s:b, s:s}", "schema", "chaperone.key_verdict/1", "valid",
                               job->fault == NULL, "reason", job->fault ? job->fault : "");
    json_t *key = job->has_row ? key_to_json(&job->row) : json_object();
    if (!result || !key || json_object_update_missing(result, key)) {
        json_decref(result);
        result = NULL;
    }
    json_decref(key);
    return result;
}

enum ch_err ch_route_key_verify(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct ch_wrapped_key parsed;
    struct verify_job job = {.admin = admin};
    ch_input_init(&input, arguments, why);
    job.token = ch_span_of(ch_input_string(&input, "token", true));
    if (input.err)
        return input.err;
    if (ch_wrapped_key_parse(job.token, &parsed)) {
        job.fault = "malformed";
        return ch_route_give(verdict_to_json(&job), result_out, why);
    }
    job.public_id = parsed.id;
    enum ch_err err = ch_store_read(admin->store, verify_in_store, &job, why);
    return err ? err : ch_route_give(verdict_to_json(&job), result_out, why);
}

// ---- list

struct list_job {
    const char *status, *provider, *team, *project, *env, *service;
    int64_t limit;
    json_t *items;
    bool is_truncated;
};

static bool equals(const char *wanted, const char *value)
{
    return !wanted || strcmp(wanted, value) == 0;
}

static bool has_provider(const struct ch_key_row *row, const char *name)
{
    for (unsigned i = 0; i < row->provider_count; i++)
        if (strcmp(row->provider_names[i], name) == 0)
            return true;
    return name == NULL;
}

static bool is_wanted(const struct list_job *job, const struct ch_key_row *row)
{
    return equals(job->status, current_status(row)) && equals(job->team, row->team) &&
           equals(job->project, row->project) && equals(job->env, row->env) &&
           equals(job->service, row->service) &&
           (!job->provider || has_provider(row, job->provider));
}

static enum ch_err append_row(void *arg, const struct ch_key_row *row)
{
    struct list_job *job = arg;
    if (!is_wanted(job, row))
        return CH_OK;
    if ((int64_t)json_array_size(job->items) == job->limit) {
        job->is_truncated = true;
        return CH_ERR_AGAIN; // ends the walk
    }
    json_t *item = key_to_json(row);
    if (!item)
        return CH_ERR_NOMEM;
    json_object_del(item, "schema");
    return json_array_append_new(job->items, item) ? CH_ERR_NOMEM : CH_OK;
}

static enum ch_err list_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct list_job *job = arg;
    enum ch_err err = ch_key_each(db, append_row, job, why);
    return job->is_truncated ? CH_OK : err;
}

static void read_list(struct ch_input *input, struct list_job *job)
{
    job->status = ch_input_string(input, "status", false);
    job->provider = ch_input_name(input, "provider", false);
    job->team = ch_input_name(input, "team", false);
    job->project = ch_input_name(input, "project", false);
    job->env = ch_input_name(input, "env", false);
    job->service = ch_input_name(input, "service", false);
    job->limit = ch_input_int(input, "limit", 1, LIST_MAX, LIST_DEFAULT);
    if (job->status && strcmp(job->status, "active") != 0 && strcmp(job->status, "disabled") != 0 &&
        strcmp(job->status, "revoked") != 0 && strcmp(job->status, "expired") != 0)
        ch_input_fail(input, "--status must be one of active, disabled, revoked, expired");
}

enum ch_err ch_route_key_list(struct ch_admin *admin, const json_t *arguments, json_t **result_out,
                              struct ch_why *why)
{
    struct ch_input input;
    struct list_job job = {0};
    ch_input_init(&input, arguments, why);
    read_list(&input, &job);
    if (input.err)
        return input.err;
    job.items = json_array();
    if (!job.items)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    enum ch_err err = ch_store_read(admin->store, list_in_store, &job, why);
    if (err) {
        json_decref(job.items);
        return err;
    }
    return ch_route_give(json_pack("{s:s, s:o, s:b}", "schema", "chaperone.key_list/1", "items",
                                   job.items, "truncated", job.is_truncated),
                         result_out, why);
}
