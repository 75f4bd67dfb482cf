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
    KIND_URI,   // of a file at the provider; anybody's page is none
    KIND_INPUT, // an item of the input: what follows says whether it is one or refers to one
    KIND_INPUT_ID,
    KIND_INPUT_TYPE,
    KIND_INPUT_BODY, // it has content of its own
};

static const char *const kind_words[] = {
    [KIND_RESPONSE] = "Previous response",
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
    {                                                                                              \
        "tools[]." tool "." names "[]", KIND_FILE_STORE                                            \
    }

// As in facts.c, which finds out whether there is any.
static const struct {
    const char *path;
    enum kind kind;
} reference_paths[] = {
    {"previous_response_id", KIND_RESPONSE},
    {"conversation", KIND_CONVERSATION},
    {"conversation.id", KIND_CONVERSATION},
    {"prompt.id", KIND_PROMPT},
    {"input[]", KIND_INPUT},
    {"input[].id", KIND_INPUT_ID},
    {"input[].type", KIND_INPUT_TYPE},
    {"input[].role", KIND_INPUT_BODY},
    {"input[].content", KIND_INPUT_BODY},
    {"input[].approval_request_id", KIND_ITEM},
    {"input[].content[].file_id", KIND_FILE},
    {"input[].output.file_id", KIND_FILE},
    {"input[].output[].file_id", KIND_FILE},
    {"input[].container_id", KIND_CONTAINER},
    {"tools[].vector_store_ids[]", KIND_VECTOR_STORE},
    {"tools[].container", KIND_CONTAINER},
    {"tools[].container.file_ids[]", KIND_FILE},
    {"tools[].environment.container_id", KIND_CONTAINER},
    {"tools[].environment.file_ids[]", KIND_FILE},
    {"tools[].environment.skills[].skill_id", KIND_SKILL},
    {"tools[].input_image_mask.file_id", KIND_FILE},
    {"container", KIND_CONTAINER},
    {"container.id", KIND_CONTAINER},
    {"container.skills[].skill_id", KIND_SKILL},
    {"messages[].content[].file.file_id", KIND_FILE},
    {"messages[].content[].file_id", KIND_FILE},
    {"messages[].content[].source.file_id", KIND_FILE},
    {"messages[].content[].content[].source.file_id", KIND_FILE},
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

struct lookup {
    struct object_table *table;
    const struct provider_record *provider;
    struct object_owner asker;
    int64_t now_ms;
    // the item of the input being read
    bool item_is_reference, item_has_id, item_has_type, item_has_body;
    char item_id[SHOWN_MAX + 1];
    bool item_is_known;
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

static void see_item_id(struct lookup *l, struct ch_span id)
{
    enum found found = find(l, id);
    if (found == FOUND_FOREIGN) // whatever it says of itself, the provider may know it by its id
        lose(l, KIND_ITEM, id);
    l->item_has_id = true;
    l->item_is_known |= may_use(l, found);
    show(id, l->item_id);
}

// Without a type and without content an item can only be a reference.
static void end_item(struct lookup *l)
{
    bool refers =
        l->item_is_reference || (l->item_has_id && !l->item_has_type && !l->item_has_body);
    if (refers && l->item_has_id && !l->item_is_known)
        lose(l, KIND_ITEM, ch_span_of(l->item_id));
}

static void see_item(struct lookup *l, enum ch_json_type type)
{
    if (type == CH_JSON_OBJECT_END) {
        end_item(l);
    } else if (type == CH_JSON_OBJECT) {
        l->item_is_reference = l->item_has_id = l->item_has_type = false;
        l->item_has_body = l->item_is_known = false;
    }
}

static bool see(void *arg, const struct ch_json_value *value)
{
    struct lookup *l = arg;
    enum kind kind = reference_paths[value->path].kind;
    char plain[CH_JSON_VALUE_MAX];
    struct ch_span id;
    if (kind == KIND_INPUT) {
        see_item(l, value->type);
        return !l->is_lost;
    }
    if (kind == KIND_INPUT_BODY) {
        l->item_has_body |= value->type != CH_JSON_NULL;
        return true;
    }
    if (!read_id(value, plain, &id))
        return true;
    if (kind == KIND_INPUT_TYPE) {
        l->item_has_type = true;
        l->item_is_reference |= ch_span_eq(id, CH_SPAN("item_reference"));
    } else if (kind == KIND_INPUT_ID) {
        see_item_id(l, id);
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
