// SPDX-License-Identifier: Apache-2.0
// A peer against the other end of a socket pair: consumption, back-pressure, ends and polite
// closing.
#include "net/peer.h"

#include "base/clock.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    struct ch_loop *loop;
    struct ch_peer peer;
    struct ch_timer timer;
    int other;
    size_t keep;    // bytes that on_bytes leaves unconsumed
    char seen[256]; // the last span given
    size_t seen_len, calls, total;
    int ends, last_end, writable_calls;
    void (*on_tick)(struct fixture *f);
    int ticks;
};

static size_t on_bytes(void *arg, struct ch_span bytes)
{
    struct fixture *f = arg;
    f->calls++;
    f->seen_len = bytes.len < sizeof f->seen ? bytes.len : sizeof f->seen;
    memcpy(f->seen, bytes.ptr, f->seen_len);
    size_t consumed = bytes.len > f->keep ? bytes.len - f->keep : 0;
    f->total += consumed;
    return consumed;
}

static void on_end(void *arg, enum ch_peer_end end)
{
    struct fixture *f = arg;
    f->ends++;
    f->last_end = (int)end;
    if (end != CH_PEER_EOF)
        ch_loop_stop(f->loop);
}

static void on_writable(void *arg)
{
    struct fixture *f = arg;
    f->writable_calls++;
}

static void on_ready(void *arg)
{
    (void)arg;
}

static const struct ch_peer_handler handler = {on_ready, on_bytes, on_writable, on_end};

