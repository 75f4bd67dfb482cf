// SPDX-License-Identifier: Apache-2.0
#include "session.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "net/peer.h"

#include <sys/socket.h>
#include <unistd.h>

#define IDLE_NS     (600000 * CH_NS_PER_MS) // a client that sends no byte for ten minutes
#define BATCH_BYTES (16 * 1024)             // events rendered before they are written
#define SLICE_BYTES (256 * 1024)            // of a long answer, written at a time
#define BODY_MAX    ((size_t)CH_SANDBOX_SIZE_MAX + (192 << 20)) // embeddings are the longest
#define KEPT_BYTES  (1024 * 1024) // a scratch buffer that grew beyond is given back

//   HEAD ──> BODY ──> DELAYED ──> SENDING ──> HEAD
//     └────────────────────^         └──────> CLOSING
enum phase {
    HEAD,
    BODY,
    DELAYED, // the answer waits for its time
    SENDING,
    CLOSING, // the peer finishes alone
};

struct session {
    struct ch_sandbox_worker *worker;
    struct session *prev, *next;
    struct ch_deferred reaper;
    struct ch_peer peer;
    int fd; // the peer's, for the one socket option that is ours
    enum phase phase;
    bool is_delivering; // inside on_peer_bytes
    bool is_head_sent;  // of the answer
    bool is_rendered;   // the whole answer is in the backlog or behind it
    bool is_body_broken;
    struct ch_http1_body body;
    struct ch_json_scan scan;
    struct ch_multipart form;
    struct ch_timer timer;
    struct ch_buf backlog; // rendered, and too long to be written at once
    size_t backlog_at;
    struct ch_sandbox_request request;
    struct ch_sandbox_answer answer;
};

// ---- the worker

void ch_sandbox_worker_init(struct ch_sandbox_worker *worker, unsigned index,
                            const struct ch_sandbox_setting *setting)
{
    *worker = (struct ch_sandbox_worker){.setting = setting};
    ch_id_source_init(&worker->ids, index, 0);
    ch_sandbox_source_init(&worker->source);
    ch_buf_init(&worker->head_text, CH_HTTP1_HEAD_MAX);
    ch_buf_init(&worker->event, BODY_MAX);
    ch_buf_init(&worker->batch, BODY_MAX);
    ch_buf_init(&worker->line, CH_HTTP1_HEAD_MAX);
}

static void close_session(struct session *s);

void ch_sandbox_worker_fini(struct ch_sandbox_worker *worker)
{
    while (worker->sessions)
        close_session(worker->sessions);
    ch_sandbox_source_fini(&worker->source);
    ch_buf_fini(&worker->head_text);
    ch_buf_fini(&worker->event);
    ch_buf_fini(&worker->batch);
    ch_buf_fini(&worker->line);
}

// Scratch that one huge answer made grow is not kept for the rest of the run.
static void clear_scratch(struct ch_buf *buf)
{
    if (buf->cap > KEPT_BYTES)
        ch_buf_fini(buf);
    else
        ch_buf_clear(buf);
}

// ---- ends

static void free_session(void *arg)
{
    ch_zfree(arg);
}

static void close_session(struct session *s)
{
    struct ch_sandbox_worker *worker = s->worker;
    ch_timer_stop(&s->timer);
    ch_peer_close(&s->peer);
    ch_buf_fini(&s->backlog);
    if (s->prev)
        s->prev->next = s->next;
    else
        worker->sessions = s->next;
    if (s->next)
        s->next->prev = s->prev;
    ch_loop_defer(worker->loop, &s->reaper, free_session, s);
}

static void write_record(struct session *s, const char *outcome)
{
    struct ch_sandbox_worker *worker = s->worker;
    if (worker->setting->record_fd < 0)
        return;
    ch_buf_clear(&worker->line);
    if (ch_sandbox_answer_record(&s->answer, worker->setting->book, outcome, &worker->line) ||
        write(worker->setting->record_fd, worker->line.ptr, worker->line.len) !=
            (ssize_t)worker->line.len)
        CH_LOG(CH_LOG_ERROR, "record_failed", ch_log_text("outcome", outcome));
}

static void close_after_write(struct session *s)
{
    s->phase = CLOSING;
    ch_timer_stop(&s->timer);
    ch_peer_close_after_write(&s->peer);
}

static void set_idle_deadline(struct session *s)
{
    ch_peer_set_deadline(&s->peer, ch_loop_now_ns(s->worker->loop) + IDLE_NS);
}

