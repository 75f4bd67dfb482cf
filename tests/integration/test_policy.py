# SPDX-License-Identifier: Apache-2.0
"""What a request may not ask for, and rights that end while it is still coming in."""
import json

import pytest

from harness import samples
from harness.client import request
from harness.upstream import Upstream, answer, reply
from harness.world import SECRETS, ask, wire


def forwards(world):
    return sum(len(u.requests) for u in world.upstreams.values())


# ---- rights that end during the upload

@pytest.fixture
def account(world):
    """A provider of the test's own: (its name, its upstream)."""
    upstream = Upstream(reply(wire(samples.CHAT)))
    name = f"p{next(world.names)}"
    world.provider(name, "openai", f"http://127.0.0.1:{upstream.port}/v1", SECRETS["openai"])
    yield name, upstream
    upstream.close()


def upload_slowly(world, key, meanwhile):
    """Runs `meanwhile` when the head has passed the gate and half of the body has come."""
    head, _, body = ask(samples.CHAT, key, [("Expect", "100-continue")]).partition(b"\r\n\r\n")
    with world.connect() as client:
        client.send(head + b"\r\n\r\n")
        assert client.read_response(interim=True).status == 100, "the head has passed the gate"
        client.send(body[:20])
        meanwhile()
        client.send(body[20:])
        return client.read_response()


def delete_provider(world, provider, key_name):
    """A provider that an active key uses cannot be deleted, so the key rests meanwhile."""
    world.cli("key", "disable", key_name)
    world.cli("provider", "delete", provider, "--yes")
    world.cli("key", "enable", key_name, check=False)


