# SPDX-License-Identifier: Apache-2.0
"""Who may: every way to carry a key, and every reason to refuse one."""
import json
import re
import time
import zlib

import pytest

from harness.world import SECRETS, ask, wire
from harness import samples
from harness.client import request
from harness.upstream import Upstream, answer, reply

PLAIN = {"openai": samples.CHAT, "anthropic": samples.MESSAGES, "gemini": samples.GENERATE}


@pytest.fixture(params=list(PLAIN))
def dialect(request, world):
    for name, sample in PLAIN.items():
        world.upstreams[name].script = reply(wire(sample))
    return request.param


def forwards(world):
    return sum(len(u.requests) for u in world.upstreams.values())


def check_error(response, dialect, status, type_=None):
    """The error has the shape that the dialect's own SDKs expect."""
    assert response.status == status, response.body
    assert response.get("content-type").split(";")[0] == "application/json"
    assert response.error and re.fullmatch(r"[a-z_]+", response.error)
    body = json.loads(response.body)
    if dialect == "openai":
        assert set(body["error"]) >= {"message", "type", "param", "code"}
    elif dialect == "anthropic":
        assert body["type"] == "error" and set(body["error"]) >= {"type", "message"}
    else:
        assert body["error"]["code"] == status and body["error"]["status"] and body["error"]["message"]
    return body


@pytest.mark.parametrize("carrier", ["authorization", "x-api-key", "x-goog-api-key", "api-key"])
def test_every_header_carrier(world, dialect, carrier):
    _, key = world.fresh_key(dialect)
    sample = PLAIN[dialect]
    response = world.exchange(request(sample.target, key, sample.body, carrier=carrier))
    assert (response.status, response.body) == (200, sample.answer)
    assert key.encode() not in b"".join(bytes(c.received) for c in world.upstreams[dialect].connections)


def test_query_carrier_of_gemini(world):
    _, key = world.fresh_key("gemini")
    world.upstreams["gemini"].script = reply(wire(samples.GENERATE))
    for query, up in [(f"?key={key}", ""), (f"?alt=json&key={key}", "?alt=json"), (f"?key={key}&alt=json", "?alt=json"),
                      (f"?key={key}&key={key}", ""), (f"?alt=sse&key={key}&key={key}&key={key}&alt=json", "?alt=sse&alt=json")]:
        response = world.exchange(request(samples.GENERATE.target + query, None, samples.GENERATE.body))
        assert response.status == 200, query
        assert world.upstreams["gemini"].last.target == samples.GENERATE.target + up
    assert key not in world.daemon.err.read_text()


@pytest.mark.parametrize("query, statuses", [
    ("?key={key}&key=x", (400, 401)), ("?key={key}&fields=candidates", (400,)), ("?alt=proto&key={key}", (400,)),
    ("?%6bey={key}", (400, 401)), ("?key={key}&%6bey=AIzaOTHER", (400, 401)), ("?KEY={key}", (400, 401)),
    ("?key={key}&access_token=x", (400,)), ("?key={key}&$alt=proto", (400,)), ("?key={key}&key", (400, 401))])
def test_hostile_queries_of_gemini(world, query, statuses):
    """Nothing in the query smuggles a second credential or hides the usage."""
    _, key = world.fresh_key("gemini")
    response = world.exchange(request(samples.GENERATE.target + query.format(key=key), None, samples.GENERATE.body))
    assert response.status in statuses and forwards(world) == 0


@pytest.mark.parametrize("target", ["/v1/chat/completions?key={}", "/v1/chat/completions?api_key={}",
                                    "/v1beta/models/gemini-2.5-flash:generateContent?api_key={}"])
def test_no_other_query_carrier(world, target):
    _, key = world.fresh_key("gemini" if "gemini" in target else "openai")
    response = world.exchange(request(target.format(key), None, samples.CHAT.body))
    assert response.status == 401 and forwards(world) == 0
    assert key.encode() not in response.body


