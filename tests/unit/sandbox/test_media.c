// SPDX-License-Identifier: Apache-2.0
// Images and sound of the sandbox: what it reads of forms, what it answers, and that the usage it
// states is what the meter's scanner finds in the answer.
#include "../../../src/sandbox/answer.h"

#include "wire/sse.h"
#include "wire/usage_scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

static struct ch_script_book *book;
static struct ch_json_plan *plan;
static struct ch_usage_plans *usage_plans;
static struct ch_sandbox_source source;
static struct ch_sandbox_request request;
static struct ch_sandbox_answer answer;
static struct ch_buf text; // of the last answer, NUL behind

static int begin(void **state)
{
    (void)state;
    ch_sandbox_source_init(&source);
    ch_buf_init(&text, 1 << 20);
    return ch_script_book_new(&book) != CH_OK || ch_sandbox_request_plan_new(&plan) != CH_OK ||
           ch_usage_plans_new(&usage_plans) != CH_OK;
}

static int end(void **state)
{
    (void)state;
    ch_script_book_free(book);
    ch_json_plan_free(plan);
    ch_usage_plans_free(usage_plans);
    ch_sandbox_source_fini(&source);
    ch_buf_fini(&text);
    return 0;
}

static void ask(const char *path, const char *content_type, const char *body)
{
    static struct ch_http1_head parsed;
    static struct ch_json_scan scan;
    static struct ch_multipart form;
    char bytes[2048];
    struct ch_http1_head_parser parser;
    struct ch_http1_error error;
    bool is_whole;
    snprintf(bytes, sizeof bytes,
             "POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n", path,
             content_type, strlen(body));
    ch_http1_request_init(&parser);
    assert_int_equal(ch_http1_head_parse(&parser, ch_span_of(bytes), &parsed, &error),
                     CH_HTTP1_DONE);
    ch_sandbox_request_begin(&request, &parsed, bytes, CH_SPAN(""));
    request.body_bytes = (int64_t)strlen(body);
    if (request.is_form) {
        ch_multipart_init(&form, (struct ch_span){request.boundary, request.boundary_len},
                          ch_sandbox_form_fields, CH_SANDBOX_FORM_FIELDS,
                          ch_sandbox_request_take_field, &request);
        is_whole = !ch_multipart_feed(&form, ch_span_of(body)) && !ch_multipart_finish(&form);
        request.ask.file_bytes = (int64_t)form.file_bytes;
    } else {
        ch_json_scan_init(&scan, plan, ch_sandbox_request_take_value, &request);
        is_whole = !ch_json_scan_feed(&scan, ch_span_of(body)) && !ch_json_scan_finish(&scan);
    }
    ch_sandbox_request_finish(&request, is_whole);
    ch_sandbox_answer_begin(&answer, &request, book, &source, 12345, 1800000000000);
    ch_buf_clear(&text);
    while (answer.is_stream && !answer.is_over)
        assert_int_equal(ch_sandbox_answer_event(&answer, &request, &source, &text), CH_OK);
    if (!answer.is_stream)
        assert_int_equal(ch_sandbox_answer_document(&answer, &request, book, &source, &text),
                         CH_OK);
    assert_int_equal(ch_buf_append(&text, "", 1), CH_OK);
    text.len--;
}

static void ask_json(const char *path, const char *body)
{
    ask(path, "application/json", body);
}

#define FIELD(name, value)                                                                         \
    "--B\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
#define UPLOAD(name)                                                                               \
    "--B\r\nContent-Disposition: form-data; name=\"" name "\"; filename=\"a\"\r\n\r\n%s\r\n"
#define LAST "--B--\r\n"

// `fields`, and in them one upload of that many bytes, where "%s" stands.
static void ask_form(const char *path, const char *fields, size_t upload_bytes)
{
    static char body[70000], file[65000];
    assert_true(upload_bytes < sizeof file);
    memset(file, 'x', upload_bytes);
    file[upload_bytes] = '\0';
    const char *place = strstr(fields, "%s");
    assert_non_null(place);
    int len =
        snprintf(body, sizeof body, "%.*s%s%s", (int)(place - fields), fields, file, place + 2);
    assert_true(len > 0 && (size_t)len < sizeof body);
    ask(path, "multipart/form-data; boundary=B", body);
}

