# SPDX-License-Identifier: Apache-2.0
"""Requests whose cost is known to the nano-dollar, and the books they are compared with.

The model MODEL and those of `make_model` have a contract price of INPUT and OUTPUT nano-USD a token and nothing else, so the worst case of a
request is its bytes times INPUT plus its maximum of output times OUTPUT. `bill` is an upstream script that makes any
share of that come true.
"""
import itertools
import json
import threading
import time

from .admin import admin_call
from .client import request
from .process import wait_until
from .samples import CARRIER, compact, sse
from .upstream import answer, chunked
from .world import World

MODEL = "unit-1"
INPUT, OUTPUT = 1000, 2000
LIKELY_OUTPUT = 1024  # what the likely case assumes until something was learned (docs/estimates.md)
USD = 10**9


def usd(nano):
    """As commands take it: a decimal without an exponent."""
    return f"{nano // USD}.{nano % USD:09d}"


class MoneyWorld(World):
    """A world whose budgets are the test's own, and a price that makes every cost a sum done by hand."""

    def __init__(self, folder, certificates=None, **settings):
        super().__init__(folder, certificates, **settings)
        self.make_model(MODEL)

    def start(self, *arguments, **options):
        """The data port opens first; a test goes on when the admin socket answers too."""
        super().start(*arguments, **options)

        def answers():
            try:
                return self.call("status")
            except OSError:
                return None

        wait_until(answers, 10, "the admin socket")
        return self

    def make_model(self, name=None):
        """A model that costs INPUT and OUTPUT a token; without a name one that nothing was learned of."""
        name = name or f"unit-m{next(self.names)}"
        self.call("price.set", model=name, input="1", output="2", **{"from": "2026-01-01"})
        return name

    def call(self, operation, **arguments):
        return admin_call(self, operation, **arguments)

    def make_key(self, *providers, **options):
        """A key that only the calling test uses: (name, token)."""
        name = f"m{next(self.names)}"
        return name, self.call("key.create", name=name, provider=list(providers or ("openai",)), **options)["key"]

    def set_budget(self, scope, amount, **options):
        """`amount` in nano-USD for a total, or the text of another one."""
        text = amount if isinstance(amount, str) else f"{usd(amount)}/total"
        return self.call("budget.set", scope=scope, budget=text, **options)

    def budgets(self, scope):
        """The counters in force by period."""
        return {item["period"]: item for item in self.call("budget.show", scope=scope)["items"]}

    def budget(self, scope):
        (item,) = self.budgets(scope).values()
        return item

    def own(self, token):
        """What GET /chaperone/v1/key says."""
        response = self.exchange(request("/chaperone/v1/key", token, method="GET"), method="GET")
        assert response.status == 200
        return json.loads(response.body)

    def list_rows(self, **filters):
        """Every row, page by page."""
        rows = page = self.call("usage.list", after="req_00000000001", limit=10_000, **filters)["items"]
        while len(page) == 10_000:
            page = self.call("usage.list", after=page[-1]["id"], limit=10_000, **filters)["items"]
            rows += page
        return rows

    def denied(self, key):
        return len(self.list_rows(key=key, denied=True))

    def hold_until_denied(self, key, count):
        """An event that is set once so many requests of the key were refused."""
        hold = threading.Event()

        def watch():
            deadline = time.monotonic() + 60
            while self.denied(key) < count and time.monotonic() < deadline:
                time.sleep(0.1)
            hold.set()

        threading.Thread(target=watch, daemon=True).start()
        return hold

    def rows_for(self, key, count, within=10):
        """The key's rows once there are `count`, by id: to the millisecond the oldest first, beyond it in no order."""
        rows = []

        def came():
            rows[:] = self.list_rows(key=key)
            return len(rows) >= count

        wait_until(came, within, f"{count} rows of {key}", 0.05)
        assert len(rows) == count, rows
        return sorted(rows, key=lambda row: row["id"])

    def settled(self, scope, within=15):
        """The scope's budget once nothing is held."""
        wait_until(lambda: self.budget(scope)["reserved_nano_usd"] == 0, within, f"{scope} holds nothing", 0.05)
        return self.budget(scope)

    def forwarded(self):
        """Requests that came upstream since the last forget(), on whatever connection."""
        return sum(len(upstream.requests) for upstream in self.upstreams.values())

    def in_flight(self):
        return self.call("status")["in_flight"]


