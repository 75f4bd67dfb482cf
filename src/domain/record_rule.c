// SPDX-License-Identifier: Apache-2.0
#include "domain/record_rule.h"

#include "base/secret.h"

#include <sodium.h>

#define ECHO_MAX 40 // bytes of the operator's own word repeated in a sentence

_Static_assert(CH_RECORD_RULE_KEY >= crypto_generichash_KEYBYTES_MIN &&
                   CH_RECORD_RULE_KEY <= crypto_generichash_KEYBYTES_MAX,
               "BLAKE2b takes the key");

// Fields of text first: only these can be hashed or replaced. `id` is last, because it ties the
// event to its usage row and no rule may change it.
static const char *const fields[] = {
    "request_body",
    "response_body",
    "key",
    "team",
    "project",
    "env",
    "service",
    "tags",
    "provider",
    "dialect",
    "endpoint",
    "model_asked",
    "model_sent",
    "model_served",
    "end_reason",
    "grade",
    "tier",
    "catalogue",
    "upstream_id",
    "user_agent",
    "client_address",
    "rule",
    // not text
    "at",
    "status",
    "is_stream",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "audio_in_tokens",
    "image_in_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_out_tokens",
    "image_out_tokens",
    "searches",
    "cost_usd",
    "cost_nano_usd",
    "latency_us",
    "first_byte_us",
    "added_us",
    "tokens_per_second",
    "request_bytes",
    "response_bytes",
    "id",
};
#define FIELDS      (sizeof fields / sizeof *fields)
#define FIELD_ID    (FIELDS - 1)
#define TEXT_FIELDS 22

enum action { ACTION_DROP, ACTION_STRIP, ACTION_HASH, ACTION_REPLACE };
static const char *const actions[] = {"drop", "strip", "hash", "replace"};
#define ACTIONS (sizeof actions / sizeof *actions)

enum op { OP_ALWAYS, OP_EQUALS, OP_PREFIX, OP_CONTAINS, OP_PRESENT };
static const char *const ops[] = {"", "equals", "prefix", "contains", "present"};
#define OPS (sizeof ops / sizeof *ops)

struct value {
    size_t len;
    char text[CH_RECORD_RULE_MAX];
};

struct rule {
    enum action action;
    uint64_t fields; // a bit each
    struct value with;
    enum op op;
    size_t op_field;
    struct value op_value;
};
_Static_assert(FIELDS <= 64, "a set of fields fits into 64 bits");

struct ch_record_rules {
    size_t count;
    struct rule rules[];
};

const char *const *ch_record_fields(size_t *count_out)
{
    *count_out = FIELDS;
    return fields;
}

// ---- Parsing

struct parser {
    struct ch_span rest;
    size_t number;       // of the rule, from 1
    struct ch_span word; // the last one taken; empty at the end
    bool is_quoted;
    struct ch_why *why;
};

struct shown {
    char text[ECHO_MAX + 4];
};

// The word at fault, short and printable.
static struct shown show(const struct parser *parser)
{
    struct shown out;
    size_t len = parser->word.len < ECHO_MAX ? parser->word.len : ECHO_MAX;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)parser->word.ptr[i];
        out.text[i] = (char)(c < ' ' || c == 0x7F ? '?' : c);
    }
    strcpy(out.text + len, parser->word.len > len ? "..." : "");
    return out;
}

static enum ch_err refuse(const struct parser *parser, const char *fault)
{
    if (parser->word.len == 0 && !parser->is_quoted)
        return ch_why_set(parser->why, CH_ERR_INVALID, "rule %zu: ends where it %s", parser->number,
                          fault);
    return ch_why_set(parser->why, CH_ERR_INVALID, "rule %zu: \"%s\" stands where it %s",
                      parser->number, show(parser).text, fault);
}

// The length of the word at the front. A quoted one has its quotes; 0 when the closing one lacks.
static size_t word_len(struct ch_span text)
{
    size_t len = 1;
    if (text.ptr[0] == ',')
        return 1;
    if (text.ptr[0] != '"') {
        while (len < text.len && !memchr(" \t,\"", text.ptr[len], 4))
            len++;
        return len;
    }
    while (len < text.len && text.ptr[len] != '"')
        len += text.ptr[len] == '\\' ? 2 : 1;
    return len < text.len ? len + 1 : 0;
}

