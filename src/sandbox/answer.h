// SPDX-License-Identifier: Apache-2.0
// One answer: what a request gets, how much it costs, and the bytes of it, document or event by
// event. Private to sandbox/. Pure but for the buffers it writes to; content and usage depend on
// the request alone.
#ifndef CH_SANDBOX_ANSWER_H
#define CH_SANDBOX_ANSWER_H

#include "base/id.h"
#include "request.h"
#include "script.h"

#define CH_SANDBOX_NUMBER_TEXT 21 // bytes of an int64_t as text

// Words to answer with, one for each thread.
struct ch_sandbox_source {
    struct ch_buf words;   // a text repeated to the longest content asked for so far
    struct ch_buf escaped; // an echoed credential
    struct ch_buf items;   // embeddings
};
void ch_sandbox_source_init(struct ch_sandbox_source *source);
void ch_sandbox_source_fini(struct ch_sandbox_source *source);

struct ch_sandbox_answer {
    const struct ch_script *script; // NULL: an error without an endpoint
    int status;
    bool is_stream;
    bool calls_tool;
    bool is_billed;
    int64_t content_len, piece_len, pieces; // bytes, bytes, count
    int64_t reasoning;                      // tokens
    // How far a stream has come.
    size_t lead_at, trail_at;
    int64_t piece_at, seq;
    bool is_over; // everything was rendered
    struct ch_span values[CH_SANDBOX_VARS];
    char numbers[CH_SANDBOX_VARS][CH_SANDBOX_NUMBER_TEXT];
    char request_id[CH_REQUEST_ID_TEXT];
    char full_id[64];
    char dimensions[2 * 12]; // of an image: two numbers and what joins them
};

// Decides the answer to a finished request. Borrows request and book until the answer is over.
// `id`: unique.
void ch_sandbox_answer_begin(struct ch_sandbox_answer *answer,
                             const struct ch_sandbox_request *request,
                             const struct ch_script_book *book, struct ch_sandbox_source *source,
                             int64_t id, int64_t wall_ms);
// Appends the whole body of an answer that is no stream.
enum ch_err ch_sandbox_answer_document(struct ch_sandbox_answer *answer,
                                       const struct ch_sandbox_request *request,
                                       const struct ch_script_book *book,
                                       struct ch_sandbox_source *source,
                                       struct ch_buf *out) CH_MUST_USE;
// Appends the next event of a stream, framed as its dialect frames events, or sets is_over. It may
// append nothing.
enum ch_err ch_sandbox_answer_event(struct ch_sandbox_answer *answer,
                                    const struct ch_sandbox_request *request,
                                    struct ch_sandbox_source *source,
                                    struct ch_buf *out) CH_MUST_USE;
// Appends the head; `length`: of the body, not for streams.
enum ch_err ch_sandbox_answer_head(struct ch_sandbox_answer *answer,
                                   const struct ch_script_book *book, size_t length,
                                   struct ch_buf *out) CH_MUST_USE;
// Appends the line of the record. `outcome`: "done", "cut", "reset", "client_gone"; short of "done"
// the output counts what had been said by then.
enum ch_err ch_sandbox_answer_record(struct ch_sandbox_answer *answer,
                                     const struct ch_script_book *book, const char *outcome,
                                     struct ch_buf *out) CH_MUST_USE;

// The vectors of an embeddings request, as the dialect and the encoding want them.
enum ch_err ch_sandbox_embeddings_append(const struct ch_sandbox_request *request,
                                         struct ch_buf *out) CH_MUST_USE;

#endif
