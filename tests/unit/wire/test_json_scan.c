// SPDX-License-Identifier: Apache-2.0
#include "wire/json_scan.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define NO_SPLIT SIZE_MAX

// What a scan said, as text, so that two scans can be compared.
struct story {
    char text[16384];
    size_t len;
    int stop_after; // reports before the callback says stop; -1: never
};

static void tell(struct story *story, const char *format, ...) CH_PRINTF(2, 3);
static void tell(struct story *story, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(story->text + story->len, sizeof story->text - story->len, format, args);
    va_end(args);
    assert_true(len >= 0 && (size_t)len < sizeof story->text - story->len);
    story->len += (size_t)len;
}

static const char *const type_names[] = {"null",   "false", "true",       "number",   "string",
                                         "object", "array", "object_end", "array_end"};

static bool on_value(void *arg, const struct ch_json_value *value)
{
    struct story *story = arg;
    tell(story, "%d %s <%.*s>%s%s %" PRIu64 "-%" PRIu64 "\n", value->path, type_names[value->type],
         CH_SPAN_ARG(value->raw), value->cut ? " cut" : "", value->escaped ? " escaped" : "",
         value->at, value->end);
    return story->stop_after < 0 || story->stop_after-- > 0;
}

// Each piece is a block of its own, so that the address sanitizer sees a byte read too far.
static enum ch_err feed_copy(struct ch_json_scan *scan, const char *bytes, size_t len)
{
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    enum ch_err err = ch_json_scan_feed(scan, (struct ch_span){copy, len});
    free(copy);
    return err;
}

struct cuts {
    size_t at;   // two pieces; NO_SPLIT: one
    size_t size; // or pieces of this size; 0: not
};

static enum ch_err feed_cut(struct ch_json_scan *scan, struct ch_span doc, struct cuts cuts)
{
    size_t size = cuts.size ? cuts.size : cuts.at < doc.len ? cuts.at : doc.len;
    enum ch_err err = feed_copy(scan, doc.ptr, size < doc.len ? size : doc.len);
    for (size_t at = size; at < doc.len && !err; at += size) {
        if (!cuts.size)
            size = doc.len - at;
        err = feed_copy(scan, doc.ptr + at, size < doc.len - at ? size : doc.len - at);
    }
    return err;
}

struct setting {
    const struct ch_json_plan *plan;
    bool lax_text;
    int stop_after;
};

static void scan_document(const struct setting *setting, struct ch_span doc, struct cuts cuts,
                          struct story *story)
{
    struct ch_json_scan scan;
    *story = (struct story){.stop_after = setting->stop_after};
    memset(&scan, 0xA5, sizeof scan); // init must not count on zeroes
    ch_json_scan_init(&scan, setting->plan, on_value, story);
    scan.lax_text = setting->lax_text;
    enum ch_err err = feed_cut(&scan, doc, cuts);
    if (!err)
        err = ch_json_scan_finish(&scan);
    tell(story, "%s at %" PRIu64 "%s\n", ch_err_name(err), scan.offset,
         ch_json_scan_is_ambiguous(&scan) ? " ambiguous" : "");
}

// Scans whole, cut at every byte, and in pieces of 1, 2, 3, 7 and 16 bytes: the story is the same.
static void scan_all_ways(const struct setting *setting, struct ch_span doc, struct story *story)
{
    static const size_t sizes[] = {1, 2, 3, 7, 16};
    static struct story other;
    scan_document(setting, doc, (struct cuts){.at = NO_SPLIT}, story);
    for (size_t at = 0; at <= doc.len; at++) {
        scan_document(setting, doc, (struct cuts){.at = at}, &other);
        assert_string_equal(other.text, story->text);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        scan_document(setting, doc, (struct cuts){.size = sizes[i]}, &other);
        assert_string_equal(other.text, story->text);
    }
}

static struct ch_json_plan *plan_of(const char *const *paths)
{
    struct ch_json_plan *plan;
    size_t count = 0;
    while (paths[count])
        count++;
    assert_int_equal(ch_json_plan_new(paths, count, &plan), CH_OK);
    return plan;
}
#define PLAN(...) plan_of((const char *const[]){__VA_ARGS__, NULL})

