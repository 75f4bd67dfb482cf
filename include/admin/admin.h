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

#include "admin/alerts.h"
#include "domain/config.h"
#include "proxy/registry.h"
#include "store/audit.h"

#include <jansson.h>

struct ssl_st;

struct ch_admin {
    struct ch_store *store;
    struct ch_registry *registry;             // NULL in direct mode
    struct ch_alerts *alerts;                 // recorded by the socket's thread; NULL in direct mode
    const struct ch_catalogue *base_catalogue; // direct mode: the catalogue in force
    // A copy of the configuration in force, which a reload may replace at any time; NULL: all defaults.
    void (*config)(void *arg, struct ch_config *config_out);
    void *config_arg;
    // Daemon facts for `status`, NULL in direct mode. Gives a new reference.
    json_t *(*status)(void *arg);
    // Reads the configuration file anew; in force on every loop on return, or refused whole.
    enum ch_err (*reload)(void *arg, struct ch_why *why);
    void *status_arg;
    // The listener beside the Unix socket, ADDRESS:PORT; NULL or "": there is none. `session` gives a TLS session
    // for one connection of it, NULL where it speaks plainly; any thread.
    const char *listen;
    enum ch_err (*session)(void *arg, struct ssl_st **session_out);
    void *session_arg;
    // Sockets that listen already, passed to the process, for the server to take; 0: it opens its own.
    int passed_socket, passed_listen;
    // private: what the call that runs is to be recorded as; NULL: it changes nothing
    const struct ch_audit_change *change;
};

// `operation` is "noun.verb" ("key.create"). On success *result_out is a new reference. An error's sentence stands in
// `why`, its kind decides the CLI's exit code.
enum ch_err ch_admin_call(struct ch_admin *admin, const char *operation, const json_t *arguments,
                          json_t **result_out, struct ch_why *why) CH_MUST_USE;
// The same for somebody else than this process's own user. Whatever it changes is recorded as `actor`'s doing, in
// the same transaction; what cannot be recorded is refused.
enum ch_err ch_admin_call_as(struct ch_admin *admin, const struct ch_audit_actor *actor, const char *operation,
                             const json_t *arguments, json_t **result_out, struct ch_why *why) CH_MUST_USE;
// The operations, by index; NULL behind the last. `changes_out`: the kind of object it changes, NULL when it reads.
const char *ch_admin_operation(size_t index, const char **changes_out);

// The socket: HTTP/1.1 `POST /v1/NOUN/VERB` with a JSON object, answered by {"result":…} or {"error":{"code","message"}}.
// Runs a thread of its own, and one more for each `provider.test` while it lasts, four at most; only the owner's uid
// and root may connect (SO_PEERCRED, socket mode 0600). Stopping waits for running tests, but no longer than they
// may take.
//
// With `listen` the same protocol is spoken there too, over TLS, and every call shows an admin token: it may do what
// the token's role allows (src/admin/roles.c), as token:NAME in the audit log. Ten wrong tokens of one address in a
// minute, and it waits for the minute's end.
struct ch_admin_server;
enum ch_err ch_admin_server_start(struct ch_admin *admin, const char *socket_path,
                                  struct ch_admin_server **server_out, struct ch_why *why) CH_MUST_USE;
void ch_admin_server_stop(struct ch_admin_server *server);

// The client's side of it: one call, blocking, for the CLI. The server must be of the caller's uid, root's or, to a
// caller that is root, the uid that owns the file `database`: CH_ERR_DENIED otherwise, before anything is sent.
// CH_ERR_UNAVAILABLE: no daemon answers there, and nothing was asked.
enum ch_err ch_admin_client_call(const char *socket_path, const char *database, const char *operation,
                                 const json_t *arguments, json_t **result_out, struct ch_why *why) CH_MUST_USE;

// The same through the admin listener of another machine.
struct ch_admin_remote {
    const char *url; // "https://HOST:PORT"; "http://…" only of a loopback address
    const char *ca;  // PEM bundle that the server is verified with; "": the system's trust store
    const struct ch_secret *token;
};
enum ch_err ch_admin_remote_call(const struct ch_admin_remote *remote, const char *operation,
                                 const json_t *arguments, json_t **result_out, struct ch_why *why) CH_MUST_USE;

#endif
