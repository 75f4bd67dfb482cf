// SPDX-License-Identifier: Apache-2.0
#include "app/capture_hook.h"

#include "base/clock.h"
#include "base/secret.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 20000 // for a program that is to answer
#define BRIEF_MS    200   // for one that is not

static char path[64];
static atomic_bool is_stopping;
static struct ch_capture_hook *hook;

static int start(void **state)
{
    (void)state;
    strcpy(path, "/tmp/ch_test_hook_XXXXXX");
    atomic_store(&is_stopping, false);
    int fd = mkstemp(path);
    return fd < 0 || fchmod(fd, 0700) || close(fd) ? -1 : 0;
}

static int stop(void **state)
{
    (void)state;
    ch_capture_hook_free(hook);
    hook = NULL;
    return unlink(path);
}

static void run_script(const char *text, int64_t timeout_ms)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\n%s\n", text);
    fclose(file);
    assert_int_equal(ch_capture_hook_new(path, timeout_ms, &is_stopping, &hook), CH_OK);
}

static enum ch_err ask(const char *line, char answer[256])
{
    struct ch_span text = {0};
    enum ch_err err = ch_capture_hook_ask(hook, ch_span_of(line), &text);
    answer[0] = '\0';
    if (!err)
        ch_span_copy(text, answer, 256);
    return err;
}

static void lines_go_in_and_come_out(void **state)
{
    (void)state;
    char answer[256];
    run_script("while read -r line; do echo \"got $line\"; done", PATIENCE_MS);
    assert_int_equal(ch_capture_hook_pid(hook), 0); // not before it is needed
    assert_int_equal(ask("one", answer), CH_OK);
    assert_string_equal(answer, "got one");
    int pid = ch_capture_hook_pid(hook);
    assert_true(pid > 0);
    assert_int_equal(ask("two", answer), CH_OK);
    assert_string_equal(answer, "got two");
    assert_int_equal(ch_capture_hook_pid(hook), pid);
}

static void a_line_larger_than_a_pipe_passes(void **state)
{
    (void)state;
    struct ch_span text;
    size_t size = (size_t)4 << 20;
    char *line = malloc(size);
    memset(line, 'x', size);
    run_script("exec cat", PATIENCE_MS);
    assert_int_equal(ch_capture_hook_ask(hook, (struct ch_span){line, size}, &text), CH_OK);
    assert_true(ch_span_eq(text, (struct ch_span){line, size}));
    free(line);
}

static void it_inherits_nothing(void **state)
{
    (void)state;
    char answer[256];
    setenv("CHAPERONE_MASTER_KEY", "secret", 1);
    assert_int_equal(dup2(1, 57), 57); // without close-on-exec
    run_script("read -r line; "
               "if [ -e /proc/$$/fd/57 ]; then found=leaked; else found=clean; fi; "
               "echo $found $(tr '\\0' ' ' < /proc/$$/environ) $(pwd) "
               "$(grep SigBlk /proc/$$/status | tr -d '\\t')",
               PATIENCE_MS);
    assert_int_equal(ask("x", answer), CH_OK);
    close(57);
    unsetenv("CHAPERONE_MASTER_KEY");
    assert_string_equal(answer,
                        "clean PATH=/usr/local/bin:/usr/bin:/bin / SigBlk:0000000000000000");
}

static void assert_fails(const char *script, enum ch_err expected)
{
    char answer[256];
    run_script(script, BRIEF_MS);
    int64_t start_ns = ch_clock_mono_ns();
    enum ch_err err = ask("x", answer);
    assert_int_equal(err, expected);
    assert_true(ch_clock_mono_ns() - start_ns < 15000 * CH_NS_PER_MS);
    assert_int_equal(ch_capture_hook_pid(hook), 0);         // killed
    assert_int_equal(ask("x", answer), CH_ERR_UNAVAILABLE); // and not at once started again
}

static void one_that_hangs_is_killed(void **state)
{
    (void)state;
    assert_fails("exec sleep 600", CH_ERR_TIMEOUT);
}

static void one_that_says_half_a_line_is_killed(void **state)
{
    (void)state;
    assert_fails("printf half; exec sleep 600", CH_ERR_TIMEOUT);
}

