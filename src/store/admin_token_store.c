// SPDX-License-Identifier: Apache-2.0
#include "store/admin_token_store.h"

#include "base/clock.h"
#include "store/db.h"

#define COLUMNS "name, role, team, salt, hash, created_at_ms, expires_at_ms, revoked_at_ms"

static bool copy_blob(struct sqlite3_stmt *stmt, int column, unsigned char *out, size_t size)
{
    struct ch_span bytes = ch_db_blob(stmt, column);
    if (bytes.len != size)
        return false;
    memcpy(out, bytes.ptr, size);
    return true;
}

static enum ch_err read_row(struct sqlite3_stmt *stmt, struct ch_admin_token_row *row,
                            struct ch_why *why)
{
    *row = (struct ch_admin_token_row){
        .created_at_ms = ch_db_int(stmt, 5),
        .expires_at_ms = ch_db_int(stmt, 6),
        .revoked_at_ms = ch_db_int(stmt, 7),
    };
    bool is_whole = ch_db_copy_text(stmt, 0, row->name, sizeof row->name) &&
                    !ch_admin_role_parse(ch_db_text(stmt, 1), &row->role) &&
                    ch_db_copy_text(stmt, 2, row->team, sizeof row->team) &&
                    copy_blob(stmt, 3, row->salt, sizeof row->salt) &&
                    copy_blob(stmt, 4, row->hash, sizeof row->hash);
    return is_whole ? CH_OK : ch_why_set(why, CH_ERR_CORRUPT, "an admin token's row is damaged");
}

static void hash_token(const struct ch_admin_token_row *row, const struct ch_secret *pepper,
                       struct ch_span token, unsigned char hash_out[CH_ADMIN_TOKEN_HASH])
{
    const struct ch_admin_token_rights rights = {
        .role = row->role, .team = row->team, .expires_at_ms = row->expires_at_ms};
    ch_admin_token_hash((const unsigned char *)ch_secret_reveal(pepper).ptr, row->salt, &rights,
                        token, hash_out);
}

bool ch_admin_token_fits(const struct ch_admin_token_row *row, const struct ch_secret *pepper,
                         struct ch_span token)
{
    unsigned char hash[CH_ADMIN_TOKEN_HASH];
    hash_token(row, pepper, token, hash);
    bool is_equal = ch_secret_equal(hash, row->hash, sizeof hash);
    ch_wipe(hash, sizeof hash);
    return is_equal;
}

static enum ch_err insert(struct ch_db *db, const struct ch_admin_token_row *row,
                          struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO admin_tokens (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, 0)";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(row->name));
    ch_db_bind_text(stmt, 2, ch_span_of(ch_admin_role_name(row->role)));
    ch_db_bind_text(stmt, 3, ch_span_of(row->team));
    ch_db_bind_blob(stmt, 4, (struct ch_span){(const char *)row->salt, sizeof row->salt});
    ch_db_bind_blob(stmt, 5, (struct ch_span){(const char *)row->hash, sizeof row->hash});
    ch_db_bind_int(stmt, 6, row->created_at_ms);
    ch_db_bind_int(stmt, 7, row->expires_at_ms);
    err = ch_db_run(db, stmt, why);
    return err == CH_ERR_CONFLICT ? ch_why_set(why, err,
                                               "an admin token is or was called %s; names of "
                                               "tokens are not used twice",
                                               row->name)
                                  : err;
}

enum ch_err ch_admin_token_create(struct ch_db *db, const struct ch_secret *pepper,
                                  struct ch_admin_token_row *row,
                                  char token_out[CH_ADMIN_TOKEN_MAX + 1], struct ch_why *why)
{
    if (ch_admin_token_mint(ch_span_of(row->name), token_out))
        return ch_why_set(why, CH_ERR_INVALID,
                          "a name has 1 to %d letters, digits, dots, hyphens or underscores",
                          CH_NAME_MAX);
    row->created_at_ms = ch_clock_wall_ms();
    row->revoked_at_ms = 0;
    ch_random(row->salt, sizeof row->salt);
    hash_token(row, pepper, ch_span_of(token_out), row->hash);
    return insert(db, row, why);
}

enum ch_err ch_admin_token_get(struct ch_db *db, struct ch_span name,
                               struct ch_admin_token_row *row_out, struct ch_why *why)
{
    static const char sql[] = "SELECT " COLUMNS " FROM admin_tokens WHERE name = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, name);
    err = ch_db_step(db, stmt, why);
    if (err == CH_ERR_NOT_FOUND)
        return ch_why_set(why, err, "there is no admin token %.*s", CH_SPAN_ARG(name));
    if (err)
        return err;
    err = read_row(stmt, row_out, why);
    ch_db_reset(stmt);
    return err;
}

enum ch_err ch_admin_token_each(struct ch_db *db,
                                enum ch_err (*each)(void *arg,
                                                    const struct ch_admin_token_row *row),
                                void *arg, struct ch_why *why)
{
    static const char sql[] = "SELECT " COLUMNS " FROM admin_tokens ORDER BY name";
    struct ch_admin_token_row row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    while (!(err = ch_db_step(db, stmt, why))) {
        err = read_row(stmt, &row, why);
        if (!err)
            err = each(arg, &row);
        if (err) {
            ch_db_reset(stmt);
            return err;
        }
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

enum ch_err ch_admin_token_revoke(struct ch_db *db, const char *name,
                                  struct ch_admin_token_row *row_out, struct ch_why *why)
{
    static const char sql[] =
        "UPDATE admin_tokens SET revoked_at_ms = ? WHERE name = ? AND revoked_at_ms = 0";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, ch_clock_wall_ms());
    ch_db_bind_text(stmt, 2, ch_span_of(name));
    err = ch_db_run(db, stmt, why);
    return err ? err : ch_admin_token_get(db, ch_span_of(name), row_out, why);
}
