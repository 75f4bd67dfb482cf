// SPDX-License-Identifier: Apache-2.0
#include "key_options.h"

#include "base/clock.h"
#include "base/money.h"
#include "domain/cidr.h"
#include "domain/model_rule.h"

#include <stdio.h>

// ---- reading

static bool is_past(int64_t expires_at_ms)
{
    return expires_at_ms != 0 && expires_at_ms <= ch_clock_wall_ms();
}

static void read_providers(struct ch_input *input, struct ch_key_options *options)
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
        const char *name = json_string_value(value);
        if (!name || !ch_name_is_valid((struct ch_span){name, json_string_length(value)})) {
            ch_input_fail(input, "--provider takes a provider's name");
            return;
        }
        for (size_t i = 0; i < index; i++)
            if (strcmp(name, options->providers[i]) == 0)
                ch_input_fail(input, "--provider %s stands twice", name);
        options->providers[index] = name;
    }
    options->patch.provider_names = options->providers;
    options->patch.provider_count = (unsigned)json_array_size(names);
}

// A list as one of the domain's parsers gives it. `flag` names it; `of_none`: what leaving it out
// would mean.
struct list_reader {
    const char *member, *flag, *of_none;
    enum ch_err (*parse)(struct ch_span text, struct ch_buf *normalised_out, struct ch_why *why);
    char *out;
    size_t size;
    const char **patched;
};

static enum ch_err parse_cidrs(struct ch_span text, struct ch_buf *out, struct ch_why *why)
{
    struct ch_cidr_list list;
    enum ch_err err = ch_cidr_list_parse(text, &list, why);
    return err ? err : ch_cidr_list_format(&list, out);
}

static void normalise(struct ch_input *input, const struct list_reader *reader, struct ch_span text)
{
    struct ch_buf list;
    struct ch_why reason = {""};
    ch_buf_init(&list, reader->size - 1);
    enum ch_err err = reader->parse(text, &list, &reason);
    if (err == CH_ERR_LIMIT)
        ch_input_fail(input, "%s: %s", reader->flag,
                      *reason.text ? reason.text : "the list is too long");
    else if (err)
        ch_input_fail(input, "%s: %s", reader->flag, reason.text);
    else if (list.len == 0)
        ch_input_fail(input, "%s is empty; leave it out to %s", reader->flag, reader->of_none);
    else
        ch_span_copy(ch_buf_span(&list), reader->out, reader->size);
    ch_buf_fini(&list);
}

static void read_list(struct ch_input *input, bool is_new, const struct list_reader *reader)
{
    struct ch_buf text;
    ch_buf_init(&text, 4 * reader->size); // blanks go, names do not
    if (ch_input_joined(input, reader->member, &text)) {
        *reader->patched = reader->out;
        reader->out[0] = '\0';
        if (text.len || is_new)
            normalise(input, reader, ch_buf_span(&text));
    }
    ch_buf_fini(&text);
}

static void read_lists(struct ch_input *input, bool is_new, struct ch_key_options *o)
{
    struct ch_key_patch *patch = &o->patch;
    const struct list_reader readers[] = {
        {"models", "--models", "allow every model", ch_model_rule_parse, o->models,
         sizeof o->models, &patch->models},
        {"deny_models", "--deny-models", "deny none", ch_model_rule_parse, o->deny_models,
         sizeof o->deny_models, &patch->deny_models},
        {"map", "--map", "map none", ch_model_map_parse, o->model_map, sizeof o->model_map,
         &patch->model_map},
        {"allow_cidr", "--allow-cidr", "allow every address", parse_cidrs, o->allow_cidrs,
         sizeof o->allow_cidrs, &patch->allow_cidrs},
    };
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
        read_list(input, is_new, &readers[i]);
}

// A name, or the empty text that clears it.
static void read_name(struct ch_input *input, bool is_new, const char *member, const char **out)
{
    const char *text = ch_input_string(input, member, false);
    if (text && (*text || is_new))
        text = ch_input_name(input, member, false);
    *out = text;
}

