// SPDX-License-Identifier: Apache-2.0
// What a request's body says: the model, how it is streamed, and, where a budget or a limit asks,
// what it can cost.
#include "shared.h"

#include "domain/model_rule.h"

#include <assert.h>

// Paths looked for in a body; the order is the index the scanner reports.
enum path {
    PATH_MODEL,
    PATH_STREAM,
    PATH_SERVICE_TIER,
    PATH_STREAM_OPTIONS,
    PATH_INCLUDE_USAGE,
    PATH_MODELS,         // OpenRouter's list of fallbacks
    PATH_BACKGROUND,     // a response that is paid for later
    PATH_REQUESTS_MODEL, // Gemini batchEmbedContents repeats the path's model
    PATH_TOOL_MODEL,     // of a tool that calls another model
    PATH_FALLBACK_MODEL,
    REQUEST_PATHS, // from here on references
};

// What a path beyond these means.
enum meaning {
    MEANS_MAX_OUTPUT,
    MEANS_CHOICES,
    MEANS_PROMPT,    // an element of a list of prompts
    MEANS_STORED,    // an object here stands for content kept elsewhere, a string is content
    MEANS_TOOL,      // a tool of any kind
    MEANS_LONE_TOOL, // the list of them, or one alone
    MEANS_TOOL_TYPE, // whose type says who runs it
    MEANS_SERVER_TOOL,
    MEANS_SEARCH,
    MEANS_REFERENCE, // anything but null
    MEANS_NAME,      // of an object that brings no content, or none beyond what is known already
    MEANS_URL,       // content by reference unless it is a data URL
    MEANS_SOURCE,    // Anthropic's source.type
    MEANS_ITEM_TYPE, // of an item of a response's input
    // Of the shapes that a row names alone, and no reference:
    MEANS_MODEL,  // a model that a tool would call
    MEANS_THREAD, // unless null, the provider holds the conversation
    MEANS_STORE,  // false: the provider does not keep the answer
};

// Members that media are billed by; where a plan has them they follow COMMON_PATHS.
enum media_member {
    MEDIA_INPUT,
    MEDIA_STREAM_FORMAT,
    MEDIA_N, // from here on what ch_media_ask_take takes
    MEDIA_SIZE,
    MEDIA_QUALITY,
    MEDIA_MEMBERS,
};
static const char *const media_members[MEDIA_MEMBERS] = {
    [MEDIA_INPUT] = "input",
    [MEDIA_STREAM_FORMAT] = "stream_format",
    [MEDIA_N] = "n",
    [MEDIA_SIZE] = "size",
    [MEDIA_QUALITY] = "quality",
};

// Fields that are looked for in a form.
enum form_field {
    FIELD_MODEL,
    FIELD_STREAM,
    FIELD_SVG_MODEL,
    FIELD_N, // from here on what ch_media_ask_take takes
    FIELD_SIZE,
    FIELD_QUALITY,
    FORM_FIELDS,
};
static const char *const form_fields[FORM_FIELDS] = {
    [FIELD_MODEL] = "model", [FIELD_STREAM] = "stream", [FIELD_SVG_MODEL] = "svg[model]",
    [FIELD_N] = "n",         [FIELD_SIZE] = "size",     [FIELD_QUALITY] = "quality",
};

struct further {
    const char *path;
    enum meaning meaning;
};

// Whose bodies have a reference, as a set of bits.
enum shape {
    SHAPE_CHAT = 1,
    SHAPE_RESPONSES = 2,
    SHAPE_MESSAGES = 4,
    SHAPE_GEMINI = 8,
    SHAPE_MEDIA = 16,
};
static_assert(SHAPE_MEDIA == 1 << (REQUEST_PLANS - 1), "a plan for each");

// A file of Gemini's; what is a list of one may stand alone.
#define FILES(parts)                                                                               \
    {parts ".fileData", MEANS_REFERENCE, SHAPE_GEMINI},                                            \
    {                                                                                              \
        parts ".file_data", MEANS_REFERENCE, SHAPE_GEMINI                                          \
    }

