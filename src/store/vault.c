// SPDX-License-Identifier: Apache-2.0
#include "store/vault.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <sodium.h>

#define SUBKEY_SIZE    32
#define IV_SIZE        16
#define TAG_SIZE       32
#define BLOCK_SIZE     16
#define SEALED_VERSION 1
// version, IV, one block at least, tag
#define SEALED_MIN (1 + IV_SIZE + BLOCK_SIZE + TAG_SIZE)
// Room for the MAC's input before IV and ciphertext; the longest binding is a base URL.
#define BINDING_MAX 1024

struct ch_vault {
    unsigned char enc_key[SUBKEY_SIZE], mac_key[SUBKEY_SIZE];
};

struct ch_vault_reader {
    EVP_CIPHER_CTX *cipher; // holds the expanded key, so that opening only sets the IV
    EVP_MAC_CTX *mac;       // holds the key, so that opening only starts over
};

// HKDF-SHA-256 (RFC 5869) without salt: the master key is uniform already.
static enum ch_err derive(const struct ch_secret *master_key, const char *info,
                          unsigned char subkey_out[SUBKEY_SIZE])
{
    struct ch_span master = ch_secret_reveal(master_key);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)master.ptr,
                                          master.len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info,
                                          strlen(info)),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    bool done = context && EVP_KDF_derive(context, subkey_out, SUBKEY_SIZE, params) > 0;
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return done ? CH_OK : CH_ERR_NOMEM;
}

enum ch_err ch_vault_new(const struct ch_secret *master_key, struct ch_vault **vault_out)
{
    if (ch_secret_reveal(master_key).len != CH_VAULT_MASTER_KEY)
        return CH_ERR_INVALID;
    struct ch_vault *vault = sodium_malloc(sizeof *vault);
    if (!vault)
        return CH_ERR_NOMEM;
    enum ch_err err = derive(master_key, "chaperone vault 1 enc", vault->enc_key);
    if (!err)
        err = derive(master_key, "chaperone vault 1 mac", vault->mac_key);
    if (err)
        ch_vault_free(vault);
    else
        *vault_out = vault;
    return err;
}

void ch_vault_free(struct ch_vault *vault)
{
    sodium_free(vault); // wipes; NULL is fine
}

static unsigned char *put_int(unsigned char *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        *at++ = (unsigned char)(value >> (8 * i));
    return at;
}

static unsigned char *put_text(unsigned char *at, struct ch_span text)
{
    at = put_int(at, text.len);
    if (text.len)
        memcpy(at, text.ptr, text.len);
    return at + text.len;
}

// The MAC's input before IV and ciphertext. Every text carries its length, so that no two bindings
// give the same bytes. Gives 0 for a binding that is too long.
static size_t encode_binding(const struct ch_vault_binding *binding, unsigned char version,
                             unsigned char out[BINDING_MAX])
{
    size_t texts = binding->kind.len + binding->provider_type.len + binding->base_url.len;
    if (texts > BINDING_MAX - 6 * 8)
        return 0;
    unsigned char *at = put_int(out, version);
    at = put_text(at, binding->kind);
    at = put_int(at, (uint64_t)binding->row_id);
    at = put_text(at, binding->provider_type);
    at = put_text(at, binding->base_url);
    at = put_int(at, (uint64_t)binding->key_version);
    return (size_t)(at - out);
}

// `body` is IV and ciphertext, which stand side by side in a sealed value.
static bool compute_tag(EVP_MAC_CTX *mac, const struct ch_vault_binding *binding,
                        unsigned char version, struct ch_span body, unsigned char tag_out[TAG_SIZE])
{
    unsigned char head[BINDING_MAX];
    size_t head_size = encode_binding(binding, version, head), size = 0;
    return head_size && EVP_MAC_init(mac, NULL, 0, NULL) > 0 &&
           EVP_MAC_update(mac, head, head_size) > 0 &&
           EVP_MAC_update(mac, (const unsigned char *)body.ptr, body.len) > 0 &&
           EVP_MAC_final(mac, tag_out, &size, TAG_SIZE) > 0 && size == TAG_SIZE;
}