def test_equal_keys_twice_are_fine_and_different_ones_are_not(world, dialect):
    _, key = world.fresh_key(dialect)
    _, other = world.fresh_key(dialect)
    sample = PLAIN[dialect]
    assert world.exchange(request(sample.target, key, sample.body, headers=[("x-api-key", key)])).status == 200
    before = forwards(world)
    for fields in ([("x-api-key", other)], [("x-goog-api-key", SECRETS[dialect])], [("api-key", "x")]):
        response = world.exchange(request(sample.target, key, sample.body, headers=fields))
        assert response.status in (400, 401)
    response = world.exchange(request(sample.target, key, sample.body, headers=[("Authorization", f"Bearer {other}")]))
    assert response.status in (400, 401)
    assert forwards(world) == before


def test_every_bad_key_looks_the_same(world, dialect):
    """One status and one body for none, malformed, unknown, revoked, disabled and expired: nothing to probe."""
    sample = PLAIN[dialect]
    good_name, good = world.fresh_key(dialect)
    revoked_name, revoked = world.fresh_key(dialect)
    disabled_name, disabled = world.fresh_key(dialect)
    _, expired = world.fresh_key(dialect, options=("--expires", "1s"))
    world.cli("key", "revoke", revoked_name)
    world.cli("key", "disable", disabled_name)
    flipped = good[:-20] + ("A" if good[-20] != "A" else "B") + good[-19:]
    time.sleep(1.3)
    bad = {"none": None, "empty": "", "word": "hello", "short": good[:-1], "long": good + "a", "flipped": flipped,
           "provider's": SECRETS[dialect], "revoked": revoked, "disabled": disabled, "expired": expired,
           "unknown": fabricate()}
    before = forwards(world)
    bodies = set()
    for name, token in bad.items():
        response = world.exchange(request(sample.target, token, sample.body))
        check_error(response, dialect, 401)
        bodies.add(re.sub(rb"req_[0-9A-Za-z]+", b"", response.body))
        assert not token or len(token) < 8 or token.encode() not in response.body, name
    assert len(bodies) == 1, bodies
    assert forwards(world) == before
    assert good_name and world.exchange(request(sample.target, good, sample.body)).status == 200


