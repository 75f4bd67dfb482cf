# SPDX-License-Identifier: Apache-2.0
"""Connections: keep-alive, pipelining, 100-continue, chunked requests, half-close, deadlines and limits."""
import time

import pytest

from harness.world import ask, wire
from harness import samples
from harness.client import request
from harness.upstream import answer, chunked, reply, stall

HEAD = ("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n"
        "Content-Type: application/json\r\n")


@pytest.fixture
def key(world):
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    return world.fresh_key("openai")[1]


def forwarded(world):
    return len(world.upstreams["openai"].requests)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_keep_alive(world, key, tls):
    with world.connect(tls) as client:
        for _ in range(50):
            client.send(ask(samples.CHAT, key))
            assert client.read_response().body == samples.CHAT.answer
    upstream = world.upstreams["openai"]
    assert len(upstream.requests) == 50 and len(upstream.connections) <= 2, "upstream connections are kept"


def test_keys_are_checked_on_every_request(world, key):
    """A connection is worth nothing: each request on it stands for itself."""
    with world.connect() as client:
        client.send(ask(samples.CHAT, key))
        assert client.read_response().status == 200
        client.send(ask(samples.CHAT, key[:-1] + ("a" if key[-1] != "a" else "b")))
        assert client.read_response().status == 401
    assert forwarded(world) == 1


def test_pipelined_requests_are_answered_in_order(world, key):
    def script(connection, sent):
        connection.send(answer(sent.body))

    world.upstreams["openai"].script = script
    bodies = [b'{"model":"gpt-4o","n":%d}' % n for n in range(20)]
    with world.connect() as client:
        client.send(b"".join(request("/v1/chat/completions", key, body) for body in bodies))
        assert [client.read_response().body for _ in bodies] == bodies


def test_nothing_is_read_behind_connection_close(world, key):
    data = request("/v1/chat/completions", key, samples.CHAT.body, headers=[("Connection", "close")])
    with world.connect() as client:
        client.send(data + ask(samples.CHAT, key))
        response = client.read_response()
        assert response.status == 200 and response.get("connection") == "close"
        assert client.is_closed()
    assert forwarded(world) == 1


def test_http_1_0(world, key):
    data = ask(samples.CHAT, key).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    with world.connect() as client:
        client.send(data)
        assert client.read_response().body == samples.CHAT.answer
        assert client.is_closed()


