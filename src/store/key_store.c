// SPDX-License-Identifier: Apache-2.0
#include "store/key_store.h"

#include "key_policy.h"

#include "base/clock.h"
#include "base/id.h"
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

// Fills everything but the providers and the policy. Writes each field rather than the whole
// struct, which is 10 KiB.
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
    return err && err != CH_ERR_NOT_FOUND ? err : ch_key_policy_get(db, row_out, why);
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

static enum ch_err walk_keys(struct ch_db *db, struct sqlite3_stmt *stmt,
                             struct ch_key_policy_walk *policies,
                             enum ch_err (*each)(void *arg, const struct ch_key_row *row),
                             void *arg, struct ch_why *why)
{
    struct ch_key_row row;
    enum ch_err err = ch_db_step(db, stmt, why);
    if (err)
        return err == CH_ERR_NOT_FOUND ? CH_OK : err;
    for (bool is_last = false; !err && !is_last;) {
        err = read_rows(db, stmt, &row, why);
        is_last = err == CH_ERR_NOT_FOUND;
        if (!err || is_last)
            err = ch_key_policy_next(db, policies, &row, why);
        if (!err)
            err = each(arg, &row);
    }
    ch_db_reset(stmt);
    return err;
}

enum ch_err ch_key_each(struct ch_db *db,
                        enum ch_err (*each)(void *arg, const struct ch_key_row *row), void *arg,
                        struct ch_why *why)
{
    static const char sql[] = SELECT_KEYS "ORDER BY k.id, kp.position";
    struct ch_key_policy_walk policies;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err || (err = ch_key_policy_start(db, &policies, why)))
        return err;
    err = walk_keys(db, stmt, &policies, each, arg, why);
    ch_key_policy_stop(&policies);
    return err;
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
    return ch_db_step_int(db, stmt, &row->attribution_id, why);
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

static enum ch_err take_secret(const struct ch_secret *pepper, struct ch_key_row *row,
                               const char *token)
{
    struct ch_wrapped_key parts;
    enum ch_err err = ch_wrapped_key_parse(ch_span_of(token), &parts);
    if (err)
        return err;
    ch_span_copy(parts.id, row->public_id, sizeof row->public_id);
    ch_random(row->salt, sizeof row->salt);
    ch_wrapped_key_hash((const unsigned char *)ch_secret_reveal(pepper).ptr, row->salt,
                        ch_span_of(token), row->hash);
    return CH_OK;
}

static enum ch_err mint(const struct ch_secret *pepper, struct ch_key_row *row,
                        char token_out[CH_WRAPPED_KEY_MAX + 1])
{
    ch_wrapped_key_slug(ch_span_of(row->name), row->slug);
    enum ch_err err = ch_wrapped_key_mint(ch_span_of(row->slug), token_out);
    return err ? err : take_secret(pepper, row, token_out);
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
    row->previous_expires_at_ms = 0;
    row->created_at_ms = row->updated_at_ms = ch_clock_wall_ms();
    enum ch_err err = ch_key_policy_check(row, why);
    if (!err)
        err = find_providers(db, row, why);
    if (!err)
        err = find_attribution(db, row, why);
    if (!err && (err = mint(pepper, row, token_out)))
        ch_why_set(why, err, "a token for %s could not be made", row->name);
    if (!err)
        err = insert_key(db, row, why);
    if (!err)
        err = insert_providers(db, row, why);
    if (!err)
        err = ch_key_policy_put(db, row, why);
    if (err)
        ch_wipe(token_out, CH_WRAPPED_KEY_MAX + 1);
    return err;
}

// ---- changes

static enum ch_err get_living(struct ch_db *db, const char *name, struct ch_key_row *row_out,
                              struct ch_why *why)
{
    enum ch_err err = ch_key_get(db, name, row_out, why);
    if (!err && row_out->status == CH_KEY_REVOKED)
        err = ch_why_set(why, CH_ERR_CONFLICT, "key %s is revoked, and that is final", name);
    return err;
}

