// SPDX-License-Identifier: Apache-2.0
// The state of an object as the audit log writes it down: its rows, column by column, secrets as
// HMACs.
#include "audit_internal.h"

#include "store/provider_store.h"

#include "base/secret.h"

#include <sodium.h>

#define TEXT_LONG 4096 // a longer text stands as its hash
#define PARTS_MAX 4
#define MAC_SHOWN 16 // bytes of an HMAC that are written down

// One statement's rows: members of the state itself (`member` NULL, the first row), or an array.
// Every statement has one parameter, the object's name.
struct part {
    const char *member;
    const char *sql;
};

// Columns are taken as they come, so that one added later is in the log without a change here.
static const struct kind {
    const char *name;
    bool is_governed;           // see ch_audit_is_governed
    const char *unrecorded_sql; // names of such objects without a row of theirs, or NULL
    const char *shared;         // see ch_audit_is_shared; a member, or NULL
    struct part parts[PARTS_MAX];
} kinds[] = {
    {"provider",
     true,
     "SELECT name FROM providers WHERE deleted_at_ms IS NULL AND NOT EXISTS (SELECT 1 FROM audit "
     "WHERE object_kind = 'provider' AND object = providers.name)",
     NULL,
     {{NULL, "SELECT * FROM providers WHERE name = ? AND deleted_at_ms IS NULL"}}},
    {"key",
     true,
     "SELECT name FROM wrapped_keys WHERE NOT EXISTS (SELECT 1 FROM audit "
     "WHERE object_kind = 'key' AND object = wrapped_keys.name)",
     "budgets",
     {{NULL, "SELECT k.*, a.team, a.project, a.env, a.service, a.tags FROM wrapped_keys k "
             "JOIN attributions a ON a.id = k.attribution_id WHERE k.name = ?"},
      {"providers", "SELECT p.name FROM wrapped_keys k JOIN key_providers kp ON kp.key_id = k.id "
                    "JOIN providers p ON p.id = kp.provider_id WHERE k.name = ? "
                    "ORDER BY kp.position"},
      {"policy", "SELECT p.* FROM wrapped_keys k JOIN key_policies p ON p.key_id = k.id "
                 "WHERE k.name = ?"},
      {"budgets",
       "SELECT b.* FROM wrapped_keys k JOIN budgets b ON b.scope = 'key' AND b.subject_id = k.id "
       "WHERE k.name = ? ORDER BY b.period"}}},
    {"budget", // SCOPE: key:NAME team:NAME project:NAME provider:NAME all
     false,
     NULL,
     NULL,
     {{"budgets",
       "SELECT b.* FROM budgets b LEFT JOIN wrapped_keys k ON b.scope = 'key' AND k.id = "
       "b.subject_id LEFT JOIN providers p ON b.scope = 'provider' AND p.id = b.subject_id "
       "WHERE CASE b.scope WHEN 'all' THEN 'all' "
       "ELSE b.scope || ':' || coalesce(k.name, p.name, b.subject) END = ? ORDER BY b.period"}}},
    {"team", false, NULL, NULL, {{NULL, "SELECT * FROM team_limits WHERE team = ?"}}},
    {"capture", // SCOPE: key:NAME team:NAME
     false,
     NULL,
     NULL,
     {{NULL, "SELECT c.* FROM capture_scopes c LEFT JOIN wrapped_keys k ON c.scope = 'key' AND "
             "k.id = c.subject_id WHERE c.scope || ':' || coalesce(k.name, c.subject) = ?"}}},
    {"price",
     false,
     NULL,
     NULL,
     {{"overrides", "SELECT * FROM price_overrides WHERE model = ? ORDER BY id"}}},
    {"token",
     true,
     "SELECT name FROM admin_tokens WHERE NOT EXISTS (SELECT 1 FROM audit "
     "WHERE object_kind = 'token' AND object = admin_tokens.name)",
     NULL,
     {{NULL, "SELECT * FROM admin_tokens WHERE name = ?"}}},
    {"catalogue", // the one in force, whatever its name
     false,
     NULL,
     NULL,
     {{NULL, "SELECT * FROM catalogues WHERE ?1 IS NOT NULL ORDER BY id DESC LIMIT 1"}}},
    {"vault",
     false,
     NULL,
     NULL,
     {{NULL, "SELECT key_version, lower(hex(substr(sealed, 2, 8))) AS master_key "
             "FROM vault_values WHERE ?1 IS NOT NULL AND kind = 'sentinel'"}}},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static const struct kind *find_kind(struct ch_span name)
{
    for (size_t i = 0; i < KINDS; i++)
        if (ch_span_eq(name, ch_span_of(kinds[i].name)))
            return &kinds[i];
    return NULL;
}

bool ch_audit_knows(const char *object_kind)
{
    return find_kind(ch_span_of(object_kind)) != NULL;
}

bool ch_audit_is_governed(struct ch_span object_kind)
{
    const struct kind *kind = find_kind(object_kind);
    return kind && kind->is_governed;
}

bool ch_audit_is_shared(struct ch_span object_kind, const char *member)
{
    const struct kind *kind = find_kind(object_kind);
    return kind && kind->shared && strcmp(kind->shared, member) == 0;
}

// ---- one value

struct snapshot {
    struct ch_audit *audit;
    struct ch_vault_reader *reader;
    struct ch_db *db;
    struct ch_span object;
    struct ch_why *why;
};

// The column's name goes in, so that equal bytes in two columns do not look equal.
static json_t *mac_of(const struct ch_audit *audit, const char *column, struct ch_span bytes)
{
    unsigned char mac[crypto_auth_hmacsha256_BYTES];
    char text[sizeof "hmac:" + 2 * MAC_SHOWN] = "hmac:";
    crypto_auth_hmacsha256_state state;
    struct ch_span secrets = ch_secret_reveal(audit->secrets);
    const unsigned char *key = (const unsigned char *)secrets.ptr + secrets.len - CH_AUDIT_MAC_KEY;
    crypto_auth_hmacsha256_init(&state, key, CH_AUDIT_MAC_KEY);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)column, strlen(column) + 1);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)bytes.ptr, bytes.len);
    crypto_auth_hmacsha256_final(&state, mac);
    ch_wipe(&state, sizeof state);
    sodium_bin2hex(text + 5, sizeof text - 5, mac, MAC_SHOWN);
    return json_string(text);
}

