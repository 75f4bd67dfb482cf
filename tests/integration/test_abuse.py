# SPDX-License-Identifier: Apache-2.0
"""Abuse of the gateway by those who hold a wrapped key, by providers and by administrators' input. Each test carries the
number of its case; cases of requests that are wrong on the wire are in tests/table/hostile.tsv."""
import json
import re
import socket
import time

import pytest

from harness import samples
from harness.client import Closed, RawClient, request
from harness.upstream import Upstream, answer, chunked, reply, reply_drip
from harness.world import SECRETS, ask, wire

CHAT = "/v1/chat/completions"
SECRET = SECRETS["openai"].encode()


def forwards(world):
    return sum(len(u.requests) for u in world.upstreams.values())


@pytest.fixture(scope="module")
def key(shared_world):
    """May use every model."""
    return shared_world.fresh_key("openai")[1]


@pytest.fixture(scope="module")
def narrow_key(shared_world):
    """May use gpt-4o and nothing else."""
    return shared_world.fresh_key("openai", models="gpt-4o")[1]


def post(world, key, body, target=CHAT, **options):
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    return world.exchange(request(target, key, body, **options))


# ---- 1-13: models and documents

@pytest.mark.parametrize("member", [b'"model":"gpt-4o","model":"gpt-4o"', b'"model":"gpt-4o","messages":[],"model":"gpt-5"',
                                    b'"model":"gpt-4o","stream":true,"stream":true',
                                    b'"model":"gpt-4o","stream_options":{},"stream_options":{"include_usage":true}',
                                    b'"model":"gpt-4o","stream_options":{"include_usage":true,"include_usage":false}'])
def test_abuse_01_duplicate_members(world, key, member):
    response = post(world, key, b"{" + member + b"}")
    assert (response.status, response.error, forwards(world)) == (400, "duplicate_member", 0)


@pytest.mark.parametrize("body, status", [
    (rb'{"\u006dodel":"gpt-5"}', 403), (rb'{"\u006d\u006f\u0064\u0065\u006c":"gpt-5"}', 403), (rb'{"\u006Dodel":"gpt-4o"}', 200),
    (rb'{"model":"gpt\u002d5"}', 403), (rb'{"model":"gpt\u002d4o"}', 200), (rb'{"\u006dodel":"gpt-4o","model":"gpt-4o"}', 400)])
def test_abuse_02_escaped_names_and_values_are_decoded(world, narrow_key, body, status):
    response = post(world, narrow_key, body)
    assert (response.status, forwards(world)) == (status, int(status == 200))


@pytest.mark.parametrize("member", [b"Model", b"MODEL", b"mOdel", b"model ", b" model", b"\\u0020model", b"model\\u0000", b"mode\\u006C ",
                                    b"\\tmodel", b"model\\n", b"Stream", b"stream ", b"Service_Tier", b"service_tier\\u0000",
                                    b"Background", b"Models", b"\xc5\xbftream"])
@pytest.mark.parametrize("order", [b'{"model":"gpt-4o","%s":"gpt-5"}', b'{"%s":"gpt-5","model":"gpt-4o"}'], ids=["behind", "before"])
def test_abuse_03_names_that_a_lax_decoder_mistakes(world, key, member, order):
    response = post(world, key, order % member)
    assert (response.status, forwards(world)) == (400, 0)


@pytest.mark.parametrize("body", [b'{"messages":[{"model":"gpt-4o"}]}', b'{"metadata":{"model":"gpt-4o"}}', b'{"x":"model","y":"gpt-4o"}',
                                  b'{"x":{"y":{"model":"gpt-4o"}}}', b'{"model.":"gpt-4o"}'])
def test_abuse_04_only_the_top_level_names_the_model(world, key, body):
    response = post(world, key, body)
    assert (response.status, response.error, forwards(world)) == (400, "model_missing", 0)


def test_abuse_04_nested_models_change_nothing(world, narrow_key):
    body = b'{"metadata":{"model":"gpt-5"},"messages":[{"model":"gpt-5"}],"model":"gpt-4o"}'
    assert post(world, narrow_key, body).status == 200
    assert world.upstreams["openai"].last.body == body


GPT, CLAUDE = {"type": "image_generation", "model": "gpt-image-2"}, {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5"}
INLINE = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": CLAUDE}}


@pytest.mark.parametrize("target, members, refused", [
    ("/v1/responses", {"input": [{"type": "additional_tools", "role": "developer", "tools": [GPT]}]}, "gpt-image-2"),
    ("/v1/responses", {"input": [{"type": "tool_search_output", "tools": [{"type": "function"}, GPT]}]}, "gpt-image-2"),
    ("/v1/responses", {"tools": [{"type": "image_generation", "svg": {"model": "gpt-5"}}]}, "gpt-5"),
    ("/v1/responses", {"input": [{"tools": [{"type": "image_generation", "svg": {"model": "gpt-5"}}]}]}, "gpt-5"),
    ("/v1/images/generations", {"prompt": "a hat", "svg": {"model": "gpt-5"}}, "gpt-5"),
    ("/v1/messages", {"messages": [{"role": "system", "content": [INLINE]}]}, "claude-opus-5"),
    ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "compaction", "tool_changes": [INLINE]}]}]}, "claude-opus-5")], ids=str)
