# SPDX-License-Identifier: Apache-2.0
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from gateway import Gateway  # noqa: E402


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    gateway = Gateway(tmp_path_factory.mktemp("sdk"))
    yield gateway
    gateway.close()


@pytest.fixture(params=["plain", "tls"])
def url(request, gateway, monkeypatch):
    """The base without any path. Over TLS the authority comes by the variable that people use."""
    if request.param == "tls":
        monkeypatch.setenv("SSL_CERT_FILE", gateway.ca)
    return gateway.urls[request.param]