static enum ch_err next_word(struct parser *parser)
{
    parser->rest = ch_span_trim(parser->rest);
    parser->word = (struct ch_span){parser->rest.ptr, 0};
    parser->is_quoted = parser->rest.len && parser->rest.ptr[0] == '"';
    if (parser->rest.len == 0)
        return CH_OK;
    size_t len = word_len(parser->rest);
    parser->word = (struct ch_span){parser->rest.ptr, len ? len : parser->rest.len};
    if (len == 0)
        return refuse(parser, "should have a closing quote");
    parser->rest = ch_span_sub(parser->rest, len);
    return CH_OK;
}

static bool is_word(const struct parser *parser, const char *word)
{
    return ch_span_eq(parser->word, ch_span_of(word));
}

// The index of the word in the table, or `count`.
static size_t find_word(const struct parser *parser, const char *const *table, size_t count)
{
    size_t i = 0;
    while (i < count && !is_word(parser, table[i]))
        i++;
    return i;
}

// The next word as a value, without its quotes and escapes.
static enum ch_err take_value(struct parser *parser, struct value *value_out)
{
    enum ch_err err = next_word(parser);
    if (err)
        return err;
    struct ch_span text = parser->word;
    if (text.len == 0 || is_word(parser, ","))
        return refuse(parser, "should have a value");
    if (parser->is_quoted)
        text = (struct ch_span){text.ptr + 1, text.len - 2};
    value_out->len = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (parser->is_quoted && text.ptr[i] == '\\' && i + 1 < text.len &&
            (text.ptr[i + 1] == '"' || text.ptr[i + 1] == '\\'))
            i++;
        value_out->text[value_out->len++] = text.ptr[i];
    }
    return CH_OK;
}

static enum ch_err take_field(struct parser *parser, size_t *field_out)
{
    enum ch_err err = next_word(parser);
    if (err)
        return err;
    *field_out = find_word(parser, fields, FIELDS);
    return *field_out < FIELDS ? CH_OK : refuse(parser, "should name a field");
}

static enum ch_err check_field(const struct parser *parser, enum action action, size_t field)
{
    if (field == FIELD_ID)
        return refuse(parser, "should name a field that may change; id ties the event to its row");
    if (action != ACTION_STRIP && field >= TEXT_FIELDS)
        return refuse(parser, "should name a field of text; numbers can only be stripped");
    return CH_OK;
}

// "FIELD, FIELD": takes the word behind the list too.
static enum ch_err take_fields(struct parser *parser, struct rule *rule)
{
    enum ch_err err;
    do {
        size_t field = 0;
        err = take_field(parser, &field);
        if (!err)
            err = check_field(parser, rule->action, field);
        if (err)
            return err;
        rule->fields |= UINT64_C(1) << field;
        err = next_word(parser);
    } while (!err && is_word(parser, ","));
    return err;
}

static enum ch_err take_condition(struct parser *parser, struct rule *rule)
{
    enum ch_err err = take_field(parser, &rule->op_field);
    if (!err)
        err = next_word(parser);
    if (err)
        return err;
    size_t op = find_word(parser, ops, OPS);
    if (op == OPS || op == OP_ALWAYS)
        return refuse(parser, "should say equals, prefix, contains or present");
    rule->op = (enum op)op;
    if (rule->op != OP_PRESENT)
        err = take_value(parser, &rule->op_value);
    return err ? err : next_word(parser);
}

static enum ch_err parse_rule(struct parser *parser, struct rule *rule)
{
    enum ch_err err = next_word(parser);
    if (err)
        return err;
    size_t action = find_word(parser, actions, ACTIONS);
    if (action == ACTIONS)
        return refuse(parser, "should say drop, strip, hash or replace");
    rule->action = (enum action)action;
    err = rule->action == ACTION_DROP ? next_word(parser) : take_fields(parser, rule);
    if (!err && rule->action == ACTION_REPLACE) {
        if (!is_word(parser, "with"))
            return refuse(parser, "should say with and a value");
        err = take_value(parser, &rule->with);
        if (!err)
            err = next_word(parser);
    }
    if (!err && is_word(parser, "if"))
        err = take_condition(parser, rule);
    if (!err && (parser->word.len || parser->is_quoted))
        err = refuse(parser, "should end, or say if and a condition");
    return err;
}

