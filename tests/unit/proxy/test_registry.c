// SPDX-License-Identifier: Apache-2.0
// What the registry keeps of what comes and goes. Without loops: a change is in force at once.
#include "registry_private.h"

#include "base/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <malloc.h>

#define PROVIDERS 3000 // three times as many as there may be at once
#define KEYS      1000

static struct ch_secret *pepper;
static struct ch_registry *registry;

static int start(void **state)
{
    unsigned char bytes[CH_WRAPPED_KEY_PEPPER] = {1};
    (void)state;
    assert_int_equal(ch_secret_new(bytes, sizeof bytes, &pepper), CH_OK);
    assert_int_equal(ch_registry_new(pepper, NULL, &registry), CH_OK);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    ch_registry_free(registry);
    ch_secret_free(pepper);
    return 0;
}

// Bytes in use: the sanitizers' allocators have a measure of their own.
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));
static size_t allocated(void)
{
    return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes()
                                                   : mallinfo2().uordblks;
}

static struct ch_provider_row provider_row(int64_t id)
{
    struct ch_provider_row row = {.id = id, .type = CH_PROVIDER_OPENAI, .enabled = true};
    snprintf(row.name, sizeof row.name, "p%d", (int)id);
    snprintf(row.base_url, sizeof row.base_url, "https://api.example.com/v1");
    return row;
}

static struct ch_key_row key_row(int64_t id, int64_t provider_id)
{
    struct ch_key_row row = {.id = id,
                             .status = CH_KEY_ACTIVE,
                             .provider_ids = {provider_id},
                             .provider_count = 1,
                             .attribution_id = 1};
    snprintf(row.public_id, sizeof row.public_id, "%012d", (int)id);
    snprintf(row.name, sizeof row.name, "k%d", (int)id);
    return row;
}

static void put_key(const struct ch_key_row *row)
{
    assert_int_equal(ch_registry_put_key(registry, row), CH_OK);
}

static void providers_may_come_and_go_without_end(void **state)
{
    (void)state;
    for (int64_t id = 1; id <= PROVIDERS; id++) {
        struct ch_provider_row row = provider_row(id);
        assert_int_equal(ch_registry_put_provider(registry, &row), CH_OK);
        ch_registry_drop_provider(registry, id);
        assert_null(registry_provider(registry, id));
    }
}

// Two keys share the first account, and no key the second, which has the place of the first.
static void a_new_provider_has_no_tenants(void **state)
{
    (void)state;
    struct ch_provider_row row = provider_row(1);
    row.objects = CH_OBJECTS_KEY;
    assert_int_equal(ch_registry_put_provider(registry, &row), CH_OK);
    for (int64_t id = 1; id <= 2; id++) {
        struct ch_key_row key = key_row(id, 1);
        put_key(&key);
    }
    assert_true(registry_has_tenants(registry_provider(registry, 1)));
    ch_registry_drop_provider(registry, 1);
    row.id = 2;
    assert_int_equal(ch_registry_put_provider(registry, &row), CH_OK);
    assert_false(registry_has_tenants(registry_provider(registry, 2)));
}

// design.md: at most 300 bytes for a plain key; one with a policy pays for what it has.
static void a_key_with_one_network_is_small(void **state)
{
    (void)state;
    size_t before = allocated();
    for (int64_t id = 1; id <= KEYS; id++) {
        struct ch_key_row key = key_row(id, 1);
        snprintf(key.allow_cidrs, sizeof key.allow_cidrs, "10.0.0.0/8");
        put_key(&key);
    }
    assert_in_range(allocated() - before, KEYS, KEYS * 512);
    const struct key_record *key = registry_find(registry, CH_SPAN("000000000007"));
    assert_non_null(key);
    assert_true(ch_cidr_list_allows_text(key->policy->allow_cidrs, CH_SPAN("10.1.2.3")));
    assert_false(ch_cidr_list_allows_text(key->policy->allow_cidrs, CH_SPAN("11.1.2.3")));
}

// Changed a thousand times and then revoked, it holds what one key does.
static void a_key_that_changes_costs_no_more(void **state)
{
    (void)state;
    struct ch_key_row key = key_row(1, 1);
    put_key(&key);
    size_t before = allocated();
    for (int i = 0; i < KEYS; i++) {
        key.status = i % 2 ? CH_KEY_ACTIVE : CH_KEY_DISABLED;
        put_key(&key);
    }
    key.status = CH_KEY_REVOKED;
    put_key(&key);
    assert_in_range(allocated(), 0, before + 512);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(providers_may_come_and_go_without_end),
        TEST(a_new_provider_has_no_tenants),
        TEST(a_key_with_one_network_is_small),
        TEST(a_key_that_changes_costs_no_more),
    };
    struct ch_why why;
    if (ch_secret_process_init(&why))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
