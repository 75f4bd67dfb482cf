// SPDX-License-Identifier: Apache-2.0
#include "store/store.h"

#include "migrate.h"
#include "store/db.h"
#include "store_internal.h"
#include "audit_internal.h"
#include "vault_values.h"

#include "domain/wrapped_key.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SENTINEL CH_SPAN("chaperone sentinel 1")

// Where the lock of the database file itself lies: far behind the bytes that SQLite locks (at 1
// GiB) and behind any content.
#define INODE_LOCK_BYTE (INT64_C(1) << 62)

enum ch_err ch_store_process_init(struct ch_why *why)
{
    return ch_db_process_init(why);
}

// ---- the file and its locks

static enum ch_err fail_errno(struct ch_why *why, const char *path, const char *what)
{
    return ch_why_set(why, CH_ERR_IO, "%s%s: %s", path, what, strerror(errno));
}

// A path without symbolic links. Of a file yet to be made, its folder's.
static enum ch_err resolve(const char *path, bool create, char real_out[PATH_MAX],
                           struct ch_why *why)
{
    char folder[PATH_MAX], real_folder[PATH_MAX];
    if (realpath(path, real_out))
        return CH_OK;
    if (errno != ENOENT)
        return fail_errno(why, path, "");
    if (!create)
        return ch_why_set(why, CH_ERR_NOT_FOUND, "%s does not exist: run `chaperone init`", path);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    struct ch_span before = {path, (size_t)(name - path)};
    if (!ch_span_copy(before.len ? before : CH_SPAN("."), folder, sizeof folder))
        return ch_why_set(why, CH_ERR_INVALID, "the path of the database is too long");
    if (!realpath(folder, real_folder))
        return fail_errno(why, folder, "");
    if ((size_t)snprintf(real_out, PATH_MAX, "%s/%s", real_folder, name) >= PATH_MAX)
        return ch_why_set(why, CH_ERR_INVALID, "the path of the database is too long");
    return CH_OK;
}

// SQLite takes an empty file for a new database.
static enum ch_err require_content(const char *path, struct ch_why *why)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return fail_errno(why, path, "");
    if (S_ISREG(info.st_mode) && info.st_size > 0)
        return CH_OK;
    return ch_why_set(
        why, CH_ERR_CORRUPT,
        "%s is empty: restore it from a backup, or remove it and run `chaperone init`", path);
}

static enum ch_err find_file(const char *path, bool create, char real_out[PATH_MAX],
                             struct ch_why *why)
{
    enum ch_err err = resolve(path, create, real_out, why);
    return err || create ? err : require_content(real_out, why);
}

static enum ch_err in_use(const char *path, struct ch_why *why)
{
    return ch_why_set(why, CH_ERR_CONFLICT, "%s is in use by another chaperone process", path);
}

static enum ch_err lock_name(struct ch_store *store, struct ch_why *why)
{
    char name[PATH_MAX];
    if ((size_t)snprintf(name, sizeof name, "%s.lock", store->path) >= sizeof name)
        return ch_why_set(why, CH_ERR_INVALID, "the path of the database is too long");
    store->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock_fd < 0)
        return fail_errno(why, name, " cannot be opened");
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return CH_OK;
    return errno == EWOULDBLOCK ? in_use(store->path, why)
                                : fail_errno(why, name, " cannot be locked");
}

// Against a second name of the same file: a hard link, or a mount elsewhere. Closing any descriptor
// of a file drops the process's own POSIX locks on it, SQLite's among them, so this one is opened
// before SQLite and closed after it; its lock is an open file description's, which SQLite's leave
// alone.
static enum ch_err lock_inode(struct ch_store *store, bool create, struct ch_why *why)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = INODE_LOCK_BYTE, .l_len = 1};
    struct stat info;
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0);
    store->inode_fd = open(store->path, flags, 0600);
    if (store->inode_fd < 0 || fstat(store->inode_fd, &info) != 0)
        return fail_errno(why, store->path, " cannot be opened");
    store->device = info.st_dev;
    store->inode = info.st_ino;
    if (fcntl(store->inode_fd, F_OFD_SETLK, &lock) == 0)
        return CH_OK;
    return errno == EAGAIN || errno == EACCES ? in_use(store->path, why)
                                              : fail_errno(why, store->path, " cannot be locked");
}

