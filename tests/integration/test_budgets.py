# SPDX-License-Identifier: Apache-2.0
"""Budgets through the daemon: a cap is a cap under any concurrency, and the counters are the sum of the rows."""
import json
import random
import re
import threading
import time

import pytest

from harness.client import Closed, request
from harness.money import INPUT, LIKELY_OUTPUT, MODEL, OUTPUT, USD, Ask, MoneyWorld, all_at_once, bill, count_by_status, document, events, message_of, read, usd
from harness.process import wait_until
from harness.samples import compact, sse
from harness.upstream import answer, chunked

DIALECTS = ("openai", "anthropic", "gemini")


@pytest.fixture(scope="module")
def shared_money(tmp_path_factory):
    world = MoneyWorld(tmp_path_factory.mktemp("money"))
    yield world
    world.close()


@pytest.fixture
def world(shared_money):
    for upstream in shared_money.upstreams.values():
        upstream.forget()
        upstream.script = bill()
    yield shared_money
    assert shared_money.daemon.is_running(), shared_money.daemon.tail()
    shared_money.daemon.check()
    wait_until(lambda: shared_money.in_flight() == 0, 15, "nothing in flight")


@pytest.fixture
def fresh(tmp_path):
    """A daemon of the test's own: for budgets that everybody falls under, restarts and kills."""
    made = []

    def make(**settings):
        made.append(MoneyWorld(tmp_path / f"w{len(made)}", **settings))
        return made[-1]

    yield make
    for world in made:
        world.close()


def sum_of(rows):
    return sum(row["cost_nano_usd"] or 0 for row in rows)


def reset_of(response):
    return response.get("x-chaperone-budget-reset")


# ---- a cap is a cap

@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_thousand_at_once_with_room_for_ten(world, dialect):
    """Exactly ten are forwarded, the spend is the cap to the nano-dollar, and nothing is held afterwards."""
    upstream = world.upstreams[dialect]
    name, token = world.make_key(dialect)
    asks = [Ask(token, dialect, output=100, pad=50)] * 1000
    cap = 10 * asks[0].worst
    world.set_budget(f"key:{name}", f"{usd(cap)}/day", mode="strict")
    upstream.script = bill(hold=world.hold_until_denied(name, 990))
    responses = all_at_once(world, asks)
    assert count_by_status(responses) == {200: 10, 429: 990}
    assert len(upstream.requests) == 10
    for response in responses:
        if response.status == 429:
            check_refusal(response, dialect, cap, 0)
            assert f"Held by requests in flight: ${usd(cap)}, needed for this one: ${usd(asks[0].worst)}." in message_of(response, dialect)
    budget = world.settled(f"key:{name}")
    assert (budget["spent_nano_usd"], budget["reserved_nano_usd"], budget["percent"]) == (cap, 0, 100)
    (own,) = world.own(token)["budgets"]
    assert own == {"scope": "key", "period": "day", "mode": "strict", "limit_usd": usd(cap), "spent_usd": usd(cap),
                   "reserved_usd": usd(0), "resets_at": own["resets_at"]}
    after = world.exchange(asks[0].data)
    check_refusal(after, dialect, cap, cap)
    rows = world.rows_for(name, 1001, 30)
    assert sum_of(rows) == cap
    assert {row["end_reason"] for row in rows if row["cost_nano_usd"]} == {"done"}
    assert {(row["rule"], row["status"]) for row in rows if row["end_reason"] == "denied"} == {("budget_exceeded", 429)}


def cents(nano):
    return f"${(nano + USD // 200) // (USD // 100) // 100}.{(nano + USD // 200) // (USD // 100) % 100:02d}"


def check_refusal(response, dialect, cap, spent, period="Daily", whose="this key", status=429):
    """The one refusal by a budget: text, fields and the dialect's body (wire.md §3.1, §3.3)."""
    assert (response.status, response.error) == (status, "budget_exceeded")
    assert response.get("x-should-retry") == "false"
    assert response.get("retry-after") is None and response.get("retry-after-ms") is None
    assert response.get("content-type") == "application/json"
    text = message_of(response, dialect)
    assert text.startswith(f"Budget limit exceeded for {whose}. {period} limit: {cents(cap)}, current spend: {cents(spent)}."), text
    if period == "Total":
        assert reset_of(response) is None and text.endswith("It does not reset.")
    else:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", reset_of(response))
        assert text.endswith(f"It resets at {reset_of(response)}.")
    body = json.loads(response.body)
    if dialect == "openai":
        assert (body["error"]["code"], body["error"]["type"], body["error"]["param"]) == ("insufficient_quota", "insufficient_quota", None)
    elif dialect == "anthropic":
        kind = {429: "rate_limit_error", 402: "billing_error", 403: "permission_error"}[status]
        assert (body["type"], body["error"]["type"]) == ("error", kind)
        assert body["error"]["details"] == {"error_code": "enforced_spend_limit_reached"}
        assert body["request_id"] == response.request_id
    else:
        word = {429: "RESOURCE_EXHAUSTED", 402: "RESOURCE_EXHAUSTED", 403: "PERMISSION_DENIED"}[status]
        assert (body["error"]["code"], body["error"]["status"]) == (status, word)
        assert all("RetryInfo" not in detail["@type"] for detail in body["error"]["details"])


