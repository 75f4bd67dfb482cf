# SPDX-License-Identifier: Apache-2.0
"""Case 65: every hostile byte stream through nginx and haproxy in front. What a front proxy believes it sent and what the
daemon takes it for must be the same requests, one for one; a difference is a smuggled request."""
import collections
import concurrent.futures
import json

import pytest

from harness import samples
from harness.client import Closed, RawClient, request
from harness.front import FIELD, Front, RecordingRelay
from harness.process import wait_until
from harness.upstream import answer
from test_hostile import cases, expand

FRONTS = ["nginx", "haproxy"]
WORKERS = 6
QUIET_SECONDS = 0.2  # a front proxy that says nothing for so long waits for more of the request


class Answers:
    """Reads recorded answers as strictly as a client would."""

    def __init__(self, data):
        self.reader = RawClient.__new__(RawClient)
        self.reader.pending = bytearray(data)
        self.reader.receive = lambda size=0: b""

    def statuses(self, methods):
        """The final statuses, in order. `methods` are those of the requests they answer."""
        found = []
        for method in [*methods, None]:
            if not self.reader.pending:
                break
            assert method, f"an answer to nothing: {bytes(self.reader.pending)[:300]!r}"
            try:
                found.append(self.reader.read_response(method).status)
            except Closed:
                break  # cut in the head: the front proxy went away, or it is still coming
        return found


def echo(connection, sent):
    """Says which request is answered, so that a client can tell whether the answer is its own."""
    seen = {"probe": sent.get("x-probe"), "front": sent.all(FIELD.decode()), "target": sent.target}
    connection.send(answer(samples.compact({**json.loads(samples.CHAT.answer), "seen": seen})))


def send_case(front, key, case):
    """Sends the bytes and takes whatever comes until the front proxy closes or falls silent."""
    data, ends = expand(case[1], f"127.0.0.1:{front.port}", key)
    with RawClient(front.port, timeout=QUIET_SECONDS) as client:
        try:
            client.send(data)
            if ends:
                client.half_close()
            while client.receive():
                pass
        except OSError:
            pass  # refused while it was still being sent, or silent


def send_probe(front, key, number):
    """A good request through the same front proxy and its kept connections: it must get its own answer."""
    probe = f"{front.name}-{number}"
    with RawClient(front.port, timeout=20) as client:
        client.send(request("/v1/chat/completions", key, samples.CHAT.body, headers=[("X-Probe", probe)]))
        response = client.read_response()
    assert response.status == 200, (probe, response.status, response.body)
    assert json.loads(response.body)["seen"]["probe"] == probe, "the answer of another request"


def drive(front, key, work):
    """One worker: hostile streams, each followed by a probe. Gives what went wrong."""
    wrong = []
    while True:
        try:
            number, case = work.popleft()
        except IndexError:
            return wrong
        try:
            send_case(front, key, case)
            send_probe(front, key, number)
        except (AssertionError, OSError, Closed) as error:
            wrong.append(f"{case[0]}: {error!r}")


def missing_answers(recorded, told):
    """How many requests on this connection have no answer; an answer too many is an error."""
    ids = recorded.ids()
    methods = [told[id_][0] for id_ in ids]
    return len(ids) - len(Answers(recorded.answered).statuses(methods))


def is_settled(recorded, told):
    """Every request is answered, or the front proxy has gone away itself before its last one was."""
    missing = missing_answers(recorded, told)
    return missing == 0 or (missing == 1 and recorded.first_end == "front")


def count_seen(world):
    return collections.Counter(id_ for sent in world.upstreams["openai"].requests for id_ in sent.all(FIELD.decode()) or ["none"])


@pytest.fixture
def stage(make_world, tmp_path):
    world = make_world(providers=("openai",))
    world.upstreams["openai"].script = echo
    _, key = world.fresh_key("openai")
    relays, fronts = {}, {}
    try:
        for name in FRONTS:
            relays[name] = RecordingRelay(world.port)
            fronts[name] = Front(name, tmp_path, relays[name].port)
        yield world, key, relays, fronts
    finally:
        for front in fronts.values():
            front.kill()
        for relay in relays.values():
            relay.close()


def test_case_65_front_proxies_and_the_daemon_see_the_same_requests(stage):
    world, key, relays, fronts = stage
    with concurrent.futures.ThreadPoolExecutor(WORKERS * len(fronts)) as pool:
        jobs = []
        for front in fronts.values():
            work = collections.deque(enumerate(cases()))
            jobs += [pool.submit(drive, front, key, work) for _ in range(WORKERS)]
        wrong = [line for job in jobs for line in job.result()]
    assert not wrong, "\n".join(wrong)
    for name, front in fronts.items():
        relay = relays[name]
        # An older haproxy (2.6.12-1+deb12u3) takes one broken body for an unfinished one, and tells of it after its 20 s.
        wait_until(lambda: set(id_ for c in relay.connections for id_ in c.ids()) <= set(front.told()), 30, f"{name}'s log lines")
        told = front.told()
        sent = [id_ for recorded in relay.connections for id_ in recorded.ids()]
        assert len(sent) == len(set(sent)) and set(sent) <= set(told), "the daemon was sent what the front proxy knows nothing of"
        wait_until(lambda: all(is_settled(recorded, told) for recorded in relay.connections), 10,
                   f"an answer to every request of {name}")
        assert len(sent) > len(cases()), f"{name} forwarded nothing but the probes"
        seen = count_seen(world)
        assert {id_ for id_, (_, status) in told.items() if status == "200"} <= set(seen), f"{name} got an answer that no request earned"
    seen = count_seen(world)
    every = {id_ for front in fronts.values() for id_ in front.told()}
    assert set(seen) <= every and set(seen.values()) == {1}, "a request reached the provider twice, or without a front proxy"
    for sent in world.upstreams["openai"].requests:
        assert sent.target in ("/v1/models", "/v1/chat/completions") or sent.target.startswith("/v1/models?"), sent.head