// Those of a tool, which an item of a response's input may bring too.
#define TOOL_REFERENCES(tools)                                                                     \
    {tools ".vector_store_ids", MEANS_NAME, SHAPE_RESPONSES},                                      \
        {tools ".container", MEANS_NAME, SHAPE_RESPONSES},                                         \
        {tools ".environment", MEANS_NAME, SHAPE_RESPONSES},                                       \
        {tools ".input_image_mask", MEANS_NAME, SHAPE_RESPONSES},                                  \
        {tools ".tunnel_id", MEANS_NAME, SHAPE_RESPONSES},                                         \
    {                                                                                              \
        tools ".svg.model", MEANS_MODEL, SHAPE_RESPONSES                                           \
    }

// Where a body may refer to what the provider keeps; what to is for objects.c to find out. Plans of
// small bodies have those of their shape alone: a path into the messages costs each of them.
static const struct {
    const char *path;
    enum meaning meaning;
    enum shape shapes;
} reference_paths[] = {
    {"store", MEANS_STORE, SHAPE_RESPONSES},
    {"previous_response_id", MEANS_REFERENCE, SHAPE_RESPONSES},
    {"prompt_cache_options.comparison_response_id", MEANS_NAME, SHAPE_RESPONSES},
    {"conversation", MEANS_REFERENCE, SHAPE_RESPONSES},
    {"prompt.id", MEANS_NAME, SHAPE_RESPONSES},
    {"input[].id", MEANS_NAME, SHAPE_RESPONSES},
    {"input[].approval_request_id", MEANS_NAME, SHAPE_RESPONSES},
    {"input[].content[].file_id", MEANS_REFERENCE, SHAPE_RESPONSES},
    {"input[].output.file_id", MEANS_NAME, SHAPE_RESPONSES},
    {"input[].output[].file_id", MEANS_NAME, SHAPE_RESPONSES},
    {"input[].container_id", MEANS_NAME, SHAPE_RESPONSES},
    {"input[].environment.container_id", MEANS_NAME, SHAPE_RESPONSES},
    TOOL_REFERENCES("tools[]"),
    TOOL_REFERENCES("input[].tools[]"),
    {"input[].tools[].model", MEANS_MODEL, SHAPE_RESPONSES},
    {"messages[].content[].file.file_id", MEANS_REFERENCE, SHAPE_CHAT},
    {"audio.voice.id", MEANS_NAME, SHAPE_CHAT},
    {"thread", MEANS_THREAD, SHAPE_MESSAGES},
    {"thread.previous_message_id", MEANS_REFERENCE, SHAPE_MESSAGES},
    {"diagnostics.previous_message_id", MEANS_NAME, SHAPE_MESSAGES},
    {"container", MEANS_NAME, SHAPE_MESSAGES},
    {"messages[].content[].file_id", MEANS_NAME, SHAPE_MESSAGES},
    {"messages[].content[].source.file_id", MEANS_NAME, SHAPE_MESSAGES},
    {"messages[].content[].source.content[].source.file_id", MEANS_NAME, SHAPE_MESSAGES},
    {"messages[].content[].content[].source.file_id", MEANS_NAME, SHAPE_MESSAGES},
    {"messages[].content[].content[].source.content[].source.file_id", MEANS_NAME, SHAPE_MESSAGES},
    {"messages[].content[].content.content.source.file_id", MEANS_NAME, SHAPE_MESSAGES},
    {"messages[].content[].content.content.source.content[].source.file_id", MEANS_NAME,
     SHAPE_MESSAGES},
    {"messages[].content[].tool.definition.model", MEANS_MODEL, SHAPE_MESSAGES},
    {"messages[].content[].tool_changes[].tool.definition.model", MEANS_MODEL, SHAPE_MESSAGES},
    {"svg.model", MEANS_MODEL, SHAPE_MEDIA},
    {"voice.id", MEANS_NAME, SHAPE_MEDIA},
    {"images[].file_id", MEANS_NAME, SHAPE_MEDIA},
    {"mask.file_id", MEANS_NAME, SHAPE_MEDIA},
    {"cachedContent", MEANS_REFERENCE, SHAPE_GEMINI},
    {"cached_content", MEANS_REFERENCE, SHAPE_GEMINI},
    {"tools[].fileSearch", MEANS_SERVER_TOOL, SHAPE_GEMINI},
    {"tools[].file_search", MEANS_SERVER_TOOL, SHAPE_GEMINI},
    {"tools.fileSearch", MEANS_SERVER_TOOL, SHAPE_GEMINI},
    {"tools.file_search", MEANS_SERVER_TOOL, SHAPE_GEMINI},
    FILES("contents[].parts[]"),
    FILES("contents[].parts"),
    FILES("contents.parts[]"),
    FILES("contents.parts"),
    FILES("systemInstruction.parts[]"),
    FILES("systemInstruction.parts"),
    FILES("system_instruction.parts[]"),
    FILES("system_instruction.parts"),
};
#define REFERENCE_PATHS (sizeof reference_paths / sizeof *reference_paths)

