// SPDX-License-Identifier: Apache-2.0
// Request targets and the operator's base URLs. Pure; spans borrow the input.
#ifndef CH_WIRE_URL_H
#define CH_WIRE_URL_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

// What may name a host in a URL or a Host field: letters, digits, '.', '-' and '_', or an IPv6
// literal in brackets (RFC 3986 §3.2.2 without escapes and sub-delimiters, which no host on the net
// has), then [:port].
struct ch_authority {
    struct ch_span host; // without brackets for an IPv6 literal
    uint16_t port;       // 1–65535; 0: none given
    bool host_is_ipv6;
};
enum ch_err ch_authority_parse(struct ch_span text, struct ch_authority *authority_out) CH_MUST_USE;

// An operator's URL: scheme://host[:port][/path]. No userinfo, query or fragment; the path is plain
// (see below) but for one final slash, which is cut. A host that ends in a number must be a dotted
// quad: resolvers read "127.1" and "0x7f000001" as addresses. CH_ERR_INVALID.
struct ch_url {
    bool tls;            // https
    struct ch_span host; // without brackets for an IPv6 literal
    uint16_t port;       // explicit, or 443 / 80
    struct ch_span path; // "" or "/…" without a final slash
    bool host_is_ipv6;
};
enum ch_err ch_url_parse(struct ch_span text, struct ch_url *url_out,
                         struct ch_why *why) CH_MUST_USE;

// A request target in origin form, split at the first '?'.
struct ch_target {
    struct ch_span path;
    struct ch_span query; // without '?'; ptr NULL when there is none
};
struct ch_target ch_target_split(struct ch_span target);
// A path fit for routing: begins with '/', holds nothing but what RFC 3986 §3.3 allows, no empty
// segment (not even a last one), no "." or ".." segment (with a ";parameter" neither), no
// percent-encoded slash, backslash, dot, percent or control byte (security.md §3.11, §4.7). "%3A"
// is fine.
bool ch_target_path_is_plain(struct ch_span path);

// Finds the first query parameter of that name. Names are compared after decoding: the provider
// would read "k%65y" as "key", so it must not hide from us. Sets `whole` to "name=value" with one
// adjoining '&' where there is one, so that cutting it out leaves a well-formed query. False when
// absent.
bool ch_query_find(struct ch_span query, struct ch_span name, struct ch_span *value_out,
                   struct ch_span *whole_out);
// Decodes %XX once into `out` (not NUL-terminated); '+' stays. CH_ERR_INVALID on a broken escape or
// a NUL, CH_ERR_LIMIT when it does not fit.
enum ch_err ch_url_decode(struct ch_span text, char *out, size_t size, size_t *len_out) CH_MUST_USE;

// Loopback by its literal form alone: localhost, 127.0.0.0/8, ::1. No name is resolved.
bool ch_url_host_is_loopback(struct ch_span host);

#endif
