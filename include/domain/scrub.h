// SPDX-License-Identifier: Apache-2.0
// The scrubber: captured text goes in, the same text with `[REDACTED]` in place of secrets comes
// out.
//
// Three finders, described in docs/scrubbing.md: tokens by their shape (one pass, no backtracking),
// the values of JSON members with telling names, and the operator's own patterns (PCRE2, with
// limits). The first two stream: the text may be cut at any byte and the output is the same; what
// has been appended is safe to keep at every moment. Bytes outside redactions are unchanged, and
// valid JSON stays valid. Called by the capture pipeline, off the loops. Pure; a `struct
// ch_scrub_rules` is immutable and may be used by any number of threads, a `struct ch_scrub` by
// one.
#ifndef CH_DOMAIN_SCRUB_H
#define CH_DOMAIN_SCRUB_H

#include "base/err.h"
#include "base/str.h"

#define CH_SCRUB_MARK         "[REDACTED]"
#define CH_SCRUB_PATTERNS_MAX 32  // of the operator
#define CH_SCRUB_PATTERN_MAX  512 // bytes of one
// What one attempt of an operator's pattern may use (pcre2api, "The match context").
#define CH_SCRUB_MATCH_LIMIT    5000
#define CH_SCRUB_DEPTH_LIMIT    5000
#define CH_SCRUB_HEAP_LIMIT_KIB 4096
// Bytes that it sees at once; longer texts are searched in windows that overlap, so that every
// match of up to CH_SCRUB_MATCH_MAX bytes is found.
#define CH_SCRUB_WINDOW    4096
#define CH_SCRUB_MATCH_MAX 1024
// Characters held back until it is clear whether they begin a token: those of a wrapped key with
// the longest slug, up to where it is recognised (3 + 48 + 4 + 20), and room. A longer token is
// redacted as it passes.
#define CH_SCRUB_HOLD_MAX 80
// The streaming finders make at most this of n bytes: `"token":1` grows the most. A pattern that
// matches single bytes makes more: the cap of the output then refuses the text.
#define CH_SCRUB_OUT_MAX(n) (3 * (n) + CH_SCRUB_HOLD_MAX)

enum ch_scrub_mode {
    CH_SCRUB_PLAIN,
    CH_SCRUB_JSON, // one document, or several
    CH_SCRUB_SSE,  // each data line is JSON when it begins as JSON does, else plain text
};

// What kinds of token were found: a set.
enum {
    CH_SCRUB_PROVIDER_KEY = 1 << 0, // a key of a model provider, by its prefix
    CH_SCRUB_WRAPPED_KEY = 1 << 1,  // our own
    CH_SCRUB_OTHER_TOKEN = 1 << 2,  // bearer tokens, JWTs, Slack, GitHub, AWS
};

struct ch_scrub_report {
    unsigned found;      // kinds of token
    uint64_t redactions; // marks written by the two streaming finders
    uint64_t matches;    // of the operator's patterns
    bool is_withheld;    // a pattern reached a limit: the whole text was replaced
};

struct ch_scrub_rules; // opaque

// Compiles the operator's patterns (none is fine); they are not kept. The sentence names the
// pattern by its number from 1 and the offset in it. CH_ERR_INVALID, CH_ERR_LIMIT, CH_ERR_NOMEM.
enum ch_err ch_scrub_rules_new(const struct ch_span *patterns, size_t count,
                               struct ch_scrub_rules **rules_out, struct ch_why *why) CH_MUST_USE;
void ch_scrub_rules_free(struct ch_scrub_rules *rules);

// ---- The streaming finders

struct ch_scrub; // opaque; borrows the rules

enum ch_err ch_scrub_new(const struct ch_scrub_rules *rules, enum ch_scrub_mode mode,
                         struct ch_scrub **scrub_out) CH_MUST_USE;
// Appends to `out` what is decided by now. NULL: only look. An error of `out` stays: later calls
// return it again, and what `out` holds is a front part of the scrubbed text.
enum ch_err ch_scrub_feed(struct ch_scrub *scrub, struct ch_span piece,
                          struct ch_buf *out) CH_MUST_USE;
// Appends the rest. `is_cut`: the text went on behind its last piece (a size cap, a broken stream),
// so that the front of a token at its end is redacted too. Nothing is fed after it.
enum ch_err ch_scrub_finish(struct ch_scrub *scrub, bool is_cut, struct ch_buf *out) CH_MUST_USE;
unsigned ch_scrub_found(const struct ch_scrub *scrub);      // kinds of token so far
uint64_t ch_scrub_redactions(const struct ch_scrub *scrub); // marks written so far
void ch_scrub_free(struct ch_scrub *scrub);                 // wipes what it holds; NULL is fine

// ---- Whole texts

// Appends `text` with the matches of the operator's patterns replaced; adds to the report. A
// pattern sees the content of one JSON string (escapes decoded) or one number at a time, and plain
// text whole. A pattern that reaches a limit makes the whole text one mark. CH_ERR_NOMEM,
// CH_ERR_LIMIT: drop the text, it is not scrubbed.
enum ch_err ch_scrub_patterns(const struct ch_scrub_rules *rules, enum ch_scrub_mode mode,
                              struct ch_span text, struct ch_buf *out,
                              struct ch_scrub_report *report) CH_MUST_USE;

// All three finders, appended to `out`, whose `max` is the caller's cap. CH_ERR_NOMEM,
// CH_ERR_LIMIT: `out` is as it was.
enum ch_err ch_scrub_text(const struct ch_scrub_rules *rules, enum ch_scrub_mode mode,
                          struct ch_span text, bool is_cut, struct ch_buf *out,
                          struct ch_scrub_report *report_out) CH_MUST_USE;

// The tripwire: the kinds of token in `text`, 0 for none. Allocates nothing, changes nothing. A
// prompt is flagged for CH_SCRUB_PROVIDER_KEY and CH_SCRUB_WRAPPED_KEY.
unsigned ch_scrub_look(const struct ch_scrub_rules *rules, enum ch_scrub_mode mode,
                       struct ch_span text);

#endif
