// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

static struct ch_store *store;
static struct ch_why why;

static enum ch_err create_provider(struct ch_db *db, void *name, struct ch_why *reason)
{
    struct ch_provider_row row = {.type = CH_PROVIDER_OPENAI, .enabled = true};
    strcpy(row.name, name);
    strcpy(row.base_url, "https://api.openai.com/v1");
    return ch_provider_create(db, ch_store_vault(store), &row, CH_SPAN("sk-0123456789"), reason);
}

static int start(void **state)
{
    static char one[] = "one", two[] = "two";
    int result = fixture_make_dir(state);
    if (result)
        return result;
    store = fixture_open("a.db");
    assert_int_equal(ch_store_write(store, create_provider, one, &why), CH_OK);
    assert_int_equal(ch_store_write(store, create_provider, two, &why), CH_OK);
    return 0;
}

static int stop(void **state)
{
    ch_store_close(store);
    return fixture_remove_dir(state);
}

struct creation {
    struct ch_key_row *row;
    char token[CH_WRAPPED_KEY_MAX + 1];
};

static enum ch_err create_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct creation *creation = arg;
    return ch_key_create(db, ch_store_pepper(store), creation->row, creation->token, reason);
}

static struct ch_key_row make_row(const char *name)
{
    struct ch_key_row row = {.provider_count = 2, .expires_at_ms = 1234};
    strcpy(row.name, name);
    strcpy(row.provider_names[0], "two");
    strcpy(row.provider_names[1], "one");
    strcpy(row.models, "gpt-4o-mini,claude-*");
    strcpy(row.team, "search");
    strcpy(row.project, "ranking");
    strcpy(row.env, "prod");
    strcpy(row.service, "api");
    strcpy(row.tags, "cost=17,owner=ann");
    return row;
}

static enum ch_err get_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct ch_key_row *row = arg;
    char name[CH_NAME_MAX + 1];
    strcpy(name, row->name);
    return ch_key_get(db, name, row, reason);
}

static enum ch_err get_by_id_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct ch_key_row *row = arg;
    char id[CH_WRAPPED_KEY_ID + 1];
    strcpy(id, row->public_id);
    return ch_key_get_by_public_id(db, ch_span_of(id), row, reason);
}

static void gives_back_what_was_created(void **state)
{
    (void)state;
    struct ch_key_row row = make_row("Search API"), read;
    struct creation creation = {.row = &row};
    assert_int_equal(ch_store_write(store, create_in, &creation, &why), CH_ERR_INVALID);
    row = make_row("search-api");
    assert_int_equal(ch_store_write(store, create_in, &creation, &why), CH_OK);
    memset(&read, 0xa5, sizeof read); // as an uninitialised struct would be
    strcpy(read.name, "search-api");
    assert_int_equal(ch_store_read(store, get_in, &read, &why), CH_OK);
    assert_int_equal(read.id, row.id);
    assert_string_equal(read.public_id, row.public_id);
    assert_string_equal(read.slug, row.slug);
    assert_memory_equal(read.salt, row.salt, sizeof row.salt);
    assert_memory_equal(read.hash, row.hash, sizeof row.hash);
    assert_int_equal(read.status, CH_KEY_ACTIVE);
    assert_string_equal(read.revoke_reason, "");
    assert_int_equal(read.expires_at_ms, 1234);
    assert_string_equal(read.models, row.models);
    assert_string_equal(read.team, "search");
    assert_string_equal(read.project, "ranking");
    assert_string_equal(read.env, "prod");
    assert_string_equal(read.service, "api");
    assert_string_equal(read.tags, "cost=17,owner=ann");
    assert_int_equal(read.provider_count, 2);
    assert_string_equal(read.provider_names[0], "two");
    assert_string_equal(read.provider_names[1], "one");
    assert_int_equal(read.provider_ids[0], row.provider_ids[0]);
    assert_int_equal(read.attribution_id, row.attribution_id);
    memset(read.name, 0, sizeof read.name);
    assert_int_equal(ch_store_read(store, get_by_id_in, &read, &why), CH_OK);
    assert_string_equal(read.name, "search-api");
}

