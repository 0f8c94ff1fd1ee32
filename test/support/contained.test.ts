/** What `npm run mutate` starts does not outlive it, however it ends. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import { isAlive } from "./postgres-cluster.js";

const script = pathToFileURL(path.resolve(import.meta.dirname, "../../scripts/contained.mjs")).href;
/** Starts a command that starts another one, and waits for ever; tells the folder and both processes. */
const held = `
  const { contain } = await import(${JSON.stringify(script)});
  const scratch = contain("bl-test-");
  process.on("exit", () => scratch.dispose());
  for (const signal of ["SIGTERM"]) process.on(signal, () => process.exit(1));
  console.log(scratch.folder);
  await scratch.run([process.execPath, "-e", ${JSON.stringify(`
    const { pid } = require("node:child_process").spawn("sleep", ["600"], { stdio: "ignore" });
    require("node:fs").writeFileSync("pids", process.pid + " " + pid);
    setInterval(() => {}, 1000);
  `)}], { limitMs: Number(process.argv[1]) });
  console.log("ended");
  // Until it is told to end, or nobody could see what it leaves before it does.
  setInterval(() => {}, 1000);
`;

async function start(limitMs: number) {
  const child = spawn(process.execPath, ["--input-type=module", "-e", held, String(limitMs)], { stdio: ["ignore", "pipe", "inherit"] });
  const exited = new Promise((resolve) => child.once("exit", resolve));
  let text = "";
  const lines = async (count: number): Promise<string[]> => {
    while (text.split("\n").length <= count) await new Promise((resolve) => child.stdout.once("data", (data: Buffer) => resolve((text += data.toString()))));
    return text.split("\n");
  };
  const folder = (await lines(1))[0] as string;
  return { child, exited, folder, ended: () => lines(2) };
}
const until = async (done: () => boolean | Promise<boolean>) => {
  while (!(await done())) await new Promise((resolve) => setTimeout(resolve, 20));
};
async function pidsOf(folder: string): Promise<number[]> {
  const { readFile } = await import("node:fs/promises");
  const read = () => readFile(path.join(folder, "pids"), "utf8").catch(() => "");
  await until(async () => /\d+ \d+/.test(await read()));
  return (await read()).split(" ").map(Number);
}

it.each(["SIGKILL", "SIGTERM"] as const)("its processes and its folder are gone when it ends by %s", async (signal) => {
  const { child, exited, folder } = await start(600_000);
  const pids = await pidsOf(folder);
  expect(pids.map(isAlive)).toEqual([true, true]);
  child.kill(signal);
  await exited;
  await until(() => !pids.some(isAlive) && !existsSync(folder));
});

it("a command that does not end is ended with all that it started, and the folder stays for the next", async () => {
  const { child, exited, folder, ended } = await start(1000);
  const pids = await pidsOf(folder);
  expect((await ended())[1]).toBe("ended");
  await until(() => !pids.some(isAlive));
  expect(existsSync(folder)).toBe(true);
  child.kill("SIGTERM");
  await exited;
  expect(existsSync(folder)).toBe(false);
});
