// SPDX-License-Identifier: Apache-2.0
// Server-sent events, as an observer of a byte stream (WHATWG HTML §9.2).
//
// Takes pieces cut at any byte, knows \n, \r\n and \r line ends, comments, a leading BOM, several data lines an
// event. It keeps nothing but a short event name: data bytes are handed on as they come, so a line may be of
// any length. It never alters the stream.
#ifndef CH_WIRE_SSE_H
#define CH_WIRE_SSE_H

#include "base/err.h"
#include "base/str.h"

#define CH_SSE_NAME_MAX 64 // bytes kept of an event's name

struct ch_sse_handler {
    // A piece of an event's data: line values in order, a "\n" between two data lines. Never empty.
    void (*on_data)(void *arg, struct ch_span piece);
    // The event is complete. `name` is what its `event:` line said ("" when none). Not called for a block
    // without data lines (comments, keep-alives).
    void (*on_event)(void *arg, struct ch_span name);
};

struct ch_sse {
    // private
    unsigned char state;
    unsigned char field; // which field the current line is
    unsigned char name_len;
    bool saw_cr, has_data, line_has_bytes;
    unsigned char prefix_len;
    char prefix[8];
    char name[CH_SSE_NAME_MAX];
};

void ch_sse_init(struct ch_sse *sse);
// Feeds a piece up to and including the end of the first event block in it (its empty line), or all of it.
// Returns the number of bytes consumed; `*block_end_out` says whether a block ended just there. Of a CRLF
// that ends a block both bytes belong to it when both are in the piece; otherwise the LF that follows is
// consumed silently with the next piece.
size_t ch_sse_feed(struct ch_sse *sse, struct ch_span piece, const struct ch_sse_handler *handler,
                   void *arg, bool *block_end_out);

#endif