static void mints_a_token_that_the_hash_verifies(void **state)
{
    (void)state;
    struct ch_key_row row = make_row("search");
    struct creation creation = {.row = &row};
    struct ch_wrapped_key parts;
    unsigned char hash[CH_WRAPPED_KEY_HASH];
    assert_int_equal(ch_store_write(store, create_in, &creation, &why), CH_OK);
    assert_int_equal(ch_wrapped_key_parse(ch_span_of(creation.token), &parts), CH_OK);
    assert_true(ch_span_eq(parts.id, ch_span_of(row.public_id)));
    ch_wrapped_key_hash((const unsigned char *)ch_secret_reveal(ch_store_pepper(store)).ptr,
                        row.salt, ch_span_of(creation.token), hash);
    assert_memory_equal(hash, row.hash, sizeof hash);
}

static void keeps_no_token_in_the_file(void **state)
{
    (void)state;
    struct ch_key_row row = make_row("search");
    struct creation creation = {.row = &row};
    struct ch_wrapped_key parts;
    assert_int_equal(ch_store_write(store, create_in, &creation, &why), CH_OK);
    assert_int_equal(ch_wrapped_key_parse(ch_span_of(creation.token), &parts), CH_OK);
    ch_store_close(store);
    static char bytes[1 << 20];
    FILE *file = fopen(fixture_path("a.db"), "r");
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_true(size > 4096 && size < sizeof bytes);
    for (size_t at = 0; at + 8 <= parts.secret.len; at++)
        assert_null(memmem(bytes, size, parts.secret.ptr + at, 8));
    assert_non_null(memmem(bytes, size, parts.id.ptr, parts.id.len));
    store = fixture_open("a.db");
}

static void refuses_bad_rows(void **state)
{
    (void)state;
    struct ch_key_row row = make_row("search");
    struct creation creation = {.row = &row};
    strcpy(row.provider_names[1], "three");
    assert_int_equal(ch_store_write(store, create_in, &creation, &why), CH_ERR_NOT_FOUND);
    assert_non_null(strstr(why.text, "three"));
    row = make_row("search");
    row.provider_count = CH_KEY_PROVIDERS_MAX + 1;
    assert_int_equal(ch_store_write(store, create_in, &creation, &why), CH_ERR_LIMIT);
    row = make_row("search");
    assert_int_equal(ch_store_write(store, create_in, &creation, &why), CH_OK);
    assert_int_equal(ch_store_write(store, create_in, &creation, &why), CH_ERR_CONFLICT);
    assert_string_equal(creation.token, ""); // no token of a key that does not exist
    struct ch_key_row other = {.name = "nobody"};
    assert_int_equal(ch_store_read(store, get_in, &other, &why), CH_ERR_NOT_FOUND);
}

static void shares_attributions(void **state)
{
    (void)state;
    struct ch_key_row a = make_row("a"), b = make_row("b"), c = make_row("c");
    struct creation creations[] = {{.row = &a}, {.row = &b}, {.row = &c}};
    strcpy(c.env, "dev");
    for (int i = 0; i < 3; i++)
        assert_int_equal(ch_store_write(store, create_in, &creations[i], &why), CH_OK);
    assert_int_equal(a.attribution_id, b.attribution_id);
    assert_int_not_equal(a.attribution_id, c.attribution_id);
}

struct change {
    enum ch_key_status status;
    const char *reason;
    struct ch_key_row row;
};

static enum ch_err change_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct change *change = arg;
    return ch_key_set_status(db, "search", change->status, change->reason, &change->row, reason);
}