// A tool by value, whose type says who runs it.
#define TOOL(tool)                                                                                 \
    {tool, MEANS_TOOL},                                                                            \
    {                                                                                              \
        tool ".type", MEANS_TOOL_TYPE                                                              \
    }
// Gemini's, which are named by their members.
#define NAMED_TOOLS(tools)                                                                         \
    {tools ".google_search", MEANS_SEARCH}, {tools ".googleSearch", MEANS_SEARCH},                 \
        {tools ".google_search_retrieval", MEANS_SEARCH},                                          \
        {tools ".googleSearchRetrieval", MEANS_SEARCH}, {tools ".url_context", MEANS_SERVER_TOOL}, \
        {tools ".urlContext", MEANS_SERVER_TOOL}, {tools ".code_execution", MEANS_SERVER_TOOL},    \
    {                                                                                              \
        tools ".codeExecution", MEANS_SERVER_TOOL                                                  \
    }

// Where the three dialects put the rest (wire.md §1.2, §4.2 and the providers' references).
static const struct further estimate_paths[] = {
    {"max_tokens", MEANS_MAX_OUTPUT},
    {"max_completion_tokens", MEANS_MAX_OUTPUT},
    {"max_output_tokens", MEANS_MAX_OUTPUT},
    {"generationConfig.maxOutputTokens", MEANS_MAX_OUTPUT},
    {"generationConfig.max_output_tokens", MEANS_MAX_OUTPUT},
    {"generation_config.maxOutputTokens", MEANS_MAX_OUTPUT},
    {"generation_config.max_output_tokens", MEANS_MAX_OUTPUT},
    {"n", MEANS_CHOICES},
    {"best_of", MEANS_CHOICES},
    {"generationConfig.candidateCount", MEANS_CHOICES},
    {"generationConfig.candidate_count", MEANS_CHOICES},
    {"generation_config.candidateCount", MEANS_CHOICES},
    {"generation_config.candidate_count", MEANS_CHOICES},
    {"prompt", MEANS_STORED},
    {"prompt[]", MEANS_PROMPT},
    {"functions[]", MEANS_TOOL},
    {"tools", MEANS_LONE_TOOL},
    TOOL("tools[]"),
    TOOL("input[].tools[]"),
    TOOL("messages[].content[].tool.definition"),
    TOOL("messages[].content[].tool_changes[].tool.definition"),
    NAMED_TOOLS("tools[]"),
    NAMED_TOOLS("tools"),
    {"web_search_options", MEANS_SEARCH},
    {"mcp_servers[]", MEANS_SERVER_TOOL},
    {"messages[].content[].image_url.url", MEANS_URL},
    {"messages[].content[].source.type", MEANS_SOURCE},
    {"messages[].content[].source.content[].source.type", MEANS_SOURCE},
    {"messages[].content[].content[].source.type", MEANS_SOURCE},
    {"messages[].content[].content[].source.content[].source.type", MEANS_SOURCE},
    {"messages[].content[].content.content.source.type", MEANS_SOURCE},
    {"messages[].content[].content.content.source.content[].source.type", MEANS_SOURCE},
    {"input[].type", MEANS_ITEM_TYPE},
    {"input[].content[].image_url", MEANS_URL},
    {"input[].content[].file_url", MEANS_REFERENCE},
};
#define ESTIMATE_PATHS (sizeof estimate_paths / sizeof *estimate_paths)
#define COMMON_PATHS   (REQUEST_PATHS + REFERENCE_PATHS) // of every plan

static const char *const request_paths[REQUEST_PATHS] = {
    [PATH_MODEL] = "model",
    [PATH_STREAM] = "stream",
    [PATH_SERVICE_TIER] = "service_tier",
    [PATH_STREAM_OPTIONS] = "stream_options",
    [PATH_INCLUDE_USAGE] = "stream_options.include_usage",
    [PATH_MODELS] = "models",
    [PATH_BACKGROUND] = "background",
    [PATH_REQUESTS_MODEL] = "requests[].model",
    [PATH_TOOL_MODEL] = "tools[].model",
    [PATH_FALLBACK_MODEL] = "fallbacks[].model",
};

