// SPDX-License-Identifier: Apache-2.0
#include "store/journal_sync.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { LOOPS = 4, WISHES = 500 };

// A file that each loop writes a number into, and its disk.
struct disk {
    _Atomic uint64_t written[LOOPS], stored[LOOPS];
    atomic_int syncs;
    int fail_at; // number of the sync that fails; 0: none
    int delay_us;
};

static int sync_disk(void *arg)
{
    struct disk *disk = arg;
    uint64_t seen[LOOPS];
    for (int i = 0; i < LOOPS; i++)
        seen[i] = atomic_load(&disk->written[i]); // what is written later, this sync may leave out
    if (atomic_fetch_add(&disk->syncs, 1) + 1 == disk->fail_at)
        return EIO;
    usleep((useconds_t)disk->delay_us);
    for (int i = 0; i < LOOPS; i++)
        atomic_store(&disk->stored[i], seen[i]);
    return 0;
}

// Stands for a loop: wishes, and looks at the news when its semaphore says so.
struct loop {
    struct disk *disk;
    struct ch_journal_sync *sync;
    unsigned index;
    sem_t news;
    atomic_int told;
    int refused; // this many news are not taken
    int failed;  // wishes that were
    const char *problem;
    pthread_t thread;
};

static enum ch_err take_news(void *arg)
{
    struct loop *loop = arg;
    if (loop->refused > 0) {
        loop->refused--;
        return CH_ERR_LIMIT;
    }
    atomic_fetch_add(&loop->told, 1);
    sem_post(&loop->news);
    return CH_OK;
}

// No test hangs: false after ten seconds.
static bool wait_for_news(struct loop *loop)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    return sem_timedwait(&loop->news, &until) == 0;
}

static void *run_loop(void *arg)
{
    struct loop *loop = arg;
    for (uint64_t n = 1; n <= WISHES && !loop->problem; n++) {
        atomic_store(&loop->disk->written[loop->index], n);
        uint64_t ticket = ch_journal_sync_wish(loop->sync, loop->index);
        while (!loop->problem && ticket && ch_journal_sync_done(loop->sync) < ticket &&
               !ch_journal_sync_has_failed(loop->sync))
            if (!wait_for_news(loop))
                loop->problem = "no news";
        bool is_done = ticket && ch_journal_sync_done(loop->sync) >= ticket;
        if (is_done && atomic_load(&loop->disk->stored[loop->index]) < n)
            loop->problem = "told too early";
        loop->failed += !is_done;
    }
    return NULL;
}

static struct ch_journal_sync *start(struct disk *disk, struct loop loops[LOOPS])
{
    struct ch_journal_sync *sync = NULL;
    assert_int_equal(ch_journal_sync_start(LOOPS, sync_disk, disk, &sync), CH_OK);
    for (unsigned i = 0; i < LOOPS; i++) {
        loops[i] = (struct loop){.disk = disk, .sync = sync, .index = i};
        sem_init(&loops[i].news, 0, 0);
        ch_journal_sync_listen(sync, i, take_news, &loops[i]);
    }
    return sync;
}

static void run_loops(struct loop loops[LOOPS])
{
    for (unsigned i = 0; i < LOOPS; i++)
        assert_int_equal(pthread_create(&loops[i].thread, NULL, run_loop, &loops[i]), 0);
    for (unsigned i = 0; i < LOOPS; i++) {
        assert_int_equal(pthread_join(loops[i].thread, NULL), 0);
        if (loops[i].problem)
            fail_msg("%s", loops[i].problem);
    }
}

static void one_sync_covers_many_wishes(void **state)
{
    (void)state;
    struct disk disk = {.delay_us = 300};
    struct loop loops[LOOPS];
    struct ch_journal_sync *sync = start(&disk, loops);
    run_loops(loops);
    for (unsigned i = 0; i < LOOPS; i++)
        assert_int_equal(loops[i].failed, 0);
    assert_in_range(atomic_load(&disk.syncs), WISHES, LOOPS * WISHES / 2);
    assert_int_equal(ch_journal_sync_done(sync), atomic_load(&disk.syncs));
    ch_journal_sync_free(sync);
}

static void a_wish_during_a_sync_waits_for_the_next(void **state)
{
    (void)state;
    struct disk disk = {.delay_us = 50000};
    struct loop loops[LOOPS];
    struct ch_journal_sync *sync = start(&disk, loops);
    uint64_t first = ch_journal_sync_wish(sync, 0);
    while (atomic_load(&disk.syncs) == 0)
        usleep(1000);
    atomic_store(&disk.written[1], 7); // behind the sync's back
    uint64_t second = ch_journal_sync_wish(sync, 1);
    assert_int_equal(second, first + 1);
    assert_true(wait_for_news(&loops[0]));
    assert_int_equal(atomic_load(&loops[1].told), 0);
    assert_true(wait_for_news(&loops[1]));
    assert_int_equal(atomic_load(&disk.stored[1]), 7);
    assert_int_equal(atomic_load(&loops[0].told), 1); // it wished once
    assert_int_equal(atomic_load(&loops[2].told), 0);
    ch_journal_sync_free(sync);
}

static void a_failure_is_told_to_all_and_final(void **state)
{
    (void)state;
    struct disk disk = {.delay_us = 300, .fail_at = 20};
    struct loop loops[LOOPS];
    struct ch_journal_sync *sync = start(&disk, loops);
    run_loops(loops); // nobody waits for ever
    for (unsigned i = 0; i < LOOPS; i++)
        assert_in_range(loops[i].failed, WISHES - 20, WISHES);
    assert_true(ch_journal_sync_has_failed(sync));
    assert_int_equal(ch_journal_sync_wish(sync, 0), 0);
    usleep(20000);
    assert_int_equal(atomic_load(&disk.syncs), 20); // never tried again
    assert_int_equal(ch_journal_sync_done(sync), 19);
    ch_journal_sync_free(sync);
}

static void news_that_are_not_taken_come_again(void **state)
{
    (void)state;
    struct disk disk = {0};
    struct loop loops[LOOPS];
    struct ch_journal_sync *sync = start(&disk, loops);
    loops[0].refused = 5;
    uint64_t ticket = ch_journal_sync_wish(sync, 0);
    assert_true(wait_for_news(&loops[0]));
    assert_int_equal(ch_journal_sync_done(sync), ticket);
    assert_int_equal(atomic_load(&disk.syncs), 1);
    ch_journal_sync_free(sync);
}

static void stops_with_a_sync_under_way(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct disk disk = {.delay_us = 500};
        struct loop loops[LOOPS];
        struct ch_journal_sync *sync = start(&disk, loops);
        assert_int_not_equal(ch_journal_sync_wish(sync, 2), 0);
        usleep((useconds_t)(i * 20));
        ch_journal_sync_stop(sync);
        int told = atomic_load(&loops[2].told);
        usleep(1000);
        assert_int_equal(atomic_load(&loops[2].told), told);
        assert_true(ch_journal_sync_done(sync) <= 1);
        ch_journal_sync_free(sync);
    }
    ch_journal_sync_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_sync_covers_many_wishes),
        cmocka_unit_test(a_wish_during_a_sync_waits_for_the_next),
        cmocka_unit_test(a_failure_is_told_to_all_and_final),
        cmocka_unit_test(news_that_are_not_taken_come_again),
        cmocka_unit_test(stops_with_a_sync_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