// Whether the file that SQLite writes still has its name. What goes into a file without a name is
// gone with this process.
static enum ch_err require_in_place(const struct ch_store *store, struct ch_why *why)
{
    struct stat info;
    if (stat(store->path, &info) == 0 && info.st_dev == store->device &&
        info.st_ino == store->inode)
        return CH_OK;
    return ch_why_set(why, CH_ERR_UNAVAILABLE,
                      "%s was removed or replaced under the running daemon: usage waits in the "
                      "journal until the file is back or chaperone is restarted",
                      store->path);
}

// ---- the secrets in it

static enum ch_err create_values(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct ch_store *store = arg;
    unsigned char pepper[CH_WRAPPED_KEY_PEPPER];
    ch_random(pepper, sizeof pepper);
    enum ch_err err = ch_vault_value_put(db, store->vault, CH_SPAN("sentinel"), SENTINEL, why);
    if (!err)
        err = ch_vault_value_put(db, store->vault, CH_SPAN("pepper"),
                                 (struct ch_span){(const char *)pepper, sizeof pepper}, why);
    ch_wipe(pepper, sizeof pepper);
    return err;
}

// The sentinel does not open: by whose fault, says the key id in it.
static enum ch_err explain_sentinel(struct ch_db *db, const struct ch_vault *vault,
                                    const char *path, struct ch_why *why)
{
    char needed[CH_VAULT_FINGERPRINT + 1], given[CH_VAULT_FINGERPRINT + 1];
    ch_vault_fingerprint(vault, given);
    if (ch_vault_value_fingerprint(db, CH_SPAN("sentinel"), needed, NULL) ||
        strcmp(needed, given) == 0)
        return ch_why_set(why, CH_ERR_CORRUPT,
                          "the sealed sentinel in %s is damaged: restore it from a backup", path);
    return ch_why_set(why, CH_ERR_DENIED,
                      "%s needs the master key with the fingerprint %s; the one configured has %s",
                      path, needed, given);
}

// Proves the master key. CH_ERR_NOT_FOUND: there is no sentinel.
static enum ch_err prove_master_key(struct ch_db *db, const struct ch_vault *vault,
                                    struct ch_vault_reader *reader, const char *path,
                                    struct ch_why *why)
{
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    size_t size = 0;
    enum ch_err err = ch_vault_value_open(db, reader, CH_SPAN("sentinel"), plain, &size, why);
    if (!err && !ch_span_eq((struct ch_span){(const char *)plain, size}, SENTINEL))
        err = CH_ERR_CORRUPT;
    if (err == CH_ERR_CORRUPT)
        return explain_sentinel(db, vault, path, why);
    if (err == CH_ERR_NOT_FOUND)
        ch_why_set(why, err, "the sealed sentinel in %s is missing: restore it from a backup",
                   path);
    return err;
}

static enum ch_err unseal_pepper(struct ch_db *db, struct ch_vault_reader *reader, const char *path,
                                 struct ch_secret **pepper_out, struct ch_why *why)
{
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    size_t size = 0;
    enum ch_err err = ch_vault_value_open(db, reader, CH_SPAN("pepper"), plain, &size, why);
    if (!err && size == CH_WRAPPED_KEY_PEPPER)
        err = ch_secret_new(plain, size, pepper_out);
    else if (!err || err == CH_ERR_CORRUPT || err == CH_ERR_NOT_FOUND)
        err = ch_why_set(why, CH_ERR_CORRUPT,
                         "the sealed pepper in %s is damaged or missing: restore it from a backup",
                         path);
    ch_wipe(plain, sizeof plain);
    return err;
}

