#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether a release binary is built as hard as the compiler can: `check_hardening.py BINARY`, exit 1 with one sentence
per fault. Reads what readelf and objdump of binutils print."""
import pathlib
import re
import subprocess
import sys

# Of the many functions that FORTIFY replaces, the ones without which the flag was not on.
FORTIFIED = ("__snprintf_chk", "__memcpy_chk")


def tool(*arguments):
    return subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60).stdout


def start_file():
    """The C library's own start of every program."""
    return tool("cc", "-print-file-name=Scrt1.o").strip()


def has_cet(path):
    return "IBT, SHSTK" in tool("readelf", "-nW", path)


def check_layout(binary):
    header = tool("readelf", "-hlW", binary)
    dynamic = tool("readelf", "-dW", binary)
    if not re.search(r"Type:\s+DYN", header) or not re.search(r"FLAGS_1\).*\bPIE\b", dynamic):
        yield "it is no position-independent executable (-fPIE, -pie)"
    if "GNU_RELRO" not in header:
        yield "its relocations stay writable (-z relro)"
    if not re.search(r"\(FLAGS\).*BIND_NOW|FLAGS_1\).*\bNOW\b", dynamic):
        yield "it is not bound at start, so the relocations stay writable (-z now)"
    stack = re.search(r"GNU_STACK.*", header)
    if not stack or re.search(r"\bRWE\b|\bE\b", stack[0]):
        yield "its stack is executable (-z noexecstack)"
    if any(re.search(r"\bRWE\b", line) for line in header.splitlines() if line.lstrip().startswith("LOAD")):
        yield "a segment is writable and executable"
    if re.search(r"RPATH|RUNPATH", dynamic):
        yield "it looks for libraries in a folder of its own (RPATH)"
    if "TEXTREL" in dynamic:
        yield "its code is relocated at start, which MemoryDenyWriteExecute forbids (TEXTREL)"


def check_code(binary):
    symbols = tool("readelf", "--dyn-syms", "-W", binary)
    if "__stack_chk_fail" not in symbols:
        yield "no function has a stack protector (-fstack-protector-strong)"
    for name in FORTIFIED:
        if name not in symbols:
            yield f"{name} is not used (_FORTIFY_SOURCE=2)"
    # The linker drops the note when one object lacks it, as Debian 12's start files do; the code is ready all the same.
    if has_cet(start_file()) and not has_cet(binary):
        yield "the note on control-flow protection is missing (-fcf-protection=full)"
    main = re.search(r"<main>:\n[^\n]*", tool("objdump", "-d", "--no-show-raw-insn", binary))
    if not main or "endbr64" not in main[0]:
        yield "functions do not begin with endbr64 (-fcf-protection=full)"


def check_traces(binary):
    text = pathlib.Path(binary).read_bytes()
    for folder in {str(pathlib.Path(__file__).resolve().parents[1]), str(pathlib.Path(binary).resolve().parent)}:
        if folder.encode() in text:
            yield f"it names the folder it was built in, {folder}"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    binary = sys.argv[1]
    faults = [fault for check in (check_layout, check_code, check_traces) for fault in check(binary)]
    for fault in faults:
        print(f"{binary}: {fault}.")
    if not faults:
        print(f"hardening: {binary} is PIE, full RELRO, no executable stack, stack protector, FORTIFY, "
              f"control-flow protection {'with' if has_cet(binary) else 'without'} its note.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
