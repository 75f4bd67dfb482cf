// SPDX-License-Identifier: Apache-2.0
#include "../../../src/sandbox/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#define WALL_MS 1800000000000

static struct ch_script_book *book;
static struct ch_json_plan *plan;
static struct ch_sandbox_source source;
static struct ch_sandbox_request request;
static struct ch_sandbox_answer answer;
static struct ch_buf text; // of the last answer, NUL behind

// Reads a request: `head` without its final empty line, any body.
static void ask_with_key(const char *head, const char *body, const char *api_key)
{
    char bytes[2048];
    struct ch_http1_head_parser parser;
    struct ch_http1_error error;
    static struct ch_http1_head parsed;
    static struct ch_json_scan scan;
    snprintf(bytes, sizeof bytes, "%s\r\nhost: x\r\ncontent-length: %zu\r\n\r\n", head,
             strlen(body));
    ch_http1_request_init(&parser);
    assert_int_equal(ch_http1_head_parse(&parser, ch_span_of(bytes), &parsed, &error),
                     CH_HTTP1_DONE);
    ch_sandbox_request_begin(&request, &parsed, bytes, ch_span_of(api_key));
    ch_json_scan_init(&scan, plan, ch_sandbox_request_take_value, &request);
    request.body_bytes = (int64_t)strlen(body);
    bool is_json = !ch_json_scan_feed(&scan, ch_span_of(body)) && !ch_json_scan_finish(&scan);
    ch_sandbox_request_finish(&request, is_json);
    ch_sandbox_answer_begin(&answer, &request, book, &source, 12345, WALL_MS);
    ch_buf_clear(&text);
}

static void ask(const char *path, const char *body)
{
    char head[512];
    snprintf(head, sizeof head, "%s %s HTTP/1.1", body[0] ? "POST" : "GET", path);
    ask_with_key(head, body, "");
}

static void finish_text(void)
{
    assert_int_equal(ch_buf_append(&text, "", 1), CH_OK);
    text.len--;
}

static json_t *parse_text(const char *bytes, size_t len)
{
    json_error_t error;
    json_t *json = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, &error);
    if (!json)
        fail_msg("%s in: %.*s", error.text, (int)len, bytes);
    return json;
}

static json_t *read_document(void)
{
    assert_false(answer.is_stream);
    ch_buf_clear(&text);
    assert_int_equal(ch_sandbox_answer_document(&answer, &request, book, &source, &text), CH_OK);
    finish_text();
    return parse_text(text.ptr, text.len);
}

// The whole stream into `text`; gives the number of events.
static unsigned read_stream(void)
{
    unsigned events = 0;
    assert_true(answer.is_stream);
    ch_buf_clear(&text);
    while (!answer.is_over) {
        size_t before = text.len;
        assert_int_equal(ch_sandbox_answer_event(&answer, &request, &source, &text), CH_OK);
        events += text.len > before;
    }
    finish_text();
    return events;
}

static json_t *read_record(const char *outcome)
{
    static struct ch_buf line;
    ch_buf_init(&line, 65536);
    assert_int_equal(ch_sandbox_answer_record(&answer, book, outcome, &line), CH_OK);
    assert_int_equal(line.ptr[line.len - 1], '\n');
    json_t *json = parse_text(line.ptr, line.len);
    ch_buf_fini(&line);
    return json;
}

// "a.b.0.c" in a document; fails the test where it is missing.
static json_t *at(json_t *json, const char *path)
{
    char copy[256];
    strcpy(copy, path);
    for (char *save, *name = strtok_r(copy, ".", &save); name; name = strtok_r(NULL, ".", &save)) {
        json = json_is_array(json) ? json_array_get(json, (size_t)atoi(name))
                                   : json_object_get(json, name);
        if (!json)
            fail_msg("no %s (%s) in: %s", path, name, text.ptr);
    }
    return json;
}
static json_int_t number_at(json_t *json, const char *path)
{
    return json_integer_value(at(json, path));
}
static void assert_text_at(json_t *json, const char *path, const char *expected)
{
    const char *value = json_string_value(at(json, path));
    assert_non_null(value);
    assert_string_equal(value, expected);
}

// ---- every text is what it claims to be

