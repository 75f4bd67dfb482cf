// SPDX-License-Identifier: Apache-2.0
#include "store/rekey.h"

#include "store_internal.h"
#include "vault_values.h"

#include "store/provider_store.h"

// A row to be sealed anew: an UPDATE must not run under the SELECT that finds the rows.
struct pending {
    struct pending *next;
    struct ch_provider_row row;
};

struct ch_rekey {
    struct ch_vault *vault; // the store's
    struct ch_vault *next;
    struct ch_vault_reader *reader;
    char from[CH_VAULT_FINGERPRINT + 1], to[CH_VAULT_FINGERPRINT + 1];
    struct pending *pending;
    int64_t count;
};

enum ch_err ch_rekey_start(struct ch_store *store, const struct ch_secret *new_key,
                           struct ch_rekey **rekey_out, struct ch_why *why)
{
    struct ch_rekey *rekey = ch_zcalloc(1, sizeof *rekey);
    if (!rekey)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    rekey->vault = store->vault;
    enum ch_err err = ch_vault_new(new_key, &rekey->next);
    if (!err)
        err = ch_vault_reader_new(store->vault, &rekey->reader);
    if (err) {
        ch_rekey_free(rekey);
        return ch_why_set(why, err, "the vault could not be set up from the new master key");
    }
    ch_vault_fingerprint(store->vault, rekey->from);
    ch_vault_fingerprint(rekey->next, rekey->to);
    if (strcmp(rekey->from, rekey->to) == 0) {
        err = ch_why_set(why, CH_ERR_CONFLICT,
                         "the new master key is the one in use, with the fingerprint %s",
                         rekey->from);
        ch_rekey_free(rekey);
        return err;
    }
    ch_vault_admit(store->vault, rekey->next);
    *rekey_out = rekey;
    return CH_OK;
}

static enum ch_err remember(void *arg, const struct ch_provider_row *row)
{
    struct ch_rekey *rekey = arg;
    struct pending *pending = row->sealed_size ? ch_zmalloc(sizeof *pending) : NULL;
    if (!pending)
        return row->sealed_size ? CH_ERR_NOMEM : CH_OK;
    *pending = (struct pending){.next = rekey->pending, .row = *row};
    rekey->pending = pending;
    return CH_OK;
}

static enum ch_err reopen(struct ch_rekey *rekey, const struct ch_provider_row *row,
                          struct ch_buf *sealed, struct ch_why *why)
{
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    size_t size = 0;
    struct ch_vault_binding binding;
    ch_provider_binding(row, &binding);
    enum ch_err err =
        ch_vault_open(rekey->reader, &binding,
                      (struct ch_span){(const char *)row->sealed, row->sealed_size}, plain, &size);
    if (!err)
        err = ch_vault_seal(rekey->next, &binding, (struct ch_span){(const char *)plain, size},
                            sealed);
    ch_wipe(plain, sizeof plain);
    return err ? ch_why_set(why, err,
                            "the credential of provider %s does not open: nothing was changed; "
                            "restore its row, or delete the provider, and try again",
                            row->name)
               : CH_OK;
}

static enum ch_err reseal_provider(struct ch_db *db, struct ch_rekey *rekey,
                                   const struct ch_provider_row *row, struct ch_why *why)
{
    static const char sql[] = "UPDATE providers SET sealed = ? WHERE id = ?";
    struct sqlite3_stmt *stmt;
    struct ch_buf sealed;
    ch_buf_init(&sealed, CH_VAULT_SEALED_MAX);
    enum ch_err err = reopen(rekey, row, &sealed, why);
    if (!err)
        err = ch_db_prepare(db, sql, &stmt, why);
    if (!err) {
        ch_db_bind_blob(stmt, 1, ch_buf_span(&sealed));
        ch_db_bind_int(stmt, 2, row->id);
        err = ch_db_run(db, stmt, why);
    }
    ch_buf_fini(&sealed);
    rekey->count += err == CH_OK;
    return err;
}

static void forget_pending(struct ch_rekey *rekey)
{
    while (rekey->pending) {
        struct pending *pending = rekey->pending;
        rekey->pending = pending->next;
        ch_zfree(pending);
    }
}

enum ch_err ch_rekey_reseal(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct ch_rekey *rekey = arg;
    enum ch_err err = ch_vault_values_reseal(db, rekey->reader, rekey->next, why);
    if (!err)
        err = ch_provider_each(db, remember, rekey, why);
    for (struct pending *p = rekey->pending; !err && p; p = p->next)
        err = reseal_provider(db, rekey, &p->row, why);
    forget_pending(rekey);
    return err;
}

void ch_rekey_settle(struct ch_rekey *rekey, bool is_committed)
{
    if (is_committed)
        ch_vault_promote(rekey->vault);
    else
        ch_vault_retire(rekey->vault);
}

void ch_rekey_retire(struct ch_rekey *rekey)
{
    ch_vault_retire(rekey->vault);
}

void ch_rekey_free(struct ch_rekey *rekey)
{
    if (!rekey)
        return;
    forget_pending(rekey);
    ch_vault_reader_free(rekey->reader);
    ch_vault_free(rekey->next);
    ch_zfree(rekey);
}

const char *ch_rekey_from(const struct ch_rekey *rekey)
{
    return rekey->from;
}

const char *ch_rekey_to(const struct ch_rekey *rekey)
{
    return rekey->to;
}

int64_t ch_rekey_count(const struct ch_rekey *rekey)
{
    return rekey->count;
}
