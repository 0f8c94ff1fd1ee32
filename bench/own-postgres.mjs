/**
 * Builds the product and starts a PostgreSQL of a bench's own, the one that the tests use, with a connection to it. What it
 * needs is loaded when it is called: some benches start themselves again as the process that is measured, without it.
 */
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const project = path.dirname(here);
/** Packages as the project has them, not as bench/ has them for its peers. */
const need = createRequire(path.join(project, "package.json"));

/** `options` are those of test/support/postgres-cluster.ts. The caller ends `sql` and stops the cluster. */
export async function ownPostgres(options) {
  const { build } = await import("../scripts/build.mjs");
  await build();
  const esbuild = need("esbuild");
  // Below bench/, so that packages are found; one for each process.
  const made = path.join(here, "node_modules", ".cache", `buildlane-bench-${process.pid}`);
  await esbuild.build({ entryPoints: ["postgres-cluster.ts", "postgres-binaries.ts"].map((file) => path.join(project, "test", "support", file)), outdir: made, format: "esm", logLevel: "error" });
  await esbuild.stop();
  const { postgresCluster } = await import(pathToFileURL(path.join(made, "postgres-cluster.js")).href);
  const cluster = await postgresCluster(options);
  return { cluster, sql: need("postgres")(cluster.url, { max: 1, onnotice() {} }) };
}
