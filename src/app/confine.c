// SPDX-License-Identifier: Apache-2.0
#include "app/confine.h"

#include "base/str.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#else
#define NATIVE 0 // its numbers and arguments have not been looked at
#endif

#define X32_BIT          0x40000000U // of x86-64's other set of numbers
#define INSTRUCTIONS_MAX 192
#define NAMESPACES                                                                                 \
    (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |     \
     CLONE_NEWCGROUP)

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TRACES_ITSELF
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define TRACES_ITSELF
#endif

static const int execution[] = {__NR_execve, __NR_execveat};

static const int given_up[] = {
// other processes
#ifndef TRACES_ITSELF // as the leak checker of the address sanitizer does
    __NR_ptrace,
#endif
    __NR_process_vm_readv,
    __NR_process_vm_writev,
    __NR_kcmp,
    __NR_pidfd_getfd,
    __NR_process_madvise,
    // large and young parts of the kernel
    __NR_bpf,
    __NR_userfaultfd,
    __NR_perf_event_open,
    __NR_io_uring_setup,
    __NR_io_uring_enter,
    __NR_io_uring_register,
    __NR_add_key,
    __NR_request_key,
    __NR_keyctl,
    // namespaces, mounts, roots; clone is looked at more closely
    __NR_unshare,
    __NR_setns,
    __NR_mount,
    __NR_umount2,
    __NR_pivot_root,
    __NR_chroot,
    __NR_open_tree,
    __NR_move_mount,
    __NR_fsopen,
    __NR_fsconfig,
    __NR_fsmount,
    __NR_fspick,
    __NR_mount_setattr,
    __NR_open_by_handle_at,
    __NR_quotactl,
    __NR_swapon,
    __NR_swapoff,
    // the machine itself
    __NR_init_module,
    __NR_finit_module,
    __NR_delete_module,
    __NR_kexec_load,
    __NR_reboot,
    __NR_acct,
    __NR_syslog,
    __NR_sethostname,
    __NR_setdomainname,
    __NR_settimeofday,
    __NR_clock_settime,
    __NR_clock_adjtime,
    __NR_adjtimex,
    __NR_personality,
#ifdef __NR_kexec_file_load
    __NR_kexec_file_load,
#endif
#ifdef __x86_64__
    __NR_modify_ldt,
    __NR_ioperm,
    __NR_iopl,
#endif
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

struct program {
    struct sock_filter at[INSTRUCTIONS_MAX];
    unsigned short len;
};

static void put(struct program *p, struct sock_filter instruction)
{
    CH_ASSERT(p->len < INSTRUCTIONS_MAX);
    p->at[p->len++] = instruction;
}

static void load(struct program *p, size_t offset)
{
    put(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void fail_with(struct program *p, int error)
{
    put(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error));
}

static void pass(struct program *p)
{
    put(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
}

// What follows is skipped, `skipped` instructions of it, unless `test` holds of what was loaded.
static void unless(struct program *p, uint16_t test, uint32_t operand, uint8_t skipped)
{
    put(p, (struct sock_filter)BPF_JUMP((uint16_t)(BPF_JMP | test | BPF_K), operand, 0, skipped));
}

static void refuse(struct program *p, const int *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unless(p, BPF_JEQ, (uint32_t)numbers[i], 1);
        fail_with(p, EPERM);
    }
}

static void build(struct program *p, bool may_execute)
{
    load(p, offsetof(struct seccomp_data, arch));
    put(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE, 1, 0));
    fail_with(p, EPERM);
    load(p, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
    unless(p, BPF_JGE, X32_BIT, 1);
    fail_with(p, EPERM);
#endif
    if (!may_execute)
        refuse(p, execution, COUNT(execution));
    refuse(p, given_up, COUNT(given_up));
    // A filter cannot see clone3's flags, which stand in memory: the C library takes clone instead.
    unless(p, BPF_JEQ, __NR_clone3, 1);
    fail_with(p, ENOSYS);
    unless(p, BPF_JEQ, __NR_clone, 3);
    load(p, offsetof(struct seccomp_data, args[0])); // both architectures are little-endian
    unless(p, BPF_JSET, NAMESPACES, 1);
    fail_with(p, EPERM);
    pass(p);
}

enum ch_err ch_confine(bool may_execute, struct ch_why *why)
{
    struct program p = {.len = 0};
    if (NATIVE == 0)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "seccomp: not known on this architecture");
    build(&p, may_execute);
    const struct sock_fprog handed = {.len = p.len, .filter = p.at};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "no_new_privs: %s", strerror(errno));
    // All threads at once. SPEC_ALLOW: nobody's code runs here but our own, so the processor may
    // guess as it does everywhere else; without it older kernels slow the whole process down.
    long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                          SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW, &handed);
    if (result != 0)
        return ch_why_set(why, CH_ERR_UNAVAILABLE, "seccomp: %s",
                          result < 0 ? strerror(errno) : "a thread has a filter of its own");
    return CH_OK;
}
const char *ch_confinement_name(enum ch_confinement confinement)
{
    static const char *const names[] = {[CH_CONFINEMENT_NONE] = "none",
                                        [CH_CONFINEMENT_PROGRAMS] = "except_programs",
                                        [CH_CONFINEMENT_FULL] = "full"};
    return names[confinement];
}
