// SPDX-License-Identifier: Apache-2.0
#include "store/provider_store.h"

#include "base/clock.h"
#include "store/db.h"

#include <stdio.h>

// The shortest credential of which four characters may be shown.
#define HINT_MIN   20
#define HINT_CHARS 4

bool ch_name_is_valid(struct ch_span name)
{
    if (name.len == 0 || name.len > CH_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_word && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

void ch_provider_binding(const struct ch_provider_row *row, struct ch_vault_binding *binding_out)
{
    *binding_out = (struct ch_vault_binding){
        .kind = CH_SPAN("provider"),
        .row_id = row->id,
        .provider_type = ch_span_of(ch_provider_type_name(row->type)),
        .base_url = ch_span_of(row->base_url),
        .key_version = row->key_version,
    };
}

static const char *const unknown_model_names[CH_UNKNOWN_MODELS] = {
    [CH_UNKNOWN_MODEL_DEFAULT] = "",
    [CH_UNKNOWN_MODEL_DENY] = "deny",
    [CH_UNKNOWN_MODEL_CEILING] = "ceiling",
    [CH_UNKNOWN_MODEL_FLAG] = "flag",
};

const char *ch_unknown_model_name(enum ch_unknown_model choice)
{
    return unknown_model_names[choice];
}

enum ch_err ch_unknown_model_parse(struct ch_span name, enum ch_unknown_model *out)
{
    size_t i = ch_span_place(name, unknown_model_names, CH_UNKNOWN_MODELS);
    if (i == CH_UNKNOWN_MODELS)
        return CH_ERR_INVALID;
    *out = (enum ch_unknown_model)i;
    return CH_OK;
}

static const char *const objects_names[CH_OBJECTS_CHOICES] = {
    [CH_OBJECTS_PROJECT] = "project",
    [CH_OBJECTS_TEAM] = "team",
    [CH_OBJECTS_KEY] = "key",
    [CH_OBJECTS_SHARED] = "shared",
};

const char *ch_objects_name(enum ch_objects choice)
{
    return objects_names[choice];
}

enum ch_err ch_objects_parse(struct ch_span name, enum ch_objects *out)
{
    size_t i = ch_span_place(name, objects_names, CH_OBJECTS_CHOICES);
    if (i == CH_OBJECTS_CHOICES)
        return CH_ERR_INVALID;
    *out = (enum ch_objects)i;
    return CH_OK;
}

enum ch_err ch_unknown_model_check(const struct ch_unknown_model_rule *rule, struct ch_why *why)
{
    if (rule->input_nano_usd < 0 || rule->output_nano_usd < 0)
        return ch_why_set(why, CH_ERR_INVALID, "a ceiling price is not negative");
    return CH_OK;
}

#define COLUMNS                                                                                    \
    "id, name, type, base_url, enabled, injects_usage, key_version, sealed, key_hint, "            \
    "created_at_ms, updated_at_ms, unknown_model, ceiling_input_nano_usd, "                        \
    "ceiling_output_nano_usd, objects"

static enum ch_err read_row(struct sqlite3_stmt *stmt, struct ch_provider_row *row,
                            struct ch_why *why)
{
    struct ch_span sealed = ch_db_blob(stmt, 7);
    *row = (struct ch_provider_row){
        .id = ch_db_int(stmt, 0),
        .enabled = ch_db_int(stmt, 4) != 0,
        .injects_usage = ch_db_int(stmt, 5) != 0,
        .key_version = ch_db_int(stmt, 6),
        .sealed_size = sealed.len,
        .created_at_ms = ch_db_int(stmt, 9),
        .updated_at_ms = ch_db_int(stmt, 10),
        .unknown_model = {.input_nano_usd = ch_db_int(stmt, 12),
                          .output_nano_usd = ch_db_int(stmt, 13)},
    };
    if (!ch_db_copy_text(stmt, 1, row->name, sizeof row->name) ||
        !ch_db_copy_text(stmt, 3, row->base_url, sizeof row->base_url) ||
        !ch_db_copy_text(stmt, 8, row->key_hint, sizeof row->key_hint) ||
        ch_provider_type_parse(ch_db_text(stmt, 2), &row->type) ||
        ch_unknown_model_parse(ch_db_text(stmt, 11), &row->unknown_model.choice) ||
        ch_objects_parse(ch_db_text(stmt, 14), &row->objects) || sealed.len > sizeof row->sealed)
        return ch_why_set(why, CH_ERR_CORRUPT, "the row of provider %lld is damaged",
                          (long long)row->id);
    if (sealed.len)
        memcpy(row->sealed, sealed.ptr, sealed.len);
    return CH_OK;
}

static enum ch_err insert(struct ch_db *db, struct ch_provider_row *row, struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO providers (name, type, base_url, enabled, injects_usage, key_version, sealed,"
        " key_hint, created_at_ms, updated_at_ms, unknown_model, ceiling_input_nano_usd,"
        " ceiling_output_nano_usd, objects)"
        " VALUES (?, ?, ?, ?, ?, ?, x'', ?, ?, ?, ?, ?, ?, ?)";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(row->name));
    ch_db_bind_text(stmt, 2, ch_span_of(ch_provider_type_name(row->type)));
    ch_db_bind_text(stmt, 3, ch_span_of(row->base_url));
    ch_db_bind_int(stmt, 4, row->enabled);
    ch_db_bind_int(stmt, 5, row->injects_usage);
    ch_db_bind_int(stmt, 6, row->key_version);
    ch_db_bind_text(stmt, 7, ch_span_of(row->key_hint));
    ch_db_bind_int(stmt, 8, row->created_at_ms);
    ch_db_bind_int(stmt, 9, row->updated_at_ms);
    ch_db_bind_text(stmt, 10, ch_span_of(ch_unknown_model_name(row->unknown_model.choice)));
    ch_db_bind_int(stmt, 11, row->unknown_model.input_nano_usd);
    ch_db_bind_int(stmt, 12, row->unknown_model.output_nano_usd);
    ch_db_bind_text(stmt, 13, ch_span_of(ch_objects_name(row->objects)));
    err = ch_db_run(db, stmt, why);
    if (err == CH_ERR_CONFLICT)
        return ch_why_set(why, err, "a provider named %s exists already", row->name);
    row->id = ch_db_last_id(db);
    return err;
}

// Seals after the insert, because the sealed value is bound to the row's id.
static enum ch_err seal(struct ch_db *db, const struct ch_vault *vault, struct ch_provider_row *row,
                        struct ch_span credential, struct ch_why *why)
{
    static const char sql[] = "UPDATE providers SET sealed = ? WHERE id = ?";
    struct ch_vault_binding binding;
    struct sqlite3_stmt *stmt;
    struct ch_buf sealed;
    ch_provider_binding(row, &binding);
    ch_buf_init(&sealed, sizeof row->sealed);
    enum ch_err err = ch_vault_seal(vault, &binding, credential, &sealed);
    if (err) {
        ch_why_set(why, err, "the credential of %s could not be sealed", row->name);
    } else {
        row->sealed_size = sealed.len;
        memcpy(row->sealed, sealed.ptr, sealed.len);
        err = ch_db_prepare(db, sql, &stmt, why);
    }
    ch_buf_fini(&sealed);
    if (err)
        return err;
    ch_db_bind_blob(stmt, 1, (struct ch_span){(const char *)row->sealed, row->sealed_size});
    ch_db_bind_int(stmt, 2, row->id);
    return ch_db_run(db, stmt, why);
}

enum ch_err ch_provider_create(struct ch_db *db, const struct ch_vault *vault,
                               struct ch_provider_row *row, struct ch_span credential,
                               struct ch_why *why)
{
    if (!ch_name_is_valid(ch_span_of(row->name)))
        return ch_why_set(why, CH_ERR_INVALID,
                          "a name has 1 to %d letters, digits, dots, hyphens or underscores",
                          CH_NAME_MAX);
    if (credential.len == 0 || credential.len > CH_VAULT_PLAIN_MAX)
        return ch_why_set(why, CH_ERR_INVALID, "a credential has 1 to %d bytes",
                          CH_VAULT_PLAIN_MAX);
    struct ch_span hint = {credential.ptr + credential.len - HINT_CHARS, HINT_CHARS};
    ch_span_copy(credential.len < HINT_MIN ? CH_SPAN("") : hint, row->key_hint,
                 sizeof row->key_hint);
    row->key_version = 1;
    row->created_at_ms = row->updated_at_ms = ch_clock_wall_ms();
    enum ch_err err = ch_unknown_model_check(&row->unknown_model, why);
    if (!err)
        err = insert(db, row, why);
    return err ? err : seal(db, vault, row, credential, why);
}

enum ch_err ch_provider_get(struct ch_db *db, const char *name, struct ch_provider_row *row_out,
                            struct ch_why *why)
{
    static const char sql[] =
        "SELECT " COLUMNS " FROM providers WHERE name = ? AND deleted_at_ms IS NULL";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, ch_span_of(name));
    err = ch_db_step(db, stmt, why);
    if (err == CH_ERR_NOT_FOUND)
        return ch_why_set(why, err, "there is no provider named %s", name);
    if (err)
        return err;
    err = read_row(stmt, row_out, why);
    ch_db_reset(stmt);
    return err;
}

enum ch_err ch_provider_set_enabled(struct ch_db *db, const char *name, bool enabled,
                                    struct ch_provider_row *row_out, struct ch_why *why)
{
    static const char sql[] = "UPDATE providers SET enabled = ?, updated_at_ms = ? WHERE id = ?";
    struct ch_provider_row row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_provider_get(db, name, &row, why);
    if (err || (err = ch_db_prepare(db, sql, &stmt, why)))
        return err;
    row.enabled = enabled;
    row.updated_at_ms = ch_clock_wall_ms();
    ch_db_bind_int(stmt, 1, enabled);
    ch_db_bind_int(stmt, 2, row.updated_at_ms);
    ch_db_bind_int(stmt, 3, row.id);
    err = ch_db_run(db, stmt, why);
    if (!err)
        *row_out = row;
    return err;
}

enum ch_err ch_provider_set_unknown_model(struct ch_db *db, const char *name,
                                          const struct ch_unknown_model_rule *rule,
                                          struct ch_provider_row *row_out, struct ch_why *why)
{
    static const char sql[] = "UPDATE providers SET unknown_model = ?, ceiling_input_nano_usd = ?, "
                              "ceiling_output_nano_usd = ?, updated_at_ms = ? WHERE id = ?";
    struct ch_provider_row row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_unknown_model_check(rule, why);
    if (!err)
        err = ch_provider_get(db, name, &row, why);
    if (err || (err = ch_db_prepare(db, sql, &stmt, why)))
        return err;
    row.unknown_model = *rule;
    row.updated_at_ms = ch_clock_wall_ms();
    ch_db_bind_text(stmt, 1, ch_span_of(ch_unknown_model_name(rule->choice)));
    ch_db_bind_int(stmt, 2, rule->input_nano_usd);
    ch_db_bind_int(stmt, 3, rule->output_nano_usd);
    ch_db_bind_int(stmt, 4, row.updated_at_ms);
    ch_db_bind_int(stmt, 5, row.id);
    err = ch_db_run(db, stmt, why);
    if (!err)
        *row_out = row;
    return err;
}

enum ch_err ch_provider_set_objects(struct ch_db *db, const char *name, enum ch_objects objects,
                                    struct ch_provider_row *row_out, struct ch_why *why)
{
    static const char sql[] = "UPDATE providers SET objects = ?, updated_at_ms = ? WHERE id = ?";
    struct ch_provider_row row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_provider_get(db, name, &row, why);
    if (err || (err = ch_db_prepare(db, sql, &stmt, why)))
        return err;
    row.objects = objects;
    row.updated_at_ms = ch_clock_wall_ms();
    ch_db_bind_text(stmt, 1, ch_span_of(ch_objects_name(objects)));
    ch_db_bind_int(stmt, 2, row.updated_at_ms);
    ch_db_bind_int(stmt, 3, row.id);
    err = ch_db_run(db, stmt, why);
    if (!err)
        *row_out = row;
    return err;
}

// CH_ERR_CONFLICT, naming up to five, when active keys use the provider.
static enum ch_err require_unused(struct ch_db *db, const struct ch_provider_row *row,
                                  struct ch_why *why)
{
    static const char sql[] =
        "SELECT DISTINCT k.name FROM key_providers kp JOIN wrapped_keys k ON k.id = kp.key_id "
        "WHERE kp.provider_id = ? AND k.status = 'active' ORDER BY k.name LIMIT 6";
    char names[5 * (CH_NAME_MAX + 2) + 8] = "";
    size_t used = 0;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, row->id);
    for (unsigned i = 0; !(err = ch_db_step(db, stmt, why)); i++) {
        struct ch_span name = i < 5 ? ch_db_text(stmt, 0) : CH_SPAN("…");
        int len =
            snprintf(names + used, sizeof names - used, "%s%.*s", i ? ", " : "", CH_SPAN_ARG(name));
        used += len > 0 && (size_t)len < sizeof names - used ? (size_t)len : 0;
    }
    if (err != CH_ERR_NOT_FOUND)
        return err;
    return used ? ch_why_set(why, CH_ERR_CONFLICT, "provider %s is used by active keys: %s",
                             row->name, names)
                : CH_OK;
}

enum ch_err ch_provider_delete(struct ch_db *db, const char *name, int64_t *id_out,
                               struct ch_why *why)
{
    static const char sql[] = "UPDATE providers SET sealed = x'', key_hint = '', enabled = 0, "
                              "updated_at_ms = ?1, deleted_at_ms = ?1 WHERE id = ?2";
    struct ch_provider_row row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_provider_get(db, name, &row, why);
    if (!err)
        err = require_unused(db, &row, why);
    if (err || (err = ch_db_prepare(db, sql, &stmt, why)))
        return err;
    ch_db_bind_int(stmt, 1, ch_clock_wall_ms());
    ch_db_bind_int(stmt, 2, row.id);
    err = ch_db_run(db, stmt, why);
    if (!err)
        *id_out = row.id;
    return err;
}

enum ch_err ch_provider_each(struct ch_db *db,
                             enum ch_err (*each)(void *arg, const struct ch_provider_row *row),
                             void *arg, struct ch_why *why)
{
    static const char sql[] =
        "SELECT " COLUMNS " FROM providers WHERE deleted_at_ms IS NULL ORDER BY name";
    struct ch_provider_row row;
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
