// SPDX-License-Identifier: Apache-2.0
#include "admin/admin.h"

#include "door.h"
#include "errand.h"
#include "routes.h"
#include "socket.h"

#include "base/clock.h"
#include "base/log.h"
#include "net/socket.h"
#include "net/tls.h"
#include "wire/http1.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define ERRANDS_MAX     4  // slow calls at once; a further one is refused
#define CONNECTIONS_MAX 32 // at once; more wait in the kernel's queue
#define REMOTE_MAX      16 // of them through the door: some stay for the socket
#define DEADLINE_NS     (10 * 1000 * CH_NS_PER_MS) // for a whole request, and for its answer
#define PAUSE_MS        100                        // when descriptors have run out
#define LINGER_NS       (1000 * CH_NS_PER_MS)      // for a remote peer to read its answer
#define READ_STEP       (64 * 1024)                // bytes of one read

// One connection carries one call: accept, read, run, write, close.
//
//   READING ──whole request──> WRITING ──all written──> closed
//    │  └─slow─> RUNNING ─done──┘   └──remote──> LINGERING ┤
//    └────────── fault, deadline, peer gone ───────────────┘
enum call_state {
    CALL_READING,
    CALL_RUNNING, // on a thread of its own; its connection is not looked at
    CALL_WRITING,
    CALL_LINGERING, // what still comes is thrown away: a reset would destroy the answer
};

struct call {
    struct ch_socket socket; // fd -1: the slot is free
    uid_t uid;               // of the process at the other end, unless it is remote
    bool is_remote;          // it came through the door and needs a token
    struct ch_door_address address;
    struct ch_admin_grant grant; // of a remote one, once its head was read
    enum call_state state;
    int64_t deadline_ns;
    struct ch_buf in; // head, then body as it came
    struct ch_http1_head_parser parser;
    struct ch_http1_head head;
    struct ch_http1_body framing;
    bool has_head;
    size_t parsed;            // bytes of `in` that the framing has consumed
    struct ch_buf body;       // payload without framing
    struct ch_errand *errand; // while it runs
    struct ch_buf out;
    size_t written;
};

struct ch_admin_server {
    struct ch_admin *admin;
    int listener;
    struct ch_door door;
    int wake, done; // eventfds: the first ends the thread, the second counts errands that are done
    pthread_t thread;
    char path[CH_ADMIN_PATH_MAX]; // to remove at the end; "": the listener was passed
    struct call calls[CONNECTIONS_MAX];
};

// ---- answers

static int status_of(enum ch_err err)
{
    switch (err) {
    case CH_OK:
        return 200;
    case CH_ERR_INVALID:
        return 400;
    case CH_ERR_DENIED:
        return 403;
    case CH_ERR_NOT_FOUND:
        return 404;
    case CH_ERR_CONFLICT:
        return 409;
    case CH_ERR_LIMIT:
        return 413;
    case CH_ERR_UNAVAILABLE:
    case CH_ERR_AGAIN:
        return 503;
    case CH_ERR_TIMEOUT:
        return 504;
    case CH_ERR_NOMEM:
    case CH_ERR_IO:
    case CH_ERR_CORRUPT:
        return 500;
    }
    return 500;
}

static enum ch_err append_head(struct ch_buf *out, int status, size_t body_bytes)
{
    return ch_buf_append_format(out,
                                "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n"
                                "Content-Length: %zu\r\nCache-Control: no-store\r\n"
                                "Connection: close\r\n\r\n",
                                status, ch_http1_reason(status), body_bytes);
}

static void start_writing(struct call *call)
{
    ch_buf_fini(&call->in);
    ch_buf_fini(&call->body);
    call->state = CALL_WRITING;
    call->socket.wants = POLLOUT;
    call->deadline_ns = ch_clock_mono_ns() + DEADLINE_NS;
}

