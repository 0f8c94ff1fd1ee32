/**
 * A message and its build, both or neither: the job is enqueued in the transaction that stores the message. Here on
 * PGlite; with postgres.js it reads the same. `npx tsx examples/transactional-enqueue.ts`
 */
import { PGlite } from "@electric-sql/pglite";
import { drizzle } from "drizzle-orm/pglite";
import { pgTable, text } from "drizzle-orm/pg-core";
import { createBuildQueue } from "buildlane";

const messages = pgTable("messages", { id: text("id").primaryKey(), code: text("code").notNull() });
const client = new PGlite();
await client.exec("create table messages (id text primary key, code text not null)");
const db = drizzle(client);

// The queue adds its tables to the same database, and leaves closing it to you.
const queue = await createBuildQueue({ db, run: (job) => `built ${job.messageId}` });

const post = (id: string, code: string) =>
  db.transaction(async (tx) => {
    const job = await queue.enqueue({ chatId: "c1", messageId: id, code }, { tx });
    // A second message of the same id breaks this insert, and so takes its job back.
    await tx.insert(messages).values({ id, code });
    return job;
  });

const first = await post("m1", "1");
await post("m1", "2").catch(() => console.log("m1 again: neither message nor job"));
const second = await post("m2", "3");
for (const { id } of [first, second]) {
  const job = await queue.waitFor(id);
  console.log(`${job.chatSeq}: ${job.result}`);
}
await queue.stop();
await client.close();
