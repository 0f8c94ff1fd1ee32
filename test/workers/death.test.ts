import { expect, it } from "vitest";
import { reasonOf } from "../../src/workers/worker.js";

/** As esbuild 0.28.2 died once in some four hundred times at its bound, beside other work. */
const collectorWithoutMemory = (sigcode: number) =>
  `SIGSEGV: segmentation violation\nPC=0x43323d m=2 sigcode=${sigcode} addr=0x0\n\ngoroutine 0 gp=0x7a24baf4b40 m=2 mp=0x7a24bb34808 [idle]:\nruntime.(*spanQueue).tryDrain(0x1000000000400?, 0x10100010102?, 0x1010101?)\n\truntime/mgcmark_greenteagc.go:520 +0x5d\n`;

it.each([
  ["runtime: out of memory: cannot allocate 67108864-byte block (201326592 in use)\nfatal error: out of memory\n", "out_of_memory"],
  ["runtime: failed to create new OS thread (have 6 already; errno=11)\nfatal error: newosproc\n", "out_of_memory"],
  [collectorWithoutMemory(1), "out_of_memory"],
  // Sent by somebody, and one of esbuild's own.
  [collectorWithoutMemory(0), "crashed"],
  ["panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x5]\n\ngoroutine 7 [running]:\n", "crashed"],
  ["", "crashed"],
])("says for want of what a worker died: %j", (stderr, reason) => {
  expect(reasonOf(stderr)).toBe(reason);
});
