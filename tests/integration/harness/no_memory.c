// SPDX-License-Identifier: Apache-2.0
// Preloaded into a daemon under test: fails one allocation of its loops. The test keeps two numbers
// in a file (int32, native order): how many allocations from now the failing one is (0: none
// fails), and how many have failed. Threads with a name of their own (writer, admin, …) are spared.
#define _GNU_SOURCE
#include "shared_page.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

struct control {
    _Atomic int32_t left, failed;
};

static struct control *control;

__attribute__((constructor)) static void map_control(void)
{
    control = map_shared_page("NO_MEMORY", sizeof *control);
}

static bool is_loop(void)
{
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    return strcmp(name, "chaperone") == 0;
}

static bool fails(void)
{
    if (!control || atomic_load(&control->left) <= 0 || !is_loop() ||
        atomic_fetch_sub(&control->left, 1) != 1)
        return false;
    atomic_fetch_add(&control->failed, 1);
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return fails() ? NULL : __libc_realloc(old, size);
}