// The answer is out of our hands: the next request, or the end.
static void finish_answer(struct session *s)
{
    ch_timer_stop(&s->timer);
    if (!s->request.keep_alive) {
        close_after_write(s);
        return;
    }
    s->phase = HEAD;
    set_idle_deadline(s);
    if (!s->is_delivering)
        ch_peer_resume(&s->peer); // a request may have come in the meantime
}

// ---- sending

// Writes what is left of the backlog. False: the client must read first, or is gone.
static bool drain_backlog(struct session *s)
{
    while (s->backlog_at < s->backlog.len) {
        size_t left = s->backlog.len - s->backlog_at;
        struct iovec slice = {s->backlog.ptr + s->backlog_at,
                              left < SLICE_BYTES ? left : SLICE_BYTES};
        if (ch_peer_is_blocked(&s->peer) || ch_peer_write(&s->peer, &slice, 1))
            return false;
        s->backlog_at += slice.iov_len;
    }
    ch_buf_fini(&s->backlog);
    s->backlog_at = 0;
    return true;
}

static bool send_parts(struct session *s, struct ch_span head, struct ch_span body)
{
    struct iovec parts[] = {{(void *)(uintptr_t)head.ptr, head.len},
                            {(void *)(uintptr_t)body.ptr, body.len}};
    if (head.len + body.len <= SLICE_BYTES)
        return ch_peer_write(&s->peer, parts, 2) == CH_OK;
    return ch_buf_append_span(&s->backlog, head) == CH_OK &&
           ch_buf_append_span(&s->backlog, body) == CH_OK;
}

// Half of the answer, and then nothing more.
static bool send_half_document(struct session *s)
{
    struct ch_sandbox_worker *worker = s->worker;
    struct ch_span half = {worker->batch.ptr, worker->batch.len / 2};
    write_record(s, "cut");
    bool is_sent = send_parts(s, ch_buf_span(&worker->head_text), half);
    s->request.keep_alive = false;
    return is_sent;
}

static bool send_document(struct session *s)
{
    struct ch_sandbox_worker *worker = s->worker;
    const struct ch_script_book *book = worker->setting->book;
    clear_scratch(&worker->batch);
    ch_buf_clear(&worker->head_text);
    s->is_rendered = true;
    if (ch_sandbox_answer_document(&s->answer, &s->request, book, &worker->source,
                                   &worker->batch) ||
        ch_sandbox_answer_head(&s->answer, book, worker->batch.len, &worker->head_text))
        return false;
    if (s->request.directives.cut)
        return send_half_document(s);
    write_record(s, "done");
    return send_parts(s, ch_buf_span(&worker->head_text), ch_buf_span(&worker->batch));
}

static enum ch_err append_framed(const struct session *s, struct ch_span event, struct ch_buf *out)
{
    if (s->request.is_http10)
        return ch_buf_append_span(out, event);
    enum ch_err err = ch_buf_append_format(out, "%zx\r\n", event.len);
    if (!err)
        err = ch_buf_append_span(out, event);
    return err ? err : ch_buf_append_span(out, CH_SPAN("\r\n"));
}

static bool is_cut_here(const struct session *s)
{
    return s->request.directives.cut && s->answer.piece_at > 0 &&
           s->answer.piece_at >= s->answer.pieces / 2;
}

// Renders the next event that is not left out into the batch.
static enum ch_err render_event(struct session *s)
{
    struct ch_sandbox_worker *worker = s->worker;
    clear_scratch(&worker->event);
    enum ch_err err = CH_OK;
    while (!err && !worker->event.len && !s->answer.is_over)
        err = ch_sandbox_answer_event(&s->answer, &s->request, &worker->source, &worker->event);
    if (!err && worker->event.len)
        err = append_framed(s, ch_buf_span(&worker->event), &worker->batch);
    return err;
}

static enum ch_err render_batch(struct session *s)
{
    struct ch_buf *batch = &s->worker->batch;
    size_t limit = s->request.directives.drip_ms ? 1 : BATCH_BYTES;
    enum ch_err err = CH_OK;
    while (!err && batch->len < limit && !s->answer.is_over && !is_cut_here(s))
        err = render_event(s);
    return err;
}

