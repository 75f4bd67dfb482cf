// SPDX-License-Identifier: Apache-2.0
#include "json_plan.h"

#include "base/secret.h"

static int16_t add_node(struct ch_json_plan *plan)
{
    plan->nodes[plan->count] =
        (struct ch_json_node){.path = -1, .element = -1, .next = -1, .like = -1};
    memset(plan->nodes[plan->count].bucket, -1, sizeof plan->nodes[plan->count].bucket);
    return plan->count++;
}

// The same for keys that differ in case alone, so that most that resemble no name are known at
// once.
static unsigned look_of(struct ch_span key)
{
    unsigned first = (unsigned char)key.ptr[0] | 0x20u;
    unsigned last = (unsigned char)key.ptr[key.len - 1] | 0x20u;
    return ((unsigned)key.len + 7u * first + 17u * last) & 63;
}

// Tells the names of one object apart by what is at hand: length, first and last byte.
static unsigned hash_key(struct ch_span key)
{
    return ((unsigned)key.len + 5u * (unsigned char)key.ptr[0] +
            11u * (unsigned char)key.ptr[key.len - 1]) &
           31;
}

int16_t ch_json_plan_find(const struct ch_json_plan *plan, int16_t parent, struct ch_span key)
{
    if (key.len == 0)
        return -1;
    int16_t at = plan->nodes[parent].bucket[hash_key(key)];
    for (; at >= 0; at = plan->nodes[at].next) {
        const struct ch_json_node *node = &plan->nodes[at];
        if (node->key_len == key.len && memcmp(node->key, key.ptr, key.len) == 0)
            break;
    }
    return at;
}

static int16_t add_child(struct ch_json_plan *plan, int16_t parent, struct ch_span key)
{
    int16_t at = ch_json_plan_find(plan, parent, key);
    if (at >= 0)
        return at;
    at = add_node(plan);
    struct ch_json_node *node = &plan->nodes[at];
    memcpy(node->key, key.ptr, key.len);
    node->key_len = (uint8_t)key.len;
    node->next = plan->nodes[parent].bucket[hash_key(key)];
    plan->nodes[parent].bucket[hash_key(key)] = at;
    if (parent == 0) {
        node->like = plan->looks[look_of(key)];
        plan->looks[look_of(key)] = at;
    }
    return at;
}

static int16_t add_element(struct ch_json_plan *plan, int16_t parent)
{
    if (plan->nodes[parent].element < 0) {
        int16_t at = add_node(plan);
        plan->nodes[parent].element = at;
    }
    return plan->nodes[parent].element;
}

// A name or "[]", at the front of a path. 0: neither.
static size_t step_length(const char *path)
{
    size_t len = strcspn(path, ".[]");
    if (len == 0)
        return strncmp(path, "[]", 2) == 0 ? 2 : 0;
    return len <= CH_JSON_KEY_MAX ? len : 0;
}

static enum ch_err add_path(struct ch_json_plan *plan, const char *path, int16_t index)
{
    int16_t at = 0;
    while (*path) {
        size_t len = step_length(path);
        if (len == 0)
            return CH_ERR_INVALID;
        at =
            *path == '[' ? add_element(plan, at) : add_child(plan, at, (struct ch_span){path, len});
        path += len;
        if (*path == '.' && path[1] != '\0' && path[1] != '[')
            path++;
        else if (*path != '\0' && *path != '[')
            return CH_ERR_INVALID;
    }
    if (plan->nodes[at].path >= 0)
        return CH_ERR_CONFLICT;
    plan->nodes[at].path = index;
    return CH_OK;
}

// A bound of the nodes needed: every step but the first begins with a dot or a bracket.
static size_t count_nodes(const char *const *paths, size_t count)
{
    size_t nodes = 1;
    for (size_t i = 0; i < count; i++) {
        nodes++;
        for (const char *c = paths[i]; c && *c; c++)
            nodes += *c == '.' || *c == '[';
    }
    return nodes;
}

enum ch_err ch_json_plan_new(const char *const *paths, size_t count, struct ch_json_plan **plan_out)
{
    size_t nodes = count_nodes(paths, count);
    if (count > CH_JSON_PATHS_MAX || nodes > INT16_MAX)
        return CH_ERR_LIMIT;
    struct ch_json_plan *plan = ch_zmalloc(sizeof *plan + nodes * sizeof plan->nodes[0]);
    if (!plan)
        return CH_ERR_NOMEM;
    plan->count = 0;
    memset(plan->looks, -1, sizeof plan->looks);
    add_node(plan);
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < count && !err; i++)
        if (paths[i])
            err = add_path(plan, paths[i], (int16_t)i);
    if (err)
        ch_json_plan_free(plan);
    else
        *plan_out = plan;
    return err;
}

void ch_json_plan_free(struct ch_json_plan *plan)
{
    ch_zfree(plan);
}

static bool is_trimmed(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// The letter that the laxest decoder takes the character at `*i` for; moves `*i` to its last byte.
static char fold_char(struct ch_span key, size_t *i)
{
    const char *p = key.ptr + *i;
    size_t left = key.len - *i;
    if (*p == '\xC5' && left > 1 && p[1] == '\xBF') { // U+017F, the long s
        *i += 1;
        return 's';
    }
    if (*p == '\xE2' && left > 2 && p[1] == '\x84' && p[2] == '\xAA') { // U+212A, the Kelvin sign
        *i += 2;
        return 'k';
    }
    return *p;
}

// Without blanks around, up to a NUL.
static struct ch_span fold_key(struct ch_span key, char out[CH_JSON_VALUE_MAX])
{
    size_t len = 0, blanks = 0;
    for (size_t i = 0; i < key.len && key.ptr[i] != '\0'; i++) {
        char c = fold_char(key, &i);
        bool blank = is_trimmed(c);
        if (blank && len == 0)
            continue;
        blanks = blank ? blanks + 1 : 0;
        out[len++] = c;
    }
    return (struct ch_span){out, len - blanks};
}

static bool is_graphic(struct ch_span key)
{
    for (size_t i = 0; i < key.len; i++)
        if (key.ptr[i] <= ' ' || key.ptr[i] == 0x7F)
            return false;
    return true;
}

bool ch_json_plan_resembles(const struct ch_json_plan *plan, struct ch_span key, bool cut)
{
    if (cut && key.len && is_trimmed(key.ptr[0]))
        return true;
    char folded[CH_JSON_VALUE_MAX];
    if (!is_graphic(key))
        key = fold_key(key, folded);
    if (key.len == 0)
        return false;
    for (int16_t at = plan->looks[look_of(key)]; at >= 0; at = plan->nodes[at].like) {
        const struct ch_json_node *node = &plan->nodes[at];
        if (node->key_len == key.len && ch_span_ieq(key, (struct ch_span){node->key, key.len}))
            return true;
    }
    return false;
}
