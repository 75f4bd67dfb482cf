// SPDX-License-Identifier: Apache-2.0
#include "domain/route.h"

struct entry {
    struct ch_span path; // what follows the version; "/models/" stands for every path below it
    struct ch_route route;
};

#define POST_JSON true, CH_MODEL_IN_BODY
#define POST_FORM true, CH_MODEL_IN_FORM
#define POST_PATH true, CH_MODEL_IN_PATH
#define GET_LIST  false, CH_MODEL_NOWHERE

// What a POST may carry: the last members of a route.
#define JSON_ONLY true, false
#define FORM_ONLY false, true
#define EITHER    true, true
#define NOTHING   false, false

static const struct entry openai_entries[] = {
    {CH_SPAN("/chat/completions"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_CHAT_COMPLETIONS, POST_JSON, CH_STREAM_BY_BODY,
      CH_USAGE_OPENAI_CHAT, true, false, JSON_ONLY}},
    {CH_SPAN("/completions"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_COMPLETIONS, POST_JSON, CH_STREAM_BY_BODY,
      CH_USAGE_OPENAI_CHAT, true, false, JSON_ONLY}},
    {CH_SPAN("/responses"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_RESPONSES, POST_JSON, CH_STREAM_BY_BODY,
      CH_USAGE_OPENAI_RESPONSES, false, false, JSON_ONLY}},
    {CH_SPAN("/responses/compact"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_RESPONSES_COMPACT, POST_JSON, CH_STREAM_NEVER,
      CH_USAGE_OPENAI_RESPONSES, false, false, JSON_ONLY}},
    {CH_SPAN("/responses/input_tokens"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_RESPONSES_INPUT_TOKENS, POST_JSON, CH_STREAM_NEVER,
      CH_USAGE_NONE, false, false, JSON_ONLY}},
    {CH_SPAN("/embeddings"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_EMBEDDINGS, POST_JSON, CH_STREAM_NEVER,
      CH_USAGE_OPENAI_EMBEDDINGS, false, false, JSON_ONLY}},
    {CH_SPAN("/moderations"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_MODERATIONS, POST_JSON, CH_STREAM_NEVER, CH_USAGE_NONE, false,
      false, JSON_ONLY}},
    {CH_SPAN("/images/generations"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_IMAGES_GENERATIONS, POST_JSON, CH_STREAM_BY_BODY,
      CH_USAGE_OPENAI_IMAGES, false, false, JSON_ONLY}},
    {CH_SPAN("/images/edits"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_IMAGES_EDITS, POST_FORM, CH_STREAM_BY_BODY,
      CH_USAGE_OPENAI_IMAGES, false, false, EITHER}},
    {CH_SPAN("/images/variations"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_IMAGES_VARIATIONS, POST_FORM, CH_STREAM_NEVER,
      CH_USAGE_OPENAI_IMAGES, false, false, FORM_ONLY}},
    {CH_SPAN("/audio/transcriptions"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_AUDIO_TRANSCRIPTIONS, POST_FORM, CH_STREAM_BY_BODY,
      CH_USAGE_OPENAI_TRANSCRIPTION, false, false, FORM_ONLY}},
    {CH_SPAN("/audio/translations"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_AUDIO_TRANSLATIONS, POST_FORM, CH_STREAM_NEVER,
      CH_USAGE_OPENAI_TRANSCRIPTION, false, false, FORM_ONLY}},
    {CH_SPAN("/audio/speech"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_AUDIO_SPEECH, POST_JSON, CH_STREAM_BY_FORMAT,
      CH_USAGE_OPENAI_SPEECH, false, false, JSON_ONLY}},
    {CH_SPAN("/models"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_MODELS, GET_LIST, CH_STREAM_NEVER, CH_USAGE_NONE, false, false,
      NOTHING}},
    {CH_SPAN("/models/"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_MODELS, GET_LIST, CH_STREAM_NEVER, CH_USAGE_NONE, false, false,
      NOTHING}},
};

