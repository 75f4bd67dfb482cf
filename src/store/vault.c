// SPDX-License-Identifier: Apache-2.0
#include "store/vault.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <sodium.h>

#include <pthread.h>
#include <stdatomic.h>

#define SUBKEY_SIZE    32
#define IV_SIZE        16
#define TAG_SIZE       32
#define BLOCK_SIZE     16
#define SEALED_VERSION 1
// version, key id: what stands before the IV
#define PREFIX_SIZE (1 + CH_VAULT_KID)
// prefix, IV, one block at least, tag
#define SEALED_MIN (PREFIX_SIZE + IV_SIZE + BLOCK_SIZE + TAG_SIZE)
// Room for the MAC's input before IV and ciphertext; the longest binding is a base URL.
#define BINDING_MAX 1024

// What is derived from one master key, in locked memory; immutable, shared by count.
struct keys {
    _Atomic int refs;
    unsigned char kid[CH_VAULT_KID];
    unsigned char enc_key[SUBKEY_SIZE], mac_key[SUBKEY_SIZE];
};

struct ch_vault {
    pthread_mutex_t *lock;       // guards the two pointers; held for a few instructions
    struct keys *sealing;        // seals, and opens
    struct keys *other;          // opens only; NULL but for the time of a rekey
    _Atomic unsigned generation; // counts changes of the two
};

// The contexts for one key: the cipher holds it expanded, and runs on from value to value; the MAC
// holds it, so that opening only starts over.
struct opener {
    unsigned char kid[CH_VAULT_KID];
    EVP_CIPHER_CTX *cipher; // NULL: this one opens nothing
    EVP_MAC_CTX *mac;
};

struct ch_vault_reader {
    const struct ch_vault *vault;
    unsigned generation; // of the vault, that the openers stand for
    struct opener openers[2];
};

// HKDF-SHA-256 (RFC 5869). The key id is public and one-way, so it can be the salt of the others.
static bool derive(const struct ch_secret *master_key, struct ch_span salt, const char *info,
                   unsigned char *out, size_t size)
{
    struct ch_span master = ch_secret_reveal(master_key);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)master.ptr,
                                          master.len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt.ptr,
                                          salt.len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info,
                                          strlen(info)),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    bool done = context && EVP_KDF_derive(context, out, size, params) > 0;
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return done;
}

static void keys_unref(struct keys *keys)
{
    if (keys && atomic_fetch_sub(&keys->refs, 1) == 1)
        sodium_free(keys); // wipes
}

static struct keys *keys_ref(struct keys *keys)
{
    if (keys)
        atomic_fetch_add(&keys->refs, 1);
    return keys;
}

static enum ch_err keys_new(const struct ch_secret *master_key, struct keys **keys_out)
{
    if (ch_secret_reveal(master_key).len != CH_VAULT_MASTER_KEY)
        return CH_ERR_INVALID;
    struct keys *keys = sodium_malloc(sizeof *keys);
    if (!keys)
        return CH_ERR_NOMEM;
    atomic_init(&keys->refs, 1);
    struct ch_span none = CH_SPAN(""), kid = {(const char *)keys->kid, sizeof keys->kid};
    if (!derive(master_key, none, "chaperone vault 1 kid", keys->kid, sizeof keys->kid) ||
        !derive(master_key, kid, "chaperone vault 1 enc", keys->enc_key, SUBKEY_SIZE) ||
        !derive(master_key, kid, "chaperone vault 1 mac", keys->mac_key, SUBKEY_SIZE)) {
        keys_unref(keys);
        return CH_ERR_NOMEM;
    }
    *keys_out = keys;
    return CH_OK;
}

enum ch_err ch_vault_new(const struct ch_secret *master_key, struct ch_vault **vault_out)
{
    struct ch_vault *vault = ch_zcalloc(1, sizeof *vault);
    pthread_mutex_t *lock = ch_zcalloc(1, sizeof *lock);
    enum ch_err err = vault && lock ? keys_new(master_key, &vault->sealing) : CH_ERR_NOMEM;
    if (err) {
        ch_zfree(vault);
        ch_zfree(lock);
        return err;
    }
    pthread_mutex_init(lock, NULL);
    vault->lock = lock;
    *vault_out = vault;
    return CH_OK;
}

