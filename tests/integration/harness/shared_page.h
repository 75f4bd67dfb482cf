// SPDX-License-Identifier: Apache-2.0
// What a test and a library that it preloads into the daemon tell each other by: a mapped file.
#ifndef CH_TESTS_SHARED_PAGE_H
#define CH_TESTS_SHARED_PAGE_H

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

// The first `size` bytes of the file that the environment names. Aborts without one: the test would
// prove nothing.
static inline void *map_shared_page(const char *variable, size_t size)
{
    const char *path = getenv(variable);
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        abort();
    close(fd);
    return page;
}

#endif
