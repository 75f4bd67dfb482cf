# SPDX-License-Identifier: Apache-2.0
"""security.md R2, R3: `durability: power` goes on only when the disk has it, and nobody else waits."""
import errno
import threading
import time

import pytest

from harness.client import request
from harness.money import Ask, MoneyWorld, bill, document, events, read
from harness.process import wait_until
from harness.samples import compact
from harness.slow_disk import SlowDisk
from harness.upstream import answer, chunked

PATIENCE = 0.15  # seconds in which what must not happen would have happened


@pytest.fixture(scope="module")
def shared(tmp_path_factory, certificates):
    folder = tmp_path_factory.mktemp("power")
    disk = SlowDisk(folder)
    world = MoneyWorld(folder / "w", certificates, providers=("openai",), threads=1, durability="power",
                       timeouts={"disk": "2s", "shutdown": "500ms"})
    world.disk = disk
    world.stop()
    world.start(environment=disk.environment())
    yield world
    disk.release()
    world.close()
    disk.close()


@pytest.fixture
def world(shared):
    for field in ("delay_us", "holds", "error"):
        shared.disk.set(field, 0)
    shared.upstreams["openai"].forget()
    shared.upstreams["openai"].script = bill()
    if not shared.daemon:
        shared.start(environment=shared.disk.environment())
    yield shared
    shared.disk.release()
    if shared.daemon:
        assert shared.daemon.is_running(), shared.daemon.tail()
        shared.daemon.check()


def asked(world):
    """Whether anything came to the provider, be it a connection."""
    upstream = world.upstreams["openai"]
    return bool(upstream.requests) or any(connection.received for connection in upstream.connections)


def is_silent(client, seconds=PATIENCE):
    """Nothing more comes within the time, not even the end."""
    client.sock.settimeout(seconds)
    try:
        data = client.sock.recv(65536)
        client.pending += data
        return False
    except TimeoutError:
        return True
    finally:
        client.sock.settimeout(15)


def nothing_is_left(world, key, rows=1):
    wait_until(lambda: world.in_flight() == 0, 10, "nothing in flight")
    assert world.settled(f"key:{key}")["reserved_nano_usd"] == 0
    return world.rows_for(key, rows)


def plain(connection, req):
    connection.send(answer(compact(document(*read(req)[:2], 10, 10))))


def plain_then_close(connection, req):
    plain(connection, req)
    connection.close()


def to_close(connection, req):
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + compact(document(*read(req)[:2], 10, 10)))
    connection.close()


def stream(connection, req):
    connection.send(chunked(events(*read(req)[:2], 10, 10)))


def stream_to_close(connection, req):
    body = b"".join(events(*read(req)[:2], 10, 10))
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + body)
    connection.close()


def error(connection, req):
    connection.send(answer(b'{"error":{"message":"no","type":"x"}}', status="500 Internal Server Error"))


def cut(connection, req):
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    connection.close()


ANSWERS = [(plain, 200), (plain_then_close, 200), (to_close, 200), (stream, 200), (stream_to_close, 200), (error, 500), (cut, 502)]


@pytest.mark.parametrize("script, status", ANSWERS, ids=[script.__name__ for script, _ in ANSWERS])
def test_nothing_goes_on_before_the_disk_has_it(world, script, status):
    name, token = world.make_key(budget=["100/day"])
    may_answer, was_asked = threading.Event(), threading.Event()

    def wait_and_answer(connection, req):
        was_asked.set()
        may_answer.wait(10)
        script(connection, req)

    world.upstreams["openai"].script = wait_and_answer
    is_stream = script in (stream, stream_to_close)
    world.disk.hold()
    with world.connect() as client:
        client.send(Ask(token, stream=is_stream).data)
        world.disk.wait_held()
        assert is_silent(client) and not asked(world), "the slot was not on disk"
        world.disk.release()
        assert was_asked.wait(10)
        world.disk.hold()
        may_answer.set()
        world.disk.wait_held()
        while not is_silent(client):  # a close-framed body may come as far as it was read before its end
            assert script in (to_close, stream_to_close), bytes(client.pending)
        assert b"\r\n0\r\n\r\n" not in client.pending
        world.disk.release()
        response = client.read_response()
        assert response.status == status and not response.truncated
    row, = nothing_is_left(world, name)
    assert row["status"] == status and row["end_reason"] == ("upstream_cut" if script is cut else "done")
    assert row["grade"] == ("exact" if status == 200 else "none")


