// SPDX-License-Identifier: Apache-2.0
#include "app/capture.h"

#include "app/capture_hook.h"
#include "capture_event.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/secret.h"
#include "store/capture_store.h"
#include "store/object_store.h"
#include "store/usage_query.h"
#include "store/usage_retention.h"
#include "store/usage_writer.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <time.h>
#include <unistd.h>

#define TURN_MS       200   // between two looks at the queue
#define KEEP_MS       60000 // between two looks for what is too old
#define STOP_MS       5000  // for what still waits at the stop
#define LOG_EVERY_MS  60000 // dropped events are logged this often
#define WARN_EVERY_MS 100   // at most ten warnings of the tripwire a second
#define HASH_CONTEXT  "chaperone capture hash 1"

struct ch_capture_plan {
    atomic_int refs;
    struct ch_scrub_rules *scrub;
    struct ch_record_rules *rules;
    bool trips;
    int64_t retention_ms, usage_retention_ms, hook_timeout_ms, objects;
    char hook_program[CH_CONFIG_PATH];
};

struct ch_capturer {
    struct ch_store *store;
    struct ch_capture_queue *queue;
    pthread_t thread;
    pthread_mutex_t mutex; // guards `plan` and, for `wake`, the stop
    pthread_cond_t wake;
    struct ch_capture_plan *plan;
    atomic_bool is_stopping;
    _Atomic int64_t stored, left_out, hook_dropped, failed, tripped;

    // the thread's own
    struct ch_capture_plan *in_use; // by the event at hand; a reference
    struct ch_capture_hook *hook;   // of that plan; NULL: it has none
    struct ch_capture_file *file;
    struct ch_buf line;
    unsigned char hash_key[CH_RECORD_RULE_KEY];
    int64_t kept_at_ns, logged_at_ns, warned_at_ns, stop_ns;
    int64_t logged_drops, warns_dropped;
    bool has_old_rows;
    struct ch_why why; // of the last failure
};

// ---- plans

static enum ch_err compile(const struct ch_config *config, struct ch_capture_plan *plan,
                           struct ch_why *why)
{
    struct ch_span texts[CH_RECORD_RULES_MAX];
    struct ch_why reason = {""};
    ch_config_texts_spans(&config->capture.patterns, texts);
    enum ch_err err =
        ch_scrub_rules_new(texts, config->capture.patterns.count, &plan->scrub, &reason);
    if (err)
        return ch_why_set(why, err, "capture.patterns: %.400s", reason.text);
    ch_config_texts_spans(&config->capture.rules, texts);
    err = ch_record_rules_new(texts, config->capture.rules.count, &plan->rules, &reason);
    if (err)
        return ch_why_set(why, err, "capture.rules: %.400s", reason.text);
    if (plan->hook_program[0] && access(plan->hook_program, X_OK) != 0)
        return ch_why_set(why, CH_ERR_INVALID, "capture.hook.program: %.300s: %s",
                          plan->hook_program, strerror(errno));
    return CH_OK;
}

enum ch_err ch_capture_plan_new(const struct ch_config *config, struct ch_capture_plan **plan_out,
                                struct ch_why *why)
{
    _Static_assert(CH_SCRUB_PATTERNS_MAX <= CH_RECORD_RULES_MAX, "one array serves both");
    struct ch_capture_plan *plan = ch_zcalloc(1, sizeof *plan);
    if (!plan)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    atomic_init(&plan->refs, 1);
    plan->trips = config->capture.tripwire;
    plan->retention_ms = config->capture.retention;
    plan->usage_retention_ms = config->usage_retention;
    plan->objects = config->limits.objects;
    plan->hook_timeout_ms = config->capture.hook_timeout;
    ch_span_copy(ch_span_of(config->capture.hook_program), plan->hook_program,
                 sizeof plan->hook_program);
    enum ch_err err = compile(config, plan, why);
    if (err)
        ch_capture_plan_unref(plan);
    else
        *plan_out = plan;
    return err;
}

void ch_capture_plan_unref(struct ch_capture_plan *plan)
{
    if (!plan || atomic_fetch_sub(&plan->refs, 1) != 1)
        return;
    ch_scrub_rules_free(plan->scrub);
    ch_record_rules_free(plan->rules);
    ch_zfree(plan);
}

void ch_capturer_set_plan(struct ch_capturer *capturer, struct ch_capture_plan *plan)
{
    pthread_mutex_lock(&capturer->mutex);
    struct ch_capture_plan *old = capturer->plan;
    capturer->plan = plan;
    pthread_mutex_unlock(&capturer->mutex);
    ch_capture_plan_unref(old);
}

