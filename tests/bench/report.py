# SPDX-License-Identifier: Apache-2.0
"""The table, and docs/benchmarks.md."""

import os
import pathlib
import platform
import re
import subprocess

HEAD = ["what", "chaperone", "nginx", "haproxy", "direct", "÷ nginx", "÷ haproxy", "goal", ""]

PAGE = """# Benchmarks

Made by `scripts/bench --write`; [the design](design/benchmarks.md) of the measures is in `tests/bench/`.

- {date}, {machine}
- {versions}
- `{command}`

The proxy under test has core 0 to itself; the stand-in provider (`chaperone sandbox`) and the load share core 1;
everything is plaintext on loopback. nginx and haproxy are bare relays: no authentication, no log. chaperone does all
that it does in service: it authenticates the key, applies its model rule, replaces the credential, meters the answer
and writes one durable usage row per exchange; the CPU time of its journal, its writer thread and SQLite is counted.
Rounds go through the programs in turn. A value is the median of the rounds, a ratio the median of the ratios within a
round. "Added" is what a program adds to the direct way of the same round.

{table}
"""


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.+)", text)
    name = model.group(1) if model else platform.machine()
    return f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


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


def page(rows, date, command, named_versions):
    return PAGE.format(
        date=date, machine=machine(), versions=named_versions, command=command, table=table(rows)
    )
