# SPDX-License-Identifier: Apache-2.0
"""The admin listener: who comes in, what a token may do, and that no secret of one plane opens the other."""
import json
import re
import sqlite3
import ssl

import pytest

from harness.client import RawClient, request
from harness.process import clean_environment, free_port
from harness.world import SECRETS, World

TOKEN = re.compile(r"cha_[A-Za-z0-9._-]{1,64}_[0-9A-Za-z]{38}")
ONE_WORDING = "an admin token is needed, and one that is in force"


class Site(World):
    """A world with an admin listener over TLS."""

    def __init__(self, folder, certificates, **settings):
        self.admin_port = free_port()
        super().__init__(folder, certificates, providers=("openai",), admin={
            "socket": "chaperone.sock", "listen": f"127.0.0.1:{self.admin_port}",
            "tls": {"certificate": certificates.pem("good"), "key": certificates.key("good")}}, **settings)
        self.tokens = {}

    def token(self, name, role, *options):
        self.tokens[name] = self.cli("admin-token", "create", name, "--role", role, *options).stdout.strip()
        assert TOKEN.fullmatch(self.tokens[name])
        return self.tokens[name]

    def ask(self, token, operation, arguments=None, headers=()):
        """(status, the whole answer as text) of one call over TLS."""
        body = json.dumps(arguments or {}).encode()
        with RawClient(self.admin_port, tls=self.certificates.client()) as client:
            client.send(request("/v1/" + operation.replace(".", "/"), token, body, headers=headers))
            response = client.read_response()
        return response.status, response.body.decode()

    def error(self, *arguments, **options):
        status, text = self.ask(*arguments, **options)
        return status, json.loads(text)["error"]["message"]

    def remote(self, token, *arguments, check=True, url=None, **environment):
        """The command line of another machine: no configuration, a token in the environment."""
        return self.run(*arguments, "--admin", url or f"https://localhost:{self.admin_port}",
                        "--admin-ca", self.certificates.ca, check=check,
                        environment=clean_environment(CHAPERONE_ADMIN_TOKEN=token, **environment))


@pytest.fixture(scope="module")
def site(tmp_path_factory, certificates):
    site = Site(tmp_path_factory.mktemp("admin"), certificates)
    yield site
    site.close()


@pytest.fixture(scope="module")
def admin(site):
    return site.token("root", "admin")


def test_a_token_is_shown_once_and_stored_as_a_hash(site, admin):
    secret = admin[-38:-6].encode()
    for path in site.folder.iterdir():
        if path.is_file():
            assert secret not in path.read_bytes(), path
    listed = json.loads(site.cli("admin-token", "list", "-o", "json").stdout)
    assert [(t["name"], t["role"], t["status"]) for t in listed["items"] if t["name"] == "root"] == [("root", "admin", "active")]
    assert "hash" not in listed["items"][0] and "token" not in listed["items"][0]
    done = site.cli("admin-token", "create", "root", "--role", "viewer", check=False)
    assert done.returncode == 5 and "not used twice" in done.stderr


def test_commands_work_from_another_machine(site, admin, tmp_path):
    file = tmp_path / "token"
    file.write_text(admin + "\n")
    file.chmod(0o600)
    done = site.run("provider", "list", "-q", "--admin", f"https://localhost:{site.admin_port}", "--admin-ca",
                    site.certificates.ca, "--admin-token-file", file)
    assert done.stdout.split() == ["openai"]
    created = site.remote(admin, "key", "create", "far", "--provider", "openai", "--team", "blue")
    assert re.fullmatch(r"ch_far_sk_[0-9A-Za-z]{50}\n", created.stdout)
    assert site.exchange(request("/chaperone/v1/key", created.stdout.strip(), method="GET")).status == 200


def test_the_token_is_the_actor_in_the_audit_log(site):
    token = site.token("ci-7", "operator")
    site.remote(token, "key", "create", "by-ci", "--provider", "openai", "--reason", "ticket 7")
    row = json.loads(site.cli("audit", "list", "--action", "key.create", "--limit", 1, "-o", "json").stdout)["items"][0]
    assert (row["actor"], row["object"], row["reason"]) == ("token:ci-7", "key:by-ci", "ticket 7")
    assert json.loads(site.cli("audit", "verify", "-o", "json").stdout)["ok"]


@pytest.mark.parametrize("role, allowed, denied", [
    ("viewer", ["key.list", "usage.list", "status", "audit.list"], ["key.create", "provider.test", "token.list", "reload"]),
    ("operator", ["key.list", "budget.list"], ["provider.create", "vault.rekey", "token.create", "price.import"]),
    ("admin", ["token.list", "reload", "status"], []),
])
def test_roles(site, role, allowed, denied):
    token = site.token(f"role-{role}", role)
    for operation in allowed:
        assert site.ask(token, operation)[0] == 200, operation
    for operation in denied:
        status, message = site.error(token, operation)
        assert status == 403 and "needs a token of role" in message, operation


