// SPDX-License-Identifier: Apache-2.0
// The admin operations: every noun and verb that changes or reads the installation, as JSON in, JSON out.
//
// The same handlers serve the Unix socket of a running daemon and the CLI's direct mode. They validate all
// input, change the store in one transaction and then the registry, so that a change is in force on every loop
// when the call returns. What refuses (`key disable`, `key revoke`, `provider disable`) goes the other way round:
// first in force, then stored, so that neither a full disk nor a locked database keeps a leaked key alive. One call
// at a time but for `provider.test`, which changes nothing; never on a loop thread.
#ifndef CH_ADMIN_ADMIN_H
#define CH_ADMIN_ADMIN_H

#include "proxy/registry.h"
#include "store/store.h"

#include <jansson.h>

struct ch_admin {
    struct ch_store *store;
    struct ch_registry *registry;             // NULL in direct mode
    const struct ch_catalogue *base_catalogue; // direct mode: the catalogue in force
    const char *upstream_ca;                  // "" = the system's
    // Daemon facts for `status`, NULL in direct mode. Gives a new reference.
    json_t *(*status)(void *arg);
    void *status_arg;
};

// `operation` is "noun.verb" ("key.create"). On success *result_out is a new reference. An error's sentence stands in
// `why`, its kind decides the CLI's exit code.
enum ch_err ch_admin_call(struct ch_admin *admin, const char *operation, const json_t *arguments,
                          json_t **result_out, struct ch_why *why) CH_MUST_USE;

// The socket: HTTP/1.1 `POST /v1/NOUN/VERB` with a JSON object, answered by {"result":…} or {"error":{"code","message"}}.
// Runs a thread of its own, and one more for each `provider.test` while it lasts, four at most; only the owner's uid
// and root may connect (SO_PEERCRED, socket mode 0600). Stopping waits for running tests, but no longer than they
// may take.
struct ch_admin_server;
enum ch_err ch_admin_server_start(struct ch_admin *admin, const char *socket_path,
                                  struct ch_admin_server **server_out, struct ch_why *why) CH_MUST_USE;
void ch_admin_server_stop(struct ch_admin_server *server);

// The client's side of it: one call, blocking, for the CLI. The server must be of the caller's uid, root's or, to a
// caller that is root, the uid that owns the file `database`: CH_ERR_DENIED otherwise, before anything is sent.
// CH_ERR_UNAVAILABLE: no daemon answers there, and nothing was asked.
enum ch_err ch_admin_client_call(const char *socket_path, const char *database, const char *operation,
                                 const json_t *arguments, json_t **result_out, struct ch_why *why) CH_MUST_USE;

#endif
