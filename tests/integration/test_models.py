# SPDX-License-Identifier: Apache-2.0
"""Which models a key may use: lists, wildcards, maps, and models that stand elsewhere than one would look."""
import json

import pytest

from harness.client import request
from harness.money import Ask, MoneyWorld, bill, document, events, message_of, read
from harness.samples import CARRIER, compact
from harness.upstream import answer, chunked, reply

DIALECTS = ("openai", "anthropic", "gemini")


@pytest.fixture(scope="module")
def shared_models(tmp_path_factory):
    world = MoneyWorld(tmp_path_factory.mktemp("models"))
    yield world
    world.close()


@pytest.fixture
def world(shared_models):
    for upstream in shared_models.upstreams.values():
        upstream.forget()
        upstream.script = bill()
    yield shared_models
    assert shared_models.daemon.is_running(), shared_models.daemon.tail()
    shared_models.daemon.check()


def statuses(world, token, models, dialect="openai"):
    return {model: world.exchange(Ask(token, dialect, model=model).data).status for model in models}


def check_refusal(response, dialect, model):
    """403 with the model's name, in every dialect's shape; SDKs do not retry it."""
    assert (response.status, response.error) == (403, "model_not_allowed")
    assert response.get("retry-after") is None
    error = json.loads(response.body)["error"]
    assert f"Model {model} is not allowed for this key" in message_of(response, dialect)
    if dialect == "openai":
        assert (error["type"], error["code"]) == ("permission_error", "model_not_allowed")
    elif dialect == "anthropic":
        assert error["type"] == "permission_error"
    else:
        assert (error["code"], error["status"]) == (403, "PERMISSION_DENIED")


# ---- lists

@pytest.mark.parametrize("dialect", DIALECTS)
def test_allow_list(world, dialect):
    name, token = world.make_key(dialect, models="gpt-4o-mini,gpt-4.1*,*-preview,a*c*e")
    seen = statuses(world, token, ["gpt-4o-mini", "gpt-4o", "gpt-4o-mini-2", "gpt-4.1", "gpt-4.1-nano", "x-preview", "preview", "ace", "abcde", "abcd", "GPT-4o-mini"], dialect)
    assert {m for m, s in seen.items() if s == 200} == {"gpt-4o-mini", "gpt-4.1", "gpt-4.1-nano", "x-preview", "ace", "abcde"}
    assert len(world.upstreams[dialect].requests) == 6
    check_refusal(world.exchange(Ask(token, dialect, model="gpt-4o").data), dialect, "gpt-4o")
    assert sum(row["rule"] == "model_not_allowed" and row["status"] == 403 for row in world.rows_for(name, 12)) == 6


@pytest.mark.parametrize("dialect", DIALECTS)
def test_deny_list(world, dialect):
    """What the deny list names is refused, whatever the allow list says."""
    _, token = world.make_key(dialect, models="gpt-*", deny_models="gpt-*-pro,*-audio*,gpt-5")
    seen = statuses(world, token, ["gpt-4o", "gpt-5", "gpt-5-pro", "gpt-5-mini", "gpt-4o-audio-preview", "claude"], dialect)
    assert {m for m, s in seen.items() if s == 200} == {"gpt-4o", "gpt-5-mini"}
    _, open_token = world.make_key(dialect, deny_models="secret-*")
    assert statuses(world, open_token, ["anything", "secret-1", "not-secret-1"], dialect) == {"anything": 200, "secret-1": 403, "not-secret-1": 200}


def test_an_edited_list_holds_at_once_on_every_loop(world):
    name, token = world.make_key(models="gpt-4o")
    clients = [world.connect() for _ in range(12)]
    ask = Ask(token, model="gpt-4o")
    try:
        for models, expected in (("gpt-5", 403), ("gpt-4o", 200), ("*", 200), ("claude", 403)):
            world.call("key.update", name=name, models=models)
            for client in clients:
                client.send(ask.data)
                assert client.read_response().status == expected
    finally:
        for client in clients:
            client.close()


# ---- models that stand elsewhere

@pytest.mark.parametrize("members, refused", [
    ({"tools": [{"type": "image_generation", "model": "gpt-image-2"}]}, "gpt-image-2"),
    ({"tools": [{"type": "function"}, {"type": "advisor", "model": "claude-opus-5"}]}, "claude-opus-5"),
    ({"fallbacks": [{"model": "unit-1"}, {"model": "gpt-5-pro"}]}, "gpt-5-pro"),
    ({"tools": [{"model": 7}]}, "?"),
    ({"tools": [{"model": {"x": "y"}}]}, "?"),
    ({"tools": [{"model": ["gpt-5"]}]}, "?"),
    ({"tools": [{"model": "unit-1\\u0000"}]}, "?"),
    ({"fallbacks": [{"model": "\u0067pt-5"}]}, "gpt-5")], ids=str)
