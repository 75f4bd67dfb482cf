# SPDX-License-Identifier: Apache-2.0
"""Images, transcriptions and speech: forms are read as strictly as JSON, and every unit is billed."""
import json
import random

import pytest

from harness import samples
from harness.client import request
from harness.upstream import Upstream, answer, chunked, reply, reply_cut
from harness.world import SECRETS

TRANSCRIBE, TRANSLATE, SPEECH = "/v1/audio/transcriptions", "/v1/audio/translations", "/v1/audio/speech"
GENERATE, EDIT, VARY = "/v1/images/generations", "/v1/images/edits", "/v1/images/variations"
MODEL = "gpt-4o-transcribe"
BOUNDARY = b"----form7MA4YWxkTrZu0gW"
TYPE = "multipart/form-data; boundary=" + BOUNDARY.decode()
SPEECH_ASK = {"model": "tts-1", "input": "x" * 120, "voice": "alloy"}


def forwards(world):
    return sum(len(u.requests) for u in world.upstreams.values())


def part(name, value, more=b"", head=b""):
    """One part as the SDKs write it; `more` stands behind its name, `head` in lines of its own."""
    return (b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="' + name + b'"' + more + b"\r\n" + head + b"\r\n"
            + value + b"\r\n")


def upload(content=b"RIFF....", name=b"file", filename=b"a.wav"):
    return part(name, content, b'; filename="' + filename + b'"', b"Content-Type: audio/wav\r\n")


def form(*parts):
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def form_request(target, key, body, content_type=TYPE):
    fields = [("Host", "127.0.0.1"), ("Authorization", f"Bearer {key}"), ("Content-Type", content_type), ("Content-Length", len(body))]
    head = f"POST {target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields if v is not None)
    return head.encode("latin-1") + b"\r\n" + body


def post_form(world, key, body, target=TRANSCRIBE, content_type=TYPE):
    return world.exchange(form_request(target, key, body, content_type))


def post_json(world, key, target, document):
    return world.exchange(request(target, key, document if isinstance(document, bytes) else samples.compact(document)))


def post(world, key, target, body):
    """A form is known by its first bytes."""
    is_form = isinstance(body, bytes) and body.startswith(b"--")
    return post_form(world, key, body, target) if is_form else post_json(world, key, target, body)


@pytest.fixture(scope="module")
def key(shared_world):
    """May use every model."""
    return shared_world.fresh_key("openai")[1]


@pytest.fixture(scope="module")
def narrow_key(shared_world):
    """May use one model."""
    return shared_world.fresh_key("openai", models=MODEL)[1]


# ---- where the model stands

NOISE = random.Random(7).randbytes(5 << 20)


@pytest.mark.parametrize("model, status", [(MODEL, 200), ("whisper-1", 403), ("gpt-4o-transcribe-diarize", 403)])
def test_model_behind_five_megabytes(world, narrow_key, model, status):
    body = form(upload(NOISE), part(b"language", b"de"), part(b"model", model.encode()))
    response = post_form(world, narrow_key, body)
    assert (response.status, forwards(world)) == (status, int(status == 200))
    if status == 200:
        sent = world.upstreams["openai"].last
        assert sent.body == body and sent.get("content-type") == TYPE


def test_large_form_in_pieces_of_every_kind(world, narrow_key):
    """What stands in the file looks like a delimiter at every other place; the cuts fall anywhere."""
    trap = NOISE[:1 << 20] + b"\r\n--" + BOUNDARY[:-1] + b"\r\n-" + BOUNDARY + NOISE[:4000]
    body = form(part(b"prompt", b'name="model"'), upload(trap), part(b"model", MODEL.encode()))
    dice = random.Random(11)
    cuts = sorted(dice.sample(range(1, len(body)), 30) + list(range(len(body) - 250, len(body) - 50, 5)))
    with world.connect() as client:
        data = form_request(TRANSCRIBE, narrow_key, body)
        head = len(data) - len(body)
        at = 0
        for cut in [head + cut for cut in cuts] + [len(data)]:
            client.send(data[at:cut])
            at = cut
        assert client.read_response().status == 200
    assert world.upstreams["openai"].last.body == body


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("model, status", [(MODEL, 200), ("whisper-1", 403)])
def test_form_split_at_every_byte(world, narrow_key, model, status, tls):
    body = form(upload(b"RIFF\r\n--" + BOUNDARY[:9]), part(b"model", model.encode()), part(b"language", b"de"))
    data = form_request(TRANSCRIBE, narrow_key, body)
    with world.connect(tls) as client:
        for at in range(len(data) - len(body) - 3, len(data)):
            client.send(data[:at])
            client.send(data[at:])
            assert client.read_response().status == status, at
        client.send_pieces(data)
        assert client.read_response().status == status
    requests = world.upstreams["openai"].requests
    assert len(requests) == (len(body) + 4 if status == 200 else 0)
    assert all(sent.body == body for sent in requests)


