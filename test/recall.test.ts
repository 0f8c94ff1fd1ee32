/** Same code, same answer: what is built once is not built again, by whomever, and every job is still a job of its own. */
import { describe, expect, test } from "vitest";
import { systemClock } from "../src/clock.js";
import { createBuildQueue } from "../src/index.js";
import type { BuildQueue } from "../src/index.js";
import type { Outcome, RunnableJob, Runner } from "../src/job.js";
import { queueSettings } from "../src/options.js";
import { composeQueue } from "../src/queue.js";
import { withRecall } from "../src/recall.js";
import type { CodeAnswer, CodeQuestion } from "../src/store/code.js";
import { createSimulatedClock } from "../src/simulated-clock.js";
import { createMemoryStore } from "../src/store/memory.js";
import { openStore } from "../src/store/open.js";
import { describePostgres, freshDatabase } from "./support/postgres.js";

const done: Outcome = { kind: "built", result: "built", sourceMap: null, warnings: [], externals: [] };
const crashed: Outcome = { kind: "failed", failure: { code: "worker_crashed", message: "x", retryable: true, diagnostics: [] }, error: "x" };

/** A runner whose builds end when the test says so. */
function lab(ask: (question: CodeQuestion) => CodeAnswer | Promise<CodeAnswer> = () => ({ kind: "unknown" })) {
  const builds: { job: RunnableJob; end(outcome: Outcome): void; fail(error: Error): void }[] = [];
  const reports: unknown[] = [];
  const runner: Runner = {
    start: async () => {},
    stop: async () => {},
    run: (job, { signal }) =>
      new Promise((end, fail) => {
        builds.push({ job, end, fail });
        signal.addEventListener("abort", () => fail(new Error("aborted")));
      }),
  };
  const code = { lift: async () => false, ask: async (question: CodeQuestion) => ask(question) };
  const recall = withRecall(runner, { code, ageMs: 1000, clock: systemClock, version: async () => "1", report: (one) => void reports.push(one) });
  let serial = 0;
  const run = (source: string, { tenant, signal = new AbortController().signal }: { tenant?: string; signal?: AbortSignal } = {}) =>
    recall.run({ id: `j${++serial}`, chatId: `c${serial}`, messageId: "m", chatSeq: 1, attempt: 1, options: {}, code: source, ...(tenant && { tenant }) }, { signal, attempt: 1 });
  const begun = async (count: number) => {
    for (let turn = 0; builds.length < count && turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(builds).toHaveLength(count);
  };
  return { builds, run, begun, reports };
}

describe("in one process", () => {
  test("jobs of the same code join the one that is being built, and say so", async () => {
    const { builds, run, begun } = lab();
    const runs = [run("a"), run("a"), run("b"), run("a")];
    await begun(2);
    builds.forEach(({ end }) => end(done));
    const outcomes = await Promise.all(runs);
    expect(outcomes.map(({ origin }) => origin?.from)).toEqual([null, "j1", null, "j1"]);
    expect(builds).toHaveLength(2);
  });

  test("whoever asks says whether its code has been built here, since what its claim told may be older than that", async () => {
    const asked: unknown[] = [];
    const { builds, run, begun } = lab(({ jobId, isBuiltHere }) => {
      asked.push([jobId, isBuiltHere]);
      return { kind: "unknown" };
    });
    const ends: [source: string, outcome: Outcome][] = [["a", crashed], ["a", done], ["b", done], ["a", done]];
    for (const [index, [source, outcome]] of ends.entries()) {
      const outcomeOf = run(source);
      await begun(index + 1);
      builds[index]?.end(outcome);
      await outcomeOf;
    }
    expect(asked).toEqual([["j1", false], ["j2", false], ["j3", false], ["j4", true]]);
  });

  test("a build that dies is nobody else's answer: the next of those that waited builds, the others join that", async () => {
    const { builds, run, begun } = lab();
    const runs = [run("a"), run("a"), run("a")];
    await begun(1);
    builds[0]?.end(crashed);
    await begun(2);
    builds[1]?.end(done);
    const outcomes = await Promise.all(runs);
    expect(outcomes.map((one) => (one.kind === "built" ? one.origin?.from : one.failure.code))).toEqual(["worker_crashed", null, builds[1]?.job.id]);
  });

  test("one that waits can be stopped without a word to the build, and the build without harm to those that wait", async () => {
    const { builds, run, begun } = lab();
    const [builder, waiter] = [new AbortController(), new AbortController()];
    const first = run("a", { signal: builder.signal });
    const second = run("a", { signal: waiter.signal });
    const third = run("a");
    await begun(1);
    waiter.abort(new Error("not wanted"));
    await expect(second).rejects.toThrow("not wanted");
    builder.abort(new Error("cancelled"));
    await expect(first).rejects.toThrow("aborted");
    await begun(2);
    builds[1]?.end(done);
    expect((await third).origin?.from).toBeNull();
  });

  test("tenants never share, not even a build", async () => {
    const { builds, run, begun } = lab();
    const runs = [run("a", { tenant: "x" }), run("a", { tenant: "y" }), run("a")];
    await begun(3);
    builds.forEach(({ end }) => end(done));
    expect(new Set((await Promise.all(runs)).map(({ origin }) => origin?.stamp)).size).toBe(3);
  });

  test("a database that is away keeps no build from running", async () => {
    const { builds, run, begun, reports } = lab(() => Promise.reject(new Error("away")));
    const outcome = run("a");
    await begun(1);
    builds[0]?.end(done);
    expect((await outcome).kind).toBe("built");
    expect(reports).toMatchObject([{ type: "database.away", verb: "ask" }]);
  });

  test("one that runs elsewhere is waited for, and built here when nothing comes of it", async () => {
    const answers: CodeAnswer[] = [{ kind: "running", jobId: "elsewhere" }, { kind: "known", outcome: { ...done, origin: { stamp: "s", from: "elsewhere" } } }];
    const waited = lab(() => answers.shift() as CodeAnswer);
    expect((await waited.run("a")).origin?.from).toBe("elsewhere");
    expect(waited.builds).toEqual([]);

    const lost: CodeAnswer[] = [{ kind: "running", jobId: "elsewhere" }, { kind: "unknown" }];
    const built = lab(() => lost.shift() as CodeAnswer);
    const outcome = built.run("a");
    for (let turn = 0; built.builds.length === 0 && turn < 1000; turn++) await new Promise((resolve) => void systemClock.after(5, () => resolve(undefined)));
    built.builds[0]?.end(done);
    expect((await outcome).origin?.from).toBeNull();
  });
});

describe("in the queue", () => {
  const jobsOf = (code: string, chatId: string, options = {}) => ({ chatId, messageId: "m", code, options });

  test("a second job of the same code has the first one's outcome, failures of the code's own too, in its chat's order", async () => {
    await using queue = await createBuildQueue({ store: "memory", concurrency: 2 });
    const first = await queue.waitFor((await queue.enqueue(jobsOf("export const a = <b/>", "one"))).id);
    const wrong = await queue.waitFor((await queue.enqueue(jobsOf("a b", "one"))).id);
    const ids = [];
    for (const code of ["a b", "export const a = <b/>", "export const c = 1"]) ids.push((await queue.enqueue(jobsOf(code, "two"))).id);
    const [again, same, other] = [await queue.waitFor(ids[0]!), await queue.waitFor(ids[1]!), await queue.waitFor(ids[2]!)];
    expect(first).toMatchObject({ cached: false, cachedFrom: null });
    expect(again).toMatchObject({ cached: true, cachedFrom: wrong.id, status: "failed", error: wrong.error, failure: { code: "build_failed" }, attempt: 1 });
    expect(same).toMatchObject({ cached: true, cachedFrom: first.id, result: first.result, externals: first.externals, chatSeq: 2 });
    expect(other.cached).toBe(false);
    expect(Date.parse(again.completedAt)).toBeLessThanOrEqual(Date.parse(same.startedAt ?? ""));
    const minified = await queue.waitFor((await queue.enqueue(jobsOf("export const a = <b/>", "two", { minify: true }))).id);
    expect(minified.cached).toBe(false);
  });

  test("a job that waited for a build that came to nothing has its own time limit from then on", async () => {
    const clock = createSimulatedClock();
    const settings = queueSettings({ concurrency: 2, cache: "1h" });
    const store = createMemoryStore({ clock });
    let builds = 0;
    const pool: Runner = {
      start: async () => {},
      stop: async () => {},
      run: (_job, { signal }) =>
        new Promise((resolve, reject) => {
          builds++;
          const end = clock.after(1000, () => resolve(done));
          signal.addEventListener("abort", () => (end.cancel(), reject(signal.reason as Error)));
        }),
    };
    const runner = withRecall(pool, { code: store.code, ageMs: 60_000, clock, report: () => {}, version: async () => "same" });
    const queue = await composeQueue({ nodeId: "n", settings, store, runner, clock, report: () => {}, counters: {} });
    const submit = (chatId: string, timeoutMs: number) => queue.enqueue({ chatId, messageId: "m", code: "same", timeoutMs, maxAttempts: 1 });
    const [short, long] = await Promise.all([submit("a", 700), submit("b", 1500)]);
    await clock.advance(4000);
    expect([await queue.get(short.id), await queue.get(long.id), builds]).toMatchObject([{ failure: { code: "timed_out" } }, { status: "completed" }, 2]);
    const stopped = queue.stop();
    await clock.advance(10_000);
    await stopped;
  });

  test("off is off", async () => {
    await using queue = await createBuildQueue({ store: "memory", cache: "off" });
    for (const chat of ["a", "b"]) expect(await queue.waitFor((await queue.enqueue(jobsOf("export const a = 1", chat))).id)).toMatchObject({ status: "completed", cached: false });
  });

  test("another node's outcome counts as well, and an erased chat's does not", async () => {
    const store = createMemoryStore({ clock: systemClock });
    let first;
    {
      await using queue = await createBuildQueue({ store });
      first = await queue.waitFor((await queue.enqueue(jobsOf("export const a = 1", "one"))).id);
    }
    await using queue = await createBuildQueue({ store });
    expect(await queue.waitFor((await queue.enqueue(jobsOf("export const a = 1", "two"))).id)).toMatchObject({ cachedFrom: first.id });
    await queue.erase("one");
    await queue.erase("two");
    expect(await queue.waitFor((await queue.enqueue(jobsOf("export const a = 1", "three"))).id)).toMatchObject({ cached: false });
  });
});

describePostgres("on two nodes over PostgreSQL", () => {
  test("the same code at once is built by one; the other waits for it, takes its outcome over, and stays a job of its own", async () => {
    await using database = await freshDatabase();
    const builds: { node: string; end(outcome: Outcome): void }[] = [];
    const heard: { node: string; answer: CodeAnswer }[] = [];
    let news = () => {};
    const until = async (done: () => boolean) => {
      while (!done()) await new Promise<void>((resolve) => (news = resolve));
    };
    const start = async (nodeId: string): Promise<BuildQueue> => {
      const settings = queueSettings({ concurrency: 1 });
      const store = await openStore({ databaseUrl: database.url, dataDir: "", nodeId, clock: systemClock });
      const pool: Runner = {
        start: async () => {},
        stop: async () => {},
        run: () => new Promise((end) => (builds.push({ node: nodeId, end }), news())),
      };
      const ask: typeof store.code.ask = async (question) => {
        const answer = await store.code.ask(question);
        heard.push({ node: nodeId, answer });
        news();
        return answer;
      };
      const runner = withRecall(pool, { code: { lift: (hash) => store.code.lift(hash), ask }, ageMs: 60_000, clock: systemClock, report: () => {}, version: async () => "same" });
      return composeQueue({ nodeId, settings, store, runner, clock: systemClock, report: () => {}, counters: {} });
    };
    const nodes = await Promise.all([start("one"), start("two")]);
    try {
      const first = await nodes[0].enqueue({ chatId: "a", messageId: "m", code: "same" });
      await until(() => builds.length === 1);
      const builder = builds[0]?.node;
      // The builder's only slot is taken: the other node gets this one.
      const second = await nodes[0].enqueue({ chatId: "b", messageId: "m", code: "same" });
      await until(() => heard.some(({ node, answer }) => node !== builder && answer.kind === "running" && answer.jobId === first.id));
      builds[0]?.end(done);
      expect(await nodes[0].waitFor(first.id)).toMatchObject({ status: "completed", result: "built", cached: false });
      expect(await nodes[1].waitFor(second.id)).toMatchObject({ status: "completed", result: "built", cached: true, cachedFrom: first.id, attempt: 1, chatId: "b", chatSeq: 1 });
      expect(builds).toHaveLength(1);
      expect(heard.at(-1)).toMatchObject({ answer: { kind: "known", outcome: { origin: { from: first.id } } } });
    } finally {
      await Promise.all(nodes.map((node) => node.stop()));
    }
  });
});
