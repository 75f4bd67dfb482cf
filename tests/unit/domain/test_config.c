// SPDX-License-Identifier: Apache-2.0
#include "domain/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define PIN_A "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" // 32 bytes of 0
#define PIN_B "//////////////////////////////////////////8=" // 32 bytes of 0xFF

static struct ch_config config; // 30 KB: too big for a comfortable stack
static struct ch_why why;

static enum ch_err parse(const char *yaml)
{
    memset(&config, 0, sizeof config);
    why.text[0] = '\0';
    return ch_config_parse(ch_span_of(yaml), "/etc/chaperone", &config, &why);
}

static void assert_parses(const char *yaml)
{
    enum ch_err err = parse(yaml);
    if (err)
        print_error("%s\n", why.text);
    assert_int_equal(err, CH_OK);
}

static void assert_refused(const char *yaml, const char *sentence)
{
    assert_int_equal(parse(yaml), CH_ERR_INVALID);
    assert_string_equal(why.text, sentence);
}

static void empty_file_gives_the_defaults(void **state)
{
    (void)state;
    static const char *const empty[] = {"",      "\n\n",       "# nothing\n",
                                        "---\n", "---\n...\n", "limits:\n  # body: 1MiB\n"};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        assert_parses(empty[i]);
        assert_int_equal(config.listener_count, 1);
        assert_string_equal(config.listeners[0].address, "127.0.0.1:8080");
        assert_string_equal(config.listeners[0].tls_certificate, "");
        assert_string_equal(config.database, "/etc/chaperone/chaperone.db");
        assert_string_equal(config.journal, "/etc/chaperone/chaperone.journal");
        assert_string_equal(config.admin_socket, "/etc/chaperone/chaperone.sock");
        assert_string_equal(config.master_key, "${env:CHAPERONE_MASTER_KEY}");
        assert_string_equal(config.prices, "");
        assert_string_equal(config.upstream_ca, "");
        assert_int_equal(config.log_level, CH_LOG_INFO);
        assert_int_equal(config.threads, 0);
        assert_int_equal(config.limits.body_bytes, 33554432);
        assert_int_equal(config.limits.connections, 0);
        assert_int_equal(config.limits.per_address, 0);
        assert_int_equal(config.limits.inflight, 16384);
        assert_int_equal(config.limits.journal_bytes, 16777216);
        assert_int_equal(config.limits.upstream_idle, 64);
        assert_int_equal(config.timeouts.head, 10000);
        assert_int_equal(config.timeouts.body, 30000);
        assert_int_equal(config.timeouts.idle, 60000);
        assert_int_equal(config.timeouts.write_stall, 120000);
        assert_int_equal(config.timeouts.connect, 10000);
        assert_int_equal(config.timeouts.first_byte, 600000);
        assert_int_equal(config.timeouts.upstream_idle, 600000);
        assert_int_equal(config.timeouts.disk, 10000);
        assert_int_equal(config.timeouts.shutdown, 30000);
        assert_int_equal(config.durability, CH_CONFIG_DURABILITY_PROCESS);
        assert_false(config.record_client_address);
        assert_int_equal(config.allow_addresses.count, 0);
        assert_int_equal(config.pinned_count, 0);
        assert_int_equal(config.listeners[0].tls_client_auth, CH_CONFIG_CLIENT_AUTH_NONE);
    }
}