static void read_attribution(struct ch_input *input, bool is_new, struct ch_key_options *options)
{
    struct ch_key_patch *patch = &options->patch;
    read_name(input, is_new, "team", &patch->team);
    read_name(input, is_new, "project", &patch->project);
    read_name(input, is_new, "env", &patch->env);
    read_name(input, is_new, "service", &patch->service);
    if (ch_input_has(input, "tag")) {
        ch_input_tags(input, "tag", options->tags);
        patch->tags = options->tags;
    }
    patch->label = ch_input_string(input, "label", false);
    if (patch->label && (*patch->label || is_new))
        patch->label = ch_input_text(input, "label", CH_KEY_LABEL_MAX);
}

static void read_expiry(struct ch_input *input, bool is_new, struct ch_key_options *options)
{
    const char *text = ch_input_string(input, "expires", false);
    if (!text)
        return;
    if (*text || is_new)
        options->expires_at_ms = ch_input_when(input, "expires", CH_WHEN_AHEAD);
    if (is_past(options->expires_at_ms))
        ch_input_fail(input, "--expires lies in the past");
    options->patch.expires_at_ms = &options->expires_at_ms;
}

static void read_limits(struct ch_input *input, struct ch_key_options *options)
{
    for (int kind = 0; kind < CH_RATE_KINDS; kind++)
        if (ch_input_limit(input, ch_rate_kind_name((enum ch_rate_kind)kind),
                           &options->limits[kind]))
            options->patch.limit[kind] = &options->limits[kind];
}

static void read_shadow(struct ch_input *input, struct ch_key_options *options)
{
    unsigned bits;
    if (!ch_input_words(input, "shadow", "models limits", &bits))
        return;
    options->models_shadow = bits & 1;
    options->limits_shadow = bits & 2;
    options->patch.models_shadow = &options->models_shadow;
    options->patch.limits_shadow = &options->limits_shadow;
}

static void read_choices(struct ch_input *input, struct ch_key_options *options)
{
    static const int statuses[] = {402, 403, 429};
    unsigned bits;
    if (ch_input_unknown_model(input, "unknown_model", &options->unknown_model))
        options->patch.unknown_model = &options->unknown_model;
    const char *abort = ch_input_string(input, "on_client_abort", false);
    if (abort && *abort && ch_on_client_abort_parse(ch_span_of(abort), &options->on_client_abort))
        ch_input_fail(input, "--on-client-abort is cancel or drain");
    if (abort)
        options->patch.on_client_abort = &options->on_client_abort;
    if (!ch_input_words(input, "budget_status", "402 403 429", &bits))
        return;
    if (bits & (bits - 1))
        ch_input_fail(input, "--budget-status is one of 402, 403 and 429");
    for (unsigned i = 0; i < 3; i++)
        if (bits == 1u << i)
            options->budget_status = statuses[i];
    options->patch.budget_status = &options->budget_status;
}

static void read_budget(struct ch_input *input, const json_t *value, struct ch_key_options *options)
{
    const char *text = json_string_value(value);
    if (options->budget_count == CH_BUDGET_PERIODS) {
        ch_input_fail(input, "--budget: at most one for each period");
        return;
    }
    struct ch_budget_edit *edit = &options->budgets[options->budget_count];
    ch_budget_read(input, "--budget", text ? text : "", edit);
    ch_budget_read_mode(input, "budget_mode", edit);
    for (unsigned i = 0; i < options->budget_count; i++)
        if (options->budgets[i].period == edit->period)
            ch_input_fail(input, "--budget: there are two for one %s",
                          ch_budget_period_name(edit->period));
    options->budget_count++;
}

static void read_budgets(struct ch_input *input, struct ch_key_options *options)
{
    size_t index;
    json_t *value, *budgets = json_object_get(input->arguments, "budget");
    if (budgets && !json_is_array(budgets))
        ch_input_fail(input, "--budget takes AMOUNT/PERIOD, such as 100/day");
    if (!budgets && ch_input_has(input, "budget_mode"))
        ch_input_fail(input, "--budget-mode needs a --budget; the mode of one that is there is set "
                             "by `chaperone budget set`");
    json_array_foreach(budgets, index, value)
    {
        if (!input->err)
            read_budget(input, value, options);
    }
}