void ch_vault_free(struct ch_vault *vault)
{
    if (!vault)
        return;
    keys_unref(vault->sealing);
    keys_unref(vault->other);
    pthread_mutex_destroy(vault->lock);
    ch_zfree(vault->lock);
    ch_zfree(vault);
}

// ---- changing the master key

// Sets both keys, shared; what they were is released.
static void set_keys(struct ch_vault *vault, struct keys *sealing, struct keys *other)
{
    struct keys *old_sealing = vault->sealing, *old_other = vault->other;
    keys_ref(sealing);
    keys_ref(other);
    pthread_mutex_lock(vault->lock);
    vault->sealing = sealing;
    vault->other = other;
    atomic_fetch_add(&vault->generation, 1);
    pthread_mutex_unlock(vault->lock);
    keys_unref(old_sealing);
    keys_unref(old_other);
}

void ch_vault_admit(struct ch_vault *vault, const struct ch_vault *next)
{
    set_keys(vault, vault->sealing, next->sealing);
}

void ch_vault_promote(struct ch_vault *vault)
{
    if (vault->other)
        set_keys(vault, vault->other, vault->sealing);
}

void ch_vault_retire(struct ch_vault *vault)
{
    set_keys(vault, vault->sealing, NULL);
}

static void format_kid(const unsigned char kid[CH_VAULT_KID], char out[CH_VAULT_FINGERPRINT + 1])
{
    sodium_bin2hex(out, CH_VAULT_FINGERPRINT + 1, kid, CH_VAULT_KID);
}

void ch_vault_fingerprint(const struct ch_vault *vault, char out[CH_VAULT_FINGERPRINT + 1])
{
    pthread_mutex_lock(vault->lock);
    format_kid(vault->sealing->kid, out);
    pthread_mutex_unlock(vault->lock);
}

bool ch_vault_sealed_fingerprint(struct ch_span sealed, char out[CH_VAULT_FINGERPRINT + 1])
{
    if (sealed.len < SEALED_MIN || sealed.ptr[0] != SEALED_VERSION)
        return false;
    format_kid((const unsigned char *)sealed.ptr + 1, out);
    return true;
}

// ---- sealing

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

// `body` is key id, IV and ciphertext, which stand side by side in a sealed value.
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

static EVP_MAC_CTX *new_mac(const struct keys *keys)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *mac = hmac ? EVP_MAC_CTX_new(hmac) : NULL;
    EVP_MAC_free(hmac); // the context holds a reference
    if (mac && EVP_MAC_init(mac, keys->mac_key, SUBKEY_SIZE, params) <= 0) {
        EVP_MAC_CTX_free(mac);
        return NULL;
    }
    return mac;
}

static bool encrypt(const struct keys *keys, const unsigned char iv[IV_SIZE], struct ch_span plain,
                    unsigned char *out, size_t *size_out)
{
    int head = 0, tail = 0;
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    bool done = cipher &&
                EVP_EncryptInit_ex2(cipher, EVP_aes_256_cbc(), keys->enc_key, iv, NULL) > 0 &&
                EVP_EncryptUpdate(cipher, out, &head, (const unsigned char *)plain.ptr,
                                  (int)plain.len) > 0 &&
                EVP_EncryptFinal_ex(cipher, out + head, &tail) > 0;
    EVP_CIPHER_CTX_free(cipher);
    *size_out = (size_t)(head + tail);
    return done;
}

static enum ch_err seal(const struct keys *keys, const struct ch_vault_binding *binding,
                        struct ch_span plain, struct ch_buf *sealed_out)
{
    unsigned char sealed[CH_VAULT_SEALED_MAX];
    unsigned char *iv = sealed + PREFIX_SIZE;
    size_t size;
    sealed[0] = SEALED_VERSION;
    memcpy(sealed + 1, keys->kid, sizeof keys->kid);
    ch_random(iv, IV_SIZE);
    if (!encrypt(keys, iv, plain, iv + IV_SIZE, &size))
        return CH_ERR_NOMEM;
    struct ch_span body = {(const char *)sealed + 1, CH_VAULT_KID + IV_SIZE + size};
    EVP_MAC_CTX *mac = new_mac(keys);
    bool tagged = mac && compute_tag(mac, binding, SEALED_VERSION, body, sealed + 1 + body.len);
    EVP_MAC_CTX_free(mac);
    return tagged ? ch_buf_append(sealed_out, sealed, 1 + body.len + TAG_SIZE) : CH_ERR_LIMIT;
}

