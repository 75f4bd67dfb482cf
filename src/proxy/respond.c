// SPDX-License-Identifier: Apache-2.0
// Answers that are our own: refusals in the dialect of the caller, and the paths beside the
// providers'.
#include "shared.h"

#include "domain/error_body.h"

#include <stdio.h>

#define BODY_MAX (16 * 1024)

struct answer {
    int status;
    const char *content_type;
    struct ch_span body;
    const char *code;   // x-chaperone-error, NULL: none
    const char *fields; // whole lines, NULL: none
    int retry_after_s;  // 0: none
    bool closes;
};

static enum ch_err build_head(const struct answer *answer, int64_t id, struct ch_buf *out)
{
    char request_id[CH_REQUEST_ID_TEXT];
    ch_id_format(id, request_id);
    ch_buf_clear(out);
    enum ch_err err = ch_buf_append_format(out,
                                           "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: "
                                           "%zu\r\nx-chaperone-request-id: %s\r\n",
                                           answer->status, ch_http1_reason(answer->status),
                                           answer->content_type, answer->body.len, request_id);
    if (!err && answer->code)
        err = ch_buf_append_format(out, "x-chaperone-error: %s\r\n", answer->code);
    if (!err && answer->retry_after_s)
        err = ch_buf_append_format(out, "Retry-After: %d\r\n", answer->retry_after_s);
    if (!err && answer->fields)
        err = ch_buf_append_span(out, ch_span_of(answer->fields));
    if (!err && answer->closes)
        err = ch_buf_append_span(out, CH_SPAN("Connection: close\r\n"));
    if (!err)
        err = ch_buf_append(out, "\r\n", 2);
    return err;
}

// A failed write is followed by the client's own end.
static void send_answer(struct exchange *x, const struct answer *answer)
{
    struct ch_buf *head = &x->pl->head_out;
    if (build_head(answer, x->id, head) != CH_OK)
        return;
    struct iovec parts[] = {{head->ptr, head->len},
                            {(void *)(uintptr_t)answer->body.ptr, answer->body.len}};
    int count = x->is_head_method ? 1 : 2; // RFC 9110 §9.3.2: an answer to HEAD has no body
    enum ch_err err = durable_write(x, parts, count);
    (void)err;
}

static bool request_is_read(const struct exchange *x)
{
    return x->client->state == REQUEST_COMPLETE || ch_http1_body_is_empty(&x->body_framing);
}

// What another method may mean for framing is not ours to know: its connection ends.
static bool is_served_method(const struct exchange *x)
{
    return x->client->state == REQUEST_HEAD || x->head.method == CH_METHOD_GET ||
           x->head.method == CH_METHOD_POST;
}

void respond_denial(struct exchange *x, const struct denial *denial, enum ch_end_reason reason)
{
    struct ch_buf body;
    char id[CH_REQUEST_ID_TEXT];
    ch_buf_init(&body, BODY_MAX);
    ch_id_format(x->id, id);
    struct ch_error_body error = {.status = denial->status,
                                  .code = denial->code,
                                  .message = ch_span_of(denial->message),
                                  .request_id = id,
                                  .is_spend_limit = denial->is_spend_limit,
                                  .retry_after_ms = denial->retry_after_ms};
    struct answer answer = {.status = denial->status,
                            .content_type = "application/json",
                            .code = denial->code,
                            .fields = denial->fields,
                            .retry_after_s = denial->retry_after_s,
                            .closes = denial->closes || !request_is_read(x) ||
                                      !is_served_method(x) || !x->wants_keep_alive ||
                                      x->client->is_half_closed};
    if (ch_error_body_append(x->dialect, &error, &body) == CH_OK)
        answer.body = ch_buf_span(&body);
    x->status = denial->status;
    x->rule = denial->code;
    x->was_refused = true;
    atomic_fetch_add_explicit(&x->pl->denied_count, 1, memory_order_relaxed);
    durable_withhold(x);
    send_answer(x, &answer);
    ch_buf_fini(&body);
    x->wants_keep_alive = !answer.closes;
    durable_finish(x, reason);
}

