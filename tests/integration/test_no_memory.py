# SPDX-License-Identifier: Apache-2.0
"""security.md R5: a failed allocation ends one exchange at most, and leaves nothing held.

For the release build alone: the sanitizer brings an allocator of its own."""
import itertools
import ssl
import struct
import time

import pytest

from harness.client import Closed
from harness.money import Ask, MoneyWorld, bill
from harness.preload import Preload
from harness.process import is_sanitized, wait_until



class Memory(Preload):
    def __init__(self, folder):
        super().__init__(folder, "no_memory", 8, "-fno-builtin")

    def fail(self, nth):
        self.page[:] = struct.pack("=ii", nth, 0)

    def stop_failing(self):
        """How many did."""
        failed = struct.unpack("=ii", self.page[:])[1]
        self.page[:] = bytes(8)
        return failed


@pytest.fixture
def memory(tmp_path):
    assert not is_sanitized(), "run this with CHAPERONE_BIN=build/release/chaperone"
    return Memory(tmp_path)


@pytest.fixture
def world(tmp_path, certificates, memory):
    world = MoneyWorld(tmp_path / "w", certificates, providers=("openai",), threads=1)
    world.stop()
    world.start(environment=memory.environment())
    yield world
    world.close()


def status(world, data, kind):
    """0: the connection ended without an answer."""
    try:
        with world.connect(kind == "tls", timeout=10) as client:
            middle = len(data) // 2 if kind == "in two" else len(data)
            client.send(data[:middle])
            if middle < len(data):
                time.sleep(0.01)
                client.send(data[middle:])
            return client.read_response().status
    except (Closed, ConnectionError, ssl.SSLError):
        return 0


# The least of failures that each must have met: a warm loop needs next to no memory.
@pytest.mark.parametrize("kind, least", [("plain", 2), ("stream", 2), ("large", 3), ("in two", 3), ("dial", 4), ("tls", 50)])
def test_each_allocation_fails_in_turn(world, memory, kind, least):
    name, token = world.make_key(rpm=100_000, tpm=10_000_000_000, budget=["1000/day", "1000/month"])
    world.upstreams["openai"].script = bill(headers=[("Connection", "close")] if kind == "dial" else ())
    ask = Ask(token, stream=kind == "stream", pad=200_000 if kind == "large" else 100)
    seen, answered = [], 0
    for nth in itertools.count(1):
        memory.fail(nth)
        seen.append(status(world, ask.data, kind))
        failed = memory.stop_failing()
        answered += seen[-1] == 200
        assert world.daemon.is_running(), (nth, world.daemon.tail())
        assert status(world, ask.data, kind) == 200, f"after the failure of allocation {nth}"
        answered += 1
        if not failed:
            break
    assert seen[-1] == 200 and len(seen) > least, seen
    assert set(seen) <= {0, 200, 502, 503}, seen
    assert set(seen) & {0, 503}, "nothing was felt of it"
    wait_until(lambda: world.in_flight() == 0, 10, "no exchange is left")
    for budget in world.budgets(f"key:{name}").values():
        assert budget["reserved_nano_usd"] == 0
    wait_until(lambda: len(world.list_rows(key=name)) >= answered, 10, "a row for each answer")
