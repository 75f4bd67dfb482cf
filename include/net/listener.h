// SPDX-License-Identifier: Apache-2.0
// Listening sockets. One per loop and address, SO_REUSEPORT; accepting pauses at the descriptor
// limit and goes on when descriptors are free again. Belongs to its loop's thread.
#ifndef CH_NET_LISTENER_H
#define CH_NET_LISTENER_H

#include "net/loop.h"

#include <stdbool.h>

struct sockaddr;
struct ch_listener;

// `fd` is non-blocking and the callee's. `address`: text of the peer's address, "" for a Unix
// socket.
typedef void (*ch_accept_fn)(void *arg, int fd, const char *address);

// `address`: "127.0.0.1:8080", "[::1]:8080" or "unix:PATH" (mode 0660; a stale socket is replaced).
// Port 0 picks one. For "unix:" only one loop of a process may listen.
enum ch_err ch_listener_open(struct ch_loop *loop, const char *address, ch_accept_fn on_accept,
                             void *arg, struct ch_listener **listener_out,
                             struct ch_why *why) CH_MUST_USE;
// The same on a socket that listens already and that somebody else holds, too. Takes `fd` on success; closing it
// leaves the connections that wait in its queue to whoever listens on it next.
enum ch_err ch_listener_adopt(struct ch_loop *loop, int fd, ch_accept_fn on_accept, void *arg,
                              struct ch_listener **listener_out, struct ch_why *why) CH_MUST_USE;
// Whether `fd` is bound to just this address, by getsockname(2).
bool ch_listener_is_at(int fd, const char *address);
// Where it is bound to, as the configuration would say it.
#define CH_LISTENER_NAME 128
void ch_listener_name(int fd, char out[CH_LISTENER_NAME]);
// The port bound, 0 for a Unix socket.
int ch_listener_port(const struct ch_listener *listener);
void ch_listener_close(struct ch_listener *listener);

#endif
