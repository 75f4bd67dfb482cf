#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether scripts/sbom names everything that a binary loads: `check_sbom.py BINARY`, exit 1 with one sentence per fault."""
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
NEEDED_BY_SPDX = {"spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo", "packages"}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def owner_of(library):
    """The Debian package of a library by its soname."""
    path = re.search(rf"^\s*{re.escape(library)} .*=> (\S+)$", run("/sbin/ldconfig", "-p"), re.M)[1]
    for name in (str(pathlib.Path(path).resolve()), path, path.removeprefix("/usr"), "/usr" + path):
        found = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True, check=False, timeout=60)
        if found.returncode == 0:
            return found.stdout.split(":")[0]
    return None


def check(document, binary):
    for member in NEEDED_BY_SPDX - set(document):
        yield f"the document has no {member}"
    packages = {package["SPDXID"]: package for package in document["packages"]}
    for package in packages.values():
        if not package.get("versionInfo") or not re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", package["SPDXID"]):
            yield f"{package['name']} has no version or no proper identifier"
    linked = {r["relatedSpdxElement"] for r in document["relationships"] if r["relationshipType"] == "DYNAMIC_LINK"}
    for missing in linked - set(packages):
        yield f"{missing} is linked and not described"
    for library in re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-dW", binary)):
        if f"SPDXRef-{owner_of(library)}" not in linked:
            yield f"{library} ({owner_of(library)}) is loaded and not in the document"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    document = json.loads(run(ROOT / "scripts" / "sbom"))
    faults = list(check(document, sys.argv[1]))
    for fault in faults:
        print(f"{fault}.")
    if not faults:
        print(f"sbom: {len(document['packages']) - 1} packages, all that the binary loads.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
