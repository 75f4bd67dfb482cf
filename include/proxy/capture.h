// SPDX-License-Identifier: Apache-2.0
// The way of captured bodies from the loops to the thread that scrubs and keeps them.
//
// A loop copies what it relays, up to a size, into one `struct ch_capture` per exchange and pushes
// it when the exchange is settled. All of them together, being filled or waiting, are bounded by
// number and by bytes; past that an exchange goes uncaptured, counted, and its traffic never knows.
// No lock and no system call on the loop's side. What is in here is not scrubbed yet: it is in
// zeroing memory and goes nowhere but to the taker. No head fields and no query strings are in it.
#ifndef CH_PROXY_CAPTURE_H
#define CH_PROXY_CAPTURE_H

#include "base/str.h"
#include "domain/scrub.h"
#include "store/provider_store.h"

struct ch_capture {
    struct ch_capture *next; // of a list that was taken
    int64_t id;              // of the exchange
    char key[CH_NAME_MAX + 1];
    bool is_kept;                         // false: only for the tripwire
    bool has_request, has_response;       // false: none, or binary
    bool request_is_cut, response_is_cut; // it went on
    enum ch_scrub_mode response_mode;     // a request is JSON
    struct ch_buf request, response;
    size_t charged; // bytes of the queue's room that it takes
};

struct ch_capture_queue;

enum ch_err ch_capture_queue_new(size_t max_bytes, int64_t max_count,
                                 struct ch_capture_queue **queue_out) CH_MUST_USE;
void ch_capture_queue_free(struct ch_capture_queue *queue); // with what waits; NULL is fine

// The taker's side, one thread: everything that waits, oldest first; NULL: nothing does.
struct ch_capture *ch_capture_queue_take(struct ch_capture_queue *queue);
void ch_capture_free(struct ch_capture_queue *queue, struct ch_capture *capture); // any thread
// Exchanges that went uncaptured for lack of room. Any thread.
int64_t ch_capture_queue_dropped(const struct ch_capture_queue *queue);
int64_t ch_capture_queue_count(const struct ch_capture_queue *queue); // filling or waiting

// The loops' side. NULL: no room. `request_max`, `response_max`: what it may grow to.
struct ch_capture *ch_capture_begin(struct ch_capture_queue *queue, int64_t id, size_t request_max,
                                    size_t response_max);
// Copies what fits and notes what does not. False: there is no room, give it up (ch_capture_drop).
bool ch_capture_add_request(struct ch_capture_queue *queue, struct ch_capture *capture,
                            struct ch_span bytes);
bool ch_capture_add_response(struct ch_capture_queue *queue, struct ch_capture *capture,
                             struct ch_span bytes);
void ch_capture_drop(struct ch_capture_queue *queue, struct ch_capture *capture); // counts it
void ch_capture_push(struct ch_capture_queue *queue, struct ch_capture *capture); // takes it

#endif
