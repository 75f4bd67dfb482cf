// SPDX-License-Identifier: Apache-2.0
#include "capture_event.h"

#include "base/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define KEY "sk-Zq3Canary7Hs9Kd2Lw5Mx8" // made up

static struct ch_scrub_rules *scrub;
static struct ch_why why;

static struct ch_capture make_capture(const char *request, const char *response)
{
    struct ch_capture capture = {.has_request = true, .has_response = true};
    ch_buf_init(&capture.request, 4096);
    ch_buf_init(&capture.response, 4096);
    assert_int_equal(ch_buf_append_span(&capture.request, ch_span_of(request)), CH_OK);
    assert_int_equal(ch_buf_append_span(&capture.response, ch_span_of(response)), CH_OK);
    return capture;
}

static void free_capture(struct ch_capture *capture)
{
    ch_buf_fini(&capture->request);
    ch_buf_fini(&capture->response);
}

static const char *text_of(const json_t *event, const char *member)
{
    return json_string_value(json_object_get(event, member));
}

static void bodies_and_columns_are_scrubbed(void **state)
{
    (void)state;
    json_t *event = json_pack("{s:s, s:s, s:s}", "id", "req_00000000001", "user_agent",
                              "agent " KEY, "model_sent", "gpt-4o");
    struct ch_capture capture = make_capture("{\"a\":\"" KEY "\",\"token\":7}", "plain " KEY "!");
    capture.response_mode = CH_SCRUB_PLAIN;
    assert_int_equal(ch_capture_event_fill(event, &capture, scrub), CH_OK);
    assert_string_equal(text_of(event, "request_body"),
                        "{\"a\":\"[REDACTED]\",\"token\":\"[REDACTED]\"}");
    assert_string_equal(text_of(event, "response_body"), "plain [REDACTED]!");
    assert_string_equal(text_of(event, "user_agent"), "agent [REDACTED]");
    assert_string_equal(text_of(event, "model_sent"), "gpt-4o");
    assert_null(json_object_get(event, "request_body_is_cut"));
    free_capture(&capture);
    json_decref(event);
}

static void a_cut_leaves_no_front_of_a_key_and_no_half_character(void **state)
{
    (void)state;
    json_t *event = json_object();
    struct ch_capture capture = make_capture("{\"a\":\"x sk-Zq3C", "{\"a\":\"x\xE2\x82");
    capture.response_mode = CH_SCRUB_JSON;
    capture.request_is_cut = capture.response_is_cut = true;
    assert_int_equal(ch_capture_event_fill(event, &capture, scrub), CH_OK);
    assert_string_equal(text_of(event, "request_body"), "{\"a\":\"x [REDACTED]");
    assert_string_equal(text_of(event, "response_body"), "{\"a\":\"x");
    assert_true(json_is_true(json_object_get(event, "request_body_is_cut")));
    assert_true(json_is_true(json_object_get(event, "response_body_is_cut")));
    free_capture(&capture);
    json_decref(event);
}

static void what_is_no_text_is_left_out(void **state)
{
    (void)state;
    json_t *event = json_object();
    struct ch_capture capture = make_capture("{}", "\xFF\xFE binary");
    assert_int_equal(ch_buf_append(&capture.request, "\0{}", 3), CH_OK);
    assert_int_equal(ch_capture_event_fill(event, &capture, scrub), CH_OK);
    assert_int_equal(json_object_size(event), 0);
    free_capture(&capture);
    json_decref(event);
}

// Whether the rule keeps the event; what it has made of it in *event.
static bool apply(const char *rule, json_t *event)
{
    struct ch_record_rules *rules = NULL;
    const struct ch_span text = ch_span_of(rule);
    const unsigned char key[CH_RECORD_RULE_KEY] = {1};
    bool keep = false;
    assert_int_equal(ch_record_rules_new(&text, 1, &rules, &why), CH_OK);
    assert_int_equal(ch_capture_event_apply(event, rules, key, &keep), CH_OK);
    ch_record_rules_free(rules);
    return keep;
}

static void rules_see_the_columns_as_text(void **state)
{
    (void)state;
    json_t *event = json_pack("{s:s, s:s, s:i, s:b, s:n}", "team", "", "key", "web", "status", 200,
                              "is_stream", 1, "first_byte_us");
    assert_false(apply("drop if status equals 200", event));
    assert_false(apply("drop if is_stream equals true", event));
    assert_false(apply("drop if key prefix we", event));
    assert_true(apply("drop if team present", event)); // empty
    assert_true(apply("drop if first_byte_us present", event));
    assert_true(apply("drop if request_body present", event));
    assert_true(apply("strip status", event));
    assert_null(json_object_get(event, "status"));
    assert_true(apply("replace key with other", event));
    assert_string_equal(text_of(event, "key"), "other");
    assert_true(apply("hash key", event));
    assert_int_equal(strlen(text_of(event, "key")), 2 * CH_RECORD_RULE_HASH);
    json_decref(event);
}

static void an_event_is_one_line(void **state)
{
    (void)state;
    struct ch_buf line;
    json_t *event = json_pack("{s:s}", "request_body", "a\nb");
    ch_buf_init(&line, 64);
    assert_int_equal(ch_capture_event_write(event, &line), CH_OK);
    assert_true(ch_span_eq(ch_buf_span(&line), CH_SPAN("{\"request_body\":\"a\\nb\"}")));
    ch_buf_fini(&line);
    ch_buf_init(&line, 8);
    assert_int_equal(ch_capture_event_write(event, &line), CH_ERR_LIMIT);
    ch_buf_fini(&line);
    json_decref(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_and_columns_are_scrubbed),
        cmocka_unit_test(a_cut_leaves_no_front_of_a_key_and_no_half_character),
        cmocka_unit_test(what_is_no_text_is_left_out),
        cmocka_unit_test(rules_see_the_columns_as_text),
        cmocka_unit_test(an_event_is_one_line),
    };
    if (ch_secret_process_init(&why) || ch_scrub_rules_new(NULL, 0, &scrub, &why))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ch_scrub_rules_free(scrub);
    return failed;
}
