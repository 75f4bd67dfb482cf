# SPDX-License-Identifier: Apache-2.0
"""Pinned public keys: a trusted certificate with another key gets not one byte of a request."""
import base64
import hashlib
import re
import subprocess

import pytest

from harness.certs import Certificates
from harness.world import SECRETS, ask, wire
from harness import samples
from harness.upstream import Upstream, reply


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """An authority with two good leaves for localhost."""
    certificates = Certificates(tmp_path_factory.mktemp("pins"))
    certificates._leaf("next", "DNS:localhost,IP:127.0.0.1")
    return certificates


def pin(path):
    """What docs/configuration.md tells operators to run."""
    public = subprocess.run(["openssl", "x509", "-in", path, "-pubkey", "-noout"], check=True, capture_output=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=public, check=True, capture_output=True).stdout
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


@pytest.fixture
def pinned(make_world, pair):
    """Makes a world whose provider "tls" has these pins: (world, upstream, key name, key)."""
    made = []

    def make(pins, leaf="good", name="tls"):
        world = make_world(providers=(), upstream={"ca": pair.ca, "pins": {name: pins}})
        upstream = Upstream(reply(wire(samples.CHAT)), tls=pair.server(leaf))
        made.append(upstream)
        world.provider("tls", "openai", f"https://localhost:{upstream.port}/v1", SECRETS["openai"])
        return world, upstream, *world.fresh_key("tls")

    yield make
    for upstream in made:
        upstream.close()


def refused(world, upstream, key, error="provider_pin_mismatch"):
    response = world.exchange(ask(samples.CHAT, key))
    assert (response.status, response.error) == (502, error)
    assert not upstream.requests and all(not c.received for c in upstream.connections)


def test_the_right_key_is_served(pinned, pair):
    world, upstream, _, key = pinned([pin(pair.pem("good"))])
    for _ in range(2):
        assert world.exchange(ask(samples.CHAT, key)).status == 200
    assert len(upstream.requests) == 2


def test_another_key_is_refused_before_the_request(pinned, pair):
    world, upstream, name, key = pinned([pin(pair.pem("next"))])
    refused(world, upstream, key)
    assert len(upstream.connections) == 1
    (row,) = world.rows_of(name)
    assert (row["end_reason"], row["rule"], row["grade"]) == ("upstream_refused", "provider_pin_mismatch", "none")
    (line,) = [line for line in world.daemon.err.read_text().splitlines() if "event=provider_pin_mismatch" in line]
    assert re.search(r'presented="([^"]+)"', line)[1] == pin(pair.pem("good")) and 'provider="tls"' in line


def test_the_second_pin_fits(pinned, pair):
    world, _, _, key = pinned([pin(pair.pem("next")), pin(pair.pem("good"))])
    assert world.exchange(ask(samples.CHAT, key)).status == 200


def test_the_provider_changes_over_to_the_second_pin(pinned, pair):
    world, upstream, _, key = pinned([pin(pair.pem("good")), pin(pair.pem("next"))])
    assert world.exchange(ask(samples.CHAT, key)).status == 200
    upstream.tls = pair.server("next")
    for connection in upstream.connections:
        connection.close()
    assert world.exchange(ask(samples.CHAT, key)).status == 200


def test_an_authority_of_the_chain_can_be_pinned(pinned, pair):
    world, _, _, key = pinned([pin(pair.ca)])
    assert world.exchange(ask(samples.CHAT, key)).status == 200


def test_pins_belong_to_one_provider(pinned, pair):
    world, _, _, key = pinned([pin(pair.pem("next"))], name="other")
    assert world.exchange(ask(samples.CHAT, key)).status == 200


@pytest.mark.parametrize("leaf", ["self_signed", "wrong_name", "expired"])
def test_a_pin_replaces_no_verification(pinned, pair, leaf):
    world, upstream, _, key = pinned([pin(pair.pem(leaf))], leaf=leaf)
    refused(world, upstream, key, "upstream_tls_failed")


def test_new_pins_hold_for_connections_that_idle(pinned, pair):
    world, upstream, _, key = pinned([pin(pair.pem("good"))])
    assert world.exchange(ask(samples.CHAT, key)).status == 200
    world.configure(upstream={"ca": pair.ca, "pins": {"tls": [pin(pair.pem("next"))]}})
    world.cli("reload")
    upstream.forget()
    refused(world, upstream, key)
    world.configure(upstream={"ca": pair.ca, "pins": {"tls": [pin(pair.pem("good"))]}})
    world.cli("reload")
    assert world.exchange(ask(samples.CHAT, key)).status == 200


def test_provider_test_checks_the_pin(pinned, pair):
    world, upstream, _, _ = pinned([pin(pair.pem("next"))])
    done = world.cli("provider", "test", "tls", check=False)
    assert done.returncode == 6 and "upstream.pins" in done.stdout
    assert not upstream.requests
