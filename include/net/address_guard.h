// SPDX-License-Identifier: Apache-2.0
// Whether a provider may be connected to at an address (security.md T9): names can be made to lead
// into the operator's own network, so every address is judged at the moment of connecting. Pure;
// any thread.
#ifndef CH_NET_ADDRESS_GUARD_H
#define CH_NET_ADDRESS_GUARD_H

#include "domain/cidr.h"

struct sockaddr_in6;

// CH_ADDRESS_PUBLIC: it may be connected to; else the class for which it is refused. What is not
// public may be connected to when it is loopback and `host` spells loopback (the operator typed
// it), or when `allowed` (NULL: none) has a network with it; where clouds hand out machine
// credentials, only when the list has that very address. `address` holds either family.
enum ch_address_class ch_address_guard(const struct sockaddr_in6 *address, const char *host,
                                       const struct ch_cidr_list *allowed);
// The same for a host that is a literal address; a name gives CH_ADDRESS_PUBLIC, for nobody knows
// yet where it leads.
enum ch_address_class ch_address_guard_host(struct ch_span host,
                                            const struct ch_cidr_list *allowed);

#endif
