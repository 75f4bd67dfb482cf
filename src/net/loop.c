// SPDX-License-Identifier: Apache-2.0
#include "net/loop.h"

#include "loop_private.h"

#include "base/clock.h"
#include "base/secret.h"

#include <event2/event.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TICK_MS        100
#define WRITE_STALL_MS INT64_C(120000)
#define LETTERS_MAX    (1024 * 1024) // bytes of letters waiting in one loop

static void *crypto_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return ch_zmalloc(size);
}

static void *crypto_realloc(void *ptr, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return ch_zrealloc(ptr, size);
}

static void crypto_free(void *ptr, const char *file, int line)
{
    (void)file;
    (void)line;
    ch_zfree(ptr);
}

enum ch_err ch_net_process_init(struct ch_why *why)
{
    event_set_mem_functions(ch_zmalloc, ch_zrealloc, ch_zfree);
    if (!CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free))
        return ch_why_set(why, CH_ERR_IO, "OpenSSL had allocated memory before it was told how to");
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return ch_why_set(why, CH_ERR_IO, "SIGPIPE could not be ignored");
    return CH_OK;
}

// The last of a turn: what its callbacks wrote leaves, and what they put off is done.
static void end_turn(struct ch_loop *loop)
{
    ch_outbox_flush(loop);
    while (loop->deferred_first) {
        struct ch_deferred *first = loop->deferred_first;
        loop->deferred_first = first->next;
        if (!loop->deferred_first)
            loop->deferred_end = &loop->deferred_first;
        first->fn(first->arg);
        ch_outbox_flush(loop);
    }
}

static void on_loop_wake(evutil_socket_t fd, short what, void *arg)
{
    struct ch_loop *loop = arg;
    uint64_t count;
    (void)what;
    if (read(fd, &count, sizeof count) < 0) // level-triggered: a failed read comes again
        return;
    pthread_mutex_lock(&loop->letters_lock);
    struct ch_buf letters = loop->letters;
    ch_buf_init(&loop->letters, LETTERS_MAX);
    pthread_mutex_unlock(&loop->letters_lock);

    const struct letter *letter = (const struct letter *)(const void *)letters.ptr;
    for (size_t i = 0; i < letters.len / sizeof *letter; i++)
        letter[i].fn(letter[i].arg);
    ch_buf_fini(&letters);
}

static void on_turn_over(evutil_socket_t fd, short what, void *arg)
{
    struct ch_loop *loop = arg;
    (void)fd;
    (void)what;
    event_base_loopbreak(loop->base);
}

static void on_loop_tick(evutil_socket_t fd, short what, void *arg)
{
    struct ch_loop *loop = arg;
    (void)fd;
    (void)what;
    ch_peer_sweep(loop);
    ch_wipe(loop->scratch, loop->scratch_dirty);
    loop->scratch_dirty = 0;
}

static enum ch_err open_events(struct ch_loop *loop)
{
    struct event_config *config = event_config_new();
    if (!config)
        return CH_ERR_NOMEM;
    // Only the loop's own thread touches its base, so libevent's lock would be pure cost.
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    loop->base = event_base_new_with_config(config);
    event_config_free(config);
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!loop->base || loop->wake_fd < 0 || event_base_priority_init(loop->base, CH_LOOP_RANKS))
        return CH_ERR_IO;
    loop->wake_event =
        event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_loop_wake, loop);
    loop->tick_event = event_new(loop->base, -1, EV_PERSIST, on_loop_tick, loop);
    loop->turn_event = event_new(loop->base, -1, 0, on_turn_over, loop);
    struct timeval tick = {.tv_usec = TICK_MS * 1000};
    if (!loop->wake_event || !loop->tick_event || !loop->turn_event ||
        event_add(loop->wake_event, NULL) || event_add(loop->tick_event, &tick))
        return CH_ERR_NOMEM;
    return CH_OK;
}

enum ch_err ch_loop_new(unsigned index, struct ch_loop **loop_out)
{
    struct ch_loop *loop = ch_zcalloc(1, sizeof *loop);
    if (!loop)
        return CH_ERR_NOMEM;
    loop->index = index;
    loop->wake_fd = -1;
    loop->deferred_end = &loop->deferred_first;
    loop->write_stall_ns = WRITE_STALL_MS * CH_NS_PER_MS;
    pthread_mutex_init(&loop->letters_lock, NULL);
    ch_buf_init(&loop->letters, LETTERS_MAX);
    loop->scratch = ch_zmalloc(CH_PEER_READ_MAX);
    enum ch_err err = loop->scratch ? open_events(loop) : CH_ERR_NOMEM;
    if (err) {
        ch_loop_free(loop);
        return err;
    }
    *loop_out = loop;
    return CH_OK;
}

