// SPDX-License-Identifier: Apache-2.0
#include "base/secret.h"

#include <malloc.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

struct ch_secret {
    size_t size;
    unsigned char bytes[];
};

void ch_wipe(void *ptr, size_t size)
{
    explicit_bzero(ptr, size);
}

// The allocator may hand out more than was asked for, and all of it is wiped: the compiler must not conclude the size
// of a block from the call that made it.
__attribute__((noinline)) void *ch_zmalloc(size_t size)
{
    return malloc(size ? size : 1);
}

__attribute__((noinline)) void *ch_zcalloc(size_t count, size_t size)
{
    return calloc(count ? count : 1, size ? size : 1);
}

void *ch_zrealloc(void *ptr, size_t size)
{
    if (!ptr)
        return ch_zmalloc(size);
    // malloc_usable_size may exceed what was asked for, but every byte of it is ours to copy.
    size_t old_size = malloc_usable_size(ptr);
    if (size <= old_size && size >= old_size / 2)
        return ptr;
    void *moved = ch_zmalloc(size);
    if (!moved)
        return NULL;
    memcpy(moved, ptr, old_size < size ? old_size : size);
    ch_zfree(ptr);
    return moved;
}

void ch_zfree(void *ptr)
{
    if (!ptr)
        return;
    size_t size = malloc_usable_size(ptr);
    __asm__("" : "+r"(ptr)); // see ch_zmalloc
    ch_wipe(ptr, size);
    free(ptr);
}

char *ch_zstrdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = ch_zmalloc(size);
    return copy ? memcpy(copy, text, size) : NULL;
}

enum ch_err ch_secret_new(const void *bytes, size_t size, struct ch_secret **secret_out)
{
    // sodium_malloc puts the block's end at a guard page: only a rounded size is aligned for the struct.
    size_t rounded = (sizeof(struct ch_secret) + size + 15) / 16 * 16;
    struct ch_secret *secret = sodium_malloc(rounded);
    if (!secret)
        return CH_ERR_NOMEM;
    secret->size = size;
    memcpy(secret->bytes, bytes, size);
    *secret_out = secret;
    return CH_OK;
}

struct ch_span ch_secret_reveal(const struct ch_secret *secret)
{
    return (struct ch_span){(const char *)secret->bytes, secret->size};
}

void ch_secret_free(struct ch_secret *secret)
{
    sodium_free(secret); // wipes; NULL is fine
}

int ch_secret_equal(const void *a, const void *b, size_t size)
{
    return sodium_memcmp(a, b, size) == 0;
}

void ch_random(void *out, size_t size)
{
    randombytes_buf(out, size);
}

enum ch_err ch_secret_process_init(struct ch_why *why)
{
    if (sodium_init() < 0)
        return ch_why_set(why, CH_ERR_IO, "libsodium could not be initialised");
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return ch_why_set(why, CH_ERR_IO, "core dumps could not be switched off");
    return CH_OK;
}
