// SPDX-License-Identifier: Apache-2.0
// How many connections each client address holds, over all loops: an IPv4 address, or the 64 bits
// of an IPv6 address that a network gives to one customer (RFC 6177). client.c asks when a
// connection is accepted and tells when it has closed; no exchange does.
//
// Memory: one place an address that is connected, so never more than there are connections. The
// table is keyed with random bytes, for attackers choose their addresses. Thread-safe: a lock
// guards a few hundred addresses, and is held for a look into a chain and for no system call.
#ifndef CH_PROXY_CROWD_H
#define CH_PROXY_CROWD_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct crowd;
struct crowd_place; // of an address; counted

enum ch_err crowd_new(struct crowd **crowd_out) CH_MUST_USE;
// Nobody enters or leaves any more.
void crowd_free(struct crowd *crowd);

// One more connection of `address` (text; "" is a Unix socket's, which has none and is not
// counted: `*place_out` is NULL). CH_ERR_LIMIT: it holds `max` (at least 1) already. CH_ERR_NOMEM.
enum ch_err crowd_enter(struct crowd *crowd, const char *address, int64_t max,
                        struct crowd_place **place_out) CH_MUST_USE;
// The connection that got `place` has closed; NULL is fine.
void crowd_leave(struct crowd *crowd, struct crowd_place *place);

// Addresses that hold connections.
size_t crowd_size(struct crowd *crowd);

#endif
