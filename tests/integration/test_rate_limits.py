# SPDX-License-Identifier: Apache-2.0
"""Requests and tokens per minute and exchanges at a time, of a key and of a team, through the daemon."""
import datetime
import json
import re
import threading
import time

import pytest

from harness.client import request
from harness.money import LIKELY_OUTPUT, Ask, MoneyWorld, all_at_once, bill, count_by_status, message_of
from harness.process import wait_until
from harness.upstream import answer

DIALECTS = ("openai", "anthropic", "gemini")
# What a provider says of the account that all keys share.
UPSTREAM_FIELDS = [("x-ratelimit-limit-requests", "10000"), ("x-ratelimit-remaining-tokens", "777777"), ("X-RateLimit-Reset-Requests", "6ms"),
                   ("anthropic-ratelimit-requests-limit", "4000"), ("Anthropic-Ratelimit-Input-Tokens-Remaining", "400000"),
                   ("x-other-field", "stays")]


@pytest.fixture(scope="module")
def shared_limits(tmp_path_factory):
    world = MoneyWorld(tmp_path_factory.mktemp("limits"))
    yield world
    world.close()


@pytest.fixture
def world(shared_limits):
    for upstream in shared_limits.upstreams.values():
        upstream.forget()
        upstream.script = bill()
    yield shared_limits
    assert shared_limits.daemon.is_running(), shared_limits.daemon.tail()
    shared_limits.daemon.check()


