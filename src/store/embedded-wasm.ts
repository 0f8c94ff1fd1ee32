/** How V8 compiles the embedded database. */
import v8 from "node:v8";

/**
 * Calls `open`, whose WebAssembly stays as the quick compiler makes it where the optimising one cannot be afforded: that
 * of Node 24 takes 2.7 s of a processor and 600 MB for a single function, PostgreSQL's interpreter of expressions, at the
 * first few hundred statements. Without it the database does a tenth less once it is warm. Nodes before and after have no such trouble.
 */
export const compiledAffordably = <T>(open: () => Promise<T>): Promise<T> => (process.versions.v8.startsWith("13.6.") ? compiledQuickly(open) : open());

/** For what is over before the optimising compiler's time would be won back. */
export async function compiledQuickly<T>(open: () => Promise<T>): Promise<T> {
  const flags = ["wasm-tier-up", "wasm-dynamic-tiering"];
  for (const flag of flags) v8.setFlagsFromString(`--no-${flag}`);
  try {
    return await open();
  } finally {
    for (const flag of flags) v8.setFlagsFromString(`--${flag}`);
  }
}