@pytest.mark.parametrize("options", [{"models": "unit-1"}, {"deny_models": "gpt-*,claude-*"}], ids=["allow", "deny"])
def test_nested_models_stand_under_the_same_lists(world, members, refused, options):
    _, token = world.make_key(**options)
    response = world.exchange(Ask(token, **members).data)
    check_refusal(response, "openai", refused)
    assert world.forwarded() == 0


@pytest.mark.parametrize("members", [{"tools": [{"type": "x", "model": "unit-1"}]}, {"fallbacks": [{"model": "unit-1"}]}, {"tools": [{"model": None}]},
                                     {"messages": [{"role": "user", "content": "x", "model": "gpt-5"}]}, {"metadata": {"model": "gpt-5"}}], ids=str)
def test_nested_models_that_pass(world, members):
    _, token = world.make_key(models="unit-1")
    assert world.exchange(Ask(token, **members).data).status == 200


@pytest.mark.parametrize("options, status", [({"models": "unit-1"}, 403), ({"deny_models": "gpt-5"}, 403), ({}, 200)], ids=["allow", "deny", "none"])
def test_lists_of_fallback_models(world, options, status):
    """OpenRouter's `models` would let the provider choose: a key with a list names one model."""
    _, token = world.make_key(**options)
    response = world.exchange(Ask(token, models=["unit-1", "gpt-5"]).data)
    assert response.status == status
    assert response.error == ("model_list_not_allowed" if status == 403 else None)
    assert world.forwarded() == (status == 200)


def test_the_served_model_is_what_is_priced(world):
    """A provider that serves another model than was sent is billed for that one."""
    dear = f"unit-d{next(world.names)}"
    world.call("price.set", model=dear, input="10", output="20", **{"from": "2026-01-01"})
    name, token = world.make_key()
    ask = Ask(token)
    world.upstreams["openai"].script = lambda connection, req: connection.send(answer(compact(document("openai", dear, len(req.body), 100))))
    assert world.exchange(ask.data).status == 200
    (row,) = world.rows_for(name, 1)
    assert (row["model_sent"], row["model_served"], row["cost_nano_usd"]) == ("unit-1", dear, 10 * ask.worst)


# ---- maps

def test_map_in_the_body(world):
    """The model is replaced where it stands and not a byte beside it; the row has both names; price and rule are those of the one sent."""
    name, token = world.make_key(map="gpt-4o=unit-1", models="unit-1")
    body = b'{ "messages":[{"role":"user","content":"the model is \\"gpt-4o\\""}],\n "model" : "gpt-4o" , "max_tokens":5,"service_tier":"default" }'
    assert world.exchange(request("/v1/chat/completions", token, body)).status == 200
    assert world.upstreams["openai"].last.body == body.replace(b'"model" : "gpt-4o"', b'"model" : "unit-1"')
    assert world.upstreams["openai"].last.get("content-length") == str(len(body))
    (row,) = world.rows_for(name, 1)
    assert (row["model_asked"], row["model_sent"], row["model_served"]) == ("gpt-4o", "unit-1", "unit-1")
    assert row["cost_nano_usd"] == len(body) * 1000 + 5 * 2000
    response = world.exchange(Ask(token, model="gpt-5").data)
    check_refusal(response, "openai", "gpt-5")


@pytest.mark.parametrize("body", [
    b'{"model":"gpt-4o","stream":true,"messages":[],"max_tokens":5}', b'{"stream":true,"messages":[],"max_tokens":5,"model":"gpt-4o"}',
    b'{"stream":true,"stream_options":{},"model":"gpt-4o","max_tokens":5}', b'{"model":"gpt-4o","stream_options":{"include_usage":false},"stream":true,"max_tokens":5}',
    b'{"stream_options":null,"model":"\\u0067pt-4o","stream":true,"max_tokens":5}', b' \n{"model":"gpt-4o","stream":true,"max_tokens":5}'], ids=range(6))
@pytest.mark.parametrize("target", ["unit-1", "unit-a-much-longer-name-than-it-was-asked-for-by", "u"], ids=["same", "longer", "shorter"])
def test_map_beside_the_asking_for_usage(world, body, target):
    """Two splices in one body, in either order; the event that ours added is taken out of the answer again."""
    world.call("price.set", model=target, input="1", output="2", **{"from": "2026-01-01"})
    name, token = world.make_key(map=f"gpt-4o={target}")
    world.upstreams["openai"].script = lambda connection, req: connection.send(chunked(events("openai", target, 50, 5)))
    response = world.exchange(request("/v1/chat/completions", token, body))
    sent = json.loads(world.upstreams["openai"].last.body)
    asked = json.loads(body)
    assert sent == {**asked, "model": target, "stream_options": {"include_usage": True}}
    whole = events("openai", target, 50, 5)
    assert response.body == b"".join(whole[:-2] + whole[-1:])
    (row,) = world.rows_for(name, 1)
    assert (row["model_asked"], row["model_sent"], row["cost_nano_usd"], row["grade"]) == ("gpt-4o", target, 60_000, "exact")


