// SPDX-License-Identifier: Apache-2.0
#define PCRE2_CODE_UNIT_WIDTH 8
#include "domain/scrub.h"

#include "domain/wrapped_key.h"

#include "../sanitizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>
#include <jansson.h>
#include <pcre2.h>

#define TEXT_MAX  4096
#define TAIL      "0123456789abcdefghijABCDEFGHIJ" // 30 characters that every tail but AWS's holds
#define WRAPPED   "ch_web_sk_0123456789ab0123456789abcdef0123456789abcdef012345"
#define COUNT(of) (sizeof(of) / sizeof *(of))

static struct ch_scrub_rules *rules; // without the operator's patterns

static int make_rules(void **state)
{
    (void)state;
    return ch_scrub_rules_new(NULL, 0, &rules, NULL);
}

static int free_rules(void **state)
{
    (void)state;
    ch_scrub_rules_free(rules);
    return 0;
}

// Scrubs the pieces that begin at the given places.
static void scrub_cut(enum ch_scrub_mode mode, struct ch_span text, const size_t *cuts,
                      size_t count, bool is_cut, struct ch_buf *out)
{
    struct ch_scrub *scrub;
    ch_buf_init(out, CH_SCRUB_OUT_MAX(text.len));
    assert_int_equal(ch_scrub_new(rules, mode, &scrub), CH_OK);
    for (size_t i = 0, at = 0; i <= count; i++) {
        size_t end = i < count ? cuts[i] : text.len;
        struct ch_span piece = {text.ptr + at, end - at};
        assert_int_equal(ch_scrub_feed(scrub, piece, out), CH_OK);
        at = end;
    }
    assert_int_equal(ch_scrub_finish(scrub, is_cut, out), CH_OK);
    assert_int_equal(ch_scrub_found(scrub), ch_scrub_look(rules, mode, text));
    ch_scrub_free(scrub);
}

static void expect_span(enum ch_scrub_mode mode, struct ch_span text, struct ch_span expected)
{
    struct ch_buf out;
    scrub_cut(mode, text, NULL, 0, false, &out);
    if (!ch_span_eq(ch_buf_span(&out), expected))
        fail_msg("%.*s\n  became %.*s\n  and not %.*s", CH_SPAN_ARG(text),
                 CH_SPAN_ARG(ch_buf_span(&out)), CH_SPAN_ARG(expected));
    ch_buf_fini(&out);
}

static void expect(enum ch_scrub_mode mode, const char *text, const char *expected)
{
    expect_span(mode, ch_span_of(text), ch_span_of(expected));
}

// ---- Tokens

// Written apart from the scrubber's own table: prefixes as examples, tails as sets.
#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
static const struct form {
    const char *prefix, *tail;
    size_t tail_min;
    unsigned kind;
} forms[] = {
    {"sk-", ALNUM, 20, CH_SCRUB_PROVIDER_KEY},
    {"sk-ant-", ALNUM "-_", 20, CH_SCRUB_PROVIDER_KEY},
    {"sk-ant-api03-", ALNUM "-_", 14, CH_SCRUB_PROVIDER_KEY}, // "api03-" counts
    {"sk-proj-", ALNUM "-_", 20, CH_SCRUB_PROVIDER_KEY},
    {"sk-svcacct-", ALNUM "-_", 20, CH_SCRUB_PROVIDER_KEY},
    {"sk-admin-", ALNUM "-_", 20, CH_SCRUB_PROVIDER_KEY},
    {"sk-or-v1-", ALNUM "-_", 20, CH_SCRUB_PROVIDER_KEY},
    {"AIza", ALNUM "-_", 30, CH_SCRUB_PROVIDER_KEY},
    {"gsk_", ALNUM, 20, CH_SCRUB_PROVIDER_KEY},
    {"xai-", ALNUM, 20, CH_SCRUB_PROVIDER_KEY},
    {"hf_", ALNUM, 20, CH_SCRUB_PROVIDER_KEY},
    {"pplx-", ALNUM, 20, CH_SCRUB_PROVIDER_KEY},
    {"nvapi-", ALNUM "-_", 20, CH_SCRUB_PROVIDER_KEY},
    {"Bearer ", ALNUM "-_./+=~ !\"'{}[]:,;<>\t\x7F\x01\xC3\xBC", 20, CH_SCRUB_OTHER_TOKEN},
    {"eyJ", ALNUM "-_", 20, CH_SCRUB_OTHER_TOKEN},
    {"xoxb-", ALNUM "-", 20, CH_SCRUB_OTHER_TOKEN},
    {"xoxp-", ALNUM "-", 20, CH_SCRUB_OTHER_TOKEN},
    {"xoxr-", ALNUM "-", 20, CH_SCRUB_OTHER_TOKEN},
    {"xoxa-", ALNUM "-", 20, CH_SCRUB_OTHER_TOKEN},
    {"xoxs-", ALNUM "-", 20, CH_SCRUB_OTHER_TOKEN},
    {"ghp_", ALNUM, 30, CH_SCRUB_OTHER_TOKEN},
    {"gho_", ALNUM, 30, CH_SCRUB_OTHER_TOKEN},
    {"ghu_", ALNUM, 30, CH_SCRUB_OTHER_TOKEN},
    {"ghs_", ALNUM, 30, CH_SCRUB_OTHER_TOKEN},
    {"ghr_", ALNUM, 30, CH_SCRUB_OTHER_TOKEN},
    {"github_pat_", ALNUM "_", 20, CH_SCRUB_OTHER_TOKEN},
    {"AKIA", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 16, CH_SCRUB_OTHER_TOKEN},
    {"ASIA", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 16, CH_SCRUB_OTHER_TOKEN},
    {"cha_", ALNUM "-_.", 40, CH_SCRUB_OTHER_TOKEN},
    {"ch_a_sk_", ALNUM, 20, CH_SCRUB_WRAPPED_KEY},
    {"ch__sk__sk_", ALNUM, 20, CH_SCRUB_WRAPPED_KEY},
    {"ch_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_sk_", ALNUM, 20, CH_SCRUB_WRAPPED_KEY},
};

// A token with a tail of `len` characters of its set, between `before` and a line end.
static struct ch_span make_token(const struct form *form, const char *before, size_t len,
                                 char text[TEXT_MAX])
{
    size_t at = (size_t)snprintf(text, TEXT_MAX, "%s%s", before, form->prefix);
    for (size_t i = 0; i < len; i++)
        text[at++] = form->tail[(7 * i + len) % strlen(form->tail)];
    strcpy(text + at, "\nafter");
    return ch_span_of(text);
}

