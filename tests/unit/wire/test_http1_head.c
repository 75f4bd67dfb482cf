// SPDX-License-Identifier: Apache-2.0
#include "wire/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

// One connection as the two parsers see it. It is fed by telling it how many bytes have arrived and
// notes what came of each message.
struct connection {
    bool is_response, answers_head, in_body, is_over;
    struct ch_http1_head_parser parser;
    struct ch_http1_head head, last; // being parsed; the last that was complete
    struct ch_http1_body body;
    struct ch_http1_error error;
    size_t at; // where the current head begins, or the rest of the current body
    size_t arrived;
    char verdicts[64]; // "ok;400"
    char target[80];
    char payload[80]; // as much as fits
    size_t payload_size;
};

static void note(struct connection *c, const char *verdict)
{
    size_t len = strlen(c->verdicts);
    snprintf(c->verdicts + len, sizeof c->verdicts - len, "%s%s", len ? ";" : "", verdict);
}

static void note_error(struct connection *c, const char *where)
{
    char verdict[32];
    assert_non_null(c->error.text);
    snprintf(verdict, sizeof verdict, "%s%d", where, c->error.status);
    note(c, verdict);
    c->is_over = true;
}

static void begin_message(struct connection *c)
{
    c->in_body = false;
    if (c->is_response)
        ch_http1_response_init(&c->parser, c->answers_head);
    else
        ch_http1_request_init(&c->parser);
}

static void connect_to(struct connection *c, bool is_response, bool answers_head)
{
    memset(c, 0, sizeof *c);
    c->is_response = is_response;
    c->answers_head = answers_head;
    begin_message(c);
}

static void end_message(struct connection *c)
{
    bool is_interim = c->is_response && c->head.status < 200 && c->head.status != 101;
    note(c, "ok");
    c->is_over = c->is_response ? !is_interim : !c->head.keep_alive;
    begin_message(c);
}

static void check_offsets(const struct ch_http1_head *head, const char *base, size_t size)
{
    assert_true(head->size <= size && head->size <= CH_HTTP1_HEAD_MAX);
    assert_memory_equal(base + head->size - 4, "\r\n\r\n", 4);
    for (uint32_t i = 0; i < head->field_count; i++) {
        const struct ch_http1_field *field = &head->fields[i];
        struct ch_span name = ch_http1_name(base, field);
        struct ch_span value = ch_http1_value(base, field);
        assert_true(field->value_at + field->value_len <= head->size - 4);
        assert_true(field->name_at + field->name_len < field->value_at);
        assert_int_equal(name.ptr[name.len], ':');
        assert_int_equal(field->id, ch_field_lookup(name));
        assert_true(ch_span_eq(value, ch_span_trim(value)));
    }
}

static bool take_head(struct connection *c, struct ch_span bytes)
{
    switch (ch_http1_head_parse(&c->parser, bytes, &c->head, &c->error)) {
    case CH_HTTP1_MORE:
        return false;
    case CH_HTTP1_ERROR:
        note_error(c, "");
        return false;
    case CH_HTTP1_DONE:
        break;
    }
    check_offsets(&c->head, bytes.ptr, bytes.len);
    c->last = c->head;
    c->at += c->head.size;
    c->payload_size = 0;
    c->in_body = true;
    ch_span_copy((struct ch_span){bytes.ptr + c->head.target_at, c->head.target_len}, c->target,
                 sizeof c->target);
    ch_http1_body_init(&c->body, &c->head);
    return true;
}

static bool take_body(struct connection *c, struct ch_span bytes)
{
    size_t consumed;
    struct ch_span payload;
    enum ch_http1_verdict verdict =
        ch_http1_body_step(&c->body, bytes, &consumed, &payload, &c->error);
    assert_true(consumed <= bytes.len && payload.len <= consumed);
    assert_true(verdict != CH_HTTP1_MORE || consumed > 0 || bytes.len == 0);
    assert_true(verdict != CH_HTTP1_ERROR || payload.len == 0);
    c->at += consumed;
    for (size_t i = 0; i < payload.len; i++, c->payload_size++)
        if (c->payload_size < sizeof c->payload - 1)
            c->payload[c->payload_size] = payload.ptr[i];
    if (verdict == CH_HTTP1_DONE)
        end_message(c);
    if (verdict == CH_HTTP1_ERROR)
        note_error(c, "body-");
    return verdict == CH_HTTP1_DONE || (verdict == CH_HTTP1_MORE && consumed < bytes.len);
}