def test_abuse_04_models_of_tools_inside_a_conversation(world, target, members, refused):
    """They are called and billed as those at the top are."""
    provider = "anthropic" if target == "/v1/messages" else "openai"
    _, key = world.fresh_key(provider, models="gpt-4o")
    before = forwards(world)
    response = world.exchange(request(target, key, samples.compact({"model": "gpt-4o", **members}), carrier=samples.CARRIER[provider]))
    assert (response.status, response.error, forwards(world) - before) == (403, "model_not_allowed", 0)
    assert f"Model {refused} is not allowed" in response.body.decode()


@pytest.mark.parametrize("query", ["?model=gpt-5", "?model=gpt-4o", "?a=b&model=gpt-5", "?model="])
def test_abuse_05_model_in_the_query(world, key, query):
    response = post(world, key, samples.CHAT.body, CHAT + query)
    assert (response.status, response.error, forwards(world)) == (400, "model_mismatch", 0)


@pytest.mark.parametrize("body", [b'{"contents":[],"model":"gemini-2.5-pro"}', b'{"contents":[],"model":"models/gemini-2.5-pro"}',
                                  b'{"contents":[],"model":"models/models/gemini-2.5-flash"}', b'{"contents":[],"model":null}',
                                  b'{"contents":[],"model":["gemini-2.5-flash"]}', b'{"contents":[],"model":{}}'])
def test_abuse_06_gemini_body_names_another_model_than_the_path(world, body):
    _, key = world.fresh_key("gemini")
    response = world.exchange(request(samples.GENERATE.target, key, body, carrier="x-goog-api-key"))
    assert (response.status, response.error, forwards(world)) == (400, "model_mismatch", 0)


def test_abuse_06_gemini_body_names_the_same_model(world):
    _, key = world.fresh_key("gemini")
    world.upstreams["gemini"].script = reply(wire(samples.GENERATE))
    for body in (b'{"contents":[],"model":"gemini-2.5-flash"}', b'{"contents":[],"model":"models/gemini-2.5-flash"}'):
        assert world.exchange(request(samples.GENERATE.target, key, body, carrier="x-goog-api-key")).status == 200


@pytest.mark.parametrize("body", [b'{"requests":[{"model":"models/other","content":{}}]}',
                                  b'{"requests":[{"model":"models/text-embedding-004"},{"model":"models/other"}]}'])
def test_abuse_06_gemini_batch_names_another_model(world, body):
    _, key = world.fresh_key("gemini", models="text-embedding-004")
    response = world.exchange(request("/v1beta/models/text-embedding-004:batchEmbedContents", key, body, carrier="x-goog-api-key"))
    assert (response.status, forwards(world)) == (400, 0)


def test_abuse_06_azure_body_names_another_model_than_the_deployment(world):
    upstream = Upstream(reply(wire(samples.CHAT)))
    name = f"azure{next(world.names)}"
    world.provider(name, "azure", f"http://127.0.0.1:{upstream.port}", SECRETS["openai"])
    _, key = world.fresh_key(name, models="gpt-4o")
    target = "/openai/deployments/{}/chat/completions?api-version=2024-10-21"
    for deployment, body, status in (("gpt-4o", b'{"messages":[]}', 200), ("gpt-4o", b'{"model":"gpt-4o","messages":[]}', 200),
                                     ("gpt-4o", b'{"model":"gpt-5","messages":[]}', 400), ("gpt-5", b'{"model":"gpt-4o"}', 400),
                                     ("gpt-5", b'{"messages":[]}', 403)):
        assert world.exchange(request(target.format(deployment), key, body, carrier="api-key")).status == status, (deployment, body)
    assert len(upstream.requests) == 2
    upstream.close()


@pytest.mark.parametrize("segment", ["gpt%2D4o", "gpt-4o%2f", "..%2fgpt-4o", "%252e", "gpt-4o;x", "gpt-4o%00", "gpt-4o%20", "*", "%2a",
                                      "gpt-4o,gpt-5", "", "a" * 129])
def test_abuse_07_odd_models_in_paths(world, segment):
    """Names are not decoded before they are judged, so every escape is simply no valid name."""
    _, key = world.fresh_key("gemini", models="*")
    response = world.exchange(request(f"/v1beta/models/{segment}:generateContent", key, b'{"contents":[]}', carrier="x-goog-api-key"))
    assert response.status in (400, 404) and forwards(world) == 0


@pytest.mark.parametrize("name", ["gpt-4o ", " gpt-4o", "gpt-4o\\n", "gpt-4o\\u0000", "gpt-4o\\u200b", "gpt-4\\u043e", "\\uff47pt-4o", "gpt-4o?x",
                                  "gpt-4o#x", "gpt-4o%20", "gpt-4o,gpt-5", "*", "gpt-*", "a" * 129, "a" * 10_000, ""])
