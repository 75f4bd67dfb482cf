// SPDX-License-Identifier: Apache-2.0
// Addresses from tests/table/address.tsv, lists from tests/table/cidr.tsv, then what tables cannot
// say.
#include "domain/cidr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

typedef void (*check_row_fn)(struct ch_span left, struct ch_span right);

static struct ch_span cell(const char *text)
{
    assert_non_null(text);
    return ch_span_of(strcmp(text, "-") == 0 ? "" : text);
}

static int check_table(const char *path, check_row_fn check_row)
{
    char line[1024];
    int rows = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        char *save = NULL;
        if (line[0] == '#')
            continue;
        struct ch_span left = cell(strtok_r(line, "\t\n", &save));
        check_row(left, cell(strtok_r(NULL, "\t\n", &save)));
        rows++;
    }
    fclose(file);
    return rows;
}

// ---- Classes

static void check_address(struct ch_span text, struct ch_span expected)
{
    unsigned char bytes[CH_ADDRESS_BYTES];
    size_t len;
    const char *name = "invalid";
    if (!ch_address_parse(text, bytes, &len)) {
        enum ch_address_class address_class = ch_address_classify(bytes, len);
        name = ch_address_class_name(address_class);
        assert_int_equal(ch_address_is_private(bytes, len), address_class != CH_ADDRESS_PUBLIC);
    }
    if (!ch_span_eq(ch_span_of(name), expected))
        fail_msg("%.*s: %s, expected %.*s", CH_SPAN_ARG(text), name, CH_SPAN_ARG(expected));
}

static void addresses_have_their_class(void **state)
{
    (void)state;
    assert_true(check_table(CH_TABLE_DIR "/address.tsv", check_address) >= 60);
}

static void a_mapped_address_is_the_one_it_maps(void **state)
{
    (void)state;
    const unsigned char mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1};
    unsigned char bytes[CH_ADDRESS_BYTES];
    size_t len;
    assert_int_equal(ch_address_classify(mapped, 16), CH_ADDRESS_PRIVATE);
    assert_int_equal(ch_address_parse(CH_SPAN("::ffff:10.0.0.1"), bytes, &len), CH_OK);
    assert_int_equal(len, 4);
    assert_memory_equal(bytes, mapped + 12, 4);
}

static void bytes_of_another_length_are_never_public(void **state)
{
    (void)state;
    static const unsigned char bytes[32] = {8, 8, 8, 8};
    for (size_t len = 0; len <= sizeof bytes; len++) {
        if (len == 4 || len == 16)
            continue;
        assert_int_equal(ch_address_classify(bytes, len), CH_ADDRESS_MALFORMED);
        assert_true(ch_address_is_private(bytes, len));
    }
    assert_string_equal(ch_address_class_name(CH_ADDRESS_MALFORMED), "malformed");
}

// ---- Lists

static void check_list(struct ch_span typed, struct ch_span expected)
{
    struct ch_cidr_list list = {.count = 99};
    struct ch_why why = {""};
    struct ch_buf out;
    enum ch_err err = ch_cidr_list_parse(typed, &list, &why);
    if (ch_span_starts(expected, CH_SPAN("!"))) {
        assert_int_equal(err, CH_ERR_INVALID);
        assert_int_equal(list.count, 99);
        if (!memmem(why.text, strlen(why.text), expected.ptr + 1, expected.len - 1))
            fail_msg("%.*s: \"%s\", expected %.*s", CH_SPAN_ARG(typed), why.text,
                     CH_SPAN_ARG(expected));
        return;
    }
    ch_buf_init(&out, 4096);
    if (err)
        fail_msg("%.*s: %s", CH_SPAN_ARG(typed), why.text);
    assert_int_equal(ch_cidr_list_format(&list, &out), CH_OK);
    if (!ch_span_eq(ch_buf_span(&out), expected))
        fail_msg("%.*s: %.*s, expected %.*s", CH_SPAN_ARG(typed), CH_SPAN_ARG(ch_buf_span(&out)),
                 CH_SPAN_ARG(expected));
    ch_buf_fini(&out);
}

static void lists_are_normalised_or_refused(void **state)
{
    (void)state;
    assert_true(check_table(CH_TABLE_DIR "/cidr.tsv", check_list) >= 40);
}

static void list_of(const char *text, struct ch_cidr_list *list)
{
    struct ch_why why = {""};
    if (ch_cidr_list_parse(ch_span_of(text), list, &why))
        fail_msg("%s", why.text);
}

