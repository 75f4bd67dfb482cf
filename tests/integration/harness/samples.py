# SPDX-License-Identifier: Apache-2.0
"""What the providers really say (shapes collected from their own SDKs and documents), with the usage stated in it."""
import json
import pathlib

VECTORS = json.loads((pathlib.Path(__file__).parents[2] / "data/cost_vectors.json").read_text())


def cost(vector):
    """The nano-USD of a cost vector by its id."""
    usd = next(v["usd"] for v in VECTORS if v["id"] == vector)
    whole, _, fraction = usd.partition(".")
    return int(whole) * 10**9 + int(fraction.ljust(9, "0"))


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def sse(data, event=None, end=b"\n"):
    """One event of a stream."""
    data = data if isinstance(data, bytes) else compact(data)
    name = b"event: " + event.encode() + end if event else b""
    return name + b"data: " + data + end + end


class Sample:
    """One exchange: what the client sends and what the provider answers, plain or as a stream of events."""

    def __init__(self, name, dialect, target, body, answer, row, content_type="application/json", stream=False):
        self.name, self.dialect, self.target = name, dialect, target
        self.body = body if isinstance(body, bytes) else compact(body)
        self.parts = answer if isinstance(answer, list) else [answer if isinstance(answer, bytes) else compact(answer)]
        self.answer = b"".join(self.parts)
        self.row, self.content_type, self.is_stream = row, content_type, stream

    def __repr__(self):
        return self.name


CARRIER = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}
HELLO = [{"role": "user", "content": "Grüß Gott, \"chaperone\"!"}]

# Chat completions.
CHAT_USAGE = {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
              "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
              "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}}
CHAT_ROW = {"input_tokens": 86, "cache_read_tokens": 1920, "output_tokens": 300, "cost_nano_usd": cost(1),
            "model_served": "gpt-4o-2024-08-06", "grade": "exact"}
CHAT = Sample("chat", "openai", "/v1/chat/completions", {"model": "gpt-4o", "messages": HELLO, "temperature": 1.0},
              {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
               "service_tier": "default",
               "choices": [{"index": 0, "message": {"role": "assistant", "content": "Servus 👋"}, "finish_reason": "stop"}],
               "usage": CHAT_USAGE}, CHAT_ROW)


def chat_chunk(delta=None, **extra):
    choices = [{"index": 0, "delta": delta, "finish_reason": None}] if delta is not None else []
    return sse({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06",
                "service_tier": "default", "choices": choices, **extra})


CHAT_DELTAS = [chat_chunk({"role": "assistant", "content": ""}, usage=None), chat_chunk({"content": "Serv"}, usage=None),
               chat_chunk({"content": "us \"usage\":{} 👋"}, usage=None), chat_chunk({}, usage=None)]
CHAT_USAGE_EVENT = chat_chunk(usage=CHAT_USAGE)
DONE = b"data: [DONE]\n\n"
CHAT_STREAM_ASKED = Sample("chat-stream-asked", "openai", "/v1/chat/completions",
                           {"model": "gpt-4o", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}},
                           [*CHAT_DELTAS, CHAT_USAGE_EVENT, DONE], CHAT_ROW, "text/event-stream; charset=utf-8", True)
CHAT_STREAM = Sample("chat-stream", "openai", "/v1/chat/completions", {"model": "gpt-4o", "messages": HELLO, "stream": True},
                     [*CHAT_DELTAS, CHAT_USAGE_EVENT, DONE], CHAT_ROW, "text/event-stream; charset=utf-8", True)
COMPLETION = Sample("completions", "openai", "/v1/completions", {"model": "gpt-4o", "prompt": "Hi"},
                    {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "gpt-4o-2024-08-06",
                     "choices": [{"text": "Servus", "index": 0, "finish_reason": "stop"}], "usage": CHAT_USAGE}, CHAT_ROW)


# Responses.
def response_object(model, usage, **extra):
    return {"id": "resp_1", "object": "response", "status": "completed", "model": model,
            "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                        "content": [{"type": "output_text", "text": "Servus", "annotations": []}]}],
            "usage": usage, **extra}


FLEX = response_object("gpt-5", {"input_tokens": 1200, "input_tokens_details": {"cached_tokens": 200}, "output_tokens": 800,
                                 "output_tokens_details": {"reasoning_tokens": 512}, "total_tokens": 2000}, service_tier="flex")