static void tick(void *arg)
{
    struct fixture *f = arg;
    if (++f->ticks > 400) // 4 s: a test that hangs fails instead
        ch_loop_stop(f->loop);
    if (f->on_tick)
        f->on_tick(f);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    int fds[2];
    assert_int_equal(ch_loop_new(0, &f->loop), CH_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    f->other = fds[1];
    assert_int_equal(ch_peer_open(&f->peer, f->loop, fds[0], NULL, false, &handler, f), CH_OK);
    assert_int_equal(ch_timer_start(f->loop, &f->timer, 10, tick, f), CH_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ch_timer_stop(&f->timer);
    ch_peer_close(&f->peer);
    if (f->other >= 0)
        close(f->other);
    ch_loop_free(f->loop);
    free(f);
    return 0;
}

static void stop_when_consumed(struct fixture *f)
{
    if (f->calls >= 2)
        ch_loop_stop(f->loop);
    else if (f->calls == 1 && f->ticks > 2 && f->total == 1)
        assert_int_equal(write(f->other, "cd", 2), 2);
}

static void unconsumed_bytes_come_again(void **state)
{
    struct fixture *f = *state;
    f->keep = 2;
    f->on_tick = stop_when_consumed;
    assert_int_equal(write(f->other, "xab", 3), 3);
    ch_loop_run(f->loop);
    assert_int_equal(f->seen_len, 4);
    assert_memory_equal(f->seen, "abcd", 4);
}

static void end_of_input_is_told_once(void **state)
{
    struct fixture *f = *state;
    shutdown(f->other, SHUT_WR);
    f->on_tick = NULL;
    f->ticks = 380;
    ch_loop_run(f->loop);
    assert_int_equal(f->ends, 1);
    assert_int_equal(f->last_end, CH_PEER_EOF);
    struct iovec part = {(void *)(uintptr_t) "still", 5};
    char got[8];
    assert_int_equal(ch_peer_write(&f->peer, &part, 1), CH_OK);
    ch_loop_settle(f->loop);
    assert_int_equal(read(f->other, got, sizeof got), 5);
}

static void write_text(struct fixture *f, const char *text)
{
    struct iovec part = {(void *)(uintptr_t)text, strlen(text)};
    assert_int_equal(ch_peer_write(&f->peer, &part, 1), CH_OK);
}

static void read_all(struct fixture *f, const char *expected)
{
    char got[256];
    ssize_t size = recv(f->other, got, sizeof got, MSG_DONTWAIT);
    assert_int_equal(size, (ssize_t)strlen(expected));
    assert_memory_equal(got, expected, (size_t)size);
}

static void short_writes_leave_together_when_the_turn_ends(void **state)
{
    struct fixture *f = *state;
    char byte;
    write_text(f, "one ");
    write_text(f, "two");
    assert_int_equal(recv(f->other, &byte, 1, MSG_DONTWAIT), -1);
    ch_loop_settle(f->loop);
    read_all(f, "one two");
}

// 16 KiB of them do not wait for the end of the turn, and a long one never does.
static void what_waits_is_bounded_and_keeps_its_order(void **state)
{
    struct fixture *f = *state;
    static char slice[4096], got[7 * sizeof slice];
    for (int i = 0; i < 5; i++) {
        memset(slice, 'a' + i, sizeof slice);
        struct iovec part = {slice, sizeof slice};
        assert_int_equal(ch_peer_write(&f->peer, &part, 1), CH_OK);
        ssize_t size = recv(f->other, got, sizeof got, MSG_DONTWAIT | MSG_PEEK);
        assert_int_equal(size, i < 4 ? -1 : 4 * (ssize_t)sizeof slice);
    }
    struct iovec parts[] = {{slice, sizeof slice}, {(void *)(uintptr_t) "z", 1}};
    assert_int_equal(ch_peer_write(&f->peer, parts, 2), CH_OK);
    assert_int_equal(recv(f->other, got, sizeof got, MSG_DONTWAIT), 5 * sizeof slice + 4097);
    for (size_t i = 0; i < 5 * sizeof slice; i++)
        assert_int_equal(got[i], 'a' + (int)(i / sizeof slice));
    assert_int_equal(got[5 * sizeof slice + 4096], 'z');
}

static void a_close_sends_what_waited_first(void **state)
{
    struct fixture *f = *state;
    write_text(f, "last words");
    ch_peer_close(&f->peer);
    read_all(f, "last words");
    ch_loop_settle(f->loop);
}

static void drain_other(struct fixture *f)
{
    char buf[65536];
    ssize_t got;
    while ((got = read(f->other, buf, sizeof buf)) > 0)
        f->total += (size_t)got;
    if (f->writable_calls && ch_peer_pending(&f->peer) == 0)
        ch_loop_stop(f->loop);
}

static void a_slow_reader_blocks_and_frees_the_writer(void **state)
{
    struct fixture *f = *state;
    static char block[128 * 1024];
    struct iovec part = {block, sizeof block};
    size_t written = 0;
    while (!ch_peer_is_blocked(&f->peer)) {
        assert_int_equal(ch_peer_write(&f->peer, &part, 1), CH_OK);
        written += sizeof block;
        assert_true(written < 8 * 1024 * 1024);
    }
    assert_true(ch_peer_pending(&f->peer) > CH_PEER_WRITE_HIGH);
    f->on_tick = drain_other;
    ch_loop_run(f->loop);
    drain_other(f);
    assert_int_equal(f->total, written);
    assert_false(ch_peer_is_blocked(&f->peer));
    assert_true(f->writable_calls >= 1);
}

static void deadline_ends_with_timeout(void **state)
{
    struct fixture *f = *state;
    ch_peer_set_deadline(&f->peer, ch_clock_mono_ns() + 50 * CH_NS_PER_MS);
    ch_loop_run(f->loop);
    assert_int_equal(f->ends, 1);
    assert_int_equal(f->last_end, CH_PEER_TIMEOUT);
}

static void stop_when_read(struct fixture *f)
{
    if (f->total)
        ch_loop_stop(f->loop);
}

static void keep_waiting(void *arg, enum ch_peer_end end)
{
    struct fixture *f = arg;
    f->ends++;
    assert_int_equal(end, CH_PEER_TIMEOUT);
    ch_peer_resume(&f->peer);
    assert_int_equal(write(f->other, "late", 4), 4);
}

static void what_timed_out_may_go_on(void **state)
{
    struct fixture *f = *state;
    static const struct ch_peer_handler patient = {on_ready, on_bytes, on_writable, keep_waiting};
    f->peer.handler = &patient;
    f->on_tick = stop_when_read;
    ch_peer_set_deadline(&f->peer, ch_clock_mono_ns() + 50 * CH_NS_PER_MS);
    ch_loop_run(f->loop);
    assert_int_equal(f->ends, 1);
    assert_int_equal(f->total, 4);
}

static void close_when_eof(struct fixture *f)
{
    char buf[256];
    ssize_t got = read(f->other, buf, sizeof buf);
    if (got > 0)
        f->total += (size_t)got;
    if (got == 0 && f->other >= 0) { // our side was shut down: now the client closes too
        close(f->other);
        f->other = -1;
    }
}

static void closing_after_write_loses_nothing(void **state)
{
    struct fixture *f = *state;
    struct iovec part = {(void *)(uintptr_t) "the last words", 14};
    assert_int_equal(write(f->other, "unread input", 12), 12);
    assert_int_equal(ch_peer_write(&f->peer, &part, 1), CH_OK);
    ch_peer_close_after_write(&f->peer);
    f->on_tick = close_when_eof;
    ch_loop_run(f->loop);
    assert_int_equal(f->total, 14);
    assert_int_equal(f->ends, 1);
    assert_int_equal(f->last_end, CH_PEER_CLOSED);
    assert_int_equal(f->calls, 0);
    assert_false(ch_peer_is_open(&f->peer));
}

static void resume_in_tick(struct fixture *f)
{
    if (f->ticks == 5)
        assert_int_equal(f->calls, 0);
    if (f->ticks == 6)
        ch_peer_resume(&f->peer);
    if (f->ticks == 12)
        ch_loop_stop(f->loop);
}

static void a_paused_peer_reads_nothing(void **state)
{
    struct fixture *f = *state;
    ch_peer_pause(&f->peer);
    assert_int_equal(write(f->other, "later", 5), 5);
    f->on_tick = resume_in_tick;
    ch_loop_run(f->loop);
    assert_int_equal(f->calls, 1);
    assert_int_equal(f->total, 5);
}

static void a_long_write_to_a_dead_peer_fails_at_once(void **state)
{
    struct fixture *f = *state;
    static char bytes[8192];
    struct iovec part = {bytes, sizeof bytes};
    close(f->other);
    f->other = -1;
    assert_int_equal(ch_peer_write(&f->peer, &part, 1), CH_ERR_IO);
    assert_int_equal(f->ends, 0); // never from inside the call
    ch_loop_run(f->loop);
    assert_int_equal(f->ends, 1);
    assert_int_equal(f->last_end, CH_PEER_RESET);
}

static void writing_to_a_dead_peer_ends_it(void **state)
{
    struct fixture *f = *state;
    struct iovec part = {(void *)(uintptr_t) "x", 1};
    close(f->other);
    f->other = -1;
    assert_int_equal(ch_peer_write(&f->peer, &part, 1), CH_OK); // it waits for the turn's end
    assert_int_equal(f->ends, 0);
    ch_loop_run(f->loop);
    assert_int_equal(f->ends, 1);
    assert_int_equal(f->last_end, CH_PEER_RESET);
}

// One of two peers that take a byte a turn.
struct talker {
    struct ch_peer peer;
    char name;
    struct fixture *f;
    int taken, ends;
};

static size_t take_one_byte(void *arg, struct ch_span bytes)
{
    struct talker *t = arg;
    (void)bytes;
    t->f->seen[t->f->seen_len++] = t->name;
    t->taken++;
    ch_peer_yield(&t->peer);
    return 1;
}

static void count_end(void *arg, enum ch_peer_end end)
{
    struct talker *t = arg;
    assert_int_equal(end, CH_PEER_EOF);
    assert_int_equal(t->taken, 3); // never before what was sent is used up
    t->ends++;
}

// Both have three bytes and an end waiting when the loop begins; gives the order of their turns.
static void talk(struct fixture *f, bool first_is_behind, char order_out[7])
{
    static const struct ch_peer_handler talking = {on_ready, take_one_byte, on_writable, count_end};
    struct talker talkers[2] = {{.name = 'a', .f = f}, {.name = 'b', .f = f}};
    int others[2];
    for (int i = 0; i < 2; i++) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
        others[i] = fds[1];
        assert_int_equal(
            ch_peer_open(&talkers[i].peer, f->loop, fds[0], NULL, false, &talking, &talkers[i]),
            CH_OK);
        assert_int_equal(write(others[i], "xyz", 3), 3);
        shutdown(others[i], SHUT_WR);
    }
    ch_peer_stand_behind(&talkers[0].peer, first_is_behind);
    f->ticks = 390;
    ch_loop_run(f->loop);
    memcpy(order_out, f->seen, 6);
    order_out[6] = '\0';
    for (int i = 0; i < 2; i++) {
        assert_int_equal(talkers[i].ends, 1);
        ch_peer_close(&talkers[i].peer);
        close(others[i]);
    }
}

static void yielding_peers_take_turns(void **state)
{
    char order[7];
    talk(*state, false, order);
    assert_true(strcmp(order, "ababab") == 0 || strcmp(order, "bababa") == 0);
}

static void a_peer_behind_waits_for_the_other(void **state)
{
    char order[7];
    talk(*state, true, order);
    assert_string_equal(order, "bbbaaa");
}

// A peer that is fed again in each of its callbacks, and in the first of them writes to another.
struct feed {
    struct ch_peer peer, answered, behind;
    int fed, reader, calls, arrived_at;
};

static size_t eat(void *arg, struct ch_span bytes)
{
    struct feed *feed = arg;
    struct iovec part = {(void *)(uintptr_t) "x", 1};
    char byte;
    if (feed->calls++ == 0)
        assert_int_equal(ch_peer_write(&feed->answered, &part, 1), CH_OK);
    if (feed->arrived_at == 0 && recv(feed->reader, &byte, 1, MSG_DONTWAIT) == 1)
        feed->arrived_at = feed->calls;
    if (feed->calls < 100)
        assert_int_equal(write(feed->fed, "x", 1), 1);
    return bytes.len;
}

static size_t eat_last(void *arg, struct ch_span bytes)
{
    struct feed *feed = arg;
    assert_int_equal(feed->calls, 100);
    ch_loop_stop(feed->behind.loop);
    return bytes.len;
}

static void never_ends(void *arg, enum ch_peer_end end)
{
    (void)arg;
    (void)end;
    fail();
}

static int open_pair(struct fixture *f, struct ch_peer *peer, const struct ch_peer_handler *of,
                     void *arg)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(ch_peer_open(peer, f->loop, fds[0], NULL, false, of, arg), CH_OK);
    return fds[1];
}

