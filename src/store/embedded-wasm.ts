/** How V8 compiles the embedded database: first by its quick compiler, what is used much by its optimising one. */
import v8 from "node:v8";

interface Flags {
  while: string[];
  after: string[];
}
const never: Flags = { while: ["--no-wasm-tier-up", "--no-wasm-dynamic-tiering"], after: ["--wasm-tier-up", "--wasm-dynamic-tiering"] };
const v8Major = Number.parseInt(process.versions.v8);
/** A budget is about how many bytes of a function run before it is optimised; `after` has V8's own. */
const late: Flags = { while: ["--wasm-tiering-budget=2000000000"], after: [`--wasm-tiering-budget=${v8Major < 12 ? 1_800_000 : 13_000_000}`] };

/**
 * Calls `open`, whose WebAssembly is optimised once the database has worked for a while. By itself V8 does that during the
 * start, for the most part with code that only a start runs: 0.4 to 0.8 s, and 0.7 to 1.5 s of the processors, for nothing.
 * On Node 24 it is never optimised: its compiler takes 2.7 s of a processor and 600 MB for a single function, PostgreSQL's
 * interpreter of expressions. Without it the database does a tenth less once it is warm. Nodes before and after have no such trouble.
 */
export const compiledAffordably = <T>(open: () => Promise<T>): Promise<T> => (process.versions.v8.startsWith("13.6.") ? compiledQuickly(open) : compiledBy(late, open));

/** For what is over before the optimising compiler's time would be won back. */
export const compiledQuickly = <T>(open: () => Promise<T>): Promise<T> => compiledBy(never, open);

async function compiledBy<T>(flags: Flags, open: () => Promise<T>): Promise<T> {
  for (const flag of flags.while) v8.setFlagsFromString(flag);
  try {
    return await open();
  } finally {
    for (const flag of flags.after) v8.setFlagsFromString(flag);
  }
}
