// SPDX-License-Identifier: Apache-2.0
#include "store/capture_store.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/secret.h"
#include "store/db.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MS_PER_DAY   INT64_C(86400000)
#define EXPIRE_STEP  "5000" // places deleted in one transaction
#define DATE_LEN     10     // "2026-11-21"
#define NAME_BEFORE  "capture-"
#define NAME_BEHIND  ".jsonl"
#define NAME_MAX_LEN 32

struct place {
    int64_t id, day, position, size;
};

struct ch_capture_file {
    char directory[PATH_MAX];
    int fd; // of the file of `day`; -1: none is open
    int64_t day, size;
    struct place places[CH_CAPTURE_BATCH]; // not stored yet
    size_t place_count;
};

enum ch_err ch_capture_file_new(const char *directory, struct ch_capture_file **file_out)
{
    struct ch_capture_file *file = ch_zcalloc(1, sizeof *file);
    if (!file)
        return CH_ERR_NOMEM;
    file->fd = -1;
    if (!ch_span_copy(ch_span_of(directory), file->directory, sizeof file->directory)) {
        ch_zfree(file);
        return CH_ERR_LIMIT;
    }
    *file_out = file;
    return CH_OK;
}

static void close_day(struct ch_capture_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

void ch_capture_file_free(struct ch_capture_file *file)
{
    if (!file)
        return;
    close_day(file);
    ch_zfree(file);
}

// ---- names

static void name_of_day(int64_t day, char out[NAME_MAX_LEN])
{
    char date[25];
    ch_clock_format_utc(day * MS_PER_DAY, date);
    snprintf(out, NAME_MAX_LEN, NAME_BEFORE "%.*s" NAME_BEHIND, DATE_LEN, date);
}

// The day of a file's name; false for a name that is none of ours.
static bool day_of_name(const char *name, int64_t *day_out)
{
    struct tm when = {0};
    char again[NAME_MAX_LEN];
    if (strncmp(name, NAME_BEFORE, strlen(NAME_BEFORE)) != 0)
        return false;
    const char *end = strptime(name + strlen(NAME_BEFORE), "%Y-%m-%d", &when);
    if (!end || strcmp(end, NAME_BEHIND) != 0)
        return false;
    *day_out = (int64_t)timegm(&when) / (MS_PER_DAY / 1000);
    name_of_day(*day_out, again);
    return strcmp(name, again) == 0;
}

static enum ch_err fail_errno(struct ch_why *why, const char *directory, const char *name)
{
    return ch_why_set(why, errno == ENOENT ? CH_ERR_NOT_FOUND : CH_ERR_IO, "%s/%s: %s", directory,
                      name, strerror(errno));
}

static enum ch_err open_directory(const char *directory, int *fd_out, struct ch_why *why)
{
    *fd_out = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *fd_out >= 0 ? CH_OK : fail_errno(why, directory, "");
}

// ---- appending

// A line that a dying process left unfinished ends here, so that the next one begins at its start.
static bool end_torn_line(int fd, int64_t *size)
{
    char last = '\n';
    if (*size > 0 && pread(fd, &last, 1, *size - 1) != 1)
        return false;
    if (last == '\n')
        return true;
    if (write(fd, "\n", 1) != 1)
        return false;
    ++*size;
    return true;
}

static enum ch_err open_day(struct ch_capture_file *file, int64_t day, struct ch_why *why)
{
    char name[NAME_MAX_LEN];
    struct stat info;
    int folder;
    close_day(file);
    if (mkdir(file->directory, 0700) != 0 && errno != EEXIST)
        return fail_errno(why, file->directory, "");
    enum ch_err err = open_directory(file->directory, &folder, why);
    if (err)
        return err;
    name_of_day(day, name);
    file->fd = openat(folder, name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool is_open = file->fd >= 0 && fchmod(file->fd, 0600) == 0 && fstat(file->fd, &info) == 0;
    file->day = day;
    file->size = is_open ? (int64_t)info.st_size : 0;
    if (!is_open || !end_torn_line(file->fd, &file->size)) {
        err = fail_errno(why, file->directory, name);
        close_day(file);
    }
    close(folder);
    return err;
}

static enum ch_err write_line(struct ch_capture_file *file, struct ch_span line, struct ch_why *why)
{
    struct iovec parts[] = {{(void *)(uintptr_t)line.ptr, line.len}, {(char[]){'\n'}, 1}};
    ssize_t put = writev(file->fd, parts, 2);
    if (put == (ssize_t)line.len + 1)
        return CH_OK;
    // A full disk takes a part: what no reader could use goes again, or the next append finds it.
    enum ch_err err = ch_why_set(why, CH_ERR_IO, "%s: %s", file->directory,
                                 put < 0 ? strerror(errno) : "only a part could be written");
    if (ftruncate(file->fd, file->size) != 0 || put < 0)
        close_day(file);
    return err;
}

enum ch_err ch_capture_file_append(struct ch_capture_file *file, int64_t now_ms, int64_t id,
                                   struct ch_span line, struct ch_why *why)
{
    int64_t day = now_ms / MS_PER_DAY;
    if (line.len > CH_CAPTURE_LINE_MAX || file->place_count == CH_CAPTURE_BATCH)
        return ch_why_set(why, CH_ERR_LIMIT, "the event is too long, or too many wait");
    if (memchr(line.ptr, '\n', line.len))
        return ch_why_set(why, CH_ERR_INVALID, "an event is one line");
    enum ch_err err = CH_OK;
    if (file->fd < 0 || file->day != day)
        err = open_day(file, day, why);
    if (!err)
        err = write_line(file, line, why);
    if (err)
        return err;
    file->places[file->place_count++] =
        (struct place){id, file->day, file->size, (int64_t)line.len};
    file->size += (int64_t)line.len + 1;
    return CH_OK;
}

static enum ch_err insert_places(struct ch_db *db, void *arg, struct ch_why *why)
{
    static const char sql[] =
        "INSERT OR REPLACE INTO capture_index (usage_id, day, position, size) "
        "VALUES (?1, ?2, ?3, ?4)";
    const struct ch_capture_file *file = arg;
    enum ch_err err = CH_OK;
    for (size_t i = 0; i < file->place_count && !err; i++) {
        struct sqlite3_stmt *stmt;
        err = ch_db_prepare(db, sql, &stmt, why);
        if (err)
            break;
        ch_db_bind_int(stmt, 1, file->places[i].id);
        ch_db_bind_int(stmt, 2, file->places[i].day);
        ch_db_bind_int(stmt, 3, file->places[i].position);
        ch_db_bind_int(stmt, 4, file->places[i].size);
        err = ch_db_run(db, stmt, why);
    }
    return err;
}

enum ch_err ch_capture_file_commit(struct ch_capture_file *file, struct ch_store *store,
                                   struct ch_why *why)
{
    if (file->place_count == 0)
        return CH_OK;
    enum ch_err err = ch_store_write(store, insert_places, file, why);
    if (!err)
        file->place_count = 0;
    return err;
}

// ---- expiry

static enum ch_err remove_old(const char *directory, int64_t first_kept, int64_t *files_out,
                              struct ch_why *why)
{
    struct dirent *entry;
    DIR *folder = opendir(directory);
    if (!folder) // nothing was ever captured
        return errno == ENOENT ? CH_OK : fail_errno(why, directory, "");
    enum ch_err err = CH_OK;
    while ((entry = readdir(folder))) {
        int64_t day;
        if (!day_of_name(entry->d_name, &day) || day >= first_kept)
            continue;
        if (unlinkat(dirfd(folder), entry->d_name, 0) == 0)
            ++*files_out;
        else
            err = fail_errno(why, directory, entry->d_name);
    }
    closedir(folder);
    return err;
}

struct expiry {
    int64_t first_kept, deleted;
};

static enum ch_err delete_places(struct ch_db *db, void *arg, struct ch_why *why)
{
    static const char sql[] = "DELETE FROM capture_index WHERE usage_id IN (SELECT usage_id FROM "
                              "capture_index WHERE day < ?1 LIMIT " EXPIRE_STEP ")";
    struct expiry *expiry = arg;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, expiry->first_kept);
    err = ch_db_run(db, stmt, why);
    expiry->deleted = err ? 0 : ch_db_changes(db);
    return err;
}

enum ch_err ch_capture_file_expire(struct ch_capture_file *file, struct ch_store *store,
                                   int64_t now_ms, int64_t retention_ms, int64_t *files_out,
                                   struct ch_why *why)
{
    // The day that holds the first moment to keep is kept.
    struct expiry expiry = {.first_kept = (now_ms - retention_ms) / MS_PER_DAY};
    *files_out = 0;
    if (file->fd >= 0 && file->day < expiry.first_kept)
        close_day(file);
    enum ch_err err = remove_old(file->directory, expiry.first_kept, files_out, why);
    do {
        if (!err)
            err = ch_store_write(store, delete_places, &expiry, why);
    } while (!err && expiry.deleted > 0);
    return err;
}

// ---- reading

static enum ch_err read_place(struct ch_db *db, void *arg, struct ch_why *why)
{
    static const char sql[] = "SELECT day, position, size FROM capture_index WHERE usage_id = ?";
    struct place *place = arg;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, why);
    if (err)
        return err;
    ch_db_bind_int(stmt, 1, place->id);
    err = ch_db_step(db, stmt, why);
    if (err)
        return err;
    place->day = ch_db_int(stmt, 0);
    place->position = ch_db_int(stmt, 1);
    place->size = ch_db_int(stmt, 2);
    ch_db_reset(stmt);
    return CH_OK;
}

