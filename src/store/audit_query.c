// SPDX-License-Identifier: Apache-2.0
// The audit log's rows as JSON.
#include "audit_internal.h"

#include "base/clock.h"

#include <sodium.h>

#define OBJECT_TEXT 512 // bytes of "KIND:NAME" as it is shown

static json_t *hex_of(const unsigned char *bytes, size_t size)
{
    char text[2 * CH_AUDIT_SIGNATURE + 1];
    sodium_bin2hex(text, sizeof text, bytes, size);
    return json_string(text);
}

// A state that is no JSON any more (an edited row) is shown as the text it is.
static json_t *state_of(struct ch_span text)
{
    json_t *state = text.len ? json_loadb(text.ptr, text.len, JSON_DECODE_ANY, NULL) : NULL;
    return state ? state : json_stringn(text.ptr ? text.ptr : "", text.len);
}

static json_t *text_of(struct ch_span text)
{
    json_t *json = json_stringn(text.ptr ? text.ptr : "", text.len);
    return json ? json : json_string("\xEF\xBF\xBD"); // no UTF-8
}

static json_t *object_of(const struct ch_audit_row *row)
{
    struct ch_buf text;
    ch_buf_init(&text, OBJECT_TEXT);
    enum ch_err err = ch_buf_append_span(&text, row->object_kind);
    if (!err && row->object.len)
        err = ch_buf_append(&text, ":", 1);
    if (!err)
        err = ch_buf_append_span(&text, row->object);
    json_t *json = err ? NULL : text_of(ch_buf_span(&text));
    ch_buf_fini(&text);
    return json;
}

static json_t *row_to_json(const struct ch_audit_row *row)
{
    char at[25];
    ch_clock_format_utc(row->at_ms, at);
    return json_pack("{s:I, s:s, s:I, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "seq", (json_int_t)row->seq, "at", at, "at_ms", (json_int_t)row->at_ms,
                     "actor", text_of(row->actor), "uid", (json_int_t)row->uid, "action",
                     text_of(row->action), "object", object_of(row), "object_kind",
                     text_of(row->object_kind), "object_name", text_of(row->object), "before",
                     state_of(row->before), "after", state_of(row->after), "reason",
                     text_of(row->reason), "prev", hex_of(row->prev, sizeof row->prev), "hash",
                     hex_of(row->hash, sizeof row->hash), "signature",
                     hex_of(row->signature, sizeof row->signature));
}

struct list_job {
    const struct ch_audit_filter *filter;
    json_t *items;
};

#define WANTED                                                                                     \
    "(?1 = '' OR actor = ?1) AND (?2 = '' OR action = ?2 OR "                                      \
    "substr(action, 1, length(?2) + 1) = ?2 || '.') AND "                                          \
    "(?3 = '' OR object = ?3 OR object_kind || ':' || object = ?3) AND "                           \
    "(?4 = 0 OR at_ms >= ?4) AND (?5 = 0 OR at_ms < ?5) "

static enum ch_err list_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    static const char newest[] = "SELECT " CH_AUDIT_COLUMNS " FROM audit WHERE " WANTED
                                 "AND ?6 < 0 ORDER BY seq DESC LIMIT ?7";
    static const char oldest[] =
        "SELECT " CH_AUDIT_COLUMNS " FROM audit WHERE " WANTED "AND seq > ?6 ORDER BY seq LIMIT ?7";
    const struct list_job *job = arg;
    const struct ch_audit_filter *filter = job->filter;
    struct ch_audit_row row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, filter->after < 0 ? newest : oldest, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(filter->actor));
    ch_db_bind_text(stmt, 2, ch_span_of(filter->action));
    ch_db_bind_text(stmt, 3, ch_span_of(filter->object));
    ch_db_bind_int(stmt, 4, filter->from_ms);
    ch_db_bind_int(stmt, 5, filter->to_ms);
    ch_db_bind_int(stmt, 6, filter->after);
    ch_db_bind_int(stmt, 7, filter->limit);
    while (!(err = ch_db_step(db, stmt, why))) {
        (void)ch_audit_row_read(stmt, &row); // a damaged row is shown; `audit verify` names it
        if (json_array_append_new(job->items, row_to_json(&row))) {
            ch_db_reset(stmt);
            return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
        }
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

enum ch_err ch_audit_list(struct ch_store *store, const struct ch_audit_filter *filter,
                          json_t *items, struct ch_why *why)
{
    struct list_job job = {filter, items};
    return ch_store_read(store, list_in_store, &job, why);
}
