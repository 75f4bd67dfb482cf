# SPDX-License-Identifier: Apache-2.0
"""Reload: certificates, clients' certificates and limits change while the daemon serves, whole or not at all."""
import hashlib
import shutil
import signal
import socket
import ssl
import threading
import time

import pytest

from harness.certs import Certificates
from harness.world import ask, wire
from harness import samples
from harness.client import Closed, RawClient, request
from harness.process import clean_environment, wait_until
from harness.upstream import chunked, reply

READY = request("/readyz", None, method="GET")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """An authority with a second good leaf, and certificates for clients."""
    certificates = Certificates(tmp_path_factory.mktemp("reload"))
    certificates._leaf("next", "DNS:localhost,IP:127.0.0.1")
    certificates._leaf("client", "DNS:client.example")
    return certificates


@pytest.fixture
def site(make_world, pair, tmp_path):
    """A world whose TLS listener reads live.pem and live.key, which tests replace."""
    return Site(make_world, pair, tmp_path)


class Site:
    def __init__(self, make_world, pair, folder):
        self.pair, self.folder = pair, folder
        self.install("good")
        self.tls = {"certificate": folder / "live.pem", "key": folder / "live.key"}
        self.world = make_world(providers=("openai",))
        self.configure()
        self.world.restart()

    def install(self, leaf, key=None):
        shutil.copy(self.pair.pem(leaf), self.folder / "live.pem")
        shutil.copy(self.pair.key(key or leaf), self.folder / "live.key")

    def configure(self, tls=(), **settings):
        """Writes the file; Installation.configure's own listeners give way to ours."""
        self.listen = settings.pop("listen", [{"address": f"127.0.0.1:{self.world.port}"},
                                              {"address": f"127.0.0.1:{self.world.tls_port}", "tls": {**self.tls, **dict(tls)}}])
        self.world.configure(listen=self.listen, upstream={"ca": self.pair.ca}, **settings)

    def reload(self, check=True):
        return self.world.cli("reload", check=check)

    def connect(self, client=None):
        context = self.pair.client()
        if client:
            context.load_cert_chain(self.pair.pem(client), self.pair.key(client))
        return RawClient(self.world.tls_port, tls=context, timeout=10)

    def leaf(self):
        """Which certificate a new handshake meets."""
        with self.connect() as client:
            return hashlib.sha256(client.sock.getpeercert(True)).hexdigest()

    def leaf_of(self, name):
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.pair.pem(name).read_text())).hexdigest()

    def serves(self, client=None):
        """Whether a client with this certificate is answered. TLS 1.3 tells it of a refusal only when it reads."""
        try:
            with self.connect(client) as connection:
                connection.send(READY)
                return connection.read_response("GET").status == 200
        except (ssl.SSLError, ConnectionError, Closed):
            return False


def test_a_new_certificate_is_used_at_once_and_everywhere(site):
    assert site.leaf() == site.leaf_of("good")
    with site.connect() as old:
        old.send(READY)
        assert old.read_response("GET").status == 200
        site.install("next")
        assert site.leaf() == site.leaf_of("good"), "files alone change nothing"
        site.reload()
        # The kernel spreads connections over the threads: with sixteen none is left out.
        assert {site.leaf() for _ in range(16)} == {site.leaf_of("next")}
        old.send(READY)
        assert old.read_response("GET").status == 200, "a session that exists goes on"


def test_sighup_does_the_same(site):
    site.install("next")
    site.world.daemon.child.send_signal(signal.SIGHUP)
    wait_until(lambda: site.leaf() == site.leaf_of("next"), 10, "the new certificate")
    wait_until(lambda: "event=reloaded" in site.world.daemon.tail(), 10, "the log line behind it")


def break_garbage(site):
    (site.folder / "live.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")


def break_key(site):
    site.install("good", key="next")


def break_missing(site):
    (site.folder / "live.key").unlink()


def break_client_ca(site):
    site.configure(tls={"client_ca": site.folder / "nowhere.pem"})


def break_yaml(site):
    site.world.config.write_text(site.world.config.read_text() + "\nlimits: {bodi: 1KiB}\n")


@pytest.mark.parametrize("damage, word", [(break_garbage, "certificate"), (break_key, "does not belong"), (break_missing, "live.key"),
                                          (break_client_ca, "nowhere.pem"), (break_yaml, "body")])