@pytest.mark.parametrize("target", [TRANSCRIBE, TRANSLATE, EDIT, VARY])
def test_forms_of_every_endpoint(world, narrow_key, target):
    upstream = world.upstreams["openai"]
    for model, status in ((MODEL, 200), ("dall-e-2", 403)):
        body = form(part(b"model", model.encode()), upload(), part(b"n", b"2"))
        assert post_form(world, narrow_key, body, target).status == status
    assert [sent.target for sent in upstream.requests] == [target]


def test_body_that_may_be_a_form_or_json(world, key):
    assert post_json(world, key, EDIT, {"model": "gpt-image-1.5", "prompt": "a hat", "images": [{"file_id": "f1"}]}).status == 200
    for target, type_ in ((TRANSCRIBE, "application/json"), (TRANSCRIBE, None), (VARY, "application/json"), (TRANSCRIBE, "text/plain"),
                          (SPEECH, TYPE), (GENERATE, TYPE), ("/v1/chat/completions", TYPE), ("/v1/responses", TYPE)):
        world.upstreams["openai"].forget()
        response = post_form(world, key, form(part(b"model", MODEL.encode())), target, type_)
        assert (response.status, response.error, forwards(world)) == (415, "unsupported_media_type", 0), (target, type_)


# ---- abuse 8: everything that two readers of a form could read in two ways

