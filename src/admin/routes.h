// SPDX-License-Identifier: Apache-2.0
// The handlers, one per operation. Private to the floor; admin.c holds the table that names them.
// Arguments were checked to be an object with known members; the store is open unless said
// otherwise.
#ifndef CH_ADMIN_ROUTES_H
#define CH_ADMIN_ROUTES_H

#include "admin/admin.h"

typedef enum ch_err (*ch_route_fn)(struct ch_admin *admin, const json_t *arguments,
                                   json_t **result_out, struct ch_why *why);

#define CH_ROUTE(name)                                                                             \
    enum ch_err name(struct ch_admin *admin, const json_t *arguments, json_t **result_out,         \
                     struct ch_why *why) CH_MUST_USE

CH_ROUTE(ch_route_provider_create);
CH_ROUTE(ch_route_provider_list);
CH_ROUTE(ch_route_provider_show);
CH_ROUTE(ch_route_provider_update);
CH_ROUTE(ch_route_provider_test);
CH_ROUTE(ch_route_provider_enable);
CH_ROUTE(ch_route_provider_disable);
CH_ROUTE(ch_route_provider_delete);

CH_ROUTE(ch_route_key_create);
CH_ROUTE(ch_route_key_list);
CH_ROUTE(ch_route_key_show);
CH_ROUTE(ch_route_key_update);
CH_ROUTE(ch_route_key_rotate);
CH_ROUTE(ch_route_key_explain);
CH_ROUTE(ch_route_key_enable);
CH_ROUTE(ch_route_key_disable);
CH_ROUTE(ch_route_key_revoke);
CH_ROUTE(ch_route_key_verify);

CH_ROUTE(ch_route_budget_set);
CH_ROUTE(ch_route_budget_list);
CH_ROUTE(ch_route_budget_show);
CH_ROUTE(ch_route_budget_delete);
CH_ROUTE(ch_route_budget_alerts);

CH_ROUTE(ch_route_team_list);
CH_ROUTE(ch_route_team_show);
CH_ROUTE(ch_route_team_set);
CH_ROUTE(ch_route_project_list);
CH_ROUTE(ch_route_project_show);

CH_ROUTE(ch_route_usage_summary);
CH_ROUTE(ch_route_usage_list);
CH_ROUTE(ch_route_usage_show);

CH_ROUTE(ch_route_capture_enable);
CH_ROUTE(ch_route_capture_disable);
CH_ROUTE(ch_route_capture_list);
CH_ROUTE(ch_route_usage_reprice);

CH_ROUTE(ch_route_price_list);
CH_ROUTE(ch_route_price_show);
CH_ROUTE(ch_route_price_import); // needs no store for a dry run
CH_ROUTE(ch_route_price_unpriced);
CH_ROUTE(ch_route_price_set);
CH_ROUTE(ch_route_price_unset);

CH_ROUTE(ch_route_audit_list);
CH_ROUTE(ch_route_audit_verify);
CH_ROUTE(ch_route_vault_rekey);

CH_ROUTE(ch_route_token_create);
CH_ROUTE(ch_route_token_list);
CH_ROUTE(ch_route_token_revoke);

CH_ROUTE(ch_route_status); // needs a daemon, no store
CH_ROUTE(ch_route_reload); // likewise

#define CH_ADMIN_PROBE_MS 5000 // what `provider test` waits for a provider's answer

// The only way for a handler to write: `fn` in one transaction with the audit row of the call.
// Errors as ch_store_write; what cannot be recorded does not happen.
enum ch_err ch_route_write(struct ch_admin *admin, ch_store_write_fn fn, void *arg,
                           struct ch_why *why) CH_MUST_USE;

// Whether the operation may take seconds and is safe beside others: it only reads.
bool ch_admin_is_slow(const char *operation);
// The contract prices, as `price.list` gives them.
enum ch_err ch_contract_list(struct ch_admin *admin, json_t **result_out,
                             struct ch_why *why) CH_MUST_USE;
// The catalogue in force.
const struct ch_catalogue *ch_admin_catalogue(const struct ch_admin *admin);
// Sets *result_out to `result`, or says that memory ran out when it is NULL (a failed json_pack).
enum ch_err ch_route_give(json_t *result, json_t **result_out, struct ch_why *why) CH_MUST_USE;
// The error of a refusal that holds on every loop, but not in the store.
enum ch_err ch_route_not_stored(const char *what, const char *name, const struct ch_why *reason,
                                struct ch_why *why) CH_MUST_USE;
// "2026-11-21T20:05:00.123Z"; JSON null for 0.
json_t *ch_route_time(int64_t wall_ms);

#endif
