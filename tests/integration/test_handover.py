# SPDX-License-Identifier: Apache-2.0
"""Listening sockets that were passed to the daemon: restarts that refuse and reset nobody."""
import collections
import contextlib
import socket
import threading
import time

import pytest

from harness.world import ask, wire
from harness import samples
from harness.client import Closed, RawClient, request
from harness.process import Installation, free_port, wait_until
from harness.supervisor import Supervisor, listen
from harness.upstream import reply

RESTARTS = 12
STREAM = samples.CHAT_STREAM_ASKED


class Strict(RawClient):
    """A reset is not taken for an end."""

    def receive(self, size=65536):
        return self.sock.recv(size)


@pytest.fixture
def supervised(make_world):
    """A world whose two listeners, plain and TLS, are held by a supervisor."""
    world = make_world(providers=("openai",))
    world.stop()
    supervisor = Supervisor(world, (listen(world.tls_port), "data"), (listen(world.port), "data"))
    supervisor.start()
    yield world, supervisor
    supervisor.close()


class Load:
    """Clients in threads of their own until `stop`; what must not happen stands in `failures`."""

    def __init__(self, world, key):
        self.world, self.key = world, key
        self.stopping = threading.Event()
        self.failures, self.answered, self.streams, self.closed = [], [], 0, 0
        kinds = [self.fresh] * 3 + [self.kept] * 3 + [self.stream, lambda: self.fresh(True), lambda: self.kept(True)]
        self.threads = [threading.Thread(target=self.guard, args=(kind,)) for kind in kinds]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()

    def guard(self, kind):
        try:
            kind()
        except Exception as failure:  # noqa: BLE001: whatever it is, it must not happen
            self.failures.append(f"{kind}: {failure!r}")

    def connect(self, tls):
        if tls:
            return Strict(self.world.tls_port, tls=self.world.certificates.client())
        return Strict(self.world.port)

    def ask(self, client, sample=samples.CHAT):
        client.send(ask(sample, self.key))
        response = client.read_response()
        assert response.status == 200 and not response.truncated, (response.status, response.error)
        self.answered.append(response.request_id)
        return response

    def fresh(self, tls=False):
        while not self.stopping.is_set():
            with self.connect(tls) as client:
                self.ask(client)

    def kept(self, tls=False):
        while not self.stopping.is_set():
            with self.connect(tls) as client:
                self.keep_asking(client)

    def keep_asking(self, client):
        is_used = False
        while not self.stopping.is_set():
            try:
                if self.ask(client).get("connection") == "close":
                    return
            except Closed as closed:
                # The one end that a client has to reckon with between two requests (RFC 9112 §9.3.1).
                assert is_used and not closed.partial
                self.closed += 1
                return
            is_used = True

    def stream(self):
        while not self.stopping.is_set():
            with self.connect(False) as client:
                assert self.ask(client, STREAM).body.endswith(b"data: [DONE]\n\n")
            self.streams += 1


def provide(connection, received):
    """A chat at once, or a stream of 0.4 s, so that most stops come in the middle of one."""
    if b'"stream":true' not in received.body.replace(b" ", b""):
        connection.send(wire(samples.CHAT))
        return
    head, _, _ = wire(STREAM).partition(b"\r\n\r\n")
    connection.send(head + b"\r\n\r\n")
    for part in STREAM.parts:
        connection.send(b"%x\r\n%s\r\n" % (len(part), part), 0.4 / len(STREAM.parts))
    connection.send(b"0\r\n\r\n")


def test_restarts_under_load_refuse_and_reset_nobody(supervised):
    world, supervisor = supervised
    name, key = world.fresh_key("openai")
    world.upstreams["openai"].script = provide
    load = Load(world, key)
    try:
        for _ in range(RESTARTS):
            before = len(load.answered)
            world.stop()
            supervisor.start()
            wait_until(lambda: len(load.answered) > before + 20 or load.failures, 20, "answers of the new process")
            if load.failures:
                break
    finally:
        load.stop()
    assert not load.failures, load.failures
    assert load.streams >= RESTARTS / 2 and load.closed <= max(len(load.answered) / 50, RESTARTS)
    world.stop()
    recorded = [row["id"] for row in world.usage("--key", name)]
    assert sorted(recorded) == sorted(load.answered) and len(set(recorded)) == len(recorded)


