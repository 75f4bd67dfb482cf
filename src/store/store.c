// SPDX-License-Identifier: Apache-2.0
#include "store/store.h"

#include "migrate.h"
#include "store/db.h"
#include "store_internal.h"

#include "domain/wrapped_key.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SENTINEL    CH_SPAN("chaperone sentinel 1")
#define KEY_VERSION 1 // of the master key: one so far

enum ch_err ch_store_process_init(struct ch_why *why)
{
    return ch_db_process_init(why);
}

static enum ch_err require_file(const char *path, struct ch_why *why)
{
    struct stat info;
    if (stat(path, &info) == 0)
        return CH_OK;
    return errno == ENOENT
               ? ch_why_set(why, CH_ERR_NOT_FOUND, "%s does not exist: run `chaperone init`", path)
               : ch_why_set(why, CH_ERR_IO, "%s: %s", path, strerror(errno));
}

// Under the lock and before SQLite opens the file: closing a descriptor later would drop SQLite's
// own locks.
static enum ch_err create_file(const char *path, struct ch_why *why)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno != EEXIST)
        return ch_why_set(why, CH_ERR_IO, "%s cannot be created: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return CH_OK;
}

// The lock lies on a file of its own, since closing any descriptor of the database would drop
// SQLite's.
static enum ch_err lock(const char *path, int *fd_out, struct ch_why *why)
{
    char name[PATH_MAX];
    if ((size_t)snprintf(name, sizeof name, "%s.lock", path) >= sizeof name)
        return ch_why_set(why, CH_ERR_INVALID, "the path of the database is too long");
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return ch_why_set(why, CH_ERR_IO, "%s cannot be opened: %s", name, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        enum ch_err err = errno == EWOULDBLOCK ? CH_ERR_CONFLICT : CH_ERR_IO;
        close(fd);
        return ch_why_set(why, err,
                          err == CH_ERR_CONFLICT ? "%s is in use by another chaperone process"
                                                 : "%s cannot be locked",
                          path);
    }
    *fd_out = fd;
    return CH_OK;
}

static struct ch_vault_binding binding_of(struct ch_span kind)
{
    return (struct ch_vault_binding){.kind = kind, .key_version = KEY_VERSION};
}

static enum ch_err seal_value(struct ch_store *store, struct ch_span kind, struct ch_span plain,
                              struct ch_why *why)
{
    static const char sql[] =
        "INSERT INTO vault_values (kind, key_version, sealed) VALUES (?, ?, ?)";
    struct ch_vault_binding binding = binding_of(kind);
    struct sqlite3_stmt *stmt;
    struct ch_buf sealed;
    ch_buf_init(&sealed, CH_VAULT_SEALED_MAX);
    enum ch_err err = ch_vault_seal(store->vault, &binding, plain, &sealed);
    if (err)
        ch_why_set(why, err, "the vault could not seal");
    else
        err = ch_db_prepare(store->writer_db, sql, &stmt, why);
    if (!err) {
        ch_db_bind_text(stmt, 1, kind);
        ch_db_bind_int(stmt, 2, KEY_VERSION);
        ch_db_bind_blob(stmt, 3, ch_buf_span(&sealed));
        err = ch_db_run(store->writer_db, stmt, why);
    }
    ch_buf_fini(&sealed);
    return err;
}

