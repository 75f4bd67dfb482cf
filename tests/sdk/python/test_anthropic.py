# SPDX-License-Identifier: Apache-2.0
"""Anthropic's own Python SDK with nothing changed but base URL and key."""
import base64

import anthropic
import pytest

from gateway import PNG

ASK = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Say hello."}]}
TOOL = {"name": "weather", "description": "The weather of a place.",
        "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}}


@pytest.fixture(params=["", "/anthropic"])
def client(request, gateway, url):
    with anthropic.Anthropic(base_url=url + request.param, api_key=gateway.keys["anthropic"], max_retries=0, timeout=20) as client:
        yield client


def test_messages(client):
    done = client.messages.create(**ASK)
    assert done.content[0].text and done.usage.input_tokens > 0 and done.usage.output_tokens > 0


def test_stream(client):
    with client.messages.stream(**ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text and final.content[0].text == text and final.usage.output_tokens > 0


def test_raw_stream(client):
    events = [event.type for event in client.messages.create(**ASK, stream=True)]
    assert events[0] == "message_start" and events[-1] == "message_stop" and "message_delta" in events


def test_tools(client):
    done = client.messages.create(**ASK, tools=[TOOL])
    assert done.content
    answered = client.messages.create(**{**ASK, "messages": [
        *ASK["messages"], {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"place": "Wien"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}]}]}, tools=[TOOL])
    assert answered.content


def test_vision(client):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}}
    done = client.messages.create(**{**ASK, "messages": [{"role": "user", "content": [image, {"type": "text", "text": "What is this?"}]}]})
    assert done.content[0].text


def test_count_tokens(client):
    assert client.messages.count_tokens(model=ASK["model"], messages=ASK["messages"]).input_tokens > 0


def test_models(client):
    assert [model.id for model in client.models.list()]


@pytest.mark.parametrize("model, error, status", [("sandbox-429", anthropic.RateLimitError, 429),
                                                  ("sandbox-500", anthropic.InternalServerError, 500)])
def test_provider_errors(client, model, error, status):
    with pytest.raises(error) as caught:
        client.messages.create(**{**ASK, "model": model})
    assert caught.value.status_code == status


def test_wrong_key(url):
    with anthropic.Anthropic(base_url=url, api_key="ch_wrong_sk_key", max_retries=0) as client:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            client.messages.create(**ASK)
        assert caught.value.body["error"]["type"] == "authentication_error"


def test_auth_token(gateway, url):
    """The bearer form of the same SDK."""
    with anthropic.Anthropic(base_url=url, auth_token=gateway.keys["anthropic"], api_key=None, max_retries=0) as client:
        assert client.messages.create(**ASK).content[0].text


def test_model_not_allowed(gateway, url):
    with anthropic.Anthropic(base_url=url, api_key=gateway.keys["anthropic-narrow"], max_retries=2) as client:
        with pytest.raises(anthropic.PermissionDeniedError) as caught:
            client.messages.create(**ASK)
        assert caught.value.body["error"]["type"] == "permission_error" and ASK["model"] in str(caught.value)


def test_abort(client):
    with client.messages.create(**{**ASK, "model": "sandbox-slow-200ms"}, stream=True) as stream:
        next(iter(stream))
    assert client.messages.create(**ASK).content
