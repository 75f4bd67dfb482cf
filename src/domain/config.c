// SPDX-License-Identifier: Apache-2.0
#include "domain/config.h"

#include "config_lists.h"
#include "config_value.h"
#include "config_yaml.h"

#include "domain/record_rule.h"
#include "domain/scrub.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/un.h>

#define KEY_PATH_MAX 64 // bytes of the longest path of a key, NUL included
#define ECHO_MAX     40 // bytes of the operator's own text repeated in a sentence
// A socket's path and its NUL must fit into sockaddr_un.
#define SOCKET_PATH_MAX     (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
#define KIB                 INT64_C(1024)
#define MIB                 (1024 * KIB)
#define GIB                 (1024 * MIB)
#define SECOND              INT64_C(1000)
#define HOUR                (3600 * SECOND)
#define DAY                 (24 * HOUR)

#define DEFAULT_ADDRESS     "127.0.0.1:8080"
#define LISTENER_PREFIX     "listen[]."

#define AT(member)          offsetof(struct ch_config, member)
#define AT_LISTENER(member) offsetof(struct ch_config_listener, member)
#define PATH_MAX_BYTES      (CH_CONFIG_PATH - 1)

// The last word of a row: whether a reload changes it.
#define LIVE  true
#define FIXED false

// The order is that of docs/configuration.md. A path may be empty when its min is 0.
static const struct ch_config_key schema[] = {
    {"listen", CH_CONFIG_LISTENERS, NULL, 1, CH_CONFIG_LISTENERS_MAX,
     "where clients connect: a list of addresses", 0, FIXED},
    {"listen[].address", CH_CONFIG_ADDRESS, DEFAULT_ADDRESS, 1, PATH_MAX_BYTES,
     "ADDRESS:PORT or unix:PATH", AT_LISTENER(address), FIXED},
    {"listen[].tls", CH_CONFIG_SECTION, NULL, 0, 0, "required unless the address is local", 0,
     FIXED},
    {"listen[].tls.certificate", CH_CONFIG_FILE_PATH, NULL, 1, PATH_MAX_BYTES,
     "PEM file with the certificate and its chain", AT_LISTENER(tls_certificate), LIVE},
    {"listen[].tls.key", CH_CONFIG_FILE_PATH, NULL, 1, PATH_MAX_BYTES,
     "PEM file with the private key", AT_LISTENER(tls_key), LIVE},
    {"listen[].tls.client_ca", CH_CONFIG_FILE_PATH, "", 0, PATH_MAX_BYTES,
     "PEM bundle to verify clients with; empty: they need no certificate",
     AT_LISTENER(tls_client_ca), LIVE},
    {"listen[].tls.client_auth", CH_CONFIG_CLIENT, "require", 0, 0,
     "require a client's certificate, or only request it", AT_LISTENER(tls_client_auth), LIVE},
    {"master_key", CH_CONFIG_SECRET, "${env:CHAPERONE_MASTER_KEY}", 1, PATH_MAX_BYTES,
     "where the key that seals the vault comes from", AT(master_key), FIXED},
    {"database", CH_CONFIG_FILE_PATH, "chaperone.db", 1, PATH_MAX_BYTES, "the SQLite file",
     AT(database), FIXED},
    {"journal", CH_CONFIG_FILE_PATH, "", 0, PATH_MAX_BYTES,
     "the usage journal; empty: chaperone.journal beside the database", AT(journal), FIXED},
    {"durability", CH_CONFIG_DURABLE, "process", 0, 0,
     "whose death usage survives: the process's or, by waiting for the disk, the machine's",
     AT(durability), FIXED},
    {"admin", CH_CONFIG_SECTION, NULL, 0, 0, "how the commands reach the daemon", 0, FIXED},
    {"admin.socket", CH_CONFIG_FILE_PATH, "chaperone.sock", 1, SOCKET_PATH_MAX,
     "Unix socket of the admin API", AT(admin_socket), FIXED},
    {"admin.listen", CH_CONFIG_ADDRESS, NULL, 1, PATH_MAX_BYTES,
     "ADDRESS:PORT of the admin listener for calls with tokens", AT(admin_listen), FIXED},
    {"admin.tls", CH_CONFIG_SECTION, NULL, 0, 0, "required unless admin.listen is loopback", 0,
     FIXED},
    {"admin.tls.certificate", CH_CONFIG_FILE_PATH, NULL, 1, PATH_MAX_BYTES,
     "PEM file with the certificate and its chain", AT(admin_tls_certificate), LIVE},
    {"admin.tls.key", CH_CONFIG_FILE_PATH, NULL, 1, PATH_MAX_BYTES,
     "PEM file with the private key", AT(admin_tls_key), LIVE},
    {"prices", CH_CONFIG_FILE_PATH, "", 0, PATH_MAX_BYTES,
     "price catalogue; empty: the built-in one", AT(prices), FIXED},
    {"upstream", CH_CONFIG_SECTION, NULL, 0, 0, "connections to the providers", 0, FIXED},
    {"upstream.ca", CH_CONFIG_FILE_PATH, "", 0, PATH_MAX_BYTES,
     "PEM bundle to verify providers with; empty: the system's", AT(upstream_ca), LIVE},
    {"upstream.allow_addresses", CH_CONFIG_NETWORKS, "[]", 0, CH_CIDR_MAX,
     "networks that are not public and may be connected to", AT(allow_addresses), LIVE},
    {"upstream.pins", CH_CONFIG_PIN_LISTS, "{}", 0, CH_CONFIG_PINNED_MAX,
     "public keys that a provider's servers must have", AT(pins), LIVE},
    {"log", CH_CONFIG_SECTION, NULL, 0, 0, "the log on stderr", 0, FIXED},
    {"log.level", CH_CONFIG_LEVEL, "info", 0, 0, "debug, info, warn or error", AT(log_level), LIVE},
    {"threads", CH_CONFIG_COUNT, "0", 0, 255, "loop threads; 0: one per core", AT(threads), FIXED},
    {"limits", CH_CONFIG_SECTION, NULL, 0, 0, "sizes and counts", 0, FIXED},
    {"limits.body", CH_CONFIG_SIZE, "32MiB", KIB, GIB, "a JSON request body", AT(limits.body_bytes),
     LIVE},
    {"limits.connections", CH_CONFIG_COUNT, "0", 0, 1 << 20,
     "client connections; 0: from the descriptor limit", AT(limits.connections), LIVE},
    {"limits.connections_per_address", CH_CONFIG_COUNT, "0", 0, 1 << 20,
     "client connections of one address; 0: half of the descriptor limit", AT(limits.per_address),
     LIVE},
    {"limits.inflight", CH_CONFIG_COUNT, "16384", 1, 1 << 20, "exchanges in flight per thread",
     AT(limits.inflight), FIXED},
    {"limits.journal", CH_CONFIG_SIZE, "16MiB", MIB, 4 * GIB, "usage journal per thread",
     AT(limits.journal_bytes), FIXED},
    {"limits.upstream_idle", CH_CONFIG_COUNT, "64", 0, 1 << 16,
     "idle connections kept per provider and thread", AT(limits.upstream_idle), LIVE},
    {"limits.objects", CH_CONFIG_COUNT, "1000000", 1024, 1 << 24,
     "objects stored at providers whose owners are known", AT(limits.objects), FIXED},
    {"timeouts", CH_CONFIG_SECTION, NULL, 0, 0, "how long to wait for whom", 0, FIXED},
    {"timeouts.head", CH_CONFIG_DURATION, "10s", 100, HOUR, "a client's whole request head",
     AT(timeouts.head), LIVE},
    {"timeouts.body", CH_CONFIG_DURATION, "30s", 100, HOUR,
     "a client's request body, without progress", AT(timeouts.body), LIVE},
    {"timeouts.idle", CH_CONFIG_DURATION, "60s", 100, 24 * HOUR,
     "a kept-alive client connection between requests", AT(timeouts.idle), LIVE},
    {"timeouts.write_stall", CH_CONFIG_DURATION, "120s", 100, 24 * HOUR,
     "a client that takes no byte of its answer", AT(timeouts.write_stall), LIVE},
    {"timeouts.connect", CH_CONFIG_DURATION, "10s", 100, HOUR,
     "connecting to a provider, TLS included", AT(timeouts.connect), LIVE},
    {"timeouts.first_byte", CH_CONFIG_DURATION, "600s", 100, 24 * HOUR,
     "a provider's first byte of an answer", AT(timeouts.first_byte), LIVE},
    {"timeouts.upstream_idle", CH_CONFIG_DURATION, "600s", 100, 24 * HOUR,
     "a provider's silence between two bytes of an answer", AT(timeouts.upstream_idle), LIVE},
    {"timeouts.disk", CH_CONFIG_DURATION, "10s", 100, HOUR,
     "the journal on its way to disk, with durability: power", AT(timeouts.disk), LIVE},
    {"timeouts.shutdown", CH_CONFIG_DURATION, "30s", 0, HOUR,
     "exchanges in flight when the daemon stops", AT(timeouts.shutdown), LIVE},
    {"budgets", CH_CONFIG_SECTION, NULL, 0, 0, "what budgets answer", 0, FIXED},
    {"budgets.status", CH_CONFIG_REFUSAL, "429", 402, 429,
     "status of a refusal by a budget: 402, 403 or 429", AT(budget_status), LIVE},
    {"usage", CH_CONFIG_SECTION, NULL, 0, 0, "what usage rows hold", 0, FIXED},
    {"usage.record_client_address", CH_CONFIG_BOOLEAN, "false", 0, 0,
     "keep the client's address with each row", AT(record_client_address), LIVE},
    {"usage.retention", CH_CONFIG_DURATION, "90d", 0, 36500 * DAY,
     "how long single rows are kept; 0d: for ever", AT(usage_retention), LIVE},
    {"capture", CH_CONFIG_SECTION, NULL, 0, 0, "what is kept of requests and answers", 0, FIXED},
    {"capture.bodies", CH_CONFIG_SWITCH, "off", 0, 0, "keep the bodies of every exchange",
     AT(capture.bodies), LIVE},
    {"capture.max_body", CH_CONFIG_SIZE, "64KiB", KIB, MIB, "kept of a body, each direction",
     AT(capture.max_body), LIVE},
    {"capture.retention", CH_CONFIG_DURATION, "90d", DAY, 36500 * DAY,
     "how long captured bodies are kept", AT(capture.retention), LIVE},
    {"capture.directory", CH_CONFIG_FILE_PATH, "", 0, PATH_MAX_BYTES,
     "folder of the day files; empty: capture beside the database", AT(capture.directory), FIXED},
    {"capture.patterns", CH_CONFIG_TEXT_LIST, "[]", 0, CH_SCRUB_PATTERNS_MAX,
     "regular expressions of what is redacted beside keys and tokens", AT(capture.patterns), LIVE},
    {"capture.rules", CH_CONFIG_TEXT_LIST, "[]", 0, CH_RECORD_RULES_MAX,
     "rules that drop, strip, hash or replace before anything is kept", AT(capture.rules), LIVE},
    {"capture.hook", CH_CONFIG_SECTION, NULL, 0, 0, "a program that every event passes", 0, FIXED},
    {"capture.hook.program", CH_CONFIG_FILE_PATH, "", 0, PATH_MAX_BYTES,
     "the program; empty: none", AT(capture.hook_program), LIVE},
    {"capture.hook.timeout", CH_CONFIG_DURATION, "2s", 10, 60 * SECOND, "its time for one event",
     AT(capture.hook_timeout), LIVE},
    {"capture.tripwire", CH_CONFIG_BOOLEAN, "false", 0, 0,
     "report prompts that carry a provider's key or a wrapped key", AT(capture.tripwire), LIVE},
};
#define KEYS (sizeof schema / sizeof *schema)

