// SPDX-License-Identifier: Apache-2.0
// What a hostile TLS client can make the server do after the handshake (security.md §3.61): floods
// of key updates and of empty records end the connection, honest use does not.
//
// The client is OpenSSL in a thread of its own. What OpenSSL does not send, records without
// content, is sealed here with the connection's own keys (RFC 8446 §5.2, §7.3).
#include "net/peer.h"
#include "net/tls.h"

#include "base/clock.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define TICKS_MAX 1000 // 10 s: a test that hangs fails instead
#define FLOOD     100000
#define SECRET    32 // bytes of a traffic secret under SHA-256
#define KEY       16 // AES-128-GCM
#define IV        12
#define TAG       16

struct fixture {
    char folder[64], certificate[96], key[96];
    struct ch_tls *tls;
    struct ch_loop *loop;
    struct ch_peer peer;
    struct ch_timer timer;
    pthread_t thread;
    int client_fd;
    void (*attack)(struct fixture *f, SSL *session);
    unsigned char secret[SECRET]; // CLIENT_TRAFFIC_SECRET_0
    uint64_t sequence;
    unsigned sent;
    bool shook_hands, had_answer, was_sent;
    // the server's side
    size_t got;
    unsigned ends, ticks;
    enum ch_peer_end last_end;
    bool is_over;
};

// ---- a certificate

static void write_pem(const char *path, X509 *certificate, EVP_PKEY *key)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(certificate ? PEM_write_X509(file, certificate)
                                 : PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL),
                     1);
    fclose(file);
}

static void make_certificate(struct fixture *f)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    assert_true(key && certificate);
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_set_pubkey(certificate, key);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    write_pem(f->certificate, certificate, NULL);
    write_pem(f->key, NULL, key);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

// ---- the client

static void note_secret(const SSL *session, const char *line)
{
    struct fixture *f = SSL_get_app_data(session);
    const char *last = strrchr(line, ' ');
    if (strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) != 0 || !last)
        return;
    for (size_t i = 0; i < SECRET; i++) {
        unsigned byte;
        if (sscanf(last + 1 + 2 * i, "%2x", &byte) == 1)
            f->secret[i] = (unsigned char)byte;
    }
}

static void *run_client(void *arg)
{
    struct fixture *f = arg;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_keylog_callback(context, note_secret);
    SSL *session = SSL_new(context);
    SSL_set_app_data(session, f);
    SSL_set_fd(session, f->client_fd);
    f->shook_hands = SSL_connect(session) == 1;
    if (f->shook_hands)
        f->attack(f, session);
    SSL_free(session);
    SSL_CTX_free(context);
    shutdown(f->client_fd, SHUT_WR);
    return NULL;
}

// Whether the server echoes what it is sent.
static void talk(struct fixture *f, SSL *session)
{
    char byte = 'x';
    f->had_answer = SSL_write(session, &byte, 1) == 1 && SSL_read(session, &byte, 1) == 1;
}

static void update_keys(struct fixture *f, SSL *session, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (SSL_key_update(session, SSL_KEY_UPDATE_NOT_REQUESTED) != 1 ||
            SSL_do_handshake(session) != 1)
            return;
        f->sent++;
    }
}

static void update_at_leisure(struct fixture *f, SSL *session)
{
    update_keys(f, session, 32);
    talk(f, session);
}

static void update_in_a_flood(struct fixture *f, SSL *session)
{
    update_keys(f, session, FLOOD);
    talk(f, session);
}

// HKDF-Expand-Label with an empty context, one block long.
static void expand(const unsigned char secret[SECRET], const char *label, unsigned char *out,
                   size_t size)
{
    unsigned char info[64] = {0, (unsigned char)size}, block[SECRET];
    unsigned block_size = sizeof block;
    size_t len = 2;
    info[len++] = (unsigned char)(6 + strlen(label));
    memcpy(info + len, "tls13 ", 6);
    len += 6;
    memcpy(info + len, label, strlen(label));
    len += strlen(label);
    info[len++] = 0; // no context
    info[len++] = 1; // the first block
    HMAC(EVP_sha256(), secret, SECRET, info, len, block, &block_size);
    memcpy(out, block, size);
}

// The client's next record of application data: `text`, which may be empty.
static bool send_record(struct fixture *f, EVP_CIPHER_CTX *cipher, const char *text)
{
    unsigned char key[KEY], iv[IV], plain[16], record[5 + sizeof plain + TAG];
    size_t len = strlen(text) + 1;
    int size;
    memcpy(plain, text, len - 1);
    plain[len - 1] = 23; // the real content type stands last
    expand(f->secret, "key", key, sizeof key);
    expand(f->secret, "iv", iv, sizeof iv);
    for (int i = 0; i < 8; i++)
        iv[IV - 1 - i] ^= (unsigned char)(f->sequence >> (8 * i));
    f->sequence++;
    memcpy(record, (unsigned char[]){23, 3, 3, 0, (unsigned char)(len + TAG)}, 5);
    EVP_EncryptInit_ex(cipher, EVP_aes_128_gcm(), NULL, key, iv);
    EVP_EncryptUpdate(cipher, NULL, &size, record, 5);
    EVP_EncryptUpdate(cipher, record + 5, &size, plain, (int)len);
    EVP_EncryptFinal_ex(cipher, record + 5 + len, &size);
    EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_GET_TAG, TAG, record + 5 + len);
    ssize_t total = (ssize_t)(5 + len + TAG);
    return send(f->client_fd, record, (size_t)total, MSG_NOSIGNAL) == total;
}

