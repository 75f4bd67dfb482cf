// SPDX-License-Identifier: Apache-2.0
#include "domain/scrub.h"

#include "base/secret.h"

#include "scrub_private.h"

// More than is ever held at once, so that it is moved to the front and given out in large pieces.
#define HELD_UNITS 1024
#define HELD_BYTES (8 * HELD_UNITS)

// What becomes of a held unit; a mark with quotes of depth d is MARK_QUOTED + d.
enum { MARK_NONE, MARK_TEXT, MARK_QUOTED };

struct ch_scrub_rules {
    struct ch_scrub_tables tables;
    struct ch_scrub_patterns *patterns;
};

// Finds without changing.
struct finder {
    struct ch_scrub_lines lines;
    struct ch_scrub_reader reader;
    struct ch_scrub_tokens tokens;
    uint64_t next; // position of the next unit
};

struct ch_scrub {
    struct finder finder;
    struct ch_scrub_names names;
    struct ch_buf *out; // of the call; NULL: only look
    enum ch_err err;
    uint64_t redactions;
    bool is_after_mark; // the unit given out last was redacted
    // The units held, from position `next` - `held` on, and their bytes.
    unsigned held, raw_len;
    unsigned char lens[HELD_UNITS], marks[HELD_UNITS];
    char raw[HELD_BYTES];
};

enum ch_err ch_scrub_rules_new(const struct ch_span *patterns, size_t count,
                               struct ch_scrub_rules **rules_out, struct ch_why *why)
{
    struct ch_scrub_rules *rules = ch_zcalloc(1, sizeof *rules);
    if (!rules)
        return ch_why_set(why, CH_ERR_NOMEM, "no memory for the rules of scrubbing");
    ch_scrub_tables_init(&rules->tables);
    enum ch_err err = ch_scrub_patterns_new(patterns, count, &rules->patterns, why);
    if (err)
        ch_zfree(rules);
    else
        *rules_out = rules;
    return err;
}

void ch_scrub_rules_free(struct ch_scrub_rules *rules)
{
    if (!rules)
        return;
    ch_scrub_patterns_free(rules->patterns);
    ch_zfree(rules);
}

static void finder_init(struct finder *finder, const struct ch_scrub_rules *rules,
                        enum ch_scrub_mode mode, ch_scrub_unit_fn on_unit, void *arg)
{
    *finder = (struct finder){
        .lines = {.mode = mode},
        .reader = {.on_unit = on_unit, .arg = arg},
        .tokens = {.tables = &rules->tables},
    };
}

static void finder_feed(struct finder *finder, struct ch_span piece)
{
    for (size_t i = 0; i < piece.len; i++) {
        bool is_json = ch_scrub_lines_take(&finder->lines, piece.ptr[i]);
        ch_scrub_reader_take(&finder->reader, piece.ptr[i], is_json, finder->lines.is_prefix);
    }
}

// ---- Output

static void fail(struct ch_scrub *scrub, enum ch_err err)
{
    if (!scrub->err)
        scrub->err = err;
}

static void put(struct ch_scrub *scrub, const char *bytes, size_t size)
{
    if (!scrub->err && scrub->out && size)
        fail(scrub, ch_buf_append(scrub->out, bytes, size));
}

static void put_mark(struct ch_scrub *scrub, unsigned mark)
{
    char slashes[CH_SCRUB_SLASHES_MAX];
    size_t depth = mark - MARK_QUOTED, count = mark == MARK_TEXT ? 0 : ((size_t)1 << depth) - 1;
    memset(slashes, '\\', sizeof slashes);
    put(scrub, slashes, count);
    put(scrub, "\"", mark != MARK_TEXT);
    put(scrub, CH_SCRUB_MARK, sizeof CH_SCRUB_MARK - 1);
    put(scrub, slashes, count);
    put(scrub, "\"", mark != MARK_TEXT);
    scrub->redactions++;
}