FLEX_ROW = {"input_tokens": 1000, "cache_read_tokens": 200, "output_tokens": 288, "reasoning_tokens": 512, "tier": "flex",
            "cost_nano_usd": cost(2), "model_served": "gpt-5", "grade": "exact"}
RESPONSES = Sample("responses-flex", "openai", "/v1/responses", {"model": "gpt-5", "input": "Hi", "service_tier": "flex"},
                   FLEX, FLEX_ROW)
RESPONSES_WRITE = Sample(
    "responses-cache-write", "openai", "/v1/responses", {"model": "gpt-5.6-terra", "input": "Hi"},
    response_object("gpt-5.6-terra", {"input_tokens": 18014,
                                      "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 18011},
                                      "output_tokens": 40, "output_tokens_details": {"reasoning_tokens": 0},
                                      "total_tokens": 18054}, service_tier="default"),
    {"input_tokens": 3, "cache_write_5m_tokens": 18011, "output_tokens": 40, "cost_nano_usd": cost(4), "grade": "exact"})
RESPONSES_LONG = Sample(
    "responses-long-context", "openai", "/v1/responses", {"model": "gpt-5.4", "input": "Hi"},
    response_object("gpt-5.4", {"input_tokens": 300000, "input_tokens_details": {"cached_tokens": 100000},
                                "output_tokens": 1000, "output_tokens_details": {"reasoning_tokens": 0},
                                "total_tokens": 301000}),
    {"input_tokens": 200000, "cache_read_tokens": 100000, "output_tokens": 1000, "cost_nano_usd": cost(5), "grade": "exact"})
RESPONSES_STREAM = Sample(
    "responses-stream", "openai", "/v1/responses", {"model": "gpt-5", "input": "Hi", "stream": True, "service_tier": "flex"},
    [sse({"type": "response.created", "response": {**FLEX, "status": "in_progress", "output": [], "usage": None}}, "response.created"),
     sse({"type": "response.output_text.delta", "delta": "Ser\"usage\":{\"input_tokens\":9}"}, "response.output_text.delta"),
     sse({"type": "response.output_text.delta", "delta": "vus"}, "response.output_text.delta"),
     sse({"type": "response.completed", "response": FLEX}, "response.completed")],
    FLEX_ROW, "text/event-stream; charset=utf-8", True)
RESPONSES_INCOMPLETE = Sample(
    "responses-incomplete", "openai", "/v1/responses", {"model": "gpt-5", "input": "Hi", "stream": True},
    [sse({"type": "response.output_text.delta", "delta": "Ser"}, "response.output_text.delta"),
     sse({"type": "response.incomplete", "response": {**FLEX, "status": "incomplete"}}, "response.incomplete")],
    FLEX_ROW, "text/event-stream", True)
EMBEDDINGS = Sample("embeddings", "openai", "/v1/embeddings", {"model": "text-embedding-3-small", "input": "Hi"},
                    {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1e-3]}],
                     "model": "text-embedding-3-small", "usage": {"prompt_tokens": 8191, "total_tokens": 8191}},
                    {"input_tokens": 8191, "output_tokens": 0, "cost_nano_usd": cost(14), "grade": "exact"})

# Messages.
CLAUDE_USAGE = {"input_tokens": 50, "cache_creation_input_tokens": 4500, "cache_read_input_tokens": 20000,
                "cache_creation": {"ephemeral_5m_input_tokens": 1500, "ephemeral_1h_input_tokens": 3000}, "output_tokens": 700,
                "output_tokens_details": {"thinking_tokens": 400},
                "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}, "service_tier": "standard",
                "inference_geo": "global", "speed": "standard"}
CLAUDE_ROW = {"input_tokens": 50, "cache_read_tokens": 20000, "cache_write_5m_tokens": 1500, "cache_write_1h_tokens": 3000,
              "searches": 2, "cost_nano_usd": cost(6), "model_served": "claude-opus-5", "grade": "exact"}
CLAUDE_ASK = {"model": "claude-opus-5", "max_tokens": 1000, "messages": HELLO}


def message(usage, content=({"type": "text", "text": "Servus 👋"},)):
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5", "content": list(content),
            "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}


def named(value):
    return sse(value, value["type"])


MESSAGES = Sample("messages", "anthropic", "/v1/messages", CLAUDE_ASK, message(CLAUDE_USAGE), CLAUDE_ROW)
MESSAGES_US = Sample("messages-us", "anthropic", "/v1/messages", {**CLAUDE_ASK, "inference_geo": "us"},
                     message({"input_tokens": 1000, "output_tokens": 500, "inference_geo": "us", "cache_creation": None}),
                     {"input_tokens": 1000, "cost_nano_usd": cost(8), "grade": "exact"})