static void answer_error(struct call *call, int status, const char *code, const char *message)
{
    struct ch_buf body;
    ch_buf_init(&body, 8 * 1024);
    ch_buf_clear(&call->out);
    bool fits = !ch_buf_append_format(&body, "{\"error\":{\"code\":\"%s\",\"message\":\"", code) &&
                !ch_buf_append_json(&body, ch_span_of(message)) &&
                !ch_buf_append(&body, "\"}}", 3) && !append_head(&call->out, status, body.len) &&
                !ch_buf_append_span(&call->out, ch_buf_span(&body));
    if (!fits)
        ch_buf_clear(&call->out); // out of memory: the connection closes without an answer
    ch_buf_fini(&body);
    start_writing(call);
}

static int append_piece(const char *bytes, size_t size, void *arg)
{
    return ch_buf_append(arg, bytes, size) ? -1 : 0;
}

static void answer_result(struct call *call, json_t *result)
{
    struct ch_buf body;
    ch_buf_init(&body, CH_ADMIN_ANSWER_MAX);
    bool fits = !ch_buf_append(&body, "{\"result\":", 10) &&
                !json_dump_callback(result, append_piece, &body, JSON_COMPACT) &&
                !ch_buf_append(&body, "}", 1) && !append_head(&call->out, 200, body.len) &&
                !ch_buf_append_span(&call->out, ch_buf_span(&body));
    ch_buf_fini(&body);
    if (fits)
        start_writing(call);
    else
        answer_error(call, 500, "limit",
                     "the answer is too large; narrow it by filters or --limit");
}

// ---- running a call

// "/v1/key/create" as "key.create"; only small letters, so that it can stand in a log.
static bool operation_of(const struct call *call, char out[64])
{
    struct ch_span target = {call->in.ptr + call->head.target_at, call->head.target_len};
    const struct ch_span prefix = CH_SPAN("/v1/");
    if (!ch_span_starts(target, prefix))
        return false;
    target = ch_span_sub(target, prefix.len);
    if (target.len == 0 || !ch_span_copy(target, out, 64))
        return false;
    for (char *c = out; *c; c++) {
        if (*c != '/' && (*c < 'a' || *c > 'z'))
            return false;
        *c = *c == '/' ? '.' : *c;
    }
    return true;
}

static void answer(struct call *call, enum ch_err err, const struct ch_why *why, json_t *result)
{
    if (err)
        answer_error(call, status_of(err), ch_err_name(err),
                     why->text[0] ? why->text : "the operation failed");
    else
        answer_result(call, result);
    json_decref(result);
}

static size_t count_errands(const struct ch_admin_server *server)
{
    size_t count = 0;
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        count += server->calls[i].errand != NULL;
    return count;
}

// Takes `arguments`.
static void send_errand(struct ch_admin_server *server, struct call *call, const char *operation,
                        json_t *arguments)
{
    struct ch_why why = {"busy: as many such calls as may run at once are running; try again"};
    enum ch_err err = CH_ERR_AGAIN;
    if (count_errands(server) < ERRANDS_MAX &&
        (err = ch_errand_start(server->admin, operation, arguments, server->done, &call->errand)))
        ch_why_set(&why, err, "a thread for the call could not be started");
    if (!err) {
        call->state = CALL_RUNNING;
        return;
    }
    json_decref(arguments);
    answer(call, err, &why, NULL);
}

static void finish_errand(struct call *call)
{
    json_t *result = NULL;
    struct ch_why why;
    enum ch_err err = ch_errand_end(call->errand, &result, &why);
    call->errand = NULL;
    answer(call, err, &why, result);
}

static void name_actor(const struct call *call, struct ch_audit_actor *actor)
{
    if (!call->is_remote) {
        ch_audit_actor_of(call->uid, actor);
        return;
    }
    actor->uid = CH_AUDIT_NO_UID;
    snprintf(actor->name, sizeof actor->name, "token:%s", call->grant.name);
}

