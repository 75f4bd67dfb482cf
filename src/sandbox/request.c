// SPDX-License-Identifier: Apache-2.0
#include "request.h"

#include "base/secret.h"
#include "wire/url.h"

#define DEFAULT_DIMENSIONS 1536 // of text-embedding-3-small
#define DIMENSIONS_MAX     4096
#define ITEMS_MAX          2048 // inputs of one embeddings request, as OpenAI allows
#define PREFIX_SEGMENTS    4    // segments before the provider's own path, as in /api/v1/…

enum path_index {
    AT_MODEL,
    AT_STREAM,
    AT_INCLUDE_USAGE,
    AT_TIER,
    AT_ENCODING,
    AT_TOOL_CHOICE,
    AT_MAX_TOKENS,
    AT_MAX_COMPLETION_TOKENS,
    AT_MAX_OUTPUT_TOKENS,
    AT_GEMINI_MAX_OUTPUT_TOKENS,
    AT_DIMENSIONS,
    AT_GEMINI_DIMENSIONS,
    AT_GEMINI_ITEM_DIMENSIONS,
    AT_TOOL,
    AT_CHAT_TOOL,
    AT_GEMINI_TOOL,
    AT_CHAT_ROLE,
    AT_ANTHROPIC_BLOCK,
    AT_RESPONSES_ITEM,
    AT_GEMINI_RESULT,
    AT_INPUT,
    AT_INPUT_ITEM,
    AT_REQUESTS_ITEM,
    AT_IMAGES,
    AT_SIZE,
    AT_QUALITY,
    AT_FORMAT,
    AT_STREAM_FORMAT,
};

static const char *const paths[] = {
    [AT_MODEL] = "model",
    [AT_STREAM] = "stream",
    [AT_INCLUDE_USAGE] = "stream_options.include_usage",
    [AT_TIER] = "service_tier",
    [AT_ENCODING] = "encoding_format",
    [AT_TOOL_CHOICE] = "tool_choice",
    [AT_MAX_TOKENS] = "max_tokens",
    [AT_MAX_COMPLETION_TOKENS] = "max_completion_tokens",
    [AT_MAX_OUTPUT_TOKENS] = "max_output_tokens",
    [AT_GEMINI_MAX_OUTPUT_TOKENS] = "generationConfig.maxOutputTokens",
    [AT_DIMENSIONS] = "dimensions",
    [AT_GEMINI_DIMENSIONS] = "outputDimensionality",
    [AT_GEMINI_ITEM_DIMENSIONS] = "requests[].outputDimensionality",
    [AT_TOOL] = "tools[].name",
    [AT_CHAT_TOOL] = "tools[].function.name",
    [AT_GEMINI_TOOL] = "tools[].functionDeclarations[].name",
    [AT_CHAT_ROLE] = "messages[].role",
    [AT_ANTHROPIC_BLOCK] = "messages[].content[].type",
    [AT_RESPONSES_ITEM] = "input[].type",
    [AT_GEMINI_RESULT] = "contents[].parts[].functionResponse",
    [AT_INPUT] = "input",
    [AT_INPUT_ITEM] = "input[]",
    [AT_REQUESTS_ITEM] = "requests[]",
    [AT_IMAGES] = "n",
    [AT_SIZE] = "size",
    [AT_QUALITY] = "quality",
    [AT_FORMAT] = "response_format",
    [AT_STREAM_FORMAT] = "stream_format",
};

const char *const ch_sandbox_form_fields[CH_SANDBOX_FORM_FIELDS] = {
    "model", "stream", "n", "size", "quality", "response_format",
};
enum field_index {
    FIELD_MODEL,
    FIELD_STREAM,
    FIELD_IMAGES,
    FIELD_SIZE,
    FIELD_QUALITY,
    FIELD_FORMAT,
};

enum ch_err ch_sandbox_request_plan_new(struct ch_json_plan **plan_out)
{
    return ch_json_plan_new(paths, sizeof paths / sizeof *paths, plan_out);
}

static void set_fault(struct ch_sandbox_request *request, int status, const char *text)
{
    if (request->fault)
        return;
    request->fault = status;
    request->fault_text = text;
}

// ---- the head

static struct ch_span field_credential(enum ch_field id, struct ch_span value)
{
    struct ch_span scheme = CH_SPAN("Bearer ");
    if (id != CH_FIELD_AUTHORIZATION)
        return value;
    if (value.len < scheme.len || !ch_span_ieq((struct ch_span){value.ptr, scheme.len}, scheme))
        return CH_SPAN("");
    return ch_span_trim(ch_span_sub(value, scheme.len));
}

