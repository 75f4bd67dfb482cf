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