static void run_operation(struct ch_admin_server *server, struct call *call, const char *operation)
{
    json_t *result = NULL;
    struct ch_why why = {""};
    json_error_t fault;
    json_t *arguments =
        json_loadb(call->body.len ? call->body.ptr : "{}", call->body.len ? call->body.len : 2,
                   JSON_REJECT_DUPLICATES, &fault);
    if (!arguments) {
        answer_error(call, 400, ch_err_name(CH_ERR_INVALID), "the request body is not JSON");
        return;
    }
    enum ch_err err = call->is_remote
                          ? ch_admin_permit(server->admin, &call->grant, operation, arguments, &why)
                          : CH_OK;
    if (err) {
        json_decref(arguments);
        answer(call, err, &why, NULL);
        return;
    }
    if (ch_admin_is_slow(operation)) {
        send_errand(server, call, operation, arguments);
        return;
    }
    struct ch_audit_actor actor;
    name_actor(call, &actor);
    err = ch_admin_call_as(server->admin, &actor, operation, arguments, &result, &why);
    json_decref(arguments);
    answer(call, err, &why, result);
}

// The time that a handler takes is not held against the calls that wait for it.
static void excuse_others(struct ch_admin_server *server, int64_t spent_ns)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        server->calls[i].deadline_ns += spent_ns;
}

static void run_call(struct ch_admin_server *server, struct call *call)
{
    char operation[64];
    int64_t began_ns = ch_clock_mono_ns();
    if (!operation_of(call, operation))
        answer_error(call, 404, ch_err_name(CH_ERR_NOT_FOUND), "there is no such operation");
    else if (call->head.method != CH_METHOD_POST)
        answer_error(call, 405, ch_err_name(CH_ERR_INVALID), "use POST");
    else
        run_operation(server, call, operation);
    excuse_others(server, ch_clock_mono_ns() - began_ns);
}

// ---- one connection

static void close_call(struct call *call)
{
    ch_socket_close(&call->socket);
    ch_buf_fini(&call->in);
    ch_buf_fini(&call->body);
    ch_buf_fini(&call->out);
}

static void open_call(struct call *call, struct ch_socket socket)
{
    *call = (struct call){.socket = socket, .deadline_ns = ch_clock_mono_ns() + DEADLINE_NS};
    ch_buf_init(&call->in, CH_HTTP1_HEAD_MAX + CH_ADMIN_REQUEST_MAX + READ_STEP);
    ch_buf_init(&call->body, CH_ADMIN_REQUEST_MAX);
    ch_buf_init(&call->out, CH_ADMIN_ANSWER_MAX + 1024);
    ch_http1_request_init(&call->parser);
}

static void refuse(struct call *call, const struct ch_http1_error *fault)
{
    answer_error(call, fault->status, ch_err_name(CH_ERR_INVALID), fault->text);
}

// Before a byte of the body is looked at.
static bool admit(struct ch_admin_server *server, struct call *call)
{
    struct ch_why why = {""};
    if (!call->is_remote)
        return true;
    if (ch_door_wait_s(&server->door, &call->address, ch_clock_mono_ns())) {
        answer_error(call, 429, ch_err_name(CH_ERR_AGAIN),
                     "too many calls without a good token; wait a minute");
        return false;
    }
    enum ch_err err = ch_door_admit(&server->door, server->admin, &call->address, &call->head,
                                    call->in.ptr, &call->grant, &why);
    if (err)
        answer_error(call, err == CH_ERR_DENIED ? 401 : status_of(err), ch_err_name(err), why.text);
    return !err;
}

// True when the head is complete.
static bool parse_head(struct call *call)
{
    struct ch_http1_error fault;
    switch (ch_http1_head_parse(&call->parser, ch_buf_span(&call->in), &call->head, &fault)) {
    case CH_HTTP1_MORE:
        return false;
    case CH_HTTP1_ERROR:
        refuse(call, &fault);
        return false;
    case CH_HTTP1_DONE:
        break;
    }
    ch_http1_body_init(&call->framing, &call->head);
    call->parsed = call->head.size;
    call->has_head = true;
    return true;
}

