// SPDX-License-Identifier: Apache-2.0
// The echo guard: an upstream that repeats the credential to us must not repeat it to the client.
//
// Exact copies are masked with asterisks of the same length, also across the edges of reads. The
// guard keeps no credential: eight leading bytes to find candidates, and a keyed hash to confirm
// them. An encoded form (base64, escaped) is not recognised.
#ifndef CH_PROXY_ECHO_H
#define CH_PROXY_ECHO_H

#include "base/str.h"

#include <stdint.h>

#define ECHO_LEAD 8 // bytes of the credential kept in the clear; too few to use, enough to find

struct echo_guard {
    size_t len; // of the credential; 0: the guard is off
    unsigned char lead[ECHO_LEAD];
    uint64_t digest;
    struct ch_buf buf; // a copy being masked, or bytes held back for the next read
    size_t held;       // bytes at the end of buf that have not been given out
};

// What a guard compares with, for as long as this process lives.
uint64_t echo_digest(struct ch_span credential);
// Credentials shorter than 16 bytes are not guarded: they would match by chance.
void echo_guard_init(struct echo_guard *guard, struct ch_span credential, uint64_t its_digest);
void echo_guard_fini(struct echo_guard *guard);
// Gives what may pass now: usually `bytes` itself less a tail that might be the front of a
// credential. Valid until the next call. `is_last`: nothing more comes, so nothing is held back.
enum ch_err echo_guard_filter(struct echo_guard *guard, struct ch_span bytes, bool is_last,
                              struct ch_span *pass_out) CH_MUST_USE;
// Masks in place what stands whole in `bytes`.
void echo_guard_mask(const struct echo_guard *guard, char *bytes, size_t size);

#endif