GOOD = part(b"model", MODEL.encode())
BIG = part(b"model", b"whisper-1")
D = b"--" + BOUNDARY
NAMED = b'\r\nContent-Disposition: form-data; name="model"'
ABUSES = {
    "model-twice": form(GOOD, GOOD),
    "model-twice-around-the-file": form(GOOD, upload(), BIG),
    "model-missing": form(upload(), part(b"language", b"de")),
    "model-empty": form(part(b"model", b"")),
    "model-with-filename": form(part(b"model", MODEL.encode(), b'; filename="x"')),
    "model-with-empty-filename": form(part(b"model", MODEL.encode(), b'; filename=""')),
    "model-with-extended-filename": form(part(b"model", MODEL.encode(), b"; filename*=utf-8''x")),
    "model-with-charset": form(part(b"model", MODEL.encode(), head=b"Content-Type: text/plain; charset=utf-7\r\n")),
    "model-as-json": form(part(b"model", MODEL.encode(), head=b"Content-Type: application/json\r\n")),
    "model-base64": form(part(b"model", b"Z3B0LTRv", head=b"Content-Transfer-Encoding: base64\r\n")),
    "model-8bit": form(part(b"model", MODEL.encode(), head=b"Content-Transfer-Encoding: 8bit\r\n")),
    "model-with-blank": form(part(b"model", MODEL.encode() + b" ")),
    "model-with-line-end": form(part(b"model", MODEL.encode() + b"\r\n")),
    "model-with-nul": form(part(b"model", MODEL.encode() + b"\0")),
    "model-fullwidth": form(part(b"model", "gpt-4o-transcribe．".encode())),
    "model-of-ten-kilobytes": form(part(b"model", b"a" * 10240)),
    "other-case": form(part(b"Model", b"whisper-1"), GOOD),
    "upper-case-behind": form(GOOD, part(b"MODEL", b"whisper-1")),
    "brackets": form(GOOD, part(b"model[]", b"whisper-1")),
    "index": form(part(b"model[0]", b"whisper-1"), GOOD),
    "name-twice": form(part(b"x", b"whisper-1", b'; name="model"'), GOOD),
    "name-extended": form(part(b"x", b"whisper-1", b"; name*=utf-8''model"), GOOD),
    "name-escaped": form(part(b'mod\\"el', b"x"), GOOD),
    "name-in-filename": form(part(b"file", b"x", b'; filename="a; name=model"'), GOOD),
    "name-percent": form(part(b"m%6fdel", b"whisper-1"), GOOD),
    "charset-field": form(part(b"_charset_", b"utf-16"), GOOD),
    "disposition-twice": form(D + b'\r\nContent-Disposition: form-data; name="x"' + NAMED + b"\r\n\r\nwhisper-1\r\n", GOOD),
    "disposition-missing": form(D + b"\r\nContent-Type: text/plain\r\n\r\nx\r\n", GOOD),
    "disposition-attachment": form(D + b'\r\nContent-Disposition: attachment; name="model"\r\n\r\nwhisper-1\r\n', GOOD),
    "disposition-folded": form(D + b'\r\nContent-Disposition: form-data;\r\n name="model"\r\n\r\nwhisper-1\r\n', GOOD),
    "space-before-colon": form(D + b'\r\nContent-Disposition : form-data; name="model"\r\n\r\nwhisper-1\r\n', GOOD),
    "bare-lf": form(GOOD).replace(b"\r\n", b"\n"),
    "bare-lf-in-head": form(D + NAMED + b"\n\nwhisper-1\r\n", GOOD),
    "bare-cr-in-head": form(D + NAMED + b"\r\r\nwhisper-1\r\n", GOOD),
    "delimiter-within-a-line": form(part(b"x", b"y" + D + NAMED + b"\r\n\r\nwhisper-1"), GOOD),
    "delimiter-behind-lf": form(part(b"x", b"y\n" + D + NAMED + b"\r\n\r\nwhisper-1"), GOOD),
    "delimiter-padded": form(D + b" " + NAMED + b"\r\n\r\nwhisper-1\r\n", GOOD),
    "delimiter-longer": form(D + b"x" + NAMED + b"\r\n\r\nwhisper-1\r\n", GOOD),
    "part-behind-the-end": form(GOOD) + BIG,
    "epilogue": form(GOOD) + b"x",
    "form-twice": form(GOOD) + form(BIG),
    "no-end": GOOD,
    "no-end-dashes": GOOD + D + b"\r\n",
    "one-dash-at-the-end": GOOD + D + b"-\r\n",
    "cut-in-the-value": D + NAMED + b"\r\n\r\ngpt-4o",
    "long-preamble": b"x" * 1000 + b"\r\n" + form(GOOD),
    "preamble-with-lf": b"x\n" + form(GOOD),
    "empty-form": D + b"--\r\n",
    "nothing-of-a-form": b"model=gpt-4o-transcribe",
    "json": b'{"model":"gpt-4o-transcribe"}',
    "nested": form(part(b"x", b"--in\r\n\r\n\r\n--in--", head=b"Content-Type: multipart/mixed; boundary=in\r\n"), GOOD),
    "length-too-short": form(part(b"x", b"abcdef", head=b"Content-Length: 3\r\n"), GOOD),
    "length-beyond-the-part": form(part(b"x", b"abc", head=b"Content-Length: 500\r\n"), GOOD),
    "many-parts": form(*[part(b"x%d" % n, b"y") for n in range(400)], GOOD),
    "long-head": form(part(b"x", b"y", head=b"X-A: " + b"z" * 5000 + b"\r\n"), GOOD),
    "many-head-lines": form(part(b"x", b"y", head=b"X-A: b\r\n" * 20), GOOD),
}


@pytest.mark.parametrize("abuse", ABUSES)
def test_abuse_08_forms(world, narrow_key, abuse):
    """Whatever a lax reader would find there: nothing is forwarded."""
    response = post_form(world, narrow_key, ABUSES[abuse])
    assert response.status == 400 and forwards(world) == 0
    assert response.error in ("invalid_form", "model_missing", "model_invalid")
    assert b"whisper" not in response.body


@pytest.mark.parametrize("type_", [
    "multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""', "multipart/form-data; boundary=a b",
    f"{TYPE}; boundary=other", f"multipart/form-data; boundary=other; boundary={BOUNDARY.decode()}", f"{TYPE}; charset=utf-16",
    f"{TYPE}; x=y", f'multipart/form-data; boundary="{BOUNDARY.decode()}\\""', "multipart/form-data; boundary=" + "x" * 71,
    f"multipart/form-data boundary={BOUNDARY.decode()}", f"{TYPE};", "multipart/form-data; boundary=other"])
def test_abuse_08_boundaries(world, narrow_key, type_):
    response = post_form(world, narrow_key, form(GOOD), content_type=type_)
    assert (response.status, response.error, forwards(world)) == (400, "invalid_form", 0)