enum ch_err ch_vault_seal(const struct ch_vault *vault, const struct ch_vault_binding *binding,
                          struct ch_span plain, struct ch_buf *sealed_out)
{
    if (plain.len == 0 || plain.len > CH_VAULT_PLAIN_MAX)
        return CH_ERR_LIMIT;
    pthread_mutex_lock(vault->lock);
    struct keys *keys = keys_ref(vault->sealing);
    pthread_mutex_unlock(vault->lock);
    enum ch_err err = seal(keys, binding, plain, sealed_out);
    keys_unref(keys);
    return err;
}

// ---- opening

static void opener_fini(struct opener *opener)
{
    EVP_CIPHER_CTX_free(opener->cipher);
    EVP_MAC_CTX_free(opener->mac);
    *opener = (struct opener){.cipher = NULL};
}

static enum ch_err opener_init(struct opener *opener, const struct keys *keys)
{
    static const unsigned char no_iv[IV_SIZE]; // decrypt() says why none is needed
    *opener = (struct opener){.mac = new_mac(keys), .cipher = EVP_CIPHER_CTX_new()};
    memcpy(opener->kid, keys->kid, sizeof opener->kid);
    // A fetched cipher, as an implicit one would be looked up again by each initialisation.
    EVP_CIPHER *aes = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    bool ready = aes && opener->mac && opener->cipher &&
                 EVP_DecryptInit_ex2(opener->cipher, aes, keys->enc_key, no_iv, NULL) > 0 &&
                 EVP_CIPHER_CTX_set_padding(opener->cipher, 0) > 0;
    EVP_CIPHER_free(aes);
    if (!ready)
        opener_fini(opener);
    return ready ? CH_OK : CH_ERR_NOMEM;
}

// Makes the openers of the vault's present keys.
static enum ch_err refresh(struct ch_vault_reader *reader)
{
    const struct ch_vault *vault = reader->vault;
    struct opener openers[2] = {{.cipher = NULL}, {.cipher = NULL}};
    pthread_mutex_lock(vault->lock);
    struct keys *sealing = keys_ref(vault->sealing), *other = keys_ref(vault->other);
    unsigned generation = atomic_load(&vault->generation);
    pthread_mutex_unlock(vault->lock);
    enum ch_err err = opener_init(&openers[0], sealing);
    if (!err && other)
        err = opener_init(&openers[1], other);
    keys_unref(sealing);
    keys_unref(other);
    if (err) {
        opener_fini(&openers[0]);
        return err;
    }
    for (int i = 0; i < 2; i++) {
        opener_fini(&reader->openers[i]);
        reader->openers[i] = openers[i];
    }
    reader->generation = generation;
    return CH_OK;
}

enum ch_err ch_vault_reader_new(const struct ch_vault *vault, struct ch_vault_reader **reader_out)
{
    struct ch_vault_reader *reader = ch_zcalloc(1, sizeof *reader);
    if (!reader)
        return CH_ERR_NOMEM;
    reader->vault = vault;
    enum ch_err err = refresh(reader);
    if (err)
        ch_vault_reader_free(reader);
    else
        *reader_out = reader;
    return err;
}

void ch_vault_reader_free(struct ch_vault_reader *reader)
{
    if (!reader)
        return;
    opener_fini(&reader->openers[0]);
    opener_fini(&reader->openers[1]);
    ch_zfree(reader);
}

// The size without the padding of RFC 5652 §6.3; 0: that is none.
static size_t unpadded(const unsigned char *plain, size_t size)
{
    size_t padding = plain[size - 1];
    if (padding == 0 || padding > BLOCK_SIZE)
        return 0;
    for (size_t i = size - padding; i < size; i++)
        if (plain[i] != padding)
            return 0;
    return size - padding;
}

