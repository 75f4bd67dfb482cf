// SPDX-License-Identifier: Apache-2.0
#include "scrub_private.h"

// Finds `"name": value` at any depth of strings in strings, in JSON and in text that quotes it. It
// does not know whether a quote opens or closes: what stands between two quotes of one depth is a
// name when a colon follows, whichever they are. So it needs no valid document to start from, and
// prose with an odd number of quotes does not lead it astray.

static const struct ch_span telling_names[] = {
#define NAME(text)                                                                                 \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }
    NAME("api_key"),       NAME("apikey"),    NAME("api-key"),     NAME("secret"),
    NAME("secret_key"),    NAME("secretkey"), NAME("token"),       NAME("access_token"),
    NAME("refresh_token"), NAME("password"),  NAME("passwd"),      NAME("credential"),
    NAME("authorization"), NAME("auth"),      NAME("private_key"), NAME("privatekey"),
#undef NAME
};

static const struct ch_span harmless_words[] = {{"true", 4}, {"false", 5}, {"null", 4}};

static bool is_telling(const struct ch_scrub_names *names)
{
    if (names->name_len > CH_SCRUB_NAME_MAX)
        return false;
    struct ch_span name = {names->name, names->name_len};
    for (size_t i = 0; i < sizeof telling_names / sizeof *telling_names; i++)
        if (ch_span_ieq(name, telling_names[i]))
            return true;
    return false;
}

static struct ch_scrub_range nothing(void)
{
    return (struct ch_scrub_range){0, 0, CH_SCRUB_NO_QUOTE};
}

static struct ch_scrub_range in_string(uint64_t position)
{
    return (struct ch_scrub_range){position, position + 1, CH_SCRUB_NO_QUOTE};
}

static struct ch_scrub_range in_value(const struct ch_scrub_names *names, uint64_t from,
                                      uint64_t to)
{
    return (struct ch_scrub_range){from, to, names->quote};
}

static void begin_name(struct ch_scrub_names *names, int quote)
{
    names->state = CH_SCRUB_SEARCH;
    names->quote = quote;
    names->name_len = 0;
}

static void search(struct ch_scrub_names *names, const struct ch_scrub_unit *unit)
{
    if (unit->quote != CH_SCRUB_NO_QUOTE) {
        bool is_found = unit->quote == names->quote && is_telling(names);
        begin_name(names, unit->quote);
        if (is_found)
            names->state = CH_SCRUB_AFTER_NAME;
    } else if (names->name_len < CH_SCRUB_NAME_MAX) {
        names->name[names->name_len++] = (char)unit->c;
    } else {
        names->name_len = CH_SCRUB_NAME_MAX + 1;
    }
}

static void after_name(struct ch_scrub_names *names, const struct ch_scrub_unit *unit)
{
    if (unit->is_blank)
        return;
    if (unit->c == ':') {
        names->state = CH_SCRUB_AFTER_COLON;
        return;
    }
    names->state = CH_SCRUB_SEARCH;
    search(names, unit);
}

static bool ends_word(const struct ch_scrub_unit *unit)
{
    return unit->is_blank || unit->c == ',' || unit->c == '}' || unit->c == ']';
}

static bool is_harmless(const struct ch_scrub_names *names)
{
    for (size_t i = 0; i < sizeof harmless_words / sizeof *harmless_words; i++)
        if (ch_span_eq((struct ch_span){names->word, names->word_len}, harmless_words[i]))
            return true;
    return false;
}

static bool may_be_harmless(const struct ch_scrub_names *names)
{
    if (names->word_len > CH_SCRUB_WORD_MAX)
        return false;
    for (size_t i = 0; i < sizeof harmless_words / sizeof *harmless_words; i++)
        if (ch_span_starts(harmless_words[i], (struct ch_span){names->word, names->word_len}))
            return true;
    return false;
}

// The word ends in front of `position`. What had become no harmless word is redacted already.
static struct ch_scrub_range end_word(struct ch_scrub_names *names, uint64_t position)
{
    bool is_undecided = may_be_harmless(names) && !is_harmless(names);
    return is_undecided ? in_value(names, names->word_at, position) : nothing();
}

