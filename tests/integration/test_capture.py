# SPDX-License-Identifier: Apache-2.0
"""Captured bodies: nothing unless asked for, scrubbed when kept, and never in the way of traffic or accounting."""
import datetime
import json
import pathlib
import re
import stat
import time

import pytest

from harness.client import request
from harness.process import wait_until
from harness.samples import CHAT, CHAT_USAGE, compact, sse
from harness.upstream import answer, chunked, reply
from harness.world import SECRETS, ask, wire

# One of each form, made up; `tail` is what no sink may hold. The front of a form may stay.
CANARIES = {
    "openai": ("sk-", "Zq3CANARYaa7Hs9Kd2Lw5Mx8"),
    "openai project": ("sk-proj-", "Zq3CANARYbb7Hs9_Kd2-Lw5Mx8"),
    "anthropic": ("sk-ant-", "api03-Zq3CANARYcc7Hs9Kd2Lw"),
    "google": ("AIza", "SyZq3CANARYdd7Hs9Kd2Lw5Mx8Np1Qr4St6"),
    "bearer": ("Bearer ", "Zq3CANARYee7Hs9Kd2Lw5Mx8"),
    "jwt": ("eyJ", "hbGciZq3CANARYff7Hs9Kd2Lw5"),
    "slack": ("xoxb-", "123456789012-Zq3CANARYgg7Hs9"),
    "github": ("ghp_", "Zq3CANARYhh7Hs9Kd2Lw5Mx8Np1Qr4St6"),
    "wrapped": ("ch_web_sk_", "Zq3CANARYii7Hs9Kd2Lw5Mx8Np1Qr4St6Uv8Wx0Yz2Ab4Cd6Ef8Gh"),
}
NAMED = {"api_key": "Zq3CANARYjj", "Password": "Zq3CANARYkk", "access_token": "Zq3CANARYll", "private_key": ["Zq3CANARYmm"]}
OWN = "ACME-4711-CANARYnn"  # of the operator's own pattern
EVERYTHING = [front + tail for front, tail in CANARIES.values()] + [json.dumps(NAMED), OWN]
CANARY = re.compile(rb"CANARY[a-n]{2}")
DAY_FILE = re.compile(r"capture-\d{4}-\d\d-\d\d\.jsonl")
# A scope that hides nothing by its rules: bodies as they are.
ON = {"bodies": "on", "patterns": [r"ACME-\d+-\w+"]}


def chat(*contents, **extra):
    return compact({"model": "gpt-4o", "messages": [{"role": "user", "content": text} for text in contents], **extra})


def plain(content):
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06", "usage": CHAT_USAGE,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]}