// True when the body is complete.
static bool parse_body(struct call *call)
{
    struct ch_http1_error fault;
    while (!ch_http1_body_is_empty(&call->framing)) {
        size_t consumed;
        struct ch_span payload;
        enum ch_http1_verdict verdict =
            ch_http1_body_step(&call->framing, ch_span_sub(ch_buf_span(&call->in), call->parsed),
                               &consumed, &payload, &fault);
        call->parsed += consumed;
        if (verdict == CH_HTTP1_ERROR) {
            refuse(call, &fault);
            return false;
        }
        if (ch_buf_append_span(&call->body, payload)) {
            answer_error(call, 413, ch_err_name(CH_ERR_LIMIT), "the request is larger than 8 MiB");
            return false;
        }
        if (verdict == CH_HTTP1_DONE)
            return true;
        if (call->parsed == call->in.len)
            return ch_http1_body_is_empty(&call->framing);
    }
    return true;
}

static void read_call(struct ch_admin_server *server, struct call *call)
{
    if (ch_buf_reserve(&call->in, READ_STEP)) {
        answer_error(call, 413, ch_err_name(CH_ERR_LIMIT), "the request is larger than 8 MiB");
        return;
    }
    ssize_t got = ch_socket_read(&call->socket, call->in.ptr + call->in.len, READ_STEP);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        close_call(call);
        return;
    }
    call->in.len += (size_t)got;
    if ((call->has_head || (parse_head(call) && admit(server, call))) && parse_body(call))
        run_call(server, call);
}

static void linger(struct call *call)
{
    char scrap[4096];
    ssize_t got = read(call->socket.fd, scrap, sizeof scrap);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        close_call(call);
}

static void end_call(struct call *call)
{
    if (!call->is_remote) {
        close_call(call);
        return;
    }
    ch_socket_finish(&call->socket);
    call->socket.wants = POLLIN;
    call->state = CALL_LINGERING;
    call->deadline_ns = ch_clock_mono_ns() + LINGER_NS;
}

static void write_call(struct call *call)
{
    while (call->written < call->out.len) {
        ssize_t put = ch_socket_write(&call->socket, call->out.ptr + call->written,
                                      call->out.len - call->written);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN)
            return;
        if (put < 0) {
            close_call(call);
            return;
        }
        call->written += (size_t)put;
    }
    end_call(call);
}

// ---- the thread

// Filesystem modes already keep others out; this holds when somebody widened them.
static bool is_welcome(int fd, uid_t *uid_out)
{
    uid_t uid;
    if (ch_admin_peer_uid(fd, &uid))
        return false;
    *uid_out = uid;
    if (uid == 0 || uid == geteuid())
        return true;
    CH_LOG(CH_LOG_WARN, "admin_peer_refused", ch_log_int("uid", (int64_t)uid));
    return false;
}

static struct call *free_slot(struct ch_admin_server *server)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (server->calls[i].socket.fd < 0)
            return &server->calls[i];
    return NULL;
}

static bool has_room_for_remote(struct ch_admin_server *server)
{
    size_t count = 0;
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        count += server->calls[i].socket.fd >= 0 && server->calls[i].is_remote;
    return count < REMOTE_MAX && free_slot(server);
}

// -1: there is none, for now.
static int accept_one(int listener, struct sockaddr_storage *peer, socklen_t *size)
{
    int fd = accept4(listener, (struct sockaddr *)peer, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE))
        poll(NULL, 0, PAUSE_MS); // the listener stays readable: do not spin on it
    return fd;
}

static void accept_call(struct ch_admin_server *server)
{
    struct call *call = free_slot(server);
    uid_t uid;
    int fd = accept_one(server->listener, NULL, NULL);
    if (fd < 0)
        return;
    if (!call || !is_welcome(fd, &uid)) {
        close(fd);
        return;
    }
    open_call(call, (struct ch_socket){.fd = fd, .wants = POLLIN});
    call->uid = uid;
}

static void accept_remote(struct ch_admin_server *server)
{
    struct call *call = free_slot(server);
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof peer;
    struct ssl_st *tls = NULL;
    struct ch_socket socket;
    int fd = accept_one(server->door.fd, &peer, &size);
    if (fd < 0)
        return;
    if (!call || !has_room_for_remote(server) ||
        server->admin->session(server->admin->session_arg, &tls)) {
        close(fd);
        return;
    }
    if (ch_socket_open(&socket, fd, tls))
        return;
    open_call(call, socket);
    call->is_remote = true;
    call->address = ch_door_address_of(&peer);
}

