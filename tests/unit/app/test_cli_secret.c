// SPDX-License-Identifier: Apache-2.0
#include "app/cli_secret.h"

#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <cmocka.h>

static void expect(const struct ch_cli_secret_source *source, enum ch_err err, const char *text)
{
    struct ch_buf secret;
    struct ch_why why = {""};
    ch_buf_init(&secret, CH_CLI_SECRET_MAX);
    assert_int_equal(ch_cli_secret_read(source, &secret, &why), err);
    if (err) {
        print_message("%s\n", why.text);
        assert_non_null(strstr(why.text, text));
    } else {
        assert_int_equal(secret.len, strlen(text));
        assert_memory_equal(secret.ptr, text, secret.len);
    }
    ch_buf_fini(&secret);
}

// A pipe that holds `text`, its reading end.
static int pipe_with(const char *text)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], text, strlen(text)), (ssize_t)strlen(text));
    close(fds[1]);
    return fds[0];
}

static void expect_stdin(const char *text, enum ch_err err, const char *result)
{
    int fd = pipe_with(text);
    expect(&(struct ch_cli_secret_source){.from_stdin = true, .in = fd, .err = 2}, err, result);
    close(fd);
}

static void standard_input(void **state)
{
    (void)state;
    expect_stdin("sk-abc\n", CH_OK, "sk-abc");
    expect_stdin("sk-abc\r\n", CH_OK, "sk-abc");
    expect_stdin("sk-abc", CH_OK, "sk-abc");
    expect_stdin("two\nlines\n", CH_OK, "two\nlines");
    expect_stdin("", CH_ERR_INVALID, "empty");
    expect_stdin("\n", CH_ERR_INVALID, "empty");
    char longer[CH_CLI_SECRET_MAX + 2];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    expect_stdin(longer, CH_ERR_INVALID, "longer than");
}

static void environment(void **state)
{
    (void)state;
    setenv("CH_TEST_SECRET", "sk-env", 1);
    const char *bytes = getenv("CH_TEST_SECRET");
    expect(&(struct ch_cli_secret_source){.environment = "CH_TEST_SECRET"}, CH_OK, "sk-env");
    assert_null(getenv("CH_TEST_SECRET"));
    assert_int_equal(bytes[0], '\0'); // wiped, not only unset
    expect(&(struct ch_cli_secret_source){.environment = "CH_TEST_SECRET"}, CH_ERR_NOT_FOUND,
           "no variable of that name");
}

// Some put the secret where its variable's name belongs.
static void a_secret_for_a_name_is_not_repeated(void **state)
{
    static const char *const given[] = {"sk-SECRET", "SECRET=x", "1SECRET", "AIzaSECRET", ""};
    (void)state;
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        struct ch_buf secret;
        struct ch_why why = {""};
        ch_buf_init(&secret, CH_CLI_SECRET_MAX);
        assert_int_equal(ch_cli_secret_read(&(struct ch_cli_secret_source){.environment = given[i]},
                                            &secret, &why),
                         strcmp(given[i], "AIzaSECRET") == 0 ? CH_ERR_NOT_FOUND : CH_ERR_INVALID);
        assert_null(strstr(why.text, "SECRET"));
        assert_non_null(strstr(why.text, "--secret-env"));
        ch_buf_fini(&secret);
    }
}

static void file(void **state)
{
    char path[] = "/tmp/ch_test_secret_XXXXXX";
    int fd = mkstemp(path);
    const struct ch_cli_secret_source source = {.file = path};
    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "sk-file\n", 8), 8);
    expect(&source, CH_OK, "sk-file");
    static const mode_t wide[] = {0640, 0604, 0660, 0610, 0777};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        assert_int_equal(fchmod(fd, wide[i]), 0);
        expect(&source, CH_ERR_DENIED, "chmod 600");
    }
    assert_int_equal(fchmod(fd, 0400), 0);
    expect(&source, CH_OK, "sk-file");
    close(fd);
    unlink(path);
    expect(&source, CH_ERR_NOT_FOUND, "No such file");
    expect(&(struct ch_cli_secret_source){.file = "/tmp"}, CH_ERR_INVALID, "no regular file");
}

