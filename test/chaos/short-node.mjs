/**
 * A node of `short.ts`: a process of its own with runs of its own, most of which take no time. Each run says in the witness
 * file, to which all processes append, when it begins and how it ends; the file's order is the order in which things happened.
 * What is asked of the queue comes over IPC. The code says what the run does: `quick`, `wait MS`, `busy MS`, `fail UP_TO_ATTEMPT`, `final`.
 */
import { openSync, writeSync } from "node:fs";
import { createBuildQueue } from "../../dist/src/index.js";

const { name, witness, options } = JSON.parse(process.argv[2]);
const file = openSync(witness, "a");
const say = (...words) => void writeSync(file, `${words.join(" ")}\n`);
/** Reports that are counted. */
const counted = new Set(["lease.lost", "lane.lost", "lane.returned", "outcome.refused", "outcome.waiting", "actor.crashed", "runner.broken"]);

let runs = 0;
const queue = await createBuildQueue({
  ...options,
  async run(job, { signal, attempt }) {
    const run = `${name}.${++runs}`;
    const [kind, amount] = job.code.split(" ");
    say("began", run, job.chatId, job.chatSeq, job.id);
    if (kind === "wait") await wait(Number(amount), signal, () => say("stopped", run));
    if (kind === "busy") for (const until = performance.now() + Number(amount); performance.now() < until; );
    if (kind === "final" || (kind === "fail" && attempt <= Number(amount))) {
      say("failed", run);
      throw Object.assign(new Error(run), { retryable: kind === "fail" });
    }
    say("built", run);
    return run;
  },
  onReport(report) {
    if (report.type === "attempt.ended" && (report.outcome === "completed" || report.outcome === "failed")) say("recorded", report.jobId);
    if (counted.has(report.type)) say("report", report.reason ? `${report.type}:${report.reason}` : report.type);
  },
});

const wait = (ms, signal, stopped) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    const stop = () => {
      clearTimeout(timer);
      stopped();
      reject(signal.reason);
    };
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });

process.on("message", async ({ id, verb, args }) => {
  const answer = await queue[verb](...args).then((value) => ({ value }), (error) => ({ code: error.code ?? String(error) }));
  // Whoever asked may be gone.
  if (process.connected) process.send({ id, ...answer }, () => {});
});
process.on("disconnect", () => process.exit(1));
process.on("SIGTERM", () => void queue.stop().then(() => process.exit(0)));
process.send({ ready: true });
