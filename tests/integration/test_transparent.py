# SPDX-License-Identifier: Apache-2.0
"""What crosses the proxy crosses unchanged, and what must not cross does not."""
import pytest

from harness.world import BASE, SECRETS, ask, wire
from harness import samples
from harness.client import request
from harness.upstream import answer, chunked, reply

# What a client may send and the provider has to see as it was.
PASSING = [("User-Agent", "openai-python/3.54.0"), ("Accept", "application/json"), ("X-Stainless-Retry-Count", "0"),
           ("x-Odd-cAse", "Stays As It Is;  two  blanks"), ("anthropic-beta", "a-1,b-2"), ("anthropic-version", "2023-06-01"),
           ("X-Latin", "caf\xe9"), ("X-Empty", ""), ("X-Twice", "1"), ("X-Twice", "2"), ("traceparent", "00-ab-cd-01")]
# What never reaches the provider: credentials, hop-by-hop, forwarding, cookies, accounts, other gateways, our own names.
STOPPED = [("Cookie", "session=1"), ("X-Forwarded-For", "10.1.2.3"), ("X-Forwarded-Host", "evil"), ("Forwarded", "for=1.2.3.4"),
           ("Via", "1.1 proxy"), ("X-Real-IP", "10.1.2.3"), ("OpenAI-Organization", "org-1"), ("OpenAI-Project", "proj-1"),
           ("X-Goog-User-Project", "p"), ("Keep-Alive", "timeout=5"), ("Proxy-Authorization", "Basic eDp5"),
           ("Proxy-Connection", "keep-alive"), ("TE", "trailers"), ("x-portkey-custom-host", "http://evil"),
           ("x-litellm-tags", "a"), ("X-Dropped-By-Connection", "1"), ("x-chaperone-anything", "1")]
OURS = {"host", "content-length", "content-type", "authorization", "x-api-key", "x-goog-api-key", "accept-encoding", "connection"}


def others(headers):
    return [(n, v) for n, v in headers if n.lower() not in OURS]


@pytest.mark.parametrize("sample", samples.PLAIN + samples.STREAMS, ids=repr)
def test_request_crosses_unchanged(world, sample):
    _, key = world.fresh_key(sample.dialect)
    headers = PASSING + STOPPED + [("Connection", "X-Dropped-By-Connection, keep-alive"), ("Accept-Encoding", "gzip, br")]
    response, sent = world.send_sample(sample, key, headers=headers)
    assert response.status == 200, response.body
    assert sent.body == sample.body
    # The base's path comes in front; OpenAI's base ends in /v1 itself.
    assert sent.line == f"POST {sample.target} HTTP/1.1"
    assert others(sent.headers) == PASSING
    assert sent.get("accept-encoding") == "identity"
    assert sent.get("content-type") == "application/json"
    assert sent.get("content-length") == str(len(sample.body))
    assert sent.get("host") == f"127.0.0.1:{world.upstreams[sample.dialect].port}"
    assert key.encode() not in sent.head and b"ch_" not in sent.head


@pytest.mark.parametrize("sample", samples.SHORT, ids=repr)
def test_exactly_one_credential_goes_up(world, sample):
    _, key = world.fresh_key(sample.dialect)
    _, sent = world.send_sample(sample, key, headers=[("Connection", "authorization, x-api-key, x-goog-api-key")])
    carriers = [(n.lower(), v) for n, v in sent.headers
                if n.lower() in ("authorization", "x-api-key", "x-goog-api-key", "api-key")]
    secret = SECRETS[sample.dialect]
    expected = {"openai": ("authorization", f"Bearer {secret}"), "anthropic": ("x-api-key", secret),
                "gemini": ("x-goog-api-key", secret)}[sample.dialect]
    assert carriers == [expected]


@pytest.mark.parametrize("version, carrier", [("2023-06-01", "x-api-key"), ("2026-10-21", "authorization")])
def test_anthropic_credential_follows_the_version(world, version, carrier):
    _, key = world.fresh_key("anthropic")
    _, sent = world.send_sample(samples.MESSAGES, key, headers=[("anthropic-version", version)])
    assert [n.lower() for n, _ in sent.headers if n.lower() in ("authorization", "x-api-key")] == [carrier]
    assert sent.get(carrier).removeprefix("Bearer ") == SECRETS["anthropic"]


@pytest.mark.parametrize("sample", samples.PLAIN + samples.STREAMS, ids=repr)
def test_answer_crosses_unchanged(world, sample):
    _, key = world.fresh_key(sample.dialect)
    headers = [("x-request-id", "up-77"), ("X-Odd-cAse", "a;  b"), ("x-ratelimit-remaining-tokens", "7"), ("X-Twice", "1"),
               ("X-Twice", "2"), ("Date", "Sat, 21 Nov 2026 20:00:00 GMT"), ("cf-ray", "1"), ("X-Latin", "caf\xe9")]
    dropped = [("Set-Cookie", "a=b"), ("openai-organization", "org-1"), ("anthropic-organization-id", "o-1"),
               ("Keep-Alive", "timeout=9"), ("Connection", "X-Gone"), ("X-Gone", "1")]
    if sample.is_stream:
        data = chunked(sample.parts, headers=headers + dropped, content_type=sample.content_type)
    else:
        data = answer(sample.answer, headers=headers + dropped, content_type=sample.content_type)
    response, _ = world.send_sample(sample, key, reply(data))
    assert response.status == 200
    assert response.body == sample.answer and not response.truncated
    assert response.get("content-type") == sample.content_type
    seen = [(n, v) for n, v in response.headers
            if n.lower() not in ("content-type", "content-length", "transfer-encoding", "connection", "x-chaperone-request-id")]
    assert seen == headers
    assert response.request_id.startswith("req_")


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "422 Unprocessable", "429 Too Many Requests",
                                    "500 Internal Server Error", "503 Overloaded Now", "529 Overloaded"])
