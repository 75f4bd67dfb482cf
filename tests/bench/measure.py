# SPDX-License-Identifier: Apache-2.0
"""The measures. Each gives rows for the table, and a ratio is the median of the ratios within a
round. On shared hosts one second differs from the next by a third: CPU an exchange and latencies go
through the targets in turns so short that what slows the machine slows them alike."""

import dataclasses
import json
import re
import signal
import statistics
import subprocess
import time

from stage import LOAD_CORE, BenchError, on_core, wait_for

CONNECTIONS = 64
TURN_SECONDS = 0.1
ANSWER = "size-170"  # of the sandbox: a body of about 750 bytes
STREAM_EVENTS, STREAM_GAP_US = 100, 5000
HOLD_DRIP_MS = 2000
IDLE_SECONDS = 6  # after five, memory that only serves speed is given back
HELD_FEW, HELD_MANY = 1000, 10000
SPARE_DESCRIPTORS = 400  # of a proxy, beside two for each stream
KEYS_FEW, KEYS_MANY = 10_000, 1_000_000
FLOOD_RATE, FLOOD_SECONDS, FLOOD_PAIRS = 100_000, 2, 3

PASS, MISS = "pass", "miss"


@dataclasses.dataclass
class Plan:
    """How much is measured."""

    rounds: int  # of loads and latencies
    turns: int  # rounds of loads in turns
    seconds: int  # of one load
    latency_requests: int  # at one connection, a round
    short_streams: int  # for the first byte
    stream_rounds: int
    held: list  # open streams
    held_relays: bool  # also by the bare relays
    keys_many: bool
    store_seconds: int


FULL = Plan(5, 9, 2, 4000, 1000, 10, [HELD_FEW, HELD_MANY], True, True, 8)
QUICK = Plan(3, 5, 1, 1500, 300, 3, [HELD_FEW], False, False, 2)


@dataclasses.dataclass
class Row:
    what: str
    values: dict  # target -> text
    ratios: dict = dataclasses.field(default_factory=dict)  # bare relay -> chaperone's part of it
    goal: str = ""
    verdict: str = ""


def verdict(is_reached):
    return PASS if is_reached else MISS


def ratios(by_target):
    """chaperone over each relay: the median over the rounds. What a relay adds may vanish in the
    noise of a single round: such a round has no ratio."""
    own = by_target.get("chaperone", [])
    found = {}
    for name in by_target.keys() & {"nginx", "haproxy"}:
        pairs = [(a, b) for a, b in zip(own, by_target[name], strict=True) if a > 0 and b > 0]
        if pairs:
            found[name] = statistics.median(a / b for a, b in pairs)
    return found


def texts(by_target, form):
    return {name: form.format(value) for name, value in by_target.items()}


def medians(by_target, form):
    return texts({name: statistics.median(values) for name, values in by_target.items()}, form)


def ratio_verdict(found, limit, relay="nginx"):
    return verdict(found[relay] <= limit) if relay in found else ""


# ---- load: 64 connections