const struct ch_config_key *ch_config_schema(size_t *count_out)
{
    *count_out = KEYS;
    return schema;
}

struct reader {
    struct ch_config_yaml yaml;
    yaml_mark_t mark;        // where the value being read stands
    char path[KEY_PATH_MAX]; // of the section being read, with its final dot: "limits."
    size_t path_len;
    bool seen[KEYS];
    const char *dir;
    struct ch_config *config;
};

#define FAIL_AT(r, mark, ...) ch_config_yaml_fail(&(r)->yaml, (mark), __VA_ARGS__)
#define FAIL(r, ...)          FAIL_AT(r, (r)->yaml.event.start_mark, __VA_ARGS__)

static yaml_event_type_t event_type(const struct reader *r)
{
    return r->yaml.event.type;
}

// The operator's own words, short and printable.
struct quoted {
    char text[ECHO_MAX + 4];
};
static struct quoted quote(struct ch_span text)
{
    struct quoted out;
    size_t len = text.len < ECHO_MAX ? text.len : ECHO_MAX;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        out.text[i] = (char)(c < ' ' || c == 0x7f ? '?' : c);
    }
    strcpy(out.text + len, text.len > len ? "..." : "");
    return out;
}

static struct ch_span section_path(const struct reader *r)
{
    return (struct ch_span){r->path, r->path_len};
}

