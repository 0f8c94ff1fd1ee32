/** The pages: what they link to is there, what they show as TypeScript compiles, and what they run prints what it promises. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Command } from "commander";
import { transform } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fencesOf, pages, project } from "../support/fences.js";
import type { Fence } from "../support/fences.js";
import { quickWasm } from "../support/quick-wasm.js";
import { buildService } from "../support/service.js";
import { tempFolder } from "../support/temp.js";

const all = await pages();
const fences = (await Promise.all(all.map(fencesOf))).flat();
const snippets = fences.filter(({ language }) => language === "ts");

/** What a snippet that is part of something finds there. */
const givens: Record<string, string> = {
  app: 'const app: import("fastify").FastifyInstance',
  queue: 'const queue: import("buildlane").BuildQueue',
  db: 'const db: import("drizzle-orm/postgres-js").PostgresJsDatabase & { $client: import("postgres").Sql }',
  messages: 'const messages: import("drizzle-orm/pg-core").PgTable',
  ...Object.fromEntries(["secret", "id", "timestamp", "body", "signature", "chatId", "messageId", "code"].map((name) => [name, `const ${name}: string`])),
  message: "const message: Record<string, never>",
};

/** What each snippet that is run prints. */
const prints: Record<string, RegExp> = {
  "README.md module": /^\/\/ message\.tsx\nconsole\.log\("hi"\);\n+$/,
  "README.md own-run": /^hello \(attempt 1\)\n$/,
  "README.md testing": /^built later\n$/,
  "docs/embedding.md fastify": /^200 completed\n$/,
  "docs/embedding.md module": /^1 \/\/ message\.tsx\n[\s\S]*export \{[\s\S]*\n2 build_failed 1\nbatch_too_large 422 false\n$/,
  "docs/embedding.md events": /^1 job\.accepted\n2 job\.started\n3 job\.completed\n$/,
  "docs/embedding.md own-run": /^completed \{"chat":"c1","attempt":2\}\nfailed no use\n$/,
  "docs/embedding.md tenants": /^200 404 401\n0\n$/,
  "docs/embedding.md several": /^1 build\n1 image\n$/,
  "docs/embedding.md testing": /^completed 2 true\n$/,
  "docs/embedding.md property": /^kept in all of 100 worlds\n$/,
  "docs/embedding.md reports": /^completed null\n1 1\n$/,
};
const nameOf = ({ page, run }: Fence): string => `${page} ${run}`;

let home: Awaited<ReturnType<typeof tempFolder>>;
beforeAll(async () => {
  buildService();
  home = await tempFolder();
  // The folder of somebody who installed Buildlane and what the snippets import beside it.
  await mkdir(path.join(home.path, "node_modules"));
  await symlink(project, path.join(home.path, "node_modules", "buildlane"));
  for (const name of ["fastify", "drizzle-orm", "postgres", "fast-check", "@types"]) await symlink(path.join(project, "node_modules", name), path.join(home.path, "node_modules", name));
}, 60_000);
afterAll(() => home[Symbol.asyncDispose]());

async function node(args: string[]): Promise<{ status: number | null; stdout: string; all: string }> {
  const child = spawn(process.execPath, [...quickWasm, ...args], { cwd: home.path, stdio: ["ignore", "pipe", "pipe"], env: { PATH: process.env["PATH"] ?? "" } });
  let stdout = "";
  let said = "";
  child.stdout.on("data", (data: Buffer) => void ((stdout += String(data)), (said += String(data))));
  child.stderr.on("data", (data: Buffer) => void (said += String(data)));
  const status = await new Promise<number | null>((resolve, reject) => child.on("error", reject).on("close", resolve));
  return { status, stdout, all: said };
}

describe("the links of the pages", () => {
  /** As GitHub names a heading. */
  const anchor = (heading: string) => heading.toLowerCase().replace(/`|[^\p{L}\p{N} _-]/gu, "").trim().replaceAll(" ", "-");
  const anchors = new Map<string, Set<string>>();
  async function anchorsOf(page: string): Promise<Set<string>> {
    const found = anchors.get(page) ?? new Set([...(await readFile(page, "utf8")).replace(/^```[\s\S]*?^```/gm, "").matchAll(/^#+ (.+)$/gm)].map(([, heading]) => anchor(heading as string)));
    anchors.set(page, found);
    return found;
  }

  it.each(all)("of %s all lead somewhere", async (page) => {
    const text = (await readFile(path.join(project, page), "utf8")).replace(/^```[\s\S]*?^```/gm, "");
    const broken: string[] = [];
    for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target as string)) continue;
      const [file = "", heading] = (target as string).split("#");
      const where = path.join(project, file === "" ? page : path.join(path.dirname(page), file));
      if (!existsSync(where) || (heading !== undefined && !(await anchorsOf(where)).has(heading))) broken.push(target as string);
    }
    expect(broken).toEqual([]);
  });
});

describe("the commands of the pages", () => {
  const commands = new Map<string, Command>();
  beforeAll(async () => {
    // main.ts reads the command line of whoever imports it.
    for (const file of (await readdir(path.join(project, "src/cli"))).filter((name) => name !== "main.ts")) {
      const made = (await import(path.join(project, "src/cli", file))) as Record<string, unknown>;
      for (const [name, make] of Object.entries(made)) {
        if (!/^(?!client|operator)\w+Command$/.test(name)) continue;
        const command = (make as () => Command)();
        commands.set(command.name(), command);
      }
    }
  }, 60_000);

  it("are there, with the flags that they are given", () => {
    expect(commands.size).toBeGreaterThan(20);
    const wrong: string[] = [];
    const lines = fences.filter(({ language }) => language === "sh" || language === "text").flatMap(({ page, text }) => text.split("\n").map((line) => ({ page, line })));
    let seen = 0;
    for (const { page, line } of lines) {
      for (const [, called] of line.matchAll(/(?:^|[|;:] |\d {2}|=\S+ )(buildlane [a-z][^|;]*)/g)) {
        seen++;
        const [, name = "", sub = "", ...rest] = (called as string).split(/ {2,}/)[0]?.split(" ") ?? [];
        const command = commands.get(name);
        const meant = command?.commands.find((one) => one.name() === sub) ?? command;
        const flags = [sub, ...rest].filter((word) => /^--?[a-z]/.test(word));
        for (const flag of flags) if (!meant?.options.some(({ long, short }) => long === flag || short === flag)) wrong.push(`${page}: ${name} ${flag}`);
        if (!command) wrong.push(`${page}: ${called}`);
      }
    }
    expect(seen).toBeGreaterThan(8);
    expect(wrong).toEqual([]);
  });

  it("are all told in the README, the changelog and the page about them", async () => {
    for (const page of ["README.md", "CHANGELOG.md", "docs/command-line.md"]) {
      const text = await readFile(path.join(project, page), "utf8");
      expect([...commands.keys()].filter((name) => !new RegExp(`(\`|buildlane )${name}\\b`).test(text)), page).toEqual([]);
    }
  });
});

