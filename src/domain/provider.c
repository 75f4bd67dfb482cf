// SPDX-License-Identifier: Apache-2.0
#include "domain/provider.h"

static const struct {
    const char *name;
    enum ch_dialect dialect;
    const char *base_url;     // NULL: the operator must say it
    const char *price_prefix; // NULL: by host
} types[CH_PROVIDER_TYPES] = {
    [CH_PROVIDER_OPENAI] = {"openai", CH_DIALECT_OPENAI, "https://api.openai.com/v1", ""},
    [CH_PROVIDER_ANTHROPIC] = {"anthropic", CH_DIALECT_ANTHROPIC, "https://api.anthropic.com", ""},
    [CH_PROVIDER_GEMINI] = {"gemini", CH_DIALECT_GEMINI,
                            "https://generativelanguage.googleapis.com", "gemini/"},
    [CH_PROVIDER_AZURE] = {"azure", CH_DIALECT_OPENAI, NULL, "azure/"},
    [CH_PROVIDER_OPENAI_COMPATIBLE] = {"openai-compatible", CH_DIALECT_OPENAI, NULL, NULL},
};

// Hosts of compatible providers whose models the catalogue knows (wire.md §1.1, §4.1).
static const struct {
    struct ch_span host;
    const char *prefix;
} hosts[] = {
    {CH_SPAN("api.groq.com"), "groq/"},         {CH_SPAN("api.mistral.ai"), "mistral/"},
    {CH_SPAN("api.deepseek.com"), "deepseek/"}, {CH_SPAN("api.x.ai"), "xai/"},
    {CH_SPAN("openrouter.ai"), "openrouter/"},
};

const char *ch_dialect_name(enum ch_dialect dialect)
{
    static const char *const names[] = {[CH_DIALECT_OPENAI] = "openai",
                                        [CH_DIALECT_ANTHROPIC] = "anthropic",
                                        [CH_DIALECT_GEMINI] = "gemini"};
    return names[dialect];
}

const char *ch_provider_type_name(enum ch_provider_type type)
{
    return types[type].name;
}

enum ch_err ch_provider_type_parse(struct ch_span name, enum ch_provider_type *type_out)
{
    for (int i = 0; i < CH_PROVIDER_TYPES; i++) {
        if (ch_span_eq(name, ch_span_of(types[i].name))) {
            *type_out = (enum ch_provider_type)i;
            return CH_OK;
        }
    }
    return CH_ERR_INVALID;
}

enum ch_dialect ch_provider_type_dialect(enum ch_provider_type type)
{
    return types[type].dialect;
}

const char *ch_provider_type_base_url(enum ch_provider_type type)
{
    return types[type].base_url;
}

struct ch_span ch_provider_credential_field(enum ch_provider_type type, bool as_bearer)
{
    struct ch_span bearer = CH_SPAN("Authorization: Bearer ");
    switch (type) {
    case CH_PROVIDER_OPENAI:
    case CH_PROVIDER_OPENAI_COMPATIBLE:
        return bearer;
    case CH_PROVIDER_ANTHROPIC:
        return as_bearer ? bearer : CH_SPAN("x-api-key: ");
    case CH_PROVIDER_GEMINI:
        return CH_SPAN("x-goog-api-key: ");
    case CH_PROVIDER_AZURE:
        return CH_SPAN("api-key: ");
    }
    return bearer;
}

struct ch_span ch_provider_models_path(enum ch_provider_type type)
{
    switch (type) {
    case CH_PROVIDER_OPENAI:
    case CH_PROVIDER_OPENAI_COMPATIBLE:
        return CH_SPAN("/models");
    case CH_PROVIDER_ANTHROPIC:
        return CH_SPAN("/v1/models");
    case CH_PROVIDER_GEMINI:
        return CH_SPAN("/v1beta/models");
    case CH_PROVIDER_AZURE:
        return CH_SPAN("/openai/v1/models");
    }
    return CH_SPAN("/models");
}

static struct ch_span host_of(struct ch_span base_url)
{
    const char *end = base_url.ptr + base_url.len;
    const char *host = memmem(base_url.ptr, base_url.len, "://", 3);
    host = host ? host + 3 : base_url.ptr;
    const char *stop = host;
    while (stop < end && *stop != '/' && *stop != ':')
        stop++;
    return (struct ch_span){host, (size_t)(stop - host)};
}

const char *ch_provider_price_prefix(enum ch_provider_type type, struct ch_span base_url)
{
    if (types[type].price_prefix)
        return types[type].price_prefix;
    struct ch_span host = host_of(base_url);
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
        if (ch_span_ieq(host, hosts[i].host))
            return hosts[i].prefix;
    return "";
}
