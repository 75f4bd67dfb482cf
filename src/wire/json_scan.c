// SPDX-License-Identifier: Apache-2.0
#include "wire/json_scan.h"

#include "find.h"
#include "json_char.h"
#include "json_plan.h"

#include <stddef.h>

// The scanner is a state machine over bytes; a state is what may come next.
//
//   VALUE ── a scalar ──> AFTER ── ',' in an array ───> VALUE
//     ├──── '[' ──> FIRST_VALUE ├─ ',' in an object ──> KEY ──> STRING ──> COLON ──> VALUE
//     └──── '{' ──> FIRST_KEY   └─ ']' or '}' ────────> AFTER, one level up
enum state {
    ST_VALUE,
    ST_FIRST_VALUE, // a value or ']'
    ST_KEY,
    ST_FIRST_KEY, // a key or '}'
    ST_COLON,
    ST_AFTER,  // behind a value: ',' or the end of its container
    ST_STRING, // this and those below: inside a key or scalar
    ST_UTF8,   // behind the first byte of a multi-byte character
    ST_ESCAPE,
    ST_HEX,
    ST_LOW_SURROGATE, // the backslash of its escape
    ST_LITERAL,
    ST_MINUS,
    ST_ZERO,
    ST_INTEGER,
    ST_POINT,
    ST_FRACTION,
    ST_EXPONENT,
    ST_EXPONENT_SIGN,
    ST_EXPONENT_DIGITS,
    ST_FAILED,
};

void ch_json_scan_init(struct ch_json_scan *scan, const struct ch_json_plan *plan,
                       ch_json_value_fn on_value, void *arg)
{
    memset(scan, 0, offsetof(struct ch_json_scan, node)); // the rest is written before it is read
    scan->plan = plan;
    scan->on_value = on_value;
    scan->arg = arg;
    scan->state = ST_VALUE;
}

// Inlined by force into the loop of ch_json_scan_feed, so that position and state stay in
// registers: 1.4 times the speed on dense documents with gcc 12.
#define HOT static inline __attribute__((always_inline))

// Where the scan stands; small enough to travel in registers from handler to handler.
struct spot {
    const char *at;
    enum state state;
};

HOT struct spot go(const char *at, enum state state)
{
    return (struct spot){at, state};
}

CH_COLD static struct spot fail(struct ch_json_scan *scan, const char *at, enum ch_err err)
{
    scan->err = err;
    return go(at, ST_FAILED);
}

HOT uint64_t offset_of(const struct ch_json_scan *scan, const char *p)
{
    return scan->offset + (uint64_t)(p - scan->piece);
}

HOT bool is_object(const struct ch_json_scan *scan)
{
    return scan->depth > 0 && (scan->containers >> (scan->depth - 1) & 1);
}

HOT bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

// Moves `*p` to the byte that decides, which is mostly the one at hand. False: the piece ends
// first.
HOT bool find_token(const char **p, const char *end)
{
    while (*p < end) {
        if ((unsigned char)**p > ' ' || !is_blank(**p))
            return true;
        ++*p;
    }
    return false;
}

HOT const char *skip_digits(const char *p, const char *end)
{
    while (p < end && ch_json_is_digit(*p))
        p++;
    return p;
}

// --- the text of a key or scalar -------------------------------------------------------------

// Keeps what stands between the mark and `p`, because the piece ends or an earlier one began it.
static void keep_text(struct ch_json_scan *scan, const char *p)
{
    size_t len = (size_t)(p - scan->mark), room = CH_JSON_VALUE_MAX - scan->text_len;
    scan->cut |= len > room;
    if (len > room)
        len = room;
    memcpy(scan->text + scan->text_len, scan->mark, len);
    scan->text_len += (uint16_t)len;
}

HOT void begin_text(struct ch_json_scan *scan, const char *p, bool wanted)
{
    scan->mark = wanted ? p : NULL;
    scan->text_len = 0;
    scan->escaped = scan->cut = false;
}

// The text up to `p`: in place when one piece held it all.
HOT struct ch_span end_text(struct ch_json_scan *scan, const char *p)
{
    struct ch_span text = {scan->mark, (size_t)(p - scan->mark)};
    if (scan->text_len || text.len > CH_JSON_VALUE_MAX) {
        keep_text(scan, p);
        text = (struct ch_span){scan->text, scan->text_len};
    }
    scan->mark = NULL;
    return text;
}

HOT int wanted_path(const struct ch_json_scan *scan)
{
    return scan->value_node < 0 ? -1 : scan->plan->nodes[scan->value_node].path;
}

