// SPDX-License-Identifier: Apache-2.0
#include "usage_insert.h"

#include "usage_kinds.h"

#include "base/secret.h"
#include "store/object_store.h"

#include <assert.h>
#include <stdlib.h>

// Far above anything an exchange can consume or cost (10^12 tokens or bytes, a million USD), and
// low enough that sums of such numbers do not overflow: a provider may state anything.
#define COUNT_MAX INT64_C(1000000000000)
#define COST_MAX  INT64_C(1000000000000000)

// Where an hourly sum stops: 0001_initial.sql says why. Two of them are still far from overflow.
#define SUM_MAX     (INT64_C(1) << 60)
#define SUM_MAX_SQL "1152921504606846976"

#define TIME_MAX    INT64_C(253402300799999) // the last millisecond of the year 9999

#define MS_PER_HOUR INT64_C(3600000)

// Rows that one statement inserts, which spares most of its start and end. Twice as many were
// measured to gain 1 % more.
#define GROUP 8

// Twice the batch, so that probing stays short.
#define SUM_PLACES (2 * CH_USAGE_BATCH)
static_assert(CH_USAGE_BATCH < UINT16_MAX, "a place holds the number of any sum");

enum sum {
    SUM_REQUESTS,
    SUM_ERRORS,
    SUM_UNPRICED,
    SUM_TOKENS, // the ten classes in their order
    SUM_SEARCHES = SUM_TOKENS + CH_TOKEN_CLASSES,
    SUM_COST,
    SUMS,
};

struct sum_key {
    int64_t hour, key_id, attribution_id, provider_id, model;
};

struct sums {
    struct sum_key key;
    int64_t values[SUMS];
    uint32_t place; // its own in the table
};

// Of the record's own texts only these two copies outlive the call that brought it.
struct row {
    struct ch_usage_record record;
    int64_t kind_id, model_sent;
    struct ch_span upstream_id, client_address;
    bool is_plain; // has no value for the columns with a default
    char upstream_id_bytes[CH_RECORD_MODEL], client_address_bytes[CH_RECORD_MODEL];
};

struct ch_usage_insert {
    struct row rows[GROUP]; // wait until one statement can take them all
    int row_count;
    struct ch_usage_kinds *kinds;
    // In the order of their coming, so that memory is touched for as many as a batch has had, and
    // not a page for each new hour of a key. `places` finds them by hash: one more than the number
    // of the sum, 0 a free one.
    struct sums sums[CH_USAGE_BATCH];
    uint16_t places[SUM_PLACES];
    uint16_t order[CH_USAGE_BATCH]; // in which they are written
    uint32_t sum_count;
};

enum ch_err ch_usage_insert_new(struct ch_usage_insert **insert_out)
{
    struct ch_usage_insert *insert = ch_zcalloc(1, sizeof *insert);
    if (!insert)
        return CH_ERR_NOMEM;
    if (ch_usage_kinds_new(&insert->kinds)) {
        ch_zfree(insert);
        return CH_ERR_NOMEM;
    }
    *insert_out = insert;
    return CH_OK;
}

void ch_usage_insert_free(struct ch_usage_insert *insert)
{
    if (insert)
        ch_usage_kinds_free(insert->kinds);
    ch_zfree(insert);
}

static void forget_sums(struct ch_usage_insert *insert)
{
    for (uint32_t i = 0; i < insert->sum_count; i++)
        insert->places[insert->sums[i].place] = 0;
    insert->sum_count = 0;
}

void ch_usage_insert_reset(struct ch_usage_insert *insert)
{
    forget_sums(insert);
    insert->row_count = 0;
    ch_usage_kinds_forget(insert->kinds);
}

// ---- the row

static int64_t clamp(int64_t value, int64_t max)
{
    return value < 0 ? 0 : value < max ? value : max;
}

