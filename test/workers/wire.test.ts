/**
 * esbuild's service protocol is promised by nobody, so this holds ours to the installed esbuild: the version is the one
 * in package.json, and the public API and our own way answer the same for code of every kind.
 */
import { readFileSync } from "node:fs";
import { build as publicBuild } from "esbuild";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { engineVersion, openChannel } from "../../src/workers/channel.js";
import { decodePacket, encodePacket, splitPackets } from "../../src/workers/wire.js";
import type { Value } from "../../src/workers/wire.js";
import { built, failed, startPool } from "./support.js";
import type { TestPool } from "./support.js";

const value: fc.Arbitrary<Value> = fc.letrec<{ value: Value }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.constant(null), fc.boolean(), fc.integer(), fc.string({ unit: "grapheme" }), fc.uint8Array(),
    fc.uint8Array({ minLength: 17_000, maxLength: 17_000 }), fc.array(tie("value"), { maxLength: 5 }),
    fc.dictionary(fc.stringMatching(/^[a-z_]{1,12}$/).filter((key) => key !== "lineText" && key !== "notes"), tie("value"), { maxKeys: 5 }),
  ),
})).value;
const joined = (chunks: Uint8Array[]) => Buffer.concat(chunks);

describe("packets", () => {
  test("read as they were written", () => {
    fc.assert(
      fc.property(value, fc.nat(2 ** 30), fc.boolean(), (given, id, isRequest) => {
        const bytes = joined(encodePacket({ id, isRequest, value: given }));
        expect(bytes.readUInt32LE()).toBe(bytes.length - 4);
        expect(decodePacket(bytes.subarray(4))).toEqual({ id, isRequest, value: JSON.parse(JSON.stringify(given, plain), revive) });
      }),
      { numRuns: 300, seed: 1 },
    );
  });

  test("come whole out of a stream that is cut anywhere", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 }), fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 30 }), (packets, cuts) => {
        const length = (bytes: Uint8Array) => {
          const head = Buffer.alloc(4);
          head.writeUInt32LE(bytes.length);
          return head;
        };
        let stream = Buffer.concat(packets.flatMap((one) => [length(one), one]));
        const heard: string[] = [];
        const feed = splitPackets(100, { onPacket: (bytes) => heard.push(bytes.toString("hex")), onTooLarge: () => heard.push("too large") });
        for (let at = 0; stream.length > 0; at++) {
          const size = cuts[at % cuts.length] ?? 1;
          feed(Buffer.from(stream.subarray(0, size)));
          stream = stream.subarray(size);
        }
        expect(heard).toEqual(packets.map((one) => Buffer.from(one).toString("hex")));
      }),
      { numRuns: 300, seed: 2 },
    );
  });

  test("that are too large are told by their first four bytes, and nothing after them is read", () => {
    const said: unknown[] = [];
    const feed = splitPackets(1000, { onPacket: () => said.push("packet"), onTooLarge: (bytes) => said.push(bytes) });
    feed(Buffer.from([0xff, 0xff]));
    feed(Buffer.from([0xff, 0x7f, 1, 2, 3]));
    feed(Buffer.from([1, 0, 0, 0, 0]));
    expect(said).toEqual([0x7fffffff]);
  });

  test("that are malformed are refused, whatever their bytes", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        decodePacket(Buffer.from(bytes));
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }), { numRuns: 2000, seed: 3 });
    // Counts that lie about four billion items cost nothing.
    expect(() => decodePacket(Buffer.from([0, 0, 0, 0, 5, 255, 255, 255, 255]))).toThrow("cut off");
    expect(() => decodePacket(Buffer.from([0, 0, 0, 0, 9]))).toThrow("unknown kind");
    expect(() => decodePacket(Buffer.from([0, 0, 0, 0, 0, 0]))).toThrow("goes on");
  });

  test("have keys of any name, and the quoted lines are left out", () => {
    const bytes = joined(encodePacket({ id: 1, isRequest: false, value: { lineText: "x".repeat(1000), text: "y" } })).subarray(4);
    expect(decodePacket(bytes).value).toEqual({ lineText: null, text: "y" });
    const hostile = joined(encodePacket({ id: 1, isRequest: false, value: JSON.parse('{"__proto__": {"a": 1}, "constructor": 2}') as Value })).subarray(4);
    expect(Object.keys(decodePacket(hostile).value as object)).toEqual(["__proto__", "constructor"]);
    expect(({} as { a?: number }).a).toBeUndefined();
  });
});

