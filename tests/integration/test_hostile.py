# SPDX-License-Identifier: Apache-2.0
"""The hostile requests of tests/table/hostile.tsv, whole and byte by byte, plain and over TLS."""
import pathlib
import re

import pytest

from harness import samples
from harness.client import Closed, request
from harness.upstream import answer, reply

TABLE = pathlib.Path(__file__).parents[1] / "table/hostile.tsv"
BODY = b'{"model":"gpt-4o","a":"bc"}'
MACRO = re.compile(rb"@([A-Z]+)\(((?:(?!@[A-Z]+\().)*?)\)@", re.S)


def cases():
    lines = [line for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]
    assert len({line.split("\t")[0] for line in lines}) == len(lines), "names repeat"
    return [line.split("\t") for line in lines]


def unescape(text):
    names = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}
    out = b""
    for plain, name, code in re.findall(r"([^\\]+)|\\([rnt\\])|\\x([0-9a-f]{2})", text):
        out += plain.encode() or names.get(name) or bytes([int(code, 16)])
    return out


def expand(text, host, key):
    """The bytes of a case and whether the client half-closes behind them."""
    data = unescape(text)
    for name, value in ((b"@P@", b"POST /v1/chat/completions HTTP/1.1\r\nHost: @HOST@\r\nAuthorization: Bearer @KEY@\r\n"
                                 b"Content-Type: application/json\r\n"),
                        (b"@B@", BODY), (b"@L@", b"Content-Length: 27\r\n"), (b"@HOST@", host.encode()), (b"@KEY@", key.encode())):
        data = data.replace(name, value)
    while found := MACRO.search(data):
        name, content = found.groups()
        if name == b"REP":
            content, _, count = content.rpartition(b",")
            value = content * int(count)
        elif name == b"CHUNK":
            value = b"%x\r\n%s\r\n" % (len(content), content)
        else:
            assert name == b"BODY", name
            value = b"Content-Length: %d\r\n\r\n%s" % (len(content), content)
        data = data[:found.start()] + value + data[found.end():]
    return data.removesuffix(b"@FIN@"), data.endswith(b"@FIN@")


def read_statuses(client, count, method):
    """The statuses that come, `count` of them or fewer when the peer closes."""
    statuses = []
    try:
        while len(statuses) < count:
            response = client.read_response(method)
            assert not response.truncated
            assert response.status < 400 or response.error, "our refusals carry a code"
            statuses.append(response.status)
    except Closed as closed:
        assert closed.partial == b"", closed.partial
    return statuses


def says_more(client):
    """Whether anything follows what has been read; an end of the connection is nothing."""
    client.sock.settimeout(0.1)
    try:
        return bool(client.pending or client.receive(1))
    except TimeoutError:
        return False


@pytest.fixture(scope="module")
def key(shared_world):
    return shared_world.fresh_key("openai")[1]


def closes(name, status):
    """Faults of framing end the connection. Refusals of a well-framed request (method, path, document) need not."""
    return status >= 400 and not name.startswith(("b", "07", "11", "25", "36"))


def run(world, case, key, send, tls=False):
    name, text, expected, forwards = case
    upstream = world.upstreams["openai"]
    upstream.forget()
    upstream.script = reply(answer(samples.CHAT.answer))
    data, ends = expand(text, f"127.0.0.1:{world.tls_port if tls else world.port}", key)
    wanted = [part.split("|") for part in expected.split(";")]
    method = data.lstrip(b"\r\n").split(b" ", 1)[0].decode("latin-1")
    with world.connect(tls, timeout=8) as client:
        try:
            send(client, data)
            if ends:
                client.half_close()
        except OSError:
            pass  # refused while it was still being sent
        statuses = read_statuses(client, len(wanted), method)
        got = [str(status) for status in statuses] or ["close"]
        fits = len(got) == len(wanted) and all(one in some for one, some in zip(got, wanted))
        assert fits, f"{name}: got {got}, wanted {expected}"
        if statuses and closes(name, statuses[-1]):
            assert client.is_closed(), f"{name}: the connection stays open"
        assert not says_more(client), f"{name}: an answer too many"
    low, _, high = forwards.partition("-")
    assert int(low) <= len(upstream.requests) <= int(high or low), f"{name}: {len(upstream.requests)} forwards"
    for sent in upstream.requests:
        assert sent.target in ("/v1/models", "/v1/chat/completions"), sent.head


@pytest.mark.parametrize("case", cases(), ids=lambda case: case[0].replace(" ", "-"))
def test_hostile_request(world, key, case):
    run(world, case, key, lambda client, data: client.send(data))


@pytest.mark.parametrize("case", cases(), ids=lambda case: case[0].replace(" ", "-"))
def test_hostile_request_byte_by_byte(world, key, case):
    """One byte a segment: the verdict does not depend on segmentation. Long cases go in pieces of 1000 bytes."""
    run(world, case, key, lambda client, data: client.send_pieces(data, 1 if len(data) < 3000 else 1000))


def test_hostile_requests_over_tls(world, key):
    """All but the half-closes, which Python's TLS cannot make."""
    for case in [case for case in cases() if "@FIN@" not in case[1]][::3]:
        run(world, case, key, lambda client, data: client.send(data), tls=True)


def test_a_good_request_still_passes(world, key):
    """Behind all of that the daemon serves."""
    world.upstreams["openai"].script = reply(answer(samples.CHAT.answer))
    assert world.exchange(request("/v1/chat/completions", key, BODY)).status == 200
