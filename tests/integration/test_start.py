# SPDX-License-Identifier: Apache-2.0
"""Starting, refusing to start, and stopping."""
import json
import os
import signal
import socket
import stat
import time

import pytest

from harness.world import SECRETS, ask, wire
from harness import samples
from harness.client import request
from harness.process import BINARY, Installation, Process, clean_environment, free_port, wait_until
from harness.upstream import chunked, reply, stall


@pytest.fixture
def installation(tmp_path):
    made = Installation(tmp_path / "i")
    yield made
    made.stop()


def refuses(installation, *words):
    """The daemon must end by itself with a non-zero exit and say why."""
    process = Process([BINARY, "serve", "--config", installation.config], installation.folder, "refused")
    code = process.child.wait(20)
    process.check()
    said = process.tail().lower()
    assert code not in (0, 99) and code > 0, (code, said)
    assert all(word in said for word in words), said


def test_init_is_private_and_never_overwrites(installation):
    mode = lambda name: stat.S_IMODE((installation.folder / name).stat().st_mode)  # noqa: E731
    assert (mode("master.key"), mode("."), mode("chaperone.db") & 0o077) == (0o600, 0o700, 0)
    before = (installation.folder / "master.key").read_bytes()
    done = installation.run("init", "--dir", installation.folder, "--listen", "127.0.0.1:1", "--no-input", check=False)
    assert done.returncode == 5
    assert (installation.folder / "master.key").read_bytes() == before


def test_init_writes_a_configuration_that_serves(tmp_path):
    port = free_port()
    folder = tmp_path / "fresh"
    made = Installation(folder)
    for name in ("chaperone.yaml", "master.key", "chaperone.db"):
        (folder / name).unlink()
    for leftover in folder.glob("chaperone.*"):
        leftover.unlink()
    made.port = port
    made.run("init", "--dir", folder, "--listen", f"127.0.0.1:{port}", "--no-input")
    made.start()
    assert made.exchange(request("/healthz", None, method="GET"), method="GET").status == 200
    made.stop()


@pytest.mark.parametrize("address", ["0.0.0.0", "[::]"])
def test_plaintext_to_the_world_is_refused(installation, address):
    installation.configure(listen=[{"address": f"{address}:{installation.port}"}])
    refuses(installation, "tls")


def test_wrong_master_key_is_refused(installation):
    key = installation.folder / "master.key"
    text = key.read_text()
    installation.cli("provider", "create", "p", "--type", "openai", "--secret-stdin", input=SECRETS["openai"] + "\n")
    other = text.replace(text[3], "0" if text[3] != "0" else "1", 1) if text.strip().isalnum() else text[:3] + ("A" if text[3] != "A" else "B") + text[4:]
    assert other != text
    key.write_text(other)
    refuses(installation, "master key")
    key.write_text(text)
    installation.start()
    installation.stop()


def test_open_master_key_file_is_refused(installation):
    os.chmod(installation.folder / "master.key", 0o644)
    refuses(installation, "master")


@pytest.mark.parametrize("extra, words", [({"lissten": 1}, ("lissten", "listen")), ({"threads": "many"}, ("threads",)),
                                          ({"master_key": "0123456789abcdef0123456789abcdef"}, ("master_key",))])
def test_bad_configuration_is_refused_in_words(installation, extra, words):
    installation.configure(**extra)
    refuses(installation, *words)


def test_busy_address_is_refused(make_world):
    world = make_world(providers=("openai",))
    other = Installation(world.folder.parent / "other")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other.configure(listen=[{"address": f"127.0.0.1:{taken.getsockname()[1]}"}])
        refuses(other, "address")


def test_two_daemons_do_not_share_a_database(make_world):
    world = make_world(providers=("openai",))
    second = Installation(world.folder.parent / "second")
    second.configure(database=world.folder / "chaperone.db", master_key="${file:%s}" % (world.folder / "master.key"))
    refuses(second)
    assert world.exchange(request("/readyz", None, method="GET"), method="GET").status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(installation, number):
    installation.start()
    installation.daemon.child.send_signal(number)
    assert installation.daemon.child.wait(10) == 0
    installation.daemon.check()


def test_stop_lets_a_stream_finish(make_world):
    world = make_world(providers=("openai",), timeouts={"shutdown": "5s"})
    name, key = world.fresh_key("openai")
    sample = samples.CHAT_STREAM_ASKED

    def script(connection, _):
        head, _, _ = wire(sample).partition(b"\r\n\r\n")
        connection.send(head + b"\r\n\r\n")
        for part in sample.parts:
            connection.send(b"%x\r\n%s\r\n" % (len(part), part), 0.15)
        connection.send(b"0\r\n\r\n")

    world.upstreams["openai"].script = script
    with world.connect() as client:
        client.send(ask(sample, key))
        client.take_until(b"\r\n\r\n")
        began = time.monotonic()
        world.daemon.child.send_signal(signal.SIGTERM)
        body = client.read_to_end()
        assert body.endswith(b"0\r\n\r\n") and b"[DONE]" in body
    assert world.daemon.child.wait(10) == 0 and time.monotonic() - began < 6
    world.daemon.check()
    world.daemon = None
    (row,) = world.rows_of(name)
    assert (row["end_reason"], row["grade"]) == ("done", "exact")


