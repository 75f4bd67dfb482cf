// SPDX-License-Identifier: Apache-2.0
// What both ends of the admin socket share: limits, the address, and who stands at the other end.
#ifndef CH_ADMIN_SOCKET_H
#define CH_ADMIN_SOCKET_H

#include "base/err.h"
#include "base/str.h"

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#define CH_ADMIN_PATH_MAX    sizeof(((struct sockaddr_un *)0)->sun_path) // 108, unix(7)
#define CH_ADMIN_REQUEST_MAX ((size_t)8 * 1024 * 1024)                   // a price list is 1.4 MB
#define CH_ADMIN_ANSWER_MAX  ((size_t)256 * 1024 * 1024) // 100,000 keys are about 60 MB

// CH_ERR_INVALID when the path does not fit.
enum ch_err ch_admin_address(const char *path, struct sockaddr_un *address_out,
                             struct ch_why *why) CH_MUST_USE;
// A connected, blocking socket. CH_ERR_UNAVAILABLE: nobody listens there; CH_ERR_DENIED: not for
// us.
enum ch_err ch_admin_connect(const char *path, int *fd_out, struct ch_why *why) CH_MUST_USE;
enum ch_err ch_admin_peer_uid(int fd, uid_t *uid_out) CH_MUST_USE;

#endif
