# SPDX-License-Identifier: Apache-2.0
"""TLS on both sides: modern inside, verified outside."""
import socket
import ssl
import time

import pytest

from harness.world import SECRETS, ask, wire
from harness import samples
from harness.client import RawClient, request
from harness.upstream import Upstream, answer, chunked, reply, reply_drip, reply_split, stall


def test_tls_1_3_works(world):
    with world.connect(tls=True) as client:
        assert client.sock.version() == "TLSv1.3"
        client.send(request("/readyz", None, method="GET"))
        assert client.read_response("GET").status == 200


def test_tls_1_2_is_refused(world, certificates):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        RawClient(world.tls_port, tls=certificates.client(maximum=ssl.TLSVersion.TLSv1_2))


def test_plaintext_on_the_tls_port_is_closed(world):
    with RawClient(world.tls_port) as client:
        client.send(request("/readyz", None, method="GET"))
        seen = client.read_to_end()
        assert not seen.startswith(b"HTTP/1.1 200") and b"ready" not in seen


def test_alpn_selects_http_1_1(world, certificates):
    context = certificates.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with RawClient(world.tls_port, tls=context) as client:
        assert client.sock.selected_alpn_protocol() in ("http/1.1", None)


def test_unfinished_handshake_holds_nobody_up(world, settled):
    silent = [socket.create_connection(("127.0.0.1", world.tls_port)) for _ in range(50)]
    test_tls_1_3_works(world)
    for sock in silent:
        sock.close()


