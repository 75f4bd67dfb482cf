# SPDX-License-Identifier: Apache-2.0
"""Whatever the provider does wrong has one defined answer, one honest row, and no second request."""
import threading
import time

import pytest

from harness.world import ask, wire
from harness import samples
from harness.client import Closed
from harness.process import free_port
from harness.upstream import Upstream, answer, chunked, reply, reply_cut, reply_drip, reply_reset, slices, stall


def row_of(world, name):
    (row,) = world.rows_of(name)
    return row


@pytest.mark.parametrize("sample", [samples.CHAT, samples.MESSAGES, samples.GENERATE], ids=repr)
def test_refused_connection(make_world, sample):
    world = make_world(providers=(sample.dialect,))
    upstream = world.upstreams[sample.dialect]
    upstream.close()
    name, key = world.fresh_key(sample.dialect)
    response = world.exchange(ask(sample, key))
    assert (response.status, response.error) == (502, "upstream_unreachable")
    assert response.get("content-type").startswith("application/json")
    row = row_of(world, name)
    assert (row["status"], row["end_reason"], row["grade"], row["cost_nano_usd"] or 0) == (502, "upstream_refused", "none", 0)


def test_unresolvable_name(make_world):
    world = make_world(providers=("openai",))
    world.provider("nowhere", "openai-compatible", f"https://nowhere.invalid:{free_port()}/v1", "sk-nowhere-00000000000000000000")
    name, key = world.fresh_key("nowhere")
    assert world.exchange(ask(samples.CHAT, key), timeout=30).status == 502
    assert row_of(world, name)["end_reason"] == "upstream_refused"


def test_timeouts(make_world):
    world = make_world(timeouts={"first_byte": "1s", "upstream_idle": "1s"}, providers=("openai",))
    upstream = world.upstreams["openai"]
    name, key = world.fresh_key("openai")
    for start in (b"", b"HTTP/1.1 200 OK\r\nContent-Le"):
        upstream.script = stall(start)
        response = world.exchange(ask(samples.CHAT, key))
        assert (response.status, response.error) == (504, "upstream_timeout")
    upstream.script = stall(chunked(samples.CHAT_STREAM_ASKED.parts)[:-40])
    response = world.exchange(ask(samples.CHAT_STREAM_ASKED, key))
    assert response.status == 200 and response.truncated, "a stalled stream is cut, never ended as if whole"
    rows = world.rows_of(name, 3)
    assert [row["end_reason"] for row in rows] == ["timeout"] * 3
    assert [row["status"] for row in rows] == [504, 504, 200]
    assert len(upstream.requests) == 3, "nothing is tried again"


@pytest.mark.parametrize("how", [reply_cut, reply_reset], ids=["fin", "rst"])
def test_cut_before_the_head_is_502(world, how):
    name, key = world.fresh_key("openai")
    data = wire(samples.CHAT)
    for at in (0, 5, 20, data.index(b"\r\n\r\n") + 3):
        response, _ = world.send_sample(samples.CHAT, key, how(data, at))
        assert response.status == 502, at
        assert len(world.upstreams["openai"].requests) == 1, "nothing is tried again"
    rows = world.rows_of(name, 4)
    assert {row["end_reason"] for row in rows} == {"upstream_cut"} and {row["status"] for row in rows} == {502}


@pytest.mark.parametrize("how", [reply_cut, reply_reset], ids=["fin", "rst"])
@pytest.mark.parametrize("sample", samples.SHORT, ids=repr)
def test_cut_in_the_body_is_partial(world, sample, how):
    """What came is relayed, the end is not invented, and the row is honest about it."""
    name, key = world.fresh_key(sample.dialect)
    data = wire(sample)
    body_at = data.index(b"\r\n\r\n") + 4
    places = [body_at + 1, (body_at + len(data)) // 2, len(data) - (6 if sample.is_stream else 1)]
    for at in places:
        response, _ = world.send_sample(sample, key, how(data, at))
        assert response.status == 200 and response.truncated
        assert sample.answer.startswith(response.body)
    for row in world.rows_of(name, len(places)):
        assert row["end_reason"] == "upstream_cut"
        assert row["grade"] in ("partial", "estimated") or (row["grade"] == "exact" and sample.is_stream)
        assert row["cost_nano_usd"] > 0, "tokens were generated: never zero"


def test_anthropic_cut_keeps_what_was_seen(world):
    """message_start has told the input: a stream cut after it is charged for that at least."""
    name, key = world.fresh_key("anthropic")
    sample = samples.MESSAGES_STREAM
    head = wire(sample).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    data = head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in sample.parts[:4])
    world.send_sample(sample, key, reply_cut(data, len(data)))
    row = row_of(world, name)
    assert (row["grade"], row["input_tokens"], row["cache_read_tokens"], row["cache_write_5m_tokens"]) == ("partial", 50, 20000, 1500)
    assert row["output_tokens"] + row["reasoning_tokens"] > 0


