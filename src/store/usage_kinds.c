// SPDX-License-Identifier: Apache-2.0
#include "usage_kinds.h"

#include "base/secret.h"
#include "domain/route.h"

#include <assert.h>

// Recently seen texts; two places for each hash, so that one newcomer does not drive out a
// favourite at once.
#define TEXT_SETS 512
#define TEXT_WAYS 2

// Recently seen kinds, in the same way.
#define KIND_SETS 256
#define KIND_WAYS 2

struct cached_text {
    int64_t id;
    uint32_t hash;
    uint8_t size;
    char text[CH_RECORD_MODEL];
};

enum word_kind {
    WORD_DIALECT,
    WORD_ENDPOINT,
    WORD_GRADE,
    WORD_END_REASON,
    WORD_TIER,
    WORD_KINDS,
};
#define WORDS_MAX CH_ENDPOINTS // values of the largest of these enums
static_assert(CH_END_CRASH < WORDS_MAX && CH_TIERS <= WORDS_MAX && CH_GRADE_NONE < WORDS_MAX,
              "no other has more");

// A row of usage_kinds, in the order of its columns.
enum kind_column {
    KIND_DIALECT, // the first five: ids of enums' names
    KIND_ENDPOINT,
    KIND_GRADE,
    KIND_END_REASON,
    KIND_TIER,
    KIND_MODEL_ASKED, // ids of texts
    KIND_MODEL_SENT,
    KIND_MODEL_SERVED,
    KIND_USER_AGENT,
    KIND_RULE,
    KIND_CATALOGUE,
    KIND_STATUS, // numbers
    KIND_IS_STREAM,
    KIND_US_REGION,
    KIND_EU_REGION,
    KIND_IS_FAST,
    KIND_COLUMNS,
};

struct kind {
    int64_t values[KIND_COLUMNS];
};

struct cached_kind {
    int64_t id; // 0: a free place
    struct kind kind;
};

struct ch_usage_kinds {
    struct cached_text texts[TEXT_SETS][TEXT_WAYS];
    struct cached_kind kinds[KIND_SETS][KIND_WAYS];
    int64_t word_ids[WORD_KINDS][WORDS_MAX]; // 0: not looked up yet
};

enum ch_err ch_usage_kinds_new(struct ch_usage_kinds **kinds_out)
{
    *kinds_out = ch_zcalloc(1, sizeof **kinds_out);
    return *kinds_out ? CH_OK : CH_ERR_NOMEM;
}

void ch_usage_kinds_free(struct ch_usage_kinds *kinds)
{
    ch_zfree(kinds);
}

// ---- texts

struct ch_span ch_usage_clean(struct ch_span text, char out[CH_RECORD_MODEL])
{
    CH_ASSERT(text.len <= CH_RECORD_MODEL);
    for (size_t i = 0; i < text.len; i++)
        out[i] = text.ptr[i] >= ' ' && text.ptr[i] <= '~' ? text.ptr[i] : '?';
    return (struct ch_span){out, text.len};
}

static enum ch_err select_text(struct ch_db *db, struct ch_span text, int64_t *id_out,
                               struct ch_why *why)
{
    static const char sql[] = "SELECT id FROM texts WHERE text = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, text);
    return ch_db_step_int(db, stmt, id_out, why);
}

static enum ch_err insert_text(struct ch_db *db, struct ch_span text, int64_t *id_out,
                               struct ch_why *why)
{
    static const char sql[] = "INSERT INTO texts (text) VALUES (?)";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, text);
    err = ch_db_run(db, stmt, why);
    *id_out = ch_db_last_id(db);
    return err;
}

static enum ch_err find_text(struct ch_db *db, struct ch_span text, int64_t *id_out,
                             struct ch_why *why)
{
    char bytes[CH_RECORD_MODEL];
    struct ch_span cleaned = ch_usage_clean(text, bytes);
    enum ch_err err = select_text(db, cleaned, id_out, why);
    return err == CH_ERR_NOT_FOUND ? insert_text(db, cleaned, id_out, why) : err;
}

// Only finds a place in the cache, so that speed is all that counts.
static uint32_t hash_text(struct ch_span text)
{
    uint64_t hash = text.len;
    for (size_t at = 0; at < text.len; at += sizeof hash) {
        uint64_t word = 0;
        size_t left = text.len - at;
        memcpy(&word, text.ptr + at, left < sizeof word ? left : sizeof word);
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 32;
    }
    return (uint32_t)hash;
}

// The id of `text` in `texts`; '' has 0.
static enum ch_err text_id(struct ch_usage_kinds *kinds, struct ch_db *db, struct ch_span text,
                           int64_t *id_out, struct ch_why *why)
{
    if (text.len == 0) {
        *id_out = 0;
        return CH_OK;
    }
    uint32_t hash = hash_text(text);
    struct cached_text *set = kinds->texts[hash % TEXT_SETS];
    for (int way = 0; way < TEXT_WAYS; way++)
        if (set[way].id && set[way].hash == hash && set[way].size == text.len &&
            memcmp(set[way].text, text.ptr, text.len) == 0) {
            *id_out = set[way].id;
            return CH_OK;
        }
    enum ch_err err = find_text(db, text, id_out, why);
    if (err)
        return err;
    set[1] = set[0];
    set[0] = (struct cached_text){.id = *id_out, .hash = hash, .size = (uint8_t)text.len};
    memcpy(set[0].text, text.ptr, text.len);
    return CH_OK;
}