static void one_that_ends_is_noticed(void **state)
{
    (void)state;
    assert_fails("exec 0<&-; exit 3", CH_ERR_IO);
}

static void one_that_says_too_many_lines_is_killed(void **state)
{
    (void)state;
    char answer[256];
    run_script("read -r line; printf 'a\\nb\\n'; exec sleep 600", PATIENCE_MS);
    assert_int_equal(ask("x", answer), CH_ERR_INVALID);
    assert_int_equal(ch_capture_hook_pid(hook), 0);
}

static void its_children_die_with_it(void **state)
{
    (void)state;
    char answer[256];
    run_script("sleep 600 & read -r line; echo $!; exec sleep 600", PATIENCE_MS);
    assert_int_equal(ask("x", answer), CH_OK);
    int child = atoi(answer);
    assert_int_equal(kill(child, 0), 0);
    ch_capture_hook_free(hook);
    hook = NULL;
    // A zombie until whoever adopts it has seen to it: no longer running is what counts.
    char status[64];
    snprintf(status, sizeof status, "/proc/%d/stat", child);
    for (int i = 0; i < 500; i++) {
        char text[256] = "";
        FILE *file = fopen(status, "r");
        bool is_gone = !file || !fgets(text, sizeof text, file) || strstr(text, ") Z") != NULL;
        if (file)
            fclose(file);
        if (is_gone)
            return;
        usleep(10000);
    }
    fail_msg("its child still runs");
}

static void a_bad_answer_costs_a_pause_and_a_good_one_forgets_it(void **state)
{
    (void)state;
    char answer[256];
    run_script("exec cat", PATIENCE_MS);
    assert_int_equal(ask("x", answer), CH_OK);
    ch_capture_hook_judge(hook, true);
    ch_capture_hook_judge(hook, false);
    assert_int_equal(ch_capture_hook_pid(hook), 0);
    int64_t start_ns = ch_clock_mono_ns();
    while (ask("x", answer) == CH_ERR_UNAVAILABLE)
        usleep(10000);
    int64_t pause_ms = (ch_clock_mono_ns() - start_ns) / CH_NS_PER_MS;
    assert_in_range(pause_ms, 900, 10000);
    assert_string_equal(answer, "x");
}

static void a_stop_is_not_held_up(void **state)
{
    (void)state;
    char answer[256];
    run_script("exec sleep 600", 60000);
    atomic_store(&is_stopping, true);
    int64_t start_ns = ch_clock_mono_ns();
    assert_int_equal(ask("x", answer), CH_ERR_TIMEOUT);
    assert_true(ch_clock_mono_ns() - start_ns < 15000 * CH_NS_PER_MS);
}

static void one_that_is_not_there_is_unavailable_or_ends(void **state)
{
    (void)state;
    char answer[256];
    assert_int_equal(ch_capture_hook_new("/nonexistent/hook", BRIEF_MS, &is_stopping, &hook),
                     CH_OK);
    assert_int_equal(ask("x", answer), CH_ERR_IO); // its process ended before it was one
    assert_int_equal(ask("x", answer), CH_ERR_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_go_in_and_come_out, start, stop),
        cmocka_unit_test_setup_teardown(a_line_larger_than_a_pipe_passes, start, stop),
        cmocka_unit_test_setup_teardown(it_inherits_nothing, start, stop),
        cmocka_unit_test_setup_teardown(one_that_hangs_is_killed, start, stop),
        cmocka_unit_test_setup_teardown(one_that_says_half_a_line_is_killed, start, stop),
        cmocka_unit_test_setup_teardown(one_that_ends_is_noticed, start, stop),
        cmocka_unit_test_setup_teardown(one_that_says_too_many_lines_is_killed, start, stop),
        cmocka_unit_test_setup_teardown(its_children_die_with_it, start, stop),
        cmocka_unit_test_setup_teardown(a_bad_answer_costs_a_pause_and_a_good_one_forgets_it, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_stop_is_not_held_up, start, stop),
        cmocka_unit_test_setup_teardown(one_that_is_not_there_is_unavailable_or_ends, start, stop),
    };
    struct ch_why why;
    signal(SIGPIPE, SIG_IGN);
    return ch_secret_process_init(&why) ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
