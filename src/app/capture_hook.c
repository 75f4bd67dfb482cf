// SPDX-License-Identifier: Apache-2.0
#include "app/capture_hook.h"

#include "base/clock.h"
#include "base/secret.h"
#include "store/capture_store.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAUSE_FIRST_MS INT64_C(1000)
#define PAUSE_MAX_MS   INT64_C(60000)
#define SLICE_MS       100 // after which a stop is noticed
#define STOP_MS        INT64_C(500)
#define READ_STEP      ((size_t)16 * 1024)
#define CHILD_PATH     "PATH=/usr/local/bin:/usr/bin:/bin"

struct ch_capture_hook {
    const atomic_bool *is_stopping;
    int64_t timeout_ms, pause_ms;
    int64_t start_ns; // not before
    pid_t pid;        // 0: it does not run
    int in, out;      // our ends; only while it runs
    struct ch_buf answer;
    char program[];
};

enum ch_err ch_capture_hook_new(const char *program, int64_t timeout_ms,
                                const atomic_bool *is_stopping, struct ch_capture_hook **hook_out)
{
    size_t size = strlen(program) + 1;
    struct ch_capture_hook *hook = ch_zcalloc(1, sizeof *hook + size);
    if (!hook)
        return CH_ERR_NOMEM;
    hook->is_stopping = is_stopping;
    hook->timeout_ms = timeout_ms;
    hook->pause_ms = PAUSE_FIRST_MS;
    memcpy(hook->program, program, size);
    ch_buf_init(&hook->answer, CH_CAPTURE_LINE_MAX);
    *hook_out = hook;
    return CH_OK;
}

int ch_capture_hook_pid(const struct ch_capture_hook *hook)
{
    return (int)hook->pid;
}

// ---- the process

// In the child, whose memory is the daemon's until execve: system calls only. An ignored SIGPIPE
// and a blocked SIGTERM would be inherited.
_Noreturn static void become(const char *program, int in, int out)
{
    char *const arguments[] = {(char *)(uintptr_t)program, NULL};
    char *const environment[] = {(char[]){CHILD_PATH}, NULL};
    sigset_t none;
    sigemptyset(&none);
    int null = open("/dev/null", O_WRONLY);
    bool is_ready = setpgid(0, 0) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
                    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && null >= 0 && dup2(in, 0) == 0 &&
                    dup2(out, 1) == 1 && dup2(null, 2) == 2 && close_range(3, ~0U, 0) == 0 &&
                    chdir("/") == 0 && signal(SIGPIPE, SIG_DFL) != SIG_ERR &&
                    sigprocmask(SIG_SETMASK, &none, NULL) == 0;
    if (is_ready)
        execve(program, arguments, environment);
    _exit(127);
}

static enum ch_err spawn(struct ch_capture_hook *hook, int child_in, int child_out)
{
    // Below 3 the child would overwrite them before it has moved them.
    if (child_in < 3 || child_out < 3)
        return CH_ERR_IO;
    // Not fork: the daemon's memory, credentials included, is never copied.
    pid_t pid = vfork();
    if (pid == 0)
        become(hook->program, child_in, child_out);
    if (pid < 0)
        return CH_ERR_IO;
    hook->pid = pid;
    return CH_OK;
}

