// SPDX-License-Identifier: Apache-2.0
#include "wire/http1.h"

#include "chars.h"

#define IS_DIGIT(c)   ((c) >= '0' && (c) <= '9')
#define IS_ALPHA(c)   (((c) | 0x20) >= 'a' && ((c) | 0x20) <= 'z')
#define IS_ALNUM(c)   (IS_DIGIT(c) || IS_ALPHA(c))
#define IS_HEX(c)     (IS_DIGIT(c) || (((c) | 0x20) >= 'a' && ((c) | 0x20) <= 'f'))
#define IS_BLANK(c)   ((c) == ' ' || (c) == '\t')
#define IS_VISIBLE(c) ((c) > 0x20 && (c) < 0x7F)
#define IS_TOKEN(c)                                                                                \
    (IS_ALNUM(c) || (c) == '!' || ((c) >= '#' && (c) <= '\'') || (c) == '*' || (c) == '+' ||       \
     (c) == '-' || (c) == '.' || (c) == '^' || (c) == '_' || (c) == '`' || (c) == '|' ||           \
     (c) == '~')
#define IS_PATH(c)                                                                                 \
    (IS_ALNUM(c) || (c) == '!' || (c) == '$' || ((c) >= '&' && (c) <= '/') || (c) == ':' ||        \
     (c) == ';' || (c) == '=' || (c) == '@' || (c) == '_' || (c) == '~')

#define CLASS(c)                                                                                   \
    ((IS_TOKEN(c) ? CH_CHAR_TOKEN : 0) |                                                           \
     (IS_VISIBLE(c) || IS_BLANK(c) || (c) >= 0x80 ? CH_CHAR_VALUE : 0) |                           \
     (IS_VISIBLE(c) && (c) != '#' ? CH_CHAR_TARGET : 0) | (IS_PATH(c) ? CH_CHAR_PATH : 0) |        \
     (IS_ALNUM(c) || (c) == '.' || (c) == '-' || (c) == '_' ? CH_CHAR_HOST : 0) |                  \
     (IS_DIGIT(c) ? CH_CHAR_DIGIT : 0) | (IS_HEX(c) ? CH_CHAR_HEX : 0) |                           \
     (IS_BLANK(c) ? CH_CHAR_BLANK : 0))
#define CLASS_4(c)  CLASS(c), CLASS((c) + 1), CLASS((c) + 2), CLASS((c) + 3)
#define CLASS_16(c) CLASS_4(c), CLASS_4((c) + 4), CLASS_4((c) + 8), CLASS_4((c) + 12)
#define CLASS_64(c) CLASS_16(c), CLASS_16((c) + 16), CLASS_16((c) + 32), CLASS_16((c) + 48)

const uint8_t ch_char_class[256] = {CLASS_64(0), CLASS_64(64), CLASS_64(128), CLASS_64(192)};

static const struct ch_span method_names[] = {
    [CH_METHOD_GET] = {"GET", 3},         [CH_METHOD_HEAD] = {"HEAD", 4},
    [CH_METHOD_POST] = {"POST", 4},       [CH_METHOD_PUT] = {"PUT", 3},
    [CH_METHOD_PATCH] = {"PATCH", 5},     [CH_METHOD_DELETE] = {"DELETE", 6},
    [CH_METHOD_OPTIONS] = {"OPTIONS", 7}, [CH_METHOD_OTHER] = {"?", 1},
};

const char *ch_http1_method_name(enum ch_http1_method method)
{
    return method_names[method].ptr;
}

enum ch_http1_method ch_http1_method_lookup(struct ch_span name)
{
    enum ch_http1_method method = CH_METHOD_GET;
    while (method < CH_METHOD_OTHER && !ch_span_eq(name, method_names[method]))
        method++;
    return method;
}

struct known_name {
    const char *text; // lower case
    uint8_t len;
    uint8_t id; // enum ch_field
};

// A perfect hash of length, first and last letter; the factors were found by search. Two names in
// one slot do not compile (-Woverride-init), and a test looks up every name.
#define SLOT_COUNT             128
#define SLOT(len, first, last) (((len) + 14u * (first) + 103u * (last)) % SLOT_COUNT)
#define NAME(first, last, name, field)                                                             \
    [SLOT(sizeof(name) - 1, first, last)] = {.text = (name), .len = sizeof(name) - 1, .id = (field)}

