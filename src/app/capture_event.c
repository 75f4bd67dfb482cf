// SPDX-License-Identifier: Apache-2.0
#include "capture_event.h"

#include "store/usage_journal.h"

#include <inttypes.h>
#include <stdio.h>

#define FIELD_NAME_MAX 40 // bytes of the longest name of a field, NUL included
#define NUMBER_TEXT    24

// ---- scrubbing

// A cut may fall into a character: its front goes.
static struct ch_span without_torn_character(struct ch_span text)
{
    size_t back = 0;
    while (back < 3 && back < text.len && (text.ptr[text.len - 1 - back] & 0xC0) == 0x80)
        back++;
    if (back == text.len)
        return text;
    unsigned char lead = (unsigned char)text.ptr[text.len - 1 - back];
    size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (size > back + 1)
        text.len -= back + 1;
    return text;
}

// The scrubbed text as a JSON string; NULL in *value_out for one that is no text.
static enum ch_err scrub(const struct ch_scrub_rules *rules, enum ch_scrub_mode mode,
                         struct ch_span text, bool is_cut, json_t **value_out)
{
    struct ch_buf out;
    struct ch_scrub_report report;
    *value_out = NULL;
    if (is_cut)
        text = without_torn_character(text);
    if (text.len && memchr(text.ptr, '\0', text.len))
        return CH_OK;
    ch_buf_init(&out, CH_SCRUB_OUT_MAX(text.len));
    enum ch_err err = ch_scrub_text(rules, mode, text, is_cut, &out, &report);
    if (!err)
        *value_out = json_stringn(out.ptr ? out.ptr : "", out.len);
    ch_buf_fini(&out);
    return err;
}

static enum ch_err put_body(json_t *event, const char *name, const char *cut_name,
                            const struct ch_scrub_rules *rules, enum ch_scrub_mode mode,
                            struct ch_span body, bool is_cut)
{
    json_t *value;
    enum ch_err err = scrub(rules, mode, body, is_cut, &value);
    if (err || !value)
        return err;
    if (json_object_set_new(event, name, value) ||
        (is_cut && json_object_set_new(event, cut_name, json_true())))
        return CH_ERR_NOMEM;
    return CH_OK;
}

// What a client or a provider can put into a usage row.
static enum ch_err scrub_columns(json_t *event, const struct ch_scrub_rules *rules)
{
    static const char *const names[] = {"model_asked", "model_sent", "model_served", "upstream_id",
                                        "user_agent"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *old = json_object_get(event, names[i]);
        json_t *value;
        if (json_string_length(old) == 0)
            continue;
        struct ch_span text = {json_string_value(old), json_string_length(old)};
        bool is_cut = text.len >= CH_RECORD_UPSTREAM_ID; // the shortest of their limits
        enum ch_err err = scrub(rules, CH_SCRUB_PLAIN, text, is_cut, &value);
        if (!err && json_object_set_new(event, names[i], value ? value : json_string("")))
            err = CH_ERR_NOMEM;
        if (err)
            return err;
    }
    return CH_OK;
}

enum ch_err ch_capture_event_fill(json_t *event, const struct ch_capture *capture,
                                  const struct ch_scrub_rules *rules)
{
    enum ch_err err = scrub_columns(event, rules);
    if (!err && capture->has_request)
        err = put_body(event, "request_body", "request_body_is_cut", rules, CH_SCRUB_JSON,
                       ch_buf_span(&capture->request), capture->request_is_cut);
    if (!err && capture->has_response)
        err =
            put_body(event, "response_body", "response_body_is_cut", rules, capture->response_mode,
                     ch_buf_span(&capture->response), capture->response_is_cut);
    return err;
}

// ---- rules

struct view {
    json_t *event;
    char number[NUMBER_TEXT];
};

static const char *name_of(struct ch_span field, char out[FIELD_NAME_MAX])
{
    CH_ASSERT(ch_span_copy(field, out, FIELD_NAME_MAX));
    return out;
}

// A text that is empty is none: most columns of text are there in every row.
static bool get_field(void *arg, struct ch_span field, struct ch_span *value_out)
{
    struct view *view = arg;
    char name[FIELD_NAME_MAX];
    const json_t *value = json_object_get(view->event, name_of(field, name));
    if (json_is_string(value))
        *value_out = (struct ch_span){json_string_value(value), json_string_length(value)};
    else if (json_is_boolean(value))
        *value_out = json_is_true(value) ? CH_SPAN("true") : CH_SPAN("false");
    else if (json_is_integer(value)) {
        snprintf(view->number, sizeof view->number, "%" JSON_INTEGER_FORMAT,
                 json_integer_value(value));
        *value_out = ch_span_of(view->number);
    } else {
        return false;
    }
    return value_out->len > 0;
}

static enum ch_err set_field(void *arg, struct ch_span field, struct ch_span value)
{
    struct view *view = arg;
    char name[FIELD_NAME_MAX];
    return json_object_set_new(view->event, name_of(field, name),
                               json_stringn(value.ptr ? value.ptr : "", value.len))
               ? CH_ERR_NOMEM
               : CH_OK;
}

static void strip_field(void *arg, struct ch_span field)
{
    struct view *view = arg;
    char name[FIELD_NAME_MAX];
    json_object_del(view->event, name_of(field, name));
}

enum ch_err ch_capture_event_apply(json_t *event, const struct ch_record_rules *rules,
                                   const unsigned char key[CH_RECORD_RULE_KEY], bool *keep_out)
{
    struct view view = {.event = event};
    const struct ch_record_event of_event = {
        .arg = &view, .get = get_field, .set = set_field, .strip = strip_field};
    return ch_record_rules_apply(rules, key, &of_event, keep_out);
}

// ---- writing

static int append_piece(const char *bytes, size_t size, void *arg)
{
    return ch_buf_append(arg, bytes, size) ? -1 : 0;
}

enum ch_err ch_capture_event_write(const json_t *event, struct ch_buf *out)
{
    return json_dump_callback(event, append_piece, out, JSON_COMPACT) ? CH_ERR_LIMIT : CH_OK;
}
