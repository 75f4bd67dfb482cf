// SPDX-License-Identifier: Apache-2.0
#include "wire/sse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

// What the observer said: "[name]data;" for each event, "|" where a block ended.
struct story {
    char text[8192];
    size_t len;
    char data[4096]; // of the event being read
    size_t data_len;
};

static void tell(struct story *story, struct ch_span text)
{
    assert_true(text.len < sizeof story->text - story->len);
    memcpy(story->text + story->len, text.ptr, text.len);
    story->len += text.len;
    story->text[story->len] = '\0';
}

static void on_data(void *arg, struct ch_span piece)
{
    struct story *story = arg;
    assert_true(piece.len > 0);
    assert_true(piece.len <= sizeof story->data - story->data_len);
    memcpy(story->data + story->data_len, piece.ptr, piece.len);
    story->data_len += piece.len;
}

static void on_event(void *arg, struct ch_span name)
{
    struct story *story = arg;
    tell(story, CH_SPAN("["));
    tell(story, name);
    tell(story, CH_SPAN("]"));
    tell(story, (struct ch_span){story->data, story->data_len});
    tell(story, CH_SPAN(";"));
    story->data_len = 0;
}

static const struct ch_sse_handler handler = {on_data, on_event};

// Each piece is a block of its own, so that the address sanitizer sees a byte read too far.
static void feed_copy(struct ch_sse *sse, struct ch_span piece, struct story *story)
{
    char *copy = malloc(piece.len ? piece.len : 1);
    assert_non_null(copy);
    memcpy(copy, piece.ptr, piece.len);
    for (size_t at = 0; at < piece.len;) {
        bool block_end;
        size_t used = ch_sse_feed(sse, (struct ch_span){copy + at, piece.len - at}, &handler, story,
                                  &block_end);
        assert_in_range(used, 1, piece.len - at);
        assert_true(block_end || at + used == piece.len);
        if (block_end)
            tell(story, CH_SPAN("|"));
        at += used;
    }
    free(copy);
}

static void observe(struct ch_span stream, size_t first, size_t rest, struct story *story)
{
    struct ch_sse sse;
    story->len = story->data_len = 0;
    story->text[0] = '\0';
    memset(&sse, 0xA5, sizeof sse);
    ch_sse_init(&sse);
    for (size_t at = 0, size = first; at < stream.len; at += size, size = rest) {
        size_t left = stream.len - at;
        feed_copy(&sse, (struct ch_span){stream.ptr + at, left < size ? left : size}, story);
    }
    if (story->data_len) {
        tell(story, CH_SPAN("..."));
        tell(story, (struct ch_span){story->data, story->data_len});
    }
}

// Whole, cut at every byte, byte by byte: the story is the same.
static void expect(const char *text, const char *expected)
{
    static struct story story;
    struct ch_span stream = ch_span_of(text);
    for (size_t cut = 1; cut <= stream.len; cut++) {
        observe(stream, cut, stream.len, &story);
        assert_string_equal(story.text, expected);
    }
    for (size_t size = 1; size < 20; size++) {
        observe(stream, size, size, &story);
        assert_string_equal(story.text, expected);
    }
}

static void reads_events(void **state)
{
    (void)state;
    expect("data: {\"a\":1}\n\n", "[]{\"a\":1};|");
    expect("event: message_start\ndata: x\n\nevent: ping\ndata: y\n\n",
           "[message_start]x;|[ping]y;|");
    expect("data: a\n\ndata: [DONE]\n\n", "[]a;|[][DONE];|");
    expect("id: 7\nretry: 10\ndata: a\nid\n\n", "[]a;|");
    expect("data: tail", "...tail");
    expect("data: a\n", "...a");
}

static void knows_all_line_ends(void **state)
{
    (void)state;
    expect("event: e\rdata: a\r\rdata: b\r\r", "[e]a;|[]b;|");
    expect("event: e\r\ndata: a\r\n\r\ndata: b\r\n\r\n", "[e]a;|[]b;|");
    expect("event: e\r\ndata: a\n\r\ndata: b\r\n\ndata: c\n\rdata: d\r\r\n",
           "[e]a;|[]b;|[]c;|[]d;|");
    expect("data: a\r\n\n\r\n\r\r\n", "[]a;||||");
}

static void joins_data_lines(void **state)
{
    (void)state;
    expect("data: a\ndata: b\ndata:c\n\n", "[]a\nb\nc;|");
    expect("data: a\n: comment\nevent: e\ndata: b\n\n", "[e]a\nb;|");
    expect("data\ndata\n\n", "[]\n;|");
    expect("data:\n\n", "[];|");
    expect("data\n\n", "[];|");
}

