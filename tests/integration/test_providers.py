# SPDX-License-Identifier: Apache-2.0
"""Several providers on one loop do not disturb each other."""
from harness.world import ask, wire
from harness import samples
from harness.upstream import reply


def test_a_provider_keeps_its_connection_while_others_are_used(make_world):
    world = make_world(providers=("openai", "compatible", "anthropic"), threads=1)
    keys = {name: world.fresh_key(name)[1] for name in world.upstreams}
    chosen = {"openai": samples.CHAT, "compatible": samples.CHAT,
              "anthropic": next(s for s in samples.SHORT if s.dialect == "anthropic" and not s.is_stream)}
    for name, upstream in world.upstreams.items():
        upstream.script = reply(wire(chosen[name]))
    with world.connect() as client:
        for _ in range(5):
            for name, key in keys.items():
                client.send(ask(chosen[name], key))
                assert client.read_response().status == 200
    assert {name: len(upstream.connections) for name, upstream in world.upstreams.items()} == dict.fromkeys(keys, 1)
