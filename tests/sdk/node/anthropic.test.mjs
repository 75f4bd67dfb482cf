// SPDX-License-Identifier: Apache-2.0
// Anthropic's own Node SDK, which sends the key in x-api-key (0.x) and as a bearer (1.x).
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as anthropic0 from "anthropic0";
import * as anthropic1 from "anthropic1";

import { everyWay, key, place, png } from "./gateway.mjs";

const ask = { model: "claude-haiku-4-5", max_tokens: 100, messages: [{ role: "user", content: "Say hello." }] };
const tools = [{ name: "weather", description: "The weather of a place.", input_schema: place }];

everyWay({ anthropic0, anthropic1 }, ["", "/anthropic"], (name, sdk, baseURL) => {
  const connect = (apiKey = key("anthropic"), maxRetries = 0) => new sdk.Anthropic({ baseURL, apiKey, maxRetries, timeout: 20_000 });
  const client = connect();

  describe(name, { timeout: 60_000 }, () => {
    test("messages", async () => {
      const done = await client.messages.create(ask);
      assert.ok(done.content[0].text && done.usage.input_tokens > 0 && done.usage.output_tokens > 0);
    });

    test("stream", async () => {
      const stream = client.messages.stream(ask);
      let text = "";
      stream.on("text", (delta) => (text += delta));
      const final = await stream.finalMessage();
      assert.equal(final.content[0].text, text);
      assert.ok(text && final.usage.output_tokens > 0);
    });

    test("raw stream", async () => {
      const types = [];
      for await (const event of await client.messages.create({ ...ask, stream: true })) types.push(event.type);
      assert.equal(types[0], "message_start");
      assert.equal(types.at(-1), "message_stop");
    });

    test("tools", async () => {
      assert.ok((await client.messages.create({ ...ask, tools })).content.length > 0);
      const final = await client.messages.stream({ ...ask, tools }).finalMessage();
      assert.ok(final.content.length > 0);
    });

    test("vision", async () => {
      const image = { type: "image", source: { type: "base64", media_type: "image/png", data: png } };
      const content = [image, { type: "text", text: "What is this?" }];
      assert.ok((await client.messages.create({ ...ask, messages: [{ role: "user", content }] })).content[0].text);
    });

    test("count tokens", async () => {
      assert.ok((await client.messages.countTokens({ model: ask.model, messages: ask.messages })).input_tokens > 0);
    });

    test("models", async () => {
      const ids = [];
      for await (const one of client.models.list()) ids.push(one.id);
      assert.ok(ids.length > 0);
    });

    test("provider's errors", async () => {
      await assert.rejects(client.messages.create({ ...ask, model: "sandbox-429" }), sdk.RateLimitError);
      await assert.rejects(client.messages.create({ ...ask, model: "sandbox-500" }), sdk.InternalServerError);
    });

    test("wrong key", async () => {
      await assert.rejects(connect("ch_wrong_sk_key").messages.create(ask), (error) => {
        assert.ok(error instanceof sdk.AuthenticationError);
        return error.error.error.type === "authentication_error";
      });
    });

    test("model not allowed", async () => {
      await assert.rejects(connect(key("anthropic-narrow"), 2).messages.create(ask), (error) => {
        assert.ok(error instanceof sdk.PermissionDeniedError);
        return error.error.error.type === "permission_error" && error.message.includes(ask.model);
      });
    });

    test("auth token", async () => {
      const bearer = new sdk.Anthropic({ baseURL, authToken: key("anthropic"), apiKey: null, maxRetries: 0 });
      assert.ok((await bearer.messages.create(ask)).content[0].text);
    });

    test("abort", async () => {
      const stream = await client.messages.create({ ...ask, model: "sandbox-slow-200ms", stream: true });
      for await (const _ of stream) break;
      assert.ok((await client.messages.create(ask)).content);
    });
  });
});
