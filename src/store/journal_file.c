// SPDX-License-Identifier: Apache-2.0
#include "journal_file.h"

#include "base/secret.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE    UINT64_C(4096)
#define VERSION 1

// Limits that no sensible file passes; they keep the sizes below far from overflow.
#define LOOPS_MAX      256
#define SLOTS_MAX      (1u << 20)
#define RING_BYTES_MIN (UINT64_C(16) * CH_RECORD_MAX)
#define RING_BYTES_MAX (UINT64_C(1) << 34)

static_assert(sizeof(struct ch_journal_control) == 128, "two cache lines");
static_assert(sizeof(struct ch_journal_slot) == 384, "six cache lines");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "atomics in a mapping must be the bytes themselves");

struct header {
    char magic[8];
    uint32_t version, loops, slots, slot_bytes;
    uint64_t ring_bytes;
    unsigned char key[CH_JOURNAL_KEY];
    uint64_t checksum; // of everything before it
};

static const char magic[8] = {'c', 'h', 'j', 'o', 'u', 'r', 'n', '\n'};

static uint64_t checksum_of(const struct header *header)
{
    uint64_t sum;
    crypto_shorthash((unsigned char *)&sum, (const unsigned char *)header,
                     offsetof(struct header, checksum), header->key);
    return sum;
}

static uint64_t round_page(uint64_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

static uint64_t slots_offset(const struct ch_journal_geometry *geometry)
{
    return PAGE + round_page(geometry->loops * sizeof(struct ch_journal_control));
}

static uint64_t rings_offset(const struct ch_journal_geometry *geometry)
{
    uint64_t slots = (uint64_t)geometry->loops * geometry->slots;
    return slots_offset(geometry) + round_page(slots * sizeof(struct ch_journal_slot));
}

static uint64_t file_size(const struct ch_journal_geometry *geometry)
{
    return rings_offset(geometry) + geometry->loops * geometry->ring_bytes;
}

static bool is_sane(const struct ch_journal_geometry *geometry)
{
    return geometry->loops >= 1 && geometry->loops <= LOOPS_MAX && geometry->slots >= 1 &&
           geometry->slots <= SLOTS_MAX && geometry->ring_bytes >= RING_BYTES_MIN &&
           geometry->ring_bytes <= RING_BYTES_MAX && geometry->ring_bytes % PAGE == 0;
}

static enum ch_err map_file(struct ch_journal_file *file,
                            const struct ch_journal_geometry *geometry,
                            const unsigned char key[CH_JOURNAL_KEY], struct ch_why *why)
{
    size_t size = file_size(geometry);
    char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);
    if (map == MAP_FAILED)
        return ch_why_set(why, CH_ERR_IO, "the journal cannot be mapped: %s", strerror(errno));
    file->map = map;
    file->size = size;
    file->geometry = *geometry;
    memcpy(file->key, key, CH_JOURNAL_KEY);
    return CH_OK;
}

static bool is_zero(const struct header *header)
{
    return sodium_is_zero((const unsigned char *)header, sizeof *header);
}

// Maps what the file holds. Nothing, or a header of zeros: laying out was cut short and nothing was
// recorded yet.
static enum ch_err map_existing(struct ch_journal_file *file, const char *path, struct ch_why *why)
{
    struct header header = {0};
    struct stat info;
    if (fstat(file->fd, &info) != 0 || pread(file->fd, &header, sizeof header, 0) < 0)
        return ch_why_set(why, CH_ERR_IO, "%s cannot be read: %s", path, strerror(errno));
    if (is_zero(&header))
        return CH_OK;
    if (memcmp(header.magic, magic, sizeof magic) != 0)
        return ch_why_set(why, CH_ERR_CORRUPT,
                          "%s is not a journal of chaperone, or its header is damaged: move it "
                          "aside to start without what it holds",
                          path);
    if (header.version != VERSION || header.slot_bytes != sizeof(struct ch_journal_slot))
        return ch_why_set(why, CH_ERR_INVALID,
                          "%s was written by another version of chaperone: let that version start "
                          "and stop once, which empties it",
                          path);
    struct ch_journal_geometry geometry = {header.loops, header.slots, header.ring_bytes};
    if (header.checksum != checksum_of(&header) || !is_sane(&geometry) ||
        (uint64_t)info.st_size < file_size(&geometry))
        return ch_why_set(why, CH_ERR_CORRUPT,
                          "the journal %s is damaged: move it aside to start without the unsaved "
                          "records it holds",
                          path);
    return map_file(file, &geometry, header.key, why);
}

