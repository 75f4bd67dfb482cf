#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Says where a floating-point number stands on the way of money: prices, usage, budgets, what is stored of them.

Money is integers (femto-USD a unit, nano-USD an amount). The one place that reads a binary fraction is the importer of
LiteLLM's list, whose JSON holds such numbers; it takes them over as text of 17 digits. Run as a test:
`check_no_floats.py [ROOT]`, exit 1 with one sentence per violation.
"""
import pathlib
import re
import sys

# Everything that a price, a count of tokens or an amount passes through.
WHERE = ["src/domain/*.[ch]", "include/domain/*.h", "src/store/*.[ch]", "include/store/*.h", "src/base/money.c",
         "include/base/money.h", "src/wire/usage_*.[ch]", "include/wire/usage_scan.h", "src/proxy/meter.c"]
SQL = "sql/*.sql"
TYPES = re.compile(r"\b(?:float|double|_Float\w+|float_t|double_t)\b")
CALLS = re.compile(r"\b(?:json_real\w*|json_number_value|strto(?:d|f|ld)|atof|sqlite3_\w+_double)\b")
LITERALS = re.compile(r"(?<![\w.])(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?[fFlL]?(?![\w.])|(?<![\w.])\d+[eE][+-]?\d+(?!\w)")
FORMATS = re.compile(r"%[-+ #0]*[\d*]*(?:\.[\d*]+)?L?[eEfFgG](?![\w])")
SQL_WORDS = re.compile(r"\b(?:REAL|FLOAT|DOUBLE|NUMERIC)\b|(?<![\w.'])\d+\.\d+", re.I)
# file: what of these it may hold, and how often.
ALLOWED = {"src/domain/catalogue_import.c": {"json_number_value": 2, "%.17g": 2}}

COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|//[^\n]*|/\*.*?\*/', re.S)


def blank(text):
    return re.sub(r"[^\n]", " ", text)


def without(text, kinds):
    """The text with comments, or strings too, blanked; lines kept."""
    return COMMENT.sub(lambda found: blank(found[0]) if found[0][0] in kinds else found[0], text)


def check_code(name, text):
    allowed = dict(ALLOWED.get(name, {}))
    code, with_strings = without(text, "/\"'"), without(text, "/'")
    strings = [(found.start(), found[0]) for found in COMMENT.finditer(with_strings) if found[0][0] == '"']
    found = [(m.start(), m[0], "is a floating-point type") for m in TYPES.finditer(code)]
    found += [(m.start(), m[0], "reads or writes a floating-point number") for m in CALLS.finditer(code)]
    found += [(m.start(), m[0], "is a floating-point literal") for m in LITERALS.finditer(code)]
    found += [(at, m[0], "formats a floating-point number") for at, s in strings for m in FORMATS.finditer(s)]
    for at, what, why in sorted(found):
        if allowed.get(what, 0) > 0:
            allowed[what] -= 1
            continue
        yield f"{name}:{text.count(chr(10), 0, at) + 1}: {what} {why}; money is integers."


def check_sql(name, text):
    code = re.sub(r"--[^\n]*", lambda found: blank(found[0]), text)
    for found in SQL_WORDS.finditer(code):
        yield f"{name}:{text.count(chr(10), 0, found.start()) + 1}: {found[0]} is a floating-point column or number; money is integers."


def self_check():
    bad = ["double x;", "float f(void);", "x = json_real_value(v);", "sqlite3_bind_double(s, 1, y);", "x = 1.5;",
           "x = 2e9;", "x = .5f;", 'printf("%.2f", x);', 'snprintf(t, n, "%g", x);', "x = strtod(t, NULL);"]
    good = ["int64_t doubled;", "// a double 1.5", '"0.0000025"', "a.b = 1;", "x = 0x1e5;", 'printf("%d%%", x);',
            "/* float */", "redouble();", "x = INT64_C(1000000000000);", 'f("%.96s_above_%dk")', 'f("2.5e-06")',
            "x = 1 ... 5;"]
    for text in bad:
        assert list(check_code("x.c", text)), f"not found: {text}"
    for text in good:
        assert not list(check_code("x.c", text)), f"found: {text}"
    assert list(check_sql("x.sql", "a REAL NOT NULL")) and not list(check_sql("x.sql", "-- REAL\na INTEGER"))


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    self_check()
    complaints, files = [], 0
    for pattern in WHERE + [SQL]:
        for path in sorted(root.glob(pattern)):
            name, text = str(path.relative_to(root)), path.read_text()
            complaints += check_sql(name, text) if pattern == SQL else check_code(name, text)
            files += 1
    if files < 40:
        complaints.append(f"Only {files} files were found under {root}: the places to look have moved.")
    print("\n".join(complaints) or f"No floating-point number in {files} files on the way of money.")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
