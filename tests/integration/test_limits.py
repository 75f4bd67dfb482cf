# SPDX-License-Identifier: Apache-2.0
"""Under pressure: no descriptors, no database, no slots, bad documents. Slower is allowed; wrong, stuck or unbounded is not."""
import json
import os
import resource
import socket
import sqlite3
import threading
import time

import pytest

from harness import samples
from harness.client import Closed, RawClient, request
from harness.process import wait_until
from harness.upstream import chunked, reply, stall
from harness.world import ask, wire


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fails(do):
    try:
        do()
    except (OSError, Closed):
        return True
    return False


def test_descriptor_limit(make_world):
    """At the limit accepting pauses: no spinning, no flood of log lines, the clients that are in are served."""
    world = make_world(providers=("openai",))
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    with world.connect() as early:
        early.send(ask(samples.CHAT, key))
        assert early.read_response().status == 200
        used = world.daemon.descriptors()
        soft, hard = resource.prlimit(world.daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(world.daemon.pid, resource.RLIMIT_NOFILE, (used + 20, hard))
        crowd = [world.connect() for _ in range(200)]
        cpu, lines = cpu_seconds(world.daemon.pid), len(world.daemon.err.read_text().splitlines())
        time.sleep(1.5)
        assert cpu_seconds(world.daemon.pid) - cpu < 0.3, "the daemon spins"
        assert len(world.daemon.err.read_text().splitlines()) - lines < 10, "the log is flooded"
        early.send(ask(samples.CHAT, key))
        assert early.read_response().status == 200
        for client in crowd:
            client.close()
    resource.prlimit(world.daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))

    def serves():
        try:
            return world.exchange(ask(samples.CHAT, key), timeout=2).status == 200
        except (OSError, Closed):
            return False

    wait_until(serves, 10, "service after the crowd")
    wait_until(lambda: world.daemon.descriptors() <= used + 4, 10, "the crowd's descriptors")


def refused_connections(world):
    return json.loads(world.cli("status", "-o", "json").stdout)["refused"]


def is_turned_away(world, source, tls=False):
    """No byte is answered, not even to a client that says nothing."""
    with socket.create_connection(("127.0.0.1", world.tls_port if tls else world.port), 10, (source, 0)) as sock:
        try:
            return sock.recv(1) == b""
        except ConnectionResetError:
            return True


def test_connections_per_address(make_world):
    """One address's connections are bounded over all loops, before TLS; others are not concerned, and who leaves makes room."""
    world = make_world(providers=("openai",), threads=2, limits={"connections_per_address": 5})
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))

    def enter(source):
        client = world.connect(source=source)
        client.send(ask(samples.CHAT, key))
        assert client.read_response().status == 200
        return client

    crowd = [enter("127.0.0.2") for _ in range(5)]
    for n in range(20):
        assert is_turned_away(world, "127.0.0.2", tls=n % 2 == 0)
    assert refused_connections(world) == 20
    log = world.daemon.err.read_text()
    assert 'event=connection_refused limit="limits.connections_per_address" address="127.0.0.2" more_like_it=0' in log
    assert log.count("event=connection_refused") < 10
    others = [enter(f"127.0.0.{n}") for n in range(3, 43)]
    crowd.pop().close()
    wait_until(lambda: not fails(lambda: crowd.append(enter("127.0.0.2"))), 5, "room for one that left")
    assert is_turned_away(world, "127.0.0.2")
    # A reload raises it for all that come now.
    world.configure(threads=2, limits={"connections_per_address": 6})
    world.cli("reload")
    crowd.append(enter("127.0.0.2"))
    assert is_turned_away(world, "127.0.0.2")
    for client in crowd + others:
        client.close()


