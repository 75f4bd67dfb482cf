# SPDX-License-Identifier: Apache-2.0
"""Google's own Python SDK with nothing changed but base URL and key."""
import pytest
from google import genai
from google.genai import errors, types

from gateway import PNG

MODEL = "gemini-2.5-flash"


def connect(base, key):
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=base, timeout=20_000))


@pytest.fixture(params=["", "/gemini"])
def client(request, gateway, url):
    return connect(url + request.param, gateway.keys["gemini"])


def test_generate(client):
    done = client.models.generate_content(model=MODEL, contents="Say hello.")
    assert done.text and done.usage_metadata.total_token_count > 0


def test_stream(client):
    chunks = list(client.models.generate_content_stream(model=MODEL, contents="Say hello."))
    assert "".join(chunk.text or "" for chunk in chunks) and chunks[-1].usage_metadata.total_token_count > 0


def test_tools(client):
    weather = types.FunctionDeclaration(name="weather", description="The weather of a place.", parameters_json_schema={
        "type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]})
    done = client.models.generate_content(model=MODEL, contents="How is the weather in Wien?", config=types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[weather])]))
    assert done.candidates[0].content.parts


def test_vision(client):
    done = client.models.generate_content(model=MODEL, contents=[types.Part.from_bytes(data=PNG, mime_type="image/png"), "What is this?"])
    assert done.text


def test_embeddings(client):
    done = client.models.embed_content(model="gemini-embedding-001", contents=["one", "two"])
    assert len(done.embeddings) == 2 and done.embeddings[0].values


def test_count_tokens(client):
    assert client.models.count_tokens(model=MODEL, contents="Say hello.").total_tokens > 0


def test_models(client):
    assert [model.name for model in client.models.list()]


def test_chat(client):
    chat = client.chats.create(model=MODEL)
    assert chat.send_message("One.").text and chat.send_message("Two.").text


@pytest.mark.parametrize("model, error, status", [("sandbox-429", errors.ClientError, 429), ("sandbox-500", errors.ServerError, 500)])
def test_provider_errors(client, model, error, status):
    with pytest.raises(error) as caught:
        client.models.generate_content(model=model, contents="x")
    assert caught.value.code == status


def test_wrong_key(url):
    client = connect(url, "ch_wrong_sk_key")
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model=MODEL, contents="x")
    assert caught.value.code == 401 and caught.value.status == "UNAUTHENTICATED"


def test_model_not_allowed(gateway, url):
    client = connect(url, gateway.keys["gemini-narrow"])
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model=MODEL, contents="x")
    assert caught.value.code == 403 and caught.value.status == "PERMISSION_DENIED" and MODEL in caught.value.message


def test_abort(client):
    stream = client.models.generate_content_stream(model="sandbox-slow-200ms", contents="x")
    next(stream)
    stream.close()
    assert client.models.generate_content(model=MODEL, contents="x").text
