// SPDX-License-Identifier: Apache-2.0
// What the parts of the audit log share: its state in an open store, the form of a row and of a
// head.
#ifndef CH_STORE_AUDIT_INTERNAL_H
#define CH_STORE_AUDIT_INTERNAL_H

#include "store/audit.h"
#include "store/db.h"

#include <limits.h>
#include <pthread.h>

#define CH_AUDIT_SEED    32 // what the vault seals: signing key and MAC key come from it
#define CH_AUDIT_MAC_KEY 32

struct ch_audit_head {
    int64_t seq; // 0: there is no row
    unsigned char hash[CH_AUDIT_HASH], signature[CH_AUDIT_SIGNATURE];
};

// Of an open store. The owner of the write connection writes it; `public_key`, `secrets` and
// `vault` never change.
struct ch_audit {
    const struct ch_vault *vault;
    struct ch_vault_reader *reader; // for snapshots on the write connection
    struct ch_secret *secrets;      // signing key, then MAC key
    unsigned char public_key[CH_AUDIT_PUBLIC_KEY];
    char heads_path[PATH_MAX];
    int heads_fd;
    pthread_mutex_t head_mutex;   // guards `head`
    struct ch_audit_head head;    // committed
    struct ch_audit_head pending; // of the open transaction; seq 0: none
};

struct ch_audit_row {
    int64_t seq, at_ms, uid;
    struct ch_span actor, action, object_kind, object, before, after, reason;
    unsigned char prev[CH_AUDIT_HASH], hash[CH_AUDIT_HASH], signature[CH_AUDIT_SIGNATURE];
};
#define CH_AUDIT_COLUMNS                                                                           \
    "seq, at_ms, actor, uid, action, object_kind, object, before, after, reason, prev, hash, "     \
    "signature"
// Texts borrow the statement's row. False for a row with a hash or a signature of another size.
bool ch_audit_row_read(struct sqlite3_stmt *stmt, struct ch_audit_row *row_out);
// SHA-256 over every field but hash and signature, each with its length.
void ch_audit_row_digest(const struct ch_audit_row *row, unsigned char hash_out[CH_AUDIT_HASH]);
bool ch_audit_signature_is_good(const unsigned char public_key[CH_AUDIT_PUBLIC_KEY],
                                const unsigned char hash[CH_AUDIT_HASH],
                                const unsigned char signature[CH_AUDIT_SIGNATURE]);

// "SEQ HASH [SIGNATURE]" or a log line with "seq=SEQ hash=HASH"; a bare HASH has seq 0. The
// signature is zero where there is none. False: the line is none of these.
bool ch_audit_head_parse(struct ch_span line, struct ch_audit_head *head_out);
// The last row's. CH_ERR_NOT_FOUND: there is none.
enum ch_err ch_audit_head_read(struct ch_db *db, struct ch_audit_head *head_out,
                               struct ch_why *why) CH_MUST_USE;
// The hash of one row. CH_ERR_NOT_FOUND.
enum ch_err ch_audit_hash_read(struct ch_db *db, int64_t seq, unsigned char hash_out[CH_AUDIT_HASH],
                               struct ch_why *why) CH_MUST_USE;

// The state of an object as JSON; JSON null when there is none or its kind is not known.
enum ch_err ch_audit_snapshot(struct ch_audit *audit, struct ch_vault_reader *reader,
                              struct ch_db *db, const char *object_kind, struct ch_span object,
                              json_t **state_out, struct ch_why *why) CH_MUST_USE;
// Calls `each` for every object that the log should know and does not: (kind, name).
typedef enum ch_err (*ch_audit_object_fn)(void *arg, struct ch_span kind, struct ch_span object);
enum ch_err ch_audit_unrecorded(struct ch_db *db, ch_audit_object_fn each, void *arg,
                                struct ch_why *why) CH_MUST_USE;
// Whether only audited changes touch the objects of this kind, so that their state must be what the
// log says.
bool ch_audit_is_governed(struct ch_span object_kind);
// Whether this member of their state is also changed by operations on objects of another kind.
bool ch_audit_is_shared(struct ch_span object_kind, const char *member);

// ---- for store.c

// Loads the log's secrets, makes them when the log is new, and reconciles the heads file.
// `action` is recorded when the log is new.
enum ch_err ch_audit_open(struct ch_store *store, const char *action,
                          struct ch_why *why) CH_MUST_USE;
void ch_audit_close(struct ch_audit *audit); // NULL is fine
// `<database>.audit-heads`, mode 0600.
enum ch_err ch_audit_heads_open(struct ch_audit *audit, const char *database,
                                struct ch_why *why) CH_MUST_USE;
// A process killed between commit and head leaves the file one line behind; that is made good. Any
// other difference is for `audit verify` to name and not for us to hide.
void ch_audit_heads_reconcile(struct ch_audit *audit, struct ch_db *db);
// The transaction is over: publishes the head of what was appended, or forgets it.
void ch_audit_settle(struct ch_audit *audit, bool is_committed);

#endif
