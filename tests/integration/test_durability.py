# SPDX-License-Identifier: Apache-2.0
"""The books against what the provider really answered: under load, across kills, across stops."""
import collections
import json
import random
import threading
import time

import pytest

from harness.world import ask, wire
from harness import samples
from harness.client import Closed, RawClient, request
from harness.process import Installation, Sandbox, wait_until
from harness.upstream import reply

SECRET = "sk-sandbox-CANARY-8f2Kq1Zt5Wm9"


@pytest.fixture
def field(tmp_path):
    """An installation in front of a sandbox provider that records what it answers."""
    record = tmp_path / "record.jsonl"
    sandbox = Sandbox(tmp_path, "--record", record)
    installation = Installation(tmp_path / "installation")
    installation.start()
    for name, base in (("openai", "/v1"), ("anthropic", ""), ("gemini", "")):
        installation.provider(name, name, sandbox.url + base, SECRET)
    installation.sandbox, installation.record = sandbox, record
    yield installation
    if installation.daemon:
        installation.stop()
    if sandbox.is_running():
        assert sandbox.stop() == 0


def recorded(installation):
    lines = installation.record.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be being written


def all_rows(installation):
    """Every usage row, page by page."""
    rows, page = [], installation.usage("--after", "req_00000000001", limit=10_000)
    while page:
        rows += page
        page = installation.usage("--after", page[-1]["id"], limit=10_000)
    return rows


class Load:
    """Clients that send requests one after another, each with a model name that nobody else uses."""

    KINDS = ["chat", "chat-stream", "responses", "embeddings", "messages", "messages-stream", "generate", "generate-stream"]

    def __init__(self, installation, keys, clients, total=None):
        self.installation, self.keys, self.total = installation, keys, total
        self.number, self.lock = 0, threading.Lock()
        self.whole, self.failed = [], collections.Counter()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def next(self):
        with self.lock:
            if self.stopping.is_set() or self.number == self.total:
                return None
            self.number += 1
            return self.number

    def build(self, number):
        kind = self.KINDS[number % len(self.KINDS)]
        model = f"load-{number}"
        stream = kind.endswith("-stream")
        if kind.startswith("chat"):
            body = {"model": model, "messages": [{"role": "user", "content": "x" * (number % 300)}], **({"stream": True} if stream else {})}
            return request("/v1/chat/completions", self.keys["openai"], json.dumps(body).encode())
        if kind == "responses":
            return request("/v1/responses", self.keys["openai"], json.dumps({"model": model, "input": "hello"}).encode())
        if kind == "embeddings":
            return request("/v1/embeddings", self.keys["openai"], json.dumps({"model": model, "input": "hello"}).encode())
        if kind.startswith("messages"):
            body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}], **({"stream": True} if stream else {})}
            return request("/v1/messages", self.keys["anthropic"], json.dumps(body).encode(), carrier="x-api-key")
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        body = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
        return request(f"/v1beta/models/{model}:{verb}", self.keys["gemini"], json.dumps(body).encode(), carrier="x-goog-api-key")

    def run(self):
        client = None
        while (number := self.next()) is not None:
            try:
                client = client or RawClient(self.installation.port, timeout=20)
                client.send(self.build(number))
                response = client.read_response()
                if response.status == 200 and not response.truncated:
                    self.whole.append((f"load-{number}", response.request_id))
                else:
                    self.failed[response.status] += 1
                if response.truncated:
                    client = None
            except (OSError, Closed):
                self.failed["connection"] += 1
                client = None
                time.sleep(0.02)

    def finish(self, within=120):
        self.stopping.set()
        self.join(within)

    def join(self, within):
        deadline = time.monotonic() + within
        for thread in self.threads:
            thread.join(max(0.1, deadline - time.monotonic()))
            assert not thread.is_alive(), "a client hangs"


@pytest.mark.limit(270)
def test_ten_thousand_exchanges(field):
    """64 clients, all dialects, plain and streamed: 10,000 rows, each equal to what the provider says it answered."""
    keys = {name: field.key(name, name) for name in ("openai", "anthropic", "gemini")}
    before = field.daemon.descriptors()
    load = Load(field, keys, clients=64, total=10_000)
    load.join(240)
    assert not load.failed and len(load.whole) == 10_000
    wait_until(lambda: len(all_rows(field)) >= 10_000, 30, "10,000 rows", 0.5)
    rows = {row["model_asked"]: row for row in all_rows(field)}
    records = {record["model"]: record for record in recorded(field)}
    assert len(rows) == len(records) == 10_000
    assert {model: row["id"] for model, row in rows.items()} == dict(load.whole)
    for model, record in records.items():
        compare(rows[model], record)
    wait_until(lambda: field.daemon.descriptors() <= before + 64 * 3, 10, "descriptors")


