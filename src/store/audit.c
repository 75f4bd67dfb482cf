// SPDX-License-Identifier: Apache-2.0
#include "audit_internal.h"

#include "store_internal.h"
#include "vault_values.h"

#include "base/clock.h"

#include <pwd.h>
#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

#define PASSWD_BYTES 4096        // of a user's entry
#define STATE_MAX    (64 * 1024) // bytes of an object's state in a row

_Static_assert(crypto_hash_sha256_BYTES == CH_AUDIT_HASH, "SHA-256");
_Static_assert(crypto_sign_BYTES == CH_AUDIT_SIGNATURE, "Ed25519");
_Static_assert(crypto_sign_SEEDBYTES == CH_AUDIT_SEED, "the seed makes the key pair");

// ---- rows

void ch_audit_actor_of(uid_t uid, struct ch_audit_actor *actor_out)
{
    struct passwd entry, *found = NULL;
    char bytes[PASSWD_BYTES];
    actor_out->uid = (int64_t)uid;
    if (getpwuid_r(uid, &entry, bytes, sizeof bytes, &found) != 0 || !found ||
        !ch_span_copy(ch_span_of(found->pw_name), actor_out->name, sizeof actor_out->name))
        snprintf(actor_out->name, sizeof actor_out->name, "uid:%lld", (long long)uid);
}

static bool read_bytes(struct sqlite3_stmt *stmt, int column, unsigned char *out, size_t size)
{
    struct ch_span bytes = ch_db_blob(stmt, column);
    if (bytes.len != size)
        return false;
    memcpy(out, bytes.ptr, size);
    return true;
}

bool ch_audit_row_read(struct sqlite3_stmt *stmt, struct ch_audit_row *row_out)
{
    *row_out = (struct ch_audit_row){
        .seq = ch_db_int(stmt, 0),
        .at_ms = ch_db_int(stmt, 1),
        .actor = ch_db_text(stmt, 2),
        .uid = ch_db_int(stmt, 3),
        .action = ch_db_text(stmt, 4),
        .object_kind = ch_db_text(stmt, 5),
        .object = ch_db_text(stmt, 6),
        .before = ch_db_text(stmt, 7),
        .after = ch_db_text(stmt, 8),
        .reason = ch_db_text(stmt, 9),
    };
    return read_bytes(stmt, 10, row_out->prev, sizeof row_out->prev) &&
           read_bytes(stmt, 11, row_out->hash, sizeof row_out->hash) &&
           read_bytes(stmt, 12, row_out->signature, sizeof row_out->signature);
}

static void add_int(crypto_hash_sha256_state *state, int64_t value)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)value >> (8 * i));
    crypto_hash_sha256_update(state, bytes, sizeof bytes);
}

static void add_text(crypto_hash_sha256_state *state, struct ch_span text)
{
    add_int(state, (int64_t)text.len);
    crypto_hash_sha256_update(state, (const unsigned char *)text.ptr, text.len);
}

void ch_audit_row_digest(const struct ch_audit_row *row, unsigned char hash_out[CH_AUDIT_HASH])
{
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    add_text(&state, CH_SPAN("chaperone audit 1"));
    add_int(&state, row->seq);
    add_int(&state, row->at_ms);
    add_text(&state, row->actor);
    add_int(&state, row->uid);
    add_text(&state, row->action);
    add_text(&state, row->object_kind);
    add_text(&state, row->object);
    add_text(&state, row->before);
    add_text(&state, row->after);
    add_text(&state, row->reason);
    add_text(&state, (struct ch_span){(const char *)row->prev, sizeof row->prev});
    crypto_hash_sha256_final(&state, hash_out);
}

bool ch_audit_signature_is_good(const unsigned char public_key[CH_AUDIT_PUBLIC_KEY],
                                const unsigned char hash[CH_AUDIT_HASH],
                                const unsigned char signature[CH_AUDIT_SIGNATURE])
{
    return crypto_sign_verify_detached(signature, hash, CH_AUDIT_HASH, public_key) == 0;
}

