// SPDX-License-Identifier: Apache-2.0
#include "domain/model_rule.h"

#include "list.h"

static bool is_model_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == ':' || c == '/' || c == '@' || c == '-';
}

bool ch_model_name_is_valid(struct ch_span model)
{
    for (size_t i = 0; i < model.len; i++)
        if (!is_model_char(model.ptr[i]))
            return false;
    return model.len > 0 && model.len <= CH_MODEL_NAME_MAX;
}

// ---- Patterns

static bool is_pattern(struct ch_span entry)
{
    return entry.len > 0 && memchr(entry.ptr, '*', entry.len);
}

_Static_assert(CH_MODEL_STARS_MAX == 4 && CH_MODEL_NAME_MAX == 128, "fault_of names them");

// What is wrong with a name or pattern; NULL: nothing.
static const char *fault_of(struct ch_span entry)
{
    size_t stars = 0;
    for (size_t i = 0; i < entry.len; i++) {
        bool is_star = entry.ptr[i] == '*';
        if (is_star && i > 0 && entry.ptr[i - 1] == '*')
            return "holds two stars in a row; one says the same";
        if (!is_star && !is_model_char(entry.ptr[i]))
            return "is neither a model name ([A-Za-z0-9._:/@-]) nor a pattern of it with stars";
        stars += is_star;
    }
    if (stars > CH_MODEL_STARS_MAX)
        return "holds more than 4 stars";
    if (entry.len - stars > CH_MODEL_NAME_MAX)
        return "is longer than 128 characters";
    return entry.len == 0 ? "is empty" : NULL;
}

// Cuts off what stands before the next star, and the star. False: there is no star.
static bool take_piece(struct ch_span *pattern, struct ch_span *piece_out)
{
    const char *star = pattern->len ? memchr(pattern->ptr, '*', pattern->len) : NULL;
    if (!star)
        return false;
    *piece_out = (struct ch_span){pattern->ptr, (size_t)(star - pattern->ptr)};
    *pattern = ch_span_sub(*pattern, piece_out->len + 1);
    return true;
}

// Drops everything up to the end of the first occurrence of `piece`.
static bool skip_past(struct ch_span *text, struct ch_span piece)
{
    if (piece.len == 0)
        return true;
    const char *found = text->len ? memmem(text->ptr, text->len, piece.ptr, piece.len) : NULL;
    if (!found)
        return false;
    *text = ch_span_sub(*text, (size_t)(found - text->ptr) + piece.len);
    return true;
}

// The piece before the first star is anchored at the front and the one after the last at the end.
// Each one between is taken at its first occurrence: a later one would only leave less for those
// behind it, so nothing is ever tried twice.
static bool fits(struct ch_span pattern, struct ch_span model)
{
    struct ch_span piece;
    if (!take_piece(&pattern, &piece))
        return ch_span_eq(pattern, model);
    if (!ch_span_starts(model, piece))
        return false;
    model = ch_span_sub(model, piece.len);
    while (take_piece(&pattern, &piece))
        if (!skip_past(&model, piece))
            return false;
    return ch_span_ends(model, pattern);
}

// ---- Lists

static enum ch_err append_entry(struct ch_buf *list, size_t start, struct ch_span entry)
{
    enum ch_err err = list->len == start ? CH_OK : ch_buf_append(list, ",", 1);
    return err ? err : ch_buf_append_span(list, entry);
}

static enum ch_err append_list(struct ch_buf *out, struct ch_span list, struct ch_why *why)
{
    size_t start = out->len;
    struct ch_span entry;
    while (ch_list_take_typed(&list, &entry)) {
        const char *fault = fault_of(entry);
        if (fault)
            return ch_why_set(why, CH_ERR_INVALID, "\"%.*s\" %s", ch_list_shown(entry), entry.ptr,
                              fault);
        enum ch_err err = append_entry(out, start, entry);
        if (err)
            return ch_why_set(why, err, "the list of models is too long");
    }
    return CH_OK;
}

enum ch_err ch_model_rule_parse(struct ch_span list, struct ch_buf *normalised_out,
                                struct ch_why *why)
{
    size_t start = normalised_out->len;
    list = ch_span_trim(list);
    enum ch_err err = append_list(normalised_out, list, why);
    // An empty list allows every model, so "," (two unset variables, say) must not pass for one.
    if (!err && list.len > 0 && normalised_out->len == start)
        err = ch_why_set(why, CH_ERR_INVALID, "the list of models holds commas but no model");
    if (err)
        normalised_out->len = start;
    return err;
}

static bool find_fitting(struct ch_span list, struct ch_span model, struct ch_span *entry_out)
{
    struct ch_span entry;
    while (ch_list_take(&list, &entry)) {
        if (!fits(entry, model))
            continue;
        *entry_out = entry;
        return true;
    }
    return false;
}

enum ch_model_decision ch_model_rule_decide(struct ch_span allow, struct ch_span deny,
                                            struct ch_span model, struct ch_span *pattern_out)
{
    struct ch_span pattern = {NULL, 0};
    enum ch_model_decision decision = CH_MODEL_ALLOWED;
    if (find_fitting(deny, model, &pattern))
        decision = CH_MODEL_DENIED;
    else if (allow.len > 0 && !find_fitting(allow, model, &pattern))
        decision = CH_MODEL_NOT_ON_LIST;
    if (pattern_out)
        *pattern_out = pattern;
    return decision;
}

