// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include "store/budget_store.h"

static struct ch_store *store;
static struct ch_why why;

static enum ch_err create_subjects(struct ch_db *db, void *arg, struct ch_why *reason)
{
    char token[CH_WRAPPED_KEY_MAX + 1];
    struct ch_provider_row provider = {.type = CH_PROVIDER_OPENAI, .enabled = true};
    struct ch_key_row *key = calloc(1, sizeof *key);
    (void)arg;
    strcpy(provider.name, "openai");
    strcpy(provider.base_url, "https://api.openai.com/v1");
    enum ch_err err =
        ch_provider_create(db, ch_store_vault(store), &provider, CH_SPAN("sk-0123456789"), reason);
    strcpy(key->name, "search-api");
    if (!err)
        err = ch_key_create(db, ch_store_pepper(store), key, token, reason);
    free(key);
    return err;
}

static int start(void **state)
{
    if (fixture_make_dir(state))
        return -1;
    store = fixture_open("a.db");
    assert_int_equal(ch_store_write(store, create_subjects, NULL, &why), CH_OK);
    return 0;
}

static int stop(void **state)
{
    ch_store_close(store);
    return fixture_remove_dir(state);
}

static struct ch_budget_row make_row(enum ch_budget_scope scope, const char *subject)
{
    struct ch_budget_row row = {
        .scope = scope,
        .period = CH_BUDGET_DAY,
        .cap_nano_usd = INT64_C(100000000000),
        .mode = CH_BUDGET_LEARNED,
        .time_zone = "Asia/Kolkata",
        .thresholds = {{100, 50, 80, 50}},
        .cuts_streams = true,
    };
    strcpy(row.subject, subject);
    return row;
}

static enum ch_err put_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_budget_put(db, arg, reason);
}

static enum ch_err put(struct ch_budget_row *row)
{
    return ch_store_write(store, put_in, row, &why);
}

static enum ch_err get_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct ch_budget_row *row = arg, read;
    enum ch_err err = ch_budget_get(db, row->scope, row->subject, row->period, &read, reason);
    if (!err)
        *row = read;
    return err;
}

static enum ch_err get(enum ch_budget_scope scope, const char *subject,
                       enum ch_budget_period period, struct ch_budget_row *row_out)
{
    *row_out = (struct ch_budget_row){.scope = scope, .period = period};
    strcpy(row_out->subject, subject);
    return ch_store_read(store, get_in, row_out, &why);
}

static enum ch_err delete_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct ch_budget_row *row = arg;
    return ch_budget_delete(db, row->scope, row->subject, row->period, &row->id, reason);
}

static void assert_same(const struct ch_budget_row *a, const struct ch_budget_row *b)
{
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->scope, b->scope);
    assert_int_equal(a->subject_id, b->subject_id);
    assert_string_equal(a->subject, b->subject);
    assert_int_equal(a->period, b->period);
    assert_int_equal(a->cap_nano_usd, b->cap_nano_usd);
    assert_int_equal(a->mode, b->mode);
    assert_string_equal(a->time_zone, b->time_zone);
    assert_memory_equal(&a->thresholds, &b->thresholds, sizeof a->thresholds);
    assert_int_equal(a->is_shadow, b->is_shadow);
    assert_int_equal(a->cuts_streams, b->cuts_streams);
    assert_int_equal(a->created_at_ms, b->created_at_ms);
    assert_int_equal(a->updated_at_ms, b->updated_at_ms);
}

