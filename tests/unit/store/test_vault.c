// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include <openssl/evp.h>

// The linker sends the vault's calls here (--wrap): a decryption that must not happen is counted.
static int decryptions;
int __real_EVP_DecryptUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *size,
                             const unsigned char *in, int in_size);
int __wrap_EVP_DecryptUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *size,
                             const unsigned char *in, int in_size);
int __wrap_EVP_DecryptUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *size,
                             const unsigned char *in, int in_size)
{
    decryptions++;
    return __real_EVP_DecryptUpdate(ctx, out, size, in, in_size);
}

static struct ch_vault *vault;
static struct ch_vault_reader *reader;

static int start(void **state)
{
    (void)state;
    struct ch_secret *key = fixture_master_key(1);
    assert_int_equal(ch_vault_new(key, &vault), CH_OK);
    assert_int_equal(ch_vault_reader_new(vault, &reader), CH_OK);
    ch_secret_free(key);
    decryptions = 0;
    return 0;
}

static int stop(void **state)
{
    (void)state;
    ch_vault_reader_free(reader);
    ch_vault_free(vault);
    return 0;
}

static struct ch_vault_binding binding(void)
{
    return (struct ch_vault_binding){
        .kind = CH_SPAN("provider"),
        .row_id = 7,
        .provider_type = CH_SPAN("openai"),
        .base_url = CH_SPAN("https://api.openai.com/v1"),
        .key_version = 3,
    };
}

static size_t seal(struct ch_span plain, unsigned char out[CH_VAULT_SEALED_MAX])
{
    struct ch_vault_binding b = binding();
    struct ch_buf sealed;
    ch_buf_init(&sealed, CH_VAULT_SEALED_MAX);
    assert_int_equal(ch_vault_seal(vault, &b, plain, &sealed), CH_OK);
    size_t size = sealed.len;
    memcpy(out, sealed.ptr, size);
    ch_buf_fini(&sealed);
    return size;
}

static enum ch_err open_with(const struct ch_vault_binding *b, const unsigned char *sealed,
                             size_t size)
{
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    size_t plain_size;
    return ch_vault_open(reader, b, (struct ch_span){(const char *)sealed, size}, plain,
                         &plain_size);
}

static void opens_what_it_sealed_at_every_size(void **state)
{
    (void)state;
    unsigned char plain[CH_VAULT_PLAIN_MAX], sealed[CH_VAULT_SEALED_MAX];
    unsigned char opened[CH_VAULT_PLAIN_MAX];
    struct ch_vault_binding b = binding();
    ch_random(plain, sizeof plain);
    for (size_t size = 1; size <= sizeof plain; size += size < 80 ? 1 : 123) {
        size_t sealed_size = seal((struct ch_span){(char *)plain, size}, sealed), opened_size = 0;
        assert_int_equal(ch_vault_open(reader, &b, (struct ch_span){(char *)sealed, sealed_size},
                                       opened, &opened_size),
                         CH_OK);
        assert_int_equal(opened_size, size);
        assert_memory_equal(opened, plain, size);
    }
    size_t sealed_size = seal((struct ch_span){(char *)plain, sizeof plain}, sealed);
    assert_int_equal(sealed_size, CH_VAULT_SEALED_MAX);
    assert_int_equal(open_with(&b, sealed, sealed_size), CH_OK);
}

static void refuses_what_it_cannot_seal(void **state)
{
    (void)state;
    static char plain[CH_VAULT_PLAIN_MAX + 1], url[2000];
    struct ch_vault_binding b = binding();
    struct ch_buf sealed;
    ch_buf_init(&sealed, CH_VAULT_SEALED_MAX);
    assert_int_not_equal(ch_vault_seal(vault, &b, (struct ch_span){plain, sizeof plain}, &sealed),
                         CH_OK);
    assert_int_not_equal(ch_vault_seal(vault, &b, (struct ch_span){plain, 0}, &sealed), CH_OK);
    b.base_url = (struct ch_span){url, sizeof url};
    assert_int_not_equal(ch_vault_seal(vault, &b, CH_SPAN("x"), &sealed), CH_OK);
    assert_int_equal(sealed.len, 0);
    ch_buf_fini(&sealed);
}

static void seals_the_same_text_differently_each_time(void **state)
{
    (void)state;
    unsigned char one[CH_VAULT_SEALED_MAX], two[CH_VAULT_SEALED_MAX];
    size_t size = seal(CH_SPAN("sk-canary"), one);
    assert_int_equal(seal(CH_SPAN("sk-canary"), two), size);
    assert_memory_not_equal(one + 9, two + 9, 16);   // IV
    assert_memory_not_equal(one + 25, two + 25, 16); // ciphertext
    assert_memory_not_equal(one + size - 32, two + size - 32, 32);
}

