// SPDX-License-Identifier: Apache-2.0
// One text read as a URL, an authority, a target and its query.
#include "wire/url.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool holds_any(struct ch_span text, const char *set)
{
    for (; *set; set++)
        if (text.len > 0 && memchr(text.ptr, *set, text.len))
            return true;
    return false;
}

static void check_url(struct ch_span text)
{
    struct ch_url url;
    struct ch_why why;
    if (ch_url_parse(text, &url, &why))
        return;
    CH_ASSERT(url.host.len > 0 && url.port > 0);
    CH_ASSERT(!holds_any(url.host, "/?#@[]% \\\r\n"));
    CH_ASSERT(url.path.len == 0 || ch_target_path_is_plain(url.path));
    ch_url_host_is_loopback(url.host);
}

// Cutting every "key" out must end, and leave none.
static void check_query(struct ch_span query)
{
    struct ch_span value, whole;
    char *rest = malloc(query.len + 1);
    CH_ASSERT(rest);
    size_t len = query.len;
    if (len > 0)
        memcpy(rest, query.ptr, len);
    while (ch_query_find((struct ch_span){rest, len}, CH_SPAN("key"), &value, &whole)) {
        size_t behind = (size_t)(whole.ptr - rest) + whole.len;
        CH_ASSERT(whole.ptr >= rest && behind <= len && whole.len > 0);
        CH_ASSERT(value.len == 0 ||
                  (value.ptr > whole.ptr && value.ptr + value.len <= rest + behind));
        memmove(rest + (whole.ptr - rest), rest + behind, len - behind);
        len -= whole.len;
    }
    free(rest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ch_span text = {(const char *)data, size};
    struct ch_authority authority;
    char decoded[64];
    size_t len;
    check_url(text);
    if (!ch_authority_parse(text, &authority))
        CH_ASSERT(!holds_any(authority.host, "/?#@ \\"));
    struct ch_target target = ch_target_split(text);
    if (ch_target_path_is_plain(target.path)) {
        CH_ASSERT(!holds_any(target.path, "?#\\ \r\n"));
        CH_ASSERT(!memmem(target.path.ptr, target.path.len, "//", 2));
        CH_ASSERT(!memmem(target.path.ptr, target.path.len, "/../", 4));
    }
    check_query(target.query);
    if (!ch_url_decode(text, decoded, sizeof decoded, &len))
        CH_ASSERT(len <= sizeof decoded && !(len > 0 && memchr(decoded, '\0', len)));
    return 0;
}
