// SPDX-License-Identifier: Apache-2.0
// Whatever changes something is recorded, as the doing of whoever asked, or it does not happen.
#include "admin/admin.h"

#include "base/log.h"
#include "base/secret.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static const struct ch_audit_actor bob = {"bob", 1002};

struct fixture {
    char dir[64], path[96];
    struct ch_catalogue *catalogue;
    struct ch_admin admin;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    unsigned char key[CH_VAULT_MASTER_KEY] = {7};
    static const char prices[] =
        "{\"schema\":\"chaperone.prices/1\",\"source\":\"test\",\"date\":\"2026-01-02\",\"models\":"
        "{\"gpt-4o\":{\"input_cost_per_token\":\"0.001\",\"output_cost_per_token\":\"0.002\"}}}";
    struct ch_secret *master_key;
    struct ch_why why = {""};
    ch_log_set_level(CH_LOG_ERROR);
    fixture = (struct fixture){.dir = "/tmp/ch_test_changes_XXXXXX"};
    if (!mkdtemp(fixture.dir))
        return -1;
    snprintf(fixture.path, sizeof fixture.path, "%s/chaperone.db", fixture.dir);
    if (ch_secret_new(key, sizeof key, &master_key) ||
        ch_store_open(fixture.path, master_key, true, &fixture.admin.store, &why) ||
        ch_catalogue_load(CH_SPAN(prices), &fixture.catalogue, &why)) {
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
    ch_store_close(fixture->admin.store);
    ch_catalogue_free(fixture->catalogue);
    snprintf(command, sizeof command, "rm -rf %s", fixture->dir);
    return system(command);
}

static enum ch_err try_call(void **state, const char *operation, const char *arguments,
                            struct ch_why *why)
{
    struct fixture *fixture = *state;
    json_t *result = NULL, *json = json_loads(arguments, 0, NULL);
    assert_non_null(json);
    enum ch_err err = ch_admin_call_as(&fixture->admin, &bob, operation, json, &result, why);
    json_decref(json);
    json_decref(result);
    return err;
}

static void call(void **state, const char *operation, const char *arguments)
{
    struct ch_why why = {""};
    if (try_call(state, operation, arguments, &why))
        fail_msg("%s %s: %s", operation, arguments, why.text);
}

// The newest row; the caller releases it.
static json_t *last_row(void **state)
{
    struct fixture *fixture = *state;
    struct ch_why why;
    json_t *items = json_array();
    const struct ch_audit_filter filter = {.after = -1, .limit = 1};
    assert_int_equal(ch_audit_list(fixture->admin.store, &filter, items, &why), CH_OK);
    json_t *row = json_incref(json_array_get(items, 0));
    json_decref(items);
    return row;
}

static const char *text_of(const json_t *row, const char *member)
{
    return json_string_value(json_object_get(row, member));
}

// ---- the table

// Verbs that only ever read. A new verb stands here or its operation names what it changes.
static bool only_reads(const char *operation)
{
    static const char *const verbs[] = {"status",   ".list",     ".show",    ".test",   ".verify",
                                        ".summary", ".unpriced", ".explain", ".alerts", ".tail"};
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (ch_span_ends(ch_span_of(operation), ch_span_of(verbs[i])))
            return true;
    return false;
}

static void every_changing_operation_says_what_it_changes(void **state)
{
    (void)state;
    const char *operation, *changes;
    size_t count = 0;
    for (size_t i = 0; (operation = ch_admin_operation(i, &changes)); i++) {
        if (!changes && !only_reads(operation))
            fail_msg("%s changes something and names no object", operation);
        if (changes && only_reads(operation))
            fail_msg("%s reads and names an object that it changes", operation);
        count += changes != NULL;
    }
    assert_true(count >= 10);
}

// ch_route_write is the one door to the store: no handler may go round it.
static void no_handler_writes_past_the_log(void **state)
{
    (void)state;
    static char text[256 * 1024];
    DIR *dir = opendir(CH_SOURCE_DIR "/src/admin");
    const struct dirent *entry;
    size_t files = 0;
    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        char path[512];
        if (!ch_span_ends(ch_span_of(entry->d_name), CH_SPAN(".c")))
            continue;
        if (strcmp(entry->d_name, "alerts.c") == 0)
            continue; // what budgets reached: nobody's change
        snprintf(path, sizeof path, CH_SOURCE_DIR "/src/admin/%s", entry->d_name);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        size_t size = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        assert_true(size < sizeof text - 1);
        text[size] = '\0';
        if (strstr(text, "ch_store_write(") || strstr(text, "ch_store_transact("))
            fail_msg("%s writes to the store without ch_route_write", entry->d_name);
        files++;
    }
    closedir(dir);
    assert_true(files >= 8);
}

// ---- what is recorded