HOT bool is_wanted(const struct ch_json_scan *scan)
{
    return wanted_path(scan) >= 0;
}

static struct spot report_scalar(struct ch_json_scan *scan, enum ch_json_type type,
                                 struct ch_span raw, const char *end)
{
    struct ch_json_value value = {.path = wanted_path(scan),
                                  .type = type,
                                  .raw = raw,
                                  .cut = scan->cut,
                                  .escaped = scan->escaped,
                                  .at = scan->value_at,
                                  .end = offset_of(scan, end)};
    return scan->on_value(scan->arg, &value) ? go(end, ST_AFTER) : fail(scan, end, CH_ERR_DENIED);
}

HOT struct spot report_bracket(struct ch_json_scan *scan, enum ch_json_type type, const char *p,
                               enum state next)
{
    if (!is_wanted(scan))
        return go(p + 1, next);
    struct ch_json_value value = {.path = wanted_path(scan),
                                  .type = type,
                                  .at = offset_of(scan, p),
                                  .end = offset_of(scan, p) + 1};
    return scan->on_value(scan->arg, &value) ? go(p + 1, next) : fail(scan, p + 1, CH_ERR_DENIED);
}

// The member that a key without escapes begins; only called on a path.
HOT void match_plain_key(struct ch_json_scan *scan, struct ch_span key)
{
    scan->value_node = ch_json_plan_find(scan->plan, scan->node[scan->depth], key);
    if (scan->value_node < 0 && scan->depth == 1 && !scan->lax_text)
        scan->ambiguous |= ch_json_plan_resembles(scan->plan, key, false);
}

// The same for any key.
static void match_key(struct ch_json_scan *scan, struct ch_span key)
{
    char plain[CH_JSON_VALUE_MAX];
    if (scan->escaped) {
        size_t len;
        // Only a cut key can fail here, and it is longer than any wanted one.
        (void)ch_json_unescape_any(key, plain, sizeof plain, &len);
        key = (struct ch_span){plain, len};
    }
    scan->value_node = scan->cut ? -1 : ch_json_plan_find(scan->plan, scan->node[scan->depth], key);
    if (scan->value_node < 0 && scan->depth == 1 && !scan->lax_text)
        scan->ambiguous |= ch_json_plan_resembles(scan->plan, key, scan->cut);
}

// --- strings ---------------------------------------------------------------------------------

static struct spot end_string(struct ch_json_scan *scan, const char *quote)
{
    bool kept = scan->mark != NULL;
    struct ch_span text = kept ? end_text(scan, quote) : (struct ch_span){0};
    if (scan->in_key) {
        scan->in_key = false;
        scan->value_node = -1;
        if (kept)
            match_key(scan, text);
        return go(quote + 1, ST_COLON);
    }
    return kept ? report_scalar(scan, CH_JSON_STRING, text, quote + 1) : go(quote + 1, ST_AFTER);
}

// A run of multi-byte characters, from any byte of one. The ranges of RFC 3629 §4: no overlong
// forms, no surrogates, nothing past U+10FFFF.
static struct spot in_utf8(struct ch_json_scan *scan, const char *p, const char *end)
{
    unsigned left = scan->utf8_left, low = scan->utf8_low, high = scan->utf8_high;
    for (; p < end; p++) {
        unsigned byte = (unsigned char)*p;
        if (left == 0 && byte < 0x80)
            break;
        if (left == 0) {
            low = 0xC2;
            high = 0xF4;
        }
        if (byte < low || byte > high)
            return fail(scan, p, CH_ERR_INVALID);
        if (left == 0) {
            left = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
            low = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
            high = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
        } else {
            left--;
            low = 0x80;
            high = 0xBF;
        }
    }
    scan->utf8_left = (uint8_t)left;
    scan->utf8_low = (uint8_t)low;
    scan->utf8_high = (uint8_t)high;
    return go(p, left ? ST_UTF8 : ST_STRING);
}

static bool is_short_escape(char c)
{
    return c == 'n' || c == '"' || c == '\\' || c == '/' || c == 't' || c == 'r' || c == 'b' ||
           c == 'f';
}

static struct spot end_hex(struct ch_json_scan *scan, const char *last_digit)
{
    if (scan->lax_text)
        return go(last_digit + 1, ST_STRING);
    if (ch_json_is_low_surrogate(scan->hex) != scan->wants_low)
        return fail(scan, last_digit, CH_ERR_INVALID);
    scan->wants_low = ch_json_is_high_surrogate(scan->hex);
    return go(last_digit + 1, scan->wants_low ? ST_LOW_SURROGATE : ST_STRING);
}

