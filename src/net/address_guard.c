// SPDX-License-Identifier: Apache-2.0
#include "net/address_guard.h"

#include "wire/url.h"

#include <netinet/in.h>

static bool is_single(const struct ch_cidr *network)
{
    return network->prefix_bits == network->len * 8;
}

// A wide network is written for hosts of the operator's own; nobody means the metadata service by
// it.
static bool is_listed_itself(const struct ch_cidr_list *allowed, const unsigned char *bytes,
                             size_t len)
{
    struct ch_cidr_list one = {.count = 1};
    for (size_t i = 0; i < allowed->count; i++) {
        one.networks[0] = allowed->networks[i];
        if (is_single(&one.networks[0]) && ch_cidr_list_allows(&one, bytes, len))
            return true;
    }
    return false;
}

static bool is_allowed(const struct ch_cidr_list *allowed, enum ch_address_class address_class,
                       const unsigned char *bytes, size_t len)
{
    if (!allowed || allowed->count == 0) // the list's own reading of "empty" is "everything"
        return false;
    if (address_class == CH_ADDRESS_METADATA)
        return is_listed_itself(allowed, bytes, len);
    return ch_cidr_list_allows(allowed, bytes, len);
}

static enum ch_address_class judge(const unsigned char *bytes, size_t len, struct ch_span host,
                                   const struct ch_cidr_list *allowed)
{
    enum ch_address_class address_class = ch_address_classify(bytes, len);
    bool is_typed = address_class == CH_ADDRESS_LOOPBACK && ch_url_host_is_loopback(host);
    if (is_typed || is_allowed(allowed, address_class, bytes, len))
        return CH_ADDRESS_PUBLIC;
    return address_class;
}

enum ch_address_class ch_address_guard(const struct sockaddr_in6 *address, const char *host,
                                       const struct ch_cidr_list *allowed)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
    if (address->sin6_family == AF_INET)
        return judge((const unsigned char *)&v4->sin_addr, sizeof v4->sin_addr, ch_span_of(host),
                     allowed);
    if (address->sin6_family == AF_INET6)
        return judge(address->sin6_addr.s6_addr, sizeof address->sin6_addr, ch_span_of(host),
                     allowed);
    return CH_ADDRESS_MALFORMED;
}

enum ch_address_class ch_address_guard_host(struct ch_span host, const struct ch_cidr_list *allowed)
{
    unsigned char bytes[CH_ADDRESS_BYTES];
    size_t len;
    if (ch_address_parse(host, bytes, &len))
        return CH_ADDRESS_PUBLIC;
    return judge(bytes, len, host, allowed);
}
