// SPDX-License-Identifier: Apache-2.0
#include "domain/config.h"

static bool is_listener_key(const struct ch_config_key *key)
{
    return ch_span_starts(ch_span_of(key->path), CH_SPAN("listen[]."));
}

static bool texts_differ(const void *a, const void *b)
{
    return strcmp(a, b) != 0;
}

// Whether the value that `key` has in `a` differs from the one in `b`.
static bool differs(const struct ch_config_key *key, const struct ch_config *before,
                    const struct ch_config *after)
{
    const char *a = (const char *)before + key->offset, *b = (const char *)after + key->offset;
    switch (key->type) {
    case CH_CONFIG_SECTION:
    case CH_CONFIG_LISTENERS:
        return false;
    case CH_CONFIG_ADDRESS:
    case CH_CONFIG_FILE_PATH:
    case CH_CONFIG_SECRET:
        return texts_differ(a, b);
    case CH_CONFIG_NETWORKS:
        return memcmp(a, b, sizeof before->allow_addresses) != 0;
    case CH_CONFIG_PIN_LISTS:
        return memcmp(a, b, sizeof before->pins) != 0;
    case CH_CONFIG_CLIENT:
        return memcmp(a, b, sizeof(enum ch_config_client_auth)) != 0;
    case CH_CONFIG_DURABLE:
        return before->durability != after->durability;
    case CH_CONFIG_LEVEL:
        return memcmp(a, b, sizeof before->log_level) != 0;
    case CH_CONFIG_TEXT_LIST:
        return memcmp(a, b, sizeof(struct ch_config_texts)) != 0;
    case CH_CONFIG_BOOLEAN:
    case CH_CONFIG_SWITCH:
        return memcmp(a, b, sizeof(bool)) != 0;
    case CH_CONFIG_COUNT:
    case CH_CONFIG_REFUSAL:
        if (key->offset == offsetof(struct ch_config, threads))
            return before->threads != after->threads;
        return memcmp(a, b, sizeof(int64_t)) != 0;
    case CH_CONFIG_SIZE:
    case CH_CONFIG_DURATION:
        return memcmp(a, b, sizeof(int64_t)) != 0;
    }
    return true;
}

// The sockets stay as they are: the same addresses in the same order, each with TLS or without.
static const char *listener_change(const struct ch_config *before, const struct ch_config *after)
{
    if (before->listener_count != after->listener_count)
        return "listen";
    for (unsigned i = 0; i < before->listener_count; i++) {
        const struct ch_config_listener *a = &before->listeners[i], *b = &after->listeners[i];
        if (texts_differ(a->address, b->address))
            return "listen[].address";
        if (!a->tls_certificate[0] != !b->tls_certificate[0])
            return "listen[].tls";
    }
    return NULL;
}

const char *ch_config_fixed_change(const struct ch_config *before, const struct ch_config *after)
{
    size_t count;
    const struct ch_config_key *keys = ch_config_schema(&count);
    const char *change = listener_change(before, after);
    if (!change && !before->admin_tls_certificate[0] != !after->admin_tls_certificate[0])
        change = "admin.tls";
    for (size_t i = 0; i < count && !change; i++)
        if (!keys[i].is_live && !is_listener_key(&keys[i]) && differs(&keys[i], before, after))
            change = keys[i].path;
    return change;
}