enum ch_err ch_journal_file_open(const char *path, struct ch_journal_file *file_out,
                                 struct ch_why *why)
{
    struct ch_journal_file file = {.fd = -1};
    file.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    if (file.fd < 0)
        return ch_why_set(why, CH_ERR_IO, "%s cannot be opened: %s", path, strerror(errno));
    enum ch_err err = CH_OK;
    if (flock(file.fd, LOCK_EX | LOCK_NB) != 0)
        err = ch_why_set(why, CH_ERR_CONFLICT, "%s is in use by another process", path);
    if (!err)
        err = map_existing(&file, path, why);
    if (err)
        ch_journal_file_close(&file);
    else
        *file_out = file;
    return err;
}

static void unmap(struct ch_journal_file *file)
{
    if (file->map)
        munmap(file->map, file->size);
    file->map = NULL;
}

// The header goes last: a file without it is one that was never finished.
static bool write_header(int fd, const struct ch_journal_geometry *geometry,
                         unsigned char key_out[CH_JOURNAL_KEY])
{
    struct header header = {
        .version = VERSION,
        .loops = geometry->loops,
        .slots = geometry->slots,
        .slot_bytes = sizeof(struct ch_journal_slot),
        .ring_bytes = geometry->ring_bytes,
    };
    memcpy(header.magic, magic, sizeof magic);
    ch_random(header.key, sizeof header.key);
    header.checksum = checksum_of(&header);
    memcpy(key_out, header.key, CH_JOURNAL_KEY);
    return pwrite(fd, &header, sizeof header, 0) == (ssize_t)sizeof header && fsync(fd) == 0;
}

enum ch_err ch_journal_file_lay_out(struct ch_journal_file *file,
                                    const struct ch_journal_geometry *geometry, struct ch_why *why)
{
    unsigned char key[CH_JOURNAL_KEY];
    if (!is_sane(geometry))
        return ch_why_set(why, CH_ERR_INVALID, "the sizes of the journal are out of range");
    unmap(file);
    if (ftruncate(file->fd, 0) != 0)
        return ch_why_set(why, CH_ERR_IO, "the journal cannot be emptied: %s", strerror(errno));
    int code = posix_fallocate(file->fd, 0, (off_t)file_size(geometry));
    if (code)
        return ch_why_set(why, CH_ERR_IO, "no room for the journal's %lld MiB: %s",
                          (long long)(file_size(geometry) >> 20), strerror(code));
    if (!write_header(file->fd, geometry, key))
        return ch_why_set(why, CH_ERR_IO, "the journal cannot be written: %s", strerror(errno));
    return map_file(file, geometry, key, why);
}

void ch_journal_file_forget_pages(const struct ch_journal_file *file)
{
    // On a shared mapping this keeps dirty bytes: they are the page cache's. A refusal costs memory
    // only.
    (void)madvise(file->map, file->size, MADV_DONTNEED);
}

enum ch_err ch_journal_file_sync(const struct ch_journal_file *file, const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    struct ch_span name = slash ? (struct ch_span){path, (size_t)(slash - path) + 1} : CH_SPAN(".");
    if (fsync(file->fd) != 0 || !ch_span_copy(name, folder, sizeof folder))
        return CH_ERR_IO;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum ch_err err = fd >= 0 && fsync(fd) == 0 ? CH_OK : CH_ERR_IO;
    if (fd >= 0)
        close(fd);
    return err;
}

void ch_journal_file_close(struct ch_journal_file *file)
{
    unmap(file);
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

struct ch_journal_control *ch_journal_file_control(const struct ch_journal_file *file,
                                                   unsigned loop)
{
    return (struct ch_journal_control *)(void *)(file->map + PAGE) + loop;
}

struct ch_journal_slot *ch_journal_file_slots(const struct ch_journal_file *file, unsigned loop)
{
    char *slots = file->map + slots_offset(&file->geometry);
    return (struct ch_journal_slot *)(void *)slots + (size_t)loop * file->geometry.slots;
}

char *ch_journal_file_ring(const struct ch_journal_file *file, unsigned loop)
{
    return file->map + rings_offset(&file->geometry) + loop * file->geometry.ring_bytes;
}
