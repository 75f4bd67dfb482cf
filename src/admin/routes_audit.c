// SPDX-License-Identifier: Apache-2.0
// The audit log, and the change of the master key.
#include "input.h"
#include "routes.h"

#include "store/rekey.h"

#define LIST_DEFAULT  50    // rows of one answer unless --limit says otherwise
#define LIST_MAX      10000 // some 20 MB of JSON
#define FILTER_MAX    512   // bytes of --actor, --action, --object
#define NOT_FOLLOWING (-1)  // newest first

static void read_list(struct ch_input *input, struct ch_audit_filter *filter)
{
    filter->actor = ch_input_text(input, "actor", FILTER_MAX);
    filter->action = ch_input_text(input, "action", FILTER_MAX);
    filter->object = ch_input_text(input, "object", FILTER_MAX);
    filter->from_ms = ch_input_when(input, "from", CH_WHEN_BACK);
    filter->to_ms = ch_input_when(input, "to", CH_WHEN_BACK);
    filter->after = ch_input_int(input, "after", 0, INT64_MAX, NOT_FOLLOWING);
    filter->limit = ch_input_int(input, "limit", 1, LIST_MAX, LIST_DEFAULT);
}

enum ch_err ch_route_audit_list(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct ch_audit_filter filter;
    ch_input_init(&input, arguments, why);
    read_list(&input, &filter);
    if (input.err)
        return input.err;
    json_t *items = json_array();
    if (!items)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    enum ch_err err = ch_audit_list(admin->store, &filter, items, why);
    if (err) {
        json_decref(items);
        return err;
    }
    return ch_route_give(
        json_pack("{s:s, s:o}", "schema", "chaperone.audit_list/1", "items", items), result_out,
        why);
}

// Findings are what the caller wanted to know, not a failed call.
enum ch_err ch_route_audit_verify(struct ch_admin *admin, const json_t *arguments,
                                  json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    ch_input_init(&input, arguments, why);
    struct ch_span heads = ch_span_of(ch_input_string(&input, "heads", false));
    if (input.err)
        return input.err;
    json_t *report = NULL;
    enum ch_err err = ch_audit_verify(admin->store, heads, &report, why);
    if (!err && json_object_set_new(report, "schema", json_string("chaperone.audit_report/1"))) {
        json_decref(report);
        err = ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    }
    return err ? err : ch_route_give(report, result_out, why);
}

// ---- vault rekey

static enum ch_err put_row(void *arg, const struct ch_provider_row *row)
{
    struct ch_admin *admin = arg;
    return ch_registry_put_provider(admin->registry, row);
}

static enum ch_err put_rows(struct ch_db *db, void *arg, struct ch_why *why)
{
    return ch_provider_each(db, put_row, arg, why);
}

// Until every record in memory is the re-sealed one, the former key must open the others.
static enum ch_err put_in_force(struct ch_admin *admin, struct ch_rekey *rekey, struct ch_why *why)
{
    struct ch_why reason = {""};
    if (admin->registry && ch_store_read(admin->store, put_rows, admin, &reason))
        return ch_why_set(why, CH_ERR_IO,
                          "the database is sealed by the new master key, %s, but the daemon could "
                          "not load it (%.200s): install the new key and restart",
                          ch_rekey_to(rekey), reason.text);
    ch_rekey_retire(rekey);
    return CH_OK;
}

static enum ch_err rekey_with(struct ch_admin *admin, const struct ch_secret *new_key,
                              json_t **result_out, struct ch_why *why)
{
    struct ch_rekey *rekey;
    enum ch_err err = ch_rekey_start(admin->store, new_key, &rekey, why);
    if (err)
        return err;
    err = ch_route_write(admin, ch_rekey_reseal, rekey, why);
    ch_rekey_settle(rekey, err == CH_OK);
    if (!err)
        err = put_in_force(admin, rekey, why);
    if (!err)
        err = ch_route_give(json_pack("{s:s, s:s, s:s, s:I}", "schema", "chaperone.vault_rekey/1",
                                      "from", ch_rekey_from(rekey), "to", ch_rekey_to(rekey),
                                      "credentials", (json_int_t)ch_rekey_count(rekey)),
                            result_out, why);
    ch_rekey_free(rekey);
    return err;
}

enum ch_err ch_route_vault_rekey(struct ch_admin *admin, const json_t *arguments,
                                 json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct ch_secret *new_key = NULL;
    ch_input_init(&input, arguments, why);
    struct ch_span text = ch_span_of(ch_input_string(&input, "new_key", true));
    enum ch_err err = input.err ? input.err : ch_vault_master_key_parse(text, &new_key, why);
    if (!err)
        err = rekey_with(admin, new_key, result_out, why);
    ch_secret_free(new_key);
    return err;
}
