// SPDX-License-Identifier: Apache-2.0
#include "vault_values.h"

#include "base/secret.h"

#define KEY_VERSION_FIRST 1
#define KIND_MAX          32 // bytes of a kind
#define VALUES_MAX        16 // rows; the program makes three

// The version stands in the row and in the MAC: an edited one does not open.
static struct ch_vault_binding binding_of(struct ch_span kind, int64_t key_version)
{
    return (struct ch_vault_binding){.kind = kind, .key_version = key_version};
}

enum ch_err ch_vault_value_put(struct ch_db *db, const struct ch_vault *vault, struct ch_span kind,
                               struct ch_span plain, struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO vault_values (kind, key_version, sealed) VALUES (?, ?, ?)";
    struct ch_vault_binding binding = binding_of(kind, KEY_VERSION_FIRST);
    struct sqlite3_stmt *stmt;
    struct ch_buf sealed;
    ch_buf_init(&sealed, CH_VAULT_SEALED_MAX);
    enum ch_err err = ch_vault_seal(vault, &binding, plain, &sealed);
    if (err)
        ch_why_set(why, err, "the vault could not seal");
    else
        err = ch_db_prepare(db, sql, &stmt, why);
    if (!err) {
        ch_db_bind_text(stmt, 1, kind);
        ch_db_bind_int(stmt, 2, binding.key_version);
        ch_db_bind_blob(stmt, 3, ch_buf_span(&sealed));
        err = ch_db_run(db, stmt, why);
    }
    ch_buf_fini(&sealed);
    return err;
}

static enum ch_err find(struct ch_db *db, struct ch_span kind, struct sqlite3_stmt **stmt_out,
                        struct ch_why *why)
{
    static const char sql[] = "SELECT key_version, sealed FROM vault_values WHERE kind = ?";
    enum ch_err err = ch_db_prepare(db, sql, stmt_out, why);
    if (err)
        return err;
    ch_db_bind_text(*stmt_out, 1, kind);
    return ch_db_step(db, *stmt_out, why);
}

enum ch_err ch_vault_value_open(struct ch_db *db, struct ch_vault_reader *reader,
                                struct ch_span kind, unsigned char plain_out[CH_VAULT_PLAIN_MAX],
                                size_t *size_out, struct ch_why *why)
{
    struct sqlite3_stmt *stmt;
    enum ch_err err = find(db, kind, &stmt, why);
    if (err)
        return err;
    struct ch_vault_binding binding = binding_of(kind, ch_db_int(stmt, 0));
    err = ch_vault_open(reader, &binding, ch_db_blob(stmt, 1), plain_out, size_out);
    ch_db_reset(stmt);
    return err;
}

enum ch_err ch_vault_value_fingerprint(struct ch_db *db, struct ch_span kind,
                                       char out[CH_VAULT_FINGERPRINT + 1], struct ch_why *why)
{
    struct sqlite3_stmt *stmt;
    enum ch_err err = find(db, kind, &stmt, why);
    if (err)
        return err;
    if (!ch_vault_sealed_fingerprint(ch_db_blob(stmt, 1), out))
        err = CH_ERR_CORRUPT;
    ch_db_reset(stmt);
    return err;
}

// ---- sealing anew

struct value {
    char kind[KIND_MAX + 1];
    int64_t key_version;
};

static enum ch_err list_values(struct ch_db *db, struct value values[VALUES_MAX],
                               unsigned *count_out, struct ch_why *why)
{
    static const char sql[] = "SELECT kind, key_version FROM vault_values";
    struct sqlite3_stmt *stmt;
    unsigned count = 0;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    while (!(err = ch_db_step(db, stmt, why))) {
        if (count == VALUES_MAX ||
            !ch_db_copy_text(stmt, 0, values[count].kind, sizeof values[count].kind)) {
            ch_db_reset(stmt);
            return ch_why_set(why, CH_ERR_CORRUPT, "vault_values holds rows of another hand");
        }
        values[count++].key_version = ch_db_int(stmt, 1);
    }
    *count_out = count;
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

static enum ch_err replace(struct ch_db *db, const struct ch_vault *vault,
                           const struct value *value, struct ch_span plain, struct ch_why *why)
{
    static const char sql[] = "UPDATE vault_values SET key_version = ?, sealed = ? WHERE kind = ?";
    struct ch_span kind = ch_span_of(value->kind);
    struct ch_vault_binding binding = binding_of(kind, value->key_version + 1);
    struct sqlite3_stmt *stmt;
    struct ch_buf sealed;
    ch_buf_init(&sealed, CH_VAULT_SEALED_MAX);
    enum ch_err err = ch_vault_seal(vault, &binding, plain, &sealed);
    if (err)
        ch_why_set(why, err, "the vault could not seal");
    else
        err = ch_db_prepare(db, sql, &stmt, why);
    if (!err) {
        ch_db_bind_int(stmt, 1, binding.key_version);
        ch_db_bind_blob(stmt, 2, ch_buf_span(&sealed));
        ch_db_bind_text(stmt, 3, kind);
        err = ch_db_run(db, stmt, why);
    }
    ch_buf_fini(&sealed);
    return err;
}

enum ch_err ch_vault_values_reseal(struct ch_db *db, struct ch_vault_reader *reader,
                                   const struct ch_vault *vault, struct ch_why *why)
{
    struct value values[VALUES_MAX];
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    unsigned count = 0;
    size_t size = 0;
    enum ch_err err = list_values(db, values, &count, why);
    for (unsigned i = 0; !err && i < count; i++) {
        struct ch_span kind = ch_span_of(values[i].kind);
        err = ch_vault_value_open(db, reader, kind, plain, &size, why);
        if (err == CH_ERR_CORRUPT)
            ch_why_set(why, err, "the sealed value '%s' does not open: nothing was changed",
                       values[i].kind);
        if (!err)
            err = replace(db, vault, &values[i], (struct ch_span){(const char *)plain, size}, why);
    }
    ch_wipe(plain, sizeof plain);
    return err;
}
