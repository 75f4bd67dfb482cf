// SPDX-License-Identifier: Apache-2.0
// The socket, with a daemon that knows nothing but its status.
#include "admin/admin.h"

#include "base/secret.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
    char dir[64], path[96];
    struct ch_admin admin;
    struct ch_admin_server *server;
};

static json_t *status(void *arg)
{
    ++*(int *)arg;
    return json_pack("{s:i}", "pid", 7);
}

static int status_calls;

static int set_up(void **state)
{
    static struct fixture fixture;
    struct ch_why why = {""};
    status_calls = 0;
    fixture = (struct fixture){.dir = "/tmp/ch_test_server_XXXXXX",
                               .admin = {.status = status, .status_arg = &status_calls}};
    if (!mkdtemp(fixture.dir))
        return -1;
    snprintf(fixture.path, sizeof fixture.path, "%s/admin.sock", fixture.dir);
    if (ch_admin_server_start(&fixture.admin, fixture.path, &fixture.server, &why)) {
        print_error("%s\n", why.text);
        return -1;
    }
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    ch_admin_server_stop(fixture->server);
    return access(fixture->path, F_OK) == 0 || rmdir(fixture->dir);
}

static int dial(const struct fixture *fixture)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = 20};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", fixture->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    return fd;
}

// Everything the server says until it closes.
static void hear(int fd, char *out, size_t size)
{
    size_t at = 0;
    ssize_t got;
    while ((got = read(fd, out + at, size - 1 - at)) > 0)
        at += (size_t)got;
    out[at] = '\0';
    close(fd);
}

static void talk(const struct fixture *fixture, const char *text, char *out, size_t size)
{
    int fd = dial(fixture);
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    hear(fd, out, size);
}

static void a_call_is_answered(void **state)
{
    struct fixture *fixture = *state;
    struct ch_why why = {""};
    json_t *result = NULL;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(ch_admin_client_call(fixture->path, "status", NULL, &result, &why), CH_OK);
        assert_int_equal(json_integer_value(json_object_get(result, "pid")), 7);
        json_decref(result);
    }
    assert_int_equal(status_calls, 100);
}

static void errors_keep_their_kind_and_sentence(void **state)
{
    struct fixture *fixture = *state;
    struct ch_why why = {""};
    json_t *result = NULL, *wrong = json_pack("{s:s}", "x", "\"\xE2\x82\xAC\"");
    assert_int_equal(ch_admin_client_call(fixture->path, "key.fly", NULL, &result, &why),
                     CH_ERR_NOT_FOUND);
    assert_string_equal(why.text, "there is no such operation");
    assert_int_equal(ch_admin_client_call(fixture->path, "status", wrong, &result, &why),
                     CH_ERR_INVALID);
    json_decref(wrong);
    // A daemon that says "not now" is not the same as no daemon.
    assert_int_equal(ch_admin_client_call(fixture->path, "key.list", NULL, &result, &why),
                     CH_ERR_IO);
    assert_string_equal(why.text, "the store is not open");
    assert_null(result);
}