static void every_key_is_read(void **state)
{
    (void)state;
    assert_parses("listen:\n"
                  "  - address: 127.1.2.3:81\n"
                  "  - address: '[::]:8443'\n"
                  "    tls: {certificate: tls/c.pem, key: /k.pem, client_ca: ca.pem, "
                  "client_auth: request}\n"
                  "  - {address: \"unix:run/x.sock\"}\n"
                  "master_key: ${credential:master}\n"
                  "database: data/c.db\n"
                  "durability: power\n"
                  "admin:\n  socket: /run/c.sock\n"
                  "prices: p.json\n"
                  "upstream:\n"
                  "  ca: ca.pem\n"
                  "  allow_addresses: [10.20.0.0/16, \"fd00:20::/32\", 10.20.0.0/16, 192.0.2.7]\n"
                  "  pins:\n"
                  "    one: [" PIN_A "]\n"
                  "    o.t-h_r: [" PIN_A ", \"" PIN_B "\"]\n"
                  "log: {level: debug}\n"
                  "threads: 3\n"
                  "limits: {body: 64KiB, connections: 5, inflight: 6, journal: 2MiB, "
                  "upstream_idle: 0}\n"
                  "timeouts: {head: 500ms, body: 2s, idle: 1m, write_stall: 1h, connect: 4s,\n"
                  "  first_byte: 5s, upstream_idle: 6s, disk: 7s, shutdown: 0s}\n"
                  "usage:\n  record_client_address: true\n");
    assert_int_equal(config.listener_count, 3);
    assert_string_equal(config.listeners[0].address, "127.1.2.3:81");
    assert_string_equal(config.listeners[1].address, "[::]:8443");
    assert_string_equal(config.listeners[1].tls_certificate, "/etc/chaperone/tls/c.pem");
    assert_string_equal(config.listeners[1].tls_key, "/k.pem");
    assert_string_equal(config.listeners[1].tls_client_ca, "/etc/chaperone/ca.pem");
    assert_int_equal(config.listeners[1].tls_client_auth, CH_CONFIG_CLIENT_AUTH_REQUEST);
    assert_string_equal(config.listeners[2].address, "unix:/etc/chaperone/run/x.sock");
    assert_string_equal(config.master_key, "${credential:master}");
    assert_string_equal(config.database, "/etc/chaperone/data/c.db");
    assert_string_equal(config.journal, "/etc/chaperone/data/chaperone.journal");
    assert_string_equal(config.admin_socket, "/run/c.sock");
    assert_string_equal(config.prices, "/etc/chaperone/p.json");
    assert_string_equal(config.upstream_ca, "/etc/chaperone/ca.pem");
    assert_int_equal(config.allow_addresses.count, 3); // the repeated one stands once
    assert_int_equal(config.allow_addresses.networks[0].prefix_bits, 16);
    assert_int_equal(config.allow_addresses.networks[1].len, 16);
    assert_int_equal(config.allow_addresses.networks[2].prefix_bits, 32);
    assert_int_equal(config.pinned_count, 2);
    assert_string_equal(config.pins[0].provider, "one");
    assert_int_equal(config.pins[0].count, 1);
    assert_string_equal(config.pins[1].provider, "o.t-h_r");
    assert_int_equal(config.pins[1].count, 2);
    assert_int_equal(config.pins[1].pin[0][0], 0);
    assert_int_equal(config.pins[1].pin[1][31], 0xFF);
    assert_int_equal(config.log_level, CH_LOG_DEBUG);
    assert_int_equal(config.threads, 3);
    assert_int_equal(config.limits.body_bytes, 65536);
    assert_int_equal(config.limits.connections, 5);
    assert_int_equal(config.limits.inflight, 6);
    assert_int_equal(config.limits.journal_bytes, 2097152);
    assert_int_equal(config.limits.upstream_idle, 0);
    assert_int_equal(config.timeouts.head, 500);
    assert_int_equal(config.timeouts.body, 2000);
    assert_int_equal(config.timeouts.idle, 60000);
    assert_int_equal(config.timeouts.write_stall, 3600000);
    assert_int_equal(config.timeouts.connect, 4000);
    assert_int_equal(config.timeouts.first_byte, 5000);
    assert_int_equal(config.timeouts.upstream_idle, 6000);
    assert_int_equal(config.timeouts.disk, 7000);
    assert_int_equal(config.timeouts.shutdown, 0);
    assert_int_equal(config.durability, CH_CONFIG_DURABILITY_POWER);
    assert_true(config.record_client_address);
}

static void paths_are_relative_to_the_file(void **state)
{
    (void)state;
    assert_parses("master_key: ${file:master.key}\njournal: j\n");
    assert_string_equal(config.master_key, "${file:/etc/chaperone/master.key}");
    assert_string_equal(config.journal, "/etc/chaperone/j");
    assert_parses("master_key: ${file:/k}\n");
    assert_string_equal(config.master_key, "${file:/k}");
    assert_int_equal(ch_config_parse(CH_SPAN("database: x.db"), "", &config, &why), CH_OK);
    assert_string_equal(config.database, "x.db");
    assert_string_equal(config.journal, "chaperone.journal");
}

static void an_error_leaves_the_old_values(void **state)
{
    (void)state;
    assert_parses("threads: 7");
    assert_int_equal(ch_config_parse(CH_SPAN("threads: 8\nx: 1"), "/", &config, &why),
                     CH_ERR_INVALID);
    assert_int_equal(config.threads, 7);
    assert_int_equal(ch_config_parse(CH_SPAN("x: 1"), "/", &config, NULL), CH_ERR_INVALID);
}

