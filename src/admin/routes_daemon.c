// SPDX-License-Identifier: Apache-2.0
#include "routes.h"

enum ch_err ch_route_reload(struct ch_admin *admin, const json_t *arguments, json_t **result_out,
                            struct ch_why *why)
{
    (void)arguments;
    if (!admin->reload)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "no daemon is running");
    enum ch_err err = admin->reload(admin->status_arg, why);
    if (err)
        return err;
    return ch_route_give(json_pack("{s:s, s:b}", "schema", "chaperone.reload/1", "reloaded", true),
                         result_out, why);
}