def check_refusal(response, dialect, code, text):
    """A limit that passes by itself: SDKs are told when, and not told to stop trying."""
    assert (response.status, response.error) == (429, code)
    assert response.get("x-should-retry") is None
    assert 1 <= int(response.get("retry-after")) <= 60
    assert 1 <= int(response.get("retry-after-ms")) <= 60_000
    assert int(response.get("retry-after")) == min(60, -(-int(response.get("retry-after-ms")) // 1000))
    assert text in message_of(response, dialect), message_of(response, dialect)
    error = json.loads(response.body)["error"]
    if dialect == "openai":
        assert (error["type"], error["code"]) == ("rate_limit_exceeded", code)
    elif dialect == "anthropic":
        assert error["type"] == "rate_limit_error"
    else:
        assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
        (info,) = [d for d in error["details"] if d["@type"].endswith("RetryInfo")]
        assert re.fullmatch(r"\d+\.\d{3}s", info["retryDelay"])
        assert float(info["retryDelay"][:-1]) * 1000 == pytest.approx(int(response.get("retry-after-ms")))


def fields_of(response, dialect, asked_at=0.0):
    """The dialect's rate-limit fields: {"requests": (limit, remaining, reset in seconds), …}; a moment counts from `asked_at`."""
    found = {}
    for unit in ("requests", "tokens"):
        if dialect == "openai":
            names = [f"x-ratelimit-{what}-{unit}" for what in ("limit", "remaining", "reset")]
        else:
            names = [f"anthropic-ratelimit-{unit}-{what}" for what in ("limit", "remaining", "reset")]
        values = [response.get(name) for name in names]
        assert all(values) or not any(values), values
        if not values[0]:
            continue
        if dialect == "openai":
            assert re.fullmatch(r"\d+ms", values[2])
            reset = int(values[2][:-2]) / 1000
        else:
            reset = datetime.datetime.fromisoformat(values[2].replace("Z", "+00:00")).timestamp() - asked_at
        found[unit] = (int(values[0]), int(values[1]), reset)
    return found


# ---- requests

@pytest.mark.parametrize("dialect", DIALECTS)
def test_requests_of_a_key(world, dialect):
    """Ten at once out of forty, whichever loop they come to; the others are told when to come again."""
    name, token = world.make_key(dialect, rpm=10)
    responses = all_at_once(world, [Ask(token, dialect)] * 40)
    assert count_by_status(responses) == {200: 10, 429: 30}
    assert len(world.upstreams[dialect].requests) == 10
    for response in responses:
        if response.status == 429:
            check_refusal(response, dialect, "rate_limit_exceeded", "Rate limit exceeded for this key: 10 requests per minute.")
            assert int(response.get("retry-after-ms")) <= 6000, "one refills every six seconds"
    rows = world.rows_for(name, 40)
    assert sum(row["rule"] == "rate_limit_exceeded" for row in rows) == 30


def test_refused_calls_do_not_lengthen_the_block(world):
    """A client that hammers gets its next request as early as one that waits; no second burst comes with the minute."""
    _, token = world.make_key(rpm=60)
    ask = Ask(token)
    start = time.monotonic()
    done = count_by_status(all_at_once(world, [ask] * 70))[200]
    assert done >= 60
    while time.monotonic() < start + 4:
        done += world.exchange(ask.data).status == 200
        time.sleep(0.01)
    took = time.monotonic() - start
    assert 60 + 2 <= done <= 60 + took + 1, "one a second, no more and no less"


def test_the_wait_that_was_named_is_enough(world):
    _, token = world.make_key(rpm=120)
    ask = Ask(token)
    all_at_once(world, [ask] * 130)
    while (refused := world.exchange(ask.data)).status == 200:  # from now on nobody else asks
        pass
    time.sleep(int(refused.get("retry-after-ms")) / 1000 + 0.05)
    assert world.exchange(ask.data).status == 200


def test_requests_of_a_team(world):
    """Its keys share it, others do not; a key's own limit counts beside it."""
    team = f"t{next(world.names)}"
    world.call("team.set", name=team, rpm=6)
    tokens = [world.make_key(team=team)[1], world.make_key(team=team)[1], world.make_key(team=team, rpm=1)[1], world.make_key()[1]]
    assert [world.exchange(Ask(tokens[2]).data).status for _ in range(2)] == [200, 429]
    assert count_by_status(all_at_once(world, [Ask(token) for token in tokens[:2] * 6])) == {200: 5, 429: 7}
    refused = world.exchange(Ask(tokens[0]).data)
    check_refusal(refused, "openai", "rate_limit_exceeded", "Rate limit exceeded for this team: 6 requests per minute.")
    assert world.exchange(Ask(tokens[3]).data).status == 200
    world.call("team.set", name=team, rpm=600)
    time.sleep(0.15)
    assert world.exchange(Ask(tokens[0]).data).status == 200, "an empty bucket refills at the raised rate at once"
    world.call("team.set", name=team, rpm=0)
    assert count_by_status(all_at_once(world, [Ask(tokens[0])] * 30)) == {200: 30}


def test_limits_that_are_edited_hold_at_once(world):
    name, token = world.make_key(rpm=5)
    ask = Ask(token)
    assert count_by_status(all_at_once(world, [ask] * 10)) == {200: 5, 429: 5}
    world.call("key.update", name=name, rpm=2000)
    time.sleep(0.7)
    assert count_by_status(all_at_once(world, [ask] * 20)) == {200: 20}, "an empty bucket refills at the new rate"
    world.call("key.update", name=name, rpm=0)
    assert count_by_status(all_at_once(world, [ask] * 20)) == {200: 20}
    assert world.own(token)["limits"] == []


def test_what_a_budget_refuses_costs_no_request(world):
    """Budgets are asked first (docs/design/004): a spent one does not eat up the rate."""
    name, token = world.make_key(rpm=5)
    ask = Ask(token)
    world.set_budget(f"key:{name}", 0, mode="strict")
    assert {world.exchange(ask.data).error for _ in range(20)} == {"budget_exceeded"}
    (limit,) = world.own(token)["limits"]
    assert (limit["limit"], limit["value"], limit["remaining"]) == ("rpm", 5, 5)
    world.call("budget.delete", scope=f"key:{name}", period="total")
    assert count_by_status(all_at_once(world, [ask] * 10)) == {200: 5, 429: 5}


def test_what_a_rate_refuses_holds_no_money(world):
    name, token = world.make_key(rpm=3)
    ask = Ask(token)
    world.set_budget(f"key:{name}", 100 * ask.worst, mode="strict")
    assert count_by_status(all_at_once(world, [ask] * 50)) == {200: 3, 429: 47}
    budget = world.settled(f"key:{name}")
    assert budget["spent_nano_usd"] == 3 * ask.worst


# ---- tokens

def test_tokens_are_reserved_and_corrected(world):
    """What the likely case took and the answer did not need is given back at settlement; what it needed more is taken."""
    name, token = world.make_key(tpm=10000)
    ask = Ask(token, output=4000, model=world.make_model())
    reserved = (len(ask.body) + 3) // 4 + LIKELY_OUTPUT
    hold = threading.Event()
    world.upstreams["openai"].script = bill(share=0.01, hold=hold)

    def remaining():
        return next(limit["remaining"] for limit in world.own(token)["limits"] if limit["limit"] == "tpm")

    with world.connect() as client:
        client.send(ask.data)
        wait_until(lambda: world.in_flight() >= 1, 10, "it runs")
        assert 10_000 - reserved <= remaining() <= 10_000 - reserved + 500
        hold.set()
        assert client.read_response().status == 200
    assert remaining() >= 10_000 - 50, "a hundredth was used"
    world.upstreams["openai"].script = bill()
    assert world.exchange(ask.data).status == 200
    used = len(ask.body) + 4000
    assert 10_000 - used - 50 <= remaining() <= 10_000 - used + 800, "more than was reserved"


def test_tokens_of_a_key_and_a_team(world):
    """The likely tokens of a request decide; the team's bucket is the smaller one here."""
    team = f"t{next(world.names)}"
    model = world.make_model()
    world.call("team.set", name=team, tpm=3000)
    _, token = world.make_key(team=team, tpm=100000)
    ask = Ask(token, output=1000, model=model)
    world.upstreams["openai"].script = bill()
    responses = all_at_once(world, [ask] * 5)
    assert count_by_status(responses) == {200: 2, 429: 3}
    refused = next(r for r in responses if r.status == 429)
    check_refusal(refused, "openai", "rate_limit_exceeded", "Rate limit exceeded for this team: 3000 tokens per minute.")


def test_a_request_larger_than_the_limit_need_not_come_again(world):
    _, token = world.make_key(tpm=50)
    response = world.exchange(Ask(token, output=1000).data)
    assert (response.status, response.error) == (429, "rate_limit_exceeded")
    assert response.get("x-should-retry") == "false"
    assert response.get("retry-after") is None and response.get("retry-after-ms") is None
    assert "larger than the limit" in message_of(response)


def test_errors_of_the_provider_give_the_tokens_back(world):
    _, token = world.make_key(tpm=2000)
    world.upstreams["openai"].script = lambda connection, req: connection.send(answer(b'{"error":{}}', status="500 Oops"))
    ask = Ask(token, output=1000, model=world.make_model())
    assert [world.exchange(ask.data).status for _ in range(5)] == [500] * 5


def test_absurd_usage_keeps_the_daemon_counting(world):
    """A provider that states more tokens than there are is taken at its word, up to a day's debt."""
    name, token = world.make_key(tpm=1000000)
    world.upstreams["openai"].script = lambda connection, req: connection.send(answer(json.dumps(
        {"object": "chat.completion", "model": "unit-1", "choices": [], "usage": {"prompt_tokens": 2**62, "completion_tokens": 2**62}}).encode()))
    assert world.exchange(Ask(token).data).status == 200
    response = world.exchange(Ask(token).data)
    assert response.status in (200, 429)
    assert world.own(token)["limits"][0]["remaining"] >= 0


# ---- at a time

@pytest.mark.parametrize("dialect", DIALECTS)
def test_exchanges_at_a_time(world, dialect):
    name, token = world.make_key(dialect, concurrency=4)
    ask = Ask(token, dialect)
    world.upstreams[dialect].script = bill(hold=world.hold_until_denied(name, 16))
    responses = all_at_once(world, [ask] * 20)
    assert count_by_status(responses) == {200: 4, 429: 16}
    for response in responses:
        if response.status == 429:
            check_refusal(response, dialect, "concurrency_limit_exceeded", "Too many requests at a time for this key: 4 requests at a time.")
    world.upstreams[dialect].script = bill()
    assert [world.exchange(ask.data).status for _ in range(10)] == [200] * 10, "the places are free again"


def test_places_come_back_however_it_ends(world):
    """Resets, cuts, errors and refusals behind the limit leave no place taken."""
    name, token = world.make_key(concurrency=2)
    upstream = world.upstreams["openai"]
    ask = Ask(token)

    def cut(connection, req):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nxx")
        connection.close()

    for script in (cut, lambda connection, req: connection.reset(), lambda connection, req: connection.send(answer(status="500 Oops"))):
        upstream.script = script
        for _ in range(4):
            assert world.exchange(ask.data).status != 429
    hold = threading.Event()
    upstream.script = bill(hold=hold)
    for _ in range(6):
        client = world.connect()
        client.send(ask.data)
        wait_until(lambda: world.in_flight() == 1, 10, "it runs")
        client.reset()
        wait_until(lambda: world.in_flight() == 0, 10, "it ended")
    hold.set()
    world.call("key.update", name=name, deny_models="unit-1")
    for _ in range(5):
        assert world.exchange(ask.data).status == 403
    world.call("key.update", name=name, deny_models="")
    upstream.script = bill()
    assert count_by_status(all_at_once(world, [ask] * 2)) == {200: 2}
    assert world.own(token)["limits"] == [{"scope": "key", "limit": "concurrency", "value": 2, "remaining": 2, "reset_ms": 0}]


def test_teams_share_places(world):
    team = f"t{next(world.names)}"
    world.call("team.set", name=team, concurrency=3)
    keys = [world.make_key(team=team) for _ in range(3)]
    hold = threading.Event()
    world.upstreams["openai"].script = bill(hold=hold)
    clients = [world.connect() for _ in keys]
    for client, (_, token) in zip(clients, keys):
        client.send(Ask(token).data)
    wait_until(lambda: world.in_flight() == 3, 10, "three run")
    refused = world.exchange(Ask(keys[0][1]).data)
    check_refusal(refused, "openai", "concurrency_limit_exceeded", "Too many requests at a time for this team: 3 requests at a time.")
    hold.set()
    for client in clients:
        assert client.read_response().status == 200
        client.close()
    assert world.exchange(Ask(keys[0][1]).data).status == 200


# ---- what the caller is told

@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_fields_are_the_keys_own(world, dialect, stream):
    """The provider's numbers are those of an account that many share: they are replaced."""
    # One request is back after six seconds and thirty tokens after one: the answer comes sooner, whatever holds it up.
    _, token = world.make_key(dialect, rpm=10, tpm=2000)
    world.upstreams[dialect].script = bill(headers=UPSTREAM_FIELDS)
    asked_at = time.time()
    response = world.exchange(Ask(token, dialect, stream=stream).data)
    took = time.time() - asked_at
    assert response.status == 200 and response.get("x-other-field") == "stays"
    if dialect == "gemini":
        assert not [n for n, _ in response.headers if "ratelimit" in n.lower()], "this dialect has no such fields"
        return
    foreign = [n for n, _ in response.headers if "ratelimit" in n.lower() and n.lower().startswith("x-") != (dialect == "openai")]
    assert not foreign
    fields = fields_of(response, dialect, asked_at)
    assert fields["requests"][:2] == (10, 9) and 0 <= fields["requests"][2] <= took + 6.1
    limit, remaining, reset = fields["tokens"]
    assert limit == 2000 and 1700 <= remaining < 2000 and 0 <= reset <= took + 9.1
    assert not [n for n, _ in response.headers if "input-tokens" in n.lower()]


def test_fields_of_a_key_without_limits_are_the_providers(world):
    _, token = world.make_key()
    world.upstreams["openai"].script = bill(headers=UPSTREAM_FIELDS)
    response = world.exchange(Ask(token).data)
    assert response.get("x-ratelimit-limit-requests") == "10000"


def test_a_refusal_carries_the_numbers_too(world):
    _, token = world.make_key("anthropic", rpm=2)
    ask = Ask(token, "anthropic")
    responses = all_at_once(world, [ask] * 5)
    refused = next(r for r in responses if r.status == 429)
    assert fields_of(refused, "anthropic")["requests"][:2] == (2, 0)


# ---- shadows

def test_shadow_limits_refuse_nothing(world):
    """Key and team watch only: rows say what would have been refused, and of which kind."""
    team = f"t{next(world.names)}"
    world.call("team.set", name=team, concurrency=1, shadow=True)
    name, token = world.make_key(team=team, rpm=3, shadow="limits")
    ask = Ask(token)
    assert [world.exchange(ask.data).status for _ in range(6)] == [200] * 6
    rules = sorted(row["rule"] for row in world.rows_for(name, 6))
    assert rules == [""] * 3 + ["shadow:rate_limit_exceeded"] * 3
    assert len(world.list_rows(key=name, shadow=True)) == 3
    assert world.list_rows(key=name, denied=True) == []
    hold = threading.Event()
    world.upstreams["openai"].script = bill(hold=hold)
    other, second = world.make_key(team=team)
    clients = [world.connect() for _ in range(2)]
    for client in clients:
        client.send(Ask(second).data)
        wait_until(lambda: world.in_flight() >= 1, 10, "it runs")
    wait_until(lambda: world.in_flight() == 2, 10, "both run")
    hold.set()
    for client in clients:
        assert client.read_response().status == 200
        client.close()
    assert sorted(row["rule"] for row in world.rows_for(other, 2)) == ["", "shadow:concurrency_limit_exceeded"]


def test_free_calls_are_not_limited(world):
    """The list of models costs nothing and is not counted."""
    _, token = world.make_key(rpm=1)
    world.upstreams["openai"].script = lambda connection, req: connection.send(answer(b'{"object":"list","data":[]}'))
    for _ in range(5):
        assert world.exchange(request("/v1/models", token, method="GET"), method="GET").status == 200