// The key called `name` in the section being read, or NULL.
static const struct ch_config_key *find_key(const struct reader *r, struct ch_span name)
{
    if (memchr(name.ptr, '.', name.len)) // a path written as one word is no key of this section
        return NULL;
    for (size_t i = 0; i < KEYS; i++) {
        struct ch_span path = ch_span_of(schema[i].path);
        if (ch_span_starts(path, section_path(r)) &&
            ch_span_eq(ch_span_sub(path, r->path_len), name))
            return &schema[i];
    }
    return NULL;
}

static struct ch_span last_component(struct ch_span path)
{
    const char *dot = memrchr(path.ptr, '.', path.len);
    return dot ? ch_span_sub(path, (size_t)(dot + 1 - path.ptr)) : path;
}

static bool is_in_section(const struct reader *r, const struct ch_config_key *key)
{
    struct ch_span path = ch_span_of(key->path);
    return path.len == r->path_len + last_component(path).len &&
           ch_span_starts(path, section_path(r));
}

// How far `name`, found in the current section, is from a key: keys elsewhere are one step farther.
static unsigned distance_to(const struct reader *r, struct ch_span name,
                            const struct ch_config_key *key)
{
    struct ch_span path = ch_span_of(key->path);
    unsigned by_leaf =
        ch_config_value_distance(name, last_component(path)) + !is_in_section(r, key);
    unsigned by_path = ch_config_value_distance(name, path); // "limits.body" written as one word
    return by_leaf < by_path ? by_leaf : by_path;
}

