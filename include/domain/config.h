// SPDX-License-Identifier: Apache-2.0
// The configuration file, typed (design.md §6): a strict YAML subset through libyaml, one schema
// table.
//
// Block and flow mappings, sequences and scalars of one UTF-8 document; no anchors, aliases, tags,
// directives or duplicate keys. An unknown key is an error with line, column and the nearest known
// name. Pure: text in, struct out; the caller reads the file. Relative paths are relative to the
// file's directory, which the caller passes. Any thread.
#ifndef CH_DOMAIN_CONFIG_H
#define CH_DOMAIN_CONFIG_H

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "domain/cidr.h"

#include <stdint.h>

#define CH_CONFIG_LISTENERS_MAX 8
#define CH_CONFIG_PINNED_MAX    64 // providers with pins
#define CH_CONFIG_PINS_MAX      2  // of one provider: the key in use and the next one
#define CH_CONFIG_PIN           32 // bytes of a pin: SHA-256 of a SubjectPublicKeyInfo (RFC 7469 §2.4)
#define CH_CONFIG_PROVIDER_MAX  64 // bytes of a provider's name
#define CH_CONFIG_PATH          1024
#define CH_CONFIG_FILE_MAX      (64 * 1024) // bytes of the file; a longer one is refused
#define CH_CONFIG_TEXTS         8192        // bytes of a list of texts, a NUL behind each

enum ch_config_client_auth {
    CH_CONFIG_CLIENT_AUTH_NONE,    // no client_ca is given
    CH_CONFIG_CLIENT_AUTH_REQUIRE, // without a valid certificate there is no connection
    CH_CONFIG_CLIENT_AUTH_REQUEST, // a certificate that is shown must be valid
};

// What the accounting of an exchange survives, before the exchange goes on.
enum ch_config_durability {
    CH_CONFIG_DURABILITY_PROCESS, // the process's death
    CH_CONFIG_DURABILITY_POWER,   // the machine's: the journal is on disk
};

struct ch_config_listener {
    char address[CH_CONFIG_PATH];         // "127.0.0.1:8080", "[::1]:8080", "unix:/run/x.sock"
    char tls_certificate[CH_CONFIG_PATH]; // PEM chain; "" = plaintext, allowed on loopback and Unix
                                          // sockets only
    char tls_key[CH_CONFIG_PATH];
    char tls_client_ca[CH_CONFIG_PATH]; // PEM bundle; "" = clients are asked for no certificate
    enum ch_config_client_auth tls_client_auth;
};

// The public keys that a provider's servers may have.
struct ch_config_pins {
    char provider[CH_CONFIG_PROVIDER_MAX + 1];
    unsigned count;
    unsigned char pin[CH_CONFIG_PINS_MAX][CH_CONFIG_PIN];
};

// Texts, one behind the other, each with its NUL.
struct ch_config_texts {
    unsigned count;
    size_t used;
    char bytes[CH_CONFIG_TEXTS];
};

// Each limit's default and answer stand in docs/configuration.md.
struct ch_config {
    struct ch_config_listener listeners[CH_CONFIG_LISTENERS_MAX];
    unsigned listener_count;
    char database[CH_CONFIG_PATH];     // default: chaperone.db beside the file
    char journal[CH_CONFIG_PATH];      // default: chaperone.journal beside the database
    char admin_socket[CH_CONFIG_PATH]; // default: chaperone.sock beside the file
    char admin_listen[CH_CONFIG_PATH]; // ADDRESS:PORT of the admin listener; "": there is none
    char admin_tls_certificate[CH_CONFIG_PATH], admin_tls_key[CH_CONFIG_PATH]; // as of a listener
    char master_key[CH_CONFIG_PATH]; // a reference: "${env:CHAPERONE_MASTER_KEY}", "${file:/PATH}",
                                     // "${credential:NAME}"
    char prices[CH_CONFIG_PATH];     // "": the embedded catalogue
    char upstream_ca[CH_CONFIG_PATH]; // "": the system's trust store
    struct ch_cidr_list allow_addresses; // that are not public; none: no such address
    struct ch_config_pins pins[CH_CONFIG_PINNED_MAX];
    unsigned pinned_count;
    enum ch_log_level log_level;
    unsigned threads; // 0: one per core
    enum ch_config_durability durability;
    struct {
        int64_t body_bytes;    // 32 MiB: a JSON request body; 413
        int64_t connections;   // 0: from the descriptor limit; a further one is closed at once
        int64_t per_address;   // 0: half of the descriptor limit; of one address; as above
        int64_t inflight;      // 16384 exchanges in flight a loop; 503
        int64_t journal_bytes; // 16 MiB a loop; full: 503
        int64_t upstream_idle; // 64 idle connections kept a provider and loop
        int64_t objects;       // 1,000,000 known by owner; the one seen first goes
    } limits;
    struct { // milliseconds
        int64_t head, body, idle,
            write_stall; // 10 s, 30 s without progress, 60 s keep-alive, 120 s
        int64_t connect, first_byte, upstream_idle,
            shutdown; // 10 s, 600 s, 600 s between bytes, 30 s
        int64_t disk; // 10 s: the journal on its way to disk, with durability: power
    } timeouts;
    int64_t budget_status;      // of a refusal by a budget: 429; 402 and 403 are never retried
    bool record_client_address; // usage rows carry the client's address; default false
    int64_t usage_retention;    // ms; 0: rows are kept for ever
    struct {
        bool bodies;                       // of every exchange; else of chosen keys and teams
        bool tripwire;                     // prompts that carry a key are reported
        int64_t max_body;                  // bytes kept of each direction
        int64_t retention;                 // ms
        char directory[CH_CONFIG_PATH];    // default: capture beside the database
        struct ch_config_texts patterns;   // what else is scrubbed (domain/scrub.h)
        struct ch_config_texts rules;      // what is left out (domain/record_rule.h)
        char hook_program[CH_CONFIG_PATH]; // "": none
        int64_t hook_timeout;              // ms for one event
    } capture;
};

