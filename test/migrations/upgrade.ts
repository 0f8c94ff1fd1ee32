/**
 * A database with the schema before the latest migration, full of jobs and with a node that goes on working, is brought
 * up to date by two starting nodes at once: nothing is lost, and the history still proves every promise.
 */
import { systemClock } from "../../src/clock.js";
import { verify } from "../../src/history/verify.js";
import { createSqlStore } from "../../src/store/sql/index.js";
import { migrate, readMigrations } from "../../src/store/sql/migrate.js";
import { postgresDatabase } from "../../src/store/sql/postgres.js";
import type { Ending } from "../../src/store/store.js";

const chats = 200;
const slots = 100;
const batchMax = 1000;
const node = { nodeId: "at-work", leaseMs: 600_000, slots, draining: false };

/** `jobs` is a multiple of 1,000. Applied: what each of the two nodes did. */
export async function upgrade({ url, jobs, onLine = () => {} }: { url: string; jobs: number; onLine?: (line: string) => void }) {
  const databases = [0, 1, 2].map(() => postgresDatabase(url, { clock: systemClock }));
  const [working, ...starting] = databases as [(typeof databases)[0], ...typeof databases];
  try {
    const known = readMigrations();
    await migrate(working, known.slice(0, -1));
    const store = createSqlStore(working, { nodeId: node.nodeId, clock: systemClock });
    const promised: string[] = [];
    for (let batch = 0; batch < jobs / batchMax; batch++) {
      const made = Array.from({ length: batchMax }, (_, index) => ({
        id: systemClock.id(), chatId: `chat${index % chats}`, messageId: "m", code: "1", files: null, entry: null, options: {} as never, codeHash: "h", priority: 0, maxAttempts: 3, timeoutMs: 1000, delayMs: 0, supersede: null,
      }));
      const [answer] = await store.accept([{ jobs: made, idempotency: null }], { agingMs: 0, pendingPerChatMax: jobs, pendingMax: jobs, rate: null });
      if (answer?.kind !== "accepted") throw new Error(`not accepted: ${answer?.kind}`);
      promised.push(...made.map(({ id }) => id));
    }
    onLine(`${promised.length} jobs accepted on ${known.length - 1} migrations`);

    await store.pulse(node);
    let endings: Ending[] = [];
    let ended = 0;
    /** One turn of the node at work: ends what it has in hand, and takes as much again. */
    const turn = async (want: number) => {
      const { settled, claims } = await store.turn({ nodeId: node.nodeId, claimId: systemClock.id(), endings, want, patient: true });
      ended += settled.filter(({ kind }) => kind === "settled").length;
      endings = claims.map(({ job, fence, claimId }) => ({ jobId: job.id, chatId: job.chatId, attempt: job.attempt, fence, claimId, end: { kind: "completed", result: "", sourceMap: null, warnings: [], externals: [] } }));
    };
    for (let turns = 0; turns < jobs / (4 * slots); turns++) await turn(slots);
    const before = ended;
    let migrating = true;
    const from = systemClock.monotonic();
    const upgrading = Promise.all(starting.map((database) => migrate(database))).finally(() => (migrating = false));
    // It works before, during and after.
    while (migrating) await turn(slots);
    const applied = await upgrading;
    const tookMs = systemClock.monotonic() - from;
    for (let turns = 0; turns < 5; turns++) await turn(slots);
    await turn(0);
    onLine(`migrated in ${Math.round(tookMs)} ms, while the node at work ended jobs: ${before} before, ${ended} in all`);
    const verdict = await store.readHistory((history) => verify(history, { promised, startsMax: 3, slackMs: 500 }));
    const { totalQueued, totalCompleted } = await store.stats("everyone");
    onLine(`${verdict.jobs} jobs and ${verdict.events} events verified: ${verdict.ok ? "kept" : `BROKEN ${JSON.stringify(verdict.violations.slice(0, 5))}`}`);
    return { applied, latest: known.at(-1)?.name, verdict, ended, totalQueued, totalCompleted };
  } finally {
    await Promise.all(databases.map((database) => database.close()));
  }
}
