/** Run by a test, which kills it: a pool with an endless build in it. Prints its workers' ids when it is in the middle of it. */
import { systemClock } from "../../src/clock.js";
import { createWorkerPool } from "../../src/workers/pool.js";

const code = `${"a?(b):c=>".repeat(44)}d`;
const pool = createWorkerPool({
  slots: 1, memoryMb: 512, outputBytesMax: 2 ** 20, clock: systemClock,
  onEvent() {
    const { workers, starting } = pool.stats();
    if (workers.length === 2 && starting === 0) process.stdout.write(JSON.stringify(workers.map((one) => one.pid)));
  },
});
await pool.start();
await pool.run({ id: "j", chatId: "c", messageId: "m", chatSeq: 1, attempt: 1, options: {}, code }, { signal: new AbortController().signal, attempt: 1 });