// Behind /deployments/{D}: the model is the deployment's name. Those of them that the SDK rewrites
// (wire.md §1.1).
static const struct entry azure_entries[] = {
    {CH_SPAN("/chat/completions"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_CHAT_COMPLETIONS, POST_PATH, CH_STREAM_BY_BODY,
      CH_USAGE_OPENAI_CHAT, true, true, JSON_ONLY}},
    {CH_SPAN("/completions"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_COMPLETIONS, POST_PATH, CH_STREAM_BY_BODY,
      CH_USAGE_OPENAI_CHAT, true, true, JSON_ONLY}},
    {CH_SPAN("/embeddings"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_EMBEDDINGS, POST_PATH, CH_STREAM_NEVER,
      CH_USAGE_OPENAI_EMBEDDINGS, false, true, JSON_ONLY}},
    {CH_SPAN("/images/generations"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_IMAGES_GENERATIONS, POST_PATH, CH_STREAM_BY_BODY,
      CH_USAGE_OPENAI_IMAGES, false, true, JSON_ONLY}},
    {CH_SPAN("/images/edits"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_IMAGES_EDITS, POST_PATH, CH_STREAM_BY_BODY,
      CH_USAGE_OPENAI_IMAGES, false, true, EITHER}},
    {CH_SPAN("/audio/transcriptions"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_AUDIO_TRANSCRIPTIONS, POST_PATH, CH_STREAM_BY_BODY,
      CH_USAGE_OPENAI_TRANSCRIPTION, false, true, FORM_ONLY}},
    {CH_SPAN("/audio/translations"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_AUDIO_TRANSLATIONS, POST_PATH, CH_STREAM_NEVER,
      CH_USAGE_OPENAI_TRANSCRIPTION, false, true, FORM_ONLY}},
    {CH_SPAN("/audio/speech"),
     {CH_DIALECT_OPENAI, CH_ENDPOINT_AUDIO_SPEECH, POST_PATH, CH_STREAM_BY_FORMAT,
      CH_USAGE_OPENAI_SPEECH, false, true, JSON_ONLY}},
};

static const struct entry anthropic_entries[] = {
    {CH_SPAN("/messages"),
     {CH_DIALECT_ANTHROPIC, CH_ENDPOINT_MESSAGES, POST_JSON, CH_STREAM_BY_BODY, CH_USAGE_ANTHROPIC,
      false, false, JSON_ONLY}},
    {CH_SPAN("/messages/count_tokens"),
     {CH_DIALECT_ANTHROPIC, CH_ENDPOINT_COUNT_TOKENS, POST_JSON, CH_STREAM_NEVER, CH_USAGE_NONE,
      false, false, JSON_ONLY}},
    {CH_SPAN("/models"),
     {CH_DIALECT_ANTHROPIC, CH_ENDPOINT_MODELS, GET_LIST, CH_STREAM_NEVER, CH_USAGE_NONE, false,
      false, NOTHING}},
    {CH_SPAN("/models/"),
     {CH_DIALECT_ANTHROPIC, CH_ENDPOINT_MODELS, GET_LIST, CH_STREAM_NEVER, CH_USAGE_NONE, false,
      false, NOTHING}},
};

// Listings, and the verbs behind /models/{M}: .
static const struct entry gemini_entries[] = {
    {CH_SPAN("/models"),
     {CH_DIALECT_GEMINI, CH_ENDPOINT_MODELS, GET_LIST, CH_STREAM_NEVER, CH_USAGE_NONE, false, false,
      NOTHING}},
    {CH_SPAN("/models/"),
     {CH_DIALECT_GEMINI, CH_ENDPOINT_MODELS, GET_LIST, CH_STREAM_NEVER, CH_USAGE_NONE, false, false,
      NOTHING}},
};
static const struct entry gemini_verbs[] = {
    {CH_SPAN("generateContent"),
     {CH_DIALECT_GEMINI, CH_ENDPOINT_GENERATE_CONTENT, POST_PATH, CH_STREAM_NEVER, CH_USAGE_GEMINI,
      false, false, JSON_ONLY}},
    {CH_SPAN("streamGenerateContent"),
     {CH_DIALECT_GEMINI, CH_ENDPOINT_STREAM_GENERATE_CONTENT, POST_PATH, CH_STREAM_ALWAYS,
      CH_USAGE_GEMINI, false, false, JSON_ONLY}},
    {CH_SPAN("countTokens"),
     {CH_DIALECT_GEMINI, CH_ENDPOINT_COUNT_TOKENS, POST_PATH, CH_STREAM_NEVER, CH_USAGE_NONE, false,
      false, JSON_ONLY}},
    {CH_SPAN("embedContent"),
     {CH_DIALECT_GEMINI, CH_ENDPOINT_EMBED_CONTENT, POST_PATH, CH_STREAM_NEVER,
      CH_USAGE_GEMINI_EMBEDDINGS, false, false, JSON_ONLY}},
    {CH_SPAN("batchEmbedContents"),
     {CH_DIALECT_GEMINI, CH_ENDPOINT_BATCH_EMBED_CONTENTS, POST_PATH, CH_STREAM_NEVER,
      CH_USAGE_GEMINI_EMBEDDINGS, false, false, JSON_ONLY}},
};

