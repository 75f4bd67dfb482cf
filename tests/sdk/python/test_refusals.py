# SPDX-License-Identifier: Apache-2.0
"""What a refusal is to the providers' own Python SDKs, left to their defaults: the exception, and how often they try."""
import time

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

HELLO = [{"role": "user", "content": "Say hello."}]
# The sandbox streams this many events of a token each, slowly enough to be cut between two.
LONG = {"x-sandbox": "drip-5ms, events-200"}


class OpenAI:
    name, model = "openai", "gpt-4o-mini"

    def __init__(self, url, key, **options):
        self.client = openai.OpenAI(base_url=url + "/v1", api_key=key, timeout=20, **options)

    def ask(self):
        return self.client.chat.completions.create(model=self.model, messages=HELLO)

    def stream(self):
        return [chunk for chunk in self.client.chat.completions.create(model=self.model, messages=HELLO, stream=True, extra_headers=LONG)]

    not_allowed = openai.PermissionDeniedError
    limited = openai.RateLimitError
    cut = openai.APIError
    payment = openai.APIStatusError
    retries = True

    @staticmethod
    def said(error):
        return error.status_code, error.body["message"]

    @staticmethod
    def check_budget(error):
        assert error.code == "insufficient_quota" and error.type == "insufficient_quota"


class Anthropic:
    name, model = "anthropic", "claude-haiku-4-5"

    def __init__(self, url, key, **options):
        self.client = anthropic.Anthropic(base_url=url, api_key=key, timeout=20, **options)

    def ask(self):
        return self.client.messages.create(model=self.model, max_tokens=100, messages=HELLO)

    def stream(self):
        return list(self.client.messages.create(model=self.model, max_tokens=1000, messages=HELLO, stream=True, extra_headers=LONG))

    not_allowed = anthropic.PermissionDeniedError
    limited = anthropic.RateLimitError
    cut = anthropic.APIError
    payment = anthropic.APIStatusError
    retries = True

    @staticmethod
    def said(error):
        return error.status_code, error.body["error"]["message"]

    @staticmethod
    def check_budget(error):
        assert error.body["error"]["details"]["error_code"] == "enforced_spend_limit_reached"
        assert error.body["request_id"].startswith("req_")


class Gemini:
    name, model = "gemini", "gemini-2.5-flash"

    def __init__(self, url, key, max_retries=None):
        self.client = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=url, timeout=20_000))
        self.config = types.GenerateContentConfig(http_options=types.HttpOptions(headers=LONG))

    def ask(self):
        return self.client.models.generate_content(model=self.model, contents="Say hello.")

    def stream(self):
        return list(self.client.models.generate_content_stream(model=self.model, contents="Say hello.", config=self.config))

    not_allowed = limited = payment = errors.ClientError
    cut = errors.APIError
    retries = False

    @staticmethod
    def said(error):
        return error.code, error.message

    @staticmethod
    def check_budget(error):
        assert error.status == "RESOURCE_EXHAUSTED"


SDKS = pytest.mark.parametrize("sdk", [OpenAI, Anthropic, Gemini], ids=lambda sdk: sdk.name)


def attempts(gateway, kind):
    """Requests of the key that are in the books."""
    return len(gateway.daemon.usage("--key", kind))


@SDKS
def test_model(gateway, url, sdk):
    before = attempts(gateway, f"{sdk.name}-narrow")
    with pytest.raises(sdk.not_allowed) as caught:
        sdk(url, gateway.keys[f"{sdk.name}-narrow"]).ask()
    status, message = sdk.said(caught.value)
    assert status == 403 and f"Model {sdk.model} is not allowed" in message
    assert attempts(gateway, f"{sdk.name}-narrow") == before + 1


@SDKS
def test_budget(gateway, url, sdk):
    """The product's sentence in the exception, and one attempt: no SDK hammers a budget that is spent."""
    before, start = attempts(gateway, f"{sdk.name}-spent"), time.monotonic()
    with pytest.raises(sdk.limited) as caught:
        sdk(url, gateway.keys[f"{sdk.name}-spent"]).ask()
    status, message = sdk.said(caught.value)
    assert status == 429
    assert message.startswith("Budget limit exceeded for this key. Daily limit: $0.00, current spend: $0.00.") and "It resets at" in message
    sdk.check_budget(caught.value)
    assert attempts(gateway, f"{sdk.name}-spent") == before + 1
    assert time.monotonic() - start < 5


@SDKS
def test_budget_with_another_status(gateway, url, sdk):
    before = attempts(gateway, f"{sdk.name}-spent-402")
    with pytest.raises(sdk.payment) as caught:
        sdk(url, gateway.keys[f"{sdk.name}-spent-402"]).ask()
    status, message = sdk.said(caught.value)
    assert status == 402 and "Monthly limit: $0.00" in message
    assert attempts(gateway, f"{sdk.name}-spent-402") == before + 1


@SDKS
def test_rate(gateway, url, sdk):
    """With retries off the exception for a rate limit; with the defaults the SDK waits as long as it was told and succeeds."""
    name = f"{sdk.name}-paced"
    client, patient = sdk(url, gateway.keys[name], max_retries=0), sdk(url, gateway.keys[name])
    for _ in range(12):
        with pytest.raises(sdk.limited) as caught:
            for _ in range(60):
                client.ask()
        status, message = sdk.said(caught.value)
        assert status == 429 and message == "Rate limit exceeded for this key: 40 requests per minute."
        if not sdk.retries:
            return
        before, start = attempts(gateway, name), time.monotonic()
        assert patient.ask()
        took, made = time.monotonic() - start, attempts(gateway, name) - before
        assert 1 <= made <= 2 and took < 4
        if made == 2:  # else the rate allowed one more just then
            return
    pytest.fail("no attempt was refused")


@SDKS
def test_cut_stream(gateway, url, sdk):
    """A stream that a budget cuts raises; it never looks finished."""
    with pytest.raises(sdk.cut) as caught:
        sdk(url, gateway.keys[f"{sdk.name}-cut"], max_retries=0).stream()
    assert "Budget limit reached while the answer was being streamed" in str(caught.value)
