# SPDX-License-Identifier: Apache-2.0
"""Properties that no single case shows: over many random requests, nothing leads elsewhere, asks the database or mixes."""
import json
import random
import re
import struct
import threading
import time

import pytest

from harness import samples
from harness.client import Closed, RawClient, request
from harness.preload import Preload
from harness.process import wait_until
from harness.upstream import Upstream, answer, chunked, reply
from harness.world import World

SEED = 20261122


# ---- T8: the upstream is a function of route and configuration

def mutations(trap, rng):
    """(target, fields, body, host) of one request that tries to lead elsewhere."""
    url = f"http://127.0.0.1:{trap.port}"
    authority = f"127.0.0.1:{trap.port}"
    targets = ["/v1/chat/completions", "/v1/chat/completions?api_base=" + url, "/openai/v1/chat/completions", url + "/v1/chat/completions",
               "//" + authority + "/v1/chat/completions", "/v1/chat/completions/../../" + authority, "/v1/chat/completions#@" + authority,
               "/v1/chat/completions?resourceName=evil%23", "/anthropic/../v1/chat/completions", "/\\" + authority, "/v1/models@" + authority]
    names = ["x-portkey-custom-host", "x-portkey-config", "x-litellm-api-base", "X-Forwarded-Host", "Forwarded", "x-base-url", "api-base",
             "x-goog-upload-url", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "Helicone-Target-URL", "Location", "Origin",
             "Referer", "Proxy-Connection", "X-Upstream", "OpenAI-Organization", "x-host", "cf-aig-target"]
    members = ["api_base", "base_url", "baseURL", "api_key", "extra_headers", "webhook", "endpoint", "provider", "custom_llm_provider", "proxies",
               "litellm_embedding_config", "metadata", "model_list", "fallbacks", "organization", "host"]
    values = [url, url + "/v1", {"api_base": url}, [url], {"url": url, "headers": {"Host": authority}}]
    body = {"model": rng.choice(["gpt-4o", "gpt-4o-mini", url, f"openai/{url}", "gpt-4o@" + authority]), "messages": []}
    body.update({rng.choice(members): rng.choice(values) for _ in range(rng.randrange(4))})
    fields = [(rng.choice(names), rng.choice([url, authority, json.dumps({"custom_host": url})])) for _ in range(rng.randrange(4))]
    return rng.choice(targets), fields, json.dumps(body).encode(), rng.choice(["127.0.0.1", authority, "api.openai.com", "localhost"])


def test_two_thousand_requests_reach_no_other_upstream(world):
    _, key = world.fresh_key("openai")
    trap, rng = Upstream(reply(answer(b"{}"))), random.Random(SEED)
    upstream = world.upstreams["openai"]
    upstream.script = reply(answer(b"{}"))
    statuses = {}
    for _ in range(2000):
        target, fields, body, host = mutations(trap, rng)
        try:
            response = world.exchange(request(target, key, body, headers=fields, host=host))
        except Closed:
            continue
        statuses[response.status] = statuses.get(response.status, 0) + 1
    assert not trap.connections, "somebody was led elsewhere"
    assert statuses.get(200, 0) > 100 and set(statuses) <= {200, 400, 401, 403, 404, 405}, statuses
    assert len(upstream.requests) == statuses[200]
    for sent in upstream.requests:
        assert sent.get("host") == f"127.0.0.1:{upstream.port}" and sent.target.startswith("/v1/chat/completions")
    trap.close()


# ---- T11: what is no key is never looked up

@pytest.fixture
def counted(tmp_path, certificates):
    """A world whose daemon counts its SQL statements."""
    count = Preload(tmp_path, "count_sql", 8, "-D_GNU_SOURCE", "-ldl")
    world = World(tmp_path / "w", certificates, providers=("openai",))
    world.stop()
    world.start(environment=count.environment())
    world.statements = lambda: struct.unpack("<q", count.page[:])[0]
    yield world
    world.close()


def quiet(world):
    """The count once nothing adds to it."""
    seen = [-1]

    def is_still():
        before, seen[0] = seen[0], world.statements()
        return before == seen[0]

    wait_until(is_still, 15, "the store at rest", every=0.5)
    return seen[0]


def malformed(rng, good):
    """A token that is none: its shape, alphabet or checksum is wrong."""
    kind = rng.randrange(6)
    if kind == 0:
        return "".join(rng.choice("abcXYZ019_-") for _ in range(rng.randrange(1, 120)))
    if kind == 1:
        return "ch_" + rng.choice(["x", "", "x'--", "x;DROP TABLE wrapped_keys"]) + "_sk_" + "0" * 50
    if kind == 2:
        return good[:rng.randrange(1, len(good))]
    if kind == 3:
        return good + rng.choice("0aZ")
    at = rng.randrange(len(good))
    return good[:at] + rng.choice([c for c in "0aZ_" if c != good[at]]) + good[at + 1:]


def test_ten_thousand_malformed_keys_cause_no_sql(counted):
    good, rng = counted.key("web", "openai"), random.Random(SEED)
    assert quiet(counted) > 0, "the counter counts"
    before, answers = quiet(counted), 0
    while answers < 10_000:
        with counted.connect(timeout=30) as client:
            client.send(b"".join(request("/v1/models", malformed(rng, good), method="GET") for _ in range(100)))
            for _ in range(100):
                try:
                    assert client.read_response("GET").status in (400, 401)
                except Closed:
                    break
                answers += 1
    assert quiet(counted) == before
    assert counted.exchange(request("/chaperone/v1/key", good, method="GET")).status == 200


# ---- T16: a pooled connection never carries one tenant's answer to another

def test_random_aborts_never_deliver_to_another(world):
    """Thirty in a hundred requests are left at a random moment; whoever stays gets what is theirs."""
    keys = [world.fresh_key("openai")[1] for _ in range(4)]

    def script(connection, sent):
        tag = sent.get("x-tag").encode()
        parts = [b"data: " + tag * 40 + b"\n\n"] * 6
        whole = chunked(parts) if tag.endswith(b"s>") else answer(tag * 400)
        cut = len(whole) // 2
        connection.send(whole[:cut], random.choice([0, 0.001, 0.004]))
        connection.send(whole[cut:])

    world.upstreams["openai"].script = script
    strange, done = [], [0]

    def tenant(number):
        rng = random.Random(SEED + number)
        for turn in range(100):
            tag = f"<{number}.{turn}.{rng.choice('ps')}>"
            is_stream = tag.endswith("s>")
            body = samples.CHAT_STREAM_ASKED.body if is_stream else samples.CHAT.body
            with RawClient(world.port, timeout=30) as client:
                client.send(request("/v1/chat/completions", keys[number % 4], body, headers=[("x-tag", tag)]))
                if rng.random() < 0.3:
                    time.sleep(rng.choice([0, 0.002, 0.005]))
                    client.reset()
                    continue
                text = client.read_response().body.decode()
            done[0] += 1
            if set(re.findall(r"<[^>]*>", text)) != {tag} or len(text) < 240 * len(tag):
                strange.append((tag, text[:200]))

    threads = [threading.Thread(target=tenant, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not strange and done[0] > 700, (done, strange[:3])