// `bytes`: all that has arrived, from the connection's first byte.
static void feed(struct connection *c, struct ch_span bytes)
{
    c->arrived = bytes.len;
    bool goes_on = true;
    while (goes_on && !c->is_over) {
        struct ch_span rest = ch_span_sub(bytes, c->at);
        goes_on = c->in_body ? take_body(c, rest) : take_head(c, rest);
    }
}

// The same from a block of exactly that size, so that a sanitizer sees every byte read past the
// end, and at a new address each time.
static void feed_copy(struct connection *c, struct ch_span bytes, size_t size)
{
    char *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes.ptr, size);
    feed(c, (struct ch_span){copy, size});
    free(copy);
}

static void finish(struct connection *c)
{
    if (c->is_over)
        return;
    if (c->in_body)
        note(c, c->body.framing == CH_FRAMING_TO_CLOSE ? "stream" : "body-more");
    else if (c->at < c->arrived || c->arrived == 0)
        note(c, "more");
}

static const char *framing_name(enum ch_http1_framing framing)
{
    switch (framing) {
    case CH_FRAMING_NONE:
        return "none";
    case CH_FRAMING_LENGTH:
        return "length";
    case CH_FRAMING_CHUNKED:
        return "chunked";
    case CH_FRAMING_TO_CLOSE:
        return "to-close";
    }
    return "?";
}

// " method=GET … rest=0 ": a table names the ones it cares for.
static void describe(const struct connection *c, char *out, size_t size)
{
    const struct ch_http1_head *head = &c->last;
    char payload[sizeof c->payload];
    size_t len = c->payload_size < sizeof payload ? c->payload_size : sizeof payload - 1;
    for (size_t i = 0; i < len; i++)
        payload[i] = c->payload[i] == ' ' ? '_' : c->payload[i];
    payload[len] = '\0';
    snprintf(out, size,
             " method=%s target=%s status=%d minor=%d framing=%s length=%lld has_length=%d keep=%d "
             "expect=%d fields=%u size=%u body=%s rest=%zu ",
             ch_http1_method_name(head->method), c->target, head->status, head->minor_version,
             framing_name(head->framing), (long long)head->content_length, head->has_length,
             head->keep_alive, head->expect_continue, head->field_count, head->size, payload,
             c->arrived - c->at);
}

struct row {
    const char *name, *verdicts, *facts;
    struct ch_span bytes;
    bool is_response;
};

static void check_facts(const struct row *row, const struct connection *c, const char *how)
{
    char all[512], wanted[160];
    describe(c, all, sizeof all);
    for (const char *fact = row->facts; *fact; fact += strspn(fact, " ")) {
        int len = (int)strcspn(fact, " ");
        snprintf(wanted, sizeof wanted, " %.*s ", len, fact);
        if (!strstr(all, wanted))
            fail_msg("%s, %s: not%sbut%s", row->name, how, wanted, all);
        fact += len;
    }
}

// `fault`: what the first way of feeding found; another way must find the same one.
static void check(const struct row *row, struct connection *c, const char *how, const char *fault)
{
    finish(c);
    assert_ptr_equal(c->error.text, fault);
    if (strcmp(c->verdicts, row->verdicts) != 0)
        fail_msg("%s, %s: %s (%s), not %s", row->name, how, c->verdicts,
                 c->error.text ? c->error.text : "", row->verdicts);
    check_facts(row, c, how);
}

static void open_for(struct connection *c, const struct row *row)
{
    connect_to(c, row->is_response, strncmp(row->name, "HEAD", 4) == 0);
}

#define SMALL 1500 // bytes up to which the quadratic ways of feeding are cheap

// One byte at a time; the verdict must also fall on the same byte as in any other feeding, so the
// bytes up to it are returned.
static void feed_bytewise(struct connection *c, const struct row *row)
{
    for (size_t size = 1; size <= row->bytes.len && !c->is_over; size++) {
        if (row->bytes.len <= SMALL)
            feed_copy(c, row->bytes, size);
        else
            feed(c, (struct ch_span){row->bytes.ptr, size});
    }
    c->arrived = row->bytes.len;
}

static void run_row(const struct row *row)
{
    struct connection c;
    open_for(&c, row);
    feed_copy(&c, row->bytes, row->bytes.len);
    const char *fault = c.error.text;
    check(row, &c, "whole", fault);

    open_for(&c, row);
    feed_bytewise(&c, row);
    check(row, &c, "byte by byte", fault);

    for (size_t cut = 1; row->bytes.len <= SMALL && cut < row->bytes.len; cut++) {
        open_for(&c, row);
        feed_copy(&c, row->bytes, cut);
        feed_copy(&c, row->bytes, row->bytes.len);
        check(row, &c, "in two pieces", fault);
    }
}

