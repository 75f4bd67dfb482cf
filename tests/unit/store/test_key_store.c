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

// ---- the policy

// Every field of the policy, none of them its default.
static void fill_policy(struct ch_key_row *row)
{
    strcpy(row->label, "Ranking, caf\xC3\xA9");
    strcpy(row->deny_models, "gpt-4-32k,o1-*");
    strcpy(row->model_map, "gpt-4o=gpt-4o-mini");
    strcpy(row->allow_cidrs, "10.0.0.0/8,2001:db8::/32");
    row->models_shadow = true;
    row->unknown_model = (struct ch_unknown_model_rule){CH_UNKNOWN_MODEL_CEILING, 5000, 7000};
    row->on_client_abort = CH_ON_CLIENT_ABORT_DRAIN;
    row->budget_status = 402;
    row->limits = (struct ch_rate_limits){{60, 90000, 4}};
    row->limits_shadow = true;
}

static void assert_same_policy(const struct ch_key_row *a, const struct ch_key_row *b)
{
    assert_string_equal(a->label, b->label);
    assert_string_equal(a->deny_models, b->deny_models);
    assert_string_equal(a->model_map, b->model_map);
    assert_string_equal(a->allow_cidrs, b->allow_cidrs);
    assert_int_equal(a->models_shadow, b->models_shadow);
    assert_int_equal(a->unknown_model.choice, b->unknown_model.choice);
    assert_int_equal(a->unknown_model.input_nano_usd, b->unknown_model.input_nano_usd);
    assert_int_equal(a->unknown_model.output_nano_usd, b->unknown_model.output_nano_usd);
    assert_int_equal(a->on_client_abort, b->on_client_abort);
    assert_int_equal(a->budget_status, b->budget_status);
    assert_memory_equal(&a->limits, &b->limits, sizeof a->limits);
    assert_int_equal(a->limits_shadow, b->limits_shadow);
    assert_int_equal(a->previous_expires_at_ms, b->previous_expires_at_ms);
    assert_memory_equal(a->previous_salt, b->previous_salt, sizeof a->previous_salt);
    assert_memory_equal(a->previous_hash, b->previous_hash, sizeof a->previous_hash);
}

static enum ch_err create(struct ch_key_row *row)
{
    struct creation creation = {.row = row};
    return ch_store_write(store, create_in, &creation, &why);
}

static struct ch_key_row read_key(const char *name)
{
    struct ch_key_row row;
    memset(&row, 0xa5, sizeof row);
    strcpy(row.name, name);
    assert_int_equal(ch_store_read(store, get_in, &row, &why), CH_OK);
    return row;
}

static void gives_back_the_policy(void **state)
{
    (void)state;
    struct ch_key_row plain = make_row("plain"), full = make_row("full"), zero = {.name = ""};
    fill_policy(&full);
    assert_int_equal(create(&plain), CH_OK);
    assert_int_equal(create(&full), CH_OK);
    struct ch_key_row read = read_key("plain");
    assert_same_policy(&read, &zero);
    read = read_key("full");
    assert_same_policy(&read, &full);
    assert_int_equal(ch_store_read(store, get_by_id_in, &read, &why), CH_OK);
    assert_same_policy(&read, &full);
}

static enum ch_err see_policy(void *arg, const struct ch_key_row *row)
{
    int *count = arg;
    struct ch_key_row expected = {.name = ""};
    if (row->id % 3 == 0)
        fill_policy(&expected);
    assert_same_policy(row, &expected);
    ++*count;
    return CH_OK;
}

static enum ch_err each_policy_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_key_each(db, see_policy, arg, reason);
}

static void walks_keys_and_policies_side_by_side(void **state)
{
    (void)state;
    for (int i = 1; i <= 20; i++) {
        struct ch_key_row row = make_row("x");
        snprintf(row.name, sizeof row.name, "key-%d", i);
        if (i % 3 == 0) // ids count from 1
            fill_policy(&row);
        assert_int_equal(create(&row), CH_OK);
        assert_int_equal(row.id, i);
    }
    for (int i = 0, count; i < 2; i++) {
        count = 0;
        assert_int_equal(ch_store_read(store, each_policy_in, &count, &why), CH_OK);
        assert_int_equal(count, 20);
    }
}

