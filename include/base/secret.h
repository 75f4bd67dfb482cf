// SPDX-License-Identifier: Apache-2.0
// Memory that forgets: zeroing allocators, and the type that holds a credential.
//
// Everything that may have touched a credential is freed through ch_zfree, which wipes the whole
// block first; libevent, OpenSSL, SQLite and jansson are given these functions at start (design.md
// §5). A long-lived secret lives in a `struct ch_secret`: locked, guarded, left out of core dumps,
// and opaque, so that no format can print it. Thread-safe unless noted.
#ifndef CH_BASE_SECRET_H
#define CH_BASE_SECRET_H

#include "base/err.h"
#include "base/str.h"

#include <stddef.h>

void *ch_zmalloc(size_t size);               // NULL on failure
void *ch_zcalloc(size_t count, size_t size); // zeroed; NULL on failure or overflow
void *ch_zrealloc(void *ptr, size_t size);   // never leaves the old bytes behind
void ch_zfree(void *ptr);                    // wipes, then frees; NULL is fine
char *ch_zstrdup(const char *text);

// Wipes `size` bytes in a way the compiler keeps.
void ch_wipe(void *ptr, size_t size);

struct ch_secret; // opaque

// Copies `size` bytes into locked memory. The caller wipes its own copy.
enum ch_err ch_secret_new(const void *bytes, size_t size,
                          struct ch_secret **secret_out) CH_MUST_USE;
// Borrows the bytes, valid until free. Every use of this function is a place to review.
struct ch_span ch_secret_reveal(const struct ch_secret *secret);
void ch_secret_free(struct ch_secret *secret);

// Compares two equal-length byte strings in constant time.
int ch_secret_equal(const void *a, const void *b, size_t size);
// Fills with bytes of the system's generator.
void ch_random(void *out, size_t size);

// Once, at the very start of the process, before any thread: initialises libsodium, forbids core
// dumps and tracing by other processes of the same user.
enum ch_err ch_secret_process_init(struct ch_why *why) CH_MUST_USE;

#endif
