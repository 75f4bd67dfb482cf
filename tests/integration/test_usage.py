# SPDX-License-Identifier: Apache-2.0
"""Usage rows: every token in its class, every exchange one row, every price exact."""
import gzip
import json
import re

import pytest

from harness.world import wire
from harness import samples
from harness.client import request
from harness.upstream import answer, chunked, reply

TOKENS = ["input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "audio_in_tokens", "image_in_tokens",
          "output_tokens", "reasoning_tokens", "audio_out_tokens", "image_out_tokens"]


@pytest.mark.parametrize("sample", samples.PLAIN + samples.STREAMS + [samples.CHAT_STREAM], ids=repr)
def test_row_is_exact(world, sample):
    name, key = world.fresh_key(sample.dialect)
    response, _ = world.send_sample(sample, key, headers=[("User-Agent", "sdk/1.2")])
    (row,) = world.rows_of(name)
    assert {field: row[field] for field in sample.row} == sample.row
    for field in TOKENS:
        assert row[field] == sample.row.get(field, 0) or (field in ("output_tokens", "reasoning_tokens")
                                                          and sample.dialect == "anthropic")
    assert row["id"] == response.request_id
    assert (row["key"], row["team"], row["provider"], row["dialect"]) == (name, "tests", sample.dialect, sample.dialect)
    assert (row["status"], bool(row["is_stream"]), row["end_reason"]) == (200, sample.is_stream, "done")
    model = samples.json.loads(sample.body).get("model", "gemini-2.5-flash")
    assert (row["model_asked"], row["model_sent"]) == (model, model)
    assert row["user_agent"] == "sdk/1.2"
    assert row["request_bytes"] == len(sample.body)
    assert row["response_bytes"] == len(response.body)
    assert 0 < row["first_byte_us"] <= row["latency_us"] < 10_000_000
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", row["at"])
    assert row["client_address"] in (None, "")


def test_anthropic_output_is_whole(world):
    """Thinking is inside Anthropic's output tokens: the two classes together are what it stated."""
    for sample in (samples.MESSAGES, samples.MESSAGES_STREAM):
        name, key = world.fresh_key("anthropic")
        world.send_sample(sample, key)
        (row,) = world.rows_of(name)
        assert row["output_tokens"] + row["reasoning_tokens"] == 700


def test_cost_is_shown_as_decimal(world):
    name, key = world.fresh_key("openai")
    world.send_sample(samples.CHAT, key)
    (row,) = world.rows_of(name)
    assert (row["cost_nano_usd"], row["cost_usd"].rstrip("0")) == (5615000, "0.005615")
    assert row["catalogue"]


def test_compatible_server(world):
    """DeepSeek's own cache members, in a server that is only OpenAI-like."""
    name, key = world.fresh_key("compatible")
    body = {"model": "deepseek/deepseek-chat", "messages": samples.HELLO}
    usage = {"prompt_tokens": 1234, "completion_tokens": 56, "total_tokens": 1290, "prompt_cache_hit_tokens": 512,
             "prompt_cache_miss_tokens": 722, "prompt_tokens_details": {"cached_tokens": 512}}
    upstream = world.upstreams["compatible"]
    upstream.script = reply(answer(samples.compact({"id": "x", "model": "deepseek/deepseek-chat", "choices": [], "usage": usage})))
    world.exchange(request("/v1/chat/completions", key, samples.compact(body)))
    (row,) = world.rows_of(name)
    assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (722, 512, 56)
    assert row["cost_nano_usd"] == samples.cost(15)


def test_unpriced_model_is_never_free(world):
    name, key = world.fresh_key("openai")
    body = samples.CHAT.answer.replace(b"gpt-4o-2024-08-06", b"nobody-knows-1")
    upstream = world.upstreams["openai"]
    upstream.script = reply(answer(body))
    world.exchange(request("/v1/chat/completions", key, b'{"model":"nobody-knows-1","messages":[]}'))
    (row,) = world.rows_of(name)
    assert row["cost_nano_usd"] is None and row["cost_usd"] is None and row["input_tokens"] == 86
    unpriced = json.loads(world.cli("price", "unpriced", "-o", "json").stdout)["items"]
    assert "nobody-knows-1" in [item["model"] for item in unpriced]


@pytest.mark.parametrize("sample", [samples.CHAT, samples.MESSAGES, samples.GENERATE], ids=repr)
def test_answer_without_usage_is_estimated(world, sample):
    """A provider that states nothing is charged by what was sent and received, never zero."""
    name, key = world.fresh_key(sample.dialect)
    document = json.loads(sample.answer)
    document.pop("usage", None)
    document.pop("usageMetadata", None)
    world.send_sample(sample, key, reply(answer(samples.compact(document))))
    (row,) = world.rows_of(name)
    assert row["grade"] == "estimated"
    assert row["input_tokens"] > 0 and row["output_tokens"] > 0 and row["cost_nano_usd"] > 0


def test_explicit_zero_stays_zero(world):
    name, key = world.fresh_key("openai")
    body = samples.compact({"id": "x", "model": "gpt-4o", "choices": [],
                            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}})
    world.send_sample(samples.CHAT, key, reply(answer(body)))
    (row,) = world.rows_of(name)
    assert (row["grade"], row["cost_nano_usd"]) == ("exact", 0)


