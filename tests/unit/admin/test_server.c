// SPDX-License-Identifier: Apache-2.0
// The socket, with a daemon that knows nothing but its status.
#include "admin/admin.h"

#include "base/clock.h"
#include "base/secret.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
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
        assert_int_equal(ch_admin_client_call(fixture->path, "", "status", NULL, &result, &why),
                         CH_OK);
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
    assert_int_equal(ch_admin_client_call(fixture->path, "", "key.fly", NULL, &result, &why),
                     CH_ERR_NOT_FOUND);
    assert_string_equal(why.text, "there is no such operation");
    assert_int_equal(ch_admin_client_call(fixture->path, "", "status", wrong, &result, &why),
                     CH_ERR_INVALID);
    json_decref(wrong);
    // A daemon that says "not now" is not the same as no daemon.
    assert_int_equal(ch_admin_client_call(fixture->path, "", "key.list", NULL, &result, &why),
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
    assert_int_equal(ch_admin_client_call(path, "", "status", NULL, &result, &why),
                     CH_ERR_UNAVAILABLE);
    assert_non_null(strstr(why.text, "other.sock"));
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(ch_admin_client_call(longer, "", "status", NULL, &result, &why),
                     CH_ERR_INVALID);
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
    assert_int_equal(ch_admin_client_call(fixture->path, "", "status", NULL, &result, &why), CH_OK);
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
    assert_int_equal(ch_admin_client_call(fixture->path, "", "status", NULL, &result, &why), CH_OK);
    json_decref(result);
}

#define NOBODY ((uid_t)65534)

// A process of another user that listens at `path` and hangs up on the first who comes.
static pid_t impostor(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), ready[2];
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        // The credentials that a client sees are those of listen(2).
        bool listens = setresuid(NOBODY, NOBODY, NOBODY) == 0 && listen(fd, 4) == 0;
        bool told = write(ready[1], "x", 1) == 1;
        alarm(20);
        _exit(!listens || !told || accept(fd, NULL, NULL) < 0);
    }
    char byte;
    close(fd);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

// Root's commands carry keys, too: only the user whose database it is may take them.
static void another_users_server_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct ch_why why = {""};
    json_t *result = NULL;
    char path[96], database[96];
    int status_code;
    if (geteuid() != 0)
        skip();
    snprintf(path, sizeof path, "%.60s/impostor.sock", fixture->dir);
    snprintf(database, sizeof database, "%.60s/their.db", fixture->dir);
    FILE *file = fopen(database, "w");
    assert_non_null(file);
    fclose(file);
    pid_t child = impostor(path);
    assert_int_equal(ch_admin_client_call(path, database, "status", NULL, &result, &why),
                     CH_ERR_DENIED);
    assert_non_null(strstr(why.text, "another user"));
    assert_int_equal(waitpid(child, &status_code, 0), child);
    unlink(path);
    assert_int_equal(chown(database, NOBODY, NOBODY), 0);
    child = impostor(path);
    assert_int_equal(ch_admin_client_call(path, database, "status", NULL, &result, &why),
                     CH_ERR_IO); // asked, and not answered
    assert_int_equal(waitpid(child, &status_code, 0), child);
    unlink(path);
    unlink(database);
}

// ---- slow calls

// Takes connections and never says anything.
static int deaf_provider(char *url, size_t size)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    snprintf(url, size, "http://127.0.0.1:%d/v1", ntohs(address.sin_port));
    return fd;
}

// A name server that does not answer before it is told to, by the linker's --wrap.
static sem_t name_server;

int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found);
int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found)
{
    (void)host, (void)service, (void)hints, (void)found;
    sem_wait(&name_server);
    return EAI_AGAIN;
}

static void open_store_with_provider(struct fixture *fixture, const char *url)
{
    unsigned char bytes[CH_VAULT_MASTER_KEY] = {1};
    struct ch_secret *key;
    struct ch_why why = {""};
    char path[96];
    json_t *result = NULL;
    snprintf(path, sizeof path, "%.60s/x.db", fixture->dir);
    assert_int_equal(ch_secret_new(bytes, sizeof bytes, &key), CH_OK);
    assert_int_equal(ch_store_open(path, key, true, &fixture->admin.store, &why), CH_OK);
    ch_secret_free(key);
    json_t *arguments = json_pack("{s:s, s:s, s:s, s:s}", "name", "p", "type", "openai", "base_url",
                                  url, "credential", "sk-x");
    assert_int_equal(ch_admin_call(&fixture->admin, "provider.create", arguments, &result, &why),
                     CH_OK);
    json_decref(arguments);
    json_decref(result);
}

static void close_store(struct fixture *fixture)
{
    static const char *const names[] = {"x.db", "x.db-wal", "x.db-shm", "x.db.lock",
                                        "x.db.audit-heads"};
    char path[96];
    ch_store_close(fixture->admin.store);
    fixture->admin.store = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%.60s/%s", fixture->dir, names[i]);
        unlink(path);
    }
}