static void close_pair(const int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

static enum ch_err start(struct ch_capture_hook *hook)
{
    int in[2], out[2];
    if (ch_clock_mono_ns() < hook->start_ns)
        return CH_ERR_UNAVAILABLE;
    if (pipe2(in, O_CLOEXEC) != 0)
        return CH_ERR_UNAVAILABLE;
    if (pipe2(out, O_CLOEXEC) != 0) {
        close_pair(in);
        return CH_ERR_UNAVAILABLE;
    }
    if (fcntl(in[1], F_SETFL, O_NONBLOCK) != 0 || fcntl(out[0], F_SETFL, O_NONBLOCK) != 0 ||
        spawn(hook, in[0], out[1]) != CH_OK) {
        close_pair(in);
        close_pair(out);
        return CH_ERR_UNAVAILABLE;
    }
    close(in[0]);
    close(out[1]);
    hook->in = in[1];
    hook->out = out[0];
    return CH_OK;
}

static void kill_child(struct ch_capture_hook *hook)
{
    if (hook->pid == 0)
        return;
    kill(-hook->pid, SIGKILL);
    kill(hook->pid, SIGKILL); // it may have left its group
    while (waitpid(hook->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    close(hook->in);
    close(hook->out);
    hook->pid = 0;
}

static void punish(struct ch_capture_hook *hook)
{
    kill_child(hook);
    hook->start_ns = ch_clock_mono_ns() + hook->pause_ms * CH_NS_PER_MS;
    hook->pause_ms = hook->pause_ms * 2 < PAUSE_MAX_MS ? hook->pause_ms * 2 : PAUSE_MAX_MS;
}

void ch_capture_hook_free(struct ch_capture_hook *hook)
{
    if (!hook)
        return;
    kill_child(hook);
    ch_buf_fini(&hook->answer);
    ch_zfree(hook);
}

void ch_capture_hook_judge(struct ch_capture_hook *hook, bool is_good)
{
    if (is_good)
        hook->pause_ms = PAUSE_FIRST_MS;
    else
        punish(hook);
}

// ---- one event

struct talk {
    struct ch_span parts[2]; // of what is still to be written: the line and its end
    int64_t deadline_ns;
};

static bool is_said(const struct talk *talk)
{
    return talk->parts[0].len == 0 && talk->parts[1].len == 0;
}

static enum ch_err say(struct ch_capture_hook *hook, struct talk *talk)
{
    while (!is_said(talk)) {
        struct ch_span *part = &talk->parts[talk->parts[0].len == 0];
        ssize_t put = write(hook->in, part->ptr, part->len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return errno == EAGAIN ? CH_OK : CH_ERR_IO;
        *part = ch_span_sub(*part, (size_t)put);
    }
    return CH_OK;
}

// CH_ERR_AGAIN: the answer goes on.
static enum ch_err hear(struct ch_capture_hook *hook, const struct talk *talk)
{
    for (;;) {
        enum ch_err err = ch_buf_reserve(&hook->answer, READ_STEP);
        if (err)
            return err;
        ssize_t got = read(hook->out, hook->answer.ptr + hook->answer.len, READ_STEP);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return CH_ERR_AGAIN;
        if (got <= 0)
            return CH_ERR_IO;
        const char *fresh = hook->answer.ptr + hook->answer.len;
        hook->answer.len += (size_t)got;
        const char *end = memchr(fresh, '\n', (size_t)got);
        if (end)
            return is_said(talk) && end == fresh + got - 1 ? CH_OK : CH_ERR_INVALID;
    }
}

// Waits for the program to read, write or end, for a slice at most.
static enum ch_err wait_for(struct ch_capture_hook *hook, struct talk *talk)
{
    int64_t now_ns = ch_clock_mono_ns();
    if (atomic_load(hook->is_stopping) && talk->deadline_ns > now_ns + STOP_MS * CH_NS_PER_MS)
        talk->deadline_ns = now_ns + STOP_MS * CH_NS_PER_MS;
    if (now_ns >= talk->deadline_ns)
        return CH_ERR_TIMEOUT;
    int64_t left_ms = (talk->deadline_ns - now_ns) / CH_NS_PER_MS + 1;
    struct pollfd fds[] = {{.fd = hook->out, .events = POLLIN},
                           {.fd = is_said(talk) ? -1 : hook->in, .events = POLLOUT}};
    return poll(fds, 2, left_ms < SLICE_MS ? (int)left_ms : SLICE_MS) < 0 && errno != EINTR
               ? CH_ERR_IO
               : CH_OK;
}

static enum ch_err converse(struct ch_capture_hook *hook, struct talk *talk)
{
    for (;;) {
        enum ch_err err = say(hook, talk);
        if (!err)
            err = hear(hook, talk);
        if (err != CH_ERR_AGAIN)
            return err;
        if ((err = wait_for(hook, talk)))
            return err;
    }
}

enum ch_err ch_capture_hook_ask(struct ch_capture_hook *hook, struct ch_span line,
                                struct ch_span *answer_out)
{
    struct talk talk = {.parts = {line, CH_SPAN("\n")}};
    enum ch_err err = hook->pid ? CH_OK : start(hook);
    if (err)
        return err;
    ch_buf_clear(&hook->answer);
    talk.deadline_ns = ch_clock_mono_ns() + hook->timeout_ms * CH_NS_PER_MS;
    err = converse(hook, &talk);
    if (err)
        punish(hook);
    else
        *answer_out = (struct ch_span){hook->answer.ptr, hook->answer.len - 1};
    return err;
}