enum ch_err ch_key_set_status(struct ch_db *db, const char *name, enum ch_key_status status,
                              const char *reason, struct ch_key_row *row_out, struct ch_why *why)
{
    static const char sql[] = "UPDATE wrapped_keys SET status = ?, revoke_reason = ?, "
                              "updated_at_ms = ? WHERE id = ?";
    struct ch_key_row row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = get_living(db, name, &row, why);
    if (err || (err = ch_db_prepare(db, sql, &stmt, why)))
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

static enum ch_err patch_texts(struct ch_key_row *row, const struct ch_key_patch *patch,
                               struct ch_why *why)
{
    const struct {
        const char *name, *text;
        char *field;
        size_t size;
    } texts[] = {
        {"the label", patch->label, row->label, sizeof row->label},
        {"the team", patch->team, row->team, sizeof row->team},
        {"the project", patch->project, row->project, sizeof row->project},
        {"the env", patch->env, row->env, sizeof row->env},
        {"the service", patch->service, row->service, sizeof row->service},
        {"the list of tags", patch->tags, row->tags, sizeof row->tags},
        {"the list of models", patch->models, row->models, sizeof row->models},
        {"the list of denied models", patch->deny_models, row->deny_models,
         sizeof row->deny_models},
        {"the model map", patch->model_map, row->model_map, sizeof row->model_map},
        {"the list of networks", patch->allow_cidrs, row->allow_cidrs, sizeof row->allow_cidrs},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].text &&
            !ch_span_copy(ch_span_of(texts[i].text), texts[i].field, texts[i].size))
            return ch_why_set(why, CH_ERR_LIMIT, "%s is longer than %zu bytes", texts[i].name,
                              texts[i].size - 1);
    return CH_OK;
}

static void patch_values(struct ch_key_row *row, const struct ch_key_patch *patch)
{
    if (patch->expires_at_ms)
        row->expires_at_ms = *patch->expires_at_ms;
    for (unsigned kind = 0; kind < CH_RATE_KINDS; kind++)
        if (patch->limit[kind])
            row->limits.limit[kind] = *patch->limit[kind];
    if (patch->limits_shadow)
        row->limits_shadow = *patch->limits_shadow;
    if (patch->models_shadow)
        row->models_shadow = *patch->models_shadow;
    if (patch->unknown_model)
        row->unknown_model = *patch->unknown_model;
    if (patch->on_client_abort)
        row->on_client_abort = *patch->on_client_abort;
    if (patch->budget_status)
        row->budget_status = *patch->budget_status;
}

static enum ch_err patch_providers(struct ch_db *db, struct ch_key_row *row,
                                   const struct ch_key_patch *patch, struct ch_why *why)
{
    static const char sql[] = "DELETE FROM key_providers WHERE key_id = ?";
    struct sqlite3_stmt *stmt;
    if (!patch->provider_names)
        return CH_OK;
    for (unsigned i = 0; i < patch->provider_count && i < CH_KEY_PROVIDERS_MAX; i++)
        if (!ch_span_copy(ch_span_of(patch->provider_names[i]), row->provider_names[i],
                          sizeof row->provider_names[i]))
            return ch_why_set(why, CH_ERR_LIMIT, "a provider's name has at most %d bytes",
                              CH_NAME_MAX);
    row->provider_count = patch->provider_count;
    enum ch_err err = find_providers(db, row, why);
    if (err || (err = ch_db_prepare(db, sql, &stmt, why)))
        return err;
    ch_db_bind_int(stmt, 1, row->id);
    err = ch_db_run(db, stmt, why);
    return err ? err : insert_providers(db, row, why);
}