// The one behind stays ready for as long as there is other work; what is written leaves all the
// same.
static void a_turn_ends_while_one_stands_behind(void **state)
{
    static const struct ch_peer_handler eating = {on_ready, eat, on_writable, never_ends},
                                        last = {on_ready, eat_last, on_writable, never_ends};
    struct fixture *f = *state;
    struct feed feed = {0};
    feed.fed = open_pair(f, &feed.peer, &eating, &feed);
    feed.reader = open_pair(f, &feed.answered, &eating, &feed);
    int behind = open_pair(f, &feed.behind, &last, &feed);
    ch_peer_stand_behind(&feed.behind, true);
    assert_int_equal(write(behind, "x", 1), 1);
    assert_int_equal(write(feed.fed, "x", 1), 1);
    ch_loop_run(f->loop);
    assert_in_range(feed.arrived_at, 2, 3);
    ch_peer_close(&feed.peer);
    ch_peer_close(&feed.answered);
    ch_peer_close(&feed.behind);
    close(feed.fed);
    close(feed.reader);
    close(behind);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    struct ch_why why;
    const struct CMUnitTest tests[] = {
        TEST(unconsumed_bytes_come_again),
        TEST(end_of_input_is_told_once),
        TEST(short_writes_leave_together_when_the_turn_ends),
        TEST(what_waits_is_bounded_and_keeps_its_order),
        TEST(a_close_sends_what_waited_first),
        TEST(a_slow_reader_blocks_and_frees_the_writer),
        TEST(deadline_ends_with_timeout),
        TEST(what_timed_out_may_go_on),
        TEST(closing_after_write_loses_nothing),
        TEST(a_paused_peer_reads_nothing),
        TEST(a_long_write_to_a_dead_peer_fails_at_once),
        TEST(writing_to_a_dead_peer_ends_it),
        TEST(yielding_peers_take_turns),
        TEST(a_peer_behind_waits_for_the_other),
        TEST(a_turn_ends_while_one_stands_behind),
    };
    if (ch_net_process_init(&why) != CH_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
