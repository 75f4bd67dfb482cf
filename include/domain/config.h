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

#include <stdint.h>

#define CH_CONFIG_LISTENERS_MAX 8
#define CH_CONFIG_PATH          1024
#define CH_CONFIG_FILE_MAX      (64 * 1024) // bytes of the file; a longer one is refused

struct ch_config_listener {
    char address[CH_CONFIG_PATH];         // "127.0.0.1:8080", "[::1]:8080", "unix:/run/x.sock"
    char tls_certificate[CH_CONFIG_PATH]; // PEM chain; "" = plaintext, allowed on loopback and Unix
                                          // sockets only
    char tls_key[CH_CONFIG_PATH];
};

// Each limit's default and answer stand in docs/configuration.md.
struct ch_config {
    struct ch_config_listener listeners[CH_CONFIG_LISTENERS_MAX];
    unsigned listener_count;
    char database[CH_CONFIG_PATH];     // default: chaperone.db beside the file
    char journal[CH_CONFIG_PATH];      // default: chaperone.journal beside the database
    char admin_socket[CH_CONFIG_PATH]; // default: chaperone.sock beside the file
    char master_key[CH_CONFIG_PATH]; // a reference: "${env:CHAPERONE_MASTER_KEY}", "${file:/PATH}",
                                     // "${credential:NAME}"
    char prices[CH_CONFIG_PATH];     // "": the embedded catalogue
    char upstream_ca[CH_CONFIG_PATH]; // "": the system's trust store
    enum ch_log_level log_level;
    unsigned threads; // 0: one per core
    struct {
        int64_t body_bytes;    // 32 MiB: a JSON request body; 413
        int64_t connections;   // 0: from the descriptor limit; a further one is closed at once
        int64_t inflight;      // 16384 exchanges in flight a loop; 503
        int64_t journal_bytes; // 16 MiB a loop; full: 503
        int64_t upstream_idle; // 64 idle connections kept a provider and loop
    } limits;
    struct { // milliseconds
        int64_t head, body, idle,
            write_stall; // 10 s, 30 s without progress, 60 s keep-alive, 120 s
        int64_t connect, first_byte, upstream_idle,
            shutdown; // 10 s, 600 s, 600 s between bytes, 30 s
    } timeouts;
    bool record_client_address; // usage rows carry the client's address; default false
};

// Fills `config_out` with defaults, then with the file's values; untouched on an error, whose
// sentence says line and column and never repeats a secret. `dir`: the file's directory. Plaintext
// on an address that is not loopback is refused. CH_ERR_INVALID, CH_ERR_LIMIT (the file is too
// long), CH_ERR_NOMEM.
enum ch_err ch_config_parse(struct ch_span yaml, const char *dir, struct ch_config *config_out,
                            struct ch_why *why) CH_MUST_USE;

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
    CH_CONFIG_ADDRESS,
    CH_CONFIG_FILE_PATH, // relative to the file's directory
    CH_CONFIG_SECRET,    // a reference
    CH_CONFIG_LEVEL,     // debug, info, warn, error
    CH_CONFIG_BOOLEAN,   // true, false
    CH_CONFIG_COUNT,     // a whole number
    CH_CONFIG_SIZE,      // 64KiB, 32MiB, 1GiB
    CH_CONFIG_DURATION,  // 500ms, 10s, 5m, 1h
};
struct ch_config_key {
    const char *path; // "limits.body"; "listen[].tls.key"
    enum ch_config_type type;
    const char *default_text; // as it would be written; NULL: none
    int64_t min, max;         // of the value; of a path its bytes
    const char *help;
    size_t offset; // private: where the value stands, in struct ch_config or ch_config_listener
};
const struct ch_config_key *ch_config_schema(size_t *count_out);

#endif