static void reads_and_writes_thresholds(void **state)
{
    (void)state;
    static const struct {
        const char *text, *normal; // NULL: refused
    } cases[] = {
        {"80", "80"},
        {" 100, 50 ,80,50 ", "50,80,100"},
        {"", ""},
        {"255,1", "1,255"},
        {"1,2,3,4,5,6,7,8", "1,2,3,4,5,6,7,8"},
        {"0", NULL},
        {"256", NULL},
        {"80,", NULL},
        {",80", NULL},
        {",", NULL},
        {"8 0", NULL},
        {"-5", NULL},
        {"80%", NULL},
        {"80;90", NULL},
    };
    struct ch_budget_thresholds thresholds;
    char text[CH_BUDGET_THRESHOLDS_TEXT];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum ch_err err = ch_budget_thresholds_parse(ch_span_of(cases[i].text), &thresholds, &why);
        assert_int_equal(err, cases[i].normal ? CH_OK : CH_ERR_INVALID);
        if (err)
            continue;
        ch_budget_thresholds_format(&thresholds, text);
        assert_string_equal(text, cases[i].normal);
    }
    assert_int_equal(ch_budget_thresholds_parse(CH_SPAN("1,2,3,4,5,6,7,8,9"), &thresholds, &why),
                     CH_ERR_LIMIT);
    struct ch_budget_thresholds longest = {{100, 101, 102, 103, 104, 105, 106, 255}};
    ch_budget_thresholds_format(&longest, text);
    assert_string_equal(text, "100,101,102,103,104,105,106,255");
}

static void gives_back_what_was_put(void **state)
{
    (void)state;
    static const struct {
        enum ch_budget_scope scope;
        const char *subject;
        bool has_id;
    } cases[] = {
        {CH_BUDGET_OF_KEY, "search-api", true},  {CH_BUDGET_OF_TEAM, "search", false},
        {CH_BUDGET_OF_PROJECT, "search", false}, {CH_BUDGET_OF_PROVIDER, "openai", true},
        {CH_BUDGET_OF_ALL, "", false},
    };
    int64_t last_id = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (unsigned period = 0; period < CH_BUDGET_PERIODS; period++) {
            struct ch_budget_row row = make_row(cases[i].scope, cases[i].subject), read;
            row.period = (enum ch_budget_period)period;
            row.mode = (enum ch_budget_mode)(period % CH_BUDGET_MODES);
            row.is_shadow = period % 2;
            assert_int_equal(put(&row), CH_OK);
            assert_true(row.id > last_id);
            last_id = row.id;
            assert_int_equal(row.subject_id != 0, cases[i].has_id);
            assert_int_equal(row.thresholds.percent[0], 50); // in order, each once
            assert_int_equal(row.thresholds.percent[2], 100);
            assert_int_equal(row.thresholds.percent[3], 0);
            assert_int_equal(get(row.scope, row.subject, row.period, &read), CH_OK);
            assert_same(&read, &row);
            assert_int_equal(read.mode, period % CH_BUDGET_MODES);
            assert_true(read.cuts_streams);
        }
}

static enum ch_err note_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct ch_budget_alert *alert = arg;
    bool is_new;
    enum ch_err err = ch_budget_note_alert(db, alert, &is_new, reason);
    alert->cap_nano_usd = is_new; // for the caller
    return err;
}

static bool note(int64_t budget_id, int64_t period_start_ms, unsigned percent, int64_t fired_at_ms)
{
    struct ch_budget_alert alert = {budget_id, period_start_ms, percent, fired_at_ms, 80, 100};
    assert_int_equal(ch_store_write(store, note_in, &alert, &why), CH_OK);
    return alert.cap_nano_usd != 0;
}

static enum ch_err highest_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct ch_budget_alert *alert = arg;
    return ch_budget_highest_alert(db, alert->budget_id, alert->period_start_ms, &alert->percent,
                                   reason);
}

static unsigned highest(int64_t budget_id, int64_t period_start_ms)
{
    struct ch_budget_alert alert = {.budget_id = budget_id, .period_start_ms = period_start_ms};
    assert_int_equal(ch_store_read(store, highest_in, &alert, &why), CH_OK);
    return alert.percent;
}

static void keeps_identity_and_alerts_when_it_is_edited(void **state)
{
    (void)state;
    struct ch_budget_row row = make_row(CH_BUDGET_OF_TEAM, "search"), edit = row, read;
    assert_int_equal(put(&row), CH_OK);
    assert_true(note(row.id, 1000, 80, 5));
    edit.cap_nano_usd = 0;
    edit.mode = CH_BUDGET_SOFT;
    edit.is_shadow = true;
    edit.cuts_streams = false;
    edit.thresholds = (struct ch_budget_thresholds){{90}};
    strcpy(edit.time_zone, "");
    assert_int_equal(put(&edit), CH_OK);
    assert_int_equal(edit.id, row.id);
    assert_int_equal(edit.created_at_ms, row.created_at_ms);
    assert_int_equal(get(CH_BUDGET_OF_TEAM, "search", CH_BUDGET_DAY, &read), CH_OK);
    assert_same(&read, &edit);
    assert_int_equal(read.cap_nano_usd, 0);
    assert_int_equal(read.mode, CH_BUDGET_SOFT);
    assert_string_equal(read.time_zone, "UTC");
    assert_int_equal(read.thresholds.percent[0], 90);
    assert_true(read.is_shadow && !read.cuts_streams);
    assert_int_equal(highest(row.id, 1000), 80);
}

