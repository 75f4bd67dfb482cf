// SPDX-License-Identifier: Apache-2.0
// Preloaded into a daemon under test: a thread of it, older than all others but the first, executes
// a program whenever the test asks by writing 1 into the first of two numbers (int32, native
// order). The second is then what came of it: 0, or errno; the first is 0 again.
//
// With $REFUSE_SECCOMP set there is no thread; the kernel refuses seccomp(2) to the daemon instead.
#define _GNU_SOURCE
#include "refuse_seccomp.h"
#include "shared_page.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/wait.h>

struct page {
    _Atomic int32_t is_asked, answer;
};

static int execute(void)
{
    char *const arguments[] = {"true", NULL};
    char *const environment[] = {NULL};
    int status;
    pid_t pid = vfork();
    if (pid == 0) {
        execve("/bin/true", arguments, environment);
        _exit(errno);
    }
    return waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : -1;
}

static void *serve(void *arg)
{
    struct page *page = arg;
    prctl(PR_SET_NAME, "executes");
    for (;; usleep(5000)) {
        if (!atomic_load(&page->is_asked))
            continue;
        atomic_store(&page->answer, execute());
        atomic_store(&page->is_asked, 0);
    }
}

__attribute__((constructor)) static void start(void)
{
    pthread_t thread;
    if (getenv("REFUSE_SECCOMP")) {
        if (!refuse_seccomp())
            abort();
    } else if (pthread_create(&thread, NULL, serve,
                              map_shared_page("EXECUTES", sizeof(struct page)))) {
        abort();
    }
}