static void records_who_asked_and_why(void **state)
{
    static const struct {
        const char *operation, *arguments, *object;
    } steps[] = {
        {"provider.create",
         "{\"name\":\"p\",\"type\":\"openai\",\"credential\":\"sk-CANARY-0123456789abcdef\","
         "\"reason\":\"r\"}",
         "provider:p"},
        {"provider.disable", "{\"name\":\"p\",\"reason\":\"r\"}", "provider:p"},
        {"provider.enable", "{\"name\":\"p\",\"reason\":\"r\"}", "provider:p"},
        {"key.create", "{\"name\":\"k\",\"provider\":[\"p\"],\"reason\":\"r\"}", "key:k"},
        {"key.disable", "{\"name\":\"k\",\"reason\":\"r\"}", "key:k"},
        {"key.enable", "{\"name\":\"k\",\"reason\":\"r\"}", "key:k"},
        {"key.revoke", "{\"name\":\"k\",\"reason\":\"r\"}", "key:k"},
        {"price.import",
         "{\"document\":\"{\\\"schema\\\":\\\"chaperone.prices/1\\\",\\\"source\\\":\\\"t\\\","
         "\\\"date\\\":\\\"2026-02-02\\\",\\\"models\\\":{\\\"m\\\":{\\\"input_cost_per_token\\\":"
         "\\\"0.001\\\",\\\"output_cost_per_token\\\":\\\"0.002\\\"}}}\",\"reason\":\"r\"}",
         "catalogue"},
        {"vault.rekey",
         "{\"new_key\":\"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\","
         "\"reason\":\"r\"}",
         "vault"},
        {"provider.delete", "{\"name\":\"p\",\"reason\":\"r\"}", "provider:p"},
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        call(state, steps[i].operation, steps[i].arguments);
        json_t *row = last_row(state);
        char *text = json_dumps(row, 0);
        assert_string_equal(text_of(row, "action"), steps[i].operation);
        assert_string_equal(text_of(row, "object"), steps[i].object);
        assert_string_equal(text_of(row, "actor"), "bob");
        assert_string_equal(text_of(row, "reason"), "r");
        assert_int_equal(json_integer_value(json_object_get(row, "uid")), 1002);
        assert_false(json_equal(json_object_get(row, "before"), json_object_get(row, "after")));
        assert_null(strstr(text, "CANARY"));
        free(text);
        json_decref(row);
    }
    struct fixture *fixture = *state;
    struct ch_why why;
    json_t *report;
    assert_int_equal(ch_audit_verify(fixture->admin.store, CH_SPAN(""), &report, &why), CH_OK);
    if (!json_is_true(json_object_get(report, "ok")))
        json_dumpf(report, stderr, JSON_INDENT(1));
    assert_true(json_is_true(json_object_get(report, "ok")));
    json_decref(report);
}

static void records_nothing_for_what_changes_nothing(void **state)
{
    struct ch_why why;
    call(state, "provider.create",
         "{\"name\":\"p\",\"type\":\"openai\",\"credential\":\"sk-0123456789abcdef\"}");
    json_t *before = last_row(state);
    call(state, "provider.show", "{\"name\":\"p\"}");
    call(state, "key.list", "{}");
    assert_int_equal(try_call(state, "provider.delete", "{\"name\":\"q\"}", &why),
                     CH_ERR_NOT_FOUND);
    assert_int_equal(try_call(state, "key.list", "{\"reason\":\"r\"}", &why), CH_ERR_INVALID);
    assert_int_equal(try_call(state, "key.revoke", "{\"name\":\"k\",\"reason\":\"\\u0007\"}", &why),
                     CH_ERR_INVALID);
    json_t *after = last_row(state);
    assert_true(json_equal(before, after));
    json_decref(before);
    json_decref(after);
}

// The caller of the other form is this process's own user.
static void takes_itself_for_the_actor(void **state)
{
    struct fixture *fixture = *state;
    struct ch_why why;
    struct ch_audit_actor self;
    json_t *result = NULL,
           *arguments = json_loads(
               "{\"name\":\"p\",\"type\":\"openai\",\"credential\":\"sk-0123456789abcdef\"}", 0,
               NULL);
    assert_int_equal(ch_admin_call(&fixture->admin, "provider.create", arguments, &result, &why),
                     CH_OK);
    json_decref(arguments);
    json_decref(result);
    json_t *row = last_row(state);
    ch_audit_actor_of(geteuid(), &self);
    assert_string_equal(text_of(row, "actor"), self.name);
    assert_int_equal(json_integer_value(json_object_get(row, "uid")), geteuid());
    json_decref(row);
}

static void refuses_a_bad_master_key(void **state)
{
    struct ch_why why;
    assert_int_equal(try_call(state, "vault.rekey", "{\"new_key\":\"short\"}", &why),
                     CH_ERR_INVALID);
    assert_null(strstr(why.text, "short"));
    assert_int_equal(try_call(state, "vault.rekey",
                              "{\"new_key\":\"07000000000000000000000000000000000000000000000000000"
                              "00000000000\"}",
                              &why),
                     CH_ERR_CONFLICT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_changing_operation_says_what_it_changes),
        cmocka_unit_test(no_handler_writes_past_the_log),
        TEST(records_who_asked_and_why),
        TEST(records_nothing_for_what_changes_nothing),
        TEST(takes_itself_for_the_actor),
        TEST(refuses_a_bad_master_key),
    };
    struct ch_why why;
    if (ch_secret_process_init(&why) || ch_store_process_init(&why))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
