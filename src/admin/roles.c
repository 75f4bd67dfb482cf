// SPDX-License-Identifier: Apache-2.0
#include "roles.h"

#include "store/key_store.h"

// What a token of a team may name.
enum reach {
    REACH_NOTHING,  // the operation is not for tokens of a team
    REACH_TEAM,     // `team` is theirs, also when it is not given
    REACH_KEY,      // `name` is a key of theirs; `team`, if given, too
    REACH_SCOPE,    // `scope` is their team or a key of theirs
    REACH_THE_TEAM, // `name` is their team
};

static const struct permission {
    const char *operation;
    enum ch_admin_role least;
    enum reach reach;
} permissions[] = {
    {"status", CH_ADMIN_VIEWER, REACH_NOTHING},
    {"reload", CH_ADMIN_ADMIN, REACH_NOTHING},

    {"provider.create", CH_ADMIN_ADMIN, REACH_NOTHING},
    {"provider.update", CH_ADMIN_ADMIN, REACH_NOTHING},
    {"provider.rotate", CH_ADMIN_ADMIN, REACH_NOTHING},
    {"provider.list", CH_ADMIN_VIEWER, REACH_NOTHING},
    {"provider.show", CH_ADMIN_VIEWER, REACH_NOTHING},
    {"provider.test", CH_ADMIN_OPERATOR, REACH_NOTHING},
    {"provider.enable", CH_ADMIN_OPERATOR, REACH_NOTHING},
    {"provider.disable", CH_ADMIN_OPERATOR, REACH_NOTHING},
    {"provider.delete", CH_ADMIN_ADMIN, REACH_NOTHING},

    {"key.create", CH_ADMIN_OPERATOR, REACH_TEAM},
    {"key.update", CH_ADMIN_OPERATOR, REACH_KEY},
    {"key.rotate", CH_ADMIN_OPERATOR, REACH_KEY},
    {"key.explain", CH_ADMIN_VIEWER, REACH_KEY},
    {"key.list", CH_ADMIN_VIEWER, REACH_TEAM},
    {"key.show", CH_ADMIN_VIEWER, REACH_KEY},
    {"key.enable", CH_ADMIN_OPERATOR, REACH_KEY},
    {"key.disable", CH_ADMIN_OPERATOR, REACH_KEY},
    {"key.revoke", CH_ADMIN_OPERATOR, REACH_KEY},
    {"key.verify", CH_ADMIN_VIEWER, REACH_NOTHING},

    {"budget.set", CH_ADMIN_OPERATOR, REACH_SCOPE},
    {"budget.list", CH_ADMIN_VIEWER, REACH_SCOPE},
    {"budget.show", CH_ADMIN_VIEWER, REACH_SCOPE},
    {"budget.delete", CH_ADMIN_OPERATOR, REACH_SCOPE},
    {"budget.alerts", CH_ADMIN_VIEWER, REACH_NOTHING},

    {"team.list", CH_ADMIN_VIEWER, REACH_NOTHING},
    {"team.show", CH_ADMIN_VIEWER, REACH_THE_TEAM},
    {"team.set", CH_ADMIN_OPERATOR, REACH_NOTHING},
    {"project.list", CH_ADMIN_VIEWER, REACH_NOTHING},
    {"project.show", CH_ADMIN_VIEWER, REACH_NOTHING},

    {"usage.summary", CH_ADMIN_VIEWER, REACH_TEAM},
    {"usage.list", CH_ADMIN_VIEWER, REACH_TEAM},
    {"usage.show", CH_ADMIN_ADMIN, REACH_NOTHING}, // what people wrote
    {"usage.reprice", CH_ADMIN_ADMIN, REACH_NOTHING},

    {"capture.enable", CH_ADMIN_ADMIN, REACH_NOTHING},
    {"capture.disable", CH_ADMIN_ADMIN, REACH_NOTHING},
    {"capture.list", CH_ADMIN_VIEWER, REACH_NOTHING},

    {"price.list", CH_ADMIN_VIEWER, REACH_NOTHING},
    {"price.show", CH_ADMIN_VIEWER, REACH_NOTHING},
    {"price.unpriced", CH_ADMIN_VIEWER, REACH_NOTHING},
    {"price.import", CH_ADMIN_ADMIN, REACH_NOTHING},
    {"price.set", CH_ADMIN_ADMIN, REACH_NOTHING},
    {"price.unset", CH_ADMIN_ADMIN, REACH_NOTHING},

    {"audit.list", CH_ADMIN_VIEWER, REACH_NOTHING},
    {"audit.verify", CH_ADMIN_VIEWER, REACH_NOTHING},
    {"vault.rekey", CH_ADMIN_ADMIN, REACH_NOTHING},

    {"token.create", CH_ADMIN_ADMIN, REACH_NOTHING},
    {"token.list", CH_ADMIN_ADMIN, REACH_NOTHING},
    {"token.revoke", CH_ADMIN_ADMIN, REACH_NOTHING},
};