enum ch_err ch_audit_head_read(struct ch_db *db, struct ch_audit_head *head_out, struct ch_why *why)
{
    static const char sql[] = "SELECT seq, hash, signature FROM audit ORDER BY seq DESC LIMIT 1";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err || (err = ch_db_step(db, stmt, why)))
        return err;
    head_out->seq = ch_db_int(stmt, 0);
    if (!read_bytes(stmt, 1, head_out->hash, sizeof head_out->hash) ||
        !read_bytes(stmt, 2, head_out->signature, sizeof head_out->signature))
        err = ch_why_set(why, CH_ERR_CORRUPT, "the last row of the audit log is damaged");
    ch_db_reset(stmt);
    return err;
}

enum ch_err ch_audit_hash_read(struct ch_db *db, int64_t seq, unsigned char hash_out[CH_AUDIT_HASH],
                               struct ch_why *why)
{
    static const char sql[] = "SELECT hash FROM audit WHERE seq = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, seq);
    err = ch_db_step(db, stmt, why);
    if (err)
        return err;
    if (!read_bytes(stmt, 0, hash_out, CH_AUDIT_HASH))
        err =
            ch_why_set(why, CH_ERR_CORRUPT, "row %lld of the audit log is damaged", (long long)seq);
    ch_db_reset(stmt);
    return err;
}

// ---- appending

static const unsigned char *signing_key(const struct ch_audit *audit)
{
    return (const unsigned char *)ch_secret_reveal(audit->secrets).ptr;
}

// The row that the next one follows: of this transaction, else the last committed one.
static const struct ch_audit_head *last_head(const struct ch_audit *audit)
{
    return audit->pending.seq ? &audit->pending : &audit->head;
}

static bool is_same_head(const struct ch_audit_head *a, const struct ch_audit_head *b)
{
    return a->seq == b->seq && (a->seq == 0 || memcmp(a->hash, b->hash, sizeof a->hash) == 0);
}

// Rows that went or came by another hand while this process runs must not be built upon: the chain
// would make them look as if they had always been so.
static enum ch_err require_own_end(struct ch_db *db, const struct ch_audit *audit,
                                   struct ch_why *why)
{
    struct ch_audit_head found = {.seq = 0};
    enum ch_err err = ch_audit_head_read(db, &found, why);
    if (err && err != CH_ERR_NOT_FOUND)
        return err;
    return is_same_head(&found, last_head(audit))
               ? CH_OK
               : ch_why_set(why, CH_ERR_CORRUPT,
                            "the audit log does not end where this process left it, at row %lld: "
                            "nothing can be changed until it was looked into (chaperone audit "
                            "verify) and chaperone restarted",
                            (long long)last_head(audit)->seq);
}

