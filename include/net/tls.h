// SPDX-License-Identifier: Apache-2.0
// TLS contexts. Inbound: TLS 1.3 only, no early data. Outbound: TLS 1.2 or newer, chain and name
// verified before a byte of the request is sent. Shared by threads after creation.
#ifndef CH_NET_TLS_H
#define CH_NET_TLS_H

#include "base/err.h"

#include <stdbool.h>

struct ssl_st;
struct ch_tls; // opaque: one SSL_CTX

enum ch_err ch_tls_server_new(const char *certificate_path, const char *key_path,
                              struct ch_tls **tls_out, struct ch_why *why) CH_MUST_USE;
// `ca_path`: a PEM bundle; "" = the system's trust store.
enum ch_err ch_tls_client_new(const char *ca_path, struct ch_tls **tls_out,
                              struct ch_why *why) CH_MUST_USE;
void ch_tls_free(struct ch_tls *tls);

// A session for one connection. `host`: the name to verify and send as SNI (client); NULL for a
// server.
enum ch_err ch_tls_session_new(struct ch_tls *tls, const char *host,
                               struct ssl_st **session_out) CH_MUST_USE;

// For a session that no peer took over. NULL is fine.
void ch_tls_session_free(struct ssl_st *session);

#endif
