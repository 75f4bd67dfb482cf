# SPDX-License-Identifier: Apache-2.0
"""The provider's key leaves in one place only: the request to that provider."""
import base64
import json
import time

import pytest

from harness.world import SECRETS, ask, wire
from harness import samples
from harness.client import Closed, request
from harness.process import is_sanitized
from harness.upstream import Upstream, answer, chunked, reply, reply_drip, reply_split

SECRET = SECRETS["openai"].encode()


def outcome(world, key, script, sample=samples.CHAT):
    """Everything the client receives, heads included."""
    world.upstreams["openai"].script = script
    with world.connect() as client:
        client.send(ask(sample, key))
        try:
            response = client.read_response()
            return response.head + response.body
        except Closed as closed:
            return closed.partial


def test_echo_in_the_body_is_replaced_at_every_split(world):
    _, key = world.fresh_key("openai")
    data = answer(b'{"error":{"message":"Incorrect API key provided: ' + SECRET + b'."}}', "400 Bad Request")
    for at in range(1, len(data)):
        seen = outcome(world, key, reply_split(data, at, 0.001))
        assert SECRET not in seen and b"Incorrect API key provided: " in seen, at
    assert SECRET not in outcome(world, key, reply_drip(data))


def test_echo_in_a_stream_is_replaced_at_every_split(world):
    _, key = world.fresh_key("openai")
    event = samples.chat_chunk({"content": "your key is " + SECRETS["openai"] + " " + SECRETS["openai"]})
    data = chunked([event, samples.DONE])
    for at in range(1, len(data)):
        seen = outcome(world, key, reply_split(data, at, 0.001), samples.CHAT_STREAM_ASKED)
        assert SECRET not in seen and seen.endswith(samples.DONE), at
    for size in (1, 5, len(SECRET)):
        parts = [event[at:at + size] for at in range(0, len(event), size)] + [samples.DONE]
        seen = outcome(world, key, reply(chunked(parts)), samples.CHAT_STREAM_ASKED)
        assert SECRET not in seen and seen.endswith(samples.DONE)


def test_near_echo_passes_untouched(world):
    """Only the exact credential is replaced; everything that merely begins like it stays byte for byte."""
    _, key = world.fresh_key("openai")
    body = b'{"a":"' + SECRET[:-1] + b'","b":"' + SECRET[:10] * 3 + b'","c":"' + SECRET[1:] + b'","d":"' + SECRET[:-1]
    for size in (1, 3, 16, 1000):
        seen = outcome(world, key, reply_drip(answer(body), size))
        assert seen.endswith(body)


