/** The examples, each run as its head says, and what they print. */
import { spawn } from "node:child_process";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { controlledQueue, listening, server } from "../http/support.js";
import { describePostgres, freshDatabase } from "../support/postgres.js";
import { quickWasm } from "../support/quick-wasm.js";
import { buildService } from "../support/service.js";
import { tempFolder } from "../support/temp.js";

const project = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const example = (name: string) => path.join(project, "examples", `${name}.ts`);

let folder: Awaited<ReturnType<typeof tempFolder>>;
beforeAll(async () => {
  buildService();
  folder = await tempFolder();
  // The package by its name, as its users have it.
  await mkdir(path.join(folder.path, "node_modules", "@electric-sql"), { recursive: true });
  await symlink(project, path.join(folder.path, "node_modules", "buildlane"));
  for (const name of ["drizzle-orm", "@electric-sql/pglite"]) await symlink(path.join(project, "node_modules", name), path.join(folder.path, "node_modules", name));
}, 60_000);
afterAll(() => folder[Symbol.asyncDispose]());

async function run(name: string, env: Record<string, string> = {}): Promise<{ code: number | null; out: string; err: string }> {
  const { outputFiles } = await build({ entryPoints: [example(name)], bundle: false, write: false, format: "esm", target: "node20" });
  const file = path.join(folder.path, `${name}.mjs`);
  await writeFile(file, outputFiles[0]?.contents ?? "");
  const child = spawn(process.execPath, [...quickWasm, file], { cwd: folder.path, env: { PATH: process.env["PATH"] ?? "", ...env } });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk: Buffer) => void (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => void (err += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, out, err };
}

describe("the examples", () => {
  it("own run: any kind of job gets order, retries and an end", async () => {
    expect(await run("own-run")).toEqual({
      code: 0, err: "",
      out: 'plain: {"summary":"13 characters","attempt":1}\nflaky: {"summary":"13 characters","attempt":2}\nwrong: no such thing\nlast: {"summary":"12 characters","attempt":1}\n',
    });
  });

  it("transactional enqueue: message and job, both or neither", async () => {
    expect(await run("transactional-enqueue")).toEqual({ code: 0, err: "", out: "m1 again: neither message nor job\n1: built m1\n2: built m2\n" });
  }, 120_000);

  it("browser client: bundled for a browser without anything of Node's, it submits, follows and shows", async () => {
    const { outputFiles, metafile } = await build({ entryPoints: [example("browser-client")], absWorkingDir: folder.path, bundle: true, write: false, metafile: true, format: "esm", platform: "browser", alias: { "buildlane/client": path.join(project, "dist/src/client/index.js") }, tsconfigRaw: {} });
    const inputs = Object.keys(metafile.inputs).map((name) => path.basename(path.dirname(name)));
    expect(new Set(inputs)).toEqual(new Set(["examples", "client"]));
    expect(outputFiles[0]?.contents.length).toBeLessThan(20_000);
    const page = (await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0]?.contents ?? "").toString("base64")}`)) as typeof import("../../examples/browser-client.js");
    const { queue } = await controlledQueue();
    const app = await server(queue);
    try {
      const url = await listening(app);
      const shown: string[] = [];
      const show = (line: string) => void shown.push(line);
      expect(await page.build({ url, chatId: "c1", show }, "1")).toBe("built 1");
      expect(shown.filter((type) => type !== "job.moved")).toEqual(["job.accepted", "job.started", "job.completed"]);
      expect(await page.build({ url, chatId: "c1", show }, "fail")).toBeNull();
      expect(shown.at(-1)).toBe("no: fail");
    } finally {
      await app.close();
      await queue.stop();
    }
    const lost: string[] = [];
    expect(await page.build({ url: "http://127.0.0.1:1", chatId: "c1", show: (line) => void lost.push(line) }, "1")).toBeNull();
    expect(lost[0]).toMatch(/^unreachable: /);
  });
});

describePostgres("the example of two nodes", () => {
  it("keeps every chat's order over both", async () => {
    await using database = await freshDatabase();
    const { code, out, err } = await run("two-nodes", { DATABASE_URL: database.url });
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toBe("a 1 2 3 4 5\nb 1 2 3 4 5\nc 1 2 3 4 5\nd 1 2 3 4 5\n2 nodes worked\n");
  });
});
