// SPDX-License-Identifier: Apache-2.0
#include "request.h"

static bool take_front(struct ch_span *word, struct ch_span front)
{
    if (!ch_span_starts(*word, front))
        return false;
    *word = ch_span_sub(*word, front.len);
    return true;
}

static void read_number(struct ch_span text, int64_t max, int64_t *out)
{
    int64_t value;
    if (ch_span_to_int64(text, &value) == CH_OK)
        *out = value < max ? value : max;
}

static void read_delay(struct ch_span text, int64_t *ms_out)
{
    struct ch_span unit = CH_SPAN("ms");
    if (ch_span_ends(text, unit))
        read_number((struct ch_span){text.ptr, text.len - unit.len}, CH_SANDBOX_DELAY_MAX_MS,
                    ms_out);
}

static bool read_flag(struct ch_sandbox_directives *d, struct ch_span word)
{
    const struct {
        const char *word;
        bool *flag;
    } flags[] = {
        {"cached", &d->cached},
        {"thinking", &d->thinking},
        {"cache-write", &d->cache_write},
        {"no-usage", &d->no_usage},
        {"cut", &d->cut},
        {"reset", &d->reset},
        {"garbage", &d->garbage},
        {"redirect", &d->redirect},
        {"echo-key", &d->echo_key},
        {"echo-content", &d->echo_content},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (ch_span_eq(word, ch_span_of(flags[i].word))) {
            *flags[i].flag = true;
            return true;
        }
    }
    return false;
}

static void read_status(struct ch_span text, int64_t *status_out)
{
    int64_t status;
    if (text.len == 3 && ch_span_to_int64(text, &status) == CH_OK && status >= 400 && status <= 599)
        *status_out = status;
}

void ch_sandbox_directive_read(struct ch_sandbox_directives *directives, struct ch_span word)
{
    if (read_flag(directives, word))
        return;
    if (take_front(&word, CH_SPAN("slow-")))
        read_delay(word, &directives->slow_ms);
    else if (take_front(&word, CH_SPAN("drip-")))
        read_delay(word, &directives->drip_ms);
    else if (take_front(&word, CH_SPAN("events-")))
        read_number(word, CH_SANDBOX_EVENTS_MAX, &directives->events);
    else if (take_front(&word, CH_SPAN("size-")))
        read_number(word, CH_SANDBOX_SIZE_MAX, &directives->size);
    else
        read_status(word, &directives->status);
}