def chat_body(size, **extra):
    """A chat request of `size` bytes. The prompt has line ends and quotes, as prompts do."""
    prose = 'The relay reads "all of it", line by line,\nand forgets what it does not need. '

    def body(text):
        messages = [{"role": "user", "content": text}]
        return json.dumps({"model": "gpt-4o-mini", "temperature": 0.2, **extra, "messages": messages})

    text = (prose * (size // len(prose) + 1))[:size]
    while len(body(text)) > size:
        text = text[: -max(1, (len(body(text)) - size) // 2)]
    return body(text + "." * (size - len(body(text))))


def settle(process):
    """Waits until the process has nothing left to do: its writer included."""
    seen = -1.0

    def is_quiet():
        nonlocal seen
        before, seen = seen, process.cpu_seconds()
        return seen == before

    wait_for(f"{process.name} at rest", is_quiet, every=0.15)


@dataclasses.dataclass
class Load:
    cpu_us: float  # of the proxy, an exchange
    rate: float  # exchanges a second
    busy: float  # part of its core
    exchanges: int
    errors: int


class Run:
    """wrk against one target, under way from the start."""

    def __init__(self, stage, name, body_file, directives, seconds, tokens=None):
        self.name, self.process = name, stage.process(name)
        url = f"http://127.0.0.1:{stage.port_of(name, 'load')}"
        token_file = stage.folder / f"tokens-{name}"
        token_file.write_text("\n".join(tokens or [stage.token_of(name, "load")]))
        settle(self.process)
        self.cpu = self.process.cpu_seconds()
        self.seconds = seconds
        command = [
            "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s",
            "-s", stage.templates / "post.lua", url, "--", token_file, body_file, directives,
        ]
        self.wrk = subprocess.Popen(
            on_core(LOAD_CORE, command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )

    def result(self):
        out, err = self.wrk.communicate(timeout=self.seconds + 30)
        found = re.search(r"requests (\d+) us (\d+) errors (\d+)", out)
        if self.wrk.returncode != 0 or not found:
            raise BenchError(f"wrk: {err.strip()} {out.strip()}")
        exchanges, took_us, errors = map(int, found.groups())
        busy = (self.process.cpu_seconds() - self.cpu) * 1e6 / took_us
        settle(self.process)
        if exchanges == 0:
            raise BenchError(f"{self.name}: not one exchange")
        spent = (self.process.cpu_seconds() - self.cpu) * 1e6
        return Load(spent / exchanges, exchanges * 1e6 / took_us, busy, exchanges, errors)

    def end(self):
        if self.wrk.poll() is None:
            self.wrk.kill()
            self.wrk.wait()


def load_once(stage, name, body_file, directives, seconds, tokens=None):
    run = Run(stage, name, body_file, directives, seconds, tokens)
    try:
        return run.result()
    finally:
        run.end()


def load_in_turns(stage, names, body_file, directives, seconds, tokens):
    """All targets, of which one is under load at a time, a tenth of a second each. Only their CPU has a meaning."""
    runs = []
    try:
        for name in names:
            runs.append(Run(stage, name, body_file, directives, seconds * len(names), tokens))
            runs[-1].wrk.send_signal(signal.SIGSTOP)
        end = time.monotonic() + seconds * len(names)
        while time.monotonic() < end:
            for run in runs:
                run.wrk.send_signal(signal.SIGCONT)
                time.sleep(TURN_SECONDS)
                run.wrk.send_signal(signal.SIGSTOP)
        for run in runs:
            run.wrk.send_signal(signal.SIGCONT)
        return {run.name: run.result() for run in runs}
    finally:
        for run in runs:
            run.end()


def measure_load(stage, plan, what, body, directives, limit, key="sandbox"):
    tokens = [stage.tokens[key]]
    body_file = stage.folder / "body.json"
    body_file.write_text(body)
    loads = {name: [] for name in stage.targets()}
    for name in loads:  # warm: connections, caches, branch predictors
        load_once(stage, name, body_file, directives, 1, tokens)
    rows_before = stage.usage_rows()
    turns = [
        load_in_turns(stage, list(loads), body_file, directives, plan.seconds, tokens) for _ in range(plan.turns)
    ]
    for _ in range(plan.rounds):
        for name in loads:
            loads[name].append(load_once(stage, name, body_file, directives, plan.seconds, tokens))
    cpu = {name: [load[name].cpu_us for load in turns] for name in loads}
    rate = {name: [load.rate for load in of] for name, of in loads.items()}
    found = ratios(cpu)
    cost = Row(f"{what}: CPU µs an exchange", medians(cpu, "{:.1f}"), found, f"≤ {limit} × nginx")
    cost.verdict = ratio_verdict(found, limit)
    return [
        cost,
        Row(f"{what}: exchanges a second", medians(rate, "{:,.0f}"), ratios(rate)),
        busy_row(what, loads),
        *honesty_rows(
            stage, what, {name: [*of, *(load[name] for load in turns)] for name, of in loads.items()},
            rows_before,
        ),
    ]


def busy_row(what, loads):
    busy = {name: [100 * load.busy for load in of] for name, of in loads.items()}
    return Row(f"{what}: its core's use, %", medians(busy, "{:.0f}"))


def honesty_rows(stage, what, loads, rows_before):
    """Nothing failed, and each exchange has its row in the database. wrk cuts at most its 64
    connections at the end of a round; these have rows too."""
    own = loads["chaperone"]
    exchanges = sum(load.exchanges for load in own)
    rows = stage.usage_rows() - rows_before
    is_complete = exchanges <= rows <= exchanges + len(own) * CONNECTIONS
    errors = {name: sum(load.errors for load in of) for name, of in loads.items()}
    return [
        Row(f"{what}: errors", {name: str(count) for name, count in errors.items()},
            goal="0", verdict=verdict(errors["chaperone"] == 0)),
        Row(f"{what}: usage rows of {exchanges:,} exchanges", {"chaperone": f"{rows:,}"},
            goal="all", verdict=verdict(is_complete)),
    ]


def measure_small(stage, plan):
    return measure_load(stage, plan, "300 B prompt, 750 B answer", chat_body(300), ANSWER, 1.0)


def measure_policy(stage, plan):
    """The same work for a key with five budgets, a model list, a map and all limits."""
    stage.open_policed_key()
    what = "the same, five budgets, model list, all limits"
    return measure_load(stage, plan, what, chat_body(300), ANSWER, 1.0, key="policed")


def measure_large(stage, plan):
    return measure_load(stage, plan, "100 KB prompt", chat_body(100_000), ANSWER, 1.3)


def measure_burst(stage, plan):
    body = chat_body(300, stream=True, stream_options={"include_usage": True})
    rows = measure_load(stage, plan, "streamed answer, 100 events at once", body, "events-100", 1.0)
    rows[0].goal = rows[0].verdict = ""  # design.md sets none
    return rows


def added_row(what, names, timed, column):
    us = {name: [line[column] / 1000 for line in timed if line[1] == i] for i, name in enumerate(names)}
    added = {name: [a - d for a, d in zip(us[name], us["direct"], strict=True)] for name in names[1:]}
    row = Row(what, medians(added, "{:.0f}"), ratios(added))
    row.values["direct"] = f"{statistics.median(us['direct']):.0f} (whole)"
    return row


# ---- one connection


def parse_lines(text):
    return {name: int(value) for name, value in (line.split("\t") for line in text.splitlines())}


def time_calls(stage, plan, names):
    """p50 and p99 in nanoseconds of each target, measured in turns."""
    targets = [text for name in names for text in (stage.port_of(name, "load"), stage.token_of(name, "load"))]
    answer = stage.tool("bench_latency", ANSWER, plan.latency_requests, *targets)
    took = [tuple(map(int, line.split("\t"))) for line in answer.splitlines()]
    for name, (_, _, errors) in zip(names, took, strict=True):
        if errors:
            raise BenchError(f"{name}: {errors} answers were no 200")
    return [(p50, p99) for p50, p99, _ in took]


def measure_latency(stage, plan):
    names = ["direct", *stage.targets()]
    timed = []
    for turn in range(plan.rounds):
        timed += [[turn, i, *took] for i, took in enumerate(time_calls(stage, plan, names))]
    rows = [added_row(f"one connection: added {p}, µs", names, timed, 2 + i) for i, p in enumerate(("p50", "p99"))]
    for row in rows:
        row.goal, row.verdict = "≤ 1.0 × nginx", ratio_verdict(row.ratios, 1.0)
    return rows


# ---- malformed keys


def measure_keyflood(stage, plan):
    """Good calls on one connection, alone and beside a flood of keys that are none: many short pairs, since a
    moment of the host's own is all that a p99 shows."""
    port = stage.port_of("chaperone", "load")
    alone, beside, answered = [], [], []

    def p99_ns():
        return time_calls(stage, plan, ["chaperone"])[0][1]

    for _ in range(FLOOD_PAIRS * plan.rounds):
        alone.append(p99_ns())
        flood = subprocess.Popen(
            # Where nobody else computes: the load's own calls share this core, and what the flood
            # takes of it is not what it does to the proxy.
            on_core(LOAD_CORE, ["chrt", "--idle", "0", stage.tools / "bench_flood", port, FLOOD_RATE, FLOOD_SECONDS]),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )
        try:
            time.sleep(0.2)
            while flood.poll() is None and len(beside) < len(alone):
                beside.append(p99_ns())
            counts = parse_lines(flood.communicate(timeout=FLOOD_SECONDS + 30)[0])
        finally:
            flood.kill()
        answered.append(counts["answered"] * 1e6 / counts["seconds_us"])
    change = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
    rate = statistics.median(answered)
    return [
        Row(f"{FLOOD_RATE:,} malformed keys a second: answered a second", {"chaperone": f"{rate:,.0f}"}),
        Row("p99 of good calls beside them, of that without", {"chaperone": f"{change:.2f} ×"},
            goal="≤ 1.20 ×", verdict=verdict(change <= 1.2) if rate >= 0.95 * FLOOD_RATE else MISS),
    ]


# ---- streams


def time_streams(stage, names, events, gap_us, rounds):
    """Per round and target: time to the first byte, and p50 and p99 of the events' ways, in ns."""
    targets = [f"{stage.port_of(name, 'streams')}:{stage.token_of(name, 'streams')}" for name in names]
    answer = stage.tool("bench_stream", stage.stream_upstream_port, events, gap_us, rounds, *targets)
    return [[int(field) for field in line.split()] for line in answer.splitlines()]


def measure_streams(stage, plan):
    names = ["direct", *stage.targets()]
    short = time_streams(stage, names, 3, 0, plan.short_streams)
    first = added_row("stream: added time to first byte, µs", names, short, 2)
    first.goal = "≤ 100 µs"
    first.verdict = verdict(float(first.values["chaperone"]) <= 100)
    dripped = time_streams(stage, names, STREAM_EVENTS, STREAM_GAP_US, plan.stream_rounds)
    what = "stream, an event each 5 ms: added delay"
    return [
        first,
        added_row(f"{what} p50, µs", names, dripped, 3),
        added_row(f"{what} p99, µs", names, dripped, 4),
    ]


# ---- memory


def hold(stage, name, count):
    """Resident MB of a proxy while `count` streams are open and have each had some events."""
    command = [
        stage.tools / "bench_hold", stage.port_of(name, "hold"), stage.token_of(name, "hold"), count,
        f"events-1000, drip-{HOLD_DRIP_MS}ms",
    ]
    holder = stage.start(
        "bench_hold", LOAD_CORE, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    if holder.child.stdout.readline().strip() != "open":
        holder.child.wait()
        holder.check()
    time.sleep(2.2 * HOLD_DRIP_MS / 1000)
    resident = stage.process(name).memory_mb()
    holder.child.stdin.close()
    ended = parse_lines(holder.child.stdout.read())["ended"]
    holder.child.wait()
    stage.stop(holder)
    if ended:
        raise BenchError(f"{name}: {ended} of {count} streams ended early")
    return resident


def measure_memory(stage, plan):
    stage.stop_chaperone()
    stage.start_chaperone()  # what the loads left in the allocator is not part of this
    possible = (stage.descriptors - SPARE_DESCRIPTORS) // 2
    names = stage.targets() if plan.held_relays else ["chaperone"]
    time.sleep(IDLE_SECONDS)
    idle = {name: stage.process(name).memory_mb() for name in names}
    rows = [Row("idle: resident MB", texts(idle, "{:.1f}"))]
    for count in plan.held:
        held = min(count, possible)
        resident = {name: hold(stage, name, held) for name in names}
        note = "" if held == count else f" ({count:,} need a higher descriptor limit)"
        row = Row(f"{held:,} open streams: resident MB{note}", texts(resident, "{:.1f}"))
        row.ratios = ratios({name: [mb] for name, mb in resident.items()})
        if count == HELD_MANY:
            row.goal = "≤ 400 MB"
            row.verdict = verdict(resident["chaperone"] * count / held <= 400)
        rows.append(row)
    return rows


# ---- keys


def fill(stage, first, end):
    """Makes keys with the daemon down. Returns some tokens and the seconds that its start then took."""
    stage.stop_chaperone()
    tokens = stage.tool("bench_keys", stage.config, "sandbox", first, end - first, seconds=150).split()
    return tokens, stage.start_chaperone()


def measure_keys(stage, plan):
    tokens, start = fill(stage, 0, KEYS_FEW)
    time.sleep(IDLE_SECONDS)
    resident = stage.process("chaperone").memory_mb()
    rows = [
        Row("idle, 10,000 keys: resident MB", {"chaperone": f"{resident:.1f}"},
            goal="≤ 20 MB", verdict=verdict(resident <= 20)),
        Row("start with 10,000 keys: seconds", {"chaperone": f"{start:.2f}"}),
    ]
    if plan.keys_many:
        rows += measure_many_keys(stage, resident, tokens)
    return rows


def cost_of_keys(stage, tokens):
    """CPU of exchanges that go through the tokens in turn, by nginx's in the same round: the runs
    compared lie minutes apart."""
    body_file = stage.folder / "body.json"
    body_file.write_text(chat_body(300))
    own, control = [], []
    for _ in range(5):
        own.append(load_once(stage, "chaperone", body_file, ANSWER, 1, tokens).cpu_us)
        is_there = "nginx" in stage.relays
        control.append(load_once(stage, "nginx", body_file, ANSWER, 1).cpu_us if is_there else 1)
    return statistics.median(a / b for a, b in zip(own, control, strict=True))


def measure_many_keys(stage, few_mb, few_tokens):
    few = cost_of_keys(stage, few_tokens)
    many_tokens, start = fill(stage, KEYS_FEW, KEYS_MANY)
    time.sleep(IDLE_SECONDS)
    many_mb = stage.process("chaperone").memory_mb()
    key_bytes = (many_mb - few_mb) * 1e6 / (KEYS_MANY - KEYS_FEW)
    in_use = len(few_tokens)
    slower = cost_of_keys(stage, many_tokens[:: len(many_tokens) // in_use]) / few
    spread = cost_of_keys(stage, many_tokens) / few
    return [
        Row("start with 1,000,000 keys: seconds", {"chaperone": f"{start:.1f}"},
            goal="≤ 5 s", verdict=verdict(start <= 5)),
        Row("1,000,000 keys: resident bytes a key", {"chaperone": f"{key_bytes:.0f}"},
            goal="≤ 300 B", verdict=verdict(key_bytes <= 300)),
        Row(f"1,000,000 keys against 10,000, {in_use} in use: CPU an exchange", {"chaperone": f"{slower:.2f} ×"},
            goal="≤ 1.05 ×", verdict=verdict(slower <= 1.05)),
        Row(f"the same, {len(many_tokens):,} in use", {"chaperone": f"{spread:.2f} ×"}),
    ]


# ---- the store


def measure_store(stage, plan):
    folder = stage.folder / "store"
    folder.mkdir()
    answer = stage.tool("bench_store", plan.store_seconds, 1000, folder, seconds=plan.store_seconds + 60)
    found = dict(line.split("\t")[:2] for line in answer.splitlines())
    rate = float(found["usage_rows_per_s"])
    return [
        Row("usage rows a second into SQLite", {"chaperone": f"{rate:,.0f}"},
            goal="≥ 100,000", verdict=verdict(rate >= 100_000)),
        Row("the same: CPU µs a row", {"chaperone": found["writer_cpu_us"]}),
        Row("a claim and a settlement in the journal, ns", {"chaperone": found["journal_settle_ns"]}),
        Row("a credential opened, ns", {"chaperone": found["vault_open_ns"]}),
    ]


# In this order: memory is measured on a fresh daemon, and keys stay once they are made.
MEASURES = {
    "small": measure_small,
    "policy": measure_policy,
    "large": measure_large,
    "burst": measure_burst,
    "latency": measure_latency,
    "keyflood": measure_keyflood,
    "streams": measure_streams,
    "memory": measure_memory,
    "keys": measure_keys,
    "store": measure_store,
}
