// SPDX-License-Identifier: Apache-2.0
#include "input.h"

#include "base/clock.h"
#include "base/money.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TAGS_COUNT_MAX 64                     // tags of a key
#define TAG_VALUE_MAX  128                    // bytes
#define LIMIT_MAX      INT64_C(1000000000000) // requests or tokens a minute

void ch_input_init(struct ch_input *input, const json_t *arguments, struct ch_why *why)
{
    *input = (struct ch_input){.arguments = arguments, .why = why};
    if (arguments && !json_is_object(arguments))
        ch_input_fail(input, "the arguments must be a JSON object");
}

void ch_input_fail(struct ch_input *input, const char *format, ...)
{
    if (input->err)
        return;
    char text[sizeof input->why->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    input->err = ch_why_set(input->why, CH_ERR_INVALID, "%s", text);
}

// A member's name as the command line spells it.
struct flag {
    char text[40];
};

static struct flag flag_of(const char *member)
{
    struct flag flag = {"--"};
    if (strcmp(member, "name") == 0 || strcmp(member, "model") == 0)
        return (struct flag){"the name"};
    size_t at = 2;
    for (; *member && at < sizeof flag.text - 1; member++)
        flag.text[at++] = *member == '_' ? '-' : *member;
    return flag;
}

static bool lists(const char *accepts, const char *member)
{
    size_t len = strlen(member);
    for (const char *at = strstr(accepts, member); at; at = strstr(at + 1, member))
        if ((at == accepts || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
            return true;
    return false;
}

void ch_input_only(struct ch_input *input, const char *accepts)
{
    if (input->err)
        return;
    // jansson's iteration takes no const object, and does not change it.
    void *iter = json_object_iter((json_t *)(uintptr_t)input->arguments);
    for (; iter; iter = json_object_iter_next((json_t *)(uintptr_t)input->arguments, iter))
        if (!lists(accepts, json_object_iter_key(iter)))
            ch_input_fail(input, "unknown argument: this operation takes %s",
                          *accepts ? accepts : "none");
}

const char *ch_input_string(struct ch_input *input, const char *member, bool required)
{
    const json_t *value = input->err ? NULL : json_object_get(input->arguments, member);
    if (!value || json_is_null(value)) {
        if (required)
            ch_input_fail(input, "%s is missing", flag_of(member).text);
        return NULL;
    }
    if (!json_is_string(value)) {
        ch_input_fail(input, "%s must be text", flag_of(member).text);
        return NULL;
    }
    if (strlen(json_string_value(value)) != json_string_length(value)) {
        ch_input_fail(input, "%s contains a NUL character", flag_of(member).text);
        return NULL;
    }
    return json_string_value(value);
}

const char *ch_input_name(struct ch_input *input, const char *member, bool required)
{
    const char *name = ch_input_string(input, member, required);
    if (!name || ch_name_is_valid(ch_span_of(name)))
        return name;
    ch_input_fail(input, "%s must be 1-64 of letters, digits, '.', '_' and '-'",
                  flag_of(member).text);
    return NULL;
}

// U+0080–U+009F, U+200E/F, U+202A–U+202E, U+2066–U+2069: what can move a cursor or reorder a line.
static bool is_hostile_sequence(const unsigned char *at, size_t left)
{
    if (left >= 2 && at[0] == 0xC2 && at[1] <= 0x9F)
        return true;
    if (left < 3 || at[0] != 0xE2)
        return false;
    return (at[1] == 0x80 &&
            (at[2] == 0x8E || at[2] == 0x8F || (at[2] >= 0xA8 && at[2] <= 0xAE))) ||
           (at[1] == 0x81 && at[2] >= 0xA6 && at[2] <= 0xA9);
}

bool ch_input_text_is_clean(struct ch_span text)
{
    const unsigned char *bytes = (const unsigned char *)text.ptr;
    for (size_t i = 0; i < text.len; i++)
        if (bytes[i] < 0x20 || bytes[i] == 0x7F || is_hostile_sequence(bytes + i, text.len - i))
            return false;
    return true;
}

const char *ch_input_text(struct ch_input *input, const char *member, size_t max)
{
    const char *text = ch_input_string(input, member, false);
    if (!text)
        return NULL;
    size_t len = strlen(text);
    if (len == 0 || len > max)
        ch_input_fail(input, "%s must be 1-%zu bytes long", flag_of(member).text, max);
    else if (!ch_input_text_is_clean(ch_span_of(text)))
        ch_input_fail(input, "%s contains a control character", flag_of(member).text);
    return input->err ? NULL : text;
}

bool ch_input_bool(struct ch_input *input, const char *member, bool otherwise)
{
    const json_t *value = input->err ? NULL : json_object_get(input->arguments, member);
    if (!value)
        return otherwise;
    if (!json_is_boolean(value))
        ch_input_fail(input, "%s must be true or false", flag_of(member).text);
    return json_is_true(value);
}

int64_t ch_input_int(struct ch_input *input, const char *member, int64_t min, int64_t max,
                     int64_t otherwise)
{
    const json_t *value = input->err ? NULL : json_object_get(input->arguments, member);
    if (!value)
        return otherwise;
    int64_t number = json_integer_value(value);
    if (json_is_integer(value) && number >= min && number <= max)
        return number;
    ch_input_fail(input, "%s must be a whole number from %lld to %lld", flag_of(member).text,
                  (long long)min, (long long)max);
    return otherwise;
}

int64_t ch_input_when(struct ch_input *input, const char *member, enum ch_when_direction direction)
{
    const char *text = ch_input_string(input, member, false);
    int64_t ms = 0;
    if (text && ch_when_parse(ch_span_of(text), direction, ch_clock_wall_ms(), &ms)) {
        ch_input_fail(input,
                      "%s takes a span like 90d or 12h, a day like 2027-01-31 or a time like "
                      "2027-01-31T12:00Z",
                      flag_of(member).text);
        return 0;
    }
    return ms;
}

static bool tag_value_is_valid(struct ch_span value)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                  "._-:/@+";
    for (size_t i = 0; i < value.len; i++)
        if (!memchr(allowed, value.ptr[i], sizeof allowed - 1))
            return false;
    return value.len >= 1 && value.len <= TAG_VALUE_MAX;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// The keys of the object, sorted; their number, or 0 after a fault.
static size_t tag_keys(struct ch_input *input, json_t *tags, const char *keys[TAGS_COUNT_MAX])
{
    const char *key;
    json_t *value;
    size_t count = 0;
    if (json_object_size(tags) > TAGS_COUNT_MAX) {
        ch_input_fail(input, "--tag: at most %d tags", TAGS_COUNT_MAX);
        return 0;
    }
    json_object_foreach(tags, key, value)
    {
        keys[count++] = key;
        struct ch_span text = {json_string_value(value), json_string_length(value)};
        if (!ch_name_is_valid(ch_span_of(key)) || !json_is_string(value) ||
            !tag_value_is_valid(text))
            ch_input_fail(input, "--tag takes KEY=VALUE; a key is 1-64 of letters, digits and "
                                 "'._-', a value 1-128 of these and ':/@+'");
    }
    qsort(keys, count, sizeof *keys, compare_keys);
    return input->err ? 0 : count;
}

void ch_input_tags(struct ch_input *input, const char *member, char out[CH_TAGS_MAX + 1])
{
    const char *keys[TAGS_COUNT_MAX];
    out[0] = '\0';
    json_t *tags = input->err ? NULL : json_object_get(input->arguments, member);
    if (!tags)
        return;
    if (!json_is_object(tags)) {
        ch_input_fail(input, "--tag takes KEY=VALUE");
        return;
    }
    size_t count = tag_keys(input, tags, keys), at = 0;
    for (size_t i = 0; i < count; i++) {
        const char *value = json_string_value(json_object_get(tags, keys[i]));
        int len = snprintf(out + at, CH_TAGS_MAX + 1 - at, "%s%s=%s", i ? "," : "", keys[i], value);
        if (len < 0 || (size_t)len > CH_TAGS_MAX - at) {
            ch_input_fail(input, "--tag: all tags together are at most %d bytes", CH_TAGS_MAX);
            return;
        }
        at += (size_t)len;
    }
}

// ---- policies

bool ch_input_has(const struct ch_input *input, const char *member)
{
    return !input->err && json_object_get(input->arguments, member) != NULL;
}

static void join(struct ch_input *input, const char *member, const json_t *value,
                 struct ch_buf *out)
{
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value)) {
        ch_input_fail(input, "%s must be text", flag_of(member).text);
        return;
    }
    if ((out->len && ch_buf_append(out, ",", 1)) ||
        ch_buf_append(out, json_string_value(value), json_string_length(value)))
        ch_input_fail(input, "%s is longer than %zu bytes", flag_of(member).text, out->max);
}

bool ch_input_joined(struct ch_input *input, const char *member, struct ch_buf *out)
{
    size_t index;
    json_t *item, *value = input->err ? NULL : json_object_get(input->arguments, member);
    if (!value)
        return false;
    if (!json_is_array(value))
        join(input, member, value, out);
    json_array_foreach(value, index, item)
    {
        if (!input->err)
            join(input, member, item, out);
    }
    return !input->err;
}

bool ch_input_limit(struct ch_input *input, const char *member, int64_t *limit_out)
{
    const json_t *value = input->err ? NULL : json_object_get(input->arguments, member);
    if (!value)
        return false;
    bool is_none = json_is_string(value) && json_string_length(value) == 0;
    int64_t limit = is_none ? 0 : ch_input_int(input, member, 0, LIMIT_MAX, 0);
    if (!input->err)
        *limit_out = limit;
    return !input->err;
}

// "IN/OUT".
static bool parse_ceiling(struct ch_span text, struct ch_unknown_model_rule *rule)
{
    const char *slash = memchr(text.ptr, '/', text.len);
    if (!slash)
        return false;
    struct ch_span input = {text.ptr, (size_t)(slash - text.ptr)};
    return !ch_money_parse_nano(input, &rule->input_nano_usd) &&
           !ch_money_parse_nano(ch_span_sub(text, input.len + 1), &rule->output_nano_usd);
}

bool ch_input_unknown_model(struct ch_input *input, const char *member,
                            struct ch_unknown_model_rule *rule_out)
{
    const struct ch_span ceiling = CH_SPAN("ceiling:");
    struct ch_unknown_model_rule rule = {.choice = CH_UNKNOWN_MODEL_CEILING};
    struct ch_span text = ch_span_of(ch_input_string(input, member, false));
    if (!text.ptr)
        return false;
    bool is_valid = ch_span_starts(text, ceiling)
                        ? parse_ceiling(ch_span_sub(text, ceiling.len), &rule)
                        : !ch_unknown_model_parse(text, &rule.choice) &&
                              rule.choice != CH_UNKNOWN_MODEL_CEILING;
    if (is_valid)
        *rule_out = rule;
    else
        ch_input_fail(input,
                      "%s takes deny, flag or ceiling:IN/OUT, the USD for a million tokens of "
                      "input and of output, such as ceiling:15/75",
                      flag_of(member).text);
    return is_valid;
}

// The place of `word` in `words`; -1 where it has none.
static int place_of(struct ch_span word, const char *words)
{
    for (int place = 0; *words; place++) {
        size_t len = strcspn(words, " ");
        if (ch_span_eq(word, (struct ch_span){words, len}))
            return place;
        words += len + (words[len] == ' ');
    }
    return -1;
}

bool ch_input_words(struct ch_input *input, const char *member, const char *words,
                    unsigned *bits_out)
{
    unsigned bits = 0;
    struct ch_span rest = ch_span_of(ch_input_string(input, member, false));
    if (!rest.ptr)
        return false;
    while (rest.len) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        struct ch_span word = {rest.ptr, comma ? (size_t)(comma - rest.ptr) : rest.len};
        rest = ch_span_sub(rest, word.len + (comma != NULL));
        int place = place_of(ch_span_trim(word), words);
        if (place < 0) {
            ch_input_fail(input, "%s takes one or more of: %s", flag_of(member).text, words);
            return false;
        }
        bits |= 1u << place;
    }
    *bits_out = bits;
    return true;
}

bool ch_input_scope(struct ch_input *input, const char *member, enum ch_budget_scope *scope_out,
                    char subject_out[CH_NAME_MAX + 1])
{
    struct ch_span text = ch_span_of(ch_input_string(input, member, false));
    if (!text.ptr)
        return false;
    const char *colon = memchr(text.ptr, ':', text.len);
    struct ch_span kind = {text.ptr, colon ? (size_t)(colon - text.ptr) : text.len};
    struct ch_span subject = ch_span_sub(text, colon ? kind.len + 1 : kind.len);
    bool is_valid = !ch_budget_scope_parse(kind, scope_out) &&
                    (*scope_out == CH_BUDGET_OF_ALL ? !colon : ch_name_is_valid(subject));
    if (is_valid)
        ch_span_copy(subject, subject_out, CH_NAME_MAX + 1);
    else
        ch_input_fail(input,
                      "SCOPE is one of key:NAME, team:NAME, project:NAME, provider:NAME and all");
    return is_valid;
}