static json_t *document(void)
{
    json_error_t error;
    assert_int_equal(answer.status, 200);
    assert_false(answer.is_stream);
    json_t *json = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &error);
    if (!json)
        fail_msg("%s in %s", error.text, text.ptr);
    return json;
}

static void assert_holds(const char *part)
{
    if (!strstr(text.ptr, part))
        fail_msg("no %s in: %s", part, text.ptr);
}

static void assert_lacks(const char *part)
{
    if (strstr(text.ptr, part))
        fail_msg("%s in: %s", part, text.ptr);
}

static json_int_t recorded(const char *name)
{
    struct ch_buf line;
    ch_buf_init(&line, 65536);
    assert_int_equal(ch_sandbox_answer_record(&answer, book, "done", &line), CH_OK);
    json_t *record = json_loadb(line.ptr, line.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(record);
    json_int_t value = json_integer_value(json_object_get(record, name));
    json_decref(record);
    ch_buf_fini(&line);
    return value;
}

static void on_data(void *arg, struct ch_span piece)
{
    ch_usage_scan_feed(arg, piece);
}

static void on_event(void *arg, struct ch_span name)
{
    ch_usage_scan_end_document(arg, name);
}

// What the meter reads off the answer.
static const struct ch_usage_scan *metered(enum ch_usage_form form)
{
    static const struct ch_sse_handler handler = {on_data, on_event};
    static struct ch_usage_scan scan;
    struct ch_sse sse;
    struct ch_span rest = ch_buf_span(&text);
    bool block_end;
    ch_usage_scan_init(&scan, usage_plans, form);
    ch_sse_init(&sse);
    if (!answer.is_stream)
        ch_usage_scan_feed(&scan, rest);
    while (answer.is_stream && rest.len)
        rest = ch_span_sub(rest, ch_sse_feed(&sse, rest, &handler, &scan, &block_end));
    ch_usage_scan_end_document(&scan, CH_SPAN(""));
    return &scan;
}

static void assert_metered(enum ch_usage_form form, enum ch_usage_slot slot, int64_t count)
{
    const struct ch_usage_scan *scan = metered(form);
    assert_true(scan->is_complete);
    assert_int_equal(scan->raw.slot[slot], count);
}

// ---- images

static void images_come_in_the_number_asked_for(void **state)
{
    (void)state;
    ask_json("/v1/images/generations",
             "{\"model\":\"gpt-image-1\",\"prompt\":\"a\",\"n\":3,\"size\":\"1024x1536\","
             "\"quality\":\"high\"}");
    json_t *json = document();
    assert_int_equal(json_array_size(json_object_get(json, "data")), 3);
    json_decref(json);
    assert_holds("\"b64_json\":\"iVBORw0");
    assert_holds("\"size\":\"1024x1536\"");
    assert_holds("\"quality\":\"high\"");
    assert_metered(CH_USAGE_OPENAI_IMAGES, CH_SLOT_OUTPUT, 3 * 1056);
    assert_metered(CH_USAGE_OPENAI_IMAGES, CH_SLOT_IMAGES, 3);
    assert_int_equal(recorded("output_tokens"), 3 * 1056);
    assert_int_equal(recorded("images"), 3);
}

static void older_image_models_state_no_usage(void **state)
{
    (void)state;
    ask_json("/v1/images/generations", "{\"model\":\"dall-e-3\",\"prompt\":\"a\",\"n\":2}");
    json_decref(document());
    assert_holds("\"url\":\"https://");
    assert_lacks("usage");
    assert_metered(CH_USAGE_OPENAI_IMAGES, CH_SLOT_IMAGES, 2);
    assert_int_equal(recorded("images"), 2);
    assert_int_equal(recorded("output_tokens"), 0);
    assert_int_equal(recorded("input_tokens"), 0);
    ask_json("/v1/images/generations",
             "{\"model\":\"dall-e-2\",\"prompt\":\"a\",\"response_format\":\"b64_json\"}");
    json_decref(document());
    assert_holds("b64_json");
    ask_json("/v1/images/generations", "{\"model\":\"gpt-image-1\",\"prompt\":\"a\",\"n\":11}");
    assert_int_equal(answer.status, 400);
}

static void images_stream_with_usage_at_the_end(void **state)
{
    (void)state;
    ask_json("/v1/images/generations",
             "{\"model\":\"gpt-image-1\",\"prompt\":\"a\",\"stream\":true}");
    assert_true(answer.is_stream);
    assert_holds("event: image_generation.partial_image\n");
    assert_holds("event: image_generation.completed\n");
    assert_metered(CH_USAGE_OPENAI_IMAGES, CH_SLOT_OUTPUT, 1056);
    assert_metered(CH_USAGE_OPENAI_IMAGES, CH_SLOT_IMAGES, 1);
    ask_form("/v1/images/edits",
             UPLOAD("image") FIELD("model", "gpt-image-1") FIELD("stream", "true") LAST, 10);
    assert_holds("event: image_edit.completed\n");
    assert_metered(CH_USAGE_OPENAI_IMAGES, CH_SLOT_IMAGE_IN, 200);
}

static void edits_are_read_from_forms_and_from_json(void **state)
{
    (void)state;
    ask_form("/v1/images/edits",
             UPLOAD("image[]") FIELD("model", "gpt-image-1") FIELD("n", "2") LAST, 5000);
    json_decref(document());
    assert_metered(CH_USAGE_OPENAI_IMAGES, CH_SLOT_IMAGES, 2);
    assert_metered(CH_USAGE_OPENAI_IMAGES, CH_SLOT_IMAGE_IN, 200);
    // The file's bytes are no text.
    assert_true(recorded("input_tokens") > 200 && recorded("input_tokens") < 400);
    ask_json("/v1/images/edits", "{\"model\":\"gpt-image-1\",\"prompt\":\"a\",\"images\":[]}");
    json_decref(document());
    assert_metered(CH_USAGE_OPENAI_IMAGES, CH_SLOT_IMAGES, 1);
    ask_form("/v1/images/variations", UPLOAD("image") FIELD("n", "4") LAST, 100);
    json_decref(document());
    assert_metered(CH_USAGE_OPENAI_IMAGES, CH_SLOT_IMAGES, 4);
}

// ---- sound

static void transcripts_state_tokens_or_seconds(void **state)
{
    (void)state;
    ask_form("/v1/audio/transcriptions", UPLOAD("file") FIELD("model", "gpt-4o-transcribe") LAST,
             40000); // 2.5 s: three
    json_decref(document());
    assert_holds("\"type\":\"tokens\"");
    assert_metered(CH_USAGE_OPENAI_TRANSCRIPTION, CH_SLOT_AUDIO_IN, 30);
    assert_metered(CH_USAGE_OPENAI_TRANSCRIPTION, CH_SLOT_OUTPUT, 48);
    ask_form("/v1/audio/transcriptions", FIELD("model", "whisper-1") UPLOAD("file") LAST, 40000);
    json_decref(document());
    assert_metered(CH_USAGE_OPENAI_TRANSCRIPTION, CH_SLOT_AUDIO_MS, 3000);
    assert_int_equal(recorded("audio_seconds"), 3);
    assert_int_equal(recorded("input_tokens"), 0);
    ask_form("/v1/audio/translations",
             FIELD("model", "whisper-1") FIELD("response_format", "verbose_json") UPLOAD("file")
                 LAST,
             100);
    json_t *json = document();
    assert_string_equal(json_string_value(json_object_get(json, "task")), "translate");
    assert_int_equal(json_integer_value(json_object_get(json, "duration")), 1);
    json_decref(json);
}

static void bare_transcripts_state_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *form, *beginning;
    } cases[] = {
        {FIELD("model", "whisper-1") FIELD("response_format", "text") UPLOAD("file") LAST, "This"},
        {FIELD("model", "whisper-1") FIELD("response_format", "srt") UPLOAD("file") LAST,
         "1\n00:00:00,000 --> "},
        {FIELD("model", "whisper-1") FIELD("response_format", "vtt") UPLOAD("file") LAST,
         "WEBVTT\n\n"},
    };
    struct ch_buf head;
    ch_buf_init(&head, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ask_form("/v1/audio/transcriptions", cases[i].form, 20000);
        assert_true(ch_span_starts(ch_buf_span(&text), ch_span_of(cases[i].beginning)));
        assert_lacks("usage");
        assert_int_equal(recorded("audio_seconds"), 2);
        ch_buf_clear(&head);
        assert_int_equal(ch_sandbox_answer_head(&answer, book, text.len, &head), CH_OK);
        assert_non_null(memmem(head.ptr, head.len, "content-type: text/plain", 24));
    }
    ch_buf_fini(&head);
}

