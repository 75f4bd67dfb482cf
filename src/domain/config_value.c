// SPDX-License-Identifier: Apache-2.0
#include "config_value.h"

#include <arpa/inet.h>

#define DISTANCE_TEXT_MAX 64
#define ADDRESS_TEXT_MAX  INET6_ADDRSTRLEN

enum ch_err ch_config_value_boolean(struct ch_span text, bool *value_out)
{
    bool is_true = ch_span_eq(text, CH_SPAN("true"));
    if (!is_true && !ch_span_eq(text, CH_SPAN("false")))
        return CH_ERR_INVALID;
    *value_out = is_true;
    return CH_OK;
}

enum ch_err ch_config_value_switch(struct ch_span text, bool *value_out)
{
    bool is_on = ch_span_eq(text, CH_SPAN("on"));
    if (!is_on && !ch_span_eq(text, CH_SPAN("off")))
        return CH_ERR_INVALID;
    *value_out = is_on;
    return CH_OK;
}

enum ch_err ch_config_value_client(struct ch_span text, enum ch_config_client_auth *value_out)
{
    if (ch_span_eq(text, CH_SPAN("require")))
        *value_out = CH_CONFIG_CLIENT_AUTH_REQUIRE;
    else if (ch_span_eq(text, CH_SPAN("request")))
        *value_out = CH_CONFIG_CLIENT_AUTH_REQUEST;
    else
        return CH_ERR_INVALID;
    return CH_OK;
}

enum ch_err ch_config_value_durability(struct ch_span text, enum ch_config_durability *value_out)
{
    if (ch_span_eq(text, CH_SPAN("process")))
        *value_out = CH_CONFIG_DURABILITY_PROCESS;
    else if (ch_span_eq(text, CH_SPAN("power")))
        *value_out = CH_CONFIG_DURABILITY_POWER;
    else
        return CH_ERR_INVALID;
    return CH_OK;
}

struct unit {
    const char *suffix;
    int64_t factor;
};

// `units` ends with {0}. The longest suffix must come first where one ends another ("ms", "s").
static enum ch_err parse_with_unit(struct ch_span text, const struct unit *units,
                                   int64_t *value_out)
{
    for (; units->suffix; units++) {
        struct ch_span suffix = ch_span_of(units->suffix);
        if (!ch_span_ends(text, suffix))
            continue;
        int64_t number;
        struct ch_span digits = {text.ptr, text.len - suffix.len};
        if (ch_span_to_int64(digits, &number) ||
            __builtin_mul_overflow(number, units->factor, &number))
            return CH_ERR_INVALID;
        *value_out = number;
        return CH_OK;
    }
    return CH_ERR_INVALID;
}

enum ch_err ch_config_value_size(struct ch_span text, int64_t *bytes_out)
{
    static const struct unit units[] = {
        {"KiB", INT64_C(1) << 10}, {"MiB", INT64_C(1) << 20}, {"GiB", INT64_C(1) << 30}, {0}};
    return parse_with_unit(text, units, bytes_out);
}

enum ch_err ch_config_value_duration(struct ch_span text, int64_t *ms_out)
{
    static const struct unit units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {0}};
    return parse_with_unit(text, units, ms_out);
}

bool ch_config_value_is_loopback(struct ch_span host)
{
    char text[ADDRESS_TEXT_MAX];
    struct in_addr v4;
    struct in6_addr v6;
    if (ch_span_eq(host, CH_SPAN("localhost")))
        return true;
    if (!ch_span_copy(host, text, sizeof text))
        return false;
    if (inet_pton(AF_INET, text, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static unsigned smallest(unsigned a, unsigned b, unsigned c)
{
    unsigned least = a < b ? a : b;
    return least < c ? least : c;
}

unsigned ch_config_value_distance(struct ch_span a, struct ch_span b)
{
    unsigned row[DISTANCE_TEXT_MAX + 1]; // distances between a[0..i) and every front part of b
    if (a.len > DISTANCE_TEXT_MAX || b.len > DISTANCE_TEXT_MAX)
        return DISTANCE_TEXT_MAX;
    for (unsigned j = 0; j <= b.len; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            unsigned above = row[j];
            unsigned replaced = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
            row[j] = smallest(replaced, above + 1, row[j - 1] + 1);
            diagonal = above;
        }
    }
    return row[b.len];
}

static bool is_name(struct ch_span text, const char *extra)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool is_letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool is_digit = c >= '0' && c <= '9';
        if (!is_letter && !is_digit && (c == '\0' || !strchr(extra, c)))
            return false;
    }
    return text.len > 0;
}