static void refuses_what_no_budget_can_be(void **state)
{
    (void)state;
    static const struct {
        enum ch_budget_scope scope;
        const char *subject;
        enum ch_err err;
    } cases[] = {
        {CH_BUDGET_OF_KEY, "nobody", CH_ERR_NOT_FOUND},
        {CH_BUDGET_OF_PROVIDER, "nobody", CH_ERR_NOT_FOUND},
        {CH_BUDGET_OF_KEY, "", CH_ERR_INVALID},
        {CH_BUDGET_OF_TEAM, "", CH_ERR_INVALID},
        {CH_BUDGET_OF_PROJECT, "a project", CH_ERR_INVALID},
        {CH_BUDGET_OF_ALL, "search", CH_ERR_INVALID},
    };
    struct ch_budget_row row;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        row = make_row(cases[i].scope, cases[i].subject);
        assert_int_equal(put(&row), cases[i].err);
        assert_int_equal(get(cases[i].scope, cases[i].subject, CH_BUDGET_DAY, &row), cases[i].err);
    }
    row = make_row(CH_BUDGET_OF_ALL, "");
    row.cap_nano_usd = -1;
    assert_int_equal(put(&row), CH_ERR_INVALID);
    row = make_row(CH_BUDGET_OF_ALL, "");
    strcpy(row.time_zone, "../../etc/passwd");
    assert_int_equal(put(&row), CH_ERR_INVALID);
    assert_int_equal(get(CH_BUDGET_OF_ALL, "", CH_BUDGET_DAY, &row), CH_ERR_NOT_FOUND);
    assert_string_equal(why.text, "there is no budget of all for a day");
    assert_int_equal(get(CH_BUDGET_OF_TEAM, "x", CH_BUDGET_TOTAL, &row), CH_ERR_NOT_FOUND);
    assert_string_equal(why.text, "there is no budget of team x for the total");
}

static enum ch_err take_subject(void *arg, const struct ch_budget_row *row)
{
    char *list = arg;
    sprintf(list + strlen(list), "%s:%s ", ch_budget_scope_name(row->scope), row->subject);
    return strcmp(row->subject, "stop") == 0 ? CH_ERR_LIMIT : CH_OK;
}

static enum ch_err each_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_budget_each(db, take_subject, arg, reason);
}

static enum ch_err delete_provider_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    return ch_provider_delete(db, "openai", arg, reason);
}

static void lists_and_deletes(void **state)
{
    (void)state;
    struct ch_budget_row rows[] = {
        make_row(CH_BUDGET_OF_PROVIDER, "openai"),
        make_row(CH_BUDGET_OF_KEY, "search-api"),
        make_row(CH_BUDGET_OF_ALL, ""),
        make_row(CH_BUDGET_OF_TEAM, "stop"),
        make_row(CH_BUDGET_OF_TEAM, "z"),
    };
    char list[160] = "";
    for (int i = 0; i < 5; i++)
        assert_int_equal(put(&rows[i]), CH_OK);
    assert_int_equal(ch_store_read(store, each_in, list, &why), CH_ERR_LIMIT);
    assert_string_equal(list, "provider:openai key:search-api all: team:stop ");
    assert_int_equal(ch_store_write(store, delete_in, &rows[3], &why), CH_OK);
    assert_int_equal(ch_store_write(store, delete_in, &rows[3], &why), CH_ERR_NOT_FOUND);
    list[0] = '\0';
    assert_int_equal(ch_store_read(store, each_in, list, &why), CH_OK);
    assert_string_equal(list, "provider:openai key:search-api all: team:z ");
    int64_t provider_id;
    assert_int_equal(ch_store_write(store, delete_provider_in, &provider_id, &why), CH_OK);
    list[0] = '\0';
    assert_int_equal(ch_store_read(store, each_in, list, &why), CH_OK);
    assert_string_equal(list, "key:search-api all: team:z ");
}