static void unknown_keys_name_the_nearest(void **state)
{
    (void)state;
    assert_refused("threads: 1\nlimts:\n  body: 1MiB\n",
                   "line 2, column 1: unknown key \"limts\"; did you mean \"limits\"?");
    assert_refused("limits:\n  bodi: 1MiB\n",
                   "line 2, column 3: unknown key \"bodi\"; did you mean \"body\"?");
    assert_refused("socket: x\n", "line 1, column 1: unknown key \"socket\" here; did you mean "
                                  "\"socket\" under \"admin\"?");
    assert_refused("limits.body: 1MiB\n", "line 1, column 1: unknown key \"limits.body\" here; did "
                                          "you mean \"body\" under \"limits\"?");
    assert_refused("log: {databse: x}\n", "line 1, column 7: unknown key \"databse\" here; did you "
                                          "mean \"database\" at the top level?");
    assert_refused("listen:\n  - adress: 127.0.0.1:1\n",
                   "line 2, column 5: unknown key \"adress\"; did you mean \"address\"?");
    assert_refused("elephant: 1\n", "line 1, column 1: unknown key \"elephant\"");
    assert_refused("\"a\\e\\x7f\": 1\n", "line 1, column 1: unknown key \"a??\"");
    assert_refused("listen[]: x\n",
                   "line 1, column 1: unknown key \"listen[]\"; did you mean \"listen\"?");
}

static void what_is_not_the_subset_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *sentence;
    } cases[] = {
        {"threads: &a 1", "line 1, column 10: anchors (&name) are not allowed in this file"},
        {"threads: *a", "line 1, column 10: aliases (*name) are not allowed in this file"},
        {"threads: !!int 1", "line 1, column 10: tags (!name) are not allowed in this file"},
        {"limits: !x {body: 1MiB}", "line 1, column 9: tags (!name) are not allowed in this file"},
        {"listen: &l []", "line 1, column 9: anchors (&name) are not allowed in this file"},
        {"%YAML 1.1\n---\nthreads: 1\n",
         "line 1, column 1: directives (%) are not allowed in this file"},
        {"%TAG ! tag:x,2000:\n---\nthreads: 1\n",
         "line 1, column 1: directives (%) are not allowed in this file"},
        {"threads: 1\n---\nthreads: 2\n",
         "line 2, column 1: a second document (---) is not allowed in this file"},
        {"- 1", "line 1, column 1: the file must hold \"key: value\" lines"},
        {"word", "line 1, column 1: the file must hold \"key: value\" lines"},
        {"[a]: 1", "line 1, column 1: a key must be a plain word"},
        {"threads: 1\nthreads: 1\n", "line 2, column 1: threads: stands here twice"},
        {"limits: {}\nlimits: {}\n", "line 2, column 1: limits: stands here twice"},
        {"limits: {body: 1MiB, body: 1MiB}", "line 1, column 22: limits.body: stands here twice"},
        {"<<: {threads: 1}", "line 1, column 1: unknown key \"<<\""},
        {"threads: [1", "line 1, column 10: threads: must be a whole number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].yaml, cases[i].sentence);
    assert_int_equal(parse("threads: \x01"), CH_ERR_INVALID);
    assert_int_equal(parse("\xff\xfet\0h"), CH_ERR_INVALID);
    assert_int_equal(parse("threads: 1\n\tx"), CH_ERR_INVALID);
}

static void values_are_typed(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *sentence;
    } cases[] = {
        {"threads: many", "line 1, column 10: threads: \"many\" is not a whole number"},
        {"threads: -1", "line 1, column 10: threads: \"-1\" is not a whole number"},
        {"threads: 1.0", "line 1, column 10: threads: \"1.0\" is not a whole number"},
        {"threads: 256", "line 1, column 10: threads: must lie between 0 and 255"},
        {"threads: \"1\"", "line 1, column 10: threads: must be a whole number, without quotes"},
        {"threads:", "line 1, column 9: threads: has no value; it must be a whole number"},
        {"threads: null", "line 1, column 10: threads: has no value; it must be a whole number"},
        {"database: ~", "line 1, column 11: database: has no value; it must be a path"},
        {"database: ''", "line 1, column 11: database: the path must not be empty"},
        {"database: \"a\\0b\"", "line 1, column 11: database: \"a?b\" is not a path"},
        {"database: {}", "line 1, column 11: database: must be a path"},
        {"limits: 5", "line 1, column 9: limits: must have keys of its own, indented under it"},
        {"limits: {body: 32}", "line 1, column 16: limits.body: \"32\" is not a size such as "
                               "64KiB, 32MiB or 1GiB"},
        {"limits: {body: 32MB}", "line 1, column 16: limits.body: \"32MB\" is not a size such as "
                                 "64KiB, 32MiB or 1GiB"},
        {"limits: {body: 9999999999GiB}",
         "line 1, column 16: limits.body: \"9999999999GiB\" is not a size such as 64KiB, 32MiB or "
         "1GiB"},
        {"limits: {body: 2GiB}",
         "line 1, column 16: limits.body: must lie between 1KiB and 1024MiB"},
        {"timeouts: {head: 10}", "line 1, column 18: timeouts.head: \"10\" is not a duration such "
                                 "as 500ms, 10s, 5m, 1h or 90d"},
        {"timeouts: {head: 99ms}",
         "line 1, column 18: timeouts.head: must lie between 100ms and 3600s"},
        {"log: {level: loud}",
         "line 1, column 14: log.level: \"loud\" is not debug, info, warn or error"},
        {"usage: {record_client_address: yes}",
         "line 1, column 32: usage.record_client_address: \"yes\" is not true or false"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].yaml, cases[i].sentence);
}

