// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096 // a longer line is cut: the log is for people, not for bodies

static _Atomic enum ch_log_level threshold = CH_LOG_INFO;

static const char *const level_names[] = {[CH_LOG_DEBUG] = "debug",
                                          [CH_LOG_INFO] = "info",
                                          [CH_LOG_WARN] = "warn",
                                          [CH_LOG_ERROR] = "error"};

void ch_log_set_level(enum ch_log_level level)
{
    atomic_store_explicit(&threshold, level, memory_order_relaxed);
}

bool ch_log_enabled(enum ch_log_level level)
{
    return level >= atomic_load_explicit(&threshold, memory_order_relaxed);
}

enum ch_err ch_log_level_parse(struct ch_span name, enum ch_log_level *level_out)
{
    const size_t count = sizeof level_names / sizeof *level_names;
    size_t i = ch_span_place(name, level_names, count);
    if (i == count)
        return CH_ERR_INVALID;
    *level_out = (enum ch_log_level)i;
    return CH_OK;
}

static enum ch_err append_field(struct ch_buf *line, const struct ch_log_field *field)
{
    if (field->is_number)
        return ch_buf_append_format(line, " %s=%" PRId64, field->name, field->number);
    enum ch_err err = ch_buf_append_format(line, " %s=\"", field->name);
    if (!err)
        err = ch_buf_append_json(line, field->text);
    if (!err)
        err = ch_buf_append(line, "\"", 1);
    return err;
}

void ch_log_event(enum ch_log_level level, const char *event, const struct ch_log_field *fields)
{
    struct ch_buf line;
    ch_buf_init(&line, LINE_MAX_BYTES);
    enum ch_err err = CH_OK;
    if (isatty(STDERR_FILENO)) {
        char now[25];
        ch_clock_format_utc(ch_clock_wall_ms(), now);
        err = ch_buf_append_format(&line, "%s ", now);
    }
    if (!err)
        err = ch_buf_append_format(&line, "level=%s event=%s", level_names[level], event);
    for (; !err && fields->name; fields++)
        err = append_field(&line, fields);
    if (line.ptr && line.len == line.cap)
        line.len--; // a cut line still ends with its line break
    if (ch_buf_append(&line, "\n", 1) == CH_OK) {
        // One write per line keeps lines whole between threads; there is nobody to tell if it
        // fails.
        ssize_t written = write(STDERR_FILENO, line.ptr, line.len);
        (void)written;
    }
    ch_buf_fini(&line);
}
