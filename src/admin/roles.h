// SPDX-License-Identifier: Apache-2.0
// What a caller who shows a token may do: the one place where operations and roles meet. The Unix
// socket's callers are administrators and are not asked. Private to the floor.
#ifndef CH_ADMIN_ROLES_H
#define CH_ADMIN_ROLES_H

#include "admin/admin.h"
#include "domain/admin_token.h"
#include "store/provider_store.h"

struct ch_admin_grant {
    char name[CH_NAME_MAX + 1]; // of the token
    enum ch_admin_role role;
    char team[CH_NAME_MAX + 1]; // "": all teams
};

// CH_ERR_DENIED with what is missing. For a token of a team it narrows `arguments` to that team,
// and says CH_ERR_NOT_FOUND of another team's key as of one that does not exist. An operation that
// the table does not know needs the role admin and no team.
enum ch_err ch_admin_permit(struct ch_admin *admin, const struct ch_admin_grant *grant,
                            const char *operation, json_t *arguments,
                            struct ch_why *why) CH_MUST_USE;

// Whether the table has a row for it.
bool ch_admin_has_role(const char *operation);

#endif
