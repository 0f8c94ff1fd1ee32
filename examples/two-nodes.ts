/**
 * Two nodes on one PostgreSQL, in one process to keep it short; usually each is a process of its own, on machines that
 * share nothing else. Any node accepts, any node runs, and a chat's order holds over both.
 * `DATABASE_URL=postgres://… npx tsx examples/two-nodes.ts`
 */
import { createBuildQueue } from "buildlane";

const databaseUrl = process.env["DATABASE_URL"];
if (databaseUrl === undefined) throw new Error("Set DATABASE_URL to a PostgreSQL that may be written to.");

const ran: { node: string; chat: string; seq: number }[] = [];
const open = (node: string) =>
  createBuildQueue({
    databaseUrl,
    concurrency: 2,
    run: async ({ chatId, chatSeq }) => {
      ran.push({ node, chat: chatId, seq: chatSeq });
      await new Promise((resolve) => setTimeout(resolve, 20));
    },
  });
const [left, right] = await Promise.all([open("left"), open("right")]);

const run = `run${process.pid}`;
const jobs = [];
for (let seq = 0; seq < 5; seq++) for (const chat of ["a", "b", "c", "d"]) jobs.push(await (seq % 2 ? left : right).enqueue({ chatId: `${run}-${chat}`, messageId: String(seq), code: "1" }));
// Whoever waits need not be where it runs.
await Promise.all(jobs.map(({ id }) => left.waitFor(id)));

for (const chat of ["a", "b", "c", "d"]) console.log(chat, ran.filter((one) => one.chat === `${run}-${chat}`).map((one) => one.seq).join(" "));
console.log(new Set(ran.map((one) => one.node)).size, "nodes worked");
await Promise.all([left.stop(), right.stop()]);
