// SPDX-License-Identifier: Apache-2.0
#include "key_options.h"

#include "base/clock.h"
#include "base/log.h"
#include "domain/wrapped_key.h"

#define LIST_DEFAULT 1000   // keys of one answer unless --limit says otherwise
#define LIST_MAX     100000 // about 60 MB of JSON

// Makes a stored row hold on every loop.
static enum ch_err put_in_force(struct ch_admin *admin, const struct ch_key_row *row,
                                struct ch_why *why)
{
    enum ch_err err = admin->registry ? ch_registry_put_key(admin->registry, row) : CH_OK;
    return err ? ch_why_set(why, err, "key %s is stored, but not yet in force: restart the daemon",
                            row->name)
               : CH_OK;
}

// ---- answers

struct answer_job {
    struct ch_admin *admin;
    const struct ch_key_row *row;
    json_t *budgets;
};

static enum ch_err read_budgets(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct answer_job *job = arg;
    return ch_budgets_of(job->admin, db, CH_BUDGET_OF_KEY, job->row->name, job->budgets, why);
}

// One key with its budgets. `token` (NULL: none) stands in front: only the answers to its making
// ever hold one.
static enum ch_err give_key(struct ch_admin *admin, const struct ch_key_row *row, const char *token,
                            json_t **result_out, struct ch_why *why)
{
    struct answer_job job = {.admin = admin, .row = row, .budgets = json_array()};
    json_t *key = ch_key_to_json(row);
    json_t *result = json_pack("{s:s, s:s*, s:O*}", "schema", "chaperone.key/1", "key", token,
                               "budgets", job.budgets);
    enum ch_err err = job.budgets && key && result
                          ? ch_store_read(admin->store, read_budgets, &job, why)
                          : ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    if (!err && json_object_update_missing(result, key))
        err = ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    json_decref(job.budgets);
    json_decref(key);
    if (!err)
        return ch_route_give(result, result_out, why);
    json_decref(result);
    return err;
}

// ---- create

struct create_job {
    struct ch_admin *admin;
    struct ch_key_options options;
    struct ch_key_row row;
    struct ch_budget_row budgets[CH_BUDGET_PERIODS];
    char token[CH_WRAPPED_KEY_MAX + 1];
};

static enum ch_err create_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct create_job *job = arg;
    enum ch_err err =
        ch_key_create(db, ch_store_pepper(job->admin->store), &job->row, job->token, why);
    return err ? err
               : ch_key_options_store_budgets(job->admin, db, &job->options, job->row.name,
                                              job->budgets, why);
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
    if (ch_route_write(job->admin, revoke_in_store, job, &reason))
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

// The budgets first: no request may pass before they count.
static enum ch_err put_all_in_force(struct ch_admin *admin, const struct ch_budget_row *budgets,
                                    unsigned count, const struct ch_key_row *row,
                                    struct ch_why *why)
{
    enum ch_err err = CH_OK;
    for (unsigned i = 0; i < count && !err; i++)
        err = ch_budget_put_in_force(admin, &budgets[i], why);
    return err ? err : put_in_force(admin, row, why);
}

enum ch_err ch_route_key_create(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct create_job job = {.admin = admin};
    ch_input_init(&input, arguments, why);
    const char *name = ch_input_name(&input, "name", true);
    ch_key_options_read(&input, true, &job.options);
    if (input.err)
        return input.err;
    ch_span_copy(ch_span_of(name), job.row.name, sizeof job.row.name);
    ch_key_options_apply(&job.options, &job.row);
    enum ch_err err = ch_route_write(admin, create_in_store, &job, why);
    if (!err) {
        err = put_all_in_force(admin, job.budgets, job.options.budget_count, &job.row, why);
        if (!err)
            err = give_key(admin, &job.row, job.token, result_out, why);
        if (err)
            err = withdraw(&job, err, why);
    }
    ch_wipe(job.token, sizeof job.token);
    return err;
}

// ---- update

struct update_job {
    struct ch_admin *admin;
    const char *name;
    struct ch_key_options options;
    struct ch_key_row row;
    struct ch_budget_row budgets[CH_BUDGET_PERIODS];
};

static enum ch_err update_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct update_job *job = arg;
    enum ch_err err = ch_key_update(db, job->name, &job->options.patch, &job->row, why);
    return err ? err
               : ch_key_options_store_budgets(job->admin, db, &job->options, job->name,
                                              job->budgets, why);
}

static bool says_nothing(const json_t *arguments)
{
    return json_object_size(arguments) ==
           1u + (json_object_get(arguments, "reason") != NULL); // and the name
}