static void one_way_only(void **state)
{
    (void)state;
    expect(&(struct ch_cli_secret_source){.from_stdin = true, .environment = "X"}, CH_ERR_INVALID,
           "one way only");
}

static void no_terminal(void **state)
{
    int fd = pipe_with("x\n");
    (void)state;
    expect(&(struct ch_cli_secret_source){.prompt = "?", .in = fd, .err = 2}, CH_ERR_INVALID,
           "no terminal");
    close(fd);
}

// Types into the other end of a terminal and gives what it shows.
static void type(int master, const char *text, char *shown, size_t size)
{
    size_t at = 0;
    ssize_t got = 1;
    while (got > 0 && !memchr(shown, '?', at)) { // the prompt, so the echo is off by then or soon
        got = read(master, shown + at, size - at);
        at += got > 0 ? (size_t)got : 0;
    }
    struct termios mode;
    do // until the child has switched it off
        assert_int_equal(tcgetattr(master, &mode), 0);
    while (mode.c_lflag & ECHO);
    assert_int_equal(write(master, text, strlen(text)), (ssize_t)strlen(text));
    while ((got = read(master, shown + at, size - 1 - at)) > 0)
        at += (size_t)got;
    shown[at] = '\0';
}

static void a_terminal_does_not_show_it(void **state)
{
    int master;
    char shown[1024] = "";
    (void)state;
    pid_t child = forkpty(&master, NULL, NULL, NULL);
    assert_true(child >= 0);
    if (child == 0) {
        struct ch_buf secret;
        struct ch_why why;
        struct termios after;
        ch_buf_init(&secret, CH_CLI_SECRET_MAX);
        const struct ch_cli_secret_source source = {.prompt = "Key? ", .in = 0, .err = 1};
        enum ch_err err = ch_cli_secret_read(&source, &secret, &why);
        bool right = !err && secret.len == 8 && memcmp(secret.ptr, "sk-typed", 8) == 0;
        _exit(right && tcgetattr(0, &after) == 0 && (after.c_lflag & ECHO) ? 0 : 1);
    }
    alarm(20);
    type(master, "sk-typed\n", shown, sizeof shown);
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    alarm(0);
    close(master);
    assert_true(WIFEXITED(result));
    assert_int_equal(WEXITSTATUS(result), 0);
    assert_non_null(strstr(shown, "Key? "));
    assert_null(strstr(shown, "typed"));
}

// Ctrl-C at the prompt ends the program and leaves the terminal's echo on.
static void an_interrupt_restores_the_echo(void **state)
{
    int master;
    char shown[1024] = "";
    (void)state;
    pid_t child = forkpty(&master, NULL, NULL, NULL);
    assert_true(child >= 0);
    if (child == 0) {
        struct ch_buf secret;
        struct ch_why why;
        ch_buf_init(&secret, CH_CLI_SECRET_MAX);
        const struct ch_cli_secret_source source = {.prompt = "Key? ", .in = 0, .err = 1};
        _exit(ch_cli_secret_read(&source, &secret, &why) ? 1 : 0);
    }
    // A second descriptor keeps the terminal alive, and its mode readable, after the child is gone.
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    struct termios mode;
    ssize_t got = 1;
    alarm(20);
    for (size_t at = 0; got > 0 && !memchr(shown, '?', at);) {
        got = read(master, shown + at, sizeof shown - at);
        at += got > 0 ? (size_t)got : 0;
    }
    do
        assert_int_equal(tcgetattr(master, &mode), 0);
    while (mode.c_lflag & ECHO);
    assert_int_equal(write(master, "\x03", 1), 1);
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    alarm(0);
    assert_true(WIFSIGNALED(result));
    assert_int_equal(WTERMSIG(result), SIGINT);
    assert_int_equal(tcgetattr(terminal, &mode), 0);
    assert_true(mode.c_lflag & ECHO);
    close(terminal);
    close(master);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(standard_input),
        cmocka_unit_test(environment),
        cmocka_unit_test(a_secret_for_a_name_is_not_repeated),
        cmocka_unit_test(file),
        cmocka_unit_test(one_way_only),
        cmocka_unit_test(no_terminal),
        cmocka_unit_test(a_terminal_does_not_show_it),
        cmocka_unit_test(an_interrupt_restores_the_echo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