static const struct permission *find(const char *operation)
{
    for (size_t i = 0; i < sizeof permissions / sizeof *permissions; i++)
        if (strcmp(permissions[i].operation, operation) == 0)
            return &permissions[i];
    return NULL;
}

bool ch_admin_has_role(const char *operation)
{
    return find(operation) != NULL;
}

static const char *text_of(const json_t *arguments, const char *member)
{
    const char *text = json_string_value(json_object_get(arguments, member));
    return text ? text : "";
}

// ---- tokens of a team

static enum ch_err deny(const struct ch_admin_grant *grant, struct ch_why *why)
{
    return ch_why_set(why, CH_ERR_DENIED, "this token is for team %s only", grant->team);
}

static enum ch_err check_team(const struct ch_admin_grant *grant, const json_t *arguments,
                              struct ch_why *why)
{
    if (!json_object_get(arguments, "team") || strcmp(text_of(arguments, "team"), grant->team) == 0)
        return CH_OK;
    return deny(grant, why);
}

static enum ch_err narrow_to_team(const struct ch_admin_grant *grant, json_t *arguments,
                                  struct ch_why *why)
{
    enum ch_err err = check_team(grant, arguments, why);
    if (err)
        return err;
    return json_object_set_new(arguments, "team", json_string(grant->team))
               ? ch_why_set(why, CH_ERR_NOMEM, "out of memory")
               : CH_OK;
}

struct key_job {
    const char *name;
    struct ch_key_row row;
};

static enum ch_err get_key(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct key_job *job = arg;
    return ch_key_get(db, job->name, &job->row, why);
}

static enum ch_err check_key(struct ch_admin *admin, const struct ch_admin_grant *grant,
                             const char *name, struct ch_why *why)
{
    struct key_job job = {.name = name};
    enum ch_err err = !admin->store ? CH_ERR_UNAVAILABLE
                      : !ch_name_is_valid(ch_span_of(name))
                          ? CH_ERR_NOT_FOUND
                          : ch_store_read(admin->store, get_key, &job, why);
    if (!err && strcmp(job.row.team, grant->team) != 0)
        err = CH_ERR_NOT_FOUND;
    return err == CH_ERR_NOT_FOUND
               ? ch_why_set(why, err, "team %s has no key of that name", grant->team)
               : err;
}

static enum ch_err check_scope(struct ch_admin *admin, const struct ch_admin_grant *grant,
                               const char *scope, struct ch_why *why)
{
    if (strncmp(scope, "key:", 4) == 0)
        return check_key(admin, grant, scope + 4, why);
    if (strncmp(scope, "team:", 5) == 0 && strcmp(scope + 5, grant->team) == 0)
        return CH_OK;
    return ch_why_set(why, CH_ERR_DENIED,
                      "this token is for team %s only: SCOPE is team:%s or a key of the team",
                      grant->team, grant->team);
}

static enum ch_err check_reach(struct ch_admin *admin, const struct ch_admin_grant *grant,
                               enum reach reach, json_t *arguments, struct ch_why *why)
{
    enum ch_err err;
    switch (reach) {
    case REACH_NOTHING:
        return deny(grant, why);
    case REACH_TEAM:
        return narrow_to_team(grant, arguments, why);
    case REACH_KEY:
        err = check_team(grant, arguments, why);
        return err ? err : check_key(admin, grant, text_of(arguments, "name"), why);
    case REACH_SCOPE:
        return check_scope(admin, grant, text_of(arguments, "scope"), why);
    case REACH_THE_TEAM:
        return strcmp(text_of(arguments, "name"), grant->team) == 0 ? CH_OK : deny(grant, why);
    }
    return deny(grant, why);
}

// ---- the whole

enum ch_err ch_admin_permit(struct ch_admin *admin, const struct ch_admin_grant *grant,
                            const char *operation, json_t *arguments, struct ch_why *why)
{
    static const struct permission unknown = {NULL, CH_ADMIN_ADMIN, REACH_NOTHING};
    const struct permission *permission = find(operation);
    if (!permission)
        permission = &unknown;
    if (grant->role < permission->least)
        return ch_why_set(why, CH_ERR_DENIED, "this needs a token of role %s; this one is %s",
                          ch_admin_role_name(permission->least), ch_admin_role_name(grant->role));
    return *grant->team ? check_reach(admin, grant, permission->reach, arguments, why) : CH_OK;
}