static void a_secret_in_the_file_is_refused_and_not_repeated(void **state)
{
    (void)state;
    static const char *const secrets[] = {"0011deadbeef",
                                          "$CHAPERONE_MASTER_KEY",
                                          "${env:}",
                                          "${vault:deadbeef}",
                                          "${file:x",
                                          "x${env:deadbeef}",
                                          "${credential:../deadbeef}",
                                          "\"${env:dead beef}\""};
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
        char yaml[128];
        snprintf(yaml, sizeof yaml, "threads: 1\nmaster_key: %s\n", secrets[i]);
        assert_refused(yaml,
                       "line 2, column 13: master_key: a secret does not belong in this file; "
                       "write ${env:NAME}, ${file:PATH} or ${credential:NAME}, and put the "
                       "secret there");
    }
}

static void plaintext_is_for_this_machine_only(void **state)
{
    (void)state;
    static const char *const remote[] = {"0.0.0.0:80", "10.0.0.1:80", "'[::]:80'",
                                         "'[::ffff:127.0.0.1]:80'", "128.0.0.1:80"};
    for (size_t i = 0; i < sizeof remote / sizeof *remote; i++) {
        char yaml[128];
        snprintf(yaml, sizeof yaml, "listen:\n  - address: %s\n", remote[i]);
        assert_int_equal(parse(yaml), CH_ERR_INVALID);
        assert_non_null(strstr(why.text, "line 2, column 5: listen[]: "));
        assert_non_null(strstr(why.text, "in the clear"));
    }
    assert_parses("listen: [{address: 127.0.0.1:0}, {address: '[::1]:80'}, {address: unix:/x}, "
                  "{address: localhost:80}]");
    assert_int_equal(config.listener_count, 4);
}

static void listeners_are_checked(void **state)
{
    (void)state;
    assert_refused("listen: []", "line 1, column 10: listen: has no entry");
    assert_refused("listen: 127.0.0.1:80",
                   "line 1, column 9: listen: must be a list of entries such as \"- address: "
                   "127.0.0.1:8080\"");
    assert_refused("listen: [127.0.0.1:80]",
                   "line 1, column 10: listen: must be a list of entries such as \"- address: "
                   "127.0.0.1:8080\"");
    assert_refused("listen: [{}]", "line 1, column 10: listen[].address: is missing");
    assert_refused("listen: [{address: 0.0.0.0:1, tls: {key: k}}]",
                   "line 1, column 10: listen[].tls: needs both \"certificate\" and \"key\"");
    assert_refused("listen: [{address: 127.0.0.1:1}, {address: 127.0.0.1:1}]",
                   "line 1, column 34: listen[].address: 127.0.0.1:1 stands here twice");
    assert_refused(
        "listen: [{address: example.com:80}]",
        "line 1, column 20: listen[].address: \"example.com:80\" is not ADDRESS:PORT with "
        "a literal address (127.0.0.1:8080, \"[::1]:8080\") or unix:PATH");
    char yaml[1024] = "listen:\n";
    for (int i = 0; i <= CH_CONFIG_LISTENERS_MAX; i++) {
        char line[64];
        snprintf(line, sizeof line, "  - address: 127.0.0.1:%d\n", 8000 + i);
        strcat(yaml, line);
    }
    assert_refused(yaml, "line 10, column 5: listen: has more than 8 entries");
}

