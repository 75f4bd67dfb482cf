# SPDX-License-Identifier: Apache-2.0
"""`key explain` says beforehand what a request then meets, rule by rule."""
import json
import threading

import pytest

from harness.client import request
from harness.money import INPUT, OUTPUT, USD, Ask, MoneyWorld, bill
from harness.process import wait_until


@pytest.fixture(scope="module")
def shared_explain(tmp_path_factory):
    world = MoneyWorld(tmp_path_factory.mktemp("explain"))
    yield world
    world.close()


@pytest.fixture
def world(shared_explain):
    for upstream in shared_explain.upstreams.values():
        upstream.forget()
        upstream.script = bill()
    yield shared_explain
    assert shared_explain.daemon.is_running(), shared_explain.daemon.tail()
    shared_explain.daemon.check()


def explain(world, name, ask, model="unit-1"):
    return world.call("key.explain", name=name, model=model, input_tokens=len(ask.body), output_tokens=ask.output)


def check(world, name, ask, code, model="unit-1"):
    """The explanation first, then the request: both name the same rule. Gives the explanation."""
    told = explain(world, name, ask, model)
    before = world.forwarded()
    response = world.exchange(ask.data)
    assert (response.error or "") == told["code"] == (code or ""), told
    assert told["allowed"] == (code is None) == (response.status == 200)
    assert world.forwarded() - before == (code is None)
    deciding = [step for step in told["items"] if step["verdict"] == "refuses"]
    assert bool(deciding) == (code is not None)
    if deciding:
        assert (deciding[0]["rule"], deciding[0]["code"]) == (told["rule"], told["code"])
    return told


def test_allowed(world):
    name, token = world.make_key(rpm=100, tpm=100000, concurrency=5, models="unit-1", team="blue")
    ask = Ask(token)
    world.set_budget(f"key:{name}", "10/day", mode="strict")
    world.set_budget("team:blue", "10/month")
    told = check(world, name, ask, None)
    assert [step["rule"] for step in told["items"]] == ["key", "provider", "model", "price", "budget", "budget", "rate", "rate", "rate"]
    assert (told["model_sent"], told["provider"], told["priced"]) == ("unit-1", "openai", True)
    assert told["likely_cost_nano_usd"] == len(ask.body) * INPUT + ask.output * OUTPUT
    assert told["worst_cost_nano_usd"] == ask.worst
    (row,) = world.rows_for(name, 1)
    assert row["cost_nano_usd"] == told["likely_cost_nano_usd"]
    world.call("budget.delete", scope="team:blue", period="month")


def test_explaining_takes_nothing(world):
    name, token = world.make_key(rpm=1, concurrency=1)
    world.set_budget(f"key:{name}", Ask(token).worst, mode="strict")
    for _ in range(20):
        assert explain(world, name, Ask(token))["allowed"]
    assert world.exchange(Ask(token).data).status == 200


@pytest.mark.parametrize("action", ["disable", "revoke"])
def test_key(world, action):
    name, token = world.make_key()
    world.call(f"key.{action}", name=name, reason="test")
    assert check(world, name, Ask(token), "invalid_api_key")["rule"] == "key"


def test_provider(world):
    name, token = world.make_key("compatible")
    world.call("provider.disable", name="compatible")
    try:
        assert check(world, name, Ask(token), "invalid_api_key")["rule"] == "provider"
    finally:
        world.call("provider.enable", name="compatible")


def test_model(world):
    name, token = world.make_key(models="unit-*,gpt-*", deny_models="*-pro", map="cheap=gpt-5-pro,small=unit-1")
    assert check(world, name, Ask(token), None)["model_sent"] == "unit-1"
    assert check(world, name, Ask(token, model="small"), None, "small")["model_sent"] == "unit-1"
    told = check(world, name, Ask(token, model="cheap"), "model_not_allowed", "cheap")
    assert told["model_sent"] == "gpt-5-pro" and "*-pro" in next(s["because"] for s in told["items"] if s["verdict"] == "refuses")
    check(world, name, Ask(token, model="other"), "model_not_allowed", "other")


def test_price(world):
    name, token = world.make_key()
    ask = Ask(token, model="never-heard-of")
    assert not check(world, name, ask, None, "never-heard-of")["priced"]
    world.set_budget(f"key:{name}", "10/day", mode="strict")
    assert check(world, name, ask, "model_unpriced", "never-heard-of")["rule"] == "price"
    world.call("key.update", name=name, unknown_model="ceiling:1/2")
    told = check(world, name, ask, None, "never-heard-of")
    assert told["priced"] and told["worst_cost_nano_usd"] == ask.worst
    world.call("key.update", name=name, unknown_model="deny")
    world.call("budget.delete", scope=f"key:{name}", period="day")
    check(world, name, ask, "model_unpriced", "never-heard-of")


