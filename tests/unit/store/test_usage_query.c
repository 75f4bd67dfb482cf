// SPDX-License-Identifier: Apache-2.0
#include "record_fixture.h"

#include "store/usage_query.h"
#include "store/usage_writer.h"

#include "base/id.h"

static struct ch_store *store;
static struct ch_usage_journal *journal;
static struct ch_why why;

static enum ch_err create_all(struct ch_db *db, void *arg, struct ch_why *reason)
{
    static const char *const providers[] = {"openai", "anthropic"};
    char token[CH_WRAPPED_KEY_MAX + 1];
    enum ch_err err = CH_OK;
    (void)arg;
    for (int i = 0; !err && i < 2; i++) {
        struct ch_provider_row row = {.type = CH_PROVIDER_OPENAI, .enabled = true};
        strcpy(row.name, providers[i]);
        strcpy(row.base_url, "https://api.openai.com/v1");
        err = ch_provider_create(db, ch_store_vault(store), &row, CH_SPAN("sk-012345"), reason);
    }
    for (int i = 1; !err && i <= 5; i++) { // keys 1 to 5, in three teams
        struct ch_key_row row = {.provider_count = 1};
        snprintf(row.name, sizeof row.name, "key-%d", i);
        strcpy(row.provider_names[0], "openai");
        snprintf(row.team, sizeof row.team, "team-%d", i > 3 ? 3 : i);
        strcpy(row.project, "p");
        strcpy(row.env, i > 3 ? "prod" : "dev");
        strcpy(row.service, "s");
        strcpy(row.tags, "a=1");
        err = ch_key_create(db, ch_store_pepper(store), &row, token, reason);
    }
    return err;
}

// Rows 1 to 20 of record_fixture.h, spread over hours: row n starts n half hours after midnight.
#define MIDNIGHT INT64_C(1789948800000) // 2026-09-21
static struct ch_usage_record make_record(int64_t id, struct fixture_texts *texts)
{
    struct ch_usage_record record = fixture_record(id, texts);
    record.started_at_ms = MIDNIGHT + id * 1800000;
    return record;
}

static int start(void **state)
{
    if (fixture_make_dir(state))
        return -1;
    store = fixture_open("a.db");
    assert_int_equal(ch_store_write(store, create_all, NULL, &why), CH_OK);
    assert_int_equal(
        ch_usage_journal_open(fixture_path("journal"), 1, 64 << 10, 16, &journal, &why), CH_OK);
    assert_int_equal(ch_usage_writer_start(store, journal, &why), CH_OK);
    for (int64_t id = 1; id <= 20; id++) {
        struct fixture_texts texts;
        struct ch_usage_record record = make_record(id, &texts);
        if (id == 7) { // an unpriced model
            record.is_priced = false;
            record.model_sent = CH_SPAN("unknown-model");
        }
        if (id == 8) {
            record.status = 429;
            record.end_reason = CH_END_DENIED;
            record.first_byte_us = -1;
        }
        if (id == 9) { // no price either, but for another reason
            record.is_priced = false;
            record.end_reason = CH_END_CRASH;
        }
        assert_int_equal(ch_usage_journal_append(journal, 0, &record), CH_OK);
    }
    return 0;
}

static int stop(void **state)
{
    ch_usage_writer_stop(store);
    ch_usage_journal_close(journal);
    ch_store_close(store);
    return fixture_remove_dir(state);
}

static json_t *list(const struct ch_usage_filter *filter)
{
    json_t *json = NULL;
    enum ch_err err = ch_usage_list(store, filter, &json, &why);
    if (err)
        fail_msg("list: %s", why.text);
    assert_string_equal(json_string_value(json_object_get(json, "schema")), "chaperone.usage/1");
    return json;
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    if (!text)
        fail_msg("no text \"%s\"", name);
    return text;
}

static int64_t int_of(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_integer(value))
        fail_msg("no integer \"%s\"", name);
    return json_integer_value(value);
}