void respond_unaccounted(struct exchange *x, bool closes)
{
    respond_denial(x,
                   &(struct denial){.status = 503,
                                    .code = "accounting_unavailable",
                                    .message = "Usage cannot be recorded at the moment.",
                                    .retry_after_s = 1,
                                    .closes = closes},
                   CH_END_DENIED);
}

void respond_parse_error(struct client *c, const struct ch_http1_error *error)
{
    struct exchange *x = c->x;
    exchange_start_clock(x);
    x->wants_keep_alive = false;
    respond_denial(x,
                   &(struct denial){.status = error->status,
                                    .code = "invalid_request",
                                    .message = error->text,
                                    .closes = true},
                   CH_END_DENIED);
}

// ---- paths beside the providers'

static void answer_text(struct exchange *x, int status, const char *text)
{
    struct answer answer = {.status = status,
                            .content_type = "text/plain",
                            .body = ch_span_of(text),
                            .closes = !x->wants_keep_alive || !request_is_read(x)};
    send_answer(x, &answer);
    exchange_end(x, CH_END_DONE, !answer.closes);
}

static void answer_ready(struct exchange *x)
{
    if (x->pl->is_draining)
        answer_text(x, 503, "stopping\n");
    else if (!atomic_load_explicit(&x->pl->proxy->is_ready, memory_order_acquire))
        answer_text(x, 503, "the admin socket is not open\n");
    else if (!ch_store_is_healthy(x->pl->proxy->options.store))
        answer_text(x, 503, "the store has failed\n");
    else if (ch_usage_journal_has_failed(x->pl->proxy->options.journal))
        answer_text(x, 503, "the journal has failed\n");
    else
        answer_text(x, 200, "ready\n");
}

static enum ch_err append_member(struct ch_buf *out, const char *name, struct ch_span value)
{
    enum ch_err err = ch_buf_append_format(out, "\"%s\":\"", name);
    if (!err)
        err = ch_buf_append_json(out, value);
    if (!err)
        err = ch_buf_append_span(out, CH_SPAN("\","));
    return err;
}

// An instant, or null for INT64_MAX: never.
static enum ch_err append_time(struct ch_buf *out, const char *name, int64_t at_ms)
{
    char text[25];
    if (at_ms == INT64_MAX)
        return ch_buf_append_format(out, "\"%s\":null", name);
    ch_clock_format_utc(at_ms, text);
    return ch_buf_append_format(out, "\"%s\":\"%s\"", name, text);
}

static enum ch_err append_money(struct ch_buf *out, const char *name, int64_t nano_usd)
{
    char text[CH_MONEY_TEXT];
    ch_money_format(nano_usd, text);
    return ch_buf_append_format(out, "\"%s\":\"%s\",", name, text);
}

static enum ch_err append_budget(struct ch_buf *out, const struct scope_budget *budget)
{
    struct ch_budget_view view = ch_budget_look(budget->budget, ch_clock_wall_ms());
    enum ch_err err = ch_buf_append_format(
        out, "{\"scope\":\"%s\",\"period\":\"%s\",\"mode\":\"%s\",",
        ch_budget_scope_name(budget->scope), ch_budget_period_name(budget->period),
        ch_budget_mode_name(atomic_load_explicit(&budget->mode, memory_order_relaxed)));
    if (!err)
        err = append_money(out, "limit_usd", view.terms.cap_nano_usd);
    if (!err)
        err = append_money(out, "spent_usd", view.spent_nano_usd);
    if (!err)
        err = append_money(out, "reserved_usd", view.reserved_nano_usd);
    if (!err)
        err = append_time(out, "resets_at", view.interval.end_ms);
    return err ? err : ch_buf_append(out, "}", 1);
}

// Budgets of the key and of those it belongs to; what a provider or everybody may spend is not the
// caller's business.
static enum ch_err append_budgets(struct ch_buf *out, const struct key_record *key)
{
    const struct scope *scopes[] = {key->scope, key->attribution->team, key->attribution->project};
    const char *comma = "";
    enum ch_err err = ch_buf_append_span(out, CH_SPAN("\"budgets\":["));
    for (size_t i = 0; i < sizeof scopes / sizeof *scopes; i++) {
        const struct scope_terms *terms = scope_terms(scopes[i]);
        for (unsigned b = 0; !err && terms && b < terms->budget_count; b++) {
            err = ch_buf_append_span(out, ch_span_of(comma));
            if (!err)
                err = append_budget(out, terms->budgets[b]);
            comma = ",";
        }
    }
    return err ? err : ch_buf_append_span(out, CH_SPAN("],"));
}

