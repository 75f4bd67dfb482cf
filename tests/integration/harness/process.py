# SPDX-License-Identifier: Apache-2.0
"""The daemon, its sandbox provider and its CLI as processes of their own, started and stopped by pid."""
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import time

from .client import Closed, RawClient, request

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = pathlib.Path(os.environ.get("CHAPERONE_BIN", ROOT / "build/asan/chaperone")).resolve()
REPORT = re.compile(r"(Address|Leak|Thread|UndefinedBehavior)Sanitizer|runtime error:|[Aa]ssertion")
# Leaks are looked for at every stop; a report must change the exit code.
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=1:exitcode=99:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1",
              "TSAN_OPTIONS": "exitcode=99"}


def is_sanitized():
    return b"__asan_init" in BINARY.read_bytes()


def count_ports():
    """Below the kernel's range for outgoing connections (32768 and up), or one of those takes the port before its listener does."""
    port = random.randrange(12_000, 32_000)
    while True:
        port = port + 1 if port < 32_000 else 12_000
        yield port


PORTS = count_ports()


def free_port():
    for port in PORTS:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return port


def clean_environment(**extra):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CHAPERONE_", "OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_"))}
    return {**kept, **SANITIZERS, **extra}


def wait_until(true, within=10.0, what="the condition", every=0.02):
    deadline = time.monotonic() + within
    while not (value := true()):
        assert time.monotonic() < deadline, f"{what} did not come within {within} s"
        time.sleep(every)
    return value


def yaml(value, indent=0):
    """The subset of YAML that the configuration uses."""
    pad = "  " * indent
    if isinstance(value, dict):
        lines = []
        for name, item in value.items():
            if isinstance(item, (dict, list)):
                lines += [f"{pad}{name}:", yaml(item, indent + 1)]
            else:
                lines.append(f"{pad}{name}: {scalar(item)}")
        return "\n".join(lines)
    lines = []
    for item in value:
        text = yaml(item, indent + 1) if isinstance(item, (dict, list)) else pad + "  " + scalar(item)
        lines.append(pad + "- " + text[len(pad) + 2:])
    return "\n".join(lines)