static EVP_MAC_CTX *new_mac(const struct ch_vault *vault)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *mac = hmac ? EVP_MAC_CTX_new(hmac) : NULL;
    EVP_MAC_free(hmac); // the context holds a reference
    if (mac && EVP_MAC_init(mac, vault->mac_key, SUBKEY_SIZE, params) <= 0) {
        EVP_MAC_CTX_free(mac);
        return NULL;
    }
    return mac;
}

static bool encrypt(const struct ch_vault *vault, const unsigned char iv[IV_SIZE],
                    struct ch_span plain, unsigned char *out, size_t *size_out)
{
    int head = 0, tail = 0;
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    bool done = cipher &&
                EVP_EncryptInit_ex2(cipher, EVP_aes_256_cbc(), vault->enc_key, iv, NULL) > 0 &&
                EVP_EncryptUpdate(cipher, out, &head, (const unsigned char *)plain.ptr,
                                  (int)plain.len) > 0 &&
                EVP_EncryptFinal_ex(cipher, out + head, &tail) > 0;
    EVP_CIPHER_CTX_free(cipher);
    *size_out = (size_t)(head + tail);
    return done;
}

enum ch_err ch_vault_seal(const struct ch_vault *vault, const struct ch_vault_binding *binding,
                          struct ch_span plain, struct ch_buf *sealed_out)
{
    unsigned char sealed[CH_VAULT_SEALED_MAX];
    unsigned char *iv = sealed + 1;
    size_t size;
    if (plain.len == 0 || plain.len > CH_VAULT_PLAIN_MAX)
        return CH_ERR_LIMIT;
    sealed[0] = SEALED_VERSION;
    ch_random(iv, IV_SIZE);
    if (!encrypt(vault, iv, plain, iv + IV_SIZE, &size))
        return CH_ERR_NOMEM;
    struct ch_span body = {(const char *)iv, IV_SIZE + size};
    EVP_MAC_CTX *mac = new_mac(vault);
    bool tagged = mac && compute_tag(mac, binding, SEALED_VERSION, body, iv + body.len);
    EVP_MAC_CTX_free(mac);
    return tagged ? ch_buf_append(sealed_out, sealed, 1 + body.len + TAG_SIZE) : CH_ERR_LIMIT;
}

enum ch_err ch_vault_reader_new(const struct ch_vault *vault, struct ch_vault_reader **reader_out)
{
    static const unsigned char no_iv[IV_SIZE]; // each opening sets its own
    struct ch_vault_reader *reader = ch_zcalloc(1, sizeof *reader);
    if (!reader)
        return CH_ERR_NOMEM;
    reader->mac = new_mac(vault);
    reader->cipher = EVP_CIPHER_CTX_new();
    // A fetched cipher, as an implicit one would be looked up again by each initialisation.
    EVP_CIPHER *aes = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    bool ready = aes && reader->mac && reader->cipher &&
                 EVP_DecryptInit_ex2(reader->cipher, aes, vault->enc_key, no_iv, NULL) > 0;
    EVP_CIPHER_free(aes);
    if (!ready) {
        ch_vault_reader_free(reader);
        return CH_ERR_NOMEM;
    }
    *reader_out = reader;
    return CH_OK;
}

void ch_vault_reader_free(struct ch_vault_reader *reader)
{
    if (!reader)
        return;
    EVP_CIPHER_CTX_free(reader->cipher);
    EVP_MAC_CTX_free(reader->mac);
    ch_zfree(reader);
}

static bool decrypt(EVP_CIPHER_CTX *cipher, const unsigned char *iv, const unsigned char *text,
                    size_t size, unsigned char *plain_out, size_t *size_out)
{
    int head = 0, tail = 0;
    bool done = EVP_DecryptInit_ex2(cipher, NULL, NULL, iv, NULL) > 0 &&
                EVP_DecryptUpdate(cipher, plain_out, &head, text, (int)size) > 0 &&
                EVP_DecryptFinal_ex(cipher, plain_out + head, &tail) > 0;
    *size_out = (size_t)(head + tail);
    return done;
}