enum ch_err ch_record_rules_new(const struct ch_span *texts, size_t count,
                                struct ch_record_rules **rules_out, struct ch_why *why)
{
    if (count > CH_RECORD_RULES_MAX)
        return ch_why_set(why, CH_ERR_LIMIT, "%zu rules are more than %d", count,
                          CH_RECORD_RULES_MAX);
    struct ch_record_rules *rules = ch_zcalloc(1, sizeof *rules + count * sizeof *rules->rules);
    if (!rules)
        return ch_why_set(why, CH_ERR_NOMEM, "no memory for rules");
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < count && !err; i++) {
        struct parser parser = {.rest = texts[i], .number = i + 1, .why = why};
        err = texts[i].len > CH_RECORD_RULE_MAX
                  ? ch_why_set(why, CH_ERR_LIMIT, "rule %zu is longer than %d bytes", i + 1,
                               CH_RECORD_RULE_MAX)
                  : parse_rule(&parser, &rules->rules[i]);
    }
    rules->count = count;
    if (err)
        ch_record_rules_free(rules);
    else
        *rules_out = rules;
    return err;
}

void ch_record_rules_free(struct ch_record_rules *rules)
{
    ch_zfree(rules);
}

// ---- Applying

static bool holds(const struct rule *rule, const struct ch_record_event *event)
{
    struct ch_span text, value = {rule->op_value.text, rule->op_value.len};
    if (rule->op == OP_ALWAYS)
        return true;
    if (!event->get(event->arg, ch_span_of(fields[rule->op_field]), &text))
        return false;
    switch (rule->op) {
    case OP_EQUALS:
        return ch_span_eq(text, value);
    case OP_PREFIX:
        return ch_span_starts(text, value);
    case OP_CONTAINS:
        return value.len == 0 || (text.len && memmem(text.ptr, text.len, value.ptr, value.len));
    case OP_ALWAYS:
    case OP_PRESENT:
        break;
    }
    return true;
}

static enum ch_err set_hash(const struct ch_record_event *event, const unsigned char *key,
                            struct ch_span field, struct ch_span value)
{
    unsigned char hash[CH_RECORD_RULE_HASH];
    char hex[2 * CH_RECORD_RULE_HASH + 1];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)value.ptr, value.len, key,
                       CH_RECORD_RULE_KEY);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    return event->set(event->arg, field, (struct ch_span){hex, sizeof hex - 1});
}

static enum ch_err change_field(const struct rule *rule, const unsigned char *key,
                                const struct ch_record_event *event, struct ch_span field)
{
    struct ch_span value;
    if (!event->get(event->arg, field, &value))
        return CH_OK; // what is not there needs no change
    switch (rule->action) {
    case ACTION_STRIP:
        event->strip(event->arg, field);
        return CH_OK;
    case ACTION_HASH:
        return set_hash(event, key, field, value);
    case ACTION_REPLACE:
        return event->set(event->arg, field, (struct ch_span){rule->with.text, rule->with.len});
    case ACTION_DROP:
        break;
    }
    return CH_OK;
}

enum ch_err ch_record_rules_apply(const struct ch_record_rules *rules,
                                  const unsigned char key[CH_RECORD_RULE_KEY],
                                  const struct ch_record_event *event, bool *keep_out)
{
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < rules->count && !err; i++) {
        const struct rule *rule = &rules->rules[i];
        if (!holds(rule, event))
            continue;
        if (rule->action == ACTION_DROP) {
            *keep_out = false;
            return CH_OK;
        }
        for (uint64_t left = rule->fields; left && !err; left &= left - 1)
            err = change_field(rule, key, event, ch_span_of(fields[__builtin_ctzll(left)]));
    }
    if (!err)
        *keep_out = true;
    return err;
}
