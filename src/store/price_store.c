// SPDX-License-Identifier: Apache-2.0
#include "store/price_store.h"

#include "base/clock.h"
#include "store/db.h"

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
