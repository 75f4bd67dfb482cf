// SPDX-License-Identifier: Apache-2.0
#include "wire/sse.h"

#include "find.h"

enum part {
    PART_NAME,  // up to the colon
    PART_BLANK, // one space may stand behind the colon
    PART_VALUE,
};

enum field {
    FIELD_OTHER, // also comments
    FIELD_DATA,
    FIELD_EVENT,
};

struct observer {
    const struct ch_sse_handler *handler;
    void *arg;
};

void ch_sse_init(struct ch_sse *sse)
{
    *sse = (struct ch_sse){.is_first_line = true};
}

static struct ch_span field_name(const struct ch_sse *sse)
{
    struct ch_span name = {sse->field_name, sse->field_len};
    struct ch_span bom = CH_SPAN("\xEF\xBB\xBF");
    bool has_bom = sse->is_first_line && name.len <= sizeof sse->field_name;
    return has_bom && ch_span_starts(name, bom) ? ch_span_sub(name, bom.len) : name;
}

static void append_field_name(struct ch_sse *sse, struct ch_span text)
{
    for (size_t i = 0; i < text.len && sse->field_len <= sizeof sse->field_name; i++) {
        if (sse->field_len < sizeof sse->field_name)
            sse->field_name[sse->field_len] = text.ptr[i];
        sse->field_len++; // one past the room: longer than any field of interest
    }
}

static void append_event_name(struct ch_sse *sse, struct ch_span text)
{
    size_t room = sizeof sse->name - sse->name_len;
    size_t len = text.len < room ? text.len : room;
    memcpy(sse->name + sse->name_len, text.ptr, len);
    sse->name_len += (unsigned char)len;
}

// The name is complete: a field begins.
static void begin_field(struct ch_sse *sse, struct observer to)
{
    struct ch_span name = field_name(sse);
    sse->field = FIELD_OTHER;
    if (name.len > sizeof sse->field_name)
        return;
    if (ch_span_eq(name, CH_SPAN("data"))) {
        sse->field = FIELD_DATA;
        if (sse->has_data)
            to.handler->on_data(to.arg, CH_SPAN("\n"));
        sse->has_data = true;
    } else if (ch_span_eq(name, CH_SPAN("event"))) {
        sse->field = FIELD_EVENT;
        sse->name_len = 0;
    }
}

static void take_value(struct ch_sse *sse, struct ch_span text, struct observer to)
{
    if (sse->part == PART_BLANK && text.len) {
        sse->part = PART_VALUE;
        if (text.ptr[0] == ' ')
            text = ch_span_sub(text, 1);
    }
    if (text.len && sse->field == FIELD_DATA)
        to.handler->on_data(to.arg, text);
    else if (text.len && sse->field == FIELD_EVENT)
        append_event_name(sse, text);
}

// Takes a part of a line, without its end.
static void take_text(struct ch_sse *sse, struct ch_span text, struct observer to)
{
    if (text.len && sse->part == PART_NAME) {
        const char *colon = memchr(text.ptr, ':', text.len);
        size_t len = colon ? (size_t)(colon - text.ptr) : text.len;
        append_field_name(sse, (struct ch_span){text.ptr, len});
        if (!colon)
            return;
        begin_field(sse, to);
        sse->part = PART_BLANK;
        text = ch_span_sub(text, len + 1);
    }
    take_value(sse, text, to);
}

static void end_block(struct ch_sse *sse, struct observer to)
{
    if (sse->has_data)
        to.handler->on_event(to.arg, (struct ch_span){sse->name, sse->name_len});
    sse->has_data = false;
    sse->name_len = 0;
}

// Returns whether the line was the empty one that ends a block.
static bool end_line(struct ch_sse *sse, struct observer to)
{
    bool is_bare = sse->part == PART_NAME; // no colon: a field without a value
    bool is_empty = is_bare && field_name(sse).len == 0;
    if (is_empty)
        end_block(sse, to);
    else if (is_bare)
        begin_field(sse, to);
    sse->part = PART_NAME;
    sse->field_len = 0;
    sse->is_first_line = false;
    return is_empty;
}

// The LF of a CRLF whose CR has ended the line.
static const char *skip_lf(struct ch_sse *sse, const char *p, const char *end)
{
    if (!sse->skips_lf || p == end)
        return p;
    sse->skips_lf = false;
    return *p == '\n' ? p + 1 : p;
}

size_t ch_sse_feed(struct ch_sse *sse, struct ch_span piece, const struct ch_sse_handler *handler,
                   void *arg, bool *block_end_out)
{
    struct observer to = {handler, arg};
    bool is_block_end = false;
    *block_end_out = false;
    if (piece.len == 0)
        return 0;
    const char *p = piece.ptr, *end = piece.ptr + piece.len;
    while ((p = skip_lf(sse, p, end)) < end && !is_block_end) {
        const char *line_end = ch_find_line_end(p, end);
        take_text(sse, (struct ch_span){p, (size_t)(line_end - p)}, to);
        p = line_end;
        if (p == end)
            break;
        sse->skips_lf = *p++ == '\r';
        is_block_end = end_line(sse, to);
    }
    *block_end_out = is_block_end;
    return (size_t)(p - piece.ptr);
}
