#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up the junit files of all runners: `sum_results.py FOLDER [FAILED STEP…]`.

Names every failed test and every skipped one that tests/expected_skips.txt does not list. Closes with one line
`N passed, N failed, N skipped`; exit 1 unless all is well. A failed step without a failed test of its own (a build, a
crashed runner) and a runner that ran nothing count as one failure each.
"""
import pathlib
import sys
import xml.etree.ElementTree as xml

EXPECTED = pathlib.Path(__file__).with_name("expected_skips.txt")


def cases(element, suites=()):
    """(full name, element) of every test, the suites it stands in before it."""
    for child in element:
        if child.tag == "testsuite":
            yield from cases(child, (*suites, child.get("name", "")))
        elif child.tag == "testcase":
            yield " ".join((*suites, child.get("classname", ""), child.get("name", ""))), child


def outcome_of(case):
    # Beside the usual children ctest says status="notrun", "disabled" or "fail".
    if case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail":
        return "failed"
    if case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
        return "skipped"
    return "passed"


def read(path):
    """(name, outcome) of every test of one runner."""
    root = xml.parse(path).getroot()
    for name, case in cases([root] if root.tag == "testsuite" else root):
        yield f"{path.stem}: {name}", outcome_of(case)


def expected_skips():
    """Parts of names of tests that may be skipped; the reason stands behind '#'."""
    if not EXPECTED.exists():
        return []
    lines = (line.split("#")[0].strip() for line in EXPECTED.read_text().splitlines())
    return [line for line in lines if line]


def main():
    folder, steps = pathlib.Path(sys.argv[1]), sys.argv[2:]
    count = {"passed": 0, "failed": 0, "skipped": 0}
    allowed, complaints = expected_skips(), [f"failed step: {step}" for step in steps]
    files = sorted(folder.glob("*.xml"))
    for path in files:
        try:
            outcomes = list(read(path))
        except xml.ParseError as error:
            complaints.append(f"{path.name} is broken: {error}")
            outcomes = []
        if not any(outcome != "skipped" for _, outcome in outcomes):
            complaints.append(f"{path.stem} ran no test")
        for name, outcome in outcomes:
            count[outcome] += 1
            if outcome == "failed":
                print(f"failed: {name}")
            elif outcome == "skipped" and not any(part in name for part in allowed):
                complaints.append(f"skipped unexpectedly: {name}")
    if not files:
        complaints.append("no runner left a result")
    for complaint in complaints:
        print(complaint)
    if complaints and not count["failed"]:
        count["failed"] = len(complaints)
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or complaints else 0


if __name__ == "__main__":
    sys.exit(main())
