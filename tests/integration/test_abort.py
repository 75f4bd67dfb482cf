# SPDX-License-Identifier: Apache-2.0
"""Clients that leave and clients that do not read."""
import threading
import time

import pytest

from harness.world import ask, wire
from harness import samples
from harness.client import request
from harness.process import wait_until
from harness.upstream import chunked, reply


# A FIN this soon after the request may be a half-close: the answer is still delivered. Later it means that the client
# has left.
GRACE_SECONDS = 0.1


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("sample", [samples.CHAT, samples.CHAT_STREAM, samples.MESSAGES_STREAM, samples.GENERATE_STREAM], ids=repr)
def test_abort_cancels_the_provider(world, settled, sample, leave):
    """Nobody pays for tokens that no one reads: the upstream connection closes at once, and one row says so."""
    name, key = world.fresh_key(sample.dialect)
    upstream = world.upstreams[sample.dialect]
    started = threading.Event()
    data = wire(sample)

    def script(connection, _):
        connection.send(data[:len(data) // 2] if sample.is_stream else data[:20])
        started.set()
        connection.wait_gone(10)

    upstream.script = script
    client = world.connect()
    client.send(ask(sample, key))
    assert started.wait(5)
    if sample.is_stream:
        client.take_until(b"\r\n\r\n")
    time.sleep(GRACE_SECONDS)
    began = time.monotonic()
    getattr(client, leave)()
    assert upstream.last.connection.gone.wait(5), "the provider's connection stays open"
    assert time.monotonic() - began < 2
    (row,) = world.rows_of(name)
    assert (row["end_reason"], row["grade"]) == ("client_gone", "partial")
    assert row["cost_nano_usd"] > 0


def test_abort_at_every_event(world, settled):
    """Whenever the client leaves, there is one row and it is never free."""
    sample = samples.MESSAGES_STREAM
    name, key = world.fresh_key("anthropic")
    head = wire(sample).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    for count in range(1, len(sample.parts)):
        sent = threading.Event()

        def script(connection, _, count=count, sent=sent):
            connection.send(head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in sample.parts[:count]))
            sent.set()
            connection.wait_gone(10)

        world.upstreams["anthropic"].script = script
        with world.connect() as client:
            client.send(ask(sample, key))
            assert sent.wait(5)
            client.take_until(sample.parts[count - 1])
            time.sleep(GRACE_SECONDS)
    for row in world.rows_of(name, len(sample.parts) - 1):
        assert row["end_reason"] == "client_gone" and row["cost_nano_usd"] > 0
        assert row["input_tokens"] == 50


def test_aborted_connection_is_not_reused(world):
    """The rest of an abandoned answer never reaches another client."""
    _, key = world.fresh_key("openai")
    marked = chunked([b"data: SECRET-OF-THE-FIRST\n\n"] * 50)

    def script(connection, _):
        connection.send(marked[:600], 0.1)
        try:
            connection.send(marked[600:])
        except OSError:
            pass

    for _ in range(10):
        world.upstreams["openai"].script = script
        with world.connect() as client:
            client.send(ask(samples.CHAT_STREAM_ASKED, key))
            client.take_until(b"\r\n\r\n")
        world.upstreams["openai"].script = reply(wire(samples.CHAT))
        assert world.exchange(ask(samples.CHAT, key)).body == samples.CHAT.answer


def test_slow_reader_stops_the_provider(world, settled):
    """Back-pressure: of 64 MiB a client that does not read costs the proxy a bounded part."""
    _, key = world.fresh_key("openai")
    total = 64 << 20
    taken = []

    def script(connection, _):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % total)
        taken.append(connection.push(b"x" * total, stall_seconds=1.5))
        connection.wait_gone(20)

    world.upstreams["openai"].script = script
    before = world.daemon.resident_kib()
    client = world.connect(receive_buffer=4096)
    client.send(ask(samples.CHAT, key))
    wait_until(lambda: taken, 15, "the provider's stall")
    # The kernel's own socket buffers (up to 4 MiB of send and 6 MiB of receive each way) hold most of this.
    assert taken[0] < 24 << 20, f"{taken[0]} bytes were taken from the provider"
    assert world.daemon.resident_kib() - before < 4096
    client.close()
    assert world.upstreams["openai"].last.connection.gone.wait(5)