bool ch_model_rule_allows(struct ch_span normalised_list, struct ch_span model)
{
    return ch_model_rule_decide(normalised_list, (struct ch_span){NULL, 0}, model, NULL) ==
           CH_MODEL_ALLOWED;
}

// ---- Maps

struct map_entry {
    struct ch_span from, to; // `to` is empty where the entry has no '='
};

static struct map_entry split(struct ch_span entry)
{
    const char *sign = entry.len ? memchr(entry.ptr, '=', entry.len) : NULL;
    if (!sign)
        return (struct map_entry){entry, {NULL, 0}};
    struct ch_span from = {entry.ptr, (size_t)(sign - entry.ptr)};
    return (struct map_entry){ch_span_trim(from), ch_span_trim(ch_span_sub(entry, from.len + 1))};
}

static enum ch_err refuse(struct ch_why *why, const struct map_entry *entry, const char *what)
{
    return ch_why_set(why, CH_ERR_INVALID, "\"%.*s=%.*s\": %s", ch_list_shown(entry->from),
                      entry->from.ptr, ch_list_shown(entry->to), entry->to.ptr, what);
}

static enum ch_err check_sides(struct ch_span typed, const struct map_entry *entry,
                               struct ch_why *why)
{
    if (entry->from.len == 0 || entry->to.len == 0)
        return ch_why_set(why, CH_ERR_INVALID, "\"%.*s\" is not of the form MODEL=MODEL",
                          ch_list_shown(typed), typed.ptr);
    const char *fault = fault_of(entry->from);
    if (fault)
        return ch_why_set(why, CH_ERR_INVALID, "\"%.*s\": the left side %s", ch_list_shown(typed),
                          typed.ptr, fault);
    if (!ch_model_name_is_valid(entry->to))
        return refuse(why, entry, "the right side is not one model name ([A-Za-z0-9._:/@-])");
    if (ch_span_eq(entry->from, entry->to))
        return refuse(why, entry, "the model is mapped to itself");
    return CH_OK;
}

static enum ch_err read_entries(struct ch_span map, struct map_entry entries[CH_MODEL_MAP_MAX],
                                size_t *count_out, struct ch_why *why)
{
    struct ch_span typed;
    size_t count = 0;
    while (ch_list_take_typed(&map, &typed)) {
        struct map_entry entry = split(typed);
        enum ch_err err = check_sides(typed, &entry, why);
        if (err)
            return err;
        for (size_t i = 0; i < count; i++)
            if (ch_span_eq(entries[i].from, entry.from))
                return refuse(why, &entry, "the left side stands twice");
        if (count == CH_MODEL_MAP_MAX)
            return ch_why_set(why, CH_ERR_LIMIT, "the map holds more than %d entries",
                              CH_MODEL_MAP_MAX);
        entries[count++] = entry;
    }
    *count_out = count;
    return CH_OK;
}

static enum ch_err append_entries(struct ch_buf *out, size_t start, bool patterns,
                                  const struct map_entry *entries, size_t count)
{
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < count && !err; i++) {
        if (is_pattern(entries[i].from) != patterns)
            continue;
        err = append_entry(out, start, entries[i].from);
        if (!err)
            err = ch_buf_append(out, "=", 1);
        if (!err)
            err = ch_buf_append_span(out, entries[i].to);
    }
    return err;
}

static enum ch_err check_chains(struct ch_span normalised, const struct map_entry *entries,
                                size_t count, struct ch_why *why)
{
    for (size_t i = 0; i < count; i++) {
        struct ch_span next;
        if (ch_model_map_apply(normalised, entries[i].to, &next))
            return ch_why_set(why, CH_ERR_INVALID,
                              "\"%.*s=%.*s\": the map would send the right side on to \"%.*s\", "
                              "but it is applied once; write the last model here",
                              ch_list_shown(entries[i].from), entries[i].from.ptr,
                              ch_list_shown(entries[i].to), entries[i].to.ptr, ch_list_shown(next),
                              next.ptr);
    }
    return CH_OK;
}

static enum ch_err append_map(struct ch_buf *out, struct ch_span map, struct ch_why *why)
{
    struct map_entry entries[CH_MODEL_MAP_MAX];
    size_t start = out->len, count = 0;
    enum ch_err err = read_entries(map, entries, &count, why);
    if (err)
        return err;
    err = append_entries(out, start, false, entries, count);
    if (!err)
        err = append_entries(out, start, true, entries, count);
    if (err)
        return ch_why_set(why, err, "the map of models is too long");
    return check_chains(ch_span_sub(ch_buf_span(out), start), entries, count, why);
}

enum ch_err ch_model_map_parse(struct ch_span map, struct ch_buf *normalised_out,
                               struct ch_why *why)
{
    size_t start = normalised_out->len;
    map = ch_span_trim(map);
    enum ch_err err = append_map(normalised_out, map, why);
    if (!err && map.len > 0 && normalised_out->len == start)
        err = ch_why_set(why, CH_ERR_INVALID, "the map of models holds commas but no entry");
    if (err)
        normalised_out->len = start;
    return err;
}

bool ch_model_map_apply(struct ch_span normalised_map, struct ch_span model,
                        struct ch_span *sent_out)
{
    struct ch_span entry;
    *sent_out = model;
    while (ch_list_take(&normalised_map, &entry)) {
        struct map_entry sides = split(entry);
        if (!fits(sides.from, model))
            continue;
        *sent_out = sides.to;
        break;
    }
    return !ch_span_eq(*sent_out, model);
}
