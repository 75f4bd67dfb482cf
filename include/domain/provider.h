// SPDX-License-Identifier: Apache-2.0
// Provider types and dialects: what an upstream account speaks and how it takes its credential.
// Pure tables; any thread. Sources: wire.md §1.1, §3.1.
#ifndef CH_DOMAIN_PROVIDER_H
#define CH_DOMAIN_PROVIDER_H

#include "base/err.h"
#include "base/str.h"

enum ch_dialect {
    CH_DIALECT_OPENAI,
    CH_DIALECT_ANTHROPIC,
    CH_DIALECT_GEMINI,
};
const char *ch_dialect_name(enum ch_dialect dialect); // "openai" …

enum ch_provider_type { // stored in the database by name
    CH_PROVIDER_OPENAI,
    CH_PROVIDER_ANTHROPIC,
    CH_PROVIDER_GEMINI,
    CH_PROVIDER_AZURE,
    CH_PROVIDER_OPENAI_COMPATIBLE,
};
#define CH_PROVIDER_TYPES 5
const char *ch_provider_type_name(enum ch_provider_type type);
enum ch_err ch_provider_type_parse(struct ch_span name,
                                   enum ch_provider_type *type_out) CH_MUST_USE;
enum ch_dialect ch_provider_type_dialect(enum ch_provider_type type);
// What the provider's own SDK would take; NULL where the operator must say it (azure,
// openai-compatible).
const char *ch_provider_type_base_url(enum ch_provider_type type);

// How the type takes its credential: the front of a header field, ready for the secret ("x-api-key:
// "). `as_bearer`: Anthropic's newer protocol versions take API keys as bearer tokens (2026-10-21
// on).
struct ch_span ch_provider_credential_field(enum ch_provider_type type, bool as_bearer);
// The free listing of models, behind the base URL: "/models", "/v1beta/models" …
struct ch_span ch_provider_models_path(enum ch_provider_type type);

// How the catalogue names this provider's models (wire.md §4.1): "" for OpenAI and Anthropic,
// "gemini/", "azure/"; for openai-compatible by the host of the base URL ("groq/", "mistral/",
// "deepseek/", "xai/", "openrouter/"), "" when the host is unknown.
const char *ch_provider_price_prefix(enum ch_provider_type type, struct ch_span base_url);

#endif
