// SPDX-License-Identifier: Apache-2.0
// Objects that the provider keeps for its account: learned from answers, and looked up where a
// request refers to one (security.md T29, docs/design/008-object-owners.md).
#include "shared.h"

#include <ctype.h>
#include <stdio.h>

#define SHOWN_MAX 64 // characters of an id in an answer

// What a reference is to; it decides the words of the answer.
enum kind {
    KIND_RESPONSE,
    KIND_MESSAGE,
    KIND_CONVERSATION,
    KIND_PROMPT,
    KIND_ITEM,
    KIND_FILE,
    KIND_VECTOR_STORE,
    KIND_FILE_STORE,
    KIND_CONTAINER,
    KIND_SKILL,
    KIND_VOICE,
    KIND_CACHE,
    KIND_TUNNEL,
    KIND_PAST,  // it is told again or compared with, not used: what was never seen passes
    KIND_URI,   // of a file at the provider; anybody's page is none
    KIND_INPUT, // an item of the input: what follows says whether it is one or refers to one
    KIND_INPUT_ID,
    KIND_INPUT_TYPE,
    KIND_INPUT_BODY,     // it has content of its own
    KIND_INPUT_CONTENT,  // likewise, an element of it
    KIND_INPUT_THOUGHTS, // of an item of type reasoning
    KIND_INPUT_IMAGE,    // of an image_generation_call
    KIND_INPUT_APPROVAL, // of a call that it is or answers
};

static const char *const kind_words[] = {
    [KIND_RESPONSE] = "Previous response",
    [KIND_MESSAGE] = "Previous message",
    [KIND_CONVERSATION] = "Conversation",
    [KIND_PROMPT] = "Prompt",
    [KIND_ITEM] = "Item",
    [KIND_FILE] = "File",
    [KIND_VECTOR_STORE] = "Vector store",
    [KIND_FILE_STORE] = "File search store",
    [KIND_CONTAINER] = "Container",
    [KIND_SKILL] = "Skill",
    [KIND_VOICE] = "Voice",
    [KIND_CACHE] = "Cached content",
    [KIND_TUNNEL] = "Tunnel",
    [KIND_PAST] = "Object",
    [KIND_URI] = "File",
};

// A file in Gemini's four spellings of its members.
#define URIS(parts)                                                                                \
    {parts ".fileData.fileUri", KIND_URI}, {parts ".fileData.file_uri", KIND_URI},                 \
        {parts ".file_data.fileUri", KIND_URI},                                                    \
    {                                                                                              \
        parts ".file_data.file_uri", KIND_URI                                                      \
    }
// What may stand alone instead of in a list of one.
#define EACH(contents) URIS(contents ".parts[]"), URIS(contents ".parts")
#define STORES(tool, names)                                                                        \
    {"tools[]." tool "." names, KIND_FILE_STORE},                                                  \
        {"tools[]." tool "." names "[]", KIND_FILE_STORE},                                         \
        {"tools." tool "." names, KIND_FILE_STORE},                                                \
    {                                                                                              \
        "tools." tool "." names "[]", KIND_FILE_STORE                                              \
    }
// Of a Responses tool.
#define TOOL(tools)                                                                                \
    {tools ".vector_store_ids[]", KIND_VECTOR_STORE}, {tools ".container", KIND_CONTAINER},        \
        {tools ".container.file_ids[]", KIND_FILE},                                                \
        {tools ".environment.container_id", KIND_CONTAINER},                                       \
        {tools ".environment.file_ids[]", KIND_FILE},                                              \
        {tools ".environment.skills[].skill_id", KIND_SKILL},                                      \
        {tools ".input_image_mask.file_id", KIND_FILE},                                            \
    {                                                                                              \
        tools ".tunnel_id", KIND_TUNNEL                                                            \
    }

