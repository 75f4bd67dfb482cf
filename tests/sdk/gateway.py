# SPDX-License-Identifier: Apache-2.0
"""Chaperone before its sandbox provider, as the SDK tests use it: a base URL and a key, plain and over TLS.

As a program, `gateway.py COMMAND…` runs the command with the addresses and keys in its environment.
"""
import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from harness.certs import Certificates  # noqa: E402
from harness.process import Installation, Sandbox, clean_environment  # noqa: E402

# The sandbox takes this credential and no other: an answer proves that the wrapped key was exchanged for it.
SECRET = "sk-sandbox-CANARY-5Tq8Wn2Xc7Zr"
# One red pixel.
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==")
# Keys that are refused: by a budget that is spent, with either status; by a rate that refills in a second and a half. The last
# one's streams are cut as soon as they cost something.
LIMITED = {"spent": ("--budget", "0/day", "--budget-mode", "strict"),
           "spent-402": ("--budget", "0/month", "--budget-status", "402"),
           "paced": ("--rpm", "40"),
           "cut": ("--budget", "0/day", "--budget-mode", "soft")}
BASES = {"openai": "/v1", "anthropic": "", "gemini": ""}


class Gateway:
    def __init__(self, folder):
        self.folder = folder
        self.certificates = Certificates(folder / "certs")
        self.ca = str(self.certificates.ca)
        self.record = folder / "record.jsonl"
        self.sandbox = Sandbox(folder, "--record", self.record, "--api-key", SECRET)
        self.daemon = Installation(folder / "chaperone", self.certificates)
        self.daemon.start()
        self.urls = {"plain": f"http://127.0.0.1:{self.daemon.port}", "tls": f"https://127.0.0.1:{self.daemon.tls_port}"}
        self.keys = {}
        for name, base in BASES.items():
            self.daemon.provider(name, name, self.sandbox.url + base, SECRET)
            self.keys[name] = self.daemon.key(f"{name}-all", name)
            self.keys[f"{name}-narrow"] = self.daemon.key(f"{name}-narrow", name, models="only-this-model")
            for kind, options in LIMITED.items():
                self.keys[f"{name}-{kind}"] = self.daemon.key(f"{name}-{kind}", name, options=options)
            self.daemon.cli("budget", "set", f"key:{name}-cut", "0/day", "--on-exhausted", "cut")

    def environment(self):
        """What a child needs to know. Node reads the authority's file when it starts."""
        names = {f"GATEWAY_KEY_{name.upper().replace('-', '_')}": key for name, key in self.keys.items()}
        return clean_environment(GATEWAY_PLAIN=self.urls["plain"], GATEWAY_TLS=self.urls["tls"], NODE_EXTRA_CA_CERTS=self.ca,
                                 **names)

    def records(self):
        """What the sandbox says it answered."""
        lines = self.record.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be being written

    def close(self):
        self.daemon.stop()
        assert self.sandbox.stop() == 0


def main():
    with tempfile.TemporaryDirectory(prefix="chaperone-sdk-") as folder:
        gateway = Gateway(pathlib.Path(folder))
        try:
            code = subprocess.run(sys.argv[1:], env=gateway.environment(), timeout=int(os.environ.get("GATEWAY_SECONDS", "300"))).returncode
        finally:
            gateway.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