static enum ch_err open_secrets(struct ch_db *db, const struct ch_vault *vault, const char *path,
                                struct ch_secret **pepper_out, struct ch_why *why)
{
    struct ch_vault_reader *reader;
    enum ch_err err = ch_vault_reader_new(vault, &reader);
    if (err)
        return ch_why_set(why, err, "the vault could not be set up");
    err = prove_master_key(db, vault, reader, path, why);
    if (!err)
        err = unseal_pepper(db, reader, path, pepper_out, why);
    ch_vault_reader_free(reader);
    return err;
}

static enum ch_err make_secrets(struct ch_store *store, struct ch_why *why)
{
    enum ch_err err = ch_store_transact(store, create_values, store, why);
    if (err == CH_ERR_CONFLICT) // there is a pepper, so the database was not new
        return ch_why_set(why, CH_ERR_CORRUPT, "the sealed sentinel in %s is missing", store->path);
    return err ? err
               : open_secrets(store->writer_db, store->vault, store->path, &store->pepper, why);
}

// ---- opening and closing

static enum ch_err open_databases(struct ch_store *store, bool create, struct ch_why *why)
{
    enum ch_err err = ch_db_open(store->path, CH_DB_WRITER, &store->writer_db, why);
    if (!err)
        err = ch_migrate(store->writer_db, store->path, create, why);
    if (!err)
        err = ch_migrate_check(store->writer_db, store->path, why);
    if (!err)
        err = open_secrets(store->writer_db, store->vault, store->path, &store->pepper, why);
    if (err == CH_ERR_NOT_FOUND)
        err = create ? make_secrets(store, why) : CH_ERR_CORRUPT;
    if (!err)
        err = ch_audit_open(store, create ? "init" : "audit.start", why);
    if (!err)
        err = ch_db_open(store->path, CH_DB_READER, &store->reader_db, why);
    if (err)
        return err;
    ch_db_restrict(store->writer_db);
    ch_db_restrict(store->reader_db);
    return CH_OK;
}

static enum ch_err open_vault(const struct ch_secret *master_key, struct ch_vault **vault_out,
                              struct ch_why *why)
{
    enum ch_err err = ch_vault_new(master_key, vault_out);
    return err ? ch_why_set(why, err, "the vault could not be set up from the master key") : CH_OK;
}

