// SPDX-License-Identifier: Apache-2.0
#include "domain/wrapped_key.h"

#include "base/id.h"

#include <sodium.h>

#define HEAD "ch_"
#define MARK "_sk_"
// The part behind the mark has a fixed length, so a slug may hold anything of its alphabet, the
// mark included.
#define TAIL (CH_WRAPPED_KEY_ID + CH_WRAPPED_KEY_SECRET + CH_WRAPPED_KEY_CHECK)

// Both alphabets in one table, so that no branch depends on a digit of the secret: such a branch
// would tell of it by its time, and random digits would be mispredicted on every request.
enum { SLUG = 1, BASE62 = 2 };
static const unsigned char alphabet[256] = {
    ['0' ... '9'] = SLUG | BASE62,
    ['a' ... 'z'] = SLUG | BASE62,
    ['A' ... 'Z'] = BASE62,
    ['_'] = SLUG,
};

static bool is_made_of(struct ch_span text, unsigned char letters)
{
    unsigned char common = letters;
    for (size_t i = 0; i < text.len; i++)
        common &= alphabet[(unsigned char)text.ptr[i]];
    return common == letters;
}

static bool is_slug(struct ch_span slug)
{
    return slug.len > 0 && slug.len <= CH_WRAPPED_KEY_SLUG_MAX && is_made_of(slug, SLUG);
}

static void write_check(struct ch_span body, char check_out[CH_WRAPPED_KEY_CHECK])
{
    ch_base62_encode(ch_crc32(body), check_out, CH_WRAPPED_KEY_CHECK);
}

enum ch_err ch_wrapped_key_parse(struct ch_span token, struct ch_wrapped_key *key_out)
{
    const size_t fixed = strlen(HEAD) + strlen(MARK) + TAIL;
    if (token.len < fixed || !ch_span_starts(token, CH_SPAN(HEAD)))
        return CH_ERR_INVALID;
    struct ch_span slug = {token.ptr + strlen(HEAD), token.len - fixed};
    struct ch_span tail = ch_span_sub(token, token.len - TAIL);
    if (memcmp(slug.ptr + slug.len, MARK, strlen(MARK)) != 0 || !is_slug(slug) ||
        !is_made_of(tail, BASE62))
        return CH_ERR_INVALID;
    char check[CH_WRAPPED_KEY_CHECK];
    write_check((struct ch_span){token.ptr, token.len - sizeof check}, check);
    if (memcmp(token.ptr + token.len - sizeof check, check, sizeof check) != 0)
        return CH_ERR_INVALID;
    key_out->slug = slug;
    key_out->id = (struct ch_span){tail.ptr, CH_WRAPPED_KEY_ID};
    key_out->secret = (struct ch_span){tail.ptr + CH_WRAPPED_KEY_ID, CH_WRAPPED_KEY_SECRET};
    return CH_OK;
}

enum ch_err ch_wrapped_key_mint(struct ch_span slug, char token_out[CH_WRAPPED_KEY_MAX + 1])
{
    if (!is_slug(slug))
        return CH_ERR_INVALID;
    char *end = mempcpy(token_out, HEAD, strlen(HEAD));
    end = mempcpy(end, slug.ptr, slug.len);
    end = mempcpy(end, MARK, strlen(MARK));
    ch_base62_random(end, CH_WRAPPED_KEY_ID + CH_WRAPPED_KEY_SECRET);
    end += CH_WRAPPED_KEY_ID + CH_WRAPPED_KEY_SECRET;
    write_check((struct ch_span){token_out, (size_t)(end - token_out)}, end);
    end[CH_WRAPPED_KEY_CHECK] = '\0';
    return CH_OK;
}

void ch_wrapped_key_slug(struct ch_span name, char slug_out[CH_WRAPPED_KEY_SLUG_MAX + 1])
{
    if (name.len == 0)
        name = CH_SPAN("key");
    size_t len = name.len < CH_WRAPPED_KEY_SLUG_MAX ? name.len : CH_WRAPPED_KEY_SLUG_MAX;
    for (size_t i = 0; i < len; i++) {
        char c = name.ptr[i];
        char lower = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
        slug_out[i] = alphabet[(unsigned char)lower] & SLUG ? lower : '_';
    }
    slug_out[len] = '\0';
}

void ch_wrapped_key_hash(const unsigned char pepper[CH_WRAPPED_KEY_PEPPER],
                         const unsigned char salt[CH_WRAPPED_KEY_SALT], struct ch_span token,
                         unsigned char hash_out[CH_WRAPPED_KEY_HASH])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, pepper, CH_WRAPPED_KEY_PEPPER, CH_WRAPPED_KEY_HASH);
    crypto_generichash_update(&state, salt, CH_WRAPPED_KEY_SALT);
    crypto_generichash_update(&state, (const unsigned char *)token.ptr, token.len);
    crypto_generichash_final(&state, hash_out, CH_WRAPPED_KEY_HASH);
    sodium_memzero(&state, sizeof state); // it holds the pepper and the end of the token
}
