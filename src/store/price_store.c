// SPDX-License-Identifier: Apache-2.0
#include "store/price_store.h"

#include "base/clock.h"
#include "base/id.h"
#include "store/db.h"

// As usage_insert.c: what one exchange can cost, and where an hourly sum stops.
#define COST_MAX    INT64_C(1000000000000000)
#define SUM_MAX_SQL "1152921504606846976"

enum ch_err ch_price_store_put(struct ch_db *db, const char *version, struct ch_span prices_json,
                               struct ch_why *why)
{
    // A version that is imported again becomes the newest again: the replacement gets a new id.
    static const char sql[] =
        "INSERT OR REPLACE INTO catalogues (version, imported_at_ms, document)"
        " VALUES (?, ?, ?)";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(version));
    ch_db_bind_int(stmt, 2, ch_clock_wall_ms());
    ch_db_bind_text(stmt, 3, prices_json);
    return ch_db_run(db, stmt, why);
}

enum ch_err ch_price_store_newest(struct ch_db *db, struct ch_buf *prices_json_out,
                                  struct ch_why *why)
{
    static const char sql[] = "SELECT document FROM catalogues ORDER BY id DESC LIMIT 1";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err || (err = ch_db_step(db, stmt, why)))
        return err;
    err = ch_buf_append_span(prices_json_out, ch_db_text(stmt, 0));
    if (err)
        ch_why_set(why, err, "the stored catalogue is too large");
    ch_db_reset(stmt);
    return err;
}

// ---- contract prices

static enum ch_err find_override(struct ch_db *db, struct ch_price_override_row *row,
                                 struct ch_why *why)
{
    static const char sql[] = "SELECT id FROM price_overrides "
                              "WHERE provider_id = ? AND model = ? AND valid_from_ms = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, row->provider_id);
    ch_db_bind_text(stmt, 2, ch_span_of(row->model));
    ch_db_bind_int(stmt, 3, row->valid_from_ms);
    return ch_db_step_int(db, stmt, &row->id, why);
}

static enum ch_err upsert_override(struct ch_db *db, const struct ch_price_override_row *row,
                                   struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO price_overrides (provider_id, model, prices, valid_from_ms, created_at_ms) "
        "VALUES (?, ?, ?, ?, ?) ON CONFLICT (provider_id, model, valid_from_ms) DO UPDATE SET "
        "prices = excluded.prices, created_at_ms = excluded.created_at_ms";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, row->provider_id);
    ch_db_bind_text(stmt, 2, ch_span_of(row->model));
    ch_db_bind_text(stmt, 3, row->prices_json);
    ch_db_bind_int(stmt, 4, row->valid_from_ms);
    ch_db_bind_int(stmt, 5, row->created_at_ms);
    return ch_db_run(db, stmt, why);
}

enum ch_err ch_price_override_put(struct ch_db *db, struct ch_price_override_row *row,
                                  struct ch_why *why)
{
    struct ch_provider_row provider = {.id = 0};
    enum ch_err err = CH_OK;
    if (!ch_model_name_is_valid(ch_span_of(row->model)))
        return ch_why_set(why, CH_ERR_INVALID, "\"%.64s\" is no name of a model", row->model);
    if (row->prices_json.len > CH_PRICE_OVERRIDE_MAX)
        return ch_why_set(why, CH_ERR_LIMIT, "the prices of a model have at most %d bytes",
                          CH_PRICE_OVERRIDE_MAX);
    if (*row->provider)
        err = ch_provider_get(db, row->provider, &provider, why);
    row->provider_id = provider.id;
    row->created_at_ms = ch_clock_wall_ms();
    if (!err)
        err = upsert_override(db, row, why);
    return err ? err : find_override(db, row, why);
}

static enum ch_err read_override(struct sqlite3_stmt *stmt, struct ch_price_override_row *row,
                                 struct ch_why *why)
{
    *row = (struct ch_price_override_row){
        .id = ch_db_int(stmt, 0),
        .provider_id = ch_db_int(stmt, 1),
        .prices_json = ch_db_text(stmt, 4),
        .valid_from_ms = ch_db_int(stmt, 5),
        .created_at_ms = ch_db_int(stmt, 6),
    };
    if (ch_db_copy_text(stmt, 2, row->provider, sizeof row->provider) &&
        ch_db_copy_text(stmt, 3, row->model, sizeof row->model))
        return CH_OK;
    return ch_why_set(why, CH_ERR_CORRUPT, "the row of contract price %lld is damaged",
                      (long long)row->id);
}

