// SPDX-License-Identifier: Apache-2.0
#include "admin/alerts.h"

#include "base/log.h"
#include "base/money.h"
#include "base/secret.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define QUEUE_MAX 1024 // events that wait; 48 KiB

struct ch_alerts {
    struct ch_store *store;
    int wake;             // eventfd: added to for each event
    pthread_mutex_t lock; // guards the rest, for a few instructions
    struct ch_budget_event queue[QUEUE_MAX];
    size_t first, count;
    int64_t lost; // since the last look
};

// ---- the loops' side

static void on_budget_alert(void *arg, const struct ch_budget_event *event)
{
    struct ch_alerts *alerts = arg;
    pthread_mutex_lock(&alerts->lock);
    if (alerts->count < QUEUE_MAX)
        alerts->queue[(alerts->first + alerts->count++) % QUEUE_MAX] = *event;
    else
        alerts->lost++;
    pthread_mutex_unlock(&alerts->lock);
    // Never blocks: the counter is far from its end. It is read anyhow when the next one comes.
    CH_ASSERT(eventfd_write(alerts->wake, 1) == 0 || errno == EAGAIN);
}

// ---- the admin thread's side

static bool take(struct ch_alerts *alerts, struct ch_budget_event *event_out, int64_t *lost_out)
{
    pthread_mutex_lock(&alerts->lock);
    bool has_one = alerts->count > 0;
    if (has_one) {
        *event_out = alerts->queue[alerts->first];
        alerts->first = (alerts->first + 1) % QUEUE_MAX;
        alerts->count--;
    }
    *lost_out = alerts->lost;
    alerts->lost = 0;
    pthread_mutex_unlock(&alerts->lock);
    return has_one;
}

struct record_job {
    struct ch_budget_alert alert;
    struct ch_budget_row budget;
    bool is_new;
};

static enum ch_err find_budget(void *arg, const struct ch_budget_row *row)
{
    struct record_job *job = arg;
    if (row->id == job->alert.budget_id)
        job->budget = *row;
    return CH_OK;
}

// No change by an operator, and so not one for the audit log.
static enum ch_err record_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    struct record_job *job = arg;
    return ch_budget_note_alert(db, &job->alert, &job->is_new, why);
}

static enum ch_err name_in_store(struct ch_db *db, void *arg, struct ch_why *why)
{
    return ch_budget_each(db, find_budget, arg, why);
}

static void log_alert(const struct record_job *job)
{
    char spent[CH_MONEY_TEXT], cap[CH_MONEY_TEXT];
    const struct ch_budget_row *budget = &job->budget;
    ch_money_format(job->alert.spent_nano_usd, spent);
    ch_money_format(job->alert.cap_nano_usd, cap);
    CH_LOG(CH_LOG_WARN, "budget_threshold",
           ch_log_text("scope", ch_budget_scope_name(budget->scope)),
           ch_log_text("name", budget->subject),
           ch_log_text("period", ch_budget_period_name(budget->period)),
           ch_log_int("percent", job->alert.percent), ch_log_text("spent_usd", spent),
           ch_log_text("cap_usd", cap));
}

// The registry tells a threshold once a period; the store does so across restarts.
static void record(struct ch_alerts *alerts, const struct ch_budget_event *event)
{
    struct ch_why why = {""};
    struct record_job job = {.alert = {.budget_id = event->budget_id,
                                       .period_start_ms = event->period_start_ms,
                                       .percent = event->percent,
                                       .fired_at_ms = event->at_ms,
                                       .spent_nano_usd = event->spent_nano_usd,
                                       .cap_nano_usd = event->cap_nano_usd}};
    enum ch_err err = ch_store_write(alerts->store, record_in_store, &job, &why);
    if (!err && job.is_new)
        err = ch_store_read(alerts->store, name_in_store, &job, &why);
    if (err)
        CH_LOG(CH_LOG_ERROR, "budget_threshold_not_recorded",
               ch_log_int("budget", event->budget_id), ch_log_int("percent", event->percent),
               ch_log_text("err", why.text));
    else if (job.is_new)
        log_alert(&job);
}

void ch_alerts_drain(struct ch_alerts *alerts)
{
    struct ch_budget_event event;
    int64_t lost;
    eventfd_t count;
    // Read before the queue is looked at, so that an event that comes meanwhile wakes again.
    CH_ASSERT(eventfd_read(alerts->wake, &count) == 0 || errno == EAGAIN);
    while (take(alerts, &event, &lost)) {
        record(alerts, &event);
        if (lost)
            CH_LOG(CH_LOG_ERROR, "budget_thresholds_lost", ch_log_int("count", lost));
    }
}

int ch_alerts_fd(const struct ch_alerts *alerts)
{
    return alerts->wake;
}

enum ch_err ch_alerts_new(struct ch_registry *registry, struct ch_store *store,
                          struct ch_alerts **alerts_out, struct ch_why *why)
{
    struct ch_alerts *alerts = ch_zcalloc(1, sizeof *alerts);
    if (!alerts)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    alerts->store = store;
    alerts->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (alerts->wake < 0) {
        ch_zfree(alerts);
        return ch_why_set(why, CH_ERR_IO, "budget alerts: no descriptor is left");
    }
    pthread_mutex_init(&alerts->lock, NULL);
    ch_registry_on_alert(registry, on_budget_alert, alerts);
    *alerts_out = alerts;
    return CH_OK;
}

void ch_alerts_free(struct ch_alerts *alerts)
{
    if (!alerts)
        return;
    ch_alerts_drain(alerts);
    pthread_mutex_destroy(&alerts->lock);
    close(alerts->wake);
    ch_zfree(alerts);
}
