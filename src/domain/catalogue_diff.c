// SPDX-License-Identifier: Apache-2.0
// How one list differs from another, and whether it may replace it unasked.
#include "catalogue_private.h"

#include "base/secret.h"

#include <stdlib.h>

typedef void (*change_fn)(void *arg, const struct ch_price_change *change);

struct diff {
    change_fn each;
    void *arg;
    struct ch_buf old_text, new_text; // of the member at hand
    struct ch_catalogue_changes changes;
    // The first price that jumps, for ch_catalogue_check.
    char jump_model[128], jump_key[96];
};

// ---- one member

static enum ch_err dump(const json_t *value, struct ch_buf *out)
{
    ch_buf_clear(out);
    return value ? ch_price_dump_json(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY, out)
                 : CH_OK;
}

static enum ch_err tell(struct diff *d, enum ch_price_change_kind kind, const char *model,
                        const char *key, const json_t *old, const json_t *new)
{
    if (!d->each)
        return CH_OK;
    enum ch_err err = dump(old, &d->old_text);
    if (!err)
        err = dump(new, &d->new_text);
    if (!err)
        d->each(d->arg, &(struct ch_price_change){.kind = kind,
                                                  .model = model,
                                                  .key = key,
                                                  .old = ch_buf_span(&d->old_text),
                                                  .new = ch_buf_span(&d->new_text)});
    return err;
}

static bool is_jump(int64_t old_femto, int64_t new_femto)
{
    int64_t more = old_femto > new_femto ? old_femto : new_femto;
    int64_t less = old_femto > new_femto ? new_femto : old_femto;
    return old_femto > 0 && less < more / CH_PRICE_JUMP + (more % CH_PRICE_JUMP > 0);
}

// Limits and modes are no prices; the sizes of a search are an object of them.
static void judge(struct diff *d, const char *model, const char *key, json_t *old, json_t *new)
{
    int64_t old_femto, new_femto;
    struct ch_price_key parsed;
    if (json_is_object(old) && json_is_object(new)) {
        const char *size;
        json_t *value;
        json_object_foreach(old, size, value)
        {
            judge(d, model, key, value, json_object_get(new, size));
        }
        return;
    }
    bool is_price = ch_price_key_parse(ch_span_of(key), &parsed) ||
                    strcmp(key, "search_context_cost_per_query") == 0;
    if (!is_price || !old || !new || ch_price_read(old, &old_femto) ||
        ch_price_read(new, &new_femto) || !is_jump(old_femto, new_femto))
        return;
    if (d->changes.jumps++ == 0) {
        (void)ch_span_copy(ch_span_of(model), d->jump_model, sizeof d->jump_model);
        (void)ch_span_copy(ch_span_of(key), d->jump_key, sizeof d->jump_key);
    }
}

// ---- one model

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// The keys of one object, and those of another that the first has not, sorted.
static enum ch_err collect_keys(json_t *a, json_t *b, const char ***keys_out, size_t *count_out)
{
    size_t count = 0;
    const char *key, **keys = ch_zcalloc(json_object_size(a) + json_object_size(b), sizeof *keys);
    json_t *value;
    if (!keys)
        return CH_ERR_NOMEM;
    json_object_foreach(a, key, value)
    {
        keys[count++] = key;
    }
    json_object_foreach(b, key, value)
    {
        if (!json_object_get(a, key))
            keys[count++] = key;
    }
    qsort(keys, count, sizeof *keys, compare_keys);
    *keys_out = keys;
    *count_out = count;
    return CH_OK;
}

static enum ch_err compare_members(struct diff *d, const char *model, json_t *old, json_t *new)
{
    const char **keys;
    size_t count;
    enum ch_err err = collect_keys(old, new, &keys, &count);
    if (err)
        return err;
    d->changes.changed++;
    for (size_t i = 0; i < count && !err; i++) {
        json_t *from = json_object_get(old, keys[i]), *to = json_object_get(new, keys[i]);
        if (json_equal(from, to))
            continue;
        judge(d, model, keys[i], from, to);
        err = tell(d, CH_PRICE_CHANGED, model, keys[i], from, to);
    }
    ch_zfree(keys);
    return err;
}

static enum ch_err compare_model(struct diff *d, const char *model, json_t *old, json_t *new)
{
    if (!old) {
        d->changes.added++;
        return tell(d, CH_PRICE_ADDED, model, "", NULL, new);
    }
    if (!new) {
        d->changes.removed++;
        return tell(d, CH_PRICE_REMOVED, model, "", old, NULL);
    }
    return json_equal(old, new) ? CH_OK : compare_members(d, model, old, new);
}

// ---- the lists

static enum ch_err compare_lists(struct diff *d, json_t *old, json_t *new)
{
    const char **models;
    size_t count;
    enum ch_err err = collect_keys(old, new, &models, &count);
    if (err)
        return err;
    for (size_t i = 0; i < count && !err; i++)
        err = compare_model(d, models[i], json_object_get(old, models[i]),
                            json_object_get(new, models[i]));
    ch_zfree(models);
    return err;
}

// It parsed before, so that only memory can fail.
static enum ch_err parse(const struct ch_catalogue *catalogue, json_t **root_out)
{
    *root_out = NULL;
    if (!catalogue)
        return CH_OK;
    struct ch_span text = {catalogue->text, catalogue->text_len};
    return ch_price_parse_json(text, 0, root_out, NULL) ? CH_ERR_NOMEM : CH_OK;
}

static enum ch_err compare(const struct ch_catalogue *old, const struct ch_catalogue *new,
                           struct diff *d)
{
    json_t *old_root, *new_root = NULL, *nothing = json_object();
    enum ch_err err = parse(old, &old_root);
    if (!err)
        err = parse(new, &new_root);
    if (!err && !nothing)
        err = CH_ERR_NOMEM;
    ch_buf_init(&d->old_text, CH_CATALOGUE_MAX_BYTES);
    ch_buf_init(&d->new_text, CH_CATALOGUE_MAX_BYTES);
    if (!err)
        err = compare_lists(d, old ? json_object_get(old_root, "models") : nothing,
                            json_object_get(new_root, "models"));
    ch_buf_fini(&d->old_text);
    ch_buf_fini(&d->new_text);
    json_decref(old_root);
    json_decref(new_root);
    json_decref(nothing);
    return err;
}

enum ch_err ch_catalogue_diff(const struct ch_catalogue *old, const struct ch_catalogue *new,
                              change_fn each, void *arg, struct ch_catalogue_changes *changes_out)
{
    struct diff d = {.each = each, .arg = arg};
    enum ch_err err = compare(old, new, &d);
    if (!err)
        *changes_out = d.changes;
    return err;
}

enum ch_err ch_catalogue_check(const struct ch_catalogue *old, const struct ch_catalogue *new,
                               struct ch_why *why)
{
    struct diff d = {0};
    size_t before = ch_catalogue_size(old), after = ch_catalogue_size(new);
    if (after < before - before / 2)
        return ch_why_set(why, CH_ERR_DENIED,
                          "the new price list has %zu models, the one in force %zu", after, before);
    enum ch_err err = compare(old, new, &d);
    if (err)
        return ch_why_set(why, err, "prices: out of memory");
    if (d.changes.jumps == 0)
        return CH_OK;
    return ch_why_set(why, CH_ERR_DENIED,
                      "%zu prices change by more than %d times or to zero, the first is \"%s\" of "
                      "model \"%s\"",
                      d.changes.jumps, CH_PRICE_JUMP, d.jump_key, d.jump_model);
}