static void every_form_is_redacted_from_its_shortest_on(void **state)
{
    (void)state;
    char text[TEXT_MAX];
    for (size_t i = 0; i < COUNT(forms); i++) {
        const struct form *form = &forms[i];
        for (size_t len = form->tail_min; len < form->tail_min + 40; len++) {
            struct ch_span token = make_token(form, "before ", len, text);
            expect_span(CH_SCRUB_PLAIN, token, CH_SPAN("before [REDACTED]\nafter"));
            assert_true(ch_scrub_look(rules, CH_SCRUB_PLAIN, token) & form->kind);
        }
        struct ch_span token = make_token(form, "before ", 2000, text);
        expect_span(CH_SCRUB_PLAIN, token, CH_SPAN("before [REDACTED]\nafter"));
    }
}

static void what_is_too_short_or_looks_alike_is_left_alone(void **state)
{
    (void)state;
    char text[TEXT_MAX];
    for (size_t i = 0; i < COUNT(forms); i++) {
        struct ch_span token = make_token(&forms[i], "before ", forms[i].tail_min - 1, text);
        expect_span(CH_SCRUB_PLAIN, token, token);
        assert_int_equal(ch_scrub_look(rules, CH_SCRUB_PLAIN, token), 0);
    }
    static const char *const alike[] = {
        "",
        "the task-force of risk-averse people",
        "sk-learn-is-a-library-for-machine-learning",
        "SK-" TAIL,
        "Sk-" TAIL,
        "AIZA" TAIL,
        "bearer" TAIL,
        "a Bearer of good",
        "EYJ" TAIL,
        "xoxc-" TAIL,
        "ghx_" TAIL,
        "sk-0123456789 abcdefghij0123456789",
        "sk-0123456789\nabcdefghij0123456789",
        "AKIAabcdefghijklmnop0123",
        // the slug is missing, too long by one, or no slug
        "ch_sk_" TAIL,
        "ch__sk_" TAIL,
        "ch_0123456789012345678901234567890123456789012345678_sk_" TAIL,
        "ch_Web_sk_" TAIL,
        "ch_we-b_sk_" TAIL,
        "max_tokens total_tokens prompt_tokens",
    };
    for (size_t i = 0; i < COUNT(alike); i++)
        expect(CH_SCRUB_PLAIN, alike[i], alike[i]);
}

static void tokens_end_where_their_characters_end(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"sk-" TAIL, "[REDACTED]"},
        {"(sk-" TAIL ")", "([REDACTED])"},
        {"xsk-" TAIL "-x", "x[REDACTED]-x"},
        {"sk-" TAIL " sk-" TAIL, "[REDACTED] [REDACTED]"},
        {"sk-ant-" TAIL "-" TAIL "_x.y", "[REDACTED].y"},
        {"eyJ" TAIL ".eyJ" TAIL ".sig", "[REDACTED].[REDACTED].sig"},
        {"Authorization: Bearer abc def ghi jkl mno p\r\nHost: x",
         "Authorization: [REDACTED]\r\nHost: x"},
        {"curl -H 'Authorization: Bearer " TAIL "' -d '{}'\nls",
         "curl -H 'Authorization: [REDACTED]\nls"},
        // one token in another, or behind another's beginning
        {"sk-sk-" TAIL, "sk-[REDACTED]"},
        {"sk-ant-sk-" TAIL, "[REDACTED]"},
        {"Bearer sk-" TAIL " and so on", "[REDACTED]"},
        {"Bearer x\nsk-" TAIL, "Bearer x\n[REDACTED]"},
        {"ghghp_" TAIL, "gh[REDACTED]"},
        {"AIAIza" TAIL, "AI[REDACTED]"},
        {"github_github_pat_" TAIL, "github_[REDACTED]"},
        {WRAPPED, "[REDACTED]"},
        {"ch_ch_web_sk_" TAIL, "[REDACTED]"},
        {"ch_a_sk_b_sk_" TAIL, "[REDACTED]"},
        {"ch_0123456789012345678901234567890123456789012345678ch_web_sk_" TAIL,
         "ch_0123456789012345678901234567890123456789012345678[REDACTED]"},
        {"gsk_" TAIL "_sk_" TAIL, "[REDACTED]_sk_" TAIL},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        expect(CH_SCRUB_PLAIN, cases[i][0], cases[i][1]);
}

static void our_own_keys_are_found(void **state)
{
    (void)state;
    static const char *const slugs[] = {"w", "_", "web", "a_sk_b", "sk", "ch_"};
    for (size_t i = 0; i < COUNT(slugs); i++) {
        char token[CH_WRAPPED_KEY_MAX + 1];
        assert_int_equal(ch_wrapped_key_mint(ch_span_of(slugs[i]), token), CH_OK);
        expect(CH_SCRUB_JSON, token, "[REDACTED]");
        assert_int_equal(ch_scrub_look(rules, CH_SCRUB_JSON, ch_span_of(token)) &
                             CH_SCRUB_WRAPPED_KEY,
                         CH_SCRUB_WRAPPED_KEY);
    }
}

static void tokens_in_json_are_found_behind_escapes(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"q\":\"sk-" TAIL "\"}", "{\"q\":\"[REDACTED]\"}"},
        {"{\"q\":\"\\u0073k-" TAIL "\"}", "{\"q\":\"[REDACTED]\"}"},
        {"{\"q\":\"s\\u006B\\u002d\\u0030123456789abcdefghi\\u006a.\"}", "{\"q\":\"[REDACTED].\"}"},
        {"{\"q\":\"\\\\\\u0073k-" TAIL "\"}", "{\"q\":\"\\\\[REDACTED]\"}"},
        {"{\"q\":\"\\nsk-" TAIL "\\n\"}", "{\"q\":\"\\n[REDACTED]\\n\"}"},
        {"{\"q\":\"a\\/sk-" TAIL "\\/b\"}", "{\"q\":\"a\\/[REDACTED]\\/b\"}"},
        {"{\"q\":\"\\\"sk-" TAIL "\\\"\"}", "{\"q\":\"\\\"[REDACTED]\\\"\"}"},
        // the name of a member is text as well
        {"{\"sk-" TAIL "\":1}", "{\"[REDACTED]\":1}"},
        // `.` goes on behind an escaped slash or quote, and ends at a line or with the string
        {"{\"q\":\"Bearer abc\\/def\\\"ghi\\/jklmn\",\"m\":1}", "{\"q\":\"[REDACTED]\",\"m\":1}"},
        {"[\"Bearer 0123456789012345678\",\"Bearer 01234567890123456789\"]",
         "[\"Bearer 0123456789012345678\",\"[REDACTED]\"]"},
        {"[\"Bearer 01234567890123456789\\nnext\"]", "[\"[REDACTED]\\nnext\"]"},
        {"[\"Bearer 01234567890123456789\\u000Dnext\"]", "[\"[REDACTED]\\u000Dnext\"]"},
        {"[\"Bearer 01234567890123456789\\\\next\"]", "[\"[REDACTED]\"]"},
        {"[\"\\nvapi-" TAIL "\",\"\\\\nvapi-" TAIL "\"]",
         "[\"\\nvapi-" TAIL "\",\"\\\\[REDACTED]\"]"},
        {"[\"Bearer 01234567890123456789\\\\\\next\"]", "[\"[REDACTED]\\next\"]"},
        {"[\"Bearer \\ud83d\\ude00 \xF0\x9F\x98\x80 \\ud83d\\ude00\"]", "[\"[REDACTED]\"]"},
        // a string in a string in a string
        {"{\"arguments\":\"{\\\"k\\\":\\\"\\\\u0073k-" TAIL "\\\"}\"}",
         "{\"arguments\":\"{\\\"k\\\":\\\"[REDACTED]\\\"}\"}"},
        {"{\"a\":\"{\\\"b\\\":\\\"{\\\\\\\"k\\\\\\\":\\\\\\\"sk-" TAIL "\\\\\\\"}\\\"}\"}",
         "{\"a\":\"{\\\"b\\\":\\\"{\\\\\\\"k\\\\\\\":\\\\\\\"[REDACTED]\\\\\\\"}\\\"}\"}"},
        // no escapes at all, and none that is whole
        {"\"\\usk-" TAIL "\"", "\"\\u[REDACTED]\""},
        {"\"\\u007sk-" TAIL "\"", "\"\\u007[REDACTED]\""},
        {"\"\\sk-" TAIL "\"", "\"\\[REDACTED]\""},
        {"\"\\u0073", "\"\\u0073"},
        {"\"\\u00", "\"\\u00"},
        {"\"\\\\\\", "\"\\\\\\"},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        expect(CH_SCRUB_JSON, cases[i][0], cases[i][1]);
}

