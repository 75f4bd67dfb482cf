// SPDX-License-Identifier: Apache-2.0
// Internet addresses: the networks that a key may be used from, and what kind of network an address
// belongs to.
//
// An address is 4 bytes (IPv4) or 16 (IPv6) in network order. An IPv4 address mapped into IPv6
// (::ffff:192.0.2.7, as a dual-stack socket gives it) counts as IPv4 everywhere here. Text is read
// strictly (inet_pton): four decimal numbers without leading zeros, or RFC 4291; no octal, no hex,
// no short forms, no zone. Pure; any thread; nothing allocates but ch_cidr_list_format's buffer.
#ifndef CH_DOMAIN_CIDR_H
#define CH_DOMAIN_CIDR_H

#include "base/err.h"
#include "base/str.h"

// ---- What kind of address

// Every class but PUBLIC is one that an upstream address may have only by an operator's explicit
// wish (security.md T9); METADATA should not even be opened by a wish for "private" addresses.
enum ch_address_class {
    CH_ADDRESS_PUBLIC = 0,
    CH_ADDRESS_UNSPECIFIED,   // 0.0.0.0/8 and ::, which connect to this very machine
    CH_ADDRESS_LOOPBACK,      // 127.0.0.0/8, ::1
    CH_ADDRESS_PRIVATE,       // RFC 1918; site-local fec0::/10
    CH_ADDRESS_CARRIER_NAT,   // 100.64.0.0/10, RFC 6598
    CH_ADDRESS_LINK_LOCAL,    // 169.254.0.0/16, fe80::/10
    CH_ADDRESS_METADATA,      // where clouds hand out machine credentials: 169.254.169.254, …
    CH_ADDRESS_UNIQUE_LOCAL,  // fc00::/7
    CH_ADDRESS_MULTICAST,     // 224.0.0.0/4, ff00::/8
    CH_ADDRESS_BROADCAST,     // 255.255.255.255
    CH_ADDRESS_DOCUMENTATION, // 192.0.2.0/24, 2001:db8::/32, …
    CH_ADDRESS_BENCHMARKING,  // 198.18.0.0/15, 2001:2::/48
    CH_ADDRESS_RESERVED,      // the rest of IANA's registries of special purpose; all of IPv6
                              // outside 2000::/3
    CH_ADDRESS_MALFORMED,     // neither 4 nor 16 bytes
};
#define CH_ADDRESS_CLASSES 14

// The class of the address, or, where an IPv4 address is embedded (mapped, compatible, translated,
// NAT64, 6to4), the class of that one when it is not public.
enum ch_address_class ch_address_classify(const unsigned char *bytes, size_t len /*4 or 16*/);
// "public", "loopback", "carrier_nat", …
const char *ch_address_class_name(enum ch_address_class address_class);
// Everything but PUBLIC.
bool ch_address_is_private(const unsigned char *bytes, size_t len);

// Reads one address as text. `len_out`: 4 or 16; a mapped one gives 4. CH_ERR_INVALID.
#define CH_ADDRESS_BYTES 16
enum ch_err ch_address_parse(struct ch_span text, unsigned char bytes_out[CH_ADDRESS_BYTES],
                             size_t *len_out) CH_MUST_USE;

// ---- A list of networks

#define CH_CIDR_MAX 64 // networks in a list

struct ch_cidr {
    unsigned char bytes[CH_ADDRESS_BYTES]; // host bits are zero; IPv4 in the first four
    unsigned char len;                     // 4 or 16
    unsigned char prefix_bits;             // 0–32, 0–128
};

struct ch_cidr_list {
    size_t count; // 0: every address
    struct ch_cidr networks[CH_CIDR_MAX];
};

// Reads "10.0.0.0/8, 2001:db8::/32, 192.0.2.7": blanks and empty entries are dropped, so is a
// repeated one. Refused, with a reason that names the entry: host bits that are set, a prefix that
// is none, more than CH_CIDR_MAX entries, commas without a network (an empty list allows all).
enum ch_err ch_cidr_list_parse(struct ch_span text, struct ch_cidr_list *list_out,
                               struct ch_why *why) CH_MUST_USE;
// Appends the list in one spelling: shortest lower-case form, no blanks, no prefix on a single
// address. Reading that gives the same list. CH_ERR_LIMIT, CH_ERR_NOMEM from the buffer.
enum ch_err ch_cidr_list_format(const struct ch_cidr_list *list, struct ch_buf *out) CH_MUST_USE;
// Whether an address is in one of the networks, or there are none. An IPv6 network, ::/0 too, holds
// no IPv4 address. An address of another length than 4 or 16 is allowed by an empty list only.
bool ch_cidr_list_allows(const struct ch_cidr_list *list, const unsigned char *bytes, size_t len);
// The same for text, as a log or a header field gives it; text that is no address is treated so.
bool ch_cidr_list_allows_text(const struct ch_cidr_list *list, struct ch_span address);

#endif
