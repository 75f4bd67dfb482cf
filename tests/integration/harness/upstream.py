# SPDX-License-Identifier: Apache-2.0
"""A scripted provider on a raw socket: byte-exact answers, and a record of every byte it was sent.

`Upstream.script` is called with (connection, request) for each request read; it sends whatever bytes it likes, in
whatever pieces. The builders below make the usual scripts.
"""
import socket
import ssl
import struct
import threading
import time

from .client import parse_head


class Request:
    def __init__(self, head, body, connection):
        self.head, self.body, self.connection = head, body, connection
        self.line, self.headers = parse_head(head)
        self.method, self.target, self.version = self.line.split(" ")

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def get(self, name):
        found = self.all(name)
        assert len(found) <= 1, f"{name} stands {len(found)} times"
        return found[0] if found else None


class Connection:
    """One accepted connection. `received` is every byte that came in, `gone` is set when the peer has closed."""

    def __init__(self, upstream, sock):
        self.upstream, self.sock = upstream, sock
        self.received, self.requests = bytearray(), []
        self.sent = 0
        self.gone = threading.Event()
        self.is_closed = False
        self.reader = None
        self.parsed = 0

    def send(self, data, pause=0.0):
        self.sock.sendall(data)
        self.sent += len(data)
        if pause:
            time.sleep(pause)

    def push(self, data, stall_seconds=1.0):
        """Writes until the peer has taken nothing for `stall_seconds`; gives the bytes taken."""
        view, done = memoryview(data), 0
        self.sock.settimeout(stall_seconds)
        try:
            while done < len(view):
                done += self.sock.send(view[done:done + 65536])
        except TimeoutError:
            pass
        finally:
            self.sent += done
            self.sock.settimeout(30)
        return done

    def close(self):
        self._end(socket.SHUT_RDWR)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end(socket.SHUT_RD)

    def _end(self, how):
        """The descriptor is closed by the thread that reads from it alone: by any other, its number could be a new
        connection's when that thread reads next, and bytes of that one would be lost."""
        self.is_closed = True
        try:
            self.sock.shutdown(how)
        except OSError:
            pass
        if threading.get_ident() == self.reader:
            self.sock.close()

    def wait_gone(self, within=10):
        """Reads until the peer closes; whether it did within the time."""
        self.sock.settimeout(within)
        try:
            while data := self.sock.recv(65536):
                self.received += data
        except TimeoutError:
            return False
        except OSError:
            pass
        self.gone.set()
        return True

    def _fill(self):
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self.received += data

    def _take_until(self, mark):
        while (at := self.received.find(mark, self.parsed)) < 0:
            self._fill()
        return self._take(at + len(mark) - self.parsed)

    def _take(self, size):
        while len(self.received) < self.parsed + size:
            self._fill()
        out = bytes(self.received[self.parsed:self.parsed + size])
        self.parsed += size
        return out

    def read_request(self):
        head = self._take_until(b"\r\n\r\n")
        request = Request(head, b"", self)
        if request.get("transfer-encoding"):
            body = bytearray()
            while size := int(self._take_until(b"\r\n"), 16):
                body += self._take(size)
                self._take(2)
            self._take_until(b"\r\n")
            request.body = bytes(body)
        else:
            request.body = self._take(int(request.get("content-length") or 0))
        return request

    def serve(self):
        self.reader = threading.get_ident()
        try:
            if self.upstream.tls:
                self.sock = self.upstream.tls.wrap_socket(self.sock, server_side=True)
            while not self.is_closed:
                request = self.read_request()
                self.requests.append(request)
                self.upstream.requests.append(request)
                self.upstream.script(self, request)
        except (EOFError, OSError, ssl.SSLError):
            self.gone.set()
        finally:
            self.sock.close()


class Upstream:
    def __init__(self, script=None, tls=None):
        self.script, self.tls = script, tls
        self.connections, self.requests = [], []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(30)
            connection = Connection(self, sock)
            self.connections.append(connection)
            threading.Thread(target=connection.serve, daemon=True).start()

    def close(self):
        if self.listener.fileno() < 0:
            return
        # Without shutdown a thread blocked in accept keeps the port listening.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()

    def forget(self):
        """Drops the record; connections stay as they are."""
        self.connections.clear()
        self.requests.clear()

    @property
    def last(self):
        return self.requests[-1]


def answer(body=b"", status="200 OK", headers=(), content_type="application/json"):
    """The bytes of a whole answer framed by Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{n}: {v}" for n, v in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(parts, status="200 OK", headers=(), content_type="text/event-stream"):
    """The bytes of a whole answer, one chunk a part."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", "Transfer-Encoding: chunked"]
    lines += [f"{n}: {v}" for n, v in headers]
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body + b"0\r\n\r\n"


def slices(data, size):
    return [data[at:at + size] for at in range(0, len(data), size)]


def reply(data):
    """Sends the same bytes at once for every request."""
    return lambda connection, request: connection.send(data)


def reply_split(data, at, pause=0.002):
    """Sends the bytes in two segments, cut at one offset."""

    def script(connection, request):
        connection.send(data[:at], pause)
        connection.send(data[at:])

    return script


def reply_drip(data, size=1, pause=0.0):
    """Sends the bytes in segments of one size."""

    def script(connection, request):
        for part in slices(data, size):
            connection.send(part, pause)

    return script


def reply_cut(data, at):
    """Sends the first bytes and closes with FIN."""

    def script(connection, request):
        connection.send(data[:at])
        connection.close()

    return script


def reply_reset(data, at):
    """Sends the first bytes and closes with RST, once the peer has had time to read them."""

    def script(connection, request):
        connection.send(data[:at], 0.1)
        connection.reset()

    return script


def stall(data=b""):
    """Sends some bytes, then nothing until the peer gives up."""

    def script(connection, request):
        connection.send(data)
        connection.wait_gone(30)
        connection.close()

    return script