static void refuses_every_flipped_bit_without_decrypting(void **state)
{
    (void)state;
    unsigned char sealed[CH_VAULT_SEALED_MAX];
    struct ch_vault_binding b = binding();
    size_t size = seal(CH_SPAN("sk-proj-a-credential-of-some-length-0123456789"), sealed);
    for (size_t bit = 0; bit < size * 8; bit++) {
        sealed[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_int_equal(open_with(&b, sealed, size), CH_ERR_CORRUPT);
        sealed[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    assert_int_equal(decryptions, 0);
    assert_int_equal(open_with(&b, sealed, size), CH_OK); // the flips were all undone
    assert_int_equal(decryptions, 1);                     // and the counter counts
}

static void flip_span(struct ch_span *span, const unsigned char *sealed, size_t size,
                      const struct ch_vault_binding *b)
{
    char copy[64];
    struct ch_span original = *span;
    memcpy(copy, original.ptr, original.len);
    *span = (struct ch_span){copy, original.len};
    for (size_t bit = 0; bit < original.len * 8; bit++) {
        copy[bit / 8] ^= (char)(1u << bit % 8);
        assert_int_equal(open_with(b, sealed, size), CH_ERR_CORRUPT);
        copy[bit / 8] ^= (char)(1u << bit % 8);
    }
    span->len--;
    assert_int_equal(open_with(b, sealed, size), CH_ERR_CORRUPT);
    *span = original;
}

static void flip_int(int64_t *value, const unsigned char *sealed, size_t size,
                     const struct ch_vault_binding *b)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        *value = (int64_t)((uint64_t)*value ^ UINT64_C(1) << bit);
        assert_int_equal(open_with(b, sealed, size), CH_ERR_CORRUPT);
        *value = (int64_t)((uint64_t)*value ^ UINT64_C(1) << bit);
    }
}

static void refuses_every_flipped_bit_of_the_binding(void **state)
{
    (void)state;
    unsigned char sealed[CH_VAULT_SEALED_MAX];
    struct ch_vault_binding b = binding();
    size_t size = seal(CH_SPAN("sk-proj-a-credential"), sealed);
    flip_span(&b.kind, sealed, size, &b);
    flip_span(&b.provider_type, sealed, size, &b);
    flip_span(&b.base_url, sealed, size, &b);
    flip_int(&b.row_id, sealed, size, &b);
    flip_int(&b.key_version, sealed, size, &b);
    assert_int_equal(decryptions, 0);
    assert_int_equal(open_with(&b, sealed, size), CH_OK);
}

static void refuses_a_text_moved_to_its_neighbour_field(void **state)
{
    (void)state;
    unsigned char sealed[CH_VAULT_SEALED_MAX];
    struct ch_vault_binding b = binding();
    size_t size = seal(CH_SPAN("sk-proj-a-credential"), sealed);
    b.provider_type = CH_SPAN("openaih"); // the same bytes in a row, cut elsewhere
    b.base_url = CH_SPAN("ttps://api.openai.com/v1");
    assert_int_equal(open_with(&b, sealed, size), CH_ERR_CORRUPT);
}

static void refuses_every_other_length(void **state)
{
    (void)state;
    unsigned char sealed[CH_VAULT_SEALED_MAX + 64] = {0};
    struct ch_vault_binding b = binding();
    size_t size = seal(CH_SPAN("sk-proj-a-credential"), sealed);
    for (size_t other = 0; other <= sizeof sealed; other++)
        if (other != size)
            assert_int_equal(open_with(&b, sealed, other), CH_ERR_CORRUPT);
    assert_int_equal(decryptions, 0);
}

static void refuses_a_hundred_thousand_forgeries(void **state)
{
    (void)state;
    unsigned char sealed[1 + CH_VAULT_KID + 16 + 48 + 32], genuine[CH_VAULT_SEALED_MAX];
    struct ch_vault_binding b = binding();
    seal(CH_SPAN("sk-proj-a-credential"), genuine);
    for (int i = 0; i < 100000; i++) {
        ch_random(sealed, sizeof sealed);
        memcpy(sealed, genuine, 1 + CH_VAULT_KID); // so that the MAC is asked
        assert_int_equal(open_with(&b, sealed, sizeof sealed), CH_ERR_CORRUPT);
    }
    assert_int_equal(decryptions, 0);
}

static void refuses_another_master_key(void **state)
{
    (void)state;
    unsigned char sealed[CH_VAULT_SEALED_MAX];
    struct ch_vault_binding b = binding();
    size_t size = seal(CH_SPAN("sk-proj-a-credential"), sealed);
    stop(NULL);
    struct ch_secret *key = fixture_master_key(9);
    assert_int_equal(ch_vault_new(key, &vault), CH_OK);
    assert_int_equal(ch_vault_reader_new(vault, &reader), CH_OK);
    ch_secret_free(key);
    assert_int_equal(open_with(&b, sealed, size), CH_ERR_CORRUPT);
    assert_int_equal(decryptions, 0);
}

static void names_its_master_key(void **state)
{
    (void)state;
    unsigned char sealed[CH_VAULT_SEALED_MAX];
    char own[CH_VAULT_FINGERPRINT + 1], of_value[CH_VAULT_FINGERPRINT + 1];
    struct ch_span value = {(const char *)sealed, seal(CH_SPAN("sk-proj-a-credential"), sealed)};
    ch_vault_fingerprint(vault, own);
    assert_true(ch_vault_sealed_fingerprint(value, of_value));
    assert_string_equal(own, of_value);
    assert_int_equal(strlen(own), CH_VAULT_FINGERPRINT);
    value.len = 20;
    assert_false(ch_vault_sealed_fingerprint(value, of_value));
}

// A reader that was made before the change follows it by itself.
static void changes_its_master_key_under_its_readers(void **state)
{
    (void)state;
    unsigned char old_value[CH_VAULT_SEALED_MAX], new_value[CH_VAULT_SEALED_MAX];
    struct ch_vault_binding b = binding();
    struct ch_secret *key = fixture_master_key(9);
    struct ch_vault *next;
    size_t old_size = seal(CH_SPAN("sk-proj-a-credential"), old_value), size;
    assert_int_equal(ch_vault_new(key, &next), CH_OK);
    ch_secret_free(key);

    ch_vault_admit(vault, next); // both open, the former seals
    size = seal(CH_SPAN("sk-proj-a-credential"), new_value);
    assert_memory_equal(new_value, old_value, 1 + CH_VAULT_KID);
    assert_int_equal(open_with(&b, new_value, size), CH_OK);

    ch_vault_promote(vault); // both open, the new one seals
    size = seal(CH_SPAN("sk-proj-a-credential"), new_value);
    assert_memory_not_equal(new_value, old_value, 1 + CH_VAULT_KID);
    assert_int_equal(open_with(&b, new_value, size), CH_OK);
    assert_int_equal(open_with(&b, old_value, old_size), CH_OK);

    ch_vault_retire(vault);
    assert_int_equal(open_with(&b, new_value, size), CH_OK);
    assert_int_equal(open_with(&b, old_value, old_size), CH_ERR_CORRUPT);
    ch_vault_free(next); // the vault has its own share
    assert_int_equal(open_with(&b, new_value, size), CH_OK);
}

static void keeps_its_master_key_when_the_change_fails(void **state)
{
    (void)state;
    unsigned char sealed[CH_VAULT_SEALED_MAX];
    struct ch_vault_binding b = binding();
    struct ch_secret *key = fixture_master_key(9);
    struct ch_vault *next;
    assert_int_equal(ch_vault_new(key, &next), CH_OK);
    ch_secret_free(key);
    ch_vault_admit(vault, next);
    ch_vault_retire(vault);
    ch_vault_free(next);
    size_t size = seal(CH_SPAN("sk-proj-a-credential"), sealed);
    assert_int_equal(open_with(&b, sealed, size), CH_OK);
}

static void reads_master_keys_as_people_store_them(void **state)
{
    (void)state;
    static const char *const good[] = {
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        " 000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F\r\n",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n",
    };
    static const char *const bad[] = {
        "",
        "00",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1g",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f00",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8==",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd*h8=",
        "00010203 0405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    };
    struct ch_secret *key;
    struct ch_why why;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(ch_vault_master_key_parse(ch_span_of(good[i]), &key, &why), CH_OK);
        struct ch_span bytes = ch_secret_reveal(key);
        assert_int_equal(bytes.len, 32);
        for (int n = 0; n < 32; n++)
            assert_int_equal(bytes.ptr[n], n);
        ch_secret_free(key);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ch_vault_master_key_parse(ch_span_of(bad[i]), &key, &why), CH_ERR_INVALID);
}

static void generates_master_keys_that_parse(void **state)
{
    (void)state;
    char one[65], two[65];
    struct ch_secret *key;
    struct ch_why why;
    ch_vault_master_key_generate(one);
    ch_vault_master_key_generate(two);
    assert_string_not_equal(one, two);
    assert_int_equal(ch_vault_master_key_parse(ch_span_of(one), &key, &why), CH_OK);
    ch_secret_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opens_what_it_sealed_at_every_size, start, stop),
        cmocka_unit_test_setup_teardown(refuses_what_it_cannot_seal, start, stop),
        cmocka_unit_test_setup_teardown(seals_the_same_text_differently_each_time, start, stop),
        cmocka_unit_test_setup_teardown(refuses_every_flipped_bit_without_decrypting, start, stop),
        cmocka_unit_test_setup_teardown(refuses_every_flipped_bit_of_the_binding, start, stop),
        cmocka_unit_test_setup_teardown(refuses_a_text_moved_to_its_neighbour_field, start, stop),
        cmocka_unit_test_setup_teardown(refuses_every_other_length, start, stop),
        cmocka_unit_test_setup_teardown(refuses_a_hundred_thousand_forgeries, start, stop),
        cmocka_unit_test_setup_teardown(refuses_another_master_key, start, stop),
        cmocka_unit_test_setup_teardown(names_its_master_key, start, stop),
        cmocka_unit_test_setup_teardown(changes_its_master_key_under_its_readers, start, stop),
        cmocka_unit_test_setup_teardown(keeps_its_master_key_when_the_change_fails, start, stop),
        cmocka_unit_test(reads_master_keys_as_people_store_them),
        cmocka_unit_test(generates_master_keys_that_parse),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
