#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Says where SQL is not a constant of the program, or where SQLite is called past store/db.c.

Every statement is a literal, its values are bound: text from outside can never become SQL. Run as a test:
`check_sql.py [ROOT]`, exit 1 with one sentence per violation.
"""
import pathlib
import re
import sys

# The one file that calls SQLite's interface, and the calls that would make SQL of values there too.
LAYER = "src/store/db.c"
FORMATTERS = re.compile(r"\bsqlite3_(?:v?m|sn|vsn)printf\b|\bsqlite3_str_\w+\b|\bsqlite3_get_table\b")
CALL = re.compile(r"\bsqlite3_(?!stmt\b|int64\b)\w+\s*\(")
STRINGS = re.compile(r'"(?:\\.|[^"\\\n])*"(?:\s*(?:[A-Z_]{3,}\s*)?"(?:\\.|[^"\\\n])*")*')
STATEMENT = re.compile(r"^\s*(?:SELECT|INSERT|UPDATE|DELETE|REPLACE|PRAGMA|CREATE|ALTER|DROP|ATTACH|WITH|VACUUM)\s+(?!a\b|the\b)", re.I)
DIRECTIVE = re.compile(r"%[-+ #0]*[\d*]*(?:\.[\d*]+)?(?:hh|h|ll|l|z|j|t)?[diouxXscp]")
PREPARE = re.compile(r"\bch_db_(?:prepare|script)\s*\(\s*[^,]+,\s*([^,;]+?),", re.S)
# Literals, members of const tables that are called sql; else a name that the file declares as const.
CONSTANT = re.compile(r'^(?:"|[\w>.\[\]-]*(?:\.|->)\w*sql$)')
VARIABLE = re.compile(r"\bchar\s+\w*sql\w*\s*\[[^\]]+\]|(?<!const )\bchar\s*\*\s*\w*sql\b", re.I)


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def is_constant(text, argument):
    variable = re.match(r"\w+", argument)
    return bool(CONSTANT.match(argument) or
                variable and re.search(rf"\bconst char (?:\*(?:const )?)?{variable[0]}\b", text))


def check_file(name, text):
    text = re.sub(r"//[^\n]*", lambda found: " " * len(found[0]), text)
    for found in FORMATTERS.finditer(text):
        yield f"{name}:{line_of(text, found.start())}: {found[0]} makes SQL of values; bind them."
    if name != LAYER:
        for found in CALL.finditer(text):
            yield f"{name}:{line_of(text, found.start())}: {found[0]}…) past {LAYER}."
    for found in STRINGS.finditer(text):
        literal = "".join(re.findall(r'"((?:\\.|[^"\\\n])*)"', found[0]))
        if name.startswith("src/store/") and STATEMENT.match(literal) and DIRECTIVE.search(literal.replace("'%'", "")):
            yield f"{name}:{line_of(text, found.start())}: a statement with a format directive: {literal[:60]}"
    for found in VARIABLE.finditer(text):
        yield f"{name}:{line_of(text, found.start())}: SQL in a variable: {found[0]}"
    for found in PREPARE.finditer(text):
        argument = " ".join(found[1].split())
        choices = [one.strip() for one in argument.split("?")[-1].split(":")]
        if name not in (LAYER, "include/store/db.h") and not all(is_constant(text, one) for one in choices):
            yield f"{name}:{line_of(text, found.start())}: {argument} is no constant statement."


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    files = sorted(p for top in ("src", "include") for p in (root / top).rglob("*.[ch]"))
    violations = [one for path in files for one in check_file(str(path.relative_to(root)), path.read_text())]
    if not files:
        violations.append(f"{root}: no source was found, so nothing was checked.")
    for sentence in violations:
        print(sentence)
    if not violations:
        print("sql: every statement is a constant, and only db.c calls SQLite.")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