#define FIRST_CALL 5 // in a wait_set

// What the thread waits for: [0] the end, [1] the listener, [2] errands, [3] alerts, [4] the door,
// then the calls in the order of `of`.
struct wait_set {
    struct pollfd fds[FIRST_CALL + CONNECTIONS_MAX];
    struct call *of[FIRST_CALL + CONNECTIONS_MAX];
    nfds_t count;
    int timeout_ms;
};

static void fill_wait_set(struct ch_admin_server *server, struct wait_set *set)
{
    int64_t now_ns = ch_clock_mono_ns(), nearest_ns = INT64_MAX;
    set->fds[0] = (struct pollfd){.fd = server->wake, .events = POLLIN};
    set->fds[1] =
        (struct pollfd){.fd = free_slot(server) ? server->listener : -1, .events = POLLIN};
    set->fds[2] = (struct pollfd){.fd = server->done, .events = POLLIN};
    set->fds[3] = (struct pollfd){
        .fd = server->admin->alerts ? ch_alerts_fd(server->admin->alerts) : -1, .events = POLLIN};
    set->fds[4] =
        (struct pollfd){.fd = has_room_for_remote(server) ? server->door.fd : -1, .events = POLLIN};
    set->count = FIRST_CALL;
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        struct call *call = &server->calls[i];
        if (call->socket.fd < 0 || call->state == CALL_RUNNING)
            continue;
        set->of[set->count] = call;
        set->fds[set->count++] =
            (struct pollfd){.fd = call->socket.fd, .events = call->socket.wants};
        if (call->deadline_ns < nearest_ns)
            nearest_ns = call->deadline_ns;
    }
    set->timeout_ms = -1;
    if (nearest_ns != INT64_MAX)
        set->timeout_ms =
            nearest_ns <= now_ns ? 0 : (int)((nearest_ns - now_ns) / CH_NS_PER_MS) + 1;
}

static void step_call(struct ch_admin_server *server, struct call *call, bool is_ready)
{
    if (is_ready && call->state == CALL_READING)
        read_call(server, call);
    if (call->socket.fd >= 0 && call->state == CALL_WRITING)
        write_call(call);
    if (call->socket.fd >= 0 && call->state == CALL_LINGERING)
        linger(call);
    if (call->socket.fd >= 0 && call->deadline_ns <= ch_clock_mono_ns())
        close_call(call);
}

static void finish_errands(struct ch_admin_server *server)
{
    eventfd_t count;
    CH_ASSERT(eventfd_read(server->done, &count) == 0);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (server->calls[i].errand && ch_errand_is_done(server->calls[i].errand))
            finish_errand(&server->calls[i]);
}

static void *serve(void *arg)
{
    struct ch_admin_server *server = arg;
    struct wait_set set;
    pthread_setname_np(pthread_self(), "admin");
    for (;;) {
        fill_wait_set(server, &set);
        if (poll(set.fds, set.count, set.timeout_ms) < 0)
            continue; // EINTR: nothing else can happen to valid descriptors
        if (set.fds[0].revents)
            return NULL;
        for (nfds_t i = FIRST_CALL; i < set.count; i++)
            step_call(server, set.of[i], set.fds[i].revents != 0);
        if (set.fds[2].revents)
            finish_errands(server);
        if (set.fds[3].revents)
            ch_alerts_drain(server->admin->alerts);
        if (set.fds[1].revents)
            accept_call(server);
        if (set.fds[4].revents)
            accept_remote(server);
    }
}

// ---- start and stop