def test_map_in_the_path(world):
    name, token = world.make_key("gemini", map="gemini-2.5-pro=unit-1,gemini-*=unit-1", models="unit-1")
    for stream in (False, True):
        assert world.exchange(Ask(token, "gemini", model="gemini-2.5-pro", stream=stream).data).status == 200
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        assert world.upstreams["gemini"].last.target == f"/v1beta/models/unit-1:{verb}"
    assert world.exchange(Ask(token, "gemini", model="gemini-x").data).status == 200
    check_refusal(world.exchange(Ask(token, "gemini", model="other").data), "gemini", "other")
    rows = world.rows_for(name, 4)
    served = sorted((row["model_asked"], row["model_sent"]) for row in rows if row["status"] == 200)
    assert served == [("gemini-2.5-pro", "unit-1")] * 2 + [("gemini-x", "unit-1")]


def test_a_mapped_path_and_a_body_that_repeats_the_model(world):
    """The body would contradict the new path, so the caller is told to leave it out."""
    _, token = world.make_key("gemini", map="gemini-2.5-pro=unit-1")
    body = b'{"model":"models/gemini-2.5-pro","contents":[]}'
    response = world.exchange(request("/v1beta/models/gemini-2.5-pro:generateContent", token, body, carrier="x-goog-api-key"))
    assert (response.status, response.error) == (400, "model_map_unsupported")
    assert world.forwarded() == 0


@pytest.mark.parametrize("dialect", DIALECTS)
def test_map_to_what_is_denied(world, dialect):
    """The rule is on what is sent; the message names both."""
    _, token = world.make_key(dialect, map="cheap=dear", deny_models="dear", models="cheap,dear")
    response = world.exchange(Ask(token, dialect, model="cheap").data)
    check_refusal(response, dialect, "dear (asked for as cheap)")
    assert world.forwarded() == 0


def test_wildcards_in_a_map(world):
    name, token = world.make_key(map="gpt-*-mini=unit-1")
    assert statuses(world, token, ["gpt-4o-mini", "gpt-4o", "gpt-5-mini"]) == {"gpt-4o-mini": 200, "gpt-4o": 200, "gpt-5-mini": 200}
    assert [json.loads(r.body)["model"] for r in world.upstreams["openai"].requests] == ["unit-1", "gpt-4o", "unit-1"]


def test_a_budget_counts_the_model_that_is_sent(world):
    name, token = world.make_key(map="free-for-all=unit-1")
    ask = Ask(token, model="free-for-all")
    world.set_budget(f"key:{name}", ask.worst - 1, mode="strict")
    assert world.exchange(ask.data).status == 429
    world.set_budget(f"key:{name}", ask.worst + 10_000, mode="strict")
    assert world.exchange(ask.data).status == 200


# ---- lists of models

OPENAI_LIST = {"object": "list", "data": [{"id": m, "object": "model", "created": 1, "owned_by": "x"} for m in ("gpt-4o", "gpt-5", "unit-1", "o3", "no space allowed")]}
ANTHROPIC_LIST = {"data": [{"type": "model", "id": m, "display_name": m.title(), "created_at": "2026-01-01T00:00:00Z"} for m in ("gpt-4o", "gpt-5", "unit-1")],
                  "has_more": False, "first_id": "gpt-4o", "last_id": "unit-1"}
GEMINI_LIST = {"models": [{"name": f"models/{m}", "version": "1", "inputTokenLimit": 100} for m in ("gpt-4o", "gpt-5", "unit-1")], "nextPageToken": "t"}
LISTS = {"openai": ("/v1/models", OPENAI_LIST), "anthropic": ("/v1/models", ANTHROPIC_LIST), "gemini": ("/v1beta/models", GEMINI_LIST)}
VERSION = [("anthropic-version", "2023-06-01")]


def get_list(world, token, dialect, path=None):
    data = request(path or LISTS[dialect][0], token, method="GET", carrier=CARRIER[dialect], headers=VERSION if dialect == "anthropic" else ())
    return world.exchange(data, method="GET")


def names_of(body):
    document = json.loads(body)
    return [item.get("id") or item["name"].removeprefix("models/") for item in document.get("data", document.get("models"))]