def delta(content):
    return sse({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06",
                "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}]})


def send(world, token, body, script=None, target="/v1/chat/completions", **options):
    """One exchange; its response."""
    world.upstreams["openai"].script = script or reply(answer(compact(plain("Servus"))))
    return world.exchange(request(target, token, body, **options))


def folder(world):
    return world.folder / "capture"


def day_files(world):
    return sorted(p for p in folder(world).iterdir()) if folder(world).exists() else []


def events(world, count=None, within=10):
    """What the day files hold, once there are `count`."""
    def read():
        lines = [line for path in day_files(world) for line in path.read_text().splitlines(keepends=True)]
        return [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be being written

    if count is not None:
        wait_until(lambda: len(read()) >= count, within, f"{count} captured events", 0.05)
        assert len(read()) == count
    return read()


def show(world, request_id, **options):
    return json.loads(world.cli("usage", "show", request_id, "-o", "json", **options).stdout)


def status(world):
    return json.loads(world.cli("status", "-o", "json").stdout)["capture"]


def sinks(world):
    """Every file of the installation but the configuration: day files, database, journal, log."""
    return [p for p in world.folder.rglob("*") if p.is_file() and p.name not in ("chaperone.yaml", "master.key", "hook")]


def assert_clean(world, pattern=CANARY):
    for path in sinks(world):
        found = pattern.search(path.read_bytes())
        assert not found, f"{path.name} holds {found[0]!r}"


def test_nothing_is_captured_unless_asked_for(make_world):
    world = make_world(providers=("openai",))
    name, token = world.fresh_key()
    response = send(world, token, chat("hello"))
    assert response.status == 200
    row, = world.rows_of(name)
    time.sleep(0.6)
    assert not folder(world).exists()
    shown = show(world, response.request_id)
    assert shown["schema"] == "chaperone.exchange/1" and shown["id"] == row["id"]
    assert {k: shown[k] for k in row} == row
    assert shown["is_captured"] is False and shown["request_body"] is None and shown["response_body"] is None
    assert status(world) == {"stored": 0, "left_out": 0, "dropped": 0, "waiting": 0, "tripped": 0}


@pytest.mark.parametrize("form", [*CANARIES, "names", "own pattern"])
def test_no_form_reaches_any_sink(captured_world, form):
    world = captured_world
    secret = json.dumps(NAMED) if form == "names" else OWN if form == "own pattern" else "".join(CANARIES[form])
    before = len(events(world))
    _, token = world.fresh_key()
    body = chat(f"here: {secret}", f"<{secret}>", metadata={"note": secret}, **(NAMED if form == "names" else {}))
    one = send(world, token, body, reply(answer(compact(plain(f"I see {secret} there")))))
    # Cut into segments at odd places, two events for the stream.
    stream = chunked([delta(f"a {secret} b"), delta(secret), b"data: [DONE]\n\n"])
    two = send(world, token, chat(secret, stream=True), split(stream, 7))
    assert (one.status, two.status) == (200, 200)
    assert not two.truncated, world.daemon.tail()
    assert secret.encode() in two.body or form == "names"  # the client gets what the provider said
    captured = events(world, before + 2)[before:]
    assert_clean(world)
    first, second = (next(e for e in captured if e["id"] == r.request_id) for r in (one, two))
    assert json.loads(first["request_body"])["model"] == "gpt-4o"
    assert json.loads(first["response_body"])["usage"] == CHAT_USAGE
    for line in second["response_body"].splitlines():
        if line.startswith("data: {"):
            json.loads(line[6:])
    assert first["request_body"].count("[REDACTED]") >= 2 and "[REDACTED]" in first["response_body"]
    assert second["response_body"].count("[REDACTED]") >= 2
    shown = show(world, one.request_id)
    assert shown["is_captured"] and shown["request_body"] == first["request_body"]


def split(data, size):
    def script(connection, _):
        for at in range(0, len(data), size):
            connection.send(data[at:at + size], 0.0005)

    return script


@pytest.fixture(scope="module")
def captured_world(tmp_path_factory, certificates):
    from harness.world import World
    world = World(tmp_path_factory.mktemp("captured"), certificates, capture=ON)
    yield world
    world.close()


def test_a_secret_split_over_reads_is_found_in_every_dialect(captured_world):
    world = captured_world
    before = len(events(world))
    from harness import samples
    chosen = [s for s in vars(samples).values() if isinstance(s, samples.Sample)
              and s.name in ("chat", "chat-stream", "messages", "messages-stream", "generate", "generate-stream")]
    assert len({s.dialect for s in chosen}) == 3
    responses = []
    for sample in chosen:
        _, token = world.fresh_key(sample.dialect)
        world.upstreams[sample.dialect].script = split(wire(sample), 11)
        responses.append(world.exchange(ask(sample, token)))
        assert responses[-1].status == 200
    captured = {e["id"]: e for e in events(world, before + len(chosen))[before:]}
    for response, sample in zip(responses, chosen):
        event = captured[response.request_id]
        assert json.loads(event["request_body"]) == json.loads(sample.body)
        assert event["provider"] == sample.dialect and event["grade"] == "exact"
        assert event["response_body"]
    assert_clean(world)


def test_credentials_heads_and_queries_are_never_captured(captured_world):
    world = captured_world
    before = len(events(world))
    name, token = world.fresh_key()
    _, gemini = world.fresh_key("gemini")
    echo = answer(compact(plain(f"your key is {SECRETS['openai']}")))
    one = send(world, token, chat(f"mine is {token}"), reply(echo), headers=[("X-Secret-Thing", "Zq3CANARYhh")])
    world.upstreams["gemini"].script = reply(answer(b'{"candidates":[],"usageMetadata":{"promptTokenCount":1}}'))
    target = f"/v1beta/models/gemini-2.5-flash:generateContent?key={gemini}"
    two = world.exchange(request(target, None, b'{"contents":[]}'))
    assert (one.status, two.status) == (200, 200)
    captured = events(world, before + 2)[before:]
    assert_clean(world)
    assert token not in json.dumps(captured) and gemini not in json.dumps(captured)
    assert not any("key=" in json.dumps(e) for e in captured)
    for path in sinks(world):
        held = path.read_bytes()
        for secret in (*SECRETS.values(), token, gemini):
            assert secret.encode() not in held, f"{path.name} holds a credential"
    assert name == next(e for e in captured if e["id"] == one.request_id)["key"]


def test_day_files_are_private(captured_world):
    _, token = captured_world.fresh_key()
    before = len(events(captured_world))
    send(captured_world, token, chat("hello"))
    events(captured_world, before + 1)
    path = day_files(captured_world)[-1]
    assert DAY_FILE.fullmatch(path.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(folder(captured_world).stat().st_mode) == 0o700


def test_what_is_no_metered_text_is_not_captured(captured_world):
    world = captured_world
    before = len(events(world))
    name, token = world.fresh_key()
    world.upstreams["openai"].script = reply(answer(b'{"object":"list","data":[{"id":"gpt-4o"}]}'))
    assert world.exchange(request("/v1/models", token, method="GET")).status == 200
    audio = reply(answer(b"\xff\xfb\x90" + bytes(range(256)) * 4, content_type="audio/mpeg"))
    spoken = send(world, token, compact({"model": "tts-1", "input": "hello", "voice": "alloy"}), audio, "/v1/audio/speech")
    # The same with a type that promises text.
    lied = send(world, token, chat("hello"), reply(answer(b"\xff\xfe\x00\x01 no text")))
    refused = world.exchange(request("/v1/chat/completions", token, b"{"))
    assert (spoken.status, lied.status, refused.status) == (200, 200, 400)
    captured = {e["id"]: e for e in events(world, before + 2)[before:]}
    assert "response_body" not in captured[spoken.request_id] and "hello" in captured[spoken.request_id]["request_body"]
    assert "response_body" not in captured[lied.request_id]


def test_bodies_are_cut_at_the_limit(make_world):
    world = make_world(providers=("openai",), capture={**ON, "max_body": "1KiB"})
    _, token = world.fresh_key()
    # A key across the cut: its front must not stay.
    long = "x" * 950 + "sk-Zq3CANARYaa7Hs9Kd2Lw5Mx8" + "ü" * 2000
    response = send(world, token, chat(long), reply(answer(compact(plain("ü" * 3000)))))
    assert response.status == 200 and json.loads(response.body)["choices"][0]["message"]["content"] == "ü" * 3000
    event, = events(world, 1)
    assert event["request_body_is_cut"] is True and event["response_body_is_cut"] is True
    assert len(event["request_body"]) <= 1100 and len(event["response_body"].encode()) <= 1024
    assert_clean(world)
    assert event["request_bytes"] == len(chat(long))  # the row knows the whole


def test_an_answer_that_broke_off_is_kept_as_its_front(make_world):
    world = make_world(providers=("openai",), capture=ON)
    _, token = world.fresh_key()

    def script(connection, _):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        part = delta("half an answer")
        connection.send(b"%x\r\n%s\r\n" % (len(part), part), 0.1)
        connection.reset()

    assert send(world, token, chat("hello", stream=True), script).truncated
    event, = events(world, 1)
    assert "half an answer" in event["response_body"] and event["response_body_is_cut"] is True


def test_keys_and_teams_are_captured_by_command(make_world):
    world = make_world(providers=("openai",))
    one, two, three = (world.key(n, "openai", team=t) for n, t in (("one", "red"), ("two", "blue"), ("three", "blue")))
    for token in (one, two, three):
        send(world, token, chat("before"))
    assert "key:one" in world.cli("capture", "enable", "key:one", "--reason", "a case").stdout
    world.cli("capture", "enable", "team:blue")
    world.cli("capture", "enable", "team:blue")  # again: no error
    listed = json.loads(world.cli("capture", "list", "-o", "json").stdout)
    assert [i["scope"] for i in listed["items"]] == ["key:one", "team:blue"] and listed["everything"] is False
    assert world.cli("capture", "enable", "key:nobody", check=False).returncode == 3
    assert world.cli("capture", "enable", "project:x", check=False).returncode == 2
    assert world.cli("capture", "disable", "team:red", check=False).returncode == 3
    for token in (one, two, three):
        send(world, token, chat("during"))
    assert sorted(e["key"] for e in events(world, 3)) == ["one", "three", "two"]
    world.cli("capture", "disable", "team:blue")
    for token in (one, two, three):
        send(world, token, chat("after"))
    assert sorted(e["key"] for e in events(world, 4)) == ["one", "one", "three", "two"]
    # It outlives the daemon, and the log knows who asked.
    world.restart()
    send(world, one, chat("again"))
    send(world, two, chat("again"))
    assert sorted(e["key"] for e in events(world, 5)) == ["one", "one", "one", "three", "two"]
    assert not any("before" in e["request_body"] for e in events(world))
    actions = [i["action"] for i in json.loads(world.cli("audit", "list", "-o", "json").stdout)["items"]]
    assert actions.count("capture.enable") == 3 and actions.count("capture.disable") == 1
    assert json.loads(world.cli("audit", "verify", "-o", "json").stdout)["ok"] is True


def test_rules_decide_what_is_kept(make_world):
    rules = ["drop if team equals legal", "strip response_body if model_asked equals gpt-4o-mini", "hash user_agent",
             'replace request_body with "" if request_body contains internal']
    world = make_world(providers=("openai",), capture={**ON, "rules": rules})
    legal, other = world.key("legal", "openai", team="legal"), world.key("other", "openai", team="other")
    agent = [("User-Agent", "tests/1")]
    dropped = send(world, legal, chat("secret case"), headers=agent)
    first = send(world, other, chat("hello"), headers=agent)
    second = send(world, other, chat("internal"), headers=agent)
    mini = send(world, other, compact({"model": "gpt-4o-mini", "messages": []}), headers=agent)
    kept = {e["id"]: e for e in events(world, 3)}
    assert dropped.request_id not in kept
    hashes = {e["user_agent"] for e in kept.values()}
    assert len(hashes) == 1 and re.fullmatch(r"[0-9a-f]{64}", hashes.pop())
    assert kept[second.request_id]["request_body"] == "" and "hello" in kept[first.request_id]["request_body"]
    assert "response_body" not in kept[mini.request_id] and "response_body" in kept[first.request_id]
    assert {r["user_agent"] for r in world.rows_of("other", 3)} == {"tests/1"}  # the row is another object
    assert len(world.rows_of("legal", 1)) == 1 and status(world)["left_out"] == 1


# ---- the hook program


def hook(world_folder, text):
    path = world_folder.parent / "hook"
    path.write_text("#!/usr/bin/env python3\nimport json, os, sys, time\n" + text)
    path.chmod(0o755)
    return path


def hooked(make_world, tmp_path, text, timeout="2s"):
    path = hook(tmp_path / "x", text)
    return make_world(providers=("openai",), capture={**ON, "hook": {"program": str(path), "timeout": timeout}})


GOOD = """
for line in sys.stdin:
    event = json.loads(line)
    if "drop me" in event.get("request_body", ""):
        print("null", flush=True)
        continue
    event["note"] = [sorted(os.environ), sorted(int(f) for f in os.listdir("/proc/self/fd")), os.getcwd()]
    event["response_body"] = "changed"
    print(json.dumps(event), flush=True)
"""


def test_the_program_changes_and_drops(make_world, tmp_path):
    world = hooked(make_world, tmp_path, GOOD, "20s")
    _, token = world.fresh_key()
    send(world, token, chat("drop me"))
    kept = send(world, token, chat("hello"))
    event, = events(world, 1, 30)
    assert event["response_body"] == "changed"
    environment, descriptors, cwd = event["note"]
    assert [name for name in environment if name != "LC_CTYPE"] == ["PATH"]  # which Python may set itself
    assert descriptors[:3] == [0, 1, 2] and len(descriptors) == 4  # and the listing's own
    assert cwd == "/"
    assert show(world, kept.request_id)["response_body"] == "changed"
    assert status(world)["left_out"] == 1
    children = pathlib.Path(f"/proc/{world.daemon.pid}/task")
    found = [c for t in children.iterdir() for c in (t / "children").read_text().split()]
    assert len(found) == 1
    world.stop()
    assert not pathlib.Path(f"/proc/{found[0]}").exists()


BAD = {
    "hangs": "for line in sys.stdin:\n    time.sleep(600)\n",
    "garbage": "for line in sys.stdin:\n    print('what?', flush=True)\n",
    "another event": "for line in sys.stdin:\n    print(json.dumps({'id': 'req_00000000001'}), flush=True)\n",
    "two answers": "for line in sys.stdin:\n    sys.stdout.write(line + line)\n    sys.stdout.flush()\n",
    "half an answer": "for line in sys.stdin:\n    sys.stdout.write(line.strip()[:9])\n    sys.stdout.flush()\n    time.sleep(600)\n",
    "exits": "sys.exit(3)\n",
    "reads nothing": "os.close(0)\ntime.sleep(600)\n",
}


@pytest.mark.parametrize("fault", BAD)
def test_a_broken_program_costs_the_captured_event_alone(make_world, tmp_path, fault):
    world = hooked(make_world, tmp_path, BAD[fault], "500ms")
    name, token = world.fresh_key()
    for _ in range(4):
        started = time.monotonic()
        assert send(world, token, chat("hello")).status == 200
        assert time.monotonic() - started < 5
    assert len(world.rows_of(name, 4)) == 4
    wait_until(lambda: status(world)["dropped"] == 4, 20, "four dropped captures", 0.1)
    assert events(world) == []
    wait_until(lambda: "captures_dropped" in world.daemon.tail(400), 5, "the log line")
    assert world.daemon.err.read_text().count("event=captures_dropped") == 1  # once a minute
    started = time.monotonic()
    world.stop()
    assert time.monotonic() - started < 10


def test_a_program_that_ended_is_started_again(make_world, tmp_path):
    world = hooked(make_world, tmp_path, "sys.stdout.write(sys.stdin.readline())\nsys.stdout.flush()\n", "20s")
    _, token = world.fresh_key()
    send(world, token, chat("one"))
    events(world, 1, 30)

    def again():
        send(world, token, chat("more"))
        return len(events(world)) >= 3

    wait_until(again, 30, "a restarted program", 0.5)


def test_a_program_that_cannot_be_run_is_refused_at_start(make_world, tmp_path):
    world = make_world(providers=("openai",))
    world.configure(capture={"hook": {"program": "/nonexistent/hook"}})
    done = world.cli("check", check=False)
    assert done.returncode != 0 and "capture.hook.program: /nonexistent/hook" in done.stderr
    reloaded = world.cli("reload", check=False)
    assert reloaded.returncode != 0
    world.configure(capture={"patterns": ["(unclosed"]})
    assert "capture.patterns: pattern 1" in world.cli("check", check=False).stderr
    world.configure(capture={"rules": ["drop whenever"]})
    assert "capture.rules: rule 1" in world.cli("check", check=False).stderr


# ---- limits, retention, reload


def test_a_full_queue_drops_captures_and_no_traffic(make_world, tmp_path):
    path = hook(tmp_path / "x", BAD["hangs"])
    world = make_world(providers=("openai",), limits={"body": "8MiB"},
                       capture={**ON, "max_body": "1MiB", "hook": {"program": str(path), "timeout": "60s"}})
    name, token = world.fresh_key()
    body, count = chat("x" * 1_000_000), 80
    world.upstreams["openai"].script = reply(answer(compact(plain("Servus"))))
    with world.connect() as client:
        for _ in range(count):
            client.send(request("/v1/chat/completions", token, body))
            assert client.read_response().status == 200
    assert len(world.rows_of(name, count, 30)) == count
    assert status(world)["dropped"] > 0
    assert world.daemon.resident_kib() < 1_500_000
    world.stop()


def test_old_days_and_old_rows_go(make_world):
    world = make_world(providers=("openai",), capture=ON)
    name, token = world.fresh_key()
    for _ in range(3):
        send(world, token, chat("hello"))
    ids = [e["id"] for e in events(world, 3)]
    world.rows_of(name, 3)
    hours = world.cli("usage", "summary", "-o", "json").stdout
    now = datetime.datetime.now(datetime.timezone.utc).date()
    old = folder(world) / "capture-2020-01-01.jsonl"
    recent = folder(world) / f"capture-{now - datetime.timedelta(days=89)}.jsonl"
    other = folder(world) / "capture-2020-01-01.jsonl.bak"
    for path in (old, recent, other):
        path.write_text("{}\n")
    time.sleep(0.2)
    world.restart(capture=ON, usage={"retention": "100ms"})
    wait_until(lambda: not old.exists(), 10, "the old day's end")
    assert recent.exists() and other.exists()
    rows = wait_until(lambda: (lambda r: r if len(r) == 1 else None)(world.usage()), 10, "the old rows' end")
    assert rows[0]["id"] == max(ids)  # the newest stays: ids go on from it
    assert world.cli("usage", "summary", "-o", "json").stdout == hours
    assert world.cli("usage", "show", min(ids), check=False).returncode == 3


def test_a_reload_holds_for_the_next_exchange(make_world):
    world = make_world(providers=("openai",))
    _, token = world.fresh_key()
    send(world, token, chat("off"))
    world.configure(capture={**ON, "patterns": ["hush"]})
    world.cli("reload")
    send(world, token, chat("hush on"))
    event, = events(world, 1)
    assert "hush" not in event["request_body"] and "[REDACTED] on" in event["request_body"]
    world.configure(capture={"bodies": "off"})
    world.cli("reload")
    send(world, token, chat("off again"))
    time.sleep(0.6)
    assert len(events(world)) == 1


def test_a_torn_line_spoils_no_other(make_world):
    world = make_world(providers=("openai",), capture=ON)
    _, token = world.fresh_key()
    first = send(world, token, chat("one"))
    events(world, 1)
    world.stop()
    with open(day_files(world)[0], "ab") as file:
        file.write(b'{"id":"req_torn","request_bo')
    world.start()
    second = send(world, token, chat("two"))
    wait_until(lambda: show(world, second.request_id)["is_captured"], 10, "the second event", 0.1)
    assert "one" in show(world, first.request_id)["request_body"] and "two" in show(world, second.request_id)["request_body"]


# ---- the tripwire


@pytest.mark.parametrize("bodies", ["on", "off"])
def test_a_prompt_with_a_key_trips_the_wire(make_world, bodies):
    world = make_world(providers=("openai",), capture={"bodies": bodies, "tripwire": True})
    name, token = world.fresh_key()
    clean = send(world, token, chat("a harmless question about sk-learn"))
    provider = send(world, token, chat("my key is " + "".join(CANARIES["openai project"])))
    time.sleep(0.15)  # warnings come ten a second at most
    own = send(world, token, chat(f"and {token}"))
    wait_until(lambda: status(world)["tripped"] == 2, 10, "two trips", 0.1)
    lines = [line for line in world.daemon.err.read_text().splitlines() if "event=prompt_carries_key" in line]
    assert len(lines) >= 1 and all("level=warn" in line and name in line for line in lines)
    assert any(provider.request_id in line and "provider_key" in line for line in lines)
    assert clean.request_id not in "".join(lines)
    assert_clean(world)
    assert token.encode() not in world.daemon.err.read_bytes()
    if bodies == "off":
        assert not folder(world).exists()
        return
    flags = {e["id"]: e.get("prompt_carries_key", False) for e in events(world, 3)}
    assert flags == {clean.request_id: False, provider.request_id: True, own.request_id: True}
    assert show(world, own.request_id)["prompt_carries_key"] is True


def test_people_read_bodies_without_controls(make_world):
    world = make_world(providers=("openai",), capture=ON)
    _, token = world.fresh_key()
    response = send(world, token, chat("hello"), reply(answer("line \x1b[31m one\nüber \u0090two".encode(), content_type="text/plain")))
    events(world, 1)
    shown = world.cli("usage", "show", response.request_id, "-o", "table").stdout
    assert "--- request ---" in shown and "--- response ---\nline ?[31m one\nüber ?two\n" in shown and "\x1b" not in shown


