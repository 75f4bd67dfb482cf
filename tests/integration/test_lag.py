# SPDX-License-Identifier: Apache-2.0
"""Loops never wait (security.md R19): not for a file, a name, a statement or a thread that waits for one of these.

Every touch of the disk takes half a second here, so that waiting for one is unmistakable on any machine."""
import json
import sqlite3
import struct
import threading
import time

import pytest

from harness import samples
from harness.admin import Refused, admin_call
from harness.preload import Preload
from harness.process import ROOT, wait_until
from harness.upstream import reply
from harness.world import World, ask, wire

DELAY_MS, LAG_MS, LOCKED_SECONDS, SECONDS = 500, 250, 1, 0.5  # of the storm; what it began comes to its end
FIELDS = ("is_armed", "delay_ms", "misbehaves", "loops", "calls_of_loops", "last_call", "delayed_elsewhere", "hanging", "turns",
          "longest_turn_ns")
PAGE = struct.Struct("=8i2q")


class Waits(Preload):
    def __init__(self, folder):
        super().__init__(folder, "waits", PAGE.size, "-ldl")

    def arm(self, misbehaves=0):
        self.page[:12] = struct.pack("=3i", 1, DELAY_MS, misbehaves)

    def disarm(self):
        self.page[:4] = bytes(4)

    def seen(self):
        return dict(zip(FIELDS, PAGE.unpack(self.page)))


@pytest.fixture
def waits(tmp_path):
    return Waits(tmp_path)


@pytest.fixture
def world(tmp_path, certificates, waits):
    world = World(tmp_path / "w", certificates, providers=("openai",), threads=2)
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    world.stop()
    world.start(environment=waits.environment())
    yield world
    waits.disarm()
    world.close()


class Crowd:
    """Threads that do their work again and again until they are told to stop; what one of them raises fails the test."""

    def __init__(self):
        self.is_over = threading.Event()
        self.threads, self.faults = [], []

    def add(self, work, *arguments, once=False):
        def run():
            try:
                while True:
                    work(*arguments)
                    if once or self.is_over.is_set():
                        return
            except Exception as fault:  # told by join
                self.faults.append(fault)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def join(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join(60)
        assert not self.faults, self.faults


def large_price_list():
    prices = json.loads((ROOT / "conf/prices.json").read_text())
    prices["models"] |= {f"copy{n}/{name}": price for name, price in prices["models"].items() for n in range(2)}
    return json.dumps(prices)


def test_loops_never_wait(world, waits):
    name, key = world.fresh_key("openai")
    stuck = []
    for n in range(2):  # as many as there are resolver threads
        world.provider(f"stuck{n}", "openai", f"https://hangs.{n}.test/v1", "sk-nobody-hears-this-0123456789abcdef")
        stuck.append(world.fresh_key(f"stuck{n}")[1])
    clients = [world.connect(n % 2 == 0) for n in range(6)]
    took, created, prices = [], [], large_price_list()

    def exchange(client):
        began = time.monotonic()
        client.send(ask(samples.CHAT, key))
        assert client.read_response().status == 200
        took.append(time.monotonic() - began)
        time.sleep(0.02)

    def create(thread):
        try:
            admin_call(world, "key.create", name=f"storm-{thread}-{len(created)}", provider=["openai"])
            created.append(thread)
        except Refused as refused:  # the database is locked, or so many wait already
            assert refused.status == 503, refused

    holder = sqlite3.connect(world.folder / "chaperone.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    waiting = [world.connect() for _ in stuck]
    waits.arm()
    for client, token in zip(waiting, stuck):
        client.send(ask(samples.CHAT, token))
    served, storm = Crowd(), Crowd()
    for client in clients:
        served.add(exchange, client)
    for thread in range(2):
        storm.add(create, thread)
    storm.add(world.cli, "reload", once=True)
    time.sleep(LOCKED_SECONDS)
    holder.execute("ROLLBACK")
    holder.close()
    storm.add(lambda: admin_call(world, "price.import", document=prices, force=True), once=True)
    time.sleep(SECONDS)
    wait_until(lambda: len(took) > 100 and created, 30, "exchanges and keys")
    storm.join()
    served.join()
    seen = waits.seen()
    waits.disarm()
    assert seen["calls_of_loops"] == 0, f"system call {seen['last_call']} on a loop (below zero: waits.c)"
    assert seen["longest_turn_ns"] < LAG_MS * 1_000_000, seen
    assert seen["loops"] == 2 and seen["turns"] > len(took), seen
    assert seen["hanging"] == 2 and seen["delayed_elsewhere"] > 5, seen
    # A machine that stands still for a moment holds up whoever asks just then; the lock and the disk held up everybody.
    assert sorted(took)[len(took) * 9 // 10] < LAG_MS / 1000, sorted(took)[-20:]
    wait_until(lambda: json.loads(world.cli("status", "-o", "json").stdout)["journal_backlog_bytes"] == 0, 30, "the rows", 0.1)
    assert len(world.usage("--key", name)) == len(took)

    # And a loop that waited would have been seen.
    waits.arm(misbehaves=1)
    exchange(clients[0])
    wait_until(lambda: waits.seen()["longest_turn_ns"] >= DELAY_MS * 1_000_000, 10, "the turn that waited")
    assert waits.seen()["calls_of_loops"] == 1
    waits.disarm()
    for client in clients + waiting:
        client.close()