// ---- alerts

static void notes_each_threshold_once_a_period(void **state)
{
    (void)state;
    struct ch_budget_row day = make_row(CH_BUDGET_OF_TEAM, "search"), total = day;
    total.period = CH_BUDGET_TOTAL;
    assert_int_equal(put(&day), CH_OK);
    assert_int_equal(put(&total), CH_OK);
    assert_int_equal(highest(day.id, 1000), 0);
    assert_true(note(day.id, 1000, 80, 1));
    assert_false(note(day.id, 1000, 80, 2));
    assert_true(note(day.id, 1000, 50, 3));
    assert_true(note(day.id, 2000, 50, 4));
    assert_true(note(total.id, INT64_MIN, 100, 5));
    assert_false(note(total.id, INT64_MIN, 100, 6));
    assert_int_equal(highest(day.id, 1000), 80);
    assert_int_equal(highest(day.id, 2000), 50);
    assert_int_equal(highest(day.id, 3000), 0);
    assert_int_equal(highest(total.id, INT64_MIN), 100);
    // Forgotten with the budget; a late one of a deleted budget goes nowhere.
    assert_int_equal(ch_store_write(store, delete_in, &day, &why), CH_OK);
    assert_int_equal(highest(day.id, 1000), 0);
    assert_false(note(day.id, 1000, 90, 7));
    assert_int_equal(highest(day.id, 1000), 0);
}

static enum ch_err take_alert(void *arg, const struct ch_budget_alert *alert,
                              const struct ch_budget_row *budget)
{
    char *list = arg;
    assert_int_equal(alert->budget_id, budget->id);
    assert_int_equal(alert->spent_nano_usd, 80);
    assert_int_equal(alert->cap_nano_usd, 100);
    sprintf(list + strlen(list), "%s/%lld/%u@%lld ", budget->subject,
            (long long)alert->period_start_ms, alert->percent, (long long)alert->fired_at_ms);
    return alert->percent == 99 ? CH_ERR_LIMIT : CH_OK;
}

struct alert_list {
    int64_t limit;
    char text[256];
};

static enum ch_err alerts_in(struct ch_db *db, void *arg, struct ch_why *reason)
{
    struct alert_list *list = arg;
    return ch_budget_alerts_each(db, list->limit, take_alert, list->text, reason);
}

static void lists_alerts_newest_first(void **state)
{
    (void)state;
    struct ch_budget_row a = make_row(CH_BUDGET_OF_TEAM, "a"), b = make_row(CH_BUDGET_OF_TEAM, "b");
    assert_int_equal(put(&a), CH_OK);
    assert_int_equal(put(&b), CH_OK);
    assert_true(note(a.id, 1000, 50, 10));
    assert_true(note(b.id, 1000, 50, 30));
    assert_true(note(b.id, 1000, 80, 30));
    assert_true(note(a.id, 2000, 50, 20));
    struct alert_list all = {.limit = 100}, some = {.limit = 2}, cut = {.limit = 100};
    assert_int_equal(ch_store_read(store, alerts_in, &all, &why), CH_OK);
    assert_string_equal(all.text, "b/1000/80@30 b/1000/50@30 a/2000/50@20 a/1000/50@10 ");
    assert_int_equal(ch_store_read(store, alerts_in, &some, &why), CH_OK);
    assert_string_equal(some.text, "b/1000/80@30 b/1000/50@30 ");
    assert_true(note(a.id, 3000, 99, 25));
    assert_int_equal(ch_store_read(store, alerts_in, &cut, &why), CH_ERR_LIMIT);
    assert_string_equal(cut.text, "b/1000/80@30 b/1000/50@30 a/3000/99@25 ");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_writes_thresholds),
        TEST(gives_back_what_was_put),
        TEST(keeps_identity_and_alerts_when_it_is_edited),
        TEST(refuses_what_no_budget_can_be),
        TEST(lists_and_deletes),
        TEST(notes_each_threshold_once_a_period),
        TEST(lists_alerts_newest_first),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
