// SPDX-License-Identifier: Apache-2.0
#include "app/config_file.h"

#include "store/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCAL_PATH  "chaperone.yaml"
#define SYSTEM_PATH "/etc/chaperone/chaperone.yaml"
#define PATH_ENV    "CHAPERONE_CONFIG"
#define SECRET_MAX  1024 // bytes of a file with a secret; a master key has at most 65

static enum ch_err copy_path(const char *path, char *path_out, struct ch_why *why)
{
    if (ch_span_copy(ch_span_of(path), path_out, CH_CONFIG_PATH))
        return CH_OK;
    return ch_why_set(why, CH_ERR_INVALID, "the path of the configuration is longer than %d bytes",
                      CH_CONFIG_PATH - 1);
}

enum ch_err ch_config_file_find(const char *option, char *path_out, bool *is_named_out,
                                struct ch_why *why)
{
    static const char *const places[] = {LOCAL_PATH, SYSTEM_PATH};
    const char *named = option ? option : getenv(PATH_ENV);
    *is_named_out = named && named[0];
    if (*is_named_out)
        return copy_path(named, path_out, why);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (access(places[i], F_OK) == 0)
            return copy_path(places[i], path_out, why);
    return ch_why_set(why, CH_ERR_NOT_FOUND,
                      "no configuration: neither ./" LOCAL_PATH " nor " SYSTEM_PATH
                      " is there; name one with --config or " PATH_ENV
                      ", or make one with `chaperone init`");
}

static enum ch_err fail_errno(struct ch_why *why, const char *path)
{
    return ch_why_set(why, errno == ENOENT ? CH_ERR_NOT_FOUND : CH_ERR_IO, "%s: %s", path,
                      strerror(errno));
}

// Reads until `size` bytes are there or the file is over.
static enum ch_err read_all(int fd, char *bytes, size_t size, size_t *len_out)
{
    size_t len = 0;
    ssize_t got = 1;
    while (len < size && got != 0) {
        got = read(fd, bytes + len, size - len);
        if (got < 0 && errno != EINTR)
            return CH_ERR_IO;
        len += got > 0 ? (size_t)got : 0;
    }
    *len_out = len;
    return CH_OK;
}

// ---- the file

// The directory part of a path: "" for a bare name, so that what is relative stays so.
static void take_directory(const char *path, char dir_out[CH_CONFIG_PATH])
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (slash == path)
        len = 1;
    ch_span_copy((struct ch_span){path, len}, dir_out, CH_CONFIG_PATH);
}

static bool is_ours(const struct stat *info)
{
    return info->st_uid == geteuid() || info->st_uid == 0;
}

static enum ch_err deny_found(const char *path, const char *reason, struct ch_why *why)
{
    return ch_why_set(why, CH_ERR_DENIED,
                      "%s is not taken unasked, since %s; name it with --config if you trust it",
                      path, reason);
}

// Relative paths begin at the folder, so it decides where the socket is as much as the file does.
static enum ch_err check_found(int fd, const char *path, const char *dir, struct ch_why *why)
{
    struct stat file, folder;
    if (fstat(fd, &file) != 0 || stat(dir[0] ? dir : ".", &folder) != 0)
        return fail_errno(why, path);
    if (!S_ISREG(file.st_mode))
        return deny_found(path, "it is not a file", why);
    if (!is_ours(&file))
        return deny_found(path, "it belongs to another user", why);
    if (file.st_mode & (S_IWGRP | S_IWOTH))
        return deny_found(path, "other users can write it", why);
    if (!is_ours(&folder))
        return deny_found(path, "its folder belongs to another user", why);
    if (folder.st_mode & S_IWOTH)
        return deny_found(path, "everybody can write its folder", why);
    return CH_OK;
}

// `found_dir`: the folder of a file that nobody named, NULL for one that somebody did. O_NONBLOCK:
// a FIFO must not hold the command before it is looked at; a named one (<(…)) may well be one.
static enum ch_err read_config(const char *path, const char *found_dir, struct ch_buf *text,
                               struct ch_why *why)
{
    enum ch_err err = ch_buf_reserve(text, CH_CONFIG_FILE_MAX + 1);
    if (err)
        return ch_why_set(why, err, "out of memory");
    int fd = open(path, O_RDONLY | O_CLOEXEC | (found_dir ? O_NONBLOCK : 0));
    if (fd < 0)
        return fail_errno(why, path);
    err = found_dir ? check_found(fd, path, found_dir, why) : CH_OK;
    // One byte more than may be: the parser refuses a file that is too long.
    if (!err && (err = read_all(fd, text->ptr, CH_CONFIG_FILE_MAX + 1, &text->len)))
        fail_errno(why, path);
    close(fd);
    return err;
}