// The id of an enum's name: stored by name, so that the numbers in the program may change.
static enum ch_err word_id(struct ch_usage_kinds *kinds, struct ch_db *db, enum word_kind kind,
                           unsigned value, const char *name, int64_t *id_out, struct ch_why *why)
{
    CH_ASSERT(value < WORDS_MAX);
    int64_t *id = &kinds->word_ids[kind][value];
    if (*id == 0) {
        enum ch_err err = text_id(kinds, db, ch_span_of(name), id, why);
        if (err)
            return err;
    }
    *id_out = *id;
    return CH_OK;
}

// ---- kinds

static enum ch_err fill_kind(struct ch_usage_kinds *kinds, struct ch_db *db,
                             const struct ch_usage_record *r, struct kind *kind, struct ch_why *why)
{
    const struct {
        unsigned value;
        const char *name;
    } words[WORD_KINDS] = {
        [WORD_DIALECT] = {r->dialect, ch_dialect_name((enum ch_dialect)r->dialect)},
        [WORD_ENDPOINT] = {r->endpoint, ch_endpoint_name((enum ch_endpoint)r->endpoint)},
        [WORD_GRADE] = {r->grade, ch_grade_name((enum ch_grade)r->grade)},
        [WORD_END_REASON] = {r->end_reason, ch_end_reason_name((enum ch_end_reason)r->end_reason)},
        [WORD_TIER] = {r->usage.tier, ch_tier_name(r->usage.tier)},
    };
    const struct ch_span *texts[] = {&r->model_asked, &r->model_sent, &r->model_served,
                                     &r->user_agent,  &r->rule,       &r->catalogue};
    enum { TEXTS = sizeof texts / sizeof *texts };
    int64_t *values = kind->values;
    enum ch_err err = CH_OK;
    for (unsigned i = 0; !err && i < WORD_KINDS; i++)
        err = word_id(kinds, db, (enum word_kind)i, words[i].value, words[i].name,
                      &values[KIND_DIALECT + i], why);
    for (unsigned i = 0; !err && i < TEXTS; i++)
        err = text_id(kinds, db, *texts[i], &values[KIND_MODEL_ASKED + i], why);
    values[KIND_STATUS] = r->status;
    values[KIND_IS_STREAM] = r->is_stream;
    values[KIND_US_REGION] = r->usage.us_region;
    values[KIND_EU_REGION] = r->usage.eu_region;
    values[KIND_IS_FAST] = r->usage.is_fast;
    return err;
}

#define KIND_NAMES                                                                                 \
    "dialect, endpoint, grade, end_reason, tier, model_asked, model_sent, model_served, "          \
    "user_agent, rule, catalogue, status, is_stream, us_region, eu_region, is_fast"

static void bind_kind(struct sqlite3_stmt *stmt, const struct kind *kind)
{
    for (int i = 0; i < KIND_COLUMNS; i++)
        ch_db_bind_int(stmt, i + 1, kind->values[i]);
}

static enum ch_err find_kind(struct ch_db *db, const struct kind *kind, int64_t *id_out,
                             struct ch_why *why)
{
    static const char select[] =
        "SELECT id FROM usage_kinds WHERE (" KIND_NAMES
        ") = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
    static const char insert[] =
        "INSERT INTO usage_kinds (" KIND_NAMES
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
    static_assert(KIND_COLUMNS == 16, "as many as there are parameters");
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, select, &stmt, why);
    if (err)
        return err;
    bind_kind(stmt, kind);
    err = ch_db_step_int(db, stmt, id_out, why);
    if (err != CH_ERR_NOT_FOUND || (err = ch_db_prepare(db, insert, &stmt, why)))
        return err;
    bind_kind(stmt, kind);
    err = ch_db_run(db, stmt, why);
    *id_out = ch_db_last_id(db);
    return err;
}

static uint32_t hash_kind(const struct kind *kind)
{
    uint64_t hash = 0;
    for (int i = 0; i < KIND_COLUMNS; i++)
        hash = (hash ^ (uint64_t)kind->values[i]) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)(hash >> 32);
}

static enum ch_err kind_id(struct ch_usage_kinds *kinds, struct ch_db *db, const struct kind *kind,
                           int64_t *id_out, struct ch_why *why)
{
    struct cached_kind *set = kinds->kinds[hash_kind(kind) % KIND_SETS];
    for (int way = 0; way < KIND_WAYS; way++)
        if (set[way].id && memcmp(&set[way].kind, kind, sizeof *kind) == 0) {
            *id_out = set[way].id;
            return CH_OK;
        }
    enum ch_err err = find_kind(db, kind, id_out, why);
    if (err)
        return err;
    set[1] = set[0];
    set[0] = (struct cached_kind){.id = *id_out, .kind = *kind};
    return CH_OK;
}

enum ch_err ch_usage_kinds_find(struct ch_usage_kinds *kinds, struct ch_db *db,
                                const struct ch_usage_record *record, int64_t *kind_id_out,
                                int64_t *model_sent_out, struct ch_why *why)
{
    struct kind kind;
    enum ch_err err = fill_kind(kinds, db, record, &kind, why);
    if (err)
        return err;
    *model_sent_out = kind.values[KIND_MODEL_SENT];
    return kind_id(kinds, db, &kind, kind_id_out, why);
}

void ch_usage_kinds_forget(struct ch_usage_kinds *kinds)
{
    memset(kinds, 0, sizeof *kinds);
}
