# SPDX-License-Identifier: Apache-2.0
"""Segmentation changes nothing: answers and requests cut at every byte, chunks of odd sizes."""
import threading

import pytest

from harness.world import ask, wire
from harness import samples
from harness.client import RawClient
from harness.upstream import chunked, reply, reply_drip, reply_split, slices


def run_all(world, sample, scripts):
    """One key and one connection; every script's answer must be the sample's. Gives how many ran."""
    name, key = world.fresh_key(sample.dialect)
    upstream = world.upstreams[sample.dialect]
    count = 0
    with world.connect() as client:
        for count, script in enumerate(scripts, 1):
            upstream.script = script
            client.send(ask(sample, key))
            response = client.read_response()
            assert (response.status, response.body, response.truncated) == (200, sample.answer, False), f"script {count}"
    rows = world.rows_of(name, count, within=20)
    for row in rows:
        assert {field: row[field] for field in sample.row} == sample.row
    return count


@pytest.mark.parametrize("sample", samples.SHORT + [samples.GENERATE_ARRAY], ids=repr)
def test_answer_split_at_every_byte(world, sample):
    data = wire(sample)
    assert run_all(world, sample, (reply_split(data, at, 0.001) for at in range(1, len(data)))) == len(data) - 1


@pytest.mark.parametrize("sample", samples.SHORT + [samples.RESPONSES_STREAM, samples.GENERATE_ARRAY], ids=repr)
def test_answer_drips(world, sample):
    data = wire(sample)
    run_all(world, sample, [reply_drip(data, size) for size in (1, 2, 3, 7, 13)])


@pytest.mark.parametrize("sample", samples.STREAMS, ids=repr)
def test_chunks_of_odd_sizes(world, sample):
    run_all(world, sample, [reply(chunked(slices(sample.answer, size), content_type=sample.content_type)) for size in (1, 2, 3, 5, 17, 64, 1000)])


def test_chunk_extensions_stay_behind(world):
    sample = samples.MESSAGES_STREAM
    head, _, _ = wire(sample).partition(b"\r\n\r\n")
    parts = b"".join(b"%X;name=\"v\";x\r\n%s\r\n" % (len(p), p) for p in slices(sample.answer, 100))
    run_all(world, sample, [reply(head + b"\r\n\r\n" + parts + b"000;end\r\nX-Trailer: 1\r\n\r\n")])


@pytest.mark.parametrize("sample", [samples.CHAT, samples.MESSAGES, samples.GENERATE], ids=repr)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_request_split_at_every_byte(world, sample, tls):
    _, key = world.fresh_key(sample.dialect)
    data = ask(sample, key)
    upstream = world.upstreams[sample.dialect]
    upstream.script = reply(wire(sample))
    with world.connect(tls) as client:
        for at in range(1, len(data)):
            client.send(data[:at])
            client.send(data[at:])
            assert client.read_response().body == sample.answer
            assert upstream.last.body == sample.body, at
        client.send_pieces(data)
        assert client.read_response().body == sample.answer
    assert len(upstream.requests) == len(data)


def test_every_event_is_forwarded_when_it_comes(world):
    """The proxy holds nothing back: each event reaches the client before the provider sends the next."""
    sample = samples.MESSAGES_STREAM
    _, key = world.fresh_key("anthropic")
    seen = threading.Semaphore(0)

    def script(connection, _):
        head, _, _ = wire(sample).partition(b"\r\n\r\n")
        connection.send(head + b"\r\n\r\n")
        for part in sample.parts:
            connection.send(b"%x\r\n%s\r\n" % (len(part), part))
            assert seen.acquire(timeout=5), "the event did not reach the client"
        connection.send(b"0\r\n\r\n")

    world.upstreams["anthropic"].script = script
    with world.connect() as client:
        client.send(ask(sample, key))
        client.take_until(b"\r\n\r\n")
        for part in sample.parts:
            body = bytearray()
            while len(body) < len(part):
                body += client.take(int(client.take_until(b"\r\n"), 16))
                client.take(2)
            assert body == part
            seen.release()
        assert client.take_until(b"\r\n\r\n") == b"0\r\n\r\n"


def test_two_clients_do_not_mix(world):
    """Interleaved streams of two keys arrive each at its own client."""
    _, key = world.fresh_key("openai")
    tagged = {}

    def script(connection, sent):
        tag = sent.get("x-tag").encode()
        reply_drip(chunked([b"data: " + tag * 50 + b"\n\n"] * 20), 37)(connection, sent)

    world.upstreams["openai"].script = script
    clients = [RawClient(world.port) for _ in range(8)]
    for tag, client in enumerate(clients):
        client.send(ask(samples.CHAT_STREAM_ASKED, key, [("x-tag", f"<{tag}>")]))
    for tag, client in enumerate(clients):
        tagged[tag] = client.read_response().body
        client.close()
    assert tagged == {tag: (b"data: " + f"<{tag}>".encode() * 50 + b"\n\n") * 20 for tag in range(8)}
