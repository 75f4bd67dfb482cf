// SPDX-License-Identifier: Apache-2.0
#include "door.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/admin_token_store.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#define BACKLOG   64
#define WINDOW_NS (CH_DOOR_WINDOW_S * INT64_C(1000) * CH_NS_PER_MS)

// ---- the socket

static enum ch_err parse(const char *address, struct sockaddr_storage *out, socklen_t *size_out)
{
    struct ch_span host;
    uint16_t port;
    bool is_unix;
    char text[INET6_ADDRSTRLEN];
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof *out);
    if (ch_config_address(ch_span_of(address), &host, &port, &is_unix) || is_unix)
        return CH_ERR_INVALID;
    if (ch_span_eq(host, CH_SPAN("localhost")))
        host = CH_SPAN("127.0.0.1");
    if (!ch_span_copy(host, text, sizeof text))
        return CH_ERR_INVALID;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        *size_out = sizeof *v4;
        return CH_OK;
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    *size_out = sizeof *v6;
    return inet_pton(AF_INET6, text, &v6->sin6_addr) == 1 ? CH_OK : CH_ERR_INVALID;
}

enum ch_err ch_door_open(struct ch_door *door, const char *address, struct ch_why *why)
{
    struct sockaddr_storage where;
    socklen_t size;
    int on = 1;
    *door = (struct ch_door){.fd = -1};
    if (parse(address, &where, &size))
        return ch_why_set(why, CH_ERR_INVALID, "%s is no address for the admin listener", address);
    int fd = socket(where.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    // Without SO_REUSEPORT: a port of the data listeners can never be this one too.
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        (where.ss_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) ||
        bind(fd, (struct sockaddr *)&where, size) != 0 || listen(fd, BACKLOG) != 0) {
        ch_why_set(why, CH_ERR_IO, "admin listener %s: %s", address, strerror(errno));
        if (fd >= 0)
            close(fd);
        return CH_ERR_IO;
    }
    door->fd = fd;
    return CH_OK;
}

void ch_door_close(struct ch_door *door)
{
    if (door->fd >= 0)
        close(door->fd);
    door->fd = -1;
}

// ---- who was wrong how often

struct ch_door_address ch_door_address_of(const struct sockaddr_storage *peer)
{
    struct ch_door_address address = {{0}};
    if (peer->ss_family == AF_INET)
        memcpy(address.bytes, &((const struct sockaddr_in *)peer)->sin_addr, 4);
    else if (peer->ss_family == AF_INET6) {
        const struct in6_addr *v6 = &((const struct sockaddr_in6 *)peer)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(v6)) // a passed socket may serve both
            memcpy(address.bytes, v6->s6_addr + 12, 4);
        else
            memcpy(address.bytes + 4, v6, 8);
    }
    return address;
}

int ch_door_wait_s(const struct ch_door *door, const struct ch_door_address *address,
                   int64_t now_ns)
{
    for (size_t i = 0; i < CH_DOOR_ADDRESSES; i++) {
        int64_t left_ns = door->wrong[i].since_ns + WINDOW_NS - now_ns;
        if (door->wrong[i].since_ns && left_ns > 0 &&
            door->wrong[i].failures >= CH_DOOR_FAILURES_MAX &&
            memcmp(&door->wrong[i].address, address, sizeof *address) == 0)
            return (int)(left_ns / (1000 * CH_NS_PER_MS)) + 1;
    }
    return 0;
}

static void count_failure(struct ch_door *door, const struct ch_door_address *address,
                          int64_t now_ns)
{
    size_t place = 0;
    for (size_t i = 0; i < CH_DOOR_ADDRESSES; i++) {
        bool is_open = door->wrong[i].since_ns && now_ns - door->wrong[i].since_ns < WINDOW_NS;
        if (is_open && memcmp(&door->wrong[i].address, address, sizeof *address) == 0) {
            door->wrong[i].failures++;
            return;
        }
        if (door->wrong[i].since_ns < door->wrong[place].since_ns)
            place = i;
    }
    door->wrong[place].address = *address;
    door->wrong[place].since_ns = now_ns;
    door->wrong[place].failures = 1;
}

// ---- the token

// One Authorization field with one Bearer token; no other field is looked at.
static bool bearer_of(const struct ch_http1_head *head, const char *base, struct ch_span *token_out)
{
    const struct ch_http1_field *found = NULL;
    for (uint32_t i = 0; i < head->field_count; i++) {
        if (head->fields[i].id != CH_FIELD_AUTHORIZATION)
            continue;
        if (found)
            return false;
        found = &head->fields[i];
    }
    struct ch_span value = found ? ch_http1_value(base, found) : CH_SPAN("");
    const struct ch_span scheme = CH_SPAN("Bearer ");
    if (value.len < scheme.len || !ch_span_ieq((struct ch_span){value.ptr, scheme.len}, scheme))
        return false;
    *token_out = ch_span_sub(value, scheme.len);
    return true;
}

struct token_job {
    struct ch_span name;
    struct ch_admin_token_row row;
};

static enum ch_err get_token(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct token_job *job = arg;
    return ch_admin_token_get(db, job->name, &job->row, why);
}

// An unknown name costs the same hash as a wrong secret.
static enum ch_err look_up(struct ch_admin *admin, struct ch_span token, struct token_job *job,
                           struct ch_why *why)
{
    enum ch_err err = admin->store ? ch_store_read(admin->store, get_token, job, why)
                                   : ch_why_set(why, CH_ERR_UNAVAILABLE, "the store is not open");
    if (err && err != CH_ERR_NOT_FOUND)
        return err;
    bool fits = ch_admin_token_fits(&job->row, ch_store_pepper(admin->store), token);
    bool is_current = !job->row.revoked_at_ms &&
                      (!job->row.expires_at_ms || job->row.expires_at_ms > ch_clock_wall_ms());
    return !err && fits && is_current ? CH_OK : CH_ERR_DENIED;
}

enum ch_err ch_door_admit(struct ch_door *door, struct ch_admin *admin,
                          const struct ch_door_address *address, const struct ch_http1_head *head,
                          const char *base, struct ch_admin_grant *grant_out, struct ch_why *why)
{
    struct token_job job = {.name = {0}};
    struct ch_span token;
    enum ch_err err = bearer_of(head, base, &token) && !ch_admin_token_parse(token, &job.name)
                          ? look_up(admin, token, &job, why)
                          : CH_ERR_DENIED;
    if (err == CH_ERR_DENIED) {
        count_failure(door, address, ch_clock_mono_ns());
        return ch_why_set(why, err, "an admin token is needed, and one that is in force");
    }
    if (err)
        return err;
    *grant_out = (struct ch_admin_grant){.role = job.row.role};
    memcpy(grant_out->name, job.row.name, sizeof grant_out->name);
    memcpy(grant_out->team, job.row.team, sizeof grant_out->team);
    return CH_OK;
}