static const struct known_name known_names[SLOT_COUNT] = {
    NAME('h', 't', "host", CH_FIELD_HOST),
    NAME('c', 'h', "content-length", CH_FIELD_CONTENT_LENGTH),
    NAME('c', 'e', "content-type", CH_FIELD_CONTENT_TYPE),
    NAME('c', 'g', "content-encoding", CH_FIELD_CONTENT_ENCODING),
    NAME('t', 'g', "transfer-encoding", CH_FIELD_TRANSFER_ENCODING),
    NAME('c', 'n', "connection", CH_FIELD_CONNECTION),
    NAME('e', 't', "expect", CH_FIELD_EXPECT),
    NAME('a', 'g', "accept-encoding", CH_FIELD_ACCEPT_ENCODING),
    NAME('u', 't', "user-agent", CH_FIELD_USER_AGENT),
    NAME('l', 'n', "location", CH_FIELD_LOCATION),
    NAME('k', 'e', "keep-alive", CH_FIELD_HOP_BY_HOP),
    NAME('t', 'e', "te", CH_FIELD_HOP_BY_HOP),
    NAME('t', 'r', "trailer", CH_FIELD_HOP_BY_HOP),
    NAME('u', 'e', "upgrade", CH_FIELD_HOP_BY_HOP),
    NAME('h', 's', "http2-settings", CH_FIELD_HOP_BY_HOP),
    NAME('a', 'n', "authorization", CH_FIELD_AUTHORIZATION),
    NAME('x', 'y', "x-api-key", CH_FIELD_X_API_KEY),
    NAME('x', 'y', "x-goog-api-key", CH_FIELD_X_GOOG_API_KEY),
    NAME('a', 'y', "api-key", CH_FIELD_API_KEY),
    NAME('s', 'l', "sec-websocket-protocol", CH_FIELD_SEC_WEBSOCKET_PROTOCOL),
    NAME('c', 'e', "cookie", CH_FIELD_COOKIE),
    NAME('c', '2', "cookie2", CH_FIELD_COOKIE),
    NAME('s', 'e', "set-cookie", CH_FIELD_COOKIE),
    NAME('s', '2', "set-cookie2", CH_FIELD_COOKIE),
    NAME('f', 'd', "forwarded", CH_FIELD_FORWARDING),
    NAME('v', 'a', "via", CH_FIELD_FORWARDING),
    NAME('x', 'p', "x-real-ip", CH_FIELD_FORWARDING),
    NAME('x', 'p', "x-client-ip", CH_FIELD_FORWARDING),
    NAME('t', 'p', "true-client-ip", CH_FIELD_FORWARDING),
    NAME('c', 'p', "cf-connecting-ip", CH_FIELD_FORWARDING),
    NAME('o', 'n', "openai-organization", CH_FIELD_ACCOUNT),
    NAME('o', 't', "openai-project", CH_FIELD_ACCOUNT),
    NAME('a', 'd', "anthropic-organization-id", CH_FIELD_ACCOUNT),
    NAME('a', 'd', "anthropic-workspace-id", CH_FIELD_ACCOUNT),
    NAME('x', 't', "x-goog-user-project", CH_FIELD_ACCOUNT),
    NAME('a', 'n', "anthropic-version", CH_FIELD_ANTHROPIC_VERSION),
    NAME('x', 'e', "x-http-method-override", CH_FIELD_OVERRIDE),
    NAME('x', 'k', "x-goog-fieldmask", CH_FIELD_OVERRIDE),
    NAME('x', 'd', "x-request-id", CH_FIELD_REQUEST_ID),
    NAME('r', 'd', "request-id", CH_FIELD_REQUEST_ID),
    NAME('i', 'y', "idempotency-key", CH_FIELD_IDEMPOTENCY_KEY),
    NAME('x', 'l', "x-goog-upload-url", CH_FIELD_X_GOOG_UPLOAD_URL),
};