static bool send_batch(struct session *s)
{
    struct ch_sandbox_worker *worker = s->worker;
    clear_scratch(&worker->batch);
    ch_buf_clear(&worker->head_text);
    if (!s->is_head_sent &&
        ch_sandbox_answer_head(&s->answer, worker->setting->book, 0, &worker->head_text))
        return false;
    s->is_head_sent = true;
    if (render_batch(s))
        return false;
    s->is_rendered = s->answer.is_over || is_cut_here(s);
    if (s->is_rendered)
        write_record(s, s->answer.is_over ? "done" : "cut");
    if (!s->answer.is_over)
        s->request.keep_alive &= !s->is_rendered;
    else if (!s->request.is_http10 && ch_buf_append_span(&worker->batch, CH_SPAN("0\r\n\r\n")))
        return false;
    return send_parts(s, ch_buf_span(&worker->head_text), ch_buf_span(&worker->batch));
}

// Goes on with the answer as far as the client takes it; a dripping one by one event.
static void advance(struct session *s)
{
    bool is_dripping = s->answer.is_stream && s->request.directives.drip_ms;
    while (drain_backlog(s)) {
        if (s->is_rendered) {
            finish_answer(s);
            return;
        }
        if (ch_peer_is_blocked(&s->peer))
            return;
        if (s->answer.is_stream ? !send_batch(s) : !send_document(s)) {
            if (!s->is_rendered)
                write_record(s, "client_gone");
            close_session(s);
            return;
        }
        if (is_dripping && !s->is_rendered)
            return;
    }
}

static void on_drip_due(void *arg)
{
    advance(arg);
}

// ---- answering

static void reset_connection(struct session *s)
{
    struct linger at_once = {.l_onoff = 1};
    setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    write_record(s, "reset");
    close_session(s);
}

static void send_garbage(struct session *s)
{
    static const char garbage[] = "\x16\x03\x01 this is no HTTP\r\n\r\n{]";
    struct iovec part = {(void *)(uintptr_t)garbage, sizeof garbage};
    write_record(s, "garbage");
    if (ch_peer_write(&s->peer, &part, 1) == CH_OK)
        close_after_write(s);
    else
        close_session(s);
}

static void start_sending(struct session *s)
{
    const struct ch_sandbox_directives *directives = &s->request.directives;
    s->phase = SENDING;
    s->is_head_sent = s->is_rendered = false;
    if (s->answer.status == 200 && directives->reset) {
        reset_connection(s);
        return;
    }
    if (s->answer.status == 200 && directives->garbage) {
        send_garbage(s);
        return;
    }
    if (s->answer.is_stream && directives->drip_ms &&
        ch_timer_start(s->worker->loop, &s->timer, directives->drip_ms, on_drip_due, s)) {
        close_session(s);
        return;
    }
    advance(s);
}

static void on_delay_over(void *arg)
{
    struct session *s = arg;
    ch_timer_stop(&s->timer);
    start_sending(s);
}

static void answer(struct session *s)
{
    struct ch_sandbox_worker *worker = s->worker;
    int64_t wall_ms = ch_clock_wall_ms();
    ch_peer_set_deadline(&s->peer, 0);
    ch_sandbox_answer_begin(&s->answer, &s->request, worker->setting->book, &worker->source,
                            ch_id_next(&worker->ids, wall_ms), wall_ms);
    int64_t slow_ms = s->request.directives.slow_ms;
    if (!slow_ms) {
        start_sending(s);
        return;
    }
    s->phase = DELAYED;
    if (ch_timer_start(worker->loop, &s->timer, slow_ms, on_delay_over, s))
        close_session(s);
}

// ---- receiving

static void refuse(struct session *s, const struct ch_http1_error *error)
{
    s->request = (struct ch_sandbox_request){.dialect = CH_DIALECT_OPENAI,
                                             .carrier = "",
                                             .fault = error->status,
                                             .fault_text = error->text,
                                             .is_event_stream = true};
    answer(s);
}

static void finish_request(struct session *s)
{
    bool is_whole = !s->is_body_broken;
    if (s->request.is_form) {
        is_whole = is_whole && ch_multipart_finish(&s->form) == CH_MULTIPART_OK;
        s->request.ask.file_bytes = (int64_t)s->form.file_bytes;
    } else {
        is_whole = is_whole && ch_json_scan_finish(&s->scan) == CH_OK;
    }
    ch_sandbox_request_finish(&s->request, is_whole);
    answer(s);
}

static void begin_body(struct session *s)
{
    struct ch_span boundary = {s->request.boundary, s->request.boundary_len};
    s->is_body_broken = false;
    if (s->request.is_form)
        ch_multipart_init(&s->form, boundary, ch_sandbox_form_fields, CH_SANDBOX_FORM_FIELDS,
                          ch_sandbox_request_take_field, &s->request);
    else
        ch_json_scan_init(&s->scan, s->worker->setting->plan, ch_sandbox_request_take_value,
                          &s->request);
}