static struct spot in_hex(struct ch_json_scan *scan, const char *p, const char *end)
{
    for (; p < end; p++) {
        int digit = ch_json_hex_value(*p);
        if (digit < 0)
            return fail(scan, p, CH_ERR_INVALID);
        scan->hex = (uint16_t)(scan->hex << 4 | digit);
        if (--scan->hex_left == 0)
            return end_hex(scan, p);
    }
    return go(p, ST_HEX);
}

static struct spot in_escape(struct ch_json_scan *scan, const char *p, const char *end)
{
    if (p == end)
        return go(p, ST_ESCAPE);
    if (*p == 'u') {
        scan->hex = 0;
        scan->hex_left = 4;
        return in_hex(scan, p + 1, end);
    }
    if (scan->wants_low || !is_short_escape(*p))
        return fail(scan, p, CH_ERR_INVALID);
    return go(p + 1, ST_STRING);
}

static struct spot in_low_surrogate(struct ch_json_scan *scan, const char *p, const char *end)
{
    if (*p != '\\')
        return fail(scan, p, CH_ERR_INVALID);
    return in_escape(scan, p + 1, end);
}

// The byte in a string that is no plain text.
static struct spot in_string_stop(struct ch_json_scan *scan, const char *p, const char *end)
{
    if (*p == '"')
        return end_string(scan, p);
    if (*p == '\\') {
        scan->escaped = true;
        return in_escape(scan, p + 1, end);
    }
    if ((unsigned char)*p < 0x20)
        return fail(scan, p, CH_ERR_INVALID);
    return scan->lax_text ? go(p + 1, ST_STRING) : in_utf8(scan, p, end);
}

static struct spot in_string(struct ch_json_scan *scan, const char *p, const char *end)
{
    struct spot spot = {p, ST_STRING};
    while (spot.state == ST_STRING) {
        bool escaped = false;
        spot.at = ch_skip_text(spot.at, end, &escaped);
        scan->escaped |= escaped;
        if (spot.at == end)
            break;
        spot = in_string_stop(scan, spot.at, end);
    }
    return spot;
}

// --- literals and numbers --------------------------------------------------------------------

static const struct ch_span literals[] = {
    [CH_JSON_NULL] = {"null", 4}, [CH_JSON_FALSE] = {"false", 5}, [CH_JSON_TRUE] = {"true", 4}};

static struct spot in_literal(struct ch_json_scan *scan, const char *p, const char *end)
{
    struct ch_span literal = literals[scan->literal];
    for (; p < end && scan->literal_at < literal.len; p++, scan->literal_at++)
        if (*p != literal.ptr[scan->literal_at])
            return fail(scan, p, CH_ERR_INVALID);
    if (scan->literal_at < literal.len)
        return go(p, ST_LITERAL);
    if (!scan->mark)
        return go(p, ST_AFTER);
    scan->mark = NULL;
    return report_scalar(scan, (enum ch_json_type)scan->literal, literal, p);
}

static struct spot begin_literal(struct ch_json_scan *scan, const char *p, const char *end,
                                 enum ch_json_type type)
{
    scan->literal = (uint8_t)type;
    scan->literal_at = 1;
    return in_literal(scan, p + 1, end);
}

HOT struct spot end_number(struct ch_json_scan *scan, const char *p)
{
    if (!scan->mark)
        return go(p, ST_AFTER);
    return report_scalar(scan, CH_JSON_NUMBER, end_text(scan, p), p);
}

// In a run of digits, or behind the zero that stands alone.
HOT struct spot in_digits(struct ch_json_scan *scan, const char *p, const char *end,
                          enum state state)
{
    if (state != ST_ZERO)
        p = skip_digits(p, end);
    if (p == end)
        return go(p, state);
    if (*p == '.' && (state == ST_ZERO || state == ST_INTEGER))
        return go(p + 1, ST_POINT);
    if ((*p == 'e' || *p == 'E') && state != ST_EXPONENT_DIGITS)
        return go(p + 1, ST_EXPONENT);
    return end_number(scan, p);
}

// A place where at least one digit must stand; no integer has a zero in front.
HOT struct spot expect_digit(struct ch_json_scan *scan, const char *p, const char *end,
                             enum state next)
{
    if (!ch_json_is_digit(*p))
        return fail(scan, p, CH_ERR_INVALID);
    if (next == ST_INTEGER && *p == '0')
        next = ST_ZERO;
    return in_digits(scan, p + 1, end, next);
}