static const char *const stream_paths[] = {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1beta/models/%s:generateContent",
    "/v1beta/models/%s:streamGenerateContent",
    "/v1beta/models/%s:streamGenerateContent?alt=sse",
};
static const char *const plain_paths[] = {
    "/v1/responses/input_tokens",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/messages/count_tokens",
    "/v1beta/models/%s:countTokens",
    "/v1beta/models/%s:embedContent",
    "/v1beta/models/%s:batchEmbedContents",
};
static const char *const models[] = {"gpt-4o",
                                     "o3-mini",
                                     "sandbox-cached.thinking.cache-write",
                                     "sandbox-no-usage.thinking",
                                     "sandbox-events-0",
                                     "sandbox-size-5000",
                                     "sandbox-echo-content"};
static const char *const members[] = {
    "",
    ",\"stream_options\":{\"include_usage\":true}",
    ",\"max_tokens\":3,\"max_output_tokens\":3,\"generationConfig\":{\"maxOutputTokens\":3}",
    ",\"tools\":[{\"name\":\"f\",\"function\":{\"name\":\"f\"},\"functionDeclarations\":[{\"name\":"
    "\"f\"}]}]",
};

// Each data line of an SSE text is a document, or [DONE].
static void check_event_stream(void)
{
    for (char *line = text.ptr, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        if (strncmp(line, "data: ", 6) != 0 || strncmp(line, "data: [DONE]", 12) == 0)
            continue;
        json_decref(parse_text(line + 6, (size_t)(end - line - 6)));
    }
}

static void check_answer(void)
{
    assert_int_equal(answer.status, 200);
    if (!answer.is_stream) {
        json_decref(read_document());
    } else {
        assert_true(read_stream() > 0);
        if (request.is_event_stream)
            check_event_stream();
        else
            json_decref(parse_text(text.ptr, text.len));
    }
    json_t *record = read_record("done");
    assert_true(number_at(record, "input_tokens") >= 0);
    json_decref(record);
}

static void check_path(const char *format, const char *model, const char *more)
{
    char path[256], body[512];
    snprintf(path, sizeof path, "%.*s", (int)sizeof path - 1, format);
    const char *place = strstr(format, "%s");
    if (place)
        snprintf(path, sizeof path, "%.*s%s%s", (int)(place - format), format, model, place + 2);
    for (int stream = 0; stream < 2; stream++) {
        snprintf(body, sizeof body, "{\"model\":\"%s\",\"stream\":%s,\"input\":[\"a\",\"b\"]%s}",
                 model, stream ? "true" : "false", more);
        ask(path, body);
        check_answer();
    }
}

static void every_answer_is_well_formed(void **state)
{
    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++)
        for (size_t b = 0; b < sizeof members / sizeof *members; b++) {
            for (size_t p = 0; p < sizeof stream_paths / sizeof *stream_paths; p++)
                check_path(stream_paths[p], models[m], members[b]);
            for (size_t p = 0; p < sizeof plain_paths / sizeof *plain_paths; p++)
                check_path(plain_paths[p], models[m], members[b]);
        }
}

