# SPDX-License-Identifier: Apache-2.0
"""An installation with scripted providers, and samples on their way through it."""
import itertools

from .client import request
from .process import Installation
from .samples import CARRIER
from .upstream import Upstream, answer, chunked, reply

# The providers' secrets: long and unmistakable, so that one grep finds any copy.
SECRETS = {"openai": "sk-proj-CANARYopenai7Qm3Zt9Kx2Wv5Lp8Nr4Hd6Bs1Yf", "anthropic": "sk-ant-CANARYanthropic5Gh2Jk8Lm3Np7Qr4St9Uv",
           "gemini": "AIzaCANARYgemini4Rt8Yu2Io6Pa9Sd3Fg7", "compatible": "gsk_CANARYcompatible6Zx1Cv5Bn9Mq3We7Rt"}
BASE = {"openai": "/v1", "compatible": "/v1", "anthropic": "", "gemini": ""}
TYPES = {"openai": "openai", "anthropic": "anthropic", "gemini": "gemini", "compatible": "openai-compatible"}


class World(Installation):
    """An installation with one scripted upstream and one provider for each dialect."""

    names = itertools.count(1)

    def __init__(self, folder, certificates=None, providers=tuple(SECRETS), **settings):
        super().__init__(folder, certificates, **settings)
        self.upstreams = {name: Upstream() for name in providers}
        self.start()
        for name, upstream in self.upstreams.items():
            self.provider(name, TYPES[name], f"http://127.0.0.1:{upstream.port}{BASE[name]}", SECRETS[name])

    def fresh_key(self, provider="openai", **options):
        """A key that only the calling test uses: (name, token)."""
        name = f"k{next(self.names)}"
        return name, self.key(name, provider, **options)

    def send_sample(self, sample, key, script=None, headers=(), tls=False, provider=None, timeout=15):
        """Runs one sample through; its answer comes whole unless a script is given. Gives (response, upstream request)."""
        upstream = self.upstreams[provider or sample.dialect]
        upstream.forget()
        upstream.script = script or reply(wire(sample))
        response = self.exchange(ask(sample, key, headers), tls, timeout=timeout)
        return response, upstream.requests[-1] if upstream.requests else None

    def forwards(self):
        return sum(len(connection.received) for u in self.upstreams.values() for connection in u.connections)

    def close(self):
        try:
            self.stop()
        finally:
            for upstream in self.upstreams.values():
                upstream.close()


def ask(sample, key, headers=()):
    return request(sample.target, key, sample.body, headers=headers, carrier=CARRIER[sample.dialect])


def wire(sample):
    """The sample's answer as the provider frames it: streams in chunks, one an event; plain bodies by length."""
    headers = [("x-request-id", "up-1"), ("X-Odd-Case", "kept as it is")]
    if sample.is_stream:
        return chunked(sample.parts, headers=headers, content_type=sample.content_type)
    return answer(sample.answer, headers=headers, content_type=sample.content_type)