def test_a_team_sees_and_changes_its_own_alone(site):
    site.key("theirs", "openai", team="red")
    site.key("ours", "openai", team="green")
    token = site.token("green-op", "operator", "--team", "green")
    items = json.loads(site.ask(token, "key.list")[1])["result"]["items"]
    assert {item["name"] for item in items} == {"ours"}
    assert site.error(token, "key.list", {"team": "red"}) == (403, "this token is for team green only")
    for operation in ("key.show", "key.disable", "key.revoke", "key.rotate", "key.update"):
        hidden = site.error(token, operation, {"name": "theirs"})
        assert hidden == site.error(token, operation, {"name": "nobody"}) == (404, "team green has no key of that name")
    assert site.ask(token, "key.disable", {"name": "ours"})[0] == 200
    assert site.error(token, "key.update", {"name": "ours", "team": "red"})[0] == 403
    created = json.loads(site.ask(token, "key.create", {"name": "more", "provider": ["openai"]})[1])["result"]
    assert created["team"] == "green"
    assert site.error(token, "key.create", {"name": "evil", "provider": ["openai"], "team": "red"})[0] == 403
    assert site.ask(token, "budget.set", {"scope": "team:green", "budget": "5/day"})[0] == 200
    assert site.ask(token, "budget.set", {"scope": "key:ours", "budget": "1/day"})[0] == 200
    for scope in ("team:red", "key:theirs", "all", "provider:openai", ""):
        assert site.error(token, "budget.set", {"scope": scope, "budget": "5/day"})[0] in (403, 404), scope
    for operation in ("status", "provider.list", "audit.list", "budget.alerts", "price.list", "key.verify"):
        assert site.error(token, operation)[0] == 403, operation


def test_a_revoked_token_ends_at_once(site):
    token = site.token("short", "viewer", "--expires", "90d")
    assert site.ask(token, "key.list")[0] == 200
    site.cli("admin-token", "revoke", "short", "--reason", "lost")
    assert site.error(token, "key.list") == (401, ONE_WORDING)


def test_an_edited_row_fits_no_token(tmp_path, certificates):
    """Whoever writes the database can neither raise a role nor lift a team's limit, and the audit log shows it."""
    site = Site(tmp_path / "edited", certificates)
    try:
        token = site.token("small", "viewer", "--team", "blue")
        other = site.token("other", "viewer")
        site.stop()
        with sqlite3.connect(site.folder / "chaperone.db") as db:
            db.execute("UPDATE admin_tokens SET role = 'admin', team = '' WHERE name = 'small'")
        db.close()
        site.start()
        assert site.error(token, "key.list") == (401, ONE_WORDING)
        assert site.ask(other, "key.list")[0] == 200
        report = json.loads(site.cli("audit", "verify", "-o", "json", check=False).stdout)
        assert not report["ok"] and "token:small" in json.dumps(report)
    finally:
        site.close()


def test_wrong_tokens_share_one_wording_and_nothing_is_echoed(tmp_path, certificates):
    """Also a wrapped key and a provider's key on the admin port."""
    site = Site(tmp_path / "wrong", certificates)
    try:
        good = site.token("good", "admin")
        wrapped = site.key("app", "openai")
        wrong = good[:-7] + ("0" if good[-7] != "0" else "1") + good[-6:]
        unknown = site.token("gone", "admin")
        site.cli("admin-token", "revoke", "gone")
        for shown in (None, wrapped, SECRETS["openai"], wrong, unknown, "", "cha_"):
            status, text = site.ask(shown, "key.list")
            assert status == 401 and json.loads(text)["error"] == {"code": "denied", "message": ONE_WORDING}
            assert not shown or len(shown) < 8 or shown not in text
        two = site.error(good, "key.list", headers=[("Authorization", f"Bearer {good}")])
        assert two == (401, ONE_WORDING)
        for secret in (wrapped, SECRETS["openai"], wrong, unknown, good):
            assert secret not in site.daemon.err.read_text(), "a secret stands in the log"
    finally:
        site.close()


def test_ten_failures_a_minute(tmp_path, certificates):
    site = Site(tmp_path / "paused", certificates)
    try:
        good = site.token("good", "viewer")
        assert [site.ask("cha_x", "status")[0] for _ in range(10)] == [401] * 10
        assert site.error("cha_x", "status")[0] == 429
        assert site.error(good, "status")[0] == 429, "nobody can go on guessing by the answers"
        assert site.cli("status").returncode == 0, "the Unix socket is not concerned"
    finally:
        site.close()