static void expect_bytes(struct ch_json_plan *plan, struct ch_span doc, const char *expected)
{
    static struct story story;
    scan_all_ways(&(struct setting){.plan = plan, .stop_after = -1}, doc, &story);
    assert_string_equal(story.text, expected);
}

static void expect(struct ch_json_plan *plan, const char *doc, const char *expected)
{
    expect_bytes(plan, ch_span_of(doc), expected);
}

static void reports_members(void **state)
{
    (void)state;
    struct ch_json_plan *plan = PLAN("model", "stream", "n", "stop", "o.include_usage", "o");
    expect(plan, "{\"model\":\"gpt-4o\",\"stream\":true,\"n\":12}",
           "0 string <gpt-4o> 9-17\n1 true <true> 27-31\n2 number <12> 36-38\nok at 39\n");
    expect(plan, " { \"n\" : -0.5e+7 , \"stop\" : null ,\r\n\t\"stream\":false } ",
           "2 number <-0.5e+7> 9-16\n3 null <null> 28-32\n1 false <false> 46-51\nok at 54\n");
    expect(plan, "{\"o\":{\"x\":1,\"include_usage\":false,\"y\":{\"include_usage\":1}}}",
           "5 object <> 5-6\n4 false <false> 28-33\n5 object_end <> 57-58\nok at 59\n");
    expect(plan, "{\"stop\":[\"a\",{\"stop\":1}],\"n\":[]}",
           "3 array <> 8-9\n3 array_end <> 23-24\n2 array <> 29-30\n2 array_end <> 30-31\n"
           "ok at 32\n");
    expect(plan, "{\"model\":\"\",\"n\":0}", "0 string <> 9-11\n2 number <0> 16-17\nok at 18\n");
    ch_json_plan_free(plan);
}

static void reports_elements(void **state)
{
    (void)state;
    struct ch_json_plan *plan = PLAN("c[].f", "c[]", "t[][]", "q[].r[].s");
    expect(plan, "{\"c\":[{\"f\":1},{\"g\":[{\"f\":2}]},3]}",
           "1 object <> 6-7\n0 number <1> 11-12\n1 object_end <> 12-13\n1 object <> 14-15\n"
           "1 object_end <> 28-29\n1 number <3> 30-31\nok at 33\n");
    expect(plan, "{\"t\":[1,[2,\"x\"],[[3]]]}",
           "2 number <2> 9-10\n2 string <x> 11-14\n2 array <> 17-18\n2 array_end <> 19-20\n"
           "ok at 23\n");
    expect(plan, "{\"q\":[{\"r\":[{\"s\":null}]}],\"c\":{\"f\":1}}",
           "3 null <null> 17-21\nok at 38\n");
    ch_json_plan_free(plan);
}

static void reports_root(void **state)
{
    (void)state;
    struct ch_json_plan *plan = PLAN("", "[].u.n", "[]", "model");
    expect(plan, "{\"model\":1}",
           "0 object <> 0-1\n3 number <1> 9-10\n0 object_end <> 10-11\nok at 11\n");
    expect(plan, "[{\"u\":{\"n\":7}},\r\n2]",
           "0 array <> 0-1\n2 object <> 1-2\n1 number <7> 11-12\n2 object_end <> 13-14\n"
           "2 number <2> 17-18\n0 array_end <> 18-19\nok at 19\n");
    expect(plan, "-12", "0 number <-12> 0-3\nok at 3\n");
    expect(plan, " \"x\" ", "0 string <x> 1-4\nok at 5\n");
    expect(plan, "0", "0 number <0> 0-1\nok at 1\n");
    ch_json_plan_free(plan);
}

// security.md §4.1, §4.2, §4.4
static void reports_duplicates_and_escaped_keys(void **state)
{
    (void)state;
    struct ch_json_plan *plan = PLAN("model", "metadata.x");
    expect(plan, "{\"model\":\"cheap\",\"model\":\"big\"}",
           "0 string <cheap> 9-16\n0 string <big> 25-30\nok at 31\n");
    expect(plan, "{\"\\u006dodel\":\"big\"}", "0 string <big> 14-19\nok at 20\n");
    expect(plan, "{\"m\\u006F\\u0064e\\u006c\":\"big\",\"model\":\"a\"}",
           "0 string <big> 24-29\n0 string <a> 38-41\nok at 42\n");
    expect(plan, "{\"messages\":[{\"model\":1}],\"metadata\":{\"model\":2,\"x\":3}}",
           "1 number <3> 52-53\nok at 55\n");
    ch_json_plan_free(plan);
}