// As in facts.c, which finds out whether there is any.
static const struct {
    const char *path;
    enum kind kind;
} reference_paths[] = {
    {"previous_response_id", KIND_RESPONSE},
    {"prompt_cache_options.comparison_response_id", KIND_PAST},
    {"thread.previous_message_id", KIND_MESSAGE},
    {"diagnostics.previous_message_id", KIND_PAST},
    {"conversation", KIND_CONVERSATION},
    {"conversation.id", KIND_CONVERSATION},
    {"prompt.id", KIND_PROMPT},
    {"input[]", KIND_INPUT},
    {"input[].id", KIND_INPUT_ID},
    {"input[].type", KIND_INPUT_TYPE},
    {"input[].role", KIND_INPUT_BODY},
    {"input[].content", KIND_INPUT_BODY},
    {"input[].content[]", KIND_INPUT_CONTENT},
    {"input[].encrypted_content", KIND_INPUT_THOUGHTS},
    {"input[].result", KIND_INPUT_IMAGE},
    {"input[].approval_request_id", KIND_INPUT_APPROVAL},
    {"input[].content[].file_id", KIND_FILE},
    {"input[].output.file_id", KIND_FILE},
    {"input[].output[].file_id", KIND_FILE},
    {"input[].container_id", KIND_PAST},
    {"input[].environment.container_id", KIND_CONTAINER},
    TOOL("tools[]"),
    TOOL("input[].tools[]"),
    {"container", KIND_CONTAINER},
    {"container.id", KIND_CONTAINER},
    {"container.skills[].skill_id", KIND_SKILL},
    {"messages[].content[].file.file_id", KIND_FILE},
    {"messages[].content[].file_id", KIND_FILE},
    {"messages[].content[].source.file_id", KIND_FILE},
    {"messages[].content[].source.content[].source.file_id", KIND_FILE},
    {"messages[].content[].content[].source.file_id", KIND_FILE},
    {"messages[].content[].content[].source.content[].source.file_id", KIND_FILE},
    {"messages[].content[].content.content.source.file_id", KIND_FILE},
    {"messages[].content[].content.content.source.content[].source.file_id", KIND_FILE},
    {"audio.voice.id", KIND_VOICE},
    {"voice.id", KIND_VOICE},
    {"images[].file_id", KIND_FILE},
    {"mask.file_id", KIND_FILE},
    {"cachedContent", KIND_CACHE},
    {"cached_content", KIND_CACHE},
    STORES("fileSearch", "fileSearchStoreNames"),
    STORES("fileSearch", "file_search_store_names"),
    STORES("file_search", "fileSearchStoreNames"),
    STORES("file_search", "file_search_store_names"),
    EACH("contents[]"),
    EACH("contents"),
    EACH("systemInstruction"),
    EACH("system_instruction"),
};
#define REFERENCE_PATHS (sizeof reference_paths / sizeof *reference_paths)

enum ch_err objects_plan_new(struct ch_json_plan **plan_out)
{
    const char *paths[REFERENCE_PATHS];
    for (size_t i = 0; i < REFERENCE_PATHS; i++)
        paths[i] = reference_paths[i].path;
    return ch_json_plan_new(paths, REFERENCE_PATHS, plan_out);
}

// ---- learning

void objects_learn(void *arg, struct ch_span id)
{
    struct exchange *x = arg;
    struct object_table *table = registry_objects(x->pl->proxy->options.registry);
    if (!table)
        return;
    uint64_t hash = object_table_hash(table, x->provider->row.id, id);
    for (unsigned i = 0; i < x->object_count; i++)
        if (x->objects[i] == hash) // a stream says it in many of its events
            return;
    const struct object_owner owner = {x->key_id, x->policy.attribution};
    if (object_table_add(table, hash, &owner, x->started_at_ms))
        CH_LOG(CH_LOG_WARN, "objects_forgotten", ch_log_text("limit", "limits.objects"),
               ch_log_text(
                   "what",
                   "the oldest owners are forgotten before their 30 days; status counts them"));
    if (x->object_count < CH_RECORD_OBJECTS)
        x->objects[x->object_count++] = hash;
}

// ---- looking up

// What an item of some type has to bring, or the provider looks the item up.
struct payload {
    bool is_due, is_there, is_empty;
};

// An item of the input. Of a member that stands twice each value counts, as nobody knows which of
// them the provider reads.
struct item {
    bool is_reference, has_type, has_body;
    struct payload thoughts, image;
    bool has_content;       // elements of it
    bool is_call, is_other; // an MCP call; another type
    bool id_is_lost;        // one of its ids is not the asker's
    bool approval_is_lost;  // nor is one of an approval
    char id[SHOWN_MAX + 1]; // the lost ones
    char approval[SHOWN_MAX + 1];
};

struct lookup {
    struct object_table *table;
    const struct provider_record *provider;
    struct object_owner asker;
    int64_t now_ms;
    struct item item; // being read
    // the first reference that is not the asker's
    bool is_lost;
    enum kind kind;
    char id[SHOWN_MAX + 1];
};

enum found {
    FOUND_NONE,
    FOUND_OWN,
    FOUND_FOREIGN,
};