static void refuses_a_policy_that_cannot_be(void **state)
{
    (void)state;
    static const char *const labels[] = {"two\nlines", "\x1b[31m", "\x7f", "next\xC2\x85line"};
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) {
        struct ch_key_row row = make_row("search");
        strcpy(row.label, labels[i]);
        assert_int_equal(create(&row), CH_ERR_INVALID);
    }
    struct ch_key_row row = make_row("search");
    row.budget_status = 404;
    assert_int_equal(create(&row), CH_ERR_INVALID);
    row = make_row("search");
    row.limits.limit[CH_RATE_IN_FLIGHT] = -1;
    assert_int_equal(create(&row), CH_ERR_INVALID);
    row = make_row("search");
    row.unknown_model.input_nano_usd = -1;
    assert_int_equal(create(&row), CH_ERR_INVALID);
    row = make_row("search");
    assert_int_equal(create(&row), CH_OK);
}

// ---- update

struct update {
    const char *name;
    struct ch_key_patch patch;
    struct ch_key_row row;
};

static enum ch_err update_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct update *update = arg;
    return ch_key_update(db, update->name, &update->patch, &update->row, reason);
}

static void updates_only_what_the_patch_names(void **state)
{
    (void)state;
    struct ch_key_row row = make_row("search");
    fill_policy(&row);
    assert_int_equal(create(&row), CH_OK);
    struct update update = {.name = "search"};
    assert_int_equal(ch_store_write(store, update_in, &update, &why), CH_OK);
    struct ch_key_row read = read_key("search");
    assert_same_policy(&read, &row);
    assert_int_equal(read.attribution_id, row.attribution_id);
    assert_int_equal(read.provider_count, 2);
    assert_string_equal(read.models, row.models);
    assert_int_equal(read.expires_at_ms, 1234);

    update.patch = (struct ch_key_patch){
        .label = "",
        .limit = {[CH_RATE_TOKENS] = &(int64_t){5}},
        .budget_status = &(int){0},
        .models = "gpt-4o",
    };
    assert_int_equal(ch_store_write(store, update_in, &update, &why), CH_OK);
    read = read_key("search");
    strcpy(row.label, "");
    row.limits.limit[CH_RATE_TOKENS] = 5;
    row.budget_status = 0;
    assert_same_policy(&read, &row);
    assert_same_policy(&update.row, &row);
    assert_string_equal(read.models, "gpt-4o");
    assert_string_equal(read.team, "search");
}

static void updates_every_field(void **state)
{
    (void)state;
    struct ch_key_row row = make_row("search"), wanted = make_row("search");
    fill_policy(&wanted);
    assert_int_equal(create(&row), CH_OK);
    static const char *const providers[] = {"one"};
    struct update update = {
        .name = "search",
        .patch =
            {
                .label = wanted.label,
                .team = "ads",
                .project = "",
                .env = "dev",
                .service = "batch",
                .tags = "cost=18",
                .models = "",
                .deny_models = wanted.deny_models,
                .model_map = wanted.model_map,
                .allow_cidrs = wanted.allow_cidrs,
                .provider_names = providers,
                .provider_count = 1,
                .expires_at_ms = &(int64_t){0},
                .limit = {&wanted.limits.limit[0], &wanted.limits.limit[1],
                          &wanted.limits.limit[2]},
                .limits_shadow = &wanted.limits_shadow,
                .models_shadow = &wanted.models_shadow,
                .unknown_model = &wanted.unknown_model,
                .on_client_abort = &wanted.on_client_abort,
                .budget_status = &wanted.budget_status,
            },
    };
    assert_int_equal(ch_store_write(store, update_in, &update, &why), CH_OK);
    struct ch_key_row read = read_key("search");
    assert_same_policy(&read, &wanted);
    assert_int_equal(read.id, row.id);
    assert_string_equal(read.public_id, row.public_id);
    assert_memory_equal(read.hash, row.hash, sizeof row.hash);
    assert_int_not_equal(read.attribution_id, row.attribution_id);
    assert_string_equal(read.team, "ads");
    assert_string_equal(read.project, "");
    assert_string_equal(read.env, "dev");
    assert_string_equal(read.service, "batch");
    assert_string_equal(read.tags, "cost=18");
    assert_string_equal(read.models, "");
    assert_int_equal(read.provider_count, 1);
    assert_string_equal(read.provider_names[0], "one");
    assert_int_equal(read.expires_at_ms, 0);
    assert_int_equal(read.created_at_ms, row.created_at_ms);
    // Back to where it was: the attribution of before, and no policy.
    update.patch = (struct ch_key_patch){.team = row.team,
                                         .project = row.project,
                                         .env = row.env,
                                         .service = row.service,
                                         .tags = row.tags};
    assert_int_equal(ch_store_write(store, update_in, &update, &why), CH_OK);
    assert_int_equal(update.row.attribution_id, row.attribution_id);
}