// security.md §4.3
static void flags_ambiguous_keys(void **state)
{
    (void)state;
    struct ch_json_plan *plan = PLAN("model", "stream", "ok", "o.include_usage");
    static const char *const ambiguous[] = {"Model",         "MODEL",         "model ",
                                            "\\tmodel",      " model",        "\\u004dodel",
                                            "model\\u0000",  "model\\u0000x", "\xC5\xBFtream",
                                            "o\xE2\x84\xAA", "\\u017ftream",  "O"};
    static const char *const clear[] = {"models", "mode",    "",        " ",     "mod el",
                                        "m",      "\\u0000", "x_model", "tream", "include_usage"};
    char doc[128], expected[64];
    for (size_t i = 0; i < sizeof ambiguous / sizeof *ambiguous; i++) {
        int len = snprintf(doc, sizeof doc, "{\"%s\":1}", ambiguous[i]);
        snprintf(expected, sizeof expected, "ok at %d ambiguous\n", len);
        expect(plan, doc, expected);
    }
    for (size_t i = 0; i < sizeof clear / sizeof *clear; i++) {
        int len = snprintf(doc, sizeof doc, "{\"%s\":1}", clear[i]);
        snprintf(expected, sizeof expected, "ok at %d\n", len);
        expect(plan, doc, expected);
    }
    expect(plan, "{\"x\":{\"Model\":1},\"y\":[{\"MODEL\":2}]}", "ok at 35\n"); // not at the top
    expect(plan, "{\"Model\":1,\"model\":2}", "0 number <2> 19-20\nok at 21 ambiguous\n");
    ch_json_plan_free(plan);
}

static void flags_long_keys_that_hide_a_name(void **state)
{
    (void)state;
    struct ch_json_plan *plan = PLAN("model");
    char doc[1400];
    snprintf(doc, sizeof doc, "{\"%*s\":1}", 600, "model");
    expect(plan, doc, "ok at 606 ambiguous\n");
    snprintf(doc, sizeof doc, "{\"%-600s\":1}", "model");
    expect(plan, doc, "ok at 606 ambiguous\n");
    memset(doc + 2, 'm', 600);
    expect(plan, doc, "ok at 606\n");
    ch_json_plan_free(plan);
}

static void cuts_long_values(void **state)
{
    (void)state;
    struct ch_json_plan *plan = PLAN("a");
    static char doc[CH_JSON_VALUE_MAX + 64], expected[CH_JSON_VALUE_MAX + 64];
    for (int more = -1; more <= 1; more++) {
        int len = CH_JSON_VALUE_MAX + more, kept = more > 0 ? CH_JSON_VALUE_MAX : len;
        snprintf(doc, sizeof doc, "{\"a\":\"%0*d\"}", len, 7);
        snprintf(expected, sizeof expected, "0 string <%.*s>%s 5-%d\nok at %d\n", kept, doc + 6,
                 more > 0 ? " cut" : "", len + 7, len + 8);
        expect(plan, doc, expected);
        doc[5] = '1';
        doc[len + 6] = ' ';
        snprintf(expected, sizeof expected, "0 number <%.*s>%s 5-%d\nok at %d\n",
                 kept + 1 > CH_JSON_VALUE_MAX ? CH_JSON_VALUE_MAX : kept + 1, doc + 5,
                 more >= 0 ? " cut" : "", len + 6, len + 8);
        expect(plan, doc, expected);
    }
    ch_json_plan_free(plan);
}