def test_a_queue_outlives_the_process(supervised):
    """What connects while nobody runs is served by the next one."""
    world, supervisor = supervised
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    world.stop()
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(Strict(world.port)) for _ in range(20)]
        for client in waiting:
            client.send(ask(samples.CHAT, key))
        supervisor.start()
        assert [client.read_response().status for client in waiting] == [200] * 20


def test_the_loops_share_a_passed_socket(supervised):
    world, _ = supervised
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    loops = collections.Counter(world.exchange(ask(samples.CHAT, key)).loop for _ in range(12))
    assert loops == {0: 6, 1: 6}
    for number in (3, 4):
        with open(f"/proc/{world.daemon.pid}/fdinfo/{number}") as info:
            flags = int(next(line for line in info if line.startswith("flags")).split()[1], 8)
        assert flags & 0o2000000 and flags & 0o4000, "close-on-exec and non-blocking"


@pytest.fixture
def installation(tmp_path):
    made = Installation(tmp_path / "i")
    yield made
    made.stop()


def test_sockets_of_another_process_are_ignored(installation):
    with listen(free_port()) as other:
        Supervisor(installation, (other, "data")).start(LISTEN_PID=1)
        assert 'socket="own"' in installation.daemon.tail()


def test_what_does_not_fit_is_refused(installation):
    port = installation.port

    def tcp(host="127.0.0.1", number=port, kind=socket.SOCK_STREAM, listens=True):
        sock = socket.socket(type=kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, number))
        if listens:
            sock.listen()
        return sock

    def refused(*words, make=tcp, name="data", **variables):
        with make() as first:
            process = Supervisor(installation, (first, name)).spawn("refused", **variables)
            code = process.child.wait(20)
        process.check()
        said = process.tail(3)
        assert code not in (0, 99) and all(word in said for word in words), (code, said)

    elsewhere = free_port()
    refused(f"0.0.0.0:{port}", "listen", make=lambda: tcp("0.0.0.0"))  # plaintext to the world
    refused(f"127.0.0.1:{elsewhere}", "listen", make=lambda: tcp(number=elsewhere))
    refused("no stream socket", make=lambda: tcp(kind=socket.SOCK_DGRAM, listens=False))
    refused("no stream socket", make=lambda: tcp(listens=False))
    refused("no TCP and no Unix socket", make=lambda: open("/dev/null", "rb"))
    refused("no TCP and no Unix socket", LISTEN_FDS=2, LISTEN_FDNAMES="data:data")
    refused("neither data nor admin", name="chaperone.socket")
    refused("neither admin.socket nor admin.listen", name="admin")
    refused("LISTEN_FDNAMES", LISTEN_FDNAMES="data:data")
    refused("LISTEN_FDS", LISTEN_FDS=99)
    refused("LISTEN_FDS", LISTEN_FDS="x")
    installation.configure(listen=[{"address": f"127.0.0.1:{port}"}, {"address": f"127.0.0.1:{elsewhere}"}])
    refused(f"127.0.0.1:{elsewhere}", "no passed socket")


def test_passed_admin_sockets_wait_for_the_next_process(installation):
    path, port = installation.folder / "chaperone.sock", free_port()
    installation.configure(admin={"listen": f"127.0.0.1:{port}"})
    with socket.socket(socket.AF_UNIX) as admin, listen(port) as remote:
        admin.bind(str(path))
        admin.listen(16)
        supervisor = Supervisor(installation, (remote, "admin"), (admin, "admin"))
        supervisor.start()
        with Strict(port) as client:
            client.send(request("/v1/status", None, b"{}"))
            assert client.read_response().status == 401
        assert installation.cli("status").returncode == 0
        installation.stop()
        assert path.is_socket(), "it belongs to whoever passed it"
        said = []
        asking = threading.Thread(target=lambda: said.append(installation.cli("status").returncode))
        asking.start()
        time.sleep(0.2)
        supervisor.start()
        asking.join(20)
        assert said == [0]
