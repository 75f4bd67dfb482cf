// SPDX-License-Identifier: Apache-2.0
// Google's own Node SDK: 2.x asks /v1beta, 3.x asks /v1.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as genai2 from "genai2";
import * as genai3 from "genai3";

import { everyWay, key, place, png } from "./gateway.mjs";

const model = "gemini-2.5-flash";
const contents = "Say hello.";

everyWay({ genai2, genai3 }, ["", "/gemini"], (name, sdk, baseUrl) => {
  const connect = (apiKey = key("gemini")) => new sdk.GoogleGenAI({ apiKey, httpOptions: { baseUrl, timeout: 20_000 } });
  const client = connect();

  describe(name, { timeout: 60_000 }, () => {
    test("generate", async () => {
      const done = await client.models.generateContent({ model, contents });
      assert.ok(done.text && done.usageMetadata.totalTokenCount > 0);
    });

    test("stream", async () => {
      let text = "";
      let last;
      for await (last of await client.models.generateContentStream({ model, contents })) text += last.text ?? "";
      assert.ok(text && last.usageMetadata.totalTokenCount > 0);
    });

    test("tools", async () => {
      const functionDeclarations = [{ name: "weather", description: "The weather of a place.", parametersJsonSchema: place }];
      const done = await client.models.generateContent({ model, contents, config: { tools: [{ functionDeclarations }] } });
      assert.ok(done.candidates[0].content.parts.length > 0);
    });

    test("vision", async () => {
      const parts = [{ inlineData: { mimeType: "image/png", data: png } }, { text: "What is this?" }];
      assert.ok((await client.models.generateContent({ model, contents: [{ role: "user", parts }] })).text);
    });

    test("embeddings", async () => {
      for (const contents of ["one", ["one", "two"]]) {
        const done = await client.models.embedContent({ model: "gemini-embedding-001", contents });
        assert.equal(done.embeddings.length, [contents].flat().length);
        assert.equal(typeof done.embeddings[0].values[0], "number");
      }
    });

    test("count tokens", async () => {
      assert.ok((await client.models.countTokens({ model, contents })).totalTokens > 0);
    });

    test("models", async () => {
      const names = [];
      for await (const one of await client.models.list()) names.push(one.name);
      assert.ok(names.length > 0);
    });

    test("chat", async () => {
      const chat = client.chats.create({ model });
      assert.ok((await chat.sendMessage({ message: "One." })).text);
      assert.ok((await chat.sendMessage({ message: "Two." })).text);
    });

    const status = (wanted) => (error) => {
      assert.ok(error instanceof sdk.ApiError, error.stack);
      assert.equal(error.status, wanted);
      return true;
    };

    test("provider's errors", async () => {
      await assert.rejects(client.models.generateContent({ model: "sandbox-429", contents }), status(429));
      await assert.rejects(client.models.generateContent({ model: "sandbox-500", contents }), status(500));
    });

    test("wrong key", async () => {
      await assert.rejects(connect("ch_wrong_sk_key").models.generateContent({ model, contents }), status(401));
    });

    test("model not allowed", async () => {
      await assert.rejects(connect(key("gemini-narrow")).models.generateContent({ model, contents }), status(403));
    });

    test("abort", async () => {
      const controller = new AbortController();
      const config = { abortSignal: controller.signal };
      await assert.rejects(async () => {
        for await (const _ of await client.models.generateContentStream({ model: "sandbox-slow-200ms", contents, config }))
          controller.abort();
      });
      assert.ok((await client.models.generateContent({ model, contents })).text);
    });
  });
});