@pytest.mark.parametrize("by_signal", [False, True], ids=["command", "signal"])
def test_what_cannot_be_used_is_refused_and_the_old_stays(site, damage, word, by_signal):
    damage(site)
    if by_signal:
        site.world.daemon.child.send_signal(signal.SIGHUP)
        wait_until(lambda: "event=reload_refused" in site.world.daemon.tail(), 10, "the refusal")
        said = site.world.daemon.tail()
    else:
        # The command itself reads the file to find the socket.
        done = site.reload(check=False)
        assert done.returncode != 0
        said = done.stderr
    assert word in said, said
    assert site.leaf() == site.leaf_of("good") and site.serves()
    site.install("next")
    site.configure()
    site.reload()
    assert site.leaf() == site.leaf_of("next")


@pytest.mark.parametrize("settings, key", [({"threads": 3}, "threads"), ({"database": "other.db"}, "database"),
                                           ({"limits": {"inflight": 5}}, "limits.inflight"), ({"prices": "p.json"}, "prices")])
def test_a_change_that_needs_a_restart_is_refused_whole(site, settings, key):
    site.install("next")
    site.configure(**settings)
    done = site.reload(check=False)
    assert done.returncode == 5 and f"a change of {key} needs a restart" in done.stderr, done.stderr
    assert site.leaf() == site.leaf_of("good"), "not even the certificate was taken"


@pytest.mark.parametrize("change, key", [("address", "listen[].address"), ("less", "listen"), ("plain", "listen[].tls")])
def test_listeners_stay_as_they_are(site, change, key):
    listen = [dict(entry) for entry in site.listen]
    if change == "address":
        listen[0]["address"] = "127.0.0.1:1"
    elif change == "less":
        listen.pop()
    else:
        del listen[1]["tls"]
    site.configure(listen=listen)
    done = site.reload(check=False)
    assert done.returncode == 5 and f"a change of {key} needs" in done.stderr, done.stderr
    assert site.serves()


def test_limits_and_log_level_change(site):
    world = site.world
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    large = b'{"model":"gpt-4o","messages":[],"x":"' + b"a" * 3000 + b'"}'
    for _ in range(8):
        assert world.exchange(request("/v1/chat/completions", key, large)).status == 200
    site.configure(limits={"body": "2KiB"}, log={"level": "error"})
    site.reload()
    for _ in range(8):
        assert world.exchange(request("/v1/chat/completions", key, large)).status == 413
    site.configure(limits={"body": "1MiB"})
    site.reload()
    assert world.exchange(request("/v1/chat/completions", key, large)).status == 200


def test_sighup_holds_on_every_loop(site):
    world = site.world
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    large = request("/v1/chat/completions", key, b'{"model":"gpt-4o","messages":[],"x":"' + b"a" * 3000 + b'"}')
    assert world.exchange(large).status == 200
    site.configure(limits={"body": "2KiB"})
    world.daemon.child.send_signal(signal.SIGHUP)
    wait_until(lambda: "event=reloaded" in world.daemon.tail(), 10, "the reload")
    answers = [world.exchange(large) for _ in range(32)]
    assert {answer.status for answer in answers} == {413} and {answer.loop for answer in answers} == {0, 1}


def test_sighup_names_what_needs_a_restart(site):
    world = site.world
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    site.configure(threads=3, limits={"body": "2KiB"})
    world.daemon.child.send_signal(signal.SIGHUP)
    wait_until(lambda: "event=reload_refused" in world.daemon.tail(), 10, "the refusal")
    assert "a change of threads needs a restart; nothing was changed" in world.daemon.tail()
    large = request("/v1/chat/completions", key, b'{"model":"gpt-4o","messages":[],"x":"' + b"a" * 3000 + b'"}')
    assert [world.exchange(large).status for _ in range(8)] == [200] * 8, "not even the limit was taken"


def test_reload_without_a_daemon(site):
    site.world.stop()
    assert site.reload(check=False).returncode == 7


# ---- certificates of clients

def test_required_certificates(site, certificates):
    assert site.serves() and site.serves("client")
    with site.connect() as old:
        site.configure(tls={"client_ca": site.pair.ca, "client_auth": "require"})
        site.reload()
        assert not site.serves(), "no certificate"
        assert site.serves("client")
        assert not site.serves("expired"), "an expired one"
        assert not site.serves("self_signed"), "one of nobody's"
        old.send(READY)
        assert old.read_response("GET").status == 200, "its handshake was over"
    site.configure(tls={"client_ca": certificates.ca})  # another authority; require is the default
    site.reload()
    assert not site.serves("client")
    site.configure()
    site.reload()
    assert site.serves()


