// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include "store/limit_store.h"

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

static enum ch_err put_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_team_limits_put(db, arg, reason);
}

static enum ch_err get_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct ch_team_limits_row *row = arg;
    char team[CH_NAME_MAX + 1];
    strcpy(team, row->team);
    return ch_team_limits_get(db, team, row, reason);
}

static enum ch_err delete_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_team_limits_delete(db, arg, reason);
}

static struct ch_team_limits_row make_row(const char *team, int64_t rpm)
{
    struct ch_team_limits_row row = {
        .limits = {{rpm, 90000, 4}},
        .is_shadow = true,
    };
    strcpy(row.team, team);
    return row;
}

static enum ch_err take_name(void *arg, const struct ch_team_limits_row *row)
{
    char *list = arg;
    strcat(strcat(list, row->team), " ");
    return strcmp(row->team, "stop") == 0 ? CH_ERR_LIMIT : CH_OK;
}

static enum ch_err each_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_team_limits_each(db, take_name, arg, reason);
}

static void puts_edits_and_deletes(void **state)
{
    (void)state;
    struct ch_team_limits_row row = make_row("search", 60), read = {.team = "search"};
    char team[] = "search";
    assert_int_equal(ch_store_read(store, get_in, &read, &why), CH_ERR_NOT_FOUND);
    assert_int_equal(ch_store_write(store, put_in, &row, &why), CH_OK);
    assert_int_equal(ch_store_read(store, get_in, &read, &why), CH_OK);
    assert_int_equal(read.limits.limit[CH_RATE_REQUESTS], 60);
    assert_int_equal(read.limits.limit[CH_RATE_TOKENS], 90000);
    assert_int_equal(read.limits.limit[CH_RATE_IN_FLIGHT], 4);
    assert_true(read.is_shadow);
    assert_true(read.created_at_ms > 0);
    assert_int_equal(row.created_at_ms, read.created_at_ms);

    struct ch_team_limits_row edit = make_row("search", 120);
    edit.is_shadow = false;
    assert_int_equal(ch_store_write(store, put_in, &edit, &why), CH_OK);
    assert_int_equal(ch_store_read(store, get_in, &read, &why), CH_OK);
    assert_int_equal(read.limits.limit[CH_RATE_REQUESTS], 120);
    assert_false(read.is_shadow);
    assert_int_equal(read.created_at_ms, row.created_at_ms);

    assert_int_equal(ch_store_write(store, delete_in, team, &why), CH_OK);
    assert_int_equal(ch_store_write(store, delete_in, team, &why), CH_ERR_NOT_FOUND);
}

static void refuses_what_no_limit_can_be(void **state)
{
    (void)state;
    struct ch_team_limits_row row = make_row("a team", 60);
    assert_int_equal(ch_store_write(store, put_in, &row, &why), CH_ERR_INVALID);
    row = make_row("", 60);
    assert_int_equal(ch_store_write(store, put_in, &row, &why), CH_ERR_INVALID);
    row = make_row("search", 60);
    row.limits.limit[CH_RATE_TOKENS] = -1;
    assert_int_equal(ch_store_write(store, put_in, &row, &why), CH_ERR_INVALID);
    assert_non_null(strstr(why.text, "tpm"));
}

static void lists_in_order_of_team(void **state)
{
    (void)state;
    static const char *const teams[] = {"b", "stop", "x", "a"};
    char list[64] = "";
    for (int i = 0; i < 4; i++) {
        struct ch_team_limits_row row = make_row(teams[i], i);
        assert_int_equal(ch_store_write(store, put_in, &row, &why), CH_OK);
    }
    assert_int_equal(ch_store_read(store, each_in, list, &why), CH_ERR_LIMIT);
    assert_string_equal(list, "a b stop ");
    static char stop_name[] = "stop";
    assert_int_equal(ch_store_write(store, delete_in, stop_name, &why), CH_OK);
    list[0] = '\0';
    assert_int_equal(ch_store_read(store, each_in, list, &why), CH_OK);
    assert_string_equal(list, "a b x ");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(puts_edits_and_deletes),
        TEST(refuses_what_no_limit_can_be),
        TEST(lists_in_order_of_team),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
