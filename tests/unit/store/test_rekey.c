// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include "base/log.h"
#include "store/audit.h"
#include "store/rekey.h"

#include <sqlite3.h>

#define PROVIDERS 5
#define PLAIN     CH_SPAN("sk-proj-a-credential-of-some-length")

static struct ch_store *store;
static const struct ch_audit_change change = {.actor = &(struct ch_audit_actor){"alice", 1001},
                                              .action = "vault.rekey",
                                              .object_kind = "vault",
                                              .object = ""};

static enum ch_err create_providers(struct ch_db *db, void *arg, struct ch_why *why)
{
    enum ch_err err = CH_OK;
    for (int i = 0; !err && i < PROVIDERS; i++) {
        struct ch_provider_row row = {.type = CH_PROVIDER_OPENAI, .enabled = true};
        snprintf(row.name, sizeof row.name, "p%d", i);
        strcpy(row.base_url, "https://api.openai.com/v1");
        err = ch_provider_create(db, arg, &row, PLAIN, why);
    }
    return err;
}

static int start(void **state)
{
    struct ch_why why = {""};
    if (fixture_make_dir(state))
        return -1;
    ch_log_set_level(CH_LOG_ERROR);
    store = fixture_open("a.db");
    return (int)ch_store_write(store, create_providers, ch_store_vault(store), &why);
}

static int stop(void **state)
{
    ch_store_close(store);
    store = NULL;
    return fixture_remove_dir(state);
}

static struct ch_rekey *begin(unsigned char key)
{
    struct ch_secret *new_key = fixture_master_key(key);
    struct ch_rekey *rekey = NULL;
    struct ch_why why = {""};
    assert_int_equal(ch_rekey_start(store, new_key, &rekey, &why), CH_OK);
    ch_secret_free(new_key);
    return rekey;
}

static enum ch_err rekey_to(unsigned char key, struct ch_why *why)
{
    struct ch_rekey *rekey = begin(key);
    enum ch_err err = ch_audit_change(store, &change, ch_rekey_reseal, rekey, why);
    ch_rekey_settle(rekey, err == CH_OK);
    if (!err)
        assert_int_equal(ch_rekey_count(rekey), PROVIDERS);
    ch_rekey_retire(rekey);
    ch_rekey_free(rekey);
    return err;
}

struct opening {
    struct ch_vault_reader *reader;
    int opened, refused;
};

static enum ch_err open_one(void *arg, const struct ch_provider_row *row)
{
    struct opening *opening = arg;
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    size_t size = 0;
    struct ch_vault_binding binding;
    ch_provider_binding(row, &binding);
    bool opens = !ch_vault_open(opening->reader, &binding,
                                (struct ch_span){(const char *)row->sealed, row->sealed_size},
                                plain, &size) &&
                 ch_span_eq((struct ch_span){(const char *)plain, size}, PLAIN);
    *(opens ? &opening->opened : &opening->refused) += 1;
    return CH_OK;
}

static enum ch_err open_all(struct ch_db *db, void *arg, struct ch_why *why)
{
    return ch_provider_each(db, open_one, arg, why);
}

static void assert_all_open(void)
{
    struct opening opening = {0};
    struct ch_why why = {""};
    assert_int_equal(ch_vault_reader_new(ch_store_vault(store), &opening.reader), CH_OK);
    assert_int_equal(ch_store_read(store, open_all, &opening, &why), CH_OK);
    ch_vault_reader_free(opening.reader);
    assert_int_equal(opening.opened, PROVIDERS);
    assert_int_equal(opening.refused, 0);
}

static void reopen(unsigned char good, unsigned char bad)
{
    struct ch_why why = {""};
    ch_store_close(store);
    store = NULL;
    assert_int_equal(fixture_try_open("a.db", bad, false, &store, &why), CH_ERR_DENIED);
    assert_non_null(strstr(why.text, "needs the master key with the fingerprint"));
    assert_int_equal(fixture_try_open("a.db", good, false, &store, &why), CH_OK);
}

static void seals_everything_under_the_new_key(void **state)
{
    (void)state;
    struct ch_why why = {""};
    char pepper[CH_WRAPPED_KEY_PEPPER];
    memcpy(pepper, ch_secret_reveal(ch_store_pepper(store)).ptr, sizeof pepper);
    assert_int_equal(rekey_to(9, &why), CH_OK);
    assert_all_open();
    reopen(9, 1);
    assert_all_open();
    assert_memory_equal(pepper, ch_secret_reveal(ch_store_pepper(store)).ptr, sizeof pepper);
}

static void can_be_repeated_and_taken_back(void **state)
{
    (void)state;
    struct ch_why why = {""};
    for (unsigned char key = 9; key < 12; key++)
        assert_int_equal(rekey_to(key, &why), CH_OK);
    assert_int_equal(rekey_to(1, &why), CH_OK);
    reopen(1, 11);
    assert_all_open();
}