static enum ch_err fail_did_you_mean(struct reader *r, struct ch_span name,
                                     const struct ch_config_key *nearest)
{
    struct ch_span leaf = last_component(ch_span_of(nearest->path));
    if (is_in_section(r, nearest))
        return FAIL(r, "unknown key \"%s\"; did you mean \"%s\"?", quote(name).text, leaf.ptr);
    int section_len = (int)(leaf.ptr - nearest->path) - 1;
    if (section_len < 0)
        return FAIL(r, "unknown key \"%s\" here; did you mean \"%s\" at the top level?",
                    quote(name).text, leaf.ptr);
    return FAIL(r, "unknown key \"%s\" here; did you mean \"%s\" under \"%.*s\"?", quote(name).text,
                leaf.ptr, section_len, nearest->path);
}

static enum ch_err fail_unknown_key(struct reader *r, struct ch_span name)
{
    const struct ch_config_key *nearest = NULL;
    unsigned least = 2 + (unsigned)(name.len / 4); // farther than that is no typing error
    for (size_t i = 0; i < KEYS; i++) {
        unsigned distance = distance_to(r, name, &schema[i]);
        if (distance < least) {
            least = distance;
            nearest = &schema[i];
        }
    }
    return nearest ? fail_did_you_mean(r, name, nearest)
                   : FAIL(r, "unknown key \"%s\"", quote(name).text);
}

static const char *expectation(enum ch_config_type type)
{
    switch (type) {
    case CH_CONFIG_SECTION:
        return "keys of its own, indented under it";
    case CH_CONFIG_LISTENERS:
        return "a list of entries such as \"- address: " DEFAULT_ADDRESS "\"";
    case CH_CONFIG_NETWORKS:
        return "a list of networks such as [10.0.0.0/8, \"fd00::/8\"]";
    case CH_CONFIG_PIN_LISTS:
        return "names of providers, each with a list of one or two pins";
    case CH_CONFIG_CLIENT:
        return "require or request";
    case CH_CONFIG_DURABLE:
        return "process or power";
    case CH_CONFIG_ADDRESS:
        return "ADDRESS:PORT with a literal address (127.0.0.1:8080, \"[::1]:8080\") or unix:PATH";
    case CH_CONFIG_FILE_PATH:
        return "a path";
    case CH_CONFIG_SECRET:
        return "${env:NAME}, ${file:PATH} or ${credential:NAME}";
    case CH_CONFIG_LEVEL:
        return "debug, info, warn or error";
    case CH_CONFIG_BOOLEAN:
        return "true or false";
    case CH_CONFIG_COUNT:
        return "a whole number";
    case CH_CONFIG_REFUSAL:
        return "402, 403 or 429";
    case CH_CONFIG_SIZE:
        return "a size such as 64KiB, 32MiB or 1GiB";
    case CH_CONFIG_TEXT_LIST:
        return "a list of texts";
    case CH_CONFIG_SWITCH:
        return "off or on";
    case CH_CONFIG_DURATION:
        return "a duration such as 500ms, 10s, 5m, 1h or 90d";
    }
    return "";
}

// `text` is repeated in the sentence unless it may be a secret.
static enum ch_err fail_expected(struct reader *r, const struct ch_config_key *key,
                                 struct ch_span text)
{
    if (key->type == CH_CONFIG_SECRET)
        return FAIL_AT(r, r->mark,
                       "%s: a secret does not belong in this file; write %s, and put the secret "
                       "there",
                       key->path, expectation(key->type));
    return FAIL_AT(r, r->mark, "%s: \"%s\" is not %s", key->path, quote(text).text,
                   expectation(key->type));
}

static enum ch_err fail_too_long(struct reader *r, const struct ch_config_key *key)
{
    return FAIL_AT(r, r->mark, "%s: the path is longer than %" PRId64 " bytes", key->path,
                   key->max);
}

// Joins `prefix`, the file's directory where `path` is relative, `path` and `suffix`.
static enum ch_err store_path(struct reader *r, const struct ch_config_key *key, const char *prefix,
                              struct ch_span path, const char *suffix, char *out)
{
    bool is_relative = path.ptr[0] != '/' && r->dir[0] != '\0';
    int len = snprintf(out, CH_CONFIG_PATH, "%s%s%s%.*s%s", prefix, is_relative ? r->dir : "",
                       is_relative ? "/" : "", CH_SPAN_ARG(path), suffix);
    return len > key->max ? fail_too_long(r, key) : CH_OK;
}

