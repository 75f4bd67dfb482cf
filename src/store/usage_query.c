// SPDX-License-Identifier: Apache-2.0
#include "store/usage_query.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/money.h"
#include "store/db.h"
#include "store/usage_writer.h"

#include <stdlib.h>

#define MS_PER_HOUR    INT64_C(3600000)
#define DIMENSIONS_MAX 3

// How far the id of a row that is not astray may run ahead of its time: see 0001_initial.sql.
#define ID_AHEAD_MS 10000

static int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t min_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

// ---- JSON

// Text that is no UTF-8 (a file edited by other hands) must not break the document.
static json_t *json_text(struct ch_span text)
{
    json_t *string = json_stringn(text.ptr ? text.ptr : "", text.len);
    return string ? string : json_string("?");
}

// Takes `value`; false when it or the room for it is missing.
static bool put(json_t *object, const char *name, json_t *value)
{
    return json_object_set_new(object, name, value) == 0;
}

static json_t *json_id(int64_t id)
{
    char text[CH_REQUEST_ID_TEXT];
    ch_id_format(id, text);
    return json_string(text);
}

static json_t *json_time(int64_t wall_ms)
{
    char text[25];
    ch_clock_format_utc(wall_ms, text);
    return json_string(text);
}

static json_t *json_usd(int64_t nano_usd)
{
    char text[CH_MONEY_TEXT];
    ch_money_format(nano_usd, text);
    return json_string(text);
}

enum kind {
    KIND_ID,
    KIND_TIME,
    KIND_TEXT,
    KIND_INT, // or NULL
    KIND_BOOL,
    KIND_COST, // nano-USD or NULL; gives cost_nano_usd and cost_usd
};

struct column {
    const char *name;
    enum kind kind;
};

static json_t *json_column(struct sqlite3_stmt *stmt, int index, enum kind kind)
{
    if (ch_db_is_null(stmt, index))
        return kind == KIND_TEXT ? json_string("") : json_null();
    switch (kind) {
    case KIND_ID:
        return json_id(ch_db_int(stmt, index));
    case KIND_TIME:
        return json_time(ch_db_int(stmt, index));
    case KIND_TEXT:
        return json_text(ch_db_text(stmt, index));
    case KIND_INT:
        return json_integer(ch_db_int(stmt, index));
    case KIND_BOOL:
        return json_boolean(ch_db_int(stmt, index));
    case KIND_COST:
        return json_usd(ch_db_int(stmt, index));
    }
    return NULL;
}

// One member per column, the column's index counting from `first`.
static bool put_columns(json_t *object, struct sqlite3_stmt *stmt, int first,
                        const struct column *columns, size_t count)
{
    bool done = true;
    for (size_t i = 0; done && i < count; i++) {
        int index = first + (int)i;
        if (columns[i].kind == KIND_COST)
            done = put(object, "cost_nano_usd", json_column(stmt, index, KIND_INT));
        done = done && put(object, columns[i].name, json_column(stmt, index, columns[i].kind));
    }
    return done;
}

static enum ch_err out_of_memory(struct ch_why *why)
{
    return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
}

// ---- filters

// The parameters ?1 to ?8 of every query here; a NULL lets everything pass. Of a key and a provider
// the ids are compared, which spares the look-up of names of rows that do not pass.
#define FILTER                                                                                     \
    "(?3 IS NULL OR key_id = (SELECT id FROM wrapped_keys WHERE name = ?3)) "                      \
    "AND (?4 IS NULL OR team = ?4) AND (?5 IS NULL OR project = ?5) AND (?6 IS NULL OR env = ?6) " \
    "AND (?8 IS NULL OR provider_id IN (SELECT id FROM providers WHERE name = ?8)) "

static void bind_optional(struct sqlite3_stmt *stmt, int index, const char *text)
{
    if (text)
        ch_db_bind_text(stmt, index, ch_span_of(text));
    else
        ch_db_bind_null(stmt, index);
}