def compare(row, record):
    """Token for token. Anthropic's output is whole in its record; Gemini states no usage for embeddings."""
    assert row["grade"] == "exact", row
    assert (row["endpoint"], row["dialect"], row["status"]) == (record["endpoint"], record["dialect"], record["status"])
    for ours, theirs in (("cache_read_tokens", "cached_tokens"), ("cache_write_5m_tokens", "cache_write_5m_tokens"),
                         ("cache_write_1h_tokens", "cache_write_1h_tokens")):
        assert row[ours] == record[theirs], (ours, row, record)
    states_disjoint = record["dialect"] == "anthropic"
    written = row["cache_read_tokens"] + row["cache_write_5m_tokens"] + row["cache_write_1h_tokens"]
    assert row["input_tokens"] + (0 if states_disjoint else written) == record["input_tokens"], (row, record)
    reasoning_outside = record["reasoning_tokens"] if record["dialect"] == "gemini" else 0
    assert row["output_tokens"] + row["reasoning_tokens"] == record["output_tokens"] + reasoning_outside, (row, record)


@pytest.mark.limit(270)
def test_kill_loses_and_doubles_nothing(field):
    """kill -9 twenty times under load: every exchange the provider answered has exactly one row."""
    keys = {name: field.key(name, name) for name in ("openai", "anthropic", "gemini")}
    load = Load(field, keys, clients=16)
    seeded = random.Random(20)
    for _ in range(20):
        time.sleep(seeded.uniform(0.05, 0.4))
        field.kill()
        field.start()
    time.sleep(0.3)
    load.finish()
    time.sleep(0.5)
    rows = all_rows(field)
    models = collections.Counter(row["model_asked"] for row in rows)
    records = collections.Counter(record["model"] for record in recorded(field))
    assert max(models.values()) == 1, "a row was doubled"
    assert max(records.values()) == 1, "a request went up twice"
    lost = set(records) - set(models)
    assert not lost, f"{len(lost)} answered exchanges have no row: {sorted(lost)[:5]}"
    by_model = {row["model_asked"]: row for row in rows}
    for model, request_id in load.whole:
        assert by_model[model]["id"] == request_id
    crashed = [row for row in rows if row["end_reason"] == "crash"]
    assert len(crashed) <= 16 * 20 and all(row["grade"] == "partial" for row in crashed)
    unanswered = [row for model, row in by_model.items() if model not in records]
    assert all(row["end_reason"] in ("crash", "client_gone", "upstream_refused", "upstream_cut", "shutdown") for row in unanswered)
    assert len(load.whole) > 100, "there was load"


def test_stop_under_load_is_graceful(field):
    """SIGTERM finishes what is in flight, refuses the rest, and every row is there afterwards."""
    keys = {name: field.key(name, name) for name in ("openai", "anthropic", "gemini")}
    load = Load(field, keys, clients=16)
    time.sleep(1)
    field.stop()
    load.finish()
    field.start()
    models = collections.Counter(row["model_asked"] for row in all_rows(field))
    assert max(models.values()) == 1
    assert {model for model, _ in load.whole} <= set(models)
    assert {record["model"] for record in recorded(field)} <= set(models)


def test_revocation_under_load(field):
    """Not one request of a revoked key is served after the command has returned, whichever loop it reaches."""
    field.key("victim", "openai")
    stop, late, refused = threading.Event(), [], []
    returned = threading.Event()

    def hammer():
        client = RawClient(field.port)
        while not stop.is_set():
            started_after = returned.is_set()
            client.send(request("/v1/chat/completions", field.keys["victim"], b'{"model":"gpt-4o","messages":[]}'))
            response = client.read_response()
            if response.status == 200 and started_after:
                late.append(1)
            refused.append(response.status == 401)
            if response.get("connection") == "close":
                client.close()
                client = RawClient(field.port)

    threads = [threading.Thread(target=hammer, daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    wait_until(lambda: refused.count(False) > 50, 20, "load before")
    field.cli("key", "revoke", "victim")
    returned.set()
    time.sleep(0.5)
    wait_until(lambda: refused.count(True) > 50, 20, "load after")
    stop.set()
    for thread in threads:
        thread.join(10)
    assert not late, f"{len(late)} requests were served after the revocation"


def test_restart_keeps_keys_and_rows(make_world):
    world = make_world(providers=("openai",))
    name, key = world.fresh_key("openai")
    world.send_sample(samples.CHAT, key)
    world.restart()
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    assert world.exchange(ask(samples.CHAT, key)).status == 200
    assert len(world.rows_of(name, 2)) == 2


def test_writes_go_on_while_the_daemon_runs(make_world):
    """The command line works beside the daemon and without it."""
    world = make_world(providers=("openai",))
    world.stop()
    name, key = world.fresh_key("openai")
    world.start()
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    assert world.exchange(ask(samples.CHAT, key)).status == 200
    assert name in world.cli("key", "list", "-o", "json").stdout
