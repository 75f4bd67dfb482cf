// SPDX-License-Identifier: Apache-2.0
// The parts of the scrubber: bytes -> units (scrub_unit.c) -> what to redact (scrub_token.c,
// scrub_name.c) -> output (scrub.c). Private to the scrubber. Pure.
#ifndef CH_SRC_DOMAIN_SCRUB_PRIVATE_H
#define CH_SRC_DOMAIN_SCRUB_PRIVATE_H

#include "domain/scrub.h"

#include <stdint.h>

#define CH_SCRUB_SLASHES_MAX 15 // backslashes in a row that count together: four levels of nesting
#define CH_SCRUB_UNIT_MAX    (CH_SCRUB_SLASHES_MAX + 5) // bytes of the longest unit, "\\…\u0022"
#define CH_SCRUB_OPAQUE      0x80 // the character of a unit that no token and no name holds
#define CH_SCRUB_NO_QUOTE    (-1)
#define CH_SCRUB_NOWHERE     UINT64_MAX // no position

// One character as it stands in the text, with its escape. In JSON a unit is one or more whole
// characters of the string, so that redacting whole units never breaks an escape.
struct ch_scrub_unit {
    unsigned char c; // the ASCII character it stands for, or CH_SCRUB_OPAQUE
    // Of a quotation mark: in how many strings it stands, CH_SCRUB_NO_QUOTE for every other
    // character. 0: it delimits the document's own strings; 1: it delimits one inside them, as in
    // "{\"a\":1}"; and so on.
    signed char quote;
    bool is_blank;  // may stand between a member's name and its value
    bool ends_text; // nothing that a `.` matches: the end of a line or of a JSON string
    unsigned char len;
    char raw[CH_SCRUB_UNIT_MAX];
};
typedef void (*ch_scrub_unit_fn)(void *arg, const struct ch_scrub_unit *unit);

struct ch_scrub_reader {
    ch_scrub_unit_fn on_unit;
    void *arg;
    unsigned slashes; // read, but not given out yet
    unsigned hex_len; // bytes of "uXXXX" read behind them
    char hex[5];
};
// `is_json`: the byte stands in JSON. `is_prefix`: it belongs to a "data:" that SSE put between.
void ch_scrub_reader_take(struct ch_scrub_reader *reader, char byte, bool is_json, bool is_prefix);
void ch_scrub_reader_finish(struct ch_scrub_reader *reader);

// ---- Tokens

#define CH_SCRUB_TOKENS 20
typedef unsigned __int128 ch_scrub_bits; // a bit for each character of each prefix

struct ch_scrub_tables {
    ch_scrub_bits letters[128]; // the places in prefixes where the character may stand
    ch_scrub_bits heads, ends;  // the first and the last character of each prefix
    ch_scrub_bits end[CH_SCRUB_TOKENS];
    ch_scrub_bits wrapped_head; // the last character of "ch_"
    uint32_t tails[129];        // the tokens that the character continues
};
void ch_scrub_tables_init(struct ch_scrub_tables *tables);
// Whether a prefix may begin with the two bytes, one of which may be the start of an escape.
static inline bool ch_scrub_tables_may_begin(const struct ch_scrub_tables *tables, char first,
                                             char second)
{
    if (first == '\\')
        return true;
    if ((unsigned char)first >= CH_SCRUB_OPAQUE)
        return false;
    ch_scrub_bits begun = tables->letters[(unsigned char)first] & tables->heads;
    if (!begun || (unsigned char)second >= CH_SCRUB_OPAQUE)
        return false;
    return second == '\\' || begun << 1 & tables->letters[(unsigned char)second];
}