HOT struct spot in_exponent(struct ch_json_scan *scan, const char *p, const char *end)
{
    if (*p == '+' || *p == '-')
        return go(p + 1, ST_EXPONENT_SIGN);
    return expect_digit(scan, p, end, ST_EXPONENT_DIGITS);
}

// --- structure -------------------------------------------------------------------------------

HOT void enter_element(struct ch_json_scan *scan)
{
    int16_t array = scan->node[scan->depth];
    scan->value_node = array < 0 ? -1 : scan->plan->nodes[array].element;
}

HOT struct spot open_container(struct ch_json_scan *scan, const char *p, bool object)
{
    if (scan->depth == CH_JSON_DEPTH_MAX)
        return fail(scan, p, CH_ERR_LIMIT);
    uint64_t bit = UINT64_C(1) << scan->depth;
    scan->containers = object ? scan->containers | bit : scan->containers & ~bit;
    scan->node[++scan->depth] = scan->value_node;
    if (object)
        return report_bracket(scan, CH_JSON_OBJECT, p, ST_FIRST_KEY);
    struct spot spot = report_bracket(scan, CH_JSON_ARRAY, p, ST_FIRST_VALUE);
    enter_element(scan);
    return spot;
}

HOT struct spot close_container(struct ch_json_scan *scan, const char *p)
{
    bool object = *p == '}';
    if (scan->depth == 0 || is_object(scan) != object)
        return fail(scan, p, CH_ERR_INVALID);
    scan->value_node = scan->node[scan->depth--];
    return report_bracket(scan, object ? CH_JSON_OBJECT_END : CH_JSON_ARRAY_END, p, ST_AFTER);
}

HOT struct spot begin_scalar(struct ch_json_scan *scan, const char *p, const char *end, bool wanted)
{
    begin_text(scan, p, wanted);
    switch (*p) {
    case '-':
        return go(p + 1, ST_MINUS);
    case 'n':
        return begin_literal(scan, p, end, CH_JSON_NULL);
    case 'f':
        return begin_literal(scan, p, end, CH_JSON_FALSE);
    case 't':
        return begin_literal(scan, p, end, CH_JSON_TRUE);
    default: // a byte, not one of our enums
        return expect_digit(scan, p, end, ST_INTEGER);
    }
}

// The states in which blanks may stand before the byte that decides. Each goes straight on to what
// must follow, as long as the piece lasts.

// The closing quote of a short string that lies in one piece and has nothing in it to look at, or
// NULL. Most keys and most values of what SDKs and providers send are such, and spared all that the
// longer way keeps for the next piece.
HOT const char *end_of_short_text(const char *p, const char *end)
{
    const char *stop = end - p >= CH_SHORT_TEXT ? ch_find_short_stop(p) : NULL;
    return stop && *stop == '"' ? stop : NULL;
}

HOT struct spot in_value(struct ch_json_scan *scan, const char *p, const char *end,
                         enum state state)
{
    if (!find_token(&p, end))
        return go(p, state);
    if (*p == '{' || *p == '[')
        return open_container(scan, p, *p == '{');
    if (*p == ']' && state == ST_FIRST_VALUE)
        return close_container(scan, p);
    bool wanted = is_wanted(scan);
    if (wanted)
        scan->value_at = offset_of(scan, p);
    if (*p != '"')
        return begin_scalar(scan, p, end, wanted);
    const char *quote = end_of_short_text(p + 1, end);
    if (quote && !wanted)
        return go(quote + 1, ST_AFTER);
    begin_text(scan, p + 1, wanted);
    if (quote)
        return report_scalar(scan, CH_JSON_STRING, end_text(scan, quote), quote + 1);
    return in_string(scan, p + 1, end);
}

HOT struct spot in_key(struct ch_json_scan *scan, const char *p, const char *end, enum state state)
{
    if (!find_token(&p, end))
        return go(p, state);
    if (*p == '}' && state == ST_FIRST_KEY)
        return close_container(scan, p);
    if (*p != '"')
        return fail(scan, p, CH_ERR_INVALID);
    const char *quote = end_of_short_text(p + 1, end);
    if (quote) {
        scan->value_node = -1;
        if (scan->node[scan->depth] >= 0)
            match_plain_key(scan, (struct ch_span){p + 1, (size_t)(quote - p - 1)});
        return go(quote + 1, ST_COLON);
    }
    scan->in_key = true;
    begin_text(scan, p + 1, scan->node[scan->depth] >= 0);
    return in_string(scan, p + 1, end);
}

