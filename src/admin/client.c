// SPDX-License-Identifier: Apache-2.0
#include "admin/admin.h"

#include "socket.h"

#include "net/socket.h"
#include "net/tls.h"
#include "wire/http1.h"
#include "wire/url.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

// Longer than the slowest handlers: a change that waits for a locked database, `provider test`.
#define ANSWER_TIMEOUT_S 60
#define READ_STEP        (256 * 1024) // bytes of one read

enum ch_err ch_admin_address(const char *path, struct sockaddr_un *address_out, struct ch_why *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!*path || !ch_span_copy(ch_span_of(path), address.sun_path, sizeof address.sun_path))
        return ch_why_set(why, CH_ERR_INVALID,
                          "the admin socket's path must be 1-%zu bytes long (admin_socket in the "
                          "configuration): %s",
                          sizeof address.sun_path - 1, path);
    *address_out = address;
    return CH_OK;
}

enum ch_err ch_admin_peer_uid(int fd, uid_t *uid_out)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return CH_ERR_IO;
    *uid_out = peer.uid;
    return CH_OK;
}

static enum ch_err connect_error(const char *path, struct ch_why *why)
{
    switch (errno) {
    case EACCES:
    case EPERM:
        return ch_why_set(why, CH_ERR_DENIED,
                          "%s belongs to another user: run this as the daemon's user or as root",
                          path);
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "no daemon answers at %s", path);
    default:
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "no daemon answers at %s: %s", path,
                          strerror(errno));
    }
}

enum ch_err ch_admin_connect(const char *path, int *fd_out, struct ch_why *why)
{
    struct sockaddr_un address;
    enum ch_err err = ch_admin_address(path, &address, why);
    if (err)
        return err;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return ch_why_set(why, CH_ERR_IO, "socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        err = connect_error(path, why);
        close(fd);
        return err;
    }
    *fd_out = fd;
    return CH_OK;
}

// A call may carry a provider key: whoever serves the socket must be us, root or, to root, the user
// whose database it is.
static bool is_trusted(uid_t server, const char *database)
{
    struct stat info;
    if (server == geteuid() || server == 0)
        return true;
    return geteuid() == 0 && stat(database, &info) == 0 && info.st_uid == server;
}

static enum ch_err limit_waiting(int fd, const char *peer, struct ch_why *why)
{
    struct timeval limit = {.tv_sec = ANSWER_TIMEOUT_S};
    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
                   setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0
               ? ch_why_set(why, CH_ERR_IO, "%s: %s", peer, strerror(errno))
               : CH_OK;
}

static enum ch_err check_server(int fd, const char *path, const char *database, struct ch_why *why)
{
    uid_t uid;
    if (ch_admin_peer_uid(fd, &uid))
        return ch_why_set(why, CH_ERR_IO, "%s: %s", path, strerror(errno));
    if (!is_trusted(uid, database))
        return ch_why_set(why, CH_ERR_DENIED, "%s is served by another user (uid %u)", path,
                          (unsigned)uid);
    return limit_waiting(fd, path, why);
}

// ---- the request

static int append_piece(const char *bytes, size_t size, void *arg)
{
    return ch_buf_append(arg, bytes, size) ? -1 : 0;
}

// `token`: NULL where none is needed.
static enum ch_err build_request(const char *operation, const json_t *arguments,
                                 const struct ch_secret *token, struct ch_buf *request,
                                 struct ch_why *why)
{
    struct ch_buf body;
    char path[64];
    ch_span_copy(ch_span_of(operation), path, sizeof path);
    for (char *c = path; *c; c++)
        *c = *c == '.' ? '/' : *c;
    ch_buf_init(&body, CH_ADMIN_REQUEST_MAX);
    bool fits = (arguments ? json_dump_callback(arguments, append_piece, &body, JSON_COMPACT)
                           : append_piece("{}", 2, &body)) == 0 &&
                !ch_buf_append_format(request,
                                      "POST /v1/%s HTTP/1.1\r\nHost: chaperone\r\nContent-Type: "
                                      "application/json\r\nContent-Length: %zu\r\n",
                                      path, body.len) &&
                (!token || (!ch_buf_append(request, "Authorization: Bearer ", 22) &&
                            !ch_buf_append_span(request, ch_secret_reveal(token)) &&
                            !ch_buf_append(request, "\r\n", 2))) &&
                !ch_buf_append(request, "\r\n", 2) &&
                !ch_buf_append_span(request, ch_buf_span(&body));
    ch_buf_fini(&body);
    return fits ? CH_OK : ch_why_set(why, CH_ERR_LIMIT, "the request is larger than 8 MiB");
}

