# SPDX-License-Identifier: Apache-2.0
"""The audit log from outside: what it records, what it proves, and what it refuses."""
import hashlib
import json
import os
import pwd
import re
import shutil
import sqlite3
import struct

import pytest

from harness.process import BINARY, Installation, Process

SECRET = "sk-proj-CANARYaudit9Xk2Lm5Qp8Rt1Vw4Yz7Bc"
ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def installation(tmp_path):
    made = Installation(tmp_path / "i")
    yield made
    if made.daemon:
        made.stop()


def rows(installation, *options):
    return json.loads(installation.cli("audit", "list", "-o", "json", "--limit", 1000, *options).stdout)["items"]


def verify(installation, *options):
    done = installation.cli("audit", "verify", "-o", "json", *options, check=False)
    assert done.returncode in (0, 6), done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] == (done.returncode == 0) == (report["items"] == [])
    return report


def edit(installation, sql):
    """As somebody with a shell would, past the program."""
    with sqlite3.connect(installation.folder / "chaperone.db") as db:
        db.executescript(sql)
    db.close()


def change_things(installation):
    installation.provider("openai", "openai", "http://127.0.0.1:9/v1", SECRET, "--reason", "the first account")
    installation.key("web", "openai")
    installation.cli("key", "disable", "web", "--reason", "ticket 4711")
    installation.cli("key", "enable", "web")
    installation.cli("key", "revoke", "web", "--yes", "--reason", "leaked")


def heads(installation):
    return (installation.folder / "chaperone.db.audit-heads").read_text().splitlines()


def test_records_every_action_with_the_peers_name(installation):
    installation.start()
    change_things(installation)
    installation.cli("provider", "disable", "openai")
    found = [(row["action"], row["object"], row["reason"]) for row in reversed(rows(installation))]
    assert found == [("init", "database:chaperone.db", ""), ("daemon.start", "daemon", ""),
                     ("provider.create", "provider:openai", "the first account"), ("key.create", "key:web", ""),
                     ("key.disable", "key:web", "ticket 4711"), ("key.enable", "key:web", ""),
                     ("key.revoke", "key:web", "leaked"), ("provider.disable", "provider:openai", "")]
    assert {(row["actor"], row["uid"]) for row in rows(installation)} == {(ME, os.geteuid())}
    disabled = rows(installation, "--action", "key.disable")[0]
    assert (disabled["before"]["status"], disabled["after"]["status"]) == ("active", "disabled")
    assert [row["action"] for row in rows(installation, "--object", "key:web", "--from", "1h", "--actor", ME)] == [
        "key.revoke", "key.enable", "key.disable", "key.create"]
    assert rows(installation, "--actor", "nobody-else") == []
    shown = json.loads(installation.cli("status", "-o", "json").stdout)
    assert shown["audit"]["seq"] == 8 and shown["audit"]["hash"] == rows(installation)[0]["hash"]
    installation.stop()
    assert rows(installation)[0]["action"] == "daemon.stop"


def test_heads_stand_in_the_log_and_beside_the_database(installation):
    installation.start()
    change_things(installation)
    last = rows(installation)[0]
    assert len(heads(installation)) == last["seq"]
    assert heads(installation)[-1].split() == [str(last["seq"]), last["hash"], last["signature"]]
    assert f'event=audit_head seq={last["seq"]} hash="{last["hash"]}"' in installation.daemon.err.read_text()
    assert (installation.folder / "chaperone.db.audit-heads").stat().st_mode & 0o777 == 0o600


def test_verifies_with_and_without_the_daemon(installation):
    change_things(installation)
    beside = verify(installation)
    installation.start()
    through = verify(installation)
    assert beside["ok"] and through["ok"]
    assert through["rows"] == beside["rows"] + 1  # the daemon's start
    assert through["public_key"] == beside["public_key"] and re.fullmatch("[0-9a-f]{64}", through["public_key"])
    said = installation.cli("audit", "verify").stderr
    assert through["public_key"] in said and through["head_hash"] in said