// ---- Names

static void the_value_of_a_telling_name_is_redacted_whole(void **state)
{
    (void)state;
    static const char *const names[] = {
        "api_key",    "apikey",        "api-key",       "secret", "secret_key",  "secretkey",
        "token",      "access_token",  "password",      "passwd", "credential",  "authorization",
        "auth",       "refresh_token", "PASSWORD",      "ApiKey", "private_key", "privatekey",
        "\\u0061uth", "\\u0041UTH",    "pass\\u0077ord"};
    static const char *const values[] = {
        "\"hunter2\"",
        "\"a \\\"quoted\\\" one, with } and ]\"",
        "\"ends in a backslash \\\\\"",
        "\"\xC3\xBC\\u00fc\"",
        "-12.5e+3",
        "0",
        "{\"a\":[1,{\"b\":\"}]\\\"\"}],\"c\":\"x\"}",
        "[]",
        "[[\"a\",\"]\"],{}]",
    };
    char text[TEXT_MAX], expected[TEXT_MAX];
    for (size_t i = 0; i < COUNT(names); i++)
        for (size_t j = 0; j < COUNT(values); j++) {
            snprintf(text, sizeof text, "{\"x\":\"y\",\"%s\" :\n\t %s ,\"z\":[\"token\",1]}",
                     names[i], values[j]);
            snprintf(expected, sizeof expected,
                     "{\"x\":\"y\",\"%s\" :\n\t \"[REDACTED]\" ,\"z\":[\"token\",1]}", names[i]);
            expect(CH_SCRUB_JSON, text, expected);
            snprintf(text, sizeof text, "{\"%s\":%s}", names[i], values[j]);
            snprintf(expected, sizeof expected, "{\"%s\":\"[REDACTED]\"}", names[i]);
            expect(CH_SCRUB_JSON, text, expected);
        }
}

static void other_members_are_left_alone(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "{\"max_tokens\":5,\"total_tokens\":7,\"tokens\":[1],\"prompt_tokens\":1}",
        "{\"max_completion_tokens\":5,\"token_count\":1,\"stop_token\":\"x\",\"tokenizer\":\"y\"}",
        "{\"author\":\"x\",\"authors\":[],\"secrets\":1,\"passwords\":\"x\",\"api_keys\":[\"x\"]}",
        "{\"a\":\"token\",\"b\":\"password\"}",
        "[\"token\",\"x\"]",
        "{\" token\":1,\"token \":2,\"to ken\":3,\"refresh_tokens\":4,\"refresh_token_id\":5}",
        // no secret in these
        "{\"token\":null,\"auth\":true,\"secret\":false,\"password\":\"\"}",
        "{\"token\":null}",
        "{\"a\":\"{\\\"token\\\":null, \\\"b\\\":1}\"}",
        "the word \"token\" in a text, a \"secret\"\nand \"auth\"",
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        expect(CH_SCRUB_JSON, cases[i], cases[i]);
}

static void names_are_found_in_strings_and_in_plain_text(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"arguments\":\"{\\\"password\\\":\\\"a\\\\\\\"b\\\",\\\"n\\\":1}\"}",
         "{\"arguments\":\"{\\\"password\\\":\\\"[REDACTED]\\\",\\\"n\\\":1}\"}"},
        {"{\"arguments\":\"{\\\"token\\\":12,\\\"n\\\":1}\"}",
         "{\"arguments\":\"{\\\"token\\\":\\\"[REDACTED]\\\",\\\"n\\\":1}\"}"},
        {"{\"arguments\":\"{\\n  \\\"token\\\":\\n\\t12\\n}\"}",
         "{\"arguments\":\"{\\n  \\\"token\\\":\\n\\t\\\"[REDACTED]\\\"\\n}\"}"},
        {"{\"arguments\":\"{\\\"auth\\\":{\\\"u\\\":\\\"a}\\\"},\\\"n\\\":1}\"}",
         "{\"arguments\":\"{\\\"auth\\\":\\\"[REDACTED]\\\",\\\"n\\\":1}\"}"},
        // as encoders write it that escape quotes by number
        {"{\"arguments\":\"{\\u0022password\\u0022:\\u0022abc\\u0022,\\u0022n\\u0022:1}\"}",
         "{\"arguments\":\"{\\u0022password\\u0022:\\u0022[REDACTED]\\u0022,\\u0022n\\u0022:1}\"}"},
        {"{\"a\":\"{\\u0022auth\\u0022:\\u0022b\\\\\\u0022c\\u0022}\"}",
         "{\"a\":\"{\\u0022auth\\u0022:\\u0022[REDACTED]\\u0022}\"}"},
        // two levels down, a line break between name and value
        {"{\"a\":\"{\\\"b\\\":\\\"{\\\\\\\"token\\\\\\\":\\\\n\\\\\\\"x\\\\\\\"}\\\"}\"}",
         "{\"a\":\"{\\\"b\\\":\\\"{\\\\\\\"token\\\\\\\":\\\\n\\\\\\\"[REDACTED]\\\\\\\"}\\\"}\"}"},
        {"{\"a\":\"{\\\"b\\\":\\\"{\\\\\\\"token\\\\\\\":7}\\\"}\"}",
         "{\"a\":\"{\\\"b\\\":\\\"{\\\\\\\"token\\\\\\\":\\\\\\\"[REDACTED]\\\\\\\"}\\\"}\"}"},
        // the text around ends before the value does
        {"{\"a\":\"so \\\"token\\\": {\",\"b\":\"c\"}",
         "{\"a\":\"so \\\"token\\\": \\\"[REDACTED]\\\"\",\"b\":\"c\"}"},
        {"{\"a\":\"so \\\"token\\\": \\\"x\",\"b\":\"c\"}",
         "{\"a\":\"so \\\"token\\\": \\\"[REDACTED]\",\"b\":\"c\"}"},
        {"{\"a\":\"so \\\"token\\\":\",\"b\":\"c\"}", "{\"a\":\"so \\\"token\\\":\",\"b\":\"c\"}"},
        // quotes that match nothing, and what is no JSON
        {"a 5\" disk: {\"password\": \"x\"}", "a 5\" disk: {\"password\": \"[REDACTED]\"}"},
        {"{\"password\": hunter2, \"n\": 1}", "{\"password\": \"[REDACTED]\", \"n\": 1}"},
        {"{\"password\": nullified}", "{\"password\": \"[REDACTED]\"}"},
        {"{\"password\": tru}", "{\"password\": \"[REDACTED]\"}"},
        {"{\"password\": tru", "{\"password\": \"[REDACTED]\""},
        {"{\"password\": true", "{\"password\": true"},
        {"{\"password\":\"x", "{\"password\":\"[REDACTED]"},
        {"{\"password\":[1,2", "{\"password\":\"[REDACTED]\""},
        {"{\"password\":}", "{\"password\":\"[REDACTED]\"}"},
    };
    for (size_t i = 0; i + 1 < COUNT(cases); i++) {
        expect(CH_SCRUB_JSON, cases[i][0], cases[i][1]);
        expect(CH_SCRUB_PLAIN, cases[i][0], cases[i][1]);
    }
    expect(CH_SCRUB_JSON, "{\"password\":}", "{\"password\":}");
}

