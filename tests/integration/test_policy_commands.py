# SPDX-License-Identifier: Apache-2.0
"""Money and policy from the command line: what a command changed is in force when it returns."""
import json
import re

import pytest

from harness import samples
from harness.client import request
from harness.process import wait_until
from harness.upstream import answer, reply
from harness.world import ask, wire

COST = samples.CHAT.row["cost_nano_usd"]  # of one exchange of samples.CHAT: 0.005615 USD
TOKEN = re.compile(r"ch_[a-z0-9_]+_sk_[0-9A-Za-z]{50}")


@pytest.fixture
def chat(world):
    """Sends samples.CHAT with a key and gives the answer."""
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    return lambda key, model="gpt-4o": world.exchange(
        request("/v1/chat/completions", key, samples.CHAT.body.replace(b'"gpt-4o"', f'"{model}"'.encode())))


def ask_json(world, *arguments):
    return json.loads(world.cli(*arguments, "-o", "json").stdout)


def forwards(world):
    return len(world.upstreams["openai"].requests)


def message_of(response):
    return json.loads(response.body)["error"]["message"]


# ---- budgets

def test_a_budget_holds_when_the_command_returns(world, chat):
    name, key = world.fresh_key(options=["--budget", "0.02/day", "--budget", "1/month"])
    assert chat(key).status == 200
    world.rows_of(name)
    world.cli("budget", "set", f"key:{name}", "0.001/day")
    refused = chat(key)
    assert (refused.status, refused.error) == (429, "budget_exceeded")
    assert "Budget limit exceeded for this key. Daily limit: $0.00, current spend: $0.01." in message_of(refused)
    assert refused.get("x-should-retry") == "false" and refused.get("retry-after") is None
    assert forwards(world) == 1
    world.cli("budget", "set", f"key:{name}", "1/day")
    assert chat(key).status == 200


def test_a_budget_counts_what_was_spent_before_it_came(world, chat):
    name, key = world.fresh_key()
    assert chat(key).status == 200
    budget = ask_json(world, "budget", "set", f"key:{name}", "0.01/day", "--mode", "soft")
    assert (budget["spent_nano_usd"], budget["reserved_nano_usd"], budget["percent"]) == (COST, 0, 56)
    assert (budget["schema"], budget["mode"], budget["alerts"]) == ("chaperone.budget/1", "soft", [80])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT00:00:00\.000Z", budget["resets_at"])
    assert chat(key).status == 200 and chat(key).status == 200  # soft never refuses
    (shown,) = ask_json(world, "budget", "show", f"key:{name}")["items"]
    assert shown["spent_nano_usd"] == 3 * COST


def test_a_deleted_budget_refuses_nothing(world, chat):
    name, key = world.fresh_key(options=["--budget", "0/total"])
    assert chat(key).error == "budget_exceeded"
    world.cli("budget", "delete", f"key:{name}", "total", "--yes")
    assert chat(key).status == 200
    done = world.cli("budget", "show", f"key:{name}", check=False)
    assert done.returncode == 3 and "has no budget" in done.stderr


@pytest.mark.parametrize("scope", ["team", "project", "provider"])
def test_every_scope_has_budgets(make_world, scope):
    world = make_world(providers=("openai",))
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    name, key = world.fresh_key(team="search", options=["--project", "chat"])
    subject = {"team": "search", "project": "chat", "provider": "openai"}[scope]
    world.cli("budget", "set", f"{scope}:{subject}", "0/week")
    response = world.exchange(ask(samples.CHAT, key))
    assert (response.status, response.error) == (429, "budget_exceeded")
    assert ask_json(world, "budget", "list", "--scope", scope)["items"][0]["scope"] == f"{scope}:{subject}"
    world.cli("budget", "set", f"{scope}:{subject}", "1/week")
    assert world.exchange(ask(samples.CHAT, key)).status == 200


def test_a_shadow_budget_only_records(world, chat):
    name, key = world.fresh_key(options=["--budget", "0/day"])
    world.cli("budget", "set", f"key:{name}", "0/day", "--shadow")
    assert chat(key).status == 200
    (row,) = world.rows_of(name)
    assert row["rule"] == "shadow:budget_exceeded"
    assert [r["id"] for r in world.usage("--key", name, "--shadow")] == [row["id"]]
    assert world.usage("--key", name, "--denied") == []
    world.cli("budget", "set", f"key:{name}", "0/day", "--no-shadow")
    assert chat(key).error == "budget_exceeded"
    (denied,) = world.usage("--key", name, "--denied")
    assert (denied["rule"], denied["status"], denied["end_reason"]) == ("budget_exceeded", 429, "denied")
    assert len(world.usage("--key", name, "--denied", "--shadow")) == 2


