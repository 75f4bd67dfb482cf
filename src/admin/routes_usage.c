// SPDX-License-Identifier: Apache-2.0
#include "input.h"
#include "routes.h"

#include "base/id.h"
#include "domain/model_rule.h"
#include "store/usage_query.h"

#define LIST_DEFAULT 50    // rows of one answer unless --limit says otherwise
#define LIST_MAX     10000 // about 10 MB of JSON

static void read_filter(struct ch_input *input, struct ch_usage_filter *filter)
{
    filter->from_ms = ch_input_when(input, "from", CH_WHEN_BACK);
    filter->to_ms = ch_input_when(input, "to", CH_WHEN_BACK);
    filter->key = ch_input_name(input, "key", false);
    filter->team = ch_input_name(input, "team", false);
    filter->project = ch_input_name(input, "project", false);
    filter->env = ch_input_name(input, "env", false);
    filter->provider = ch_input_name(input, "provider", false);
    filter->model = ch_input_text(input, "model", CH_MODEL_NAME_MAX);
    if (filter->to_ms && filter->from_ms >= filter->to_ms)
        ch_input_fail(input, "--from must lie before --to");
}

enum ch_err ch_route_usage_summary(struct ch_admin *admin, const json_t *arguments,
                                   json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct ch_usage_filter filter = {0};
    ch_input_init(&input, arguments, why);
    read_filter(&input, &filter);
    const char *by = ch_input_string(&input, "by", false);
    if (input.err)
        return input.err;
    return ch_usage_summary(admin->store, &filter, by ? by : "key", result_out, why);
}

enum ch_err ch_route_usage_list(struct ch_admin *admin, const json_t *arguments,
                                json_t **result_out, struct ch_why *why)
{
    struct ch_input input;
    struct ch_usage_filter filter = {0};
    ch_input_init(&input, arguments, why);
    read_filter(&input, &filter);
    filter.is_denied = ch_input_bool(&input, "denied", false);
    filter.is_shadow = ch_input_bool(&input, "shadow", false);
    filter.limit = ch_input_int(&input, "limit", 1, LIST_MAX, LIST_DEFAULT);
    const char *after = ch_input_string(&input, "after", false);
    if (after && ch_id_parse(ch_span_of(after), &filter.after_id))
        ch_input_fail(&input, "--after takes a request id like req_0Bd8YqJ3xZa");
    if (input.err)
        return input.err;
    return ch_usage_list(admin->store, &filter, result_out, why);
}