static void client_certificates_need_a_server_certificate(void **state)
{
    (void)state;
    assert_parses("listen: [{address: 127.0.0.1:1, tls: {certificate: c, key: k, client_ca: a}}]");
    assert_int_equal(config.listeners[0].tls_client_auth, CH_CONFIG_CLIENT_AUTH_REQUIRE);
    assert_refused("listen: [{address: 127.0.0.1:1, tls: {client_ca: a}}]",
                   "line 1, column 10: listen[].tls.client_ca: needs \"certificate\" and \"key\" "
                   "beside it");
    assert_refused(
        "listen: [{address: 127.0.0.1:1, tls: {certificate: c, key: k, client_auth: request}}]",
        "line 1, column 10: listen[].tls.client_auth: needs \"client_ca\" beside it");
    assert_refused("listen: [{address: 127.0.0.1:1, tls: {client_auth: maybe}}]",
                   "line 1, column 52: listen[].tls.client_auth: \"maybe\" is not require or "
                   "request");
}

static void networks_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *sentence;
    } cases[] = {
        {"upstream: {allow_addresses: 10.0.0.0/8}",
         "line 1, column 29: upstream.allow_addresses: must be a list of networks such as "
         "[10.0.0.0/8, \"fd00::/8\"]"},
        {"upstream: {allow_addresses: [[10.0.0.0/8]]}",
         "line 1, column 30: upstream.allow_addresses: an entry must be a word"},
        {"upstream: {allow_addresses: [10.0.0.0/8, ~]}",
         "line 1, column 42: upstream.allow_addresses: an entry must be a word"},
        {"upstream: {allow_addresses: [\"10.0.0.0/8,11.0.0.0/8\"]}",
         "line 1, column 30: upstream.allow_addresses: an entry must be one network, such as "
         "10.0.0.0/8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].yaml, cases[i].sentence);
    static const char *const bad[] = {"10.0.0.1/8", "10.0.0.0/33", "all", "010.0.0.0/8", "10/8",
                                      "localhost",  "0x0a000000",  "''",  "',,'"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char yaml[128];
        snprintf(yaml, sizeof yaml, "upstream: {allow_addresses: [%s]}", bad[i]);
        assert_int_equal(parse(yaml), CH_ERR_INVALID);
        assert_non_null(strstr(why.text, "line 1, column 30: upstream.allow_addresses: "));
    }
    char many[4096] = "upstream: {allow_addresses: [10.0.0.0";
    for (int i = 1; i <= CH_CIDR_MAX; i++) {
        char entry[32];
        snprintf(entry, sizeof entry, ", 10.0.0.%d", i);
        strcat(many, entry);
    }
    strcat(many, "]}");
    assert_int_equal(parse(many), CH_ERR_INVALID);
    assert_non_null(strstr(why.text, "has more than 64 entries"));
}

static void texts_are_checked(void **state)
{
    (void)state;
    struct ch_span spans[2];
    assert_parses("capture: {patterns: [\"a b\", 'c\"d'], rules: [\"drop if team equals legal\"]}");
    assert_int_equal(config.capture.patterns.count, 2);
    ch_config_texts_spans(&config.capture.patterns, spans);
    assert_true(ch_span_eq(spans[0], CH_SPAN("a b")) && ch_span_eq(spans[1], CH_SPAN("c\"d")));
    assert_int_equal(config.capture.rules.count, 1);
    assert_string_equal(config.capture.rules.bytes, "drop if team equals legal");
    static const struct {
        const char *yaml, *sentence;
    } cases[] = {
        {"capture: {patterns: x}", "line 1, column 21: capture.patterns: must be a list of texts"},
        {"capture: {patterns: ['']}",
         "line 1, column 22: capture.patterns: an entry must not be empty"},
        {"capture: {rules: [\"a\\nb\"]}", "line 1, column 19: capture.rules: an entry must be one "
                                           "line without control characters"},
        {"capture: {bodies: true}",
         "line 1, column 19: capture.bodies: \"true\" is not off or on"},
        {"durability: disk", "line 1, column 13: durability: \"disk\" is not process or power"},
        {"capture: {retention: 23h}",
         "line 1, column 22: capture.retention: must lie between 86400s and 36500d"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].yaml, cases[i].sentence);
    char many[CH_CONFIG_TEXTS + 256] = "capture: {patterns: [a";
    for (int i = 0; i < 32; i++)
        strcat(many, ", a");
    strcat(many, "]}");
    assert_int_equal(parse(many), CH_ERR_INVALID);
    assert_non_null(strstr(why.text, "has more than 32 entries"));
    strcpy(many, "capture: {patterns: [");
    memset(many + strlen(many), 'a', CH_CONFIG_TEXTS);
    strcpy(many + CH_CONFIG_TEXTS + 21, "]}");
    assert_int_equal(parse(many), CH_ERR_INVALID);
    assert_non_null(strstr(why.text, "has more than 8192 bytes"));
}

static void pins_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *sentence;
    } cases[] = {
        {"upstream: {pins: [" PIN_A "]}",
         "line 1, column 18: upstream.pins: must be names of providers, each with a list of one or "
         "two pins"},
        {"upstream: {pins: {a: " PIN_A "}}",
         "line 1, column 22: upstream.pins: a must have a list of one or two pins"},
        {"upstream: {pins: {a: []}}",
         "line 1, column 23: upstream.pins: a must have a list of one or two pins"},
        {"upstream: {pins: {a: [" PIN_A ", " PIN_A ", " PIN_B "]}}",
         "line 1, column 115: upstream.pins: a must have a list of one or two pins"},
        {"upstream: {pins: {a: [" PIN_A "], a: [" PIN_A "]}}",
         "line 1, column 70: upstream.pins: a stands here twice"},
        {"upstream: {pins: {\"a b\": [" PIN_A "]}}",
         "line 1, column 19: upstream.pins: a key must be a provider's name"},
        {"upstream: {pins: {[a]: [" PIN_A "]}}",
         "line 1, column 19: upstream.pins: a key must be a provider's name"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].yaml, cases[i].sentence);
    static const char *const bad[] = {"AAAA",
                                      "sha256//" PIN_A,
                                      "''",
                                      "AAAA" PIN_A,
                                      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                                      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA-_="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char yaml[256];
        snprintf(yaml, sizeof yaml, "upstream: {pins: {a: [%s]}}", bad[i]);
        assert_refused(yaml, "line 1, column 23: upstream.pins: this is no pin: it must be the "
                             "SHA-256 of a public key as 44 characters of base64");
    }
}