static const char *carrier_name(enum ch_field id)
{
    if (id == CH_FIELD_AUTHORIZATION)
        return "authorization";
    if (id == CH_FIELD_X_API_KEY)
        return "x-api-key";
    if (id == CH_FIELD_X_GOOG_API_KEY)
        return "x-goog-api-key";
    return id == CH_FIELD_API_KEY ? "api-key" : NULL;
}

static void take_credential(struct ch_sandbox_request *request, const char *carrier,
                            struct ch_span credential, struct ch_span api_key)
{
    if (credential.len == api_key.len && ch_secret_equal(credential.ptr, api_key.ptr, api_key.len))
        request->is_authorized = true;
    if (request->credential_len || credential.len > sizeof request->credential)
        return;
    memcpy(request->credential, credential.ptr, credential.len);
    request->credential_len = credential.len;
    request->carrier = carrier;
}

// "cut, slow-20ms" or "cut.slow-20ms".
static void read_directives(struct ch_sandbox_directives *directives, struct ch_span words)
{
    for (size_t i = 0, start = 0; i <= words.len; i++) {
        if (i < words.len && words.ptr[i] != ',' && words.ptr[i] != '.')
            continue;
        struct ch_span word = {words.ptr + start, i - start};
        ch_sandbox_directive_read(directives, ch_span_trim(word));
        start = i + 1;
    }
}

struct head_signs {
    bool is_anthropic, is_gemini; // fields that only one dialect's SDK sends
    struct ch_span content_type;
};

static void read_fields(struct ch_sandbox_request *request, const struct ch_http1_head *head,
                        const char *base, struct ch_span api_key, struct head_signs *signs)
{
    for (uint32_t i = 0; i < head->field_count; i++) {
        const struct ch_http1_field *field = &head->fields[i];
        struct ch_span value = ch_http1_value(base, field);
        const char *carrier = carrier_name(field->id);
        if (carrier)
            take_credential(request, carrier, field_credential(field->id, value), api_key);
        else if (field->id == CH_FIELD_OTHER &&
                 ch_span_ieq(ch_http1_name(base, field), CH_SPAN("x-sandbox")))
            read_directives(&request->directives, value);
        if (field->id == CH_FIELD_CONTENT_TYPE)
            signs->content_type = value;
        signs->is_anthropic |= field->id == CH_FIELD_ANTHROPIC_VERSION;
        signs->is_gemini |= field->id == CH_FIELD_X_GOOG_API_KEY;
    }
}

// The dialects in the order in which their tables are asked: three of them share /v1/models. Takes
// the dialect's own prefix off the path.
static void order_dialects(const struct head_signs *signs, struct ch_span *path,
                           enum ch_dialect order[CH_DIALECTS])
{
    order[0] = signs->is_anthropic ? CH_DIALECT_ANTHROPIC
               : signs->is_gemini  ? CH_DIALECT_GEMINI
                                   : CH_DIALECT_OPENAI;
    ch_route_prefix(*path, &order[0], path);
    order[1] = order[0] == CH_DIALECT_OPENAI ? CH_DIALECT_ANTHROPIC : CH_DIALECT_OPENAI;
    order[2] = order[0] == CH_DIALECT_GEMINI ? CH_DIALECT_ANTHROPIC : CH_DIALECT_GEMINI;
}

static enum ch_route_result find_route(const enum ch_dialect order[CH_DIALECTS],
                                       struct ch_span path, bool is_post,
                                       struct ch_route_match *match)
{
    enum ch_route_result best = CH_ROUTE_UNKNOWN;
    for (int i = 0; i < CH_DIALECTS; i++) {
        enum ch_route_result result = ch_route_find(order[i], path, is_post, match);
        if (result == CH_ROUTE_FOUND)
            return result;
        if (result == CH_ROUTE_WRONG_METHOD)
            best = result;
    }
    return best;
}

// The operator's base URL may put segments before the provider's own path.
static enum ch_route_result find_behind_prefix(const enum ch_dialect order[CH_DIALECTS],
                                               struct ch_span path, bool is_post,
                                               struct ch_route_match *match)
{
    enum ch_route_result result = CH_ROUTE_UNKNOWN;
    for (int cut = 0; cut <= PREFIX_SEGMENTS; cut++) {
        result = find_route(order, path, is_post, match);
        const char *slash = path.len ? memchr(path.ptr + 1, '/', path.len - 1) : NULL;
        if (result != CH_ROUTE_UNKNOWN || !slash)
            break;
        path = ch_span_sub(path, (size_t)(slash - path.ptr));
    }
    return result;
}

