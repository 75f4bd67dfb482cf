// SPDX-License-Identifier: Apache-2.0
#include "app/init.h"

#include "base/secret.h"
#include "domain/config.h"
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_NAME   "chaperone.yaml"
#define KEY_NAME      "master.key"
#define DATABASE_NAME "chaperone.db"
#define TEXT_MAX      4096

static const char config_format[] =
    "# Configuration of chaperone. Every key and its default: docs/configuration.md.\n"
    "# Relative paths are relative to the folder of this file.\n"
    "\n"
    "listen:\n"
    "  - address: \"%s\"\n"
    "\n"
    "# Keep a copy of this file apart from the database: without it the provider keys are lost.\n"
    "master_key: ${file:" KEY_NAME "}\n"
    "\n"
    "database: " DATABASE_NAME "\n"
    "\n"
    "admin:\n"
    "  socket: chaperone.sock\n";

struct installation {
    const char *dir;
    char config_text[TEXT_MAX];
    struct ch_config config; // what the text says
    bool made_dir, made_key, made_database;
};

struct path {
    char text[CH_CONFIG_PATH];
};

// Fits: the configuration's own paths in the same folder were found to.
static struct path path_of(const struct installation *in, const char *name)
{
    struct path path;
    snprintf(path.text, sizeof path.text, "%s/%s", in->dir, name);
    return path;
}

static enum ch_err fail_errno(struct ch_why *why, const char *path)
{
    return ch_why_set(why, CH_ERR_IO, "%s: %s", path, strerror(errno));
}

// ---- what is to be written

// An address as it may stand between double quotes, and that needs no TLS.
static enum ch_err check_listen(const char *listen, struct ch_why *why)
{
    char text[TEXT_MAX];
    static struct ch_config config;
    bool is_quotable = !strpbrk(listen, "\"\\");
    snprintf(text, sizeof text, "listen: [{address: \"%s\"}]", listen);
    if (is_quotable && ch_config_parse(ch_span_of(text), "", &config, NULL) == CH_OK)
        return CH_OK;
    return ch_why_set(
        why, CH_ERR_INVALID,
        "--listen %s: must be 127.0.0.1:PORT, [::1]:PORT or unix:PATH; an address that "
        "other machines reach needs TLS and is added to " CONFIG_NAME " afterwards",
        listen);
}

static enum ch_err compose(struct installation *in, const char *listen, struct ch_why *why)
{
    struct ch_why reason;
    if (!in->dir[0])
        return ch_why_set(why, CH_ERR_INVALID, "--dir: the name of the folder is empty");
    enum ch_err err = check_listen(listen, why);
    if (err)
        return err;
    snprintf(in->config_text, sizeof in->config_text, config_format, listen);
    err = ch_config_parse(ch_span_of(in->config_text), in->dir, &in->config, &reason);
    return err ? ch_why_set(why, err, "--dir %s: %s", in->dir, reason.text) : CH_OK;
}

// A journal of an earlier installation would be replayed into the new database.
static enum ch_err check_nothing_is_there(const struct installation *in, struct ch_why *why)
{
    static const char *const names[] = {CONFIG_NAME, KEY_NAME, DATABASE_NAME, DATABASE_NAME "-wal",
                                        DATABASE_NAME ".audit-heads", "chaperone.journal"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct path path = path_of(in, names[i]);
        struct stat info;
        if (lstat(path.text, &info) == 0)
            return ch_why_set(why, CH_ERR_CONFLICT, "%s is there already; nothing was changed",
                              path.text);
        if (errno != ENOENT && errno != ENOTDIR)
            return fail_errno(why, path.text);
    }
    return CH_OK;
}

// ---- writing it

static enum ch_err make_dir(struct installation *in, struct ch_why *why)
{
    struct stat info;
    if (mkdir(in->dir, 0700) == 0) {
        in->made_dir = true;
        return CH_OK;
    }
    if (errno != EEXIST || stat(in->dir, &info) != 0)
        return fail_errno(why, in->dir);
    return S_ISDIR(info.st_mode) ? CH_OK
                                 : ch_why_set(why, CH_ERR_CONFLICT, "%s is no folder", in->dir);
}

