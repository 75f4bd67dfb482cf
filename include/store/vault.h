// SPDX-License-Identifier: Apache-2.0
// The vault: provider keys at rest (security.md §5.2).
//
// AES-256-CBC with a random IV per sealing, then HMAC-SHA-256 over the length-prefixed binding and
// the ciphertext; the MAC is checked first and in constant time, the cipher never runs when it
// fails. The two subkeys come from the 32-byte master key by HKDF-SHA-256; the master key is never
// in the database.
#ifndef CH_STORE_VAULT_H
#define CH_STORE_VAULT_H

#include "base/err.h"
#include "base/secret.h"
#include "base/str.h"

#include <stdint.h>

#define CH_VAULT_MASTER_KEY 32
#define CH_VAULT_PLAIN_MAX  2048 // bytes of a credential
#define CH_VAULT_SEALED_MAX (1 + 16 + CH_VAULT_PLAIN_MAX + 16 + 32)

// What a sealed value is tied to: neither rows nor addresses can be swapped.
struct ch_vault_binding {
    struct ch_span kind; // "provider", "pepper", "sentinel"
    int64_t row_id;
    struct ch_span provider_type;
    struct ch_span base_url;
    int64_t key_version;
};

struct ch_vault;        // the subkeys, in locked memory; any thread may share it
struct ch_vault_reader; // a thread's own cipher contexts, so that opening costs no set-up

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
// exchange.
enum ch_err ch_vault_open(struct ch_vault_reader *reader, const struct ch_vault_binding *binding,
                          struct ch_span sealed, unsigned char plain_out[CH_VAULT_PLAIN_MAX],
                          size_t *size_out) CH_MUST_USE;

// The same without the MAC, for bytes that ch_vault_open has opened in this process and that
// nothing can have changed since (an immutable record): the database cannot reach them any more.
enum ch_err ch_vault_open_again(struct ch_vault_reader *reader, struct ch_span sealed,
                                unsigned char plain_out[CH_VAULT_PLAIN_MAX],
                                size_t *size_out) CH_MUST_USE;

// Reads a master key as an operator stores it: 64 hex digits or 43–44 base64 characters, blanks
// around.
enum ch_err ch_vault_master_key_parse(struct ch_span text, struct ch_secret **key_out,
                                      struct ch_why *why) CH_MUST_USE;
// Makes a new one, as 64 hex digits.
void ch_vault_master_key_generate(char hex_out[65]);

#endif
