// SPDX-License-Identifier: Apache-2.0
// The operations on a real store, as direct mode runs them; some with a registry, as the daemon
// does.
#include "admin/admin.h"

#include "base/secret.h"
#include "domain/catalogue.h"

#include "store/usage_writer.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

static const char catalogue_text[] =
    "{\"schema\":\"chaperone.prices/1\",\"source\":\"test\",\"date\":\"2026-01-02\",\"models\":{"
    "\"gpt-4o\":{\"input_cost_per_token\":\"0.0000025\",\"output_cost_per_token\":\"0.00001\"},"
    "\"old\":{\"input_cost_per_token\":\"0.000001\",\"output_cost_per_token\":\"0.000001\"}}}";

// What the registry was given, seen by the linker's --wrap, and what it is made to answer.
static struct {
    int keys, providers, flushes;
    enum ch_key_status key_status;
    bool provider_enabled;
    enum ch_err key_answer;
} seen;

enum ch_err __real_ch_registry_put_key(struct ch_registry *registry, const struct ch_key_row *row);
enum ch_err __wrap_ch_registry_put_key(struct ch_registry *registry, const struct ch_key_row *row);
enum ch_err __wrap_ch_registry_put_key(struct ch_registry *registry, const struct ch_key_row *row)
{
    seen.keys++;
    seen.key_status = row->status;
    return seen.key_answer ? seen.key_answer : __real_ch_registry_put_key(registry, row);
}

enum ch_err __real_ch_registry_put_provider(struct ch_registry *registry,
                                            const struct ch_provider_row *row);
enum ch_err __wrap_ch_registry_put_provider(struct ch_registry *registry,
                                            const struct ch_provider_row *row);
enum ch_err __wrap_ch_registry_put_provider(struct ch_registry *registry,
                                            const struct ch_provider_row *row)
{
    seen.providers++;
    seen.provider_enabled = row->enabled;
    return __real_ch_registry_put_provider(registry, row);
}

void __real_ch_usage_writer_flush(struct ch_store *store);
void __wrap_ch_usage_writer_flush(struct ch_store *store);
void __wrap_ch_usage_writer_flush(struct ch_store *store)
{
    seen.flushes++;
    __real_ch_usage_writer_flush(store);
}

struct fixture {
    char dir[64], path[96];
    struct ch_catalogue *catalogue;
    struct ch_admin admin;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    unsigned char key[CH_VAULT_MASTER_KEY];
    struct ch_secret *master_key;
    struct ch_why why = {""};
    fixture = (struct fixture){.dir = "/tmp/ch_test_admin_XXXXXX"};
    if (!mkdtemp(fixture.dir))
        return -1;
    snprintf(fixture.path, sizeof fixture.path, "%s/chaperone.db", fixture.dir);
    memset(&seen, 0, sizeof seen);
    ch_random(key, sizeof key);
    if (ch_secret_new(key, sizeof key, &master_key) ||
        ch_store_open(fixture.path, master_key, true, &fixture.admin.store, &why) ||
        ch_catalogue_load(CH_SPAN(catalogue_text), &fixture.catalogue, &why)) {
        print_error("%s\n", why.text);
        return -1;
    }
    ch_secret_free(master_key);
    fixture.admin.base_catalogue = fixture.catalogue;
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    ch_registry_free(fixture->admin.registry);
    ch_store_close(fixture->admin.store);
    ch_catalogue_free(fixture->catalogue);
    snprintf(command, sizeof command, "rm -rf %s", fixture->dir);
    return system(command);
}

// Calls with the arguments as JSON text; gives the result (NULL on an error).
static json_t *call(void **state, const char *operation, const char *arguments,
                    enum ch_err expected, struct ch_why *why)
{
    struct fixture *fixture = *state;
    json_t *result = NULL;
    json_t *json = json_loads(arguments, JSON_ALLOW_NUL, NULL);
    assert_non_null(json);
    why->text[0] = '\0';
    enum ch_err err = ch_admin_call(&fixture->admin, operation, json, &result, why);
    json_decref(json);
    if (err != expected)
        print_error("%s %s: %s: %s\n", operation, arguments, ch_err_name(err), why->text);
    assert_int_equal(err, expected);
    return result;
}

