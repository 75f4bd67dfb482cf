// SPDX-License-Identifier: Apache-2.0
// The one error type of the program, and the sentence that may travel with it.
//
// Fallible functions return `enum ch_err` by value and give results through out-pointers, named
// `x_out`, which are set only on success. Where a person will read the reason (configuration,
// commands, start-up) a `struct ch_why` carries one sentence; elsewhere the code alone is enough.
#ifndef CH_BASE_ERR_H
#define CH_BASE_ERR_H

#define CH_MUST_USE     __attribute__((warn_unused_result))
// A way that goes wrong: kept out of the path of those that go well, as is what leads to it.
#define CH_COLD         __attribute__((cold))
#define CH_PRINTF(f, a) __attribute__((format(printf, f, a)))

enum ch_err {
    CH_OK = 0,
    CH_ERR_NOMEM,       // an allocation failed
    CH_ERR_IO,          // a system call failed
    CH_ERR_INVALID,     // the input is not what it must be
    CH_ERR_LIMIT,       // a named limit was reached
    CH_ERR_NOT_FOUND,   // no such object
    CH_ERR_CONFLICT,    // it exists already, or its state forbids the change
    CH_ERR_DENIED,      // the caller may not do this
    CH_ERR_CORRUPT,     // a checksum, MAC or invariant does not hold
    CH_ERR_UNAVAILABLE, // not now: full, stopping, or not reachable
    CH_ERR_TIMEOUT,     // a deadline passed
    CH_ERR_AGAIN,       // incomplete: call again when there is more
};

// The code as a short constant word ("not_found"), for logs and JSON.
const char *ch_err_name(enum ch_err err);

// One sentence for a person, without a final line break. Filled by the function that fails.
struct ch_why {
    char text[512];
};

// Formats the sentence into `why` (NULL: dropped) and returns `err`, so that a failing function can
// `return ch_why_set(why, CH_ERR_INVALID, "…")`.
enum ch_err ch_why_set(struct ch_why *why, enum ch_err err, const char *format, ...)
    CH_PRINTF(3, 4);

// A broken invariant is a bug: prints the place and aborts, in every build.
#define CH_ASSERT(cond) ((cond) ? (void)0 : ch_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void ch_assert_failed(const char *cond, const char *file, int line);

#endif