// A copy whose numbers the database can sum. Nothing consumed costs nothing, priced or not.
static void sanitise(const struct ch_usage_record *record, struct ch_usage_record *r)
{
    *r = *record;
    for (int i = 0; i < CH_TOKEN_CLASSES; i++)
        r->usage.tokens[i] = clamp(r->usage.tokens[i], COUNT_MAX);
    for (int i = 0; i < CH_TOKEN_PARTS; i++)
        r->usage.parts[i] = clamp(r->usage.parts[i], COUNT_MAX);
    r->usage.searches = clamp(r->usage.searches, COUNT_MAX);
    r->usage.audio_ms = clamp(r->usage.audio_ms, COUNT_MAX);
    r->usage.characters = clamp(r->usage.characters, COUNT_MAX);
    r->usage.images = clamp(r->usage.images, COUNT_MAX);
    r->side_cost_nano_usd = clamp(r->side_cost_nano_usd, COST_MAX);
    r->is_priced = r->is_priced || r->grade == CH_GRADE_NONE;
    r->cost_nano_usd = record->is_priced ? clamp(r->cost_nano_usd, COST_MAX) : 0;
    r->started_at_ms = clamp(r->started_at_ms, TIME_MAX);
}

static void bind_known(struct sqlite3_stmt *stmt, int index, bool is_known, int64_t value)
{
    if (is_known)
        ch_db_bind_int(stmt, index, value);
    else
        ch_db_bind_null(stmt, index);
}

// First the columns of every row, then those with a default.
#define PLAIN_NAMES                                                                                \
    "id, started_at_ms, key_id, attribution_id, provider_id, kind_id, input_tokens, "              \
    "cache_read_tokens, output_tokens, reasoning_tokens, latency_us, first_byte_us, added_us, "    \
    "request_bytes, response_bytes, cost_nano_usd, upstream_id"
#define PLAIN_VALUES "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
#define OTHER_NAMES                                                                                \
    "cache_write_5m_tokens, cache_write_1h_tokens, audio_in_tokens, image_in_tokens, "             \
    "audio_out_tokens, image_out_tokens, searches, stated_cost_nano_usd, client_address"
#define OTHER_VALUES "?, ?, ?, ?, ?, ?, ?, ?, ?"

#define PLAIN        "usage (" PLAIN_NAMES ") VALUES "
#define PLAIN_ROW    "(" PLAIN_VALUES ")"
#define FULL         "usage (" PLAIN_NAMES ", " OTHER_NAMES ") VALUES "
#define FULL_ROW     "(" PLAIN_VALUES ", " OTHER_VALUES ")"
#define EIGHT(row)   row ", " row ", " row ", " row ", " row ", " row ", " row ", " row

static bool is_plain(const struct row *row)
{
    const struct ch_usage *usage = &row->record.usage;
    int64_t others = usage->tokens[CH_TOKENS_CACHE_WRITE_5M] |
                     usage->tokens[CH_TOKENS_CACHE_WRITE_1H] | usage->tokens[CH_TOKENS_AUDIO_IN] |
                     usage->tokens[CH_TOKENS_IMAGE_IN] | usage->tokens[CH_TOKENS_AUDIO_OUT] |
                     usage->tokens[CH_TOKENS_IMAGE_OUT] | usage->searches;
    return others == 0 && usage->stated_cost_nano < 0 && row->client_address.len == 0;
}

static bool has_media(const struct row *row)
{
    const struct ch_usage *usage = &row->record.usage;
    int64_t all = usage->parts[CH_PART_CACHE_READ_AUDIO] | usage->parts[CH_PART_CACHE_READ_IMAGE] |
                  usage->parts[CH_PART_VIDEO_IN] | usage->parts[CH_PART_VIDEO_OUT] |
                  usage->audio_ms | usage->characters | usage->images | usage->image_width |
                  usage->image_height | row->record.side_cost_nano_usd;
    return all != 0 || usage->image_quality != CH_IMAGE_AUTO;
}