test("a service of another version, or one that talks nonsense, is not spoken with", () => {
  const packet = (text: string) => Buffer.concat([Buffer.from([text.length, 0, 0, 0]), Buffer.from(text)]);
  const told = (...chunks: Buffer[]) => {
    const why: string[] = [];
    const channel = openChannel({ bytesMax: 100, write: () => {}, onBroken: (one) => why.push(one) });
    chunks.forEach((chunk) => channel.read(chunk));
    return why;
  };
  expect(told(packet(engineVersion))).toEqual([]);
  expect(told(packet("0.28.3"))).toEqual(["other_version"]);
  expect(told(packet(engineVersion), packet("nonsense"))).toEqual(["malformed"]);
  expect(told(packet(engineVersion), Buffer.from([255, 255, 255, 255]))).toEqual(["too_large"]);
  // An answer to nothing that was asked.
  expect(told(packet(engineVersion), joined(encodePacket({ id: 9, isRequest: false, value: {} })))).toEqual(["malformed"]);
});

test("the version is the one that package.json pins and that is installed", () => {
  const read = (file: string) => JSON.parse(readFileSync(new URL(`../../${file}`, import.meta.url), "utf8")) as { version: string; dependencies?: Record<string, string> };
  expect(read("package.json").dependencies?.["esbuild"]).toBe(engineVersion);
  expect(read("node_modules/esbuild/package.json").version).toBe(engineVersion);
});

describe("the public API and our own way", () => {
  let shared: TestPool;
  beforeAll(async () => void (shared = await startPool()));
  afterAll(() => shared[Symbol.asyncDispose]());
  const viaApi = (contents: string, minify: boolean) =>
    publicBuild({
      stdin: { contents, loader: "tsx", sourcefile: "message.tsx" }, bundle: true, write: false, format: "esm", platform: "browser", target: "es2022", charset: "utf8", legalComments: "none", jsx: "automatic",
      tsconfigRaw: "{}", logLevel: "silent", outfile: "/out.js", absWorkingDir: "/", minify, packages: "external", external: ["react"], plugins: [{ name: "names", setup: (setup) => void setup.onResolve({ filter: /^[a-z]/ }, ({ path }) => ({ path, external: true })) }],
    }).then(
      ({ outputFiles, warnings }) => ({ text: outputFiles[0]?.text, warnings: warnings.map(({ text, location }) => [text, location?.line]) }),
      (error: { errors: { text: string; location: { line: number } | null }[] }) => ({ errors: error.errors.map(({ text, location }) => [text, location?.line]) }),
    );

  test.each([
    "export const a: number = 1", "import { useState } from 'react'; export default () => <b>{useState(0)[0]}</b>", "const x = 1; x = 2; if (x === NaN) y()", "enum A { B, C = 5 } console.log(A)",
    "export class A { @dec m() {} #p = 1; static { this.x = 1 } }", "let = 5 5", "a b c", "const a = 1; const a = 2", "export const s = '\u00e9\u{1d11e}\u2028'", "", "/* only a comment */", "await fetch('x')", "import('lodash').then(x => x)",
  ])("answer the same for %j", async (code) => {
    for (const minify of [false, true]) {
      const expected = await viaApi(code, minify);
      const outcome = await shared.build(code, { minify });
      if ("errors" in expected) expect(failed(outcome).failure.diagnostics.map(({ text, line }) => [text, line])).toEqual(expected.errors);
      else expect({ text: built(outcome).result, warnings: built(outcome).warnings.map(({ text, line }) => [text, line]) }).toEqual(expected);
    }
  });
});

const plain = (_: string, one: unknown): unknown => (one instanceof Uint8Array ? { bytes: Buffer.from(one).toString("hex") } : one);
const revive = (_: string, one: unknown): unknown =>
  one && typeof one === "object" && "bytes" in one && typeof (one as { bytes: unknown }).bytes === "string" && Object.keys(one).length === 1 ? Buffer.from((one as { bytes: string }).bytes, "hex") : one;