static void bind_filter(struct sqlite3_stmt *stmt, const struct ch_usage_filter *filter,
                        int64_t from, int64_t to)
{
    ch_db_bind_int(stmt, 1, from);
    ch_db_bind_int(stmt, 2, to);
    bind_optional(stmt, 3, filter->key);
    bind_optional(stmt, 4, filter->team);
    bind_optional(stmt, 5, filter->project);
    bind_optional(stmt, 6, filter->env);
    bind_optional(stmt, 7, filter->model);
    bind_optional(stmt, 8, filter->provider);
}

// ---- rows

static const struct column row_columns[] = {
    {"id", KIND_ID},
    {"at", KIND_TIME},
    {"key", KIND_TEXT},
    {"team", KIND_TEXT},
    {"project", KIND_TEXT},
    {"env", KIND_TEXT},
    {"service", KIND_TEXT},
    {"tags", KIND_TEXT},
    {"provider", KIND_TEXT},
    {"dialect", KIND_TEXT},
    {"endpoint", KIND_TEXT},
    {"model_asked", KIND_TEXT},
    {"model_sent", KIND_TEXT},
    {"model_served", KIND_TEXT},
    {"status", KIND_INT},
    {"is_stream", KIND_BOOL},
    {"end_reason", KIND_TEXT},
    {"grade", KIND_TEXT},
    {"input_tokens", KIND_INT},
    {"cache_read_tokens", KIND_INT},
    {"cache_write_5m_tokens", KIND_INT},
    {"cache_write_1h_tokens", KIND_INT},
    {"audio_in_tokens", KIND_INT},
    {"image_in_tokens", KIND_INT},
    {"output_tokens", KIND_INT},
    {"reasoning_tokens", KIND_INT},
    {"audio_out_tokens", KIND_INT},
    {"image_out_tokens", KIND_INT},
    {"searches", KIND_INT},
    {"cache_read_audio_tokens", KIND_INT},
    {"cache_read_image_tokens", KIND_INT},
    {"video_in_tokens", KIND_INT},
    {"video_out_tokens", KIND_INT},
    {"audio_ms", KIND_INT},
    {"characters", KIND_INT},
    {"images", KIND_INT},
    {"image_width", KIND_INT},
    {"image_height", KIND_INT},
    {"image_quality", KIND_TEXT},
    {"side_cost_nano_usd", KIND_INT},
    {"tier", KIND_TEXT},
    {"cost_usd", KIND_COST},
    {"catalogue", KIND_TEXT},
    {"latency_us", KIND_INT},
    {"first_byte_us", KIND_INT},
    {"added_us", KIND_INT},
    {"tokens_per_second", KIND_INT},
    {"request_bytes", KIND_INT},
    {"response_bytes", KIND_INT},
    {"upstream_id", KIND_TEXT},
    {"user_agent", KIND_TEXT},
    {"client_address", KIND_TEXT},
    {"rule", KIND_TEXT},
    {"is_corrected", KIND_BOOL},
};

// A row itself is never edited: what its newest correction says goes before it.
#define NEWEST_CORRECTION                                                                          \
    "FROM usage_corrections c WHERE c.usage_id = usage_named.id ORDER BY c.id DESC LIMIT 1)"
#define CORRECTED_COST                                                                             \
    "coalesce((SELECT c.cost_after_nano_usd " NEWEST_CORRECTION ", cost_nano_usd)"
#define CORRECTED_CATALOGUE "coalesce((SELECT c.catalogue " NEWEST_CORRECTION ", catalogue_name)"
#define IS_CORRECTED                                                                               \
    "EXISTS (SELECT 1 FROM usage_corrections c "                                                   \
    "WHERE c.usage_id = usage_named.id)"

// ?12: a sum of these; 0 lets everything pass.
#define WANTS_DENIED 1
#define WANTS_SHADOW 2
#define RULE_FILTER                                                                                \
    "(?12 = 0 OR (?12 & 1 AND end_reason_name = 'denied') "                                        \
    "OR (?12 & 2 AND substr(rule_name, 1, 7) = 'shadow:')) "

