#!/usr/bin/env node
/** The command line. In a checkout it builds first, when needed; the package as published is built. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const script = new URL("../scripts/build.mjs", import.meta.url);
try {
  if (existsSync(script)) await (await import(script.href)).build();
} catch (error) {
  process.stderr.write(`The build failed.\n${error.message}\n`);
  process.exit(1);
}
const main = new URL("../dist/src/cli/main.js", import.meta.url);
process.argv[1] = fileURLToPath(main);
await import(main.href);
