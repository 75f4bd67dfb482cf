// SPDX-License-Identifier: Apache-2.0
#include "store/key_store.h"

#include "base/clock.h"
#include "store/db.h"

static const char *const status_names[] = {
    [CH_KEY_ACTIVE] = "active",
    [CH_KEY_DISABLED] = "disabled",
    [CH_KEY_REVOKED] = "revoked",
};

const char *ch_key_status_name(enum ch_key_status status)
{
    return status_names[status];
}

static bool parse_status(struct ch_span name, enum ch_key_status *status_out)
{
    for (enum ch_key_status status = CH_KEY_ACTIVE; status <= CH_KEY_REVOKED; status++)
        if (ch_span_eq(name, ch_span_of(status_names[status]))) {
            *status_out = status;
            return true;
        }
    return false;
}

// A key comes as one row per provider, in the order of preference; a key without providers as one
// row whose last two columns are NULL. Deleted providers are left out.
#define SELECT_KEYS                                                                                \
    "SELECT k.id, k.public_id, k.name, k.slug, k.salt, k.hash, k.status, k.revoke_reason, "        \
    "k.expires_at_ms, k.models, k.attribution_id, a.team, a.project, a.env, a.service, a.tags, "   \
    "k.created_at_ms, k.updated_at_ms, p.id, p.name "                                              \
    "FROM wrapped_keys k CROSS JOIN attributions a ON a.id = k.attribution_id "                    \
    "LEFT JOIN key_providers kp ON kp.key_id = k.id "                                              \
    "LEFT JOIN providers p ON p.id = kp.provider_id AND p.deleted_at_ms IS NULL "

static bool copy_bytes(struct sqlite3_stmt *stmt, int column, unsigned char *out, size_t size)
{
    struct ch_span bytes = ch_db_blob(stmt, column);
    if (bytes.len != size)
        return false;
    memcpy(out, bytes.ptr, size);
    return true;
}

#define COPY_TEXT(stmt, column, field) ch_db_copy_text(stmt, column, field, sizeof(field))

// Fills everything but the providers. Writes each field rather than the whole struct, which is 4
// KiB.
static enum ch_err read_key(struct sqlite3_stmt *stmt, struct ch_key_row *row, struct ch_why *why)
{
    row->id = ch_db_int(stmt, 0);
    row->expires_at_ms = ch_db_int(stmt, 8);
    row->attribution_id = ch_db_int(stmt, 10);
    row->created_at_ms = ch_db_int(stmt, 16);
    row->updated_at_ms = ch_db_int(stmt, 17);
    row->provider_count = 0;
    if (COPY_TEXT(stmt, 1, row->public_id) && COPY_TEXT(stmt, 2, row->name) &&
        COPY_TEXT(stmt, 3, row->slug) && copy_bytes(stmt, 4, row->salt, sizeof row->salt) &&
        copy_bytes(stmt, 5, row->hash, sizeof row->hash) &&
        parse_status(ch_db_text(stmt, 6), &row->status) && COPY_TEXT(stmt, 7, row->revoke_reason) &&
        COPY_TEXT(stmt, 9, row->models) && COPY_TEXT(stmt, 11, row->team) &&
        COPY_TEXT(stmt, 12, row->project) && COPY_TEXT(stmt, 13, row->env) &&
        COPY_TEXT(stmt, 14, row->service) && COPY_TEXT(stmt, 15, row->tags))
        return CH_OK;
    return ch_why_set(why, CH_ERR_CORRUPT, "the row of key %lld is damaged", (long long)row->id);
}

static enum ch_err read_provider(struct sqlite3_stmt *stmt, struct ch_key_row *row,
                                 struct ch_why *why)
{
    if (ch_db_is_null(stmt, 18))
        return CH_OK;
    unsigned i = row->provider_count;
    if (i == CH_KEY_PROVIDERS_MAX || !COPY_TEXT(stmt, 19, row->provider_names[i]))
        return ch_why_set(why, CH_ERR_CORRUPT, "the providers of key %lld are damaged",
                          (long long)row->id);
    row->provider_ids[i] = ch_db_int(stmt, 18);
    row->provider_count++;
    return CH_OK;
}

// Reads the rows of one key; the first stands ready. On CH_OK the next key's first row stands
// ready; CH_ERR_NOT_FOUND: this key is complete and was the last.
static enum ch_err read_rows(struct ch_db *db, struct sqlite3_stmt *stmt, struct ch_key_row *row,
                             struct ch_why *why)
{
    enum ch_err err = read_key(stmt, row, why);
    while (!err && ch_db_int(stmt, 0) == row->id) {
        err = read_provider(stmt, row, why);
        if (!err)
            err = ch_db_step(db, stmt, why);
    }
    return err;
}