static enum ch_err load(const char *path, bool is_found, struct ch_config *config_out,
                        struct ch_why *why)
{
    char dir[CH_CONFIG_PATH];
    struct ch_why reason;
    struct ch_buf text;
    ch_buf_init(&text, CH_CONFIG_FILE_MAX + 1);
    take_directory(path, dir);
    enum ch_err err = read_config(path, is_found ? dir : NULL, &text, why);
    if (!err && (err = ch_config_parse(ch_buf_span(&text), dir, config_out, &reason)))
        ch_why_set(why, err, "%s: %s", path, reason.text);
    ch_buf_fini(&text);
    return err;
}

enum ch_err ch_config_file_load(const char *path, struct ch_config *config_out, struct ch_why *why)
{
    return load(path, false, config_out, why);
}

enum ch_err ch_config_file_load_found(const char *path, struct ch_config *config_out,
                                      struct ch_why *why)
{
    return load(path, true, config_out, why);
}

// ---- the master key

struct secret_text {
    char bytes[SECRET_MAX + 1];
    size_t len;
};

// A root process may read everybody's; to others only what they or root wrote is to be trusted.
// systemd guards its credentials (`is_guarded`) itself, by an access list that looks like group
// rights.
static enum ch_err check_secret_file(int fd, const char *path, bool is_guarded, struct ch_why *why)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return fail_errno(why, path);
    if (!S_ISREG(info.st_mode))
        return ch_why_set(why, CH_ERR_INVALID, "%s: is not a file", path);
    if (is_guarded)
        return CH_OK;
    if (info.st_mode & (S_IRWXG | S_IRWXO))
        return ch_why_set(why, CH_ERR_DENIED,
                          "%s: other users can read or change it; run chmod 600 %s", path, path);
    if (geteuid() != 0 && info.st_uid != geteuid() && info.st_uid != 0)
        return ch_why_set(why, CH_ERR_DENIED, "%s: belongs to another user", path);
    return CH_OK;
}

// O_NONBLOCK: a FIFO must not hold the start before it is looked at.
static enum ch_err read_secret_file(const char *path, bool is_guarded, struct secret_text *text_out,
                                    struct ch_why *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail_errno(why, path);
    enum ch_err err = check_secret_file(fd, path, is_guarded, why);
    if (!err && read_all(fd, text_out->bytes, sizeof text_out->bytes, &text_out->len))
        err = fail_errno(why, path);
    close(fd);
    if (!err && text_out->len > SECRET_MAX)
        err = ch_why_set(why, CH_ERR_INVALID, "%s: is longer than %d bytes", path, SECRET_MAX);
    return err;
}

static enum ch_err read_credential(const char *name, struct secret_text *text_out,
                                   struct ch_why *why)
{
    char path[CH_CONFIG_PATH];
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    if (!dir)
        return ch_why_set(why, CH_ERR_NOT_FOUND,
                          "CREDENTIALS_DIRECTORY is not set: start the daemon from a systemd unit "
                          "with LoadCredential=%s:PATH",
                          name);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
        return ch_why_set(why, CH_ERR_INVALID, "CREDENTIALS_DIRECTORY is too long");
    return read_secret_file(path, true, text_out, why);
}

// Neither a child nor a reader of /proc/self/environ finds it afterwards.
static enum ch_err take_environment(const char *name, struct secret_text *text_out,
                                    struct ch_why *why)
{
    char *value = getenv(name);
    if (!value)
        return ch_why_set(why, CH_ERR_NOT_FOUND, "the environment variable %s is not set", name);
    size_t len = strlen(value);
    bool fits = ch_span_copy((struct ch_span){value, len}, text_out->bytes, sizeof text_out->bytes);
    text_out->len = fits ? len : SECRET_MAX;
    ch_wipe(value, len);
    unsetenv(name);
    return fits ? CH_OK
                : ch_why_set(why, CH_ERR_INVALID,
                             "the environment variable %s is longer than %d bytes", name,
                             SECRET_MAX);
}

static enum ch_err read_secret(const char *reference, struct secret_text *text_out,
                               struct ch_why *why)
{
    char name[CH_CONFIG_PATH];
    enum ch_config_source source;
    struct ch_span span;
    enum ch_err err = ch_config_reference(ch_span_of(reference), &source, &span);
    if (err)
        return ch_why_set(why, err, "master_key: is no reference");
    ch_span_copy(span, name, sizeof name); // shorter than the reference it was cut from
    switch (source) {
    case CH_CONFIG_ENV:
        return take_environment(name, text_out, why);
    case CH_CONFIG_FILE:
        return read_secret_file(name, false, text_out, why);
    case CH_CONFIG_CREDENTIAL:
        return read_credential(name, text_out, why);
    }
    return CH_ERR_INVALID;
}

enum ch_err ch_config_master_key(const struct ch_config *config, struct ch_secret **key_out,
                                 struct ch_why *why)
{
    struct secret_text text = {.len = 0};
    struct ch_why reason;
    enum ch_err err = read_secret(config->master_key, &text, why);
    if (!err &&
        (err = ch_vault_master_key_parse((struct ch_span){text.bytes, text.len}, key_out, &reason)))
        ch_why_set(why, err, "%s: %s", config->master_key, reason.text);
    ch_wipe(&text, sizeof text);
    return err;
}