// Gives the index of the last parameter that it has bound.
static int bind_plain(struct sqlite3_stmt *stmt, int index, const struct row *row)
{
    const struct ch_usage_record *r = &row->record;
    const int64_t *tokens = r->usage.tokens;
    const int64_t numbers[] = {r->id,
                               r->started_at_ms,
                               r->key_id,
                               r->attribution_id,
                               r->provider_id,
                               row->kind_id,
                               tokens[CH_TOKENS_INPUT],
                               tokens[CH_TOKENS_CACHE_READ],
                               tokens[CH_TOKENS_OUTPUT],
                               tokens[CH_TOKENS_REASONING],
                               r->latency_us,
                               r->first_byte_us,
                               r->added_us,
                               r->request_bytes,
                               r->response_bytes};
    enum { NUMBERS = sizeof numbers / sizeof *numbers };
    for (int i = 0; i < NUMBERS; i++)
        ch_db_bind_int(stmt, ++index, numbers[i]);
    bind_known(stmt, ++index, r->is_priced, r->cost_nano_usd);
    ch_db_bind_text(stmt, ++index, row->upstream_id);
    return index;
}

static int bind_full(struct sqlite3_stmt *stmt, int index, const struct row *row)
{
    const struct ch_usage *usage = &row->record.usage;
    const int64_t numbers[] = {usage->tokens[CH_TOKENS_CACHE_WRITE_5M],
                               usage->tokens[CH_TOKENS_CACHE_WRITE_1H],
                               usage->tokens[CH_TOKENS_AUDIO_IN],
                               usage->tokens[CH_TOKENS_IMAGE_IN],
                               usage->tokens[CH_TOKENS_AUDIO_OUT],
                               usage->tokens[CH_TOKENS_IMAGE_OUT],
                               usage->searches};
    enum { NUMBERS = sizeof numbers / sizeof *numbers };
    index = bind_plain(stmt, index, row);
    for (int i = 0; i < NUMBERS; i++)
        ch_db_bind_int(stmt, ++index, numbers[i]);
    bind_known(stmt, ++index, usage->stated_cost_nano >= 0, usage->stated_cost_nano);
    ch_db_bind_text(stmt, ++index, row->client_address);
    return index;
}