void ch_key_options_read(struct ch_input *input, bool is_new, struct ch_key_options *options)
{
    *options = (struct ch_key_options){.budget_count = 0};
    if (is_new || ch_input_has(input, "provider"))
        read_providers(input, options);
    read_lists(input, is_new, options);
    read_expiry(input, is_new, options);
    read_attribution(input, is_new, options);
    read_limits(input, options);
    read_choices(input, options);
    read_shadow(input, options);
    read_budgets(input, options);
}

// ---- into a row

static void copy_text(const char *text, char *out, size_t size)
{
    if (text)
        ch_span_copy(ch_span_of(text), out, size);
}

#define COPY(text, field) copy_text(text, field, sizeof(field))

void ch_key_options_apply(const struct ch_key_options *options, struct ch_key_row *row)
{
    const struct ch_key_patch *patch = &options->patch;
    for (unsigned i = 0; i < patch->provider_count; i++)
        COPY(patch->provider_names[i], row->provider_names[i]);
    row->provider_count = patch->provider_count;
    COPY(patch->label, row->label);
    COPY(patch->team, row->team);
    COPY(patch->project, row->project);
    COPY(patch->env, row->env);
    COPY(patch->service, row->service);
    COPY(patch->tags, row->tags);
    COPY(patch->models, row->models);
    COPY(patch->deny_models, row->deny_models);
    COPY(patch->model_map, row->model_map);
    COPY(patch->allow_cidrs, row->allow_cidrs);
    row->expires_at_ms = options->expires_at_ms;
    for (int kind = 0; kind < CH_RATE_KINDS; kind++)
        row->limits.limit[kind] = options->limits[kind];
    row->limits_shadow = options->limits_shadow;
    row->models_shadow = options->models_shadow;
    row->unknown_model = options->unknown_model;
    row->on_client_abort = options->on_client_abort;
    row->budget_status = options->budget_status;
}

static json_t *budget_state(const struct ch_budget_row *row)
{
    char thresholds[CH_BUDGET_THRESHOLDS_TEXT];
    ch_budget_thresholds_format(&row->thresholds, thresholds);
    return json_pack("{s:I, s:s, s:I, s:s, s:s, s:s, s:b, s:b}", "id", (json_int_t)row->id,
                     "period", ch_budget_period_name(row->period), "cap_nano_usd",
                     (json_int_t)row->cap_nano_usd, "mode", ch_budget_mode_name(row->mode),
                     "time_zone", row->time_zone, "thresholds", thresholds, "is_shadow",
                     row->is_shadow, "cuts_streams", row->cuts_streams);
}

// A budget is an object of its own in the audit log, whichever command made it.
static enum ch_err record_budget(struct ch_admin *admin, struct ch_db *db,
                                 const struct ch_budget_row *before,
                                 const struct ch_budget_row *after, struct ch_why *why)
{
    char scope[CH_SCOPE_TEXT];
    ch_budget_scope_format(after->scope, after->subject, scope);
    json_t *old = before ? budget_state(before) : json_null(), *new = budget_state(after);
    const struct ch_audit_entry entry = {.actor = admin->change->actor,
                                         .action = admin->change->action,
                                         .object_kind = "budget",
                                         .object = scope,
                                         .before = old,
                                         .after = new,
                                         .reason = admin->change->reason};
    enum ch_err err = old && new ? ch_audit_append(db, &entry, why)
                                 : ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    json_decref(old);
    json_decref(new);
    return err;
}

static enum ch_err store_budget(struct ch_admin *admin, struct ch_db *db,
                                const struct ch_budget_edit *edit, struct ch_budget_row *row_out,
                                struct ch_why *why)
{
    struct ch_budget_row before;
    enum ch_err found = ch_budget_get(db, edit->scope, edit->subject, edit->period, &before, why);
    if (found && found != CH_ERR_NOT_FOUND)
        return found;
    enum ch_err err = ch_budget_store(db, edit, row_out, why);
    return err ? err : record_budget(admin, db, found ? NULL : &before, row_out, why);
}