static void matches_keys_up_to_the_limit(void **state)
{
    (void)state;
    char key[CH_JSON_KEY_MAX + 2], doc[512], expected[64];
    memset(key, 'k', sizeof key);
    key[CH_JSON_KEY_MAX] = '\0';
    struct ch_json_plan *plan = PLAN(key);
    snprintf(doc, sizeof doc, "{\"%s\":1}", key);
    expect(plan, doc, "0 number <1> 68-69\nok at 70\n");
    size_t len = 2; // every byte escaped: six times as long, the same key
    memcpy(doc, "{\"", len);
    for (int i = 0; i < CH_JSON_KEY_MAX; i++, len += 6)
        memcpy(doc + len, "\\u006b", 6);
    memcpy(doc + len, "\":1}", 5);
    snprintf(expected, sizeof expected, "0 number <1> %zu-%zu\nok at %zu\n", len + 2, len + 3,
             len + 4);
    expect(plan, doc, expected);
    ch_json_plan_free(plan);
    key[CH_JSON_KEY_MAX] = 'k';
    key[CH_JSON_KEY_MAX + 1] = '\0';
    assert_int_equal(ch_json_plan_new(&(const char *){key}, 1, &plan), CH_ERR_INVALID);
}

static void accepts_valid_documents(void **state)
{
    (void)state;
    static const char *const docs[] = {
        "{}",
        "[]",
        " [ ] ",
        "\t{\r\n}",
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1.0",
        "10e10",
        "1E-2",
        "0.5",
        "-1.5e+300",
        "1e999999999",
        "\"\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\\u0000\"",
        "\"\\uD834\\uDD1E\"",
        "\"\x7F\"",
        "\"\xC2\x80\xDF\xBF\"",
        "\"\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\"",
        "\"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\"",
        "[1,2,[3,{\"a\":[]}],{}]",
        "{\"a\":{\"b\":{}},\"c\":[[],[{}]],\"\":0}",
        "[0,-0,1e1,0.0]",
    };
    struct ch_json_plan *plan = PLAN("model");
    char expected[32];
    for (size_t i = 0; i < sizeof docs / sizeof *docs; i++) {
        snprintf(expected, sizeof expected, "ok at %zu\n", strlen(docs[i]));
        expect(plan, docs[i], expected);
    }
    ch_json_plan_free(plan);
}

struct bad {
    const char *doc;
    int at; // offset of the byte that cannot be; -1: the document ends too early
};

