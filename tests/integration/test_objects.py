# SPDX-License-Identifier: Apache-2.0
"""Tenants of one account do not reach each other's stored objects (docs/design/008-object-owners.md). In each case A is the
tenant that made the object, its sibling another key of A's project, B a key of another project."""
import json
import threading

import pytest

from harness.client import request
from harness.process import wait_until
from harness.samples import CARRIER, compact, response_object, sse
from harness.upstream import answer, chunked, reply
from harness.world import World

RESPONSES, CHAT, MESSAGES = "/v1/responses", "/v1/chat/completions", "/v1/messages"
GEMINI = "/v1beta/models/gemini-2.5-flash:generateContent"
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def tenants(world):
    for name, project in (("a", "alpha"), ("sibling", "alpha"), ("b", "beta")):
        world.key(name, "openai", "anthropic", "gemini", options=["--project", project])
    world.key("namesake", "openai", team="others", options=["--project", "alpha"])
    for name, project in (("a", "alpha"), ("b", "beta")):
        world.key(f"{name}-compatible", "compatible", options=["--project", project])
    return world


@pytest.fixture(scope="module")
def account(tmp_path_factory, certificates):
    """Accounts that two projects share."""
    world = tenants(World(tmp_path_factory.mktemp("objects"), certificates, threads=2))
    yield world
    assert world.daemon.is_running(), world.daemon.tail()
    world.close()


def post(world, key, target, body, script=None, provider="openai"):
    for upstream in world.upstreams.values():
        upstream.forget()
    world.upstreams[provider].script = script or reply(answer(compact({})))
    response = world.exchange(request(target, world.keys[key], compact(body), carrier=CARRIER.get(provider, "authorization")))
    return response, sum(len(upstream.requests) for upstream in world.upstreams.values())


def ask(world, key, more, **options):
    """A request to /responses with further members: (status, forwards)."""
    response, forwards = post(world, key, RESPONSES, {"model": "gpt-5", "input": "Hi", **more}, **options)
    return response.status, forwards


def answered(id_, **extra):
    return reply(answer(compact({**response_object("gpt-5", USAGE, **extra), "id": id_})))


def make(world, id_, key="a"):
    assert ask(world, key, {}, script=answered(id_)) == (200, 1)


ALLOWED, DENIED = (200, 1), (404, 0)


def test_another_tenants_response_is_not_there(account):
    """404 in the provider's words, nothing forwarded, one row that says so; the tenant's own keys go on."""
    make(account, "resp_own")
    response, forwards = post(account, "b", RESPONSES, {"model": "gpt-5", "input": "Hi", "previous_response_id": "resp_own"})
    assert (response.status, response.error, forwards) == (404, "object_not_found", 0)
    assert json.loads(response.body)["error"]["message"] == "Previous response with id 'resp_own' not found."
    assert ask(account, "a", {"previous_response_id": "resp_own"}) == ALLOWED
    assert ask(account, "sibling", {"previous_response_id": "resp_own"}) == ALLOWED
    assert "object_not_found" in [row["rule"] for row in account.usage("--key", "b", "--denied")]


