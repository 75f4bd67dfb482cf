// SPDX-License-Identifier: Apache-2.0
#include "wire/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static void assert_span(struct ch_span span, const char *wanted)
{
    if (!ch_span_eq(span, ch_span_of(wanted)))
        fail_msg("\"%.*s\", not \"%s\"", CH_SPAN_ARG(span), wanted);
}

static void assert_url(const char *text, bool tls, const char *host, uint16_t port,
                       const char *path)
{
    struct ch_url url;
    struct ch_why why = {""};
    if (ch_url_parse(ch_span_of(text), &url, &why))
        fail_msg("%s: %s", text, why.text);
    assert_int_equal(url.tls, tls);
    assert_span(url.host, host);
    assert_int_equal(url.port, port);
    assert_span(url.path, path);
    assert_int_equal(url.host_is_ipv6, strchr(host, ':') != NULL);
}

static void test_urls(void **state)
{
    (void)state;
    assert_url("https://api.openai.com/v1", true, "api.openai.com", 443, "/v1");
    assert_url("https://api.openai.com/v1/", true, "api.openai.com", 443, "/v1");
    assert_url("https://api.anthropic.com", true, "api.anthropic.com", 443, "");
    assert_url("https://api.anthropic.com/", true, "api.anthropic.com", 443, "");
    assert_url("HTTP://127.0.0.1:11434/v1", false, "127.0.0.1", 11434, "/v1");
    assert_url("http://vllm_1:8000/a/b.c/d:e", false, "vllm_1", 8000, "/a/b.c/d:e");
    assert_url("http://[::1]:8000/v1", false, "::1", 8000, "/v1");
    assert_url("https://[2001:db8::1]", true, "2001:db8::1", 443, "");
    assert_url("https://1.example.com:65535", true, "1.example.com", 65535, "");
    assert_url("http://localhost", false, "localhost", 80, "");
}

static void test_refused_urls(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "api.openai.com",
        "ftp://h",
        "https:/h",
        "https://",
        "https:///v1",
        "https://user@h",
        "https://user:secret@h/v1",
        "https://h/v1?x=y",
        "https://h?x",
        "https://h/v1#x",
        "https://h#@evil",
        "https://h:0",
        "https://h:",
        "https://h:65536",
        "https://h:0443",
        "https://h:44x",
        "https://h:-1",
        "https://h h",
        "https://h\\evil",
        "https://h/v1 ",
        " https://h/v1",
        "https://h/../v1",
        "https://h/v1//x",
        "https://h//",
        "https://h/%2e%2e/v1",
        "https://h/\xc3\xa9",
        "https://h\xc3\xa9",
        "https://.h",
        "https://h..x",
        "https://h.",
        "https://127.1",
        "https://0x7f000001",
        "https://2130706433",
        "https://0177.0.0.1",
        "https://1.2.3.4.5",
        "https://a.0x",
        "https://256.1.1.1",
        "https://[::1",
        "https://[::1]x",
        "https://[]",
        "https://[v1.x]",
        "https://[fe80::1%25eth0]",
        "https://[127.0.0.1]",
        "https://::1",
        "https://a234567890123456789012345678901234567890123456789012345678901234.com",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct ch_url url;
        struct ch_why why = {""};
        if (ch_url_parse(ch_span_of(texts[i]), &url, &why) != CH_ERR_INVALID)
            fail_msg("%s was accepted", texts[i]);
        assert_true(strlen(why.text) > 0);
        assert_null(strstr(why.text, "secret"));
    }
    struct ch_url url;
    assert_int_equal(ch_url_parse(CH_SPAN("https://h\0.example"), &url, NULL), CH_ERR_INVALID);
}

