/** The other way to run a worker, for comparison: a Node process that calls esbuild's public API behind a gate of the same shape. */
import { build } from "esbuild";
import type { Plugin } from "esbuild";

const gate = (code: string): Plugin => ({
  name: "gate",
  setup(setup) {
    setup.onResolve({ filter: /.*/ }, ({ kind, path }) => (kind === "entry-point" ? { path: "/message.tsx" } : { path, external: true }));
    setup.onLoad({ filter: /.*/ }, () => ({ contents: `${code}\n//# sourceMappingURL=http:x`, loader: "tsx" }));
  },
});

export const buildOnce = async (code: string): Promise<string> => {
  const { outputFiles } = await build({
    entryPoints: ["entry"], bundle: true, write: false, outfile: "/out.js", absWorkingDir: "/", format: "esm", platform: "browser", target: "es2022", charset: "utf8",
    legalComments: "none", jsx: "automatic", tsconfigRaw: "{}", logLevel: "silent", plugins: [gate(code)],
  });
  return outputFiles[0]?.text ?? "";
};

process.on("message", (message) => {
  const { id, code } = message as { id: number; code: string };
  void buildOnce(code).then((result) => process.send?.({ id, result }));
});
// Imported, not started as a worker.
if (!process.send) process.removeAllListeners("message");