// The references of some shapes, behind what every request is asked for.
static void put_references(const char **paths, unsigned shapes)
{
    memcpy(paths, request_paths, sizeof request_paths);
    for (size_t i = 0; i < REFERENCE_PATHS; i++)
        paths[REQUEST_PATHS + i] =
            reference_paths[i].shapes & shapes ? reference_paths[i].path : NULL;
}

enum ch_err facts_plans_new(struct ch_proxy *proxy)
{
    const char *paths[COMMON_PATHS + ESTIMATE_PATHS];
    enum ch_err err = CH_OK;
    static_assert(MEDIA_MEMBERS <= ESTIMATE_PATHS, "there is room for either");
    for (unsigned i = 0; i < REQUEST_PLANS && !err; i++) {
        put_references(paths, 1u << i);
        err = ch_json_plan_new(paths, COMMON_PATHS, &proxy->request_plans[i]);
    }
    put_references(paths, SHAPE_MEDIA);
    memcpy(paths + COMMON_PATHS, media_members, sizeof media_members);
    if (!err)
        err = ch_json_plan_new(paths, COMMON_PATHS + MEDIA_MEMBERS, &proxy->media_plan);
    put_references(paths, ~0u);
    for (size_t i = 0; i < ESTIMATE_PATHS; i++)
        paths[COMMON_PATHS + i] = estimate_paths[i].path;
    if (!err)
        err = ch_json_plan_new(paths, COMMON_PATHS + ESTIMATE_PATHS, &proxy->estimate_plan);
    return err ? err : objects_plan_new(&proxy->reference_plan);
}

static enum shape shape_of(const struct exchange *x)
{
    const struct ch_route *route = x->route;
    switch (route->dialect) {
    case CH_DIALECT_ANTHROPIC:
        return SHAPE_MESSAGES;
    case CH_DIALECT_GEMINI:
        return SHAPE_GEMINI;
    case CH_DIALECT_OPENAI:
        break;
    }
    if (route->usage_form == CH_USAGE_OPENAI_RESPONSES ||
        route->endpoint == CH_ENDPOINT_RESPONSES_INPUT_TOKENS)
        return SHAPE_RESPONSES;
    return facts_are_of_media(x) ? SHAPE_MEDIA : SHAPE_CHAT;
}

// ---- the model

static void see_model(struct request_facts *facts, const struct ch_json_value *value)
{
    facts->has_duplicate |= facts->has_model;
    facts->has_model = true;
    facts->model_at = value->at;
    facts->model_end = value->end;
    facts->model_is_bad =
        value->type != CH_JSON_STRING || value->cut ||
        ch_json_unescape(value->raw, facts->model, sizeof facts->model, &facts->model_len) ||
        !ch_model_name_is_valid((struct ch_span){facts->model, facts->model_len});
    facts->model[facts->model_is_bad ? 0 : facts->model_len] = '\0';
}

// A Gemini body that names a model again must mean the one in the path, with or without "models/".
static void compare_model(struct request_facts *facts, const struct ch_json_value *value)
{
    struct ch_span path_model = {facts->model, facts->model_len}, named = value->raw;
    if (ch_span_starts(named, CH_SPAN("models/")))
        named = ch_span_sub(named, 7);
    facts->repeats_model = true;
    facts->contradicts_path |=
        value->type != CH_JSON_STRING || value->escaped || !ch_span_eq(named, path_model);
}

// A model that a tool or a fallback would call stands under the same lists; the first one that is
// not allowed is kept. What is no name cannot be allowed.
static void judge_nested_model(struct exchange *x, struct ch_span name)
{
    struct request_facts *facts = &x->facts;
    const struct key_record *key = registry_find(
        x->pl->proxy->options.registry, (struct ch_span){x->public_id, sizeof x->public_id});
    if (facts->nested_model_len || !key)
        return;
    bool is_name = name.len < sizeof facts->nested_model && ch_model_name_is_valid(name);
    if (is_name && policy_allows_model(key, name))
        return;
    if (!is_name)
        name = CH_SPAN("?");
    memcpy(facts->nested_model, name.ptr, name.len);
    facts->nested_model_len = (uint8_t)name.len;
}