def fabricate():
    """A well-formed key with a right checksum that nobody issued."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    text = "ch_nobody_sk_" + "A" * 12 + "B" * 32
    value, check = zlib.crc32(text.encode()), ""
    for _ in range(6):
        check = digits[value % 62] + check
        value //= 62
    return text + check


@pytest.mark.parametrize("spelling", ["bearer {}", "BEARER {}"])
def test_scheme_ignores_case(world, spelling):
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    head = request("/v1/chat/completions", None, samples.CHAT.body, headers=[("Authorization", spelling.format(key))])
    assert world.exchange(head).status == 200


@pytest.mark.parametrize("spelling", ["{}", "Basic {}", "Bearer", "Bearer  {} x", "Bearer{}", "Token {}"])
def test_other_schemes_are_no_key(world, spelling):
    _, key = world.fresh_key("openai")
    head = request("/v1/chat/completions", None, samples.CHAT.body, headers=[("Authorization", spelling.format(key))])
    assert world.exchange(head).status == 401 and forwards(world) == 0


def test_revocation_is_in_force_on_return(world, dialect):
    """The very next request, on every loop and on connections that are already open."""
    name, key = world.fresh_key(dialect)
    sample = PLAIN[dialect]
    clients = [world.connect() for _ in range(16)]
    for client in clients:
        client.send(ask(sample, key))
        assert client.read_response().status == 200
    world.cli("key", "revoke", name, "--reason", "left the company")
    before = forwards(world)
    for client in clients:
        client.send(ask(sample, key))
        assert client.read_response().status == 401
    for _ in range(16):
        assert world.exchange(ask(sample, key)).status == 401
    assert forwards(world) == before
    for client in clients:
        client.close()
    assert world.cli("key", "enable", name, check=False).returncode == 5, "revocation is final"


def test_disable_and_enable(world):
    name, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    for verb, status in [("disable", 401), ("enable", 200), ("disable", 401), ("enable", 200)]:
        world.cli("key", verb, name)
        assert world.exchange(ask(samples.CHAT, key)).status == status


def test_disabled_provider(world):
    _, key = world.fresh_key("compatible")
    world.upstreams["compatible"].script = reply(wire(samples.CHAT))
    try:
        world.cli("provider", "disable", "compatible")
        assert world.exchange(ask(samples.CHAT, key)).status == 401
        assert forwards(world) == 0
    finally:
        world.cli("provider", "enable", "compatible")
    assert world.exchange(ask(samples.CHAT, key)).status == 200


@pytest.mark.parametrize("sample", samples.SHORT, ids=repr)
def test_model_rule(world, sample):
    """A model outside the key's list is refused in the dialect's own shape, and nothing goes up."""
    for models, allowed in [("something-else", False), ("gpt-4o,claude-opus-5,gemini-2.5-flash", True),
                            ("gpt-4*,claude-*,gemini-2.5-*", True), ("gpt-4,claude-opus,gemini-2.5", False), ("*", True)]:
        _, key = world.fresh_key(sample.dialect, models=models)
        response, sent = world.send_sample(sample, key)
        if allowed:
            assert response.status == 200 and sent
            continue
        body = check_error(response, sample.dialect, 403)
        assert sent is None
        model = {"openai": "gpt-4o", "anthropic": "claude-opus-5", "gemini": "gemini-2.5-flash"}[sample.dialect]
        assert model in json.dumps(body), "the refusal names the model"
        assert response.error == "model_not_allowed"


def test_denials_are_rows(world):
    name, key = world.fresh_key("openai", models="other")
    world.exchange(ask(samples.CHAT, key))
    (row,) = world.rows_of(name)
    assert (row["status"], row["end_reason"], row["grade"], row["rule"]) == (403, "denied", "none", "model_not_allowed")
    assert (row["cost_nano_usd"] or 0) == 0 and row["model_asked"] == "gpt-4o"


def test_keys_of_other_dialects(world):
    """A key opens its own providers only."""
    _, key = world.fresh_key("openai")
    response = world.exchange(request("/anthropic/v1/messages", key, samples.MESSAGES.body))
    assert response.status in (403, 404) and forwards(world) == 0


def test_key_tells_about_itself(world):
    name, key = world.fresh_key("openai", models="gpt-4o")
    response = world.exchange(request("/chaperone/v1/key", key, method="GET"), method="GET")
    assert response.status == 200
    body = json.loads(response.body)
    assert name in json.dumps(body) and key not in json.dumps(body)
    assert world.exchange(request("/chaperone/v1/key", None, method="GET"), method="GET").status == 401


def test_provider_rotation_by_new_provider(world):
    """A key follows its provider's credential: nothing to do in the application."""
    upstream = Upstream(reply(wire(samples.CHAT)))
    world.provider("short-lived", "openai", f"http://127.0.0.1:{upstream.port}/v1", "sk-shortlived-000000000000000000")
    _, key = world.fresh_key("short-lived")
    assert world.exchange(ask(samples.CHAT, key)).status == 200
    assert upstream.last.get("authorization") == "Bearer sk-shortlived-000000000000000000"
    upstream.close()


def test_a_path_model_is_checked_as_it_is_sent(world):
    _, key = world.fresh_key("gemini", models="gemini-2.5-flash")
    world.upstreams["gemini"].script = reply(answer(b"{}"))
    for model in ("gemini-2.5-pro", "gemini-2%2E5-flash", "gemini-2.5-flash%00", "..%2fgemini-2.5-flash", "gemini-2.5-flash;x",
                  "%67emini-2.5-pro", "gemini-2.5-flash:"):
        response = world.exchange(request(f"/v1beta/models/{model}:generateContent", key, b"{}", carrier="x-goog-api-key"))
        assert response.status in (400, 403, 404), model
    assert forwards(world) == 0