// The plan of the moment and its program. A program that could not be made is tried again with the
// next event, which is dropped meanwhile.
static enum ch_err use_plan(struct ch_capturer *c)
{
    pthread_mutex_lock(&c->mutex);
    struct ch_capture_plan *plan = c->plan;
    atomic_fetch_add(&plan->refs, 1);
    pthread_mutex_unlock(&c->mutex);
    struct ch_capture_plan *old = c->in_use;
    c->in_use = plan;
    bool is_same = old && old->hook_timeout_ms == plan->hook_timeout_ms &&
                   strcmp(old->hook_program, plan->hook_program) == 0;
    ch_capture_plan_unref(old);
    if (is_same && (c->hook || !plan->hook_program[0]))
        return CH_OK;
    ch_capture_hook_free(c->hook);
    c->hook = NULL;
    return plan->hook_program[0] ? ch_capture_hook_new(plan->hook_program, plan->hook_timeout_ms,
                                                       &c->is_stopping, &c->hook)
                                 : CH_OK;
}

// ---- the tripwire

static const char *kind_of(unsigned found)
{
    if (!(found & CH_SCRUB_WRAPPED_KEY))
        return "provider_key";
    return found & CH_SCRUB_PROVIDER_KEY ? "provider_key,wrapped_key" : "wrapped_key";
}

// Names the request and the key it came with, never what was found.
static void warn_of_key(struct ch_capturer *c, const struct ch_capture *capture, unsigned found)
{
    char id[CH_REQUEST_ID_TEXT];
    int64_t now_ns = ch_clock_mono_ns();
    if (c->warned_at_ns && now_ns - c->warned_at_ns < WARN_EVERY_MS * CH_NS_PER_MS) {
        c->warns_dropped++;
        return;
    }
    c->warned_at_ns = now_ns;
    ch_id_format(capture->id, id);
    CH_LOG(CH_LOG_WARN, "prompt_carries_key", ch_log_text("request", id),
           ch_log_text("key", capture->key), ch_log_text("kind", kind_of(found)),
           ch_log_int("more_like_it", c->warns_dropped));
    c->warns_dropped = 0;
}

static bool carries_key(struct ch_capturer *c, const struct ch_capture *capture)
{
    unsigned found = ch_scrub_look(c->in_use->scrub, CH_SCRUB_JSON, ch_buf_span(&capture->request));
    found &= CH_SCRUB_PROVIDER_KEY | CH_SCRUB_WRAPPED_KEY;
    if (found) {
        atomic_fetch_add(&c->tripped, 1);
        warn_of_key(c, capture, found);
    }
    return found != 0;
}

// ---- one event

static bool is_event_again(const json_t *event, const json_t *answer)
{
    return json_is_object(answer) &&
           json_equal(json_object_get(event, "id"), json_object_get(answer, "id"));
}

