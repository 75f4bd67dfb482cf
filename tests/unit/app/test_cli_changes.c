// SPDX-License-Identifier: Apache-2.0
// Every command that changes something takes a reason for the audit log.
#include "admin/admin.h"
#include "app/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static bool takes_reason(const struct ch_cli_command *command)
{
    for (const struct ch_cli_option *o = command->options; o && o->name; o++)
        if (strcmp(o->name, "reason") == 0)
            return true;
    return false;
}

static const char *what_changes(const char *operation)
{
    const char *found, *changes;
    for (size_t i = 0; (found = ch_admin_operation(i, &changes)); i++)
        if (strcmp(found, operation) == 0)
            return changes;
    fail_msg("the command line knows an operation that is none: %s", operation);
    return NULL;
}

static void every_change_takes_a_reason(void **state)
{
    (void)state;
    for (const struct ch_cli_command *c = ch_cli_commands; c->noun; c++) {
        if (!c->operation)
            continue;
        bool changes = what_changes(c->operation) != NULL;
        if (changes != takes_reason(c))
            fail_msg("%s %s %s", c->noun, c->verb ? c->verb : "",
                     changes ? "changes something and takes no --reason" : "reads and takes one");
    }
}

// What the program can change can be changed from the command line.
static void every_change_has_a_command(void **state)
{
    (void)state;
    const char *operation, *changes;
    for (size_t i = 0; (operation = ch_admin_operation(i, &changes)); i++) {
        bool found = false;
        for (const struct ch_cli_command *c = ch_cli_commands; c->noun && changes; c++)
            found |= c->operation && strcmp(c->operation, operation) == 0;
        if (changes && !found)
            fail_msg("%s has no command", operation);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_change_takes_a_reason),
        cmocka_unit_test(every_change_has_a_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