static void see_nested_model(struct exchange *x, const struct ch_json_value *value)
{
    char name[CH_MODEL_TEXT + 1];
    size_t len = 0;
    if (value->type == CH_JSON_NULL)
        return;
    if (value->type != CH_JSON_STRING || value->cut ||
        ch_json_unescape(value->raw, name, sizeof name - 1, &len))
        len = 0;
    judge_nested_model(x, (struct ch_span){name, len});
}

// ---- how it is streamed

static void see_options(struct request_facts *facts, const struct ch_json_value *value)
{
    if (value->type == CH_JSON_OBJECT_END)
        return;
    facts->has_duplicate |= facts->has_options;
    facts->has_options = true;
    facts->options_is_object = value->type == CH_JSON_OBJECT;
    facts->options_at = value->at;
    facts->options_end = value->end;
}

static void see_include_usage(struct request_facts *facts, const struct ch_json_value *value)
{
    facts->has_duplicate |= facts->has_include;
    facts->has_include = true;
    facts->includes_usage = value->type == CH_JSON_TRUE;
    facts->include_at = value->at;
    facts->include_end = value->end;
}

static void see_stream(struct request_facts *facts, const struct ch_json_value *value)
{
    facts->has_duplicate |= facts->has_stream;
    facts->has_stream = true;
    facts->is_stream = value->type == CH_JSON_TRUE;
}

static void see_tier(struct request_facts *facts, const struct ch_json_value *value)
{
    facts->has_duplicate |= facts->has_tier;
    facts->has_tier = true;
    if (value->type != CH_JSON_STRING)
        return;
    // Longer than any tier: unknown, and so every tier is possible.
    struct ch_span name = value->raw.len <= sizeof facts->tier ? value->raw : CH_SPAN("?");
    memcpy(facts->tier, name.ptr, name.len);
    facts->tier_len = (uint8_t)name.len;
}

// ---- what it can cost

static bool is_end(const struct ch_json_value *value)
{
    return value->type == CH_JSON_OBJECT_END || value->type == CH_JSON_ARRAY_END;
}

// The greatest of those that are there. What is no count here can be one to a provider that reads
// "3" or 3.0 as three, and so counts as without bound.
static int64_t greatest(int64_t known, const struct ch_json_value *value, int64_t more)
{
    int64_t count;
    if (value->type == CH_JSON_NULL)
        return known;
    if (value->type != CH_JSON_NUMBER || ch_json_to_count(value->raw, &count) ||
        count > INT64_MAX - more)
        return INT64_MAX;
    return count + more > known ? count + more : known;
}

static bool starts(const struct ch_json_value *value, const char *prefix)
{
    return value->type == CH_JSON_STRING && ch_span_starts(value->raw, ch_span_of(prefix));
}

static bool is_text(const struct ch_json_value *value, const char *text)
{
    return value->type == CH_JSON_STRING && ch_span_eq(value->raw, ch_span_of(text));
}

static void see_tool_type(struct request_facts *facts, const struct ch_json_value *value)
{
    facts->refers_to_content |= !is_text(value, "function") && !is_text(value, "custom");
    facts->may_search |= starts(value, "web_search");
}

// Inline images and files count by their bytes, and small ones by the allowance for tools.
static void see_url(struct request_facts *facts, const struct ch_json_value *value)
{
    facts->refers_to_content |= value->type == CH_JSON_STRING && !starts(value, "data:");
    facts->has_tools |= starts(value, "data:");
}

static void see_source(struct request_facts *facts, const struct ch_json_value *value)
{
    facts->refers_to_content |= !is_text(value, "base64") && !is_text(value, "text");
    facts->has_tools |= is_text(value, "base64");
}