static void lists_allow_what_they_hold(void **state)
{
    (void)state;
    static const struct {
        const char *list, *address;
        bool allowed;
    } cases[] = {
        {"", "192.0.2.7", true},
        {"", "2001:db8::1", true},
        {"", "no address", true},
        {"10.0.0.0/8", "no address", false},
        {"10.0.0.0/8", "", false},
        {"10.0.0.0/8", "10.255.255.255", true},
        {"10.0.0.0/8", "11.0.0.0", false},
        {"10.0.0.0/8", "9.255.255.255", false},
        {"10.0.0.0/8", "::ffff:10.1.2.3", true},
        {"10.0.0.0/8", "::10.1.2.3", false},
        {"::ffff:10.0.0.0/104", "10.1.2.3", true},
        {"192.0.2.7", "192.0.2.7", true},
        {"192.0.2.7", "192.0.2.6", false},
        {"192.0.2.7", "192.0.2.8", false},
        {"192.0.2.128/25", "192.0.2.127", false},
        {"192.0.2.128/25", "192.0.2.128", true},
        {"192.0.2.0/23", "192.0.3.255", true},
        {"192.0.2.0/23", "192.0.4.0", false},
        {"0.0.0.0/0", "255.255.255.255", true},
        {"0.0.0.0/0", "::ffff:1.2.3.4", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"0.0.0.0/0", "::1", false},
        {"::/0", "2001:db8::1", true},
        {"::/0", "::1", true},
        {"::/0", "192.0.2.7", false},
        {"::/0", "::ffff:192.0.2.7", false},
        {"2001:db8::/32", "2001:db8:ffff::1", true},
        {"2001:db8::/32", "2001:db9::", false},
        {"2001:db8:8000::/33", "2001:db8:7fff::", false},
        {"2001:db8:8000::/33", "2001:db8:8000::", true},
        {"2001:db8::1", "2001:db8:0:0:0:0:0:1", true},
        {"2001:db8::1", "2001:db8::2", false},
        {"10.0.0.0/8,2001:db8::/32,192.0.2.7", "192.0.2.7", true},
        {"10.0.0.0/8,2001:db8::/32,192.0.2.7", "192.0.2.7.", false},
        {"10.0.0.0/8,2001:db8::/32,192.0.2.7", "0300.0.2.7", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_cidr_list list;
        list_of(cases[i].list, &list);
        if (ch_cidr_list_allows_text(&list, ch_span_of(cases[i].address)) != cases[i].allowed)
            fail_msg("%s in \"%s\": not %d", cases[i].address, cases[i].list, cases[i].allowed);
    }
}

static void an_address_of_no_length_is_in_no_network(void **state)
{
    (void)state;
    static const unsigned char bytes[16];
    struct ch_cidr_list list;
    list_of("0.0.0.0/0,::/0", &list);
    for (size_t len = 0; len <= sizeof bytes; len++)
        assert_int_equal(ch_cidr_list_allows(&list, bytes, len), len == 4 || len == 16);
}

static void a_list_has_a_limit(void **state)
{
    (void)state;
    char text[(CH_CIDR_MAX + 1) * 16] = "";
    struct ch_cidr_list list = {.count = 99};
    struct ch_why why = {""};
    size_t used = 0;
    for (int i = 0; i < CH_CIDR_MAX; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "10.0.%d.0/24,", i);
    assert_int_equal(ch_cidr_list_parse(ch_span_of(text), &list, &why), CH_OK);
    assert_int_equal(list.count, CH_CIDR_MAX);
    struct ch_buf out;
    ch_buf_init(&out, sizeof text);
    assert_int_equal(ch_cidr_list_format(&list, &out), CH_OK);
    assert_int_equal(out.len, used - 1);
    assert_memory_equal(out.ptr, text, used - 1);
    ch_buf_fini(&out);
    ch_buf_init(&out, 100);
    assert_int_equal(ch_cidr_list_format(&list, &out), CH_ERR_LIMIT);
    assert_int_equal(out.len, 0);
    ch_buf_fini(&out);
    snprintf(text + used, sizeof text - used, "10.1.0.0/24");
    list.count = 99;
    assert_int_equal(ch_cidr_list_parse(ch_span_of(text), &list, &why), CH_ERR_LIMIT);
    assert_int_equal(list.count, 99);
    assert_string_equal(why.text, "the list holds more than 64 networks");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_have_their_class),
        cmocka_unit_test(a_mapped_address_is_the_one_it_maps),
        cmocka_unit_test(bytes_of_another_length_are_never_public),
        cmocka_unit_test(lists_are_normalised_or_refused),
        cmocka_unit_test(lists_allow_what_they_hold),
        cmocka_unit_test(an_address_of_no_length_is_in_no_network),
        cmocka_unit_test(a_list_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