// The ids of the listed rows, as "20 19 18".
static void assert_ids(const struct ch_usage_filter *filter, const char *expected)
{
    char ids[256] = "";
    size_t index;
    json_t *json = list(filter), *item;
    json_array_foreach(json_object_get(json, "items"), index, item)
    {
        int64_t id;
        assert_int_equal(ch_id_parse(ch_span_of(text_of(item, "id")), &id), CH_OK);
        snprintf(ids + strlen(ids), sizeof ids - strlen(ids), "%s%lld", index ? " " : "",
                 (long long)id);
    }
    assert_string_equal(ids, expected);
    json_decref(json);
}

static void lists_newest_first_what_was_just_appended(void **state)
{
    (void)state;
    assert_ids(&(struct ch_usage_filter){.limit = 3}, "20 19 18");
    assert_ids(&(struct ch_usage_filter){0}, "20 19 18 17 16 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1");
    assert_ids(&(struct ch_usage_filter){.after_id = 17, .limit = 2}, "18 19");
    assert_ids(&(struct ch_usage_filter){.after_id = 20}, "");
    assert_ids(&(struct ch_usage_filter){.from_ms = MIDNIGHT + 3 * 1800000,
                                         .to_ms = MIDNIGHT + 6 * 1800000},
               "5 4 3");
}

// A row with an id of its own time, or of another one: as when the clock has stepped back.
static int64_t append_at(int64_t started_at_ms, int64_t id_ms)
{
    struct fixture_texts texts;
    struct ch_usage_record record = fixture_record(1, &texts);
    record.id = ch_id_floor(id_ms);
    record.started_at_ms = started_at_ms;
    record.key_id = 1;
    assert_int_equal(ch_usage_journal_append(journal, 0, &record), CH_OK);
    return record.id;
}

static void assert_found(int64_t from_ms, int64_t to_ms, const char *expected)
{
    assert_ids(&(struct ch_usage_filter){.from_ms = from_ms, .to_ms = to_ms}, expected);
    assert_ids(&(struct ch_usage_filter){.from_ms = from_ms, .to_ms = to_ms, .key = "key-1"},
               expected);
}

static void finds_rows_by_time_whatever_their_ids_say(void **state)
{
    (void)state;
    enum { SECOND = 1000, HOUR = 3600 * SECOND };
    const int64_t noon = MIDNIGHT - 12 * HOUR; // no other row is of that day
    char expected[128];
    int64_t a = append_at(noon, noon);
    int64_t b = append_at(noon + 1, noon + 1);
    int64_t c = append_at(noon + 2, noon + 2 + 10 * SECOND); // as far ahead as is not astray
    int64_t d = append_at(noon + 2, noon + 3 + 10 * SECOND);
    int64_t e = append_at(noon + 2, noon + 9 * HOUR);
    int64_t f = append_at(noon + 2, noon - 9 * HOUR); // impossible, but found
    int64_t g = append_at(noon + 3, noon + 3);

    snprintf(expected, sizeof expected, "%lld", (long long)a);
    assert_found(noon, noon + 1, expected);
    snprintf(expected, sizeof expected, "%lld %lld", (long long)b, (long long)a);
    assert_found(noon - 1, noon + 2, expected);
    snprintf(expected, sizeof expected, "%lld %lld %lld %lld", (long long)e, (long long)d,
             (long long)c, (long long)f);
    assert_found(noon + 2, noon + 3, expected);
    snprintf(expected, sizeof expected, "%lld", (long long)g);
    assert_found(noon + 3, noon + HOUR, expected);
    assert_found(noon + 4, noon + HOUR, "");
    assert_found(INT64_MAX - 1, INT64_MAX, "");
    snprintf(expected, sizeof expected, "%lld %lld", (long long)e, (long long)d);
    assert_ids(&(struct ch_usage_filter){.limit = 2}, expected); // the highest ids of all
}

