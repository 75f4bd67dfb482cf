// SPDX-License-Identifier: Apache-2.0
#include "wire/url.h"

#include "chars.h"

#include <arpa/inet.h>

#define HOST_MAX  253 // bytes of a name (RFC 1035 §2.3.4, as text)
#define LABEL_MAX 63

static bool is_ip(int family, struct ch_span text, void *address)
{
    char literal[INET6_ADDRSTRLEN];
    return ch_span_copy(text, literal, sizeof literal) && !memchr(literal, '\0', text.len) &&
           inet_pton(family, literal, address) == 1;
}

static enum ch_err parse_port(struct ch_span text, uint16_t *port_out)
{
    int64_t port;
    if (text.len == 0 || text.len > 5 || text.ptr[0] == '0')
        return CH_ERR_INVALID;
    if (ch_span_to_int64(text, &port) || port > UINT16_MAX)
        return CH_ERR_INVALID;
    *port_out = (uint16_t)port;
    return CH_OK;
}

// The bytes of the host with its brackets, 0 when it is none.
static size_t host_size(struct ch_span text, struct ch_authority *authority)
{
    if (text.len == 0)
        return 0;
    if (text.ptr[0] != '[') {
        const char *end = ch_chars_skip(text.ptr, text.ptr + text.len, CH_CHAR_HOST);
        authority->host = (struct ch_span){text.ptr, (size_t)(end - text.ptr)};
        return authority->host.len;
    }
    struct in6_addr address;
    const char *bracket = memchr(text.ptr, ']', text.len);
    if (!bracket)
        return 0;
    authority->host = (struct ch_span){text.ptr + 1, (size_t)(bracket - text.ptr) - 1};
    authority->host_is_ipv6 = true;
    return is_ip(AF_INET6, authority->host, &address) ? authority->host.len + 2 : 0;
}

enum ch_err ch_authority_parse(struct ch_span text, struct ch_authority *authority_out)
{
    struct ch_authority authority = {{NULL, 0}, 0, false};
    size_t size = host_size(text, &authority);
    if (size == 0)
        return CH_ERR_INVALID;
    struct ch_span rest = ch_span_sub(text, size);
    if (rest.len > 0 && (rest.ptr[0] != ':' || parse_port(ch_span_sub(rest, 1), &authority.port)))
        return CH_ERR_INVALID;
    *authority_out = authority;
    return CH_OK;
}

// The next part up to `separator`; `rest` moves behind it, its ptr is NULL behind the last part.
static struct ch_span next_part(struct ch_span *rest, char separator)
{
    struct ch_span part = *rest;
    const char *stop = rest->len ? memchr(rest->ptr, separator, rest->len) : NULL;
    if (stop)
        part.len = (size_t)(stop - rest->ptr);
    *rest = stop ? ch_span_sub(*rest, part.len + 1) : (struct ch_span){NULL, 0};
    return part;
}

// A label that a resolver may take for part of an address (WHATWG URL, "ends in a number").
static bool is_number(struct ch_span label)
{
    if (label.len > 1 && label.ptr[0] == '0' && (label.ptr[1] | 0x20) == 'x')
        return ch_chars_all(ch_span_sub(label, 2), CH_CHAR_HEX);
    return ch_chars_all(label, CH_CHAR_DIGIT);
}

static bool is_host_name(struct ch_span host)
{
    struct in_addr address;
    struct ch_span rest = host, label = host;
    while (rest.ptr) {
        label = next_part(&rest, '.');
        if (label.len == 0 || label.len > LABEL_MAX)
            return false;
    }
    return host.len <= HOST_MAX && (!is_number(label) || is_ip(AF_INET, host, &address));
}

static bool cut_prefix(struct ch_span *text, struct ch_span prefix)
{
    if (text->len < prefix.len || !ch_span_ieq((struct ch_span){text->ptr, prefix.len}, prefix))
        return false;
    *text = ch_span_sub(*text, prefix.len);
    return true;
}

// The first byte of `text` that is in `set`, or its end.
static size_t find_any(struct ch_span text, const char *set)
{
    size_t at = 0;
    while (at < text.len && (text.ptr[at] == '\0' || !strchr(set, text.ptr[at])))
        at++;
    return at;
}

enum ch_err ch_url_parse(struct ch_span text, struct ch_url *url_out, struct ch_why *why)
{
    struct ch_url url = {.tls = cut_prefix(&text, CH_SPAN("https://"))};
    struct ch_authority authority;
    if (!url.tls && !cut_prefix(&text, CH_SPAN("http://")))
        return ch_why_set(why, CH_ERR_INVALID, "the URL must begin with https:// or http://");
    if (find_any(text, "?#") < text.len)
        return ch_why_set(why, CH_ERR_INVALID, "the URL must have no query and no fragment");
    size_t slash = find_any(text, "/");
    struct ch_span host = {text.ptr, slash};
    if (find_any(host, "@") < host.len)
        return ch_why_set(why, CH_ERR_INVALID, "the URL must not hold a user name or password");
    if (ch_authority_parse(host, &authority) ||
        (!authority.host_is_ipv6 && !is_host_name(authority.host)))
        return ch_why_set(why, CH_ERR_INVALID, "the URL has no valid host and port");
    url.path = ch_span_sub(text, slash);
    if (ch_span_ends(url.path, CH_SPAN("/")))
        url.path.len--;
    if (url.path.len > 0 && !ch_target_path_is_plain(url.path))
        return ch_why_set(why, CH_ERR_INVALID,
                          "the path of the URL has an empty or dotted segment or a forbidden byte");
    url.host = authority.host;
    url.host_is_ipv6 = authority.host_is_ipv6;
    url.port = authority.port ? authority.port : url.tls ? 443 : 80;
    *url_out = url;
    return CH_OK;
}

