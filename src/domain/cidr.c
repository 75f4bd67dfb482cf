// SPDX-License-Identifier: Apache-2.0
#include "domain/cidr.h"

#include "list.h"

#include <arpa/inet.h>
#include <stdio.h>

#define V4_LEN       4
#define V6_LEN       16
#define MAPPED_BITS  96 // ::ffff:0:0/96, RFC 4291 §2.5.5.2
#define V4_IN_V6     12 // where those formats keep the IPv4 address
#define V4_IN_6TO4   2  // 2002:V4::/48, RFC 3056
#define NOT_EMBEDDED 0
#define PREFIX_TEXT  4 // '/' and three digits
#define NETWORK_TEXT (INET6_ADDRSTRLEN + PREFIX_TEXT)

const char *ch_address_class_name(enum ch_address_class address_class)
{
    static const char *const names[CH_ADDRESS_CLASSES] = {
        [CH_ADDRESS_PUBLIC] = "public",
        [CH_ADDRESS_UNSPECIFIED] = "unspecified",
        [CH_ADDRESS_LOOPBACK] = "loopback",
        [CH_ADDRESS_PRIVATE] = "private",
        [CH_ADDRESS_CARRIER_NAT] = "carrier_nat",
        [CH_ADDRESS_LINK_LOCAL] = "link_local",
        [CH_ADDRESS_METADATA] = "metadata",
        [CH_ADDRESS_UNIQUE_LOCAL] = "unique_local",
        [CH_ADDRESS_MULTICAST] = "multicast",
        [CH_ADDRESS_BROADCAST] = "broadcast",
        [CH_ADDRESS_DOCUMENTATION] = "documentation",
        [CH_ADDRESS_BENCHMARKING] = "benchmarking",
        [CH_ADDRESS_RESERVED] = "reserved",
        [CH_ADDRESS_MALFORMED] = "malformed",
    };
    return names[address_class];
}

// ---- Classes

struct known_network {
    struct ch_cidr network;
    enum ch_address_class address_class;
    unsigned char embeds_at; // where an IPv4 address stands in it
};

// IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890), and where clouds keep machine
// credentials. The first that fits decides, so the narrow ones stand first. What the registries
// call globally reachable inside 192.0.0.0/24 and 2001::/23 is anycast for protocols, no provider.
static const struct known_network known_v4[] = {
    {{{0}, V4_LEN, 8}, CH_ADDRESS_UNSPECIFIED, NOT_EMBEDDED},
    {{{10}, V4_LEN, 8}, CH_ADDRESS_PRIVATE, NOT_EMBEDDED},
    {{{100, 100, 100, 200}, V4_LEN, 32}, CH_ADDRESS_METADATA, NOT_EMBEDDED}, // Alibaba
    {{{100, 64}, V4_LEN, 10}, CH_ADDRESS_CARRIER_NAT, NOT_EMBEDDED},
    {{{127}, V4_LEN, 8}, CH_ADDRESS_LOOPBACK, NOT_EMBEDDED},
    {{{168, 63, 129, 16}, V4_LEN, 32}, CH_ADDRESS_METADATA, NOT_EMBEDDED}, // Azure's wire server
    {{{169, 254, 169, 254}, V4_LEN, 32}, CH_ADDRESS_METADATA, NOT_EMBEDDED},
    {{{169, 254, 170, 2}, V4_LEN, 32}, CH_ADDRESS_METADATA, NOT_EMBEDDED},  // AWS, containers
    {{{169, 254, 170, 23}, V4_LEN, 32}, CH_ADDRESS_METADATA, NOT_EMBEDDED}, // AWS, pods
    {{{169, 254}, V4_LEN, 16}, CH_ADDRESS_LINK_LOCAL, NOT_EMBEDDED},
    {{{172, 16}, V4_LEN, 12}, CH_ADDRESS_PRIVATE, NOT_EMBEDDED},
    {{{192, 0, 0, 192}, V4_LEN, 32}, CH_ADDRESS_METADATA, NOT_EMBEDDED}, // Oracle
    {{{192, 0, 0}, V4_LEN, 24}, CH_ADDRESS_RESERVED, NOT_EMBEDDED},
    {{{192, 0, 2}, V4_LEN, 24}, CH_ADDRESS_DOCUMENTATION, NOT_EMBEDDED},
    {{{192, 88, 99}, V4_LEN, 24}, CH_ADDRESS_RESERVED, NOT_EMBEDDED}, // 6to4 relays, RFC 7526
    {{{192, 168}, V4_LEN, 16}, CH_ADDRESS_PRIVATE, NOT_EMBEDDED},
    {{{198, 18}, V4_LEN, 15}, CH_ADDRESS_BENCHMARKING, NOT_EMBEDDED},
    {{{198, 51, 100}, V4_LEN, 24}, CH_ADDRESS_DOCUMENTATION, NOT_EMBEDDED},
    {{{203, 0, 113}, V4_LEN, 24}, CH_ADDRESS_DOCUMENTATION, NOT_EMBEDDED},
    {{{224}, V4_LEN, 4}, CH_ADDRESS_MULTICAST, NOT_EMBEDDED},
    {{{255, 255, 255, 255}, V4_LEN, 32}, CH_ADDRESS_BROADCAST, NOT_EMBEDDED},
    {{{240}, V4_LEN, 4}, CH_ADDRESS_RESERVED, NOT_EMBEDDED},
    {{{0}, V4_LEN, 0}, CH_ADDRESS_PUBLIC, NOT_EMBEDDED},
};