def test_abuse_08_two_content_types(world, narrow_key):
    data = form_request(TRANSCRIBE, narrow_key, form(GOOD)).replace(b"Content-Type", b"Content-Type: application/json\r\nContent-Type", 1)
    assert (world.exchange(data).status, forwards(world)) == (400, 0)


@pytest.mark.parametrize("type_", [TYPE + "; charset=utf-8", TYPE.upper().replace(BOUNDARY.decode().upper(), BOUNDARY.decode()),
                                   f'multipart/form-data; boundary="{BOUNDARY.decode()}"'])
def test_forms_that_are_plain_pass(world, narrow_key, type_):
    body = form(part(b"model", MODEL.encode(), head=b"Content-Type: text/plain\r\nContent-Length: %d\r\n" % len(MODEL)), upload())
    assert post_form(world, narrow_key, body, content_type=type_).status == 200


@pytest.mark.parametrize("target", [TRANSCRIBE, EDIT])
def test_abuse_05_model_in_the_query_of_a_form(world, key, target):
    response = post_form(world, key, form(GOOD), target + "?model=whisper-1")
    assert (response.status, response.error, forwards(world)) == (400, "model_mismatch", 0)


def test_abuse_04_the_writer_of_an_svg_stands_under_the_lists(world, narrow_key):
    for body in (form(GOOD, part(b"svg[model]", b"gpt-5")), form(part(b"svg[model]", b"gpt-5"), GOOD, upload())):
        response = post_form(world, narrow_key, body, EDIT)
        assert (response.status, response.error, forwards(world)) == (403, "model_not_allowed", 0)
    assert post_form(world, narrow_key, form(GOOD, part(b"svg[model]", MODEL.encode()), upload()), EDIT).status == 200


def test_abuse_06_azure_forms(world):
    """The deployment in the path decides; a form that names another model is refused."""
    upstream = Upstream(reply(answer(b'{"text":"hi"}')))
    name = f"azure{next(world.names)}"
    world.provider(name, "azure", f"http://127.0.0.1:{upstream.port}", SECRETS["openai"])
    key = world.key(f"k{next(world.names)}", name, models=MODEL)
    for deployment, model, status in ((MODEL, None, 200), (MODEL, MODEL, 200), (MODEL, "whisper-1", 400), ("whisper-1", MODEL, 400),
                                      ("whisper-1", None, 403)):
        upstream.forget()
        parts = [upload()] + ([part(b"model", model.encode())] if model else [])
        response = post_form(world, key, form(*parts), f"/openai/deployments/{deployment}/audio/transcriptions?api-version=2024-10-21")
        assert (response.status, len(upstream.requests)) == (status, int(status == 200)), (deployment, model)
    upstream.close()


@pytest.mark.parametrize("n", [b"0", b"11", b"-1", b"1.0", b"x", b"", b"99999999999999999999", b" 1"])
def test_abuse_25_number_of_images(world, key, n):
    body = form(part(b"model", b"dall-e-2"), upload(), part(b"n", n))
    response = post_form(world, key, body, VARY)
    assert (response.status, response.error, forwards(world)) == (400, "count_invalid", 0)
    json_n = n if n in (b"0", b"11", b"-1", b"1.0", b"99999999999999999999") else b'"' + n + b'"'
    response = post_json(world, key, GENERATE, b'{"model":"dall-e-2","prompt":"x","n":' + json_n + b"}")
    assert (response.status, response.error, forwards(world)) == (400, "count_invalid", 0)


@pytest.mark.parametrize("target, body", [
    (SPEECH, b'{"model":"tts-1","input":"a","input":"b"}'), (SPEECH, b'{"model":"tts-1","input":"a","\\u0069nput":"b"}'),
    (GENERATE, b'{"model":"dall-e-3","prompt":"x","size":"1024x1024","size":"1792x1024"}'),
    (GENERATE, b'{"model":"dall-e-3","prompt":"x","n":1,"n":2}'),
    (GENERATE, b'{"model":"dall-e-3","prompt":"x","quality":"hd","qualit\\u0079":"standard"}')])
def test_abuse_01_duplicate_members_of_media(world, key, target, body):
    response = world.exchange(request(target, key, body))
    assert (response.status, response.error, forwards(world)) == (400, "duplicate_member", 0)


