// SPDX-License-Identifier: Apache-2.0
#include "key_policy.h"

#include "store/limit_store.h"

static const char *const abort_names[] = {
    [CH_ON_CLIENT_ABORT_CANCEL] = "cancel",
    [CH_ON_CLIENT_ABORT_DRAIN] = "drain",
};

const char *ch_on_client_abort_name(enum ch_on_client_abort choice)
{
    return abort_names[choice];
}

enum ch_err ch_on_client_abort_parse(struct ch_span name, enum ch_on_client_abort *out)
{
    const size_t count = sizeof abort_names / sizeof *abort_names;
    size_t i = ch_span_place(name, abort_names, count);
    if (i == count)
        return CH_ERR_INVALID;
    *out = (enum ch_on_client_abort)i;
    return CH_OK;
}

// ---- checks

// No C0, DEL or C1 (which UTF-8 writes as C2 80 to C2 9F): labels are printed on terminals.
static bool has_control(const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at; at++)
        if (*at < 0x20 || *at == 0x7F || (at[0] == 0xC2 && at[1] >= 0x80 && at[1] <= 0x9F))
            return true;
    return false;
}

static bool is_budget_status(int status)
{
    return status == 0 || status == 402 || status == 403 || status == 429;
}

enum ch_err ch_key_policy_check(const struct ch_key_row *row, struct ch_why *why)
{
    if (has_control(row->label))
        return ch_why_set(why, CH_ERR_INVALID, "a label has no control characters");
    if (!is_budget_status(row->budget_status))
        return ch_why_set(why, CH_ERR_INVALID,
                          "a refusal by a budget has the status 402, 403 or 429, not %d",
                          row->budget_status);
    enum ch_err err = ch_unknown_model_check(&row->unknown_model, why);
    return err ? err : ch_limits_check(&row->limits, why);
}

// ---- reading

#define COLUMNS                                                                                    \
    "key_id, label, deny_models, model_map, models_shadow, unknown_model, "                        \
    "ceiling_input_nano_usd, ceiling_output_nano_usd, allow_cidrs, on_client_abort, "              \
    "budget_status, rpm, tpm, concurrency, limits_shadow, previous_salt, previous_hash, "          \
    "previous_expires_at_ms"

// Each field rather than the whole struct, which is 10 KiB.
static void clear(struct ch_key_row *row)
{
    row->label[0] = row->deny_models[0] = row->model_map[0] = row->allow_cidrs[0] = '\0';
    row->models_shadow = row->limits_shadow = false;
    row->unknown_model = (struct ch_unknown_model_rule){.choice = CH_UNKNOWN_MODEL_DEFAULT};
    row->on_client_abort = CH_ON_CLIENT_ABORT_CANCEL;
    row->budget_status = 0;
    row->limits = (struct ch_rate_limits){{0}};
    row->previous_expires_at_ms = 0;
    memset(row->previous_salt, 0, sizeof row->previous_salt);
    memset(row->previous_hash, 0, sizeof row->previous_hash);
}

static bool copy_previous(struct sqlite3_stmt *stmt, struct ch_key_row *row)
{
    struct ch_span salt = ch_db_blob(stmt, 15), hash = ch_db_blob(stmt, 16);
    if (!row->previous_expires_at_ms)
        return true;
    if (salt.len != sizeof row->previous_salt || hash.len != sizeof row->previous_hash)
        return false;
    memcpy(row->previous_salt, salt.ptr, salt.len);
    memcpy(row->previous_hash, hash.ptr, hash.len);
    return true;
}

#define COPY_TEXT(stmt, column, field) ch_db_copy_text(stmt, column, field, sizeof(field))

static enum ch_err read_policy(struct sqlite3_stmt *stmt, struct ch_key_row *row,
                               struct ch_why *why)
{
    clear(row);
    row->models_shadow = ch_db_int(stmt, 4) != 0;
    row->unknown_model.input_nano_usd = ch_db_int(stmt, 6);
    row->unknown_model.output_nano_usd = ch_db_int(stmt, 7);
    row->budget_status = (int)ch_db_int(stmt, 10);
    row->limits.limit[CH_RATE_REQUESTS] = ch_db_int(stmt, 11);
    row->limits.limit[CH_RATE_TOKENS] = ch_db_int(stmt, 12);
    row->limits.limit[CH_RATE_IN_FLIGHT] = ch_db_int(stmt, 13);
    row->limits_shadow = ch_db_int(stmt, 14) != 0;
    row->previous_expires_at_ms = ch_db_int(stmt, 17);
    if (COPY_TEXT(stmt, 1, row->label) && COPY_TEXT(stmt, 2, row->deny_models) &&
        COPY_TEXT(stmt, 3, row->model_map) && COPY_TEXT(stmt, 8, row->allow_cidrs) &&
        !ch_unknown_model_parse(ch_db_text(stmt, 5), &row->unknown_model.choice) &&
        !ch_on_client_abort_parse(ch_db_text(stmt, 9), &row->on_client_abort) &&
        copy_previous(stmt, row))
        return CH_OK;
    return ch_why_set(why, CH_ERR_CORRUPT, "the policy of key %lld is damaged", (long long)row->id);
}

