#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Says in words where a file climbs: includes a higher floor, a neighbour it may not know, or a library of another floor.

The floors are static libraries, so an upward call does not link; this checker also finds what would link, and names
the line. Run as a test: `check_floors.py [ROOT]`, exit 1 with one sentence per violation.
"""
import pathlib
import re
import sys

FLOORS = {"base": 0, "domain": 1, "wire": 2, "store": 3, "net": 4, "proxy": 5, "admin": 6, "sandbox": 6, "app": 7}
# Neighbours that must not know each other although one stands lower.
STRANGERS = {frozenset(("store", "net")), frozenset(("admin", "sandbox"))}
# Libraries and the only floors that may see them.
LIBRARIES = [
    (re.compile(r"event2/|event\.h$|evutil\.h$|evhttp\.h$"), {"net"}, "libevent"),
    (re.compile(r"openssl/ssl\.h$|openssl/tls1\.h$"), {"net"}, "OpenSSL's TLS"),
    (re.compile(r"openssl/"), {"net", "store"}, "OpenSSL"),
    (re.compile(r"sqlite3\.h$"), {"store"}, "SQLite"),
    (re.compile(r"yaml\.h$"), {"domain"}, "libyaml"),
    (re.compile(r"pcre2\.h$"), {"domain"}, "PCRE2"),
]
# Only app/ ends the process; base/ owns ch_assert, which may abort.
ENDS = re.compile(r"(?<![\w.>])(exit|_exit|_Exit|quick_exit|abort)\s*\(")
MAY_END = {"exit": {"app"}, "_exit": {"app"}, "_Exit": {"app"}, "quick_exit": set(), "abort": {"app", "base"}}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
TALK = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def without_talk(text):
    """The text with comments and literals blanked, lines kept."""
    return TALK.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def check_includes(name, floor, text):
    for number, line in enumerate(text.splitlines(), 1):
        if not (found := INCLUDE.match(line)):
            continue
        target = found[2]
        other = target.split("/")[0]
        where = f"{name}:{number}"
        if other in FLOORS and "/" in target:
            if FLOORS[other] > FLOORS[floor]:
                yield f"{where}: {floor} (floor {FLOORS[floor]}) includes {target} of the higher floor {other} ({FLOORS[other]})."
            elif frozenset((floor, other)) in STRANGERS:
                yield f"{where}: {floor} includes {target}, but {floor} and {other} must not know each other."
        for pattern, allowed, library in LIBRARIES:
            if pattern.match(target) and floor not in allowed:
                yield f"{where}: {floor} includes {target}, but only {' and '.join(sorted(allowed))} may use {library}."
                break
        if target.endswith(".c"):
            yield f"{where}: {target} is a source file; include headers only."


def check_ends(name, floor, text):
    for number, line in enumerate(without_talk(text).splitlines(), 1):
        for found in ENDS.finditer(line):
            if floor not in MAY_END[found[1]]:
                yield f"{name}:{number}: {found[1]}() in {floor}; a lower floor returns an error, only app may end the process."


def check(root):
    files = sorted(p for top in ("src", "include") for p in (root / top).rglob("*.[ch]"))
    for path in files:
        name = path.relative_to(root)
        floor = name.parts[1]
        text = path.read_text()
        if floor not in FLOORS:
            yield f"{name}: {floor} is no floor of the house (design: {', '.join(FLOORS)})."
            continue
        yield from check_includes(name, floor, text)
        yield from check_ends(name, floor, text)
    if not files:
        yield f"{root}: no source was found, so nothing was checked."


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    violations = list(check(root))
    for sentence in violations:
        print(sentence)
    if not violations:
        print("floors: every include goes down and only app ends the process.")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