static enum found find(const struct lookup *l, struct ch_span id)
{
    struct object_owner owner;
    uint64_t hash = object_table_hash(l->table, l->provider->row.id, id);
    if (!object_table_find(l->table, hash, l->now_ms, &owner))
        return FOUND_NONE;
    return registry_is_owner(l->provider->row.objects, &owner, &l->asker) ? FOUND_OWN
                                                                          : FOUND_FOREIGN;
}

// An id that was never seen is nobody's: it passes only where there is nobody to take it from.
static bool may_use(const struct lookup *l, enum found found)
{
    return found == FOUND_OWN || (found == FOUND_NONE && !registry_has_tenants(l->provider));
}

static void show(struct ch_span id, char out[SHOWN_MAX + 1])
{
    size_t len = id.len < SHOWN_MAX ? id.len : SHOWN_MAX;
    for (size_t i = 0; i < len; i++)
        out[i] = id.ptr[i] > ' ' && id.ptr[i] <= '~' ? id.ptr[i] : '?';
    out[len] = '\0';
}

static void lose(struct lookup *l, enum kind kind, struct ch_span id)
{
    if (l->is_lost)
        return;
    l->is_lost = true;
    l->kind = kind;
    show(id, l->id);
}

// The id that a value is. False: none, as null is and what opens or closes. What can be no id is
// one that nobody owns.
static bool read_id(const struct ch_json_value *value, char plain[CH_JSON_VALUE_MAX],
                    struct ch_span *id_out)
{
    size_t len = 0;
    switch (value->type) {
    case CH_JSON_NULL:
    case CH_JSON_OBJECT:
    case CH_JSON_ARRAY:
    case CH_JSON_OBJECT_END:
    case CH_JSON_ARRAY_END:
        return false;
    case CH_JSON_FALSE:
    case CH_JSON_TRUE:
    case CH_JSON_NUMBER:
    case CH_JSON_STRING:
        break;
    }
    *id_out = value->raw;
    if (value->escaped) {
        if (ch_json_unescape(value->raw, plain, CH_JSON_VALUE_MAX, &len))
            len = 0;
        *id_out = (struct ch_span){plain, len};
    }
    return true;
}

static bool take(struct ch_span *text, struct ch_span front)
{
    if (text->len < front.len || !ch_span_ieq((struct ch_span){text->ptr, front.len}, front))
        return false;
    *text = ch_span_sub(*text, front.len);
    return true;
}

// Gemini takes any page of the web; what is none, or one of its own, is a file that it keeps. An
// authority that is more than a host and a port is read as no page.
static bool is_anybodys(struct ch_span uri)
{
    struct ch_span own = CH_SPAN("googleapis.com");
    size_t len = 0;
    if (!take(&uri, CH_SPAN("https://")) && !take(&uri, CH_SPAN("http://")))
        return false;
    while (len < uri.len &&
           (isalnum((unsigned char)uri.ptr[len]) || uri.ptr[len] == '.' || uri.ptr[len] == '-'))
        len++;
    if (len == 0 || (len < uri.len && uri.ptr[len] != '/' && uri.ptr[len] != ':' &&
                     uri.ptr[len] != '?' && uri.ptr[len] != '#'))
        return false;
    while (len && uri.ptr[len - 1] == '.')
        len--;
    struct ch_span host = {uri.ptr, len};
    return host.len < own.len || !ch_span_ieq(ch_span_sub(host, host.len - own.len), own);
}

// Servers that only speak the protocol draw the ids of items at random or repeat them.
static bool ids_are_unique(const struct lookup *l)
{
    return l->provider->row.type != CH_PROVIDER_OPENAI_COMPATIBLE;
}

static void see_item_id(struct lookup *l, struct ch_span id)
{
    enum found found = find(l, id);
    if (found == FOUND_FOREIGN && ids_are_unique(l))
        lose(l, KIND_ITEM, id); // whatever it says of itself, the provider may know it by its id
    if (may_use(l, found) || l->item.id_is_lost)
        return;
    l->item.id_is_lost = true;
    show(id, l->item.id);
}

static void see_item_type(struct item *item, struct ch_span type)
{
    bool is_call = ch_span_eq(type, CH_SPAN("mcp_call"));
    item->has_type = true;
    item->is_reference |= ch_span_eq(type, CH_SPAN("item_reference"));
    item->thoughts.is_due |= ch_span_eq(type, CH_SPAN("reasoning"));
    item->image.is_due |= ch_span_eq(type, CH_SPAN("image_generation_call"));
    item->is_call |= is_call;
    item->is_other |= !is_call;
}