static void send_empty_records(struct fixture *f, unsigned count, const char *last)
{
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    while (f->sent < count && send_record(f, cipher, ""))
        f->sent++;
    f->was_sent = send_record(f, cipher, last);
    EVP_CIPHER_CTX_free(cipher);
}

static void send_some_empty_records(struct fixture *f, SSL *session)
{
    (void)session;
    send_empty_records(f, 20, "x");
}

static void send_a_flood_of_empty_records(struct fixture *f, SSL *session)
{
    (void)session;
    send_empty_records(f, FLOOD, "x");
}

// ---- the server

static void on_ready(void *arg)
{
    (void)arg;
}

static size_t on_bytes(void *arg, struct ch_span bytes)
{
    struct fixture *f = arg;
    struct iovec part = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    f->got += bytes.len;
    enum ch_err err = ch_peer_write(&f->peer, &part, 1);
    (void)err; // a client may have left behind its last record
    return bytes.len;
}

static void on_writable(void *arg)
{
    (void)arg;
}

static void on_end(void *arg, enum ch_peer_end end)
{
    struct fixture *f = arg;
    f->ends++;
    f->last_end = end;
    ch_peer_close(&f->peer);
    ch_loop_stop(f->loop);
}

static const struct ch_peer_handler handler = {on_ready, on_bytes, on_writable, on_end};

static void tick(void *arg)
{
    struct fixture *f = arg;
    if (++f->ticks > TICKS_MAX)
        ch_loop_stop(f->loop);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct ch_why why = {""};
    int fds[2];
    strcpy(f->folder, "/tmp/chaperone-tls-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->certificate, sizeof f->certificate, "%s/c.pem", f->folder);
    snprintf(f->key, sizeof f->key, "%s/k.pem", f->folder);
    make_certificate(f);
    const struct ch_tls_server_options options = {
        .certificate = f->certificate, .key = f->key, .client_ca = ""};
    assert_int_equal(ch_tls_server_new(&options, &f->tls, &why), CH_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    f->client_fd = fds[1];
    struct ssl_st *session;
    assert_int_equal(ch_loop_new(0, &f->loop), CH_OK);
    assert_int_equal(ch_tls_session_new(f->tls, NULL, &session), CH_OK);
    assert_int_equal(ch_peer_open(&f->peer, f->loop, fds[0], session, false, &handler, f), CH_OK);
    assert_int_equal(ch_timer_start(f->loop, &f->timer, 10, tick, f), CH_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ch_timer_stop(&f->timer);
    ch_peer_close(&f->peer);
    ch_loop_free(f->loop);
    ch_tls_free(f->tls);
    unlink(f->certificate);
    unlink(f->key);
    rmdir(f->folder);
    free(f);
    return 0;
}

static int64_t cpu_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// Runs the server until the connection is over; gives the processor time that took.
static int64_t run(struct fixture *f, void (*attack)(struct fixture *f, SSL *session))
{
    f->attack = attack;
    assert_int_equal(pthread_create(&f->thread, NULL, run_client, f), 0);
    int64_t began_ms = cpu_ms();
    ch_loop_run(f->loop);
    int64_t took_ms = cpu_ms() - began_ms;
    ch_peer_close(&f->peer); // frees a client that is still writing
    pthread_join(f->thread, NULL);
    close(f->client_fd);
    assert_true(f->ticks <= TICKS_MAX);
    assert_true(f->shook_hands);
    assert_int_equal(f->ends, 1);
    return took_ms;
}

static void key_updates_now_and_then_are_fine(void **state)
{
    struct fixture *f = *state;
    run(f, update_at_leisure);
    assert_int_equal(f->sent, 32);
    assert_true(f->had_answer);
    assert_int_equal(f->got, 1);
}

static void a_flood_of_key_updates_ends_the_connection(void **state)
{
    struct fixture *f = *state;
    int64_t took_ms = run(f, update_in_a_flood);
    assert_int_equal(f->last_end, CH_PEER_RESET);
    assert_false(f->had_answer);
    assert_int_equal(f->got, 0);
    assert_true(f->sent < FLOOD);
    assert_true(took_ms < 500);
}

static void some_empty_records_are_fine(void **state)
{
    struct fixture *f = *state;
    run(f, send_some_empty_records);
    assert_int_equal(f->sent, 20);
    assert_true(f->was_sent);
    assert_int_equal(f->got, 1); // what stands behind them is read
}

static void a_flood_of_empty_records_ends_the_connection(void **state)
{
    struct fixture *f = *state;
    int64_t took_ms = run(f, send_a_flood_of_empty_records);
    assert_int_equal(f->last_end, CH_PEER_RESET);
    assert_int_equal(f->got, 0);
    assert_true(f->sent < FLOOD);
    assert_true(took_ms < 500);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    struct ch_why why;
    const struct CMUnitTest tests[] = {
        TEST(key_updates_now_and_then_are_fine),
        TEST(a_flood_of_key_updates_ends_the_connection),
        TEST(some_empty_records_are_fine),
        TEST(a_flood_of_empty_records_ends_the_connection),
    };
    if (ch_net_process_init(&why) != CH_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