def test_an_export_proves_itself(installation):
    """Everything that is hashed is in it, so the chain can be checked without the program."""
    change_things(installation)
    exported = [json.loads(line) for line in installation.cli("audit", "export").stdout.splitlines()]
    assert [row["seq"] for row in exported] == list(range(1, len(exported) + 1))

    def number(value):
        return struct.pack("<q", value)

    def text(value):
        data = value.encode() if isinstance(value, str) else value
        return number(len(data)) + data

    def state(value):
        return text(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False))

    prev = bytes(32)
    for row in exported:
        assert row["prev"] == prev.hex()
        data = (text("chaperone audit 1") + number(row["seq"]) + number(row["at_ms"]) + text(row["actor"]) + number(row["uid"])
                + text(row["action"]) + text(row["object_kind"]) + text(row["object_name"]) + state(row["before"])
                + state(row["after"]) + text(row["reason"]) + text(prev))
        prev = hashlib.sha256(data).digest()
        assert row["hash"] == prev.hex()


def test_no_secret_reaches_it(installation):
    installation.start()
    change_things(installation)
    token = installation.keys["web"]
    exported = installation.cli("audit", "export").stdout
    everywhere = exported + "\n".join(heads(installation)) + installation.daemon.err.read_text()
    assert SECRET not in everywhere and token not in everywhere and token[-38:] not in everywhere
    assert "hmac:" in exported


def test_edited_rows_are_named(installation):
    change_things(installation)
    edit(installation, "DROP TRIGGER audit_update; UPDATE audit SET reason = 'planned' WHERE seq = 4")
    found = verify(installation)
    assert [item["seq"] for item in found["items"]] == [4] and "changed" in found["items"][0]["finding"]
    done = installation.cli("audit", "verify", check=False)
    assert done.returncode == 6 and "row 4" in done.stdout


def test_a_rolled_back_provider_is_named(installation):
    change_things(installation)
    edit(installation, "CREATE TABLE kept AS SELECT * FROM providers")
    installation.cli("provider", "disable", "openai")
    edit(installation, "DELETE FROM providers; INSERT INTO providers SELECT * FROM kept")
    found = verify(installation)
    assert {item["object"] for item in found["items"]} == {"provider:openai"}
    assert any("enabled is 1" in item["finding"] for item in found["items"])


def test_a_rollback_of_everything_shows_against_a_head_from_elsewhere(installation):
    change_things(installation)
    names = ["chaperone.db", "chaperone.db.audit-heads"]
    for name in names:
        shutil.copy(installation.folder / name, installation.folder / f"{name}.older")
    installation.key("another", "openai")
    elsewhere = installation.folder / "elsewhere"
    shutil.copy(installation.folder / "chaperone.db.audit-heads", elsewhere)
    newest = rows(installation)[0]
    for name in names:
        os.replace(installation.folder / f"{name}.older", installation.folder / name)
    assert verify(installation)["ok"], "nothing beside the database can tell"
    assert verify(installation, "--head", elsewhere)["items"][0]["seq"] == newest["seq"]
    assert not verify(installation, "--head", newest["hash"])["ok"]
    older = heads(installation)[-1].split()[1]
    assert verify(installation, "--head", older)["ok"]
    done = installation.cli("audit", "verify", "--head", installation.folder / "missing", check=False)
    assert done.returncode == 3


def test_a_log_that_was_cut_off_is_found(installation):
    change_things(installation)
    edit(installation, "DROP TRIGGER audit_delete; DELETE FROM audit WHERE seq > 4")
    found = verify(installation)
    assert [item["seq"] for item in found["items"] if "cut off" in item["finding"]] == [5, 6]


def test_what_cannot_be_recorded_is_refused(installation):
    change_things(installation)
    edit(installation, "CREATE TRIGGER full BEFORE INSERT ON audit WHEN new.action LIKE 'key.%' "
                       "BEGIN SELECT raise(ABORT, 'database or disk is full'); END")
    installation.start()
    done = installation.cli("key", "create", "late", "--provider", "openai", check=False)
    assert done.returncode == 1 and "cannot be recorded" in done.stderr and done.stdout == ""
    assert installation.cli("key", "show", "late", check=False).returncode == 3
    installation.cli("provider", "disable", "openai")  # the others still can


def test_a_start_that_cannot_be_recorded_is_none(installation):
    edit(installation, "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'full'); END")
    process = Process([BINARY, "serve", "--config", installation.config], installation.folder, "refused")
    assert process.child.wait(20) == 1
    assert "cannot be recorded" in process.tail()