// A call that is told again passes unless it is another's; an answer to a request has to be to
// one's own.
static void see_approval(struct lookup *l, struct ch_span id)
{
    enum found found = find(l, id);
    if (found == FOUND_FOREIGN)
        lose(l, KIND_ITEM, id);
    if (may_use(l, found) || l->item.approval_is_lost)
        return;
    l->item.approval_is_lost = true;
    show(id, l->item.approval);
}

static void see_payload(struct payload *payload, const struct ch_json_value *value)
{
    bool is_filled = value->type == CH_JSON_STRING && value->raw.len > 0;
    payload->is_there |= is_filled;
    payload->is_empty |= !is_filled;
}

static bool is_missing(const struct payload *payload)
{
    return payload->is_due && (!payload->is_there || payload->is_empty);
}

// Without a type and without content an item can only be a reference, and so can reasoning without
// its thoughts, which clients that store nothing send encrypted. Other servers than OpenAI's tell
// them as content.
static bool refers(const struct lookup *l)
{
    const struct item *item = &l->item;
    bool tells = item->has_content && !ids_are_unique(l);
    return item->is_reference || (is_missing(&item->thoughts) && !tells) ||
           is_missing(&item->image) || (!item->has_type && !item->has_body);
}

static void end_item(struct lookup *l)
{
    const struct item *item = &l->item;
    if (item->id_is_lost && refers(l))
        lose(l, KIND_ITEM, ch_span_of(item->id));
    if (item->approval_is_lost && (item->is_other || !item->is_call))
        lose(l, KIND_ITEM, ch_span_of(item->approval));
}

static void see_item(struct lookup *l, enum ch_json_type type)
{
    if (type == CH_JSON_OBJECT_END)
        end_item(l);
    else if (type == CH_JSON_OBJECT)
        l->item = (struct item){0};
}

// What is no id but tells what an item is. False: it is one.
static bool see_item_part(struct lookup *l, enum kind kind, const struct ch_json_value *value)
{
    if (kind == KIND_INPUT)
        see_item(l, value->type);
    else if (kind == KIND_INPUT_BODY)
        l->item.has_body |= value->type != CH_JSON_NULL;
    else if (kind == KIND_INPUT_CONTENT)
        l->item.has_content |= value->type == CH_JSON_OBJECT;
    else if (kind == KIND_INPUT_THOUGHTS)
        see_payload(&l->item.thoughts, value);
    else if (kind == KIND_INPUT_IMAGE)
        see_payload(&l->item.image, value);
    else
        return false;
    return true;
}

static bool see(void *arg, const struct ch_json_value *value)
{
    struct lookup *l = arg;
    enum kind kind = reference_paths[value->path].kind;
    char plain[CH_JSON_VALUE_MAX];
    struct ch_span id;
    if (see_item_part(l, kind, value))
        return !l->is_lost;
    if (!read_id(value, plain, &id))
        return true;
    if (kind == KIND_INPUT_TYPE) {
        see_item_type(&l->item, id);
    } else if (kind == KIND_INPUT_ID) {
        see_item_id(l, id);
    } else if (kind == KIND_INPUT_APPROVAL) {
        see_approval(l, id);
    } else if (kind == KIND_PAST && find(l, id) == FOUND_NONE) {
        return true;
    } else if (kind == KIND_SKILL && !ch_span_starts(id, CH_SPAN("skill_"))) {
        return true; // one of the provider's own
    } else if (!(kind == KIND_URI && is_anybodys(id)) && !may_use(l, find(l, id))) {
        lose(l, kind, id);
    }
    return !l->is_lost;
}

bool objects_check(struct exchange *x, const struct key_record *key)
{
    struct ch_json_scan scan;
    struct lookup l = {
        .table = registry_objects(x->pl->proxy->options.registry),
        .provider = x->provider,
        .asker = {key->id, key->attribution},
        .now_ms = x->started_at_ms,
    };
    if (x->provider->row.objects == CH_OBJECTS_SHARED || !l.table)
        return true;
    ch_json_scan_init(&scan, x->pl->proxy->reference_plan, see, &l);
    if (!ch_json_scan_feed(&scan, x->body)) // it was found to be valid before
        return true;
    char message[SHOWN_MAX + 64];
    snprintf(message, sizeof message, "%s with id '%s' not found.", kind_words[l.kind], l.id);
    respond_denial(x,
                   &(struct denial){.status = 404, .code = "object_not_found", .message = message},
                   CH_END_DENIED);
    return false;
}
