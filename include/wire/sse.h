// SPDX-License-Identifier: Apache-2.0
// Server-sent events, as an observer of a byte stream (WHATWG HTML §9.2).
//
// Takes pieces cut at any byte, knows \n, \r\n and \r line ends, comments, a leading BOM, several
// data lines an event. It keeps nothing but a short event name: data bytes are handed on as they
// come, so a line may be of any length. It never alters the stream.
#ifndef CH_WIRE_SSE_H
#define CH_WIRE_SSE_H

#include "base/err.h"
#include "base/str.h"

#define CH_SSE_NAME_MAX 64 // bytes kept of an event's name

struct ch_sse_handler {
    // A piece of an event's data: line values in order, a "\n" between two data lines. Never empty.
    void (*on_data)(void *arg, struct ch_span piece);
    // The event is complete. `name` is what its `event:` line said ("" when none). Not called for a
    // block without data lines (comments, keep-alives).
    void (*on_event)(void *arg, struct ch_span name);
};

struct ch_sse {
    // private
    unsigned char part;  // of the current line: its field name, its value
    unsigned char field; // which field the current line is
    unsigned char field_len;
    unsigned char name_len;
    bool is_first_line; // a BOM may stand before it
    bool skips_lf;      // a CR ended the line before
    bool has_data;      // the block has a data line
    char field_name[8]; // of the current line; no field of interest is longer, BOM included
    char name[CH_SSE_NAME_MAX];
};

void ch_sse_init(struct ch_sse *sse);
// Feeds a piece up to and including the end of the first event block in it (its empty line), or all
// of it. Returns the number of bytes consumed; `*block_end_out` says whether a block ended just
// there. Of a CRLF that ends a block both bytes belong to it when both are in the piece; otherwise
// the LF that follows is consumed silently with the next piece. The standard drops an event that
// the end of the stream cuts off; an observer that wants it feeds "\n\n".
size_t ch_sse_feed(struct ch_sse *sse, struct ch_span piece, const struct ch_sse_handler *handler,
                   void *arg, bool *block_end_out);

#endif
