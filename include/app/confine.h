// SPDX-License-Identifier: Apache-2.0
// What the daemon gives up once it has started: to execute a program, and to ask the kernel for
// what no relay needs and whoever has taken it over would like (tracing, other processes' memory,
// namespaces, mounts, modules, io_uring, …). It holds for the process, all its threads and its
// children, for as long as they live; the unit's own filter, if there is one, holds as well.
//
// Called once, from app/daemon, when all but the admin socket is open. The filter is the kernel's
// own (seccomp(2)); since 5.11 the kernel remembers which calls always pass.
#ifndef CH_APP_CONFINE_H
#define CH_APP_CONFINE_H

#include "base/err.h"

#include <stdbool.h>

enum ch_confinement {
    CH_CONFINEMENT_NONE,     // the kernel has refused
    CH_CONFINEMENT_PROGRAMS, // all but executing programs, which the capture hook needs
    CH_CONFINEMENT_FULL,
};
const char *ch_confinement_name(enum ch_confinement confinement);

// What is given up fails with EPERM from now on. `may_execute`: programs may still be executed,
// with no privileges that the process has not. (A helper forked beforehand could start the hook
// instead; it would be one more process to guard, and a reload could tell it what to start.)
// CH_ERR_UNAVAILABLE: the kernel refuses, `why` says how, and the process goes on as it was, but
// for PR_SET_NO_NEW_PRIVS.
enum ch_err ch_confine(bool may_execute, struct ch_why *why) CH_MUST_USE;

#endif
