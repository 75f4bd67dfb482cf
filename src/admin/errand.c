// SPDX-License-Identifier: Apache-2.0
#include "errand.h"

#include "routes.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>

#define POLL_NS    10000000 // how often an errand that is being abandoned is looked at
#define PATIENCE_S (CH_ADMIN_PROBE_MS / 1000 + 1) // its own time-out, and a little to come back

enum errand_state {
    ERRAND_RUNNING,
    ERRAND_DONE,
    ERRAND_ABANDONED,
};

struct ch_errand {
    struct ch_admin *admin;
    char operation[64];
    json_t *arguments;
    int done;
    pthread_t thread;
    struct timespec until; // CLOCK_MONOTONIC: when such a call is over
    // RUNNING until its thread (DONE) or its owner (ABANDONED) has finished with it; the second of
    // the two frees it.
    _Atomic enum errand_state state;
    enum ch_err err;
    json_t *result;
    struct ch_why why;
};

static void errand_free(struct ch_errand *errand)
{
    json_decref(errand->arguments);
    json_decref(errand->result);
    ch_zfree(errand);
}

static void *run_errand(void *arg)
{
    struct ch_errand *errand = arg;
    pthread_setname_np(pthread_self(), "errand");
    errand->err = ch_admin_call(errand->admin, errand->operation, errand->arguments,
                                &errand->result, &errand->why);
    int done = errand->done;
    if (atomic_exchange(&errand->state, ERRAND_DONE) == ERRAND_ABANDONED)
        errand_free(errand);
    else
        CH_ASSERT(eventfd_write(done, 1) == 0); // its owner joins before it closes the eventfd
    return NULL;
}

enum ch_err ch_errand_start(struct ch_admin *admin, const char *operation, json_t *arguments,
                            int done, struct ch_errand **errand_out)
{
    struct ch_errand *errand = ch_zcalloc(1, sizeof *errand);
    if (!errand)
        return CH_ERR_NOMEM;
    errand->admin = admin;
    errand->done = done;
    CH_ASSERT(ch_span_copy(ch_span_of(operation), errand->operation, sizeof errand->operation));
    errand->arguments = arguments;
    clock_gettime(CLOCK_MONOTONIC, &errand->until);
    errand->until.tv_sec += PATIENCE_S;
    if (pthread_create(&errand->thread, NULL, run_errand, errand) != 0) {
        ch_zfree(errand);
        return CH_ERR_UNAVAILABLE;
    }
    *errand_out = errand;
    return CH_OK;
}

bool ch_errand_is_done(const struct ch_errand *errand)
{
    return atomic_load(&errand->state) == ERRAND_DONE;
}

enum ch_err ch_errand_end(struct ch_errand *errand, json_t **result_out, struct ch_why *why)
{
    pthread_join(errand->thread, NULL);
    enum ch_err err = errand->err;
    *why = errand->why;
    if (!err)
        *result_out = json_incref(errand->result);
    errand_free(errand);
    return err;
}

static bool is_before(const struct timespec *until)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec < until->tv_sec ||
           (now.tv_sec == until->tv_sec && now.tv_nsec < until->tv_nsec);
}

void ch_errand_abandon(struct ch_errand *errand)
{
    const struct timespec pause = {.tv_nsec = POLL_NS};
    while (!ch_errand_is_done(errand) && is_before(&errand->until))
        nanosleep(&pause, NULL);
    pthread_t thread = errand->thread;
    if (atomic_exchange(&errand->state, ERRAND_ABANDONED) == ERRAND_RUNNING) {
        pthread_detach(thread);
        return;
    }
    pthread_join(thread, NULL);
    errand_free(errand);
}