// ---- SSE

static void sse_lines_are_json_or_text(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"event: x\ndata: {\"t\":\"Bearer 01234567890123456789\",\"n\":1}\n\n",
         "event: x\ndata: {\"t\":\"[REDACTED]\",\"n\":1}\n\n"},
        {"data:{\"t\":\"\\u0073k-" TAIL "\"}\r\n\r\n", "data:{\"t\":\"[REDACTED]\"}\r\n\r\n"},
        {"data: Bearer \"0123456789\" 0123456789\ndata: [DONE]\n\n",
         "data: [REDACTED]\ndata: [DONE]\n\n"},
        {": Bearer 01234567890123456789 \"x\"\n\n", ": [REDACTED]\n\n"},
        {"id: sk-" TAIL "\nretry: 1\n", "id: [REDACTED]\nretry: 1\n"},
        {"{\"error\":\"Bearer 01234567890123456789\",\"n\":1}",
         "{\"error\":\"[REDACTED]\",\"n\":1}"},
        // one event's JSON on two lines
        {"data: {\"password\":\ndata: \"x\"}\n\n",
         "data: {\"password\":\ndata: \"[REDACTED]\"}\n\n"},
        {"data: {\"secret\":{\ndata: \"a\":1},\"n\":2}\n\n",
         "data: {\"secret\":\"[REDACTED]\",\"n\":2}\n\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        expect(CH_SCRUB_SSE, cases[i][0], cases[i][1]);
}

// ---- Pieces

static const char *const documents[] = {
    "{\"q\":\"\\u0073k-" TAIL " and \\\"token\\\": \\\"x\\\"\",\"auth\":{\"a\":[1,\"}\"]},\"n\":1}",
    "data: {\"t\":\"Bearer 01234567890123456789\\nx\"}\r\ndata: {\"password\":\ndata: tru}\n\n"
    ": Bearer 01234567890123456789 \"x\"\ndata: Bearer 0123456789\n",
    WRAPPED " ch_ch_web_sk_" TAIL " ch__sk_x AIAIza" TAIL " github_github_pat_" TAIL " sk-svcacct-",
    "{\"a\":\"{\\\"b\\\":\\\"{\\\\\\\"token\\\\\\\":\\\\n\\\\\\\"x\\\\\\\"}\\\"}\",\"token\":nul}",
    "\\u0022password\\u0022:\\u0022abc\\u0022 \\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\u0073k-" TAIL
    "\\u00e \\ud83d\\ude00 eyJ" TAIL,
};

static void expect_cut(enum ch_scrub_mode mode, const char *text, const size_t *cuts, size_t count,
                       const struct ch_buf *whole)
{
    struct ch_buf out;
    scrub_cut(mode, ch_span_of(text), cuts, count, false, &out);
    if (!ch_span_eq(ch_buf_span(&out), ch_buf_span(whole)))
        fail_msg("cut at %zu: %.*s\n  and whole: %.*s", cuts[0], CH_SPAN_ARG(ch_buf_span(&out)),
                 CH_SPAN_ARG(ch_buf_span(whole)));
    ch_buf_fini(&out);
}

static void expect_cut_at_random(enum ch_scrub_mode mode, const char *text,
                                 const struct ch_buf *whole)
{
    size_t cuts[TEXT_MAX], count = 0, len = strlen(text);
    for (size_t at = (size_t)rand() % 8; at <= len; at += (size_t)rand() % 8)
        cuts[count++] = at;
    expect_cut(mode, text, cuts, count, whole);
}

static void the_output_does_not_depend_on_the_pieces(void **state)
{
    (void)state;
    srand(1);
    for (enum ch_scrub_mode mode = CH_SCRUB_PLAIN; mode <= CH_SCRUB_SSE; mode++)
        for (size_t i = 0; i < COUNT(documents); i++) {
            struct ch_buf whole;
            size_t len = strlen(documents[i]), every[TEXT_MAX];
            scrub_cut(mode, ch_span_of(documents[i]), NULL, 0, false, &whole);
            for (size_t at = 0; at <= len; at++) {
                every[at] = at;
                expect_cut(mode, documents[i], &at, 1, &whole);
            }
            expect_cut(mode, documents[i], every, len, &whole);
            for (int round = 0; round < 50; round++)
                expect_cut_at_random(mode, documents[i], &whole);
            ch_buf_fini(&whole);
        }
}

static void a_cut_text_keeps_no_front_of_a_token(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"key sk-0123456789", "key [REDACTED]"},
        {"key sk-0", "key [REDACTED]"},
        {"key ch_web_sk_0123", "key [REDACTED]"},
        {"Bearer 0123456789", "[REDACTED]"},
        {"key sk-0123456789 and", "key sk-0123456789 and"},
        {"no key s", "no key s"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct ch_buf out;
        scrub_cut(CH_SCRUB_PLAIN, ch_span_of(cases[i][0]), NULL, 0, true, &out);
        assert_true(ch_span_eq(ch_buf_span(&out), ch_span_of(cases[i][1])));
        ch_buf_fini(&out);
        expect(CH_SCRUB_PLAIN, cases[i][0], cases[i][0]);
    }
}