@pytest.mark.parametrize("target, member", [(SPEECH, b'"Input":"b"'), (GENERATE, b'"N":2'), (GENERATE, b'"size ":"256x256"')])
def test_abuse_03_names_of_media_that_a_lax_decoder_mistakes(world, key, target, member):
    response = world.exchange(request(target, key, b'{"model":"dall-e-3","input":"a",' + member + b"}"))
    assert (response.status, response.error, forwards(world)) == (400, "ambiguous_member", 0)


# ---- a key that maps models

def test_map_in_forms(world):
    name = f"k{next(world.names)}"
    key = world.key(name, "openai", models="whisper-1", options=["--map", f"{MODEL}=whisper-1", "--map", "a=whisper-1"])
    world.upstreams["openai"].script = reply(answer(WHISPER))
    parts = [upload(NOISE[:70000]), part(b"language", b"de")]
    for asked in (MODEL, "a"):
        body = form(*parts, part(b"model", asked.encode()), part(b"prompt", asked.encode()))
        assert post_form(world, key, body).status == 200
        sent = world.upstreams["openai"].last
        assert sent.body == form(*parts, BIG, part(b"prompt", asked.encode()))
        assert sent.get("content-length") == str(len(sent.body))
    rows = world.rows_of(name, 2)
    assert {(row["model_asked"], row["model_sent"]) for row in rows} == {(MODEL, "whisper-1"), ("a", "whisper-1")}
    assert all(row["cost_nano_usd"] == samples.cost(13) for row in rows)


# ---- what it costs

def images(usage=None, count=1, **extra):
    document = {"created": 1, "data": [{"b64_json": "aGk="}] * count, **extra}
    return samples.compact({**document, "usage": usage} if usage else document)


IMAGE_USAGE = {"input_tokens": 260, "input_tokens_details": {"text_tokens": 60, "image_tokens": 200}, "output_tokens": 1056,
               "total_tokens": 1316}
TRANSCRIPT_USAGE = {"type": "tokens", "input_tokens": 1412, "input_token_details": {"audio_tokens": 1400, "text_tokens": 12},
                    "output_tokens": 45, "total_tokens": 1457}
WHISPER = samples.compact({"text": "hi", "usage": {"type": "duration", "seconds": 75}})
TRANSCRIPT = samples.compact({"text": "hi", "usage": TRANSCRIPT_USAGE})
IMAGE_ROW = {"endpoint": "images_edits", "input_tokens": 60, "image_in_tokens": 200, "image_out_tokens": 1056, "images": 1,
             "cost_nano_usd": samples.cost(11), "grade": "exact", "is_stream": False}
TRANSCRIPT_ROW = {"endpoint": "audio_transcriptions", "input_tokens": 12, "audio_in_tokens": 1400, "output_tokens": 45,
                  "cost_nano_usd": samples.cost(12), "grade": "exact", "is_stream": False}
SPEECH_ROW = {"endpoint": "audio_speech", "characters": 120, "cost_nano_usd": samples.cost(17), "grade": "exact", "is_stream": False}
EDIT_FORM = form(upload(name=b"image[]"), part(b"prompt", b"a hat"), part(b"model", b"gpt-image-1.5"), part(b"size", b"1024x1024"))
SOUND = b"ID3" + NOISE[:3000]


def events(*documents):
    return chunked([samples.sse(document, document["type"]) for document in documents])


def streamed(row):
    return {**row, "is_stream": True}