def scalar(value):
    """Words and numbers stand bare, everything else in quotes."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if re.fullmatch(r"[\w./-]+", text) else json.dumps(text)


class Process:
    """A child with its two outputs in files."""

    def __init__(self, arguments, folder, name, environment=None, **options):
        self.out = folder / f"{name}.out"
        self.err = folder / f"{name}.log"
        with open(self.out, "ab") as out, open(self.err, "ab") as err:
            self.child = subprocess.Popen([str(a) for a in arguments], stdin=subprocess.DEVNULL, stdout=out,
                                          stderr=err, env=environment or clean_environment(), **options)

    @property
    def pid(self):
        return self.child.pid

    def is_running(self):
        return self.child.poll() is None

    def stop(self, within=20):
        """SIGTERM, then the exit code; kills what does not end in time and fails."""
        if self.is_running():
            self.child.send_signal(signal.SIGTERM)
        try:
            code = self.child.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"pid {self.pid} did not end within {within} s of SIGTERM\n{self.tail()}") from None
        self.check()
        return code

    def kill(self):
        self.child.kill()
        self.child.wait(10)

    def tail(self, lines=40):
        return "\n".join(self.err.read_text(errors="replace").splitlines()[-lines:])

    def check(self):
        """No sanitizer and no assertion has spoken."""
        text = self.err.read_text(errors="replace")
        found = REPORT.search(text)
        assert not found, text[max(0, found.start() - 500):found.start() + 6000]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident_kib(self):
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1])


class Sandbox(Process):
    def __init__(self, folder, *options, name="sandbox", environment=None):
        super().__init__([BINARY, "sandbox", "--listen", "127.0.0.1:0", *options], folder, name, environment)
        line = wait_until(lambda: re.search(r"http://127\.0\.0\.1:(\d+)\n", self.out.read_text()), 15, "the sandbox's address")
        self.port = int(line[1])
        self.url = f"http://127.0.0.1:{self.port}"


class Installation:
    """One `chaperone init` folder, its daemon and the CLI that talks to it."""

    def __init__(self, folder, certificates=None, **settings):
        self.folder = folder
        self.port = free_port()
        self.tls_port = free_port() if certificates else None
        self.certificates = certificates
        self.daemon = None
        self.keys = {}
        self.run("init", "--dir", folder, "--listen", f"127.0.0.1:{self.port}", "--no-input")
        self.config = folder / "chaperone.yaml"
        self.configure(**settings)

    def configure(self, **settings):
        """Writes the configuration file anew with the tests' settings."""
        listeners = [{"address": f"127.0.0.1:{self.port}"}]
        if self.certificates:
            listeners.append({"address": f"127.0.0.1:{self.tls_port}",
                              "tls": {"certificate": self.certificates.pem("good"), "key": self.certificates.key("good")}})
            settings.setdefault("upstream", {"ca": self.certificates.ca})
        values = {"listen": listeners, "database": "chaperone.db", "master_key": "${file:master.key}", "threads": 2,
                  "log": {"level": "debug"}, **settings}
        self.config.write_text(yaml(values) + "\n")

    # The command line.

    def run(self, *arguments, input=None, check=True, environment=None):
        done = subprocess.run([str(BINARY), *map(str, arguments)], input=input, capture_output=True, text=True,
                              timeout=60, env=environment or clean_environment())
        assert not REPORT.search(done.stderr), done.stderr
        if check:
            assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def cli(self, *arguments, **options):
        return self.run(*arguments, "--config", self.config, **options)

    def provider(self, name, type_, base_url, secret, *options):
        self.cli("provider", "create", name, "--type", type_, "--base-url", base_url, "--secret-stdin", *options,
                 input=secret + "\n")

    def key(self, name, *providers, models="*", team="tests", options=()):
        arguments = ["key", "create", name, "--team", team, *options]
        if models:
            arguments += ["--models", models]
        for provider in providers:
            arguments += ["--provider", provider]
        token = self.cli(*arguments).stdout.strip()
        assert re.fullmatch(r"ch_[a-z0-9_]{1,48}_sk_[0-9A-Za-z]{50}", token), token
        self.keys[name] = token
        return token

    def usage(self, *options, limit=10_000):
        rows = json.loads(self.cli("usage", "list", "-o", "json", "--limit", limit, *options).stdout)
        assert rows["schema"] == "chaperone.usage/1"
        return rows["items"]

    def rows_of(self, key, count=1, within=10):
        """The key's usage rows by id, once there are `count` of them: oldest first, but for those of one millisecond."""
        rows = []

        def came():
            rows[:] = self.usage("--key", key)
            return len(rows) >= count

        wait_until(came, within, f"{count} usage rows of {key}", 0.05)
        assert len(rows) == count, rows
        return sorted(rows, key=lambda row: row["id"])

    # The daemon.

    def start(self, within=30, environment=None):
        self.daemon = Process([BINARY, "serve", "--config", self.config], self.folder, "daemon", environment)
        return self.wait_ready(within)

    def wait_ready(self, within=30):
        deadline = time.monotonic() + within
        while not self.is_ready():
            assert self.daemon.is_running(), f"the daemon ended at start\n{self.daemon.tail()}"
            assert time.monotonic() < deadline, f"the daemon is not ready after {within} s\n{self.daemon.tail()}"
            time.sleep(0.02)
        return self

    def is_ready(self):
        try:
            with RawClient(self.port, timeout=5) as client:
                client.send(request("/readyz", None, method="GET"))
                return client.read_response("GET").status == 200
        except (OSError, Closed):
            return False

    def stop(self):
        """Ends the daemon: exit 0 and nothing said by a sanitizer."""
        daemon, self.daemon = self.daemon, None
        if daemon:
            code = daemon.stop()
            assert code == 0, f"exit {code}\n{daemon.tail()}"

    def kill(self):
        daemon, self.daemon = self.daemon, None
        daemon.kill()
        daemon.check()

    def restart(self, **settings):
        self.stop()
        if settings:
            self.configure(**settings)
        return self.start()

    def connect(self, tls=False, **options):
        if tls:
            return RawClient(self.tls_port, tls=self.certificates.client(), **options)
        return RawClient(self.port, **options)

    def exchange(self, data, tls=False, method="POST", timeout=15):
        """One request on a connection of its own."""
        with self.connect(tls, timeout=timeout) as client:
            client.send(data)
            return client.read_response(method)