static const struct known_name known_prefixes[] = {
    {"proxy-", 6, CH_FIELD_HOP_BY_HOP},         {"x-forwarded-", 12, CH_FIELD_FORWARDING},
    {"x-portkey-", 10, CH_FIELD_OTHER_GATEWAY}, {"x-litellm-", 10, CH_FIELD_OTHER_GATEWAY},
    {"helicone-", 9, CH_FIELD_OTHER_GATEWAY},   {"x-chaperone-", 12, CH_FIELD_CHAPERONE},
};

// Setting bit 5 folds the case of letters and leaves digits and '-' alone. Among the bytes of a
// token nothing else folds onto those.
#define FOLD 0x20

static uint64_t fold_8(const char *text)
{
    uint64_t word;
    memcpy(&word, text, 8);
    return word | FOLD * UINT64_C(0x0101010101010101);
}

// Whether `name`, at least as long, begins with the known text.
static bool begins_with(const char *name, const struct known_name *known)
{
    size_t i = 0;
    for (; i + 8 <= known->len; i += 8)
        if (fold_8(name + i) != fold_8(known->text + i))
            return false;
    if (i > 0) // the rest as part of the last eight, which overlap the eight before
        return fold_8(name + known->len - 8) == fold_8(known->text + known->len - 8);
    while (i < known->len && (name[i] | FOLD) == known->text[i])
        i++;
    return i == known->len;
}

static enum ch_field lookup_prefix(struct ch_span name)
{
    for (size_t i = 0; i < sizeof known_prefixes / sizeof *known_prefixes; i++)
        // Most names that begin with "x-" differ in the third letter.
        if (name.len >= known_prefixes[i].len &&
            (name.ptr[2] | FOLD) == known_prefixes[i].text[2] &&
            begins_with(name.ptr, &known_prefixes[i]))
            return (enum ch_field)known_prefixes[i].id;
    return CH_FIELD_OTHER;
}

enum ch_field ch_field_lookup(struct ch_span name)
{
    if (name.len < 2)
        return CH_FIELD_OTHER;
    unsigned first = (uint8_t)name.ptr[0] | FOLD, last = (uint8_t)name.ptr[name.len - 1] | FOLD;
    const struct known_name *known = &known_names[SLOT(name.len, first, last)];
    if (known->len == name.len && begins_with(name.ptr, known))
        return (enum ch_field)known->id;
    return first == 'x' || first == 'p' || first == 'h' ? lookup_prefix(name) : CH_FIELD_OTHER;
}

const struct ch_http1_field *ch_http1_find(const struct ch_http1_head *head, enum ch_field id)
{
    for (uint32_t i = 0; i < head->field_count; i++)
        if (head->fields[i].id == id)
            return &head->fields[i];
    return NULL;
}

bool ch_list_next(struct ch_span *rest, struct ch_span *element_out)
{
    if (!rest->ptr)
        return false;
    const char *comma = rest->len ? memchr(rest->ptr, ',', rest->len) : NULL;
    struct ch_span element = *rest;
    if (comma)
        element.len = (size_t)(comma - rest->ptr);
    *rest = comma ? ch_span_sub(*rest, element.len + 1) : (struct ch_span){NULL, 0};
    *element_out = ch_span_trim(element);
    return true;
}

static bool list_has(struct ch_span list, struct ch_span name)
{
    struct ch_span option;
    while (ch_list_next(&list, &option))
        if (ch_span_ieq(option, name))
            return true;
    return false;
}

bool ch_http1_is_connection_option(const struct ch_http1_head *head, const char *base,
                                   struct ch_span name)
{
    for (uint32_t i = 0; i < head->field_count; i++)
        if (head->fields[i].id == CH_FIELD_CONNECTION &&
            list_has(ch_http1_value(base, &head->fields[i]), name))
            return true;
    return false;
}

struct reason {
    int status;
    const char *text;
};

// The IANA registry of status codes, 2025, and what the providers add to it.
static const struct reason reasons[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {102, "Processing"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {207, "Multi-Status"},
    {208, "Already Reported"},
    {226, "IM Used"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {305, "Use Proxy"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {424, "Failed Dependency"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {506, "Variant Also Negotiates"},
    {507, "Insufficient Storage"},
    {508, "Loop Detected"},
    {511, "Network Authentication Required"},
    {529, "Overloaded"}, // Anthropic
};

const char *ch_http1_reason(int status)
{
    if (status == 200) // nearly every answer
        return "OK";
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return "Status";
}
