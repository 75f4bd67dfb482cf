// SPDX-License-Identifier: Apache-2.0
#include "domain/admin_token.h"

#include "base/id.h"

#include <sodium.h>

#define HEAD "cha_"
#define TAIL (CH_ADMIN_TOKEN_SECRET + CH_ADMIN_TOKEN_CHECK)

static const char *const roles[] = {
    [CH_ADMIN_VIEWER] = "viewer",
    [CH_ADMIN_OPERATOR] = "operator",
    [CH_ADMIN_ADMIN] = "admin",
};

enum ch_err ch_admin_role_parse(struct ch_span name, enum ch_admin_role *role_out)
{
    const size_t count = sizeof roles / sizeof *roles;
    size_t i = ch_span_place(name, roles, count);
    if (i == count)
        return CH_ERR_INVALID;
    *role_out = (enum ch_admin_role)i;
    return CH_OK;
}

const char *ch_admin_role_name(enum ch_admin_role role)
{
    return roles[role];
}

static bool is_name(struct ch_span name)
{
    for (size_t i = 0; i < name.len; i++)
        if (ch_base62_value(name.ptr[i]) < 0 && !memchr("._-", name.ptr[i], 3))
            return false;
    return name.len >= 1 && name.len <= CH_ADMIN_TOKEN_NAME_MAX;
}

static bool is_base62(struct ch_span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (ch_base62_value(text.ptr[i]) < 0)
            return false;
    return true;
}

static void write_check(struct ch_span body, char check_out[CH_ADMIN_TOKEN_CHECK])
{
    ch_base62_encode(ch_crc32(body), check_out, CH_ADMIN_TOKEN_CHECK);
}

// The part behind the name has a fixed length, so a name may hold underscores.
enum ch_err ch_admin_token_parse(struct ch_span token, struct ch_span *name_out)
{
    const size_t fixed = strlen(HEAD) + 1 + TAIL;
    if (token.len <= fixed || !ch_span_starts(token, CH_SPAN(HEAD)))
        return CH_ERR_INVALID;
    struct ch_span name = {token.ptr + strlen(HEAD), token.len - fixed};
    struct ch_span tail = ch_span_sub(token, token.len - TAIL);
    if (name.ptr[name.len] != '_' || !is_name(name) || !is_base62(tail))
        return CH_ERR_INVALID;
    char check[CH_ADMIN_TOKEN_CHECK];
    write_check((struct ch_span){token.ptr, token.len - sizeof check}, check);
    if (memcmp(token.ptr + token.len - sizeof check, check, sizeof check) != 0)
        return CH_ERR_INVALID;
    *name_out = name;
    return CH_OK;
}

enum ch_err ch_admin_token_mint(struct ch_span name, char token_out[CH_ADMIN_TOKEN_MAX + 1])
{
    if (!is_name(name))
        return CH_ERR_INVALID;
    char *end = mempcpy(token_out, HEAD, strlen(HEAD));
    end = mempcpy(end, name.ptr, name.len);
    *end++ = '_';
    ch_base62_random(end, CH_ADMIN_TOKEN_SECRET);
    end += CH_ADMIN_TOKEN_SECRET;
    write_check((struct ch_span){token_out, (size_t)(end - token_out)}, end);
    end[CH_ADMIN_TOKEN_CHECK] = '\0';
    return CH_OK;
}

void ch_admin_token_hash(const unsigned char pepper[CH_ADMIN_TOKEN_PEPPER],
                         const unsigned char salt[CH_ADMIN_TOKEN_SALT],
                         const struct ch_admin_token_rights *rights, struct ch_span token,
                         unsigned char hash_out[CH_ADMIN_TOKEN_HASH])
{
    // Texts go in with their NUL, the number at its fixed length: no two sets of rights look alike.
    // The word in front keeps these hashes apart from those of wrapped keys.
    const char *role = ch_admin_role_name(rights->role);
    unsigned char expires[8];
    crypto_generichash_state state;
    for (int i = 0; i < 8; i++)
        expires[i] = (unsigned char)((uint64_t)rights->expires_at_ms >> (8 * i));
    crypto_generichash_init(&state, pepper, CH_ADMIN_TOKEN_PEPPER, CH_ADMIN_TOKEN_HASH);
    crypto_generichash_update(&state, salt, CH_ADMIN_TOKEN_SALT);
    crypto_generichash_update(&state, (const unsigned char *)"admin", sizeof "admin");
    crypto_generichash_update(&state, (const unsigned char *)role, strlen(role) + 1);
    crypto_generichash_update(&state, (const unsigned char *)rights->team,
                              strlen(rights->team) + 1);
    crypto_generichash_update(&state, expires, sizeof expires);
    crypto_generichash_update(&state, (const unsigned char *)token.ptr, token.len);
    crypto_generichash_final(&state, hash_out, CH_ADMIN_TOKEN_HASH);
    sodium_memzero(&state, sizeof state); // it holds the pepper and the end of the token
}
