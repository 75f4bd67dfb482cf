# SPDX-License-Identifier: Apache-2.0
import pathlib
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness.certs import Certificates  # noqa: E402
from harness.process import wait_until  # noqa: E402
from harness.upstream import answer, reply  # noqa: E402
from harness.world import World  # noqa: E402


@pytest.fixture(autouse=True)
def one_day():
    """Days, weeks and months of budgets begin at midnight UTC, day files too: no test begins in the half minute before it."""
    left = 86400 - time.time() % 86400
    if left < 30:
        time.sleep(left + 0.1)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="session")
def shared_world(tmp_path_factory, certificates):
    """The daemon that most tests share."""
    world = World(tmp_path_factory.mktemp("world"), certificates)
    yield world
    world.close()


@pytest.fixture
def world(shared_world):
    """The shared daemon, its upstreams' records empty; after the test it still runs and no sanitizer has spoken."""
    for upstream in shared_world.upstreams.values():
        upstream.forget()
        upstream.script = reply(answer(b"{}"))
    yield shared_world
    assert shared_world.daemon.is_running(), shared_world.daemon.tail()
    shared_world.daemon.check()


@pytest.fixture
def make_world(tmp_path, certificates):
    """Makes worlds of their own for tests that need other settings or that break things."""
    made = []

    def make(**settings):
        world = World(tmp_path / f"w{len(made)}", certificates, **settings)
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()


@pytest.fixture
def settled(world):
    """After the test the daemon holds no more descriptors than before it, once idle upstream connections are counted out."""
    before = world.daemon.descriptors()
    yield world
    idle = sum(1 for u in world.upstreams.values() for c in u.connections if not c.gone.is_set() and not c.is_closed)
    wait_until(lambda: world.daemon.descriptors() <= before + idle, 10, f"descriptors back to {before} (+{idle} idle)")