static void the_socket_is_private(void **state)
{
    struct fixture *fixture = *state;
    struct stat info;
    assert_int_equal(stat(fixture->path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
}

static void nobody_there(void **state)
{
    struct fixture *fixture = *state;
    struct ch_why why = {""};
    json_t *result = NULL;
    char path[128], longer[300];
    snprintf(path, sizeof path, "%s/other.sock", fixture->dir);
    assert_int_equal(ch_admin_client_call(path, "status", NULL, &result, &why), CH_ERR_UNAVAILABLE);
    assert_non_null(strstr(why.text, "other.sock"));
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(ch_admin_client_call(longer, "status", NULL, &result, &why), CH_ERR_INVALID);
}

static void a_second_daemon_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct ch_why why = {""};
    struct ch_admin_server *second = NULL;
    assert_int_equal(ch_admin_server_start(&fixture->admin, fixture->path, &second, &why),
                     CH_ERR_CONFLICT);
    assert_null(second);
    json_t *result = NULL;
    assert_int_equal(ch_admin_client_call(fixture->path, "status", NULL, &result, &why), CH_OK);
    json_decref(result);
}

// A killed daemon leaves its socket file; a file that is no socket is somebody's.
static void a_stale_socket_is_replaced(void **state)
{
    struct fixture *fixture = *state;
    struct ch_why why = {""};
    struct ch_admin_server *server = NULL;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/stale.sock", fixture->dir);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    assert_int_equal(ch_admin_server_start(&fixture->admin, address.sun_path, &server, &why),
                     CH_OK);
    ch_admin_server_stop(server);

    FILE *file = fopen(address.sun_path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(ch_admin_server_start(&fixture->admin, address.sun_path, &server, &why),
                     CH_ERR_CONFLICT);
    unlink(address.sun_path);
}

static void hostile_requests_are_refused(void **state)
{
    static const struct {
        const char *request, *status;
    } cases[] = {
        {"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405"},
        {"POST /v2/status HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 404"},
        {"POST /v1/Status HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 404"},
        {"POST /v1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 404"},
        {"POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{]", "HTTP/1.1 400"},
        {"POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"a\":1,\"a\":2}",
         "HTTP/1.1 400"},
        {"POST /v1/status HTTP/1.1\nHost: x\n\n", "HTTP/1.1 400"},
        {"nonsense\r\n\r\n", "HTTP/1.1 400"},
        {"POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
         "HTTP/1.1 400"},
        {"POST /v1/status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
         "2\r\n{}\r\n0\r\n\r\n",
         "HTTP/1.1 200"},
    };
    char answer[4096];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        talk(*state, cases[i].request, answer, sizeof answer);
        print_message("%.60s -> %.12s\n", cases[i].request, answer);
        assert_int_equal(strncmp(answer, cases[i].status, strlen(cases[i].status)), 0);
    }
}

static void a_request_may_come_byte_by_byte(void **state)
{
    static const char request[] =
        "POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    char answer[4096];
    int fd = dial(*state);
    for (size_t i = 0; i < sizeof request - 1; i++)
        assert_int_equal(send(fd, request + i, 1, MSG_NOSIGNAL), 1);
    hear(fd, answer, sizeof answer);
    assert_non_null(strstr(answer, "{\"result\":{\"pid\":7"));
}

static void a_large_request_is_refused(void **state)
{
    char answer[4096];
    static char body[64 * 1024];
    memset(body, ' ', sizeof body);
    int fd = dial(*state);
    static const char head[] =
        "POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n";
    ssize_t put = send(fd, head, sizeof head - 1, MSG_NOSIGNAL);
    for (size_t sent = 0; put > 0 && sent < 9000000; sent += (size_t)put)
        put = send(fd, body, sizeof body, MSG_NOSIGNAL);
    hear(fd, answer, sizeof answer);
    assert_int_equal(strncmp(answer, "HTTP/1.1 413", 12), 0);
    assert_int_equal(status_calls, 0);
}

// More silent connections than slots: they hold no others up for longer than their deadline, and an
// end of theirs frees the slot at once.
static void silent_connections_leave_room(void **state)
{
    struct fixture *fixture = *state;
    struct ch_why why = {""};
    json_t *result = NULL;
    int fds[40];
    for (size_t i = 0; i < 40; i++)
        fds[i] = dial(fixture);
    for (size_t i = 0; i < 40; i++)
        close(fds[i]);
    assert_int_equal(ch_admin_client_call(fixture->path, "status", NULL, &result, &why), CH_OK);
    json_decref(result);
}

int main(void)
{
    struct ch_why why = {""};
    if (ch_secret_process_init(&why))
        return 1;
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_call_is_answered),           TEST(errors_keep_their_kind_and_sentence),
        TEST(the_socket_is_private),        TEST(nobody_there),
        TEST(a_second_daemon_is_refused),   TEST(a_stale_socket_is_replaced),
        TEST(hostile_requests_are_refused), TEST(a_request_may_come_byte_by_byte),
        TEST(a_large_request_is_refused),   TEST(silent_connections_leave_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
