# SPDX-License-Identifier: Apache-2.0
"""The command line beside a daemon that starts, and with files that are not as they should be."""
import fcntl
import json
import os
import subprocess
import threading
import time

import pytest

from harness.process import BINARY, Installation, Process, clean_environment, wait_until


@pytest.fixture
def installation(tmp_path):
    return Installation(tmp_path / "i")


class Held:
    """The database's lock, as a daemon that has not opened its socket yet holds it."""

    def __init__(self, installation):
        self.file = open(installation.folder / "chaperone.db.lock", "w")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def release(self):
        self.file.close()


def test_a_command_waits_for_a_daemon_that_starts(installation):
    held = Held(installation)
    timer = threading.Timer(1.5, held.release)
    began = time.monotonic()
    timer.start()
    done = installation.cli("provider", "list")
    timer.join()
    assert done.stdout.startswith("name\t") and time.monotonic() - began >= 1.4


def test_the_master_key_of_the_environment_survives_the_wait(installation):
    key = (installation.folder / "master.key").read_text().strip()
    installation.configure(master_key="${env:CHAPERONE_MASTER_KEY}")
    held = Held(installation)
    timer = threading.Timer(0.5, held.release)
    timer.start()
    installation.cli("provider", "list", environment=clean_environment(CHAPERONE_MASTER_KEY=key))
    timer.join()


def test_a_command_gives_up_in_the_end(installation):
    held = Held(installation)
    began = time.monotonic()
    done = installation.cli("provider", "list", check=False)
    took = time.monotonic() - began
    held.release()
    assert done.returncode == 7 and "in use" in done.stderr
    assert 4 <= took < 15


def is_locked(path):
    inode = f":{path.stat().st_ino} "
    with open("/proc/locks") as locks:
        return any(" FLOCK " in line and inode in line for line in locks)


def test_serve_and_then_a_command(installation):
    """`chaperone serve &` and the next line of the script: the lock is taken, the socket not there yet."""
    installation.cli("provider", "list")  # makes the lock file
    daemon = Process([BINARY, "serve", "--config", installation.config], installation.folder, "daemon")
    try:
        wait_until(lambda: is_locked(installation.folder / "chaperone.db.lock"), 20, "the daemon's lock", 0.001)
        installation.cli("provider", "list")
    finally:
        assert daemon.stop() == 0


def run_in(folder, *arguments):
    return subprocess.run([str(BINARY), *arguments], cwd=folder, capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, env=clean_environment())


def test_a_configuration_that_others_can_write_is_not_taken_unasked(installation):
    assert run_in(installation.folder, "provider", "list").returncode == 0
    os.chmod(installation.config, 0o666)
    done = run_in(installation.folder, "provider", "list")
    assert done.returncode == 4 and "--config" in done.stderr
    assert installation.cli("provider", "list").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_another_users_configuration_is_not_taken_unasked(installation):
    os.chown(installation.config, 65534, 65534)
    done = run_in(installation.folder, "provider", "list")
    assert done.returncode == 4 and "another user" in done.stderr


def test_check_warns_of_an_open_database(installation):
    assert not any(line.startswith("warn") for line in installation.cli("check").stdout.splitlines())
    os.chmod(installation.folder / "chaperone.db", 0o644)
    done = installation.cli("check")
    assert "warn  store" in done.stdout and "chmod 600" in done.stdout
    report = json.loads(installation.cli("check", "-o", "json").stdout)
    assert any(item["check"].startswith("warn") for item in report["items"])
    os.chmod(installation.folder / "master.key", 0o644)
    assert installation.cli("check", check=False).returncode == 4


def test_a_wrapped_key_in_the_place_of_a_name_is_not_repeated(installation):
    done = installation.cli("key", "revoke", "ch_web_sk_SECRETSECRET", "--yes", check=False)
    assert done.returncode == 2 and "SECRET" not in done.stdout + done.stderr
    done = installation.cli("provider", "create", "p", "--type", "openai", "--secret-env", "sk-SECRET", check=False)
    assert done.returncode == 2 and "SECRET" not in done.stdout + done.stderr