static void ok(void **state, const char *operation, const char *arguments)
{
    struct ch_why why;
    json_decref(call(state, operation, arguments, CH_OK, &why));
}

static void refused(void **state, const char *operation, const char *arguments, enum ch_err err,
                    const char *names)
{
    struct ch_why why;
    assert_null(call(state, operation, arguments, err, &why));
    if (!strstr(why.text, names))
        print_error("%s %s: \"%s\" does not say \"%s\"\n", operation, arguments, why.text, names);
    assert_non_null(strstr(why.text, names));
}

static const char *text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    assert_non_null(text);
    return text;
}

#define PROVIDER                                                                                   \
    "{\"name\":\"p\",\"type\":\"openai\",\"credential\":\"sk-secret-0123456789abcdef\"}"

static void be_a_daemon(void **state)
{
    struct fixture *fixture = *state;
    struct ch_catalogue *catalogue;
    struct ch_why why;
    assert_int_equal(ch_catalogue_load(CH_SPAN(catalogue_text), &catalogue, &why), CH_OK);
    assert_int_equal(
        ch_registry_new(ch_store_pepper(fixture->admin.store), catalogue, &fixture->admin.registry),
        CH_OK);
}

// No file can be written at all: as good as a full disk, and gone as quickly.
static void fill_disk(bool is_full)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = is_full ? 0 : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void unknown_operations_and_arguments(void **state)
{
    refused(state, "key.fly", "{}", CH_ERR_NOT_FOUND, "no such operation");
    refused(state, "provider.list", "{\"x\":1}", CH_ERR_INVALID, "takes none");
    refused(state, "provider.show", "[]", CH_ERR_INVALID, "JSON object");
    refused(state, "provider.show", "{}", CH_ERR_INVALID, "missing");
    refused(state, "provider.show", "{\"name\":7}", CH_ERR_INVALID, "text");
    refused(state, "provider.show", "{\"nam\":\"x\"}", CH_ERR_INVALID, "takes name");
    refused(state, "status", "{}", CH_ERR_UNAVAILABLE, "no daemon");
}

