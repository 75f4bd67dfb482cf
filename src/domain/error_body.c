// SPDX-License-Identifier: Apache-2.0
#include "domain/error_body.h"

static const char *openai_type(int status)
{
    switch (status) {
    case 401:
        return "invalid_request_error"; // with code invalid_api_key, as OpenAI itself answers
    case 403:
        return "permission_error";
    case 429:
        return "rate_limit_exceeded";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

static const char *anthropic_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 402:
        return "billing_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 413:
        return "request_too_large";
    case 429:
        return "rate_limit_error";
    case 504:
        return "timeout_error";
    case 529:
        return "overloaded_error";
    default:
        return status >= 500 ? "api_error" : "invalid_request_error";
    }
}

static const char *gemini_status(int status)
{
    switch (status) {
    case 401:
        return "UNAUTHENTICATED";
    case 403:
        return "PERMISSION_DENIED";
    case 404:
        return "NOT_FOUND";
    case 402: // Google has no word for it; this one stands for every limit that is used up
    case 429:
        return "RESOURCE_EXHAUSTED";
    case 503:
        return "UNAVAILABLE";
    case 504:
        return "DEADLINE_EXCEEDED";
    default:
        return status >= 500 ? "INTERNAL" : "INVALID_ARGUMENT";
    }
}

const char *ch_error_type(enum ch_dialect dialect, int status)
{
    switch (dialect) {
    case CH_DIALECT_OPENAI:
        return openai_type(status);
    case CH_DIALECT_ANTHROPIC:
        return anthropic_type(status);
    case CH_DIALECT_GEMINI:
        return gemini_status(status);
    }
    return "";
}

static enum ch_err append_around_message(struct ch_buf *out, struct ch_span message)
{
    enum ch_err err = ch_buf_append_span(out, CH_SPAN("\"message\":\""));
    if (!err)
        err = ch_buf_append_json(out, message);
    if (!err)
        err = ch_buf_append(out, "\"", 1);
    return err;
}

// What SDKs and frameworks take for "out of money, do not try again" (wire.md §3.3).
static const char *code_of(enum ch_dialect dialect, const struct ch_error_body *error)
{
    if (!error->is_spend_limit || dialect == CH_DIALECT_GEMINI)
        return error->code;
    return dialect == CH_DIALECT_OPENAI ? "insufficient_quota" : "enforced_spend_limit_reached";
}

static enum ch_err append_retry_info(const struct ch_error_body *error, struct ch_buf *out)
{
    if (!error->retry_after_ms)
        return CH_OK;
    return ch_buf_append_format(out,
                                ",{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\","
                                "\"retryDelay\":\"%lld.%03lds\"}",
                                (long long)(error->retry_after_ms / 1000),
                                (long)(error->retry_after_ms % 1000));
}

enum ch_err ch_error_body_append(enum ch_dialect dialect, const struct ch_error_body *error,
                                 struct ch_buf *out)
{
    enum ch_err err = CH_OK;
    switch (dialect) {
    case CH_DIALECT_OPENAI:
        err = ch_buf_append_span(out, CH_SPAN("{\"error\":{"));
        if (!err)
            err = append_around_message(out, error->message);
        if (!err)
            err = ch_buf_append_format(out, ",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}",
                                       error->is_spend_limit ? code_of(dialect, error)
                                                             : openai_type(error->status),
                                       code_of(dialect, error));
        return err;
    case CH_DIALECT_ANTHROPIC:
        err = ch_buf_append_format(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",",
                                   anthropic_type(error->status));
        if (!err)
            err = append_around_message(out, error->message);
        if (!err)
            err = ch_buf_append_format(
                out, ",\"details\":{\"error_code\":\"%s\"}},\"request_id\":\"%s\"}",
                code_of(dialect, error), error->request_id);
        return err;
    case CH_DIALECT_GEMINI:
        err = ch_buf_append_format(out, "{\"error\":{\"code\":%d,", error->status);
        if (!err)
            err = append_around_message(out, error->message);
        if (!err)
            err = ch_buf_append_format(
                out,
                ",\"status\":\"%s\",\"details\":[{\"@type\":\"type.googleapis.com/"
                "google.rpc.ErrorInfo\",\"reason\":\"%s\",\"domain\":\"chaperone\"}",
                gemini_status(error->status), code_of(dialect, error));
        if (!err)
            err = append_retry_info(error, out);
        if (!err)
            err = ch_buf_append_span(out, CH_SPAN("]}}"));
        return err;
    }
    return err;
}
