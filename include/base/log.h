// SPDX-License-Identifier: Apache-2.0
// The log: one JSON-escaped logfmt line per event on stderr (systemd adds the time; a terminal gets
// it).
//
// A line reads `level=warn event=upstream_unreachable provider="openai-prod" err="…"`. Values are
// escaped here, so peer bytes cannot forge a line; credentials have no type that fits. Any thread.
#ifndef CH_BASE_LOG_H
#define CH_BASE_LOG_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

enum ch_log_level {
    CH_LOG_DEBUG,
    CH_LOG_INFO,
    CH_LOG_WARN,
    CH_LOG_ERROR,
};

// The only global of the program.
void ch_log_set_level(enum ch_log_level level);
bool ch_log_enabled(enum ch_log_level level);
enum ch_err ch_log_level_parse(struct ch_span name, enum ch_log_level *level_out) CH_MUST_USE;

// One name=value pair. Build with the functions below; an array ends with {0}.
struct ch_log_field {
    const char *name;
    struct ch_span text;
    int64_t number;
    bool is_number;
};

static inline struct ch_log_field ch_log_span(const char *name, struct ch_span text)
{
    return (struct ch_log_field){.name = name, .text = text};
}
static inline struct ch_log_field ch_log_text(const char *name, const char *text)
{
    return (struct ch_log_field){.name = name, .text = ch_span_of(text)};
}
static inline struct ch_log_field ch_log_int(const char *name, int64_t number)
{
    return (struct ch_log_field){.name = name, .number = number, .is_number = true};
}

// `event` is a constant snake_case word. CH_LOG(CH_LOG_WARN, "accept_paused", ch_log_int("fds",
// n));
CH_COLD void ch_log_event(enum ch_log_level level, const char *event,
                          const struct ch_log_field *fields);
#define CH_LOG(level, event, ...)                                                                  \
    do {                                                                                           \
        if (ch_log_enabled(level))                                                                 \
            ch_log_event(level, event, (const struct ch_log_field[]){__VA_ARGS__, {0}});           \
    } while (0)

#endif