def test_abuse_09_names_outside_the_alphabet(world, key, name):
    response = post(world, key, b'{"model":"%s"}' % name.encode())
    assert (response.status, response.error, forwards(world)) == (400, "model_invalid", 0)


@pytest.mark.parametrize("value", [b"null", b"7", b"true", b'["gpt-4o"]', b'{"a":"gpt-4o"}', b'{"model":"gpt-4o"}', b"[]"])
def test_abuse_09_models_that_are_no_text(world, key, value):
    response = post(world, key, b'{"model":%s}' % value)
    assert (response.status, forwards(world)) == (400, 0)


@pytest.mark.parametrize("models, model, allowed", [
    ("gpt-4o", "openai/gpt-4o", False), ("gpt-4o", "ft:gpt-4o:acme", False), ("gpt-4o", "gpt-4o-2024-08-06", False),
    ("gpt-4o", "GPT-4o", False), ("gpt-4o", "gpt-4", False), ("gpt-4o", "xgpt-4o", False), ("gpt-4o", "gpt-4o:free", False),
    ("gpt-4o*", "gpt-4o-2024-08-06", True), ("gpt-4o*", "openai/gpt-4o", False), ("gpt-4o*", "ft:gpt-4o", False),
    ("openai/*", "openai/gpt-4o", True), ("openai/*", "xopenai/gpt-4o", False), ("ft:gpt-4o*", "ft:gpt-4o:acme", True)])
def test_abuse_10_lists_are_exact_and_anchored(world, models, model, allowed):
    _, key = world.fresh_key("openai", models=models)
    response = post(world, key, b'{"model":"%s"}' % model.encode())
    assert (response.status, forwards(world)) == ((200, 1) if allowed else (403, 0))


@pytest.mark.parametrize("body", [
    b'{"model":"gpt-4o","x":' + b"[" * 65 + b"]" * 65 + b"}", b'{"x":' + b'{"x":' * 100_000, b'{"model":"gpt-4o","x":NaN}',
    b'{"model":"gpt-4o","x":Infinity}', b'\xef\xbb\xbf{"model":"gpt-4o"}', b'{"model":"gpt-4o","x":"\\ud800"}',
    b'{"model":"gpt-4o","x":"\\udc00\\ud800"}', b'{"model":"gpt-4o","\\ud800":1}', b'{"model":"gpt-4o","x":"\xed\xa0\x80"}',
    b'{"model":"gpt-4o","x":"\xc0\xaf"}', b'{"model":"gpt-4o","x":"\xf4\x90\x80\x80"}', b'{"model":"gpt-4o"}{"model":"gpt-5"}',
    b'{"model":"gpt-4o"} x', b'{"model":"gpt-4o"}\x00', b'{"model":"gpt-4o"//\n}', b'{"model":"gpt-4o"/**/}', b'{model:"gpt-4o"}',
    b'{"model":"gpt-4o","x":01}', b'{"model":"gpt-4o","x":+1}', b'{"model":"gpt-4o","x":1.}', b'{"model":"gpt-4o","x":.5}',
    b'{"model":"gpt-4o","x":0x10}', b'{"model":"gpt-4o","x":"\t"}', b'{"model":"gpt-4o","x":"\\x41"}', b'{"model":"gpt-4o","x":tru}',
    b'{"model":"gpt-4o",}', b'{"model":"gpt-4o" "x":1}', b'["model","gpt-4o"]', b'"gpt-4o"', b"null", b" "])
def test_abuse_11_documents_that_parsers_disagree_on(world, key, body):
    began = time.monotonic()
    response = post(world, key, body)
    assert (response.status, forwards(world)) == (400, 0)
    assert time.monotonic() - began < 2


def test_abuse_11_large_exponents_pass_unread(world, key):
    """No number is converted: what it stands for is the provider's affair, and it costs nothing here."""
    body = b'{"model":"gpt-4o","x":1e999999999,"y":-0.0e-999999999}'
    assert post(world, key, body).status == 200
    assert world.upstreams["openai"].last.body == body


def test_abuse_12_a_body_over_the_limit(world, key):
    """Refused by its announced length, before a byte of it has come."""
    head = request(CHAT, key, b"", headers=[]).replace(b"Content-Length: 0", b"Content-Length: %d" % (64 << 20))
    with world.connect() as client:
        client.send(head)
        assert client.read_response().status == 413
    assert forwards(world) == 0


@pytest.mark.parametrize("type_", ["text/plain", "application/json; charset=utf-16", "application/json; charset=utf-8; x=y", "application/jsonp",
                                   "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/json, text/plain", ""])
def test_abuse_13_media_types(world, key, type_):
    data = request(CHAT, key, samples.CHAT.body).replace(b"Content-Type: application/json", b"Content-Type: " + type_.encode())
    response = world.exchange(data)
    assert (response.status, forwards(world)) == (415, 0)