// Table files

static char text[1 << 17]; // the unescaped bytes of a row

static const char *const words[][2] = {
    {"@P@", "POST /v1/chat/completions HTTP/1.1\\r\\nHost: p\\r\\n"},
    {"@G@", "GET /v1/models HTTP/1.1\\r\\nHost: p\\r\\n"},
    {"@B@", "{\"model\":\"m\",\"messages\":[]}"},
};

static size_t unescape(const char *from, const char *end, size_t at);

// "@REP(X,N)@": `from` stands behind the bracket. Gives the place behind the word.
static const char *repeat(const char *from, size_t *at)
{
    const char *close = strstr(from, ")@");
    assert_non_null(close);
    const char *comma = close;
    while (*comma != ',')
        comma--;
    for (long count = strtol(comma + 1, NULL, 10); count > 0; count--)
        *at = unescape(from, comma, *at);
    return close + 2;
}

static char unescape_one(const char **from)
{
    static const char letters[] = "rnt\\", bytes[] = "\r\n\t\\";
    char hex[3] = {0};
    char c = *(*from)++;
    if (c != '\\')
        return c;
    c = *(*from)++;
    if (c != 'x') {
        assert_non_null(strchr(letters, c));
        return bytes[strchr(letters, c) - letters];
    }
    memcpy(hex, *from, 2);
    *from += 2;
    return (char)strtol(hex, NULL, 16);
}

static const char *unescape_word(const char *from, size_t *at)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strncmp(from, words[i][0], 3) == 0) {
            *at = unescape(words[i][1], words[i][1] + strlen(words[i][1]), *at);
            return from + 3;
        }
    if (strncmp(from, "@REP(", 5) == 0)
        return repeat(from + 5, at);
    return NULL;
}

static size_t unescape(const char *from, const char *end, size_t at)
{
    while (from < end) {
        const char *behind = *from == '@' ? unescape_word(from, &at) : NULL;
        assert_true(at < sizeof text);
        if (behind)
            from = behind;
        else
            text[at++] = unescape_one(&from);
    }
    return at;
}

static void run_line(char *line, bool is_response)
{
    char *columns[4] = {line, NULL, NULL, NULL};
    static char none[] = "";
    for (int i = 1; i < 4; i++) {
        char *tab = columns[i - 1] ? strchr(columns[i - 1], '\t') : NULL;
        columns[i] = tab ? tab + 1 : NULL;
        if (tab)
            *tab = '\0';
    }
    assert_non_null(columns[2]);
    struct row row = {
        .name = columns[0],
        .verdicts = columns[2],
        .facts = columns[3] ? columns[3] : none,
        .bytes = {text, unescape(columns[1], columns[1] + strlen(columns[1]), 0)},
        .is_response = is_response,
    };
    run_row(&row);
}

static void run_table(const char *path, bool is_response, int least)
{
    char line[4096];
    int count = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        assert_non_null(strchr(line, '\n'));
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#')
            continue;
        run_line(line, is_response);
        count++;
    }
    fclose(file);
    assert_true(count >= least);
}

static void test_request_table(void **state)
{
    (void)state;
    run_table(CH_TABLE_DIR "/http1_request.tsv", false, 190);
}

static void test_response_table(void **state)
{
    (void)state;
    run_table(CH_TABLE_DIR "/http1_response.tsv", true, 80);
}

// Faults show at the byte that proves them

static size_t bytes_until_error(const char *bytes)
{
    struct ch_http1_head_parser parser;
    struct ch_http1_head head;
    struct ch_http1_error error;
    size_t size = 0;
    enum ch_http1_verdict verdict = CH_HTTP1_MORE;
    ch_http1_request_init(&parser);
    while (verdict == CH_HTTP1_MORE && size < strlen(bytes))
        verdict = ch_http1_head_parse(&parser, (struct ch_span){bytes, ++size}, &head, &error);
    return verdict == CH_HTTP1_ERROR ? size : 0;
}

static void test_faults_show_early(void **state)
{
    (void)state;
    assert_int_equal(bytes_until_error(" GET / HTTP/1.1"), 1);
    assert_int_equal(bytes_until_error("GET  / HTTP/1.1"), 5);
    assert_int_equal(bytes_until_error("CONNECT e:1 HTTP/1.1"), 8);
    assert_int_equal(bytes_until_error("GET / HTTX/1.1"), 10);
    assert_int_equal(bytes_until_error("GET / HTTP/2.0\r\n"), 15);
    assert_int_equal(bytes_until_error("GET / HTTP/1.1\nHost: p"), 15);
    assert_int_equal(bytes_until_error("GET / HTTP/1.1\r\n Host: p"), 17);
    assert_int_equal(bytes_until_error("GET / HTTP/1.1\r\nHost : p"), 21);
    assert_int_equal(bytes_until_error("GET / HTTP/1.1\r\nHost: p\rX"), 25);
}

