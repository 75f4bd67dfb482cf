// SPDX-License-Identifier: Apache-2.0
#include "scrub_private.h"

// Backslashes are counted, not nested: text in a JSON string in a JSON string … needs no stack. Of
// a run of n before a quotation mark, the mark's depth is the number of trailing ones of n: each
// level of encoding turns d backslashes and a mark into 2 d + 1 and a mark. What is in front of the
// mark's own backslashes are whole pairs.

static bool is_line_end(unsigned c)
{
    return c == '\n' || c == '\r';
}

static bool is_blank(unsigned c)
{
    return c == ' ' || c == '\t' || is_line_end(c);
}

static unsigned trailing_ones(unsigned n)
{
    return (unsigned)__builtin_ctz(~n);
}

static unsigned lowest_bit(unsigned n)
{
    return n & -n;
}

// Gives the unit out with its bytes: backslashes, then `rest`.
static void give(struct ch_scrub_reader *reader, struct ch_scrub_unit unit, unsigned slashes,
                 struct ch_span rest)
{
    memset(unit.raw, '\\', slashes);
    memcpy(unit.raw + slashes, rest.ptr, rest.len);
    unit.len = (unsigned char)(slashes + rest.len);
    reader->on_unit(reader->arg, &unit);
}

static void give_slashes_as(struct ch_scrub_reader *reader, unsigned count, bool is_blank)
{
    const struct ch_scrub_unit slash = {
        .c = '\\', .quote = CH_SCRUB_NO_QUOTE, .is_blank = is_blank};
    for (; count >= 2; count -= 2)
        give(reader, slash, 2, (struct ch_span){"", 0});
    if (count)
        give(reader, slash, 1, (struct ch_span){"", 0});
}

static void give_slashes(struct ch_scrub_reader *reader, unsigned count)
{
    give_slashes_as(reader, count, false);
}

// Nearly every byte comes this way, hence without `give`.
static void give_byte(struct ch_scrub_reader *reader, char byte, bool is_json, bool is_prefix)
{
    unsigned char c = (unsigned char)byte;
    struct ch_scrub_unit unit;
    unit.c = c < CH_SCRUB_OPAQUE ? c : CH_SCRUB_OPAQUE;
    unit.quote = c == '"' ? 0 : CH_SCRUB_NO_QUOTE;
    unit.is_blank = is_blank(c) || is_prefix;
    unit.ends_text = is_line_end(c) || (c == '"' && is_json);
    unit.len = 1;
    unit.raw[0] = byte;
    reader->on_unit(reader->arg, &unit);
}

static void give_quote(struct ch_scrub_reader *reader, unsigned slashes, bool is_json)
{
    unsigned depth = trailing_ones(slashes), own = (1U << depth) - 1;
    give_slashes(reader, slashes - own);
    give(reader,
         (struct ch_scrub_unit){
             .c = '"', .quote = (signed char)depth, .ends_text = depth == 0 && is_json},
         own, CH_SPAN("\""));
}

// An escape of one letter: one character of a JSON string.
static void give_escape(struct ch_scrub_reader *reader, char letter)
{
    bool is_line = letter == 'n' || letter == 'r';
    give(reader,
         (struct ch_scrub_unit){
             .c = CH_SCRUB_OPAQUE,
             .quote = CH_SCRUB_NO_QUOTE,
             .is_blank = is_line || letter == 't',
             .ends_text = is_line,
         },
         1, (struct ch_span){&letter, 1});
}

// What would be "\n" to a reader further in: "\\n", "\\\\n", or "\n" in what is not JSON at all but
// may quote it. To tokens these are characters like others: the text may be a Windows path.
static void give_inner_blank(struct ch_scrub_reader *reader, unsigned slashes, char letter)
{
    unsigned own = lowest_bit(slashes);
    give_slashes(reader, slashes - own);
    give_slashes_as(reader, own, true);
    give_byte(reader, letter, false, true);
}

// The depth of a quotation mark written "\u0022": one more where the escape itself is escaped.
static unsigned code_depth(unsigned slashes)
{
    unsigned depth = 1;
    for (; slashes % 2 == 0; slashes /= 2)
        depth++;
    return depth + trailing_ones(slashes / 2);
}