@pytest.mark.parametrize("coding", ["gzip", "zstd", "br", "deflate", "x-gzip", "identity, gzip", "gzip, identity", "aes128gcm"])
def test_abuse_13_encoded_bodies(world, key, coding):
    response = post(world, key, samples.CHAT.body, headers=[("Content-Encoding", coding)])
    assert (response.status, response.error, forwards(world)) == (415, "unsupported_encoding", 0)


def test_abuse_13_two_types_or_codings(world, key):
    for field in (("Content-Type", "text/plain"), ("Content-Type", "application/json")):
        response = post(world, key, samples.CHAT.body, headers=[field])
        assert (response.status, forwards(world)) == (400, 0)
    response = post(world, key, samples.CHAT.body, headers=[("Content-Encoding", "identity"), ("Content-Encoding", "gzip")])
    assert (response.status, forwards(world)) == (400, 0)


# ---- 14-18: credentials, fields, addresses

def with_fields(key_fields, sample=samples.CHAT):
    return request(sample.target, None, sample.body, headers=key_fields)


def test_abuse_14_two_different_credentials(world, key):
    """Refused as a bad key is, so that nothing can be learnt from it."""
    other = world.fresh_key("openai")[1]
    for fields in ([("Authorization", f"Bearer {key}"), ("x-api-key", other)], [("x-api-key", other), ("Authorization", f"Bearer {key}")],
                   [("Authorization", f"Bearer {key}"), ("Authorization", f"Bearer {other}")],
                   [("Authorization", f"Bearer {key}"), ("Authorization", "Basic eDp5")], [("x-api-key", key), ("x-api-key", other)],
                   [("Authorization", f"Bearer {key}"), ("api-key", "")], [("x-goog-api-key", key), ("Authorization", f"Bearer {SECRETS['openai']}")],
                   [("Authorization", f"Bearer {key}, Bearer {other}")], [("Authorization", f"Bearer {key}"), ("x-api-key", key[:-1])]):
        response = world.exchange(with_fields(fields))
        assert (response.status, response.error, forwards(world)) == (401, "invalid_api_key", 0), fields


def test_abuse_14_equal_credentials(world, key):
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    for fields in ([("Authorization", f"Bearer {key}"), ("x-api-key", key)], [("Authorization", f"Bearer {key}")] * 2,
                   [("x-goog-api-key", key), ("api-key", key), ("Authorization", f"bearer {key}")]):
        assert world.exchange(with_fields(fields)).status == 200
        carriers = [n for n, _ in world.upstreams["openai"].last.headers if n.lower() in ("authorization", "x-api-key", "api-key", "x-goog-api-key")]
        assert carriers == ["Authorization"]


@pytest.mark.parametrize("value", ["Bearer  {}", "Bearer\t{}", "{}", "Basic {}", "Bearer", "Bearer ", "Bearer {} ,", "Bearer={}",
                                   "Token {}", "\"Bearer {}\""])
def test_abuse_14_other_spellings_of_the_scheme(world, key, value):
    response = world.exchange(with_fields([("Authorization", value.format(key))]))
    assert (response.status, forwards(world)) == (401, 0)


@pytest.mark.parametrize("target", ["/v1/chat/completions?key={}", "/v1/messages?key={}", "/anthropic/v1/messages?key={}", "/v1/models?key={}",
                                    "/v1/chat/completions?api_key={}", "/v1/chat/completions?api-key={}", "/v1/chat/completions?access_token={}",
                                    "/v1beta/models/gemini-2.5-flash:generateContent?api_key={}"])
def test_abuse_15_keys_in_queries_of_other_dialects(world, target):
    """Refused, not echoed and not logged: a key in a URL stands in every trace on the way."""
    key = world.keys.get("of-all") or world.key("of-all", "openai", "anthropic", "gemini")
    method = "GET" if target.startswith("/v1/models") else "POST"
    response = world.exchange(request(target.format(key), None, b"" if method == "GET" else samples.CHAT.body, method=method), method=method)
    assert response.status == 401 and forwards(world) == 0
    assert key.encode() not in response.head + response.body
    assert key not in world.daemon.err.read_text()


def test_abuse_15_a_good_key_does_not_excuse_one_in_the_query(world, key):
    response = post(world, key, samples.CHAT.body, f"{CHAT}?key={key}")
    assert (response.status, forwards(world)) == (401, 0)


@pytest.mark.parametrize("options", ["authorization", "authorization, x-api-key, host, content-length", "close, Authorization",
                                     "x-chaperone-request-id, accept-encoding"])
def test_abuse_16_connection_names_end_to_end_fields(world, key, options):
    """What the client names goes; what we write stays: one credential, one length, one host."""
    response = post(world, key, samples.CHAT.body, headers=[("Connection", options)])
    assert response.status == 200
    sent = world.upstreams["openai"].last
    assert sent.get("authorization") == f"Bearer {SECRETS['openai']}" and sent.get("content-length") == str(len(samples.CHAT.body))
    assert sent.get("host") and sent.get("accept-encoding") == "identity" and not sent.all("connection")