enum ch_err ch_vault_open(struct ch_vault_reader *reader, const struct ch_vault_binding *binding,
                          struct ch_span sealed, unsigned char plain_out[CH_VAULT_PLAIN_MAX],
                          size_t *size_out)
{
    unsigned char tag[TAG_SIZE];
    size_t size;
    if (sealed.len < SEALED_MIN || sealed.len > CH_VAULT_SEALED_MAX)
        return CH_ERR_CORRUPT;
    const unsigned char *bytes = (const unsigned char *)sealed.ptr, *iv = bytes + 1;
    struct ch_span body = {(const char *)iv, sealed.len - 1 - TAG_SIZE};
    // The cipher must not see bytes that are not ours: a padding oracle starts there.
    if (bytes[0] != SEALED_VERSION || !compute_tag(reader->mac, binding, bytes[0], body, tag) ||
        !ch_secret_equal(tag, iv + body.len, TAG_SIZE))
        return CH_ERR_CORRUPT;
    if (!decrypt(reader->cipher, iv, iv + IV_SIZE, body.len - IV_SIZE, plain_out, &size))
        return CH_ERR_CORRUPT;
    *size_out = size;
    return CH_OK;
}

enum ch_err ch_vault_open_again(struct ch_vault_reader *reader, struct ch_span sealed,
                                unsigned char plain_out[CH_VAULT_PLAIN_MAX], size_t *size_out)
{
    const unsigned char *iv = (const unsigned char *)sealed.ptr + 1;
    size_t size;
    if (!decrypt(reader->cipher, iv, iv + IV_SIZE, sealed.len - 1 - TAG_SIZE - IV_SIZE, plain_out,
                 &size))
        return CH_ERR_CORRUPT;
    *size_out = size;
    return CH_OK;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct ch_span trim_space(struct ch_span text)
{
    while (text.len && is_space(text.ptr[0]))
        text = ch_span_sub(text, 1);
    while (text.len && is_space(text.ptr[text.len - 1]))
        text.len--;
    return text;
}

static bool decode_master_key(struct ch_span text, unsigned char key_out[CH_VAULT_MASTER_KEY])
{
    size_t size = 0;
    const char *end = NULL;
    if (text.len == 64)
        return sodium_hex2bin(key_out, CH_VAULT_MASTER_KEY, text.ptr, text.len, NULL, &size,
                              &end) == 0 &&
               size == CH_VAULT_MASTER_KEY && end == text.ptr + text.len;
    if (text.len == 44 && text.ptr[43] == '=')
        text.len = 43;
    return text.len == 43 &&
           sodium_base642bin(key_out, CH_VAULT_MASTER_KEY, text.ptr, text.len, NULL, &size, &end,
                             sodium_base64_VARIANT_ORIGINAL_NO_PADDING) == 0 &&
           size == CH_VAULT_MASTER_KEY && end == text.ptr + text.len;
}

enum ch_err ch_vault_master_key_parse(struct ch_span text, struct ch_secret **key_out,
                                      struct ch_why *why)
{
    unsigned char key[CH_VAULT_MASTER_KEY];
    enum ch_err err;
    if (decode_master_key(trim_space(text), key))
        err = ch_secret_new(key, sizeof key, key_out);
    else
        err = ch_why_set(why, CH_ERR_INVALID,
                         "the master key must be 32 bytes as 64 hex digits or as base64");
    ch_wipe(key, sizeof key);
    return err;
}

void ch_vault_master_key_generate(char hex_out[65])
{
    unsigned char key[CH_VAULT_MASTER_KEY];
    ch_random(key, sizeof key);
    sodium_bin2hex(hex_out, 65, key, sizeof key);
    ch_wipe(key, sizeof key);
}
