// SPDX-License-Identifier: Apache-2.0
#include "store/usage_counted.h"

#include "base/id.h"
#include "store/db.h"

// How far the id of a row that is not astray may run ahead of its time: see 0001_initial.sql.
#define ID_AHEAD_MS 10000

#define SELECT_ROWS                                                                                \
    "SELECT usage_named.id AS id, started_at_ms, provider_id, p.type, p.base_url, "                \
    "model_sent_name, model_served_name, tier_name, us_region, eu_region, is_fast, "               \
    "input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, "              \
    "audio_in_tokens, image_in_tokens, output_tokens, reasoning_tokens, audio_out_tokens, "        \
    "image_out_tokens, searches, cache_read_audio_tokens, cache_read_image_tokens, "               \
    "video_in_tokens, video_out_tokens, audio_ms, characters, images, image_width, image_height, " \
    "image_quality, side_cost_nano_usd, coalesce((SELECT c.cost_after_nano_usd "                   \
    "FROM usage_corrections c WHERE c.usage_id = usage_named.id ORDER BY c.id DESC LIMIT 1), "     \
    "cost_nano_usd), key_id, team, project FROM usage_named JOIN providers p ON p.id = provider_id "                      \
    "WHERE started_at_ms >= ?1 AND started_at_ms < ?2 AND usage_named.id > ?3 "                    \
    "AND (?4 IS NULL OR model_sent_name = ?4 OR model_served_name = ?4) "                          \
    "AND stated_cost_nano_usd IS NULL AND grade_name <> 'none' AND end_reason_name <> 'crash' "
#define TOKENS 11 // the first column of tokens, in the order of enum ch_token_class
#define PARTS  (TOKENS + CH_TOKEN_CLASSES + 1) // behind searches, in that of enum ch_token_part
#define UNITS  (PARTS + CH_TOKEN_PARTS)
#define COST   (UNITS + 7)

static enum ch_err read_counted(struct sqlite3_stmt *stmt, struct ch_usage_counted *row,
                                struct ch_why *why)
{
    *row = (struct ch_usage_counted){
        .id = ch_db_int(stmt, 0),
        .started_at_ms = ch_db_int(stmt, 1),
        .provider_id = ch_db_int(stmt, 2),
        .base_url = ch_db_text(stmt, 4),
        .model_sent = ch_db_text(stmt, 5),
        .model_served = ch_db_text(stmt, 6),
        .usage = {.tier = ch_tier_parse(ch_db_text(stmt, 7)),
                  .us_region = ch_db_int(stmt, 8) != 0,
                  .eu_region = ch_db_int(stmt, 9) != 0,
                  .is_fast = ch_db_int(stmt, 10) != 0,
                  .searches = ch_db_int(stmt, TOKENS + CH_TOKEN_CLASSES),
                  .audio_ms = ch_db_int(stmt, UNITS),
                  .characters = ch_db_int(stmt, UNITS + 1),
                  .images = ch_db_int(stmt, UNITS + 2),
                  .image_width = (int32_t)ch_db_int(stmt, UNITS + 3),
                  .image_height = (int32_t)ch_db_int(stmt, UNITS + 4),
                  .image_quality = ch_image_quality_parse(ch_db_text(stmt, UNITS + 5)),
                  .stated_cost_nano = -1},
        .side_cost_nano_usd = ch_db_int(stmt, UNITS + 6),
        .is_priced = !ch_db_is_null(stmt, COST),
        .cost_nano_usd = ch_db_int(stmt, COST),
        .key_id = ch_db_int(stmt, COST + 1),
        .team = ch_db_text(stmt, COST + 2),
        .project = ch_db_text(stmt, COST + 3),
    };
    for (int i = 0; i < CH_TOKEN_CLASSES; i++)
        row->usage.tokens[i] = ch_db_int(stmt, TOKENS + i);
    for (int i = 0; i < CH_TOKEN_PARTS; i++)
        row->usage.parts[i] = ch_db_int(stmt, PARTS + i);
    row->usage.threshold_tokens = ch_usage_total_input(&row->usage);
    return ch_provider_type_parse(ch_db_text(stmt, 3), &row->provider_type)
               ? ch_why_set(why, CH_ERR_CORRUPT, "the row of provider %lld is damaged",
                            (long long)row->provider_id)
               : CH_OK;
}

enum ch_err ch_usage_counted_each(struct ch_db *db, const struct ch_usage_span *span,
                                  enum ch_err (*each)(void *arg,
                                                      const struct ch_usage_counted *row),
                                  void *arg, struct ch_why *why)
{
    // Two lists that come by id, merged: the rows whose id tells their time, and the others.
    static const char sql[] =
        SELECT_ROWS "AND NOT is_astray AND usage_named.id BETWEEN ?5 AND ?6 "
                    "UNION ALL " SELECT_ROWS "AND is_astray ORDER BY 1 LIMIT ?7";
    int64_t to = span->to_ms ? span->to_ms : INT64_MAX;
    struct ch_usage_counted row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, span->from_ms);
    ch_db_bind_int(stmt, 2, to);
    ch_db_bind_int(stmt, 3, span->after_id);
    if (span->model)
        ch_db_bind_text(stmt, 4, ch_span_of(span->model));
    else
        ch_db_bind_null(stmt, 4);
    ch_db_bind_int(stmt, 5, ch_id_floor(span->from_ms));
    ch_db_bind_int(
        stmt, 6,
        ch_id_floor((to < INT64_MAX - ID_AHEAD_MS ? to : INT64_MAX - ID_AHEAD_MS) + ID_AHEAD_MS));
    ch_db_bind_int(stmt, 7, span->limit);
    while (!(err = ch_db_step(db, stmt, why))) {
        err = read_counted(stmt, &row, why);
        if (!err)
            err = each(arg, &row);
        if (err) {
            ch_db_reset(stmt);
            return err;
        }
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}