static enum ch_err set_path(struct reader *r, const struct ch_config_key *key, struct ch_span text,
                            char *out)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < ' ' || text.ptr[i] == 0x7f)
            return fail_expected(r, key, text);
    if (text.len == 0 && key->min > 0)
        return FAIL_AT(r, r->mark, "%s: the path must not be empty", key->path);
    if ((int64_t)text.len > key->max)
        return fail_too_long(r, key);
    if (text.len == 0) {
        out[0] = '\0';
        return CH_OK;
    }
    return store_path(r, key, "", text, "", out);
}

static enum ch_err set_secret(struct reader *r, const struct ch_config_key *key,
                              struct ch_span text, char *out)
{
    enum ch_config_source source;
    struct ch_span name;
    if (ch_config_reference(text, &source, &name))
        return fail_expected(r, key, text);
    if ((int64_t)text.len > key->max)
        return fail_too_long(r, key);
    if (source == CH_CONFIG_FILE)
        return store_path(r, key, "${file:", name, "}", out);
    ch_span_copy(text, out, CH_CONFIG_PATH);
    return CH_OK;
}

static enum ch_err set_address(struct reader *r, const struct ch_config_key *key,
                               struct ch_span text, char *out)
{
    struct ch_span host;
    uint16_t port;
    bool is_unix;
    if (ch_config_address(text, &host, &port, &is_unix))
        return fail_expected(r, key, text);
    if (!is_unix) {
        ch_span_copy(text, out, CH_CONFIG_PATH); // a literal address is short
        return CH_OK;
    }
    if ((int64_t)text.len > key->max)
        return fail_too_long(r, key);
    enum ch_err err = store_path(r, key, "unix:", host, "", out);
    if (!err && strlen(out) - strlen("unix:") > SOCKET_PATH_MAX)
        err = FAIL_AT(r, r->mark, "%s: the path of a socket has at most %zu bytes", key->path,
                      SOCKET_PATH_MAX);
    return err;
}

// A number as the operator would write it, for the sentence that names a bound.
struct shown {
    char text[32];
};
static struct shown show_number(enum ch_config_type type, int64_t value)
{
    struct shown out;
    if (type == CH_CONFIG_DURATION && value > DAY && value % DAY == 0)
        snprintf(out.text, sizeof out.text, "%" PRId64 "d", value / DAY);
    else if (type == CH_CONFIG_DURATION && value % SECOND == 0)
        snprintf(out.text, sizeof out.text, "%" PRId64 "s", value / SECOND);
    else if (type == CH_CONFIG_DURATION)
        snprintf(out.text, sizeof out.text, "%" PRId64 "ms", value);
    else if (type == CH_CONFIG_SIZE && value % MIB == 0)
        snprintf(out.text, sizeof out.text, "%" PRId64 "MiB", value / MIB);
    else if (type == CH_CONFIG_SIZE)
        snprintf(out.text, sizeof out.text, "%" PRId64 "KiB", value / KIB);
    else
        snprintf(out.text, sizeof out.text, "%" PRId64, value);
    return out;
}

static enum ch_err check_range(struct reader *r, const struct ch_config_key *key, int64_t value)
{
    if (value >= key->min && value <= key->max)
        return CH_OK;
    return FAIL_AT(r, r->mark, "%s: must lie between %s and %s", key->path,
                   show_number(key->type, key->min).text, show_number(key->type, key->max).text);
}

static enum ch_err set_number(struct reader *r, const struct ch_config_key *key,
                              struct ch_span text, int64_t *out)
{
    enum ch_err err = key->type == CH_CONFIG_SIZE       ? ch_config_value_size(text, out)
                      : key->type == CH_CONFIG_DURATION ? ch_config_value_duration(text, out)
                                                        : ch_span_to_int64(text, out);
    return err ? fail_expected(r, key, text) : check_range(r, key, *out);
}

static enum ch_err set_threads(struct reader *r, const struct ch_config_key *key,
                               struct ch_span text)
{
    int64_t value;
    enum ch_err err = set_number(r, key, text, &value);
    if (!err)
        r->config->threads = (unsigned)value;
    return err;
}