// ---- what a reload may change

static const char *change_between(const char *before, const char *after)
{
    static struct ch_config first;
    assert_parses(before);
    first = config;
    assert_parses(after);
    return ch_config_fixed_change(&first, &config);
}

static void live_keys_may_change(void **state)
{
    (void)state;
    static const char *const live[] = {
        "log: {level: debug}",
        "limits: {body: 64KiB, connections: 5, upstream_idle: 0}",
        "timeouts: {head: 500ms, body: 2s, idle: 1m, write_stall: 1h, connect: 4s, first_byte: 5s, "
        "upstream_idle: 6s, disk: 7s, shutdown: 0s}",
        "usage: {record_client_address: true, retention: 0d}",
        "capture: {bodies: on, max_body: 1KiB, retention: 1d, patterns: [a, b], rules: [drop], "
        "hook: {program: p, timeout: 1s}, tripwire: true}",
        "upstream: {ca: ca.pem, allow_addresses: [10.0.0.0/8], pins: {a: [" PIN_A "]}}",
    };
    for (size_t i = 0; i < sizeof live / sizeof *live; i++) {
        assert_null(change_between("", live[i]));
        assert_null(change_between(live[i], ""));
    }
    assert_null(change_between(
        "listen: [{address: 0.0.0.0:1, tls: {certificate: c, key: k}}]",
        "listen: [{address: 0.0.0.0:1, tls: {certificate: d, key: l, client_ca: a}}]"));
}

static void fixed_keys_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *key;
    } cases[] = {
        {"listen: [{address: 127.0.0.1:1}]", "listen[].address"},
        {"listen: [{address: 127.0.0.1:8080}, {address: 127.0.0.1:1}]", "listen"},
        {"listen: [{address: 127.0.0.1:8080, tls: {certificate: c, key: k}}]", "listen[].tls"},
        {"master_key: ${env:OTHER}", "master_key"},
        {"database: other.db\njournal: chaperone.journal", "database"},
        {"journal: other.journal", "journal"},
        {"durability: power", "durability"},
        {"admin: {socket: other.sock}", "admin.socket"},
        {"prices: p.json", "prices"},
        {"threads: 2", "threads"},
        {"limits: {inflight: 7}", "limits.inflight"},
        {"limits: {journal: 2MiB}", "limits.journal"},
        {"capture: {directory: elsewhere}", "capture.directory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *change = change_between("", cases[i].yaml);
        assert_non_null(change);
        assert_string_equal(change, cases[i].key);
    }
}