#define SELECT_ROWS                                                                                \
    "SELECT id, started_at_ms, key_name, team, project, env, service, tags, provider_name, "       \
    "dialect_name, endpoint_name, model_asked_name, model_sent_name, model_served_name, status, "  \
    "is_stream, end_reason_name, grade_name, input_tokens, cache_read_tokens, "                    \
    "cache_write_5m_tokens, cache_write_1h_tokens, audio_in_tokens, image_in_tokens, "             \
    "output_tokens, reasoning_tokens, audio_out_tokens, image_out_tokens, searches, "              \
    "cache_read_audio_tokens, cache_read_image_tokens, video_in_tokens, video_out_tokens, "        \
    "audio_ms, characters, images, nullif(image_width, 0), nullif(image_height, 0), "              \
    "image_quality, side_cost_nano_usd, tier_name, "                                               \
    "" CORRECTED_COST ", " CORRECTED_CATALOGUE ", "                                                \
    "latency_us, nullif(first_byte_us, -1), added_us, "                                            \
    "iif(output_us > 0, (all_output_tokens * 1000000 + output_us / 2) / output_us, NULL), "        \
    "request_bytes, response_bytes, upstream_id, user_agent_name, client_address, rule_name, "     \
    "" IS_CORRECTED " FROM usage_named WHERE "                                                     \
    "(?7 IS NULL OR model_sent_name = ?7 OR model_asked_name = ?7) AND " RULE_FILTER "AND " FILTER

struct list {
    const struct ch_usage_filter *filter;
    json_t *items;
};

static void bind_list(struct sqlite3_stmt *stmt, const struct list *list, int64_t from, int64_t to)
{
    bind_filter(stmt, list->filter, from, to);
    ch_db_bind_int(stmt, 12,
                   (list->filter->is_denied ? WANTS_DENIED : 0) +
                       (list->filter->is_shadow ? WANTS_SHADOW : 0));
}

static int64_t room_in(const struct list *list)
{
    int64_t limit = list->filter->limit > 0 ? list->filter->limit : CH_USAGE_LIST_MAX;
    return min_of(limit, CH_USAGE_LIST_MAX) - (int64_t)json_array_size(list->items);
}