// Stores a scalar where its key stands in `base`, a struct ch_config or ch_config_listener.
static enum ch_err set_value(struct reader *r, const struct ch_config_key *key, struct ch_span text,
                             void *base)
{
    void *out = (char *)base + key->offset;
    enum ch_err err = CH_OK;
    switch (key->type) {
    case CH_CONFIG_SECTION:
    case CH_CONFIG_LISTENERS:
    case CH_CONFIG_NETWORKS:
    case CH_CONFIG_PIN_LISTS:
    case CH_CONFIG_TEXT_LIST:
        return fail_expected(r, key, text);
    case CH_CONFIG_SWITCH:
        err = ch_config_value_switch(text, out);
        break;
    case CH_CONFIG_CLIENT:
        err = ch_config_value_client(text, out);
        break;
    case CH_CONFIG_DURABLE:
        err = ch_config_value_durability(text, out);
        break;
    case CH_CONFIG_ADDRESS:
        return set_address(r, key, text, out);
    case CH_CONFIG_FILE_PATH:
        return set_path(r, key, text, out);
    case CH_CONFIG_SECRET:
        return set_secret(r, key, text, out);
    case CH_CONFIG_LEVEL:
        err = ch_log_level_parse(text, out);
        break;
    case CH_CONFIG_BOOLEAN:
        err = ch_config_value_boolean(text, out);
        break;
    case CH_CONFIG_COUNT:
        if (key->offset == AT(threads)) // the one count that is not an int64_t
            return set_threads(r, key, text);
        return set_number(r, key, text, out);
    case CH_CONFIG_REFUSAL:
        if (!ch_span_eq(text, CH_SPAN("402")) && !ch_span_eq(text, CH_SPAN("403")) &&
            !ch_span_eq(text, CH_SPAN("429")))
            return fail_expected(r, key, text);
        return set_number(r, key, text, out);
    case CH_CONFIG_SIZE:
    case CH_CONFIG_DURATION:
        return set_number(r, key, text, out);
    }
    return err ? fail_expected(r, key, text) : CH_OK;
}

static bool is_text_type(enum ch_config_type type)
{
    return type == CH_CONFIG_ADDRESS || type == CH_CONFIG_FILE_PATH || type == CH_CONFIG_SECRET;
}

static enum ch_err read_scalar(struct reader *r, const struct ch_config_key *key, void *base)
{
    if (event_type(r) != YAML_SCALAR_EVENT)
        return FAIL(r, "%s: must be %s", key->path, expectation(key->type));
    if (ch_config_yaml_is_nothing(&r->yaml))
        return FAIL(r, "%s: has no value; it must be %s", key->path, expectation(key->type));
    if (!is_text_type(key->type) && !ch_config_yaml_is_plain(&r->yaml))
        return FAIL(r, "%s: must be %s, without quotes", key->path, expectation(key->type));
    return set_value(r, key, ch_config_yaml_text(&r->yaml), base);
}

static enum ch_err read_value(struct reader *r, const struct ch_config_key *key, void *base);

// Reads `key: value` pairs up to the end of the mapping that has begun.
static enum ch_err read_pairs(struct reader *r, void *base)
{
    for (;;) {
        enum ch_err err = ch_config_yaml_next(&r->yaml);
        if (err || event_type(r) == YAML_MAPPING_END_EVENT)
            return err;
        if (event_type(r) != YAML_SCALAR_EVENT)
            return FAIL(r, "a key must be a plain word");
        const struct ch_config_key *key = find_key(r, ch_config_yaml_text(&r->yaml));
        if (!key)
            return fail_unknown_key(r, ch_config_yaml_text(&r->yaml));
        if (r->seen[key - schema])
            return FAIL(r, "%s: stands here twice", key->path);
        r->seen[key - schema] = true;
        if ((err = ch_config_yaml_next(&r->yaml)))
            return err;
        r->mark = r->yaml.event.start_mark;
        if ((err = read_value(r, key, base)))
            return err;
    }
}

// `suffix` is what a key inside adds to the path of its section: "." or "[].".
static enum ch_err read_inside(struct reader *r, const struct ch_config_key *key,
                               const char *suffix, void *base)
{
    size_t outer_len = r->path_len;
    r->path_len = (size_t)snprintf(r->path, sizeof r->path, "%s%s", key->path, suffix);
    enum ch_err err = read_pairs(r, base);
    r->path_len = outer_len; // the bytes of the outer path still stand
    return err;
}

static enum ch_err read_section(struct reader *r, const struct ch_config_key *key, void *base)
{
    if (ch_config_yaml_is_nothing(&r->yaml)) // all its keys are commented out
        return CH_OK;
    if (event_type(r) != YAML_MAPPING_START_EVENT)
        return FAIL(r, "%s: must have %s", key->path, expectation(key->type));
    return read_inside(r, key, ".", base);
}

// Another listener of this file with the same address would share its connections by chance.
static bool is_repeated(const struct ch_config *config, const struct ch_config_listener *listener)
{
    for (const struct ch_config_listener *l = config->listeners; l < listener; l++)
        if (strcmp(l->address, listener->address) == 0)
            return true;
    return false;
}