enum ch_err ch_route_key_update(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct update_job job = {.admin = admin};
    ch_input_init(&input, arguments, why);
    job.name = ch_input_name(&input, "name", true);
    ch_key_options_read(&input, false, &job.options);
    if (!input.err && says_nothing(arguments))
        ch_input_fail(&input, "there is nothing to change: give at least one option");
    if (input.err)
        return input.err;
    enum ch_err err = ch_route_write(admin, update_in_store, &job, why);
    if (!err)
        err = put_all_in_force(admin, job.budgets, job.options.budget_count, &job.row, why);
    return err ? err : give_key(admin, &job.row, NULL, result_out, why);
}

// ---- rotate

struct rotate_job {
    struct ch_admin *admin;
    const char *name;
    int64_t grace_ms;
    struct ch_key_row row;
    char token[CH_WRAPPED_KEY_MAX + 1];
};

static enum ch_err rotate_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct rotate_job *job = arg;
    return ch_key_rotate(db, ch_store_pepper(job->admin->store), job->name, job->grace_ms,
                         &job->row, job->token, why);
}

static int64_t read_grace(struct ch_input *input)
{
    int64_t until_ms = ch_input_when(input, "grace", CH_WHEN_AHEAD);
    int64_t grace_ms = until_ms ? until_ms - ch_clock_wall_ms() : 0;
    if (grace_ms < 0)
        ch_input_fail(input, "--grace lies in the past");
    if (grace_ms > CH_KEY_GRACE_MAX_MS)
        ch_input_fail(input, "--grace is at most %lld days",
                      (long long)(CH_KEY_GRACE_MAX_MS / (24 * 60 * 60 * 1000)));
    return grace_ms;
}

enum ch_err ch_route_key_rotate(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct ch_why reason = {""};
    struct rotate_job job = {.admin = admin};
    ch_input_init(&input, arguments, why);
    job.name = ch_input_name(&input, "name", true);
    job.grace_ms = read_grace(&input);
    if (input.err)
        return input.err;
    enum ch_err err = ch_route_write(admin, rotate_in_store, &job, why);
    if (!err) {
        err = put_in_force(admin, &job.row, &reason);
        if (!err)
            err = give_key(admin, &job.row, job.token, result_out, &reason);
        if (err)
            ch_why_set(why, err,
                       "key %s has a new secret that nobody has seen: rotate it again "
                       "(%.200s)",
                       job.name, reason.text);
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
    return err ? err : give_key(admin, &job.row, NULL, result_out, why);
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
    enum ch_err err = ch_route_write(admin, set_status_in_store, &job, &reason);
    if (err)
        return is_in_force ? ch_route_not_stored("key", job.name, &reason, why)
                           : ch_why_set(why, err, "%s", reason.text);
    if (!is_in_force)
        err = put_in_force(admin, &job.row, why);
    return err ? err : give_key(admin, &job.row, NULL, result_out, why);
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
    bool has_row, is_previous;
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

static bool fits(const struct verify_job *job, const unsigned char *salt,
                 const unsigned char *expected)
{
    unsigned char hash[CH_WRAPPED_KEY_HASH];
    const char *pepper = ch_secret_reveal(ch_store_pepper(job->admin->store)).ptr;
    ch_wrapped_key_hash((const unsigned char *)pepper, salt, job->token, hash);
    bool is_equal = ch_secret_equal(hash, expected, sizeof hash);
    ch_wipe(hash, sizeof hash);
    return is_equal;
}

// The present secret, or one that a rotation replaced and that still has its grace.
static bool token_matches(struct verify_job *job)
{
    const struct ch_key_row *row = &job->row;
    if (fits(job, row->salt, row->hash))
        return true;
    job->is_previous = row->previous_expires_at_ms > ch_clock_wall_ms() &&
                       fits(job, row->previous_salt, row->previous_hash);
    return job->is_previous;
}

static const char *fault_of(const struct verify_job *job)
{
    if (job->row.status == CH_KEY_REVOKED)
        return "revoked";
    if (job->row.status == CH_KEY_DISABLED)
        return "disabled";
    if (strcmp(ch_key_current_status(&job->row), "expired") == 0)
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
    json_t *result = json_pack("{s:s, s:b, s:s, s:b}", "schema", "chaperone.key_verdict/1", "valid",
                               job->fault == NULL, "reason", job->fault ? job->fault : "",
                               "is_previous_secret", job->is_previous);
    json_t *key = job->has_row ? ch_key_to_json(&job->row) : json_object();
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
    return equals(job->status, ch_key_current_status(row)) && equals(job->team, row->team) &&
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
    json_t *item = ch_key_to_json(row);
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