// A socket file that nobody answers is what a killed daemon left.
static enum ch_err clear_the_way(const char *path, struct ch_why *why)
{
    struct stat info;
    int fd;
    if (lstat(path, &info) != 0)
        return errno == ENOENT ? CH_OK
                               : ch_why_set(why, CH_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISSOCK(info.st_mode))
        return ch_why_set(why, CH_ERR_CONFLICT, "%s exists and is no socket", path);
    if (!ch_admin_connect(path, &fd, NULL)) {
        close(fd);
        return ch_why_set(why, CH_ERR_CONFLICT, "another daemon answers at %s", path);
    }
    if (unlink(path) != 0)
        return ch_why_set(why, CH_ERR_IO, "cannot remove the stale socket %s: %s", path,
                          strerror(errno));
    return CH_OK;
}

static enum ch_err open_listener(const char *path, int *fd_out, struct ch_why *why)
{
    struct sockaddr_un address;
    enum ch_err err = ch_admin_address(path, &address, why);
    if (!err)
        err = clear_the_way(path, why);
    if (err)
        return err;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    // Linux takes the mode of the file from the socket's own (unix(7)), so there is no moment in
    // which it is wider, and no process-wide umask to change.
    if (fd < 0 || fchmod(fd, 0600) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || chmod(path, 0600) != 0 ||
        listen(fd, 64) != 0) {
        ch_why_set(why, CH_ERR_IO, "admin socket %s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return CH_ERR_IO;
    }
    *fd_out = fd;
    return CH_OK;
}

// A passed socket's file belongs to whoever passed it.
static enum ch_err get_listener(struct ch_admin_server *server, const char *path,
                                struct ch_why *why)
{
    server->listener = server->admin->passed_socket;
    if (server->listener)
        return CH_OK;
    enum ch_err err = open_listener(path, &server->listener, why);
    if (!err)
        ch_span_copy(ch_span_of(path), server->path, sizeof server->path);
    return err;
}

static enum ch_err get_door(struct ch_admin_server *server, struct ch_why *why)
{
    const struct ch_admin *admin = server->admin;
    if (admin->passed_listen)
        server->door.fd = admin->passed_listen;
    else if (admin->listen && *admin->listen)
        return ch_door_open(&server->door, admin->listen, why);
    return CH_OK;
}

static void close_listener(struct ch_admin_server *server)
{
    if (server->path[0])
        unlink(server->path);
    close(server->listener);
}

enum ch_err ch_admin_server_start(struct ch_admin *admin, const char *socket_path,
                                  struct ch_admin_server **server_out, struct ch_why *why)
{
    struct ch_admin_server *server = ch_zcalloc(1, sizeof *server);
    if (!server)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    server->admin = admin;
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        server->calls[i].socket.fd = -1;
    server->door.fd = -1;
    enum ch_err err = get_listener(server, socket_path, why);
    if (err)
        goto fail_memory;
    if ((err = get_door(server, why)))
        goto fail_listener;
    server->wake = eventfd(0, EFD_CLOEXEC);
    server->done = eventfd(0, EFD_CLOEXEC);
    if (server->wake < 0 || server->done < 0) {
        err = ch_why_set(why, CH_ERR_IO, "admin thread: %s", strerror(errno));
        goto fail_events;
    }
    if (pthread_create(&server->thread, NULL, serve, server) != 0) {
        err = ch_why_set(why, CH_ERR_IO, "the admin thread could not be started");
        goto fail_events;
    }
    *server_out = server;
    return CH_OK;

fail_events:
    if (server->wake >= 0)
        close(server->wake);
    if (server->done >= 0)
        close(server->done);
    ch_door_close(&server->door);
fail_listener:
    close_listener(server);
fail_memory:
    ch_zfree(server);
    return err;
}

void ch_admin_server_stop(struct ch_admin_server *server)
{
    if (!server)
        return;
    CH_ASSERT(eventfd_write(server->wake, 1) == 0);
    pthread_join(server->thread, NULL);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        if (server->calls[i].errand)
            ch_errand_abandon(server->calls[i].errand);
        if (server->calls[i].socket.fd >= 0)
            close_call(&server->calls[i]);
    }
    ch_door_close(&server->door);
    close_listener(server);
    close(server->wake);
    close(server->done);
    ch_zfree(server);
}