static bool write_all(int fd, const char *text, size_t len)
{
    while (len) {
        ssize_t written = write(fd, text, len);
        if (written < 0 && errno != EINTR)
            return false;
        text += written > 0 ? written : 0;
        len -= written > 0 ? (size_t)written : 0;
    }
    return true;
}

// Makes a file that was not there, mode 0600 and on the disk. A half-written one is removed.
static enum ch_err make_file(const struct installation *in, const char *name, const char *text,
                             struct ch_why *why)
{
    struct path path = path_of(in, name);
    int fd = open(path.text, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_errno(why, path.text);
    bool is_written = write_all(fd, text, strlen(text)) && fsync(fd) == 0;
    enum ch_err err = is_written ? CH_OK : fail_errno(why, path.text);
    if (close(fd) != 0 && !err)
        err = fail_errno(why, path.text);
    if (err)
        unlink(path.text);
    return err;
}

static enum ch_err make_database(struct installation *in, const struct ch_secret *master_key,
                                 struct ch_why *why)
{
    struct ch_store *store;
    in->made_database = true; // also what a failed attempt leaves is ours to remove
    enum ch_err err = ch_store_open(in->config.database, master_key, true, &store, why);
    if (!err)
        ch_store_close(store);
    return err;
}

static enum ch_err make_key_and_database(struct installation *in, struct ch_why *why)
{
    char line[66]; // 64 digits, a line break, NUL
    struct ch_secret *master_key = NULL;
    ch_vault_master_key_generate(line);
    enum ch_err err = ch_vault_master_key_parse((struct ch_span){line, 64}, &master_key, why);
    strcpy(line + 64, "\n");
    if (!err) {
        err = make_file(in, KEY_NAME, line, why);
        in->made_key = !err;
    }
    ch_wipe(line, sizeof line);
    if (!err)
        err = make_database(in, master_key, why);
    ch_secret_free(master_key);
    return err;
}

// The names themselves must survive a power cut too.
static enum ch_err sync_dir(const struct installation *in, struct ch_why *why)
{
    int fd = open(in->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_synced = fd >= 0 && fsync(fd) == 0;
    enum ch_err err = is_synced ? CH_OK : fail_errno(why, in->dir);
    if (fd >= 0)
        close(fd);
    return err;
}

static void remove_file(const struct installation *in, const char *name)
{
    unlink(path_of(in, name).text);
}

static void remove_what_was_made(const struct installation *in)
{
    if (in->made_database) {
        remove_file(in, DATABASE_NAME);
        remove_file(in, DATABASE_NAME "-wal");
        remove_file(in, DATABASE_NAME "-shm");
        remove_file(in, DATABASE_NAME ".lock");
        remove_file(in, DATABASE_NAME ".audit-heads");
    }
    if (in->made_key)
        remove_file(in, KEY_NAME);
    if (in->made_dir)
        rmdir(in->dir);
}

// The configuration comes last: where it is, the installation is whole.
static enum ch_err install(struct installation *in, struct ch_why *why)
{
    enum ch_err err = make_dir(in, why);
    if (!err)
        err = make_key_and_database(in, why);
    if (!err)
        err = make_file(in, CONFIG_NAME, in->config_text, why);
    if (err) {
        remove_what_was_made(in);
        return err;
    }
    return sync_dir(in, why);
}

enum ch_err ch_init_run(const struct ch_init_options *options, struct ch_why *why)
{
    struct installation *in = ch_zcalloc(1, sizeof *in);
    if (!in)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    in->dir = options->dir;
    enum ch_err err = compose(in, options->listen ? options->listen : "127.0.0.1:8080", why);
    if (!err)
        err = check_nothing_is_there(in, why);
    if (!err)
        err = install(in, why);
    ch_zfree(in);
    return err;
}