static void see_for_estimate(struct request_facts *facts, enum meaning meaning,
                             const struct ch_json_value *value)
{
    if (is_end(value))
        return;
    switch (meaning) {
    case MEANS_MAX_OUTPUT:
        facts->max_output = greatest(facts->max_output, value, 1);
        break;
    case MEANS_CHOICES:
        facts->choices = greatest(facts->choices, value, 0);
        break;
    case MEANS_PROMPT: // of a prompt in tokens, each token: the estimate is only higher
        facts->prompts++;
        break;
    case MEANS_STORED:
        facts->refers_to_content |= value->type == CH_JSON_OBJECT;
        break;
    case MEANS_TOOL:
        facts->has_tools = true;
        break;
    case MEANS_LONE_TOOL:
        facts->has_tools |= value->type == CH_JSON_OBJECT;
        break;
    case MEANS_TOOL_TYPE:
        see_tool_type(facts, value);
        break;
    case MEANS_SEARCH:
        facts->may_search = true;
        facts->refers_to_content = facts->has_tools = true;
        break;
    case MEANS_SERVER_TOOL:
        facts->refers_to_content = facts->has_tools = true;
        break;
    case MEANS_REFERENCE:
        facts->refers_to_content |= value->type != CH_JSON_NULL;
        break;
    case MEANS_NAME:
    case MEANS_MODEL:
    case MEANS_THREAD:
    case MEANS_STORE:
        break;
    case MEANS_URL:
        see_url(facts, value);
        break;
    case MEANS_SOURCE:
        see_source(facts, value);
        break;
    case MEANS_ITEM_TYPE:
        facts->refers_to_content |= is_text(value, "item_reference");
        break;
    }
}

// ---- what media are billed by

bool facts_are_of_media(const struct exchange *x)
{
    enum ch_usage_form form = x->route->usage_form;
    return form == CH_USAGE_OPENAI_IMAGES || form == CH_USAGE_OPENAI_TRANSCRIPTION ||
           form == CH_USAGE_OPENAI_SPEECH;
}

// What cannot be unescaped means nothing to the provider either, or it refuses it.
static void take_media(struct request_facts *facts, struct ch_span name,
                       const struct ch_json_value *value)
{
    char text[CH_JSON_VALUE_MAX];
    struct ch_span said = value->raw;
    if (value->escaped) {
        size_t len = 0;
        if (ch_json_unescape(value->raw, text, sizeof text, &len))
            len = 0;
        said = (struct ch_span){text, len};
    }
    ch_media_ask_take(&facts->ask, name, said);
}

static void see_media(struct request_facts *facts, unsigned member,
                      const struct ch_json_value *value)
{
    if (is_end(value))
        return;
    facts->has_duplicate |= facts->media_seen & 1u << member;
    facts->media_seen |= 1u << member;
    if (member == MEDIA_INPUT && value->type == CH_JSON_STRING) {
        facts->input_at = value->at;
        facts->input_end = value->end;
    } else if (member == MEDIA_STREAM_FORMAT) {
        facts->streams_speech = is_text(value, "sse");
    } else if (member >= MEDIA_N) {
        take_media(facts, ch_span_of(media_members[member]), value);
    }
}

// ---- forms

static void see_form_model(struct exchange *x, const struct ch_multipart_value *value)
{
    struct request_facts *facts = &x->facts;
    struct ch_span path_model = {facts->model, facts->model_len};
    if (x->route->model_place == CH_MODEL_IN_PATH) {
        facts->repeats_model = true;
        facts->contradicts_path |= !ch_span_eq(value->text, path_model);
        return;
    }
    facts->has_model = true;
    facts->model_at = value->at;
    facts->model_end = value->end;
    facts->model_is_bad = !ch_model_name_is_valid(value->text) ||
                          !ch_span_copy(value->text, facts->model, sizeof facts->model);
    facts->model_len = facts->model_is_bad ? 0 : value->text.len;
}

static void take_field(void *arg, const struct ch_multipart_value *value)
{
    struct exchange *x = arg;
    if (value->field == FIELD_MODEL)
        see_form_model(x, value);
    else if (value->field == FIELD_STREAM)
        x->facts.is_stream = ch_span_ieq(value->text, CH_SPAN("true"));
    else if (value->field == FIELD_SVG_MODEL)
        judge_nested_model(x, value->text);
    else
        ch_media_ask_take(&x->facts.ask, ch_span_of(form_fields[value->field]), value->text);
}

// ---- all of it

static void see_named_model(struct exchange *x, const struct ch_json_value *value)
{
    if (is_end(value))
        return;
    if (x->route->model_place == CH_MODEL_IN_PATH)
        compare_model(&x->facts, value);
    else
        see_model(&x->facts, value);
}

