// SPDX-License-Identifier: Apache-2.0
// TLS contexts. Inbound: TLS 1.3 only, no early data, clients' certificates where asked for.
// Outbound: TLS 1.2 or newer, chain and name verified before a byte of the request is sent. A
// context never changes and is shared by threads after creation; its sessions outlive it.
#ifndef CH_NET_TLS_H
#define CH_NET_TLS_H

#include "base/err.h"

#include <stdbool.h>

struct ssl_st;
struct ch_tls; // opaque: one SSL_CTX

struct ch_tls_server_options {
    const char *certificate, *key; // PEM files: the certificate and its chain, the private key
    const char *client_ca; // PEM bundle that clients' certificates are verified with; "": none
    bool requires_client;  // a client without a certificate fails the handshake
};
enum ch_err ch_tls_server_new(const struct ch_tls_server_options *options, struct ch_tls **tls_out,
                              struct ch_why *why) CH_MUST_USE;
// `ca_path`: a PEM bundle; "" = the system's trust store.
enum ch_err ch_tls_client_new(const char *ca_path, struct ch_tls **tls_out,
                              struct ch_why *why) CH_MUST_USE;
void ch_tls_free(struct ch_tls *tls);

// A session for one connection. `host`: the name to verify and send as SNI (client); NULL for a
// server.
enum ch_err ch_tls_session_new(struct ch_tls *tls, const char *host,
                               struct ssl_st **session_out) CH_MUST_USE;

// The pin of a certificate: SHA-256 of its SubjectPublicKeyInfo (RFC 7469 §2.4).
#define CH_TLS_PIN 32
// Whether a certificate of the chain that was verified has one of `count` pins. `presented_out`:
// the pin of the server's own certificate.
bool ch_tls_session_has_pin(const struct ssl_st *session, const unsigned char (*pins)[CH_TLS_PIN],
                            unsigned count, unsigned char presented_out[CH_TLS_PIN]);

// Whether the other side has changed its keys more often than anybody needs (32 times in a minute):
// each change costs us more than it costs the sender.
bool ch_tls_session_is_flooded(const struct ssl_st *session);

// For a session that no peer took over. NULL is fine.
void ch_tls_session_free(struct ssl_st *session);

#endif