static enum ch_err check_listener(struct reader *r, const struct ch_config_listener *listener,
                                  yaml_mark_t mark)
{
    struct ch_span host;
    uint16_t port;
    bool is_unix;
    bool has_certificate = listener->tls_certificate[0], has_key = listener->tls_key[0];
    if (ch_config_address(ch_span_of(listener->address), &host, &port, &is_unix))
        return FAIL_AT(r, mark, "listen[].address: is missing");
    if (has_certificate != has_key)
        return FAIL_AT(r, mark, "listen[].tls: needs both \"certificate\" and \"key\"");
    if (listener->tls_client_ca[0] && !has_certificate)
        return FAIL_AT(r, mark,
                       "listen[].tls.client_ca: needs \"certificate\" and \"key\" beside it");
    if (listener->tls_client_auth && !listener->tls_client_ca[0])
        return FAIL_AT(r, mark, "listen[].tls.client_auth: needs \"client_ca\" beside it");
    if (!has_certificate && !is_unix && !ch_config_value_is_loopback(host))
        return FAIL_AT(r, mark,
                       "listen[]: %s is reachable by other machines, which would send their keys "
                       "in the clear; give it \"tls\" with \"certificate\" and \"key\", or listen "
                       "on 127.0.0.1, [::1] or unix:PATH",
                       listener->address);
    if (is_repeated(r->config, listener))
        return FAIL_AT(r, mark, "listen[].address: %s stands here twice",
                       quote(ch_span_of(listener->address)).text);
    return CH_OK;
}

static void forget_listener_keys(struct reader *r)
{
    for (size_t i = 0; i < KEYS; i++)
        if (ch_span_starts(ch_span_of(schema[i].path), CH_SPAN(LISTENER_PREFIX)))
            r->seen[i] = false;
}

static enum ch_err read_listener(struct reader *r, const struct ch_config_key *key)
{
    if (event_type(r) != YAML_MAPPING_START_EVENT)
        return FAIL(r, "%s: must be %s", key->path, expectation(key->type));
    if (r->config->listener_count == CH_CONFIG_LISTENERS_MAX)
        return FAIL(r, "%s: has more than %d entries", key->path, CH_CONFIG_LISTENERS_MAX);
    yaml_mark_t mark = r->yaml.event.start_mark;
    struct ch_config_listener *listener = &r->config->listeners[r->config->listener_count];
    forget_listener_keys(r);
    enum ch_err err = read_inside(r, key, "[].", listener);
    if (!err)
        err = check_listener(r, listener, mark);
    if (err)
        return err;
    if (listener->tls_client_ca[0] && !listener->tls_client_auth)
        listener->tls_client_auth = CH_CONFIG_CLIENT_AUTH_REQUIRE;
    r->config->listener_count++;
    return CH_OK;
}

static enum ch_err read_listeners(struct reader *r, const struct ch_config_key *key)
{
    if (event_type(r) != YAML_SEQUENCE_START_EVENT)
        return FAIL(r, "%s: must be %s", key->path, expectation(key->type));
    for (;;) {
        enum ch_err err = ch_config_yaml_next(&r->yaml);
        if (err)
            return err;
        if (event_type(r) == YAML_SEQUENCE_END_EVENT)
            break;
        if ((err = read_listener(r, key)))
            return err;
    }
    return r->config->listener_count ? CH_OK : FAIL(r, "%s: has no entry", key->path);
}

static enum ch_err read_value(struct reader *r, const struct ch_config_key *key, void *base)
{
    if (key->type == CH_CONFIG_NETWORKS)
        return ch_config_read_networks(&r->yaml, key, &r->config->allow_addresses);
    if (key->type == CH_CONFIG_PIN_LISTS)
        return ch_config_read_pins(&r->yaml, key, r->config);
    if (key->type == CH_CONFIG_TEXT_LIST)
        return ch_config_read_texts(&r->yaml, key, (void *)((char *)base + key->offset));
    if (key->type == CH_CONFIG_SECTION)
        return read_section(r, key, base);
    if (key->type == CH_CONFIG_LISTENERS)
        return read_listeners(r, key);
    return read_scalar(r, key, base);
}

// An empty file is a valid one: everything has a default.
static enum ch_err read_document(struct reader *r)
{
    enum ch_err err = ch_config_yaml_next(&r->yaml);
    if (err || event_type(r) == YAML_STREAM_END_EVENT)
        return err;
    if ((err = ch_config_yaml_next(&r->yaml)))
        return err;
    if (event_type(r) == YAML_MAPPING_START_EVENT)
        err = read_pairs(r, r->config);
    else if (!ch_config_yaml_is_nothing(&r->yaml))
        err = FAIL(r, "the file must hold \"key: value\" lines");
    if (!err)
        err = ch_config_yaml_next(&r->yaml); // the document's end
    if (!err)
        err = ch_config_yaml_next(&r->yaml);
    if (!err && event_type(r) != YAML_STREAM_END_EVENT)
        err = FAIL(r, "a second document (---) is not allowed in this file");
    return err;
}