static void output_at_every_moment_is_a_front_of_the_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(documents); i++) {
        struct ch_buf whole, out;
        struct ch_scrub *scrub;
        scrub_cut(CH_SCRUB_JSON, ch_span_of(documents[i]), NULL, 0, false, &whole);
        ch_buf_init(&out, TEXT_MAX);
        assert_int_equal(ch_scrub_new(rules, CH_SCRUB_JSON, &scrub), CH_OK);
        for (size_t at = 0; documents[i][at]; at++) {
            struct ch_span byte = {documents[i] + at, 1};
            assert_int_equal(ch_scrub_feed(scrub, byte, &out), CH_OK);
            assert_true(ch_span_starts(ch_buf_span(&whole), ch_buf_span(&out)));
        }
        ch_scrub_free(scrub);
        ch_buf_fini(&out);
        ch_buf_fini(&whole);
    }
}

static void an_output_that_is_full_stays_full(void **state)
{
    (void)state;
    struct ch_scrub *scrub;
    struct ch_buf out;
    struct ch_scrub_report report = {.found = 77};
    ch_buf_init(&out, 16);
    assert_int_equal(ch_scrub_new(rules, CH_SCRUB_PLAIN, &scrub), CH_OK);
    assert_int_equal(ch_scrub_feed(scrub, CH_SPAN("{\"password\":\"x\"}"), &out), CH_ERR_LIMIT);
    assert_true(ch_span_starts(CH_SPAN("{\"password\":\"[REDACTED]\"}"), ch_buf_span(&out)));
    assert_int_equal(ch_scrub_feed(scrub, CH_SPAN("x"), &out), CH_ERR_LIMIT);
    assert_int_equal(ch_scrub_finish(scrub, false, &out), CH_ERR_LIMIT);
    ch_scrub_free(scrub);
    ch_buf_clear(&out);
    assert_int_equal(ch_buf_append(&out, "abc", 3), CH_OK);
    assert_int_equal(
        ch_scrub_text(rules, CH_SCRUB_PLAIN, CH_SPAN("more than sixteen"), false, &out, &report),
        CH_ERR_LIMIT);
    assert_int_equal(out.len, 3);
    assert_int_equal(report.found, 77);
    ch_buf_fini(&out);
}

// ---- Against other engines

// The forms as regular expressions, for PCRE2 to judge by.
static const char *const expressions[] = {
    "sk-[a-zA-Z0-9]{20,}",
    "sk-ant-[a-zA-Z0-9_-]{20,}",
    "sk-proj-[a-zA-Z0-9_-]{20,}",
    "sk-svcacct-[a-zA-Z0-9_-]{20,}",
    "sk-admin-[a-zA-Z0-9_-]{20,}",
    "sk-or-v1-[a-zA-Z0-9_-]{20,}",
    "AIza[a-zA-Z0-9_-]{30,}",
    "gsk_[a-zA-Z0-9]{20,}",
    "xai-[a-zA-Z0-9]{20,}",
    "hf_[a-zA-Z0-9]{20,}",
    "pplx-[a-zA-Z0-9]{20,}",
    "nvapi-[a-zA-Z0-9_-]{20,}",
    "Bearer .{20,}",
    "eyJ[a-zA-Z0-9_-]{20,}",
    "xox[bpras]-[a-zA-Z0-9-]{20,}",
    "gh[pousr]_[a-zA-Z0-9]{30,}",
    "github_pat_[a-zA-Z0-9_]{20,}",
    "A[KS]IA[A-Z0-9]{16,}",
    "cha_[a-zA-Z0-9._-]{40,}",
    "ch_[a-z0-9_]{1,48}_sk_[a-zA-Z0-9]{20,}",
};

// Marks what any expression matches from any place on.
static void mark_matches(struct ch_span text, bool *is_match)
{
    static pcre2_code *codes[COUNT(expressions)];
    static pcre2_match_data *data;
    data = data ? data : pcre2_match_data_create(1, NULL);
    for (size_t i = 0; i < COUNT(expressions); i++) {
        int code;
        PCRE2_SIZE offset;
        pcre2_compile_context *context = pcre2_compile_context_create(NULL);
        pcre2_set_newline(context, PCRE2_NEWLINE_ANYCRLF);
        codes[i] = codes[i] ? codes[i]
                            : pcre2_compile((PCRE2_SPTR)expressions[i], PCRE2_ZERO_TERMINATED, 0,
                                            &code, &offset, context);
        pcre2_compile_context_free(context);
        for (size_t at = 0; at < text.len; at++)
            if (pcre2_match(codes[i], (PCRE2_SPTR)text.ptr, text.len, at, PCRE2_ANCHORED, data,
                            NULL) > 0)
                for (size_t end = pcre2_get_ovector_pointer(data)[1], j = at; j < end; j++)
                    is_match[j] = true;
    }
}

static struct ch_span redact_matches(struct ch_span text, char out[TEXT_MAX])
{
    bool is_match[TEXT_MAX] = {0};
    size_t len = 0;
    mark_matches(text, is_match);
    for (size_t i = 0; i < text.len; i++)
        if (!is_match[i])
            out[len++] = text.ptr[i];
        else if (i == 0 || !is_match[i - 1])
            len += (size_t)snprintf(out + len, TEXT_MAX - len, "%s", CH_SCRUB_MARK);
    return (struct ch_span){out, len};
}

// Random texts of fragments that make tokens likely.
static void plain_texts_are_scrubbed_as_the_expressions_say(void **state)
{
    (void)state;
    static const char *const fragments[] = {
        "sk-",
        "ant-",
        "proj-",
        "svcacct-",
        "or-v1-",
        "AIza",
        "gsk_",
        "xai-",
        "hf_",
        "Bearer ",
        "eyJ",
        "xoxb-",
        "ghp_",
        "github_pat_",
        "AKIA",
        "ch_",
        "cha_",
        "_sk_",
        "pplx-",
        "nvapi-",
        "0123456789",
        "abcdefghij",
        "ABCDEFGHIJ",
        "a",
        "Z",
        "-",
        "_",
        " ",
        "\n",
        "\r",
        ".",
        "\\",
        "\xC3\xBC",
        "web",
        "AI",
        "s",
        "gh",
        "012345678901234",
        "x_y_z_0123456789012345",
    };
    char text[TEXT_MAX], expected[TEXT_MAX];
    size_t redacted = 0;
    srand(2);
    for (int round = 0; round < 3000; round++) {
        size_t len = 0;
        for (int left = rand() % 24; left >= 0; left--)
            len += (size_t)snprintf(text + len, sizeof text - len, "%s",
                                    fragments[(size_t)rand() % COUNT(fragments)]);
        struct ch_span wanted = redact_matches((struct ch_span){text, len}, expected);
        expect_span(CH_SCRUB_PLAIN, (struct ch_span){text, len}, wanted);
        redacted += !ch_span_eq((struct ch_span){text, len}, wanted);
    }
    assert_true(redacted > 500);
}