def test_an_admin_token_on_the_data_port_is_no_key(site, admin):
    for carrier in ("authorization", "x-api-key", "x-goog-api-key", "api-key"):
        response = site.exchange(request("/v1/models", admin, method="GET", carrier=carrier))
        assert response.status == 401 and admin not in response.body.decode()
    assert admin not in site.daemon.err.read_text()


def test_admin_paths_do_not_exist_on_the_data_port(site, admin):
    before = site.forwards()
    for path in ("/v1/key/list", "/v1/status", "/v1/token/create"):
        assert site.exchange(request(path, admin, b"{}")).status in (401, 404), path
    assert site.forwards() == before


def test_the_token_never_stands_on_the_command_line(site, admin):
    done = site.run("key", "list", "--admin", f"https://localhost:{site.admin_port}", "--admin-token-file", admin, check=False)
    assert done.returncode == 2 and admin not in done.stderr
    done = site.run("key", "list", "--admin", f"https://localhost:{site.admin_port}", check=False)
    assert done.returncode == 2 and "CHAPERONE_ADMIN_TOKEN" in done.stderr


def test_the_token_leaves_only_over_a_verified_connection(site, admin):
    done = site.run("key", "list", "--admin", f"https://localhost:{site.admin_port}", check=False,
                    environment=clean_environment(CHAPERONE_ADMIN_TOKEN=admin))
    assert done.returncode == 1 and "not trusted" in done.stderr
    done = site.remote(admin, "key", "list", check=False, url="http://gateway.example:8081")
    assert done.returncode == 2 and "in the clear" in done.stderr


def test_the_listener_speaks_tls_1_3_alone(site, certificates):
    with pytest.raises((ssl.SSLError, OSError)):
        RawClient(site.admin_port, tls=certificates.client(ssl.TLSVersion.TLSv1_2))
    with RawClient(site.admin_port) as plain:
        plain.send(request("/v1/status", "x", b"{}"))
        assert b"HTTP" not in plain.read_to_end()


def test_strangers_do_not_fill_the_socket(site):
    """Connections that say nothing take the door's places, never those of the Unix socket."""
    idle = [RawClient(site.admin_port) for _ in range(40)]
    try:
        assert site.cli("status").returncode == 0
    finally:
        for client in idle:
            client.close()


def test_the_body_is_not_read_before_the_token(site):
    with RawClient(site.admin_port, tls=site.certificates.client()) as client:
        client.send(b"POST /v1/key/list HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n")
        assert client.read_response().status == 401


@pytest.mark.parametrize("settings, words", [
    ({"listen": "0.0.0.0:8081"}, "in the clear"),
    ({"listen": "unix:/tmp/x.sock"}, "must be ADDRESS:PORT"),
    ({"tls": {"certificate": "a.pem", "key": "a.key"}}, 'needs "listen"'),
    ({"listen": "127.0.0.1:8081", "tls": {"certificate": "a.pem"}}, "needs both"),
])
def test_unsafe_settings_are_refused(site, tmp_path, settings, words):
    text = site.config.read_text()
    lines, skip = [], False
    for line in text.splitlines():
        skip = line.startswith("admin:") or (skip and line.startswith(" "))
        if not skip:
            lines.append(line)
    path = tmp_path / "chaperone.yaml"
    path.write_text("\n".join(lines) + "\nadmin: " + json.dumps(settings) + "\n")
    done = site.run("check", "--config", path, check=False)
    assert done.returncode == 2 and words in done.stderr, done.stderr


def test_the_data_port_is_never_the_admin_port(site, tmp_path):
    path = tmp_path / "chaperone.yaml"
    path.write_text('listen: [{address: "127.0.0.1:8099"}]\nadmin: {listen: "127.0.0.1:8099"}\n')
    done = site.run("check", "--config", path, check=False)
    assert done.returncode == 2 and "take another port" in done.stderr


def test_a_new_certificate_without_a_restart(tmp_path, certificates):
    site = Site(tmp_path / "renewed", certificates)
    try:
        token = site.token("good", "viewer")
        config = site.config.read_text()
        admin = config[config.index("admin:"):]
        changed = admin.replace(str(certificates.pem("good")), str(certificates.pem("wrong_name"))).replace(
            str(certificates.key("good")), str(certificates.key("wrong_name")))
        assert changed != admin
        site.config.write_text(config.replace(admin, changed))
        site.cli("reload")
        with pytest.raises(ssl.SSLCertVerificationError):
            site.ask(token, "status")
        site.config.write_text(config)
        site.cli("reload")
        assert site.ask(token, "status")[0] == 200
    finally:
        site.close()