static void take_path_model(struct ch_sandbox_request *request, struct ch_span raw)
{
    size_t len;
    if (ch_url_decode(raw, request->model, sizeof request->model, &len) ||
        !ch_model_name_is_valid((struct ch_span){request->model, len})) {
        set_fault(request, 400, "the path holds no model name");
        return;
    }
    request->model_len = len;
}

// What follows /models/ in the path of a listing names one model.
static void take_listed_model(struct ch_sandbox_request *request, struct ch_span path)
{
    struct ch_span family = CH_SPAN("/models/");
    const char *found = memmem(path.ptr, path.len, family.ptr, family.len);
    if (found)
        take_path_model(request, ch_span_sub(path, (size_t)(found - path.ptr) + family.len));
}

// A route that takes forms only must get one; one that takes either goes by the Content-Type.
static void take_body_kind(struct ch_sandbox_request *request, const struct ch_route *route,
                           struct ch_span content_type)
{
    struct ch_span boundary;
    request->is_form =
        route->takes_form && (!route->takes_json || ch_multipart_is_form(content_type));
    if (!request->is_form)
        return;
    enum ch_multipart_error error = ch_multipart_boundary(content_type, &boundary);
    if (error) {
        request->is_form = false;
        set_fault(request, 400, ch_multipart_error_text(error));
        return;
    }
    memcpy(request->boundary, boundary.ptr, boundary.len);
    request->boundary_len = boundary.len;
}

static void take_route(struct ch_sandbox_request *request, const struct ch_route_match *match,
                       struct ch_span query, struct ch_span content_type)
{
    const struct ch_route *route = match->route;
    struct ch_span alt, whole;
    request->dialect = route->dialect;
    request->endpoint = route->endpoint;
    request->is_stream = route->stream_sign == CH_STREAM_ALWAYS;
    request->is_event_stream =
        route->dialect != CH_DIALECT_GEMINI ||
        (ch_query_find(query, CH_SPAN("alt"), &alt, &whole) && ch_span_eq(alt, CH_SPAN("sse")));
    request->has_body_model =
        route->model_place == CH_MODEL_IN_BODY || route->model_place == CH_MODEL_IN_FORM;
    take_body_kind(request, route, content_type);
    if (route->model_place == CH_MODEL_IN_PATH)
        take_path_model(request, match->model);
    else if (route->endpoint == CH_ENDPOINT_MODELS)
        take_listed_model(request, match->suffix);
}

static void read_target(struct ch_sandbox_request *request, const struct ch_http1_head *head,
                        const char *base, const struct head_signs *signs)
{
    struct ch_target target =
        ch_target_split((struct ch_span){base + head->target_at, head->target_len});
    struct ch_route_match match;
    enum ch_dialect order[CH_DIALECTS];
    bool is_served = head->method == CH_METHOD_POST || head->method == CH_METHOD_GET;
    order_dialects(signs, &target.path, order);
    request->dialect = order[0];
    enum ch_route_result result =
        find_behind_prefix(order, target.path, head->method == CH_METHOD_POST, &match);
    if (result == CH_ROUTE_UNKNOWN)
        set_fault(request, 404, "The sandbox has no such path.");
    else if (result == CH_ROUTE_WRONG_METHOD || !is_served)
        set_fault(request, 405, "This path is served with another method.");
    else
        take_route(request, &match, target.query, signs->content_type);
}

void ch_sandbox_request_begin(struct ch_sandbox_request *request, const struct ch_http1_head *head,
                              const char *base, struct ch_span api_key)
{
    struct head_signs signs = {0};
    *request = (struct ch_sandbox_request){
        .keep_alive = head->keep_alive && head->minor_version > 0,
        .is_http10 = head->minor_version == 0,
        .is_authorized = api_key.len == 0,
        .dimensions = DEFAULT_DIMENSIONS,
        .carrier = "",
        .directives = {.events = -1, .size = -1},
    };
    ch_media_ask_init(&request->ask);
    read_fields(request, head, base, api_key, &signs);
    read_target(request, head, base, &signs);
}

// ---- the body

static bool is_text(const struct ch_json_value *value, const char *text)
{
    return value->type == CH_JSON_STRING && ch_span_eq(value->raw, ch_span_of(text));
}

