// SPDX-License-Identifier: Apache-2.0
// The sandbox as a process: a child runs it, the test speaks to it over sockets.
#include "sandbox/sandbox.h"

#include "base/clock.h"
#include "base/secret.h"
#include "net/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_S    20 // a test that waits longer has failed
#define TEXT_MAX  (1 << 20)
#define KEY_FIELD "authorization: Bearer sk-test\r\n"

static pid_t child;
static int port;
static char record_path[] = P_tmpdir "/ch_sandbox_record_XXXXXX";
static char text[TEXT_MAX + 1]; // what the last exchange read

_Noreturn static void run_child(int stdout_fd)
{
    struct ch_why why = {""};
    const struct ch_sandbox_options options = {
        .listen = "127.0.0.1:0", .threads = 2, .api_key = "sk-test", .record_path = record_path};
    dup2(stdout_fd, STDOUT_FILENO);
    int code = 1;
    if (!ch_net_process_init(&why))
        code = ch_sandbox_run(&options, &why) ? 1 : 0;
    fputs(why.text, stderr);
    exit(code);
}

static int start_sandbox(void **state)
{
    int out[2], record = mkstemp(record_path);
    char line[128] = "";
    (void)state;
    if (record < 0 || pipe(out) != 0)
        return -1;
    close(record);
    child = fork();
    if (child == 0)
        run_child(out[1]);
    close(out[1]);
    ssize_t got = read(out[0], line, sizeof line - 1); // one write of one line
    close(out[0]);
    return got > 0 && sscanf(line, "listening on http://127.0.0.1:%d\n", &port) == 1 ? 0 : -1;
}

