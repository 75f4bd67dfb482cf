// SPDX-License-Identifier: Apache-2.0
#include "sandbox/sandbox.h"

#include "base/secret.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define THREADS_MAX 64

struct sandbox {
    struct ch_sandbox_setting setting;
    unsigned count; // workers whose loop exists
    struct ch_sandbox_worker workers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
};

static void *run_worker(void *arg)
{
    struct ch_sandbox_worker *worker = arg;
    ch_loop_run(worker->loop);
    return NULL;
}

static enum ch_err open_record(const char *path, int *fd_out, struct ch_why *why)
{
    *fd_out = -1;
    if (!path)
        return CH_OK;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return ch_why_set(why, CH_ERR_IO, "%s: %s", path, strerror(errno));
    *fd_out = fd;
    return CH_OK;
}

static bool is_unix(const char *address)
{
    return strncmp(address, "unix:", 5) == 0;
}

// The address with the port that was bound, where it asked for any: the other workers listen there
// too.
static void name_port(const char *asked, int port, char *out, size_t size)
{
    const char *colon = strrchr(asked, ':');
    if (is_unix(asked) || !colon)
        snprintf(out, size, "%s", asked);
    else
        snprintf(out, size, "%.*s:%d", (int)(colon - asked), asked, port);
}

static enum ch_err open_worker(struct sandbox *sandbox, const char *address, struct ch_why *why)
{
    unsigned index = sandbox->count;
    struct ch_sandbox_worker *worker = &sandbox->workers[index];
    ch_sandbox_worker_init(worker, index, &sandbox->setting);
    enum ch_err err = ch_loop_new(index, &worker->loop);
    if (err)
        return ch_why_set(why, err, "an event loop could not be made");
    sandbox->count++;
    return ch_listener_open(worker->loop, address, ch_sandbox_session_accept, worker,
                            &worker->listener, why);
}

static enum ch_err open_workers(struct sandbox *sandbox, const struct ch_sandbox_options *options,
                                char *address, size_t size, struct ch_why *why)
{
    unsigned threads = options->threads ? options->threads : 1;
    if (threads > THREADS_MAX)
        return ch_why_set(why, CH_ERR_LIMIT, "at most %d threads", THREADS_MAX);
    if (is_unix(options->listen))
        threads = 1; // one loop of a process may listen on a Unix socket
    enum ch_err err = open_worker(sandbox, options->listen, why);
    if (err)
        return err;
    name_port(options->listen, ch_listener_port(sandbox->workers[0].listener), address, size);
    while (!err && sandbox->count < threads)
        err = open_worker(sandbox, address, why);
    return err;
}

// Runs the loops until a signal asks for the end. The signals are blocked in every thread.
static enum ch_err serve(struct sandbox *sandbox, const sigset_t *signals, struct ch_why *why)
{
    unsigned started = 0;
    int error = 0, signal_number;
    for (; started < sandbox->count && !error; started += !error)
        error = pthread_create(&sandbox->threads[started], NULL, run_worker,
                               &sandbox->workers[started]);
    if (!error)
        sigwait(signals, &signal_number);
    for (unsigned i = 0; i < started; i++)
        ch_loop_stop(sandbox->workers[i].loop);
    for (unsigned i = 0; i < started; i++)
        pthread_join(sandbox->threads[i], NULL);
    return error ? ch_why_set(why, CH_ERR_IO, "a thread could not be started: %s", strerror(error))
                 : CH_OK;
}

static void close_sandbox(struct sandbox *sandbox)
{
    for (unsigned i = 0; i < sandbox->count; i++) {
        ch_listener_close(sandbox->workers[i].listener);
        ch_sandbox_worker_fini(&sandbox->workers[i]);
        ch_loop_free(sandbox->workers[i].loop);
    }
    ch_script_book_free(sandbox->setting.book);
    ch_json_plan_free(sandbox->setting.plan);
    if (sandbox->setting.record_fd >= 0)
        close(sandbox->setting.record_fd);
    ch_zfree(sandbox);
}

static enum ch_err run(struct sandbox *sandbox, const struct ch_sandbox_options *options,
                       const sigset_t *signals, struct ch_why *why)
{
    char address[256];
    enum ch_err err = open_record(options->record_path, &sandbox->setting.record_fd, why);
    if (err)
        return err;
    if (ch_script_book_new(&sandbox->setting.book) ||
        ch_sandbox_request_plan_new(&sandbox->setting.plan))
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    err = open_workers(sandbox, options, address, sizeof address, why);
    if (err)
        return err;
    printf("listening on %s%s\n", is_unix(address) ? "" : "http://", address);
    fflush(stdout);
    return serve(sandbox, signals, why);
}

enum ch_err ch_sandbox_run(const struct ch_sandbox_options *options, struct ch_why *why)
{
    sigset_t signals, before;
    struct sandbox *sandbox = ch_zcalloc(1, sizeof *sandbox);
    if (!sandbox)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    sandbox->setting.record_fd = -1;
    sandbox->setting.api_key = ch_span_of(options->api_key);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, &before);
    enum ch_err err = run(sandbox, options, &signals, why);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close_sandbox(sandbox);
    return err;
}