static void refuses_the_key_in_use(void **state)
{
    (void)state;
    struct ch_why why = {""};
    struct ch_rekey *rekey = NULL;
    struct ch_secret *key = fixture_master_key(1);
    assert_int_equal(ch_rekey_start(store, key, &rekey, &why), CH_ERR_CONFLICT);
    ch_secret_free(key);
    assert_all_open();
}

static enum ch_err reseal_and_fail(struct ch_db *db, void *rekey, struct ch_why *why)
{
    enum ch_err err = ch_rekey_reseal(db, rekey, why);
    return err ? err : ch_why_set(why, CH_ERR_LIMIT, "too late");
}

static void changes_nothing_when_it_fails(void **state)
{
    (void)state;
    struct ch_why why = {""};
    struct ch_rekey *rekey = begin(9);
    assert_int_equal(ch_audit_change(store, &change, reseal_and_fail, rekey, &why), CH_ERR_LIMIT);
    ch_rekey_settle(rekey, false);
    ch_rekey_free(rekey);
    assert_all_open();
    reopen(1, 9);
    assert_all_open();
}

static void leaves_a_database_with_a_damaged_credential_alone(void **state)
{
    (void)state;
    struct ch_why why = {""};
    sqlite3 *shell;
    assert_int_equal(sqlite3_open(fixture_path("a.db"), &shell), SQLITE_OK);
    assert_int_equal(sqlite3_exec(shell,
                                  "UPDATE providers SET base_url = 'https://evil.example' "
                                  "WHERE name = 'p3'",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(shell);
    assert_int_equal(rekey_to(9, &why), CH_ERR_CORRUPT);
    assert_non_null(strstr(why.text, "provider p3 does not open"));
    reopen(1, 9);
}

// Records that loops hold are sealed by the former key until they are replaced.
static void opens_what_both_keys_sealed_until_the_former_retires(void **state)
{
    (void)state;
    struct ch_why why = {""};
    struct opening opening = {0};
    struct ch_vault_binding binding = {.kind = CH_SPAN("provider"), .row_id = 77};
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    size_t size;
    struct ch_buf held;
    ch_buf_init(&held, CH_VAULT_SEALED_MAX);
    assert_int_equal(ch_vault_seal(ch_store_vault(store), &binding, PLAIN, &held), CH_OK);
    assert_int_equal(ch_vault_reader_new(ch_store_vault(store), &opening.reader), CH_OK);

    struct ch_rekey *rekey = begin(9);
    assert_int_equal(ch_audit_change(store, &change, ch_rekey_reseal, rekey, &why), CH_OK);
    // Committed, and not yet settled: a provider test may run now.
    assert_int_equal(ch_store_read(store, open_all, &opening, &why), CH_OK);
    ch_rekey_settle(rekey, true);
    assert_int_equal(ch_store_read(store, open_all, &opening, &why), CH_OK);
    assert_int_equal(opening.opened, 2 * PROVIDERS);
    assert_int_equal(ch_vault_open(opening.reader, &binding, ch_buf_span(&held), plain, &size),
                     CH_OK);
    ch_rekey_retire(rekey);
    assert_int_equal(ch_vault_open(opening.reader, &binding, ch_buf_span(&held), plain, &size),
                     CH_ERR_CORRUPT);
    ch_rekey_free(rekey);
    ch_vault_reader_free(opening.reader);
    ch_buf_fini(&held);
}

static void is_recorded(void **state)
{
    (void)state;
    struct ch_why why = {""};
    char key[CH_VAULT_FINGERPRINT + 1];
    json_t *items = json_array(), *report;
    assert_int_equal(rekey_to(9, &why), CH_OK);
    const struct ch_audit_filter filter = {.after = -1, .limit = 1};
    assert_int_equal(ch_audit_list(store, &filter, items, &why), CH_OK);
    json_t *after = json_object_get(json_array_get(items, 0), "after");
    ch_vault_fingerprint(ch_store_vault(store), key);
    assert_string_equal(json_string_value(json_object_get(after, "master_key")), key);
    json_decref(items);
    // What the credentials are did not change: only providers without a row of theirs are named.
    assert_int_equal(ch_audit_verify(store, CH_SPAN(""), &report, &why), CH_OK);
    assert_int_equal(json_integer_value(json_object_get(report, "finding_count")), PROVIDERS);
    json_decref(report);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(seals_everything_under_the_new_key),
        TEST(can_be_repeated_and_taken_back),
        TEST(refuses_the_key_in_use),
        TEST(changes_nothing_when_it_fails),
        TEST(leaves_a_database_with_a_damaged_credential_alone),
        TEST(opens_what_both_keys_sealed_until_the_former_retires),
        TEST(is_recorded),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
