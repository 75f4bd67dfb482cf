# SPDX-License-Identifier: Apache-2.0
"""The table, and docs/benchmarks.md."""

import os
import pathlib
import platform
import re
import subprocess
import time

HEAD = ["what", "chaperone", "nginx", "haproxy", "direct", "÷ nginx", "÷ haproxy", "goal", ""]

PAGE = """# Benchmarks

Made by `scripts/bench --write`; measure your own machine with `scripts/bench`.

- {date}: {machine}; {busy} % busy with other work before the run
- {versions}
- `{command}`

{table}

## What stands there

- The proxy under test has core 0; the stand-in provider (`chaperone sandbox`) and the load share core 1.
  Everything is plaintext on loopback. chaperone runs with `threads: 1`, the others with one worker.
- nginx and haproxy are bare relays: no authentication, no log, connections kept on both sides. chaperone does what it
  does in service: it authenticates the key, applies its model rule, replaces the credential, meters the answer and
  writes one durable usage row an exchange. CPU time is that of the whole process, journal, writer thread and SQLite
  included, and is read when all rows are in the database; that they are all there is a row of the table.
- 64 connections that are kept alive for the loads, one for the latencies. "Added" is what a program adds to the direct
  way in the same round.
- CPU an exchange and latencies at one connection are measured in turns: each program alone on its core for a tenth of
  a second, or for 60 calls, then the next, so that what slows a shared host meets them alike. The other rounds go
  through the programs one after the other. A value is the median of the rounds; "÷ nginx" and "÷ haproxy" are
  chaperone's value divided by theirs, the median of the quotients within a round.
- The stream upstream of `tests/bench/bench_stream.c` is also its client, so that each event is timed on one clock from
  the provider's write to the client's read.
- Open streams get an event each two seconds. 1,000,000 keys: the loads go through the keys in use in turn.
"""


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.+)", text)
    name = model.group(1) if model else platform.machine()
    return f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def busy_percent(seconds=1):
    """How much of the machine others use: what makes a measure worthless is said beside it."""

    def read():
        fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    total, idle = read()
    time.sleep(seconds)
    total, idle = (now - then for now, then in zip(read(), (total, idle)))
    return round(100 * (1 - idle / total))


def version_of(command, pattern):
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(pattern, run.stdout + run.stderr)
    return found.group(1) if found else None


def versions(binary, programs):
    asked = {
        "chaperone": ([str(binary), "version"], r"(\d+\.\d+\.\d+\S*)"),
        "nginx": ([programs.get("nginx"), "-v"], r"nginx/(\S+)"),
        "haproxy": ([programs.get("haproxy"), "-v"], r"version (\S+)"),
        "wrk": ([programs.get("wrk"), "-v"], r"wrk (\S+)"),
    }
    found = {name: command[0] and version_of(command, pattern) for name, (command, pattern) in asked.items()}
    return ", ".join(f"{name} {text}" for name, text in found.items() if text)


def cells(row):
    ratio = {name: f"{value:.2f}" for name, value in row.ratios.items()}
    return [
        row.what,
        *(row.values.get(name, "") for name in ("chaperone", "nginx", "haproxy", "direct")),
        ratio.get("nginx", ""),
        ratio.get("haproxy", ""),
        row.goal,
        row.verdict,
    ]


def table(rows):
    """Markdown that is also readable as it stands."""
    lines = [HEAD, *map(cells, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]

    def line_of(texts):
        return "| " + " | ".join(t.ljust(w) if i == 0 else t.rjust(w) for i, (t, w) in enumerate(zip(texts, widths))) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([line_of(HEAD), rule, *(line_of(line) for line in lines[1:])])


def page(rows, **facts):
    return PAGE.format(machine=machine(), table=table(rows), **facts)