static bool is_telling(const char *name)
{
    static const char *const names[] = {"token", "Authorization", "api-key"};
    for (size_t i = 0; i < COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static json_t *random_json(int depth)
{
    static const char *const texts[] = {"x",        "",       "\"quoted\"",
                                        "sk-" TAIL, "a\\b\n", "\xC3\xBC\xF0\x9F\x98\x80/",
                                        "token",    "]}",     "Bearer " TAIL " \"and\" on",
                                        "\\u0073",  "\\",     "Bearer " TAIL "\nnext\\"};
    int kind = rand() % (depth > 0 ? 7 : 4);
    if (kind == 0)
        return json_integer(rand());
    if (kind == 1)
        return rand() % 2 ? json_null() : json_true();
    if (kind < 4)
        return json_string(texts[(size_t)rand() % COUNT(texts)]);
    static const char *const names[] = {"token", "Authorization", "api-key",     "max_tokens",
                                        "name",  "content",       "a \"b\" \\c", "toke"};
    json_t *json = kind < 6 ? json_object() : json_array();
    for (int left = rand() % 5; left > 0; left--)
        if (json_is_object(json))
            json_object_set_new(json, names[(size_t)rand() % COUNT(names)], random_json(depth - 1));
        else
            json_array_append_new(json, random_json(depth - 1));
    if (rand() % 3)
        return json;
    char *text = json_dumps(json, rand() % 2 ? JSON_ENSURE_ASCII : JSON_INDENT(1)); // in a string
    json_decref(json);
    json = json_string(text);
    free(text);
    return json;
}

static void expect_scrubbed(const json_t *before, const json_t *after);

static void expect_scrubbed_text(const char *before, const char *after)
{
    if (strstr(before, "Bearer ") && before[0] != '{' && before[0] != '[') {
        assert_non_null(strstr(after, "[REDACTED]"));
    } else if (before[0] == '{' || before[0] == '[') {
        json_t *inner = json_loads(before, 0, NULL), *scrubbed = json_loads(after, 0, NULL);
        if (inner && !strstr(before, "Bearer ")) { // which goes on to the end of the string
            assert_non_null(scrubbed);
            expect_scrubbed(inner, scrubbed);
        }
        json_decref(inner);
        json_decref(scrubbed);
    } else {
        assert_string_equal(after, strncmp(before, "sk-", 3) == 0 ? "[REDACTED]" : before);
    }
}

static void expect_scrubbed(const json_t *before, const json_t *after)
{
    const char *name;
    json_t *member;
    size_t i;
    if (json_is_string(before)) {
        assert_true(json_is_string(after));
        expect_scrubbed_text(json_string_value(before), json_string_value(after));
    } else if (json_is_array(before)) {
        assert_int_equal(json_array_size(before), json_array_size(after));
        json_array_foreach((json_t *)(uintptr_t)before, i, member)
            expect_scrubbed(member, json_array_get(after, i));
    } else if (json_is_object(before)) {
        assert_int_equal(json_object_size(before), json_object_size(after));
        json_object_foreach((json_t *)(uintptr_t)before, name, member)
        {
            const json_t *other = json_object_get(after, name);
            assert_non_null(other);
            bool is_harmless = json_is_null(member) || json_is_boolean(member) ||
                               (json_is_string(member) && json_string_length(member) == 0);
            if (is_telling(name) && !is_harmless)
                assert_string_equal(json_string_value(other), "[REDACTED]");
            else
                expect_scrubbed(member, other);
        }
    } else {
        assert_true(json_equal(before, after));
    }
}

static void documents_stay_valid_and_say_the_same_otherwise(void **state)
{
    (void)state;
    srand(3);
    for (int round = 0; round < 4000; round++) {
        struct ch_buf out;
        json_t *before = random_json(4);
        char *text = json_dumps(before, JSON_ENCODE_ANY | (rand() % 2 ? JSON_ENSURE_ASCII : 0) |
                                            (rand() % 2 ? JSON_INDENT(2) : 0) |
                                            (rand() % 2 ? JSON_ESCAPE_SLASH : 0));
        scrub_cut(CH_SCRUB_JSON, ch_span_of(text), NULL, 0, false, &out);
        json_t *after = json_loadb(out.ptr, out.len, JSON_DECODE_ANY, NULL);
        if (!after)
            fail_msg("%s\n  became %.*s", text, CH_SPAN_ARG(ch_buf_span(&out)));
        expect_scrubbed(before, after);
        json_decref(before);
        json_decref(after);
        free(text);
        ch_buf_fini(&out);
    }
}

// ---- Work

static int64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t time_of(const char *fragment, size_t size)
{
    size_t len = strlen(fragment);
    char *text = malloc(size);
    struct ch_buf out;
    assert_non_null(text);
    for (size_t i = 0; i < size; i++)
        text[i] = fragment[i % len];
    int64_t start = cpu_ns();
    scrub_cut(CH_SCRUB_JSON, (struct ch_span){text, size}, NULL, 0, false, &out);
    int64_t took = cpu_ns() - start;
    ch_buf_fini(&out);
    free(text);
    return took;
}

// 20 times the text takes 20 times the time, not 400: with room for a noisy machine.
static void time_grows_with_the_length_alone(void **state)
{
    (void)state;
    static const char *const fragments[] = {"sk-",           "sk-ant-012345678901234567 ",
                                            "ch_",           "ch_a_sk_",
                                            "Bearer ",       "\\",
                                            "\\u007",        "\"token\":",
                                            "\"token\":[",   "\"token\":nul,",
                                            "xoxbgithub_pa", "a"};
    const size_t small = 20 * 1000 / CH_TSAN_SHARE, large = 20 * small;
    for (size_t i = 0; i < COUNT(fragments); i++) {
        int64_t short_ns = time_of(fragments[i], small), long_ns = time_of(fragments[i], large);
        if (long_ns > 20 * 10 * short_ns)
            fail_msg("%s: %lld and %lld ns", fragments[i], (long long)short_ns, (long long)long_ns);
    }
    (void)time_of("sk-sk-ant-ch_Bearer \\u0073", 100 * small); // ends before the test's timeout
}

// ---- The operator's patterns

static enum ch_err scrub_with(enum ch_scrub_mode mode, const char *const *patterns, size_t count,
                              struct ch_span text, struct ch_buf *out,
                              struct ch_scrub_report *report)
{
    struct ch_span spans[CH_SCRUB_PATTERNS_MAX];
    struct ch_scrub_rules *own;
    struct ch_why why = {""};
    for (size_t i = 0; i < count; i++)
        spans[i] = ch_span_of(patterns[i]);
    if (ch_scrub_rules_new(spans, count, &own, &why))
        fail_msg("%s", why.text);
    enum ch_err err = ch_scrub_text(own, mode, text, false, out, report);
    ch_scrub_rules_free(own);
    return err;
}

static void expect_with(enum ch_scrub_mode mode, const char *pattern, const char *text,
                        const char *expected)
{
    struct ch_buf out;
    struct ch_scrub_report report;
    ch_buf_init(&out, TEXT_MAX);
    assert_int_equal(scrub_with(mode, &pattern, 1, ch_span_of(text), &out, &report), CH_OK);
    if (!ch_span_eq(ch_buf_span(&out), ch_span_of(expected)))
        fail_msg("%s\n  became %.*s\n  and not %s", text, CH_SPAN_ARG(ch_buf_span(&out)), expected);
    assert_false(report.is_withheld);
    ch_buf_fini(&out);
}

static void patterns_see_the_contents_of_strings(void **state)
{
    (void)state;
    static const struct {
        enum ch_scrub_mode mode;
        const char *pattern, *text, *expected;
    } cases[] = {
        {CH_SCRUB_PLAIN, "\\d{3}-\\d{2}", "no 123-45, 678-90", "no [REDACTED], [REDACTED]"},
        {CH_SCRUB_PLAIN, "^a.c$", "abc", "[REDACTED]"},
        {CH_SCRUB_PLAIN, "x*", "axxb", "a[REDACTED]b"}, // never the empty match
        {CH_SCRUB_PLAIN, "(?i)\xC3\xBC+", "\xC3\x9C\xC3\xBC!", "[REDACTED]!"},
        {CH_SCRUB_PLAIN, "b",
         "\xFF"
         "b\x80",
         "\xFF[REDACTED]\x80"}, // not UTF-8, searched all the same
        {CH_SCRUB_JSON, "m\xC3\xBCller", "{\"n\":\"M m\\u00fcller\"}", "{\"n\":\"M [REDACTED]\"}"},
        {CH_SCRUB_JSON, "a/b", "[\"a\\/b\",\"a/b\"]", "[\"[REDACTED]\",\"[REDACTED]\"]"},
        {CH_SCRUB_JSON, "\xF0\x9F\x98\x80", "\"x\\ud83d\\ude00\\ud83d\"", "\"x[REDACTED]\\ud83d\""},
        {CH_SCRUB_JSON, "\\n", "[\"a\\nb\\\\n\"]", "[\"a[REDACTED]b\\\\n\"]"},
        {CH_SCRUB_JSON, "\"", "{\"a\":\"b\\\"c\"}", "{\"a\":\"b[REDACTED]c\"}"},
        {CH_SCRUB_JSON, "^\\d{9}$", "{\"a\": 123456789,\"b\":[1234567890,\"987654321\"]}",
         "{\"a\": \"[REDACTED]\",\"b\":[1234567890,\"[REDACTED]\"]}"},
        {CH_SCRUB_JSON, "45", "[123456789]", "[\"[REDACTED]\"]"}, // a number goes whole
        {CH_SCRUB_JSON, "[{}:,]", "{\"a\":1,\"b\":\"{\"}", "{\"a\":1,\"b\":\"[REDACTED]\"}"},
        {CH_SCRUB_JSON, "^name$", "{\"name\":\"x\"}", "{\"[REDACTED]\":\"x\"}"},
        {CH_SCRUB_JSON, "[A-Z]+", "\"sk-" TAIL "x\"", "\"[REDACTED]\""}, // a mark stays one
        {CH_SCRUB_JSON, "x", "\"open x", "\"open [REDACTED]"},
        {CH_SCRUB_JSON, "x", "\"x\\", "\"[REDACTED]\\"},
        {CH_SCRUB_SSE, "^acme$", "event: acme\ndata: {\"a\":\"acme\"}\r\ndata:acme\n: acme\nacme",
         "event: [REDACTED]\ndata: {\"a\":\"[REDACTED]\"}\r\ndata:[REDACTED]\n: [REDACTED]\n"
         "[REDACTED]"},
        {CH_SCRUB_SSE, "data|^$", "data: x\n\n", "data: x\n\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        expect_with(cases[i].mode, cases[i].pattern, cases[i].text, cases[i].expected);
}

static void several_patterns_and_the_built_in_ones_work_together(void **state)
{
    (void)state;
    static const char *const patterns[] = {"acme-\\d+", "-12-"};
    struct ch_buf out;
    struct ch_scrub_report report;
    ch_buf_init(&out, TEXT_MAX);
    assert_int_equal(scrub_with(CH_SCRUB_JSON, patterns, 2,
                                CH_SPAN("{\"a\":\"acme-12-x sk-" TAIL "\",\"auth\":\"y\"}"), &out,
                                &report),
                     CH_OK);
    assert_true(ch_span_eq(ch_buf_span(&out),
                           CH_SPAN("{\"a\":\"[REDACTED]x [REDACTED]\",\"auth\":\"[REDACTED]\"}")));
    assert_int_equal(report.found, CH_SCRUB_PROVIDER_KEY);
    assert_int_equal(report.redactions, 2);
    assert_int_equal(report.matches, 2);
    ch_buf_fini(&out);
}

static void a_pattern_at_its_limit_withholds_the_text(void **state)
{
    (void)state;
    static const char *const patterns[] = {"x", "(a+)+$"};
    static const char *const withheld[] = {"[REDACTED]", "\"[REDACTED]\"",
                                           "data: \"[REDACTED]\"\n\n"};
    const struct ch_span text = CH_SPAN("{\"a\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\"}");
    for (enum ch_scrub_mode mode = CH_SCRUB_PLAIN; mode <= CH_SCRUB_SSE; mode++) {
        struct ch_buf out;
        struct ch_scrub_report report;
        ch_buf_init(&out, TEXT_MAX);
        assert_int_equal(scrub_with(mode, patterns, 2, text, &out, &report), CH_OK);
        assert_true(report.is_withheld);
        assert_true(ch_span_eq(ch_buf_span(&out), ch_span_of(withheld[mode])));
        ch_buf_fini(&out);
    }
}

static void long_texts_are_searched_across_windows(void **state)
{
    (void)state;
    static const char *const patterns[] = {"[0-9]{1000}", "^b", "c$"};
    static char text[5 * CH_SCRUB_WINDOW];
    for (size_t at = 1; at < 3 * CH_SCRUB_WINDOW; at += 311) {
        struct ch_buf out;
        struct ch_scrub_report report;
        memset(text, 'b', sizeof text);
        memset(text + CH_SCRUB_WINDOW - 1, 'c', 1); // no line ends here
        memset(text + at, '7', 1000);
        ch_buf_init(&out, sizeof text);
        assert_int_equal(scrub_with(CH_SCRUB_PLAIN, patterns, 3,
                                    (struct ch_span){text, sizeof text}, &out, &report),
                         CH_OK);
        size_t marks = at == 1 ? 1 : 2; // those of the first b and of the digits touch
        assert_int_equal(out.len, sizeof text - 1 - 1000 + marks * strlen(CH_SCRUB_MARK));
        assert_null(memchr(out.ptr, '7', out.len));
        ch_buf_fini(&out);
    }
}

// `\w+@` alone would take hours of steps that no limit counts: 2^22 · 2^22 / 2.
static void an_innocent_pattern_ends_on_a_long_word(void **state)
{
    (void)state;
    static const char *const patterns[] = {"[\\w.+-]+@[\\w-]+\\.\\w+"};
    const size_t size = 4 << 20;
    char *text = malloc(size);
    struct ch_buf out;
    struct ch_scrub_report report;
    assert_non_null(text);
    memset(text, 'a', size);
    ch_buf_init(&out, size);
    assert_int_equal(
        scrub_with(CH_SCRUB_PLAIN, patterns, 1, (struct ch_span){text, size}, &out, &report),
        CH_OK);
    assert_int_equal(out.len, size);
    assert_false(report.is_withheld);
    ch_buf_fini(&out);
    free(text);
}

static void wrong_patterns_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *sentence;
    } cases[] = {
        {"a(b", "pattern 2 (a(b): at offset 3: missing closing parenthesis"},
        {"a[", "pattern 2 (a[): at offset 2: missing terminating ]"},
        {"\\C", "pattern 2 (\\C): at offset 2: "},
        {"", "pattern 2 is empty"},
        {"0123456789012345678901234567890123456789(",
         "pattern 2 "
         "(0123456789012345678901234567890123456789...): at offset 41: "},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct ch_span patterns[] = {CH_SPAN("fine"), ch_span_of(cases[i].pattern)};
        struct ch_scrub_rules *own = NULL;
        struct ch_why why = {""};
        assert_int_equal(ch_scrub_rules_new(patterns, 2, &own, &why), CH_ERR_INVALID);
        assert_null(own);
        if (strncmp(why.text, cases[i].sentence, strlen(cases[i].sentence)) != 0)
            fail_msg("%s", why.text);
    }
}

static void patterns_are_limited(void **state)
{
    (void)state;
    struct ch_span patterns[CH_SCRUB_PATTERNS_MAX + 1];
    char longest[CH_SCRUB_PATTERN_MAX + 1], nested[200];
    struct ch_scrub_rules *own;
    struct ch_why why = {""};
    for (size_t i = 0; i < COUNT(patterns); i++)
        patterns[i] = CH_SPAN("x");
    assert_int_equal(ch_scrub_rules_new(patterns, COUNT(patterns), &own, &why), CH_ERR_LIMIT);
    assert_int_equal(ch_scrub_rules_new(patterns, COUNT(patterns) - 1, &own, &why), CH_OK);
    ch_scrub_rules_free(own);
    memset(longest, 'x', sizeof longest);
    patterns[0] = (struct ch_span){longest, sizeof longest};
    assert_int_equal(ch_scrub_rules_new(patterns, 1, &own, &why), CH_ERR_LIMIT);
    assert_non_null(strstr(why.text, "pattern 1 "));
    patterns[0].len--;
    assert_int_equal(ch_scrub_rules_new(patterns, 1, &own, &why), CH_OK);
    ch_scrub_rules_free(own);
    memset(nested, '(', 100);
    memset(nested + 100, ')', 100);
    patterns[0] = (struct ch_span){nested, sizeof nested};
    assert_int_equal(ch_scrub_rules_new(patterns, 1, &own, &why), CH_ERR_INVALID);
    assert_non_null(strstr(why.text, "at offset "));
}

// ---- The tripwire

static void the_tripwire_says_what_kind_it_saw(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned found;
    } cases[] = {
        {"{\"messages\":[{\"content\":\"how do I keep a token secret?\"}]}", 0},
        {"{\"content\":\"my key is sk-proj-" TAIL "\"}", CH_SCRUB_PROVIDER_KEY},
        {"{\"content\":\"my key is \\u0073k-" TAIL "\"}", CH_SCRUB_PROVIDER_KEY},
        {"{\"content\":\"" WRAPPED "\"}", CH_SCRUB_WRAPPED_KEY},
        {"{\"content\":\"" WRAPPED " xai-" TAIL "\"}",
         CH_SCRUB_WRAPPED_KEY | CH_SCRUB_PROVIDER_KEY},
        {"{\"content\":\"ghp_" TAIL "\"}", CH_SCRUB_OTHER_TOKEN},
        {"{\"password\":\"hunter2\"}", 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_int_equal(ch_scrub_look(rules, CH_SCRUB_JSON, ch_span_of(cases[i].text)),
                         cases[i].found);
    struct ch_scrub *scrub;
    assert_int_equal(ch_scrub_new(rules, CH_SCRUB_JSON, &scrub), CH_OK);
    assert_int_equal(ch_scrub_feed(scrub, CH_SPAN("xai-" TAIL), NULL), CH_OK); // only look
    assert_int_equal(ch_scrub_finish(scrub, false, NULL), CH_OK);
    assert_int_equal(ch_scrub_found(scrub), CH_SCRUB_PROVIDER_KEY);
    ch_scrub_free(scrub);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_is_redacted_from_its_shortest_on),
        cmocka_unit_test(what_is_too_short_or_looks_alike_is_left_alone),
        cmocka_unit_test(tokens_end_where_their_characters_end),
        cmocka_unit_test(our_own_keys_are_found),
        cmocka_unit_test(tokens_in_json_are_found_behind_escapes),
        cmocka_unit_test(the_value_of_a_telling_name_is_redacted_whole),
        cmocka_unit_test(other_members_are_left_alone),
        cmocka_unit_test(names_are_found_in_strings_and_in_plain_text),
        cmocka_unit_test(sse_lines_are_json_or_text),
        cmocka_unit_test(the_output_does_not_depend_on_the_pieces),
        cmocka_unit_test(a_cut_text_keeps_no_front_of_a_token),
        cmocka_unit_test(output_at_every_moment_is_a_front_of_the_whole),
        cmocka_unit_test(an_output_that_is_full_stays_full),
        cmocka_unit_test(plain_texts_are_scrubbed_as_the_expressions_say),
        cmocka_unit_test(documents_stay_valid_and_say_the_same_otherwise),
        cmocka_unit_test(time_grows_with_the_length_alone),
        cmocka_unit_test(patterns_see_the_contents_of_strings),
        cmocka_unit_test(several_patterns_and_the_built_in_ones_work_together),
        cmocka_unit_test(a_pattern_at_its_limit_withholds_the_text),
        cmocka_unit_test(long_texts_are_searched_across_windows),
        cmocka_unit_test(an_innocent_pattern_ends_on_a_long_word),
        cmocka_unit_test(wrong_patterns_are_named),
        cmocka_unit_test(patterns_are_limited),
        cmocka_unit_test(the_tripwire_says_what_kind_it_saw),
    };
    return cmocka_run_group_tests(tests, make_rules, free_rules);
}