DROPPED = ["OpenAI-Organization", "openai-project", "x-goog-user-project", "X-Forwarded-For", "X-Forwarded-Proto",
           "X-Forwarded-Client-Cert", "Forwarded",
           "Via", "Cookie", "Proxy-Authorization", "Proxy-Connection", "Proxy-Anything", "x-portkey-api-key", "x-portkey-config", "x-litellm-api-key",
           "x-litellm-tags", "Helicone-Auth", "anthropic-workspace-id", "X-HTTP-Method-Override", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP",
           "X-Client-IP", "x-goog-fieldmask", "TE", "Trailer", "Keep-Alive", "HTTP2-Settings", "Sec-WebSocket-Protocol",
           "x-chaperone-key", "under_score"]


@pytest.mark.parametrize("name", DROPPED)
def test_abuse_17_fields_that_stay_here(world, key, name):
    response = post(world, key, samples.CHAT.body, headers=[(name, "STOWAWAY-value"), (name.lower(), "STOWAWAY-value"),
                                                            (name.upper(), "STOWAWAY-value")])
    assert response.status == 200
    assert b"STOWAWAY" not in world.upstreams["openai"].last.head


def test_abuse_18_members_that_other_gateways_obey(world, key):
    """Addresses, keys and fields in the body are the model's text as far as we are concerned: forwarded byte for byte, never obeyed."""
    trap = Upstream(reply(answer(b"{}")))
    url = f"http://127.0.0.1:{trap.port}"
    body = json.dumps({"model": "gpt-4o", "api_base": url, "base_url": url, "api_key": "sk-other", "extra_headers": {"Authorization": "Bearer x"},
                       "litellm_embedding_config": {"api_base": url}, "metadata": {"base_url": url}, "webhook": url, "callback_url": url,
                       "provider": {"order": ["evil"], "base_url": url}, "host": url, "resourceName": "evil#"}).encode()
    for fields in ([], [("x-base-url", url), ("x-upstream", url), ("x-target-url", url), ("azure-endpoint", url)]):
        assert post(world, key, body, headers=fields).status == 200
        sent = world.upstreams["openai"].last
        assert sent.body == body and sent.get("authorization") == f"Bearer {SECRETS['openai']}"
    assert not trap.connections
    trap.close()


# ---- 19-24: providers

@pytest.mark.parametrize("value", [b"Bearer " + SECRET, SECRET, SECRET * 3, b"x" + SECRET + b"y", SECRET[:20] + SECRET])
@pytest.mark.parametrize("name", [b"X-Echo", b"Authorization", b"x-api-key", b"Content-Type", b"Retry-After", b"ETag"])
def test_abuse_19_reflected_credentials_in_fields(world, key, name, value):
    data = b"HTTP/1.1 200 OK\r\n" + name + b": " + value + b"\r\nContent-Length: 2\r\n\r\n{}"
    world.upstreams["openai"].script = reply(data)
    response = world.exchange(ask(samples.CHAT, key))
    assert SECRET not in response.head + response.body


def test_abuse_19_reflected_credential_as_a_field_name(world, key):
    world.upstreams["openai"].script = reply(b"HTTP/1.1 200 OK\r\n" + SECRET + b": 1\r\nContent-Length: 2\r\n\r\n{}")
    response = world.exchange(ask(samples.CHAT, key))
    assert SECRET not in response.head + response.body


def test_abuse_19_reflected_credential_in_trailers_and_extensions(world, key):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: X-Key\r\n\r\n"
    for body in (b"2;key=" + SECRET + b"\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\nX-Key: " + SECRET + b"\r\n\r\n"):
        for script in (reply(head + body), reply_drip(head + body, 7)):
            world.upstreams["openai"].script = script
            response = world.exchange(ask(samples.CHAT, key))
            assert response.status == 200 and SECRET not in response.head + response.body


def test_abuse_19_masked_text_of_a_401(world, key):
    body = b'{"error":{"message":"Incorrect API key provided: sk-proj-****************************1Yf. You can find your API key at https://x"}}'
    world.upstreams["openai"].script = reply(answer(body, "401 Unauthorized", [("WWW-Authenticate", 'Bearer realm="sk-proj-***1Yf"')]))
    response = world.exchange(ask(samples.CHAT, key))
    assert (response.status, response.error) == (502, "provider_credential_rejected")
    assert b"1Yf" not in response.head + response.body


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308, 399])
def test_abuse_20_redirects(world, key, status):
    """To the same host, to another, in the clear: 502, no second connection, and the address is not told to the client."""
    trap = Upstream(reply(answer(b"{}")))
    upstream = world.upstreams["openai"]
    for location in (f"http://127.0.0.1:{upstream.port}/v1/other", f"http://127.0.0.1:{trap.port}/", "https://evil.example/",
                     "//evil.example/", "/v1/other"):
        upstream.forget()
        upstream.script = reply(answer(b"moved to STOWAWAY", f"{status} Moved", [("Location", location), ("Refresh", f"0; url={location}")]))
        response = world.exchange(ask(samples.CHAT, key))
        assert (response.status, response.error) == (502, "upstream_redirect")
        assert b"STOWAWAY" not in response.body and response.get("location") is None and response.get("refresh") is None
        assert len(upstream.requests) == 1
    assert not trap.connections
    trap.close()


