// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

// Standard error goes to a pipe while a test logs.
static int saved_stderr, pipe_read = -1;
static char caught[16384];

static void catch_begin(void)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    saved_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    pipe_read = ends[0];
}

static const char *catch_end(void)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    ssize_t got = read(pipe_read, caught, sizeof caught - 1);
    close(pipe_read);
    caught[got > 0 ? got : 0] = '\0';
    return caught;
}

static void a_line_is_logfmt(void **state)
{
    (void)state;
    catch_begin();
    CH_LOG(CH_LOG_WARN, "accept_paused", ch_log_int("fds", -7), ch_log_text("why", "full"),
           ch_log_span("cut", (struct ch_span){"abcdef", 3}));
    CH_LOG(CH_LOG_INFO, "started", ch_log_int("loops", 2));
    assert_string_equal(catch_end(),
                        "level=warn event=accept_paused fds=-7 why=\"full\" cut=\"abc\"\n"
                        "level=info event=started loops=2\n");
}

static void peer_bytes_cannot_forge_a_line(void **state)
{
    (void)state;
    catch_begin();
    CH_LOG(CH_LOG_INFO, "denied",
           ch_log_span("path", CH_SPAN("/\"x\nlevel=info event=allowed\r\x1b[2J\0\xff")));
    const char *line = catch_end();
    assert_string_equal(line, "level=info event=denied path=\"/\\\"x\\nlevel=info event=allowed\\r"
                              "\\u001b[2J\\u0000\xEF\xBF\xBD\"\n");
}

static void what_lies_below_the_level_is_not_written(void **state)
{
    (void)state;
    ch_log_set_level(CH_LOG_WARN);
    catch_begin();
    CH_LOG(CH_LOG_DEBUG, "a", ch_log_int("n", 1));
    CH_LOG(CH_LOG_INFO, "b", ch_log_int("n", 2));
    CH_LOG(CH_LOG_WARN, "c", ch_log_int("n", 3));
    CH_LOG(CH_LOG_ERROR, "d", ch_log_int("n", 4));
    assert_string_equal(catch_end(), "level=warn event=c n=3\nlevel=error event=d n=4\n");
    assert_false(ch_log_enabled(CH_LOG_INFO));
    assert_true(ch_log_enabled(CH_LOG_ERROR));
    ch_log_set_level(CH_LOG_INFO);
}

static void a_long_line_is_cut_and_still_ends(void **state)
{
    (void)state;
    static char value[20000];
    memset(value, 'v', sizeof value);
    for (size_t len = 4000; len < 4200; len++) { // every place around the limit
        catch_begin();
        CH_LOG(CH_LOG_INFO, "long", ch_log_span("value", (struct ch_span){value, len}));
        const char *line = catch_end();
        size_t written = strlen(line);
        assert_in_range(written, 1, 4096);
        assert_int_equal(line[written - 1], '\n');
        assert_ptr_equal(strchr(line, '\n'), line + written - 1);
    }
    catch_begin();
    CH_LOG(CH_LOG_INFO, "long", ch_log_span("value", (struct ch_span){value, sizeof value}));
    assert_true(strlen(catch_end()) <= 4096);
}

static void level_names_are_read(void **state)
{
    (void)state;
    enum ch_log_level level;
    assert_int_equal(ch_log_level_parse(CH_SPAN("debug"), &level), CH_OK);
    assert_int_equal(level, CH_LOG_DEBUG);
    assert_int_equal(ch_log_level_parse(CH_SPAN("error"), &level), CH_OK);
    assert_int_equal(level, CH_LOG_ERROR);
    assert_int_equal(ch_log_level_parse(CH_SPAN("loud"), &level), CH_ERR_INVALID);
    assert_int_equal(ch_log_level_parse(CH_SPAN(""), &level), CH_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_logfmt),
        cmocka_unit_test(peer_bytes_cannot_forge_a_line),
        cmocka_unit_test(what_lies_below_the_level_is_not_written),
        cmocka_unit_test(a_long_line_is_cut_and_still_ends),
        cmocka_unit_test(level_names_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
