# SPDX-License-Identifier: Apache-2.0
"""A raw HTTP/1.1 client: sends exactly the bytes it is told and reads answers strictly."""
import socket
import ssl
import string
import struct
import time

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


class Closed(Exception):
    """The peer closed before a whole answer came; `partial` holds what did."""

    def __init__(self, partial):
        super().__init__(f"closed after {len(partial)} bytes: {partial[:200]!r}")
        self.partial = bytes(partial)


class Response:
    def __init__(self, head, status, headers, body, chunks, truncated=False):
        self.head, self.status, self.headers = head, status, headers
        self.body, self.chunks, self.truncated = body, chunks, truncated

    def get(self, name):
        """The one value of a field, None when it is absent; a repeated field is an error."""
        found = [v for n, v in self.headers if n.lower() == name.lower()]
        assert len(found) <= 1, f"{name} stands {len(found)} times"
        return found[0] if found else None

    @property
    def request_id(self):
        return self.get("x-chaperone-request-id")

    @property
    def loop(self):
        """Which of the daemon's threads had the exchange: its number stands in the id (include/base/id.h)."""
        number = 0
        for digit in self.request_id.removeprefix("req_"):
            number = number * 62 + BASE62.index(digit)
        return number >> 14 & 255

    @property
    def error(self):
        return self.get("x-chaperone-error")


def parse_head(head):
    lines = head[:-4].decode("latin-1").split("\r\n")
    assert not any("\n" in line or "\r" in line for line in lines), f"loose line end in {head!r}"
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        assert colon and name == name.strip() and name, f"bad field {line!r}"
        headers.append((name, value.strip(" \t")))
    return lines[0], headers


class RawClient:
    def __init__(self, port, tls=None, timeout=15, host="127.0.0.1", receive_buffer=None, source=None):
        sock = socket.socket()
        if source:
            sock.bind((source, 0))
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(timeout)
        sock.connect((host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = tls.wrap_socket(sock, server_hostname="localhost") if tls else sock
        self.pending = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def send(self, data):
        self.sock.sendall(data)

    def send_pieces(self, data, size=1, pause=0.0):
        for start in range(0, len(data), size):
            self.sock.sendall(data[start:start + size])
            if pause:
                time.sleep(pause)

    def receive(self, size=65536):
        try:
            return self.sock.recv(size)
        except (ConnectionResetError, ssl.SSLEOFError):
            return b""

    def fill(self):
        data = self.receive()
        if not data:
            raise Closed(self.pending)
        self.pending += data

    def take_until(self, mark):
        while (at := self.pending.find(mark)) < 0:
            self.fill()
        return self.take(at + len(mark))

    def take(self, size):
        while len(self.pending) < size:
            self.fill()
        out = bytes(self.pending[:size])
        del self.pending[:size]
        return out

    def read_response(self, method="POST", interim=False):
        """One answer. Skips 1xx unless `interim`. A body cut short gives `truncated` instead of an exception."""
        while True:
            head = self.take_until(b"\r\n\r\n")
            line, headers = parse_head(head)
            version, status, *_ = line.split(" ", 2)
            assert version == "HTTP/1.1" and len(status) == 3, line
            status = int(status)
            if status >= 200 or interim:
                break
        body, chunks, truncated = bytearray(), [], False
        lengths = [v for n, v in headers if n.lower() == "content-length"]
        encodings = [v for n, v in headers if n.lower() == "transfer-encoding"]
        assert not (lengths and encodings) and len(lengths) <= 1, headers
        try:
            if method == "HEAD" or status < 200 or status in (204, 304):
                pass
            elif encodings:
                assert [e.lower() for e in encodings] == ["chunked"], encodings
                while size := int(self.take_until(b"\r\n"), 16):
                    chunks.append(self.take(size))
                    body += chunks[-1]
                    assert self.take(2) == b"\r\n"
                assert self.take_until(b"\r\n") == b"\r\n", "trailers are never sent"
            elif lengths:
                size = int(lengths[0])
                while len(self.pending) < size:
                    self.fill()
                body += self.take(size)
            else:
                body += self.read_to_end()
        except Closed as closed:
            body += closed.partial
            truncated = True
        return Response(head, status, headers, bytes(body), chunks, truncated)

    def read_to_end(self):
        while data := self.receive():
            self.pending += data
        out = bytes(self.pending)
        self.pending.clear()
        return out

    def is_closed(self, within=5):
        """Whether the peer closes (FIN or RST) within the time without sending anything more."""
        self.sock.settimeout(within)
        try:
            return not self.pending and self.receive(1) == b""
        except TimeoutError:
            return False


def request(target, key, body=b"", method="POST", headers=(), carrier="authorization", host="127.0.0.1"):
    """The bytes of one request as an SDK would send it."""
    value = f"Bearer {key}" if carrier == "authorization" else key
    fields = [("Host", host)]
    if key is not None:
        fields.append((carrier, value))
    if body or method == "POST":
        fields += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    fields += headers
    lines = [f"{method} {target} HTTP/1.1"] + [f"{n}: {v}" for n, v in fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
