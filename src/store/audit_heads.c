// SPDX-License-Identifier: Apache-2.0
// The heads of the audit log: in the log, and in the file beside the database.
#include "audit_internal.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD_LINE 256 // bytes: "SEQ HASH SIGNATURE\n" has at most 215

static bool parse_hex(struct ch_span text, unsigned char *out, size_t size)
{
    size_t got = 0;
    const char *end = NULL;
    return text.len == 2 * size &&
           sodium_hex2bin(out, size, text.ptr, text.len, NULL, &got, &end) == 0 && got == size &&
           end == text.ptr + text.len;
}

// The text up to the next blank; moves `line` behind it.
static struct ch_span take_word(struct ch_span *line)
{
    struct ch_span trimmed = ch_span_trim(*line), word = trimmed;
    const char *blank = trimmed.len ? memchr(trimmed.ptr, ' ', trimmed.len) : NULL;
    if (blank)
        word.len = (size_t)(blank - trimmed.ptr);
    *line = ch_span_sub(trimmed, word.len);
    return word;
}

// What stands behind `name` in a log line.
static struct ch_span log_value(struct ch_span line, const char *name)
{
    struct ch_span word;
    while ((word = take_word(&line)).len)
        if (ch_span_starts(word, ch_span_of(name))) {
            word = ch_span_sub(word, strlen(name));
            if (word.len >= 2 && word.ptr[0] == '"')
                word = (struct ch_span){word.ptr + 1, word.len - 2};
            return word;
        }
    return (struct ch_span){NULL, 0};
}

bool ch_audit_head_parse(struct ch_span line, struct ch_audit_head *head_out)
{
    struct ch_audit_head head = {.seq = 0};
    struct ch_span rest = line, seq = take_word(&rest), hash = take_word(&rest);
    struct ch_span signature = take_word(&rest);
    if (log_value(line, "event=audit_head").ptr) {
        seq = log_value(line, "seq=");
        hash = log_value(line, "hash=");
        signature = log_value(line, "signature=");
    } else if (hash.len == 0 && seq.len == 2 * sizeof head.hash) {
        hash = seq;
        seq = CH_SPAN("0");
    }
    if (ch_span_to_int64(seq, &head.seq) || !parse_hex(hash, head.hash, sizeof head.hash) ||
        (signature.len && !parse_hex(signature, head.signature, sizeof head.signature)))
        return false;
    *head_out = head;
    return true;
}

static void log_head(const struct ch_audit_head *head)
{
    char hash[2 * CH_AUDIT_HASH + 1], signature[2 * CH_AUDIT_SIGNATURE + 1];
    sodium_bin2hex(hash, sizeof hash, head->hash, sizeof head->hash);
    sodium_bin2hex(signature, sizeof signature, head->signature, sizeof head->signature);
    CH_LOG(CH_LOG_INFO, "audit_head", ch_log_int("seq", head->seq), ch_log_text("hash", hash),
           ch_log_text("signature", signature));
}

// One write of one line, so that a killed process leaves a whole one or none.
static void write_head(const struct ch_audit *audit, const struct ch_audit_head *head)
{
    char line[HEAD_LINE], hash[2 * CH_AUDIT_HASH + 1], signature[2 * CH_AUDIT_SIGNATURE + 1];
    sodium_bin2hex(hash, sizeof hash, head->hash, sizeof head->hash);
    sodium_bin2hex(signature, sizeof signature, head->signature, sizeof head->signature);
    int len = snprintf(line, sizeof line, "%lld %s %s\n", (long long)head->seq, hash, signature);
    if (write(audit->heads_fd, line, (size_t)len) != len || fdatasync(audit->heads_fd) != 0)
        CH_LOG(CH_LOG_ERROR, "audit_head_not_written", ch_log_text("file", audit->heads_path),
               ch_log_text("err", strerror(errno)), ch_log_int("seq", head->seq));
}

void ch_audit_settle(struct ch_audit *audit, bool is_committed)
{
    if (!audit || !audit->pending.seq)
        return;
    struct ch_audit_head head = audit->pending;
    audit->pending.seq = 0;
    if (!is_committed)
        return;
    pthread_mutex_lock(&audit->head_mutex);
    audit->head = head;
    pthread_mutex_unlock(&audit->head_mutex);
    write_head(audit, &head);
    log_head(&head);
}

enum ch_err ch_audit_heads_open(struct ch_audit *audit, const char *database, struct ch_why *why)
{
    if ((size_t)snprintf(audit->heads_path, sizeof audit->heads_path, "%s.audit-heads", database) >=
        sizeof audit->heads_path)
        return ch_why_set(why, CH_ERR_INVALID, "the path of the database is too long");
    audit->heads_fd =
        open(audit->heads_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    return audit->heads_fd >= 0 ? CH_OK
                                : ch_why_set(why, CH_ERR_IO, "%s cannot be opened: %s",
                                             audit->heads_path, strerror(errno));
}

// The last whole line; false when there is none.
static bool read_last_head(const struct ch_audit *audit, struct ch_audit_head *head_out)
{
    char bytes[2 * HEAD_LINE];
    struct stat info;
    if (fstat(audit->heads_fd, &info) != 0)
        return false;
    off_t from = info.st_size > (off_t)sizeof bytes ? info.st_size - (off_t)sizeof bytes : 0;
    ssize_t got = pread(audit->heads_fd, bytes, sizeof bytes, from);
    struct ch_span text = {bytes, got > 0 ? (size_t)got : 0};
    if (text.len == 0 || text.ptr[text.len - 1] != '\n')
        return false;
    text.len--;
    const char *before = memrchr(text.ptr, '\n', text.len);
    if (before)
        text = ch_span_sub(text, (size_t)(before + 1 - text.ptr));
    return ch_audit_head_parse(text, head_out);
}

void ch_audit_heads_reconcile(struct ch_audit *audit, struct ch_db *db)
{
    struct ch_audit_head known = {.seq = 0};
    unsigned char hash[CH_AUDIT_HASH];
    struct stat info;
    bool is_new = fstat(audit->heads_fd, &info) == 0 && info.st_size == 0;
    bool has_known = !is_new && read_last_head(audit, &known);
    bool agrees = has_known && !ch_audit_hash_read(db, known.seq, hash, NULL) &&
                  memcmp(hash, known.hash, sizeof hash) == 0;
    if (is_new || (agrees && known.seq < audit->head.seq))
        write_head(audit, &audit->head);
    if (is_new && audit->head.seq > 1)
        CH_LOG(CH_LOG_WARN, "audit_heads_missing", ch_log_text("file", audit->heads_path));
    if (!is_new && !agrees)
        CH_LOG(
            CH_LOG_ERROR, "audit_head_mismatch", ch_log_text("file", audit->heads_path),
            ch_log_int("known_seq", known.seq), ch_log_int("seq", audit->head.seq),
            ch_log_text("hint", "the log was cut, rolled back or edited: chaperone audit verify"));
}