static enum ch_err get(struct ch_db *db, const char *sql, struct ch_span value,
                       struct ch_key_row *row_out, struct ch_why *why)
{
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, value);
    err = ch_db_step(db, stmt, why);
    if (err)
        return err;
    err = read_rows(db, stmt, row_out, why);
    ch_db_reset(stmt);
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

enum ch_err ch_key_get(struct ch_db *db, const char *name, struct ch_key_row *row_out,
                       struct ch_why *why)
{
    static const char sql[] = SELECT_KEYS "WHERE k.name = ? ORDER BY kp.position";
    enum ch_err err = get(db, sql, ch_span_of(name), row_out, why);
    return err == CH_ERR_NOT_FOUND ? ch_why_set(why, err, "there is no key named %s", name) : err;
}

enum ch_err ch_key_get_by_public_id(struct ch_db *db, struct ch_span public_id,
                                    struct ch_key_row *row_out, struct ch_why *why)
{
    static const char sql[] = SELECT_KEYS "WHERE k.public_id = ? ORDER BY kp.position";
    enum ch_err err = get(db, sql, public_id, row_out, why);
    return err == CH_ERR_NOT_FOUND ? ch_why_set(why, err, "there is no key with this id") : err;
}

enum ch_err ch_key_each(struct ch_db *db,
                        enum ch_err (*each)(void *arg, const struct ch_key_row *row), void *arg,
                        struct ch_why *why)
{
    static const char sql[] = SELECT_KEYS "ORDER BY k.id, kp.position";
    struct ch_key_row row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    err = ch_db_step(db, stmt, why);
    while (!err) {
        err = read_rows(db, stmt, &row, why);
        bool is_last = err == CH_ERR_NOT_FOUND;
        if (!err || is_last)
            err = each(arg, &row);
        if (is_last)
            return err;
    }
    ch_db_reset(stmt);
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

static enum ch_err find_providers(struct ch_db *db, struct ch_key_row *row, struct ch_why *why)
{
    struct ch_provider_row provider;
    enum ch_err err = CH_OK;
    if (row->provider_count > CH_KEY_PROVIDERS_MAX)
        return ch_why_set(why, CH_ERR_LIMIT, "a key has at most %d providers",
                          CH_KEY_PROVIDERS_MAX);
    for (unsigned i = 0; !err && i < row->provider_count; i++) {
        err = ch_provider_get(db, row->provider_names[i], &provider, why);
        if (!err)
            row->provider_ids[i] = provider.id;
    }
    return err;
}

static void bind_attribution(struct sqlite3_stmt *stmt, const struct ch_key_row *row)
{
    ch_db_bind_text(stmt, 1, ch_span_of(row->team));
    ch_db_bind_text(stmt, 2, ch_span_of(row->project));
    ch_db_bind_text(stmt, 3, ch_span_of(row->env));
    ch_db_bind_text(stmt, 4, ch_span_of(row->service));
    ch_db_bind_text(stmt, 5, ch_span_of(row->tags));
}

static enum ch_err find_attribution(struct ch_db *db, struct ch_key_row *row, struct ch_why *why)
{
    static const char insert[] = "INSERT OR IGNORE INTO attributions "
                                 "(team, project, env, service, tags) VALUES (?, ?, ?, ?, ?)";
    static const char find[] = "SELECT id FROM attributions WHERE team = ? AND project = ? "
                               "AND env = ? AND service = ? AND tags = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, insert, &stmt, why);
    if (err)
        return err;
    bind_attribution(stmt, row);
    err = ch_db_run(db, stmt, why);
    if (err || (err = ch_db_prepare(db, find, &stmt, why)))
        return err;
    bind_attribution(stmt, row);
    err = ch_db_step(db, stmt, why);
    if (err)
        return err;
    row->attribution_id = ch_db_int(stmt, 0);
    ch_db_reset(stmt);
    return CH_OK;
}

static enum ch_err insert_key(struct ch_db *db, struct ch_key_row *row, struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO wrapped_keys (public_id, name, slug, salt, hash, status, revoke_reason, "
        "expires_at_ms, models, attribution_id, created_at_ms, updated_at_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(row->public_id));
    ch_db_bind_text(stmt, 2, ch_span_of(row->name));
    ch_db_bind_text(stmt, 3, ch_span_of(row->slug));
    ch_db_bind_blob(stmt, 4, (struct ch_span){(const char *)row->salt, sizeof row->salt});
    ch_db_bind_blob(stmt, 5, (struct ch_span){(const char *)row->hash, sizeof row->hash});
    ch_db_bind_text(stmt, 6, ch_span_of(ch_key_status_name(row->status)));
    ch_db_bind_text(stmt, 7, ch_span_of(row->revoke_reason));
    ch_db_bind_int(stmt, 8, row->expires_at_ms);
    ch_db_bind_text(stmt, 9, ch_span_of(row->models));
    ch_db_bind_int(stmt, 10, row->attribution_id);
    ch_db_bind_int(stmt, 11, row->created_at_ms);
    ch_db_bind_int(stmt, 12, row->updated_at_ms);
    err = ch_db_run(db, stmt, why);
    if (err == CH_ERR_CONFLICT)
        return ch_why_set(why, err, "a key named %s exists already", row->name);
    row->id = ch_db_last_id(db);
    return err;
}

static enum ch_err insert_providers(struct ch_db *db, const struct ch_key_row *row,
                                    struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO key_providers (key_id, position, provider_id) VALUES (?, ?, ?)";
    struct sqlite3_stmt *stmt;
    enum ch_err err = CH_OK;
    for (unsigned i = 0; !err && i < row->provider_count; i++) {
        err = ch_db_prepare(db, sql, &stmt, why);
        if (err)
            return err;
        ch_db_bind_int(stmt, 1, row->id);
        ch_db_bind_int(stmt, 2, i);
        ch_db_bind_int(stmt, 3, row->provider_ids[i]);
        err = ch_db_run(db, stmt, why);
    }
    return err;
}

static enum ch_err mint(const struct ch_secret *pepper, struct ch_key_row *row,
                        char token_out[CH_WRAPPED_KEY_MAX + 1])
{
    struct ch_wrapped_key parts;
    ch_wrapped_key_slug(ch_span_of(row->name), row->slug);
    enum ch_err err = ch_wrapped_key_mint(ch_span_of(row->slug), token_out);
    if (!err)
        err = ch_wrapped_key_parse(ch_span_of(token_out), &parts);
    if (err)
        return err;
    ch_span_copy(parts.id, row->public_id, sizeof row->public_id);
    ch_random(row->salt, sizeof row->salt);
    ch_wrapped_key_hash((const unsigned char *)ch_secret_reveal(pepper).ptr, row->salt,
                        ch_span_of(token_out), row->hash);
    return CH_OK;
}

enum ch_err ch_key_create(struct ch_db *db, const struct ch_secret *pepper, struct ch_key_row *row,
                          char token_out[CH_WRAPPED_KEY_MAX + 1], struct ch_why *why)
{
    if (!ch_name_is_valid(ch_span_of(row->name)))
        return ch_why_set(why, CH_ERR_INVALID,
                          "a name has 1 to %d letters, digits, dots, hyphens or underscores",
                          CH_NAME_MAX);
    row->status = CH_KEY_ACTIVE;
    row->revoke_reason[0] = '\0';
    row->created_at_ms = row->updated_at_ms = ch_clock_wall_ms();
    enum ch_err err = find_providers(db, row, why);
    if (!err)
        err = find_attribution(db, row, why);
    if (!err && (err = mint(pepper, row, token_out)))
        ch_why_set(why, err, "a token for %s could not be made", row->name);
    if (!err)
        err = insert_key(db, row, why);
    if (!err)
        err = insert_providers(db, row, why);
    if (err)
        ch_wipe(token_out, CH_WRAPPED_KEY_MAX + 1);
    return err;
}

enum ch_err ch_key_set_status(struct ch_db *db, const char *name, enum ch_key_status status,
                              const char *reason, struct ch_key_row *row_out, struct ch_why *why)
{
    static const char sql[] = "UPDATE wrapped_keys SET status = ?, revoke_reason = ?, "
                              "updated_at_ms = ? WHERE id = ?";
    struct ch_key_row row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_key_get(db, name, &row, why);
    if (err)
        return err;
    if (row.status == CH_KEY_REVOKED)
        return ch_why_set(why, CH_ERR_CONFLICT, "key %s is revoked, and that is final", name);
    err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    row.status = status;
    row.updated_at_ms = ch_clock_wall_ms();
    ch_span_copy(ch_span_of(status == CH_KEY_ACTIVE ? NULL : reason), row.revoke_reason,
                 sizeof row.revoke_reason);
    ch_db_bind_text(stmt, 1, ch_span_of(ch_key_status_name(status)));
    ch_db_bind_text(stmt, 2, ch_span_of(row.revoke_reason));
    ch_db_bind_int(stmt, 3, row.updated_at_ms);
    ch_db_bind_int(stmt, 4, row.id);
    err = ch_db_run(db, stmt, why);
    if (!err)
        *row_out = row;
    return err;
}