static void long_paths_are_refused(void **state)
{
    (void)state;
    char path[1100], yaml[1200];
    memset(path, 'a', sizeof path);
    path[1023] = '\0';
    snprintf(yaml, sizeof yaml, "database: %s\n", path);
    assert_refused(yaml, "line 1, column 11: database: the path is longer than 1023 bytes");
    snprintf(yaml, sizeof yaml, "database: /%.1022s\njournal: /j", path);
    assert_parses(yaml);
    snprintf(yaml, sizeof yaml, "database: /%.1006s/d", path);
    assert_refused(yaml, "journal: the path is longer than 1023 bytes");
    snprintf(yaml, sizeof yaml, "admin: {socket: /%.107s}", path);
    assert_refused(yaml, "line 1, column 17: admin.socket: the path is longer than 107 bytes");
    snprintf(yaml, sizeof yaml, "admin: {socket: /%.106s}", path);
    assert_parses(yaml);
    snprintf(yaml, sizeof yaml, "listen: [{address: unix:/%.107s}]", path);
    assert_refused(yaml, "line 1, column 20: listen[].address: the path of a socket has at most "
                         "107 bytes");
    path[120] = '\0';
    assert_int_equal(ch_config_parse(CH_SPAN(""), path, &config, &why), CH_ERR_INVALID);
    assert_string_equal(why.text, "admin.socket: must be set, for its default, chaperone.sock "
                                  "beside this file, makes a path of more than 107 bytes");
}

static void long_files_are_refused(void **state)
{
    (void)state;
    static char text[CH_CONFIG_FILE_MAX + 1];
    memset(text, '\n', sizeof text);
    struct ch_span span = {text, CH_CONFIG_FILE_MAX};
    assert_int_equal(ch_config_parse(span, "/", &config, &why), CH_OK);
    span.len++;
    assert_int_equal(ch_config_parse(span, "/", &config, &why), CH_ERR_LIMIT);
}

static void references_are_split(void **state)
{
    (void)state;
    enum ch_config_source source;
    struct ch_span name;
    assert_int_equal(ch_config_reference(CH_SPAN("${env:A_1}"), &source, &name), CH_OK);
    assert_int_equal(source, CH_CONFIG_ENV);
    assert_true(ch_span_eq(name, CH_SPAN("A_1")));
    assert_int_equal(ch_config_reference(CH_SPAN("${file:/a b}"), &source, &name), CH_OK);
    assert_int_equal(source, CH_CONFIG_FILE);
    assert_true(ch_span_eq(name, CH_SPAN("/a b")));
    assert_int_equal(ch_config_reference(CH_SPAN("${credential:a.b}"), &source, &name), CH_OK);
    assert_int_equal(source, CH_CONFIG_CREDENTIAL);
    static const char *const bad[] = {
        "",         "}",           "${env:1A}",        "${env:A}}",
        "${file:}", "${file:a\n}", "${credential:.a}", "${credential:a/b}",
        "{env:A}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ch_config_reference(ch_span_of(bad[i]), &source, &name), CH_ERR_INVALID);
}

static void addresses_are_split(void **state)
{
    (void)state;
    struct ch_span host;
    uint16_t port;
    bool is_unix;
    assert_int_equal(ch_config_address(CH_SPAN("[fe80::1]:65535"), &host, &port, &is_unix), CH_OK);
    assert_true(ch_span_eq(host, CH_SPAN("fe80::1")));
    assert_int_equal(port, 65535);
    assert_false(is_unix);
    assert_int_equal(ch_config_address(CH_SPAN("unix:a"), &host, &port, &is_unix), CH_OK);
    assert_true(ch_span_eq(host, CH_SPAN("a")));
    assert_int_equal(port, 0);
    assert_true(is_unix);
    static const char *const bad[] = {
        "",           ":",        ":80",         "1.2.3.4", "1.2.3.4:",     "1.2.3.4:65536",
        "1.2.3.4:+1", "1.2.3:80", "01.2.3.4:80", "::1:80",  "[1.2.3.4]:80", "[::1]80",
        "[]:80",      "*:80",     "unix:",       "unix:\n", "[::1%lo]:80",  "[localhost]:80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ch_config_address(ch_span_of(bad[i]), &host, &port, &is_unix),
                         CH_ERR_INVALID);
}

static char *read_tree_file(const char *path)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", CH_SOURCE_DIR, path);
    FILE *file = fopen(full, "r");
    assert_non_null(file);
    char *text = calloc(1, CH_CONFIG_FILE_MAX);
    assert_non_null(text);
    size_t len = fread(text, 1, CH_CONFIG_FILE_MAX - 1, file);
    assert_true(len > 0);
    fclose(file);
    return text;
}