static json_t *text_to_json(struct ch_span text)
{
    unsigned char hash[crypto_hash_sha256_BYTES];
    char shown[sizeof "sha256:" + 2 * sizeof hash] = "sha256:";
    json_t *json = text.len <= TEXT_LONG ? json_stringn(text.ptr ? text.ptr : "", text.len) : NULL;
    if (json)
        return json;
    // Long, or no UTF-8 (an edited row): what it is, is not needed; whether it changed, is.
    crypto_hash_sha256(hash, (const unsigned char *)text.ptr, text.len);
    sodium_bin2hex(shown + 7, sizeof shown - 7, hash, sizeof hash);
    return json_string(shown);
}

static json_t *column_to_json(const struct snapshot *snapshot, struct sqlite3_stmt *stmt,
                              int column)
{
    switch (ch_db_column_type(stmt, column)) {
    case CH_DB_NULL:
        return json_null();
    case CH_DB_INT:
        return json_integer(ch_db_int(stmt, column));
    case CH_DB_TEXT:
        return text_to_json(ch_db_text(stmt, column));
    case CH_DB_BLOB:
        return mac_of(snapshot->audit, ch_db_column_name(stmt, column), ch_db_blob(stmt, column));
    }
    return NULL;
}

// ---- rows

static json_t *row_to_json(const struct snapshot *snapshot, struct sqlite3_stmt *stmt)
{
    json_t *row = json_object();
    for (int i = 0; row && i < ch_db_columns(stmt); i++)
        if (json_object_set_new(row, ch_db_column_name(stmt, i),
                                column_to_json(snapshot, stmt, i))) {
            json_decref(row);
            return NULL;
        }
    return row;
}

// Gives the rows as an array.
static enum ch_err read_part(const struct snapshot *snapshot, const struct part *part,
                             json_t **rows_out)
{
    struct sqlite3_stmt *stmt;
    json_t *rows = json_array();
    enum ch_err err = ch_db_prepare(snapshot->db, part->sql, &stmt, snapshot->why);
    if (!err) {
        ch_db_bind_text(stmt, 1, snapshot->object);
        while (!(err = ch_db_step(snapshot->db, stmt, snapshot->why)))
            if (json_array_append_new(rows, row_to_json(snapshot, stmt))) {
                ch_db_reset(stmt);
                err = ch_why_set(snapshot->why, CH_ERR_NOMEM, "out of memory");
                break;
            }
    }
    if (err == CH_ERR_NOT_FOUND)
        err = CH_OK;
    if (err)
        json_decref(rows);
    else
        *rows_out = rows;
    return err;
}