def test_http_1_0_stream_is_not_chunked(world, key):
    world.upstreams["openai"].script = reply(wire(samples.CHAT_STREAM_ASKED))
    with world.connect() as client:
        client.send(ask(samples.CHAT_STREAM_ASKED, key).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        response = client.read_response()
        assert response.get("transfer-encoding") is None
        assert response.body == samples.CHAT_STREAM_ASKED.answer


def test_expect_continue(world, key):
    head, _, body = ask(samples.CHAT, key, [("Expect", "100-continue")]).partition(b"\r\n\r\n")
    with world.connect() as client:
        client.send(head + b"\r\n\r\n")
        assert client.read_response(interim=True).status == 100
        client.send(body)
        assert client.read_response().body == samples.CHAT.answer
    assert world.upstreams["openai"].last.get("expect") is None


def test_expect_with_body_at_once(world, key):
    response = world.exchange(ask(samples.CHAT, key, [("Expect", "100-continue")]))
    assert (response.status, response.body) == (200, samples.CHAT.answer)


@pytest.mark.parametrize("length, key_of, status", [(26, "none", 401), (10**12, "good", 413)])
def test_expect_is_answered_finally_when_the_verdict_is_known(world, key, length, key_of, status):
    token = key if key_of == "good" else "ch_x_sk_no"
    with world.connect() as client:
        client.send(HEAD.format(token).encode() + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % length)
        assert client.read_response(interim=True).status == status
    assert forwarded(world) == 0


def test_chunked_request_is_reframed(world, key):
    body = samples.CHAT.body
    for size in (1, 2, 7, 1000):
        parts = b"".join(b"%x;e=1\r\n%s\r\n" % (len(body[at:at + size]), body[at:at + size]) for at in range(0, len(body), size))
        data = HEAD.format(key).encode() + b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\nX-Trailer: 1\r\n\r\n"
        assert world.exchange(data).body == samples.CHAT.answer
        sent = world.upstreams["openai"].last
        assert sent.body == body and sent.get("content-length") == str(len(body))
        assert sent.get("transfer-encoding") is None and sent.get("x-trailer") is None


def test_half_close_after_the_request(world, key):
    with world.connect() as client:
        client.send(ask(samples.CHAT, key))
        client.half_close()
        assert client.read_response().body == samples.CHAT.answer
        assert client.is_closed()


def test_end_before_the_request_does_no_work(world, key):
    data = ask(samples.CHAT, key)
    for at in (1, 30, data.index(b"\r\n\r\n") + 2, len(data) - 1):
        with world.connect() as client:
            client.send(data[:at])
            client.half_close()
            rest = client.read_to_end()
            assert rest == b"" or rest.startswith(b"HTTP/1.1 400 "), rest
    assert forwarded(world) == 0


def test_reset_before_the_request_ends(world, key, settled):
    for at in (1, 30, 200):
        client = world.connect()
        client.send(ask(samples.CHAT, key)[:at])
        client.reset()
    assert world.exchange(ask(samples.CHAT, key)).status == 200


def test_head_limits(world, key):
    many = [(f"X-{n}", "1") for n in range(120)]
    assert world.exchange(ask(samples.CHAT, key, many)).status == 431
    assert world.exchange(ask(samples.CHAT, key, [("X-Long", "a" * 17000)])).status == 431
    assert world.exchange(ask(samples.CHAT, key, [(f"X-{n}", "a" * 8000) for n in range(5)])).status == 431
    assert forwarded(world) == 0
    assert world.exchange(ask(samples.CHAT, key, [(f"X-{n}", "1") for n in range(80)])).status == 200


def test_body_limit(make_world):
    world = make_world(limits={"body": "64KiB"}, providers=("openai",))
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    body = b'{"model":"gpt-4o","x":"' + b"a" * 65536 + b'"}'
    response = world.exchange(request("/v1/chat/completions", key, body))
    assert response.status == 413
    chunks = b"".join(b"1000\r\n%s\r\n" % (b" " * 4096) for _ in range(20))
    with world.connect() as client:
        client.send(HEAD.format(key).encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        assert client.read_response().status == 413
    assert not world.upstreams["openai"].requests
    exact = b'{"model":"gpt-4o","x":"' + b"a" * (65536 - 25) + b'"}'
    assert len(exact) == 65536
    assert world.exchange(request("/v1/chat/completions", key, exact)).status == 200


def test_deadlines(make_world):
    """Head and body have absolute deadlines; a client cannot hold a connection by dribbling."""
    world = make_world(timeouts={"head": "600ms", "body": "600ms", "idle": "600ms"}, providers=("openai",))
    _, key = world.fresh_key("openai")
    data = ask(samples.CHAT, key)
    with world.connect() as client:
        began = time.monotonic()
        try:
            for at in range(120):
                client.send(data[at:at + 1])
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() - began < 5
        reply_ = client.read_to_end()
        assert reply_ == b"" or reply_.startswith(b"HTTP/1.1 408 "), reply_
    with world.connect() as client:
        client.send(data[:-5])
        assert client.read_response().status == 408
    with world.connect() as client:
        assert client.is_closed(3), "a connection that never speaks is closed"
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    with world.connect() as client:
        client.send(data)
        assert client.read_response().status == 200
        assert client.is_closed(3), "an idle connection is closed"


def test_slow_head_is_answered_408(make_world):
    world = make_world(timeouts={"head": "300ms"}, providers=("openai",))
    with world.connect() as client:
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")
        assert client.read_response().status == 408
        assert client.is_closed()


def test_early_refusal_does_not_desynchronise(world, key):
    """The body of a refused request is never taken for the next request."""
    smuggled = ask(samples.CHAT, key)
    bad = request("/v1/chat/completions", "ch_x_sk_no", smuggled)
    with world.connect() as client:
        client.send(bad)
        assert client.read_response().status == 401
        client.sock.settimeout(3)
        try:
            client.send(ask(samples.CHAT, key))
            response = client.read_response()
            assert response.status == 200
        except Exception as closed:
            assert type(closed).__name__ in ("Closed", "BrokenPipeError", "ConnectionResetError")
    assert forwarded(world) <= 1


def test_health(world):
    for target in ("/healthz", "/readyz"):
        response = world.exchange(request(target, None, method="GET"), method="GET")
        assert response.status == 200
    assert forwarded(world) == 0


def test_unknown_paths_and_methods(world, key):
    for target, method, status in [("/v1/nothing", "POST", 404), ("/v1/files", "GET", 404), ("/v1/batches", "POST", 404),
                                   ("/v1/organization/admin_api_keys", "GET", 404), ("/", "GET", 404),
                                   ("/v1/chat/completions", "GET", 405), ("/v1/models", "POST", 405),
                                   ("/v1/chat/completions", "DELETE", 405), ("/v1/realtime/client_secrets", "POST", 404)]:
        response = world.exchange(request(target, key, b"{}" if method == "POST" else b"", method=method), method=method)
        assert response.status == status, (target, method)
        assert response.error
    assert forwarded(world) == 0


def test_many_idle_connections(world, key, settled):
    clients = [world.connect() for _ in range(200)]
    assert world.exchange(ask(samples.CHAT, key)).status == 200
    for client in clients:
        client.close()


def test_unfinished_stream_survives_other_clients(world, key):
    """A stalled exchange holds up nobody else."""
    world.upstreams["openai"].script = stall(chunked(samples.CHAT_STREAM_ASKED.parts)[:300])
    with world.connect() as waiting:
        waiting.send(ask(samples.CHAT_STREAM_ASKED, key))
        waiting.take_until(b"\r\n\r\n")
        world.upstreams["openai"].script = reply(wire(samples.CHAT))
        for _ in range(20):
            assert world.exchange(ask(samples.CHAT, key)).status == 200
        time.sleep(0.1)  # so soon after its request a close would be a half-close, and the daemon would wait for the stall's end
