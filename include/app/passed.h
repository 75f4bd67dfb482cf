// SPDX-License-Identifier: Apache-2.0
// Listening sockets that were opened before the process started, by systemd's socket activation
// (sd_listen_fds(3)) or whoever speaks the same: between a stop and the next start connections wait
// in the kernel's queue instead of being refused.
//
// Read once, before any thread starts. Each socket has to stand at just the address that the
// configuration gives, so that all it says of that address (TLS, plaintext on loopback alone)
// holds for the socket.
#ifndef CH_APP_PASSED_H
#define CH_APP_PASSED_H

#include "domain/config.h"

// Descriptors, non-blocking and close-on-exec; 0: not passed, to be opened here. Whoever listens
// on one owns it.
struct ch_passed {
    int data[CH_CONFIG_LISTENERS_MAX]; // in the order of `listen`: all of them or none
    int admin_socket, admin_listen;
};

// Reads LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES and removes them from the environment. What was
// meant for another process is none of ours. CH_ERR_INVALID, with the sentence in `why`, for what
// is no listening socket, has another name than "data" or "admin", or does not fit `config`.
enum ch_err ch_passed_take(const struct ch_config *config, struct ch_passed *passed_out,
                           struct ch_why *why) CH_MUST_USE;

#endif
