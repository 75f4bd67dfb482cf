// SPDX-License-Identifier: Apache-2.0
// Preloaded into a daemon under test, to see that its loops never wait: whatever touches a file or
// the disk takes `delay_ms` longer than it would, on any thread, names that begin with "hangs." are
// looked up until the test is over, and the page says what loops did meanwhile.
//
// A loop is a thread that waits for events and has no name of its own. From its first turn with
// `is_armed` the kernel itself reports its calls for files, those of libraries included: they are
// counted, take the delay and fail. Statements and look-ups are counted by their names.
#define _GNU_SOURCE
#include "shared_page.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>

#define NS_PER_S INT64_C(1000000000)

// As test_lag.py reads it. Calls of loops are numbers of system calls, or below zero:
enum {
    CALL_STATEMENT = -1,
    CALL_LOOKUP = -2,
};
struct page {
    int32_t is_armed, delay_ms;
    _Atomic int32_t misbehaves; // one loop opens a file within its next turn
    _Atomic int32_t loops;
    _Atomic int32_t calls_of_loops, last_call;
    _Atomic int32_t delayed_elsewhere, hanging;
    _Atomic int64_t turns, longest_turn_ns;
};
static struct page *page;

static __thread bool is_loop, is_watched;
static __thread int64_t woken_ns; // when this loop's turn began; 0: no turn is measured
static __thread int64_t woken_cpu_ns;
static __thread long woken_waits;

__attribute__((constructor)) static void map_page(void)
{
    page = map_shared_page("WAITS", sizeof *page);
}

static bool is_armed(void)
{
    return page && *(volatile int32_t *)&page->is_armed;
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

// How often this thread gave its processor away because it had to wait.
static long count_waits(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
}

static void wait_ms(int32_t ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

// ---- loops

static void report(int32_t call)
{
    atomic_store(&page->last_call, call);
    atomic_fetch_add(&page->calls_of_loops, 1);
    wait_ms(page->delay_ms);
}

static void on_call(int signal, siginfo_t *info, void *context)
{
    int saved = errno;
    ucontext_t *interrupted = context;
    (void)signal;
    report(info->si_syscall);
#if defined(__x86_64__)
    interrupted->uc_mcontext.gregs[REG_RAX] = -EPERM;
#elif defined(__aarch64__)
    interrupted->uc_mcontext.regs[0] = (uint64_t)-EPERM;
#endif
    errno = saved;
}

static const int files[] = {
#ifdef __x86_64__
    SYS_open,      SYS_creat,     SYS_stat,
    SYS_lstat,     SYS_access,    SYS_unlink,
    SYS_rename,    SYS_getdents,
#endif
    SYS_openat,    SYS_openat2,   SYS_newfstatat,
    SYS_statx,     SYS_faccessat, SYS_unlinkat,
    SYS_renameat,  SYS_renameat2, SYS_getdents64,
    SYS_flock,     SYS_fsync,     SYS_fdatasync,
    SYS_msync,     SYS_truncate,  SYS_ftruncate,
    SYS_fallocate, SYS_pread64,   SYS_pwrite64,
    SYS_preadv,    SYS_pwritev,   SYS_sync_file_range,
};

// For this thread alone. The daemon has set no_new_privs.
static void watch(void)
{
    struct sock_filter code[2 * sizeof files / sizeof *files + 2];
    unsigned short len = 0;
    struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER};
    code[len++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        code[len++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)files[i], 0, 1);
        code[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    }
    code[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog handed = {.len = len, .filter = code};
    if (sigaction(SIGSYS, &action, NULL) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &handed))
        abort();
    is_watched = true;
    atomic_fetch_add(&page->loops, 1);
}

static void end_turn(void)
{
    if (!woken_ns)
        return;
    // A turn that never waited is as long as its work: that a busy machine took the processor away
    // is no waiting of the loop's.
    int64_t took_ns = count_waits() != woken_waits ? now_ns(CLOCK_MONOTONIC) - woken_ns
                                                   : now_ns(CLOCK_THREAD_CPUTIME_ID) - woken_cpu_ns;
    int64_t longest_ns = atomic_load(&page->longest_turn_ns);
    while (took_ns > longest_ns &&
           !atomic_compare_exchange_weak(&page->longest_turn_ns, &longest_ns, took_ns))
        ;
    atomic_fetch_add(&page->turns, 1);
    woken_ns = 0;
}

static void begin_turn(void)
{
    if (!is_watched)
        watch();
    woken_ns = now_ns(CLOCK_MONOTONIC);
    woken_cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    woken_waits = count_waits();
    if (atomic_exchange(&page->misbehaves, 0)) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
            abort();
    }
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
    static __thread bool is_known;
    char name[16] = "";
    if (!is_known) {
        prctl(PR_GET_NAME, name);
        is_loop = strcmp(name, "chaperone") == 0;
        is_known = true;
    }
    if (is_loop)
        end_turn();
    int count = (int)syscall(SYS_epoll_pwait, fd, events, max, timeout, NULL, 0);
    int saved = errno;
    if (is_loop && is_armed())
        begin_turn();
    errno = saved;
    return count;
}

// ---- what takes its time

static void delay(void)
{
    if (is_loop || !is_armed())
        return; // of a loop the kernel reports it
    atomic_fetch_add(&page->delayed_elsewhere, 1);
    wait_ms(page->delay_ms);
}

int fsync(int fd)
{
    delay();
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    delay();
    return (int)syscall(SYS_fdatasync, fd);
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int); // without O_CREAT nobody looks at it
    va_end(more);
    delay();
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int openat(int folder, const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    delay();
    return (int)syscall(SYS_openat, folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) __attribute__((alias("openat")));

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **list)
{
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    if (is_loop && is_armed())
        report(CALL_LOOKUP);
    if (is_armed() && node && strncmp(node, "hangs.", 6) == 0) {
        atomic_fetch_add(&page->hanging, 1);
        while (is_armed())
            wait_ms(50);
        return EAI_AGAIN;
    }
    return next(node, service, hints, list);
}

// ---- statements

struct sqlite3;
struct sqlite3_stmt;

static void count_statement(void)
{
    if (is_loop && is_armed())
        report(CALL_STATEMENT);
}

int sqlite3_step(struct sqlite3_stmt *statement)
{
    int (*next)(struct sqlite3_stmt *) = dlsym(RTLD_NEXT, "sqlite3_step");
    count_statement();
    return next(statement);
}

int sqlite3_prepare_v3(struct sqlite3 *db, const char *sql, int size, unsigned flags,
                       struct sqlite3_stmt **statement, const char **tail)
{
    int (*next)(struct sqlite3 *, const char *, int, unsigned, struct sqlite3_stmt **,
                const char **) = dlsym(RTLD_NEXT, "sqlite3_prepare_v3");
    count_statement();
    return next(db, sql, size, flags, statement, tail);
}

int sqlite3_exec(struct sqlite3 *db, const char *sql, int (*each)(void *, int, char **, char **),
                 void *arg, char **error)
{
    int (*next)(struct sqlite3 *, const char *, int (*)(void *, int, char **, char **), void *,
                char **) = dlsym(RTLD_NEXT, "sqlite3_exec");
    count_statement();
    return next(db, sql, each, arg, error);
}
