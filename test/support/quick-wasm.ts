/**
 * Node's flags for processes of tests that open an embedded database: its WebAssembly stays as V8's quick compiler makes it.
 * The optimising one takes a third of a start's processor time, which pays only in a service that lives longer than a test.
 */
export const quickWasm = ["--no-wasm-tier-up", "--no-wasm-dynamic-tiering"];