// A sealing is random: what it holds says whether the credential changed.
static enum ch_err name_credential(const struct snapshot *snapshot, json_t *state)
{
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    char name[CH_NAME_MAX + 1];
    size_t size = 0;
    struct ch_provider_row row;
    struct ch_vault_binding binding;
    json_object_del(state, "sealed");
    enum ch_err err = ch_span_copy(snapshot->object, name, sizeof name)
                          ? ch_provider_get(snapshot->db, name, &row, snapshot->why)
                          : CH_ERR_CORRUPT;
    if (!err) {
        ch_provider_binding(&row, &binding);
        err = ch_vault_open(snapshot->reader, &binding,
                            (struct ch_span){(const char *)row.sealed, row.sealed_size}, plain,
                            &size);
    }
    if (err && err != CH_ERR_CORRUPT)
        return err;
    // A damaged one can still be disabled and deleted.
    json_t *shown =
        err ? json_string("unreadable")
            : mac_of(snapshot->audit, "credential", (struct ch_span){(const char *)plain, size});
    ch_wipe(plain, sizeof plain);
    return json_object_set_new(state, "credential", shown)
               ? ch_why_set(snapshot->why, CH_ERR_NOMEM, "out of memory")
               : CH_OK;
}

static enum ch_err add_part(const struct snapshot *snapshot, const struct part *part, json_t *state)
{
    json_t *rows = NULL;
    enum ch_err err = read_part(snapshot, part, &rows);
    if (err)
        return err;
    bool failed = part->member ? json_object_set(state, part->member, rows) != 0
                               : json_array_size(rows) > 0 &&
                                     json_object_update(state, json_array_get(rows, 0)) != 0;
    json_decref(rows);
    return failed ? ch_why_set(snapshot->why, CH_ERR_NOMEM, "out of memory") : CH_OK;
}

// Whether anything was found: empty arrays alone are no object.
static bool is_empty(json_t *state)
{
    const char *member;
    json_t *value;
    json_object_foreach(state, member, value)
    {
        if (!json_is_array(value) || json_array_size(value) > 0)
            return false;
    }
    return true;
}

enum ch_err ch_audit_snapshot(struct ch_audit *audit, struct ch_vault_reader *reader,
                              struct ch_db *db, const char *object_kind, struct ch_span object,
                              json_t **state_out, struct ch_why *why)
{
    const struct kind *kind = find_kind(ch_span_of(object_kind));
    struct snapshot snapshot = {
        .audit = audit, .reader = reader, .db = db, .object = object, .why = why};
    json_t *state = json_object();
    enum ch_err err = state ? CH_OK : ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    for (size_t i = 0; kind && !err && i < PARTS_MAX && kind->parts[i].sql; i++)
        err = add_part(&snapshot, &kind->parts[i], state);
    if (!err && json_object_get(state, "sealed"))
        err = name_credential(&snapshot, state);
    if (err || is_empty(state)) {
        json_decref(state);
        state = json_null();
    }
    if (!err)
        *state_out = state;
    return err;
}

// ---- objects without a row

enum ch_err ch_audit_unrecorded(struct ch_db *db, ch_audit_object_fn each, void *arg,
                                struct ch_why *why)
{
    enum ch_err err = CH_OK;
    for (size_t i = 0; !err && i < KINDS; i++) {
        struct sqlite3_stmt *stmt;
        if (!kinds[i].unrecorded_sql)
            continue;
        err = ch_db_prepare(db, kinds[i].unrecorded_sql, &stmt, why);
        while (!err && !(err = ch_db_step(db, stmt, why)))
            if ((err = each(arg, ch_span_of(kinds[i].name), ch_db_text(stmt, 0))))
                ch_db_reset(stmt);
        if (err == CH_ERR_NOT_FOUND)
            err = CH_OK;
    }
    return err;
}
