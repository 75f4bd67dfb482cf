// SPDX-License-Identifier: Apache-2.0
#include "../../../src/sandbox/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct ch_span values[CH_SANDBOX_VARS];

static void assert_renders(const char *text, const char *expected)
{
    struct ch_sandbox_template *template;
    struct ch_buf out;
    ch_buf_init(&out, 1024);
    assert_int_equal(ch_sandbox_template_new(text, &template), CH_OK);
    assert_int_equal(ch_sandbox_template_append(template, values, &out), CH_OK);
    assert_int_equal(ch_buf_append(&out, "", 1), CH_OK);
    assert_string_equal(out.ptr, expected);
    ch_buf_fini(&out);
    ch_sandbox_template_free(template);
}

static void values_are_pasted(void **state)
{
    (void)state;
    memset(values, 0, sizeof values);
    values[CH_VAR_MODEL] = CH_SPAN("m");
    values[CH_VAR_ID] = CH_SPAN("id");
    assert_renders("", "");
    assert_renders("plain", "plain");
    assert_renders("{'model':'<model>'}", "{\"model\":\"m\"}");
    assert_renders("<model><id>", "mid");
    assert_renders("<model>-<id>-", "m-id-");
    assert_renders("[<tool>]", "[]");
}

static void sections_stand_where_their_value_does(void **state)
{
    (void)state;
    memset(values, 0, sizeof values);
    values[CH_VAR_CACHED] = CH_SPAN("0");
    values[CH_VAR_REASONING] = CH_SPAN("64");
    values[CH_VAR_USAGE] = CH_SPAN("1");
    assert_renders("a<?cached>b<?>c", "ac");
    assert_renders("a<!cached>b<?>c", "abc");
    assert_renders("a<?reasoning>b<reasoning><?>c", "ab64c");
    assert_renders("<!reasoning>b<?>", "");
    assert_renders("<?usage>1<?cached>2<?>3<!cached>4<?>5<?>6", "13456");
    assert_renders("<?cached>1<?usage>2<?>3<?>6", "6");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_pasted),
        cmocka_unit_test(sections_stand_where_their_value_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
