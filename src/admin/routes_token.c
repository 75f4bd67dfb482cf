// SPDX-License-Identifier: Apache-2.0
// The tokens of the admin listener.
#include "input.h"
#include "routes.h"

#include "base/clock.h"
#include "store/admin_token_store.h"

static const char *status_of(const struct ch_admin_token_row *row)
{
    if (row->revoked_at_ms)
        return "revoked";
    return row->expires_at_ms && row->expires_at_ms <= ch_clock_wall_ms() ? "expired" : "active";
}

static json_t *row_to_json(const struct ch_admin_token_row *row)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "name", row->name, "role",
                     ch_admin_role_name(row->role), "team", row->team, "status", status_of(row),
                     "created_at", ch_route_time(row->created_at_ms), "expires_at",
                     ch_route_time(row->expires_at_ms), "revoked_at",
                     ch_route_time(row->revoked_at_ms));
}

// `token` (NULL: none) stands only in the answer to its making.
static enum ch_err give_token(const struct ch_admin_token_row *row, const char *token,
                              json_t **result_out, struct ch_why *why)
{
    json_t *shown = row_to_json(row);
    json_t *result = json_pack("{s:s, s:s*}", "schema", "chaperone.admin_token/1", "token", token);
    bool failed = !shown || !result || json_object_update_missing(result, shown);
    json_decref(shown);
    if (!failed)
        return ch_route_give(result, result_out, why);
    json_decref(result);
    return ch_route_give(NULL, result_out, why);
}

// ---- create

struct create_job {
    struct ch_admin *admin;
    struct ch_admin_token_row row;
    char token[CH_ADMIN_TOKEN_MAX + 1];
};

static enum ch_err create_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct create_job *job = arg;
    return ch_admin_token_create(db, ch_store_pepper(job->admin->store), &job->row, job->token,
                                 why);
}

static void read_create(struct ch_input *input, struct ch_admin_token_row *row)
{
    const char *name = ch_input_name(input, "name", true);
    const char *role = ch_input_string(input, "role", true);
    const char *team = ch_input_name(input, "team", false);
    if (role && ch_admin_role_parse(ch_span_of(role), &row->role))
        ch_input_fail(input, "--role is viewer, operator or admin");
    row->expires_at_ms = ch_input_when(input, "expires", CH_WHEN_AHEAD);
    if (row->expires_at_ms && row->expires_at_ms <= ch_clock_wall_ms())
        ch_input_fail(input, "--expires lies in the past");
    ch_span_copy(ch_span_of(name), row->name, sizeof row->name);
    ch_span_copy(ch_span_of(team), row->team, sizeof row->team);
}

enum ch_err ch_route_token_create(struct ch_admin *admin, const json_t *arguments,
                                  json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct create_job job = {.admin = admin};
    ch_input_init(&input, arguments, why);
    read_create(&input, &job.row);
    if (input.err)
        return input.err;
    enum ch_err err = ch_route_write(admin, create_in_store, &job, why);
    if (!err)
        err = give_token(&job.row, job.token, result_out, why);
    ch_wipe(job.token, sizeof job.token);
    return err;
}

// ---- list

static enum ch_err append_token(void *arg, const struct ch_admin_token_row *row)
{
    return json_array_append_new(arg, row_to_json(row)) ? CH_ERR_NOMEM : CH_OK;
}

static enum ch_err list_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    return ch_admin_token_each(db, append_token, arg, why);
}

enum ch_err ch_route_token_list(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    (void)arguments;
    json_t *items = json_array();
    if (!items)
        return ch_route_give(NULL, result_out, why);
    enum ch_err err = ch_store_read(admin->store, list_in_store, items, why);
    if (err) {
        json_decref(items);
        return err;
    }
    return ch_route_give(
        json_pack("{s:s, s:o}", "schema", "chaperone.admin_token_list/1", "items", items),
        result_out, why);
}

// ---- revoke

struct revoke_job {
    const char *name;
    struct ch_admin_token_row row;
};

static enum ch_err revoke_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct revoke_job *job = arg;
    return ch_admin_token_revoke(db, job->name, &job->row, why);
}

enum ch_err ch_route_token_revoke(struct ch_admin *admin, const json_t *arguments,
                                  json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct revoke_job job = {0};
    ch_input_init(&input, arguments, why);
    job.name = ch_input_name(&input, "name", true);
    if (input.err)
        return input.err;
    enum ch_err err = ch_route_write(admin, revoke_in_store, &job, why);
    return err ? err : give_token(&job.row, NULL, result_out, why);
}