def test_database_held_by_another(make_world):
    """A locked database delays the rows, never the clients, and loses nothing."""
    world = make_world(providers=("openai",))
    name, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    holder = sqlite3.connect(world.folder / "chaperone.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    slowest = 0.0
    with world.connect() as client:
        for _ in range(200):
            began = time.monotonic()
            client.send(ask(samples.CHAT, key))
            assert client.read_response().status == 200
            slowest = max(slowest, time.monotonic() - began)
    time.sleep(1)
    holder.execute("ROLLBACK")
    holder.close()
    assert slowest < 1.5
    assert len(world.rows_of(name, 200, within=20)) == 200


def test_no_slot_is_503_and_recovers(make_world):
    """What cannot be recorded is not forwarded, and a valid key never hears 401 for it."""
    world = make_world(providers=("openai",), threads=1, limits={"inflight": 3})
    _, key = world.fresh_key("openai")
    upstream = world.upstreams["openai"]
    upstream.script = stall(wire(samples.CHAT_STREAM_ASKED)[:500])
    holders = []
    for _ in range(3):
        client = world.connect()
        client.send(ask(samples.CHAT_STREAM_ASKED, key))
        client.take_until(b"\r\n\r\n")
        holders.append(client)
    response = world.exchange(ask(samples.CHAT, key))
    assert (response.status, response.get("retry-after")) == (503, "1") and len(upstream.requests) == 3
    time.sleep(0.1)
    for client in holders:
        client.close()
    upstream.script = reply(wire(samples.CHAT))
    wait_until(lambda: world.exchange(ask(samples.CHAT, key)).status == 200, 5, "a free slot")


DEEP = b'{"model":"gpt-4o","x":' + b"[" * 4_000_000
KEYS = b'{"model":"gpt-4o",' + b",".join(b'"%07d":1' % n for n in range(400_000)) + b"}"
STRINGS = b'{"model":"gpt-4o","x":"' + b"\\u00e9" * 1_000_000 + b'"}'
NUMBERS = b'{"model":"gpt-4o","x":[' + b",".join([b"1e-9999"] * 500_000) + b"]}"
DIGITS = b'{"model":"gpt-4o","x":' + b"9" * 6_000_000 + b"}"


@pytest.mark.parametrize("body, statuses", [(DEEP, (400,)), (KEYS, (200,)), (STRINGS, (200,)), (NUMBERS, (200, 400)), (DIGITS, (200, 400))],
                         ids=["deep", "keys", "strings", "numbers", "digits"])
def test_expensive_documents_are_linear(world, body, statuses):
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    cpu = cpu_seconds(world.daemon.pid)
    response = world.exchange(request("/v1/chat/completions", key, body), timeout=30)
    assert response.status in statuses
    assert cpu_seconds(world.daemon.pid) - cpu < 1.5


def test_ten_thousand_bad_keys_cost_nothing(world):
    """Guessing leaves no row and no log line each, and does not touch the database."""
    lines = len(world.daemon.err.read_text().splitlines())
    bad = b"".join(request("/v1/models", f"ch_x_sk_{n:050d}", method="GET") for n in range(50))
    for _ in range(40):
        with world.connect() as client:
            client.send(bad)
            answers = 0
            while True:
                try:
                    response = client.read_response("GET")
                except Closed:
                    break
                assert response.status == 401
                answers += 1
                if answers == 50 or response.get("connection") == "close":
                    break
    assert len(world.daemon.err.read_text().splitlines()) - lines < 200


def test_memory_does_not_grow_with_a_stream(world, settled):
    """Sixty-four MiB of events pass through in bounded memory."""
    _, key = world.fresh_key("openai")
    event = samples.chat_chunk({"content": "z" * 2000}, usage=None)

    def script(connection, _):
        head, _, _ = chunked([b"x"]).partition(b"\r\n\r\n")
        connection.send(head + b"\r\n\r\n")
        block = b"%x\r\n%s\r\n" % (len(event), event) * 32
        for _ in range(64 * 1024 * 1024 // len(block)):
            connection.send(block)
        connection.send(b"0\r\n\r\n")

    world.upstreams["openai"].script = script
    with world.connect(timeout=30) as client:
        client.send(ask(samples.CHAT_STREAM, key))
        client.take_until(b"\r\n\r\n")
        before, total = world.daemon.resident_kib(), 0
        while data := client.receive(1 << 20):
            total += len(data)
            if data.endswith(b"\r\n0\r\n\r\n"):
                break
        assert total > 60 << 20
        assert world.daemon.resident_kib() - before < 4096


def test_an_event_without_an_end_is_bounded(world, settled):
    """One line of 32 MiB in a stream whose usage event we look for: it passes, and is not held."""
    _, key = world.fresh_key("openai")
    line = b'data: {"choices":[{"delta":{"content":"' + b"y" * (32 << 20)

    def script(connection, _):
        head, _, _ = chunked([b"x"]).partition(b"\r\n\r\n")
        connection.send(head + b"\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(line), line))

    world.upstreams["openai"].script = script
    before = world.daemon.resident_kib()
    response = world.exchange(ask(samples.CHAT_STREAM, key), timeout=60)
    assert response.body == line
    assert world.daemon.resident_kib() - before < 8192


def test_many_open_streams(make_world):
    """Hundreds of open streams: small memory each, and new requests are still served at once."""
    world = make_world(providers=("openai",))
    name, key = world.fresh_key("openai")
    release = threading.Event()
    head = wire(samples.CHAT_STREAM_ASKED)[:500]

    def script(connection, _):
        connection.send(head)
        release.wait(60)
        connection.send(wire(samples.CHAT_STREAM_ASKED)[500:])

    world.upstreams["openai"].script = script
    before = world.daemon.resident_kib()
    clients = []
    for _ in range(400):
        client = world.connect(timeout=30)
        client.send(ask(samples.CHAT_STREAM_ASKED, key))
        clients.append(client)
    for client in clients:
        client.take_until(b"\r\n\r\n")
    each = (world.daemon.resident_kib() - before) / len(clients)
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    began = time.monotonic()
    assert world.exchange(ask(samples.CHAT, key)).status == 200 and time.monotonic() - began < 5
    release.set()
    for client in clients:
        assert client.take_until(b"0\r\n\r\n").endswith(b"[DONE]\n\n\r\n0\r\n\r\n")
        client.close()
    assert len(world.rows_of(name, 401, within=20)) == 401
    assert each < 120, f"{each:.0f} KiB a stream (sanitizer included)"


def test_unix_socket_listener(make_world):
    world = make_world(providers=("openai",))
    name, key = world.fresh_key("openai")
    path = world.folder / "data.sock"
    world.restart(listen=[{"address": f"127.0.0.1:{world.port}"}, {"address": f"unix:{path}"}])
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    client = RawClient.__new__(RawClient)
    client.sock, client.pending = socket.socket(socket.AF_UNIX), bytearray()
    client.sock.settimeout(10)
    client.sock.connect(str(path))
    client.send(ask(samples.CHAT, key))
    assert client.read_response().body == samples.CHAT.answer
    client.close()
    assert len(world.rows_of(name)) == 1
