// SPDX-License-Identifier: Apache-2.0
// The values of the configuration file that are lists: networks, texts, and pins by provider. Private to
// domain/config.
#ifndef CH_DOMAIN_CONFIG_LISTS_H
#define CH_DOMAIN_CONFIG_LISTS_H

#include "domain/config.h"

#include "config_yaml.h"

// Each begins at the event that opens the list and ends at the one that closes it. `key` is named
// in errors.
enum ch_err ch_config_read_networks(struct ch_config_yaml *yaml, const struct ch_config_key *key,
                                    struct ch_cidr_list *list) CH_MUST_USE;
enum ch_err ch_config_read_texts(struct ch_config_yaml *yaml, const struct ch_config_key *key,
                                 struct ch_config_texts *list) CH_MUST_USE;
enum ch_err ch_config_read_pins(struct ch_config_yaml *yaml, const struct ch_config_key *key,
                                struct ch_config *config) CH_MUST_USE;

#endif