@pytest.mark.parametrize("status", ["400 Bad Request", "429 Too Many Requests", "500 Internal Server Error", "529 Overloaded"])
def test_a_provider_error_costs_nothing(world, status):
    name, key = world.fresh_key("openai")
    world.send_sample(samples.CHAT, key, reply(answer(b'{"error":{"message":"no"}}', status)))
    (row,) = world.rows_of(name)
    assert (row["status"], row["grade"], row["cost_nano_usd"] or 0) == (int(status[:3]), "none", 0)
    assert all(row[field] == 0 for field in TOKENS)


@pytest.mark.parametrize("provider, target", [("openai", "/v1/models"), ("anthropic", "/v1/models"), ("gemini", "/v1beta/models")])
def test_listings_are_free_rows(world, provider, target):
    name, key = world.fresh_key(provider)
    world.exchange(request(target, key, method="GET", carrier=samples.CARRIER[provider]), method="GET")
    (row,) = world.rows_of(name)
    assert (row["endpoint"], row["status"], row["grade"], row["cost_nano_usd"] or 0) == ("models", 200, "none", 0)


def test_usage_in_model_text_is_not_usage(world):
    """Strings that look like usage stand in every sample's text; here they also stand in nested objects."""
    name, key = world.fresh_key("openai")
    body = {"choices": [{"message": {"content": "\"usage\":{\"prompt_tokens\":1}", "usage": {"prompt_tokens": 10**6}}}],
            "metadata": {"usage": {"prompt_tokens": 10**6, "completion_tokens": 10**6}}, "model": "gpt-4o",
            "usage": samples.CHAT_USAGE}
    world.send_sample(samples.CHAT, key, reply(answer(samples.compact(body))))
    (row,) = world.rows_of(name)
    assert row["cost_nano_usd"] == samples.CHAT_ROW["cost_nano_usd"]


@pytest.mark.parametrize("usage", [b'{"prompt_tokens":-5,"completion_tokens":1}', b'{"prompt_tokens":1e30,"completion_tokens":1}',
                                   b'{"prompt_tokens":99999999999999999999,"completion_tokens":1}', b'{"prompt_tokens":"7"}',
                                   b'[]', b'"x"', b'null', b'{"prompt_tokens":1.5,"completion_tokens":true}'])
def test_hostile_usage_never_breaks_the_books(world, usage):
    """Whatever the provider claims, the answer passes and the row holds sane, non-negative numbers."""
    name, key = world.fresh_key("openai")
    body = b'{"id":"x","model":"gpt-4o","choices":[{"message":{"content":"abcdefgh"}}],"usage":' + usage + b"}"
    response, _ = world.send_sample(samples.CHAT, key, reply(answer(body)))
    assert response.body == body
    (row,) = world.rows_of(name)
    assert all(0 <= row[field] < 2**62 for field in TOKENS)
    assert row["cost_nano_usd"] is None or 0 <= row["cost_nano_usd"] < 2**62


def test_events_of_every_line_end(world):
    """CR LF, LF and CR end lines in any mix; comments and unknown fields stand between."""
    for end in (b"\n", b"\r\n", b"\r"):
        name, key = world.fresh_key("openai")
        events = [b": keep-alive" + end + end,
                  b"id: 7" + end + b"data:" + samples.compact({"choices": [{"delta": {"content": "x"}}]}) + end + end,
                  b"data: " + samples.compact({"model": "gpt-4o-2024-08-06", "choices": [], "usage": samples.CHAT_USAGE}) + end + end,
                  b"data: [DONE]" + end + end]
        response, _ = world.send_sample(samples.CHAT_STREAM_ASKED, key, reply(chunked(events)))
        assert response.body == b"".join(events)
        (row,) = world.rows_of(name)
        assert row["cost_nano_usd"] == samples.CHAT_ROW["cost_nano_usd"]


def test_huge_event(world):
    """A terminal event of several MiB on one line, as Responses sends them."""
    name, key = world.fresh_key("openai")
    final = samples.response_object("gpt-5", samples.FLEX["usage"], service_tier="flex")
    final["output"][0]["content"][0]["text"] = "y" * (6 << 20)
    body = samples.sse({"type": "response.completed", "response": final}, "response.completed")
    response, _ = world.send_sample(samples.RESPONSES_STREAM, key, reply(chunked([body])), timeout=60)
    assert response.body == body
    (row,) = world.rows_of(name)
    assert {field: row[field] for field in samples.FLEX_ROW} == samples.FLEX_ROW


def test_gzip_answer_is_counted(world):
    """We ask for identity; a provider that compresses all the same is relayed untouched and still metered."""
    name, key = world.fresh_key("openai")
    body = gzip.compress(samples.CHAT.answer)
    response, _ = world.send_sample(samples.CHAT, key, reply(answer(body, headers=[("Content-Encoding", "gzip")])))
    assert (response.body, response.get("content-encoding")) == (body, "gzip")
    (row,) = world.rows_of(name)
    assert row["grade"] in ("exact", "estimated") and row["cost_nano_usd"] > 0


def test_summary_adds_up(world):
    name, key = world.fresh_key("openai")
    for _ in range(3):
        world.send_sample(samples.CHAT, key)
    world.rows_of(name, 3)
    summary = json.loads(world.cli("usage", "summary", "--by", "key", "-o", "json").stdout)
    (item,) = [i for i in summary["items"] if i["key"] == name]
    assert (item["requests"], item["cost_nano_usd"], item["output_tokens"]) == (3, 3 * samples.cost(1), 900)


def test_wire_of_a_stream_is_chunked():
    """The helper itself: one chunk an event."""
    assert wire(samples.MESSAGES_STREAM).count(b"\r\n\r\n") == 2