static int stop_sandbox(void **state)
{
    int status;
    (void)state;
    unlink(record_path);
    kill(child, SIGTERM);
    if (waitpid(child, &status, 0) != child)
        return -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static int dial(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval wait = {.tv_sec = WAIT_S};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void put(int fd, const char *bytes, size_t len)
{
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
}

static void format_post(char *out, size_t size, const char *body)
{
    snprintf(out, size,
             "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" KEY_FIELD
             "content-length: %zu\r\n\r\n%s",
             strlen(body), body);
}

static void put_post(int fd, const char *body)
{
    char bytes[1024];
    format_post(bytes, sizeof bytes, body);
    put(fd, bytes, strlen(bytes));
}

// Reads until `end` has come `times` times, or the connection's end. Gives recv's last result.
static ssize_t get_until(int fd, const char *end, unsigned times)
{
    size_t len = 0;
    ssize_t got = 1;
    text[0] = '\0';
    for (const char *from = text; times && got > 0;) {
        got = recv(fd, text + len, TEXT_MAX - len, 0);
        len += got > 0 ? (size_t)got : 0;
        text[len] = '\0';
        for (const char *found; times && (found = strstr(from, end)); times--)
            from = found + strlen(end);
    }
    return got;
}

static ssize_t get_all(int fd)
{
    return get_until(fd, "\2", 1); // a byte that never comes
}

static unsigned count(const char *needle)
{
    unsigned found = 0;
    for (const char *p = text; (p = strstr(p, needle)); p++)
        found++;
    return found;
}

#define ANSWER_END "\"rejected_prediction_tokens\":0}}}"
#define STREAM_END "\r\n0\r\n\r\n"

static void read_record(void)
{
    FILE *file = fopen(record_path, "r");
    assert_non_null(file);
    text[fread(text, 1, TEXT_MAX, file)] = '\0';
    fclose(file);
}

// Whether the record's last line holds `needle`; waits a moment for it.
static void assert_recorded(const char *needle)
{
    for (int i = 0; i < 200; i++) {
        read_record();
        size_t len = strlen(text);
        if (len) {
            text[len - 1] = '\0';
            const char *line = strrchr(text, '\n');
            if (strstr(line ? line : text, needle))
                return;
        }
        usleep(10000);
    }
    fail_msg("not recorded: %s", needle);
}

static void requests_follow_each_other(void **state)
{
    (void)state;
    int fd = dial();
    for (int i = 0; i < 3; i++) {
        put_post(fd, "{\"model\":\"m\"}");
        assert_true(get_until(fd, ANSWER_END, 1) > 0);
        assert_int_equal(strncmp(text, "HTTP/1.1 200 OK\r\n", 17), 0);
    }
    char two[2048];
    format_post(two, sizeof two, "{\"model\":\"sandbox-slow-20ms\"}");
    format_post(two + strlen(two), sizeof two - strlen(two), "{\"model\":\"m\"}");
    put(fd, two, strlen(two)); // the second waits until the first is answered
    assert_true(get_until(fd, ANSWER_END, 2) > 0);
    assert_int_equal(count("HTTP/1.1 200 OK\r\n"), 2);
    close(fd);
}

static void a_request_may_come_byte_by_byte(void **state)
{
    (void)state;
    char bytes[1024];
    int fd = dial();
    format_post(bytes, sizeof bytes, "{\"model\":\"m\"}");
    for (size_t i = 0; i < strlen(bytes); i++) {
        put(fd, bytes + i, 1);
        usleep(200);
    }
    assert_true(get_until(fd, ANSWER_END, 1) > 0);
    const char *chunked = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" KEY_FIELD
                          "transfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n";
    put(fd, chunked, strlen(chunked));
    assert_true(get_until(fd, "HTTP/1.1 100 Continue\r\n\r\n", 1) > 0);
    const char *body = "5\r\n{\"mod\r\n8\r\nel\":\"m\"}\r\n0\r\n\r\n";
    put(fd, body, strlen(body));
    assert_true(get_until(fd, ANSWER_END, 1) > 0);
    close(fd);
}

static void bad_requests_are_refused_and_closed(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *status;
    } cases[] = {
        {"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 404 "},
        {"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 401 "},
        {"GET /v1/models\n\n", "HTTP/1.1 400 "},
        {"POST /v1/responses HTTP/1.1\r\nhost: x\r\n" KEY_FIELD
         "transfer-encoding: chunked\r\n\r\nxyz\r\n",
         "HTTP/1.1 400 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = dial();
        put(fd, cases[i].bytes, strlen(cases[i].bytes));
        assert_true(get_until(fd, "}", 1) > 0);
        assert_int_equal(strncmp(text, cases[i].status, strlen(cases[i].status)), 0);
        close(fd);
    }
}

static void the_record_is_there_before_the_answer_ends(void **state)
{
    (void)state;
    static const char *const ends[] = {ANSWER_END, STREAM_END};
    for (int stream = 0; stream < 2; stream++) {
        char body[128], id[64] = "";
        int fd = dial();
        snprintf(body, sizeof body, "{\"model\":\"m\",\"stream\":%s}", stream ? "true" : "false");
        put_post(fd, body);
        assert_true(get_until(fd, ends[stream], 1) > 0);
        const char *at = strstr(text, "chatcmpl-");
        assert_non_null(at);
        ch_span_copy((struct ch_span){at, strcspn(at, "\"")}, id, sizeof id);
        read_record();
        assert_non_null(strstr(text, id));
        close(fd);
    }
}

static void streams_end_with_a_last_chunk(void **state)
{
    (void)state;
    int fd = dial();
    put_post(fd, "{\"model\":\"sandbox-events-2000\",\"stream\":true}");
    assert_true(get_until(fd, STREAM_END, 1) > 0);
    assert_int_equal(count("\ndata: "), 1 + 2000 + 2);
    assert_recorded("\"output_tokens\":2000,");
    put_post(fd, "{\"model\":\"m\"}");
    assert_true(get_until(fd, ANSWER_END, 1) > 0);
    close(fd);
}

static void a_cut_answer_stops_short(void **state)
{
    (void)state;
    int fd = dial();
    put_post(fd, "{\"model\":\"sandbox-cut\"}");
    assert_int_equal(get_all(fd), 0);
    assert_non_null(strstr(text, "content-length: "));
    assert_null(strstr(text, ANSWER_END));
    assert_recorded("\"outcome\":\"cut\"");
    close(fd);
    fd = dial();
    put_post(fd, "{\"model\":\"sandbox-cut.events-8\",\"stream\":true}");
    assert_int_equal(get_all(fd), 0);
    assert_null(strstr(text, STREAM_END));
    assert_int_equal(count("\ndata: "), 1 + 4);
    assert_recorded("\"output_tokens\":4,");
    close(fd);
}

static void a_reset_connection_gives_nothing(void **state)
{
    (void)state;
    int fd = dial();
    put_post(fd, "{\"model\":\"sandbox-reset\"}");
    assert_int_equal(get_all(fd), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_int_equal(strlen(text), 0);
    close(fd);
    fd = dial();
    put_post(fd, "{\"model\":\"sandbox-garbage\"}");
    assert_int_equal(get_all(fd), 0);
    assert_null(strstr(text, "HTTP/1."));
    close(fd);
}

static void delays_are_kept(void **state)
{
    (void)state;
    int fd = dial();
    int64_t start_ns = ch_clock_mono_ns();
    put_post(fd, "{\"model\":\"sandbox-slow-80ms\"}");
    assert_true(get_until(fd, ANSWER_END, 1) > 0);
    // libevent counts by the kernel's coarse clock, which may be some milliseconds behind.
    assert_true(ch_clock_mono_ns() - start_ns >= 70 * CH_NS_PER_MS);
    start_ns = ch_clock_mono_ns();
    put_post(fd, "{\"model\":\"sandbox-drip-10ms.events-5\",\"stream\":true}");
    assert_true(get_until(fd, "\ndata: ", 1) > 0);
    assert_true(ch_clock_mono_ns() - start_ns < 60 * CH_NS_PER_MS); // the first comes at once
    assert_true(get_until(fd, STREAM_END, 1) > 0);
    // Seven ticks of 10 ms; the loop's clock may be a turn old when the first one is set.
    assert_true(ch_clock_mono_ns() - start_ns >= 60 * CH_NS_PER_MS);
    close(fd);
}

static void a_client_that_leaves_is_noted(void **state)
{
    (void)state;
    int fd = dial();
    put_post(fd, "{\"model\":\"sandbox-drip-10ms.events-1000\",\"stream\":true}");
    assert_true(get_until(fd, "\ndata: ", 3) > 0);
    close(fd);
    assert_recorded("\"outcome\":\"client_gone\"");
}

// The client reads nothing for a while: the rest must wait without being lost.
static void long_answers_wait_for_a_slow_reader(void **state)
{
    (void)state;
    static const char *const bodies[] = {"{\"model\":\"sandbox-size-8000000\"}",
                                         "{\"model\":\"sandbox-size-8000000\",\"stream\":true}"};
    for (int i = 0; i < 2; i++) {
        char chunk[65536];
        size_t total = 0;
        ssize_t got = 1;
        bool is_over = false;
        int fd = dial();
        put_post(fd, bodies[i]);
        usleep(100000);
        while (!is_over && got > 0) {
            got = recv(fd, chunk, sizeof chunk, 0);
            total += got > 0 ? (size_t)got : 0;
            is_over = got > 5 && (memcmp(chunk + got - 3, "}}}", 3) == 0 ||
                                  memcmp(chunk + got - 5, "0\r\n\r\n", 5) == 0);
        }
        assert_true(is_over);
        assert_true(total > 8000000);
        close(fd);
    }
}

static void old_clients_get_a_stream_that_ends_with_the_connection(void **state)
{
    (void)state;
    int fd = dial();
    const char *bytes = "POST /v1/chat/completions HTTP/1.0\r\n" KEY_FIELD
                        "content-length: 27\r\n\r\n{\"model\":\"m\",\"stream\":true}";
    put(fd, bytes, strlen(bytes));
    assert_int_equal(get_all(fd), 0);
    assert_null(strstr(text, "chunked"));
    size_t len = strlen(text);
    assert_string_equal(text + len - 14, "data: [DONE]\n\n");
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_follow_each_other),
        cmocka_unit_test(a_request_may_come_byte_by_byte),
        cmocka_unit_test(bad_requests_are_refused_and_closed),
        cmocka_unit_test(the_record_is_there_before_the_answer_ends),
        cmocka_unit_test(streams_end_with_a_last_chunk),
        cmocka_unit_test(a_cut_answer_stops_short),
        cmocka_unit_test(a_reset_connection_gives_nothing),
        cmocka_unit_test(delays_are_kept),
        cmocka_unit_test(a_client_that_leaves_is_noted),
        cmocka_unit_test(long_answers_wait_for_a_slow_reader),
        cmocka_unit_test(old_clients_get_a_stream_that_ends_with_the_connection),
    };
    return cmocka_run_group_tests(tests, start_sandbox, stop_sandbox);
}
