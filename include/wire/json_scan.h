// SPDX-License-Identifier: Apache-2.0
// An incremental JSON scanner: walks a document at memory speed, validates it (RFC 8259, UTF-8),
// reports the few members asked for as raw slices, skips the rest without building a tree.
//
// The same scanner serves request bodies, response bodies and SSE data. It takes a document in
// pieces cut at any byte and reports the same whatever the cuts, uses constant memory (nesting ≤
// 64), never allocates after init and never parses a number. A plan is immutable and shared by
// threads; a scan belongs to one document.
#ifndef CH_WIRE_JSON_SCAN_H
#define CH_WIRE_JSON_SCAN_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

#define CH_JSON_DEPTH_MAX 64
#define CH_JSON_VALUE_MAX 512 // bytes of a scalar reported; a longer one is reported cut and marked
#define CH_JSON_KEY_MAX   64  // bytes of an unescaped key; a longer one matches no path
#define CH_JSON_PATHS_MAX 256

// The paths a caller wants, by index. "model" · "usage.prompt_tokens_details.cached_tokens" ·
// "candidates[].finishReason" ("[]": every element) · "" (the document itself). A document that is
// itself an array is matched element by element when a path begins with "[]"
// ("[].usageMetadata.promptTokenCount"). A NULL is left out, and the others keep their indices. CH_ERR_INVALID for a path that reads otherwise,
// CH_ERR_CONFLICT for one that occurs twice, CH_ERR_LIMIT past CH_JSON_PATHS_MAX.
struct ch_json_plan;
enum ch_err ch_json_plan_new(const char *const *paths, size_t count,
                             struct ch_json_plan **plan_out) CH_MUST_USE;
void ch_json_plan_free(struct ch_json_plan *plan);

enum ch_json_type {
    CH_JSON_NULL,
    CH_JSON_FALSE,
    CH_JSON_TRUE,
    CH_JSON_NUMBER,
    CH_JSON_STRING,
    CH_JSON_OBJECT,     // its opening brace; members asked for follow
    CH_JSON_ARRAY,      // its opening bracket
    CH_JSON_OBJECT_END, // reported for a wanted object when it closes
    CH_JSON_ARRAY_END,
};

struct ch_json_value {
    int path; // index into the plan's paths
    enum ch_json_type type;
    struct ch_span raw; // scalars: the bytes as they stand, a string without its quotes and not
                        // unescaped; borrowed until the callback returns
    bool cut;           // raw holds only the first CH_JSON_VALUE_MAX bytes
    bool escaped;       // a string that contains a backslash escape
    uint64_t at;        // offset in the document of the value's first byte (a string's opening
                        // quote; of an _END: the closing bracket)
    uint64_t end;       // offset just behind the value (containers: behind the bracket reported)
};

// Called in document order. A member that occurs twice is reported twice. Return false to stop: the
// scan then fails with CH_ERR_DENIED.
typedef bool (*ch_json_value_fn)(void *arg, const struct ch_json_value *value);

struct ch_json_scan {
    const struct ch_json_plan *plan;
    ch_json_value_fn on_value;
    void *arg;
    uint64_t offset; // bytes of the document fed so far
    // Set after init by an observer that must not lose a document over a model's broken text: bytes
    // that are not UTF-8 and halves of surrogate pairs pass inside strings.
    bool lax_text;
    // private
    bool in_key, escaped, cut, ambiguous;
    uint8_t state, depth;
    uint8_t literal, literal_at; // which of null, false, true; how much of it was read
    uint8_t utf8_left, utf8_low, utf8_high;
    uint8_t hex_left;
    bool wants_low; // a high surrogate stands before
    uint16_t hex;
    uint16_t text_len;
    int16_t value_node;  // where in the plan the next value stands; -1: off every path
    uint64_t containers; // bit per level: 1 object, 0 array
    uint64_t value_at;
    const char *piece; // where the piece being fed begins
    const char *mark;  // where in it the text to keep begins; NULL while none is kept
    enum ch_err err;
    int16_t node[CH_JSON_DEPTH_MAX + 1]; // the plan's node of each open container, outermost at 1
    char text[CH_JSON_VALUE_MAX];        // what earlier pieces held of the text to keep
};

void ch_json_scan_init(struct ch_json_scan *scan, const struct ch_json_plan *plan,
                       ch_json_value_fn on_value, void *arg);
// Feeds the next piece. CH_OK (also while incomplete), CH_ERR_INVALID (not JSON: scan->offset is
// the byte), CH_ERR_LIMIT (nested too deep), CH_ERR_DENIED (the callback said stop). An error
// stays: later calls return it again.
enum ch_err ch_json_scan_feed(struct ch_json_scan *scan, struct ch_span piece) CH_MUST_USE;
// The document must be complete: exactly one value, blanks around it. CH_ERR_INVALID otherwise.
// A number that is the whole document is reported here.
enum ch_err ch_json_scan_finish(struct ch_json_scan *scan) CH_MUST_USE;
// A top-level key that some parser downstream may take for a top-level wanted name though it is not
// equal (security.md §4.3): it differs in case (also by the Kelvin sign and the long s, which Go's
// decoder folds), in surrounding blanks, or in what follows a NUL.
static inline bool ch_json_scan_is_ambiguous(const struct ch_json_scan *scan)
{
    return scan->ambiguous;
}

// Unescapes a raw string into UTF-8. CH_ERR_LIMIT when `out` is too small, CH_ERR_INVALID on a
// broken escape, a lone surrogate or a NUL.
enum ch_err ch_json_unescape(struct ch_span raw, char *out, size_t size,
                             size_t *len_out) CH_MUST_USE;
// A raw number as a non-negative integer; CH_ERR_INVALID for a sign, fraction, exponent or
// overflow.
enum ch_err ch_json_to_count(struct ch_span raw, int64_t *count_out) CH_MUST_USE;

#endif