describe("the TypeScript of the pages", () => {
  it("compiles, as it is printed", async () => {
    expect(snippets.length).toBeGreaterThan(10);
    const folder = path.join(home.path, "typed");
    await mkdir(folder);
    await writeFile(path.join(folder, "package.json"), JSON.stringify({ type: "module" }));
    for (const { page, line, given, text } of snippets) {
      const before = (given ?? []).map((name) => `declare ${givens[name] ?? `const ${name}: never // not known to the test`};`).join(" ");
      await writeFile(path.join(folder, `${page.replaceAll("/", "-")}-line-${line}.ts`), `${before}\n${text}export {};\n`);
    }
    // The package's own sources, so that nothing has to emit types first.
    const { compilerOptions } = JSON.parse(await readFile(path.join(project, "tsconfig.json"), "utf8")) as { compilerOptions: object };
    const paths = Object.fromEntries(["dashboard", "fastify", "testing"].map((door) => [`buildlane/${door}`, [path.join(project, `src/${door}.ts`)]]));
    await writeFile(
      path.join(folder, "tsconfig.json"),
      JSON.stringify({
        compilerOptions: { ...compilerOptions, rootDir: "/", noEmit: true, declaration: false, noUnusedLocals: false, noUnusedParameters: false, paths: { buildlane: [path.join(project, "src/index.ts")], "buildlane/client": [path.join(project, "src/client/index.ts")], "buildlane/machines": [path.join(project, "machines/index.ts")], ...paths } },
        include: ["*.ts"],
      }),
    );
    const { status, all: said } = await node([path.join(project, "node_modules", "typescript", "bin", "tsc"), "-p", folder]);
    expect([status, said]).toEqual([0, ""]);
  }, 120_000);
});

describe("the snippets that are run", { timeout: 90_000 }, () => {
  const runs = snippets.filter(({ run }) => run !== null);
  let printed: Map<string, string>;

  /** One process for all, one snippet after another: each is a module of its own. */
  beforeAll(async () => {
    const marker = "— next snippet —";
    const files = await Promise.all(
      runs.map(async (fence, index) => {
        const { code } = await transform(fence.text, { loader: "ts", format: "esm", target: "node20" });
        await writeFile(path.join(home.path, `snippet-${index}.mjs`), code);
        return `./snippet-${index}.mjs`;
      }),
    );
    await writeFile(path.join(home.path, "all.mjs"), files.map((file) => `await import(${JSON.stringify(file)}); console.log(${JSON.stringify(marker)});`).join("\n"));
    const { status, stdout, all: said } = await node(["all.mjs"]);
    // A library prints nothing of its own.
    expect([status, said]).toEqual([0, stdout]);
    const parts = stdout.split(`${marker}\n`);
    printed = new Map(runs.map((fence, index) => [nameOf(fence), parts[index] ?? ""]));
  }, 90_000);

  it("are those that the test knows", () => {
    expect(runs.map(nameOf).sort()).toEqual(Object.keys(prints).sort());
  });

  it.each(Object.entries(prints))("print what they promise: %s", (name, pattern) => {
    expect(printed.get(name)).toMatch(pattern);
  });
});