class Ask:
    """One request with its costs."""

    def __init__(self, token, dialect="openai", output=100, pad=0, model=MODEL, stream=False, headers=(), **members):
        self.token, self.dialect, self.output, self.model, self.stream = token, dialect, output, model, stream
        text = "x" * pad
        if dialect == "openai":
            self.target = "/v1/chat/completions"
            body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": output, "service_tier": "default"}
            if stream:
                body |= {"stream": True, "stream_options": {"include_usage": True}}
        elif dialect == "anthropic":
            self.target = "/v1/messages"
            body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": output}
            if stream:
                body |= {"stream": True}
        else:
            verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
            self.target = f"/v1beta/models/{model}:{verb}"
            body = {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": {"maxOutputTokens": output}}
        self.body = compact({**body, **members})
        self.data = request(self.target, token, self.body, headers=headers, carrier=CARRIER[dialect])

    @property
    def worst(self):
        return len(self.body) * INPUT + self.output * OUTPUT

    @property
    def likely(self):
        """Before anything was learned."""
        return (len(self.body) + 3) // 4 * INPUT + min(self.output, LIKELY_OUTPUT) * OUTPUT


def maximum(body):
    return body.get("max_tokens") or body.get("generationConfig", {}).get("maxOutputTokens", 0)


def document(dialect, model, prompt, output):
    """A whole answer that states this usage."""
    if dialect == "openai":
        return {"id": "c1", "object": "chat.completion", "created": 1, "model": model, "service_tier": "default",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}}
    if dialect == "anthropic":
        return {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [{"type": "text", "text": "ok"}],
                "stop_reason": "end_turn", "stop_sequence": None,
                "usage": {"input_tokens": prompt, "output_tokens": output, "service_tier": "standard"}}
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP", "index": 0}],
            "modelVersion": model, "responseId": "r1",
            "usageMetadata": {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": prompt + output}}


def events(dialect, model, prompt, output, deltas=4):
    """The same as the events of a stream; usage stands where the dialect has it."""
    whole = document(dialect, model, prompt, output)
    if dialect == "openai":
        def chunk(choices, **extra):
            return sse({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model, "service_tier": "default",
                        "choices": choices, **extra})

        parts = [chunk([{"index": 0, "delta": {"content": "x"}, "finish_reason": None}], usage=None) for _ in range(deltas)]
        return [*parts, chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=None), chunk([], usage=whole["usage"]),
                b"data: [DONE]\n\n"]
    if dialect == "anthropic":
        start = {**whole, "content": [], "stop_reason": None, "usage": {"input_tokens": prompt, "output_tokens": 1}}
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}
        parts = [{"type": "message_start", "message": start},
                 {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, *[delta] * deltas,
                 {"type": "content_block_stop", "index": 0},
                 {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": output}},
                 {"type": "message_stop"}]
        return [sse(part, part["type"]) for part in parts]
    early = {"candidates": [{"content": {"role": "model", "parts": [{"text": "x"}]}, "index": 0}], "modelVersion": model}
    return [*[sse(early, end=b"\r\n")] * deltas, sse(whole, end=b"\r\n")]


def read(req):
    """(dialect, model, bytes of the body, maximum of output, is a stream) of a request that came upstream."""
    body = json.loads(req.body)
    path = req.target.partition("?")[0]
    if "/models/" in path:
        model, _, verb = path.rpartition("/")[2].partition(":")
        return "gemini", model, len(req.body), maximum(body), verb.startswith("stream")
    dialect = "anthropic" if path.endswith("/messages") else "openai"
    return dialect, body["model"], len(req.body), maximum(body), bool(body.get("stream"))


def bill(share=1.0, pause=0.0, hold=None, headers=()):
    """Answers with `share` of the worst case as usage, after `pause` seconds or once the event `hold` is set."""

    def script(connection, req):
        dialect, model, prompt, most, stream = read(req)
        if hold:
            hold.wait(30)
        if pause:
            time.sleep(pause)
        prompt, output = int(prompt * share), int(most * share)
        if stream:
            connection.send(chunked(events(dialect, model, prompt, output), headers=headers))
        else:
            connection.send(answer(compact(document(dialect, model, prompt, output)), headers=headers))

    return script


def all_at_once(world, asks, timeout=60):
    """Sends every request on a connection of its own before the first answer is read; gives the answers in order."""
    clients = [world.connect(timeout=timeout) for _ in asks]
    try:
        for client, ask in zip(clients, asks):
            client.send(ask.data)
        return [client.read_response() for client in clients]
    finally:
        for client in clients:
            client.close()


def count_by_status(responses):
    groups = itertools.groupby(sorted(response.status for response in responses))
    return {status: len(list(group)) for status, group in groups}


def message_of(response, dialect="openai"):
    """The text of an error in the dialect's own shape."""
    error = json.loads(response.body)["error"]
    if dialect == "openai":
        assert set(error) == {"message", "type", "param", "code"}
    return error["message"]