bool ch_config_value_is_name(struct ch_span text)
{
    return is_name(text, "._-");
}

static bool is_path(struct ch_span text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < ' ' || text.ptr[i] == 0x7f || text.ptr[i] == '}')
            return false;
    return text.len > 0;
}

static bool is_reference_name(enum ch_config_source source, struct ch_span name)
{
    switch (source) {
    case CH_CONFIG_ENV:
        return is_name(name, "_") && (name.ptr[0] < '0' || name.ptr[0] > '9');
    case CH_CONFIG_FILE:
        return is_path(name);
    case CH_CONFIG_CREDENTIAL: // one file name: no path can be built from it
        return is_name(name, "._-") && name.ptr[0] != '.';
    }
    return false;
}

enum ch_err ch_config_reference(struct ch_span text, enum ch_config_source *source_out,
                                struct ch_span *name_out)
{
    static const char *const openings[] = {
        [CH_CONFIG_ENV] = "${env:",
        [CH_CONFIG_FILE] = "${file:",
        [CH_CONFIG_CREDENTIAL] = "${credential:",
    };
    if (!ch_span_ends(text, CH_SPAN("}")))
        return CH_ERR_INVALID;
    for (int i = CH_CONFIG_ENV; i <= CH_CONFIG_CREDENTIAL; i++) {
        struct ch_span opening = ch_span_of(openings[i]);
        if (!ch_span_starts(text, opening))
            continue;
        struct ch_span name = {text.ptr + opening.len, text.len - opening.len - 1};
        if (!is_reference_name((enum ch_config_source)i, name))
            return CH_ERR_INVALID;
        *source_out = (enum ch_config_source)i;
        *name_out = name;
        return CH_OK;
    }
    return CH_ERR_INVALID;
}

static bool is_literal(int family, struct ch_span host)
{
    char text[ADDRESS_TEXT_MAX];
    unsigned char binary[sizeof(struct in6_addr)];
    return ch_span_copy(host, text, sizeof text) && strlen(text) == host.len &&
           inet_pton(family, text, binary) == 1;
}

// Splits HOST:PORT at the last colon, and takes the brackets off.
static enum ch_err parse_host_port(struct ch_span address, struct ch_span *host_out,
                                   uint16_t *port_out)
{
    const char *colon = address.len ? memrchr(address.ptr, ':', address.len) : NULL;
    if (!colon)
        return CH_ERR_INVALID;
    struct ch_span host = {address.ptr, (size_t)(colon - address.ptr)};
    bool is_bracketed = host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';
    if (is_bracketed)
        host = (struct ch_span){host.ptr + 1, host.len - 2};
    int64_t port;
    bool is_known = is_literal(is_bracketed ? AF_INET6 : AF_INET, host) ||
                    (!is_bracketed && ch_span_eq(host, CH_SPAN("localhost")));
    if (!is_known ||
        ch_span_to_int64(ch_span_sub(address, (size_t)(colon + 1 - address.ptr)), &port) ||
        port > UINT16_MAX)
        return CH_ERR_INVALID;
    *host_out = host;
    *port_out = (uint16_t)port;
    return CH_OK;
}

enum ch_err ch_config_address(struct ch_span address, struct ch_span *host_out, uint16_t *port_out,
                              bool *is_unix_out)
{
    struct ch_span unix_prefix = CH_SPAN("unix:");
    bool is_unix = ch_span_starts(address, unix_prefix);
    if (!is_unix) {
        enum ch_err err = parse_host_port(address, host_out, port_out);
        if (!err)
            *is_unix_out = false;
        return err;
    }
    struct ch_span path = ch_span_sub(address, unix_prefix.len);
    if (!is_path(path))
        return CH_ERR_INVALID;
    *host_out = path;
    *port_out = 0;
    *is_unix_out = true;
    return CH_OK;
}
