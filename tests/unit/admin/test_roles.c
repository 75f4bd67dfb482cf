// SPDX-License-Identifier: Apache-2.0
#include "../../../src/admin/door.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <netinet/in.h>
#include <cmocka.h>

static void every_operation_has_a_role(void **state)
{
    (void)state;
    const char *changes, *operation;
    for (size_t i = 0; (operation = ch_admin_operation(i, &changes)); i++)
        if (!ch_admin_has_role(operation))
            fail_msg("src/admin/roles.c has no row for %s", operation);
}

static enum ch_err permit(enum ch_admin_role role, const char *team, const char *operation)
{
    struct ch_admin admin = {0};
    struct ch_admin_grant grant = {.name = "x", .role = role};
    struct ch_why why = {""};
    ch_span_copy(ch_span_of(team), grant.team, sizeof grant.team);
    json_t *arguments = json_object();
    enum ch_err err = ch_admin_permit(&admin, &grant, operation, arguments, &why);
    json_decref(arguments);
    return err;
}

// What changes something is never for viewers; an operation nobody knows is for administrators.
static void viewers_only_read(void **state)
{
    (void)state;
    const char *changes, *operation;
    for (size_t i = 0; (operation = ch_admin_operation(i, &changes)); i++) {
        if (changes)
            assert_int_equal(permit(CH_ADMIN_VIEWER, "", operation), CH_ERR_DENIED);
        assert_int_equal(permit(CH_ADMIN_ADMIN, "", operation), CH_OK);
    }
    assert_int_equal(permit(CH_ADMIN_OPERATOR, "", "future.thing"), CH_ERR_DENIED);
    assert_int_equal(permit(CH_ADMIN_ADMIN, "", "future.thing"), CH_OK);
    assert_int_equal(permit(CH_ADMIN_ADMIN, "blue", "future.thing"), CH_ERR_DENIED);
}

// Without the store no key can be looked at: then a token of a team gets only what its team's name
// decides.
static void a_team_needs_to_be_named(void **state)
{
    (void)state;
    static const char *const open[] = {"key.list", "key.create", "usage.list", "usage.summary"};
    const char *changes, *operation;
    for (size_t i = 0; (operation = ch_admin_operation(i, &changes)); i++) {
        bool is_open = false;
        for (size_t j = 0; j < sizeof open / sizeof *open; j++)
            is_open |= strcmp(open[j], operation) == 0;
        assert_int_equal(permit(CH_ADMIN_ADMIN, "blue", operation) == CH_OK, is_open);
    }
}

static struct ch_door_address from(const char *v4)
{
    struct sockaddr_storage peer = {.ss_family = AF_INET};
    memcpy(&((struct sockaddr_in *)&peer)->sin_addr, v4, 4);
    return ch_door_address_of(&peer);
}

static enum ch_err knock(struct ch_door *door, const struct ch_door_address *address)
{
    struct ch_admin admin = {0};
    struct ch_admin_grant grant;
    struct ch_why why = {""};
    static const struct ch_http1_head head; // shows no token
    return ch_door_admit(door, &admin, address, &head, "", &grant, &why);
}

static void failures_of_an_address_add_up(void **state)
{
    (void)state;
    static struct ch_door door;
    const int64_t now_ns = ch_clock_mono_ns(), window_ns = INT64_C(1000000000) * CH_DOOR_WINDOW_S;
    struct ch_door_address mine = from("\x01\x02\x03\x04"), other = from("\x01\x02\x03\x05");
    door = (struct ch_door){.fd = -1};
    for (int i = 0; i < CH_DOOR_FAILURES_MAX; i++) {
        assert_int_equal(ch_door_wait_s(&door, &mine, now_ns), 0);
        assert_int_equal(knock(&door, &mine), CH_ERR_DENIED);
    }
    assert_true(ch_door_wait_s(&door, &mine, ch_clock_mono_ns()) > 0);
    assert_int_equal(ch_door_wait_s(&door, &other, ch_clock_mono_ns()), 0);
    assert_int_equal(ch_door_wait_s(&door, &mine, ch_clock_mono_ns() + window_ns), 0);
}

static void neighbours_in_ipv6_are_one_address(void **state)
{
    (void)state;
    struct sockaddr_storage a = {.ss_family = AF_INET6}, b = {.ss_family = AF_INET6};
    memset(&((struct sockaddr_in6 *)&a)->sin6_addr, 0x20, 16);
    memset(&((struct sockaddr_in6 *)&b)->sin6_addr, 0x20, 16);
    ((struct sockaddr_in6 *)&b)->sin6_addr.s6_addr[15] = 1;
    struct ch_door_address first = ch_door_address_of(&a), second = ch_door_address_of(&b);
    assert_memory_equal(&first, &second, sizeof first);
    ((struct sockaddr_in6 *)&b)->sin6_addr.s6_addr[7] = 1;
    second = ch_door_address_of(&b);
    assert_memory_not_equal(&first, &second, sizeof first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_has_a_role),
        cmocka_unit_test(viewers_only_read),
        cmocka_unit_test(a_team_needs_to_be_named),
        cmocka_unit_test(failures_of_an_address_add_up),
        cmocka_unit_test(neighbours_in_ipv6_are_one_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