@pytest.mark.parametrize("kind", ["key", "team", "project", "provider", "all"])
@pytest.mark.parametrize("mode", ["strict", "learned", "soft"])
def test_budget(world, kind, mode):
    suffix = next(world.names)
    name, token = world.make_key("compatible", team=f"t{suffix}", project=f"p{suffix}")
    ask = Ask(token, output=50)
    scope = {"key": f"key:{name}", "team": f"team:t{suffix}", "project": f"project:p{suffix}", "provider": "provider:compatible", "all": "all"}[kind]
    spent = world.set_budget(scope, "1000/month", mode="soft")["spent_nano_usd"]
    try:
        world.set_budget(scope, ask_cap(spent, ask.worst, "month"), mode=mode)
        check(world, name, ask, None)
        told = check(world, name, ask, None if mode == "soft" else "budget_exceeded")
        step = next(s for s in told["items"] if s["rule"] == "budget")
        assert step["because"].startswith(f"{kind} month, {mode}: ")
        world.set_budget(scope, ask_cap(0, 0, "month"), shadow=True)
        told = check(world, name, ask, None)
        assert next(s for s in told["items"] if s["rule"] == "budget")["verdict"] == ("ok" if mode == "soft" else "watches")
    finally:
        world.call("budget.delete", scope=scope, period="month")


def ask_cap(spent, room, period):
    nano = spent + room
    return f"{nano // USD}.{nano % USD:09d}/{period}"


def test_what_others_hold_counts(world):
    name, token = world.make_key()
    ask = Ask(token)
    world.set_budget(f"key:{name}", 2 * ask.worst - 1, mode="strict")
    hold = threading.Event()
    world.upstreams["openai"].script = bill(hold=hold)
    with world.connect() as client:
        client.send(ask.data)
        wait_until(lambda: world.in_flight() == 1, 10, "it runs")
        told = check(world, name, ask, "budget_exceeded")
        assert "held" in next(s["because"] for s in told["items"] if s["rule"] == "budget")
        hold.set()
        client.read_response()


@pytest.mark.parametrize("limit, code", [({"rpm": 1}, "rate_limit_exceeded"), ({"tpm": 500}, "rate_limit_exceeded")], ids=["rpm", "tpm"])
@pytest.mark.parametrize("of", ["key", "team"])
def test_rate(world, limit, code, of):
    team = f"t{next(world.names)}"
    if of == "team":
        world.call("team.set", name=team, **limit)
    name, token = world.make_key(team=team, **(limit if of == "key" else {}))
    ask = Ask(token, output=250, model=world.make_model())
    check(world, name, ask, None, ask.model)
    told = check(world, name, ask, code, ask.model)
    assert told["rule"] == "rate"
    assert next(s for s in told["items"] if s["verdict"] == "refuses")["because"].startswith(f"{of} {next(iter(limit))}: ")


def test_concurrency(world):
    name, token = world.make_key(concurrency=1)
    ask = Ask(token)
    hold = threading.Event()
    world.upstreams["openai"].script = bill(hold=hold)
    with world.connect() as client:
        client.send(ask.data)
        wait_until(lambda: world.in_flight() == 1, 10, "it runs")
        check(world, name, ask, "concurrency_limit_exceeded")
        hold.set()
        client.read_response()


def test_the_first_rule_decides(world):
    """All of them refuse: the answer and the explanation name the one that the gate asks first."""
    name, token = world.make_key(models="other", rpm=1)
    world.set_budget(f"key:{name}", 0, mode="strict")
    told = check(world, name, Ask(token), "model_not_allowed")
    assert [s["rule"] for s in told["items"] if s["verdict"] == "refuses"] == ["model", "budget"]
    world.call("key.update", name=name, models="")
    check(world, name, Ask(token), "budget_exceeded")
    world.call("budget.delete", scope=f"key:{name}", period="total")
    check(world, name, Ask(token), None)
    check(world, name, Ask(token), "rate_limit_exceeded")


def test_the_same_without_a_daemon(tmp_path):
    """The rules of the database decide alike; only what is in flight is not known."""
    world = MoneyWorld(tmp_path / "w", providers=("openai",))
    try:
        name, token = world.make_key(models="unit-1")
        ask = Ask(token)
        world.set_budget(f"key:{name}", ask.worst, mode="strict")
        world.upstreams["openai"].script = bill()
        arguments = ["key", "explain", name, "--model", "unit-1", "--input-tokens", len(ask.body), "--output-tokens", ask.output, "-o", "json"]
        assert world.exchange(ask.data).status == 200
        running = json.loads(world.cli(*arguments, check=False).stdout)
        world.stop()
        stopped = json.loads(world.cli(*arguments, check=False).stdout)
        assert (running["code"], stopped["code"]) == ("budget_exceeded",) * 2
        assert running["worst_cost_nano_usd"] == stopped["worst_cost_nano_usd"]
    finally:
        world.close()
