# SPDX-License-Identifier: Apache-2.0
"""Starts a program with listening sockets, as systemd's socket activation does (sd_listen_fds(3))."""
import socket
import sys

from .process import BINARY, Process

# Runs in the child, so that LISTEN_PID is its own: moves the descriptors to 3 and up, then becomes the program.
LAUNCH = """
import fcntl, os, sys
fds, variables, program = sys.argv[1].split(), sys.argv[2].split(), sys.argv[3:]
moved = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
os.closerange(3, 100)
for number, fd in enumerate(moved, 3):
    os.dup2(fd, number)
os.environ["LISTEN_PID"] = str(os.getpid())
for variable in variables:
    name, _, value = variable.partition("=")
    os.environ[name] = value
os.execv(program[0], program)
"""


class Supervisor:
    """Holds the listening sockets of an installation, whose daemon it starts: (socket, name) each."""

    def __init__(self, installation, *sockets):
        self.installation, self.sockets = installation, sockets

    def spawn(self, name="daemon", **variables):
        fds = [sock.fileno() for sock, _ in self.sockets]
        variables = {"LISTEN_FDS": len(fds), "LISTEN_FDNAMES": ":".join(word for _, word in self.sockets), **variables}
        words = " ".join(f"{variable}={value}" for variable, value in variables.items())
        command = [sys.executable, "-I", "-S", "-c", LAUNCH, " ".join(map(str, fds)), words]
        serve = [BINARY, "serve", "--config", self.installation.config]
        return Process([*command, *serve], self.installation.folder, name, pass_fds=fds)

    def start(self, **variables):
        self.installation.daemon = self.spawn(**variables)
        return self.installation.wait_ready()

    def close(self):
        for sock, _ in self.sockets:
            sock.close()


def listen(port):
    return socket.create_server(("127.0.0.1", port), backlog=1024)