def test_an_id_that_nobody_made_is_not_there(account):
    for more in ({"previous_response_id": "resp_never"}, {"conversation": "conv_1"}, {"conversation": {"id": "conv_1"}},
                 {"prompt": {"id": "pmpt_1"}}, {"previous_response_id": 7}, {"previous_response_id": "r" * 600},
                 {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
                 {"tools": [{"type": "code_interpreter", "container": "cntr_1"}]},
                 {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file_1"]}}]},
                 {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]},
                 {"input": [{"type": "item_reference", "id": "msg_never"}]}, {"input": [{"id": "msg_never"}]},
                 {"input": [{"id": "msg_never", "type": "item_reference"}, {"role": "user", "content": "Hi"}]}):
        assert ask(account, "a", more) == DENIED, more


def test_what_is_no_reference_passes(account):
    for more in ({"previous_response_id": None, "conversation": None}, {"prompt": None},
                 {"input": [{"type": "message", "id": "msg_mine", "role": "assistant", "content": "Hi"}]},
                 {"input": [{"role": "user", "content": "file_id previous_response_id"}]},
                 {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
                 {"metadata": {"previous_response_id": "resp_never"}}):
        assert ask(account, "b", more) == ALLOWED, more


@pytest.mark.parametrize("body", [rb'{"model":"m","input":"","previous_response\u005fid":"resp_esc"}',
                                  rb'{"model":"m","input":"","previous_response_id":"resp\u005fesc"}',
                                  b'{"model":"m","input":"","previous_response_id":"resp_b","previous_response_id":"resp_esc"}'])
def test_spelling_does_not_help(account, body):
    make(account, "resp_esc")
    make(account, "resp_b", "b")
    account.upstreams["openai"].forget()
    response = account.exchange(request(RESPONSES, account.keys["b"], body))
    assert (response.status, len(account.upstreams["openai"].requests)) == (404, 0)
    lax = body.replace(b"previous", b"Previous").replace(rb"\u005f", b"_")
    assert account.exchange(request(RESPONSES, account.keys["b"], lax)).status in (400, 404)
    assert not account.upstreams["openai"].requests


def test_items_and_containers_are_learned(account):
    output = [{"type": "reasoning", "id": "rs_1", "summary": []},
              {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_own", "status": "completed"}]
    assert ask(account, "a", {}, script=answered("resp_items", output=output)) == ALLOWED
    for more in ({"input": [{"type": "item_reference", "id": "rs_1"}]}, {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]},
                 {"tools": [{"type": "code_interpreter", "container": "cntr_own"}]}):
        assert ask(account, "sibling", more) == ALLOWED, more
        assert ask(account, "b", more) == DENIED, more


def test_streamed_ids_are_learned_before_the_client_has_them(account):
    """Also of a stream that never comes to its end."""
    first = sse({"type": "response.created", "response": {"id": "resp_stream", "status": "in_progress", "output": []}}, "response.created")
    item = sse({"type": "response.output_item.done", "item": {"type": "message", "id": "msg_stream"}}, "response.output_item.done")
    whole = chunked([first, item, sse({"type": "response.completed", "response": {**response_object("gpt-5", USAGE), "id": "resp_stream"}})])
    cut = len(whole) - 200
    is_read = threading.Event()

    def stop_short(connection, _):
        connection.send(whole[:cut])
        is_read.wait(10)
        connection.close()

    upstream = account.upstreams["openai"]
    upstream.script = stop_short
    with account.connect() as client:
        client.send(request(RESPONSES, account.keys["a"], compact({"model": "gpt-5", "input": "Hi", "stream": True})))
        client.take_until(b"msg_stream")
        assert ask(account, "a", {"previous_response_id": "resp_stream"}) == ALLOWED
        assert ask(account, "b", {"previous_response_id": "resp_stream"}) == DENIED
        assert ask(account, "b", {"input": [{"id": "msg_stream"}]}) == DENIED
        assert ask(account, "a", {"input": [{"id": "msg_stream"}]}) == ALLOWED
        is_read.set()


# ---- what items of a Responses input are

def item(world, key, text, provider="openai"):
    """A request whose input has one item, as it is written: (status, forwards)."""
    world.upstreams[provider].forget()
    world.upstreams[provider].script = reply(answer(compact({})))
    response = world.exchange(request(RESPONSES, world.keys[key], b'{"model":"gpt-5","input":[%s]}' % text.encode()))
    return response.status, len(world.upstreams[provider].requests)


def test_an_item_without_its_payload_is_a_reference(account):
    """The provider would look it up; who stores nothing sends all of it."""
    refers = ['{"type":"reasoning","id":"rs_x","summary":[]}', '{"type":"reasoning","id":"rs_x","encrypted_content":null}',
              '{"id":"rs_x","encrypted_content":"","type":"reasoning"}', '{"type":"reasoning","id":"rs_x","result":"aGk="}',
              '{"type":"reasoning","id":"rs_x","content":[{"type":"reasoning_text","text":"Hm"}]}',
              '{"type":"reasoning","id":"rs_x","encrypted_content":"gAAA","encrypted_content":null}',
              '{"type":"message","id":"rs_x","type":"reasoning","role":"user","content":"Hi"}',
              '{"type":"image_generation_call","id":"ig_x","status":"completed","result":null}',
              '{"type":"image_generation_call","id":"ig_x","encrypted_content":"gAAA"}']
    whole = ['{"type":"reasoning","id":"rs_x","summary":[],"encrypted_content":"gAAA"}', '{"type":"reasoning","summary":[]}',
             '{"id":"ig_x","result":"%s","type":"image_generation_call"}' % ("aGk=" * 500),
             '{"type":"web_search_call","id":"ws_x","status":"completed"}']
    for text in refers:
        assert item(account, "a", text) == DENIED, text
    for text in whole:
        assert item(account, "a", text) == ALLOWED, text


def test_every_id_of_an_item_counts(account):
    assert ask(account, "a", {}, script=answered("resp_ids", output=[{"type": "message", "id": "msg_ids"}])) == ALLOWED
    assert item(account, "a", '{"type":"item_reference","id":"msg_ids"}') == ALLOWED
    assert item(account, "a", '{"type":"item_reference","id":"msg_ids","id":"msg_other"}') == DENIED
    assert item(account, "a", '{"type":"item_reference","id":"msg_other","id":"msg_ids"}') == DENIED


def test_what_is_told_again_may_be_older_than_the_table(account):
    """But not another tenant's; and an approval is to a request of one's own."""
    output = [{"type": "code_interpreter_call", "id": "ci_past", "container_id": "cntr_past"}, {"type": "mcp_approval_request", "id": "mcpr_past"}]
    assert ask(account, "a", {}, script=answered("resp_past", output=output)) == ALLOWED
    call = '{"type":"code_interpreter_call","code":"1","container_id":"%s"}'
    for container, b in (("cntr_gone", ALLOWED), ("cntr_past", DENIED)):
        assert item(account, "a", call % container) == ALLOWED
        assert item(account, "b", call % container) == b
    for text, (past, gone) in {'{"type":"mcp_call","approval_request_id":"%s"}': (DENIED, ALLOWED),
                               '{"approval_request_id":"%s","type":"mcp_approval_response","approve":true}': (DENIED, DENIED),
                               '{"approval_request_id":"%s","approve":true}': (DENIED, DENIED),
                               '{"type":"mcp_approval_response","approval_request_id":"%s","type":"mcp_call"}': (DENIED, DENIED)}.items():
        assert item(account, "a", text % "mcpr_past") == ALLOWED, text
        assert item(account, "b", text % "mcpr_past") == past, text
        assert item(account, "a", text % "mcpr_gone") == gone, text


def test_tools_inside_items(account):
    """What a tool may not name at the top it may not name inside the conversation."""
    for tool in ({"type": "file_search", "vector_store_ids": ["vs_1"]}, {"type": "code_interpreter", "container": "cntr_1"},
                 {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file_1"]}},
                 {"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_1"}},
                 {"type": "shell", "environment": {"type": "container_auto", "file_ids": ["file_1"]}},
                 {"type": "shell", "environment": {"type": "container_auto", "skills": [{"type": "skill_reference", "skill_id": "skill_1"}]}},
                 {"type": "image_generation", "input_image_mask": {"file_id": "file_1"}},
                 {"type": "mcp", "server_label": "x", "tunnel_id": "tunnel_1"}):
        for more in ({"tools": [tool]}, {"input": [{"type": "additional_tools", "role": "developer", "tools": [tool]}]},
                     {"input": [{"type": "tool_search_output", "tools": [{"type": "function"}, tool]}]}):
            assert ask(account, "a", more) == DENIED, more
    listed = {"type": "mcp_list_tools", "server_label": "x", "tools": [{"name": "f", "input_schema": {}}]}
    assert ask(account, "a", {"input": [listed]}) == ALLOWED


def test_containers_of_shell_calls_are_learned(account):
    call = {"type": "shell_call", "environment": {"type": "container_reference", "container_id": "cntr_plain"}}
    assert ask(account, "a", {}, script=answered("resp_shell", output=[call])) == ALLOWED
    done = sse({"type": "response.output_item.done", "item": {**call, "environment": {"container_id": "cntr_streamed"}}}, "response.output_item.done")
    assert ask(account, "a", {"stream": True}, script=reply(chunked([done]))) == ALLOWED
    for container in ("cntr_plain", "cntr_streamed"):
        for more in ({"input": [{**call, "environment": {"type": "container_reference", "container_id": container}}]},
                     {"tools": [{"type": "shell", "environment": {"type": "container_reference", "container_id": container}}]}):
            assert ask(account, "sibling", more) == ALLOWED, more
            assert ask(account, "b", more) == DENIED, more


def test_what_is_not_stored_is_not_learned(account):
    """But the container that it ran in is there."""
    output = [{"type": "message", "id": "msg_unstored"}, {"type": "code_interpreter_call", "container_id": "cntr_unstored"}]
    assert ask(account, "a", {"store": False}, script=answered("resp_unstored", output=output)) == ALLOWED
    assert ask(account, "a", {"previous_response_id": "resp_unstored"}) == DENIED
    assert ask(account, "b", {"input": [{"type": "message", "id": "msg_unstored", "role": "assistant", "content": "Hi"}]}) == ALLOWED
    assert ask(account, "a", {"tools": [{"type": "code_interpreter", "container": "cntr_unstored"}]}) == ALLOWED
    assert ask(account, "a", {"store": True}, script=answered("resp_stored")) == ALLOWED
    assert ask(account, "a", {"previous_response_id": "resp_stored"}) == ALLOWED


def test_what_is_compared_with_may_be_unknown(account):
    make(account, "resp_compared")
    for key, id_, result in (("a", "resp_never", ALLOWED), ("a", "resp_compared", ALLOWED), ("b", "resp_compared", DENIED), ("b", None, ALLOWED)):
        assert ask(account, key, {"prompt_cache_options": {"comparison_response_id": id_}}) == result, (key, id_)


def test_compatible_servers_repeat_the_ids_of_items(account):
    def at(key, text):
        return item(account, key, text, provider="compatible")

    made = answered("resp_7", output=[{"type": "message", "id": "msg_7"}])
    assert ask(account, "a-compatible", {}, script=made, provider="compatible") == ALLOWED
    for text, result in (('{"type":"message","id":"msg_7","role":"assistant","content":"Hi"}', ALLOWED),
                         ('{"type":"reasoning","id":"msg_7","summary":[],"content":[{"type":"reasoning_text","text":"Hm"}]}', ALLOWED),
                         ('{"type":"reasoning","id":"msg_7","summary":[],"content":[]}', DENIED),
                         ('{"type":"item_reference","id":"msg_7"}', DENIED), ('{"id":"msg_7"}', DENIED)):
        assert at("a-compatible", text) == ALLOWED, text
        assert at("b-compatible", text) == result, text


# ---- other endpoints

def test_chat_completions(account):
    def chat(key, message):
        response, forwards = post(account, key, CHAT, {"model": "gpt-4o", "messages": [message]})
        return response.status, forwards

    assert chat("a", {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}) == DENIED
    assert chat("a", {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:,x"}}]}) == ALLOWED


def say(world, key, more, script=None):
    body = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **more}
    return post(world, key, MESSAGES, body, script, "anthropic")


def test_threads(account):
    """Anthropic holds the conversation of a thread under the answer's id; that of any other answer is no object."""
    def say_in(key, thread, id_="msg_any", script=None):
        made = {"id": id_, "type": "message", "usage": {"input_tokens": 1, "output_tokens": 1}}
        response, forwards = say(account, key, {"thread": thread}, script or reply(answer(compact(made))))
        return response.status, forwards

    def go_on(key, id_):
        return say_in(key, {"type": "continue", "previous_message_id": id_})

    start = sse({"type": "message_start", "message": {"id": "msg_streamed", "usage": {"input_tokens": 1}}}, "message_start")
    assert say_in("a", {"type": "create"}, "msg_thread") == ALLOWED
    assert say_in("a", {"type": "create"}, script=reply(chunked([start]))) == ALLOWED
    assert say_in("a", None, "msg_loose") == ALLOWED
    for id_ in ("msg_thread", "msg_streamed"):
        assert go_on("a", id_) == go_on("sibling", id_) == ALLOWED
        assert go_on("b", id_) == DENIED
    assert go_on("a", "msg_loose") == go_on("a", "msg_never") == DENIED
    for key, id_, status in (("b", "msg_never", 200), ("b", None, 200), ("b", "msg_thread", 404), ("a", "msg_thread", 200)):
        assert say(account, key, {"diagnostics": {"previous_message_id": id_}})[0].status == status, (key, id_)


def test_messages(account):
    def message(key, more, script=None):
        return say(account, key, more, script)

    made = {"id": "msg_1", "type": "message", "container": {"id": "container_1"}, "usage": {"input_tokens": 1, "output_tokens": 1}}
    assert message("a", {}, reply(answer(compact(made))))[1] == 1
    for container in ("container_1", {"id": "container_1"}, {"id": "container_1", "skills": [{"type": "anthropic", "skill_id": "pptx"}]}):
        assert message("a", {"container": container})[0].status == 200
        refused, forwards = message("b", {"container": container})
        assert (refused.status, forwards, json.loads(refused.body)["error"]["type"]) == (404, 0, "not_found_error")
    document = {"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": {"type": "file", "file_id": "file_1"}}]}}
    for part in ({"type": "document", "source": {"type": "file", "file_id": "file_1"}}, {"type": "container_upload", "file_id": "file_1"},
                 {"type": "tool_result", "content": [{"type": "image", "source": {"type": "file", "file_id": "file_1"}}]},
                 document, {"type": "tool_result", "content": [document]}, {"type": "web_fetch_tool_result", "content": {"content": document}},
                 {"type": "web_fetch_tool_result", "content": {"content": {"type": "document", "source": {"type": "file", "file_id": "file_1"}}}}):
        refused, forwards = message("a", {"messages": [{"role": "user", "content": [part]}]})
        assert (refused.status, forwards) == (404, 0), part


def test_gemini(account):
    def generate(more):
        response, forwards = post(account, "a", GEMINI, {"contents": [{"parts": [{"text": "Hi"}]}], **more}, provider="gemini")
        return response.status, forwards

    own = "https://generativelanguage.googleapis.com/v1beta/files/abc"
    for uri in (own, own.upper().replace("HTTPS", "https"), "files/abc", "gs://bucket/object", "https://Googleapis.com./files/abc",
                "https://x@generativelanguage.googleapis.com/files/abc", "https://generativelanguage.googleapis.com:443/files/abc"):
        for part in ({"fileData": {"fileUri": uri}}, {"file_data": {"file_uri": uri}}):
            assert generate({"contents": [{"parts": [part]}]}) == DENIED, part
            assert generate({"contents": {"parts": part}}) == DENIED, part
            assert generate({"systemInstruction": {"parts": [part]}}) == DENIED, part
    assert generate({"contents": [{"parts": [{"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}}]}]}) == ALLOWED
    assert generate({"cachedContent": "cachedContents/1"}) == generate({"cached_content": "cachedContents/1"}) == DENIED
    for names in (["fileSearchStores/1"], "fileSearchStores/1"):
        for tool in ({"fileSearch": {"fileSearchStoreNames": names}}, {"file_search": {"file_search_store_names": names}}):
            assert generate({"tools": [tool]}) == generate({"tools": tool}) == DENIED, tool
    assert generate({"tools": {"googleSearch": {}}}) == ALLOWED


def test_owners_outlive_the_process(account):
    """After a restart, and after a kill as soon as the answer was there."""
    make(account, "resp_before")
    account.restart()
    assert ask(account, "a", {"previous_response_id": "resp_before"}) == ALLOWED
    assert ask(account, "b", {"previous_response_id": "resp_before"}) == DENIED
    make(account, "resp_killed")
    account.kill()
    account.start()
    assert ask(account, "sibling", {"previous_response_id": "resp_killed"}) == ALLOWED
    assert ask(account, "b", {"previous_response_id": "resp_killed"}) == DENIED


def test_the_operator_chooses_the_owner(account):
    make(account, "resp_choice")

    def seen_by(*keys):
        return [ask(account, key, {"previous_response_id": "resp_choice"})[0] for key in keys]

    for choice, statuses in (("key", [200, 404, 404, 404]), ("team", [200, 200, 200, 404]), ("shared", [200, 200, 200, 200]),
                             ("project", [200, 200, 404, 404])):
        account.cli("provider", "update", "openai", "--objects", choice)
        assert json.loads(account.cli("provider", "show", "openai", "-o", "json").stdout)["objects"] == choice
        assert seen_by("a", "sibling", "b", "namesake") == statuses, choice
        unknown = (200, 1) if choice == "shared" else (404, 0)
        assert ask(account, "a", {"previous_response_id": "resp_never"}) == unknown, choice
    assert account.cli("provider", "update", "openai", "--objects", "all", check=False).returncode == 2


def test_an_account_of_one_tenant_is_left_alone(make_world):
    """What was made beside the gateway passes while there is nobody to take it from; two keys without a name are two tenants.
    The log says when that ends. Keys that are revoked or over at the start count no more."""
    world = make_world(providers=("openai",), threads=1)

    def warnings():
        return world.daemon.err.read_text().count("event=objects_have_owners")

    world.cli("key", "create", "only", "--provider", "openai")
    world.keys["only"] = world.cli("key", "create", "one", "--provider", "openai", "--project", "p").stdout.strip()
    world.cli("key", "revoke", "only", "--yes")
    world.cli("key", "create", "brief", "--provider", "openai", "--project", "r", "--expires", "1s")
    wait_until(lambda: "expired" in world.cli("key", "list", "--status", "expired").stdout, 5, "the end of a key", 0.1)
    world.restart()
    before = warnings()
    assert ask(world, "only", {"previous_response_id": "resp_old"}) == ALLOWED
    make(world, "resp_new", "only")
    assert warnings() == before
    world.key("other", "openai", options=["--project", "q"])
    world.key("third", "openai", options=["--project", "s"])
    assert warnings() == before + 1, "once"
    assert ask(world, "only", {"previous_response_id": "resp_old"}) == DENIED
    assert ask(world, "only", {"previous_response_id": "resp_new"}) == ALLOWED
    assert ask(world, "other", {"previous_response_id": "resp_new"}) == DENIED
    world.restart()
    assert warnings() == before + 1, "a start is no news"


def test_the_bound_is_told(make_world):
    """What the table has no room for is counted, and the log says it once."""
    world = make_world(providers=("openai",), threads=1, limits={"objects": 1024})
    world.key("a", "openai")
    output = [{"type": "message", "id": f"msg_{i}"} for i in range(1024)]
    for i in range(2):
        assert ask(world, "a", {}, script=answered(f"resp_{i}", output=output)) == ALLOWED
    assert json.loads(world.cli("status", "-o", "json").stdout)["objects_forgotten"] > 0
    assert world.daemon.err.read_text().count("event=objects_forgotten") == 1
