// SPDX-License-Identifier: Apache-2.0
// Any bytes are a token or they are not: an accepted one has its parts where the layout says and
// is not accepted any more when one bit of it changes. Any bytes make a slug that mints.
#include "domain/wrapped_key.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_token(struct ch_span token)
{
    struct ch_wrapped_key key, other;
    if (ch_wrapped_key_parse(token, &key))
        return;
    CH_ASSERT(token.len <= CH_WRAPPED_KEY_MAX && key.slug.ptr == token.ptr + strlen("ch_"));
    CH_ASSERT(key.id.ptr == key.slug.ptr + key.slug.len + strlen("_sk_"));
    CH_ASSERT(key.secret.ptr == key.id.ptr + CH_WRAPPED_KEY_ID);
    CH_ASSERT(key.secret.ptr + CH_WRAPPED_KEY_SECRET + CH_WRAPPED_KEY_CHECK ==
              token.ptr + token.len);
    char copy[CH_WRAPPED_KEY_MAX];
    for (size_t bit = 0; bit < 8 * token.len; bit++) {
        memcpy(copy, token.ptr, token.len);
        copy[bit / 8] = (char)(copy[bit / 8] ^ (1 << bit % 8));
        CH_ASSERT(ch_wrapped_key_parse((struct ch_span){copy, token.len}, &other) != CH_OK);
    }
}

static void check_slug(struct ch_span name)
{
    char slug[CH_WRAPPED_KEY_SLUG_MAX + 1], token[CH_WRAPPED_KEY_MAX + 1];
    struct ch_wrapped_key key;
    ch_wrapped_key_slug(name, slug);
    CH_ASSERT(ch_wrapped_key_mint(ch_span_of(slug), token) == CH_OK);
    CH_ASSERT(ch_wrapped_key_parse(ch_span_of(token), &key) == CH_OK);
    CH_ASSERT(ch_span_eq(key.slug, ch_span_of(slug)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ch_span input = {(const char *)data, size};
    check_token(input);
    check_slug(input);
    return 0;
}
