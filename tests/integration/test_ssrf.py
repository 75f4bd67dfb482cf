# SPDX-License-Identifier: Apache-2.0
"""A provider's address may lead into the operator's own network: nothing there is connected to unless the operator says so."""
import json
import time

import pytest

from harness.world import SECRETS, ask, wire
from harness import samples
from harness.upstream import Upstream, reply

INNER = [("10.0.0.1", "private"), ("172.16.0.1", "private"), ("192.168.1.1", "private"), ("100.64.0.1", "carrier_nat"),
         ("169.254.1.1", "link_local"), ("169.254.169.254", "metadata"), ("0.0.0.0", "unspecified"),
         ("[::ffff:127.0.0.1]", "loopback"), ("[::]", "unspecified"), ("[fe80::1]", "link_local"), ("[fd00::1]", "unique_local"),
         ("[64:ff9b::a00:1]", "private"), ("255.255.255.255", "broadcast"), ("224.0.0.1", "multicast")]


@pytest.fixture
def upstream(certificates):
    """Listens on 127.0.0.1, where the addresses under test would lead if they were let through."""
    upstream = Upstream(reply(wire(samples.CHAT)), tls=certificates.server("good"))
    yield upstream
    upstream.close()


def lines(world, event):
    return [line for line in world.daemon.err.read_text().splitlines() if f"event={event}" in line]


def make(world, name, url):
    return world.cli("provider", "create", name, "--type", "openai", "--base-url", url, "--secret-stdin", input=SECRETS["openai"] + "\n")


def test_inner_addresses_are_refused(make_world, upstream):
    world = make_world(providers=())
    for i, (host, address_class) in enumerate(INNER):
        done = make(world, f"p{i}", f"https://{host}:{upstream.port}/v1")
        assert "Warning:" in done.stderr and "allow_addresses" in done.stderr, (host, done.stderr)
        name, key = world.fresh_key(f"p{i}")
        began = time.monotonic()
        response = world.exchange(ask(samples.CHAT, key))
        assert (response.status, response.error) == (502, "provider_address_refused"), host
        assert time.monotonic() - began < 2, "nothing is tried"
        (row,) = world.rows_of(name)
        assert (row["end_reason"], row["rule"], row["grade"], row["cost_nano_usd"]) == ("upstream_refused", "provider_address_refused", "none", 0)
        (line,) = [line for line in lines(world, "provider_address_refused") if f'provider="p{i}"' in line]
        assert f'class="{address_class}"' in line
    assert not upstream.connections


def test_one_line_a_minute(make_world):
    world = make_world(providers=(), threads=1)
    make(world, "inner", "https://10.0.0.1/v1")
    _, key = world.fresh_key("inner")
    for _ in range(5):
        response = world.exchange(ask(samples.CHAT, key))
        assert response.status == 502
    (line,) = lines(world, "provider_address_refused")
    assert response.request_id not in line and SECRETS["openai"] not in line


def test_a_name_for_loopback_is_no_loopback(make_world, upstream):
    """/etc/hosts may give this machine's name any address of its own; not one of them is what the operator typed."""
    world = make_world(providers=())
    make(world, "named", f"https://localhost.localdomain:{upstream.port}/v1")
    _, key = world.fresh_key("named")
    response = world.exchange(ask(samples.CHAT, key), timeout=30)
    # Where no resolver knows the name there is nothing to refuse.
    assert response.status == 502 and response.error in ("provider_address_refused", "upstream_unreachable")
    assert not upstream.connections


def test_what_is_typed_as_loopback_works_without_a_word(make_world, upstream):
    world = make_world(providers=())
    for i, host in enumerate(("127.0.0.1", "localhost")):
        done = make(world, f"p{i}", f"https://{host}:{upstream.port}/v1")
        assert "Warning" not in done.stderr
        _, key = world.fresh_key(f"p{i}")
        assert world.exchange(ask(samples.CHAT, key)).status == 200
    assert not lines(world, "provider_address_refused")


def test_allowed_networks_are_connected_to(make_world, certificates, upstream):
    """127.0.0.1 by its IPv6 spelling is nobody's typed loopback: only the list opens it. Its certificate then fails, as it must."""
    settings = {"ca": certificates.ca, "allow_addresses": ["127.0.0.0/8"]}
    world = make_world(providers=(), upstream=settings)
    done = make(world, "mapped", f"https://[::ffff:127.0.0.1]:{upstream.port}/v1")
    assert "Warning" not in done.stderr
    _, key = world.fresh_key("mapped")
    response = world.exchange(ask(samples.CHAT, key))
    assert (response.status, response.error) == (502, "upstream_tls_failed")
    assert len(upstream.connections) == 1 and not upstream.requests


def test_metadata_needs_its_own_entry(make_world):
    world = make_world(providers=(), upstream={"allow_addresses": ["169.254.0.0/16"]})
    make(world, "metadata", "https://169.254.169.254/v1")
    _, key = world.fresh_key("metadata")
    assert world.exchange(ask(samples.CHAT, key)).error == "provider_address_refused"


def test_provider_test_says_so(make_world, upstream):
    world = make_world(providers=())
    make(world, "inner", f"https://[::ffff:127.0.0.1]:{upstream.port}/v1")
    done = world.cli("provider", "test", "inner", "-o", "json", check=False)
    verdict = json.loads(done.stdout)
    assert done.returncode == 6 and not verdict["ok"]
    assert "loopback" in verdict["message"] and "allow_addresses" in verdict["message"]
    world.stop()  # the same without a daemon
    done = world.cli("provider", "test", "inner", "-o", "json", check=False)
    assert done.returncode == 6 and "allow_addresses" in json.loads(done.stdout)["message"]
    assert not upstream.connections