def test_a_threshold_is_told_once(world, chat):
    name, key = world.fresh_key(options=["--budget", "0.012/day", "--budget-mode", "soft"])
    world.cli("budget", "set", f"key:{name}", "0.012/day", "--alert", "40,90")

    def alerts():
        return [a for a in ask_json(world, "budget", "alerts")["items"] if a["scope"] == f"key:{name}"]

    for _ in range(3):
        assert chat(key).status == 200
    wait_until(lambda: len(alerts()) == 2, 10, "two alerts")
    assert {a["percent"] for a in alerts()} == {40, 90}
    assert {(a["cap_usd"], a["period"]) for a in alerts()} == {("0.012000000", "day")}
    assert chat(key).get("x-chaperone-budget-warning")
    lines = [line for line in world.daemon.err.read_text().splitlines() if "event=budget_threshold" in line and f'"{name}"' in line]
    assert len(lines) == 2 and all('scope="key"' in line and 'period="day"' in line for line in lines)


@pytest.mark.parametrize("arguments, code, says", [
    (["key:nobody", "1/day"], 3, "nobody"),
    (["team:x", "1"], 2, "AMOUNT/PERIOD"),
    (["teams", "1/day"], 2, "SCOPE is one of"),
    (["all", "1/day", "--tz", "Mars/Olympus"], 2, "Mars/Olympus"),
    (["all", "1/day", "--alert", "0"], 2, "--alert"),
    (["all", "1/day", "--mode", "hard"], 2, "strict learned soft"),
])
def test_a_budget_that_is_refused_says_why(world, arguments, code, says):
    done = world.cli("budget", "set", *arguments, check=False)
    assert (done.returncode, done.stdout) == (code, "") and says in done.stderr
    assert ask_json(world, "budget", "list", "--scope", "all")["items"] == []


# ---- keys

def test_an_update_is_in_force_when_it_returns(world, chat):
    name, key = world.fresh_key()
    world.cli("key", "update", name, "--models", "gpt-4.1*,o4-mini")
    assert (chat(key).status, chat(key).error) == (403, "model_not_allowed")
    world.cli("key", "update", name, "--models", "", "--deny-models", "gpt-4o")
    assert chat(key).error == "model_not_allowed"
    world.cli("key", "update", name, "--deny-models", "", "--allow-cidr", "192.0.2.0/24")
    assert chat(key).status in (401, 403)
    world.cli("key", "update", name, "--allow-cidr", "127.0.0.0/8")
    assert forwards(world) == 0 and chat(key).status == 200


def test_a_map_sends_another_model(world, chat):
    name, key = world.fresh_key(models="gpt-4o-mini", options=["--map", "gpt-4o=gpt-4o-mini"])
    assert chat(key).status == 200
    assert json.loads(world.upstreams["openai"].last.body)["model"] == "gpt-4o-mini"
    (row,) = world.rows_of(name)
    assert (row["model_asked"], row["model_sent"]) == ("gpt-4o", "gpt-4o-mini")


def test_limits_of_keys_and_teams(world, chat):
    name, key = world.fresh_key(team="limited", options=["--rpm", "1"])
    assert [chat(key).status for _ in range(2)] == [200, 429]
    world.cli("key", "update", name, "--rpm", "0")
    assert chat(key).status == 200
    world.cli("team", "set", "limited", "--rpm", "1")
    assert [chat(key).status for _ in range(2)] == [200, 429]
    team = ask_json(world, "team", "show", "limited")
    assert (team["rpm"], team["tpm"], team["key_names"]) == (1, None, [name])
    world.cli("team", "set", "limited", "--rpm", "")
    assert chat(key).status == 200


def test_a_rotation_with_grace(world, chat):
    name, old = world.fresh_key(options=["--budget", "1/day"])
    assert chat(old).status == 200
    done = world.cli("key", "rotate", name, "--grace", "1h")
    new = done.stdout.strip()
    assert TOKEN.fullmatch(new) and new != old and done.stdout == new + "\n"
    assert new not in done.stderr and "The old secret works until" in done.stderr
    assert chat(old).status == 200 and chat(new).status == 200
    last = world.cli("key", "rotate", name).stdout.strip()
    assert [chat(key).status for key in (old, new, last)] == [401, 401, 200]
    (budget,) = ask_json(world, "budget", "show", f"key:{name}")["items"]
    assert budget["spent_nano_usd"] == 4 * COST  # a rotation loses nothing
    assert new not in world.daemon.err.read_text() + world.cli("key", "show", name, "-o", "json").stdout


def test_a_status_of_ones_own(world, chat):
    _, key = world.fresh_key(options=["--budget", "0/day", "--budget-status", "402"])
    assert (chat(key).status, chat(key).error) == (402, "budget_exceeded")