static int open_store_with_deaf_provider(struct fixture *fixture)
{
    char url[64];
    int deaf = deaf_provider(url, sizeof url);
    open_store_with_provider(fixture, url);
    return deaf;
}

static int64_t ms_since(int64_t began_ns)
{
    return (ch_clock_mono_ns() - began_ns) / CH_NS_PER_MS;
}

static const char test_request[] = "POST /v1/provider/test HTTP/1.1\r\nHost: x\r\n"
                                   "Content-Length: 12\r\n\r\n{\"name\":\"p\"}";

static void slow_calls_hold_no_other_up(void **state)
{
    struct fixture *fixture = *state;
    struct ch_why why = {""};
    json_t *result = NULL;
    char said[4096];
    int fds[4], deaf = open_store_with_deaf_provider(fixture);
    int64_t began_ns = ch_clock_mono_ns();
    for (size_t i = 0; i < 4; i++) {
        fds[i] = dial(fixture);
        assert_int_equal(send(fds[i], test_request, sizeof test_request - 1, MSG_NOSIGNAL),
                         (ssize_t)sizeof test_request - 1);
    }
    talk(fixture, test_request, said, sizeof said);
    assert_int_equal(strncmp(said, "HTTP/1.1 503", 12), 0);
    assert_non_null(strstr(said, "busy"));
    assert_int_equal(ch_admin_client_call(fixture->path, "", "status", NULL, &result, &why), CH_OK);
    json_decref(result);
    assert_true(ms_since(began_ns) < 3000);
    for (size_t i = 0; i < 4; i++) {
        hear(fds[i], said, sizeof said);
        assert_int_equal(strncmp(said, "HTTP/1.1 200", 12), 0);
        assert_non_null(strstr(said, "does not answer in time"));
    }
    assert_true(ms_since(began_ns) < 9000); // at once, not one after the other
    close(deaf);
    close_store(fixture);
}

static void stopping_waits_for_slow_calls_no_longer_than_they_take(void **state)
{
    struct fixture *fixture = *state;
    struct ch_why why = {""};
    json_t *result = NULL;
    int deaf = open_store_with_deaf_provider(fixture);
    int gone = dial(fixture), waits = dial(fixture);
    assert_true(send(gone, test_request, sizeof test_request - 1, MSG_NOSIGNAL) > 0);
    assert_true(send(waits, test_request, sizeof test_request - 1, MSG_NOSIGNAL) > 0);
    assert_int_equal(ch_admin_client_call(fixture->path, "", "status", NULL, &result, &why), CH_OK);
    json_decref(result);
    close(gone);
    int64_t began_ns = ch_clock_mono_ns();
    ch_admin_server_stop(fixture->server);
    fixture->server = NULL;
    assert_true(ms_since(began_ns) < 7000);
    close(waits);
    close(deaf);
    close_store(fixture);
}

// getaddrinfo(3) has no time-out of ours: what hangs in it is left behind, and harms nothing later.
static void stopping_does_not_wait_for_a_name_server(void **state)
{
    struct fixture *fixture = *state;
    struct ch_why why = {""};
    json_t *result = NULL;
    open_store_with_provider(fixture, "https://api.example.com/v1");
    int fd = dial(fixture);
    assert_true(send(fd, test_request, sizeof test_request - 1, MSG_NOSIGNAL) > 0);
    assert_int_equal(ch_admin_client_call(fixture->path, "", "status", NULL, &result, &why), CH_OK);
    json_decref(result);
    int64_t began_ns = ch_clock_mono_ns();
    ch_admin_server_stop(fixture->server);
    fixture->server = NULL;
    assert_true(ms_since(began_ns) < 8000);
    close(fd);
    close_store(fixture);
    assert_int_equal(sem_post(&name_server), 0);
    usleep(500 * 1000); // for its thread to find the store gone, if it looked
}

int main(void)
{
    struct ch_why why = {""};
    sem_init(&name_server, 0, 0);
    if (ch_secret_process_init(&why) || ch_store_process_init(&why))
        return 1;
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_call_is_answered),
        TEST(errors_keep_their_kind_and_sentence),
        TEST(the_socket_is_private),
        TEST(nobody_there),
        TEST(a_second_daemon_is_refused),
        TEST(a_stale_socket_is_replaced),
        TEST(hostile_requests_are_refused),
        TEST(a_request_may_come_byte_by_byte),
        TEST(a_large_request_is_refused),
        TEST(silent_connections_leave_room),
        TEST(another_users_server_is_refused),
        TEST(slow_calls_hold_no_other_up),
        TEST(stopping_waits_for_slow_calls_no_longer_than_they_take),
        TEST(stopping_does_not_wait_for_a_name_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
