/** Bundles the dashboard's page: one script and one style sheet, named by their contents. `npm run build` calls it; tests do, too. */
import { mkdir, rm, writeFile, readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const project = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");

/** Writes `app-<hash>.js`, `app-<hash>.css`, `preview.js` and `manifest.json` into the folder. */
export async function bundleDashboard(into) {
  const { outputFiles } = await esbuild.build({
    absWorkingDir: project, entryPoints: { app: "src/dashboard/page/main.tsx", style: "src/dashboard/page/style.css" }, outdir: into, entryNames: "[name]-[hash]", write: false, logLevel: "silent",
    bundle: true, minify: true, format: "esm", target: ["es2023", "chrome123", "firefox120", "safari17.5"], jsx: "automatic", jsxImportSource: "preact", legalComments: "none", tsconfigRaw: "{}", define: { "process.env.NODE_ENV": '"production"' },
  });
  await rm(into, { recursive: true, force: true });
  await mkdir(into, { recursive: true });
  const names = {};
  for (const { path: file, contents } of outputFiles) {
    const name = path.basename(file);
    names[name.endsWith(".js") ? "script" : "style"] = name;
    await writeFile(path.join(into, name), contents);
  }
  await writeFile(path.join(into, "preview.js"), await readFile(path.join(project, "src/dashboard/page/preview.js")));
  await writeFile(path.join(into, "manifest.json"), JSON.stringify(names));
}

/** Where the sources' own server looks: the page of a checkout that was not built. */
export const devFolder = path.join(project, ".cache", "dashboard");