// True: no reference stands there.
static bool see_beside(struct exchange *x, enum meaning meaning, bool is_here,
                       const struct ch_json_value *value)
{
    if (meaning < MEANS_MODEL)
        return false;
    if (!is_here || is_end(value))
        return true;
    if (meaning == MEANS_MODEL)
        see_nested_model(x, value);
    else if (meaning == MEANS_THREAD)
        x->facts.has_thread |= value->type != CH_JSON_NULL;
    else
        x->facts.is_unstored = value->type == CH_JSON_FALSE;
    return true;
}

static void see_reference(struct exchange *x, size_t i, const struct ch_json_value *value)
{
    enum shape shape = shape_of(x);
    bool is_here = reference_paths[i].shapes & shape;
    if (see_beside(x, reference_paths[i].meaning, is_here, value))
        return;
    x->facts.has_reference |= value->type != CH_JSON_NULL && is_here;
    if (shape != SHAPE_MEDIA)
        see_for_estimate(&x->facts, reference_paths[i].meaning, value);
}

static bool see(void *arg, const struct ch_json_value *value)
{
    struct exchange *x = arg;
    struct request_facts *facts = &x->facts;
    if (value->path >= REQUEST_PATHS && (size_t)value->path < COMMON_PATHS) {
        see_reference(x, (size_t)value->path - REQUEST_PATHS, value);
        return true;
    }
    if (value->path >= REQUEST_PATHS) {
        unsigned more = (unsigned)value->path - (unsigned)COMMON_PATHS;
        if (facts_are_of_media(x))
            see_media(facts, more, value);
        else
            see_for_estimate(facts, estimate_paths[more].meaning, value);
        return true;
    }
    switch ((enum path)value->path) {
    case PATH_MODEL:
        see_named_model(x, value);
        break;
    case PATH_REQUESTS_MODEL:
        if (x->route->model_place == CH_MODEL_IN_PATH)
            compare_model(facts, value);
        break;
    case PATH_STREAM:
        see_stream(facts, value);
        break;
    case PATH_SERVICE_TIER:
        see_tier(facts, value);
        break;
    case PATH_MODELS:
        facts->has_fallback_models = true;
        break;
    case PATH_BACKGROUND:
        facts->is_background |= value->type != CH_JSON_FALSE && value->type != CH_JSON_NULL;
        break;
    case PATH_STREAM_OPTIONS:
        see_options(facts, value);
        break;
    case PATH_INCLUDE_USAGE:
        see_include_usage(facts, value);
        break;
    case PATH_TOOL_MODEL:
    case PATH_FALLBACK_MODEL:
        see_nested_model(x, value);
        break;
    case REQUEST_PATHS:
        break;
    }
    return true;
}

void facts_begin(struct exchange *x, bool for_estimate)
{
    const struct ch_proxy *proxy = x->pl->proxy;
    enum shape shape = shape_of(x);
    const struct ch_json_plan *plan = shape == SHAPE_MEDIA ? proxy->media_plan
                                      : for_estimate       ? proxy->estimate_plan
                                                     : proxy->request_plans[__builtin_ctz(shape)];
    x->body_is_json = true;
    ch_media_ask_init(&x->facts.ask);
    ch_json_scan_init(&x->json, plan, see, x);
}

void facts_begin_form(struct exchange *x, struct ch_span boundary)
{
    x->body_is_form = true;
    ch_media_ask_init(&x->facts.ask);
    ch_multipart_init(&x->form, boundary, form_fields, FORM_FIELDS, take_field, x);
}

void facts_take(struct exchange *x, struct ch_span piece)
{
    if (x->body_failed || piece.len == 0)
        return;
    if (x->body_is_json)
        x->body_failed = ch_json_scan_feed(&x->json, piece) != CH_OK;
    else if (x->body_is_form)
        x->body_failed = ch_multipart_feed(&x->form, piece) != CH_MULTIPART_OK;
}

// A text to be spoken is longer than what the scanner reports of a string, so it is counted where
// it stands.
void facts_finish(struct exchange *x)
{
    struct request_facts *facts = &x->facts;
    if (x->body_is_form)
        facts->ask.file_bytes = (int64_t)x->form.file_bytes;
    if (facts->input_end)
        facts->ask.characters = ch_media_json_characters((struct ch_span){
            x->body.ptr + facts->input_at + 1, (size_t)(facts->input_end - facts->input_at) - 2});
}