static void transcripts_stream(void **state)
{
    (void)state;
    ask_form("/v1/audio/transcriptions",
             UPLOAD("file") FIELD("stream", "true") FIELD("model", "gpt-4o-mini-transcribe") LAST,
             100);
    assert_true(answer.is_stream);
    assert_metered(CH_USAGE_OPENAI_TRANSCRIPTION, CH_SLOT_OUTPUT, 48);
    assert_true(metered(CH_USAGE_OPENAI_TRANSCRIPTION)->delta_events > 1);
}

static void speech_is_sound_or_events(void **state)
{
    (void)state;
    struct ch_buf head;
    ask_json("/v1/audio/speech",
             "{\"model\":\"tts-1\",\"voice\":\"alloy\",\"input\":\"Hello w\\u00f6rld\"}");
    assert_int_equal(answer.status, 200);
    assert_true(ch_span_starts(ch_buf_span(&text), CH_SPAN("ID3")));
    assert_int_equal(recorded("characters"), 11);
    assert_int_equal(recorded("input_tokens"), 0);
    ch_buf_init(&head, 4096);
    assert_int_equal(ch_sandbox_answer_head(&answer, book, text.len, &head), CH_OK);
    assert_non_null(memmem(head.ptr, head.len, "content-type: audio/mpeg", 24));
    ch_buf_fini(&head);
    ask_json("/v1/audio/speech", "{\"model\":\"gpt-4o-mini-tts\",\"voice\":\"alloy\",\"input\":"
                                 "\"0123456789\",\"stream_format\":\"sse\"}");
    assert_true(answer.is_stream);
    assert_metered(CH_USAGE_OPENAI_SPEECH, CH_SLOT_OUTPUT, 14);
    assert_int_equal(recorded("output_tokens"), 14);
    // The format of a chat answer is another word.
    ask_json("/v1/chat/completions", "{\"model\":\"m\",\"stream_format\":\"sse\"}");
    assert_false(answer.is_stream);
}