enum ch_err ch_key_policy_get(struct ch_db *db, struct ch_key_row *row, struct ch_why *why)
{
    static const char sql[] = "SELECT " COLUMNS " FROM key_policies WHERE key_id = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, row->id);
    err = ch_db_step(db, stmt, why);
    if (err == CH_ERR_NOT_FOUND) {
        clear(row);
        return CH_OK;
    }
    if (err)
        return err;
    err = read_policy(stmt, row, why);
    ch_db_reset(stmt);
    return err;
}

// ---- the walk

static enum ch_err advance(struct ch_db *db, struct ch_key_policy_walk *walk, struct ch_why *why)
{
    enum ch_err err = ch_db_step(db, walk->stmt, why);
    walk->has_row = !err;
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

enum ch_err ch_key_policy_start(struct ch_db *db, struct ch_key_policy_walk *walk,
                                struct ch_why *why)
{
    static const char sql[] = "SELECT " COLUMNS " FROM key_policies ORDER BY key_id";
    enum ch_err err = ch_db_prepare(db, sql, &walk->stmt, why);
    return err ? err : advance(db, walk, why);
}

enum ch_err ch_key_policy_next(struct ch_db *db, struct ch_key_policy_walk *walk,
                               struct ch_key_row *row, struct ch_why *why)
{
    enum ch_err err = CH_OK;
    while (!err && walk->has_row && ch_db_int(walk->stmt, 0) < row->id)
        err = advance(db, walk, why);
    if (err)
        return err;
    if (walk->has_row && ch_db_int(walk->stmt, 0) == row->id)
        return read_policy(walk->stmt, row, why);
    clear(row);
    return CH_OK;
}

void ch_key_policy_stop(struct ch_key_policy_walk *walk)
{
    ch_db_reset(walk->stmt);
}

// ---- writing

static bool is_default(const struct ch_key_row *row)
{
    bool is_limited = false;
    for (unsigned kind = 0; kind < CH_RATE_KINDS; kind++)
        is_limited |= row->limits.limit[kind] != 0;
    return !*row->label && !*row->deny_models && !*row->model_map && !*row->allow_cidrs &&
           !row->models_shadow && !row->limits_shadow && !is_limited && !row->budget_status &&
           row->unknown_model.choice == CH_UNKNOWN_MODEL_DEFAULT &&
           !row->unknown_model.input_nano_usd && !row->unknown_model.output_nano_usd &&
           row->on_client_abort == CH_ON_CLIENT_ABORT_CANCEL && !row->previous_expires_at_ms;
}

static enum ch_err delete_policy(struct ch_db *db, int64_t key_id, struct ch_why *why)
{
    static const char sql[] = "DELETE FROM key_policies WHERE key_id = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, key_id);
    return ch_db_run(db, stmt, why);
}

enum ch_err ch_key_policy_put(struct ch_db *db, const struct ch_key_row *row, struct ch_why *why)
{
    static const char sql[] = "INSERT OR REPLACE INTO key_policies (" COLUMNS
                              ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    if (is_default(row))
        return delete_policy(db, row->id, why);
    struct ch_span salt = {(const char *)row->previous_salt, sizeof row->previous_salt};
    struct ch_span hash = {(const char *)row->previous_hash, sizeof row->previous_hash};
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, row->id);
    ch_db_bind_text(stmt, 2, ch_span_of(row->label));
    ch_db_bind_text(stmt, 3, ch_span_of(row->deny_models));
    ch_db_bind_text(stmt, 4, ch_span_of(row->model_map));
    ch_db_bind_int(stmt, 5, row->models_shadow);
    ch_db_bind_text(stmt, 6, ch_span_of(ch_unknown_model_name(row->unknown_model.choice)));
    ch_db_bind_int(stmt, 7, row->unknown_model.input_nano_usd);
    ch_db_bind_int(stmt, 8, row->unknown_model.output_nano_usd);
    ch_db_bind_text(stmt, 9, ch_span_of(row->allow_cidrs));
    ch_db_bind_text(stmt, 10, ch_span_of(ch_on_client_abort_name(row->on_client_abort)));
    ch_db_bind_int(stmt, 11, row->budget_status);
    ch_db_bind_int(stmt, 12, row->limits.limit[CH_RATE_REQUESTS]);
    ch_db_bind_int(stmt, 13, row->limits.limit[CH_RATE_TOKENS]);
    ch_db_bind_int(stmt, 14, row->limits.limit[CH_RATE_IN_FLIGHT]);
    ch_db_bind_int(stmt, 15, row->limits_shadow);
    ch_db_bind_blob(stmt, 16, row->previous_expires_at_ms ? salt : CH_SPAN(""));
    ch_db_bind_blob(stmt, 17, row->previous_expires_at_ms ? hash : CH_SPAN(""));
    ch_db_bind_int(stmt, 18, row->previous_expires_at_ms);
    return ch_db_run(db, stmt, why);
}