static void providers_are_checked(void **state)
{
    static const struct {
        const char *arguments, *names;
    } cases[] = {
        {"{\"name\":\"a b\",\"type\":\"openai\",\"credential\":\"x\"}", "the name must be"},
        {"{\"name\":\"\",\"type\":\"openai\",\"credential\":\"x\"}", "the name must be"},
        {"{\"name\":\"a\\u0000b\",\"type\":\"openai\",\"credential\":\"x\"}", "NUL"},
        {"{\"name\":\"p\",\"type\":\"opnai\",\"credential\":\"x\"}", "--type"},
        {"{\"name\":\"p\",\"type\":\"openai\"}", "--credential is missing"},
        {"{\"name\":\"p\",\"type\":\"openai\",\"credential\":\"\"}", "provider key must be"},
        {"{\"name\":\"p\",\"type\":\"openai\",\"credential\":\"a b\"}", "contains a blank"},
        {"{\"name\":\"p\",\"type\":\"openai\",\"credential\":\"a\\r\\nX: y\"}", "contains a blank"},
        {"{\"name\":\"p\",\"type\":\"openai\",\"credential\":\"a\xC3\xA4\"}", "visible ASCII"},
        {"{\"name\":\"p\",\"type\":\"azure\",\"credential\":\"x\"}", "--base-url is needed"},
        {"{\"name\":\"p\",\"type\":\"openai\",\"credential\":\"x\",\"base_url\":\"http://a.b\"}",
         "must begin with https://"},
        {"{\"name\":\"p\",\"type\":\"openai\",\"credential\":\"x\",\"base_url\":\"ftp://a.b\"}",
         "--base-url"},
        {"{\"name\":\"p\",\"type\":\"openai\",\"credential\":\"x\",\"base_url\":\"https://u@a.b\"}",
         "--base-url"},
        {"{\"name\":\"p\",\"type\":\"openai\",\"credential\":\"x\",\"base_url\":\"https://a.b/"
         "?x\"}",
         "--base-url"},
        {"{\"name\":\"p\",\"type\":\"openai\",\"credential\":\"x\",\"injects_usage\":1}",
         "true or false"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(state, "provider.create", cases[i].arguments, CH_ERR_INVALID, cases[i].names);

    struct ch_why why;
    json_t *list = call(state, "provider.list", "{}", CH_OK, &why);
    assert_int_equal(json_array_size(json_object_get(list, "items")), 0);
    json_decref(list);
}

static void providers_live(void **state)
{
    struct ch_why why;
    json_t *made = call(state, "provider.create", PROVIDER, CH_OK, &why);
    char *dump = json_dumps(made, 0);
    assert_null(strstr(dump, "sk-secret")); // never given back
    free(dump);
    assert_string_equal(text_of(made, "base_url"), "https://api.openai.com/v1");
    assert_true(json_is_true(json_object_get(made, "enabled")));
    json_decref(made);

    made = call(state, "provider.create",
                "{\"name\":\"local\",\"type\":\"openai-compatible\",\"credential\":\"x\","
                "\"base_url\":\"http://127.0.0.1:8090/v1/\",\"injects_usage\":false}",
                CH_OK, &why);
    assert_string_equal(text_of(made, "base_url"), "http://127.0.0.1:8090/v1");
    assert_true(json_is_false(json_object_get(made, "injects_usage")));
    json_decref(made);

    refused(state, "provider.create", PROVIDER, CH_ERR_CONFLICT, "p");
    ok(state, "provider.disable", "{\"name\":\"p\"}");
    json_t *row = call(state, "provider.show", "{\"name\":\"p\"}", CH_OK, &why);
    assert_true(json_is_false(json_object_get(row, "enabled")));
    json_decref(row);
    ok(state, "provider.enable", "{\"name\":\"p\"}");
    refused(state, "provider.show", "{\"name\":\"q\"}", CH_ERR_NOT_FOUND, "q");
    ok(state, "provider.delete", "{\"name\":\"p\"}");
    refused(state, "provider.delete", "{\"name\":\"p\"}", CH_ERR_NOT_FOUND, "p");
}

static void keys_are_checked(void **state)
{
    static const struct {
        const char *arguments, *names;
        enum ch_err err;
    } cases[] = {
        {"{\"name\":\"k\"}", "--provider is needed", CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[]}", "--provider is needed", CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":\"p\"}", "--provider is needed", CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[\"p\",\"p\"]}", "stands twice", CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[1]}", "--provider", CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]}",
         "at most 8", CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[\"nope\"]}", "nope", CH_ERR_NOT_FOUND},
        {"{\"name\":\"k k\",\"provider\":[\"p\"]}", "the name must be", CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[\"p\"],\"team\":\"a/b\"}", "--team", CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[\"p\"],\"models\":\"a b\"}", "--models", CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[\"p\"],\"models\":\" , \"}", "--models", CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[\"p\"],\"expires\":\"soon\"}", "--expires takes",
         CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[\"p\"],\"expires\":\"2020-01-01\"}", "in the past",
         CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[\"p\"],\"tag\":{\"a\":\"x,y=z\"}}", "--tag",
         CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[\"p\"],\"tag\":{\"a b\":\"x\"}}", "--tag", CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[\"p\"],\"tag\":{\"a\":1}}", "--tag", CH_ERR_INVALID},
        {"{\"name\":\"k\",\"provider\":[\"p\"],\"tag\":\"a=b\"}", "--tag", CH_ERR_INVALID},
    };
    ok(state, "provider.create", PROVIDER);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(state, "key.create", cases[i].arguments, cases[i].err, cases[i].names);
}

static void expect_verdict(void **state, const char *token, const char *reason)
{
    struct ch_why why;
    char arguments[256];
    snprintf(arguments, sizeof arguments, "{\"token\":\"%s\"}", token);
    json_t *verdict = call(state, "key.verify", arguments, CH_OK, &why);
    assert_string_equal(text_of(verdict, "reason"), reason);
    assert_int_equal(json_is_true(json_object_get(verdict, "valid")), *reason == '\0');
    json_decref(verdict);
}

static void keys_live(void **state)
{
    struct ch_why why;
    char token[128];
    ok(state, "provider.create", PROVIDER);
    json_t *made = call(state, "key.create",
                        "{\"name\":\"Web-1\",\"provider\":[\"p\"],\"models\":\"gpt-4o, o1*\","
                        "\"team\":\"t\",\"tag\":{\"z\":\"1\",\"a\":\"2\"},\"expires\":\"90d\"}",
                        CH_OK, &why);
    snprintf(token, sizeof token, "%s", text_of(made, "key"));
    assert_int_equal(strncmp(token, "ch_web_1_sk_", 12), 0);
    assert_string_equal(text_of(made, "models"), "gpt-4o,o1*");
    assert_string_equal(text_of(json_object_get(made, "tags"), "a"), "2");
    assert_string_equal(text_of(made, "status"), "active");
    json_decref(made);

    json_t *row = call(state, "key.show", "{\"name\":\"Web-1\"}", CH_OK, &why);
    assert_null(json_object_get(row, "key")); // shown once
    json_decref(row);
    refused(state, "key.create", "{\"name\":\"Web-1\",\"provider\":[\"p\"]}", CH_ERR_CONFLICT,
            "Web-1");

    expect_verdict(state, token, "");
    ok(state, "provider.disable", "{\"name\":\"p\"}");
    expect_verdict(state, token, "provider_inactive");
    ok(state, "provider.enable", "{\"name\":\"p\"}");
    ok(state, "key.disable", "{\"name\":\"Web-1\"}");
    expect_verdict(state, token, "disabled");
    ok(state, "key.enable", "{\"name\":\"Web-1\"}");
    expect_verdict(state, token, "");
    refused(state, "provider.delete", "{\"name\":\"p\"}", CH_ERR_CONFLICT, "Web-1");
    refused(state, "key.revoke", "{\"name\":\"Web-1\",\"reason\":\"\\u001b[31m\"}", CH_ERR_INVALID,
            "--reason");
    refused(state, "key.revoke", "{\"name\":\"Web-1\",\"reason\":\"\\u202e\"}", CH_ERR_INVALID,
            "--reason");
    ok(state, "key.revoke", "{\"name\":\"Web-1\",\"reason\":\"left the team\"}");
    expect_verdict(state, token, "revoked");
    refused(state, "key.enable", "{\"name\":\"Web-1\"}", CH_ERR_CONFLICT, "revoked");
    token[strlen(token) - 1] ^= 1;
    expect_verdict(state, token, "malformed");
}

static void keys_are_listed(void **state)
{
    struct ch_why why;
    ok(state, "provider.create", PROVIDER);
    ok(state, "key.create", "{\"name\":\"a\",\"provider\":[\"p\"],\"team\":\"x\"}");
    ok(state, "key.create", "{\"name\":\"b\",\"provider\":[\"p\"],\"team\":\"y\"}");
    ok(state, "key.create", "{\"name\":\"c\",\"provider\":[\"p\"],\"team\":\"y\"}");
    ok(state, "key.revoke", "{\"name\":\"c\"}");
    static const struct {
        const char *arguments;
        size_t count;
        bool truncated;
    } cases[] = {
        {"{}", 3, false},
        {"{\"team\":\"y\"}", 2, false},
        {"{\"team\":\"y\",\"status\":\"active\"}", 1, false},
        {"{\"provider\":\"p\",\"limit\":2}", 2, true},
        {"{\"limit\":3}", 3, false},
        {"{\"provider\":\"q\"}", 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *list = call(state, "key.list", cases[i].arguments, CH_OK, &why);
        assert_int_equal(json_array_size(json_object_get(list, "items")), cases[i].count);
        assert_int_equal(json_is_true(json_object_get(list, "truncated")), cases[i].truncated);
        json_decref(list);
    }
    refused(state, "key.list", "{\"limit\":0}", CH_ERR_INVALID, "--limit");
    refused(state, "key.list", "{\"status\":\"dead\"}", CH_ERR_INVALID, "--status");
}

static void prices_are_shown(void **state)
{
    struct ch_why why;
    json_t *price = call(state, "price.show", "{\"model\":\"gpt-4o-2024-08-06\"}", CH_OK, &why);
    assert_string_equal(text_of(price, "model"), "gpt-4o");
    assert_string_equal(text_of(price, "input_cost_per_token"), "0.0000025");
    json_decref(price);
    refused(state, "price.show", "{\"model\":\"gpt\"}", CH_ERR_NOT_FOUND, "there is gpt-4o");
    json_t *list = call(state, "price.list", "{\"pattern\":\"GPT\"}", CH_OK, &why);
    assert_int_equal(json_array_size(json_object_get(list, "items")), 1);
    json_decref(list);
}

// The next catalogue: gpt-4o costs more, "old" is gone, "new" is there.
static const char import_arguments[] =
    "{\"document\":\"{\\\"schema\\\":\\\"chaperone.prices/1\\\",\\\"source\\\":\\\"test\\\","
    "\\\"date\\\":\\\"2026-02-03\\\",\\\"models\\\":{\\\"gpt-4o\\\":{"
    "\\\"input_cost_per_token\\\":\\\"0.000003\\\",\\\"output_cost_per_token\\\":\\\"0.00001\\\"},"
    "\\\"new\\\":{\\\"input_cost_per_token\\\":\\\"0.000001\\\"}}}\",\"dry_run\":%s}";

static json_t *import(void **state, const char *dry_run)
{
    struct ch_why why;
    char arguments[1024];
    // The one %s of the format stands for true or false.
    char *hole = strstr(import_arguments, "%s");
    snprintf(arguments, sizeof arguments, "%.*s%s%s", (int)(hole - import_arguments),
             import_arguments, dry_run, hole + 2);
    return call(state, "price.import", arguments, CH_OK, &why);
}

static void prices_are_imported(void **state)
{
    json_t *dry = import(state, "true"), *wet = import(state, "false");
    const json_t *first = json_array_get(json_object_get(dry, "items"), 0);
    assert_int_equal(json_integer_value(json_object_get(dry, "added")), 1);
    assert_int_equal(json_integer_value(json_object_get(dry, "removed")), 1);
    assert_int_equal(json_integer_value(json_object_get(dry, "changed")), 1);
    assert_int_equal(json_array_size(json_object_get(dry, "items")), 3);
    assert_string_equal(text_of(first, "from"), "0.0000025");
    assert_string_equal(text_of(first, "to"), "0.000003");
    assert_non_null(json_object_get(dry, "document"));
    assert_null(json_object_get(wet, "document"));
    assert_string_equal(text_of(wet, "version"), text_of(dry, "version"));
    json_decref(dry);
    json_decref(wet);
    refused(state, "price.import", "{\"document\":\"{}\"}", CH_ERR_INVALID, "");
    refused(state, "price.import", "{\"document\":\"{}\",\"date\":\"7d\"}", CH_ERR_INVALID,
            "--date");
}

// What of `noun` "name" stands in the store.
static bool stored_as(void **state, const char *operation, const char *arguments,
                      const char *member, const char *text)
{
    struct ch_why why;
    json_t *row = call(state, operation, arguments, CH_OK, &why);
    const json_t *value = json_object_get(row, member);
    bool is_equal = text ? strcmp(json_string_value(value), text) == 0 : json_is_true(value);
    json_decref(row);
    return is_equal;
}

static void a_key_is_refused_although_the_disk_is_full(void **state)
{
    static const struct {
        const char *operation, *stored;
        enum ch_key_status status;
    } cases[] = {
        {"key.disable", "disabled", CH_KEY_DISABLED},
        {"key.revoke", "revoked", CH_KEY_REVOKED},
    };
    be_a_daemon(state);
    ok(state, "provider.create", PROVIDER);
    ok(state, "key.create", "{\"name\":\"k\",\"provider\":[\"p\"]}");
    for (size_t i = 0; i < 2; i++) {
        fill_disk(true);
        seen.keys = 0;
        refused(state, cases[i].operation, "{\"name\":\"k\"}", CH_ERR_IO,
                "key k is refused from now on, until the daemon restarts");
        fill_disk(false);
        assert_int_equal(seen.keys, 1);
        assert_int_equal(seen.key_status, cases[i].status);
        assert_false(stored_as(state, "key.show", "{\"name\":\"k\"}", "status", cases[i].stored));
        ok(state, cases[i].operation, "{\"name\":\"k\"}");
        assert_true(stored_as(state, "key.show", "{\"name\":\"k\"}", "status", cases[i].stored));
        assert_int_equal(seen.keys, 2);
    }
    refused(state, "key.disable", "{\"name\":\"k\"}", CH_ERR_CONFLICT, "final");
    refused(state, "key.revoke", "{\"name\":\"other\"}", CH_ERR_NOT_FOUND, "other");
    assert_int_equal(seen.keys, 2);
}

static void a_provider_is_refused_although_the_disk_is_full(void **state)
{
    be_a_daemon(state);
    ok(state, "provider.create", PROVIDER);
    fill_disk(true);
    refused(state, "provider.disable", "{\"name\":\"p\"}", CH_ERR_IO,
            "provider p is refused from now on, until the daemon restarts");
    refused(state, "provider.enable", "{\"name\":\"p\"}", CH_ERR_IO, "");
    fill_disk(false);
    assert_false(seen.provider_enabled);
    assert_true(stored_as(state, "provider.show", "{\"name\":\"p\"}", "enabled", NULL));
    ok(state, "provider.disable", "{\"name\":\"p\"}");
    assert_false(stored_as(state, "provider.show", "{\"name\":\"p\"}", "enabled", NULL));
    ok(state, "provider.enable", "{\"name\":\"p\"}");
    assert_true(seen.provider_enabled);
}

static void a_key_that_nobody_saw_is_revoked(void **state)
{
    be_a_daemon(state);
    ok(state, "provider.create", PROVIDER);
    seen.key_answer = CH_ERR_NOMEM;
    refused(state, "key.create", "{\"name\":\"k\",\"provider\":[\"p\"]}", CH_ERR_NOMEM,
            "revoked before anybody saw it");
    assert_int_equal(seen.key_status, CH_KEY_REVOKED);
    assert_true(stored_as(state, "key.show", "{\"name\":\"k\"}", "status", "revoked"));
}

static void a_reason_is_kept_with_what_it_explains(void **state)
{
    ok(state, "provider.create", PROVIDER);
    ok(state, "key.create", "{\"name\":\"k\",\"provider\":[\"p\"]}");
    ok(state, "key.disable", "{\"name\":\"k\",\"reason\":\"y\"}");
    assert_true(stored_as(state, "key.show", "{\"name\":\"k\"}", "revoke_reason", "y"));
    refused(state, "key.show", "{\"name\":\"k\",\"reason\":\"x\"}", CH_ERR_INVALID, "takes name");
    ok(state, "key.revoke", "{\"name\":\"k\",\"reason\":\"x\"}");
    assert_true(stored_as(state, "key.show", "{\"name\":\"k\"}", "revoke_reason", "x"));
}

static void usage_is_flushed_once(void **state)
{
    be_a_daemon(state);
    ok(state, "usage.list", "{}");
    assert_int_equal(seen.flushes, 1);
    ok(state, "usage.summary", "{}");
    assert_int_equal(seen.flushes, 2);
}

int main(void)
{
    struct ch_why why = {""};
    signal(SIGXFSZ, SIG_IGN); // a write beyond RLIMIT_FSIZE is to fail, not to kill
    if (ch_secret_process_init(&why) || ch_store_process_init(&why))
        return 1;
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(unknown_operations_and_arguments),
        TEST(providers_are_checked),
        TEST(providers_live),
        TEST(keys_are_checked),
        TEST(keys_live),
        TEST(keys_are_listed),
        TEST(prices_are_shown),
        TEST(prices_are_imported),
        TEST(a_key_is_refused_although_the_disk_is_full),
        TEST(a_provider_is_refused_although_the_disk_is_full),
        TEST(a_key_that_nobody_saw_is_revoked),
        TEST(a_reason_is_kept_with_what_it_explains),
        TEST(usage_is_flushed_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
