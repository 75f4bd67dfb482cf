# SPDX-License-Identifier: Apache-2.0
"""The processes of a benchmark: the stand-in upstream, chaperone, and the bare relays beside it.

The proxy under test has core 0 to itself; upstream and load share core 1. Everything is on
loopback, in the clear, in one private folder that goes with the run."""

import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

PROXY_CORE, LOAD_CORE = 0, 1
WAIT_SECONDS = 20  # for a process to come up or go down
DESCRIPTORS = 65536
PORTS = range(20000, 32000)  # below the ports that the kernel gives to outgoing connections
TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The run cannot go on; the text says why."""


def raise_descriptor_limit():
    """As high as this machine lets us; returns the limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for limit in (max(DESCRIPTORS, hard), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def on_core(core, command):
    return ["taskset", "-c", str(core), *map(str, command)]


def wait_for(what, is_done, seconds=WAIT_SECONDS, every=0.02):
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {seconds} s")
        time.sleep(every)


def can_connect(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """One child, ended by its own pid."""

    def __init__(self, name, core, command, folder, **popen):
        self.name = name
        self.log = folder / f"{name}.log"
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                on_core(core, command), stderr=log, **{"stdout": log, "stdin": subprocess.DEVNULL} | popen
            )

    def proc(self, name):
        return pathlib.Path(f"/proc/{self.child.pid}/{name}").read_text()

    def check(self):
        if self.child.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise BenchError(f"{self.name} ended with {self.child.returncode}: {tail}")

    def wait_for_port(self, port):
        def is_up():
            self.check()
            return can_connect(port)

        wait_for(self.name, is_up)

    def cpu_seconds(self):
        """User and system time of all threads, also of ended ones."""
        self.check()
        fields = self.proc("stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mb(self, field="VmRSS"):
        self.check()
        return int(re.search(rf"{field}:\s+(\d+) kB", self.proc("status")).group(1)) * 1024 / 1e6

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Stage:
    """Everything that is up during a run. A target is None where its program is not installed."""

    def __init__(self, build, templates):
        self.binary = build / "chaperone"
        self.tools = build / "bench"
        self.templates = templates
        self.descriptors = raise_descriptor_limit()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="chaperone-bench-"))
        self.processes = []
        self.taken_ports = set()
        self.relays = {}  # name -> (Process, ports)
        self.tokens = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def port(self):
        for port in PORTS:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if port not in self.taken_ports and probe.connect_ex(("127.0.0.1", port)) != 0:
                    self.taken_ports.add(port)
                    return port
        raise BenchError("no free port")

    def start(self, name, core, command, **popen):
        process = Process(name, core, command, self.folder, **popen)
        self.processes.append(process)
        return process

    def stop(self, process):
        process.stop()
        self.processes.remove(process)

    # ---- the upstream

    def open_upstream(self):
        self.upstream_port, self.stream_upstream_port = self.port(), self.port()
        command = [self.binary, "sandbox", "--listen", f"127.0.0.1:{self.upstream_port}"]
        self.start("sandbox", LOAD_CORE, command).wait_for_port(self.upstream_port)

    # ---- chaperone

    def chaperone(self, *arguments, secret=None):
        """Runs one command and returns its standard output."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("CHAPERONE_")}
        env["BENCH_SECRET"] = secret or ""
        run = subprocess.run(
            on_core(LOAD_CORE, [self.binary, *arguments]),
            env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT_SECONDS,
        )
        if run.returncode != 0:
            raise BenchError(f"chaperone {arguments[0]} {arguments[1]}: {run.stderr.strip()}")
        return run.stdout

    def manage(self, *arguments, secret=None):
        return self.chaperone(*arguments, "--config", self.config, secret=secret)

    def open_chaperone(self):
        home = self.folder / "chaperone"
        self.config = home / "chaperone.yaml"
        self.chaperone_port = self.port()
        address = f"127.0.0.1:{self.chaperone_port}"
        self.chaperone("init", "--dir", home, "--listen", address, "--no-input")
        kept = [line for line in self.config.read_text().splitlines() if not line.startswith("threads:")]
        self.config.write_text("\n".join([*kept, "threads: 1", ""]))
        self.start_chaperone()
        for name, port in (("sandbox", self.upstream_port), ("timed", self.stream_upstream_port)):
            self.manage(
                "provider", "create", name, "--type", "openai", "--base-url", f"http://127.0.0.1:{port}/v1",
                "--secret-env", "BENCH_SECRET", secret="sk-benchmark-0123456789abcdefghijklmnop",
            )
            self.tokens[name] = self.manage(
                "key", "create", name, "--provider", name, "--models", "gpt-4o*,o3,sandbox-*",
                "--team", "bench", "--project", "relay", "--env", "test", "-q",
            ).strip()

    def open_policed_key(self):
        """A key that everything applies to and nothing refuses."""
        if "policed" in self.tokens:
            return
        self.tokens["policed"] = self.manage(
            "key", "create", "policed", "--provider", "sandbox", "--models", "gpt-4o*,o3,sandbox-*",
            "--deny-models", "gpt-4o-audio*", "--map", "gpt-4o-2024=gpt-4o-mini", "--team", "policed",
            "--project", "policed", "--rpm", "1000000000", "--tpm", "1000000000000", "--concurrency", "100000",
            "--budget", "100000/day", "--budget", "1000000/month", "-q",
        ).strip()
        for scope in ("team:policed", "project:policed", "all"):
            self.manage("budget", "set", scope, "1000000/month", "--mode", "strict")

    def start_chaperone(self):
        """Returns the seconds until it was ready."""
        start = time.monotonic()
        process = self.start("chaperone", PROXY_CORE, [self.binary, "serve", "--config", self.config])
        url = f"http://127.0.0.1:{self.chaperone_port}/readyz"

        def is_ready():
            process.check()
            try:
                return urllib.request.urlopen(url, timeout=1).status == 200
            except (urllib.error.URLError, OSError):
                return False

        wait_for("chaperone", is_ready, seconds=60, every=0.01)
        took = time.monotonic() - start
        port = self.chaperone_port
        self.relays["chaperone"] = (process, {"load": port, "streams": port, "hold": port})
        return took

    def stop_chaperone(self):
        self.stop(self.relays.pop("chaperone")[0])

    def status(self):
        answer = json.loads(self.manage("status", "-o", "json"))
        return answer.get("items", [answer])[0]

    def usage_rows(self):
        """Rows in the database, and no more on the way there."""
        wait_for("the usage journal", lambda: self.status()["journal_backlog_bytes"] == 0)
        answer = json.loads(self.manage("usage", "summary", "-o", "json"))
        return sum(item["requests"] for item in answer["items"])

    # ---- the bare relays

    def open_relay(self, name, template, command):
        ports = {"load": self.port(), "streams": self.port()}
        ports["hold"] = self.port() if name == "nginx" else ports["load"]
        values = {
            "DIR": self.folder,
            "LISTEN": ports["load"],
            "STREAM_LISTEN": ports["streams"],
            "HOLD_LISTEN": ports["hold"],
            "UPSTREAM": self.upstream_port,
            "STREAM_UPSTREAM": self.stream_upstream_port,
            "CLIENTS": min(25000, self.descriptors // 2 - 100),
            "DESCRIPTORS": self.descriptors,
        }
        text = (self.templates / template).read_text()
        config = self.folder / template
        config.write_text(re.sub("@([A-Z_]+)@", lambda match: str(values[match[1]]), text))
        process = self.start(name, PROXY_CORE, [*command, config])
        process.wait_for_port(ports["load"])
        self.relays[name] = (process, ports)

    def open_relays(self):
        path = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
        commands = {
            "nginx": ("nginx.conf", ["-e", "stderr", "-p", self.folder, "-c"]),
            "haproxy": ("haproxy.cfg", ["-db", "-q", "-f"]),
        }
        for name, (template, arguments) in commands.items():
            program = shutil.which(name, path=path)
            if program:
                self.open_relay(name, template, [program, *arguments])

    # ---- who is asked what

    def targets(self):
        return [name for name in ("nginx", "haproxy", "chaperone") if name in self.relays]

    def process(self, name):
        return self.relays[name][0]

    def port_of(self, name, what):
        if name == "direct":
            return self.stream_upstream_port if what == "streams" else self.upstream_port
        return self.relays[name][1][what]

    def token_of(self, name, what):
        """Only chaperone looks at it; the others see one of the same length."""
        return self.tokens["timed" if what == "streams" else "sandbox"]

    def tool(self, name, *arguments, seconds=60):
        """Runs one of our programs beside the upstream; returns its output."""
        command = on_core(LOAD_CORE, [self.tools / name, *arguments])
        run = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )
        if run.returncode != 0:
            raise BenchError(f"{name}: {run.stderr.strip()}")
        return run.stdout
