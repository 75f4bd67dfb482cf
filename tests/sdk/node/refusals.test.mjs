// SPDX-License-Identifier: Apache-2.0
// What a refusal is to the providers' own Node SDKs, left to their defaults: the exception, and how often they try.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as anthropic0 from "anthropic0";
import * as anthropic1 from "anthropic1";
import * as genai2 from "genai2";
import * as genai3 from "genai3";
import * as openai6 from "openai6";
import * as openai7 from "openai7";

import { everyWay, key } from "./gateway.mjs";

const messages = [{ role: "user", content: "Say hello." }];
// The sandbox streams this many events of a token each, slowly enough to be cut between two.
const long = { "x-sandbox": "drip-5ms, events-200" };
const spent = "Budget limit exceeded for this key. Daily limit: $0.00, current spend: $0.00.";
const paced = "Rate limit exceeded for this key: 40 requests per minute.";
const cut = /Budget limit reached while the answer was being streamed/;

// Requests that really went out; the SDKs take `fetch` from here when they are made or when they ask.
let attempts = 0;
const plainFetch = globalThis.fetch;
globalThis.fetch = (...all) => {
  attempts++;
  return plainFetch(...all);
};

async function caught(work) {
  try {
    await work();
  } catch (error) {
    return error;
  }
  return assert.fail("nothing was raised");
}

async function untilLimited(ask) {
  for (let i = 0; i < 60; i++) await ask();
}

// `connect(kind, options)` gives { ask, stream }; `said(error)` the text of the refusal.
function define(name, dialect, connect, said, kinds) {
  describe(name, { timeout: 60_000 }, () => {
    test("model", async () => {
      attempts = 0;
      const error = await caught(connect(`${dialect}-narrow`).ask);
      assert.ok(error instanceof kinds.notAllowed);
      assert.equal(error.status, 403);
      assert.match(error.message, /is not allowed for this key/);
      assert.equal(attempts, 1);
    });

    test("budget", async () => {
      attempts = 0;
      const error = await caught(connect(`${dialect}-spent`).ask);
      assert.ok(error instanceof kinds.limited);
      assert.equal(error.status, 429);
      assert.ok(said(error).startsWith(spent), said(error));
      kinds.isBudget(error);
      assert.equal(attempts, 1, "nobody hammers a budget that is spent");
    });

    test("budget with another status", async () => {
      attempts = 0;
      const error = await caught(connect(`${dialect}-spent-402`).ask);
      assert.ok(error instanceof kinds.payment);
      assert.equal(error.status, 402);
      assert.equal(attempts, 1);
    });

    test("rate", async () => {
      const patient = connect(`${dialect}-paced`);
      for (let i = 0; i < 5; i++) {
        const error = await caught(() => untilLimited(connect(`${dialect}-paced`, { maxRetries: 0 }).ask));
        assert.ok(error instanceof kinds.limited);
        assert.equal(error.status, 429);
        assert.equal(said(error), paced);
        if (!kinds.retries) return;
        attempts = 0;
        const start = Date.now();
        assert.ok(await patient.ask());
        assert.ok(attempts <= 2 && Date.now() - start < 4000, "it comes again when it was told to");
        if (attempts === 2) return; // else the rate allowed one more just then
      }
      assert.fail("no attempt was refused");
    });

    test("cut stream", async () => {
      const error = await caught(connect(`${dialect}-cut`, { maxRetries: 0 }).stream);
      assert.ok(error instanceof kinds.cut);
      assert.match(error.message, cut);
    });
  });
}

async function readAll(stream) {
  for await (const _ of await stream);
}

everyWay({ openai6, openai7 }, ["/v1"], (name, sdk, baseURL) => {
  const model = "gpt-4o-mini";
  const connect = (kind, options = {}) => {
    const client = new sdk.OpenAI({ baseURL, apiKey: key(kind), timeout: 20_000, ...options });
    return {
      ask: () => client.chat.completions.create({ model, messages }),
      stream: () => readAll(client.chat.completions.create({ model, messages, stream: true }, { headers: long })),
    };
  };
  define(name, "openai", connect, (error) => error.error.message, {
    notAllowed: sdk.PermissionDeniedError, limited: sdk.RateLimitError, payment: sdk.APIError, cut: sdk.APIError, retries: true,
    isBudget: (error) => assert.equal(error.code, "insufficient_quota"),
  });
});

everyWay({ anthropic0, anthropic1 }, [""], (name, sdk, baseURL) => {
  const model = "claude-haiku-4-5";
  const connect = (kind, options = {}) => {
    const client = new sdk.Anthropic({ baseURL, apiKey: key(kind), timeout: 20_000, ...options });
    return {
      ask: () => client.messages.create({ model, max_tokens: 100, messages }),
      stream: () => readAll(client.messages.create({ model, max_tokens: 1000, messages, stream: true }, { headers: long })),
    };
  };
  define(name, "anthropic", connect, (error) => error.error.error.message, {
    notAllowed: sdk.PermissionDeniedError, limited: sdk.RateLimitError, payment: sdk.APIError, cut: sdk.APIError, retries: true,
    isBudget: (error) => {
      assert.equal(error.error.error.details.error_code, "enforced_spend_limit_reached");
      if (sdk.EnforcedSpendLimitReachedError) assert.ok(error instanceof sdk.EnforcedSpendLimitReachedError);
    },
  });
});

everyWay({ genai2, genai3 }, [""], (name, sdk, baseUrl) => {
  const model = "gemini-2.5-flash";
  const contents = "Say hello.";
  const connect = (kind) => {
    const client = new sdk.GoogleGenAI({ apiKey: key(kind), httpOptions: { baseUrl, timeout: 20_000 } });
    return {
      ask: () => client.models.generateContent({ model, contents }),
      stream: () => readAll(client.models.generateContentStream({ model, contents, config: { httpOptions: { headers: long } } })),
    };
  };
  const said = (error) => JSON.parse(error.message).error.message;
  define(name, "gemini", connect, said, {
    notAllowed: sdk.ApiError, limited: sdk.ApiError, payment: sdk.ApiError, cut: sdk.ApiError, retries: false,
    isBudget: (error) => assert.equal(JSON.parse(error.message).error.status, "RESOURCE_EXHAUSTED"),
  });
});
