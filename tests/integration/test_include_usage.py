# SPDX-License-Identifier: Apache-2.0
"""Chat streams state usage only when asked: we ask, and take exactly that one event out again."""
import json

import pytest

from harness.world import ask, wire
from harness import samples
from harness.client import request
from harness.upstream import answer, chunked, reply, reply_drip, reply_split

QUIET = b"".join(samples.CHAT_DELTAS) + samples.DONE
FULL = samples.CHAT_STREAM.answer


def stream(world, key, body, parts=None, script=None):
    upstream = world.upstreams["openai"]
    upstream.script = script or reply(chunked(parts or samples.CHAT_STREAM.parts))
    response = world.exchange(request("/v1/chat/completions", key, body))
    return response, upstream.last


@pytest.mark.parametrize("body", [
    b'{"model":"gpt-4o","messages":[],"stream":true}',
    b' { "stream" : true , "model" : "gpt-4o" } ',
    b'{"model":"gpt-4o","stream":true,"stream_options":{}}',
    b'{"model":"gpt-4o","stream":true,"stream_options":null}',
    b'{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":false}}',
    b'{"stream_options":{"include_obfuscation":false},"model":"gpt-4o","stream":true,"seed":12345678901234567890,"x":1.10}',
    b'{"stream_options":{"include_usage":null,"include_obfuscation":true},"stream":true,"model":"gpt-4o"}',
], ids=["plain", "blanks", "empty", "null", "false", "other-option", "null-member"])
def test_usage_is_asked_for_and_taken_out(world, body):
    name, key = world.fresh_key("openai")
    response, sent = stream(world, key, body)
    assert (response.status, response.body) == (200, QUIET)
    assert response.get("content-length") is None
    # What went up is the client's document with one member set and nothing else touched.
    document, original = json.loads(sent.body), json.loads(body)
    assert document["stream_options"]["include_usage"] is True
    kept = {k: v for k, v in document["stream_options"].items() if k != "include_usage"}
    assert kept == {k: v for k, v in (original.get("stream_options") or {}).items() if k != "include_usage"}
    assert {k: v for k, v in document.items() if k != "stream_options"} == {k: v for k, v in original.items() if k != "stream_options"}
    if b"12345678901234567890" in body:
        assert b'"seed":12345678901234567890,"x":1.10' in sent.body
    assert sent.get("content-length") == str(len(sent.body))
    (row,) = world.rows_of(name)
    assert (row["cost_nano_usd"], row["grade"]) == (samples.cost(1), "exact")


@pytest.mark.parametrize("body", [
    b'{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true}}',
    b'{"model":"gpt-4o","stream":true,"stream_options": { "include_obfuscation":false, "include_usage" : true } }',
])
def test_asked_usage_is_left_alone(world, body):
    _, key = world.fresh_key("openai")
    response, sent = stream(world, key, body)
    assert (response.body, sent.body) == (FULL, body)


@pytest.mark.parametrize("body", [b'{"model":"gpt-4o","messages":[]}', b'{"model":"gpt-4o","stream":false}', b'{"model":"gpt-4o","stream":null}'])
def test_plain_request_is_left_alone(world, body):
    _, key = world.fresh_key("openai")
    upstream = world.upstreams["openai"]
    upstream.script = reply(wire(samples.CHAT))
    world.exchange(request("/v1/chat/completions", key, body))
    assert upstream.last.body == body


def test_only_that_event_is_taken(world):
    """Azure's first chunk has empty choices but no usage; a last chunk with choices and usage carries text: both stay."""
    _, key = world.fresh_key("openai")
    azure = samples.sse({"choices": [], "prompt_filter_results": [{"prompt_index": 0}], "usage": None})
    both = samples.chat_chunk({"content": "!"}, usage=samples.CHAT_USAGE)
    parts = [b": comment\n\n", azure, *samples.CHAT_DELTAS, both, samples.CHAT_USAGE_EVENT, b": bye\n\n", samples.DONE]
    response, _ = stream(world, key, samples.CHAT_STREAM.body, parts)
    assert response.body == b"".join(p for p in parts if p is not samples.CHAT_USAGE_EVENT)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_the_event_is_taken_whole_at_every_split(world, end):
    name, key = world.fresh_key("openai")
    parts = [part.replace(b"\n", end) for part in samples.CHAT_STREAM.parts]
    quiet = b"".join(parts).replace(parts[-2], b"")
    data = chunked(parts)
    count = 0
    with world.connect() as client:
        step = 1 if end == b"\n" else 3
        for at in range(1, len(data), step):
            world.upstreams["openai"].script = reply_split(data, at, 0.001)
            client.send(ask(samples.CHAT_STREAM, key))
            assert client.read_response().body == quiet, at
            count += 1
        world.upstreams["openai"].script = reply_drip(data)
        client.send(ask(samples.CHAT_STREAM, key))
        assert client.read_response().body == quiet
    rows = world.rows_of(name, count + 1, within=20)
    assert {row["cost_nano_usd"] for row in rows} == {samples.cost(1)}


def test_events_glued_into_one_chunk(world):
    _, key = world.fresh_key("openai")
    response, _ = stream(world, key, samples.CHAT_STREAM.body, [FULL])
    assert response.body == QUIET


def test_completions_stream_too(world):
    _, key = world.fresh_key("openai")
    upstream = world.upstreams["openai"]
    upstream.script = reply(chunked(samples.CHAT_STREAM.parts))
    response = world.exchange(request("/v1/completions", key, b'{"model":"gpt-4o","prompt":"x","stream":true}'))
    assert response.body == QUIET and json.loads(upstream.last.body)["stream_options"] == {"include_usage": True}


def test_responses_are_not_edited(world):
    _, key = world.fresh_key("openai")
    response, sent = world.send_sample(samples.RESPONSES_STREAM, key)
    assert (sent.body, response.body) == (samples.RESPONSES_STREAM.body, samples.RESPONSES_STREAM.answer)


def test_plain_answer_to_a_stream_request(world):
    """An error as JSON instead of a stream passes as it is."""
    _, key = world.fresh_key("openai")
    body = b'{"error":{"message":"no","type":"x","param":null,"code":null}}'
    response, _ = world.send_sample(samples.CHAT_STREAM, key, reply(answer(body, "400 Bad Request")))
    assert (response.status, response.body) == (400, body)


def test_silent_stream_is_estimated(world):
    """A server that ignores include_usage: text was counted, never zero."""
    name, key = world.fresh_key("openai")
    response, _ = stream(world, key, samples.CHAT_STREAM.body, [*samples.CHAT_DELTAS, samples.DONE])
    assert response.body == QUIET
    (row,) = world.rows_of(name)
    assert row["grade"] == "estimated" and row["output_tokens"] > 0 and row["input_tokens"] > 0