// security.md §4.11
static void refuses_invalid_documents(void **state)
{
    (void)state;
    static const struct bad docs[] = {
        {"", -1},
        {" ", -1},
        {"{", -1},
        {"[", -1},
        {"[1", -1},
        {"[1,", -1},
        {"{\"a\"", -1},
        {"{\"a\":", -1},
        {"{\"a\":1", -1},
        {"{\"a\":1,", -1},
        {"\"a", -1},
        {"\"\\", -1},
        {"\"\\u12", -1},
        {"tru", -1},
        {"-", -1},
        {"1.", -1},
        {"1e", -1},
        {"1e+", -1},
        {"\"\xE2\x82", -1},
        {"{]", 1},
        {"[}", 1},
        {"]", 0},
        {"}", 0},
        {",", 0},
        {":", 0},
        {"[1}", 2},
        {"{\"a\":1]", 6},
        {"[,1]", 1},
        {"[1,,2]", 3},
        {"[1,]", 3},
        {"{,}", 1},
        {"{\"a\":1,}", 7},
        {"{a:1}", 1},
        {"{'a':1}", 1},
        {"{\"a\" 1}", 5},
        {"{\"a\"::1}", 5},
        {"{\"a\",1}", 4},
        {"{1:2}", 1},
        {"[1 2]", 3},
        {"1 2", 2},
        {"{} {}", 3},
        {"[] x", 3},
        {"null,", 4},
        {"\"a\"\"b\"", 3},
        {"01", 1},
        {"-01", 2},
        {"+1", 0},
        {".5", 0},
        {"1.e5", 2},
        {"1.5.5", 3},
        {"1e5.5", 3},
        {"1e5e5", 3},
        {"1ee5", 2},
        {"--1", 1},
        {"-a", 1},
        {"0x10", 1},
        {"1_0", 1},
        {"00", 1},
        {"NaN", 0},
        {"nan", 1},
        {"Infinity", 0},
        {"-Infinity", 1},
        {"nul ", 3},
        {"nulll", 4},
        {"True", 0},
        {"trux", 3},
        {"undefined", 0},
        {"\xEF\xBB\xBF{}", 0},
        {"// x\n{}", 0},
        {"/**/{}", 0},
        {"{}//", 2},
        {"\v{}", 0},
        {"\xC2\xA0{}", 0},
        {"\"a\nb\"", 2},
        {"\"\t\"", 1},
        {"\"\x1F\"", 1},
        {"\"\\x41\"", 2},
        {"\"\\'\"", 2},
        {"\"\\U0041\"", 2},
        {"\"\\u12g4\"", 5},
        {"\"\\u 123\"", 3},
        {"\"\\uDC00\"", 6},
        {"\"\\uD800\"", 7},
        {"\"\\uD800x\"", 7},
        {"\"\\uD800\\n\"", 8},
        {"\"\\uD800\\u0041\"", 12},
        {"\"\\uD800\\uD800\"", 12},
        {"\"\x80\"", 1},
        {"\"\xC0\x80\"", 1},
        {"\"\xC1\xBF\"", 1},
        {"\"\xC2\"", 2},
        {"\"\xC2z\"", 2},
        {"\"\xE0\x9F\xBF\"", 2},
        {"\"\xED\xA0\x80\"", 2},
        {"\"\xE2\x82z\"", 3},
        {"\"\xF0\x8F\xBF\xBF\"", 2},
        {"\"\xF4\x90\x80\x80\"", 2},
        {"\"\xF5\x80\x80\x80\"", 1},
        {"\"\xFF\"", 1},
        {"{\"a\xFF\":1}", 3},
        {"[\"0123456789abcdef\x01\"]", 18},
    };
    struct ch_json_plan *plan = PLAN("a", "model", "");
    struct story story;
    char expected[48];
    for (size_t i = 0; i < sizeof docs / sizeof *docs; i++) {
        scan_all_ways(&(struct setting){.plan = plan, .stop_after = -1}, ch_span_of(docs[i].doc),
                      &story);
        snprintf(expected, sizeof expected, "invalid at %d\n",
                 docs[i].at < 0 ? (int)strlen(docs[i].doc) : docs[i].at);
        char *last = strstr(story.text, "invalid at");
        assert_string_equal(last ? last : story.text, expected);
    }
    expect_bytes(plan, (struct ch_span){"{\0}", 3}, "2 object <> 0-1\ninvalid at 1\n");
    expect_bytes(plan, (struct ch_span){"\"a\0b\"", 5}, "invalid at 2\n");
    ch_json_plan_free(plan);
}

static void limits_nesting(void **state)
{
    (void)state;
    struct ch_json_plan *plan = PLAN("a", "[][][].b");
    char doc[2 * CH_JSON_DEPTH_MAX + 4], expected[48];
    memset(doc, '[', CH_JSON_DEPTH_MAX);
    memset(doc + CH_JSON_DEPTH_MAX, ']', CH_JSON_DEPTH_MAX);
    expect_bytes(plan, (struct ch_span){doc, 2 * CH_JSON_DEPTH_MAX}, "ok at 128\n");
    doc[CH_JSON_DEPTH_MAX] = '[';
    snprintf(expected, sizeof expected, "limit at %d\n", CH_JSON_DEPTH_MAX);
    expect_bytes(plan, (struct ch_span){doc, CH_JSON_DEPTH_MAX + 1}, expected);
    doc[CH_JSON_DEPTH_MAX] = '{';
    expect_bytes(plan, (struct ch_span){doc, CH_JSON_DEPTH_MAX + 1}, expected);
    ch_json_plan_free(plan);
}

static void stops_when_told(void **state)
{
    (void)state;
    struct ch_json_plan *plan = PLAN("a", "b");
    struct story story;
    scan_all_ways(&(struct setting){.plan = plan, .stop_after = 1},
                  CH_SPAN("{\"a\":\"x\",\"b\":\"y\",\"a\":2}"), &story);
    assert_string_equal(story.text, "0 string <x> 5-8\n1 string <y> 13-16\ndenied at 16\n");
    scan_all_ways(&(struct setting){.plan = plan}, CH_SPAN("{\"a\":12 }"), &story);
    assert_string_equal(story.text, "0 number <12> 5-7\ndenied at 7\n");
    scan_all_ways(&(struct setting){.plan = plan}, CH_SPAN("{\"a\":{} }"), &story);
    assert_string_equal(story.text, "0 object <> 5-6\ndenied at 6\n");
    ch_json_plan_free(plan);
}