static enum ch_err append_limit(struct ch_buf *out, const struct scope *scope,
                                const struct scope_terms *terms, enum ch_rate_kind kind)
{
    struct ch_rate_view view =
        ch_rate_limit_look(&scope->counters, &terms->limits, kind, ch_clock_mono_ns());
    return ch_buf_append_format(out,
                                "{\"scope\":\"%s\",\"limit\":\"%s\",\"value\":%lld,"
                                "\"remaining\":%lld,\"reset_ms\":%lld}",
                                ch_budget_scope_name(scope->kind), ch_rate_kind_name(kind),
                                (long long)view.limit, (long long)view.remaining,
                                (long long)view.reset_ms);
}

static enum ch_err append_limits(struct ch_buf *out, const struct key_record *key)
{
    const struct scope *scopes[] = {key->scope, key->attribution->team};
    const char *comma = "";
    enum ch_err err = ch_buf_append_span(out, CH_SPAN("\"limits\":["));
    for (size_t i = 0; i < sizeof scopes / sizeof *scopes; i++) {
        const struct scope_terms *terms = scope_terms(scopes[i]);
        for (int kind = 0; !err && terms && kind < CH_RATE_KINDS; kind++) {
            if (terms->limits.limit[kind] <= 0)
                continue;
            err = ch_buf_append_span(out, ch_span_of(comma));
            if (!err)
                err = append_limit(out, scopes[i], terms, (enum ch_rate_kind)kind);
            comma = ",";
        }
    }
    return err ? err : ch_buf_append_span(out, CH_SPAN("],"));
}

// What the caller may do, what it has spent, and when that starts anew.
static enum ch_err append_key(struct ch_buf *out, const struct key_record *key)
{
    struct ch_span denied = key->policy ? key->policy->deny_models : CH_SPAN("");
    struct ch_span map = key->policy ? key->policy->model_map : CH_SPAN("");
    enum ch_err err = ch_buf_append_span(out, CH_SPAN("{\"schema\":\"chaperone.own_key/1\","));
    if (!err)
        err = append_member(out, "name", key_record_name(key));
    if (!err)
        err = append_member(out, "models", key_record_models(key));
    if (!err)
        err = append_member(out, "deny_models", denied);
    if (!err)
        err = append_member(out, "model_map", map);
    if (!err)
        err = append_budgets(out, key);
    if (!err)
        err = append_limits(out, key);
    if (!err)
        err = append_time(out, "expires_at", key->expires_at_ms ? key->expires_at_ms : INT64_MAX);
    return err ? err : ch_buf_append_span(out, CH_SPAN("}\n"));
}

static void answer_own_key(struct exchange *x)
{
    struct ch_buf body;
    const struct key_record *key = gate_own_key(x);
    if (!key) {
        respond_denial(x,
                       &(struct denial){
                           .status = 401, .code = "invalid_api_key", .message = "Invalid API key."},
                       CH_END_DENIED);
        return;
    }
    ch_buf_init(&body, BODY_MAX);
    struct answer answer = {.status = 200,
                            .content_type = "application/json",
                            .closes = !x->wants_keep_alive || !request_is_read(x)};
    if (append_key(&body, key) == CH_OK)
        answer.body = ch_buf_span(&body);
    send_answer(x, &answer);
    ch_buf_fini(&body);
    exchange_end(x, CH_END_DONE, !answer.closes);
}

bool respond_own_path(struct exchange *x)
{
    struct ch_span path = x->target.path;
    if (x->head.method != CH_METHOD_GET)
        return false;
    if (ch_span_eq(path, CH_SPAN("/healthz")))
        answer_text(x, 200, "ok\n");
    else if (ch_span_eq(path, CH_SPAN("/readyz")))
        answer_ready(x);
    else if (ch_span_eq(path, CH_SPAN("/chaperone/v1/key")))
        answer_own_key(x);
    else
        return false;
    return true;
}