static const struct known_network known_v6[] = {
    {{{0}, V6_LEN, 128}, CH_ADDRESS_UNSPECIFIED, NOT_EMBEDDED},
    {{{[15] = 1}, V6_LEN, 128}, CH_ADDRESS_LOOPBACK, NOT_EMBEDDED},
    {{{0}, V6_LEN, 96}, CH_ADDRESS_RESERVED, V4_IN_V6},                      // compatible
    {{{[8] = 0xff, [9] = 0xff}, V6_LEN, 96}, CH_ADDRESS_RESERVED, V4_IN_V6}, // SIIT, RFC 2765
    {{{0, 0x64, 0xff, 0x9b}, V6_LEN, 96}, CH_ADDRESS_PUBLIC, V4_IN_V6},      // NAT64, RFC 6052
    {{{0x20, 0x01, 0, 2}, V6_LEN, 48}, CH_ADDRESS_BENCHMARKING, NOT_EMBEDDED},
    {{{0x20, 0x01}, V6_LEN, 23}, CH_ADDRESS_RESERVED, NOT_EMBEDDED}, // Teredo, ORCHID, …
    {{{0x20, 0x01, 0x0d, 0xb8}, V6_LEN, 32}, CH_ADDRESS_DOCUMENTATION, NOT_EMBEDDED},
    {{{0x20, 0x02}, V6_LEN, 16}, CH_ADDRESS_PUBLIC, V4_IN_6TO4},
    {{{0x3f, 0xff}, V6_LEN, 20}, CH_ADDRESS_DOCUMENTATION, NOT_EMBEDDED}, // RFC 9637
    {{{0x20}, V6_LEN, 3}, CH_ADDRESS_PUBLIC, NOT_EMBEDDED},
    {{{0xfd, 0x00, 0x0e, 0xc2}, V6_LEN, 32}, CH_ADDRESS_METADATA, NOT_EMBEDDED}, // AWS
    {{{0xfd, 0x20, 0, 0xce, [14] = 0x02, [15] = 0x54}, V6_LEN, 128},             // Google
     CH_ADDRESS_METADATA,
     NOT_EMBEDDED},
    {{{0xfc}, V6_LEN, 7}, CH_ADDRESS_UNIQUE_LOCAL, NOT_EMBEDDED},
    {{{0xfe, 0x80}, V6_LEN, 10}, CH_ADDRESS_LINK_LOCAL, NOT_EMBEDDED},
    {{{0xfe, 0xc0}, V6_LEN, 10}, CH_ADDRESS_PRIVATE, NOT_EMBEDDED}, // site-local, RFC 3879
    {{{0xff}, V6_LEN, 8}, CH_ADDRESS_MULTICAST, NOT_EMBEDDED},
    {{{0}, V6_LEN, 0}, CH_ADDRESS_RESERVED, NOT_EMBEDDED},
};

