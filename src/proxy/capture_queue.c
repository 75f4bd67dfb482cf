// SPDX-License-Identifier: Apache-2.0
#include "proxy/capture.h"

#include "base/secret.h"

#include <stdatomic.h>

struct ch_capture_queue {
    _Atomic(struct ch_capture *) head; // newest first: loops push, the taker takes all
    _Atomic size_t bytes;              // charged by all captures that live
    _Atomic int64_t count, dropped;
    size_t max_bytes;
    int64_t max_count;
};

enum ch_err ch_capture_queue_new(size_t max_bytes, int64_t max_count,
                                 struct ch_capture_queue **queue_out)
{
    struct ch_capture_queue *queue = ch_zcalloc(1, sizeof *queue);
    if (!queue)
        return CH_ERR_NOMEM;
    queue->max_bytes = max_bytes;
    queue->max_count = max_count;
    *queue_out = queue;
    return CH_OK;
}

void ch_capture_queue_free(struct ch_capture_queue *queue)
{
    if (!queue)
        return;
    for (struct ch_capture *c = ch_capture_queue_take(queue), *next; c; c = next) {
        next = c->next;
        ch_capture_free(queue, c);
    }
    ch_zfree(queue);
}

struct ch_capture *ch_capture_queue_take(struct ch_capture_queue *queue)
{
    struct ch_capture *newest = atomic_exchange_explicit(&queue->head, NULL, memory_order_acquire);
    struct ch_capture *oldest = NULL;
    while (newest) {
        struct ch_capture *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

void ch_capture_free(struct ch_capture_queue *queue, struct ch_capture *capture)
{
    atomic_fetch_sub_explicit(&queue->bytes, capture->charged, memory_order_relaxed);
    atomic_fetch_sub_explicit(&queue->count, 1, memory_order_relaxed);
    ch_buf_fini(&capture->request);
    ch_buf_fini(&capture->response);
    ch_zfree(capture);
}

int64_t ch_capture_queue_dropped(const struct ch_capture_queue *queue)
{
    return atomic_load_explicit(&queue->dropped, memory_order_relaxed);
}

int64_t ch_capture_queue_count(const struct ch_capture_queue *queue)
{
    return atomic_load_explicit(&queue->count, memory_order_relaxed);
}

static void count_dropped(struct ch_capture_queue *queue)
{
    atomic_fetch_add_explicit(&queue->dropped, 1, memory_order_relaxed);
}

struct ch_capture *ch_capture_begin(struct ch_capture_queue *queue, int64_t id, size_t request_max,
                                    size_t response_max)
{
    struct ch_capture *capture = NULL;
    if (atomic_fetch_add_explicit(&queue->count, 1, memory_order_relaxed) < queue->max_count)
        capture = ch_zcalloc(1, sizeof *capture);
    if (!capture) {
        atomic_fetch_sub_explicit(&queue->count, 1, memory_order_relaxed);
        count_dropped(queue);
        return NULL;
    }
    capture->id = id;
    ch_buf_init(&capture->request, request_max);
    ch_buf_init(&capture->response, response_max);
    return capture;
}

// What a buffer has allocated counts, not what is in it: it doubles as it grows.
static bool add(struct ch_capture_queue *queue, struct ch_capture *capture, struct ch_buf *buf,
                struct ch_span bytes, bool *is_cut)
{
    size_t room = buf->max - buf->len, before = buf->cap;
    if (bytes.len > room) {
        *is_cut = true;
        bytes.len = room;
    }
    if (bytes.len == 0)
        return true;
    if (ch_buf_append_span(buf, bytes))
        return false;
    size_t more = buf->cap - before;
    capture->charged += more;
    return atomic_fetch_add_explicit(&queue->bytes, more, memory_order_relaxed) + more <=
           queue->max_bytes;
}

bool ch_capture_add_request(struct ch_capture_queue *queue, struct ch_capture *capture,
                            struct ch_span bytes)
{
    return add(queue, capture, &capture->request, bytes, &capture->request_is_cut);
}

bool ch_capture_add_response(struct ch_capture_queue *queue, struct ch_capture *capture,
                             struct ch_span bytes)
{
    return add(queue, capture, &capture->response, bytes, &capture->response_is_cut);
}

void ch_capture_drop(struct ch_capture_queue *queue, struct ch_capture *capture)
{
    count_dropped(queue);
    ch_capture_free(queue, capture);
}

void ch_capture_push(struct ch_capture_queue *queue, struct ch_capture *capture)
{
    capture->next = atomic_load_explicit(&queue->head, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&queue->head, &capture->next, capture,
                                                  memory_order_release, memory_order_relaxed))
        ;
}