const char *ch_endpoint_name(enum ch_endpoint endpoint)
{
    static const char *const names[CH_ENDPOINTS] = {
        [CH_ENDPOINT_NONE] = "none",
        [CH_ENDPOINT_CHAT_COMPLETIONS] = "chat_completions",
        [CH_ENDPOINT_COMPLETIONS] = "completions",
        [CH_ENDPOINT_RESPONSES] = "responses",
        [CH_ENDPOINT_RESPONSES_INPUT_TOKENS] = "responses_input_tokens",
        [CH_ENDPOINT_EMBEDDINGS] = "embeddings",
        [CH_ENDPOINT_MODERATIONS] = "moderations",
        [CH_ENDPOINT_MODELS] = "models",
        [CH_ENDPOINT_MESSAGES] = "messages",
        [CH_ENDPOINT_COUNT_TOKENS] = "count_tokens",
        [CH_ENDPOINT_GENERATE_CONTENT] = "generate_content",
        [CH_ENDPOINT_STREAM_GENERATE_CONTENT] = "stream_generate_content",
        [CH_ENDPOINT_EMBED_CONTENT] = "embed_content",
        [CH_ENDPOINT_BATCH_EMBED_CONTENTS] = "batch_embed_contents",
        [CH_ENDPOINT_RESPONSES_COMPACT] = "responses_compact",
        [CH_ENDPOINT_IMAGES_GENERATIONS] = "images_generations",
        [CH_ENDPOINT_IMAGES_EDITS] = "images_edits",
        [CH_ENDPOINT_IMAGES_VARIATIONS] = "images_variations",
        [CH_ENDPOINT_AUDIO_TRANSCRIPTIONS] = "audio_transcriptions",
        [CH_ENDPOINT_AUDIO_TRANSLATIONS] = "audio_translations",
        [CH_ENDPOINT_AUDIO_SPEECH] = "audio_speech",
    };
    return names[endpoint];
}

static bool take(struct ch_span *path, struct ch_span front)
{
    if (!ch_span_starts(*path, front))
        return false;
    *path = ch_span_sub(*path, front.len);
    return true;
}

// Takes a whole leading segment ("/v1" of "/v1/models", not of "/v1beta/models").
static bool take_segment(struct ch_span *path, struct ch_span segment)
{
    struct ch_span rest = *path;
    if (!take(&rest, segment) || rest.len == 0 || rest.ptr[0] != '/')
        return false;
    *path = rest;
    return true;
}

bool ch_route_prefix(struct ch_span path, enum ch_dialect *dialect_out, struct ch_span *rest_out)
{
    static const struct {
        struct ch_span segment;
        enum ch_dialect dialect;
    } prefixes[] = {{CH_SPAN("/openai"), CH_DIALECT_OPENAI},
                    {CH_SPAN("/anthropic"), CH_DIALECT_ANTHROPIC},
                    {CH_SPAN("/gemini"), CH_DIALECT_GEMINI}};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (take_segment(&path, prefixes[i].segment)) {
            *dialect_out = prefixes[i].dialect;
            *rest_out = path;
            return true;
        }
    }
    return false;
}

static unsigned count_slashes(struct ch_span text)
{
    unsigned count = 0;
    for (size_t i = 0; i < text.len; i++)
        count += text.ptr[i] == '/';
    return count;
}

// What stands below a model may list the account's other work ("/models/veo/operations"), so a
// family is one segment deep; OpenAI-style names may hold one slash ("openai/gpt-4o").
static bool entry_matches(const struct entry *entry, struct ch_span path)
{
    if (entry->path.ptr[entry->path.len - 1] != '/')
        return ch_span_eq(path, entry->path);
    if (path.len <= entry->path.len || !ch_span_starts(path, entry->path))
        return false;
    unsigned deepest = entry->route.dialect == CH_DIALECT_OPENAI ? 1 : 0;
    return count_slashes(ch_span_sub(path, entry->path.len)) <= deepest;
}