static void assert_update_fails(const struct ch_key_patch *patch, enum ch_err expected)
{
    struct update update = {.name = "search", .patch = *patch};
    assert_int_equal(ch_store_write(store, update_in, &update, &why), expected);
}

static void refuses_bad_updates_whole(void **state)
{
    (void)state;
    static const char *const providers[CH_KEY_PROVIDERS_MAX + 1] = {"one", "nobody"};
    char list[CH_KEY_MODELS_MAX + 2], label[CH_KEY_LABEL_MAX + 2];
    struct ch_key_row row = make_row("search");
    assert_int_equal(create(&row), CH_OK);
    memset(list, 'a', sizeof list);
    memset(label, 'a', sizeof label);
    list[sizeof list - 1] = label[sizeof label - 1] = '\0';
    assert_update_fails(&(struct ch_key_patch){.team = "x", .deny_models = list}, CH_ERR_LIMIT);
    assert_non_null(strstr(why.text, "denied models"));
    assert_update_fails(&(struct ch_key_patch){.label = label}, CH_ERR_LIMIT);
    assert_update_fails(&(struct ch_key_patch){.label = "\n"}, CH_ERR_INVALID);
    assert_update_fails(&(struct ch_key_patch){.budget_status = &(int){500}}, CH_ERR_INVALID);
    assert_update_fails(
        &(struct ch_key_patch){.team = "x", .provider_names = providers, .provider_count = 2},
        CH_ERR_NOT_FOUND);
    assert_non_null(strstr(why.text, "nobody"));
    assert_update_fails(&(struct ch_key_patch){.provider_names = providers,
                                               .provider_count = CH_KEY_PROVIDERS_MAX + 1},
                        CH_ERR_LIMIT);
    struct ch_key_row read = read_key("search"), zero = {.name = ""};
    assert_string_equal(read.team, "search");
    assert_int_equal(read.provider_count, 2);
    assert_same_policy(&read, &zero);
    struct update nobody = {.name = "nobody"};
    assert_int_equal(ch_store_write(store, update_in, &nobody, &why), CH_ERR_NOT_FOUND);
    struct change revoke = {.status = CH_KEY_REVOKED, .reason = ""};
    assert_int_equal(ch_store_write(store, change_in, &revoke, &why), CH_OK);
    assert_update_fails(&(struct ch_key_patch){.label = "late"}, CH_ERR_CONFLICT);
}

// ---- rotation

struct rotation {
    int64_t grace_ms;
    struct ch_key_row row;
    char token[CH_WRAPPED_KEY_MAX + 1];
};

static enum ch_err rotate_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct rotation *rotation = arg;
    return ch_key_rotate(db, ch_store_pepper(store), "search", rotation->grace_ms, &rotation->row,
                         rotation->token, reason);
}