struct ch_scrub_tokens {
    const struct ch_scrub_tables *tables;
    ch_scrub_bits
        prefixes;   // bit i: the last characters read are that prefix up to there (Shift-And)
    uint64_t slugs; // bit i: "ch_" ended i units ago and what followed may be a slug
    uint32_t open;  // a bit a token: its prefix has been read, and so far only its tail
    uint32_t sure;  // of these: the tail is long enough
    unsigned found;
    uint64_t start[CH_SCRUB_TOKENS];
    uint32_t tail_len[CH_SCRUB_TOKENS];
};
// Reads the unit at `position`. Gives the first position from which everything up to and with this
// unit belongs to a token, or CH_SCRUB_NOWHERE.
uint64_t ch_scrub_tokens_read(struct ch_scrub_tokens *tokens, const struct ch_scrub_unit *unit,
                              uint64_t position);
// The first position that the next units may yet make part of a token; `next` when there is none.
uint64_t ch_scrub_tokens_hold(const struct ch_scrub_tokens *tokens, uint64_t next);
// Where the first unfinished token behind a whole prefix begins, or CH_SCRUB_NOWHERE.
uint64_t ch_scrub_tokens_unfinished(const struct ch_scrub_tokens *tokens);

// ---- Names

#define CH_SCRUB_NAME_MAX 13 // "refresh_token"
#define CH_SCRUB_WORD_MAX 5  // "false"

enum ch_scrub_names_state {
    CH_SCRUB_SEARCH,
    CH_SCRUB_AFTER_NAME,  // a telling name and its closing quote were read
    CH_SCRUB_AFTER_COLON, // the value comes
    CH_SCRUB_IN_STRING,
    CH_SCRUB_IN_NEST, // an object or array
    CH_SCRUB_IN_WORD, // a number, or garbage; true, false and null stay
};
struct ch_scrub_names {
    enum ch_scrub_names_state state;
    int quote;         // of the last quote, then of the value's quotes; CH_SCRUB_NO_QUOTE at first
    unsigned name_len; // past CH_SCRUB_NAME_MAX: too long to be one
    char name[CH_SCRUB_NAME_MAX];
    uint64_t depth;
    bool is_in_text; // in a string within the object or array
    uint64_t word_at;
    unsigned word_len; // past CH_SCRUB_WORD_MAX: it is neither true nor false nor null
    char word[CH_SCRUB_WORD_MAX];
};
// What to redact: the units [from, to); none when they are equal.
struct ch_scrub_range {
    uint64_t from, to;
    int quote; // the mark needs quotes of this depth; CH_SCRUB_NO_QUOTE: it stands in a string
};
struct ch_scrub_range ch_scrub_names_read(struct ch_scrub_names *names,
                                          const struct ch_scrub_unit *unit, uint64_t position);
uint64_t ch_scrub_names_hold(const struct ch_scrub_names *names, uint64_t next);
// At the end of the text, which is position `next`.
struct ch_scrub_range ch_scrub_names_finish(struct ch_scrub_names *names, uint64_t next);

// ---- SSE

// Follows the lines of a stream. JSON and plain text have one answer each.
struct ch_scrub_lines {
    enum ch_scrub_mode mode;
    enum {
        CH_SCRUB_LINE_FIELD,
        CH_SCRUB_LINE_BLANK, // behind the colon
        CH_SCRUB_LINE_JSON,
        CH_SCRUB_LINE_TEXT,
    } part;
    unsigned field_len; // of "data:" read so far; past it: another field
    bool is_prefix;     // the byte belongs to "data:"
};
// Whether the byte stands in JSON.
bool ch_scrub_lines_take(struct ch_scrub_lines *lines, char byte);

// ---- Patterns

struct ch_scrub_patterns; // the compiled ones
enum ch_err ch_scrub_patterns_new(const struct ch_span *patterns, size_t count,
                                  struct ch_scrub_patterns **patterns_out, struct ch_why *why);
void ch_scrub_patterns_free(struct ch_scrub_patterns *patterns);
enum ch_err ch_scrub_patterns_apply(const struct ch_scrub_patterns *patterns,
                                    enum ch_scrub_mode mode, struct ch_span text,
                                    struct ch_buf *out, struct ch_scrub_report *report);

#endif