static void test_error_is_final(void **state)
{
    (void)state;
    struct ch_http1_head_parser parser;
    struct ch_http1_head head;
    struct ch_http1_error error;
    struct ch_span bytes = CH_SPAN("GET\t/ HTTP/1.1\r\nHost: p\r\n\r\n");
    ch_http1_request_init(&parser);
    assert_int_equal(ch_http1_head_parse(&parser, bytes, &head, &error), CH_HTTP1_ERROR);
    assert_int_equal(ch_http1_head_parse(&parser, bytes, &head, &error), CH_HTTP1_ERROR);
    ch_http1_request_init(&parser);
    assert_int_equal(ch_http1_head_parse(&parser, (struct ch_span){NULL, 0}, &head, &error),
                     CH_HTTP1_MORE);
}

// Fields

static void test_lookup_knows_every_name(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum ch_field id;
    } names[] = {
        {"Host", CH_FIELD_HOST},
        {"Content-Length", CH_FIELD_CONTENT_LENGTH},
        {"Content-Type", CH_FIELD_CONTENT_TYPE},
        {"Content-Encoding", CH_FIELD_CONTENT_ENCODING},
        {"Transfer-Encoding", CH_FIELD_TRANSFER_ENCODING},
        {"Connection", CH_FIELD_CONNECTION},
        {"Expect", CH_FIELD_EXPECT},
        {"Accept-Encoding", CH_FIELD_ACCEPT_ENCODING},
        {"User-Agent", CH_FIELD_USER_AGENT},
        {"Location", CH_FIELD_LOCATION},
        {"Keep-Alive", CH_FIELD_HOP_BY_HOP},
        {"Proxy-Authorization", CH_FIELD_HOP_BY_HOP},
        {"Proxy-Authenticate", CH_FIELD_HOP_BY_HOP},
        {"Proxy-Connection", CH_FIELD_HOP_BY_HOP},
        {"TE", CH_FIELD_HOP_BY_HOP},
        {"Trailer", CH_FIELD_HOP_BY_HOP},
        {"Upgrade", CH_FIELD_HOP_BY_HOP},
        {"HTTP2-Settings", CH_FIELD_HOP_BY_HOP},
        {"Authorization", CH_FIELD_AUTHORIZATION},
        {"x-api-key", CH_FIELD_X_API_KEY},
        {"X-Goog-Api-Key", CH_FIELD_X_GOOG_API_KEY},
        {"api-key", CH_FIELD_API_KEY},
        {"Sec-WebSocket-Protocol", CH_FIELD_SEC_WEBSOCKET_PROTOCOL},
        {"Cookie", CH_FIELD_COOKIE},
        {"Set-Cookie", CH_FIELD_COOKIE},
        {"Set-Cookie2", CH_FIELD_COOKIE},
        {"Forwarded", CH_FIELD_FORWARDING},
        {"Via", CH_FIELD_FORWARDING},
        {"X-Forwarded-For", CH_FIELD_FORWARDING},
        {"X-Forwarded-Proto", CH_FIELD_FORWARDING},
        {"X-Real-IP", CH_FIELD_FORWARDING},
        {"X-Client-IP", CH_FIELD_FORWARDING},
        {"True-Client-IP", CH_FIELD_FORWARDING},
        {"CF-Connecting-IP", CH_FIELD_FORWARDING},
        {"OpenAI-Organization", CH_FIELD_ACCOUNT},
        {"OpenAI-Project", CH_FIELD_ACCOUNT},
        {"Anthropic-Organization-Id", CH_FIELD_ACCOUNT},
        {"Anthropic-Workspace-Id", CH_FIELD_ACCOUNT},
        {"X-Goog-User-Project", CH_FIELD_ACCOUNT},
        {"x-portkey-custom-host", CH_FIELD_OTHER_GATEWAY},
        {"x-litellm-tags", CH_FIELD_OTHER_GATEWAY},
        {"Helicone-Auth", CH_FIELD_OTHER_GATEWAY},
        {"x-chaperone-request-id", CH_FIELD_CHAPERONE},
        {"anthropic-version", CH_FIELD_ANTHROPIC_VERSION},
        {"x-request-id", CH_FIELD_REQUEST_ID},
        {"request-id", CH_FIELD_REQUEST_ID},
        {"Idempotency-Key", CH_FIELD_IDEMPOTENCY_KEY},
        {"x-goog-upload-url", CH_FIELD_X_GOOG_UPLOAD_URL},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char other_case[64], changed[64];
        struct ch_span name = ch_span_of(names[i].name);
        assert_int_equal(ch_field_lookup(name), names[i].id);
        for (size_t j = 0; j < name.len; j++) {
            bool is_letter = (name.ptr[j] | 0x20) >= 'a' && (name.ptr[j] | 0x20) <= 'z';
            other_case[j] = (char)(is_letter ? name.ptr[j] ^ 0x20 : name.ptr[j]);
        }
        assert_int_equal(ch_field_lookup((struct ch_span){other_case, name.len}), names[i].id);
        // An underscore never stands for a dash (security.md §3, case 25).
        memcpy(changed, name.ptr, name.len);
        char *dash = memchr(changed, '-', name.len);
        if (dash) {
            *dash = '_';
            assert_int_equal(ch_field_lookup((struct ch_span){changed, name.len}), CH_FIELD_OTHER);
        }
    }
}

