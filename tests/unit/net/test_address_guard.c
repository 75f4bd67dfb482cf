// SPDX-License-Identifier: Apache-2.0
// Which addresses a provider may have: every spelling of a place that is nobody's business, and
// what the operator may allow all the same.
#include "net/address_guard.h"

#include "wire/url.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct ch_cidr_list networks(const char *text)
{
    struct ch_cidr_list list = {.count = 0};
    assert_int_equal(ch_cidr_list_parse(ch_span_of(text), &list, NULL), CH_OK);
    return list;
}

static struct sockaddr_in6 address_of(const char *text)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6};
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&address;
    if (inet_pton(AF_INET6, text, &address.sin6_addr) == 1)
        return address;
    v4->sin_family = AF_INET;
    assert_int_equal(inet_pton(AF_INET, text, &v4->sin_addr), 1);
    return address;
}

static enum ch_address_class guard(const char *address, const char *host, const char *allowed)
{
    struct sockaddr_in6 binary = address_of(address);
    struct ch_cidr_list list = networks(allowed);
    return ch_address_guard(&binary, host, &list);
}

// security.md T9: as a base URL's host, each is either no URL at all or an address that is refused.
static void no_spelling_of_an_inner_address_gets_through(void **state)
{
    (void)state;
    static const char *const spellings[] = {
        // loopback by any other name
        "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "017700000001",
        "0177.0.0.1", "0177.1", "127.0.0.01", "127.000.000.001", "127.0.0.1.", "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]",
        "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[::1%lo]", "[::1%25lo]", "[127.0.0.1]",
        // this machine
        "0", "0.0.0.0", "0.0", "00", "0x0", "0.1.2.3", "[::]", "[0::0]", "[::ffff:0.0.0.0]",
        // private and carrier networks
        "10.0.0.1", "10.1", "012.0.0.1", "0xa000001", "167772161", "172.16.0.1", "172.31.255.255",
        "192.168.1.1", "192.168.257", "3232235777", "0xc0a80101", "[::ffff:10.0.0.1]",
        "[::ffff:c0a8:101]", "[64:ff9b::10.0.0.1]", "[2002:a00:1::1]", "100.64.0.1",
        "100.127.255.255", "[::ffff:100.64.0.1]", "[fc00::1]", "[fd12:3456:789a::1]", "[fec0::1]",
        // link-local and metadata
        "169.254.1.1", "169.254.169.254", "2852039166", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376", "169.254.43518", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[fe80::1]", "[fe80::1%eth0]", "[febf::1]",
        "[fd00:ec2::254]", "100.100.100.200", "169.254.170.2",
        // no host's address
        "224.0.0.1", "239.255.255.255", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.51.100.1",
        "203.0.113.1", "198.18.0.1", "192.0.0.8", "[ff02::1]", "[2001:db8::1]", "[100::1]",
        "[2001:10::1]", "[4000::1]"};
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        char text[128];
        struct ch_url url;
        struct ch_cidr_list none = {.count = 0};
        snprintf(text, sizeof text, "https://%s/v1", spellings[i]);
        if (ch_url_parse(ch_span_of(text), &url, NULL))
            continue;
        if (ch_address_guard_host(url.host, &none) == CH_ADDRESS_PUBLIC)
            fail_msg("%s is let through", spellings[i]);
        if (ch_address_guard_host(url.host, NULL) == CH_ADDRESS_PUBLIC)
            fail_msg("%s is let through without a list", spellings[i]);
    }
    assert_true(sizeof spellings / sizeof *spellings >= 60);
}

