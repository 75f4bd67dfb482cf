# SPDX-License-Identifier: Apache-2.0
"""Hostile clients that no single request shows: floods of tiny pieces, resets, broken TLS. Tests carry their case's number."""
import json
import os
import re
import ssl
import struct
import time

import pytest

from harness import samples
from harness.client import RawClient, request
from harness.process import wait_until
from harness.tls13 import Tls13Client
from harness.upstream import reply
from harness.world import ask, wire
from test_hostile import cases, run

HEAD = ("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n"
        "Content-Type: application/json\r\n")


@pytest.fixture
def key(world):
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    return world.fresh_key("openai")[1]


def forwarded(world):
    return len(world.upstreams["openai"].requests)


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def send_all(client, data):
    """Sends as far as the other side lets us."""
    try:
        client.send(data)
    except OSError:
        pass


# ---- bodies and connections

def test_case_55_a_million_one_byte_chunks(world, key, settled):
    """Work in proportion, memory by the limit of the body."""
    count = 1_000_000
    body = b'{"model":"gpt-4o"' + b" " * (count - 18) + b"}"
    assert len(body) == count
    data = HEAD.format(key).encode() + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    cpu, resident = cpu_seconds(world.daemon.pid), world.daemon.resident_kib()
    assert world.exchange(data, timeout=60).status == 200
    assert world.upstreams["openai"].last.body == body
    assert cpu_seconds(world.daemon.pid) - cpu < 5, "sanitizer included"
    assert world.daemon.resident_kib() - resident < 32 << 10


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("status, head", [(401, "Content-Length: 10485760\r\n"), (413, "Content-Length: 104857600\r\n"),
                                          (401, "Transfer-Encoding: chunked\r\n")],
                         ids=["bad-key", "too-large", "bad-key-chunked"])
def test_case_57_an_early_refusal_never_reads_the_body_as_requests(world, key, status, head, tls):
    """Ten MiB of good requests behind a refused head: one answer, then the end."""
    good = request("/v1/chat/completions", key, samples.CHAT.body)
    refused = HEAD.format("ch_x_sk_no" if status == 401 else key).encode() + head.encode() + b"\r\n"
    with world.connect(tls) as client:
        client.send(refused + good * 100)
        response = client.read_response()
        assert response.status == status and response.get("connection") == "close"
        send_all(client, good * (10 * (1 << 20) // len(good)))
        try:
            assert client.read_to_end() == b""
        except ssl.SSLError:
            pass  # the reset of the unread rest overtook the close_notify
    assert forwarded(world) == 0


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "foo", "HTTP/2.0, TLS/1.0"])
def test_case_59_an_upgrade_is_not_made(world, key, protocol):
    """No 101, no field of it upstream, and what follows is the next request."""
    fields = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", protocol), ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
              ("Sec-WebSocket-Version", "13")]
    with world.connect() as client:
        client.send(ask(samples.CHAT, key, fields) + ask(samples.CHAT, key))
        assert [client.read_response(interim=True).status for _ in range(2)] == [200, 200]
    first, second = world.upstreams["openai"].requests
    assert not [first.all(name) for name in ("upgrade", "connection", "http2-settings") if first.all(name)]
    assert second.line == "POST /v1/chat/completions HTTP/1.1" and second.body == samples.CHAT.body


def in_flight(world):
    return json.loads(world.cli("status", "-o", "json").stdout)["in_flight"]



def test_case_63_a_thousand_resets_in_the_middle_of_a_stream(world, settled):
    """Each is one row with what was seen; descriptors and memory come back."""
    name, key = world.fresh_key("openai")
    data = wire(samples.CHAT_STREAM_ASKED)
    world.upstreams["openai"].script = lambda connection, _: (connection.send(data[:700]), connection.wait_gone(30))
    request_ = ask(samples.CHAT_STREAM_ASKED, key)

    def abort(count):
        for _ in range(count):
            client = world.connect()
            client.send(request_)
            client.take_until(b"\r\n\r\n")
            client.reset()

    before = in_flight(world)  # what earlier tests of this daemon may have left
    abort(100)
    wait_until(lambda: len(world.usage("--key", name)) == 100, 20, "the first hundred rows")
    resident = world.daemon.resident_kib()
    abort(900)
    rows = world.rows_of(name, 1000, within=30)
    assert {row["end_reason"] for row in rows} == {"client_gone"} and len({row["id"] for row in rows}) == 1000
    assert all(row["cost_nano_usd"] > 0 for row in rows)
    wait_until(lambda: all(c.gone.is_set() for c in world.upstreams["openai"].connections), 10, "the providers' connections")
    # The sanitizer keeps freed memory for a while; what grows with every reset would be much more.
    assert world.daemon.resident_kib() - resident < 48 << 10
    wait_until(lambda: in_flight(world) <= before, 10, "the last exchange")


def test_case_64_one_byte_in_a_tls_record(world):
    """The verdict does not depend on records either. Every other case; long ones go in pieces of 1000 bytes."""
    _, key = world.fresh_key("openai")
    for case in [case for case in cases() if "@FIN@" not in case[1]][::2]:
        run(world, case, key, lambda client, data: client.send_pieces(data, 1 if len(data) < 3000 else 1000), tls=True)


# ---- TLS

def serves(world, certificates):
    with RawClient(world.tls_port, tls=certificates.client()) as client:
        client.send(request("/readyz", None, method="GET"))
        return client.read_response("GET").status == 200