EXCHANGES = {
    "vector-11-edit": (EDIT, EDIT_FORM, answer(images(IMAGE_USAGE)), IMAGE_ROW),
    "vector-11-edit-json": (EDIT, {"model": "gpt-image-1.5", "prompt": "x"}, answer(images(IMAGE_USAGE)), IMAGE_ROW),
    "vector-11-generation": (GENERATE, {"model": "gpt-image-1.5", "prompt": "x"}, answer(images(IMAGE_USAGE)),
                             {**IMAGE_ROW, "endpoint": "images_generations"}),
    "vector-11-stream": (EDIT, form(part(b"stream", b"true"), part(b"model", b"gpt-image-1.5"), upload()),
                         events({"type": "image_edit.partial_image", "b64_json": "aGk=", "partial_image_index": 0},
                                {"type": "image_edit.completed", "b64_json": "aGk=", "usage": IMAGE_USAGE}), streamed(IMAGE_ROW)),
    "vector-12": (TRANSCRIBE, form(upload(), GOOD), answer(TRANSCRIPT), TRANSCRIPT_ROW),
    "vector-12-stream": (TRANSCRIBE, form(upload(), GOOD, part(b"stream", b"true")),
                         events({"type": "transcript.text.delta", "delta": "hi"},
                                {"type": "transcript.text.done", "text": "hi", "usage": TRANSCRIPT_USAGE}), streamed(TRANSCRIPT_ROW)),
    "vector-13": (TRANSCRIBE, form(upload(), BIG), answer(WHISPER),
                  {"audio_ms": 75000, "cost_nano_usd": samples.cost(13), "grade": "exact", "endpoint": "audio_transcriptions"}),
    "vector-13-translation": (TRANSLATE, form(upload(), BIG), answer(WHISPER),
                              {"audio_ms": 75000, "cost_nano_usd": samples.cost(13), "grade": "exact", "endpoint": "audio_translations"}),
    "vector-17": (SPEECH, SPEECH_ASK, answer(SOUND, content_type="audio/mpeg"), SPEECH_ROW),
    "vector-17-escaped": (SPEECH, b'{"input":"' + b"\\u00e4\\ud83d\\udc4b\\n" * 30 + "ä€👋".encode() * 10 + b'","model":"tts-1"}',
                          answer(SOUND, content_type="audio/mpeg"), SPEECH_ROW),
    "speech-long": (SPEECH, {**SPEECH_ASK, "input": "ä" * 4096}, answer(SOUND, content_type="audio/wav"),
                    {"characters": 4096, "cost_nano_usd": 4096 * 15000, "grade": "exact"}),
    "speech-events": (SPEECH, {**SPEECH_ASK, "model": "gpt-4o-mini-tts", "stream_format": "sse"},
                      events({"type": "speech.audio.delta", "audio": "SUQz"},
                             {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}}),
                      {"input_tokens": 14, "audio_out_tokens": 101, "cost_nano_usd": 14 * 2500 + 101 * 12000, "grade": "exact",
                       "is_stream": True}),
    "speech-by-token-states-nothing": (SPEECH, {**SPEECH_ASK, "model": "gpt-4o-mini-tts"}, answer(SOUND, content_type="audio/mpeg"),
                                       {"input_tokens": 30, "audio_out_tokens": 168, "cost_nano_usd": 30 * 2500 + 168 * 12000,
                                        "grade": "estimated"}),
    "transcript-text": (TRANSCRIBE, form(upload(NOISE[:16000]), BIG, part(b"response_format", b"text")),
                        answer(b"hello there\n", content_type="text/plain"),
                        {"audio_ms": 2000, "cost_nano_usd": 2 * 100000, "grade": "estimated"}),
    "transcript-verbose": (TRANSCRIBE, form(upload(), BIG, part(b"response_format", b"verbose_json")),
                           answer(samples.compact({"task": "transcribe", "duration": 2.5, "text": "x"})),
                           {"audio_ms": 2500, "cost_nano_usd": 250000, "grade": "estimated"}),
    "dall-e-3-hd": (GENERATE, {"model": "dall-e-3", "prompt": "x", "quality": "hd", "size": "1024x1024"}, answer(images()),
                    {"images": 1, "image_width": 1024, "image_height": 1024, "image_quality": "hd", "cost_nano_usd": 80_000_000,
                     "grade": "exact"}),
    "dall-e-3-escaped": (GENERATE, rb'{"model":"dall-e-3","prompt":"x","quality":"h\u0064","size":"1024\u00781024"}', answer(images()),
                         {"image_quality": "hd", "image_width": 1024, "cost_nano_usd": 80_000_000, "grade": "exact"}),
    "dall-e-2-three": (VARY, form(part(b"model", b"dall-e-2"), part(b"n", b"3"), part(b"size", b"512x512"), upload()),
                       answer(images(count=3)), {"images": 3, "image_width": 512, "cost_nano_usd": 3 * 18_000_000, "grade": "exact",
                                                 "endpoint": "images_variations"}),
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_row_is_exact(world, name):
    target, body, script, expected = EXCHANGES[name]
    key_name, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(script)
    assert post(world, key, target, body).status == 200
    (row,) = world.rows_of(key_name)
    assert {field: row[field] for field in expected} == expected