static void filters_by_each_dimension(void **state)
{
    (void)state;
    assert_ids(&(struct ch_usage_filter){.key = "key-3"}, "17 12 7 2"); // id % 5 + 1 = 3
    assert_ids(&(struct ch_usage_filter){.key = "key-3", .limit = 2}, "17 12");
    assert_ids(&(struct ch_usage_filter){.key = "key-3", .after_id = 2}, "7 12 17");
    assert_ids(&(struct ch_usage_filter){.key = "key-3",
                                         .from_ms = MIDNIGHT + 7 * 1800000,
                                         .to_ms = MIDNIGHT + 17 * 1800000},
               "12 7");
    assert_ids(&(struct ch_usage_filter){.key = "nobody"}, "");
    assert_ids(&(struct ch_usage_filter){.key = "' OR 1=1 --"}, "");
    assert_ids(&(struct ch_usage_filter){.team = "team-3", .limit = 3}, "20 17 14"); // id % 3 + 1
    assert_ids(&(struct ch_usage_filter){.team = "team-3", .env = "prod"}, "");
    assert_ids(&(struct ch_usage_filter){.project = "p", .limit = 1}, "20");
    assert_ids(&(struct ch_usage_filter){.provider = "anthropic", .limit = 2}, "19 17");
    assert_ids(&(struct ch_usage_filter){.model = "model-7"}, "18 7"); // 7: asked, but not sent
    assert_ids(&(struct ch_usage_filter){.model = "unknown-model"}, "7");
}

static void gives_every_column(void **state)
{
    (void)state;
    json_t *json = list(&(struct ch_usage_filter){.after_id = 18, .limit = 1});
    const json_t *item = json_array_get(json_object_get(json, "items"), 0);
    assert_int_equal(json_object_size(item), 55);
    assert_string_equal(text_of(item, "id"), "req_0000000000J");
    assert_string_equal(text_of(item, "at"), "2026-09-21T09:30:00.000Z");
    assert_string_equal(text_of(item, "key"), "key-5");
    assert_string_equal(text_of(item, "team"), "team-2");
    assert_string_equal(text_of(item, "project"), "p");
    assert_string_equal(text_of(item, "env"), "dev");
    assert_string_equal(text_of(item, "service"), "s");
    assert_string_equal(text_of(item, "tags"), "a=1");
    assert_string_equal(text_of(item, "provider"), "anthropic");
    assert_string_equal(text_of(item, "dialect"), "anthropic");
    assert_string_equal(text_of(item, "endpoint"), "messages");
    assert_string_equal(text_of(item, "model_asked"), "model-8");
    assert_string_equal(text_of(item, "model_sent"), "model-8");
    assert_string_equal(text_of(item, "model_served"), "model-8");
    assert_int_equal(int_of(item, "status"), 200);
    assert_true(json_is_true(json_object_get(item, "is_stream")));
    assert_string_equal(text_of(item, "end_reason"), "done");
    assert_string_equal(text_of(item, "grade"), "exact");
    assert_int_equal(int_of(item, "input_tokens"), 19);
    assert_int_equal(int_of(item, "cache_read_tokens"), 20);
    assert_int_equal(int_of(item, "cache_write_5m_tokens"), 21);
    assert_int_equal(int_of(item, "cache_write_1h_tokens"), 22);
    assert_int_equal(int_of(item, "audio_in_tokens"), 23);
    assert_int_equal(int_of(item, "image_in_tokens"), 24);
    assert_int_equal(int_of(item, "output_tokens"), 25);
    assert_int_equal(int_of(item, "reasoning_tokens"), 26);
    assert_int_equal(int_of(item, "audio_out_tokens"), 27);
    assert_int_equal(int_of(item, "image_out_tokens"), 28);
    assert_int_equal(int_of(item, "searches"), 3);
    assert_int_equal(int_of(item, "cache_read_audio_tokens"), 39);
    assert_int_equal(int_of(item, "cache_read_image_tokens"), 40);
    assert_int_equal(int_of(item, "video_in_tokens"), 41);
    assert_int_equal(int_of(item, "video_out_tokens"), 42);
    assert_int_equal(int_of(item, "audio_ms"), 43);
    assert_int_equal(int_of(item, "characters"), 44);
    assert_int_equal(int_of(item, "images"), 45);
    assert_int_equal(int_of(item, "image_width"), 46);
    assert_int_equal(int_of(item, "image_height"), 47);
    assert_string_equal(text_of(item, "image_quality"), "low");
    assert_int_equal(int_of(item, "side_cost_nano_usd"), 190);
    assert_string_equal(text_of(item, "tier"), "flex");
    assert_int_equal(int_of(item, "cost_nano_usd"), 19000);
    assert_string_equal(text_of(item, "cost_usd"), "0.000019000");
    assert_string_equal(text_of(item, "catalogue"), "2026-08-01-3f2a91c0");
    assert_int_equal(int_of(item, "latency_us"), 133);
    assert_int_equal(int_of(item, "first_byte_us"), 57);
    assert_int_equal(int_of(item, "added_us"), 19);
    assert_int_equal(int_of(item, "tokens_per_second"), 1394737); // 106 tokens in 76 µs
    assert_int_equal(int_of(item, "request_bytes"), 20);
    assert_int_equal(int_of(item, "response_bytes"), 21);
    assert_string_equal(text_of(item, "upstream_id"), "chatcmpl-19");
    assert_string_equal(text_of(item, "user_agent"), "ttttttttttttttttttt");
    assert_string_equal(text_of(item, "client_address"), "2001:db8::1");
    assert_string_equal(text_of(item, "rule"), "");
    assert_true(json_is_false(json_object_get(item, "is_corrected")));
    json_decref(json);
}