def alert_of(context, port):
    """The alert that a handshake ends with, in OpenSSL's words."""
    with pytest.raises(ssl.SSLError) as caught:
        RawClient(port, tls=context).close()
    return re.search(r"alert ([a-z ]+)", str(caught.value))[1].strip()


def test_case_60_plaintext_on_the_tls_port_is_closed(world, certificates, settled):
    for data in (request("/readyz", None, method="GET"), b"\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"SSH-2.0-x\r\n", b"GET", b"\0"):
        with RawClient(world.tls_port) as client:
            send_all(client, data)
            if len(data) < 5:  # less than a record's head: only the end tells
                client.half_close()
            assert b"HTTP/1.1" not in client.read_to_end()
    assert serves(world, certificates)


def test_case_60_tls_1_2_ends_with_an_alert(world, certificates):
    assert alert_of(certificates.client(maximum=ssl.TLSVersion.TLSv1_2), world.tls_port) == "protocol version"
    assert serves(world, certificates)


def test_case_60_an_unfinished_handshake_has_a_deadline(make_world, certificates):
    """The handshake counts as part of the head: silent, half a hello, or a trickle of it."""
    world = make_world(timeouts={"head": "600ms"}, providers=("openai",))
    hello = client_hello(certificates)
    began = time.monotonic()
    clients = [RawClient(world.tls_port) for _ in range(3)]
    clients[1].send(hello[:100])
    for at in range(20):
        send_all(clients[2], hello[at:at + 1])
        time.sleep(0.05)
    for client in clients:
        assert client.is_closed(3) or client.read_to_end()[:1] == b"\x15", "closed, with an alert or without"
        client.close()
    assert time.monotonic() - began < 4.5, "sooner than the five seconds that a handshake has by itself"
    assert serves(world, certificates)


def client_hello(certificates):
    """The bytes of a good ClientHello record."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = certificates.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def with_server_name(hello, extension):
    """The hello with another server_name extension (RFC 6066 §3) in the place of its own."""
    own = b"\x00\x00\x00\x0e\x00\x0c\x00\x00\x09localhost"
    assert hello.count(own) == 1
    at = hello.index(own)
    extensions_at = at - 2  # server_name is the first that OpenSSL writes
    (size,) = struct.unpack(">H", hello[extensions_at:at])
    assert extensions_at + 2 + size == len(hello)
    extensions = extension + hello[at + len(own):]
    body = hello[9:extensions_at] + struct.pack(">H", len(extensions)) + extensions
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    records = [handshake[start:start + 16384] for start in range(0, len(handshake), 16384)]
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(record)) + record for record in records)


def server_name(name, lie=0):
    entry = b"\x00" + struct.pack(">H", len(name) + lie) + name
    names = struct.pack(">H", len(entry)) + entry
    return b"\x00\x00" + struct.pack(">H", len(names)) + names


def test_case_61_oversized_server_names(world, certificates, settled):
    """Each ends in an alert or a handshake like any other; nothing is believed, nothing breaks."""
    hello = client_hello(certificates)
    assert with_server_name(hello, server_name(b"localhost")) == hello, "the helper itself"
    for extension in (server_name(b"a" * 256), server_name(b"a" * 16_000), server_name(b"a" * 60_000), server_name(b""), server_name(b"a\0b"),
                      server_name(b"localhost", lie=1), server_name(b"localhost", lie=-1), server_name(b"localhost", lie=60_000),
                      b"\x00\x00\x00\x00", server_name(b"a") * 2):
        with RawClient(world.tls_port, timeout=3) as client:
            send_all(client, with_server_name(hello, extension))
            try:
                seen = client.receive()
            except TimeoutError:
                pytest.fail(f"no answer to {extension[:20]!r}")
            assert seen[:1] in (b"\x15", b"\x16", b""), seen[:20]
            assert b"HTTP" not in seen
    assert serves(world, certificates)


def test_case_61_other_protocols_only(world, certificates):
    for protocols in (["h2"], ["h2", "h3"], ["http/1.0"], ["HTTP/1.1"], ["http/1.10"]):
        context = certificates.client()
        context.set_alpn_protocols(protocols)
        assert alert_of(context, world.tls_port) == "no application protocol"
    assert serves(world, certificates)


def tls13(world, certificates, folder):
    return Tls13Client(RawClient(world.tls_port), certificates.client(), folder / "keys")


def test_case_61_records_of_our_own(world, certificates, tmp_path, key):
    """The helper itself: a request in records of 1 to 50 bytes, keys changed in between, an empty record here and there."""
    client = tls13(world, certificates, tmp_path)
    data = ask(samples.CHAT, key)
    for at in range(0, len(data), 50):
        client.client.send(client.record(b"") + client.record(data[at:at + 50]))
        client.client.send(client.key_update(False))
    assert client.read().startswith(b"HTTP/1.1 200 OK\r\n")
    client.client.close()


def test_case_61_a_flood_of_empty_records(world, certificates, tmp_path, settled):
    """Ended long before the flood is: nothing that carries no byte may cost work for ever."""
    client = tls13(world, certificates, tmp_path)
    cpu = cpu_seconds(world.daemon.pid)
    flood = b"".join(client.record(b"") for _ in range(5000))
    send_all(client.client, flood)
    assert client.read() == b""
    assert cpu_seconds(world.daemon.pid) - cpu < 0.5
    client.client.close()
    assert serves(world, certificates)