def test_rows_without_units_have_none(world):
    name, key = world.fresh_key("openai")
    world.send_sample(samples.CHAT, key)
    (row,) = world.rows_of(name)
    assert [row[field] for field in ("audio_ms", "characters", "images", "side_cost_nano_usd", "video_in_tokens")] == [0] * 5
    assert (row["image_width"], row["image_height"], row["image_quality"]) == (None, None, "auto")


@pytest.mark.parametrize("target, body, model, grade", [
    (GENERATE, {"model": "gpt-image-1.5", "prompt": "x", "stream": True, "quality": "low", "size": "1024x1024"}, "gpt-image-1.5", "partial"),
    (SPEECH, SPEECH_ASK, "tts-1", "exact")], ids=["images", "speech"])
def test_answer_that_is_cut_is_never_free(world, target, body, model, grade):
    """An image is estimated by what was asked for; characters were billed when the provider accepted them."""
    name, key = world.fresh_key("openai")
    whole = chunked([samples.sse({"type": "image_generation.partial_image", "b64_json": "aGk="})] * 2)
    script = answer(SOUND, content_type="audio/mpeg") if target == SPEECH else whole
    world.upstreams["openai"].script = reply_cut(script, len(script) - 40)
    assert post_json(world, key, target, body).truncated
    (row,) = world.rows_of(name)
    assert (row["model_sent"], row["grade"], row["end_reason"]) == (model, grade, "upstream_cut")
    assert row["cost_nano_usd"] == (samples.cost(17) if target == SPEECH else row["input_tokens"] * 5000 + 272 * 32000)


@pytest.mark.parametrize("target, body", [(SPEECH, SPEECH_ASK), (GENERATE, {"model": "dall-e-3", "prompt": "x"})])
def test_refused_media_cost_nothing(world, target, body):
    name, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(answer(b'{"error":{"message":"no"}}', "400 Bad Request"))
    assert post_json(world, key, target, body).status == 400
    (row,) = world.rows_of(name)
    assert (row["grade"], row["cost_nano_usd"], row["characters"], row["images"]) == ("none", 0, 0, 0)


# ---- other models that work for an exchange

TEXT_NANO = 1200 * 1250 + 800 * 10000  # of gpt-5, for the usage below
TOOL = {"input_tokens": 60, "input_tokens_details": {"image_tokens": 0, "text_tokens": 60}, "output_tokens": 1056, "total_tokens": 1116}


def tool_answer(model, **usage):
    tool = {"type": "image_generation", **({"model": model} if model else {})}
    return samples.compact(samples.response_object(
        "gpt-5", {"input_tokens": 1200, "output_tokens": 800, "total_tokens": 2000, **usage}, tools=[tool], tool_usage={"image_gen": TOOL}))


@pytest.mark.parametrize("model, side, grade", [("gpt-image-1.5", 60 * 5000 + 1056 * 32000, "exact"),
                                                ("nobody-knows-1", 60 * 1250 + 1056 * 10000, "estimated"),
                                                (None, 60 * 1250 + 1056 * 10000, "estimated")])
def test_images_of_a_tool_are_billed_by_their_model(world, model, side, grade):
    """One whose price is not known is charged as the model that served: an estimate, and never nothing."""
    name, key = world.fresh_key("openai")
    world.upstreams["openai"].script = reply(answer(tool_answer(model)))
    assert post_json(world, key, "/v1/responses", {"model": "gpt-5", "input": "draw"}).status == 200
    (row,) = world.rows_of(name)
    assert (row["cost_nano_usd"], row["side_cost_nano_usd"], row["grade"]) == (TEXT_NANO + side, side, grade)
    assert (row["input_tokens"], row["output_tokens"], row["image_out_tokens"]) == (1200, 800, 0)


def test_stated_cost_is_the_whole(world):
    name, key = world.fresh_key("compatible")
    world.upstreams["compatible"].script = reply(answer(tool_answer("gpt-image-1.5", cost=0.0125)))
    assert post_json(world, key, "/v1/responses", {"model": "gpt-5", "input": "draw"}).status == 200
    (row,) = world.rows_of(name)
    assert (row["cost_nano_usd"], row["side_cost_nano_usd"], row["grade"]) == (12_500_000, 0, "exact")


