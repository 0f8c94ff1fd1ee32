/**
 * Each wall by itself. For every way in: with all walls that cover it down, the secret comes out (so the attack is a
 * real one); with any single one of them standing, it does not.
 */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { Outcome } from "../../src/job.js";
import type { Openings, Walls } from "../../src/workers/walls.js";
import { plantSecrets } from "../hostile/secrets.js";
import type { PlantedSecrets } from "../hostile/secrets.js";
import { built, failed, startPool } from "./support.js";

let secrets: PlantedSecrets;
beforeAll(async () => void (secrets = await plantSecrets()));
afterAll(() => secrets[Symbol.asyncDispose]());

type Attack = string | { files: Record<string, string>; entry: string };
async function attack(source: Attack, down: (keyof Walls)[], openings?: Openings): Promise<Outcome> {
  await using shared = await startPool({ down, ...(openings && { openings }) });
  return await shared.build(source, { sourcemap: true });
}
const holds = (outcome: Outcome, word: string): boolean => JSON.stringify(outcome).includes(word);

const ways: { name: string; source: () => Attack; walls: (keyof Walls)[] }[] = [
  { name: "an import by an absolute path", source: () => `import x from "${secrets.folder}/canary.js"; x()`, walls: ["resolve", "load", "openFiles"] },
  { name: "a glob", source: () => `for (const n of x) import(\`${"../".repeat(20)}${secrets.folder.slice(1)}/canary-\${n}.js\`).then(y)`, walls: ["load", "openFiles"] },
  { name: "a source-map comment, by the names in the map", source: () => `x()\n//# sourceMappingURL=file://${secrets.folder}/canary.map`, walls: ["disarm", "openFiles"] },
  { name: "a source-map comment in a style sheet, quoted in a warning", source: () => ({ files: { "a.ts": 'import "./a.css"; x()', "a.css": `a{b:c}\n/*# sourceMappingURL=file://${secrets.folder}/canary.map */` }, entry: "a.ts" }), walls: ["disarm", "openFiles"] },
];

describe.each(ways.slice(0, 3))("$name", ({ source, walls }) => {
  test("brings the secret in when nothing stands in its way", async () => {
    expect(holds(await attack(source(), walls), secrets.secret)).toBe(true);
  });
  test.each(walls)("is stopped by %s alone", async (standing) => {
    expect(holds(await attack(source(), walls.filter((one) => one !== standing)), secrets.secret)).toBe(false);
  });
});

test("a source-map comment of a style sheet brings nothing in with any wall standing", async () => {
  const { source, walls } = ways[3]!;
  for (const standing of walls) expect(holds(await attack(source(), walls.filter((one) => one !== standing)), secrets.secret)).toBe(false);
});

test("the environment has nothing to tell, even to a build that reads it", async () => {
  const code = 'import x from "/proc/self/environ" with { type: "text" }; console.log(x)';
  const down = ["resolve", "load", "openFiles"] as (keyof Walls)[];
  expect(holds(await attack(code, down, { environment: { HOSTILE_SECRET: secrets.secret } }), secrets.secret)).toBe(true);
  expect(process.env["HOSTILE_SECRET"]).toBe(secrets.secret);
  const empty = await attack(code, down);
  expect(holds(empty, "GOMAXPROCS")).toBe(true);
  expect(holds(empty, secrets.secret)).toBe(false);
});

test("the folder that a worker stands in has nothing to find", async () => {
  const code = 'import x from "/proc/self/cwd/canary.js"; x()';
  const down = ["resolve", "load", "openFiles"] as (keyof Walls)[];
  expect(holds(await attack(code, down, { workingFolder: secrets.folder }), secrets.secret)).toBe(true);
  expect(failed(await attack(code, down)).failure.code).toBe("build_failed");
});

test("a signal to the group of our own reaches no worker that leads its own", async () => {
  const groupOfWorker = async (down: (keyof Walls)[]) => {
    await using shared = await startPool({ down });
    const { pid } = shared.pool.stats().workers[0]!;
    return { pid, group: Number(readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]!.split(" ")[2]) };
  };
  const own = await groupOfWorker([]);
  expect(own.group).toBe(own.pid);
  const shared = await groupOfWorker(["ownGroup"]);
  expect(shared.group).not.toBe(shared.pid);
});

/** Doubles a text of 16 characters 24 times: 256 MB of it at the end, and more on the way. */
const hungry = `enum E{a0="0123456789abcdef",${Array.from({ length: 24 }, (_, at) => `a${at + 1}=a${at}+a${at}`).join(",")}} console.log(E.a24)`;

test("memory has a bound of the kernel's, without which the same build goes over it", async () => {
  await using walled = await startPool({ memoryMb: 256 });
  expect(failed(await walled.build(hungry)).failure.code).toBe("out_of_memory");
  await using open = await startPool({ memoryMb: 256, down: ["memory"] });
  const controller = new AbortController();
  const run = open.build(hungry, {}, controller.signal).catch(() => {});
  const { pid } = open.pool.stats().workers.find((one) => one.state === "busy")!;
  await vi.waitFor(() => expect(Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1])).toBeGreaterThan(300 * 1024), { timeout: 20_000, interval: 2 });
  controller.abort(new Error("seen enough"));
  await run;
});

/** Each of three thousand warnings quotes a line of 18 KB: 54 MB of messages for 18 KB of code. */
const talkative = "x==-0;".repeat(3000);

test("what a worker says at once is bounded before it is read", async () => {
  await using walled = await startPool();
  expect(failed(await walled.build(talkative)).failure.code).toBe("output_too_large");
  await using open = await startPool({ down: ["packets"] });
  expect(built(await open.build(talkative)).warnings).toHaveLength(20);
});

test("what is handed on is bounded however little the worker said at once", async () => {
  const code = `export default "${"x".repeat(20_000)}"`;
  await using walled = await startPool({ outputBytesMax: 10_000 });
  expect(failed(await walled.build(code)).failure.code).toBe("output_too_large");
  await using open = await startPool({ outputBytesMax: 10_000, down: ["outputs"] });
  expect(built(await open.build(code)).result.length).toBeGreaterThan(20_000);
});