def test_unknown_models(world, chat):
    name, key = world.fresh_key(options=["--unknown-model", "deny"])
    assert (chat(key, "nobody-knows-2").status, chat(key, "nobody-knows-2").error) == (403, "model_unpriced")
    body = samples.CHAT.answer.replace(b"gpt-4o-2024-08-06", b"nobody-knows-2")
    world.upstreams["openai"].script = reply(answer(body))
    world.cli("key", "update", name, "--unknown-model", "ceiling:1000/2000")
    assert chat(key, "nobody-knows-2").status == 200
    (row,) = [row for row in world.rows_of(name, 3) if row["status"] == 200]
    assert row["cost_nano_usd"] == 2006 * 1_000_000 + 300 * 2_000_000
    world.cli("key", "update", name, "--unknown-model", "")
    world.cli("provider", "update", "openai", "--unknown-model", "deny")
    try:
        assert chat(key, "nobody-knows-2").error == "model_unpriced"
    finally:
        world.cli("provider", "update", "openai", "--unknown-model", "")
    assert chat(key, "nobody-knows-2").status == 200


def test_explain_says_what_the_gate_says(world, chat):
    name, key = world.fresh_key(models="gpt-4o", options=["--budget", "0.02/day"])
    done = world.cli("key", "explain", name, "--model", "gpt-4o", "--input-tokens", "100", "--output-tokens", "10")
    assert "Allowed: gpt-4o is sent to openai." in done.stderr
    explained = ask_json(world, "key", "explain", name, "--model", "gpt-4o", "--input-tokens", "100", "--output-tokens", "10")
    assert explained["allowed"] and explained["schema"] == "chaperone.key_explanation/1"
    assert explained["likely_cost_nano_usd"] == 100 * 2500 + 10 * 10000
    for arguments, rule, status in [(["--model", "o1"], "model_not_allowed", 403), (["--model", "gpt-4o"], "budget_exceeded", 429)]:
        if rule == "budget_exceeded":
            world.cli("budget", "set", f"key:{name}", "0/day")
        done = world.cli("key", "explain", name, *arguments, "-o", "json", check=False)
        assert done.returncode == 4 and json.loads(done.stdout)["code"] == rule and "Refused" in done.stderr
        response = chat(key, arguments[1])
        assert (response.status, response.error) == (status, rule)
    assert forwards(world) == 0


# ---- prices

@pytest.fixture
def contract(world):
    """Sets a contract price; takes every one away in the end."""
    models = set()

    def set_price(model, *arguments):
        models.add(model)
        return ask_json(world, "price", "set", model, "--provider", "openai", *arguments)

    yield set_price
    for model in models:
        world.cli("price", "unset", model, "--provider", "openai")


def test_a_contract_price_is_charged_at_once(world, chat, contract):
    name, key = world.fresh_key()
    assert chat(key).status == 200
    made = contract("gpt-4o", "--input", "5", "--output", "20", "--cache-read", "2.50")
    assert chat(key).status == 200
    cost_of = {row["catalogue"]: row["cost_nano_usd"] for row in world.rows_of(name, 2)}
    (before,) = set(cost_of) - {made["catalogue"]}
    assert (cost_of[before], cost_of[made["catalogue"]]) == (COST, 2 * COST)
    assert made["catalogue"].split("+o")[0] == before.split("+o")[0]
    (listed,) = ask_json(world, "price", "list", "--overrides")["items"]
    assert (listed["provider"], listed["model"], listed["output_cost_per_token"]) == ("openai", "gpt-4o", "0.00002")


def test_rows_are_priced_anew(world, chat, contract):
    name, key = world.fresh_key()

    def rows():
        return {row["model_served"]: row for row in world.rows_of(name, 2)}

    assert chat(key, "my-own-model-7").status == 200  # served as gpt-4o
    body = samples.CHAT.answer.replace(b"gpt-4o-2024-08-06", b"my-own-model-7")
    world.upstreams["openai"].script = reply(answer(body))
    assert chat(key, "my-own-model-7").status == 200
    assert {model: row["cost_nano_usd"] for model, row in rows().items()} == {"gpt-4o-2024-08-06": COST, "my-own-model-7": None}
    contract("my-own-model-7", "--input", "1", "--output", "2", "--cache-read", "0.5", "--from", "1d")
    arguments = ["usage", "reprice", "--from", "1h", "--model", "my-own-model-7"]
    dry = ask_json(world, *arguments, "--dry-run")
    assert (dry["corrected"], dry["dry_run"]) == (1, True)
    assert rows()["my-own-model-7"]["cost_nano_usd"] is None
    cost = 86 * 1000 + 1920 * 500 + 300 * 2000
    done = ask_json(world, *arguments, "--reason", "contract")
    assert (done["corrected"], done["difference_nano_usd"]) == (1, cost)
    corrected = rows()["my-own-model-7"]
    assert rows()["gpt-4o-2024-08-06"]["cost_nano_usd"] == COST
    assert (corrected["cost_nano_usd"], corrected["is_corrected"]) == (cost, True)
    (total,) = ask_json(world, "usage", "summary", "--key", name)["items"]
    assert (total["cost_nano_usd"], total["unpriced_requests"]) == (COST + cost, 0)
    assert "my-own-model-7" not in world.cli("price", "unpriced").stdout
    assert ask_json(world, *arguments)["corrected"] == 0


