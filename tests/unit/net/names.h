// SPDX-License-Identifier: Apache-2.0
// A name service of the tests' own, in the place of getaddrinfo (-Wl,--wrap). A name that begins
// with "slow." waits until the gate is open, one that begins with "bad." fails, every other is
// 127.0.0.1.
#ifndef CH_TESTS_NAMES_H
#define CH_TESTS_NAMES_H

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static struct {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool is_open, is_failing;
    unsigned asked, hanging;
} names = {.lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER};

int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **list_out);
void __wrap_freeaddrinfo(struct addrinfo *list);

static inline void names_reset(void)
{
    pthread_mutex_lock(&names.lock);
    names.is_open = names.is_failing = false;
    names.asked = 0;
    pthread_mutex_unlock(&names.lock);
}

static inline void names_open(void)
{
    pthread_mutex_lock(&names.lock);
    names.is_open = true;
    pthread_cond_broadcast(&names.opened);
    pthread_mutex_unlock(&names.lock);
}

static inline unsigned names_asked(void)
{
    pthread_mutex_lock(&names.lock);
    unsigned asked = names.asked;
    pthread_mutex_unlock(&names.lock);
    return asked;
}

static inline unsigned names_hanging(void)
{
    pthread_mutex_lock(&names.lock);
    unsigned hanging = names.hanging;
    pthread_mutex_unlock(&names.lock);
    return hanging;
}

int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **list_out)
{
    (void)service;
    (void)hints;
    pthread_mutex_lock(&names.lock);
    names.asked++;
    names.hanging++;
    while (strncmp(node, "slow.", 5) == 0 && !names.is_open)
        pthread_cond_wait(&names.opened, &names.lock);
    names.hanging--;
    bool fails = names.is_failing || strncmp(node, "bad.", 4) == 0;
    pthread_mutex_unlock(&names.lock);
    if (fails)
        return EAI_NONAME;
    struct {
        struct addrinfo info;
        struct sockaddr_in address;
    } *answer = calloc(1, sizeof *answer);
    if (!answer)
        return EAI_MEMORY;
    answer->address.sin_family = AF_INET;
    answer->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    answer->info.ai_family = AF_INET;
    answer->info.ai_addr = (struct sockaddr *)&answer->address;
    answer->info.ai_addrlen = sizeof answer->address;
    *list_out = &answer->info;
    return 0;
}

void __wrap_freeaddrinfo(struct addrinfo *list)
{
    free(list);
}

#endif
