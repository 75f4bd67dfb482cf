// SPDX-License-Identifier: Apache-2.0
// Each case in a child: there is no way back.
#include "app/confine.h"

#include "../../integration/harness/refuse_seccomp.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition))                                                                          \
            _exit(__LINE__ % 200 + 1);                                                             \
    } while (0)

// What the child returns with: 0, or something of the line that failed.
static int run(void (*child)(void))
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        child();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int executes(void)
{
    char *const arguments[] = {(char[]){"true"}, NULL};
    char *const environment[] = {NULL};
    int status;
    pid_t pid = vfork();
    if (pid == 0) {
        execve("/bin/true", arguments, environment);
        _exit(errno);
    }
    EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static bool is_refused(long result)
{
    return result == -1 && errno == EPERM;
}

// As an ordinary user the kernel would refuse some of it anyway; these it does not.
static void expect_confined(void)
{
    EXPECT(is_refused(syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0)));
    EXPECT(is_refused(syscall(SYS_io_uring_setup, 0, NULL)));
    EXPECT(is_refused(syscall(SYS_keyctl, 0, -3, 0)));
    EXPECT(is_refused(syscall(SYS_unshare, 0)));
    EXPECT(is_refused(syscall(SYS_clone, CLONE_NEWUSER | 17, NULL, NULL, NULL, NULL)));
    EXPECT(is_refused(syscall(SYS_personality, 0xffffffff)));
}

static void *look_around(void *arg)
{
    expect_confined();
    EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    *(int *)arg = executes();
    return NULL;
}

static void confine_fully(void)
{
    struct ch_why why = {""};
    EXPECT(executes() == 0);
    EXPECT(ch_confine(false, &why) == CH_OK);
    EXPECT(executes() == EPERM);
    EXPECT(is_refused(syscall(SYS_execveat, -1, "/bin/true", NULL, NULL, 0)));
    expect_confined();
    EXPECT(getppid() > 0);
}

static void no_program_and_no_privilege(void **state)
{
    (void)state;
    assert_int_equal(run(confine_fully), 0);
}

static pthread_barrier_t barrier;

static void *look_around_later(void *arg)
{
    pthread_barrier_wait(&barrier);
    return look_around(arg);
}

static void confine_threads(void)
{
    struct ch_why why = {""};
    int before = 0, after = 0;
    pthread_t early, late;
    pthread_barrier_init(&barrier, NULL, 2);
    EXPECT(pthread_create(&early, NULL, look_around_later, &before) == 0);
    EXPECT(ch_confine(false, &why) == CH_OK);
    pthread_barrier_wait(&barrier);
    EXPECT(pthread_create(&late, NULL, look_around, &after) == 0);
    pthread_join(early, NULL);
    pthread_join(late, NULL);
    EXPECT(before == EPERM && after == EPERM);
}

static void threads_of_before_and_after_are_confined(void **state)
{
    (void)state;
    assert_int_equal(run(confine_threads), 0);
}

static void confine_but_for_programs(void)
{
    struct ch_why why = {""};
    EXPECT(ch_confine(true, &why) == CH_OK);
    EXPECT(executes() == 0);
    expect_confined();
}

static void programs_may_be_left_out(void **state)
{
    (void)state;
    assert_int_equal(run(confine_but_for_programs), 0);
}

static void be_refused(void)
{
    struct ch_why why = {""};
    EXPECT(refuse_seccomp());
    EXPECT(ch_confine(false, &why) == CH_ERR_UNAVAILABLE);
    EXPECT(strstr(why.text, "seccomp: Function not implemented"));
    EXPECT(executes() == 0);
}

static void a_kernel_that_refuses_is_named(void **state)
{
    (void)state;
    assert_int_equal(run(be_refused), 0);
}

static void names_are_words(void **state)
{
    (void)state;
    assert_string_equal(ch_confinement_name(CH_CONFINEMENT_NONE), "none");
    assert_string_equal(ch_confinement_name(CH_CONFINEMENT_PROGRAMS), "except_programs");
    assert_string_equal(ch_confinement_name(CH_CONFINEMENT_FULL), "full");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_program_and_no_privilege),
        cmocka_unit_test(threads_of_before_and_after_are_confined),
        cmocka_unit_test(programs_may_be_left_out),
        cmocka_unit_test(a_kernel_that_refuses_is_named),
        cmocka_unit_test(names_are_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
