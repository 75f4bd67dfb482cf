// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include <sqlite3.h>
#include <sys/stat.h>

#define CREDENTIAL "sk-proj-CANARY0123456789abcdefghijklmnopqrstuvwxyz-x9Qa"

static struct ch_store *store;
static struct ch_why why;

static int start(void **state)
{
    int result = fixture_make_dir(state);
    store = result ? NULL : fixture_open("a.db");
    return result;
}

static int stop(void **state)
{
    ch_store_close(store);
    return fixture_remove_dir(state);
}

static struct ch_provider_row make_row(const char *name)
{
    struct ch_provider_row row = {
        .type = CH_PROVIDER_OPENAI, .enabled = true, .injects_usage = true};
    strcpy(row.name, name);
    strcpy(row.base_url, "https://api.openai.com/v1");
    return row;
}

struct creation {
    struct ch_provider_row *row;
    struct ch_span credential;
};

static enum ch_err create_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct creation *creation = arg;
    return ch_provider_create(db, ch_store_vault(store), creation->row, creation->credential,
                              reason);
}

static enum ch_err create(struct ch_provider_row *row, const char *credential)
{
    struct creation creation = {row, ch_span_of(credential)};
    return ch_store_write(store, create_in, &creation, &why);
}

struct named {
    const char *name;
    bool enabled;
    struct ch_provider_row row;
    int64_t id;
};

static enum ch_err get_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct named *named = arg;
    return ch_provider_get(db, named->name, &named->row, reason);
}

static enum ch_err enable_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct named *named = arg;
    return ch_provider_set_enabled(db, named->name, named->enabled, &named->row, reason);
}

static enum ch_err delete_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct named *named = arg;
    return ch_provider_delete(db, named->name, &named->id, reason);
}

static enum ch_err get(const char *name, struct ch_provider_row *row_out)
{
    struct named named = {.name = name};
    enum ch_err err = ch_store_read(store, get_in, &named, &why);
    *row_out = named.row;
    return err;
}

static enum ch_err open_credential(const struct ch_provider_row *row, char *out)
{
    unsigned char plain[CH_VAULT_PLAIN_MAX];
    struct ch_vault_reader *reader;
    struct ch_vault_binding binding;
    size_t size = 0;
    ch_provider_binding(row, &binding);
    assert_int_equal(ch_vault_reader_new(ch_store_vault(store), &reader), CH_OK);
    enum ch_err err =
        ch_vault_open(reader, &binding,
                      (struct ch_span){(const char *)row->sealed, row->sealed_size}, plain, &size);
    ch_vault_reader_free(reader);
    memcpy(out, plain, size);
    out[size] = '\0';
    return err;
}

static void knows_valid_names(void **state)
{
    (void)state;
    char longest[CH_NAME_MAX + 1];
    memset(longest, 'a', sizeof longest);
    assert_true(ch_name_is_valid(CH_SPAN("openai-prod_2.EU")));
    assert_true(ch_name_is_valid((struct ch_span){longest, CH_NAME_MAX}));
    assert_false(ch_name_is_valid((struct ch_span){longest, CH_NAME_MAX + 1}));
    assert_false(ch_name_is_valid(CH_SPAN("")));
    assert_false(ch_name_is_valid(CH_SPAN("a b")));
    assert_false(ch_name_is_valid(CH_SPAN("a\n")));
    assert_false(ch_name_is_valid(CH_SPAN("a\0b")));
    assert_false(ch_name_is_valid(CH_SPAN("caf\xC3\xA9")));
    assert_false(ch_name_is_valid(CH_SPAN("a'b")));
}

static void gives_back_what_was_created(void **state)
{
    (void)state;
    struct ch_provider_row row = make_row("openai"), read;
    char credential[CH_VAULT_PLAIN_MAX + 1];
    assert_int_equal(create(&row, CREDENTIAL), CH_OK);
    assert_true(row.id > 0 && row.sealed_size > 0 && row.created_at_ms > 0);
    assert_int_equal(get("openai", &read), CH_OK);
    assert_int_equal(read.id, row.id);
    assert_int_equal(read.type, CH_PROVIDER_OPENAI);
    assert_string_equal(read.base_url, row.base_url);
    assert_string_equal(read.key_hint, "x9Qa");
    assert_true(read.enabled && read.injects_usage);
    assert_int_equal(open_credential(&read, credential), CH_OK);
    assert_string_equal(credential, CREDENTIAL);
}

static void gives_no_hint_of_a_short_credential(void **state)
{
    (void)state;
    struct ch_provider_row row = make_row("short");
    assert_int_equal(create(&row, "0123456789012345678"), CH_OK);
    assert_string_equal(row.key_hint, "");
}