// A default can fail only where the file's directory makes a path too long.
static enum ch_err set_defaults(struct reader *r)
{
    for (size_t i = 0; i < KEYS; i++) {
        const struct ch_config_key *key = &schema[i];
        bool is_listener = ch_span_starts(ch_span_of(key->path), CH_SPAN(LISTENER_PREFIX));
        bool is_list = key->type == CH_CONFIG_NETWORKS || key->type == CH_CONFIG_PIN_LISTS ||
                       key->type == CH_CONFIG_TEXT_LIST;
        if (!key->default_text || is_listener || is_list || r->seen[i])
            continue; // a list begins empty
        if (set_value(r, key, ch_span_of(key->default_text), r->config))
            return ch_why_set(r->yaml.why, CH_ERR_INVALID,
                              "%s: must be set, for its default, %s beside this file, makes a path "
                              "of more than %" PRId64 " bytes",
                              key->path, key->default_text, key->max);
    }
    return CH_OK;
}

static enum ch_err place_beside_database(struct reader *r, const char *key, const char *name,
                                         char *path)
{
    const char *database = r->config->database, *slash = strrchr(database, '/');
    if (path[0])
        return CH_OK;
    int dir_len = slash ? (int)(slash + 1 - database) : 0;
    int len = snprintf(path, CH_CONFIG_PATH, "%.*s%s", dir_len, database, name);
    return len > PATH_MAX_BYTES ? ch_why_set(r->yaml.why, CH_ERR_INVALID,
                                             "%s: the path is longer than %d bytes", key,
                                             PATH_MAX_BYTES)
                                : CH_OK;
}

// The admin listener is no place for applications' keys, so it has a port of its own.
static enum ch_err check_admin(struct reader *r)
{
    const struct ch_config *config = r->config;
    struct ch_span host;
    uint16_t port;
    bool is_unix, has_certificate = config->admin_tls_certificate[0];
    if (has_certificate != (config->admin_tls_key[0] != '\0'))
        return ch_why_set(r->yaml.why, CH_ERR_INVALID,
                          "admin.tls: needs both \"certificate\" and \"key\"");
    if (!config->admin_listen[0])
        return has_certificate ? ch_why_set(r->yaml.why, CH_ERR_INVALID,
                                            "admin.tls: needs \"listen\" beside it")
                               : CH_OK;
    if (ch_config_address(ch_span_of(config->admin_listen), &host, &port, &is_unix) || is_unix)
        return ch_why_set(r->yaml.why, CH_ERR_INVALID,
                          "admin.listen: must be ADDRESS:PORT; the Unix socket is admin.socket");
    if (!has_certificate && !ch_config_value_is_loopback(host))
        return ch_why_set(r->yaml.why, CH_ERR_INVALID,
                          "admin.listen: %s is reachable by other machines, which would send their "
                          "tokens in the clear; give it \"tls\" with \"certificate\" and \"key\"",
                          config->admin_listen);
    for (unsigned i = 0; i < config->listener_count; i++)
        if (strcmp(config->listeners[i].address, config->admin_listen) == 0)
            return ch_why_set(r->yaml.why, CH_ERR_INVALID,
                              "admin.listen: %s is where clients connect; take another port",
                              config->admin_listen);
    return CH_OK;
}

static enum ch_err set_derived(struct reader *r)
{
    struct ch_config *config = r->config;
    if (config->listener_count == 0) {
        strcpy(config->listeners[0].address, DEFAULT_ADDRESS);
        config->listener_count = 1;
    }
    enum ch_err err = check_admin(r);
    if (!err)
        err = place_beside_database(r, "journal", "chaperone.journal", config->journal);
    return err ? err
               : place_beside_database(r, "capture.directory", "capture",
                                       config->capture.directory);
}

enum ch_err ch_config_parse(struct ch_span yaml, const char *dir, struct ch_config *config_out,
                            struct ch_why *why)
{
    if (yaml.len > CH_CONFIG_FILE_MAX)
        return ch_why_set(why, CH_ERR_LIMIT, "the file is longer than %d bytes",
                          CH_CONFIG_FILE_MAX);
    struct ch_config config = {0};
    struct reader r = {.dir = dir, .config = &config};
    enum ch_err err = ch_config_yaml_open(&r.yaml, yaml, why);
    if (err)
        return err;
    err = read_document(&r);
    if (!err)
        err = set_defaults(&r);
    if (!err)
        err = set_derived(&r);
    ch_config_yaml_close(&r.yaml);
    if (!err)
        *config_out = config;
    return err;
}
