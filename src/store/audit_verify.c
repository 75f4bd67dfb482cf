// SPDX-License-Identifier: Apache-2.0
// Proving the audit log, and what it says about the rows beside it.
#include "audit_internal.h"

#include "store_internal.h"
#include "vault_values.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define FINDINGS_MAX 200                // named; the rest is counted
#define FINDING_TEXT 400                // bytes
#define VALUE_TEXT   96                 // bytes of a value in a finding
#define HEADS_MAX    ((size_t)64 << 20) // bytes of the heads file that are read, its end

struct verification {
    struct ch_audit *audit;
    struct ch_vault_reader *reader;
    struct ch_db *db;
    struct ch_why *why;
    json_t *findings;
    int64_t finding_count, rows, heads;
    struct ch_audit_head head;
};

// `object`: {"", 0} for a finding that is about a row of the log alone; seq 0: about none.
static enum ch_err find_fault(struct verification *v, int64_t seq, struct ch_span kind,
                              struct ch_span object, const char *format, ...)
    CH_PRINTF(5, 6) CH_MUST_USE;
static enum ch_err find_fault(struct verification *v, int64_t seq, struct ch_span kind,
                              struct ch_span object, const char *format, ...)
{
    char text[FINDING_TEXT], name[VALUE_TEXT * 2];
    va_list args;
    if (v->finding_count++ >= FINDINGS_MAX)
        return CH_OK;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(name, sizeof name, "%.*s%s%.*s", CH_SPAN_ARG(kind), object.len ? ":" : "",
             CH_SPAN_ARG(object));
    json_t *finding =
        json_pack("{s:o, s:s, s:s}", "seq", seq ? json_integer((json_int_t)seq) : json_null(),
                  "object", name, "finding", text);
    if (!finding) // the name or a value of an edited row is no UTF-8
        finding =
            json_pack("{s:o, s:s, s:s}", "seq", seq ? json_integer((json_int_t)seq) : json_null(),
                      "object", "", "finding", "a name or value that is no text");
    return json_array_append_new(v->findings, finding)
               ? ch_why_set(v->why, CH_ERR_NOMEM, "out of memory")
               : CH_OK;
}

#define NOTHING ((struct ch_span){"", 0})

// ---- the chain

static enum ch_err check_link(struct verification *v, const struct ch_audit_row *row)
{
    int64_t expected = v->head.seq + 1;
    if (row->seq != expected)
        return find_fault(
            v, expected, NOTHING, NOTHING, "%lld rows are missing, from row %lld to row %lld",
            (long long)(row->seq - expected), (long long)expected, (long long)(row->seq - 1));
    if (memcmp(row->prev, v->head.hash, sizeof row->prev) != 0)
        return find_fault(v, row->seq, NOTHING, NOTHING,
                          "row %lld does not follow row %lld: one of them was replaced",
                          (long long)row->seq, (long long)v->head.seq);
    return CH_OK;
}

static enum ch_err check_row(struct verification *v, const struct ch_audit_row *row, bool is_whole)
{
    unsigned char hash[CH_AUDIT_HASH];
    enum ch_err err = check_link(v, row);
    if (err)
        return err;
    ch_audit_row_digest(row, hash);
    if (!is_whole || memcmp(hash, row->hash, sizeof hash) != 0)
        err = find_fault(v, row->seq, NOTHING, NOTHING,
                         "row %lld was changed: its hash is not that of its fields",
                         (long long)row->seq);
    else if (!ch_audit_signature_is_good(v->audit->public_key, row->hash, row->signature))
        err = find_fault(v, row->seq, NOTHING, NOTHING, "row %lld is not signed by this log's key",
                         (long long)row->seq);
    v->head.seq = row->seq;
    memcpy(v->head.hash, row->hash, sizeof row->hash);
    v->rows++;
    return err;
}

