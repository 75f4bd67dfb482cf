// SPDX-License-Identifier: Apache-2.0
// Comma-separated lists, as operators type them and as records keep them. Private to this folder;
// pure; any thread.
#ifndef CH_DOMAIN_LIST_H
#define CH_DOMAIN_LIST_H

#include "base/str.h"

// Cuts the first entry off `list`, unchanged. False at the end of the list.
static inline bool ch_list_take(struct ch_span *list, struct ch_span *entry_out)
{
    if (list->len == 0)
        return false;
    const char *comma = memchr(list->ptr, ',', list->len);
    size_t len = comma ? (size_t)(comma - list->ptr) : list->len;
    *entry_out = (struct ch_span){list->ptr, len};
    *list = ch_span_sub(*list, comma ? len + 1 : len);
    return true;
}

// The same for a list as typed: gives the next entry that is not blank, trimmed.
static inline bool ch_list_take_typed(struct ch_span *list, struct ch_span *entry_out)
{
    struct ch_span entry;
    while (ch_list_take(list, &entry)) {
        entry = ch_span_trim(entry);
        if (entry.len > 0) {
            *entry_out = entry;
            return true;
        }
    }
    return false;
}

#define CH_LIST_SHOWN 64 // bytes of an entry that a reason shows

// For "%.*s" in a reason: the front of an entry that may be long.
static inline int ch_list_shown(struct ch_span entry)
{
    return (int)(entry.len < CH_LIST_SHOWN ? entry.len : CH_LIST_SHOWN);
}

#endif
