// SPDX-License-Identifier: Apache-2.0
// OpenAI's own Node SDK, two major versions, with nothing changed but base URL and key.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as openai6 from "openai6";
import * as openai7 from "openai7";

import { everyWay, key, place, png } from "./gateway.mjs";

const messages = [{ role: "user", content: "Say hello." }];
const tools = [{ type: "function", function: { name: "weather", description: "The weather of a place.", parameters: place } }];
const model = "gpt-4o-mini";
const sound = Buffer.concat([Buffer.from("RIFF"), Buffer.alloc(300_000)]);

everyWay({ openai6, openai7 }, ["/v1", "/openai/v1"], (name, sdk, baseURL) => {
  const connect = (apiKey = key("openai"), maxRetries = 0) => new sdk.OpenAI({ baseURL, apiKey, maxRetries, timeout: 20_000 });
  const client = connect();

  describe(name, { timeout: 60_000 }, () => {
    test("chat", async () => {
      const done = await client.chat.completions.create({ model, messages });
      assert.ok(done.choices[0].message.content);
      assert.equal(done.usage.total_tokens, done.usage.prompt_tokens + done.usage.completion_tokens);
    });

    test("chat stream", async () => {
      let text = "";
      for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
        text += chunk.choices[0].delta.content ?? "";
        assert.ok(chunk.usage == null);
      }
      assert.ok(text);
    });

    test("chat stream with usage", async () => {
      const chunks = [];
      const options = { include_usage: true };
      for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, stream_options: options }))
        chunks.push(chunk);
      assert.deepEqual(chunks.at(-1).choices, []);
      assert.ok(chunks.at(-1).usage.total_tokens > 0);
    });

    test("chat tools", async () => {
      const done = await client.chat.completions.create({ model, messages, tools });
      assert.ok(done.choices[0].message.tool_calls?.[0].function.name === "weather" || done.choices[0].message.content);
    });

    test("chat tools streamed", async () => {
      const final = await client.chat.completions.stream({ model, messages, tools }).finalChatCompletion();
      assert.ok(final.choices[0].message);
    });

    test("chat vision", async () => {
      const content = [
        { type: "text", text: "What is this?" },
        { type: "image_url", image_url: { url: `data:image/png;base64,${png}` } },
      ];
      const done = await client.chat.completions.create({ model, messages: [{ role: "user", content }] });
      assert.ok(done.choices[0].message.content);
    });

    test("responses", async () => {
      const done = await client.responses.create({ model: "gpt-5-mini", input: "Say hello." });
      assert.ok(done.output_text && done.usage.total_tokens > 0);
    });

    test("responses stream", async () => {
      const events = [];
      for await (const event of await client.responses.create({ model: "gpt-5-mini", input: "Say hello.", stream: true })) events.push(event);
      assert.equal(events.at(-1).type, "response.completed");
      assert.ok(events.at(-1).response.usage.output_tokens > 0);
    });

    test("embeddings", async () => {
      const done = await client.embeddings.create({ model: "text-embedding-3-small", input: ["one", "two"] });
      assert.equal(done.data.length, 2);
      assert.equal(typeof done.data[0].embedding[0], "number");
    });

    test("images", async () => {
      const done = await client.images.generate({ model: "gpt-image-1.5", prompt: "A hat.", n: 2, size: "1024x1024" });
      assert.equal(done.data.length, 2);
      assert.ok(done.data[0].b64_json && done.usage.output_tokens > 0);
    });

    test("image edit", async () => {
      const image = await sdk.toFile(Buffer.from(png, "base64"), "one.png", { type: "image/png" });
      const done = await client.images.edit({ model: "gpt-image-1.5", image: [image, image], prompt: "A hat." });
      assert.ok(done.data[0].b64_json && done.usage.input_tokens_details.image_tokens > 0);
    });

    test("transcription", async () => {
      const file = await sdk.toFile(sound, "a.wav");
      assert.ok((await client.audio.transcriptions.create({ model: "whisper-1", file })).text);
      assert.ok(await client.audio.transcriptions.create({ model: "whisper-1", file, response_format: "srt" }));
    });

    test("transcription stream", async () => {
      const events = [];
      const file = await sdk.toFile(sound, "a.wav");
      for await (const event of await client.audio.transcriptions.create({ model: "gpt-4o-transcribe", file, stream: true }))
        events.push(event);
      assert.equal(events.at(-1).type, "transcript.text.done");
      assert.ok(events.at(-1).usage.output_tokens > 0);
    });

    test("speech", async () => {
      const answer = await client.audio.speech.create({ model: "tts-1", voice: "alloy", input: "Grüß Gott." });
      assert.ok(Buffer.from(await answer.arrayBuffer()).subarray(0, 3).equals(Buffer.from("ID3")));
    });

    test("media model not allowed", async () => {
      const narrow = connect(key("openai-narrow"), 2);
      const file = await sdk.toFile(sound, "a.wav");
      const refused = (error) => error instanceof sdk.PermissionDeniedError && error.code === "model_not_allowed";
      await assert.rejects(narrow.audio.transcriptions.create({ model: "whisper-1", file }), refused);
      await assert.rejects(narrow.images.edit({ model: "gpt-image-1.5", image: file, prompt: "A hat." }), refused);
      await assert.rejects(narrow.audio.speech.create({ model: "tts-1", voice: "alloy", input: "Hello." }), refused);
    });

    test("models", async () => {
      const ids = [];
      for await (const one of client.models.list()) ids.push(one.id);
      assert.ok(ids.length > 0);
    });

    const ask = (client, model) => client.chat.completions.create({ model, messages });

    test("provider's errors", async () => {
      await assert.rejects(ask(client, "sandbox-429"), sdk.RateLimitError);
      await assert.rejects(ask(client, "sandbox-500"), sdk.InternalServerError);
    });

    test("wrong key", async () => {
      await assert.rejects(ask(connect("ch_wrong_sk_key"), model), (error) => {
        assert.ok(error instanceof sdk.AuthenticationError);
        return error.code === "invalid_api_key";
      });
    });

    test("model not allowed", async () => {
      await assert.rejects(ask(connect(key("openai-narrow"), 2), model), (error) => {
        assert.ok(error instanceof sdk.PermissionDeniedError);
        return error.message.includes(model);
      });
    });

    test("cut stream", async () => {
      await assert.rejects(async () => {
        for await (const _ of await client.chat.completions.create({ model: "sandbox-cut", messages, stream: true }));
      });
    });

    test("abort", async () => {
      const stream = await client.chat.completions.create({ model: "sandbox-slow-200ms", messages, stream: true });
      for await (const _ of stream) break;
      assert.ok((await client.chat.completions.create({ model, messages })).choices);
    });

    test("many at once", async () => {
      const all = await Promise.all(Array.from({ length: 20 }, () => client.chat.completions.create({ model, messages })));
      assert.ok(all.every((done) => done.choices[0].message.content));
    });
  });
});