static void refuses_bad_rows(void **state)
{
    (void)state;
    struct ch_provider_row row = make_row("no good");
    assert_int_equal(create(&row, CREDENTIAL), CH_ERR_INVALID);
    row = make_row("openai");
    assert_int_equal(create(&row, ""), CH_ERR_INVALID);
    assert_int_equal(create(&row, CREDENTIAL), CH_OK);
    assert_int_equal(create(&row, CREDENTIAL), CH_ERR_CONFLICT);
    assert_non_null(strstr(why.text, "openai"));
    assert_int_equal(get("other", &row), CH_ERR_NOT_FOUND);
    assert_int_equal(get("' OR 1=1 --", &row), CH_ERR_NOT_FOUND);
}

static void enables_and_disables(void **state)
{
    (void)state;
    struct ch_provider_row row = make_row("openai"), read;
    assert_int_equal(create(&row, CREDENTIAL), CH_OK);
    struct named named = {.name = "openai", .enabled = false};
    assert_int_equal(ch_store_write(store, enable_in, &named, &why), CH_OK);
    assert_false(named.row.enabled);
    assert_int_equal(get("openai", &read), CH_OK);
    assert_false(read.enabled);
    named.name = "other";
    assert_int_equal(ch_store_write(store, enable_in, &named, &why), CH_ERR_NOT_FOUND);
}

static enum ch_err create_keys_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    char token[CH_WRAPPED_KEY_MAX + 1];
    enum ch_err err = CH_OK;
    (void)arg;
    for (int i = 0; !err && i < 7; i++) {
        struct ch_key_row key = {.provider_count = 1};
        snprintf(key.name, sizeof key.name, "key-%d", i);
        strcpy(key.provider_names[0], "openai");
        err = ch_key_create(db, ch_store_pepper(store), &key, token, reason);
    }
    return err;
}

static enum ch_err disable_keys_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct ch_key_row key;
    char name[16];
    enum ch_err err = CH_OK;
    (void)arg;
    for (int i = 0; !err && i < 7; i++) {
        snprintf(name, sizeof name, "key-%d", i);
        err = ch_key_set_status(db, name, CH_KEY_DISABLED, "", &key, reason);
    }
    return err;
}

static enum ch_err get_key_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_key_get(db, "key-3", arg, reason);
}

static void deletes_what_no_active_key_uses(void **state)
{
    (void)state;
    struct ch_provider_row row = make_row("openai"), again = make_row("openai");
    struct named named = {.name = "openai"};
    struct ch_key_row key;
    assert_int_equal(create(&row, CREDENTIAL), CH_OK);
    assert_int_equal(ch_store_write(store, create_keys_in, NULL, &why), CH_OK);
    assert_int_equal(ch_store_write(store, delete_in, &named, &why), CH_ERR_CONFLICT);
    assert_non_null(strstr(why.text, "key-0, key-1, key-2, key-3, key-4, …"));
    assert_int_equal(ch_store_write(store, disable_keys_in, NULL, &why), CH_OK);
    assert_int_equal(ch_store_write(store, delete_in, &named, &why), CH_OK);
    assert_int_equal(named.id, row.id);
    assert_int_equal(get("openai", &row), CH_ERR_NOT_FOUND);
    // The name is free again, and a key of the old one does not inherit the new one.
    assert_int_equal(create(&again, CREDENTIAL), CH_OK);
    assert_int_not_equal(again.id, named.id);
    assert_int_equal(ch_store_read(store, get_key_in, &key, &why), CH_OK);
    assert_int_equal(key.provider_count, 0);
}