static enum ch_err append_rows(struct ch_db *db, struct sqlite3_stmt *stmt, struct list *list,
                               struct ch_why *why)
{
    enum ch_err err;
    while (!(err = ch_db_step(db, stmt, why))) {
        json_t *item = json_object();
        bool done = item && put_columns(item, stmt, 0, row_columns,
                                        sizeof row_columns / sizeof *row_columns);
        // Appending takes the item, also when it fails.
        if (!done || json_array_append_new(list->items, item) != 0) {
            if (!done)
                json_decref(item);
            ch_db_reset(stmt);
            return out_of_memory(why);
        }
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

static enum ch_err list_after(struct ch_db *db, struct list *list, int64_t from, int64_t to,
                              struct ch_why *why)
{
    static const char sql[] = SELECT_ROWS "AND started_at_ms >= ?1 AND started_at_ms < ?2 "
                                          "AND id > ?9 ORDER BY id LIMIT ?10";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    bind_list(stmt, list, from, to);
    ch_db_bind_int(stmt, 9, list->filter->after_id);
    ch_db_bind_int(stmt, 10, room_in(list));
    return append_rows(db, stmt, list, why);
}

static enum ch_err list_newest(struct ch_db *db, struct list *list, int64_t from, int64_t to,
                               struct ch_why *why)
{
    // Two lists that come by id, merged: the rows whose id tells their time, and the others.
    static const char sql[] =
        SELECT_ROWS "AND started_at_ms >= ?1 AND started_at_ms < ?2 "
                    "AND NOT is_astray AND id BETWEEN ?9 AND ?10 "
                    "UNION ALL " SELECT_ROWS "AND started_at_ms >= ?1 AND started_at_ms < ?2 "
                    "AND is_astray "
                    "ORDER BY id DESC LIMIT ?11";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    bind_list(stmt, list, from, to);
    ch_db_bind_int(stmt, 9, ch_id_floor(from));
    ch_db_bind_int(stmt, 10, ch_id_floor(min_of(to, INT64_MAX - ID_AHEAD_MS) + ID_AHEAD_MS));
    ch_db_bind_int(stmt, 11, room_in(list));
    return append_rows(db, stmt, list, why);
}

// Rows have no index by key: the hours in which the key was used lead to them.
static enum ch_err list_newest_of_key(struct ch_db *db, struct list *list, int64_t from, int64_t to,
                                      struct ch_why *why)
{
    static const char sql[] =
        "SELECT DISTINCT hour FROM usage_hourly "
        "WHERE key_id = (SELECT id FROM wrapped_keys WHERE name = ?1) AND hour BETWEEN ?2 AND ?3 "
        "ORDER BY hour DESC";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(list->filter->key));
    ch_db_bind_int(stmt, 2, from / MS_PER_HOUR);
    ch_db_bind_int(stmt, 3, to / MS_PER_HOUR);
    while (room_in(list) > 0 && !(err = ch_db_step(db, stmt, why))) {
        int64_t hour_ms = ch_db_int(stmt, 0) * MS_PER_HOUR;
        err = list_newest(db, list, max_of(from, hour_ms), min_of(to, hour_ms + MS_PER_HOUR), why);
        if (err)
            break;
    }
    ch_db_reset(stmt);
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

static enum ch_err list_rows(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct list *list = arg;
    const struct ch_usage_filter *filter = list->filter;
    int64_t to = filter->to_ms ? filter->to_ms : INT64_MAX;
    if (filter->after_id)
        return list_after(db, list, filter->from_ms, to, why);
    if (filter->key)
        return list_newest_of_key(db, list, filter->from_ms, to, why);
    return list_newest(db, list, filter->from_ms, to, why);
}

enum ch_err ch_usage_list(struct ch_store *store, const struct ch_usage_filter *filter,
                          json_t **json_out, struct ch_why *why)
{
    struct list list = {.filter = filter};
    ch_usage_writer_flush(store);
    json_t *json = json_pack("{s:s, s:[]}", "schema", "chaperone.usage/1", "items");
    if (!json)
        return out_of_memory(why);
    list.items = json_object_get(json, "items");
    enum ch_err err = ch_store_read(store, list_rows, &list, why);
    if (err)
        json_decref(json);
    else
        *json_out = json;
    return err;
}

struct find {
    int64_t id;
    struct list list;
};

static enum ch_err find_row(struct ch_db *db, void *arg, struct ch_why *why)
{
    static const char sql[] = SELECT_ROWS "AND id = ?9";
    struct find *find = arg;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    bind_list(stmt, &find->list, 0, 0);
    ch_db_bind_int(stmt, 9, find->id);
    return append_rows(db, stmt, &find->list, why);
}

enum ch_err ch_usage_find(struct ch_store *store, int64_t id, json_t **row_out, struct ch_why *why)
{
    const struct ch_usage_filter all = {0};
    struct find find = {.id = id, .list = {.filter = &all, .items = json_array()}};
    char text[CH_REQUEST_ID_TEXT];
    if (!find.list.items)
        return out_of_memory(why);
    enum ch_err err = ch_store_read(store, find_row, &find, why);
    json_t *row = err ? NULL : json_array_get(find.list.items, 0);
    ch_id_format(id, text);
    if (row)
        *row_out = json_incref(row);
    else if (!err)
        err = ch_why_set(why, CH_ERR_NOT_FOUND, "there is no exchange %s", text);
    json_decref(find.list.items);
    return err;
}

// ---- sums

static const char *const dimension_names[] = {"",        "key",   "team",     "project", "env",
                                              "service", "model", "provider", "day",     "hour"};
#define DIMENSIONS (sizeof dimension_names / sizeof *dimension_names)

// A dimension by its place in dimension_names; NULL for none.
#define DIMENSION(parameter)                                                                       \
    "CASE " parameter " WHEN 1 THEN key_name WHEN 2 THEN team WHEN 3 THEN project "                \
    "WHEN 4 THEN env WHEN 5 THEN service WHEN 6 THEN model_name WHEN 7 THEN provider_name "        \
    "WHEN 8 THEN day_name WHEN 9 THEN hour_name END, "

static const struct column sum_columns[] = {
    {"requests", KIND_INT},          {"errors", KIND_INT},        {"input_tokens", KIND_INT},
    {"cached_tokens", KIND_INT},     {"output_tokens", KIND_INT}, {"cost_usd", KIND_COST},
    {"unpriced_requests", KIND_INT},
};
#define SUM_COLUMNS (sizeof sum_columns / sizeof *sum_columns)

struct summary {
    const struct ch_usage_filter *filter;
    unsigned dimensions[DIMENSIONS_MAX]; // places in dimension_names
    unsigned dimension_count;
    int64_t totals[SUM_COLUMNS];
    json_t *items;
};

static bool parse_dimension(struct ch_span name, unsigned *place_out)
{
    for (unsigned i = 1; i < DIMENSIONS; i++)
        if (ch_span_eq(name, ch_span_of(dimension_names[i]))) {
            *place_out = i;
            return true;
        }
    return false;
}

static enum ch_err parse_dimensions(const char *by, struct summary *summary, struct ch_why *why)
{
    struct ch_span rest = ch_span_of(by);
    while (rest.len) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        struct ch_span name = {rest.ptr, comma ? (size_t)(comma - rest.ptr) : rest.len};
        rest = ch_span_sub(rest, comma ? name.len + 1 : name.len);
        if (summary->dimension_count == DIMENSIONS_MAX)
            return ch_why_set(why, CH_ERR_INVALID, "usage is summed by at most %d dimensions",
                              DIMENSIONS_MAX);
        if (!parse_dimension(name, &summary->dimensions[summary->dimension_count]))
            return ch_why_set(why, CH_ERR_INVALID,
                              "usage is not summed by \"%.*s\": known are key, team, project, env, "
                              "service, model, provider, day and hour",
                              (int)min_of((int64_t)name.len, 64), name.ptr);
        summary->dimension_count++;
    }
    return CH_OK;
}

static int64_t add_saturated(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static bool append_sum(struct sqlite3_stmt *stmt, struct summary *summary)
{
    json_t *item = json_object();
    bool done = item != NULL;
    for (unsigned i = 0; done && i < summary->dimension_count; i++)
        done =
            put(item, dimension_names[summary->dimensions[i]], json_text(ch_db_text(stmt, (int)i)));
    done = done && put_columns(item, stmt, DIMENSIONS_MAX, sum_columns, SUM_COLUMNS);
    for (size_t i = 0; i < SUM_COLUMNS; i++)
        summary->totals[i] =
            add_saturated(summary->totals[i], ch_db_int(stmt, DIMENSIONS_MAX + (int)i));
    if (!done) {
        json_decref(item);
        return false;
    }
    return json_array_append_new(summary->items, item) == 0;
}

static enum ch_err sum_rows(struct ch_db *db, void *arg, struct ch_why *why)
{
    static const char sql[] = "SELECT " DIMENSION("?9") DIMENSION("?10") DIMENSION(
        "?11") "sum_capped(requests), sum_capped(errors), sum_capped(input_tokens, "
               "cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, audio_in_tokens, "
               "image_in_tokens), sum_capped(cache_read_tokens), sum_capped(output_tokens, "
               "reasoning_tokens, audio_out_tokens, image_out_tokens), sum_capped(cost_nano_usd), "
               "sum_capped(unpriced) "
               "FROM usage_hourly_named WHERE hour >= ?1 AND hour < ?2 "
               "AND (?7 IS NULL OR model_name = ?7) AND " FILTER
               "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
    struct summary *summary = arg;
    const struct ch_usage_filter *filter = summary->filter;
    int64_t to = filter->to_ms ? filter->to_ms : INT64_MAX - MS_PER_HOUR;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    bind_filter(stmt, filter, filter->from_ms / MS_PER_HOUR, (to + MS_PER_HOUR - 1) / MS_PER_HOUR);
    for (int i = 0; i < DIMENSIONS_MAX; i++)
        ch_db_bind_int(stmt, 9 + i, summary->dimensions[i]);
    while (!(err = ch_db_step(db, stmt, why)))
        if (!append_sum(stmt, summary)) {
            ch_db_reset(stmt);
            return out_of_memory(why);
        }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

static json_t *json_totals(const struct summary *summary)
{
    json_t *total = json_object();
    bool done = total != NULL;
    for (size_t i = 0; done && i < SUM_COLUMNS; i++) {
        int64_t value = summary->totals[i];
        if (sum_columns[i].kind == KIND_COST)
            done = put(total, "cost_nano_usd", json_integer(value)) &&
                   put(total, sum_columns[i].name, json_usd(value));
        else
            done = put(total, sum_columns[i].name, json_integer(value));
    }
    if (done)
        return total;
    json_decref(total);
    return NULL;
}

static json_t *json_dimensions(const struct summary *summary)
{
    json_t *by = json_array();
    for (unsigned i = 0; by && i < summary->dimension_count; i++)
        if (json_array_append_new(by, json_string(dimension_names[summary->dimensions[i]])) != 0) {
            json_decref(by);
            return NULL;
        }
    return by;
}

enum ch_err ch_usage_summary(struct ch_store *store, const struct ch_usage_filter *filter,
                             const char *by, json_t **json_out, struct ch_why *why)
{
    struct summary summary = {.filter = filter};
    enum ch_err err = parse_dimensions(by, &summary, why);
    if (err)
        return err;
    ch_usage_writer_flush(store);
    summary.items = json_array();
    if (!summary.items)
        return out_of_memory(why);
    err = ch_store_read(store, sum_rows, &summary, why);
    if (err) {
        json_decref(summary.items);
        return err;
    }
    // Packing takes the three values, also when it fails or one of them is missing.
    json_t *json = json_pack("{s:s, s:o, s:o, s:o}", "schema", "chaperone.usage_summary/1", "by",
                             json_dimensions(&summary), "items", summary.items, "total",
                             json_totals(&summary));
    if (!json)
        return out_of_memory(why);
    *json_out = json;
    return CH_OK;
}

// ---- models without a price

static const struct column unpriced_columns[] = {
    {"provider", KIND_TEXT}, {"model", KIND_TEXT},   {"requests", KIND_INT},
    {"first_at", KIND_TIME}, {"last_at", KIND_TIME},
};

static enum ch_err list_unpriced(struct ch_db *db, void *arg, struct ch_why *why)
{
    // What a crash cut off has no known cost either, but that is not for lack of a price.
    static const char sql[] =
        "SELECT provider_name, model_sent_name, count(*), min(started_at_ms), max(started_at_ms) "
        "FROM usage_named WHERE cost_nano_usd IS NULL AND end_reason_name <> 'crash' "
        "AND NOT " IS_CORRECTED " "
        "GROUP BY provider_id, model_sent ORDER BY 3 DESC, 1, 2";
    json_t *items = arg;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    while (!(err = ch_db_step(db, stmt, why))) {
        json_t *item = json_object();
        bool done = item && put_columns(item, stmt, 0, unpriced_columns,
                                        sizeof unpriced_columns / sizeof *unpriced_columns);
        if (!done || json_array_append_new(items, item) != 0) {
            if (!done)
                json_decref(item);
            ch_db_reset(stmt);
            return out_of_memory(why);
        }
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

enum ch_err ch_usage_unpriced(struct ch_store *store, json_t **json_out, struct ch_why *why)
{
    ch_usage_writer_flush(store);
    json_t *json = json_pack("{s:s, s:[]}", "schema", "chaperone.unpriced/1", "items");
    if (!json)
        return out_of_memory(why);
    enum ch_err err = ch_store_read(store, list_unpriced, json_object_get(json, "items"), why);
    if (err)
        json_decref(json);
    else
        *json_out = json;
    return err;
}