ENDINGS = {
    "provider-disabled": lambda world, provider, key: world.cli("provider", "disable", provider),
    "provider-deleted": delete_provider,
    "key-disabled": lambda world, provider, key: world.cli("key", "disable", key),
    "key-revoked": lambda world, provider, key: world.cli("key", "revoke", key, "--reason", "lost", "--yes"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_rights_that_end_during_the_upload(world, account, ending):
    """The decision is made on what is in force when the body is complete: 401, and nothing is forwarded."""
    provider, upstream = account
    name, key = world.fresh_key(provider)
    response = upload_slowly(world, key, lambda: ENDINGS[ending](world, provider, name))
    assert (response.status, response.error) == (401, "invalid_api_key")
    assert not upstream.connections and forwards(world) == 0


def test_provider_enabled_again_during_the_upload(world, account):
    provider, upstream = account
    _, key = world.fresh_key(provider)

    def meanwhile():
        world.cli("provider", "disable", provider)
        world.cli("provider", "enable", provider)

    assert upload_slowly(world, key, meanwhile).status == 200
    assert len(upstream.requests) == 1


def test_upload_moves_on_with_its_key(world, account):
    """A key whose first provider goes away during the upload is served by its next one, with that one's credential."""
    provider, upstream = account
    name, key = f"k{next(world.names)}", None
    key = world.key(name, provider, "openai")
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    response = upload_slowly(world, key, lambda: delete_provider(world, provider, name))
    assert response.status == 200 and not upstream.connections
    assert world.upstreams["openai"].last.get("host") == f"127.0.0.1:{world.upstreams['openai'].port}"


# ---- queries of metered Gemini calls

GEMINI = f"{samples.GEMINI_MODEL}:generateContent"
GEMINI_STREAM = f"{samples.GEMINI_MODEL}:streamGenerateContent"


@pytest.fixture(scope="module")
def gemini_key(shared_world):
    return shared_world.fresh_key("gemini")[1]


@pytest.mark.parametrize("query, up", [
    ("?alt=json", "?alt=json"), ("?alt=sse", "?alt=sse"), ("?key={key}", ""), ("?alt=sse&key={key}", "?alt=sse"),
    ("?key={key}&alt=json", "?alt=json"), ("", ""), ("?", ""), ("?alt=sse&", "?alt=sse&")])
@pytest.mark.parametrize("path", [GEMINI, GEMINI_STREAM], ids=["plain", "stream"])
def test_gemini_query_that_passes(world, gemini_key, path, query, up):
    sample = samples.GENERATE if path == GEMINI else samples.GENERATE_STREAM
    world.upstreams["gemini"].script = reply(wire(sample))
    data = request(path + query.format(key=gemini_key), None if "key=" in query else gemini_key, sample.body, carrier="x-goog-api-key")
    assert world.exchange(data).status == 200
    assert world.upstreams["gemini"].last.target in (path + up, path + up.removesuffix("&"))


@pytest.mark.parametrize("query", [
    "fields=candidates", "fields=usageMetadata", "$fields=candidates", "alt=proto", "alt=media", "alt=", "alt", "ALT=sse", "Alt=json",
    "alt=sse;fields=x", "alt=ss%65", "al%74=sse", "prettyPrint=false", "quotaUser=x", "userProject=p", "$httpMethod=GET",
    "callback=x", "upload_protocol=raw", "uploadType=media", "$.xgafv=2", "oauth_token=x", "access_token=x", "model=gemini-2.5-pro",
    "alt=sse&fields=candidates", "fields=candidates&alt=sse", "alt=sse&alt=proto", "x"])
@pytest.mark.parametrize("path", [GEMINI, GEMINI_STREAM, f"{samples.GEMINI_MODEL}:countTokens", f"{samples.GEMINI_MODEL}:embedContent"],
                         ids=["generate", "stream", "count", "embed"])
def test_gemini_query_that_is_refused(world, gemini_key, path, query):
    response = world.exchange(request(f"{path}?{query}", gemini_key, samples.GENERATE.body, carrier="x-goog-api-key"))
    assert (response.status, response.error) == (400, "query_not_allowed")
    assert forwards(world) == 0


@pytest.mark.parametrize("target, up", [
    ("/v1beta/models?pageSize=5&pageToken=a%20b", "/v1beta/models?pageSize=5&pageToken=a%20b"),
    ("/v1beta/models?fields=models(name)&alt=json", "/v1beta/models?fields=models(name)&alt=json"),
    ("/v1beta/models/gemini-2.5-flash?prettyPrint=false", "/v1beta/models/gemini-2.5-flash?prettyPrint=false"),
    ("/v1beta/models?key={key}&pageSize=5", "/v1beta/models?pageSize=5"),
    ("/v1beta/models?pageSize=5&key={key}&fields=x", "/v1beta/models?pageSize=5&fields=x")])
def test_gemini_listings_keep_their_queries(world, gemini_key, target, up):
    """Listings cost nothing, so their queries pass, all but the key."""
    world.upstreams["gemini"].script = reply(answer(b'{"models":[]}'))
    data = request(target.format(key=gemini_key), None if "{key}" in target else gemini_key, method="GET", carrier="x-goog-api-key")
    assert world.exchange(data, method="GET").status == 200
    assert world.upstreams["gemini"].last.target == up


# ---- members of the body that would leave the books

@pytest.mark.parametrize("value", [b"true", b'"true"', b"1", b"0", b"{}", b"[]", b'""'])
@pytest.mark.parametrize("target", ["/v1/responses", "/v1/chat/completions"])
def test_background_responses_are_refused(world, target, value):
    """What runs on after the answer cannot be metered. Only an explicit no passes."""
    name, key = world.fresh_key("openai")
    body = b'{"model":"gpt-5","input":"Hi","background":' + value + b"}"
    response = world.exchange(request(target, key, body))
    assert (response.status, response.error) == (403, "background_not_allowed")
    assert forwards(world) == 0
    (row,) = world.rows_of(name)
    assert (row["status"], row["rule"], row["end_reason"]) == (403, "background_not_allowed", "denied")


def test_background_that_was_said_twice(world):
    """Whichever of the two the provider takes: one of them is a yes."""
    _, key = world.fresh_key("openai")
    for pair in (b'"background":true,"background":false', b'"background":false,"background":true', b'"back\\u0067round":true'):
        response = world.exchange(request("/v1/responses", key, b'{"model":"gpt-5","input":"Hi",' + pair + b"}"))
        assert response.status in (400, 403), pair
    assert forwards(world) == 0


@pytest.mark.parametrize("value", [b"false", b"null"])
def test_background_no_passes(world, value):
    _, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(wire(samples.RESPONSES))
    body = b'{"model":"gpt-5","input":"Hi","background":' + value + b',"metadata":{"background":true}}'
    assert world.exchange(request("/v1/responses", key, body)).status == 200
    assert world.upstreams["openai"].last.body == body


FALLBACKS = json.dumps({"model": "gpt-4o", "models": ["gpt-4o", "gpt-5"], "messages": []}, separators=(",", ":")).encode()


@pytest.mark.parametrize("models", ["gpt-4o", "gpt-4*", "gpt-4o,gpt-5"])
def test_fallback_models_are_refused_for_a_key_with_a_list(world, models):
    """OpenRouter's `models` may serve any of its entries: a key with a model list names one model a request."""
    name, key = world.fresh_key("compatible", models=models)
    for body in (FALLBACKS, b'{"models":["gpt-4o"],"model":"gpt-4o"}', b'{"model":"gpt-4o","models":"gpt-5"}',
                 b'{"model":"gpt-4o","model\\u0073":["gpt-5"]}', b'{"model":"gpt-4o","models":{}}'):
        response = world.exchange(request("/v1/chat/completions", key, body))
        assert (response.status, response.error) == (403, "model_list_not_allowed"), body
    assert forwards(world) == 0
    assert {row["rule"] for row in world.rows_of(name, 5)} == {"model_list_not_allowed"}


def test_fallback_models_pass_for_a_key_without_a_list(world):
    _, key = world.fresh_key("compatible", models=None)
    world.upstreams["compatible"].script = reply(wire(samples.CHAT))
    assert world.exchange(request("/v1/chat/completions", key, FALLBACKS)).status == 200
    assert world.upstreams["compatible"].last.body == FALLBACKS