static void tamper(const char *sql)
{
    sqlite3 *db;
    ch_store_close(store);
    assert_int_equal(sqlite3_open(fixture_path("a.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    store = fixture_open("a.db");
}

static void refuses_rows_edited_by_other_hands(void **state)
{
    (void)state;
    static const char *const edits[] = {
        "UPDATE providers SET base_url = 'https://evil.example/v1' WHERE name = 'one'",
        "UPDATE providers SET base_url = 'https://api.openai.com/v1', type = 'azure' "
        "WHERE name = 'one'",
        "UPDATE providers SET type = 'openai', key_version = 2 WHERE name = 'one'",
        "UPDATE providers SET key_version = 1, sealed = (SELECT sealed FROM providers WHERE name "
        "= 'two') WHERE name = 'one'",
    };
    struct ch_provider_row one = make_row("one"), two = make_row("two"), read;
    char credential[CH_VAULT_PLAIN_MAX + 1];
    assert_int_equal(create(&one, CREDENTIAL), CH_OK);
    assert_int_equal(create(&two, CREDENTIAL), CH_OK);
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        tamper(edits[i]);
        assert_int_equal(get("one", &read), CH_OK);
        assert_int_equal(open_credential(&read, credential), CH_ERR_CORRUPT);
    }
    tamper("UPDATE providers SET type = 'nonsense' WHERE name = 'one'");
    assert_int_equal(get("one", &read), CH_ERR_CORRUPT);
}

static size_t count_in_file(const char *path, const char *needle)
{
    struct stat info;
    size_t count = 0;
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    assert_int_equal(fstat(fileno(file), &info), 0);
    char *bytes = malloc((size_t)info.st_size + 1);
    size_t size = fread(bytes, 1, (size_t)info.st_size, file);
    for (char *at = bytes; (at = memmem(at, size - (size_t)(at - bytes), needle, strlen(needle)));
         at++)
        count++;
    free(bytes);
    fclose(file);
    return count;
}

static void leaves_no_credential_in_any_file(void **state)
{
    (void)state;
    static const char *const files[] = {"a.db", "a.db-wal", "a.db-shm", "a.db.lock"};
    struct ch_provider_row row = make_row("canary-name");
    assert_int_equal(create(&row, CREDENTIAL), CH_OK);
    for (int closed = 0; closed < 2; closed++) {
        size_t names = 0;
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            const char *path = fixture_path(files[i]);
            assert_int_equal(count_in_file(path, "CANARY0123456789"), 0);
            assert_int_equal(count_in_file(path, "0123456789abcdef"), 0);
            names += count_in_file(path, "canary-name");
        }
        assert_true(names > 0); // the search finds what is there
        ch_store_close(store);
        store = closed ? fixture_open("a.db") : NULL;
    }
}

static enum ch_err collect(void *arg, const struct ch_provider_row *row)
{
    strcat(arg, row->name);
    strcat(arg, " ");
    return strcmp(row->name, "stop") == 0 ? CH_ERR_LIMIT : CH_OK;
}

static enum ch_err each_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_provider_each(db, collect, arg, reason);
}

static void lists_in_order_of_name(void **state)
{
    (void)state;
    static const char *const names[] = {"b", "stop", "a", "z"};
    char list[64] = "";
    for (size_t i = 0; i < 4; i++) {
        struct ch_provider_row row = make_row(names[i]);
        assert_int_equal(create(&row, CREDENTIAL), CH_OK);
    }
    assert_int_equal(ch_store_read(store, each_in, list, &why), CH_ERR_LIMIT);
    assert_string_equal(list, "a b stop ");
    list[0] = '\0';
    assert_int_equal(ch_store_read(store, each_in, list, &why), CH_ERR_LIMIT); // usable again
}

struct choice {
    struct ch_unknown_model_rule rule;
    struct ch_provider_row row;
};

static enum ch_err choose_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct choice *choice = arg;
    return ch_provider_set_unknown_model(db, "a", &choice->rule, &choice->row, reason);
}

static void keeps_what_an_unknown_model_does(void **state)
{
    (void)state;
    struct ch_provider_row row = make_row("a"), read;
    struct choice choice = {.rule = {CH_UNKNOWN_MODEL_DENY, 0, 0}};
    assert_int_equal(ch_store_write(store, choose_in, &choice, &why), CH_ERR_NOT_FOUND);
    row.unknown_model = (struct ch_unknown_model_rule){CH_UNKNOWN_MODEL_CEILING, 3, 4};
    assert_int_equal(create(&row, CREDENTIAL), CH_OK);
    assert_int_equal(get("a", &read), CH_OK);
    assert_int_equal(read.unknown_model.choice, CH_UNKNOWN_MODEL_CEILING);
    assert_int_equal(read.unknown_model.input_nano_usd, 3);
    assert_int_equal(read.unknown_model.output_nano_usd, 4);
    assert_int_equal(ch_store_write(store, choose_in, &choice, &why), CH_OK);
    assert_int_equal(get("a", &read), CH_OK);
    assert_int_equal(read.unknown_model.choice, CH_UNKNOWN_MODEL_DENY);
    assert_int_equal(choice.row.unknown_model.choice, CH_UNKNOWN_MODEL_DENY);
    assert_int_equal(read.unknown_model.input_nano_usd, 0);
    choice.rule.output_nano_usd = -1;
    assert_int_equal(ch_store_write(store, choose_in, &choice, &why), CH_ERR_INVALID);
    row = make_row("b");
    row.unknown_model.input_nano_usd = -1;
    assert_int_equal(create(&row, CREDENTIAL), CH_ERR_INVALID);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_valid_names),
        TEST(gives_back_what_was_created),
        TEST(gives_no_hint_of_a_short_credential),
        TEST(refuses_bad_rows),
        TEST(enables_and_disables),
        TEST(deletes_what_no_active_key_uses),
        TEST(refuses_rows_edited_by_other_hands),
        TEST(leaves_no_credential_in_any_file),
        TEST(lists_in_order_of_name),
        TEST(keeps_what_an_unknown_model_does),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
