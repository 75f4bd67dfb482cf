# SPDX-License-Identifier: Apache-2.0
"""Periods of budgets under a wall clock that the test sets: they begin at local midnight, also where the clock of the
zone changes, and no step of the machine's clock opens one again."""
import datetime
import random
import threading
import zoneinfo

import pytest

from harness.money import Ask, MoneyWorld, bill, usd
from harness.process import wait_until
from harness.wall_clock import WallClock


class ClockWorld(MoneyWorld):
    """A world whose daemon lives at the time of `clock`."""

    def __init__(self, folder, clock, **settings):
        self.clock = clock
        super().__init__(folder, **settings)

    def start(self, *arguments, **options):
        return super().start(*arguments, environment=self.clock.environment(), **options)


def at(text, zone="UTC"):
    """Seconds since 1970 of a local time."""
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone)).timestamp()


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    clock = WallClock(tmp_path_factory.mktemp("clock"))
    yield clock
    clock.close()


@pytest.fixture(scope="module")
def shared_clocked(tmp_path_factory, clock):
    clock.set(at("2026-01-10T12:00"))
    world = ClockWorld(tmp_path_factory.mktemp("periods"), clock, providers=("openai",))
    world.upstreams["openai"].script = bill()
    yield world
    world.close()


@pytest.fixture
def world(shared_clocked):
    yield shared_clocked
    assert shared_clocked.daemon.is_running(), shared_clocked.daemon.tail()
    shared_clocked.daemon.check()


NEW_YORK, KOLKATA, AUCKLAND = "America/New_York", "Asia/Kolkata", "Pacific/Auckland"
# (zone, period, its first day, the next one's); the machine's time only goes forward from case to case.
CASES = [
    (KOLKATA, "day", "2026-02-14", "2026-02-15"),
    (NEW_YORK, "month", "2026-02-01", "2026-03-01"),
    (AUCKLAND, "month", "2026-02-01", "2026-03-01"),
    (NEW_YORK, "day", "2026-03-07", "2026-03-08"),
    (NEW_YORK, "day", "2026-03-08", "2026-03-09"),  # 23 hours
    (NEW_YORK, "week", "2026-03-02", "2026-03-09"),
    (NEW_YORK, "month", "2026-03-01", "2026-04-01"),
    (AUCKLAND, "day", "2026-04-05", "2026-04-06"),  # 25 hours
    (AUCKLAND, "week", "2026-03-30", "2026-04-06"),
    (KOLKATA, "month", "2026-04-01", "2026-05-01"),
    (KOLKATA, "week", "2026-05-25", "2026-06-01"),
    (AUCKLAND, "day", "2026-09-27", "2026-09-28"),  # 23 hours
    (AUCKLAND, "month", "2026-09-01", "2026-10-01"),
    (NEW_YORK, "day", "2026-10-31", "2026-11-01"),
    (NEW_YORK, "month", "2026-10-01", "2026-11-01"),
    (NEW_YORK, "day", "2026-11-01", "2026-11-02"),  # 25 hours
    (KOLKATA, "day", "2026-12-31", "2027-01-01"),
    (AUCKLAND, "month", "2026-12-01", "2027-01-01"),
    (NEW_YORK, "week", "2026-12-28", "2027-01-04"),
    (NEW_YORK, "month", "2028-02-01", "2028-03-01"),  # a leap year
    ("Europe/London", "day", "2028-03-26", "2028-03-27"),
    ("America/Havana", "day", "2028-03-12", "2028-03-13"),  # a day that begins at one o'clock
    ("UTC", "month", "2028-04-01", "2028-05-01"),
]


@pytest.mark.parametrize("zone, period, first, following", CASES, ids=lambda value: str(value))
def test_a_period_ends_at_local_midnight(world, clock, zone, period, first, following):
    """Room for one request a period: refused until the last moment, admitted at the first of the next, whatever steps the clock makes."""
    start, end = at(first, zone), at(following, zone)
    name, token = world.make_key()
    ask = Ask(token)
    clock.set(start + 3600)
    world.set_budget(f"key:{name}", f"{usd(ask.worst)}/{period}", mode="strict", tz=zone, alert="100")

    def status():
        return world.exchange(ask.data).status

    assert status() == 200
    clock.set(end - 2)
    refused = world.exchange(ask.data)
    assert refused.status == 429
    assert datetime.datetime.fromisoformat(refused.get("x-chaperone-budget-reset").replace("Z", "+00:00")).timestamp() == end
    clock.set(start + 7200)
    assert status() == 429, "an hour back, a day on: it is the same period"
    clock.set(start - 86400)
    assert status() == 429, "before its beginning the period goes on"
    clock.set(end)
    assert status() == 200, "the first moment of the next one"
    assert status() == 429
    assert world.settled(f"key:{name}")["spent_nano_usd"] == ask.worst
    for back in (1, 3600, 86400, 40 * 86400):
        clock.set(end - back)
        assert status() == 429, "a clock that steps back opens nothing again"
    clock.set(end + 5)
    budget = world.budget(f"key:{name}")
    assert (budget["spent_nano_usd"], budget["reserved_nano_usd"]) == (ask.worst, 0)
    fired = [a for a in world.call("budget.alerts", limit=1000)["items"] if a["scope"] == f"key:{name}"]
    assert len(fired) == 2 and len({a["period_start"] for a in fired}) == 2, "once in each of the two periods"