HOSTILE = {
    "not http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "lf only": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "http/2": b"HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "http/0.9": b"{}\r\n\r\n",
    "status 99": b"HTTP/1.1 99 No\r\nContent-Length: 2\r\n\r\n{}",
    "status 1000": b"HTTP/1.1 1000 No\r\nContent-Length: 2\r\n\r\n{}",
    "status words": b"HTTP/1.1 OK OK\r\nContent-Length: 2\r\n\r\n{}",
    "length and encoding": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "encoding and length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}\n",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}",
    "length list": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}",
    "huge length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    "odd encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "obs-fold": b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\n{}",
    "blank before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}",
    "no colon": b"HTTP/1.1 200 OK\r\nContent-Length 2\r\n\r\n{}",
    "empty name": b"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\n{}",
    "nul in value": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "cr in value": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\n{}",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "huge field": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40000 + b"\r\nContent-Length: 2\r\n\r\n{}",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: aaaaaaaaaaaaaaaaaaaa\r\n" * 40000,
    "many fields": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 500 + b"Content-Length: 2\r\n\r\n{}",
    "1xx flood": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answer_is_502_and_never_reused(world, name):
    key_name, key = world.fresh_key("openai")

    def script(connection, _):
        try:
            connection.send(HOSTILE[name])
        except OSError:
            return
        connection.wait_gone(10)

    response, _ = world.send_sample(samples.CHAT, key, script)
    assert response.status == 502, name
    upstream = world.upstreams["openai"]
    assert upstream.last.connection.gone.wait(5), "the connection is dropped"
    assert len(upstream.requests) == 1
    assert row_of(world, key_name)["end_reason"] in ("upstream_invalid", "upstream_cut")


