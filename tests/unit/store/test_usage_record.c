// SPDX-License-Identifier: Apache-2.0
#include "record_fixture.h"

#include "store/usage_record.h"

static struct ch_span encode(const struct ch_usage_record *record, unsigned char *out)
{
    return (struct ch_span){(const char *)out, ch_usage_record_encode(record, out)};
}

static void gives_back_every_field(void **state)
{
    (void)state;
    unsigned char bytes[CH_RECORD_ENCODED_MAX];
    struct fixture_texts texts;
    for (int64_t id = 1; id < 200; id++) {
        struct ch_usage_record record = fixture_record(id, &texts), decoded;
        record.usage.us_region = id % 2;
        record.usage.eu_region = id % 3 == 0;
        record.usage.is_fast = id % 5 == 0;
        record.usage.tier = (enum ch_tier)(id % CH_TIERS);
        record.usage.threshold_tokens = id * 31;
        record.is_priced = id % 3;
        assert_int_equal(ch_usage_record_decode(encode(&record, bytes), &decoded), CH_OK);
        assert_true(fixture_is_same(&record, &decoded));
    }
}

static void cuts_what_is_too_long(void **state)
{
    (void)state;
    static char text[4096];
    unsigned char bytes[CH_RECORD_ENCODED_MAX];
    struct ch_span much = {text, sizeof text};
    struct ch_usage_record record = {.id = 1,
                                     .usage.images = 1,
                                     .model_asked = much,
                                     .model_sent = much,
                                     .model_served = much,
                                     .upstream_id = much,
                                     .user_agent = much,
                                     .client_address = much,
                                     .rule = much,
                                     .catalogue = much,
                                     .objects = much};
    struct ch_usage_record decoded;
    struct ch_span encoded = encode(&record, bytes);
    assert_int_equal(encoded.len, CH_RECORD_ENCODED_MAX);
    assert_int_equal(ch_usage_record_decode(encoded, &decoded), CH_OK);
    assert_int_equal(decoded.model_asked.len, CH_RECORD_MODEL);
    assert_int_equal(decoded.upstream_id.len, CH_RECORD_UPSTREAM_ID);
    assert_int_equal(decoded.catalogue.len, CH_RECORD_CATALOGUE);
    assert_int_equal(decoded.objects.len, CH_RECORD_OBJECT);
}

static void keeps_the_objects_it_has_room_for(void **state)
{
    (void)state;
    unsigned char bytes[CH_RECORD_ENCODED_MAX];
    uint64_t objects[CH_RECORD_OBJECTS];
    struct fixture_texts texts;
    struct ch_usage_record record = fixture_record(43, &texts), decoded;
    for (uint64_t i = 0; i < CH_RECORD_OBJECTS; i++)
        objects[i] = i << 56 | i;
    for (size_t count = 0; count <= CH_RECORD_OBJECTS; count++) {
        record.objects = (struct ch_span){(const char *)objects, count * sizeof objects[0]};
        struct ch_span encoded = encode(&record, bytes);
        assert_int_equal(ch_usage_record_decode(encoded, &decoded), CH_OK);
        assert_true(fixture_is_same(&record, &decoded));
        bool is_full = encoded.len + CH_RECORD_OBJECT > CH_RECORD_ENCODED_MAX;
        assert_true(decoded.objects.len == record.objects.len || is_full);
        assert_memory_equal(decoded.objects.ptr, objects, decoded.objects.len);
        encoded.len -= count ? 3 : 0;
        assert_int_equal(ch_usage_record_decode(encoded, &decoded),
                         count ? CH_ERR_CORRUPT : CH_OK);
    }
}

static void refuses_every_other_length(void **state)
{
    (void)state;
    unsigned char bytes[CH_RECORD_ENCODED_MAX + 8] = {0};
    struct fixture_texts texts;
    for (int64_t id = 42; id < 44; id++) { // one without and one with the part that few have
        struct ch_usage_record record = fixture_record(id, &texts), decoded;
        struct ch_span encoded = encode(&record, bytes);
        for (size_t len = 0; len <= sizeof bytes; len++) {
            enum ch_err err = ch_usage_record_decode((struct ch_span){encoded.ptr, len}, &decoded);
            assert_int_equal(err, len == encoded.len ? CH_OK : CH_ERR_CORRUPT);
        }
    }
}

static void keeps_most_records_short(void **state)
{
    (void)state;
    unsigned char bytes[CH_RECORD_ENCODED_MAX];
    struct ch_usage_record record = {.id = 1};
    assert_int_equal(encode(&record, bytes).len, CH_RECORD_FIXED);
    record.side_cost_nano_usd = 1;
    assert_int_equal(encode(&record, bytes).len, CH_RECORD_FIXED + CH_RECORD_RARE);
}

static void refuses_unknown_enums(void **state)
{
    (void)state;
    unsigned char bytes[CH_RECORD_ENCODED_MAX];
    struct fixture_texts texts;
    struct ch_usage_record good = fixture_record(43, &texts), bad[7], decoded;
    for (int i = 0; i < 7; i++)
        bad[i] = good;
    bad[0].grade = CH_GRADE_NONE + 1;
    bad[1].end_reason = CH_END_CRASH + 1;
    bad[2].dialect = CH_DIALECT_GEMINI + 1;
    bad[3].endpoint = CH_ENDPOINTS;
    bad[4].usage.tier = (enum ch_tier)CH_TIERS;
    bad[5].id = 0;
    bad[6].usage.image_quality = (enum ch_image_quality)CH_IMAGE_QUALITIES;
    for (int i = 0; i < 7; i++)
        assert_int_equal(ch_usage_record_decode(encode(&bad[i], bytes), &decoded), CH_ERR_CORRUPT);
    assert_int_equal(ch_usage_record_decode(encode(&good, bytes), &decoded), CH_OK);
}

static void names_grades_and_reasons(void **state)
{
    (void)state;
    assert_string_equal(ch_grade_name(CH_GRADE_EXACT), "exact");
    assert_string_equal(ch_grade_name(CH_GRADE_NONE), "none");
    assert_string_equal(ch_end_reason_name(CH_END_DONE), "done");
    assert_string_equal(ch_end_reason_name(CH_END_CRASH), "crash");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_back_every_field),     cmocka_unit_test(cuts_what_is_too_long),
        cmocka_unit_test(keeps_the_objects_it_has_room_for),
        cmocka_unit_test(refuses_every_other_length), cmocka_unit_test(refuses_unknown_enums),
        cmocka_unit_test(keeps_most_records_short),   cmocka_unit_test(names_grades_and_reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