enum ch_err ch_store_open(const char *path, const struct ch_secret *master_key, bool create,
                          struct ch_store **store_out, struct ch_why *why)
{
    struct ch_store *store = ch_zcalloc(1, sizeof *store);
    if (!store)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    store->lock_fd = store->inode_fd = -1;
    pthread_mutex_init(&store->write_mutex, NULL);
    pthread_mutex_init(&store->read_mutex, NULL);
    enum ch_err err = find_file(path, create, store->path, why);
    if (!err)
        err = lock_name(store, why);
    if (!err)
        err = lock_inode(store, create, why);
    if (!err)
        err = open_vault(master_key, &store->vault, why);
    if (!err)
        err = open_databases(store, create, why);
    if (err)
        ch_store_close(store);
    else
        *store_out = store;
    return err;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

void ch_store_close(struct ch_store *store)
{
    if (!store)
        return;
    CH_ASSERT(!store->usage_writer); // stop the thread first
    ch_db_close(store->reader_db); // the writer is the last, so that it is the one that checkpoints
    ch_db_close(store->writer_db);
    ch_secret_free(store->pepper);
    ch_audit_close(store->audit);
    ch_vault_free(store->vault);
    pthread_mutex_destroy(&store->read_mutex);
    pthread_mutex_destroy(&store->write_mutex);
    close_fd(store->inode_fd); // after SQLite's
    close_fd(store->lock_fd); // the file stays: removing it would let two processes hold "the" lock
    ch_zfree(store);
}

static enum ch_err check_database(struct ch_db *db, const struct ch_vault *vault, const char *path,
                                  struct ch_why *why)
{
    struct ch_secret *pepper = NULL;
    enum ch_err err = ch_migrate_judge(db, path, false, why);
    if (!err)
        err = ch_migrate_check(db, path, why);
    if (!err)
        err = open_secrets(db, vault, path, &pepper, why);
    ch_secret_free(pepper);
    return err == CH_ERR_NOT_FOUND ? CH_ERR_CORRUPT : err;
}

enum ch_err ch_store_check(const char *path, const struct ch_secret *master_key, struct ch_why *why)
{
    char real[PATH_MAX];
    struct ch_vault *vault = NULL;
    struct ch_db *db = NULL;
    enum ch_err err = find_file(path, false, real, why);
    if (!err)
        err = open_vault(master_key, &vault, why);
    if (!err)
        err = ch_db_open(real, CH_DB_READER, &db, why);
    if (!err)
        err = check_database(db, vault, real, why);
    ch_db_close(db);
    ch_vault_free(vault);
    return err;
}

struct ch_vault *ch_store_vault(struct ch_store *store)
{
    return store->vault;
}

const struct ch_secret *ch_store_pepper(const struct ch_store *store)
{
    return store->pepper;
}

bool ch_store_is_healthy(const struct ch_store *store)
{
    return !atomic_load_explicit(&store->is_failed, memory_order_acquire);
}

// ---- transactions

enum ch_err ch_store_begin(struct ch_store *store, struct ch_why *why)
{
    if (!ch_store_is_healthy(store))
        return ch_why_set(why, CH_ERR_UNAVAILABLE,
                          "%s failed and is not written any more: usage waits in the journal until "
                          "chaperone is restarted",
                          store->path);
    enum ch_err err = require_in_place(store, why);
    return err ? err : ch_db_begin(store->writer_db, why);
}

enum ch_err ch_store_commit(struct ch_store *store, struct ch_why *why)
{
    enum ch_err err = ch_db_commit(store->writer_db, why);
    return err ? err : require_in_place(store, why);
}

void ch_store_fail(struct ch_store *store)
{
    if (!atomic_exchange(&store->is_failed, true))
        CH_LOG(CH_LOG_ERROR, "store_failed", ch_log_text("database", store->path));
}

void ch_store_rollback(struct ch_store *store)
{
    ch_db_rollback(store->writer_db);
    if (ch_db_is_broken(store->writer_db))
        ch_store_fail(store);
}

enum ch_err ch_store_transact(struct ch_store *store, ch_store_write_fn fn, void *arg,
                              struct ch_why *why)
{
    enum ch_err err = ch_store_begin(store, why);
    if (!err)
        err = fn(store->writer_db, arg, why);
    if (!err)
        err = ch_store_commit(store, why);
    if (err)
        ch_store_rollback(store);
    ch_audit_settle(store->audit, err == CH_OK);
    return err;
}

enum ch_err ch_store_write(struct ch_store *store, ch_store_write_fn fn, void *arg,
                           struct ch_why *why)
{
    if (store->usage_writer)
        return ch_usage_writer_run(store->usage_writer, fn, arg, why);
    pthread_mutex_lock(&store->write_mutex);
    enum ch_err err = ch_store_transact(store, fn, arg, why);
    pthread_mutex_unlock(&store->write_mutex);
    return err;
}

static enum ch_err transact_reading(struct ch_db *db, ch_store_write_fn fn, void *arg,
                                    struct ch_why *why)
{
    enum ch_err err = ch_db_begin(db, why);
    if (!err)
        err = fn(db, arg, why);
    if (!err)
        err = ch_db_commit(db, why);
    if (err)
        ch_db_rollback(db);
    return err;
}

enum ch_err ch_store_read(struct ch_store *store, ch_store_write_fn fn, void *arg,
                          struct ch_why *why)
{
    pthread_mutex_lock(&store->read_mutex);
    enum ch_err err = transact_reading(store->reader_db, fn, arg, why);
    pthread_mutex_unlock(&store->read_mutex);
    return err;
}