// Gives out the units in front of position `end` and forgets them.
static void release(struct ch_scrub *scrub, uint64_t end)
{
    uint64_t first = scrub->finder.next - scrub->held;
    unsigned count = end > first ? (unsigned)(end - first) : 0;
    unsigned at = 0, plain_at = 0; // in raw
    for (unsigned i = 0; i < count; i++) {
        if (scrub->marks[i] != MARK_NONE) {
            put(scrub, scrub->raw + plain_at, at - plain_at);
            if (!scrub->is_after_mark)
                put_mark(scrub, scrub->marks[i]);
            plain_at = at + scrub->lens[i];
        }
        scrub->is_after_mark = scrub->marks[i] != MARK_NONE;
        at += scrub->lens[i];
    }
    put(scrub, scrub->raw + plain_at, at - plain_at);
    scrub->held -= count;
    scrub->raw_len -= at;
    memmove(scrub->lens, scrub->lens + count, scrub->held);
    memmove(scrub->marks, scrub->marks + count, scrub->held);
    memmove(scrub->raw, scrub->raw + at, scrub->raw_len);
}

static void release_decided(struct ch_scrub *scrub)
{
    uint64_t tokens = ch_scrub_tokens_hold(&scrub->finder.tokens, scrub->finder.next);
    uint64_t names = ch_scrub_names_hold(&scrub->names, scrub->finder.next);
    release(scrub, tokens < names ? tokens : names);
    CH_ASSERT(scrub->held <= CH_SCRUB_HOLD_MAX);
}

static void hold(struct ch_scrub *scrub, const struct ch_scrub_unit *unit)
{
    if (scrub->held == HELD_UNITS || scrub->raw_len + unit->len > HELD_BYTES)
        release_decided(scrub);
    if (unit->len == 1) // nearly always
        scrub->raw[scrub->raw_len] = unit->raw[0];
    else
        memcpy(scrub->raw + scrub->raw_len, unit->raw, unit->len);
    scrub->raw_len += unit->len;
    scrub->lens[scrub->held] = unit->len;
    scrub->marks[scrub->held++] = MARK_NONE;
}

static void mark_range(struct ch_scrub *scrub, uint64_t from, uint64_t to, unsigned mark)
{
    uint64_t first = scrub->finder.next - scrub->held;
    CH_ASSERT(from >= first || from >= to); // else what is to be redacted has been given out
    for (uint64_t i = from; i < to; i++)
        if (scrub->marks[i - first] == MARK_NONE)
            scrub->marks[i - first] = (unsigned char)mark;
}

static void mark_names(struct ch_scrub *scrub, struct ch_scrub_range range)
{
    mark_range(scrub, range.from, range.to,
               range.quote == CH_SCRUB_NO_QUOTE ? MARK_TEXT : MARK_QUOTED + (unsigned)range.quote);
}

static void on_unit(void *arg, const struct ch_scrub_unit *unit)
{
    struct ch_scrub *scrub = arg;
    uint64_t position = scrub->finder.next;
    hold(scrub, unit);
    scrub->finder.next++;
    uint64_t token = ch_scrub_tokens_read(&scrub->finder.tokens, unit, position);
    if (token != CH_SCRUB_NOWHERE)
        mark_range(scrub, token, position + 1, MARK_TEXT);
    mark_names(scrub, ch_scrub_names_read(&scrub->names, unit, position));
}

enum ch_err ch_scrub_new(const struct ch_scrub_rules *rules, enum ch_scrub_mode mode,
                         struct ch_scrub **scrub_out)
{
    struct ch_scrub *scrub = ch_zcalloc(1, sizeof *scrub);
    if (!scrub)
        return CH_ERR_NOMEM;
    finder_init(&scrub->finder, rules, mode, on_unit, scrub);
    scrub->names.quote = CH_SCRUB_NO_QUOTE;
    *scrub_out = scrub;
    return CH_OK;
}

void ch_scrub_free(struct ch_scrub *scrub)
{
    ch_zfree(scrub);
}

enum ch_err ch_scrub_feed(struct ch_scrub *scrub, struct ch_span piece, struct ch_buf *out)
{
    scrub->out = out;
    if (scrub->err)
        return scrub->err;
    finder_feed(&scrub->finder, piece);
    release_decided(scrub);
    return scrub->err;
}