static enum ch_err send_all(struct ch_socket *socket, struct ch_span bytes, struct ch_why *why)
{
    while (bytes.len) {
        ssize_t put = ch_socket_write(socket, bytes.ptr, bytes.len);
        if (put < 0 && errno == EINTR)
            continue;
        // A daemon that refuses answers before it has read everything: its answer tells more.
        if (put < 0 && (errno == EPIPE || errno == ECONNRESET))
            return CH_OK;
        if (put < 0)
            return ch_why_set(why, CH_ERR_IO, "sending to the daemon: %s", strerror(errno));
        bytes = ch_span_sub(bytes, (size_t)put);
    }
    return CH_OK;
}

// ---- the answer

static enum ch_err receive_all(struct ch_socket *socket, struct ch_buf *answer, struct ch_why *why)
{
    for (;;) {
        if (ch_buf_reserve(answer, READ_STEP))
            return ch_why_set(why, CH_ERR_LIMIT, "the daemon's answer is too large");
        ssize_t got = ch_socket_read(socket, answer->ptr + answer->len, READ_STEP);
        if (got == 0)
            return CH_OK;
        if (got > 0)
            answer->len += (size_t)got;
        else if (errno == EAGAIN)
            return ch_why_set(why, CH_ERR_TIMEOUT, "the daemon did not answer within %d s",
                              ANSWER_TIMEOUT_S);
        else if (errno == ECONNRESET)
            return CH_OK;
        else if (errno != EINTR)
            return ch_why_set(why, CH_ERR_IO, "reading from the daemon: %s", strerror(errno));
    }
}

// The daemon states a length and closes; anything shorter was cut.
static enum ch_err answer_body(struct ch_span answer, struct ch_span *body_out, struct ch_why *why)
{
    struct ch_http1_head head;
    struct ch_http1_head_parser parser;
    struct ch_http1_error fault;
    ch_http1_response_init(&parser, false);
    if (ch_http1_head_parse(&parser, answer, &head, &fault) != CH_HTTP1_DONE ||
        head.framing != CH_FRAMING_LENGTH ||
        (int64_t)(answer.len - head.size) < head.content_length)
        return ch_why_set(why, CH_ERR_IO,
                          "the daemon closed the connection before its answer was complete; see "
                          "its log");
    *body_out = (struct ch_span){answer.ptr + head.size, (size_t)head.content_length};
    return CH_OK;
}

// CH_ERR_UNAVAILABLE means that no daemon answers; one that answers "not now" is a failed call.
static enum ch_err err_of_code(const char *code)
{
    for (int err = CH_ERR_NOMEM; err <= CH_ERR_AGAIN; err++)
        if (strcmp(code, ch_err_name((enum ch_err)err)) == 0)
            return err == CH_ERR_UNAVAILABLE ? CH_ERR_IO : (enum ch_err)err;
    return CH_ERR_IO;
}

static enum ch_err read_answer(struct ch_span body, json_t **result_out, struct ch_why *why)
{
    json_error_t fault;
    json_t *answer = json_loadb(body.ptr, body.len, 0, &fault);
    json_t *result = json_object_get(answer, "result");
    json_t *error = json_object_get(answer, "error");
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *message = json_string_value(json_object_get(error, "message"));
    enum ch_err err = CH_OK;
    if (result)
        *result_out = json_incref(result);
    else if (code && message)
        err = ch_why_set(why, err_of_code(code), "%s", message);
    else
        err = ch_why_set(why, CH_ERR_IO, "the daemon's answer is not understood");
    json_decref(answer);
    return err;
}

static enum ch_err exchange(struct ch_socket *socket, struct ch_span request, json_t **result_out,
                            struct ch_why *why)
{
    struct ch_buf answer;
    struct ch_span body;
    ch_buf_init(&answer, CH_ADMIN_ANSWER_MAX + 64 * 1024);
    enum ch_err err = send_all(socket, request, why);
    if (!err)
        err = receive_all(socket, &answer, why);
    if (!err)
        err = answer_body(ch_buf_span(&answer), &body, why);
    if (!err)
        err = read_answer(body, result_out, why);
    ch_buf_fini(&answer); // it may hold a new key
    return err;
}