struct ch_target ch_target_split(struct ch_span target)
{
    struct ch_span rest = target;
    struct ch_span path = next_part(&rest, '?');
    return (struct ch_target){path, rest};
}

// The byte that "%XX" at the front of `text` stands for, -1 when it is no escape.
static int escaped_byte(struct ch_span text)
{
    if (text.len < 3 || text.ptr[0] != '%' || !ch_char_is(text.ptr[1], CH_CHAR_HEX) ||
        !ch_char_is(text.ptr[2], CH_CHAR_HEX))
        return -1;
    return (int)(ch_char_hex(text.ptr[1]) << 4 | ch_char_hex(text.ptr[2]));
}

// An escape that a server further on might decode into path syntax, or into nothing good.
static bool is_plain_escape(struct ch_span text)
{
    int byte = escaped_byte(text);
    return byte > 0x1F && byte != 0x7F && !strchr("/\\.%", byte);
}

static bool is_plain_segment(struct ch_span segment)
{
    for (size_t i = 0; i < segment.len; i++) {
        char c = segment.ptr[i];
        if (c == '%' ? !is_plain_escape(ch_span_sub(segment, i)) : !ch_char_is(c, CH_CHAR_PATH))
            return false;
    }
    // Some servers drop ";parameters" before they resolve dots.
    segment.len = find_any(segment, ";");
    return segment.len > 0 && !ch_span_eq(segment, CH_SPAN(".")) &&
           !ch_span_eq(segment, CH_SPAN(".."));
}

// Letters, digits, '-', '_', ':' and single slashes, as nearly every path has alone.
static bool is_obviously_plain(struct ch_span path)
{
    char last = '\0';
    for (size_t i = 0; i < path.len; i++) {
        char c = path.ptr[i];
        bool is_word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                       c == ':' || (c >= 'A' && c <= 'Z');
        if (!is_word && (c != '/' || last == '/'))
            return false;
        last = c;
    }
    return last != '/';
}

bool ch_target_path_is_plain(struct ch_span path)
{
    if (path.len == 0 || path.ptr[0] != '/')
        return false;
    if (is_obviously_plain(path))
        return true;
    struct ch_span rest = ch_span_sub(path, 1);
    while (rest.ptr)
        if (!is_plain_segment(next_part(&rest, '/')))
            return false;
    return true;
}

static bool decodes_to(struct ch_span text, struct ch_span name)
{
    for (size_t i = 0; i < name.len; i++) {
        int byte = escaped_byte(text);
        size_t size = byte < 0 ? 1 : 3;
        if (text.len < size || (byte < 0 ? text.ptr[0] : (char)byte) != name.ptr[i])
            return false;
        text = ch_span_sub(text, size);
    }
    return text.len == 0;
}

// Widens a parameter by one '&': the one before it, or else the one behind.
static struct ch_span with_separator(struct ch_span query, struct ch_span parameter)
{
    if (parameter.ptr > query.ptr)
        return (struct ch_span){parameter.ptr - 1, parameter.len + 1};
    if (parameter.len < query.len)
        parameter.len++;
    return parameter;
}

bool ch_query_find(struct ch_span query, struct ch_span name, struct ch_span *value_out,
                   struct ch_span *whole_out)
{
    struct ch_span rest = query;
    while (rest.ptr) {
        struct ch_span parameter = next_part(&rest, '&');
        struct ch_span value = parameter;
        if (!decodes_to(next_part(&value, '='), name))
            continue;
        *value_out = value.ptr ? value : (struct ch_span){parameter.ptr + parameter.len, 0};
        *whole_out = with_separator(query, parameter);
        return true;
    }
    return false;
}

enum ch_err ch_url_decode(struct ch_span text, char *out, size_t size, size_t *len_out)
{
    size_t len = 0;
    while (text.len > 0) {
        int byte = text.ptr[0] == '%' ? escaped_byte(text) : (uint8_t)text.ptr[0];
        if (byte <= 0)
            return CH_ERR_INVALID;
        if (len == size)
            return CH_ERR_LIMIT;
        text = ch_span_sub(text, text.ptr[0] == '%' ? 3 : 1);
        out[len++] = (char)byte;
    }
    *len_out = len;
    return CH_OK;
}

bool ch_url_host_is_loopback(struct ch_span host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (is_ip(AF_INET, host, &v4))
        return ntohl(v4.s_addr) >> 24 == 127;
    if (is_ip(AF_INET6, host, &v6))
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return ch_span_ieq(host, CH_SPAN("localhost"));
}
