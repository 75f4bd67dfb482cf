// SPDX-License-Identifier: Apache-2.0
#include "net/tls.h"

#include "base/secret.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct ch_tls {
    SSL_CTX *context;
    bool is_server;
};

static const char *last_error(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason ? reason : "unknown error";
}

static enum ch_err new_context(const SSL_METHOD *method, int min_version, bool is_server,
                               struct ch_tls **tls_out)
{
    struct ch_tls *tls = ch_zcalloc(1, sizeof *tls);
    if (!tls)
        return CH_ERR_NOMEM;
    tls->is_server = is_server;
    tls->context = SSL_CTX_new(method);
    if (!tls->context || !SSL_CTX_set_min_proto_version(tls->context, min_version)) {
        ch_tls_free(tls);
        return CH_ERR_NOMEM;
    }
    // Partial writes and moving buffers fit net/peer's own output buffer; released buffers keep
    // idle connections small and hold no plaintext.
    SSL_CTX_set_mode(tls->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS |
                                       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(tls->context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(tls->context, SSL_SESS_CACHE_OFF);
    *tls_out = tls;
    return CH_OK;
}

// http/1.1 or nothing; a client that offers only other protocols is told so (RFC 7301 §3.2).
static int select_protocol(SSL *session, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";
    (void)session;
    (void)arg;
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof ours - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

enum ch_err ch_tls_server_new(const char *certificate_path, const char *key_path,
                              struct ch_tls **tls_out, struct ch_why *why)
{
    struct ch_tls *tls;
    enum ch_err err = new_context(TLS_server_method(), TLS1_3_VERSION, true, &tls);
    if (err)
        return err;
    SSL_CTX_set_max_early_data(tls->context, 0);
    SSL_CTX_set_alpn_select_cb(tls->context, select_protocol, NULL);
    if (SSL_CTX_use_certificate_chain_file(tls->context, certificate_path) != 1)
        err = ch_why_set(why, CH_ERR_INVALID, "TLS certificate %s: %s", certificate_path,
                         last_error());
    else if (SSL_CTX_use_PrivateKey_file(tls->context, key_path, SSL_FILETYPE_PEM) != 1)
        err = ch_why_set(why, CH_ERR_INVALID, "TLS key %s: %s", key_path, last_error());
    else if (SSL_CTX_check_private_key(tls->context) != 1)
        err = ch_why_set(why, CH_ERR_INVALID, "TLS key %s does not belong to certificate %s",
                         key_path, certificate_path);
    if (err) {
        ch_tls_free(tls);
        return err;
    }
    *tls_out = tls;
    return CH_OK;
}

enum ch_err ch_tls_client_new(const char *ca_path, struct ch_tls **tls_out, struct ch_why *why)
{
    struct ch_tls *tls;
    enum ch_err err = new_context(TLS_client_method(), TLS1_2_VERSION, false, &tls);
    if (err)
        return err;
    SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
    int loaded = ca_path[0] ? SSL_CTX_load_verify_locations(tls->context, ca_path, NULL)
                            : SSL_CTX_set_default_verify_paths(tls->context);
    if (loaded != 1) {
        ch_tls_free(tls);
        return ch_why_set(why, CH_ERR_INVALID, "trusted certificates %s: %s",
                          ca_path[0] ? ca_path : "of the system", last_error());
    }
    *tls_out = tls;
    return CH_OK;
}

void ch_tls_free(struct ch_tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->context);
    ch_zfree(tls);
}

static bool is_ip_literal(const char *host)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

static bool expect_host(SSL *session, const char *host)
{
    if (is_ip_literal(host))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), host) == 1;
    SSL_set_hostflags(session, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(session, host) == 1 && SSL_set_tlsext_host_name(session, host) == 1;
}

enum ch_err ch_tls_session_new(struct ch_tls *tls, const char *host, struct ssl_st **session_out)
{
    SSL *session = SSL_new(tls->context);
    if (!session)
        return CH_ERR_NOMEM;
    if (tls->is_server) {
        SSL_set_accept_state(session);
    } else {
        SSL_set_connect_state(session);
        if (!expect_host(session, host)) {
            SSL_free(session);
            return CH_ERR_INVALID;
        }
    }
    *session_out = session;
    return CH_OK;
}

void ch_tls_session_free(struct ssl_st *session)
{
    SSL_free(session);
}