def test_garbage_handshake(world, settled):
    for data in (b"\x16\x03\x01\xff\xff" + b"\0" * 5000, b"\0" * 100, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"):
        with RawClient(world.tls_port) as client:
            client.send(data)
            client.read_to_end()
    test_tls_1_3_works(world)


@pytest.mark.parametrize("sample", samples.SHORT, ids=repr)
def test_provider_over_tls(make_world, certificates, sample):
    world = make_world(providers=("openai",))
    upstream = Upstream(reply(wire(sample)), tls=certificates.server("good"))
    base = "/v1" if sample.dialect == "openai" else ""
    for host in ("localhost", "127.0.0.1"):
        world.provider(f"tls-{host}", sample.dialect, f"https://{host}:{upstream.port}{base}", SECRETS[sample.dialect])
        _, key = world.fresh_key(f"tls-{host}")
        for tls in (False, True):
            for _ in range(2):
                response = world.exchange(ask(sample, key), tls)
                assert (response.status, response.body) == (200, sample.answer)
    upstream.close()


@pytest.mark.parametrize("leaf", ["expired", "not_yet", "wrong_name", "self_signed"])
def test_bad_certificates_get_no_request(make_world, certificates, leaf):
    """The key is not sent to a server that has not proved its name: 502 and not one byte of a request."""
    world = make_world(providers=("openai",))
    upstream = Upstream(reply(wire(samples.CHAT)), tls=certificates.server(leaf))
    world.provider("bad", "openai", f"https://localhost:{upstream.port}/v1", SECRETS["openai"])
    name, key = world.fresh_key("bad")
    response = world.exchange(ask(samples.CHAT, key))
    assert (response.status, response.error) == (502, "upstream_tls_failed")
    assert not upstream.requests and all(not c.received for c in upstream.connections)
    (row,) = world.rows_of(name)
    assert row["end_reason"] == "upstream_refused"
    upstream.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls_provider_is_refused(make_world, certificates):
    world = make_world(providers=("openai",))
    context = certificates.server("good")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    upstream = Upstream(reply(wire(samples.CHAT)), tls=context)
    world.provider("old", "openai", f"https://localhost:{upstream.port}/v1", SECRETS["openai"])
    _, key = world.fresh_key("old")
    assert world.exchange(ask(samples.CHAT, key)).status == 502
    assert not upstream.requests
    upstream.close()


def test_plain_provider_behind_https(make_world):
    """A provider that answers an https address in the clear never sees the request."""
    world = make_world(providers=("openai",))
    port, seen = world.upstreams["openai"].port, world.upstreams["openai"].connections
    world.provider("clear", "openai", f"https://127.0.0.1:{port}/v1", SECRETS["openai"])
    _, key = world.fresh_key("clear")
    began = time.monotonic()
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    with world.connect(timeout=30) as client:
        client.send(ask(samples.CHAT, key))
        time.sleep(0.3)
        for connection in list(seen):
            try:
                connection.sock.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        response = client.read_response()
    assert response.status == 502 and time.monotonic() - began < 25
    assert all(SECRETS["openai"].encode() not in bytes(c.received) for c in seen)


@pytest.fixture
def tls_pair(make_world, certificates):
    """A world with one TLS provider: (world, upstream, key name, key)."""
    world = make_world(providers=("openai",))
    upstream = Upstream(tls=certificates.server("good"))
    world.provider("tls", "openai", f"https://localhost:{upstream.port}/v1", SECRETS["openai"])
    name, key = world.fresh_key("tls")
    yield world, upstream, name, key
    upstream.close()


def test_large_bodies_through_tls_on_both_sides(tls_pair):
    world, upstream, _, key = tls_pair
    body = b'{"model":"gpt-4o","x":"' + bytes(range(32, 92)).replace(b'"', b"").replace(b"\\", b"") * 100_000 + b'"}'
    upstream.script = lambda connection, sent: connection.send(answer(sent.body))
    response = world.exchange(request("/v1/chat/completions", key, body), tls=True, timeout=60)
    assert upstream.last.body == body and response.body == body


def test_stream_through_tls_in_every_segmentation(tls_pair):
    world, upstream, name, key = tls_pair
    sample = samples.CHAT_STREAM_ASKED
    data = wire(sample)
    scripts = [reply_drip(data, size) for size in (1, 7, 100)] + [reply_split(data, at) for at in range(1, len(data), 29)]
    with world.connect(tls=True) as client:
        for script in scripts:
            upstream.script = script
            client.send(ask(sample, key))
            assert client.read_response().body == sample.answer
    rows = world.rows_of(name, len(scripts), within=20)
    assert {row["cost_nano_usd"] for row in rows} == {samples.cost(1)}
    assert len(upstream.connections) <= 2, "TLS connections are kept"


def test_slow_reader_over_tls_gets_everything(tls_pair):
    world, upstream, _, key = tls_pair
    body = bytes(range(256)) * (4 << 12)
    upstream.script = reply(chunked([body[at:at + 100_000] for at in range(0, len(body), 100_000)]))
    with world.connect(tls=True, receive_buffer=4096, timeout=60) as client:
        client.send(ask(samples.CHAT_STREAM_ASKED, key))
        time.sleep(0.5)
        assert client.read_response().body == body


@pytest.mark.parametrize("pause", [0.05, 0], ids=["apart", "at-once"])
@pytest.mark.parametrize("polite", [True, False], ids=["close-notify", "bare-fin"])
def test_end_of_an_unframed_answer_must_be_authentic(tls_pair, polite, pause):
    """An answer that ends with the connection is whole only when TLS says so: a bare FIN may be an attacker's."""
    world, upstream, name, key = tls_pair

    def script(connection, _):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + samples.CHAT.answer, pause)
        if polite:
            try:
                connection.sock.unwrap()
            except OSError:
                pass
        connection.close()

    upstream.script = script
    response = world.exchange(ask(samples.CHAT, key))
    (row,) = world.rows_of(name)
    assert (row["end_reason"], response.truncated) == (("done", False) if polite else ("upstream_cut", True))
    assert response.body == samples.CHAT.answer


@pytest.mark.parametrize("polite", [True, False], ids=["close-notify", "bare-fin"])
def test_client_leaving_a_tls_connection_cancels(tls_pair, polite):
    world, upstream, name, key = tls_pair
    upstream.script = stall(wire(samples.CHAT_STREAM_ASKED)[:600])
    client = world.connect(tls=True)
    client.send(ask(samples.CHAT_STREAM_ASKED, key))
    client.take_until(b"\r\n\r\n")
    time.sleep(0.1)
    if polite:
        client.sock.settimeout(0.05)
        try:
            client.sock.unwrap()
        except (OSError, ValueError):
            pass
    client.close()
    assert upstream.last.connection.gone.wait(5)
    (row,) = world.rows_of(name)
    assert row["end_reason"] == "client_gone"