// The line of the documentation's tables that describes `key`, or NULL.
static const char *find_row(const char *docs, const struct ch_config_key *key)
{
    char start[128];
    snprintf(start, sizeof start, "\n| `%s` | ", key->path);
    const char *row = strstr(docs, start);
    return row ? row + 1 : NULL;
}

static void every_key_is_documented(void **state)
{
    (void)state;
    char *docs = read_tree_file("docs/configuration.md");
    size_t count;
    const struct ch_config_key *keys = ch_config_schema(&count);
    for (size_t i = 0; i < count; i++) {
        const char *row = find_row(docs, &keys[i]);
        if (!row)
            fail_msg("docs/configuration.md has no row for %s", keys[i].path);
        // An address has no default of its own: the list's row tells it.
        if (!keys[i].default_text || !keys[i].default_text[0] || keys[i].type == CH_CONFIG_ADDRESS)
            continue;
        char shown[128];
        snprintf(shown, sizeof shown, "`%s`", keys[i].default_text);
        const char *found = strstr(row, shown);
        if (!found || found > strchr(row, '\n'))
            fail_msg("docs/configuration.md does not say that %s defaults to %s", keys[i].path,
                     keys[i].default_text);
    }
    free(docs);
}

static void the_documentation_tells_what_needs_a_restart(void **state)
{
    (void)state;
    char *docs = read_tree_file("docs/configuration.md");
    const char *start = strstr(docs, "A change of these needs a restart:");
    assert_non_null(start);
    const char *end = strstr(start, "\n\n");
    assert_non_null(end);
    size_t count;
    const struct ch_config_key *keys = ch_config_schema(&count);
    for (size_t i = 0; i < count; i++) {
        char shown[128];
        if (keys[i].type == CH_CONFIG_SECTION || keys[i].type == CH_CONFIG_LISTENERS)
            continue;
        snprintf(shown, sizeof shown, "`%s`", keys[i].path);
        const char *found = strstr(start, shown);
        bool is_named = found && found < end;
        if (is_named == keys[i].is_live)
            fail_msg("docs/configuration.md is wrong on whether %s needs a restart", keys[i].path);
    }
    free(docs);
}

static void the_example_states_every_key_and_its_default(void **state)
{
    (void)state;
    static struct ch_config defaults;
    char *example = read_tree_file("conf/chaperone.yaml");
    assert_parses("");
    defaults = config;
    assert_parses(example);
    assert_memory_equal(&config, &defaults, sizeof config);
    size_t count;
    const struct ch_config_key *keys = ch_config_schema(&count);
    for (size_t i = 0; i < count; i++) {
        const char *dot = strrchr(keys[i].path, '.');
        char leaf[80];
        snprintf(leaf, sizeof leaf, " %s:", dot ? dot + 1 : keys[i].path);
        bool is_top = strncmp(example, leaf + 1, strlen(leaf + 1)) == 0;
        leaf[0] = dot ? ' ' : '\n';
        if (!is_top && !strstr(example, leaf))
            fail_msg("conf/chaperone.yaml does not show %s", keys[i].path);
    }
    free(example);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_file_gives_the_defaults),
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(paths_are_relative_to_the_file),
        cmocka_unit_test(an_error_leaves_the_old_values),
        cmocka_unit_test(unknown_keys_name_the_nearest),
        cmocka_unit_test(what_is_not_the_subset_is_refused),
        cmocka_unit_test(values_are_typed),
        cmocka_unit_test(a_secret_in_the_file_is_refused_and_not_repeated),
        cmocka_unit_test(plaintext_is_for_this_machine_only),
        cmocka_unit_test(listeners_are_checked),
        cmocka_unit_test(client_certificates_need_a_server_certificate),
        cmocka_unit_test(networks_are_checked),
        cmocka_unit_test(texts_are_checked),
        cmocka_unit_test(pins_are_checked),
        cmocka_unit_test(live_keys_may_change),
        cmocka_unit_test(fixed_keys_are_named),
        cmocka_unit_test(long_paths_are_refused),
        cmocka_unit_test(long_files_are_refused),
        cmocka_unit_test(references_are_split),
        cmocka_unit_test(addresses_are_split),
        cmocka_unit_test(every_key_is_documented),
        cmocka_unit_test(the_documentation_tells_what_needs_a_restart),
        cmocka_unit_test(the_example_states_every_key_and_its_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