def test_advisor_is_billed_by_its_model(world):
    name, key = world.fresh_key("anthropic")
    usage = {"input_tokens": 100, "output_tokens": 50, "iterations": [
        {"type": "message", "input_tokens": 100, "output_tokens": 50},
        {"type": "advisor_message", "model": "claude-opus-5", "input_tokens": 1000, "output_tokens": 500}]}
    document = {**samples.message(usage), "model": "claude-haiku-4-5"}
    world.upstreams["anthropic"].script = reply(answer(samples.compact(document)))
    body = samples.compact({**samples.CLAUDE_ASK, "model": "claude-haiku-4-5"})
    assert world.exchange(request("/v1/messages", key, body, carrier="x-api-key")).status == 200
    (row,) = world.rows_of(name)
    side = 1000 * 5000 + 500 * 25000
    assert (row["cost_nano_usd"], row["side_cost_nano_usd"], row["grade"]) == (100 * 1000 + 50 * 5000 + side, side, "exact")


# ---- budgets

def test_budget_counts_characters(world):
    """Two speeches of 120 characters fit into the budget of two, a third does not."""
    name = f"k{next(world.names)}"
    key = world.key(name, "openai", options=["--budget", "0.0036/day", "--budget-mode", "strict"])
    world.upstreams["openai"].script = reply(answer(SOUND, content_type="audio/mpeg"))
    assert [post_json(world, key, SPEECH, SPEECH_ASK).status for _ in range(3)] == [200, 200, 429]
    rows = world.rows_of(name, 3)
    assert sorted((row["cost_nano_usd"], row["rule"]) for row in rows) == [(0, "budget_exceeded"), (1_800_000, ""), (1_800_000, "")]


@pytest.mark.parametrize("target, body", [
    (GENERATE, {"model": "dall-e-3", "prompt": "x", "quality": "hd", "size": "1024x1024"}),
    (GENERATE, {"model": "gpt-image-1.5", "prompt": "x", "n": 2, "size": "1024x1024"}),
    (VARY, form(part(b"model", b"dall-e-2"), part(b"n", b"4"), upload())),
    (TRANSCRIBE, form(upload(NOISE[:8000 * 650]), BIG))], ids=["by-image", "by-token", "variations", "seconds"])
def test_budget_holds_what_media_ask_for(world, target, body):
    """Each would cost more than 0.06 USD: a budget of that lets none of them through."""
    name = f"k{next(world.names)}"
    key = world.key(name, "openai", options=["--budget", "0.06/day", "--budget-mode", "strict"])
    response = post(world, key, target, body)
    assert (response.status, response.error, forwards(world)) == (429, "budget_exceeded", 0)


def test_unpriced_media_are_refused_under_a_budget(world):
    name = f"k{next(world.names)}"
    key = world.key(name, "openai", options=["--budget", "10/day"])
    for target, body in ((SPEECH, {**SPEECH_ASK, "model": "nobody-speaks-1"}), (GENERATE, {"model": "nobody-paints-1", "prompt": "x"})):
        response = post_json(world, key, target, body)
        assert (response.status, response.error, forwards(world)) == (403, "model_unpriced", 0)


def test_ceiling_of_media_without_a_price(world):
    """A model without a price is charged its tokens, stated or estimated, at the ceiling."""
    name = f"k{next(world.names)}"
    key = world.key(name, "openai", options=["--unknown-model", "ceiling:10/20"])
    world.upstreams["openai"].script = reply(answer(SOUND, content_type="audio/mpeg"))
    assert post_json(world, key, SPEECH, {**SPEECH_ASK, "model": "nobody-speaks-1"}).status == 200
    (row,) = world.rows_of(name)
    assert (row["cost_nano_usd"], row["grade"]) == (30 * 10000 + 168 * 20000, "estimated")


def test_reprice_leaves_what_has_its_price(world):
    """Rows keep all that their price depends on, so pricing them anew changes nothing."""
    name, key = world.fresh_key("openai")
    costs = []
    for target, body, script, expected in EXCHANGES.values():
        world.upstreams["openai"].script = reply(script)
        post(world, key, target, body)
        costs.append(expected["cost_nano_usd"])
    world.upstreams["openai"].script = reply(answer(tool_answer("gpt-image-1.5")))
    post_json(world, key, "/v1/responses", {"model": "gpt-5", "input": "draw"})
    costs.append(TEXT_NANO + 60 * 5000 + 1056 * 32000)
    before = world.rows_of(name, len(costs))
    assert sorted(row["cost_nano_usd"] for row in before) == sorted(costs)
    said = json.loads(world.cli("usage", "reprice", "--from", "1d", "-o", "json").stdout)
    after = world.rows_of(name, len(costs))
    assert after == before, said