def test_echo_in_headers_is_not_passed(world):
    _, key = world.fresh_key("openai")
    for name in ("X-Echo", "www-authenticate", "x-request-id"):
        data = answer(b"{}", headers=[(name, f"Bearer {SECRETS['openai']}!")])
        assert SECRET not in outcome(world, key, reply(data))
    assert SECRET not in outcome(world, key, reply(b"HTTP/1.1 200 " + SECRET + b"\r\nContent-Length: 2\r\n\r\n{}"))
    assert SECRET not in outcome(world, key, reply(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: " + SECRET + b"\r\n\r\n"))


@pytest.mark.parametrize("name, sample", [("anthropic", samples.MESSAGES), ("gemini", samples.GENERATE)])
def test_echo_in_other_dialects(world, name, sample):
    _, key = world.fresh_key(name)
    body = b'{"echo":"' + SECRETS[name].encode() + b'"}'
    for script in (reply(answer(body)), reply_drip(answer(body))):
        response, _ = world.send_sample(sample, key, script)
        assert SECRETS[name].encode() not in response.body and response.body.startswith(b'{"echo":"')


def test_canaries_are_in_no_sink(make_world):
    """After everything that can go wrong went wrong, no file holds a provider key, a wrapped key's secret or the master key."""
    world = make_world()
    tokens = []
    for sample in samples.SHORT + [samples.CHAT_STREAM, samples.RESPONSES_STREAM]:
        name, key = world.fresh_key(sample.dialect)
        tokens.append(key)
        secret = SECRETS[sample.dialect].encode()
        world.send_sample(sample, key)
        world.send_sample(sample, key, reply(answer(b'{"echo":"' + secret + b'"}', "401 Unauthorized")))
        world.send_sample(sample, key, reply(b"HTTP/1.1 200 " + secret + b"\r\nBad " + secret + b"\r\n\r\n"))
        world.exchange(ask(sample, key + "x"))
        world.exchange(ask(sample, secret.decode()))
        world.exchange(ask(sample, key).replace(b" HTTP/1.1", b"?key=" + key.encode() + b" HTTP/1.1", 1))
        world.cli("key", "show", name, "-o", "json")
    answers = [world.cli(*command).stdout for command in (
        ("key", "list", "-o", "json"), ("provider", "list", "-o", "json"), ("provider", "show", "openai", "-o", "json"),
        ("usage", "list", "-o", "json"), ("status",))]
    world.cli("key", "create", "bad/name", "--provider", "openai", check=False)
    world.stop()
    master = (world.folder / "master.key").read_text().strip()
    needles = [s.encode() for s in SECRETS.values()] + [s[4:20].encode() for s in SECRETS.values()]
    needles += [token[-38:-6].encode() for token in tokens] + [token.encode() for token in tokens]
    needles += [base64.b64encode(s.encode())[:20] for s in SECRETS.values()]
    for raw in (master.encode(), decode(master)):
        needles.append(raw)
    files = [p for p in world.folder.rglob("*") if p.is_file() and p.name != "master.key"]
    assert any(p.name == "chaperone.db" for p in files)
    for path in files:
        content = path.read_bytes()
        for needle in needles:
            assert needle not in content, f"{needle[:12]!r}… stands in {path.name}"
    for text in answers:
        assert not [n for n in needles if n in text.encode()]


def decode(master):
    """The master key as bytes, whatever its spelling."""
    try:
        return bytes.fromhex(master)
    except ValueError:
        return base64.b64decode(master + "=" * (-len(master) % 4))


def memory_of(world):
    """Counts 16-byte windows of provider keys readable in the daemon's writable memory; None where that is not allowed."""
    windows = {s[at:at + 16].encode() for s in SECRETS.values() for at in range(len(s) - 15)}
    found = 0
    try:
        with open(f"/proc/{world.daemon.pid}/maps") as maps, open(f"/proc/{world.daemon.pid}/mem", "rb", 0) as memory:
            for line in maps:
                span, mode = line.split()[:2]
                if "w" not in mode:
                    continue
                start, end = (int(x, 16) for x in span.split("-"))
                if end - start > 1 << 30:
                    continue
                memory.seek(start)
                try:
                    content = memory.read(end - start)
                except OSError:
                    continue
                found += sum(content.count(window) for window in windows)
    except PermissionError:
        return None
    return found


def test_no_credential_in_memory_after_use(make_world):
    """One second after the load the daemon's memory holds no readable part of a provider key."""
    world = make_world(providers=("openai",))
    _, key = world.fresh_key("openai")
    for _ in range(100):
        world.send_sample(samples.CHAT, key)
        world.send_sample(samples.CHAT_STREAM, key)
    world.send_sample(samples.CHAT, key, reply(answer(b'{"echo":"' + SECRET + b'"}')))
    time.sleep(1.2)
    found = memory_of(world)
    assert found is not None, "the tests read the daemon's memory as root"
    # The sanitizer keeps freed stack frames and its own copies; the release build is the one that promises.
    assert found == 0 or is_sanitized(), f"{found} windows"


def test_upstream_cannot_be_chosen_by_the_client(world):
    """Nothing in a request moves the provider's address."""
    _, key = world.fresh_key("openai")
    trap = Upstream(reply(answer(b"{}")))
    url = f"http://127.0.0.1:{trap.port}"
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    body = {"model": "gpt-4o", "api_base": url, "base_url": url, "api_key": "x", "extra_headers": {"Host": "evil"},
            "litellm_embedding_config": {"api_base": url}, "webhook": url}
    fields = [("x-portkey-custom-host", url), ("X-Forwarded-Host", f"127.0.0.1:{trap.port}"), ("x-base-url", url)]
    for host in (f"127.0.0.1:{trap.port}", "api.openai.com", "[::1]"):
        response = world.exchange(request("/v1/chat/completions", key, json.dumps(body).encode(), headers=fields, host=host))
        assert response.status == 200
    assert not trap.connections and len(world.upstreams["openai"].requests) == 3
    assert json.loads(world.upstreams["openai"].last.body) == body
    trap.close()