static bool verifies(const char *token, const unsigned char *salt, const unsigned char *hash)
{
    unsigned char made[CH_WRAPPED_KEY_HASH];
    ch_wrapped_key_hash((const unsigned char *)ch_secret_reveal(ch_store_pepper(store)).ptr, salt,
                        ch_span_of(token), made);
    return memcmp(made, hash, sizeof made) == 0;
}

static void rotates_under_the_same_id(void **state)
{
    (void)state;
    struct ch_key_row row = make_row("search");
    struct creation creation = {.row = &row};
    struct rotation first = {.grace_ms = 60000}, second = {.grace_ms = 1000}, last = {0};
    struct ch_wrapped_key parts;
    strcpy(row.label, "kept");
    assert_int_equal(ch_store_write(store, create_in, &creation, &why), CH_OK);

    assert_int_equal(ch_store_write(store, rotate_in, &first, &why), CH_OK);
    assert_int_equal(ch_wrapped_key_parse(ch_span_of(first.token), &parts), CH_OK);
    assert_true(ch_span_eq(parts.id, ch_span_of(row.public_id)));
    assert_true(ch_span_eq(parts.slug, ch_span_of(row.slug)));
    assert_string_not_equal(first.token, creation.token);
    struct ch_key_row read = read_key("search");
    assert_same_policy(&read, &first.row);
    assert_string_equal(read.label, "kept");
    assert_string_equal(read.public_id, row.public_id);
    assert_true(verifies(first.token, read.salt, read.hash));
    assert_true(verifies(creation.token, read.previous_salt, read.previous_hash));
    assert_int_equal(read.previous_expires_at_ms, read.updated_at_ms + 60000);

    // Within the grace: the first token goes, at once.
    assert_int_equal(ch_store_write(store, rotate_in, &second, &why), CH_OK);
    read = read_key("search");
    assert_true(verifies(second.token, read.salt, read.hash));
    assert_true(verifies(first.token, read.previous_salt, read.previous_hash));
    assert_int_equal(read.previous_expires_at_ms, read.updated_at_ms + 1000);

    assert_int_equal(ch_store_write(store, rotate_in, &last, &why), CH_OK);
    read = read_key("search");
    assert_same_policy(&read, &last.row);
    assert_true(verifies(last.token, read.salt, read.hash));
    assert_int_equal(read.previous_expires_at_ms, 0);
    assert_false(verifies(second.token, read.previous_salt, read.previous_hash));
}

static void refuses_rotations(void **state)
{
    (void)state;
    struct ch_key_row row = make_row("search");
    struct creation creation = {.row = &row};
    struct rotation rotation = {.grace_ms = CH_KEY_GRACE_MAX_MS + 1};
    assert_int_equal(ch_store_write(store, rotate_in, &rotation, &why), CH_ERR_INVALID);
    rotation.grace_ms = -1;
    assert_int_equal(ch_store_write(store, rotate_in, &rotation, &why), CH_ERR_INVALID);
    rotation.grace_ms = CH_KEY_GRACE_MAX_MS;
    assert_int_equal(ch_store_write(store, rotate_in, &rotation, &why), CH_ERR_NOT_FOUND);
    assert_int_equal(ch_store_write(store, create_in, &creation, &why), CH_OK);
    struct change revoke = {.status = CH_KEY_REVOKED, .reason = "leaked"};
    assert_int_equal(ch_store_write(store, change_in, &revoke, &why), CH_OK);
    assert_int_equal(ch_store_write(store, rotate_in, &rotation, &why), CH_ERR_CONFLICT);
    assert_string_equal(rotation.token, "");
    struct ch_key_row read = read_key("search");
    assert_true(verifies(creation.token, read.salt, read.hash));
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
        TEST(gives_back_the_policy),
        TEST(walks_keys_and_policies_side_by_side),
        TEST(refuses_a_policy_that_cannot_be),
        TEST(updates_only_what_the_patch_names),
        TEST(updates_every_field),
        TEST(refuses_bad_updates_whole),
        TEST(rotates_under_the_same_id),
        TEST(refuses_rotations),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