static void test_lookup_passes_the_rest(void **state)
{
    (void)state;
    static const char *const names[] = {
        "",
        "x",
        "X",
        "t",
        "Hos",
        "Hosts",
        "te2",
        "Accept",
        "Date",
        "xapi-key",
        "x-api-keys",
        "x-api-kez",
        "proxy",
        "x-forward",
        "helicone",
        "x-stainless-lang",
        "x-p",
        "hp",
        "px",
        "Content-Lengti",
        "Content-Langth",
        "anthropic-beta",
        "X_Api_Key",
        "x-goog-api-client",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(ch_field_lookup(ch_span_of(names[i])), CH_FIELD_OTHER);
}

static void parse_request(struct ch_span bytes, struct ch_http1_head *head)
{
    struct ch_http1_head_parser parser;
    struct ch_http1_error error;
    ch_http1_request_init(&parser);
    assert_int_equal(ch_http1_head_parse(&parser, bytes, head, &error), CH_HTTP1_DONE);
}

static void test_find(void **state)
{
    (void)state;
    struct ch_http1_head head;
    struct ch_span bytes =
        CH_SPAN("GET / HTTP/1.1\r\nHost: p\r\nX-Api-Key: \t one \t\r\nx-api-key: two\r\n"
                "Accept:\r\n\r\n");
    parse_request(bytes, &head);
    const struct ch_http1_field *field = ch_http1_find(&head, CH_FIELD_X_API_KEY);
    assert_non_null(field);
    assert_true(ch_span_eq(ch_http1_name(bytes.ptr, field), CH_SPAN("X-Api-Key")));
    assert_true(ch_span_eq(ch_http1_value(bytes.ptr, field), CH_SPAN("one")));
    assert_int_equal(head.fields[3].value_len, 0);
    assert_null(ch_http1_find(&head, CH_FIELD_COOKIE));
}

static void test_connection_options(void **state)
{
    (void)state;
    struct ch_http1_head head;
    struct ch_span bytes =
        CH_SPAN("GET / HTTP/1.1\r\nHost: p\r\nConnection: Authorization,, X-Api-Key \r\n"
                "Connection:\r\nconnection: te\r\n\r\n");
    parse_request(bytes, &head);
    assert_true(ch_http1_is_connection_option(&head, bytes.ptr, CH_SPAN("authorization")));
    assert_true(ch_http1_is_connection_option(&head, bytes.ptr, CH_SPAN("x-api-key")));
    assert_true(ch_http1_is_connection_option(&head, bytes.ptr, CH_SPAN("TE")));
    assert_false(ch_http1_is_connection_option(&head, bytes.ptr, CH_SPAN("x-api-ke")));
    assert_false(ch_http1_is_connection_option(&head, bytes.ptr, CH_SPAN("host")));
}

static void test_reasons(void **state)
{
    (void)state;
    assert_string_equal(ch_http1_reason(200), "OK");
    assert_string_equal(ch_http1_reason(429), "Too Many Requests");
    assert_string_equal(ch_http1_reason(529), "Overloaded");
    assert_string_equal(ch_http1_reason(299), "Status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_table),
        cmocka_unit_test(test_response_table),
        cmocka_unit_test(test_faults_show_early),
        cmocka_unit_test(test_error_is_final),
        cmocka_unit_test(test_lookup_knows_every_name),
        cmocka_unit_test(test_lookup_passes_the_rest),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_connection_options),
        cmocka_unit_test(test_reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