// `text`: the IV and what it was sealed with. In CBC a block depends on the one before it in the
// text alone (NIST SP 800-38A §6.2). So the IV goes through the cipher as a block like the others,
// to no use; the next then comes out right whatever the context had seen before. That is a third of
// the work of setting the IV and finishing.
static bool decrypt(EVP_CIPHER_CTX *cipher, const unsigned char *text, size_t size,
                    unsigned char *plain_out, size_t *size_out)
{
    unsigned char blocks[IV_SIZE + CH_VAULT_PLAIN_MAX + BLOCK_SIZE];
    int got = 0;
    if (size < IV_SIZE + BLOCK_SIZE || size > sizeof blocks || size % BLOCK_SIZE)
        return false;
    bool done = EVP_DecryptUpdate(cipher, blocks, &got, text, (int)size) > 0 && (size_t)got == size;
    size_t plain_size = done ? unpadded(blocks + IV_SIZE, size - IV_SIZE) : 0;
    memcpy(plain_out, blocks + IV_SIZE, plain_size);
    ch_wipe(blocks, size);
    *size_out = plain_size;
    return plain_size > 0;
}

// Key ids are public, so the comparison need not hide which one it was.
static struct opener *find_opener(struct ch_vault_reader *reader, const unsigned char *kid)
{
    for (int i = 0; i < 2; i++)
        if (reader->openers[i].cipher && memcmp(reader->openers[i].kid, kid, CH_VAULT_KID) == 0)
            return &reader->openers[i];
    return NULL;
}

// The opener of a sealed value's key; NULL: there is none, or this is no sealed value.
static enum ch_err choose_opener(struct ch_vault_reader *reader, struct ch_span sealed,
                                 struct opener **opener_out)
{
    if (reader->generation !=
            atomic_load_explicit(&reader->vault->generation, memory_order_acquire) &&
        refresh(reader))
        return CH_ERR_NOMEM;
    bool is_sealed = sealed.len >= SEALED_MIN && sealed.len <= CH_VAULT_SEALED_MAX &&
                     (unsigned char)sealed.ptr[0] == SEALED_VERSION;
    *opener_out = is_sealed ? find_opener(reader, (const unsigned char *)sealed.ptr + 1) : NULL;
    return *opener_out ? CH_OK : CH_ERR_CORRUPT;
}

static struct ch_span body_of(struct ch_span sealed)
{
    return (struct ch_span){sealed.ptr + 1, sealed.len - 1 - TAG_SIZE};
}

static enum ch_err decrypt_body(const struct opener *opener, struct ch_span body,
                                unsigned char plain_out[CH_VAULT_PLAIN_MAX], size_t *size_out)
{
    struct ch_span text = ch_span_sub(body, CH_VAULT_KID);
    return decrypt(opener->cipher, (const unsigned char *)text.ptr, text.len, plain_out, size_out)
               ? CH_OK
               : CH_ERR_CORRUPT;
}

enum ch_err ch_vault_open(struct ch_vault_reader *reader, const struct ch_vault_binding *binding,
                          struct ch_span sealed, unsigned char plain_out[CH_VAULT_PLAIN_MAX],
                          size_t *size_out)
{
    unsigned char tag[TAG_SIZE];
    struct opener *opener;
    enum ch_err err = choose_opener(reader, sealed, &opener);
    if (err)
        return err;
    struct ch_span body = body_of(sealed);
    // The cipher must not see bytes that are not ours: a padding oracle starts there.
    if (!compute_tag(opener->mac, binding, SEALED_VERSION, body, tag) ||
        !ch_secret_equal(tag, body.ptr + body.len, TAG_SIZE))
        return CH_ERR_CORRUPT;
    return decrypt_body(opener, body, plain_out, size_out);
}

enum ch_err ch_vault_open_again(struct ch_vault_reader *reader, struct ch_span sealed,
                                unsigned char plain_out[CH_VAULT_PLAIN_MAX], size_t *size_out)
{
    struct opener *opener;
    enum ch_err err = choose_opener(reader, sealed, &opener);
    return err ? err : decrypt_body(opener, body_of(sealed), plain_out, size_out);
}

// ---- master keys as text

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