MESSAGES_STREAM = Sample(
    "messages-stream", "anthropic", "/v1/messages", {**CLAUDE_ASK, "stream": True},
    [named({"type": "message_start", "message": {**message({**CLAUDE_USAGE, "output_tokens": 1, "server_tool_use": None}, ()),
                                                 "stop_reason": None}}),
     named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
     named({"type": "ping"}),
     named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Ser\"usage\":{\"output_tokens\":9}"}}),
     named({"type": "content_block_stop", "index": 0}),
     named({"type": "message_delta", "delta": {"stop_reason": None, "stop_sequence": None}, "usage": {"output_tokens": 600}}),
     named({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"input_tokens": None, "output_tokens": 700,
                      "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}}}),
     named({"type": "message_stop"})],
    CLAUDE_ROW, "text/event-stream; charset=utf-8", True)

# Gemini.
GEMINI_USAGE = {"promptTokenCount": 1200, "cachedContentTokenCount": 400, "candidatesTokenCount": 150, "thoughtsTokenCount": 50,
                "toolUsePromptTokenCount": 30, "totalTokenCount": 1430,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1000}, {"modality": "AUDIO", "tokenCount": 200}],
                "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 400}],
                "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 150}], "serviceTier": "standard"}
GEMINI_ROW = {"input_tokens": 630, "audio_in_tokens": 200, "cache_read_tokens": 400, "output_tokens": 150,
              "reasoning_tokens": 50, "cost_nano_usd": cost(9), "model_served": "gemini-2.5-flash", "grade": "exact"}
GEMINI_ASK = {"contents": [{"role": "user", "parts": [{"text": "Grüß Gott"}]}]}
GEMINI_MODEL = "/v1beta/models/gemini-2.5-flash"


def candidates(text, finish=None, **extra):
    end = {"finishReason": finish} if finish else {}
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, **end, "index": 0}],
            "modelVersion": "gemini-2.5-flash", "responseId": "r1", **extra}


GEMINI_EARLY = {"promptTokenCount": 1200, "totalTokenCount": 1200, "serviceTier": "standard"}
GEMINI_CHUNKS = [candidates("Ser\"usageMetadata\":{}", usageMetadata=GEMINI_EARLY), candidates("v", usageMetadata=GEMINI_EARLY),
                 candidates("us 👋", "STOP", usageMetadata=GEMINI_USAGE)]
GENERATE = Sample("generate", "gemini", f"{GEMINI_MODEL}:generateContent", GEMINI_ASK,
                  candidates("Servus 👋", "STOP", usageMetadata=GEMINI_USAGE), GEMINI_ROW)
GENERATE_V1 = Sample("generate-v1", "gemini", "/v1/models/gemini-2.5-flash:generateContent", GEMINI_ASK,
                     candidates("Servus 👋", "STOP", usageMetadata=GEMINI_USAGE), GEMINI_ROW)
GENERATE_STREAM = Sample("generate-stream", "gemini", f"{GEMINI_MODEL}:streamGenerateContent?alt=sse", GEMINI_ASK,
                         [sse(chunk, end=b"\r\n") for chunk in GEMINI_CHUNKS], GEMINI_ROW, "text/event-stream", True)
GENERATE_ARRAY = Sample("generate-array", "gemini", f"{GEMINI_MODEL}:streamGenerateContent", GEMINI_ASK,
                        [b"[" + compact(GEMINI_CHUNKS[0]), b",\r\n" + compact(GEMINI_CHUNKS[1]),
                         b",\r\n" + compact(GEMINI_CHUNKS[2]), b"]"], GEMINI_ROW, "application/json; charset=UTF-8", True)

PLAIN = [CHAT, COMPLETION, RESPONSES, RESPONSES_WRITE, RESPONSES_LONG, EMBEDDINGS, MESSAGES, MESSAGES_US, GENERATE, GENERATE_V1]
# Streams that pass unchanged. CHAT_STREAM is the one that loses an event and has tests of its own.
STREAMS = [CHAT_STREAM_ASKED, RESPONSES_STREAM, RESPONSES_INCOMPLETE, MESSAGES_STREAM, GENERATE_STREAM, GENERATE_ARRAY]
# One plain and one stream a dialect.
SHORT = [CHAT, MESSAGES, GENERATE, CHAT_STREAM_ASKED, MESSAGES_STREAM, GENERATE_STREAM]