enum ch_err ch_scrub_finish(struct ch_scrub *scrub, bool is_cut, struct ch_buf *out)
{
    scrub->out = out;
    if (scrub->err)
        return scrub->err;
    ch_scrub_reader_finish(&scrub->finder.reader);
    uint64_t end = scrub->finder.next;
    mark_names(scrub, ch_scrub_names_finish(&scrub->names, end));
    uint64_t unfinished = ch_scrub_tokens_unfinished(&scrub->finder.tokens);
    if (is_cut && unfinished != CH_SCRUB_NOWHERE)
        mark_range(scrub, unfinished, end, MARK_TEXT);
    release(scrub, end);
    return scrub->err;
}

unsigned ch_scrub_found(const struct ch_scrub *scrub)
{
    return scrub->finder.tokens.found;
}

uint64_t ch_scrub_redactions(const struct ch_scrub *scrub)
{
    return scrub->redactions;
}

// ---- Whole texts

enum ch_err ch_scrub_patterns(const struct ch_scrub_rules *rules, enum ch_scrub_mode mode,
                              struct ch_span text, struct ch_buf *out,
                              struct ch_scrub_report *report)
{
    return ch_scrub_patterns_apply(rules->patterns, mode, text, out, report);
}

static enum ch_err scrub_streaming(const struct ch_scrub_rules *rules, enum ch_scrub_mode mode,
                                   struct ch_span text, bool is_cut, struct ch_buf *out,
                                   struct ch_scrub_report *report)
{
    struct ch_scrub *scrub;
    enum ch_err err = ch_scrub_new(rules, mode, &scrub);
    if (err)
        return err;
    err = ch_scrub_feed(scrub, text, out);
    if (!err)
        err = ch_scrub_finish(scrub, is_cut, out);
    report->found = ch_scrub_found(scrub);
    report->redactions = ch_scrub_redactions(scrub);
    ch_scrub_free(scrub);
    return err;
}

enum ch_err ch_scrub_text(const struct ch_scrub_rules *rules, enum ch_scrub_mode mode,
                          struct ch_span text, bool is_cut, struct ch_buf *out,
                          struct ch_scrub_report *report_out)
{
    struct ch_scrub_report report = {0};
    struct ch_buf half;
    size_t start = out->len;
    ch_buf_init(&half, out->max);
    enum ch_err err = scrub_streaming(rules, mode, text, is_cut, &half, &report);
    if (!err)
        err = ch_scrub_patterns(rules, mode, ch_buf_span(&half), out, &report);
    ch_buf_fini(&half);
    if (err)
        out->len = start;
    else
        *report_out = report;
    return err;
}

static void on_looked_unit(void *arg, const struct ch_scrub_unit *unit)
{
    struct finder *finder = arg;
    (void)ch_scrub_tokens_read(&finder->tokens, unit, finder->next++);
}

// How many bytes at the front neither continue what has begun nor begin a prefix or an escape;
// never all of them.
static size_t count_dull(const struct finder *finder, struct ch_span text)
{
    const struct ch_scrub_tokens *tokens = &finder->tokens;
    size_t count = 0;
    if (finder->reader.slashes || tokens->open || tokens->slugs || tokens->prefixes)
        return 0;
    while (count + 1 < text.len &&
           !ch_scrub_tables_may_begin(tokens->tables, text.ptr[count], text.ptr[count + 1]))
        count++;
    return count;
}

unsigned ch_scrub_look(const struct ch_scrub_rules *rules, enum ch_scrub_mode mode,
                       struct ch_span text)
{
    struct finder finder;
    finder_init(&finder, rules, mode, on_looked_unit, &finder);
    while (text.len) {
        if (mode != CH_SCRUB_SSE) // which has to see its lines
            text = ch_span_sub(text, count_dull(&finder, text));
        finder_feed(&finder, (struct ch_span){text.ptr, 1});
        text = ch_span_sub(text, 1);
    }
    ch_scrub_reader_finish(&finder.reader);
    return finder.tokens.found;
}