static enum ch_err read_line(const char *directory, const struct place *place, struct ch_buf *line,
                             struct ch_why *why)
{
    char name[NAME_MAX_LEN];
    int folder;
    enum ch_err err = open_directory(directory, &folder, why);
    if (err)
        return err;
    name_of_day(place->day, name);
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        err = fail_errno(why, directory, name);
    } else {
        size_t size = place->size > 0 ? (size_t)place->size : 0;
        err = ch_buf_reserve(line, size);
        if (!err && pread(fd, line->ptr, size, (off_t)place->position) != (ssize_t)size)
            err = ch_why_set(why, CH_ERR_CORRUPT, "%s/%s: is shorter than it was", directory, name);
        line->len = err ? 0 : size;
        close(fd);
    }
    close(folder);
    return err;
}

// The line must be the event of this exchange: files can be replaced by other hands.
static enum ch_err parse_event(struct ch_span line, int64_t id, json_t **event_out,
                               struct ch_why *why)
{
    char expected[CH_REQUEST_ID_TEXT];
    json_t *event = json_loadb(line.ptr ? line.ptr : "", line.len, JSON_ALLOW_NUL, NULL);
    const char *found = json_string_value(json_object_get(event, "id"));
    ch_id_format(id, expected);
    if (!found || strcmp(found, expected) != 0) {
        json_decref(event);
        return ch_why_set(why, CH_ERR_CORRUPT, "what was captured of %s is damaged", expected);
    }
    *event_out = event;
    return CH_OK;
}

enum ch_err ch_capture_read(const char *directory, struct ch_store *store, int64_t id,
                            json_t **event_out, struct ch_why *why)
{
    struct place place = {.id = id};
    struct ch_buf line;
    enum ch_err err = ch_store_read(store, read_place, &place, why);
    if (err)
        return err;
    ch_buf_init(&line, CH_CAPTURE_LINE_MAX);
    err = read_line(directory, &place, &line, why);
    if (!err)
        err = parse_event(ch_buf_span(&line), id, event_out, why);
    ch_buf_fini(&line);
    return err;
}