// Keeps a JSON string as it stands, escapes included, so that it can be pasted into an answer.
static bool keep_text(const struct ch_json_value *value, char *out, size_t size, size_t *len_out)
{
    if (value->type != CH_JSON_STRING || value->raw.len > size)
        return false;
    memcpy(out, value->raw.ptr, value->raw.len);
    *len_out = value->raw.len;
    return true;
}

static void take_model(struct ch_sandbox_request *request, const struct ch_json_value *value)
{
    if (request->has_body_model &&
        !keep_text(value, request->model, sizeof request->model, &request->model_len))
        set_fault(request, 400, "The model must be a name of at most 128 bytes.");
}

static void take_tool(struct ch_sandbox_request *request, const struct ch_json_value *value)
{
    if (!request->tool_len)
        keep_text(value, request->tool, sizeof request->tool, &request->tool_len);
}

static void take_count(const struct ch_json_value *value, int64_t *out)
{
    if (value->type == CH_JSON_NUMBER && ch_json_to_count(value->raw, out))
        *out = 0;
}

// Texts, and lists of tokens, are one item each; a plain list of tokens is one item altogether.
static void count_item(struct ch_sandbox_request *request, const struct ch_json_value *value)
{
    if (value->type == CH_JSON_STRING || value->type == CH_JSON_ARRAY)
        request->items++;
}

// The scanner cuts long texts; of such one the bytes count.
static void take_characters(struct ch_sandbox_request *request, const struct ch_json_value *value)
{
    if (value->type == CH_JSON_STRING)
        request->ask.characters = value->cut ? (int64_t)(value->end - value->at) - 2
                                             : ch_media_json_characters(value->raw);
}

static void take_media(struct ch_sandbox_request *request, const struct ch_json_value *value)
{
    if (value->type == CH_JSON_STRING || value->type == CH_JSON_NUMBER)
        ch_media_ask_take(&request->ask, ch_span_of(paths[value->path]), value->raw);
}

static void take_format(struct ch_sandbox_request *request, struct ch_span value)
{
    if (!ch_span_copy(value, request->format, sizeof request->format))
        request->format[0] = '\0';
}

bool ch_sandbox_request_take_value(void *arg, const struct ch_json_value *value)
{
    struct ch_sandbox_request *request = arg;
    switch ((enum path_index)value->path) {
    case AT_MODEL:
        take_model(request, value);
        break;
    case AT_STREAM:
        if (request->dialect != CH_DIALECT_GEMINI)
            request->is_stream = value->type == CH_JSON_TRUE;
        break;
    case AT_INCLUDE_USAGE:
        request->include_usage = value->type == CH_JSON_TRUE;
        break;
    case AT_TIER:
        keep_text(value, request->tier, sizeof request->tier, &request->tier_len);
        break;
    case AT_ENCODING:
        request->wants_base64 = is_text(value, "base64");
        break;
    case AT_TOOL_CHOICE:
        request->refuses_tools = is_text(value, "none");
        break;
    case AT_MAX_TOKENS:
    case AT_MAX_COMPLETION_TOKENS:
    case AT_MAX_OUTPUT_TOKENS:
    case AT_GEMINI_MAX_OUTPUT_TOKENS:
        take_count(value, &request->max_tokens);
        break;
    case AT_DIMENSIONS:
    case AT_GEMINI_DIMENSIONS:
    case AT_GEMINI_ITEM_DIMENSIONS:
        take_count(value, &request->dimensions);
        break;
    case AT_TOOL:
    case AT_CHAT_TOOL:
    case AT_GEMINI_TOOL:
        take_tool(request, value);
        break;
    case AT_CHAT_ROLE:
        request->has_tool_result |= is_text(value, "tool");
        break;
    case AT_ANTHROPIC_BLOCK:
        request->has_tool_result |= is_text(value, "tool_result");
        break;
    case AT_RESPONSES_ITEM:
        request->has_tool_result |= is_text(value, "function_call_output");
        break;
    case AT_GEMINI_RESULT:
        request->has_tool_result |= value->type == CH_JSON_OBJECT;
        break;
    case AT_INPUT:
        request->items += value->type == CH_JSON_STRING;
        take_characters(request, value);
        break;
    case AT_INPUT_ITEM:
        count_item(request, value);
        break;
    case AT_REQUESTS_ITEM:
        request->items += value->type == CH_JSON_OBJECT;
        break;
    case AT_IMAGES:
    case AT_SIZE:
    case AT_QUALITY:
        take_media(request, value);
        break;
    case AT_FORMAT:
        if (value->type == CH_JSON_STRING)
            take_format(request, value->raw);
        break;
    case AT_STREAM_FORMAT:
        if (request->endpoint == CH_ENDPOINT_AUDIO_SPEECH)
            request->is_stream = is_text(value, "sse");
        break;
    }
    return true;
}

