// SPDX-License-Identifier: Apache-2.0
// The vault: provider keys at rest (security.md §5.2).
//
// AES-256-CBC with a random IV per sealing, then HMAC-SHA-256 over the length-prefixed binding, the
// key id and the ciphertext; the MAC is checked first and in constant time, the cipher never runs
// when it fails. Key id and the two subkeys come from the 32-byte master key by HKDF-SHA-256; the
// master key is never in the database. The key id is public and stands in each sealed value, so
// that a database can say which master key it needs.
#ifndef CH_STORE_VAULT_H
#define CH_STORE_VAULT_H

#include "base/err.h"
#include "base/secret.h"
#include "base/str.h"

#include <stdint.h>

#define CH_VAULT_MASTER_KEY  32
#define CH_VAULT_PLAIN_MAX   2048 // bytes of a credential
#define CH_VAULT_KID         8    // bytes of a key id
#define CH_VAULT_SEALED_MAX  (1 + CH_VAULT_KID + 16 + CH_VAULT_PLAIN_MAX + 16 + 32)

#define CH_VAULT_FINGERPRINT (2 * CH_VAULT_KID) // characters: a key id in hex, as people see it

// What a sealed value is tied to: neither rows nor addresses can be swapped.
struct ch_vault_binding {
    struct ch_span kind; // "provider", "pepper", "sentinel", "audit"
    int64_t row_id;
    struct ch_span provider_type;
    struct ch_span base_url;
    int64_t key_version;
};

struct ch_vault;        // the subkeys, in locked memory; any thread may share it
struct ch_vault_reader; // a thread's own cipher contexts, so that opening costs no set-up; needs
                        // the vault for all its life

// `master_key`: CH_VAULT_MASTER_KEY bytes.
enum ch_err ch_vault_new(const struct ch_secret *master_key,
                         struct ch_vault **vault_out) CH_MUST_USE;
void ch_vault_free(struct ch_vault *vault);
enum ch_err ch_vault_seal(const struct ch_vault *vault, const struct ch_vault_binding *binding,
                          struct ch_span plain, struct ch_buf *sealed_out) CH_MUST_USE;

enum ch_err ch_vault_reader_new(const struct ch_vault *vault,
                                struct ch_vault_reader **reader_out) CH_MUST_USE;
void ch_vault_reader_free(struct ch_vault_reader *reader);
// Opens into `plain_out` (the caller wipes it). CH_ERR_CORRUPT when anything does not match; one
// answer for every cause. At most a few microseconds, no allocation: runs on loop threads for every
// exchange. The first opening after a change of the vault's keys makes new contexts instead:
// CH_ERR_NOMEM when there is no memory for them.
enum ch_err ch_vault_open(struct ch_vault_reader *reader, const struct ch_vault_binding *binding,
                          struct ch_span sealed, unsigned char plain_out[CH_VAULT_PLAIN_MAX],
                          size_t *size_out) CH_MUST_USE;

// The same without the MAC, for bytes that ch_vault_open has opened in this process and that
// nothing can have changed since (an immutable record): the database cannot reach them any more.
enum ch_err ch_vault_open_again(struct ch_vault_reader *reader, struct ch_span sealed,
                                unsigned char plain_out[CH_VAULT_PLAIN_MAX],
                                size_t *size_out) CH_MUST_USE;

// A change of the master key, step by step; one thread at a time, while others seal and open.
// Admitted, the key of `next` opens beside the vault's own; promoted, it seals and the former one
// still opens; retired, whichever key does not seal is forgotten, also one that was only admitted.
void ch_vault_admit(struct ch_vault *vault, const struct ch_vault *next);
void ch_vault_promote(struct ch_vault *vault);
void ch_vault_retire(struct ch_vault *vault);

// The id of the key that seals, and of the one that sealed a value (false: no such value could be).
void ch_vault_fingerprint(const struct ch_vault *vault, char out[CH_VAULT_FINGERPRINT + 1]);
bool ch_vault_sealed_fingerprint(struct ch_span sealed, char out[CH_VAULT_FINGERPRINT + 1]);

// Reads a master key as an operator stores it: 64 hex digits or 43–44 base64 characters, blanks
// around.
enum ch_err ch_vault_master_key_parse(struct ch_span text, struct ch_secret **key_out,
                                      struct ch_why *why) CH_MUST_USE;
// Makes a new one, as 64 hex digits.
void ch_vault_master_key_generate(char hex_out[65]);

#endif