// Whether the first `bits` of both are the same.
static bool is_same_front(const unsigned char *a, const unsigned char *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    return memcmp(a, b, whole) == 0 &&
           (rest == 0 || (unsigned)(a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

static bool holds(const struct ch_cidr *network, const unsigned char *bytes, size_t len)
{
    return network->len == len && is_same_front(network->bytes, bytes, network->prefix_bits);
}

static bool is_mapped(const unsigned char *bytes, size_t len)
{
    static const unsigned char mapped[V4_IN_V6] = {[10] = 0xff, [11] = 0xff};
    return len == V6_LEN && memcmp(bytes, mapped, sizeof mapped) == 0;
}

// Makes an IPv4 address of one that was mapped into IPv6.
static void unmap(const unsigned char **bytes, size_t *len)
{
    if (!is_mapped(*bytes, *len))
        return;
    *bytes += V4_IN_V6;
    *len = V4_LEN;
}

static enum ch_address_class classify_v4(const unsigned char *bytes)
{
    const struct known_network *known = known_v4; // ends with 0.0.0.0/0
    while (!holds(&known->network, bytes, V4_LEN))
        known++;
    return known->address_class;
}

static enum ch_address_class classify_v6(const unsigned char *bytes)
{
    const struct known_network *known = known_v6; // ends with ::/0
    while (!holds(&known->network, bytes, V6_LEN))
        known++;
    enum ch_address_class embedded =
        known->embeds_at ? classify_v4(bytes + known->embeds_at) : CH_ADDRESS_PUBLIC;
    return embedded ? embedded : known->address_class;
}

enum ch_address_class ch_address_classify(const unsigned char *bytes, size_t len)
{
    unmap(&bytes, &len);
    if (len == V4_LEN)
        return classify_v4(bytes);
    return len == V6_LEN ? classify_v6(bytes) : CH_ADDRESS_MALFORMED;
}

bool ch_address_is_private(const unsigned char *bytes, size_t len)
{
    return ch_address_classify(bytes, len) != CH_ADDRESS_PUBLIC;
}

// ---- Text

// As written: a mapped address stays IPv6.
static enum ch_err read_address(struct ch_span text, unsigned char bytes[CH_ADDRESS_BYTES],
                                size_t *len_out)
{
    char spelled[INET6_ADDRSTRLEN];
    if (!ch_span_copy(text, spelled, sizeof spelled) || strlen(spelled) != text.len)
        return CH_ERR_INVALID;
    if (inet_pton(AF_INET, spelled, bytes) == 1)
        *len_out = V4_LEN;
    else if (inet_pton(AF_INET6, spelled, bytes) == 1)
        *len_out = V6_LEN;
    else
        return CH_ERR_INVALID;
    return CH_OK;
}

enum ch_err ch_address_parse(struct ch_span text, unsigned char bytes_out[CH_ADDRESS_BYTES],
                             size_t *len_out)
{
    unsigned char read[CH_ADDRESS_BYTES];
    const unsigned char *bytes = read;
    size_t len;
    enum ch_err err = read_address(text, read, &len);
    if (err)
        return err;
    unmap(&bytes, &len);
    memcpy(bytes_out, bytes, len);
    *len_out = len;
    return CH_OK;
}

// "/0" to "/128", no sign and no leading zero.
static enum ch_err read_prefix(struct ch_span digits, size_t len, unsigned char *bits_out)
{
    int64_t bits;
    bool is_padded = digits.len > 1 && digits.ptr[0] == '0';
    if (is_padded || ch_span_to_int64(digits, &bits) || bits > (int64_t)len * 8)
        return CH_ERR_INVALID;
    *bits_out = (unsigned char)bits;
    return CH_OK;
}

static void clear_host_bits(struct ch_cidr *network)
{
    for (unsigned bit = network->prefix_bits; bit < network->len * 8u; bit++)
        network->bytes[bit / 8] &= (unsigned char)~(0x80u >> bit % 8);
}

static void unmap_network(struct ch_cidr *network)
{
    if (!is_mapped(network->bytes, network->len) || network->prefix_bits < MAPPED_BITS)
        return;
    struct ch_cidr v4 = {.len = V4_LEN,
                         .prefix_bits = (unsigned char)(network->prefix_bits - MAPPED_BITS)};
    memcpy(v4.bytes, network->bytes + V4_IN_V6, V4_LEN);
    *network = v4;
}

static void spell(const struct ch_cidr *network, char out[NETWORK_TEXT])
{
    inet_ntop(network->len == V4_LEN ? AF_INET : AF_INET6, network->bytes, out, INET6_ADDRSTRLEN);
    if (network->prefix_bits < network->len * 8)
        snprintf(out + strlen(out), PREFIX_TEXT + 1, "/%d", network->prefix_bits);
}

static enum ch_err read_network(struct ch_span entry, struct ch_cidr *network_out,
                                struct ch_why *why)
{
    struct ch_cidr network = {{0}, 0, 0};
    const char *slash = memchr(entry.ptr, '/', entry.len);
    struct ch_span address = {entry.ptr, slash ? (size_t)(slash - entry.ptr) : entry.len};
    size_t len;
    if (read_address(address, network.bytes, &len))
        return ch_why_set(why, CH_ERR_INVALID, "\"%.*s\" is neither an address nor a network",
                          ch_list_shown(entry), entry.ptr);
    network.len = (unsigned char)len;
    network.prefix_bits = (unsigned char)(len * 8);
    if (slash && read_prefix(ch_span_sub(entry, address.len + 1), len, &network.prefix_bits))
        return ch_why_set(why, CH_ERR_INVALID, "\"%.*s\": the prefix is not a number from 0 to %zu",
                          ch_list_shown(entry), entry.ptr, len * 8);
    struct ch_cidr whole = network;
    clear_host_bits(&whole);
    if (memcmp(whole.bytes, network.bytes, sizeof whole.bytes) != 0) {
        char meant[NETWORK_TEXT];
        spell(&whole, meant);
        return ch_why_set(why, CH_ERR_INVALID,
                          "\"%.*s\" has bits behind its prefix; the network is %s",
                          ch_list_shown(entry), entry.ptr, meant);
    }
    unmap_network(&network);
    *network_out = network;
    return CH_OK;
}

static bool is_same_network(const struct ch_cidr *a, const struct ch_cidr *b)
{
    return a->prefix_bits == b->prefix_bits && holds(a, b->bytes, b->len);
}

static enum ch_err add_network(struct ch_cidr_list *list, const struct ch_cidr *network,
                               struct ch_why *why)
{
    for (size_t i = 0; i < list->count; i++)
        if (is_same_network(&list->networks[i], network))
            return CH_OK;
    if (list->count == CH_CIDR_MAX)
        return ch_why_set(why, CH_ERR_LIMIT, "the list holds more than %d networks", CH_CIDR_MAX);
    list->networks[list->count++] = *network;
    return CH_OK;
}

enum ch_err ch_cidr_list_parse(struct ch_span text, struct ch_cidr_list *list_out,
                               struct ch_why *why)
{
    struct ch_cidr_list list = {.count = 0};
    struct ch_span rest = ch_span_trim(text), entry;
    bool is_blank = rest.len == 0;
    while (ch_list_take_typed(&rest, &entry)) {
        struct ch_cidr network;
        enum ch_err err = read_network(entry, &network, why);
        if (!err)
            err = add_network(&list, &network, why);
        if (err)
            return err;
    }
    // An empty list allows every address, so "," (two unset variables, say) must not pass for one.
    if (list.count == 0 && !is_blank)
        return ch_why_set(why, CH_ERR_INVALID, "the list holds commas but no network");
    *list_out = list;
    return CH_OK;
}

enum ch_err ch_cidr_list_format(const struct ch_cidr_list *list, struct ch_buf *out)
{
    size_t start = out->len;
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < list->count && !err; i++) {
        char text[NETWORK_TEXT];
        spell(&list->networks[i], text);
        err = ch_buf_append_format(out, "%s%s", i > 0 ? "," : "", text);
    }
    if (err)
        out->len = start;
    return err;
}

bool ch_cidr_list_allows(const struct ch_cidr_list *list, const unsigned char *bytes, size_t len)
{
    unmap(&bytes, &len);
    for (size_t i = 0; i < list->count; i++)
        if (holds(&list->networks[i], bytes, len))
            return true;
    return list->count == 0;
}

bool ch_cidr_list_allows_text(const struct ch_cidr_list *list, struct ch_span address)
{
    unsigned char bytes[CH_ADDRESS_BYTES];
    size_t len;
    if (ch_address_parse(address, bytes, &len))
        return list->count == 0;
    return ch_cidr_list_allows(list, bytes, len);
}
