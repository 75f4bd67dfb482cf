// SPDX-License-Identifier: Apache-2.0
#include "crowd.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define THREADS 4
#define EACH    20000

static struct crowd *crowd;

static int set_up(void **state)
{
    (void)state;
    return crowd_new(&crowd);
}

static int tear_down(void **state)
{
    (void)state;
    crowd_free(crowd);
    return 0;
}

static struct crowd_place *enter(const char *address, int64_t max)
{
    struct crowd_place *place = NULL;
    return crowd_enter(crowd, address, max, &place) == CH_OK ? place : NULL;
}

static void is_refused(const char *address, int64_t max)
{
    struct crowd_place *place = (void *)crowd;
    assert_int_equal(crowd_enter(crowd, address, max, &place), CH_ERR_LIMIT);
    assert_null(place);
}

static void an_address_holds_so_many_and_others_as_many(void **state)
{
    (void)state;
    struct crowd_place *one = enter("192.0.2.1", 2), *two = enter("192.0.2.1", 2);
    assert_non_null(one);
    assert_ptr_equal(one, two);
    is_refused("192.0.2.1", 2);
    struct crowd_place *other = enter("192.0.2.2", 2);
    assert_non_null(other);
    crowd_leave(crowd, one);
    assert_non_null(enter("192.0.2.1", 2));
    is_refused("192.0.2.1", 2);
    is_refused("192.0.2.1", 1); // a reload has lowered it
    crowd_leave(crowd, one);
    crowd_leave(crowd, one);
    crowd_leave(crowd, other);
    assert_int_equal(crowd_size(crowd), 0);
}

static void sixty_four_bits_of_ipv6_are_one_customer(void **state)
{
    (void)state;
    struct crowd_place *place = enter("2001:db8:1:2::1", 1);
    assert_non_null(place);
    is_refused("2001:db8:1:2:ffff:ffff:ffff:ffff", 1);
    struct crowd_place *next = enter("2001:db8:1:3::1", 1);
    assert_non_null(next);
    crowd_leave(crowd, place);
    crowd_leave(crowd, next);
}

static void translated_addresses_are_ipv4(void **state)
{
    (void)state;
    struct crowd_place *place = enter("64:ff9b::192.0.2.1", 1);
    struct crowd_place *other = enter("64:ff9b::192.0.2.2", 1);
    assert_non_null(place);
    assert_non_null(other);
    is_refused("64:ff9b::c000:201", 1);
    is_refused("192.0.2.1", 1);
    crowd_leave(crowd, place);
    crowd_leave(crowd, other);
    place = enter("64:ff9b:1::192.0.2.1", 1); // another network
    is_refused("64:ff9b:1::192.0.2.2", 1);
    crowd_leave(crowd, place);
}

static void mapped_addresses_are_ipv4(void **state)
{
    (void)state;
    struct crowd_place *place = enter("::ffff:192.0.2.1", 1);
    assert_non_null(place);
    is_refused("192.0.2.1", 1);
    struct crowd_place *neighbour = enter("::ffff:192.0.2.2", 1);
    assert_non_null(neighbour);
    crowd_leave(crowd, place);
    crowd_leave(crowd, neighbour);
}

static void unix_sockets_have_no_address(void **state)
{
    (void)state;
    struct crowd_place *place = (void *)crowd;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(crowd_enter(crowd, "", 1, &place), CH_OK);
        assert_null(place);
        crowd_leave(crowd, place);
    }
}

static void nothing_is_kept_of_those_who_left(void **state)
{
    (void)state;
    static struct crowd_place *places[EACH];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < EACH; i++) {
            char address[32];
            snprintf(address, sizeof address, "10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
            assert_non_null(places[i] = enter(address, 1));
        }
        assert_int_equal(crowd_size(crowd), EACH);
        for (int i = 0; i < EACH; i++) // neither the first nor the last of a chain, mostly
            crowd_leave(crowd, places[(i * 7919) % EACH]);
        assert_int_equal(crowd_size(crowd), 0);
    }
}

// Of two addresses: one that always has room for all threads, one that has not.
#define ROOM 3
static _Atomic int inside, most_inside;

static void stay_a_moment(void)
{
    struct crowd_place *place = enter("192.0.2.1", ROOM);
    if (!place)
        return;
    int now = ++inside, most = most_inside;
    while (now > most && !atomic_compare_exchange_weak(&most_inside, &most, now))
        ;
    sched_yield();
    inside--;
    crowd_leave(crowd, place);
}

static void *come_and_go(void *arg)
{
    for (int i = 0; i < EACH; i++) {
        struct crowd_place *place = enter("192.0.2.2", THREADS);
        if (!place)
            return arg;
        stay_a_moment();
        crowd_leave(crowd, place);
    }
    return NULL;
}

static void threads_count_together(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    void *failed;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &threads), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_in_range(most_inside, 1, ROOM);
    assert_int_equal(inside, 0);
    assert_int_equal(crowd_size(crowd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_holds_so_many_and_others_as_many),
        cmocka_unit_test(sixty_four_bits_of_ipv6_are_one_customer),
        cmocka_unit_test(translated_addresses_are_ipv4),
        cmocka_unit_test(mapped_addresses_are_ipv4),
        cmocka_unit_test(unix_sockets_have_no_address),
        cmocka_unit_test(nothing_is_kept_of_those_who_left),
        cmocka_unit_test(threads_count_together),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