static enum ch_err call(struct ch_socket *socket, const struct ch_secret *token,
                        const char *operation, const json_t *arguments, json_t **result_out,
                        struct ch_why *why)
{
    struct ch_buf request;
    ch_buf_init(&request, CH_ADMIN_REQUEST_MAX + 1024);
    enum ch_err err = build_request(operation, arguments, token, &request, why);
    if (!err)
        err = exchange(socket, ch_buf_span(&request), result_out, why);
    ch_buf_fini(&request); // it may hold a provider key
    return err;
}

enum ch_err ch_admin_client_call(const char *socket_path, const char *database,
                                 const char *operation, const json_t *arguments,
                                 json_t **result_out, struct ch_why *why)
{
    struct ch_socket socket = {.fd = -1};
    enum ch_err err = ch_admin_connect(socket_path, &socket.fd, why);
    if (err)
        return err;
    err = check_server(socket.fd, socket_path, database, why);
    if (!err)
        err = call(&socket, NULL, operation, arguments, result_out, why);
    ch_socket_close(&socket);
    return err;
}

// ---- the admin listener of another machine

// The first address that takes the connection.
static enum ch_err dial(const char *url, const char *host, uint16_t port, int *fd_out,
                        struct ch_why *why)
{
    char service[8];
    struct addrinfo *found = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    snprintf(service, sizeof service, "%u", (unsigned)port);
    int fault = getaddrinfo(host, service, &hints, &found);
    if (fault)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "%s: %s", url, gai_strerror(fault));
    enum ch_err err = CH_ERR_UNAVAILABLE;
    for (const struct addrinfo *at = found; at && err; at = at->ai_next) {
        int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        err = fd < 0 ? CH_ERR_UNAVAILABLE : limit_waiting(fd, url, why);
        if (!err && connect(fd, at->ai_addr, at->ai_addrlen) != 0)
            err = ch_why_set(why, CH_ERR_UNAVAILABLE, "no daemon answers at %s: %s", url,
                             strerror(errno));
        if (!err)
            *fd_out = fd;
        else if (fd >= 0)
            close(fd);
    }
    freeaddrinfo(found);
    return err;
}

// A token never travels in the clear, whoever asks for it.
static enum ch_err parse_remote(const struct ch_admin_remote *remote, struct ch_url *url,
                                char host[NI_MAXHOST], struct ch_why *why)
{
    if (ch_url_parse(ch_span_of(remote->url), url, NULL) || url->path.len ||
        !ch_span_copy(url->host, host, NI_MAXHOST))
        return ch_why_set(why, CH_ERR_INVALID, "%s is not of the form https://HOST:PORT",
                          remote->url);
    if (!url->tls && !ch_url_host_is_loopback(url->host))
        return ch_why_set(why, CH_ERR_INVALID,
                          "%s would send the token in the clear: write https://", remote->url);
    return CH_OK;
}

static enum ch_err open_session(const struct ch_admin_remote *remote, const struct ch_url *url,
                                const char *host, struct ssl_st **session_out, struct ch_why *why)
{
    struct ch_tls *tls;
    *session_out = NULL;
    if (!url->tls)
        return CH_OK;
    enum ch_err err = ch_tls_client_new(remote->ca, &tls, why);
    if (err)
        return err;
    err = ch_tls_session_new(tls, host, session_out);
    ch_tls_free(tls);
    return err ? ch_why_set(why, err, "%s: no TLS session could be made", remote->url) : CH_OK;
}

static enum ch_err meet(const struct ch_admin_remote *remote, struct ch_socket *socket_out,
                        struct ch_why *why)
{
    struct ch_url url;
    struct ch_why reason = {""};
    struct ssl_st *session;
    char host[NI_MAXHOST];
    int fd;
    enum ch_err err = parse_remote(remote, &url, host, why);
    if (!err)
        err = open_session(remote, &url, host, &session, why);
    if (err)
        return err;
    err = dial(remote->url, host, url.port, &fd, why);
    if (err) {
        ch_tls_session_free(session);
        return err;
    }
    if (ch_socket_open(socket_out, fd, session))
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    err = ch_socket_handshake(socket_out, &reason);
    if (err)
        ch_socket_close(socket_out);
    return err ? ch_why_set(why, err, "%s: %.400s", remote->url, reason.text) : CH_OK;
}

enum ch_err ch_admin_remote_call(const struct ch_admin_remote *remote, const char *operation,
                                 const json_t *arguments, json_t **result_out, struct ch_why *why)
{
    struct ch_socket socket;
    enum ch_err err = meet(remote, &socket, why);
    if (err)
        return err;
    err = call(&socket, remote->token, operation, arguments, result_out, why);
    ch_socket_close(&socket);
    return err;
}