static void feed_body(struct session *s, struct ch_span payload)
{
    if (s->is_body_broken)
        return;
    if (s->request.is_form)
        s->is_body_broken = ch_multipart_feed(&s->form, payload) != CH_MULTIPART_OK;
    else
        s->is_body_broken = ch_json_scan_feed(&s->scan, payload) != CH_OK;
}

// Both return how many bytes they used; 0: there must be more first, or there is no one to read
// for.
static size_t read_head(struct session *s, struct ch_span bytes)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct ch_sandbox_worker *worker = s->worker;
    struct ch_http1_head_parser parser;
    struct ch_http1_error error;
    // Parsed from its start each time: a head comes in one piece, and its result is shared scratch.
    ch_http1_request_init(&parser);
    enum ch_http1_verdict verdict = ch_http1_head_parse(&parser, bytes, &worker->head, &error);
    if (verdict == CH_HTTP1_ERROR)
        refuse(s, &error);
    if (verdict != CH_HTTP1_DONE)
        return 0;
    size_t size = worker->head.size;
    ch_sandbox_request_begin(&s->request, &worker->head, bytes.ptr, worker->setting->api_key);
    begin_body(s);
    ch_http1_body_init(&s->body, &worker->head);
    s->phase = BODY;
    struct iovec part = {(void *)(uintptr_t)go_on, sizeof go_on - 1};
    if (worker->head.expect_continue && ch_peer_write(&s->peer, &part, 1))
        return 0;
    if (ch_http1_body_is_empty(&s->body))
        finish_request(s);
    return size;
}

static size_t read_body(struct session *s, struct ch_span bytes)
{
    size_t used = 0;
    while (s->phase == BODY && used < bytes.len) {
        size_t consumed;
        struct ch_span payload;
        struct ch_http1_error error;
        enum ch_http1_verdict verdict =
            ch_http1_body_step(&s->body, ch_span_sub(bytes, used), &consumed, &payload, &error);
        used += consumed;
        if (verdict == CH_HTTP1_ERROR) {
            refuse(s, &error);
            return 0;
        }
        s->request.body_bytes += (int64_t)payload.len;
        feed_body(s, payload);
        if (verdict == CH_HTTP1_DONE)
            finish_request(s);
        else if (consumed == 0)
            break;
    }
    return used;
}

static size_t on_peer_bytes(void *arg, struct ch_span bytes)
{
    struct session *s = arg;
    size_t used = 0, step = 1;
    s->is_delivering = true;
    while (step && used < bytes.len && ch_peer_is_open(&s->peer) &&
           (s->phase == HEAD || s->phase == BODY)) {
        struct ch_span rest = ch_span_sub(bytes, used);
        step = s->phase == HEAD ? read_head(s, rest) : read_body(s, rest);
        used += step;
    }
    s->is_delivering = false;
    return used;
}

static void on_peer_writable(void *arg)
{
    struct session *s = arg;
    bool is_dripping = s->answer.is_stream && s->request.directives.drip_ms && !s->is_rendered;
    if (s->phase != SENDING)
        return;
    if (is_dripping)
        (void)drain_backlog(s); // the timer says when the next event is due
    else
        advance(s);
}

static void on_peer_end(void *arg, enum ch_peer_end end)
{
    struct session *s = arg;
    bool is_unanswered = s->phase == DELAYED || (s->phase == SENDING && !s->is_rendered);
    if (is_unanswered && end != CH_PEER_CLOSED)
        write_record(s, "client_gone");
    close_session(s);
}

void ch_sandbox_session_accept(void *arg, int fd, const char *address)
{
    static const struct ch_peer_handler handler = {
        .on_bytes = on_peer_bytes, .on_writable = on_peer_writable, .on_end = on_peer_end};
    struct ch_sandbox_worker *worker = arg;
    (void)address;
    struct session *s = ch_zcalloc(1, sizeof *s);
    if (!s || ch_peer_open(&s->peer, worker->loop, fd, NULL, false, &handler, s)) {
        ch_zfree(s);
        close(fd);
        return;
    }
    s->worker = worker;
    s->fd = fd;
    ch_buf_init(&s->backlog, 2 * BODY_MAX);
    s->next = worker->sessions;
    if (s->next)
        s->next->prev = s;
    worker->sessions = s;
    set_idle_deadline(s);
}