static void keeps_its_error(void **state)
{
    (void)state;
    struct ch_json_plan *plan = PLAN("a");
    struct ch_json_scan scan;
    struct story story = {.stop_after = -1};
    ch_json_scan_init(&scan, plan, on_value, &story);
    assert_int_equal(ch_json_scan_feed(&scan, CH_SPAN("[1}")), CH_ERR_INVALID);
    assert_int_equal(ch_json_scan_feed(&scan, CH_SPAN("]")), CH_ERR_INVALID);
    assert_int_equal(ch_json_scan_feed(&scan, (struct ch_span){NULL, 0}), CH_ERR_INVALID);
    assert_int_equal(ch_json_scan_finish(&scan), CH_ERR_INVALID);
    assert_int_equal(scan.offset, 2);
    ch_json_plan_free(plan);
}

static void passes_broken_text_when_lax(void **state)
{
    (void)state;
    struct ch_json_plan *plan = PLAN("a", "n");
    struct setting lax = {.plan = plan, .lax_text = true, .stop_after = -1};
    struct story story;
    scan_all_ways(&lax, CH_SPAN("{\"x\":\"\\ud83d\",\"y\":\"\xC3\xFF\\udc00\",\"n\":1}"), &story);
    assert_string_equal(story.text, "1 number <1> 33-34\nok at 35\n");
    scan_all_ways(&lax, CH_SPAN("{\"x\":\"\\q\"}"), &story);
    assert_string_equal(story.text, "invalid at 7\n");
    scan_all_ways(&lax, CH_SPAN("{\"x\":\xFF}"), &story);
    assert_string_equal(story.text, "invalid at 5\n");
    ch_json_plan_free(plan);
}

// One document with something of everything, longer than a SIMD step on every side.
static void tells_one_story_of_a_large_document(void **state)
{
    (void)state;
    struct ch_json_plan *plan = PLAN("model", "messages", "messages[].role", "n", "tail.x[]");
    const char *doc =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"A prompt of some length \\\"quoted\\\", "
        "with a "
        "back\\\\slash,\\n a \\uD83D\\uDE00 pair, plain \xF0\x9F\x98\x80 text, caf\xC3\xA9, and a "
        "tail "
        "of more than sixteen bytes\"},{\"role\":\"a\\u0073sistant\",\"content\":[1,-2.5e3,true,"
        "{\"deep\":[[[]]]}]}],\"model\":\"a-model-name-longer-than-sixteen\",\"n\":1234567890,"
        "\"tail\":{\"x\":[\"0123456789abcdef0123456789abcdef\",null]}}";
    expect(plan, doc,
           "1 array <> 12-13\n2 string <user> 21-27\n2 string <a\\u0073sistant> escaped 190-206\n"
           "1 array_end <> 249-250\n0 string <a-model-name-longer-than-sixteen> 259-293\n"
           "3 number <1234567890> 298-308\n"
           "4 string <0123456789abcdef0123456789abcdef> 322-356\n4 null <null> 357-361\n"
           "ok at 364\n");
    ch_json_plan_free(plan);
}

// security.md §4.12: time linear in the document, whatever its keys.
static void walks_many_keys(void **state)
{
    (void)state;
    struct ch_json_plan *plan = PLAN("model");
    enum { KEYS = 200000, ROOM = KEYS * 12 + 2 };
    char *doc = malloc(ROOM);
    assert_non_null(doc);
    size_t len = 1;
    doc[0] = '{';
    for (int i = 0; i < KEYS; i++)
        len += (size_t)snprintf(doc + len, ROOM - len, "\"%06d\":1,", i % 1000000);
    doc[len - 1] = '}';
    struct story story;
    scan_document(&(struct setting){.plan = plan, .stop_after = -1}, (struct ch_span){doc, len},
                  (struct cuts){.size = 1500}, &story);
    free(doc);
    ch_json_plan_free(plan);
    char expected[32];
    snprintf(expected, sizeof expected, "ok at %zu\n", len);
    assert_string_equal(story.text, expected);
}