def test_text_with_cents(world):
    """The sentence that the product promises, from a spend of two cents past the cap."""
    name, token = world.make_key()
    ask = Ask(token, output=1)
    world.set_budget(f"key:{name}", "100/day", mode="soft")
    spent = 100_020_000_000
    world.upstreams["openai"].script = lambda connection, req: connection.send(answer(compact(
        {"id": "c", "object": "chat.completion", "model": MODEL, "choices": [], "usage": {"prompt_tokens": spent // INPUT, "completion_tokens": 0}})))
    assert world.exchange(ask.data).status == 200
    world.set_budget(f"key:{name}", "100/day", mode="strict")
    response = world.exchange(ask.data)
    check_refusal(response, "openai", 100 * USD, spent)
    assert "Daily limit: $100.00, current spend: $100.02." in message_of(response)


# ---- chaos

class Chaos:
    """An upstream that bills, streams, fails, cuts and resets as its seed says; never more than the worst case."""

    def __init__(self, seed):
        self.random, self.lock = random.Random(seed), threading.Lock()

    def roll(self):
        with self.lock:
            return self.random.random(), self.random.random(), self.random.random()

    def __call__(self, connection, req):
        dialect, model, prompt, most, stream = read(req)
        fate, share, delay = self.roll()
        time.sleep(delay / 50)
        output = int(most * share)
        data = (chunked(events(dialect, model, prompt, output, deltas=min(most, 12))) if stream else
                answer(compact({"pad": "x" * 100, **json.loads(json.dumps(document(dialect, model, prompt, output)))})))
        if fate < 0.5:
            connection.send(data)
        elif fate < 0.6:
            connection.send(answer(b'{"error":{"message":"no"}}', status=self.random.choice(["500 Oops", "429 Slow", "400 Bad", "529 Full"])))
        elif fate < 0.7:
            connection.send(data[:int(len(data) * share)])
            connection.close()
        elif fate < 0.8:
            connection.send(data[:int(len(data) * share)], 0.02)
            connection.reset()
        elif fate < 0.9:
            for at in range(0, len(data), 97):
                connection.send(data[at:at + 97], 0.002)
        else:
            connection.send(answer(b"no document at all", content_type="text/plain"))


def run_client(world, token, dialect, rounds, seed, seen):
    """Requests one after another; some are left before, in the middle of or right after their answer."""
    rng = random.Random(seed)
    for _ in range(rounds):
        ask = Ask(token, dialect, output=rng.randrange(0, 400), pad=rng.randrange(200), stream=rng.random() < 0.5)
        leaves = rng.random()
        with world.connect(timeout=30) as client:
            client.send(ask.data)
            if leaves < 0.15:
                time.sleep(rng.random() / 50)
                client.reset()
            elif leaves < 0.3:
                client.sock.settimeout(0.02)
                try:
                    client.receive(64)
                except TimeoutError:
                    pass
                client.close()
            else:
                try:
                    seen.append(client.read_response().status)
                except Closed:
                    seen.append(0)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_chaos_never_passes_the_cap(world, dialect):
    """Random costs, failures on either side, and 24 clients: spend and reservations together stay under a strict cap at every look."""
    name, token = world.make_key(dialect)
    world.upstreams[dialect].script = Chaos(dialect)
    cap = 40 * Ask(token, dialect, output=400, pad=200).worst
    world.set_budget(f"key:{name}", cap, mode="strict")
    seen, highest = [], 0
    threads = [threading.Thread(target=run_client, args=(world, token, dialect, 20, f"{dialect}-{i}", seen), daemon=True) for i in range(24)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        budget = world.budget(f"key:{name}")
        highest = max(highest, budget["spent_nano_usd"] + budget["reserved_nano_usd"])
        assert budget["spent_nano_usd"] <= cap
        time.sleep(0.01)
    assert 0 < highest <= cap
    assert 429 in seen and 200 in seen
    budget = world.settled(f"key:{name}")
    assert 0 < budget["spent_nano_usd"] <= cap
    wait_until(lambda: world.in_flight() == 0, 15, "nothing in flight")
    rows = world.list_rows(key=name)
    assert sum_of(rows) == budget["spent_nano_usd"]
    assert sum(sum_of([row]) for row in rows if row["end_reason"] == "denied") == 0


# ---- modes

def test_learned_overshoots_within_its_bound(world):
    """200 at once that all cost their worst case: what passes the cap is at most (in flight) × (worst − likely)."""
    name, token = world.make_key()
    asks = [Ask(token, output=4000, pad=500, model=world.make_model())] * 200
    worst, likely = asks[0].worst, asks[0].likely
    assert likely < worst
    cap = 20 * likely
    world.set_budget(f"key:{name}", cap, mode="learned")
    world.upstreams["openai"].script = bill(hold=world.hold_until_denied(name, 180))
    responses = all_at_once(world, asks)
    assert count_by_status(responses) == {200: 20, 429: 180}
    spent = world.settled(f"key:{name}")["spent_nano_usd"]
    assert spent == 20 * worst
    assert cap < spent <= cap + 20 * (worst - likely)
    assert world.exchange(asks[0].data).status == 429, "after it nothing passes"


def test_learned_is_the_default_and_learns(world):
    """After 16 exchanges the reservation is what this key's answers have needed."""
    name, token = world.make_key()
    ask = Ask(token, output=4000, model=world.make_model())
    assert world.set_budget(f"key:{name}", USD)["mode"] == "learned"
    world.upstreams["openai"].script = bill(share=0.01)
    for _ in range(20):
        assert world.exchange(ask.data).status == 200
    hold = threading.Event()
    world.upstreams["openai"].script = bill(share=0.01, hold=hold)
    with world.connect() as client:
        client.send(ask.data)
        reserved = wait_until(lambda: world.budget(f"key:{name}")["reserved_nano_usd"], 10, "a reservation")
        hold.set()
        assert client.read_response().status == 200
    assert 40 * OUTPUT < reserved < 60 * OUTPUT + len(ask.body) * INPUT < ask.likely, "40 tokens came each time"


def test_soft_never_refuses(world):
    name, token = world.make_key()
    ask = Ask(token)
    world.set_budget(f"key:{name}", 0, mode="soft")
    responses = all_at_once(world, [ask] * 50)
    assert count_by_status(responses) == {200: 50}
    assert world.settled(f"key:{name}")["spent_nano_usd"] == 50 * ask.worst


WHOSE = {"key": "this key", "team": "this team", "project": "this project", "provider": "this provider", "all": "all keys"}


@pytest.mark.parametrize("tightest", WHOSE)
def test_the_tightest_of_several_refuses_and_is_named(fresh, tightest):
    """Five scopes with two periods each: one has no room left, and what the others held for the refused ones is free again."""
    world = fresh(providers=("openai",))
    name, token = world.make_key(team="blue", project="apollo")
    world.upstreams["openai"].script = bill()
    ask = Ask(token)
    scopes = {"key": f"key:{name}", "team": "team:blue", "project": "project:apollo", "provider": "provider:openai", "all": "all"}
    for kind, scope in scopes.items():
        world.set_budget(scope, "1000/month", mode="strict")
        world.set_budget(scope, 3 * ask.worst if kind == tightest else 300 * ask.worst, mode="strict")
    responses = all_at_once(world, [ask] * 40)
    assert count_by_status(responses) == {200: 3, 429: 37}
    refused = next(r for r in responses if r.status == 429)
    assert message_of(refused).startswith(f"Budget limit exceeded for {WHOSE[tightest]}. Total limit:")
    for scope in scopes.values():
        wait_until(lambda: all(b["reserved_nano_usd"] == 0 for b in world.budgets(scope).values()), 10, f"{scope} holds nothing")
        assert {p: b["spent_nano_usd"] for p, b in world.budgets(scope).items()} == {"month": 3 * ask.worst, "total": 3 * ask.worst}
    own = {(b["scope"], b["period"]) for b in world.own(token)["budgets"]}
    assert own == {(kind, period) for kind in ("key", "team", "project") for period in ("month", "total")}, "others' money is not the caller's business"


def test_keys_of_a_team_share_its_budget(fresh):
    world = fresh(providers=("openai",))
    world.upstreams["openai"].script = bill()
    tokens = [world.make_key(team="blue")[1] for _ in range(4)] + [world.make_key(team="red")[1]]
    asks = [Ask(token) for token in tokens]
    world.set_budget("team:blue", 4 * asks[0].worst, mode="strict")
    assert [world.exchange(ask.data).status for ask in asks] == [200] * 5
    assert [world.exchange(ask.data).status for ask in asks] == [429] * 4 + [200]


def test_a_cap_that_changes_holds_at_once_on_every_loop(world):
    """16 connections spread over two loops; no call after the command's return is decided by the old cap."""
    name, token = world.make_key()
    ask = Ask(token)
    scope = f"key:{name}"
    world.set_budget(scope, 0, mode="strict")
    clients = [world.connect() for _ in range(16)]

    def statuses():
        out = []
        for client in clients:
            client.send(ask.data)
            out.append(client.read_response().status)
        return set(out)

    try:
        for _ in range(5):
            world.set_budget(scope, 1000 * USD)
            assert statuses() == {200}
            world.set_budget(scope, 1)
            assert statuses() == {429}
        assert world.budget(scope)["spent_nano_usd"] == 5 * 16 * ask.worst, "no edit loses spend"
        world.call("budget.delete", scope=scope, period="total")
        assert statuses() == {200}
    finally:
        for client in clients:
            client.close()


def test_the_mode_of_an_edit_stays(world):
    name, _ = world.make_key()
    world.set_budget(f"key:{name}", "5/day", mode="strict", tz="Europe/Berlin", alert="50,90", on_exhausted="cut")
    world.set_budget(f"key:{name}", "6/day")
    budget = world.budget(f"key:{name}")
    assert (budget["mode"], budget["time_zone"], budget["alerts"], budget["on_exhausted"], budget["cap_nano_usd"]) == \
        ("strict", "Europe/Berlin", [50, 90], "cut", 6 * USD)


# ---- edges

def test_edges_of_a_cap(world):
    """0, one nano-dollar short, exact, one over (security.md §4.32)."""
    for cap, expected in ((0, [429]), (-1, [429]), (None, [200, 429]), (1, [200, 429])):
        name, token = world.make_key()
        ask = Ask(token, output=7, pad=3)
        world.set_budget(f"key:{name}", {0: 0, -1: ask.worst - 1, None: ask.worst, 1: 2 * ask.worst - 1}[cap], mode="strict")
        assert [world.exchange(ask.data).status for _ in expected] == expected, cap
        assert world.settled(f"key:{name}")["spent_nano_usd"] == expected.count(200) * ask.worst


@pytest.mark.parametrize("members", [
    {"n": 3}, {"n": "3"}, {"n": 3.0}, {"n": [3]}, {"n": 2**63 - 1}, {"n": 2**63}, {"n": 10**400}, {"max_completion_tokens": "500"},
    {"max_completion_tokens": 500}, {"max_tokens": 2**63 - 1}, {"max_tokens": -5},
    {"max_tokens": 1e3}, {"max_tokens": None}, {"service_tier": "auto"}, {"tools": [{"type": "web_search"}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]},
    {"previous_response_id": "resp_1"}, {"web_search_options": {}}], ids=lambda m: next(iter(m)) + "-" + str(next(iter(m.values())))[:12])
def test_the_reservation_is_the_dearest_that_was_asked_for(world, members):
    """Each of these can cost more than the plain request, so a cap of the plain request refuses it (security.md §4.25)."""
    name, token = world.make_key()
    plain, dearer = Ask(token), Ask(token, **members)
    world.set_budget(f"key:{name}", max(plain.worst, len(dearer.body) * INPUT + plain.output * OUTPUT), mode="strict")
    response = world.exchange(dearer.data)
    tier = "service_tier" in members
    assert response.status == (200 if tier else 429), "a price without tiers is the same in each"
    assert len(world.upstreams["openai"].requests) == tier


INLINE_SEARCH = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {"type": "web_search_20260318", "name": "web_search"}}}


@pytest.mark.parametrize("dialect, members", [
    ("anthropic", {"thread": {"type": "continue", "previous_message_id": "msg_1"}}),
    ("anthropic", {"messages": [{"role": "system", "content": [INLINE_SEARCH]}]}),
    ("anthropic", {"messages": [{"role": "user", "content": [{"type": "compaction", "tool_changes": [INLINE_SEARCH]}]}]}),
    ("openai", {"input": [{"type": "additional_tools", "tools": [{"type": "web_search"}]}]}),
    ("gemini", {"tools": {"googleSearch": {}}}), ("gemini", {"tools": {"urlContext": {}}})], ids=str)
def test_what_a_conversation_brings_is_reserved(world, dialect, members):
    """Held history, and tools that the provider runs, wherever they are written."""
    world.call("provider.update", name=dialect, objects="shared")
    name, token = world.make_key(dialect)
    dearer = Ask(token, dialect, **members)
    world.set_budget(f"key:{name}", max(Ask(token, dialect).worst, dearer.worst), mode="strict")
    assert world.exchange(dearer.data).status == 429
    assert not world.upstreams[dialect].requests


def test_prompts_times_choices_cannot_overflow(world):
    """Both factors are the caller's."""
    name, token = world.make_key()
    world.set_budget(f"key:{name}", 1000 * USD, mode="strict")
    body = compact({"model": MODEL, "prompt": ["a", "b", "c"], "n": 2**62, "best_of": 2**62, "max_tokens": 10, "service_tier": "default"})
    response = world.exchange(request("/v1/completions", token, body))
    assert response.status == 429 and not world.upstreams["openai"].requests


# ---- models without a price

def test_model_without_a_price(world):
    """Refused under a budget, marked without one, priced by a ceiling where there is one."""
    name, token = world.make_key()
    ask = Ask(token, model="nobody-knows")
    assert world.exchange(ask.data).status == 200
    (row,) = world.rows_for(name, 1)
    assert row["cost_nano_usd"] is None, "unknown, and not nothing"
    world.set_budget(f"key:{name}", "100/day")
    response = world.exchange(ask.data)
    assert (response.status, response.error) == (403, "model_unpriced")
    assert "nobody-knows" in message_of(response)
    world.call("key.update", name=name, unknown_model="flag")
    assert world.exchange(ask.data).status == 200
    world.call("key.update", name=name, unknown_model="ceiling:3/15")
    assert world.exchange(ask.data).status == 200
    cost = len(ask.body) * 3000 + ask.output * 15000
    assert world.settled(f"key:{name}")["spent_nano_usd"] == cost
    world.set_budget(f"key:{name}", f"{usd(2 * cost - 1)}/day", mode="strict")
    assert world.exchange(ask.data).status == 429, "the ceiling is also what is reserved"
    world.set_budget(f"key:{name}", f"{usd(2 * cost)}/day", mode="strict")
    assert world.exchange(ask.data).status == 200
    assert world.settled(f"key:{name}")["spent_nano_usd"] == 2 * cost


def test_a_shadow_budget_needs_no_price(world):
    name, token = world.make_key()
    world.set_budget(f"key:{name}", 0, mode="strict", shadow=True)
    assert world.exchange(Ask(token, model="nobody-knows").data).status == 200


# ---- the status

@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("status", [402, 403, 429])
def test_status_of_a_key(world, dialect, status):
    name, token = world.make_key(dialect, budget_status=str(status))
    world.set_budget(f"key:{name}", 0, mode="strict")
    check_refusal(world.exchange(Ask(token, dialect).data), dialect, 0, 0, "Total", status=status)


def test_status_by_configuration(fresh):
    world = fresh(providers=("openai",), budgets={"status": 402})
    name, token = world.make_key()
    other, kept = world.make_key(budget_status="429")
    for key in (name, other):
        world.set_budget(f"key:{key}", 0, mode="strict")
    assert world.exchange(Ask(token).data).status == 402
    assert world.exchange(Ask(kept).data).status == 429


# ---- a budget that comes late

def hundred(world, ask, count=100):
    with world.connect(timeout=30) as client:
        for _ in range(count):
            client.send(ask.data)
            assert client.read_response().status == 200


@pytest.mark.parametrize("kind", ["key", "team", "all"])
def test_a_budget_set_in_the_middle_of_traffic(fresh, kind):
    """100 exchanges before, 50 streams in flight and others coming and going meanwhile: once all have ended the counter is the sum of the rows."""
    world = fresh(providers=("openai",))
    name, token = world.make_key(team="blue")
    scope = {"key": f"key:{name}", "team": "team:blue", "all": "all"}[kind]
    upstream = world.upstreams["openai"]
    upstream.script = bill(share=0.5)
    hundred(world, Ask(token))
    hold, go_on = threading.Event(), threading.Event()
    plain = bill(share=0.3)
    upstream.script = lambda connection, req: (bill(hold=hold) if read(req)[4] else plain)(connection, req)
    streams = [world.connect(timeout=60) for _ in range(50)]
    for client in streams:
        client.send(Ask(token, stream=True).data)
    wait_until(lambda: world.in_flight() == 50, 20, "50 in flight")

    def keep_asking():
        with world.connect(timeout=30) as client:
            while not go_on.is_set():
                client.send(Ask(token, output=random.randrange(200)).data)
                assert client.read_response().status == 200

    askers = [threading.Thread(target=keep_asking, daemon=True) for _ in range(6)]
    for thread in askers:
        thread.start()
    time.sleep(0.3)
    for period in ("day", "month", "total"):
        world.set_budget(scope, f"1000/{period}", mode="strict")
    for client in streams[:25]:
        client.close()
    time.sleep(0.2)
    hold.set()
    for client in streams[25:]:
        assert client.read_response().status == 200
        client.close()
    go_on.set()
    for thread in askers:
        thread.join(30)
        assert not thread.is_alive()
    hundred(world, Ask(token), 20)
    wait_until(lambda: world.in_flight() == 0, 20, "all ended")
    total = sum_of(world.list_rows())
    budgets = world.budgets(scope)
    assert {p: b["spent_nano_usd"] for p, b in budgets.items()} == {"day": total, "month": total, "total": total}
    assert all(b["reserved_nano_usd"] == 0 for b in budgets.values())
    world.restart()
    assert {p: b["spent_nano_usd"] for p, b in world.budgets(scope).items()} == {"day": total, "month": total, "total": total}


def test_another_zone_counts_anew_what_is_in_flight(fresh):
    """An edit of the zone makes a new counter; streams that hold the old one are charged to the new one."""
    world = fresh(providers=("openai",))
    name, token = world.make_key()
    scope = f"key:{name}"
    hold = threading.Event()
    world.upstreams["openai"].script = bill(hold=hold)
    world.set_budget(scope, "100/month", mode="strict")
    asks = [Ask(token, stream=True)] * 10
    clients = [world.connect(timeout=60) for _ in asks]
    for client, ask in zip(clients, asks):
        client.send(ask.data)
    wait_until(lambda: world.in_flight() == 10, 10, "10 in flight")
    world.set_budget(scope, "100/month", tz="Asia/Kolkata")
    hold.set()
    for client in clients:
        assert client.read_response().status == 200
        client.close()
    assert world.settled(scope)["spent_nano_usd"] == 10 * asks[0].worst == sum_of(world.rows_for(name, 10))


def test_kill_with_exchanges_in_flight(fresh):
    """They are charged at their reservation, their rows say so, and the budget counts them after the start."""
    world = fresh(providers=("openai",))
    name, token = world.make_key(team="blue")
    ask = Ask(token, stream=True)
    world.set_budget("team:blue", "100/month", mode="strict")
    world.set_budget(f"key:{name}", "100/day", mode="learned")
    world.upstreams["openai"].script = bill(share=0.5)
    hundred(world, ask, 10)
    world.upstreams["openai"].script = bill(hold=threading.Event())
    clients = [world.connect(timeout=60) for _ in range(20)]
    for client in clients:
        client.send(ask.data)
    wait_until(lambda: world.in_flight() == 20, 10, "20 in flight")
    assert world.budget("team:blue")["reserved_nano_usd"] == 20 * ask.worst
    world.kill()
    for client in clients:
        client.close()
    world.start()
    rows = world.rows_for(name, 30)
    crashed = [row for row in rows if row["end_reason"] == "crash"]
    assert {(row["cost_nano_usd"], row["grade"]) for row in crashed} == {(ask.worst, "estimated")} and len(crashed) == 20
    for scope in ("team:blue", f"key:{name}"):
        budget = world.budget(scope)
        assert (budget["spent_nano_usd"], budget["reserved_nano_usd"]) == (sum_of(rows), 0)


def test_moving_to_another_team_moves_no_spend(fresh):
    """Streams in flight stay with the team that their rows name, also where a budget comes before they end."""
    world = fresh(providers=("openai",))
    name, token = world.make_key(team="blue")
    ask = Ask(token, stream=True)
    hold = threading.Event()
    world.upstreams["openai"].script = bill(hold=hold)
    world.set_budget("team:blue", "100/month", mode="strict")
    with world.connect(timeout=60) as client:
        client.send(ask.data)
        wait_until(lambda: world.in_flight() == 1, 10, "one in flight")
        world.call("key.update", name=name, team="red")
        world.set_budget("team:red", "100/month", mode="strict")
        world.set_budget("team:blue", "100/day", mode="strict")
        hold.set()
        assert client.read_response().status == 200
    wait_until(lambda: world.in_flight() == 0, 10, "it ended")
    assert {p: b["spent_nano_usd"] for p, b in world.budgets("team:blue").items()} == {"month": ask.worst, "day": ask.worst}
    assert world.budget("team:red")["spent_nano_usd"] == 0
    (row,) = world.rows_for(name, 1)
    assert row["team"] == "blue"


# ---- rotation

def test_rotation_keeps_the_spend_and_the_grace_ends(fresh):
    world = fresh(providers=("openai",))
    name, old = world.make_key(budget=["100/day"])
    ask = Ask(old)
    world.upstreams["openai"].script = bill()
    hundred(world, ask, 5)
    began = time.monotonic()
    new = world.call("key.rotate", name=name, grace="4s")["key"]
    ends = time.monotonic() + 4
    assert new != old
    with world.connect() as kept:
        kept.send(ask.data)
        assert kept.read_response().status == 200, "the old one works on"
        assert world.exchange(Ask(new).data).status == 200
        assert world.budget(f"key:{name}")["spent_nano_usd"] == 6 * ask.worst + Ask(new).worst
        world.restart()
        if time.monotonic() < began + 4 - 1:
            assert world.exchange(ask.data).status == 200, "a restart keeps the grace"
        time.sleep(max(0, ends - time.monotonic()) + 0.2)
    assert world.exchange(ask.data).status == 401
    assert world.exchange(Ask(new).data).status == 200
    rows = world.list_rows(key=name)
    assert world.budget(f"key:{name}")["spent_nano_usd"] == sum_of(rows) >= 7 * ask.worst


def test_rotation_ends_on_an_open_connection(world):
    """What a connection remembers of the old secret ends with its grace too."""
    name, old = world.make_key()
    ask = Ask(old)
    with world.connect() as client:
        client.send(ask.data)
        assert client.read_response().status == 200
        world.call("key.rotate", name=name, grace="2s")
        client.send(ask.data)
        assert client.read_response().status == 200
        time.sleep(2.2)
        client.send(ask.data)
        assert client.read_response().status == 401
    assert world.exchange(ask.data).status == 401


def test_rotation_without_grace(world):
    name, old = world.make_key()
    ask = Ask(old)
    with world.connect() as client:
        client.send(ask.data)
        assert client.read_response().status == 200
        new = world.call("key.rotate", name=name)["key"]
        client.send(ask.data)
        assert client.read_response().status == 401
    assert world.exchange(Ask(new).data).status == 200


# ---- thresholds

def alerts(world, scope):
    return [(a["percent"], a["spent_nano_usd"], a["cap_nano_usd"]) for a in world.call("budget.alerts", limit=1000)["items"] if a["scope"] == scope]


def logged(world, name):
    """The log's lines about a budget's thresholds, by subject."""
    return [line for line in world.daemon.err.read_text().splitlines() if "budget_threshold" in line and re.search(rf"\b{name}\b", line)]


def test_thresholds_fire_once(fresh):
    """50, 80 and 100 %, once each, in log and record, across settlements, edits and a restart; answers above one carry the warning."""
    world = fresh(providers=("openai",))
    name, token = world.make_key()
    scope, ask = f"key:{name}", Ask(token, pad=10)
    world.upstreams["openai"].script = bill()
    world.set_budget(scope, f"{usd(10 * ask.worst)}/month", mode="strict", alert="50,80,100")
    warnings = []
    with world.connect() as client:
        for _ in range(10):
            client.send(ask.data)
            response = client.read_response()
            assert response.status == 200
            warnings.append(response.get("x-chaperone-budget-warning"))
    assert warnings[:5] == [None] * 5
    assert all(w.startswith("key month budget: $") and w.endswith("(50% reached)") for w in warnings[5:8]), warnings
    assert all(w.endswith("(80% reached)") for w in warnings[8:])
    wait_until(lambda: len(alerts(world, scope)) == 3, 10, "three alerts")
    cap = 10 * ask.worst
    assert sorted(alerts(world, scope)) == [(50, 5 * ask.worst, cap), (80, 8 * ask.worst, cap), (100, cap, cap)]
    assert len(logged(world, name)) == 3
    world.set_budget(scope, f"{usd(20 * ask.worst)}/month")
    with world.connect() as client:
        for _ in range(3):
            client.send(ask.data)
            response = client.read_response()
            assert response.status == 200
            assert response.get("x-chaperone-budget-warning").endswith("(50% reached)"), "13 of 20 spent"
    world.restart()
    for _ in range(7):
        assert world.exchange(ask.data).status == 200
    assert world.exchange(ask.data).status == 429
    time.sleep(0.3)
    assert len(alerts(world, scope)) == 3, "none twice in one period"
    assert len(logged(world, name)) == 3


def test_a_lowered_cap_fires_at_once(world):
    """Nothing more will be admitted, so that no settlement would tell of it."""
    name, token = world.make_key()
    scope, ask = f"key:{name}", Ask(token)
    world.set_budget(scope, 100 * ask.worst, mode="strict", alert="50,80,100")
    for _ in range(3):
        assert world.exchange(ask.data).status == 200
    world.settled(scope)
    assert alerts(world, scope) == []
    world.set_budget(scope, 2 * ask.worst)
    wait_until(lambda: len(alerts(world, scope)) == 3, 10, "three alerts")
    assert sorted(alerts(world, scope)) == [(percent, 3 * ask.worst, 2 * ask.worst) for percent in (50, 80, 100)]


def test_one_answer_can_pass_several_thresholds(world):
    name, token = world.make_key()
    ask = Ask(token)
    world.set_budget(f"key:{name}", ask.worst, mode="strict", alert="10,20,99")
    assert world.exchange(ask.data).status == 200
    wait_until(lambda: len(alerts(world, f"key:{name}")) == 3, 10, "three alerts")
    assert sorted(a[0] for a in alerts(world, f"key:{name}")) == [10, 20, 99]


def test_thresholds_under_parallel_settlement(world):
    name, token = world.make_key()
    ask = Ask(token)
    world.set_budget(f"key:{name}", 100 * ask.worst, mode="strict", alert="25,50,75")
    assert count_by_status(all_at_once(world, [ask] * 100)) == {200: 100}
    wait_until(lambda: len(alerts(world, f"key:{name}")) >= 3, 10, "three alerts")
    time.sleep(0.2)
    assert sorted(a[0] for a in alerts(world, f"key:{name}")) == [25, 50, 75]


# ---- streams that pass the end of the money

def slow_stream(dialect, deltas, pause=0.02, gap=None):
    """A stream whose counted deltas cost a token each; `gap` holds it after the first two."""
    def script(connection, req):
        parts = events(dialect, MODEL, len(req.body), deltas, deltas)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i, part in enumerate(parts):
            if i == 2 and gap:
                gap.wait(20)
            connection.send(b"%x\r\n%s\r\n" % (len(part), part), pause)
        connection.send(b"0\r\n\r\n")
    return script


def error_event(body, dialect):
    """The last event of a stream, which must be the dialect's error."""
    last = body.rstrip(b"\r\n").replace(b"\r\n", b"\n").split(b"\n\n")[-1].split(b"\n")
    if dialect == "anthropic":
        assert last[0] == b"event: error"
        last = last[1:]
    assert len(last) == 1 and last[0].startswith(b"data: ")
    return json.loads(last[0][6:])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_is_cut_when_the_money_ends(world, dialect):
    """`on_exhausted: cut`: the stream ends with the dialect's error event, the upstream is left, and what was seen is charged."""
    name, token = world.make_key(dialect)
    ask = Ask(token, dialect, output=2000, stream=True)
    cap = len(ask.body) * INPUT + 20 * OUTPUT
    world.set_budget(f"key:{name}", cap, mode="soft", on_exhausted="cut")
    upstream = world.upstreams[dialect]
    upstream.script = slow_stream(dialect, 1000)
    response = world.exchange(ask.data)
    assert response.status == 200 and not response.truncated, "the framing ends as it should"
    event = error_event(response.body, dialect)
    error = event["error"]
    assert error["message"].startswith("Budget limit reached")
    if dialect == "openai":
        assert error["code"] == "insufficient_quota"
    elif dialect == "anthropic":
        assert event["type"] == "error" and error["details"]["error_code"] == "enforced_spend_limit_reached"
    else:
        assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
    wait_until(upstream.last.connection.gone.is_set, 10, "the upstream is left")
    (row,) = world.rows_for(name, 1)
    assert (row["end_reason"], row["rule"], row["grade"], row["status"]) == ("budget_cut", "budget_exceeded", "partial", 200)
    assert 0 < row["cost_nano_usd"] == world.settled(f"key:{name}")["spent_nano_usd"] <= cap + 10 * OUTPUT


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_ends_by_default(world, dialect):
    """`finish`: what was admitted comes to its end, though the budget is spent meanwhile."""
    name, token = world.make_key(dialect)
    ask = Ask(token, dialect, output=300, stream=True)
    world.set_budget(f"key:{name}", 100 * USD, mode="strict")
    gap = threading.Event()
    world.upstreams[dialect].script = slow_stream(dialect, 30, 0, gap)
    with world.connect(timeout=30) as client:
        client.send(ask.data)
        wait_until(world.in_flight, 10, "it runs")
        world.set_budget(f"key:{name}", 0)
        gap.set()
        response = client.read_response()
    assert response.body == b"".join(events(dialect, MODEL, len(ask.body), 30, 30))
    assert world.rows_for(name, 1)[0]["end_reason"] == "done"


def test_a_stream_is_cut_by_anothers_spend(world):
    """The cap is lowered, or spent by others, while a stream runs: it ends at its next event."""
    name, token = world.make_key()
    world.set_budget(f"key:{name}", 100 * USD, mode="strict", on_exhausted="cut")
    gap = threading.Event()
    world.upstreams["openai"].script = slow_stream("openai", 50, 0.01, gap)
    with world.connect(timeout=30) as client:
        client.send(Ask(token, stream=True).data)
        wait_until(world.in_flight, 10, "it runs")
        world.set_budget(f"key:{name}", 1)
        gap.set()
        response = client.read_response()
    assert error_event(response.body, "openai")["error"]["code"] == "insufficient_quota"


# ---- shadows

def test_shadow_budgets_refuse_nothing_and_say_what_they_would_have(world):
    name, token = world.make_key()
    ask = Ask(token)
    world.set_budget(f"key:{name}", ask.worst, mode="strict", shadow=True, on_exhausted="cut")
    assert [world.exchange(ask.data).status for _ in range(3)] == [200] * 3
    assert world.settled(f"key:{name}")["spent_nano_usd"] == 3 * ask.worst, "it counts all the same"
    rows = world.rows_for(name, 3)
    assert sorted(row["rule"] for row in rows) == ["", "shadow:budget_exceeded", "shadow:budget_exceeded"]
    assert len(world.list_rows(key=name, shadow=True)) == 2
    assert world.list_rows(key=name, denied=True) == []
    stream = world.exchange(Ask(token, stream=True).data)
    assert stream.body.endswith(b"data: [DONE]\n\n"), "and cuts nothing"
    world.set_budget(f"key:{name}", ask.worst, shadow=False)
    assert world.exchange(ask.data).status == 429


# ---- the price of the admission

def test_a_price_that_changes_in_flight_is_not_yet_this_ones(fresh):
    """A contract price from now on leaves what was admitted before at the old one (security.md §4.32)."""
    world = fresh(providers=("openai",))
    name, token = world.make_key()
    world.set_budget(f"key:{name}", 100 * USD, mode="strict")
    hold = threading.Event()
    world.upstreams["openai"].script = bill(hold=hold)
    ask = Ask(token)
    with world.connect(timeout=30) as client:
        client.send(ask.data)
        wait_until(world.in_flight, 10, "it runs")
        world.call("price.set", model=MODEL, input="50", output="70")
        hold.set()
        assert client.read_response().status == 200
    assert world.settled(f"key:{name}")["spent_nano_usd"] == ask.worst
    assert world.exchange(ask.data).status == 200
    assert world.settled(f"key:{name}")["spent_nano_usd"] == ask.worst + len(ask.body) * 50000 + ask.output * 70000


# ---- the same from the command line

def test_the_commands(fresh):
    """`key create --budget`, `budget set|list|show|delete|alerts`, `usage list --denied|--shadow`, as people use them."""
    world = fresh(providers=("openai",))
    world.upstreams["openai"].script = bill()
    token = world.key("app", "openai", models="unit-*", team="blue", options=(
        "--budget", "1/day", "--budget", "10/month", "--budget-mode", "strict", "--rpm", "600", "--map", "cheap=unit-1", "--deny-models", "unit-9"))
    ask = Ask(token, model="cheap")

    def listed(*arguments):
        return json.loads(world.cli(*arguments, "-o", "json").stdout)["items"]

    budgets = {(b["scope"], b["period"]): b for b in listed("budget", "list")}
    assert set(budgets) == {("key:app", "day"), ("key:app", "month")}
    assert budgets["key:app", "day"]["mode"] == "strict" and budgets["key:app", "day"]["cap_nano_usd"] == USD
    assert world.exchange(ask.data).status == 200
    world.cli("budget", "set", "key:app", f"{usd(ask.worst)}/day", "--alert", "50,100", "--tz", "Europe/Vienna")
    world.cli("budget", "set", "team:blue", "0/week", "--shadow")
    assert world.exchange(ask.data).status == 429
    assert world.exchange(Ask(token, model="unit-9").data).status == 403
    world.cli("budget", "delete", "key:app", "day", "--yes")
    assert world.exchange(ask.data).status == 200
    assert {b["period"] for b in listed("budget", "show", "key:app")} == {"month"}
    wait_until(lambda: len(listed("usage", "list", "--key", "app")) == 4, 10, "four rows")
    assert [row["rule"] for row in listed("usage", "list", "--denied")] in (
        ["budget_exceeded", "model_not_allowed"], ["model_not_allowed", "budget_exceeded"])
    assert [row["rule"] for row in listed("usage", "list", "--shadow")] == ["shadow:budget_exceeded"]
    told = world.cli("key", "explain", "app", "--model", "cheap", "--input-tokens", "10", "-o", "json", check=False)
    assert (told.returncode, json.loads(told.stdout)["model_sent"]) == (0, "unit-1")
    told = world.cli("key", "explain", "app", "--model", "other", "--input-tokens", "10", "-o", "json", check=False)
    assert (told.returncode, json.loads(told.stdout)["code"]) == (4, "model_not_allowed")
    assert [(a["scope"], a["period"], a["percent"]) for a in listed("budget", "alerts")] == [("team:blue", "week", 80)], "a shadow tells too"