static void gives_null_for_what_is_not_known(void **state)
{
    (void)state;
    json_t *json = list(&(struct ch_usage_filter){.after_id = 6, .limit = 2});
    const json_t *items = json_object_get(json, "items");
    assert_true(json_is_null(json_object_get(json_array_get(items, 0), "cost_nano_usd")));
    assert_true(json_is_null(json_object_get(json_array_get(items, 0), "cost_usd")));
    assert_true(json_is_null(json_object_get(json_array_get(items, 1), "first_byte_us")));
    json_decref(json);
}

static json_t *summary(const struct ch_usage_filter *filter, const char *by)
{
    json_t *json = NULL;
    enum ch_err err = ch_usage_summary(store, filter, by, &json, &why);
    if (err)
        fail_msg("summary: %s", why.text);
    assert_string_equal(text_of(json, "schema"), "chaperone.usage_summary/1");
    return json;
}

static void sums_everything(void **state)
{
    (void)state;
    json_t *json = summary(&(struct ch_usage_filter){0}, "");
    const json_t *total = json_object_get(json, "total");
    assert_int_equal(json_array_size(json_object_get(json, "by")), 0);
    assert_int_equal(json_array_size(json_object_get(json, "items")), 1);
    assert_int_equal(int_of(total, "requests"), 20);
    assert_int_equal(int_of(total, "errors"), 2); // the denial and the crash
    assert_int_equal(int_of(total, "unpriced_requests"), 2);
    assert_int_equal(int_of(total, "input_tokens"), 6 * 210 + 20 * 15);
    assert_int_equal(int_of(total, "cached_tokens"), 210 + 20);
    assert_int_equal(int_of(total, "output_tokens"), 4 * 210 + 20 * (6 + 7 + 8 + 9));
    assert_int_equal(int_of(total, "cost_nano_usd"), (210 - 7 - 9) * 1000);
    assert_string_equal(text_of(total, "cost_usd"), "0.000194000");
    json_decref(json);
}

static void sums_by_dimensions(void **state)
{
    (void)state;
    json_t *json = summary(&(struct ch_usage_filter){0}, "team,provider");
    const json_t *items = json_object_get(json, "items");
    const json_t *item = json_array_get(items, 0);
    assert_string_equal(json_string_value(json_array_get(json_object_get(json, "by"), 1)),
                        "provider");
    assert_int_equal(json_array_size(items), 6);
    assert_string_equal(text_of(item, "team"), "team-1");
    assert_string_equal(text_of(item, "provider"), "anthropic");
    assert_int_equal(int_of(item, "requests"), 3); // 3, 9, 15
    json_decref(json);

    json = summary(&(struct ch_usage_filter){.key = "key-1"}, "key,model,day");
    items = json_object_get(json, "items");
    assert_int_equal(json_array_size(items), 4); // 5, 10, 15, 20
    assert_string_equal(text_of(json_array_get(items, 0), "model"), "model-10");
    assert_string_equal(text_of(json_array_get(items, 0), "day"), "2026-09-21");
    json_decref(json);

    json = summary(&(struct ch_usage_filter){.from_ms = MIDNIGHT + 1, .to_ms = MIDNIGHT + 3600001},
                   "hour"); // widened to two hours: rows 1, 2 and 3
    items = json_object_get(json, "items");
    assert_int_equal(json_array_size(items), 2);
    assert_string_equal(text_of(json_array_get(items, 0), "hour"), "2026-09-21T00:00:00Z");
    assert_int_equal(int_of(json_object_get(json, "total"), "requests"), 3);
    json_decref(json);

    json = summary(&(struct ch_usage_filter){.env = "nowhere"}, "project,env,service");
    assert_int_equal(json_array_size(json_object_get(json, "items")), 0);
    assert_int_equal(int_of(json_object_get(json, "total"), "requests"), 0);
    json_decref(json);
}