def test_requested_certificates(site):
    site.configure(tls={"client_ca": site.pair.ca, "client_auth": "request"})
    site.reload()
    assert site.serves() and site.serves("client")
    assert not site.serves("expired"), "what is shown must be valid"


def test_a_refused_client_is_nothing_more_than_closed(site):
    """Neither the exchange nor anything behind the handshake is reached."""
    site.configure(tls={"client_ca": site.pair.ca})
    site.reload()
    name, key = site.world.fresh_key("openai")
    upstream = site.world.upstreams["openai"]
    upstream.script = reply(wire(samples.CHAT))
    for _ in range(5):
        try:
            with site.connect() as client:
                client.send(ask(samples.CHAT, key))
                client.read_response()
            pytest.fail("a client without a certificate was answered")
        except (ssl.SSLError, ConnectionError, Closed):
            pass
    assert not upstream.requests and not site.world.usage("--key", name)


# ---- under load

def test_reloads_under_load_lose_nothing(site):
    world = site.world
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    failures, done, stop = [], [0] * 4, threading.Event()

    def work(slot):
        try:
            with site.connect() as kept:
                while not stop.is_set():
                    kept.send(ask(samples.CHAT, key))
                    assert kept.read_response().status == 200
                    if not site.serves():
                        failures.append("a new connection failed")
                    done[slot] += 1
        except Exception as failure:  # noqa: BLE001: whatever it is, it must not happen
            failures.append(repr(failure))

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(len(done))]
    for thread in threads:
        thread.start()
    for i in range(10):
        site.install("next" if i % 2 == 0 else "good")
        site.reload()
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not failures and min(done) > 0
    assert site.leaf() == site.leaf_of("good")


def test_a_stream_outlives_a_reload(site):
    world = site.world
    _, key = world.fresh_key("openai")
    sample = samples.CHAT_STREAM_ASKED
    go_on = threading.Event()
    data = chunked(sample.parts)

    def script(connection, _):
        connection.send(data[:300])
        go_on.wait(20)
        connection.send(data[300:])

    world.upstreams["openai"].script = script
    with site.connect() as client:
        client.send(ask(sample, key))
        client.take_until(b"\r\n\r\n")
        site.install("next")
        site.configure(timeouts={"upstream_idle": "20s"})
        site.reload()
        go_on.set()
        client.take_until(b"[DONE]")


# ---- systemd

@pytest.fixture
def notified(site):
    """The site's daemon started anew under a made-up systemd: (site, socket)."""
    path = site.folder / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(10)
        site.world.stop()
        yield site, listener, {"NOTIFY_SOCKET": str(path)}


def expect(listener, word, within=10):
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if word in (message := listener.recv(4096)):
            return message
    raise AssertionError(f"{word} did not come")


def test_systemd_hears_of_a_reload(notified):
    site, listener, environment = notified
    site.world.start(environment=clean_environment(**environment))
    expect(listener, b"READY=1")
    site.world.daemon.child.send_signal(signal.SIGHUP)
    assert b"MONOTONIC_USEC=" in expect(listener, b"RELOADING=1")
    expect(listener, b"READY=1")
    break_key(site)
    site.world.daemon.child.send_signal(signal.SIGHUP)
    expect(listener, b"RELOADING=1")
    assert b"refused" in expect(listener, b"READY=1"), "it serves on with what it had"


def test_the_watchdog_is_fed(notified):
    site, listener, environment = notified
    site.world.start(environment=clean_environment(**environment, WATCHDOG_USEC="400000"))
    began = time.monotonic()
    for _ in range(10):
        expect(listener, b"WATCHDOG=1", 2)
    assert time.monotonic() - began < 4
    site.world.daemon.child.send_signal(signal.SIGHUP)  # a signal does not put the feeding off
    expect(listener, b"RELOADING=1")
    expect(listener, b"WATCHDOG=1", 2)


def test_nobody_asked_for_a_watchdog(notified):
    site, listener, environment = notified
    site.world.start(environment=clean_environment(**environment))
    expect(listener, b"READY=1")
    listener.settimeout(1.5)
    with pytest.raises(TimeoutError):
        listener.recv(4096)