def test_stop_cuts_what_does_not_end(make_world):
    world = make_world(providers=("openai",), timeouts={"shutdown": "500ms"})
    name, key = world.fresh_key("openai")
    world.upstreams["openai"].script = stall(chunked(samples.CHAT_STREAM_ASKED.parts)[:400])
    with world.connect() as client:
        client.send(ask(samples.CHAT_STREAM_ASKED, key))
        client.take_until(b"\r\n\r\n")
        began = time.monotonic()
        world.stop()
        assert time.monotonic() - began < 8
    (row,) = world.rows_of(name)
    assert (row["end_reason"], row["grade"]) == ("shutdown", "partial")


def test_check_and_status(make_world):
    world = make_world(providers=("openai",))
    assert world.cli("status").returncode == 0
    world.stop()
    assert world.cli("check").returncode == 0
    assert world.cli("status", check=False).returncode == 7


@pytest.mark.parametrize("arguments, code", [(("nonsense",), 2), (("key", "nonsense"), 2), (("key", "show", "nobody"), 3),
                                             (("key", "create", "k", "--provider", "nobody"), 3),
                                             (("provider", "create", "p", "--type", "nonsense", "--secret-stdin"), 2)])
def test_exit_codes(installation, arguments, code):
    assert installation.cli(*arguments, check=False, input="x\n").returncode == code


def test_taken_names_conflict(make_world):
    world = make_world(providers=("openai",))
    world.key("same", "openai")
    assert world.cli("key", "create", "same", "--provider", "openai", check=False).returncode == 5


def test_a_secret_is_never_an_argument(installation):
    done = installation.cli("provider", "create", "p", "--type", "openai", "--secret", "sk-in-argv-000000000000", check=False)
    assert done.returncode == 2 and "sk-in-argv" not in done.stderr


def test_version(installation):
    assert "0." in installation.run("version").stdout


def test_usage_json_is_one_contract(installation):
    rows = json.loads(installation.cli("usage", "list", "-o", "json").stdout)
    assert rows == {"schema": "chaperone.usage/1", "items": []}


def test_unpinned_loopback_spellings(installation):
    """A name of this machine's own loopback is no public listener."""
    installation.configure(listen=[{"address": f"[::1]:{installation.port}"}])
    process = Process([BINARY, "serve", "--config", installation.config], installation.folder, "six")
    # Before it is ready a signal would simply kill it.
    wait_until(lambda: not process.is_running() or "event=ready" in process.tail(), 20, "its start")
    # A machine without IPv6 cannot bind it; what matters is that it is not refused as plaintext.
    if not process.is_running():
        assert "tls" not in process.tail().lower()
    else:
        assert process.stop() == 0


def test_reload_keeps_serving(make_world):
    world = make_world(providers=("openai",))
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    pid = world.daemon.pid
    world.daemon.child.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert world.exchange(ask(samples.CHAT, key)).status == 200 and world.daemon.pid == pid and world.daemon.is_running()


def test_readiness_is_told_to_systemd(installation):
    """READY=1 when it serves, STOPPING=1 when it ends, as a notify service promises."""
    path = installation.folder / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(10)
        installation.start(environment=clean_environment(NOTIFY_SOCKET=str(path)))
        assert b"READY=1" in listener.recv(4096)
        installation.stop()
        assert b"STOPPING=1" in listener.recv(4096)


def test_ready_means_that_the_admin_socket_accepts(installation):
    """The start is held where it looks whether a stale admin socket still answers: a full queue lets connect() wait."""

    def answer(path):
        try:
            return installation.exchange(request(path, None, method="GET"), method="GET")
        except OSError:
            return None

    path = str(installation.folder / "chaperone.sock")
    with socket.socket(socket.AF_UNIX) as stale, socket.socket(socket.AF_UNIX) as filler:
        stale.bind(path)
        stale.listen(0)
        filler.connect(path)
        installation.daemon = Process([BINARY, "serve", "--config", installation.config], installation.folder, "daemon")
        wait_until(lambda: answer("/healthz"), 20, "the listener of clients")
        response = answer("/readyz")
        assert response.status == 503 and b"admin socket" in response.body
        assert answer("/healthz").status == 200
    wait_until(lambda: answer("/readyz").status == 200, 20, "readiness")
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(path)
    installation.stop()


def test_admin_socket_is_private(installation):
    installation.start()
    path = installation.folder / "chaperone.sock"
    mode = stat.S_IMODE(path.stat().st_mode)
    installation.stop()
    assert mode == 0o600
