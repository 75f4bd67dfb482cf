# SPDX-License-Identifier: Apache-2.0
"""What a stop does to connections that are open and have no exchange."""
import signal
import socket
import time

import pytest

from harness.world import ask, wire
from harness import samples
from harness.client import RawClient
from harness.process import wait_until
from harness.upstream import reply


@pytest.fixture
def stopping(make_world):
    """A world, a key of it, and a function that sends SIGTERM and returns when no loop accepts any more."""
    world = make_world(providers=("openai",))
    name, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))

    def stop():
        world.daemon.child.send_signal(signal.SIGTERM)
        wait_until(lambda: not world.is_ready(), 10, "the end of accepting")

    return world, name, key, stop


def ends_well(world):
    assert world.daemon.child.wait(20) == 0, world.daemon.tail()
    world.daemon.check()
    world.daemon = None


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_request_on_its_way_is_answered(stopping, tls):
    """On a fresh connection and on a kept one; its answer is the connection's last."""
    world, name, key, stop = stopping
    with world.connect(tls) as fresh, world.connect(tls) as kept:
        kept.send(ask(samples.CHAT, key))
        assert kept.read_response().get("connection") is None
        stop()
        answers = 1
        for client in (fresh, kept):
            client.send(ask(samples.CHAT, key))
        for client in (fresh, kept):
            while (response := client.read_response()).get("connection") != "close":
                client.send(ask(samples.CHAT, key))  # between the end of accepting and the drain
                answers += 1
                assert response.status == 200
            answers += 1
            assert response.status == 200
            assert client.sock.recv(1) == b""  # a reset would raise
    ends_well(world)
    assert [row["end_reason"] for row in world.rows_of(name, answers)] == ["done"] * answers


def test_silent_connections_end_without_a_reset(stopping):
    world, name, key, stop = stopping
    with world.connect() as fresh, world.connect() as kept, world.connect() as partial, RawClient(world.tls_port) as shy:
        kept.send(ask(samples.CHAT, key))
        assert kept.read_response().status == 200
        partial.send(ask(samples.CHAT, key)[:40])
        stop()
        began = time.monotonic()
        for client in (fresh, kept):
            assert client.sock.recv(1) == b""
            client.send(ask(samples.CHAT, key))  # crosses the end on its way
        assert partial.read_response().status == 408
        time.sleep(0.1)
        for client in (fresh, kept, partial, shy):  # the last has not even begun with TLS
            assert client.sock.recv(1) == b"" and client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            client.close()
        ends_well(world)
        assert time.monotonic() - began < 5, "idle clients do not hold a stop up"
    (row,) = world.rows_of(name)
    assert row["end_reason"] == "done"
