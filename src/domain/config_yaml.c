// SPDX-License-Identifier: Apache-2.0
#include "config_yaml.h"

#include <stdarg.h>
#include <stdio.h>

enum ch_err ch_config_yaml_open(struct ch_config_yaml *yaml, struct ch_span text,
                                struct ch_why *why)
{
    *yaml = (struct ch_config_yaml){.why = why};
    if (!yaml_parser_initialize(&yaml->parser))
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    // Stated, not detected: otherwise a byte order mark would switch to UTF-16.
    yaml_parser_set_encoding(&yaml->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&yaml->parser, (const unsigned char *)text.ptr, text.len);
    enum ch_err err = ch_config_yaml_next(yaml); // the stream's start
    if (err)
        ch_config_yaml_close(yaml);
    return err;
}

void ch_config_yaml_close(struct ch_config_yaml *yaml)
{
    yaml_event_delete(&yaml->event);
    yaml_parser_delete(&yaml->parser);
}

enum ch_err ch_config_yaml_fail(struct ch_config_yaml *yaml, yaml_mark_t mark, const char *format,
                                ...)
{
    char text[sizeof yaml->why->text - 64];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return ch_why_set(yaml->why, CH_ERR_INVALID, "line %zu, column %zu: %s", mark.line + 1,
                      mark.column + 1, text);
}

static enum ch_err fail_here(struct ch_config_yaml *yaml, const char *text)
{
    return ch_config_yaml_fail(yaml, yaml->event.start_mark, "%s", text);
}

static enum ch_err check_decoration(struct ch_config_yaml *yaml, const yaml_char_t *anchor,
                                    const yaml_char_t *tag)
{
    if (anchor)
        return fail_here(yaml, "anchors (&name) are not allowed in this file");
    if (tag)
        return fail_here(yaml, "tags (!name) are not allowed in this file");
    return CH_OK;
}

// Refuses the parts of YAML that the subset leaves out.
static enum ch_err check_subset(struct ch_config_yaml *yaml)
{
    const yaml_event_t *event = &yaml->event;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return fail_here(yaml, "aliases (*name) are not allowed in this file");
    case YAML_SCALAR_EVENT:
        return check_decoration(yaml, event->data.scalar.anchor, event->data.scalar.tag);
    case YAML_SEQUENCE_START_EVENT:
        return check_decoration(yaml, event->data.sequence_start.anchor,
                                event->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return check_decoration(yaml, event->data.mapping_start.anchor,
                                event->data.mapping_start.tag);
    case YAML_DOCUMENT_START_EVENT:
        if (event->data.document_start.version_directive ||
            event->data.document_start.tag_directives.start !=
                event->data.document_start.tag_directives.end)
            return fail_here(yaml, "directives (%) are not allowed in this file");
        return CH_OK;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return CH_OK;
    }
    return CH_OK;
}

enum ch_err ch_config_yaml_next(struct ch_config_yaml *yaml)
{
    yaml_event_delete(&yaml->event);
    if (yaml_parser_parse(&yaml->parser, &yaml->event))
        return check_subset(yaml);
    if (yaml->parser.error == YAML_MEMORY_ERROR)
        return ch_why_set(yaml->why, CH_ERR_NOMEM, "out of memory");
    const char *problem = yaml->parser.problem ? yaml->parser.problem : "this is not YAML";
    if (yaml->parser.error == YAML_READER_ERROR) // the reader of characters knows no lines
        return ch_why_set(yaml->why, CH_ERR_INVALID, "byte %zu: %s", yaml->parser.problem_offset,
                          problem);
    return ch_config_yaml_fail(yaml, yaml->parser.problem_mark, "%s", problem);
}

struct ch_span ch_config_yaml_text(const struct ch_config_yaml *yaml)
{
    return (struct ch_span){(const char *)yaml->event.data.scalar.value,
                            yaml->event.data.scalar.length};
}

bool ch_config_yaml_is_plain(const struct ch_config_yaml *yaml)
{
    return yaml->event.type == YAML_SCALAR_EVENT &&
           yaml->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

bool ch_config_yaml_is_nothing(const struct ch_config_yaml *yaml)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (ch_config_yaml_is_plain(yaml) &&
            ch_span_eq(ch_config_yaml_text(yaml), ch_span_of(words[i])))
            return true;
    return false;
}