static enum ch_err update_key(struct ch_db *db, const struct ch_key_row *row, struct ch_why *why)
{
    static const char sql[] = "UPDATE wrapped_keys SET salt = ?, hash = ?, expires_at_ms = ?, "
                              "models = ?, attribution_id = ?, updated_at_ms = ? WHERE id = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_blob(stmt, 1, (struct ch_span){(const char *)row->salt, sizeof row->salt});
    ch_db_bind_blob(stmt, 2, (struct ch_span){(const char *)row->hash, sizeof row->hash});
    ch_db_bind_int(stmt, 3, row->expires_at_ms);
    ch_db_bind_text(stmt, 4, ch_span_of(row->models));
    ch_db_bind_int(stmt, 5, row->attribution_id);
    ch_db_bind_int(stmt, 6, row->updated_at_ms);
    ch_db_bind_int(stmt, 7, row->id);
    err = ch_db_run(db, stmt, why);
    return err ? err : ch_key_policy_put(db, row, why);
}

enum ch_err ch_key_update(struct ch_db *db, const char *name, const struct ch_key_patch *patch,
                          struct ch_key_row *row_out, struct ch_why *why)
{
    struct ch_key_row row;
    enum ch_err err = get_living(db, name, &row, why);
    if (err)
        return err;
    row.updated_at_ms = ch_clock_wall_ms();
    patch_values(&row, patch);
    err = patch_texts(&row, patch, why);
    if (!err)
        err = ch_key_policy_check(&row, why);
    if (!err)
        err = patch_providers(db, &row, patch, why);
    if (!err)
        err = find_attribution(db, &row, why);
    if (!err)
        err = update_key(db, &row, why);
    if (!err)
        *row_out = row;
    return err;
}

// A token of the key's own id: a fresh one with the id, and so the check, replaced.
static enum ch_err mint_again(const struct ch_secret *pepper, struct ch_key_row *row,
                              char token_out[CH_WRAPPED_KEY_MAX + 1])
{
    enum ch_err err = ch_wrapped_key_mint(ch_span_of(row->slug), token_out);
    if (err)
        return err;
    char *check = token_out + strlen(token_out) - CH_WRAPPED_KEY_CHECK;
    memcpy(check - CH_WRAPPED_KEY_SECRET - CH_WRAPPED_KEY_ID, row->public_id, CH_WRAPPED_KEY_ID);
    ch_base62_encode(ch_crc32((struct ch_span){token_out, (size_t)(check - token_out)}), check,
                     CH_WRAPPED_KEY_CHECK);
    return take_secret(pepper, row, token_out);
}

static void keep_previous(struct ch_key_row *row, int64_t grace_ms)
{
    memset(row->previous_salt, 0, sizeof row->previous_salt);
    memset(row->previous_hash, 0, sizeof row->previous_hash);
    row->previous_expires_at_ms = 0;
    if (grace_ms == 0)
        return;
    memcpy(row->previous_salt, row->salt, sizeof row->salt);
    memcpy(row->previous_hash, row->hash, sizeof row->hash);
    row->previous_expires_at_ms = row->updated_at_ms + grace_ms;
}

enum ch_err ch_key_rotate(struct ch_db *db, const struct ch_secret *pepper, const char *name,
                          int64_t grace_ms, struct ch_key_row *row_out,
                          char token_out[CH_WRAPPED_KEY_MAX + 1], struct ch_why *why)
{
    struct ch_key_row row;
    if (grace_ms < 0 || grace_ms > CH_KEY_GRACE_MAX_MS)
        return ch_why_set(why, CH_ERR_INVALID, "a grace has at most %lld days",
                          (long long)(CH_KEY_GRACE_MAX_MS / (24 * 60 * 60 * 1000)));
    enum ch_err err = get_living(db, name, &row, why);
    if (err)
        return err;
    row.updated_at_ms = ch_clock_wall_ms();
    keep_previous(&row, grace_ms);
    err = mint_again(pepper, &row, token_out);
    if (err)
        ch_why_set(why, err, "a token for %s could not be made", name);
    else
        err = update_key(db, &row, why);
    if (err)
        ch_wipe(token_out, CH_WRAPPED_KEY_MAX + 1);
    else
        *row_out = row;
    return err;
}
