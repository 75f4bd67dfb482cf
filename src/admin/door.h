// SPDX-License-Identifier: Apache-2.0
// The admin listener's door: the listening socket, who may come in, and how often somebody may be
// wrong. Private to the floor; admin thread only.
#ifndef CH_ADMIN_DOOR_H
#define CH_ADMIN_DOOR_H

#include "roles.h"

#include "wire/http1.h"

#include <sys/socket.h>

#define CH_DOOR_FAILURES_MAX 10 // of one address in a window; then it waits for the window's end
#define CH_DOOR_WINDOW_S     60
#define CH_DOOR_ADDRESSES    256 // remembered; the one whose window began first gives way

// Where a caller comes from: an IPv4 address, or the /64 of an IPv6 address, which is what one
// customer of a network has.
struct ch_door_address {
    unsigned char bytes[16];
};

struct ch_door {
    int fd; // -1: there is no admin listener
    struct {
        struct ch_door_address address;
        int64_t since_ns; // 0: the entry is free
        unsigned failures;
    } wrong[CH_DOOR_ADDRESSES];
};

// `address`: ADDRESS:PORT as the configuration takes it.
enum ch_err ch_door_open(struct ch_door *door, const char *address, struct ch_why *why) CH_MUST_USE;
void ch_door_close(struct ch_door *door);

struct ch_door_address ch_door_address_of(const struct sockaddr_storage *peer);

// Seconds that the address has to wait; 0: it may try.
int ch_door_wait_s(const struct ch_door *door, const struct ch_door_address *address,
                   int64_t now_ns);
// Takes the token from a head's Authorization field (`base`: the head's bytes) and looks it up.
// CH_ERR_DENIED counts against the address; one wording for every reason. CH_ERR_IO and the like:
// the store could not say.
enum ch_err ch_door_admit(struct ch_door *door, struct ch_admin *admin,
                          const struct ch_door_address *address, const struct ch_http1_head *head,
                          const char *base, struct ch_admin_grant *grant_out,
                          struct ch_why *why) CH_MUST_USE;

#endif