@pytest.mark.parametrize("sample", [samples.CHAT, samples.MESSAGES, samples.GENERATE], ids=repr)
def test_provider_errors_cross_unchanged(world, sample, status):
    _, key = world.fresh_key(sample.dialect)
    body = b'{"error": {"message":"no \\u00e9","type":"x","code":null }}\n'
    headers = [("retry-after", "7"), ("x-should-retry", "true")]
    response, _ = world.send_sample(sample, key, reply(answer(body, status, headers)))
    assert response.status == int(status[:3]) and response.body == body
    assert (response.get("retry-after"), response.get("x-should-retry")) == ("7", "true")
    assert response.error is None


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_rejected_credential_is_not_the_callers_fault(world, status):
    """The provider's 401 is about our credential: the caller must not believe its own key is bad."""
    _, key = world.fresh_key("openai")
    body = b'{"error":{"message":"Incorrect API key provided: sk-proj-*****1Yf","code":"invalid_api_key"}}'
    response, _ = world.send_sample(samples.CHAT, key, reply(answer(body, status)))
    if status.startswith("401"):
        assert (response.status, response.error) == (502, "provider_credential_rejected")
        assert b"sk-proj" not in response.body
    else:
        assert (response.status, response.body) == (403, body)


def test_bare_answer_to_close_is_reframed(world):
    """An answer that ends with the connection reaches the client whole and framed."""
    _, key = world.fresh_key("openai")

    def script(connection, _):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + samples.CHAT.answer)
        connection.close()

    response, _ = world.send_sample(samples.CHAT, key, script)
    assert response.body == samples.CHAT.answer
    assert response.get("transfer-encoding") == "chunked" or response.get("connection") == "close"


def test_large_body_crosses_unchanged(world):
    """Several MiB both ways, the model member last."""
    _, key = world.fresh_key("openai")
    image = b"QUJD" * (1 << 20)
    body = b'{"messages":[{"role":"user","content":"' + image + b'"}],"model":"gpt-4o"}'
    upstream = world.upstreams["openai"]
    upstream.script = reply(answer(body))
    response = world.exchange(request("/v1/chat/completions", key, body), timeout=60)
    assert upstream.last.body == body
    assert response.body == body


@pytest.mark.parametrize("target", ["/v1/models", "/openai/v1/models", "/v1/models/gpt-4o", "/v1/models?after=a%20b&limit=2"])
def test_listing_passes_path_and_query(world, target):
    _, key = world.fresh_key("openai")
    upstream = world.upstreams["openai"]
    upstream.script = reply(answer(b'{"object":"list","data":[]}'))
    response = world.exchange(request(target, key, method="GET"), method="GET")
    assert (response.status, response.body) == (200, b'{"object":"list","data":[]}')
    assert upstream.last.line == f"GET {target.removeprefix('/openai')} HTTP/1.1"
    assert upstream.last.body == b"" and not upstream.last.all("content-length")


@pytest.mark.parametrize("provider, target, up", [
    ("openai", "/openai/v1/chat/completions", "/v1/chat/completions"),
    ("openai", "/v1/chat/completions", "/v1/chat/completions"),
    ("openai", "/chat/completions", "/v1/chat/completions"),
    ("anthropic", "/anthropic/v1/messages", "/v1/messages"),
    ("anthropic", "/anthropic/messages", "/v1/messages"),
    ("anthropic", "/messages", "/v1/messages"),
    ("anthropic", "/v1/messages?beta=true", "/v1/messages?beta=true"),
    ("gemini", "/gemini/v1beta/models/gemini-2.5-flash:generateContent", "/v1beta/models/gemini-2.5-flash:generateContent"),
    ("gemini", "/v1/models/gemini-2.5-flash%3AgenerateContent", "/v1/models/gemini-2.5-flash%3AgenerateContent"),
])
def test_base_urls(world, provider, target, up):
    _, key = world.fresh_key(provider)
    sample = {"openai": samples.CHAT, "anthropic": samples.MESSAGES, "gemini": samples.GENERATE}[provider]
    upstream = world.upstreams[provider]
    upstream.script = reply(wire(sample))
    response = world.exchange(request(target, key, sample.body))
    assert (response.status, response.body) == (200, sample.answer)
    assert upstream.last.target == up
    assert BASE[provider] in upstream.last.target


def test_http_over_tls_is_the_same(world):
    for sample in samples.SHORT:
        _, key = world.fresh_key(sample.dialect)
        response, sent = world.send_sample(sample, key, tls=True)
        assert (response.status, response.body, sent.body) == (200, sample.answer, sample.body)


def test_ask_is_what_a_client_sends():
    """The helper itself: one head, the body behind it."""
    data = ask(samples.MESSAGES, "K")
    assert data.count(b"\r\n\r\n") == 1 and data.endswith(samples.MESSAGES.body) and b"x-api-key: K\r\n" in data