static enum ch_route_result find_in(const struct entry *entries, size_t count, struct ch_span path,
                                    bool is_post, struct ch_route_match *match)
{
    enum ch_route_result result = CH_ROUTE_UNKNOWN;
    for (size_t i = 0; i < count; i++) {
        if (!entry_matches(&entries[i], path))
            continue;
        if (entries[i].route.is_post == is_post) {
            match->route = &entries[i].route;
            return CH_ROUTE_FOUND;
        }
        result = CH_ROUTE_WRONG_METHOD;
    }
    return result;
}
#define FIND_IN(entries, path, is_post, match)                                                     \
    find_in(entries, sizeof(entries) / sizeof *(entries), path, is_post, match)

static enum ch_route_result find_openai(struct ch_span path, bool is_post,
                                        struct ch_route_match *match)
{
    match->suffix = path;
    if (take(&path, CH_SPAN("/deployments/"))) {
        const char *slash = memchr(path.ptr, '/', path.len);
        if (!slash)
            return CH_ROUTE_UNKNOWN;
        match->model = (struct ch_span){path.ptr, (size_t)(slash - path.ptr)};
        return FIND_IN(azure_entries, ch_span_sub(path, match->model.len), is_post, match);
    }
    take_segment(&path, CH_SPAN("/v1")); // a base URL without /v1 is served as well
    match->suffix = path;
    return FIND_IN(openai_entries, path, is_post, match);
}

static enum ch_route_result find_anthropic(struct ch_span path, bool is_post,
                                           struct ch_route_match *match)
{
    take_segment(&path,
                 CH_SPAN("/v1")); // Vercel's SDK puts /messages behind the base (wire.md §1.1)
    match->suffix = path;
    return FIND_IN(anthropic_entries, path, is_post, match);
}

// Splits "/models/{M}:verb" at its last colon, plain or as %3A.
static bool split_verb(struct ch_span path, struct ch_span *model, struct ch_span *verb)
{
    if (!take(&path, CH_SPAN("/models/")))
        return false;
    for (size_t i = path.len; i-- > 0;) {
        size_t width = path.ptr[i] == ':' ? 1 : 0;
        if (path.ptr[i] == '%' && path.len - i >= 3 &&
            ch_span_ieq((struct ch_span){path.ptr + i, 3}, CH_SPAN("%3A")))
            width = 3;
        if (width) {
            *model = (struct ch_span){path.ptr, i};
            *verb = ch_span_sub(path, i + width);
            return true;
        }
    }
    return false;
}

static enum ch_route_result find_gemini(struct ch_span path, bool is_post,
                                        struct ch_route_match *match)
{
    struct ch_span verb;
    match->suffix = path; // the version is part of what is forwarded
    if (!take_segment(&path, CH_SPAN("/v1beta")) && !take_segment(&path, CH_SPAN("/v1alpha")) &&
        !take_segment(&path, CH_SPAN("/v1")))
        return CH_ROUTE_UNKNOWN;
    if (split_verb(path, &match->model, &verb))
        return FIND_IN(gemini_verbs, verb, is_post, match);
    return FIND_IN(gemini_entries, path, is_post, match);
}

enum ch_route_result ch_route_find(enum ch_dialect dialect, struct ch_span path, bool is_post,
                                   struct ch_route_match *match_out)
{
    *match_out = (struct ch_route_match){0};
    switch (dialect) {
    case CH_DIALECT_OPENAI:
        return find_openai(path, is_post, match_out);
    case CH_DIALECT_ANTHROPIC:
        return find_anthropic(path, is_post, match_out);
    case CH_DIALECT_GEMINI:
        return find_gemini(path, is_post, match_out);
    }
    return CH_ROUTE_UNKNOWN;
}

struct ch_span ch_route_upstream_infix(enum ch_provider_type type, const struct ch_route *route)
{
    switch (type) {
    case CH_PROVIDER_OPENAI:
    case CH_PROVIDER_OPENAI_COMPATIBLE:
    case CH_PROVIDER_GEMINI:
        return CH_SPAN("");
    case CH_PROVIDER_ANTHROPIC:
        return CH_SPAN("/v1");
    case CH_PROVIDER_AZURE:
        return route->is_deployment ? CH_SPAN("/openai") : CH_SPAN("/openai/v1");
    }
    return CH_SPAN("");
}
