// SPDX-License-Identifier: Apache-2.0
// The scalars of the configuration file: text in, number out. Private to domain/config.
#ifndef CH_DOMAIN_CONFIG_VALUE_H
#define CH_DOMAIN_CONFIG_VALUE_H

#include "base/err.h"
#include "base/str.h"
#include "domain/config.h"

#include <stdint.h>

// Each gives CH_ERR_INVALID for anything but its own spelling, overflow included.
enum ch_err ch_config_value_boolean(struct ch_span text, bool *value_out) CH_MUST_USE;
enum ch_err ch_config_value_switch(struct ch_span text, bool *value_out) CH_MUST_USE;
enum ch_err ch_config_value_size(struct ch_span text, int64_t *bytes_out) CH_MUST_USE;
enum ch_err ch_config_value_client(struct ch_span text,
                                   enum ch_config_client_auth *value_out) CH_MUST_USE;
enum ch_err ch_config_value_durability(struct ch_span text,
                                       enum ch_config_durability *value_out) CH_MUST_USE;
enum ch_err ch_config_value_duration(struct ch_span text, int64_t *ms_out) CH_MUST_USE;

// 127.0.0.0/8 or ::1 as a literal, or the word localhost.
bool ch_config_value_is_loopback(struct ch_span host);

// What may name a provider: [A-Za-z0-9._-]+.
bool ch_config_value_is_name(struct ch_span text);

// How many single-byte insertions, deletions and replacements lie between the two (Levenshtein);
// texts longer than 64 bytes are far from everything.
unsigned ch_config_value_distance(struct ch_span a, struct ch_span b);

#endif
