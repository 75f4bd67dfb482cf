# SPDX-License-Identifier: Apache-2.0
"""OpenAI's own Python SDK with nothing changed but base URL and key."""
import asyncio
import base64

import httpx2
import openai
import pytest

from gateway import PNG

HELLO = [{"role": "user", "content": "Say hello."}]
SOUND = b"RIFF" + bytes(300_000)
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather of a place.", "parameters": {
    "type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}}}


@pytest.fixture(params=["/v1", "/openai/v1"])
def client(request, gateway, url):
    with openai.OpenAI(base_url=url + request.param, api_key=gateway.keys["openai"], max_retries=0, timeout=20) as client:
        yield client


def test_chat(client):
    done = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert done.choices[0].message.content and done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 0


def test_chat_stream(client):
    """A client that did not ask for usage never meets a chunk without choices."""
    text, chunks = "", 0
    for chunk in client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True):
        text += chunk.choices[0].delta.content or ""
        assert chunk.usage is None
        chunks += 1
    assert text and chunks > 1


def test_chat_stream_with_usage(client):
    chunks = list(client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True,
                                                 stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0


def test_chat_tools(client):
    done = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, tools=[TOOL], tool_choice="auto")
    message = done.choices[0].message
    assert message.tool_calls[0].function.name == "weather" if message.tool_calls else message.content
    answered = client.chat.completions.create(model="gpt-4o-mini", tools=[TOOL], messages=[
        *HELLO, {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": {
            "name": "weather", "arguments": "{\"place\":\"Wien\"}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"}])
    assert answered.choices[0].message


def test_chat_vision(client):
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    done = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": [
        {"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]}])
    assert done.choices[0].message.content


def test_responses(client):
    done = client.responses.create(model="gpt-5-mini", input="Say hello.")
    assert done.status == "completed" and done.output_text and done.usage.total_tokens > 0


def test_responses_stream(client):
    events = list(client.responses.create(model="gpt-5-mini", input="Say hello.", stream=True))
    assert events[-1].type == "response.completed" and events[-1].response.usage.output_tokens > 0
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta")


def test_embeddings(client):
    done = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert len(done.data) == 2 and all(isinstance(x, float) for x in done.data[0].embedding) and done.usage.prompt_tokens > 0


def test_images(client):
    done = client.images.generate(model="gpt-image-1.5", prompt="A hat.", n=2, size="1024x1024", quality="low")
    assert len(done.data) == 2 and base64.b64decode(done.data[0].b64_json) and done.usage.output_tokens > 0


def test_images_stream(client):
    events = list(client.images.generate(model="gpt-image-1.5", prompt="A hat.", stream=True, partial_images=1))
    assert events[-1].type == "image_generation.completed" and events[-1].usage.total_tokens > 0


def test_image_edit(client):
    """The SDK puts the model behind the images; the form goes through in one piece."""
    images = [("one.png", PNG, "image/png"), ("two.png", PNG * 20_000, "image/png")]
    done = client.images.edit(model="gpt-image-1.5", image=images, prompt="A hat.", n=1)
    assert done.data[0].b64_json and done.usage.input_tokens_details.image_tokens > 0


@pytest.mark.parametrize("format", ["json", "verbose_json", "text", "vtt"])
def test_transcription(client, format):
    done = client.audio.transcriptions.create(model="whisper-1", file=("a.wav", SOUND), response_format=format)
    assert (done if isinstance(done, str) else done.text).strip()


def test_transcription_stream(client):
    events = list(client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", SOUND), stream=True))
    assert events[-1].type == "transcript.text.done" and events[-1].text and events[-1].usage.output_tokens > 0


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_translation(client):
    assert client.audio.translations.create(model="whisper-1", file=("a.wav", SOUND)).text


def test_speech(client):
    assert client.audio.speech.create(model="tts-1", voice="alloy", input="Grüß Gott.").content.startswith(b"ID3")


def test_speech_stream(client, tmp_path):
    with client.audio.speech.with_streaming_response.create(model="gpt-4o-mini-tts", voice="alloy", input="Hello.") as speech:
        speech.stream_to_file(tmp_path / "a.mp3")
    assert (tmp_path / "a.mp3").read_bytes().startswith(b"ID3")


@pytest.mark.parametrize("call", [
    lambda client: client.audio.transcriptions.create(model="whisper-1", file=("a.wav", SOUND)),
    lambda client: client.images.edit(model="gpt-image-1.5", image=("a.png", PNG), prompt="A hat."),
    lambda client: client.images.generate(model="gpt-image-1.5", prompt="A hat."),
    lambda client: client.audio.speech.create(model="tts-1", voice="alloy", input="Hello.")], ids=["audio", "edit", "image", "speech"])
def test_media_model_not_allowed(gateway, url, call):
    with openai.OpenAI(base_url=url + "/v1", api_key=gateway.keys["openai-narrow"], max_retries=2) as client:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            call(client)
        assert caught.value.code == "model_not_allowed"


def test_models(client):
    assert [model.id for model in client.models.list()]


def test_raw_headers(client):
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=HELLO)
    assert raw.headers["x-chaperone-request-id"].startswith("req_")


@pytest.mark.parametrize("model, error, status", [("sandbox-429", openai.RateLimitError, 429), ("sandbox-500", openai.InternalServerError, 500)])
def test_provider_errors(client, model, error, status):
    with pytest.raises(error) as caught:
        client.chat.completions.create(model=model, messages=HELLO)
    assert caught.value.status_code == status


def test_wrong_key(url):
    with openai.OpenAI(base_url=url + "/v1", api_key="ch_wrong_sk_key", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        assert caught.value.code == "invalid_api_key" and caught.value.body["message"]


def test_model_not_allowed(gateway, url):
    with openai.OpenAI(base_url=url + "/v1", api_key=gateway.keys["openai-narrow"], max_retries=2) as client:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        assert "gpt-4o-mini" in caught.value.message


def test_cut_stream_is_an_error(client):
    with pytest.raises((openai.APIError, httpx2.HTTPError)):
        list(client.chat.completions.create(model="sandbox-cut", messages=HELLO, stream=True))


def test_abort(client, gateway):
    with client.chat.completions.create(model="sandbox-slow-200ms", messages=HELLO, stream=True) as stream:
        next(iter(stream))
    assert client.chat.completions.create(model="gpt-4o-mini", messages=HELLO).choices


def test_async(gateway, url):
    async def run():
        async with openai.AsyncOpenAI(base_url=url + "/v1", api_key=gateway.keys["openai"], max_retries=0) as client:
            done = await asyncio.gather(*(client.chat.completions.create(model="gpt-4o-mini", messages=HELLO) for _ in range(20)))
            text = ""
            async for chunk in await client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True):
                text += chunk.choices[0].delta.content or ""
            return [d.choices[0].message.content for d in done], text

    contents, text = asyncio.run(run())
    assert len(contents) == 20 and all(contents) and text


def test_azure_client(gateway, url):
    """The Azure flavour of the SDK asks another path: an OpenAI key is not served there, in the shape it understands."""
    with openai.AzureOpenAI(azure_endpoint=url, api_key=gateway.keys["openai"], api_version="2024-10-21", max_retries=0) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        assert caught.value.status_code in (403, 404)