BAD_BODIES = {
    "chunk size 0x": b"0x2\r\n{}\r\n0\r\n\r\n",
    "chunk size +": b"+2\r\n{}\r\n0\r\n\r\n",
    "chunk size blank": b"2 \r\n{}\r\n0\r\n\r\n",
    "chunk size empty": b"\r\n{}\r\n0\r\n\r\n",
    "chunk size wrap": b"10000000000000002\r\n{}\r\n0\r\n\r\n",
    "lf in chunk": b"2\n{}\n0\n\n",
    "data too long": b"2\r\n{}xx\r\n0\r\n\r\n",
    "no line end": b"2\r\n{}0\r\n\r\n",
    "bad trailer": b"2\r\n{}\r\n0\r\nXX\r\n\r\n",
    "no end": b"2\r\n{}\r\n",
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_chunks_never_end_well(world, name):
    """After the head has gone out a framing error can only cut the answer; it must never look complete."""
    _, key = world.fresh_key("openai")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

    def script(connection, _):
        connection.send(head, 0.02)
        connection.send(BAD_BODIES[name], 0.05)
        connection.close()

    try:
        response, _ = world.send_sample(samples.CHAT, key, script)
        assert response.status == 502 or response.truncated, (response.status, response.body)
    except Closed:
        pass
    assert len(world.upstreams["openai"].requests) == 1


@pytest.mark.parametrize("name", ["chunk size 0x", "lf in chunk", "data too long"])
def test_bad_chunks_behind_the_head_in_one_segment(world, name):
    """Known to be bad before anything went out: the client gets an answer, not a silent close."""
    _, key = world.fresh_key("openai")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

    def script(connection, _):
        connection.send(head + BAD_BODIES[name], 0.05)
        connection.close()

    response, _ = world.send_sample(samples.CHAT, key, script)
    assert response.status == 502 or response.truncated


def test_cut_is_visible_to_an_http_1_0_client(world):
    """Without chunks only a reset can say that the answer is not whole."""
    _, key = world.fresh_key("openai")
    data = wire(samples.CHAT_STREAM_ASKED)
    world.upstreams["openai"].script = reply_cut(data, len(data) - 60)
    with world.connect() as client:
        client.send(ask(samples.CHAT_STREAM_ASKED, key).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        client.take_until(b"\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            while client.sock.recv(65536):
                pass


def test_http_1_0_provider_is_not_reused(world):
    """Its connection ends with its answer, whatever it does with the socket."""
    _, key = world.fresh_key("openai")
    data = wire(samples.CHAT).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    for _ in range(3):
        response, sent = world.send_sample(samples.CHAT, key, reply(data))
        assert response.body == samples.CHAT.answer
        assert sent.connection.gone.wait(5)


def test_connection_close_of_the_provider_is_obeyed(world):
    _, key = world.fresh_key("openai")
    data = answer(samples.CHAT.answer, headers=[("Connection", "close")])
    for _ in range(3):
        response, sent = world.send_sample(samples.CHAT, key, reply(data))
        assert response.body == samples.CHAT.answer and response.get("connection") is None
        assert sent.connection.gone.wait(5)


def test_extra_bytes_spoil_the_connection(world):
    """Bytes behind an answer belong to nobody: the client gets its answer, the next one a fresh connection."""
    _, key = world.fresh_key("openai")
    poison = answer(b'{"poison":true}')
    for _ in range(5):
        response, _ = world.send_sample(samples.CHAT, key, reply(wire(samples.CHAT) + poison))
        assert response.body == samples.CHAT.answer
    upstream = world.upstreams["openai"]
    upstream.script = reply(wire(samples.CHAT))
    assert b"poison" not in world.exchange(ask(samples.CHAT, key)).body


def test_late_extra_bytes_spoil_an_idle_connection(world):
    _, key = world.fresh_key("openai")
    spoken = threading.Event()

    def script(connection, _):
        connection.send(wire(samples.CHAT), 0.2)
        connection.send(answer(b'{"poison":true}'))
        spoken.set()

    assert world.send_sample(samples.CHAT, key, script)[0].body == samples.CHAT.answer
    assert spoken.wait(10)
    time.sleep(0.3)
    assert world.send_sample(samples.CHAT, key)[0].body == samples.CHAT.answer


def test_early_answer_before_the_body_is_read(world):
    """A provider may answer before it has read everything; its answer arrives and the connection is not reused."""
    _, key = world.fresh_key("openai")

    def script(connection, _):
        connection.send(answer(b'{"error":{"message":"slow down"}}', "429 Too Many Requests", [("Connection", "close")]))
        connection.close()

    response, _ = world.send_sample(samples.CHAT, key, script)
    assert response.status == 429


def test_kept_connection_closed_by_the_provider(world):
    """An idle connection that the provider has closed is not used for the next request."""
    _, key = world.fresh_key("openai")
    closed = threading.Semaphore(0)

    def script(connection, _):
        connection.send(wire(samples.CHAT), 0.05)
        connection.close()
        closed.release()

    for _ in range(5):
        response, _ = world.send_sample(samples.CHAT, key, script)
        assert response.body == samples.CHAT.answer
        assert closed.acquire(timeout=10)
        time.sleep(0.1)


def test_interim_answers_are_swallowed(world):
    _, key = world.fresh_key("openai")
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    for script in (reply(hints + wire(samples.CHAT)), reply_drip(hints + wire(samples.CHAT), 3)):
        response, _ = world.send_sample(samples.CHAT, key, script)
        assert (response.status, response.body) == (200, samples.CHAT.answer)


def test_no_content(world):
    _, key = world.fresh_key("openai")
    response, _ = world.send_sample(samples.CHAT, key, reply(b"HTTP/1.1 204 No Content\r\n\r\n"))
    assert (response.status, response.body) == (204, b"")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(world, status):
    _, key = world.fresh_key("openai")
    trap = Upstream(reply(answer(b"{}")))
    for location in (f"http://127.0.0.1:{trap.port}/v1/chat/completions", "/elsewhere", "https://evil.example/"):
        data = answer(b"moved", f"{status} Moved", [("Location", location)])
        response, _ = world.send_sample(samples.CHAT, key, reply(data))
        assert (response.status, response.get("location")) == (502, None)
        assert len(world.upstreams["openai"].requests) == 1
    assert not trap.connections
    trap.close()


def test_mid_stream_error_event_passes(world):
    name, key = world.fresh_key("anthropic")
    error = samples.named({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    parts = samples.MESSAGES_STREAM.parts[:4] + [error]
    response, _ = world.send_sample(samples.MESSAGES_STREAM, key, reply(chunked(parts)))
    assert response.body == b"".join(parts)
    row = row_of(world, name)
    assert row["input_tokens"] == 50 and row["cost_nano_usd"] > 0


def test_one_byte_chunks_are_linear(world):
    """Two hundred thousand one-byte chunks are work, not a wall."""
    name, key = world.fresh_key("openai")
    body = samples.CHAT.answer[:-1] + b" " * 200_000 + b"}"
    response, _ = world.send_sample(samples.CHAT, key, reply(chunked(slices(body, 1), content_type="application/json")), timeout=60)
    assert response.body == body
    assert row_of(world, name)["cost_nano_usd"] == samples.cost(1)
