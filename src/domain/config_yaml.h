// SPDX-License-Identifier: Apache-2.0
// The strict subset of YAML that the configuration is written in, as a stream of libyaml's events.
// Private to domain/config. Every error names line and column, counted from one.
#ifndef CH_DOMAIN_CONFIG_YAML_H
#define CH_DOMAIN_CONFIG_YAML_H

#include "base/err.h"
#include "base/str.h"

#include <yaml.h>

struct ch_config_yaml {
    yaml_parser_t parser;
    yaml_event_t event; // the current one
    struct ch_why *why;
};

// `text` is borrowed until close.
enum ch_err ch_config_yaml_open(struct ch_config_yaml *yaml, struct ch_span text,
                                struct ch_why *why) CH_MUST_USE;
void ch_config_yaml_close(struct ch_config_yaml *yaml);

// Goes on to the next event. Refuses what is not YAML, and anchors, aliases, tags and directives.
enum ch_err ch_config_yaml_next(struct ch_config_yaml *yaml) CH_MUST_USE;
// Writes "line L, column C: …" into `why` and returns CH_ERR_INVALID.
enum ch_err ch_config_yaml_fail(struct ch_config_yaml *yaml, yaml_mark_t mark, const char *format,
                                ...) CH_PRINTF(3, 4);

// The current scalar, borrowed until next.
struct ch_span ch_config_yaml_text(const struct ch_config_yaml *yaml);
bool ch_config_yaml_is_plain(const struct ch_config_yaml *yaml); // a scalar without quotes
// "key:" with nothing behind it, or one of YAML's words for nothing.
bool ch_config_yaml_is_nothing(const struct ch_config_yaml *yaml);

#endif
