// SPDX-License-Identifier: Apache-2.0
#include "transport.h"

#include "base/secret.h"
#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TLS_RECORD (16 * 1024) // bytes of plaintext in one record (RFC 8446 §5.1)

// Plain reads and writes go to the kernel without the C library's wrappers: in a program with
// threads these open and close a point of cancellation around each call, and nothing here is ever
// cancelled. The calls are those of sockets: read() goes round by the file system's checks, and one
// part alone needs no message header copied.

static enum ch_read read_plain(int fd, char *into, size_t size, size_t *got_out)
{
    ssize_t got;
    do
        got = syscall(SYS_recvfrom, fd, into, size, 0, NULL, NULL);
    while (got < 0 && errno == EINTR);
    if (got > 0) {
        *got_out = (size_t)got;
        return CH_READ_SOME;
    }
    if (got == 0)
        return CH_READ_EOF;
    return errno == EAGAIN ? CH_READ_NOTHING : CH_READ_FAILED;
}

// Empties the TLS layer as far as `size` allows: what it holds decoded raises no readiness.
static enum ch_read read_tls(struct ssl_st *tls, char *into, size_t size, size_t *got_out)
{
    size_t total = 0, got;
    ERR_clear_error();
    while (total < size && SSL_read_ex(tls, into + total, size - total, &got))
        total += got;
    *got_out = total;
    if (total)
        return CH_READ_SOME;
    switch (SSL_get_error(tls, 0)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return ch_tls_session_is_flooded(tls) ? CH_READ_FAILED : CH_READ_NOTHING;
    case SSL_ERROR_ZERO_RETURN:
        return CH_READ_EOF;
    default: // OpenSSL's own ints: everything else is a failure
        return CH_READ_FAILED;
    }
}

enum ch_read ch_transport_read(int fd, struct ssl_st *tls, char *into, size_t size, size_t *got_out)
{
    return tls ? read_tls(tls, into, size, got_out) : read_plain(fd, into, size, got_out);
}

static ssize_t send_plain(int fd, const struct iovec *parts, int count)
{
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts,
                             .msg_iovlen = (size_t)count};
    ssize_t sent;
    do
        sent = count == 1
                   ? syscall(SYS_sendto, fd, parts->iov_base, parts->iov_len, MSG_NOSIGNAL, NULL, 0)
                   : syscall(SYS_sendmsg, fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return sent;
    return errno == EAGAIN ? 0 : -1;
}

static ssize_t send_tls_bytes(struct ssl_st *tls, const char *bytes, size_t size)
{
    size_t total = 0, sent;
    ERR_clear_error();
    while (total < size && SSL_write_ex(tls, bytes + total, size - total, &sent))
        total += sent;
    if (total < size) {
        int error = SSL_get_error(tls, 0);
        if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ)
            return -1;
    }
    return (ssize_t)total;
}

// Gathers parts into full records; a part that is large or alone goes without the copy.
static ssize_t send_tls(struct ssl_st *tls, const struct iovec *parts, int count)
{
    if (count == 1)
        return send_tls_bytes(tls, parts->iov_base, parts->iov_len);
    char gather[TLS_RECORD];
    size_t held = 0;
    ssize_t total = 0, sent;
    for (int i = 0; i < count; i++) {
        bool fits = parts[i].iov_len <= sizeof gather - held;
        if (fits && parts[i].iov_len) {
            memcpy(gather + held, parts[i].iov_base, parts[i].iov_len);
            held += parts[i].iov_len;
        }
        if (held && (!fits || i == count - 1)) {
            sent = send_tls_bytes(tls, gather, held);
            ch_wipe(gather, held); // a request head carries the credential
            if (sent < 0 || (size_t)sent < held)
                return sent < 0 ? sent : total + sent;
            total += sent;
            held = 0;
        }
        if (!fits) {
            sent = send_tls_bytes(tls, parts[i].iov_base, parts[i].iov_len);
            if (sent < 0 || (size_t)sent < parts[i].iov_len)
                return sent < 0 ? sent : total + sent;
            total += sent;
        }
    }
    return total;
}

ssize_t ch_transport_send(int fd, struct ssl_st *tls, const struct iovec *parts, int count)
{
    return tls ? send_tls(tls, parts, count) : send_plain(fd, parts, count);
}