static void listings_speak_the_callers_dialect(void **state)
{
    (void)state;
    static const struct {
        const char *head, *member;
    } cases[] = {
        {"GET /v1/models HTTP/1.1", "data.0.owned_by"},
        {"GET /v1/models HTTP/1.1\r\nanthropic-version: 2023-06-01", "data.0.display_name"},
        {"GET /v1/models HTTP/1.1\r\nx-goog-api-key: k", "models.0.name"},
        {"GET /v1beta/models HTTP/1.1", "models.0.name"},
        {"GET /anthropic/v1/models HTTP/1.1", "first_id"},
        {"GET /gemini/v1/models/a-b HTTP/1.1", "supportedGenerationMethods"},
        {"GET /v1/models/a-b HTTP/1.1", "owned_by"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ask_with_key(cases[i].head, "", "");
        assert_int_equal(answer.status, 200);
        json_t *json = read_document();
        at(json, cases[i].member);
        json_decref(json);
    }
}

// ---- usage

// A body of exactly 400 bytes: 100 tokens.
static const char *body_400(const char *model, const char *more)
{
    static char body[512];
    snprintf(body, sizeof body, "{\"model\":\"%s\"%s,\"pad\":\"", model, more);
    size_t len = strlen(body);
    memset(body + len, 'x', 398 - len);
    strcpy(body + 398, "\"}");
    return body;
}

static void usage_follows_from_the_request(void **state)
{
    (void)state;
    const char *model = "sandbox-cached.thinking.cache-write";
    ask("/v1/chat/completions", body_400(model, ""));
    json_t *json = read_document();
    assert_int_equal(number_at(json, "usage.prompt_tokens"), 100);
    assert_int_equal(number_at(json, "usage.prompt_tokens_details.cached_tokens"), 50);
    assert_int_equal(number_at(json, "usage.prompt_tokens_details.cache_write_tokens"), 25);
    assert_int_equal(number_at(json, "usage.completion_tokens"), 48 + 64);
    assert_int_equal(number_at(json, "usage.completion_tokens_details.reasoning_tokens"), 64);
    assert_int_equal(number_at(json, "usage.total_tokens"), 212);
    json_decref(json);
    ask("/v1/responses", body_400(model, ""));
    json = read_document();
    assert_int_equal(number_at(json, "usage.input_tokens"), 100);
    assert_int_equal(number_at(json, "usage.input_tokens_details.cached_tokens"), 50);
    assert_int_equal(number_at(json, "usage.output_tokens"), 112);
    assert_int_equal(number_at(json, "usage.output_tokens_details.reasoning_tokens"), 64);
    json_decref(json);
    ask("/v1/messages", body_400(model, ""));
    json = read_document();
    assert_int_equal(number_at(json, "usage.input_tokens"), 13); // the classes are disjoint
    assert_int_equal(number_at(json, "usage.cache_read_input_tokens"), 50);
    assert_int_equal(number_at(json, "usage.cache_creation_input_tokens"), 37);
    assert_int_equal(number_at(json, "usage.cache_creation.ephemeral_5m_input_tokens"), 25);
    assert_int_equal(number_at(json, "usage.cache_creation.ephemeral_1h_input_tokens"), 12);
    assert_int_equal(number_at(json, "usage.output_tokens"), 112);
    json_decref(json);
    ask("/v1beta/models/sandbox-cached.thinking.cache-write:generateContent", body_400("x", ""));
    json = read_document();
    assert_int_equal(number_at(json, "usageMetadata.promptTokenCount"), 100);
    assert_int_equal(number_at(json, "usageMetadata.cachedContentTokenCount"), 50);
    assert_int_equal(number_at(json, "usageMetadata.candidatesTokenCount"), 48);
    assert_int_equal(number_at(json, "usageMetadata.thoughtsTokenCount"), 64);
    assert_int_equal(number_at(json, "usageMetadata.totalTokenCount"), 212);
    json_decref(json);
}

static void the_record_says_what_the_answer_did(void **state)
{
    (void)state;
    ask_with_key("POST /v1/messages HTTP/1.1\r\nx-api-key: k",
                 body_400("claude-cached-cache-write", ""), "k");
    json_t *json = read_document(), *record = read_record("done");
    assert_true(json_equal(at(json, "usage"), at(record, "usage")));
    assert_text_at(record, "id", json_string_value(at(json, "id")));
    assert_text_at(record, "dialect", "anthropic");
    assert_text_at(record, "endpoint", "messages");
    assert_text_at(record, "model", "claude-cached-cache-write");
    assert_text_at(record, "carrier", "x-api-key");
    assert_text_at(record, "outcome", "done");
    assert_int_equal(number_at(record, "status"), 200);
    assert_int_equal(number_at(record, "request_bytes"), 400);
    assert_int_equal(number_at(record, "input_tokens"), 100);
    assert_int_equal(number_at(record, "cached_tokens"), 50);
    assert_int_equal(number_at(record, "cache_write_5m_tokens"), 25);
    assert_int_equal(number_at(record, "cache_write_1h_tokens"), 12);
    assert_int_equal(number_at(record, "output_tokens"), 48);
    json_decref(json);
    json_decref(record);
    ask("/v1/responses/input_tokens", body_400("gpt-4o", ""));
    json_decref(read_document());
    record = read_record("done");
    assert_int_equal(number_at(record, "input_tokens"), 0); // free
    json_decref(record);
}

static void an_early_end_counts_what_was_said(void **state)
{
    (void)state;
    ask("/v1/chat/completions", body_400("sandbox-events-10", ",\"stream\":true"));
    ch_buf_clear(&text);
    while (answer.piece_at < 3)
        assert_int_equal(ch_sandbox_answer_event(&answer, &request, &source, &text), CH_OK);
    json_t *record = read_record("client_gone");
    assert_int_equal(number_at(record, "output_tokens"), 3);
    assert_true(json_is_null(at(record, "usage")));
    json_decref(record);
}

static void output_stays_within_max_tokens(void **state)
{
    (void)state;
    ask("/v1/chat/completions", body_400("gpt-4o", ",\"max_completion_tokens\":10"));
    json_t *json = read_document();
    assert_int_equal(number_at(json, "usage.completion_tokens"), 10);
    assert_text_at(json, "choices.0.finish_reason", "length");
    assert_int_equal(json_string_length(at(json, "choices.0.message.content")), 40);
    json_decref(json);
    ask("/v1/messages", body_400("claude-thinking", ",\"max_tokens\":10"));
    json = read_document();
    assert_int_equal(number_at(json, "usage.output_tokens"), 10);
    assert_int_equal(number_at(json, "usage.output_tokens_details.thinking_tokens"), 5);
    assert_text_at(json, "stop_reason", "max_tokens");
    json_decref(json);
}

static void a_plain_chat_answer_has_the_size_of_the_benchmarks(void **state)
{
    (void)state;
    ask("/v1/chat/completions", body_400("gpt-4o-mini", ""));
    json_decref(read_document());
    assert_in_range(text.len, 740, 780);
}

// ---- streams

static unsigned count(const char *needle)
{
    unsigned found = 0;
    for (const char *p = text.ptr; (p = strstr(p, needle)); p++)
        found++;
    return found;
}

static void usage_comes_in_a_chat_stream_only_when_asked_for(void **state)
{
    (void)state;
    ask("/v1/chat/completions", body_400("sandbox-events-5", ",\"stream\":true"));
    assert_int_equal(read_stream(), 1 + 5 + 2);
    assert_int_equal(count("\"usage\""), 0);
    assert_int_equal(count("data: [DONE]\n\n"), 1);
    ask("/v1/chat/completions",
        body_400("sandbox-events-5",
                 ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"));
    assert_int_equal(read_stream(), 1 + 5 + 3);
    assert_int_equal(count("\"usage\":null"), 7);
    assert_int_equal(count("\"choices\":[],\"usage\":{\"prompt_tokens\":100,"), 1);
    ask("/v1/chat/completions",
        body_400("sandbox-no-usage",
                 ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"));
    read_stream();
    assert_int_equal(count("\"usage\""), 0);
}

static void events_come_in_the_providers_order(void **state)
{
    (void)state;
    static const char *const anthropic[] = {
        "event: message_start\n", "\"output_tokens\":1,",         "event: content_block_start\n",
        "event: ping\n",          "event: content_block_delta\n", "event: content_block_stop\n",
        "event: message_delta\n", "\"output_tokens\":2,",         "event: message_stop\n"};
    static const char *const openai[] = {"event: response.created\n",
                                         "\"sequence_number\":0,",
                                         "event: response.in_progress\n",
                                         "event: response.output_item.added\n",
                                         "event: response.content_part.added\n",
                                         "event: response.output_text.delta\n",
                                         "event: response.output_text.done\n",
                                         "event: response.content_part.done\n",
                                         "event: response.output_item.done\n",
                                         "event: response.completed\n",
                                         "\"sequence_number\":9,",
                                         "\"usage\":{"};
    ask("/v1/messages", body_400("sandbox-events-2", ",\"stream\":true"));
    read_stream();
    const char *p = text.ptr;
    for (size_t i = 0; i < sizeof anthropic / sizeof *anthropic; i++)
        assert_non_null(p = strstr(p, anthropic[i]));
    ask("/v1/responses", body_400("sandbox-events-2", ",\"stream\":true"));
    assert_int_equal(read_stream(), 10);
    p = text.ptr;
    for (size_t i = 0; i < sizeof openai / sizeof *openai; i++)
        assert_non_null(p = strstr(p, openai[i]));
}

static void a_stream_says_what_the_document_says(void **state)
{
    (void)state;
    ask("/v1beta/models/gemini-x:generateContent", body_400("x", ""));
    json_t *json = read_document();
    char whole[512], said[512] = "";
    strcpy(whole, json_string_value(at(json, "candidates.0.content.parts.0.text")));
    json_decref(json);
    ask("/v1beta/models/gemini-x:streamGenerateContent", body_400("x", ""));
    assert_int_equal(read_stream(), 8 + 1);
    json = parse_text(text.ptr, text.len);
    for (size_t i = 0; i < json_array_size(json); i++)
        strcat(said,
               json_string_value(at(json_array_get(json, i), "candidates.0.content.parts.0.text")));
    assert_string_equal(said, whole);
    assert_int_equal(number_at(json, "8.usageMetadata.candidatesTokenCount"), 48);
    assert_null(json_object_get(at(json, "0.usageMetadata"), "candidatesTokenCount"));
    json_decref(json);
}

// ---- tools

static void tools_are_called_once(void **state)
{
    (void)state;
    const char *tools = ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"w\"}}]";
    ask("/v1/chat/completions", body_400("gpt-4o", tools));
    json_t *json = read_document();
    assert_text_at(json, "choices.0.message.tool_calls.0.function.name", "w");
    assert_text_at(json, "choices.0.message.tool_calls.0.function.arguments",
                   "{\"city\":\"Paris\"}");
    assert_text_at(json, "choices.0.finish_reason", "tool_calls");
    json_decref(json);
    static const struct {
        const char *path, *member;
    } answered[] = {
        {"/v1/chat/completions", "\"messages\":[{\"role\":\"tool\"}]"},
        {"/v1/chat/completions", "\"tool_choice\":\"none\""},
        {"/v1/messages", "\"messages\":[{\"content\":[{\"type\":\"tool_result\"}]}]"},
        {"/v1/responses", "\"input\":[{\"type\":\"function_call_output\"}]"},
        {"/v1beta/models/m:generateContent",
         "\"contents\":[{\"parts\":[{\"functionResponse\":{}}]}]"},
    };
    for (size_t i = 0; i < sizeof answered / sizeof *answered; i++) {
        char more[256];
        snprintf(more, sizeof more, ",\"tools\":[{\"name\":\"w\"}],%s", answered[i].member);
        ask(answered[i].path, body_400("gpt-4o", more));
        assert_false(answer.calls_tool);
        snprintf(more, sizeof more,
                 ",\"tools\":[{\"name\":\"w\",\"functionDeclarations\":[{\"name\":\"w\"}]}]");
        ask(answered[i].path, body_400("gpt-4o", more));
        assert_true(answer.calls_tool);
    }
}

// ---- credentials, faults, directives

static void one_credential_is_accepted_in_every_field(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        int status;
    } cases[] = {
        {"authorization: Bearer sk-1", 200},
        {"authorization: bearer sk-1", 200},
        {"x-api-key: sk-1", 200},
        {"x-goog-api-key: sk-1", 200},
        {"api-key: sk-1", 200},
        {"x-api-key: sk-1\r\nauthorization: Bearer other", 200},
        {"x-other: 1", 401},
        {"authorization: sk-1", 401},
        {"authorization: Basic sk-1", 401},
        {"authorization: Bearer sk-12", 401},
        {"authorization: Bearer sk-", 401},
        {"x-api-key:", 401},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char head[256];
        snprintf(head, sizeof head, "POST /v1/chat/completions HTTP/1.1\r\n%s", cases[i].fields);
        ask_with_key(head, "{\"model\":\"m\"}", "sk-1");
        assert_int_equal(answer.status, cases[i].status);
        json_decref(read_document());
        assert_null(strstr(text.ptr, "sk-1"));
    }
}

static void errors_have_the_shape_of_their_dialect(void **state)
{
    (void)state;
    static const struct {
        const char *path, *model;
        int status;
        const char *member, *value;
    } cases[] = {
        {"/v1/chat/completions", "sandbox-429", 429, "error.code", "rate_limit_exceeded"},
        {"/v1/chat/completions", "sandbox-500", 500, "error.type", "server_error"},
        {"/v1/messages", "sandbox-529", 529, "error.type", "overloaded_error"},
        {"/v1/messages", "sandbox-400", 400, "type", "error"},
        {"/v1beta/models/sandbox-429:generateContent", "", 429, "error.status",
         "RESOURCE_EXHAUSTED"},
        {"/v1beta/models/sandbox-503:streamGenerateContent", "", 503, "error.status",
         "UNAVAILABLE"},
        {"/v1/nowhere", "m", 404, "error.type", "invalid_request_error"},
        {"/v1/models", "m", 405, "error.type", "invalid_request_error"},
        {"/v1/chat/completions", "", 400, "error.message", "You must provide a model parameter."},
        {"/v1/chat/completions", "sandbox-redirect", 302, "error.type", "invalid_request_error"},
        {"/v1/chat/completions", "sandbox-echo-key", 400, "error.message",
         "Incorrect API key provided: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"model\":\"%s\",\"stream\":true}", cases[i].model);
        ask(cases[i].path, body);
        assert_int_equal(answer.status, cases[i].status);
        json_t *json = read_document();
        assert_text_at(json, cases[i].member, cases[i].value);
        json_decref(json);
        json_t *record = read_record("done");
        assert_int_equal(number_at(record, "output_tokens"), 0);
        json_decref(record);
    }
    ask("/v1/chat/completions", "{\"model\":");
    assert_int_equal(answer.status, 400);
}

static void the_credential_is_echoed_when_asked_for(void **state)
{
    (void)state;
    ask_with_key("POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-\"quoted\"",
                 "{\"model\":\"sandbox-echo-key\"}", "");
    json_t *json = read_document();
    assert_text_at(json, "error.message", "Incorrect API key provided: sk-\"quoted\"");
    json_decref(json);
    ch_buf_clear(&text);
    assert_int_equal(ch_sandbox_answer_head(&answer, book, 7, &text), CH_OK);
    finish_text();
    assert_non_null(strstr(text.ptr, "\r\nx-echoed-credential: sk-\"quoted\"\r\n"));
    ask_with_key("POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-\"quoted\"",
                 "{\"model\":\"sandbox-echo-content\"}", "");
    json = read_document();
    assert_text_at(json, "choices.0.message.content", "sk-\"quoted\"");
    json_decref(json);
}

static void heads_name_what_follows(void **state)
{
    (void)state;
    ask("/v1/chat/completions", "{\"model\":\"sandbox-429\"}");
    assert_int_equal(ch_sandbox_answer_head(&answer, book, 7, &text), CH_OK);
    finish_text();
    assert_non_null(strstr(text.ptr, "HTTP/1.1 429 Too Many Requests\r\n"));
    assert_non_null(strstr(text.ptr, "\r\nretry-after: 1\r\n"));
    assert_non_null(strstr(text.ptr, "\r\ncontent-length: 7\r\n\r\n"));
    ask("/v1/chat/completions", "{\"model\":\"m\",\"stream\":true}");
    assert_int_equal(ch_sandbox_answer_head(&answer, book, 0, &text), CH_OK);
    finish_text();
    assert_non_null(strstr(text.ptr, "\r\ncontent-type: text/event-stream\r\n"));
    assert_non_null(strstr(text.ptr, "\r\ntransfer-encoding: chunked\r\n\r\n"));
    assert_null(strstr(text.ptr, "content-length"));
}

static void directives_are_read(void **state)
{
    (void)state;
    ask_with_key("POST /v1/chat/completions HTTP/1.1\r\nx-sandbox: slow-5ms, cut,cached",
                 "{\"model\":\"sandbox-drip-7ms.events-9.nonsense.size-x.600.slow-9\"}", "");
    const struct ch_sandbox_directives *d = &request.directives;
    assert_int_equal(d->slow_ms, 5);
    assert_int_equal(d->drip_ms, 7);
    assert_int_equal(d->events, 9);
    assert_int_equal(d->size, -1);
    assert_int_equal(d->status, 0);
    assert_true(d->cut && d->cached && !d->thinking && !d->reset);
    static const struct {
        const char *model;
        bool thinks;
    } names[] = {{"o1", true}, {"openai/o4-mini", true},   {"gpt-4o", false}, {"ollama-3", false},
                 {"o", false}, {"claude-thinking-1", true}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char body[64];
        snprintf(body, sizeof body, "{\"model\":\"%s\"}", names[i].model);
        ask("/v1/chat/completions", body);
        assert_int_equal(request.directives.thinking, names[i].thinks);
    }
}

static void models_come_from_body_and_path(void **state)
{
    (void)state;
    ask("/openai/deployments/my%2Ddep/chat/completions?api-version=1", "{\"messages\":[]}");
    assert_int_equal(answer.status, 200);
    assert_true(ch_span_eq(ch_sandbox_request_model(&request), CH_SPAN("my-dep")));
    ask("/api/v1/chat/completions", "{\"model\":\"a\\u0062\"}");
    assert_int_equal(answer.status, 200);
    json_t *json = read_document();
    assert_text_at(json, "model", "ab");
    json_decref(json);
    ask("/v1beta/models/a%22b:generateContent", "{}");
    assert_int_equal(answer.status, 400);
    char body[512], name[200];
    memset(name, 'x', sizeof name);
    snprintf(body, sizeof body, "{\"model\":\"%.*s\"}", CH_MODEL_NAME_MAX, name);
    ask("/v1/chat/completions", body);
    assert_int_equal(answer.status, 200);
    snprintf(body, sizeof body, "{\"model\":\"%.*s\"}", CH_MODEL_NAME_MAX + 1, name);
    ask("/v1/chat/completions", body);
    assert_int_equal(answer.status, 400);
}

static void embeddings_are_the_same_in_both_encodings(void **state)
{
    (void)state;
    // -0.25 is 0xbe800000 and -0.03125 is 0xbd000000.
    ask("/v1/embeddings", "{\"model\":\"m\",\"input\":\"a\",\"dimensions\":2}");
    json_t *json = read_document();
    assert_true(json_real_value(at(json, "data.0.embedding.0")) == -0.25);
    assert_true(json_real_value(at(json, "data.0.embedding.1")) == -0.03125);
    json_decref(json);
    ask("/v1/embeddings",
        "{\"model\":\"m\",\"input\":\"a\",\"dimensions\":2,\"encoding_format\":\"base64\"}");
    json = read_document();
    assert_text_at(json, "data.0.embedding", "AACAvgAAAL0=");
    json_decref(json);
    ask("/v1/embeddings", "{\"model\":\"m\",\"input\":[[1,2],[3]],\"dimensions\":1}");
    json = read_document();
    assert_int_equal(json_array_size(at(json, "data")), 2);
    json_decref(json);
    ask("/v1/embeddings", "{\"model\":\"m\",\"input\":[1,2,3],\"dimensions\":1}");
    json = read_document();
    assert_int_equal(json_array_size(at(json, "data")), 1);
    json_decref(json);
}

static int set_up(void **state)
{
    (void)state;
    ch_sandbox_source_init(&source);
    ch_buf_init(&text, 16 << 20);
    return ch_script_book_new(&book) || ch_sandbox_request_plan_new(&plan);
}

static int tear_down(void **state)
{
    (void)state;
    ch_script_book_free(book);
    ch_json_plan_free(plan);
    ch_sandbox_source_fini(&source);
    ch_buf_fini(&text);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_answer_is_well_formed),
        cmocka_unit_test(listings_speak_the_callers_dialect),
        cmocka_unit_test(usage_follows_from_the_request),
        cmocka_unit_test(the_record_says_what_the_answer_did),
        cmocka_unit_test(an_early_end_counts_what_was_said),
        cmocka_unit_test(output_stays_within_max_tokens),
        cmocka_unit_test(a_plain_chat_answer_has_the_size_of_the_benchmarks),
        cmocka_unit_test(usage_comes_in_a_chat_stream_only_when_asked_for),
        cmocka_unit_test(events_come_in_the_providers_order),
        cmocka_unit_test(a_stream_says_what_the_document_says),
        cmocka_unit_test(tools_are_called_once),
        cmocka_unit_test(one_credential_is_accepted_in_every_field),
        cmocka_unit_test(errors_have_the_shape_of_their_dialect),
        cmocka_unit_test(the_credential_is_echoed_when_asked_for),
        cmocka_unit_test(heads_name_what_follows),
        cmocka_unit_test(directives_are_read),
        cmocka_unit_test(models_come_from_body_and_path),
        cmocka_unit_test(embeddings_are_the_same_in_both_encodings),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
