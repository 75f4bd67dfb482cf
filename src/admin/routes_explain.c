// SPDX-License-Identifier: Apache-2.0
// What the gate would say to a request, without sending one.
#include "budgets.h"

#include "admin/contracts.h"
#include "proxy/explain.h"

#define TOKENS_MAX INT64_C(1000000000) // of one request that is asked about

struct explain_job {
    const char *name, *model;
    struct ch_explain_request request;
    struct ch_key_row key;
    struct ch_explanation explanation;
};

static enum ch_err find_key(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct explain_job *job = arg;
    return ch_key_get(db, job->name, &job->key, why);
}

// A registry as the daemon would have after a start: direct mode has none.
static enum ch_err load_registry(struct ch_admin *admin, struct ch_registry **registry_out,
                                 struct ch_why *why)
{
    struct ch_catalogue *catalogue;
    enum ch_err err = ch_contracts_apply(admin->store, admin->base_catalogue, &catalogue, why);
    if (!err && !catalogue) // a copy: the registry takes it
        err = ch_catalogue_with_overrides(admin->base_catalogue, NULL, 0, 0, &catalogue, why);
    if (err)
        return err;
    err = ch_registry_new(ch_store_pepper(admin->store), catalogue, registry_out);
    if (err) {
        ch_catalogue_free(catalogue);
        return ch_why_set(why, err, "out of memory");
    }
    err = ch_registry_load(*registry_out, admin->store, why);
    if (err)
        ch_registry_free(*registry_out);
    return err;
}

static enum ch_err explain(struct ch_admin *admin, struct explain_job *job, struct ch_why *why)
{
    struct ch_registry *loaded = NULL;
    enum ch_err err = admin->registry ? CH_OK : load_registry(admin, &loaded, why);
    if (err)
        return err;
    err = ch_registry_explain(loaded ? loaded : admin->registry, &job->request, &job->explanation);
    ch_registry_free(loaded);
    return err ? ch_why_set(why, err, "key %s is not in force: restart the daemon", job->name)
               : CH_OK;
}

static json_t *step_to_json(const struct ch_explain_step *step)
{
    const char *verdict = !step->code ? "ok" : step->is_shadow ? "watches" : "refuses";
    return json_pack("{s:s, s:s, s:s, s:s}", "rule", step->rule, "verdict", verdict, "code",
                     step->code ? step->code : "", "because", step->text);
}

static json_t *steps_to_json(const struct ch_explanation *explanation)
{
    json_t *steps = json_array();
    for (unsigned i = 0; steps && i < explanation->step_count; i++)
        if (json_array_append_new(steps, step_to_json(&explanation->steps[i]))) {
            json_decref(steps);
            steps = NULL;
        }
    return steps;
}

// The first step that refuses; NULL: none does.
static const struct ch_explain_step *decider(const struct ch_explanation *explanation)
{
    for (unsigned i = 0; i < explanation->step_count; i++)
        if (explanation->steps[i].code && !explanation->steps[i].is_shadow)
            return &explanation->steps[i];
    return NULL;
}

static const char *provider_of(const struct explain_job *job)
{
    for (unsigned i = 0; i < job->key.provider_count; i++)
        if (job->key.provider_ids[i] == job->explanation.provider_id)
            return job->key.provider_names[i];
    return "";
}

static json_t *explanation_to_json(const struct explain_job *job)
{
    const struct ch_explanation *explanation = &job->explanation;
    const struct ch_explain_step *refuses = decider(explanation);
    json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:b, s:o}", "schema",
                             "chaperone.key_explanation/1", "key", job->name, "model", job->model,
                             "model_sent", explanation->model_sent, "provider", provider_of(job),
                             "allowed", explanation->is_allowed, "rule",
                             refuses ? refuses->rule : "", "code", refuses ? refuses->code : "",
                             "priced", explanation->is_priced, "items", steps_to_json(explanation));
    if (json && ch_put_money(json, "likely_cost", explanation->likely_nano_usd) &&
        ch_put_money(json, "worst_cost", explanation->worst_nano_usd))
        return json;
    json_decref(json);
    return NULL;
}

static void read_explain(struct ch_input *input, struct explain_job *job)
{
    job->name = ch_input_name(input, "name", true);
    job->model = ch_input_string(input, "model", false);
    if (!job->model)
        ch_input_fail(input, "--model is missing");
    else if (!ch_model_name_is_valid(ch_span_of(job->model)))
        ch_input_fail(input, "--model: that is no name of a model");
    job->request = (struct ch_explain_request){
        .model = ch_span_of(job->model),
        .input_tokens = ch_input_int(input, "input_tokens", 0, TOKENS_MAX, -1),
        .output_tokens = ch_input_int(input, "output_tokens", 0, TOKENS_MAX, -1),
    };
}

enum ch_err ch_route_key_explain(struct ch_admin *admin, const json_t *arguments,
                                 json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct explain_job job;
    ch_input_init(&input, arguments, why);
    read_explain(&input, &job);
    if (input.err)
        return input.err;
    enum ch_err err = ch_store_read(admin->store, find_key, &job, why);
    if (err)
        return err;
    job.request.public_id = ch_span_of(job.key.public_id);
    err = explain(admin, &job, why);
    return err ? err : ch_route_give(explanation_to_json(&job), result_out, why);
}