def test_a_running_budget_follows_a_correction(world, chat, contract):
    """Up and down, on every scope of the row, and the same after a restart."""
    name, key = world.fresh_key(options=["--budget", "1/month", "--project", "repriced"])
    world.cli("key", "update", name, "--team", "repriced")
    scopes = [f"key:{name}", "team:repriced", "project:repriced"]
    for scope in scopes[1:]:
        world.cli("budget", "set", scope, "1/month")

    def spent():
        return [ask_json(world, "budget", "show", scope)["items"][0]["spent_nano_usd"] for scope in scopes]

    assert chat(key, "gpt-4o").status == 200
    world.rows_of(name)
    assert spent() == [COST] * 3
    for factor, output in ((2, "20"), (1, "10")):
        price = [str(float(text) * factor) for text in ("2.5", "1.25")]
        contract("gpt-4o", "--input", price[0], "--output", output, "--cache-read", price[1], "--from", "1d")
        assert ask_json(world, "usage", "reprice", "--from", "1h", "--model", "gpt-4o")["corrected"] >= 1
        assert spent() == [factor * COST] * 3
    world.restart()
    assert spent() == [COST] * 3


def test_a_price_list_that_looks_wrong_is_refused(world, tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"schema": "chaperone.prices/1", "source": "t", "date": "2026-10-10", "models": {
        "gpt-4o": {"input_cost_per_token": "0.0025", "output_cost_per_token": "0.01"}}}))
    before = ask_json(world, "status")["catalogue"]
    done = world.cli("price", "import", path, check=False)
    assert done.returncode == 4 and "--force" in done.stderr
    dry = world.cli("price", "import", path, "--dry-run", "-o", "json")
    assert json.loads(dry.stdout)["removed"] > 100 and "Suspicious" in dry.stderr
    assert ask_json(world, "status")["catalogue"] == before


@pytest.mark.parametrize("arguments, says", [
    (["gpt-4o"], "there is no price"),
    (["gpt-4o", "--input", "0.0000025"], "Prices are for a million"),
    (["gpt-4o", "--price", "no_such_key=1"], "no_such_key"),
])
def test_a_contract_price_that_is_none(world, arguments, says):
    done = world.cli("price", "set", *arguments, check=False)
    assert done.returncode == 2 and says in done.stderr


# ---- restarts and direct mode

def test_policies_survive_a_restart(make_world):
    world = make_world(providers=("openai",))
    world.upstreams["openai"].script = reply(wire(samples.CHAT))
    world.cli("price", "set", "gpt-4o", "--input", "5", "--output", "20", "--cache-read", "2.5", "--from", "1d")
    name, key = world.fresh_key(options=["--budget", "0.02/month", "--budget-mode", "strict", "--rpm", "100"])
    world.cli("budget", "set", f"key:{name}", "0.02/month", "--mode", "soft")
    assert world.exchange(ask(samples.CHAT, key)).status == 200
    world.rows_of(name)
    world.stop()
    # Without the daemon the same commands open the database themselves.
    (budget,) = ask_json(world, "budget", "list")["items"]
    assert (budget["spent_nano_usd"], budget["mode"]) == (2 * COST, "soft")
    assert ask_json(world, "key", "explain", name, "--model", "gpt-4o")["allowed"]
    world.cli("budget", "set", f"key:{name}", "0.001/month", "--mode", "learned")
    assert world.cli("key", "explain", name, "--model", "gpt-4o", check=False).returncode == 4
    shown = ask_json(world, "key", "update", name, "--label", "for later")
    assert (shown["label"], shown["rpm"], shown["budgets"][0]["cap_usd"]) == ("for later", 100, "0.001000000")
    world.start()
    assert world.exchange(ask(samples.CHAT, key)).error == "budget_exceeded"
    world.cli("budget", "set", f"key:{name}", "1/month")
    assert world.exchange(ask(samples.CHAT, key)).status == 200
    assert world.rows_of(name, 3)[-1]["cost_nano_usd"] == 2 * COST