static void take_form_model(struct ch_sandbox_request *request, struct ch_span value)
{
    if (!request->has_body_model)
        return;
    if (!ch_model_name_is_valid(value)) {
        set_fault(request, 400, "The model must be a name of at most 128 bytes.");
        return;
    }
    memcpy(request->model, value.ptr, value.len);
    request->model_len = value.len;
}

void ch_sandbox_request_take_field(void *arg, const struct ch_multipart_value *value)
{
    struct ch_sandbox_request *request = arg;
    switch ((enum field_index)value->field) {
    case FIELD_MODEL:
        take_form_model(request, value->text);
        break;
    case FIELD_STREAM:
        request->is_stream = ch_span_ieq(value->text, CH_SPAN("true"));
        break;
    case FIELD_IMAGES:
    case FIELD_SIZE:
    case FIELD_QUALITY:
        ch_media_ask_take(&request->ask, ch_span_of(ch_sandbox_form_fields[value->field]),
                          value->text);
        break;
    case FIELD_FORMAT:
        take_format(request, value->text);
        break;
    }
}

static int64_t clamp(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

static bool contains(struct ch_span text, const char *word)
{
    return memmem(text.ptr, text.len, word, strlen(word)) != NULL;
}

// "o1", "o3-mini", "openai/o4-mini": the models that think before they answer.
static bool is_o_series(struct ch_span model)
{
    const char *slash = memrchr(model.ptr, '/', model.len);
    if (slash)
        model = ch_span_sub(model, (size_t)(slash + 1 - model.ptr));
    return model.len >= 2 && model.ptr[0] == 'o' && model.ptr[1] >= '0' && model.ptr[1] <= '9';
}

static void read_model_name(struct ch_sandbox_directives *directives, struct ch_span model)
{
    struct ch_span own = CH_SPAN("sandbox-");
    directives->cached |= contains(model, "cached");
    directives->cache_write |= contains(model, "cache-write");
    directives->thinking |= contains(model, "thinking") || is_o_series(model);
    if (ch_span_starts(model, own))
        read_directives(directives, ch_span_sub(model, own.len));
}

// Endpoints whose body may leave the model out have one of their own.
static struct ch_span default_model(enum ch_endpoint endpoint)
{
    if (endpoint == CH_ENDPOINT_MODERATIONS)
        return CH_SPAN("omni-moderation-latest");
    if (endpoint == CH_ENDPOINT_RESPONSES || endpoint == CH_ENDPOINT_RESPONSES_INPUT_TOKENS)
        return CH_SPAN("gpt-4o");
    if (endpoint == CH_ENDPOINT_IMAGES_GENERATIONS || endpoint == CH_ENDPOINT_IMAGES_EDITS ||
        endpoint == CH_ENDPOINT_IMAGES_VARIATIONS)
        return CH_SPAN("dall-e-2");
    return CH_SPAN("");
}

static void check_model(struct ch_sandbox_request *request)
{
    if (request->model_len)
        return;
    struct ch_span model = default_model(request->endpoint);
    memcpy(request->model, model.ptr, model.len);
    request->model_len = model.len;
    if (!model.len)
        set_fault(request, 400, "You must provide a model parameter.");
}

void ch_sandbox_request_finish(struct ch_sandbox_request *request, bool is_whole)
{
    bool is_batch = request->endpoint != CH_ENDPOINT_EMBED_CONTENT;
    request->items = clamp(request->items, 1, is_batch ? ITEMS_MAX : 1);
    request->dimensions = clamp(request->dimensions, 1, DIMENSIONS_MAX);
    read_model_name(&request->directives, ch_sandbox_request_model(request));
    if (!request->is_authorized)
        set_fault(request, 401, "Incorrect API key provided.");
    if (request->endpoint == CH_ENDPOINT_MODELS || request->fault)
        return;
    if (!is_whole)
        set_fault(request, 400,
                  request->is_form ? "The body is not a valid form."
                                   : "The body is not valid JSON.");
    if (request->ask.is_bad)
        set_fault(request, 400, "n must be a number from 1 to 10.");
    if (request->has_body_model)
        check_model(request);
}