def test_abuse_21_account_fields_of_answers(world, key):
    fields = [("Set-Cookie", "a=STOWAWAY"), ("Set-Cookie2", "a=STOWAWAY"), ("openai-organization", "STOWAWAY"), ("OpenAI-Project", "STOWAWAY"),
              ("anthropic-organization-id", "STOWAWAY"), ("anthropic-workspace-id", "STOWAWAY"), ("x-chaperone-request-id", "req_STOWAWAY"),
              ("x-chaperone-error", "STOWAWAY"), ("Location", "https://STOWAWAY"), ("Proxy-Authenticate", "STOWAWAY"), ("Keep-Alive", "STOWAWAY"),
              ("Upgrade", "STOWAWAY"), ("Trailer", "STOWAWAY")]
    world.upstreams["openai"].script = reply(answer(samples.CHAT.answer, headers=fields))
    response = world.exchange(ask(samples.CHAT, key))
    assert response.status == 200 and b"STOWAWAY" not in response.head
    assert response.request_id.startswith("req_")


@pytest.mark.parametrize("data", [
    b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 200 OK\r\nX: a\nb: c\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\n{}", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 000 No\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 099 No\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 600 No\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200OK\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"\r\n\r\n\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"<html>\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500])
def test_abuse_22_hostile_answers(world, key, data):
    """One answer of ours, no byte of theirs, and the connection is never used again."""

    def script(connection, _):
        try:
            connection.send(data)
        except OSError:
            return
        connection.wait_gone(5)

    upstream = world.upstreams["openai"]
    upstream.script = script
    response = world.exchange(ask(samples.CHAT, key))
    assert response.status == 502 and response.error
    assert upstream.last.connection.gone.wait(5) and len(upstream.requests) == 1


def stream_row(world, events, sample=samples.CHAT_STREAM_ASKED):
    name, key = world.fresh_key(sample.dialect)
    response, _ = world.send_sample(sample, key, reply(chunked(events)))
    assert response.status == 200 and response.body == b"".join(events), "a stream crosses as it is, whatever it says"
    (row,) = world.rows_of(name)
    return row


def usage_event(**usage):
    return samples.chat_chunk(usage={**samples.CHAT_USAGE, **usage})


def test_abuse_23_the_last_valid_usage_counts(world):
    small = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "prompt_tokens_details": None, "completion_tokens_details": None}
    row = stream_row(world, [*samples.CHAT_DELTAS, samples.chat_chunk(usage=small), samples.CHAT_USAGE_EVENT, samples.DONE])
    assert {field: row[field] for field in samples.CHAT_ROW} == samples.CHAT_ROW


@pytest.mark.parametrize("usage", [b'{"prompt_tokens":-5,"completion_tokens":-1}', b'{"prompt_tokens":1e30,"completion_tokens":1}',
                                   b'{"prompt_tokens":1.5}',
                                   b'{"prompt_tokens":"2006","completion_tokens":"300"}', b"[]", b'"x"', b"7", b"{}"])
def test_abuse_23_hostile_usage_in_a_stream(world, usage):
    """Never zero, never negative, never absurd: what is not usage is estimated."""
    event = b'data: {"id":"c","model":"gpt-4o","choices":[],"usage":' + usage + b"}\n\n"
    row = stream_row(world, [*samples.CHAT_DELTAS, event, samples.DONE])
    assert row["grade"] in ("estimated", "partial") and 0 < row["cost_nano_usd"] < 10**9
    assert all(0 <= row[field] < 10**6 for field in ("input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens"))


def test_abuse_23_text_that_looks_like_usage(world):
    lie = samples.chat_chunk({"content": 'data: {"usage":{"prompt_tokens":1}}\n\nusage: {"prompt_tokens":1}'}, usage=None)
    row = stream_row(world, [lie, b": usage {\"prompt_tokens\":1}\n\n", b"event: usage\ndata: {}\n\n", *samples.CHAT_DELTAS,
                             samples.CHAT_USAGE_EVENT, samples.DONE])
    assert {field: row[field] for field in samples.CHAT_ROW} == samples.CHAT_ROW


def test_abuse_23_events_behind_done(world):
    """They cross as they are; what they state is still the provider's statement."""
    row = stream_row(world, [*samples.CHAT_DELTAS, samples.DONE, samples.CHAT_USAGE_EVENT, b"data: more\n\n"])
    assert {field: row[field] for field in samples.CHAT_ROW} == samples.CHAT_ROW


def test_abuse_23_byte_order_mark(world):
    row = stream_row(world, [b"\xef\xbb\xbf" + samples.CHAT_DELTAS[0], *samples.CHAT_DELTAS[1:], samples.CHAT_USAGE_EVENT, samples.DONE])
    assert {field: row[field] for field in samples.CHAT_ROW} == samples.CHAT_ROW


def test_abuse_23_explicit_zero_stays_zero(world):
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "prompt_tokens_details": None, "completion_tokens_details": None}
    row = stream_row(world, [*samples.CHAT_DELTAS, samples.chat_chunk(usage=zero), samples.DONE])
    assert (row["grade"], row["cost_nano_usd"]) == ("exact", 0)


