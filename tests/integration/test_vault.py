# SPDX-License-Identifier: Apache-2.0
"""Another master key for a database in use: traffic goes on, and no moment is without a key that opens it."""
import http.client
import json
import os
import random
import re
import secrets
import threading
import time

import pytest

from harness.admin import Refused, admin_call
from harness.client import RawClient, request
from harness.process import Installation, Sandbox

SECRET = "sk-sandbox-CANARY-5m2Xq9Lk7Tz1"
BODY = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}).encode()


@pytest.fixture
def field(tmp_path):
    """A serving installation in front of a sandbox provider that accepts one key."""
    sandbox = Sandbox(tmp_path, "--api-key", SECRET)
    installation = Installation(tmp_path / "installation")
    installation.start()
    installation.provider("openai", "openai", sandbox.url + "/v1", SECRET)
    installation.key("web", "openai")
    yield installation
    if installation.daemon:
        installation.stop()
    assert sandbox.stop() == 0


def new_key(installation, name="new.key"):
    """A master key file as an operator makes it; gives its path and text."""
    path, text = installation.folder / name, secrets.token_hex(32)
    path.touch(0o600)
    path.write_text(text + "\n")
    return path, text


def rekey(installation, path, **options):
    return installation.cli("vault", "rekey", "--new-key-file", path, "-o", "json", **options)


def exchange(installation):
    return installation.exchange(request("/v1/chat/completions", installation.keys["web"], BODY)).status


def opens(installation, path):
    """Whether the database opens with the master key in the file; else it must say which one it needs."""
    master = installation.folder / "master.key"
    kept = master.read_bytes()
    master.write_bytes(path.read_bytes())
    done = installation.cli("check", check=False)
    master.write_bytes(kept)
    if done.returncode != 0:
        assert done.returncode == 4 and re.search("needs the master key with the fingerprint [0-9a-f]{16}", done.stderr)
    return done.returncode == 0


class Clients:
    """Clients that ask one thing after another until they are stopped."""

    def __init__(self, installation, count):
        self.installation, self.statuses = installation, []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self):
        client = RawClient(self.installation.port)
        while not self.stopping.is_set():
            try:
                client.send(request("/v1/chat/completions", self.installation.keys["web"], BODY))
                response = client.read_response()
                self.statuses.append(response.status)
            except Exception as error:  # whatever it is, it is a failed exchange
                if not self.stopping.is_set():
                    self.statuses.append(error)
                return
        client.close()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(20)


def test_traffic_goes_on_while_everything_is_sealed_anew(field):
    """At least 200 exchanges, and not one fails, while the master key changes ten times."""
    clients = Clients(field, 4)
    changes = 0
    try:
        while changes < 10 or len(clients.statuses) < 200:
            admin_call(field, "vault.rekey", new_key=secrets.token_hex(32))
            changes += 1
    finally:
        clients.stop()
    assert len(clients.statuses) >= 200 and set(clients.statuses) == {200}
    final, _ = new_key(field)
    answer = json.loads(rekey(field, final).stdout)
    assert answer["credentials"] == 1 and answer["from"] != answer["to"]
    assert exchange(field) == 200
    field.stop()
    final.rename(field.folder / "master.key")
    field.start()
    assert exchange(field) == 200
    assert json.loads(field.cli("status", "-o", "json").stdout)["master_key"] == answer["to"]


def test_the_old_key_opens_nothing_any_more(field):
    path, _ = new_key(field)
    answer = json.loads(rekey(field, path).stdout)
    field.stop()
    done = field.cli("check", check=False)
    assert done.returncode == 4 and answer["to"] in done.stderr and answer["from"] in done.stderr
    assert opens(field, path)


def test_a_provider_made_after_it_opens_too(field):
    path, _ = new_key(field)
    rekey(field, path)
    port = re.search(r":(\d+)/", json.loads(field.cli("provider", "show", "openai", "-o", "json").stdout)["base_url"])[1]
    field.provider("second", "openai", f"http://127.0.0.1:{port}/v1", SECRET)
    field.keys["web"] = field.key("other", "second")
    field.stop()
    path.rename(field.folder / "master.key")
    field.start()
    assert exchange(field) == 200
    assert field.cli("audit", "verify").returncode == 0


def test_works_without_the_daemon_and_from_standard_input(field):
    field.stop()
    path, text = new_key(field)
    field.cli("vault", "rekey", "--secret-stdin", "--reason", "yearly", input=text + "\n")
    assert opens(field, path) and not opens(field, field.folder / "master.key")
    path.rename(field.folder / "master.key")
    recorded = json.loads(field.cli("audit", "list", "--action", "vault", "-o", "json").stdout)["items"]
    assert [row["reason"] for row in recorded] == ["yearly"]
    assert text not in json.dumps(recorded)
    field.start()
    assert exchange(field) == 200


def test_bad_keys_are_refused(field):
    done = field.cli("vault", "rekey", "--new-key-file", field.folder / "master.key", check=False)
    assert done.returncode == 5 and "in use" in done.stderr
    path, _ = new_key(field)
    os.chmod(path, 0o644)
    assert rekey(field, path, check=False).returncode == 4
    with pytest.raises(Refused) as refused:
        admin_call(field, "vault.rekey", new_key="0123")
    assert refused.value.status == 400
    assert exchange(field) == 200


@pytest.mark.limit(270)
def test_kill_at_any_moment_leaves_one_key_that_opens_it(field):
    """kill -9 during a rekey of many providers, under load: the old key works or the new one, never both, never none."""
    for number in range(80):
        admin_call(field, "provider.create", name=f"p{number}", type="openai", credential=f"sk-{number:040d}")
    seeded, outcomes = random.Random(7), []
    path, text = new_key(field)
    started = time.monotonic()
    admin_call(field, "vault.rekey", new_key=text)
    middle = time.monotonic() - started
    path.rename(field.folder / "master.key")
    for round_ in range(12):
        new, text = new_key(field, f"{round_}.key")
        clients = Clients(field, 2)
        caller = threading.Thread(target=try_rekey, args=(field, text), daemon=True)
        caller.start()
        time.sleep(seeded.uniform(0, 2 * middle))
        clients.stopping.set()
        field.kill()
        caller.join(20)
        clients.stop()
        old_opens, new_opens = opens(field, field.folder / "master.key"), opens(field, new)
        assert old_opens != new_opens, (round_, old_opens, new_opens)
        outcomes.append(new_opens)
        middle *= 0.7 if new_opens else 1.4  # towards the moment of the change, whatever the machine does besides
        if new_opens:
            new.rename(field.folder / "master.key")
        field.start()
        assert exchange(field) == 200
        assert field.cli("audit", "verify", check=False).returncode == 0
    assert len(set(outcomes)) == 2, f"every kill came before or after the change: {outcomes}"


def try_rekey(installation, text):
    try:
        admin_call(installation, "vault.rekey", new_key=text)
    except (OSError, http.client.HTTPException, ValueError):
        pass  # the daemon was killed before it could answer
