// SPDX-License-Identifier: Apache-2.0
#include "errand.h"

#include "routes.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

struct ch_errand {
    struct ch_admin *admin;
    char operation[64];
    json_t *arguments;
    int done;
    pthread_t thread;
    _Atomic bool is_done; // the last thing its thread sets
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
    atomic_store(&errand->is_done, true);
    CH_ASSERT(eventfd_write(errand->done, 1) == 0); // its owner joins before it closes the eventfd
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
    if (pthread_create(&errand->thread, NULL, run_errand, errand) != 0) {
        ch_zfree(errand);
        return CH_ERR_UNAVAILABLE;
    }
    *errand_out = errand;
    return CH_OK;
}

bool ch_errand_is_done(const struct ch_errand *errand)
{
    return atomic_load(&errand->is_done);
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

void ch_errand_abandon(struct ch_errand *errand)
{
    // The call has a time-out of its own; it still uses the store, so it is waited for.
    pthread_join(errand->thread, NULL);
    errand_free(errand);
}
