// SPDX-License-Identifier: Apache-2.0
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *ch_err_name(enum ch_err err)
{
    static const char *const names[] = {
        [CH_OK] = "ok",
        [CH_ERR_NOMEM] = "out_of_memory",
        [CH_ERR_IO] = "io",
        [CH_ERR_INVALID] = "invalid",
        [CH_ERR_LIMIT] = "limit",
        [CH_ERR_NOT_FOUND] = "not_found",
        [CH_ERR_CONFLICT] = "conflict",
        [CH_ERR_DENIED] = "denied",
        [CH_ERR_CORRUPT] = "corrupt",
        [CH_ERR_UNAVAILABLE] = "unavailable",
        [CH_ERR_TIMEOUT] = "timeout",
        [CH_ERR_AGAIN] = "again",
    };
    return names[err];
}

enum ch_err ch_why_set(struct ch_why *why, enum ch_err err, const char *format, ...)
{
    if (why) {
        va_list args;
        va_start(args, format);
        vsnprintf(why->text, sizeof why->text, format, args);
        va_end(args);
    }
    return err;
}

_Noreturn void ch_assert_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "chaperone: broken invariant `%s` at %s:%d\n", cond, file, line);
    abort();
}