// Has the program decide. The event in *event, or NULL when it is not to be kept.
static enum ch_err ask_hook(struct ch_capturer *c, json_t **event)
{
    struct ch_span text;
    ch_buf_clear(&c->line);
    enum ch_err err = ch_capture_event_write(*event, &c->line);
    if (!err)
        err = ch_capture_hook_ask(c->hook, ch_buf_span(&c->line), &text);
    if (err)
        return err;
    json_t *answer = json_loadb(text.ptr, text.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    bool is_good = json_is_null(answer) || is_event_again(*event, answer);
    ch_capture_hook_judge(c->hook, is_good);
    if (!is_good) {
        json_decref(answer);
        return CH_ERR_INVALID;
    }
    json_decref(*event);
    *event = json_is_null(answer) ? NULL : answer;
    return CH_OK;
}

static void fail(struct ch_capturer *c, enum ch_err err)
{
    if (!c->why.text[0])
        ch_why_set(&c->why, err, "%s", ch_err_name(err));
    atomic_fetch_add(&c->failed, 1);
}

// `event` NULL: it was left out on purpose.
static void settle_event(struct ch_capturer *c, int64_t id, const json_t *event)
{
    if (!event) {
        atomic_fetch_add(&c->left_out, 1);
        return;
    }
    ch_buf_clear(&c->line);
    enum ch_err err = ch_capture_event_write(event, &c->line);
    if (!err)
        err =
            ch_capture_file_append(c->file, ch_clock_wall_ms(), id, ch_buf_span(&c->line), &c->why);
    if (err)
        fail(c, err);
    else
        atomic_fetch_add(&c->stored, 1);
}

// Everything between the row and the file. *event becomes NULL when a rule or the program leaves it
// out.
static enum ch_err prepare(struct ch_capturer *c, const struct ch_capture *capture, bool is_tripped,
                           json_t **event)
{
    bool keep = false;
    enum ch_err err = ch_capture_event_fill(*event, capture, c->in_use->scrub);
    if (!err && is_tripped && json_object_set_new(*event, "prompt_carries_key", json_true()))
        err = CH_ERR_NOMEM;
    if (!err)
        err = ch_capture_event_apply(*event, c->in_use->rules, c->hash_key, &keep);
    if (!err && !keep) {
        json_decref(*event);
        *event = NULL;
    }
    return err;
}

// False: the program, where there is one, has not answered as it must.
static bool passes_hook(struct ch_capturer *c, json_t **event)
{
    if (!c->in_use->hook_program[0])
        return true;
    enum ch_err err = ask_hook(c, event);
    if (!err)
        return true;
    ch_why_set(&c->why, err, "%.300s: %s", c->in_use->hook_program, ch_err_name(err));
    atomic_fetch_add(&c->hook_dropped, 1);
    return false;
}

static void keep_event(struct ch_capturer *c, const struct ch_capture *capture, bool is_tripped)
{
    json_t *event = NULL;
    enum ch_err err = ch_usage_find(c->store, capture->id, &event, &c->why);
    if (!err)
        err = prepare(c, capture, is_tripped, &event);
    if (err)
        fail(c, err);
    else if (!event || passes_hook(c, &event))
        settle_event(c, capture->id, event);
    json_decref(event);
}

static void handle(struct ch_capturer *c, const struct ch_capture *capture)
{
    if (use_plan(c)) {
        fail(c, CH_ERR_NOMEM);
        return;
    }
    bool is_tripped = c->in_use->trips && capture->has_request && carries_key(c, capture);
    if (capture->is_kept)
        keep_event(c, capture, is_tripped);
}

// ---- the thread

static void commit(struct ch_capturer *c)
{
    enum ch_err err = ch_capture_file_commit(c->file, c->store, &c->why);
    if (err)
        CH_LOG(CH_LOG_DEBUG, "capture_index_waits", ch_log_text("err", c->why.text));
}

static bool is_out_of_time(const struct ch_capturer *c)
{
    return c->stop_ns && ch_clock_mono_ns() - c->stop_ns > STOP_MS * CH_NS_PER_MS;
}

// Notes when the stop came, once.
static void look_for_stop(struct ch_capturer *c)
{
    if (!c->stop_ns && atomic_load(&c->is_stopping))
        c->stop_ns = ch_clock_mono_ns();
}

// Keeps what waits, a batch at a time: the rows of a batch are committed before it is begun.
static void handle_all(struct ch_capturer *c)
{
    unsigned in_batch = 0;
    struct ch_capture *capture = ch_capture_queue_take(c->queue), *next;
    for (; capture; capture = next) {
        next = capture->next;
        look_for_stop(c);
        if (in_batch++ % CH_CAPTURE_BATCH == 0) {
            commit(c);
            ch_usage_writer_flush(c->store);
        }
        if (is_out_of_time(c))
            fail(c, CH_ERR_TIMEOUT);
        else
            handle(c, capture);
        ch_capture_free(c->queue, capture);
    }
    commit(c);
}

static void drop_old_rows(struct ch_capturer *c)
{
    int64_t dropped = 0, retention_ms = c->in_use->usage_retention_ms;
    struct ch_why why = {""};
    c->has_old_rows = false;
    if (retention_ms == 0)
        return;
    if (ch_usage_drop_before(c->store, ch_clock_wall_ms() - retention_ms, &dropped, &why))
        CH_LOG(CH_LOG_WARN, "usage_retention_failed", ch_log_text("err", why.text));
    c->has_old_rows = dropped == CH_USAGE_DROP_BATCH; // the rest in the next turns
}

static void drop_old_objects(struct ch_capturer *c)
{
    struct ch_why why = {""};
    if (ch_object_drop(c->store, ch_clock_wall_ms() - CH_OBJECT_MS, c->in_use->objects, &why))
        CH_LOG(CH_LOG_WARN, "object_retention_failed", ch_log_text("err", why.text));
}

static void drop_old_days(struct ch_capturer *c)
{
    int64_t files = 0;
    struct ch_why why = {""};
    if (ch_capture_file_expire(c->file, c->store, ch_clock_wall_ms(), c->in_use->retention_ms,
                               &files, &why))
        CH_LOG(CH_LOG_WARN, "capture_retention_failed", ch_log_text("err", why.text));
    if (files)
        CH_LOG(CH_LOG_INFO, "capture_days_dropped", ch_log_int("files", files));
}

static void drop_old(struct ch_capturer *c)
{
    int64_t now_ns = ch_clock_mono_ns();
    bool is_due = !c->kept_at_ns || now_ns - c->kept_at_ns > KEEP_MS * CH_NS_PER_MS;
    if ((!is_due && !c->has_old_rows) || use_plan(c))
        return;
    drop_old_rows(c);
    if (!is_due)
        return;
    c->kept_at_ns = now_ns;
    drop_old_objects(c);
    drop_old_days(c);
}

static int64_t count_drops(const struct ch_capturer *c)
{
    return ch_capture_queue_dropped(c->queue) + atomic_load(&c->hook_dropped) +
           atomic_load(&c->failed);
}

static void log_drops(struct ch_capturer *c)
{
    int64_t now_ns = ch_clock_mono_ns(), drops = count_drops(c);
    if (drops == c->logged_drops ||
        (c->logged_at_ns && now_ns - c->logged_at_ns < LOG_EVERY_MS * CH_NS_PER_MS))
        return;
    CH_LOG(CH_LOG_WARN, "captures_dropped", ch_log_int("since_last", drops - c->logged_drops),
           ch_log_int("full", ch_capture_queue_dropped(c->queue)),
           ch_log_int("hook", atomic_load(&c->hook_dropped)),
           ch_log_int("failed", atomic_load(&c->failed)), ch_log_text("err", c->why.text));
    c->logged_drops = drops;
    c->logged_at_ns = now_ns;
    c->why.text[0] = '\0';
}

// False once the thread is to end.
static bool wait_a_turn(struct ch_capturer *c)
{
    int64_t until_ns = ch_clock_mono_ns() + TURN_MS * CH_NS_PER_MS;
    const struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
    bool is_over = false;
    pthread_mutex_lock(&c->mutex);
    while (!is_over && !atomic_load(&c->is_stopping))
        is_over = pthread_cond_timedwait(&c->wake, &c->mutex, &until) != 0;
    pthread_mutex_unlock(&c->mutex);
    return !atomic_load(&c->is_stopping);
}

static void *run(void *arg)
{
    struct ch_capturer *c = arg;
    bool goes_on = true;
    while (goes_on) {
        drop_old(c);
        goes_on = wait_a_turn(c);
        handle_all(c); // also after the stop: the loops push no more
        log_drops(c);
    }
    ch_capture_hook_free(c->hook); // here: the program dies with the thread that started it
    return NULL;
}

// ---- start and stop

static void free_capturer(struct ch_capturer *c)
{
    ch_capture_plan_unref(c->in_use);
    ch_capture_file_free(c->file);
    ch_buf_fini(&c->line);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->mutex);
    ch_zfree(c);
}

