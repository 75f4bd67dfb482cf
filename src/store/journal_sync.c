// SPDX-License-Identifier: Apache-2.0
#include "store/journal_sync.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define RETRY_MS 10 // before a loop that could not be told is tried again

struct listener {
    ch_journal_synced_fn fn;
    void *arg;
    bool wishes;  // for the next sync
    bool is_owed; // news of a sync that is over
};

struct ch_journal_sync {
    ch_journal_sync_fn sync;
    void *arg;
    _Atomic uint64_t done;   // number of the last sync that succeeded
    _Atomic bool has_failed; // set under the lock, so that no wish slips in behind the last news
    pthread_t thread;
    pthread_mutex_t lock; // guards what follows
    pthread_cond_t wake;
    uint64_t begun; // syncs
    bool is_wished, is_stopping;
    unsigned loops;
    struct listener listeners[];
};

// ---- the thread

static bool owes(const struct ch_journal_sync *sync)
{
    for (unsigned i = 0; i < sync->loops; i++)
        if (sync->listeners[i].is_owed)
            return true;
    return false;
}

static void wait_for_wish(struct ch_journal_sync *sync)
{
    int64_t until_ns = ch_clock_mono_ns() + RETRY_MS * CH_NS_PER_MS;
    const struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
    bool is_over = false;
    while (!is_over && !sync->is_wished && !sync->is_stopping)
        if (owes(sync))
            is_over = pthread_cond_timedwait(&sync->wake, &sync->lock, &until) != 0;
        else
            pthread_cond_wait(&sync->wake, &sync->lock);
}

// Those who have wished until now wait for the sync that begins; later ones for the next.
static void begin_sync(struct ch_journal_sync *sync)
{
    sync->is_wished = false;
    sync->begun++;
    for (unsigned i = 0; i < sync->loops; i++) {
        sync->listeners[i].is_owed |= sync->listeners[i].wishes;
        sync->listeners[i].wishes = false;
    }
}

static void fail(struct ch_journal_sync *sync, int error)
{
    atomic_store_explicit(&sync->has_failed, true, memory_order_release);
    for (unsigned i = 0; i < sync->loops; i++)
        sync->listeners[i].is_owed |= sync->listeners[i].wishes;
    sync->is_wished = false;
    pthread_mutex_unlock(&sync->lock); // the log may be slow
    CH_LOG(CH_LOG_ERROR, "journal_sync_failed", ch_log_text("err", strerror(error)));
    pthread_mutex_lock(&sync->lock);
}

// Telling takes the loop's own lock, so ours is let go of; a listener stays where it is.
static void tell(struct ch_journal_sync *sync)
{
    for (unsigned i = 0; i < sync->loops; i++) {
        struct listener *listener = &sync->listeners[i];
        if (!listener->is_owed)
            continue;
        listener->is_owed = false;
        pthread_mutex_unlock(&sync->lock);
        enum ch_err err = listener->fn(listener->arg);
        pthread_mutex_lock(&sync->lock);
        listener->is_owed |= err != CH_OK;
    }
}

static void *run(void *arg)
{
    struct ch_journal_sync *sync = arg;
    pthread_mutex_lock(&sync->lock);
    for (;;) {
        wait_for_wish(sync);
        if (sync->is_stopping)
            break;
        if (sync->is_wished) {
            begin_sync(sync);
            uint64_t number = sync->begun;
            pthread_mutex_unlock(&sync->lock);
            int error = sync->sync(sync->arg);
            pthread_mutex_lock(&sync->lock);
            if (error)
                fail(sync, error);
            else
                atomic_store_explicit(&sync->done, number, memory_order_release);
        }
        tell(sync);
    }
    pthread_mutex_unlock(&sync->lock);
    return NULL;
}

// ---- the loops' side

void ch_journal_sync_listen(struct ch_journal_sync *sync, unsigned loop, ch_journal_synced_fn fn,
                            void *arg)
{
    pthread_mutex_lock(&sync->lock);
    sync->listeners[loop] = (struct listener){.fn = fn, .arg = arg};
    pthread_mutex_unlock(&sync->lock);
}

uint64_t ch_journal_sync_wish(struct ch_journal_sync *sync, unsigned loop)
{
    uint64_t ticket = 0;
    pthread_mutex_lock(&sync->lock);
    CH_ASSERT(sync->listeners[loop].fn);
    if (!ch_journal_sync_has_failed(sync)) {
        ticket = sync->begun + 1;
        sync->listeners[loop].wishes = true;
        if (!sync->is_wished)
            pthread_cond_signal(&sync->wake);
        sync->is_wished = true;
    }
    pthread_mutex_unlock(&sync->lock);
    return ticket;
}

uint64_t ch_journal_sync_done(const struct ch_journal_sync *sync)
{
    return atomic_load_explicit(&sync->done, memory_order_acquire);
}

bool ch_journal_sync_has_failed(const struct ch_journal_sync *sync)
{
    return atomic_load_explicit(&sync->has_failed, memory_order_acquire);
}

// ---- start and stop

static void release(struct ch_journal_sync *sync)
{
    pthread_cond_destroy(&sync->wake);
    pthread_mutex_destroy(&sync->lock);
    ch_zfree(sync);
}

enum ch_err ch_journal_sync_start(unsigned loops, ch_journal_sync_fn fn, void *arg,
                                  struct ch_journal_sync **sync_out)
{
    struct ch_journal_sync *sync = ch_zcalloc(1, sizeof *sync + loops * sizeof(struct listener));
    if (!sync)
        return CH_ERR_NOMEM;
    sync->sync = fn;
    sync->arg = arg;
    sync->loops = loops;
    pthread_mutex_init(&sync->lock, NULL);
    ch_clock_condition_init(&sync->wake);
    if (pthread_create(&sync->thread, NULL, run, sync) != 0) {
        release(sync);
        return CH_ERR_UNAVAILABLE;
    }
    pthread_setname_np(sync->thread, "journal-sync");
    *sync_out = sync;
    return CH_OK;
}

void ch_journal_sync_stop(struct ch_journal_sync *sync)
{
    pthread_mutex_lock(&sync->lock);
    bool is_stopped = sync->is_stopping;
    sync->is_stopping = true;
    pthread_cond_signal(&sync->wake);
    pthread_mutex_unlock(&sync->lock);
    if (!is_stopped)
        pthread_join(sync->thread, NULL);
}

void ch_journal_sync_free(struct ch_journal_sync *sync)
{
    if (!sync)
        return;
    ch_journal_sync_stop(sync);
    release(sync);
}
