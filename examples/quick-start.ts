/**
 * Two chats, three builds: `npx tsx examples/quick-start.ts`. Builds of a chat run one after another, in the order in
 * which they were accepted; the other chat's run beside them. Everything is kept in `.buildlane/`, the embedded database.
 */
import { createBuildQueue } from "buildlane";

await using queue = await createBuildQueue({ concurrency: 2 });

const { jobs } = await queue.enqueueMany([
  { chatId: "weather", messageId: "m1", code: 'export const greeting: string = "first";' },
  { chatId: "weather", messageId: "m2", code: "const broken = ;" },
  { chatId: "todo", messageId: "m1", code: 'import { useState } from "react"; export const App = () => <p>{useState(0)[0]}</p>;' },
]);

for (const { id } of jobs) {
  const job = await queue.waitFor(id);
  console.log(`${job.chatId} ${job.chatSeq}: ${job.status}`);
  // What a job has depends on its status: a failed one has no result to read.
  if (job.status === "failed") console.log(job.error);
  else console.log(job.externals.length > 0 ? `needs ${job.externals.join(", ")}` : job.result.trim());
}