static void refuses_bad_plans(void **state)
{
    (void)state;
    static const char *const bad[] = {"a.",  ".a",  "a..b", "a[",   "a[0]", "a]",
                                      "[]a", "[].", "a[]b", "a.[]", "."};
    struct ch_json_plan *plan;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ch_json_plan_new(&bad[i], 1, &plan), CH_ERR_INVALID);
    const char *const twice[] = {"a.b", "a", "a.b"};
    assert_int_equal(ch_json_plan_new(twice, 3, &plan), CH_ERR_CONFLICT);
    const char *many[CH_JSON_PATHS_MAX + 1];
    char names[CH_JSON_PATHS_MAX + 1][16];
    for (int i = 0; i <= CH_JSON_PATHS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "p%d", i);
        many[i] = names[i];
    }
    assert_int_equal(ch_json_plan_new(many, CH_JSON_PATHS_MAX + 1, &plan), CH_ERR_LIMIT);
    assert_int_equal(ch_json_plan_new(many, CH_JSON_PATHS_MAX, &plan), CH_OK);
    ch_json_plan_free(plan);
    ch_json_plan_free(NULL);
}

static void expect_unescaped(const char *raw, const char *expected)
{
    char out[32];
    size_t len;
    assert_int_equal(ch_json_unescape(ch_span_of(raw), out, sizeof out, &len), CH_OK);
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(out, expected, len);
}

static void unescapes(void **state)
{
    (void)state;
    static const char *const broken[] = {"\\",       "\\x",        "\\u",
                                         "\\u12",    "\\u12g4",    "\\ud800",
                                         "\\ud800x", "\\ud800\\n", "\\ud800\\u0041",
                                         "\\udc00",  "a\\u0000b",  "\\ud800\\ud800"};
    expect_unescaped("", "");
    expect_unescaped("plain", "plain");
    expect_unescaped("\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t");
    expect_unescaped("\\u0041\\u00e9\\u20AC\\uD83d\\uDe00",
                     "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
    char out[4];
    size_t len = 99;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        assert_int_equal(ch_json_unescape(ch_span_of(broken[i]), out, sizeof out, &len),
                         CH_ERR_INVALID);
    assert_int_equal(ch_json_unescape(CH_SPAN("abcde"), out, sizeof out, &len), CH_ERR_LIMIT);
    assert_int_equal(ch_json_unescape(CH_SPAN("ab\\u20ac"), out, sizeof out, &len), CH_ERR_LIMIT);
    assert_int_equal(len, 99);
    assert_int_equal(ch_json_unescape(CH_SPAN("abcd"), out, sizeof out, &len), CH_OK);
}

static void counts(void **state)
{
    (void)state;
    static const char *const bad[] = {"",     "-1",
                                      "-0",   "1.0",
                                      "1e3",  "+1",
                                      " 1",   "1 ",
                                      "x",    "9223372036854775808",
                                      "1e30", "99999999999999999999999999"};
    int64_t count = -7;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ch_json_to_count(ch_span_of(bad[i]), &count), CH_ERR_INVALID);
    assert_int_equal(count, -7);
    assert_int_equal(ch_json_to_count(CH_SPAN("0"), &count), CH_OK);
    assert_int_equal(count, 0);
    assert_int_equal(ch_json_to_count(CH_SPAN("9223372036854775807"), &count), CH_OK);
    assert_int_equal(count, INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reports_members),
        cmocka_unit_test(reports_elements),
        cmocka_unit_test(reports_root),
        cmocka_unit_test(reports_duplicates_and_escaped_keys),
        cmocka_unit_test(flags_ambiguous_keys),
        cmocka_unit_test(flags_long_keys_that_hide_a_name),
        cmocka_unit_test(cuts_long_values),
        cmocka_unit_test(matches_keys_up_to_the_limit),
        cmocka_unit_test(accepts_valid_documents),
        cmocka_unit_test(refuses_invalid_documents),
        cmocka_unit_test(limits_nesting),
        cmocka_unit_test(stops_when_told),
        cmocka_unit_test(keeps_its_error),
        cmocka_unit_test(passes_broken_text_when_lax),
        cmocka_unit_test(tells_one_story_of_a_large_document),
        cmocka_unit_test(walks_many_keys),
        cmocka_unit_test(refuses_bad_plans),
        cmocka_unit_test(unescapes),
        cmocka_unit_test(counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