@pytest.mark.parametrize("framing", ["length", "chunked", "close", "drip"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_key_sees_only_what_it_may_use(world, dialect, framing):
    document = LISTS[dialect][1]
    whole = compact(document)

    def script(connection, req):
        if framing == "length":
            connection.send(answer(whole))
        elif framing == "close":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + whole)
            connection.close()
        else:
            parts = [whole[at:at + 7] for at in range(0, len(whole), 7)]
            for byte in [chunked(parts, content_type="application/json")] if framing == "chunked" else [chunked(parts, content_type="application/json")[i:i + 11] for i in range(0, 9000, 11)]:
                connection.send(byte)

    world.upstreams[dialect].script = script
    for options, expected in (({"models": "unit-1,gpt-4*"}, {"gpt-4o", "unit-1"}), ({"deny_models": "gpt-5,o*,no*"}, {"gpt-4o", "unit-1"}),
                              ({"models": "unit-1", "map": "gpt-5=unit-1"}, {"gpt-5", "unit-1"}), ({"models": "nothing-of-it"}, set())):
        _, token = world.make_key(dialect, **options)
        response = get_list(world, token, dialect)
        assert response.status == 200 and not response.truncated
        assert set(names_of(response.body)) == expected
        kept = json.loads(response.body)
        assert {k: v for k, v in kept.items() if k not in ("data", "models")} == {k: v for k, v in document.items() if k not in ("data", "models")}
        known = document.get("data", document.get("models"))
        assert all(item in known for item in kept.get("data", kept.get("models"))), "items pass unchanged"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_key_without_lists_sees_the_providers_own_bytes(world, dialect):
    whole = json.dumps(LISTS[dialect][1], indent=3).encode()
    world.upstreams[dialect].script = reply(answer(whole))
    for options in ({}, {"models": "unit-1", "shadow": "models"}):
        _, token = world.make_key(dialect, **options)
        assert get_list(world, token, dialect).body == whole


@pytest.mark.parametrize("dialect", DIALECTS)
def test_one_model_by_name(world, dialect):
    """One that the key may not use is not there for it: 404, and nobody is asked."""
    path = LISTS[dialect][0]
    whole = compact({"id": "unit-1", "name": "models/unit-1"})
    world.upstreams[dialect].script = reply(answer(whole))
    _, token = world.make_key(dialect, models="unit-*", deny_models="unit-9")
    response = get_list(world, token, dialect, f"{path}/unit-1")
    assert (response.status, response.body) == (200, whole)
    assert len(world.upstreams[dialect].requests) == 1
    for name in ("gpt-4o", "unit-9", "unit%2D1", "unit-1%2F..%2Fgpt"):
        response = get_list(world, token, dialect, f"{path}/{name}")
        assert response.status in (400, 404), name
        assert response.status == 400 or response.error in ("model_not_found", "unknown_path")
    assert len(world.upstreams[dialect].requests) == 1


@pytest.mark.parametrize("body", [b" ", b"[]", b"{}", b'{"data":7}', b'{"data":[', b"<html>", b'{"data":[{"id":7},{"x":1},"gpt-4o",null]}', b'{"data":[]}x'], ids=str)
def test_a_list_that_cannot_be_read_shows_nothing(world, body):
    world.upstreams["openai"].script = reply(answer(body))
    _, token = world.make_key(models="unit-1")
    response = get_list(world, token, "openai")
    assert response.status == 200 and names_of(response.body) == []


def test_errors_in_place_of_a_list_pass(world):
    world.upstreams["openai"].script = reply(answer(b'{"error":{"message":"later"}}', status="503 Busy"))
    _, token = world.make_key(models="unit-1")
    response = get_list(world, token, "openai")
    assert (response.status, response.body) == (503, b'{"error":{"message":"later"}}')


def test_a_list_that_is_too_long_is_no_list(world):
    item = b'{"id":"unit-1","pad":"' + b"x" * 1000 + b'"},'
    whole = b'{"object":"list","data":[' + item * 5000 + b'{"id":"unit-1"}]}'
    world.upstreams["openai"].script = reply(answer(whole))
    _, token = world.make_key(models="unit-1")
    response = get_list(world, token, "openai")
    assert response.truncated and response.body == b"", "cut off, so that nobody takes it for the whole"


# ---- shadows

def test_shadow_models_refuse_nothing(world):
    name, token = world.make_key(models="unit-1", shadow="models")
    asks = [Ask(token), Ask(token, model="gpt-5"), Ask(token, tools=[{"model": "gpt-5"}]), Ask(token, models=["gpt-5"])]
    assert [world.exchange(ask.data).status for ask in asks] == [200] * 4
    rules = sorted(row["rule"] for row in world.rows_for(name, 4))  # loops number their rows apart
    assert rules == ["", "shadow:model_list_not_allowed", "shadow:model_not_allowed", "shadow:model_not_allowed"]
    assert len(world.list_rows(key=name, shadow=True)) == 3
    world.call("key.update", name=name, shadow="")
    assert world.exchange(asks[1].data).status == 403
