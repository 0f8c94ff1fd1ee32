#!/usr/bin/env node
/**
 * `npm start`: builds when needed, then runs `buildlane serve` in this very process. The script in package.json begins with
 * `exec`, so that no shell stands between: npm forwards SIGTERM to its child alone, and waits for it.
 */
import { fileURLToPath } from "node:url";
import { build } from "./build.mjs";

try {
  await build();
} catch (error) {
  process.stderr.write(`The build failed.\n${error.message}\n`);
  process.exit(1);
}
const main = new URL("../dist/src/cli/main.js", import.meta.url);
// As if it had been started so: the command line reads its arguments, and its file's name, from here.
process.argv.splice(1, process.argv.length - 1, fileURLToPath(main), "serve", ...process.argv.slice(2));
await import(main.href);