static void test_authority(void **state)
{
    (void)state;
    struct ch_authority authority;
    assert_int_equal(ch_authority_parse(CH_SPAN("p"), &authority), CH_OK);
    assert_int_equal(authority.port, 0);
    assert_int_equal(ch_authority_parse(CH_SPAN("[::1]:80"), &authority), CH_OK);
    assert_span(authority.host, "::1");
    assert_int_equal(authority.port, 80);
    assert_true(authority.host_is_ipv6);
    assert_int_equal(ch_authority_parse(CH_SPAN(""), &authority), CH_ERR_INVALID);
    assert_int_equal(ch_authority_parse((struct ch_span){NULL, 0}, &authority), CH_ERR_INVALID);
    assert_int_equal(ch_authority_parse(CH_SPAN(":80"), &authority), CH_ERR_INVALID);
    assert_int_equal(ch_authority_parse(CH_SPAN("p:80:80"), &authority), CH_ERR_INVALID);
    assert_int_equal(ch_authority_parse(CH_SPAN("a@p"), &authority), CH_ERR_INVALID);
}

static void test_split(void **state)
{
    (void)state;
    struct ch_target target = ch_target_split(CH_SPAN("/v1/models"));
    assert_span(target.path, "/v1/models");
    assert_null(target.query.ptr);
    target = ch_target_split(CH_SPAN("/v1?a=b?c"));
    assert_span(target.path, "/v1");
    assert_span(target.query, "a=b?c");
    target = ch_target_split(CH_SPAN("/v1?"));
    assert_non_null(target.query.ptr);
    assert_int_equal(target.query.len, 0);
}

static void test_plain_paths(void **state)
{
    (void)state;
    static const char *const plain[] = {
        "/v1",
        "/v1/chat/completions",
        "/v1beta/models/gemini-2.5-pro:generateContent",
        "/v1beta/models/gemini-2.5-pro%3AgenerateContent",
        "/openai/deployments/my_dep~1/chat",
        "/v1/models/ft:gpt-4o:org::id",
        "/v1/...",
        "/v1/.hidden",
        "/v1/a..b",
        "/v1/x;y=z",
        "/v1/%C3%A9",
    };
    static const char *const odd[] = {
        "",
        "/",
        "*",
        "v1",
        "//v1",
        "/v1//models",
        "/v1/",
        "/v1/.",
        "/v1/..",
        "/v1/../admin",
        "/./v1",
        "/v1/..;/admin",
        "/v1/.;x/admin",
        "/v1/;x",
        "/v1\\..\\admin",
        "/v1/%2e%2e/admin",
        "/v1/%2E./admin",
        "/v1/models%2f..",
        "/v1/models%2F",
        "/v1/a%5cb",
        "/v1/a%00",
        "/v1/a%0a",
        "/v1/a%1f",
        "/v1/a%7F",
        "/v1/%252e",
        "/v1/a%",
        "/v1/a%2",
        "/v1/a%zz",
        "/v1/a b",
        "/v1/a#b",
        "/v1/a?b",
        "/v1/a\x01",
        "/v1/a\x7f",
        "/v1/\xc3\xa9",
        "/v1/{x}",
        "/v1/a|b",
    };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (!ch_target_path_is_plain(ch_span_of(plain[i])))
            fail_msg("%s is plain", plain[i]);
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        if (ch_target_path_is_plain(ch_span_of(odd[i])))
            fail_msg("%s is not plain", odd[i]);
    assert_false(ch_target_path_is_plain(CH_SPAN("/v1/a\0b")));
}

static void assert_found(const char *query, const char *value, const char *whole)
{
    struct ch_span found, all, text = ch_span_of(query);
    assert_true(ch_query_find(text, CH_SPAN("key"), &found, &all));
    assert_span(found, value);
    assert_span(all, whole);
    assert_true(all.ptr >= text.ptr && all.ptr + all.len <= text.ptr + text.len);
}

