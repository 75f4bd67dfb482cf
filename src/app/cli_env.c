// SPDX-License-Identifier: Apache-2.0
// `chaperone env KEYNAME --for SDK`: the two settings that point an SDK here (sources: wire.md
// §1.1).
#include "app/cli_run.h"

#include "domain/provider.h"
#include "domain/wrapped_key.h"

#include <stdio.h>

struct sdk {
    const char *name;
    enum ch_dialect dialect;
    const char *base_variable, *key_variable;
    const char *path; // what the SDK expects behind the address
};

static const struct sdk sdks[] = {
    {"openai", CH_DIALECT_OPENAI, "OPENAI_BASE_URL", "OPENAI_API_KEY", "/v1"},
    {"anthropic", CH_DIALECT_ANTHROPIC, "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", ""},
    {"gemini", CH_DIALECT_GEMINI, "GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY", ""},
    {"vercel-openai", CH_DIALECT_OPENAI, "OPENAI_BASE_URL", "OPENAI_API_KEY", "/v1"},
    // The same variable as Anthropic's own SDK, and another meaning.
    {"vercel-anthropic", CH_DIALECT_ANTHROPIC, "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "/v1"},
};

static const struct sdk *find_sdk(const char *name)
{
    for (size_t i = 0; i < sizeof sdks / sizeof *sdks; i++)
        if (strcmp(sdks[i].name, name) == 0)
            return &sdks[i];
    return NULL;
}

// The first listener that an SDK can reach, as a URL without path.
static enum ch_err base_url(const struct ch_config *config, char *out, size_t size,
                            bool *is_wildcard_out, struct ch_why *why)
{
    struct ch_span host;
    uint16_t port;
    bool is_unix;
    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct ch_config_listener *listener = &config->listeners[i];
        if (ch_config_address(ch_span_of(listener->address), &host, &port, &is_unix) || is_unix)
            continue;
        bool is_any4 = ch_span_eq(host, CH_SPAN("0.0.0.0")),
             is_any6 = ch_span_eq(host, CH_SPAN("::"));
        if (is_any4 || is_any6)
            host = CH_SPAN("localhost");
        bool has_colon = memchr(host.ptr, ':', host.len) != NULL;
        snprintf(out, size, "%s://%s%.*s%s:%u", listener->tls_certificate[0] ? "https" : "http",
                 has_colon ? "[" : "", CH_SPAN_ARG(host), has_colon ? "]" : "", port);
        *is_wildcard_out = is_any4 || is_any6;
        return CH_OK;
    }
    return ch_why_set(why, CH_ERR_NOT_FOUND,
                      "the configuration listens on Unix sockets only; an SDK needs an address");
}

static json_t *ask_for(struct ch_cli *cli, const struct ch_cli_call *call, const char *operation,
                       const char *name, struct ch_why *why, enum ch_err *err_out)
{
    json_t *answer = NULL;
    json_t *arguments = json_pack("{s:s}", "name", name);
    *err_out = arguments ? ch_cli_ask(cli, call, operation, arguments, &answer, why)
                         : ch_why_set(why, CH_ERR_INVALID, "the name is not UTF-8");
    json_decref(arguments);
    return answer;
}

static bool speaks(struct ch_cli *cli, const struct ch_cli_call *call, const json_t *key,
                   enum ch_dialect dialect)
{
    bool found = false;
    const json_t *names = json_object_get(key, "providers");
    for (size_t i = 0; i < json_array_size(names) && !found; i++) {
        enum ch_err err;
        struct ch_why why;
        enum ch_provider_type type;
        json_t *provider = ask_for(cli, call, "provider.show",
                                   json_string_value(json_array_get(names, i)), &why, &err);
        const char *name = json_string_value(json_object_get(provider, "type"));
        found = name && !ch_provider_type_parse(ch_span_of(name), &type) &&
                ch_provider_type_dialect(type) == dialect;
        json_decref(provider);
    }
    return found;
}

static int print_settings(struct ch_cli *cli, const struct ch_cli_call *call, const struct sdk *sdk,
                          const char *url, const char *slug)
{
    struct ch_buf text;
    enum ch_err err;
    ch_buf_init(&text, 4096);
    if (call->output == CH_CLI_JSON)
        err = ch_buf_append_format(&text,
                                   "{\"schema\":\"chaperone.env/1\",\"%s\":\"%s%s\","
                                   "\"%s\":\"ch_%s_sk_...\"}\n",
                                   sdk->base_variable, url, sdk->path, sdk->key_variable, slug);
    else
        err = ch_buf_append_format(&text, "export %s=%s%s\nexport %s=ch_%s_sk_...\n",
                                   sdk->base_variable, url, sdk->path, sdk->key_variable, slug);
    struct ch_why why = {"out of memory"};
    int code = err ? ch_cli_fail(cli, err, &why) : ch_cli_write(cli, ch_buf_span(&text));
    ch_buf_fini(&text);
    return code;
}

int ch_cli_run_env(struct ch_cli *cli, const struct ch_cli_call *call)
{
    char url[CH_CONFIG_PATH + 32], slug[CH_WRAPPED_KEY_SLUG_MAX + 1];
    struct ch_why why = {""};
    bool is_wildcard = false;
    enum ch_err err;
    const struct sdk *sdk = find_sdk(ch_cli_value(call, "for"));
    CH_ASSERT(sdk); // the parser knows the same names
    json_t *key = ask_for(cli, call, "key.show", call->positionals[0], &why, &err);
    if (!err)
        err = base_url(&cli->config, url, sizeof url, &is_wildcard, &why);
    if (err) {
        json_decref(key);
        return ch_cli_fail(cli, err, &why);
    }
    ch_wrapped_key_slug(ch_span_of(call->positionals[0]), slug);
    int code = print_settings(cli, call, sdk, url, slug);
    ch_cli_say(cli, call,
               "Put the key that `chaperone key create` printed in the place of ch_%s_sk_...",
               slug);
    if (is_wildcard)
        ch_cli_say(cli, call,
                   "From another machine, put this one's name in the place of localhost.");
    if (!speaks(cli, call, key, sdk->dialect))
        ch_cli_say(cli, call, "Note: key %s has no provider that speaks %s.", call->positionals[0],
                   ch_dialect_name(sdk->dialect));
    json_decref(key);
    return code;
}