static void revokes_for_good(void **state)
{
    (void)state;
    struct ch_key_row row = make_row("search");
    struct creation creation = {.row = &row};
    assert_int_equal(ch_store_write(store, create_in, &creation, &why), CH_OK);
    struct change change = {.status = CH_KEY_DISABLED, .reason = NULL};
    assert_int_equal(ch_store_write(store, change_in, &change, &why), CH_OK);
    assert_int_equal(change.row.status, CH_KEY_DISABLED);
    assert_string_equal(change.row.revoke_reason, "");
    change.reason = "over its budget";
    assert_int_equal(ch_store_write(store, change_in, &change, &why), CH_OK);
    assert_int_equal(ch_store_read(store, get_in, &row, &why), CH_OK);
    assert_string_equal(row.revoke_reason, "over its budget");
    change.status = CH_KEY_ACTIVE;
    assert_int_equal(ch_store_write(store, change_in, &change, &why), CH_OK);
    assert_string_equal(change.row.revoke_reason, "");
    change = (struct change){.status = CH_KEY_REVOKED, .reason = "leaked on a forum"};
    assert_int_equal(ch_store_write(store, change_in, &change, &why), CH_OK);
    assert_int_equal(ch_store_read(store, get_in, &row, &why), CH_OK);
    assert_int_equal(row.status, CH_KEY_REVOKED);
    assert_string_equal(row.revoke_reason, "leaked on a forum");
    change.status = CH_KEY_ACTIVE;
    assert_int_equal(ch_store_write(store, change_in, &change, &why), CH_ERR_CONFLICT);
}

enum { MANY = 500 };

static enum ch_err create_many_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    char token[CH_WRAPPED_KEY_MAX + 1];
    enum ch_err err = CH_OK;
    (void)arg;
    for (int i = 0; !err && i < MANY; i++) {
        struct ch_key_row row = make_row("x");
        snprintf(row.name, sizeof row.name, "key-%d", MANY - i);
        snprintf(row.service, sizeof row.service, "service-%d", i % 7);
        row.provider_count = (unsigned)i % 3;
        err = ch_key_create(db, ch_store_pepper(store), &row, token, reason);
    }
    return err;
}

struct seen {
    int count, stop_at;
    int64_t last_id;
};

static enum ch_err see(void *arg, const struct ch_key_row *row)
{
    struct seen *seen = arg;
    char service[32];
    assert_true(row->id > seen->last_id);
    assert_int_equal(row->provider_count, seen->count % 3);
    for (unsigned i = 0; i < row->provider_count; i++)
        assert_string_equal(row->provider_names[i], i ? "one" : "two");
    snprintf(service, sizeof service, "service-%d", seen->count % 7);
    assert_string_equal(row->service, service);
    seen->last_id = row->id;
    return ++seen->count == seen->stop_at ? CH_ERR_LIMIT : CH_OK;
}

static enum ch_err each_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_key_each(db, see, arg, reason);
}

static void gives_every_key_in_order_of_id(void **state)
{
    (void)state;
    struct seen none = {0};
    assert_int_equal(ch_store_read(store, each_in, &none, &why), CH_OK);
    assert_int_equal(none.count, 0);
    assert_int_equal(ch_store_write(store, create_many_in, NULL, &why), CH_OK);
    struct seen all = {0}, some = {.stop_at = 10}, again = {0};
    assert_int_equal(ch_store_read(store, each_in, &all, &why), CH_OK);
    assert_int_equal(all.count, MANY);
    assert_int_equal(ch_store_read(store, each_in, &some, &why), CH_ERR_LIMIT);
    assert_int_equal(some.count, 10);
    assert_int_equal(ch_store_read(store, each_in, &again, &why), CH_OK);
    assert_int_equal(again.count, MANY);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(gives_back_what_was_created),
        TEST(mints_a_token_that_the_hash_verifies),
        TEST(keeps_no_token_in_the_file),
        TEST(refuses_bad_rows),
        TEST(shares_attributions),
        TEST(revokes_for_good),
        TEST(gives_every_key_in_order_of_id),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