static enum ch_err insert(struct ch_db *db, const struct ch_audit_row *row, struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO audit (" CH_AUDIT_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, row->seq);
    ch_db_bind_int(stmt, 2, row->at_ms);
    ch_db_bind_text(stmt, 3, row->actor);
    ch_db_bind_int(stmt, 4, row->uid);
    ch_db_bind_text(stmt, 5, row->action);
    ch_db_bind_text(stmt, 6, row->object_kind);
    ch_db_bind_text(stmt, 7, row->object);
    ch_db_bind_text(stmt, 8, row->before);
    ch_db_bind_text(stmt, 9, row->after);
    ch_db_bind_text(stmt, 10, row->reason);
    ch_db_bind_blob(stmt, 11, (struct ch_span){(const char *)row->prev, sizeof row->prev});
    ch_db_bind_blob(stmt, 12, (struct ch_span){(const char *)row->hash, sizeof row->hash});
    ch_db_bind_blob(stmt, 13,
                    (struct ch_span){(const char *)row->signature, sizeof row->signature});
    return ch_db_run(db, stmt, why);
}

static enum ch_err append_row(struct ch_db *db, struct ch_audit *audit, struct ch_audit_row *row,
                              struct ch_why *why)
{
    const struct ch_audit_head *last = last_head(audit);
    enum ch_err err = require_own_end(db, audit, why);
    if (err)
        return err;
    row->seq = last->seq + 1;
    row->at_ms = ch_clock_wall_ms();
    if (last->seq)
        memcpy(row->prev, last->hash, sizeof row->prev);
    ch_audit_row_digest(row, row->hash);
    crypto_sign_detached(row->signature, NULL, row->hash, sizeof row->hash, signing_key(audit));
    err = insert(db, row, why);
    if (err)
        return err;
    audit->pending.seq = row->seq;
    memcpy(audit->pending.hash, row->hash, sizeof row->hash);
    memcpy(audit->pending.signature, row->signature, sizeof row->signature);
    return CH_OK;
}

static int append_piece(const char *bytes, size_t size, void *arg)
{
    return ch_buf_append(arg, bytes, size) ? -1 : 0;
}

// Sorted and without blanks, so that equal states are equal texts.
static enum ch_err dump(const json_t *state, struct ch_buf *out, struct ch_why *why)
{
    ch_buf_init(out, STATE_MAX);
    if (!state)
        return ch_buf_append(out, "null", 4);
    return json_dump_callback(state, append_piece, out,
                              JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY)
               ? ch_why_set(why, CH_ERR_LIMIT, "the change is too large for the audit log")
               : CH_OK;
}

static struct ch_span text_of(const char *text)
{
    return ch_span_of(text ? text : "");
}

static enum ch_err append(struct ch_db *db, const struct ch_audit_entry *entry, struct ch_why *why)
{
    struct ch_audit *audit = ch_db_audit(db);
    struct ch_buf before, after;
    CH_ASSERT(audit); // not the write connection
    enum ch_err err = dump(entry->before, &before, why),
                after_err = dump(entry->after, &after, why);
    if (!err)
        err = after_err;
    if (!err) {
        struct ch_audit_row row = {
            .actor = text_of(entry->actor->name),
            .uid = entry->actor->uid,
            .action = text_of(entry->action),
            .object_kind = text_of(entry->object_kind),
            .object = text_of(entry->object),
            .before = ch_buf_span(&before),
            .after = ch_buf_span(&after),
            .reason = text_of(entry->reason),
        };
        err = append_row(db, audit, &row, why);
    }
    ch_buf_fini(&before);
    ch_buf_fini(&after);
    return err;
}

enum ch_err ch_audit_append(struct ch_db *db, const struct ch_audit_entry *entry,
                            struct ch_why *why)
{
    struct ch_why reason = {""};
    enum ch_err err = append(db, entry, &reason);
    if (!err)
        return CH_OK;
    // A constraint that refuses the row is no conflict of the caller's.
    return ch_why_set(why, err == CH_ERR_CONFLICT ? CH_ERR_IO : err,
                      "refused, as it cannot be recorded in the audit log: %.400s", reason.text);
}

struct record_job {
    const struct ch_audit_entry *entry;
};

static enum ch_err record_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    const struct record_job *job = arg;
    return ch_audit_append(db, job->entry, why);
}

enum ch_err ch_audit_record(struct ch_store *store, const struct ch_audit_entry *entry,
                            struct ch_why *why)
{
    struct record_job job = {entry};
    return ch_store_write(store, record_in_store, &job, why);
}

// ---- a change and its row

struct change_job {
    struct ch_audit *audit;
    const struct ch_audit_change *change;
    ch_store_write_fn fn;
    void *arg;
};

static enum ch_err snapshot_of(struct ch_db *db, const struct change_job *job, json_t **state_out,
                               struct ch_why *why)
{
    return ch_audit_snapshot(job->audit, job->audit->reader, db, job->change->object_kind,
                             text_of(job->change->object), state_out, why);
}