static enum ch_err check_chain(struct verification *v)
{
    static const char sql[] = "SELECT " CH_AUDIT_COLUMNS " FROM audit ORDER BY seq";
    struct ch_audit_row row;
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(v->db, sql, &stmt, v->why);
    if (err)
        return err;
    while (!(err = ch_db_step(v->db, stmt, v->why))) {
        bool is_whole = ch_audit_row_read(stmt, &row);
        if ((err = check_row(v, &row, is_whole))) {
            ch_db_reset(stmt);
            return err;
        }
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

// ---- heads

static enum ch_err find_hash(struct verification *v, const unsigned char hash[CH_AUDIT_HASH])
{
    static const char sql[] = "SELECT 1 FROM audit WHERE hash = ?";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(v->db, sql, &stmt, v->why);
    if (err)
        return err;
    ch_db_bind_blob(stmt, 1, (struct ch_span){(const char *)hash, CH_AUDIT_HASH});
    err = ch_db_step(v->db, stmt, v->why);
    if (!err)
        ch_db_reset(stmt);
    return err;
}

static enum ch_err check_head(struct verification *v, const struct ch_audit_head *head)
{
    unsigned char hash[CH_AUDIT_HASH];
    enum ch_err err =
        head->seq ? ch_audit_hash_read(v->db, head->seq, hash, v->why) : find_hash(v, head->hash);
    if (err == CH_ERR_NOT_FOUND && head->seq)
        return find_fault(v, head->seq, NOTHING, NOTHING,
                          "row %lld is missing, and a head of it is known: the log was cut off or "
                          "rolled back to row %lld",
                          (long long)head->seq, (long long)v->head.seq);
    if (err == CH_ERR_NOT_FOUND)
        return find_fault(v, 0, NOTHING, NOTHING,
                          "no row has the hash of the head: the log was cut off, rolled back or "
                          "rewritten");
    bool differs =
        err == CH_ERR_CORRUPT || (!err && head->seq && memcmp(hash, head->hash, sizeof hash) != 0);
    if (differs)
        return find_fault(v, head->seq, NOTHING, NOTHING,
                          "row %lld is not the one that a head is known of: the log was rewritten",
                          (long long)head->seq);
    return err;
}

static bool has_signature(const struct ch_audit_head *head)
{
    return !sodium_is_zero(head->signature, sizeof head->signature);
}

// The next line of `text`, without its end.
static struct ch_span take_line(struct ch_span *text)
{
    const char *end = memchr(text->ptr, '\n', text->len);
    struct ch_span line = {text->ptr, end ? (size_t)(end - text->ptr) : text->len};
    *text = ch_span_sub(*text, line.len + (end != NULL));
    return line;
}

// Our own file: each line is a signed head.
static enum ch_err check_own_heads(struct verification *v, struct ch_span text)
{
    enum ch_err err = CH_OK;
    while (!err && text.len) {
        struct ch_span line = take_line(&text);
        struct ch_audit_head head;
        if (ch_audit_head_parse(line, &head) && head.seq > 0 && has_signature(&head) &&
            ch_audit_signature_is_good(v->audit->public_key, head.hash, head.signature))
            err = check_head(v, &head);
        else if (ch_span_trim(line).len)
            err = find_fault(v, 0, NOTHING, NOTHING,
                             "a line of %s is damaged, or not signed by this log's key",
                             v->audit->heads_path);
    }
    return err;
}

// What somebody kept elsewhere: every line that is a head counts, what is none is passed over.
static enum ch_err check_given_heads(struct verification *v, struct ch_span text)
{
    enum ch_err err = CH_OK;
    while (!err && text.len) {
        struct ch_audit_head head;
        if (!ch_audit_head_parse(take_line(&text), &head))
            continue;
        v->heads++;
        err = check_head(v, &head);
    }
    return err || v->heads
               ? err
               : ch_why_set(v->why, CH_ERR_INVALID, "--head holds no head of an audit log");
}

// Read before the database is looked at: a row that is committed meanwhile may be missing here, but
// none that is named here may be missing there. The file only grows, so it begins with a whole
// line; of a very long one the end is read, which vouches for all before it.
static enum ch_err read_own_heads(const struct ch_audit *audit, struct ch_buf *text,
                                  struct ch_why *why)
{
    int fd = open(audit->heads_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    off_t from = size > (off_t)HEADS_MAX ? size - (off_t)HEADS_MAX : 0;
    enum ch_err err = size < 0 ? CH_ERR_IO : ch_buf_reserve(text, (size_t)(size - from) + 1);
    ssize_t got = 0;
    while (!err && (off_t)text->len < size - from &&
           (got = pread(fd, text->ptr + text->len, (size_t)(size - from) - text->len,
                        from + (off_t)text->len)) > 0)
        text->len += (size_t)got;
    if (got < 0)
        err = CH_ERR_IO;
    if (err && size >= 0)
        ch_why_set(why, err, "%s: %s", audit->heads_path, strerror(errno));
    if (fd >= 0)
        close(fd);
    const char *first = from && text->len ? memchr(text->ptr, '\n', text->len) : NULL;
    if (first)
        ch_buf_consume(text, (size_t)(first + 1 - text->ptr));
    return size < 0 ? CH_OK : err; // a file that is gone is a finding of its own
}

// ---- the objects

static struct ch_span shown(const json_t *value, char out[VALUE_TEXT])
{
    size_t size = json_dumpb(value, out, VALUE_TEXT, JSON_COMPACT | JSON_ENCODE_ANY);
    return (struct ch_span){out, size < VALUE_TEXT ? size : VALUE_TEXT};
}

static bool agrees(const json_t *logged, const json_t *found);

// Only what both have: a later schema has columns that an older row of the log does not know.
static bool has_equal_members(const json_t *logged, const json_t *found)
{
    const char *member;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)logged, member, value)
    {
        const json_t *now = json_object_get(found, member);
        if (now && !agrees(value, now))
            return false;
    }
    return true;
}

static bool agrees(const json_t *logged, const json_t *found)
{
    if (json_is_object(logged) && json_is_object(found))
        return has_equal_members(logged, found);
    if (!json_is_array(logged) || !json_is_array(found))
        return json_equal(logged, found);
    bool is_same = json_array_size(logged) == json_array_size(found);
    for (size_t i = 0; is_same && i < json_array_size(logged); i++)
        is_same = agrees(json_array_get(logged, i), json_array_get(found, i));
    return is_same;
}

static enum ch_err compare(struct verification *v, int64_t seq, struct ch_span kind,
                           struct ch_span object, json_t *logged, const json_t *found)
{
    char is[VALUE_TEXT], was[VALUE_TEXT];
    const char *member;
    json_t *value;
    enum ch_err err = CH_OK;
    if (json_is_null(logged) != json_is_null(found))
        return find_fault(v, seq, kind, object,
                          json_is_null(found) ? "is gone, and row %lld of the log says it is there"
                                              : "is there, and row %lld of the log says it is gone",
                          (long long)seq);
    json_object_foreach(logged, member, value)
    {
        const json_t *now = json_object_get(found, member);
        if (err || !now || ch_audit_is_shared(kind, member) || agrees(value, now))
            continue;
        struct ch_span present = shown(now, is), past = shown(value, was);
        err = find_fault(v, seq, kind, object,
                         "%s is %.*s, and row %lld of the log says %.*s: edited or rolled back",
                         member, CH_SPAN_ARG(present), (long long)seq, CH_SPAN_ARG(past));
    }
    return err;
}

static enum ch_err check_object(struct verification *v, int64_t seq, struct ch_span kind,
                                struct ch_span object, struct ch_span after)
{
    char name[VALUE_TEXT];
    json_t *found = NULL, *logged = json_loadb(after.ptr, after.len, JSON_DECODE_ANY, NULL);
    if (!logged || !ch_span_copy(kind, name, sizeof name)) {
        json_decref(logged);
        return CH_OK; // the chain has named the row
    }
    enum ch_err err = ch_audit_snapshot(v->audit, v->reader, v->db, name, object, &found, v->why);
    if (err == CH_ERR_CORRUPT)
        err = find_fault(v, seq, kind, object, "%s", v->why->text);
    else if (!err)
        err = compare(v, seq, kind, object, logged, found);
    json_decref(found);
    json_decref(logged);
    return err;
}

static enum ch_err check_objects(struct verification *v)
{
    // The other columns are those of the row that has the maximum (SQLite, "bare columns").
    static const char sql[] = "SELECT max(seq), object_kind, object, after FROM audit "
                              "GROUP BY object_kind, object";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(v->db, sql, &stmt, v->why);
    if (err)
        return err;
    while (!(err = ch_db_step(v->db, stmt, v->why))) {
        struct ch_span kind = ch_db_text(stmt, 1);
        if (!ch_audit_is_governed(kind))
            continue;
        err = check_object(v, ch_db_int(stmt, 0), kind, ch_db_text(stmt, 2), ch_db_text(stmt, 3));
        if (err) {
            ch_db_reset(stmt);
            return err;
        }
    }
    return err == CH_ERR_NOT_FOUND ? CH_OK : err;
}

static enum ch_err name_unrecorded(void *arg, struct ch_span kind, struct ch_span object)
{
    return find_fault(arg, 0, kind, object,
                      "has no row in the log: it was put there by another hand");
}

// ---- the secrets beside it

static enum ch_err check_value(struct verification *v, const char *kind)
{
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    size_t size = 0;
    enum ch_err err = ch_vault_value_open(v->db, v->reader, ch_span_of(kind), plain, &size, v->why);
    ch_wipe(plain, sizeof plain);
    if (err == CH_ERR_CORRUPT || err == CH_ERR_NOT_FOUND)
        return find_fault(v, 0, CH_SPAN("vault"), ch_span_of(kind),
                          "the sealed value is missing or does not open");
    return err;
}

static enum ch_err check_public_key(struct verification *v)
{
    static const char sql[] = "SELECT count(*), ifnull(max(public_key), x'') FROM audit_keys";
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(v->db, sql, &stmt, v->why);
    if (err || (err = ch_db_step(v->db, stmt, v->why)))
        return err;
    struct ch_span key = ch_db_blob(stmt, 1);
    bool is_own = ch_db_int(stmt, 0) == 1 &&
                  ch_span_eq(key, (struct ch_span){(const char *)v->audit->public_key,
                                                   sizeof v->audit->public_key});
    ch_db_reset(stmt);
    return is_own ? CH_OK
                  : find_fault(v, 0, NOTHING, NOTHING,
                               "the public key in the database is not the one that signs");
}

// ---- the whole

static enum ch_err check_all(struct verification *v, struct ch_span own_heads, bool has_own_heads,
                             struct ch_span given_heads)
{
    enum ch_err err = check_public_key(v);
    if (!err)
        err = check_value(v, "sentinel");
    if (!err)
        err = check_value(v, "pepper");
    if (!err)
        err = check_value(v, "audit");
    if (!err)
        err = check_chain(v);
    if (!err && !has_own_heads)
        err = find_fault(v, 0, NOTHING, NOTHING, "%s is missing or empty", v->audit->heads_path);
    if (!err)
        err = check_own_heads(v, own_heads);
    if (!err && given_heads.len)
        err = check_given_heads(v, given_heads);
    if (!err)
        err = check_objects(v);
    return err ? err : ch_audit_unrecorded(v->db, name_unrecorded, v, v->why);
}

// A connection of its own: a long log holds no other reader up.
static enum ch_err check_database(struct verification *v, const char *path,
                                  struct ch_span own_heads, struct ch_span given_heads)
{
    enum ch_err err = ch_db_open(path, CH_DB_READER, &v->db, v->why);
    if (err)
        return err;
    ch_db_restrict(v->db);
    err = ch_db_begin(v->db, v->why);
    if (!err)
        err = check_all(v, own_heads, own_heads.len > 0, given_heads);
    ch_db_rollback(v->db);
    ch_db_close(v->db);
    return err;
}

static json_t *report_of(struct verification *v)
{
    char hash[2 * CH_AUDIT_HASH + 1], public_key[2 * CH_AUDIT_PUBLIC_KEY + 1];
    sodium_bin2hex(hash, sizeof hash, v->head.hash, sizeof v->head.hash);
    sodium_bin2hex(public_key, sizeof public_key, v->audit->public_key,
                   sizeof v->audit->public_key);
    return json_pack("{s:b, s:I, s:I, s:s, s:s, s:I, s:O}", "ok", v->finding_count == 0, "rows",
                     (json_int_t)v->rows, "head_seq", (json_int_t)v->head.seq, "head_hash", hash,
                     "public_key", public_key, "finding_count", (json_int_t)v->finding_count,
                     "items", v->findings);
}

enum ch_err ch_audit_verify(struct ch_store *store, struct ch_span heads, json_t **report_out,
                            struct ch_why *why)
{
    struct ch_why local = {""};
    struct verification v = {
        .audit = store->audit, .why = why ? why : &local, .findings = json_array()};
    struct ch_buf own_heads;
    ch_buf_init(&own_heads, HEADS_MAX + 1);
    enum ch_err err = v.findings ? ch_vault_reader_new(store->vault, &v.reader) : CH_ERR_NOMEM;
    if (err)
        ch_why_set(v.why, err, "out of memory");
    if (!err)
        err = read_own_heads(store->audit, &own_heads, v.why);
    if (!err)
        err = check_database(&v, store->path, ch_buf_span(&own_heads), heads);
    json_t *report = err ? NULL : report_of(&v);
    if (!err && !report)
        err = ch_why_set(v.why, CH_ERR_NOMEM, "out of memory");
    ch_buf_fini(&own_heads);
    ch_vault_reader_free(v.reader);
    json_decref(v.findings);
    if (!err)
        *report_out = report;
    return err;
}
