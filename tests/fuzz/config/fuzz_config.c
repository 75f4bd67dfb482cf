// SPDX-License-Identifier: Apache-2.0
// Any text as a configuration file: it is refused with a sentence, or gives values within the
// schema's bounds.
#include "domain/config.h"

static void check_number(const struct ch_config *config, const struct ch_config_key *key)
{
    int64_t value;
    if (key->offset == offsetof(struct ch_config, threads))
        value = config->threads;
    else
        memcpy(&value, (const char *)config + key->offset, sizeof value);
    CH_ASSERT(value >= key->min && value <= key->max);
}

static void check_bounds(const struct ch_config *config)
{
    size_t count;
    const struct ch_config_key *keys = ch_config_schema(&count);
    for (size_t i = 0; i < count; i++)
        if (keys[i].type == CH_CONFIG_COUNT || keys[i].type == CH_CONFIG_SIZE ||
            keys[i].type == CH_CONFIG_DURATION)
            check_number(config, &keys[i]);
}

static void check_listeners(const struct ch_config *config)
{
    CH_ASSERT(config->listener_count >= 1 && config->listener_count <= CH_CONFIG_LISTENERS_MAX);
    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct ch_config_listener *listener = &config->listeners[i];
        struct ch_span host;
        uint16_t port;
        bool is_unix;
        CH_ASSERT(!ch_config_address(ch_span_of(listener->address), &host, &port, &is_unix));
        CH_ASSERT(!listener->tls_certificate[0] == !listener->tls_key[0]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ch_config config;
    struct ch_why why = {""};
    struct ch_span text = {(const char *)data, size};
    if (ch_config_parse(text, "/etc/chaperone", &config, &why)) {
        CH_ASSERT(why.text[0] != '\0');
        return 0;
    }
    enum ch_config_source source;
    struct ch_span name;
    CH_ASSERT(!ch_config_reference(ch_span_of(config.master_key), &source, &name));
    CH_ASSERT(config.database[0] && config.journal[0] && config.admin_socket[0]);
    check_bounds(&config);
    check_listeners(&config);
    return 0;
}
