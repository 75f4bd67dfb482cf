// SPDX-License-Identifier: Apache-2.0
// The audit log: who changed what, when and why, in the transaction of the change itself.
//
// Rows only grow. Each holds the SHA-256 of its length-prefixed fields, the hash of the row before
// among them, and an Ed25519 signature of that hash by a key whose secret half is sealed in the
// vault. After each commit the head (seq, hash, signature) goes to the log and to a second file
// beside the database, `<database>.audit-heads`: what was cut off or rolled back shows there.
// A change that cannot be recorded does not happen. Secrets appear as HMACs under a key of the
// log's own: whether one changed can be seen, and nothing else.
#ifndef CH_STORE_AUDIT_H
#define CH_STORE_AUDIT_H

#include "store/store.h"

#include <jansson.h>
#include <sys/types.h>

#define CH_AUDIT_HASH       32 // SHA-256
#define CH_AUDIT_SIGNATURE  64 // Ed25519
#define CH_AUDIT_PUBLIC_KEY 32
#define CH_AUDIT_ACTOR_MAX  80 // bytes of an actor's name
#define CH_AUDIT_NO_UID     INT64_C(-1)

struct ch_audit_actor {
    char name[CH_AUDIT_ACTOR_MAX + 1]; // a user's name, or "token:NAME"
    int64_t uid;                       // CH_AUDIT_NO_UID: it is no user of this machine
};
// The user's name from the system's database, else "uid:N". May read files: never on a loop thread.
void ch_audit_actor_of(uid_t uid, struct ch_audit_actor *actor_out);

// ---- writing

struct ch_audit_entry {
    const struct ch_audit_actor *actor;
    const char *action;           // "key.revoke"
    const char *object_kind;      // "key"
    const char *object;           // its name; "" where there is one of its kind
    const json_t *before, *after; // without secrets; NULL: there was (is) none
    const char *reason;           // NULL: none was given
};
// Appends a row to the transaction that is open on `db`, the write connection. For what is no
// change of one object; ch_audit_change covers the rest. CH_ERR_CORRUPT: the log does not end where
// this process left it.
enum ch_err ch_audit_append(struct ch_db *db, const struct ch_audit_entry *entry,
                            struct ch_why *why) CH_MUST_USE;
// The same in a transaction of its own.
enum ch_err ch_audit_record(struct ch_store *store, const struct ch_audit_entry *entry,
                            struct ch_why *why) CH_MUST_USE;

// What ch_audit_change records beside the object's own state.
struct ch_audit_change {
    const struct ch_audit_actor *actor;
    const char *action, *object_kind, *object;
    const char *reason; // NULL: none
};
// ch_store_write with the row of the change in the same transaction; before and after are the
// object's rows in the database around `fn`.
enum ch_err ch_audit_change(struct ch_store *store, const struct ch_audit_change *change,
                            ch_store_write_fn fn, void *arg, struct ch_why *why) CH_MUST_USE;
// Whether the state of such objects is known here ("provider", "key", …).
bool ch_audit_knows(const char *object_kind);

// ---- reading

struct ch_audit_filter {
    const char *actor;      // NULL: any
    const char *action;     // "key.create", or "key" for all of them; NULL: any
    const char *object;     // "key:web", or "web" of any kind; NULL: any
    int64_t from_ms, to_ms; // 0: open
    int64_t after;          // only rows behind this one, oldest first; negative: newest first
    int64_t limit;
};
// Rows as JSON objects, appended to the array `items`.
enum ch_err ch_audit_list(struct ch_store *store, const struct ch_audit_filter *filter,
                          json_t *items, struct ch_why *why) CH_MUST_USE;

// Checks that rows are contiguous, unchanged, linked and signed; that the heads file and `heads`
// (lines of it or of the log, or one bare hash; may be empty) agree with them; that the audited
// objects are as the log left them. Gives
// {"ok","rows","head_seq","head_hash","public_key","findings":[{"seq","object","finding"}]}.
enum ch_err ch_audit_verify(struct ch_store *store, struct ch_span heads, json_t **report_out,
                            struct ch_why *why) CH_MUST_USE;

// {"seq","hash","public_key"}: the last committed row. Any thread.
json_t *ch_audit_head(struct ch_store *store);

#endif