static enum ch_err change_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct change_job *job = arg;
    json_t *before = NULL, *after = NULL;
    enum ch_err err = snapshot_of(db, job, &before, why);
    if (!err)
        err = job->fn(db, job->arg, why);
    if (!err)
        err = snapshot_of(db, job, &after, why);
    if (!err) {
        const struct ch_audit_entry entry = {
            .actor = job->change->actor,
            .action = job->change->action,
            .object_kind = job->change->object_kind,
            .object = job->change->object,
            .before = before,
            .after = after,
            .reason = job->change->reason,
        };
        err = ch_audit_append(db, &entry, why);
    }
    json_decref(before);
    json_decref(after);
    return err;
}

enum ch_err ch_audit_change(struct ch_store *store, const struct ch_audit_change *change,
                            ch_store_write_fn fn, void *arg, struct ch_why *why)
{
    struct change_job job = {.audit = store->audit, .change = change, .fn = fn, .arg = arg};
    return ch_store_write(store, change_in_store, &job, why);
}

// ---- the last row

json_t *ch_audit_head(struct ch_store *store)
{
    struct ch_audit *audit = store->audit;
    char hash[2 * CH_AUDIT_HASH + 1], public_key[2 * CH_AUDIT_PUBLIC_KEY + 1];
    pthread_mutex_lock(&audit->head_mutex);
    int64_t seq = audit->head.seq;
    sodium_bin2hex(hash, sizeof hash, audit->head.hash, sizeof audit->head.hash);
    pthread_mutex_unlock(&audit->head_mutex);
    sodium_bin2hex(public_key, sizeof public_key, audit->public_key, sizeof audit->public_key);
    return json_pack("{s:I, s:s, s:s}", "seq", (json_int_t)seq, "hash", hash, "public_key",
                     public_key);
}

// ---- opening

static enum ch_err derive_secrets(struct ch_audit *audit, const unsigned char seed[CH_AUDIT_SEED])
{
    unsigned char secrets[crypto_sign_SECRETKEYBYTES + CH_AUDIT_MAC_KEY];
    static const unsigned char label[] = "chaperone audit secrets";
    crypto_sign_seed_keypair(audit->public_key, secrets, seed);
    crypto_generichash(secrets + crypto_sign_SECRETKEYBYTES, CH_AUDIT_MAC_KEY, label,
                       sizeof label - 1, seed, CH_AUDIT_SEED);
    enum ch_err err = ch_secret_new(secrets, sizeof secrets, &audit->secrets);
    ch_wipe(secrets, sizeof secrets);
    return err;
}

static enum ch_err find_public_key(struct ch_db *db, unsigned char key_out[CH_AUDIT_PUBLIC_KEY],
                                   struct ch_why *why)
{
    static const char sql[] = "SELECT public_key FROM audit_keys";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err || (err = ch_db_step(db, stmt, why)))
        return err;
    if (!read_bytes(stmt, 0, key_out, CH_AUDIT_PUBLIC_KEY))
        err = ch_why_set(why, CH_ERR_CORRUPT, "the audit log's public key is damaged");
    ch_db_reset(stmt);
    return err;
}

static enum ch_err put_public_key(struct ch_db *db, const struct ch_audit *audit,
                                  struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO audit_keys (id, public_key, created_at_ms) VALUES (1, ?, ?)";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_blob(stmt, 1,
                    (struct ch_span){(const char *)audit->public_key, sizeof audit->public_key});
    ch_db_bind_int(stmt, 2, ch_clock_wall_ms());
    return ch_db_run(db, stmt, why);
}

struct make_job {
    struct ch_store *store;
    const char *action;
};