static void test_query(void **state)
{
    (void)state;
    assert_found("key=v", "v", "key=v");
    assert_found("key=v&alt=sse", "v", "key=v&");
    assert_found("alt=sse&key=v", "v", "&key=v");
    assert_found("a=b&key=v&alt=sse", "v", "&key=v");
    assert_found("key=&alt=sse", "", "key=&");
    assert_found("a&key&b", "", "&key");
    assert_found("key=a=b", "a=b", "key=a=b");
    assert_found("key=1&key=2", "1", "key=1&");
    assert_found("&key=v", "v", "&key=v");
    assert_found("alt=sse&k%65y=v", "v", "&k%65y=v");
    assert_found("%6B%65%79=v", "v", "%6B%65%79=v");

    static const char *const without[] = {"",      "Key=v",  "keys=v",   "mykey=v",
                                          "a=key", "a=b&&c", "=key",     "ke=y",
                                          "k%6=v", "k%65=v", "key%00=v", "key+=v"};
    struct ch_span value, whole;
    for (size_t i = 0; i < sizeof without / sizeof *without; i++)
        if (ch_query_find(ch_span_of(without[i]), CH_SPAN("key"), &value, &whole))
            fail_msg("%s holds no key", without[i]);
    assert_false(ch_query_find((struct ch_span){NULL, 0}, CH_SPAN("key"), &value, &whole));
}

static void test_decode(void **state)
{
    (void)state;
    char out[8];
    size_t len = 99;
    assert_int_equal(ch_url_decode(CH_SPAN("a%3Ab+%c3"), out, sizeof out, &len), CH_OK);
    assert_span((struct ch_span){out, len}, "a:b+\xc3");
    assert_int_equal(ch_url_decode(CH_SPAN("%2565"), out, sizeof out, &len), CH_OK);
    assert_span((struct ch_span){out, len}, "%65"); // once
    assert_int_equal(ch_url_decode(CH_SPAN(""), out, sizeof out, &len), CH_OK);
    assert_int_equal(len, 0);
    assert_int_equal(ch_url_decode(CH_SPAN("\xff%ff"), out, sizeof out, &len), CH_OK);
    assert_int_equal(len, 2);
    assert_int_equal(ch_url_decode(CH_SPAN("12345678"), out, sizeof out, &len), CH_OK);
    assert_int_equal(ch_url_decode(CH_SPAN("123456789"), out, sizeof out, &len), CH_ERR_LIMIT);
    assert_int_equal(ch_url_decode(CH_SPAN("a%"), out, sizeof out, &len), CH_ERR_INVALID);
    assert_int_equal(ch_url_decode(CH_SPAN("a%4"), out, sizeof out, &len), CH_ERR_INVALID);
    assert_int_equal(ch_url_decode(CH_SPAN("a%4g"), out, sizeof out, &len), CH_ERR_INVALID);
    assert_int_equal(ch_url_decode(CH_SPAN("a%00"), out, sizeof out, &len), CH_ERR_INVALID);
    assert_int_equal(ch_url_decode(CH_SPAN("a\0b"), out, sizeof out, &len), CH_ERR_INVALID);
}

static void test_loopback(void **state)
{
    (void)state;
    static const char *const loopback[] = {"localhost",   "LOCALHOST", "127.0.0.1",
                                           "127.255.0.9", "::1",       "0:0:0:0:0:0:0:1"};
    static const char *const other[] = {
        "",           "localhost.", "localhost.evil",   "127.1", "0.0.0.0",
        "128.0.0.1",  "::",         "::ffff:127.0.0.1", "[::1]", "127.0.0.1 ",
        "2130706433", "1270.0.0.1", "127.0.0.1.evil"};
    for (size_t i = 0; i < sizeof loopback / sizeof *loopback; i++)
        assert_true(ch_url_host_is_loopback(ch_span_of(loopback[i])));
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        assert_false(ch_url_host_is_loopback(ch_span_of(other[i])));
    assert_false(ch_url_host_is_loopback(CH_SPAN("127.0.0.1\0")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),        cmocka_unit_test(test_refused_urls),
        cmocka_unit_test(test_authority),   cmocka_unit_test(test_split),
        cmocka_unit_test(test_plain_paths), cmocka_unit_test(test_query),
        cmocka_unit_test(test_decode),      cmocka_unit_test(test_loopback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