static enum ch_err run_sql(struct ch_db *db, void *sql, struct ch_why *reason)
{
    struct sqlite3_stmt *stmt;
    enum ch_err err = ch_db_prepare(db, sql, &stmt, reason);
    return err ? err : ch_db_run(db, stmt, reason);
}

static void sums_stop_at_the_largest_number(void **state)
{
    (void)state;
    static char to_the_brim[] =
        "UPDATE usage_hourly SET cost_nano_usd = 9223372036854775807, "
        "input_tokens = 9223372036854775807, image_in_tokens = 9223372036854775807";
    ch_usage_writer_flush(store);
    assert_int_equal(ch_store_write(store, run_sql, to_the_brim, &why), CH_OK);
    json_t *json = summary(&(struct ch_usage_filter){0}, "team");
    const json_t *total = json_object_get(json, "total");
    assert_int_equal(int_of(total, "requests"), 20);
    assert_int_equal(int_of(total, "cost_nano_usd"), INT64_MAX);
    assert_int_equal(int_of(total, "input_tokens"), INT64_MAX);
    const json_t *item = json_array_get(json_object_get(json, "items"), 0);
    assert_int_equal(int_of(item, "cost_nano_usd"), INT64_MAX);
    assert_int_equal(int_of(item, "input_tokens"), INT64_MAX);
    json_decref(json);
}

static void names_an_unknown_dimension(void **state)
{
    (void)state;
    json_t *json;
    struct ch_usage_filter all = {0};
    assert_int_equal(ch_usage_summary(store, &all, "team,colour", &json, &why), CH_ERR_INVALID);
    assert_non_null(strstr(why.text, "\"colour\""));
    assert_int_equal(ch_usage_summary(store, &all, "team,", &json, &why), CH_OK);
    json_decref(json);
    assert_int_equal(ch_usage_summary(store, &all, ",team", &json, &why), CH_ERR_INVALID);
    assert_int_equal(ch_usage_summary(store, &all, "key,team,env,model", &json, &why),
                     CH_ERR_INVALID);
}

static void lists_models_without_a_price(void **state)
{
    (void)state;
    json_t *json;
    assert_int_equal(ch_usage_unpriced(store, &json, &why), CH_OK);
    const json_t *items = json_object_get(json, "items"), *item = json_array_get(items, 0);
    assert_string_equal(text_of(json, "schema"), "chaperone.unpriced/1");
    assert_int_equal(json_array_size(items), 1);
    assert_string_equal(text_of(item, "provider"), "anthropic");
    assert_string_equal(text_of(item, "model"), "unknown-model");
    assert_int_equal(int_of(item, "requests"), 1);
    assert_string_equal(text_of(item, "first_at"), "2026-09-21T03:30:00.000Z");
    assert_string_equal(text_of(item, "last_at"), "2026-09-21T03:30:00.000Z");
    json_decref(json);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(lists_newest_first_what_was_just_appended),
        TEST(finds_rows_by_time_whatever_their_ids_say),
        TEST(filters_by_each_dimension),
        TEST(gives_every_column),
        TEST(gives_null_for_what_is_not_known),
        TEST(sums_everything),
        TEST(sums_by_dimensions),
        TEST(sums_stop_at_the_largest_number),
        TEST(names_an_unknown_dimension),
        TEST(lists_models_without_a_price),
    };
    fixture_init_process();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
