// SPDX-License-Identifier: Apache-2.0
// Where the gateway stands and which keys it gave out; ../gateway.py starts it and sets these variables.
import { File } from "node:buffer";

// Debian's node 18 has it there alone; the SDKs' uploads ask for the global one that node 20 brought.
globalThis.File ??= File;

const need = (name) => {
  if (!process.env[name]) throw new Error(`${name} is not set: run these tests through tests/sdk/gateway.py`);
  return process.env[name];
};

export const transports = { plain: need("GATEWAY_PLAIN"), tls: need("GATEWAY_TLS") };
export const key = (name) => need(`GATEWAY_KEY_${name.toUpperCase().replaceAll("-", "_")}`);
// One red pixel.
export const png =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
export const place = { type: "object", properties: { place: { type: "string" } }, required: ["place"] };

// Runs `define` once for every SDK version, transport and base path.
export function everyWay(versions, paths, define) {
  for (const [version, sdk] of Object.entries(versions))
    for (const [transport, url] of Object.entries(transports))
      for (const path of paths) define(`${version} ${transport} ${path || "/"}`, sdk, url + path);
}