// Equal values have equal hashes as long as the installation lives, and mean nothing outside of it.
static void derive_hash_key(struct ch_capturer *c)
{
    struct ch_span pepper = ch_secret_reveal(ch_store_pepper(c->store));
    crypto_generichash(c->hash_key, sizeof c->hash_key, (const unsigned char *)HASH_CONTEXT,
                       sizeof HASH_CONTEXT - 1, (const unsigned char *)pepper.ptr, pepper.len);
}

enum ch_err ch_capturer_start(struct ch_store *store, struct ch_capture_queue *queue,
                              const char *directory, struct ch_capture_plan *plan,
                              struct ch_capturer **capturer_out, struct ch_why *why)
{
    struct ch_capturer *c = ch_zcalloc(1, sizeof *c);
    if (!c)
        return ch_why_set(why, CH_ERR_NOMEM, "out of memory");
    c->store = store;
    c->queue = queue;
    c->plan = plan;
    ch_buf_init(&c->line, CH_CAPTURE_LINE_MAX);
    derive_hash_key(c);
    pthread_mutex_init(&c->mutex, NULL);
    ch_clock_condition_init(&c->wake);
    enum ch_err err = ch_capture_file_new(directory, &c->file);
    if (!err && pthread_create(&c->thread, NULL, run, c) != 0)
        err = CH_ERR_UNAVAILABLE;
    if (err) {
        free_capturer(c);
        return ch_why_set(why, err, "the capture thread could not be started");
    }
    pthread_setname_np(c->thread, "capture");
    *capturer_out = c;
    return CH_OK;
}

void ch_capturer_stop(struct ch_capturer *capturer)
{
    if (!capturer)
        return;
    pthread_mutex_lock(&capturer->mutex);
    atomic_store(&capturer->is_stopping, true);
    pthread_cond_signal(&capturer->wake);
    pthread_mutex_unlock(&capturer->mutex);
    pthread_join(capturer->thread, NULL);
    ch_capture_plan_unref(capturer->plan);
    free_capturer(capturer);
}

void ch_capturer_counts(const struct ch_capturer *capturer, struct ch_capturer_counts *counts_out)
{
    *counts_out = (struct ch_capturer_counts){
        .stored = atomic_load(&capturer->stored),
        .left_out = atomic_load(&capturer->left_out),
        .dropped = count_drops(capturer),
        .waiting = ch_capture_queue_count(capturer->queue),
        .tripped = atomic_load(&capturer->tripped),
    };
}