enum ch_err ch_key_options_store_budgets(struct ch_admin *admin, struct ch_db *db,
                                         const struct ch_key_options *options, const char *name,
                                         struct ch_budget_row rows_out[CH_BUDGET_PERIODS],
                                         struct ch_why *why)
{
    enum ch_err err = CH_OK;
    for (unsigned i = 0; i < options->budget_count && !err; i++) {
        struct ch_budget_edit edit = options->budgets[i];
        edit.scope = CH_BUDGET_OF_KEY;
        copy_text(name, edit.subject, sizeof edit.subject);
        err = store_budget(admin, db, &edit, &rows_out[i], why);
    }
    return err;
}

// ---- showing

const char *ch_key_current_status(const struct ch_key_row *row)
{
    if (row->status == CH_KEY_ACTIVE && is_past(row->expires_at_ms))
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

// An amount as an operator would type it: "15", "0.25".
static void format_amount(int64_t nano_usd, char out[CH_MONEY_TEXT])
{
    ch_money_format(nano_usd, out);
    size_t len = strlen(out);
    while (len && out[len - 1] == '0')
        len--;
    out[len && out[len - 1] == '.' ? len - 1 : len] = '\0';
}

json_t *ch_unknown_model_to_json(const struct ch_unknown_model_rule *rule)
{
    char input[CH_MONEY_TEXT], output[CH_MONEY_TEXT], text[2 * CH_MONEY_TEXT + 16];
    if (rule->choice != CH_UNKNOWN_MODEL_CEILING)
        return json_string(ch_unknown_model_name(rule->choice));
    format_amount(rule->input_nano_usd, input);
    format_amount(rule->output_nano_usd, output);
    snprintf(text, sizeof text, "ceiling:%s/%s", input, output);
    return json_string(text);
}

static json_t *limit_to_json(int64_t limit)
{
    return limit ? json_integer(limit) : json_null();
}

static const char *shadow_text(const struct ch_key_row *row)
{
    if (row->models_shadow)
        return row->limits_shadow ? "models,limits" : "models";
    return row->limits_shadow ? "limits" : "";
}

// Of a secret that still works beside the present one.
static json_t *grace_to_json(const struct ch_key_row *row)
{
    return is_past(row->previous_expires_at_ms) ? json_null()
                                                : ch_route_time(row->previous_expires_at_ms);
}

static json_t *policy_to_json(const struct ch_key_row *row)
{
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:o, s:s, s:o, s:o}", "label", row->label,
        "deny_models", row->deny_models, "model_map", row->model_map, "allow_cidrs",
        row->allow_cidrs, "rpm", limit_to_json(row->limits.limit[CH_RATE_REQUESTS]), "tpm",
        limit_to_json(row->limits.limit[CH_RATE_TOKENS]), "concurrency",
        limit_to_json(row->limits.limit[CH_RATE_IN_FLIGHT]), "shadow", shadow_text(row),
        "unknown_model", ch_unknown_model_to_json(&row->unknown_model), "on_client_abort",
        ch_on_client_abort_name(row->on_client_abort), "budget_status",
        limit_to_json(row->budget_status), "previous_secret_until", grace_to_json(row));
}

json_t *ch_key_to_json(const struct ch_key_row *row)
{
    json_t *policy = policy_to_json(row);
    json_t *key = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "schema",
        "chaperone.key/1", "name", row->name, "id", row->public_id, "status",
        ch_key_current_status(row), "revoke_reason", row->revoke_reason, "providers",
        providers_to_json(row), "models", row->models, "team", row->team, "project", row->project,
        "env", row->env, "service", row->service, "tags", tags_to_json(row->tags), "expires_at",
        ch_route_time(row->expires_at_ms), "created_at", ch_route_time(row->created_at_ms),
        "updated_at", ch_route_time(row->updated_at_ms));
    if (!policy || !key || json_object_update_missing(key, policy)) {
        json_decref(key);
        key = NULL;
    }
    json_decref(policy);
    return key;
}
