# SPDX-License-Identifier: Apache-2.0
"""Idle connections to providers: what happened to one while nobody used it is seen before the next request is written."""
import os
import pathlib
import signal
import threading
import time

import pytest

from harness import samples
from harness.process import wait_until
from harness.upstream import Upstream, answer, reply
from harness.world import SECRETS, ask, wire

IDLE_SECONDS = 0.05  # well above the 10 ms for which an idle connection is not looked at


class Stopped:
    """The daemon stands still: whatever happens inside reaches it in one turn of its loops."""

    def __init__(self, world):
        self.pid = world.daemon.pid

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: set(self.thread_states()) == {"T"}, 5, "the daemon's stop")

    def __exit__(self, *_):
        time.sleep(0.02)  # what was sent last reaches the daemon's socket
        os.kill(self.pid, signal.SIGCONT)

    def thread_states(self):
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            yield (task / "stat").read_text().rpartition(")")[2].split()[0]


class Provider:
    """Answers every request; does something unasked to the first connection when it is told to."""

    def __init__(self, upstream, happens):
        self.happens = happens
        self.first, self.now, self.done = None, threading.Event(), threading.Event()
        upstream.script = self.script

    def script(self, connection, _):
        is_first = self.first is None
        self.first = self.first or connection
        connection.send(wire(samples.CHAT))
        if is_first:
            assert self.now.wait(10)
            self.happens(connection)
            self.done.set()

    def act(self):
        self.now.set()
        assert self.done.wait(10)


def close(connection):
    connection.close()


def reset(connection):
    connection.reset()


def speak(connection):
    connection.send(answer(b'{"poison":true}'))


def speak_and_close(connection):
    connection.send(answer(b'{"poison":true}'))
    connection.close()


def check_look(world, upstream, key, happens, is_before=False):
    provider = Provider(upstream, happens)
    with world.connect() as client:
        client.send(ask(samples.CHAT, key))
        assert client.read_response().body == samples.CHAT.answer
        first = upstream.last.connection
        carried = len(first.requests)
        time.sleep(IDLE_SECONDS)
        with Stopped(world):
            if is_before:
                provider.act()
            client.send(ask(samples.CHAT, key))
            if not is_before:
                provider.act()
        response = client.read_response()
    assert (response.status, response.body) == (200, samples.CHAT.answer)
    assert len(upstream.requests) == 2, "sent exactly once"
    assert len(first.requests) == carried and upstream.last.connection is not first


@pytest.mark.parametrize("happens", [close, reset, speak, speak_and_close])
@pytest.mark.parametrize("is_before", [False, True], ids=["behind-the-request", "before-the-request"])
def test_idle_connection_is_looked_at_before_it_is_used(world, happens, is_before):
    """The request and the news about the idle connection arrive in the same turn, in either order: the request goes
    out once, on a new connection."""
    _, key = world.fresh_key("openai")
    check_look(world, world.upstreams["openai"], key, happens, is_before)


def test_idle_tls_connection_is_looked_at_before_it_is_used(make_world, certificates):
    world = make_world(providers=("openai",))
    for happens in (close, speak, speak_and_close):
        upstream = Upstream(tls=certificates.server("good"))
        world.provider(happens.__name__, "openai", f"https://localhost:{upstream.port}/v1", SECRETS["openai"])
        _, key = world.fresh_key(happens.__name__)
        check_look(world, upstream, key, happens)
        upstream.close()


def test_silent_connection_is_used_again(world):
    """The counterpart: with nothing wrong the same connection carries both requests, so the tests above test the look."""
    _, key = world.fresh_key("openai")
    upstream = world.upstreams["openai"]
    upstream.script = reply(wire(samples.CHAT))
    with world.connect() as client:
        for _ in range(3):
            client.send(ask(samples.CHAT, key))
            assert client.read_response().status == 200
            time.sleep(IDLE_SECONDS)
    assert len({id(sent.connection) for sent in upstream.requests}) == 1
