// SPDX-License-Identifier: Apache-2.0
#include "domain/model_rule.h"

static bool is_model_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("._:/@-", c));
}

static bool is_model_text(struct ch_span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_model_char(text.ptr[i]))
            return false;
    return text.len <= CH_MODEL_NAME_MAX;
}

bool ch_model_name_is_valid(struct ch_span model)
{
    return model.len > 0 && is_model_text(model);
}

// Cuts the first entry off `list`. False at the end of the list.
static bool take_entry(struct ch_span *list, struct ch_span *entry_out)
{
    if (list->len == 0)
        return false;
    const char *comma = memchr(list->ptr, ',', list->len);
    size_t len = comma ? (size_t)(comma - list->ptr) : list->len;
    *entry_out = (struct ch_span){list->ptr, len};
    *list = ch_span_sub(*list, comma ? len + 1 : len);
    return true;
}

// Takes a trailing star off `entry` and says whether there was one.
static bool take_star(struct ch_span *entry)
{
    bool star = ch_span_ends(*entry, CH_SPAN("*"));
    entry->len -= star;
    return star;
}

static bool is_entry(struct ch_span entry)
{
    bool star = take_star(&entry);
    return is_model_text(entry) && (star || entry.len > 0);
}

static enum ch_err append_entry(struct ch_buf *list, bool is_first, struct ch_span entry)
{
    enum ch_err err = is_first ? CH_OK : ch_buf_append(list, ",", 1);
    return err ? err : ch_buf_append_span(list, entry);
}

static enum ch_err append_list(struct ch_buf *out, struct ch_span list, struct ch_why *why)
{
    struct ch_span entry;
    for (bool is_first = true; take_entry(&list, &entry);) {
        entry = ch_span_trim(entry);
        if (entry.len == 0)
            continue;
        if (!is_entry(entry))
            return ch_why_set(why, CH_ERR_INVALID,
                              "\"%.*s\" is neither a model name ([A-Za-z0-9._:/@-], at most %d "
                              "characters) nor a prefix followed by one *",
                              (int)(entry.len < 64 ? entry.len : 64), entry.ptr, CH_MODEL_NAME_MAX);
        enum ch_err err = append_entry(out, is_first, entry);
        if (err)
            return ch_why_set(why, err, "the list of models is too long");
        is_first = false;
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

bool ch_model_rule_allows(struct ch_span normalised_list, struct ch_span model)
{
    if (normalised_list.len == 0)
        return true;
    struct ch_span entry;
    while (take_entry(&normalised_list, &entry)) {
        bool is_prefix = take_star(&entry);
        if (is_prefix ? ch_span_starts(model, entry) : ch_span_eq(model, entry))
            return true;
    }
    return false;
}
