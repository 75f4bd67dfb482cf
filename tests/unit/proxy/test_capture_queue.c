// SPDX-License-Identifier: Apache-2.0
#include "proxy/capture.h"

#include "base/secret.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define THREADS 4
#define EACH    2000

static struct ch_capture_queue *queue;

static struct ch_capture *begin(int64_t id, size_t max)
{
    return ch_capture_begin(queue, id, max, max);
}

static void make_queue(size_t bytes, int64_t count)
{
    assert_int_equal(ch_capture_queue_new(bytes, count, &queue), CH_OK);
}

static void what_is_pushed_comes_in_order(void **state)
{
    (void)state;
    make_queue(1 << 20, 10);
    assert_null(ch_capture_queue_take(queue));
    for (int64_t id = 1; id <= 3; id++) {
        struct ch_capture *capture = begin(id, 100);
        assert_true(ch_capture_add_request(queue, capture, CH_SPAN("request")));
        assert_true(ch_capture_add_response(queue, capture, CH_SPAN("one ")));
        assert_true(ch_capture_add_response(queue, capture, CH_SPAN("two")));
        ch_capture_push(queue, capture);
    }
    struct ch_capture *capture = ch_capture_queue_take(queue);
    for (int64_t id = 1; id <= 3; id++) {
        struct ch_capture *next = capture->next;
        assert_int_equal(capture->id, id);
        assert_true(ch_span_eq(ch_buf_span(&capture->request), CH_SPAN("request")));
        assert_true(ch_span_eq(ch_buf_span(&capture->response), CH_SPAN("one two")));
        assert_false(capture->request_is_cut || capture->response_is_cut);
        ch_capture_free(queue, capture);
        capture = next;
    }
    assert_null(capture);
    assert_null(ch_capture_queue_take(queue));
    assert_int_equal(ch_capture_queue_count(queue), 0);
    assert_int_equal(ch_capture_queue_dropped(queue), 0);
    ch_capture_queue_free(queue);
}

static void a_body_is_cut_at_its_size(void **state)
{
    (void)state;
    make_queue(1 << 20, 10);
    struct ch_capture *capture = begin(1, 4);
    assert_true(ch_capture_add_response(queue, capture, CH_SPAN("1234")));
    assert_false(capture->response_is_cut);
    assert_true(ch_capture_add_response(queue, capture, CH_SPAN("5")));
    assert_true(ch_capture_add_response(queue, capture, CH_SPAN("6")));
    assert_true(capture->response_is_cut);
    assert_true(ch_span_eq(ch_buf_span(&capture->response), CH_SPAN("1234")));
    ch_capture_push(queue, capture);
    ch_capture_queue_free(queue); // with what waits
}

static void past_the_count_nothing_begins(void **state)
{
    (void)state;
    make_queue(1 << 20, 2);
    struct ch_capture *one = begin(1, 10), *two = begin(2, 10);
    assert_non_null(one);
    assert_non_null(two);
    assert_null(begin(3, 10));
    assert_int_equal(ch_capture_queue_dropped(queue), 1);
    assert_int_equal(ch_capture_queue_count(queue), 2);
    ch_capture_push(queue, one);
    assert_null(begin(4, 10)); // waiting counts too
    ch_capture_free(queue, two);
    struct ch_capture *five = begin(5, 10);
    assert_non_null(five);
    ch_capture_free(queue, five);
    ch_capture_queue_free(queue);
}

static void past_the_bytes_nothing_is_added(void **state)
{
    (void)state;
    static const char kilobyte[1024];
    const struct ch_span bytes = {kilobyte, sizeof kilobyte};
    make_queue((size_t)8 * 1024, 100);
    struct ch_capture *held[100];
    int count = 0;
    for (;;) {
        held[count] = begin(count, 4096);
        assert_non_null(held[count]);
        if (!ch_capture_add_request(queue, held[count], bytes))
            break;
        assert_in_range(++count, 1, 8);
    }
    assert_in_range(count, 2, 8);
    ch_capture_drop(queue, held[count]);
    assert_int_equal(ch_capture_queue_dropped(queue), 1);
    // What is given back can be used again.
    ch_capture_free(queue, held[--count]);
    held[count] = begin(9, 4096);
    assert_true(ch_capture_add_request(queue, held[count], bytes));
    for (int i = 0; i <= count; i++)
        ch_capture_free(queue, held[i]);
    assert_int_equal(ch_capture_queue_count(queue), 0);
    ch_capture_queue_free(queue);
}

static void *push_many(void *arg)
{
    for (int64_t i = 0; i < EACH; i++) {
        struct ch_capture *capture = begin(*(int *)arg * EACH + i, 16);
        if (capture && ch_capture_add_request(queue, capture, CH_SPAN("x")))
            ch_capture_push(queue, capture);
        else if (capture)
            ch_capture_drop(queue, capture);
    }
    return NULL;
}

static void many_push_and_one_takes(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    int names[THREADS];
    int64_t last[THREADS], taken = 0;
    make_queue((size_t)1 << 30, THREADS * EACH);
    for (int i = 0; i < THREADS; i++) {
        names[i] = i;
        last[i] = -1;
        assert_int_equal(pthread_create(&threads[i], NULL, push_many, &names[i]), 0);
    }
    while (taken < THREADS * EACH)
        for (struct ch_capture *c = ch_capture_queue_take(queue), *next; c; c = next) {
            next = c->next;
            int64_t *of_thread = &last[c->id / EACH];
            assert_true(c->id > *of_thread); // each thread's in its order
            *of_thread = c->id;
            taken++;
            ch_capture_free(queue, c);
        }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(ch_capture_queue_dropped(queue), 0);
    ch_capture_queue_free(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_pushed_comes_in_order),
        cmocka_unit_test(a_body_is_cut_at_its_size),
        cmocka_unit_test(past_the_count_nothing_begins),
        cmocka_unit_test(past_the_bytes_nothing_is_added),
        cmocka_unit_test(many_push_and_one_takes),
    };
    struct ch_why why;
    return ch_secret_process_init(&why) ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
