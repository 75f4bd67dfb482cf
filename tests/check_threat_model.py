#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether every row of docs/threat-model.md is proven: `check_threat_model.py [ROOT]`, exit 1 with one sentence per fault.

The last column names tests as `file::test`, checkers and scripts as `file`. A file is given below tests/ (or as scripts/…); a
test is a Python or a C function of it. A row may say "not covered: reason", and only such a row may name no test; they
are counted.
"""
import pathlib
import re
import sys

PAGE = "docs/threat-model.md"
WANTED = [f"T{n}" for n in range(1, 30)] + [f"R{n}" for n in range(1, 25)]
ROW = re.compile(r"^\| ([TR]\d+) \|(.*)\|$")
NAME = re.compile(r"`([^`]+)`")
FUNCTION = r"^(?:def|static void) {}\("


def rows(page):
    """(identifier, cells, number of the line) of each row of the tables."""
    for number, line in enumerate(page.splitlines(), 1):
        if found := ROW.match(line):
            yield found[1], [cell.strip() for cell in found[2].split(" | ")], number


def check_name(root, name):
    file, _, test = name.partition("::")
    path = root / file if file.startswith("scripts/") else root / "tests" / file
    if not path.is_file():
        return f"there is no {path.relative_to(root)}"
    if test and not re.search(FUNCTION.format(re.escape(test)), path.read_text(), re.M):
        return f"{path.relative_to(root)} has no test {test}"
    return None


def is_open(cells):
    return any("not covered: " in cell for cell in cells)


def check_row(root, identifier, cells):
    if len(cells) != 5 or not all(cells):
        yield f"{identifier} has {len(cells)} cells: asset, attack, defence, what remains, proof"
        return
    names = NAME.findall(cells[-1])
    if not names and not is_open(cells):
        yield f"{identifier} names no test"
    for name in names:
        if fault := check_name(root, name):
            yield f"{identifier}: {fault}"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    found = list(rows((root / PAGE).read_text()))
    identifiers = [identifier for identifier, _, _ in found]
    faults = [f"{PAGE} has no row {wanted}" for wanted in WANTED if wanted not in identifiers]
    faults += [f"{PAGE} has {identifier} twice" for identifier in set(identifiers) if identifiers.count(identifier) > 1]
    for identifier, cells, number in found:
        faults += [f"{PAGE}:{number}: {fault}" for fault in check_row(root, identifier, cells)]
    for fault in faults:
        print(f"{fault}.")
    open_rows = [identifier for identifier, cells, _ in found if is_open(cells)]
    if not faults:
        print(f"threat model: {len(found)} rows, {len(open_rows)} of them in part not covered: {' '.join(open_rows)}.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
