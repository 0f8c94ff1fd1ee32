/**
 * Node's flags for processes of tests that open an embedded database: its WebAssembly stays as V8's quick compiler makes it.
 * What a test's process does is over before the optimising one's time would be won back, in databases in memory above all,
 * which are opened without the budget that `src/store/embedded-wasm.ts` sets.
 */
export const quickWasm = ["--no-wasm-tier-up", "--no-wasm-dynamic-tiering"];
