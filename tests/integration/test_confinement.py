# SPDX-License-Identifier: Apache-2.0
"""What the daemon itself gives up at its start (docs/threat-model.md T26): programs, and what no relay asks a kernel for."""
import errno
import json
import pathlib
import re
import struct

import pytest

from harness import samples
from harness.preload import Preload
from harness.process import wait_until
from harness.upstream import reply
from harness.world import ask, wire

HOOK = "#!/usr/bin/env python3\nimport sys\nfor line in sys.stdin:\n    print(line, end='', flush=True)\n"


class Executes(Preload):
    """A thread inside the daemon that executes programs when asked."""

    def __init__(self, folder):
        super().__init__(folder, "executes", 8)

    def __call__(self):
        """0, or errno."""
        self.page[:] = struct.pack("=ii", 1, -1)
        wait_until(lambda: self.page[:4] == bytes(4), 10, "an attempt")
        return struct.unpack("=ii", self.page[:])[1]


@pytest.fixture
def executes(tmp_path):
    return Executes(tmp_path)


def modes(pid):
    """(Seccomp, NoNewPrivs) of each thread."""
    return [tuple(re.search(rf"^{name}:\s+(\d)", (task / "status").read_text(), re.M)[1] for name in ("Seccomp", "NoNewPrivs"))
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]


def start(world, environment, **settings):
    world.stop()
    world.configure(**settings)
    world.start(environment=environment)
    return json.loads(world.cli("status", "-o", "json").stdout)["confinement"]


def test_no_thread_executes_a_program(make_world, executes, tmp_path):
    world = make_world(providers=("openai",))
    assert start(world, executes.environment()) == "full"
    found = modes(world.daemon.pid)
    assert len(found) > 5 and set(found) == {("2", "1")}
    assert executes() == errno.EPERM
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    assert world.exchange(ask(samples.CHAT, key)).status == 200
    # A hook comes too late now, and the sentence says so; other settings go on.
    hook = tmp_path / "hook"
    hook.write_text(HOOK)
    hook.chmod(0o755)
    world.configure(capture={"hook": {"program": str(hook)}})
    refused = world.cli("reload", check=False)
    assert refused.returncode != 0 and "given up executing programs; it needs a restart" in refused.stderr
    world.configure(log={"level": "info"})
    world.cli("reload")
    # Started with it, the hook works, and the rest stays given up.
    assert start(world, executes.environment(), capture={"bodies": "on", "hook": {"program": str(hook), "timeout": "20s"}}) == "except_programs"
    assert set(modes(world.daemon.pid)) == {("2", "1")}
    assert executes() == 0
    assert world.exchange(ask(samples.CHAT, key)).status == 200
    wait_until(lambda: json.loads(world.cli("status", "-o", "json").stdout)["capture"]["stored"] == 1, 20, "the captured event")


def test_a_kernel_that_refuses_is_no_reason_not_to_serve(make_world, executes):
    world = make_world(providers=("openai",))
    assert start(world, executes.environment(REFUSE_SECCOMP="1")) == "none"
    assert 'event=not_confined err="seccomp: Function not implemented"' in world.daemon.err.read_text()
