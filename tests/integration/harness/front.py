# SPDX-License-Identifier: Apache-2.0
"""nginx and haproxy as front proxies on loopback, and a relay behind them that records what they forward.

Both are as lenient as they can be set, so that as much as possible of a hostile stream reaches the daemon. Both give every
request that they forward a field of its own, FIELD, and write one log line for it: what a front proxy believes that it
sent can be compared with what was there.
"""
import pathlib
import re
import shutil
import socket
import threading

from .process import Process, free_port, wait_until

FIELD = b"X-Front-Request"
ID = re.compile(rb"\r\n" + FIELD + rb": ([0-9A-Za-z.:_-]+)\r\n", re.I)

NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    log_format told '$request_id $request_method $status $upstream_addr';
    access_log {folder}/nginx-access.log told;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    ignore_invalid_headers off;
    underscores_in_headers on;
    merge_slashes off;
    client_max_body_size 0;
    client_header_buffer_size 32k;
    large_client_header_buffers 8 128k;
    lingering_close off;
    upstream behind {{ server 127.0.0.1:{behind}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_next_upstream off;
            proxy_read_timeout 20s;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_set_header X-Front-Request $request_id;
        }}
    }}
}}
"""

HAPROXY = """
global
    log stdout format raw local0
    # A thread that finds another one writing its log line drops its own rather than wait: with one, no line is missing.
    nbthread 1
    maxconn 500
defaults
    mode http
    log global
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    retries 0
    option accept-invalid-http-request
    http-reuse always
    unique-id-format %ci.%cp.%rt
    unique-id-header X-Front-Request
    log-format "%ID %HM %ST %s"
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server behind 127.0.0.1:{behind}
"""


def find_program(name, package):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    assert path, f"{name} is not installed: this test needs the Debian package {package}"
    return path


class Front(Process):
    """One front proxy, listening on `port`, forwarding to `behind`."""

    def __init__(self, name, folder, behind):
        self.name, self.port, self.folder = name, free_port(), folder
        config = folder / f"{name}.conf"
        template = {"nginx": NGINX, "haproxy": HAPROXY}[name]
        config.write_text(template.format(folder=folder, port=self.port, behind=behind))
        if name == "nginx":
            arguments = [find_program("nginx", "nginx-light"), "-p", folder, "-c", config, "-e", "stderr"]
        else:
            arguments = [find_program("haproxy", "haproxy"), "-db", "-f", config]
        super().__init__(arguments, folder, name)
        wait_until(self.is_listening, 10, f"{name} on port {self.port}")

    def is_listening(self):
        assert self.is_running(), self.tail()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def told(self):
        """{id: (method, status)} of every request that the proxy says it forwarded, and nothing else."""
        log = self.folder / "nginx-access.log" if self.name == "nginx" else self.out
        lines = [line.split() for line in pathlib.Path(log).read_text(errors="replace").splitlines()]
        if self.name == "nginx":
            forwarded = [line for line in lines if len(line) == 4 and line[3].startswith("127.0.0.1:")]
        else:
            forwarded = [line for line in lines if len(line) == 4 and line[3] == "behind"]
        ids = {line[0]: (line[1], line[2]) for line in forwarded}
        assert len(ids) == len(forwarded), "ids repeat"
        return ids


class Recorded:
    """One connection from a front proxy to the daemon: the exact bytes of both directions."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.sent, self.answered = bytearray(), bytearray()
        self.first_end = None  # "front" or "daemon": who ended first
        self.is_over = threading.Event()
        self.pumps = []

    def ids(self):
        return [found.decode() for found in ID.findall(bytes(self.sent))]


class RecordingRelay:
    def __init__(self, port):
        self.target, self.connections = port, []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            recorded = Recorded(client, server)
            self.connections.append(recorded)
            for pump in ((client, server, recorded.sent, "front"), (server, client, recorded.answered, "daemon")):
                thread = threading.Thread(target=self._pump, args=(recorded, *pump), daemon=True)
                recorded.pumps.append(thread)
                thread.start()

    @staticmethod
    def _pump(recorded, source, sink, record, who):
        try:
            while data := source.recv(65536):
                record += data
                sink.sendall(data)
        except OSError:
            pass
        if recorded.first_end is None:
            recorded.first_end = who
        else:
            recorded.is_over.set()
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()
        for recorded in self.connections:
            for sock in (recorded.client, recorded.server):
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            for thread in recorded.pumps:  # no descriptor is closed under a thread that reads from it
                thread.join()
            recorded.client.close()
            recorded.server.close()