// ---- the rest

static void compaction_states_usage(void **state)
{
    (void)state;
    ask_json("/v1/responses/compact", "{\"model\":\"gpt-5.6-terra\",\"input\":[]}");
    json_t *json = document();
    assert_string_equal(json_string_value(json_object_get(json, "object")), "response.compaction");
    json_decref(json);
    assert_int_equal(metered(CH_USAGE_OPENAI_RESPONSES)->raw.slot[CH_SLOT_INPUT],
                     recorded("input_tokens"));
    assert_true(metered(CH_USAGE_OPENAI_RESPONSES)->has_seen_usage);
}

static void broken_forms_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *type, *body;
    } cases[] = {
        {"application/json", "{\"model\":\"whisper-1\"}"},
        {"multipart/form-data", FIELD("model", "whisper-1") LAST},
        {"multipart/form-data; boundary=B", FIELD("model", "whisper-1")},
        {"multipart/form-data; boundary=B", FIELD("model", "a") FIELD("model", "b") LAST},
        {"multipart/form-data; boundary=B", FIELD("model", "a b") LAST},
        {"multipart/form-data; boundary=B", FIELD("file", "x") LAST},
        {"multipart/form-data; boundary=B", FIELD("model", "m") FIELD("n", "0") LAST},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ask("/v1/audio/transcriptions", cases[i].type, cases[i].body);
        assert_int_equal(answer.status, 400);
        assert_holds("\"error\"");
    }
    ask("/openai/deployments/whisper/audio/transcriptions", "multipart/form-data; boundary=B",
        FIELD("model", "other") FIELD("file", "x") LAST);
    assert_int_equal(answer.status, 200);
    assert_true(ch_span_eq(ch_sandbox_request_model(&request), CH_SPAN("whisper")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_come_in_the_number_asked_for),
        cmocka_unit_test(older_image_models_state_no_usage),
        cmocka_unit_test(images_stream_with_usage_at_the_end),
        cmocka_unit_test(edits_are_read_from_forms_and_from_json),
        cmocka_unit_test(transcripts_state_tokens_or_seconds),
        cmocka_unit_test(bare_transcripts_state_nothing),
        cmocka_unit_test(transcripts_stream),
        cmocka_unit_test(speech_is_sound_or_events),
        cmocka_unit_test(compaction_states_usage),
        cmocka_unit_test(broken_forms_are_refused),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