HOT struct spot in_colon(struct ch_json_scan *scan, const char *p, const char *end)
{
    if (!find_token(&p, end))
        return go(p, ST_COLON);
    return *p == ':' ? go(p + 1, ST_VALUE) : fail(scan, p, CH_ERR_INVALID);
}

HOT struct spot in_after(struct ch_json_scan *scan, const char *p, const char *end)
{
    if (!find_token(&p, end))
        return go(p, ST_AFTER);
    if (*p == '}' || *p == ']')
        return close_container(scan, p);
    if (*p != ',' || scan->depth == 0)
        return fail(scan, p, CH_ERR_INVALID);
    if (is_object(scan))
        return go(p + 1, ST_KEY);
    enter_element(scan);
    return go(p + 1, ST_VALUE);
}

// A state inside a key or scalar. Most of those end in the piece that they begin in and come here
// only for a string's or number's rest.
static struct spot in_token(struct ch_json_scan *scan, struct spot from, const char *end)
{
    const char *p = from.at;
    switch (from.state) {
    case ST_STRING:
        return in_string(scan, p, end);
    case ST_UTF8:
        return in_utf8(scan, p, end);
    case ST_ESCAPE:
        return in_escape(scan, p, end);
    case ST_HEX:
        return in_hex(scan, p, end);
    case ST_LOW_SURROGATE:
        return in_low_surrogate(scan, p, end);
    case ST_LITERAL:
        return in_literal(scan, p, end);
    case ST_MINUS:
        return expect_digit(scan, p, end, ST_INTEGER);
    case ST_ZERO:
    case ST_INTEGER:
    case ST_FRACTION:
    case ST_EXPONENT_DIGITS:
        return in_digits(scan, p, end, from.state);
    case ST_POINT:
        return expect_digit(scan, p, end, ST_FRACTION);
    case ST_EXPONENT:
        return in_exponent(scan, p, end);
    case ST_EXPONENT_SIGN:
        return expect_digit(scan, p, end, ST_EXPONENT_DIGITS);
    case ST_VALUE:
    case ST_FIRST_VALUE:
    case ST_KEY:
    case ST_FIRST_KEY:
    case ST_COLON:
    case ST_AFTER:
    case ST_FAILED:
        break;
    }
    return go(p, ST_FAILED);
}

// One member or element, or the rest of one. What is usual follows at once, so that a member costs
// one turn, and each handler stands in the code once.
HOT struct spot step(struct ch_json_scan *scan, struct spot spot, const char *end)
{
    if (spot.state >= ST_STRING)
        return in_token(scan, spot, end);
    if (spot.state == ST_AFTER)
        spot = in_after(scan, spot.at, end);
    if (spot.state == ST_KEY || spot.state == ST_FIRST_KEY)
        spot = in_key(scan, spot.at, end, spot.state);
    if (spot.state == ST_COLON)
        spot = in_colon(scan, spot.at, end);
    if (spot.state == ST_VALUE || spot.state == ST_FIRST_VALUE)
        spot = in_value(scan, spot.at, end, spot.state);
    return spot;
}

enum ch_err ch_json_scan_feed(struct ch_json_scan *scan, struct ch_span piece)
{
    if (piece.len == 0)
        return scan->err;
    const char *end = piece.ptr + piece.len;
    struct spot spot = {piece.ptr, (enum state)scan->state};
    scan->piece = piece.ptr;
    if (scan->mark)
        scan->mark = piece.ptr;
    while (spot.at < end && spot.state != ST_FAILED)
        spot = step(scan, spot, end);
    if (scan->mark && spot.state != ST_FAILED)
        keep_text(scan, end);
    scan->state = (uint8_t)spot.state;
    scan->offset += (uint64_t)(spot.at - piece.ptr);
    return scan->err;
}

enum ch_err ch_json_scan_finish(struct ch_json_scan *scan)
{
    enum state state = (enum state)scan->state;
    bool digits = state == ST_ZERO || state == ST_INTEGER || state == ST_FRACTION ||
                  state == ST_EXPONENT_DIGITS;
    if (digits && scan->depth == 0) {
        scan->piece = "";
        if (scan->mark)
            scan->mark = scan->piece;
        state = end_number(scan, scan->piece).state;
    }
    scan->state = (uint8_t)state;
    if (scan->err)
        return scan->err;
    return state == ST_AFTER && scan->depth == 0 ? CH_OK : CH_ERR_INVALID;
}
