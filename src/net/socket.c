// SPDX-License-Identifier: Apache-2.0
#include "net/socket.h"

#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DATALESS_MAX 8 // records without data at once; a socket that polls goes on later

enum ch_err ch_socket_open(struct ch_socket *socket, int fd, struct ssl_st *tls)
{
    *socket = (struct ch_socket){.fd = fd, .tls = tls, .wants = POLLIN};
    if (!tls || SSL_set_fd(tls, fd) == 1)
        return CH_OK;
    ch_socket_close(socket);
    return CH_ERR_NOMEM;
}

// The end of a call that gave no bytes, in the words of read(2).
static ssize_t explain(struct ch_socket *socket, int result)
{
    int system_error = errno;
    switch (SSL_get_error(socket->tls, result)) {
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_WANT_READ:
        socket->wants = POLLIN;
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_WANT_WRITE:
        socket->wants = POLLOUT;
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_SYSCALL:
        errno = system_error ? system_error : ECONNRESET;
        return -1;
    default:
        errno = EPROTO;
        return -1;
    }
}

// A read ends behind a record without data (net/tls.c); of a session's tickets there are two.
static ssize_t read_record(struct ch_socket *socket, void *into, size_t size, bool *again_out)
{
    size_t got;
    ERR_clear_error();
    errno = 0;
    int result = SSL_read_ex(socket->tls, into, size, &got);
    *again_out =
        result != 1 && errno == 0 && SSL_get_error(socket->tls, result) == SSL_ERROR_WANT_READ;
    if (ch_tls_session_is_flooded(socket->tls)) {
        errno = EPROTO;
        return -1;
    }
    return result == 1 ? (ssize_t)got : explain(socket, result);
}

ssize_t ch_socket_read(struct ch_socket *socket, void *into, size_t size)
{
    bool again = true;
    ssize_t got = -1;
    if (!socket->tls) {
        socket->wants = POLLIN;
        return read(socket->fd, into, size);
    }
    for (int i = 0; i < DATALESS_MAX && again; i++)
        got = read_record(socket, into, size, &again);
    return got;
}

ssize_t ch_socket_write(struct ch_socket *socket, const void *bytes, size_t size)
{
    if (!socket->tls) {
        socket->wants = POLLOUT;
        return send(socket->fd, bytes, size, MSG_NOSIGNAL);
    }
    ERR_clear_error();
    errno = 0;
    size_t put;
    int result = SSL_write_ex(socket->tls, bytes, size, &put);
    if (result == 1)
        return (ssize_t)put;
    ssize_t end = explain(socket, result);
    if (end == 0) // closed by the other side
        errno = EPIPE;
    return -1;
}

enum ch_err ch_socket_handshake(struct ch_socket *socket, struct ch_why *why)
{
    if (!socket->tls)
        return CH_OK;
    ERR_clear_error();
    int result = SSL_do_handshake(socket->tls);
    if (result == 1)
        return CH_OK;
    long verdict = SSL_get_verify_result(socket->tls);
    if (verdict != X509_V_OK)
        return ch_why_set(why, CH_ERR_IO, "its certificate is not trusted: %s",
                          X509_verify_cert_error_string(verdict));
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return ch_why_set(why, CH_ERR_IO, "no TLS connection: %s",
                      reason ? reason : "it closed or did not answer in time");
}

void ch_socket_finish(struct ch_socket *socket)
{
    // A failed shutdown has no one to be told to; the close follows.
    if (socket->tls && SSL_is_init_finished(socket->tls)) {
        ERR_clear_error();
        SSL_shutdown(socket->tls);
    }
    shutdown(socket->fd, SHUT_WR);
}

void ch_socket_close(struct ch_socket *socket)
{
    if (socket->fd < 0)
        return;
    ch_tls_session_free(socket->tls);
    close(socket->fd);
    *socket = (struct ch_socket){.fd = -1};
}