// Fills `config_out` with defaults, then with the file's values; untouched on an error, whose
// sentence says line and column and never repeats a secret. `dir`: the file's directory. Plaintext
// on an address that is not loopback is refused. CH_ERR_INVALID, CH_ERR_LIMIT (the file is too
// long), CH_ERR_NOMEM.
enum ch_err ch_config_parse(struct ch_span yaml, const char *dir, struct ch_config *config_out,
                            struct ch_why *why) CH_MUST_USE;

// The texts as spans that borrow the list; `out` has room for its count.
void ch_config_texts_spans(const struct ch_config_texts *texts, struct ch_span *out);

// The path of the first key that differs and is not `is_live`; NULL when a daemon that runs with
// `before` can go on with `after`.
const char *ch_config_fixed_change(const struct ch_config *before, const struct ch_config *after);

// Resolving a reference "${env:…}", "${file:…}", "${credential:…}" is app/'s work; this says
// whether the text is one well-formed reference and splits it.
enum ch_config_source {
    CH_CONFIG_ENV,
    CH_CONFIG_FILE,
    CH_CONFIG_CREDENTIAL, // a file in $CREDENTIALS_DIRECTORY (systemd LoadCredential)
};
enum ch_err ch_config_reference(struct ch_span text, enum ch_config_source *source_out,
                                struct ch_span *name_out) CH_MUST_USE;

// ADDRESS:PORT with an IPv4 or bracketed IPv6 literal or `localhost` (127.0.0.1), or unix:PATH.
// `host_out` without brackets, or the path; the port is 0 for a path. Other names are refused: what
// is listened on must not hang on a resolver.
enum ch_err ch_config_address(struct ch_span address, struct ch_span *host_out, uint16_t *port_out,
                              bool *is_unix_out) CH_MUST_USE;

// The schema: every key there is, for the parser, the documentation's test and `chaperone check`.
enum ch_config_type {
    CH_CONFIG_SECTION,   // a mapping
    CH_CONFIG_LISTENERS, // a sequence of mappings
    CH_CONFIG_NETWORKS,  // a sequence of ADDRESS[/BITS]
    CH_CONFIG_PIN_LISTS, // a mapping of provider names to sequences of pins
    CH_CONFIG_TEXT_LIST, // a sequence of texts
    CH_CONFIG_SWITCH,    // off, on
    CH_CONFIG_CLIENT,    // require, request
    CH_CONFIG_DURABLE,   // process, power
    CH_CONFIG_ADDRESS,
    CH_CONFIG_FILE_PATH, // relative to the file's directory
    CH_CONFIG_SECRET,    // a reference
    CH_CONFIG_LEVEL,     // debug, info, warn, error
    CH_CONFIG_BOOLEAN,   // true, false
    CH_CONFIG_COUNT,     // a whole number
    CH_CONFIG_REFUSAL,   // a status: 402, 403, 429
    CH_CONFIG_SIZE,      // 64KiB, 32MiB, 1GiB
    CH_CONFIG_DURATION,  // 500ms, 10s, 5m, 1h, 90d
};
struct ch_config_key {
    const char *path; // "limits.body"; "listen[].tls.key"
    enum ch_config_type type;
    const char *default_text; // as it would be written; NULL: none
    int64_t min, max;         // of the value; of a path its bytes
    const char *help;
    size_t offset; // private: where the value stands, in struct ch_config or ch_config_listener
    bool is_live;  // a reload changes it; the others need a restart
};
const struct ch_config_key *ch_config_schema(size_t *count_out);

#endif
