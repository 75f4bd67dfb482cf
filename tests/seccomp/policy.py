#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the service's unit lets the daemon ask of the kernel, as a list of system calls.

    policy.py --check   whether tests/table/seccomp_allowed.txt still is what conf/chaperone.service says; exit 1 if not
    policy.py --write   makes it anew; needs systemd-analyze, of the oldest systemd that is to run the service

The table holds systemd's expansion of its groups, so that tests need no systemd."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNIT = ROOT / "conf" / "chaperone.service"
TABLE = ROOT / "tests" / "table" / "seccomp_allowed.txt"
LINES = re.compile(r"^((?:SystemCallFilter|SystemCallArchitectures|RestrictAddressFamilies|MemoryDenyWriteExecute)=.*)$", re.M)


def unit_lines():
    return LINES.findall(UNIT.read_text())


def expand(name):
    """The system calls of a group, or the call itself."""
    if not name.startswith("@"):
        return {name}
    shown = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager", name], check=True, capture_output=True,
                           text=True, timeout=60).stdout
    members = [line.strip() for line in shown.splitlines()[1:]]
    return set().union(*(expand(member) for member in members if member and not member.startswith("#")))


def allowed():
    """systemd.exec(5): the first line says whether it lists what may be; @default always may."""
    words = [line.split("=", 1)[1] for line in unit_lines() if line.startswith("SystemCallFilter=")]
    assert words and not words[0].startswith("~"), "the unit must begin with what it allows"
    calls = expand("@default")
    for word in words:
        named = set().union(*(expand(name) for name in word.lstrip("~").split()))
        calls = calls - named if word.startswith("~") else calls | named
    return calls


def table_text():
    head = ["# SPDX-License-Identifier: Apache-2.0", "# Made by tests/seccomp/policy.py --write from conf/chaperone.service:"]
    return "\n".join([*head, *(f"# {line}" for line in unit_lines()), *sorted(allowed())]) + "\n"


def recorded():
    """(the unit's lines, the system calls) of the table."""
    lines = TABLE.read_text().splitlines()
    return [line[2:] for line in lines[2:] if line.startswith("# ")], [line for line in lines if not line.startswith("#")]


def main():
    if sys.argv[1:] == ["--write"]:
        TABLE.write_text(table_text())
        return 0
    if sys.argv[1:] != ["--check"]:
        sys.exit(__doc__)
    lines, calls = recorded()
    if lines != unit_lines() or not calls:
        print(f"{TABLE.relative_to(ROOT)} is not what {UNIT.relative_to(ROOT)} says: run tests/seccomp/policy.py --write.")
        return 1
    print(f"seccomp: {len(calls)} system calls, as the unit says.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