static void give_code(struct ch_scrub_reader *reader, bool is_json)
{
    unsigned slashes = reader->slashes, own = lowest_bit(slashes), code = 0;
    for (unsigned i = 1; i < sizeof reader->hex; i++) {
        char c = reader->hex[i];
        code = code << 4 | (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    reader->slashes = reader->hex_len = 0;
    if (code == '"')
        own = slashes; // all of them decide its depth
    give_slashes(reader, slashes - own);
    give(reader,
         (struct ch_scrub_unit){
             .c = (unsigned char)(code >= ' ' && code < 0x7F ? code : CH_SCRUB_OPAQUE),
             .quote = (signed char)(code == '"' ? (int)code_depth(slashes) : CH_SCRUB_NO_QUOTE),
             .is_blank = is_blank(code),
             .ends_text = own == 1 && is_json && is_line_end(code),
         },
         own, (struct ch_span){reader->hex, sizeof reader->hex});
}

// What looked like "\uXXXX" is none.
static void give_up_code(struct ch_scrub_reader *reader)
{
    unsigned slashes = reader->slashes, len = reader->hex_len;
    reader->slashes = reader->hex_len = 0;
    give_slashes(reader, slashes);
    for (unsigned i = 0; i < len; i++)
        give_byte(reader, reader->hex[i], false, false);
}

static bool is_hex(char c)
{
    char lower = (char)(c | 0x20);
    return (c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'f');
}

static void take_slash(struct ch_scrub_reader *reader)
{
    if (++reader->slashes <= CH_SCRUB_SLASHES_MAX)
        return;
    give_slashes(reader, reader->slashes); // deeper than we look, and whole pairs
    reader->slashes = 0;
}

static void take_escaped(struct ch_scrub_reader *reader, char byte, bool is_json, bool is_prefix)
{
    unsigned slashes = reader->slashes;
    if (byte == 'u') {
        reader->hex[reader->hex_len++] = byte;
        return;
    }
    reader->slashes = 0;
    if (byte == '"') {
        give_quote(reader, slashes, is_json);
    } else if (is_json && slashes % 2 && byte && strchr("/bfnrt", byte)) {
        give_slashes(reader, slashes - 1);
        give_escape(reader, byte);
    } else if (byte == 'n' || byte == 'r' || byte == 't') {
        give_inner_blank(reader, slashes, byte);
    } else {
        give_slashes(reader, slashes);
        give_byte(reader, byte, is_json, is_prefix);
    }
}

void ch_scrub_reader_take(struct ch_scrub_reader *reader, char byte, bool is_json, bool is_prefix)
{
    if (reader->hex_len && is_hex(byte)) {
        reader->hex[reader->hex_len++] = byte;
        if (reader->hex_len == sizeof reader->hex)
            give_code(reader, is_json);
        return;
    }
    if (reader->hex_len)
        give_up_code(reader);
    if (byte == '\\')
        take_slash(reader);
    else if (reader->slashes)
        take_escaped(reader, byte, is_json, is_prefix);
    else
        give_byte(reader, byte, is_json, is_prefix);
}

void ch_scrub_reader_finish(struct ch_scrub_reader *reader)
{
    give_up_code(reader);
}

bool ch_scrub_lines_take(struct ch_scrub_lines *lines, char byte)
{
    static const char data[] = "data:";
    lines->is_prefix = false;
    if (lines->mode != CH_SCRUB_SSE)
        return lines->mode == CH_SCRUB_JSON;
    bool is_json_start = byte == '{' || byte == '[' || byte == '"';
    if (is_line_end((unsigned char)byte)) {
        lines->part = CH_SCRUB_LINE_FIELD;
        lines->field_len = 0;
    } else if (lines->part == CH_SCRUB_LINE_FIELD && lines->field_len == 0 && is_json_start) {
        lines->part = CH_SCRUB_LINE_JSON; // an error's body under the wrong content type
    } else if (lines->part == CH_SCRUB_LINE_FIELD) {
        lines->is_prefix = lines->field_len < sizeof data - 1 && byte == data[lines->field_len];
        lines->field_len = lines->is_prefix ? lines->field_len + 1 : sizeof data;
        if (byte == ':')
            lines->part = CH_SCRUB_LINE_BLANK;
    } else if (lines->part == CH_SCRUB_LINE_BLANK && !is_blank((unsigned char)byte)) {
        lines->part = is_json_start ? CH_SCRUB_LINE_JSON : CH_SCRUB_LINE_TEXT;
    }
    return lines->part == CH_SCRUB_LINE_JSON;
}