static enum ch_err insert_media(struct ch_db *db, const struct row *row, struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO usage_media (usage_id, cache_read_audio_tokens, cache_read_image_tokens, "
        "video_in_tokens, video_out_tokens, audio_ms, characters, images, image_width, "
        "image_height, side_cost_nano_usd, image_quality) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    const struct ch_usage *usage = &row->record.usage;
    const int64_t numbers[] = {row->record.id,
                               usage->parts[CH_PART_CACHE_READ_AUDIO],
                               usage->parts[CH_PART_CACHE_READ_IMAGE],
                               usage->parts[CH_PART_VIDEO_IN],
                               usage->parts[CH_PART_VIDEO_OUT],
                               usage->audio_ms,
                               usage->characters,
                               usage->images,
                               usage->image_width,
                               usage->image_height,
                               row->record.side_cost_nano_usd};
    enum { NUMBERS = sizeof numbers / sizeof *numbers };
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    for (int i = 0; i < NUMBERS; i++)
        ch_db_bind_int(stmt, i + 1, numbers[i]);
    ch_db_bind_text(stmt, NUMBERS + 1, ch_span_of(ch_image_quality_name(usage->image_quality)));
    return ch_db_run(db, stmt, why);
}

// ---- the sums

static bool is_same(const struct sum_key *a, const struct sum_key *b)
{
    return a->hour == b->hour && a->key_id == b->key_id && a->attribution_id == b->attribution_id &&
           a->provider_id == b->provider_id && a->model == b->model;
}

static uint64_t hash_key(const struct sum_key *key)
{
    uint64_t hash = (uint64_t)key->hour;
    hash = (hash ^ (uint64_t)key->key_id) * UINT64_C(0x9E3779B97F4A7C15);
    hash = (hash ^ (uint64_t)key->attribution_id) * UINT64_C(0x9E3779B97F4A7C15);
    hash = (hash ^ (uint64_t)key->provider_id) * UINT64_C(0x9E3779B97F4A7C15);
    hash = (hash ^ (uint64_t)key->model) * UINT64_C(0x9E3779B97F4A7C15);
    return hash >> 32;
}

static struct sums *find_sums(struct ch_usage_insert *insert, const struct sum_key *key)
{
    uint32_t place = (uint32_t)(hash_key(key) % SUM_PLACES), number;
    for (; (number = insert->places[place]); place = (place + 1) % SUM_PLACES)
        if (is_same(&insert->sums[number - 1].key, key))
            return &insert->sums[number - 1];
    CH_ASSERT(insert->sum_count < CH_USAGE_BATCH);
    struct sums *sums = &insert->sums[insert->sum_count++];
    *sums = (struct sums){.key = *key, .place = place};
    insert->places[place] = (uint16_t)insert->sum_count;
    return sums;
}

static void add_sums(struct ch_usage_insert *insert, const struct row *row)
{
    const struct ch_usage_record *r = &row->record;
    struct sum_key key = {r->started_at_ms / MS_PER_HOUR, r->key_id, r->attribution_id,
                          r->provider_id, row->model_sent};
    int64_t *values = find_sums(insert, &key)->values;
    values[SUM_REQUESTS]++;
    values[SUM_ERRORS] += r->status >= 400 || r->end_reason != CH_END_DONE;
    values[SUM_UNPRICED] += !r->is_priced;
    for (int i = 0; i < CH_TOKEN_CLASSES; i++)
        values[SUM_TOKENS + i] += r->usage.tokens[i];
    values[SUM_SEARCHES] += r->usage.searches;
    values[SUM_COST] += r->cost_nano_usd;
}

// ---- the group

// What goes with a row that is new.
static enum ch_err follow(struct ch_usage_insert *insert, struct ch_db *db, const struct row *row,
                          struct ch_why *why)
{
    add_sums(insert, row);
    return has_media(row) ? insert_media(db, row, why) : CH_OK;
}

static enum ch_err insert_row(struct ch_usage_insert *insert, struct ch_db *db,
                              const struct row *row, struct ch_why *why)
{
    static const char sql[] = "INSERT OR IGNORE INTO " FULL FULL_ROW;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    bind_full(stmt, 0, row);
    err = ch_db_run(db, stmt, why);
    if (!err && ch_db_changes(db))
        err = follow(insert, db, row, why);
    return err;
}

// Inserts a whole group up to the first row that is there already, and says how many these were.
// FAIL keeps what was inserted before it; IGNORE would not tell which rows it has left out.
static enum ch_err insert_group(struct ch_usage_insert *insert, struct ch_db *db, int *inserted_out,
                                struct ch_why *why)
{
    static const char plain[] = "INSERT OR FAIL INTO " PLAIN EIGHT(PLAIN_ROW);
    static const char full[] = "INSERT OR FAIL INTO " FULL EIGHT(FULL_ROW);
    static_assert(GROUP == 8, "as many as there are rows of values");
    bool are_plain = true;
    for (int i = 0; i < GROUP; i++)
        are_plain &= insert->rows[i].is_plain;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, are_plain ? plain : full, &stmt, why);
    if (err)
        return err;
    int index = 0;
    for (int i = 0; i < GROUP; i++)
        index = are_plain ? bind_plain(stmt, index, &insert->rows[i])
                          : bind_full(stmt, index, &insert->rows[i]);
    struct ch_why failure; // a conflict is none, and leaves `why` as it was
    err = ch_db_run(db, stmt, &failure);
    if (err && err != CH_ERR_CONFLICT)
        return ch_why_set(why, err, "%s", failure.text);
    *inserted_out = (int)ch_db_changes(db);
    return CH_OK;
}

static enum ch_err insert_rows(struct ch_usage_insert *insert, struct ch_db *db, struct ch_why *why)
{
    int inserted = 0;
    enum ch_err err = CH_OK;
    if (insert->row_count == GROUP)
        err = insert_group(insert, db, &inserted, why);
    for (int i = 0; !err && i < inserted; i++)
        err = follow(insert, db, &insert->rows[i], why);
    for (int i = inserted; !err && i < insert->row_count; i++)
        err = insert_row(insert, db, &insert->rows[i], why);
    if (!err)
        insert->row_count = 0;
    return err;
}

