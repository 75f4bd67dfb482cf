// SPDX-License-Identifier: Apache-2.0
// One client connection of the sandbox, and what the connections of one loop share. Private to
// sandbox/. Belongs to its loop's thread.
#ifndef CH_SANDBOX_SESSION_H
#define CH_SANDBOX_SESSION_H

#include "answer.h"
#include "net/listener.h"
#include "net/loop.h"

struct session;

// Shared by all threads, immutable.
struct ch_sandbox_setting {
    struct ch_script_book *book;
    struct ch_json_plan *plan;
    struct ch_span api_key; // empty: any credential, or none
    int record_fd;          // O_APPEND; -1: none
};

struct ch_sandbox_worker {
    const struct ch_sandbox_setting *setting;
    struct ch_loop *loop;
    struct ch_listener *listener;
    struct ch_id_source ids;
    struct session *sessions;
    // Scratch of one callback.
    struct ch_http1_head head;
    struct ch_sandbox_source source;
    struct ch_buf head_text, event, batch, line;
};

void ch_sandbox_worker_init(struct ch_sandbox_worker *worker, unsigned index,
                            const struct ch_sandbox_setting *setting);
void ch_sandbox_worker_fini(struct ch_sandbox_worker *worker); // closes every session

// A ch_accept_fn; `arg` is the worker.
void ch_sandbox_session_accept(void *arg, int fd, const char *address);

#endif