static struct ch_scrub_range word(struct ch_scrub_names *names, const struct ch_scrub_unit *unit,
                                  uint64_t position)
{
    bool is_outer_quote = unit->quote != CH_SCRUB_NO_QUOTE && unit->quote <= names->quote;
    if (ends_word(unit) || is_outer_quote) {
        struct ch_scrub_range range = end_word(names, position);
        begin_name(names, unit->quote);
        return range;
    }
    if (!may_be_harmless(names))
        return in_value(names, position, position + 1);
    if (names->word_len < CH_SCRUB_WORD_MAX)
        names->word[names->word_len] = (char)unit->c;
    names->word_len++;
    return may_be_harmless(names) ? nothing() : in_value(names, names->word_at, position + 1);
}

static struct ch_scrub_range after_colon(struct ch_scrub_names *names,
                                         const struct ch_scrub_unit *unit, uint64_t position)
{
    if (unit->is_blank)
        return nothing();
    if (unit->quote != CH_SCRUB_NO_QUOTE) {
        bool is_value = unit->quote >= names->quote; // else the text around has ended
        begin_name(names, unit->quote);
        if (is_value)
            names->state = CH_SCRUB_IN_STRING;
        return nothing();
    }
    if (unit->c == '{' || unit->c == '[') {
        names->state = CH_SCRUB_IN_NEST;
        names->depth = 1;
        names->is_in_text = false;
        return in_value(names, position, position + 1);
    }
    names->state = CH_SCRUB_IN_WORD;
    names->word_at = position;
    names->word_len = 0;
    return word(names, unit, position);
}

static struct ch_scrub_range string(struct ch_scrub_names *names, const struct ch_scrub_unit *unit,
                                    uint64_t position)
{
    if (unit->quote == CH_SCRUB_NO_QUOTE || unit->quote > names->quote)
        return in_string(position);
    begin_name(names, unit->quote);
    return nothing();
}

static struct ch_scrub_range nest(struct ch_scrub_names *names, const struct ch_scrub_unit *unit,
                                  uint64_t position)
{
    struct ch_scrub_range range = in_value(names, position, position + 1);
    if (unit->quote != CH_SCRUB_NO_QUOTE) {
        if (unit->quote < names->quote) { // the string around has ended, and the value with it
            begin_name(names, unit->quote);
            return nothing();
        }
        if (unit->quote == names->quote)
            names->is_in_text = !names->is_in_text;
    } else if (!names->is_in_text && (unit->c == '{' || unit->c == '[')) {
        names->depth++;
    } else if (!names->is_in_text && (unit->c == '}' || unit->c == ']') && --names->depth == 0) {
        begin_name(names, CH_SCRUB_NO_QUOTE);
    }
    return range;
}

struct ch_scrub_range ch_scrub_names_read(struct ch_scrub_names *names,
                                          const struct ch_scrub_unit *unit, uint64_t position)
{
    switch (names->state) {
    case CH_SCRUB_SEARCH:
        search(names, unit);
        return nothing();
    case CH_SCRUB_AFTER_NAME:
        after_name(names, unit);
        return nothing();
    case CH_SCRUB_AFTER_COLON:
        return after_colon(names, unit, position);
    case CH_SCRUB_IN_STRING:
        return string(names, unit, position);
    case CH_SCRUB_IN_NEST:
        return nest(names, unit, position);
    case CH_SCRUB_IN_WORD:
        return word(names, unit, position);
    }
    return nothing();
}

uint64_t ch_scrub_names_hold(const struct ch_scrub_names *names, uint64_t next)
{
    bool is_undecided = names->state == CH_SCRUB_IN_WORD && may_be_harmless(names);
    return is_undecided ? names->word_at : next;
}

struct ch_scrub_range ch_scrub_names_finish(struct ch_scrub_names *names, uint64_t next)
{
    return names->state == CH_SCRUB_IN_WORD ? end_word(names, next) : nothing();
}
