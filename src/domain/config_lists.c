// SPDX-License-Identifier: Apache-2.0
#include "config_lists.h"

#include "config_value.h"

#include <sodium.h>

#define FAIL(yaml, ...) ch_config_yaml_fail((yaml), (yaml)->event.start_mark, __VA_ARGS__)

// Goes on to the next entry of the sequence that has begun. False behind the last one, and on an
// error.
static bool next_entry(struct ch_config_yaml *yaml, const struct ch_config_key *key,
                       enum ch_err *err_out)
{
    *err_out = ch_config_yaml_next(yaml);
    if (*err_out || yaml->event.type == YAML_SEQUENCE_END_EVENT)
        return false;
    if (yaml->event.type != YAML_SCALAR_EVENT || ch_config_yaml_is_nothing(yaml))
        *err_out = FAIL(yaml, "%s: an entry must be a word", key->path);
    return !*err_out;
}

// ---- networks

static bool has_network(const struct ch_cidr_list *list, const struct ch_cidr *network)
{
    for (size_t i = 0; i < list->count; i++)
        if (memcmp(&list->networks[i], network, sizeof *network) == 0)
            return true;
    return false;
}

static enum ch_err add_network(struct ch_config_yaml *yaml, const struct ch_config_key *key,
                               struct ch_cidr_list *list)
{
    struct ch_cidr_list one = {.count = 0};
    struct ch_why reason = {""};
    if (ch_cidr_list_parse(ch_config_yaml_text(yaml), &one, &reason))
        return FAIL(yaml, "%s: %s", key->path, reason.text);
    if (one.count != 1)
        return FAIL(yaml, "%s: an entry must be one network, such as 10.0.0.0/8", key->path);
    if (has_network(list, &one.networks[0]))
        return CH_OK;
    if (list->count == CH_CIDR_MAX)
        return FAIL(yaml, "%s: has more than %d entries", key->path, CH_CIDR_MAX);
    list->networks[list->count++] = one.networks[0];
    return CH_OK;
}

enum ch_err ch_config_read_networks(struct ch_config_yaml *yaml, const struct ch_config_key *key,
                                    struct ch_cidr_list *list)
{
    enum ch_err err;
    if (yaml->event.type != YAML_SEQUENCE_START_EVENT)
        return FAIL(yaml, "%s: must be a list of networks such as [10.0.0.0/8, \"fd00::/8\"]",
                    key->path);
    while (next_entry(yaml, key, &err))
        if ((err = add_network(yaml, key, list)))
            return err;
    return err;
}

// ---- texts

static enum ch_err add_text(struct ch_config_yaml *yaml, const struct ch_config_key *key,
                            struct ch_config_texts *list)
{
    struct ch_span text = ch_config_yaml_text(yaml);
    if (text.len == 0)
        return FAIL(yaml, "%s: an entry must not be empty", key->path);
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < ' ' || text.ptr[i] == 0x7f)
            return FAIL(yaml, "%s: an entry must be one line without control characters",
                        key->path);
    if (list->count == key->max)
        return FAIL(yaml, "%s: has more than %d entries", key->path, (int)key->max);
    if (text.len >= sizeof list->bytes - list->used)
        return FAIL(yaml, "%s: has more than %d bytes", key->path, CH_CONFIG_TEXTS);
    memcpy(list->bytes + list->used, text.ptr, text.len);
    list->used += text.len + 1; // the list was zero
    list->count++;
    return CH_OK;
}

enum ch_err ch_config_read_texts(struct ch_config_yaml *yaml, const struct ch_config_key *key,
                                 struct ch_config_texts *list)
{
    enum ch_err err;
    if (yaml->event.type != YAML_SEQUENCE_START_EVENT)
        return FAIL(yaml, "%s: must be a list of texts", key->path);
    while (next_entry(yaml, key, &err))
        if ((err = add_text(yaml, key, list)))
            return err;
    return err;
}

void ch_config_texts_spans(const struct ch_config_texts *texts, struct ch_span *out)
{
    const char *at = texts->bytes;
    for (unsigned i = 0; i < texts->count; i++) {
        out[i] = ch_span_of(at);
        at += out[i].len + 1;
    }
}

// ---- pins

static enum ch_err fail_pins(struct ch_config_yaml *yaml, const struct ch_config_key *key,
                             const struct ch_config_pins *pins)
{
    return FAIL(yaml, "%s: %s must have a list of one or two pins", key->path, pins->provider);
}

static enum ch_err add_pin(struct ch_config_yaml *yaml, const struct ch_config_key *key,
                           struct ch_config_pins *pins)
{
    unsigned char pin[CH_CONFIG_PIN];
    size_t size = 0;
    struct ch_span text = ch_config_yaml_text(yaml);
    if (sodium_base642bin(pin, sizeof pin, text.ptr, text.len, NULL, &size, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        size != sizeof pin)
        return FAIL(yaml,
                    "%s: this is no pin: it must be the SHA-256 of a public key as 44 characters "
                    "of base64",
                    key->path);
    if (pins->count == CH_CONFIG_PINS_MAX)
        return fail_pins(yaml, key, pins);
    memcpy(pins->pin[pins->count++], pin, sizeof pin);
    return CH_OK;
}

static enum ch_err begin_provider(struct ch_config_yaml *yaml, const struct ch_config_key *key,
                                  struct ch_config *config, struct ch_config_pins **pins_out)
{
    if (yaml->event.type != YAML_SCALAR_EVENT)
        return FAIL(yaml, "%s: a key must be a provider's name", key->path);
    struct ch_span name = ch_config_yaml_text(yaml);
    if (!ch_config_value_is_name(name) || name.len > CH_CONFIG_PROVIDER_MAX)
        return FAIL(yaml, "%s: a key must be a provider's name", key->path);
    for (unsigned i = 0; i < config->pinned_count; i++)
        if (ch_span_eq(name, ch_span_of(config->pins[i].provider)))
            return FAIL(yaml, "%s: %s stands here twice", key->path, config->pins[i].provider);
    if (config->pinned_count == CH_CONFIG_PINNED_MAX)
        return FAIL(yaml, "%s: has more than %d providers", key->path, CH_CONFIG_PINNED_MAX);
    struct ch_config_pins *pins = &config->pins[config->pinned_count++];
    ch_span_copy(name, pins->provider, sizeof pins->provider);
    *pins_out = pins;
    return CH_OK;
}

static enum ch_err read_provider(struct ch_config_yaml *yaml, const struct ch_config_key *key,
                                 struct ch_config *config)
{
    struct ch_config_pins *pins;
    enum ch_err err = begin_provider(yaml, key, config, &pins);
    if (!err)
        err = ch_config_yaml_next(yaml);
    if (err)
        return err;
    if (yaml->event.type != YAML_SEQUENCE_START_EVENT)
        return fail_pins(yaml, key, pins);
    while (next_entry(yaml, key, &err))
        if ((err = add_pin(yaml, key, pins)))
            return err;
    // An empty list would look like a pin and check nothing.
    return err || pins->count ? err : fail_pins(yaml, key, pins);
}

enum ch_err ch_config_read_pins(struct ch_config_yaml *yaml, const struct ch_config_key *key,
                                struct ch_config *config)
{
    if (yaml->event.type != YAML_MAPPING_START_EVENT)
        return FAIL(yaml, "%s: must be names of providers, each with a list of one or two pins",
                    key->path);
    for (;;) {
        enum ch_err err = ch_config_yaml_next(yaml);
        if (err || yaml->event.type == YAML_MAPPING_END_EVENT)
            return err;
        if ((err = read_provider(yaml, key, config)))
            return err;
    }
}