// The log's secrets and its first row. A log that has rows or a key already has lost its secret.
static enum ch_err make_log(struct ch_db *db, void *arg, struct ch_why *why)
{
    const struct make_job *job = arg;
    struct ch_audit *audit = job->store->audit;
    unsigned char seed[CH_AUDIT_SEED], key[CH_AUDIT_PUBLIC_KEY];
    struct ch_audit_head head;
    struct ch_audit_actor actor;
    if (ch_audit_head_read(db, &head, NULL) != CH_ERR_NOT_FOUND ||
        find_public_key(db, key, NULL) != CH_ERR_NOT_FOUND)
        return ch_why_set(why, CH_ERR_CORRUPT,
                          "the sealed key of the audit log in %s is missing: restore it from a "
                          "backup",
                          job->store->path);
    ch_random(seed, sizeof seed);
    enum ch_err err = derive_secrets(audit, seed);
    if (!err)
        err = ch_vault_value_put(db, job->store->vault, CH_SPAN("audit"),
                                 (struct ch_span){(const char *)seed, sizeof seed}, why);
    ch_wipe(seed, sizeof seed);
    if (!err)
        err = put_public_key(db, audit, why);
    if (err)
        return err;
    const char *slash = strrchr(job->store->path, '/');
    ch_audit_actor_of(geteuid(), &actor);
    return ch_audit_append(db,
                           &(struct ch_audit_entry){.actor = &actor,
                                                    .action = job->action,
                                                    .object_kind = "database",
                                                    .object = slash ? slash + 1 : job->store->path},
                           why);
}

static enum ch_err load_secrets(struct ch_store *store, struct ch_why *why)
{
    struct ch_audit *audit = store->audit;
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    size_t size = 0;
    enum ch_err err =
        ch_vault_value_open(store->writer_db, audit->reader, CH_SPAN("audit"), plain, &size, why);
    if (!err && size == CH_AUDIT_SEED)
        err = derive_secrets(audit, plain);
    else if (!err || err == CH_ERR_CORRUPT)
        err = ch_why_set(why, CH_ERR_CORRUPT,
                         "the sealed key of the audit log in %s is damaged: restore it from a "
                         "backup",
                         store->path);
    ch_wipe(plain, sizeof plain);
    return err;
}

// A public half that is not that of the sealed secret would let somebody else's rows pass.
static enum ch_err require_own_key(struct ch_store *store, struct ch_why *why)
{
    unsigned char key[CH_AUDIT_PUBLIC_KEY];
    enum ch_err err = find_public_key(store->writer_db, key, why);
    if (err && err != CH_ERR_NOT_FOUND)
        return err;
    if (!err && memcmp(key, store->audit->public_key, sizeof key) == 0)
        return CH_OK;
    return ch_why_set(why, CH_ERR_CORRUPT,
                      "the audit log's public key in %s is not the one that chaperone signs with: "
                      "restore it from a backup",
                      store->path);
}

static enum ch_err load_log(struct ch_store *store, struct ch_why *why)
{
    enum ch_err err = require_own_key(store, why);
    if (err)
        return err;
    err = ch_audit_head_read(store->writer_db, &store->audit->head, why);
    return err == CH_ERR_NOT_FOUND
               ? ch_why_set(why, CH_ERR_CORRUPT,
                            "the audit log in %s is empty: restore it from a backup", store->path)
               : err;
}

enum ch_err ch_audit_open(struct ch_store *store, const char *action, struct ch_why *why)
{
    struct make_job job = {store, action};
    struct ch_audit *audit = ch_zcalloc(1, sizeof *audit);
    if (!audit)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    audit->heads_fd = -1;
    audit->vault = store->vault;
    pthread_mutex_init(&audit->head_mutex, NULL);
    store->audit = audit; // freed by ch_audit_close, however far this comes
    enum ch_err err = ch_vault_reader_new(store->vault, &audit->reader);
    if (err)
        return ch_why_set(why, err, "the vault could not be set up");
    err = ch_audit_heads_open(store->audit, store->path, why);
    if (err)
        return err;
    ch_db_set_audit(store->writer_db, audit);
    err = load_secrets(store, why);
    if (err == CH_ERR_NOT_FOUND)
        return ch_store_transact(store, make_log, &job, why);
    if (!err)
        err = load_log(store, why);
    if (!err)
        ch_audit_heads_reconcile(audit, store->writer_db);
    return err;
}

void ch_audit_close(struct ch_audit *audit)
{
    if (!audit)
        return;
    if (audit->heads_fd >= 0)
        close(audit->heads_fd);
    ch_vault_reader_free(audit->reader);
    ch_secret_free(audit->secrets);
    pthread_mutex_destroy(&audit->head_mutex);
    ch_zfree(audit);
}