# ---- 27-31: surfaces, other tenants, administration

UNMETERED = [("GET", "/v1/files"), ("POST", "/v1/files"), ("GET", "/v1/files/file-1/content"), ("DELETE", "/v1/files/file-1"),
             ("POST", "/v1/batches"),
             ("GET", "/v1/batches/b"), ("POST", "/v1/fine_tuning/jobs"), ("POST", "/v1/assistants"), ("POST", "/v1/threads"),
             ("GET", "/v1/threads/t/messages"),
             ("GET", "/v1/realtime?model=gpt-4o-realtime"), ("POST", "/v1/realtime/sessions"), ("POST", "/v1/uploads"), ("GET", "/v1/vector_stores"),
             ("GET", "/v1/organization/costs"), ("GET", "/v1/organization/admin_api_keys"), ("GET", "/v1/responses/resp_1"),
             ("DELETE", "/v1/responses/resp_1"),
             ("POST", "/v1/responses/resp_1/cancel"), ("GET", "/v1/responses/resp_1/input_items"),
             ("GET", "/v1/chat/completions/c"), ("GET", "/v1/conversations"),
             ("POST", "/v1/conversations"), ("POST", "/v1/messages/batches"), ("GET", "/v1/messages/batches/b/results"), ("POST", "/v1/skills"),
             ("POST", "/v1beta/cachedContents"), ("GET", "/v1beta/files"), ("POST", "/upload/v1beta/files"),
             ("POST", "/v1beta/tunedModels"), ("GET", "/v1beta/operations"),
             ("POST", "/v1beta/models/m:predict"), ("POST", "/v1beta/models/m:batchGenerateContent"), ("GET", "/v1beta/models/m/operations"),
             ("GET", "/admin"), ("GET", "/metrics"), ("GET", "/debug/pprof"), ("GET", "/chaperone/v1/keys"),
             ("POST", "/chaperone/v1/key"), ("GET", "/key/info")]


@pytest.mark.parametrize("method, target", UNMETERED)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_abuse_27_surfaces_that_cannot_be_metered(world, method, target, provider):
    """Denied by default, and so is every object that another tenant of the same account may own (28)."""
    key = world.keys.get(f"surface-{provider}") or world.key(f"surface-{provider}", provider)
    body = b'{"model":"gpt-4o"}' if method == "POST" else b""
    response = world.exchange(request(target, key, body, method=method, carrier=samples.CARRIER[provider]), method=method)
    assert response.status in (404, 405) and response.error and forwards(world) == 0


def test_abuse_28_idempotency_keys_of_two_tenants_do_not_meet(world):
    seen = set()
    for _ in range(2):
        _, key = world.fresh_key("openai")
        for _ in range(2):
            assert post(world, key, samples.CHAT.body, headers=[("Idempotency-Key", "order-17")]).status == 200
            value = world.upstreams["openai"].last.get("idempotency-key")
            assert value.endswith("order-17") and value != "order-17"
        seen.add(value)
    assert len(seen) == 2, "one value a tenant, another for the next"


def test_abuse_29_revocation_in_the_middle_of_a_stream(world):
    """New requests are refused at once; the stream under way may finish, and is accounted."""
    name, key = world.fresh_key("openai")
    sample, data = samples.CHAT_STREAM_ASKED, wire(samples.CHAT_STREAM_ASKED)
    revoked = []

    def script(connection, _):
        connection.send(data[:500])
        deadline = time.monotonic() + 10
        while not revoked and time.monotonic() < deadline:
            time.sleep(0.01)
        connection.send(data[500:])

    world.upstreams["openai"].script = script
    with world.connect() as client:
        client.send(ask(sample, key))
        client.take_until(b"\r\n\r\n")
        world.cli("key", "revoke", name, "--yes")
        for _ in range(8):
            assert world.exchange(ask(samples.CHAT, key)).status == 401
        assert forwards(world) == 1
        revoked.append(True)
        assert client.take_until(b"0\r\n\r\n").endswith(samples.DONE + b"\r\n0\r\n\r\n")
    (row,) = [row for row in world.rows_of(name) if row["status"] == 200]
    assert row["cost_nano_usd"] == samples.cost(1)


CONTROLS = ["a\r\nb", "a\nb", "a\tb", "a\x1b[31mb", "a\x07", "a\x7f", "a\u0085b", "a\u202eb", "a\u2066b", "a\u200fb", "a\u2028b"]