enum ch_err ch_price_override_each(struct ch_db *db,
                                   enum ch_err (*each)(void *arg,
                                                       const struct ch_price_override_row *row),
                                   void *arg, struct ch_why *why)
{
    static const char sql[] =
        "SELECT o.id, o.provider_id, ifnull(p.name, ''), o.model, o.prices, o.valid_from_ms, "
        "o.created_at_ms FROM price_overrides o "
        "LEFT JOIN providers p ON p.id = o.provider_id AND p.deleted_at_ms IS NULL "
        "WHERE o.provider_id = 0 OR p.id IS NOT NULL "
        "ORDER BY o.provider_id, o.model, o.valid_from_ms";
    struct ch_price_override_row row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    while (!(err = ch_db_step(db, stmt, why))) {
        err = read_override(stmt, &row, why);
        if (!err)
            err = each(arg, &row);
        if (err) {
            ch_db_reset(stmt);
            return err;
        }
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

enum ch_err ch_price_override_delete(struct ch_db *db, int64_t id, struct ch_why *why)
{
    static const char sql[] = "DELETE FROM price_overrides WHERE id = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, id);
    err = ch_db_run(db, stmt, why);
    if (!err && ch_db_changes(db) == 0)
        err = ch_why_set(why, CH_ERR_NOT_FOUND, "there is no contract price %lld", (long long)id);
    return err;
}

enum ch_err ch_price_override_revision(struct ch_db *db, int64_t *revision_out, struct ch_why *why)
{
    static const char sql[] = "SELECT ifnull(max(seq), 0) FROM audit WHERE object_kind = 'price'";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    return err ? err : ch_db_step_int(db, stmt, revision_out, why);
}

// ---- corrections

struct correction {
    int64_t usage_id;
    int64_t hour, key_id, attribution_id, provider_id, model; // of its hourly sum
    bool was_priced;
    int64_t before_nano_usd, after_nano_usd;
};

static enum ch_err find_usage(struct ch_db *db, struct correction *correction, struct ch_why *why)
{
    static const char sql[] =
        "SELECT started_at_ms / 3600000, key_id, attribution_id, provider_id, model_sent, "
        "ifnull((SELECT cost_after_nano_usd FROM usage_corrections WHERE usage_id = ?1 "
        "ORDER BY id DESC LIMIT 1), cost_nano_usd) FROM usage_named WHERE id = ?1";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, correction->usage_id);
    err = ch_db_step(db, stmt, why);
    if (err == CH_ERR_NOT_FOUND) {
        char text[CH_REQUEST_ID_TEXT];
        ch_id_format(correction->usage_id, text);
        return ch_why_set(why, err, "there is no usage row %s", text);
    }
    if (err)
        return err;
    correction->hour = ch_db_int(stmt, 0);
    correction->key_id = ch_db_int(stmt, 1);
    correction->attribution_id = ch_db_int(stmt, 2);
    correction->provider_id = ch_db_int(stmt, 3);
    correction->model = ch_db_int(stmt, 4);
    correction->was_priced = !ch_db_is_null(stmt, 5);
    correction->before_nano_usd = ch_db_int(stmt, 5);
    ch_db_reset(stmt);
    return CH_OK;
}

static enum ch_err append_correction(struct ch_db *db, const struct correction *correction,
                                     const char *catalogue, struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO usage_corrections (usage_id, corrected_at_ms, cost_before_nano_usd, "
        "cost_after_nano_usd, catalogue) VALUES (?, ?, ?, ?, ?)";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, correction->usage_id);
    ch_db_bind_int(stmt, 2, ch_clock_wall_ms());
    if (correction->was_priced)
        ch_db_bind_int(stmt, 3, correction->before_nano_usd);
    else
        ch_db_bind_null(stmt, 3);
    ch_db_bind_int(stmt, 4, correction->after_nano_usd);
    ch_db_bind_text(stmt, 5, ch_span_of(catalogue));
    return ch_db_run(db, stmt, why);
}

static enum ch_err correct_sum(struct ch_db *db, const struct correction *correction,
                               struct ch_why *why)
{
    static const char sql[] =
        "UPDATE usage_hourly SET unpriced = max(unpriced - ?1, 0), "
        "cost_nano_usd = max(min(cost_nano_usd + ?2, " SUM_MAX_SQL "), 0) "
        "WHERE hour = ?3 AND key_id = ?4 AND attribution_id = ?5 AND provider_id = ?6 "
        "AND model = ?7";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, !correction->was_priced);
    ch_db_bind_int(stmt, 2, correction->after_nano_usd - correction->before_nano_usd);
    ch_db_bind_int(stmt, 3, correction->hour);
    ch_db_bind_int(stmt, 4, correction->key_id);
    ch_db_bind_int(stmt, 5, correction->attribution_id);
    ch_db_bind_int(stmt, 6, correction->provider_id);
    ch_db_bind_int(stmt, 7, correction->model);
    err = ch_db_run(db, stmt, why);
    if (!err && ch_db_changes(db) == 0)
        err = ch_why_set(why, CH_ERR_CORRUPT, "usage row %lld has no hourly sum",
                         (long long)correction->usage_id);
    return err;
}

enum ch_err ch_usage_correct(struct ch_db *db, int64_t usage_id, int64_t cost_after_nano_usd,
                             const char *catalogue, struct ch_why *why)
{
    struct correction correction = {.usage_id = usage_id, .after_nano_usd = cost_after_nano_usd};
    if (cost_after_nano_usd < 0 || cost_after_nano_usd > COST_MAX)
        return ch_why_set(why, CH_ERR_INVALID, "no exchange costs %lld nano-USD",
                          (long long)cost_after_nano_usd);
    enum ch_err err = find_usage(db, &correction, why);
    if (err || (correction.was_priced && correction.before_nano_usd == cost_after_nano_usd))
        return err;
    err = append_correction(db, &correction, catalogue, why);
    return err ? err : correct_sum(db, &correction, why);
}