def test_a_stream_flows_until_its_end(world):
    """Only what the last read brought waits."""
    name, token = world.make_key(budget=["100/day"])
    may_end = threading.Event()

    def script(connection, req):
        whole = chunked(events(*read(req)[:2], 10, 10))
        connection.send(whole[:len(whole) // 2])
        may_end.wait(10)
        connection.send(whole[len(whole) // 2:])

    world.upstreams["openai"].script = script
    with world.connect() as client:
        client.send(Ask(token, stream=True).data)
        client.take_until(b"data: ")
        world.disk.hold()
        while not is_silent(client):
            pass
        seen = len(client.pending)
        may_end.set()
        world.disk.wait_held()
        assert is_silent(client) and len(client.pending) == seen
        client.half_close()  # too late to matter, or a hang-up: either way one row
        world.disk.release()
        client.read_to_end()
    nothing_is_left(world, name)


def test_the_order_of_things_under_load(world):
    """A whole sync lies between the sending and the provider, and between the provider's answer and its end."""
    came, answered, problems = {}, {}, []

    def script(connection, req):
        model = read(req)[1]
        came[model] = time.monotonic()
        time.sleep(0.002)
        answered[model] = time.monotonic()
        (stream if b'"stream"' in req.body else plain)(connection, req)

    world.upstreams["openai"].script = script
    world.disk.set("delay_us", 4000)
    before = world.disk.get("done")
    times = {}

    def run(number):
        with world.connect() as client:
            for turn in range(8):
                model = f"unit-load-{number}-{turn}"
                sent = time.monotonic()
                client.send(Ask(token, model=model, stream=turn % 2 == 1).data)
                response = client.read_response()
                times[model] = sent, time.monotonic()
                if response.status != 200 or response.truncated:
                    problems.append((model, response.status))

    token = world.key("load", "openai")  # these models have no price, so no budget
    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not problems and len(times) == 24 * 8
    wait_until(world.disk.is_idle, 10, "the disk's rest")
    syncs = world.disk.syncs()[before:]
    assert len(syncs) < 24 * 8, "many share a sync"

    def has_sync(start, end):
        return any(start <= begun and done <= end for begun, done in syncs)

    for model, (sent, done) in times.items():
        assert has_sync(sent, came[model]), f"{model} went to the provider before its slot was on disk"
        assert has_sync(answered[model], done), f"{model} was answered before its record was on disk"


def test_a_slow_disk_holds_up_nobody_else(world):
    """One loop: while a sync stands still, another stream flows and other paths answer."""
    _, token = world.make_key()
    stop = threading.Event()

    def script(connection, req):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not stop.is_set():
            connection.send(b"a\r\ndata: {}\n\n\r\n", 0.005)
        connection.send(b"0\r\n\r\n")

    world.upstreams["openai"].script = script
    with world.connect() as flowing, world.connect() as waiting:
        flowing.send(Ask(token, stream=True).data)
        flowing.take_until(b"data: {}")
        world.disk.hold()
        waiting.send(Ask(token).data)
        world.disk.wait_held()
        longest, until = 0, time.monotonic() + 0.5
        while (start := time.monotonic()) < until:
            flowing.take_until(b"data: {}")
            longest = max(longest, time.monotonic() - start)
        assert longest < 1, "the stream stood still until the disk's two seconds were over"
        assert world.exchange(request("/healthz", None, method="GET"), method="GET").status == 200
        assert world.exchange(request("/v1/chat/completions", "ch_bad", b"{}")).status == 401, "refusals wait for nothing"
        assert is_silent(waiting, 0.05) and len(world.upstreams["openai"].requests) == 1
        stop.set()
        world.disk.release()
    wait_until(lambda: world.in_flight() == 0, 10, "nothing in flight")


@pytest.mark.parametrize("how", ["close", "reset", "late", "stop"])
@pytest.mark.parametrize("step", ["admission", "settlement"])
def test_what_ends_while_it_waits_settles_once(world, step, how):
    """The client hangs up, the disk takes too long, the daemon stops: with the sync still under way."""
    name, token = world.make_key(budget=["100/day"])
    go_on = threading.Event()

    def script(connection, req):
        go_on.wait(10)
        plain(connection, req)

    world.upstreams["openai"].script = script
    if step == "admission":
        world.disk.hold()
    with world.connect() as client:
        client.send(Ask(token).data)
        if step == "settlement":
            wait_until(lambda: asked(world), 10, "the request upstream", 0.005)
            world.disk.hold()
            go_on.set()
        world.disk.wait_held()
        time.sleep(0.1)  # past the grace in which a FIN means no hang-up
        if how == "close":
            client.close()
        elif how == "reset":
            client.reset()
        elif how == "late":
            response = client.read_response()
            assert (response.status, response.error, response.get("connection")) == (503, "accounting_unavailable", "close")
        else:
            world.daemon.child.terminate()
            assert client.read_to_end() == b"", "an answer that is not on disk"
    if how == "stop":
        world.disk.release()
        world.stop()
        assert asked(world) == (step == "settlement")
        world.start(environment=world.disk.environment())
    else:
        wait_until(lambda: world.in_flight() == 0, 10, "nothing in flight")
        assert not world.disk.is_idle(), "all this with the sync still under way"
    row, = nothing_is_left(world, name)
    world.disk.release()
    wait_until(world.disk.is_idle, 10, "the disk's rest")
    if step == "settlement":
        assert (row["end_reason"], row["grade"], row["status"]) == ("done", "exact", 200)
    else:
        assert row["grade"] == "none" and row["end_reason"] == {"late": "denied", "stop": "shutdown"}.get(how, "client_gone")
        assert not asked(world)
    go_on.set()
    assert world.exchange(Ask(token).data).status == 200


def test_a_failed_sync_is_believed(world):
    """EIO: what waits and what comes is 503, nothing is synced again, and all that was used is in the books."""
    name, token = world.make_key(budget=["100/day"])
    go_on = threading.Event()

    def script(connection, req):
        if not read(req)[4]:
            go_on.wait(10)
            plain(connection, req)
            return
        whole = chunked(events(*read(req)[:2], 10, 10))
        connection.send(whole[:len(whole) // 2])
        go_on.wait(10)
        connection.send(whole[len(whole) // 2:])

    upstream = world.upstreams["openai"]
    upstream.script = script
    with world.connect() as streamed, world.connect() as answered, world.connect() as admitted:
        streamed.send(Ask(token, stream=True).data)
        streamed.take_until(b"data: ")
        answered.send(Ask(token).data)
        wait_until(lambda: len(upstream.requests) == 2, 10, "two requests upstream")
        world.disk.hold()
        admitted.send(Ask(token).data)
        world.disk.wait_held()
        world.disk.set("error", errno.EIO)
        begun = world.disk.get("begun")
        world.disk.release()
        response = admitted.read_response()
        assert (response.status, response.error, response.get("retry-after")) == (503, "accounting_unavailable", "1")
        world.disk.set("error", 0)  # the next one would succeed, and prove nothing
        admitted.send(Ask(token).data)
        assert admitted.read_response().status == 503
        assert not world.is_ready()
        go_on.set()
        response = answered.read_response()
        assert (response.status, response.error) == (503, "accounting_unavailable")
        assert not streamed.read_to_end().endswith(b"0\r\n\r\n"), "a stream that looks finished"
    assert len(upstream.requests) == 2 and world.disk.get("begun") == begun
    rows = nothing_is_left(world, name, 4)
    assert sorted(row["grade"] for row in rows) == ["exact", "exact", "none", "none"]
    assert "journal_sync_failed" in world.daemon.err.read_text()
    world.stop()
    world.start(environment=world.disk.environment())
    assert world.exchange(Ask(token).data).status == 200
    assert len(world.rows_for(name, 5)) == 5


def test_a_kill_behind_the_disk_leaves_one_row_each(world):
    """kill -9 with slots whose records are on their way: the replay tells them apart."""
    name, token = world.make_key(budget=["100/day"])
    with world.connect() as settled, world.connect() as waiting:
        world.upstreams["openai"].script = plain
        assert world.exchange(Ask(token).data).status == 200
        release = threading.Event()

        def script(connection, req):
            release.wait(10)
            plain(connection, req)

        world.upstreams["openai"].script = script
        settled.send(Ask(token).data)
        wait_until(lambda: len(world.upstreams["openai"].requests) == 2, 10, "the request upstream")
        world.disk.hold()
        release.set()
        world.disk.wait_held()
        waiting.send(Ask(token).data)
        wait_until(lambda: world.in_flight() == 1, 10, "one that waits")
        world.kill()
    world.disk.release()
    world.disk.set("done", world.disk.get("begun"))  # its thread is gone
    world.start(environment=world.disk.environment())
    rows = nothing_is_left(world, name, 3)
    assert sorted(row["end_reason"] for row in rows) == ["crash", "done", "done"]