// CH_ERR_NOT_FOUND: no such value.
static enum ch_err open_value(struct ch_store *store, struct ch_vault_reader *reader,
                              struct ch_span kind, unsigned char plain_out[CH_VAULT_PLAIN_MAX],
                              size_t *size_out, struct ch_why *why)
{
    static const char sql[] = "SELECT sealed FROM vault_values WHERE kind = ?";
    struct ch_vault_binding binding = binding_of(kind);
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(store->writer_db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_text(stmt, 1, kind);
    err = ch_db_step(store->writer_db, stmt, why);
    if (err)
        return err;
    err = ch_vault_open(reader, &binding, ch_db_blob(stmt, 0), plain_out, size_out);
    ch_db_reset(stmt);
    return err;
}

static enum ch_err create_values(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct ch_store *store = arg;
    unsigned char pepper[CH_WRAPPED_KEY_PEPPER];
    (void)db;
    ch_random(pepper, sizeof pepper);
    enum ch_err err = seal_value(store, CH_SPAN("sentinel"), SENTINEL, why);
    if (!err)
        err = seal_value(store, CH_SPAN("pepper"),
                         (struct ch_span){(const char *)pepper, sizeof pepper}, why);
    ch_wipe(pepper, sizeof pepper);
    return err;
}

// Proves the master key. CH_ERR_NOT_FOUND: a new database, which has no sentinel.
static enum ch_err prove_master_key(struct ch_store *store, struct ch_vault_reader *reader,
                                    const char *path, struct ch_why *why)
{
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    size_t size = 0;
    enum ch_err err = open_value(store, reader, CH_SPAN("sentinel"), plain, &size, why);
    if (!err && !ch_span_eq((struct ch_span){(const char *)plain, size}, SENTINEL))
        err = CH_ERR_CORRUPT;
    if (err == CH_ERR_CORRUPT)
        return ch_why_set(why, CH_ERR_DENIED, "the master key is not the one that %s was made with",
                          path);
    return err;
}

static enum ch_err unseal_pepper(struct ch_store *store, struct ch_vault_reader *reader,
                                 const char *path, struct ch_why *why)
{
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    size_t size = 0;
    enum ch_err err = open_value(store, reader, CH_SPAN("pepper"), plain, &size, why);
    if (!err && size == CH_WRAPPED_KEY_PEPPER)
        err = ch_secret_new(plain, size, &store->pepper);
    else if (!err || err == CH_ERR_CORRUPT || err == CH_ERR_NOT_FOUND)
        err =
            ch_why_set(why, CH_ERR_CORRUPT, "the sealed pepper in %s is damaged or missing", path);
    ch_wipe(plain, sizeof plain);
    return err;
}

static enum ch_err open_secrets(struct ch_store *store, const char *path, struct ch_why *why)
{
    struct ch_vault_reader *reader;
    enum ch_err err = ch_vault_reader_new(store->vault, &reader);
    if (err)
        return ch_why_set(why, err, "the vault could not be set up");
    err = prove_master_key(store, reader, path, why);
    if (err == CH_ERR_NOT_FOUND)
        err = ch_store_transact(store->writer_db, create_values, store, why);
    if (err == CH_ERR_CONFLICT) // there is a pepper, so the database was not new
        err = ch_why_set(why, CH_ERR_CORRUPT, "the sealed sentinel in %s is missing", path);
    if (!err)
        err = unseal_pepper(store, reader, path, why);
    ch_vault_reader_free(reader);
    return err;
}

static enum ch_err open_databases(struct ch_store *store, const char *path, struct ch_why *why)
{
    enum ch_err err = ch_db_open(path, CH_DB_WRITER, &store->writer_db, why);
    if (!err)
        err = ch_migrate(store->writer_db, path, why);
    if (!err)
        err = ch_migrate_check(store->writer_db, path, why);
    if (!err)
        err = open_secrets(store, path, why);
    if (!err)
        err = ch_db_open(path, CH_DB_READER, &store->reader_db, why);
    if (err)
        return err;
    ch_db_restrict(store->writer_db);
    ch_db_restrict(store->reader_db);
    return CH_OK;
}

enum ch_err ch_store_open(const char *path, const struct ch_secret *master_key, bool create,
                          struct ch_store **store_out, struct ch_why *why)
{
    struct ch_store *store = ch_zcalloc(1, sizeof *store);
    if (!store)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    store->lock_fd = -1;
    pthread_mutex_init(&store->write_mutex, NULL);
    pthread_mutex_init(&store->read_mutex, NULL);
    enum ch_err err = create ? CH_OK : require_file(path, why);
    if (!err)
        err = lock(path, &store->lock_fd, why);
    if (!err && create)
        err = create_file(path, why);
    if (!err && (err = ch_vault_new(master_key, &store->vault)))
        ch_why_set(why, err, "the vault could not be set up from the master key");
    if (!err)
        err = open_databases(store, path, why);
    if (err)
        ch_store_close(store);
    else
        *store_out = store;
    return err;
}

void ch_store_close(struct ch_store *store)
{
    if (!store)
        return;
    CH_ASSERT(!store->usage_writer); // stop the thread first
    ch_db_close(store->reader_db); // the writer is the last, so that it is the one that checkpoints
    ch_db_close(store->writer_db);
    ch_secret_free(store->pepper);
    ch_vault_free(store->vault);
    pthread_mutex_destroy(&store->read_mutex);
    pthread_mutex_destroy(&store->write_mutex);
    if (store->lock_fd >= 0)
        close(
            store->lock_fd); // the file stays: removing it would let two processes hold "the" lock
    ch_zfree(store);
}

struct ch_vault *ch_store_vault(struct ch_store *store)
{
    return store->vault;
}

const struct ch_secret *ch_store_pepper(const struct ch_store *store)
{
    return store->pepper;
}

enum ch_err ch_store_transact(struct ch_db *db, ch_store_write_fn fn, void *arg, struct ch_why *why)
{
    enum ch_err err = ch_db_begin(db, why);
    if (err)
        return err;
    err = fn(db, arg, why);
    if (!err)
        err = ch_db_commit(db, why);
    if (err)
        ch_db_rollback(db);
    return err;
}

enum ch_err ch_store_write(struct ch_store *store, ch_store_write_fn fn, void *arg,
                           struct ch_why *why)
{
    if (store->usage_writer)
        return ch_usage_writer_run(store->usage_writer, fn, arg, why);
    pthread_mutex_lock(&store->write_mutex);
    enum ch_err err = ch_store_transact(store->writer_db, fn, arg, why);
    pthread_mutex_unlock(&store->write_mutex);
    return err;
}

enum ch_err ch_store_read(struct ch_store *store, ch_store_write_fn fn, void *arg,
                          struct ch_why *why)
{
    pthread_mutex_lock(&store->read_mutex);
    enum ch_err err = ch_store_transact(store->reader_db, fn, arg, why);
    pthread_mutex_unlock(&store->read_mutex);
    return err;
}