static void public_addresses_pass(void **state)
{
    (void)state;
    static const char *const addresses[] = {"8.8.8.8",        "104.18.6.192", "2606:4700::6812:6c0",
                                            "::ffff:8.8.8.8", "172.32.0.1",   "100.128.0.1"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
        assert_int_equal(guard(addresses[i], "api.example.com", ""), CH_ADDRESS_PUBLIC);
}

static void loopback_is_for_those_who_type_it(void **state)
{
    (void)state;
    assert_int_equal(guard("127.0.0.1", "127.0.0.1", ""), CH_ADDRESS_PUBLIC);
    assert_int_equal(guard("127.0.0.1", "localhost", ""), CH_ADDRESS_PUBLIC);
    assert_int_equal(guard("127.0.0.1", "LocalHost", ""), CH_ADDRESS_PUBLIC);
    assert_int_equal(guard("127.9.9.9", "127.9.9.9", ""), CH_ADDRESS_PUBLIC);
    assert_int_equal(guard("::1", "::1", ""), CH_ADDRESS_PUBLIC);
    assert_int_equal(guard("127.0.0.1", "api.example.com", ""), CH_ADDRESS_LOOPBACK);
    assert_int_equal(guard("127.0.0.1", "localhost.example.com", ""), CH_ADDRESS_LOOPBACK);
    assert_int_equal(guard("::1", "localhost.localdomain", ""), CH_ADDRESS_LOOPBACK);
    assert_int_equal(guard("::ffff:127.0.0.1", "api.example.com", ""), CH_ADDRESS_LOOPBACK);
    // A resolver that lies about "localhost" gains nothing.
    assert_int_equal(guard("10.0.0.1", "localhost", ""), CH_ADDRESS_PRIVATE);
    assert_int_equal(guard("169.254.169.254", "localhost", ""), CH_ADDRESS_METADATA);
    assert_int_equal(guard("0.0.0.0", "localhost", ""), CH_ADDRESS_UNSPECIFIED);
}

static void what_the_list_names_passes_and_nothing_else(void **state)
{
    (void)state;
    const char *list = "10.20.0.0/16, fd00:20::/32, 127.0.0.2";
    assert_int_equal(guard("10.20.255.1", "llm.example.com", list), CH_ADDRESS_PUBLIC);
    assert_int_equal(guard("::ffff:10.20.255.1", "llm.example.com", list), CH_ADDRESS_PUBLIC);
    assert_int_equal(guard("fd00:20::5", "llm.example.com", list), CH_ADDRESS_PUBLIC);
    assert_int_equal(guard("127.0.0.2", "llm.example.com", list), CH_ADDRESS_PUBLIC);
    assert_int_equal(guard("10.21.0.1", "llm.example.com", list), CH_ADDRESS_PRIVATE);
    assert_int_equal(guard("fd00:21::5", "llm.example.com", list), CH_ADDRESS_UNIQUE_LOCAL);
    assert_int_equal(guard("127.0.0.1", "llm.example.com", list), CH_ADDRESS_LOOPBACK);
    assert_int_equal(guard("8.8.8.8", "llm.example.com", list), CH_ADDRESS_PUBLIC);
}

static void metadata_is_opened_by_its_own_address_only(void **state)
{
    (void)state;
    assert_int_equal(guard("169.254.169.254", "m.example", "169.254.0.0/16"), CH_ADDRESS_METADATA);
    assert_int_equal(guard("169.254.169.254", "m.example", "0.0.0.0/0"), CH_ADDRESS_METADATA);
    assert_int_equal(guard("169.254.169.254", "m.example", "10.0.0.0/8, 169.254.169.254"),
                     CH_ADDRESS_PUBLIC);
    assert_int_equal(guard("::ffff:169.254.169.254", "m.example", "169.254.169.254"),
                     CH_ADDRESS_PUBLIC);
    assert_int_equal(guard("fd00:ec2::254", "m.example", "fd00::/8"), CH_ADDRESS_METADATA);
    assert_int_equal(guard("fd00:ec2::254", "m.example", "fd00:ec2::254"), CH_ADDRESS_PUBLIC);
    assert_int_equal(guard("169.254.1.1", "m.example", "169.254.0.0/16"), CH_ADDRESS_PUBLIC);
}

static void other_families_are_refused(void **state)
{
    (void)state;
    struct sockaddr_in6 address = {.sin6_family = AF_UNIX};
    assert_int_equal(ch_address_guard(&address, "127.0.0.1", NULL), CH_ADDRESS_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_spelling_of_an_inner_address_gets_through),
        cmocka_unit_test(public_addresses_pass),
        cmocka_unit_test(loopback_is_for_those_who_type_it),
        cmocka_unit_test(what_the_list_names_passes_and_nothing_else),
        cmocka_unit_test(metadata_is_opened_by_its_own_address_only),
        cmocka_unit_test(other_families_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