def test_a_restart_counts_the_present_period_alone(world, clock):
    name, token = world.make_key()
    ask = Ask(token)
    clock.set(at("2029-06-10T22:00", AUCKLAND))
    for period in ("day", "month", "total"):
        world.set_budget(f"key:{name}", f"1000/{period}", mode="strict", tz=AUCKLAND)
    for day, count in (("2029-06-10T23:58:00", 3), ("2029-06-11T00:00:00", 2), ("2029-07-01T00:00:00", 1)):
        clock.set(at(day, AUCKLAND))
        for _ in range(count):
            assert world.exchange(ask.data).status == 200
        for _ in range(2):
            found = {p: b["spent_nano_usd"] // ask.worst for p, b in world.budgets(f"key:{name}").items()}
            assert found == {"2029-06-10T23:58:00": {"day": 3, "month": 3, "total": 3}, "2029-06-11T00:00:00": {"day": 2, "month": 5, "total": 5},
                             "2029-07-01T00:00:00": {"day": 1, "month": 1, "total": 6}}[day]
            world.restart()
            clock.set(at(day, AUCKLAND) + 1.5)


def test_what_ends_after_its_period_belongs_to_it(world, clock):
    """A stream that was admitted before midnight takes no room of the new day; its row is of the old one."""

    name, token = world.make_key()
    ask = Ask(token, stream=True)
    midnight = at("2030-01-01", NEW_YORK)
    clock.set(midnight - 3600)
    world.set_budget(f"key:{name}", f"{usd(ask.worst)}/day", mode="strict", tz=NEW_YORK)
    world.set_budget(f"key:{name}", f"{usd(100 * ask.worst)}/total", mode="strict", tz=NEW_YORK)
    hold = threading.Event()
    world.upstreams["openai"].script = bill(hold=hold)
    with world.connect(timeout=30) as client:
        client.send(ask.data)
        wait_until(world.in_flight, 10, "it runs")
        clock.set(midnight + 1)
        world.upstreams["openai"].script = bill()
        assert world.exchange(ask.data).status == 200, "the new day has its room"
        assert world.exchange(ask.data).status == 429
        hold.set()
        assert client.read_response().status == 200
    assert {p: b["spent_nano_usd"] for p, b in world.budgets(f"key:{name}").items()} == {"day": ask.worst, "total": 2 * ask.worst}
    rows = world.rows_for(name, 3)
    assert [row["at"][:10] for row in rows] == ["2030-01-01"] * 3, "five o'clock UTC is midnight there"
    world.restart()
    assert {p: b["spent_nano_usd"] for p, b in world.budgets(f"key:{name}").items()} == {"day": ask.worst, "total": 2 * ask.worst}


def test_traffic_over_midnight(world, clock):
    """The sum of both days' counters is that of the rows, with requests on every side of the step."""

    name, token = world.make_key()
    midnight = at("2030-03-01", KOLKATA)
    clock.set(midnight - 3600)
    world.set_budget(f"key:{name}", "1000/day", mode="strict", tz=KOLKATA)
    world.set_budget(f"key:{name}", "1000/total", mode="strict", tz=KOLKATA)
    clock.set(midnight - 60)
    done = []

    def keep_asking():
        with world.connect(timeout=30) as client:
            for _ in range(60):
                client.send(Ask(token).data)
                done.append(client.read_response().status)

    world.upstreams["openai"].script = bill(pause=0.03)
    threads = [threading.Thread(target=keep_asking, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(done) >= 40, 30, "requests before midnight", 0.005)
    clock.set(midnight - 0.2)
    for thread in threads:
        thread.join(60)
    assert done == [200] * 480
    world.upstreams["openai"].script = bill()
    rows = world.rows_for(name, 480)
    today = sum(r["cost_nano_usd"] for r in rows if datetime.datetime.fromisoformat(r["at"].replace("Z", "+00:00")).timestamp() >= midnight)
    total = sum(r["cost_nano_usd"] for r in rows)
    assert 0 < today < total
    budgets = world.budgets(f"key:{name}")
    assert budgets["total"]["spent_nano_usd"] == total
    # What came in the last moment, and was admitted after another's first one, counts for the new day.
    assert today <= budgets["day"]["spent_nano_usd"] <= today + 8 * Ask(token).worst


def test_a_stepped_clock_under_load(world, clock):
    """A day forth and back while requests run: nobody is refused or lost, nothing is held, the total is the sum of the rows."""

    name, token = world.make_key()
    base = at("2031-05-20T12:00")
    clock.set(base)
    world.set_budget(f"key:{name}", "1000/day", mode="strict")
    world.set_budget(f"key:{name}", "1000/total", mode="strict")
    world.upstreams["openai"].script = bill(pause=0.005)
    failed = []

    def keep_asking():
        with world.connect(timeout=30) as client:
            for _ in range(60):
                client.send(Ask(token, stream=random.random() < 0.5).data)
                if client.read_response().status != 200:
                    failed.append(1)

    threads = [threading.Thread(target=keep_asking, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    rng = random.Random(7)
    while any(thread.is_alive() for thread in threads):
        clock.set(base + rng.choice([-86400, -3600, -1, 0, 1, 3600, 86400]))
        threads[0].join(0.02)
    assert not failed
    clock.set(base + 86400)
    budgets = world.budgets(f"key:{name}")
    rows = world.rows_for(name, 480)
    assert all(b["reserved_nano_usd"] == 0 for b in budgets.values())
    assert budgets["total"]["spent_nano_usd"] == sum(r["cost_nano_usd"] for r in rows)
    world.upstreams["openai"].script = bill()
    world.restart()
    assert world.budgets(f"key:{name}")["total"]["spent_nano_usd"] == sum(r["cost_nano_usd"] for r in rows)