void ch_loop_free(struct ch_loop *loop)
{
    if (!loop)
        return;
    end_turn(loop);
    if (loop->wake_event)
        event_free(loop->wake_event);
    if (loop->tick_event)
        event_free(loop->tick_event);
    if (loop->turn_event)
        event_free(loop->turn_event);
    if (loop->base)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    pthread_mutex_destroy(&loop->letters_lock);
    ch_buf_fini(&loop->letters);
    ch_zfree(loop->scratch);
    ch_zfree(loop);
}

void ch_loop_run(struct ch_loop *loop)
{
    end_turn(loop); // of whoever prepared the loop
    while (!atomic_load_explicit(&loop->is_stopping, memory_order_acquire)) {
        event_base_loop(loop->base, EVLOOP_ONCE);
        end_turn(loop);
        loop->now_ns = 0;
        loop->turn_ends = false;
    }
}

void ch_loop_settle(struct ch_loop *loop)
{
    on_loop_wake(loop->wake_fd, 0, loop);
    end_turn(loop);
}

static void wake(struct ch_loop *loop)
{
    uint64_t one = 1;
    // It can only fail with the counter full, and then the loop is being woken already.
    ssize_t written = write(loop->wake_fd, &one, sizeof one);
    (void)written;
}

void ch_loop_stop(struct ch_loop *loop)
{
    atomic_store_explicit(&loop->is_stopping, true, memory_order_release);
    wake(loop);
}

unsigned ch_loop_index(const struct ch_loop *loop)
{
    return loop->index;
}

int64_t ch_loop_now_ns(struct ch_loop *loop)
{
    if (loop->now_ns == 0)
        loop->now_ns = ch_clock_mono_ns();
    return loop->now_ns;
}

void ch_loop_set_write_stall_ms(struct ch_loop *loop, int64_t stall_ms)
{
    loop->write_stall_ns = stall_ms * CH_NS_PER_MS;
}

int64_t ch_loop_peer_count(const struct ch_loop *loop)
{
    return atomic_load_explicit(&loop->peer_count, memory_order_relaxed);
}

enum ch_err ch_loop_post(struct ch_loop *loop, ch_loop_fn fn, void *arg)
{
    struct letter letter = {fn, arg};
    pthread_mutex_lock(&loop->letters_lock);
    enum ch_err err = ch_buf_append(&loop->letters, &letter, sizeof letter);
    pthread_mutex_unlock(&loop->letters_lock);
    if (!err)
        wake(loop);
    return err;
}

void ch_loop_defer(struct ch_loop *loop, struct ch_deferred *deferred, ch_loop_fn fn, void *arg)
{
    *deferred = (struct ch_deferred){.fn = fn, .arg = arg};
    *loop->deferred_end = deferred;
    loop->deferred_end = &deferred->next;
}

static void on_timer_due(evutil_socket_t fd, short what, void *arg)
{
    struct ch_timer *timer = arg;
    (void)fd;
    (void)what;
    timer->fn(timer->arg);
}

enum ch_err ch_timer_start(struct ch_loop *loop, struct ch_timer *timer, int64_t every_ms,
                           ch_loop_fn fn, void *arg)
{
    struct timeval every = {.tv_sec = every_ms / 1000, .tv_usec = every_ms % 1000 * 1000};
    *timer = (struct ch_timer){.fn = fn, .arg = arg};
    // The base's own clock is as old as the turn: a delay counted from it would be too short.
    event_base_update_cache_time(loop->base);
    timer->event = event_new(loop->base, -1, EV_PERSIST, on_timer_due, timer);
    if (!timer->event || event_add(timer->event, &every)) {
        ch_timer_stop(timer);
        return CH_ERR_NOMEM;
    }
    return CH_OK;
}

void ch_timer_stop(struct ch_timer *timer)
{
    if (timer->event)
        event_free(timer->event);
    timer->event = NULL;
}
