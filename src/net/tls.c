// SPDX-License-Identifier: Apache-2.0
#include "net/tls.h"

#include "base/clock.h"
#include "base/secret.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>

#define KEY_UPDATES_MAX       32 // in a window (security.md §3.61)
#define KEY_UPDATES_WINDOW_NS (INT64_C(60000) * CH_NS_PER_MS)

struct ch_tls {
    SSL_CTX *context;
    bool is_server;
};

// ---- KeyUpdate messages, counted per session

struct key_updates {
    int64_t window_ns; // when the window began
    unsigned count;
    bool is_flood;
};

static pthread_once_t key_updates_once = PTHREAD_ONCE_INIT;
static int key_updates_index = -1; // where a session keeps its count, once it has one

static void free_key_updates(void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long argl,
                             void *argp)
{
    (void)parent;
    (void)data;
    (void)index;
    (void)argl;
    (void)argp;
    ch_zfree(ptr);
}

static void make_key_updates_index(void)
{
    key_updates_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_key_updates);
}

static struct key_updates *key_updates_of(SSL *session)
{
    struct key_updates *updates = SSL_get_ex_data(session, key_updates_index);
    if (updates)
        return updates;
    updates = ch_zcalloc(1, sizeof *updates);
    if (updates && !SSL_set_ex_data(session, key_updates_index, updates)) {
        ch_zfree(updates);
        return NULL;
    }
    return updates;
}

static void count_key_update(int is_written, int version, int content_type, const void *bytes,
                             size_t size, SSL *session, void *arg)
{
    (void)version;
    (void)arg;
    if (is_written || content_type != SSL3_RT_HANDSHAKE || size == 0 ||
        *(const unsigned char *)bytes != SSL3_MT_KEY_UPDATE)
        return;
    struct key_updates *updates = key_updates_of(session);
    int64_t now_ns = ch_clock_mono_ns();
    if (!updates)
        return;
    if (updates->count == 0 || now_ns - updates->window_ns > KEY_UPDATES_WINDOW_NS) {
        updates->window_ns = now_ns;
        updates->count = 0;
    }
    updates->is_flood |= ++updates->count > KEY_UPDATES_MAX;
}

bool ch_tls_session_is_flooded(const struct ssl_st *session)
{
    const struct key_updates *updates = SSL_get_ex_data(session, key_updates_index);
    return updates && updates->is_flood;
}

// ---- contexts

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
    pthread_once(&key_updates_once, make_key_updates_index);
    tls->is_server = is_server;
    tls->context = SSL_CTX_new(method);
    if (!tls->context || key_updates_index < 0 ||
        !SSL_CTX_set_min_proto_version(tls->context, min_version)) {
        ch_tls_free(tls);
        return CH_ERR_NOMEM;
    }
    // Partial writes and moving buffers fit net/peer's own output buffer; released buffers keep
    // idle connections small and hold no plaintext.
    SSL_CTX_set_mode(tls->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS |
                                       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    // A read ends behind a message that carries no data, so that a flood of them cannot hold a
    // turn.
    SSL_CTX_clear_mode(tls->context, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_msg_callback(tls->context, count_key_update);
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

static enum ch_err load_key(struct ch_tls *tls, const struct ch_tls_server_options *options,
                            struct ch_why *why)
{
    if (SSL_CTX_use_certificate_chain_file(tls->context, options->certificate) != 1)
        return ch_why_set(why, CH_ERR_INVALID, "TLS certificate %s: %s", options->certificate,
                          last_error());
    // A key of another certificate is told below, in better words.
    if (SSL_CTX_use_PrivateKey_file(tls->context, options->key, SSL_FILETYPE_PEM) != 1 &&
        ERR_GET_REASON(ERR_peek_last_error()) != X509_R_KEY_VALUES_MISMATCH)
        return ch_why_set(why, CH_ERR_INVALID, "TLS key %s: %s", options->key, last_error());
    if (SSL_CTX_check_private_key(tls->context) != 1)
        return ch_why_set(why, CH_ERR_INVALID, "TLS key %s does not belong to certificate %s",
                          options->key, options->certificate);
    return CH_OK;
}

// Without tickets every connection proves its certificate anew: a resumed one would outlive its
// expiry.
static enum ch_err ask_for_clients(struct ch_tls *tls, const struct ch_tls_server_options *options,
                                   struct ch_why *why)
{
    if (!options->client_ca[0])
        return CH_OK;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(options->client_ca);
    if (!names || SSL_CTX_load_verify_locations(tls->context, options->client_ca, NULL) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return ch_why_set(why, CH_ERR_INVALID, "certificates of clients %s: %s", options->client_ca,
                          last_error());
    }
    SSL_CTX_set_client_CA_list(tls->context, names); // takes them
    SSL_CTX_set_verify(
        tls->context,
        SSL_VERIFY_PEER | (options->requires_client ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
    SSL_CTX_set_options(tls->context, SSL_OP_NO_TICKET);
    return SSL_CTX_set_num_tickets(tls->context, 0) ? CH_OK : CH_ERR_NOMEM;
}

enum ch_err ch_tls_server_new(const struct ch_tls_server_options *options, struct ch_tls **tls_out,
                              struct ch_why *why)
{
    struct ch_tls *tls;
    enum ch_err err = new_context(TLS_server_method(), TLS1_3_VERSION, true, &tls);
    if (err)
        return err;
    SSL_CTX_set_max_early_data(tls->context, 0);
    SSL_CTX_set_alpn_select_cb(tls->context, select_protocol, NULL);
    err = load_key(tls, options, why);
    if (!err)
        err = ask_for_clients(tls, options, why);
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

// ---- pins

static bool pin_of(X509 *certificate, unsigned char pin_out[CH_TLS_PIN])
{
    unsigned char *der = NULL;
    int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    bool done = size > 0 && EVP_Digest(der, (size_t)size, pin_out, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    return done;
}

static bool is_in(const unsigned char pin[CH_TLS_PIN], const unsigned char (*pins)[CH_TLS_PIN],
                  unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (memcmp(pin, pins[i], CH_TLS_PIN) == 0)
            return true;
    return false;
}

bool ch_tls_session_has_pin(const struct ssl_st *session, const unsigned char (*pins)[CH_TLS_PIN],
                            unsigned count, unsigned char presented_out[CH_TLS_PIN])
{
    STACK_OF(X509) *chain = SSL_get0_verified_chain(session);
    bool has_pin = false;
    memset(presented_out, 0, CH_TLS_PIN);
    for (int i = 0; i < sk_X509_num(chain); i++) {
        unsigned char pin[CH_TLS_PIN];
        if (!pin_of(sk_X509_value(chain, i), pin))
            continue;
        if (i == 0)
            memcpy(presented_out, pin, sizeof pin);
        has_pin |= is_in(pin, pins, count);
    }
    return has_pin;
}

void ch_tls_session_free(struct ssl_st *session)
{
    SSL_free(session);
}
