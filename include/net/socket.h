// SPDX-License-Identifier: Apache-2.0
// A stream socket, plain or TLS, for threads that have no loop: the admin thread, which polls its
// own descriptors, and the command line, which blocks. Belongs to one thread.
#ifndef CH_NET_SOCKET_H
#define CH_NET_SOCKET_H

#include "base/err.h"

#include <stddef.h>
#include <sys/types.h>

struct ssl_st;

struct ch_socket {
    int fd;             // -1: closed
    struct ssl_st *tls; // NULL: plain
    short wants; // what the last call that found the socket not ready waits for: POLLIN, POLLOUT
};

// Takes `fd` and `tls` (NULL: plain), also when it fails: CH_ERR_NOMEM.
enum ch_err ch_socket_open(struct ch_socket *socket, int fd, struct ssl_st *tls) CH_MUST_USE;
// As read(2) and send(2), and TLS handshakes on the way. -1 with EAGAIN: nothing now (`wants` says
// what to wait for), or, on a blocking socket, its time-out passed. -1 with EPROTO: TLS failed.
ssize_t ch_socket_read(struct ch_socket *socket, void *into, size_t size);
ssize_t ch_socket_write(struct ch_socket *socket, const void *bytes, size_t size);
// A blocking socket's handshake, so that a server that cannot be trusted is told from one that
// breaks off. CH_ERR_IO with the reason.
enum ch_err ch_socket_handshake(struct ch_socket *socket, struct ch_why *why) CH_MUST_USE;
// Says that nothing more will be written.
void ch_socket_finish(struct ch_socket *socket);
void ch_socket_close(struct ch_socket *socket); // twice is fine

#endif
