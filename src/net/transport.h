// SPDX-License-Identifier: Apache-2.0
// A connection's bytes: those of its socket, or of the TLS session over it. Nothing here waits, and
// nothing is kept between two calls. Private to this floor; the loop's thread only.
#ifndef CH_NET_TRANSPORT_H
#define CH_NET_TRANSPORT_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

struct ssl_st;

enum ch_read {
    CH_READ_SOME,
    CH_READ_NOTHING, // for now
    CH_READ_EOF,
    CH_READ_FAILED,
};

// `tls` may be NULL. `*got_out` is set for CH_READ_SOME alone.
enum ch_read ch_transport_read(int fd, struct ssl_st *tls, char *into, size_t size,
                               size_t *got_out);
// Returns the bytes taken, 0 when none are for now, -1 when the connection is dead.
ssize_t ch_transport_send(int fd, struct ssl_st *tls, const struct iovec *parts, int count);

#endif