enum ch_err ch_usage_insert_add(struct ch_usage_insert *insert, struct ch_db *db,
                                const struct ch_usage_record *record, struct ch_why *why)
{
    CH_ASSERT(insert->row_count < GROUP); // a failure was not followed by the reset
    struct row *row = &insert->rows[insert->row_count];
    sanitise(record, &row->record);
    row->upstream_id = ch_usage_clean(record->upstream_id, row->upstream_id_bytes);
    row->client_address = ch_usage_clean(record->client_address, row->client_address_bytes);
    row->is_plain = is_plain(row);
    enum ch_err err =
        ch_usage_kinds_find(insert->kinds, db, record, &row->kind_id, &row->model_sent, why);
    if (!err && record->objects.len)
        err = ch_object_add(db, record, why);
    if (!err && ++insert->row_count == GROUP)
        err = insert_rows(insert, db, why);
    return err;
}

// What is larger already (an older file, other hands) comes down to the limit too: were the sum to
// overflow, SQLite would make it a float, and min() takes the integer then.
#define ADD(column) column " = min(" column " + excluded." column ", " SUM_MAX_SQL ")"

static enum ch_err upsert(struct ch_db *db, const struct sums *sums, struct ch_why *why)
{
    // One column a line.
    // clang-format off
    static const char sql[] =
        "INSERT INTO usage_hourly (hour, key_id, attribution_id, provider_id, model, requests, "
        "errors, unpriced, input_tokens, cache_read_tokens, cache_write_5m_tokens, "
        "cache_write_1h_tokens, audio_in_tokens, image_in_tokens, output_tokens, "
        "reasoning_tokens, audio_out_tokens, image_out_tokens, searches, cost_nano_usd) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET "
        ADD("requests") ", "
        ADD("errors") ", "
        ADD("unpriced") ", "
        ADD("input_tokens") ", "
        ADD("cache_read_tokens") ", "
        ADD("cache_write_5m_tokens") ", "
        ADD("cache_write_1h_tokens") ", "
        ADD("audio_in_tokens") ", "
        ADD("image_in_tokens") ", "
        ADD("output_tokens") ", "
        ADD("reasoning_tokens") ", "
        ADD("audio_out_tokens") ", "
        ADD("image_out_tokens") ", "
        ADD("searches") ", "
        ADD("cost_nano_usd");
    // clang-format on
    const struct sum_key *key = &sums->key;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, key->hour);
    ch_db_bind_int(stmt, 2, key->key_id);
    ch_db_bind_int(stmt, 3, key->attribution_id);
    ch_db_bind_int(stmt, 4, key->provider_id);
    ch_db_bind_int(stmt, 5, key->model);
    for (int i = 0; i < SUMS; i++)
        ch_db_bind_int(stmt, 6 + i, clamp(sums->values[i], SUM_MAX));
    return ch_db_run(db, stmt, why);
}

// In the order of the primary key, so that neighbours share a page while it is at hand.
static int compare_numbers(const void *a, const void *b, void *arg)
{
    const struct ch_usage_insert *insert = arg;
    const struct sum_key *x = &insert->sums[*(const uint16_t *)a].key;
    const struct sum_key *y = &insert->sums[*(const uint16_t *)b].key;
    if (x->hour != y->hour)
        return x->hour < y->hour ? -1 : 1;
    return (x->key_id > y->key_id) - (x->key_id < y->key_id);
}

enum ch_err ch_usage_insert_finish(struct ch_usage_insert *insert, struct ch_db *db,
                                   struct ch_why *why)
{
    enum ch_err err = insert_rows(insert, db, why);
    if (err)
        return err;
    for (uint32_t i = 0; i < insert->sum_count; i++)
        insert->order[i] = (uint16_t)i;
    qsort_r(insert->order, insert->sum_count, sizeof *insert->order, compare_numbers, insert);
    for (uint32_t i = 0; !err && i < insert->sum_count; i++)
        err = upsert(db, &insert->sums[insert->order[i]], why);
    if (!err)
        forget_sums(insert);
    return err;
}