ODD = ["<script>alert(1)</script>", '=HYPERLINK("http://evil")', "@SUM(A1)", "a\"b'c", "a,b;c", "Grüße 👋", "%s%n", "'; DROP TABLE keys; --", "\\n"]


def refuse_label(world, option, text):
    """A refusal that is short, repeats nothing, and leaves no key behind."""
    done = world.cli("key", "create", "refused-label", "--provider", "openai", option, text, check=False)
    assert done.returncode == 2 and done.stdout == "", done
    assert text not in done.stderr and "\x1b" not in done.stderr and len(done.stderr) < 1000


@pytest.fixture(scope="module")
def no_label(shared_world):
    yield shared_world
    assert shared_world.cli("key", "show", "refused-label", check=False).returncode == 3, "a refused label made a key"


@pytest.mark.parametrize("text", [*CONTROLS, *ODD, "a b", "t" * 65, "t" * 100_000], ids=lambda text: text[:12].encode("unicode_escape").decode())
def test_abuse_30_teams_have_a_small_alphabet(no_label, text):
    """Team, project, env and service are names, 1-64 of letters, digits and a few marks, so no place that shows them needs care."""
    refuse_label(no_label, "--team", text)


@pytest.mark.parametrize("option", ["--project", "--env", "--service"])
def test_abuse_30_other_labels_have_it_too(no_label, option):
    refuse_label(no_label, option, "a\x1b[31m\r\nb")


@pytest.mark.parametrize("tag", [*[f"k={text}" for text in CONTROLS + ODD], "k\n=v", "k\x1b=v", "k=\u202ev", "k=" + "v" * 129, "k=" + "v" * 100_000],
                         ids=lambda text: text[:12].encode("unicode_escape").decode())
def test_abuse_30_tags_have_one_as_well(no_label, tag):
    refuse_label(no_label, "--tag", tag)


def test_abuse_30_reasons_are_clean_text(world):
    """A reason is free text without control characters, and comes back as it is."""
    name, _ = world.fresh_key("openai")
    for reason in CONTROLS[::3]:
        assert world.cli("key", "revoke", name, "--yes", "--reason", reason, check=False).returncode == 2
    assert json.loads(world.cli("key", "show", name, "-o", "json").stdout)["status"] == "active"
    reason = " ".join(ODD)
    world.cli("key", "revoke", name, "--yes", "--reason", reason)
    assert json.loads(world.cli("key", "show", name, "-o", "json").stdout)["revoke_reason"] == reason
    assert len(world.cli("key", "show", name, "-o", "tsv").stdout.splitlines()) == 2


def test_abuse_30_control_characters_in_requests_stay_out_of_the_log(world, key):
    """Fields of requests reach rows and log lines escaped or not at all."""
    agent = "agent\x80\x9b31m\xff"
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    world.exchange(ask(samples.CHAT, key, [("User-Agent", agent), ("X-Request-Id", "a\x9b31m")]))
    post(world, key, b'{"model":"gpt-4o\\u001b[31m\\nevent=forged"}')
    log = world.daemon.err.read_bytes()
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|[^\xc2-\xef\x80-\xbf]\x9b", log)
    assert not [line for line in log.splitlines() if line.startswith(b"event=forged")]


def test_abuse_31_keys_on_the_wrong_side(world, key):
    """A provider's key is no wrapped key, however it is carried, and is never repeated to whoever sent it."""
    for name, secret in SECRETS.items():
        for carrier in ("authorization", "x-api-key", "x-goog-api-key", "api-key"):
            response = world.exchange(request(samples.CHAT.target, secret, samples.CHAT.body, carrier=carrier))
            assert response.status == 401 and secret.encode() not in response.head + response.body, name
        assert secret not in world.daemon.err.read_text()
    assert forwards(world) == 0


def test_abuse_31_wrapped_key_on_the_admin_socket(world, key):
    """The admin socket speaks no proxy, and a wrapped key opens nothing there."""
    client = RawClient.__new__(RawClient)
    client.sock, client.pending = socket.socket(socket.AF_UNIX), bytearray()
    client.sock.settimeout(10)
    client.sock.connect(str(world.folder / "chaperone.sock"))
    client.send(ask(samples.CHAT, key))
    try:
        response = client.read_response()
        assert response.status >= 400 and key.encode() not in response.head + response.body
    except Closed as closed:
        assert key.encode() not in closed.partial
    client.close()
    assert forwards(world) == 0 and key not in world.daemon.err.read_text()


@pytest.mark.parametrize("target", ["/v1/admin/keys", "/chaperone/v1/keys", "/chaperone/v1/admin", "/key.create", "/"])
def test_abuse_31_administration_is_not_on_the_proxy_port(world, key, target):
    for token in (key, None, "admin"):
        response = world.exchange(request(target, token, b'{"operation":"key.list"}'))
        assert response.status in (401, 404, 405) and b"providers" not in response.body
    assert forwards(world) == 0