def test_slow_reader_gets_everything(world):
    """Pausing and going on loses nothing."""
    _, key = world.fresh_key("openai")
    body = bytes(range(256)) * (8 << 12)
    world.upstreams["openai"].script = reply(chunked([body[at:at + 100_000] for at in range(0, len(body), 100_000)]))
    with world.connect(receive_buffer=4096, timeout=60) as client:
        client.send(ask(samples.CHAT_STREAM_ASKED, key))
        time.sleep(0.5)
        assert client.read_response().body == body


def test_write_stall_is_cut(make_world):
    world = make_world(timeouts={"write_stall": "700ms"}, providers=("openai",))
    name, key = world.fresh_key("openai")

    def script(connection, _):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        connection.push(b"x" * (64 << 20), stall_seconds=5)
        connection.wait_gone(20)

    world.upstreams["openai"].script = script
    client = world.connect(receive_buffer=4096)
    client.send(ask(samples.CHAT_STREAM_ASKED, key))
    (row,) = world.rows_of(name, within=20)
    assert row["end_reason"] in ("client_gone", "timeout") and row["grade"] in ("partial", "estimated")
    client.close()


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_abort_while_uploading(world, settled, leave):
    """A request that never became whole went nowhere and has no row."""
    name, key = world.fresh_key("openai")
    data = request("/v1/chat/completions", key, b'{"model":"gpt-4o","x":"' + b"b" * (4 << 20) + b'"}')
    for at in (300, 100_000, len(data) - 1):
        client = world.connect()
        client.send(data[:at])
        time.sleep(0.05)
        getattr(client, leave)()
    time.sleep(0.5)
    assert not world.upstreams["openai"].requests and not world.usage("--key", name)


def test_slow_upload_to_a_slow_provider(world, settled):
    """A provider that reads slowly stops the client, and nothing is lost."""
    _, key = world.fresh_key("openai")
    body = b'{"model":"gpt-4o","x":"' + b"b" * (4 << 20) + b'"}'
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    assert world.exchange(request("/v1/chat/completions", key, body), timeout=60).status == 200
    assert world.upstreams["openai"].last.body == body


def test_many_aborts_leave_nothing(world, settled):
    name, key = world.fresh_key("openai")
    upstream = world.upstreams["openai"]

    def script(connection, _):
        try:
            connection.send(wire(samples.CHAT)[:200], 0.01)
            connection.send(wire(samples.CHAT)[200:])
        except OSError:
            pass

    upstream.script = script
    for n in range(100):
        client = world.connect()
        client.send(ask(samples.CHAT, key))
        if n % 3:
            time.sleep(0.004 * (n % 5))
        if n % 2:
            client.reset()
        else:
            client.close()
    # A client that left before its request was whole has no row; every request that went up has exactly one.
    time.sleep(0.5)
    wait_until(lambda: len(world.usage("--key", name)) >= len(upstream.requests), 10, "their rows", 0.1)
    rows = world.usage("--key", name)
    assert len(upstream.requests) <= len(rows) <= 100
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["end_reason"] for row in rows} <= {"done", "client_gone"}


def test_leaving_at_once_is_noticed_with_the_next_byte(world, settled):
    """A close that looks like a half-close costs the provider one more write, not a whole answer."""
    name, key = world.fresh_key("openai")
    sample = samples.CHAT_STREAM_ASKED

    def script(connection, _):
        connection.send(wire(sample)[:300], 0.2)
        try:
            for _ in range(200):
                connection.send(b"4\r\n: a\n\r\n", 0.02)
        except OSError:
            pass

    world.upstreams["openai"].script = script
    with world.connect() as client:
        client.send(ask(sample, key))
    (row,) = world.rows_of(name)
    assert row["end_reason"] == "client_gone" and row["latency_us"] < 2_000_000