static void follows_the_field_grammar(void **state)
{
    (void)state;
    expect("data:a\n\ndata:  b\n\ndata: c: d\n\n", "[]a;|[] b;|[]c: d;|");
    expect("Data: a\n\n data: b\n\ndatax: c\n\ndat: d\n\ndata : e\n\n", "|||||");
    expect("a-field-name-of-more-than-eight: x\ndatadata: y\ndata: z\n\n", "[]z;|");
    expect("event\ndata: a\n\n", "[]a;|");
    expect("event: one\nevent: two\ndata: a\n\ndata: b\n\n", "[two]a;|[]b;|");
    expect("event: e\nevent\ndata: a\n\n", "[]a;|");
}

// wire.md §2.6, §5: comments and keep-alives are no events, but blocks of their own.
static void passes_over_comments(void **state)
{
    (void)state;
    expect(": OPENROUTER PROCESSING\n\ndata: a\n\n: keep-alive\n\n:\n\n", "|[]a;|||");
    expect(": ka\ndata: a\n\n", "[]a;|");
    expect("event: ping\n\ndata: a\n\n", "|[]a;|");
    expect("\n\ndata: a\n\n\n", "||[]a;||");
}

static void passes_over_a_leading_bom(void **state)
{
    (void)state;
    expect("\xEF\xBB\xBF"
           "data: a\n\n\xEF\xBB\xBF"
           "data: b\n\n",
           "[]a;||");
    expect("\xEF\xBB\xBF"
           "event: e\ndata: a\n\n",
           "[e]a;|");
    expect("\xEF\xBB\xBF\n\ndata: a\n\n", "||[]a;|");
    expect("\xEF\xBB\xBF: c\n\ndata: a\n\n", "|[]a;|");
    expect("\xEF\xBB"
           "data: a\n\ndata: b\n\n",
           "|[]b;|");
}

static void cuts_long_names_only(void **state)
{
    (void)state;
    char text[512], expected[512];
    snprintf(text, sizeof text, "event: %0100d\ndata: %0200d\n\n", 0, 0);
    snprintf(expected, sizeof expected, "[%0*d]%0200d;|", CH_SSE_NAME_MAX, 0, 0);
    expect(text, expected);
}

static void passes_any_byte_of_data(void **state)
{
    (void)state;
    static struct story story;
    observe(CH_SPAN("data: a\0b\x01\xFF\n\n"), 3, 4, &story);
    assert_int_equal(story.len, 9);
    assert_memory_equal(story.text, "[]a\0b\x01\xFF;|", 9);
}

// The end of a block is exact, so that a relay can drop the block and nothing else (wire.md §2.1).
static void consumes_exactly_one_block(void **state)
{
    (void)state;
    static const char *const ends[] = {"\n\n", "\r\n\r\n", "\r\r", "\n\r\n"};
    static struct story story;
    char text[64];
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct ch_sse sse;
        bool block_end;
        ch_sse_init(&sse);
        size_t len = (size_t)snprintf(text, sizeof text, "data: a%s", ends[i]);
        snprintf(text + len, sizeof text - len, "data: b%s", ends[i]);
        assert_int_equal(ch_sse_feed(&sse, ch_span_of(text), &handler, &story, &block_end), len);
        assert_true(block_end);
        assert_int_equal(ch_sse_feed(&sse, ch_span_of(text + len), &handler, &story, &block_end),
                         strlen(text + len));
        assert_true(block_end);
    }
}

static void swallows_the_late_lf(void **state)
{
    (void)state;
    static struct story story;
    struct ch_sse sse;
    bool block_end;
    ch_sse_init(&sse);
    assert_int_equal(ch_sse_feed(&sse, CH_SPAN("data: a\r\n\r"), &handler, &story, &block_end), 10);
    assert_true(block_end);
    assert_int_equal(ch_sse_feed(&sse, CH_SPAN("\n"), &handler, &story, &block_end), 1);
    assert_false(block_end);
    assert_int_equal(ch_sse_feed(&sse, (struct ch_span){NULL, 0}, &handler, &story, &block_end), 0);
    assert_false(block_end);
}

// An event that the end of the stream cuts off anywhere, for an observer that wants it.
static void ends_a_cut_event_on_request(void **state)
{
    (void)state;
    expect("data: a"
           "\n\n",
           "[]a;|");
    expect("data: a\r"
           "\n\n",
           "[]a;|");
    expect("data: a\n"
           "\n\n",
           "[]a;||");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_events),
        cmocka_unit_test(knows_all_line_ends),
        cmocka_unit_test(joins_data_lines),
        cmocka_unit_test(follows_the_field_grammar),
        cmocka_unit_test(passes_over_comments),
        cmocka_unit_test(passes_over_a_leading_bom),
        cmocka_unit_test(cuts_long_names_only),
        cmocka_unit_test(passes_any_byte_of_data),
        cmocka_unit_test(consumes_exactly_one_block),
        cmocka_unit_test(swallows_the_late_lf),
        cmocka_unit_test(ends_a_cut_event_on_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
