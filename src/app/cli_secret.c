// SPDX-License-Identifier: Apache-2.0
#include "app/cli_secret.h"

#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static enum ch_err read_to_end(int fd, const char *from, struct ch_buf *out, struct ch_why *why)
{
    char piece[512];
    enum ch_err err = CH_OK;
    ssize_t got = 1;
    while (!err && got != 0) {
        got = read(fd, piece, sizeof piece);
        if (got < 0 && errno != EINTR)
            err =
                ch_why_set(why, CH_ERR_IO, "reading the secret from %s: %s", from, strerror(errno));
        else if (got > 0 && ch_buf_append(out, piece, (size_t)got))
            err = ch_why_set(why, CH_ERR_INVALID, "the secret in %s is longer than %d bytes", from,
                             CH_CLI_SECRET_MAX);
    }
    ch_wipe(piece, sizeof piece);
    return err;
}

// A file that others can read has already given the secret away. A pipe (<(…), /dev/fd/N) is
// private to us.
static enum ch_err check_file(int fd, const char *option, const char *path, struct ch_why *why)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return ch_why_set(why, CH_ERR_IO, "%s %s: %s", option, path, strerror(errno));
    if (S_ISFIFO(info.st_mode))
        return CH_OK;
    if (!S_ISREG(info.st_mode))
        return ch_why_set(why, CH_ERR_INVALID, "%s %s is no regular file", option, path);
    if (info.st_uid != geteuid() && info.st_uid != 0)
        return ch_why_set(why, CH_ERR_DENIED, "%s %s belongs to another user", option, path);
    if (info.st_mode & 077)
        return ch_why_set(why, CH_ERR_DENIED,
                          "%s %s can be read by others (mode %04o); run: chmod 600 %s", option,
                          path, (unsigned)info.st_mode & 07777, path);
    return CH_OK;
}

static enum ch_err read_file(const char *option, const char *path, struct ch_buf *out,
                             struct ch_why *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return ch_why_set(why, errno == ENOENT ? CH_ERR_NOT_FOUND : CH_ERR_IO, "%s %s: %s", option,
                          path, strerror(errno));
    enum ch_err err = check_file(fd, option, path, why);
    if (!err)
        err = read_to_end(fd, option, out, why);
    close(fd);
    return err;
}

// [A-Za-z_][A-Za-z0-9_]*, as a shell would set it.
static bool is_variable_name(struct ch_span name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool is_letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
        if (!is_letter && (i == 0 || c < '0' || c > '9'))
            return false;
    }
    return name.len > 0;
}

// What was given is never repeated: it may be the secret itself, and some look like a name.
// The variable's bytes stay readable in the process unless they are overwritten before it is unset.
static enum ch_err read_environment(const char *name, struct ch_buf *out, struct ch_why *why)
{
    if (!is_variable_name(ch_span_of(name)))
        return ch_why_set(why, CH_ERR_INVALID,
                          "--secret-env takes the name of an environment variable; a secret never "
                          "stands on the command line");
    char *value = getenv(name);
    if (!value)
        return ch_why_set(why, CH_ERR_NOT_FOUND, "--secret-env: there is no variable of that name");
    enum ch_err err = ch_buf_append_span(out, ch_span_of(value));
    ch_wipe(value, strlen(value));
    unsetenv(name);
    return err ? ch_why_set(why, CH_ERR_INVALID,
                            "the secret in the variable is longer than %d bytes", CH_CLI_SECRET_MAX)
               : CH_OK;
}

// ---- the prompt

static volatile sig_atomic_t interrupted;

static void on_prompt_signal(int number)
{
    interrupted = number;
}

static const int prompt_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
#define PROMPT_SIGNALS (sizeof prompt_signals / sizeof *prompt_signals)

// One line; ends early on a signal, so that the echo is switched on again before it takes effect.
static enum ch_err read_line(int fd, struct ch_buf *out, struct ch_why *why)
{
    char c;
    enum ch_err err = CH_OK;
    while (!err && !interrupted) {
        ssize_t got = read(fd, &c, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || c == '\n')
            break;
        if (ch_buf_append(out, &c, 1))
            err = ch_why_set(why, CH_ERR_INVALID, "the secret is longer than %d bytes",
                             CH_CLI_SECRET_MAX);
    }
    ch_wipe(&c, sizeof c);
    return err;
}

static enum ch_err read_without_echo(int fd, struct ch_buf *out, struct ch_why *why)
{
    struct termios shown, hidden;
    if (tcgetattr(fd, &shown) != 0)
        return ch_why_set(why, CH_ERR_IO, "the terminal's echo cannot be switched off");
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
    if (tcsetattr(fd, TCSAFLUSH, &hidden) != 0)
        return ch_why_set(why, CH_ERR_IO, "the terminal's echo cannot be switched off");
    enum ch_err err = read_line(fd, out, why);
    tcsetattr(fd, TCSAFLUSH, &shown);
    return err;
}

static enum ch_err prompt(const struct ch_cli_secret_source *source, struct ch_buf *out,
                          struct ch_why *why)
{
    struct sigaction before[PROMPT_SIGNALS];
    struct sigaction ours = {.sa_handler = on_prompt_signal}; // no SA_RESTART: read must return
    interrupted = 0;
    for (size_t i = 0; i < PROMPT_SIGNALS; i++)
        sigaction(prompt_signals[i], &ours, &before[i]);
    dprintf(source->err, "%s", source->prompt);
    enum ch_err err = read_without_echo(source->in, out, why);
    dprintf(source->err, "\n");
    for (size_t i = 0; i < PROMPT_SIGNALS; i++)
        sigaction(prompt_signals[i], &before[i], NULL);
    if (!interrupted)
        return err;
    raise(interrupted);
    return ch_why_set(why, CH_ERR_IO, "interrupted");
}

// ---- the whole

static void drop_line_break(struct ch_buf *secret)
{
    if (secret->len && secret->ptr[secret->len - 1] == '\n')
        secret->len--;
    if (secret->len && secret->ptr[secret->len - 1] == '\r')
        secret->len--;
}

static enum ch_err read_source(const struct ch_cli_secret_source *source, struct ch_buf *out,
                               struct ch_why *why)
{
    if (source->from_stdin + (source->file != NULL) + (source->environment != NULL) > 1)
        return ch_why_set(why, CH_ERR_INVALID,
                          "give the secret one way only: --secret-stdin, --secret-file or "
                          "--secret-env");
    if (source->from_stdin)
        return read_to_end(source->in, "standard input", out, why);
    if (source->file)
        return read_file(source->file_option ? source->file_option : "--secret-file", source->file,
                         out, why);
    if (source->environment)
        return read_environment(source->environment, out, why);
    if (!isatty(source->in))
        return ch_why_set(why, CH_ERR_INVALID,
                          "a secret is needed and standard input is no terminal: use "
                          "--secret-stdin, --secret-file or --secret-env");
    return prompt(source, out, why);
}

enum ch_err ch_cli_secret_read(const struct ch_cli_secret_source *source, struct ch_buf *secret_out,
                               struct ch_why *why)
{
    enum ch_err err = read_source(source, secret_out, why);
    if (err)
        return err;
    drop_line_break(secret_out);
    return secret_out->len ? CH_OK : ch_why_set(why, CH_ERR_INVALID, "the secret is empty");
}
